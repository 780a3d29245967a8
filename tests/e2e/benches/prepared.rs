//! From payment to connection strings, with an environment that is prepared and without: orders of eight nodes, one after the other.
//!
//! The floor is the same order on the same server in the same run while nothing is prepared. On real servers, privately:
//!
//! ```text
//! cargo build --workspace --examples
//! TESTBED_TEST_IMAGE=$(tests/image/build target/debug target/test-image) target/debug/examples/with-remote lxd \
//!     cargo bench -p e2e --bench prepared -- real
//! ```
//!
//! Without a server in `REMOTE_URL` and `REMOTE_TOKEN_FILE` it runs on a simulated one, where nothing boots.

use std::time::{Duration, Instant};

use e2e::timing::{flavor, ms, percentile, remotes};
use e2e::{LONG, text};
use serde_json::{Value, json};
use testbed::{Daemons, Shop, ShopConfig, Step, until};

/// Orders of each kind.
const ORDERS: usize = 5;
/// The bar for an order that finds a prepared environment.
const BAR: Duration = Duration::from_secs(3);

/// The settings of the shop, which prepares so many.
fn settings(prepared: u32) -> String {
    format!(
        "[[products]]\nsku = \"A\"\nnode_count = 8\nmsat_per_node_hour = 1000\nprepared = {prepared}\n\
         [provisioning]\nsurvey_secs = 1\n"
    )
}

#[tokio::main]
async fn main() {
    let flavor = flavor();
    let daemons = Daemons::of(flavor).expect("the daemons");
    let config = ShopConfig { settings: settings(0), remotes: remotes(), ..ShopConfig::new(daemons) };
    let shop = Shop::start(config).await.expect("a shop");
    // The server unpacks the image for the first one.
    bought(&shop, "first").await;
    let mut without = Vec::new();
    for _ in 0..ORDERS {
        without.push(bought(&shop, "without").await);
    }
    change(&shop).await;
    let mut with = Vec::new();
    for _ in 0..ORDERS {
        ready(&shop).await;
        with.push(bought(&shop, "prepared").await);
    }
    println!("{flavor} daemons; payment to connection strings of 8 nodes, {ORDERS} orders of each kind");
    println!("| what | p50 s | worst s |");
    println!("|---|---|---|");
    for (what, all) in [("nothing prepared", &without), ("prepared", &with)] {
        let at = |percent| ms(percentile(all, percent)) / 1000.0;
        println!("| {what} | {:.2} | {:.2} |", at(50), at(100));
    }
    let verdict = if percentile(&with, 50) < BAR { "within" } else { "OVER" };
    println!("prepared: {verdict} the bar of {} s", BAR.as_secs());
}

/// Has the shop prepare one.
async fn change(shop: &Shop) {
    let file = shop.workdir().join("lnplaylive.toml");
    let text = std::fs::read_to_string(&file).expect("its settings");
    std::fs::write(&file, text.replace("prepared = 0", "prepared = 1")).expect("written");
    shop.host.stop_plugin().await.expect("it stops");
    shop.host.wait_plugin_gone().await.expect("it is gone");
    shop.host.start_plugin().await.expect("it starts");
}

/// Returns once one is ready and the machine has had a moment to itself.
async fn ready(shop: &Shop) {
    until("one is prepared", LONG, async || {
        let answer = shop.host.node.call("lnplayops-remotes", json!({})).await.unwrap_or_default();
        Ok(match answer["prepared"][0]["ready"].as_u64() {
            Some(1..) => Step::Done(()),
            _ => Step::NotYet(answer["prepared"].to_string()),
        })
    })
    .await
    .expect("it is made");
    tokio::time::sleep(Duration::from_secs(3)).await;
}

/// Buys one, and returns the time from the payment to the strings. Prints when each step was first seen.
async fn bought(shop: &Shop, what: &str) -> Duration {
    let order = shop.buy(8, 1).await.expect("paid");
    let paid = Instant::now();
    let mut steps: Vec<(String, Duration)> = Vec::new();
    let status = shop
        .follow(text(&order, "invoice_id"), 5 * LONG, |status: &Value| {
            let step = status["deployment_details"]["progress"]["step"].as_str().unwrap_or("-");
            if steps.last().is_none_or(|(last, _)| last != step) {
                steps.push((step.to_owned(), paid.elapsed()));
            }
        })
        .await
        .expect("it ends");
    let took = paid.elapsed();
    assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
    let steps: Vec<_> = steps.iter().map(|(step, at)| format!("{step} {:.2}", at.as_secs_f32())).collect();
    println!("{what}: {:.2} s ({})", took.as_secs_f32(), steps.join(", "));
    took
}
