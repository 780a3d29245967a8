//! Leftovers of abandoned placements, on remotes that answer and on those that never do again.

use std::time::Duration;

use jiff::SignedDuration;
use lnplaylive_core::{OrderId, ProjectName};
use lnplaylive_plugin::core::{Shop, ShopError};
use serde_json::json;
use tokio::time::sleep;

use crate::world::{Fault, World, buy, remote, until};

const MINUTE: Duration = Duration::from_secs(60);

fn leftovers(world: &World, id: OrderId) -> Vec<ProjectName> {
    let order = world.stored(id).expect("a record");
    order.leftovers.iter().map(|leftover| leftover.project).collect()
}

/// Buys an order that fails for good and whose leftovers cannot be removed.
async fn failed_with_leftovers(world: &World, shop: &Shop) -> OrderId {
    world.fail_times("remote.deploy", 0, 2, Fault::Final);
    world.fail_times("remote.take_down", 0, usize::MAX, Fault::Lost);
    let id = buy(world, shop).await;
    until("the failure", || world.state(id) == "failed").await;
    id
}

#[test]
fn a_removal_that_hangs_does_not_hold_up_its_order() {
    let world = World::new();
    world.set("/remotes", json!([remote("a"), remote("b")]));
    world.run_whole(async |shop| {
        world.fail("remote.deploy", Fault::Final);
        let hold = world.hold("remote.take_down");
        let id = buy(&world, &shop).await;
        hold.reached().await;
        until("the hand-over", || world.state(id) == "provisioned").await;
        let at = shop.clock.now();
        let paid_at = world.stored(id).and_then(|order| order.state.paid_at()).expect("paid");
        assert!(at.duration_since(paid_at) < SignedDuration::from_mins(5), "{at}");
        assert_eq!(leftovers(&world, id).len(), 1);
        hold.release();
        world.settled().await;
    });
    world.check_books();
}

#[test]
fn a_removal_that_hangs_does_not_hold_up_the_orders_other_leftovers() {
    let world = World::new();
    world.run_whole(async |shop| {
        world.fail_times("remote.deploy", 0, 2, Fault::Final);
        let hold = world.hold("remote.take_down");
        let id = buy(&world, &shop).await;
        hold.reached().await;
        until("the failure", || world.state(id) == "failed").await;
        sleep(MINUTE).await;
        assert_eq!(leftovers(&world, id).len(), 1);
        hold.release();
        world.settled().await;
    });
    world.check_books();
}

#[test]
fn a_remote_that_stays_away_is_asked_once_an_hour() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = failed_with_leftovers(&world, &shop).await;
        sleep(MINUTE * 60 * 24).await;
        let before = world.count("remote.take_down");
        sleep(MINUTE * 60 * 10).await;
        let tries = world.count("remote.take_down") - before;
        assert!((18..=22).contains(&tries), "two leftovers, once an hour each: {tries}");
        assert_eq!(leftovers(&world, id).len(), 2, "and none is given up");
        world.heal();
        world.settled().await;
    });
    world.check_books();
}

#[test]
fn the_operators_retry_ends_the_pause_before_the_next_removal() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = failed_with_leftovers(&world, &shop).await;
        sleep(MINUTE * 60 * 24).await;
        world.heal();
        let hold = world.hold("remote.deploy");
        shop.operator.retry(id).await.expect("it is tried again");
        hold.reached().await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(leftovers(&world, id), [], "they are tried again too");
        hold.release();
        world.settled().await;
    });
    world.check_books();
}

#[test]
fn what_is_left_on_a_remote_that_is_gone_is_forgotten_when_the_operator_says_so() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = failed_with_leftovers(&world, &shop).await;
        let other = buy(&world, &shop).await;
        until("the other's hand-over", || world.state(other) == "provisioned").await;
        let refused = shop.operator.forget(other, leftovers(&world, id)[0]).await;
        assert!(matches!(refused, Err(ShopError::InvalidState { .. })), "{refused:?}");
        // One of them is being removed in this moment, and does not end.
        world.heal();
        let hold = world.hold("remote.take_down");
        world.fail_times("remote.take_down", 0, usize::MAX, Fault::Lost);
        hold.reached().await;
        for project in leftovers(&world, id) {
            assert!(world.data().open.contains_key(&id));
            shop.operator.forget(id, project).await.expect("forgotten");
        }
        world.closed(id).await;
        let history = world.stored(id).expect("a record").history;
        let forgotten = history.iter().filter(|entry| entry.what.starts_with("forgot lnplaylive-")).count();
        assert_eq!(forgotten, 2, "{history:?}");
    });
}

#[test]
fn a_record_that_is_removed_while_its_leftovers_are_ends_the_work() {
    let world = World::new();
    world.run_whole(async |shop| {
        world.fail_times("remote.deploy", 0, 2, Fault::Final);
        let hold = world.hold("remote.take_down");
        let id = buy(&world, &shop).await;
        hold.reached().await;
        until("the failure", || world.state(id) == "failed").await;
        world.data().open.remove(&id);
        hold.release();
        sleep(MINUTE * 10).await;
        assert!(world.count("remote.take_down") <= 2, "one for each leftover");
    });
}
