//! Order records as a shop that has sold for a while has them, written straight into its node's datastore.

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::catalogue::{Catalogue, Selection};
use lnplaylive_core::order::{Access, KeyPair, Placement, PortBlock};
use lnplaylive_core::{Event, Order, OrderId, Policy, ProjectName, Secret, State};
use serde_json::{Value, json};
use testbed::Shop;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Records written at a time.
const CHUNK: usize = 200;

/// The key of an order in the archive.
pub fn archive_key(id: OrderId) -> Value {
    json!(["lnplaylive", "archive", format!("{:02x}", id.short()[0]), id])
}

/// The key of an order that is closed.
pub fn closed_key(id: OrderId) -> Value {
    json!(["lnplaylive", "closed", id])
}

/// Copies of an order, with ids of their own.
pub fn copies(order: &Order, count: usize) -> Vec<Order> {
    (0..count).map(|_| Order { id: OrderId::random(), ..order.clone() }).collect()
}

/// Writes records straight into the datastore of the shop's node, each under the key that it is given, and returns their ids. With `batching` lightningd commits once for all requests that it finds waiting
/// on a connection, so many are sent before the answers are read.
///
/// # Panics
///
/// If one cannot be written.
pub async fn fill(shop: &Shop, records: Vec<Order>, key: fn(OrderId) -> Value) -> Vec<OrderId> {
    let rpc = shop.host.node.rpc();
    let mut stream = UnixStream::connect(rpc.socket()).await.expect("a connection");
    let request = |method: &str, params: Value| {
        json!({"jsonrpc": "2.0", "id": "fill", "method": method, "params": params}).to_string()
    };
    // The stand-in has no such method, and needs none.
    answers(&mut stream, request("batching", json!({"enable": true})), 1).await;
    for chunk in records.chunks(CHUNK) {
        let mut requests = String::new();
        for order in chunk {
            let record = serde_json::to_string(order).expect("JSON");
            let entry = json!({"key": key(order.id), "string": record, "mode": "must-create"});
            requests += &request("datastore", entry);
        }
        let answers = answers(&mut stream, requests, chunk.len()).await;
        assert!(!answers.contains("\"error\":"), "{answers:.500}");
    }
    records.into_iter().map(|order| order.id).collect()
}

/// Sends requests and reads as many answers, each of which ends with an empty line.
async fn answers(stream: &mut UnixStream, requests: String, count: usize) -> String {
    let (mut from, mut to) = stream.split();
    let send = async { to.write_all(requests.as_bytes()).await.expect("sent") };
    let receive = async {
        let (mut received, mut seen, mut ends) = (Vec::new(), 0, 0);
        while ends < count {
            assert!(from.read_buf(&mut received).await.expect("received") > 0, "the node hung up");
            ends += received[seen..].windows(2).filter(|two| two == b"\n\n").count();
            // The last byte may be the first half of an end.
            seen = received.len() - 1;
        }
        String::from_utf8(received).expect("text")
    };
    tokio::join!(send, receive).1
}

/// An order that was paid at this time.
///
/// # Panics
///
/// If the product is not on sale by default.
pub fn paid(at: Timestamp) -> Order {
    let terms = Catalogue::default().quote(Selection::NodeCount(8), 48).expect("on sale");
    Order::new(OrderId::random(), terms, at, at).apply(Event::Paid, at, &Policy::default()).expect("paid")
}

/// An order whose price is owed since this time.
///
/// # Panics
///
/// As [`paid`].
pub fn failed(at: Timestamp) -> Order {
    let mut order = paid(at);
    let reason = "no remote works".to_owned();
    order.state = State::Failed { paid_at: at, reason, cancelled: false, refunded_at: None };
    order
}

/// An order that was delivered at this time.
///
/// # Panics
///
/// If the time is out of range.
pub fn delivered(at: Timestamp) -> Order {
    delivered_at(at, PortBlock { first: 20000, count: 9 })
}

/// The same, with its environment's ports.
///
/// # Panics
///
/// If the time is out of range.
pub fn delivered_at(at: Timestamp, ports: PortBlock) -> Order {
    let ends = at.checked_add(SignedDuration::from_hours(48)).expect("in range");
    let order = paid(at);
    let pair = || KeyPair { private: Secret::new("private"), public: "public".into() };
    let placement = Placement {
        member: None,
        address: None,
        remote: "sim-0".into(),
        project: ProjectName::new(ends, order.id).expect("a name"),
        ports,
        access: Access { host_key: pair(), client_key: pair() },
        prepared: None,
    };
    let link = format!(
        "http://localhost:3000/connect#address=02{}@192.0.2.1:20001&type=direct&value=ws:&rune={}&name=Alice&color=df2020",
        "00".repeat(32),
        "r".repeat(48),
    );
    let connection_strings = vec![link.parse().expect("a link"); 8];
    let events = [
        Event::Placed(placement),
        Event::InstanceRuns,
        Event::HandedOver { expires_at: ends, connection_strings },
    ];
    let step = |order: Order, event| order.apply(event, at, &Policy::default()).expect("in order");
    let order = events.into_iter().fold(order, step);
    assert!(matches!(order.state, State::Provisioned { .. }));
    order
}
