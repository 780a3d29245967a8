//! The ownership tags of a project on a remote: its name, and keys in its configuration.
//!
//! [`ProjectTags`] is the one codec for them: the shop writes them, and shop and culler read them alike. Whoever
//! administers a remote can write any name and key, so a project is ours only if all of its tags can be read and agree
//! with each other. One that carries some of our tags and fails that is [`NotOurs::Malformed`]: it is not served, not
//! culled, and reported to the operator.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use thiserror::Error;

use crate::environment::MAX_NODES;
use crate::ids::{OrderId, ProjectName, ShopId};
use crate::order::Placement;
use crate::ports::PortBlock;

/// The prefix of all our keys.
pub const KEYS: &str = "user.lnplaylive.";
/// The id of the order that the project belongs to. It is the buyer's key to the order: not for logs. While an environment is
/// prepared, an id of its own, which is no order's.
pub const KEY_ORDER: &str = "user.lnplaylive.order";
/// The end of the environment, in unix seconds; the later of this and the name counts.
pub const KEY_EXPIRES: &str = "user.lnplaylive.expires";
/// The environment's ports on the remote, `first-count`.
pub const KEY_PORTS: &str = "user.lnplaylive.ports";
/// The cluster member that the environment's ports were last opened on. A cluster may move it later. Absent on a single
/// server.
pub const KEY_MEMBER: &str = "user.lnplaylive.member";
/// The static IPv4 address of the environment's virtual machine. Absent for a container.
pub const KEY_ADDRESS: &str = "user.lnplaylive.address";
/// `placing` until the hand-over, then `provisioned`; `prepared` while no order has taken it over.
pub const KEY_STATE: &str = "user.lnplaylive.state";
/// When the project was created, in unix seconds. Absent on projects that are older than this key.
pub const KEY_CREATED: &str = "user.lnplaylive.created";
/// When the removal of the project began, in unix seconds. From then on it is neither extended nor handed over.
pub const KEY_REMOVING: &str = "user.lnplaylive.removing";
/// The id of the shop that made the project. Absent on projects that are older than this key.
pub const KEY_SHOP: &str = "user.lnplaylive.shop";
/// The id that the environment was prepared under, which its name has. Absent unless an order has taken it over.
pub const KEY_PREPARED: &str = "user.lnplaylive.prepared";

/// The prefix of all our names.
const NAMES: &str = "lnplaylive-";
const PLACING: &str = "placing";
const PROVISIONED: &str = "provisioned";
const PREPARED: &str = "prepared";
/// The longest name of a cluster member, in bytes. Servers use their host names.
const MAX_MEMBER: usize = 255;

/// A stage in the life of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Made before anybody has bought it, for the next order of its size.
    Prepared,
    /// Being made, or left half made by a crash.
    Placing,
    /// Handed over to its buyer.
    Provisioned,
}

impl Stage {
    /// The value of [`KEY_STATE`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => PREPARED,
            Self::Placing => PLACING,
            Self::Provisioned => PROVISIONED,
        }
    }
}

/// The tags of a project of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectTags {
    /// The project's name.
    pub project: ProjectName,
    /// The order that it belongs to; while it is [`Stage::Prepared`], its own id.
    pub order: OrderId,
    /// The id that it was prepared under, if the order has taken it over.
    pub prepared: Option<OrderId>,
    /// The end of the environment: the later of name and key.
    pub expires: Timestamp,
    /// Its ports on the remote.
    pub ports: PortBlock,
    /// The cluster member that its ports were last opened on; `None` on a single server.
    pub member: Option<String>,
    /// The static address of its virtual machine; `None` for a container.
    pub address: Option<Ipv4Addr>,
    /// Its stage.
    pub stage: Stage,
    /// When the project was created, unless it is older than that key.
    pub created: Option<Timestamp>,
    /// The time at which its removal began.
    pub removing: Option<Timestamp>,
    /// The shop that made it, unless it is older than that key.
    pub shop: Option<ShopId>,
}

/// A project that is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOurs {
    /// It carries none of our tags.
    Foreign,
    /// It carries some of our tags, but not all, or some that cannot be read.
    Malformed(TagError),
}

/// A defect in the tags of a project that looks like ours. Values are left out: somebody else wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TagError {
    /// The name cannot be read.
    #[error("its name is not of the form lnplaylive-<unix time>-<8 hex digits>")]
    Name,
    /// A key is missing.
    #[error("the key {0} is missing")]
    Missing(&'static str),
    /// The order's id cannot be read.
    #[error("the key {KEY_ORDER} is not the id of an order")]
    Order,
    /// Name and keys disagree about the order.
    #[error("the key {KEY_ORDER} and the name belong to different orders")]
    OtherOrder,
    /// The id that it was prepared under cannot be read.
    #[error("the key {KEY_PREPARED} is not an id")]
    Prepared,
    /// A time cannot be read.
    #[error("the key {0} is not a time in unix seconds")]
    Time(&'static str),
    /// The stage is unknown.
    #[error("the key {KEY_STATE} is none of {PREPARED}, {PLACING} and {PROVISIONED}")]
    Stage,
    /// The ports cannot be read.
    #[error("the key {KEY_PORTS} is not of the form <first port>-<number of ports>")]
    Ports,
    /// The member's name cannot be read.
    #[error("the key {KEY_MEMBER} is not the name of a cluster member")]
    Member,
    /// The address cannot be read.
    #[error("the key {KEY_ADDRESS} is not an IPv4 address")]
    Address,
    /// The shop's id cannot be read.
    #[error("the key {KEY_SHOP} is not a shop's id")]
    Shop,
}

impl ProjectTags {
    /// The tags of a project that `shop` creates at `now` for a placement: `owner` is the order, or the id of an environment that
    /// is prepared.
    pub fn of_placement(
        owner: OrderId,
        placement: &Placement,
        stage: Stage,
        shop: Option<&ShopId>,
        now: Timestamp,
    ) -> Self {
        Self {
            project: placement.project,
            order: owner,
            prepared: None,
            expires: placement.project.expires(),
            ports: placement.ports,
            member: placement.member.clone(),
            address: placement.address,
            stage,
            created: Some(now),
            removing: None,
            shop: shop.cloned(),
        }
    }

    /// True if the project is `shop`'s. One that does not name its shop, because it is older than that key, is everybody's; one
    /// that does is not the project of a shop without an id.
    pub fn is_of(&self, shop: Option<&ShopId>) -> bool {
        self.shop.is_none() || self.shop.as_ref() == shop
    }

    /// Reads a project's name and configuration.
    pub fn read(name: &str, config: &BTreeMap<String, String>) -> Result<Self, NotOurs> {
        if !name.starts_with(NAMES) && !config.keys().any(|key| key.starts_with(KEYS)) {
            return Err(NotOurs::Foreign);
        }
        Self::parse(name, config).map_err(NotOurs::Malformed)
    }

    fn parse(name: &str, config: &BTreeMap<String, String>) -> Result<Self, TagError> {
        let project: ProjectName = name.parse().map_err(|_| TagError::Name)?;
        let given = |key: &'static str| config.get(key).map(String::as_str);
        let required = |key: &'static str| given(key).ok_or(TagError::Missing(key));
        let order: OrderId = required(KEY_ORDER)?.parse().map_err(|_| TagError::Order)?;
        let prepared = given(KEY_PREPARED).map(|text| text.parse().map_err(|_| TagError::Prepared));
        let prepared: Option<OrderId> = prepared.transpose()?;
        if !prepared.iter().chain([&order]).any(|id| id.short() == project.order_short()) {
            return Err(TagError::OtherOrder);
        }
        let time = |key: &'static str, text: &str| unix_time(text).ok_or(TagError::Time(key));
        let optional_time = |key| given(key).map(|text| time(key, text)).transpose();
        let expires = time(KEY_EXPIRES, required(KEY_EXPIRES)?)?.max(project.expires());
        let stage = match required(KEY_STATE)? {
            PREPARED => Stage::Prepared,
            PLACING => Stage::Placing,
            PROVISIONED => Stage::Provisioned,
            _ => return Err(TagError::Stage),
        };
        let ports = port_block(required(KEY_PORTS)?).ok_or(TagError::Ports)?;
        let member = given(KEY_MEMBER).map(|text| member(text).ok_or(TagError::Member)).transpose()?;
        let address = given(KEY_ADDRESS).map(|text| text.parse().map_err(|_| TagError::Address));
        Ok(Self {
            project,
            order,
            prepared,
            expires,
            ports,
            member,
            address: address.transpose()?,
            stage,
            created: optional_time(KEY_CREATED)?,
            removing: optional_time(KEY_REMOVING)?,
            shop: given(KEY_SHOP).map(|text| text.parse().map_err(|_| TagError::Shop)).transpose()?,
        })
    }

    /// The keys as they stand in the project's configuration.
    pub fn to_config(&self) -> BTreeMap<String, String> {
        let time = |time: Timestamp| time.as_second().to_string();
        let PortBlock { first, count } = self.ports;
        let required = [
            (KEY_ORDER, self.order.to_string()),
            (KEY_EXPIRES, time(self.expires)),
            (KEY_PORTS, format!("{first}-{count}")),
            (KEY_STATE, self.stage.as_str().to_owned()),
        ];
        let optional = [
            (KEY_PREPARED, self.prepared.map(|id| id.to_string())),
            (KEY_MEMBER, self.member.clone()),
            (KEY_ADDRESS, self.address.map(|address| address.to_string())),
            (KEY_CREATED, self.created.map(time)),
            (KEY_REMOVING, self.removing.map(time)),
            (KEY_SHOP, self.shop.as_ref().map(ShopId::to_string)),
        ];
        let optional = optional.into_iter().filter_map(|(key, value)| Some((key, value?)));
        required.into_iter().chain(optional).map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// The ports that a project may be using although its tags as a whole cannot be read; `None` if these cannot be read
/// either.
pub fn ports_of_malformed(config: &BTreeMap<String, String>) -> Option<PortBlock> {
    port_block(config.get(KEY_PORTS)?)
}

/// Reads a time as [`ProjectTags::to_config`] writes it: whole seconds after 1970, without sign or leading zeros.
fn unix_time(text: &str) -> Option<Timestamp> {
    let seconds: i64 = canonical(text)?;
    (seconds > 0).then(|| Timestamp::from_second(seconds).ok())?
}

/// Reads `first-count`, the ports of 1 to [`MAX_NODES`] nodes.
fn port_block(text: &str) -> Option<PortBlock> {
    let (first, count) = text.split_once('-')?;
    let block = PortBlock { first: canonical(first)?, count: canonical(count)? };
    (block.is_valid() && block.node_count() <= MAX_NODES).then_some(block)
}

/// Reads a number that is written in the one way that we write it.
fn canonical<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    text.parse().ok().filter(|number: &T| number.to_string() == text)
}

fn member(text: &str) -> Option<String> {
    let plain = (1..=MAX_MEMBER).contains(&text.len()) && !text.contains(char::is_control);
    plain.then(|| text.to_owned())
}
