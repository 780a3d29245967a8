//! The buyer's choices about an environment besides its size. They are checked here, stored with the order's terms and
//! passed on in the environment's spec.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::environment::{ChannelSetup, CoinDistribution, NodeAccess};

/// The longest name of a node, in bytes: the size of an alias in the Lightning protocol.
pub const MAX_NAME_BYTES: usize = 32;
/// The longest title, in characters: one line on a printed card.
pub const MAX_TITLE_CHARS: usize = 80;

/// A rejected customisation. The message names the parameter and the allowed values.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CustomisationError {
    /// An unknown coin distribution.
    #[error("coin_distribution must be one of {}", names(CoinDistribution::ALL))]
    CoinDistribution,
    /// An unknown channel set-up.
    #[error("channel_setup must be one of {}", names(ChannelSetup::ALL))]
    ChannelSetup,
    /// An unknown kind of access.
    #[error("node_access must be one of {}", names(NodeAccess::ALL))]
    NodeAccess,
    /// Full access, which the operator does not sell.
    #[error(
        "node_access=full is not sold here; leave node_access out, or ask the operator for shop.full_node_access"
    )]
    FullNodeAccess,
    /// Too few or too many names.
    #[error("names has {given} entries for {nodes} nodes; give one for each node, or none")]
    NameCount {
        /// The number of names.
        given: usize,
        /// The number of nodes.
        nodes: u32,
    },
    /// An invalid name.
    #[error(
        "names[{0}]: a name is 1 to {MAX_NAME_BYTES} bytes long, not blank, and without control characters"
    )]
    Name(usize),
    /// An invalid title.
    #[error(
        "title must be 1 to {MAX_TITLE_CHARS} characters long, not blank, and without control characters"
    )]
    Title,
}

impl CustomisationError {
    /// Name of the rejected parameter.
    pub fn parameter(&self) -> &'static str {
        match self {
            Self::CoinDistribution => "coin_distribution",
            Self::ChannelSetup => "channel_setup",
            Self::NodeAccess | Self::FullNodeAccess => "node_access",
            Self::NameCount { .. } | Self::Name(_) => "names",
            Self::Title => "title",
        }
    }

    /// The values that the parameter may have, where they can be listed.
    pub fn allowed(&self) -> Option<Vec<&'static str>> {
        match self {
            Self::CoinDistribution => Some(each_name(CoinDistribution::ALL)),
            Self::ChannelSetup => Some(each_name(ChannelSetup::ALL)),
            Self::NodeAccess => Some(each_name(NodeAccess::ALL)),
            Self::FullNodeAccess => Some(vec![NodeAccess::Class.name()]),
            Self::NameCount { .. } | Self::Name(_) | Self::Title => None,
        }
    }
}

/// The names of an enum's variants.
fn each_name<T: Copy + Into<&'static str>>(all: &[T]) -> Vec<&'static str> {
    all.iter().map(|one| (*one).into()).collect()
}

/// The names of an enum's variants, as a list for people.
fn names<T: Copy + Into<&'static str>>(all: &[T]) -> String {
    each_name(all).join(", ")
}

fn is_plain_text(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

/// A node's name, which is its alias on the network. Valid by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct NodeName(String);

impl NodeName {
    /// A name; `None` if it is blank, longer than [`MAX_NAME_BYTES`], or has control characters.
    pub fn new(name: &str) -> Option<Self> {
        (name.len() <= MAX_NAME_BYTES && is_plain_text(name)).then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The title of printed cards. Valid by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Title(String);

impl Title {
    /// A title; `None` if it is blank, longer than [`MAX_TITLE_CHARS`], or has control characters.
    pub fn new(title: &str) -> Option<Self> {
        // Bytes first, so that a long text is not read to its end. A character has at most four bytes.
        let short = title.len() <= 4 * MAX_TITLE_CHARS && title.chars().count() <= MAX_TITLE_CHARS;
        (short && is_plain_text(title)).then(|| Self(title.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| serde::de::Error::custom("not a node's name"))
    }
}

impl<'de> Deserialize<'de> for Title {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| serde::de::Error::custom("not a title"))
    }
}

/// A buyer's choices. The default stands for a buyer who chooses nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Customisation {
    /// The distribution of coins.
    pub coin_distribution: CoinDistribution,
    /// The channels that are opened.
    pub channel_setup: ChannelSetup,
    /// The nodes' names, one for each node; empty for the default names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NodeName>,
    /// The title of the printed cards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<Title>,
    /// The access that the connection strings give.
    #[serde(skip_serializing_if = "NodeAccess::is_default")]
    pub node_access: NodeAccess,
}

impl Customisation {
    /// Reads names for an environment of `node_count` nodes: none, or one for each.
    pub fn with_names(mut self, names: &[&str], node_count: u32) -> Result<Self, CustomisationError> {
        if !names.is_empty() && names.len() != node_count as usize {
            return Err(CustomisationError::NameCount { given: names.len(), nodes: node_count });
        }
        let read = |(at, name): (usize, &&str)| NodeName::new(name).ok_or(CustomisationError::Name(at));
        self.names = names.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// True if the buyer chose nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_and_titles_are_rejected() {
        for name in ["", " ", "\t", "a\nb", "a\0", "a\u{7f}", "a\u{85}", &"a".repeat(33), &"é".repeat(17)] {
            assert_eq!(NodeName::new(name), None, "{name:?}");
        }
        for name in ["a", "Zoë", "🍕🍕🍕🍕🍕🍕🍕🍕", "--alias=x", "#1", &"a".repeat(32), &"é".repeat(16)]
        {
            assert!(NodeName::new(name).is_some(), "{name:?}");
        }
        assert_eq!(Title::new(&"é".repeat(81)), None);
        assert!(Title::new(&"é".repeat(80)).is_some());
        assert_eq!(Title::new(&"🍕".repeat(1_000_000)), None);
    }

    #[test]
    fn there_is_a_name_for_each_node_or_none() {
        let wishes = |names: &[&str]| Customisation::default().with_names(names, 2);
        assert!(wishes(&[]).expect("none is fine").is_default());
        assert!(wishes(&["a", "b"]).is_ok());
        assert_eq!(wishes(&["a"]), Err(CustomisationError::NameCount { given: 1, nodes: 2 }));
        assert_eq!(wishes(&["a"; 3]), Err(CustomisationError::NameCount { given: 3, nodes: 2 }));
        let error = wishes(&["a", "b\n"]).expect_err("a control character");
        assert!(error.to_string().starts_with("names[1]: "), "{error}");
    }
}
