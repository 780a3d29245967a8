//! Attendees who mean harm: what they can do with a connection string, and what a node can do that they have taken over.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lnplay_agent::access::{Decision, decide};
use lnplaylive_core::ConnectionString;
use serde_json::{Value, json};
use sim_lightning::commando::{Client, Error};
use tokio::task::JoinSet;

use support::{Daemons, Environment, checks, figure, spec};

checks!(
    no_argument_of_any_method_leaves_the_node,
    daemons_have_users_and_nothing_else,
    a_node_that_fills_the_disk_is_stopped,
);

/// The neighbours' answer may take so long while the machine is busy with the attack; it takes milliseconds.
const NEIGHBOUR_LIMIT: Duration = Duration::from_secs(10);
/// An attendee's calls of a method are dropped after this: some wait for what never comes.
const CALL_LIMIT: Duration = Duration::from_secs(1);
/// So many calls are on their way at a time; a node throws out who sends many more.
const AT_ONCE: usize = 16;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Arguments that have done harm somewhere. `bait` is a program that leaves a mark when it is run, `target` a file that must
/// not change.
fn arguments(bait: &Path, target: &Path) -> Vec<Value> {
    let (bait, target) = (bait.display().to_string(), target.display().to_string());
    let texts = [
        // Paths.
        bait.clone(),
        target.clone(),
        "../../../../../../etc/passwd".to_owned(),
        "/proc/self/mem".to_owned(),
        "~root/.ssh/authorized_keys".to_owned(),
        // URLs.
        format!("file://{bait}"),
        "http://127.0.0.1:18443/".to_owned(),
        "http://169.254.169.254/latest/".to_owned(),
        // For a shell, or a command line.
        format!("; {bait}"),
        format!("$({bait})"),
        format!("`{bait}`"),
        format!("| {bait} &"),
        format!("' {bait} '"),
        format!("-conf={target}"),
        // For a file of lines, or a message.
        format!("a\nplugin={bait}\n"),
        format!("a\r\n\r\n{bait}"),
        "a\u{0}b".to_owned(),
        "\",\"method\":\"stop\",\"x\":\"".to_owned(),
        // Commando drops what is over 1 MiB altogether.
        "9".repeat(1_000_000),
    ];
    let others = [
        json!(null),
        json!(-1),
        json!(1e308),
        json!(true),
        json!([]),
        json!({"a": {"b": [1]}}),
        json!([[[[[]]]]]),
    ];
    texts.map(Value::from).into_iter().chain(others).collect()
}

/// The names of a method's parameters, from how `help` writes them.
fn parameters(usage: &str) -> Vec<String> {
    let words = usage.split_whitespace().skip(1);
    let name = |word: &str| {
        let word = word.trim_matches(['[', ']', '<', '>']);
        word.split(['=', '|']).next().unwrap_or_default().to_owned()
    };
    words.map(name).filter(|name| !name.is_empty()).collect()
}

/// The parameters of calls with each of the arguments: in the first place, and where the method is allowed also by the names of
/// all parameters. (A rune that does not permit a method does not look at its parameters.)
fn calls_with(usage: &str, allowed: bool, arguments: &[Value]) -> Vec<Value> {
    let names = parameters(usage);
    let with = |argument: &Value| {
        let first = json!([argument]);
        if !allowed || argument.as_str().is_some_and(|text| text.len() > 10_000) {
            return vec![first];
        }
        let by_name = names.iter().map(|name| (name.clone(), argument.clone())).collect();
        vec![first, Value::Object(by_name)]
    };
    arguments.iter().flat_map(with).collect()
}

/// All files below a directory but those below `except`, by size, owner, mode and time of the last change.
fn files(dir: &Path, except: &[PathBuf]) -> BTreeMap<PathBuf, (u64, u32, u32, i64)> {
    let mut out = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        if except.contains(&path) {
            continue;
        }
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).expect("it can be read").flatten().map(|entry| entry.path()));
        } else {
            out.insert(path, (metadata.size(), metadata.uid(), metadata.mode(), metadata.mtime()));
        }
    }
    out
}

/// Dials a node and asks who it is; returns how long that took.
async fn ask(environment: &Environment, strings: &[ConnectionString], node: u16) -> Duration {
    let (asked, string) = (Instant::now(), &strings[usize::from(node)]);
    let answer = async {
        let client = Client::connect(&environment.websocket(node), string.node_id.as_str()).await?;
        client.call(&string.rune, "getinfo", json!({})).await
    };
    let info = tokio::time::timeout(NEIGHBOUR_LIMIT, answer).await.expect("the neighbour answers in time");
    assert_eq!(info.expect("the neighbour answers")["id"], string.node_id.as_str());
    asked.elapsed()
}

/// Every method with every argument, by name in each of its parameters at once and by position.
fn no_argument_of_any_method_leaves_the_node(daemons: &Daemons) {
    let outside = tempfile::tempdir().expect("a directory");
    let (bait, mark, target) =
        (outside.path().join("bait"), outside.path().join("mark"), outside.path().join("target"));
    fs::write(&bait, format!("#!/bin/sh\nid >>'{}'\n", mark.display())).expect("written");
    fs::write(&target, "untouched\n").expect("written");
    for (path, mode) in [(outside.path(), 0o777), (&bait, 0o755), (&target, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    }
    // Each call that a rune permits is a transaction of the node's database, and there are thousands.
    let environment = Environment::on(daemons).in_memory().confined();
    let mut quiet = spec(3);
    // Blocks change files, too.
    quiet["block_time"] = json!(3600);
    let strings = environment.up(&quiet).strings();
    let usages: Vec<String> = {
        let help = environment.rpc(0, "help");
        let all = help["help"].as_array().expect("a list").iter();
        all.map(|usage| usage["command"].as_str().expect("text").to_owned()).collect()
    };
    let own = [
        environment.path().join("nodes/00"),
        environment.path().join("logs/node-00.log"),
        environment.path().join("locks/node-00"),
    ];
    let moving = [
        // Neighbours write down that they were asked, and bitcoind that somebody came.
        environment.path().join("nodes/01"),
        environment.path().join("nodes/02"),
        environment.path().join("logs"),
        environment.path().join("bitcoin/regtest"),
    ];
    let except: Vec<_> = own.into_iter().chain(moving).collect();
    let before = (files(environment.path(), &except), files(outside.path(), &[]));

    let (mut cells, mut refused, mut fatal, mut slowest) = (0, 0, 0, Duration::ZERO);
    runtime().block_on(async {
        for usage in &usages {
            // Each method over a connection of its own: a node slows down who sends much.
            let mut attacker = Arc::new(dial(&environment, &strings, 0).await.with_limit(CALL_LIMIT));
            let method = usage.split_whitespace().next().expect("a name");
            let allowed = decide(method) == Some(Decision::Allowed);
            let attacks = calls_with(usage, allowed, &arguments(&bait, &target));
            cells += attacks.len();
            let (mut at_once, mut again): (Vec<_>, Vec<_>) =
                (attacks.chunks(AT_ONCE).map(<[_]>::to_vec).collect(), vec![]);
            while let Some(group) = at_once.pop() {
                let last_try = group.len() == 1;
                let mut attack = JoinSet::new();
                for params in group {
                    let (attacker, rune, method) =
                        (attacker.clone(), strings[0].rune.clone(), method.to_owned());
                    attack
                        .spawn(async move { (attacker.call(&rune, &method, params.clone()).await, params) });
                }
                let mut broken = false;
                while let Some(answer) = attack.join_next().await {
                    match answer.expect("no panic") {
                        (Ok(_), _) => assert!(allowed, "{method} was done"),
                        (Err(Error::Rpc { code: 0x4c51, .. }), _) => refused += 1,
                        // One's own node may be brought down, or throw one out. By itself each is tried once more.
                        (Err(Error::Closed { .. }), params) => {
                            broken = true;
                            if last_try {
                                fatal += 1;
                            } else {
                                again.push(vec![params]);
                            }
                        }
                        // It was refused by the method itself, or waits for what never comes.
                        (Err(_), _) => {}
                    }
                }
                if broken {
                    attacker = Arc::new(dial(&environment, &strings, 0).await.with_limit(CALL_LIMIT));
                    at_once.append(&mut again);
                }
            }
            slowest = slowest.max(ask(&environment, &strings, 1).await);
        }
        // And the node is there at the end.
        drop(dial(&environment, &strings, 0).await);
        ask(&environment, &strings, 0).await;
    });
    assert!(!mark.exists(), "a program was run: {}", fs::read_to_string(&mark).unwrap_or_default());
    assert_eq!(
        (files(environment.path(), &except), files(outside.path(), &[])),
        before,
        "something else has changed"
    );
    assert!(refused > 0, "no rune refused anything");
    figure(&format!(
        "{} lightningd, {}: {} methods × arguments, {cells} cells, {refused} refused by the rune, {fatal} that cost the attacker their connection or node; a neighbour's slowest answer {} ms",
        if daemons.real { "real" } else { "simulated" },
        if environment.first_uid().is_some() { "users of their own" } else { "one user for all" },
        usages.len(),
        slowest.as_millis(),
    ));
}

/// Dials a node as soon as it is there: an attack may have brought it down for a moment.
async fn dial(environment: &Environment, strings: &[ConnectionString], node: u16) -> Client {
    let deadline = Instant::now() + support::LIMIT;
    loop {
        let id = strings[usize::from(node)].node_id.as_str();
        match Client::connect(&environment.websocket(node), id).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "node {node} does not come back: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A line of `/proc/PID/status`.
fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs a command line as a user, without privileges: what somebody can do who has taken a daemon over.
fn as_user(uid: u32, gid: u32, script: &str) -> std::process::Output {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        &uid.to_string(),
        "--regid",
        &gid.to_string(),
        "--clear-groups",
        "--no-new-privs",
    ]);
    command.args(["sh", "-c", script]).output().expect("setpriv runs")
}

fn daemons_have_users_and_nothing_else(daemons: &Daemons) {
    let environment = Environment::on(daemons).confined();
    let Some(first) = environment.first_uid() else {
        println!("skipped: users of their own take root");
        return;
    };
    environment.up(&spec(2)).strings();
    let supervisor = environment.supervisor().as_raw();
    let mut seen = BTreeMap::new();
    for (pid, command) in environment.processes() {
        if pid == supervisor {
            continue;
        }
        let uid: u32 = status(pid, "Uid").split(' ').next().and_then(|uid| uid.parse().ok()).unwrap_or(first);
        if status(pid, "State").starts_with('Z') || status(pid, "Uid").is_empty() {
            continue;
        }
        assert!((first..=first + 2).contains(&uid), "{command} runs as {uid}");
        for (key, wanted) in [
            ("Uid", [uid; 4].map(|id| id.to_string()).join(" ")),
            ("Gid", [first; 4].map(|id| id.to_string()).join(" ")),
            ("Groups", String::new()),
            ("CapPrm", "0".repeat(16)),
            ("CapEff", "0".repeat(16)),
            ("CapInh", "0".repeat(16)),
            ("CapAmb", "0".repeat(16)),
            ("NoNewPrivs", "1".to_owned()),
        ] {
            let found = status(pid, key);
            // It may have ended meanwhile.
            assert!(
                found == wanted || found.is_empty() && status(pid, "Uid").is_empty(),
                "{command}: {key} is {found:?}"
            );
        }
        *seen.entry(uid).or_insert(0) += 1;
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [first, first + 1, first + 2], "{seen:?}");

    // Somebody who has taken node 0 over reads nothing of others, writes nowhere else and signals nobody.
    let root = environment.path().display();
    let status = environment.status();
    let (neighbour, bitcoind) = (&status["nodes"][1]["pid"], &status["bitcoind"]["pid"]);
    for script in [
        format!("ls {root}"),
        format!("ls {root}/nodes"),
        format!("ls {root}/nodes/01"),
        format!("cat {root}/nodes/01/regtest/hsm_secret {root}/nodes/01/regtest/lightningd.sqlite3"),
        format!("cat {root}/nodes/00.json"),
        format!("cat {root}/nodes/01.json"),
        format!("cat {root}/mining.wif"),
        format!("cat {root}/spec.json"),
        format!("cat {root}/bitcoin/regtest/.cookie"),
        format!("ls {root}/logs"),
        format!("echo 1 >{root}/locks/node-00"),
        format!("echo 1 >{root}/bitcoin-client/bitcoin.conf"),
        format!("touch {root}/new {root}/nodes/new"),
        format!("kill {neighbour}"),
        format!("kill {bitcoind}"),
        format!("kill {supervisor}"),
        format!("head -c 1 /proc/{neighbour}/mem /proc/{neighbour}/environ"),
    ] {
        let output = as_user(first + 1, first, &script);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.is_empty(), "`{script}` was done: {said}");
    }
    // But it is at home in its own directory.
    let output =
        as_user(first + 1, first, &format!("ls {root}/nodes/00/regtest && touch {root}/nodes/00/own"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // bitcoind lets the nodes do what lightningd needs and no more.
    let conf = fs::read_to_string(environment.path().join("bitcoin-client/bitcoin.conf")).expect("a login");
    let password = conf.lines().find_map(|line| line.strip_prefix("rpcpassword=")).expect("a password");
    let rpc = format!("{}:18443", environment.address);
    assert!(post(&rpc, password, "getblockchaininfo").contains("200 OK"));
    for method in ["stop", "generatetoaddress", "invalidateblock", "dumptxoutset", "getrpcinfo"] {
        let answer = post(&rpc, password, method);
        assert!(answer.contains("403 Forbidden"), "{method}: {answer}");
    }
}

/// Calls a method of bitcoind as the nodes do; returns the answer's first line.
fn post(address: &str, password: &str, method: &str) -> String {
    use base64::Engine;
    use std::io::{Read, Write};
    let token = base64::engine::general_purpose::STANDARD.encode(format!("nodes:{password}"));
    let body = json!({"jsonrpc": "1.0", "id": 1, "method": method, "params": []}).to_string();
    let mut stream = std::net::TcpStream::connect(address).expect("bitcoind listens");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Basic {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

fn a_node_that_fills_the_disk_is_stopped(daemons: &Daemons) {
    let environment = Environment::on(daemons).confined();
    let Some(first) = environment.first_uid() else {
        println!("skipped: users of their own take root");
        return;
    };
    let strings = environment.up(&spec(2)).strings();
    let root = environment.path().display();
    // Sparse would not count. Each file is below what one may have.
    let fill =
        format!("cd {root}/nodes/00 && for n in 1 2 3 4 5 6; do fallocate -l 100M filler-$n || exit; done");
    let output = as_user(first + 1, first, &fill);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    environment.until("stopped", |status| {
        let exit = status["nodes"][0]["last_exit"].as_str().unwrap_or_default();
        status["nodes"][0]["state"] == "waiting" && exit.contains("its limit is 512 MiB")
    });
    runtime().block_on(ask(&environment, &strings, 1));
    // Once there is room it comes back.
    for n in 1..=6 {
        fs::remove_file(environment.path().join(format!("nodes/00/filler-{n}"))).expect("it is there");
    }
    environment.until("back", |status| status["ready"] == true);
}
