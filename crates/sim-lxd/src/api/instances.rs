//! Instances and their state.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Ctx, Params, Refusal, Shared, accepted, images, not_found, ok, parse, refuse};
use crate::{
    instance::{ConfigMap, DeviceMap, Instance, Spec},
    model::POOL,
    proxy,
};

/// The beginnings of the configuration keys that instances have.
const KEYS: [&str; 15] = [
    "agent.",
    "boot.",
    "cloud-init.",
    "cluster.",
    "environment.",
    "image.",
    "limits.",
    "linux.",
    "migration.",
    "nvidia.",
    "raw.",
    "security.",
    "snapshots.",
    "user.",
    "volatile.",
];

/// How long a clean stop may take if the caller does not say.
const STOP: Duration = Duration::from_secs(30);

pub(super) async fn list(State(shared): Ctx, Query(params): Query<Params>) -> Answer {
    let model = shared.model();
    // Of a project that does not exist LXD says, too, that it has none.
    let instances = model.projects.get(&params.project).map(|p| &p.instances).into_iter().flatten();
    params.list("instances", instances.map(|(name, i)| (name.clone(), i.render())).collect())
}

fn find(shared: &Shared, project: &str, name: &str) -> Result<Arc<Instance>, Refusal> {
    let model = shared.model();
    let instance = model.projects.get(project).and_then(|p| p.instances.get(name)).cloned();
    instance.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "Instance not found".into()))
}

pub(super) async fn read(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
) -> Answer {
    ok(find(&shared, &params.project, &name)?.render())
}

#[derive(Deserialize)]
struct New {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    config: ConfigMap,
    #[serde(default)]
    devices: DeviceMap,
    profiles: Option<Vec<String>>,
    source: Source,
}

#[derive(Deserialize)]
struct Source {
    r#type: String,
    alias: Option<String>,
    fingerprint: Option<String>,
}

pub(super) async fn create(State(shared): Ctx, Query(params): Query<Params>, body: Bytes) -> Answer {
    let New { name, kind, config, devices, profiles, source } = parse(&body)?;
    let project = params.project;
    if !shared.model().projects.contains_key(&project) {
        return not_found("Failed loading project: Project not found");
    }
    if name.is_empty() || name.chars().any(|c| !c.is_ascii_alphanumeric() && c != '-') {
        let text = "Invalid instance name: Name can only contain alphanumeric and hyphen characters";
        return refuse(StatusCode::BAD_REQUEST, text);
    }
    let kind = match kind.as_str() {
        "" | "container" => "container",
        "virtual-machine" => "virtual-machine",
        _ => return refuse(StatusCode::BAD_REQUEST, "Invalid instance type"),
    };
    let has_image = match (source.r#type.as_str(), source.alias, source.fingerprint) {
        ("none", _, _) => false,
        ("image", Some(alias), _) => match images::alias(&shared, &project, &alias) {
            Some(_) => true,
            None => return not_found("Image alias not found"),
        },
        ("image", None, Some(fingerprint)) => {
            let model = shared.model();
            match model.owner("images", &project).and_then(|owner| owner.images.get(&fingerprint)) {
                Some(_) => true,
                None => return not_found("Image not found"),
            }
        }
        _ => return refuse(StatusCode::BAD_REQUEST, "Invalid source"),
    };
    let profiles = profiles.unwrap_or_else(|| vec!["default".into()]);
    let spec = Spec { name, project, kind, config, devices, profiles, has_image };
    let inherited = inherited_devices(&shared, &spec)?;
    let resources = json!({"instances": [format!("/1.0/instances/{}", spec.name)]});
    let work = {
        let shared = shared.clone();
        async move {
            create_now(&shared, spec, &inherited).map_err(|e| format!("Failed creating instance record: {e}"))
        }
    };
    accepted(&shared.operations.start("Creating instance", resources, work))
}

/// The devices that an instance's profiles give it.
fn inherited_devices(shared: &Shared, spec: &Spec) -> Result<DeviceMap, Refusal> {
    let model = shared.model();
    let owner = model.owner("profiles", &spec.project);
    let mut devices = DeviceMap::new();
    for name in &spec.profiles {
        let Some(profile) = owner.and_then(|owner| owner.profiles.get(name)) else {
            let text = format!("Requested profile {name:?} doesn't exist");
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, text);
        };
        devices.extend(profile.devices.clone());
    }
    Ok(devices)
}

fn create_now(shared: &Shared, spec: Spec, inherited: &DeviceMap) -> Result<Value, String> {
    if let Some(key) = spec.config.keys().find(|key| !KEYS.iter().any(|start| key.starts_with(start))) {
        return Err(format!("Unknown configuration key: {key}"));
    }
    check_devices(&spec.devices, inherited)?;
    let mut model = shared.model();
    let project = model.projects.get_mut(&spec.project).ok_or("Failed loading project: Project not found")?;
    if project.instances.contains_key(&spec.name) {
        return Err("Add instance info to the database: This \"instances\" entry already exists".into());
    }
    let name = spec.name.clone();
    let instance = Instance::create(spec, shared.ground.clone()).map_err(|e| e.to_string())?;
    project.instances.insert(name, Arc::new(instance));
    Ok(Value::Null)
}

fn check_devices(devices: &DeviceMap, inherited: &DeviceMap) -> Result<(), String> {
    let mut pool = None;
    // An instance's own devices hide those of its profiles.
    let hidden = inherited.iter().filter(|(name, _)| !devices.contains_key(*name));
    for (name, device) in hidden.chain(devices) {
        let option = |key: &str| device.get(key).map_or("", String::as_str);
        match option("type") {
            "proxy" => {
                proxy::parse(device).map_err(|e| {
                    format!(
                        "Failed initialising instance: Invalid devices: Device validation failed for {name:?}: {e}"
                    )
                })?;
            }
            "disk" if option("path") == "/" => pool = Some(option("pool").to_owned()),
            "disk" | "none" | "nic" | "unix-char" => {}
            other => return Err(format!("Invalid device type {other}")),
        }
    }
    match pool.as_deref() {
        Some(POOL) => Ok(()),
        Some(_) => {
            Err("Failed initialising instance: Failed loading storage pool: Storage pool not found".into())
        }
        None => {
            Err("Failed initialising instance: Failed getting root disk: No root device could be found"
                .into())
        }
    }
}

pub(super) async fn delete(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
) -> Answer {
    let instance = find(&shared, &params.project, &name)?;
    if instance.is_running() {
        return refuse(StatusCode::BAD_REQUEST, "Instance is running");
    }
    let resources = json!({"instances": [format!("/1.0/instances/{name}")]});
    let work = {
        let shared = shared.clone();
        async move {
            if instance.is_running() {
                return Err("Instance is running".into());
            }
            if let Some(project) = shared.model().projects.get_mut(&params.project) {
                project.instances.remove(&name);
            }
            instance.remove().map(|()| Value::Null)
        }
    };
    accepted(&shared.operations.start("Deleting instance", resources, work))
}

pub(super) async fn read_state(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
) -> Answer {
    let instance = find(&shared, &params.project, &name)?;
    if !instance.is_running() {
        return ok(json!({
            "status": "Stopped", "status_code": 102, "memory": {"usage": 0}, "network": null, "pid": 0, "processes": 0,
        }));
    }
    let address = |family: &str, address: String, netmask: &str, scope: &str| json!({"family": family, "address": address, "netmask": netmask, "scope": scope});
    ok(json!({
        "status": "Running", "status_code": 103, "memory": {"usage": 1 << 20}, "pid": 1, "processes": instance.processes(),
        "network": {
            "eth0": {"addresses": [address("inet", instance.address.to_string(), "8", "global")], "state": "up"},
            "lo": {"addresses": [address("inet", "127.0.0.1".into(), "8", "local")], "state": "up"},
        },
    }))
}

#[derive(Deserialize)]
struct NewState {
    #[serde(default)]
    action: String,
    #[serde(default)]
    timeout: i64,
    #[serde(default)]
    force: bool,
}

pub(super) async fn put_state(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let NewState { action, timeout, force } = parse(&body)?;
    let instance = find(&shared, &params.project, &name)?;
    let resources = json!({"instances": [format!("/1.0/instances/{name}")]});
    let operation = match action.as_str() {
        "start" => shared.operations.start("Starting instance", resources, async move {
            instance.start().await.map(|()| Value::Null)
        }),
        "stop" => shared.operations.start("Stopping instance", resources, async move {
            let grace = match timeout.try_into() {
                _ if force => Duration::ZERO,
                Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
                _ => STOP,
            };
            instance.stop(grace).await.map(|()| Value::Null)
        }),
        _ => return refuse(StatusCode::BAD_REQUEST, format!("Unknown action: '{action}'")),
    };
    accepted(&operation)
}
