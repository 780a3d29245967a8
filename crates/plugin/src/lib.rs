//! The Core Lightning plugin that sells environments.
//!
//! [`core`] is the shop itself, [`adapters`] connect it to the node, its datastore, the remotes and JSON-RPC, and
//! [`plugin`] runs it under lightningd. Decisions about orders are in the crate `lnplaylive-core`, steps on remotes in the
//! crate `provisioner`.

pub mod adapters;
pub mod cli;
pub mod core;
pub mod plugin;
