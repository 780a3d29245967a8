//! The domain error of the shop.

use std::time::Duration;

use jiff::Timestamp;
use lnplaylive_core::catalogue::QuoteError;
use lnplaylive_core::customisation::CustomisationError;
use lnplaylive_core::desk::{ActionError, Refusal};
use lnplaylive_core::holds::Share;
use lnplaylive_core::order::Refused;
use lnplaylive_core::readiness::Obstacle;
use lnplaylive_core::ticket::TicketError;
use thiserror::Error;

use super::interfaces::{NodeError, RemoteError};

/// A request that was not carried out.
///
/// The sentences are for people. What a program needs is in the variants' fields; the JSON-RPC adapter sends both.
#[derive(Debug, Error)]
pub enum ShopError {
    /// The size, product or hours are not for sale.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// A customisation is not accepted.
    #[error(transparent)]
    Customisation(#[from] CustomisationError),
    /// Unknown or malformed order id.
    #[error("no such order")]
    NoSuchOrder,
    /// The settings name no remote.
    #[error("nothing can be sold now: no remote is configured to provision it on")]
    NoRemotes,
    /// The open orders have not been read yet, or no remote has been asked yet.
    #[error("the shop is starting, try again")]
    Starting,
    /// Too many unpaid orders are open.
    #[error("busy, try again in {retry_after_secs} seconds")]
    Busy {
        /// Seconds until the next unpaid order is removed, at least 1.
        retry_after_secs: i64,
    },
    /// The order's record cannot be read.
    #[error("this order's record is damaged; the operator has been told")]
    DamagedRecord,
    /// The order's state does not allow what was asked for.
    #[error("{reason}")]
    InvalidState {
        /// The order's state, as operators see it.
        state: &'static str,
        /// The refusal, in a sentence.
        reason: String,
    },
    /// No remote has room for the order.
    #[error("sold out{}", next_available_at.map_or_else(String::new, |at| format!(", next one frees up at {at}")))]
    SoldOut {
        /// Time at which enough room may be free; `None` if nothing that ends would make enough.
        next_available_at: Option<Timestamp>,
    },
    /// No remote has answered lately, so nobody knows whether there is room.
    #[error(
        "nothing can be sold now: no remote has answered for {} seconds; try again later",
        silent_for.as_secs()
    )]
    AvailabilityUnknown {
        /// Time without an answer from any remote, at least.
        silent_for: Duration,
    },
    /// Orders without a ticket have used up their budget, or the ticket is not one of this shop.
    #[error("{reason}; order on the shop's page, which gets a ticket first{}",
        retry_after_secs.map_or_else(String::new, |secs| format!(", or try again in {secs} seconds")))]
    TicketRequired {
        /// The reason, in words.
        reason: &'static str,
        /// Seconds until an order without a ticket may be accepted; `None` if a ticket was given.
        retry_after_secs: Option<u64>,
    },
    /// The ticket has been used or has expired.
    #[error("{0}; get a new one, which is good for one order within minutes")]
    TicketSpent(TicketError),
    /// Unpaid orders of the same buyer, or of those without a ticket, hold their share of what is free.
    #[error("{}; {}try again in {retry_after_secs} seconds", match share {
        Share::Client => "your unpaid orders hold as many places as one buyer may",
        Share::Network => "unpaid orders from your network hold as many places as one network may",
        Share::WithoutTicket => "unpaid orders without a ticket hold as many places as they may",
    }, match share {
        Share::Client => "pay one of them, or ",
        Share::Network => "",
        Share::WithoutTicket => "order on the shop's page, or ",
    })]
    UnpaidLimit {
        /// The share that is exceeded.
        share: Share,
        /// Seconds until the first of these orders expires, at least 1.
        retry_after_secs: i64,
    },
    /// The node cannot be paid yet, or not as much.
    #[error("{obstacle}")]
    NotPayable {
        /// What stands in the way.
        obstacle: Obstacle,
        /// The most hours of the product that can be paid now; 0 if not even the fewest that are sold can.
        payable_hours: u32,
    },
    /// Remotes answer, but environments do not work on them: their breakers are open.
    #[error("nothing can be sold now: environments do not work on any remote; try again later")]
    RemotesFailing,
    /// An action of the organiser's desk that no environment of this order can carry out.
    #[error(transparent)]
    DeskAction(#[from] ActionError),
    /// The organiser's desk of this order, or of its remote, is in use or was too often.
    #[error("busy, try again in {retry_after_secs} seconds")]
    DeskBusy {
        /// Seconds after which it is worth trying again, at least 1.
        retry_after_secs: u64,
    },
    /// The environment has no desk.
    #[error("this environment was made before the desk")]
    DeskTooOld,
    /// The environment did not answer. The action may have been carried out. The details are for the log.
    #[error("the environment does not answer; look at it before you try again")]
    DeskNoAnswer,
    /// The environment did not carry an action out.
    #[error("{}", match reason {
        Refusal::NotRunning => "the environment is starting; try again in a minute",
        Refusal::Busy => "another action is under way in the environment; try again in a minute",
        Refusal::Invalid => "the environment does not know this action",
        Refusal::RequestReused => "the request's id belongs to another action",
        Refusal::NodeOff => "the node is switched off; switch it on first",
        Refusal::NoAnswer => "the node does not answer",
        Refusal::NoCoins => "the environment's miner has not enough coins left",
        Refusal::Late => "it took too long; the same action goes on where this one stopped",
        Refusal::Failed => "the environment could not do this",
    })]
    DeskRefused {
        /// The reason.
        reason: Refusal,
    },
    /// A remote did not do its part.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The node did not do its part. The details are for the log.
    #[error("the node cannot do this now, try again")]
    Node(#[from] NodeError),
}

impl ShopError {
    /// The state does not allow what was asked for; `reason` says so in a sentence.
    pub fn invalid_state(state: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidState { state, reason: reason.into() }
    }

    /// The remotes have been silent for at least `silent_for`.
    pub fn availability_unknown(silent_for: Duration) -> Self {
        Self::AvailabilityUnknown { silent_for }
    }
}

impl From<Refused> for ShopError {
    fn from(refused: Refused) -> Self {
        Self::invalid_state(refused.state(), refused.to_string())
    }
}
