//! A remote that answers and on which nothing works: no order is lost there, nothing is sold, and it is used again once it
//! works.

use std::time::Duration;

use lnplaylive_core::breaker::Circuit;
use lnplaylive_plugin::core::{Shop, ShopError};
use serde_json::json;
use tokio::time::sleep;

use crate::world::{Fault, World, buy, order, remote, until};

const HOURS: Duration = Duration::from_secs(6 * 3600);

/// Makes every environment on remotes fail at this step.
fn break_remotes(world: &World, call: &'static str) {
    world.fail_times(call, 0, usize::MAX, Fault::RemoteBroken);
    world.fail_times("remote.try_out", 0, usize::MAX, Fault::RemoteBroken);
}

fn circuit(shop: &Shop, remote: &str) -> Circuit {
    shop.availability.breakers().get(remote).map(|breaker| breaker.circuit).unwrap_or_default()
}

#[test]
fn no_order_is_lost_on_a_broken_remote() {
    for call in ["remote.bring_up", "remote.deploy", "remote.hand_over"] {
        for orders in [1, 3] {
            let world = World::new();
            world.run_whole(async |shop| {
                break_remotes(&world, call);
                let mut ids = Vec::new();
                for _ in 0..orders {
                    ids.push(buy(&world, &shop).await);
                }
                until("the breaker opens", || circuit(&shop, "a") != Circuit::Closed).await;
                until("nothing is under way", || ids.iter().all(|id| world.state(*id) == "queued")).await;
                sleep(Duration::from_secs(60)).await;
                assert!(matches!(order(&shop).await, Err(ShopError::RemotesFailing)));
                assert_eq!(shop.sales.offers().await.expect("offers")[0].available_count, 0);
                let placements = world.count("remote.bring_up");
                sleep(HOURS).await;
                assert_eq!(world.count("remote.bring_up"), placements, "no order is placed there");
                let trials = world.count("remote.try_out");
                assert!((6..=12).contains(&trials), "it is tried, less and less often: {trials}");
                assert!(ids.iter().all(|id| world.state(*id) == "queued"));
                assert!(world.data().projects.is_empty(), "what was abandoned is removed");
                world.heal();
                world.settled().await;
                assert_eq!(circuit(&shop, "a"), Circuit::Closed);
                assert!(ids.iter().all(|id| world.state(*id) == "provisioned"));
                order(&shop).await.expect("it is sold again");
            });
            world.run_whole(async |_| sleep(Duration::from_secs(1200)).await);
            world.check_books();
        }
    }
}

#[test]
fn a_broken_remote_is_not_used_while_another_works() {
    let world = World::new();
    world.set("/remotes", json!([remote("a"), remote("b")]));
    world.run_whole(async |shop| {
        // Remote b is used for nothing until a is out.
        world.fail_times("remote.bring_up", 0, 3, Fault::RemoteBroken);
        world.fail_times("remote.try_out", 0, usize::MAX, Fault::RemoteBroken);
        let id = buy(&world, &shop).await;
        world.closed(id).await;
        assert_eq!(world.state(id), "provisioned");
        let breakers = shop.availability.breakers();
        assert_eq!(
            breakers.values().map(|b| b.faults).sum::<u32>(),
            1,
            "two on one, and one on the other: {breakers:?}"
        );
        for _ in 0..3 {
            let id = buy(&world, &shop).await;
            world.closed(id).await;
        }
    });
    world.check_books();
}

#[test]
fn an_order_that_fails_where_others_work_is_the_orders_fault() {
    let world = World::new();
    world.run_whole(async |shop| {
        world.fail_times("remote.deploy", 0, usize::MAX, Fault::RemoteBroken);
        let id = buy(&world, &shop).await;
        // Trials work, so it is not the remote.
        world.closed(id).await;
        assert_eq!(world.state(id), "failed");
        until("a trial", || circuit(&shop, "a") == Circuit::Closed).await;
    });
    world.check_books();
}

#[test]
fn a_restart_does_not_forget_a_broken_remote() {
    let world = World::new();
    let id = world.run_whole(async |shop| {
        break_remotes(&world, "remote.bring_up");
        let id = buy(&world, &shop).await;
        until("the breaker opens", || circuit(&shop, "a") != Circuit::Closed).await;
        id
    });
    let placements = world.count("remote.bring_up");
    world.run_whole(async |shop| {
        let trials = world.count("remote.try_out");
        until("a trial at once", || world.count("remote.try_out") > trials).await;
        until("its end", || matches!(circuit(&shop, "a"), Circuit::Open { .. })).await;
        assert!(matches!(order(&shop).await, Err(ShopError::RemotesFailing)));
        sleep(HOURS).await;
        assert_eq!(world.count("remote.bring_up"), placements, "no order is placed there");
        world.heal();
        world.settled().await;
        assert_eq!(world.state(id), "provisioned");
    });
    world.check_books();
}

#[test]
fn the_operator_has_a_mended_remote_tried_at_once() {
    let world = World::new();
    world.run_whole(async |shop| {
        break_remotes(&world, "remote.bring_up");
        let id = buy(&world, &shop).await;
        until("the breaker opens", || circuit(&shop, "a") != Circuit::Closed).await;
        sleep(HOURS).await;
        world.heal();
        let before = shop.clock.now();
        shop.operator.retry(id).await.expect("tried again");
        world.settled().await;
        let took = shop.clock.now().duration_since(before);
        assert!(took.as_secs() < 120, "not after the hour's pause: {took}");
    });
    world.check_books();
}
