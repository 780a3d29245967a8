//! Operations: background work with an id.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::member::Member;

/// Time for which LXD remembers an operation after its end.
const REMEMBERED: Duration = Duration::from_secs(5);

/// The description of the operation that creates an instance.
pub(crate) const CREATING: &str = "Creating instance";

tokio::task_local! {
    /// The call that is being executed.
    pub(crate) static SERVING: Serving;
}

/// State of a call that affects its operation.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    /// The member that executes it.
    pub(crate) member: Arc<Member>,
    pub(crate) spoiled: Option<OperationFault>,
}

/// A fault of an operation.
#[derive(Debug, Clone)]
pub(crate) enum OperationFault {
    Fail(String),
    Hang,
    HalfMade,
}

#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) id: Uuid,
    class: &'static str,
    description: &'static str,
    resources: Value,
    created: jiff::Timestamp,
    /// The member that runs it; `None` if no call started it.
    member: Option<Arc<Member>>,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone)]
struct State {
    outcome: Outcome,
    metadata: Value,
    updated: jiff::Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Running,
    Success,
    Failure(String),
    Cancelled,
}

impl Operation {
    /// The operation in the API's format.
    pub(crate) fn render(&self) -> Value {
        let State { outcome, metadata, updated } = self.state.borrow().clone();
        let (status, code, err) = match outcome {
            Outcome::Running => ("Running", 103, String::new()),
            Outcome::Success => ("Success", 200, String::new()),
            Outcome::Failure(err) => ("Failure", 400, err),
            Outcome::Cancelled => ("Cancelled", 401, String::new()),
        };
        json!({
            "id": self.id, "class": self.class, "description": self.description, "created_at": self.created,
            "updated_at": updated, "status": status, "status_code": code, "resources": self.resources,
            "metadata": metadata, "may_cancel": self.may_cancel(), "err": err,
            "location": self.member.as_ref().map_or("none", |m| &m.name),
        })
    }

    /// Its error, if it failed.
    pub(crate) fn failure(&self) -> Option<String> {
        match &self.state.borrow().outcome {
            Outcome::Failure(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// The member that it runs on.
    pub(crate) fn member(&self) -> Option<&Arc<Member>> {
        self.member.as_ref()
    }

    pub(crate) fn may_cancel(&self) -> bool {
        self.class == "token"
    }

    /// Waits until it has ended, with an optional time-out.
    pub(crate) async fn ended(&self, within: Option<Duration>) {
        let mut state = self.state.subscribe();
        let end = state.wait_for(|s| s.outcome != Outcome::Running);
        match within {
            // In either case the caller checks the state.
            Some(within) => drop(tokio::time::timeout(within, end).await),
            None => drop(end.await),
        }
    }

    fn end(&self, outcome: Outcome, metadata: Value) {
        self.state.send_replace(State { outcome, metadata, updated: jiff::Timestamp::now() });
    }
}

/// All operations that the remote remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Operations {
    all: Arc<Mutex<HashMap<Uuid, Operation>>>,
}

impl Operations {
    /// Starts work in the background. It returns metadata or an error text.
    pub(crate) fn start(
        &self,
        description: &'static str,
        resources: Value,
        work: impl Future<Output = Result<Value, String>> + Send + 'static,
    ) -> Operation {
        let operation = self.add("task", description, resources, Value::Null);
        let spoiled = SERVING.try_with(|serving| serving.spoiled.clone()).ok().flatten();
        let life = operation.member.as_ref().map(|member| member.life()).unwrap_or_default();
        let (all, handle) = (self.clone(), operation.clone());
        tokio::spawn(async move {
            let work = async {
                match spoiled {
                    // Those that this can happen to see to it.
                    None | Some(OperationFault::HalfMade) => work.await,
                    Some(OperationFault::Fail(text)) => Err(text),
                    Some(OperationFault::Hang) => std::future::pending().await,
                }
            };
            // If the member dies, its work is neither completed nor ended.
            let Some(result) = life.run_until_cancelled(work).await else { return };
            match result {
                Ok(metadata) => handle.end(Outcome::Success, metadata),
                Err(text) => handle.end(Outcome::Failure(text), Value::Null),
            }
            all.forget_later(handle.id);
        });
        operation
    }

    /// True if an operation creates this instance.
    pub(crate) fn creates(&self, instance: &str) -> bool {
        let path = format!("/1.0/instances/{instance}");
        let creates = |operation: &Operation| {
            operation.description == CREATING && operation.resources["instances"][0] == path.as_str()
        };
        self.lock()
            .values()
            .any(|operation| creates(operation) && operation.state.borrow().outcome == Outcome::Running)
    }

    /// Forgets all operations, as a daemon that is started anew does.
    pub(crate) fn forget_all(&self) {
        self.lock().clear();
    }

    /// An operation for a token, which runs until the token is used or revoked.
    pub(crate) fn token(&self, metadata: Value) -> Operation {
        self.add("token", "Executing operation", Value::Null, metadata)
    }

    pub(crate) fn get(&self, id: &str) -> Option<Operation> {
        self.lock().get(&id.parse().ok()?).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Operation> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn cancel(&self, operation: &Operation) {
        let metadata = operation.state.borrow().metadata.clone();
        operation.end(Outcome::Cancelled, metadata);
        self.forget_later(operation.id);
    }

    /// Forgets all operations of a member.
    pub(crate) fn forget_those_of(&self, member: &str) {
        self.lock().retain(|_, operation| operation.member().is_none_or(|m| m.name != member));
    }

    pub(crate) fn forget(&self, id: Uuid) {
        self.lock().remove(&id);
    }

    fn add(
        &self,
        class: &'static str,
        description: &'static str,
        resources: Value,
        metadata: Value,
    ) -> Operation {
        let created = jiff::Timestamp::now();
        let state = State { outcome: Outcome::Running, metadata, updated: created };
        let state = watch::Sender::new(state);
        let member = SERVING.try_with(|serving| serving.member.clone()).ok();
        let operation =
            Operation { id: Uuid::new_v4(), class, description, resources, created, member, state };
        self.lock().insert(operation.id, operation.clone());
        operation
    }

    fn forget_later(&self, id: Uuid) {
        let all = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(REMEMBERED).await;
            all.forget(id);
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Operation>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
