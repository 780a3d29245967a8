//! The shop's books: orders that have ended, and leftovers that nobody can remove.

use e2e::{LONG, QUICK, closed, daemons, text};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sim_lxd::Fault;
use testbed::{Flavor, Shop, ShopConfig, Step, on_both_flavors};

on_both_flavors!(an_order_in_the_archive_is_found, a_leftover_is_forgotten, a_wrong_clock_stops_sales);

async fn shop(flavor: Flavor, test: &str) -> Option<Shop> {
    let settings = format!("{QUICK}survey_secs = 1\n");
    Some(
        Shop::start(ShopConfig { settings, ..ShopConfig::new(daemons(flavor, test)?) })
            .await
            .expect("a shop"),
    )
}

async fn ask(shop: &Shop, method: &str, params: Value) -> Value {
    shop.host.node.call(method, &params).await.unwrap_or_else(|e| panic!("{method} {params}: {e}"))
}

/// Ids of listed orders.
async fn listed(shop: &Shop, params: Value) -> Vec<String> {
    let answer = ask(shop, "lnplayops-orders", params).await;
    answer["orders"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|order| text(order, "invoice_id").to_owned())
        .collect()
}

async fn an_order_in_the_archive_is_found(flavor: Flavor) {
    let Some(shop) = shop(flavor, "an_order_in_the_archive_is_found").await else { return };
    let id = "lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624";
    let ended = Timestamp::now() - SignedDuration::from_hours(100);
    let record = json!({
        "id": id, "terms": {"sku": "T", "node_count": 1, "hours": 1, "amount_msat": 1000},
        "created_at": ended, "invoice_expires_at": ended, "revision": 4, "state": "provisioned", "paid_at": ended,
        "handover": {"remote": "gone", "project": "lnplaylive-1700000000-0819da5d", "expires_at": ended,
            "connection_strings": []},
        "leftovers": [], "history": [],
    });
    let key = json!(["lnplaylive", "archive", "08", id]);
    ask(&shop, "datastore", json!({"key": key, "string": record.to_string()})).await;

    let status = shop.status(id).await.expect("its buyer sees it");
    assert_eq!(status["deployment_details"]["status"], "expired", "{status}");
    assert_eq!(listed(&shop, json!({"which": "closed"})).await, [id]);
    assert_eq!(listed(&shop, json!({"state": "expired"})).await, [id]);
    for elsewhere in [json!({}), json!({"which": "open"}), json!({"state": "failed"})] {
        assert!(listed(&shop, elsewhere.clone()).await.is_empty(), "{elsewhere}");
    }
    let refunded = ask(&shop, "lnplayops-refunded", json!([id, "it was slow"])).await;
    assert_ne!(refunded["refunded_at"], Value::Null, "{refunded}");
    assert_eq!(
        ask(&shop, "lnplayops-order", json!([id])).await["history"][0]["what"],
        "paid back: it was slow"
    );
    let refusal = shop.host.node.call("lnplayops-retry", json!([id])).await.expect_err("it was delivered");
    assert_eq!(refusal.code, Some(7005), "{refusal}");
}

async fn a_leftover_is_forgotten(flavor: Flavor) {
    let Some(shop) = shop(flavor, "a_leftover_is_forgotten").await else { return };
    let faults = shop.remotes[0].faults();
    faults.on("PUT", "/1.0/instances/*/state", 1000, e2e::ports_taken());
    faults.on("DELETE", "/1.0/projects/*", 1000, Fault::DropBefore);
    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    let status = shop.follow(id, LONG, |_| ()).await.expect("it ends");
    assert_eq!(status["deployment_details"]["status"], "failed", "{status}");

    let shown = ask(&shop, "lnplayops-order", json!([id])).await;
    let leftovers = shown["leftovers"].as_array().expect("a list").clone();
    assert!(!leftovers.is_empty() && leftovers.iter().all(|l| l["in_settings"] == true), "{shown}");
    for wrong in [json!([id, "lnplaylive-1-00000000"]), json!([id, "x"]), json!([id])] {
        let refusal = shop.host.node.call("lnplayops-forget", &wrong).await.expect_err("no leftover");
        assert!(matches!(refusal.code, Some(7005 | -32602)), "{wrong}: {refusal}");
    }
    for leftover in &leftovers {
        ask(&shop, "lnplayops-forget", json!({"invoice_id": id, "project": leftover["project"]})).await;
    }
    closed(&shop, id).await;
    let project = text(&leftovers[0], "project");
    assert!(shop.remotes[0].projects().iter().any(|p| p.name == project), "it is left to the culler");
}

async fn a_wrong_clock_stops_sales(flavor: Flavor) {
    let Some(shop) = shop(flavor, "a_wrong_clock_stops_sales").await else { return };
    let faults = shop.remotes[0].faults();
    faults.on_clock(SignedDuration::from_hours(-3));
    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    testbed::until("the reason", LONG, async || {
        let shown = ask(&shop, "lnplayops-order", json!([id])).await;
        let waits =
            shown["history"][1]["what"].as_str().is_some_and(|what| what.contains("set the wrong one"));
        Ok(if waits { Step::Done(()) } else { Step::NotYet(shown.to_string()) })
    })
    .await
    .expect("it waits for that");
    let remotes = ask(&shop, "lnplayops-remotes", json!({})).await;
    assert_eq!(remotes["remotes"][0]["healthy"], false, "{remotes}");
    faults.clear();
    e2e::provisioned_once(&shop, id).await;
}
