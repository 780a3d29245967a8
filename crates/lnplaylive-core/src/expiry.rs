//! The end of an environment.
//!
//! It is decided twice. The project's name, which cannot change later, holds the paid hours counted from the latest time
//! at which provisioning may be done. At the hand-over the paid hours are counted anew, so that the buyer gets all of
//! them however long provisioning took; the later end counts.

use jiff::{SignedDuration, Timestamp};

use crate::ids::{OrderId, ProjectName};

/// The end of `hours` that begin at `start`.
pub fn paid_until(start: Timestamp, hours: u32) -> Timestamp {
    later(start, SignedDuration::from_hours(hours.into()))
}

/// The name of the project of an order that is placed at `now`: it ends when the paid hours are over, counted from the
/// end of `allowance`, the time that provisioning may take. A name in `taken` may still be on a remote and is passed
/// over.
///
/// # Panics
///
/// If `now` is before 1970 or within an order's lifetime of the last representable time.
pub fn project_name(
    order: OrderId,
    hours: u32,
    allowance: SignedDuration,
    taken: &[ProjectName],
    now: Timestamp,
) -> ProjectName {
    let first = later(paid_until(now, hours), allowance);
    (0..=taken.len())
        .map(|second| {
            let second = i64::try_from(second).expect("few names are taken");
            let expires = later(first, SignedDuration::from_secs(second));
            ProjectName::new(expires, order).expect("a time from now on can be written")
        })
        .find(|name| !taken.contains(name))
        .expect("fewer names are taken than were tried")
}

/// The end of an environment that is handed over at `now`.
pub fn handover_end(project: ProjectName, hours: u32, now: Timestamp) -> Timestamp {
    paid_until(now, hours).max(project.expires())
}

/// `time + wait`, or the last representable time.
fn later(time: Timestamp, wait: SignedDuration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    #[test]
    fn the_buyer_gets_the_paid_hours_however_long_provisioning_takes() {
        let (order, allowance) = (OrderId::random(), SignedDuration::from_mins(10));
        let name = project_name(order, 2, allowance, &[], at(0));
        assert_eq!(name.expires(), at(2 * 3600 + 600));
        assert_eq!(handover_end(name, 2, at(60)), name.expires(), "within the allowance");
        assert_eq!(handover_end(name, 2, at(3600)), at(3 * 3600), "beyond it");
    }

    #[test]
    fn a_name_that_may_still_be_on_a_remote_is_not_used_again() {
        let (order, allowance) = (OrderId::random(), SignedDuration::ZERO);
        let mut taken = vec![];
        for second in 0..3 {
            let name = project_name(order, 1, allowance, &taken, at(0));
            assert_eq!(name.expires(), at(3600 + second));
            taken.push(name);
        }
        let other = project_name(OrderId::random(), 1, allowance, &taken, at(0));
        assert_eq!(other.expires(), at(3600), "of another order");
    }
}
