//! Clocks that are wrong, and are set right: nothing is placed meanwhile, no wait grows, and no buyer loses an hour.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::OrderId;
use lnplaylive_core::culling::{Verdict, judge};
use lnplaylive_core::tags::{ProjectTags, Stage};
use lnplaylive_plugin::core::{Shop, ShopError};
use serde_json::json;
use tokio::time::sleep;

use crate::world::{Fault, World, buy, order, pay, remote, until};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const RIGHT: SignedDuration = SignedDuration::ZERO;

async fn minutes(count: u64) {
    sleep(Duration::from_secs(60 * count)).await;
}

/// The error that a remote was polled with last.
fn error(shop: &Shop, remote: &str) -> String {
    let states = shop.availability.remote_states();
    states[remote].last_error.clone().expect("an error").1
}

/// The culler's verdict about the order's project at this time.
fn verdict(world: &World, id: OrderId, now: Timestamp) -> Verdict {
    let data = world.data();
    let ((_, name), project) =
        data.projects.iter().find(|(_, project)| project.order == id).expect("a project");
    let tags = ProjectTags {
        project: *name,
        order: id,
        prepared: None,
        expires: project.expires_at.max(name.expires()),
        ports: project.ports,
        member: None,
        address: None,
        shop: None,
        stage: Stage::Provisioned,
        created: None,
        removing: None,
    };
    judge(&name.to_string(), &tags.to_config(), None, now, SignedDuration::ZERO)
}

/// The true time at which the order was handed over, when the hour that was paid for began.
async fn handed_over(world: &World, id: OrderId) -> Timestamp {
    until("the hand-over", || world.state(id) == "provisioned").await;
    world.true_time()
}

/// Checks that the culler keeps the order's environment for the hour that was paid for, by a clock that is right.
fn assert_paid_hour(world: &World, id: OrderId, handed_over: Timestamp) {
    let almost = handed_over + HOUR - SignedDuration::from_secs(2);
    assert!(matches!(verdict(world, id, almost), Verdict::Keep { .. }), "the hour is not over");
    let later = handed_over + HOUR * 2;
    assert!(matches!(verdict(world, id, later), Verdict::Remove(_)), "and no more than two were given");
}

#[test]
fn orders_wait_while_this_machines_clock_is_wrong() {
    for lead in [-HOUR * 3, HOUR * 3] {
        let world = World::new();
        world.run_whole(async |shop| {
            let id = order(&shop).await.expect("an order");
            world.set_clock(lead);
            pay(&world, &shop, id).await;
            minutes(5).await;
            assert_eq!((world.state(id), world.projects(id)), ("queued", 0));
            assert!(
                matches!(order(&shop).await, Err(ShopError::AvailabilityUnknown { .. })),
                "nothing is sold"
            );
            assert!(error(&shop, "a").ends_with("set the wrong one"), "{}", error(&shop, "a"));
            world.set_clock(RIGHT);
            let handed_over = handed_over(&world, id).await;
            world.settled().await;
            assert_paid_hour(&world, id, handed_over);
        });
        world.check_books();
    }
}

#[test]
fn a_remote_whose_clock_is_wrong_takes_nothing_and_the_others_do() {
    let world = World::new();
    world.set("/remotes", json!([remote("a"), remote("b")]));
    world.run_whole(async |shop| {
        minutes(1).await;
        world.data().remote_leads.insert("a".into(), HOUR);
        for _ in 0..3 {
            buy(&world, &shop).await;
            world.settled().await;
        }
        assert!(world.data().projects.keys().all(|(remote, _)| remote == "b"));
        assert!(error(&shop, "a").contains("the server's"), "{}", error(&shop, "a"));
    });
    world.check_books();
}

#[test]
fn if_all_remotes_agree_this_machines_clock_is_wrong() {
    let world = World::new();
    world.set("/remotes", json!([remote("a"), remote("b")]));
    world.set_clock(-HOUR * 3);
    world.run_whole(async |shop| {
        minutes(1).await;
        for remote in ["a", "b"] {
            let error = error(&shop, remote);
            assert!(
                error.contains("all 2 servers") && error.ends_with("set this machine's clock"),
                "{error}"
            );
        }
    });
}

#[test]
fn a_clock_that_is_set_back_during_a_deployment_is_not_at_the_buyers_cost() {
    let world = World::new();
    world.set("/provisioning/allowance_mins", json!(0));
    world.run_whole(async |shop| {
        let hold = world.hold("remote.deploy");
        let id = buy(&world, &shop).await;
        hold.reached().await;
        world.set_clock(-HOUR * 3);
        // Polled meanwhile, so that it is known.
        minutes(30).await;
        hold.release();
        let handed_over = handed_over(&world, id).await;
        minutes(5).await;
        world.set_clock(RIGHT);
        world.settled().await;
        assert_paid_hour(&world, id, handed_over);
    });
    world.check_books();
}

#[test]
fn after_a_restart_nothing_is_handed_over_while_the_clocks_differ() {
    let world = World::new();
    world.set("/provisioning/allowance_mins", json!(0));
    let id = world.run_whole(async |shop| {
        let hold = world.hold("remote.deploy");
        let id = buy(&world, &shop).await;
        hold.reached().await;
        id
    });
    world.set_clock(-HOUR * 3);
    world.run_whole(async |_| {
        minutes(60).await;
        assert_ne!(world.state(id), "provisioned");
        world.set_clock(RIGHT);
        let handed_over = handed_over(&world, id).await;
        world.settled().await;
        assert_paid_hour(&world, id, handed_over);
    });
    world.check_books();
}

#[test]
fn a_clock_that_is_set_back_makes_no_wait_longer() {
    let world = World::new();
    let id = world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        world.fail_times("remote.poll", 0, usize::MAX, Fault::Lost);
        pay(&world, &shop, id).await;
        minutes(10).await;
        id
    });
    // The record has a time for the next attempt, and both clocks were ten hours ahead.
    world.set_clock(-HOUR * 10);
    world.data().remote_leads.insert("a".into(), -HOUR * 10);
    world.heal();
    world.run_whole(async |_| {
        minutes(20).await;
        assert_eq!(world.state(id), "provisioned");
    });
    world.check_books();
}

#[test]
fn a_clock_that_jumps_ahead_drops_no_order_that_can_still_be_paid() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        // The node's timers do not follow the clock.
        world.set_clock(HOUR * 10);
        minutes(5).await;
        assert_eq!(world.state(id), "created");
        pay(&world, &shop, id).await;
        minutes(1).await;
        world.set_clock(RIGHT);
        world.settled().await;
        assert_eq!(world.state(id), "provisioned");
    });
    world.check_books();
}
