//! The processes of a measurement, which have its mark among their variables, and their use of the machine.

use std::fs;
use std::path::PathBuf;

/// The environment variable that marks the processes of one measurement, whatever they start.
pub(crate) const MARK: &str = "LNPLAY_BENCH";
/// Kernel ticks a second in `/proc`; the same on every Linux that we run on.
const TICKS: f64 = 100.0;

/// A process.
pub(crate) struct Process {
    path: PathBuf,
    /// Its environment variables, each as `NAME=value`.
    variables: Vec<u8>,
}

/// The processes with this mark.
pub(crate) fn marked(mark: &str) -> impl Iterator<Item = Process> {
    let wanted = format!("{MARK}={mark}");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let path = entry.path();
            let variables = fs::read(path.join("environ")).unwrap_or_default();
            Process { path, variables }
        })
        .filter(move |process| process.variables().any(|variable| variable == wanted.as_bytes()))
}

impl Process {
    /// Its environment variables.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &[u8]> {
        self.variables.split(|byte| *byte == 0)
    }

    /// The name of its executable.
    pub(crate) fn program(&self) -> String {
        let program = fs::read_link(self.path.join("exe")).unwrap_or_default();
        program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Seconds of processors, from `proc_pid_stat(5)`: fields 14 to 17, with the children that were waited for.
    pub(crate) fn cpu(&self) -> Option<f64> {
        let stat = fs::read_to_string(self.path.join("stat")).ok()?;
        let fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11).take(4);
        Some(fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS)
    }

    /// The proportional set size, in millions of bytes.
    pub(crate) fn memory(&self) -> Option<f64> {
        let rollup = fs::read_to_string(self.path.join("smaps_rollup")).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
        Some(kib * 1024.0 / 1e6)
    }
}
