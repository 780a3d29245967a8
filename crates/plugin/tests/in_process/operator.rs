//! The operator's actions, alone and racing with a worker.

use std::time::Duration;

use jiff::SignedDuration;
use lnplaylive_core::{OrderId, State};
use lnplaylive_plugin::core::operator::{Cancelled, Listing, Places};
use lnplaylive_plugin::core::{Shop, ShopError};
use tokio::time::sleep;

use crate::world::{Fault, World, buy, order, until};

/// Buys an order that fails for good.
async fn failed(world: &World, shop: &Shop) -> OrderId {
    world.fail_times("remote.deploy", 0, 2, Fault::Final);
    let id = buy(world, shop).await;
    world.settled().await;
    assert_eq!(world.state(id), "failed");
    id
}

fn refused<T: std::fmt::Debug>(result: Result<T, ShopError>, state: &str) {
    match result {
        Err(ShopError::InvalidState { state: found, .. }) => assert_eq!(found, state),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failed_order_is_retried() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = failed(&world, &shop).await;
        let snapshot = shop.operator.retry(id).await.expect("it is tried again");
        assert_eq!(snapshot.order.state.name(), "queued");
        assert!(!world.data().closed.contains_key(&id));
        world.settled().await;
        assert_eq!(world.state(id), "provisioned");
        refused(shop.operator.retry(id).await, "provisioned");
    });
    world.check_books();
}

#[test]
fn a_waiting_order_is_retried_at_once() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        refused(shop.operator.retry(id).await, "created");
        world.fail_times("remote.poll", 0, 1_000, Fault::Lost);
        crate::world::pay(&world, &shop, id).await;
        sleep(Duration::from_secs(600)).await;
        world.heal();
        let before = shop.clock.now();
        shop.operator.retry(id).await.expect("it is tried");
        until("the placement", || world.state(id) != "queued").await;
        assert!(shop.clock.now().duration_since(before) < SignedDuration::from_secs(1), "it waits no longer");
        world.settled().await;
    });
    world.check_books();
}

#[test]
fn a_refund_is_the_end_of_an_order() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = failed(&world, &shop).await;
        let snapshot = shop.operator.refunded(id, Some("preimage 00".into())).await.expect("recorded");
        assert_eq!(snapshot.order.state.name(), "refunded");
        assert_eq!(snapshot.order.history.last().map(|e| e.what.as_str()), Some("paid back: preimage 00"));
        refused(shop.operator.refunded(id, None).await, "refunded");
        refused(shop.operator.retry(id).await, "refunded");
        refused(shop.operator.cancel(id).await, "refunded");
    });
    world.check_books();
}

#[test]
fn a_refund_can_be_recorded_while_something_is_still_to_be_removed() {
    let world = World::new();
    world.run_whole(async |shop| {
        world.fail_times("remote.deploy", 0, 2, Fault::Final);
        world.fail_times("remote.take_down", 0, usize::MAX, Fault::Lost);
        let id = buy(&world, &shop).await;
        until("the failure", || world.state(id) == "failed").await;
        shop.operator.refunded(id, None).await.expect("recorded");
        assert!(world.data().open.contains_key(&id));
        world.heal();
        world.settled().await;
        assert_eq!(world.state(id), "refunded");
    });
    world.check_books();
}

#[test]
fn an_unpaid_order_is_cancelled_without_a_trace() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        assert_eq!(shop.operator.cancel(id).await.expect("cancelled"), Cancelled::Removed);
        assert!(!world.has_invoice(id) && world.stored(id).is_none());
        assert!(matches!(shop.operator.cancel(id).await, Err(ShopError::NoSuchOrder)));
        let expired = order(&shop).await.expect("an order");
        sleep(Duration::from_secs(610)).await;
        assert_eq!(shop.operator.cancel(expired).await.expect("cancelled"), Cancelled::Removed);
    });
    world.check_books();
}

#[test]
fn an_order_that_is_paid_while_it_is_cancelled_is_owed() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        // Paid, and we were not told.
        world.pay(id);
        let Cancelled::Paid(snapshot) = shop.operator.cancel(id).await.expect("cancelled") else {
            panic!("it was paid");
        };
        assert_eq!(snapshot.order.state.name(), "cancelled");
        world.settled().await;
    });
    world.check_books();
}

#[test]
fn a_step_under_way_ends_when_its_order_is_cancelled() {
    let world = World::new();
    world.run_whole(async |shop| {
        let hold = world.hold("remote.deploy");
        let id = buy(&world, &shop).await;
        hold.reached().await;
        shop.operator.cancel(id).await.expect("cancelled");
        world.settled().await;
        assert_eq!((world.state(id), world.projects(id)), ("cancelled", 0));
        refused(shop.operator.cancel(id).await, "cancelled");
    });
    world.check_books();
}

#[test]
fn an_environment_is_extended_on_the_remote_first() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        refused(shop.operator.extend(id, 1).await, "created");
        crate::world::pay(&world, &shop, id).await;
        world.settled().await;
        let end = |id| match world.stored(id).map(|order| order.state) {
            Some(State::Provisioned { handover, .. }) => handover.expires_at,
            other => panic!("{other:?}"),
        };
        let before = end(id);
        world.fail("remote.extend", Fault::Final);
        assert!(matches!(shop.operator.extend(id, 1).await, Err(ShopError::Remote(_))));
        assert_eq!(end(id), before, "not promised");
        world.fail("store.put_closed", Fault::Lost);
        assert!(matches!(shop.operator.extend(id, 1).await, Err(ShopError::Node(_))));
        shop.operator.extend(id, 1).await.expect("extended");
        assert_eq!(end(id).duration_since(before), SignedDuration::from_hours(1), "once");
        sleep(Duration::from_secs(4 * 3600)).await;
        refused(shop.operator.extend(id, 1).await, "expired");
    });
    world.check_books();
}

#[test]
fn both_lists_are_listed() {
    let world = World::new();
    world.run_whole(async |shop| {
        let closed = buy(&world, &shop).await;
        world.settled().await;
        let open = order(&shop).await.expect("an order");
        world.damage(OrderId::random());
        for (places, expected) in
            [(Places::OPEN, vec![open]), (Places::CLOSED, vec![closed]), (Places::ALL, vec![closed, open])]
        {
            let listed = shop.operator.list(places, 10, Some).await.expect("a list");
            let Listing { orders, left_out, damaged } = listed;
            assert_eq!(orders.iter().map(|shown| shown.order.id).collect::<Vec<_>>(), expected);
            assert_eq!((left_out, damaged), (0, vec![]), "the damaged one came after the start");
        }
        world.fail("store.list", Fault::Lost);
        assert!(matches!(shop.operator.list(Places::CLOSED, 10, Some).await, Err(ShopError::Node(_))));
    });
}

#[test]
fn a_retry_while_the_order_is_being_closed_is_not_lost() {
    for moment in ["store.put_closed", "store.remove"] {
        let world = World::new();
        world.run_whole(async |shop| {
            world.fail_times("remote.deploy", 0, 2, Fault::Final);
            let hold = world.hold(moment);
            let id = buy(&world, &shop).await;
            hold.reached().await;
            let retry = async {
                let retried = shop.operator.retry(id).await;
                retried.expect("it is tried again");
            };
            let release = async {
                sleep(Duration::from_secs(1)).await;
                hold.release();
            };
            tokio::join!(retry, release);
            world.settled().await;
            assert_eq!(world.state(id), "provisioned", "{moment}");
        });
        world.check_books();
    }
}

#[test]
fn a_retry_just_before_the_order_is_closed_is_not_lost() {
    let world = World::new();
    world.run_whole(async |shop| {
        // A retry whose record is being written holds the lock that closing waits for.
        world.fail_times("remote.deploy", 0, 2, Fault::Final);
        world.fail("store.put_closed", Fault::Lost);
        let id = buy(&world, &shop).await;
        until("the first attempt to close it", || world.count("store.put_closed") > 0).await;
        let hold = world.hold("store.replace");
        let retry = async { shop.operator.retry(id).await.expect("it is tried again") };
        let release = async {
            hold.reached().await;
            // Long enough for the worker to want to close it.
            sleep(Duration::from_secs(10)).await;
            hold.release();
        };
        tokio::join!(retry, release);
        world.settled().await;
        assert_eq!(world.state(id), "provisioned");
    });
    world.check_books();
}

#[test]
fn closing_reads_a_doubtful_record_again() {
    let world = World::new();
    world.run_whole(async |shop| {
        world.fail_times("remote.deploy", 0, 2, Fault::Final);
        world.fail("store.put_closed", Fault::Lost);
        let id = buy(&world, &shop).await;
        until("the first attempt to close it", || world.count("store.put_closed") > 0).await;
        // The retry is written, and nobody knows.
        world.fail("store.replace", Fault::AnswerLost);
        // Its own second attempt comes late.
        world.fail_times("store.find", 0, 0, Fault::Lost);
        let retried = shop.operator.retry(id).await;
        world.settled().await;
        // Applied twice or not, it must not be lost.
        assert_eq!(world.state(id), "provisioned", "{retried:?}");
    });
    world.check_books();
}

#[test]
fn a_reopened_order_whose_answer_was_lost_is_found_again() {
    for reads_lost in [0, 1] {
        let world = World::new();
        let id = world.run_whole(async |shop| {
            let id = failed(&world, &shop).await;
            world.fail("store.insert", Fault::AnswerLost);
            // Finds it closed; looks whether it is open; and asks what became of the write.
            world.fail_times("store.find", 2, reads_lost, Fault::Lost);
            let retried = shop.operator.retry(id).await;
            assert_eq!(retried.is_ok(), reads_lost == 0, "{retried:?}");
            let refund = shop.operator.refunded(id, None).await;
            assert!(refund.is_err(), "it will be delivered: {refund:?}");
            id
        });
        world.run_whole(async |_| world.settled().await);
        assert_eq!(world.state(id), "provisioned");
        world.check_books();
    }
}

#[test]
fn an_order_that_is_closed_while_it_is_extended_is_extended() {
    let world = World::new();
    world.run_whole(async |shop| {
        let hold = world.hold("store.put_closed");
        let id = buy(&world, &shop).await;
        hold.reached().await;
        let extend = async { shop.operator.extend(id, 1).await.expect("extended") };
        let release = async {
            sleep(Duration::from_secs(1)).await;
            hold.release();
        };
        let (snapshot, ()) = tokio::join!(extend, release);
        world.settled().await;
        assert_eq!(world.stored(id), Some(snapshot.order));
    });
    world.check_books();
}

#[test]
fn a_refund_of_a_provisioned_order_is_recorded_once() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = buy(&world, &shop).await;
        world.settled().await;
        shop.operator.refunded(id, Some("a day was lost".to_owned())).await.expect("recorded");
        refused(shop.operator.refunded(id, None).await, "provisioned");
        let order = world.stored(id).expect("a record");
        let State::Provisioned { handover, .. } = &order.state else { panic!("it stays delivered") };
        assert!(handover.refunded_at.is_some());
        assert_eq!(order.history.last().expect("an entry").what, "paid back: a day was lost");
        assert_eq!(world.projects(id), 1, "the environment stays");
    });
    world.check_books();
}
