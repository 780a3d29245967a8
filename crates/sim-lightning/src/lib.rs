//! Stand-ins for `lightningd` and `bitcoind`, for machines that have neither.
//!
//! Two executables speak the real protocols at their edges and nothing more: `sim-bitcoind` (JSON-RPC over HTTP, a real
//! regtest chain in its own file) and `sim-lightningd` (JSON-RPC over a unix socket, the plugin protocol, BOLT 8 with commando
//! over TCP and WebSocket, BOLT 11 invoices, runes, the datastore). What stays inside, such as how two simulated nodes move a
//! payment, is this crate's own and may change.
//!
//! [`commando::Client`] dials a node, real or simulated, the way a browser does: with an address, a node id and a rune.
//!
//! `tests/conformance.rs` runs the same checks on the simulated and on the real daemons, so that the two cannot drift apart.

pub mod bitcoind;
pub mod commando;
pub mod lightningd;
mod peer;
