//! The remote's objects: clients, projects and their contents.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    instance::{ConfigMap, DeviceMap, Instance, Settings},
    rules::Kind,
};

/// Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The remote's only storage pool.
pub(crate) const POOL: &str = "default";

/// All objects that the API shows and changes.
#[derive(Debug)]
pub(crate) struct Model {
    /// Trusted clients: name by certificate fingerprint.
    pub(crate) trusted: BTreeMap<String, String>,
    /// Unused tokens: client name and operation, by secret.
    pub(crate) tokens: HashMap<String, (String, Uuid)>,
    pub(crate) projects: BTreeMap<String, Project>,
    /// The storage pool's driver, as the API names it.
    pub(crate) pool_driver: String,
    /// The network ACLs of the project `default`: the actions of their egress rules by name.
    pub(crate) acls: BTreeMap<String, Vec<String>>,
}

/// A kind of pool that limits instances to the size of their root disk.
const POOL_DRIVER: &str = "zfs";
/// The ACL of the bridge, which lets nothing out.
const ACL: &str = "walls";

/// The remote's bridge, which instances' NICs use.
pub(crate) const BRIDGE: &str = "lxdbr0";

/// The bridge's configuration. There are static addresses outside the DHCP range. Names are not served, because instances of
/// the same name in several projects would clash.
const BRIDGE_CONFIG: [(&str, &str); 7] = [
    ("dns.mode", "none"),
    ("raw.dnsmasq", "port=0"),
    ("security.acls", ACL),
    ("ipv4.address", "10.10.10.1/24"),
    ("ipv4.dhcp.ranges", "10.10.10.2-10.10.10.99"),
    ("ipv4.nat", "true"),
    ("ipv6.address", "none"),
];

#[derive(Debug, Default)]
pub(crate) struct Project {
    pub(crate) description: String,
    pub(crate) config: ConfigMap,
    pub(crate) images: BTreeMap<String, Image>,
    /// Fingerprint by alias.
    pub(crate) aliases: BTreeMap<String, String>,
    pub(crate) profiles: BTreeMap<String, Profile>,
    pub(crate) instances: BTreeMap<String, Arc<Instance>>,
    pub(crate) networks: BTreeMap<String, ConfigMap>,
    /// Custom volumes of the pool.
    pub(crate) volumes: BTreeMap<String, ConfigMap>,
}

#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) size: u64,
    pub(crate) kind: Kind,
    pub(crate) uploaded: jiff::Timestamp,
    /// As the server names it, for example `x86_64`.
    pub(crate) architecture: String,
    pub(crate) properties: ConfigMap,
}

impl Image {
    /// An image for machines like this one.
    pub(crate) fn new(size: u64, kind: Kind) -> Self {
        Self {
            size,
            kind,
            uploaded: jiff::Timestamp::now(),
            architecture: std::env::consts::ARCH.into(),
            properties: ConfigMap::new(),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Profile {
    pub(crate) description: String,
    pub(crate) devices: DeviceMap,
}

impl Model {
    /// A server with the project `default`, which has images with these aliases, a bridge, and a profile with a root disk and a
    /// NIC.
    pub(crate) fn new(images: &[String]) -> Self {
        let features = ["images", "networks", "profiles", "storage.volumes"];
        let mut default = Project {
            description: "Default LXD project".into(),
            config: features.iter().map(|f| (format!("features.{f}"), "true".into())).collect(),
            ..Project::default()
        };
        for alias in images {
            default.add_image(alias);
        }
        let map = |pairs: &[(&str, &str)]| -> ConfigMap {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let root = map(&[("type", "disk"), ("pool", POOL), ("path", "/")]);
        let nic = map(&[("type", "nic"), ("name", "eth0"), ("network", BRIDGE)]);
        let devices = [("root".into(), root), ("eth0".into(), nic)].into();
        let profile = Profile { description: "Default LXD profile".into(), devices };
        default.profiles.insert("default".into(), profile);
        default.networks.insert(BRIDGE.into(), map(&BRIDGE_CONFIG));
        let projects = [("default".to_owned(), default)].into();
        Self {
            trusted: BTreeMap::new(),
            tokens: HashMap::new(),
            projects,
            pool_driver: POOL_DRIVER.to_owned(),
            acls: [(ACL.to_owned(), Vec::new())].into(),
        }
    }

    /// The project whose images, profiles and so on this project uses: itself or `default`.
    pub(crate) fn owner_of<'a>(&self, feature: &str, project: &'a str) -> &'a str {
        match self.projects.get(project) {
            Some(p) if !p.has_own(feature) => "default",
            _ => project,
        }
    }

    pub(crate) fn owner(&self, feature: &str, project: &str) -> Option<&Project> {
        self.projects.get(self.owner_of(feature, project))
    }

    pub(crate) fn owner_mut(&mut self, feature: &str, project: &str) -> Option<&mut Project> {
        let owner = self.owner_of(feature, project).to_owned();
        self.projects.get_mut(&owner)
    }
}

impl Project {
    /// A project with the server's defaults for keys that `config` lacks.
    pub(crate) fn new(description: String, mut config: ConfigMap) -> Self {
        for feature in ["images", "profiles", "storage.volumes"] {
            config.entry(format!("features.{feature}")).or_insert_with(|| "true".into());
        }
        let mut project = Self { description, config, ..Self::default() };
        project.settle_profiles();
        project
    }

    pub(crate) fn add_image(&mut self, alias: &str) {
        let fingerprint = crate::tls::fingerprint(alias.as_bytes());
        self.images.insert(fingerprint.clone(), Image::new(1 << 20, Kind::Container));
        self.aliases.insert(alias.to_owned(), fingerprint);
    }

    pub(crate) fn has_own(&self, feature: &str) -> bool {
        self.config.get(&format!("features.{feature}")).is_some_and(|v| v == "true")
    }

    /// Adds the empty profile `default` to a project with its own profiles.
    pub(crate) fn settle_profiles(&mut self) {
        if self.has_own("profiles") {
            let description = "Default LXD profile".to_owned();
            let empty = Profile { description, ..Profile::default() };
            self.profiles.entry("default".into()).or_insert(empty);
        } else {
            self.profiles.clear();
        }
    }

    /// Returns whether it contains nothing except its `default` profile.
    pub(crate) fn is_empty(&self) -> bool {
        self.instances.is_empty()
            && self.images.is_empty()
            && self.networks.is_empty()
            && self.volumes.is_empty()
            && self.profiles.keys().all(|p| p == "default")
    }

    pub(crate) fn render(&self, name: &str) -> Value {
        let suffix = if name == "default" { String::new() } else { format!("?project={name}") };
        let list = |kind: &str, names: Vec<&String>| -> Vec<String> {
            names.into_iter().map(|n| format!("/1.0/{kind}/{n}{suffix}")).collect()
        };
        let used_by = [
            list("instances", self.instances.keys().collect()),
            list("images", self.images.keys().collect()),
            list("profiles", self.profiles.keys().collect()),
            list("networks", self.networks.keys().collect()),
            list(&format!("storage-pools/{POOL}/volumes/custom"), self.volumes.keys().collect()),
        ];
        json!({"name": name, "description": self.description, "config": self.config, "used_by": used_by.concat()})
    }

    /// The `ETag` for updates, over everything that an update can change.
    pub(crate) fn etag(&self) -> String {
        let content = json!([self.description, self.config]).to_string();
        crate::tls::fingerprint(content.as_bytes())
    }
}

impl Image {
    pub(crate) fn render(&self, fingerprint: &str, aliases: &BTreeMap<String, String>) -> Value {
        let aliases = aliases.iter().filter(|(_, target)| *target == fingerprint);
        let aliases: Vec<_> = aliases.map(|(name, _)| json!({"name": name, "description": ""})).collect();
        json!({
            "fingerprint": fingerprint, "aliases": aliases, "size": self.size, "type": self.kind,
            "architecture": self.architecture, "public": false, "uploaded_at": self.uploaded,
            "properties": self.properties,
            // Servers write it for images that they have downloaded only.
            "last_used_at": NEVER,
        })
    }
}

impl Model {
    /// The devices from an instance's profiles, or the name of the first missing profile.
    pub(crate) fn inherited_devices(&self, project: &str, profiles: &[String]) -> Result<DeviceMap, String> {
        let owner = self.owner("profiles", project);
        let mut devices = DeviceMap::new();
        for name in profiles {
            let profile = owner.and_then(|owner| owner.profiles.get(name)).ok_or_else(|| name.clone())?;
            devices.extend(profile.devices.clone());
        }
        Ok(devices)
    }

    /// All devices of an instance: its own, and those of its profiles that they do not override.
    pub(crate) fn expanded_devices(&self, project: &str, settings: &Settings) -> Result<DeviceMap, String> {
        let mut devices = self.inherited_devices(project, &settings.profiles)?;
        devices.extend(settings.devices.clone());
        Ok(devices)
    }

    /// An instance in the API's format.
    pub(crate) fn render_instance(&self, instance: &Instance) -> Value {
        let settings = instance.settings();
        let config = instance.config();
        let (status, code) = if instance.is_running() { ("Running", 103) } else { ("Stopped", 102) };
        // Profiles in use cannot be deleted.
        let expanded = self.expanded_devices(&instance.project, &settings).unwrap_or_default();
        json!({
            "name": instance.name, "project": instance.project, "type": instance.kind,
            "status": status, "status_code": code, "created_at": instance.created, "location": instance.member().name,
            "architecture": instance.architecture, "ephemeral": false, "stateful": false,
            "config": config, "devices": settings.devices, "profiles": settings.profiles,
            "description": settings.description, "expanded_config": config, "expanded_devices": expanded,
        })
    }

    /// An instance whose member does not answer, in the API's format.
    pub(crate) fn render_unavailable(instance: &Instance) -> Value {
        json!({
            "name": instance.name, "project": instance.project, "type": "",
            "status": "Error", "status_code": 400, "created_at": "0001-01-01T00:00:00Z",
            "last_used_at": "0001-01-01T00:00:00Z", "location": instance.member().name,
            "architecture": "", "ephemeral": false, "stateful": false, "config": null, "devices": null,
            "profiles": null, "description": "",
        })
    }
}
