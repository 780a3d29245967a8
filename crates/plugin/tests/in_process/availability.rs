//! Room for sale, and reservations.

use std::sync::Arc;
use std::time::Duration;

use lnplaylive_core::catalogue::Selection;
use lnplaylive_core::{Customisation, NodeAccess};
use lnplaylive_plugin::core::ShopError;
use lnplaylive_plugin::core::sales::Wish;
use serde_json::json;
use tokio::time::sleep;

use crate::world::{Fault, Hold, World, buy, order, pay, remote, until, wish};

#[test]
fn the_last_place_is_sold_once() {
    let world = World::new();
    world.set("/remotes/0/max_environments", json!(1));
    world.run_whole(async |shop| {
        let hold = world.hold("store.insert");
        let other = async {
            hold.reached().await;
            let sold_out = order(&shop).await;
            hold.release();
            sold_out
        };
        let (first, second) = tokio::join!(order(&shop), other);
        first.expect("an order");
        assert!(matches!(second, Err(ShopError::SoldOut { .. })), "{second:?}");
    });
}

#[test]
fn a_place_is_free_again_when_its_invoice_has_expired() {
    let world = World::new();
    world.set("/remotes/0/max_environments", json!(1));
    world.run_whole(async |shop| {
        order(&shop).await.expect("an order");
        let Err(ShopError::SoldOut { next_available_at: Some(at) }) = order(&shop).await else {
            panic!("it is sold out, and known until when");
        };
        let offers = shop.sales.offers().await.expect("offers");
        assert_eq!((offers[0].available_count, offers[0].next_available_at), (0, Some(at)));
        let wait = at.duration_since(shop.clock.now());
        sleep(Duration::try_from(wait).expect("later") + Duration::from_secs(1)).await;
        order(&shop).await.expect("it is free");
    });
}

#[test]
fn a_sale_that_comes_to_nothing_gives_its_place_back() {
    let world = World::new();
    world.set("/remotes/0/max_environments", json!(1));
    world.run_whole(async |shop| {
        world.fail("store.insert", Fault::Refused);
        order(&shop).await.expect_err("not recorded");
        order(&shop).await.expect("the place is free");
    });
}

#[test]
fn an_environment_keeps_its_place_from_payment_to_removal() {
    let world = World::new();
    world.set("/remotes/0/max_environments", json!(1));
    world.run_whole(async |shop| {
        let id = buy(&world, &shop).await;
        while world.state(id) != "provisioned" {
            assert!(matches!(order(&shop).await, Err(ShopError::SoldOut { .. })), "{}", world.state(id));
            sleep(Duration::from_millis(100)).await;
        }
        // Handed over, and the remote has not been asked since.
        assert!(matches!(order(&shop).await, Err(ShopError::SoldOut { .. })));
        world.data().projects.clear();
        sleep(Duration::from_secs(20)).await;
        order(&shop).await.expect("the culler has removed it");
    });
}

#[test]
fn nothing_is_sold_while_no_remote_answers() {
    let world = World::new();
    world.run_whole(async |shop| {
        order(&shop).await.expect("an order");
        world.fail_times("remote.poll", 0, usize::MAX, Fault::Lost);
        sleep(Duration::from_secs(30)).await;
        order(&shop).await.expect("the last answer is valid for a minute");
        sleep(Duration::from_secs(60)).await;
        match order(&shop).await {
            Err(ShopError::AvailabilityUnknown { silent_for }) => assert_eq!(silent_for.as_secs(), 60),
            other => panic!("{other:?}"),
        }
        let state = &shop.availability.remote_states()["a"];
        assert!(state.last.is_some() && state.last_error.is_some());
        world.heal();
        sleep(Duration::from_secs(20)).await;
        order(&shop).await.expect("it answers again");
    });
}

#[test]
fn the_first_buyer_waits_for_the_first_poll_and_not_longer() {
    let world = World::new();
    world.fail("remote.poll", Fault::Hangs);
    world.run_whole(async |shop| {
        assert!(matches!(order(&shop).await, Err(ShopError::Starting)));
        sleep(Duration::from_secs(60)).await;
        order(&shop).await.expect("it has answered since");
    });
}

/// Working it out takes long with many places, during which nobody can order.
#[test]
fn what_is_shown_to_callers_without_pause_is_worked_out_now_and_then() {
    let world = World::new();
    world.set("/remotes/0/max_environments", json!(3));
    world.run_whole(async |shop| {
        let shown = async || shop.sales.shown().await.expect("a storefront").offers[0].available_count;
        assert_eq!(shown().await, 3);
        let id = order(&shop).await.expect("an order");
        assert_eq!(shown().await, 2, "an order is seen at once");
        shop.operator.cancel(id).await.expect("cancelled");
        assert_eq!(shop.sales.offers().await.expect("offers")[0].available_count, 3);
        assert_eq!(shown().await, 2, "nothing was worked out");
        sleep(Duration::from_millis(100)).await;
        assert_eq!(shown().await, 3);
    });
}

#[test]
fn nothing_is_sold_without_a_remote() {
    let world = World::new();
    world.set("/remotes", json!([]));
    world.run_whole(async |shop| {
        assert!(matches!(order(&shop).await, Err(ShopError::NoRemotes)));
        assert_eq!(shop.sales.offers().await.expect("offers")[0].available_count, 0);
    });
}

#[test]
fn an_answer_that_comes_late_does_not_replace_a_newer_one() {
    let world = World::new();
    world.set("/remotes/0/max_environments", json!(1));
    world.run_whole(async |shop| {
        until("the first poll", || !shop.availability.remote_states().is_empty()).await;
        let hold = world.hold("remote.poll");
        let slow = async {
            shop.availability.poll_remotes().await;
        };
        let quick = async {
            hold.reached().await;
            let id = buy(&world, &shop).await;
            world.settled().await;
            shop.availability.poll_remotes().await;
            world.data().projects.clear();
            hold.release();
            id
        };
        tokio::join!(slow, quick);
        let states = shop.availability.remote_states();
        let load = states["a"].last.as_ref().and_then(|answer| answer.load()).expect("an answer");
        assert_eq!(load.environments.len(), 1, "the question that was asked last");
    });
}

#[test]
fn a_product_is_a_change_of_settings_alone() {
    let world = World::new();
    world.set(
        "/products",
        json!([
            {"sku": "D", "node_count": 64, "msat_per_node_hour": 260},
            {"sku": "E", "node_count": 64, "msat_per_node_hour": 999},
        ]),
    );
    let buy = |selection| Wish { selection, ..wish() };
    let id = world.run_whole(async |shop| {
        let first = shop.sales.create_order(buy(Selection::NodeCount(64))).await.expect("an order");
        assert_eq!((first.order.terms.sku.0.as_str(), first.order.terms.amount_msat), ("D", 64 * 260));
        let selection = Selection::Sku { sku: "E", node_count: None };
        // Each of 100 ports' remote takes one environment of 64 nodes.
        world.data().open.clear();
        let second = shop.sales.create_order(buy(selection)).await;
        assert!(matches!(second, Err(ShopError::SoldOut { .. })), "{second:?}");
        first.order.id
    });
    world.drop_invoice(id);
    let id = world.run_whole(async |shop| {
        let selection = Selection::Sku { sku: "E", node_count: Some(64) };
        let order = shop.sales.create_order(buy(selection)).await.expect("an order").order;
        assert_eq!(order.terms.amount_msat, 64 * 999);
        world.pay(order.id);
        shop.orders.on_payment(&order.id.to_string()).await;
        world.settled().await;
        let skus: Vec<_> = shop.sales.catalogue().products().iter().map(|p| p.sku.0.as_str()).collect();
        assert_eq!(skus, ["D", "E"]);
        order.id
    });
    assert_eq!(world.stored(id).expect("a record").terms.sku.0, "E", "the record keeps it");
    world.check_books();
}

#[test]
fn what_is_not_for_sale_is_refused_before_anything_is_made() {
    let world = World::new();
    world.run_whole(async |shop| {
        let full = Customisation { node_access: NodeAccess::Full, ..Customisation::default() };
        for wish in [
            Wish { hours: 0, ..wish() },
            Wish { selection: Selection::NodeCount(2), ..wish() },
            Wish { selection: Selection::Sku { sku: "U", node_count: None }, ..wish() },
            Wish { names: vec!["a", "b"], ..wish() },
            Wish { customisation: full, ..wish() },
        ] {
            let refused = shop.sales.create_order(wish).await;
            let expected = matches!(refused, Err(ShopError::Quote(_) | ShopError::Customisation(_)));
            assert!(expected, "{refused:?}");
        }
        assert_eq!((world.count("store.insert"), world.count("invoice")), (0, 0));
    });
}

/// An order's poll waits for a slow remote, while another order is placed, handed over and closed. `between` are polls after that
/// hand-over, which tell of it.
fn ports_after_a_slow_poll(between: usize) {
    let world = World::new();
    world.set("/remotes", json!([remote("a"), remote("slow")]));
    world.run_whole(async |shop| {
        until("the first poll", || shop.availability.remote_states().len() == 2).await;
        let first = order(&shop).await.expect("an order");
        let second = order(&shop).await.expect("an order");
        // The first remote of the next poll tells what it has, which is nothing; then the other lets everybody wait.
        let hold = Arc::new(Hold::default());
        world.fail_times("remote.poll", 1, 1, Fault::Held(Arc::clone(&hold)));
        let polls = world.count("remote.poll");
        pay(&world, &shop, first).await;
        hold.reached().await;
        assert_eq!(world.count("remote.poll"), polls + 2, "it is the order's own poll");
        pay(&world, &shop, second).await;
        world.closed(second).await;
        for _ in 0..between {
            shop.availability.poll_remotes().await;
        }
        hold.release();
        world.settled().await;
        let ports: Vec<_> = world.data().projects.iter().map(|((on, _), p)| (on.clone(), p.ports)).collect();
        assert_ne!(ports[0], ports[1]);
    });
}

#[test]
fn an_order_that_was_handed_over_during_a_poll_has_its_ports() {
    ports_after_a_slow_poll(0);
    ports_after_a_slow_poll(1);
}
