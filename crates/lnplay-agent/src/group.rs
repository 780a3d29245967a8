//! Process groups: a daemon and the processes that it started.
//!
//! Each daemon leads a group of its own. When it ends, its helpers (plugins, `bitcoin-cli` calls, a connection daemon that
//! still holds the ports) may live on for a moment. [`clear`] kills them, so that a restart finds the ports free.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, setpgid};
use tokio::time::{Instant, sleep};

/// Longer than the kernel takes to end a killed process that is not stuck in a disk.
const LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

/// Makes this process the leader of a new group.
pub fn lead() -> nix::Result<()> {
    setpgid(Pid::from_raw(0), Pid::from_raw(0))
}

/// Kills the rest of a group whose leader has ended, and waits until it is gone.
pub async fn clear(leader: Pid) {
    let deadline = Instant::now() + LIMIT;
    while killpg(leader, Signal::SIGKILL) != Err(Errno::ESRCH) && lives(leader) && Instant::now() < deadline {
        sleep(POLL).await;
    }
}

/// True if a process of the group is alive. Zombies do not count: they can still be signalled, and stay until the
/// machine's first process reaps them.
fn lives(group: Pid) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    let member = |stat: String| {
        // proc_pid_stat(5): the name, in parentheses, may contain anything; then state, parent, group.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let group_of = fields.nth(1)?.parse::<i32>().ok()?;
        Some(group_of == group.as_raw() && !matches!(state, "Z" | "X"))
    };
    processes.flatten().any(|entry| {
        std::fs::read_to_string(entry.path().join("stat")).ok().and_then(member).unwrap_or(false)
    })
}
