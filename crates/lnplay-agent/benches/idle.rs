//! What an environment costs while nobody uses it, with each backend of the nodes (lnplay's plugin, and Core Lightning's
//! `bcli` beside it in the same run): processor time, memory, and how long a block takes to all nodes.
//!
//! `cargo bench -p lnplay-agent --bench idle` measures 8 nodes, `… -- 64` others. It wants the real daemons, on PATH or named by
//! `BITCOIND` and `LIGHTNINGD`, and an idle machine: the load is printed.

mod processes;

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cln_rpc::ClnRpc;
use lnplaylive_core::progress::Line;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::processes::{MARK, Process, marked};

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 76, 2, 1));
/// After this a new node has done what it does when it has started.
const SETTLES_WITHIN: Duration = Duration::from_secs(15);
/// The time over which processor time is measured.
const WINDOW: Duration = Duration::from_secs(30);
const BLOCKS: usize = 10;
/// Between two blocks; no multiple of lightningd's poll interval.
const BLOCK_INTERVAL: Duration = Duration::from_millis(2350);
const BLOCK_LIMIT: Duration = Duration::from_secs(60);
/// Anybody's address.
const MINER: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// Of a core, in percent; and of memory (PSS), in millions of bytes.
#[derive(Default, Clone, Copy)]
struct Usage {
    nodes: f64,
    bitcoind: f64,
    supervisor: f64,
}

impl Usage {
    fn sum(self) -> f64 {
        self.nodes + self.bitcoind + self.supervisor
    }
}

fn main() -> anyhow::Result<()> {
    for (variable, program) in [("BITCOIND", "bitcoind"), ("LIGHTNINGD", "lightningd")] {
        let program = std::env::var(variable).unwrap_or_else(|_| program.to_owned());
        if Command::new(&program).arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: there is no {program}");
            return Ok(());
        }
    }
    let mut counts: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![8];
    }
    println!(
        "Core: percent of one over {WINDOW:?}. Memory: PSS in MB. Block: from bitcoind to the last node, in ms.\n"
    );
    println!(
        "| nodes | backend | load | core: nodes | bitcoind | supervisor | all | memory: nodes | bitcoind | supervisor | all | block: median | worst |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for nodes in counts {
        for backend in ["bcli", "lnplay"] {
            measure(nodes, backend).with_context(|| format!("{nodes} nodes with {backend}"))?;
        }
    }
    Ok(())
}

/// An environment; taken down when dropped.
struct Environment {
    dir: tempfile::TempDir,
    backend: &'static str,
}

impl Environment {
    fn lnplay(&self, argument: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lnplay"));
        command.arg(argument).env(MARK, self.dir.path()).env("LNPLAY_DIR", self.dir.path());
        command.env("LNPLAY_CHAIN_BACKEND", self.backend);
        command.env("LNPLAY_ADDRESS", ADDRESS.to_string()).stderr(Stdio::null());
        command
    }

    fn up(&self, nodes: u32) -> anyhow::Result<()> {
        let spec = json!({
            "environment": "bench", "node_count": nodes, "block_time": 3600,
            "coin_distribution": "egalitarian", "channel_setup": "none", "seed": 1, "names": [], "colors": [],
            "ports": {"listen_first": 6001, "public_first": 7000},
            "public_url_template": "wss://shop.example/e/{environment}/{node}",
            "connect_page": "https://shop.example/connect",
        });
        let mut up = self.lnplay("up").arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        up.stdin.take().context("piped")?.write_all(spec.to_string().as_bytes())?;
        let output = up.wait_with_output()?;
        let lines = String::from_utf8_lossy(&output.stdout);
        let last = lines.lines().last();
        ensure!(matches!(last.and_then(Line::parse), Some(Line::Ready { .. })), "not ready: {last:?}");
        Ok(())
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        drop(self.lnplay("down").status());
    }
}

fn measure(nodes: u32, backend: &'static str) -> anyhow::Result<()> {
    let environment = Environment { dir: tempfile::TempDir::with_prefix("bench-")?, backend };
    let path = environment.dir.path();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    environment.up(nodes)?;
    std::thread::sleep(SETTLES_WITHIN);
    let memory = usage(path, Process::memory);
    let (before, begin) = (usage(path, Process::cpu), Instant::now());
    std::thread::sleep(WINDOW);
    let (after, percent) = (usage(path, Process::cpu), 100.0 / begin.elapsed().as_secs_f64());
    let core = Usage {
        nodes: percent * (after.nodes - before.nodes),
        bitcoind: percent * (after.bitcoind - before.bitcoind),
        supervisor: percent * (after.supervisor - before.supervisor),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut delays = runtime.block_on(block_delays(path, nodes))?;
    delays.sort_unstable();
    println!(
        "| {nodes} | {backend} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} |",
        load.split(' ').next().unwrap_or("?"),
        core.nodes,
        core.bitcoind,
        core.supervisor,
        core.sum(),
        memory.nodes,
        memory.bitcoind,
        memory.supervisor,
        memory.sum(),
        delays[delays.len() / 2].as_millis(),
        delays[delays.len() - 1].as_millis(),
    );
    Ok(())
}

/// Mines blocks; how long each took to the last node.
async fn block_delays(dir: &Path, nodes: u32) -> anyhow::Result<Vec<Duration>> {
    let bitcoind = daemon_rpc::Bitcoind::regtest(&dir.join("bitcoin"), (ADDRESS, 18443).into());
    let mut delays = Vec::new();
    for _ in 0..BLOCKS {
        tokio::time::sleep(BLOCK_INTERVAL).await;
        let height: u32 = bitcoind.call("getblockcount", json!([])).await?;
        let mut waiting = JoinSet::new();
        for node in 0..nodes {
            let mut rpc = ClnRpc::new(dir.join(format!("nodes/{node:02}/regtest/lightning-rpc"))).await?;
            let params = json!({"blockheight": height + 1, "timeout": BLOCK_LIMIT.as_secs()});
            waiting.spawn(async move { rpc.call_raw::<Value, _>("waitblockheight", &params).await });
        }
        // The calls reach the nodes before the block does.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _: Vec<String> = bitcoind.call("generatetoaddress", json!([1, MINER])).await?;
        let mined = Instant::now();
        while let Some(seen) = waiting.join_next().await {
            seen?.context("waitblockheight")?;
        }
        delays.push(mined.elapsed());
    }
    Ok(delays)
}

/// The sum of a figure over the processes of one measurement. Plugins count as the nodes', whatever their executable.
fn usage(mark: &Path, figure: impl Fn(&Process) -> Option<f64>) -> Usage {
    let mut sum = Usage::default();
    for process in marked(&mark.display().to_string()) {
        let figure = figure(&process).unwrap_or(0.0);
        let name = process.program();
        let is_plugin = || process.variables().any(|variable| variable.starts_with(b"LIGHTNINGD_PLUGIN="));
        if name.starts_with("bitcoind") {
            sum.bitcoind += figure;
        } else if name.starts_with("lnplay") && !is_plugin() {
            sum.supervisor += figure;
        } else {
            sum.nodes += figure;
        }
    }
    sum
}
