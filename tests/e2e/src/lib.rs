//! Common parts of the end-to-end tests.

pub mod attack;
pub mod desk;
pub mod front;
pub mod records;
pub mod timing;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format as _, Toml};
use lnplaylive_core::{ConnectionString, Settings};
use provisioner::Provisioner;
use serde_json::{Value, json};
use sim_lightning::commando::{self, Client};
use sim_lxd::SimRemote;
use testbed::Shop;
pub use testbed::daemons;

/// The longest that an order may take in a test: far more than it does, so that only a stuck one fails.
pub const LONG: Duration = Duration::from_secs(120);

/// Settings for tests that go through many orders: a small product, and little patience.
pub const QUICK: &str = r#"
[[products]]
sku = "T"
node_count = 1
msat_per_node_hour = 1000

[provisioning]
backoff_ms = 20
max_backoff_ms = 200
retry_pause_ms = 20
max_retry_pause_ms = 200
call_timeout_secs = 1
"#;

/// A fault that is one placement's and not the remote's: its ports are taken. Enough of them end an order as failed.
pub fn ports_taken() -> sim_lxd::Fault {
    sim_lxd::Fault::FailOperation(
        "Error occurred when starting proxy device: Error: Failed to listen: address already in use".into(),
    )
}

/// Says what a test has measured; `tests/run` shows it at the end.
pub fn figure(text: &str) {
    eprintln!("figure: {text}");
    if let Some(path) = std::env::var_os("TESTBED_FIGURES") {
        let file = std::fs::File::options().append(true).create(true).open(&path).expect("it can be written");
        // One write, so that lines of tests running at the same time do not mix.
        (&file).write_all(format!("{text}\n").as_bytes()).expect("there is room");
    }
}

/// A shop's own way to its remotes, with its settings, keys and id.
pub fn provisioner_of(shop: &Shop) -> Provisioner {
    // As the shop has them, and nothing from this process's environment.
    let settings = Toml::file_exact(shop.workdir().join("lnplaylive.toml"));
    let settings: Settings = Figment::from(settings).extract().expect("the shop's");
    let state = shop.host.node.dir().join("regtest/lnplaylive");
    Provisioner::new(&settings, &state).expect("a provisioner")
}

/// Calls a method of the shop's node, which must not refuse.
pub async fn ask(shop: &Shop, method: &str, params: Value) -> Value {
    shop.host.node.call(method, &params).await.unwrap_or_else(|e| panic!("{method} {params}: {e}"))
}

/// The code and message of a refusal.
pub async fn refusal(shop: &Shop, method: &str, params: Value) -> (i32, String) {
    let error = shop.host.node.call(method, &params).await.expect_err("refused");
    (error.code.expect("an answer"), error.message)
}

/// A string in an answer.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The connection strings of a status.
pub fn strings(status: &Value) -> Vec<ConnectionString> {
    let list = status["deployment_details"]["connection_strings"].as_array().expect("a list");
    list.iter().map(|s| s.as_str().expect("a string").parse().expect("a connection string")).collect()
}

/// Dials a connection string with its own rune: the node must be the one that stands in it.
pub async fn try_dial(string: &ConnectionString) -> Result<(), commando::Error> {
    let info = try_ask(string, "getinfo").await?;
    assert_eq!(info["id"], string.node_id.as_str());
    Ok(())
}

/// Calls a method without parameters, through a connection string and with its rune.
pub async fn try_ask(string: &ConnectionString, method: &str) -> Result<Value, commando::Error> {
    let client = Client::connect(&string.endpoint.to_string(), string.node_id.as_str()).await?;
    client.call(&string.rune, method, json!({})).await
}

/// Dials all; each must answer.
pub async fn dial(strings: &[ConnectionString]) {
    for string in strings {
        try_dial(string).await.unwrap_or_else(|e| panic!("{string:?}: {e}"));
    }
}

/// Follows orders that are paid until each is provisioned, and dials all their nodes. Returns the strings of each.
pub async fn follow_and_dial(shop: &Shop, orders: &[Value]) -> Vec<Vec<ConnectionString>> {
    let mut all = Vec::new();
    for order in orders {
        let status = shop.follow(text(order, "invoice_id"), LONG, |_| ()).await.expect("it ends");
        assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
        let strings = strings(&status);
        dial(&strings).await;
        all.push(strings);
    }
    let nodes: BTreeSet<_> = all.iter().flatten().map(|s| &s.node_id).collect();
    assert_eq!(nodes.len(), all.iter().map(Vec::len).sum::<usize>(), "no node is sold twice");
    all
}

/// Projects on a remote that are not there from the start, and the orders that own them.
pub fn projects(remote: &SimRemote) -> Vec<(String, String)> {
    let projects = remote.projects().into_iter().filter(|p| p.name != "default");
    projects
        .map(|p| {
            let owner = p.config.get("user.lnplaylive.order").cloned().unwrap_or_default();
            (p.name, owner)
        })
        .collect()
}

/// Waits until an order is provisioned, and checks that there is exactly one project of it, on all remotes together.
pub async fn provisioned_once(shop: &Shop, invoice_id: &str) -> Value {
    let status = shop.follow(invoice_id, LONG, |_| ()).await.expect("it ends");
    assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
    closed(shop, invoice_id).await;
    let owned: Vec<_> =
        shop.remotes.iter().flat_map(projects).filter(|(_, owner)| owner == invoice_id).collect();
    assert_eq!(owned.len(), 1, "projects of {invoice_id}: {owned:?}");
    status
}

/// Waits until there is nothing left to do for an order.
pub async fn closed(shop: &Shop, invoice_id: &str) {
    testbed::until("the order to be closed", LONG, async || {
        let open = shop.host.node.call("lnplayops-orders", json!({})).await.map_err(|source| {
            testbed::Error::Lightningd { node: "host".into(), method: "lnplayops-orders".into(), source }
        })?;
        let listed =
            open["orders"].as_array().is_some_and(|all| all.iter().any(|o| o["invoice_id"] == invoice_id));
        Ok(if listed { testbed::Step::NotYet(open.to_string()) } else { testbed::Step::Done(()) })
    })
    .await
    .expect("nothing is left to do for it");
}
