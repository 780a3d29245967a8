//! A shop under load: visitors who do what browsers do, through the front door of a host, without attacks and during all of them.
//!
//! A visitor loads the page with all it refers to, the products and a ticket, orders over a WebSocket, waits for the payment, and
//! loads the order's page. Every tenth pays, waits for the connection strings and has the cards printed. Each comes from an
//! address and a network of its own: of loopback, which the proxy names to the web shop's server as it would any other. The
//! attackers are those of `tests/edge.rs`, and others who open WebSockets without a word or abandon requests for cards.
//!
//! Everything runs on this machine: visitors, attackers, and the environments on the simulated remotes, which are small for that
//! reason. Fails if a visitor gets no invoice or a buyer no strings, if lightningd or the web shop's server dies, or if that server
//! takes more memory than it may. Times are printed and not judged.
//!
//! ```text
//! [LOAD_VISITORS=40] cargo bench -p e2e --bench load -- [real|simulated]
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::attack::Attack;
use e2e::front::Front;
use e2e::timing::{flavor, ms, percentile};
use e2e::{LONG, strings, text};
use futures_util::{StreamExt as _, stream};
use reqwest::StatusCode;
use reqwest::header::ACCEPT_ENCODING;
use serde_json::{Value, json};
use sim_lightning::commando::{Client, Error};
use testbed::{Daemons, Remotes, Shop, ShopConfig};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Visitors of each phase, unless `LOAD_VISITORS` says otherwise.
const VISITORS: usize = 200;
/// One visitor of so many pays.
const PAYING: usize = 10;
/// Time from one visitor's arrival to the next one's.
const ARRIVALS: Duration = Duration::from_millis(200);
/// Connections that a browser opens to one server.
const CONNECTIONS: usize = 6;
/// How long a visitor who does not pay looks at the invoice, in seconds.
const LOOKING: u64 = 10;
/// Longest that a request for a file may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest that a phase may take.
const PHASE: Duration = Duration::from_secs(600);
/// How often a visitor connects again before it leaves.
const RECONNECTS: usize = 5;
/// The bar for the memory of the web shop's server, in bytes.
const MEMORY: u64 = 200_000_000;
/// WebSockets to the node that one address may have.
const SOCKETS: usize = 16;
/// Orders while permitted calls are pipelined, and one before.
const PIPELINED: usize = 51;
/// Attackers who say nothing, in each of two networks: as many as the server lets in of a network.
const SILENT: usize = 32;

#[tokio::main]
async fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().expect("none is installed");
    let flavor = flavor();
    let visitors =
        std::env::var("LOAD_VISITORS").map_or(VISITORS, |n| n.parse().expect("LOAD_VISITORS is a number"));
    let config = ShopConfig {
        remotes: Remotes::Simulated(2),
        settings: PRODUCTS.into(),
        remote_settings: "max_environments = 1000\n".into(),
        tickets: true,
        ..ShopConfig::new(Daemons::of(flavor).expect("the daemons"))
    };
    let front = Front::as_on_a_host(Shop::start(config).await.expect("a shop")).await;
    let files = Arc::new(Files::find(&front).await);
    println!(
        "{flavor} daemons; {}; {visitors} visitors in each phase, of whom every {PAYING}th pays; {} files with the page, {} after it",
        front.description(),
        files.page.len(),
        files.cached.len()
    );

    let quiet = phase(&front, &files, 0, visitors).await;
    let attack = all_attacks(&front).await;
    attack.begun().await;
    let attacked = phase(&front, &files, visitors, visitors).await;
    let outcomes = attack.end().await;

    println!("| what | quiet: p50, p99 ms | attacked: p50, p99 ms | ratio at p50, p99 |");
    println!("|---|---|---|---|");
    row("page, with its files", &quiet.pages, &attacked.pages);
    row("createorder", &quiet.orders, &attacked.orders);
    row("payment to strings", &quiet.strings, &attacked.strings);
    println!("attackers' calls: {outcomes:?}");
    let mut well = true;
    for (name, phase) in [("quiet", &quiet), ("attacked", &attacked)] {
        println!(
            "{name}, {:.0} s: {} of {visitors} visitors have invoices, {} of {} buyers their strings, {} of them cards; \
             peak memory of the web shop's server {:.1} MB",
            phase.took.as_secs_f32(),
            phase.orders.len(),
            phase.strings.len(),
            visitors.div_ceil(PAYING),
            phase.cards,
            mb(phase.memory)
        );
        for (failure, count) in &phase.failures {
            println!("{name}, {count} times: {failure}");
        }
        well &= phase.failures.is_empty() && phase.memory <= MEMORY;
    }
    println!(
        "calls that the rune permits, as many at a time as one address's WebSockets take, and buyers who order meanwhile:"
    );
    println!("| WebSockets | its calls a second | buyers with invoices | createorder: p50, p99 ms |");
    println!("|---|---|---|---|");
    for sockets in [0, 1, SOCKETS] {
        well &= pipelines(&front, 3 * visitors, sockets).await;
    }
    let node = front.shop.host.node.call("getinfo", json!({})).await;
    let health = front.request("GET", "/healthz", &front.visitor(0)).await;
    let alive = node.is_ok() && health.is_ok_and(|page| page.status == 200);
    println!("lightningd and the web shop's server are {}", if alive { "alive" } else { "DEAD" });
    if well && alive { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Small environments, of which many run on one machine; and those that attackers order.
const PRODUCTS: &str = r#"
[[products]]
sku = "S"
node_count = 2
msat_per_node_hour = 1000

[[products]]
sku = "A"
node_count = 8
msat_per_node_hour = 1000

[[products]]
sku = "D"
node_count = 64
msat_per_node_hour = 1000
"#;

/// What a browser loads: with the page, and afterwards for its next visit.
struct Files {
    page: Vec<String>,
    cached: Vec<String>,
}

impl Files {
    async fn find(front: &Front) -> Self {
        let http = browser(front, 0);
        let read = async |path: &str| {
            let answer = http.get(url(front, path)).send().await.expect("an answer");
            answer.text().await.expect("text")
        };
        let index = read("/").await;
        let quoted = |text: &str, before: &str| -> Vec<String> {
            let rest = text.split(before).skip(1);
            rest.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
        };
        let mut page = quoted(&index, "src=\"/");
        page.extend(quoted(&index, "href=\"/"));
        page.push("config.json".into());
        let cached = quoted(&read("/sw.js").await, "url:\"");
        assert!(page.len() > 5 && cached.len() > page.len(), "the page is built: {page:?} {cached:?}");
        Self { page, cached }
    }
}

fn url(front: &Front, path: &str) -> String {
    format!("http://{}/{}", front.address, path.trim_start_matches('/'))
}

/// The HTTP client of a visitor.
fn browser(front: &Front, number: usize) -> reqwest::Client {
    let address: IpAddr = front.visitor(number).parse().expect("an address");
    let builder = reqwest::Client::builder().local_address(address).no_proxy().timeout(PATIENCE);
    builder.build().expect("a client")
}

/// What came of a phase.
#[derive(Default)]
struct Phase {
    took: Duration,
    pages: Vec<Duration>,
    orders: Vec<Duration>,
    strings: Vec<Duration>,
    cards: usize,
    /// The most that the web shop's server had, in bytes.
    memory: u64,
    failures: BTreeMap<String, usize>,
}

/// Has so many visitors come, one after the other.
async fn phase(front: &Arc<Front>, files: &Arc<Files>, first: usize, visitors: usize) -> Phase {
    let pid = front.frontend_pid().expect("a process");
    // The next peak is this phase's.
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("it is ours");
    let began = Instant::now();
    let mut visits = JoinSet::new();
    for number in 0..visitors {
        let (front, files) = (Arc::clone(front), Arc::clone(files));
        visits.spawn(async move {
            sleep(ARRIVALS * u32::try_from(number).expect("few")).await;
            let mut visit = Visit::default();
            let pays = number % PAYING == 0;
            let outcome = timeout(PHASE, visit.make(&front, &files, first + number, pays)).await;
            (visit, outcome.unwrap_or_else(|_| Err("the visit took too long".into())))
        });
    }
    let mut phase = Phase::default();
    for (visit, outcome) in visits.join_all().await {
        phase.pages.extend(visit.page);
        phase.orders.extend(visit.order);
        phase.strings.extend(visit.strings);
        phase.cards += usize::from(visit.cards);
        if let Err(failure) = outcome {
            *phase.failures.entry(failure).or_default() += 1;
        }
    }
    (phase.took, phase.memory) = (began.elapsed(), peak(pid));
    phase
}

/// How long each part of a visit took, as far as it came.
#[derive(Default)]
struct Visit {
    page: Option<Duration>,
    order: Option<Duration>,
    strings: Option<Duration>,
    cards: bool,
}

impl Visit {
    async fn make(&mut self, front: &Front, files: &Files, number: usize, pays: bool) -> Result<(), String> {
        let (address, http) = (front.visitor(number), browser(front, number));
        let began = Instant::now();
        load(front, &http, "/").await?;
        load_all(front, &http, &files.page).await?;
        self.page = Some(began.elapsed());
        // The service worker.
        load_all(front, &http, &files.cached).await?;

        let products =
            front.request("GET", "/products", &address).await.map_err(|e| format!("products: {e}"))?;
        if products.body["products"][0]["available"] != true {
            return Err(format!("products: {} {}", products.status, products.body));
        }
        let ticket = front.ticket(&address).await.ok_or("no ticket")?;
        let mut link = Link::open(front, &address).await?;
        let wish = json!({"node_count": 2, "hours": 1, "ticket": ticket});
        let began = Instant::now();
        let order = front.create_order(&link.client, wish).await.map_err(|e| e.to_string())?;
        self.order = Some(began.elapsed());

        let id = text(&order, "invoice_id");
        if pays {
            let invoice = text(&order, "bolt11_invoice");
            front.shop.host.customer.pay(invoice).await.map_err(|e| format!("paying: {e}"))?;
            let began = Instant::now();
            let status = link.provisioned(id).await?;
            self.strings = Some(began.elapsed());
            load(front, &http, &format!("/orders/{id}")).await?;
            self.cards = cards(front, &http, &status).await;
            return Ok(());
        }
        // The first answer comes at once.
        let status = link.status(id, &json!(0)).await?;
        let status = link.status(id, &status["revision"]).await?;
        if status["invoice_status"] == "unpaid" { Ok(()) } else { Err(format!("not unpaid: {status}")) }
    }
}

/// Loads a file, and once more if the connection was closed meanwhile, as browsers do.
async fn load(front: &Front, http: &reqwest::Client, path: &str) -> Result<(), String> {
    let answer = match get(front, http, path).await {
        Err(error) if !error.is_timeout() => get(front, http, path).await,
        other => other,
    };
    match answer {
        Ok((status, length)) if status.is_success() && length > 0 => Ok(()),
        Ok((status, _)) => Err(format!("loading {path}: {status}")),
        Err(error) => Err(format!("loading {path}: {error:?}")),
    }
}

/// The status of an answer, and the length of its body.
async fn get(front: &Front, http: &reqwest::Client, path: &str) -> reqwest::Result<(StatusCode, usize)> {
    let answer = http.get(url(front, path)).header(ACCEPT_ENCODING, "gzip, br").send().await?;
    let status = answer.status();
    Ok((status, answer.bytes().await?.len()))
}

async fn load_all(front: &Front, http: &reqwest::Client, paths: &[String]) -> Result<(), String> {
    let loads: Vec<_> = paths.iter().map(|path| load(front, http, path)).collect();
    let results: Vec<_> = stream::iter(loads).buffer_unordered(CONNECTIONS).collect().await;
    results.into_iter().collect()
}

/// A visitor's connection to the node.
struct Link<'a> {
    front: &'a Front,
    address: &'a str,
    client: Client,
}

impl<'a> Link<'a> {
    async fn open(front: &'a Front, address: &'a str) -> Result<Self, String> {
        let client = front.connect(address).await.map_err(|e| format!("connecting: {e}"))?;
        Ok(Self { front, address, client })
    }

    /// `lnplaylive-waitstatus`. Like the page, it connects again when the connection is lost.
    async fn status(&mut self, id: &str, revision: &Value) -> Result<Value, String> {
        let params = json!({"invoice_id": id, "revision": revision, "timeout": LOOKING});
        for _ in 0..RECONNECTS {
            match self.client.call(&self.front.rune, "lnplaylive-waitstatus", params.clone()).await {
                Err(Error::Closed { .. } | Error::Timeout { .. }) => {
                    *self = Self::open(self.front, self.address).await?;
                }
                answer => return answer.map_err(|e| e.to_string()),
            }
        }
        Err(format!("the connection was lost {RECONNECTS} times"))
    }

    /// Waits as the page does until an order is provisioned.
    async fn provisioned(&mut self, id: &str) -> Result<Value, String> {
        let began = Instant::now();
        let mut revision = json!(0);
        while began.elapsed() < LONG {
            let status = self.status(id, &revision).await?;
            match status["deployment_details"]["status"].as_str() {
                Some("provisioned") => return Ok(status),
                Some("failed" | "expired") => return Err(status["deployment_details"].to_string()),
                _ => revision = status["revision"].clone(),
            }
        }
        Err(format!("no strings after {} s", LONG.as_secs()))
    }
}

/// Has the cards printed, and asks again if the server is busy. `false` if it stays so.
async fn cards(front: &Front, http: &reqwest::Client, status: &Value) -> bool {
    assert_eq!(strings(status).len(), 2, "{status}");
    let request = json!({"connection_strings": status["deployment_details"]["connection_strings"]});
    for _ in 0..10 {
        let post = http.post(url(front, "/cards.pdf")).json(&request).send().await;
        let drawn = match post {
            Ok(answer) if answer.status().is_success() => answer.bytes().await.ok(),
            _ => None,
        };
        if drawn.is_some_and(|pdf| pdf.starts_with(b"%PDF")) {
            return true;
        }
        sleep(Duration::from_secs(1)).await;
    }
    false
}

/// The attacks of `tests/edge.rs` on orders, those on WebSockets and on the drawing of cards.
async fn all_attacks(front: &Arc<Front>) -> Attack {
    let mut attack = Attack::with_everything(front).await;
    attack.add_holder(front, 64, |front, n| front.attacker(100, n)).await;
    attack.add_calls(front, &front.attacker(113, 12), json!({"node_count": 64, "hours": 1})).await;
    attack.add_pipeline(front, &front.attacker(114, 1), "lnplaylive-products", json!({})).await;
    for number in 0..2 * SILENT {
        let network = if number < SILENT { 115 } else { 116 };
        // As many from one address as the server lets in of it.
        attack.add_silence(front, &front.attacker(network, number / 16));
    }
    let string = format!(
        "http://localhost:3000/connect#address=02{}@192.0.2.1:20001&type=direct&value=ws:&rune={}&name=Alice&color=df2020",
        "00".repeat(32),
        "r".repeat(48),
    );
    let request = json!({"connection_strings": vec![string; 64]});
    for number in 0..4 {
        attack.add_cards(front, &front.attacker(117, number), &request);
    }
    attack
}

/// Has buyers order, one after the other, while this many WebSockets of one address are full of permitted calls, and prints how they
/// fare. Returns whether all have invoices.
async fn pipelines(front: &Arc<Front>, first: usize, sockets: usize) -> bool {
    let order = front.buy(&front.visitor(first + sockets * PIPELINED), 2).await.expect("an order to ask for");
    let id = text(&order, "invoice_id");
    let mut attack = Attack::default();
    for number in 0..sockets {
        let (method, params) = match number % 3 {
            0 => ("lnplaylive-invoicestatus", json!({"payment_type": "bolt11", "invoice_id": id})),
            1 => ("lnplaylive-products", json!({})),
            // One that is answered at once.
            _ => ("lnplaylive-waitstatus", json!({"invoice_id": id, "revision": 1_000_000, "timeout": 1})),
        };
        attack.add_pipeline(front, &front.attacker(118, 0), method, params).await;
    }
    if sockets > 0 {
        attack.begun().await;
    }
    let began = Instant::now();
    let (mut times, mut failures) = (Vec::new(), Vec::new());
    for number in 1..PIPELINED {
        match order_once(front, &front.visitor(first + sockets * PIPELINED + number)).await {
            Ok(time) => times.push(time),
            Err(failure) => failures.push(failure),
        }
    }
    let took = began.elapsed();
    let outcomes = attack.end().await;
    let calls = f64::from(outcomes.values().sum::<u32>());
    let at = |percent| {
        times.get(..).filter(|all| !all.is_empty()).map_or(f64::NAN, |all| ms(percentile(all, percent)))
    };
    println!(
        "| {sockets} | {:.0} | {} of {} | {:.1}, {:.1} |",
        calls / took.as_secs_f64(),
        times.len(),
        PIPELINED - 1,
        at(50),
        at(99)
    );
    for failure in &failures {
        println!("{failure}");
    }
    println!("its calls: {outcomes:?}");
    failures.is_empty()
}

/// One order of a visitor; how long createorder took.
async fn order_once(front: &Front, visitor: &str) -> Result<Duration, String> {
    let ticket = front.ticket(visitor).await.ok_or("no ticket")?;
    let client = front.connect(visitor).await.map_err(|e| format!("connecting: {e}"))?;
    let began = Instant::now();
    let wish = json!({"node_count": 2, "hours": 1, "ticket": ticket});
    front.create_order(&client, wish).await.map_err(|e| e.to_string())?;
    Ok(began.elapsed())
}

/// The peak of a process's resident memory since `clear_refs`, in bytes. What it shares with others counts in full, so its share
/// (PSS) is less.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    // A process that is gone is over every bar.
    kib.map_or(u64::MAX, |kib| kib * 1024)
}

fn mb(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "for display")]
    let bytes = bytes as f64;
    bytes / 1e6
}

fn row(what: &str, quiet: &[Duration], attacked: &[Duration]) {
    if quiet.is_empty() || attacked.is_empty() {
        println!("| {what} | none came so far | | |");
        return;
    }
    let at = |all: &[Duration], percent| ms(percentile(all, percent));
    println!(
        "| {what} | {:.1}, {:.1} | {:.1}, {:.1} | {:.1}, {:.1} |",
        at(quiet, 50),
        at(quiet, 99),
        at(attacked, 50),
        at(attacked, 99),
        at(attacked, 50) / at(quiet, 50),
        at(attacked, 99) / at(quiet, 99),
    );
}
