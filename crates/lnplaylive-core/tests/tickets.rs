//! Tickets, computed independently and altered, and the shares of unpaid orders.

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::holds::{HeldBy, Need, Share};
use lnplaylive_core::ticket::{Holder, LIFETIME, SpentTickets, TicketError, TicketKeyError};
use lnplaylive_core::{Secret, Ticket, TicketKey};
use proptest::prelude::*;
use uuid::Uuid;

/// Made by a few lines of Python's `hmac`, `hashlib` and `base64`: id 00010203…0f, issued at 1,700,000,000.123 to 192.0.2.7.
const KNOWN: &str =
    "AQABAgMEBQYHCAkKCwwNDg8AAAGLz-n8W9Aw62-u_iO3ctnN1lSEaAqbb7Y2vOwY-8WP6iKy6D9tTn3GJKHwmRQki-ExcFev5g";
/// The same with version 2, signed.
const NEXT_VERSION: &str =
    "AgABAgMEBQYHCAkKCwwNDg8AAAGLz-n8W9Aw62-u_iO3ctnN1lSEaAoqeZNnlxzmA-qDJ4jS4AlxW1XyPpp0Mv8RjDvKkwXHdg";

fn key() -> TicketKey {
    TicketKey::new(Secret::new("00112233445566778899aabbccddeeff")).expect("long enough")
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_123 + ms).expect("in range")
}

fn holder(address: &str) -> Holder {
    key().holder(address.parse().expect("an address"))
}

#[test]
fn a_ticket_is_the_documented_bytes() {
    let id = Uuid::from_bytes(std::array::from_fn(|i| u8::try_from(i).expect("small")));
    let ticket = Ticket::with_id(id, holder("192.0.2.7"), at(0));
    assert_eq!(key().sign(&ticket), KNOWN);
    assert_eq!(key().verify(KNOWN, at(0)), Ok(ticket));
    assert_eq!(ticket.issued_at(), at(0));
    assert_eq!(format!("{:?}", holder("192.0.2.7").client), "d030eb6faefe23b7");
    assert_eq!(format!("{:?}", holder("2001:db8:7:1:2::9").client), "e43c8d55a3b2f464");
    assert_eq!(format!("{:?}", holder("2001:db8:7:1:2::9").network), "e1631d414f8ad77a");
    assert_eq!(key().verify(NEXT_VERSION, at(0)), Err(TicketError::Foreign), "not understood");
}

#[test]
fn a_ticket_ends_after_its_lifetime() {
    let end = i64::try_from(LIFETIME.as_millis()).expect("minutes");
    assert!(key().verify(KNOWN, at(end - 1)).is_ok());
    assert_eq!(key().verify(KNOWN, at(end)), Err(TicketError::Expired));
}

#[test]
fn nothing_else_is_a_ticket() {
    let other = TicketKey::new(Secret::new("00112233445566778899aabbccddeefg")).expect("long enough");
    assert_eq!(other.verify(KNOWN, at(0)), Err(TicketError::Foreign));
    // Every bit of it counts.
    for at_byte in 0..KNOWN.len() {
        for with in [b'A', b'B', b'-', b'=', b' ', 0x7f] {
            let mut bytes = KNOWN.as_bytes().to_vec();
            if bytes[at_byte] == with {
                continue;
            }
            bytes[at_byte] = with;
            let text = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(key().verify(&text, at(0)), Err(TicketError::Foreign), "{text}");
        }
    }
    for text in ["", "A", &KNOWN[1..], &format!("{KNOWN}A"), &"é".repeat(49)] {
        assert_eq!(key().verify(text, at(0)), Err(TicketError::Foreign), "{text}");
    }
}

proptest! {
    #[test]
    fn rubbish_is_foreign(text in ".{0,120}") {
        prop_assert_eq!(key().verify(&text, at(0)), Err(TicketError::Foreign));
    }

    #[test]
    fn what_is_signed_is_read_again(client: u128, ms in 0i64..1_000_000_000_000) {
        let holder = key().holder(std::net::IpAddr::from(client.to_be_bytes()));
        let ticket = Ticket::new(holder, at(ms));
        prop_assert_eq!(key().verify(&key().sign(&ticket), at(ms)), Ok(ticket));
    }
}

#[test]
fn a_short_key_is_refused_and_none_is_shown() {
    let short = TicketKey::new(Secret::new("a".repeat(31))).expect_err("too short");
    assert!(matches!(short, TicketKeyError::Short));
    assert!(!format!("{:?}", key()).contains("0011"), "{:?}", key());
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("key");
    std::fs::write(&file, "00112233445566778899aabbccddeeff\n").expect("written");
    assert!(TicketKey::read(&file).expect("a key").verify(KNOWN, at(0)).is_ok());
    assert!(matches!(TicketKey::read(&dir.path().join("none")), Err(TicketKeyError::File(_))));
}

#[test]
fn a_ticket_is_spent_once_and_forgotten_when_it_has_expired() {
    let mut spent = SpentTickets::new(2, at(0));
    let tickets = [0, 1, 2].map(|ms| Ticket::new(holder("192.0.2.7"), at(ms)));
    assert_eq!(spent.spend(&tickets[0], at(0)), Ok(()));
    assert_eq!(spent.spend(&tickets[0], at(1)), Err(TicketError::Spent));
    assert_eq!(spent.spend(&tickets[1], at(1)), Ok(()));
    assert_eq!(spent.spend(&tickets[2], at(2)), Err(TicketError::TooMany), "memory is bounded");
    let end = tickets[0].expires_at();
    assert_eq!(spent.spend(&tickets[2], end), Ok(()), "the first has expired");
    assert_eq!(spent.len(), 2);
    let before = Ticket::new(holder("192.0.2.7"), at(-1));
    let later = end + SignedDuration::from_mins(10);
    assert_eq!(spent.spend(&before, later), Err(TicketError::Spent), "nobody remembers");
    assert!(spent.is_empty());
}

#[test]
fn a_client_has_an_eighth_a_network_a_quarter_and_each_has_one() {
    let one = |address: &str| HeldBy::Ticket(holder(address));
    let me = one("192.0.2.7");
    let need = |held: &[(HeldBy, u32)], by: HeldBy, nodes| {
        let Need { places, share } = by.need(nodes, held);
        (places, share)
    };
    assert_eq!(need(&[], me, 64).0, 0, "the first");
    assert_eq!(need(&[(one("198.51.100.7"), 64), (HeldBy::Shared, 64)], me, 64).0, 0, "others' orders");
    assert_eq!(need(&[(me, 8)], me, 8), (16, Share::Client));
    assert_eq!(need(&[(me, 8); 18], me, 8), (152, Share::Client));
    assert_eq!(need(&[(me, 64)], me, 8), (72, Share::Client), "measured in nodes");
    assert_eq!(need(&[(me, 8)], me, 64), (9, Share::Client));
    // A first order of a client whose network holds some.
    assert_eq!(need(&[(one("192.0.2.8"), 8), (one("192.0.2.9"), 8)], me, 8), (12, Share::Network));
    assert_eq!(need(&[(HeldBy::Shared, 8)], HeldBy::Shared, 8), (16, Share::WithoutTicket));
    assert_eq!(need(&[(one("2001:db8:7:1::1"), 1)], one("2001:db8:7:1::2"), 1), (16, Share::Client));
    assert_eq!(need(&[(one("2001:db8:7:1::1"), 1)], one("2001:db8:7:2::1"), 1), (8, Share::Network));
    assert_eq!(need(&[(one("2001:db8:7:1::1"), 1)], one("2001:db8:8:1::1"), 1).0, 0);
    assert_eq!(need(&[(me, u32::MAX), (me, u32::MAX)], me, 1).0, u32::MAX, "no overflow");
}
