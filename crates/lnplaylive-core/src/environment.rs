//! The environment spec, from which `lnplay up` brings an environment up inside an instance.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};
use thiserror::Error;
use url::Url;

use crate::connection::{ConnectionString, Endpoint, MAX_LENGTH, Rgb};

/// The most nodes of an environment.
pub const MAX_NODES: u32 = 64;

/// The distribution of coins among the nodes. The total is the same in all of them.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    VariantArray,
    IntoStaticStr,
    EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CoinDistribution {
    /// The same amount for every node: 100,000,000 sat.
    #[default]
    Egalitarian,
    /// A few nodes hold most.
    Political,
    /// Poisson-distributed amounts.
    Poisson,
    /// Random amounts, as mined with different hash powers.
    Pow,
}

impl CoinDistribution {
    /// All variants.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name, as it is written.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The variant of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// The channels that are opened before the environment is handed over.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    VariantArray,
    IntoStaticStr,
    EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ChannelSetup {
    /// None: attendees open them.
    #[default]
    None,
    /// Node 0 to every other node.
    Star,
    /// Each node to the next, the last to the first.
    Circular,
    /// Node 0 to node 1, node 1 to all the rest.
    Prism,
}

impl ChannelSetup {
    /// All variants.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name, as it is written.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The variant of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// The methods that the connection strings of an environment give access to.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    VariantArray,
    IntoStaticStr,
    EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum NodeAccess {
    /// An allowlist of methods that a class needs.
    #[default]
    Class,
    /// All methods, including those that run programs as the node's user.
    Full,
}

impl NodeAccess {
    /// All variants.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name, as it is written.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The variant of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// True if it is the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// TCP ports of an environment. Node `i` listens for WebSockets at `listen_first + i` inside the
/// instance and is reached from outside at `public_first + i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// Node 0's WebSocket port inside the instance.
    pub listen_first: u16,
    /// Node 0's WebSocket port as seen from outside.
    pub public_first: u16,
    /// The address inside the instance that the WebSockets are bound to; `None` for loopback, like everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_address: Option<IpAddr>,
}

/// An environment to bring up. Written as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentSpec {
    /// The environment's name in public URLs.
    pub environment: String,
    /// The number of nodes, 1 to [`MAX_NODES`].
    pub node_count: u32,
    /// Seconds between blocks while somebody waits for one; else there is one a minute.
    pub block_time: u32,
    /// The distribution of coins.
    pub coin_distribution: CoinDistribution,
    /// The channels that are opened.
    pub channel_setup: ChannelSetup,
    /// The seed of everything random about the environment, so that it can be reproduced.
    pub seed: u64,
    /// The nodes' aliases, one for each node; empty for the default names.
    pub names: Vec<String>,
    /// The nodes' colours, one for each node; empty for the default colours.
    pub colors: Vec<Rgb>,
    /// The nodes' ports.
    pub ports: Ports,
    /// A node's WebSocket URL as attendees reach it. `{port}` stands for its public port, `{node}`
    /// for its number from 0, `{environment}` for the environment's name.
    pub public_url_template: String,
    /// The page that attendees' links open.
    pub connect_page: Url,
    /// The access that the connection strings give. The default is not written, since an older `lnplay` does not know the
    /// field.
    #[serde(default, skip_serializing_if = "NodeAccess::is_default")]
    pub node_access: NodeAccess,
}

/// An invalid spec.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    /// Too few or too many nodes.
    #[error("node_count is {0}; an environment has 1 to {MAX_NODES} nodes")]
    NodeCount(u32),
    /// `names` or `colors` does not match the number of nodes.
    #[error("{what} has {given} entries for {nodes} nodes; give one for each node, or none")]
    Entries {
        /// The key.
        what: &'static str,
        /// The number of entries.
        given: usize,
        /// The number of nodes.
        nodes: u32,
    },
    /// A zero block time.
    #[error("block_time is 0; give the seconds between blocks, 1 or more")]
    BlockTime,
    /// The ports run past 65535.
    #[error("ports {first} and up have no room for {nodes} nodes")]
    Ports {
        /// Node 0's port.
        first: u16,
        /// The number of nodes.
        nodes: u32,
    },
    /// The template does not make a URL.
    #[error("public_url_template `{template}` does not make a WebSocket URL: {source}")]
    Template {
        /// The template.
        template: String,
        /// The defect of the URL.
        source: crate::connection::ParseError,
    },
}

/// What is wrong with the connection strings that an instance gave.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StringsError {
    /// There is not one for each node.
    #[error("it gave {given} connection strings for {nodes} nodes")]
    Count {
        /// How many there are.
        given: usize,
        /// How many nodes there are.
        nodes: u32,
    },
    /// One does not open the spec's page, or not the node's endpoint.
    #[error("the connection string of node {index} leads to {given:.200}, not to {expected}")]
    Elsewhere {
        /// The node's number, from 0.
        index: usize,
        /// Where it leads: page and endpoint.
        given: String,
        /// Where it should.
        expected: String,
    },
    /// One is longer than any that we make.
    #[error("the connection string of node {index} has {length} bytes; {MAX_LENGTH} are allowed")]
    Length {
        /// The node's number, from 0.
        index: usize,
        /// Its length.
        length: usize,
    },
    /// The spec itself is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl EnvironmentSpec {
    /// Checks connection strings that an instance gave for this spec, one for each node in order. Whoever is root in it can give
    /// any; attendees must not be led to another server, or to a page that is not the shop's.
    pub fn check_strings(&self, strings: &[ConnectionString]) -> Result<(), StringsError> {
        if strings.len() != self.node_count as usize {
            return Err(StringsError::Count { given: strings.len(), nodes: self.node_count });
        }
        for (node, string) in (0..).zip(strings) {
            let (index, expected) = (node as usize, self.endpoint(node)?);
            if (&string.page, &string.endpoint) != (&self.connect_page, &expected) {
                return Err(StringsError::Elsewhere {
                    index,
                    given: format!("{} and {}", string.page, string.endpoint),
                    expected: format!("{} and {expected}", self.connect_page),
                });
            }
            let length = string.to_string().len();
            if length > MAX_LENGTH {
                return Err(StringsError::Length { index, length });
            }
        }
        Ok(())
    }

    /// Checks the rules that the types do not express.
    pub fn validate(&self) -> Result<(), SpecError> {
        let nodes = self.node_count;
        if !(1..=MAX_NODES).contains(&nodes) {
            return Err(SpecError::NodeCount(nodes));
        }
        if self.block_time == 0 {
            return Err(SpecError::BlockTime);
        }
        for (what, given) in [("names", self.names.len()), ("colors", self.colors.len())] {
            if given != 0 && given != nodes as usize {
                return Err(SpecError::Entries { what, given, nodes });
            }
        }
        for first in [self.ports.listen_first, self.ports.public_first] {
            if u32::from(first) + nodes - 1 > u32::from(u16::MAX) || first == 0 {
                return Err(SpecError::Ports { first, nodes });
            }
        }
        self.endpoint(0).map(|_| ())
    }

    /// The public endpoint of node `index`, counted from 0.
    pub fn endpoint(&self, index: u32) -> Result<Endpoint, SpecError> {
        let port = u32::from(self.ports.public_first) + index;
        expand_url_template(&self.public_url_template, &self.environment, index, port)
    }
}

/// The URL that a template makes, see [`EnvironmentSpec::public_url_template`].
pub fn expand_url_template(
    template: &str,
    environment: &str,
    node: u32,
    port: u32,
) -> Result<Endpoint, SpecError> {
    template
        .replace("{port}", &port.to_string())
        .replace("{node}", &node.to_string())
        .replace("{environment}", environment)
        .parse()
        .map_err(|source| SpecError::Template { template: template.to_owned(), source })
}
