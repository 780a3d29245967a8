//! Operations: what the server does in the background after it has accepted a request.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    Client, ErrorKind, Result,
    error::from_operation,
    transport::{Answer, Call},
};

/// How long the server is asked to hold one wait. Below the minute after which boxes in between cut silent connections.
const SLICE: Duration = Duration::from_secs(20);

/// Work that the server has taken on. Dropping it changes nothing there.
#[derive(Debug, Clone)]
#[must_use = "an accepted request is not done: wait for its operation"]
pub struct Operation {
    client: Client,
    id: String,
    action: String,
}

/// How an operation stands.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct OperationState {
    /// Its id, a UUID.
    pub id: String,
    /// For example `Creating instance`.
    #[serde(default)]
    pub description: String,
    /// 100 to 199 while it runs, 200 when it succeeded, 400 when it failed, 401 when it was cancelled.
    pub status_code: u16,
    /// What it is about, and what came of it.
    #[serde(default)]
    pub metadata: Value,
    /// Whether it can be cancelled.
    #[serde(default)]
    pub may_cancel: bool,
    /// Why it failed; empty otherwise.
    #[serde(default)]
    pub err: String,
}

impl Operation {
    /// Its id, a UUID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the operation has ended, at most `within`.
    ///
    /// Failure and cancellation are errors. When time is up the operation goes on: look at its object, or cancel it.
    /// LXD forgets an operation 5 s after its end ([`ErrorKind::OperationForgotten`]).
    pub async fn wait(&self, within: Duration) -> Result<OperationState> {
        self.wait_since(Instant::now(), within).await
    }

    /// As [`Operation::wait`], with the time counted from `begin`.
    pub(crate) async fn wait_since(&self, begin: Instant, within: Duration) -> Result<OperationState> {
        let transport = &self.client.transport;
        let deadline = begin + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(transport.error(&self.action, ErrorKind::TimedOut(within)));
            }
            let slice = SLICE.min(left);
            // Whole seconds, and not 0, which would be "answer at once".
            let seconds = slice.as_secs().max(1).to_string();
            let call = Call::get(&["operations", &self.id, "wait"], self.action.as_str())
                .query("timeout", seconds)
                .timeout(left.min(slice + transport.limits().total));
            let state = match transport.fetch::<OperationState>(call).await {
                Ok((state, _)) => state,
                // Incus answers the wait with the operation's own error: ask whether it is that, or the call that failed.
                Err(error) if is_of_the_server(error.kind()) => match self.state().await? {
                    state if state.status_code < 200 => return Err(error),
                    state => state,
                },
                Err(e) if matches!(e.kind(), ErrorKind::TimedOut(_)) && Instant::now() >= deadline => {
                    return Err(transport.error(&self.action, ErrorKind::TimedOut(within)));
                }
                Err(e) => return Err(e),
            };
            match state.status_code {
                100..200 => {}
                200 => return Ok(state),
                401 => return Err(transport.error(&self.action, ErrorKind::OperationCancelled)),
                _ => return Err(transport.error(&self.action, from_operation(state.err))),
            }
        }
    }

    /// How the operation stands now.
    pub async fn state(&self) -> Result<OperationState> {
        let transport = &self.client.transport;
        let call = Call::get(&["operations", &self.id], self.action.as_str());
        match transport.fetch(call).await {
            Ok((state, _)) => Ok(state),
            Err(e) if e.is_not_found() => Err(transport.error(&self.action, ErrorKind::OperationForgotten)),
            Err(e) => Err(e),
        }
    }

    /// Asks the server to stop the operation; few can be.
    pub async fn cancel(&self) -> Result<()> {
        let action = format!("cancel: {}", self.action);
        self.client.transport.send(Call::delete(&["operations", &self.id], action)).await.map(drop)
    }
}

/// Whether the server itself refused the call, in words of its own.
fn is_of_the_server(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound(_) | ErrorKind::Conflict(_) | ErrorKind::Rejected { .. })
}

impl Client {
    /// Makes a call that starts an operation.
    pub(crate) async fn start(&self, call: Call) -> Result<(Operation, OperationState)> {
        let Answer { operation, metadata, action, .. } = self.transport.send(call).await?;
        let Some(id) = operation else {
            return Err(self.transport.error(&action, ErrorKind::NotLxd("no operation was started".into())));
        };
        let state = self.transport.parse(metadata, &action)?;
        Ok((Operation { client: self.clone(), id, action }, state))
    }

    /// Makes a call that starts an operation, and waits for its end, both within the time given.
    pub(crate) async fn run(&self, call: Call, within: Duration) -> Result<OperationState> {
        let begin = Instant::now();
        let call = call.timeout(within.min(self.transport.limits().total));
        let (operation, _) = self.start(call).await?;
        operation.wait_since(begin, within).await
    }
}
