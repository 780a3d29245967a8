//! An instance's processes: found by a mark in their environment, which children inherit however they detach themselves.

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

/// How often to look whether processes have ended; a look reads `/proc` once, about a millisecond.
const LOOK: Duration = Duration::from_millis(20);

/// How long killed processes may take to vanish before they are reported: they can be held up in the kernel by disk I/O.
const VANISH: Duration = Duration::from_secs(10);

/// Ends all processes whose mark begins with `prefix`: asked to (`SIGTERM`) if there is grace, then made to. Blocks.
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
        // Again and again: one that was forking while we looked has left a child.
        let left = marked(prefix);
        if left.is_empty() {
            return;
        }
        if begin.elapsed() > VANISH {
            tracing::error!(?left, prefix, "processes of an instance cannot be killed");
            return;
        }
        signal(&left, Signal::SIGKILL);
        std::thread::sleep(LOOK);
    }
}

/// The processes whose mark begins with `prefix`. Zombies have no environment and are left out.
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
        // It may have ended since.
        kill(pid, signal).ok();
    }
}
