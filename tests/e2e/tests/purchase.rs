//! The main job: an order, its payment, an environment whose nodes answer.

use e2e::{LONG, daemons, dial, projects, strings, text};
use lnplaylive_core::ProjectName;
use serde_json::json;
use testbed::{Flavor, Shop, ShopConfig, on_both_flavors};

on_both_flavors!(eight_nodes_for_two_days);

async fn eight_nodes_for_two_days(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "eight_nodes_for_two_days") else { return };
    let shop = Shop::start(ShopConfig::new(daemons)).await.expect("a shop");

    let order = shop.order(8, 48).await.expect("an order");
    assert_eq!(order["amount_msat"], 76_800_000);
    assert_eq!(order["sku"], "A");
    let invoice = text(&order, "bolt11_invoice");
    assert!(invoice.starts_with("lnbcrt768u1"), "{invoice}");
    let decoded = shop.host.customer.call("decode", json!([invoice])).await.expect("an invoice");
    assert_eq!(decoded["amount_msat"], 76_800_000);
    assert_eq!(order["invoice_id"], order["bolt11_invoice_id"]);

    let id = text(&order, "invoice_id");
    let status = shop.status(id).await.expect("a status");
    assert_eq!(status["invoice_status"], "unpaid");
    assert_eq!(status["deployment_details"], "not_deployed");

    shop.host.customer.pay(invoice).await.expect("paid");
    let mut steps = Vec::new();
    let status = shop
        .follow(id, LONG, |status| {
            let step = status["deployment_details"]["progress"].clone();
            if steps.last() != Some(&step) {
                steps.push(step);
            }
        })
        .await
        .expect("it ends");
    assert_eq!(status["invoice_status"], "paid");
    assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
    let done: Vec<_> = steps.iter().filter_map(|s| s["done"].as_u64()).collect();
    assert!(done.is_sorted() && done.last() == Some(&100), "progress goes forward only: {steps:?}");

    let strings = strings(&status);
    assert_eq!(strings.len(), 8);
    dial(&strings).await;

    let projects = projects(&shop.remotes[0]);
    assert_eq!(projects.len(), 1);
    let name: ProjectName = projects[0].0.parse().expect("a name of ours");
    assert_eq!(projects[0].1, id);
    let promised = text(&order, "expires_after").parse().expect("a time");
    assert!(name.expires() >= promised, "{} ends before {promised}", name.expires());
    assert_eq!(text(&status["deployment_details"], "vm_expiration_date"), name.expires().to_string());
}
