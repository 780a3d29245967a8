//! Helpers of the harness's own tests.

use std::path::Path;
use std::time::Duration;

use testbed::{Step, until};

/// Waits until no process uses a directory.
pub(crate) async fn nothing_runs_in(dir: &Path) {
    until("all daemons to be gone", Duration::from_secs(5), async || {
        let left = processes_in(dir);
        Ok(if left.is_empty() { Step::Done(()) } else { Step::NotYet(left.join("\n")) })
    })
    .await
    .expect("nothing is left");
}

/// Command lines of other live processes that name a directory or work in it.
pub(crate) fn processes_in(dir: &Path) -> Vec<String> {
    let name = dir.to_str().expect("temporary directories have plain names");
    let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = pids.filter(|pid| pid.file_name() != *std::process::id().to_string()).filter_map(|pid| {
        // Zombies have an empty command line.
        let line =
            String::from_utf8_lossy(&std::fs::read(pid.path().join("cmdline")).ok()?).replace('\0', " ");
        let cwd = std::fs::read_link(pid.path().join("cwd")).unwrap_or_default();
        (!line.is_empty() && (line.contains(name) || cwd.starts_with(dir))).then_some(line)
    });
    lines.collect()
}
