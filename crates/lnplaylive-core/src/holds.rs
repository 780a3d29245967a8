//! Shares of what is free that unpaid orders may hold.
//!
//! An order holds a place while its invoice can be paid, without money. So that nobody holds all of them, a client holds at
//! most an eighth of what would be free without unpaid orders, and a network a quarter; each can always hold one order.

use crate::ticket::Holder;

/// A client holds at most one part in so many.
const CLIENT_PARTS: u32 = 8;
/// A network holds at most one part in so many.
const NETWORK_PARTS: u32 = 4;

/// Who holds a place by an unpaid order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeldBy {
    /// Whoever had a ticket.
    Ticket(Holder),
    /// Everybody without one: they share what one client may hold. Also where nobody remembers, as after a restart.
    Shared,
}

/// Whose share a new order would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The client's.
    Client,
    /// The share of the client's network.
    Network,
    /// The one of orders without a ticket.
    WithoutTicket,
}

impl Share {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Network => "network",
            Self::WithoutTicket => "without_ticket",
        }
    }
}

/// What one more order needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Places of the order's size that must be free without unpaid orders, for the order to be within the shares. 0 if
    /// it is the holder's first.
    pub places: u32,
    /// The share that it exceeds if there are fewer.
    pub share: Share,
}

impl HeldBy {
    fn same_client(self, other: Self) -> bool {
        match (self, other) {
            (Self::Ticket(a), Self::Ticket(b)) => a.client == b.client,
            (a, b) => a == b,
        }
    }

    fn same_network(self, other: Self) -> bool {
        match (self, other) {
            (Self::Ticket(a), Self::Ticket(b)) => a.network == b.network,
            (a, b) => a == b,
        }
    }

    /// True if what `other` holds counts towards this holder's share.
    pub fn shares(self, share: Share, other: Self) -> bool {
        match share {
            Share::Client | Share::WithoutTicket => self.same_client(other),
            Share::Network => self.same_network(other),
        }
    }

    /// What an order of `node_count` nodes needs beside the unpaid orders in `held`, each with its number of nodes.
    pub fn need(self, node_count: u32, held: &[(Self, u32)]) -> Need {
        let nodes = |same: fn(Self, Self) -> bool| -> u64 {
            held.iter().filter(|(by, _)| same(self, *by)).map(|(_, nodes)| u64::from(*nodes)).sum()
        };
        let places = |held: u64, parts: u32| {
            if held == 0 {
                return 0;
            }
            let size = u64::from(node_count.max(1));
            let places = ((held + size) * u64::from(parts)).div_ceil(size);
            u32::try_from(places).unwrap_or(u32::MAX)
        };
        let client = places(nodes(Self::same_client), CLIENT_PARTS);
        let network = places(nodes(Self::same_network), NETWORK_PARTS);
        match self {
            Self::Shared => Need { places: client, share: Share::WithoutTicket },
            Self::Ticket(_) if client >= network => Need { places: client, share: Share::Client },
            Self::Ticket(_) => Need { places: network, share: Share::Network },
        }
    }
}
