//! Profiles, networks and custom volumes, mainly as names that prevent a project from being deleted.

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, At, Ctx, Params, Shared, created, not_found, ok, parse, refuse};
use crate::{
    instance::{ConfigMap, DeviceMap},
    model::{POOL, Profile, Project},
};

#[derive(Deserialize)]
struct New {
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    config: ConfigMap,
    #[serde(default)]
    devices: DeviceMap,
}

/// Adds an object of a kind to the project that holds them.
fn add(
    shared: &Shared,
    project: &str,
    (feature, noun): (&str, &str),
    name: &str,
    location: String,
    insert: impl FnOnce(&mut Project) -> bool,
) -> Answer {
    if name.is_empty() || name.contains('/') {
        return refuse(StatusCode::BAD_REQUEST, format!("Invalid {noun} name"));
    }
    let mut model = shared.model();
    let Some(owner) = model.owner_mut(feature, project) else { return not_found("Project not found") };
    if insert(owner) {
        created(location)
    } else {
        refuse(StatusCode::CONFLICT, format!("The {noun} already exists"))
    }
}

/// Inserts an object if the name is free.
fn put<T>(all: &mut std::collections::BTreeMap<String, T>, name: String, value: T) -> bool {
    let new = !all.contains_key(&name);
    if new {
        all.insert(name, value);
    }
    new
}

fn render(name: &str, kind: &str, config: &ConfigMap) -> Value {
    json!({"name": name, "type": kind, "managed": true, "description": "", "config": config, "used_by": []})
}

fn render_network(shared: &Shared, name: &str, config: &ConfigMap) -> Value {
    let mut network = render(name, "bridge", config);
    network["status"] = json!("Created");
    network["locations"] = locations(shared);
    network
}

fn locations(shared: &Shared) -> Value {
    shared.members.iter().map(|m| m.name.clone()).collect()
}

fn render_profile(name: &str, profile: &Profile) -> Value {
    json!({
        "name": name, "description": profile.description, "config": {}, "devices": profile.devices, "used_by": [],
    })
}

pub(super) async fn list_profiles(State(shared): Ctx, Query(params): Query<Params>) -> Answer {
    let model = shared.model();
    let Some(owner) = model.owner("profiles", &params.project) else { return ok(json!([])) };
    let profiles = owner.profiles.iter().map(|(name, profile)| (name.clone(), render_profile(name, profile)));
    params.list("profiles", profiles.collect())
}

pub(super) async fn read_profile(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
) -> Answer {
    let model = shared.model();
    match model.owner("profiles", &params.project).and_then(|owner| owner.profiles.get(&name)) {
        Some(profile) => ok(render_profile(&name, profile)),
        None => not_found("Profile not found"),
    }
}

pub(super) async fn create_profile(State(shared): Ctx, Query(params): Query<Params>, body: Bytes) -> Answer {
    let New { name, description, devices, .. } = parse(&body)?;
    let location = format!("/1.0/profiles/{name}");
    add(&shared, &params.project, ("profiles", "profile"), &name.clone(), location, |owner| {
        put(&mut owner.profiles, name, Profile { description, devices })
    })
}

pub(super) async fn delete_profile(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
) -> Answer {
    if name == "default" {
        return refuse(StatusCode::FORBIDDEN, "The \"default\" profile cannot be deleted");
    }
    let mut model = shared.model();
    match model.owner_mut("profiles", &params.project).and_then(|owner| owner.profiles.remove(&name)) {
        Some(_) => ok(json!({})),
        None => not_found("Profile not found"),
    }
}

pub(super) async fn list_networks(State(shared): Ctx, Query(params): Query<Params>) -> Answer {
    let model = shared.model();
    let Some(owner) = model.owner("networks", &params.project) else { return ok(json!([])) };
    let networks =
        owner.networks.iter().map(|(name, config)| (name.clone(), render_network(&shared, name, config)));
    params.list("networks", networks.collect())
}

pub(super) async fn read_network(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
) -> Answer {
    let model = shared.model();
    match model.owner("networks", &params.project).and_then(|owner| owner.networks.get(&name)) {
        Some(config) => ok(render_network(&shared, &name, config)),
        None => not_found("Network not found"),
    }
}

/// Changes the given keys of a network's configuration and leaves the others.
pub(super) async fn patch_network(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let New { config, .. } = parse(&body)?;
    let mut model = shared.model();
    match model.owner_mut("networks", &params.project).and_then(|owner| owner.networks.get_mut(&name)) {
        Some(network) => network.extend(config),
        None => return not_found("Network not found"),
    }
    ok(json!({}))
}

fn render_pool(shared: &Shared) -> Value {
    json!({
        "name": POOL, "driver": shared.model().pool_driver, "description": "", "status": "Created", "config": {}, "used_by": [],
        "locations": locations(shared),
    })
}

pub(super) async fn list_pools(State(shared): Ctx, Query(params): Query<Params>) -> Answer {
    let pools = vec![(POOL.to_owned(), render_pool(&shared))];
    Params { project: "default".into(), ..params }.list("storage-pools", pools)
}

pub(super) async fn read_pool(State(shared): Ctx, Path(pool): Path<String>) -> Answer {
    if pool == POOL { ok(render_pool(&shared)) } else { not_found("Storage pool not found") }
}

pub(super) async fn pool_resources(Path(pool): Path<String>, Extension(At(member)): Extension<At>) -> Answer {
    if pool != POOL {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Storage pool not found");
    }
    let (total, used) = member.state().machine.storage;
    ok(json!({"space": {"used": used, "total": total}, "inodes": {"used": 0, "total": 0}}))
}

pub(super) async fn read_acl(State(shared): Ctx, Path(name): Path<String>) -> Answer {
    match shared.model().acls.get(&name) {
        Some(egress) => {
            let rule = |action: &String| json!({"action": action, "state": "enabled"});
            let egress: Vec<_> = egress.iter().map(rule).collect();
            ok(
                json!({"name": name, "description": "", "config": {}, "egress": egress, "ingress": [], "used_by": []}),
            )
        }
        None => not_found("Network ACL not found"),
    }
}

pub(super) async fn create_network(State(shared): Ctx, Query(params): Query<Params>, body: Bytes) -> Answer {
    let New { name, config, .. } = parse(&body)?;
    let location = format!("/1.0/networks/{name}");
    add(&shared, &params.project, ("networks", "network"), &name.clone(), location, |owner| {
        put(&mut owner.networks, name, config)
    })
}

pub(super) async fn delete_network(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
) -> Answer {
    let mut model = shared.model();
    match model.owner_mut("networks", &params.project).and_then(|owner| owner.networks.remove(&name)) {
        Some(_) => ok(json!({})),
        None => not_found("Network not found"),
    }
}

pub(super) async fn list_volumes(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(pool): Path<String>,
) -> Answer {
    if pool != POOL {
        return not_found("Storage pool not found");
    }
    let model = shared.model();
    let Some(owner) = model.owner("storage.volumes", &params.project) else { return ok(json!([])) };
    let volumes = owner.volumes.iter().map(|(name, config)| (name.clone(), render(name, "custom", config)));
    params.list(&format!("storage-pools/{pool}/volumes/custom"), volumes.collect())
}

pub(super) async fn create_volume(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(pool): Path<String>,
    body: Bytes,
) -> Answer {
    if pool != POOL {
        return not_found("Storage pool not found");
    }
    let New { name, config, .. } = parse(&body)?;
    let location = format!("/1.0/storage-pools/{pool}/volumes/custom/{name}");
    add(&shared, &params.project, ("storage.volumes", "volume"), &name.clone(), location, |owner| {
        put(&mut owner.volumes, name, config)
    })
}

pub(super) async fn delete_volume(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path((pool, name)): Path<(String, String)>,
) -> Answer {
    if pool != POOL {
        return not_found("Storage pool not found");
    }
    let mut model = shared.model();
    let owner = model.owner_mut("storage.volumes", &params.project);
    match owner.and_then(|owner| owner.volumes.remove(&name)) {
        Some(_) => ok(json!({})),
        None => not_found("Storage volume not found"),
    }
}
