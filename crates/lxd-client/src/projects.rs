//! Projects, which separate the objects of different owners on a server.

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::json;

use crate::{Client, ConfigMap, ETag, ImageFingerprint, Result, transport::Call};

/// A project.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// `features.…`, `limits.…`, `restricted.…` and `user.…`.
    #[serde(default)]
    pub config: ConfigMap,
    /// API paths of its objects. The project's `default` profile is listed, too, but does not prevent the project from being
    /// deleted.
    #[serde(default)]
    pub used_by: Vec<String>,
    /// The version that was read; `None` in listings.
    #[serde(skip)]
    pub etag: Option<ETag>,
}

/// An object in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// An instance, by name.
    Instance(String),
    /// A profile, by name; `default` is always there.
    Profile(String),
    /// A network, by name.
    Network(String),
    /// A custom storage volume.
    Volume {
        /// The pool that it is in.
        pool: String,
        /// Its name.
        name: String,
    },
    /// An image.
    Image(ImageFingerprint),
    /// Anything else, by its API address.
    Other(String),
}

impl Content {
    /// Reads an address such as `/1.0/storage-pools/default/volumes/custom/data?project=p`.
    fn parse(address: &str) -> Self {
        let path = address.split('?').next().unwrap_or_default();
        let name = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        match path.trim_start_matches('/').split('/').collect::<Vec<_>>()[..] {
            ["1.0", "instances" | "containers" | "virtual-machines", it] => Self::Instance(name(it)),
            ["1.0", "profiles", it] => Self::Profile(name(it)),
            ["1.0", "networks", it] => Self::Network(name(it)),
            ["1.0", "images", it] => Self::Image(ImageFingerprint::from_name(name(it))),
            ["1.0", "storage-pools", pool, "volumes", "custom", it] => {
                Self::Volume { pool: name(pool), name: name(it) }
            }
            _ => Self::Other(address.to_owned()),
        }
    }
}

impl Project {
    /// The project's objects, from [`Project::used_by`].
    pub fn contents(&self) -> Vec<Content> {
        self.used_by.iter().map(|address| Content::parse(address)).collect()
    }

    /// Returns whether the project has its own objects of a kind (`images`, `networks`, `profiles`, `storage.volumes`). If not, listing them
    /// in the project returns those of the project `default`.
    pub fn has_own(&self, feature: &str) -> bool {
        self.config.get(&format!("features.{feature}")).is_some_and(|v| v == "true")
    }
}

impl Client {
    /// Creates a project. Features that are not given have the server's defaults: its own images, profiles and volumes, and the
    /// networks of `default`.
    pub async fn create_project(&self, name: &str, description: &str, config: &ConfigMap) -> Result<()> {
        let body = json!({"name": name, "description": description, "config": config});
        self.transport.send(Call::post(&["projects"], body, format!("create project {name}"))).await.map(drop)
    }

    /// Reads a project, with its `ETag`.
    pub async fn project(&self, name: &str) -> Result<Project> {
        let call = Call::get(&["projects", name], format!("read project {name}"));
        let (project, etag) = self.transport.fetch(call).await?;
        Ok(Project { etag, ..project })
    }

    /// All projects that this client may see.
    pub async fn projects(&self) -> Result<Vec<Project>> {
        let call = Call::get(&["projects"], "list projects").query("recursion", "1");
        Ok(self.transport.fetch(call).await?.0)
    }

    /// Replaces the description and configuration of a project.
    ///
    /// The whole configuration is replaced (LXD 5.0 does so even for a PATCH, features included), so start from the result of
    /// [`Client::project`]. It is a conflict if the project was changed since it was read.
    pub async fn update_project(&self, project: &Project) -> Result<()> {
        let body = json!({"description": project.description, "config": project.config});
        let call = Call::put(&["projects", &project.name], body, format!("update project {}", project.name));
        self.transport.send(call.if_match(project.etag.as_ref())).await.map(drop)
    }

    /// Deletes a project. It is a conflict if the project contains anything except its `default` profile.
    pub async fn delete_project(&self, name: &str) -> Result<()> {
        self.transport
            .send(Call::delete(&["projects", name], format!("delete project {name}")))
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_parsed_by_kind() {
        let table = [
            ("/1.0/instances/lnplay?project=p", Content::Instance("lnplay".into())),
            ("/1.0/profiles/default?project=p", Content::Profile("default".into())),
            ("/1.0/networks/br%C3%BCcke", Content::Network("brücke".into())),
            (
                "/1.0/storage-pools/ssd/volumes/custom/my%20data?project=p",
                Content::Volume { pool: "ssd".into(), name: "my data".into() },
            ),
            ("/1.0/network-acls/a?project=p", Content::Other("/1.0/network-acls/a?project=p".into())),
        ];
        for (address, content) in table {
            assert_eq!(Content::parse(address), content);
        }
    }
}
