//! The decisions of the culler: the projects to remove from a remote, and the clock to decide by.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::ids::ShopId;
use crate::tags::{NotOurs, ProjectTags, Stage, TagError};

/// A project that is still being made this long after its creation was left by a crash: provisioning takes minutes, with
/// all its retries an hour at most.
pub const PLACING_LIMIT: SignedDuration = SignedDuration::from_hours(24);

/// The most that the clocks of this machine and a remote may differ. Machines that synchronise their clocks agree to a
/// second; one that does not drifts by minutes in a year.
pub const MAX_SKEW: SignedDuration = SignedDuration::from_mins(10);

/// 2026-01-01T00:00:00Z. This program is younger, so a clock that shows less was reset.
const EPOCH: Timestamp = Timestamp::constant(1_767_225_600, 0);

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

/// A clock that cannot be trusted: nothing is removed on the remote until it is corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WrongClock {
    /// This machine's clock is far in the past.
    #[error("this machine's clock shows {0}, which is in the past; set it")]
    Ours(Timestamp),
    /// The remote does not tell its time.
    #[error("the server does not tell its time, so this machine's clock cannot be checked")]
    Unknown,
    /// The two differ.
    #[error("this machine's clock shows {ours} and the server's {theirs}; set the wrong one")]
    Apart {
        /// This machine's time.
        ours: Timestamp,
        /// The remote's time.
        theirs: Timestamp,
    },
}

/// The time to decide by: the earlier of two clocks that agree, this machine's and the remote's.
///
/// A removal cannot be undone, so a single clock that jumped ahead must not cause one. `ahead` is how far the remote's
/// clock is ahead of `ours`; `None` if the remote does not tell its time.
pub fn agreed_time(ours: Timestamp, ahead: Option<SignedDuration>) -> Result<Timestamp, WrongClock> {
    if ours < EPOCH {
        return Err(WrongClock::Ours(ours));
    }
    let ahead = ahead.ok_or(WrongClock::Unknown)?;
    let theirs = ours.saturating_add(ahead).expect("a duration without calendar units can be added");
    if ahead.unsigned_abs() > MAX_SKEW.unsigned_abs() {
        return Err(WrongClock::Apart { ours, theirs });
    }
    Ok(ours.min(theirs))
}
