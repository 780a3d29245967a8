//! Metrics of running programs: what each alert watches moves when there is reason to, and the documentation lists them all.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeBounds;
use std::process::Command;

use e2e::{LONG, QUICK, ask, daemons, projects, provisioned_once, text};
use serde_json::json;
use shop_server::Listeners;
use sim_lxd::Fault;
use testbed::{Binary, Flavor, Remotes, Shop, ShopConfig, Step, on_both_flavors};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

on_both_flavors!(trouble_is_seen);

/// The address of the plugin's metrics, and a shop that serves them there.
async fn shop(flavor: Flavor, test: &str) -> Option<(SocketAddr, Shop)> {
    let daemons = daemons(flavor, test)?;
    let port = testbed::reserve_port().expect("loopback has room");
    let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let settings = format!(
        "{QUICK}survey_secs = 1\nprobes_per_min = 240\nbreaker_pause_secs = 3600\n[shop]\nmetrics_listen = \"{metrics}\"\n"
    );
    let config = ShopConfig { remotes: Remotes::Simulated(2), settings, ..ShopConfig::new(daemons) };
    Some((metrics, Shop::start(config).await.expect("a shop")))
}

/// `GET /metrics`, as Prometheus asks.
async fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

/// The value of a metric with exactly these labels.
fn value(scraped: &str, name: &str) -> Option<f64> {
    let start = format!("lnplaylive_{name} ");
    scraped.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
}

/// Waits until a metric is as it should be.
async fn becomes(address: SocketAddr, name: &str, expected: impl RangeBounds<f64>) {
    testbed::until(name, LONG, async || {
        let scraped = scrape(address).await;
        Ok(match value(&scraped, name) {
            Some(value) if expected.contains(&value) => Step::Done(()),
            other => Step::NotYet(format!("{other:?}")),
        })
    })
    .await
    .expect("it is seen");
}

async fn trouble_is_seen(flavor: Flavor) {
    let Some((metrics, shop)) = shop(flavor, "trouble_is_seen").await else { return };
    let order = shop.buy(1, 1).await.expect("paid");
    provisioned_once(&shop, text(&order, "invoice_id")).await;
    becomes(metrics, "product_available{sku=\"T\"}", 1.0..).await;
    becomes(metrics, "orders_owed", 0.0..=0.0).await;
    let well = scrape(metrics).await;
    for (name, expected) in [
        ("orders_paid_total", 1.0),
        ("delivery_seconds_count", 1.0),
        ("oldest_undelivered_order_age_seconds", 0.0),
        ("orders_owed", 0.0),
        ("owed_msat", 0.0),
        ("longest_degraded_environment_seconds", 0.0),
        ("remote_breaker_open{remote=\"sim-0\"}", 0.0),
        ("remote_breaker_open{remote=\"sim-1\"}", 0.0),
        ("order_records_damaged", 0.0),
    ] {
        assert_eq!(value(&well, name), Some(expected), "{name}: {well}");
    }
    assert!(!well.contains(text(&order, "invoice_id")), "{well}");

    // An environment in which a node has died.
    let at =
        shop.remotes.iter().position(|remote| projects(remote).len() == 1).expect("it is on one of them");
    let (project, _) = projects(&shop.remotes[at]).remove(0);
    let instance = shop.remotes[at].instance_dir(&project).expect("an instance");
    testbed::ruin_node(&instance, 0).expect("a node to kill");
    becomes(metrics, "longest_degraded_environment_seconds", f64::MIN_POSITIVE..).await;
    becomes(metrics, &format!("environments{{remote=\"sim-{at}\",condition=\"degraded\"}}"), 1.0..=1.0).await;

    // Remotes that answer, and on which nothing works; and a buyer who waits.
    for remote in &shop.remotes {
        let fault = Fault::FailOperation("no space left on device".into());
        remote.faults().on("PUT", "/1.0/instances/*/state", usize::MAX, fault);
    }
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(shop.buy(1, 1).await.expect("paid"));
    }
    for remote in ["sim-0", "sim-1"] {
        becomes(metrics, &format!("remote_breaker_open{{remote=\"{remote}\"}}"), 1.0..=1.0).await;
    }
    becomes(metrics, "orders{state=\"queued\"}", 3.0..=3.0).await;
    becomes(metrics, "oldest_undelivered_order_age_seconds", 2.0..).await;
    becomes(metrics, "product_available{sku=\"T\"}", 0.0..=0.0).await;

    // What is owed, until it is paid back.
    let id = text(&waiting[0], "invoice_id");
    ask(&shop, "lnplayops-cancel", json!([id])).await;
    becomes(metrics, "orders_owed", 1.0..=1.0).await;
    becomes(metrics, "owed_msat", 1000.0..=1000.0).await;
    ask(&shop, "lnplayops-refunded", json!([id])).await;
    becomes(metrics, "orders_owed", 0.0..=0.0).await;

    // A remote that does not answer.
    shop.remotes[0].faults().on("*", "/1.0/projects", usize::MAX, Fault::DropBefore);
    becomes(metrics, "remote_silent_seconds{remote=\"sim-0\"}", 4.0..).await;
    becomes(metrics, "remote_answers{remote=\"sim-0\"}", 0.0..=0.0).await;
    becomes(metrics, "remote_answers{remote=\"sim-1\"}", 1.0..=1.0).await;

    // And all is well again.
    for remote in &shop.remotes {
        remote.faults().clear();
    }
    for order in &waiting[1..] {
        ask(&shop, "lnplayops-retry", json!([text(order, "invoice_id")])).await;
    }
    becomes(metrics, "oldest_undelivered_order_age_seconds", 0.0..=0.0).await;
    becomes(metrics, "remote_answers{remote=\"sim-0\"}", 1.0..=1.0).await;
}

/// The names under which Prometheus sees the metrics of a scrape, as the documentation writes them.
fn exported(scraped: &str) -> BTreeSet<String> {
    let types = scraped.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            _ => name.to_owned(),
        })
        .collect()
}

/// The metrics in the tables of the operator's guide.
fn documented() -> BTreeSet<String> {
    let guide = include_str!("../../../docs/operator.md");
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `lnplaylive_"));
    let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    rows.filter_map(|row| Some(format!("lnplaylive_{}", row.split(end).next()?))).collect()
}

/// Runs the culler once, and returns the metrics that it writes.
fn cull(shop: &Shop) -> String {
    let file = shop.workdir().join("culler.prom");
    let program = Binary::Plugin.path().expect("it is built").with_file_name("lnplaylive-culler");
    let status = Command::new(program)
        .arg("--config")
        .arg(shop.workdir().join("lnplaylive.toml"))
        .env("LNPLAYLIVE_STATE_DIR", shop.host.node.dir().join("regtest/lnplaylive"))
        .env("LNPLAYLIVE_CULLER__METRICS_FILE", &file)
        .status()
        .expect("it runs");
    assert!(status.success(), "{status}");
    std::fs::read_to_string(file).expect("it has written them")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_lists_every_metric_and_no_other() {
    let (metrics, shop) = shop(Flavor::Simulated, "the_documentation_lists").await.expect("a shop");
    let order = shop.buy(1, 1).await.expect("paid");
    provisioned_once(&shop, text(&order, "invoice_id")).await;
    becomes(metrics, "product_available{sku=\"T\"}", 1.0..).await;
    becomes(metrics, "orders_owed", 0.0..=0.0).await;
    let mut all = exported(&scrape(metrics).await);

    let mut settings = None;
    let (site, _) = testbed::site_with(&shop, "cnVuZQ==", None, |change| {
        change.listen = (Ipv4Addr::LOCALHOST, 0).into();
        change.metrics_listen = Some((Ipv4Addr::LOCALHOST, 0).into());
        settings = Some(change.clone());
    })
    .expect("a site");
    let listeners = Listeners::bind(&settings.expect("changed")).await.expect("any port");
    let (address, own) = (listeners.address().expect("an address"), listeners.metrics_address());
    tokio::spawn(site.serve(listeners, std::future::pending()));
    let own = own.expect("an address");
    let mut visitor = TcpStream::connect(address).await.expect("it listens");
    visitor
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .expect("it reads");
    let mut answer = String::new();
    visitor.read_to_string(&mut answer).await.expect("text");
    assert!(answer.starts_with("HTTP/1.1 404 "), "the site has none: {answer}");
    all.extend(exported(&scrape(own).await));

    let culled = cull(&shop);
    assert_eq!(value(&culled, "culler_projects{remote=\"sim-0\",outcome=\"failed\"}"), Some(0.0), "{culled}");
    let kept = |remote| value(&culled, &format!("culler_projects{{remote=\"{remote}\",outcome=\"kept\"}}"));
    assert_eq!(kept("sim-0").zip(kept("sim-1")).map(|(a, b)| a + b), Some(1.0), "{culled}");
    let types = culled.lines().filter(|line| line.starts_with("# TYPE"));
    assert!(types.clone().count() > 0 && types.clone().all(|line| line.ends_with(" gauge")), "{culled}");
    all.extend(exported(&culled));

    let mut documented = documented();
    // Written by a script of the NixOS module; the lane `monitoring` looks at that.
    documented.retain(|name| !name.starts_with("lnplaylive_backup_"));
    let undocumented: Vec<_> = all.difference(&documented).collect();
    let gone: Vec<_> = documented.difference(&all).collect();
    assert!(undocumented.is_empty() && gone.is_empty(), "not documented: {undocumented:?}; gone: {gone:?}");
}
