//! `lnplay up` and `lnplay down`: start a supervisor and follow it, or end it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use lnplaylive_core::progress::Line;
use lnplaylive_core::{EnvironmentSpec, version};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::control::{self, Answers, Request};
use crate::settings::{Keeper, Settings};
use crate::state::StateDir;
use crate::{lock, log, node, service};

/// A supervisor listens within milliseconds; this leaves time for one that is just ending.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(60);
/// More than the supervisor's own time-out for a new environment.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(10);

/// Brings the environment up, or finds it up, and passes each line to `print`; the last one is `Ready`. On an error there
/// is no last line; the caller prints one.
pub async fn up(
    settings: &Settings,
    spec: &[u8],
    mut print: impl FnMut(&Line) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let spec: EnvironmentSpec = version::read(spec)?;
    spec.validate().context("the spec cannot be brought up")?;
    let dir = StateDir::new(&settings.dir)?;
    node::plan(&spec, &dir, settings.address)?;
    dir.create(settings.users()?)?;
    dir.adopt_spec(&spec)?;

    let (first, mut answers) = attach(settings, &dir).await?;
    let follow = async {
        let mut next = Some(first);
        while let Some(text) = next {
            let line = Line::parse(&text).with_context(|| format!("the supervisor said {text:?}"))?;
            match &line {
                Line::Failed { message } => bail!("{message}"),
                Line::Progress(_) => print(&line)?,
                Line::Ready { .. } => return print(&line),
            }
            next = answers.next().await?;
        }
        bail!(
            "the supervisor died; run the same again to go on (its log is {})",
            dir.log("supervisor").display()
        )
    };
    timeout(FOLLOW_TIMEOUT, follow).await.with_context(|| {
        format!(
            "the environment is not up after {FOLLOW_TIMEOUT:?}; see `lnplay status` and {}",
            dir.log("supervisor").display()
        )
    })?
}

/// Finds the supervisor, or starts one; returns its first line and the rest of its answer.
async fn attach(settings: &Settings, dir: &StateDir) -> anyhow::Result<(String, Answers)> {
    let log = dir.log("supervisor");
    let deadline = Instant::now() + ATTACH_TIMEOUT;
    let mut ours: Option<Child> = None;
    loop {
        if let Some(mut answers) = control::ask(dir, Request::Follow).await? {
            let first = timeout(control::ANSWER_TIMEOUT, answers.next()).await;
            // One that closes the connection without a line was just ending.
            if let Some(first) = first.context("the supervisor does not answer")?? {
                return Ok((first, answers));
            }
        }
        if let Some(process) = &mut ours {
            match process.try_wait()? {
                None => {}
                // Another supervisor was faster, or is still ending.
                Some(exit) if exit.success() || lock::holder(&dir.supervisor_lock())?.is_some() => {
                    ours = None;
                }
                Some(exit) => bail!("the supervisor ended ({exit}); its log ends:\n{}", log::tail(&log)),
            }
        } else if lock::holder(&dir.supervisor_lock())?.is_none() {
            ours = Some(match settings.keeper() {
                Keeper::Systemd => service::start(settings, dir).await?,
                Keeper::Process => start(settings, &log)?,
            });
        }
        if Instant::now() > deadline {
            bail!("no supervisor answers after {ATTACH_TIMEOUT:?}; its log is {}", log.display());
        }
        sleep(POLL).await;
    }
}

fn start(settings: &Settings, log: &std::path::Path) -> anyhow::Result<Child> {
    let log = log::open(log)?;
    let errors = log.try_clone()?;
    let process = Command::new("/proc/self/exe")
        .arg0("lnplay")
        .arg("supervise")
        .envs(settings.to_environment())
        // Independent of the session that we run in: of its terminal and its directory.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn();
    process.context("cannot start a supervisor")
}

/// Takes the environment down and returns when nothing of it runs. Succeeds if nothing did.
pub async fn down(settings: &Settings) -> anyhow::Result<()> {
    let dir = StateDir::new(&settings.dir)?;
    if settings.keeper() == Keeper::Systemd {
        service::stop().await.context("ending the supervisor")?;
    }
    if lock::evict(&dir.supervisor_lock(), control::SHUTDOWN_TIMEOUT)
        .await
        .context("ending the supervisor")?
    {
        tracing::warn!("the supervisor had to be killed");
    }
    // Children of a supervisor that was killed, now or before.
    for path in dir.child_locks()? {
        lock::evict(&path, control::SHUTDOWN_TIMEOUT).await?;
    }
    Ok(())
}
