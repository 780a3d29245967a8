//! Nothing is sold that has no place, and places are sold once.

use e2e::{LONG, QUICK, daemons, follow_and_dial, text};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sim_lxd::Fault;
use testbed::{Flavor, Shop, ShopConfig, Step, on_both_flavors};

on_both_flavors!(the_last_place_and_fifty_buyers);

/// A shop with room for one environment.
async fn one_place(flavor: Flavor, test: &str, settings: &str) -> Option<Shop> {
    let daemons = daemons(flavor, test)?;
    let config = ShopConfig {
        settings: format!("{QUICK}{settings}"),
        remote_settings: "max_environments = 1\n".into(),
        ..ShopConfig::new(daemons)
    };
    Some(Shop::start(config).await.expect("a shop"))
}

async fn product(shop: &Shop) -> Value {
    shop.host.node.call("lnplaylive-products", json!({})).await.expect("products")["products"][0].clone()
}

/// Time at which the next place becomes free, according to createorder.
fn next(error: &testbed::RpcError) -> Timestamp {
    assert_eq!(error.code, Some(7006), "{error}");
    let time = error.message.strip_prefix("sold out, next one frees up at ");
    time.unwrap_or_else(|| panic!("{error}")).parse().expect("a time")
}

async fn the_last_place_and_fifty_buyers(flavor: Flavor) {
    let test = "the_last_place_and_fifty_buyers";
    // Each keeps its place for as long as its invoice is valid.
    let settings = "[shop]\ncontested_hold_secs = 600\n";
    let Some(shop) = one_place(flavor, test, settings).await else { return };
    let shown = product(&shop).await;
    assert_eq!((&shown["available"], &shown["available_count"]), (&json!(true), &json!(1)), "{shown}");
    assert_eq!(shown["next_available_at"], Value::Null);

    let buyers: Vec<_> = (0..50)
        .map(|_| {
            let node = shop.host.node.rpc();
            let params = json!({"node_count": 1, "hours": 1});
            tokio::spawn(async move { node.call("lnplaylive-createorder", params).await })
        })
        .collect();
    let (mut orders, mut refusals) = (Vec::new(), Vec::new());
    for buyer in buyers {
        match buyer.await.expect("no panic") {
            Ok(order) => orders.push(order),
            Err(error) => refusals.push(error),
        }
    }
    assert_eq!((orders.len(), refusals.len()), (1, 49), "{refusals:?}");
    let expires: Timestamp = text(&orders[0], "invoice_expires_at").parse().expect("a time");
    for error in &refusals {
        let wait = next(error).duration_since(expires);
        assert!(wait >= SignedDuration::ZERO && wait <= SignedDuration::from_secs(10), "{error}");
    }
    let shown = product(&shop).await;
    assert_eq!((&shown["available"], &shown["available_count"]), (&json!(false), &json!(0)), "{shown}");
    assert_eq!(shown["next_available_at"], json!(next(&refusals[0])));

    shop.host.customer.pay(text(&orders[0], "bolt11_invoice")).await.expect("paid");
    follow_and_dial(&shop, &orders).await;
    let status = shop.status(text(&orders[0], "invoice_id")).await.expect("a status");
    let ends = text(&status["deployment_details"], "vm_expiration_date").to_owned();
    assert_eq!(next(&shop.order(1, 1).await.expect_err("it is in use")).to_string(), ends);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_that_is_not_paid_gives_its_place_back() {
    let settings = "[shop]\ninvoice_expiry_secs = 5\nunpaid_retention_secs = 3600\n";
    let shop = one_place(Flavor::Simulated, "gives_its_place_back", settings).await.expect("a shop");
    shop.order(1, 1).await.expect("an order");
    let promised = next(&shop.order(1, 1).await.expect_err("the place is taken"));
    testbed::until("the place to be free", LONG, async || {
        let shown = product(&shop).await;
        Ok(if shown["available"] == true { Step::Done(()) } else { Step::NotYet(shown.to_string()) })
    })
    .await
    .expect("the invoice expires");
    let late = Timestamp::now().duration_since(promised);
    assert!(late.abs() <= SignedDuration::from_secs(5), "free {late:?} after it was promised");
    shop.order(1, 1).await.expect("it is the next one's");
}

/// A remote's last answer is used for a while; after that its availability is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sold_on_a_remote_that_has_fallen_silent() {
    let daemons = daemons(Flavor::Simulated, "has_fallen_silent").expect("part of this workspace");
    let settings = format!("{QUICK}survey_secs = 1\n");
    let shop = Shop::start(ShopConfig { settings, ..ShopConfig::new(daemons) }).await.expect("a shop");
    let remote = &shop.remotes[0];
    remote.faults().on("*", "/1.0/projects", 1000, Fault::DropBefore);
    let bought = shop.buy(1, 1).await.expect("what it said a moment ago is good");
    let error = testbed::until("sales to stop", LONG, async || {
        Ok(match shop.order(1, 1).await {
            Ok(order) => Step::NotYet(order.to_string()),
            Err(error) => Step::Done(error),
        })
    })
    .await
    .expect("they stop");
    assert_eq!(error.code, Some(7007), "{error}");
    assert!(error.message.contains("no remote has answered for 4 seconds"), "{error}");
    assert_eq!(product(&shop).await["available"], false);
    let remotes = shop.host.node.call("lnplayops-remotes", json!({})).await.expect("remotes");
    let known = &remotes["remotes"][0];
    assert_eq!((&known["healthy"], &known["environments"]), (&json!(false), &json!(0)), "{known}");
    assert!(known["last_seen"].is_string() && known["last_error"]["error"].is_string(), "{known}");
    assert!(text(known, "error").contains("sim-0"), "{known}");

    remote.faults().clear();
    follow_and_dial(&shop, &[bought]).await;
    shop.order(1, 1).await.expect("sold again");
}
