//! Many orders at once.

use std::collections::BTreeSet;

use e2e::{QUICK, daemons, follow_and_dial, projects, text};
use testbed::{Flavor, Shop, ShopConfig, on_both_flavors};

on_both_flavors!(twenty_orders_paid_together);

async fn twenty_orders_paid_together(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "twenty_orders_paid_together") else { return };
    let config = ShopConfig { settings: QUICK.into(), ..ShopConfig::new(daemons) };
    let shop = Shop::start(config).await.expect("a shop");
    let mut orders = Vec::new();
    for _ in 0..20 {
        orders.push(shop.order(1, 1).await.expect("an order"));
    }
    for order in &orders {
        shop.host.customer.pay(text(order, "bolt11_invoice")).await.expect("paid");
    }
    follow_and_dial(&shop, &orders).await;
    let owners: BTreeSet<_> = projects(&shop.remotes[0]).into_iter().map(|(_, owner)| owner).collect();
    let ids: BTreeSet<_> = orders.iter().map(|o| text(o, "invoice_id").to_owned()).collect();
    assert_eq!(owners, ids);
}
