//! The cost of `lnplaylive-createorder`, when idle and while twenty environments are being provisioned.
//!
//! The server for the environments only gets what processor time nothing else wants, and the environments have simulated daemons
//! with `elsewhere`, since they would be on another machine and compete for neither processor nor disk; its files are in memory then, and so
//! are those of the customer's node. Its instances take as long to start as those of a real server.
//! The floor is the node's own `invoice`, called in turn with it, in the same conditions: an order cannot cost less.
//!
//! ```text
//! cargo bench -p e2e --bench createorder -- [real|simulated] [elsewhere]
//! ```

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::timing::{flavor, ms, percentile, ratio};
use e2e::{LONG, text};
use serde_json::{Value, json};
use testbed::{Binary, Daemons, Flavor, Remotes, Shop, ShopConfig, Workdir};

/// Orders that are provisioned at a time meanwhile, each of eight nodes.
const ORDERS: usize = 20;
/// Times that they are provisioned.
const ROUNDS: u32 = 4;
/// Pairs of calls while nothing else goes on.
const IDLE_PAIRS: usize = 200;
/// Creation and start of a container with eight nodes take so much longer on a real server than on the simulated one: of 5 s from
/// payment to strings, in the bench `prepared`, 2.5 s.
const START_DELAY: Duration = Duration::from_millis(2500);
/// Where files of other machines are.
const MEMORY: &str = "/dev/shm";
/// Invoices that were asked for.
static INVOICES: AtomicU64 = AtomicU64::new(0);
/// The bar for the 99th percentile of an order while others are provisioned.
const BAR: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() {
    let flavor = flavor();
    let daemons = Daemons::of(flavor).expect("the daemons");
    let dir = Workdir::new("bench").expect("a directory");
    let elsewhere = std::env::args().any(|argument| argument == "elsewhere");
    let in_memory = || tempfile::tempdir_in(MEMORY).expect("a directory in memory");
    let others = elsewhere.then(in_memory);
    let others = others.as_ref().map(tempfile::TempDir::path);
    let server = Server::start(if elsewhere { Flavor::Simulated } else { flavor }, others, &dir);
    // Hundreds of orders are measured that nobody pays; they must not hold the places of those that are provisioned.
    let settings = "[shop]\nmax_unpaid_orders = 100000\ncontested_hold_secs = 1\n".to_owned();
    let config = ShopConfig { settings, remotes: server.remotes.clone(), ..ShopConfig::new(daemons) };
    let config = ShopConfig { customer_dir: others.map(|dir| dir.join("customer")), ..config };
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
    // Removed once the process has ended.
    _group: IdleGroup,
}

impl Server {
    fn start(flavor: Flavor, files: Option<&Path>, dir: &Workdir) -> Self {
        let demo = Binary::Plugin.path().expect("built").with_file_name("lnplaylive-demo");
        let group = IdleGroup::new();
        let mut command = group.command(&demo);
        let mut start_delay = Duration::ZERO;
        if let Some(files) = files {
            command.env("TMPDIR", files);
            start_delay = START_DELAY;
        }
        let mut process = command
            .args(["remote", "--lightning", &flavor.to_string()])
            .args(["--start-delay", &start_delay.as_millis().to_string()])
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
        Self {
            process,
            remotes: Remotes::Existing { url: text(&about, "url").to_owned(), token_file },
            _group: group,
        }
    }
}

/// A control group whose processes run only when no others want the processor, as if they had one of their own.
///
/// A low priority is not enough: with `sched_autogroup_enabled` it counts only between the processes of one session, and each
/// environment's supervisor begins a session.
struct IdleGroup(PathBuf);

impl IdleGroup {
    /// Needs root and a kernel since 5.15.
    fn new() -> Self {
        let name = format!("lnplaylive-bench-{}", std::process::id());
        // The first is where cgroup v1 has its controllers, as on some servers still.
        for parent in ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"] {
            let group = Self(Path::new(parent).join(&name));
            let made =
                std::fs::create_dir(&group.0).and_then(|()| std::fs::write(group.0.join("cpu.idle"), "1"));
            if made.is_ok() {
                return group;
            }
        }
        panic!(
            "no control group with cpu.idle can be made below /sys/fs/cgroup: run this as root, with the cpu controller on"
        );
    }

    /// A command that runs `program` in the group.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        let join = r#"echo $$ > "$0" && exec "$@""#;
        command.args(["-c", join]).arg(self.0.join("cgroup.procs")).arg(program);
        command
    }
}

impl Drop for IdleGroup {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).ok();
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
        // Labels are never used twice, and a call that the end of a round cut off may have made its invoice.
        let label = format!("floor-{}", INVOICES.fetch_add(1, Ordering::Relaxed));
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
