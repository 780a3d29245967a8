//! The desk: all open orders, and the only way to change one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use cln_rpc::model::requests::DelinvoiceStatus;
use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::catalogue::{Catalogue, Terms};
use lnplaylive_core::order::{Policy, Refused};
use lnplaylive_core::settings::{Provisioning, SettingsError, Shop};
use lnplaylive_core::{Event, Order, OrderId, Settings, State};
use provisioner::{Placed, Provisioner, Size};
use thiserror::Error;
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::node::{InvoiceStatus, Node, NodeError, Removal};
use crate::routes::Routes;
use crate::rpc::Failure;
use crate::stock::Stock;
use crate::store::{self, Damaged, Record, Shelf};
use crate::view::Snapshot;
use crate::worker;

/// How many callers may wait for news at a time. Each holds a connection to the node; past that they
/// get an answer at once.
const MAX_WAITING: usize = 1000;
/// How many labels are remembered that look like ours and are not.
const MAX_STRANGE_LABELS: usize = 1000;
/// Between two tries to write to the datastore: it is the node itself that is slow.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// How long callers wait for the open orders to be read, and for the remotes to be asked once. It takes milliseconds,
/// unless the node is starting as well or a remote does not answer.
const START_TIME: Duration = Duration::from_secs(10);

/// All open orders, and what is needed to move them.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) node: Node,
    pub(crate) provisioner: Provisioner,
    pub(crate) catalogue: Catalogue,
    pub(crate) policy: Policy,
    pub(crate) shop: Shop,
    pub(crate) provisioning: Provisioning,
    /// How many orders are worked on at a time.
    pub(crate) workers: Semaphore,
    /// Held from choosing a remote until the choice is recorded, so that no two choose the same ports.
    pub(crate) choosing: AsyncMutex<()>,
    /// Held while waiting for news.
    pub(crate) waiting: Semaphore,
    /// What can be sold.
    pub(crate) stock: Stock,
    /// Where the web shop's gateway finds the environments.
    pub(crate) routes: Routes,
    /// Held while the operator changes an order: two would add to the same end, or pay back what is tried again.
    pub(crate) operating: AsyncMutex<()>,
    /// Told whenever an order that was closed has changed: whoever waits for news of one looks again.
    pub(crate) reshelved: watch::Sender<()>,
    /// One permit for each unpaid order that may still be made.
    unpaid: Arc<Semaphore>,
    open: RwLock<HashMap<OrderId, Arc<Case>>>,
    damaged: Mutex<Vec<Damaged>>,
    strange: Mutex<HashSet<String>>,
    loaded: watch::Sender<bool>,
}

/// One open order.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) id: OrderId,
    /// Locked while the record is being written.
    record: AsyncMutex<Kept>,
    /// What can be seen of it.
    shown: watch::Sender<Snapshot>,
    /// Given back once the order is paid or gone.
    unpaid: Mutex<Option<OwnedSemaphorePermit>>,
    /// Whether a worker has it.
    worker: Mutex<bool>,
    /// Wakes a worker that waits to try again.
    pub(crate) nudge: Notify,
}

#[derive(Debug)]
struct Kept {
    record: Record,
    /// A write was not answered: what is in the datastore has to be read again.
    doubtful: bool,
}

/// An event that could not be recorded.
#[derive(Debug, Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the record could not be written")]
    Store(#[from] NodeError),
    #[error("the record is gone")]
    Gone,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind our locks is changed in single steps: a panic leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Case {
    fn new(record: Record, permit: Option<OwnedSemaphorePermit>) -> Self {
        let order = record.order.clone();
        Self {
            id: order.id,
            record: AsyncMutex::new(Kept { record, doubtful: false }),
            shown: watch::Sender::new(Snapshot::of(order)),
            unpaid: Mutex::new(permit),
            worker: Mutex::new(false),
            nudge: Notify::new(),
        }
    }

    /// What can be seen of it now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.shown.borrow().clone()
    }

    /// What can be seen of it, now and later.
    pub(crate) fn watch(&self) -> watch::Receiver<Snapshot> {
        self.shown.subscribe()
    }

    /// The order as it is recorded.
    pub(crate) fn order(&self) -> Order {
        self.shown.borrow().order.clone()
    }

    fn is_unpaid(&self) -> bool {
        matches!(self.shown.borrow().order.state, State::Created)
    }

    /// Shows progress. It is not recorded.
    pub(crate) fn show_progress(&self, progress: lnplaylive_core::progress::Progress) {
        self.shown.send_modify(|shown| {
            shown.progress = Some(progress);
            shown.ticks += 1;
        });
    }

    fn show(&self, order: &Order) {
        if !matches!(order.state, State::Created) {
            lock(&self.unpaid).take();
        }
        self.shown.send_replace(Snapshot::of(order.clone()));
    }

    /// Takes the case for a worker; false when another has it.
    pub(crate) fn take(&self) -> bool {
        !std::mem::replace(&mut *lock(&self.worker), true)
    }

    /// Gives the case back.
    pub(crate) fn give_back(&self) {
        *lock(&self.worker) = false;
    }

    /// Records what happened, once.
    async fn try_apply(&self, node: &Node, event: Event, policy: &Policy) -> Result<(), ApplyError> {
        let mut kept = self.record.lock().await;
        if kept.doubtful {
            kept.record = match store::find(node, Shelf::Open, self.id).await? {
                Some(Ok(record)) => record,
                Some(Err(_)) | None => return Err(ApplyError::Gone),
            };
            kept.doubtful = false;
            self.show(&kept.record.order);
        }
        let next = kept.record.order.apply(event, Timestamp::now(), policy)?;
        if next == kept.record.order {
            return Ok(());
        }
        match store::replace(node, &kept.record, next).await {
            Ok(record) => kept.record = record,
            Err(error) => {
                kept.doubtful = true;
                return Err(error.into());
            }
        }
        self.show(&kept.record.order);
        Ok(())
    }

    /// Records what happened, however long the node takes.
    pub(crate) async fn apply(&self, desk: &Desk, event: Event) -> Result<(), ApplyError> {
        loop {
            match self.try_apply(&desk.node, event.clone(), &desk.policy).await {
                Err(ApplyError::Store(error)) => {
                    tracing::warn!("order {self}: its record could not be written, trying again: {error}");
                    sleep(STORE_PAUSE).await;
                }
                result => return result,
            }
        }
    }
}

impl std::fmt::Display for Case {
    /// The first digits of the id: the whole id opens the order to whoever reads it in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.id.short()))
    }
}

/// A new order and its invoice.
pub(crate) struct NewOrder {
    pub(crate) order: Order,
    pub(crate) bolt11: String,
}

impl Desk {
    pub(crate) fn new(
        settings: &Settings,
        node: Node,
        provisioner: Provisioner,
    ) -> Result<Self, SettingsError> {
        let permits = |count: u32| usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS);
        Ok(Self {
            node,
            provisioner,
            catalogue: settings.catalogue()?,
            policy: settings.policy(),
            workers: Semaphore::new(permits(settings.provisioning.concurrency)),
            choosing: AsyncMutex::new(()),
            waiting: Semaphore::new(MAX_WAITING),
            stock: Stock::new(Duration::from_secs(settings.provisioning.survey_secs.into())),
            routes: Routes::new(settings),
            operating: AsyncMutex::new(()),
            reshelved: watch::Sender::new(()),
            unpaid: Arc::new(Semaphore::new(permits(settings.shop.max_unpaid_orders))),
            shop: settings.shop.clone(),
            provisioning: settings.provisioning.clone(),
            open: RwLock::default(),
            damaged: Mutex::default(),
            strange: Mutex::default(),
            loaded: watch::Sender::new(false),
        })
    }

    /// Reads the open orders from the datastore and sets workers on those that are paid.
    pub(crate) async fn load(self: &Arc<Self>) -> Result<(), NodeError> {
        let (records, damaged) = store::list(&self.node, Shelf::Open).await?;
        for one in &damaged {
            tracing::error!("the record of order {:.19}… cannot be read, look at it: {}", one.key, one.error);
        }
        *lock(&self.damaged) = damaged;
        tracing::info!("{} open orders", records.len());
        for record in records {
            let permit = match record.order.state {
                State::Created => Arc::clone(&self.unpaid).try_acquire_owned().ok(),
                _ => None,
            };
            let case = self.adopt(record, permit);
            worker::start(self, &case);
        }
        self.loaded.send_replace(true);
        Ok(())
    }

    /// Returns once the open orders are known.
    async fn loaded(&self) {
        // The sender is ours, so this cannot fail.
        drop(self.loaded.subscribe().wait_for(|loaded| *loaded).await);
    }

    /// The same for callers, who are told when it takes too long.
    pub(crate) async fn ready(&self) -> Result<(), Failure> {
        timeout(START_TIME, self.loaded()).await.map_err(|_| Failure::starting())
    }

    fn adopt(&self, record: Record, permit: Option<OwnedSemaphorePermit>) -> Arc<Case> {
        let case = Arc::new(Case::new(record, permit));
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(case.id, Arc::clone(&case));
        case
    }

    fn forget(&self, id: OrderId) {
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// An open order.
    pub(crate) fn case(&self, id: OrderId) -> Option<Arc<Case>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All open orders.
    pub(crate) fn cases(&self) -> Vec<Arc<Case>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Looks at all open orders as they are recorded.
    pub(crate) fn for_each_order(&self, mut look: impl FnMut(&Order)) {
        for case in self.open.read().unwrap_or_else(PoisonError::into_inner).values() {
            look(&case.shown.borrow().order);
        }
    }

    /// The records that cannot be read.
    pub(crate) fn damaged(&self) -> Vec<Damaged> {
        lock(&self.damaged).clone()
    }

    /// Returns once it is known what can be sold; callers are told when that takes too long.
    pub(crate) async fn ready_to_sell(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_TIME;
        self.ready().await?;
        self.stock.ready(deadline.saturating_duration_since(Instant::now())).await
    }

    /// Makes an order and its invoice, if there is a place for what is ordered.
    pub(crate) async fn create_order(self: &Arc<Self>, terms: Terms) -> Result<NewOrder, Failure> {
        self.ready_to_sell().await?;
        let Ok(permit) = Arc::clone(&self.unpaid).try_acquire_owned() else {
            return Err(Failure::busy(self.seconds_until_a_place_is_free()));
        };
        let now = whole_seconds(Timestamp::now());
        let expiry = SignedDuration::from_secs(self.shop.invoice_expiry_secs.into());
        let expires = now.checked_add(expiry).unwrap_or(Timestamp::MAX);
        let order = Order::new(OrderId::random(), terms, now, expires);
        let hold = self.hold(order.id, Size::from(&order.terms), expires)?;
        // The record first: an invoice without one would be money for nothing.
        let record = store::insert(&self.node, order.clone()).await.map_err(|e| Failure::node(&e))?;
        let case = self.adopt(record, Some(permit));
        // From here on the open order holds the place.
        drop(hold);
        let label = order.id.to_string();
        let description =
            format!("lnplay.live: {} nodes for {} hours", order.terms.node_count, order.terms.hours);
        let invoice = self
            .node
            .invoice(&label, &description, order.terms.amount_msat, self.shop.invoice_expiry_secs)
            .await;
        match invoice {
            Ok(invoice) => Ok(NewOrder { order, bolt11: invoice.bolt11 }),
            Err(error) => {
                // Refused: nobody can pay it. Not answered: the sweeper will see whether there is an invoice.
                if matches!(error, NodeError::Refused { .. })
                    && let Err(error) = self.discard(&case).await
                {
                    tracing::warn!("order {case}: its record stays until it is swept: {error}");
                }
                Err(Failure::node(&error))
            }
        }
    }

    /// Seconds until the next unpaid order makes room for another, at least 1.
    fn seconds_until_a_place_is_free(&self) -> i64 {
        let now = Timestamp::now();
        let wait = |case: &Arc<Case>| {
            let gone = case.order().invoice_expires_at.duration_since(now).as_secs();
            gone + i64::from(self.shop.unpaid_retention_secs)
        };
        self.cases().iter().filter(|c| c.is_unpaid()).map(wait).min().unwrap_or(1).max(1)
    }

    async fn discard(&self, case: &Case) -> Result<(), NodeError> {
        let kept = case.record.lock().await;
        store::remove(&self.node, &kept.record).await?;
        self.forget(case.id);
        Ok(())
    }

    /// An invoice of the node was paid: records it, if it is an order's, and has it worked on.
    pub(crate) async fn on_payment(self: &Arc<Self>, label: &str) {
        if !OrderId::is_label_of_ours(label) {
            return;
        }
        self.loaded().await;
        let case = label.parse().ok().and_then(|id| self.case(id));
        match case {
            Some(case) => self.paid(&case).await,
            None => self.note_strange_label(label).await,
        }
    }

    async fn paid(self: &Arc<Self>, case: &Arc<Case>) {
        match case.apply(self, Event::Paid).await {
            Ok(()) => {
                tracing::info!("order {case}: paid");
                worker::start(self, case);
            }
            Err(error) => tracing::error!("order {case}: paid, but {error}"),
        }
    }

    /// A label like ours without an open order: somebody else's invoice, or one that is over.
    async fn note_strange_label(&self, label: &str) {
        if let Ok(id) = label.parse()
            && let Ok(Some(_)) = store::find(&self.node, Shelf::Closed, id).await
        {
            return;
        }
        let mut strange = lock(&self.strange);
        if strange.len() < MAX_STRANGE_LABELS && strange.insert(label.to_owned()) {
            tracing::warn!(
                "an invoice with a label like ours ({label:.19}…) was paid, and there is no such order"
            );
        }
    }

    /// Asks the node about every unpaid order: what was paid while nobody listened is found here.
    pub(crate) async fn find_payments(self: &Arc<Self>) -> Result<(), NodeError> {
        for case in self.cases().into_iter().filter(|c| c.is_unpaid()) {
            self.find_payment(&case).await?;
        }
        Ok(())
    }

    async fn find_payment(self: &Arc<Self>, case: &Arc<Case>) -> Result<(), NodeError> {
        if self.node.invoice_status(&case.id.to_string()).await? == InvoiceStatus::Paid {
            self.paid(case).await;
        }
        Ok(())
    }

    /// Removes orders whose invoices have expired some time ago.
    pub(crate) async fn sweep(self: &Arc<Self>) {
        let retention = SignedDuration::from_secs(self.shop.unpaid_retention_secs.into());
        let now = Timestamp::now();
        for case in self.cases().into_iter().filter(|c| c.is_unpaid()) {
            let due = case.order().invoice_expires_at.checked_add(retention).unwrap_or(Timestamp::MAX);
            if due > now {
                continue;
            }
            let swept = match self.remove_unpaid(&case, &[DelinvoiceStatus::EXPIRED]).await {
                // Paid, or by the node's clock not expired yet.
                Ok(false) => self.find_payment(&case).await,
                other => other.map(drop),
            };
            if let Err(error) = swept {
                tracing::warn!("order {case}: could not be swept: {error}");
            }
        }
    }

    /// Removes the invoice if it has one of these states, then the record. False if it has none of them.
    async fn remove_unpaid(&self, case: &Case, states: &[DelinvoiceStatus]) -> Result<bool, NodeError> {
        // Held throughout, so that a payment that is being recorded is not overtaken.
        let kept = case.record.lock().await;
        if !matches!(kept.record.order.state, State::Created) {
            return Ok(true);
        }
        let mut removal = Removal::OtherState;
        for state in states {
            removal = self.node.remove_invoice(&case.id.to_string(), *state).await?;
            if removal != Removal::OtherState {
                break;
            }
        }
        match removal {
            Removal::OtherState => return Ok(false),
            Removal::Removed => {}
            Removal::Missing => {
                tracing::warn!("order {case}: it never got its invoice, or somebody removed it");
            }
        }
        match store::remove(&self.node, &kept.record).await {
            Err(error) if !error.is_conflict() => return Err(error),
            _ => self.forget(case.id),
        }
        Ok(true)
    }

    /// Moves the record of an order that is over to the closed ones.
    pub(crate) async fn close(&self, case: &Case) -> Result<(), NodeError> {
        let kept = case.record.lock().await;
        match store::close(&self.node, &kept.record).await {
            Err(error) if !error.is_conflict() => return Err(error),
            _ => self.forget(case.id),
        }
        Ok(())
    }

    /// An order, open or closed.
    pub(crate) async fn find(&self, id: OrderId) -> Result<Found, Failure> {
        self.ready().await?;
        if let Some(case) = self.case(id) {
            return Ok(Found::Open(case));
        }
        if lock(&self.damaged).iter().any(|one| one.key == id.to_string()) {
            return Err(Failure::damaged());
        }
        match store::find(&self.node, Shelf::Closed, id).await.map_err(|e| Failure::node(&e))? {
            Some(Ok(record)) => Ok(Found::Closed(Box::new(record.order))),
            Some(Err(_)) => Err(Failure::damaged()),
            None => Err(Failure::no_such_order()),
        }
    }

    /// The operator asks to try again.
    pub(crate) async fn retry(self: &Arc<Self>, id: OrderId) -> Result<Snapshot, Failure> {
        let _turn = self.operating.lock().await;
        let case = match self.find(id).await? {
            Found::Open(case) => {
                case.apply(self, Event::Retry).await.map_err(|e| Failure::refused(&e))?;
                case
            }
            Found::Closed(order) => {
                let order = order
                    .apply(Event::Retry, Timestamp::now(), &self.policy)
                    .map_err(|e| Failure::refused(&e.into()))?;
                let record = store::reopen(&self.node, order).await.map_err(|e| Failure::node(&e))?;
                let case = self.adopt(record, None);
                self.reshelved.send_replace(());
                case
            }
        };
        case.nudge.notify_one();
        worker::start(self, &case);
        Ok(case.snapshot())
    }

    /// The operator calls an order off. `None`: it was not paid, and there is nothing of it any more.
    pub(crate) async fn cancel(self: &Arc<Self>, id: OrderId) -> Result<Option<Snapshot>, Failure> {
        let case = match self.find(id).await? {
            Found::Open(case) => case,
            Found::Closed(order) => {
                let state = order.state.name();
                return Err(Failure::pointless(format!("an order that is {state} cannot be cancelled")));
            }
        };
        if case.is_unpaid() {
            let states = [DelinvoiceStatus::UNPAID, DelinvoiceStatus::EXPIRED];
            let removed = self.remove_unpaid(&case, &states).await.map_err(|e| Failure::node(&e))?;
            if removed && case.is_unpaid() {
                tracing::info!("order {case}: cancelled by the operator before it was paid");
                return Ok(None);
            }
            // Paid in this moment.
            self.find_payment(&case).await.map_err(|e| Failure::node(&e))?;
        }
        case.apply(self, Event::Cancel).await.map_err(|e| Failure::refused(&e))?;
        tracing::warn!("order {case}: cancelled by the operator; its price is to be paid back by hand");
        case.nudge.notify_one();
        worker::start(self, &case);
        Ok(Some(case.snapshot()))
    }

    /// The operator lets an environment live longer.
    pub(crate) async fn extend(self: &Arc<Self>, id: OrderId, hours: u32) -> Result<Snapshot, Failure> {
        let _turn = self.operating.lock().await;
        let found = self.find(id).await?;
        let order = found.snapshot().order;
        let State::Provisioned { handover, .. } = &order.state else {
            let state = order.state.name();
            return Err(Failure::pointless(format!(
                "an order that is {state} has no end that could be moved"
            )));
        };
        if handover.expires_at <= Timestamp::now() {
            return Err(Failure::pointless(format!("the environment has ended at {}", handover.expires_at)));
        }
        let hours = SignedDuration::from_hours(hours.into());
        let expires_at = handover.expires_at.checked_add(hours).unwrap_or(Timestamp::MAX);
        // The remote first: what it does not know must not be promised. Should the record not be written, the same call
        // leads to the same end.
        let moved = self.provisioner.extend(id, &handover.remote, handover.project, expires_at).await;
        moved.map_err(|e| Failure::remote(&e))?;
        let snapshot = self.note(found, Event::Extended { expires_at }).await?;
        // The route to it ends later, too.
        self.stock.nudge.notify_one();
        Ok(snapshot)
    }

    /// The operator has paid a buyer back who got nothing.
    pub(crate) async fn refunded(
        self: &Arc<Self>,
        id: OrderId,
        note: Option<String>,
    ) -> Result<Snapshot, Failure> {
        let _turn = self.operating.lock().await;
        let found = self.find(id).await?;
        self.note(found, Event::Refunded { note }).await
    }

    /// Records what the operator did, which leaves nothing to do.
    async fn note(self: &Arc<Self>, found: Found, event: Event) -> Result<Snapshot, Failure> {
        match found {
            Found::Open(case) => {
                case.apply(self, event).await.map_err(|e| Failure::refused(&e))?;
                Ok(case.snapshot())
            }
            Found::Closed(order) => {
                let order = order
                    .apply(event, Timestamp::now(), &self.policy)
                    .map_err(|e| Failure::refused(&e.into()))?;
                store::rewrite_closed(&self.node, &order).await.map_err(|e| Failure::node(&e))?;
                self.reshelved.send_replace(());
                Ok(Snapshot::of(order))
            }
        }
    }

    /// What open orders have, or may have, on remotes.
    pub(crate) fn placed(&self) -> Vec<Placed> {
        let mut placed = Vec::new();
        self.for_each_order(|order| {
            placed.extend(order.state.placement().map(|p| {
                let until = Some(p.project.expires());
                Placed {
                    remote: p.remote.clone(),
                    member: p.member.clone(),
                    ports: p.ports,
                    address: p.address,
                    until,
                    hours: order.terms.hours,
                }
            }));
            placed.extend(order.leftovers.iter().map(|l| Placed {
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
}

/// Without the fraction, which would only be noise to people.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Where an order was found.
pub(crate) enum Found {
    Open(Arc<Case>),
    Closed(Box<Order>),
}

impl Found {
    pub(crate) fn snapshot(&self) -> Snapshot {
        match self {
            Self::Open(case) => case.snapshot(),
            Self::Closed(order) => Snapshot::of((**order).clone()),
        }
    }
}
