//! Brings an environment up inside an instance: bitcoind on regtest and N funded Lightning nodes, supervised.
//!
//! `lnplay up` ([`up`]) starts a supervisor ([`supervisor`]) and follows it over a unix socket ([`control`]), so that the
//! environment outlives the SSH session that started it. The supervisor is a systemd unit where systemd runs ([`service`]),
//! else a process of its own. Everything that must survive a crash is in the state directory ([`state`]).
//!
//! Modules by layer; each depends only on those above it.
//!
//! | layer | modules |
//! |---|---|
//! | the machine | [`systemd`], [`lock`], [`group`], [`log`], [`confine`] |
//! | decisions about an environment | [`coins`], [`channels`], [`names`], [`access`], [`room`], [`requests`] |
//! | its state and settings | [`state`], [`settings`] |
//! | its daemons | [`child`], [`bitcoind`], [`node`], [`chain`], [`plugin`] |
//! | commands | [`control`], [`service`], [`supervisor`], [`up`], [`session`] |

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
pub mod log;
pub mod names;
pub mod node;
pub mod plugin;
pub mod requests;
pub mod room;
pub mod service;
pub mod session;
pub mod settings;
pub mod state;
pub mod supervisor;
pub mod systemd;
pub mod up;
