//! How long `lnplay up` takes from nothing, how much work it is, and what a node takes of memory, beside a floor that is
//! measured in the same run: bitcoind and as many lightningd, started by hand with plain options until they answer.
//!
//! `cargo bench -p lnplay-agent` measures 8 and 64 nodes, `cargo bench -p lnplay-agent -- 16` others. It wants the real daemons, on PATH
//! or named by `BITCOIND` and `LIGHTNINGD`, and an idle machine: the load is printed, and processor seconds, which suffer
//! less from others' work than the clock does.

mod processes;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use cln_rpc::ClnRpc;
use lnplay_agent::bitcoind::Bitcoind;
use lnplaylive_core::progress::Line;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use self::processes::{MARK, marked};

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 76, 1, 1));
const LIMIT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(25);
/// After this a new node has done what it does when it has started.
const SETTLES_WITHIN: Duration = Duration::from_secs(15);

/// What was measured of one way to bring nodes up.
struct Figures {
    load: String,
    wall: f64,
    cpu: f64,
    /// Of a node, in millions of bytes.
    memory: f64,
}

fn main() -> anyhow::Result<()> {
    let program = |variable: &str, name: &str| std::env::var(variable).unwrap_or_else(|_| name.to_owned());
    let (bitcoind, lightningd) = (program("BITCOIND", "bitcoind"), program("LIGHTNINGD", "lightningd"));
    for program in [&bitcoind, &lightningd] {
        if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: there is no {program}");
            return Ok(());
        }
    }
    let mut counts: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![8, 64];
    }
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores; load is that of the last minute, before the start\n");
    println!("| nodes | what | load | wall s | cpu s | MB a node | bar | |");
    println!("|---|---|---|---|---|---|---|---|");
    for nodes in counts {
        let floor = measure_floor(&bitcoind, &lightningd, nodes).context("the floor")?;
        row(nodes, "floor", &floor, "", true);
        let up = measure_up(nodes).context("lnplay up")?;
        let (extra, at_most) = if nodes <= 8 { (2.0, 5.0) } else { (4.0, 20.0) };
        let bar = (1.5 * floor.wall + extra).min(at_most);
        let met = up.wall <= bar && up.memory < 20.0;
        let ratio = up.wall / floor.wall;
        let bar = format!("{bar:.1} s, 20 MB; {ratio:.2} x floor, {:.2} x its work", up.cpu / floor.cpu);
        row(nodes, "lnplay up", &up, &bar, met);
    }
    Ok(())
}

fn row(nodes: u32, what: &str, figures: &Figures, bar: &str, met: bool) {
    let Figures { load, wall, cpu, memory } = figures;
    let verdict = if met { "" } else { "missed" };
    println!("| {nodes} | {what} | {load} | {wall:.2} | {cpu:.1} | {memory:.1} | {bar} | {verdict} |");
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

/// Processes that are stopped when the measurement ends, however it ends.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        // The nodes before bitcoind, which they would ask for ever.
        for child in self.0.iter_mut().rev() {
            if let Ok(pid) = i32::try_from(child.id()) {
                let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            drop(child.wait());
        }
    }
}

fn measure_floor(bitcoind: &str, lightningd: &str, nodes: u32) -> anyhow::Result<Figures> {
    let dir = tempfile::TempDir::with_prefix("bench-")?;
    let mark = dir.path().to_str().context("a path that is text")?.to_owned();
    let start = |program: &str, arguments: &[String]| {
        let log = fs::File::options().create(true).append(true).open(dir.path().join("log"))?;
        let mut command = Command::new(program);
        command.args(arguments).env(MARK, &mark).stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log);
        command.spawn().with_context(|| format!("cannot start {program}"))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = Bitcoind::new(dir.path().to_owned(), (ADDRESS, 18443).into(), None);
    let (load, begin) = (load(), Instant::now());
    let rpc = [format!("-rpcbind={ADDRESS}"), format!("-rpcallowip={ADDRESS}")];
    let mut arguments =
        vec![format!("-datadir={mark}"), "-regtest".into(), "-server".into(), "-listen=0".into()];
    arguments.extend(rpc);
    let mut running = Running(vec![start(bitcoind, &arguments)?]);
    until(begin, || runtime.block_on(server.height()).is_ok())?;
    for node in 0..nodes {
        let arguments = [
            format!("--lightning-dir={mark}/{node}"),
            "--network=regtest".into(),
            format!("--bitcoin-datadir={mark}"),
            format!("--bitcoin-rpcconnect={ADDRESS}"),
            format!("--addr={ADDRESS}:{}", 9735 + node),
        ];
        running.0.push(start(lightningd, &arguments)?);
    }
    let answers = |node: u32| {
        let socket = dir.path().join(format!("{node}/regtest/lightning-rpc"));
        let ask = async {
            let mut rpc = ClnRpc::new(socket).await?;
            rpc.call_raw::<Value, _>("getinfo", &json!({})).await.map_err(anyhow::Error::from)
        };
        runtime.block_on(ask).is_ok()
    };
    let mut waiting: BTreeSet<u32> = (0..nodes).collect();
    until(begin, || {
        waiting.retain(|node| !answers(*node));
        waiting.is_empty()
    })?;
    let wall = begin.elapsed().as_secs_f64();
    let cpu = Usage::of(&mark).cpu;
    std::thread::sleep(SETTLES_WITHIN);
    Ok(Figures { load, wall, cpu, memory: Usage::of(&mark).memory / f64::from(nodes) })
}

fn measure_up(nodes: u32) -> anyhow::Result<Figures> {
    let dir = tempfile::TempDir::with_prefix("bench-")?;
    let mark = dir.path().to_str().context("a path that is text")?.to_owned();
    let lnplay = |argument: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lnplay"));
        command.arg(argument).env(MARK, &mark).env("LNPLAY_DIR", dir.path());
        command.env("LNPLAY_ADDRESS", ADDRESS.to_string()).stderr(Stdio::null());
        command
    };
    let spec = json!({
        "environment": "bench", "node_count": nodes, "block_time": 5, "coin_distribution": "egalitarian",
        "channel_setup": "none", "seed": 1, "names": [], "colors": [],
        "ports": {"listen_first": 6001, "public_first": 7000},
        "public_url_template": "wss://shop.example/e/{environment}/{node}",
        "connect_page": "https://shop.example/connect",
    });
    let (load, begin) = (load(), Instant::now());
    let mut up = lnplay("up").arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    up.stdin.take().context("piped")?.write_all(spec.to_string().as_bytes())?;
    let output = up.wait_with_output()?;
    let wall = begin.elapsed().as_secs_f64();
    let cpu = Usage::of(&mark).cpu;
    let lines = String::from_utf8_lossy(&output.stdout);
    let ready = matches!(lines.lines().last().and_then(Line::parse), Some(Line::Ready { .. }));
    if ready {
        std::thread::sleep(SETTLES_WITHIN);
    }
    let memory = Usage::of(&mark).memory / f64::from(nodes);
    let down = lnplay("down").status()?;
    ensure!(ready, "not ready: {:?}", lines.lines().last());
    ensure!(down.success(), "lnplay down ended with {down}");
    Ok(Figures { load, wall, cpu, memory })
}

fn until(begin: Instant, mut done: impl FnMut() -> bool) -> anyhow::Result<()> {
    while !done() {
        if begin.elapsed() > LIMIT {
            bail!("not up after {LIMIT:?}");
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// What the processes of one measurement have used.
#[derive(Default)]
struct Usage {
    /// Seconds of processors, with those of processes that have ended.
    cpu: f64,
    /// Of the nodes and whatever they started: the proportional set size, in millions of bytes.
    memory: f64,
}

impl Usage {
    fn of(mark: &str) -> Self {
        let mut sum = Self::default();
        for process in marked(mark) {
            sum.cpu += process.cpu().unwrap_or(0.0);
            let name = process.program();
            if !name.starts_with("lnplay") && !name.starts_with("bitcoin") {
                sum.memory += process.memory().unwrap_or(0.0);
            }
        }
        sum
    }
}
