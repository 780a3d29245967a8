//! SSH to an instance: run `lnplay up` and follow its lines, or ask `lnplay status` or `lnplay desk`.

use std::io::{ErrorKind, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lnplaylive_core::desk;
use lnplaylive_core::environment::EnvironmentSpec;
use lnplaylive_core::health::Report;
use lnplaylive_core::order::{Handover, Placement, Severity, Site};
use lnplaylive_core::progress::{Line, Progress};
use lnplaylive_core::version::{self, VersionError};
use lnplaylive_core::{ConnectionString, ProjectName, Secret, settings};
use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder, Stdio};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::{Error, cloud_init};

/// One try to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Lifetime of an unused connection: the end of those that could not be closed, because we were killed.
const IDLE_SECS: NonZeroUsize = NonZeroUsize::new(30).expect("not 0");
/// All tries to connect to an instance that was prepared, and has let us in before.
const PREPARED_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// All of `lnplay up`: 64 nodes take 20 s on two processors. `lnplay` itself gives up after 300 s.
const UP_TIMEOUT: Duration = Duration::from_secs(330);
/// The longest between two steps forward of `lnplay up`, which reports each node at each step: they take milliseconds to seconds.
const STALL: Duration = Duration::from_secs(90);
/// All that `lnplay up` may print: 64 connection strings are 30 kB.
const OUTPUT_LIMIT: u64 = 1024 * 1024;
/// The length of the log that is kept for an error message.
const LOG_LIMIT: u64 = 4 * 1024;

/// All of `lnplay status`, which waits 5 s for each daemon, all at a time.
const STATUS_TIMEOUT: Duration = Duration::from_secs(15);

/// All of `lnplay desk`, which itself gives up after 75 s.
const DESK_TIMEOUT: Duration = Duration::from_secs(80);

/// The beginning of what an `lnplay` from before there was a desk says, which refuses the command.
const UNKNOWN_COMMAND: &str = "this account can run";

/// Runs `lnplay up` with `spec` in the placement's instance, whose ports are reached at `host`, and returns its
/// connection strings.
pub(crate) async fn lnplay_up(
    remote: &settings::Remote,
    host: &str,
    placement: &Placement,
    spec: &EnvironmentSpec,
    progress: impl FnMut(Progress) + Send,
) -> Result<Vec<ConnectionString>, Error> {
    let target = Target::of_placement(remote, host, placement);
    // Holds the key, so it goes when we do, and is needed until the session is closed.
    let keys = target.write_keys().map_err(|e| target.error("cannot keep its keys", Severity::Passing, e))?;
    let keys = Arc::new(keys);
    let mut boot_time = Duration::from_secs(remote.boot_timeout_secs.into());
    if placement.prepared.is_some() {
        boot_time = boot_time.min(PREPARED_TIMEOUT);
    }
    let connected = target.connect(&keys, boot_time).await;
    let session = connected.map_err(|error| error.of_placement(placement))?;
    let result = match timeout(UP_TIMEOUT, run(&target, &session, spec, progress)).await {
        Ok(result) => result,
        Err(_) => Err(Error::lnplay(placement, format!("no end after {} s", UP_TIMEOUT.as_secs()))),
    };
    close(session).await;
    result
}

/// Returns once the placement's instance, whose ports are reached at `host`, lets us in.
pub(crate) async fn wait_for(
    remote: &settings::Remote,
    host: &str,
    placement: &Placement,
) -> Result<(), Error> {
    let target = Target::of_placement(remote, host, placement);
    let keys = target.write_keys().map_err(|e| target.error("cannot keep its keys", Severity::Passing, e))?;
    let boot_time = Duration::from_secs(remote.boot_timeout_secs.into());
    close(target.connect(&Arc::new(keys), boot_time).await?).await;
    Ok(())
}

/// Asks `lnplay status` in an environment whose ports are reached at `host`: one attempt.
pub(crate) async fn lnplay_status(
    remote: &settings::Remote,
    host: &str,
    handover: &Handover,
    site: &Site,
) -> Result<Report, Error> {
    let target = Target::of_handover(remote, host, handover, site);
    let Printed { out, .. } = target.ask("status", &[], STATUS_TIMEOUT).await?;
    if let Some(Line::Failed { message }) = Line::parse(&String::from_utf8_lossy(&out)) {
        return Err(target.error("lnplay status", Severity::Final, message));
    }
    Report::parse(&out).map_err(|error| target.error("lnplay status", Severity::Final, error))
}

/// Has `lnplay desk` carry out an action in an environment whose ports are reached at `host`: one attempt. `None` if the
/// `lnplay` in the instance has no desk.
pub(crate) async fn lnplay_desk(
    remote: &settings::Remote,
    host: &str,
    handover: &Handover,
    site: &Site,
    action: &desk::Action,
) -> Result<Option<desk::Answer>, Error> {
    let target = Target::of_handover(remote, host, handover, site);
    let Printed { out, log } = target.ask("desk", version::write(action).as_bytes(), DESK_TIMEOUT).await?;
    if out.is_empty() && log.contains(UNKNOWN_COMMAND) {
        return Ok(None);
    }
    let answer = version::read(&out).map(Some);
    answer.map_err(|error| target.error("lnplay desk", Severity::Final, error))
}

/// What a command has printed.
struct Printed {
    out: Vec<u8>,
    /// The beginning of its log.
    log: String,
}

/// The beginning of what is printed. The rest is read too, so that the command comes to its end.
async fn beginning(output: &mut (impl AsyncRead + Unpin), limit: u64) -> std::io::Result<Vec<u8>> {
    let mut beginning = Vec::new();
    output.take(limit).read_to_end(&mut beginning).await?;
    tokio::io::copy(output, &mut tokio::io::sink()).await?;
    Ok(beginning)
}

async fn run_command(
    session: &Session,
    command: &str,
    input: &[u8],
) -> Result<Printed, Box<dyn std::error::Error + Send + Sync>> {
    let mut child = session
        .command("lnplay")
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .await?;
    let mut stdin = child.stdin().take().expect("piped");
    match async { stdin.write_all(input).await.and(stdin.shutdown().await) }.await {
        // It ended without reading; what it printed tells more.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
        _ => drop(stdin),
    }
    let mut stdout = child.stdout().take().expect("piped");
    let mut stderr = child.stderr().take().expect("piped");
    let (out, log) =
        tokio::try_join!(beginning(&mut stdout, OUTPUT_LIMIT), beginning(&mut stderr, LOG_LIMIT))?;
    child.wait().await?;
    Ok(Printed { out, log: String::from_utf8_lossy(&log).into_owned() })
}

fn silent() -> openssh::Error {
    openssh::Error::Connect(ErrorKind::TimedOut.into())
}

async fn close(session: Session) {
    if let Ok(Err(error)) = timeout(CONNECT_TIMEOUT, session.close()).await {
        tracing::debug!("closing an SSH connection: {error}");
    }
}

/// Tries to connect once, in a task of its own: ssh goes into the background when it is connected, so somebody has to
/// see to its end even if nobody waits for it any more. `keys` are there until then.
async fn attempt(
    builder: SessionBuilder,
    host: String,
    keys: Arc<TempDir>,
) -> Result<Session, openssh::Error> {
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(Ok(session)) = sender.send(builder.connect(&host).await) {
            close(session).await;
        }
        drop(keys);
    });
    receiver.await.unwrap_or_else(|_| Err(openssh::Error::Connect(ErrorKind::Interrupted.into())))
}

/// Prefix of the directories of keys; the process id and random letters follow.
const KEYS_PREFIX: &str = "lnplaylive-ssh-";

/// Removes the keys that a process left which was killed while it had a connection.
pub(crate) fn remove_stale_keys() -> std::io::Result<()> {
    // Only where it can be seen who is alive.
    if !Path::new("/proc/self").exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name.to_str().and_then(|n| n.strip_prefix(KEYS_PREFIX)?.split_once('-'));
        let owner = owner.and_then(|(pid, _)| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

struct Target<'a> {
    remote: &'a settings::Remote,
    host: &'a str,
    project: ProjectName,
    port: u16,
    /// The private half of our key.
    client_key: &'a Secret,
    /// The public half of the instance's host key.
    host_key: &'a str,
}

impl<'a> Target<'a> {
    fn of_placement(remote: &'a settings::Remote, host: &'a str, placement: &'a Placement) -> Self {
        Self {
            remote,
            host,
            project: placement.project,
            port: placement.ports.ssh(),
            client_key: &placement.access.client_key.private,
            host_key: &placement.access.host_key.public,
        }
    }

    fn of_handover(remote: &'a settings::Remote, host: &'a str, handover: &Handover, site: &'a Site) -> Self {
        Self {
            remote,
            host,
            project: handover.project,
            port: site.ports.ssh(),
            client_key: &site.client_key,
            host_key: &site.host_key,
        }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn error(
        &self,
        what: impl Into<String>,
        severity: Severity,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::Ssh {
            remote: self.remote.name.clone(),
            project: self.project.to_string(),
            address: self.address(),
            what: what.into(),
            severity,
            source: source.into(),
        }
    }

    /// Writes our key and the instance's pinned host key to a directory that only we can read.
    fn write_keys(&self) -> std::io::Result<TempDir> {
        let prefix = format!("{KEYS_PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let write = |name: &str, text: &str| {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(dir.path().join(name))?;
            file.write_all(text.as_bytes())
        };
        write("key", self.client_key.expose())?;
        write("known_hosts", &format!("[{}]:{} {}\n", self.host, self.port, self.host_key))?;
        Ok(dir)
    }

    fn lnplay(&self, what: impl Into<String>) -> Error {
        Error::Lnplay {
            remote: self.remote.name.clone(),
            project: self.project.to_string(),
            what: what.into(),
        }
    }

    fn builder(&self, keys: &TempDir, connect_timeout: Duration) -> SessionBuilder {
        let mut builder = SessionBuilder::default();
        builder
            .user(cloud_init::ACCOUNT.into())
            .port(self.port)
            .keyfile(keys.path().join("key"))
            .known_hosts_check(KnownHosts::Strict)
            .user_known_hosts_file(keys.path().join("known_hosts"))
            .control_directory(keys.path())
            .control_persist(ControlPersist::IdleFor(IDLE_SECS))
            .connect_timeout(connect_timeout)
            .server_alive_interval(Duration::from_secs(15))
            // Nothing of the user's own configuration.
            .config_file("/dev/null");
        builder
    }

    /// Runs a command of `lnplay`'s that ends by itself within `limit`: one attempt. A fault of this machine's is
    /// [`Severity::Passing`].
    async fn ask(&self, command: &str, input: &[u8], limit: Duration) -> Result<Printed, Error> {
        let keys = self.write_keys().map_err(|e| self.error("cannot keep its keys", Severity::Passing, e))?;
        let keys = Arc::new(keys);
        let attempt = attempt(self.builder(&keys, CONNECT_TIMEOUT), self.host.to_owned(), Arc::clone(&keys));
        let session = match timeout(2 * CONNECT_TIMEOUT, attempt).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) if is_missing(&error) => {
                return Err(self.error("the program ssh does not run here", Severity::Passing, error));
            }
            Ok(Err(error)) => return Err(self.error("no way in", Severity::Final, error)),
            Err(_) => return Err(self.error("no way in", Severity::Final, silent())),
        };
        let what = || format!("lnplay {command}");
        let result = match timeout(limit, run_command(&session, command, input)).await {
            Ok(Ok(printed)) => Ok(printed),
            Ok(Err(error)) => Err(self.error(what(), Severity::Final, error)),
            Err(_) => Err(self.error(what(), Severity::Final, "it did not answer in time")),
        };
        close(session).await;
        result
    }

    /// Connects as soon as the instance lets us, which has `boot_time` for that.
    async fn connect(&self, keys: &Arc<TempDir>, boot_time: Duration) -> Result<Session, Error> {
        let builder = self.builder(keys, CONNECT_TIMEOUT.min(boot_time));
        let deadline = Instant::now() + boot_time;
        let mut last = None;
        while Instant::now() < deadline {
            let attempt = attempt(builder.clone(), self.host.to_owned(), Arc::clone(keys));
            // The time-out of ssh itself covers TCP and the first words only.
            let limit = deadline.min(Instant::now() + 2 * CONNECT_TIMEOUT);
            match timeout_at(limit, attempt).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) if host_key_differs(&error) => {
                    return Err(self.error("its host key is not the one we made", Severity::Final, error));
                }
                Ok(Err(error)) if is_missing(&error) => {
                    return Err(self.error("the program ssh does not run here", Severity::Passing, error));
                }
                Ok(Err(error)) => last = Some(error),
                // What it said before tells more.
                Err(_) => last = last.or_else(|| Some(silent())),
            }
            sleep_until(deadline.min(Instant::now() + CONNECT_PAUSE)).await;
        }
        let what = format!("no way in for {} s since the instance was started", boot_time.as_secs());
        Err(self.error(what, Severity::Final, last.unwrap_or_else(silent)))
    }
}

/// True if there is no such program; errors of ssh itself never have this kind.
fn is_missing(error: &openssh::Error) -> bool {
    matches!(error, openssh::Error::Connect(e) if e.kind() == ErrorKind::NotFound)
}

/// Only ssh's own words tell the cause.
fn host_key_differs(error: &openssh::Error) -> bool {
    let openssh::Error::Connect(error) = error else { return false };
    let text = error.to_string();
    text.contains("Host key verification failed") || text.contains("REMOTE HOST IDENTIFICATION HAS CHANGED")
}

async fn run(
    target: &Target<'_>,
    session: &Session,
    spec: &EnvironmentSpec,
    progress: impl FnMut(Progress) + Send,
) -> Result<Vec<ConnectionString>, Error> {
    let broken = |what, e: openssh::Error| target.error(what, Severity::Passing, e);
    let io = |what, e: std::io::Error| target.error(what, Severity::Passing, e);
    let failed = |what: String| target.lnplay(what);

    let mut child = session
        .command("lnplay")
        .args(["up", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .await
        .map_err(|e| broken("cannot start lnplay", e))?;
    let mut stdin = child.stdin().take().expect("piped");
    let stdout = child.stdout().take().expect("piped");
    let mut stderr = child.stderr().take().expect("piped");

    // Its log is read all along, so that it never blocks, and its end is kept.
    let log = tokio::spawn(async move {
        let (mut kept, mut chunk) = (Vec::new(), [0; 1024]);
        while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
            kept.extend_from_slice(&chunk[..read]);
            let limit = usize::try_from(LOG_LIMIT).unwrap_or(usize::MAX);
            kept.drain(..kept.len().saturating_sub(limit));
        }
        String::from_utf8_lossy(&kept).trim().to_owned()
    });

    let spec = version::write(spec).into_bytes();
    let sent = async {
        stdin.write_all(&spec).await?;
        stdin.shutdown().await
    };
    match sent.await {
        // It ended without reading; what it printed and its exit status tell more.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(io("cannot send the spec", error)),
        _ => {}
    }
    drop(stdin);

    let Said { ready, complaint } =
        follow(stdout, progress).await.map_err(|misbehaviour| match misbehaviour {
            Misbehaviour::Read(error) => io("cannot read what lnplay prints", error),
            Misbehaviour::Said(what) => failed(what),
        })?;
    let status = match timeout(CONNECT_TIMEOUT, child.wait()).await {
        Ok(Ok(status)) => status,
        Ok(Err(openssh::Error::Remote(error))) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(failed("there is no lnplay in the image".into()));
        }
        Ok(Err(error)) => return Err(broken("lost while lnplay worked", error)),
        Err(_) => return Err(failed("it closed its output and did not end".into())),
    };
    match (ready, complaint) {
        (Some(strings), None) if status.success() => Ok(strings),
        (_, Some(message)) => Err(failed(message)),
        _ => {
            let log = timeout(CONNECT_TIMEOUT, log).await.ok().and_then(Result::ok).unwrap_or_default();
            Err(failed(format!("it ended with {status} before everything was up; its log ends: {log}")))
        }
    }
}

/// What `lnplay up` has printed, apart from its progress.
#[derive(Debug, Default, PartialEq)]
struct Said {
    ready: Option<Vec<ConnectionString>>,
    complaint: Option<String>,
}

/// Why `lnplay up` is no longer listened to.
#[derive(Debug)]
enum Misbehaviour {
    /// Its output cannot be read.
    Read(std::io::Error),
    /// What it printed, or that it did not.
    Said(String),
}

/// Reads the output of `lnplay up` to its end. Gives up once it has made no progress for [`STALL`], whatever it prints.
async fn follow(
    output: impl AsyncRead + Unpin,
    mut progress: impl FnMut(Progress),
) -> Result<Said, Misbehaviour> {
    let mut output = BufReader::new(output.take(OUTPUT_LIMIT));
    let mut said = Said::default();
    let mut last = None;
    let mut deadline = Instant::now() + STALL;
    let mut line = Vec::new();
    loop {
        line.clear();
        match timeout_at(deadline, output.read_until(b'\n', &mut line)).await {
            Ok(Ok(0)) => break,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Misbehaviour::Read(error)),
            Err(_) => {
                let at = match &last {
                    None => "it has not begun".to_owned(),
                    Some((step, done, total)) => format!("it stopped at {step:.40}, {done} of {total}"),
                };
                return Err(Misbehaviour::Said(format!("no progress for {} s: {at}", STALL.as_secs())));
            }
        }
        match version::read(&line) {
            Ok(Line::Progress(step)) => {
                let now = Some((step.step.clone(), step.done, step.total));
                if now != last {
                    last = now;
                    deadline = Instant::now() + STALL;
                }
                progress(step);
            }
            Ok(Line::Ready { connection_strings }) => said.ready = Some(connection_strings),
            Ok(Line::Failed { message }) => said.complaint = Some(message),
            Err(newer @ VersionError::Newer { .. }) => return Err(Misbehaviour::Said(newer.to_string())),
            // Not one of ours, so whatever else it says is not to be believed.
            Err(VersionError::Malformed { .. }) => {
                let text = String::from_utf8_lossy(&line);
                return Err(Misbehaviour::Said(format!("it printed rubbish: {:.200}", text.trim_end())));
            }
        }
    }
    if output.get_ref().limit() == 0 {
        return Err(Misbehaviour::Said(format!("it printed more than {OUTPUT_LIMIT} bytes")));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    fn line(step: &str, done: u32) -> String {
        let progress = Progress { step: step.into(), done, total: 8, message: String::new() };
        version::write(&Line::Progress(progress)) + "\n"
    }

    /// Follows an `lnplay` that prints each line after a pause, then nothing more, and stays.
    async fn follow_lines(lines: Vec<(Duration, String)>) -> (Result<Said, Misbehaviour>, usize, Duration) {
        let (mut writer, reader) = tokio::io::duplex(1024);
        let print = async {
            for (pause, line) in lines {
                sleep(pause).await;
                writer.write_all(line.as_bytes()).await.expect("somebody reads");
            }
            std::future::pending::<()>().await;
        };
        let mut reports = 0;
        let begin = Instant::now();
        let said = tokio::select! {
            said = follow(reader, |_| reports += 1) => said,
            () = print => unreachable!(),
        };
        (said, reports, begin.elapsed())
    }

    fn complaint(said: Result<Said, Misbehaviour>) -> String {
        match said {
            Err(Misbehaviour::Said(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    /// In virtual time.
    #[tokio::test(start_paused = true)]
    async fn what_makes_no_progress_is_given_up_whatever_it_prints() {
        let second = Duration::from_secs(1);
        let (said, _, took) = follow_lines(Vec::new()).await;
        assert_eq!(complaint(said), "no progress for 90 s: it has not begun");
        assert_eq!(took, STALL);

        let again = || (30 * second, line("start-nodes", 3));
        let (said, reports, took) = follow_lines(vec![again(), again(), again()]).await;
        assert_eq!(complaint(said), "no progress for 90 s: it stopped at start-nodes, 3 of 8");
        assert_eq!((took, reports), (30 * second + STALL, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_progress_is_progress() {
        let step = |done| (STALL.saturating_sub(Duration::from_secs(1)), line("start-nodes", done));
        let mut lines: Vec<_> = (1..=8).map(step).collect();
        lines.push((Duration::from_secs(60), "rubbish\n".into()));
        let (said, reports, _) = follow_lines(lines).await;
        assert_eq!((complaint(said).as_str(), reports), ("it printed rubbish: rubbish", 8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_line_is_refused_with_both_versions() {
        let newer = r#"{"event": "ready", "connection_strings": [], "version": 2}"#.to_owned() + "\n";
        let (said, ..) = follow_lines(vec![(Duration::ZERO, newer)]).await;
        let what = complaint(said);
        for part in ["output of lnplay has version 2", "versions up to 1"] {
            assert!(what.contains(part), "{what}");
        }
    }
}
