//! The culler's settings: the remotes, the directory of their keys, and its own table.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use figment::Figment;
use serde::{Deserialize, Serialize};

use super::source::{self, SettingsError, range, wrong};
use super::{Remote, remote};
use crate::ids::ShopId;

/// The culler's settings, from the same file as the shop's. Tables of other programs are skipped.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct CullerSettings {
    /// The servers that environments are on.
    #[serde(default)]
    pub remotes: Vec<Remote>,
    /// Another remote, for configuration by environment variables.
    #[serde(default)]
    remote: Option<Remote>,
    /// Directory of the client key pair and the remotes' certificates: the shop's, or one of the culler's own.
    #[serde(default)]
    state_dir: Option<PathBuf>,
    /// The shop's table.
    #[serde(default)]
    shop: Shop,
    /// The culler's own table.
    #[serde(default)]
    pub culler: Culler,
}

/// The key of the shop's table that the culler needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Shop {
    #[serde(default)]
    id: Option<ShopId>,
}

/// The culler's own table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Culler {
    /// Minutes between the end of an environment and its removal.
    pub grace_mins: u32,
    /// Projects of a remote that are removed at the same time.
    pub concurrency: u32,
    /// Time-out of stopping an instance by force, and of deleting it, in seconds.
    pub operation_timeout_secs: u32,
    /// Time-out of one call of a remote's API, in seconds; operations have time-outs of their own.
    pub call_timeout_secs: u32,
    /// Enrols with a remote's token if the remote does not know the client key yet. Set it to false if the culler works with a
    /// copy of the shop's keys, because the token is the shop's to use.
    pub enrol: bool,
    /// Time limit of a pass, in minutes. The next pass continues with the rest.
    pub max_mins: u32,
    /// File for metrics of the last pass, `….prom` in the directory of the node exporter's textfile collector. Without one,
    /// none are written.
    pub metrics_file: Option<PathBuf>,
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
            metrics_file: None,
        }
    }
}

impl CullerSettings {
    /// Reads the settings: defaults, then `file` if one is given, then the environment. The files that the settings name
    /// need not exist.
    pub fn read(file: Option<&Path>) -> Result<Self, SettingsError> {
        let mut settings: Self = source::read(Figment::new(), file)?;
        remote::complete(&mut settings.remotes, settings.remote.take())?;
        settings.culler.validate()?;
        Ok(settings)
    }

    /// The shop's id, if the settings have it; otherwise it is in the directory of the keys.
    pub fn shop_id(&self) -> Option<&ShopId> {
        self.shop.id.as_ref()
    }

    /// Directory of the keys. It has no default, because the shop's default is in its node's directory.
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
        range("culler.max_mins", self.max_mins, 1..=1440)?;
        if let Some(path) = &self.metrics_file
            && path.extension() != Some(OsStr::new("prom"))
        {
            let why = format!("{} must end in .prom, or the node exporter skips it", path.display());
            return Err(wrong("culler.metrics_file", why));
        }
        Ok(())
    }
}
