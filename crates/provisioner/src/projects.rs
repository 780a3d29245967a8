//! The projects on one remote, whoever made them: listed, and removed where the caller says so.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use lnplaylive_core::settings;

use crate::remote::Remote;
use crate::{Error, Removal, project};

/// A remote, for those who clear up on it.
#[derive(Debug)]
pub struct Projects {
    remote: Remote,
}

/// The projects of a remote.
#[derive(Debug, Clone)]
pub struct Listing {
    /// All projects that we may see, ours or not.
    pub projects: Vec<Seen>,
    /// The lead of the remote's clock over this machine's; `None` if it does not tell.
    pub clock_ahead: Option<SignedDuration>,
}

/// A project as a remote reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its configuration.
    pub config: BTreeMap<String, String>,
}

impl Projects {
    /// Sets the remote up; nothing is sent. Keys and certificates are in `state_dir`, as for [`crate::Provisioner::new`], which may
    /// use the same one. One call of the API takes at most `call_timeout`.
    pub fn new(remote: &settings::Remote, state_dir: &Path, call_timeout: Duration) -> Result<Self, Error> {
        let remote =
            Remote::new(remote.clone(), &state_dir.join("remotes"), call_timeout, None, Arc::default())?;
        Ok(Self { remote })
    }

    /// All projects. One call, and one to connect; enrols where that is still to be done.
    pub async fn list(&self) -> Result<Listing, Error> {
        let client = self.remote.client().await?;
        let projects = client.projects().await?;
        let projects = projects.into_iter().map(|p| Seen { name: p.name, config: p.config }).collect();
        Ok(Listing { projects, clock_ahead: client.server_clock_ahead() })
    }

    /// Removes a project and all that is in it, if `is_due` says so of what the remote says of it, and of its clock (as in
    /// [`Listing::clock_ahead`]), right before.
    ///
    /// May be repeated at any time, and be done by several at a time. Stopping an instance, by force, takes at most
    /// `operation_time`, and so does deleting it. An error leaves what was not removed yet, always the project and its keys.
    pub async fn remove(
        &self,
        project: &str,
        operation_time: Duration,
        is_due: impl Fn(&Seen, Option<SignedDuration>) -> bool,
    ) -> Result<Removal, Error> {
        let client = self.remote.client().await?;
        project::remove_if(&client, project, operation_time, |p| {
            let seen = Seen { name: p.name.clone(), config: p.config.clone() };
            is_due(&seen, client.server_clock_ahead())
        })
        .await
    }
}
