//! The clocks of this machine and of the remotes: whether they agree, and the time to decide by.
//!
//! An environment's end is written by one machine's clock and reached by another's. The shop counts paid hours from the
//! *later* of the clocks that it knows, and whatever removes something for good decides by the *earlier* one, so that a clock that
//! is wrong, or was set right meanwhile, costs no buyer an hour.

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

/// The most that the clocks of this machine and a remote may differ. Machines that synchronise their clocks agree to a
/// second; one that does not drifts by minutes in a year.
pub const MAX_SKEW: SignedDuration = SignedDuration::from_mins(10);

/// 2026-01-01T00:00:00Z. This program is younger, so a clock that shows less was reset.
const EPOCH: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// A clock that cannot be trusted. Nothing is placed or removed on the remote until it is corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WrongClock {
    /// This machine's clock is far in the past.
    #[error("this machine's clock shows {0}, which is in the past; set it")]
    Ours(Timestamp),
    /// The remotes agree with each other, and not with this machine.
    #[error(
        "this machine's clock shows {ours}, and those of all {servers} servers that answer about {theirs}; set this \
         machine's clock"
    )]
    Outvoted {
        /// This machine's time.
        ours: Timestamp,
        /// This remote's time.
        theirs: Timestamp,
        /// The number of remotes that agree.
        servers: usize,
    },
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

/// `ours` and what a clock shows that is ahead of it by `ahead`.
fn other(ours: Timestamp, ahead: SignedDuration) -> Timestamp {
    ours.saturating_add(ahead).expect("a duration without calendar units can be added")
}

/// True if two clocks agree of which one is ahead of the other by `ahead`.
fn agree(ahead: SignedDuration) -> bool {
    ahead.unsigned_abs() <= MAX_SKEW.unsigned_abs()
}

/// The time to remove things by: the earlier of two clocks that agree, this machine's and the remote's.
///
/// A removal cannot be undone, so a single clock that jumped ahead must not cause one. `ahead` is how far the remote's
/// clock is ahead of `ours`; `None` if the remote does not tell its time.
pub fn agreed_time(ours: Timestamp, ahead: Option<SignedDuration>) -> Result<Timestamp, WrongClock> {
    if ours < EPOCH {
        return Err(WrongClock::Ours(ours));
    }
    let ahead = ahead.ok_or(WrongClock::Unknown)?;
    let theirs = other(ours, ahead);
    if agree(ahead) { Ok(ours.min(theirs)) } else { Err(WrongClock::Apart { ours, theirs }) }
}

/// The time to remove the shop's own records by: the earliest of this machine's clock and the remotes' that agree with it.
/// `None` while no remote's does. `aheads` is how far each is ahead of `ours`.
pub fn confirmed_time(
    ours: Timestamp,
    aheads: impl IntoIterator<Item = SignedDuration>,
) -> Option<Timestamp> {
    aheads.into_iter().filter_map(|ahead| agreed_time(ours, Some(ahead)).ok()).min()
}

/// The problem with the clock of each remote, or with ours as it shows there. `aheads` is how far each is ahead of `ours`;
/// `None` if that is not known, which is no problem.
///
/// If several remotes tell their time and all agree against this machine, it is this machine's clock that is wrong.
pub fn check(ours: Timestamp, aheads: &[Option<SignedDuration>]) -> Vec<Option<WrongClock>> {
    let known = || aheads.iter().flatten().copied();
    let servers = known().count();
    let spread = known().max().zip(known().min()).map(|(last, first)| last.saturating_sub(first));
    let outvoted = servers > 1 && spread.is_some_and(agree) && known().all(|ahead| !agree(ahead));
    let problem = |ahead: SignedDuration| match agreed_time(ours, Some(ahead)) {
        Err(WrongClock::Apart { ours, theirs }) if outvoted => {
            Some(WrongClock::Outvoted { ours, theirs, servers })
        }
        result => result.err(),
    };
    aheads.iter().map(|ahead| ahead.and_then(problem)).collect()
}

/// The time from which to count paid hours: the latest that is known.
///
/// `measured` is a time at which the remote's clock agreed with `ours`, plus the time that has passed since by a clock that
/// nobody sets. Without it, as after a restart, a clock that is `wrong` leaves the time unknown.
pub fn start_of_hours(
    ours: Timestamp,
    measured: Option<Timestamp>,
    wrong: Option<WrongClock>,
) -> Result<Timestamp, WrongClock> {
    match (measured, wrong) {
        (Some(measured), _) => Ok(measured.max(ours)),
        (None, Some(wrong)) => Err(wrong),
        (None, None) => Ok(ours),
    }
}
