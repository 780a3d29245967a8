//! A daemon that is kept running: started, started again with back-off when it dies, stopped by SIGTERM.
//!
//! A child is not started directly but by a few lines of ours ([`exec`]) that become it. They see to it that the child
//! is told to end when the supervisor is gone, however it went, and that it holds its lock for as long as it lives, so
//! that two of the same never run on one directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::future::Future;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::confine::{Confinement, Disk};
use crate::{group, lock, service};

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// A child that ran for so long was well: what ended it is a new trouble.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// How many times in a row a child may fail before those who wait for it give up (after some 3 s of back-off: a
/// port of its predecessor may linger).
const GIVE_UP_AFTER: u32 = 6;
/// The exit status that means "there is no such program", as shells have it.
const NO_PROGRAM: i32 = 127;
const POLL: Duration = Duration::from_millis(25);
/// Between two looks at how much disk it takes.
const DISK_POLL: Duration = Duration::from_secs(2);
/// How much of the end of a log goes into an error.
const LOG_TAIL: u64 = 1500;

/// What to run.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Its name, for people.
    pub name: String,
    /// The executable.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Environment variables, besides ours.
    pub variables: Vec<(&'static str, &'static str)>,
    /// Where it keeps its files, temporary ones included: the one directory that is its own.
    pub dir: PathBuf,
    /// The lock that it holds while it lives.
    pub lock: PathBuf,
    /// Where its output is appended.
    pub log: PathBuf,
    /// How long it may take to end on SIGTERM.
    pub grace: Duration,
    /// Who it runs as and what it may take; `None` for the caller and without bounds.
    pub confinement: Option<Confinement>,
    /// How much disk it may take; one that takes more is ended, and not started again while it does.
    pub disk: Option<Disk>,
}

/// What a child is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The process is there.
    Running,
    /// It died and will be started again.
    Waiting,
    /// It is not there, and is not to be.
    #[default]
    Stopped,
}

/// How a child is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// The process.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// How it last ended by itself.
    pub last_exit: Option<String>,
    /// How often in a row it failed soon.
    #[serde(skip)]
    failures: u32,
}

/// Why something that was tried did not succeed, and whether it is of use to try again.
pub trait Attempt: Into<anyhow::Error> {
    /// Whether it may pass; otherwise the same would be said for ever.
    fn may_pass(&self) -> bool;
}

/// A handle on a child that is kept running.
#[derive(Debug, Clone)]
pub struct Child {
    name: String,
    log: PathBuf,
    status: watch::Receiver<Status>,
}

impl Child {
    /// Starts it and keeps it running until `stop`; the task that does so is one of `tasks`.
    pub fn keep(recipe: Recipe, stop: CancellationToken, tasks: &TaskTracker) -> Self {
        let (sender, status) = watch::channel(Status::default());
        let child = Self { name: recipe.name.clone(), log: recipe.log.clone(), status };
        tasks.spawn(keep(recipe, stop, sender));
        child
    }

    /// How it is now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Repeats `attempt` until it succeeds. Gives up at once when the child cannot be run or refuses for good, soon when
    /// it keeps dying, and after `limit` in any case.
    pub async fn wait_until<T, E, F>(
        &self,
        limit: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> anyhow::Result<T>
    where
        E: Attempt,
        F: Future<Output = Result<T, E>>,
    {
        let started = Instant::now();
        loop {
            let error: anyhow::Error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) if !error.may_pass() => return Err(error.into()),
                Err(error) => error.into(),
            };
            let Status { failures, last_exit, .. } = self.status();
            if failures >= GIVE_UP_AFTER {
                let exit = last_exit.unwrap_or_default();
                bail!(
                    "{} does not start ({exit}); its log {} ends:\n{}",
                    self.name,
                    self.log.display(),
                    tail(&self.log)
                );
            }
            if started.elapsed() > limit {
                let log = self.log.display();
                return Err(
                    error.context(format!("{} is not ready after {limit:?}; its log is {log}", self.name))
                );
            }
            // Who has waited long is asked less often: 64 nodes that start want the cores for themselves.
            sleep(POLL.max(started.elapsed() / 20)).await;
        }
    }
}

/// The end of a log, as far as it can be read.
pub fn tail(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_default()
}

/// Opens a log to append to, private.
pub fn open_log(path: &Path) -> anyhow::Result<File> {
    let opened = File::options().append(true).create(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot write the log {}", path.display()))
}

async fn keep(recipe: Recipe, stop: CancellationToken, status: watch::Sender<Status>) {
    let name = &recipe.name;
    loop {
        let started = Instant::now();
        let (reason, hopeless) = match excess(&recipe).map_or_else(|| spawn(&recipe), Err) {
            Err(error) => (format!("{error:#}"), true),
            Ok(mut process) => {
                let pid = process.id();
                let leader = pid.and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
                status.send_modify(|s| (s.state, s.pid) = (State::Running, pid));
                info!(name, pid, "started");
                let ended = tokio::select! {
                    ended = process.wait() => Ended::ByItself(ended),
                    () = stop.cancelled() => Ended::Stopped,
                    error = disk_is_full(&recipe) => Ended::TookTooMuch(error),
                };
                if !matches!(ended, Ended::ByItself(_)) {
                    end(name, &mut process, leader, recipe.grace).await;
                }
                if let Some(leader) = leader {
                    group::clear(leader).await;
                }
                match ended {
                    Ended::Stopped => break,
                    Ended::ByItself(Ok(exit)) => (exit.to_string(), exit.code() == Some(NO_PROGRAM)),
                    Ended::ByItself(Err(error)) => (error.to_string(), false),
                    Ended::TookTooMuch(error) => (error.to_string(), true),
                }
            }
        };
        warn!(name, reason, "ended");
        status.send_modify(|s| {
            let soon = started.elapsed() < WELL_AFTER;
            s.failures = if hopeless {
                GIVE_UP_AFTER
            } else if soon {
                s.failures + 1
            } else {
                1
            };
            s.restarts += 1;
            (s.state, s.pid, s.last_exit) = (State::Waiting, None, Some(reason));
        });
        let doublings = status.borrow().failures.saturating_sub(1).min(16);
        let backoff = (FIRST_BACKOFF * (1 << doublings)).min(LAST_BACKOFF);
        if timeout(backoff, stop.cancelled()).await.is_ok() {
            break;
        }
    }
    status.send_modify(|s| (s.state, s.pid) = (State::Stopped, None));
}

/// How a child came to its end.
enum Ended {
    ByItself(std::io::Result<std::process::ExitStatus>),
    Stopped,
    TookTooMuch(anyhow::Error),
}

/// Says so if the child takes more disk than it may.
fn excess(recipe: &Recipe) -> Option<anyhow::Error> {
    let disk = recipe.disk.as_ref()?;
    let mib = |bytes: u64| bytes >> 20;
    let used = disk.excess()?;
    Some(anyhow::anyhow!("{} takes {} MiB of disk; it may take {}", recipe.name, mib(used), mib(disk.limit)))
}

/// Waits until the child takes more disk than it may.
async fn disk_is_full(recipe: &Recipe) -> anyhow::Error {
    loop {
        if let Some(error) = excess(recipe) {
            return error;
        }
        sleep(DISK_POLL).await;
    }
}

/// The command that becomes the child: `lnplay child …`, in a scope of its own where systemd can give it one.
fn command(recipe: &Recipe) -> tokio::process::Command {
    let scope = recipe.confinement.filter(|_| service::is_supervised_by_systemd());
    let Some(Confinement { tasks, memory, .. }) = scope else {
        // The link rather than its target: it works when the file has been replaced.
        let mut command = tokio::process::Command::new("/proc/self/exe");
        command.arg0("lnplay");
        return command;
    };
    let mut command = tokio::process::Command::new("systemd-run");
    // It becomes the command, so the process that is waited for is the same.
    command.args(["--scope", "--quiet", "--collect", "--description"]).arg(&recipe.name);
    for property in [format!("TasksMax={tasks}"), format!("MemoryMax={memory}"), "MemorySwapMax=0".to_owned()]
    {
        command.arg("--property").arg(property);
    }
    command.arg("--").arg(std::env::current_exe().unwrap_or_else(|_| "lnplay".into()));
    command
}

fn spawn(recipe: &Recipe) -> anyhow::Result<tokio::process::Child> {
    let log = open_log(&recipe.log)?;
    let errors = log.try_clone()?;
    let child = command(recipe)
        .arg("child")
        .arg("--parent")
        .arg(std::process::id().to_string())
        .arg("--lock")
        .arg(&recipe.lock)
        .args(recipe.confinement.map(|confinement| format!("--confinement={}", confinement.to_argument())))
        .arg("--")
        .arg(&recipe.program)
        .args(&recipe.arguments)
        .envs(recipe.variables.iter().copied())
        .env("HOME", &recipe.dir)
        .env("TMPDIR", &recipe.dir)
        .current_dir(&recipe.dir)
        // systemd's, for the supervisor alone.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn();
    child.with_context(|| format!("cannot start {}", recipe.name))
}

async fn end(name: &str, process: &mut tokio::process::Child, leader: Option<Pid>, grace: Duration) {
    if let Some(pid) = leader
        && let Err(error) = kill(pid, Signal::SIGTERM)
    {
        warn!(name, %error, "cannot send SIGTERM");
    }
    if timeout(grace, process.wait()).await.is_err() {
        warn!(name, ?grace, "did not end on SIGTERM, killing it");
        if let Err(error) = process.kill().await {
            warn!(name, %error, "cannot kill");
        }
    }
    info!(name, "stopped");
}

/// Becomes the program, as a child of process `parent` that holds `lock` and gets SIGTERM when its parent is gone.
/// Returns only to say why that could not be.
pub fn exec(
    parent: i32,
    lock: &Path,
    confinement: Option<Confinement>,
    program: &OsStr,
    arguments: &[OsString],
) -> anyhow::Result<std::convert::Infallible> {
    group::lead().context("setpgid")?;
    let held = lock::acquire(lock).with_context(|| format!("cannot lock {}", lock.display()))?;
    if let Some(confinement) = confinement {
        confinement.enter()?;
    }
    // After the user has changed, which undoes it.
    set_pdeathsig(Signal::SIGTERM).context("prctl")?;
    if getppid().as_raw() != parent {
        bail!("the supervisor ({parent}) is gone");
    }
    // Inherited by the program: the lock is held until it ends.
    fcntl(&held, FcntlArg::F_SETFD(FdFlag::empty())).context("fcntl")?;
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// The exit status of a process that [`exec`] failed in.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    let hopeless = error.downcast_ref::<std::io::Error>().is_some_and(|e| {
        matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied)
    });
    if hopeless { u8::try_from(NO_PROGRAM).unwrap_or(1) } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("refused")]
    struct Refused {
        passes: bool,
    }

    impl Attempt for Refused {
        fn may_pass(&self) -> bool {
            self.passes
        }
    }

    /// How often something is tried that is refused three times before it is granted.
    async fn attempts(passes: bool) -> (u32, bool) {
        let (_keep, status) = watch::channel(Status::default());
        let child = Child { name: "node-00".into(), log: PathBuf::new(), status };
        let mut tried = 0;
        let result = child.wait_until(Duration::from_secs(60), || {
            tried += 1;
            std::future::ready(if tried > 3 { Ok(()) } else { Err(Refused { passes }) })
        });
        let granted = result.await.is_ok();
        (tried, granted)
    }

    #[tokio::test]
    async fn what_is_refused_for_good_is_not_tried_again() {
        assert_eq!(attempts(false).await, (1, false));
        assert_eq!(attempts(true).await, (4, true));
    }
}
