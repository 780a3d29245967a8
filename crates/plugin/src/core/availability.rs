//! The room that can be sold: the remotes' last answers, minus everything that is reserved on them.
//!
//! The remotes are polled in the background, so that no buyer waits for one. An answer is valid for
//! [`Availability::valid_for`]; after that nothing is sold on the remote until it answers again, because "could not ask"
//! means neither "there is room" nor "there is none".
//!
//! A remote that answers and on which environments do not work is taken out by its [`Breaker`], from what is sold and from
//! placement, until a trial environment works there.
//!
//! Unpaid orders hold places. A buyer's share of what is free is limited ([`lnplaylive_core::holds`]), and a place that is held
//! for longer than `shop.contested_hold_secs` is sold when nothing else is free. Its order can still be paid; then it waits
//! for room, as every paid order does that finds none.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::breaker::{Circuit, Limits};
use lnplaylive_core::holds::{HeldBy, Need};
use lnplaylive_core::{Breaker, Order, OrderId, State, settings};
use provisioner::{Candidate, Claims, Environment, Load, Placed, RemoteReport, Room, Size};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, Notify, watch};
use tokio::time::{Instant, timeout};

use super::clocks::Clocks;
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
    /// Time of the question.
    pub fn asked(&self) -> Instant {
        self.asked
    }

    /// Time since the question.
    pub fn age(&self) -> Duration {
        self.asked.elapsed()
    }

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

/// A place that an unpaid order holds.
#[derive(Debug, Clone, Copy)]
struct Hold {
    size: Size,
    since: Timestamp,
    until: Timestamp,
}

/// The places that unpaid orders hold, apart from those that the open orders themselves tell of.
#[derive(Debug, Default)]
struct Holds {
    /// Of orders whose record is not written yet.
    in_progress: HashMap<OrderId, Hold>,
    /// Who holds a place. Not stored: after a restart nobody knows.
    by: HashMap<OrderId, HeldBy>,
}

/// The unpaid orders whose places count as taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    All,
    /// Those that are not contested yet.
    Fresh,
    None,
}

/// How many unpaid orders there may be, and for how long each surely keeps its place.
#[derive(Debug, Clone, Copy)]
pub struct HoldLimits {
    /// Most unpaid orders, and so the most places that there are to share.
    pub orders: u32,
    /// Age from which a hold does not count when nothing else is free.
    pub contested_after: SignedDuration,
}

/// A place that is reserved for an order until its record is written. Dropping it gives the place back, unless the order
/// is an open one by then.
#[derive(Debug)]
pub struct Reservation {
    availability: Arc<Availability>,
    id: OrderId,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        lock(&self.availability.holds).in_progress.remove(&self.id);
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
    /// Locked from looking for a place until it is reserved, so that no two get the last one.
    holds: Mutex<Holds>,
    hold_limits: HoldLimits,
    polled: watch::Sender<bool>,
    poll_now: Notify,
    /// Locked from choosing a place until the choice is recorded, so that no two get the same ports, or the same environment that
    /// was prepared.
    choosing: AsyncMutex<()>,
    /// The remotes' clocks, compared at each poll.
    pub clocks: Clocks,
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
        hold_limits: HoldLimits,
    ) -> Self {
        Self {
            clocks: Clocks::new(Arc::clone(&clock)),
            remotes,
            clock,
            orders,
            settings,
            poll_pause,
            breaker_limits,
            breakers: Mutex::default(),
            states: Mutex::default(),
            handed_over: Mutex::default(),
            holds: Mutex::default(),
            hold_limits,
            polled: watch::Sender::new(false),
            poll_now: Notify::new(),
            choosing: AsyncMutex::default(),
        }
    }

    /// True if the settings name a remote.
    pub fn has_remotes(&self) -> bool {
        !self.settings.is_empty()
    }

    /// True if the settings name this remote.
    pub fn has_remote(&self, name: &str) -> bool {
        self.settings.iter().any(|remote| remote.name == name)
    }

    /// The names of the remotes in the settings.
    pub fn remote_names(&self) -> impl Iterator<Item = &str> {
        self.settings.iter().map(|remote| remote.name.as_str())
    }

    /// Time for which a remote's answer is valid.
    pub fn valid_for(&self) -> Duration {
        self.poll_pause * VALID_PAUSES
    }

    /// State of each remote, by name.
    pub fn remote_states(&self) -> BTreeMap<String, RemoteState> {
        lock(&self.states).clone()
    }

    /// Passes the state of each remote to `look`, by name, without a copy.
    pub fn with_states<T>(&self, look: impl FnOnce(&BTreeMap<String, RemoteState>) -> T) -> T {
        look(&lock(&self.states))
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
        let mut reports = self.remotes.poll().await;
        self.clocks.check(&mut reports);
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

    /// The newest answers of those remotes that `reports` has answers of, and the environments that were handed over since then.
    ///
    /// While a poll waits for a slow remote, other orders are placed and handed over: environments that are neither in its
    /// answers nor open orders' any more.
    pub fn newest(&self, mut reports: Vec<RemoteReport>) -> (Vec<RemoteReport>, Vec<Placed>) {
        // Locked throughout: the next answer ends what was handed over before.
        let states = lock(&self.states);
        for report in reports.iter_mut().filter(|report| report.load.is_ok()) {
            if let Some(last) = states.get(&report.name).and_then(|state| state.last.as_ref()) {
                *report = last.report.clone();
            }
        }
        (reports, self.placed_since_polled())
    }

    /// The last answers that are still valid, and the environments that were handed over since then. Nothing is asked.
    pub fn last_reports(&self) -> (Vec<RemoteReport>, Vec<Placed>) {
        // Locked throughout, as above.
        let states = lock(&self.states);
        let last = states.values().filter_map(|state| state.last.as_ref());
        let valid = last.filter(|answer| answer.age() < self.valid_for());
        (valid.map(|answer| answer.report.clone()).collect(), self.placed_since_polled())
    }

    /// Waits for the right to choose a place. To be held until the choice is recorded.
    pub async fn choosing(&self) -> AsyncMutexGuard<'_, ()> {
        self.choosing.lock().await
    }

    /// Changes with each poll.
    pub fn polled(&self) -> watch::Receiver<bool> {
        self.polled.subscribe()
    }

    /// Environments that were handed over since their remotes were last polled.
    fn placed_since_polled(&self) -> Vec<Placed> {
        let placed = |HandedOver { remote, environment, .. }: &HandedOver| Placed {
            remote: remote.clone(),
            member: environment.member.clone(),
            ports: environment.ports,
            address: environment.address,
            until: Some(environment.expires_at),
            hours: environment.hours,
        };
        lock(&self.handed_over).iter().map(placed).collect()
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

    /// How many more environments of each size could be placed now, and if none, when one could be.
    pub fn offered(&self, sizes: &[Size]) -> Vec<(u32, Option<Timestamp>)> {
        let holds = lock(&self.holds);
        let unpaid = self.unpaid(&holds);
        let mut offered: Vec<_> = self.look(&unpaid, Counted::All, |room| {
            let offer = |size: &Size| match room.count(*size) {
                0 => (0, self.next_available(room, *size)),
                count => (count, None),
            };
            sizes.iter().map(offer).collect()
        });
        if self.any_contested(&unpaid) && offered.iter().any(|(count, _)| *count == 0) {
            self.look(&unpaid, Counted::Fresh, |room| {
                for (size, offer) in sizes.iter().zip(&mut offered).filter(|(_, (count, _))| *count == 0) {
                    match room.count(*size) {
                        0 => {}
                        count => *offer = (count, None),
                    }
                }
            });
        }
        offered
    }

    /// How many environments of this size have room on each remote that is used, beside what is placed there, whoever waits
    /// for a place.
    pub fn room_by_remote(&self, size: Size) -> BTreeMap<String, u32> {
        let claims = Claims { placed: self.everything_placed(), ..Claims::default() };
        let (states, breakers) = (lock(&self.states), lock(&self.breakers));
        let room = |name: &str| {
            let is_used = breakers.get(name).is_none_or(Breaker::is_closed);
            let last = states.get(name).and_then(|state| state.last.as_ref());
            let valid = last.filter(|answer| is_used && answer.age() < self.valid_for());
            let report = valid.map(|answer| &answer.report);
            Room::new(&self.candidates(report), &claims).count(size)
        };
        self.remote_names().map(|name| (name.to_owned(), room(name))).collect()
    }

    /// Passes the room to `look` that is left once everything that is reserved has its place.
    fn look<T>(
        &self,
        unpaid: &HashMap<OrderId, Hold>,
        counted: Counted,
        look: impl FnOnce(&Room<'_>) -> T,
    ) -> T {
        let claims = self.claims(unpaid, counted);
        let states = lock(&self.states);
        let valid_for = self.valid_for();
        let breakers = lock(&self.breakers);
        let used = |name: &String| breakers.get(name).is_none_or(Breaker::is_closed);
        let states = states.iter().filter(|(name, _)| used(name)).map(|(_, state)| state);
        let valid = states.filter_map(|s| s.last.as_ref()).filter(|a| a.age() < valid_for);
        let reports: Vec<_> = valid.map(|answer| &answer.report).collect();
        look(&Room::new(&self.candidates(reports), &claims))
    }

    /// All places that unpaid orders hold.
    fn unpaid(&self, holds: &Holds) -> HashMap<OrderId, Hold> {
        let now = self.clock.now();
        let mut unpaid = holds.in_progress.clone();
        self.orders.for_each_order(|order| {
            unpaid.remove(&order.id);
            let until = reserved_until(order.invoice_expires_at);
            if order.state == State::Created && until > now {
                let hold = Hold { size: Size::from(&order.terms), since: order.created_at, until };
                unpaid.insert(order.id, hold);
            }
        });
        unpaid
    }

    /// Time from which a hold does not count when nothing else is free.
    fn contested_from(&self, hold: &Hold) -> Timestamp {
        hold.since.checked_add(self.hold_limits.contested_after).unwrap_or(Timestamp::MAX)
    }

    fn any_contested(&self, unpaid: &HashMap<OrderId, Hold>) -> bool {
        let now = self.clock.now();
        unpaid.values().any(|hold| self.contested_from(hold) <= now)
    }

    /// Everything that has a place and may not be in the remotes' answers.
    fn everything_placed(&self) -> Vec<Placed> {
        let mut all = self.orders.placed();
        for placed in self.placed_since_polled() {
            // Its order may still be open and have said the same.
            all.retain(|p| (&p.remote, p.ports) != (&placed.remote, placed.ports));
            all.push(placed);
        }
        all
    }

    /// Everything that is reserved.
    fn claims(&self, unpaid: &HashMap<OrderId, Hold>, counted: Counted) -> Claims {
        let now = self.clock.now();
        let mut claims = Claims { placed: self.everything_placed(), ..Claims::default() };
        let mut paid = Vec::new();
        self.orders.for_each_order(|order| {
            if let State::Queued { paid_at, .. } = order.state {
                paid.push((paid_at, Size::from(&order.terms)));
            }
        });
        // First come, first served.
        paid.sort_unstable();
        claims.paid = paid.into_iter().map(|(_, size)| size).collect();
        let counts = |hold: &&Hold| match counted {
            Counted::All => true,
            Counted::Fresh => self.contested_from(hold) > now,
            Counted::None => false,
        };
        let claim = |hold: &Hold| (hold.size, hold.until.min(self.contested_from(hold)));
        claims.unpaid = unpaid.values().filter(counts).map(claim).collect();
        claims.unpaid.sort_unstable_by_key(|(_, until)| *until);
        claims
    }

    /// Reserves a place for an order whose record is not written yet; `by` holds it if orders are rationed.
    pub fn reserve(self: &Arc<Self>, order: &Order, by: Option<HeldBy>) -> Result<Reservation, ShopError> {
        let size = Size::from(&order.terms);
        let mut holds = lock(&self.holds);
        let unpaid = self.unpaid(&holds);
        self.find_room(&unpaid, size)?;
        holds.by.retain(|id, _| unpaid.contains_key(id));
        if let Some(by) = by {
            self.check_share(&unpaid, &holds.by, by, size)?;
            holds.by.insert(order.id, by);
        }
        let until = reserved_until(order.invoice_expires_at);
        holds.in_progress.insert(order.id, Hold { size, since: order.created_at, until });
        drop(holds);
        Ok(Reservation { availability: Arc::clone(self), id: order.id })
    }

    /// Succeeds if there is a place for one more environment, even if it is one that has been held for long.
    fn find_room(&self, unpaid: &HashMap<OrderId, Hold>, size: Size) -> Result<(), ShopError> {
        let failing = lock(&self.breakers).values().any(|breaker| !breaker.is_closed());
        let found = self.look(unpaid, Counted::All, |room| {
            if room.has(size) {
                Ok(())
            } else if room.is_known() {
                Err(ShopError::SoldOut { next_available_at: self.next_available(room, size) })
            } else if failing {
                Err(ShopError::RemotesFailing)
            } else {
                Err(ShopError::availability_unknown(self.valid_for()))
            }
        });
        let contested =
            || self.any_contested(unpaid) && self.look(unpaid, Counted::Fresh, |room| room.has(size));
        match found {
            Err(ShopError::SoldOut { .. }) if contested() => Ok(()),
            found => found,
        }
    }

    /// Succeeds if one more hold is within its holder's share.
    fn check_share(
        &self,
        unpaid: &HashMap<OrderId, Hold>,
        by: &HashMap<OrderId, HeldBy>,
        holder: HeldBy,
        size: Size,
    ) -> Result<(), ShopError> {
        let of = |id: &OrderId| by.get(id).copied().unwrap_or(HeldBy::Shared);
        let held: Vec<_> = unpaid.iter().map(|(id, hold)| (of(id), hold.size.node_count)).collect();
        let Need { places, share } = holder.need(size.node_count, &held);
        if places == 0 {
            return Ok(());
        }
        let open = || self.look(unpaid, Counted::None, |room| room.count_up_to(size, places));
        if places <= self.hold_limits.orders && open() >= places {
            return Ok(());
        }
        let now = self.clock.now();
        let theirs = unpaid.iter().filter(|(id, _)| holder.shares(share, of(id)));
        let first = theirs.map(|(_, hold)| hold.until).min().unwrap_or(now);
        Err(ShopError::UnpaidLimit { share, retry_after_secs: first.duration_since(now).as_secs() + 1 })
    }

    /// Time at which there may be room for an environment of this size; `None` if nothing that ends would make enough.
    fn next_available(&self, room: &Room<'_>, size: Size) -> Option<Timestamp> {
        // What has ended and only waits to be removed frees its place at any moment.
        let now = self.clock.now();
        room.next(size).map(|at| whole_seconds(at.max(now)))
    }
}

fn reserved_until(invoice_expires_at: Timestamp) -> Timestamp {
    invoice_expires_at.checked_add(RESERVED_AFTER_EXPIRY).unwrap_or(Timestamp::MAX)
}
