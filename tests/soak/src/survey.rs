//! Looks at the remotes and the records all along: ports, ends that come too early, and secrets that exist only for moments.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::ProjectTags;
use lnplaylive_core::tags::Stage;
use tokio::time::sleep;

use crate::books::{Project, overlapping_ports};
use crate::secrets::Secrets;
use crate::tally::Group;
use crate::world::World;

/// Between two looks at simulated remotes, which cost nothing.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two looks at a real server.
const LONG_PAUSE: Duration = Duration::from_secs(3);
/// Difference between the clocks of two processes, which see a step up to a second late.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// What was seen.
#[derive(Debug, Default)]
pub struct Survey {
    /// Secrets, also those that are gone from the records by now.
    pub secrets: Mutex<Secrets>,
    /// Projects that were marked as handed over and went before their end.
    pub early: Mutex<Vec<Early>>,
}

/// A project that went before its end.
#[derive(Clone, Debug)]
pub struct Early {
    /// Its tags when it was seen last.
    pub tags: ProjectTags,
    /// The time at which it was missed.
    pub missed_at: Timestamp,
}

impl Survey {
    /// Looks for ever.
    pub async fn run(&self, world: &World) {
        let mut handed_over: BTreeMap<(String, String), ProjectTags> = BTreeMap::new();
        let pause = if world.remotes.is_empty() { LONG_PAUSE } else { PAUSE };
        loop {
            // A real server may not answer now.
            if let Ok(projects) = world.projects().await {
                self.look(world, projects, &mut handed_over);
            }
            if let Ok(open) = world.record_list(&["open"]).await {
                let mut secrets = self.secrets.lock().expect("no look panics");
                for order in &open {
                    secrets.add_order(order);
                }
            }
            sleep(pause).await;
        }
    }

    fn look(
        &self,
        world: &World,
        projects: Vec<Project>,
        handed_over: &mut BTreeMap<(String, String), ProjectTags>,
    ) {
        world.tally.one(Group::Checks, "surveys of the remotes' ports");
        for overlap in overlapping_ports(&projects) {
            world.findings.add(overlap);
        }
        let mut present = BTreeMap::new();
        for project in projects {
            if let Ok(Some(tags)) = project.tags()
                && tags.stage == Stage::Provisioned
            {
                present.insert((project.remote, project.name), tags);
            }
        }
        let now = world.now();
        for ((_, name), tags) in &*handed_over {
            let gone = !present.keys().any(|(_, present)| present == name);
            if gone && tags.expires > now + TOLERANCE {
                let early = Early { tags: tags.clone(), missed_at: now };
                self.early.lock().expect("no look panics").push(early);
            }
        }
        *handed_over = present;
    }
}
