//! Environments that are prepared for orders to come, on simulated remotes: taken over by one order, once, with what it bought.

mod support;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::order::{Prepared, Severity};
use lnplaylive_core::tags::{KEY_SHOP, Stage};
use lnplaylive_core::{Order, OrderId, Placement, ProjectTags, prepared};
use lxd_client::Stop;
use provisioner::{Choice, Error, Removal, choose, instance_name, keys};
use sim_lxd::{Fault, SshFault};
use support::{GOOD, LONG, World, is_ours, leftover, names, nodes, operator, order};

/// What is prepared for orders of one node.
async fn prepare(world: &World) -> (OrderId, Placement) {
    let reports = world.reports().await;
    let choice = choose(&world.provisioner.candidates(&reports), nodes(1), &[], &[], 0).expect("room");
    let Choice { remote, member, ports, address } = choice;
    let id = OrderId::random();
    let project = prepared::project_name(id, Timestamp::now());
    let access = keys::generate();
    let placement = Placement { remote, member, project, ports, address, access, prepared: None };
    world.provisioner.prepare(id, 1, &placement).await.expect("prepared");
    (id, placement)
}

/// The placement of an order that takes it over.
fn taken_by(order: &Order, (id, placement): &(OrderId, Placement)) -> Placement {
    let expires = Timestamp::now() + SignedDuration::from_hours(order.terms.hours.into());
    Placement { prepared: Some(Prepared { id: *id, expires }), ..placement.clone() }
}

fn tags(world: &World, placement: &Placement) -> Option<ProjectTags> {
    let name = placement.project.to_string();
    let project = world.remote().projects().into_iter().find(|project| project.name == name)?;
    Some(ProjectTags::read(&name, &project.config).expect("ours"))
}

#[tokio::test]
async fn an_order_takes_over_what_was_prepared_and_gets_what_it_bought() {
    let world = World::new(GOOD).await;
    let there = prepare(&world).await;
    let before = tags(&world, &there.1).expect("there");
    assert_eq!((before.stage, before.order, before.prepared), (Stage::Prepared, there.0, None));
    let load = world.reports().await.remove(0).load.expect("a report");
    assert_eq!((load.prepared().count(), load.sold().count(), load.coming().count()), (1, 0, 0));

    let mut order = order(1);
    order.terms.hours = 504;
    let placement = taken_by(&order, &there);
    let (up, calls) = world.count(world.provisioner.bring_up(&order, &placement)).await;
    up.expect("taken over");
    assert_eq!(calls, 4, "read and written: project and instance");
    // After a crash it is done again.
    let (again, calls) = world.count(world.provisioner.bring_up(&order, &placement)).await;
    again.expect("nothing to do");
    assert_eq!(calls, 2);
    let deployed = world.provisioner.deploy(&order, &placement, |_| ()).await.expect("deployed");
    assert!(is_ours(&deployed.connection_strings));
    let endpoint = &deployed.connection_strings[0].endpoint;
    assert_eq!(endpoint.port, *placement.ports.nodes().start());

    let taken = tags(&world, &placement).expect("there");
    assert_eq!((taken.stage, taken.order, taken.prepared), (Stage::Placing, order.id, Some(there.0)));
    assert_eq!(taken.expires.as_second(), placement.expires().as_second());
    assert!(taken.created >= before.created && taken.ports == before.ports);
    let until = Timestamp::now() + SignedDuration::from_hours(504);
    world.provisioner.hand_over(order.id, &placement, until).await.expect("handed over");
    let handed_over = tags(&world, &placement).expect("there");
    assert_eq!((handed_over.stage, handed_over.expires.as_second()), (Stage::Provisioned, until.as_second()));
    let later = until + SignedDuration::from_hours(1);
    world.provisioner.extend(order.id, "sim-0", placement.project, later).await.expect("extended");
    assert_eq!(tags(&world, &placement).expect("there").expires.as_second(), later.as_second());
    world.take_down(&order, &placement).await;
}

#[tokio::test]
async fn the_instance_grows_with_the_hours_and_only_then() {
    let world = World::new(GOOD).await;
    let operator = operator(&world).await;
    let limits = async |placement: &Placement| {
        let (project, name) = (placement.project.to_string(), instance_name(placement.project));
        let instance = operator.instance(&project, &name).await.expect("there");
        let size = instance.devices.values().find_map(|device| device.get("size").cloned());
        (instance.config["limits.memory"].clone(), size.expect("a root disk"), instance.config.len())
    };
    let mut long = order(1);
    long.terms.hours = 504;
    let made = world.place(&long).await;
    world.provisioner.bring_up(&long, &made).await.expect("made for it");

    let there = prepare(&world).await;
    let (memory, disk, _) = limits(&there.1).await;
    let hour = order(1);
    let placement = taken_by(&hour, &there);
    world.provisioner.bring_up(&hour, &placement).await.expect("taken over");
    assert_eq!((memory, disk), {
        let (memory, disk, _) = limits(&placement).await;
        (memory, disk)
    });
    let path = format!("/1.0/instances/{}", instance_name(placement.project));
    assert_eq!(world.calls("PATCH", &path), 0, "it has all that an hour needs");

    let there = prepare(&world).await;
    let placement = taken_by(&long, &there);
    world.provisioner.bring_up(&long, &placement).await.expect("taken over");
    assert_eq!(limits(&placement).await, limits(&made).await, "as one that was made for it");
}

#[tokio::test]
async fn no_two_orders_get_the_same() {
    let world = World::new(GOOD).await;
    let there = prepare(&world).await;
    let (first, second) = (order(1), order(1));
    let path = format!("/1.0/projects/{}", there.1.project);
    // Somebody else has changed it in between.
    world.remote().faults().on("PUT", &path, 1, Fault::Error(412, "ETag doesn't match: a vs b".into()));
    let placements = [taken_by(&first, &there), taken_by(&second, &there)];
    let (one, other) = tokio::join!(
        world.provisioner.bring_up(&first, &placements[0]),
        world.provisioner.bring_up(&second, &placements[1]),
    );
    let error = match (one, other) {
        (Ok(()), Err(error)) | (Err(error), Ok(())) => error,
        both => panic!("one of them: {both:?}"),
    };
    assert!(matches!(error, Error::NotOurs { .. }), "{error}");
    assert_eq!(error.severity(), Severity::Final, "another placement may work");
    let owner = tags(&world, &there.1).expect("there").order;
    let (winner, loser) = if owner == first.id { (&first, &second) } else { (&second, &first) };
    assert_eq!(owner, winner.id);
    // What the other one leaves is not its to remove.
    world.provisioner.take_down(loser.id, &leftover(&placements[0])).await.expect("nothing of it");
    assert!(tags(&world, &there.1).is_some());
    world.take_down(winner, &placements[0]).await;
}

#[tokio::test]
async fn what_cannot_be_taken_over_is_the_fault_of_nothing_else() {
    let world = World::with(GOOD, 1, "boot_timeout_secs = 2\n").await;
    let operator = operator(&world).await;
    let order = order(1);
    let fails = async |there: &(OrderId, Placement)| {
        let placement = taken_by(&order, there);
        let error = world.provisioner.bring_up(&order, &placement).await.expect_err("it cannot work");
        assert_eq!(error.severity(), Severity::Final, "{error}");
        names(&error, &["sim-0", &placement.project.to_string()]);
        error
    };

    let gone = prepare(&world).await;
    world.provisioner.give_up("sim-0", gone.0, gone.1.project).await.expect("removed");
    names(&fails(&gone).await, &["it is gone"]);
    world.take_down(&order, &taken_by(&order, &gone)).await;

    let stopped = prepare(&world).await;
    let (project, name) = (stopped.1.project.to_string(), instance_name(stopped.1.project));
    operator.stop_instance(&project, &name, Stop::Force, LONG).await.expect("stopped");
    names(&fails(&stopped).await, &["its instance is Stopped"]);
    world.take_down(&order, &taken_by(&order, &stopped)).await;

    let emptied = prepare(&world).await;
    let (project, name) = (emptied.1.project.to_string(), instance_name(emptied.1.project));
    operator.stop_instance(&project, &name, Stop::Force, LONG).await.expect("stopped");
    operator.delete_instance(&project, &name, LONG).await.expect("deleted");
    names(&fails(&emptied).await, &["its instance is gone"]);
    world.take_down(&order, &taken_by(&order, &emptied)).await;

    let removed = prepare(&world).await;
    let mut project = operator.project(&removed.1.project.to_string()).await.expect("there");
    project.config.insert("user.lnplaylive.removing".into(), "1700000000".into());
    operator.update_project(&project).await.expect("marked");
    assert!(matches!(fails(&removed).await, Error::BeingRemoved { .. }));
    // It is not the order's yet, and goes all the same.
    assert_eq!(tags(&world, &removed.1).expect("there").order, removed.0);
    world.take_down(&order, &taken_by(&order, &removed)).await;

    let mut long = order.clone();
    long.terms.hours = 504;
    let small = prepare(&world).await;
    let patch = format!("/1.0/instances/{}", instance_name(small.1.project));
    world.remote().faults().on("PATCH", &patch, 1, Fault::Error(500, "no space left".into()));
    let placement = taken_by(&long, &small);
    let error = world.provisioner.bring_up(&long, &placement).await.expect_err("it does not grow");
    assert_eq!(error.severity(), Severity::Final, "the remote may be well: {error}");
    names(&error, &["no space left"]);
    world.take_down(&long, &placement).await;

    let deaf = prepare(&world).await;
    let placement = taken_by(&order, &deaf);
    world.provisioner.bring_up(&order, &placement).await.expect("it runs");
    world.remote().faults().on_ssh(SshFault::Closed);
    let error = world.provisioner.deploy(&order, &placement, |_| ()).await.expect_err("no way in");
    assert_eq!(error.severity(), Severity::Final, "{error}");
    world.take_down(&order, &placement).await;
}

#[tokio::test]
async fn what_an_order_has_taken_over_is_not_given_up() {
    let world = World::new(GOOD).await;
    let (taken, other) = (prepare(&world).await, prepare(&world).await);
    let order = order(1);
    let placement = taken_by(&order, &taken);
    world.provisioner.bring_up(&order, &placement).await.expect("taken over");
    let give_up = |there: &(OrderId, Placement)| {
        let (id, project) = (there.0, there.1.project);
        let provisioner = world.provisioner.clone();
        async move { provisioner.give_up("sim-0", id, project).await.expect("it answers") }
    };
    assert_eq!(give_up(&taken).await, Removal::Spared);
    assert_eq!(give_up(&other).await, Removal::Removed);
    assert_eq!(give_up(&other).await, Removal::Gone);
    world.provisioner.deploy(&order, &placement, |_| ()).await.expect("it runs");
}

#[tokio::test]
async fn an_interrupted_preparation_is_given_up_like_any_other() {
    let world = World::new(GOOD).await;
    let reports = world.reports().await;
    let choice = choose(&world.provisioner.candidates(&reports), nodes(1), &[], &[], 0).expect("room");
    let id = OrderId::random();
    let placement = Placement {
        project: prepared::project_name(id, Timestamp::now()),
        ..support::placement(&order(1), &choice.remote, choice.ports)
    };
    world.remote().faults().on("PUT", "/1.0/instances/*/state", 1, Fault::FailOperation("killed".into()));
    world.provisioner.prepare(id, 1, &placement).await.expect_err("it does not start");
    let load = world.reports().await.remove(0).load.expect("a report");
    assert_eq!(
        load.prepared().map(|one| (one.order, one.project)).collect::<Vec<_>>(),
        [(id, placement.project)]
    );
    let removed = world.provisioner.give_up("sim-0", id, placement.project).await.expect("removed");
    assert_eq!(removed, Removal::Removed);
    assert_eq!(world.remote().projects().len(), 1);
}

#[tokio::test]
async fn only_what_names_the_shop_is_its_own_to_give_up() {
    let world = World::new(GOOD).await;
    let there = prepare(&world).await;
    let name = there.1.project.to_string();
    let is_prepared = async || {
        let load = world.reports().await.remove(0).load.expect("a report");
        assert_eq!(load.environments.len(), 1);
        load.prepared().count() == 1
    };
    assert!(is_prepared().await);
    let of = |shop: Option<&str>| {
        let project = world.remote().projects().into_iter().find(|project| project.name == name);
        let mut config: BTreeMap<_, _> = project.expect("there").config;
        match shop {
            Some(shop) => drop(config.insert(KEY_SHOP.into(), shop.into())),
            None => drop(config.remove(KEY_SHOP)),
        }
        world.remote().add_project(&name, config);
    };
    of(Some("another"));
    assert!(!is_prepared().await);
    of(None);
    assert!(!is_prepared().await);
}
