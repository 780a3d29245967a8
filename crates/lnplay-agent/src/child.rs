//! A daemon that is kept running: started, restarted with growing waits when it dies, stopped by SIGTERM.
//!
//! A child is started through [`exec`], which turns the process into the daemon. It gets SIGTERM when the supervisor is
//! gone, however it ended, and holds its lock for as long as it lives, so that two of the same never share a directory.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
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
use crate::{group, lock, log, systemd};

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest wait between two starts. An attendee whose node crashes waits no longer than this for it.
const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// After this uptime the failure count starts again.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// A child that fails this often in a row does not start: [`Child::wait_until`] gives up on it. That takes some 3 s of
/// back-off, since a port of its predecessor may linger.
const GIVE_UP_AFTER: u32 = 6;
/// The exit status for a program that does not exist, as in shells.
const NO_PROGRAM: i32 = 127;
const POLL: Duration = Duration::from_millis(25);
/// The pause between two attempts on a child that does not start.
const PATIENT_POLL: Duration = Duration::from_secs(1);
/// The pause between two checks of the disk space that a child uses.
const DISK_POLL: Duration = Duration::from_secs(2);

/// The arguments of a child, computed anew at each start.
pub type Arguments = Arc<dyn Fn() -> Vec<OsString> + Send + Sync>;

/// A child to run.
#[derive(Clone)]
pub struct Recipe {
    /// Its name in logs and errors.
    pub name: String,
    /// The executable.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Arguments,
    /// Environment variables, in addition to the supervisor's.
    pub variables: Vec<(&'static str, &'static str)>,
    /// Its own directory: working directory, home and place for temporary files.
    pub dir: PathBuf,
    /// The lock that it holds while it lives.
    pub lock: PathBuf,
    /// The file that its output is appended to.
    pub log: PathBuf,
    /// The time that it gets to end on SIGTERM.
    pub grace: Duration,
    /// Its user and limits; `None` for the supervisor's user and no limits.
    pub confinement: Option<Confinement>,
    /// The limit of its disk space. A child that exceeds it is stopped, and not restarted while it does.
    pub disk: Option<Disk>,
}

/// The state of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It runs.
    Running,
    /// It died and will be restarted.
    Waiting,
    /// It does not run and will not be started.
    #[default]
    Stopped,
}

/// The status of a child, as `lnplay status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Its process.
    pub pid: Option<u32>,
    /// The number of restarts.
    pub restarts: u32,
    /// The reason that it last ended by itself.
    pub last_exit: Option<String>,
    /// Failures in a row, each after a short uptime.
    #[serde(skip)]
    failures: u32,
}

/// The error of an attempt that may be worth repeating.
pub trait Attempt: Into<anyhow::Error> {
    /// True if the same attempt may succeed later.
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
    /// Starts a child and keeps it running until `stop`, in one of `tasks`.
    pub fn keep(recipe: Recipe, stop: CancellationToken, tasks: &TaskTracker) -> Self {
        let (sender, status) = watch::channel(Status::default());
        let child = Self { name: recipe.name.clone(), log: recipe.log.clone(), status };
        tasks.spawn(keep(recipe, stop, sender));
        child
    }

    /// Its current status.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// The reason that the child does not start; `None` while it runs or may still start.
    pub fn start_failure(&self) -> Option<String> {
        let Status { failures, last_exit, .. } = self.status();
        (failures >= GIVE_UP_AFTER).then(|| last_exit.unwrap_or_default())
    }

    /// Waits until the child turns out not to start.
    pub async fn wait_for_start_failure(&self) {
        let mut status = self.status.clone();
        let fails = |status: &Status| status.failures >= GIVE_UP_AFTER;
        if status.wait_for(fails).await.is_err() {
            // It was stopped, and will never fail.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the child has ended for good, after its `stop`.
    pub async fn wait_for_end(&self) {
        let mut status = self.status.clone();
        // The task that keeps it has the sender.
        while status.changed().await.is_ok() {}
    }

    /// Repeats `attempt` until it succeeds, however often the child fails.
    pub async fn wait_patiently<T, E, F>(&self, mut attempt: impl FnMut() -> F) -> T
    where
        E: Attempt,
        F: Future<Output = Result<T, E>>,
    {
        let mut told = false;
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(error) => {
                    let failure = self.start_failure();
                    if failure.is_some() && !told {
                        told = true;
                        let error: anyhow::Error = error.into();
                        let log = self.log.display();
                        warn!(name = self.name, ?failure, %log, "does not start, trying on: {error:#}");
                    }
                    sleep(if failure.is_some() { PATIENT_POLL } else { POLL }).await;
                }
            }
        }
    }

    /// Repeats `attempt` until it succeeds. Gives up at once if the error is final, after some failures if the child does
    /// not start, and after `limit` in any case.
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
            if let Some(exit) = self.start_failure() {
                bail!(
                    "{} does not start ({exit}); its log {} ends:\n{}",
                    self.name,
                    self.log.display(),
                    log::tail(&self.log)
                );
            }
            if started.elapsed() > limit {
                let log = self.log.display();
                return Err(
                    error.context(format!("{} is not ready after {limit:?}; its log is {log}", self.name))
                );
            }
            // The longer the wait, the longer the pause: 64 nodes that start need the cores for themselves.
            sleep(POLL.max(started.elapsed() / 20)).await;
        }
    }
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
            let soon = started.elapsed() < STABLE_AFTER;
            s.failures = if soon || hopeless { s.failures.saturating_add(1) } else { 1 };
            if hopeless {
                s.failures = s.failures.max(GIVE_UP_AFTER);
            }
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

/// The end of a child's process.
enum Ended {
    ByItself(std::io::Result<std::process::ExitStatus>),
    Stopped,
    TookTooMuch(anyhow::Error),
}

/// The error of a child that uses more disk space than its limit.
fn excess(recipe: &Recipe) -> Option<anyhow::Error> {
    let disk = recipe.disk.as_ref()?;
    let mib = |bytes: u64| bytes >> 20;
    let used = disk.excess()?;
    Some(anyhow::anyhow!(
        "{} uses {} MiB of disk space; its limit is {} MiB",
        recipe.name,
        mib(used),
        mib(disk.limit)
    ))
}

/// Waits until the child uses more disk space than its limit.
async fn disk_is_full(recipe: &Recipe) -> anyhow::Error {
    loop {
        if let Some(error) = excess(recipe) {
            return error;
        }
        sleep(DISK_POLL).await;
    }
}

/// The command `lnplay child …`, which becomes the child; in a scope of its own where systemd supervises us.
fn command(recipe: &Recipe) -> tokio::process::Command {
    let scope = recipe.confinement.filter(|_| systemd::is_unit());
    let Some(Confinement { tasks, memory, .. }) = scope else {
        // This link works even after the file was replaced.
        let mut command = tokio::process::Command::new("/proc/self/exe");
        command.arg0("lnplay");
        return command;
    };
    let mut command = tokio::process::Command::new("systemd-run");
    // `systemd-run --scope` execs the command, so the process id stays the same.
    command.args(["--scope", "--quiet", "--collect", "--description"]).arg(&recipe.name);
    for property in [format!("TasksMax={tasks}"), format!("MemoryMax={memory}"), "MemorySwapMax=0".to_owned()]
    {
        command.arg("--property").arg(property);
    }
    command.arg("--").arg(std::env::current_exe().unwrap_or_else(|_| "lnplay".into()));
    command
}

fn spawn(recipe: &Recipe) -> anyhow::Result<tokio::process::Child> {
    let log = log::open(&recipe.log)?;
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
        .args((recipe.arguments)())
        .envs(recipe.variables.iter().copied())
        .env("HOME", &recipe.dir)
        .env("TMPDIR", &recipe.dir)
        .current_dir(&recipe.dir)
        // For the supervisor alone.
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

/// Turns this process into the program, as a child of process `parent` that holds `lock` and gets SIGTERM when its parent
/// is gone. Returns only on an error.
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
    // A change of user clears it, so it comes after that.
    set_pdeathsig(Signal::SIGTERM).context("prctl")?;
    if getppid().as_raw() != parent {
        bail!("the supervisor ({parent}) is gone");
    }
    // The program inherits the descriptor, and with it the lock.
    fcntl(&held, FcntlArg::F_SETFD(FdFlag::empty())).context("fcntl")?;
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// The exit status of a process in which [`exec`] failed.
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

    /// The number of attempts at something that fails three times first, and whether it was granted.
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
    async fn a_final_error_is_not_retried() {
        assert_eq!(attempts(false).await, (1, false));
        assert_eq!(attempts(true).await, (4, true));
    }
}
