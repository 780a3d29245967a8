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
    /// A system container, which shares the host's kernel.
    Container,
    /// A virtual machine with its own kernel; the server needs KVM.
    VirtualMachine,
}

/// The image of a new instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// The image that has this alias.
    Alias(String),
    /// The image with this fingerprint.
    Fingerprint(ImageFingerprint),
    /// No image: an instance with an empty root, which cannot start.
    Empty,
}

/// An instance to be created.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// Letters, digits and hyphens.
    pub name: String,
    /// Container or virtual machine.
    pub kind: InstanceType,
    /// The image to create it from.
    pub image: ImageSource,
    /// `limits.…`, `cloud-init.…`, `user.…` and so on.
    pub config: ConfigMap,
    /// Devices in addition to those of the profiles.
    pub devices: DeviceMap,
    /// Profiles in order; `None` uses the project's `default`.
    pub profiles: Option<Vec<String>>,
    /// The cluster member to create it on; `None` lets the cluster choose.
    pub target: Option<String>,
}

/// An instance, as the server describes it.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Instance {
    /// Its name, unique in its project.
    pub name: String,
    /// Its status.
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

/// The location of an instance in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct InstanceLocation {
    /// Its project.
    #[serde(default)]
    pub project: String,
    /// Its name, unique in its project.
    pub name: String,
    /// The member that it is on.
    #[serde(default)]
    pub location: String,
}

/// The image that an instance was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This one; it may have been deleted since.
    Image(ImageFingerprint),
    /// None.
    NoImage,
    /// The cluster does not know, because the instance's member does not answer.
    Unknown,
}

#[derive(Deserialize)]
struct RawOrigin {
    config: Option<ConfigMap>,
}

impl From<RawOrigin> for Origin {
    fn from(RawOrigin { config }: RawOrigin) -> Self {
        let Some(mut config) = config else { return Self::Unknown };
        config
            .remove(BASE_IMAGE)
            .map_or(Self::NoImage, |image| Self::Image(ImageFingerprint::from_name(image)))
    }
}

/// The key in which a server notes the image that an instance was made from.
const BASE_IMAGE: &str = "volatile.base_image";

/// The status of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
#[non_exhaustive]
pub enum Status {
    /// Running; the system inside may still be booting.
    Running,
    /// Not running.
    Stopped,
    /// Any other state, as named by the server.
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

/// The current state of an instance.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InstanceState {
    /// Its status.
    pub status: Status,
    /// The addresses of its interfaces except `lo`.
    pub addresses: Vec<Address>,
    /// Memory in use, in bytes; 0 if it is not running.
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
    /// True if its scope is `global`.
    pub global: bool,
}

/// The ways to stop an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ask the system inside to shut down.
    Clean,
    /// Turn it off.
    Force,
}

#[derive(Deserialize)]
struct RawState {
    status: Status,
    #[serde(default)]
    memory: RawMemory,
    /// `null` if the instance is not running.
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
    /// Creates an instance and returns when it exists; it is not started. Time-out: `within`.
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

    /// Reads an instance. The result is also "not found" if the project does not exist.
    pub async fn instance(&self, project: &str, name: &str) -> Result<Instance> {
        let action = format!("read instance {name} in project {project}");
        Ok(self.transport.fetch(Call::get(&["instances", name], action).project(project)).await?.0)
    }

    /// Lists the instances of a project. If the project does not exist, the server returns an empty list.
    pub async fn instances(&self, project: &str) -> Result<Vec<Instance>> {
        let call = Call::get(&["instances"], format!("list instances of project {project}"));
        Ok(self.transport.fetch(call.query("recursion", "1").project(project)).await?.0)
    }

    /// Lists the cluster members of the instances of a project, or of all projects. The cluster also knows the instances of a member
    /// that does not answer.
    pub async fn locations(&self, project: Option<&str>) -> Result<Vec<InstanceLocation>> {
        let of = project.map_or_else(|| "all projects".to_owned(), |project| format!("project {project}"));
        let call = Call::get(&["instances"], format!("list where the instances of {of} are"));
        let call = match project {
            Some(project) => call.project(project),
            None => call.query("all-projects", "true"),
        };
        Ok(self.transport.fetch(call.query("recursion", "1")).await?.0)
    }

    /// Reads the images that the instances of all projects were made from.
    pub async fn origins(&self) -> Result<Vec<Origin>> {
        let call = Call::get(&["instances"], "list the images of the instances of all projects".to_owned());
        let call = call.query("all-projects", "true").query("recursion", "1");
        let origins: Vec<RawOrigin> = self.transport.fetch(call).await?.0;
        Ok(origins.into_iter().map(Origin::from).collect())
    }

    /// Reads the current state of an instance, with its addresses.
    pub async fn instance_state(&self, project: &str, name: &str) -> Result<InstanceState> {
        let action = format!("read the state of instance {name} in project {project}");
        let call = Call::get(&["instances", name, "state"], action).project(project);
        Ok(self.transport.fetch::<RawState>(call).await?.0.into())
    }

    /// Starts an instance and returns when it is running; its system may still be booting. Succeeds if it is already running.
    pub async fn start_instance(&self, project: &str, name: &str, within: Duration) -> Result<()> {
        let body = json!({"action": "start", "timeout": seconds(within)});
        self.set_state("start", project, name, body, within).await
    }

    /// Stops an instance and returns when it is stopped. Succeeds if it is already stopped.
    pub async fn stop_instance(&self, project: &str, name: &str, how: Stop, within: Duration) -> Result<()> {
        // The server's default time-out is 30 s, and its error is only "Operation canceled".
        let body = json!({"action": "stop", "force": how == Stop::Force, "timeout": seconds(within)});
        self.set_state("stop", project, name, body, within).await
    }

    /// Adds keys and devices to an instance, or replaces those with the same names; the others stay. A running instance gets them at
    /// once, as far as keys and types of devices allow.
    pub async fn merge_instance(
        &self,
        project: &str,
        name: &str,
        config: &ConfigMap,
        devices: &DeviceMap,
        within: Duration,
    ) -> Result<()> {
        let action = format!("change instance {name} in project {project}");
        let body = json!({"config": config, "devices": devices});
        // Unlike a PUT of the configuration, a PATCH is complete when it is answered.
        let call = Call::patch(&["instances", name], body, action).project(project).timeout(within);
        self.transport.send(call).await.map(drop)
    }

    /// Deletes an instance, which must be stopped, and returns when it is deleted.
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
            Err(e) if is_already_done(e.kind()) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// LXD reports this only in the text of the operation's error.
fn is_already_done(kind: &ErrorKind) -> bool {
    let (ErrorKind::OperationFailed(text) | ErrorKind::Rejected { text, .. }) = kind else { return false };
    let text = text.to_ascii_lowercase();
    text.contains("already running") || text.contains("already stopped")
}

/// Rounds down to whole seconds, but at least 1, because 0 means no time-out.
fn seconds(within: Duration) -> u64 {
    within.as_secs().max(1)
}
