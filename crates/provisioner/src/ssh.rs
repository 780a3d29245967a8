//! SSH to an instance: run `lnplay up`, follow its lines.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use lnplaylive::ConnectionString;
use lnplaylive::environment::EnvironmentSpec;
use lnplaylive::order::{Placement, Severity};
use lnplaylive::progress::{Line, Progress};
use lnplaylive::settings;
use openssh::{KnownHosts, Session, SessionBuilder, Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::Error;

/// Until SSH answers in an instance that was just started. A container takes two seconds, a virtual
/// machine without much of a processor a minute or two.
const BOOT_TIME: Duration = Duration::from_secs(180);
/// One try to connect.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Between two tries.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// All of `lnplay up`: 64 nodes take 20 s on two processors.
const UP_TIME: Duration = Duration::from_secs(600);
/// `lnplay up` prints a line at least this often.
const SILENCE: Duration = Duration::from_secs(120);
/// All that `lnplay up` may print: 64 connection strings are 30 kB.
const OUTPUT_LIMIT: u64 = 1024 * 1024;
/// How much of its log is kept for an error message.
const LOG_LIMIT: u64 = 4 * 1024;

/// Runs `lnplay up` with `spec` in the placement's instance and returns its connection strings.
pub(crate) async fn lnplay_up(
    remote: &settings::Remote,
    placement: &Placement,
    spec: &EnvironmentSpec,
    progress: impl FnMut(Progress) + Send,
) -> Result<Vec<ConnectionString>, Error> {
    let target = Target { remote, placement };
    // Holds the key, so it goes when we do.
    let keys = target.write_keys().map_err(|e| target.error("keep its keys", Severity::Passing, e))?;
    let session = target.connect(keys.path()).await?;
    let result = match timeout(UP_TIME, run(&target, &session, spec, progress)).await {
        Ok(result) => result,
        Err(_) => Err(Error::lnplay(placement, format!("no end after {} s", UP_TIME.as_secs()))),
    };
    // ControlPersist would keep the connection for ever.
    if let Ok(Err(error)) = timeout(CONNECT_TIME, session.close()).await {
        tracing::debug!("closing SSH to {}: {error}", target.address());
    }
    result
}

struct Target<'a> {
    remote: &'a settings::Remote,
    placement: &'a Placement,
}

impl Target<'_> {
    fn address(&self) -> String {
        format!("{}:{}", self.remote.ssh_host(), self.placement.ports.first)
    }

    fn error(
        &self,
        what: &'static str,
        severity: Severity,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::Ssh {
            remote: self.placement.remote.clone(),
            project: self.placement.project.to_string(),
            address: self.address(),
            what,
            severity,
            source: source.into(),
        }
    }

    /// Writes our key and the instance's pinned host key to a directory that only we can read.
    fn write_keys(&self) -> std::io::Result<tempfile::TempDir> {
        let dir = tempfile::Builder::new().prefix("lnplaylive-ssh-").tempdir()?;
        let write = |name: &str, text: &str| {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(dir.path().join(name))?;
            file.write_all(text.as_bytes())
        };
        let access = &self.placement.access;
        write("key", access.client_key.private.expose())?;
        let (host, port) = (self.remote.ssh_host(), self.placement.ports.first);
        write("known_hosts", &format!("[{host}]:{port} {}\n", access.host_key.public))?;
        Ok(dir)
    }

    /// Connects as soon as the instance lets us.
    async fn connect(&self, keys: &Path) -> Result<Session, Error> {
        let mut builder = SessionBuilder::default();
        builder
            .user("root".into())
            .port(self.placement.ports.first)
            .keyfile(keys.join("key"))
            .known_hosts_check(KnownHosts::Strict)
            .user_known_hosts_file(keys.join("known_hosts"))
            .control_directory(keys)
            .connect_timeout(CONNECT_TIME)
            .server_alive_interval(Duration::from_secs(15))
            // Nothing of the user's own configuration.
            .config_file("/dev/null");
        let deadline = Instant::now() + BOOT_TIME;
        loop {
            // The time-out of ssh itself covers TCP only.
            let last = match timeout(2 * CONNECT_TIME, builder.connect(self.remote.ssh_host())).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) => error,
                Err(_) => openssh::Error::Connect(std::io::ErrorKind::TimedOut.into()),
            };
            if host_key_differs(&last) {
                return Err(self.error("its host key is not the one we made", Severity::Final, last));
            }
            if Instant::now() >= deadline {
                return Err(self.error("no answer since the instance was started", Severity::Final, last));
            }
            sleep(CONNECT_PAUSE).await;
        }
    }
}

/// What ssh says is all that there is to go by.
fn host_key_differs(error: &openssh::Error) -> bool {
    let openssh::Error::Connect(error) = error else { return false };
    let text = error.to_string();
    text.contains("Host key verification failed") || text.contains("REMOTE HOST IDENTIFICATION HAS CHANGED")
}

async fn run(
    target: &Target<'_>,
    session: &Session,
    spec: &EnvironmentSpec,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Vec<ConnectionString>, Error> {
    let broken = |what, e: openssh::Error| target.error(what, Severity::Passing, e);
    let io = |what, e: std::io::Error| target.error(what, Severity::Passing, e);
    let failed = |what: String| Error::lnplay(target.placement, what);

    let mut child = session
        .command("lnplay")
        .args(["up", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .await
        .map_err(|e| broken("start lnplay", e))?;
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

    let spec = serde_json::to_vec(spec).expect("a spec is plain data");
    stdin.write_all(&spec).await.map_err(|e| io("send the spec", e))?;
    stdin.shutdown().await.map_err(|e| io("send the spec", e))?;
    drop(stdin);

    let mut lines = BufReader::new(stdout.take(OUTPUT_LIMIT)).lines();
    let mut ready = None;
    let mut complaint = None;
    loop {
        let silent = Instant::now() + SILENCE;
        let line = match timeout_at(silent, lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(io("read what lnplay prints", error)),
            Err(_) => return Err(failed(format!("it said nothing for {} s", SILENCE.as_secs()))),
        };
        match Line::parse(&line) {
            Some(Line::Progress(step)) => progress(step),
            Some(Line::Ready { connection_strings }) => ready = Some(connection_strings),
            Some(Line::Failed { message }) => complaint = Some(message),
            None => complaint = Some(format!("it printed rubbish: {line:.200}")),
        }
    }
    let status = match timeout(CONNECT_TIME, child.wait()).await {
        Ok(Ok(status)) => status,
        Ok(Err(openssh::Error::Remote(error))) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(failed("there is no lnplay in the image".into()));
        }
        Ok(Err(error)) => return Err(broken("wait for lnplay", error)),
        Err(_) => return Err(failed("it closed its output and did not end".into())),
    };
    match (ready, complaint) {
        (Some(strings), None) if status.success() => Ok(strings),
        (_, Some(message)) => Err(failed(message)),
        _ => {
            let log = timeout(CONNECT_TIME, log).await.ok().and_then(Result::ok).unwrap_or_default();
            Err(failed(format!("it ended with {status} before everything was up; its log ends: {log}")))
        }
    }
}
