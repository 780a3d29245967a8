//! The decisions of the culler: the projects to remove from a remote. [`crate::clocks`] has the time to decide by.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::ids::ShopId;
use crate::tags::{NotOurs, ProjectTags, Stage, TagError};

/// A project that is still being made this long after its creation was left by a crash: provisioning takes minutes, with
/// all its retries an hour at most.
pub const PLACING_LIMIT: SignedDuration = SignedDuration::from_hours(24);

/// The culler's decision about a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ours, and in use until this time at least.
    Keep {
        /// The end of its environment.
        expires: Timestamp,
    },
    /// Ours, and due for removal.
    Remove(Reason),
    /// Another shop's, which it is left to.
    OtherShop {
        /// True if it is due for removal.
        is_due: bool,
    },
    /// Not ours.
    Foreign,
    /// It looks like ours, but its tags cannot be read. It is left alone and reported.
    Malformed(TagError),
}

/// The reason for a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Reason {
    /// Its environment has ended.
    #[error("it ended at {at}")]
    Expired {
        /// The end.
        at: Timestamp,
    },
    /// It was never handed over.
    #[error("it was created at {created} and never handed over")]
    NeverHandedOver {
        /// The time of its creation.
        created: Timestamp,
    },
}

/// Decides on one project by its name and configuration.
///
/// Removes the projects of `shop` whose environments ended at least `grace` ago, and those that are still being made
/// [`PLACING_LIMIT`] after their creation. A project that was handed over is removed for its end only.
pub fn judge(
    name: &str,
    config: &BTreeMap<String, String>,
    shop: Option<&ShopId>,
    now: Timestamp,
    grace: SignedDuration,
) -> Verdict {
    let tags = match ProjectTags::read(name, config) {
        Ok(tags) => tags,
        Err(NotOurs::Foreign) => return Verdict::Foreign,
        Err(NotOurs::Malformed(error)) => return Verdict::Malformed(error),
    };
    match judge_tags(&tags, now, grace) {
        verdict if tags.is_of(shop) => verdict,
        verdict => Verdict::OtherShop { is_due: matches!(verdict, Verdict::Remove(_)) },
    }
}

fn judge_tags(tags: &ProjectTags, now: Timestamp, grace: SignedDuration) -> Verdict {
    let ProjectTags { expires, stage, created, .. } = *tags;
    // A sum beyond the last representable time never comes.
    let is_past = |time: Timestamp, wait| time.checked_add(wait).is_ok_and(|due| due <= now);
    if is_past(expires, grace) {
        return Verdict::Remove(Reason::Expired { at: expires });
    }
    match created {
        Some(created) if stage == Stage::Placing && is_past(created, PLACING_LIMIT) => {
            Verdict::Remove(Reason::NeverHandedOver { created })
        }
        _ => Verdict::Keep { expires },
    }
}
