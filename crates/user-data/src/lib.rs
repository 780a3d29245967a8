//! The user-data of our cloud image: one TOML document that says all there is to say to a host.
//!
//! It is read at every boot and turned into the files that services are started with: environment variables,
//! `lnplaylive.toml`, secrets, options of lightningd. The format is described by its example, `nixos/images/user-data.example`.

mod document;
mod files;

pub use document::{Announce, Domain, Host, Network, UserData, UserDataError};
pub use files::{File, Surroundings, files};
