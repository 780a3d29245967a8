//! What the culler reads of the settings: the remotes, where their keys are, and its own table.

use std::path::{Path, PathBuf};

use figment::Figment;
use serde::{Deserialize, Serialize};

use super::source::{self, SettingsError, range, wrong};
use super::{Remote, remote};

/// The culler's settings. Of the same file as the shop's; the tables that it does not know are other programs'.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct CullerSettings {
    /// Where environments are.
    #[serde(default)]
    pub remotes: Vec<Remote>,
    /// One more remote, for settings by environment variables.
    #[serde(default)]
    remote: Option<Remote>,
    /// Where the client key pair and the remotes' certificates are kept: the shop's directory, or one of the culler's own.
    #[serde(default)]
    state_dir: Option<PathBuf>,
    /// Its own table.
    #[serde(default)]
    pub culler: Culler,
}

/// How to cull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Culler {
    /// Minutes between the end of an environment and its removal.
    pub grace_mins: u32,
    /// How many projects of a remote are removed at a time.
    pub concurrency: u32,
    /// Seconds that stopping an instance by force may take, and as many for deleting it.
    pub operation_timeout_secs: u32,
    /// Seconds that one call of a remote's API may take; operations have their own time.
    pub call_timeout_secs: u32,
    /// Whether it may use a remote's token where the remote does not know the client key yet. Not where the culler works with
    /// a copy of the shop's keys: the token is for the shop.
    pub enrol: bool,
    /// Minutes that a pass may take. What is not removed by then is left to the next one.
    pub max_mins: u32,
}

impl Default for Culler {
    fn default() -> Self {
        Self {
            grace_mins: 10,
            concurrency: 4,
            operation_timeout_secs: 120,
            call_timeout_secs: 30,
            enrol: true,
            max_mins: 45,
        }
    }
}

impl CullerSettings {
    /// Reads the settings: defaults, then `file` where one is named, then the environment. The files that they name need
    /// not be there.
    pub fn read(file: Option<&Path>) -> Result<Self, SettingsError> {
        let mut settings: Self = source::read(Figment::new(), file)?;
        remote::complete(&mut settings.remotes, settings.remote.take())?;
        settings.culler.validate()?;
        Ok(settings)
    }

    /// Where the keys are. Nothing but a setting can say: the shop's default is in its node's directory.
    pub fn state_dir(&self) -> Result<&Path, SettingsError> {
        self.state_dir.as_deref().ok_or_else(|| {
            wrong(
                "state_dir",
                "is missing; name the directory that keeps the remotes' client keys and certificates",
            )
        })
    }
}

impl Culler {
    fn validate(&self) -> Result<(), SettingsError> {
        range("culler.grace_mins", self.grace_mins, 0..=525_600)?;
        range("culler.concurrency", self.concurrency, 1..=64)?;
        range("culler.operation_timeout_secs", self.operation_timeout_secs, 1..=600)?;
        range("culler.call_timeout_secs", self.call_timeout_secs, 1..=600)?;
        range("culler.max_mins", self.max_mins, 1..=1440)
    }
}
