//! Takes a paid order through its steps until there is nothing left to do.
//!
//! Everything a step needs is in the record before the step runs, so a worker can be killed at any
//! time: after the next start, another one goes on from the record.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::order::{Placement, Severity};
use lnplaylive_core::{Event, Order, ProjectName, State, Work};
use provisioner::{Avoid, Deployed, Environment, Size, choose, keys};
use tokio::time::{sleep, timeout};

use crate::desk::{ApplyError, Case, Desk};
use crate::view::Snapshot;

/// After a panic: something is wrong with us, and trying at once would not help.
const AFTER_PANIC: Duration = Duration::from_secs(60);
/// Sets a worker on the order, unless it has one or there is nothing to do.
pub(crate) fn start(desk: &Arc<Desk>, case: &Arc<Case>) {
    if case.order().work() == Work::AwaitPayment || !case.take() {
        return;
    }
    let (desk, case) = (Arc::clone(desk), Arc::clone(case));
    tokio::spawn(async move {
        while let Err(error) = tokio::spawn(run(Arc::clone(&desk), Arc::clone(&case))).await {
            tracing::error!("order {case}: its worker broke: {error}");
            sleep(AFTER_PANIC).await;
        }
        case.give_back();
    });
}

async fn run(desk: Arc<Desk>, case: Arc<Case>) {
    let worker = Worker { desk: &desk, case: &case };
    let mut pause = Pause::new(&desk);
    loop {
        let order = case.order();
        let result = match order.work() {
            Work::AwaitPayment => return,
            Work::Close => match desk.close(&case).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!("order {case}: could not be closed, trying again: {error}");
                    pause.wait().await;
                    Ok(())
                }
            },
            Work::CleanUp => {
                let result = worker.clean_up(&order).await;
                // There may be a place again.
                desk.stock.nudge.notify_one();
                if !case.order().leftovers.is_empty() {
                    pause.wait().await;
                }
                result
            }
            Work::Place(not_before) => worker.when(not_before, Box::pin(worker.place(&order))).await,
            Work::BringUp(placement, not_before) => {
                worker.when(not_before, Box::pin(worker.bring_up(&order, placement))).await
            }
            Work::Deploy(placement, not_before) => {
                worker.when(not_before, Box::pin(worker.deploy(&order, placement))).await
            }
        };
        match result {
            // Refused: it was moved meanwhile, by the operator. Look again.
            Ok(()) | Err(ApplyError::Refused(_) | ApplyError::Store(_)) => {}
            Err(ApplyError::Gone) => {
                tracing::error!(
                    "order {case}: its record is gone from the datastore; nothing more is done for it"
                );
                return;
            }
        }
    }
}

struct Worker<'a> {
    desk: &'a Arc<Desk>,
    case: &'a Arc<Case>,
}

impl Worker<'_> {
    /// Waits until `not_before` and for its turn, then does the step. Returns early when nudged, having
    /// done nothing: the order is another one now. Drops the step, as a crash would, when the order is called off.
    async fn when(
        &self,
        not_before: Timestamp,
        step: impl Future<Output = Result<(), ApplyError>>,
    ) -> Result<(), ApplyError> {
        let wait = not_before.duration_since(Timestamp::now());
        if let Ok(wait @ Duration { .. }) = Duration::try_from(wait)
            && !wait.is_zero()
            && timeout(wait, self.case.nudge.notified()).await.is_ok()
        {
            return Ok(());
        }
        let _turn = self.desk.workers.acquire().await.expect("never closed");
        tokio::select! {
            result = step => result,
            () = self.called_off() => Ok(()),
        }
    }

    /// Returns once the operator has called the order off.
    async fn called_off(&self) {
        let called_off =
            |shown: &Snapshot| matches!(shown.order.state, State::Failed { cancelled: true, .. });
        // We hold the case, so its sender lives.
        drop(self.case.watch().wait_for(called_off).await);
    }

    async fn apply(&self, event: Event) -> Result<(), ApplyError> {
        self.case.apply(self.desk, event).await
    }

    /// Chooses a remote and records the choice.
    async fn place(&self, order: &Order) -> Result<(), ApplyError> {
        // Where it went wrong, also when nothing is left there in a moment.
        let gone_wrong = &order.leftovers;
        self.clean_up(order).await?;
        let desk = self.desk;
        // Ports that were spoken for before the remotes were asked, or are when the choice is made.
        let mut reserved = desk.placed();
        let reports = desk.survey().await;
        let choosing = desk.choosing.lock().await;
        reserved.extend(desk.placed());
        let order = self.case.order();
        let avoid = gone_wrong.iter().chain(&order.leftovers);
        let avoid: Vec<_> = avoid.map(|l| Avoid { remote: &l.remote, member: l.member.as_deref() }).collect();
        let failed = order.state.attempts().map_or(0, |a| a.failed);
        let candidates = desk.provisioner.candidates(&reports);
        let size = Size::from(&order.terms);
        let event = match choose(&candidates, size, &reserved, &avoid, failed) {
            Ok(choice) => {
                let placement = Placement {
                    project: self.project_name(&order),
                    remote: choice.remote,
                    member: choice.member,
                    address: choice.address,
                    ports: choice.ports,
                    access: keys::generate(),
                };
                tracing::info!("order {}: goes to {} in {}", self.case, placement.site(), placement.project);
                Event::Placed(placement)
            }
            Err(no_room) => {
                tracing::warn!("order {}: no remote can take it now: {no_room}", self.case);
                Event::NotPlaced { reason: no_room.to_string() }
            }
        };
        let result = self.apply(event).await;
        drop(choosing);
        result
    }

    /// The project's name: it ends when the paid hours are over, counted from when provisioning may at
    /// the latest be done, and is none that may still be on a remote.
    fn project_name(&self, order: &Order) -> ProjectName {
        let allowance = SignedDuration::from_mins(self.desk.provisioning.allowance_mins.into());
        let mut expires =
            paid_until(order, Timestamp::now()).checked_add(allowance).unwrap_or(Timestamp::MAX);
        loop {
            let name = ProjectName::new(expires, order.id).expect("times from now on can be written");
            if order.leftovers.iter().all(|l| l.project != name) {
                return name;
            }
            expires = expires.checked_add(SignedDuration::from_secs(1)).expect("far from the end of time");
        }
    }

    async fn bring_up(&self, order: &Order, placement: &Placement) -> Result<(), ApplyError> {
        match self.desk.provisioner.bring_up(order, placement).await {
            Ok(()) => self.apply(Event::InstanceRuns).await,
            Err(error) => self.failed(&error).await,
        }
    }

    async fn deploy(&self, order: &Order, placement: &Placement) -> Result<(), ApplyError> {
        let provisioner = &self.desk.provisioner;
        let show = |progress| self.case.show_progress(progress);
        let result = async {
            let Deployed { host, connection_strings } = provisioner.deploy(order, placement, show).await?;
            // However long it took, the buyer gets the hours that were paid for.
            let expires_at = paid_until(order, Timestamp::now()).max(placement.project.expires());
            provisioner.hand_over(order.id, placement, expires_at).await?;
            let environment = Environment {
                project: placement.project,
                expires_at,
                hours: order.terms.hours,
                ports: Some(placement.ports),
                address: placement.address,
                provisioned: true,
                moved_from: None,
                member: placement.member.clone(),
                host: Some(host),
            };
            self.desk.stock.note_hand_over(&placement.remote, environment);
            // Before anybody has the connection strings.
            self.desk.write_routes().await;
            Ok(Event::HandedOver { expires_at, connection_strings })
        };
        match result.await {
            Ok(event) => {
                tracing::info!("order {}: provisioned on {}", self.case, placement.remote);
                self.apply(event).await
            }
            Err(error) => self.failed(&error).await,
        }
    }

    async fn failed(&self, error: &provisioner::Error) -> Result<(), ApplyError> {
        let (severity, reason) = (error.severity(), error.chain());
        match severity {
            Severity::Passing => tracing::warn!("order {}: trying again: {reason}", self.case),
            Severity::Final => tracing::warn!("order {}: this placement will not work: {reason}", self.case),
        }
        self.apply(Event::StepFailed { severity, reason: reason.clone() }).await?;
        if matches!(self.case.order().state, State::Failed { .. }) {
            tracing::error!(
                "order {}: FAILED after all attempts; mend the cause and call lnplayops-retry, or pay back: {reason}",
                self.case
            );
        }
        Ok(())
    }

    /// Removes what placements that were given up have left, as far as the remotes answer.
    async fn clean_up(&self, order: &Order) -> Result<(), ApplyError> {
        for leftover in &order.leftovers {
            match self.desk.provisioner.take_down(order.id, leftover).await {
                Ok(()) => self.apply(Event::LeftoverGone(leftover.project)).await?,
                Err(error) => {
                    tracing::warn!(
                        "order {}: {} stays for now: {}",
                        self.case,
                        leftover.project,
                        error.chain()
                    );
                }
            }
        }
        Ok(())
    }
}

/// When the hours that were paid for are over, if they begin now.
fn paid_until(order: &Order, now: Timestamp) -> Timestamp {
    let hours = SignedDuration::from_hours(order.terms.hours.into());
    now.checked_add(hours).unwrap_or(Timestamp::MAX)
}

/// Waits that grow.
struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    fn new(desk: &Desk) -> Self {
        let p = &desk.provisioning;
        Self {
            next: Duration::from_millis(p.backoff_ms.into()),
            longest: Duration::from_millis(p.max_backoff_ms.into()),
        }
    }

    async fn wait(&mut self) {
        sleep(self.next).await;
        self.next = (self.next * 2).min(self.longest);
    }
}
