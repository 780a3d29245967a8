//! Operations: what the server does in the background after it has accepted a request.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    Client, ErrorKind, Result,
    error::from_operation,
    transport::{ApiResponse, Call},
};

/// Maximum time of one wait request. Middleboxes cut connections that are silent for a minute.
const SLICE: Duration = Duration::from_secs(20);

/// An operation that is running on the server. Dropping it does not affect the operation.
#[derive(Debug, Clone)]
#[must_use = "an accepted request is not done: wait for its operation"]
pub struct Operation {
    client: Client,
    id: String,
    action: String,
}

/// The state of an operation.
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
    /// The operation's metadata, which includes its result.
    #[serde(default)]
    pub metadata: Value,
    /// True if it can be cancelled.
    #[serde(default)]
    pub may_cancel: bool,
    /// The error if it failed; otherwise empty.
    #[serde(default)]
    pub err: String,
}

impl Operation {
    /// Its id, a UUID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the operation has ended, with the time-out `within`.
    ///
    /// Failure and cancellation are errors. The operation continues after the time-out: look at its object, or cancel it.
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
            // At least 1, because 0 means "answer at once".
            let seconds = slice.as_secs().max(1).to_string();
            let call = Call::get(&["operations", &self.id, "wait"], self.action.as_str())
                .query("timeout", seconds)
                .timeout(left.min(slice + transport.limits().total));
            let state = match transport.fetch::<OperationState>(call).await {
                Ok((state, _)) => state,
                // Incus answers the wait with the operation's error. Ask whether the operation failed or the call did.
                Err(error) if is_servers_answer(error.kind()) => match self.state().await? {
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
                _ => return Err(transport.error(&self.action, from_operation(&state.err))),
            }
        }
    }

    /// Reads the current state of the operation.
    pub async fn state(&self) -> Result<OperationState> {
        let transport = &self.client.transport;
        let call = Call::get(&["operations", &self.id], self.action.as_str());
        match transport.fetch(call).await {
            Ok((state, _)) => Ok(state),
            Err(e) if e.is_not_found() => Err(transport.error(&self.action, ErrorKind::OperationForgotten)),
            Err(e) => Err(e),
        }
    }

    /// Cancels the operation. Few operations can be cancelled.
    pub async fn cancel(&self) -> Result<()> {
        let action = format!("cancel: {}", self.action);
        self.client.transport.send(Call::delete(&["operations", &self.id], action)).await.map(drop)
    }
}

/// Returns whether the error is the server's answer.
fn is_servers_answer(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound(_) | ErrorKind::Conflict(_) | ErrorKind::Rejected { .. })
}

/// An operation in a listing, with what it works on.
#[derive(Deserialize)]
struct Listed {
    id: String,
    status_code: u16,
    #[serde(default)]
    description: String,
    resources: Option<BTreeMap<String, Option<Vec<String>>>>,
}

impl Listed {
    /// True if it runs, and works on the instance with this name.
    fn is_busy_with(&self, instance: &str) -> bool {
        let resources = self.resources.iter().flatten().filter(|(kind, _)| *kind == "instances");
        let mut paths = resources.flat_map(|(_, paths)| paths.iter().flatten());
        // `/1.0/instances/NAME`, and on some servers a query.
        let name =
            |path: &String| path.split('?').next().and_then(|path| path.rsplit('/').next()) == Some(instance);
        (100..200).contains(&self.status_code) && paths.any(name)
    }
}

impl Client {
    /// The operations that work on an instance now, for example create it. A cluster lists those of all of its members.
    pub async fn operations_on_instance(&self, project: &str, instance: &str) -> Result<Vec<Operation>> {
        let action = format!("list operations on instance {instance} in project {project}");
        let call = Call::get(&["operations"], action).query("recursion", "1").project(project);
        // By status.
        let all: BTreeMap<String, Option<Vec<Listed>>> = self.transport.fetch(call).await?.0;
        let busy = all.into_values().flatten().flatten().filter(|listed| listed.is_busy_with(instance));
        let operation = |Listed { id, description, .. }| {
            let action = format!("wait for {description:?} of instance {instance} in project {project}");
            Operation { client: self.clone(), id, action }
        };
        Ok(busy.map(operation).collect())
    }

    /// Makes a call that starts an operation.
    pub(crate) async fn start(&self, call: Call) -> Result<(Operation, OperationState)> {
        let ApiResponse { operation, metadata, action, .. } = self.transport.send(call).await?;
        let Some(id) = operation else {
            return Err(self.transport.error(&action, ErrorKind::NotLxd("no operation was started".into())));
        };
        let state = self.transport.parse(metadata, &action)?;
        Ok((Operation { client: self.clone(), id, action }, state))
    }

    /// Makes a call that starts an operation, and waits until it has ended. The time-out `within` covers both.
    pub(crate) async fn run(&self, call: Call, within: Duration) -> Result<OperationState> {
        let begin = Instant::now();
        let call = call.timeout(within.min(self.transport.limits().total));
        let (operation, _) = self.start(call).await?;
        operation.wait_since(begin, within).await
    }
}
