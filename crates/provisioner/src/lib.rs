//! Environments on remotes: choose a remote, bring up, deploy, hand over, take down.
//!
//! Every step is idempotent and its inputs are in a [`lnplaylive_core::order::Placement`] that was stored
//! before: whoever resumes calls the same step again. "Could not ask" is never taken for "not there".
//! Nothing on a remote is touched that does not carry the key of the order it is touched for.

mod availability;
mod check;
mod cloud_init;
mod desk;
mod devices;
mod digest;
mod error;
mod image;
mod instance;
pub mod keys;
mod load;
mod members;
mod old_images;
mod placement;
mod prepare;
mod probe;
mod profiles;
mod project;
mod projects;
mod remote;
pub mod shop;
mod size;
mod space;
mod ssh;
mod trial;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use lnplaylive_core::environment::{EnvironmentSpec, NodeAccess, Ports};
use lnplaylive_core::order::{Leftover, Order, Placement};
use lnplaylive_core::progress::Progress;
use lnplaylive_core::settings::{self, InstanceType};
use lnplaylive_core::tags::Stage;
use lnplaylive_core::{ConnectionString, Customisation, OrderId, ProjectName, Settings};
use lxd_client::Client;

pub use availability::{Claims, MOST_COUNTED, Placed, Room};
pub use check::Findings;
pub use desk::DeskError;
pub use error::Error;
pub use instance::name as instance_name;
pub use load::{Environment, Load, Machine, Malformed, Member, Memory, RemoteReport, Storage};
pub use placement::{Avoid, Candidate, Choice, NoRoom, choose, has_room_instead, to_give_up};
pub use prepare::PREPARED_HOURS;
pub use project::Removal;
pub use projects::{Listing, Projects, Seen};
pub use size::Size;

pub use trial::Checkup;

use remote::Remote;

/// The port that nodes' WebSockets begin at inside an instance.
const LISTEN_FIRST: u16 = 9736;

/// The remotes, and what is done on them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Provisioner {
    remotes: Arc<[Remote]>,
    defaults: Defaults,
}

/// An environment that is up.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// Where its ports are reached, without brackets.
    pub host: String,
    /// One for each node, node 0 first.
    pub connection_strings: Vec<ConnectionString>,
}

/// What all environments have in common.
#[derive(Clone, Debug)]
struct Defaults {
    connect_page: url::Url,
    block_time: u32,
}

impl Provisioner {
    /// Sets the remotes up; nothing is sent. Keys, certificates and the shop's id are in `state_dir`, which is made
    /// where it is missing. Fails on what will never work: a certificate or a token that is none.
    pub fn new(settings: &Settings, state_dir: &Path) -> Result<Self, Error> {
        if let Err(error) = ssh::remove_stale_keys() {
            tracing::warn!("SSH keys of an earlier run may be left in the temporary directory: {error}");
        }
        let call_timeout = Duration::from_secs(settings.provisioning.call_timeout_secs.into());
        let shop = shop::id(settings.shop.id.as_ref(), state_dir)?;
        let (remotes_dir, digests) = (state_dir.join("remotes"), Arc::default());
        let remote = |remote: &settings::Remote| {
            let (shop, digests) = (Some(shop.clone()), Arc::clone(&digests));
            Remote::new(remote.clone(), &remotes_dir, call_timeout, shop, digests)
        };
        let remotes: Result<Vec<_>, _> = settings.remotes.iter().map(remote).collect();
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

    /// The load of each remote: asked all at a time, each bounded in time. Enrols where that is still to be done. A remote
    /// without the image reports that, and the upload is started in the background.
    pub async fn survey(&self) -> Vec<RemoteReport> {
        join_all((0..self.remotes.len()).map(|index| self.survey_one(index))).await
    }

    async fn survey_one(&self, index: usize) -> RemoteReport {
        let remote = &self.remotes[index];
        let mut report = remote.report().await;
        if report.load.is_ok() && !remote.image.is_there() {
            if remote.image.begin_upload() {
                let remotes = Arc::clone(&self.remotes);
                tokio::spawn(async move { remotes[index].upload_image().await });
            }
            report.load = Err(remote.image.upload_state(&remote.settings));
        }
        // Where the operator provides the image, the shop has none to remove.
        if report.load.is_ok() && remote.settings.image_files().is_some() && remote.old_images.is_due() {
            let remotes = Arc::clone(&self.remotes);
            tokio::spawn(async move { old_images::remove(&remotes, &remotes[index]).await });
        }
        report
    }

    /// Removes images from all remotes that this shop has uploaded and nothing needs any more: see
    /// [`lnplaylive_core::images`]. A survey starts this in the background, once an hour for each remote.
    pub async fn remove_old_images(&self) {
        join_all(self.remotes.iter().map(|remote| old_images::remove(&self.remotes, remote))).await;
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

    /// Makes the project and the instance of a placement and starts it, or takes over what was prepared; or finishes that. Fails
    /// as soon as the placement's member no longer runs instances.
    pub async fn bring_up(&self, order: &Order, placement: &Placement) -> Result<(), Error> {
        let remote = self.remote(&placement.remote)?;
        let client = &remote.client().await?;
        let size = Size::from(&order.terms);
        let instance = async {
            match placement.prepared {
                Some(prepared) => {
                    project::take_over(client, order.id, placement, prepared).await?;
                    remote.grow_instance(client, size, placement).await
                }
                None => make_instance(remote, client, order.id, Stage::Placing, size, placement).await,
            }
        };
        tokio::select! {
            result = instance => result,
            lost = remote.watch_member(client, placement.member.as_deref()) => Err(lost),
        }
    }

    /// Brings the network in the instance up, or finishes that, and returns its connection strings. Fails as soon as
    /// the placement's member no longer runs instances.
    pub async fn deploy(
        &self,
        order: &Order,
        placement: &Placement,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<Deployed, Error> {
        let remote = self.remote(&placement.remote)?;
        let client = &remote.client().await?;
        let up = async {
            let host = remote.host(client, placement.member.as_deref(), placement.project).await?;
            let spec = self.spec(order, placement, &remote.settings, &host);
            let strings = ssh::lnplay_up(&remote.settings, &host, placement, &spec, progress).await?;
            Ok::<_, Error>((host, spec, strings))
        };
        let (host, spec, strings) = tokio::select! {
            result = up => result?,
            lost = remote.watch_member(client, placement.member.as_deref()) => return Err(lost),
        };
        spec.check_strings(&strings).map_err(|wrong| Error::lnplay(placement, wrong.to_string()))?;
        Ok(Deployed { host, connection_strings: strings })
    }

    fn spec(
        &self,
        order: &Order,
        placement: &Placement,
        remote: &settings::Remote,
        host: &str,
    ) -> EnvironmentSpec {
        let environment = placement.project.environment();
        let Customisation { coin_distribution, channel_setup, names, node_access, .. } =
            &order.terms.customisation;
        // The settings see to it that full access is sold for virtual machines only; they may have changed since.
        let node_access = match remote.instance_type {
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
            ports: Ports {
                listen_first: LISTEN_FIRST,
                public_first: *placement.ports.nodes().start(),
                // A virtual machine's ports are forwarded to its own address, which it may not have yet.
                listen_address: placement.address.map(|_| Ipv4Addr::UNSPECIFIED.into()),
            },
            public_url_template: remote.public_url_template(host),
            connect_page: self.defaults.connect_page.clone(),
            node_access,
        }
    }

    /// Opens the ports of our environments that a cluster has moved on the member that they are on now.
    pub async fn follow_moves(&self, reports: &[RemoteReport]) {
        for RemoteReport { name, load } in reports {
            let environments = load.as_ref().map(|load| load.environments.as_slice()).unwrap_or_default();
            for environment in environments.iter().filter(|one| one.is_own && one.is_provisioned()) {
                let Environment { project, member, moved_from, host, .. } = environment;
                let (Some(from), Some(member), Some(host)) = (moved_from, member, host) else { continue };
                match self.follow(name, *project, member, host).await {
                    Ok(()) => tracing::info!("remote {name:?}: {project} was moved from {from} to {member}"),
                    Err(error) => tracing::warn!(
                        "remote {name:?}: {project} was moved from {from} to {member}, and its ports cannot be \
                         opened there yet: {}",
                        error.chain()
                    ),
                }
            }
        }
    }

    async fn follow(
        &self,
        remote: &str,
        project: ProjectName,
        member: &str,
        host: &str,
    ) -> Result<(), Error> {
        let remote = self.remote(remote)?;
        let client = remote.client().await?;
        let listen = devices::listen_address(&remote.settings, Some(member), host);
        instance::relocate(&client, project, listen).await?;
        project::note_member(&client, project, member).await
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
        // In a cluster the instance may have been moved, and what is on a member that is down cannot be removed yet.
        let member = match &leftover.member {
            Some(_) => remote.locate(&client, leftover.project).await?,
            None => None,
        };
        tokio::select! {
            biased;
            lost = remote.watch_member(&client, member.as_deref()) => Err(lost),
            result = project::remove(&client, order, leftover) => result,
        }
    }
}

/// Makes the project and the instance of a placement and starts it. `owner` is the order, or the id of what is prepared.
async fn make_instance(
    remote: &Remote,
    client: &Client,
    owner: OrderId,
    stage: Stage,
    size: Size,
    placement: &Placement,
) -> Result<(), Error> {
    // First, so that nothing is made where there is no image.
    let alias = remote.image.bring(client, &remote.settings).await?;
    project::create(client, remote.shop.as_ref(), owner, stage, placement).await?;
    let host = &remote.host(client, placement.member.as_deref(), placement.project).await?;
    match remote.create_instance(size, &alias, placement, host).await {
        // Perhaps the image that was there before.
        Err(Error::Lxd(error)) if error.is_not_found() => {
            remote.image.is_gone();
            let alias = remote.image.bring(client, &remote.settings).await?;
            remote.create_instance(size, &alias, placement, host).await?;
        }
        other => other?,
    }
    instance::start(client, placement).await
}
