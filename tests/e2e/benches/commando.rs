//! The time that the web shop's server adds to a commando call: through `/ws` and directly to the node's port, alternately.
//!
//! ```text
//! cargo bench -p e2e --bench commando -- [real|simulated]
//! ```

use std::time::{Duration, Instant};

use e2e::timing::{flavor, ms, percentile};
use serde_json::json;
use sim_lightning::commando::Client;
use testbed::{Daemons, Shop, ShopConfig};
use tokio::net::TcpListener;

const CALLS: usize = 2000;
/// Before the first call that counts.
const WARM_UP: usize = 100;
const METHOD: &str = "lnplaylive-products";
/// The bar for what is added at the median.
const BAR_MS: f64 = 1.0;

#[tokio::main]
async fn main() {
    let flavor = flavor();
    let daemons = Daemons::of(flavor).expect("the daemons");
    let shop = Shop::start(ShopConfig::new(daemons)).await.expect("a shop");
    let rune = shop.host.create_public_rune().await.expect("a rune");
    let (site, _) = testbed::site(&shop, &rune, None).expect("a site");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let through = format!("ws://{}/ws", listener.local_addr().expect("an address"));
    // In threads of this process, but nothing is shared: what it costs is what it costs elsewhere.
    let serving = tokio::spawn(site.serve(listener.into(), std::future::pending()));

    let node = &shop.host.node;
    let direct = format!("ws://127.0.0.1:{}", node.ws_port());
    let mut ways = Vec::new();
    for (name, address) in [("to the node", direct), ("through /ws", through)] {
        let client = Client::connect(&address, node.id()).await.expect("a connection");
        ways.push((name, client, Vec::new()));
    }
    for call in 0..WARM_UP + CALLS {
        for (_, client, times) in &mut ways {
            let began = Instant::now();
            client.call(&rune, METHOD, json!({})).await.expect("an answer");
            if call >= WARM_UP {
                times.push(began.elapsed());
            }
        }
    }
    serving.abort();

    println!("{flavor} daemons; {CALLS} calls of {METHOD} each");
    println!("| way | p50 ms | p99 ms |");
    println!("|---|---|---|");
    let at = |times: &[Duration], percent| ms(percentile(times, percent));
    for (name, _, times) in &ways {
        println!("| {name} | {:.2} | {:.2} |", at(times, 50), at(times, 99));
    }
    let added = at(&ways[1].2, 50) - at(&ways[0].2, 50);
    let verdict = if added <= BAR_MS { "within" } else { "OVER" };
    println!("added at p50: {added:.2} ms, {verdict} the bar of {BAR_MS} ms");
}
