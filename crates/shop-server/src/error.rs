//! The errors of starting the server.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

/// An error of starting the server, or of loading fonts for cards.
#[derive(Debug, Error)]
pub enum Error {
    /// A setting is invalid.
    #[error(transparent)]
    Settings(#[from] lnplaylive_core::settings::SettingsError),
    /// A file or directory named by a setting cannot be read.
    #[error("{key}: cannot read {}", path.display())]
    File {
        /// The setting.
        key: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The web shop's files cannot be served.
    #[error("dist_dir: {0}")]
    Assets(String),
    /// A font cannot be used.
    #[error("card_fonts: {} is not a font", .0.display())]
    Font(PathBuf),
    /// An address cannot be bound.
    #[error("{key}: cannot listen on {address}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
}
