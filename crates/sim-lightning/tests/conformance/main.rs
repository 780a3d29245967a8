//! The same checks on the simulated and on the real daemons, so that the simulated ones cannot drift.
//!
//! The real ones are found on PATH or named by `BITCOIND` and `LIGHTNINGD`; without them their half passes with
//! "skipped: no lightningd". `cargo test -p sim-lightning --test conformance simulated` runs the other half alone.

mod bitcoin;
mod commando;
mod daemons;
mod money;
mod plugin;
mod rpc;
mod runes;
