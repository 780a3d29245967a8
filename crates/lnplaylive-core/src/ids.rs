//! The names of orders, and of the projects on remotes that hold their environments.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use uuid::Uuid;

use crate::connection::serde_as_text;

const PREFIX: &str = "lnplaylive-";

/// A text that is not one of our names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not an order's id.
    #[error("not an order id; one looks like lnplaylive-<uuid>")]
    OrderId,
    /// Not a project's name.
    #[error("not a project name; one looks like lnplaylive-<unix time>-<8 hex digits>")]
    ProjectName,
    /// Not a shop's id.
    #[error("not a shop id; one is 1 to 32 lower-case letters, digits and hyphens")]
    ShopId,
}

/// An order's id, `lnplaylive-<uuid v4>`. It is the label of the order's invoice and, in a URL, a capability: whoever has
/// these 122 random bits can see the order. It must not get into logs that others read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId(Uuid);

impl OrderId {
    /// A new random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id with that UUID.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The first four bytes of the UUID, which are part of the project's name.
    pub fn short(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = *self.0.as_bytes();
        [a, b, c, d]
    }

    /// True if an invoice's label has our prefix, whether or not there is such an order.
    pub fn is_label_of_ours(label: &str) -> bool {
        label.starts_with(PREFIX)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0.as_hyphenated())
    }
}

impl FromStr for OrderId {
    type Err = NameError;

    /// Accepts only the form that [`fmt::Display`] writes, so that an order has one name.
    fn from_str(s: &str) -> Result<Self, NameError> {
        let uuid = s.strip_prefix(PREFIX).ok_or(NameError::OrderId)?;
        let id = Self(Uuid::try_parse(uuid).map_err(|_| NameError::OrderId)?);
        if id.to_string() == s { Ok(id) } else { Err(NameError::OrderId) }
    }
}

/// The name of the project that holds an environment, `lnplaylive-<unix expiry>-<8 hex>`, with the first eight hex digits of
/// the order's UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectName {
    expires: Timestamp,
    order: [u8; 4],
}

impl ProjectName {
    /// The project of `order` that ends at `expires`, rounded down to whole seconds.
    pub fn new(expires: Timestamp, order: OrderId) -> Result<Self, NameError> {
        let expires = Timestamp::from_second(expires.as_second()).map_err(|_| NameError::ProjectName)?;
        if expires.as_second() <= 0 {
            return Err(NameError::ProjectName);
        }
        Ok(Self { expires, order: order.short() })
    }

    /// The end of the environment.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The environment's name in public URLs: the project's name without its prefix.
    pub fn environment(&self) -> String {
        self.to_string().split_off(PREFIX.len())
    }

    /// The project of the environment with this name in public URLs.
    pub fn from_environment(name: &str) -> Result<Self, NameError> {
        format!("{PREFIX}{name}").parse()
    }

    /// The first four bytes of the order's UUID.
    pub fn order_short(&self) -> [u8; 4] {
        self.order
    }
}

impl fmt::Display for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = u32::from_be_bytes(self.order);
        write!(f, "{PREFIX}{}-{order:08x}", self.expires.as_second())
    }
}

impl FromStr for ProjectName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let read = || {
            let (time, order) = s.strip_prefix(PREFIX)?.split_once('-')?;
            let expires = Timestamp::from_second(time.parse::<i64>().ok()?).ok()?;
            let order = u32::from_str_radix(order, 16).ok()?.to_be_bytes();
            Some(Self { expires, order })
        };
        // Formatted again and compared, since signs, leading zeros and capitals are not allowed.
        read()
            .filter(|name| name.expires.as_second() > 0 && name.to_string() == s)
            .ok_or(NameError::ProjectName)
    }
}

/// A shop's id. It marks what the shop makes on a remote, so that several shops can share one: each serves and removes only
/// its own environments and images.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShopId(String);

impl ShopId {
    /// The longest id, in bytes.
    const MAX_LEN: usize = 32;

    /// A new random id: 16 hex digits.
    pub fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string().split_off(Self::MAX_LEN / 2))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ShopId {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let fits = (1..=Self::MAX_LEN).contains(&s.len()) && s.bytes().all(allowed);
        if fits { Ok(Self(s.to_owned())) } else { Err(NameError::ShopId) }
    }
}

serde_as_text!(OrderId, ProjectName, ShopId);
