//! Environments that are prepared for orders to come: made while there is nothing else to do, taken over once, given up for room.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use lnplaylive_core::catalogue::Selection;
use lnplaylive_core::order::Handover;
use lnplaylive_core::tags::Stage;
use lnplaylive_core::{OrderId, ProjectName, State};
use lnplaylive_plugin::core::Shop;
use lnplaylive_plugin::core::sales::Wish;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{Fault, World, buy, order, pay, remote, until, wish};

/// Products of one node and of two, of which so many are prepared.
fn products(one: u32, two: u32) -> Value {
    let product = |sku: &str, nodes: u32, prepared: u32| json!({"sku": sku, "node_count": nodes, "msat_per_node_hour": 1000, "prepared": prepared});
    json!([product("T", 1, one), product("U", 2, two)])
}

/// A world whose shop prepares so many environments of one node, on a remote that holds as many as `most`.
fn world(prepared: u32, most: u32) -> Arc<World> {
    let world = World::new();
    world.set("/products", products(prepared, 0));
    world.set("/remotes/0/max_environments", json!(most));
    world
}

/// The projects that are prepared, on all remotes.
fn prepared(world: &World) -> Vec<ProjectName> {
    let data = world.data();
    let prepared = data.projects.iter().filter(|(_, project)| project.stage == Stage::Prepared);
    prepared.map(|((_, name), _)| *name).collect()
}

/// Waits until as many are ready as there are to be, on the remotes and in the shop's memory.
async fn filled(world: &World, shop: &Shop, count: usize) -> Vec<ProjectName> {
    let known = || shop.pool.ready().len() == count && prepared(world).len() == count;
    until(&format!("{count} are prepared"), known).await;
    prepared(world)
}

fn handover(world: &World, id: OrderId) -> Handover {
    match world.stored(id).map(|order| order.state) {
        Some(State::Provisioned { handover, .. }) => handover,
        other => panic!("{other:?}"),
    }
}

/// Waits until an order is closed, and checks that it did not have to wait for anything but its own deployment, which takes 20 s.
async fn closed_soon(world: &World, shop: &Shop, id: OrderId) {
    let begin = shop.clock.now();
    world.closed(id).await;
    let took = shop.clock.now().duration_since(begin);
    assert!(took < SignedDuration::from_secs(25), "{took}");
}

/// Orders an hour of two nodes and pays.
async fn buy_two_nodes(world: &World, shop: &Shop) -> OrderId {
    let wish = Wish { selection: Selection::NodeCount(2), ..wish() };
    let id = shop.sales.create_order(wish).await.expect("an order").order.id;
    pay(world, shop, id).await;
    id
}

#[test]
fn nothing_is_prepared_unless_the_settings_say_so() {
    let world = World::new();
    world.run_whole(async |shop| {
        buy(&world, &shop).await;
        world.settled().await;
        sleep(Duration::from_secs(3600)).await;
        assert_eq!((world.count("remote.prepare"), world.count("remote.give_up")), (0, 0));
        assert!(shop.pool.counts().is_empty());
    });
    world.check_books();
}

#[test]
fn an_order_takes_over_what_was_prepared_and_another_is_made() {
    let world = world(1, 10);
    world.run_whole(async |shop| {
        let [project] = filled(&world, &shop, 1).await[..] else { panic!("one") };
        let polls = world.count("remote.poll");
        let id = order(&shop).await.expect("an order");
        let offered = shop.sales.offers().await.expect("offers")[0].available_count;
        let hold = world.hold("remote.bring_up");
        pay(&world, &shop, id).await;
        hold.reached().await;
        assert_eq!(world.count("remote.poll"), polls, "the order waits for nobody's answer");
        let sold = shop.sales.offers().await.expect("offers")[0].available_count;
        assert_eq!((offered, sold), (9, 9), "its place is the order's");
        hold.release();
        world.closed(id).await;
        let handover = handover(&world, id);
        assert_eq!(handover.project, project);
        let left = handover.expires_at.duration_since(shop.clock.now());
        assert!(left > SignedDuration::from_secs(3590) && left <= SignedDuration::from_secs(3600), "{left}");
        let history = world.stored(id).expect("a record").history;
        assert!(history.iter().any(|entry| entry.what.ends_with("which was prepared")), "{history:?}");
        let routes = world.data().routes.clone().expect("a table");
        assert!(routes.iter().any(|(routed, _)| routed == project), "strings lead there");
        let [successor] = filled(&world, &shop, 1).await[..] else { panic!("one") };
        assert_ne!(successor, project);
    });
    world.check_books();
}

#[test]
fn two_orders_at_once_do_not_get_the_same() {
    let world = world(1, 10);
    world.run_whole(async |shop| {
        let [project] = filled(&world, &shop, 1).await[..] else { panic!("one") };
        let orders = [order(&shop).await.expect("an order"), order(&shop).await.expect("an order")];
        tokio::join!(pay(&world, &shop, orders[0]), pay(&world, &shop, orders[1]));
        for id in orders {
            world.closed(id).await;
        }
        let projects = orders.map(|id| handover(&world, id).project);
        assert_ne!(projects[0], projects[1]);
        assert_eq!(projects.iter().filter(|one| **one == project).count(), 1);
        filled(&world, &shop, 1).await;
    });
    world.check_books();
}

/// The order has it, although the write that says so seemed to fail.
#[test]
fn one_that_an_order_has_recorded_is_not_offered_again() {
    let world = world(1, 10);
    world.run_whole(async |shop| {
        filled(&world, &shop, 1).await;
        let id = order(&shop).await.expect("an order");
        // The first write is the payment's.
        world.fail_times("store.replace", 1, 1, Fault::AnswerLost);
        let hold = world.hold("remote.bring_up");
        pay(&world, &shop, id).await;
        hold.reached().await;
        assert!(shop.pool.ready().is_empty());
        hold.release();
        world.closed(id).await;
    });
    world.check_books();
}

#[test]
fn what_was_prepared_for_others_is_given_up_for_an_order_that_finds_no_room() {
    let world = world(1, 2);
    world.run_whole(async |shop| {
        filled(&world, &shop, 1).await;
        let offers = shop.sales.offers().await.expect("offers");
        assert_eq!(offers.iter().map(|offer| offer.available_count).collect::<Vec<_>>(), [2, 2]);
        let first = buy_two_nodes(&world, &shop).await;
        world.closed(first).await;
        assert_eq!(
            (prepared(&world).len(), world.count("remote.give_up")),
            (1, 0),
            "there was room beside it"
        );
        let second = buy_two_nodes(&world, &shop).await;
        closed_soon(&world, &shop, second).await;
        assert_eq!((prepared(&world).len(), world.count("remote.give_up")), (0, 1));
        assert_eq!(world.stored(second).expect("a record").state.name(), "provisioned");
        sleep(Duration::from_secs(600)).await;
        assert_eq!(world.count("remote.prepare"), 1, "there is no room for another");
    });
    world.check_books();
}

#[test]
fn a_replacement_finds_the_room_of_what_was_prepared() {
    let world = world(1, 2);
    world.run_whole(async |shop| {
        let [project] = filled(&world, &shop, 1).await[..] else { panic!("one") };
        // Beside it, so that the remote is full.
        let id = buy_two_nodes(&world, &shop).await;
        world.closed(id).await;
        let old = handover(&world, id);
        assert_eq!(prepared(&world), [project]);
        shop.operator.replace(id, false).await.expect("replaced");
        closed_soon(&world, &shop, id).await;
        assert_ne!(handover(&world, id).project, old.project);
        assert_eq!(prepared(&world), []);
    });
    world.check_books();
}

#[test]
fn an_environment_that_was_prepared_is_extended_and_replaced_like_any_other() {
    let world = world(1, 10);
    world.run_whole(async |shop| {
        filled(&world, &shop, 1).await;
        let id = buy(&world, &shop).await;
        world.closed(id).await;
        let first = handover(&world, id);
        shop.operator.extend(id, 2).await.expect("extended");
        let extended = handover(&world, id).expires_at;
        assert_eq!(extended, first.expires_at + SignedDuration::from_hours(2));
        let key = (first.remote.clone(), first.project);
        assert_eq!(world.data().projects[&key].expires_at, extended);
        filled(&world, &shop, 1).await;
        // Long after the end in its project's name.
        sleep(Duration::from_secs(7200)).await;
        assert!(world.data().projects.contains_key(&key));
        shop.operator.replace(id, false).await.expect("replaced");
        world.closed(id).await;
        assert_ne!(handover(&world, id).project, first.project);
        assert!(!world.data().projects.contains_key(&key));
    });
    world.check_books();
}

/// What somebody does to what was prepared before an order takes it over.
fn spoiled(spoil: impl Fn(&World, ProjectName)) {
    let world = world(2, 10);
    world.set("/provisioning/max_attempts", json!(1));
    world.run_whole(async |shop| {
        let projects = filled(&world, &shop, 2).await;
        for project in &projects {
            spoil(&world, *project);
        }
        let id = buy(&world, &shop).await;
        let paid_at = shop.clock.now();
        world.closed(id).await;
        let took = shop.clock.now().duration_since(paid_at);
        assert!(
            took < SignedDuration::from_secs(25),
            "a deployment takes 20 s, and there is no pause: {took}"
        );
        assert!(!projects.contains(&handover(&world, id).project), "one of its own");
        let order = world.stored(id).expect("a record");
        let attempts =
            order.history.iter().filter(|entry| entry.what.ends_with("which was prepared")).count();
        assert_eq!(attempts, 1, "one that was prepared was enough: {:?}", order.history);
    });
    world.check_books();
}

#[test]
fn one_that_was_removed_by_hand_costs_the_order_nothing() {
    spoiled(|world, project| {
        world.data().projects.remove(&("a".to_owned(), project)).expect("there");
    });
}

#[test]
fn one_that_does_not_run_costs_the_order_nothing_and_is_removed() {
    spoiled(|world, project| {
        world.data().projects.get_mut(&("a".to_owned(), project)).expect("there").runs = false;
    });
}

#[test]
fn one_that_is_gone_from_its_remote_is_made_again() {
    let world = world(1, 10);
    world.run_whole(async |shop| {
        let [project] = filled(&world, &shop, 1).await[..] else { panic!("one") };
        sleep(Duration::from_secs(30)).await;
        world.data().projects.clear();
        let begin = shop.clock.now();
        until("another", || prepared(&world).iter().any(|other| *other != project)).await;
        let took = shop.clock.now().duration_since(begin);
        assert!(took < SignedDuration::from_secs(60), "at the next poll, not when it is renewed: {took}");
        assert_eq!(shop.pool.ready().len(), 1);
    });
}

#[test]
fn a_cancelled_order_leaves_nothing_of_what_it_was_about_to_take_over() {
    let world = world(1, 10);
    world.run_whole(async |shop| {
        let [project] = filled(&world, &shop, 1).await[..] else { panic!("one") };
        // Recorded, and not done on the remote.
        let hold = world.hold("remote.bring_up");
        let id = buy(&world, &shop).await;
        hold.reached().await;
        shop.operator.cancel(id).await.expect("cancelled");
        world.closed(id).await;
        assert!(!world.data().projects.contains_key(&("a".to_owned(), project)));
        filled(&world, &shop, 1).await;
    });
    world.check_books();
}

#[test]
fn a_restart_keeps_what_an_order_takes_over_and_removes_the_rest() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        let world = world(2, 10);
        let projects = world.run_whole(async |shop| filled(&world, &shop, 2).await);
        // The plugin that starts has none of them in memory.
        world.run_whole(async |shop| {
            until("others", || prepared(&world).iter().all(|one| !projects.contains(one))).await;
            filled(&world, &shop, 2).await;
        });
        let before = world.count("remote.give_up");
        assert!(before >= 2, "they were removed");

        world.fail("remote.bring_up", fault.clone());
        let taken = world.run(async |shop| {
            until("two", || shop.pool.ready().len() == 2).await;
            let id = buy(&world, &shop).await;
            world.closed(id).await;
        });
        assert!(taken.is_none(), "it ends before the remote has been told, or after");
        let (id, recorded) = {
            let data = world.data();
            let (order, _) = data.open.values().next().expect("an order");
            (order.id, order.state.placement().expect("it is placed").project)
        };
        world.run_whole(async |shop| {
            // Whatever the plugin tidies up before the order gets its turn.
            let hold = world.hold("remote.bring_up");
            hold.reached().await;
            sleep(Duration::from_secs(60)).await;
            hold.release();
            world.closed(id).await;
            filled(&world, &shop, 2).await;
        });
        assert_eq!(handover(&world, id).project, recorded, "{fault:?}");
        world.check_books();
    }
}

#[test]
fn one_that_nobody_buys_is_renewed_before_its_end_and_there_are_never_too_many() {
    let world = world(2, 10);
    world.run_whole(async |shop| {
        let first = filled(&world, &shop, 2).await;
        for _ in 0..24 * 12 {
            sleep(Duration::from_secs(300)).await;
            let (now, there) = (shop.clock.now(), prepared(&world));
            assert!((2..=4).contains(&there.len()) && shop.pool.ready().len() >= 2, "{there:?}");
            assert!(there.iter().all(|project| project.expires() > now), "the culler would have come first");
        }
        let last = filled(&world, &shop, 2).await;
        assert!(last.iter().all(|project| !first.contains(project)));
        let made = world.count("remote.prepare");
        assert!((48..=64).contains(&made), "about hourly: {made}");
    });
}

#[test]
fn nothing_is_prepared_while_an_order_waits_or_is_worked_on() {
    let world = world(1, 10);
    world.set("/remotes", json!([remote("a"), remote("b")]));
    world.run_whole(async |shop| {
        let hold = world.hold("remote.prepare");
        hold.reached().await;
        // One is being made, on one of the two.
        let [busy] = &shop.pool.counts().into_keys().map(|(remote, _)| remote).collect::<Vec<_>>()[..] else {
            panic!("one at a time: {:?}", shop.pool.counts())
        };
        let orders = [buy(&world, &shop).await, buy(&world, &shop).await];
        for id in orders {
            world.closed(id).await;
            assert_eq!(world.state(id), "provisioned", "it does not wait for what is being made on {busy}");
        }
        assert_eq!(world.count("remote.prepare"), 1);
        hold.release();
        filled(&world, &shop, 1).await;

        world.fail_times("remote.poll", 0, usize::MAX, Fault::Lost);
        let waiting = order(&shop).await.expect("an order");
        world.data().projects.clear();
        pay(&world, &shop, waiting).await;
        sleep(Duration::from_secs(300)).await;
        assert_eq!(world.count("remote.prepare"), 1, "the order comes first");
        world.heal();
        world.closed(waiting).await;
    });
}

#[test]
fn a_remote_that_cannot_prepare_goes_on_selling() {
    let world = world(1, 10);
    world.fail_times("remote.prepare", 0, 3, Fault::RemoteBroken);
    world.run_whole(async |shop| {
        until("the first failure", || world.count("remote.prepare") == 1).await;
        sleep(Duration::from_secs(30)).await;
        assert_eq!(world.count("remote.prepare"), 1, "not again at once");
        let id = buy(&world, &shop).await;
        world.closed(id).await;
        assert!(shop.availability.breakers().values().all(|breaker| breaker.faults == 0));
        filled(&world, &shop, 1).await;
        assert_eq!(world.count("remote.prepare"), 4);
    });
    world.check_books();
}

#[test]
fn virtual_machines_are_never_prepared() {
    let world = world(1, 10);
    world.set("/remotes/0/instance_type", json!("virtual-machine"));
    world.set("/remotes/0/vm_addresses", json!({"first": "10.0.0.1", "last": "10.0.0.9"}));
    world.run_whole(async |_| {
        sleep(Duration::from_secs(600)).await;
        assert_eq!(world.count("remote.prepare"), 0);
    });
}

#[test]
fn a_setting_of_none_removes_what_is_left() {
    let world = world(2, 10);
    world.run_whole(async |shop| drop(filled(&world, &shop, 2).await));
    world.set("/products", products(0, 0));
    world.run_whole(async |_| until("none", || prepared(&world).is_empty()).await);
}
