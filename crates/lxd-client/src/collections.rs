//! Objects that only need to be created, listed and removed, so that a project can be emptied.

use serde::Deserialize;
use serde_json::json;

use crate::{Client, ConfigMap, DeviceMap, Result, transport::Call};

/// A kind of object that a project can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Collection {
    /// Profiles. `default` always exists and cannot be deleted.
    Profiles,
    /// Networks. Also lists interfaces of the machine that the server does not manage.
    Networks,
    /// Custom volumes of a storage pool. The list also contains the instances' volumes.
    StorageVolumes {
        /// The pool's name.
        pool: String,
    },
}

/// An object of a [`Collection`].
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Item {
    /// Its name.
    pub name: String,
    /// For networks `bridge`, `loopback`, …; for volumes `custom`, `container`, ….
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// For networks: whether the server manages it.
    #[serde(default)]
    pub managed: Option<bool>,
    /// Its configuration.
    #[serde(default)]
    pub config: ConfigMap,
    /// API paths of the objects that use it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub used_by: Vec<String>,
}

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct StoragePool {
    /// Its name.
    pub name: String,
    /// Its storage driver: `dir`, `btrfs`, `zfs`, `lvm`, `ceph` and so on.
    pub driver: String,
}

/// An access control list of networks: what is let through. What no rule matches meets the default action of whatever the list is
/// set on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct NetworkAcl {
    /// Its name.
    pub name: String,
    /// For what instances send.
    #[serde(default)]
    pub egress: Vec<AclRule>,
    /// For what comes to instances.
    #[serde(default)]
    pub ingress: Vec<AclRule>,
}

/// A rule of an access control list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct AclRule {
    /// `allow`, `reject` or `drop`; Incus also has `allow-stateless`.
    pub action: String,
    /// `enabled`, `disabled` or `logged`.
    pub state: String,
}

impl Collection {
    fn path(&self) -> Vec<&str> {
        match self {
            Self::Profiles => vec!["profiles"],
            Self::Networks => vec!["networks"],
            Self::StorageVolumes { pool } => vec!["storage-pools", pool, "volumes"],
        }
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::Profiles => "profile",
            Self::Networks => "network",
            Self::StorageVolumes { .. } => "storage volume",
        }
    }
}

impl Client {
    /// The objects of a kind in a project.
    ///
    /// If the project has none of its own ([`crate::Project::has_own`]), the server lists those of the project `default`: do not
    /// delete what such a listing shows.
    pub async fn list(&self, collection: &Collection, project: &str) -> Result<Vec<Item>> {
        let action = format!("list {}s of project {project}", collection.noun());
        let call = Call::get(&collection.path(), action).query("recursion", "1").project(project);
        Ok(self.transport.fetch(call).await?.0)
    }

    /// The devices of a profile of the project `default`.
    pub async fn profile_devices(&self, profile: &str) -> Result<DeviceMap> {
        #[derive(Deserialize)]
        struct Profile {
            #[serde(default)]
            devices: DeviceMap,
        }
        let call = Call::get(&["profiles", profile], format!("read profile {profile}"));
        Ok(self.transport.fetch::<Profile>(call).await?.0.devices)
    }

    /// A network of the project `default`.
    pub async fn network(&self, name: &str) -> Result<Item> {
        let call = Call::get(&["networks", name], format!("read network {name}"));
        Ok(self.transport.fetch(call).await?.0)
    }

    /// Reads a network's access control list, in the project `default`.
    pub async fn network_acl(&self, name: &str) -> Result<NetworkAcl> {
        let call = Call::get(&["network-acls", name], format!("read network ACL {name}"));
        Ok(self.transport.fetch(call).await?.0)
    }

    /// Reads a storage pool.
    pub async fn storage_pool(&self, name: &str) -> Result<StoragePool> {
        let call = Call::get(&["storage-pools", name], format!("read storage pool {name}"));
        Ok(self.transport.fetch(call).await?.0)
    }

    /// Creates an object in a project; volumes are created as custom volumes, networks as bridges.
    pub async fn create(
        &self,
        collection: &Collection,
        project: &str,
        name: &str,
        config: &ConfigMap,
    ) -> Result<()> {
        let mut body = json!({"name": name, "config": config});
        if matches!(collection, Collection::StorageVolumes { .. }) {
            body["type"] = "custom".into();
        }
        let action = format!("create {} {name} in project {project}", collection.noun());
        self.transport.send(Call::post(&collection.path(), body, action).project(project)).await.map(drop)
    }

    /// Deletes an object of a project. Of volumes, only custom ones.
    pub async fn delete(&self, collection: &Collection, project: &str, name: &str) -> Result<()> {
        let mut path = collection.path();
        if matches!(collection, Collection::StorageVolumes { .. }) {
            path.push("custom");
        }
        path.push(name);
        let action = format!("delete {} {name} in project {project}", collection.noun());
        self.transport.send(Call::delete(&path, action).project(project)).await.map(drop)
    }
}

fn null_is_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
