//! The organiser's desk: the holder of an order acts on its environment while it runs.
//!
//! Anybody who holds an `invoice_id` can call this, so it must be no lever against the shop: an order has one action and one
//! look under way at a time and a bounded number a minute, each remote a bounded number at a time, and each ends in bounded
//! time. Nothing but the environment of that order, and the runes in its record, is changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use lnplaylive_core::desk::{Action, Answer, Did, Overview};
use lnplaylive_core::order::Handover;
use lnplaylive_core::{Order, OrderId, State};
use provisioner::DeskError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::cards::Cards;
use super::error::ShopError;
use super::interfaces::{Clock, Remotes};
use super::order_book::OrderBook;
use super::order_handle::lock;
use super::pace::TokioClock;
use super::snapshot::Snapshot;
use super::tally::Tally;

/// Actions and looks of one order in a minute. A page that is looked at asks three times.
const PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).expect("not 0");
/// Those that may come at once.
const BURST: NonZeroU32 = NonZeroU32::new(15).expect("not 0");
/// Most actions and looks under way on one remote. Each has an SSH connection; on a remote that hangs it takes two minutes.
const MOST_ON_A_REMOTE: usize = 8;
/// Longest time of an action. The provisioner has limits of its own, which are shorter.
const ACTION_TIMEOUT: Duration = Duration::from_secs(150);
/// Seconds after which a caller may try again whose order or remote is in use.
const RETRY_SECS: u64 = 5;
/// Most characters of an environment's own words in the log.
const MAX_LOGGED_CHARS: usize = 500;
/// Orders whose pace is remembered before those that have not been at their desk for long are dropped.
const REMEMBERED: usize = 1000;

type Pace = RateLimiter<OrderId, DashMapStateStore<OrderId>, TokioClock, NoOpMiddleware<Duration>>;

/// The desks of all orders.
#[derive(Debug)]
pub struct Desk {
    orders: Arc<OrderBook>,
    cards: Arc<Cards>,
    remotes: Arc<dyn Remotes>,
    clock: Arc<dyn Clock>,
    pace: Pace,
    pace_clock: TokioClock,
    /// The orders that have something under way, each with whether it is a look.
    under_way: Mutex<HashSet<(OrderId, bool)>>,
    places: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// An action that was carried out.
#[derive(Debug, Clone)]
pub struct Acted {
    /// What was done.
    pub did: Did,
    /// The environment after it.
    pub overview: Overview,
    /// The order after it.
    pub snapshot: Snapshot,
}

impl Desk {
    /// The desks of these orders.
    pub fn new(
        orders: Arc<OrderBook>,
        cards: Arc<Cards>,
        remotes: Arc<dyn Remotes>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let pace_clock = TokioClock::start();
        let quota = Quota::per_minute(PER_MINUTE).allow_burst(BURST);
        let pace = RateLimiter::dashmap_with_clock(quota, pace_clock);
        Self {
            orders,
            cards,
            remotes,
            clock,
            pace,
            pace_clock,
            under_way: Mutex::default(),
            places: Mutex::default(),
        }
    }

    /// Carries out an action for the holder of an order.
    pub async fn act(&self, id: OrderId, action: &Action) -> Result<Acted, ShopError> {
        let found = self.orders.find_for_buyer(id).await?.snapshot();
        let handover = self.running(&found.order)?;
        action.validate(found.order.terms.node_count)?;
        let _turn = self.take_turn(id, action.only_looks())?;
        self.keep_pace(id)?;
        let _place = self.take_place(&handover.remote)?;
        let short = u32::from_be_bytes(id.short());
        let answer = match timeout(ACTION_TIMEOUT, self.remotes.desk(handover, action)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(DeskError::TooOld)) => return Err(ShopError::DeskTooOld),
            Ok(Err(DeskError::NoAnswer(reason))) => {
                tracing::info!("order {short:08x}: its desk does not answer: {}", excerpt(&reason));
                return Err(ShopError::DeskNoAnswer);
            }
            Err(_) => {
                let secs = ACTION_TIMEOUT.as_secs();
                tracing::info!("order {short:08x}: its desk does not answer within {secs} s");
                return Err(ShopError::DeskNoAnswer);
            }
        };
        let (did, overview) = match answer {
            Answer::Done { did, overview } => (did, overview),
            Answer::Refused { reason, message } => {
                tracing::info!("order {short:08x}: its desk refuses: {}", excerpt(&message));
                return Err(ShopError::DeskRefused { reason });
            }
        };
        self.tally().note_desk(action);
        let snapshot = self.record_cards(id, handover, action, &did, &overview).await?.unwrap_or(found);
        Ok(Acted { did, overview, snapshot })
    }

    fn tally(&self) -> &Tally {
        self.orders.tally()
    }

    /// The environment of an order, if it runs.
    fn running<'a>(&self, order: &'a Order) -> Result<&'a Handover, ShopError> {
        let refused = |state| {
            let reason = format!("there is nothing to act on in an order that is {state}");
            Err(ShopError::invalid_state(state, reason))
        };
        match &order.state {
            State::Provisioned { handover, .. } if handover.expires_at > self.clock.now() => Ok(handover),
            State::Provisioned { .. } => refused("expired"),
            other => refused(other.name()),
        }
    }

    /// One action and one look of an order at a time.
    fn take_turn(&self, id: OrderId, looks: bool) -> Result<Turn<'_>, ShopError> {
        if !lock(&self.under_way).insert((id, looks)) {
            return Err(ShopError::DeskBusy { retry_after_secs: RETRY_SECS });
        }
        Ok(Turn { desk: self, key: (id, looks) })
    }

    fn keep_pace(&self, id: OrderId) -> Result<(), ShopError> {
        if self.pace.len() > REMEMBERED {
            self.pace.retain_recent();
        }
        self.pace.check_key(&id).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.pace_clock.now());
            ShopError::DeskBusy { retry_after_secs: wait.as_secs() + 1 }
        })
    }

    fn take_place(&self, remote: &str) -> Result<OwnedSemaphorePermit, ShopError> {
        let places = {
            let mut all = lock(&self.places);
            let new = || Arc::new(Semaphore::new(MOST_ON_A_REMOTE));
            Arc::clone(all.entry(remote.to_owned()).or_insert_with(new))
        };
        places.try_acquire_owned().map_err(|_| ShopError::DeskBusy { retry_after_secs: RETRY_SECS })
    }

    /// Records a new card, and whatever else the environment's answer says about runes that the record does not have.
    async fn record_cards(
        &self,
        id: OrderId,
        handover: &Handover,
        action: &Action,
        did: &Did,
        overview: &Overview,
    ) -> Result<Option<Snapshot>, ShopError> {
        match (action, did) {
            (Action::NewCard { node, .. }, Did::NewCard { node: done, rune }) if node == done => {
                let runes = BTreeMap::from([(*node, rune.clone())]);
                self.cards.record(id, handover, runes).await.map(Some)
            }
            // It has no new card, whatever else it has done.
            (Action::NewCard { .. }, _) => Err(ShopError::DeskNoAnswer),
            _ => {
                let cards =
                    overview.nodes.iter().filter_map(|node| Some((node.index, node.card.as_deref()?)));
                match self.cards.converge(id, handover, cards).await {
                    // The action was carried out all the same, and the next answer of the environment tells again.
                    Err(ShopError::DeskNoAnswer | ShopError::DeskTooOld) => Ok(None),
                    other => other,
                }
            }
        }
    }
}

/// The beginning of a text that an environment may have written, in one line of a log.
fn excerpt(text: &str) -> String {
    text.chars().take(MAX_LOGGED_CHARS).collect::<String>().escape_debug().to_string()
}

/// An order's turn, until it is dropped.
struct Turn<'a> {
    desk: &'a Desk,
    key: (OrderId, bool),
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.desk.under_way).remove(&self.key);
    }
}
