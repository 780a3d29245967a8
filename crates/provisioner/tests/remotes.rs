//! Remotes: who they are, how they are, and those that are not what they should be.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::SignedDuration;
use lnplaylive_core::order::{Placement, Severity};
use provisioner::{Avoid, Claims, Environment, Error, Memory, NoRoom, Provisioner, Room, choose};
use sim_lxd::{Fault, SimMember};
use support::{
    GOOD, World, leftover, names, nodes, order, placement, provisioner, quoted, remote_settings, until, write,
};
use tokio::net::{TcpListener, TcpStream};

/// The reason why no remote can take an environment.
async fn refusal(provisioner: &Provisioner) -> String {
    let reports = provisioner.survey().await;
    let result: Result<_, NoRoom> = choose(&provisioner.candidates(&reports), nodes(8), &[], &[], 0);
    result.expect_err("no room").to_string()
}

/// A text says all of this, and does not begin with the remote twice.
#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    assert!(!text.starts_with("remote \"sim-0\": remote"), "{text}");
}

#[tokio::test]
async fn a_report_tells_what_placement_needs() {
    let world = World::new(GOOD).await;
    world.remote().set_memory(16 << 30, 4 << 30);
    let (first, second) = (order(8), order(1));
    world.provision(&first).await.expect("provisioned");
    let placement = world.place(&second).await;
    world.provisioner.bring_up(&second, &placement).await.expect("it runs");
    let reports = world.provisioner.survey().await;
    let load = reports[0].load.as_ref().expect("a report");
    assert_eq!(load.environments.len(), 2);
    assert_eq!(load.memory(), Memory { total: 16 << 30, used: 4 << 30 });
    assert_eq!(load.coming().collect::<Vec<_>>(), [placement.ports], "the other one was handed over");
    assert!(!load.clustered && load.machines().all(|machine| machine.cpus > 0));
    let candidates = world.provisioner.candidates(&reports);
    let room = Room::new(&candidates, &Claims::default()).count(nodes(8));
    assert!(room > 0 && room < (1000 - 9 - 2) / 9, "memory is scarcer than ports: {room}");
    world.remote().set_memory(16 << 30, 15 << 30);
    says(&refusal(&world.provisioner).await, &["sim-0", "15360 of 16384 MiB", "max_memory_percent"]);
}

#[tokio::test]
async fn a_clock_that_differs_is_a_fault_as_soon_as_it_does() {
    let world = World::new(GOOD).await;
    let faults =
        async || world.provisioner.check("sim-0").await.expect("it answers").findings.faults.join("; ");
    assert_eq!(faults().await, "");
    for minutes in [-11, 11] {
        world.remote().faults().on_clock(SignedDuration::from_mins(minutes));
        says(&faults().await, &["this machine's clock shows", "the server's", "set the wrong one"]);
    }
    world.remote().faults().on_clock(SignedDuration::from_mins(9));
    assert_eq!(faults().await, "");
}

#[tokio::test]
async fn a_cluster_reports_its_members_that_are_online() {
    let world = World::made(GOOD, 1, "", |_, config| {
        config.cluster = ["a", "b", "c"].map(SimMember::new).into();
        config.offline_after = Duration::ZERO;
    })
    .await;
    world.remote().set_memory(8 << 30, 1 << 30);
    world.remote().member("b").kill().await;
    let reports = world.provisioner.survey().await;
    let load = reports[0].load.as_ref().expect("a report");
    let members: Vec<_> =
        load.members.iter().map(|m| (m.name.as_deref().expect("a name"), m.machine.as_ref().err())).collect();
    assert_eq!(members, [("a", None), ("b", Some(&"is Offline".to_owned())), ("c", None)]);
    assert_eq!(load.memory(), Memory { total: 16 << 30, used: 2 << 30 });
    let (_, calls) = world.count(world.provisioner.survey()).await;
    assert_eq!(calls, 2, "what the machines have is asked for less often");
    world.provision(&order(2)).await.expect("on a member that is there");
}

/// A cluster of members with these names, whose deaths are noticed at once.
async fn cluster(names: &[&str]) -> World {
    let members: Vec<_> = names.iter().map(|name| SimMember::new(*name)).collect();
    World::made(GOOD, 1, "", move |_, config| {
        config.cluster.clone_from(&members);
        config.offline_after = Duration::ZERO;
    })
    .await
}

/// An environment as the cluster reports it.
async fn environment(world: &World, placement: &Placement) -> Environment {
    let reports = world.provisioner.survey().await;
    let load = reports[0].load.as_ref().expect("a report");
    let found = load.environments.iter().find(|one| one.project == placement.project);
    found.expect("it is there").clone()
}

#[tokio::test]
async fn each_member_gets_environments_and_each_is_reached() {
    let world = cluster(&["a", "b"]).await;
    let mut hosts = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let order = order(1);
        let placement = world.provision(&order).await.expect("reached");
        let environment = environment(&world, &placement).await;
        assert_eq!(environment.member, placement.member);
        let member = world.remote().member(placement.member.as_deref().expect("a member"));
        assert_eq!(environment.host, Some(member.address().to_string()));
        hosts.insert(environment.host);
        member.set_memory(1 << 40, 512 << 30);
    }
    assert_eq!(hosts.len(), 2, "both have some: {hosts:?}");
}

#[tokio::test]
async fn an_evacuated_environment_is_found_again() {
    let world = cluster(&["a", "b"]).await;
    let order = order(1);
    let placement = world.provision(&order).await.expect("provisioned");
    let member = placement.member.as_deref().expect("a member");
    let other = if member == "a" { "b" } else { "a" };
    world.remote().member(member).evacuate().await.expect("it moves");
    let moved = environment(&world, &placement).await;
    assert_eq!((moved.member.as_deref(), moved.moved_from.as_deref()), (Some(other), Some(member)));
    let host = world.remote().member(other).address().to_string();
    assert_eq!(moved.host, Some(host.clone()));
    TcpStream::connect((host.as_str(), placement.ports.first)).await.expect("its ports are open there");

    let reports = world.provisioner.survey().await;
    world.provisioner.follow_moves(&reports).await;
    let followed = environment(&world, &placement).await;
    assert_eq!((followed.member.as_deref(), followed.moved_from), (Some(other), None), "noted");
    world.take_down(&order, &placement).await;
}

#[tokio::test]
async fn a_lost_member_ends_the_step_at_once() {
    let world = cluster(&["a", "b"]).await;
    let order = order(1);
    let placement = world.place(&order).await;
    world.provisioner.bring_up(&order, &placement).await.expect("it runs");
    let member = placement.member.clone().expect("a member");
    world.remote().member(&member).kill().await;
    let error = world.provisioner.deploy(&order, &placement, |_| ()).await.expect_err("it is gone");
    assert!(matches!(error, Error::MemberLost { .. }), "{error}");
    assert_eq!(error.severity(), Severity::Final);
    names(&error, &["sim-0", &member, "is Offline"]);
    let error = world.provisioner.take_down(order.id, &leftover(&placement)).await.expect_err("not yet");
    assert!(matches!(error, Error::MemberLost { .. }), "{error}");
    // And the next one goes elsewhere, whichever member the URL leads to.
    world.provision(&support::order(1)).await.expect("on the other");
    world.remote().member(&member).revive().await.expect("back");
    world.take_down(&order, &placement).await;
}

#[tokio::test]
async fn the_api_is_reached_through_any_member_also_after_a_restart() {
    let world = cluster(&["a", "b", "c"]).await;
    world.provision(&order(1)).await.expect("provisioned");
    world.remote().member("a").kill().await;
    let placement = world.provision(&order(1)).await.expect("through another");
    assert_ne!(placement.member.as_deref(), Some("a"));
    let settings = std::fs::read_to_string(world.dir.path().join("settings.toml")).expect("settings");
    let again = provisioner(&settings, world.dir.path()).expect("settings");
    let reports = again.survey().await;
    assert!(reports[0].load.is_ok(), "the host of the URL is down, and others were kept: {reports:?}");
}

#[tokio::test]
async fn a_member_that_its_operator_keeps_for_himself_gets_nothing() {
    let world = cluster(&["a", "b"]).await;
    world.remote().member("a").set_config("scheduler.instance", "manual");
    let placement = world.place(&order(1)).await;
    assert_eq!(placement.member.as_deref(), Some("b"));
    world.remote().member("b").set_config("scheduler.instance", "group");
    says(&refusal(&world.provisioner).await, &["member a: has scheduler.instance=manual", "member b:"]);
}

#[tokio::test]
async fn a_remote_that_is_down_at_first_is_enrolled_later() {
    let world = World::with(GOOD, 2, "").await;
    // Stands before the first one, and lets nobody through for now.
    let gate = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", gate.local_addr().expect("an address"));
    let open = Arc::new(AtomicBool::new(false));
    let target = world.remote().url().replace("https://", "");
    let is_open = Arc::clone(&open);
    tokio::spawn(async move {
        while let Ok((mut incoming, _)) = gate.accept().await {
            if is_open.load(Ordering::Relaxed)
                && let Ok(mut outgoing) = TcpStream::connect(&target).await
            {
                tokio::spawn(
                    async move { tokio::io::copy_bidirectional(&mut incoming, &mut outgoing).await },
                );
            }
        }
    });
    let dir = world.dir.path();
    let settings = remote_settings("gated", &url, &dir.join("token-0"), world.address, 0)
        + &remote_settings("open", &world.remotes[1].url(), &dir.join("token-1"), world.address, 1);
    let own = provisioner(&settings, dir).expect("settings");
    let reports = own.survey().await;
    let error = reports[0].load.as_ref().expect_err("it is down");
    assert!(error.contains("gated") && error.contains("could not be reached"), "{error}");
    let candidates = own.candidates(&reports);
    assert_eq!(choose(&candidates, nodes(8), &[], &[], 0).expect("room").remote, "open");
    open.store(true, Ordering::Relaxed);
    let reports = own.survey().await;
    assert!(reports.iter().all(|r| r.load.is_ok()), "{reports:?}");
    // The next start needs the token no more: the client is known, the certificate pinned.
    write(dir, "token-0", &world.remote().token("unused"));
    let again = provisioner(&settings, dir).expect("settings");
    assert!(again.survey().await[0].load.is_ok());
}

#[tokio::test]
async fn trust_that_was_withdrawn_is_regained_with_a_new_token() {
    let world = World::new(GOOD).await;
    assert!(world.provisioner.survey().await[0].load.is_ok());
    world.remote().distrust_all();
    says(&refusal(&world.provisioner).await, &["sim-0", "refuses", "not authorized"]);
    // The one that it began with was used.
    says(&refusal(&world.provisioner).await, &["sim-0", "enrolment token", "new one"]);
    write(world.dir.path(), "token-0", &world.remote().token("again"));
    let report = world.provisioner.survey().await.remove(0);
    assert!(report.load.is_ok(), "{report:?}");
    world.provision(&order(1)).await.expect("provisioned");
}

#[tokio::test]
async fn a_token_that_was_used_or_is_wrong_is_said_so() {
    let world = World::new(GOOD).await;
    assert!(world.provisioner.survey().await[0].load.is_ok());
    // Somebody else, who comes with the same token.
    let other = tempfile::tempdir().expect("a directory");
    let token = world.dir.path().join("token-0");
    let settings = remote_settings("sim-0", &world.remote().url(), &token, world.address, 0);
    let late = provisioner(&settings, other.path()).expect("settings");
    let text = refusal(&late).await;
    says(&text, &["sim-0", "enrolment token", token.to_str().expect("text"), "used"]);
    assert_eq!(world.remote().projects().len(), 1);
    // A new token, and all is well, with no restart but that of the program.
    write(world.dir.path(), "token-0", &world.remote().token("shop"));
    let again = provisioner(&settings, other.path()).expect("settings");
    assert!(again.survey().await[0].load.is_ok());

    let token = write(other.path(), "rubbish", "no token at all");
    let settings = remote_settings("sim-0", &world.remote().url(), &token, world.address, 0);
    let error = provisioner(&settings, other.path()).expect_err("no token");
    assert!(error.to_string().contains("remotes.sim-0.token_file"), "{error}");
}

#[tokio::test]
async fn another_server_behind_the_address_is_said_so() {
    let world = World::with(GOOD, 2, "").await;
    let token = world.dir.path().join("token-0");
    let settings = remote_settings("sim-0", &world.remotes[1].url(), &token, world.address, 0);
    let dir = tempfile::tempdir().expect("a directory");
    let own = provisioner(&settings, dir.path()).expect("settings");
    let text = refusal(&own).await;
    says(&text, &["sim-0", world.remotes[0].fingerprint(), world.remotes[1].fingerprint(), "pinned"]);
    assert_eq!(world.remotes[1].faults().calls(), [], "not a word was said to it");
    let order = order(1);
    let placement = placement(&order, "sim-0", lnplaylive_core::order::PortBlock { first: 20000, count: 2 });
    let error = own.bring_up(&order, &placement).await.expect_err("another server");
    assert_eq!(error.severity(), Severity::Remote);
}

#[tokio::test]
async fn a_server_that_is_not_lxd_is_said_so() {
    let world = World::new(GOOD).await;
    world.remote().faults().on("GET", "/1.0", 9, Fault::Raw(200, "<html>Welcome to nginx!</html>".into()));
    says(&refusal(&world.provisioner).await, &["sim-0", "not LXD or Incus", "nginx"]);
}

#[tokio::test]
async fn a_client_certificate_that_has_expired_is_said_so() {
    let world = World::new(GOOD).await;
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let certificate = params.self_signed(&key).expect("a certificate");
    let dir = world.dir.path();
    let cert = write(dir, "client.crt", &certificate.pem());
    let key = write(dir, "client.key", &key.serialize_pem());
    let token = dir.join("token-0");
    let settings = remote_settings("sim-0", &world.remote().url(), &token, world.address, 0)
        + &format!("cert_file = {}\nkey_file = {}\n", quoted(&cert), quoted(&key));
    let own = provisioner(&settings, dir).expect("settings");
    says(&refusal(&own).await, &["sim-0", "client certificate has expired at 2020-01-01"]);
    assert!(world.provisioner.survey().await[0].load.is_ok(), "the token was not wasted on it");
}

#[tokio::test]
async fn a_remote_that_left_the_settings_is_said_so() {
    let world = World::new(GOOD).await;
    let order = order(1);
    let placement = placement(&order, "gone", lnplaylive_core::order::PortBlock { first: 20000, count: 2 });
    let error = world.provisioner.bring_up(&order, &placement).await.expect_err("not there");
    assert!(matches!(error, Error::NoSuchRemote { .. }), "{error}");
}

#[tokio::test]
async fn one_that_dies_in_the_middle_leaves_the_others_working() {
    let mut world = World::with(GOOD, 2, "").await;
    let first = order(1);
    let placement = world.place(&first).await;
    assert_eq!(placement.remote, "sim-0");
    world.provisioner.bring_up(&first, &placement).await.expect("it runs");
    world.remotes.remove(0).stop().await;
    let error = world.provisioner.deploy(&first, &placement, |_| ());
    let leftover = support::leftover(&placement);
    let error = tokio::select! {
        error = world.provisioner.take_down(first.id, &leftover) => error.expect_err("it is dead"),
        _ = error => panic!("SSH is tried for longer"),
    };
    assert_eq!(error.severity(), Severity::Passing);
    let reports = world.provisioner.survey().await;
    assert!(reports[0].load.is_err());
    let avoid = [Avoid { remote: "sim-0", member: None }];
    let choice = choose(&world.provisioner.candidates(&reports), nodes(1), &[], &avoid, 1).expect("room");
    assert_eq!(choice.remote, "sim-1");
    let address = world.address;
    until("no ssh is left", || support::ssh_processes(address).is_empty()).await;
}

#[tokio::test]
async fn a_project_whose_tags_cannot_be_read_is_reported_as_the_culler_does() {
    use lnplaylive_core::culling::{Verdict, judge};
    use lnplaylive_core::tags::{KEY_CREATED, KEY_EXPIRES, KEY_PORTS};
    let world = World::new(GOOD).await;
    let order = order(1);
    let placement = world.provision(&order).await.expect("provisioned");
    let name = placement.project.to_string();
    let find = || world.remote().projects().into_iter().find(|p| p.name == name).expect("it is there");
    let good = find().config;
    for key in [KEY_EXPIRES, KEY_CREATED, KEY_PORTS] {
        let mut config = good.clone();
        config.insert(key.into(), "garbled".into());
        world.remote().add_project(&name, config.clone());
        let Verdict::Malformed(error) =
            judge(&name, &config, None, jiff::Timestamp::MAX, jiff::SignedDuration::ZERO)
        else {
            panic!("{key}: the culler can read it");
        };
        let reports = world.provisioner.survey().await;
        let load = reports[0].load.as_ref().expect("a report");
        assert_eq!(load.environments, [], "{key}");
        let told = load.warnings.iter().any(|w| w.contains(&name) && w.contains(&error.to_string()));
        assert!(told, "{key}: {:?}", load.warnings);
        // Whatever has its ports is left alone, too.
        let next = world.place(&support::order(1)).await;
        let is_free = next.ports.ssh() > placement.ports.last();
        assert_eq!(is_free, key != KEY_PORTS, "{key}: {:?}", next.ports);
    }
}
