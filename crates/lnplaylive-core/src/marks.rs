//! What a project on a remote carries that shows whose it is: its name, and keys in its configuration.
//!
//! Names and keys on a remote are written by anybody who may: nothing of them is taken for ours unless all of it can be
//! read and fits together.

use std::collections::BTreeMap;

use jiff::Timestamp;
use thiserror::Error;

use crate::ids::{OrderId, ProjectName};

/// What all our keys begin with.
pub const KEYS: &str = "user.lnplaylive.";
/// The id of the order that the project belongs to. It is the buyer's key to the order: not for logs.
pub const KEY_ORDER: &str = "user.lnplaylive.order";
/// When the environment ends, in unix seconds; the later of this and the name counts.
pub const KEY_EXPIRES: &str = "user.lnplaylive.expires";
/// The environment's ports on the remote, `first-count`.
pub const KEY_PORTS: &str = "user.lnplaylive.ports";
/// The cluster member that the environment was placed on. A cluster may move it later.
pub const KEY_MEMBER: &str = "user.lnplaylive.member";
/// The static address of the environment's virtual machine.
pub const KEY_ADDRESS: &str = "user.lnplaylive.address";
/// `placing` until handed over, then `provisioned`.
pub const KEY_STATE: &str = "user.lnplaylive.state";
/// When the project was made, in unix seconds.
pub const KEY_CREATED: &str = "user.lnplaylive.created";
/// When its removal began, in unix seconds. From then on nobody may extend it or hand it over.
pub const KEY_REMOVING: &str = "user.lnplaylive.removing";

/// What all names of ours begin with.
const NAMES: &str = "lnplaylive-";
const PLACING: &str = "placing";
const PROVISIONED: &str = "provisioned";

/// How far an environment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Somebody is making it, or was when they stopped.
    Placing,
    /// It was handed to its buyer.
    Provisioned,
}

impl Stage {
    /// What stands in [`KEY_STATE`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placing => PLACING,
            Self::Provisioned => PROVISIONED,
        }
    }
}

/// What stands in the name and keys of a project of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// When the environment ends: the later of what name and key say.
    pub expires: Timestamp,
    /// How far it has come.
    pub stage: Stage,
    /// When the project was made; those that are older than this key do not tell.
    pub created: Option<Timestamp>,
}

/// Why a project is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOurs {
    /// It carries nothing of ours.
    Foreign,
    /// It carries something of ours, but not all, or something that cannot be read.
    Malformed(Flaw),
}

/// What is wrong with something that looks like a project of ours. What stands there is left out: others wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Flaw {
    /// The name cannot be read.
    #[error("its name is not of the form lnplaylive-<unix time>-<8 hex digits>")]
    Name,
    /// A key is not there.
    #[error("it has no key {0}")]
    Missing(&'static str),
    /// The order's id cannot be read.
    #[error("its key {KEY_ORDER} is not the id of an order")]
    Order,
    /// Name and key are of two orders.
    #[error("its key {KEY_ORDER} is of another order than its name")]
    OtherOrder,
    /// A time cannot be read.
    #[error("its key {0} is not a time in unix seconds")]
    Time(&'static str),
    /// The state is none that we know.
    #[error("its key {KEY_STATE} is neither {PLACING} nor {PROVISIONED}")]
    State,
}

impl Marks {
    /// Reads a project's name and configuration.
    pub fn read(name: &str, config: &BTreeMap<String, String>) -> Result<Self, NotOurs> {
        if !name.starts_with(NAMES) && !config.keys().any(|key| key.starts_with(KEYS)) {
            return Err(NotOurs::Foreign);
        }
        Self::parse(name, config).map_err(NotOurs::Malformed)
    }

    fn parse(name: &str, config: &BTreeMap<String, String>) -> Result<Self, Flaw> {
        let name: ProjectName = name.parse().map_err(|_| Flaw::Name)?;
        let key = |key: &'static str| config.get(key).ok_or(Flaw::Missing(key));
        let order: OrderId = key(KEY_ORDER)?.parse().map_err(|_| Flaw::Order)?;
        if order.short() != name.order_short() {
            return Err(Flaw::OtherOrder);
        }
        let time = |key: &'static str, text: &str| unix_time(text).ok_or(Flaw::Time(key));
        let expires = time(KEY_EXPIRES, key(KEY_EXPIRES)?)?.max(name.expires());
        let stage = match key(KEY_STATE)?.as_str() {
            PLACING => Stage::Placing,
            PROVISIONED => Stage::Provisioned,
            _ => return Err(Flaw::State),
        };
        let created = config.get(KEY_CREATED).map(|text| time(KEY_CREATED, text)).transpose()?;
        Ok(Self { expires, stage, created })
    }
}

/// Reads a time as we write it: whole seconds after 1970, no sign, no zeros before.
fn unix_time(text: &str) -> Option<Timestamp> {
    let seconds: i64 = text.parse().ok()?;
    (seconds > 0 && seconds.to_string() == text).then(|| Timestamp::from_second(seconds).ok())?
}
