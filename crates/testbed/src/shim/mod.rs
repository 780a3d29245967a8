//! Kills a plugin at a chosen call, to test crashes without hooks in its code.
//!
//! lightningd starts the program `plugin-shim` instead of the plugin. The shim starts the plugin, passes stdin, stdout and stderr
//! through, and makes the plugin (in its `init` message) use the shim's socket, which it relays to the node's. There it sees the
//! plugin's calls, records those that write ([`WRITES`]), and when the [`Plan`] says so kills the plugin (SIGKILL) and exits. Its
//! state is in a directory that outlives it, so calls are counted across restarts of the plugin and of the node.
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

/// The methods that are counted: those that change the plugin's data in the node.
pub const WRITES: [&str; 4] = ["datastore", "deldatastore", "invoice", "delinvoice"];

/// Names the plugin that the shim runs.
const PLUGIN: &str = "PLUGIN_SHIM_PLUGIN";
/// Names the shim's directory.
const DIR: &str = "PLUGIN_SHIM_DIR";

/// What happens at the call, relative to the node's handling of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// The node never sees the call.
    Before,
    /// The node has executed the call, but the plugin never gets the answer.
    After,
    /// The plugin lives, and loses the connection instead of an answer to the call that the node has executed.
    Lost,
}

/// A plan to kill the plugin, or to lose an answer, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The number of the call, counted from 1 over all writes since the shim's directory was created.
    pub kill: usize,
    /// Before or after the node executes it, or not at all.
    pub when: When,
}

/// A call of the plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// One of [`WRITES`].
    pub method: String,
    /// Its object: the datastore key, joined by `/`, or the invoice's label.
    pub key: String,
    /// The datastore's mode, such as `must-create`, if given.
    pub mode: Option<String>,
}

/// A shim's directory, for tests.
#[derive(Clone, Debug)]
pub struct Shim {
    dir: PathBuf,
    plugin: PathBuf,
}

impl Shim {
    /// Creates the directory for a shim that runs `plugin`.
    pub fn new(dir: PathBuf, plugin: &Path) -> Result<Self> {
        std::fs::create_dir_all(&dir).map_err(|source| Error::File {
            doing: "creating",
            path: dir.clone(),
            source,
        })?;
        Ok(Self { dir, plugin: plugin.into() })
    }

    /// Environment variables for the node that runs the shim.
    pub fn env(&self) -> [(OsString, OsString); 2] {
        [(PLUGIN.into(), self.plugin.clone().into()), (DIR.into(), self.dir.clone().into())]
    }

    /// Kills the plugin at its `nth` write from now (1 is the next), or loses its answer. Replaces an earlier plan.
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

    /// Cancels the plan. Returns whether there was one that had not been carried out.
    pub fn disarm(&self) -> Result<bool> {
        let path = files::plan(&self.dir);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::File { doing: "removing", path, source }),
        }
    }

    /// All writes so far, oldest first, including one that was not passed on.
    pub fn calls(&self) -> Result<Vec<Call>> {
        let path = files::calls(&self.dir);
        files::read_calls(&path).map_err(|source| Error::File { doing: "reading", path, source })
    }

    /// Waits until the plan of [`arm`](Self::arm) has been carried out.
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

/// The files in a shim's directory.
mod files {
    use super::{Call, Path, PathBuf};

    /// The pending plan.
    pub(super) fn plan(dir: &Path) -> PathBuf {
        dir.join("plan.json")
    }

    /// The calls, one per line.
    pub(super) fn calls(dir: &Path) -> PathBuf {
        dir.join("calls.jsonl")
    }

    /// The socket for the plugin's calls.
    pub(super) fn socket(dir: &Path) -> PathBuf {
        dir.join("rpc")
    }

    pub(super) fn read_calls(path: &Path) -> std::io::Result<Vec<Call>> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        // The last line may be incomplete.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).map_err(Into::into)).collect()
    }
}
