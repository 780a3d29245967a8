//! Environments that are prepared before anybody has bought them: how long one is kept, and which orders it is for.
//!
//! One is created and booted, and nothing more: keys, runes and ids of nodes are made once an order has taken it over. Its project
//! ends like any other, by its name, so the culler removes what a crash has left.

use jiff::{SignedDuration, Timestamp};

use crate::ids::{OrderId, ProjectName};

/// The lifetime of a prepared environment that nobody buys. No longer than the least that is sold, an hour: the end in the name
/// counts as long as the project is there, and is not to give a buyer more than was paid for.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(1);

/// One with less than this to its end is replaced by another.
const RENEWED_BEFORE: SignedDuration = SignedDuration::from_mins(10);

/// One with less than this to its end is no longer taken over: the step that does it may have to be repeated, and the culler
/// removes it at its end.
const TAKEN_BEFORE: SignedDuration = SignedDuration::from_mins(2);

/// The name of a project that is prepared at `now` under this id.
///
/// # Panics
///
/// If `now` is before 1970 or close to the last representable time.
pub fn project_name(id: OrderId, now: Timestamp) -> ProjectName {
    ProjectName::new(later(now, LIFETIME), id).expect("a time from now on can be written")
}

/// True if another one should take its place.
pub fn is_due_for_renewal(project: ProjectName, now: Timestamp) -> bool {
    later(now, RENEWED_BEFORE) >= project.expires()
}

/// True if it is too close to its end for any order.
pub fn is_over(project: ProjectName, now: Timestamp) -> bool {
    later(now, TAKEN_BEFORE) >= project.expires()
}

/// True if an order that is owed this time can take it over.
pub fn suits(project: ProjectName, owed: SignedDuration, now: Timestamp) -> bool {
    !is_over(project, now) && project.expires() <= later(now, owed)
}

/// The end that a project has from the time at which an order takes it over: the `owed` time is counted from the end of
/// `allowance`, the time that provisioning may take, as in the name of one that is made for the order.
pub fn end_when_taken(owed: SignedDuration, allowance: SignedDuration, now: Timestamp) -> Timestamp {
    later(later(now, owed), allowance)
}

/// `time + wait`, or the last representable time.
fn later(time: Timestamp, wait: SignedDuration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minute).expect("in range")
    }

    fn minutes(count: i64) -> SignedDuration {
        SignedDuration::from_mins(count)
    }

    #[test]
    fn it_is_taken_by_orders_that_end_later_and_not_in_its_last_minutes() {
        let id = OrderId::random();
        let project = project_name(id, at(0));
        assert_eq!((project.expires(), project.order_short()), (at(60), id.short()));
        assert!(suits(project, minutes(60), at(0)), "the least that is sold");
        assert!(!suits(project, minutes(30), at(0)), "what is left of an order would become longer");
        assert!(suits(project, minutes(30), at(30)));
        assert!(suits(project, minutes(60), at(57)) && !suits(project, minutes(60), at(58)));
    }

    #[test]
    fn it_is_renewed_before_it_is_over() {
        let project = project_name(OrderId::random(), at(0));
        assert!(!is_due_for_renewal(project, at(49)) && is_due_for_renewal(project, at(50)));
        assert!(!is_over(project, at(57)) && is_over(project, at(58)));
    }

    #[test]
    fn from_then_on_it_ends_as_if_it_had_been_made_for_the_order() {
        let (owed, allowance) = (minutes(120), minutes(15));
        let order = OrderId::random();
        let made = crate::expiry::project_name(order, owed, allowance, &[], at(7));
        assert_eq!(end_when_taken(owed, allowance, at(7)), made.expires());
    }
}
