//! Attacks on the front door, and buyers who come through it meanwhile.
//!
//! The shop is served as on the internet: the web shop's server behind a proxy, which names each visitor's address. Buyers do as the
//! page does: they get a ticket, connect, and order. An attack goes on from before the first of them until after the last.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{daemons, figure, text};
use serde_json::{Value, json};
use sim_lightning::commando::{Client, Error};
use testbed::{Flavor, Shop, ShopConfig, Step, on_both_flavors};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

on_both_flavors!(
    junk_on_one_connection,
    valid_orders_without_a_ticket,
    one_client_that_collects_tickets,
    a_thousand_addresses_of_one_site,
    unpaid_orders_of_the_largest_size,
    everything_at_once,
    the_public_rune_reaches_nothing_else,
);

const BUYERS: usize = 10;
/// Longest that a buyer waits for each step, as the page does.
const PATIENCE: Duration = Duration::from_secs(20);
/// As many environments as a server of 64 GiB takes of the largest.
const PLACES: u32 = 32;

/// A shop that is served.
struct Front {
    shop: Shop,
    address: SocketAddr,
    rune: String,
}

/// An answer of the web shop's server.
struct Page {
    status: u16,
    body: Value,
}

impl Front {
    async fn open(flavor: Flavor, test: &str) -> Option<Arc<Self>> {
        let config = ShopConfig {
            remote_settings: format!("max_environments = {PLACES}\n"),
            tickets: true,
            ..ShopConfig::new(daemons(flavor, test)?)
        };
        let shop = Shop::start(config).await.expect("a shop");
        let rune = shop.host.create_public_rune().await.expect("a rune");
        let (site, _) = testbed::site_with(&shop, &rune, None, |settings| {
            settings.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
        })
        .expect("a site");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(site.serve(listener.into(), std::future::pending()));
        Some(Arc::new(Self { shop, address, rune }))
    }

    /// A request of the visitor with this address.
    async fn request(&self, method: &str, path: &str, visitor: &str) -> std::io::Result<Page> {
        let mut stream = TcpStream::connect(self.address).await?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: {visitor}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Ok(Page { status, body: serde_json::from_str(body).unwrap_or_default() })
    }

    /// A ticket for this visitor; `None` if it has had its ration.
    async fn ticket(&self, visitor: &str) -> Option<String> {
        let page = self.request("POST", "/tickets", visitor).await.ok()?;
        page.body["ticket"].as_str().map(str::to_owned)
    }

    async fn connect(&self, visitor: &str) -> Result<Client, Error> {
        let url = format!("ws://{}/ws", self.address);
        let client =
            Client::connect_with(&url, self.shop.host.node.id(), &[("X-Forwarded-For", visitor)]).await?;
        Ok(client.with_limit(PATIENCE))
    }

    async fn create_order(&self, client: &Client, params: Value) -> Result<Value, Error> {
        client.call(&self.rune, "lnplaylive-createorder", params).await
    }

    /// Orders as the page does; returns the order, or what went wrong.
    async fn buy(&self, visitor: &str, node_count: u32) -> Result<Value, String> {
        let products = self.request("GET", "/products", visitor).await.map_err(|e| e.to_string())?;
        if products.body["products"][0]["available"] != true {
            return Err(format!("status {}, {}", products.status, products.body));
        }
        let ticket = self.ticket(visitor).await.ok_or("no ticket")?;
        let client = self.connect(visitor).await.map_err(|e| format!("connecting: {e}"))?;
        let wish = json!({"node_count": node_count, "hours": 1, "ticket": ticket});
        let order = self.create_order(&client, wish).await.map_err(|e| e.to_string())?;
        let invoice = order["bolt11_invoice"].as_str().unwrap_or_default();
        if invoice.starts_with("lnbcrt") { Ok(order) } else { Err(order.to_string()) }
    }
}

/// Attackers, who go on until this is dropped, and count what became of their calls.
struct Attack {
    stop: Arc<AtomicBool>,
    begun: Arc<Notify>,
    tasks: Vec<JoinHandle<BTreeMap<String, u32>>>,
}

/// How a call ended, in a word.
fn outcome(result: &Result<Value, Error>) -> String {
    match result {
        Ok(_) => "ordered".into(),
        Err(Error::Rpc { data, code, .. }) => {
            data["kind"].as_str().map_or_else(|| format!("code {code}"), str::to_owned)
        }
        Err(Error::Timeout { .. }) => "no answer".into(),
        Err(_) => "no connection".into(),
    }
}

impl Attack {
    fn new() -> Self {
        Self { stop: Arc::default(), begun: Arc::default(), tasks: Vec::new() }
    }

    /// Adds an attacker, who does this again and again; `n` counts the times.
    fn add<F: Future<Output = String> + Send>(&mut self, act: impl Fn(usize) -> F + Send + 'static) {
        let (stop, begun) = (Arc::clone(&self.stop), Arc::clone(&self.begun));
        self.tasks.push(tokio::spawn(async move {
            let mut outcomes = BTreeMap::new();
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                *outcomes.entry(act(n).await).or_default() += 1;
                if n == 2 {
                    begun.notify_one();
                }
                tokio::task::yield_now().await;
            }
            outcomes
        }));
    }

    /// Adds an attacker who makes the same call again and again, on one connection.
    async fn add_calls(&mut self, front: &Arc<Front>, visitor: &str, params: Value) {
        let front = Arc::clone(front);
        let client = Arc::new(front.connect(visitor).await.expect("a connection"));
        self.add(move |_| {
            let (front, client, params) = (Arc::clone(&front), Arc::clone(&client), params.clone());
            async move { outcome(&front.create_order(&client, params).await) }
        });
    }

    /// Adds an attacker who orders with as many tickets as it gets, from these addresses.
    async fn add_holder(
        &mut self,
        front: &Arc<Front>,
        node_count: u32,
        address: impl Fn(usize) -> String + Send + 'static,
    ) {
        let front = Arc::clone(front);
        let client = Arc::new(front.connect(&address(0)).await.expect("a connection"));
        self.add(move |n| {
            let (front, client, address) = (Arc::clone(&front), Arc::clone(&client), address(n));
            async move {
                let Some(ticket) = front.ticket(&address).await else { return "no ticket".into() };
                let wish = json!({"node_count": node_count, "hours": 1, "ticket": ticket});
                outcome(&front.create_order(&client, wish).await)
            }
        });
    }

    /// Ends it; returns what became of the calls.
    async fn end(self) -> BTreeMap<String, u32> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for task in self.tasks {
            for (outcome, count) in task.await.expect("no panic") {
                *all.entry(outcome).or_default() += count;
            }
        }
        all
    }
}

/// Has ten buyers, each from a network of its own, order this size while the attack goes on.
async fn buyers_come_through(
    front: &Arc<Front>,
    test: &str,
    flavor: Flavor,
    attack: Attack,
    nodes: u32,
) -> BTreeMap<String, u32> {
    attack.begun.notified().await;
    let began = Instant::now();
    let (mut orders, mut failures, mut slowest) = (Vec::new(), Vec::new(), Duration::ZERO);
    for buyer in 0..BUYERS {
        let before = Instant::now();
        // In turns IPv4 and IPv6.
        let address =
            if buyer % 2 == 0 { format!("100.64.{buyer}.1") } else { format!("2001:db8:{buyer:x}::1") };
        match front.buy(&address, nodes).await {
            Ok(order) => orders.push(order),
            Err(failure) => failures.push(failure),
        }
        slowest = slowest.max(before.elapsed());
    }
    let took = began.elapsed();
    let outcomes = attack.end().await;
    figure(&format!(
        "{test} ({flavor}): {} of {BUYERS} buyers have invoices, slowest {} ms; attackers' calls in {:.1} s: {outcomes:?}",
        orders.len(),
        slowest.as_millis(),
        took.as_secs_f32(),
    ));
    assert!(failures.is_empty(), "{failures:?}");

    front.shop.host.node.call("getinfo", json!({})).await.expect("the node lives");
    let health = front.request("GET", "/healthz", "100.64.99.1").await.expect("an answer");
    assert_eq!(health.status, 200, "the web shop's server lives");
    // What was invoiced can be paid.
    front.shop.host.customer.pay(text(&orders[0], "bolt11_invoice")).await.expect("paid");
    let paid = testbed::until("the payment to be seen", PATIENCE, async || {
        let status = front.shop.status(text(&orders[0], "invoice_id")).await.expect("a status");
        Ok(if status["invoice_status"] == "paid" { Step::Done(()) } else { Step::NotYet(status.to_string()) })
    });
    paid.await.expect("paid");
    outcomes
}

/// Parameters that are wrong, and take nothing but the time to say so.
fn junk() -> Value {
    json!({"node_count": 0})
}

fn valid() -> Value {
    json!({"node_count": 8, "hours": 1})
}

async fn junk_on_one_connection(flavor: Flavor) {
    let test = "junk_on_one_connection";
    let Some(front) = Front::open(flavor, test).await else { return };
    let mut attack = Attack::new();
    attack.add_calls(&front, "203.0.113.9", junk()).await;
    let outcomes = buyers_come_through(&front, test, flavor, attack, 8).await;
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), ["invalid_params"]);
}

async fn valid_orders_without_a_ticket(flavor: Flavor) {
    let test = "valid_orders_without_a_ticket";
    let Some(front) = Front::open(flavor, test).await else { return };
    let mut attack = Attack::new();
    attack.add_calls(&front, "203.0.113.9", valid()).await;
    let outcomes = buyers_come_through(&front, test, flavor, attack, 8).await;
    assert!(outcomes["ordered"] <= PLACES / 8, "an eighth: {outcomes:?}");
    assert!(outcomes.contains_key("ticket_required"), "the budget was used up: {outcomes:?}");
}

async fn one_client_that_collects_tickets(flavor: Flavor) {
    let test = "one_client_that_collects_tickets";
    let Some(front) = Front::open(flavor, test).await else { return };
    let mut attack = Attack::new();
    attack.add_holder(&front, 8, |_| "203.0.113.9".into()).await;
    let outcomes = buyers_come_through(&front, test, flavor, attack, 8).await;
    assert!(outcomes["ordered"] <= PLACES / 8, "an eighth: {outcomes:?}");
    assert!(outcomes.contains_key("no ticket"), "{outcomes:?}");
}

async fn a_thousand_addresses_of_one_site(flavor: Flavor) {
    let test = "a_thousand_addresses_of_one_site";
    let Some(front) = Front::open(flavor, test).await else { return };
    let mut attack = Attack::new();
    attack.add_holder(&front, 8, |n| format!("2001:db8:ffff:{:x}::1", n % 1000)).await;
    let outcomes = buyers_come_through(&front, test, flavor, attack, 8).await;
    assert!(outcomes["ordered"] <= PLACES / 4, "a quarter: {outcomes:?}");
}

/// As many as would sell the server out, from one address and from many, with tickets and without.
async fn unpaid_orders_of_the_largest_size(flavor: Flavor) {
    let test = "unpaid_orders_of_the_largest_size";
    let Some(front) = Front::open(flavor, test).await else { return };
    let mut attack = Attack::new();
    attack.add_holder(&front, 64, |_| "203.0.113.9".into()).await;
    attack.add_holder(&front, 64, |n| format!("198.51.100.{}", n % 250)).await;
    attack.add_calls(&front, "203.0.113.10", json!({"node_count": 64, "hours": 1})).await;
    let outcomes = buyers_come_through(&front, test, flavor, attack, 64).await;
    assert!(outcomes["ordered"] <= PLACES / 2, "{outcomes:?}");
}

async fn everything_at_once(flavor: Flavor) {
    let test = "everything_at_once";
    let Some(front) = Front::open(flavor, test).await else { return };
    let mut attack = Attack::new();
    attack.add_calls(&front, "203.0.113.9", junk()).await;
    attack.add_calls(&front, "203.0.113.10", valid()).await;
    attack.add_holder(&front, 64, |_| "203.0.113.9".into()).await;
    attack.add_holder(&front, 8, |n| format!("2001:db8:ffff:{:x}::1", n % 1000)).await;
    let looks = Arc::clone(&front);
    attack.add(move |_| {
        let front = Arc::clone(&looks);
        async move {
            let page = front.request("GET", "/products", "203.0.113.11").await;
            page.map_or_else(|_| "no page".into(), |page| format!("products {}", page.status))
        }
    });
    let outcomes = buyers_come_through(&front, test, flavor, attack, 8).await;
    assert!(outcomes["ordered"] <= PLACES / 2, "{outcomes:?}");
    assert!(outcomes.contains_key("products 429"), "{outcomes:?}");
}

/// What the harness checks with `checkrune`, again through the front door: names, cases, positions and requests of other shapes.
async fn the_public_rune_reaches_nothing_else(flavor: Flavor) {
    let Some(front) = Front::open(flavor, "the_public_rune_reaches_nothing_else").await else { return };
    let client = front.connect("203.0.113.9").await.expect("a connection");
    let refused = async |method: &str, params: Value| {
        let result = client.call(&front.rune, method, params).await;
        let code = result.as_ref().err().and_then(Error::code);
        assert_eq!(code, Some(19537), "{method}: {result:?}");
    };
    for method in [
        "getinfo",
        "lnplayops-orders",
        "LNPLAYLIVE-products",
        " lnplaylive-products",
        "x-lnplaylive-products",
        "lnplaylive",
        "",
        "commando-rune",
        "createrune",
        "plugin",
        "stop",
    ] {
        refused(method, json!({})).await;
        refused(method, json!(["lnplaylive-products"])).await;
        refused(method, json!({"method": "lnplaylive-products"})).await;
    }
    let products = client.call(&front.rune, "lnplaylive-products", json!({})).await.expect("allowed");
    let page = front.request("GET", "/products", "203.0.113.9").await.expect("an answer");
    assert_eq!(page.body["products"], products["products"], "both ways tell the same");
}
