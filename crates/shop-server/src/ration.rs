//! Rations: so many requests in a minute for one client, and so many for all clients of one network.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use lnplaylive_core::visitor::{Client, Network};
use strum::{IntoStaticStr, VariantNames};
use thiserror::Error;

use crate::settings::Rates;

/// The reason why a request has to wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, IntoStaticStr, VariantNames)]
pub(crate) enum UsedUp {
    /// The client has used up its ration.
    #[error("too many requests from your address in the last minute")]
    #[strum(serialize = "client_ration")]
    Client(Duration),
    /// The client's network has.
    #[error("too many requests from the network of your address in the last minute")]
    #[strum(serialize = "network_ration")]
    Network(Duration),
}

impl UsedUp {
    /// Whole seconds after which a request may be granted, at least 1.
    pub(crate) fn retry_secs(self) -> u64 {
        let (Self::Client(wait) | Self::Network(wait)) = self;
        wait.as_secs() + 1
    }

    /// The label in metrics.
    pub(crate) fn metric_label(self) -> &'static str {
        self.into()
    }
}

/// A ration of one kind of request.
#[derive(Debug)]
pub(crate) struct Ration {
    clients: DefaultKeyedRateLimiter<Client>,
    networks: DefaultKeyedRateLimiter<Network>,
    clock: DefaultClock,
}

impl Ration {
    /// A minute's requests may also come at once.
    pub(crate) fn new(rates: Rates) -> Self {
        let per_minute = |n| Quota::per_minute(NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN));
        Self {
            clients: RateLimiter::keyed(per_minute(rates.per_client)),
            networks: RateLimiter::keyed(per_minute(rates.per_network)),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request from `address`.
    pub(crate) fn take(&self, address: IpAddr) -> Result<(), UsedUp> {
        let now = self.clock.now();
        // The client first, so that one that has used up its own ration takes nothing of its network's.
        let client = self.clients.check_key(&Client::from(address));
        client.map_err(|until| UsedUp::Client(until.wait_time_from(now)))?;
        let network = self.networks.check_key(&Network::from(address));
        network.map_err(|until| UsedUp::Network(until.wait_time_from(now)))
    }

    /// Forgets clients without recent requests. To be called regularly.
    pub(crate) fn tidy(&self) {
        self.clients.retain_recent();
        self.clients.shrink_to_fit();
        self.networks.retain_recent();
        self.networks.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(ration: &Ration, address: &str) -> Result<(), UsedUp> {
        ration.take(address.parse().expect("an address"))
    }

    #[test]
    fn a_client_and_a_network_have_their_rations() {
        let ration = Ration::new(Rates { per_client: 2, per_network: 5 });
        let granted = |addresses: &mut dyn Iterator<Item = String>| {
            addresses.filter(|address| take(&ration, address).is_ok()).count()
        };
        assert_eq!(granted(&mut (0..9).map(|n| format!("2001:db8:1:1::{n}"))), 2, "one household");
        assert_eq!(granted(&mut (0..999).map(|n| format!("2001:db8:2:{n}::1"))), 5, "one site");
        assert_eq!(granted(&mut (0..99).map(|n| format!("198.51.100.{n}"))), 5);
        take(&ration, "198.51.101.1").expect("somebody else");
        take(&ration, "2001:db8:3::1").expect("somebody else");
    }

    #[test]
    fn whoever_waits_as_told_is_served() {
        let ration = Ration::new(Rates { per_client: 2, per_network: 100 });
        let address = "192.0.2.1";
        for _ in 0..2 {
            take(&ration, address).expect("within the ration");
        }
        let used_up = take(&ration, address).expect_err("used up");
        assert!(matches!(used_up, UsedUp::Client(_)), "{used_up:?}");
        assert!((29..=31).contains(&used_up.retry_secs()), "{used_up:?}");
    }

    #[test]
    fn a_client_over_its_ration_takes_nothing_of_its_network() {
        let ration = Ration::new(Rates { per_client: 1, per_network: 2 });
        for _ in 0..99 {
            take(&ration, "192.0.2.1").ok();
        }
        take(&ration, "192.0.2.2").expect("the network has one left");
        let used_up = take(&ration, "192.0.2.3").expect_err("used up");
        assert!(matches!(used_up, UsedUp::Network(_)), "{used_up:?}");
    }
}
