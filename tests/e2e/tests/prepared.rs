//! Environments that are prepared for orders to come: one order each, whatever is killed, and no key or rune older than its order.

use std::collections::BTreeSet;

use e2e::{LONG, QUICK, ask, daemons, dial, provisioned_once, strings, text};
use lnplaylive_core::tags::Stage;
use lnplaylive_core::{OrderId, ProjectTags};
use serde_json::{Value, json};
use testbed::shim::When;
use testbed::{Flavor, PluginRun, Shop, ShopConfig, Step, on_both_flavors};

on_both_flavors!(orders_take_over_what_was_prepared, plugin_killed_while_an_order_takes_over);

/// A shop that keeps one environment prepared.
async fn shop(flavor: Flavor, test: &str, plugin: PluginRun) -> Option<Shop> {
    let daemons = daemons(flavor, test)?;
    let product = "msat_per_node_hour = 1000\n";
    let settings = QUICK.replace(product, &format!("{product}prepared = 1\n")) + "survey_secs = 1\n";
    Some(Shop::start(ShopConfig { plugin, settings, ..ShopConfig::new(daemons) }).await.expect("a shop"))
}

/// The shop's environments: ids of those that are prepared, and the orders of the others.
fn environments(shop: &Shop) -> (BTreeSet<OrderId>, BTreeSet<OrderId>) {
    let projects = shop.remotes.iter().flat_map(sim_lxd::SimRemote::projects);
    let tags = projects.filter_map(|project| ProjectTags::read(&project.name, &project.config).ok());
    let (prepared, sold): (Vec<_>, Vec<_>) = tags.partition(|tags| tags.stage == Stage::Prepared);
    let ids = |tags: Vec<ProjectTags>| tags.into_iter().map(|tags| tags.order).collect();
    (ids(prepared), ids(sold))
}

/// Waits until one is ready, and no other is prepared. Returns its id.
async fn ready(shop: &Shop) -> OrderId {
    testbed::until("one is prepared", LONG, async || {
        let answer = shop.host.node.call("lnplayops-remotes", json!({})).await.unwrap_or_default();
        let (prepared, _) = environments(shop);
        Ok(if answer["prepared"][0]["ready"] == 1 && prepared.len() == 1 {
            Step::Done(())
        } else {
            Step::NotYet(format!("{}, {prepared:?}", answer["prepared"]))
        })
    })
    .await
    .expect("it is made");
    *environments(shop).0.first().expect("there is one")
}

/// The id under which an order's environment was prepared, if it was.
fn prepared_as(shop: &Shop, invoice_id: &str) -> Option<OrderId> {
    let mut projects = shop.remotes.iter().flat_map(sim_lxd::SimRemote::projects);
    let of = |config: &std::collections::BTreeMap<String, String>| {
        config.get("user.lnplaylive.order").is_some_and(|order| order == invoice_id)
    };
    let project = projects.find(|project| of(&project.config)).expect("its project");
    ProjectTags::read(&project.name, &project.config).expect("ours").prepared
}

async fn orders_take_over_what_was_prepared(flavor: Flavor) {
    let Some(shop) = shop(flavor, "orders_take_over", PluginRun::Direct).await else { return };
    let mut nodes = BTreeSet::new();
    for _ in 0..2 {
        let prepared = ready(&shop).await;
        let order = shop.buy(1, 2).await.expect("paid");
        let id = text(&order, "invoice_id");
        let status = provisioned_once(&shop, id).await;
        assert_eq!(prepared_as(&shop, id), Some(prepared));
        let strings = strings(&status);
        dial(&strings).await;
        nodes.extend(strings.into_iter().map(|string| (string.node_id, string.rune)));
        let ends: jiff::Timestamp =
            text(&status["deployment_details"], "vm_expiration_date").parse().expect("a time");
        let least: jiff::Timestamp = text(&order, "expires_after").parse().expect("a time");
        let short = least.duration_since(ends).as_secs();
        assert!(short <= 0, "{ends} is {short} s before the promised {least}");
        let extended = ask(&shop, "lnplayops-extend", json!([id, 1])).await;
        assert!(text(&extended, "expires_at") > text(&status["deployment_details"], "vm_expiration_date"));
    }
    assert_eq!(nodes.len(), 2, "each has keys and runes of its own");
    // Two at once, and one is prepared.
    ready(&shop).await;
    let orders = [shop.order(1, 1).await.expect("an order"), shop.order(1, 1).await.expect("an order")];
    let pay = |order: &Value| {
        let invoice = text(order, "bolt11_invoice").to_owned();
        let customer = &shop.host.customer;
        async move { customer.pay(&invoice).await.expect("paid") }
    };
    tokio::join!(pay(&orders[0]), pay(&orders[1]));
    let mut taken = 0;
    for order in &orders {
        let id = text(order, "invoice_id");
        dial(&strings(&provisioned_once(&shop, id).await)).await;
        taken += usize::from(prepared_as(&shop, id).is_some());
    }
    assert_eq!(taken, 1);
}

async fn plugin_killed_while_an_order_takes_over(flavor: Flavor) {
    let Some(shop) = shop(flavor, "plugin_killed_while_an_order_takes_over", PluginRun::Shimmed).await else {
        return;
    };
    let shim = shop.host.shim.as_ref().expect("a shim");
    let mut orders = BTreeSet::new();
    let mut taken_over = 0;
    // The payment, the placement, the instance, the hand-over, and the two of the end.
    for nth in 1..=6 {
        for when in [When::Before, When::After] {
            let prepared = ready(&shop).await;
            let order = shop.order(1, 1).await.expect("an order");
            shim.arm(nth, when).expect("armed");
            shop.host.customer.pay(text(&order, "bolt11_invoice")).await.expect("paid");
            shim.wait_fired(LONG).await.expect("killed");
            shop.host.wait_plugin_gone().await.expect("gone");
            shop.host.start_plugin().await.expect("started again");
            let id = text(&order, "invoice_id");
            let status = provisioned_once(&shop, id).await;
            dial(&strings(&status)).await;
            orders.insert(id.parse().expect("an id"));
            // What an order has recorded it keeps; what it has not is removed.
            let recorded = nth > 2 || nth == 2 && when == When::After;
            assert_eq!(prepared_as(&shop, id) == Some(prepared), recorded, "{nth} {when:?}");
            taken_over += usize::from(recorded);
            assert_eq!(environments(&shop).1, orders, "one for each order");
        }
    }
    assert!(taken_over >= 9);
    let last = ready(&shop).await;
    assert!(!orders.contains(&last));
}
