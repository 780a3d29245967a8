//! Clients of the two daemons' RPC. Each call has a connection of its own and is bounded in time; an answer of bitcoind is
//! also bounded in size.
//!
//! A fresh connection costs well under a millisecond. After a call that timed out, the next answer on its connection
//! would be the wrong one.

pub mod bitcoind;
pub mod lightningd;

pub use bitcoind::Bitcoind;
pub use lightningd::Lightningd;
