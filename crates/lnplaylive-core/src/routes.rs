//! The route table, by which the gateway of the web shop's server finds the nodes of each environment.
//!
//! The plugin writes it to a file, and the server reads the file whenever it changes. Neither needs the other to run. The
//! file is JSON:
//!
//! ```text
//! {"environments": {"<environment>": {"expires_at": "<RFC 3339>", "nodes": ["ws://HOST:PORT", …]}}}
//! ```
//!
//! An environment's name is [`ProjectName::environment`]; node `i` is the list's entry `i`, from 0.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::connection::{Endpoint, Scheme};
use crate::environment::MAX_NODES;
use crate::ids::ProjectName;

/// The largest file that is read, in bytes: all environments with 64 nodes each fit.
pub const MAX_BYTES: u64 = 32 << 20;
/// The most environments in a table.
pub const MAX_ENVIRONMENTS: usize = 10_000;
/// The file can be read by its owner and by the group of the web shop's server.
const MODE: u32 = 0o640;

/// The endpoints of one environment's nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawRoute")]
pub struct Route {
    expires_at: Timestamp,
    nodes: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct RawRoute {
    expires_at: Timestamp,
    nodes: Vec<Endpoint>,
}

impl TryFrom<RawRoute> for Route {
    type Error = RouteTableError;

    fn try_from(raw: RawRoute) -> Result<Self, RouteTableError> {
        Self::new(raw.expires_at, raw.nodes)
    }
}

impl Route {
    /// A route that ends at `expires_at`. There must be 1 to [`MAX_NODES`] nodes, each with a `ws` URL without a path: it is
    /// a port of the remote, and TLS is terminated by the reverse proxy in front of the gateway.
    pub fn new(expires_at: Timestamp, nodes: Vec<Endpoint>) -> Result<Self, RouteTableError> {
        if nodes.is_empty() || nodes.len() > MAX_NODES as usize {
            return Err(RouteTableError::Nodes(nodes.len()));
        }
        if let Some(node) = nodes.iter().find(|n| n.scheme != Scheme::Ws || !n.path.is_empty()) {
            return Err(RouteTableError::Upstream(node.to_string()));
        }
        Ok(Self { expires_at, nodes })
    }

    /// The end of the environment.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The endpoints of its nodes, node 0's first.
    pub fn nodes(&self) -> &[Endpoint] {
        &self.nodes
    }
}

/// An environment's name, as a key in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name(ProjectName);

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.environment())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        ProjectName::from_environment(&name).map(Self).map_err(serde::de::Error::custom)
    }
}

/// All routes, by environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    environments: BTreeMap<Name, Route>,
}

/// An unusable table or route.
#[derive(Debug, Error)]
pub enum RouteTableError {
    /// Too few or too many nodes.
    #[error("a route has {0} nodes; it must have 1 to {MAX_NODES}")]
    Nodes(usize),
    /// A node's URL that the gateway does not relay to.
    #[error("a route leads to `{0}`; a node's URL there is ws://HOST:PORT")]
    Upstream(String),
    /// The table exceeds its limits.
    #[error("the route table is too large: {0}")]
    TooLarge(String),
    /// The file is not a route table.
    #[error("the route table cannot be parsed")]
    Garbled(#[source] serde_json::Error),
    /// The file cannot be read or written.
    #[error("{doing} the route table {path}")]
    File {
        /// The attempt, as a participle.
        doing: &'static str,
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
}

/// A node without a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoRoute {
    /// There is no such environment, or it has no such node.
    #[error("there is no such environment or node")]
    Unknown,
    /// The environment has ended.
    #[error("this environment's time is over")]
    Expired,
}

impl RouteTable {
    /// Adds a route or replaces it.
    pub fn insert(&mut self, environment: ProjectName, route: Route) {
        self.environments.insert(Name(environment), route);
    }

    /// All routes, by environment.
    pub fn iter(&self) -> impl Iterator<Item = (ProjectName, &Route)> {
        self.environments.iter().map(|(name, route)| (name.0, route))
    }

    /// The number of environments.
    pub fn len(&self) -> usize {
        self.environments.len()
    }

    /// True if there are no environments.
    pub fn is_empty(&self) -> bool {
        self.environments.is_empty()
    }

    /// The endpoint of node `node` (from 0) of an environment at `now`. Takes both names as they are in a request; one that is
    /// not in our form is unknown. An environment that is not in the table and whose name contains a past end has expired.
    pub fn lookup(&self, environment: &str, node: &str, now: Timestamp) -> Result<&Endpoint, NoRoute> {
        let name = ProjectName::from_environment(environment).map_err(|_| NoRoute::Unknown)?;
        let index: usize = node.parse().map_err(|_| NoRoute::Unknown)?;
        // Signs and leading zeros would give a node several names.
        if index.to_string() != node || index >= MAX_NODES as usize {
            return Err(NoRoute::Unknown);
        }
        match self.environments.get(&Name(name)) {
            Some(route) if route.expires_at <= now => Err(NoRoute::Expired),
            Some(route) => route.nodes.get(index).ok_or(NoRoute::Unknown),
            None if name.expires() <= now => Err(NoRoute::Expired),
            None => Err(NoRoute::Unknown),
        }
    }

    /// The end of an environment in the table.
    pub fn expires_at(&self, environment: &str) -> Option<Timestamp> {
        let name = ProjectName::from_environment(environment).ok()?;
        self.environments.get(&Name(name)).map(Route::expires_at)
    }

    /// Parses the content of a file.
    pub fn from_json(text: &str) -> Result<Self, RouteTableError> {
        if text.len() as u64 > MAX_BYTES {
            return Err(RouteTableError::TooLarge(format!("over {MAX_BYTES} bytes")));
        }
        let table: Self = serde_json::from_str(text).map_err(RouteTableError::Garbled)?;
        table.bounded()
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, RouteTableError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
            .map_err(|source| file_error("reading", path, source))?;
        Self::from_json(&text)
    }

    /// Replaces a file atomically. Its owner and group can read it.
    pub fn write(&self, path: &Path) -> Result<(), RouteTableError> {
        let json = serde_json::to_vec(self).map_err(RouteTableError::Garbled)?;
        if json.len() as u64 > MAX_BYTES || self.len() > MAX_ENVIRONMENTS {
            return Err(RouteTableError::TooLarge(format!("{} environments", self.len())));
        }
        atomic_file::replace(path, &json, MODE).map_err(|source| file_error("writing", path, source))
    }

    fn bounded(self) -> Result<Self, RouteTableError> {
        if self.len() > MAX_ENVIRONMENTS {
            return Err(RouteTableError::TooLarge(format!("over {MAX_ENVIRONMENTS} environments")));
        }
        Ok(self)
    }
}

impl fmt::Display for RouteTable {
    /// The content of a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

fn file_error(doing: &'static str, path: &Path, source: io::Error) -> RouteTableError {
    RouteTableError::File { doing, path: path.display().to_string(), source }
}
