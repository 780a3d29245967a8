//! The room's directory: all nodes by id, name, colour and address, for an attendee's wallet.
//!
//! Nodes hear of each other once channels are announced. Until then a node knows nobody, so every node carries the directory in
//! its datastore, where an attendee's rune can read it (`listdatastore`) and nothing that it allows can change it.

use lnplaylive_core::{NodeId, Rgb};
use serde::Serialize;

/// The directory's key in a node's datastore.
pub const KEY: [&str; 2] = ["lnplay", "room"];

/// Version of the format; readers ignore a directory of another one.
pub const VERSION: u32 = 1;

/// All nodes of an environment, in their order: the value under [`KEY`], as JSON.
#[derive(Debug, Serialize)]
pub struct Room {
    /// [`VERSION`].
    pub version: u32,
    /// The nodes.
    pub nodes: Vec<Entry>,
}

/// One node of the room.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Its public key.
    pub id: NodeId,
    /// Its alias.
    pub name: String,
    /// Its colour, `rrggbb`.
    pub color: Rgb,
    /// Where the other nodes connect to it, `host:port`.
    pub address: String,
}

impl Room {
    /// The directory of these nodes.
    pub fn of(nodes: Vec<Entry>) -> Self {
        Self { version: VERSION, nodes }
    }
}
