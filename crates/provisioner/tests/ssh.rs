//! The faults between a running instance and its connection strings, none of which leaves anything behind.

mod support;

use std::time::Duration;

use lnplaylive_core::order::Severity;
use provisioner::Error;
use sim_lxd::SshFault;
use support::{GOOD, World, names, order, ssh_processes, until};

/// Little patience with instances that boot.
const HASTY: &str = "boot_timeout_secs = 2\n";

async fn nothing_is_left(world: &World) {
    let address = world.address;
    until("no ssh is left", || ssh_processes(address).is_empty()).await;
    assert_eq!(world.remote().projects().len(), 1, "nor a project");
}

#[tokio::test]
async fn an_instance_that_never_opens_ssh() {
    let world = World::with(GOOD, 1, HASTY).await;
    for fault in [SshFault::Closed, SshFault::Silent] {
        world.remote().faults().on_ssh(fault);
        let error = world.fails_to_deploy().await;
        assert!(matches!(error, Error::Ssh { .. }), "{error}");
        assert_eq!(error.severity(), Severity::Remote);
        names(&error, &["no way in for 2 s", &format!("{}:20000", world.address)]);
    }
    nothing_is_left(&world).await;
}

#[tokio::test]
async fn an_instance_that_opens_ssh_late() {
    let world = World::new(GOOD).await;
    world.remote().faults().on_ssh(SshFault::Closed);
    let order = order(2);
    let placement = world.place(&order).await;
    world.provisioner.bring_up(&order, &placement).await.expect("it runs");
    let deploy = world.provisioner.deploy(&order, &placement, |_| ());
    let open = async {
        let tried = || !ssh_processes(world.address).is_empty();
        until("the first try", tried).await;
        world.remote().faults().clear();
    };
    let (result, ()) = tokio::join!(deploy, open);
    result.expect("deployed");
}

#[tokio::test]
async fn another_host_key() {
    let world = World::new(GOOD).await;
    world.remote().faults().on_ssh(SshFault::OtherHostKey);
    let error = world.fails_to_deploy().await;
    assert_eq!(error.severity(), Severity::Remote);
    names(&error, &["its host key is not the one we made"]);
    nothing_is_left(&world).await;
}

#[tokio::test]
async fn lnplay_that_does_not_do_its_work() {
    let cases = [
        ("exit 3", &["lnplay up", "exit status: 3", "its log ends: it hurts"][..]),
        ("cat > /dev/null; echo Segmentation fault", &["printed rubbish: Segmentation fault"]),
        ("printf '\\377\\376\\n'", &["printed rubbish"]),
        ("echo '{\"event\":\"failed\",\"message\":\"no bitcoind\"}'; exit 1", &["no bitcoind"]),
        ("echo '{\"event\":\"ready\",\"connection_strings\":[\"STRING\"]}'", &["1 connection strings for 2"]),
        (
            "echo '{\"event\":\"ready\",\"connection_strings\":[\"STRING\",\"STRING\"]}'; exit 1",
            &["status: 1"],
        ),
        (
            "yes '{\"event\":\"progress\",\"step\":\"a\",\"done\":1,\"total\":2,\"message\":\"\"}'",
            &["more than 1048576"],
        ),
        ("head -c 3000000 /dev/zero", &["printed rubbish"]),
    ];
    for (script, words) in cases {
        let world = World::new(&format!("#!/bin/sh\necho it hurts >&2\n{script}\n")).await;
        let error = world.fails_to_deploy().await;
        assert!(matches!(error, Error::Lnplay { .. }), "{script}: {error}");
        assert_eq!(error.severity(), Severity::Remote);
        names(&error, words);
        nothing_is_left(&world).await;
    }
}

/// The same as a connection that is lost on the way: `lnplay` works on in the instance, and the next attempt follows it.
#[tokio::test]
async fn a_session_that_is_killed() {
    let world = World::new("#!/bin/sh\nkill -9 $$\n").await;
    let error = world.fails_to_deploy().await;
    assert!(matches!(error, Error::Ssh { .. }), "{error}");
    assert_eq!(error.severity(), Severity::Passing);
    names(&error, &["lost while lnplay worked"]);
    nothing_is_left(&world).await;
}

/// Whoever is root in an instance prints what they like. Nobody is led to their server, to a neighbour's port, or to their page.
#[tokio::test]
async fn strings_that_lead_elsewhere() {
    let cases = [
        (
            "s/@[0-9.]*:/@203.0.113.9:/",
            "leads to http://localhost:3000/connect and ws://203.0.113.9:20001, not to",
        ),
        ("s/:20002&/:20009\\&/", "node 1 leads to"),
        ("s/:20001&/:20002\\&/", "node 0 leads to"),
        ("s/localhost:3000/evil.example/g", "leads to http://evil.example/connect and"),
        ("s/value=ws:/value=wss:/g", "and wss://"),
        ("s/&rune/\\&path=%2Felsewhere\\&rune/g", "/elsewhere, not to"),
        (
            "s/cnVuZQ==/RRRRRRRRRRRRRRRRRRRR/g; s/R/RRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRR/g",
            "bytes; 1200 are allowed",
        ),
    ];
    for (change, words) in cases {
        // Its last line, changed.
        let script = GOOD.replacen("[$strings]}\"", &format!("[$strings]}}\" | sed '{change}'"), 1);
        let world = World::new(&script).await;
        let error = world.fails_to_deploy().await;
        assert!(matches!(error, Error::Lnplay { .. }), "{change}: {error}");
        names(&error, &[words]);
    }
}

#[tokio::test]
async fn an_image_without_lnplay() {
    let world = World::made(GOOD, 1, "", |_, config| config.lnplay = "/nowhere/lnplay".into()).await;
    names(&world.fails_to_deploy().await, &["there is no lnplay in the image"]);
}

/// Nobody waits for it any more: while it connects to one that answers and to one that does not, and while `lnplay` works.
#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_dropped_leaves_no_ssh_behind() {
    let world = World::new("#!/bin/sh\ntouch \"$HOME/working\"\nsleep 1000\n").await;
    let order = order(2);
    let placement = world.place(&order).await;
    world.provisioner.bring_up(&order, &placement).await.expect("it runs");
    let instances = world.dir.path().join("r0/i");
    let connects = || !ssh_processes(world.address).is_empty();
    let works = || {
        let mut all = std::fs::read_dir(&instances).expect("readable");
        all.any(|i| i.is_ok_and(|i| i.path().join("working").exists()))
    };
    let moments: [(Option<SshFault>, &dyn Fn() -> bool); 4] =
        [(None, &connects), (None, &connects), (Some(SshFault::Silent), &connects), (None, &works)];
    for (fault, moment) in moments {
        world.remote().faults().clear();
        if let Some(fault) = fault {
            world.remote().faults().on_ssh(fault);
        }
        tokio::select! {
            _ = world.provisioner.deploy(&order, &placement, |_| ()) => panic!("it takes long"),
            () = until("the moment to drop it", moment) => {}
        }
        // Sooner than a connection ends of itself that nobody uses.
        let gone = until("no ssh is left", || ssh_processes(world.address).is_empty());
        tokio::time::timeout(Duration::from_secs(25), gone).await.expect("it is closed");
    }
    world.take_down(&order, &placement).await;
}

/// A process that is killed cannot clean up after itself: the next one does.
#[tokio::test]
async fn keys_that_a_killed_process_left_are_removed() {
    let mut ended = std::process::Command::new("true").spawn().expect("it starts");
    let pid = ended.id();
    ended.wait().expect("it ends");
    let temp = std::env::temp_dir();
    let (stale, alive) = (
        temp.join(format!("lnplaylive-ssh-{pid}-stale")),
        temp.join(format!("lnplaylive-ssh-{}-alive", std::process::id())),
    );
    for dir in [&stale, &alive] {
        std::fs::create_dir_all(dir).expect("made");
        std::fs::write(dir.join("key"), "a key").expect("written");
    }
    drop(World::new(GOOD).await);
    let left = [stale.exists(), alive.exists()];
    std::fs::remove_dir_all(&alive).expect("ours");
    assert_eq!(left, [false, true]);
}
