//! Process groups: a daemon and whatever it started.
//!
//! Each daemon leads a group of its own. When it has ended, its helpers (plugins, `bitcoin-cli` calls, a connection
//! daemon that still has the ports) may be about to notice; nobody waits for them but us.

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

/// Kills what is left of the group whose leader has ended, and waits until it is gone.
pub async fn clear(leader: Pid) {
    let deadline = Instant::now() + LIMIT;
    while killpg(leader, Signal::SIGKILL) != Err(Errno::ESRCH) && Instant::now() < deadline {
        sleep(POLL).await;
    }
}
