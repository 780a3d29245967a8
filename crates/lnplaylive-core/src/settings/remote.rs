//! The remotes: LXD and Incus servers and clusters that environments are made on.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use super::source::{SettingsError, range, wrong};
use crate::environment::{MAX_NODES, expand_url_template};
use crate::secret::read_secret;

/// Type of the instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceType {
    /// A system container, which starts in a second.
    Container,
    /// A virtual machine, which is better isolated.
    #[default]
    VirtualMachine,
}

/// An LXD or Incus server or cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// Its name in messages and in orders' records. Do not change it while the remote has environments.
    pub name: String,
    /// Its API, such as `https://203.0.113.7:8443`.
    pub url: Url,
    /// A file with an enrolment token (`lxc config trust add`, `incus config trust add`), for the first run. The token
    /// contains the fingerprint of the server's certificate.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// A file with a client certificate (PEM) that the server trusts already. Requires `key_file`.
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// A file with that certificate's key (PEM).
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// SHA-256 fingerprint of the server's certificate, 64 hex digits. Required without a token; a token contains it.
    #[serde(default)]
    pub server_fingerprint: Option<String>,
    /// Alias of the image that instances are made from. With files of an image, the first part of the alias; the digest of the
    /// files follows.
    #[serde(default = "default_image")]
    pub image: String,
    /// The image as one tarball with metadata and root file system, uploaded if the remote lacks it. Without files of an image,
    /// the remote's operator provides one.
    #[serde(default)]
    pub image_file: Option<PathBuf>,
    /// The tarball with the image's metadata, instead of `image_file`. Requires `image_rootfs_file`.
    #[serde(default)]
    pub image_metadata_file: Option<PathBuf>,
    /// The image's root file system (squashfs), or for virtual machines its disk (qcow2).
    #[serde(default)]
    pub image_rootfs_file: Option<PathBuf>,
    /// Type of the instances.
    #[serde(default)]
    pub instance_type: InstanceType,
    /// Profiles of the default project that instances get: their disk and network.
    #[serde(default = "default_profiles")]
    pub profiles: Vec<String>,
    /// The address on the remote that environments' ports are opened on. Virtual machines need one of the server's own
    /// addresses; if this is a wildcard, the host is used, provided that it is an address.
    #[serde(default = "default_listen_address")]
    pub listen_address: IpAddr,
    /// Host at which a single server's ports are reached. Default: the host in `url`. A cluster has `members` instead.
    #[serde(default)]
    pub ssh_host: Option<String>,
    /// Members of a cluster, by name, that are reached otherwise than the cluster says.
    #[serde(default)]
    pub members: BTreeMap<String, Member>,
    /// The cluster group whose members get environments. Default: all members.
    #[serde(default)]
    pub cluster_group: Option<String>,
    /// The managed bridge that virtual machines are on. Default: the network of the profiles' first NIC.
    #[serde(default)]
    pub vm_network: Option<String>,
    /// Static addresses for virtual machines, on that bridge and outside its DHCP ranges. Required for virtual machines,
    /// because a server forwards ports to static addresses only.
    #[serde(default)]
    pub vm_addresses: Option<AddressRange>,
    /// The ports that environments may use.
    #[serde(default)]
    pub ports: PortRange,
    /// Template of a node's WebSocket URL for attendees, with the placeholders `{host}` (the server's or member's),
    /// `{port}`, `{node}` and `{environment}`. Default: `ws://{host}:{port}`.
    #[serde(default)]
    pub public_url_template: Option<String>,
    /// Most environments at a time. Default: as many as there are ports for.
    #[serde(default)]
    pub max_environments: Option<u32>,
    /// Also makes containers on a storage pool that does not limit their disk: one of the kind `dir`, unless its file system
    /// has project quotas.
    #[serde(default)]
    pub unlimited_disk: bool,
    /// Share of the remote's memory, in percent, that may be in use once an environment is added.
    #[serde(default = "default_max_memory_percent")]
    pub max_memory_percent: u32,
    /// Time-out from an instance's start to the first SSH login, in seconds. A container takes two seconds, a virtual
    /// machine on a slow processor a minute or two.
    #[serde(default = "default_boot_timeout_secs")]
    pub boot_timeout_secs: u32,
}

/// Files of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFiles<'a> {
    /// One tarball.
    Unified(&'a Path),
    /// Two files.
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

/// A member of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Host at which SSH, the gateway and attendees reach this member's ports. Default: the host in the member's URL, as
    /// the cluster lists it.
    #[serde(default)]
    pub host: Option<String>,
    /// Overrides the remote's `listen_address` for this member.
    #[serde(default)]
    pub listen_address: Option<IpAddr>,
}

/// A range of IPv4 addresses, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressRange {
    /// The first one.
    pub first: Ipv4Addr,
    /// The last one.
    pub last: Ipv4Addr,
}

impl Default for PortRange {
    fn default() -> Self {
        Self { first: 20000, last: 29999 }
    }
}

impl Remote {
    /// Host at which the environments' ports of a single server are reached, without brackets: `ssh_host`, or the host in
    /// `url`.
    pub fn host(&self) -> &str {
        // Validation guarantees a host.
        let from_url = || self.url.host_str().unwrap_or_default();
        strip_brackets(self.ssh_host.as_deref().unwrap_or_else(from_url))
    }

    /// Host at which the environments' ports of a cluster's member are reached, without brackets: its `host` in `members`,
    /// or the host in the member's own URL.
    pub fn member_host<'a>(&'a self, member: &str, url: &'a Url) -> &'a str {
        let set = self.members.get(member).and_then(|m| m.host.as_deref());
        strip_brackets(set.or_else(|| url.host_str()).unwrap_or_default())
    }

    /// The address that environments' ports are opened on: the member's own, if it has one.
    pub fn listen_address(&self, member: Option<&str>) -> IpAddr {
        let of_member = member.and_then(|m| self.members.get(m)?.listen_address);
        of_member.unwrap_or(self.listen_address)
    }

    /// The image's files, if the settings name any. Validation guarantees that they belong together.
    pub fn image_files(&self) -> Option<ImageFiles<'_>> {
        match (&self.image_file, &self.image_metadata_file, &self.image_rootfs_file) {
            (Some(file), ..) => Some(ImageFiles::Unified(file)),
            (None, Some(metadata), Some(rootfs)) => Some(ImageFiles::Split { metadata, rootfs }),
            _ => None,
        }
    }

    /// Template of nodes' WebSocket URLs for environments whose ports are reached at `host`.
    pub fn public_url_template(&self, host: &str) -> String {
        let template = self.public_url_template.as_deref().unwrap_or("ws://{host}:{port}");
        template.replace("{host}", &url_host(host))
    }
}

/// Ports from 1024 on that browsers do not connect to: the "bad ports" of the Fetch standard, section 2.9.
const BAD_PORTS: [u16; 19] = [
    1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679,
    6697, 10080,
];

/// A host as it is written in a URL, with an IPv6 address in brackets.
pub fn url_host(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn strip_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Appends the remote that environment variables describe, finds the remotes' credentials, and checks everything that the
/// types leave open.
pub(super) fn complete(remotes: &mut Vec<Remote>, more: Option<Remote>) -> Result<(), SettingsError> {
    remotes.extend(more);
    find_credentials(remotes);
    validate(remotes)
}

/// Checks that the files that the remotes name can be read.
pub(super) fn check_files(remotes: &[Remote]) -> Result<(), SettingsError> {
    for (at, remote) in remotes.iter().enumerate() {
        remote.check_files(&format!("remotes[{at}]"))?;
    }
    Ok(())
}

/// Completes relative paths with the service's credentials directory. systemd gives each service its own, so no absolute
/// path works for several services that share the settings.
fn find_credentials(remotes: &mut [Remote]) {
    let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) else { return };
    for remote in remotes {
        let files = [&mut remote.token_file, &mut remote.cert_file, &mut remote.key_file];
        for file in files.into_iter().flatten().filter(|file| file.is_relative()) {
            *file = dir.join(&*file);
        }
    }
}

fn validate(remotes: &[Remote]) -> Result<(), SettingsError> {
    for (at, remote) in remotes.iter().enumerate() {
        remote.validate(&format!("remotes[{at}]"))?;
        if remotes[..at].iter().any(|other| other.name == remote.name) {
            return Err(wrong(
                format!("remotes[{at}].name"),
                format!("two remotes are named `{}`", remote.name),
            ));
        }
    }
    Ok(())
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
        if let Some(AddressRange { first, last }) = self.vm_addresses
            && first > last
        {
            return Err(wrong(key("vm_addresses"), format!("first ({first}) is after last ({last})")));
        }
        self.validate_members(key)?;
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
        let PortRange { first, last } = self.ports;
        let refused = BAD_PORTS.iter().find(|port| (first..=last).contains(port));
        if let Some(port) = refused
            && self.public_url_template(self.host()).contains("{port}")
        {
            let text = format!(
                "browsers do not connect to port {port}; choose ports without it, or a public_url_template that leads to the gateway"
            );
            return Err(wrong(key("ports"), text));
        }
        expand_url_template(&self.public_url_template(self.host()), "environment", 0, 20000)
            .map_err(|e| wrong(key("public_url_template"), e.to_string()))?;
        Ok(())
    }

    fn validate_members(&self, key: impl Fn(&str) -> String) -> Result<(), SettingsError> {
        for (name, member) in &self.members {
            if member.host.as_deref().is_some_and(|host| url::Host::parse(&url_host(host)).is_err()) {
                return Err(wrong(
                    key(&format!("members.{name}.host")),
                    "it is not a host name or an address",
                ));
            }
        }
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

    /// Checks that the files can be read.
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
