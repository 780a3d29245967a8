//! Instances: containers and virtual machines.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Client, ConfigMap, DeviceMap, ErrorKind, ImageFingerprint, OperationState, Result, transport::Call,
};

/// Container or virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceType {
    /// A system container: the host's kernel, everything else its own.
    Container,
    /// A machine with a kernel of its own; needs KVM on the server.
    VirtualMachine,
}

/// What an instance is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// The image that has this alias.
    Alias(String),
    /// Exactly this image.
    Fingerprint(ImageFingerprint),
    /// Nothing: an instance with an empty root, which cannot start.
    Empty,
}

/// An instance to be created.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// Letters, digits and hyphens.
    pub name: String,
    /// Container or virtual machine.
    pub kind: InstanceType,
    /// What it is made from.
    pub image: ImageSource,
    /// `limits.…`, `cloud-init.…`, `user.…` and so on.
    pub config: ConfigMap,
    /// Devices beside those of the profiles.
    pub devices: DeviceMap,
    /// Profiles in order; `None` for the project's `default`.
    pub profiles: Option<Vec<String>>,
    /// The cluster member to put it on; `None` lets the cluster choose.
    pub target: Option<String>,
}

/// An instance as the server has it.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Instance {
    /// Its name, unique in its project.
    pub name: String,
    /// Whether it runs.
    pub status: Status,
    /// Container or virtual machine.
    #[serde(rename = "type")]
    pub kind: InstanceType,
    /// Its own configuration, without that of its profiles.
    #[serde(default)]
    pub config: ConfigMap,
    /// Its own devices, without those of its profiles.
    #[serde(default)]
    pub devices: DeviceMap,
    /// Profiles in order.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// The cluster member that it is on; `none` on a single server.
    #[serde(default)]
    pub location: String,
}

/// Where a cluster has an instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct InstanceLocation {
    /// The project that it is in.
    #[serde(default)]
    pub project: String,
    /// Its name, unique in its project.
    pub name: String,
    /// The member that it is on.
    #[serde(default)]
    pub location: String,
}

/// Whether an instance runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
#[non_exhaustive]
pub enum Status {
    /// It runs; what is inside may still be booting.
    Running,
    /// It does not run.
    Stopped,
    /// Any other state, in the server's word.
    Other(String),
}

impl From<String> for Status {
    fn from(text: String) -> Self {
        match text.as_str() {
            "Running" => Self::Running,
            "Stopped" => Self::Stopped,
            _ => Self::Other(text),
        }
    }
}

/// How an instance is right now.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InstanceState {
    /// Whether it runs.
    pub status: Status,
    /// The addresses of its interfaces, `lo` left out.
    pub addresses: Vec<Address>,
    /// Memory in use, in bytes; 0 when it does not run.
    pub memory_used: u64,
}

/// An address of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// The interface inside, for example `eth0`.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Whether it is good beyond the link (`global`).
    pub global: bool,
}

/// How to stop an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ask what is inside to shut down.
    Clean,
    /// Take the power away.
    Force,
}

#[derive(Deserialize)]
struct RawState {
    status: Status,
    #[serde(default)]
    memory: RawMemory,
    /// `null` when the instance does not run.
    network: Option<std::collections::BTreeMap<String, RawInterface>>,
}

#[derive(Default, Deserialize)]
struct RawMemory {
    #[serde(default)]
    usage: i64,
}

#[derive(Deserialize)]
struct RawInterface {
    addresses: Option<Vec<RawAddress>>,
}

#[derive(Deserialize)]
struct RawAddress {
    address: String,
    scope: String,
}

impl From<RawState> for InstanceState {
    fn from(raw: RawState) -> Self {
        let interfaces = raw.network.unwrap_or_default().into_iter().filter(|(name, _)| name != "lo");
        let addresses = interfaces.flat_map(|(interface, RawInterface { addresses })| {
            addresses.unwrap_or_default().into_iter().filter_map(move |a| {
                let address = a.address.parse().ok()?;
                Some(Address { interface: interface.clone(), address, global: a.scope == "global" })
            })
        });
        Self {
            status: raw.status,
            addresses: addresses.collect(),
            memory_used: u64::try_from(raw.memory.usage).unwrap_or(0),
        }
    }
}

impl Client {
    /// Creates an instance and returns when it is there, stopped. At most `within`.
    pub async fn create_instance(&self, project: &str, spec: &InstanceSpec, within: Duration) -> Result<()> {
        let source = match &spec.image {
            ImageSource::Alias(alias) => json!({"type": "image", "alias": alias}),
            ImageSource::Fingerprint(image) => json!({"type": "image", "fingerprint": image}),
            ImageSource::Empty => json!({"type": "none"}),
        };
        let mut body = json!({
            "name": spec.name,
            "type": spec.kind,
            "source": source,
            "config": spec.config,
            "devices": spec.devices,
        });
        if let Some(profiles) = &spec.profiles {
            body["profiles"] = json!(profiles);
        }
        let action = format!("create instance {} in project {project}", spec.name);
        let call = Call::post(&["instances"], body, action).project(project);
        let call = match &spec.target {
            Some(member) => call.query("target", member),
            None => call,
        };
        self.run(call, within).await.map(drop)
    }

    /// Reads an instance. A project that does not exist has none, so that is "not found" as well.
    pub async fn instance(&self, project: &str, name: &str) -> Result<Instance> {
        let action = format!("read instance {name} in project {project}");
        Ok(self.transport.fetch(Call::get(&["instances", name], action).project(project)).await?.0)
    }

    /// The instances of a project. Of a project that does not exist the server says that it has none.
    pub async fn instances(&self, project: &str) -> Result<Vec<Instance>> {
        let call = Call::get(&["instances"], format!("list instances of project {project}"));
        Ok(self.transport.fetch(call.query("recursion", "1").project(project)).await?.0)
    }

    /// The cluster members that the instances of a project, or of all projects, are on. Of a member that does not
    /// answer the cluster still tells which instances it has.
    pub async fn locations(&self, project: Option<&str>) -> Result<Vec<InstanceLocation>> {
        let of = project.map_or_else(|| "all projects".to_owned(), |project| format!("project {project}"));
        let call = Call::get(&["instances"], format!("list where the instances of {of} are"));
        let call = match project {
            Some(project) => call.project(project),
            None => call.query("all-projects", "true"),
        };
        Ok(self.transport.fetch(call.query("recursion", "1")).await?.0)
    }

    /// How an instance is right now, with its addresses.
    pub async fn instance_state(&self, project: &str, name: &str) -> Result<InstanceState> {
        let action = format!("read the state of instance {name} in project {project}");
        let call = Call::get(&["instances", name, "state"], action).project(project);
        Ok(self.transport.fetch::<RawState>(call).await?.0.into())
    }

    /// Starts an instance and returns when it runs (what is inside may still boot). One that runs already is fine.
    pub async fn start_instance(&self, project: &str, name: &str, within: Duration) -> Result<()> {
        let body = json!({"action": "start", "timeout": seconds(within)});
        self.set_state("start", project, name, body, within).await
    }

    /// Stops an instance and returns when it does not run. One that is stopped already is fine.
    pub async fn stop_instance(&self, project: &str, name: &str, how: Stop, within: Duration) -> Result<()> {
        // Without a time-out of ours the server's is 30 s and ends in a bare "Operation canceled".
        let body = json!({"action": "stop", "force": how == Stop::Force, "timeout": seconds(within)});
        self.set_state("stop", project, name, body, within).await
    }

    /// Puts devices in the place of an instance's own of the same names; all others stay. One that runs gets them at once, as far
    /// as their kinds allow.
    pub async fn merge_instance_devices(
        &self,
        project: &str,
        name: &str,
        devices: &DeviceMap,
        within: Duration,
    ) -> Result<()> {
        let action = format!("change devices of instance {name} in project {project}");
        let body = json!({"devices": devices});
        // Unlike replacing an instance's configuration, this is done when it is answered.
        let call = Call::patch(&["instances", name], body, action).project(project).timeout(within);
        self.transport.send(call).await.map(drop)
    }

    /// Deletes an instance and returns when it is gone. It must be stopped.
    pub async fn delete_instance(&self, project: &str, name: &str, within: Duration) -> Result<()> {
        let action = format!("delete instance {name} in project {project}");
        self.run(Call::delete(&["instances", name], action).project(project), within).await.map(drop)
    }

    async fn set_state(
        &self,
        verb: &str,
        project: &str,
        name: &str,
        body: Value,
        within: Duration,
    ) -> Result<()> {
        let action = format!("{verb} instance {name} in project {project}");
        let call = Call::put(&["instances", name, "state"], body, action).project(project);
        match self.run(call, within).await {
            Ok(OperationState { .. }) => Ok(()),
            Err(e) if is_so_already(e.kind()) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// LXD says so in an operation, in words only.
fn is_so_already(kind: &ErrorKind) -> bool {
    let (ErrorKind::OperationFailed(text) | ErrorKind::Rejected { text, .. }) = kind else { return false };
    let text = text.to_ascii_lowercase();
    text.contains("already running") || text.contains("already stopped")
}

/// Whole seconds, and not 0, which would be "for ever".
fn seconds(within: Duration) -> u64 {
    within.as_secs().max(1)
}
