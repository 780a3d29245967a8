//! The harness itself, on the real daemons and on the simulated ones.

mod common;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::{Flavor, Host, HostConfig, Step, on_both_flavors, until};

async fn invoice(host: &Host, msat: u64, label: &str) -> String {
    let answer = host.node.call("invoice", json!([msat, label, "for a test"])).await.expect("an invoice");
    answer["bolt11"].as_str().expect("it has one").to_owned()
}

async fn status(host: &Host, label: &str) -> Value {
    let answer = host.node.call("listinvoices", json!({"label": label})).await.expect("a list");
    answer["invoices"][0]["status"].clone()
}

async fn sells_and_stops(flavor: Flavor) {
    let Some(daemons) = testbed::daemons(flavor, "sells_and_stops") else { return };
    let began = Instant::now();
    let mut host = Host::start(HostConfig::new(daemons)).await.expect("a host");
    println!("up in {:?}", began.elapsed());
    let dir = host.workdir().path().to_owned();
    assert!(!common::processes_in(&dir).is_empty(), "daemons run in {}", dir.display());

    // Twenty orders like those of the demo.
    for order in 0..20 {
        let label = format!("order {order}");
        let bolt11 = invoice(&host, 76_800_000, &label).await;
        host.customer.pay(&bolt11).await.expect("it pays");
        assert_eq!(status(&host, &label).await, "paid");
    }
    println!("paid after {:?}", began.elapsed());

    // After a stop and after a kill the node is the same, with the same ports, and still knows the payments.
    let (id, port, ws_port) = (host.node.id().to_owned(), host.node.port(), host.node.ws_port());
    host.node.restart().await.expect("it starts again");
    assert_eq!((host.node.id(), host.node.port(), host.node.ws_port()), (&*id, port, ws_port));
    assert_eq!(status(&host, "order 0").await, "paid");
    host.node.kill();
    host.node.call("getinfo", json!({})).await.expect_err("nobody answers");
    host.node.restart().await.expect("it starts again");
    assert_eq!(host.node.id(), id);
    println!("restarted twice after {:?}", began.elapsed());

    // The channel works again, too.
    let bolt11 = invoice(&host, 76_800_000, "after").await;
    until("the customer to be connected again", Duration::from_secs(20), async || {
        let channels = host.customer.call("listpeerchannels", json!({})).await.expect("a list");
        let channel = &channels["channels"][0];
        Ok(if channel["peer_connected"] == true {
            Step::Done(())
        } else {
            Step::NotYet(channel["status"].to_string())
        })
    })
    .await
    .expect("it comes back");
    host.customer.pay(&bolt11).await.expect("it pays");
    assert_eq!(status(&host, "after").await, "paid");

    drop(host);
    common::nothing_runs_in(&dir).await;
    assert!(!dir.exists() || std::env::var_os("TESTBED_KEEP").is_some(), "what went well is removed");
    println!("all after {:?}", began.elapsed());
}

/// The public rune reaches the methods of visitors, however often, and nothing else, whatever the name or the parameters.
async fn public_rune(flavor: Flavor) {
    let Some(daemons) = testbed::daemons(flavor, "public_rune") else { return };
    let host = Host::start(HostConfig::new(daemons)).await.expect("a host");
    let rune = host.create_public_rune().await.expect("a rune");
    let check = async |method: &str, params: Value| {
        let params = json!({"rune": rune, "method": method, "params": params});
        host.node.call("checkrune", params).await.map(|answer| answer["valid"].clone())
    };
    // There is no rate, so nobody's call delays another's.
    for _ in 0..5 {
        for method in ["lnplaylive-createorder", "lnplaylive-invoicestatus", "lnplaylive-products"] {
            assert_eq!(check(method, json!({})).await.expect("allowed"), true, "{method}");
        }
    }
    let prefixes = ["", "l", "lnplay", "lnplaylive", "lnplayops-orders", "lnplayops-refunded"];
    let cases =
        ["LNPLAYLIVE-products", "Lnplaylive-products", "lnplaylive_products", "lnplaylive\u{2010}products"];
    let positions = [
        " lnplaylive-products",
        "\nlnplaylive-products",
        "xlnplaylive-",
        "getinfo#lnplaylive-",
        "\0lnplaylive-",
    ];
    let others =
        ["getinfo", "createrune", "showrunes", "plugin", "stop", "pay", "invoice", "datastore", "commando"];
    for method in prefixes.iter().chain(&cases).chain(&positions).chain(&others) {
        check(method, json!({})).await.expect_err(method);
    }
    // Parameters named like what a rune looks at do not stand in for it.
    for params in [
        json!({"method": "lnplaylive-products"}),
        json!(["lnplaylive-products"]),
        json!({"subcommand": "start", "method": "lnplaylive-products"}),
    ] {
        check("getinfo", params).await.expect_err("the parameters do not matter");
    }
    // Nobody can take the restriction away, or add an alternative to it.
    let derived = |restriction: Value| json!({"rune": rune, "restrictions": [restriction]});
    for alternative in
        [json!(["method=getinfo"]), json!(["method^lnplaylive-", "method=getinfo"]), json!(["method^"])]
    {
        let made = host.node.call("createrune", derived(alternative.clone())).await.expect("narrower only");
        let wider = json!({"rune": made["rune"], "method": "getinfo", "params": {}});
        host.node.call("checkrune", wider).await.expect_err(&alternative.to_string());
    }
}

async fn half_way(flavor: Flavor) {
    let Some(daemons) = testbed::daemons(flavor, "half_way") else { return };
    let config = HostConfig::new(daemons).option("no-such-option=1");
    let error = Host::start(config).await.expect_err("lightningd refuses that");
    let text = error.to_string();
    assert!(text.starts_with("host exited") && text.contains("no-such-option"), "{text}");
    // The customer's node and bitcoind may be running by now.
    let testbed::Error::Ended { log, .. } = error else { panic!("{text}") };
    let dir = log.parent().expect("the log is in the host's directory");
    common::nothing_runs_in(dir).await;
    assert!(log.exists(), "logs survive a failure");
    std::fs::remove_dir_all(dir).expect("it is ours");
}

on_both_flavors!(sells_and_stops, public_rune, half_way);
