//! The environment as it is now: for `lnplay status`, and for the organiser's desk.

use std::time::Duration;

use lnplaylive_core::desk::{self, NodeState, NodeView, Overview};
use lnplaylive_core::health::REPORT_VERSION;
use lnplaylive_core::progress::Line;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::control::{self, NodeStatus, Phase, Status};
use crate::node;

use super::environment::Environment;

/// The wait for each daemon, all at a time: less than the time-out of those who wait for the whole answer.
const LIMIT: Duration = Duration::from_secs(control::ANSWER_TIMEOUT.as_secs() / 2);

/// The environment's status. Asks all daemons.
pub(super) async fn status(environment: &Environment) -> Status {
    let mut asked = JoinSet::new();
    for node in environment.nodes_on().cloned() {
        asked.spawn(async move {
            let height = timeout(LIMIT, node.height()).await.ok().and_then(Result::ok);
            (node.index, height)
        });
    }
    let block_height = timeout(LIMIT, environment.bitcoind.height()).await.ok().and_then(Result::ok);
    let heights: std::collections::BTreeMap<_, _> = asked.join_all().await.into_iter().collect();
    let nodes: Vec<_> = environment
        .nodes
        .iter()
        .map(|node| {
            let identity = node::stored_identity(&environment.dir, node.index).ok().flatten();
            NodeStatus {
                index: node.index,
                name: node.name.clone(),
                block_height: heights.get(&node.index).copied().flatten(),
                off: environment.switches.is_off(node.index),
                card: identity.as_ref().map(|identity| desk::fingerprint(&identity.rune)),
                node_id: identity.map(|identity| identity.node_id),
                child: environment.node_status(node.index),
            }
        })
        .collect();
    let phase = match environment.journal.last() {
        Some(Line::Ready { .. }) => Phase::Ready,
        Some(Line::Failed { .. }) => Phase::Failed,
        Some(Line::Progress(_)) | None => Phase::Starting,
    };
    let all_answer =
        block_height.is_some() && nodes.iter().all(|node| node.off || node.block_height.is_some());
    Status {
        version: REPORT_VERSION,
        phase,
        ready: phase == Phase::Ready && all_answer,
        environment: Some(environment.spec.environment.clone()),
        block_height,
        blocks_paused: environment.switches.blocks_are_paused(),
        bitcoind: environment.bitcoind_status(),
        nodes,
    }
}

/// The environment, as the desk shows it. Asks all daemons.
pub(super) async fn overview(environment: &Environment) -> Overview {
    let Status { block_height, blocks_paused, nodes, .. } = status(environment).await;
    let view = |NodeStatus { index, name, block_height, off, card, .. }: NodeStatus| NodeView {
        index,
        name,
        state: match block_height {
            _ if off => NodeState::Off,
            Some(_) => NodeState::Running,
            None => NodeState::Down,
        },
        block_height,
        card,
    };
    Overview { block_height, blocks_paused, nodes: nodes.into_iter().map(view).collect() }
}
