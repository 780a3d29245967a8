//! The operator's actions on orders.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::order::{Handover, Leftover, Severity};
use lnplaylive_core::{Event, Order, OrderId, ProjectName, State};
use tokio::sync::Mutex;

use super::availability::Availability;
use super::error::ShopError;
use super::interfaces::{ArchivePart, Clock, DamagedRecord, Records, RemoteError, Remotes, RemoveIf};
use super::order_book::{Found, OrderBook};
use super::recording::{record, record_open};
use super::snapshot::Snapshot;

/// The operator's actions.
#[derive(Debug)]
pub struct Operator {
    orders: Arc<OrderBook>,
    availability: Arc<Availability>,
    remotes: Arc<dyn Remotes>,
    clock: Arc<dyn Clock>,
    /// Held by every action: two at a time might extend from the same end, or refund what is retried.
    acting: Arc<Mutex<()>>,
}

/// Places of records that are to be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Open orders, which are in memory.
    pub open: bool,
    /// Closed orders: their environments run, or their refunds are owed.
    pub closed: bool,
    /// Orders that have ended. They are read part by part, which takes the longer the more were ever sold.
    pub archive: bool,
}

impl Places {
    /// Open orders.
    pub const OPEN: Self = Self { open: true, closed: false, archive: false };
    /// Closed and archived orders.
    pub const CLOSED: Self = Self { open: false, closed: true, archive: true };
    /// All orders.
    pub const ALL: Self = Self { open: true, closed: true, archive: true };

    /// The places that have orders in a state of this name, and are among these too.
    #[must_use]
    pub fn with_state(self, state: &str) -> Self {
        let Self { open, closed, archive } = match state {
            "created" | "queued" | "placing" | "deploying" => Self::OPEN,
            // What is owed is not archived, and neither is an environment that runs.
            "failed" | "cancelled" | "provisioned" => Self { archive: false, ..Self::ALL },
            _ => Self::ALL,
        };
        Self { open: self.open && open, closed: self.closed && closed, archive: self.archive && archive }
    }
}

/// Orders as they were listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The orders, oldest first.
    pub orders: Vec<Snapshot>,
    /// The number of older ones that the limit left out.
    pub left_out: usize,
    /// Records that cannot be read.
    pub damaged: Vec<DamagedRecord>,
}

impl Listing {
    /// Drops the oldest orders beyond `limit`.
    fn keep_newest(&mut self, limit: usize) {
        // Creation is recorded to the second only.
        self.orders.sort_by_key(|shown| (shown.order.created_at, shown.order.state.paid_at()));
        let beyond = self.orders.len().saturating_sub(limit);
        self.orders.drain(..beyond);
        self.left_out += beyond;
    }
}

/// Result of a cancellation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// The order was unpaid; it and its invoice are gone.
    Removed,
    /// The order was paid; its price is to be refunded.
    Paid(Box<Snapshot>),
}

impl Operator {
    /// The operator of this order book.
    pub fn new(
        orders: Arc<OrderBook>,
        availability: Arc<Availability>,
        remotes: Arc<dyn Remotes>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let acting = orders.changing();
        Self { orders, availability, remotes, clock, acting }
    }

    /// The newest orders in these places, as far as `show` shows them, and the records there that cannot be read.
    pub async fn list(
        &self,
        places: Places,
        limit: usize,
        show: impl Fn(Snapshot) -> Option<Snapshot>,
    ) -> Result<Listing, ShopError> {
        self.orders.ready().await?;
        let mut listing = Listing::default();
        if places.open {
            let open = self.orders.handles();
            listing.orders.extend(open.iter().filter_map(|handle| show(handle.snapshot())));
            listing.damaged.extend(self.orders.damaged());
        }
        let add = |records: Records, listing: &mut Listing| {
            let snapshots = records.readable.into_iter().map(|record| Snapshot::of(record.order));
            listing.orders.extend(snapshots.filter_map(&show));
            listing.damaged.extend(records.damaged);
            listing.keep_newest(limit);
        };
        if places.closed {
            add(self.orders.closed().await?, &mut listing);
        }
        if places.archive {
            for part in ArchivePart::all() {
                add(self.orders.archived(part).await?, &mut listing);
            }
        }
        listing.keep_newest(limit);
        Ok(listing)
    }

    /// Gives up removing what is left of an abandoned placement, for example because its remote is gone.
    pub async fn forget(&self, id: OrderId, project: ProjectName) -> Result<Snapshot, ShopError> {
        let _acting = self.acting.lock().await;
        let snapshot = record(&self.orders, id, Event::LeftoverForgotten(project)).await?;
        // Its place is free.
        self.availability.poll_now();
        Ok(snapshot)
    }

    /// As [`Operator::list`], for orders with these ids, as far as they are still there.
    pub async fn find_all(
        &self,
        ids: &BTreeSet<OrderId>,
        limit: usize,
        show: impl Fn(Snapshot) -> Option<Snapshot>,
    ) -> Result<Listing, ShopError> {
        let mut listing = Listing::default();
        for id in ids {
            match self.orders.find(*id).await {
                Ok(order) => listing.orders.extend(show(order.snapshot())),
                Err(ShopError::NoSuchOrder | ShopError::DamagedRecord) => {}
                Err(error) => return Err(error),
            }
        }
        listing.keep_newest(limit);
        Ok(listing)
    }

    /// Tries again to provision an order that failed or waits.
    pub async fn retry(&self, id: OrderId) -> Result<Snapshot, ShopError> {
        let _acting = self.acting.lock().await;
        self.provision_again(id, |_| Ok(Event::Retry)).await
    }

    /// Provisions an environment again, for the paid time that is left. The old one is removed after the new one was handed
    /// over, or with `remove_first` before the new one is made.
    pub async fn replace(&self, id: OrderId, remove_first: bool) -> Result<Snapshot, ShopError> {
        let _acting = self.acting.lock().await;
        let event = |order: &Order| {
            let handover = self.replaceable(order)?;
            let leftover = handover.leftover().or_else(|| self.reported(handover));
            let leftover = leftover.ok_or_else(|| not_reported(handover))?;
            Ok(Event::Replace { leftover, remove_first })
        };
        let snapshot = self.provision_again(id, event).await?;
        tracing::warn!(
            "order {:08x}: its environment is replaced, as the operator says",
            u32::from_be_bytes(id.short())
        );
        Ok(snapshot)
    }

    /// The environment of an order, if it can be replaced.
    fn replaceable<'a>(&self, order: &'a Order) -> Result<&'a Handover, ShopError> {
        let State::Provisioned { handover, .. } = &order.state else {
            let state = order.state.name();
            let reason = format!("cannot replace the environment of an order that is {state}");
            return Err(ShopError::invalid_state(state, reason));
        };
        if handover.expires_at <= self.clock.now() {
            let reason = format!("cannot replace an environment that ended at {}", handover.expires_at);
            return Err(ShopError::invalid_state("expired", reason));
        }
        if let Some(at) = handover.refunded_at {
            let reason = format!("cannot replace an environment whose price was paid back at {at}");
            return Err(ShopError::invalid_state("refunded", reason));
        }
        Ok(handover)
    }

    /// What is to be removed of an environment whose record does not say it, as its remote last reported it.
    fn reported(&self, handover: &Handover) -> Option<Leftover> {
        let mut states = self.availability.remote_states();
        let answer = states.remove(&handover.remote)?.last?;
        let environment = answer.load()?.environments.iter().find(|one| one.project == handover.project)?;
        Some(Leftover {
            remote: handover.remote.clone(),
            member: environment.member.clone(),
            project: handover.project,
            ports: environment.ports,
            address: environment.address,
            prepared: None,
        })
    }

    /// Records an event after which the order is to be provisioned, and has it worked on at once.
    async fn provision_again(
        &self,
        id: OrderId,
        event: impl Fn(&Order) -> Result<Event, ShopError>,
    ) -> Result<Snapshot, ShopError> {
        let handle = loop {
            match self.orders.find_to_change(id).await? {
                Found::Open(handle) => {
                    if record_open(&self.orders, &handle, event(&handle.order())?).await? {
                        break handle;
                    }
                }
                Found::Closed(order) => {
                    let order = self.orders.after(&order, event(&order)?)?;
                    break self.orders.reopen(order).await?;
                }
            }
        };
        // The operator may have mended what was wrong with a remote.
        self.availability.try_now();
        handle.wake();
        self.orders.request_work(&handle);
        Ok(handle.snapshot())
    }

    /// Cancels an order that is not provisioned yet.
    pub async fn cancel(&self, id: OrderId) -> Result<Cancelled, ShopError> {
        let _acting = self.acting.lock().await;
        loop {
            let handle = match self.orders.find_to_change(id).await? {
                Found::Open(handle) => handle,
                Found::Closed(order) => return Err(cannot_cancel(order.state.name())),
            };
            if handle.is_unpaid() {
                let removed =
                    self.orders.remove_unpaid(&handle, &[RemoveIf::Unpaid, RemoveIf::Expired]).await?;
                if removed && handle.is_unpaid() {
                    tracing::info!("order {handle}: cancelled by the operator before it was paid");
                    return Ok(Cancelled::Removed);
                }
                // It was paid in this moment.
                self.orders.find_payment(&handle).await?;
            }
            if record_open(&self.orders, &handle, Event::Cancel).await? {
                if handle.with_order(|order| matches!(order.state, State::Provisioned { .. })) {
                    tracing::warn!(
                        "order {handle}: its replacement was cancelled by the operator; the old environment stays"
                    );
                } else {
                    tracing::warn!(
                        "order {handle}: cancelled by the operator; refund its price to the buyer"
                    );
                }
                handle.wake();
                self.orders.request_work(&handle);
                return Ok(Cancelled::Paid(Box::new(handle.snapshot())));
            }
        }
    }

    /// Adds hours to the life of an environment.
    pub async fn extend(&self, id: OrderId, hours: u32) -> Result<Snapshot, ShopError> {
        let _acting = self.acting.lock().await;
        let order = self.orders.find_to_change(id).await?.snapshot().order;
        let State::Provisioned { handover, .. } = &order.state else {
            let state = order.state.name();
            return Err(ShopError::invalid_state(state, format!("cannot extend an order that is {state}")));
        };
        if handover.expires_at <= self.clock.now() {
            let reason = format!("cannot extend an environment that ended at {}", handover.expires_at);
            return Err(ShopError::invalid_state("expired", reason));
        }
        let hours = SignedDuration::from_hours(hours.into());
        let expires_at = handover.expires_at.checked_add(hours).unwrap_or(Timestamp::MAX);
        // The remote first: an end that it does not know must not be promised. If the record is not written, the same
        // call leads to the same end.
        self.remotes.extend(id, &handover.remote, handover.project, expires_at).await?;
        let snapshot = record(&self.orders, id, Event::Extended { expires_at }).await?;
        // The route to it ends later, too.
        self.availability.poll_now();
        Ok(snapshot)
    }

    /// Records that the buyer of an order was refunded, which failed or did not work as it should.
    pub async fn refunded(&self, id: OrderId, note: Option<String>) -> Result<Snapshot, ShopError> {
        let _acting = self.acting.lock().await;
        record(&self.orders, id, Event::Refunded { note }).await
    }
}

fn not_reported(handover: &Handover) -> ShopError {
    let reason = format!(
        "the order's record is from before its ports were recorded, and remote {:?} has not reported {}; try again once it \
         answers",
        handover.remote, handover.project
    );
    ShopError::Remote(RemoteError { severity: Severity::Passing, reason })
}

fn cannot_cancel(state: &'static str) -> ShopError {
    ShopError::invalid_state(state, format!("cannot cancel an order that is {state}"))
}
