//! The server's settings, from the table `[frontend]` of `lnplaylive.toml` and from environment variables.
//!
//! The name of a variable is `LNPLAYLIVE_FRONTEND__` and the key, with two underscores between levels:
//! `LNPLAYLIVE_FRONTEND__LIMITS__IDLE_SECS=60`. Other tables of the file belong to other programs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::Serialized;
use ipnet::IpNet;
use lnplaylive_core::settings::check_contact;
use lnplaylive_core::settings::source::{self, SettingsError, loopback, range, wrong};
use lnplaylive_core::{Endpoint, NodeId};
use serde::{Deserialize, Serialize};

/// All settings of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address to listen on. Default: `127.0.0.1:3000`.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Loopback address on which metrics are served for Prometheus. Default: there are none.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// The built web shop, `frontend-dist`. Read once, at start.
    pub dist_dir: PathBuf,
    /// Id of the shop's node, 66 hex digits; or use `node_id_file`.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// File with the node's id. It may be missing at start, and may change.
    #[serde(default)]
    pub node_id_file: Option<PathBuf>,
    /// File with the public rune. It may be missing at start, and may change.
    pub rune_file: PathBuf,
    /// File with the key of tickets, which the plugin reads too (`shop.ticket_key_file`). Default: there are no tickets.
    #[serde(default)]
    pub ticket_key_file: Option<PathBuf>,
    /// The products that the plugin writes (`shop.products_file`). Default: there is no `/products`.
    #[serde(default)]
    pub products_file: Option<PathBuf>,
    /// URL at which browsers reach the node, such as `wss://node.example/`. Default: `/ws` on this server.
    #[serde(default)]
    pub websocket_url: Option<Endpoint>,
    /// Contact for buyers: text, a URL or an e-mail address, at most 200 characters.
    #[serde(default)]
    pub contact: Option<String>,
    /// The node's WebSocket listener (`bind-addr=ws:…`) as `HOST:PORT`, to which `/ws` leads. Default: there is no `/ws`.
    #[serde(default)]
    pub lightning_websocket: Option<String>,
    /// The route table that the plugin writes (`shop.routes_file`). Default: there are no routes below `/e/`.
    #[serde(default)]
    pub routes_file: Option<PathBuf>,
    /// Networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` headers are trusted, such as `127.0.0.1/32`.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
    /// Fonts (TTF, OTF, the first of a TTC) for characters on cards that the built-in fonts lack, in order of preference.
    #[serde(default)]
    pub card_fonts: Vec<PathBuf>,
    /// Limits on visitors.
    #[serde(default)]
    pub limits: Limits,
}

fn default_listen() -> SocketAddr {
    ([127, 0, 0, 1], 3000).into()
}

/// How many of something there can be at a time. A client is an IPv4 address or an IPv6 /64 network, which a whole class may
/// share; a network is an IPv4 /24 or an IPv6 /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Places {
    /// Of all clients.
    pub total: u32,
    /// Of one client.
    pub per_client: u32,
    /// Of all clients of one network.
    pub per_network: u32,
}

impl Places {
    fn check(self, key: &str) -> Result<(), SettingsError> {
        for (name, value) in
            [("total", self.total), ("per_client", self.per_client), ("per_network", self.per_network)]
        {
            range(&format!("{key}.{name}"), value, 1..=1_000_000)?;
        }
        Ok(())
    }
}

/// How many requests are granted in a minute, which may also come at once. Clients and networks as for [`Places`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Of one client.
    pub per_client: u32,
    /// Of all clients of one network.
    pub per_network: u32,
}

impl Rates {
    fn check(self, key: &str) -> Result<(), SettingsError> {
        for (name, value) in [("per_client", self.per_client), ("per_network", self.per_network)] {
            range(&format!("{key}.{name}"), value, 1..=1_000_000)?;
        }
        Ok(())
    }
}

/// Limits on visitors. A client is an IPv4 address or an IPv6 /64 network, which a whole class may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Maximum number of connections of all clients.
    pub connections: u32,
    /// Maximum number of connections of one client. Behind a trusted proxy: of its WebSockets and requests for cards.
    pub connections_per_client: u32,
    /// Maximum number of connections of one network. Behind a trusted proxy: likewise.
    pub connections_per_network: u32,
    /// Maximum number of WebSockets to the shop's node. The node forks a process for each, so its unit's `TasksMax` must leave
    /// room for them.
    pub node_sockets: Places,
    /// Maximum number of WebSockets to nodes of environments. A class of 64 behind one address has three for each attendee, and
    /// its wall two for each node.
    pub environment_sockets: Places,
    /// Maximum number of requests for cards, from their head to the end of the drawing.
    pub card_requests: Places,
    /// Tickets for orders. Each is good for one order.
    pub tickets_per_minute: Rates,
    /// Requests for the products.
    pub products_per_minute: Rates,
    /// Time-out for the Lightning handshake through a new WebSocket, in seconds.
    pub handshake_secs: u32,
    /// Maximum number of new connections of one client in a minute.
    pub new_connections_per_minute: u32,
    /// Maximum number of bytes through one client's WebSockets in a minute, both directions together. Further bytes are delayed.
    pub bytes_per_minute: u32,
    /// Time-out of a WebSocket without traffic, in seconds.
    pub idle_secs: u32,
    /// Time-out for a complete WebSocket frame or fragmented message, in seconds.
    pub frame_secs: u32,
    /// Maximum size of a WebSocket frame or fragmented message, in bytes. A Lightning message has at most 65,569.
    pub frame_bytes: u32,
    /// Time-out for connecting to a node, in seconds.
    pub connect_timeout_secs: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            connections_per_client: 512,
            connections_per_network: 1024,
            node_sockets: Places { total: 256, per_client: 16, per_network: 32 },
            environment_sockets: Places { total: 6144, per_client: 384, per_network: 768 },
            card_requests: Places { total: 16, per_client: 1, per_network: 4 },
            tickets_per_minute: Rates { per_client: 6, per_network: 20 },
            products_per_minute: Rates { per_client: 120, per_network: 600 },
            handshake_secs: 10,
            new_connections_per_minute: 1200,
            bytes_per_minute: 64 << 20,
            idle_secs: 300,
            frame_secs: 60,
            frame_bytes: 256 << 10,
            connect_timeout_secs: 5,
        }
    }
}

/// The part of the file and the environment that this program reads.
#[derive(Deserialize)]
struct Tables {
    frontend: Settings,
}

impl Settings {
    /// The required settings, with defaults for all others.
    pub fn new(dist_dir: PathBuf, node_id: NodeId, rune_file: PathBuf) -> Self {
        Self {
            listen: default_listen(),
            metrics_listen: None,
            dist_dir,
            node_id: Some(node_id),
            node_id_file: None,
            rune_file,
            ticket_key_file: None,
            products_file: None,
            websocket_url: None,
            contact: None,
            lightning_websocket: None,
            routes_file: None,
            trusted_proxies: vec![],
            card_fonts: vec![],
            limits: Limits::default(),
        }
    }

    /// Reads the settings: the table in the file, if a file is given, then the environment. No other file is read.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let defaults = Figment::from(Serialized::default("frontend.limits", Limits::default()));
        let Tables { frontend } = source::read(defaults, file)?;
        frontend.validate()?;
        Ok(frontend)
    }

    /// Checks the constraints that the types do not express.
    pub fn validate(&self) -> Result<(), SettingsError> {
        match (&self.node_id, &self.node_id_file) {
            (None, None) => {
                return Err(wrong("frontend.node_id", "set the node's id, or node_id_file"));
            }
            (Some(_), Some(_)) => {
                return Err(wrong("frontend.node_id", "node_id_file is set as well; remove one of them"));
            }
            _ => {}
        }
        if let Some(address) = &self.lightning_websocket
            && !is_host_and_port(address)
        {
            return Err(wrong("frontend.lightning_websocket", format!("`{address}` is not HOST:PORT")));
        }
        if let Some(contact) = &self.contact {
            check_contact("frontend.contact", contact)?;
        }
        if let Some(address) = self.metrics_listen {
            loopback("frontend.metrics_listen", address)?;
        }
        if self.metrics_listen == Some(self.listen) && self.listen.port() != 0 {
            return Err(wrong("frontend.metrics_listen", "is the same as listen"));
        }
        let l = &self.limits;
        range("frontend.limits.connections", l.connections, 1..=1_000_000)?;
        range("frontend.limits.connections_per_client", l.connections_per_client, 1..=1_000_000)?;
        range("frontend.limits.connections_per_network", l.connections_per_network, 1..=1_000_000)?;
        l.node_sockets.check("frontend.limits.node_sockets")?;
        l.environment_sockets.check("frontend.limits.environment_sockets")?;
        l.card_requests.check("frontend.limits.card_requests")?;
        l.tickets_per_minute.check("frontend.limits.tickets_per_minute")?;
        l.products_per_minute.check("frontend.limits.products_per_minute")?;
        range("frontend.limits.handshake_secs", l.handshake_secs, 1..=300)?;
        range("frontend.limits.new_connections_per_minute", l.new_connections_per_minute, 1..=1_000_000)?;
        // At least one read, or no byte would ever pass.
        range("frontend.limits.bytes_per_minute", l.bytes_per_minute, 64 << 10..=u32::MAX)?;
        range("frontend.limits.idle_secs", l.idle_secs, 1..=86_400)?;
        range("frontend.limits.frame_secs", l.frame_secs, 1..=3600)?;
        range("frontend.limits.frame_bytes", l.frame_bytes, 1024..=64 << 20)?;
        range("frontend.limits.connect_timeout_secs", l.connect_timeout_secs, 1..=60)
    }
}

fn is_host_and_port(address: &str) -> bool {
    format!("ws://{address}").parse::<Endpoint>().is_ok_and(|endpoint| {
        endpoint.path.is_empty()
            && address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    })
}
