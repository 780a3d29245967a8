//! Finds an instance's processes by a mark in their environment, which all descendants inherit.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The environment variable that marks a process as an instance's.
pub(crate) const MARK: &str = "LNPLAY_INSTANCE";

/// Polling interval for the end of processes. Each poll reads `/proc`, in about a millisecond.
const LOOK: Duration = Duration::from_millis(20);

/// Time-out for killed processes to disappear, which disk I/O in the kernel can delay.
const VANISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends all processes whose mark begins with `prefix`, with SIGTERM during the grace period and SIGKILL after it. Blocks.
pub(crate) fn end_all(prefix: &str, grace: Duration) {
    let begin = Instant::now();
    if !grace.is_zero() {
        signal(&marked(prefix), Signal::SIGTERM);
        while !marked(prefix).is_empty() && begin.elapsed() < grace {
            std::thread::sleep(LOOK);
        }
    }
    let begin = Instant::now();
    loop {
        // Repeated, because a process may have forked meanwhile.
        let left = marked(prefix);
        if left.is_empty() {
            return;
        }
        if begin.elapsed() > VANISH_TIMEOUT {
            tracing::error!(?left, prefix, "processes of an instance cannot be killed");
            return;
        }
        signal(&left, Signal::SIGKILL);
        std::thread::sleep(LOOK);
    }
}

/// The processes whose mark begins with `prefix`, except zombies, which have no environment.
pub(crate) fn marked(prefix: &str) -> Vec<Pid> {
    let mark = format!("{MARK}={prefix}");
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            has_mark(&entry.path(), mark.as_bytes()).then(|| Pid::from_raw(pid))
        })
        .collect()
}

fn has_mark(process: &Path, mark: &[u8]) -> bool {
    let environ = std::fs::read(process.join("environ")).unwrap_or_default();
    environ.split(|&b| b == 0).any(|variable| variable.starts_with(mark))
}

fn signal(processes: &[Pid], signal: Signal) {
    for &pid in processes {
        // It may have exited.
        kill(pid, signal).ok();
    }
}
