//! A shop's front door, as visitors see it who have addresses of their own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sim_lightning::commando::{Client, Error};
use testbed::{Caddy, Frontend, Shop, site_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Longest that a buyer waits for each step, as the page does.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Caddy's options on a host.
const SERVERS: &str = include_str!("../../../nixos/modules/lnplaylive/caddy-servers");

/// How the web shop's server gets to know a visitor's address.
enum Addresses {
    /// By `X-Forwarded-For`, as from a proxy that it trusts. All that there are can be had.
    Forwarded,
    /// The visitor connects from that address, which belongs to this machine's loopback network.
    Own,
}

/// A shop that is served.
pub struct Front {
    /// The shop.
    pub shop: Shop,
    /// Where it is served.
    pub address: SocketAddr,
    /// The public rune.
    pub rune: String,
    addresses: Addresses,
    frontend: Option<Frontend>,
    caddy: Option<Caddy>,
}

/// An answer of the web shop's server.
pub struct Page {
    /// Status code.
    pub status: u16,
    /// The body, if it is JSON.
    pub body: Value,
}

impl Front {
    /// Serves the shop in threads of this process, which takes the place of a trusted proxy.
    pub async fn within(shop: Shop) -> Arc<Self> {
        let rune = shop.host.create_public_rune().await.expect("a rune");
        let (site, _) = site_with(&shop, &rune, None, |settings| {
            settings.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
        })
        .expect("a site");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(site.serve(listener.into(), std::future::pending()));
        let addresses = Addresses::Forwarded;
        Arc::new(Self { shop, address, rune, addresses, frontend: None, caddy: None })
    }

    /// Serves the shop as a host does: by a program of its own, behind Caddy where that is installed.
    pub async fn as_on_a_host(shop: Shop) -> Arc<Self> {
        let rune = shop.host.create_public_rune().await.expect("a rune");
        let frontend = Frontend::start(&shop, &rune, &["127.0.0.1/32"]).await.expect("a web shop");
        let mut address = frontend.address();
        let mut caddy = None;
        if Caddy::is_installed() {
            let dir = shop.workdir().subdir("caddy").expect("a directory");
            let started = Caddy::start(&dir, SERVERS, address).await.expect("caddy listens");
            address = started.address();
            caddy = Some(started);
        }
        Arc::new(Self { shop, address, rune, addresses: Addresses::Own, frontend: Some(frontend), caddy })
    }

    /// What visitors connect to.
    pub fn description(&self) -> &'static str {
        match (&self.caddy, &self.frontend) {
            (Some(_), _) => "Caddy, in front of lnplaylive-frontend",
            (None, Some(_)) => "lnplaylive-frontend itself (no caddy on PATH)",
            (None, None) => "the web shop's server, within this process",
        }
    }

    /// Process id of the web shop's server, if it is a process.
    pub fn frontend_pid(&self) -> Option<u32> {
        self.frontend.as_ref().map(Frontend::pid)
    }

    /// The address of a visitor in a network of its own, for numbers below 10,000.
    pub fn visitor(&self, number: usize) -> String {
        match self.addresses {
            // In turns IPv4 and IPv6.
            Addresses::Forwarded if number.is_multiple_of(2) => {
                format!("100.{}.{}.1", 64 + number / 250, number % 250)
            }
            Addresses::Forwarded => format!("2001:db8:{number:x}::1"),
            Addresses::Own => format!("127.{}.{}.1", 64 + number / 250, number % 250),
        }
    }

    /// One of many addresses of one network: a thousand of an IPv6 /48, or all of an IPv4 /24.
    pub fn neighbour(&self, number: usize) -> String {
        match self.addresses {
            Addresses::Forwarded => format!("2001:db8:ffff:{:x}::1", number % 1000),
            Addresses::Own => format!("127.200.7.{}", 1 + number % 254),
        }
    }

    /// Addresses of attackers, 250 to a network.
    pub fn attacker(&self, network: u8, number: usize) -> String {
        match self.addresses {
            Addresses::Forwarded => format!("100.127.{network}.{}", 1 + number % 250),
            Addresses::Own => format!("127.198.{network}.{}", 1 + number % 250),
        }
    }

    /// A connection of the visitor with this address.
    pub async fn dial(&self, visitor: &str) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if matches!(self.addresses, Addresses::Own) {
            let source: IpAddr = visitor.parse().map_err(std::io::Error::other)?;
            socket.bind((source, 0).into())?;
        }
        socket.connect(self.address).await
    }

    /// The head of a request of this visitor, with its last empty line; `more` are lines of further headers.
    pub fn head(&self, method: &str, path: &str, visitor: &str, more: &str) -> String {
        let forwarded = match self.addresses {
            Addresses::Forwarded => format!("X-Forwarded-For: {visitor}\r\n"),
            Addresses::Own => String::new(),
        };
        format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{forwarded}{more}\r\n", self.address)
    }

    /// A request of the visitor with this address, without a body.
    pub async fn request(&self, method: &str, path: &str, visitor: &str) -> std::io::Result<Page> {
        let mut stream = self.dial(visitor).await?;
        let head = self.head(method, path, visitor, "Connection: close\r\nContent-Length: 0\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Ok(Page { status, body: serde_json::from_str(body).unwrap_or_default() })
    }

    /// A ticket for this visitor; `None` if it has had its ration.
    pub async fn ticket(&self, visitor: &str) -> Option<String> {
        let page = self.request("POST", "/tickets", visitor).await.ok()?;
        page.body["ticket"].as_str().map(str::to_owned)
    }

    /// Connects this visitor to the shop's node.
    pub async fn connect(&self, visitor: &str) -> Result<Client, Error> {
        let url = format!("ws://{}/ws", self.address);
        let id = self.shop.host.node.id();
        let client = match self.addresses {
            Addresses::Forwarded => Client::connect_with(&url, id, &[("X-Forwarded-For", visitor)]).await?,
            Addresses::Own => {
                let source = visitor.parse().expect("an address");
                Client::connect_from(source, &url, id).await?
            }
        };
        Ok(client.with_limit(PATIENCE))
    }

    /// `lnplaylive-createorder`.
    pub async fn create_order(&self, client: &Client, params: Value) -> Result<Value, Error> {
        client.call(&self.rune, "lnplaylive-createorder", params).await
    }

    /// Orders as the page does; returns the order, or what went wrong.
    pub async fn buy(&self, visitor: &str, node_count: u32) -> Result<Value, String> {
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
