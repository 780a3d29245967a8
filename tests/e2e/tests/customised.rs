//! A buyer's choices take effect in the environment.

use e2e::{QUICK, daemons, follow_and_dial, text, try_ask};
use serde_json::json;
use testbed::{Flavor, Shop, ShopConfig, on_both_flavors};

on_both_flavors!(names_channels_and_title);

async fn names_channels_and_title(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "names_channels_and_title") else { return };
    let settings = QUICK.replace("node_count = 1", "node_count = 3");
    let shop = Shop::start(ShopConfig { settings, ..ShopConfig::new(daemons) }).await.expect("a shop");
    let names = ["Zoë", "--rgb=00", "a b=c"];
    let order = json!({
        "node_count": 3, "hours": 1, "names": names, "title": "Bitcoin für alle",
        "coin_distribution": "poisson", "channel_setup": "star",
    });
    let order = shop.host.node.call("lnplaylive-createorder", order).await.expect("an order");
    shop.host.customer.pay(text(&order, "bolt11_invoice")).await.expect("paid");
    let strings = follow_and_dial(&shop, std::slice::from_ref(&order)).await.remove(0);

    for (name, string) in names.into_iter().zip(&strings) {
        let info = try_ask(string, "getinfo").await.expect("an answer");
        assert_eq!(info["alias"], name);
        assert_eq!(string.name.as_deref(), Some(name));
    }
    let channels = try_ask(&strings[0], "listpeerchannels").await.expect("an answer");
    assert_eq!(channels["channels"].as_array().map(Vec::len), Some(2), "{channels}");

    let status = shop.status(text(&order, "invoice_id")).await.expect("a status");
    assert_eq!(status["title"], "Bitcoin für alle");
    assert_eq!(status["coin_distribution"], "poisson");
    assert_eq!(status["channel_setup"], "star");
}
