//! Clocks that differ: which time counts, and whose clock is called wrong.

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::clocks::{MAX_SKEW, WrongClock, agreed_time, check, confirmed_time, start_of_hours};

const NOW: i64 = 1_800_000_000;
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn now_and(ahead: SignedDuration) -> Timestamp {
    at(NOW + ahead.as_secs())
}

#[test]
fn one_clock_alone_is_not_believed() {
    let now = at(NOW);
    let second = SignedDuration::from_secs(1);
    let years = SignedDuration::from_hours(24 * 365 * 30);
    assert_eq!(agreed_time(now, Some(SignedDuration::ZERO)), Ok(now));
    assert_eq!(agreed_time(now, Some(MAX_SKEW)), Ok(now), "the earlier one");
    assert_eq!(agreed_time(now, Some(-MAX_SKEW)), Ok(at(NOW - MAX_SKEW.as_secs())));
    for ahead in [MAX_SKEW + second, -MAX_SKEW - second, years, -years] {
        let theirs = at(NOW + ahead.as_secs());
        assert_eq!(agreed_time(now, Some(ahead)), Err(WrongClock::Apart { ours: now, theirs }));
    }
    for ahead in [SignedDuration::MAX, SignedDuration::MIN] {
        assert!(matches!(agreed_time(now, Some(ahead)), Err(WrongClock::Apart { .. })));
    }
    assert_eq!(agreed_time(now, None), Err(WrongClock::Unknown));
    let early = "2025-12-31T23:59:59Z".parse().expect("a time");
    assert_eq!(agreed_time(early, Some(SignedDuration::ZERO)), Err(WrongClock::Ours(early)));
    assert!(agreed_time("2026-01-01T00:00:00Z".parse().expect("a time"), Some(second)).is_ok());
}

#[test]
fn a_record_is_removed_only_by_a_time_that_a_remote_confirms() {
    let now = at(NOW);
    assert_eq!(confirmed_time(now, []), None);
    assert_eq!(confirmed_time(now, [HOUR * 10]), None);
    assert_eq!(confirmed_time(now, [HOUR, MINUTE]), Some(now));
    assert_eq!(confirmed_time(now, [MINUTE, -MINUTE, -HOUR]), Some(now_and(-MINUTE)));
}

#[test]
fn a_remote_whose_clock_is_wrong_is_named() {
    let problems = check(at(NOW), &[Some(MINUTE), None, Some(HOUR)]);
    let apart = WrongClock::Apart { ours: at(NOW), theirs: now_and(HOUR) };
    assert_eq!(problems, [None, None, Some(apart)]);
    // With one remote alone nobody knows.
    assert_eq!(check(at(NOW), &[Some(HOUR), None]), [Some(apart), None]);
    // They agree neither with us nor with each other.
    assert!(matches!(
        check(at(NOW), &[Some(HOUR), Some(-HOUR)])[..],
        [Some(WrongClock::Apart { .. }), Some(WrongClock::Apart { .. })]
    ));
    assert_eq!(check(at(NOW), &[]), []);
}

#[test]
fn this_machines_clock_is_called_wrong_if_all_remotes_agree_against_it() {
    let ahead = HOUR * 3;
    let problems = check(at(NOW), &[Some(ahead), None, Some(ahead + MINUTE)]);
    let outvoted = |ahead| Some(WrongClock::Outvoted { ours: at(NOW), theirs: now_and(ahead), servers: 2 });
    assert_eq!(problems, [outvoted(ahead), None, outvoted(ahead + MINUTE)]);
    let sentence = problems[0].expect("wrong").to_string();
    assert!(sentence.ends_with("set this machine's clock"), "{sentence}");
}

#[test]
fn paid_hours_begin_at_the_latest_time_that_is_known() {
    let now = at(NOW);
    let apart = WrongClock::Apart { ours: now, theirs: now_and(HOUR) };
    assert_eq!(start_of_hours(now, None, None), Ok(now));
    assert_eq!(start_of_hours(now, Some(now_and(-HOUR)), None), Ok(now), "ours was set ahead");
    for wrong in [None, Some(apart)] {
        assert_eq!(start_of_hours(now, Some(now_and(HOUR)), wrong), Ok(now_and(HOUR)), "ours was set back");
    }
    assert_eq!(start_of_hours(now, None, Some(apart)), Err(apart), "nobody knows");
}
