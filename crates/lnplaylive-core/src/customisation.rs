//! What a buyer may choose about an environment beside its size: checked here, kept with the order's
//! terms, and handed on in the environment's spec.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::environment::{ChannelSetup, CoinDistribution, NodeAccess};

/// The longest name of a node, in bytes: what the Lightning protocol has room for in an alias.
pub const MAX_NAME_BYTES: usize = 32;
/// The longest title, in characters: a line on a printed card.
pub const MAX_TITLE_CHARS: usize = 80;

/// Why a customisation was rejected. Each names the parameter and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CustomisationError {
    /// Not a coin distribution.
    #[error("coin_distribution must be one of {}", CoinDistribution::ALL.map(CoinDistribution::name).join(", "))]
    CoinDistribution,
    /// Not a channel set-up.
    #[error("channel_setup must be one of {}", ChannelSetup::ALL.map(ChannelSetup::name).join(", "))]
    ChannelSetup,
    /// Not a kind of access.
    #[error("node_access must be one of {}", NodeAccess::ALL.map(NodeAccess::name).join(", "))]
    NodeAccess,
    /// Full access where the operator does not sell it.
    #[error(
        "node_access=full is not sold here; leave node_access out, or ask the operator for shop.full_node_access"
    )]
    FullNodeAccess,
    /// Too few or too many names.
    #[error("names has {given} entries for {nodes} nodes; give one for each node, or none")]
    NameCount {
        /// How many there are.
        given: usize,
        /// How many nodes there are.
        nodes: u32,
    },
    /// A name that no node can have.
    #[error(
        "names[{0}]: a name is 1 to {MAX_NAME_BYTES} bytes long, not blank, and without control characters"
    )]
    Name(usize),
    /// Not a title.
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
            Self::CoinDistribution => Some(CoinDistribution::ALL.map(CoinDistribution::name).into()),
            Self::ChannelSetup => Some(ChannelSetup::ALL.map(ChannelSetup::name).into()),
            Self::NodeAccess => Some(NodeAccess::ALL.map(NodeAccess::name).into()),
            Self::FullNodeAccess => Some(vec![NodeAccess::Class.name()]),
            Self::NameCount { .. } | Self::Name(_) | Self::Title => None,
        }
    }
}

fn is_plain_text(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

/// A node's name, its alias on the network. Valid by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct NodeName(String);

impl NodeName {
    /// `None` if no node can be called that: see [`MAX_NAME_BYTES`].
    pub fn new(name: &str) -> Option<Self> {
        (name.len() <= MAX_NAME_BYTES && is_plain_text(name)).then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What stands on top of printed cards. Valid by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Title(String);

impl Title {
    /// `None` if it is blank, longer than [`MAX_TITLE_CHARS`], or has control characters.
    pub fn new(title: &str) -> Option<Self> {
        // Bytes first, so that a long text is not read to its end. A character has at most four.
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

/// What a buyer has chosen. The default is what a buyer gets who chooses nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Customisation {
    /// How the coins are shared out.
    pub coin_distribution: CoinDistribution,
    /// Which channels are opened.
    pub channel_setup: ChannelSetup,
    /// The nodes' names: none, or one for each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NodeName>,
    /// Text for the printed cards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<Title>,
    /// What the connection strings give access to.
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

    /// Whether it is what a buyer gets who chooses nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_node_can_have_are_refused() {
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
