//! Answers when an order's status is no longer the one that the caller knows.

use std::sync::Arc;
use std::time::Duration;

use lnplaylive_core::OrderId;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use super::error::ShopError;
use super::interfaces::Clock;
use super::order_book::{Found, OrderBook};
use super::probes::Probes;
use super::snapshot::Snapshot;

/// Most callers that wait at a time. Each holds a connection to the node; any more are answered at once.
const MAX_WAITING: usize = 1000;

/// Lets callers wait for changes.
#[derive(Debug)]
pub struct StatusWatch {
    orders: Arc<OrderBook>,
    probes: Arc<Probes>,
    clock: Arc<dyn Clock>,
    waiting: Semaphore,
}

impl StatusWatch {
    /// Watches the orders of this book, and the health of their environments.
    pub fn new(orders: Arc<OrderBook>, probes: Arc<Probes>, clock: Arc<dyn Clock>) -> Self {
        Self { orders, probes, clock, waiting: Semaphore::new(MAX_WAITING) }
    }

    /// The order as soon as its revision is not `known`, at the latest after `limit`.
    pub async fn wait(&self, id: OrderId, known: u64, limit: Duration) -> Result<Snapshot, ShopError> {
        let deadline = Instant::now() + limit;
        match self.waiting.try_acquire() {
            Ok(_permit) => self.wait_until(id, known, deadline).await,
            Err(_) => Ok(self.probes.shown(self.orders.find_for_buyer(id).await?.snapshot())),
        }
    }

    async fn wait_until(&self, id: OrderId, known: u64, deadline: Instant) -> Result<Snapshot, ShopError> {
        // Before the look, so that no change between the two is missed.
        let mut closed_changed = self.orders.closed_changed();
        let mut health_changed = self.probes.changed();
        let mut found = self.orders.find_for_buyer(id).await?;
        loop {
            let mut shown = match &found {
                Found::Open(handle) => Some(handle.watch()),
                Found::Closed(_) => None,
            };
            health_changed.mark_unchanged();
            let snapshot = match &mut shown {
                Some(shown) => shown.borrow_and_update().clone(),
                None => found.snapshot(),
            };
            let snapshot = self.probes.shown(snapshot);
            let now = self.clock.now();
            if snapshot.revision(now) != known || Instant::now() >= deadline {
                return Ok(snapshot);
            }
            // The status may change by time alone. A moment later, so that it has.
            let until = snapshot.changes_at().map_or(deadline, |at| {
                let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
                deadline.min(Instant::now() + wait + Duration::from_millis(1))
            });
            let changed = async {
                let Some(shown) = &mut shown else { return std::future::pending().await };
                // We hold the handle, so its sender lives.
                drop(shown.changed().await);
            };
            tokio::select! {
                () = changed => {}
                () = sleep_until(until) => {}
                // Perhaps that of another one. The probes, which have the sender, live.
                _ = health_changed.changed() => {}
                // It may be open again, or its record another one. The book, which has the sender, lives.
                _ = closed_changed.changed() => found = self.orders.find_for_buyer(id).await?,
            }
        }
    }
}
