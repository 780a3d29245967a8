//! Opens the channels of a set-up between nodes that are in use, as far as they are missing.
//!
//! Unlike [`super::opening`], it works on nodes that belong to their attendees: it takes no coins that they have reserved,
//! counts their own channels, whoever opened them, and goes on without a node that is off or has too few coins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lnplaylive_core::desk::{Did, LeftOut, Why};
use lnplaylive_core::{ChannelSetup, NodeId};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use crate::bitcoind::Bitcoind;
use crate::chain::Miner;
use crate::channels::{self, Opening};
use crate::child::Attempt;
use crate::coins;
use crate::node::{self, Node, RpcError};

use super::environment::Environment;
use super::opening::{ANNOUNCEMENT_DEPTH, CONCURRENT_OPENERS};
use super::refused::Refused;
use super::sending;

/// The wait for a node's list of channels and coins.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait for one node's openings. A call that times out goes on in the node; its channels are found by the next action.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts of one node. A neighbour that was just switched on may not listen yet.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// The wait until both ends have seen their channels open. They do so a moment later in any case.
const SEEN_TIMEOUT: Duration = Duration::from_secs(10);

/// What one node has opened.
#[derive(Debug, Default)]
struct Opened {
    now: Vec<NodeId>,
    before: u32,
}

/// The channels that one node is to open.
struct Task {
    node: Node,
    /// The other ends, and their addresses.
    peers: Vec<(NodeId, String)>,
}

/// Opens the channels.
pub(super) async fn open(
    environment: &Environment,
    miner: &Miner,
    setup: ChannelSetup,
) -> Result<Did, Refused> {
    let openings = channels::openings(setup, environment.spec.node_count);
    let mut left_out = BTreeMap::new();
    let there = answering(environment, &mut left_out).await;
    let places = Arc::new(Semaphore::new(CONCURRENT_OPENERS));
    let mut opening = JoinSet::new();
    for Opening { opener, peers } in openings.iter().filter(|opening| there.contains_key(&opening.opener)) {
        let Some(node) = environment.nodes.get(*opener as usize).cloned() else { continue };
        let address = |index: &u32| {
            let id = there.get(index)?;
            Some((id.clone(), environment.nodes.get(*index as usize)?.p2p_address(id)))
        };
        let task = Task { node, peers: peers.iter().filter_map(address).collect() };
        let (places, bitcoind) = (places.clone(), environment.bitcoind.clone());
        opening.spawn(async move {
            let _place = places.acquire().await;
            let opened = open_missing(&bitcoind, &task).await;
            (task.node, opened)
        });
    }
    let (mut opened, mut open_already, mut seen) = (0, 0, Vec::new());
    while let Some(done) = opening.join_next().await {
        let (node, done) = done.map_err(anyhow::Error::from)?;
        match done {
            Ok(Opened { now, before }) => {
                opened += u32::try_from(now.len()).unwrap_or(u32::MAX);
                open_already += before;
                seen.push((node, now));
            }
            Err(why) => {
                left_out.insert(node.index, why);
            }
        }
    }
    if opened > 0 {
        let height = miner.mine(ANNOUNCEMENT_DEPTH).await.map_err(anyhow::Error::from)?.height;
        sending::wait_for_all(environment.nodes_on().cloned(), height).await;
        wait_until_open(seen).await;
        environment.bitcoind.flush().await.map_err(anyhow::Error::from)?;
    }
    // Only those for whose sake a channel is missing: others play no part in this set-up.
    let part: BTreeSet<u32> =
        openings.iter().flat_map(|o| o.peers.iter().copied().chain([o.opener])).collect();
    let left_out = left_out.into_iter().filter(|(node, _)| part.contains(node));
    let left_out = left_out.map(|(node, why)| LeftOut { node, why }).collect();
    Ok(Did::ChannelsOpened { opened, open_already, left_out })
}

/// The ids of the nodes that are on and answer. The others are added to `left_out`.
async fn answering(environment: &Environment, left_out: &mut BTreeMap<u32, Why>) -> BTreeMap<u32, NodeId> {
    let mut asked = JoinSet::new();
    for node in &environment.nodes {
        if environment.switches.is_off(node.index) {
            left_out.insert(node.index, Why::Off);
            continue;
        }
        let node = node.clone();
        asked.spawn(async move { (node.index, timeout(ASK_TIMEOUT, node.id()).await) });
    }
    let mut there = BTreeMap::new();
    for (index, answer) in asked.join_all().await {
        if answer.is_ok_and(|answer| answer.is_ok())
            && let Ok(Some(identity)) = node::stored_identity(&environment.dir, index)
        {
            there.insert(index, identity.node_id);
        } else {
            left_out.insert(index, Why::NoAnswer);
        }
    }
    there
}

/// Opens the channels of a task that do not exist, in one transaction.
async fn open_missing(bitcoind: &Bitcoind, task: &Task) -> Result<Opened, Why> {
    let mut attempt = 1;
    loop {
        match try_to_open(bitcoind, task).await {
            // After a call without an answer the channels may still come.
            Err(Failure::Call(error @ RpcError::Refused { .. }))
                if attempt < ATTEMPTS && error.may_pass() =>
            {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(Failure::Call(error)) => {
                warn!("channels were not opened: {:#}", anyhow::Error::from(error));
                return Err(Why::Failed);
            }
            Err(Failure::NoCoins) => return Err(Why::NoCoins),
            Ok(opened) => return Ok(opened),
        }
    }
}

enum Failure {
    NoCoins,
    Call(RpcError),
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        Self::Call(error)
    }
}

async fn try_to_open(bitcoind: &Bitcoind, task: &Task) -> Result<Opened, Failure> {
    let existing = existing(bitcoind, &task.node).await?;
    let (before, missing): (Vec<_>, Vec<_>) = task.peers.iter().partition(|(id, _)| existing.contains(id));
    let before = u32::try_from(before.len()).unwrap_or(u32::MAX);
    if missing.is_empty() {
        return Ok(Opened { now: Vec::new(), before });
    }
    let coins = task.node.spendable_sat().await?;
    let sat = affordable(coins, missing.len()).ok_or(Failure::NoCoins)?;
    let addresses: Vec<_> = missing.iter().map(|(_, address)| address.clone()).collect();
    task.node.open_channels(&addresses, sat, OPEN_TIMEOUT).await?;
    Ok(Opened { now: missing.into_iter().map(|(id, _)| id.clone()).collect(), before })
}

/// The size, in sat, of each of `count` channels that a node with `coins` sat opens; `None` if it cannot pay for them and
/// keep what every node begins with at least.
fn affordable(coins: u64, count: usize) -> Option<u64> {
    let sat = channels::size(coins, count);
    (sat * count as u64 + coins::AT_LEAST <= coins).then_some(sat)
}

/// The other ends of the node's channels that are open or will be, whoever opened them.
async fn existing(bitcoind: &Bitcoind, node: &Node) -> Result<BTreeSet<NodeId>, RpcError> {
    let mut existing = BTreeSet::new();
    for channel in node.channels().await? {
        // A channel whose transaction never left the node will never open.
        let is_coming = match (channel.is_waiting(), channel.funding_txid, channel.funding_outnum) {
            (true, Some(transaction), Some(output)) => {
                bitcoind.has_output(&transaction, output).await.map_err(|e| node.not_yet(e.to_string()))?
            }
            _ => false,
        };
        if channel.is_open() || is_coming {
            existing.insert(channel.peer_id);
        }
    }
    Ok(existing)
}

/// Waits until the nodes have seen the channels open that they opened.
async fn wait_until_open(opened: Vec<(Node, Vec<NodeId>)>) {
    let mut seeing = JoinSet::new();
    for (node, peers) in opened {
        seeing.spawn(timeout(SEEN_TIMEOUT, async move {
            while node.has_channels_with(&peers).await.is_err() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }));
    }
    seeing.join_all().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_opens_only_what_it_can_pay_for() {
        assert_eq!(affordable(100_000_000, 1), Some(channels::LARGEST));
        assert_eq!(affordable(100_000_000, 63), Some(channels::SMALLEST));
        assert_eq!(affordable(2_000_000, 1), Some(channels::SMALLEST));
        assert_eq!(affordable(1_999_999, 1), None, "the reserve would be touched");
        assert_eq!(affordable(63_000_000, 63), None);
        assert_eq!(affordable(0, 1), None);
    }
}
