//! Starts the daemons that the demo and the tests need, real or simulated, and stops them again.
//!
//! A constructor returns when its daemon is usable. Dropping the value stops the daemon and everything that it started, also when
//! a constructor failed half-way, and even when this process is killed (see the keeper in [`process`]). The daemons' files are
//! kept if something failed, and removed otherwise (see [`Workdir`]).
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
mod damage;
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
pub use damage::ruin_node;
pub use error::Error;
pub use host::{Host, HostConfig, PluginRun};
pub use lightningd::{Lightningd, NodeConfig};
pub use ports::reserve_port;
pub use rpc::Rpc;
pub use shop::{RemoteKind, Remotes, Shop, ShopConfig, listen_address, loopback_address, simulated_remote};
pub use site::{pages, site, site_with};
pub use skip::{daemons, skip};
pub use wait::{Step, until};
pub use workdir::Workdir;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
