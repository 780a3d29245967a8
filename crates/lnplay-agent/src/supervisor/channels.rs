//! Opens the channels of the spec, once, and waits until both ends of each can use it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use lnplaylive_core::NodeId;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{STEP_LIMIT, Shared, Started};
use crate::bitcoind::Bitcoind;
use crate::chain::MiningKey;
use crate::channels::{self, Opening};
use crate::child::Child;
use crate::coins;
use crate::node::{Channel, Node, RpcError};
use crate::state;

/// How many nodes open channels at the same time: each opening takes two processes of its own at either end.
const OPENERS_AT_ONCE: usize = 8;

/// Blocks on a channel until nodes tell others of it (BOLT 7), so that payments find their way.
const ANNOUNCED_AFTER: u32 = 6;

/// Stored when all channels were there.
#[derive(Serialize, Deserialize)]
struct Opened {
    height: u32,
}

/// What one node is to open, in terms of the nodes.
#[derive(Clone)]
struct Task {
    node: Node,
    child: Child,
    /// The other ends, and where they listen.
    peers: Vec<(NodeId, String)>,
    sat: u64,
}

impl Shared {
    /// Opens the channels of the spec, unless that was done before: what became of them then is their owners' business.
    pub(super) async fn open_channels(
        self: &Arc<Self>,
        key: &MiningKey,
        nodes: &[Started],
    ) -> anyhow::Result<()> {
        let openings = channels::openings(self.spec.channel_setup, self.spec.node_count);
        let total = openings.iter().map(|opening| opening.peers.len()).sum();
        if total == 0 || state::read_json::<Opened>(&self.dir.channels())?.is_some() {
            return Ok(());
        }
        self.progress("open-channels", 0, total, "Opening the channels");
        self.fund_channels(&openings, nodes).await?;
        self.bitcoind.mine(ANNOUNCED_AFTER, &key.address()).await?;
        let height = self.bitcoind.height().await?;
        self.see_channels(&openings, nodes, height, total).await?;
        self.bitcoind.flush().await?;
        state::write_json(&self.dir.channels(), &Opened { height })
    }

    /// Has each opener send its transaction.
    async fn fund_channels(&self, openings: &[Opening], nodes: &[Started]) -> anyhow::Result<()> {
        let coins = coins::allocate(
            self.spec.coin_distribution,
            self.spec.channel_setup,
            self.spec.node_count,
            self.spec.seed,
        );
        let places = Arc::new(Semaphore::new(OPENERS_AT_ONCE));
        let mut opening = JoinSet::new();
        for Opening { opener, peers } in openings {
            let started = started(nodes, *opener)?;
            let peer = |index: &u32| {
                let id = &self::started(nodes, *index)?.identity.node_id;
                anyhow::Ok((id.clone(), self.nodes[*index as usize].p2p_address(id)))
            };
            let task = Task {
                node: started.node.clone(),
                child: started.child.clone(),
                sat: channels::size(coins[*opener as usize], peers.len()),
                peers: peers.iter().map(peer).collect::<Result<_, _>>()?,
            };
            let (places, bitcoind) = (places.clone(), self.bitcoind.clone());
            opening.spawn(async move {
                let _place = places.acquire().await?;
                task.child.wait_until(STEP_LIMIT, || open_missing(&bitcoind, &task)).await
            });
        }
        while let Some(done) = opening.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Waits until both ends of every channel have seen it open. Known to fail where a node was killed in the instant that
    /// a channel was mined: Core Lightning 26.04.1 then keeps its end in `CHANNELD_AWAITING_LOCKIN`, whatever comes after.
    /// The error names the node; such an environment has to be made anew.
    async fn see_channels(
        &self,
        openings: &[Opening],
        nodes: &[Started],
        height: u32,
        total: usize,
    ) -> anyhow::Result<()> {
        let mut expected: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (a, b) in openings.iter().flat_map(|o| o.peers.iter().map(|peer| (o.opener, *peer))) {
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
                child.wait_until(STEP_LIMIT, || node.wait_for_block(height)).await?;
                child.wait_until(STEP_LIMIT, || node.has_channels_with(&peers)).await?;
                anyhow::Ok((index, node.name))
            });
        }
        let mut ready = BTreeSet::new();
        while let Some(done) = seeing.join_next().await {
            let (index, name) = done??;
            ready.insert(index);
            let ends = openings.iter().flat_map(|o| o.peers.iter().map(|peer| (o.opener, *peer)));
            let open = ends.filter(|(a, b)| ready.contains(a) && ready.contains(b)).count();
            self.progress("open-channels", open, total, format!("{name} has its channels"));
        }
        Ok(())
    }
}

fn started(nodes: &[Started], index: u32) -> anyhow::Result<&Started> {
    nodes.get(index as usize).with_context(|| format!("there is no node {index}"))
}

/// Opens those channels of a task that are not there: after a crash some may be.
async fn open_missing(bitcoind: &Bitcoind, task: &Task) -> Result<(), RpcError> {
    let mut there = BTreeSet::new();
    let mut lost = false;
    for channel in task.node.channels().await?.into_iter().filter(Channel::is_ours) {
        // One whose transaction never left the node, because it was killed before, will never open.
        let sent = match (channel.funding_txid, channel.funding_outnum) {
            (Some(transaction), Some(output)) => bitcoind
                .has_output(&transaction, output)
                .await
                .map_err(|e| task.node.not_yet(e.to_string()))?,
            _ => false,
        };
        if channel.is_open() || (channel.is_waiting() && sent) {
            there.insert(channel.peer_id.as_str().to_owned());
        } else {
            lost = true;
        }
    }
    let missing = task.peers.iter().filter(|(id, _)| !there.contains(id.as_str()));
    let missing: Vec<String> = missing.map(|(_, address)| address.clone()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    task.node.release_reserved().await?;
    if lost {
        tracing::warn!(node = task.node.index, "channels were lost in a crash; opening them again");
    }
    // As long as the whole step: a call that is given up goes on in the node, and would be made twice.
    task.node.open_channels(&missing, task.sat, STEP_LIMIT).await
}
