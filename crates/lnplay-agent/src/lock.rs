//! Lock files that tell whether a process lives: it holds the file locked until it ends, and the file contains its pid.
//!
//! The kernel releases the lock when the process is gone, however it ended, so no lock is ever stale, and a pid is only
//! trusted while its process holds the lock.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::group;

/// The time that a process may hold its lock after SIGKILL: the kernel frees its memory first.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Writes our pid over the one that is there. It has a fixed width, so that it takes no new block of a full disk.
fn write_pid(mut file: &File) -> io::Result<()> {
    write!(file, "{:<10}", std::process::id())
}

/// Takes the lock for this process, without waiting; `None` if another process has it. It is held until the file is
/// closed.
pub fn try_acquire(path: &Path) -> io::Result<Option<File>> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => {
            write_pid(&file)?;
            Ok(Some(file))
        }
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Takes the lock for this process as soon as its holder is gone. The returned file is read-only, since it is inherited by
/// a program that must not be able to name another pid.
pub fn acquire(path: &Path) -> io::Result<File> {
    let writable = open(path)?;
    let file = File::open(path)?;
    file.lock()?;
    write_pid(&writable)?;
    Ok(file)
}

/// True if a process holds the lock.
fn is_held(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        // Shared, so that two callers do not take each other for the holder.
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        },
    }
}

/// The pid of the lock's holder; `None` if there is none.
pub fn holder(path: &Path) -> io::Result<Option<Pid>> {
    if !is_held(path)? {
        return Ok(None);
    }
    let mut text = String::new();
    let mut file = File::open(path)?;
    file.rewind()?;
    file.take(16).read_to_string(&mut text)?;
    Ok(text.trim().parse().ok().filter(|pid| *pid > 1).map(Pid::from_raw))
}

async fn free_within(path: &Path, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    while is_held(path)? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(POLL).await;
    }
    Ok(true)
}

/// Ends the process that holds the lock, and then its group: SIGTERM, and SIGKILL after `grace`. Succeeds if there is
/// no holder. Returns whether it had to be killed.
pub async fn evict(path: &Path, grace: Duration) -> anyhow::Result<bool> {
    for (signal, limit) in [(Signal::SIGTERM, grace), (Signal::SIGKILL, KILL_TIMEOUT)] {
        let Some(pid) = holder(path).with_context(|| format!("looking at {}", path.display()))? else {
            // The holder may not have written its pid yet.
            return if free_within(path, grace).await? {
                Ok(false)
            } else {
                bail!("{} names no process", path.display())
            };
        };
        match kill(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => bail!("cannot end process {pid} that holds {}: {error}", path.display()),
        }
        if free_within(path, limit).await? {
            group::clear(pid).await;
            return Ok(signal == Signal::SIGKILL);
        }
    }
    bail!("the process that holds {} did not end on SIGKILL", path.display())
}
