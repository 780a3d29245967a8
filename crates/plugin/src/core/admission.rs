//! Who may order: whoever has a ticket, and a few without.
//!
//! A call does not say who makes it, so orders are rationed where that is known: the web shop's server gives each visitor a
//! few tickets. Calls without one share a small budget, so that `lightning-cli` and web shops that know no tickets can order
//! while nobody floods the shop.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use lnplaylive_core::TicketKey;
use lnplaylive_core::holds::HeldBy;
use lnplaylive_core::settings::Shop as ShopSettings;
use lnplaylive_core::ticket::{SpentTickets, TicketError};

use super::error::ShopError;
use super::interfaces::Clock;
use super::order_handle::lock;
use super::pace::TokioClock;

/// Most tickets that are remembered as used, in about 5 MB.
const MAX_SPENT: usize = 100_000;

/// Admits orders.
#[derive(Debug)]
pub struct Admission {
    clock: Arc<dyn Clock>,
    /// `None` if the settings name no key: everybody may order.
    gate: Option<Gate>,
}

#[derive(Debug)]
struct Gate {
    key: TicketKey,
    spent: Mutex<SpentTickets>,
    without: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    pace: TokioClock,
}

impl Admission {
    /// Rations orders if there is a `key`. Tickets from before now are not accepted.
    pub fn new(key: Option<TicketKey>, clock: Arc<dyn Clock>, settings: &ShopSettings) -> Self {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_minute(at_least_one(settings.orders_without_ticket_per_minute))
            .allow_burst(at_least_one(settings.orders_without_ticket_burst));
        let pace = TokioClock::start();
        let gate = key.map(|key| Gate {
            key,
            spent: Mutex::new(SpentTickets::new(MAX_SPENT, clock.now())),
            without: RateLimiter::direct_with_clock(quota, pace),
            pace,
        });
        Self { clock, gate }
    }

    /// Admits one order, whose place is then held in the returned name; `None` where orders are not rationed. A ticket is
    /// used up by it, whatever becomes of the order.
    pub fn admit(&self, ticket: Option<&str>) -> Result<Option<HeldBy>, ShopError> {
        let Some(gate) = &self.gate else { return Ok(None) };
        let Some(text) = ticket else { return gate.without_ticket().map(Some) };
        let now = self.clock.now();
        let spend = || {
            let ticket = gate.key.verify(text, now)?;
            lock(&gate.spent).spend(&ticket, now)?;
            Ok(ticket.holder())
        };
        spend().map(|holder| Some(HeldBy::Ticket(holder))).map_err(|error: TicketError| match error {
            TicketError::Foreign => ShopError::TicketRequired {
                reason: "the ticket is not one of this shop",
                retry_after_secs: None,
            },
            TicketError::Expired | TicketError::Spent => ShopError::TicketSpent(error),
            TicketError::TooMany => ShopError::Busy { retry_after_secs: 1 },
        })
    }
}

impl Gate {
    fn without_ticket(&self) -> Result<HeldBy, ShopError> {
        let refused = |wait: Duration| ShopError::TicketRequired {
            reason: "too many orders without a ticket at the moment",
            retry_after_secs: Some(wait.as_secs() + 1),
        };
        let taken = self.without.check();
        taken.map_err(|not_until| refused(not_until.wait_time_from(self.pace.now())))?;
        Ok(HeldBy::Shared)
    }
}
