//! The shop sells what its node can be paid for, and says what it waits for otherwise.

use e2e::{LONG, QUICK, ask, daemons, provisioned_once, text};
use serde_json::{Value, json};
use testbed::{Flavor, RpcError, Shop, ShopConfig, Step, on_both_flavors};

on_both_flavors!(
    nothing_is_sold_while_bitcoind_synchronises,
    an_order_has_to_fit_into_the_channels,
    what_lightningd_warns_of_is_sold_and_shown,
);

/// A second product, of which a few hours are more than the customer's channel holds.
const DEAR: &str = "[[products]]\nsku = \"X\"\nnode_count = 2\nmsat_per_node_hour = 10_000_000_000\n";

async fn shop(flavor: Flavor, test: &str, settings: &str) -> Option<Shop> {
    let daemons = daemons(flavor, test)?;
    let settings = format!("{QUICK}survey_secs = 1\n{settings}");
    Some(Shop::start(ShopConfig { settings, ..ShopConfig::new(daemons) }).await.expect("a shop"))
}

async fn node(shop: &Shop) -> Value {
    ask(shop, "lnplayops-node", json!({})).await
}

/// Code and data of a refusal.
fn wire(error: &RpcError) -> (i32, Value) {
    (error.code.expect("an answer"), error.data.clone().unwrap_or_default())
}

async fn nothing_is_sold_while_bitcoind_synchronises(flavor: Flavor) {
    let Some(mut shop) = shop(flavor, "nothing_is_sold_while_bitcoind_synchronises", "").await else {
        return;
    };
    let before = node(&shop).await;
    assert_eq!((&before["open"], &before["sync"]), (&json!(true), &json!("synchronised")), "{before}");
    let paid = shop.buy(1, 1).await.expect("paid");

    shop.host.node.stop().await.expect("stopped");
    shop.host.bitcoind.restart_out_of_sync().await.expect("started again");
    shop.host.node.restart().await.expect("started again");
    let blocks = before["bitcoind"]["blocks"].clone();
    let awaited = json!({"awaited": "bitcoind_sync", "blocks": blocks, "headers": blocks});
    let mut expected = awaited.clone();
    expected["kind"] = json!("not_open_yet");
    let refused = shop.order(1, 1).await.expect_err("not open");
    assert_eq!(wire(&refused), (7012, expected));
    assert!(refused.message.starts_with("the shop is not open yet: the node's bitcoind is synchronising"));
    let products = ask(&shop, "lnplaylive-products", json!({})).await;
    assert_eq!((&products["open"], &products["not_open_yet"]), (&json!(false), &awaited), "{products}");
    assert_eq!(products["products"][0]["available"], false, "{products}");
    let closed = node(&shop).await;
    assert_eq!((&closed["open"], &closed["sync"]), (&json!(false), &json!("bitcoind_sync")), "{closed}");

    // What was paid is delivered all the same.
    provisioned_once(&shop, text(&paid, "invoice_id")).await;
    assert_eq!(node(&shop).await["open"], false, "all this time");

    shop.host.bitcoind.mine(1).await.expect("mined");
    testbed::until("the shop to open", LONG, async || {
        Ok(match shop.order(1, 1).await {
            Ok(_) => Step::Done(()),
            Err(error) => Step::NotYet(error.message),
        })
    })
    .await
    .expect("it opens by itself");
}

async fn an_order_has_to_fit_into_the_channels(flavor: Flavor) {
    let settings = format!("{DEAR}[node]\nrequire_inbound = true\n");
    let Some(mut shop) = shop(flavor, "an_order_has_to_fit_into_the_channels", &settings).await else {
        return;
    };
    // The plugin may have asked before the channel was open.
    let before = node(&shop).await;
    assert_eq!(before["channels"]["by_state"], json!({"CHANNELD_NORMAL": 1}), "{before}");
    let most = before["receivable_msat"].as_u64().expect("an amount");
    assert!((900_000_000_000..1_000_000_000_000).contains(&most), "a channel of 10 BTC: {before}");
    let hours = most / 20_000_000_000;
    assert_eq!(before["products"][1]["payable_hours"], hours, "{before}");

    let too_many = json!({"sku": "X", "hours": hours + 1});
    let refused = shop.host.node.call("lnplaylive-createorder", too_many).await.expect_err("too large");
    let expected =
        json!({"kind": "too_large_to_receive", "largest_payable_msat": most, "payable_hours": hours});
    assert_eq!(wire(&refused), (7013, expected));
    let products = ask(&shop, "lnplaylive-products", json!({})).await;
    assert_eq!((&products["open"], &products["products"][1]["payable_hours"]), (&json!(true), &json!(hours)));

    // As many as it says can be paid.
    let order = ask(&shop, "lnplaylive-createorder", json!({"sku": "X", "hours": hours})).await;
    shop.host.customer.pay(text(&order, "bolt11_invoice")).await.expect("paid");
    testbed::until("the payment to count", LONG, async || {
        let now = node(&shop).await;
        let less = now["receivable_msat"].as_u64().is_some_and(|left| left < 20_000_000_000);
        Ok(if less { Step::Done(()) } else { Step::NotYet(now.to_string()) })
    })
    .await
    .expect("the channel is used up");
    let products = ask(&shop, "lnplaylive-products", json!({})).await;
    let reasons: Vec<_> =
        products["products"].as_array().expect("a list").iter().map(|p| &p["unavailable_because"]).collect();
    assert_eq!(reasons, [&Value::Null, &json!("too_large_to_receive")], "{products}");
    shop.order(1, 1).await.expect("the cheap one fits");

    shop.host.customer.stop().await.expect("stopped");
    testbed::until("the peer to be missed", LONG, async || {
        let now = node(&shop).await;
        let offline = now["not_open_yet"]["awaited"] == "peers_offline";
        Ok(if offline { Step::Done(()) } else { Step::NotYet(now.to_string()) })
    })
    .await
    .expect("it is gone");
    let refused = shop.order(1, 1).await.expect_err("nobody can pay");
    assert_eq!(wire(&refused), (7012, json!({"kind": "not_open_yet", "awaited": "peers_offline"})));
}

async fn what_lightningd_warns_of_is_sold_and_shown(flavor: Flavor) {
    let Some(shop) = shop(flavor, "what_lightningd_warns_of_is_sold_and_shown", DEAR).await else { return };
    let before = node(&shop).await;
    // On regtest nobody has to be able to pay.
    assert_eq!((&before["requires_inbound"], &before["largest_payable_msat"]), (&json!(false), &Value::Null));
    let order = ask(&shop, "lnplaylive-createorder", json!({"sku": "X", "hours": 504})).await;
    let after = node(&shop).await;
    let count = |known: &Value| known["invoices_with_warnings"].as_u64().expect("a number");
    assert_eq!(count(&after), count(&before) + 1, "{after}");
    let last = &after["last_warnings"];
    assert_eq!(last["amount_msat"], order["amount_msat"]);
    let warnings = last["warnings"].as_array().expect("a list");
    assert!(warnings.contains(&json!("capacity")), "{last}");
}
