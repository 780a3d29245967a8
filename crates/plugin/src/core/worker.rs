//! Takes a paid order through its steps until there is nothing left to do.
//!
//! Everything that a step needs is in the record before the step runs, so a worker can be killed at any time: after the
//! next start another one goes on from the record.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::order::{Leftover, Placement, Severity};
use lnplaylive_core::settings::Provisioning;
use lnplaylive_core::tags::Stage;
use lnplaylive_core::{Event, Order, ProjectName, Work, expiry};
use provisioner::{Avoid, Deployed, Environment, Size, choose, keys, to_give_up};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::availability::Availability;
use super::clean_up::CleanUp;
use super::interfaces::{Clock, RemoteError, Remotes};
use super::order_book::{OrderBook, START_TIMEOUT};
use super::order_handle::{ApplyError, OrderHandle, lock};
use super::pool::Pool;
use super::preparing::Preparing;
use super::probes::Probes;
use super::reminder::Reminder;
use super::routes::RoutesPublisher;
use super::snapshot::Snapshot;

/// Pause after a worker has panicked: the bug is still there, and trying at once would not help.
const AFTER_PANIC: Duration = Duration::from_secs(60);

/// The workers of all orders.
#[derive(Debug)]
pub struct Workers {
    orders: Arc<OrderBook>,
    availability: Arc<Availability>,
    routes: Arc<RoutesPublisher>,
    probes: Arc<Probes>,
    pool: Arc<Pool>,
    preparing: Arc<Preparing>,
    remotes: Arc<dyn Remotes>,
    clock: Arc<dyn Clock>,
    settings: Provisioning,
    clean_up: CleanUp,
    /// For each remote, one permit for each step that may run there at the same time. A remote whose steps hang holds no
    /// other's.
    slots: std::sync::Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// What the workers have in common with the rest of the shop.
#[derive(Debug)]
pub struct Parts {
    /// All open orders.
    pub orders: Arc<OrderBook>,
    /// Room on the remotes.
    pub availability: Arc<Availability>,
    /// The gateway's route table.
    pub routes: Arc<RoutesPublisher>,
    /// The health of environments that were handed over.
    pub probes: Arc<Probes>,
    /// What is prepared for orders.
    pub pool: Arc<Pool>,
    /// Keeps the pool as it should be.
    pub preparing: Arc<Preparing>,
}

impl Workers {
    /// Workers for paid orders; `settings` says how many steps run at a time and how long to wait after failures.
    pub fn new(
        parts: Parts,
        remotes: Arc<dyn Remotes>,
        clock: Arc<dyn Clock>,
        settings: Provisioning,
    ) -> Self {
        let Parts { orders, availability, routes, probes, pool, preparing } = parts;
        let first_pause = Duration::from_millis(settings.backoff_ms.into());
        let clean_up =
            CleanUp::new(Arc::clone(&orders), Arc::clone(&availability), Arc::clone(&remotes), first_pause);
        Self {
            orders,
            availability,
            routes,
            probes,
            pool,
            preparing,
            remotes,
            clock,
            settings,
            clean_up,
            slots: std::sync::Mutex::default(),
        }
    }

    /// The longest wait between two attempts.
    fn longest_wait(&self) -> SignedDuration {
        let Provisioning { max_backoff_ms, max_retry_pause_ms, .. } = self.settings;
        SignedDuration::from_millis(max_backoff_ms.max(max_retry_pause_ms).into())
    }

    fn slots(&self, remote: &str) -> Arc<Semaphore> {
        let permits = usize::try_from(self.settings.concurrency).unwrap_or(Semaphore::MAX_PERMITS);
        let mut slots = lock(&self.slots);
        Arc::clone(slots.entry(remote.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(permits))))
    }

    /// Starts a worker for each order that comes in and has none.
    pub async fn run(self: Arc<Self>, mut to_work: mpsc::UnboundedReceiver<Arc<OrderHandle>>) {
        while let Some(handle) = to_work.recv().await {
            let unpaid = handle.with_order(|order| order.work() == Work::AwaitPayment);
            if !unpaid && handle.claim() {
                tokio::spawn(Arc::clone(&self).supervise(handle));
            }
        }
    }

    /// Runs a worker, and again if it panics.
    async fn supervise(self: Arc<Self>, handle: Arc<OrderHandle>) {
        let run = || {
            let worker = Worker {
                shared: Arc::clone(&self),
                handle: Arc::clone(&handle),
                failed_site: std::sync::Mutex::default(),
                not_placed: std::sync::Mutex::default(),
            };
            tokio::spawn(worker.run())
        };
        while let Err(error) = run().await {
            tracing::error!("order {handle}: its worker failed: {error}");
            sleep(AFTER_PANIC).await;
        }
        handle.release();
    }
}

/// What came of choosing a remote.
enum Chosen {
    /// It is recorded, or that there is none; or neither can be.
    Recorded(Result<(), ApplyError>),
    /// There is room once these are given up, which are prepared for others.
    GiveUp(Vec<ProjectName>),
}

/// Where something went wrong before with an order, or where the environment is that is replaced.
fn avoided<'a>(order: &'a Order, failed_site: Option<&'a Leftover>) -> Vec<Avoid<'a>> {
    let replaced = order.replaces.iter().filter_map(|replaced| replaced.leftover.as_ref());
    let avoid = failed_site.into_iter().chain(&order.leftovers).chain(replaced);
    let mut avoid: Vec<_> = avoid.map(|l| Avoid { remote: &l.remote, member: l.member.as_deref() }).collect();
    let broken = order.state.attempts().into_iter().flat_map(|attempts| attempts.remote_faults.keys());
    avoid.extend(broken.map(|remote| Avoid { remote, member: None }));
    avoid
}

struct Worker {
    shared: Arc<Workers>,
    handle: Arc<OrderHandle>,
    /// The last placement that was abandoned, to be avoided even if nothing is left of it.
    failed_site: std::sync::Mutex<Option<Leftover>>,
    not_placed: std::sync::Mutex<Reminder>,
}

impl Worker {
    async fn run(self) {
        let gone = tokio::select! {
            // So that tests can be repeated.
            biased;
            ended = self.provision() => ended.is_err(),
            () = self.shared.clean_up.run(&self.handle) => true,
        };
        if gone {
            let handle = &self.handle;
            tracing::error!(
                "order {handle}: its record is gone from the datastore; nothing more is done for it"
            );
        }
    }

    /// Takes the order through its steps until it is closed. Fails if its record is gone.
    async fn provision(&self) -> Result<(), ApplyError> {
        let handle = &self.handle;
        let mut backoff = Backoff::new(&self.shared.settings);
        loop {
            let order = handle.order();
            let result = match order.work() {
                Work::AwaitPayment => return Ok(()),
                Work::Close => match self.shared.orders.close(handle).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => Ok(()),
                    Err(error) => {
                        tracing::warn!("order {handle}: cannot close it, trying again: {error}");
                        backoff.wait().await;
                        Ok(())
                    }
                },
                Work::CleanUp => {
                    // It is done beside this. We hold the handle, so its sender lives.
                    let done = |shown: &Snapshot| shown.order.work() != Work::CleanUp;
                    drop(handle.watch().wait_for(done).await);
                    Ok(())
                }
                Work::Place(not_before) => self.step(not_before, None, Box::pin(self.place())).await,
                Work::BringUp(placement, not_before) => {
                    let step = Box::pin(self.bring_up(&order, placement));
                    self.step(not_before, Some(placement), step).await
                }
                Work::Deploy(placement, not_before) => {
                    let step = Box::pin(self.deploy(&order, placement));
                    self.step(not_before, Some(placement), step).await
                }
            };
            match result {
                // Refused: the operator has changed the order meanwhile. Look again.
                Ok(()) | Err(ApplyError::Refused(_) | ApplyError::Store(_)) => {}
                Err(error @ ApplyError::Gone) => return Err(error),
            }
        }
    }

    /// Waits until `not_before` and for a slot on the placement's remote, then runs the step. Returns early, having done
    /// nothing, when the order is woken: it has changed. Drops the step, as a crash would, when the order is cancelled.
    async fn step(
        &self,
        not_before: Timestamp,
        placement: Option<&Placement>,
        step: impl Future<Output = Result<(), ApplyError>>,
    ) -> Result<(), ApplyError> {
        let wait = not_before.duration_since(self.shared.clock.now());
        // No wait was meant to be longer: the clock was set back.
        let wait = wait.min(self.shared.longest_wait());
        if let Ok(wait @ Duration { .. }) = Duration::try_from(wait)
            && !wait.is_zero()
            && timeout(wait, self.handle.woken()).await.is_ok()
        {
            return Ok(());
        }
        let slots = placement.map(|placement| self.shared.slots(&placement.remote));
        let run = async {
            let _slot = match &slots {
                Some(slots) => Some(slots.acquire().await.expect("never closed")),
                // Choosing a remote holds nobody up, so it needs none.
                None => None,
            };
            step.await
        };
        tokio::select! {
            result = run => result,
            () = self.cancelled() => Ok(()),
        }
    }

    /// Returns once the operator has cancelled the order, or its replacement: there is nothing to be provisioned any more.
    async fn cancelled(&self) {
        let cancelled = |shown: &Snapshot| shown.order.state.attempts().is_none();
        // We hold the handle, so its sender lives.
        drop(self.handle.watch().wait_for(cancelled).await);
    }

    async fn apply(&self, event: Event) -> Result<(), ApplyError> {
        self.shared.orders.apply(&self.handle, event).await
    }

    /// Takes over what was prepared, or chooses a remote, and records the choice. Where there is no room, what was prepared for
    /// others is given up first.
    async fn place(&self) -> Result<(), ApplyError> {
        loop {
            if let Some(result) = self.take_over().await {
                return result;
            }
            match self.choose().await {
                Chosen::Recorded(result) => return result,
                // Each is given up once, so this comes to an end.
                Chosen::GiveUp(prepared) => self.shared.preparing.give_up(&prepared).await,
            }
        }
    }

    /// Takes over what was prepared for such an order, and records that; `None` if there is nothing.
    async fn take_over(&self) -> Option<Result<(), ApplyError>> {
        let Workers { availability, preparing, pool, .. } = &*self.shared;
        if !self.handle.with_order(|order| preparing.may_have_for(order)) {
            return None;
        }
        let _choosing = availability.choosing().await;
        let order = self.handle.order();
        let failed_site = lock(&self.failed_site).clone();
        let (entry, placement) =
            preparing.take(&order, self.allowance(), &avoided(&order, failed_site.as_ref()))?;
        let (project, site) = (placement.project, placement.site());
        tracing::info!("order {}: takes over {project} on {site}, which was prepared", self.handle);
        let result = self.apply(Event::Placed(placement)).await;
        // The operator may have changed the order meanwhile. Where the first write was not answered, it may be recorded and the second
        // one refused.
        let is_recorded = |order: &Order| order.state.placement().is_some_and(|at| at.project == project);
        if result.is_err() && !self.handle.with_order(is_recorded) {
            pool.add(entry);
        }
        Some(result)
    }

    /// Chooses a remote and records the choice.
    async fn choose(&self) -> Chosen {
        let Workers { orders, availability, pool, .. } = &*self.shared;
        // Ports that were reserved before the remotes were asked, or are when the choice is made.
        let mut reserved = orders.placed();
        let reports = availability.poll_remotes().await;
        let _choosing = availability.choosing().await;
        reserved.extend(orders.placed());
        // After the open orders: one that is handed over meanwhile is here or there.
        let (reports, handed_over) = availability.newest(reports);
        reserved.extend(handed_over);
        let reports = availability.usable(reports);
        let order = self.handle.order();
        let failed_site = lock(&self.failed_site).clone();
        let avoid = avoided(&order, failed_site.as_ref());
        let failed = order.state.attempts().map_or(0, |attempts| attempts.failed);
        let candidates = availability.candidates(&reports);
        let (size, placed) = (Size::from(&order.terms), reserved.len());
        reserved.extend(pool.placed(true));
        let choice = choose(&candidates, size, &reserved, &avoid, failed);
        if choice.is_err() {
            reserved.truncate(placed);
            reserved.extend(pool.placed(false));
            let prepared = to_give_up(&candidates, size, &reserved, failed, &pool.ready());
            if !prepared.is_empty() {
                return Chosen::GiveUp(prepared);
            }
        }
        let choice = choice.map_err(|no_room| no_room.to_string()).and_then(|choice| {
            let now =
                availability.clocks.start_of_hours(&choice.remote).map_err(|wrong| wrong.to_string())?;
            Ok((choice, now))
        });
        let event = match choice {
            Ok((choice, now)) => {
                let placement = Placement {
                    project: self.project_name(&order, now),
                    remote: choice.remote,
                    member: choice.member,
                    address: choice.address,
                    ports: choice.ports,
                    access: keys::generate(),
                    prepared: None,
                };
                tracing::info!(
                    "order {}: placed on {} in {}",
                    self.handle,
                    placement.site(),
                    placement.project
                );
                *lock(&self.not_placed) = Reminder::default();
                Event::Placed(placement)
            }
            Err(reason) => {
                if lock(&self.not_placed).is_due(&reason) {
                    tracing::warn!("order {}: no remote can take it now: {reason}", self.handle);
                }
                Event::NotPlaced { reason }
            }
        };
        Chosen::Recorded(self.apply(event).await)
    }

    /// The time that provisioning may take.
    fn allowance(&self) -> SignedDuration {
        SignedDuration::from_mins(self.shared.settings.allowance_mins.into())
    }

    /// Name of a new project for the order, which differs from every project that may still be on a remote.
    fn project_name(&self, order: &Order, now: Timestamp) -> ProjectName {
        let (owed, taken) = (order.owed_time(), order.taken());
        expiry::project_name(order.id, owed, self.allowance(), &taken, now)
    }

    async fn bring_up(&self, order: &Order, placement: &Placement) -> Result<(), ApplyError> {
        match self.shared.remotes.bring_up(order, placement).await {
            Ok(()) => self.apply(Event::InstanceRuns).await,
            Err(error) => self.step_failed(order, placement, error).await,
        }
    }

    async fn deploy(&self, order: &Order, placement: &Placement) -> Result<(), ApplyError> {
        match self.try_deploy(order, placement).await {
            Ok(handed_over) => {
                tracing::info!("order {}: provisioned on {}", self.handle, placement.remote);
                self.shared.availability.note_works(&placement.remote);
                let result = self.apply(handed_over).await;
                // The remote has time for the successor of what was taken over.
                self.shared.pool.wake();
                result
            }
            Err(error) => self.step_failed(order, placement, error).await,
        }
    }

    async fn try_deploy(&self, order: &Order, placement: &Placement) -> Result<Event, RemoteError> {
        let Workers { remotes, availability, routes, probes, .. } = &*self.shared;
        let mut show = |progress| self.handle.show_progress(progress);
        let Deployed { host, connection_strings } = remotes.deploy(order, placement, &mut show).await?;
        // After a restart the clocks may not have been compared yet.
        drop(availability.ready(START_TIMEOUT).await);
        let start = availability.clocks.start_of_hours(&placement.remote).map_err(|wrong| RemoteError {
            severity: Severity::Passing,
            reason: format!(
                "remote {:?}: the end of {} is not known: {wrong}",
                placement.remote, placement.project
            ),
        })?;
        let expires_at = expiry::handover_end(placement.project, order.owed_time(), start);
        remotes.hand_over(order.id, placement, expires_at).await?;
        let environment = Environment {
            project: placement.project,
            order: order.id,
            is_own: true,
            expires_at,
            hours: order.terms.hours,
            ports: placement.ports,
            address: placement.address,
            stage: Stage::Provisioned,
            moved_from: None,
            member: placement.member.clone(),
            host: Some(host),
        };
        availability.note_hand_over(&placement.remote, environment);
        probes.note_hand_over(order.id, &placement.remote, placement.project);
        // Before anybody has the connection strings.
        routes.publish().await;
        Ok(Event::HandedOver { expires_at, connection_strings })
    }

    async fn step_failed(
        &self,
        order: &Order,
        placement: &Placement,
        error: RemoteError,
    ) -> Result<(), ApplyError> {
        let RemoteError { mut severity, reason } = error;
        self.shared.orders.tally().note_fault(&placement.remote, severity);
        match severity {
            Severity::Passing => tracing::warn!("order {}: trying again: {reason}", self.handle),
            Severity::Final | Severity::Remote => {
                tracing::warn!("order {}: abandoning this placement: {reason}", self.handle);
            }
        }
        if severity == Severity::Remote {
            let availability = &self.shared.availability;
            availability.note_fault(&placement.remote, &reason);
            // Others work there, so it may be the order.
            if order.due_since().is_some_and(|at| availability.worked_since(&placement.remote, at)) {
                severity = Severity::Final;
            }
        }
        self.apply(Event::StepFailed { severity, reason: reason.clone() }).await?;
        if self.handle.with_order(|order| order.state.placement() != Some(placement)) {
            *lock(&self.failed_site) = Some(placement.leftover());
        }
        match self.handle.with_order(|order| order.state.name()) {
            "failed" => tracing::error!(
                "order {}: FAILED after all attempts; remove the cause and call lnplayops-retry, or refund the buyer: \
                 {reason}",
                self.handle
            ),
            "provisioned" => tracing::error!(
                "order {}: its environment was NOT REPLACED after all attempts and stays as it is; remove the cause and call \
                 lnplayops-replace again, or refund the buyer: {reason}",
                self.handle
            ),
            _ => {}
        }
        Ok(())
    }
}

/// Waits that double up to a limit.
struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    fn new(settings: &Provisioning) -> Self {
        Self {
            next: Duration::from_millis(settings.backoff_ms.into()),
            longest: Duration::from_millis(settings.max_backoff_ms.into()),
        }
    }

    async fn wait(&mut self) {
        sleep(self.next).await;
        self.next = (self.next * 2).min(self.longest);
    }
}
