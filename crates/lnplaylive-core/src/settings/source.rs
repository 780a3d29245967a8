//! Where settings come from, how they are read, and what is said of a wrong one.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The environment variable that names the settings file.
pub const CONFIG_VARIABLE: &str = "LNPLAYLIVE_CONFIG";

/// Why the settings cannot be used. Each names the key.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// A key that is missing, unknown or of the wrong type, or a file that is not TOML.
    #[error("settings: {0}")]
    Read(String),
    /// The file itself.
    #[error("settings: cannot read the file {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value that makes no sense.
    #[error("settings: {key}: {reason}")]
    Value {
        /// Which key.
        key: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
}

/// Says of the value of `key` what is wrong with it and what is allowed.
pub fn wrong(key: impl Into<String>, reason: impl Into<String>) -> SettingsError {
    SettingsError::Value { key: key.into(), reason: reason.into() }
}

/// Names each thing that figment found, with its key and where it came from.
fn describe(error: figment::Error) -> SettingsError {
    let mut text = String::new();
    for one in error {
        let separator = if text.is_empty() { "" } else { "; " };
        let mut path = one.path.join(".");
        if path.is_empty() {
            path = "settings".into();
        }
        let source = one.metadata.as_ref().map_or_else(String::new, |m| match &m.source {
            Some(source) => format!(" (in {source})"),
            None => format!(" (in {})", m.name),
        });
        let kind = one.kind;
        write!(text, "{separator}{path}: {kind}{source}").expect("a string takes all");
    }
    SettingsError::Read(text)
}

/// Reads what is set: `defaults`, then the file, then the environment. Both have tables for several programs, so `T` says
/// whether it refuses keys that it does not know.
pub fn read<T: DeserializeOwned>(defaults: Figment, file: Option<&Path>) -> Result<T, SettingsError> {
    let mut figment = defaults;
    if let Some(path) = file {
        // Opened here as well: figment takes a file that is not there for an empty one.
        std::fs::File::open(path).map_err(|source| SettingsError::File { path: path.to_owned(), source })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    // The one that names the file is no setting itself.
    let environment =
        Env::prefixed("LNPLAYLIVE_").filter(|key| !key.as_str().eq_ignore_ascii_case("config")).split("__");
    figment.merge(environment).extract().map_err(describe)
}

/// Refuses a `value` that is not in the range.
pub fn range(key: &str, value: u32, allowed: RangeInclusive<u32>) -> Result<(), SettingsError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (least, most) = allowed.into_inner();
    Err(wrong(key, format!("is {value}; it must be from {least} to {most}")))
}
