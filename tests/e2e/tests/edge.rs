//! Attacks on the front door, and buyers who come through it meanwhile.
//!
//! The shop is served as on the internet: the web shop's server behind a proxy, which names each visitor's address. Buyers do as the
//! page does: they get a ticket, connect, and order. An attack goes on from before the first of them until after the last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::attack::{Attack, junk, valid};
use e2e::front::{Front, PATIENCE};
use e2e::{daemons, figure, text};
use serde_json::{Value, json};
use sim_lightning::commando::Error;
use testbed::{Flavor, Shop, ShopConfig, Step, on_both_flavors};

on_both_flavors!(
    junk_on_one_connection,
    valid_orders_without_a_ticket,
    one_client_that_collects_tickets,
    a_thousand_addresses_of_one_site,
    unpaid_orders_of_the_largest_size,
    everything_at_once,
    permitted_calls_as_fast_as_one_address_may,
    the_public_rune_reaches_nothing_else,
);

const BUYERS: usize = 10;
/// As many environments as a server of 64 GiB takes of the largest.
const PLACES: u32 = 32;

async fn open(flavor: Flavor, test: &str) -> Option<Arc<Front>> {
    let config = ShopConfig {
        remote_settings: format!("max_environments = {PLACES}\n"),
        tickets: true,
        ..ShopConfig::new(daemons(flavor, test)?)
    };
    Some(Front::within(Shop::start(config).await.expect("a shop")).await)
}

/// Has ten buyers, each from a network of its own, order this size while the attack goes on.
async fn buyers_come_through(
    front: &Arc<Front>,
    test: &str,
    flavor: Flavor,
    attack: Attack,
    nodes: u32,
) -> BTreeMap<String, u32> {
    attack.begun().await;
    let began = Instant::now();
    let (mut orders, mut failures, mut slowest) = (Vec::new(), Vec::new(), Duration::ZERO);
    for buyer in 0..BUYERS {
        let before = Instant::now();
        match front.buy(&front.visitor(buyer), nodes).await {
            Ok(order) => orders.push(order),
            Err(failure) => failures.push(failure),
        }
        slowest = slowest.max(before.elapsed());
    }
    let took = began.elapsed();
    let outcomes = attack.end().await;
    figure(&format!(
        "{test} ({flavor}): {} of {BUYERS} buyers have invoices, slowest {} ms; attackers' calls in {:.1} s: {outcomes:?}",
        orders.len(),
        slowest.as_millis(),
        took.as_secs_f32(),
    ));
    assert!(failures.is_empty(), "{failures:?}");

    front.shop.host.node.call("getinfo", json!({})).await.expect("the node lives");
    let health = front.request("GET", "/healthz", "100.64.99.1").await.expect("an answer");
    assert_eq!(health.status, 200, "the web shop's server lives");
    // What was invoiced can be paid.
    front.shop.host.customer.pay(text(&orders[0], "bolt11_invoice")).await.expect("paid");
    let paid = testbed::until("the payment to be seen", PATIENCE, async || {
        let status = front.shop.status(text(&orders[0], "invoice_id")).await.expect("a status");
        Ok(if status["invoice_status"] == "paid" { Step::Done(()) } else { Step::NotYet(status.to_string()) })
    });
    paid.await.expect("paid");
    outcomes
}

async fn junk_on_one_connection(flavor: Flavor) {
    let test = "junk_on_one_connection";
    let Some(front) = open(flavor, test).await else { return };
    let mut attack = Attack::default();
    attack.add_calls(&front, "203.0.113.9", junk()).await;
    let outcomes = buyers_come_through(&front, test, flavor, attack, 8).await;
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), ["invalid_params"]);
}

async fn valid_orders_without_a_ticket(flavor: Flavor) {
    let test = "valid_orders_without_a_ticket";
    let Some(front) = open(flavor, test).await else { return };
    let mut attack = Attack::default();
    attack.add_calls(&front, "203.0.113.9", valid()).await;
    let outcomes = buyers_come_through(&front, test, flavor, attack, 8).await;
    assert!(outcomes["ordered"] <= PLACES / 8, "an eighth: {outcomes:?}");
    assert!(outcomes.contains_key("ticket_required"), "the budget was used up: {outcomes:?}");
}

async fn one_client_that_collects_tickets(flavor: Flavor) {
    let test = "one_client_that_collects_tickets";
    let Some(front) = open(flavor, test).await else { return };
    let mut attack = Attack::default();
    attack.add_holder(&front, 8, |_, _| "203.0.113.9".into()).await;
    let outcomes = buyers_come_through(&front, test, flavor, attack, 8).await;
    assert!(outcomes["ordered"] <= PLACES / 8, "an eighth: {outcomes:?}");
    assert!(outcomes.contains_key("no ticket"), "{outcomes:?}");
}

async fn a_thousand_addresses_of_one_site(flavor: Flavor) {
    let test = "a_thousand_addresses_of_one_site";
    let Some(front) = open(flavor, test).await else { return };
    let mut attack = Attack::default();
    attack.add_holder(&front, 8, Front::neighbour).await;
    let outcomes = buyers_come_through(&front, test, flavor, attack, 8).await;
    assert!(outcomes["ordered"] <= PLACES / 4, "a quarter: {outcomes:?}");
}

/// As many as would sell the server out, from one address and from many, with tickets and without.
async fn unpaid_orders_of_the_largest_size(flavor: Flavor) {
    let test = "unpaid_orders_of_the_largest_size";
    let Some(front) = open(flavor, test).await else { return };
    let mut attack = Attack::default();
    attack.add_holder(&front, 64, |_, _| "203.0.113.9".into()).await;
    attack.add_holder(&front, 64, |front, n| front.attacker(100, n)).await;
    attack.add_calls(&front, "203.0.113.10", json!({"node_count": 64, "hours": 1})).await;
    let outcomes = buyers_come_through(&front, test, flavor, attack, 64).await;
    assert!(outcomes["ordered"] <= PLACES / 2, "{outcomes:?}");
}

async fn everything_at_once(flavor: Flavor) {
    let test = "everything_at_once";
    let Some(front) = open(flavor, test).await else { return };
    let attack = Attack::with_everything(&front).await;
    let outcomes = buyers_come_through(&front, test, flavor, attack, 8).await;
    assert!(outcomes["ordered"] <= PLACES / 2, "{outcomes:?}");
    assert!(outcomes.contains_key("products 429"), "{outcomes:?}");
}

/// Calls that ration nothing, on as many WebSockets as one address may have, 64 at a time on each.
async fn permitted_calls_as_fast_as_one_address_may(flavor: Flavor) {
    let test = "permitted_calls_as_fast_as_one_address_may";
    let Some(front) = open(flavor, test).await else { return };
    let order = front.buy(&front.visitor(99), 8).await.expect("an order to ask for");
    let id = text(&order, "invoice_id");
    let mut attack = Attack::default();
    for socket in 0..16 {
        let (method, params) = match socket % 3 {
            0 => ("lnplaylive-invoicestatus", json!({"payment_type": "bolt11", "invoice_id": id})),
            1 => ("lnplaylive-products", json!({})),
            _ => ("lnplaylive-waitstatus", json!({"invoice_id": id, "revision": 1_000_000, "timeout": 1})),
        };
        attack.add_pipeline(&front, "203.0.113.9", method, params).await;
    }
    buyers_come_through(&front, test, flavor, attack, 8).await;
}

/// What the harness checks with `checkrune`, again through the front door: names, cases, positions and requests of other shapes.
async fn the_public_rune_reaches_nothing_else(flavor: Flavor) {
    let Some(front) = open(flavor, "the_public_rune_reaches_nothing_else").await else { return };
    let client = front.connect("203.0.113.9").await.expect("a connection");
    let refused = async |method: &str, params: Value| {
        let result = client.call(&front.rune, method, params).await;
        let code = result.as_ref().err().and_then(Error::code);
        assert_eq!(code, Some(19537), "{method}: {result:?}");
    };
    for method in [
        "getinfo",
        "lnplayops-orders",
        "LNPLAYLIVE-products",
        " lnplaylive-products",
        "x-lnplaylive-products",
        "lnplaylive",
        "",
        "commando-rune",
        "createrune",
        "plugin",
        "stop",
    ] {
        refused(method, json!({})).await;
        refused(method, json!(["lnplaylive-products"])).await;
        refused(method, json!({"method": "lnplaylive-products"})).await;
    }
    let products = client.call(&front.rune, "lnplaylive-products", json!({})).await.expect("allowed");
    let page = front.request("GET", "/products", "203.0.113.9").await.expect("an answer");
    assert_eq!(page.body["products"], products["products"], "both ways tell the same");
}
