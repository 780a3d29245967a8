//! The server on the control socket: status, progress to those who follow, and the organiser's actions.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use lnplaylive_core::desk::{Action, Answer, Refusal};
use lnplaylive_core::progress::Line;
use lnplaylive_core::version;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::control::{self, Request};
use crate::state::StateDir;

use super::desk::Desk;
use super::environment::Environment;
use super::overview::status;

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

/// Answers connections, each in one of `tasks`, until `end`. Actions are carried out once there is a desk.
pub(super) async fn serve(
    environment: Arc<Environment>,
    desk: Arc<OnceLock<Desk>>,
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
                let (environment, desk, end) = (environment.clone(), desk.clone(), end.clone());
                tasks.spawn(async move {
                    if let Err(error) = answer(&environment, desk.get(), &end, stream).await {
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

async fn answer(
    environment: &Environment,
    desk: Option<&Desk>,
    end: &CancellationToken,
    mut stream: UnixStream,
) -> anyhow::Result<()> {
    match control::read_request(&mut stream).await? {
        Request::Desk(action) => {
            let answer = tokio::select! {
                biased;
                // Nothing is started any more.
                () = end.cancelled() => not_running(),
                answer = act(environment, desk, &action) => answer,
            };
            send(&mut stream, version::write(&answer)).await
        }
        Request::Status => send(&mut stream, serde_json::to_string(&status(environment).await)?).await,
        Request::Follow => {
            let mut follower = environment.journal.follow();
            while let Some(lines) = follower.next().await {
                for line in lines {
                    let line = match line {
                        // A node may have a new card since.
                        Line::Ready { .. } => {
                            Line::Ready { connection_strings: environment.connection_strings()? }
                        }
                        other => other,
                    };
                    send(&mut stream, version::write(&line)).await?;
                }
            }
            Ok(())
        }
    }
}

async fn act(environment: &Environment, desk: Option<&Desk>, action: &Action) -> Answer {
    match desk {
        Some(desk) => desk.act(environment, action).await,
        None => not_running(),
    }
}

fn not_running() -> Answer {
    let message = "the environment is not up; try again in a minute".to_owned();
    Answer::Refused { reason: Refusal::NotRunning, message }
}

/// Sends one line.
async fn send(stream: &mut UnixStream, mut line: String) -> anyhow::Result<()> {
    line.push('\n');
    timeout(control::ANSWER_TIMEOUT, stream.write_all(line.as_bytes()))
        .await
        .context("the other side does not read")??;
    Ok(())
}
