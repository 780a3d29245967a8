//! Instances from inside and outside: SSH, ports, and the lives of processes.

mod support;

use std::{net::IpAddr, process::Stdio};

use lxd_client::{DeviceMap, Status, Stop};
use sim_lxd::{SimRemote, SimRemoteConfig};
use support::{LONG, Ssh, World, config_map, free_port, is_alive, proxy, run, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

async fn address(world: &World, name: &str) -> IpAddr {
    let state = world.client.instance_state("default", name).await.expect("a state");
    assert_eq!(state.addresses.len(), 1, "{state:?}");
    state.addresses[0].address
}

#[tokio::test]
async fn commands_run_inside() {
    let world = World::new().await;
    let ssh = world.instance("i", DeviceMap::new()).await;
    let session = ssh.connect().await;
    assert_eq!(run(&session, "echo out; echo err >&2; exit 3").await, ("out\n".into(), 3));
    let output = session.raw_command("echo err >&2").output().await.expect("an end");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    let (text, _) =
        run(&session, "pwd; echo $HOME; echo $LNPLAY_DIR; echo $LNPLAY_ADDRESS; command -v lnplay").await;
    let lines: Vec<&str> = text.lines().collect();
    let [home, env_home, dir, inside, lnplay] = lines[..] else { panic!("{text}") };
    assert_eq!(home, env_home);
    assert_eq!(dir, format!("{home}/lnplay"));
    assert_eq!(inside, address(&world, "i").await.to_string());
    assert_eq!(lnplay, format!("{home}/bin/lnplay"));
    assert_eq!(run(&session, "lnplay").await.1, 0, "the configured executable, here `true`");
    session.close().await.expect("closed");
}

#[tokio::test]
async fn input_and_output_pass_whole_and_side_by_side() {
    let world = World::new().await;
    let ssh = world.instance("i", DeviceMap::new()).await;
    let session = ssh.connect().await;
    let echo = async |seed: u8| {
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0] ^ seed).collect();
        let mut cat = session
            .raw_command("cat")
            .stdin(openssh::Stdio::piped())
            .stdout(openssh::Stdio::piped())
            .spawn()
            .await
            .expect("started");
        let (mut stdin, mut stdout) = (cat.stdin().take().expect("in"), cat.stdout().take().expect("out"));
        let write = async {
            stdin.write_all(&sent).await.expect("sent");
            drop(stdin);
        };
        let mut got = Vec::new();
        let read = async { stdout.read_to_end(&mut got).await.expect("got") };
        tokio::join!(write, read);
        assert!(cat.wait().await.expect("an end").success());
        assert!(got == sent, "{} bytes came back", got.len());
    };
    // Channels of the same connection.
    tokio::join!(echo(1), echo(2), echo(3), echo(4));
    session.close().await.expect("closed");
}

#[tokio::test]
async fn another_host_key_or_login_key_is_refused() {
    let world = World::new().await;
    let ssh = world.instance("i", DeviceMap::new()).await;
    let mut stranger = Ssh::new();
    let error = ssh.connect_expecting(&stranger.host_key).await.expect_err("another host key");
    assert!(format!("{error:?}").contains("Host key verification failed"), "{error:?}");
    stranger.port = ssh.port;
    let error = stranger.connect_expecting(&ssh.host_key).await.expect_err("another login key");
    assert!(format!("{error:?}").contains("Permission denied"), "{error:?}");
}

#[tokio::test]
async fn a_command_that_is_killed_has_no_exit_code() {
    let world = World::new().await;
    let ssh = world.instance("i", DeviceMap::new()).await;
    let session = ssh.connect().await;
    let result = session.raw_command("kill -KILL $$").status().await;
    assert!(result.as_ref().map_or(true, |status| status.code() != Some(0)), "{result:?}");
    session.close().await.expect("closed");
}

#[tokio::test]
async fn proxied_ports_lead_inside_while_the_instance_runs() {
    let world = World::new().await;
    let (one, two) = (free_port(), free_port());
    let devices = [
        ("one".to_owned(), proxy(&format!("tcp:127.0.0.1:{one}"), "tcp:127.0.0.1:7001")),
        ("two".to_owned(), proxy(&format!("tcp:127.0.0.1:{two}"), "tcp:0.0.0.0:7002")),
    ];
    world.instance("i", devices.into()).await;
    // It need not be a process of the instance; only its address matters.
    let inside = address(&world, "i").await;
    for (outside, port) in [(one, 7001), (two, 7002)] {
        let listener = TcpListener::bind((inside, port)).await.expect("the instance's own port");
        let mut client = TcpStream::connect(("127.0.0.1", outside)).await.expect("the remote's port");
        let (mut server, _) = listener.accept().await.expect("led inside");
        client.write_all(b"ping").await.expect("sent");
        let mut four = [0; 4];
        server.read_exact(&mut four).await.expect("got");
        server.write_all(&four).await.expect("sent back");
        drop(server);
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.expect("got back");
        assert_eq!(back, b"ping");
    }
    let listener = TcpListener::bind((inside, 7001)).await.expect("the instance's own port");
    let mut open = TcpStream::connect(("127.0.0.1", one)).await.expect("the remote's port");
    let (_server, _) = listener.accept().await.expect("led inside");
    world.client.stop_instance("default", "i", Stop::Force, LONG).await.expect("stopped");
    let rest = open.read(&mut [0]).await;
    assert!(matches!(rest, Ok(0) | Err(_)), "its connections are cut: {rest:?}");
    for port in [one, two] {
        TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free again");
    }
    world.client.start_instance("default", "i", LONG).await.expect("started again");
    TcpStream::connect(("127.0.0.1", one)).await.expect("and so are its ports");
}

/// A NIC of the instance's own on the remote's bridge.
fn nic(address: &str) -> lxd_client::ConfigMap {
    config_map([("type", "nic"), ("name", "eth0"), ("network", "lxdbr0"), ("ipv4.address", address)])
}

fn nat(listen: &str, connect: &str) -> lxd_client::ConfigMap {
    config_map([("type", "proxy"), ("nat", "true"), ("listen", listen), ("connect", connect)])
}

#[tokio::test]
async fn a_virtual_machine_is_reached_through_its_static_address() {
    let world = World::new().await;
    let (ssh, node) = (Ssh::new(), free_port());
    let mut devices = support::root_disk();
    devices.insert("eth0".into(), nic("10.10.10.100"));
    devices.insert("ssh".into(), nat(&format!("tcp:127.0.0.1:{}", ssh.port), "tcp:10.10.10.100:22"));
    devices.insert("node".into(), nat(&format!("tcp:127.0.0.1:{node}"), "tcp:10.10.10.100:7001"));
    let spec = lxd_client::InstanceSpec {
        kind: lxd_client::InstanceType::VirtualMachine,
        config: config_map([("user.user-data", &ssh.user_data()), ("security.secureboot", "false")]),
        devices,
        ..support::spec("vm")
    };
    world.client.create_instance("default", &spec, LONG).await.expect("created");
    world.client.start_instance("default", "vm", LONG).await.expect("started");
    let session = ssh.connect().await;
    let inside: IpAddr = run(&session, "echo $LNPLAY_ADDRESS").await.0.trim().parse().expect("an address");
    let listener = TcpListener::bind((inside, 7001)).await.expect("the instance's own port");
    TcpStream::connect(("127.0.0.1", node)).await.expect("the remote's port");
    listener.accept().await.expect("led inside");
    session.close().await.expect("closed");
}

#[tokio::test]
async fn addresses_are_not_shared() {
    let world = World::new().await;
    world.instance("a", DeviceMap::new()).await;
    world.instance("b", DeviceMap::new()).await;
    assert_ne!(address(&world, "a").await, address(&world, "b").await);
}

/// A process that has left its session in every way: background, new session, parent gone.
const DAEMON: &str = "setsid sh -c 'echo $$ > pid; exec sleep 1000' > /dev/null 2>&1 < /dev/null &";

async fn daemon(session: &openssh::Session) -> String {
    assert_eq!(run(session, DAEMON).await.1, 0);
    until("the daemon's pid", async || !run(session, "cat pid").await.0.is_empty()).await;
    run(session, "cat pid").await.0
}

#[tokio::test]
async fn processes_outlive_their_session_and_end_with_the_instance() {
    let world = World::new().await;
    let ssh = world.instance("i", DeviceMap::new()).await;
    let session = ssh.connect().await;
    let pid = daemon(&session).await;
    session.close().await.expect("closed");
    let session = ssh.connect().await;
    assert!(is_alive(&pid), "an instance is a machine");
    world.client.stop_instance("default", "i", Stop::Force, LONG).await.expect("stopped");
    assert!(!is_alive(&pid));
    assert_eq!(world.client.instance("default", "i").await.expect("there").status, Status::Stopped);
    world.client.delete_instance("default", "i", LONG).await.expect("deleted");
    let left = std::fs::read_dir(world.dir.path().join("state/i")).expect("a directory").count();
    assert_eq!(left, 0, "instances' directories");
    drop(session);
}

#[tokio::test]
async fn stopping_one_instance_leaves_the_others() {
    let world = World::new().await;
    let mut all = Vec::new();
    for n in 0..18 {
        all.push(world.instance(&format!("i{n}"), DeviceMap::new()).await);
    }
    let mut pids = Vec::new();
    for ssh in &all[2..] {
        pids.push(daemon(&ssh.connect().await).await);
    }
    for name in ["i0", "i1"] {
        world.client.stop_instance("default", name, Stop::Force, LONG).await.expect("stopped");
    }
    assert!(pids.iter().all(|pid| is_alive(pid)), "those of other instances run on");
}

#[tokio::test]
async fn a_clean_stop_sends_sigterm_first() {
    let world = World::new().await;
    let ssh = world.instance("i", DeviceMap::new()).await;
    let session = ssh.connect().await;
    let script = "setsid sh -c 'trap \"sleep 0.2; echo bye > bye; exit\" TERM; echo > ready; while :; do sleep 0.05; done' \
                  > /dev/null 2>&1 < /dev/null &";
    assert_eq!(run(&session, script).await.1, 0);
    until("the trap", async || run(&session, "test -e ready").await.1 == 0).await;
    let home = run(&session, "pwd").await.0;
    world.client.stop_instance("default", "i", Stop::Clean, LONG).await.expect("stopped");
    let bye = std::fs::read_to_string(format!("{}/bye", home.trim())).expect("the trap ran");
    assert_eq!(bye, "bye\n");
}

#[tokio::test]
async fn instances_end_with_the_remote() {
    for stop in [true, false] {
        let world = World::new().await;
        let ssh = world.instance("i", DeviceMap::new()).await;
        let session = ssh.connect().await;
        let pid = daemon(&session).await;
        let World { remote, dir: _dir, .. } = world;
        if stop {
            remote.stop().await;
        } else {
            drop(remote);
        }
        assert!(!is_alive(&pid), "stopped: {stop}");
    }
}

#[tokio::test]
async fn remains_of_a_killed_remote_are_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    // The state that a killed remote leaves.
    let mark = "6e3dd2a4-4f10-4c0e-8a7e-2f7b1f1e0001";
    std::fs::write(dir.path().join("mark"), mark).expect("written");
    std::fs::create_dir_all(dir.path().join("i/0/home")).expect("a directory");
    let mut orphan = tokio::process::Command::new("sleep")
        .arg("1000")
        .env("LNPLAY_INSTANCE", format!("{mark}-0"))
        .stdin(Stdio::null())
        .spawn()
        .expect("a process");
    let config = SimRemoteConfig::new(dir.path(), support::program("true"));
    let remote = SimRemote::start(config.clone()).await.expect("a remote");
    let status = tokio::time::timeout(LONG, orphan.wait()).await.expect("it was killed").expect("a status");
    assert!(!status.success());
    assert!(!dir.path().join("i/0").exists());

    let error = SimRemote::start(config.clone()).await.expect_err("the directory is taken");
    assert!(error.to_string().contains("another remote runs in"), "{error}");
    remote.stop().await;
    SimRemote::start(config).await.expect("the directory is free").stop().await;
}

#[tokio::test]
async fn twenty_come_and_go_at_once() {
    let world = World::new().await;
    let one = async |n: usize| {
        let name = format!("i{n}");
        let ssh = world.instance(&name, DeviceMap::new()).await;
        let session = ssh.connect().await;
        assert_eq!(
            run(&session, "echo $LNPLAY_ADDRESS").await.0.trim(),
            address(&world, &name).await.to_string()
        );
        daemon(&session).await;
        session.close().await.expect("closed");
        world.client.stop_instance("default", &name, Stop::Force, LONG).await.expect("stopped");
        world.client.delete_instance("default", &name, LONG).await.expect("deleted");
    };
    futures_util::future::join_all((0..20).map(one)).await;
    assert!(world.client.instances("default").await.expect("a list").is_empty());
}
