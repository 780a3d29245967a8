//! The organiser's desk, from the holder of an order to its nodes: the same scenario for simulated and for real servers.

use std::collections::BTreeMap;

use lnplaylive_core::ConnectionString;
use serde_json::{Value, json};
use sim_lightning::commando::{Client, Error};
use testbed::{Shop, Step};

use crate::{LONG, ask, dial, refusal, strings, text, try_ask, try_dial};

/// An unknown order.
const NOBODY: &str = "lnplaylive-00000000-0000-4000-8000-000000000000";

/// Somebody on the internet, who holds the public rune.
struct Visitor {
    client: Client,
    rune: String,
}

impl Visitor {
    async fn of(shop: &Shop) -> Self {
        let rune = shop.host.create_public_rune().await.expect("a rune");
        let address = format!("ws://127.0.0.1:{}", shop.host.node.ws_port());
        let client = Client::connect(&address, shop.host.node.id()).await.expect("the node listens");
        Self { client, rune }
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value, Error> {
        self.client.call(&self.rune, method, params).await
    }

    /// An action that is carried out.
    async fn act(&self, params: Value) -> Value {
        self.call("lnplaylive-desk", params.clone()).await.unwrap_or_else(|e| panic!("{params}: {e}"))
    }

    async fn status(&self, id: &str) -> Value {
        let params = json!({"payment_type": "bolt11", "invoice_id": id});
        self.call("lnplaylive-invoicestatus", params).await.expect("a status")
    }
}

fn code(result: Result<Value, Error>) -> i64 {
    match result {
        Err(Error::Rpc { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

/// The states of the nodes in an answer, by their names.
fn states(answer: &Value) -> BTreeMap<&str, &str> {
    let nodes = answer["nodes"].as_array().expect("a list");
    nodes.iter().map(|node| (text(node, "name"), text(node, "state"))).collect()
}

/// The confirmed coins of a node, in sat.
async fn coins(string: &ConnectionString) -> u64 {
    let funds = try_ask(string, "listfunds").await.expect("the node answers");
    let outputs = funds["outputs"].as_array().expect("a list");
    outputs.iter().map(|output| output["amount_msat"].as_u64().expect("an amount") / 1000).sum()
}

/// The holder of an order acts on its nodes, with the public rune and each action of the desk, and the nodes show it. `order` and `other`
/// are two orders of two nodes with their connection strings, of a shop that probes those every few seconds.
///
/// # Panics
///
/// If anything is not as the desk says.
pub async fn holder_acts(
    shop: &Shop,
    (id, before): (&str, &[ConnectionString]),
    (other, others): (&str, &[ConnectionString]),
) {
    let names: Vec<_> = before.iter().map(|string| string.name.as_deref().expect("a name")).collect();
    let visitor = Visitor::of(shop).await;

    let looked = visitor.act(json!({"invoice_id": id, "action": "look"})).await;
    assert_eq!(states(&looked), BTreeMap::from([(names[0], "running"), (names[1], "running")]));
    assert!(looked["block_height"].as_u64() > Some(100), "{looked}");
    // An unknown order is answered like anywhere else, and an operator's method is not in reach.
    let nobody = visitor.call("lnplaylive-desk", json!([NOBODY, "look"])).await;
    let status = json!({"payment_type": "bolt11", "invoice_id": NOBODY});
    assert_eq!(code(nobody), code(visitor.call("lnplaylive-invoicestatus", status).await));
    visitor.call("lnplayops-order", json!([id])).await.expect_err("the rune does not allow it");

    // A new card.
    let made = visitor.act(json!({"invoice_id": id, "action": "new_card", "node": 0, "request": "r"})).await;
    let new: ConnectionString = text(&made["did"], "connection_string").parse().expect("a connection string");
    try_dial(&before[0]).await.expect_err("the old card is dead");
    try_dial(&new).await.expect("the new one works");
    assert_eq!((&new.node_id, &new.endpoint), (&before[0].node_id, &before[0].endpoint));
    let status = visitor.status(id).await;
    assert_eq!(strings(&status), [new.clone(), before[1].clone()]);
    assert_eq!(
        status["revision"].as_u64().map(|r| r / 10_000),
        made["revision"].as_u64().map(|r| r / 10_000)
    );
    let shown = ask(shop, "lnplayops-order", json!([id])).await;
    let last = shown["history"].as_array().and_then(|all| all.last()).expect("a history");
    assert_eq!(text(last, "what"), "new cards of nodes 0");

    // Coins and channels.
    let had = coins(&new).await;
    let sent = visitor.act(json!({"invoice_id": id, "action": "send_coins", "sat": 12_345})).await;
    assert_eq!(sent["did"], json!({"what": "coins_sent", "nodes": [0, 1], "sat": 12_345, "left_out": []}));
    assert_eq!(coins(&new).await, had + 12_345);
    let star = json!({"invoice_id": id, "action": "open_channels", "setup": "star"});
    let opened = visitor.act(star.clone()).await;
    assert_eq!((&opened["did"]["opened"], &opened["did"]["open_already"]), (&json!(1), &json!(0)));
    let channels = try_ask(&before[1], "listpeerchannels").await.expect("the node answers");
    assert_eq!(channels["channels"].as_array().map(Vec::len), Some(1));
    let again = visitor.act(star).await;
    assert_eq!((&again["did"]["opened"], &again["did"]["open_already"]), (&json!(0), &json!(1)));

    // Blocks.
    let paused = visitor.act(json!([id, "pause_blocks"])).await;
    assert_eq!(paused["blocks_paused"], true);
    let height = paused["block_height"].as_u64().expect("a height");
    let mined = visitor.act(json!([id, "mine", null, null, null, "2"])).await;
    assert_eq!(mined["block_height"], height + 2);
    assert_eq!(visitor.act(json!([id, "resume_blocks"])).await["blocks_paused"], false);

    // A node that is off is no fault.
    let off = visitor.act(json!({"invoice_id": id, "action": "switch_off", "node": 1})).await;
    assert_eq!(states(&off), BTreeMap::from([(names[0], "running"), (names[1], "off")]));
    try_dial(&before[1]).await.expect_err("it is off");
    // Null before the first probe.
    let probed = ask(shop, "lnplayops-order", json!([id])).await["health"]["probed_at"].clone();
    testbed::until("the next probe", LONG, async || {
        let shown = ask(shop, "lnplayops-order", json!([id])).await;
        assert_eq!(shown["health"]["state"], "ok", "{shown}");
        let is_new = shown["health"]["probed_at"] != probed;
        Ok(if is_new { Step::Done(()) } else { Step::NotYet(shown.to_string()) })
    })
    .await
    .expect("it is probed");
    assert_eq!(ask(shop, "lnplayops-orders", json!({"health": "degraded"})).await["orders"], json!([]));
    visitor.act(json!({"invoice_id": id, "action": "switch_on", "node": 1})).await;
    try_dial(&before[1]).await.expect("it is back");

    // Nobody else's desk has anything to do with these nodes.
    let off = visitor.act(json!({"invoice_id": other, "action": "switch_off", "node": 0})).await;
    assert!(states(&off).values().any(|state| *state == "off"));
    try_dial(&others[0]).await.expect_err("their own node");
    dial(&[new.clone(), before[1].clone()]).await;
    let (code, _) = refusal(shop, "lnplaylive-desk", json!([id, "new_card", 2])).await;
    assert_eq!(code, -32602);
    let log = shop.host.node.log().expect("a log");
    assert!(!log.contains(&new.rune), "the new rune is in the node's log");
}
