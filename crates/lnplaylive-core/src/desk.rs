//! The organiser's desk: what the holder of an order can do with the environment while it runs.
//!
//! An [`Action`] goes to `lnplay desk` in the instance as one line of JSON, and an [`Answer`] comes back. Both have versions
//! (see [`crate::version`]), since image and shop may be of different releases. Whoever is root in the instance can answer
//! anything: an answer only says how the environment is, and which rune a node has.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use strum::{EnumString, IntoStaticStr, VariantArray};
use thiserror::Error;

use crate::environment::ChannelSetup;
use crate::secret::Secret;

/// The most blocks that one action mines. Six confirm and announce a channel.
pub const MAX_BLOCKS: u32 = 6;
/// The fewest sat that one action sends to a node: well above dust.
pub const MIN_SAT: u64 = 10_000;
/// The most sat that one action sends to a node: what a node begins with on average.
pub const MAX_SAT: u64 = 100_000_000;
/// The longest id of a request, in characters. A UUID has 36.
pub const MAX_REQUEST_CHARS: usize = 64;
/// The most bytes of an action or an answer: 64 nodes with long names, and their runes.
pub const MAX_BYTES: usize = 128 * 1024;

/// An action without its arguments: the name by which callers and metrics know it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    VariantArray,
    IntoStaticStr,
    EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// Shows the nodes and the chain; changes nothing.
    Look,
    /// Gives a node a new rune and revokes the old one.
    NewCard,
    /// Sends coins to one node or to all.
    SendCoins,
    /// Opens the channels of a set-up, as far as they are missing.
    OpenChannels,
    /// Mines blocks now.
    Mine,
    /// Stops the blocks that come by themselves.
    PauseBlocks,
    /// Has blocks come by themselves again.
    ResumeBlocks,
    /// Stops a node until it is switched on again.
    SwitchOff,
    /// Starts a node that was switched off.
    SwitchOn,
}

impl Kind {
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

/// The caller's name for one request, so that a request whose answer was lost can be repeated and is carried out once. Valid
/// by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RequestId(String);

impl RequestId {
    /// An id of 1 to [`MAX_REQUEST_CHARS`] ASCII letters, digits and hyphens; `None` for any other text.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=MAX_REQUEST_CHARS).contains(&text.len());
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (fits && plain).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| serde::de::Error::custom("not the id of a request"))
    }
}

/// An action. Nodes are numbered from 0, as their connection strings are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// See [`Kind::Look`].
    Look,
    /// Returns the runes that the nodes have now. Not for callers of the shop: they see them in the order.
    Cards,
    /// See [`Kind::NewCard`].
    NewCard {
        /// The node.
        node: u32,
        /// The request, if it may be repeated.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<RequestId>,
    },
    /// See [`Kind::SendCoins`].
    SendCoins {
        /// The node; `None` for all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<u32>,
        /// The sat that each gets, [`MIN_SAT`] to [`MAX_SAT`].
        sat: u64,
        /// The request, if it may be repeated.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<RequestId>,
    },
    /// See [`Kind::OpenChannels`].
    OpenChannels {
        /// The set-up; not [`ChannelSetup::None`].
        setup: ChannelSetup,
    },
    /// See [`Kind::Mine`].
    Mine {
        /// The number of blocks, 1 to [`MAX_BLOCKS`].
        blocks: u32,
        /// The request, if it may be repeated.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<RequestId>,
    },
    /// See [`Kind::PauseBlocks`].
    PauseBlocks,
    /// See [`Kind::ResumeBlocks`].
    ResumeBlocks,
    /// See [`Kind::SwitchOff`].
    SwitchOff {
        /// The node.
        node: u32,
    },
    /// See [`Kind::SwitchOn`].
    SwitchOn {
        /// The node.
        node: u32,
    },
}

/// An action that no environment can carry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ActionError {
    /// There is no such node.
    #[error("node must be a whole number from 0 to {}", nodes.saturating_sub(1))]
    Node {
        /// The number of nodes.
        nodes: u32,
    },
    /// The amount is out of range.
    #[error("sat must be a whole number from {MIN_SAT} to {MAX_SAT}")]
    Sat,
    /// The number of blocks is out of range.
    #[error("blocks must be a whole number from 1 to {MAX_BLOCKS}")]
    Blocks,
    /// A set-up without channels.
    #[error("setup must be one of star, circular, prism")]
    Setup,
}

impl Action {
    /// The action without its arguments; `None` for [`Action::Cards`], which is no caller's.
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Cards => return None,
            Self::Look => Kind::Look,
            Self::NewCard { .. } => Kind::NewCard,
            Self::SendCoins { .. } => Kind::SendCoins,
            Self::OpenChannels { .. } => Kind::OpenChannels,
            Self::Mine { .. } => Kind::Mine,
            Self::PauseBlocks => Kind::PauseBlocks,
            Self::ResumeBlocks => Kind::ResumeBlocks,
            Self::SwitchOff { .. } => Kind::SwitchOff,
            Self::SwitchOn { .. } => Kind::SwitchOn,
        })
    }

    /// True if it changes nothing, so that it may run beside another action.
    pub fn only_looks(&self) -> bool {
        matches!(self, Self::Look | Self::Cards)
    }

    /// The request that it belongs to, if it may be repeated.
    pub fn request(&self) -> Option<&RequestId> {
        match self {
            Self::NewCard { request, .. } | Self::SendCoins { request, .. } | Self::Mine { request, .. } => {
                request.as_ref()
            }
            _ => None,
        }
    }

    /// The one node that it is about.
    fn node(&self) -> Option<u32> {
        match self {
            Self::NewCard { node, .. } | Self::SwitchOff { node } | Self::SwitchOn { node } => Some(*node),
            Self::SendCoins { node, .. } => *node,
            _ => None,
        }
    }

    /// Checks the rules that the types do not express, for an environment with this many nodes.
    pub fn validate(&self, nodes: u32) -> Result<(), ActionError> {
        if self.node().is_some_and(|node| node >= nodes) {
            return Err(ActionError::Node { nodes });
        }
        match self {
            Self::SendCoins { sat, .. } if !(MIN_SAT..=MAX_SAT).contains(sat) => Err(ActionError::Sat),
            Self::Mine { blocks, .. } if !(1..=MAX_BLOCKS).contains(blocks) => Err(ActionError::Blocks),
            Self::OpenChannels { setup: ChannelSetup::None } => Err(ActionError::Setup),
            _ => Ok(()),
        }
    }
}

/// The answer to an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// It was carried out.
    Done {
        /// What was done.
        did: Did,
        /// The environment after it.
        overview: Overview,
    },
    /// It was not carried out, or not to its end.
    Refused {
        /// The reason, for programs.
        reason: Refusal,
        /// The reason in a sentence, for the operator's log.
        message: String,
    },
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Did {
    /// Nothing was changed.
    Looked,
    /// The runes of all nodes, node 0 first.
    Cards {
        /// `None` of a node without one.
        runes: Vec<Option<Secret>>,
    },
    /// A node has a new rune, and its old ones are revoked.
    NewCard {
        /// The node.
        node: u32,
        /// Its rune.
        rune: Secret,
    },
    /// Coins were sent and are confirmed.
    CoinsSent {
        /// The nodes that got them.
        nodes: Vec<u32>,
        /// The sat that each got.
        sat: u64,
        /// The nodes that got none.
        left_out: Vec<LeftOut>,
    },
    /// The channels of a set-up are open.
    ChannelsOpened {
        /// Channels that were opened now.
        opened: u32,
        /// Channels of the set-up that were open before.
        open_already: u32,
        /// The nodes for whose sake channels are still missing.
        left_out: Vec<LeftOut>,
    },
    /// Blocks were mined.
    Mined {
        /// How many.
        blocks: u32,
    },
    /// No blocks come by themselves any more.
    BlocksPaused,
    /// Blocks come by themselves again.
    BlocksResumed,
    /// A node was stopped.
    SwitchedOff {
        /// The node.
        node: u32,
    },
    /// A node runs again.
    SwitchedOn {
        /// The node.
        node: u32,
    },
}

/// A node that an action on several nodes left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The node.
    pub node: u32,
    /// The reason.
    pub why: Why,
}

/// The reason why a node was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is switched off.
    Off,
    /// It does not answer.
    NoAnswer,
    /// It has not enough coins for the channels that it would open.
    NoCoins,
    /// It refused; the environment's log says why.
    Failed,
}

/// The reason why an action was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The environment does not run, or is still coming up.
    NotRunning,
    /// Another action is under way.
    Busy,
    /// The action cannot be read, or is none for this environment.
    Invalid,
    /// The request's id belongs to another action.
    RequestReused,
    /// The node is switched off.
    NodeOff,
    /// The node does not answer.
    NoAnswer,
    /// The environment's miner has not enough coins left.
    NoCoins,
    /// It took too long. Some of it may have been done; the same action goes on from there.
    Late,
    /// Something else went wrong.
    Failed,
}

/// The environment, as the desk shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The height of the chain; `None` if bitcoind does not answer.
    pub block_height: Option<u32>,
    /// True if no blocks come by themselves.
    pub blocks_paused: bool,
    /// The nodes, node 0 first.
    pub nodes: Vec<NodeView>,
}

/// One node in [`Overview`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its number.
    pub index: u32,
    /// Its alias.
    pub name: String,
    /// Its state.
    pub state: NodeState,
    /// The height of the last block that it has seen; `None` if it does not answer.
    pub block_height: Option<u32>,
    /// The [`fingerprint`] of its rune.
    pub card: Option<String>,
}

/// The state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It answers.
    Running,
    /// It was switched off.
    Off,
    /// It does not answer.
    Down,
}

/// Sixteen hexadecimal digits that tell one rune from another and say nothing about it: the beginning of its SHA-256.
pub fn fingerprint(rune: &str) -> String {
    let hash = Sha256::digest(rune.as_bytes());
    let first = hash.first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version;

    #[test]
    fn every_kind_has_an_action_of_its_name() {
        let actions = [
            r#"{"action":"look"}"#,
            r#"{"action":"new_card","node":1}"#,
            r#"{"action":"send_coins","sat":10000}"#,
            r#"{"action":"open_channels","setup":"star"}"#,
            r#"{"action":"mine","blocks":1}"#,
            r#"{"action":"pause_blocks"}"#,
            r#"{"action":"resume_blocks"}"#,
            r#"{"action":"switch_off","node":1}"#,
            r#"{"action":"switch_on","node":1}"#,
        ];
        let kinds: Vec<_> = actions
            .iter()
            .map(|json| {
                let action: Action = version::read(json.as_bytes()).expect(json);
                assert_eq!(version::write(&action), *json, "without the version, which is 1");
                action.validate(2).expect(json);
                action.kind().expect("a caller's")
            })
            .collect();
        assert_eq!(kinds, Kind::ALL);
        assert!(Kind::ALL.iter().all(|kind| Kind::from_name(kind.name()) == Some(*kind)));
    }

    #[test]
    fn amounts_blocks_and_nodes_are_bounded() {
        let coins = |sat| Action::SendCoins { node: None, sat, request: None };
        let mine = |blocks| Action::Mine { blocks, request: None };
        for (action, error) in [
            (coins(MIN_SAT - 1), Some(ActionError::Sat)),
            (coins(MIN_SAT), None),
            (coins(MAX_SAT), None),
            (coins(MAX_SAT + 1), Some(ActionError::Sat)),
            (coins(u64::MAX), Some(ActionError::Sat)),
            (mine(0), Some(ActionError::Blocks)),
            (mine(MAX_BLOCKS), None),
            (mine(MAX_BLOCKS + 1), Some(ActionError::Blocks)),
            (Action::SwitchOff { node: 7 }, None),
            (Action::SwitchOff { node: 8 }, Some(ActionError::Node { nodes: 8 })),
            (Action::NewCard { node: u32::MAX, request: None }, Some(ActionError::Node { nodes: 8 })),
            (
                Action::SendCoins { node: Some(8), sat: MIN_SAT, request: None },
                Some(ActionError::Node { nodes: 8 }),
            ),
            (Action::OpenChannels { setup: ChannelSetup::None }, Some(ActionError::Setup)),
        ] {
            assert_eq!(action.validate(8).err(), error, "{action:?}");
        }
    }

    #[test]
    fn a_requests_id_is_short_and_plain() {
        assert!(RequestId::new("0819da5d-5cfa-411b-a851-8c08f9178624").is_some());
        for wrong in ["", "a b", "a\n", "ä", &"a".repeat(MAX_REQUEST_CHARS + 1)] {
            assert_eq!(RequestId::new(wrong), None, "{wrong:?}");
            let json = serde_json::json!({"action": "mine", "blocks": 1, "request": wrong}).to_string();
            assert!(version::read::<Action>(json.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_written_about_a_rune_does_not_have_it() {
        let did = Did::NewCard { node: 0, rune: Secret::new("cnVuZQ==".to_owned()) };
        assert!(!format!("{did:?}").contains("cnVuZQ"));
        assert_eq!(fingerprint("cnVuZQ=="), fingerprint("cnVuZQ=="));
        assert_ne!(fingerprint("cnVuZQ=="), fingerprint("cnVuZR=="));
        assert_eq!(fingerprint("cnVuZQ==").len(), 16);
    }
}
