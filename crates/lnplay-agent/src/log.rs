//! The logs of the supervisor and its children.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

/// The bytes at the end of a log that go into an error.
const TAIL: u64 = 1500;

/// The end of a log; empty if it cannot be read.
pub fn tail(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_default()
}

/// Opens a log to append to, readable by its owner only.
pub fn open(path: &Path) -> anyhow::Result<File> {
    let opened = File::options().append(true).create(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot write the log {}", path.display()))
}
