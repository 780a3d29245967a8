//! A simulated server that outlives the demo, so that the environment can be used.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use testbed::{Remotes, Workdir};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::args::Lightning;

/// Time-out for the server's announcement.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The announcement of the command `remote`.
#[derive(Deserialize)]
struct Announcement {
    url: String,
    token: String,
}

/// A simulated server in a process of its own, which exits when its time is over. Dropping this stops it at once.
pub(crate) struct Lingering {
    child: Option<Child>,
    url: String,
    workdir: Workdir,
}

impl Lingering {
    /// Starts a server that runs for `time`.
    pub(crate) async fn start(lightning: Lightning, time: Duration) -> anyhow::Result<Self> {
        // Reports missing daemons better than the server would.
        lightning.daemons()?;
        let workdir = Workdir::new("lingering")?;
        let (sender, receiver) = pipe::pipe().context("making a pipe")?;
        let child = Command::new(std::env::current_exe().context("finding this program")?)
            .args(["remote", "--listen", &format!("{}:0", testbed::loopback_address())])
            .args(["--lightning", lightning.name(), "--for", &time.as_secs().to_string()])
            .stdin(Stdio::null())
            .stdout(sender.into_blocking_fd().context("making a pipe")?)
            // A reader of our output must not have to wait until the server exits.
            .stderr(Stdio::null())
            // Out of reach of the terminal's Ctrl-C.
            .process_group(0)
            .spawn()
            .context("starting a simulated server")?;
        let mut lingering = Self { child: Some(child), url: String::new(), workdir };
        let mut line = String::new();
        let read = timeout(START_TIMEOUT, BufReader::new(receiver).read_line(&mut line)).await;
        ensure!(
            matches!(read, Ok(Ok(1..))),
            "the simulated server did not start; `cargo demo -- remote` shows why"
        );
        let Announcement { url, token } =
            serde_json::from_str(&line).context("reading what the server prints")?;
        std::fs::write(lingering.token_file(), token).context("writing the server's token")?;
        lingering.url = url;
        Ok(lingering)
    }

    fn token_file(&self) -> std::path::PathBuf {
        self.workdir.join("token")
    }

    /// The settings of the remote, for a shop.
    pub(crate) fn remotes(&self) -> Remotes {
        Remotes::Existing { url: self.url.clone(), token_file: self.token_file() }
    }

    /// Lets the server run on; returns its process id.
    pub(crate) fn leave(mut self) -> u32 {
        self.child.take().map_or(0, |child| child.id())
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = Pid::from_raw(child.id().try_into().expect("process ids fit"));
        // The server stops its instances first. If it has already exited, there is nothing to do.
        kill(pid, Signal::SIGTERM).ok();
        child.wait().ok();
    }
}
