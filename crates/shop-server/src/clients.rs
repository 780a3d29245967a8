//! Identifies visitors, and limits their use of the server.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use lnplaylive_core::visitor::Client;
use strum::{IntoStaticStr, VariantNames};
use thiserror::Error;

use crate::pool::{NoPlace, Place, Pool};
use crate::ration::Ration;
use crate::settings::{Limits, Places};

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The reason why a visitor has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, IntoStaticStr, VariantNames)]
pub(crate) enum Refusal {
    /// All clients together have too many connections.
    #[error("the server has too many connections at the moment")]
    #[strum(serialize = "full")]
    Full,
    /// The client has too many connections.
    #[error("there are too many connections from your address")]
    #[strum(serialize = "client_connections")]
    TooMany,
    /// The client's network has too many connections.
    #[error("there are too many connections from the network of your address")]
    #[strum(serialize = "network_connections")]
    Network,
    /// The client opens connections too fast.
    #[error("too many new connections from your address in the last minute")]
    #[strum(serialize = "client_rate")]
    TooFast,
}

impl Refusal {
    /// The label in metrics.
    pub(crate) fn metric_label(self) -> &'static str {
        self.into()
    }
}

impl From<NoPlace> for Refusal {
    fn from(reason: NoPlace) -> Self {
        match reason {
            NoPlace::Full => Self::Full,
            NoPlace::Client => Self::TooMany,
            NoPlace::Network => Self::Network,
        }
    }
}

/// The current use by all clients.
#[derive(Debug)]
pub(crate) struct Clients {
    trusted: Vec<IpNet>,
    connections: Arc<Pool>,
    /// WebSockets to the shop's node.
    pub(crate) node_sockets: Arc<Pool>,
    /// WebSockets to nodes of environments.
    pub(crate) environment_sockets: Arc<Pool>,
    /// Requests for cards.
    pub(crate) card_requests: Arc<Pool>,
    /// Requests for tickets.
    pub(crate) tickets: Ration,
    /// Requests for the products.
    pub(crate) products: Ration,
    arrivals: DefaultKeyedRateLimiter<Client>,
    bytes: DefaultKeyedRateLimiter<Client>,
    clock: DefaultClock,
}

impl Clients {
    pub(crate) fn new(limits: Limits, trusted: Vec<IpNet>) -> Self {
        let per_minute = |n| Quota::per_minute(NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN));
        Self {
            trusted,
            connections: Pool::new(Places {
                total: limits.connections,
                per_client: limits.connections_per_client,
                per_network: limits.connections_per_network,
            }),
            node_sockets: Pool::new(limits.node_sockets),
            environment_sockets: Pool::new(limits.environment_sockets),
            card_requests: Pool::new(limits.card_requests),
            tickets: Ration::new(limits.tickets_per_minute),
            products: Ration::new(limits.products_per_minute),
            arrivals: RateLimiter::keyed(per_minute(limits.new_connections_per_minute)),
            bytes: RateLimiter::keyed(per_minute(limits.bytes_per_minute)),
            clock: DefaultClock::default(),
        }
    }

    /// The pools of places, by their names in metrics.
    pub(crate) fn pools(&self) -> [(&'static str, &Pool); 4] {
        [
            ("connections", &self.connections),
            ("node_sockets", &self.node_sockets),
            ("environment_sockets", &self.environment_sockets),
            ("card_requests", &self.card_requests),
        ]
    }

    /// Returns whether `address` is a trusted proxy.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Reserves a connection for `address`, until the slot is dropped.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Slot, Refusal> {
        let client = Client::from(address);
        // The rate is checked last, so that a connection refused for another reason does not count as new.
        let rate = || self.arrivals.check_key(&client).map_err(|_| Refusal::TooFast);
        let place = self.connections.take(address, rate)?;
        Ok(Slot { clients: Arc::clone(self), place })
    }

    /// Forgets clients without recent activity. To be called regularly.
    pub(crate) fn tidy(&self) {
        for limiter in [&self.arrivals, &self.bytes] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        self.tickets.tidy();
        self.products.tidy();
    }
}

/// A connection of a client.
#[derive(Debug)]
pub(crate) struct Slot {
    clients: Arc<Clients>,
    place: Place,
}

impl Slot {
    /// Counts bytes of this client. If they exceed its limit, returns how long to wait before trying again.
    pub(crate) fn spend(&self, bytes: usize) -> Option<Duration> {
        let bytes = NonZeroU32::new(u32::try_from(bytes).ok()?)?;
        match self.clients.bytes.check_key_n(&self.place.client(), bytes) {
            Ok(Err(not_until)) => Some(not_until.wait_time_from(self.clients.clock.now())),
            // The settings ensure that a read is never larger than a minute's limit.
            Ok(Ok(())) | Err(_) => None,
        }
    }
}

/// The remote end of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A visitor, or a proxy that is not trusted. The connection itself has a slot.
    Direct(IpAddr, Arc<Slot>),
    /// A trusted proxy. Each request names its visitor.
    Proxied(IpAddr),
}

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// The visitor's address.
    pub(crate) address: IpAddr,
    /// True if the visitor uses TLS.
    pub(crate) tls: bool,
}

impl Origin {
    /// The sender of a request with these headers.
    pub(crate) fn visitor(&self, clients: &Clients, headers: &HeaderMap) -> Visitor {
        match self {
            Self::Direct(address, _) => Visitor { address: *address, tls: false },
            Self::Proxied(proxy) => {
                let address = client_of(*proxy, clients, headers);
                let proto = headers.get(FORWARDED_PROTO);
                let tls = proto.is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
                Visitor { address, tls }
            }
        }
    }
}

/// The last address in the header that is not a trusted proxy. A trusted proxy has added it; addresses before it can be
/// forged.
fn client_of(proxy: IpAddr, clients: &Clients, headers: &HeaderMap) -> IpAddr {
    let mut client = proxy;
    let values: Vec<_> = headers.get_all(FORWARDED_FOR).into_iter().collect();
    for value in values.iter().rev() {
        for one in value.to_str().unwrap_or_default().rsplit(',') {
            let Ok(address) = one.trim().parse::<IpAddr>() else { return client };
            client = address.to_canonical();
            if !clients.trusts(client) {
                return client;
            }
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(limits: Limits) -> Arc<Clients> {
        Arc::new(Clients::new(limits, vec!["10.0.0.0/8".parse().expect("a network")]))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let clients = clients(Limits::default());
        let visitor = |origin: &Origin, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(FORWARDED_FOR, value.parse().expect("a value"));
            }
            origin.visitor(&clients, &headers).address
        };
        let proxy = Origin::Proxied(ip("10.0.0.1"));
        for (forwarded, expected) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            (&["127.0.0.1, 203.0.113.9"], "203.0.113.9"),
            (&["203.0.113.9, 10.0.0.7"], "203.0.113.9"),
            (&["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
            (&["198.51.100.1, rubbish"], "10.0.0.1"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(visitor(&proxy, forwarded), ip(expected), "{forwarded:?}");
        }
        let slot = Arc::new(clients.admit(ip("192.0.2.1")).expect("there is room"));
        let direct = Origin::Direct(ip("192.0.2.1"), slot);
        assert_eq!(visitor(&direct, &["203.0.113.9"]), ip("192.0.2.1"));
    }

    #[test]
    fn connections_of_a_client_are_limited() {
        let clients = clients(Limits { connections: 3, connections_per_client: 2, ..Limits::default() });
        let first = clients.admit(ip("192.0.2.1")).expect("the first");
        let _second = clients.admit(ip("192.0.2.1")).expect("the second");
        assert_eq!(clients.admit(ip("192.0.2.1")).err(), Some(Refusal::TooMany));
        // A household is one client.
        let _third = clients.admit(ip("2001:db8:0:1::1")).expect("another");
        assert_eq!(clients.admit(ip("2001:db8:0:1:ffff::2")).err(), Some(Refusal::Full));
        drop(first);
        clients.admit(ip("192.0.2.1")).expect("there is room again");
    }

    #[test]
    fn new_connections_and_bytes_are_counted_by_the_minute() {
        let limits = Limits { new_connections_per_minute: 2, bytes_per_minute: 1000, ..Limits::default() };
        let clients = clients(limits);
        let slot = clients.admit(ip("192.0.2.1")).expect("the first");
        clients.admit(ip("192.0.2.1")).expect("the second");
        assert_eq!(clients.admit(ip("192.0.2.1")).err(), Some(Refusal::TooFast));
        let other = clients.admit(ip("192.0.2.2")).expect("somebody else");
        assert_eq!(slot.spend(900), None);
        let wait = slot.spend(200).expect("it is too much");
        assert!(wait > Duration::from_secs(4) && wait < Duration::from_secs(7), "{wait:?}");
        assert_eq!(other.spend(900), None);
    }
}
