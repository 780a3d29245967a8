//! The cost of `lnplaylive-createorder`, when idle and while twenty environments are being provisioned.
//!
//! The server for the environments is a process of its own with the lowest priority, and the environments have simulated daemons
//! with `elsewhere`, since they would be on another machine and compete for neither processor nor disk; its files are in memory then.
//! The floor is the node's own `invoice`, called in turn with it, in the same conditions: an order cannot cost less.
//!
//! ```text
//! cargo bench -p e2e --bench createorder -- [real|simulated] [elsewhere]
//! ```

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::timing::{flavor, ms, percentile, ratio};
use e2e::{LONG, text};
use serde_json::{Value, json};
use testbed::{Binary, Daemons, Flavor, Remotes, Shop, ShopConfig, Workdir};

/// Orders that are provisioned at a time meanwhile, each of eight nodes.
const ORDERS: usize = 20;
/// Twenty environments are up in two seconds, in which there are a hundred calls, and the 99th percentile of those is the second worst. So
/// they are provisioned so many times.
const ROUNDS: u32 = 4;
/// Pairs of calls while nothing else goes on.
const IDLE_PAIRS: usize = 200;
/// The bar for the 99th percentile of an order while others are provisioned.
const BAR: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() {
    let flavor = flavor();
    let daemons = Daemons::of(flavor).expect("the daemons");
    let dir = Workdir::new("bench").expect("a directory");
    let elsewhere = std::env::args().any(|argument| argument == "elsewhere");
    let server = Server::start(if elsewhere { Flavor::Simulated } else { flavor }, elsewhere, &dir);
    let settings = "[shop]\nmax_unpaid_orders = 100000\n".to_owned();
    let config = ShopConfig { settings, remotes: server.remotes.clone(), ..ShopConfig::new(daemons) };
    let shop = Shop::start(config).await.expect("a shop");

    let mut idle = Times::default();
    for _ in 0..IDLE_PAIRS {
        idle.pair(&shop).await;
    }

    let mut busy = Times::default();
    let mut took = Duration::ZERO;
    for _ in 0..ROUNDS {
        took += busy.while_provisioning(&shop).await;
    }

    println!(
        "{flavor} daemons; {ORDERS} environments of 8 nodes provisioned in {:.1} s, {ROUNDS} times",
        (took / ROUNDS).as_secs_f32()
    );
    println!("| what | calls | p50 ms | p99 ms | max ms |");
    println!("|---|---|---|---|---|");
    idle.print("idle");
    busy.print("while provisioning");
    let ratio = |times: &Times| ratio(&times.order, &times.invoice);
    println!(
        "createorder / invoice at p50: idle {:.1}, while provisioning {:.1}",
        ratio(&idle),
        ratio(&busy)
    );
    let p99 = percentile(&busy.order, 99);
    let verdict = if p99 < BAR { "within" } else { "OVER" };
    println!(
        "createorder p99 while provisioning: {:.1} ms, {verdict} the bar of {} ms",
        ms(p99),
        BAR.as_millis()
    );
}

/// A simulated LXD server that runs until this is dropped.
struct Server {
    process: Child,
    remotes: Remotes,
}

impl Server {
    fn start(flavor: Flavor, in_memory: bool, dir: &Workdir) -> Self {
        let demo = Binary::Plugin.path().expect("built").with_file_name("lnplaylive-demo");
        let mut command = Command::new("nice");
        if in_memory {
            command.env("TMPDIR", "/dev/shm");
        }
        let mut process = command
            .args(["-n", "19"])
            .arg(demo)
            .args(["remote", "--lightning", &flavor.to_string()])
            .stdout(Stdio::piped())
            .env_remove("CARGO")
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("it prints where it is");
        let about: Value = serde_json::from_str(&line).expect("one line of JSON");
        let token_file = dir.join("token");
        std::fs::write(&token_file, text(&about, "token")).expect("written");
        Self { process, remotes: Remotes::Existing { url: text(&about, "url").to_owned(), token_file } }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not by SIGKILL: it has instances to end.
        let pid = self.process.id().to_string();
        Command::new("kill").arg(pid).status().expect("kill runs");
        self.process.wait().expect("it ends");
    }
}

#[derive(Default)]
struct Times {
    invoice: Vec<Duration>,
    order: Vec<Duration>,
}

impl Times {
    /// Measures while orders are provisioned; returns how long that took.
    async fn while_provisioning(&mut self, shop: &Shop) -> Duration {
        let mut orders = Vec::new();
        for _ in 0..ORDERS {
            orders.push(shop.order(8, 1).await.expect("an order"));
        }
        for order in &orders {
            shop.host.customer.pay(text(order, "bolt11_invoice")).await.expect("paid");
        }
        let started = Instant::now();
        let all = async {
            for order in &orders {
                let status = shop.follow(text(order, "invoice_id"), 5 * LONG, |_| ()).await.expect("it ends");
                assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
            }
        };
        let measure = async {
            loop {
                self.pair(shop).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! { () = all => {}, () = measure => {} }
        started.elapsed()
    }

    async fn pair(&mut self, shop: &Shop) {
        let label = format!("floor-{}-{}", self.invoice.len(), std::process::id());
        // Labels are for ever: those of the idle run are not used again.
        let label = format!("{label}-{:p}", std::ptr::from_ref(self));
        let params = json!({"amount_msat": 1000, "label": label, "description": "floor", "expiry": 600});
        let before = Instant::now();
        shop.host.node.call("invoice", params).await.expect("an invoice");
        self.invoice.push(before.elapsed());
        let before = Instant::now();
        shop.order(8, 1).await.expect("an order");
        self.order.push(before.elapsed());
    }

    fn print(&self, when: &str) {
        for (what, all) in [("invoice", &self.invoice), ("createorder", &self.order)] {
            let at = |percent| ms(percentile(all, percent));
            println!("| {what}, {when} | {} | {:.1} | {:.1} | {:.1} |", all.len(), at(50), at(99), at(100));
        }
    }
}
