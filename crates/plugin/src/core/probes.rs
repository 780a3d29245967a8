//! Asks the environments that were handed over for their health, a few a minute however many there are.
//!
//! The environments are those that the remotes report; of each the order's record says the way to it. Nothing of the answers is
//! stored: after a restart the health of an environment is unknown until its turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use lnplaylive_core::health::{self, Answer, Condition};
use lnplaylive_core::order::Handover;
use lnplaylive_core::{Health, Order, OrderId, ProjectName, State};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::availability::{Availability, PollAnswer};
use super::cards::Cards;
use super::error::ShopError;
use super::interfaces::{Clock, Remotes};
use super::order_book::{Found, OrderBook};
use super::order_handle::lock;
use super::snapshot::Snapshot;

/// Most probes under way at a time. One that hangs takes a minute.
const MAX_AT_A_TIME: usize = 4;
/// Longest time of a probe. The provisioner has limits of its own, which are shorter.
const PROBE_TIMEOUT: Duration = Duration::from_secs(90);
/// Environments of somebody else's that are passed over in one turn: another shop's on the same remote.
const MAX_PASSED_OVER: usize = 32;

/// The health of environments that were handed over.
#[derive(Debug)]
pub struct Probes {
    orders: Arc<OrderBook>,
    availability: Arc<Availability>,
    cards: Arc<Cards>,
    remotes: Arc<dyn Remotes>,
    clock: Arc<dyn Clock>,
    /// Pause between two turns; `None` if nothing is to be probed.
    pause: Option<Duration>,
    known: Mutex<BTreeMap<ProjectName, Known>>,
    slots: Arc<Semaphore>,
    changed: watch::Sender<()>,
    started_at: Timestamp,
}

/// The last that is known of an environment.
#[derive(Debug, Clone)]
struct Known {
    order: OrderId,
    remote: String,
    health: Health,
    /// Time of its last turn.
    asked: Option<Instant>,
}

/// An environment that was handed over, as far as is known.
#[derive(Debug, Clone, Copy)]
pub struct Watched<'a> {
    /// The remote's name in the settings.
    pub remote: &'a str,
    /// Its health.
    pub health: &'a Health,
}

impl Probes {
    /// Nothing is probed before [`Probes::run`]. At most `per_min` environments are asked each minute; 0: none.
    pub fn new(
        orders: Arc<OrderBook>,
        availability: Arc<Availability>,
        cards: Arc<Cards>,
        remotes: Arc<dyn Remotes>,
        clock: Arc<dyn Clock>,
        per_min: u32,
    ) -> Self {
        let started_at = clock.now();
        Self {
            orders,
            availability,
            cards,
            remotes,
            clock,
            pause: (per_min > 0).then(|| Duration::from_secs(60) / per_min),
            known: Mutex::default(),
            slots: Arc::new(Semaphore::new(MAX_AT_A_TIME)),
            changed: watch::Sender::new(()),
            started_at,
        }
    }

    /// Notes an environment that was just seen to work.
    pub fn note_hand_over(&self, order: OrderId, remote: &str, project: ProjectName) {
        let health = Health::new(Condition::Ok, self.clock.now());
        let known = Known { order, remote: remote.to_owned(), health, asked: Some(Instant::now()) };
        lock(&self.known).insert(project, known);
    }

    /// Changes whenever the health of an environment has changed.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The order as callers see it, with the health of its environment.
    pub fn shown(&self, snapshot: Snapshot) -> Snapshot {
        let health = self.health(&snapshot.order);
        Snapshot { health, ..snapshot }
    }

    /// The health of the order's environment; `None` if it has none, or nothing is probed.
    fn health(&self, order: &Order) -> Option<Health> {
        let State::Provisioned { handover, .. } = &order.state else { return None };
        self.pause?;
        if handover.expires_at <= self.clock.now() {
            return None;
        }
        let known = lock(&self.known).get(&handover.project).map(|known| known.health.clone());
        Some(known.unwrap_or_else(|| Health::new(Condition::Unknown, self.started_at)))
    }

    /// The orders whose environments have the condition of this name, as far as is known.
    pub fn with_condition(&self, name: &str) -> BTreeSet<OrderId> {
        let known = lock(&self.known);
        let so = known.values().filter(|known| known.health.condition.name() == name);
        so.map(|known| known.order).collect()
    }

    /// Passes every environment to `look` that was handed over and has not ended, as far as is known.
    pub fn for_each(&self, mut look: impl FnMut(Watched<'_>)) {
        for Known { remote, health, .. } in lock(&self.known).values() {
            look(Watched { remote, health });
        }
    }

    /// Gives one environment after another its turn, for ever.
    pub async fn run(self: &Arc<Self>) {
        let Some(pause) = self.pause else { return std::future::pending().await };
        self.orders.loaded().await;
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in 0_u64.. {
            ticks.tick().await;
            self.update().await;
            // If all are held by probes that hang, the turn is lost.
            if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned()
                && let Some((project, order, handover)) = self.choose(turn, pause).await
            {
                let probes = Arc::clone(self);
                tokio::spawn(async move {
                    probes.probe(project, order, &handover).await;
                    drop(slot);
                });
            }
        }
    }

    /// Takes up environments that are new, drops those that have ended, and looks into those that their remotes no longer report.
    async fn update(&self) {
        // In this order: what is known by now is reported, or was handed over since its remote was asked.
        let before: Vec<_> = lock(&self.known)
            .iter()
            .map(|(project, known)| (*project, known.order, known.remote.clone()))
            .collect();
        let mut there: BTreeSet<_> = self.availability.handed_over().iter().map(|one| one.project).collect();
        let mut answered = BTreeSet::new();
        let now = self.clock.now();
        for (remote, state) in self.availability.remote_states() {
            let Some(load) = state.last.as_ref().and_then(PollAnswer::load) else { continue };
            there.extend(load.environments.iter().map(|environment| environment.project));
            let living =
                load.environments.iter().filter(|e| e.is_own && e.is_provisioned() && e.expires_at > now);
            let mut known = lock(&self.known);
            for ended in load.environments.iter().filter(|environment| environment.expires_at <= now) {
                known.remove(&ended.project);
            }
            for environment in living {
                known.entry(environment.project).or_insert_with(|| Known {
                    order: environment.order,
                    remote: remote.clone(),
                    health: Health::new(Condition::Unknown, self.started_at),
                    asked: None,
                });
            }
            answered.insert(remote);
        }
        for (project, order, remote) in before {
            if there.contains(&project) || !answered.contains(&remote) {
                continue;
            }
            match self.handover(order, project).await {
                // It is to be there, and its remote says that it is not.
                Ok(Some(_)) => self.note(project, order, Answer::Stopped("its project is gone".to_owned())),
                Ok(None) => drop(lock(&self.known).remove(&project)),
                Err(_) => {}
            }
        }
    }

    /// The environment whose turn it is. Those that are not an order's of ours are passed over.
    async fn choose(&self, turn: u64, pause: Duration) -> Option<(ProjectName, OrderId, Handover)> {
        for _ in 0..MAX_PASSED_OVER {
            let candidates: Vec<_> = lock(&self.known)
                .iter()
                .map(|(project, known)| health::Candidate {
                    environment: (*project, known.order),
                    unprobed_for: known.asked.map(|asked| asked.elapsed()),
                    troubled: known.health.is_troubled(),
                })
                .collect();
            let (project, order) = health::next(&candidates, turn, pause)?;
            if let Some(known) = lock(&self.known).get_mut(&project) {
                known.asked = Some(Instant::now());
            }
            if let Ok(Some(handover)) = self.handover(order, project).await {
                return Some((project, order, handover));
            }
        }
        None
    }

    /// The environment in this project, if it is the order's now and has not ended.
    async fn handover(&self, order: OrderId, project: ProjectName) -> Result<Option<Handover>, ShopError> {
        let order = match self.orders.find(order).await {
            Ok(Found::Open(handle)) => handle.order(),
            Ok(Found::Closed(order)) => *order,
            Err(ShopError::NoSuchOrder | ShopError::DamagedRecord) => return Ok(None),
            Err(error) => return Err(error),
        };
        let State::Provisioned { handover, .. } = order.state else { return Ok(None) };
        Ok((handover.project == project && handover.expires_at > self.clock.now()).then_some(handover))
    }

    async fn probe(&self, project: ProjectName, order: OrderId, handover: &Handover) {
        let probed = timeout(PROBE_TIMEOUT, self.remotes.probe(handover)).await;
        let late = || Answer::NotAsked(format!("no answer after {} s", PROBE_TIMEOUT.as_secs()));
        let answer = probed.unwrap_or_else(|_| late());
        if let Answer::Report(report) = &answer
            && let Err(error) = self.cards.converge(order, handover, report.cards()).await
        {
            let order = u32::from_be_bytes(order.short());
            tracing::warn!("order {order:08x}: a new card is not recorded yet: {error}");
        }
        self.note(project, order, answer);
    }

    /// Records an answer, and tells about a change once.
    fn note(&self, project: ProjectName, order: OrderId, answer: Answer) {
        let now = self.clock.now();
        let (before, after, remote) = {
            let mut all = lock(&self.known);
            // It may have ended, or been replaced, meanwhile.
            let Some(known) = all.get_mut(&project) else { return };
            let before = std::mem::replace(&mut known.health, Health::new(Condition::Unknown, now));
            known.health = before.after(answer, now);
            (before, known.health.clone(), known.remote.clone())
        };
        if before.since == after.since && before.condition.name() == after.condition.name() {
            return;
        }
        let order = u32::from_be_bytes(order.short());
        match &after.condition {
            Condition::Degraded { nodes_down, what } => {
                let names: Vec<_> = nodes_down.iter().map(|node| node.name.as_str()).collect();
                let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
                tracing::warn!(
                    "order {order:08x}: its environment {project} on {remote} is DEGRADED: {what}{names}; \
                     see lnplayops-order, and lnplayops-replace if it does not recover"
                );
            }
            Condition::Unknown => {
                let reason = after.last_error.as_ref().map_or("", |(_, reason)| reason.as_str());
                tracing::info!(
                    "order {order:08x}: {project} on {remote} cannot be asked for its health: {reason}"
                );
            }
            Condition::Ok if before.condition == Condition::Unknown => {}
            Condition::Ok => {
                tracing::info!("order {order:08x}: its environment {project} on {remote} is well again");
            }
        }
        self.changed.send_replace(());
    }
}
