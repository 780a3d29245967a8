//! Removes what abandoned placements have left on remotes, beside whatever else is done for their order.
//!
//! A remote that is gone or does not answer holds up neither the order nor its other leftovers. Nobody but the operator can
//! say that such a remote is never coming back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lnplaylive_core::order::Leftover;
use lnplaylive_core::{Event, Order, ProjectName};
use tokio::time::sleep;

use super::availability::Availability;
use super::interfaces::Remotes;
use super::order_book::OrderBook;
use super::order_handle::{ApplyError, OrderHandle};
use super::reminder::Reminder;

/// Longest pause between two attempts to remove a leftover.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The removal of leftovers, of all orders.
#[derive(Debug)]
pub struct CleanUp {
    orders: Arc<OrderBook>,
    availability: Arc<Availability>,
    remotes: Arc<dyn Remotes>,
    first_pause: Duration,
}

/// The order's record is gone.
struct Gone;

fn has(order: &Order, project: ProjectName) -> bool {
    order.leftovers.iter().any(|leftover| leftover.project == project)
}

impl CleanUp {
    /// Failed attempts are repeated after `first_pause`, which doubles with each further one, up to an hour.
    pub fn new(
        orders: Arc<OrderBook>,
        availability: Arc<Availability>,
        remotes: Arc<dyn Remotes>,
        first_pause: Duration,
    ) -> Self {
        Self { orders, availability, remotes, first_pause }
    }

    /// Removes the leftovers of an order, also those that it gets later, until it is dropped. Returns only if the order's
    /// record is gone.
    pub async fn run(&self, handle: &OrderHandle) {
        let mut shown = handle.watch();
        let mut under_way = FuturesUnordered::new();
        let mut projects = BTreeSet::new();
        loop {
            let leftovers = shown.borrow_and_update().order.leftovers.clone();
            for leftover in leftovers {
                if projects.insert(leftover.project) {
                    under_way.push(self.remove(handle, leftover));
                }
            }
            tokio::select! {
                // So that tests can be repeated.
                biased;
                Some(ended) = under_way.next() => match ended {
                    Ok(project) => drop(projects.remove(&project)),
                    Err(Gone) => return,
                },
                // We hold the handle, so its sender lives.
                _ = shown.changed() => {}
            }
        }
    }

    /// Tries to remove a leftover until it is gone, or the operator has it forgotten.
    async fn remove(&self, handle: &OrderHandle, leftover: Leftover) -> Result<ProjectName, Gone> {
        let Leftover { project, ref remote, .. } = leftover;
        let (mut shown, mut retried) = (handle.watch(), handle.retries());
        let mut pause = self.first_pause;
        let mut reminder = Reminder::default();
        while handle.with_order(|order| has(order, project)) {
            retried.mark_unchanged();
            match self.remotes.take_down(handle.id(), &leftover).await {
                Ok(()) => {
                    // Refused if it was forgotten meanwhile.
                    if let Err(ApplyError::Gone) =
                        self.orders.apply(handle, Event::LeftoverGone(project)).await
                    {
                        return Err(Gone);
                    }
                    // There may be room again.
                    self.availability.poll_now();
                }
                Err(error) => {
                    if reminder.is_due(&error.reason) {
                        let gone = if self.availability.has_remote(remote) {
                            "if the remote is gone for good"
                        } else {
                            "the settings have no such remote; if it is gone for good"
                        };
                        tracing::warn!(
                            "order {handle}: cannot remove {project} from {remote} yet, trying again: {error} \
                             ({gone}, call lnplayops-forget)"
                        );
                    }
                    tokio::select! {
                        () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                        // We hold the handle, so the senders live.
                        _ = retried.changed() => pause = self.first_pause,
                        _ = shown.wait_for(|shown| !has(&shown.order, project)) => {}
                    }
                }
            }
        }
        Ok(project)
    }
}
