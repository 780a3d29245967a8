//! Values that must not be printed, and the files that contain them.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A secret. Its `Debug` is redacted and it has no `Display`, so that it does not get into a log by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Reads a file with a secret of at most 64 KiB. White space around it is removed.
pub fn read_secret(path: &Path) -> std::io::Result<Secret> {
    const LIMIT: u64 = 64 * 1024;
    let mut text = String::new();
    std::fs::File::open(path)?.take(LIMIT + 1).read_to_string(&mut text)?;
    let invalid = |what: &str| Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned()));
    if text.len() as u64 > LIMIT {
        return invalid("the file is larger than 64 KiB");
    }
    match text.trim() {
        "" => invalid("the file is empty"),
        secret => Ok(Secret::new(secret)),
    }
}
