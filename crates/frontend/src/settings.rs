//! The server's settings: the table `[frontend]` of `lnplaylive.toml`, then the environment.
//!
//! In the environment a key is `LNPLAYLIVE_FRONTEND__` and its name, nested by two underscores:
//! `LNPLAYLIVE_FRONTEND__LIMITS__IDLE_SECS=60`. Other tables of the file are other programs'.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use ipnet::IpNet;
use lnplaylive::{Endpoint, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What comes before a key in the environment.
const PREFIX: &str = "LNPLAYLIVE_FRONTEND__";
/// The table in the settings file.
const TABLE: &str = "frontend";

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

/// Why the settings cannot be used. Each names the key.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// A key that is missing, unknown or of the wrong type, or a file that is not TOML.
    #[error("settings: {0}")]
    Read(String),
    /// The file itself.
    #[error("settings: cannot read the file {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value that makes no sense.
    #[error("settings: {TABLE}.{key}: {reason}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong and what is allowed.
        reason: String,
    },
}

fn wrong(key: &'static str, reason: impl Into<String>) -> SettingsError {
    SettingsError::Value { key, reason: reason.into() }
}

/// Names each thing that figment found, with its key and where it came from.
fn describe(error: figment::Error) -> SettingsError {
    let mut text = String::new();
    for one in error {
        let separator = if text.is_empty() { "" } else { "; " };
        let source = one.metadata.as_ref().map_or_else(String::new, |m| match &m.source {
            Some(source) => format!(" (in {source})"),
            None => format!(" (in {})", m.name),
        });
        let mut path = vec![TABLE.to_owned()];
        path.extend(one.path.iter().filter(|part| *part != TABLE).cloned());
        let (path, kind) = (path.join("."), &one.kind);
        write!(text, "{separator}{path}: {kind}{source}").expect("a string takes all");
    }
    SettingsError::Read(text)
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
        let mut figment = Figment::from(Serialized::default("limits", Limits::default()));
        if let Some(path) = file {
            // Opened here as well: figment takes a file that is not there for an empty one.
            std::fs::File::open(path)
                .map_err(|source| SettingsError::File { path: path.to_owned(), source })?;
            figment = figment.merge(Figment::from(Toml::file_exact(path)).focus(TABLE));
        }
        let settings: Self = figment.merge(Env::prefixed(PREFIX).split("__")).extract().map_err(describe)?;
        settings.validate()?;
        Ok(settings)
    }

    /// Checks what the types cannot say.
    pub fn validate(&self) -> Result<(), SettingsError> {
        match (&self.node_id, &self.node_id_file) {
            (None, None) => {
                return Err(wrong("node_id", "name the node's id, or a node_id_file that has it"));
            }
            (Some(_), Some(_)) => return Err(wrong("node_id", "there is a node_id_file as well; keep one")),
            _ => {}
        }
        if let Some(address) = &self.lightning_websocket
            && !is_host_and_port(address)
        {
            return Err(wrong("lightning_websocket", format!("`{address}` is not HOST:PORT")));
        }
        if self.contact.as_ref().is_some_and(|c| c.chars().count() > 200 || c.chars().any(char::is_control)) {
            return Err(wrong("contact", "at most 200 characters, in one line"));
        }
        if self.metrics_listen == Some(self.listen) && self.listen.port() != 0 {
            return Err(wrong("metrics_listen", "is the same as listen"));
        }
        let l = &self.limits;
        let range = |key: &'static str, value: u32, allowed: RangeInclusive<u32>| {
            if allowed.contains(&value) {
                return Ok(());
            }
            let (least, most) = allowed.into_inner();
            Err(wrong(key, format!("is {value}; it must be from {least} to {most}")))
        };
        range("limits.connections", l.connections, 1..=1_000_000)?;
        range("limits.connections_per_client", l.connections_per_client, 1..=1_000_000)?;
        range("limits.new_connections_per_minute", l.new_connections_per_minute, 1..=1_000_000)?;
        // One read's worth at least, or nothing would ever pass.
        range("limits.bytes_per_minute", l.bytes_per_minute, 64 << 10..=u32::MAX)?;
        range("limits.idle_secs", l.idle_secs, 1..=86_400)?;
        range("limits.frame_secs", l.frame_secs, 1..=3600)?;
        range("limits.frame_bytes", l.frame_bytes, 1024..=64 << 20)?;
        range("limits.connect_timeout_secs", l.connect_timeout_secs, 1..=60)
    }
}

fn is_host_and_port(address: &str) -> bool {
    format!("ws://{address}").parse::<Endpoint>().is_ok_and(|endpoint| {
        endpoint.path.is_empty()
            && address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    })
}
