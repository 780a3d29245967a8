//! Tickets, by which orders are rationed.
//!
//! The web shop's server hands a visitor a ticket, rationed by the visitor's address, and the plugin takes it with an order.
//! Both know the key; neither needs the other to run. A ticket is good for one order, within minutes.
//!
//! A ticket is these bytes in base64url without padding, 98 characters:
//!
//! ```text
//! version (1 byte, 1) | id (16, random) | expiry (8, milliseconds since 1970, big-endian) |
//! client's tag (8) | network's tag (8) | HMAC-SHA-256 (32) of "lnplaylive ticket\0" and all before
//! ```
//!
//! A tag is the beginning of an HMAC-SHA-256 of an address prefix, see [`TicketKey::holder`]: whoever does not have the key
//! learns no address from it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;
use thiserror::Error;
use uuid::Uuid;

use crate::secret::{Secret, read_secret};
use crate::visitor::{Client, Network};

/// Time from a ticket's issue to its expiry. A page asks for one right before it orders.
pub const LIFETIME: SignedDuration = SignedDuration::from_mins(5);
/// Fewest characters of a key. Random ones: 32 hex digits are 128 bits.
pub const MIN_KEY: usize = 32;

const VERSION: u8 = 1;
/// Bytes before the HMAC.
const BODY: usize = 1 + 16 + 8 + 8 + 8;
const MAC: usize = 32;
/// Characters of a ticket.
const TEXT: usize = (BODY + MAC) * 4 / 3 + 1;

/// A keyed hash of an address prefix.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag([u8; 8]);

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// Whom a ticket was given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The client.
    pub client: Tag,
    /// The client's network.
    pub network: Tag,
}

/// A ticket's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    id: Uuid,
    /// In whole milliseconds.
    expires_at: Timestamp,
    holder: Holder,
}

impl Ticket {
    /// A new ticket, issued `now`.
    pub fn new(holder: Holder, now: Timestamp) -> Self {
        Self::with_id(Uuid::new_v4(), holder, now)
    }

    /// As [`Ticket::new`], with a given id.
    pub fn with_id(id: Uuid, holder: Holder, now: Timestamp) -> Self {
        let expires_at = now.checked_add(LIFETIME).unwrap_or(Timestamp::MAX);
        let millis = expires_at.as_millisecond();
        Self { id, expires_at: Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX), holder }
    }

    /// Time at which it expires, in whole milliseconds.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Time at which it was issued, in whole milliseconds.
    pub fn issued_at(&self) -> Timestamp {
        self.expires_at.checked_sub(LIFETIME).unwrap_or(Timestamp::MIN)
    }

    /// Whom it was given to.
    pub fn holder(&self) -> Holder {
        self.holder
    }
}

/// A ticket that is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TicketError {
    /// It is malformed, or not signed with this key.
    #[error("the ticket is not one of this shop")]
    Foreign,
    /// It has expired.
    #[error("the ticket has expired")]
    Expired,
    /// It was used before.
    #[error("the ticket has been used")]
    Spent,
    /// Too many tickets have been used lately to remember another one.
    #[error("too many tickets were used in the last minutes")]
    TooMany,
}

/// A key that cannot be used.
#[derive(Debug, Error)]
pub enum TicketKeyError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// It is too short to be a key.
    #[error("the key has fewer than {MIN_KEY} characters; make one with `openssl rand -hex 32`")]
    Short,
}

/// The key that signs tickets, shared by the web shop's server and the plugin.
#[derive(Debug, Clone)]
pub struct TicketKey(Secret);

impl TicketKey {
    /// The key with this text.
    pub fn new(secret: Secret) -> Result<Self, TicketKeyError> {
        if secret.expose().len() < MIN_KEY { Err(TicketKeyError::Short) } else { Ok(Self(secret)) }
    }

    /// Reads a key from a file. White space around it is removed.
    pub fn read(path: &Path) -> Result<Self, TicketKeyError> {
        Self::new(read_secret(path)?)
    }

    fn mac(&self, purpose: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(self.0.expose().as_bytes()).expect("any length is allowed");
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac
    }

    /// The tag of an address prefix: the first 8 bytes of the HMAC of `purpose`, a zero byte, and the prefix's first address in
    /// 4 or 16 bytes.
    fn tag(&self, purpose: &str, first: IpAddr) -> Tag {
        let mut mac = self.mac(purpose);
        match first {
            IpAddr::V4(v4) => mac.update(&v4.octets()),
            IpAddr::V6(v6) => mac.update(&v6.octets()),
        }
        let hash = mac.finalize().into_bytes();
        Tag(hash[..8].try_into().expect("it has 32 bytes"))
    }

    /// The tags of a visitor: of its client (`lnplaylive client`) and of that's network (`lnplaylive network`).
    pub fn holder(&self, address: IpAddr) -> Holder {
        Holder {
            client: self.tag("lnplaylive client", Client::from(address).first()),
            network: self.tag("lnplaylive network", Network::from(address).first()),
        }
    }

    /// The ticket as text.
    pub fn sign(&self, ticket: &Ticket) -> String {
        let mut bytes = Vec::with_capacity(BODY + MAC);
        bytes.push(VERSION);
        bytes.extend(ticket.id.as_bytes());
        bytes.extend(ticket.expires_at.as_millisecond().to_be_bytes());
        bytes.extend(ticket.holder.client.0);
        bytes.extend(ticket.holder.network.0);
        let mut mac = self.mac("lnplaylive ticket");
        mac.update(&bytes);
        bytes.extend(mac.finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The content of a ticket that was signed with this key and has not expired.
    pub fn verify(&self, text: &str, now: Timestamp) -> Result<Ticket, TicketError> {
        let ticket = self.read_signed(text).ok_or(TicketError::Foreign)?;
        if ticket.expires_at <= now { Err(TicketError::Expired) } else { Ok(ticket) }
    }

    fn read_signed(&self, text: &str) -> Option<Ticket> {
        if text.len() != TEXT {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (body, signature) = bytes.split_at_checked(BODY)?;
        let mut mac = self.mac("lnplaylive ticket");
        mac.update(body);
        // In constant time.
        mac.verify_slice(signature).ok()?;
        let (version, rest) = body.split_first()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (expiry, rest) = rest.split_first_chunk()?;
        let (client, network) = rest.split_first_chunk()?;
        let holder = Holder { client: Tag(*client), network: Tag(network.try_into().ok()?) };
        let expires_at = Timestamp::from_millisecond(i64::from_be_bytes(*expiry)).ok()?;
        (*version == VERSION).then_some(Ticket { id: Uuid::from_bytes(*id), expires_at, holder })
    }
}

/// The tickets that were used, until they expire.
#[derive(Debug, Clone)]
pub struct SpentTickets {
    /// By expiry, so that expired ones are found first.
    tickets: BTreeSet<(Timestamp, Uuid)>,
    /// Most that are remembered.
    capacity: usize,
    /// Tickets from before are taken as used, because nobody remembers.
    since: Timestamp,
}

impl SpentTickets {
    /// Remembers up to `capacity` tickets, about 50 bytes each, of those issued `since` that time.
    pub fn new(capacity: usize, since: Timestamp) -> Self {
        Self { tickets: BTreeSet::new(), capacity, since }
    }

    /// Uses a ticket that is valid `now`.
    pub fn spend(&mut self, ticket: &Ticket, now: Timestamp) -> Result<(), TicketError> {
        while self.tickets.first().is_some_and(|(expires_at, _)| *expires_at <= now) {
            self.tickets.pop_first();
        }
        let key = (ticket.expires_at, ticket.id);
        if ticket.issued_at() < self.since || self.tickets.contains(&key) {
            return Err(TicketError::Spent);
        }
        if self.tickets.len() >= self.capacity {
            return Err(TicketError::TooMany);
        }
        self.tickets.insert(key);
        Ok(())
    }

    /// The number of tickets that are remembered.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// True if none is remembered.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }
}
