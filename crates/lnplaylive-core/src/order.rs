//! An order and its life.
//!
//! ```text
//! created --paid--> queued --placed--> placing --instance runs--> deploying --handed over--> provisioned
//!    |                 ^  |               |                           |
//!    |                 |  +- no remote    +---- step failed ----------+--- out of attempts ---> failed
//! (invoice expired:    |     answers         (placement given up)     or: operator cancels        |
//!  removed)            +-----------------------------<---------------------- operator: retry ----+
//!                                                                            operator: refunded --+--> refunded
//! ```
//!
//! [`Order::apply`] is the only way from one state to the next. Whatever a step needs is in the state
//! *before* the step runs, so that whoever finds the record can go on from it. A placement that was
//! given up is a [`Leftover`] until the remote is known to have nothing of it.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::catalogue::Terms;
use crate::connection::ConnectionString;
use crate::ids::{OrderId, ProjectName};
pub use crate::ports::PortBlock;
use crate::secret::Secret;

/// How many entries of its history an order keeps; the oldest go first.
const HISTORY_LIMIT: usize = 100;

/// How often and how long to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Placements that may be given up before the order has failed. At least 1. A remote that does
    /// not answer when one is to be chosen does not count: such an order stays queued.
    pub max_attempts: u32,
    /// Passing faults in a row before a placement is given up for another. At least 1.
    pub patience: u32,
    /// The wait after a first fault; it doubles with each one after.
    pub backoff: SignedDuration,
    /// The longest wait.
    pub max_backoff: SignedDuration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            patience: 4,
            backoff: SignedDuration::from_secs(1),
            max_backoff: SignedDuration::from_secs(60),
        }
    }
}

impl Policy {
    fn wait(&self, faults: u32) -> SignedDuration {
        let factor = 1_i32 << faults.saturating_sub(1).min(20);
        self.backoff.checked_mul(factor).unwrap_or(self.max_backoff).min(self.max_backoff)
    }
}

/// An SSH key pair in OpenSSH's text formats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// `-----BEGIN OPENSSH PRIVATE KEY-----…`
    pub private: Secret,
    /// `ssh-ed25519 AAAA…`
    pub public: String,
}

/// The keys of one instance, made before it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The instance's host key, so that even the first connection is pinned.
    pub host_key: KeyPair,
    /// Our key to it.
    pub client_key: KeyPair,
}

/// Where an order's environment is to be, decided before anything is made there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// The remote's name in the settings.
    pub remote: String,
    /// The member of the remote's cluster; `None` on a single server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The project; its name holds the expiry.
    pub project: ProjectName,
    /// Its ports.
    pub ports: PortBlock,
    /// A virtual machine's static address on the remote's bridge; `None` for a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Its keys.
    pub access: Access,
}

impl Placement {
    /// What may be left of it on the remote once it is abandoned.
    pub fn leftover(&self) -> Leftover {
        Leftover {
            remote: self.remote.clone(),
            member: self.member.clone(),
            project: self.project,
            ports: self.ports,
            address: self.address,
        }
    }

    /// The remote, and the member where there is one, for messages.
    pub fn site(&self) -> String {
        match &self.member {
            Some(member) => format!("{}, member {member}", self.remote),
            None => self.remote.clone(),
        }
    }
}

/// What a placement that was given up may have left on a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leftover {
    /// The remote's name in the settings.
    pub remote: String,
    /// The member of the remote's cluster that it was placed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The project.
    pub project: ProjectName,
    /// The ports, in use until the project is gone.
    pub ports: PortBlock,
    /// A virtual machine's static address, in use until the project is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
}

/// What went wrong so far with an order that is to be provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempts {
    /// Placements that were given up.
    pub failed: u32,
    /// Passing faults in a row.
    pub faults: u32,
    /// Nothing is tried before.
    pub not_before: Timestamp,
}

/// What was handed to the buyer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The remote's name in the settings.
    pub remote: String,
    /// The project.
    pub project: ProjectName,
    /// When the environment ends; never earlier than the project's name says.
    pub expires_at: Timestamp,
    /// One for each node, node 0 first.
    pub connection_strings: Vec<ConnectionString>,
}

/// Where an order stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    /// An invoice is out and not paid.
    Created,
    /// Paid; to be placed on a remote.
    Queued {
        /// When the payment was seen.
        paid_at: Timestamp,
        /// What went wrong so far.
        attempts: Attempts,
    },
    /// The project and the instance are being made.
    Placing {
        /// When the payment was seen.
        paid_at: Timestamp,
        /// What went wrong so far.
        attempts: Attempts,
        /// Where.
        placement: Placement,
    },
    /// The instance runs; the network in it is being brought up.
    Deploying {
        /// When the payment was seen.
        paid_at: Timestamp,
        /// What went wrong so far.
        attempts: Attempts,
        /// Where.
        placement: Placement,
    },
    /// Handed over. Whether it has expired since is for the clock to say.
    Provisioned {
        /// When the payment was seen.
        paid_at: Timestamp,
        /// What the buyer has got.
        handover: Handover,
    },
    /// Given up; the operator has to retry or to pay back.
    Failed {
        /// When the payment was seen.
        paid_at: Timestamp,
        /// What went wrong last.
        reason: String,
        /// Whether nothing went wrong but the operator called it off.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cancelled: bool,
        /// When the operator said that the buyer was paid back, which is the end of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refunded_at: Option<Timestamp>,
    },
}

impl State {
    /// A short name: that in the record, or how what failed came to that or was settled.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Queued { .. } => "queued",
            Self::Placing { .. } => "placing",
            Self::Deploying { .. } => "deploying",
            Self::Provisioned { .. } => "provisioned",
            Self::Failed { refunded_at: Some(_), .. } => "refunded",
            Self::Failed { cancelled: true, .. } => "cancelled",
            Self::Failed { .. } => "failed",
        }
    }

    /// When the payment was seen; `None` while there was none.
    pub fn paid_at(&self) -> Option<Timestamp> {
        match self {
            Self::Created => None,
            Self::Queued { paid_at, .. }
            | Self::Placing { paid_at, .. }
            | Self::Deploying { paid_at, .. }
            | Self::Provisioned { paid_at, .. }
            | Self::Failed { paid_at, .. } => Some(*paid_at),
        }
    }

    /// What went wrong so far, while it is being provisioned.
    pub fn attempts(&self) -> Option<&Attempts> {
        match self {
            Self::Queued { attempts, .. }
            | Self::Placing { attempts, .. }
            | Self::Deploying { attempts, .. } => Some(attempts),
            _ => None,
        }
    }

    /// The placement that is being worked on.
    pub fn placement(&self) -> Option<&Placement> {
        match self {
            Self::Placing { placement, .. } | Self::Deploying { placement, .. } => Some(placement),
            _ => None,
        }
    }
}

/// Something that happened to an order, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryEntry {
    /// When.
    pub at: Timestamp,
    /// What, in a sentence.
    pub what: String,
}

/// An order, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id, the label of its invoice.
    pub id: OrderId,
    /// What was agreed.
    pub terms: Terms,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its invoice expires.
    pub invoice_expires_at: Timestamp,
    /// How often it has changed: whoever waits for news compares this.
    pub revision: u64,
    /// Where it stands.
    #[serde(flatten)]
    pub state: State,
    /// What may still be on remotes and should not be.
    #[serde(default)]
    pub leftovers: Vec<Leftover>,
    /// What happened so far, the oldest first.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
}

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nobody answered, or busy: the same step may work later.
    Passing,
    /// This placement will not work: another one may.
    Final,
}

/// What can happen to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The invoice is paid.
    Paid,
    /// A remote was chosen.
    Placed(Placement),
    /// No remote can take it now.
    NotPlaced {
        /// Why.
        reason: String,
    },
    /// The project is there and the instance runs.
    InstanceRuns,
    /// The network is up.
    HandedOver {
        /// When the environment ends.
        expires_at: Timestamp,
        /// One for each node.
        connection_strings: Vec<ConnectionString>,
    },
    /// A step on the remote did not work.
    StepFailed {
        /// Whether it may work later.
        severity: Severity,
        /// What went wrong.
        reason: String,
    },
    /// The remote is known to have nothing of this project any more.
    LeftoverGone(ProjectName),
    /// The operator asks to try again.
    Retry,
    /// The operator calls it off: what was paid is to be paid back.
    Cancel,
    /// The operator has paid the buyer back.
    Refunded {
        /// How, for the operator's own books.
        note: Option<String>,
    },
    /// The operator lets the environment live longer.
    Extended {
        /// When it ends now.
        expires_at: Timestamp,
    },
}

/// An event that makes no sense where the order stands. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{event} makes no sense for an order that is {state}")]
pub struct Refused {
    event: &'static str,
    state: &'static str,
}

/// What there is to do for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work<'a> {
    /// Wait for the invoice to be paid or to expire.
    AwaitPayment,
    /// Choose a remote, not before the given time.
    Place(Timestamp),
    /// Make the project and the instance, not before the given time.
    BringUp(&'a Placement, Timestamp),
    /// Bring the network in the instance up, not before the given time.
    Deploy(&'a Placement, Timestamp),
    /// Only clean up after placements that were given up.
    CleanUp,
    /// Nothing more: the record can be closed.
    Close,
}

impl Order {
    /// A new order.
    pub fn new(id: OrderId, terms: Terms, now: Timestamp, invoice_expires_at: Timestamp) -> Self {
        Self {
            id,
            terms,
            created_at: now,
            invoice_expires_at,
            revision: 0,
            state: State::Created,
            leftovers: Vec::new(),
            history: Vec::new(),
        }
    }

    /// What there is to do.
    pub fn work(&self) -> Work<'_> {
        match &self.state {
            State::Created => Work::AwaitPayment,
            State::Queued { attempts, .. } => Work::Place(attempts.not_before),
            State::Placing { attempts, placement, .. } => Work::BringUp(placement, attempts.not_before),
            State::Deploying { attempts, placement, .. } => Work::Deploy(placement, attempts.not_before),
            State::Provisioned { .. } | State::Failed { .. } if self.leftovers.is_empty() => Work::Close,
            State::Provisioned { .. } | State::Failed { .. } => Work::CleanUp,
        }
    }

    /// Whether everything about it is over and its record can be closed. What was handed over may
    /// still be running.
    pub fn is_over(&self) -> bool {
        self.work() == Work::Close
    }

    /// The order after `event`, which happened at `now`.
    ///
    /// Refuses what makes no sense. A second [`Event::Paid`] is no news and changes nothing: the same
    /// payment is seen by several watchers.
    pub fn apply(&self, event: Event, now: Timestamp, policy: &Policy) -> Result<Self, Refused> {
        let mut next = self.clone();
        let what = next.step(event, now, policy)?;
        if let Some(what) = what {
            next.revision += 1;
            if next.history.len() >= HISTORY_LIMIT {
                next.history.remove(0);
            }
            next.history.push(HistoryEntry { at: now, what });
        }
        Ok(next)
    }

    /// Moves on and says what happened in a sentence, if anything did.
    fn step(&mut self, event: Event, now: Timestamp, policy: &Policy) -> Result<Option<String>, Refused> {
        let refused = Refused { event: event.name(), state: self.state.name() };
        let fresh = Attempts { failed: 0, faults: 0, not_before: now };
        let (state, what) = match (self.state.clone(), event) {
            (State::Created, Event::Paid) => {
                (State::Queued { paid_at: now, attempts: fresh }, "paid".to_owned())
            }
            (_, Event::Paid) => return Ok(None),

            (State::Queued { paid_at, attempts }, Event::Placed(placement)) => {
                // A project that is still to be removed must not get its name back.
                if self.leftovers.iter().any(|l| l.project == placement.project) {
                    return Err(refused);
                }
                let what = format!("placed on {} in {}", placement.site(), placement.project);
                let attempts = Attempts { faults: 0, not_before: now, ..attempts };
                (State::Placing { paid_at, attempts, placement }, what)
            }
            (State::Queued { paid_at, mut attempts }, Event::NotPlaced { reason }) => {
                attempts.faults += 1;
                attempts.not_before = later(now, policy.wait(attempts.faults));
                (State::Queued { paid_at, attempts }, format!("not placed: {reason}"))
            }

            (State::Placing { paid_at, attempts, placement }, Event::InstanceRuns) => {
                let attempts = Attempts { faults: 0, not_before: now, ..attempts };
                (State::Deploying { paid_at, attempts, placement }, "the instance runs".to_owned())
            }
            (
                State::Deploying { paid_at, placement, .. },
                Event::HandedOver { expires_at, connection_strings },
            ) if connection_strings.len() == self.terms.node_count as usize => {
                let Placement { remote, project, .. } = placement;
                let expires_at = expires_at.max(project.expires());
                let what = format!("handed over, until {expires_at}");
                let handover = Handover { remote, project, expires_at, connection_strings };
                (State::Provisioned { paid_at, handover }, what)
            }

            (
                state @ (State::Placing { .. } | State::Deploying { .. }),
                Event::StepFailed { severity, reason },
            ) => (self.fail_step(state, severity, &reason, now, policy), reason),

            // One that is still queued is tried at once, with all attempts ahead.
            (
                State::Failed { paid_at, refunded_at: None, .. } | State::Queued { paid_at, .. },
                Event::Retry,
            ) => (State::Queued { paid_at, attempts: fresh }, "retried by the operator".to_owned()),

            (
                State::Queued { paid_at, .. }
                | State::Placing { paid_at, .. }
                | State::Deploying { paid_at, .. },
                Event::Cancel,
            ) => {
                let leftover = self.state.placement().map(Placement::leftover);
                self.leftovers.extend(leftover);
                let reason = "cancelled by the operator".to_owned();
                let failed =
                    State::Failed { paid_at, reason: reason.clone(), cancelled: true, refunded_at: None };
                (failed, reason)
            }

            (State::Failed { paid_at, reason, cancelled, refunded_at: None }, Event::Refunded { note }) => {
                let what = note.map_or_else(|| "paid back".to_owned(), |note| format!("paid back: {note}"));
                (State::Failed { paid_at, reason, cancelled, refunded_at: Some(now) }, what)
            }

            (State::Provisioned { paid_at, mut handover }, Event::Extended { expires_at })
                if expires_at > handover.expires_at =>
            {
                handover.expires_at = expires_at;
                (State::Provisioned { paid_at, handover }, format!("extended, until {expires_at}"))
            }

            (state, Event::LeftoverGone(project)) if self.leftovers.iter().any(|l| l.project == project) => {
                self.leftovers.retain(|l| l.project != project);
                (state, format!("removed {project}"))
            }
            _ => return Err(refused),
        };
        self.state = state;
        Ok(Some(what))
    }

    /// The state after a step of the current placement did not work.
    fn fail_step(
        &mut self,
        state: State,
        severity: Severity,
        reason: &str,
        now: Timestamp,
        policy: &Policy,
    ) -> State {
        let (State::Placing { paid_at, mut attempts, placement }
        | State::Deploying { paid_at, mut attempts, placement }) = state.clone()
        else {
            return state;
        };
        attempts.faults += 1;
        attempts.not_before = later(now, policy.wait(attempts.faults));
        if severity == Severity::Passing && attempts.faults < policy.patience {
            return match state {
                State::Placing { .. } => State::Placing { paid_at, attempts, placement },
                _ => State::Deploying { paid_at, attempts, placement },
            };
        }
        // The placement is given up, and with it whatever there may be of it.
        self.leftovers.push(placement.leftover());
        attempts.faults = 0;
        attempts.failed += 1;
        if attempts.failed >= policy.max_attempts {
            let reason = reason.to_owned();
            return State::Failed { paid_at, reason, cancelled: false, refunded_at: None };
        }
        State::Queued { paid_at, attempts }
    }
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Self::Paid => "a payment",
            Self::Placed(_) => "a placement",
            Self::NotPlaced { .. } => "a placement that was not found",
            Self::InstanceRuns => "a running instance",
            Self::HandedOver { .. } => "a hand-over",
            Self::StepFailed { .. } => "a failed step",
            Self::LeftoverGone(_) => "a removed leftover",
            Self::Retry => "a retry",
            Self::Cancel => "a cancellation",
            Self::Refunded { .. } => "a refund",
            Self::Extended { .. } => "a later end",
        }
    }
}

/// `now + wait`, or the end of time.
fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}
