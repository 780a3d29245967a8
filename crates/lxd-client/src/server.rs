//! The server's description of itself: version, trust, resources.

use serde::Deserialize;

use crate::{Client, ConfigMap, Fingerprint, Result, transport::Call};

/// The answer to `GET /1.0`. A client that is not trusted gets only the first fields.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct ServerInfo {
    /// `trusted` or `untrusted`.
    auth: String,
    /// Names of the API extensions of this version.
    pub api_extensions: Vec<String>,
    /// The server and its machine; empty for a client that is not trusted.
    #[serde(default)]
    pub environment: Environment,
}

/// The server and its machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Environment {
    /// `lxd` or `incus`.
    pub server: String,
    /// For example `5.0.2`.
    pub server_version: String,
    /// The name of the server, or of the cluster member.
    pub server_name: String,
    /// True if the server is a member of a cluster.
    pub server_clustered: bool,
    /// The addresses on which it listens, as `host:port`.
    pub addresses: Vec<String>,
    /// For example `x86_64`.
    pub kernel_architecture: String,
    /// The instance drivers: `lxc`, or `lxc | qemu` if virtual machines are supported.
    pub driver: String,
    /// Fingerprint of the server's certificate.
    pub certificate_fingerprint: Option<Fingerprint>,
}

impl ServerInfo {
    /// Returns whether the server trusts this client.
    pub fn is_trusted(&self) -> bool {
        self.auth == "trusted"
    }

    /// Returns whether this version has the API extension.
    pub fn has_extension(&self, name: &str) -> bool {
        self.api_extensions.iter().any(|e| e == name)
    }

    /// Returns whether the server reports that it can run virtual machines.
    pub fn runs_virtual_machines(&self) -> bool {
        self.environment.driver.contains("qemu")
    }
}

/// The resources of a machine.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Resources {
    /// Total memory, in bytes.
    pub memory_total: u64,
    /// Used memory, in bytes.
    pub memory_used: u64,
    /// Number of CPU threads.
    pub cpu_total: u64,
    /// Load average of the last minute; `None` if the server does not report it (LXD 5.0).
    pub load: Option<f64>,
}

/// A member of a cluster.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct ClusterMember {
    /// The member's name.
    pub server_name: String,
    /// URL of its API, `https://host:port`.
    #[serde(default)]
    pub url: String,
    /// `Online`, `Offline`, `Evacuated` or `Blocked`.
    pub status: String,
    /// A sentence about the status.
    #[serde(default)]
    pub message: String,
    /// For example `x86_64`.
    #[serde(default)]
    pub architecture: String,
    /// Its cluster groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Its configuration, including `scheduler.instance`.
    #[serde(default)]
    pub config: ConfigMap,
}

impl ClusterMember {
    /// Returns whether it can run instances.
    pub fn is_online(&self) -> bool {
        self.status.eq_ignore_ascii_case("online")
    }

    /// The value of `scheduler.instance`; `all` by default.
    pub fn scheduler(&self) -> Scheduler {
        match self.config.get("scheduler.instance").map(String::as_str) {
            Some("manual") => Scheduler::Manual,
            Some("group") => Scheduler::Group,
            _ => Scheduler::All,
        }
    }
}

/// Restriction on which instances are placed on a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// No restriction.
    All,
    /// Only instances targeted at one of the member's cluster groups.
    Group,
    /// Only instances targeted at the member itself.
    Manual,
}

/// The size and usage of a storage pool, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct StorageSpace {
    /// Total size.
    #[serde(default)]
    pub total: u64,
    /// Used space.
    #[serde(default)]
    pub used: u64,
}

/// Something that a server has noticed about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ServerWarning {
    /// What, in a few words, the same on LXD and Incus: `AppArmor support has been disabled`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `new`, `acknowledged` or `resolved`.
    pub status: String,
    /// The cluster member that it is about; `none` on a single server.
    #[serde(default)]
    pub location: String,
}

#[derive(Deserialize)]
struct RawResources {
    memory: RawMemory,
    cpu: RawCpu,
    load: Option<RawLoad>,
}

#[derive(Deserialize)]
struct RawMemory {
    used: u64,
    total: u64,
}

#[derive(Deserialize)]
struct RawCpu {
    total: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawLoad {
    average1_min: f64,
}

impl Client {
    /// Reads the server's description. This works for clients that are not trusted, too; if the reason is that the client's
    /// certificate has expired, the result is [`crate::ErrorKind::ClientCertificateExpired`].
    pub async fn server(&self) -> Result<ServerInfo> {
        let action = "read the server's description";
        let info: ServerInfo = self.transport.fetch(Call::get(&[], action)).await?.0;
        if !info.is_trusted() {
            self.transport.check_client_certificate(action)?;
        }
        Ok(info)
    }

    /// Reads the description of a cluster member.
    pub async fn member(&self, name: &str) -> Result<ServerInfo> {
        let action = format!("read the description of cluster member {name}");
        Ok(self.transport.fetch(Call::get(&[], action).query("target", name)).await?.0)
    }

    /// Reads the resources of the machine; in a cluster, of the member that answers.
    pub async fn resources(&self) -> Result<Resources> {
        self.read_resources(Call::get(&["resources"], "read the server's resources")).await
    }

    /// Reads the resources of a cluster member.
    pub async fn member_resources(&self, member: &str) -> Result<Resources> {
        let action = format!("read the resources of cluster member {member}");
        self.read_resources(Call::get(&["resources"], action).query("target", member)).await
    }

    /// Lists the members of the cluster. A server that is not in a cluster refuses this.
    pub async fn cluster_members(&self) -> Result<Vec<ClusterMember>> {
        let call = Call::get(&["cluster", "members"], "list the cluster's members").query("recursion", "1");
        Ok(self.transport.fetch(call).await?.0)
    }

    /// Reads the server's warnings about itself; in a cluster, those of every member.
    pub async fn warnings(&self) -> Result<Vec<ServerWarning>> {
        let call = Call::get(&["warnings"], "list the server's warnings").query("recursion", "1");
        Ok(self.transport.fetch(call).await?.0)
    }

    /// Reads the size and usage of a storage pool; in a cluster, on the named member.
    pub async fn storage_space(&self, pool: &str, member: Option<&str>) -> Result<StorageSpace> {
        #[derive(Deserialize)]
        struct Raw {
            space: StorageSpace,
        }
        let on = member.map(|member| format!(" on cluster member {member}")).unwrap_or_default();
        let action = format!("read the space of storage pool {pool}{on}");
        let call = Call::get(&["storage-pools", pool, "resources"], action);
        let call = match member {
            Some(member) => call.query("target", member),
            None => call,
        };
        Ok(self.transport.fetch::<Raw>(call).await?.0.space)
    }

    async fn read_resources(&self, call: Call) -> Result<Resources> {
        let (RawResources { memory, cpu, load }, _) = self.transport.fetch(call).await?;
        Ok(Resources {
            memory_total: memory.total,
            memory_used: memory.used,
            cpu_total: cpu.total,
            load: load.map(|l| l.average1_min),
        })
    }
}
