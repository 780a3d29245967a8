//! The clocks of this machine and of the remotes, as they were last compared.
//!
//! A remote whose clock differs from ours takes no environments: their ends are written by one clock and reached by the
//! other. [`lnplaylive_core::clocks`] has the rules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::clocks::{self, WrongClock};
use provisioner::RemoteReport;
use tokio::time::Instant;

use super::interfaces::Clock;
use super::order_handle::lock;

/// A time, and the moment at which it was that time.
#[derive(Debug, Clone, Copy)]
struct Reading {
    shown: Timestamp,
    at: Instant,
}

impl Reading {
    /// The time now, by a clock that nobody has set since.
    fn now(&self) -> Timestamp {
        later(self.shown, self.at.elapsed())
    }
}

/// What is known about one remote's clock.
#[derive(Debug, Default)]
struct RemoteClock {
    /// The remote's time in its last report with one.
    theirs: Option<Reading>,
    /// The later of both clocks when they last agreed.
    agreed: Option<Reading>,
    /// The problem with it in the last report with a time.
    wrong: Option<WrongClock>,
}

/// The clocks, by remote.
#[derive(Debug)]
pub struct Clocks {
    ours: Arc<dyn Clock>,
    remotes: Mutex<BTreeMap<String, RemoteClock>>,
}

impl Clocks {
    /// Nothing is known before the first report.
    pub fn new(ours: Arc<dyn Clock>) -> Self {
        Self { ours, remotes: Mutex::default() }
    }

    /// Compares the clocks, and puts the reason in place of the load of a remote whose clock is wrong.
    pub fn check(&self, reports: &mut [RemoteReport]) {
        let (ours, at) = (self.ours.now(), Instant::now());
        let ahead = |report: &RemoteReport| report.load.as_ref().ok()?.clock_ahead;
        let aheads: Vec<_> = reports.iter().map(ahead).collect();
        let problems = clocks::check(ours, &aheads);
        let mut remotes = lock(&self.remotes);
        for ((report, ahead), wrong) in reports.iter_mut().zip(aheads).zip(problems) {
            let Some(ahead) = ahead else { continue };
            let name = &report.name;
            let theirs = ours.saturating_add(ahead).expect("a duration without calendar units can be added");
            let clock = remotes.entry(name.clone()).or_default();
            let was_wrong = clock.wrong.is_some();
            clock.theirs = Some(Reading { shown: theirs, at });
            clock.wrong = wrong;
            match wrong {
                None => {
                    clock.agreed = Some(Reading { shown: theirs.max(ours), at });
                    if was_wrong {
                        tracing::warn!("remote {name:?}: the clocks agree again, it is used again");
                    }
                }
                Some(wrong) => {
                    if !was_wrong {
                        tracing::error!("remote {name:?}: nothing more is sold or placed there: {wrong}");
                    }
                    report.load = Err(wrong.to_string());
                }
            }
        }
    }

    /// The time from which to count the paid hours of an environment on a remote. Fails if the clocks differ and have not
    /// agreed since the start.
    pub fn start_of_hours(&self, remote: &str) -> Result<Timestamp, WrongClock> {
        let remotes = lock(&self.remotes);
        let clock = remotes.get(remote);
        let measured = clock.and_then(|clock| clock.agreed).map(|agreed| agreed.now());
        clocks::start_of_hours(self.ours.now(), measured, clock.and_then(|clock| clock.wrong))
    }

    /// The time to remove records by; `None` unless a remote has confirmed it for less than `valid_for`.
    pub fn confirmed(&self, valid_for: Duration) -> Option<Timestamp> {
        let ours = self.ours.now();
        let remotes = lock(&self.remotes);
        let readings = remotes.values().filter_map(|clock| clock.theirs);
        let fresh = readings.filter(|reading| reading.at.elapsed() < valid_for);
        clocks::confirmed_time(ours, fresh.map(|reading| reading.now().duration_since(ours)))
    }
}

/// `time + wait`, or the end of time.
fn later(time: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| time.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}
