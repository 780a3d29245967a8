//! The health of environments that were handed over: asked gently, shown to buyers and operators.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::SignedDuration;
use lnplaylive_core::health::{Answer, Condition, Report};
use lnplaylive_core::{Health, OrderId, ProjectName, State};
use lnplaylive_plugin::core::Shop;
use serde_json::json;
use tokio::time::sleep;

use crate::world::{Fault, World, buy, remote, until};

/// The answer of an environment whose one node answers, or does not.
fn report(answers: bool) -> Answer {
    let height = answers.then_some(101);
    let nodes = [json!({"index": 0, "name": "Alice", "block_height": height})];
    let report = json!({"phase": "ready", "block_height": 101, "nodes": nodes});
    Answer::Report(Report::parse(report.to_string().as_bytes()).expect("a report"))
}

fn project(world: &World, id: OrderId) -> ProjectName {
    match world.stored(id).map(|order| order.state) {
        Some(State::Provisioned { handover, .. }) => handover.project,
        other => panic!("{other:?}"),
    }
}

/// Buys an environment and returns once nothing is left to do for it.
async fn bought(world: &World, shop: &Shop) -> (OrderId, ProjectName) {
    let id = buy(world, shop).await;
    world.closed(id).await;
    (id, project(world, id))
}

async fn health(shop: &Shop, id: OrderId) -> Option<Health> {
    let found = shop.orders.find(id).await.expect("an order");
    shop.probes.shown(found.snapshot()).health
}

async fn condition(shop: &Shop, id: OrderId) -> Condition {
    health(shop, id).await.expect("it lives").condition
}

/// Waits until the environment has this condition.
async fn becomes(shop: &Shop, id: OrderId, name: &str) {
    for _ in 0..100_000 {
        if condition(shop, id).await.name() == name {
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
    panic!("it never became {name}");
}

#[test]
fn a_node_that_is_down_is_shown_and_whoever_waits_is_told() {
    let world = World::new();
    world.run_whole(async |shop| {
        let (id, project) = bought(&world, &shop).await;
        assert_eq!(condition(&shop, id).await, Condition::Ok, "it was just seen to work");
        let (well, _) = bought(&world, &shop).await;
        let known = shop.status_watch.wait(id, 0, Duration::ZERO).await.expect("a status");
        let known = known.revision(shop.clock.now());
        world.data().answers.insert(project, report(false));
        let before = shop.clock.now();
        let told = shop.status_watch.wait(id, known, Duration::from_secs(600)).await.expect("a status");
        assert!(shop.clock.now().duration_since(before) < SignedDuration::from_mins(3), "soon");
        let degraded = told.health.as_ref().expect("it lives").condition.clone();
        assert_eq!(degraded.nodes_down()[0].name, "Alice");
        assert_eq!(shop.probes.with_condition("degraded"), BTreeSet::from([id]));
        assert_eq!(condition(&shop, well).await, Condition::Ok);

        // The same again is no news; that it is well again is.
        let known = told.revision(shop.clock.now());
        let told = shop.status_watch.wait(id, known, Duration::from_secs(300)).await.expect("a status");
        assert_eq!(told.revision(shop.clock.now()), known);
        world.data().answers.clear();
        let told = shop.status_watch.wait(id, known, Duration::from_secs(600)).await.expect("a status");
        assert_eq!(told.health.expect("it lives").condition, Condition::Ok);
        assert!(shop.probes.with_condition("degraded").is_empty());
    });
}

#[test]
fn an_environment_out_of_reach_is_degraded_after_several_probes_and_a_silent_remote_says_nothing() {
    for (fault, expected) in [(Fault::Final, "degraded"), (Fault::Lost, "unknown")] {
        let world = World::new();
        world.run_whole(async |shop| {
            let (id, _) = bought(&world, &shop).await;
            let probes = world.count("remote.probe");
            world.fail_times("remote.probe", 0, usize::MAX, fault);
            becomes(&shop, id, expected).await;
            assert_eq!(world.count("remote.probe") - probes, 3, "{expected}");
            let shown = health(&shop, id).await.expect("it lives");
            assert!(shown.last_error.is_some_and(|(_, error)| error.contains("remote.probe")));
            world.heal();
            becomes(&shop, id, "ok").await;
        });
    }
}

#[test]
fn an_environment_that_is_gone_from_its_remote_is_degraded() {
    let world = World::new();
    world.run_whole(async |shop| {
        let (id, project) = bought(&world, &shop).await;
        sleep(Duration::from_secs(60)).await;
        // Its remote reports it no longer, which is enough: probes would have to wait for their turn.
        world.fail_times("remote.probe", 0, usize::MAX, Fault::Lost);
        world.data().projects.clear();
        becomes(&shop, id, "degraded").await;
        assert!(shop.clock.now() < project.expires());
        sleep(Duration::from_secs(3 * 3600)).await;
        assert_eq!(health(&shop, id).await, None, "it has ended");
        assert!(shop.probes.with_condition("degraded").is_empty());
    });
}

#[test]
fn after_a_restart_nothing_is_known_until_the_first_probe() {
    let world = World::new();
    let id = world.run_whole(async |shop| bought(&world, &shop).await.0);
    world.run_whole(async |shop| {
        assert_eq!(condition(&shop, id).await, Condition::Unknown);
        becomes(&shop, id, "ok").await;
    });
}

#[test]
fn however_many_environments_there_are_few_are_asked_each_minute() {
    const MANY: usize = 120;
    let world = World::new();
    world.set("/remotes", json!(["a", "b", "c", "d"].map(remote)));
    world.set("/provisioning/concurrency", json!(100));
    world.run_whole(async |shop| {
        let mut ids = Vec::new();
        for _ in 0..MANY {
            let order = crate::world::order(&shop).await;
            ids.push(order.expect("an order"));
        }
        for id in &ids {
            crate::world::pay(&world, &shop, *id).await;
        }
        world.settled().await;
        world.data().probes.clear();
        let begin = shop.clock.now();
        sleep(Duration::from_secs(35 * 60)).await;
        let probes = world.data().probes.clone();
        let mut by_minute: BTreeMap<i64, usize> = BTreeMap::new();
        for (at, _) in &probes {
            *by_minute.entry(at.duration_since(begin).as_secs() / 60).or_default() += 1;
        }
        assert!(by_minute.values().all(|count| (3..=4).contains(count)), "{by_minute:?}");
        let asked: BTreeSet<_> = probes.iter().map(|(_, project)| *project).collect();
        assert_eq!(asked.len(), MANY, "all of them, in turn");
        let first: BTreeSet<_> = probes.iter().take(MANY).map(|(_, project)| *project).collect();
        assert_eq!(first.len(), MANY, "none twice before all had their turn");

        // One in trouble is looked at in between, and does not keep the others from their turns.
        let ill = project(&world, ids[7]);
        world.data().answers.insert(ill, report(false));
        becomes(&shop, ids[7], "degraded").await;
        world.data().probes.clear();
        sleep(Duration::from_secs(600)).await;
        let probes = world.data().probes.clone();
        let of_it = probes.iter().filter(|(_, project)| *project == ill).count();
        assert!((5..=20).contains(&of_it), "{of_it} of {}", probes.len());
        assert!((39..=41).contains(&probes.len()), "{}", probes.len());
    });
}

#[test]
fn probes_that_hang_are_few_and_hold_nobody_up() {
    let world = World::new();
    world.set("/provisioning/probes_per_min", json!(600));
    world.run_whole(async |shop| {
        for _ in 0..12 {
            bought(&world, &shop).await;
        }
        // A probe that hangs takes 30 s, and 600 are due each minute.
        world.fail_times("remote.probe", 0, usize::MAX, Fault::Hangs);
        sleep(Duration::from_secs(300)).await;
        assert_eq!(world.data().probing.1, 4, "at a time");
        let before = shop.clock.now();
        bought(&world, &shop).await;
        let took = shop.clock.now().duration_since(before);
        assert!(took < SignedDuration::from_secs(60), "an order is not held up: {took}");
    });
}

#[test]
fn nothing_is_probed_if_the_settings_say_so() {
    let world = World::new();
    world.set("/provisioning/probes_per_min", json!(0));
    world.run_whole(async |shop| {
        let (id, _) = bought(&world, &shop).await;
        sleep(Duration::from_secs(1800)).await;
        assert_eq!((world.count("remote.probe"), health(&shop, id).await), (0, None));
    });
}

#[test]
fn environments_of_somebody_elses_take_no_turns() {
    let world = World::new();
    world.run_whole(async |shop| {
        let (id, _) = bought(&world, &shop).await;
        // Those of another shop on the same remote: this one has no records of them.
        let copies: Vec<_> = {
            let data = world.data();
            let ((remote, _), project) = data.projects.iter().next().expect("one");
            (0..10).map(|_| (remote.clone(), OrderId::random(), project.clone())).collect()
        };
        for (remote, order, mut project) in copies {
            project.order = order;
            let name = ProjectName::new(project.expires_at, order).expect("a name");
            world.data().projects.insert((remote, name), project);
        }
        sleep(Duration::from_secs(600)).await;
        let probes = world.data().probes.len();
        assert!(probes >= 9, "it has its turn each minute nevertheless: {probes}");
        assert_eq!(condition(&shop, id).await, Condition::Ok);
        until("nothing of theirs is shown", || shop.probes.with_condition("degraded").is_empty()).await;
    });
}
