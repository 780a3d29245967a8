//! Versions of the formats that one release writes and another may read: order records, environment
//! specs, the output of `lnplay up`, and what goes to `lnplay desk` and comes back.
//!
//! A document names its version in the field `version`; one without is of version 1. A program reads its own version and
//! older ones, and refuses newer ones with both versions in the sentence. Add to a format what older programs must not
//! ignore, and raise its version; keep a fixture of each version in `tests/versions.rs`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::desk::{Action, Answer};
use crate::environment::EnvironmentSpec;
use crate::order::Order;
use crate::progress::Line;

/// The field that has the version.
const FIELD: &str = "version";

/// A format with a version.
pub trait Versioned: Serialize + DeserializeOwned {
    /// The format's name, as part of a sentence.
    const NAME: &'static str;
    /// The version that this program writes, and the newest that it reads. At least 1.
    const VERSION: u32;
}

impl Versioned for Order {
    const NAME: &'static str = "order record";
    const VERSION: u32 = 3;
}

impl Versioned for EnvironmentSpec {
    const NAME: &'static str = "environment spec";
    const VERSION: u32 = 1;
}

impl Versioned for Line {
    const NAME: &'static str = "output of lnplay";
    const VERSION: u32 = 1;
}

impl Versioned for Action {
    const NAME: &'static str = "desk action";
    const VERSION: u32 = 1;
}

impl Versioned for Answer {
    const NAME: &'static str = "answer of lnplay desk";
    const VERSION: u32 = 1;
}

/// A document that cannot be read.
#[derive(Debug, Error)]
pub enum VersionError {
    /// A newer program wrote it.
    #[error(
        "the {name} has version {found}, and this program reads versions up to {known}: it was written by a newer release; \
         install that again"
    )]
    Newer {
        /// The format.
        name: &'static str,
        /// The document's version.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// It is not a document of this format.
    #[error("the {name} cannot be read: {source}")]
    Malformed {
        /// The format.
        name: &'static str,
        /// The error and its position.
        source: serde_json::Error,
    },
}

/// The document's version, whatever else is in it.
#[derive(Deserialize)]
struct Header {
    version: Option<u32>,
}

/// Reads a document of this version or an older one.
pub fn read<T: Versioned>(json: &[u8]) -> Result<T, VersionError> {
    let malformed = |source| VersionError::Malformed { name: T::NAME, source };
    let Header { version } = serde_json::from_slice(json).map_err(malformed)?;
    if let Some(found) = version
        && found > T::VERSION
    {
        return Err(VersionError::Newer { name: T::NAME, found, known: T::VERSION });
    }
    if version.is_none() {
        // Keeps the position in errors.
        return serde_json::from_slice(json).map_err(malformed);
    }
    let mut document: serde_json::Map<_, _> = serde_json::from_slice(json).map_err(malformed)?;
    document.remove(FIELD);
    serde_json::from_value(document.into()).map_err(malformed)
}

/// Writes a document. Version 1 is left out, so that programs from before there were versions read it.
///
/// # Panics
///
/// If the document is not a JSON object.
pub fn write<T: Versioned>(document: &T) -> String {
    if T::VERSION == 1 {
        return serde_json::to_string(document).expect("plain data");
    }
    let mut json = serde_json::to_value(document).expect("plain data");
    json[FIELD] = T::VERSION.into();
    json.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A format that has changed twice.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Third {
        #[serde(default)]
        added: u8,
    }

    impl Versioned for Third {
        const NAME: &'static str = "third";
        const VERSION: u32 = 3;
    }

    #[test]
    fn own_and_older_versions_are_read_and_newer_ones_are_not() {
        assert_eq!(write(&Third { added: 7 }), r#"{"added":7,"version":3}"#);
        for (json, added) in [(r#"{"added":7,"version":3}"#, 7), (r#"{"version":2}"#, 0), ("{}", 0)] {
            assert_eq!(read::<Third>(json.as_bytes()).expect(json), Third { added });
        }
        let error = read::<Third>(br#"{"new": [], "version": 4}"#).expect_err("newer").to_string();
        assert!(error.contains("the third has version 4") && error.contains("up to 3"), "{error}");
        let error = read::<Third>(br#"{"new": []}"#).expect_err("malformed").to_string();
        assert!(error.contains("line 1 column"), "{error}");
    }
}
