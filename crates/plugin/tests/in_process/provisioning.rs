//! A paid order on its way: faults of the datastore and of the remotes.

use std::time::Duration;

use jiff::SignedDuration;
use lnplaylive_core::State;
use lnplaylive_plugin::core::order_book::Found;
use serde_json::json;
use tokio::time::sleep;

use crate::world::{Fault, World, buy, remote, until};

#[test]
fn a_remote_that_does_not_answer_leaves_the_order_queued() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = crate::world::order(&shop).await.expect("an order");
        world.fail_times("remote.poll", 0, usize::MAX, Fault::Lost);
        crate::world::pay(&world, &shop, id).await;
        sleep(Duration::from_secs(600)).await;
        assert_eq!(world.state(id), "queued");
        world.heal();
        world.settled().await;
    });
    world.check_books();
}

#[test]
fn a_full_remote_leaves_the_order_queued() {
    let world = World::new();
    let id = world.run_whole(async |shop| crate::world::order(&shop).await.expect("an order"));
    world.set("/remotes/0/max_environments", json!(0));
    world.pay(id);
    world.run_whole(async |_| {
        sleep(Duration::from_secs(600)).await;
        assert_eq!(world.state(id), "queued");
    });
    world.set("/remotes/0/max_environments", json!(1));
    world.run_whole(async |_| world.settled().await);
    world.check_books();
}

#[test]
fn a_passing_fault_is_tried_again_in_the_same_place() {
    for call in ["remote.bring_up", "remote.deploy", "remote.hand_over"] {
        for fault in [Fault::Lost, Fault::AnswerLost] {
            let world = World::new();
            world.run_whole(async |shop| {
                world.fail(call, fault);
                buy(&world, &shop).await;
                world.settled().await;
                assert_eq!(world.count("remote.take_down"), 0, "{call}");
            });
            world.check_books();
        }
    }
}

#[test]
fn a_final_fault_is_followed_by_another_remote() {
    let world = World::new();
    world.set("/remotes", json!([remote("a"), remote("b")]));
    world.run_whole(async |shop| {
        world.fail("remote.deploy", Fault::Final);
        let id = buy(&world, &shop).await;
        world.settled().await;
        let history = world.stored(id).expect("a record").history;
        let sites: Vec<_> = history
            .iter()
            .filter_map(|entry| entry.what.strip_prefix("placed on "))
            .map(|what| &what[..1])
            .collect();
        assert!(sites == ["a", "b"] || sites == ["b", "a"], "{sites:?}");
    });
    world.check_books();
}

#[test]
fn an_order_that_fails_for_good_is_owed_and_leaves_nothing() {
    let world = World::new();
    world.run_whole(async |shop| {
        world.fail_times("remote.deploy", 0, 2, Fault::Final);
        world.fail_times("remote.take_down", 0, usize::MAX, Fault::Lost);
        let id = buy(&world, &shop).await;
        until("the failure", || world.state(id) == "failed").await;
        sleep(Duration::from_secs(600)).await;
        assert!(world.data().open.contains_key(&id), "open while something may be left");
        world.heal();
        world.settled().await;
        let Some(State::Failed { reason, cancelled, .. }) = world.stored(id).map(|order| order.state) else {
            panic!("it has failed");
        };
        assert_eq!((reason.as_str(), cancelled), ("remote.deploy failed", false));
    });
    world.check_books();
}

#[test]
fn a_slow_deployment_is_not_at_the_buyers_cost() {
    let world = World::new();
    world.run_whole(async |shop| {
        world.set("/provisioning/allowance_mins", json!(0));
        let id = buy(&world, &shop).await;
        // Placed, and then it takes half an hour.
        until("the placement", || world.state(id) == "deploying").await;
        let hold = world.hold("remote.deploy");
        hold.reached().await;
        sleep(Duration::from_secs(1800)).await;
        hold.release();
        world.settled().await;
        let Some(State::Provisioned { handover, .. }) = world.stored(id).map(|order| order.state) else {
            panic!("it is provisioned");
        };
        let left = handover.expires_at.duration_since(shop.clock.now());
        assert!(left >= SignedDuration::from_secs(3599), "an hour was paid for: {left}");
    });
    world.check_books();
}

#[test]
fn progress_is_shown() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = buy(&world, &shop).await;
        until("progress", || {
            shop.orders.handles().iter().any(|h| h.snapshot().progress.is_some_and(|p| p.done == 1))
        })
        .await;
        let Ok(Found::Open(handle)) = shop.orders.find(id).await else { panic!("it is open") };
        let before = handle.snapshot().revision(shop.clock.now());
        until("more", || handle.snapshot().ticks > 1).await;
        assert!(handle.snapshot().revision(shop.clock.now()) > before);
        world.settled().await;
    });
}

#[test]
fn a_worker_that_panics_is_followed_by_another() {
    let world = World::new();
    std::panic::set_hook(Box::new(|_| {}));
    world.run_whole(async |shop| {
        world.fail("remote.bring_up", Fault::Panics);
        buy(&world, &shop).await;
        world.settled().await;
    });
    world.check_books();
}

#[test]
fn no_more_orders_are_worked_on_at_a_time_on_a_remote_than_the_settings_say() {
    let world = World::new();
    world.set("/provisioning/concurrency", json!(1));
    world.run_whole(async |shop| {
        let hold = world.hold("remote.bring_up");
        buy(&world, &shop).await;
        hold.reached().await;
        buy(&world, &shop).await;
        sleep(Duration::from_secs(60)).await;
        assert_eq!(world.count("remote.bring_up"), 1);
        hold.release();
        world.settled().await;
    });
    world.check_books();
    let ports: std::collections::BTreeSet<_> =
        world.data().projects.values().map(|project| project.ports.first).collect();
    assert_eq!(ports.len(), 2, "no port is given twice");
}

#[test]
fn an_order_does_not_wait_for_steps_that_hang_on_another_remote() {
    let world = World::new();
    world.set("/remotes", json!([remote("a"), remote("b")]));
    world.set("/provisioning/concurrency", json!(1));
    world.run_whole(async |shop| {
        let hold = world.hold("remote.bring_up");
        let hung = buy(&world, &shop).await;
        hold.reached().await;
        // The other remote has fewer environments.
        let id = buy(&world, &shop).await;
        world.closed(id).await;
        assert_eq!((world.state(hung), world.state(id)), ("placing", "provisioned"));
        hold.release();
        world.settled().await;
    });
    world.check_books();
}

#[test]
fn routes_are_published_before_the_buyer_has_the_strings() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = buy(&world, &shop).await;
        until("the hand-over", || world.state(id) == "provisioned").await;
        let routes = world.data().routes.clone().expect("a table");
        assert_eq!(routes.len(), 1);
        world.settled().await;
    });
}

#[test]
fn routes_that_cannot_be_written_are_written_later() {
    let world = World::new();
    world.run_whole(async |shop| {
        world.fail_times("routes.write", 0, 3, Fault::Refused);
        buy(&world, &shop).await;
        world.settled().await;
        until("the table", || world.data().routes.as_ref().is_some_and(|table| table.len() == 1)).await;
    });
    // After a restart the table is kept while the remote is silent.
    world.fail_times("remote.poll", 0, usize::MAX, Fault::Lost);
    world.run_whole(async |_| {
        sleep(Duration::from_secs(60)).await;
        assert_eq!(world.data().routes.as_ref().map(lnplaylive_core::RouteTable::len), Some(1));
    });
}

#[test]
fn a_record_that_is_removed_while_it_is_worked_on_ends_the_work() {
    let world = World::new();
    world.run_whole(async |shop| {
        let hold = world.hold("remote.bring_up");
        let id = buy(&world, &shop).await;
        hold.reached().await;
        world.data().open.remove(&id);
        hold.release();
        sleep(Duration::from_secs(300)).await;
        assert_eq!(world.count("remote.deploy"), 0);
    });
}
