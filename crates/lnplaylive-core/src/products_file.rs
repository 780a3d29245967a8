//! The products as the web shop's server serves them, so that visitors who only look do not call the node.
//!
//! The plugin writes them to a file, and the server reads the file whenever it changes. Neither needs the other to run. The
//! file is the answer of `lnplaylive-products`, a JSON object, with one more key: `as_of`, the time at which it was true (RFC 3339).
//! The plugin writes it again after [`REWRITE_SECS`] even if nothing has changed, so that an old one tells that the plugin is
//! not running.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

/// The largest file that is read, in bytes: several hundred products.
pub const MAX_BYTES: u64 = 256 << 10;
/// Seconds after which the file is written again although nothing has changed.
pub const REWRITE_SECS: u32 = 20;
/// Age from which a file is no longer believed.
pub const MAX_AGE: SignedDuration = SignedDuration::from_secs(60);
/// The file can be read by its owner and by the group of the web shop's server.
const MODE: u32 = 0o640;

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductsFile {
    /// Time at which it was true.
    pub as_of: Timestamp,
    /// The answer of `lnplaylive-products`.
    #[serde(flatten)]
    pub answer: Map<String, Value>,
}

/// An unusable file.
#[derive(Debug, Error)]
pub enum ProductsFileError {
    /// It is larger than [`MAX_BYTES`].
    #[error("the products file has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// It is not in our format.
    #[error("the products file cannot be parsed")]
    Garbled(#[source] serde_json::Error),
    /// It cannot be read or written.
    #[error("{doing} the products file {path}")]
    File {
        /// The attempt, as a participle.
        doing: &'static str,
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
}

impl ProductsFile {
    /// True if it is too old at `now` to be believed.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.duration_since(self.as_of) > MAX_AGE
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ProductsFileError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
            .map_err(|source| file_error("reading", path, source))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(ProductsFileError::TooLarge);
        }
        serde_json::from_str(&text).map_err(ProductsFileError::Garbled)
    }

    /// Replaces a file atomically. Its owner and group can read it.
    pub fn write(&self, path: &Path) -> Result<(), ProductsFileError> {
        let json = serde_json::to_vec(self).map_err(ProductsFileError::Garbled)?;
        if json.len() as u64 > MAX_BYTES {
            return Err(ProductsFileError::TooLarge);
        }
        atomic_file::replace(path, &json, MODE).map_err(|source| file_error("writing", path, source))
    }
}

fn file_error(doing: &'static str, path: &Path, source: io::Error) -> ProductsFileError {
    ProductsFileError::File { doing, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn is_the_answer_with_its_time_and_grows_old() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("products.json");
        let as_of = Timestamp::from_second(1_700_000_000).expect("in range");
        let answer = json!({"products": [], "min_hours": 1}).as_object().expect("an object").clone();
        let written = ProductsFile { as_of, answer };
        written.write(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text, r#"{"as_of":"2023-11-14T22:13:20Z","min_hours":1,"products":[]}"#);
        assert_eq!(ProductsFile::read(&path).expect("the same"), written);
        assert!(!written.is_stale(as_of + MAX_AGE) && written.is_stale(as_of + MAX_AGE.mul_f64(1.1)));

        std::fs::write(&path, "[]").expect("written");
        assert!(matches!(ProductsFile::read(&path), Err(ProductsFileError::Garbled(_))));
        std::fs::write(&path, " ".repeat(usize::try_from(MAX_BYTES).expect("small") + 1)).expect("written");
        assert!(matches!(ProductsFile::read(&path), Err(ProductsFileError::TooLarge)));
    }
}
