//! The server on the control socket: status, and progress to those who follow.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use lnplaylive_core::health::REPORT_VERSION;
use lnplaylive_core::progress::Line;
use lnplaylive_core::version;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::child::Child;
use crate::control::{self, NodeStatus, Phase, Request, Status};
use crate::node::{self, Node};
use crate::state::StateDir;

use super::environment::Environment;

/// Listens on the control socket.
pub(super) fn listen(dir: &StateDir) -> anyhow::Result<UnixListener> {
    let path = dir.control();
    // A supervisor that was killed leaves its socket; we hold the lock, so none is alive.
    let _none = std::fs::remove_file(&path);
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers connections, each in one of `tasks`, until `end`.
pub(super) async fn serve(
    environment: Arc<Environment>,
    listener: UnixListener,
    tasks: TaskTracker,
    end: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let environment = environment.clone();
                tasks.spawn(async move {
                    if let Err(error) = answer(&environment, stream).await {
                        // `lnplay up` may be interrupted at any time.
                        info!("a connection ended: {error:#}");
                    }
                });
            }
            Err(error) => {
                warn!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(environment: &Environment, mut stream: UnixStream) -> anyhow::Result<()> {
    match control::read_request(&mut stream).await? {
        Request::Status => send(&mut stream, serde_json::to_string(&status(environment).await)?).await,
        Request::Follow => {
            let mut follower = environment.journal.follow();
            while let Some(lines) = follower.next().await {
                for line in &lines {
                    send(&mut stream, version::write(line)).await?;
                }
            }
            Ok(())
        }
    }
}

async fn status(environment: &Environment) -> Status {
    let mut children = environment.children().into_iter().map(|child: Child| child.status());
    let bitcoind = children.next().unwrap_or_default();
    // Less than the time-out of those who wait for the whole answer.
    let limit = control::ANSWER_TIMEOUT / 2;
    let mut asked = JoinSet::new();
    for node in environment.nodes.iter().cloned() {
        let child = children.next().unwrap_or_default();
        asked.spawn(async move {
            let height = timeout(limit, node.height()).await.ok().and_then(Result::ok);
            (node, child, height)
        });
    }
    let block_height = timeout(limit, environment.bitcoind.height()).await.ok().and_then(Result::ok);
    let status = |(node, child, block_height): (Node, _, _)| NodeStatus {
        index: node.index,
        node_id: node::stored_identity(&environment.dir, node.index)
            .ok()
            .flatten()
            .map(|identity| identity.node_id),
        name: node.name,
        block_height,
        child,
    };
    let mut nodes: Vec<_> = asked.join_all().await.into_iter().map(status).collect();
    nodes.sort_by_key(|node| node.index);
    let phase = match environment.journal.last() {
        Some(Line::Ready { .. }) => Phase::Ready,
        Some(Line::Failed { .. }) => Phase::Failed,
        Some(Line::Progress(_)) | None => Phase::Starting,
    };
    let all_answer = block_height.is_some() && nodes.iter().all(|node| node.block_height.is_some());
    Status {
        version: REPORT_VERSION,
        phase,
        ready: phase == Phase::Ready && all_answer,
        environment: Some(environment.spec.environment.clone()),
        block_height,
        bitcoind,
        nodes,
    }
}

/// Sends one line.
async fn send(stream: &mut UnixStream, mut line: String) -> anyhow::Result<()> {
    line.push('\n');
    timeout(control::ANSWER_TIMEOUT, stream.write_all(line.as_bytes()))
        .await
        .context("the other side does not read")??;
    Ok(())
}
