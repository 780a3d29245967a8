//! Decides when a condition that lasts is logged again.

use std::time::Duration;

use tokio::time::Instant;

/// Time after which an unchanged condition is logged again.
const INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// A condition that is logged when it begins and when it changes, and once a day while it lasts.
#[derive(Debug, Default)]
pub struct Reminder {
    last: Option<(String, Instant)>,
}

impl Reminder {
    /// True if the condition is to be logged now. `text` says what it is.
    pub fn is_due(&mut self, text: &str) -> bool {
        let known = self.last.as_ref().is_some_and(|(last, at)| last == text && at.elapsed() < INTERVAL);
        if !known {
            self.last = Some((text.to_owned(), Instant::now()));
        }
        !known
    }
}
