//! What the desk remembers of requests, so that one whose answer was lost is not carried out twice.

use std::collections::VecDeque;
use std::path::PathBuf;

use lnplaylive_core::desk::{Action, Did, RequestId};
use serde::{Deserialize, Serialize};

use crate::state::{self, StateDir};

/// The requests that are remembered. A caller repeats a request within minutes, and makes a few a minute.
const MOST: usize = 64;

/// A payment that was stored before it was sent. After a crash the same transaction is sent again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Payment {
    /// The signed transaction, in hex.
    pub(super) transaction: String,
    /// The request that it belongs to.
    pub(super) request: Option<RequestId>,
    /// What is done once it is confirmed.
    pub(super) did: Did,
}

/// A request that was carried out.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    request: RequestId,
    action: Action,
    did: Did,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    #[serde(default)]
    pending: Option<Payment>,
    #[serde(default)]
    entries: VecDeque<Entry>,
}

/// The desk's memory.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    kept: Kept,
}

/// A request's id that was used for another action.
#[derive(Debug)]
pub(super) struct Reused;

impl Ledger {
    /// The stored ledger; an empty one if there is none that can be read.
    pub(super) fn load(dir: &StateDir) -> Self {
        let path = dir.ledger();
        let stored = state::read_json(&path).unwrap_or_else(|error| {
            tracing::warn!("requests from before are forgotten: {error:#}");
            None
        });
        Self { path, kept: stored.unwrap_or_default() }
    }

    /// What was done for this request; `None` if it is new.
    pub(super) fn recall(&self, action: &Action) -> Result<Option<Did>, Reused> {
        let found = action.request().and_then(|id| self.kept.entries.iter().find(|one| one.request == *id));
        match found {
            None => Ok(None),
            Some(entry) if entry.action == *action => Ok(Some(entry.did.clone())),
            Some(_) => Err(Reused),
        }
    }

    /// Remembers what was done for a request. Only a full disk prevents it; the request is then carried out again if it is
    /// repeated.
    pub(super) fn remember(&mut self, action: &Action, did: &Did) {
        let Some(request) = action.request().cloned() else { return };
        self.kept.entries.push_back(Entry { request, action: action.clone(), did: did.clone() });
        while self.kept.entries.len() > MOST {
            self.kept.entries.pop_front();
        }
        if let Err(error) = self.store() {
            tracing::warn!("a request is not remembered: {error:#}");
        }
    }

    /// The payment that was begun and not finished.
    pub(super) fn pending(&self) -> Option<&Payment> {
        self.kept.pending.as_ref()
    }

    /// Stores a payment that is about to be sent.
    pub(super) fn begin(&mut self, payment: Payment) -> anyhow::Result<()> {
        self.kept.pending = Some(payment);
        let stored = self.store();
        if stored.is_err() {
            self.kept.pending = None;
        }
        stored
    }

    /// The payment has been confirmed, or can never be.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        self.kept.pending = None;
        self.store()
    }

    fn store(&self) -> anyhow::Result<()> {
        state::write_json(&self.path, &self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine(request: &str, blocks: u32) -> Action {
        Action::Mine { blocks, request: RequestId::new(request) }
    }

    #[test]
    fn a_request_is_remembered_across_restarts_and_the_oldest_are_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = StateDir::new(dir.path()).and_then(|dir| dir.create(None).map(|()| dir)).expect("made");
        let mut ledger = Ledger::load(&dir);
        ledger.remember(&mine("first", 1), &Did::Mined { blocks: 1 });
        let ledger_again = Ledger::load(&dir);
        assert_eq!(ledger_again.recall(&mine("first", 1)).expect("the same"), Some(Did::Mined { blocks: 1 }));
        assert!(ledger_again.recall(&mine("first", 2)).is_err(), "another action");
        assert_eq!(ledger_again.recall(&Action::Mine { blocks: 1, request: None }).expect("none"), None);
        for number in 0..MOST {
            ledger.remember(&mine(&number.to_string(), 1), &Did::Mined { blocks: 1 });
        }
        let ledger = Ledger::load(&dir);
        assert_eq!(ledger.recall(&mine("first", 1)).expect("new again"), None);
        assert!(ledger.recall(&mine("0", 1)).expect("the same").is_some());
    }
}
