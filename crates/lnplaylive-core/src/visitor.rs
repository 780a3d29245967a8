//! The units in which visitors are limited, from their addresses.
//!
//! A client is an IPv4 address or an IPv6 /64 network, which is what a household gets. A network is an IPv4 /24 or an IPv6 /48,
//! which is what one site gets: whoever has a /48 has 65,536 clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The unit of limits for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(IpAddr);

/// The unit of limits for one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

fn truncated(address: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << (32 - v4_bits)))),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - v6_bits)))),
    }
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        Self(truncated(address, 32, 64))
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(truncated(address, 24, 48))
    }
}

impl Client {
    /// Its first address.
    pub(crate) fn first(self) -> IpAddr {
        self.0
    }
}

impl Network {
    /// Its first address.
    pub(crate) fn first(self) -> IpAddr {
        self.0
    }
}
