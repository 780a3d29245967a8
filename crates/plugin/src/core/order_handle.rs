//! One open order: its record, the snapshot that callers see, and its worker.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lnplaylive_core::order::{Policy, Refused};
use lnplaylive_core::progress::Progress;
use lnplaylive_core::{Event, Order, OrderId, State};
use thiserror::Error;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, Notify, OwnedSemaphorePermit, watch};
use tokio::time::sleep;

use super::interfaces::{Clock, NodeError, OrderList, OrderStore, Record};
use super::snapshot::Snapshot;
use super::tally::Tally;

/// Pause between two attempts to write a record.
const WRITE_RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Store, clock and policy, which every event is recorded with.
#[derive(Debug)]
pub struct Recorder {
    /// The stored orders.
    pub store: Arc<dyn OrderStore>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Retries and waits of orders.
    pub policy: Policy,
    /// Counts what happens.
    pub tally: Arc<Tally>,
}

/// One open order.
#[derive(Debug)]
pub struct OrderHandle {
    id: OrderId,
    /// Locked while the record is written.
    stored: AsyncMutex<Stored>,
    shown: watch::Sender<Snapshot>,
    tally: Arc<Tally>,
    /// Permit of an unpaid order; returned once the order is paid or removed.
    unpaid_permit: Mutex<Option<OwnedSemaphorePermit>>,
    has_worker: Mutex<bool>,
    wake: Notify,
    /// Changes with each [`OrderHandle::wake`].
    retried: watch::Sender<()>,
}

/// The record as it was last written or read.
#[derive(Debug)]
pub struct Stored {
    record: Record,
    /// A write was not answered, so the record must be read again before the next one.
    doubtful: bool,
}

impl Stored {
    /// The record as it was last written or read.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

/// An event that was not recorded.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The order's state does not allow the event.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The record could not be read or written.
    #[error("the record could not be written")]
    Store(#[from] NodeError),
    /// The record is no longer in the list of open orders.
    #[error("the record is gone")]
    Gone,
}

/// Locks a mutex whose contents change in single steps, so that a panic while it is held leaves nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OrderHandle {
    /// A handle for a record that was just read or written.
    pub fn new(record: Record, tally: Arc<Tally>, unpaid_permit: Option<OwnedSemaphorePermit>) -> Self {
        Self::with(Stored { record, doubtful: false }, tally, unpaid_permit)
    }

    /// A handle for a new record whose write was not answered, so that there may be one.
    pub fn doubtful(order: Order, tally: Arc<Tally>) -> Self {
        let record = Record { order, generation: 0 };
        Self::with(Stored { record, doubtful: true }, tally, None)
    }

    fn with(stored: Stored, tally: Arc<Tally>, unpaid_permit: Option<OwnedSemaphorePermit>) -> Self {
        let order = stored.record.order.clone();
        Self {
            id: order.id,
            stored: AsyncMutex::new(stored),
            shown: watch::Sender::new(Snapshot::of(order)),
            tally,
            unpaid_permit: Mutex::new(unpaid_permit),
            has_worker: Mutex::new(false),
            wake: Notify::new(),
            retried: watch::Sender::new(()),
        }
    }

    /// The order's id.
    pub fn id(&self) -> OrderId {
        self.id
    }

    /// The order and its progress now.
    pub fn snapshot(&self) -> Snapshot {
        self.shown.borrow().clone()
    }

    /// The order and its progress, now and after each change.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.shown.subscribe()
    }

    /// The order as it is recorded.
    pub fn order(&self) -> Order {
        self.shown.borrow().order.clone()
    }

    /// Passes the order as it is recorded to `look`, without a copy.
    pub fn with_order<T>(&self, look: impl FnOnce(&Order) -> T) -> T {
        look(&self.shown.borrow().order)
    }

    /// True if the order waits for its payment.
    pub fn is_unpaid(&self) -> bool {
        self.with_order(|order| order.state == State::Created)
    }

    /// Publishes progress. It is not recorded.
    pub fn show_progress(&self, progress: Progress) {
        self.shown.send_modify(|shown| {
            shown.progress = Some(progress);
            shown.ticks += 1;
        });
    }

    /// Ends the waits before the next attempts, at a step and at the removal of leftovers.
    pub fn wake(&self) {
        self.wake.notify_one();
        self.retried.send_replace(());
    }

    /// Changes with each [`OrderHandle::wake`], for any number of tasks.
    pub fn retries(&self) -> watch::Receiver<()> {
        self.retried.subscribe()
    }

    /// Returns when [`OrderHandle::wake`] is called, or has been since the last time. For the worker alone.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Claims the order for a worker; false if it has one.
    pub fn claim(&self) -> bool {
        !std::mem::replace(&mut *lock(&self.has_worker), true)
    }

    /// Ends a worker's claim.
    pub fn release(&self) {
        *lock(&self.has_worker) = false;
    }

    fn show(&self, order: &Order) {
        if order.state != State::Created {
            lock(&self.unpaid_permit).take();
        }
        let before = self.shown.send_replace(Snapshot::of(order.clone()));
        self.tally.note(&before.order, order);
    }

    /// Locks the record against other writers. It is read again first if an earlier write was not answered; `None` if it
    /// is then no longer in the list of open orders.
    pub async fn lock_record(
        &self,
        store: &dyn OrderStore,
    ) -> Result<Option<AsyncMutexGuard<'_, Stored>>, NodeError> {
        let mut stored = self.stored.lock().await;
        if stored.doubtful {
            match store.find(OrderList::Open, self.id).await? {
                Some(Ok(record)) => stored.record = record,
                Some(Err(_)) | None => return Ok(None),
            }
            stored.doubtful = false;
            self.show(&stored.record.order);
        }
        Ok(Some(stored))
    }

    /// Records an event, in one attempt.
    async fn try_apply(&self, recorder: &Recorder, event: Event) -> Result<(), ApplyError> {
        let store = recorder.store.as_ref();
        let mut stored = self.lock_record(store).await?.ok_or(ApplyError::Gone)?;
        let next = stored.record.order.apply(event, recorder.clock.now(), &recorder.policy)?;
        if next == stored.record.order {
            return Ok(());
        }
        match store.replace(&stored.record, next).await {
            Ok(record) => stored.record = record,
            Err(error) => {
                stored.doubtful = true;
                return Err(error.into());
            }
        }
        self.show(&stored.record.order);
        Ok(())
    }

    /// Records an event, and tries again for as long as the record cannot be written.
    pub async fn apply(&self, recorder: &Recorder, event: Event) -> Result<(), ApplyError> {
        loop {
            match self.try_apply(recorder, event.clone()).await {
                Err(ApplyError::Store(error)) => {
                    tracing::warn!("order {self}: cannot write its record, trying again: {error}");
                    sleep(WRITE_RETRY_PAUSE).await;
                }
                result => return result,
            }
        }
    }
}

impl fmt::Display for OrderHandle {
    /// First digits of the id. The whole id would open the order to anybody who reads the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.id.short()))
    }
}
