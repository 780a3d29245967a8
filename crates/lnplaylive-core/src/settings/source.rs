//! Reads settings from their sources, and describes wrong ones.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The environment variable that names the settings file.
pub const CONFIG_VARIABLE: &str = "LNPLAYLIVE_CONFIG";

/// Settings that cannot be used. Each error names the key.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// A key is missing, unknown or of the wrong type, or the file is not TOML.
    #[error("settings: {0}")]
    Read(String),
    /// The settings file cannot be read.
    #[error("settings: cannot read the file {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A value is not allowed.
    #[error("settings: {key}: {reason}")]
    Value {
        /// Its key.
        key: String,
        /// The problem, and what is allowed.
        reason: String,
    },
}

/// Rejects the value of `key`; `reason` says what is wrong and what is allowed.
pub fn wrong(key: impl Into<String>, reason: impl Into<String>) -> SettingsError {
    SettingsError::Value { key: key.into(), reason: reason.into() }
}

/// Lists every problem that figment found, with its key and source.
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

/// Reads `defaults`, then the file, then the environment; later sources override earlier ones. File and environment have
/// tables for several programs, so `T` decides whether unknown keys are refused.
pub fn read<T: DeserializeOwned>(defaults: Figment, file: Option<&Path>) -> Result<T, SettingsError> {
    let mut figment = defaults;
    if let Some(path) = file {
        // Opened here as well, because figment reads a missing file as an empty one.
        std::fs::File::open(path).map_err(|source| SettingsError::File { path: path.to_owned(), source })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    // The variable that names the file is not a setting.
    let environment =
        Env::prefixed("LNPLAYLIVE_").filter(|key| !key.as_str().eq_ignore_ascii_case("config")).split("__");
    figment.merge(environment).extract().map_err(describe)
}

/// Checks that an address is one of this machine's own: what is served there has no password.
pub fn loopback(key: &str, address: SocketAddr) -> Result<(), SettingsError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(wrong(
        key,
        format!("{address} is not on loopback, and what is served there has no password; use 127.0.0.1"),
    ))
}

/// Rejects a `value` outside the range.
pub fn range(key: &str, value: u32, allowed: RangeInclusive<u32>) -> Result<(), SettingsError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (least, most) = allowed.into_inner();
    Err(wrong(key, format!("is {value}; it must be from {least} to {most}")))
}
