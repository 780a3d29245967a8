//! Settings: defaults, then `lnplaylive.toml`, then the environment, in that order.
//!
//! The environment variable of a key is `LNPLAYLIVE_` and its name, with two underscores between levels:
//! `LNPLAYLIVE_SHOP__INVOICE_EXPIRY_SECS=300`. One remote can be configured without a file, by
//! `LNPLAYLIVE_REMOTE__NAME`, `LNPLAYLIVE_REMOTE__URL`, `LNPLAYLIVE_REMOTE__TOKEN_FILE` and so on.
//! Settings contain no secrets, only the names of files with secrets, such as systemd credentials or docker secrets. A name
//! without a directory is a credential of the service that reads the settings (`$CREDENTIALS_DIRECTORY`), if it has any.

mod culler;
mod remote;
pub mod source;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::Serialized;
use jiff::SignedDuration;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use crate::breaker;
use crate::catalogue::{Catalogue, Product, default_products};
use crate::ids::ShopId;
use crate::order::Policy;
use crate::ticket::TicketKey;
use source::{loopback, range, wrong};

pub use culler::{Culler, CullerSettings};
pub use remote::{AddressRange, ImageFiles, InstanceType, Member, PortRange, Remote, url_host};
pub use source::{CONFIG_VARIABLE, SettingsError};

/// All settings of the shop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The shop.
    #[serde(default)]
    pub shop: Shop,
    /// The products. Default: A to D.
    #[serde(default = "default_products")]
    pub products: Vec<Product>,
    /// The shop's Lightning node.
    #[serde(default)]
    pub node: Node,
    /// Provisioning of environments.
    #[serde(default)]
    pub provisioning: Provisioning,
    /// The servers that environments are provisioned on. Without any, nothing can be sold.
    #[serde(default)]
    pub remotes: Vec<Remote>,
    /// Another remote, for configuration by environment variables.
    #[serde(default)]
    pub remote: Option<Remote>,
    /// Directory of the client key pair and the remotes' certificates. Default: `lnplaylive` in the node's directory.
    #[serde(default)]
    pub state_dir: Option<PathBuf>,
    /// The web server's settings.
    #[serde(default, skip_serializing)]
    pub frontend: Others,
    /// The culler's settings.
    #[serde(default, skip_serializing)]
    pub culler: Others,
}

/// A table for another program that reads the same file. That program checks it; here it is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Others;

impl<'de> Deserialize<'de> for Others {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// Settings of the shop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shop {
    /// The shop's id on its remotes, in case other shops use them too. Default: a random one, which is made on the first run
    /// and stored in `state_dir`. Do not change it while the shop has environments.
    pub id: Option<ShopId>,
    /// The page that attendees' links open.
    pub connect_page: Url,
    /// Fewest hours that can be bought.
    pub min_hours: u32,
    /// Most hours that can be bought.
    pub max_hours: u32,
    /// Seconds until an unpaid invoice expires, 5 to 86,400.
    pub invoice_expiry_secs: u32,
    /// Most unpaid orders that may be open at a time.
    pub max_unpaid_orders: u32,
    /// Seconds that an unpaid order is kept, and shown as expired, after its invoice has expired.
    pub unpaid_retention_secs: u32,
    /// Days that an order is kept after its end; 0 for ever. An order ends with its environment, or with its refund.
    pub closed_retention_days: u32,
    /// Contact for buyers whose orders failed: an e-mail address, a URL, or a few words.
    pub contact: Option<String>,
    /// Accepts orders with `node_access=full`, whose connection strings allow every method of a node, including starting
    /// programs. Requires that all remotes run virtual machines.
    pub full_node_access: bool,
    /// Path of the route table for the gateway of the web shop's server. Without one, no table is written.
    pub routes_file: Option<PathBuf>,
    /// Path of the products for the web shop's server, which serves them to everybody. Without one, none are written.
    pub products_file: Option<PathBuf>,
    /// Loopback address on which the plugin serves metrics for Prometheus. Without one, there are none.
    pub metrics_listen: Option<SocketAddr>,
    /// File with the key of tickets, which the web shop's server reads too. Without one, orders are not rationed.
    pub ticket_key_file: Option<PathBuf>,
    /// Orders without a ticket in a minute, of all callers together.
    pub orders_without_ticket_per_minute: u32,
    /// Orders without a ticket that may come at once, when there were none for a while.
    pub orders_without_ticket_burst: u32,
    /// Seconds that an unpaid order surely keeps its place; after that the place is sold if nothing else is free.
    pub contested_hold_secs: u32,
}

impl Default for Shop {
    fn default() -> Self {
        Self {
            id: None,
            connect_page: Url::parse("http://localhost:3000/connect").expect("a URL"),
            min_hours: 1,
            max_hours: 504,
            invoice_expiry_secs: 600,
            max_unpaid_orders: 1000,
            unpaid_retention_secs: 60,
            closed_retention_days: 365,
            contact: None,
            full_node_access: false,
            routes_file: None,
            products_file: None,
            metrics_listen: None,
            ticket_key_file: None,
            orders_without_ticket_per_minute: 6,
            orders_without_ticket_burst: 10,
            contested_hold_secs: 180,
        }
    }
}

impl Shop {
    /// Time that an order is kept after its end; `None` for ever.
    pub fn closed_retention(&self) -> Option<SignedDuration> {
        let days = self.closed_retention_days;
        (days > 0).then(|| SignedDuration::from_hours(24 * i64::from(days)))
    }
}

/// Settings about the shop's Lightning node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Refuses orders that are larger than what the node's channels can receive, and all orders while it has no channel that
    /// can receive anything. Default: true, except on regtest.
    pub require_inbound: Option<bool>,
}

/// Settings of provisioning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provisioning {
    /// Orders that are provisioned at the same time on each remote.
    pub concurrency: u32,
    /// Placements that may be abandoned before an order has failed.
    pub max_attempts: u32,
    /// Passing faults in a row before a placement is abandoned.
    pub patience: u32,
    /// Milliseconds to wait after a first fault; doubles with each further one.
    pub backoff_ms: u32,
    /// Longest wait, in milliseconds.
    pub max_backoff_ms: u32,
    /// Milliseconds to wait after a first abandoned placement; doubles with each further one.
    pub retry_pause_ms: u32,
    /// Longest wait after an abandoned placement, in milliseconds.
    pub max_retry_pause_ms: u32,
    /// Faults of a remote in a row before nothing more is placed or sold there.
    pub breaker_faults: u32,
    /// Seconds before such a remote is tried with an environment of the shop's own; doubles with each failed trial, up to
    /// an hour.
    pub breaker_pause_secs: u32,
    /// Minutes added to each environment's life, to allow for provisioning.
    pub allowance_mins: u32,
    /// Seconds between blocks in an environment.
    pub block_time_secs: u32,
    /// Time-out of one call of a remote's API, in seconds; operations have time-outs of their own.
    pub call_timeout_secs: u32,
    /// Seconds between two polls of the remotes, which decide what can be sold.
    pub survey_secs: u32,
    /// Environments that are asked for their health each minute, however many there are; 0: none.
    pub probes_per_min: u32,
}

impl Default for Provisioning {
    fn default() -> Self {
        Self {
            concurrency: 8,
            max_attempts: 5,
            patience: 4,
            backoff_ms: 1000,
            max_backoff_ms: 60_000,
            retry_pause_ms: 60_000,
            max_retry_pause_ms: 900_000,
            breaker_faults: 3,
            breaker_pause_secs: 300,
            allowance_mins: 15,
            block_time_secs: 5,
            call_timeout_secs: 30,
            survey_secs: 15,
            probes_per_min: 4,
        }
    }
}

impl Settings {
    /// Reads the settings: defaults, then `file` if one is given, then the environment. Checks everything, including that
    /// the files with secrets can be read.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let settings = Self::read(file)?;
        remote::check_files(&settings.remotes)?;
        settings.ticket_key()?;
        Ok(settings)
    }

    /// As [`Settings::load`], without looking at the files that the settings name.
    pub fn read(file: Option<&Path>) -> Result<Self, SettingsError> {
        let defaults = Figment::from(Serialized::default("shop", Shop::default()))
            .merge(Serialized::default("provisioning", Provisioning::default()));
        let mut settings: Self = source::read(defaults, file)?;
        remote::complete(&mut settings.remotes, settings.remote.take())?;
        settings.validate()?;
        Ok(settings)
    }

    /// Checks everything that the types leave open.
    fn validate(&self) -> Result<(), SettingsError> {
        self.catalogue()?;
        let Shop {
            invoice_expiry_secs,
            max_unpaid_orders,
            unpaid_retention_secs,
            orders_without_ticket_per_minute: per_minute,
            orders_without_ticket_burst: burst,
            contested_hold_secs,
            ..
        } = self.shop;
        range("shop.invoice_expiry_secs", invoice_expiry_secs, 5..=86_400)?;
        range("shop.max_unpaid_orders", max_unpaid_orders, 1..=100_000)?;
        range("shop.unpaid_retention_secs", unpaid_retention_secs, 0..=86_400)?;
        range("shop.orders_without_ticket_per_minute", per_minute, 1..=100_000)?;
        range("shop.orders_without_ticket_burst", burst, 1..=100_000)?;
        range("shop.contested_hold_secs", contested_hold_secs, 1..=86_400)?;
        range("shop.closed_retention_days", self.shop.closed_retention_days, 0..=36_500)?;
        if !matches!(self.shop.connect_page.scheme(), "http" | "https")
            || self.shop.connect_page.fragment().is_some()
        {
            return Err(wrong("shop.connect_page", "it must be an http or https URL without a fragment"));
        }
        if let Some(address) = self.shop.metrics_listen {
            loopback("shop.metrics_listen", address)?;
        }
        if let Some(contact) = &self.shop.contact {
            check_contact("shop.contact", contact)?;
        }
        let shares_a_kernel = |remote: &&Remote| remote.instance_type != InstanceType::VirtualMachine;
        if let Some(remote) = self.remotes.iter().find(shares_a_kernel)
            && self.shop.full_node_access
        {
            let why = format!(
                "it is for virtual machines only, and remote `{}` runs containers; set its instance_type to \"virtual-machine\"",
                remote.name
            );
            return Err(wrong("shop.full_node_access", why));
        }
        let is_prepared = self.products.iter().any(|product| product.prepared > 0);
        if is_prepared
            && !self.remotes.is_empty()
            && !self.remotes.iter().any(|remote| shares_a_kernel(&remote))
        {
            let why =
                "prepared environments are containers, and no remote has the instance_type \"container\"";
            return Err(wrong("products.prepared", why));
        }
        let p = &self.provisioning;
        range("provisioning.concurrency", p.concurrency, 1..=256)?;
        range("provisioning.max_attempts", p.max_attempts, 1..=100)?;
        range("provisioning.patience", p.patience, 1..=100)?;
        range("provisioning.backoff_ms", p.backoff_ms, 1..=60_000)?;
        range("provisioning.max_backoff_ms", p.max_backoff_ms, p.backoff_ms..=3_600_000)?;
        range("provisioning.retry_pause_ms", p.retry_pause_ms, 1..=3_600_000)?;
        range("provisioning.max_retry_pause_ms", p.max_retry_pause_ms, p.retry_pause_ms..=86_400_000)?;
        range("provisioning.breaker_faults", p.breaker_faults, 1..=100)?;
        range("provisioning.breaker_pause_secs", p.breaker_pause_secs, 1..=3600)?;
        range("provisioning.allowance_mins", p.allowance_mins, 0..=1440)?;
        range("provisioning.block_time_secs", p.block_time_secs, 1..=3600)?;
        range("provisioning.call_timeout_secs", p.call_timeout_secs, 1..=600)?;
        range("provisioning.survey_secs", p.survey_secs, 1..=3600)?;
        range("provisioning.probes_per_min", p.probes_per_min, 0..=6000)
    }

    /// The catalogue that these settings describe.
    pub fn catalogue(&self) -> Result<Catalogue, SettingsError> {
        Catalogue::new(self.products.clone(), self.shop.min_hours, self.shop.max_hours)
            .map_err(|e| wrong("products", e.to_string()))
    }

    /// The key of tickets, read from its file; `None` if no file is named.
    pub fn ticket_key(&self) -> Result<Option<TicketKey>, SettingsError> {
        let Some(path) = &self.shop.ticket_key_file else { return Ok(None) };
        let unusable =
            |error| wrong("shop.ticket_key_file", format!("cannot use {}: {error}", path.display()));
        TicketKey::read(path).map(Some).map_err(unusable)
    }

    /// The limits of the remotes' breakers that these settings describe.
    pub fn breaker_limits(&self) -> breaker::Limits {
        let p = &self.provisioning;
        let pause = SignedDuration::from_secs(p.breaker_pause_secs.into());
        breaker::Limits { faults: p.breaker_faults, pause }
    }

    /// The policy that these settings describe.
    pub fn policy(&self) -> Policy {
        let p = &self.provisioning;
        Policy {
            max_attempts: p.max_attempts,
            patience: p.patience,
            backoff: SignedDuration::from_millis(p.backoff_ms.into()),
            max_backoff: SignedDuration::from_millis(p.max_backoff_ms.into()),
            retry_pause: SignedDuration::from_millis(p.retry_pause_ms.into()),
            max_retry_pause: SignedDuration::from_millis(p.max_retry_pause_ms.into()),
        }
    }
}

/// Checks a contact, which pages and answers show in one line.
pub fn check_contact(key: &str, contact: &str) -> Result<(), SettingsError> {
    if contact.trim().is_empty() || contact.chars().count() > 200 || contact.chars().any(char::is_control) {
        return Err(wrong(key, "it must be 1 to 200 characters, in one line"));
    }
    Ok(())
}
