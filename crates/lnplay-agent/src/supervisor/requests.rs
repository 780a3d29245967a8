//! Collects the payment requests that attendees show to the room: see [`crate::requests`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use lnplaylive_core::NodeId;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::node;
use crate::requests::{MAX_OWN_FILE, MAX_ROOM_FILE, Room, Shared};
use crate::state::read_regular;

use super::environment::Environment;

/// The interval between two looks at all nodes' files.
const INTERVAL: Duration = Duration::from_secs(1);

/// Collects until it is dropped. Nothing that a node does to its file keeps it from collecting those of the others.
pub(super) async fn run(environment: &Environment) -> Infallible {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ids: BTreeMap<u32, NodeId> = BTreeMap::new();
    let path = environment.dir.requests();
    let (mut written, mut failing) = (stored(&path), false);
    loop {
        ticks.tick().await;
        let all = environment.nodes.iter().filter_map(|node| {
            let id = ids.get(&node.index).cloned().or_else(|| {
                let identity = node::stored_identity(&environment.dir, node.index).ok().flatten()?;
                ids.insert(node.index, identity.node_id.clone());
                Some(identity.node_id)
            })?;
            let file = read_regular(&node.own_requests(), MAX_OWN_FILE).ok()?;
            Some((id, Shared::read(&file)))
        });
        let room = Room::of(all);
        if written.as_ref() == Some(&room) {
            continue;
        }
        let text = serde_json::to_vec(&room).expect("a list of texts is JSON");
        // Nodes with users of their own read it.
        let result = atomic_file::replace(&path, &text, 0o644);
        if let Err(error) = &result
            && !failing
        {
            warn!("the room does not see what its nodes ask for: {error}");
        }
        failing = result.is_err();
        written = result.is_ok().then_some(room);
    }
}

/// The list in the file: empty while there is none, `None` if it cannot be read.
fn stored(path: &Path) -> Option<Room> {
    let file = read_regular(path, MAX_ROOM_FILE).ok()?;
    if file.is_empty() { Some(Room::default()) } else { serde_json::from_slice(&file).ok() }
}
