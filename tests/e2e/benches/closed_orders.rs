//! The cost of a long history: the same calls to a shop with 100 orders that have ended and to one with 100,000, alternately.
//! Both also have a few environments that run, and a few refunds that are owed.
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

const FEW: usize = 100;
const MANY: usize = 100_000;
/// Records written at a time.
const CHUNK: usize = 200;
/// Environments that run, and refunds that are owed.
const CURRENT: usize = 20;
/// Rounds of calls to both shops.
const ROUNDS: usize = 400;
/// Starts of the plugin at both shops.
const STARTS: usize = 20;
/// The bar for many against few, at the median.
const BAR: f64 = 1.2;
/// The longest that a start may take.
const START_TIME: Duration = Duration::from_secs(60);

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
    for _ in 0..STARTS {
        for shop in &mut shops {
            shop.restart().await;
        }
    }
    println!(
        "{flavor} daemons; {FEW} and {MANY} orders that have ended, {ROUNDS} calls and {STARTS} starts each"
    );
    println!("| what | p50 ms, {FEW} | p50 ms, {MANY} | p99 ms, {FEW} | p99 ms, {MANY} | ratio at p50 |");
    println!("|---|---|---|---|---|---|");
    let [few, many] = &shops;
    for (what, times) in [
        ("createorder", (&few.orders, &many.orders)),
        ("invoicestatus, unpaid order", (&few.unpaid, &many.unpaid)),
        ("invoicestatus, order that has ended", (&few.ended, &many.ended)),
        ("orders state=failed", (&few.failed, &many.failed)),
        ("start of the plugin", (&few.starts, &many.starts)),
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
    ended: Vec<Duration>,
    failed: Vec<Duration>,
    starts: Vec<Duration>,
}

impl Counter {
    async fn open(flavor: Flavor, ended: usize) -> Self {
        let settings = "[shop]\nmax_unpaid_orders = 100000\ninvoice_expiry_secs = 86400\n".to_owned();
        let config = ShopConfig { settings, ..ShopConfig::new(Daemons::of(flavor).expect("the daemons")) };
        let shop = Shop::start(config).await.expect("a shop");
        let started = Instant::now();
        let long_ago = Timestamp::now() - SignedDuration::from_hours(24 * 30);
        let history = fill(&shop, ended, &delivered(long_ago).without_secrets(), archive_key).await;
        fill(&shop, CURRENT, &delivered(Timestamp::now()), closed_key).await;
        fill(&shop, CURRENT, &failed(Timestamp::now()), closed_key).await;
        eprintln!("{ended} records written in {:.1} s", started.elapsed().as_secs_f32());
        Self {
            shop,
            history,
            orders: Vec::new(),
            unpaid: Vec::new(),
            ended: Vec::new(),
            failed: Vec::new(),
            starts: Vec::new(),
        }
    }

    async fn serve(&mut self, round: usize) {
        let before = Instant::now();
        let order = self.shop.order(8, 48).await.expect("an order");
        self.orders.push(before.elapsed());
        self.unpaid.push(self.status(text(&order, "invoice_id"), "unpaid").await);
        // From all over the history.
        let id = self.history[round * 7919 % self.history.len()].to_string();
        self.ended.push(self.status(&id, "paid").await);
        let before = Instant::now();
        let owed =
            self.shop.host.node.call("lnplayops-orders", json!({"state": "failed"})).await.expect("a list");
        self.failed.push(before.elapsed());
        assert_eq!(owed["orders"].as_array().map(Vec::len), Some(CURRENT), "{owed}");
    }

    /// Starts the plugin again, and waits until it sells.
    async fn restart(&mut self) {
        let host = &self.shop.host;
        host.stop_plugin().await.expect("it stops");
        host.wait_plugin_gone().await.expect("it is gone");
        let before = Instant::now();
        host.start_plugin().await.expect("it starts");
        while host.node.call("lnplaylive-products", json!({})).await.is_err() {
            assert!(before.elapsed() < START_TIME, "it does not answer");
        }
        self.starts.push(before.elapsed());
    }

    async fn status(&self, id: &str, expected: &str) -> Duration {
        let before = Instant::now();
        let status = self.shop.status(id).await.expect("a status");
        let took = before.elapsed();
        assert_eq!(status["invoice_status"], expected, "{status}");
        took
    }
}

fn archive_key(id: OrderId) -> Value {
    json!(["lnplaylive", "archive", format!("{:02x}", id.short()[0]), id])
}

fn closed_key(id: OrderId) -> Value {
    json!(["lnplaylive", "closed", id])
}

/// Writes copies of a record. With `batching` lightningd commits once for all requests that it finds waiting
/// on a connection, so many are sent before the answers are read.
async fn fill(shop: &Shop, count: usize, record: &Order, key: fn(OrderId) -> Value) -> Vec<OrderId> {
    let rpc = shop.host.node.rpc();
    let mut stream = UnixStream::connect(rpc.socket()).await.expect("a connection");
    let request = |method: &str, params: Value| {
        json!({"jsonrpc": "2.0", "id": "fill", "method": method, "params": params}).to_string()
    };
    // The stand-in has no such method, and needs none.
    answers(&mut stream, request("batching", json!({"enable": true})), 1).await;
    let record = serde_json::to_value(record).expect("JSON");
    let ids: Vec<_> = (0..count).map(|_| OrderId::random()).collect();
    for chunk in ids.chunks(CHUNK) {
        let mut requests = String::new();
        for id in chunk {
            let mut record = record.clone();
            record["id"] = json!(id);
            let entry = json!({"key": key(*id), "string": record.to_string(), "mode": "must-create"});
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

/// An order that was paid at this time.
fn paid(at: Timestamp) -> Order {
    let terms = Catalogue::default().quote(Selection::NodeCount(8), 48).expect("on sale");
    Order::new(OrderId::random(), terms, at, at).apply(Event::Paid, at, &Policy::default()).expect("paid")
}

/// An order whose price is owed since this time.
fn failed(at: Timestamp) -> Order {
    let mut order = paid(at);
    let reason = "no remote works".to_owned();
    order.state = State::Failed { paid_at: at, reason, cancelled: false, refunded_at: None };
    order
}

/// An order that was delivered at this time.
fn delivered(at: Timestamp) -> Order {
    let ends = at.checked_add(SignedDuration::from_hours(48)).expect("in range");
    let order = paid(at);
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
        Event::Placed(placement),
        Event::InstanceRuns,
        Event::HandedOver { expires_at: ends, connection_strings },
    ];
    let step = |order: Order, event| order.apply(event, at, &Policy::default()).expect("in order");
    let order = events.into_iter().fold(order, step);
    assert!(matches!(order.state, State::Provisioned { .. }));
    order
}
