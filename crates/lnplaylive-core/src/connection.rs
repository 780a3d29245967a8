//! Connection strings, which attendees scan to control a node.
//!
//! A connection string is a link with everything in its fragment, so that nothing secret is sent to the server of the
//! page:
//!
//! ```text
//! https://shop.example/connect#address=<node id>@<host>:<port>&type=direct&value=wss:&rune=<rune>
//! ```
//!
//! `address`, `type`, `value` and `rune` are the parameters that the Clams wallet reads; `path`
//! (for a node behind a gateway), `name` and `color` are ours and optional.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use url::{Url, form_urlencoded};

/// Maximum length of a connection string, in bytes. A quarter more than the longest one that we make; phones can still read its QR
/// code.
pub const MAX_LENGTH: usize = 1200;

/// A text that is not a connection string, or not the expected part of one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a connection string: {0}")]
pub struct ParseError(String);

fn bad(what: impl Into<String>) -> ParseError {
    ParseError(what.into())
}

/// A node's public key, compressed: 33 bytes, written as 66 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(String);

impl NodeId {
    /// The 66 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let hex = s.len() == 66 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex && (s.starts_with("02") || s.starts_with("03")) {
            Ok(Self(s.to_owned()))
        } else {
            Err(bad("a node id is 66 lower-case hex digits that begin with 02 or 03"))
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node's colour, written as six hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rgb(pub [u8; 3]);

impl FromStr for Rgb {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        if s.len() != 6 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad("a colour is six hex digits"));
        }
        let value = u32::from_str_radix(s, 16).map_err(|_| bad("a colour is six hex digits"))?;
        let [_, r, g, b] = value.to_be_bytes();
        Ok(Self([r, g, b]))
    }
}

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "{r:02x}{g:02x}{b:02x}")
    }
}

/// The scheme of a WebSocket URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS: on a local network, or where a proxy terminates TLS.
    Ws,
    /// With TLS.
    Wss,
}

impl Scheme {
    /// `ws` or `wss`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

/// The endpoint of a node's WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// `ws` or `wss`.
    pub scheme: Scheme,
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path, beginning with `/`, or empty.
    pub path: String,
}

impl FromStr for Endpoint {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let url = Url::parse(s).map_err(|e| bad(format!("`{s}` is no URL: {e}")))?;
        let scheme = match url.scheme() {
            "ws" => Scheme::Ws,
            "wss" => Scheme::Wss,
            other => return Err(bad(format!("the scheme is `{other}`, not ws or wss"))),
        };
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(bad("a node's URL has a host, a port and a path only"));
        }
        let host = url.host_str().ok_or_else(|| bad("the URL names no host"))?.to_owned();
        let port = url.port().unwrap_or_else(|| scheme.default_port());
        let path = if url.path() == "/" { String::new() } else { url.path().to_owned() };
        Ok(Self { scheme, host, port, path })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}{}", self.scheme.as_str(), self.host, self.port, self.path)
    }
}

/// Everything that a browser needs to control a node.
///
/// It includes the rune, a secret, which its `Debug` leaves out.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString {
    /// The page that the link opens, without a fragment.
    pub page: Url,
    /// The node's public key, by which it is authenticated.
    pub node_id: NodeId,
    /// The node's endpoint.
    pub endpoint: Endpoint,
    /// The rune: Core Lightning's bearer token, URL-safe base64.
    pub rune: String,
    /// The node's alias.
    pub name: Option<String>,
    /// The node's colour.
    pub color: Option<Rgb>,
}

impl ConnectionString {
    fn fragment(&self) -> String {
        let Endpoint { scheme, host, port, path } = &self.endpoint;
        let mut out = format!(
            "address={}@{host}:{port}&type=direct&value={}:&rune={}",
            self.node_id,
            scheme.as_str(),
            self.rune
        );
        let mut add = |key: &str, value: &str| {
            out.push('&');
            out.push_str(key);
            out.push('=');
            out.extend(form_urlencoded::byte_serialize(value.as_bytes()));
        };
        if !path.is_empty() {
            add("path", path);
        }
        if let Some(name) = &self.name {
            add("name", name);
        }
        if let Some(color) = self.color {
            add("color", &color.to_string());
        }
        out
    }
}

fn is_rune(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'='))
}

impl ConnectionString {
    /// The same string with another rune; `None` if that is no rune, or the string would be longer than [`MAX_LENGTH`].
    pub fn with_rune(&self, rune: &str) -> Option<Self> {
        let string = is_rune(rune).then(|| Self { rune: rune.to_owned(), ..self.clone() })?;
        (string.to_string().len() <= MAX_LENGTH).then_some(string)
    }
}

impl fmt::Display for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut link = self.page.clone();
        link.set_fragment(Some(&self.fragment()));
        f.write_str(link.as_str())
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionString({}@{})", self.node_id, self.endpoint)
    }
}

impl FromStr for ConnectionString {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let mut page = Url::parse(s).map_err(|e| bad(format!("no link: {e}")))?;
        let fragment = page.fragment().ok_or_else(|| bad("the link has no fragment"))?.to_owned();
        page.set_fragment(None);

        let (mut address, mut scheme, mut rune) = (None, None, None);
        let (mut path, mut name, mut color) = (String::new(), None, None);
        for (key, value) in form_urlencoded::parse(fragment.as_bytes()) {
            match key.as_ref() {
                "address" => address = Some(value.into_owned()),
                "type" if value == "direct" => {}
                "type" => return Err(bad(format!("the type is `{value}`, not direct"))),
                "value" => {
                    scheme = Some(match value.as_ref() {
                        "ws:" => Scheme::Ws,
                        "wss:" => Scheme::Wss,
                        other => return Err(bad(format!("value is `{other}`, not ws: or wss:"))),
                    });
                }
                "rune" => rune = Some(value.into_owned()),
                "path" => path = value.into_owned(),
                "name" => name = Some(value.into_owned()),
                "color" => color = Some(value.parse()?),
                other => return Err(bad(format!("unknown parameter `{other}`"))),
            }
        }
        let address = address.ok_or_else(|| bad("there is no address"))?;
        let scheme = scheme.ok_or_else(|| bad("there is no value (ws: or wss:)"))?;
        let rune = rune.filter(|r| is_rune(r)).ok_or_else(|| bad("there is no rune"))?;
        let (node_id, place) =
            address.split_once('@').ok_or_else(|| bad("the address is not <node id>@<host>:<port>"))?;
        // Read as a URL, so that the same rules apply to host, port and path everywhere.
        if !path.is_empty() && !path.starts_with('/') || place.contains('/') {
            return Err(bad("a path begins with / and is no part of the address"));
        }
        let endpoint: Endpoint = format!("{}://{place}{path}", scheme.as_str()).parse()?;
        Ok(Self { page, node_id: node_id.parse()?, endpoint, rune, name, color })
    }
}

macro_rules! serde_as_text {
    ($($type:ty),+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(crate) use serde_as_text;
serde_as_text!(NodeId, Rgb, Endpoint, ConnectionString);
