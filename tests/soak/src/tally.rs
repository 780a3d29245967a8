//! Counts of what was done.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// The groups of counts, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Orders, by what became of them.
    Orders,
    /// Payments, by when they were made.
    Payments,
    /// Crashes, by what was killed.
    Crashes,
    /// What the plugin did not get.
    Lost,
    /// Faults of calls that remotes had, by kind.
    Faults,
    /// Calls of the remotes' API that had a fault.
    FaultyCalls,
    /// Other faults of remotes.
    Remotes,
    /// Calls of the operator, by method and result.
    Operator,
    /// Requests to the web shop's server, by answer.
    Visitors,
    /// Steps of clocks.
    Clock,
    /// Passes of the culler, and what they removed.
    Culler,
    /// What was checked.
    Checks,
}

/// Counts by group and name.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<(Group, String), u64>>);

impl Tally {
    /// Adds one.
    pub fn one(&self, group: Group, name: impl Into<String>) {
        self.add(group, name, 1);
    }

    /// Adds `count`.
    pub fn add(&self, group: Group, name: impl Into<String>, count: u64) {
        *self.lock().entry((group, name.into())).or_default() += count;
    }

    /// The sum of a group.
    pub fn sum(&self, group: Group) -> u64 {
        self.lock().iter().filter(|((of, _), _)| *of == group).map(|(_, count)| count).sum()
    }

    /// One count.
    pub fn count(&self, group: Group, name: &str) -> u64 {
        self.lock().get(&(group, name.to_owned())).copied().unwrap_or(0)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Group, String), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line for each count.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = None;
        for ((group, name), count) in &*self.lock() {
            if last != Some(*group) {
                let title = match group {
                    Group::Orders => "orders",
                    Group::Payments => "payments",
                    Group::Crashes => "crashes",
                    Group::Lost => "lost",
                    Group::Faults => "faults of the remotes' API, by kind",
                    Group::FaultyCalls => "faults of the remotes' API, by call",
                    Group::Remotes => "other faults of remotes",
                    Group::Operator => "operator's calls",
                    Group::Visitors => "requests to the web shop",
                    Group::Clock => "clock",
                    Group::Culler => "culler",
                    Group::Checks => "checks",
                };
                writeln!(f, "{title}")?;
                last = Some(*group);
            }
            writeln!(f, "  {count:>8}  {name}")?;
        }
        Ok(())
    }
}
