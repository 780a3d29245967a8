//! Opens the channels of a new environment, once, and waits until both ends of each can use it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use lnplaylive_core::NodeId;
use lnplaylive_core::progress::Step;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::bitcoind::Bitcoind;
use crate::chain::Miner;
use crate::channels::{self, Opening};
use crate::child::Child;
use crate::node::{Channel, Node, RpcError};
use crate::state;

use super::environment::{Environment, STEP_TIMEOUT, Started};
use super::funding;

/// The nodes that open channels at the same time. Each opening takes two processes of its own at either end.
pub(super) const CONCURRENT_OPENERS: usize = 8;

/// The blocks on top of a channel before nodes announce it (BOLT 7), so that payments find it.
pub(super) const ANNOUNCEMENT_DEPTH: u32 = 6;

/// Stored once all channels are open.
#[derive(Serialize, Deserialize)]
struct Opened {
    height: u32,
}

/// The channels that one node opens.
#[derive(Clone)]
struct Task {
    node: Node,
    child: Child,
    /// The other ends, and their addresses.
    peers: Vec<(NodeId, String)>,
    sat: u64,
}

fn openings(environment: &Environment) -> Vec<Opening> {
    channels::openings(environment.spec.channel_setup, environment.spec.node_count)
}

/// True if the channels of the spec were opened, or there are none.
pub(super) fn is_done(environment: &Environment) -> anyhow::Result<bool> {
    Ok(openings(environment).is_empty() || state::read_json::<Opened>(&environment.dir.channels())?.is_some())
}

/// Opens the channels of the spec, unless that was done before.
pub(super) async fn run(environment: &Environment, miner: &Miner, nodes: &[Started]) -> anyhow::Result<()> {
    if is_done(environment)? {
        return Ok(());
    }
    let openings = openings(environment);
    let total = openings.iter().map(|opening| opening.peers.len()).sum();
    environment.journal.progress(Step::OpenChannels, 0, total, "Opening the channels");
    send(environment, &openings, nodes).await?;
    let height = miner.mine(ANNOUNCEMENT_DEPTH).await?.height;
    wait(environment, &openings, nodes, height, total).await?;
    environment.bitcoind.flush().await?;
    state::write_json(&environment.dir.channels(), &Opened { height })
}

/// Has each opener send its transaction.
async fn send(environment: &Environment, openings: &[Opening], nodes: &[Started]) -> anyhow::Result<()> {
    let coins = funding::amounts(environment);
    let places = Arc::new(Semaphore::new(CONCURRENT_OPENERS));
    let mut opening = JoinSet::new();
    for Opening { opener, peers } in openings {
        let started = started(nodes, *opener)?;
        let peer = |index: &u32| {
            let id = &self::started(nodes, *index)?.identity.node_id;
            anyhow::Ok((id.clone(), environment.nodes[*index as usize].p2p_address(id)))
        };
        let task = Task {
            node: started.node.clone(),
            child: started.child.clone(),
            sat: channels::size(coins[*opener as usize], peers.len()),
            peers: peers.iter().map(peer).collect::<Result<_, _>>()?,
        };
        let (places, bitcoind) = (places.clone(), environment.bitcoind.clone());
        opening.spawn(async move {
            let _place = places.acquire().await?;
            task.child.wait_until(STEP_TIMEOUT, || open_missing(&bitcoind, &task)).await
        });
    }
    while let Some(done) = opening.join_next().await {
        done??;
    }
    Ok(())
}

/// Waits until both ends of every channel have seen it open. Known to fail where a node was killed in the instant that a
/// channel was mined: Core Lightning 26.04.1 then keeps its end in `CHANNELD_AWAITING_LOCKIN` for good. The error names
/// the node; such an environment has to be made anew.
async fn wait(
    environment: &Environment,
    openings: &[Opening],
    nodes: &[Started],
    height: u32,
    total: usize,
) -> anyhow::Result<()> {
    let ends = || openings.iter().flat_map(|o| o.peers.iter().map(|peer| (o.opener, *peer)));
    let mut expected: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (a, b) in ends() {
        expected.entry(a).or_default().push(b);
        expected.entry(b).or_default().push(a);
    }
    let mut seeing = JoinSet::new();
    for (index, peers) in &expected {
        let Started { node, child, .. } = started(nodes, *index)?;
        let (node, child, index) = (node.clone(), child.clone(), *index);
        let id = |peer: &u32| anyhow::Ok(started(nodes, *peer)?.identity.node_id.clone());
        let peers: Vec<NodeId> = peers.iter().map(id).collect::<Result<_, _>>()?;
        seeing.spawn(async move {
            child.wait_until(STEP_TIMEOUT, || node.wait_for_block(height)).await?;
            child.wait_until(STEP_TIMEOUT, || node.has_channels_with(&peers)).await?;
            anyhow::Ok((index, node.name))
        });
    }
    let mut ready = BTreeSet::new();
    while let Some(done) = seeing.join_next().await {
        let (index, name) = done??;
        ready.insert(index);
        let open = ends().filter(|(a, b)| ready.contains(a) && ready.contains(b)).count();
        environment.journal.progress(Step::OpenChannels, open, total, format!("{name} has its channels"));
    }
    Ok(())
}

fn started(nodes: &[Started], index: u32) -> anyhow::Result<&Started> {
    nodes.get(index as usize).with_context(|| format!("there is no node {index}"))
}

/// Opens the channels of a task that do not exist yet. After a crash some may.
async fn open_missing(bitcoind: &Bitcoind, task: &Task) -> Result<(), RpcError> {
    let mut existing = BTreeSet::new();
    let mut lost = false;
    for channel in task.node.channels().await?.into_iter().filter(Channel::is_ours) {
        // A channel whose transaction never left the node, which was killed before, will never open.
        let sent = match (channel.funding_txid, channel.funding_outnum) {
            (Some(transaction), Some(output)) => bitcoind
                .has_output(&transaction, output)
                .await
                .map_err(|e| task.node.not_yet(e.to_string()))?,
            _ => false,
        };
        if channel.is_open() || (channel.is_waiting() && sent) {
            existing.insert(channel.peer_id.as_str().to_owned());
        } else {
            lost = true;
        }
    }
    let missing = task.peers.iter().filter(|(id, _)| !existing.contains(id.as_str()));
    let missing: Vec<String> = missing.map(|(_, address)| address.clone()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    task.node.release_reserved().await?;
    if lost {
        tracing::warn!(node = task.node.index, "channels were lost in a crash; opening them again");
    }
    // As long as the whole step: a call that times out goes on in the node, and would be made twice.
    task.node.open_channels(&missing, task.sat, STEP_TIMEOUT).await
}
