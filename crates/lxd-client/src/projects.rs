//! Projects: the walls between what different owners have on one server.

use serde::Deserialize;
use serde_json::json;

use crate::{Client, ConfigMap, ETag, Result, transport::Call};

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
    /// What is in it, as API addresses. The project's own `default` profile is listed too, but does not keep the
    /// project from being deleted.
    #[serde(default)]
    pub used_by: Vec<String>,
    /// The version that was read; `None` in listings.
    #[serde(skip)]
    pub etag: Option<ETag>,
}

impl Project {
    /// Whether the project has objects of a kind (`images`, `networks`, `profiles`, `storage.volumes`) of its own. Where it
    /// does not, listing them in the project shows those of the project `default`.
    pub fn has_own(&self, feature: &str) -> bool {
        self.config.get(&format!("features.{feature}")).is_some_and(|v| v == "true")
    }
}

impl Client {
    /// Creates a project. What is not said about `features.…` is the server's default: own images, profiles and volumes,
    /// the networks of `default`.
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

    /// Writes description and configuration of a project that was read before and changed since.
    ///
    /// The whole configuration is replaced (LXD 5.0 does so even for a PATCH, features included), so start from what
    /// [`Client::project`] gave. If somebody else changed the project meanwhile, this is a conflict.
    pub async fn update_project(&self, project: &Project) -> Result<()> {
        let body = json!({"description": project.description, "config": project.config});
        let call = Call::put(&["projects", &project.name], body, format!("update project {}", project.name));
        self.transport.send(call.if_match(project.etag.as_ref())).await.map(drop)
    }

    /// Deletes a project. It must be empty but for its `default` profile, else this is a conflict.
    pub async fn delete_project(&self, name: &str) -> Result<()> {
        self.transport
            .send(Call::delete(&["projects", name], format!("delete project {name}")))
            .await
            .map(drop)
    }
}
