//! Orders that have ended: archived without their secrets, found and listed there, and removed in the end.

use std::time::Duration;

use jiff::SignedDuration;
use lnplaylive_core::{OrderId, State};
use lnplaylive_plugin::core::operator::Places;
use lnplaylive_plugin::core::{Shop, ShopError};
use serde_json::json;
use tokio::time::sleep;

use crate::world::{Fault, World, buy, until};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn is_archived(world: &World, id: OrderId) -> bool {
    let data = world.data();
    data.archive.contains_key(&id) && !data.closed.contains_key(&id)
}

/// Buys an order and waits until it has ended and is archived.
async fn archived(world: &World, shop: &Shop) -> OrderId {
    let id = buy(world, shop).await;
    until("the archive", || is_archived(world, id)).await;
    id
}

/// Buys an order that fails for good.
async fn failed(world: &World, shop: &Shop) -> OrderId {
    world.fail_times("remote.deploy", 0, 2, Fault::Final);
    let id = buy(world, shop).await;
    world.closed(id).await;
    assert_eq!(world.state(id), "failed");
    id
}

fn strings(world: &World, id: OrderId) -> usize {
    match world.stored(id).expect("a record").state {
        State::Provisioned { handover, .. } => handover.connection_strings.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_order_whose_environment_has_ended_is_archived_without_its_connection_strings() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = buy(&world, &shop).await;
        world.settled().await;
        sleep(HOUR / 2).await;
        assert!(world.data().closed.contains_key(&id) && strings(&world, id) == 1, "it runs");
        until("the archive", || is_archived(&world, id)).await;
        let ended = world.stored(id).and_then(|order| order.ended_at()).expect("it has ended");
        let late = shop.clock.now().duration_since(ended);
        assert!(late.is_positive() && late < SignedDuration::from_mins(70), "{late}");
        assert_eq!(strings(&world, id), 0);
        // Its buyer and the operator still see it.
        let shown = shop.orders.find(id).await.expect("it is found").snapshot();
        assert_eq!(shown.state(shop.clock.now()), "expired");
        shop.operator.refunded(id, Some("it was slow".into())).await.expect("recorded");
        until("the archive again", || is_archived(&world, id)).await;
        let Some(State::Provisioned { handover, .. }) = world.stored(id).map(|order| order.state) else {
            panic!("it was delivered");
        };
        assert!(handover.refunded_at.is_some());
    });
    world.check_books();
}

#[test]
fn what_is_owed_stays_until_it_is_refunded() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = failed(&world, &shop).await;
        sleep(DAY).await;
        assert!(world.data().closed.contains_key(&id));
        shop.operator.refunded(id, None).await.expect("recorded");
        until("the archive", || is_archived(&world, id)).await;
        let retried = shop.operator.retry(id).await;
        assert!(matches!(retried, Err(ShopError::InvalidState { state: "refunded", .. })), "{retried:?}");
    });
    world.check_books();
}

#[test]
fn what_is_owed_is_listed_without_a_look_at_the_archive() {
    let world = World::new();
    world.run_whole(async |shop| {
        let old = archived(&world, &shop).await;
        let owed = failed(&world, &shop).await;
        let list = async |places: Places| {
            let before = world.count("archive.list");
            let listing = shop.operator.list(places, 10, Some).await.expect("a list");
            let ids: Vec<_> = listing.orders.iter().map(|shown| shown.order.id).collect();
            (ids, world.count("archive.list") - before)
        };
        for state in ["failed", "cancelled", "provisioned"] {
            assert_eq!(list(Places::ALL.with_state(state)).await, (vec![owed], 0), "{state}");
        }
        for state in ["expired", "refunded"] {
            assert_eq!(list(Places::ALL.with_state(state)).await, (vec![old, owed], 256), "{state}");
            assert_eq!(list(Places::OPEN.with_state(state)).await, (vec![], 0), "{state}");
        }
        let newest = shop.operator.list(Places::CLOSED, 1, Some).await.expect("a list");
        assert_eq!((newest.orders[0].order.id, newest.left_out), (owed, 1));
    });
}

#[test]
fn an_order_is_kept_for_as_long_as_the_settings_say() {
    let world = World::new();
    world.set("/shop/closed_retention_days", json!(30));
    let (id, owed) = world.run_whole(async |shop| {
        let owed = failed(&world, &shop).await;
        (archived(&world, &shop).await, owed)
    });
    let look_after = |days: u32| {
        world.pass(DAY * days);
        world.run_whole(async |_| sleep(HOUR * 5).await);
    };
    look_after(29);
    assert!(is_archived(&world, id));
    world.set("/shop/closed_retention_days", json!(0));
    look_after(300);
    assert!(is_archived(&world, id), "for ever");
    world.set("/shop/closed_retention_days", json!(30));
    look_after(0);
    assert_eq!(world.state(id), "none");
    assert!(world.data().closed.contains_key(&owed), "what is owed is not forgotten");
}

#[test]
fn a_clock_that_jumps_ahead_archives_and_removes_nothing() {
    let world = World::new();
    world.set("/shop/closed_retention_days", json!(30));
    world.run_whole(async |shop| {
        let old = archived(&world, &shop).await;
        let id = buy(&world, &shop).await;
        world.settled().await;
        world.set_clock(SignedDuration::from_hours(24 * 365));
        sleep(HOUR / 2).await;
        assert!(world.data().closed.contains_key(&id) && strings(&world, id) == 1);
        sleep(HOUR * 5).await;
        assert!(is_archived(&world, old));
        world.set_clock(SignedDuration::ZERO);
        until("the archive", || is_archived(&world, id)).await;
    });
    world.check_books();
}

#[test]
fn a_fault_while_an_order_is_archived_loses_nothing() {
    for call in ["store.list", "store.find", "archive.put", "store.remove_closed"] {
        for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::Lost, Fault::AnswerLost, Fault::Refused] {
            let world = World::new();
            let id = world.run_whole(async |shop| {
                let id = buy(&world, &shop).await;
                world.settled().await;
                id
            });
            world.fail_times(call, usize::from(call == "store.list"), 1, fault.clone());
            world.run(async |_| sleep(HOUR * 5).await);
            world.heal();
            world.run_whole(async |shop| {
                until("the archive", || is_archived(&world, id)).await;
                shop.orders.find(id).await.expect("it is found");
            });
            world.check_books();
        }
    }
}

#[test]
fn a_fault_while_an_order_is_removed_leaves_it_for_the_next_time() {
    for call in ["archive.list", "store.find", "archive.find", "archive.remove"] {
        for fault in [Fault::CrashAfter, Fault::Lost, Fault::AnswerLost] {
            let world = World::new();
            world.set("/shop/closed_retention_days", json!(30));
            let id = world.run_whole(async |shop| archived(&world, &shop).await);
            world.pass(DAY * 31);
            world.fail(call, fault);
            world.run(async |_| sleep(HOUR * 5).await);
            world.run_whole(async |_| sleep(HOUR * 5).await);
            assert_eq!(world.state(id), "none");
        }
    }
}

#[test]
fn the_operators_change_and_the_archive_do_not_overtake_each_other() {
    for call in ["store.find", "archive.put", "store.remove_closed"] {
        let world = World::new();
        world.run_whole(async |shop| {
            let id = buy(&world, &shop).await;
            world.settled().await;
            let hold = world.hold(call);
            hold.reached().await;
            let refund = async { shop.operator.refunded(id, None).await.expect("recorded") };
            let release = async {
                sleep(Duration::from_secs(1)).await;
                hold.release();
            };
            tokio::join!(refund, release);
            until("the archive", || is_archived(&world, id)).await;
            let Some(State::Provisioned { handover, .. }) = world.stored(id).map(|order| order.state) else {
                panic!("it was delivered");
            };
            assert!(handover.refunded_at.is_some(), "{call}");
        });
        world.check_books();
    }
}
