//! Starts the daemons that the demo and the tests need, real or simulated, and takes them down again.
//!
//! A constructor returns when its daemon is usable; dropping the value ends the daemon with everything that it started,
//! also when a constructor gave up half-way, and even when this very process is killed (see [`process`]'s keeper). What the
//! daemons wrote stays on disk when something failed and is removed otherwise (see [`Workdir`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use testbed::{Daemons, Host, HostConfig};
//!
//! let host = Host::start(HostConfig::new(Daemons::auto()?)).await?;
//! let invoice = host.node.call("invoice", serde_json::json!([1000, "a label", "a description"])).await?;
//! host.customer.pay(invoice["bolt11"].as_str().expect("invoices have one")).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing in the product depends on this crate.

pub mod binaries;
mod bitcoind;
mod checks;
mod daemons;
mod error;
mod host;
mod lightningd;
pub mod lxd;
mod ports;
mod process;
mod rpc;
pub mod shim;
mod shop;
mod site;
mod skip;
mod wait;
mod workdir;

pub use crate::daemons::{Daemons, Flavor};
pub use binaries::Binary;
pub use bitcoind::Bitcoind;
pub use cln_rpc::RpcError;
pub use error::Error;
pub use host::{Host, HostConfig, PluginRun, PublicRunes};
pub use lightningd::{Lightningd, NodeConfig};
pub use ports::reserve_port;
pub use rpc::Rpc;
pub use shop::{RemoteKind, Remotes, Shop, ShopConfig, loopback_address, simulated_remote};
pub use site::{pages, site};
pub use skip::{daemons, skip};
pub use wait::{Step, until};
pub use workdir::Workdir;

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
