//! The core's surroundings: the node, its datastore, the remotes, the files for the web shop's server, and JSON-RPC.

pub mod datastore;
pub mod metrics;
pub mod node;
pub mod products_file;
pub mod remotes;
pub mod route_file;
pub mod rpc;

use jiff::Timestamp;

use crate::core::interfaces::Clock;

/// The system's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
