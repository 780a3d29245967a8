//! A remote that its operator, or whoever broke into it, has turned against the shop. Orders go to the other remotes, and nothing
//! of the shop is led elsewhere, filled up or held up.

use std::net::TcpListener;
use std::time::Duration;

use e2e::{QUICK, daemons, dial, projects, provisioned_once, strings, text};
use serde_json::json;
use sim_lxd::Fault;
use testbed::{Flavor, Remotes, Shop, ShopConfig};

/// The bar for the plugin's memory, in kB. It keeps one answer at a time of each remote, of 8 MiB at most.
const MEMORY_KB: u64 = 150_000;
/// Orders while the remote does the same thing to every call.
const ORDERS: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn hurts_neither_the_shop_nor_other_remotes() {
    let daemons = daemons(Flavor::Simulated, "hostile remote").expect("part of this workspace");
    let settings = format!("{QUICK}survey_secs = 1\n");
    let config = ShopConfig { remotes: Remotes::Simulated(2), settings, ..ShopConfig::new(daemons) };
    let shop = Shop::start(config).await.expect("a shop");
    let [hostile, good] = &shop.remotes[..] else { panic!("two") };
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a port");
    elsewhere.set_nonblocking(true).expect("it can");
    let trap = format!("http://{}/1.0", elsewhere.local_addr().expect("an address"));

    let project = "lnplaylive-99999999999-00000000";
    let many =
        json!([{"name": project, "config": {"user.lnplaylive.order": "x".repeat(1000)}, "used_by": []}]);
    let sync = |metadata: serde_json::Value| {
        Fault::Raw(200, json!({"type": "sync", "metadata": metadata}).to_string())
    };
    let wrongs = [
        Fault::Flood,
        Fault::Drip,
        Fault::Redirect(trap),
        Fault::Raw(200, "[".repeat(1 << 20)),
        sync(json!(1e308)),
        sync(json!({"environment": [], "memory": {"total": -1, "used": u64::MAX}, "config": "x"})),
        sync(many),
        Fault::Raw(
            202,
            r#"{"type":"async","operation":"/1.0/operations/../../../etc","metadata":{}}"#.into(),
        ),
        Fault::Raw(500, "\u{1b}[2J\r\n".repeat(1000)),
    ];
    for wrong in wrongs {
        let what: String = format!("{wrong:?}").chars().take(60).collect();
        hostile.faults().clear();
        hostile.faults().on("*", "**", usize::MAX, wrong);
        for _ in 0..ORDERS {
            let order = shop.buy(1, 1).await.unwrap_or_else(|e| panic!("{what}: {}", e.message));
            let status = provisioned_once(&shop, text(&order, "invoice_id")).await;
            dial(&strings(&status)).await;
        }
        let report = e2e::ask(&shop, "lnplayops-remotes", json!({})).await;
        let error = text(&report["remotes"][0], "error");
        assert!(error.len() < 1000 && !error.contains(['\u{1b}', '\n']), "{what}: {error:?}");
    }
    assert_eq!(projects(hostile).len(), 0, "nothing was placed on it");
    assert!(!projects(good).is_empty());
    assert_eq!(elsewhere.accept().expect_err("nobody came").kind(), std::io::ErrorKind::WouldBlock);
    let plugin = plugin_of(shop.host.node.pid());
    let peak = peak_kb(plugin);
    e2e::figure(&format!("hostile remote: the plugin's peak memory was {} MB", peak / 1000));
    assert!(peak < MEMORY_KB, "{peak} kB");

    // It is trusted again once it behaves.
    hostile.faults().clear();
    let works = testbed::until("the remote to be well", Duration::from_secs(30), async || {
        let report = e2e::ask(&shop, "lnplayops-remotes", json!({})).await;
        let remote = &report["remotes"][0];
        Ok(if remote["healthy"] == true {
            testbed::Step::Done(())
        } else {
            testbed::Step::NotYet(remote.to_string())
        })
    });
    works.await.expect("it is used again");
}

/// The process id of our plugin, which is a child of the node.
fn plugin_of(node: u32) -> u32 {
    let children = std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|process| {
        let status = std::fs::read_to_string(process.path().join("status")).ok()?;
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned)
        };
        let ours = field("PPid:")? == node.to_string() && field("Name:")?.starts_with("lnplaylive-plu");
        ours.then(|| process.file_name().to_string_lossy().parse().ok()).flatten()
    });
    children.last().expect("it runs")
}

/// The peak of a process's resident memory.
fn peak_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
