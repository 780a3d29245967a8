//! The organiser's desk: carries out one action at a time on an environment that is up.

use std::time::Duration;

use lnplaylive_core::Secret;
use lnplaylive_core::desk::{Action, Answer, Did, Refusal};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::info;

use crate::chain::{Miner, MiningKey};
use crate::node::{self, Node};

use super::environment::Environment;
use super::ledger::{Ledger, Reused};
use super::overview::overview;
use super::refused::Refused;
use super::sending::{self, Wish};
use super::topology;

/// The time-out of an action. The largest, channels for 64 nodes, takes 20 s on two processors; the shop waits longer than this.
const ACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// The wait until a node answers that was switched on. Longer than its start takes while 64 nodes work.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The wait for one node's new rune.
const CARD_TIMEOUT: Duration = Duration::from_secs(20);

/// The desk of an environment that is up.
#[derive(Debug)]
pub(super) struct Desk {
    key: MiningKey,
    miner: Miner,
    /// Locked while an action is under way.
    ledger: Mutex<Ledger>,
}

impl Desk {
    /// The desk of an environment whose blocks pay to `key`.
    pub(super) fn new(environment: &Environment, key: MiningKey) -> Self {
        let miner = Miner::new(environment.bitcoind.clone(), &key, &environment.dir);
        Self { key, miner, ledger: Mutex::new(Ledger::load(&environment.dir)) }
    }

    /// The miner of the environment.
    pub(super) fn miner(&self) -> &Miner {
        &self.miner
    }

    /// Carries out an action. An action that is repeated with its request's id is carried out once.
    pub(super) async fn act(&self, environment: &Environment, action: &Action) -> Answer {
        let late = || Refused::new(Refusal::Late, format!("not done after {} s", ACTION_TIMEOUT.as_secs()));
        let did = timeout(ACTION_TIMEOUT, self.try_to_act(environment, action)).await;
        match did.unwrap_or_else(|_| Err(late())) {
            Ok(did) => Answer::Done { did, overview: overview(environment).await },
            Err(refused) => {
                info!(?action, "the desk: {refused:?}");
                refused.into()
            }
        }
    }

    async fn try_to_act(&self, environment: &Environment, action: &Action) -> Result<Did, Refused> {
        action
            .validate(environment.spec.node_count)
            .map_err(|error| Refused::new(Refusal::Invalid, error.to_string()))?;
        match action {
            Action::Look => return Ok(Did::Looked),
            Action::Cards => return Ok(cards(environment)),
            _ => {}
        }
        let Ok(mut ledger) = self.ledger.try_lock() else {
            return Err(Refused::new(Refusal::Busy, "another action is under way"));
        };
        let reused =
            |Reused| Refused::new(Refusal::RequestReused, "the request's id belongs to another action");
        if let Some(did) = ledger.recall(action).map_err(reused)? {
            return Ok(did);
        }
        let did = self.carry_out(environment, &mut ledger, action).await?;
        info!(?action, "the desk");
        ledger.remember(action, &did);
        Ok(did)
    }

    async fn carry_out(
        &self,
        environment: &Environment,
        ledger: &mut Ledger,
        action: &Action,
    ) -> Result<Did, Refused> {
        Ok(match action {
            Action::Look | Action::Cards => Did::Looked,
            Action::NewCard { node, .. } => new_card(environment, *node).await?,
            Action::SendCoins { node, sat, request } => {
                let wish = Wish { node: *node, sat: *sat, request: request.as_ref() };
                sending::send(environment, &self.key, &self.miner, ledger, wish).await?
            }
            Action::OpenChannels { setup } => topology::open(environment, &self.miner, *setup).await?,
            Action::Mine { blocks, .. } => {
                self.miner.mine(*blocks).await.map_err(anyhow::Error::from)?;
                Did::Mined { blocks: *blocks }
            }
            Action::PauseBlocks => {
                environment.switches.pause_blocks(true)?;
                Did::BlocksPaused
            }
            Action::ResumeBlocks => {
                environment.switches.pause_blocks(false)?;
                Did::BlocksResumed
            }
            Action::SwitchOff { node } => {
                environment.switches.switch(*node, true)?;
                environment.stop_node(*node).await;
                Did::SwitchedOff { node: *node }
            }
            Action::SwitchOn { node } => switch_on(environment, *node).await?,
        })
    }
}

fn node_of(environment: &Environment, index: u32) -> Result<&Node, Refused> {
    let node = environment.nodes.get(index as usize);
    node.ok_or_else(|| Refused::new(Refusal::Invalid, format!("there is no node {index}")))
}

/// The runes that the nodes have now.
fn cards(environment: &Environment) -> Did {
    let rune = |node: &Node| {
        let identity = node::stored_identity(&environment.dir, node.index).ok().flatten();
        identity.map(|identity| Secret::new(identity.rune))
    };
    Did::Cards { runes: environment.nodes.iter().map(rune).collect() }
}

async fn new_card(environment: &Environment, index: u32) -> Result<Did, Refused> {
    let node = node_of(environment, index)?;
    if environment.switches.is_off(index) {
        return Err(Refused::node_off(environment, index));
    }
    if !timeout(CARD_TIMEOUT, node.id()).await.is_ok_and(|answer| answer.is_ok()) {
        return Err(Refused::no_answer(environment, index));
    }
    let identity = node.new_card(environment.spec.node_access).await?;
    Ok(Did::NewCard { node: index, rune: Secret::new(identity.rune) })
}

async fn switch_on(environment: &Environment, index: u32) -> Result<Did, Refused> {
    let node = node_of(environment, index)?;
    environment.switches.switch(index, false)?;
    let child = environment.start_node(node);
    let answers = timeout(START_TIMEOUT, child.wait_until(START_TIMEOUT, || node.id())).await;
    if !answers.is_ok_and(|answer| answer.is_ok()) {
        // It is on, and started again and again like any other.
        return Err(Refused::no_answer(environment, index));
    }
    if let Err(error) = node.finish_revocation().await {
        tracing::warn!("the old card of {} is still valid: {error:#}", node.name);
    }
    Ok(Did::SwitchedOn { node: index })
}
