//! A circuit breaker for each remote: after several faults of the remote in a row nothing is placed or sold there until a
//! trial environment works.
//!
//! ```text
//!           faults in a row              pause over             trial works
//! closed ------------------> open ------------------> half-open ------------> closed
//!                             ^                           |
//!                             +------- trial fails -------+  (the pause doubles)
//! ```

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::order::{Order, doubled};

/// Longest pause between two trials.
const MAX_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// Limits of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Faults in a row that open it. At least 1.
    pub faults: u32,
    /// Pause before the first trial; doubles with each failed one, up to an hour.
    pub pause: SignedDuration,
}

/// State of a breaker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Circuit {
    /// The remote is used.
    #[default]
    Closed,
    /// The remote is not used.
    Open {
        /// Time of the next trial.
        next_trial_at: Timestamp,
        /// Trials that failed in a row.
        failed_trials: u32,
    },
    /// The remote is not used; a trial is under way.
    HalfOpen {
        /// Time at which it began.
        began_at: Timestamp,
        /// Trials that failed in a row before this one.
        failed_trials: u32,
    },
}

/// The breaker of one remote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Breaker {
    /// Its state.
    pub circuit: Circuit,
    /// Faults since an environment last worked.
    pub faults: u32,
    /// Time and reason of the last fault.
    pub last_fault: Option<(Timestamp, String)>,
    /// Time at which an environment last worked.
    pub worked_at: Option<Timestamp>,
}

impl Breaker {
    /// The breaker as it can be told from the open orders after a restart. One that has to be open is due for a trial at
    /// once, because the remote may have been mended meanwhile.
    pub fn restored<'a>(
        remote: &str,
        orders: impl IntoIterator<Item = &'a Order>,
        now: Timestamp,
        limits: &Limits,
    ) -> Self {
        let faults_of =
            |order: &Order| order.state.attempts().and_then(|a| a.remote_faults.get(remote).copied());
        let faults = orders.into_iter().filter_map(faults_of).sum();
        let circuit = if faults >= limits.faults {
            Circuit::Open { next_trial_at: now, failed_trials: 0 }
        } else {
            Circuit::Closed
        };
        Self { circuit, faults, last_fault: None, worked_at: None }
    }

    /// True if environments may be sold and placed on the remote.
    pub fn is_closed(&self) -> bool {
        self.circuit == Circuit::Closed
    }

    /// True if an environment has worked since `time`, so that a later fault is more likely the order's than the remote's.
    pub fn worked_since(&self, time: Timestamp) -> bool {
        self.worked_at.is_some_and(|at| at >= time)
    }

    /// Records a fault of the remote. True if this opens the breaker.
    pub fn fault(&mut self, reason: &str, now: Timestamp, limits: &Limits) -> bool {
        self.faults = self.faults.saturating_add(1);
        self.last_fault = Some((now, reason.to_owned()));
        let opens = self.is_closed() && self.faults >= limits.faults;
        if opens {
            self.open(0, now, limits);
        }
        opens
    }

    /// Records an environment that works. True if this closes the breaker.
    pub fn works(&mut self, now: Timestamp) -> bool {
        self.faults = 0;
        self.worked_at = Some(now);
        let was_closed = self.is_closed();
        self.circuit = Circuit::Closed;
        !was_closed
    }

    /// Moves an open breaker that is due to half-open. True if a trial is to be made now.
    pub fn begin_trial(&mut self, now: Timestamp) -> bool {
        let (failed_trials, due_at) = match self.circuit {
            Circuit::Closed => return false,
            Circuit::Open { next_trial_at, failed_trials } => (failed_trials, Some(next_trial_at)),
            // One that has taken longer than any may has been lost.
            Circuit::HalfOpen { began_at, failed_trials } => {
                (failed_trials, began_at.checked_add(MAX_PAUSE).ok())
            }
        };
        let left = due_at.unwrap_or(Timestamp::MAX).duration_since(now);
        // A pause that is longer than any: the clock was set back.
        let due = left <= SignedDuration::ZERO || left > MAX_PAUSE;
        if due {
            self.circuit = Circuit::HalfOpen { began_at: now, failed_trials };
        }
        due
    }

    /// Records a trial that failed.
    pub fn trial_failed(&mut self, reason: &str, now: Timestamp, limits: &Limits) {
        self.last_fault = Some((now, reason.to_owned()));
        // It may have been closed meanwhile by an order that was under way.
        if let Circuit::HalfOpen { failed_trials, .. } = self.circuit {
            self.open(failed_trials.saturating_add(1), now, limits);
        }
    }

    /// Makes the trial of an open breaker due.
    pub fn try_now(&mut self, now: Timestamp) {
        if let Circuit::Open { next_trial_at, .. } = &mut self.circuit {
            *next_trial_at = now;
        }
    }

    fn open(&mut self, failed_trials: u32, now: Timestamp, limits: &Limits) {
        let pause = doubled(limits.pause, failed_trials.saturating_add(1), MAX_PAUSE);
        let next_trial_at = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        self.circuit = Circuit::Open { next_trial_at, failed_trials };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { faults: 3, pause: SignedDuration::from_mins(5) };

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + 60 * minute).expect("in range")
    }

    fn open() -> Breaker {
        let mut breaker = Breaker::default();
        let opened: Vec<_> = (0..3).map(|_| breaker.fault("full", at(0), &LIMITS)).collect();
        assert_eq!(opened, [false, false, true], "told once");
        breaker
    }

    #[test]
    fn faults_in_a_row_open_it() {
        let mut breaker = open();
        assert!(!breaker.is_closed());
        assert!(!breaker.fault("full", at(1), &LIMITS), "of an order that was under way: nothing new");
        let mut breaker = Breaker::default();
        breaker.fault("full", at(0), &LIMITS);
        breaker.fault("full", at(0), &LIMITS);
        assert!(!breaker.works(at(1)), "it was closed");
        assert!(!breaker.fault("full", at(2), &LIMITS) && breaker.is_closed(), "the row was interrupted");
    }

    #[test]
    fn one_trial_is_made_after_each_pause_and_the_pauses_double() {
        let mut breaker = open();
        let mut now = 0;
        for pause in [5, 10, 20, 40, 60, 60] {
            assert!(!breaker.begin_trial(at(now + pause - 1)), "{pause}");
            assert!(breaker.begin_trial(at(now + pause)), "{pause}");
            assert!(!breaker.begin_trial(at(now + pause)), "one at a time");
            assert!(!breaker.is_closed(), "nothing is sold during a trial");
            now += pause;
            breaker.trial_failed("full", at(now), &LIMITS);
        }
        assert!(breaker.begin_trial(at(now + 60)));
        assert!(breaker.works(at(now + 61)) && breaker.is_closed());
    }

    #[test]
    fn an_order_under_way_that_works_closes_it() {
        let mut breaker = open();
        assert!(breaker.begin_trial(at(5)));
        assert!(breaker.works(at(6)));
        breaker.trial_failed("full", at(7), &LIMITS);
        assert!(breaker.is_closed(), "the trial began before");
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_keep_it_open() {
        assert!(open().begin_trial(at(-600)));
        assert!(!open().begin_trial(at(-5)));
    }

    #[test]
    fn an_operator_may_ask_for_the_trial() {
        let mut breaker = open();
        breaker.try_now(at(1));
        assert!(breaker.begin_trial(at(1)));
    }
}
