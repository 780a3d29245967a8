//! A value that must not be printed, and files that have one.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A secret: its `Debug` is redacted and it has no `Display`, so that it gets into a log only on purpose.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for handing to the one who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A secret file's content without the white space at its ends. At most 64 KiB.
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
