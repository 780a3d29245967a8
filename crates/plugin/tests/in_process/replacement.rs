//! An environment that is replaced: the buyer has one at any time, gets no less than was paid for, and it counts once.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::culling::{Verdict, judge};
use lnplaylive_core::order::Handover;
use lnplaylive_core::{OrderId, ProjectName, ProjectTags, State};
use lnplaylive_plugin::core::{Shop, ShopError};
use serde_json::json;
use tokio::time::sleep;

use crate::world::{Fault, World, buy, order, pay, until};

fn handover(world: &World, id: OrderId) -> Handover {
    match world.stored(id).map(|order| order.state) {
        Some(State::Provisioned { handover, .. }) => handover,
        other => panic!("{other:?}"),
    }
}

async fn bought(world: &World, shop: &Shop) -> OrderId {
    let id = buy(world, shop).await;
    world.closed(id).await;
    id
}

fn refused<T: std::fmt::Debug>(result: Result<T, ShopError>, state: &str) {
    match result {
        Err(ShopError::InvalidState { state: found, .. }) => assert_eq!(found, state),
        other => panic!("{other:?}"),
    }
}

fn there(world: &World, project: ProjectName) -> bool {
    world.data().projects.keys().any(|(_, name)| *name == project)
}

#[test]
fn an_environment_is_replaced_and_the_old_one_goes_last() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = bought(&world, &shop).await;
        let (old, paid_at) = (handover(&world, id), world.stored(id).expect("a record").state.paid_at());
        sleep(Duration::from_secs(1800)).await;
        let hold = world.hold("remote.deploy");
        let asked_at = shop.clock.now();
        let snapshot = shop.operator.replace(id, false).await.expect("replaced");
        assert_eq!(snapshot.order.state.name(), "queued");
        refused(shop.operator.replace(id, false).await, "queued");
        hold.reached().await;
        assert!(
            there(&world, old.project) && world.projects(id) == 2,
            "the old one stays until the hand-over"
        );
        let routes = world.data().routes.clone().expect("a table");
        assert!(routes.iter().any(|(project, _)| project == old.project), "and is reached");
        sleep(Duration::from_secs(1200)).await;
        let handed_over_at = shop.clock.now();
        hold.release();
        world.closed(id).await;

        let new = handover(&world, id);
        assert_ne!((new.project, &new.connection_strings), (old.project, &old.connection_strings));
        assert!(!there(&world, old.project) && there(&world, new.project));
        until("the old route ends", || {
            let routes = world.data().routes.clone().expect("a table");
            routes.iter().map(|(project, _)| project).collect::<Vec<_>>() == [new.project]
        })
        .await;
        let left = old.expires_at.duration_since(asked_at);
        assert!(new.expires_at >= handed_over_at + left, "all that was left, from the hand-over");
        assert!(new.expires_at <= handed_over_at + left + SignedDuration::from_mins(16), "and no more");
        let order = world.stored(id).expect("a record");
        assert_eq!(order.state.paid_at(), paid_at);
        let what: Vec<_> = order.history.iter().map(|entry| entry.what.as_str()).collect();
        assert!(what.iter().any(|what| what.starts_with("to be replaced by the operator")), "{what:?}");
        assert!(what.iter().any(|what| what.ends_with(&format!("in place of {}", old.project))), "{what:?}");
    });
    world.check_books();
}

#[test]
fn on_a_full_server_the_old_one_has_to_go_first() {
    let world = World::new();
    world.set("/remotes/0/max_environments", json!(1));
    world.run_whole(async |shop| {
        let id = bought(&world, &shop).await;
        let old = handover(&world, id);
        shop.operator.replace(id, false).await.expect("replaced");
        sleep(Duration::from_secs(600)).await;
        assert_eq!((world.state(id), world.projects(id)), ("queued", 1), "no room beside it");
        // The operator thinks again.
        shop.operator.cancel(id).await.expect("cancelled");
        world.closed(id).await;
        assert_eq!(handover(&world, id), old, "it stays as it was");
        shop.operator.replace(id, true).await.expect("replaced");
        world.closed(id).await;
        assert_ne!(handover(&world, id).project, old.project);
    });
    world.check_books();
}

#[test]
fn a_replacement_that_fails_leaves_the_old_one() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = bought(&world, &shop).await;
        let old = handover(&world, id);
        // It works elsewhere meanwhile, so it is not the remote.
        world.fail_times("remote.deploy", 0, 2, Fault::Final);
        shop.operator.replace(id, false).await.expect("replaced");
        world.closed(id).await;
        assert_eq!(handover(&world, id), old);
        let order = world.stored(id).expect("a record");
        let what = &order
            .history
            .iter()
            .rfind(|entry| entry.what.starts_with("not replaced"))
            .expect("it says so")
            .what;
        assert!(what.contains("remote.deploy failed"), "{what}");
        shop.operator.replace(id, false).await.expect("once more");
        world.closed(id).await;
        assert_ne!(handover(&world, id).project, old.project);
        // Removed first, there is nothing left to keep: it is owed.
        world.fail_times("remote.deploy", 0, 2, Fault::Final);
        shop.operator.replace(id, true).await.expect("replaced");
        world.closed(id).await;
        assert_eq!((world.state(id), world.projects(id)), ("failed", 0));
        shop.operator.retry(id).await.expect("tried again");
        world.closed(id).await;
        assert_eq!(world.state(id), "provisioned");
    });
    world.check_books();
}

#[test]
fn what_is_not_there_to_be_replaced_is_refused() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        refused(shop.operator.replace(id, false).await, "created");
        let hold = world.hold("remote.deploy");
        pay(&world, &shop, id).await;
        hold.reached().await;
        refused(shop.operator.replace(id, false).await, "deploying");
        hold.release();
        world.closed(id).await;
        // A refund after a replacement counts once, and ends it.
        shop.operator.replace(id, false).await.expect("replaced");
        refused(shop.operator.refunded(id, None).await, "queued");
        world.closed(id).await;
        shop.operator.refunded(id, Some("half of it".into())).await.expect("recorded");
        refused(shop.operator.refunded(id, None).await, "provisioned");
        refused(shop.operator.replace(id, false).await, "refunded");
        refused(shop.operator.replace(id, true).await, "refunded");
        assert_eq!(world.projects(id), 1, "nothing was removed");
        let other = bought(&world, &shop).await;
        sleep(Duration::from_secs(4 * 3600)).await;
        refused(shop.operator.replace(other, false).await, "expired");
    });
    world.check_books();
}

#[test]
fn an_environment_whose_record_does_not_say_its_ports_is_replaced_as_its_remote_reports_it() {
    let world = World::new();
    let id = world.run_whole(async |shop| bought(&world, &shop).await);
    let ports = {
        let mut data = world.data();
        let Some(State::Provisioned { handover, .. }) =
            data.closed.get_mut(&id).map(|order| &mut order.state)
        else {
            panic!("it is closed")
        };
        handover.site.take().expect("a site").ports
    };
    world.fail_times("remote.poll", 0, usize::MAX, Fault::Lost);
    world.run_whole(async |shop| {
        let refused = shop.operator.replace(id, false).await;
        assert!(
            matches!(refused, Err(ShopError::Remote(_))),
            "nobody knows what is to be removed: {refused:?}"
        );
        world.heal();
        until("a report", || shop.availability.remote_states().values().any(|state| state.last.is_some()))
            .await;
        let snapshot = shop.operator.replace(id, false).await.expect("replaced");
        let leftover = snapshot.order.replaces.and_then(|replaced| replaced.leftover).expect("it stands");
        assert_eq!(leftover.ports, ports);
        world.settled().await;
    });
    world.check_books();
}

#[test]
fn the_culler_removes_neither_early_and_misses_none() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = bought(&world, &shop).await;
        let old = handover(&world, id);
        sleep(Duration::from_secs(1800)).await;
        // The old one cannot be removed: its remote is silent.
        world.fail_times("remote.take_down", 0, usize::MAX, Fault::Lost);
        shop.operator.replace(id, false).await.expect("replaced");
        until("the hand-over", || world.state(id) == "provisioned").await;
        let new = handover(&world, id);
        let verdict = |handover: &Handover, now: Timestamp| {
            let data = world.data();
            let project = &data.projects[&(handover.remote.clone(), handover.project)];
            let tags = ProjectTags {
                project: handover.project,
                order: id,
                prepared: None,
                expires: project.expires_at,
                ports: project.ports,
                member: None,
                address: None,
                shop: None,
                stage: project.stage,
                created: None,
                removing: None,
            };
            judge(&handover.project.to_string(), &tags.to_config(), None, now, SignedDuration::ZERO)
        };
        let second = SignedDuration::from_secs(1);
        assert!(matches!(verdict(&old, old.expires_at + second), Verdict::Remove(_)), "if nobody else does");
        assert!(matches!(verdict(&new, new.expires_at - second), Verdict::Keep { .. }));
        assert!(matches!(verdict(&new, new.expires_at + second), Verdict::Remove(_)));
        world.heal();
        world.closed(id).await;
    });
    world.check_books();
}

#[test]
fn a_remote_that_has_broken_since_is_not_taken_for_the_orders_fault() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = bought(&world, &shop).await;
        let old = handover(&world, id);
        sleep(Duration::from_secs(60)).await;
        world.fail_times("remote.bring_up", 0, usize::MAX, Fault::RemoteBroken);
        world.fail_times("remote.try_out", 0, usize::MAX, Fault::RemoteBroken);
        shop.operator.replace(id, false).await.expect("replaced");
        sleep(Duration::from_secs(1800)).await;
        assert_eq!(world.state(id), "queued", "it waits for a remote that works");
        assert!(there(&world, old.project), "and the old one stays");
        world.heal();
        world.closed(id).await;
        assert_ne!(handover(&world, id).project, old.project);
    });
    world.check_books();
}
