//! The systemd unit of an instance's environment: written, started, stopped.
//!
//! Where systemd runs, the supervisor is a service, so that the environment comes back after a reboot. There is one such
//! unit on a machine; it belongs to the environment in the default state directory. Others are processes of their own,
//! see [`crate::up`]. A system that ships a `lnplay.service` itself (NixOS, whose `/etc/systemd` cannot be written to)
//! has it started and stopped, never changed: its variables have to name the state directory and the daemons.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::settings::{DEFAULT_DIR, Settings};
use crate::state::StateDir;
use crate::{child, confine, supervisor};

const UNIT: &str = "lnplay.service";
const UNIT_FILE: &str = "/etc/systemd/system/lnplay.service";
/// The first line of a unit file that is ours to change.
const MARK: &str = "# Written by `lnplay up`, which writes it again.";

/// systemd reads some hundred units in this time, even where both cores are taken.
const SYSTEMCTL_LIMIT: Duration = Duration::from_secs(30);
/// What systemd gives the supervisor for ending, beyond what that gives itself.
const MARGIN: Duration = Duration::from_secs(15);

/// Who is asked to keep the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Supervision {
    /// systemd where it runs, we are root and the state directory is the default one; else a process
    #[default]
    Auto,
    /// The unit `lnplay.service`
    Systemd,
    /// A process of its own, which does not come back after a reboot
    Process,
}

/// Who keeps the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// The unit `lnplay.service`.
    Systemd,
    /// Nobody: it is a process of its own.
    Process,
}

/// What of a machine decides who keeps the supervisor.
#[derive(Debug, Clone, Copy)]
struct Machine {
    systemd: bool,
    root: bool,
}

impl Keeper {
    /// Who keeps the supervisor of an environment here.
    pub fn of(settings: &Settings) -> Self {
        // As sd_booted(3) finds out.
        let systemd = Path::new("/run/systemd/system").is_dir();
        let machine = Machine { systemd, root: nix::unistd::geteuid().is_root() };
        decide(settings.supervision, machine, &settings.dir)
    }
}

fn decide(asked: Supervision, machine: Machine, dir: &Path) -> Keeper {
    match asked {
        Supervision::Systemd => Keeper::Systemd,
        Supervision::Auto if machine.systemd && machine.root && dir == Path::new(DEFAULT_DIR) => {
            Keeper::Systemd
        }
        Supervision::Auto | Supervision::Process => Keeper::Process,
    }
}

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
    // `$` is for variables in a command and nowhere else.
    let program = quoted(program.as_os_str())?.replace('$', "$$");
    let spec = plain(dir.spec().as_os_str())?;
    let log = plain(dir.log("supervisor").as_os_str())?;
    let stop = (supervisor::GRACE + MARGIN).as_secs();
    Ok(format!(
        "{MARK}
[Unit]
Description=Lightning environment (lnplay)
ConditionPathExists={spec}
After=network.target
# One that keeps failing is given up; `lnplay up` starts it again.
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=notify
ExecStart={program} supervise
{variables}Restart=on-failure
RestartSec=2
# The supervisor stops its daemons in order; what is left after that is killed.
KillMode=mixed
TimeoutStopSec={stop}
# A node that the kernel kills for its memory is started again; it is no reason to stop the others.
OOMPolicy=continue
# 64 nodes are a thousand processes.
TasksMax=infinity
# Nodes hold much the same in memory: where the kernel merges equal pages, it may merge theirs.
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

/// Where the unit comes from.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// There is none, or one of ours.
    Ours,
    /// The system's own.
    Shipped,
}

async fn origin() -> anyhow::Result<Origin> {
    let path = systemctl(&["show", "--property=FragmentPath", "--value", UNIT], SYSTEMCTL_LIMIT).await?;
    if path.is_empty() {
        return Ok(Origin::Ours);
    }
    match std::fs::read_to_string(&path) {
        Ok(text) if text.starts_with(MARK) => Ok(Origin::Ours),
        Ok(_) => Ok(Origin::Shipped),
        // It was removed, and systemd has not been told.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Origin::Ours),
        Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
    }
}

/// Has systemd start the supervisor, now and at every boot. The process that comes back ends when the supervisor
/// listens, or has failed; what it says goes to the supervisor's log.
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
        systemctl(&["daemon-reload"], SYSTEMCTL_LIMIT).await?;
        systemctl(&["enable", UNIT], SYSTEMCTL_LIMIT).await?;
    }
    // One that was given up would not be started again.
    if let Err(error) = systemctl(&["reset-failed", UNIT], SYSTEMCTL_LIMIT).await {
        tracing::debug!("{error:#}");
    }
    let log = child::open_log(&dir.log("supervisor"))?;
    let errors = log.try_clone()?;
    let mut command = Command::new("systemctl");
    command.args(["start", UNIT]).stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().with_context(|| format!("systemctl start {UNIT}"))
}

/// Has systemd end the supervisor, and not start it at the next boot if that is ours to say. Succeeds when there is none.
pub async fn stop() -> anyhow::Result<()> {
    let loaded = systemctl(&["show", "--property=LoadState", "--value", UNIT], SYSTEMCTL_LIMIT).await?;
    if loaded == "not-found" {
        return Ok(());
    }
    systemctl(&["stop", UNIT], supervisor::GRACE + 2 * MARGIN).await?;
    if origin().await? == Origin::Ours {
        systemctl(&["disable", UNIT], SYSTEMCTL_LIMIT).await?;
    }
    Ok(())
}

/// Whether this process is the main process of a unit of systemd, which then can be asked for scopes. Its children are not.
pub fn is_supervised_by_systemd() -> bool {
    let main = std::env::var("SYSTEMD_EXEC_PID").ok().and_then(|pid| pid.parse().ok());
    main == Some(std::process::id())
}

/// Tells systemd, if it started us, that we listen (`sd_notify(3)`).
pub fn notify_ready() -> anyhow::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(PathBuf::from(&name)),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address));
    let sent = sent.with_context(|| format!("telling systemd on {}", name.display()))?;
    ensure!(sent > 0, "systemd was told nothing");
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
    fn systemd_keeps_the_machines_own_environment_only() {
        use Supervision::{Auto, Process, Systemd};
        let (own, other) = (Path::new(DEFAULT_DIR), Path::new("/tmp/environment"));
        let machine = |systemd, root| Machine { systemd, root };
        assert_eq!(decide(Auto, machine(true, true), own), Keeper::Systemd);
        assert_eq!(decide(Auto, machine(true, true), other), Keeper::Process);
        assert_eq!(decide(Auto, machine(true, false), own), Keeper::Process);
        assert_eq!(decide(Auto, machine(false, true), own), Keeper::Process);
        assert_eq!(decide(Process, machine(true, true), own), Keeper::Process);
        assert_eq!(decide(Systemd, machine(false, false), other), Keeper::Systemd);
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
        has("KillMode=mixed");
        has("WantedBy=multi-user.target");
        let two_lines = unit(&settings, &dir, Path::new("/opt/a\nb"), OsStr::new(""));
        assert!(two_lines.is_err(), "nothing may begin a line of its own");
    }
}
