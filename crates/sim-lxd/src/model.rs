//! What is on the remote: clients, projects and what is in them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::instance::{ConfigMap, DeviceMap, Instance};

/// The storage pool that the remote has.
pub(crate) const POOL: &str = "default";

/// All that the API shows and changes.
#[derive(Debug)]
pub(crate) struct Model {
    /// Trusted clients: name by certificate fingerprint.
    pub(crate) trusted: BTreeMap<String, String>,
    /// Tokens not used yet: by secret the client's name and the operation that stands for it.
    pub(crate) tokens: HashMap<String, (String, Uuid)>,
    pub(crate) projects: BTreeMap<String, Project>,
    /// Of the machine, and of each member's in a cluster: total and used, in bytes.
    pub(crate) memory: (u64, u64),
    /// Cluster members, and whether each is online; none on a single server.
    pub(crate) members: BTreeMap<String, bool>,
}

/// Enough for whatever a test does not ask about: what runs in instances here takes no memory worth counting.
const MEMORY: (u64, u64) = (1 << 40, 2 << 30);

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
    /// Custom volumes of the one pool.
    pub(crate) volumes: BTreeMap<String, ConfigMap>,
}

#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) size: u64,
    pub(crate) uploaded: jiff::Timestamp,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Profile {
    pub(crate) description: String,
    pub(crate) devices: DeviceMap,
}

impl Model {
    /// A server with its project `default`, in it these images (fingerprint by alias) and a profile with a root disk.
    pub(crate) fn new(images: &[String], members: &[String]) -> Self {
        let features = ["images", "networks", "profiles", "storage.volumes"];
        let mut default = Project {
            description: "Default LXD project".into(),
            config: features.iter().map(|f| (format!("features.{f}"), "true".into())).collect(),
            ..Project::default()
        };
        for alias in images {
            default.add_image(alias);
        }
        let root = [("type", "disk"), ("pool", POOL), ("path", "/")];
        let root = root.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let profile =
            Profile { description: "Default LXD profile".into(), devices: [("root".into(), root)].into() };
        default.profiles.insert("default".into(), profile);
        let projects = [("default".to_owned(), default)].into();
        let members = members.iter().map(|name| (name.clone(), true)).collect();
        Self { trusted: BTreeMap::new(), tokens: HashMap::new(), projects, memory: MEMORY, members }
    }

    /// The project that holds this project's images, profiles and so on: itself or `default`.
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
    /// A project with the server's defaults for what `config` does not say.
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
        let image = Image { size: 1 << 20, uploaded: jiff::Timestamp::now() };
        self.images.insert(fingerprint.clone(), image);
        self.aliases.insert(alias.to_owned(), fingerprint);
    }

    pub(crate) fn has_own(&self, feature: &str) -> bool {
        self.config.get(&format!("features.{feature}")).is_some_and(|v| v == "true")
    }

    /// A project with profiles of its own always has one named `default`, which starts out empty.
    pub(crate) fn settle_profiles(&mut self) {
        if self.has_own("profiles") {
            let description = "Default LXD profile".to_owned();
            let empty = Profile { description, ..Profile::default() };
            self.profiles.entry("default".into()).or_insert(empty);
        } else {
            self.profiles.clear();
        }
    }

    /// Whether there is nothing in it but its `default` profile.
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

    /// What an update must match: all that an update can change.
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
            "fingerprint": fingerprint, "aliases": aliases, "size": self.size, "type": "container",
            "architecture": std::env::consts::ARCH, "public": false, "uploaded_at": self.uploaded,
        })
    }
}

impl Instance {
    pub(crate) fn render(&self) -> Value {
        let (status, code) = if self.is_running() { ("Running", 103) } else { ("Stopped", 102) };
        let mut rendered = json!(self.spec);
        let more = json!({
            "status": status, "status_code": code, "created_at": self.created, "location": "none",
            "architecture": std::env::consts::ARCH, "ephemeral": false, "stateful": false, "description": "",
            "expanded_config": self.spec.config, "expanded_devices": self.spec.devices,
        });
        if let (Value::Object(rendered), Value::Object(more)) = (&mut rendered, more) {
            rendered.remove("has_image");
            rendered.extend(more);
        }
        rendered
    }
}
