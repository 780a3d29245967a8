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

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_is_logged_when_it_changes_and_once_a_day() {
        let mut reminder = Reminder::default();
        let mut logged = 0;
        // An attempt a minute, for three days.
        for _ in 0..3 * 24 * 60 {
            logged += u32::from(reminder.is_due("no answer"));
            advance(Duration::from_secs(60)).await;
        }
        assert_eq!(logged, 3);
        assert!(reminder.is_due("refused") && !reminder.is_due("refused"));
    }
}
