//! Whatever is killed, whenever, a paid order ends in exactly one environment.

use std::time::Duration;

use e2e::{LONG, QUICK, daemons, dial, projects, provisioned_once, strings, text};
use serde_json::json;
use testbed::shim::When;
use testbed::{Daemons, Flavor, PluginRun, Shop, ShopConfig, on_both_flavors};

on_both_flavors!(
    plugin_killed_at_every_write,
    node_killed_while_provisioning,
    paid_while_the_plugin_was_down,
    never_paid_orders_go_and_leave_nothing,
);

async fn shop(daemons: Daemons, plugin: PluginRun, settings: &str) -> Shop {
    let settings = format!("{QUICK}{settings}");
    Shop::start(ShopConfig { plugin, settings, ..ShopConfig::new(daemons) }).await.expect("a shop")
}

/// Every project on the remote has exactly one owner, and every order one project.
fn one_project_each(shop: &Shop, orders: &[String]) {
    let mut owners: Vec<_> = shop.remotes.iter().flat_map(projects).map(|(_, owner)| owner).collect();
    owners.sort();
    let mut orders = orders.to_vec();
    orders.sort();
    assert_eq!(owners, orders);
}

async fn plugin_killed_at_every_write(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "plugin_killed_at_every_write") else { return };
    let shop = shop(daemons, PluginRun::Shimmed, "").await;
    let shim = shop.host.shim.as_ref().expect("a shim");

    // Without a crash, to see how many writes there are, and which come before the payment.
    let order = shop.order(1, 1).await.expect("an order");
    let before_payment = shim.calls().expect("calls").len();
    shop.host.customer.pay(text(&order, "bolt11_invoice")).await.expect("paid");
    let mut orders = vec![text(&order, "invoice_id").to_owned()];
    provisioned_once(&shop, &orders[0]).await;
    let writes = shim.calls().expect("calls").len();
    assert!(before_payment >= 2 && writes >= before_payment + 5, "{:?}", shim.calls());

    for nth in before_payment + 1..=writes {
        for when in [When::Before, When::After] {
            let order = shop.order(1, 1).await.expect("an order");
            shim.arm(nth - before_payment, when).expect("armed");
            shop.host.customer.pay(text(&order, "bolt11_invoice")).await.expect("paid");
            shim.wait_fired(LONG).await.expect("killed");
            shop.host.wait_plugin_gone().await.expect("gone");
            shop.host.start_plugin().await.expect("started again");

            let id = text(&order, "invoice_id").to_owned();
            let status = provisioned_once(&shop, &id).await;
            dial(&strings(&status)).await;
            orders.push(id);
            one_project_each(&shop, &orders);
        }
    }

    // While an order is being made: the buyer has no invoice, so nothing may come of it.
    for nth in 1..=before_payment {
        for when in [When::Before, When::After] {
            shim.arm(nth, when).expect("armed");
            shop.order(1, 1).await.expect_err("the plugin died");
            shim.wait_fired(LONG).await.expect("killed");
            shop.host.wait_plugin_gone().await.expect("gone");
            shop.host.start_plugin().await.expect("started again");
            let order = shop.buy(1, 1).await.expect("the next one is served");
            orders.push(text(&order, "invoice_id").to_owned());
            provisioned_once(&shop, orders.last().expect("just pushed")).await;
            one_project_each(&shop, &orders);
        }
    }
}

async fn node_killed_while_provisioning(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "node_killed_while_provisioning") else { return };
    let mut shop = shop(daemons, PluginRun::Direct, "").await;
    let mut orders = Vec::new();
    for state in ["queued", "starting_deployment", "provisioned"] {
        let order = shop.buy(1, 1).await.expect("paid");
        let id = text(&order, "invoice_id").to_owned();
        testbed::until("the moment to kill", LONG, async || {
            let status = shop.status(&id).await.map_err(|source| testbed::Error::Lightningd {
                node: "host".into(),
                method: "lnplaylive-invoicestatus".into(),
                source,
            })?;
            let now = status["deployment_details"]["status"].as_str().unwrap_or("not_deployed").to_owned();
            let order = ["not_deployed", "queued", "starting_deployment", "provisioned"];
            let rank = |name: &str| order.iter().position(|s| *s == name);
            Ok(if rank(&now) >= rank(state) { testbed::Step::Done(()) } else { testbed::Step::NotYet(now) })
        })
        .await
        .expect("it comes");
        shop.host.node.kill();
        shop.host.node.restart().await.expect("back");
        shop.host.reconnect().await.expect("connected again");
        let status = provisioned_once(&shop, &id).await;
        dial(&strings(&status)).await;
        orders.push(id);
        one_project_each(&shop, &orders);
    }
}

async fn paid_while_the_plugin_was_down(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "paid_while_the_plugin_was_down") else { return };
    let shop = shop(daemons, PluginRun::Direct, "").await;
    let order = shop.order(1, 1).await.expect("an order");
    shop.host.stop_plugin().await.expect("stopped");
    shop.host.customer.pay(text(&order, "bolt11_invoice")).await.expect("paid");
    shop.host.start_plugin().await.expect("started again");
    let id = text(&order, "invoice_id").to_owned();
    provisioned_once(&shop, &id).await;
    one_project_each(&shop, &[id]);
}

async fn never_paid_orders_go_and_leave_nothing(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "never_paid_orders_go_and_leave_nothing") else { return };
    let settings = "[shop]\ninvoice_expiry_secs = 5\nunpaid_retention_secs = 1\nmax_unpaid_orders = 2\n";
    let shop = shop(daemons, PluginRun::Direct, settings).await;
    let order = shop.order(1, 1).await.expect("an order");
    shop.order(1, 1).await.expect("another");
    let busy = shop.order(1, 1).await.expect_err("one too many");
    assert_eq!(busy.code, Some(7002));
    assert!(busy.message.starts_with("busy, try again in ") && busy.message.ends_with(" seconds"), "{busy}");

    let id = text(&order, "invoice_id");
    let mut shown = Vec::new();
    let key = json!({"key": ["lnplaylive", "open", id]});
    testbed::until("the order to be gone", Duration::from_secs(30), async || {
        let status = shop.status(id).await.expect("it is shown");
        shown.push(text(&status, "invoice_status").to_owned());
        let open = shop.host.node.call("listdatastore", key.clone()).await.expect("a list");
        let is_gone = open["datastore"] == json!([]);
        Ok(if is_gone { testbed::Step::Done(()) } else { testbed::Step::NotYet(open.to_string()) })
    })
    .await
    .expect("it goes");
    shown.push(text(&shop.status(id).await.expect("its page still says so"), "invoice_status").to_owned());
    shown.dedup();
    assert_eq!(shown, ["unpaid", "expired"]);
    let invoices = shop.host.node.call("listinvoices", json!({"label": id})).await.expect("a list");
    assert_eq!(invoices["invoices"], json!([]));
    shop.host.customer.pay(text(&order, "bolt11_invoice")).await.expect_err("too late");
    shop.order(1, 1).await.expect("there is room again");
}
