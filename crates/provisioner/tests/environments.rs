//! Environments up and down: what it costs, what is left, and that every step may be repeated.

mod support;

use jiff::Timestamp;
use lnplaylive_core::order::PortBlock;
use lxd_client::{Collection, ConfigMap};
use provisioner::{Error, Placed, choose, instance_name};
use sim_lxd::Fault;
use support::{GOOD, World, leftover, names, nodes, operator, order, placement};

/// The bars of what one environment may cost in REST calls.
const UP: usize = 15;
const DOWN: usize = 10;
/// The extra calls of the first one: enrolment, and the checks before anything is sold.
const FIRST: usize = 4;

#[tokio::test]
async fn calls_do_not_grow_with_the_nodes() {
    let world = World::new(GOOD).await;
    let mut counted = Vec::new();
    for node_count in [8, 1, 64] {
        let order = order(node_count);
        let (placement, up) = world.count(world.provision(&order)).await;
        let placement = placement.expect("provisioned");
        let leftover = leftover(&placement);
        let take_down = world.provisioner.take_down(order.id, &leftover);
        let (result, down) = world.count(take_down).await;
        result.expect("taken down");
        assert_eq!(world.remote().projects().len(), 1, "nothing is left");
        let most = UP + if counted.is_empty() { FIRST } else { 0 };
        assert!(up <= most && down <= DOWN, "{node_count} nodes: {up} up, {down} down");
        counted.push((up, down));
    }
    println!("REST calls (up, down), the first enrols: {counted:?}");
    assert_eq!(counted[1], counted[2]);
    let (_, survey) = world.count(world.provisioner.survey()).await;
    assert_eq!(survey, 3, "projects, resources and storage");
}

#[tokio::test]
async fn every_step_may_be_repeated() {
    let world = World::new(GOOD).await;
    let order = order(2);
    let placement = world.place(&order).await;
    for _ in 0..2 {
        world.provisioner.bring_up(&order, &placement).await.expect("it runs");
    }
    for _ in 0..2 {
        let deployed = world.provisioner.deploy(&order, &placement, |_| ()).await.expect("deployed");
        assert!(support::is_ours(&deployed.connection_strings));
    }
    let until = placement.project.expires();
    for _ in 0..2 {
        world.provisioner.hand_over(order.id, &placement, until).await.expect("handed over");
    }
    let projects = world.remote().projects();
    let project = projects.iter().find(|p| p.name == placement.project.to_string()).expect("there");
    assert_eq!(project.config["user.lnplaylive.state"], "provisioned");
    assert_eq!(project.config["user.lnplaylive.expires"], until.as_second().to_string());
    world.take_down(&order, &placement).await;
}

#[tokio::test]
async fn a_hand_over_that_meets_another_change_is_written_again() {
    let world = World::new(GOOD).await;
    let order = order(1);
    let placement = world.place(&order).await;
    world.provisioner.bring_up(&order, &placement).await.expect("it runs");
    let path = format!("/1.0/projects/{}", placement.project);
    world.remote().faults().on("PUT", &path, 1, Fault::Error(412, "ETag doesn't match: a vs b".into()));
    let until = placement.project.expires();
    world.provisioner.hand_over(order.id, &placement, until).await.expect("handed over");
    assert_eq!(world.calls("PUT", &path), 2);
}

#[tokio::test]
async fn down_removes_all_that_the_project_has_and_nothing_of_default() {
    let world = World::new(GOOD).await;
    let operator = operator(&world).await;
    let order = order(1);
    let placement = world.place(&order).await;
    let project = placement.project.to_string();
    // As an operator may have set the project up who wanted more in it.
    let config: ConfigMap = [
        ("features.images", "false"),
        ("features.profiles", "true"),
        ("features.networks", "true"),
        ("features.storage.volumes", "true"),
        ("user.lnplaylive.order", &order.id.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    operator.create_project(&project, "", &config).await.expect("created");
    let volumes = Collection::StorageVolumes { pool: "default".into() };
    for (collection, name) in
        [(&Collection::Profiles, "more"), (&Collection::Networks, "net"), (&volumes, "data")]
    {
        for project in [project.as_str(), "default"] {
            operator.create(collection, project, name, &ConfigMap::new()).await.expect("created");
        }
    }
    assert_eq!(operator.project(&project).await.expect("there").contents().len(), 4);
    world.take_down(&order, &placement).await;
    let left = operator.project("default").await.expect("there").contents();
    assert_eq!(left.len(), 6, "two profiles, two networks, a volume, an image: {left:?}");
}

#[tokio::test]
async fn an_instance_that_is_running_again_is_stopped_again() {
    let world = World::new(GOOD).await;
    let order = order(1);
    let placement = world.place(&order).await;
    let faults = world.remote().faults();
    faults.on("PUT", "/1.0/instances/*/state", 1, Fault::FailOperation("exit status 1".into()));
    let error = world.provisioner.bring_up(&order, &placement).await.expect_err("it does not start");
    names(&error, &["sim-0", "start instance lnplay", &placement.project.to_string(), "exit status 1"]);
    faults.on("DELETE", "/1.0/instances/*", 2, Fault::Error(400, "Instance is running".into()));
    world.take_down(&order, &placement).await;
    let path = format!("/1.0/instances/{}", instance_name(placement.project));
    assert_eq!(world.calls("DELETE", &path), 3);
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let world = World::new(GOOD).await;
    let (ours, theirs) = (order(1), order(1));
    let placement = world.place(&ours).await;
    let project = placement.project.to_string();
    let config: ConfigMap = [("user.lnplaylive.order".to_owned(), theirs.id.to_string())].into();
    operator(&world).await.create_project(&project, "", &config).await.expect("created");
    let before = world.remote().projects();
    let error = world.provisioner.bring_up(&ours, &placement).await.expect_err("not ours");
    assert!(matches!(error, Error::NotOurs { .. }), "{error}");
    names(&error, &["sim-0", &project]);
    let until = placement.project.expires();
    let error = world.provisioner.hand_over(ours.id, &placement, until).await.expect_err("not ours");
    assert!(matches!(error, Error::NotOurs { .. }), "{error}");
    world.provisioner.take_down(ours.id, &leftover(&placement)).await.expect("there is nothing of ours");
    assert_eq!(world.remote().projects(), before);
}

#[tokio::test]
async fn a_pool_without_space_is_said_so() {
    let world = World::new(GOOD).await;
    let order = order(1);
    let placement = world.place(&order).await;
    let text = "Failed creating instance from image: write /pool/rootfs/usr: no space left on device";
    world.remote().faults().on("POST", "/1.0/instances", 1, Fault::FailOperation(text.into()));
    let error = world.provisioner.bring_up(&order, &placement).await.expect_err("no space");
    names(
        &error,
        &["sim-0", "create instance lnplay", &placement.project.to_string(), "no space left", text],
    );
    world.take_down(&order, &placement).await;
}

#[tokio::test]
async fn a_port_that_something_else_has_is_said_so() {
    let world = World::new(GOOD).await;
    let taken = std::net::TcpListener::bind((world.address, 0)).expect("a port");
    let first = taken.local_addr().expect("an address").port() - 1;
    let order = order(1);
    let placement = placement(&order, "sim-0", PortBlock { first, count: 2 });
    let error = world.provisioner.bring_up(&order, &placement).await.expect_err("taken");
    assert!(matches!(error, Error::PortTaken { .. }), "{error}");
    names(&error, &["sim-0", &first.to_string(), "address already in use"]);
    world.take_down(&order, &placement).await;
}

/// An attempt that ends, as with its process, once the server makes the instance and is not done.
async fn half_made(world: &World) -> (lnplaylive_core::Order, lnplaylive_core::Placement, String) {
    let order = order(1);
    let placement = world.place(&order).await;
    world.remote().faults().on("POST", "/1.0/instances", 1, Fault::HalfMade);
    let name = instance_name(placement.project);
    let listed = || world.remote().projects().iter().any(|p| p.instances.contains_key(&name));
    tokio::select! {
        result = world.provisioner.bring_up(&order, &placement) => panic!("it is not whole: {result:?}"),
        () = support::until("the instance is listed", listed) => {}
    }
    (order, placement, name)
}

#[tokio::test]
async fn an_instance_that_is_being_made_is_waited_for() {
    let world = World::new(GOOD).await;
    let (order, placement, _) = half_made(&world).await;
    let bring_up = world.provisioner.bring_up(&order, &placement);
    let finish = async {
        let asked = || world.calls("GET", "/1.0/operations") == 1;
        support::until("somebody asks what the server is doing", asked).await;
        world.remote().faults().clear();
    };
    let (result, ()) = tokio::join!(bring_up, finish);
    result.expect("it runs");
    assert_eq!(world.calls("DELETE", &format!("/1.0/instances/{}", instance_name(placement.project))), 0);
    world.provisioner.deploy(&order, &placement, |_| ()).await.expect("deployed");
}

#[tokio::test]
async fn an_instance_that_was_left_half_made_is_made_again() {
    let world = World::new(GOOD).await;
    let (order, placement, name) = half_made(&world).await;
    world.remote().forget_operations();
    world.provisioner.bring_up(&order, &placement).await.expect("it runs");
    assert_eq!(world.calls("DELETE", &format!("/1.0/instances/{name}")), 1);
    world.provisioner.deploy(&order, &placement, |_| ()).await.expect("deployed");
    world.take_down(&order, &placement).await;
}

#[tokio::test]
async fn a_full_port_range_is_said_so() {
    let world = World::new(GOOD).await;
    let reports = world.provisioner.survey().await;
    let candidates = world.provisioner.candidates(&reports);
    let ports = PortBlock { first: 20000, count: 1000 };
    let all = [Placed { remote: "sim-0".into(), member: None, ports, address: None, until: None, hours: 1 }];
    let error = choose(&candidates, nodes(8), &all, &[], 0).expect_err("full");
    assert_eq!(error.to_string(), "remote \"sim-0\": has no 9 free ports in a row");
}

#[tokio::test]
async fn what_is_being_removed_is_not_handed_over_nor_extended() {
    let world = World::new(GOOD).await;
    let order = order(1);
    let placement = world.place(&order).await;
    world.provisioner.bring_up(&order, &placement).await.expect("it runs");
    let operator = operator(&world).await;
    let mut project = operator.project(&placement.project.to_string()).await.expect("there");
    let created = project.config["user.lnplaylive.created"].parse::<i64>().expect("a time");
    assert!((0..60).contains(&(Timestamp::now().as_second() - created)), "{created}");
    project.config.insert("user.lnplaylive.removing".into(), "1700000000".into());
    operator.update_project(&project).await.expect("marked");
    let before = world.remote().projects();
    let until = placement.project.expires();
    let error = world.provisioner.hand_over(order.id, &placement, until).await.expect_err("too late");
    assert!(matches!(error, Error::BeingRemoved { .. }), "{error}");
    names(&error, &["sim-0", &placement.project.to_string(), "is being removed"]);
    let later = until + jiff::SignedDuration::from_hours(1);
    let extended = world.provisioner.extend(order.id, "sim-0", placement.project, later).await;
    assert!(matches!(extended, Err(Error::BeingRemoved { .. })));
    assert_eq!(world.remote().projects(), before);
    world.take_down(&order, &placement).await;
}
