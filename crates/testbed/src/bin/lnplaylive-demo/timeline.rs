//! The times of events.

use std::time::Instant;

use serde::{Serialize, Serializer};

/// Milliseconds since the start, by name, in the order in which they were recorded.
#[derive(Debug)]
pub(crate) struct Timeline {
    start: Instant,
    marks: Vec<(String, u64)>,
}

impl Timeline {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, marks: Vec::new() }
    }

    /// Records the time of an event; only its first time counts.
    pub(crate) fn mark(&mut self, name: &str) {
        if self.at(name).is_none() {
            let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.marks.push((name.to_owned(), now));
        }
    }

    /// Records the time between two events.
    pub(crate) fn span(&mut self, name: &str, from: &str, to: &str) {
        if let (Some(from), Some(to)) = (self.at(from), self.at(to)) {
            self.marks.push((name.to_owned(), to.saturating_sub(from)));
        }
    }

    pub(crate) fn at(&self, name: &str) -> Option<u64> {
        self.marks.iter().find(|(known, _)| known == name).map(|(_, at)| *at)
    }
}

impl Serialize for Timeline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.marks.iter().map(|(name, at)| (name, at)))
    }
}
