//! Counts what happens to orders and remotes since the start, and knows what is owed.
//!
//! Everything here is kept in memory as it happens, so that a scrape of the metrics reads no records.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use lnplaylive_core::changes::{self, Change};
use lnplaylive_core::desk::{Action, Kind};
use lnplaylive_core::order::Severity;
use lnplaylive_core::{Order, OrderId};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::interfaces::{Clock, Record};

/// Upper bounds of the buckets for the time from payment to hand-over, in seconds: from a container's few seconds to an order
/// that waited for room.
const DELIVERY_BUCKETS: [f64; 12] =
    [2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 21_600.0];

/// A remote, as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RemoteLabel {
    /// Its name in the settings.
    pub remote: String,
}

/// A kind of fault on a remote, as labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FaultLabels {
    /// The remote's name in the settings.
    pub remote: String,
    /// The severity: `passing`, `placement` or `remote`.
    pub severity: &'static str,
}

/// A kind of action of the organiser's desk, as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeskLabel {
    /// Its name.
    pub action: &'static str,
}

/// The counts of one kind of event, by remote.
pub type ByRemote = Family<RemoteLabel, Counter>;

/// Money that is owed to buyers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owed {
    /// The number of orders.
    pub orders: u64,
    /// The sum of their prices.
    pub msat: u64,
}

/// Closed orders that are owed. Until they have been read, it holds what has changed since the start.
#[derive(Debug, Default)]
struct ClosedOwed {
    amounts: BTreeMap<OrderId, Option<u64>>,
    read: bool,
}

/// Counts since the start, and what is owed.
#[derive(Debug)]
pub struct Tally {
    clock: Arc<dyn Clock>,
    /// Orders whose payment was seen.
    pub paid: Counter,
    /// Orders that failed.
    pub failed: Counter,
    /// Orders that the operator has cancelled after they were paid.
    pub cancelled: Counter,
    /// Orders that expired unpaid.
    pub expired: Counter,
    /// Environments that were handed over, by remote.
    pub delivered: ByRemote,
    /// Placements begun, by remote.
    pub placed: ByRemote,
    /// Placements abandoned or cancelled, by remote.
    pub abandoned: ByRemote,
    /// Steps that failed, by remote and severity.
    pub faults: Family<FaultLabels, Counter>,
    /// Actions of the organiser's desk that were carried out.
    pub desk_actions: Family<DeskLabel, Counter>,
    /// Seconds from the payment, or the operator's request to replace, to the hand-over.
    pub delivery_seconds: Histogram,
    closed_owed: Mutex<ClosedOwed>,
}

fn severity_label(severity: Severity) -> &'static str {
    match severity {
        Severity::Passing => "passing",
        Severity::Final => "placement",
        Severity::Remote => "remote",
    }
}

impl Tally {
    /// Counts from 0 for each of these remotes.
    pub fn new<'a>(clock: Arc<dyn Clock>, remotes: impl IntoIterator<Item = &'a str>) -> Self {
        let tally = Self {
            clock,
            paid: Counter::default(),
            failed: Counter::default(),
            cancelled: Counter::default(),
            expired: Counter::default(),
            delivered: Family::default(),
            placed: Family::default(),
            abandoned: Family::default(),
            faults: Family::default(),
            desk_actions: Family::default(),
            delivery_seconds: Histogram::new(DELIVERY_BUCKETS),
            closed_owed: Mutex::default(),
        };
        for kind in Kind::ALL.iter().filter(|kind| **kind != Kind::Look) {
            drop(tally.desk_actions.get_or_create(&DeskLabel { action: kind.name() }));
        }
        for remote in remotes {
            for family in [&tally.delivered, &tally.placed, &tally.abandoned] {
                drop(family.get_or_create(&RemoteLabel { remote: remote.to_owned() }));
            }
            for severity in [Severity::Passing, Severity::Final, Severity::Remote] {
                drop(tally.faults.get_or_create(&fault_labels(remote, severity)));
            }
        }
        tally
    }

    /// Counts what happened to an order between two records of it.
    pub fn note(&self, before: &Order, after: &Order) {
        for change in changes::between(before, after) {
            match change {
                Change::Paid => drop(self.paid.inc()),
                Change::Placed { remote } => count(&self.placed, remote),
                Change::Abandoned { remote } => count(&self.abandoned, remote),
                Change::Failed => drop(self.failed.inc()),
                Change::Cancelled => drop(self.cancelled.inc()),
                Change::Delivered { remote, due_since } => {
                    count(&self.delivered, remote);
                    let took = self.clock.now().duration_since(due_since);
                    // The clock may have been set back.
                    self.delivery_seconds.observe(took.as_secs_f64().max(0.0));
                }
            }
        }
    }

    /// Counts an action of the organiser's desk, unless it only looks.
    pub fn note_desk(&self, action: &Action) {
        if !action.only_looks()
            && let Some(kind) = action.kind()
        {
            self.desk_actions.get_or_create(&DeskLabel { action: kind.name() }).inc();
        }
    }

    /// Counts a step on a remote that failed.
    pub fn note_fault(&self, remote: &str, severity: Severity) {
        self.faults.get_or_create(&fault_labels(remote, severity)).inc();
    }

    /// Notes a closed order as it was just written, or one that was reopened as it is now.
    pub fn note_closed(&self, order: &Order) {
        let mut owed = self.lock();
        match order.owed_msat() {
            None if owed.read => drop(owed.amounts.remove(&order.id)),
            amount => drop(owed.amounts.insert(order.id, amount)),
        }
    }

    /// Takes up the closed orders, which were read at some time since the start.
    pub fn take_up_closed(&self, closed: &[Record]) {
        let mut owed = self.lock();
        for Record { order, .. } in closed {
            if let Entry::Vacant(entry) = owed.amounts.entry(order.id) {
                entry.insert(order.owed_msat());
            }
        }
        owed.amounts.retain(|_, amount| amount.is_some());
        owed.read = true;
    }

    /// What is owed of closed orders other than these; `None` until they have been read.
    pub fn owed_except(&self, is_open: impl Fn(OrderId) -> bool) -> Option<Owed> {
        let owed = self.lock();
        let amounts = owed.amounts.iter().filter(|(id, _)| !is_open(**id)).filter_map(|(_, amount)| *amount);
        owed.read.then(|| amounts.fold(Owed::default(), Owed::plus))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ClosedOwed> {
        self.closed_owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owed {
    /// With one more order.
    #[must_use]
    pub fn plus(self, msat: u64) -> Self {
        Self { orders: self.orders + 1, msat: self.msat.saturating_add(msat) }
    }
}

fn count(family: &ByRemote, remote: &str) {
    family.get_or_create(&RemoteLabel { remote: remote.to_owned() }).inc();
}

fn fault_labels(remote: &str, severity: Severity) -> FaultLabels {
    FaultLabels { remote: remote.to_owned(), severity: severity_label(severity) }
}
