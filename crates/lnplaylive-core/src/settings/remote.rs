//! The remotes: LXD and Incus servers and clusters that environments are made on.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use super::source::{SettingsError, range, wrong};
use crate::environment::{MAX_NODES, expand_url_template};
use crate::secret::read_secret;

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
    /// The address on the remote that environments' ports are opened on. Virtual machines need one of the
    /// server's own addresses: where this is a wildcard, the host is taken if it is an address.
    #[serde(default = "default_listen_address")]
    pub listen_address: IpAddr,
    /// Where a single server's ports are reached. Default: the host in `url`. A cluster has `members` instead.
    #[serde(default)]
    pub ssh_host: Option<String>,
    /// Members of a cluster, by name, where they differ from what the cluster says of them.
    #[serde(default)]
    pub members: BTreeMap<String, Member>,
    /// Only members of this cluster group get environments.
    #[serde(default)]
    pub cluster_group: Option<String>,
    /// The managed bridge that virtual machines are on. Default: the network of the profiles' first NIC.
    #[serde(default)]
    pub vm_network: Option<String>,
    /// Static addresses for virtual machines, on that bridge and outside its DHCP ranges. Virtual machines need
    /// them: a server forwards ports to a static address only.
    #[serde(default)]
    pub vm_addresses: Option<AddressRange>,
    /// The ports that environments may use.
    #[serde(default)]
    pub ports: PortRange,
    /// A node's WebSocket URL for attendees, in which `{host}`, `{port}`, `{node}` and `{environment}` are
    /// filled in. `{host}` is the server's or member's. Default: `ws://{host}:{port}`.
    #[serde(default)]
    pub public_url_template: Option<String>,
    /// The most environments at a time; none: as many as there are ports for.
    #[serde(default)]
    pub max_environments: Option<u32>,
    /// Makes containers also on a storage pool that does not hold them to their share of the disk: one of the kind `dir`,
    /// unless its file system has project quotas.
    #[serde(default)]
    pub unlimited_disk: bool,
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

/// A member of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Where SSH, the gateway and attendees reach this member's ports. Default: the host in the member's URL, as
    /// the cluster lists it.
    #[serde(default)]
    pub host: Option<String>,
    /// As the remote's `listen_address`, for this member.
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
    /// Where the environments' ports of a single server are reached, without brackets: `ssh_host`, or the host in
    /// `url`.
    pub fn host(&self) -> &str {
        // Validation has seen that there is one.
        let from_url = || self.url.host_str().unwrap_or_default();
        strip_brackets(self.ssh_host.as_deref().unwrap_or_else(from_url))
    }

    /// Where the environments' ports of a cluster's member are reached, without brackets: its `host` in `members`, or
    /// the host in the member's own URL.
    pub fn member_host<'a>(&'a self, member: &str, url: &'a Url) -> &'a str {
        let set = self.members.get(member).and_then(|m| m.host.as_deref());
        strip_brackets(set.or_else(|| url.host_str()).unwrap_or_default())
    }

    /// The address that environments' ports are opened on: of the member, if it has one of its own.
    pub fn listen_address(&self, member: Option<&str>) -> IpAddr {
        let of_member = member.and_then(|m| self.members.get(m)?.listen_address);
        of_member.unwrap_or(self.listen_address)
    }

    /// The image's files, if the host has them; validation has seen that they go together.
    pub fn image_files(&self) -> Option<ImageFiles<'_>> {
        match (&self.image_file, &self.image_metadata_file, &self.image_rootfs_file) {
            (Some(file), ..) => Some(ImageFiles::Unified(file)),
            (None, Some(metadata), Some(rootfs)) => Some(ImageFiles::Split { metadata, rootfs }),
            _ => None,
        }
    }

    /// The template of nodes' WebSocket URLs, for environments whose ports are reached at `host`.
    pub fn public_url_template(&self, host: &str) -> String {
        let template = self.public_url_template.as_deref().unwrap_or("ws://{host}:{port}");
        template.replace("{host}", &url_host(host))
    }
}

/// A host as it stands in a URL: an IPv6 address in brackets.
pub fn url_host(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn strip_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Makes one list of the remotes, `more` of them being described by the environment; finds their credentials, and checks
/// what the types cannot say.
pub(super) fn complete(remotes: &mut Vec<Remote>, more: Option<Remote>) -> Result<(), SettingsError> {
    remotes.extend(more);
    find_credentials(remotes);
    validate(remotes)
}

/// Sees whether the files that the remotes name are there, and secrets readable.
pub(super) fn check_files(remotes: &[Remote]) -> Result<(), SettingsError> {
    for (at, remote) in remotes.iter().enumerate() {
        remote.check_files(&format!("remotes[{at}]"))?;
    }
    Ok(())
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

fn validate(remotes: &[Remote]) -> Result<(), SettingsError> {
    for (at, remote) in remotes.iter().enumerate() {
        remote.validate(&format!("remotes[{at}]"))?;
        if remotes[..at].iter().any(|other| other.name == remote.name) {
            return Err(wrong(format!("remotes[{at}].name"), format!("`{}` stands twice", remote.name)));
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
