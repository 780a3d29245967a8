//! Environments on remotes: choose a remote, bring up, deploy, hand over, take down.
//!
//! Every step is idempotent and its inputs are in a [`lnplaylive::order::Placement`] that was stored
//! before: whoever resumes calls the same step again. "Could not ask" is never taken for "not there".
//! Nothing on a remote is touched that does not carry the key of the order it is touched for.

mod availability;
mod cloud_init;
mod error;
mod image;
mod instance;
pub mod keys;
mod placement;
mod project;
mod projects;
mod remote;
mod size;
mod space;
mod ssh;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use lnplaylive::environment::{EnvironmentSpec, NodeAccess, Ports};
use lnplaylive::order::{Leftover, Order, Placement};
use lnplaylive::progress::Progress;
use lnplaylive::settings::InstanceType;
use lnplaylive::{ConnectionString, Customisation, OrderId, ProjectName, Settings};

pub use availability::{Claims, MOST_COUNTED, Placed, Room};
pub use error::Error;
pub use placement::{Candidate, Choice, NoRoom, choose};
pub use project::Removal;
pub use projects::{Listing, Projects, Seen};
pub use remote::{Environment, Load, Members, Memory, RemoteReport};

use remote::Remote;

/// The port that nodes' WebSockets begin at inside an instance.
const LISTEN_FIRST: u16 = 9736;

/// The remotes, and what is done on them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Provisioner {
    remotes: Arc<[Remote]>,
    defaults: Defaults,
}

/// What all environments have in common.
#[derive(Clone, Debug)]
struct Defaults {
    connect_page: url::Url,
    block_time: u32,
}

impl Provisioner {
    /// Sets the remotes up; nothing is sent. Keys and certificates are in `state_dir`, which is made
    /// where it is missing. Fails on what will never work: a certificate or a token that is none.
    pub fn new(settings: &Settings, state_dir: &Path) -> Result<Self, Error> {
        if let Err(error) = ssh::remove_stale_keys() {
            tracing::warn!("SSH keys of an earlier run may be left in the temporary directory: {error}");
        }
        let call_timeout = Duration::from_secs(settings.provisioning.call_timeout_secs.into());
        let remotes: Result<Vec<_>, _> = settings
            .remotes
            .iter()
            .map(|remote| Remote::new(remote.clone(), &state_dir.join("remotes"), call_timeout))
            .collect();
        let defaults = Defaults {
            connect_page: settings.shop.connect_page.clone(),
            block_time: settings.provisioning.block_time_secs,
        };
        Ok(Self { remotes: remotes?.into(), defaults })
    }

    /// Whether there is a remote at all.
    pub fn has_remotes(&self) -> bool {
        !self.remotes.is_empty()
    }

    /// How each remote is: asked all at a time, each bounded in time. Enrols where that is still to be done.
    pub async fn survey(&self) -> Vec<RemoteReport> {
        join_all(self.remotes.iter().map(Remote::report)).await
    }

    /// The remotes' settings next to what they reported, for [`choose`].
    pub fn candidates<'a>(
        &'a self,
        reports: impl IntoIterator<Item = &'a RemoteReport>,
    ) -> Vec<Candidate<'a>> {
        let of = |report: &'a RemoteReport| {
            let settings = &self.remote(&report.name).ok()?.settings;
            Some(Candidate { settings, report })
        };
        reports.into_iter().filter_map(of).collect()
    }

    fn remote(&self, name: &str) -> Result<&Remote, Error> {
        self.remotes
            .iter()
            .find(|r| r.settings.name == name)
            .ok_or_else(|| Error::NoSuchRemote { remote: name.to_owned() })
    }

    /// Makes the project and the instance of a placement and starts it, or finishes that.
    pub async fn bring_up(&self, order: &Order, placement: &Placement) -> Result<(), Error> {
        let remote = self.remote(&placement.remote)?;
        let client = &remote.client().await?;
        // First, so that nothing is made where there is no image.
        remote.image.bring(client, &remote.settings).await?;
        project::create(client, order.id, placement).await?;
        let node_count = order.terms.node_count;
        match instance::create(client, &remote.settings, node_count, placement).await {
            // Perhaps the image that was there before.
            Err(Error::Lxd(error)) if error.is_not_found() => {
                remote.image.is_gone();
                remote.image.bring(client, &remote.settings).await?;
                instance::create(client, &remote.settings, node_count, placement).await?;
            }
            other => other?,
        }
        instance::start(client, placement).await
    }

    /// Brings the network in the instance up, or finishes that, and returns its connection strings.
    pub async fn deploy(
        &self,
        order: &Order,
        placement: &Placement,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<Vec<ConnectionString>, Error> {
        let remote = self.remote(&placement.remote)?;
        let spec = self.spec(order, placement, remote);
        let strings = ssh::lnplay_up(&remote.settings, placement, &spec, progress).await?;
        if strings.len() != order.terms.node_count as usize {
            let what =
                format!("it gave {} connection strings for {} nodes", strings.len(), order.terms.node_count);
            return Err(Error::lnplay(placement, what));
        }
        Ok(strings)
    }

    fn spec(&self, order: &Order, placement: &Placement, remote: &Remote) -> EnvironmentSpec {
        let environment = placement.project.environment();
        let Customisation { coin_distribution, channel_setup, names, node_access, .. } =
            &order.terms.customisation;
        // The settings see to it that full access is sold for virtual machines only; they may have changed since.
        let node_access = match remote.settings.instance_type {
            InstanceType::VirtualMachine => *node_access,
            InstanceType::Container => NodeAccess::default(),
        };
        EnvironmentSpec {
            seed: u64::from(u32::from_be_bytes(order.id.short())),
            environment,
            node_count: order.terms.node_count,
            block_time: self.defaults.block_time,
            coin_distribution: *coin_distribution,
            channel_setup: *channel_setup,
            names: names.iter().map(|name| name.as_str().to_owned()).collect(),
            colors: Vec::new(),
            ports: Ports { listen_first: LISTEN_FIRST, public_first: placement.ports.first_node() },
            public_url_template: remote.settings.public_url_template(),
            connect_page: self.defaults.connect_page.clone(),
            node_access,
        }
    }

    /// Marks the project as handed over and as ending no earlier than `expires_at`.
    pub async fn hand_over(
        &self,
        order: OrderId,
        placement: &Placement,
        expires_at: Timestamp,
    ) -> Result<(), Error> {
        let client = self.remote(&placement.remote)?.client().await?;
        project::mark_handed_over(&client, order, placement, expires_at).await
    }

    /// Moves the end of an environment that was handed over: the project's key; its name stays.
    pub async fn extend(
        &self,
        order: OrderId,
        remote: &str,
        project: ProjectName,
        expires_at: Timestamp,
    ) -> Result<(), Error> {
        let client = self.remote(remote)?.client().await?;
        project::move_end(&client, order, project, expires_at).await
    }

    /// Removes whatever there is of a placement that was given up. Succeeds on what is gone, and on a
    /// project of that name which is not this order's: then there is nothing of ours.
    pub async fn take_down(&self, order: OrderId, leftover: &Leftover) -> Result<(), Error> {
        let remote = self.remote(&leftover.remote)?;
        let client = remote.client().await?;
        project::remove(&client, order, leftover).await
    }
}
