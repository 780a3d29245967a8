//! A stand-in for an LXD remote, for machines that have none.
//!
//! It speaks LXD 5.0's REST API over TLS with client certificates, as far as `lxd-client` uses it. Its instances are
//! directories with a loopback address of their own: "inside" one means a process started there over SSH (a real SSH
//! server, in this process), which outlives its SSH session and ends with the instance. `proxy` devices are real TCP ports.
//!
//! An instance's commands find in their environment `HOME`, `PATH` (with `lnplay`), `LNPLAY_DIR`, where `lnplay` keeps its
//! state, and `LNPLAY_ADDRESS`, the address that everything in the instance must listen on instead of 127.0.0.1 and
//! 0.0.0.0. There are no walls: processes run as the user who started the remote.
//!
//! [`Faults`] makes the remote fail, hang or drop connections at chosen calls.

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
