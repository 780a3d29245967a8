//! What `lnplay up` prints: one JSON object a line, read over SSH by the provisioner.

use serde::{Deserialize, Serialize};

use crate::connection::ConnectionString;

/// How far a piece of long work has come, for people who wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// A short stable name of the step, such as `start-nodes`.
    pub step: String,
    /// How many of `total` units are done.
    pub done: u32,
    /// How many units there are in all.
    pub total: u32,
    /// A sentence for the person who waits.
    pub message: String,
}

/// One line of `lnplay up`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// Work goes on.
    Progress(Progress),
    /// Everything is up; the last line of a run that succeeded.
    Ready {
        /// One for each node, node 0 first.
        connection_strings: Vec<ConnectionString>,
    },
    /// It could not be done; the last line of a run that failed (the exit status is not 0 either).
    Failed {
        /// What was tried, on what, and what to do next.
        message: String,
    },
}

impl Line {
    /// Reads one line of output; `None` when it is not one of ours.
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}
