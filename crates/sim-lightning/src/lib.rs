//! Stand-ins for `lightningd` and `bitcoind`, for machines that lack them.
//!
//! There are two programs, which speak only the protocols of the real ones: `sim-bitcoind` (JSON-RPC over HTTP, a real regtest
//! chain in a file of its own) and `sim-lightningd` (JSON-RPC over a unix socket, the plugin protocol, BOLT 8 with commando over
//! TCP and WebSocket, BOLT 11 invoices, runes, the datastore). Everything else, such as how two simulated nodes perform a payment,
//! is internal and may change.
//!
//! [`commando::Client`] connects to a node, real or simulated, as a browser does: with an address, a node id and a rune.
//!
//! `tests/conformance` runs the same checks on the simulated and the real daemons, which keeps them alike.

pub mod bitcoind;
pub mod commando;
pub mod lightningd;
mod peer;
