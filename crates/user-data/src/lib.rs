//! The user-data of our cloud image: a TOML document with all settings of a host.
//!
//! At every boot it is converted into the files that the services read: environment variables, `lnplaylive.toml`, secrets and
//! options of lightningd. `nixos/images/user-data.example` describes the format.

mod backup;
mod document;
mod files;

pub use backup::{Backup, Bucket, Endpoint, KeyText, Prefix, Recipient, Region, Storage, StorageKey};
pub use document::{Announce, Announcements, Domain, Host, Network, UserData, UserDataError};
pub use files::{File, ImageInfo, files};
