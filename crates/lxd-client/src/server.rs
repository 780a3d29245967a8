//! What a server says about itself: version, trust, load.

use serde::Deserialize;

use crate::{Client, ConfigMap, Fingerprint, Result, transport::Call};

/// The server's answer to `GET /1.0`. To a client that it does not trust it tells only the first fields.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct ServerInfo {
    /// `trusted` or `untrusted`.
    auth: String,
    /// What this version can do beyond the first, by name.
    pub api_extensions: Vec<String>,
    /// About the machine; empty for a client that is not trusted.
    #[serde(default)]
    pub environment: Environment,
}

/// About the server and its machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Environment {
    /// `lxd` or `incus`.
    pub server: String,
    /// For example `5.0.2`.
    pub server_version: String,
    /// The server's name, in a cluster the member's.
    pub server_name: String,
    /// Whether the server is a member of a cluster.
    pub server_clustered: bool,
    /// Where it listens, as `host:port`.
    pub addresses: Vec<String>,
    /// For example `x86_64`.
    pub kernel_architecture: String,
    /// How instances run: `lxc`, or `lxc | qemu` where virtual machines can be made.
    pub driver: String,
    /// Of the certificate that the server shows.
    pub certificate_fingerprint: Option<Fingerprint>,
}

impl ServerInfo {
    /// Whether the server trusts this client.
    pub fn is_trusted(&self) -> bool {
        self.auth == "trusted"
    }

    /// Whether this version has an API extension.
    pub fn has_extension(&self, name: &str) -> bool {
        self.api_extensions.iter().any(|e| e == name)
    }

    /// Whether virtual machines can run there, as far as the server knows.
    pub fn runs_virtual_machines(&self) -> bool {
        self.environment.driver.contains("qemu")
    }
}

/// How much of the machine there is and is used.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Resources {
    /// In bytes.
    pub memory_total: u64,
    /// In bytes.
    pub memory_used: u64,
    /// Threads that the machine can run at a time.
    pub cpu_total: u64,
    /// Runnable tasks, average of a minute; `None` where the server does not tell (LXD 5.0).
    pub load: Option<f64>,
}

/// A member of a cluster.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct ClusterMember {
    /// The member's name.
    pub server_name: String,
    /// Its API, `https://host:port`.
    #[serde(default)]
    pub url: String,
    /// `Online`, `Offline`, `Evacuated` or `Blocked`.
    pub status: String,
    /// The status in a sentence.
    #[serde(default)]
    pub message: String,
    /// For example `x86_64`.
    #[serde(default)]
    pub architecture: String,
    /// The cluster groups that it is in.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Its configuration, `scheduler.instance` among it.
    #[serde(default)]
    pub config: ConfigMap,
}

impl ClusterMember {
    /// Whether it runs instances.
    pub fn is_online(&self) -> bool {
        self.status.eq_ignore_ascii_case("online")
    }

    /// Who may put instances there. LXD and Incus: `scheduler.instance`, `all` by default.
    pub fn scheduler(&self) -> Scheduler {
        match self.config.get("scheduler.instance").map(String::as_str) {
            Some("manual") => Scheduler::Manual,
            Some("group") => Scheduler::Group,
            _ => Scheduler::All,
        }
    }
}

/// Who may put instances on a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// Everybody.
    All,
    /// Whoever asks for one of its cluster groups.
    Group,
    /// Whoever asks for it by name: its operator, by hand.
    Manual,
}

/// How much of a storage pool there is and is used, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct StorageSpace {
    /// The pool's size.
    #[serde(default)]
    pub total: u64,
    /// What is used of it.
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
    /// What the server says about itself. Works for clients that are not trusted, too; one that is not trusted because its
    /// own certificate is out of date gets [`crate::ErrorKind::ClientCertificateExpired`].
    pub async fn server(&self) -> Result<ServerInfo> {
        let action = "read the server's description";
        let info: ServerInfo = self.transport.fetch(Call::get(&[], action)).await?.0;
        if !info.is_trusted() {
            self.transport.check_client_certificate(action)?;
        }
        Ok(info)
    }

    /// What a member of a cluster says about itself.
    pub async fn member(&self, name: &str) -> Result<ServerInfo> {
        let action = format!("read the description of cluster member {name}");
        Ok(self.transport.fetch(Call::get(&[], action).query("target", name)).await?.0)
    }

    /// How much of the machine there is and is used: of a cluster, the member's that answers.
    pub async fn resources(&self) -> Result<Resources> {
        self.read_resources(Call::get(&["resources"], "read the server's resources")).await
    }

    /// How much of a cluster member's machine there is and is used.
    pub async fn member_resources(&self, member: &str) -> Result<Resources> {
        let action = format!("read the resources of cluster member {member}");
        self.read_resources(Call::get(&["resources"], action).query("target", member)).await
    }

    /// The members of the cluster. A server that is in none refuses this.
    pub async fn cluster_members(&self) -> Result<Vec<ClusterMember>> {
        let call = Call::get(&["cluster", "members"], "list the cluster's members").query("recursion", "1");
        Ok(self.transport.fetch(call).await?.0)
    }

    /// What the server has noticed about itself, of a cluster each member.
    pub async fn warnings(&self) -> Result<Vec<ServerWarning>> {
        let call = Call::get(&["warnings"], "list the server's warnings").query("recursion", "1");
        Ok(self.transport.fetch(call).await?.0)
    }

    /// How much of a storage pool there is and is used; of a cluster, on the named member.
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
