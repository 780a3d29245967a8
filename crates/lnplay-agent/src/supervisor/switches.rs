//! What the organiser has switched off: nodes, and the blocks that come by themselves. Stored, so that it stays so when the
//! supervisor or the whole instance is restarted.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::state::{self, StateDir};

/// The switches of an environment.
#[derive(Debug)]
pub(super) struct Switches {
    path: PathBuf,
    now: Mutex<Positions>,
}

/// Everything that is switched off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Positions {
    #[serde(default)]
    blocks_paused: bool,
    #[serde(default)]
    nodes_off: BTreeSet<u32>,
}

impl Switches {
    /// The stored switches. A file that cannot be read is no reason to keep an environment down: everything is on then.
    pub(super) fn load(dir: &StateDir) -> Self {
        let path = dir.switches();
        let stored = state::read_json(&path).unwrap_or_else(|error| {
            tracing::warn!("everything is switched on: {error:#}");
            None
        });
        Self { path, now: Mutex::new(stored.unwrap_or_default()) }
    }

    fn now(&self) -> MutexGuard<'_, Positions> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if no blocks come by themselves.
    pub(super) fn blocks_are_paused(&self) -> bool {
        self.now().blocks_paused
    }

    /// True if the node is switched off.
    pub(super) fn is_off(&self, node: u32) -> bool {
        self.now().nodes_off.contains(&node)
    }

    /// Stores whether blocks come by themselves.
    pub(super) fn pause_blocks(&self, paused: bool) -> anyhow::Result<()> {
        self.change(|positions| positions.blocks_paused = paused)
    }

    /// Stores whether the node is switched off.
    pub(super) fn switch(&self, node: u32, off: bool) -> anyhow::Result<()> {
        self.change(|Positions { nodes_off, .. }| {
            if off {
                nodes_off.insert(node);
            } else {
                nodes_off.remove(&node);
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut Positions)) -> anyhow::Result<()> {
        let mut now = self.now();
        let mut next = now.clone();
        change(&mut next);
        if next != *now {
            state::write_json(&self.path, &next)?;
            *now = next;
        }
        Ok(())
    }
}
