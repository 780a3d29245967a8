//! What weeks do to an environment: memory and disk of its processes over as many blocks as it lives through, and how long it takes
//! to come up again at the end.
//!
//! `cargo bench -p lnplay-agent --bench long` brings 8 nodes up and has 30,240 blocks mined, one for each minute of 504 hours, as
//! fast as the nodes follow; `… -- BLOCKS [NODES]` others. Then the environment is taken down and brought up again. It wants the
//! real daemons, on PATH or named by `BITCOIND` and `LIGHTNINGD`.

mod environment;
mod processes;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use cln_rpc::ClnRpc;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::environment::{Environment, MINER, has_daemons};
use self::processes::{Process, marked};

/// One a minute for 504 hours, the longest order.
const BLOCKS: u32 = 504 * 60;
const NODES: u32 = 8;
/// Blocks that are mined at a time: few enough that the nodes see most of them as they would in a room, one by one.
const BATCH: u32 = 60;
/// The nodes poll each second and read some hundred blocks in that time.
const BATCH_LIMIT: Duration = Duration::from_secs(120);
/// Measurements between the first and the last block.
const STOPS: u32 = 6;

fn main() -> anyhow::Result<()> {
    if !has_daemons() {
        return Ok(());
    }
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let blocks = numbers.first().copied().unwrap_or(BLOCKS);
    let nodes = numbers.get(1).copied().unwrap_or(NODES);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(nodes, blocks))
}

async fn run(nodes: u32, blocks: u32) -> anyhow::Result<()> {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{nodes} nodes, {blocks} blocks; load {}\n", load.split(' ').next().unwrap_or("?"));
    let environment = Environment::new("lnplay")?;
    let up = Instant::now();
    environment.up(nodes)?;
    println!("first start: {:.1} s\n", up.elapsed().as_secs_f64());

    let began = Instant::now();
    println!("Memory: PSS in MB, of all processes of a kind. Disk: MB in use.\n");
    println!(
        "| blocks | seconds | lightningd | its daemons and plugins | lnplay's plugin | bitcoind | supervisor | all | processor, s | disk: nodes | chain | logs and the rest |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    print_line(&environment, 0, began);
    let mut mined = 0;
    for stop in 1..=STOPS {
        while mined < blocks * stop / STOPS {
            let batch = BATCH.min(blocks * stop / STOPS - mined);
            mine(&environment, nodes, batch).await.with_context(|| format!("after {mined} blocks"))?;
            mined += batch;
        }
        print_line(&environment, mined, began);
    }

    let down = Instant::now();
    environment.lnplay("down").status().context("taking it down")?;
    println!("\ndown: {:.1} s", down.elapsed().as_secs_f64());
    let up = Instant::now();
    environment.up(nodes)?;
    println!("up again, ready: {:.1} s", up.elapsed().as_secs_f64());
    let height: u32 = environment.bitcoind().call("getblockcount", json!([])).await?;
    wait_for(&environment, nodes, height).await?.collect().await?;
    println!("all nodes answer, at block {height}: {:.1} s", up.elapsed().as_secs_f64());
    println!("\nAfter the restart:\n");
    print_line(&environment, mined, up);
    Ok(())
}

/// Has blocks mined and waits until all nodes have them.
async fn mine(environment: &Environment, nodes: u32, count: u32) -> anyhow::Result<()> {
    let bitcoind = environment.bitcoind();
    let height: u32 = bitcoind.call("getblockcount", json!([])).await?;
    let _: Vec<String> = bitcoind.call("generatetoaddress", json!([count, MINER])).await?;
    wait_for(environment, nodes, height + count).await?.collect().await
}

/// The nodes that are waited for.
struct Waiting(JoinSet<anyhow::Result<()>>);

impl Waiting {
    async fn collect(mut self) -> anyhow::Result<()> {
        while let Some(seen) = self.0.join_next().await {
            seen??;
        }
        Ok(())
    }
}

async fn wait_for(environment: &Environment, nodes: u32, height: u32) -> anyhow::Result<Waiting> {
    let mut waiting = JoinSet::new();
    for node in 0..nodes {
        let mut rpc = ClnRpc::new(environment.socket(node)).await?;
        let params = json!({"blockheight": height, "timeout": BATCH_LIMIT.as_secs()});
        waiting.spawn(async move {
            let seen: Result<Value, _> = rpc.call_raw("waitblockheight", &params).await;
            seen.map(drop).with_context(|| format!("node {node} waits for block {height}"))
        });
    }
    Ok(Waiting(waiting))
}

/// The kinds of processes, in the table's order.
const KINDS: [&str; 5] = ["lightningd", "other", "plugin", "bitcoind", "supervisor"];

fn print_line(environment: &Environment, blocks: u32, began: Instant) {
    let path = environment.path();
    let mut memory: BTreeMap<&str, f64> = BTreeMap::new();
    let mut processor = 0.0;
    for process in marked(&path.display().to_string()) {
        processor += process.cpu().unwrap_or(0.0);
        *memory.entry(kind(&process)).or_default() += process.memory().unwrap_or(0.0);
    }
    let of = |kind: &&str| memory.get(kind).copied().unwrap_or(0.0);
    let columns = KINDS.iter().map(|kind| format!("{:.1}", of(kind))).collect::<Vec<_>>().join(" | ");
    let (nodes, chain) = (disk(&path.join("nodes")), disk(&path.join("bitcoin")));
    let rest = disk(path) - nodes - chain;
    println!(
        "| {blocks} | {:.0} | {columns} | {:.1} | {processor:.0} | {nodes:.1} | {chain:.1} | {rest:.1} |",
        began.elapsed().as_secs_f64(),
        memory.values().sum::<f64>()
    );
}

fn kind(process: &Process) -> &'static str {
    let is_plugin = process.variables().any(|variable| variable.starts_with(b"LIGHTNINGD_PLUGIN="));
    match process.program().as_str() {
        "lightningd" => "lightningd",
        name if name.starts_with("bitcoind") => "bitcoind",
        name if name.starts_with("lnplay") && is_plugin => "plugin",
        name if name.starts_with("lnplay") => "supervisor",
        _ => "other",
    }
}

/// Space in use below a directory, in millions of bytes.
fn disk(dir: &Path) -> f64 {
    // Blocks of 512 bytes, whatever the file system's are.
    f64::from(u32::try_from(blocks_below(dir)).unwrap_or(u32::MAX)) * 512.0 / 1e6
}

fn blocks_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let size = entries.filter_map(|entry| {
        let about = entry.path().symlink_metadata().ok()?;
        Some(about.blocks() + if about.is_dir() { blocks_below(&entry.path()) } else { 0 })
    });
    size.sum()
}
