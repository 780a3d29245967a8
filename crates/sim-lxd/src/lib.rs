//! A stand-in for an LXD or Incus remote, a server or a cluster, for machines that have none.
//!
//! It implements LXD 5.0's REST API over TLS with client certificates, as far as this project uses it. Its instances are
//! directories with loopback addresses of their own. Processes "inside" an instance are started over SSH (a real SSH server,
//! in this process), outlive their SSH session, and end with the instance. `proxy` devices are real TCP ports.
//!
//! Commands in an instance have `HOME`, `PATH` (with `lnplay`), `LNPLAY_DIR`, where `lnplay` keeps its state, and
//! `LNPLAY_ADDRESS`, the address on which everything in the instance must listen instead of 127.0.0.1 and 0.0.0.0. There is no
//! isolation: processes run as the user who started the remote.
//!
//! # Rules
//!
//! [`rules`] is the table of what the real servers refuse, when, and with which text; the remote follows it. Virtual machines are
//! processes like containers, but accept only devices that a real server accepts for them: proxies with NAT, a concrete address
//! to listen on, and a static address of the instance to connect to.
//!
//! # Clusters
//!
//! Each member has an API at its own address, and its instances' ports are open only there:
//!
//! ```no_run
//! # async fn f() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use sim_lxd::{Fault, SimRemote, SimRemoteConfig};
//!
//! let config = SimRemoteConfig::new("/tmp/r", "target/debug/lnplay").with_members(["m1", "m2", "m3"]);
//! let config = SimRemoteConfig { offline_after: Duration::ZERO, peer_timeout: Duration::ZERO, ..config };
//! let remote = SimRemote::start(config).await?;
//! let m2 = remote.member("m2");
//! println!("{} at {}, its ports on {}", m2.name(), m2.url(), m2.address());
//! m2.set_config("scheduler.instance", "manual");
//! m2.faults().on("PUT", "/1.0/instances/*/state", 1, Fault::DropAfter);
//! m2.kill().await;
//! m2.revive().await?;
//! m2.evacuate().await.map_err(anyhow::Error::msg)?;
//! m2.restore().await.map_err(anyhow::Error::msg)?;
//! remote.set_quorum(false);
//! # Ok(()) }
//! ```
//!
//! A cluster's members share certificate, trust, images and projects. A call about one member may be sent to any other, which
//! forwards it, and fails as in a real cluster if that member is dead. Other addresses in 127.0.0.0/8 belong to every member.
//!
//! [`Faults`] makes the remote, or one member, fail, hang or drop connections at chosen calls.

mod api;
mod cloud_init;
mod evacuation;
mod faults;
mod instance;
mod member;
mod model;
mod operations;
mod processes;
mod proxy;
mod remote;
mod rules;
mod serve;
mod ssh;
mod tls;

pub use faults::{Call, Fault, Faults, SshFault};
pub use member::{Machine, SimMember};
pub use remote::{MemberHandle, ProjectSnapshot, Server, SimRemote, SimRemoteConfig};
pub use rules::{Kind, Rule, When, rules};
