//! Moves orders that have ended to the archive, and removes them from there after a time that the settings say.
//!
//! Neither can be undone: a record loses its connection strings, then goes. So both wait for a time that a remote's clock
//! confirms. Both do a little at a time, since the node answers one request after the other.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};

use super::availability::Availability;
use super::interfaces::{ArchivePart, NodeError};
use super::order_book::OrderBook;

/// Pause between two parts of the archive that are looked through. All of them take four hours.
const PART_PAUSE: Duration = Duration::from_secs(60);
/// Pause between two looks through the closed orders.
const CLOSED_PAUSE: Duration = Duration::from_secs(3600);
/// Pause after each record that is moved or removed, for the node's other callers.
const RECORD_PAUSE: Duration = Duration::from_millis(10);

/// The archive's keeper.
#[derive(Debug)]
pub struct Archivist {
    orders: Arc<OrderBook>,
    availability: Arc<Availability>,
    /// Time that an order is kept after its end; `None` for ever.
    retention: Option<SignedDuration>,
}

impl Archivist {
    /// Keeps orders for `retention` after their end, or for ever.
    pub fn new(
        orders: Arc<OrderBook>,
        availability: Arc<Availability>,
        retention: Option<SignedDuration>,
    ) -> Self {
        Self { orders, availability, retention }
    }

    /// Archives and removes, for ever.
    pub async fn run(&self) {
        self.orders.loaded().await;
        let mut archived_at = None::<Instant>;
        for part in ArchivePart::all().collect::<Vec<_>>().into_iter().cycle() {
            sleep(PART_PAUSE).await;
            if archived_at.is_none_or(|at| at.elapsed() >= CLOSED_PAUSE) {
                match self.archive_ended().await {
                    Ok(Some(count)) => {
                        archived_at = Some(Instant::now());
                        if count > 0 {
                            tracing::info!("archived {count} orders that have ended");
                        }
                    }
                    // The clock is not confirmed: in a minute.
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!("cannot archive orders that have ended, trying again: {error}");
                    }
                }
            }
            match self.remove_old(part).await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::info!("removed {count} orders that are older than closed_retention_days");
                }
                Err(error) => tracing::warn!("cannot look through the archive, trying again: {error}"),
            }
        }
    }

    fn confirmed_time(&self) -> Option<Timestamp> {
        self.availability.clocks.confirmed(self.availability.valid_for())
    }

    /// Archives the closed orders that have ended, and returns their number; `None` if the time is not confirmed.
    async fn archive_ended(&self) -> Result<Option<usize>, NodeError> {
        let Some(now) = self.confirmed_time() else { return Ok(None) };
        let closed = self.orders.closed().await?.readable;
        let ended = closed.into_iter().filter(|record| record.order.ended_at().is_some_and(|at| at <= now));
        // There may be many once, after an upgrade: only their ids are kept.
        let ended: Vec<_> = ended.map(|record| record.order.id).collect();
        let mut count = 0;
        for id in ended {
            count += usize::from(self.orders.archive(id, now).await?);
            sleep(RECORD_PAUSE).await;
        }
        Ok(Some(count))
    }

    /// Removes the orders from a part of the archive that are kept long enough, and returns their number.
    async fn remove_old(&self, part: ArchivePart) -> Result<usize, NodeError> {
        let (Some(retention), Some(now)) = (self.retention, self.confirmed_time()) else { return Ok(0) };
        let Ok(limit) = now.checked_sub(retention) else { return Ok(0) };
        let mut count = 0;
        for record in self.orders.archived(part).await?.readable {
            if record.order.ended_at().is_some_and(|at| at <= limit) {
                count += usize::from(self.orders.remove_archived(record.order.id, limit).await?);
                sleep(RECORD_PAUSE).await;
            }
        }
        Ok(count)
    }
}
