//! Settings: defaults, then `lnplaylive.toml`, then the environment, in that order.
//!
//! In the environment a key is `LNPLAYLIVE_` and its name, nested by two underscores:
//! `LNPLAYLIVE_SHOP__INVOICE_EXPIRY_SECS=300`. One remote can be described without a file, by
//! `LNPLAYLIVE_REMOTE__NAME`, `LNPLAYLIVE_REMOTE__URL`, `LNPLAYLIVE_REMOTE__TOKEN_FILE` and so on.
//! Secrets are named by files, never written into settings: a systemd credential, a docker secret. One that is named
//! without a directory is a credential of the service that reads the settings (`$CREDENTIALS_DIRECTORY`), if it has any.

mod culler;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use jiff::SignedDuration;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use url::Url;

use crate::catalogue::{Catalogue, Product, default_products};
use crate::environment::{MAX_NODES, expand_url_template};
use crate::order::Policy;
use crate::secret::Secret;

pub use culler::{Culler, CullerSettings};

/// The environment variable that names the settings file.
pub const CONFIG_VARIABLE: &str = "LNPLAYLIVE_CONFIG";

/// All settings. See the fields for what they mean and what the defaults are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What is sold, and how.
    #[serde(default)]
    pub shop: Shop,
    /// The products. Default: A to D.
    #[serde(default = "default_products")]
    pub products: Vec<Product>,
    /// How environments are provisioned.
    #[serde(default)]
    pub provisioning: Provisioning,
    /// Where environments are provisioned. None: nothing can be sold.
    #[serde(default)]
    pub remotes: Vec<Remote>,
    /// One more remote, for settings by environment variables.
    #[serde(default)]
    pub remote: Option<Remote>,
    /// Where the client key pair and the remotes' certificates are kept. Default: `lnplaylive` in
    /// the node's directory.
    #[serde(default)]
    pub state_dir: Option<PathBuf>,
    /// The web server's settings.
    #[serde(default, skip_serializing)]
    pub frontend: Others,
    /// The culler's settings.
    #[serde(default, skip_serializing)]
    pub culler: Others,
}

/// A table of another program that reads the same file. It is that program's to check, so it is skipped here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Others;

impl<'de> Deserialize<'de> for Others {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// What is sold, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shop {
    /// The page that attendees' links open.
    pub connect_page: Url,
    /// Fewest hours that can be bought.
    pub min_hours: u32,
    /// Most hours that can be bought.
    pub max_hours: u32,
    /// Seconds until an unpaid invoice expires, 60 to 86,400.
    pub invoice_expiry_secs: u32,
    /// How many unpaid orders may be open at a time.
    pub max_unpaid_orders: u32,
    /// Seconds that an order is kept, and shown as expired, after its invoice has expired.
    pub unpaid_retention_secs: u32,
    /// Whom buyers of orders that failed are told to ask: an e-mail address, a URL, or a few words.
    pub contact: Option<String>,
    /// Where the route table is written for the gateway of the web shop's server. None: nowhere.
    pub routes_file: Option<PathBuf>,
}

impl Default for Shop {
    fn default() -> Self {
        Self {
            connect_page: Url::parse("http://localhost:3000/connect").expect("a URL"),
            min_hours: 1,
            max_hours: 504,
            invoice_expiry_secs: 600,
            max_unpaid_orders: 1000,
            unpaid_retention_secs: 60,
            contact: None,
            routes_file: None,
        }
    }
}

/// How environments are provisioned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provisioning {
    /// How many orders are worked on at a time.
    pub concurrency: u32,
    /// Placements that may be given up before an order has failed.
    pub max_attempts: u32,
    /// Passing faults in a row before a placement is given up.
    pub patience: u32,
    /// Milliseconds to wait after a first fault; doubles with each one after.
    pub backoff_ms: u32,
    /// The longest wait, in milliseconds.
    pub max_backoff_ms: u32,
    /// Minutes added to each environment's life for the time that provisioning takes.
    pub allowance_mins: u32,
    /// Seconds between blocks in an environment.
    pub block_time_secs: u32,
    /// Seconds that one call of a remote's API may take; operations have their own time.
    pub call_timeout_secs: u32,
    /// Seconds between two surveys of the remotes, which tell what can be sold.
    pub survey_secs: u32,
}

impl Default for Provisioning {
    fn default() -> Self {
        Self {
            concurrency: 8,
            max_attempts: 5,
            patience: 4,
            backoff_ms: 1000,
            max_backoff_ms: 60_000,
            allowance_mins: 15,
            block_time_secs: 5,
            call_timeout_secs: 30,
            survey_secs: 15,
        }
    }
}

/// What instances are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceType {
    /// A system container: starts in a second.
    Container,
    /// A virtual machine: better isolated.
    #[default]
    VirtualMachine,
}

/// An LXD or Incus server or cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// Its name, in messages and in orders' records: do not change it while it has environments.
    pub name: String,
    /// Its API, such as `https://203.0.113.7:8443`.
    pub url: Url,
    /// A file with an enrolment token (`lxc config trust add`, `incus config trust add`), for the
    /// first run. It also says what the server's certificate is.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// A file with a client certificate (PEM) that the server trusts already; with `key_file`.
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// A file with that certificate's key (PEM).
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// SHA-256 fingerprint of the server's certificate, 64 hex digits. Needed where there is no
    /// token; with a token, the token says it.
    #[serde(default)]
    pub server_fingerprint: Option<String>,
    /// Alias of the image that instances are made from.
    #[serde(default = "default_image")]
    pub image: String,
    /// The image as one tarball with metadata and root file system, uploaded when the remote has no image of
    /// that alias. An alias that is there is never replaced.
    #[serde(default)]
    pub image_file: Option<PathBuf>,
    /// Instead of `image_file`: the tarball with the image's metadata; with `image_rootfs_file`.
    #[serde(default)]
    pub image_metadata_file: Option<PathBuf>,
    /// The image's root file system (squashfs), for virtual machines its disk (qcow2).
    #[serde(default)]
    pub image_rootfs_file: Option<PathBuf>,
    /// What instances are made.
    #[serde(default)]
    pub instance_type: InstanceType,
    /// Profiles of the default project that instances get: their disk and network.
    #[serde(default = "default_profiles")]
    pub profiles: Vec<String>,
    /// The address on the remote that environments' ports are opened on.
    #[serde(default = "default_listen_address")]
    pub listen_address: IpAddr,
    /// Where SSH reaches those ports. Default: the host in `url`.
    #[serde(default)]
    pub ssh_host: Option<String>,
    /// The ports that environments may use.
    #[serde(default)]
    pub ports: PortRange,
    /// A node's WebSocket URL for attendees, in which `{port}`, `{node}` and `{environment}` are
    /// filled in. Default: `ws://HOST:{port}`, HOST being the one in `url`.
    #[serde(default)]
    pub public_url_template: Option<String>,
    /// The most environments at a time; none: as many as there are ports for.
    #[serde(default)]
    pub max_environments: Option<u32>,
    /// How much of the remote's memory may be in use once an environment is added, in percent.
    #[serde(default = "default_max_memory_percent")]
    pub max_memory_percent: u32,
    /// Seconds from an instance's start until SSH lets us in. A container takes two, a virtual machine
    /// without much of a processor a minute or two.
    #[serde(default = "default_boot_timeout_secs")]
    pub boot_timeout_secs: u32,
}

/// The image's files, where settings name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFiles<'a> {
    /// One tarball.
    Unified(&'a Path),
    /// Metadata and root file system apart.
    Split {
        /// The tarball with the metadata.
        metadata: &'a Path,
        /// The root file system or disk.
        rootfs: &'a Path,
    },
}

fn default_image() -> String {
    "lnplay".into()
}

fn default_max_memory_percent() -> u32 {
    90
}

fn default_boot_timeout_secs() -> u32 {
    180
}

fn default_profiles() -> Vec<String> {
    vec!["default".into()]
}

fn default_listen_address() -> IpAddr {
    IpAddr::from([0, 0, 0, 0])
}

/// A range of TCP ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

impl Default for PortRange {
    fn default() -> Self {
        Self { first: 20000, last: 29999 }
    }
}

impl Remote {
    /// The host in `url`; validation has seen that there is one.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Where SSH reaches the environments' ports.
    pub fn ssh_host(&self) -> &str {
        self.ssh_host.as_deref().unwrap_or_else(|| self.host().trim_matches(['[', ']']))
    }

    /// The image's files, if the host has them; validation has seen that they go together.
    pub fn image_files(&self) -> Option<ImageFiles<'_>> {
        match (&self.image_file, &self.image_metadata_file, &self.image_rootfs_file) {
            (Some(file), ..) => Some(ImageFiles::Unified(file)),
            (None, Some(metadata), Some(rootfs)) => Some(ImageFiles::Split { metadata, rootfs }),
            _ => None,
        }
    }

    /// The template of nodes' WebSocket URLs.
    pub fn public_url_template(&self) -> String {
        self.public_url_template.clone().unwrap_or_else(|| format!("ws://{}:{{port}}", self.host()))
    }
}

/// Why the settings cannot be used. Each names the key.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// A key that is missing, unknown or of the wrong type, or a file that is not TOML.
    #[error("settings: {0}")]
    Read(String),
    /// The file itself.
    #[error("settings: cannot read the file {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value that makes no sense.
    #[error("settings: {key}: {reason}")]
    Value {
        /// Which key.
        key: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
}

fn wrong(key: impl Into<String>, reason: impl Into<String>) -> SettingsError {
    SettingsError::Value { key: key.into(), reason: reason.into() }
}

/// Names each thing that figment found, with its key and where it came from.
fn describe(error: figment::Error) -> SettingsError {
    let mut text = String::new();
    for one in error {
        let separator = if text.is_empty() { "" } else { "; " };
        let mut path = one.path.join(".");
        if path.is_empty() {
            path = "settings".into();
        }
        let source = one.metadata.as_ref().map_or_else(String::new, |m| match &m.source {
            Some(source) => format!(" (in {source})"),
            None => format!(" (in {})", m.name),
        });
        let kind = one.kind;
        write!(text, "{separator}{path}: {kind}{source}").expect("a string takes all");
    }
    SettingsError::Read(text)
}

/// What is set: `defaults`, then the file, then the environment.
fn layers(defaults: Figment, file: Option<&Path>) -> Result<Figment, SettingsError> {
    let mut figment = defaults;
    if let Some(path) = file {
        // Opened here as well: figment takes a file that is not there for an empty one.
        std::fs::File::open(path).map_err(|source| SettingsError::File { path: path.to_owned(), source })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    // The one that names the file is no setting itself.
    let environment =
        Env::prefixed("LNPLAYLIVE_").filter(|key| !key.as_str().eq_ignore_ascii_case("config")).split("__");
    Ok(figment.merge(environment))
}

fn range(key: &str, value: u32, allowed: std::ops::RangeInclusive<u32>) -> Result<(), SettingsError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (least, most) = allowed.into_inner();
    Err(wrong(key, format!("is {value}; it must be from {least} to {most}")))
}

/// systemd gives each service a directory of its own, so that no path fits several that share the settings.
fn find_credentials(remotes: &mut [Remote]) {
    let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) else { return };
    for remote in remotes {
        let files = [&mut remote.token_file, &mut remote.cert_file, &mut remote.key_file];
        for file in files.into_iter().flatten().filter(|file| file.is_relative()) {
            *file = dir.join(&*file);
        }
    }
}

fn validate_remotes(remotes: &[Remote]) -> Result<(), SettingsError> {
    for (at, remote) in remotes.iter().enumerate() {
        remote.validate(&format!("remotes[{at}]"))?;
        if remotes[..at].iter().any(|other| other.name == remote.name) {
            return Err(wrong(format!("remotes[{at}].name"), format!("`{}` stands twice", remote.name)));
        }
    }
    Ok(())
}

impl Settings {
    /// Reads the settings: defaults, then `file` where one is named, then the environment. Checks
    /// everything, secret files included: they must be readable.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let settings = Self::read(file)?;
        for (at, remote) in settings.remotes.iter().enumerate() {
            remote.check_files(&format!("remotes[{at}]"))?;
        }
        Ok(settings)
    }

    /// As [`Settings::load`], on a machine that need not have the files that the settings name.
    pub fn read(file: Option<&Path>) -> Result<Self, SettingsError> {
        let defaults = Figment::from(Serialized::default("shop", Shop::default()))
            .merge(Serialized::default("provisioning", Provisioning::default()));
        let mut settings: Self = layers(defaults, file)?.extract().map_err(describe)?;
        settings.remotes.extend(settings.remote.take());
        find_credentials(&mut settings.remotes);
        settings.validate()?;
        Ok(settings)
    }

    /// Checks what the types cannot say.
    fn validate(&self) -> Result<(), SettingsError> {
        self.catalogue()?;
        let Shop { invoice_expiry_secs, max_unpaid_orders, unpaid_retention_secs, .. } = self.shop;
        range("shop.invoice_expiry_secs", invoice_expiry_secs, 5..=86_400)?;
        range("shop.max_unpaid_orders", max_unpaid_orders, 1..=100_000)?;
        range("shop.unpaid_retention_secs", unpaid_retention_secs, 0..=86_400)?;
        if !matches!(self.shop.connect_page.scheme(), "http" | "https")
            || self.shop.connect_page.fragment().is_some()
        {
            return Err(wrong("shop.connect_page", "it must be an http or https URL without a fragment"));
        }
        if let Some(contact) = &self.shop.contact
            && (contact.trim().is_empty() || contact.len() > 200 || contact.chars().any(char::is_control))
        {
            return Err(wrong("shop.contact", "it must be 1 to 200 bytes without control characters"));
        }
        let p = &self.provisioning;
        range("provisioning.concurrency", p.concurrency, 1..=256)?;
        range("provisioning.max_attempts", p.max_attempts, 1..=100)?;
        range("provisioning.patience", p.patience, 1..=100)?;
        range("provisioning.backoff_ms", p.backoff_ms, 1..=60_000)?;
        range("provisioning.max_backoff_ms", p.max_backoff_ms, p.backoff_ms..=3_600_000)?;
        range("provisioning.allowance_mins", p.allowance_mins, 0..=1440)?;
        range("provisioning.block_time_secs", p.block_time_secs, 1..=3600)?;
        range("provisioning.call_timeout_secs", p.call_timeout_secs, 1..=600)?;
        range("provisioning.survey_secs", p.survey_secs, 1..=3600)?;
        validate_remotes(&self.remotes)
    }

    /// The catalogue that these settings describe.
    pub fn catalogue(&self) -> Result<Catalogue, SettingsError> {
        Catalogue::new(self.products.clone(), self.shop.min_hours, self.shop.max_hours)
            .map_err(|e| wrong("products", e.to_string()))
    }

    /// The policy that these settings describe.
    pub fn policy(&self) -> Policy {
        let p = &self.provisioning;
        Policy {
            max_attempts: p.max_attempts,
            patience: p.patience,
            backoff: SignedDuration::from_millis(p.backoff_ms.into()),
            max_backoff: SignedDuration::from_millis(p.max_backoff_ms.into()),
        }
    }
}

impl Remote {
    fn validate(&self, at: &str) -> Result<(), SettingsError> {
        let key = |name: &str| format!("{at}.{name}");
        let name_ok = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        if self.name.is_empty() || self.name.len() > 63 || !self.name.bytes().all(name_ok) {
            return Err(wrong(key("name"), "a name is 1 to 63 letters, digits, hyphens and underscores"));
        }
        if self.url.scheme() != "https" || self.url.host_str().is_none_or(str::is_empty) {
            return Err(wrong(
                key("url"),
                format!("`{}` is not the https URL of an LXD or Incus server", self.url),
            ));
        }
        match (&self.cert_file, &self.key_file, &self.token_file) {
            (Some(_), None, _) | (None, Some(_), _) => {
                return Err(wrong(key("cert_file"), "cert_file and key_file go together"));
            }
            (None, None, None) if self.server_fingerprint.is_none() => {
                return Err(wrong(
                    key("token_file"),
                    "name a token_file, or a server_fingerprint and a client certificate that the server trusts",
                ));
            }
            (Some(_), Some(_), None) if self.server_fingerprint.is_none() => {
                return Err(wrong(
                    key("server_fingerprint"),
                    "it is needed where there is no token to take it from",
                ));
            }
            _ => {}
        }
        if let Some(print) = &self.server_fingerprint
            && (print.len() != 64 || !print.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(wrong(key("server_fingerprint"), "a fingerprint is 64 hex digits"));
        }
        self.validate_image(key)?;
        range(&key("max_memory_percent"), self.max_memory_percent, 1..=100)?;
        range(&key("boot_timeout_secs"), self.boot_timeout_secs, 1..=3600)?;
        if self.ports.first < 1024 || self.ports.last < self.ports.first {
            return Err(wrong(key("ports"), "1024 <= first <= last is needed"));
        }
        let room = u32::from(self.ports.last - self.ports.first) + 1;
        if room < MAX_NODES + 1 {
            return Err(wrong(key("ports"), format!("at least {} ports are needed", MAX_NODES + 1)));
        }
        expand_url_template(&self.public_url_template(), "environment", 0, 20000)
            .map_err(|e| wrong(key("public_url_template"), e.to_string()))?;
        Ok(())
    }

    fn validate_image(&self, key: impl Fn(&str) -> String) -> Result<(), SettingsError> {
        match (&self.image_file, &self.image_metadata_file, &self.image_rootfs_file) {
            (None | Some(_), None, None) | (None, Some(_), Some(_)) => {}
            (Some(_), ..) => {
                return Err(wrong(
                    key("image_file"),
                    "name either one file or image_metadata_file and image_rootfs_file",
                ));
            }
            (None, ..) => {
                return Err(wrong(
                    key("image_metadata_file"),
                    "image_metadata_file and image_rootfs_file go together",
                ));
            }
        }
        Ok(())
    }

    /// Sees whether the files are there.
    fn check_files(&self, at: &str) -> Result<(), SettingsError> {
        let unreadable = |name: &str, path: &Path, error: std::io::Error| {
            wrong(format!("{at}.{name}"), format!("cannot read {}: {error}", path.display()))
        };
        for (name, file) in
            [("token_file", &self.token_file), ("cert_file", &self.cert_file), ("key_file", &self.key_file)]
        {
            if let Some(path) = file {
                read_secret(path).map_err(|e| unreadable(name, path, e))?;
            }
        }
        for (name, file) in [
            ("image_file", &self.image_file),
            ("image_metadata_file", &self.image_metadata_file),
            ("image_rootfs_file", &self.image_rootfs_file),
        ] {
            if let Some(path) = file {
                std::fs::File::open(path).map_err(|e| unreadable(name, path, e))?;
            }
        }
        Ok(())
    }
}

/// A secret file's content without the white space at its ends. At most 64 KiB.
pub fn read_secret(path: &Path) -> std::io::Result<Secret> {
    use std::io::Read as _;
    const LIMIT: u64 = 64 * 1024;
    let mut text = String::new();
    std::fs::File::open(path)?.take(LIMIT + 1).read_to_string(&mut text)?;
    let invalid = |what: &str| Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned()));
    if text.len() as u64 > LIMIT {
        return invalid("the file is larger than 64 KiB");
    }
    match text.trim() {
        "" => invalid("the file is empty"),
        secret => Ok(Secret::new(secret)),
    }
}
