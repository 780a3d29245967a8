//! An order under way whose record a newer release has written: it waits for that release.

use e2e::{QUICK, daemons, projects, provisioned_once, text};
use lnplaylive_core::Order;
use lnplaylive_core::version::Versioned as _;
use serde_json::{Value, json};
use testbed::{Flavor, Shop, ShopConfig, on_both_flavors};

on_both_flavors!(an_order_of_a_newer_release_is_kept_for_it);

async fn an_order_of_a_newer_release_is_kept_for_it(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "an_order_of_a_newer_release_is_kept_for_it") else { return };
    let shop =
        Shop::start(ShopConfig { settings: QUICK.into(), ..ShopConfig::new(daemons) }).await.expect("a shop");
    let node = &shop.host.node;
    let order = shop.order(1, 1).await.expect("an order");
    let id = text(&order, "invoice_id");
    let key = json!(["lnplaylive", "open", id]);
    let stored = async || {
        let found = node.call("listdatastore", json!({"key": key})).await.expect("a list");
        text(&found["datastore"][0], "string").to_owned()
    };
    let store = async |record: &str| {
        let write = json!({"key": key, "string": record, "mode": "must-replace"});
        node.call("datastore", write).await.expect("written");
    };

    shop.host.stop_plugin().await.expect("stopped");
    let readable = stored().await;
    let mut newer: Value = serde_json::from_str(&readable).expect("JSON");
    newer["version"] = (Order::VERSION + 1).into();
    newer["state"] = "teleported".into();
    store(&newer.to_string()).await;
    shop.host.customer.pay(text(&order, "bolt11_invoice")).await.expect("paid");
    shop.host.start_plugin().await.expect("started again");

    let listed = node.call("lnplayops-orders", json!({"which": "all"})).await.expect("a list");
    let [damaged] = listed["damaged"].as_array().expect("a list").as_slice() else { panic!("{listed}") };
    assert_eq!(damaged["invoice_id"], id);
    let error = text(damaged, "error");
    let versions =
        [format!("has version {}", Order::VERSION + 1), format!("versions up to {}", Order::VERSION)];
    assert!(versions.iter().all(|version| error.contains(version)), "{error}");
    assert_eq!(shop.status(id).await.expect_err("it cannot be read").code, Some(7004));
    for method in ["lnplayops-retry", "lnplayops-cancel", "lnplayops-refunded"] {
        let refused = node.call(method, json!({"invoice_id": id})).await.expect_err("it cannot be read");
        assert_eq!(refused.code, Some(7004), "{method}: {refused}");
    }
    // Others are served, and this one is as it was.
    let other = shop.buy(1, 1).await.expect("paid");
    provisioned_once(&shop, text(&other, "invoice_id")).await;
    assert_eq!(projects(&shop.remotes[0]).len(), 1);
    assert_eq!(stored().await, newer.to_string());

    // The newer release reads it, and finds the payment.
    shop.host.stop_plugin().await.expect("stopped");
    store(&readable).await;
    shop.host.start_plugin().await.expect("started again");
    provisioned_once(&shop, id).await;
    assert_eq!(projects(&shop.remotes[0]).len(), 2);
}
