//! Which projects on a remote are to be removed, and whose clock says so.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::marks::{Flaw, Marks, NotOurs, Stage};

/// After so long nobody makes an environment any more: provisioning takes minutes, its repetitions at most an hour.
pub const PLACING_LIMIT: SignedDuration = SignedDuration::from_hours(24);

/// How far the clocks of this machine and a remote may be apart. Machines that ask the network for the time agree to a
/// second; one that does not loses minutes in a year.
pub const MAX_SKEW: SignedDuration = SignedDuration::from_mins(10);

/// 2026-01-01T00:00:00Z. This program is younger, so a clock that says less has lost its battery.
const EPOCH: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// What is to become of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ours, and in use until this time at least.
    Keep {
        /// When it ends.
        expires: Timestamp,
    },
    /// Ours, and over.
    Remove(Reason),
    /// Not ours.
    Foreign,
    /// Looks like ours, and cannot be read: somebody has to look at it.
    Malformed(Flaw),
}

/// Why a project is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Reason {
    /// It has ended.
    #[error("it ended at {at}")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// It was never handed over.
    #[error("it was made at {created} and never handed over")]
    NeverHandedOver {
        /// When it was made.
        created: Timestamp,
    },
}

/// Decides on one project by its name and configuration.
///
/// To be removed is what is ours, by name and keys, and has ended `grace` ago; also what is ours and still being made a
/// day after it was begun, which is what a crash has left. A finished environment is only ever removed for its end.
pub fn judge(
    name: &str,
    config: &BTreeMap<String, String>,
    now: Timestamp,
    grace: SignedDuration,
) -> Verdict {
    let Marks { expires, stage, created } = match Marks::read(name, config) {
        Ok(marks) => marks,
        Err(NotOurs::Foreign) => return Verdict::Foreign,
        Err(NotOurs::Malformed(flaw)) => return Verdict::Malformed(flaw),
    };
    // A time that cannot be written down never comes.
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

/// Why nothing may be removed on a remote now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WrongClock {
    /// This machine's clock is far in the past.
    #[error("this machine's clock says {0}, which is long ago; set it right")]
    Ours(Timestamp),
    /// The remote says no time.
    #[error(
        "the server does not say what time it is, so nothing can tell whether this machine's clock is right"
    )]
    Unknown,
    /// The two differ.
    #[error("this machine's clock says {ours} and the server's {theirs}; set the wrong one right")]
    Apart {
        /// This machine's.
        ours: Timestamp,
        /// The remote's.
        theirs: Timestamp,
    },
}

/// The time to decide by: the earlier of two clocks that agree, one here and one on the remote.
///
/// What is removed cannot be brought back, so one clock that jumped ahead must not be believed. `ahead` is how far the
/// remote's clock is before `ours`; `None` if the remote does not tell.
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
