//! What an environment costs while nobody uses it, with each backend of the nodes (lnplay's plugin, and Core Lightning's
//! `bcli` beside it in the same run): processor time, memory, how long a block takes to all nodes, and how fast a node's log in
//! memory grows, which ends at 16 MiB.
//!
//! `cargo bench -p lnplay-agent --bench idle` measures 8 nodes, `… -- 64` others. It wants the real daemons, on PATH or named by
//! `BITCOIND` and `LIGHTNINGD`, and an idle machine: the load is printed.

mod environment;
mod processes;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use cln_rpc::ClnRpc;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::environment::{Environment, MINER, has_daemons};
use self::processes::{Process, marked};

/// After this a new node has done what it does when it has started.
const SETTLES_WITHIN: Duration = Duration::from_secs(15);
/// The time over which processor time is measured.
const WINDOW: Duration = Duration::from_secs(30);
const BLOCKS: usize = 10;
/// Between two blocks; no multiple of lightningd's poll interval.
const BLOCK_INTERVAL: Duration = Duration::from_millis(2350);
const BLOCK_LIMIT: Duration = Duration::from_secs(60);

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
    if !has_daemons() {
        return Ok(());
    }
    let mut counts: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![8];
    }
    println!(
        "Core: percent of one over {WINDOW:?}. Memory: PSS in MB. Block: from bitcoind to the last node, in ms. Log: in \
         a node's memory, kB an hour.\n"
    );
    println!(
        "| nodes | backend | load | core: nodes | bitcoind | supervisor | all | memory: nodes | bitcoind | supervisor | all | block: median | worst | log |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for nodes in counts {
        for backend in ["bcli", "lnplay"] {
            measure(nodes, backend).with_context(|| format!("{nodes} nodes with {backend}"))?;
        }
    }
    Ok(())
}

fn measure(nodes: u32, backend: &'static str) -> anyhow::Result<()> {
    let environment = Environment::new(backend)?;
    let path = environment.path();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    environment.up(nodes)?;
    std::thread::sleep(SETTLES_WITHIN);
    let memory = usage(path, Process::memory);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let logged = runtime.block_on(log_in_memory(&environment))?;
    let (before, begin) = (usage(path, Process::cpu), Instant::now());
    std::thread::sleep(WINDOW);
    let (after, percent) = (usage(path, Process::cpu), 100.0 / begin.elapsed().as_secs_f64());
    let core = Usage {
        nodes: percent * (after.nodes - before.nodes),
        bitcoind: percent * (after.bitcoind - before.bitcoind),
        supervisor: percent * (after.supervisor - before.supervisor),
    };
    let logged = runtime.block_on(log_in_memory(&environment))? - logged;
    let mut delays = runtime.block_on(block_delays(&environment, nodes))?;
    delays.sort_unstable();
    println!(
        "| {nodes} | {backend} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} | {:.0} |",
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
        logged * 3.6 / WINDOW.as_secs_f64(),
    );
    Ok(())
}

/// The bytes that the first node's log takes in its memory.
async fn log_in_memory(environment: &Environment) -> anyhow::Result<f64> {
    let mut rpc = ClnRpc::new(environment.socket(0)).await?;
    let log: Value = rpc.call_raw("getlog", &json!({"level": "broken"})).await?;
    log["bytes_used"].as_f64().context("getlog has no bytes_used")
}

/// Mines blocks; how long each took to the last node.
async fn block_delays(environment: &Environment, nodes: u32) -> anyhow::Result<Vec<Duration>> {
    let bitcoind = environment.bitcoind();
    let mut delays = Vec::new();
    for _ in 0..BLOCKS {
        tokio::time::sleep(BLOCK_INTERVAL).await;
        let height: u32 = bitcoind.call("getblockcount", json!([])).await?;
        let mut waiting = JoinSet::new();
        for node in 0..nodes {
            let mut rpc = ClnRpc::new(environment.socket(node)).await?;
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
