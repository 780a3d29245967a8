//! Funds all nodes of a new environment in one transaction.

use anyhow::{Context, ensure};
use bitcoin::Amount;
use lnplaylive_core::progress::Step;
use tokio::task::JoinSet;

use crate::chain::{self, Funding, Miner, MiningKey};
use crate::{coins, state};

use super::environment::{Environment, STEP_TIMEOUT, Started};

/// The stored funding transaction; `None` if it is still to be made.
pub(super) fn stored(environment: &Environment) -> anyhow::Result<Option<Funding>> {
    state::read_json(&environment.dir.funding())
}

/// The number of coinbases that pay for the funding.
pub(super) fn coinbases(environment: &Environment) -> u32 {
    chain::coinbases_for(Amount::from_sat(coins::PER_NODE * u64::from(environment.spec.node_count)))
}

/// The sats that each node gets, node 0 first.
pub(super) fn amounts(environment: &Environment) -> Vec<u64> {
    let spec = &environment.spec;
    coins::allocate(spec.coin_distribution, spec.channel_setup, spec.node_count, spec.seed)
}

/// Funds all nodes, once, and waits until they have seen it.
pub(super) async fn run(
    environment: &Environment,
    key: &MiningKey,
    miner: &Miner,
    stored: Option<Funding>,
    nodes: &[Started],
) -> anyhow::Result<()> {
    let (journal, total) = (&environment.journal, nodes.len());
    journal.progress(Step::FundNodes, 0, total, "Funding the nodes");
    let amounts = amounts(environment);
    let mut funding = match stored {
        Some(funding) => funding,
        None => make(environment, key, nodes, &amounts).await?,
    };
    if funding.height.is_some() {
        journal.progress(Step::FundNodes, total, total, "The nodes were funded before");
        return Ok(());
    }
    let height = miner.confirm(&funding).await?;
    let mut seeing = JoinSet::new();
    for (Started { node, child, .. }, sat) in nodes.iter().zip(amounts) {
        let (node, child) = (node.clone(), child.clone());
        seeing.spawn(async move {
            child.wait_until(STEP_TIMEOUT, || node.wait_for_block(height)).await?;
            let has = child.wait_until(STEP_TIMEOUT, || node.confirmed_sat()).await?;
            ensure!(has >= sat, "node {} has {has} sat at block {height}, not {sat}", node.index);
            Ok(node.name)
        });
    }
    let mut funded = 0;
    while let Some(done) = seeing.join_next().await {
        let name = done??;
        funded += 1;
        journal.progress(Step::FundNodes, funded, total, format!("{name} has its coins"));
    }
    funding.height = Some(height);
    state::write_json(&environment.dir.funding(), &funding)
}

/// Makes and stores the transaction that pays each node its amount.
async fn make(
    environment: &Environment,
    key: &MiningKey,
    nodes: &[Started],
    amounts: &[u64],
) -> anyhow::Result<Funding> {
    let mut inputs = Vec::new();
    for height in 1..=coinbases(environment) {
        inputs.push(environment.bitcoind.coinbase(height).await?);
    }
    let mut outputs = Vec::new();
    for (started, sat) in nodes.iter().zip(amounts) {
        let address = started.address.as_deref().context("a node that is to be funded has no address")?;
        outputs.push((chain::script_of(address)?, Amount::from_sat(*sat)));
    }
    let transaction = chain::funding_transaction(key, &inputs, &outputs)?;
    let funding = Funding { transaction, height: None };
    state::write_json(&environment.dir.funding(), &funding)?;
    Ok(funding)
}
