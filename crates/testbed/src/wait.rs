//! Waits for conditions, with time-outs.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::{Error, Result};

/// Polling interval. Short compared to what daemons take, long compared to the cost of a check.
const INTERVAL: Duration = Duration::from_millis(20);

/// The result of one check of a condition.
#[derive(Debug)]
pub enum Step<T> {
    /// The condition holds.
    Done(T),
    /// It does not hold yet; the text is the status, which is shown after a time-out.
    NotYet(String),
}

/// Repeats `probe` until it is done, fails, or `within` has passed; that error contains the last status.
///
/// A check that takes longer than the remaining time is cancelled.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<Step<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut last = "nothing".to_owned();
    while let Ok(step) = timeout_at(deadline, probe()).await {
        match step? {
            Step::Done(found) => return Ok(found),
            Step::NotYet(status) => last = status,
        }
        if Instant::now() >= deadline {
            break;
        }
        sleep(INTERVAL).await;
    }
    Err(Error::TimedOut { what: what.into(), waited: within, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_time_out_shows_the_last_status_seen() {
        let mut looks = 0;
        let never = until::<()>("the moon", Duration::from_millis(50), async || {
            looks += 1;
            Ok(Step::NotYet(format!("look {looks}")))
        });
        let error = never.await.expect_err("it never comes");
        assert_eq!(
            error.to_string(),
            format!("timed out after 0.05 s waiting for the moon; last seen: look {looks}")
        );
        assert!(looks >= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_cut_short() {
        let hangs = until::<()>("an answer", Duration::from_secs(1), async || std::future::pending().await);
        assert!(matches!(hangs.await, Err(Error::TimedOut { .. })));
    }
}
