//! What the operator's monitoring sees: a sample of the shop, from what is in memory.
//!
//! A sample reads no records and asks no remote; it takes time with the number of open orders and of environments. What takes
//! longer, the room that is left, is looked at in the background.
//!
//! The state of the shop's own node (synchronised, receivable amounts) belongs into [`Sample`] as one more field, from the part of
//! the core that decides whether the shop is open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::health::Condition;
use lnplaylive_core::readiness::SyncState;
use lnplaylive_core::{Breaker, Order, OrderId};
use provisioner::Size;
use tokio::time::{Instant, sleep};

use super::availability::{Availability, PollAnswer, RemoteState};
use super::interfaces::{Clock, NodeError};
use super::node_watch::{NodeState, NodeWatch};
use super::order_book::OrderBook;
use super::order_handle::lock;
use super::pool::Pool;
use super::probes::{Probes, Watched};
use super::sales::Sales;
use super::tally::{Owed, Tally};

/// Pause between two looks at the room that is left.
const PAUSE: Duration = Duration::from_secs(10);
/// With many remotes a look takes long; the pause is at least so many times as long.
const REST: u32 = 20;
/// Pause between two attempts to read the closed orders.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The states of open orders. One of the last four is open while its leftovers are removed.
pub const OPEN_STATES: [&str; 8] =
    ["created", "queued", "placing", "deploying", "provisioned", "failed", "cancelled", "refunded"];

/// A sample of the shop.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Open orders.
    pub orders: OpenOrders,
    /// What is owed to buyers; `None` until the closed orders have been read.
    pub owed: Option<Owed>,
    /// Records that cannot be read.
    pub damaged: usize,
    /// Environments that were handed over.
    pub environments: Environments,
    /// The remotes in the settings, by name.
    pub remotes: BTreeMap<String, RemoteSample>,
    /// How many environments are to be prepared, by the numbers of nodes that are sold.
    pub prepared_wanted: BTreeMap<u32, u32>,
    /// How many are ready, by remote and number of nodes.
    pub prepared_ready: BTreeMap<(String, u32), u32>,
    /// The room that is left; `None` until it was looked at.
    pub room: Option<Left>,
    /// The node, as of its last answer; `None` until it has answered.
    pub node: Option<NodeSample>,
}

/// The shop's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeSample {
    /// True if it is synchronised with the chain.
    pub synchronised: bool,
    /// True if orders can be paid.
    pub open: bool,
    /// The most that one payment can bring in, in millisatoshi.
    pub receivable_msat: u64,
}

impl NodeSample {
    /// The node's sample from what is known about it.
    pub fn new(known: &NodeState) -> Option<Self> {
        let (_, report) = known.last.as_ref()?;
        Some(Self {
            synchronised: report.sync == SyncState::Synchronised,
            open: known.readiness.awaited().is_none(),
            receivable_msat: report.receivable_msat(),
        })
    }
}

/// Open orders.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OpenOrders {
    /// Their number, by state.
    pub by_state: BTreeMap<&'static str, u64>,
    /// The longest time for which one is to be delivered: since its payment, or the operator's request to replace.
    pub oldest_undelivered: Option<SignedDuration>,
    /// What is owed among them: failed orders whose leftovers are still being removed.
    pub owed: Owed,
}

impl OpenOrders {
    /// Counts an order.
    pub fn count(&mut self, order: &Order, now: Timestamp) {
        *self.by_state.entry(order.state.name()).or_default() += 1;
        if let Some(amount) = order.owed_msat() {
            self.owed = self.owed.plus(amount);
        }
        if order.state.attempts().is_some()
            && let Some(since) = order.due_since()
        {
            let waiting = now.duration_since(since);
            self.oldest_undelivered = Some(self.oldest_undelivered.map_or(waiting, |w| w.max(waiting)));
        }
    }
}

/// Environments that were handed over.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Environments {
    /// Their number, by remote and condition.
    pub counts: BTreeMap<(String, &'static str), u64>,
    /// The longest time for which one has been degraded.
    pub longest_degraded: Option<SignedDuration>,
}

impl Environments {
    /// Counts an environment.
    pub fn count(&mut self, environment: Watched<'_>, now: Timestamp) {
        let Watched { remote, health } = environment;
        *self.counts.entry((remote.to_owned(), health.condition.name())).or_default() += 1;
        if let Condition::Degraded { .. } = health.condition {
            let lasting = now.duration_since(health.since);
            self.longest_degraded =
                Some(self.longest_degraded.map_or(lasting, |longest| longest.max(lasting)));
        }
    }
}

/// A remote.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteSample {
    /// True if its last answer is valid.
    pub answers: bool,
    /// Time since it was last asked that it answered, or since the start.
    pub silent: Duration,
    /// True if its breaker is open, or a trial is under way.
    pub breaker_open: bool,
    /// Faults since an environment last worked there.
    pub faults_in_a_row: u32,
    /// Its load, as of its last answer.
    pub load: Option<LoadSample>,
}

/// The load of a remote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadSample {
    /// Environments on it, those that are being made and those of other shops included; without those that are prepared.
    pub environments: u64,
    /// Nodes in these.
    pub nodes: u64,
    /// Memory of the servers that take environments, in bytes.
    pub memory_total: u64,
    /// The part of it that is used.
    pub memory_used: u64,
    /// Members that take environments.
    pub members: u64,
}

impl RemoteSample {
    /// A remote's sample from its last answer and its breaker.
    pub fn new(
        state: Option<&RemoteState>,
        breaker: Option<&Breaker>,
        valid_for: Duration,
        running: Duration,
    ) -> Self {
        let last = state.and_then(|state| state.last.as_ref());
        let silent = last.map_or(running, PollAnswer::age);
        Self {
            answers: last.is_some() && silent < valid_for,
            silent,
            breaker_open: breaker.is_some_and(|breaker| !breaker.is_closed()),
            faults_in_a_row: breaker.map_or(0, |breaker| breaker.faults),
            load: last.and_then(PollAnswer::load).map(|load| {
                let memory = load.memory();
                LoadSample {
                    environments: load.sold().count() as u64,
                    nodes: load.sold().map(|one| u64::from(one.ports.node_count())).sum(),
                    memory_total: memory.total,
                    memory_used: memory.used,
                    members: load.machines().count() as u64,
                }
            }),
        }
    }
}

/// The room that is left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// How many more of each product can be sold, by SKU.
    pub products: BTreeMap<String, u32>,
    /// How many environments of the smallest product have room on each remote, beside what is placed there, by name.
    pub remotes: BTreeMap<String, u32>,
}

/// Observes the shop.
#[derive(Debug)]
pub struct Observer {
    orders: Arc<OrderBook>,
    availability: Arc<Availability>,
    probes: Arc<Probes>,
    sales: Arc<Sales>,
    node: Arc<NodeWatch>,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
    started: Instant,
    room: Mutex<Option<Left>>,
}

impl Observer {
    /// Nothing is looked at before [`Observer::run`].
    pub fn new(
        orders: Arc<OrderBook>,
        availability: Arc<Availability>,
        probes: Arc<Probes>,
        sales: Arc<Sales>,
        node: Arc<NodeWatch>,
        pool: Arc<Pool>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (started, room) = (Instant::now(), Mutex::default());
        Self { orders, availability, probes, sales, node, pool, clock, started, room }
    }

    /// The counts since the start.
    pub fn tally(&self) -> &Tally {
        self.orders.tally()
    }

    /// Reads what is owed, once, and looks at the room that is left from time to time, for ever.
    pub async fn run(&self) {
        tokio::join!(self.read_owed(), self.look_at_room());
    }

    async fn read_owed(&self) {
        self.orders.loaded().await;
        loop {
            let read: Result<_, NodeError> = self.orders.closed().await;
            match read {
                Ok(closed) => return self.tally().take_up_closed(&closed.readable),
                Err(error) => {
                    tracing::warn!("cannot read closed orders for the metrics, trying again: {error}");
                }
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn look_at_room(&self) {
        loop {
            let began = Instant::now();
            // Fails only while the shop starts.
            if let Ok(offers) = self.sales.offers().await {
                let smallest = offers.iter().map(|offer| offer.product.node_count).min();
                let hours = self.sales.catalogue().min_hours();
                let size = smallest.map(|node_count| Size { node_count, hours });
                let remotes = size.map(|size| self.availability.room_by_remote(size)).unwrap_or_default();
                let products = offers.into_iter();
                let products = products.map(|o| (o.product.sku.to_string(), o.available_count)).collect();
                *lock(&self.room) = Some(Left { products, remotes });
            }
            sleep(PAUSE.max(began.elapsed() * REST)).await;
        }
    }

    /// The shop now.
    pub fn sample(&self) -> Sample {
        let now = self.clock.now();
        let mut orders = OpenOrders::default();
        let mut open = BTreeSet::<OrderId>::new();
        self.orders.for_each_order(|order| {
            orders.count(order, now);
            open.insert(order.id);
        });
        let closed = self.tally().owed_except(|id| open.contains(&id));
        let owed = closed.map(|Owed { orders: count, msat }| Owed {
            orders: count + orders.owed.orders,
            msat: msat.saturating_add(orders.owed.msat),
        });
        let mut environments = Environments::default();
        self.probes.for_each(|environment| environments.count(environment, now));
        Sample {
            orders,
            owed,
            damaged: self.orders.damaged().len(),
            environments,
            remotes: self.remotes(),
            prepared_wanted: self.sizes().map(|nodes| (nodes, self.pool.wanted_of(nodes))).collect(),
            prepared_ready: self.prepared_ready(),
            room: lock(&self.room).clone(),
            node: NodeSample::new(&self.node.state()),
        }
    }

    /// The numbers of nodes that are sold.
    fn sizes(&self) -> impl Iterator<Item = u32> {
        self.sales.catalogue().products().iter().map(|product| product.node_count)
    }

    fn prepared_ready(&self) -> BTreeMap<(String, u32), u32> {
        let counts = self.pool.counts();
        let remotes = self.availability.remote_names();
        let keys = remotes.flat_map(|remote| self.sizes().map(|nodes| (remote.to_owned(), nodes)));
        let ready = |key| (counts.get(&key).copied().unwrap_or_default().ready, key);
        keys.map(ready).map(|(ready, key)| (key, ready)).collect()
    }

    fn remotes(&self) -> BTreeMap<String, RemoteSample> {
        let (valid_for, running) = (self.availability.valid_for(), self.started.elapsed());
        let breakers = self.availability.breakers();
        self.availability.with_states(|states| {
            let of = |name: &str| RemoteSample::new(states.get(name), breakers.get(name), valid_for, running);
            self.availability.remote_names().map(|name| (name.to_owned(), of(name))).collect()
        })
    }
}
