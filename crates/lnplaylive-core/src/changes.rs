//! What has happened to an order between two of its records, for those who count.

use jiff::Timestamp;

use crate::order::{Order, State};

/// A change of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Its payment was seen.
    Paid,
    /// It was placed on a remote.
    Placed {
        /// The remote's name.
        remote: &'a str,
    },
    /// A placement was abandoned, or cancelled.
    Abandoned {
        /// The remote's name.
        remote: &'a str,
    },
    /// An environment was handed over.
    Delivered {
        /// The remote's name.
        remote: &'a str,
        /// The time from which on it was to be provisioned: the payment, or the operator's request to replace.
        due_since: Timestamp,
    },
    /// It was abandoned after the last attempt.
    Failed,
    /// The operator has cancelled it.
    Cancelled,
}

/// All changes between two records of an order, the earlier one first.
pub fn between<'a>(before: &'a Order, after: &'a Order) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    if before.state == State::Created && after.state != State::Created {
        changes.push(Change::Paid);
    }
    let (earlier, later) = (before.state.placement(), after.state.placement());
    if let Some(placement) = earlier
        && later.is_none_or(|later| later.project != placement.project)
    {
        let remote = placement.remote.as_str();
        changes.push(match (&after.state, before.due_since()) {
            (State::Provisioned { handover, .. }, Some(due_since))
                if handover.project == placement.project =>
            {
                Change::Delivered { remote, due_since }
            }
            _ => Change::Abandoned { remote },
        });
    }
    if let Some(placement) = later
        && earlier.is_none_or(|earlier| earlier.project != placement.project)
    {
        changes.push(Change::Placed { remote: &placement.remote });
    }
    if let State::Failed { cancelled, .. } = after.state
        && !matches!(before.state, State::Failed { .. })
    {
        changes.push(if cancelled { Change::Cancelled } else { Change::Failed });
    }
    changes
}
