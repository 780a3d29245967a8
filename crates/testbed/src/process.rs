//! A daemon as a process group, which is stopped with all its descendants.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::wait::{Step, until};
use crate::{Error, Result};

/// Size of the part of a log that an error shows.
const TAIL: u64 = 2_000;

/// A running child in its own process group, with its output appended to a file. Dropping it kills the whole group.
///
/// The child stays unreaped until the group has been killed, so that its process id is not reused meanwhile.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Offset of this run's output in the file.
    log_start: u64,
    ended: Option<ExitStatus>,
}

impl Process {
    pub(crate) fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let open = || {
            let mut file = File::options().append(true).create(true).open(log)?;
            let start = file.seek(SeekFrom::End(0))?;
            Ok((start, file.try_clone()?, file))
        };
        let (log_start, out, err) =
            open().map_err(|source| Error::File { doing: "opening", path: log.into(), source })?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn { program: command.get_program().into(), source })?;
        keeper(&format!("+ {}\n", child.id()));
        Ok(Self { name: name.into(), child, log: log.into(), log_start, ended: None })
    }

    /// The group's id, which is the daemon's process id.
    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("process ids fit"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns an error with the exit status if the daemon has exited.
    pub(crate) fn check(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let status = self.kill();
        let tail = self.output_from(u64::MAX).unwrap_or_default();
        Err(Error::Ended { name: self.name.clone(), status, log: self.log.clone(), tail })
    }

    pub(crate) fn is_running(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        self.ended.is_none() && waitid(Id::Pid(self.pid()), flags) == Ok(WaitStatus::StillAlive)
    }

    /// Kills the group and returns the daemon's exit status.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        match killpg(self.pid(), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => eprintln!("testbed: killing {} ({}): {error}", self.name, self.pid()),
        }
        let status = self.child.wait().expect("our own child can be waited for");
        keeper(&format!("- {}\n", self.child.id()));
        *self.ended.insert(status)
    }

    /// Sends SIGTERM to the daemon and waits until it exits. Then, or after `within`, kills the rest of the group.
    pub(crate) async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        if self.ended.is_none() {
            // It may have exited already.
            kill(self.pid(), Signal::SIGTERM)
                .or_else(|error| if error == Errno::ESRCH { Ok(()) } else { Err(error) })
                .map_err(|error| Error::System {
                    doing: "signalling a daemon of ours",
                    source: error.into(),
                })?;
        }
        self.ended_within(within).await
    }

    /// Waits until the daemon exits by itself. Then, or after `within`, kills the rest of the group.
    pub(crate) async fn ended_within(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let ended = until(&what, within, async || {
            Ok(if self.is_running() { Step::NotYet("still running".into()) } else { Step::Done(()) })
        })
        .await;
        let status = self.kill();
        ended.map(|()| status)
    }

    /// Waits for `text` in what this run of the daemon has written.
    pub(crate) async fn wait_for_log(&mut self, text: &str, within: Duration) -> Result<()> {
        let (mut from, mut seen) = (self.log_start, String::new());
        until(&format!("{text:?} in the log of {}", self.name), within, async || {
            // Checked before the log is read, so that output just before the exit is seen.
            let running = self.check();
            let new = self.output_from(from)?;
            from += new.len() as u64;
            seen.push_str(&new);
            if seen.contains(text) {
                return Ok(Step::Done(()));
            }
            running?;
            // The log may currently end within the text.
            let mut keep = seen.len().saturating_sub(text.len().max(400));
            while !seen.is_char_boundary(keep) {
                keep -= 1;
            }
            seen.drain(..keep);
            Ok(Step::NotYet(format!("…{}", seen.trim_end())))
        })
        .await
    }

    /// The output of this run so far.
    pub(crate) fn output(&self) -> Result<String> {
        self.output_from(self.log_start)
    }

    /// The log from an offset, or its end if the offset is past it.
    fn output_from(&self, from: u64) -> Result<String> {
        let read = || {
            let mut file = File::open(&self.log)?;
            let end = file.metadata()?.len();
            let from = if from > end { end.saturating_sub(TAIL).max(self.log_start) } else { from };
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(end - from).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes =
            read().map_err(|source| Error::File { doing: "reading", path: self.log.clone(), source })?;
        // Keeps the length for any output, so that offsets stay valid.
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => error
                .into_bytes()
                .iter()
                .map(|&byte| if byte.is_ascii() { byte as char } else { '?' })
                .collect(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Tells the keeper about a group: `+ ID` when it starts, `- ID` when it has been killed.
///
/// The keeper is a shell that outlives this process for a moment. Its stdin is a pipe from this process, so it notices when this
/// process ends for any reason (a test runner's time-out, SIGKILL), and then kills the groups on its list. It runs in its own
/// process group, so signals to this process do not reach it.
fn keeper(line: &str) {
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        groups=' '
        while read -r sign id; do
            case $sign in
                +) groups="$groups$id " ;;
                -) groups="${groups%% $id *} ${groups##* $id }" ;;
            esac
        done
        for id in $groups; do kill -KILL "-$id"; done
    "#;
    static KEEPER: LazyLock<Option<Mutex<ChildStdin>>> = LazyLock::new(|| {
        let started = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "testbed-keeper"])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match started {
            Ok(mut child) => child.stdin.take().map(Mutex::new),
            Err(error) => {
                eprintln!(
                    "testbed: without /bin/sh ({error}), daemons are left behind if this process is killed"
                );
                None
            }
        }
    });
    if let Some(keeper) = &*KEEPER {
        // The keeper is needed only if this process dies; a failure to write to it is not an error.
        keeper.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes()).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;

    use super::*;
    use crate::Workdir;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    /// True if the process is alive, and not a zombie that waits for its parent.
    fn lives(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    async fn grandchild(process: &mut Process) -> String {
        process.wait_for_log("\n", Duration::from_secs(5)).await.expect("it prints a line");
        let pid = process.output().expect("a log").trim().to_owned();
        assert!(lives(&pid), "{pid:?} lives");
        pid
    }

    async fn wait_gone(pid: &str) {
        until("the end of a grandchild", Duration::from_secs(5), async || {
            Ok(if lives(pid) { Step::NotYet(format!("{pid} lives")) } else { Step::Done(()) })
        })
        .await
        .expect("nothing is left");
    }

    #[tokio::test]
    async fn dropping_ends_grandchildren() {
        let dir = Workdir::new("tb").expect("a directory");
        let mut process = Process::spawn("sh", &mut shell("sleep 60 & echo $!; wait"), &dir.join("log"))
            .expect("sh starts");
        let pid = grandchild(&mut process).await;
        drop(process);
        wait_gone(&pid).await;
    }

    #[tokio::test]
    async fn a_daemon_that_ends_early_says_what_it_said() {
        let dir = Workdir::new("tb").expect("a directory");
        let mut process = Process::spawn(
            "sh",
            &mut shell("sleep 60 & echo $!; echo no such option; exit 3"),
            &dir.join("log"),
        )
        .expect("sh starts");
        let error = process.wait_for_log("ready", Duration::from_secs(5)).await.expect_err("it never is");
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("no such option"), "{text}");
        let pid = process.output().expect("a log").lines().next().expect("a line").to_owned();
        wait_gone(&pid).await;
    }

    #[tokio::test]
    async fn a_log_is_read_from_the_run_that_is_asked() {
        let dir = Workdir::new("tb").expect("a directory");
        let log = dir.join("log");
        let mut first = Process::spawn("sh", &mut shell("echo first"), &log).expect("sh starts");
        first.wait_for_log("first", Duration::from_secs(5)).await.expect("it says so");
        let mut second = Process::spawn("sh", &mut shell("echo second; sleep 60"), &log).expect("sh starts");
        second.wait_for_log("second", Duration::from_secs(5)).await.expect("it says so");
        let error = second
            .wait_for_log("first", Duration::from_millis(100))
            .await
            .expect_err("another run said that");
        assert!(error.to_string().ends_with("last seen: …second"), "{error}");
        assert_eq!(second.terminate(Duration::from_secs(5)).await.expect("sleep heeds SIGTERM").code(), None);
    }

    /// Runs this test binary again as a process that starts a daemon and is then killed.
    #[tokio::test]
    async fn daemons_end_when_their_starter_is_killed() {
        const ROLE: &str = "TESTBED_TEST_VICTIM";
        if std::env::var_os(ROLE).is_some() {
            let dir = Workdir::new("tb").expect("a directory");
            let mut process = Process::spawn("sh", &mut shell("sleep 60 & echo $!; wait"), &dir.join("log"))
                .expect("sh starts");
            let pid = grandchild(&mut process).await;
            println!("\npid={pid} dir={}", dir.path().display());
            std::future::pending::<()>().await;
        }
        let mut victim = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "--nocapture", "process::tests::daemons_end_when_their_starter_is_killed"])
            .env(ROLE, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this binary starts");
        let lines = std::io::BufReader::new(victim.stdout.take().expect("piped")).lines();
        let line = lines
            .map_while(std::result::Result::ok)
            .find(|line| line.starts_with("pid="))
            .expect("it gets that far");
        let (pid, dir) = line.trim_start_matches("pid=").split_once(" dir=").expect("both");
        assert!(lives(pid));
        victim.kill().expect("it is ours");
        victim.wait().expect("it is ours");
        wait_gone(pid).await;
        std::fs::remove_dir_all(dir).expect("it is ours");
    }
}
