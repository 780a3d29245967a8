//! An async client of the REST API that LXD (5.0 and later) and Incus share.
//!
//! It covers servers, projects, images, instances and operations, and does not know what callers use them for.
//!
//! All calls follow these rules:
//! - The server is identified by its certificate's fingerprint ([`Fingerprint`]), never by a certificate authority.
//! - The time and size of an answer are bounded ([`Limits`]).
//! - An accepted request (status 202) is not done. Calls that start an operation return when it has ended, or when the caller's
//!   time-out is reached.
//! - "Could not ask" is never "not there": only the server's own 404 becomes [`ErrorKind::NotFound`].
//! - A request that changes something is never sent twice. A GET is repeated once if its connection broke, because the server
//!   may have closed a kept-alive connection just as it was reused.
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use lxd_client::{Client, ClientConfig, Found, Identity, Token};
//!
//! let identity = Identity::load_or_create("/var/lib/shop/eu-1".as_ref(), "shop")?;
//! let token = Token::parse("eyJj…")?;
//! let config = ClientConfig::new("eu-1", "https://10.0.0.7:8443".parse()?, identity, *token.fingerprint());
//! let client = Client::new(config)?;
//! client.enrol(&token).await?;
//! if client.project("demo").await.found()?.is_none() {
//!     let config = [("features.images".into(), "false".into())].into();
//!     client.create_project("demo", "", &config).await?;
//! }
//! # Ok(()) }
//! ```

mod client;
mod collections;
mod error;
mod fingerprint;
mod identity;
mod images;
mod instances;
mod operations;
mod projects;
mod server;
mod tls;
mod token;
mod transport;
mod validity;

pub use client::{Client, ClientConfig, Enrolment, Limits};
pub use collections::{AclRule, Collection, Item, NetworkAcl, StoragePool};
pub use error::{Error, ErrorKind, Found};
pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use identity::{Identity, IdentityError};
pub use images::{ImageFiles, ImageFingerprint, ImageInfo, ListedImage};
pub use instances::{
    Address, ImageSource, Instance, InstanceLocation, InstanceSpec, InstanceState, InstanceType, Origin,
    Status, Stop,
};
pub use operations::{Operation, OperationState};
pub use projects::{Content, Project};
pub use server::{ClusterMember, Environment, Resources, Scheduler, ServerInfo, ServerWarning, StorageSpace};
pub use token::{InvalidToken, Token};
pub use transport::ETag;

/// Configuration keys and values. In the API all values are strings.
pub type ConfigMap = std::collections::BTreeMap<String, String>;

/// Devices by name, each a map of options (`type`, `listen`, …).
pub type DeviceMap = std::collections::BTreeMap<String, ConfigMap>;

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;
