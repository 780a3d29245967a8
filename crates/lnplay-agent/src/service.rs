//! The systemd unit of an instance's environment: written, started, stopped.
//!
//! Where systemd runs, the supervisor is a service, so that the environment comes back after a reboot. A machine has one
//! such unit, for the environment in the default state directory; other supervisors are processes of their own (see
//! [`crate::up`]). A `lnplay.service` that the system ships (as NixOS does, where `/etc/systemd` is read-only) is started
//! and stopped but never changed: its variables must name the state directory and the daemons.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::settings::Settings;
use crate::state::StateDir;
use crate::{confine, control, log};

const UNIT: &str = "lnplay.service";
const UNIT_FILE: &str = "/etc/systemd/system/lnplay.service";
/// The first line of a unit file that we may change.
const MARK: &str = "# Written by `lnplay up`, which writes it again.";

/// systemd reloads some hundred units in this time, even on two busy cores.
const SYSTEMCTL_TIMEOUT: Duration = Duration::from_secs(30);
/// The time that systemd allows the supervisor to stop beyond its own time-out.
const MARGIN: Duration = Duration::from_secs(15);

/// The unit file for a supervisor that is `program` and finds others' programs in `path`.
fn unit(settings: &Settings, dir: &StateDir, program: &Path, path: &OsStr) -> anyhow::Result<String> {
    let first_uid = settings.first_uid.or(Some(confine::FIRST_UID));
    let mut variables = Settings { first_uid, ..settings.clone() }.to_environment();
    variables.push(("PATH", path.to_owned()));
    let variables = variables.into_iter().map(|(name, value)| {
        let mut both = std::ffi::OsString::from(name);
        both.push("=");
        both.push(value);
        Ok(format!("Environment={}\n", quoted(&both)?))
    });
    let variables = variables.collect::<anyhow::Result<String>>()?;
    // In a command, `$` starts a variable.
    let program = quoted(program.as_os_str())?.replace('$', "$$");
    let spec = plain(dir.spec().as_os_str())?;
    let log = plain(dir.log("supervisor").as_os_str())?;
    let stop = (control::SHUTDOWN_TIMEOUT + MARGIN).as_secs();
    Ok(format!(
        "{MARK}
[Unit]
Description=Lightning environment (lnplay)
ConditionPathExists={spec}
After=network.target
# Nobody but systemd starts it again: after a full disk or a reboot of the whole server it has to come back by itself.
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={program} supervise
{variables}Restart=on-failure
RestartSec=5
# The supervisor stops its daemons in order; what is left after that is killed.
KillMode=mixed
TimeoutStopSec={stop}
# A node that the kernel kills for its memory is restarted; the others run on.
OOMPolicy=continue
# 64 nodes are a thousand processes.
TasksMax=infinity
# Nodes have many equal pages in memory, which the kernel may merge.
MemoryKSM=yes
UMask=0077
StandardOutput=append:{log}
StandardError=append:{log}

[Install]
WantedBy=multi-user.target
"
    ))
}

fn plain(value: &OsStr) -> anyhow::Result<String> {
    let text = value.to_str().filter(|text| !text.contains(char::is_control));
    let text = text.with_context(|| format!("{} cannot be written in a unit file", value.display()))?;
    // systemd's specifiers.
    Ok(text.replace('%', "%%"))
}

fn quoted(value: &OsStr) -> anyhow::Result<String> {
    Ok(format!("\"{}\"", plain(value)?.replace('\\', "\\\\").replace('"', "\\\"")))
}

async fn systemctl(arguments: &[&str], limit: Duration) -> anyhow::Result<String> {
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let said = || format!("systemctl {}", arguments.join(" "));
    let output = timeout(limit, command.output()).await;
    let output =
        output.with_context(|| format!("{} did not end in {limit:?}", said()))?.with_context(said)?;
    if !output.status.success() {
        bail!("{} ended with {}: {}", said(), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The origin of the unit.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// There is none, or one of ours.
    Ours,
    /// The system's own.
    Shipped,
}

async fn origin() -> anyhow::Result<Origin> {
    let path = systemctl(&["show", "--property=FragmentPath", "--value", UNIT], SYSTEMCTL_TIMEOUT).await?;
    if path.is_empty() {
        return Ok(Origin::Ours);
    }
    match std::fs::read_to_string(&path) {
        Ok(text) if text.starts_with(MARK) => Ok(Origin::Ours),
        Ok(_) => Ok(Origin::Shipped),
        // It was removed without a reload of systemd.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Origin::Ours),
        Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
    }
}

/// Has systemd start the supervisor, now and at every boot. The returned process ends when the supervisor listens or has
/// failed; its output goes to the supervisor's log.
pub async fn start(settings: &Settings, dir: &StateDir) -> anyhow::Result<Child> {
    if origin().await? == Origin::Ours {
        let program = std::env::current_exe().context("finding out where lnplay is")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let text = unit(settings, dir, &program, &path)?;
        std::fs::write(UNIT_FILE, text).with_context(|| {
            format!(
                "cannot write {UNIT_FILE}; have the system ship a {UNIT}, or set LNPLAY_SUPERVISION=process"
            )
        })?;
        systemctl(&["daemon-reload"], SYSTEMCTL_TIMEOUT).await?;
        systemctl(&["enable", UNIT], SYSTEMCTL_TIMEOUT).await?;
    }
    // A unit of an older version may have reached its start limit.
    if let Err(error) = systemctl(&["reset-failed", UNIT], SYSTEMCTL_TIMEOUT).await {
        tracing::debug!("{error:#}");
    }
    let log = log::open(&dir.log("supervisor"))?;
    let errors = log.try_clone()?;
    let mut command = Command::new("systemctl");
    command.args(["start", UNIT]).stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().with_context(|| format!("systemctl start {UNIT}"))
}

/// Has systemd stop the supervisor, and not start it at the next boot unless the system ships the unit. Succeeds if there is
/// no unit.
pub async fn stop() -> anyhow::Result<()> {
    let loaded = systemctl(&["show", "--property=LoadState", "--value", UNIT], SYSTEMCTL_TIMEOUT).await?;
    if loaded == "not-found" {
        return Ok(());
    }
    systemctl(&["stop", UNIT], control::SHUTDOWN_TIMEOUT + 2 * MARGIN).await?;
    if origin().await? == Origin::Ours {
        systemctl(&["disable", UNIT], SYSTEMCTL_TIMEOUT).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn the_unit_starts_the_same_environment_again() {
        let arguments =
            ["lnplay", "--dir", "/var/lib/a b%\"c\"", "--address", "10.0.0.2", "--bitcoind", "/opt/b$1"];
        let settings = Cli::try_parse_from(arguments).expect("settings").settings;
        let dir = StateDir::new(&settings.dir).expect("a directory");
        let text = unit(&settings, &dir, Path::new("/opt/ln$ play/lnplay"), OsStr::new("/bin:/opt/bin"));
        let text = text.expect("a unit");
        let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        has(MARK);
        has("ExecStart=\"/opt/ln$$ play/lnplay\" supervise");
        has("Environment=\"LNPLAY_DIR=/var/lib/a b%%\\\"c\\\"\"");
        has("Environment=\"LNPLAY_ADDRESS=10.0.0.2\"");
        has("Environment=\"BITCOIND=/opt/b$1\"");
        has("Environment=\"PATH=/bin:/opt/bin\"");
        has("Environment=\"LNPLAY_FIRST_UID=50000\"");
        has("ConditionPathExists=/var/lib/a b%%\"c\"/spec.json");
        has("StandardError=append:/var/lib/a b%%\"c\"/logs/supervisor.log");
        has("Restart=on-failure");
        has("StartLimitIntervalSec=0");
        has("KillMode=mixed");
        has("WantedBy=multi-user.target");
        let two_lines = unit(&settings, &dir, Path::new("/opt/a\nb"), OsStr::new(""));
        assert!(two_lines.is_err(), "nothing may begin a line of its own");
    }
}
