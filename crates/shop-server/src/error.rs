//! Why the server cannot start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

/// Why the server cannot start, or a sheet of cards cannot be made.
#[derive(Debug, Error)]
pub enum Error {
    /// A setting makes no sense.
    #[error(transparent)]
    Settings(#[from] lnplaylive_core::settings::SettingsError),
    /// A file or a directory that a setting names.
    #[error("{key}: cannot read {}", path.display())]
    File {
        /// The setting.
        key: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The web shop's files are not what can be served.
    #[error("dist_dir: {0}")]
    Assets(String),
    /// A font that cannot be used.
    #[error("card_fonts: {} is no font", .0.display())]
    Font(PathBuf),
    /// An address that cannot be listened on.
    #[error("{key}: cannot listen on {address}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}
