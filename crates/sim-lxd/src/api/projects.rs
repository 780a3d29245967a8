//! Projects.

use axum::{
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Ctx, Params, Refusal, Shared, created, not_found, ok, ok_with_etag, parse, refuse};
use crate::{instance::ConfigMap, model::Project, proxy};

/// Prefixes of projects' configuration keys.
const KEYS: [&str; 4] = ["features.", "limits.", "restricted", "user."];

pub(super) async fn list(State(shared): Ctx, Query(params): Query<Params>) -> Answer {
    let model = shared.model();
    let projects = model.projects.iter().map(|(name, project)| (name.clone(), project.render(name)));
    Params { project: "default".into(), ..params }.list("projects", projects.collect())
}

#[derive(Deserialize)]
struct New {
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    config: ConfigMap,
}

pub(super) async fn create(State(shared): Ctx, body: Bytes) -> Answer {
    let New { name, description, config } = parse(&body)?;
    let text = match name.as_str() {
        "" => Some("No name provided"),
        "*" | "." | ".." => Some("Invalid project name"),
        _ if name.contains('/') => Some("Project names may not contain slashes"),
        _ => None,
    };
    if let Some(text) = text {
        return refuse(StatusCode::BAD_REQUEST, text);
    }
    check_keys(&config)?;
    let mut model = shared.model();
    if model.projects.contains_key(&name) {
        let text = format!(
            "Failed creating project {name:?}: Failed adding database record: This \"projects\" entry already exists"
        );
        return refuse(StatusCode::CONFLICT, text);
    }
    model.projects.insert(name.clone(), Project::new(description, config));
    created(format!("/1.0/projects/{name}"))
}

pub(super) async fn read(State(shared): Ctx, Path(name): Path<String>) -> Answer {
    match shared.model().projects.get(&name) {
        Some(project) => ok_with_etag(project.render(&name), &project.etag()),
        None => not_found("Project not found"),
    }
}

#[derive(Deserialize)]
struct Update {
    description: Option<String>,
    #[serde(default)]
    config: ConfigMap,
}

pub(super) async fn put(
    State(shared): Ctx,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let update: Update = parse(&body)?;
    let description = update.description.unwrap_or_default();
    change(&shared, &name, &headers, Update { description: Some(description), ..update })
}

/// As in LXD 5.0 this replaces the configuration; only the description can be left out.
pub(super) async fn patch(
    State(shared): Ctx,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    change(&shared, &name, &headers, parse(&body)?)
}

fn change(shared: &Shared, name: &str, headers: &HeaderMap, update: Update) -> Answer {
    let mut model = shared.model();
    let Some(project) = model.projects.get_mut(name) else { return not_found("Project not found") };
    if let Some(wanted) = headers.get(header::IF_MATCH) {
        let (wanted, etag) = (wanted.to_str().unwrap_or_default().trim_matches('"'), project.etag());
        if wanted != etag {
            let text = format!("ETag doesn't match: {etag} vs {wanted}");
            return refuse(StatusCode::PRECONDITION_FAILED, text);
        }
    }
    check_keys(&update.config)?;
    let features = |config: &ConfigMap| -> ConfigMap {
        let on = config.iter().filter(|(key, value)| key.starts_with("features.") && *value == "true");
        on.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    if features(&update.config) != features(&project.config) && !project.is_empty() {
        return refuse(StatusCode::BAD_REQUEST, "Features can only be changed on empty projects");
    }
    project.config = update.config;
    if let Some(description) = update.description {
        project.description = description;
    }
    project.settle_profiles();
    ok(json!({}))
}

pub(super) async fn delete(State(shared): Ctx, Path(name): Path<String>) -> Answer {
    let mut model = shared.model();
    if name == "default" {
        return refuse(StatusCode::FORBIDDEN, "The 'default' project cannot be deleted");
    }
    let Some(project) = model.projects.get(&name) else {
        return not_found(&format!("Fetch project {name:?}: Project not found"));
    };
    if !project.is_empty() {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Only empty projects can be removed");
    }
    model.projects.remove(&name);
    ok(json!({}))
}

fn check_keys(config: &ConfigMap) -> Result<(), Refusal> {
    let is = |key: &str, wanted: bool| config.get(key).is_some_and(|value| proxy::is_true(value) == wanted);
    if is("restricted", true) && is("features.profiles", false) {
        let text = "Projects without their own profiles cannot be restricted";
        return refuse(StatusCode::BAD_REQUEST, text);
    }
    match config.keys().find(|key| !KEYS.iter().any(|start| key.starts_with(start))) {
        Some(key) => refuse(StatusCode::BAD_REQUEST, format!("Invalid project configuration key {key:?}")),
        None => Ok(()),
    }
}
