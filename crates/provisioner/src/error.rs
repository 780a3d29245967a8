//! What can go wrong on a remote, and whether trying again may help.

use lnplaylive_core::order::{Placement, Severity};
use thiserror::Error;

/// A step that did not work. Each names the remote and the object.
#[derive(Debug, Error)]
pub enum Error {
    /// An order is placed on a remote that is no longer in the settings.
    #[error("remote {remote:?} is not in the settings; put it back until its environments have ended")]
    NoSuchRemote {
        /// Its name.
        remote: String,
    },
    /// A file that the settings name cannot be used.
    #[error("settings: {key}: {what}")]
    Settings {
        /// The key.
        key: String,
        /// What is wrong with it.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The client key pair, or the pinned certificate, could not be read or kept.
    #[error("remote {remote:?}: cannot keep its keys in {path}")]
    State {
        /// The remote's name.
        remote: String,
        /// The directory.
        path: std::path::PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The remote does not know us and there is no token to change that.
    #[error(
        "remote {remote:?} does not trust our client certificate and there is no token_file to enrol with"
    )]
    NotEnrolled {
        /// The remote's name.
        remote: String,
    },
    /// The remote refuses the enrolment token.
    #[error(
        "remote {remote:?}: the enrolment token in {file} is refused: wrong, used, withdrawn or expired; \
         have the remote issue a new one"
    )]
    TokenRefused {
        /// The remote's name.
        remote: String,
        /// The token's file.
        file: std::path::PathBuf,
        /// In the server's words.
        source: Box<lxd_client::Error>,
    },
    /// There is no image to make instances from.
    #[error(
        "remote {remote:?}: there is no image with the alias {alias:?}, and the settings name no image_file to upload"
    )]
    NoImage {
        /// The remote's name.
        remote: String,
        /// The alias that was looked for.
        alias: String,
    },
    /// The alias that has the digest of our image leads to another one.
    #[error(
        "remote {remote:?}: image alias {alias:?} belongs to an image with the digest {found}, which is not the one of the files in          the settings; delete that image or its alias"
    )]
    OtherImage {
        /// The remote's name.
        remote: String,
        /// The alias.
        alias: String,
        /// The digest of the image that was found.
        found: String,
    },
    /// The shop's id could not be read or stored.
    #[error("cannot read or store the shop's id in {}; set shop.id in the settings, or mend the file", path.display())]
    ShopId {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A profile that instances are to get does not exist.
    #[error("remote {remote:?}: there is no profile {profile:?} in its project default")]
    NoProfile {
        /// The remote's name.
        remote: String,
        /// The profile's name.
        profile: String,
    },
    /// Environments would not work there.
    #[error("remote {remote:?}: {}", faults.join("; "))]
    Unfit {
        /// The remote's name.
        remote: String,
        /// Why, in sentences.
        faults: Vec<String>,
    },
    /// The cluster member that an environment was placed on does not run instances any more.
    #[error("remote {remote:?}: member {member} {what}")]
    MemberLost {
        /// The remote's name.
        remote: String,
        /// The member's name.
        member: String,
        /// What the cluster says of it.
        what: String,
    },
    /// A port of the placement could not be opened: most likely something that is not ours has it.
    #[error(
        "remote {remote:?}: instance in {project}: one of its ports {first} to {last} is taken or cannot be opened"
    )]
    PortTaken {
        /// The remote's name.
        remote: String,
        /// The project's name.
        project: String,
        /// The first of the instance's ports.
        first: u16,
        /// The last one.
        last: u16,
        /// In the server's words.
        source: Box<lxd_client::Error>,
    },
    /// The static address of the placement is another instance's.
    #[error("remote {remote:?}: instance in {project}: its address {address} is taken")]
    AddressTaken {
        /// The remote's name.
        remote: String,
        /// The project's name.
        project: String,
        /// The address.
        address: std::net::Ipv4Addr,
        /// In the server's words.
        source: Box<lxd_client::Error>,
    },
    /// The server has no user ids left for a container that shares them with nobody.
    #[error(
        "remote {remote:?}: has no 65,536 user ids left for another container; give root a larger range in /etc/subuid and \
         /etc/subgid (65,536 for each environment and as many again), and start the server's daemon anew"
    )]
    NoUserIds {
        /// The remote's name.
        remote: String,
        /// In the server's words.
        source: Box<lxd_client::Error>,
    },
    /// An instance cannot be wired as the settings and the remote's profiles have it.
    #[error("remote {remote:?}: {what}")]
    Network {
        /// The remote's name.
        remote: String,
        /// What is missing or does not fit, and what to do.
        what: String,
    },
    /// A call of the LXD API.
    #[error(transparent)]
    Lxd(#[from] lxd_client::Error),
    /// Something of that name is there, and is somebody else's.
    #[error("remote {remote:?}: {object} is there already and is not ours; nothing was changed")]
    NotOurs {
        /// The remote's name.
        remote: String,
        /// What it is.
        object: String,
    },
    /// Too late: the project is being removed.
    #[error("remote {remote:?}: project {project} is being removed, its time was up; nothing was changed")]
    BeingRemoved {
        /// The remote's name.
        remote: String,
        /// The project's name.
        project: String,
    },
    /// A prepared environment that an order is to take over is not there any more, or does not work.
    #[error("remote {remote:?}: the prepared environment in {project} cannot be used: {what}")]
    Prepared {
        /// The remote's name.
        remote: String,
        /// The project's name.
        project: String,
        /// What is wrong with it.
        what: String,
        /// Why, if more is known.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// SSH to an instance.
    #[error("remote {remote:?}: instance in {project}: SSH to {address}: {what}")]
    Ssh {
        /// The remote's name.
        remote: String,
        /// The project's name.
        project: String,
        /// Host and port.
        address: String,
        /// What was tried.
        what: String,
        /// Whether trying again may help.
        severity: Severity,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A node's port does not accept connections from here.
    #[error(
        "remote {remote:?}: the node's port {address} cannot be reached from here; does a firewall let it through?"
    )]
    NodeUnreachable {
        /// The remote's name.
        remote: String,
        /// Host and port.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// `lnplay up` in an instance.
    #[error("remote {remote:?}: instance in {project}: lnplay up: {what}")]
    Lnplay {
        /// The remote's name.
        remote: String,
        /// The project's name.
        project: String,
        /// What it said or did.
        what: String,
    },
}

impl Error {
    pub(crate) fn lnplay(placement: &Placement, what: impl Into<String>) -> Self {
        Self::Lnplay {
            remote: placement.remote.clone(),
            project: placement.project.to_string(),
            what: what.into(),
        }
    }

    /// A prepared environment that cannot be used.
    pub(crate) fn prepared(placement: &Placement, what: impl Into<String>) -> Self {
        Self::Prepared {
            remote: placement.remote.clone(),
            project: placement.project.to_string(),
            what: what.into(),
            source: None,
        }
    }

    /// The error of a placement whose instance was prepared: that the remote as a whole is at fault does not follow.
    pub(crate) fn of_placement(self, placement: &Placement) -> Self {
        if placement.prepared.is_none() || self.severity() != Severity::Remote {
            return self;
        }
        Self::prepared_because(placement, "a step failed", self)
    }

    /// A prepared environment that cannot be used, and why.
    pub(crate) fn prepared_because(
        placement: &Placement,
        what: &str,
        why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Prepared {
            remote: placement.remote.clone(),
            project: placement.project.to_string(),
            what: what.to_owned(),
            source: Some(why.into()),
        }
    }

    /// Tells whether the same step may work later, whether another placement may, or whether the remote has to be mended
    /// first. A broken image shows in SSH and in `lnplay up`, so their final failures are taken for the remote's.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Lxd(error) if error.is_transient() => Severity::Passing,
            // Of a remote or state that is not there: the operator has to do something, and once done the same step works.
            Self::Ssh { severity: Severity::Passing, .. }
            | Self::NoSuchRemote { .. }
            | Self::ShopId { .. }
            | Self::State { .. } => Severity::Passing,
            Self::Settings { .. }
            | Self::NotEnrolled { .. }
            | Self::TokenRefused { .. }
            | Self::NoImage { .. }
            | Self::OtherImage { .. }
            | Self::NoProfile { .. }
            | Self::Network { .. }
            | Self::NoUserIds { .. }
            | Self::NodeUnreachable { .. }
            | Self::Unfit { .. }
            | Self::Lxd(_)
            | Self::Ssh { .. }
            | Self::Lnplay { .. } => Severity::Remote,
            Self::MemberLost { .. }
            | Self::PortTaken { .. }
            | Self::AddressTaken { .. }
            | Self::NotOurs { .. }
            | Self::Prepared { .. }
            | Self::BeingRemoved { .. } => Severity::Final,
        }
    }

    /// The error and its causes, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            // A transparent error and its cause say the same thing.
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}
