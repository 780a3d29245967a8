//! The cost of a long history: the same calls to a shop with 100 orders that have ended and to one with 100,000, alternately.
//! Both also have a few environments that run, and a few refunds that are owed.
//!
//! Only records are made, straight in the datastore: what the orders were, invoices included, is the node's to bear.
//!
//! ```text
//! cargo bench -p e2e --bench closed_orders -- [real|simulated]
//! ```

use std::time::{Duration, Instant};

use e2e::records::{archive_key, closed_key, copies, delivered, failed, fill};
use e2e::text;
use e2e::timing::{flavor, ms, percentile, ratio, restart};
use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::OrderId;
use serde_json::json;
use testbed::{Daemons, Flavor, Shop, ShopConfig};

const FEW: usize = 100;
const MANY: usize = 100_000;
/// Environments that run, and refunds that are owed.
const CURRENT: usize = 20;
/// Rounds of calls to both shops.
const ROUNDS: usize = 400;
/// Starts of the plugin at both shops.
const STARTS: usize = 20;
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
    for _ in 0..STARTS {
        for shop in &mut shops {
            let took = restart(&shop.shop).await;
            shop.starts.push(took);
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
        let ended_order = delivered(long_ago).without_secrets();
        let history = fill(&shop, copies(&ended_order, ended), archive_key).await;
        fill(&shop, copies(&delivered(Timestamp::now()), CURRENT), closed_key).await;
        fill(&shop, copies(&failed(Timestamp::now()), CURRENT), closed_key).await;
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

    async fn status(&self, id: &str, expected: &str) -> Duration {
        let before = Instant::now();
        let status = self.shop.status(id).await.expect("a status");
        let took = before.elapsed();
        assert_eq!(status["invoice_status"], expected, "{status}");
        took
    }
}
