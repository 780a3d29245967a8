//! The server's settings: the table `[frontend]` of `lnplaylive.toml`, then the environment.
//!
//! In the environment a key is `LNPLAYLIVE_FRONTEND__` and its name, nested by two underscores:
//! `LNPLAYLIVE_FRONTEND__LIMITS__IDLE_SECS=60`. Other tables of the file are other programs'.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::Serialized;
use ipnet::IpNet;
use lnplaylive_core::settings::check_contact;
use lnplaylive_core::settings::source::{self, SettingsError, range, wrong};
use lnplaylive_core::{Endpoint, NodeId};
use serde::{Deserialize, Serialize};

/// All settings of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where it listens. Default: `127.0.0.1:3000`.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where metrics are served to whoever asks. Default: only as `/metrics` on `listen`, and only to this
    /// machine.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// The built web shop, `frontend-dist`. Read once, at the start.
    pub dist_dir: PathBuf,
    /// The node that sells, 66 hex digits; or `node_id_file`.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// A file that has the node's id. May be missing at the start, and may change.
    #[serde(default)]
    pub node_id_file: Option<PathBuf>,
    /// A file that has the public rune. May be missing at the start, and may change.
    pub rune_file: PathBuf,
    /// A file that has the rune for orders, which has a rate of its own. None: the other one is for orders too.
    #[serde(default)]
    pub order_rune_file: Option<PathBuf>,
    /// Where browsers reach the node, such as `wss://node.example/`. Default: `/ws` here.
    #[serde(default)]
    pub websocket_url: Option<Endpoint>,
    /// Whom buyers can ask: text, a URL or an e-mail address, at most 200 characters.
    #[serde(default)]
    pub contact: Option<String>,
    /// The node's WebSocket listener (`bind-addr=ws:…`) as `HOST:PORT`, which `/ws` leads to. None: there is
    /// no `/ws`.
    #[serde(default)]
    pub lightning_websocket: Option<String>,
    /// The route table that the plugin writes (`shop.routes_file`). None: `/e/…` leads nowhere.
    #[serde(default)]
    pub routes_file: Option<PathBuf>,
    /// Networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, such as
    /// `127.0.0.1/32`.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
    /// Fonts (TTF, OTF, the first of a TTC) for what the built-in ones cannot write on cards, in this order.
    #[serde(default)]
    pub card_fonts: Vec<PathBuf>,
    /// What visitors may use.
    #[serde(default)]
    pub limits: Limits,
}

fn default_listen() -> SocketAddr {
    ([127, 0, 0, 1], 3000).into()
}

/// What visitors may use. A client is an IPv4 address or an IPv6 network of 64 bits: a whole class may be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at a time, of all clients together.
    pub connections: u32,
    /// Connections at a time of one client. Behind a trusted proxy: WebSockets and sheets of cards.
    pub connections_per_client: u32,
    /// New ones of one client in a minute.
    pub new_connections_per_minute: u32,
    /// Bytes that may pass through one client's WebSockets in a minute, both ways together. What is more
    /// waits.
    pub bytes_per_minute: u32,
    /// Seconds without a byte after which a WebSocket is closed.
    pub idle_secs: u32,
    /// Seconds in which a WebSocket frame or fragmented message must be complete.
    pub frame_secs: u32,
    /// The largest WebSocket frame or fragmented message, in bytes. A Lightning message has at most 65,569.
    pub frame_bytes: u32,
    /// Seconds to connect to a node.
    pub connect_timeout_secs: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_client: 512,
            new_connections_per_minute: 1200,
            bytes_per_minute: 64 << 20,
            idle_secs: 300,
            frame_secs: 60,
            frame_bytes: 256 << 10,
            connect_timeout_secs: 5,
        }
    }
}

/// What of the file and the environment is read here; the rest is other programs'.
#[derive(Deserialize)]
struct Tables {
    frontend: Settings,
}

impl Settings {
    /// The settings that must be, with the defaults of all others.
    pub fn new(dist_dir: PathBuf, node_id: NodeId, rune_file: PathBuf) -> Self {
        Self {
            listen: default_listen(),
            metrics_listen: None,
            dist_dir,
            node_id: Some(node_id),
            node_id_file: None,
            rune_file,
            order_rune_file: None,
            websocket_url: None,
            contact: None,
            lightning_websocket: None,
            routes_file: None,
            trusted_proxies: vec![],
            card_fonts: vec![],
            limits: Limits::default(),
        }
    }

    /// Reads the settings: the file's table if a file is named, then the environment. No other file is
    /// looked at.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let defaults = Figment::from(Serialized::default("frontend.limits", Limits::default()));
        let Tables { frontend } = source::read(defaults, file)?;
        frontend.validate()?;
        Ok(frontend)
    }

    /// Checks what the types cannot say.
    pub fn validate(&self) -> Result<(), SettingsError> {
        match (&self.node_id, &self.node_id_file) {
            (None, None) => {
                return Err(wrong("frontend.node_id", "name the node's id, or a node_id_file that has it"));
            }
            (Some(_), Some(_)) => {
                return Err(wrong("frontend.node_id", "there is a node_id_file as well; keep one"));
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
        if self.metrics_listen == Some(self.listen) && self.listen.port() != 0 {
            return Err(wrong("frontend.metrics_listen", "is the same as listen"));
        }
        let l = &self.limits;
        range("frontend.limits.connections", l.connections, 1..=1_000_000)?;
        range("frontend.limits.connections_per_client", l.connections_per_client, 1..=1_000_000)?;
        range("frontend.limits.new_connections_per_minute", l.new_connections_per_minute, 1..=1_000_000)?;
        // One read's worth at least, or nothing would ever pass.
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
