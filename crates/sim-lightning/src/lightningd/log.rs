//! The log, in lightningd's format: time, level padded to seven characters, source, text.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Mutex;

/// The level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Io,
    Trace,
    Debug,
    Info,
    Unusual,
    Broken,
}

impl Level {
    /// Parses the names of `--log-level` and of plugins' notifications.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "io" => Self::Io,
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" | "unusual" => Self::Unusual,
            "error" | "broken" => Self::Broken,
            _ => return None,
        })
    }

    fn label(self) -> &'static str {
        match self {
            Self::Io => "IO     ",
            Self::Trace => "TRACE  ",
            Self::Debug => "DEBUG  ",
            Self::Info => "INFO   ",
            Self::Unusual => "UNUSUAL",
            Self::Broken => "**BROKEN**",
        }
    }
}

/// The log's destination: files, or standard output.
pub(super) struct Log {
    least: Level,
    outputs: Mutex<Vec<Box<dyn io::Write + Send>>>,
}

impl Log {
    /// Opens the log. Standard output is used if `files` is empty or contains `-`.
    pub(super) fn open(least: Level, files: &[PathBuf]) -> io::Result<Self> {
        let mut outputs: Vec<Box<dyn io::Write + Send>> = Vec::new();
        for path in files {
            if path.as_os_str() == "-" {
                outputs.push(Box::new(io::stdout()));
            } else {
                outputs.push(Box::new(File::options().append(true).create(true).open(path)?));
            }
        }
        if outputs.is_empty() {
            outputs.push(Box::new(io::stdout()));
        }
        Ok(Self { least, outputs: Mutex::new(outputs) })
    }

    pub(super) fn line(&self, level: Level, who: &str, text: &str) {
        if level < self.least {
            return;
        }
        let line = format!("{:.3} {} {who}: {text}\n", jiff::Timestamp::now(), level.label());
        for output in self.outputs.lock().expect("writing does not panic").iter_mut() {
            // There is nowhere to report a failure.
            drop(output.write_all(line.as_bytes()).and_then(|()| output.flush()));
        }
    }

    pub(super) fn debug(&self, text: &str) {
        self.line(Level::Debug, "lightningd", text);
    }

    pub(super) fn info(&self, text: &str) {
        self.line(Level::Info, "lightningd", text);
    }

    pub(super) fn unusual(&self, text: &str) {
        self.line(Level::Unusual, "lightningd", text);
    }

    pub(super) fn broken(&self, text: &str) {
        self.line(Level::Broken, "lightningd", text);
    }
}
