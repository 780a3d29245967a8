//! Brings an environment up: a new one as a whole or not at all, one that was handed over as far as its daemons let it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use lnplaylive_core::ConnectionString;
use lnplaylive_core::progress::Step;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::chain::{self, Miner, MiningKey};
use crate::child::Child;
use crate::node::Node;
use crate::room::Room;

use super::environment::{Environment, STEP_TIMEOUT, Started};
use super::{funding, opening};

/// The time-out for a new environment. 64 nodes on two busy cores take a tenth of it.
const NEW_TIMEOUT: Duration = Duration::from_secs(180);

/// The time that the nodes of an environment that was handed over get before it is called ready without some of them.
const RESUME_TIMEOUT: Duration = Duration::from_secs(120);

/// The pause between two attempts to mine on a bitcoind that was just restarted.
const MINE_PAUSE: Duration = Duration::from_secs(1);

/// Brings the environment up and returns its connection strings, node 0's first.
pub(super) async fn run(
    environment: &Arc<Environment>,
    key: &MiningKey,
    miner: &Miner,
) -> anyhow::Result<Vec<ConnectionString>> {
    if was_handed_over(environment)? {
        return resume(environment, miner).await;
    }
    let begin = timeout(NEW_TIMEOUT, begin(environment, key, miner));
    begin.await.with_context(|| format!("the environment was not up after {NEW_TIMEOUT:?}"))?
}

/// True if the environment was up before: its nodes are funded and their channels open. From then on it belongs to its
/// attendees, and one daemon that fails is no reason to stop the others.
fn was_handed_over(environment: &Environment) -> anyhow::Result<bool> {
    let is_funded = funding::stored(environment)?.is_some_and(|funding| funding.height.is_some());
    Ok(is_funded && opening::is_done(environment)?)
}

/// Brings a new environment up. Any failure is final.
async fn begin(
    environment: &Arc<Environment>,
    key: &MiningKey,
    miner: &Miner,
) -> anyhow::Result<Vec<ConnectionString>> {
    let journal = &environment.journal;
    journal.progress(Step::StartBitcoind, 0, 1, "Starting bitcoind");
    environment.end_leftovers().await?;
    let bitcoind = environment.start_bitcoind();
    bitcoind.wait_until(STEP_TIMEOUT, || environment.bitcoind.height()).await?;
    journal.progress(Step::MatureChain, 0, 1, "Mining the first blocks");
    miner.mature(funding::coinbases(environment), stored_height(environment)).await?;

    let stored = funding::stored(environment)?;
    let started = start_nodes(environment, stored.is_none()).await?;
    publish_room(&started).await?;
    funding::run(environment, key, miner, stored, &started).await?;
    opening::run(environment, miner, &started).await?;
    started
        .into_iter()
        .map(|Started { node, identity, .. }| node.connection_string(&environment.spec, identity))
        .collect()
}

fn stored_height(environment: &Environment) -> u32 {
    chain::stored_tip(&environment.dir).map_or(0, |tip| tip.height)
}

/// Starts all nodes and waits for each of them. A node that is to be funded makes an address.
async fn start_nodes(environment: &Arc<Environment>, to_fund: bool) -> anyhow::Result<Vec<Started>> {
    let (journal, total) = (&environment.journal, environment.nodes.len());
    journal.progress(Step::StartNodes, 0, total, "Starting the nodes");
    let mut starting = JoinSet::new();
    for node in environment.nodes.iter().cloned() {
        node.create_dir(environment.users)?;
        let access = environment.spec.node_access;
        let child = environment.start_node(&node);
        starting.spawn(async move {
            let id = child.wait_until(STEP_TIMEOUT, || node.id()).await?;
            let identity = node.identity(id, access).await?;
            let address = if to_fund { Some(node.new_address().await?) } else { None };
            anyhow::Ok(Started { node, child, identity, address })
        });
    }
    let mut ready: Vec<Started> = Vec::with_capacity(total);
    while let Some(done) = starting.join_next().await {
        let started = done??;
        let message = format!("{} is up", started.node.name);
        ready.push(started);
        journal.progress(Step::StartNodes, ready.len(), total, message);
    }
    ready.sort_by_key(|started| started.node.index);
    Ok(ready)
}

/// Stores the room's directory in every node.
async fn publish_room(nodes: &[Started]) -> anyhow::Result<()> {
    let entries = nodes.iter().map(|Started { node, identity, .. }| node.entry(identity.node_id.clone()));
    let room = Arc::new(Room::of(entries.collect()));
    let mut publishing = JoinSet::new();
    for Started { node, child, .. } in nodes {
        let (node, child, room) = (node.clone(), child.clone(), room.clone());
        publishing.spawn(async move { child.wait_until(STEP_TIMEOUT, || node.publish(&room)).await });
    }
    while let Some(done) = publishing.join_next().await {
        done??;
    }
    Ok(())
}

/// Brings an environment up again that was handed over. Waits for bitcoind as long as it takes, since nothing works
/// without it; a node that does not start is left to be restarted, and the others run.
async fn resume(environment: &Arc<Environment>, miner: &Miner) -> anyhow::Result<Vec<ConnectionString>> {
    let journal = &environment.journal;
    journal.progress(Step::StartBitcoind, 0, 1, "Starting bitcoind");
    environment.end_leftovers().await?;
    let bitcoind = environment.start_bitcoind();
    bitcoind.wait_patiently(|| environment.bitcoind.height()).await;
    journal.progress(Step::MatureChain, 0, 1, "Mining a block");
    while let Err(error) = miner.mature(0, stored_height(environment)).await {
        warn!("no block mined: {:#}", anyhow::Error::from(error));
        sleep(MINE_PAUSE).await;
    }
    let total = environment.nodes_on().count();
    journal.progress(Step::StartNodes, 0, total, "Starting the nodes");
    let mut starting = JoinSet::new();
    for node in environment.nodes_on().cloned() {
        if let Err(error) = node.create_dir(environment.users) {
            warn!("{error:#}");
        }
        let child = environment.start_node(&node);
        starting.spawn(async move {
            let answers = timeout(RESUME_TIMEOUT, settled(&child, &node)).await.unwrap_or(false);
            if answers && let Err(error) = node.finish_revocation().await {
                warn!("the old card of {} is still valid: {error:#}", node.name);
            }
            (node.name, answers)
        });
    }
    let mut up = 0;
    while let Some(done) = starting.join_next().await {
        let (name, answers) = done?;
        up += usize::from(answers);
        let state = if answers { "is up" } else { "does not start yet and is restarted" };
        journal.progress(Step::StartNodes, up, total, format!("{name} {state}"));
    }
    environment.connection_strings()
}

/// Waits until a node answers (`true`) or turns out not to start (`false`).
async fn settled(child: &Child, node: &Node) -> bool {
    tokio::select! {
        _ = child.wait_patiently(|| node.id()) => true,
        () = child.wait_for_start_failure() => false,
    }
}
