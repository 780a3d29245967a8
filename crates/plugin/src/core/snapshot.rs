//! An order as callers see it.

use jiff::Timestamp;
use lnplaylive_core::progress::Progress;
use lnplaylive_core::{Health, Order, State};

/// Each change of the record raises the revision by this much. The numbers between count progress reports, which are not
/// recorded, or stand for the health of the environment, which is not either.
const REVISION_STEP: u64 = 10_000;

/// An order's record and the progress of the step under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The order as it is recorded.
    pub order: Order,
    /// Last progress report of the step under way.
    pub progress: Option<Progress>,
    /// Progress reports since the record changed.
    pub ticks: u64,
    /// Health of the environment, where there is one.
    pub health: Option<Health>,
}

impl Snapshot {
    /// The order without any progress, or health.
    pub fn of(order: Order) -> Self {
        Self { order, progress: None, ticks: 0, health: None }
    }

    /// Time at which the status changes by itself, because an invoice or an environment expires.
    pub fn changes_at(&self) -> Option<Timestamp> {
        match &self.order.state {
            State::Created => Some(self.order.invoice_expires_at),
            State::Provisioned { handover, .. } => Some(handover.expires_at),
            _ => None,
        }
    }

    /// A number that differs whenever the status shown differs.
    pub fn revision(&self, now: Timestamp) -> u64 {
        let over = self.changes_at().is_some_and(|at| at <= now);
        // Told by its time, a change of health has the same number before and after a restart. 0 and 1 stand for none.
        let health = self
            .health
            .as_ref()
            .map_or(0, |health| 2 + health.since.as_second().unsigned_abs() % (REVISION_STEP - 2));
        let between = self.ticks.min(REVISION_STEP - 2) + u64::from(over);
        self.order.revision * REVISION_STEP + between.max(health)
    }

    /// Name of the state that operators see: the order's, or `expired` once the environment has ended.
    pub fn state(&self, now: Timestamp) -> &'static str {
        match &self.order.state {
            State::Provisioned { handover, .. } if handover.expires_at <= now => "expired",
            state => state.name(),
        }
    }
}
