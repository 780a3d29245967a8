//! Two shops on one remote: each serves its own environments, and makes room for the other's.

mod support;

use lnplaylive_core::order::Severity;
use lnplaylive_core::tags::KEY_SHOP;
use lnplaylive_core::{Order, Placement};
use provisioner::{Choice, Environment, Error, Provisioner, RemoteReport, choose};
use support::{GOOD, World, names, nodes, order, placement, quoted, remote_settings, write};
use tempfile::TempDir;

/// Another shop on the world's remote.
struct Other {
    provisioner: Provisioner,
    _dir: TempDir,
}

impl Other {
    /// With these settings of the remote.
    fn new(world: &World, settings: impl Fn(&str, &std::path::Path) -> String) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let token = write(dir.path(), "token", &world.remote().token("other"));
        let settings = settings(&world.remote().url(), &token);
        Self { provisioner: support::provisioner(&settings, dir.path()).expect("settings"), _dir: dir }
    }

    fn on(world: &World) -> Self {
        Self::new(world, |url, token| remote_settings("sim-0", url, token, world.address, 0))
    }
}

async fn chosen(provisioner: &Provisioner, order: &Order, failed: u32) -> Placement {
    let reports = uploaded(provisioner).await;
    let choice = choose(&provisioner.candidates(&reports), nodes(1), &[], &[], failed).expect("room");
    let Choice { remote, member, ports, address } = choice;
    Placement { member, address, ..placement(order, &remote, ports) }
}

/// The reports once no image is being uploaded.
async fn uploaded(provisioner: &Provisioner) -> Vec<RemoteReport> {
    loop {
        let reports = provisioner.survey().await;
        if !reports[0].load.as_ref().is_err_and(|reason| reason.contains("is being uploaded")) {
            return reports;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn environments(provisioner: &Provisioner) -> Vec<Environment> {
    let report = provisioner.survey().await.remove(0);
    report.load.expect("a report").environments
}

#[tokio::test]
async fn each_knows_its_own_and_counts_all() {
    let world = World::new(GOOD).await;
    let other = Other::on(&world);
    let (ours, theirs) = (order(1), order(1));
    let our_placement = world.provision(&ours).await.expect("provisioned");
    let their_placement = chosen(&other.provisioner, &theirs, 0).await;
    assert_ne!(our_placement.ports, their_placement.ports, "those of the other shop are not free");
    other.provisioner.bring_up(&theirs, &their_placement).await.expect("it runs");

    for (provisioner, own) in [(&world.provisioner, &our_placement), (&other.provisioner, &their_placement)] {
        let environments = environments(provisioner).await;
        assert_eq!(environments.len(), 2);
        let owned: Vec<_> = environments.iter().filter(|one| one.is_own).map(|one| one.project).collect();
        assert_eq!(owned, [own.project]);
    }

    // One that is older than the key that names the shop.
    let config = world.remote().projects().into_iter().find(|p| p.name == our_placement.project.to_string());
    let mut config = config.expect("it is there").config;
    config.remove(KEY_SHOP).expect("it names its shop");
    world.remote().add_project(&our_placement.project.to_string(), config);
    for (provisioner, owned) in [(&world.provisioner, 1), (&other.provisioner, 2)] {
        let environments = environments(provisioner).await;
        assert_eq!(environments.iter().filter(|one| one.is_own).count(), owned);
    }
}

/// The second one fails as where something else has the ports, and its next placement goes well.
async fn both_choose_at_the_same_moment(first: &Provisioner, second: &Provisioner) -> Error {
    let orders = [order(1), order(1)];
    let placements = [chosen(first, &orders[0], 0).await, chosen(second, &orders[1], 0).await];
    assert_eq!(placements[0].ports, placements[1].ports);
    assert_eq!(placements[0].address, placements[1].address);
    first.bring_up(&orders[0], &placements[0]).await.expect("it runs");
    let error = second.bring_up(&orders[1], &placements[1]).await.expect_err("they are taken");
    assert_eq!(
        error.severity(),
        Severity::Final,
        "another placement may work, and the remote is well: {error}"
    );
    second.take_down(orders[1].id, &placements[1].leftover()).await.expect("taken down");
    let again = chosen(second, &orders[1], 1).await;
    second.bring_up(&orders[1], &again).await.expect("it runs");
    error
}

#[tokio::test]
async fn the_same_ports_at_the_same_moment() {
    let world = World::new(GOOD).await;
    let other = Other::on(&world);
    let error = both_choose_at_the_same_moment(&world.provisioner, &other.provisioner).await;
    assert!(matches!(error, Error::PortTaken { .. }), "{error}");
    names(&error, &["sim-0", "is taken"]);
}

#[tokio::test]
async fn the_same_address_at_the_same_moment() {
    let world = World::made(GOOD, 1, "", |_, config| config.virtual_machines = true).await;
    let dir = tempfile::tempdir().expect("a directory");
    let files = ["metadata", "disk"].map(|name| {
        let path = dir.path().join(name);
        // A server takes it for a compressed file.
        std::fs::write(&path, b"\x1f\x8b").expect("written");
        path
    });
    // The shops have ranges of ports of their own, and share the addresses.
    let machines = |first: u16| {
        let (address, files) = (world.address, &files);
        move |url: &str, token: &std::path::Path| {
            format!(
                "\n[[remotes]]\nname = \"sim-0\"\nurl = {url:?}\ntoken_file = {}\nlisten_address = \"{address}\"\n\
                 ssh_host = \"{address}\"\nports = {{ first = {first}, last = {} }}\n\
                 vm_addresses = {{ first = \"10.10.10.100\", last = \"10.10.10.110\" }}\n\
                 image_metadata_file = {}\nimage_rootfs_file = {}\n",
                quoted(token),
                first + 99,
                quoted(&files[0]),
                quoted(&files[1]),
            )
        }
    };
    let (one, two) = (Other::new(&world, machines(20000)), Other::new(&world, machines(20100)));
    let orders = [order(1), order(1)];
    let placements =
        [chosen(&one.provisioner, &orders[0], 0).await, chosen(&two.provisioner, &orders[1], 0).await];
    assert_eq!(placements[0].address, placements[1].address);
    one.provisioner.bring_up(&orders[0], &placements[0]).await.expect("it runs");
    let error = two.provisioner.bring_up(&orders[1], &placements[1]).await.expect_err("it is taken");
    assert!(matches!(error, Error::AddressTaken { .. }), "{error}");
    assert_eq!(error.severity(), Severity::Final);
    names(&error, &["sim-0", "10.10.10.100 is taken"]);
    two.provisioner.take_down(orders[1].id, &placements[1].leftover()).await.expect("taken down");
    let again = chosen(&two.provisioner, &orders[1], 1).await;
    assert_ne!(again.address, placements[1].address);
    two.provisioner.bring_up(&orders[1], &again).await.expect("it runs");
}

#[tokio::test]
async fn the_id_is_made_once_and_the_settings_override_it() {
    let world = World::new(GOOD).await;
    let stored = || provisioner::shop::stored_id(&world.dir.path().join("state")).expect("it can be read");
    let id = stored().expect("it was made");
    drop(world.restarted());
    assert_eq!(stored().as_ref(), Some(&id));

    let path = world.dir.path().join("settings.toml");
    let settings = std::fs::read_to_string(&path).expect("readable");
    write(world.dir.path(), "settings.toml", &format!("[shop]\nid = \"named\"\n{settings}"));
    let order = order(1);
    let named = world.restarted();
    let placement = chosen(&named, &order, 0).await;
    named.bring_up(&order, &placement).await.expect("it runs");
    let projects = world.remote().projects();
    let project = projects.iter().find(|p| p.name == placement.project.to_string()).expect("it is there");
    assert_eq!(project.config[KEY_SHOP], "named");

    write(world.dir.path(), "settings.toml", &settings);
    write(&world.dir.path().join("state/remotes"), "shop.id", "Not An Id\n");
    let error = support::provisioner(&settings, world.dir.path()).expect_err("it cannot be read");
    names(&error, &["shop.id"]);
}
