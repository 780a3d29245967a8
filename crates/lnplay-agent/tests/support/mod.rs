//! Environments for tests: brought up by the executable itself, on simulated or on real daemons.
//!
//! The real ones are found on PATH or named by `BITCOIND` and `LIGHTNINGD`; without them their half says so and passes.
//! The simulated ones, which `cargo build --workspace --bins` makes, are in `TESTBED_BIN_DIR` or where cargo put this
//! test.

// Each test uses some of it.
#![allow(dead_code, unused_imports, unused_macros)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cln_rpc::ClnRpc;
use lnplaylive_core::ConnectionString;
use lnplaylive_core::progress::Line;
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const LISTEN_FIRST: u16 = 6000;
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A state directory and an address of its own; taken down when dropped.
pub(crate) struct Environment {
    pub(crate) dir: TempDir,
    pub(crate) address: String,
    pub(crate) variables: Vec<(&'static str, String)>,
}

pub(crate) struct Up {
    pub(crate) lines: Vec<Line>,
    pub(crate) success: bool,
}

impl Up {
    pub(crate) fn strings(self) -> Vec<ConnectionString> {
        match self.lines.last() {
            Some(Line::Ready { connection_strings }) if self.success => connection_strings.clone(),
            other => panic!("not ready: {other:?}"),
        }
    }

    pub(crate) fn failure(self) -> String {
        match self.lines.last() {
            Some(Line::Failed { message }) if !self.success => message.clone(),
            other => panic!("did not fail: {other:?}"),
        }
    }
}

/// Which daemons to run.
#[derive(Clone, Debug)]
pub(crate) struct Daemons {
    pub(crate) real: bool,
    pub(crate) bitcoind: PathBuf,
    pub(crate) lightningd: PathBuf,
}

impl Daemons {
    pub(crate) fn simulated() -> Self {
        let beside = std::env::current_exe().expect("a path");
        let dirs = match std::env::var_os("TESTBED_BIN_DIR") {
            Some(dir) => vec![PathBuf::from(dir)],
            None => beside.ancestors().skip(1).take(2).map(Path::to_owned).collect(),
        };
        let find = |name: &str| {
            let found = dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
            found.unwrap_or_else(|| panic!("no {name} in {dirs:?}: cargo build --workspace --bins"))
        };
        Self { real: false, bitcoind: find("sim-bitcoind"), lightningd: find("sim-lightningd") }
    }

    /// `None`, and a word about it, when they are not there.
    pub(crate) fn real() -> Option<Self> {
        let found = find("LIGHTNINGD", "lightningd").zip(find("BITCOIND", "bitcoind"));
        if found.is_none() {
            println!("skipped: no lightningd and bitcoind on PATH, nor named by LIGHTNINGD and BITCOIND");
        }
        found.map(|(lightningd, bitcoind)| Self { real: true, bitcoind, lightningd })
    }
}

/// Makes each check a test on either daemons.
macro_rules! checks {
    ($($check:ident),* $(,)?) => {
        mod simulated {
            $(#[test] fn $check() { super::$check(&crate::support::Daemons::simulated()) })*
        }
        mod real {
            $(#[test] fn $check() { if let Some(daemons) = crate::support::Daemons::real() { super::$check(&daemons) } })*
        }
    };
}
pub(crate) use checks;

impl Environment {
    pub(crate) fn on(daemons: &Daemons) -> Self {
        let path = |path: &Path| path.to_str().expect("text").to_owned();
        Self::new().with("BITCOIND", &path(&daemons.bitcoind)).with("LIGHTNINGD", &path(&daemons.lightningd))
    }

    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id();
        let host = NEXT.fetch_add(1, Ordering::Relaxed) + 1;
        // Every test, in every process, has its own address on the loopback network: the ports are fixed.
        let address = format!("127.{}.{}.{host}", 77 + process / 256 % 64, process % 256);
        Self { dir: TempDir::with_prefix("lnplay-").expect("a directory"), address, variables: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// The same in a directory that no disk slows down, where the machine has one.
    pub(crate) fn in_memory(mut self) -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            self.dir = TempDir::with_prefix_in("lnplay-", memory).expect("a directory");
        }
        self
    }

    /// The same with users for the daemons where there can be any: as root. They are this environment's alone.
    pub(crate) fn confined(self) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            return self;
        }
        // Its parent lets users through, itself is set by lnplay.
        let parent = self.path().parent().expect("a directory for temporary files");
        let mode = fs::metadata(parent).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o001, 0o001, "users cannot pass through {}", parent.display());
        let first =
            100_000 + 1000 * (std::process::id() % 10_000) + 100 * NEXT.fetch_add(1, Ordering::Relaxed);
        self.with("LNPLAY_FIRST_UID", &first.to_string())
    }

    /// The first of its users.
    pub(crate) fn first_uid(&self) -> Option<u32> {
        let mut variables = self.variables.iter();
        variables.find(|(name, _)| *name == "LNPLAY_FIRST_UID").map(|(_, uid)| uid.parse().expect("a number"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn lnplay(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lnplay"));
        command.args(arguments).env("LNPLAY_DIR", self.path()).env("LNPLAY_ADDRESS", &self.address);
        // Tests read the log; some builds set this to less.
        command.env_remove("RUST_LOG");
        command.envs(self.variables.iter().cloned()).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn start_up(&self, spec: &str) -> std::process::Child {
        let mut child = self.lnplay(&["up", "-"]).spawn().expect("lnplay runs");
        // A spec that is too large is not read to its end.
        let _refused = child.stdin.take().expect("piped").write_all(spec.as_bytes());
        child
    }

    pub(crate) fn up(&self, spec: &Value) -> Up {
        lines_of(&self.start_up(&spec.to_string()).wait_with_output().expect("it ends"))
    }

    /// Starts a supervisor as systemd does, for an environment that was brought up before.
    pub(crate) fn supervise(&self) -> std::process::Child {
        let log = self.path().join("logs/supervisor.log");
        let log = fs::File::options().append(true).open(log).expect("there was a supervisor before");
        let mut command = self.lnplay(&["supervise"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("lnplay runs")
    }

    pub(crate) fn down(&self) -> Output {
        self.lnplay(&["down"]).output().expect("lnplay runs")
    }

    /// Starts an action of the organiser's desk.
    pub(crate) fn start_desk(&self, action: &str) -> std::process::Child {
        let mut child = self.lnplay(&["desk"]).spawn().expect("lnplay runs");
        child.stdin.take().expect("piped").write_all(action.as_bytes()).expect("it reads");
        child
    }

    /// The answer of the organiser's desk to an action.
    pub(crate) fn desk(&self, action: &Value) -> Value {
        answer_of(&self.start_desk(&action.to_string()).wait_with_output().expect("it ends"))
    }

    pub(crate) fn status(&self) -> Value {
        let output = self.lnplay(&["status"]).output().expect("lnplay runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Waits until the status is as wanted.
    pub(crate) fn until(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "never {what}; last seen: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The processes that belong to the environment: they all have its directory among their variables.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let wanted = format!("LNPLAY_DIR={}", self.path().display());
        let entries = fs::read_dir("/proc").expect("a proc file system").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = |pid: &i32| {
            let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            variables.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        };
        let command = |pid| {
            String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
                .replace('\0', " ")
        };
        pids.filter(ours).map(|pid| (pid, command(pid))).collect()
    }

    pub(crate) fn supervisor(&self) -> Pid {
        let pid = fs::read_to_string(self.path().join("supervisor.lock")).expect("a supervisor");
        Pid::from_raw(pid.trim().parse().expect("a pid"))
    }

    /// bitcoind, as the supervisor calls it.
    pub(crate) fn bitcoind(&self, method: &str, params: Value) -> Value {
        let address = (self.address.parse::<std::net::IpAddr>().expect("an address"), 18443).into();
        let bitcoind = daemon_rpc::Bitcoind::regtest(&self.path().join("bitcoin"), address);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(bitcoind.call(method, params)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A program that fails while a file is there, and else becomes another. Returns the program and the file.
    pub(crate) fn failing(&self, program: &Path) -> (PathBuf, PathBuf) {
        let name = program.file_name().expect("a program").display();
        let (wrapper, broken) = (self.path().join(format!("{name}-wrapper")), self.path().join("broken"));
        let script = format!(
            "#!/bin/sh\n[ -e '{}' ] && exit 1\nexec '{}' \"$@\"\n",
            broken.display(),
            program.display()
        );
        fs::write(&wrapper, script).expect("written");
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("it is ours");
        (wrapper, broken)
    }

    /// A node's WebSocket, past whatever stands before it in its connection string.
    pub(crate) fn websocket(&self, node: u16) -> String {
        format!("ws://{}:{}", self.address, LISTEN_FIRST + node)
    }

    pub(crate) fn rpc(&self, node: u32, method: &str) -> Value {
        self.call(node, method, &json!({}))
    }

    pub(crate) fn call(&self, node: u32, method: &str, params: &Value) -> Value {
        let socket = self.path().join(format!("nodes/{node:02}/regtest/lightning-rpc"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut rpc = ClnRpc::new(socket).await.expect("the node listens");
            rpc.call_raw(method, params).await.expect("the node answers")
        })
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path().join("logs/supervisor.log")).unwrap_or_default();
            eprintln!("the supervisor's log:\n{log}");
            for node in 0..3 {
                let log = self.path().join(format!("logs/node-{node:02}.log"));
                eprintln!("the log of node {node} ends:\n{}", lnplay_agent::log::tail(&log));
            }
        }
        self.down();
    }
}

pub(crate) fn lines_of(output: &Output) -> Up {
    let text = String::from_utf8_lossy(&output.stdout);
    let read = |line| Line::parse(line).unwrap_or_else(|| panic!("not a line of ours: {line}"));
    Up { lines: text.lines().map(read).collect(), success: output.status.success() }
}

/// The answer that `lnplay desk` printed.
pub(crate) fn answer_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

pub(crate) fn spec(nodes: u32) -> Value {
    json!({
        "environment": "test", "node_count": nodes, "block_time": 1, "coin_distribution": "political",
        "channel_setup": "none", "seed": 1, "names": [], "colors": [],
        "ports": {"listen_first": LISTEN_FIRST, "public_first": 7000},
        "public_url_template": "wss://shop.example/e/{environment}/{node}",
        "connect_page": "https://shop.example/connect",
    })
}

pub(crate) fn find(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let on_path = || {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|dir| dir.join(name))
            .find(|path| path.is_file())
    };
    named.or_else(on_path)
}

pub(crate) fn sat(node: &Value) -> u64 {
    let outputs = node["outputs"].as_array().expect("outputs");
    outputs.iter().map(|output| output["amount_msat"].as_u64().expect("an amount") / 1000).sum()
}

pub(crate) fn pid(value: &Value) -> Pid {
    Pid::from_raw(i32::try_from(value.as_i64().expect("a pid")).expect("a pid"))
}

/// Says what a test has measured; `tests/run` shows it at the end.
pub(crate) fn figure(text: &str) {
    eprintln!("figure: {text}");
    if let Some(path) = std::env::var_os("TESTBED_FIGURES") {
        let file = fs::File::options().append(true).create(true).open(&path).expect("it can be written");
        // One write, so that lines of tests running at the same time do not mix.
        (&file).write_all(format!("{text}\n").as_bytes()).expect("there is room");
    }
}
