//! Sends coins of the miner's to nodes, in one transaction that is confirmed at once.
//!
//! The transaction is stored before it is sent. After a crash the next payment first sends the stored one again, so that no
//! coin is counted on twice.

use std::time::Duration;

use anyhow::Context;
use bitcoin::Amount;
use lnplaylive_core::desk::{Did, LeftOut, Refusal, RequestId, Why};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use crate::bitcoind::RpcError;
use crate::chain::{self, Miner, MiningKey};
use crate::node::Node;

use super::environment::Environment;
use super::ledger::{Ledger, Payment};
use super::refused::Refused;

/// The wait for each node: for its address, and until it has seen its coins. All are asked at a time.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);

/// The amount that each of some nodes gets.
pub(super) struct Wish<'a> {
    /// The node; `None` for all.
    pub(super) node: Option<u32>,
    pub(super) sat: u64,
    pub(super) request: Option<&'a RequestId>,
}

/// Sends the coins. Nodes that are off or do not answer get none.
pub(super) async fn send(
    environment: &Environment,
    key: &MiningKey,
    miner: &Miner,
    ledger: &mut Ledger,
    wish: Wish<'_>,
) -> Result<Did, Refused> {
    if let Some(payment) = ledger.pending().cloned() {
        confirm(environment, miner, ledger, &payment).await?;
        if payment.request.is_some() && payment.request.as_ref() == wish.request {
            return Ok(payment.did);
        }
    }
    let (receivers, left_out) = addresses(environment, wish.node).await;
    if receivers.is_empty() {
        return Err(match (wish.node, left_out.first()) {
            (Some(node), Some(LeftOut { why: Why::Off, .. })) => Refused::node_off(environment, node),
            (Some(node), _) => Refused::no_answer(environment, node),
            (None, _) => Refused::new(Refusal::NoAnswer, "no node answers"),
        });
    }
    let amount = Amount::from_sat(wish.sat);
    let outputs = receivers.iter().map(|(_, address)| Ok((chain::script_of(address)?, amount)));
    let outputs: Vec<_> = outputs.collect::<anyhow::Result<_>>()?;
    let total = amount * outputs.len() as u64;
    let coins =
        environment.bitcoind.spendable_coins(&key.address()).await.context("counting the miner's coins")?;
    let chosen = chain::choose_coins(coins, total).ok_or_else(|| {
        Refused::new(Refusal::NoCoins, format!("the miner has less than {total} and the fee"))
    })?;
    let did = Did::CoinsSent {
        nodes: receivers.iter().map(|(node, _)| node.index).collect(),
        sat: wish.sat,
        left_out,
    };
    let transaction = chain::payment(key, &chosen, &outputs)?;
    let payment = Payment { transaction, request: wish.request.cloned(), did };
    ledger.begin(payment.clone())?;
    let height = confirm(environment, miner, ledger, &payment).await?;
    wait_for_all(receivers.into_iter().map(|(node, _)| node), height).await;
    Ok(payment.did)
}

/// Sends a stored payment, mines it and returns the height of the chain.
async fn confirm(
    environment: &Environment,
    miner: &Miner,
    ledger: &mut Ledger,
    payment: &Payment,
) -> Result<u32, Refused> {
    match environment.bitcoind.send(&payment.transaction).await {
        Ok(()) => {}
        Err(error @ RpcError::Refused { .. }) => {
            // It will never be in the chain.
            ledger.end()?;
            return Err(anyhow::Error::from(error).context("the payment was refused").into());
        }
        Err(error) => {
            return Err(anyhow::Error::from(error).context("the payment is sent with the next one").into());
        }
    }
    let height = miner.mine(1).await.context("the payment is not confirmed yet")?.height;
    environment.bitcoind.flush().await.context("the payment is confirmed, and a crash may undo it")?;
    ledger.end()?;
    Ok(height)
}

/// New addresses of the nodes, and the nodes that have none to give.
async fn addresses(environment: &Environment, only: Option<u32>) -> (Vec<(Node, String)>, Vec<LeftOut>) {
    let wanted = environment.nodes.iter().filter(|node| only.is_none_or(|only| node.index == only));
    let (mut asked, mut left_out) = (JoinSet::new(), Vec::new());
    for node in wanted.cloned() {
        if environment.switches.is_off(node.index) {
            left_out.push(LeftOut { node: node.index, why: Why::Off });
            continue;
        }
        asked.spawn(async move {
            let address = timeout(NODE_TIMEOUT, node.new_address()).await;
            (node, address)
        });
    }
    let mut receivers = Vec::new();
    for (node, address) in asked.join_all().await {
        match address {
            Ok(Ok(address)) => receivers.push((node, address)),
            other => {
                warn!(node = node.index, "gets no coins: {other:?}");
                left_out.push(LeftOut { node: node.index, why: Why::NoAnswer });
            }
        }
    }
    receivers.sort_by_key(|(node, _)| node.index);
    left_out.sort_by_key(|one| one.node);
    (receivers, left_out)
}

/// Waits until the nodes have seen a block, or the time is over: they see it a moment later in any case.
pub(super) async fn wait_for_all(nodes: impl IntoIterator<Item = Node>, height: u32) {
    let mut seeing = JoinSet::new();
    for node in nodes {
        seeing.spawn(async move { timeout(NODE_TIMEOUT, node.wait_for_block(height)).await });
    }
    seeing.join_all().await;
}
