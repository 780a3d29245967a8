//! The room that can be sold: the remotes' last answers, minus everything that is reserved on them.
//!
//! The remotes are polled in the background, so that no buyer waits for one. An answer is valid for
//! [`Availability::valid_for`]; after that nothing is sold on the remote until it answers again, because "could not ask"
//! means neither "there is room" nor "there is none".
//!
//! A remote that answers and on which environments do not work is taken out by its [`Breaker`], from what is sold and from
//! placement, until a trial environment works there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::breaker::{Circuit, Limits};
use lnplaylive_core::{Breaker, OrderId, State, settings};
use provisioner::{Candidate, Claims, Environment, Load, Placed, RemoteReport, Room, Size};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::error::ShopError;
use super::interfaces::{Clock, Remotes};
use super::order_book::{OrderBook, whole_seconds};
use super::order_handle::lock;

/// A remote's answer is valid for this many pauses between polls, so that one may be missing.
const VALID_PAUSES: u32 = 4;
/// Time after its expiry during which an invoice still reserves a place. By the node's clock, and until we hear of it, it
/// may have been paid in the last moment.
const RESERVED_AFTER_EXPIRY: SignedDuration = SignedDuration::from_secs(5);

/// Longest time of a trial. What it leaves then has an end in its name, and the culler removes it.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(900);

/// State of one remote.
#[derive(Debug, Clone, Default)]
pub struct RemoteState {
    /// Its last answer.
    pub last: Option<PollAnswer>,
    /// Time and reason of its last failure to answer.
    pub last_error: Option<(Timestamp, String)>,
}

/// A remote's answer to a poll.
#[derive(Debug, Clone)]
pub struct PollAnswer {
    /// Time of the question.
    asked: Instant,
    /// The same, on the wall clock.
    pub at: Timestamp,
    /// The answer.
    pub report: RemoteReport,
}

impl PollAnswer {
    /// The remote's load.
    pub fn load(&self) -> Option<&Load> {
        self.report.load.as_ref().ok()
    }
}

/// An environment that was handed over since its remote was last polled.
#[derive(Debug, Clone)]
struct HandedOver {
    remote: String,
    environment: Environment,
    at: Instant,
}

/// A sale in progress: its size, and until when its place is reserved.
type Sale = (Size, Timestamp);

/// A place that is reserved for an order until its record is written. Dropping it gives the place back, unless the order
/// is an open one by then.
#[derive(Debug)]
pub struct Reservation {
    availability: Arc<Availability>,
    id: OrderId,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        lock(&self.availability.sales).remove(&self.id);
    }
}

/// The remotes as they last answered, and what is reserved on them.
#[derive(Debug)]
pub struct Availability {
    remotes: Arc<dyn Remotes>,
    clock: Arc<dyn Clock>,
    orders: Arc<OrderBook>,
    settings: Vec<settings::Remote>,
    poll_pause: Duration,
    breaker_limits: Limits,
    /// One for each remote that has had a fault, or an environment that worked, since the start; and those restored from the
    /// open orders. A remote without one is used.
    breakers: Mutex<BTreeMap<String, Breaker>>,
    states: Mutex<BTreeMap<String, RemoteState>>,
    handed_over: Mutex<Vec<HandedOver>>,
    /// Sales in progress. Locked from looking for a place until it is reserved, so that no two get the last one.
    sales: Mutex<HashMap<OrderId, Sale>>,
    polled: watch::Sender<bool>,
    poll_now: Notify,
}

impl Availability {
    /// Nothing is known before the first poll. Polls are `poll_pause` apart.
    pub fn new(
        remotes: Arc<dyn Remotes>,
        clock: Arc<dyn Clock>,
        orders: Arc<OrderBook>,
        settings: Vec<settings::Remote>,
        poll_pause: Duration,
        breaker_limits: Limits,
    ) -> Self {
        Self {
            remotes,
            clock,
            orders,
            settings,
            poll_pause,
            breaker_limits,
            breakers: Mutex::default(),
            states: Mutex::default(),
            handed_over: Mutex::default(),
            sales: Mutex::default(),
            polled: watch::Sender::new(false),
            poll_now: Notify::new(),
        }
    }

    /// True if the settings name a remote.
    pub fn has_remotes(&self) -> bool {
        !self.settings.is_empty()
    }

    /// Time for which a remote's answer is valid.
    pub fn valid_for(&self) -> Duration {
        self.poll_pause * VALID_PAUSES
    }

    /// State of each remote, by name.
    pub fn remote_states(&self) -> BTreeMap<String, RemoteState> {
        lock(&self.states).clone()
    }

    /// Environments that were handed over since their remotes were last polled.
    pub fn handed_over(&self) -> Vec<Environment> {
        lock(&self.handed_over).iter().map(|one| one.environment.clone()).collect()
    }

    /// Notes a hand-over until the remote itself reports it.
    pub fn note_hand_over(&self, remote: &str, environment: Environment) {
        let remote = remote.to_owned();
        lock(&self.handed_over).push(HandedOver { remote, environment, at: Instant::now() });
    }

    /// Ends the pause before the next poll.
    pub fn poll_now(&self) {
        self.poll_now.notify_one();
    }

    /// Waits for the time of the next poll.
    pub async fn next_poll(&self) {
        // Both outcomes lead to the next poll.
        drop(timeout(self.poll_pause, self.poll_now.notified()).await);
    }

    /// Asks all remotes for their load and stores the answers.
    pub async fn poll_remotes(&self) -> Vec<RemoteReport> {
        let (asked, at) = (Instant::now(), self.clock.now());
        let reports = self.remotes.poll().await;
        for report in &reports {
            self.note_report(asked, at, report.clone());
        }
        self.polled.send_replace(true);
        reports
    }

    fn note_report(&self, asked: Instant, at: Timestamp, report: RemoteReport) {
        let name = report.name.clone();
        let mut states = lock(&self.states);
        let state = states.entry(name.clone()).or_default();
        if let Err(error) = &report.load {
            state.last_error = Some((at, error.clone()));
            return;
        }
        // Polls overlap: a later question may have been answered earlier.
        if state.last.as_ref().is_none_or(|last| last.asked < asked) {
            state.last = Some(PollAnswer { asked, at, report });
            lock(&self.handed_over).retain(|one| one.remote != name || one.at >= asked);
        }
    }

    /// Returns once the remotes were polled for the first time; [`ShopError::Starting`] after `limit`.
    pub async fn ready(&self, limit: Duration) -> Result<(), ShopError> {
        let mut polled = self.polled.subscribe();
        timeout(limit, polled.wait_for(|done| *done)).await.map_err(|_| ShopError::Starting)?.ok();
        Ok(())
    }

    /// Restores the breakers from the open orders, after these were read.
    pub fn restore_breakers(&self) {
        let (now, limits) = (self.clock.now(), &self.breaker_limits);
        let open: Vec<_> = self.orders.handles().iter().map(|handle| handle.order()).collect();
        for settings::Remote { name, .. } in &self.settings {
            let breaker = Breaker::restored(name, &open, now, limits);
            if breaker.faults > 0 {
                lock(&self.breakers).entry(name.clone()).or_insert(breaker);
            }
        }
    }

    /// The breaker of each remote that has one, by name.
    pub fn breakers(&self) -> BTreeMap<String, Breaker> {
        lock(&self.breakers).clone()
    }

    /// Records a fault of a remote.
    pub fn note_fault(&self, remote: &str, reason: &str) {
        let now = self.clock.now();
        let mut breakers = lock(&self.breakers);
        let breaker = breakers.entry(remote.to_owned()).or_default();
        if breaker.fault(reason, now, &self.breaker_limits) {
            tracing::warn!(
                "remote {remote:?}: nothing more is sold or placed there: {} placements in a row did not work; \
                 a trial is made from time to time, see lnplayops-remotes: {reason}",
                breaker.faults
            );
        }
    }

    /// Records an environment that works on a remote.
    pub fn note_works(&self, remote: &str) {
        let now = self.clock.now();
        if lock(&self.breakers).entry(remote.to_owned()).or_default().works(now) {
            tracing::warn!("remote {remote:?}: environments work again, it is used again");
        }
    }

    /// True if an environment has worked on the remote since `time`, as far as is known since the start.
    pub fn worked_since(&self, remote: &str, time: Timestamp) -> bool {
        lock(&self.breakers).get(remote).is_some_and(|breaker| breaker.worked_since(time))
    }

    /// Makes all trials due.
    pub fn try_now(&self) {
        let now = self.clock.now();
        lock(&self.breakers).values_mut().for_each(|breaker| breaker.try_now(now));
        self.poll_now();
    }

    /// The remotes that a trial is to be made on now. Their breakers are half-open from here on.
    pub fn begin_trials(&self) -> Vec<String> {
        let now = self.clock.now();
        let mut breakers = lock(&self.breakers);
        breakers
            .iter_mut()
            .filter_map(|(remote, breaker)| breaker.begin_trial(now).then(|| remote.clone()))
            .collect()
    }

    /// Makes an environment on a remote to see whether one works, and records the outcome.
    pub async fn try_out(&self, remote: &str) {
        let reserved = self.orders.placed();
        let tried = timeout(TRIAL_TIMEOUT, self.remotes.try_out(remote, &reserved)).await;
        let reason = match tried {
            Ok(Ok(())) => return self.note_works(remote),
            Ok(Err(error)) => error.reason,
            Err(_) => format!("remote {remote:?}: a trial took longer than {} s", TRIAL_TIMEOUT.as_secs()),
        };
        tracing::info!("remote {remote:?}: environments still do not work there: {reason}");
        let now = self.clock.now();
        if let Some(breaker) = lock(&self.breakers).get_mut(remote) {
            breaker.trial_failed(&reason, now, &self.breaker_limits);
        }
    }

    /// The reports, with the reason in place of the load where a breaker is open.
    pub fn usable(&self, mut reports: Vec<RemoteReport>) -> Vec<RemoteReport> {
        let breakers = lock(&self.breakers);
        for report in reports.iter_mut().filter(|report| report.load.is_ok()) {
            if let Some(Breaker { circuit, faults, last_fault, .. }) = breakers.get(&report.name)
                && *circuit != Circuit::Closed
            {
                let last = last_fault.as_ref().map_or("before the last restart", |(_, reason)| reason);
                report.load =
                    Err(format!("environments do not work there ({faults} faults in a row): {last}"));
            }
        }
        reports
    }

    /// The remotes' settings next to what they reported.
    pub fn candidates<'a>(
        &'a self,
        reports: impl IntoIterator<Item = &'a RemoteReport>,
    ) -> Vec<Candidate<'a>> {
        let of = |report: &'a RemoteReport| {
            let settings = self.settings.iter().find(|settings| settings.name == report.name)?;
            Some(Candidate { settings, report })
        };
        reports.into_iter().filter_map(of).collect()
    }

    /// Passes the room to `look` that is left once everything that is reserved has its place.
    pub fn with_room<T>(&self, look: impl FnOnce(&Room<'_>) -> T) -> T {
        let sales = lock(&self.sales);
        self.look(&sales, look)
    }

    fn look<T>(&self, sales: &HashMap<OrderId, Sale>, look: impl FnOnce(&Room<'_>) -> T) -> T {
        let claims = self.claims(sales);
        let states = lock(&self.states);
        let valid_for = self.valid_for();
        let breakers = lock(&self.breakers);
        let used = |name: &String| breakers.get(name).is_none_or(Breaker::is_closed);
        let states = states.iter().filter(|(name, _)| used(name)).map(|(_, state)| state);
        let valid = states.filter_map(|s| s.last.as_ref()).filter(|a| a.asked.elapsed() < valid_for);
        let reports: Vec<_> = valid.map(|answer| &answer.report).collect();
        look(&Room::new(&self.candidates(reports), &claims))
    }

    /// Everything that is reserved.
    fn claims(&self, sales: &HashMap<OrderId, Sale>) -> Claims {
        let now = self.clock.now();
        let mut claims = Claims { placed: self.orders.placed(), ..Claims::default() };
        for HandedOver { remote, environment, .. } in lock(&self.handed_over).iter() {
            let placed = Placed {
                remote: remote.clone(),
                member: environment.member.clone(),
                ports: environment.ports,
                address: environment.address,
                until: Some(environment.expires_at),
                hours: environment.hours,
            };
            // Its order may still be open and have said the same.
            claims.placed.retain(|p| (&p.remote, p.ports) != (&placed.remote, placed.ports));
            claims.placed.push(placed);
        }
        let mut sales = sales.clone();
        let mut paid = Vec::new();
        self.orders.for_each_order(|order| {
            sales.remove(&order.id);
            let size = Size::from(&order.terms);
            match order.state {
                State::Created => {
                    let until = reserved_until(order.invoice_expires_at);
                    if until > now {
                        claims.unpaid.push((size, until));
                    }
                }
                State::Queued { paid_at, .. } => paid.push((paid_at, size)),
                _ => {}
            }
        });
        // First come, first served.
        paid.sort_unstable();
        claims.paid = paid.into_iter().map(|(_, size)| size).collect();
        claims.unpaid.extend(sales.into_values());
        claims.unpaid.sort_unstable_by_key(|(_, until)| *until);
        claims
    }

    /// Reserves a place for an order whose record is not written yet.
    pub fn reserve(
        self: &Arc<Self>,
        id: OrderId,
        size: Size,
        invoice_expires_at: Timestamp,
    ) -> Result<Reservation, ShopError> {
        let mut sales = lock(&self.sales);
        let failing = lock(&self.breakers).values().any(|breaker| !breaker.is_closed());
        self.look(&sales, |room| {
            if room.has(size) {
                Ok(())
            } else if room.is_known() {
                Err(ShopError::SoldOut { next_available_at: self.next_available(room, size) })
            } else if failing {
                Err(ShopError::RemotesFailing)
            } else {
                Err(ShopError::availability_unknown(self.valid_for()))
            }
        })?;
        sales.insert(id, (size, reserved_until(invoice_expires_at)));
        drop(sales);
        Ok(Reservation { availability: Arc::clone(self), id })
    }

    /// Time at which there may be room for an environment of this size; `None` if nothing that ends would make enough.
    pub fn next_available(&self, room: &Room<'_>, size: Size) -> Option<Timestamp> {
        // What has ended and only waits to be removed frees its place at any moment.
        let now = self.clock.now();
        room.next(size).map(|at| whole_seconds(at.max(now)))
    }
}

fn reserved_until(invoice_expires_at: Timestamp) -> Timestamp {
    invoice_expires_at.checked_add(RESERVED_AFTER_EXPIRY).unwrap_or(Timestamp::MAX)
}
