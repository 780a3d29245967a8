//! The environment spec: what `lnplay up` is asked to bring up inside an instance.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use crate::connection::{Endpoint, Rgb};

/// The most nodes that one environment can have.
pub const MAX_NODES: u32 = 64;

/// How the coins are shared out among the nodes. The total is the same in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoinDistribution {
    /// The same amount for every node: 100,000,000 sat.
    #[default]
    Egalitarian,
    /// A few nodes hold most.
    Political,
    /// Poisson-distributed amounts.
    Poisson,
    /// At random, as mining would.
    Pow,
}

impl CoinDistribution {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Egalitarian, Self::Political, Self::Poisson, Self::Pow];

    /// Its name, as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Egalitarian => "egalitarian",
            Self::Political => "political",
            Self::Poisson => "poisson",
            Self::Pow => "pow",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Which channels are opened before the environment is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Star, Self::Circular, Self::Prism];

    /// Its name, as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Star => "star",
            Self::Circular => "circular",
            Self::Prism => "prism",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// What the connection strings of an environment give access to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeAccess {
    /// What a class does with a node: an allowlist of methods.
    #[default]
    Class,
    /// Every method. It includes running programs as the node's user.
    Full,
}

impl NodeAccess {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Class, Self::Full];

    /// Its name, as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Full => "full",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Whether it is what is given where nothing is said.
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
    /// The address inside the instance that the WebSockets are bound to; `None`: loopback, like everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_address: Option<IpAddr>,
}

/// What to bring up. Written as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentSpec {
    /// The environment's name in public URLs.
    pub environment: String,
    /// How many nodes, 1 to [`MAX_NODES`].
    pub node_count: u32,
    /// Seconds between blocks.
    pub block_time: u32,
    /// How the coins are shared out.
    pub coin_distribution: CoinDistribution,
    /// Which channels are opened.
    pub channel_setup: ChannelSetup,
    /// Seed of whatever is random about the environment, so that it can be repeated.
    pub seed: u64,
    /// The nodes' aliases; empty for the built-in list, else one for each node.
    pub names: Vec<String>,
    /// The nodes' colours; empty for the built-in list, else one for each node.
    pub colors: Vec<Rgb>,
    /// Where the nodes listen.
    pub ports: Ports,
    /// A node's WebSocket URL as attendees reach it. `{port}` stands for its public port, `{node}`
    /// for its number from 0, `{environment}` for the environment's name.
    pub public_url_template: String,
    /// The page that attendees' links open.
    pub connect_page: Url,
    /// What the connection strings give access to. Left out where it is the default, which is all that an older `lnplay`
    /// knows.
    #[serde(default, skip_serializing_if = "NodeAccess::is_default")]
    pub node_access: NodeAccess,
}

/// Why a spec cannot be brought up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    /// Too few or too many nodes.
    #[error("node_count is {0}; an environment has 1 to {MAX_NODES} nodes")]
    NodeCount(u32),
    /// `names` or `colors` does not fit the nodes.
    #[error("{what} has {given} entries for {nodes} nodes; give one for each node, or none")]
    Entries {
        /// The key.
        what: &'static str,
        /// How many entries it has.
        given: usize,
        /// How many nodes there are.
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
        /// How many nodes there are.
        nodes: u32,
    },
    /// The template makes no URL.
    #[error("public_url_template `{template}` does not make a WebSocket URL: {source}")]
    Template {
        /// The template.
        template: String,
        /// What is wrong with the URL.
        source: crate::connection::ParseError,
    },
}

impl EnvironmentSpec {
    /// Checks what the types cannot say.
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

    /// Where node `index` (from 0) is reached from outside.
    pub fn endpoint(&self, index: u32) -> Result<Endpoint, SpecError> {
        let port = u32::from(self.ports.public_first) + index;
        expand_url_template(&self.public_url_template, &self.environment, index, port)
    }
}

/// Fills a template in: see [`EnvironmentSpec::public_url_template`].
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
