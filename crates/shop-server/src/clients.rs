//! Who a visitor is, and how much of us one visitor may use.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::FORWARDED;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use thiserror::Error;

use crate::settings::Limits;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Whom limits are counted for: an IPv4 address, or the 64 bits of an IPv6 address that one household has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(IpAddr);

impl From<IpAddr> for Key {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// Why somebody has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// All together have too many connections.
    #[error("there are too many connections here at the moment")]
    Full,
    /// This client has.
    #[error("there are too many connections from your address")]
    TooMany,
    /// This client opens them too fast.
    #[error("there were too many new connections from your address in the last minute")]
    TooFast,
}

impl Refusal {
    /// A word for metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::TooMany => "client_connections",
            Self::TooFast => "client_rate",
        }
    }
}

/// What all clients use at the moment.
#[derive(Debug)]
pub(crate) struct Clients {
    limits: Limits,
    trusted: Vec<IpNet>,
    open: Mutex<Open>,
    arrivals: DefaultKeyedRateLimiter<Key>,
    bytes: DefaultKeyedRateLimiter<Key>,
    clock: DefaultClock,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    by_client: HashMap<Key, u32>,
}

impl Clients {
    pub(crate) fn new(limits: Limits, trusted: Vec<IpNet>) -> Self {
        let per_minute = |n| Quota::per_minute(NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN));
        Self {
            limits,
            trusted,
            open: Mutex::default(),
            arrivals: RateLimiter::keyed(per_minute(limits.new_connections_per_minute)),
            bytes: RateLimiter::keyed(per_minute(limits.bytes_per_minute)),
            clock: DefaultClock::default(),
        }
    }

    /// Whether `address` is a proxy that we believe.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Takes one of `address`'s connections, until the slot is dropped.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Slot, Refusal> {
        let key = Key::from(address);
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.total >= self.limits.connections {
                return Err(Refusal::Full);
            }
            if open.by_client.get(&key).is_some_and(|n| *n >= self.limits.connections_per_client) {
                return Err(Refusal::TooMany);
            }
            // After the others: what is refused for another reason does not count as new.
            self.arrivals.check_key(&key).map_err(|_| Refusal::TooFast)?;
            open.total += 1;
            *open.by_client.entry(key).or_default() += 1;
        }
        Ok(Slot { clients: Arc::clone(self), key })
    }

    /// Forgets clients that are as good as new. To be called now and then.
    pub(crate) fn tidy(&self) {
        for limiter in [&self.arrivals, &self.bytes] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

/// One connection of a client's.
#[derive(Debug)]
pub(crate) struct Slot {
    clients: Arc<Clients>,
    key: Key,
}

impl Slot {
    /// Counts bytes of this client's; returns how long to wait before they may go on, and be counted again.
    pub(crate) fn spend(&self, bytes: usize) -> Option<Duration> {
        let bytes = NonZeroU32::new(u32::try_from(bytes).ok()?)?;
        match self.clients.bytes.check_key_n(&self.key, bytes) {
            Ok(Err(not_until)) => Some(not_until.wait_time_from(self.clients.clock.now())),
            // More than a minute's worth never comes here: the settings see to it.
            Ok(Ok(())) | Err(_) => None,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.clients.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(count) = open.by_client.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.by_client.remove(&self.key);
            }
        }
    }
}

/// The far end of a connection, and what stands for it.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A visitor, or a proxy that is not trusted; it has its slot since it connected.
    Direct(IpAddr, Arc<Slot>),
    /// A trusted proxy; who is behind it is told by each request.
    Proxied(IpAddr),
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// Their address.
    pub(crate) address: IpAddr,
    /// Whether they came over TLS.
    pub(crate) tls: bool,
    /// Whether they are on this machine, as far as can be told.
    pub(crate) local: bool,
}

impl Origin {
    /// Who sent a request with these headers.
    pub(crate) fn visitor(&self, clients: &Clients, headers: &HeaderMap) -> Visitor {
        let forwarded = headers.contains_key(FORWARDED_FOR) || headers.contains_key(FORWARDED);
        match self {
            Self::Direct(address, _) => {
                // A proxy that we do not know of may be on this machine, and its visitors are not.
                Visitor { address: *address, tls: false, local: address.is_loopback() && !forwarded }
            }
            Self::Proxied(proxy) => {
                let address = client_of(*proxy, clients, headers);
                let proto = headers.get(FORWARDED_PROTO);
                let tls = proto.is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
                Visitor { address, tls, local: address.is_loopback() && !forwarded }
            }
        }
    }
}

/// The last address that a trusted proxy has seen and that is not a trusted proxy itself. What stands before it
/// in the header may be made up.
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
    fn only_what_trusted_proxies_have_seen_is_believed() {
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
    fn a_client_has_so_many_connections_and_no_more() {
        let clients = clients(Limits { connections: 3, connections_per_client: 2, ..Limits::default() });
        let first = clients.admit(ip("192.0.2.1")).expect("the first");
        let _second = clients.admit(ip("192.0.2.1")).expect("the second");
        assert_eq!(clients.admit(ip("192.0.2.1")).err(), Some(Refusal::TooMany));
        // One household, one client.
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
