//! Environments brought up by the executable itself, on simulated and on real daemons.

mod support;

use std::collections::HashSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lnplaylive_core::progress::{Line, Step};
use lnplaylive_core::{ChannelSetup, CoinDistribution};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sim_lightning::commando::Client;
use strum::VariantArray;

use support::{Daemons, Environment, LISTEN_FIRST, checks, lines_of, pid, sat, spec};

checks!(
    an_environment_lives_through_whatever_dies,
    channels_are_opened_once,
    every_setup_with_every_distribution,
    a_supervisor_killed_while_channels_open_is_followed_by_one_that_goes_on,
    two_at_once_are_handed_the_same_environment,
    a_supervisor_killed_on_the_way_up_is_followed_by_one_that_goes_on,
    down_on_the_way_up_leaves_nothing,
    a_port_that_is_taken_is_told_with_the_log_that_says_so,
    what_is_secret_is_closed_to_others,
    a_node_that_does_not_start_again_leaves_the_others_running,
    an_environment_comes_back_however_often_its_daemons_fail,
    an_environment_comes_back_from_a_full_disk,
    a_clock_that_is_set_back_stops_neither_blocks_nor_bitcoind,
    an_attendee_can_ask_for_a_block,
);

fn an_environment_lives_through_whatever_dies(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let first = environment.up(&spec(3));
    let steps: HashSet<_> = first
        .lines
        .iter()
        .filter_map(|line| match line {
            Line::Progress(progress) => Some(progress.step.clone()),
            _ => None,
        })
        .collect();
    for step in Step::VARIANTS.iter().filter(|step| **step != Step::OpenChannels) {
        assert!(steps.contains(step.name()), "{step:?} is not among {steps:?}");
    }
    let strings = first.strings();
    assert_eq!(strings.len(), 3);
    assert_eq!(strings[2].endpoint.to_string(), "wss://shop.example:443/e/test/2");

    // The nodes are who the strings say, listen where the spec says, and have what the distribution says.
    for (node, string) in (0u16..).zip(&strings) {
        assert_eq!(environment.rpc(node.into(), "getinfo")["id"], string.node_id.as_str());
        TcpStream::connect((environment.address.as_str(), LISTEN_FIRST + node)).expect("a WebSocket port");
    }
    let funds =
        |environment: &Environment| (0..3).map(|i| sat(&environment.rpc(i, "listfunds"))).collect::<Vec<_>>();
    let before = funds(&environment);
    assert_eq!(before.iter().sum::<u64>(), 300_000_000);
    assert_eq!(before, lnplay_agent::coins::allocate(CoinDistribution::Political, ChannelSetup::None, 3, 1));

    // Once more, and as somebody else would.
    assert_eq!(environment.up(&spec(3)).strings(), strings);
    let another = environment.up(&spec(2)).failure();
    assert!(another.contains("another spec"), "{another}");

    // A node that is killed comes back, the same.
    let status = environment.until("ready", |status| status["ready"] == true);
    kill(pid(&status["nodes"][1]["pid"]), Signal::SIGKILL).expect("a node to kill");
    environment.until("restarted", |status| status["nodes"][1]["restarts"] != 0 && status["ready"] == true);
    assert_eq!(environment.rpc(1, "getinfo")["id"], strings[1].node_id.as_str());
    assert_eq!(funds(&environment), before);
    // bitcoind likewise, and blocks go on.
    kill(pid(&status["bitcoind"]["pid"]), Signal::SIGKILL).expect("a bitcoind to kill");
    let height = status["block_height"].as_u64().expect("a height");
    environment.until("mining again", |status| {
        status["bitcoind"]["restarts"] != 0 && status["block_height"].as_u64().is_some_and(|now| now > height)
    });

    // The supervisor, too: what it leaves behind ends, and `up` goes on from what is stored.
    kill(environment.supervisor(), Signal::SIGKILL).expect("a supervisor to kill");
    assert_eq!(environment.up(&spec(3)).strings(), strings);
    for (node, string) in (0..).zip(&strings) {
        assert_eq!(environment.rpc(node, "getinfo")["id"], string.node_id.as_str());
    }
    assert_eq!(funds(&environment), before);

    // Everything at once, as systemd kills what a dead supervisor leaves, some blocks on: bitcoind loses those.
    let height = environment.until("ready", |status| status["ready"] == true)["block_height"].as_u64();
    environment.until("higher", |status| status["block_height"].as_u64() > height.map(|height| height + 2));
    for (process, _) in environment.processes() {
        // One may have ended with another.
        let _gone = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
    assert_eq!(environment.up(&spec(3)).strings(), strings);
    assert_eq!(funds(&environment), before);

    // And after an orderly night.
    assert!(environment.down().status.success());
    assert_eq!(environment.processes(), []);
    assert_eq!(environment.status()["phase"], "down");
    assert!(environment.down().status.success(), "down is as good when down");
    assert_eq!(environment.up(&spec(3)).strings(), strings);
    assert!(environment.down().status.success());
    assert_eq!(environment.processes(), []);
}

fn spec_with(nodes: u32, setup: &str, distribution: &str) -> Value {
    let mut spec = spec(nodes);
    spec["channel_setup"] = json!(setup);
    spec["coin_distribution"] = json!(distribution);
    spec
}

/// The channels that a node opened: their other ends, each with the channel's state and size in sat.
fn opened(environment: &Environment, node: u32) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let channels = environment.rpc(node, "listpeerchannels");
    let ours = channels["channels"].as_array().expect("channels").iter().filter(|c| c["opener"] == "local");
    ours.map(|c| {
        (text(&c["peer_id"]), text(&c["state"]), c["total_msat"].as_u64().expect("an amount") / 1000)
    })
    .collect()
}

fn channels_are_opened_once(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let spec = spec_with(4, "star", "egalitarian");
    let first = environment.up(&spec);
    let last = first.lines.iter().rev().find_map(|line| match line {
        Line::Progress(progress) => Some((progress.step.clone(), progress.done, progress.total)),
        _ => None,
    });
    assert_eq!(last, Some((Step::OpenChannels.name().to_owned(), 3, 3)));
    let strings = first.strings();
    let mut hub = opened(&environment, 0);
    hub.sort();
    let mut expected: Vec<_> = strings[1..]
        .iter()
        .map(|string| (string.node_id.as_str().to_owned(), "CHANNELD_NORMAL".to_owned(), 10_000_000))
        .collect();
    expected.sort();
    assert_eq!(hub, expected);
    for node in 1..4 {
        let channels = environment.rpc(node, "listpeerchannels");
        assert_eq!(channels["channels"].as_array().map(Vec::len), Some(1));
        assert_eq!(channels["channels"][0]["state"], "CHANNELD_NORMAL");
        assert_eq!(sat(&environment.rpc(node, "listfunds")), 100_000_000, "who opens none pays nothing");
    }
    // What the hub has not put into channels it still has, but for the fee.
    let left = sat(&environment.rpc(0, "listfunds"));
    assert!((69_990_000..70_000_000).contains(&left), "{left}");

    let invoice = environment.call(2, "invoice", &json!([1000, "one hop", "d"]));
    assert_eq!(environment.call(0, "xpay", &json!([invoice["bolt11"]]))["amount_msat"], 1000);

    // Neither after a kill nor after a night is anything opened again.
    kill(environment.supervisor(), Signal::SIGKILL).expect("a supervisor to kill");
    assert_eq!(environment.up(&spec).strings(), strings);
    assert!(environment.down().status.success());
    assert_eq!(environment.up(&spec).strings(), strings);
    assert_eq!(opened(&environment, 0).len(), 3);
}

fn every_setup_with_every_distribution(daemons: &Daemons) {
    for (setup, distribution, channels) in
        [("circular", "political", [1, 1, 1]), ("prism", "poisson", [1, 1, 0]), ("star", "pow", [2, 0, 0])]
    {
        let environment = Environment::on(daemons);
        environment.up(&spec_with(3, setup, distribution)).strings();
        for (node, count) in (0..).zip(channels) {
            let opened = opened(&environment, node);
            assert_eq!(opened.len(), count, "{setup}, node {node}");
            assert!(opened.iter().all(|(_, state, sat)| state == "CHANNELD_NORMAL" && *sat >= 1_000_000));
        }
        // The stand-in knows no routes.
        if setup == "prism" && daemons.real {
            environment.until("told of both channels", |_| {
                let known = environment.rpc(0, "listchannels");
                known["channels"].as_array().is_some_and(|directions| directions.len() == 4)
            });
            let invoice = environment.call(2, "invoice", &json!([1000, "two hops", "d"]));
            assert_eq!(environment.call(0, "xpay", &json!([invoice["bolt11"]]))["amount_msat"], 1000);
        }
    }
}

fn a_supervisor_killed_while_channels_open_is_followed_by_one_that_goes_on(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let spec = spec_with(4, "circular", "egalitarian");
    let up = environment.start_up(&spec.to_string());
    let log = environment.path().join("logs/supervisor.log");
    environment.until("opening channels", |_| {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("Opening the channels"))
    });
    kill(environment.supervisor(), Signal::SIGKILL).expect("a supervisor to kill");
    lines_of(&up.wait_with_output().expect("it ends")).failure();
    assert_eq!(environment.up(&spec).strings().len(), 4);
    for node in 0..4 {
        let open: Vec<_> = opened(&environment, node);
        assert_eq!(open.iter().filter(|(_, state, _)| state == "CHANNELD_NORMAL").count(), 1, "{open:?}");
    }
}

fn two_at_once_are_handed_the_same_environment(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let spec = spec(1);
    let both = [environment.start_up(&spec.to_string()), environment.start_up(&spec.to_string())];
    let [a, b] = both.map(|child| lines_of(&child.wait_with_output().expect("it ends")).strings());
    assert_eq!(a, b);
}

fn a_supervisor_killed_on_the_way_up_is_followed_by_one_that_goes_on(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let up = environment.start_up(&spec(2).to_string());
    environment.until("with a node", |status| status["nodes"][1]["pid"] != Value::Null);
    kill(environment.supervisor(), Signal::SIGKILL).expect("a supervisor to kill");
    let failure = lines_of(&up.wait_with_output().expect("it ends")).failure();
    assert!(failure.contains("run the same again"), "{failure}");
    assert_eq!(environment.up(&spec(2)).strings().len(), 2);
    let funds: u64 = (0..2).map(|node| sat(&environment.rpc(node, "listfunds"))).sum();
    assert_eq!(funds, 200_000_000, "funded once");
}

fn down_on_the_way_up_leaves_nothing(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let up = environment.start_up(&spec(2).to_string());
    environment.until("with a node", |status| status["nodes"][0]["pid"] != Value::Null);
    assert!(environment.down().status.success());
    lines_of(&up.wait_with_output().expect("it ends")).failure();
    assert_eq!(environment.processes(), []);
}

fn a_port_that_is_taken_is_told_with_the_log_that_says_so(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let taken = TcpListener::bind((environment.address.as_str(), LISTEN_FIRST)).expect("a port");
    let failure = environment.up(&spec(1)).failure();
    assert!(failure.contains("node-00 does not start") && failure.contains("in use"), "{failure}");
    drop(taken);
    assert_eq!(environment.up(&spec(1)).strings().len(), 1, "and is no trouble once it is free");
}

#[test]
fn a_daemon_that_is_not_there_is_named() {
    let environment = Environment::new().with("BITCOIND", "/nowhere/bitcoind");
    let started = Instant::now();
    let failure = environment.up(&spec(1)).failure();
    assert!(failure.contains("/nowhere/bitcoind"), "{failure}");
    assert!(started.elapsed() < Duration::from_secs(3), "there is nothing to wait for");
    assert!(environment.down().status.success());
    assert_eq!(environment.processes(), []);
}

#[test]
fn specs_that_cannot_be_brought_up_leave_no_trace() {
    let mut cases = vec![("{".to_owned(), "cannot be read"), (" ".repeat(2 << 20), "more than")];
    let mut with = |key: &str, value: Value, says| {
        let mut spec = spec(3);
        spec[key] = value;
        cases.push((spec.to_string(), says));
    };
    with("node_count", json!(0), "node_count is 0");
    with("node_count", json!(65), "node_count is 65");
    with("block_time", json!(0), "block_time is 0");
    with("channel_setup", json!("mesh"), "cannot be read");
    with("names", json!(["a", "b", "x".repeat(33)]), "cannot be named");
    with("surprise", json!(1), "unknown field");
    for (spec, says) in cases {
        let environment = Environment::new();
        let output = environment.start_up(&spec).wait_with_output().expect("it ends");
        let failure = lines_of(&output).failure();
        assert!(failure.contains(says), "{failure}");
        assert_eq!(fs::read_dir(environment.path()).expect("a directory").count(), 0);
        assert_eq!(environment.status()["phase"], "down");
    }
}

fn a_node_that_does_not_start_again_leaves_the_others_running(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let strings = environment.up(&spec(3)).strings();
    assert!(environment.down().status.success());
    let port = LISTEN_FIRST + 1;
    let taken = TcpListener::bind((environment.address.as_str(), port)).expect("a port");
    assert_eq!(environment.up(&spec(3)).strings(), strings, "it is up, if not all of it");
    let status = environment.until("restarting node 1", |status| status["nodes"][1]["state"] == "waiting");
    assert_eq!((&status["phase"], &status["ready"]), (&json!("ready"), &json!(false)));
    assert!(status["nodes"][1]["last_exit"].is_string(), "{status}");
    for node in [0, 2] {
        assert_eq!(environment.rpc(node, "getinfo")["id"], strings[node as usize].node_id.as_str());
    }
    let height = status["block_height"].as_u64();
    environment.until("mining", |status| status["block_height"].as_u64() > height);
    drop(taken);
    environment.until("ready once the port is free", |status| status["ready"] == true);
    assert_eq!(environment.rpc(1, "getinfo")["id"], strings[1].node_id.as_str());
}

fn an_environment_comes_back_however_often_its_daemons_fail(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let (bitcoind, broken) = environment.failing(&daemons.bitcoind);
    let environment = environment.with("BITCOIND", bitcoind.to_str().expect("text"));
    let strings = environment.up(&spec(2)).strings();
    assert!(environment.down().status.success());
    fs::write(&broken, "").expect("written");
    let mut supervisor = environment.supervise();
    environment.until("failing more often than a new environment may", |status| {
        let ended = supervisor.try_wait().expect("it can be asked");
        assert_eq!(ended, None, "the supervisor ended");
        status["bitcoind"]["restarts"].as_u64() > Some(6)
    });
    fs::remove_file(&broken).expect("it is there");
    environment.until("ready", |status| status["ready"] == true);
    assert_eq!(environment.up(&spec(2)).strings(), strings);
    assert!(environment.down().status.success());
    assert!(supervisor.wait().expect("it ends").success());
}

/// A file system of 128 MiB on a directory, while it lives.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// `None`, with a message, where it cannot be mounted.
    fn mount(dir: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=128m,mode=0700", "tmpfs"])
            .arg(dir)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        println!("skipped: no file system can be mounted here");
        None
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily, since a daemon may still be ending.
        drop(Command::new("umount").arg("--lazy").arg(self.0).status());
    }
}

fn an_environment_comes_back_from_a_full_disk(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let path = environment.path().to_owned();
    let Some(_disk) = SmallDisk::mount(&path) else { return };
    let strings = environment.up(&spec(2)).strings();
    // Everything is killed, as when the server reboots, and the disk is full when it comes back.
    for (process, _) in environment.processes() {
        // One may have ended with another.
        let _gone = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
    let filler = path.join("filler");
    let full =
        fs::File::create(&filler).and_then(|mut file| std::io::copy(&mut std::io::repeat(1), &mut file));
    assert!(full.is_err(), "the disk is never full");
    // The last page of the supervisor's own log too: it cannot even write that.
    let mut log = fs::File::options().append(true).open(path.join("logs/supervisor.log")).expect("a log");
    assert!(std::io::copy(&mut std::io::repeat(b'\n'), &mut log).is_err(), "the log is never full");
    let mut supervisor = environment.supervise();
    // With or without bitcoind: some daemons can do without more space for a while.
    environment.until("at work on a full disk", |status| {
        assert_eq!(supervisor.try_wait().expect("it can be asked"), None, "the supervisor ended");
        status["phase"] == "ready" || status["bitcoind"]["restarts"].as_u64() > Some(6)
    });
    fs::remove_file(&filler).expect("it is there");
    environment.until("ready", |status| status["ready"] == true);
    assert_eq!(environment.up(&spec(2)).strings(), strings);
    assert!(environment.down().status.success());
    assert!(supervisor.wait().expect("it ends").success());
}

fn a_clock_that_is_set_back_stops_neither_blocks_nor_bitcoind(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    environment.up(&spec(1)).strings();
    // A chain five hours ahead of the clock, as after a clock that was five hours ahead was set right.
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let later = now + 5 * 3600;
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    environment.until("ahead", |_| {
        // The supervisor mines as well, and by the clock.
        environment.bitcoind("setmocktime", json!([later]));
        environment.bitcoind("generatetoaddress", json!([12, address]));
        environment.bitcoind("getblockchaininfo", json!([]))["mediantime"].as_u64() >= Some(later)
    });
    environment.bitcoind("setmocktime", json!([0]));
    let height = |environment: &Environment| environment.bitcoind("getblockcount", json!([])).as_u64();
    let before = height(&environment);
    let status = environment.until("mining", |_| height(&environment) > before);
    // What the supervisor has stored is enough to start bitcoind on that chain.
    kill(pid(&status["bitcoind"]["pid"]), Signal::SIGKILL).expect("a bitcoind to kill");
    let before = status["block_height"].as_u64();
    environment.until("mining after a restart", |status| {
        status["bitcoind"]["restarts"] != 0 && status["block_height"].as_u64() > before
    });
    environment.down();
    environment.up(&spec(1)).strings();
    let before = height(&environment);
    environment.until("mining after a night", |_| height(&environment) > before);
}

fn an_attendee_can_ask_for_a_block(daemons: &Daemons) {
    let environment = Environment::on(daemons);
    let string = environment.up(&spec(2)).strings().remove(1);
    // The blocks that follow a start are over, so that nobody waits for one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    environment.until("idle", |_| {
        let log = fs::read_to_string(environment.path().join("logs/supervisor.log")).unwrap_or_default();
        log.contains("nobody waits for a block")
    });
    let ask = async {
        let client =
            Client::connect(&environment.websocket(1), string.node_id.as_str()).await.expect("it listens");
        let mut heights = Vec::new();
        // Three in a row: without being asked, the supervisor mines one a minute.
        for _ in 0..3 {
            let block = client.call(&string.rune, "waitnextblock", json!({})).await.expect("a block");
            heights.push(block["blockheight"].as_u64().expect("a height"));
        }
        heights
    };
    let heights = runtime.block_on(ask);
    assert!(heights.is_sorted_by(|a, b| a < b), "{heights:?}");
    // A channel is confirmed without anybody asking.
    let peer = format!("{}@{}:9736", string.node_id, environment.address);
    environment.call(0, "multifundchannel", &json!([[{"id": peer, "amount": 1_000_000}]]));
    environment.until("open", |_| opened(&environment, 0)[0].1 == "CHANNELD_NORMAL");
}

fn what_is_secret_is_closed_to_others(daemons: &Daemons) {
    use std::os::unix::fs::PermissionsExt;
    let environment = Environment::on(daemons);
    let strings = environment.up(&spec(1)).strings();
    let mode = |path: &str| {
        let file = fs::metadata(environment.path().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        file.permissions().mode() & 0o777
    };
    assert_eq!(mode("."), 0o700);
    for path in ["mining.wif", "nodes/00.json", "spec.json", "control.sock", "logs/supervisor.log"] {
        assert_eq!(mode(path), 0o600, "{path}");
    }
    let log = fs::read_to_string(environment.path().join("logs/supervisor.log")).expect("a log");
    assert!(!log.contains(&strings[0].rune), "the rune is logged");
    let cookie = fs::read_to_string(environment.path().join("bitcoin/regtest/.cookie")).expect("a cookie");
    let password = cookie.split(':').nth(1).expect("a password");
    for (_, command) in environment.processes() {
        assert!(!command.contains(password) && !command.contains(&strings[0].rune), "{command}");
    }
}
