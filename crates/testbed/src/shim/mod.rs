//! Kills a plugin at a chosen one of its calls, to try what it makes of every crash without a hook in its code.
//!
//! lightningd starts the program `plugin-shim` in the plugin's place. The shim starts the plugin, hands stdin, stdout and
//! stderr through, and points the plugin (in its `init` message) at a socket of its own, which it relays to the node's.
//! There it sees the plugin's calls, notes those that write ([`WRITES`]), and when the [`Plan`] says so kills the plugin
//! (SIGKILL) and ends. What it keeps is in a directory that outlives it, so calls are counted across restarts of the plugin
//! and of the node.
//!
//! ```no_run
//! # async fn example(host: testbed::Host) -> testbed::Result<()> {
//! use std::time::Duration;
//! use testbed::shim::When;
//!
//! let shim = host.shim.as_ref().expect("the host was started with PluginRun::Shimmed");
//! shim.arm(2, When::Before)?; // the second write from now never reaches the node
//! // … something that makes the plugin write …
//! shim.wait_fired(Duration::from_secs(10)).await?;
//! host.wait_plugin_gone().await?;
//! host.start_plugin().await?;
//! # Ok(())
//! # }
//! ```

pub mod relay;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wait::{Step, until};
use crate::{Error, Result};

/// The methods that are counted: those that change what the node keeps for the plugin.
pub const WRITES: [&str; 4] = ["datastore", "deldatastore", "invoice", "delinvoice"];

/// Names the plugin that the shim runs.
const PLUGIN: &str = "PLUGIN_SHIM_PLUGIN";
/// Names the directory that the shim keeps.
const DIR: &str = "PLUGIN_SHIM_DIR";

/// On which side of the node's work the plugin dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// The node never sees the call.
    Before,
    /// The node has done the call, and the plugin never learns of it.
    After,
}

/// When to kill the plugin; it happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The number of the call, counted from 1 over all writes since the shim's directory was made.
    pub kill: usize,
    /// Before or after the node does it.
    pub when: When,
}

/// A call that the plugin made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// One of [`WRITES`].
    pub method: String,
    /// What it was about: the datastore's key, joined by `/`, or the invoice's label.
    pub key: String,
    /// The datastore's mode, such as `must-create`, where one was given.
    pub mode: Option<String>,
}

/// A shim's directory, as the tests use it.
#[derive(Clone, Debug)]
pub struct Shim {
    dir: PathBuf,
    plugin: PathBuf,
}

impl Shim {
    /// Makes the directory for a shim that runs `plugin`.
    pub fn new(dir: PathBuf, plugin: &Path) -> Result<Self> {
        std::fs::create_dir_all(&dir).map_err(|source| Error::File {
            doing: "creating",
            path: dir.clone(),
            source,
        })?;
        Ok(Self { dir, plugin: plugin.into() })
    }

    /// What the node that runs the shim needs in its environment.
    pub fn env(&self) -> [(OsString, OsString); 2] {
        [(PLUGIN.into(), self.plugin.clone().into()), (DIR.into(), self.dir.clone().into())]
    }

    /// Kills the plugin at its `nth` write from now (1 is the next). Replaces an earlier plan.
    pub fn arm(&self, nth: usize, when: When) -> Result<()> {
        let path = files::plan(&self.dir);
        let plan = Plan { kill: self.calls()?.len() + nth, when };
        let text = serde_json::to_string(&plan).expect("a plan is plain data");
        atomic_file::replace(&path, text.as_bytes(), 0o600).map_err(|source| Error::File {
            doing: "writing",
            path,
            source,
        })
    }

    /// Withdraws the plan; the answer is whether there was one that had not been carried out.
    pub fn disarm(&self) -> Result<bool> {
        let path = files::plan(&self.dir);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::File { doing: "removing", path, source }),
        }
    }

    /// All writes so far, oldest first, including one that was never let through.
    pub fn calls(&self) -> Result<Vec<Call>> {
        let path = files::calls(&self.dir);
        files::read_calls(&path).map_err(|source| Error::File { doing: "reading", path, source })
    }

    /// Waits until the plan that was made with [`arm`](Self::arm) has been carried out.
    pub async fn wait_fired(&self, within: Duration) -> Result<()> {
        let plan = files::plan(&self.dir);
        until("the shim to kill the plugin", within, async || {
            if !plan.exists() {
                return Ok(Step::Done(()));
            }
            let calls = self.calls()?;
            Ok(Step::NotYet(format!("{} writes seen, the last {:?}", calls.len(), calls.last())))
        })
        .await
    }
}

/// What is kept where.
mod files {
    use super::{Call, Path, PathBuf};

    /// The plan that is still to be carried out.
    pub(super) fn plan(dir: &Path) -> PathBuf {
        dir.join("plan.json")
    }

    /// One call a line.
    pub(super) fn calls(dir: &Path) -> PathBuf {
        dir.join("calls.jsonl")
    }

    /// The socket that the plugin calls.
    pub(super) fn socket(dir: &Path) -> PathBuf {
        dir.join("rpc")
    }

    pub(super) fn read_calls(path: &Path) -> std::io::Result<Vec<Call>> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).map_err(Into::into)).collect()
    }
}
