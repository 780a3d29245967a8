//! Brings an environment up inside an instance: bitcoind on regtest and N funded Lightning nodes, supervised.
//!
//! `lnplay up` ([`up`]) hands the work to a supervisor ([`supervisor`]) and follows it over a unix socket ([`control`]), so
//! that the environment outlives the SSH session that started it. The supervisor is a systemd unit where there is systemd
//! ([`service`]), else a process of its own. It keeps the
//! daemons running ([`child`]), each as a user of its own where it may ([`confine`]), prepares the chain ([`chain`]), shares the coins out ([`coins`]), makes the nodes ready
//! ([`node`]), tells each of the others ([`room`]), gives attendees their part of them ([`access`]) and opens the channels that were asked for ([`channels`]). Everything that must survive a crash is in the state directory ([`state`]).

pub mod access;
pub mod bitcoind;
pub mod chain;
pub mod channels;
pub mod child;
pub mod coins;
pub mod confine;
pub mod control;
pub mod group;
pub mod lock;
pub mod names;
pub mod node;
pub mod room;
pub mod service;
pub mod session;
pub mod settings;
pub mod state;
pub mod supervisor;
pub mod up;
