//! The organiser's desk: the holder of an order acts on its environment with the public rune, and the nodes show it.

use e2e::desk::holder_acts;
use e2e::{LONG, QUICK, ask, daemons, provisioned_once, strings, text, try_dial};
use serde_json::json;
use testbed::shim::When;
use testbed::{Flavor, PluginRun, Shop, ShopConfig, on_both_flavors};

on_both_flavors!(the_holder_of_an_order_acts_on_its_nodes, a_plugin_killed_at_a_new_card_converges,);

async fn shop(flavor: Flavor, test: &str, plugin: PluginRun) -> Option<Shop> {
    let daemons = daemons(flavor, test)?;
    let settings = format!(
        "{QUICK}survey_secs = 1\nprobes_per_min = 240\n[[products]]\nsku = \"U\"\nnode_count = 2\nmsat_per_node_hour = 1000\n"
    );
    Some(Shop::start(ShopConfig { settings, plugin, ..ShopConfig::new(daemons) }).await.expect("a shop"))
}

async fn the_holder_of_an_order_acts_on_its_nodes(flavor: Flavor) {
    let test = "the_holder_of_an_order_acts_on_its_nodes";
    let Some(shop) = shop(flavor, test, PluginRun::Direct).await else { return };
    let (order, other) = (shop.buy(2, 1).await.expect("paid"), shop.buy(2, 1).await.expect("paid"));
    let (id, other) = (text(&order, "invoice_id"), text(&other, "invoice_id"));
    let (nodes, others) =
        (strings(&provisioned_once(&shop, id).await), strings(&provisioned_once(&shop, other).await));
    holder_acts(&shop, (id, &nodes), (other, &others)).await;
}

async fn a_plugin_killed_at_a_new_card_converges(flavor: Flavor) {
    let test = "a_plugin_killed_at_a_new_card_converges";
    let Some(shop) = shop(flavor, test, PluginRun::Shimmed).await else { return };
    let shim = shop.host.shim.as_ref().expect("a shim");
    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    let mut known = strings(&provisioned_once(&shop, id).await).remove(0);
    for when in [When::Before, When::After] {
        // The one write of a new card, which is that of the record.
        shim.arm(1, when).expect("armed");
        let card = shop.host.node.call("lnplaylive-desk", json!([id, "new_card", 0])).await;
        card.expect_err("the plugin died");
        shim.wait_fired(LONG).await.expect("killed");
        try_dial(&known).await.expect_err("its card is dead");
        shop.host.wait_plugin_gone().await.expect("gone");
        shop.host.start_plugin().await.expect("started again");
        ask(&shop, "lnplaylive-desk", json!([id, "look"])).await;
        let after = strings(&shop.status(id).await.expect("a status")).remove(0);
        assert_ne!(after.rune, known.rune);
        try_dial(&after).await.expect("what the order shows works");
        known = after;
    }
}
