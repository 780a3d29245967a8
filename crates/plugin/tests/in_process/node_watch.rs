//! The node's condition: what it closes, and what it must not.

use std::collections::BTreeSet;
use std::time::Duration;

use lnplaylive_core::Ticket;
use lnplaylive_core::readiness::{Awaited, Chain, InvoiceWarning, NodeReport, Obstacle, SyncState};
use lnplaylive_plugin::adapters::rpc;
use lnplaylive_plugin::core::ShopError;
use lnplaylive_plugin::core::interfaces::NodeError;
use lnplaylive_plugin::core::sales::Wish;
use serde_json::json;
use tokio::time::sleep;

use crate::world::{World, buy, node_report, order, wish};

fn synchronising() -> NodeReport {
    let chain = Some(Chain { blocks: 100, headers: 800 });
    NodeReport { sync: SyncState::BitcoindSync, chain, ..node_report(u64::MAX) }
}

fn silence<T>() -> Result<T, NodeError> {
    Err(NodeError::NoAnswer("no answer".into()))
}

/// The obstacle that an order meets.
fn obstacle<T: std::fmt::Debug>(result: Result<T, ShopError>) -> Obstacle {
    match result {
        Err(ShopError::NotPayable { obstacle, .. }) => obstacle,
        other => panic!("not refused for the node's sake: {other:?}"),
    }
}

const AWAITED: Awaited = Awaited::BitcoindSync { blocks: Some(100), headers: Some(800) };

#[test]
fn the_shop_opens_by_itself_once_the_node_is_synchronised() {
    let world = World::new();
    world.data().node = Some(Ok(synchronising()));
    world.run_whole(async |shop| {
        assert_eq!(obstacle(order(&shop).await), Obstacle::NotOpenYet(AWAITED));
        let shown = shop.sales.storefront().await.expect("a storefront");
        assert_eq!((shown.awaited, shown.offers[0].payable_hours), (Some(AWAITED), 0));
        let products = rpc::call(&shop, "lnplaylive-products", json!({})).await.expect("a method");
        let products = products.expect("products");
        assert_eq!(products["open"], false);
        assert_eq!(
            products["not_open_yet"],
            json!({"awaited": "bitcoind_sync", "blocks": 100, "headers": 800})
        );
        let product = &products["products"][0];
        assert_eq!((&product["available"], &product["payable_hours"]), (&json!(false), &json!(0)));
        assert_eq!(product["unavailable_because"], "not_open_yet");
        assert_ne!(product["available_count"], 0, "there is room on the remotes");

        world.data().node = None;
        sleep(Duration::from_secs(10)).await;
        order(&shop).await.expect("open");
        assert_eq!(shop.sales.storefront().await.expect("a storefront").awaited, None);
    });
}

#[test]
fn an_order_larger_than_what_can_be_received_is_refused() {
    let world = World::new();
    // A node for an hour costs 1000.
    world.data().node = Some(Ok(node_report(5_500)));
    world.run_whole(async |shop| {
        let with_hours = |hours| Wish { hours, ..wish() };
        let refused = shop.sales.create_order(with_hours(6)).await;
        let Err(ShopError::NotPayable { obstacle, payable_hours }) = refused else {
            panic!("not refused: {refused:?}")
        };
        assert_eq!(obstacle, Obstacle::TooLargeToReceive { largest_payable_msat: 5_500 });
        assert_eq!(payable_hours, 5);
        shop.sales.create_order(with_hours(5)).await.expect("it fits");

        let products = rpc::call(&shop, "lnplaylive-products", json!({})).await.expect("a method");
        let products = products.expect("products");
        let product = &products["products"][0];
        assert_eq!((&products["open"], &product["payable_hours"]), (&json!(true), &json!(5)));
        assert_eq!((&product["available"], &product["unavailable_because"]), (&json!(true), &json!(null)));

        // Not even the shortest.
        world.data().node = Some(Ok(node_report(999)));
        sleep(Duration::from_secs(60)).await;
        let products = rpc::call(&shop, "lnplaylive-products", json!({})).await.expect("a method");
        let product = products.expect("products")["products"][0].take();
        assert_eq!(product["unavailable_because"], "too_large_to_receive");
        assert_eq!(product["available"], false);
    });
}

#[test]
fn with_the_check_turned_off_no_channels_are_needed() {
    let world = World::new();
    world.set("/node/require_inbound", json!(false));
    world.data().node = Some(Ok(NodeReport { channels: Vec::new(), ..node_report(0) }));
    world.run_whole(async |shop| {
        order(&shop).await.expect("the operator knows better");
    });
    world.set("/node/require_inbound", json!(true));
    world.run_whole(async |shop| {
        assert_eq!(obstacle(order(&shop).await), Obstacle::NotOpenYet(Awaited::NoChannels));
    });
}

/// "Could not ask" is not "not there", and neither is it "there".
#[test]
fn a_node_that_does_not_answer_changes_nothing() {
    let world = World::new();
    world.data().node = Some(silence());
    world.run_whole(async |shop| {
        order(&shop).await.expect("nobody knows of an obstacle");
        world.data().node = None;
        sleep(Duration::from_secs(60)).await;
        world.data().node = Some(silence());
        sleep(Duration::from_secs(3600)).await;
        order(&shop).await.expect("it was open when it last answered");
        let state = shop.node.state();
        assert!(state.last.is_some() && state.last_error.is_some(), "{state:?}");

        world.data().node = Some(Ok(synchronising()));
        sleep(Duration::from_secs(60)).await;
        world.data().node = Some(silence());
        sleep(Duration::from_secs(60)).await;
        assert_eq!(obstacle(order(&shop).await), Obstacle::NotOpenYet(AWAITED));
    });
}

#[test]
fn what_was_ordered_is_delivered_while_the_shop_is_closed() {
    let world = World::new();
    world.run_whole(async |shop| {
        let unpaid = order(&shop).await.expect("an order");
        let paid = order(&shop).await.expect("an order");
        world.data().node = Some(Ok(synchronising()));
        sleep(Duration::from_secs(60)).await;
        assert_eq!(obstacle(order(&shop).await), Obstacle::NotOpenYet(AWAITED));
        for id in [paid, unpaid] {
            assert!(world.pay(id), "the invoice is valid");
            shop.orders.on_payment(&id.to_string()).await;
            world.closed(id).await;
            assert_eq!(world.state(id), "provisioned");
        }
    });
}

#[test]
fn a_refused_order_costs_no_ticket() {
    let world = World::new();
    let key = world.ration();
    world.data().node = Some(Ok(synchronising()));
    world.run_whole(async |shop| {
        let ticket =
            key.sign(&Ticket::new(key.holder("192.0.2.1".parse().expect("an address")), world.true_time()));
        let with_ticket = || Wish { ticket: Some(&ticket), ..wish() };
        obstacle(shop.sales.create_order(with_ticket()).await);
        world.data().node = None;
        sleep(Duration::from_secs(10)).await;
        shop.sales.create_order(with_ticket()).await.expect("the ticket is still good");
    });
}

#[test]
fn warnings_about_an_invoice_refuse_nothing_and_are_shown_to_the_operator() {
    let world = World::new();
    world.run_whole(async |shop| {
        buy(&world, &shop).await;
        let node = || async {
            rpc::call(&shop, "lnplayops-node", json!({})).await.expect("a method").expect("an answer")
        };
        let before = node().await;
        assert_eq!((&before["invoices_with_warnings"], &before["last_warnings"]), (&json!(0), &json!(null)));
        world.data().invoice_warnings = BTreeSet::from([InvoiceWarning::Deadends, InvoiceWarning::Mpp]);
        for _ in 0..2 {
            order(&shop).await.expect("sold all the same");
        }
        let after = node().await;
        assert_eq!(after["invoices_with_warnings"], 2);
        assert_eq!(after["last_warnings"]["warnings"], json!(["deadends", "mpp"]));
        assert_eq!(after["last_warnings"]["amount_msat"], 1_000);
    });
}

#[test]
fn the_operator_sees_the_node_as_it_is_now() {
    let world = World::new();
    world.run_whole(async |shop| {
        let node = || async {
            rpc::call(&shop, "lnplayops-node", json!({})).await.expect("a method").expect("an answer")
        };
        node().await;
        // Not at the next poll.
        world.data().node = Some(Ok(node_report(5_500)));
        let now = node().await;
        assert_eq!((&now["open"], &now["receivable_msat"]), (&json!(true), &json!(5_500)));
        assert_eq!(now["largest_payable_msat"], 5_500);
        assert_eq!(now["sync"], "synchronised");
        assert_eq!(now["products"][0]["payable_hours"], 5);
        assert_eq!(now["channels"]["by_state"], json!({"CHANNELD_NORMAL": 1}));
        assert_eq!(now["addresses"], json!(["203.0.113.7:9735"]));
        world.data().node = Some(silence());
        let silent = node().await;
        assert_eq!(silent["receivable_msat"], 5_500, "as of its last answer");
        assert_eq!((&silent["as_of"], &silent["last_error"]["error"]), (&now["as_of"], &json!("no answer")));
    });
}

/// Just started, a node says for some seconds that it is not synchronised.
#[test]
fn nobody_is_refused_by_an_old_answer() {
    let world = World::new();
    world.data().node = Some(Ok(synchronising()));
    world.run_whole(async |shop| {
        assert_eq!(obstacle(order(&shop).await), Obstacle::NotOpenYet(AWAITED));
        world.data().node = None;
        sleep(Duration::from_millis(1100)).await;
        order(&shop).await.expect("it is synchronised now");

        // However many orders come, the node is asked once a second.
        world.data().node = Some(Ok(node_report(10)));
        sleep(Duration::from_secs(60)).await;
        let before = world.data().node_asked;
        for _ in 0..50 {
            obstacle(order(&shop).await);
        }
        assert!(world.data().node_asked <= before + 1);
    });
}

#[test]
fn the_node_is_asked_seldom_while_all_is_well() {
    let world = World::new();
    world.run_whole(async |shop| {
        order(&shop).await.expect("an order");
        let before = world.data().node_asked;
        sleep(Duration::from_secs(3600)).await;
        let asked = world.data().node_asked - before;
        assert!((100..=120).contains(&asked), "{asked} times in an hour");
    });
}
