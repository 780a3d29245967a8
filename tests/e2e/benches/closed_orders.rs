//! The cost of a long history: the same calls to a shop with ten closed orders and to one with 100,000, alternately.
//!
//! Only records are made, straight in the datastore: what the orders were, invoices included, is the node's to bear.
//!
//! ```text
//! cargo bench -p e2e --bench closed_orders -- [real|simulated]
//! ```

use std::time::{Duration, Instant};

use e2e::text;
use e2e::timing::{flavor, ms, percentile, ratio};
use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::catalogue::{Catalogue, Selection};
use lnplaylive_core::order::{Access, KeyPair, Placement, PortBlock};
use lnplaylive_core::{Event, Order, OrderId, Policy, ProjectName, Secret, State};
use serde_json::{Value, json};
use testbed::{Daemons, Flavor, Shop, ShopConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const FEW: usize = 10;
const MANY: usize = 100_000;
/// Records written at a time.
const CHUNK: usize = 200;
/// Rounds of calls to both shops.
const ROUNDS: usize = 400;
/// The bar for many against few, at the median.
const BAR: f64 = 1.2;

#[tokio::main]
async fn main() {
    let flavor = flavor();
    let (few, many) = tokio::join!(Counter::open(flavor, FEW), Counter::open(flavor, MANY));
    let mut shops = [few, many];
    for round in 0..ROUNDS {
        for shop in &mut shops {
            shop.serve(round).await;
        }
    }
    println!("{flavor} daemons; {FEW} and {MANY} closed orders, {ROUNDS} calls each");
    println!("| what | p50 ms, {FEW} | p50 ms, {MANY} | p99 ms, {FEW} | p99 ms, {MANY} | ratio at p50 |");
    println!("|---|---|---|---|---|---|");
    let [few, many] = &shops;
    for (what, times) in [
        ("createorder", (&few.orders, &many.orders)),
        ("invoicestatus, unpaid order", (&few.unpaid, &many.unpaid)),
        ("invoicestatus, closed order", (&few.closed, &many.closed)),
    ] {
        let (few, many) = times;
        let at = |all, percent| ms(percentile(all, percent));
        let ratio = ratio(many, few);
        let verdict = if ratio <= BAR { "within" } else { "OVER" };
        println!(
            "| {what} | {:.2} | {:.2} | {:.2} | {:.2} | {ratio:.2}, {verdict} the bar of {BAR} |",
            at(few, 50),
            at(many, 50),
            at(few, 99),
            at(many, 99),
        );
    }
}

/// A shop with a history, and how long its answers took.
struct Counter {
    shop: Shop,
    history: Vec<OrderId>,
    orders: Vec<Duration>,
    unpaid: Vec<Duration>,
    closed: Vec<Duration>,
}

impl Counter {
    async fn open(flavor: Flavor, closed: usize) -> Self {
        let settings = "[shop]\nmax_unpaid_orders = 100000\ninvoice_expiry_secs = 86400\n".to_owned();
        let config = ShopConfig { settings, ..ShopConfig::new(Daemons::of(flavor).expect("the daemons")) };
        let shop = Shop::start(config).await.expect("a shop");
        let started = Instant::now();
        let history = fill(&shop, closed).await;
        eprintln!("{closed} records written in {:.1} s", started.elapsed().as_secs_f32());
        Self { shop, history, orders: Vec::new(), unpaid: Vec::new(), closed: Vec::new() }
    }

    async fn serve(&mut self, round: usize) {
        let before = Instant::now();
        let order = self.shop.order(8, 48).await.expect("an order");
        self.orders.push(before.elapsed());
        self.unpaid.push(self.status(text(&order, "invoice_id"), "unpaid").await);
        // From all over the history.
        let id = self.history[round * 7919 % self.history.len()].to_string();
        self.closed.push(self.status(&id, "paid").await);
    }

    async fn status(&self, id: &str, expected: &str) -> Duration {
        let before = Instant::now();
        let status = self.shop.status(id).await.expect("a status");
        let took = before.elapsed();
        assert_eq!(status["invoice_status"], expected, "{status}");
        took
    }
}

/// Writes the records of closed orders. With `batching` lightningd commits once for all requests that it finds waiting
/// on a connection, so many are sent before the answers are read.
async fn fill(shop: &Shop, count: usize) -> Vec<OrderId> {
    let rpc = shop.host.node.rpc();
    let mut stream = UnixStream::connect(rpc.socket()).await.expect("a connection");
    let request = |method: &str, params: Value| {
        json!({"jsonrpc": "2.0", "id": "fill", "method": method, "params": params}).to_string()
    };
    // The stand-in has no such method, and needs none.
    answers(&mut stream, request("batching", json!({"enable": true})), 1).await;
    let record = serde_json::to_value(closed_order()).expect("JSON");
    let ids: Vec<_> = (0..count).map(|_| OrderId::random()).collect();
    for chunk in ids.chunks(CHUNK) {
        let mut requests = String::new();
        for id in chunk {
            let mut record = record.clone();
            record["id"] = json!(id);
            let key = json!(["lnplaylive", "closed", id]);
            let entry = json!({"key": key, "string": record.to_string(), "mode": "must-create"});
            requests += &request("datastore", entry);
        }
        let answers = answers(&mut stream, requests, chunk.len()).await;
        assert!(!answers.contains("\"error\":"), "{answers:.500}");
    }
    ids
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

/// An order that was provisioned.
fn closed_order() -> Order {
    let now = Timestamp::now();
    let ends = now.checked_add(SignedDuration::from_hours(48)).expect("in range");
    let policy = Policy::default();
    let terms = Catalogue::default().quote(Selection::NodeCount(8), 48).expect("on sale");
    let order = Order::new(OrderId::random(), terms, now, now);
    let pair = || KeyPair { private: Secret::new("private"), public: "public".into() };
    let placement = Placement {
        member: None,
        address: None,
        remote: "sim-0".into(),
        project: ProjectName::new(ends, order.id).expect("a name"),
        ports: PortBlock { first: 20000, count: 9 },
        access: Access { host_key: pair(), client_key: pair() },
    };
    let link = format!(
        "http://localhost:3000/connect#address=02{}@192.0.2.1:20001&type=direct&value=ws:&rune={}&name=Alice&color=df2020",
        "00".repeat(32),
        "r".repeat(48),
    );
    let connection_strings = vec![link.parse().expect("a link"); 8];
    let events = [
        Event::Paid,
        Event::Placed(placement),
        Event::InstanceRuns,
        Event::HandedOver { expires_at: ends, connection_strings },
    ];
    let step = |order: Order, event| order.apply(event, now, &policy).expect("in order");
    let order = events.into_iter().fold(order, step);
    assert!(matches!(order.state, State::Provisioned { .. }));
    order
}
