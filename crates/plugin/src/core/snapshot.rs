//! An order as callers see it.

use jiff::Timestamp;
use lnplaylive_core::progress::Progress;
use lnplaylive_core::{Order, State};

/// Each change of the record raises the revision by this much. The numbers between count progress reports, which are not
/// recorded.
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
}

impl Snapshot {
    /// The order without any progress.
    pub fn of(order: Order) -> Self {
        Self { order, progress: None, ticks: 0 }
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
        self.order.revision * REVISION_STEP + self.ticks.min(REVISION_STEP - 2) + u64::from(over)
    }

    /// Name of the state that operators see: the order's, or `expired` once the environment has ended.
    pub fn state(&self, now: Timestamp) -> &'static str {
        match &self.order.state {
            State::Provisioned { handover, .. } if handover.expires_at <= now => "expired",
            state => state.name(),
        }
    }
}
