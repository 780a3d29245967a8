//! An order, from its invoice to its end.
//!
//! ```text
//! created --paid--> queued --placed--> placing --instance runs--> deploying --handed over--> provisioned
//!    |                 ^  |               |                           |
//!    |                 |  +- no remote    +---- step failed ----------+--- out of attempts ---> failed
//! (invoice expired:    |     answers         (placement abandoned)    or: operator cancels        |
//!  removed)            +-----------------------------<---------------------- operator: retry ----+
//!                                                                            operator: refunded --+--> refunded
//! provisioned --operator: replace--> queued, with the environment in `replaces` until its successor is handed over
//! ```
//!
//! [`Order::apply`] is the only way from one state to the next. Everything that a step needs is in the state *before* the
//! step runs, so that a restarted plugin can go on from the record. An abandoned placement is a [`Leftover`] until the
//! remote is known to have nothing of it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::catalogue::Terms;
use crate::connection::ConnectionString;
use crate::ids::{OrderId, ProjectName};
pub use crate::ports::PortBlock;
use crate::secret::Secret;

/// Most entries of an order's history; the oldest are dropped first.
const MAX_HISTORY: usize = 100;

/// Beginning of the history's entries about attempts that did not place an order.
const NOT_PLACED: &str = "not placed";

/// Beginning of the history's entries about new cards.
const NEW_CARDS: &str = "new cards";

/// Limits and waits for attempts to provision an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Placements that may be abandoned before the order has failed. At least 1. A remote that does not answer when one
    /// is to be chosen does not count, and neither does a fault of the remote itself: such an order stays queued.
    pub max_attempts: u32,
    /// Passing faults in a row before a placement is abandoned for another. At least 1.
    pub patience: u32,
    /// Wait after a first fault; it doubles with each further one.
    pub backoff: SignedDuration,
    /// Longest wait after a fault.
    pub max_backoff: SignedDuration,
    /// Wait after a first abandoned placement; it doubles with each further one.
    pub retry_pause: SignedDuration,
    /// Longest wait after an abandoned placement.
    pub max_retry_pause: SignedDuration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            patience: 4,
            backoff: SignedDuration::from_secs(1),
            max_backoff: SignedDuration::from_secs(60),
            retry_pause: SignedDuration::from_secs(60),
            max_retry_pause: SignedDuration::from_mins(15),
        }
    }
}

impl Policy {
    fn wait(&self, faults: u32) -> SignedDuration {
        doubled(self.backoff, faults, self.max_backoff)
    }

    fn retry_wait(&self, abandoned: u32) -> SignedDuration {
        doubled(self.retry_pause, abandoned, self.max_retry_pause)
    }
}

/// The wait after the `nth` failure in a row: `first`, doubled for each one before it, up to `longest`.
pub fn doubled(first: SignedDuration, nth: u32, longest: SignedDuration) -> SignedDuration {
    let factor = 1_i32 << nth.saturating_sub(1).min(20);
    first.checked_mul(factor).unwrap_or(longest).min(longest)
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
    /// The shop's key to the instance.
    pub client_key: KeyPair,
}

/// A prepared environment that a placement takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// The id that it was prepared under. The project's name has it, and the project belongs to it until it is taken over.
    pub id: OrderId,
    /// The end that the project is to have from then on, as a name would say that was made for the order.
    pub expires: Timestamp,
}

/// The place of an order's environment, decided before anything is made there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// The remote's name in the settings.
    pub remote: String,
    /// The member of the remote's cluster; `None` on a single server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The project; its name contains the expiry.
    pub project: ProjectName,
    /// Its ports.
    pub ports: PortBlock,
    /// A virtual machine's static address on the remote's bridge; `None` for a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Its keys.
    pub access: Access,
    /// The prepared environment that it takes over; `None` of one that is made for the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Prepared>,
}

impl Placement {
    /// The end of the environment as long as it is not handed over.
    pub fn expires(&self) -> Timestamp {
        self.prepared.map_or(self.project.expires(), |taken| taken.expires.max(self.project.expires()))
    }

    /// The leftover that it becomes when it is abandoned.
    pub fn leftover(&self) -> Leftover {
        Leftover {
            remote: self.remote.clone(),
            member: self.member.clone(),
            project: self.project,
            ports: self.ports,
            address: self.address,
            prepared: self.prepared.map(|taken| taken.id),
        }
    }

    /// A sentence for the history.
    fn what(&self) -> String {
        let prepared = if self.prepared.is_some() { ", which was prepared" } else { "" };
        format!("placed on {} in {}{prepared}", self.site(), self.project)
    }

    /// The remote and its member, if it has one, for messages.
    pub fn site(&self) -> String {
        match &self.member {
            Some(member) => format!("{}, member {member}", self.remote),
            None => self.remote.clone(),
        }
    }
}

/// An abandoned placement that may still have something on its remote.
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
    /// The id that the project was prepared under, to which it may still belong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<OrderId>,
}

/// Failures so far of an order that is to be provisioned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempts {
    /// Abandoned placements that count against the order.
    pub failed: u32,
    /// Placements that were abandoned because of the remote itself, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remote_faults: BTreeMap<String, u32>,
    /// Passing faults in a row.
    pub faults: u32,
    /// Time of the next attempt, at the earliest.
    pub not_before: Timestamp,
    /// True once a prepared environment was at fault. The order takes over no other: it is provisioned as if there were none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prepared_failed: bool,
}

impl Attempts {
    /// None yet.
    fn none(now: Timestamp) -> Self {
        Self { failed: 0, remote_faults: BTreeMap::new(), faults: 0, not_before: now, prepared_failed: false }
    }

    /// True unless the placement would take over a prepared environment after one that was at fault.
    fn allow(&self, placement: &Placement) -> bool {
        !self.prepared_failed || placement.prepared.is_none()
    }
}

/// The way to an environment that was handed over, for probes of its health and for its removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// The member of the remote's cluster that it was placed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Its ports.
    pub ports: PortBlock,
    /// A virtual machine's static address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The private half of the shop's key to the instance, which allows `lnplay status` and the like, and no more.
    pub client_key: Secret,
    /// The public half of the instance's host key, which is pinned.
    pub host_key: String,
}

/// An environment that was handed over to its buyer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The remote's name in the settings.
    pub remote: String,
    /// The project.
    pub project: ProjectName,
    /// End of the environment; never earlier than the project's name says.
    pub expires_at: Timestamp,
    /// One for each node, node 0 first. None once the environment has ended and the record is archived.
    pub connection_strings: Vec<ConnectionString>,
    /// When the operator recorded a refund. The environment stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refunded_at: Option<Timestamp>,
    /// The way to it; `None` of one that was handed over before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<Site>,
    /// When it took the place of an earlier environment of the same order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_at: Option<Timestamp>,
}

impl Handover {
    /// The leftover that it becomes when it is replaced; `None` if its site is not recorded.
    pub fn leftover(&self) -> Option<Leftover> {
        let Site { member, ports, address, .. } = self.site.as_ref()?;
        Some(Leftover {
            remote: self.remote.clone(),
            member: member.clone(),
            project: self.project,
            ports: *ports,
            address: *address,
            prepared: None,
        })
    }
}

/// The environment that an order's next one takes the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// When the operator asked for it. The paid time that was left then is owed.
    pub asked_at: Timestamp,
    /// The environment.
    pub handover: Handover,
    /// What is to be removed of it after the hand-over of its successor; `None` if it is being removed already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leftover: Option<Leftover>,
}

impl Replaced {
    /// The paid time that was left when the operator asked.
    pub fn remaining(&self) -> SignedDuration {
        self.handover.expires_at.duration_since(self.asked_at)
    }

    /// True while the buyer can use the environment: it stays until its successor is handed over.
    pub fn stands(&self) -> bool {
        self.leftover.is_some()
    }
}

/// State of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    /// The invoice is not paid yet.
    Created,
    /// Paid; to be placed on a remote.
    Queued {
        /// The time at which the payment was seen.
        paid_at: Timestamp,
        /// Failures so far.
        attempts: Attempts,
    },
    /// The project and the instance are being made.
    Placing {
        /// The time at which the payment was seen.
        paid_at: Timestamp,
        /// Failures so far.
        attempts: Attempts,
        /// Where.
        placement: Placement,
    },
    /// The instance runs; the network in it is being brought up.
    Deploying {
        /// The time at which the payment was seen.
        paid_at: Timestamp,
        /// Failures so far.
        attempts: Attempts,
        /// Where.
        placement: Placement,
    },
    /// Handed over. The environment may have expired since.
    Provisioned {
        /// The time at which the payment was seen.
        paid_at: Timestamp,
        /// The environment.
        handover: Handover,
    },
    /// Provisioning failed or was cancelled; the operator has to retry or refund.
    Failed {
        /// The time at which the payment was seen.
        paid_at: Timestamp,
        /// The last failure.
        reason: String,
        /// True if the operator cancelled the order.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cancelled: bool,
        /// When the operator recorded a refund, which is final.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refunded_at: Option<Timestamp>,
    },
}

impl State {
    /// Name of the state: the one in the record, or `cancelled` or `refunded` for an order that failed in that way.
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

    /// The time at which the payment was seen; `None` of an unpaid order.
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

    /// Failures so far, while the order is being provisioned.
    pub fn attempts(&self) -> Option<&Attempts> {
        match self {
            Self::Queued { attempts, .. }
            | Self::Placing { attempts, .. }
            | Self::Deploying { attempts, .. } => Some(attempts),
            _ => None,
        }
    }

    /// The current placement, while it is being provisioned.
    pub fn placement(&self) -> Option<&Placement> {
        match self {
            Self::Placing { placement, .. } | Self::Deploying { placement, .. } => Some(placement),
            _ => None,
        }
    }
}

/// An entry of an order's history, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryEntry {
    /// Time of the event.
    pub at: Timestamp,
    /// The event, in a sentence.
    pub what: String,
}

/// An order, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id, the label of its invoice.
    pub id: OrderId,
    /// The agreed terms.
    pub terms: Terms,
    /// Time of its creation.
    pub created_at: Timestamp,
    /// Expiry of its invoice.
    pub invoice_expires_at: Timestamp,
    /// Number of changes so far; a caller that waits for a change compares it.
    pub revision: u64,
    /// Its state.
    #[serde(flatten)]
    pub state: State,
    /// The environment that is being replaced, until its successor is handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Replaced>,
    /// Abandoned placements that may still be on remotes.
    #[serde(default)]
    pub leftovers: Vec<Leftover>,
    /// History, oldest entry first.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
}

/// Severity of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// No answer, or busy: the same step may work later.
    Passing,
    /// This placement will not work, but another one may.
    Final,
    /// No placement on this remote works before its operator has mended it.
    Remote,
}

/// An event in the life of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The invoice is paid.
    Paid,
    /// A remote was chosen.
    Placed(Placement),
    /// No remote can take it now.
    NotPlaced {
        /// Reason, for the history.
        reason: String,
    },
    /// The project is there and the instance runs.
    InstanceRuns,
    /// The network is up.
    HandedOver {
        /// End of the environment.
        expires_at: Timestamp,
        /// One for each node.
        connection_strings: Vec<ConnectionString>,
    },
    /// A step on the remote failed.
    StepFailed {
        /// Severity of the fault.
        severity: Severity,
        /// Reason, for the history.
        reason: String,
    },
    /// The remote is known to have nothing of this project any more.
    LeftoverGone(ProjectName),
    /// The operator no longer wants the shop to remove what is left of this project.
    LeftoverForgotten(ProjectName),
    /// The operator asks to try again.
    Retry,
    /// The operator cancels the order; its price is to be refunded.
    Cancel,
    /// The operator has refunded the buyer.
    Refunded {
        /// Text for the operator's own books.
        note: Option<String>,
    },
    /// The operator extends the environment.
    Extended {
        /// Its new end.
        expires_at: Timestamp,
    },
    /// Nodes of the environment have new runes, which take the places of the old ones in their connection strings.
    CardsReplaced {
        /// The project of the environment.
        project: ProjectName,
        /// The runes, by the nodes' numbers, from 0.
        runes: BTreeMap<u32, Secret>,
    },
    /// The operator has the environment replaced by a new one, for the paid time that is left.
    Replace {
        /// What is to be removed of it.
        leftover: Leftover,
        /// Removes it before the new one is made, rather than after the hand-over.
        remove_first: bool,
    },
}

/// An event that the order's state does not allow. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot {action} an order that is {state}")]
pub struct Refused {
    action: &'static str,
    state: &'static str,
}

impl Refused {
    /// Name of the state that the order is in.
    pub fn state(&self) -> &'static str {
        self.state
    }
}

/// The next thing to do for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work<'a> {
    /// Wait for the invoice to be paid or to expire.
    AwaitPayment,
    /// Choose a remote at the given time.
    Place(Timestamp),
    /// Make the project and the instance at the given time.
    BringUp(&'a Placement, Timestamp),
    /// Bring up the network in the instance at the given time.
    Deploy(&'a Placement, Timestamp),
    /// Clean up after abandoned placements.
    CleanUp,
    /// Close the record: nothing is left to do.
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
            replaces: None,
            leftovers: Vec::new(),
            history: Vec::new(),
        }
    }

    /// The next thing to do.
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

    /// The time that the buyer is to get from the hand-over of the next environment.
    pub fn owed_time(&self) -> SignedDuration {
        match &self.replaces {
            Some(replaced) => replaced.remaining(),
            None => SignedDuration::from_hours(self.terms.hours.into()),
        }
    }

    /// Time from which on the next environment was to be provisioned: the payment, or the operator's request to replace.
    pub fn due_since(&self) -> Option<Timestamp> {
        self.replaces.as_ref().map(|replaced| replaced.asked_at).or(self.state.paid_at())
    }

    /// The price, if it is to be refunded: the order was paid, not delivered, and nothing more will be tried by itself.
    pub fn owed_msat(&self) -> Option<u64> {
        matches!(self.state, State::Failed { refunded_at: None, .. }).then_some(self.terms.amount_msat)
    }

    /// Names of projects that may be on remotes, which the next placement must not use again.
    pub fn taken(&self) -> Vec<ProjectName> {
        let replaced = self.replaces.iter().map(|replaced| replaced.handover.project);
        self.leftovers.iter().map(|leftover| leftover.project).chain(replaced).collect()
    }

    /// True if nothing is left to do, so that the record can be closed. An environment that was handed over may still be
    /// running.
    pub fn is_over(&self) -> bool {
        self.work() == Work::Close
    }

    /// The time since which nothing is to come for the order any more: its environment has ended, or its price was
    /// refunded. `None` while something is left to do, the environment runs, or a refund is owed. It may be in the future.
    pub fn ended_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Provisioned { handover, .. } if self.is_over() => Some(handover.expires_at),
            State::Failed { refunded_at, .. } if self.is_over() => *refunded_at,
            _ => None,
        }
    }

    /// The order as it is kept for the operator's books after its end, without the secrets that are of no use any more.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        if let State::Provisioned { handover, .. } = &mut self.state {
            handover.connection_strings.clear();
            // It has the key to the instance.
            handover.site = None;
        }
        self
    }

    /// The order after `event`, which happened at `now`.
    ///
    /// Refuses an event that the state does not allow. A second [`Event::Paid`] changes nothing: several watchers see the
    /// same payment.
    pub fn apply(&self, event: Event, now: Timestamp, policy: &Policy) -> Result<Self, Refused> {
        let mut next = self.clone();
        let what = next.step(event, now, policy)?;
        if let Some(what) = what {
            next.revision += 1;
            next.note(now, what);
        }
        Ok(next)
    }

    /// Adds an entry to the history. Attempts in a row that did not place the order are one entry, whose time is the
    /// first one's: an order may wait for weeks. New cards in a row are one entry, the last.
    fn note(&mut self, now: Timestamp, what: String) {
        if let Some(last) = self.history.last_mut()
            && last.what.starts_with(NEW_CARDS)
            && what.starts_with(NEW_CARDS)
        {
            *last = HistoryEntry { at: now, what };
            return;
        }
        if let Some(last) = self.history.last_mut()
            && last.what.starts_with(NOT_PLACED)
            && what.starts_with(NOT_PLACED)
        {
            last.what = what;
            return;
        }
        if self.history.len() >= MAX_HISTORY {
            self.history.remove(0);
        }
        self.history.push(HistoryEntry { at: now, what });
    }

    /// Moves to the next state; returns a sentence for the history if anything has changed.
    fn step(&mut self, event: Event, now: Timestamp, policy: &Policy) -> Result<Option<String>, Refused> {
        let refused = Refused { action: event.action(), state: self.state.name() };
        let fresh = Attempts::none(now);
        let (state, what) = match (self.state.clone(), event) {
            (State::Created, Event::Paid) => {
                (State::Queued { paid_at: now, attempts: fresh }, "paid".to_owned())
            }
            (_, Event::Paid) => return Ok(None),

            (State::Queued { paid_at, attempts }, Event::Placed(placement)) => {
                // The name of a project that is still to be removed must not be used again.
                if self.taken().contains(&placement.project) || !attempts.allow(&placement) {
                    return Err(refused);
                }
                let what = placement.what();
                let attempts = Attempts { faults: 0, not_before: now, ..attempts };
                (State::Placing { paid_at, attempts, placement }, what)
            }
            (State::Queued { paid_at, mut attempts }, Event::NotPlaced { reason }) => {
                attempts.faults += 1;
                attempts.not_before = later(now, policy.wait(attempts.faults));
                let times = attempts.faults;
                let what = if times == 1 {
                    format!("{NOT_PLACED}: {reason}")
                } else {
                    format!("{NOT_PLACED}, {times} times in a row, the last at {now}: {reason}")
                };
                (State::Queued { paid_at, attempts }, what)
            }

            (State::Placing { paid_at, attempts, placement }, Event::InstanceRuns) => {
                let attempts = Attempts { faults: 0, not_before: now, ..attempts };
                (State::Deploying { paid_at, attempts, placement }, "the instance runs".to_owned())
            }
            (
                State::Deploying { paid_at, placement, .. },
                Event::HandedOver { expires_at, connection_strings },
            ) if connection_strings.len() == self.terms.node_count as usize => {
                let (handover, what) = self.hand_over(placement, expires_at, connection_strings, now);
                (State::Provisioned { paid_at, handover }, what)
            }

            (
                state @ (State::Placing { .. } | State::Deploying { .. }),
                Event::StepFailed { severity, reason },
            ) => self.fail_step(state, severity, reason, now, policy),

            // A queued order is tried at once, with all attempts ahead of it.
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
                self.leftovers.extend(self.state.placement().map(Placement::leftover));
                self.cancelled(paid_at)
            }

            (State::Failed { paid_at, reason, cancelled, refunded_at: None }, Event::Refunded { note }) => {
                (State::Failed { paid_at, reason, cancelled, refunded_at: Some(now) }, paid_back(note))
            }
            (State::Provisioned { paid_at, mut handover }, Event::Refunded { note })
                if handover.refunded_at.is_none() =>
            {
                handover.refunded_at = Some(now);
                (State::Provisioned { paid_at, handover }, paid_back(note))
            }

            (State::Provisioned { paid_at, mut handover }, Event::Extended { expires_at })
                if expires_at > handover.expires_at =>
            {
                handover.expires_at = expires_at;
                (State::Provisioned { paid_at, handover }, format!("extended, until {expires_at}"))
            }

            (State::Provisioned { paid_at, mut handover }, Event::CardsReplaced { project, runes })
                if handover.project == project =>
            {
                let what = replace_runes(&mut handover.connection_strings, &runes);
                let Some(what) = what.map_err(|NoRune| refused)? else { return Ok(None) };
                (State::Provisioned { paid_at, handover }, what)
            }

            (State::Provisioned { paid_at, handover }, Event::Replace { leftover, remove_first })
                if handover.refunded_at.is_none()
                    && handover.expires_at > now
                    && leftover.project == handover.project =>
            {
                let what = self.replace(handover, leftover, remove_first, now);
                (State::Queued { paid_at, attempts: fresh }, what)
            }

            (state, Event::LeftoverGone(project)) if self.leftovers.iter().any(|l| l.project == project) => {
                self.leftovers.retain(|l| l.project != project);
                (state, format!("removed {project}"))
            }
            (state, Event::LeftoverForgotten(project)) => {
                let Some(at) = self.leftovers.iter().position(|l| l.project == project) else {
                    return Err(refused);
                };
                let remote = self.leftovers.remove(at).remote;
                (state, format!("forgot {project} on {remote}, as the operator said"))
            }
            _ => return Err(refused),
        };
        self.state = state;
        Ok(Some(what))
    }

    /// The environment that is handed over, and a sentence for the history. What it replaces is to be removed from here on.
    fn hand_over(
        &mut self,
        placement: Placement,
        expires_at: Timestamp,
        connection_strings: Vec<ConnectionString>,
        now: Timestamp,
    ) -> (Handover, String) {
        let Placement { remote, member, project, ports, address, access, prepared: _ } = placement;
        let Access { host_key, client_key } = access;
        let (client_key, host_key) = (client_key.private, host_key.public);
        let expires_at = expires_at.max(project.expires());
        let replaced = self.replaces.take();
        let what = match &replaced {
            Some(Replaced { handover, .. }) => {
                format!("handed over, until {expires_at}, in place of {}", handover.project)
            }
            None => format!("handed over, until {expires_at}"),
        };
        let handover = Handover {
            remote,
            project,
            expires_at,
            connection_strings,
            refunded_at: None,
            site: Some(Site { member, ports, address, client_key, host_key }),
            replaced_at: replaced.is_some().then_some(now),
        };
        self.leftovers.extend(replaced.and_then(|replaced| replaced.leftover));
        (handover, what)
    }

    /// The state after a cancellation, and a sentence for the history.
    fn cancelled(&mut self, paid_at: Timestamp) -> (State, String) {
        let reason = "cancelled by the operator".to_owned();
        if let Some(handover) = self.keep_replaced() {
            let what = format!("replacement {reason}; {} stays", handover.project);
            return (State::Provisioned { paid_at, handover }, what);
        }
        let what = reason.clone();
        (State::Failed { paid_at, reason, cancelled: true, refunded_at: None }, what)
    }

    /// Begins a replacement; returns a sentence for the history.
    fn replace(
        &mut self,
        handover: Handover,
        leftover: Leftover,
        remove_first: bool,
        now: Timestamp,
    ) -> String {
        let when = if remove_first { "before the new one is made" } else { "after the hand-over" };
        let what = format!("to be replaced by the operator; {} is removed {when}", handover.project);
        let leftover = if remove_first {
            self.leftovers.push(leftover);
            None
        } else {
            Some(leftover)
        };
        self.replaces = Some(Replaced { asked_at: now, handover, leftover });
        what
    }

    /// The state after a step of the current placement failed, and a sentence for the history.
    fn fail_step(
        &mut self,
        state: State,
        severity: Severity,
        reason: String,
        now: Timestamp,
        policy: &Policy,
    ) -> (State, String) {
        let (State::Placing { paid_at, mut attempts, placement }
        | State::Deploying { paid_at, mut attempts, placement }) = state.clone()
        else {
            return (state, reason);
        };
        attempts.faults += 1;
        attempts.not_before = later(now, policy.wait(attempts.faults));
        if severity == Severity::Passing && attempts.faults < policy.patience {
            let next = match state {
                State::Placing { .. } => State::Placing { paid_at, attempts, placement },
                _ => State::Deploying { paid_at, attempts, placement },
            };
            return (next, reason);
        }
        // The placement is abandoned, with whatever there may be of it on the remote.
        self.leftovers.push(placement.leftover());
        attempts.faults = 0;
        if severity == Severity::Final && placement.prepared.is_some() {
            // It says nothing about one that is made for the order, which need not wait.
            attempts.prepared_failed = true;
            attempts.not_before = now;
            return (State::Queued { paid_at, attempts }, reason);
        }
        if severity == Severity::Remote {
            *attempts.remote_faults.entry(placement.remote).or_default() += 1;
        } else {
            attempts.failed += 1;
        }
        let abandoned = attempts.remote_faults.values().sum::<u32>() + attempts.failed;
        attempts.not_before = later(now, policy.retry_wait(abandoned));
        if attempts.failed < policy.max_attempts {
            return (State::Queued { paid_at, attempts }, reason);
        }
        if let Some(handover) = self.keep_replaced() {
            let what = format!("not replaced, {} stays: {reason}", handover.project);
            return (State::Provisioned { paid_at, handover }, what);
        }
        let what = reason.clone();
        (State::Failed { paid_at, reason, cancelled: false, refunded_at: None }, what)
    }

    /// Ends a replacement without a new environment: the old one, if it still stands, is the order's again.
    fn keep_replaced(&mut self) -> Option<Handover> {
        let replaced = self.replaces.take_if(|replaced| replaced.stands())?;
        Some(replaced.handover)
    }
}

impl Event {
    /// The action that is recorded, as part of a sentence about an order.
    fn action(&self) -> &'static str {
        match self {
            Self::Paid => "record a payment of",
            Self::Placed(_) => "place",
            Self::NotPlaced { .. } => "record a failed placement of",
            Self::InstanceRuns => "record a running instance of",
            Self::HandedOver { .. } => "hand over",
            Self::StepFailed { .. } => "record a failed step of",
            Self::LeftoverGone(_) => "record a removed leftover of",
            Self::LeftoverForgotten(_) => "forget a project that is no leftover of",
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Refunded { .. } => "record a refund of",
            Self::Extended { .. } => "extend",
            Self::CardsReplaced { .. } => "record new cards of",
            Self::Replace { .. } => "replace the environment of",
        }
    }
}

/// A text that is no rune, or one for a node that is not there.
struct NoRune;

/// Puts runes into the connection strings of these nodes; returns a sentence for the history if any has changed.
fn replace_runes(
    strings: &mut [ConnectionString],
    runes: &BTreeMap<u32, Secret>,
) -> Result<Option<String>, NoRune> {
    let mut changed = Vec::new();
    for (node, rune) in runes {
        let string = strings.get_mut(*node as usize).ok_or(NoRune)?;
        if string.rune != rune.expose() {
            *string = string.with_rune(rune.expose()).ok_or(NoRune)?;
            changed.push(node.to_string());
        }
    }
    Ok((!changed.is_empty()).then(|| format!("{NEW_CARDS} of nodes {}", changed.join(", "))))
}

/// A refund, for the history.
fn paid_back(note: Option<String>) -> String {
    note.map_or_else(|| "paid back".to_owned(), |note| format!("paid back: {note}"))
}

/// `now + wait`, or the end of time.
fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}
