//! The cost of many environments: the same calls to a shop with 20 environments that run and to one with 2,000, alternately.
//!
//! On a simulated remote, which has a project with an instance for each. The instances are stopped, and of the orders there are only
//! the records.
//!
//! ```text
//! cargo bench -p e2e --bench many_environments -- [real|simulated]
//! ```

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::records::{closed_key, delivered_at, fill};
use e2e::text;
use e2e::timing::{flavor, ms, percentile, ratio, restart};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use lnplaylive_core::order::PortBlock;
use lnplaylive_core::routes::RouteTable;
use lnplaylive_core::tags::Stage;
use lnplaylive_core::{Order, ProjectTags, State};
use lxd_client::{Client, ClientConfig, ConfigMap, Identity, ImageSource, InstanceSpec, InstanceType, Token};
use serde_json::{Value, json};
use testbed::{Binary, Daemons, Flavor, Shop, ShopConfig};
use tokio::time::sleep;

const FEW: u16 = 20;
const MANY: u16 = 2000;
/// Ports of an environment, and the first of all.
const PORTS: (u16, u16) = (9, 20_000);
const ROUNDS: usize = 200;
const PASSES: usize = 10;
/// Lookups of a route, which are measured together.
const LOOKUPS: u32 = 100_000;
/// The time over which the plugin's processor time is measured.
const WINDOW: Duration = Duration::from_secs(60);
/// The longest that a call of the remote may take.
const LONG: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let flavor = flavor();
    let (few, many) = (Counter::open(flavor, FEW).await, Counter::open(flavor, MANY).await);
    let mut shops = [few, many];
    for round in 0..ROUNDS {
        for shop in &mut shops {
            shop.serve(round).await;
        }
    }
    for _ in 0..PASSES {
        for shop in &mut shops {
            shop.cull();
            shop.read_routes();
            let took = restart(&shop.shop).await;
            shop.starts.push(took);
        }
    }
    let before = shops.each_ref().map(Counter::processor);
    sleep(WINDOW).await;
    let idle: Vec<_> =
        shops.iter().zip(before).map(|(shop, before)| shop.processor().saturating_sub(before)).collect();

    println!(
        "{flavor} daemons; {FEW} and {MANY} environments that run; {ROUNDS} calls, {PASSES} passes and starts"
    );
    println!("| what | p50 ms, {FEW} | p50 ms, {MANY} | p99 ms, {FEW} | p99 ms, {MANY} | ratio at p50 |");
    println!("|---|---|---|---|---|---|");
    let [few, many] = &shops;
    for (what, times) in [
        ("createorder", (&few.orders, &many.orders)),
        ("products", (&few.products, &many.products)),
        ("invoicestatus of an environment that runs", (&few.statuses, &many.statuses)),
        ("a pass of the culler", (&few.passes, &many.passes)),
        ("reading the route table", (&few.tables, &many.tables)),
        ("finding 100,000 routes", (&few.lookups, &many.lookups)),
        ("start of the plugin", (&few.starts, &many.starts)),
    ] {
        let (few, many) = times;
        let at = |all, percent| ms(percentile(all, percent));
        println!(
            "| {what} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            at(few, 50),
            at(many, 50),
            at(few, 99),
            at(many, 99),
            ratio(many, few)
        );
    }
    println!(
        "plugin, nothing going on: {:.2} and {:.2} % of a core; memory {:.1} and {:.1} MB",
        100.0 * idle[0].as_secs_f64() / WINDOW.as_secs_f64(),
        100.0 * idle[1].as_secs_f64() / WINDOW.as_secs_f64(),
        few.memory(),
        many.memory()
    );
}

/// A shop with its environments, and how long its answers took.
struct Counter {
    shop: Shop,
    running: Vec<Order>,
    orders: Vec<Duration>,
    products: Vec<Duration>,
    statuses: Vec<Duration>,
    passes: Vec<Duration>,
    tables: Vec<Duration>,
    lookups: Vec<Duration>,
    starts: Vec<Duration>,
}

impl Counter {
    async fn open(flavor: Flavor, count: u16) -> Self {
        let settings = "[shop]\nmax_unpaid_orders = 100000\ninvoice_expiry_secs = 86400\n".to_owned();
        let remote_settings = format!("ports = {{ first = {}, last = 65000 }}", PORTS.1);
        let daemons = Daemons::of(flavor).expect("the daemons");
        let shop = Shop::start(ShopConfig { settings, remote_settings, ..ShopConfig::new(daemons) });
        let shop = shop.await.expect("a shop");
        let remote = &shop.remotes[0];
        remote.set_memory(64 << 40, 1 << 40);
        let client = operator(&remote.url(), &remote.token("operator")).await;
        let running: Vec<_> = (0..count).map(|index| delivered_at(Timestamp::now(), ports(index))).collect();
        stream::iter(running.iter().zip(0..))
            .for_each_concurrent(8, |(order, index)| make(&client, order, ports(index)))
            .await;
        fill(&shop, running.clone(), closed_key).await;
        // It reads its records when it starts.
        restart(&shop).await;
        let counter = Self {
            shop,
            running,
            orders: Vec::new(),
            products: Vec::new(),
            statuses: Vec::new(),
            passes: Vec::new(),
            tables: Vec::new(),
            lookups: Vec::new(),
            starts: Vec::new(),
        };
        let remotes = counter.ask("lnplayops-remotes", json!({})).await;
        assert_eq!(remotes["remotes"][0]["environments"], count, "{remotes}");
        counter
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        self.shop.host.node.call(method, params).await.expect("an answer")
    }

    async fn serve(&mut self, round: usize) {
        let before = Instant::now();
        self.shop.order(8, 1).await.expect("an order");
        self.orders.push(before.elapsed());
        let before = Instant::now();
        self.ask("lnplaylive-products", json!({})).await;
        self.products.push(before.elapsed());
        let id = self.running[round * 7919 % self.running.len()].id.to_string();
        let before = Instant::now();
        let status = self.shop.status(&id).await.expect("a status");
        self.statuses.push(before.elapsed());
        assert_eq!(text(&status["deployment_details"], "status"), "provisioned");
    }

    /// A pass in which there is nothing to remove.
    fn cull(&mut self) {
        let program = Binary::Plugin.path().expect("it is built").with_file_name("lnplaylive-culler");
        let before = Instant::now();
        let output = Command::new(program)
            .arg("--config")
            .arg(self.shop.workdir().join("lnplaylive.toml"))
            .env("LNPLAYLIVE_STATE_DIR", self.state_dir())
            .output()
            .expect("it runs");
        self.passes.push(before.elapsed());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn state_dir(&self) -> std::path::PathBuf {
        self.shop.host.node.dir().join("regtest/lnplaylive")
    }

    /// What the web shop's server does when the table has changed, and for each connection.
    fn read_routes(&mut self) {
        let file = self.shop.workdir().join("routes.json");
        let mut table = RouteTable::default();
        for order in &self.running {
            let State::Provisioned { handover, .. } = &order.state else { panic!("it runs") };
            let nodes =
                (1..PORTS.0).map(|node| format!("192.0.2.1:{}", 20_000 + node).parse().expect("an endpoint"));
            let route = lnplaylive_core::routes::Route::new(handover.expires_at, nodes.collect());
            table.insert(handover.project, route.expect("a route"));
        }
        table.write(&file).expect("written");
        let before = Instant::now();
        let table = RouteTable::read(&file).expect("a table");
        self.tables.push(before.elapsed());
        let last = self.running.last().expect("some");
        let State::Provisioned { handover, .. } = &last.state else { panic!("it runs") };
        let (environment, now) = (handover.project.to_string(), Timestamp::now());
        let before = Instant::now();
        for _ in 0..LOOKUPS {
            std::hint::black_box(table.lookup(std::hint::black_box(&environment), "7", now))
                .expect("a route");
        }
        self.lookups.push(before.elapsed());
    }

    /// The plugin's directory below `/proc`.
    fn process(&self) -> std::path::PathBuf {
        let node = self.shop.host.node.pid().to_string();
        let read = |dir: &Path, name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        let parent = |dir: &Path| {
            let status = read(dir, "status");
            status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap_or_default().to_owned()
        };
        let is_it = |dir: &Path| {
            read(dir, "comm").starts_with("lnplaylive-plug")
                && [parent(dir), parent(&Path::new("/proc").join(parent(dir)))].contains(&node)
        };
        let mut all = std::fs::read_dir("/proc").expect("readable").flatten().map(|entry| entry.path());
        all.find(|dir| is_it(dir)).expect("the plugin runs")
    }

    /// The processor time that the plugin has taken.
    fn processor(&self) -> Duration {
        let stat = std::fs::read_to_string(self.process().join("stat")).expect("readable");
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        // 100 a second, whatever the kernel's own.
        Duration::from_millis(ticks * 10)
    }

    /// The plugin's memory (RSS), in MB.
    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(self.process().join("status")).expect("readable");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0 / 1e6
    }
}

fn ports(index: u16) -> PortBlock {
    PortBlock { first: PORTS.1 + PORTS.0 * index, count: PORTS.0 }
}

async fn operator(url: &str, token: &str) -> Client {
    let token = Token::parse(token).expect("a token");
    let identity = Identity::generate("operator").expect("an identity");
    let config = ClientConfig::new("operator", url.parse().expect("a URL"), identity, *token.fingerprint());
    let client = Client::new(config).expect("a client");
    client.enrol(&token).await.expect("enrolled");
    client
}

/// An order's project and instance on the remote.
async fn make(client: &Client, order: &Order, ports: PortBlock) {
    let State::Provisioned { handover, .. } = &order.state else { panic!("it runs") };
    let tags = ProjectTags {
        project: handover.project,
        order: order.id,
        prepared: None,
        expires: handover.expires_at,
        ports,
        member: None,
        address: None,
        stage: Stage::Provisioned,
        created: Some(Timestamp::now()),
        removing: None,
        shop: None,
    };
    let mut config = tags.to_config();
    for feature in ["features.images", "features.profiles"] {
        config.insert(feature.to_owned(), "false".to_owned());
    }
    let name = handover.project.to_string();
    client.create_project(&name, "made by a bench", &config).await.expect("created");
    let spec = InstanceSpec {
        name: "lnplay".into(),
        kind: InstanceType::Container,
        image: ImageSource::Alias("lnplay".into()),
        config: ConfigMap::new(),
        devices: [("eth0".to_owned(), [("type".to_owned(), "none".to_owned())].into())].into(),
        profiles: None,
        target: None,
    };
    client.create_instance(&name, &spec, LONG).await.expect("created");
}
