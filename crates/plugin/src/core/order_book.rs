//! All open orders, and the moves of records between the lists and the archive.
//!
//! An order is open while there is work left to do, closed while its environment runs or its refund is owed, and archived
//! after that. Each move takes two writes. A crash or an unanswered write between the two leaves a record in two places; of
//! an open, a closed and an archived one the first counts.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::{Event, Order, OrderId, State};
use provisioner::Placed;
use tokio::sync::{
    Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc, watch,
};
use tokio::time::timeout;

use super::error::ShopError;
use super::expired_orders::ExpiredOrders;
use super::interfaces::{
    ArchivePart, DamagedRecord, InvoiceStatus, Invoices, Lookup, NodeError, OrderList, Record, Records,
    Removal, RemoveIf,
};
use super::order_handle::{ApplyError, OrderHandle, Recorder, Stored, lock};
use super::snapshot::Snapshot;
use super::tally::Tally;

/// Most labels that are remembered because they look like an order's and are not.
const MAX_UNMATCHED_LABELS: usize = 1000;

/// Longest that callers wait for the open orders to be read, and for the remotes to be asked once. It takes milliseconds,
/// unless the node is starting too or a remote does not answer.
pub const START_TIMEOUT: Duration = Duration::from_secs(10);

/// All open orders.
#[derive(Debug)]
pub struct OrderBook {
    recorder: Recorder,
    invoices: Arc<dyn Invoices>,
    /// Time that an order is kept after its invoice has expired.
    unpaid_retention: SignedDuration,
    /// One permit for each unpaid order that may still be made.
    unpaid_permits: Arc<Semaphore>,
    open: RwLock<HashMap<OrderId, Arc<OrderHandle>>>,
    damaged: Mutex<Vec<DamagedRecord>>,
    expired: ExpiredOrders,
    unmatched_labels: Mutex<HashSet<String>>,
    loaded: watch::Sender<bool>,
    closed_changed: watch::Sender<()>,
    /// Locked from reading a closed or archived record until it is changed, if it is.
    changing: Arc<AsyncMutex<()>>,
    /// Orders that may need a worker.
    to_work: mpsc::UnboundedSender<Arc<OrderHandle>>,
}

/// An order and the list it was found in.
#[derive(Debug)]
pub enum Found {
    /// It is open.
    Open(Arc<OrderHandle>),
    /// It is closed or archived.
    Closed(Box<Order>),
}

impl Found {
    /// The order as callers see it.
    pub fn snapshot(&self) -> Snapshot {
        match self {
            Self::Open(handle) => handle.snapshot(),
            Self::Closed(order) => Snapshot::of((**order).clone()),
        }
    }
}

/// Drops the fraction of a second, which says nothing to people.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

impl OrderBook {
    /// An empty book; [`OrderBook::load`] fills it. Orders that need a worker are sent to `to_work`.
    pub fn new(
        recorder: Recorder,
        invoices: Arc<dyn Invoices>,
        unpaid_retention: SignedDuration,
        max_unpaid: usize,
        to_work: mpsc::UnboundedSender<Arc<OrderHandle>>,
    ) -> Self {
        Self {
            recorder,
            invoices,
            unpaid_retention,
            unpaid_permits: Arc::new(Semaphore::new(max_unpaid)),
            open: RwLock::default(),
            damaged: Mutex::default(),
            expired: ExpiredOrders::default(),
            unmatched_labels: Mutex::default(),
            loaded: watch::Sender::new(false),
            closed_changed: watch::Sender::new(()),
            changing: Arc::default(),
            to_work,
        }
    }

    /// Reads the open orders and has the paid ones worked on.
    pub async fn load(&self) -> Result<(), NodeError> {
        let Records { readable, damaged } = self.recorder.store.list(OrderList::Open).await?;
        for DamagedRecord { key, error } in &damaged {
            tracing::error!("cannot read the record of order {key:.19}…, look at it: {error}");
        }
        *lock(&self.damaged) = damaged;
        tracing::info!("{} open orders", readable.len());
        for record in readable {
            let permit = match record.order.state {
                State::Created => Arc::clone(&self.unpaid_permits).try_acquire_owned().ok(),
                _ => None,
            };
            let handle = self.adopt(self.handle_of(record, permit));
            self.request_work(&handle);
        }
        self.loaded.send_replace(true);
        Ok(())
    }

    /// Returns once the open orders have been read.
    pub async fn loaded(&self) {
        // The sender is ours, so this cannot fail.
        drop(self.loaded.subscribe().wait_for(|loaded| *loaded).await);
    }

    /// As [`OrderBook::loaded`], with a time limit.
    pub async fn ready(&self) -> Result<(), ShopError> {
        timeout(START_TIMEOUT, self.loaded()).await.map_err(|_| ShopError::Starting)
    }

    /// Has the order worked on, if there is something to do for it.
    pub fn request_work(&self, handle: &Arc<OrderHandle>) {
        // Nobody listens only while the shop ends.
        drop(self.to_work.send(Arc::clone(handle)));
    }

    fn handle_of(&self, record: Record, permit: Option<OwnedSemaphorePermit>) -> OrderHandle {
        OrderHandle::new(record, Arc::clone(&self.recorder.tally), permit)
    }

    /// Adds an order to the open ones; returns the handle that is already there, if there is one.
    fn adopt(&self, handle: OrderHandle) -> Arc<OrderHandle> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(open.entry(handle.id()).or_insert_with(|| Arc::new(handle)))
    }

    fn forget(&self, id: OrderId) {
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn handle(&self, id: OrderId) -> Option<Arc<OrderHandle>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// True if the order is an open one.
    pub fn is_open(&self, id: OrderId) -> bool {
        self.handle(id).is_some()
    }

    /// All open orders.
    pub fn handles(&self) -> Vec<Arc<OrderHandle>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Passes every open order to `look` as it is recorded.
    pub fn for_each_order(&self, mut look: impl FnMut(&Order)) {
        for handle in self.open.read().unwrap_or_else(PoisonError::into_inner).values() {
            handle.with_order(&mut look);
        }
    }

    /// The counts of what has happened to orders.
    pub fn tally(&self) -> &Tally {
        &self.recorder.tally
    }

    /// Open records that cannot be read.
    pub fn damaged(&self) -> Vec<DamagedRecord> {
        lock(&self.damaged).clone()
    }

    /// All closed records that are not archived.
    pub async fn closed(&self) -> Result<Records, NodeError> {
        self.recorder.store.list(OrderList::Closed).await
    }

    /// All records of a part of the archive.
    pub async fn archived(&self, part: ArchivePart) -> Result<Records, NodeError> {
        self.recorder.store.list_archived(part).await
    }

    /// The lock for changes of closed and archived records. To be held from reading one until it is changed.
    pub fn changing(&self) -> Arc<AsyncMutex<()>> {
        Arc::clone(&self.changing)
    }

    /// Moves a closed record to the archive, without its secrets, if the order has ended by `now`. True if it did.
    pub async fn archive(&self, id: OrderId, now: Timestamp) -> Result<bool, NodeError> {
        let _changing = self.changing.lock().await;
        let store = &self.recorder.store;
        // An open record counts; what is closed then is left from an earlier time.
        if self.is_open(id) {
            return Ok(false);
        }
        let Some(Ok(Record { order, .. })) = store.find(OrderList::Closed, id).await? else {
            return Ok(false);
        };
        if order.ended_at().is_none_or(|at| at > now) {
            return Ok(false);
        }
        store.put_archived(&order.without_secrets()).await?;
        match store.remove_closed(id).await {
            Ok(()) | Err(NodeError::Conflict(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Removes an order from the archive if it had ended by `time`. True if it did.
    pub async fn remove_archived(&self, id: OrderId, time: Timestamp) -> Result<bool, NodeError> {
        let _changing = self.changing.lock().await;
        let store = &self.recorder.store;
        // A closed record counts, and comes here again.
        if self.is_open(id) || store.find(OrderList::Closed, id).await?.is_some() {
            return Ok(false);
        }
        let Some(Ok(Record { order, .. })) = store.find_archived(id).await? else { return Ok(false) };
        if order.ended_at().is_none_or(|at| at > time) {
            return Ok(false);
        }
        match store.remove_archived(id).await {
            Ok(()) | Err(NodeError::Conflict(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Changes whenever a closed order has changed or was reopened.
    pub fn closed_changed(&self) -> watch::Receiver<()> {
        self.closed_changed.subscribe()
    }

    /// Everything that open orders have, or may have, on remotes.
    pub fn placed(&self) -> Vec<Placed> {
        let mut placed = Vec::new();
        self.for_each_order(|order| {
            placed.extend(order.state.placement().map(|p| Placed {
                remote: p.remote.clone(),
                member: p.member.clone(),
                ports: p.ports,
                address: p.address,
                until: Some(p.expires()),
                hours: order.terms.hours,
            }));
            let replaced = order.replaces.iter().filter_map(|replaced| replaced.leftover.as_ref());
            placed.extend(order.leftovers.iter().chain(replaced).map(|l| Placed {
                remote: l.remote.clone(),
                member: l.member.clone(),
                ports: l.ports,
                address: l.address,
                until: None,
                hours: order.terms.hours,
            }));
        });
        placed
    }

    /// Permit to make one more unpaid order. [`ShopError::Busy`] if there are too many.
    pub fn unpaid_permit(&self) -> Result<OwnedSemaphorePermit, ShopError> {
        let permit = Arc::clone(&self.unpaid_permits).try_acquire_owned();
        permit.map_err(|_| ShopError::Busy { retry_after_secs: self.secs_until_an_unpaid_order_goes() })
    }

    /// Seconds until the next unpaid order is removed, at least 1.
    fn secs_until_an_unpaid_order_goes(&self) -> i64 {
        let now = self.recorder.clock.now();
        let mut next = None::<i64>;
        self.for_each_order(|order| {
            if order.state == State::Created {
                let wait = order.invoice_expires_at.duration_since(now) + self.unpaid_retention;
                next = Some(next.map_or(wait.as_secs(), |next| next.min(wait.as_secs())));
            }
        });
        next.unwrap_or(1).max(1)
    }

    /// Records a new order. If that is not answered, its record may be there; then the sweep removes it.
    pub async fn insert(
        &self,
        order: Order,
        permit: OwnedSemaphorePermit,
    ) -> Result<Arc<OrderHandle>, NodeError> {
        match self.recorder.store.insert(order.clone()).await {
            Ok(record) => Ok(self.adopt(self.handle_of(record, Some(permit)))),
            Err(error) => {
                if matches!(error, NodeError::NoAnswer(_)) {
                    self.adopt(OrderHandle::doubtful(order, self.recorder.tally.clone()));
                }
                Err(error)
            }
        }
    }

    /// Locks the record of an order whose invoice is being made. `None` if it was swept before: the clock was set forward.
    ///
    /// A sweep takes an order without an invoice for one whose invoice was never made, and removes it. An invoice that is made
    /// after that would take money for nothing.
    pub async fn lock_new<'a>(
        &self,
        handle: &'a OrderHandle,
    ) -> Result<Option<AsyncMutexGuard<'a, Stored>>, NodeError> {
        let stored = handle.lock_record(self.recorder.store.as_ref()).await?;
        Ok(stored.filter(|_| self.is_open(handle.id())))
    }

    /// Removes an order that nobody can pay.
    pub async fn discard(&self, handle: &OrderHandle) -> Result<(), NodeError> {
        let store = self.recorder.store.as_ref();
        if let Some(stored) = handle.lock_record(store).await? {
            store.remove(stored.record()).await?;
        }
        self.forget(handle.id());
        Ok(())
    }

    /// Records an event of an open order, and tries again for as long as the record cannot be written.
    pub async fn apply(&self, handle: &OrderHandle, event: Event) -> Result<(), ApplyError> {
        handle.apply(&self.recorder, event).await
    }

    /// An invoice of the node was paid: records it if it is an order's, and has the order worked on.
    pub async fn on_payment(&self, label: &str) {
        if !OrderId::is_label_of_ours(label) {
            return;
        }
        self.loaded().await;
        match label.parse().ok().and_then(|id| self.handle(id)) {
            Some(handle) => self.paid(&handle).await,
            None => self.note_unmatched_label(label).await,
        }
    }

    async fn paid(&self, handle: &Arc<OrderHandle>) {
        match self.apply(handle, Event::Paid).await {
            Ok(()) => {
                tracing::info!("order {handle}: paid");
                self.request_work(handle);
            }
            Err(error) => tracing::error!("order {handle}: paid, but {error}"),
        }
    }

    /// Warns once about a paid invoice that is labelled like an order's and belongs to none.
    async fn note_unmatched_label(&self, label: &str) {
        if let Ok(id) = label.parse()
            && let Ok(Some(_)) = self.find_closed(id).await
        {
            return;
        }
        if lock(&self.damaged).iter().any(|one| one.key == label) {
            tracing::error!("order {label:.19}…: paid, and its record cannot be read: see lnplayops-orders");
            return;
        }
        let mut labels = lock(&self.unmatched_labels);
        if labels.len() < MAX_UNMATCHED_LABELS && labels.insert(label.to_owned()) {
            tracing::warn!(
                "an invoice labelled like ours ({label:.19}…) was paid, and there is no such order"
            );
        }
    }

    /// Asks the node about every unpaid order, to find payments that were made while nobody listened.
    pub async fn find_payments(&self) -> Result<(), NodeError> {
        for handle in self.handles().into_iter().filter(|h| h.is_unpaid()) {
            self.find_payment(&handle).await?;
        }
        Ok(())
    }

    /// Asks the node whether the order has been paid, and records it if so.
    pub async fn find_payment(&self, handle: &Arc<OrderHandle>) -> Result<(), NodeError> {
        if self.invoices.status(&handle.id().to_string()).await? == InvoiceStatus::Paid {
            self.paid(handle).await;
        }
        Ok(())
    }

    /// Removes orders whose invoices expired long enough ago.
    pub async fn sweep(&self) {
        let now = self.recorder.clock.now();
        for handle in self.handles().into_iter().filter(|h| h.is_unpaid()) {
            let due = handle.with_order(|order| order.invoice_expires_at.checked_add(self.unpaid_retention));
            if due.unwrap_or(Timestamp::MAX) > now {
                continue;
            }
            let swept = match self.remove_unpaid(&handle, &[RemoveIf::Expired]).await {
                // It was paid, or by the node's clock it has not expired yet.
                Ok(false) => self.find_payment(&handle).await,
                Ok(true) if handle.is_unpaid() => {
                    self.recorder.tally.expired.inc();
                    self.expired.remember(handle.order(), now);
                    Ok(())
                }
                other => other.map(drop),
            };
            if let Err(error) = swept {
                tracing::warn!("order {handle}: cannot remove it yet: {error}");
            }
        }
    }

    /// Removes the invoice if it has one of the given states, then the record. False if it has none of them; true as well
    /// if the order is paid by now, which leaves it as it is.
    pub async fn remove_unpaid(&self, handle: &OrderHandle, states: &[RemoveIf]) -> Result<bool, NodeError> {
        let store = self.recorder.store.as_ref();
        // Locked throughout, so that a payment that is being recorded is not overtaken.
        let Some(stored) = handle.lock_record(store).await? else {
            self.forget(handle.id());
            return Ok(true);
        };
        if stored.record().order.state != State::Created {
            return Ok(true);
        }
        let mut removal = Removal::OtherState;
        for state in states {
            removal = self.invoices.remove(&handle.id().to_string(), *state).await?;
            if removal != Removal::OtherState {
                break;
            }
        }
        match removal {
            Removal::OtherState => return Ok(false),
            Removal::Removed => {}
            Removal::Missing => {
                tracing::warn!("order {handle}: its invoice was never made, or somebody removed it");
            }
        }
        match store.remove(stored.record()).await {
            Ok(()) | Err(NodeError::Conflict(_)) => self.forget(handle.id()),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    async fn put_closed(&self, order: &Order) -> Result<(), NodeError> {
        self.recorder.store.put_closed(order).await?;
        self.recorder.tally.note_closed(order);
        Ok(())
    }

    /// Moves the record of an order with nothing left to do to the closed list. False if there is something to do again.
    pub async fn close(&self, handle: &OrderHandle) -> Result<bool, NodeError> {
        let store = self.recorder.store.as_ref();
        let Some(stored) = handle.lock_record(store).await? else {
            // An earlier attempt removed it without an answer, or somebody else did.
            self.put_closed(&handle.order()).await?;
            self.forget(handle.id());
            return Ok(true);
        };
        // Under the lock: the operator may have retried it since the caller looked.
        if !stored.record().order.is_over() {
            return Ok(false);
        }
        self.put_closed(&stored.record().order).await?;
        match store.remove(stored.record()).await {
            Ok(()) | Err(NodeError::Conflict(_)) => self.forget(handle.id()),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Moves a closed order back to the open ones, as `order`.
    pub async fn reopen(&self, order: Order) -> Result<Arc<OrderHandle>, NodeError> {
        let id = order.id;
        let record = match self.recorder.store.insert(order).await {
            Ok(record) => record,
            // Written after all, or by an earlier attempt.
            Err(error) => match self.recorder.store.find(OrderList::Open, id).await {
                Ok(Some(Ok(record))) => record,
                _ => return Err(error),
            },
        };
        let handle = self.adopt(self.handle_of(record, None));
        // The open record counts from here on, and closing it replaces the closed one.
        if let Err(error) = self.recorder.store.remove_closed(id).await {
            tracing::debug!("order {handle}: its closed record stays for now: {error}");
        }
        self.recorder.tally.note_closed(&handle.order());
        self.closed_changed.send_replace(());
        Ok(handle)
    }

    /// Replaces a closed record, or an archived one, which is archived again later. The caller holds
    /// [`OrderBook::changing`].
    pub async fn rewrite_closed(&self, order: &Order) -> Result<(), NodeError> {
        self.put_closed(order).await?;
        self.closed_changed.send_replace(());
        Ok(())
    }

    /// A closed order after `event`, not yet recorded.
    pub fn after(&self, order: &Order, event: Event) -> Result<Order, ShopError> {
        Ok(order.apply(event, self.recorder.clock.now(), &self.recorder.policy)?)
    }

    /// Finds a record that is closed or archived.
    async fn find_closed(&self, id: OrderId) -> Result<Lookup, NodeError> {
        let store = &self.recorder.store;
        match store.find(OrderList::Closed, id).await? {
            // Afterwards, so that one that is being archived is not missed.
            None => store.find_archived(id).await,
            found => Ok(found),
        }
    }

    /// Finds an order, open, closed or archived.
    pub async fn find(&self, id: OrderId) -> Result<Found, ShopError> {
        self.ready().await?;
        if let Some(handle) = self.handle(id) {
            return Ok(Found::Open(handle));
        }
        if lock(&self.damaged).iter().any(|one| one.key == id.to_string()) {
            return Err(ShopError::DamagedRecord);
        }
        match self.find_closed(id).await? {
            Some(Ok(record)) => Ok(Found::Closed(Box::new(record.order))),
            Some(Err(_)) => Err(ShopError::DamagedRecord),
            None => Err(ShopError::NoSuchOrder),
        }
    }

    /// An order as its buyer sees it: also one that expired unpaid and whose record is gone.
    pub async fn find_for_buyer(&self, id: OrderId) -> Result<Found, ShopError> {
        match self.find(id).await {
            Err(ShopError::NoSuchOrder) => {
                let expired = self.expired.get(id, self.recorder.clock.now());
                expired.map(|order| Found::Closed(Box::new(order))).ok_or(ShopError::NoSuchOrder)
            }
            found => found,
        }
    }

    /// Finds an order that is about to be changed. A closed one is looked for among the open records first: an attempt
    /// to reopen it may have been carried out and not answered.
    pub async fn find_to_change(&self, id: OrderId) -> Result<Found, ShopError> {
        let found = self.find(id).await?;
        if matches!(found, Found::Closed(_))
            && let Some(Ok(record)) = self.recorder.store.find(OrderList::Open, id).await?
        {
            let handle = self.adopt(self.handle_of(record, None));
            self.closed_changed.send_replace(());
            self.request_work(&handle);
            return Ok(Found::Open(handle));
        }
        Ok(found)
    }
}
