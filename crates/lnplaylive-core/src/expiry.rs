//! The end of an environment.
//!
//! It is decided twice. The project's name, which cannot change later, holds the owed time (the paid hours; of a replacement,
//! what was left of them) counted from the latest time at which provisioning may be done. At the hand-over the owed time is
//! counted anew, so that the buyer gets all of it however long provisioning took; the later end counts.

use jiff::{SignedDuration, Timestamp};

use crate::ids::{OrderId, ProjectName};

/// The name of the project of an order that is placed at `now`: it ends when the `owed` time is over, counted from the
/// end of `allowance`, the time that provisioning may take. A name in `taken` may still be on a remote and is passed
/// over.
///
/// # Panics
///
/// If `now` is before 1970 or within an order's lifetime of the last representable time.
pub fn project_name(
    order: OrderId,
    owed: SignedDuration,
    allowance: SignedDuration,
    taken: &[ProjectName],
    now: Timestamp,
) -> ProjectName {
    let first = later(later(now, owed), allowance);
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
pub fn handover_end(project: ProjectName, owed: SignedDuration, now: Timestamp) -> Timestamp {
    later(now, owed).max(project.expires())
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

    fn hours(count: i64) -> SignedDuration {
        SignedDuration::from_hours(count)
    }

    #[test]
    fn the_buyer_gets_the_paid_hours_however_long_provisioning_takes() {
        let (order, allowance) = (OrderId::random(), SignedDuration::from_mins(10));
        let name = project_name(order, hours(2), allowance, &[], at(0));
        assert_eq!(name.expires(), at(2 * 3600 + 600));
        assert_eq!(handover_end(name, hours(2), at(60)), name.expires(), "within the allowance");
        assert_eq!(handover_end(name, hours(2), at(3600)), at(3 * 3600), "beyond it");
    }

    #[test]
    fn a_name_that_may_still_be_on_a_remote_is_not_used_again() {
        let (order, allowance) = (OrderId::random(), SignedDuration::ZERO);
        let mut taken = vec![];
        for second in 0..3 {
            let name = project_name(order, hours(1), allowance, &taken, at(0));
            assert_eq!(name.expires(), at(3600 + second));
            taken.push(name);
        }
        let other = project_name(OrderId::random(), hours(1), allowance, &taken, at(0));
        assert_eq!(other.expires(), at(3600), "of another order");
    }
}
