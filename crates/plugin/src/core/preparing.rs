//! Prepares environments for orders to come, and gives up those that nobody is to get.
//!
//! They are made while nothing else is done on a remote, one at a time there, and where another order of their size would still find
//! room. What was prepared by an earlier run of the plugin has its keys nowhere, so it is removed, unless an order has recorded that
//! it takes it over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::SignedDuration;
use lnplaylive_core::order::{Leftover, Placement};
use lnplaylive_core::settings::InstanceType;
use lnplaylive_core::{Order, OrderId, ProjectName, State, prepared};
use provisioner::{
    Avoid, Candidate, Choice, Environment, Load, PREPARED_HOURS, Placed, Size, choose, has_room_instead, keys,
};
use tokio::time::{Instant, sleep, timeout};

use super::availability::Availability;
use super::interfaces::{Clock, RemoteError, Remotes};
use super::order_book::OrderBook;
use super::order_handle::lock;
use super::pool::{Entry, EntryState, Pool};
use super::reminder::Reminder;

/// Longest time that one may take to be made. A remote that needs more is in no state for it.
const MAKE_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest time that an order waits for the removal of one.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a failure to make one on a remote; it doubles with each further one.
const MAKE_PAUSE: Duration = Duration::from_secs(60);
/// Pause after a failure to remove one; it doubles likewise.
const REMOVE_PAUSE: Duration = Duration::from_secs(1);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Failures in a row to prepare something on a remote.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    pause: Duration,
    until: Instant,
}

/// Keeps the pool as it should be.
#[derive(Debug)]
pub struct Preparing {
    orders: Arc<OrderBook>,
    availability: Arc<Availability>,
    remotes: Arc<dyn Remotes>,
    clock: Arc<dyn Clock>,
    pool: Arc<Pool>,
    trouble: Mutex<BTreeMap<String, Trouble>>,
}

impl Preparing {
    /// Nothing is prepared before [`Preparing::run`].
    pub fn new(
        orders: Arc<OrderBook>,
        availability: Arc<Availability>,
        remotes: Arc<dyn Remotes>,
        clock: Arc<dyn Clock>,
        pool: Arc<Pool>,
    ) -> Self {
        Self { orders, availability, remotes, clock, pool, trouble: Mutex::default() }
    }

    /// Looks after the pool whenever the remotes were polled or it has changed, for ever.
    pub async fn run(self: Arc<Self>) {
        // What belongs to an order must be known before anything is removed.
        self.orders.loaded().await;
        let mut polled = self.availability.polled();
        loop {
            self.tidy().await;
            self.fill().await;
            tokio::select! {
                // Its sender lives as long as we do.
                _ = polled.changed() => {}
                () = self.pool.changed() => {}
            }
        }
    }

    /// Removes what is prepared and nobody's: of an earlier run, over, or no longer wanted.
    ///
    /// Nothing here may lead to another poll: a remote whose answers do not follow would be asked without pause.
    async fn tidy(self: &Arc<Self>) {
        let choosing = self.availability.choosing().await;
        let orders = self.recorded();
        let mut away = Vec::new();
        self.availability.with_states(|states| {
            for (remote, state) in states {
                let Some(answer) = &state.last else { continue };
                let there: Vec<_> = answer.load().into_iter().flat_map(Load::prepared).collect();
                let is_there = |project| there.iter().any(|one| one.project == project);
                self.pool.forget_missed(remote, answer.asked(), is_there);
                let unknown =
                    |one: &&&Environment| !orders.contains(&one.project) && !self.pool.has(one.project);
                away.extend(there.iter().filter(unknown).map(|one| unknown_entry(remote, one)));
            }
        });
        for entry in &away {
            self.pool.add(entry.clone());
        }
        away.extend(self.pool.send_away(&self.pool.unwanted(self.clock.now())));
        drop(choosing);
        for entry in away {
            tokio::spawn(Arc::clone(self).remove(entry));
        }
    }

    /// The projects that orders have recorded. What a closed order has was handed over, so it is not prepared any more, once its
    /// remote has been polled.
    fn recorded(&self) -> BTreeSet<ProjectName> {
        let handed_over = self.availability.handed_over();
        let mut recorded: BTreeSet<_> = handed_over.iter().map(|environment| environment.project).collect();
        self.orders.for_each_order(|order| {
            recorded.extend(order.state.placement().map(|placement| placement.project));
            recorded.extend(order.leftovers.iter().map(|leftover| leftover.project));
        });
        recorded
    }

    /// Begins to make what is missing, as far as the remotes have nothing else to do.
    async fn fill(self: &Arc<Self>) {
        if self.pool.missing(self.clock.now()).is_empty() {
            return;
        }
        let _choosing = self.availability.choosing().await;
        let Some(mut busy) = self.busy() else { return };
        let (reports, handed_over) = self.availability.last_reports();
        let reports = self.availability.usable(reports);
        let all = self.availability.candidates(&reports);
        let mut reserved = self.orders.placed();
        reserved.extend(handed_over);
        reserved.extend(self.pool.placed(true));
        for node_count in self.pool.missing(self.clock.now()) {
            let size = Size { node_count, hours: PREPARED_HOURS };
            let Some(choice) = place(&all, &busy, size, &reserved) else { continue };
            let Ok(now) = self.availability.clocks.start_of_hours(&choice.remote) else { continue };
            let id = OrderId::random();
            let Choice { remote, member, ports, address } = choice;
            let project = prepared::project_name(id, now);
            let access = keys::generate();
            let placement = Placement { remote, member, project, ports, address, access, prepared: None };
            busy.insert(placement.remote.clone());
            let entry = Entry::new(id, &placement);
            self.pool.add(entry.clone());
            reserved.extend(self.pool.placed(true));
            tokio::spawn(Arc::clone(self).make(entry, placement));
        }
    }

    /// The remotes that have something else to do; `None` if an order waits for its place.
    fn busy(&self) -> Option<BTreeSet<String>> {
        let mut one_is_queued = false;
        let mut busy = BTreeSet::new();
        self.orders.for_each_order(|order| match &order.state {
            State::Queued { .. } => one_is_queued = true,
            State::Placing { placement, .. } | State::Deploying { placement, .. } => {
                busy.insert(placement.remote.clone());
            }
            _ => {}
        });
        let now = Instant::now();
        let trouble = lock(&self.trouble);
        busy.extend(
            trouble.iter().filter(|(_, trouble)| trouble.until > now).map(|(remote, _)| remote.clone()),
        );
        let making = self.availability.remote_names().filter(|remote| self.pool.is_making_on(remote));
        busy.extend(making.map(str::to_owned));
        (!one_is_queued).then_some(busy)
    }

    async fn make(self: Arc<Self>, entry: Entry, placement: Placement) {
        let Placement { remote, project, .. } = &placement;
        let made =
            timeout(MAKE_TIMEOUT, self.remotes.prepare(entry.id, entry.node_count(), &placement)).await;
        let reason = match made {
            Ok(Ok(())) => {
                lock(&self.trouble).remove(remote);
                tracing::info!("remote {remote:?}: prepared {project}, for {} nodes", entry.node_count());
                return self.pool.note_made(*project);
            }
            Ok(Err(error)) => error.reason,
            Err(_) => format!("{project} was not made within {} s", MAKE_TIMEOUT.as_secs()),
        };
        tracing::warn!("remote {remote:?}: cannot prepare an environment, trying again later: {reason}");
        self.note_trouble(remote);
        for entry in self.pool.send_away(&[*project]) {
            Arc::clone(&self).remove(entry).await;
        }
    }

    fn note_trouble(&self, remote: &str) {
        let mut trouble = lock(&self.trouble);
        let before = trouble.get(remote).map(|trouble| trouble.pause);
        let pause = before.map_or(MAKE_PAUSE, |pause| (2 * pause).min(LONGEST_PAUSE));
        trouble.insert(remote.to_owned(), Trouble { pause, until: Instant::now() + pause });
    }

    /// True if there may be one for an order.
    pub fn may_have_for(&self, order: &Order) -> bool {
        let may_take = order.state.attempts().is_some_and(|attempts| !attempts.prepared_failed);
        may_take && self.pool.has_ready(order.terms.node_count)
    }

    /// Takes one out of the pool for an order, which is to end when the order's time and `allowance` are over; not where `avoid`
    /// says. Nobody is asked: whether it is still there is seen when the order takes it over. To be called with the right to
    /// choose a place.
    pub fn take(
        &self,
        order: &Order,
        allowance: SignedDuration,
        avoid: &[Avoid<'_>],
    ) -> Option<(Entry, Placement)> {
        let Self { availability, pool, .. } = self;
        let (reports, handed_over) = availability.last_reports();
        let reports = availability.usable(reports);
        let mut reserved = self.orders.placed();
        reserved.extend(handed_over);
        let size = Size::from(&order.terms);
        // What its remote has not reported since it was made, or no longer reports, the pool knows better.
        let can_have = |site: &Leftover| {
            let Some(report) = reports.iter().find(|report| report.name == site.remote) else { return false };
            let Ok(load) = &report.load else { return false };
            let has_moved = |one: &Environment| one.project == site.project && one.member != site.member;
            let candidate = availability.candidates([report]).pop();
            !avoid.iter().any(|avoid| avoid.remote == site.remote)
                && !load.prepared().any(has_moved)
                && candidate.is_some_and(|candidate| {
                    has_room_instead(candidate, site.member.as_deref(), size, &reserved)
                })
        };
        let owed = order.owed_time();
        let entry = pool.take(order.terms.node_count, owed, self.clock.now(), can_have)?;
        let start = availability.clocks.start_of_hours(&entry.site.remote).ok();
        let end = start.map(|start| prepared::end_when_taken(owed, allowance, start));
        let Some(placement) = end.and_then(|end| entry.placement(end)) else {
            pool.add(entry);
            return None;
        };
        Some((entry, placement))
    }

    /// Gives these up for an order that waits for their room. Returns once they are gone, or cannot be removed for now.
    pub async fn give_up(self: &Arc<Self>, projects: &[ProjectName]) {
        join_all(self.pool.send_away(projects).into_iter().map(|entry| async move {
            let Leftover { remote, project, .. } = &entry.site;
            tracing::info!("remote {remote:?}: giving {project} up, which was prepared, for an order");
            // Goes on in the background if it takes long.
            let removal = tokio::spawn(Arc::clone(self).remove(entry.clone()));
            drop(timeout(GIVE_UP_TIMEOUT, removal).await);
        }))
        .await;
    }

    /// Removes one that has left the pool, and tries again until it is gone.
    async fn remove(self: Arc<Self>, entry: Entry) {
        let Leftover { remote, project, .. } = &entry.site;
        let mut pause = REMOVE_PAUSE;
        let mut reminder = Reminder::default();
        while let Err(RemoteError { reason, .. }) = self.remotes.give_up(remote, entry.id, *project).await {
            if reminder.is_due(&reason) {
                tracing::warn!(
                    "remote {remote:?}: cannot remove {project} yet, which was prepared; trying again, and the culler \
                     removes it after its end: {reason}"
                );
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.pool.note_gone(*project);
    }
}

/// One that a remote reports and this run has not made.
fn unknown_entry(remote: &str, environment: &Environment) -> Entry {
    let site = Leftover {
        remote: remote.to_owned(),
        member: environment.member.clone(),
        project: environment.project,
        ports: environment.ports,
        address: environment.address,
        prepared: Some(environment.order),
    };
    Entry { id: environment.order, site, state: EntryState::Leaving }
}

/// Where one more is made: on a container remote that is not busy, if another order of its size would still find room.
fn place(all: &[Candidate<'_>], busy: &BTreeSet<String>, size: Size, reserved: &[Placed]) -> Option<Choice> {
    let can_prepare = |candidate: &&Candidate<'_>| {
        candidate.settings.instance_type == InstanceType::Container
            && !busy.contains(&candidate.settings.name)
    };
    let idle: Vec<_> = all.iter().filter(can_prepare).copied().collect();
    let choice = choose(&idle, size, reserved, &[], 0).ok()?;
    let Choice { remote, member, ports, address } = choice.clone();
    let with_it = Placed { remote, member, ports, address, until: None, hours: size.hours };
    let reserved: Vec<_> = reserved.iter().cloned().chain([with_it]).collect();
    choose(all, size, &reserved, &[], 0).ok().map(|_| choice)
}
