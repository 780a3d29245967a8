//! Instances and their state.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, At, Ctx, Entry, Params, Refusal, Shared, accepted, images, not_found, ok, ok_with_etag, parse,
    refuse,
};
use crate::{
    instance::{ConfigMap, DeviceMap, Instance, Settings, Spec},
    member::Member,
    model::Model,
    operations::{CREATING, OperationFault, SERVING},
    remote::Server,
    rules::{Kind, Subject, When},
};

/// Time-out of a clean stop, unless the caller gives one.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
pub(super) struct Listing {
    #[serde(default, rename = "all-projects")]
    all_projects: bool,
    project: Option<String>,
    #[serde(default)]
    recursion: u8,
}

pub(super) async fn list(
    State(shared): Ctx,
    Extension(Entry(entry)): Extension<Entry>,
    Query(listing): Query<Listing>,
) -> Answer {
    let Listing { all_projects, project, recursion } = listing;
    if all_projects && project.is_some() {
        let text = "Cannot specify a project when requesting all projects";
        return refuse(StatusCode::BAD_REQUEST, text);
    }
    let project = project.unwrap_or_else(|| "default".into());
    let model = shared.model();
    // For a project that does not exist, LXD returns an empty list, too.
    let projects = model.projects.iter().filter(|(name, _)| all_projects || **name == project);
    let instances = projects.flat_map(|(_, p)| p.instances.values()).map(|instance| {
        let member = instance.member();
        if recursion == 0 {
            let suffix = if instance.project == "default" {
                String::new()
            } else {
                format!("?project={}", instance.project)
            };
            json!(format!("/1.0/instances/{}{suffix}", instance.name))
        } else if member.name == entry.name || member.is_alive() {
            model.render_instance(instance)
        } else {
            Model::render_unavailable(instance)
        }
    });
    ok(instances.collect::<Vec<_>>())
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
    let instance = find(&shared, &params.project, &name)?;
    let rendered = shared.model().render_instance(&instance);
    ok_with_etag(rendered, &etag(&instance.settings()))
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

pub(super) async fn create(
    State(shared): Ctx,
    Extension(At(member)): Extension<At>,
    Query(params): Query<Params>,
    body: Bytes,
) -> Answer {
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
        "" | "container" => Kind::Container,
        "virtual-machine" => Kind::VirtualMachine,
        _ => return refuse(StatusCode::BAD_REQUEST, "Invalid instance type"),
    };
    let fingerprint = match (source.r#type.as_str(), source.alias, source.fingerprint) {
        ("none", _, _) => None,
        ("image", Some(alias), _) => match images::alias(&shared, &project, &alias) {
            Some(fingerprint) => Some(fingerprint),
            None => return not_found("Image alias not found"),
        },
        ("image", None, Some(fingerprint)) => Some(fingerprint),
        _ => return refuse(StatusCode::BAD_REQUEST, "Invalid source"),
    };
    let architecture = match &fingerprint {
        None => member.state().machine.architecture.clone(),
        Some(fingerprint) => {
            let model = shared.model();
            match model.owner("images", &project).and_then(|owner| owner.images.get(fingerprint)) {
                Some(image) => image.architecture.clone(),
                None => return not_found("Image not found"),
            }
        }
    };
    // Incus creates it, and refuses to start it.
    if member.state().evacuated && shared.server == Server::Lxd {
        return refuse(StatusCode::FORBIDDEN, "Cluster member is evacuated");
    }
    let profiles = profiles.unwrap_or_else(|| vec!["default".into()]);
    let settings = Settings { config, devices, profiles, description: String::new() };
    if let Err(missing) = shared.model().inherited_devices(&project, &settings.profiles) {
        let text = format!("Requested profile {missing:?} doesn't exist");
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, text);
    }
    if let Err(text) = check(&shared, (&project, &name, kind), &member, &settings, &[When::Request]) {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, text);
    }
    let spec = Spec { name, project, kind, settings, architecture, image: fingerprint };
    let resources = json!({"instances": [format!("/1.0/instances/{}", spec.name)]});
    let work = {
        let shared = shared.clone();
        let stops_halfway =
            SERVING.try_with(|serving| matches!(serving.spoiled, Some(OperationFault::HalfMade)));
        async move {
            let faults = member.faults.clone();
            let mut cleared = std::pin::pin!(faults.cleared());
            // From here on no clearing is missed.
            if futures_util::poll!(&mut cleared).is_ready() {
                return Err("The faults were cleared".into());
            }
            let instance = create_now(&shared, spec, member)
                .map_err(|e| format!("Failed creating instance record: {e}"))?;
            if stops_halfway == Ok(true) {
                instance.set_half_made(true);
                cleared.await;
                instance.set_half_made(false);
            }
            Ok(Value::Null)
        }
    };
    accepted(&shared.operations.start(CREATING, resources, work))
}

fn create_now(shared: &Shared, spec: Spec, member: Arc<Member>) -> Result<Arc<Instance>, String> {
    if spec.architecture != member.state().machine.architecture {
        return Err("Requested architecture isn't supported by this host".into());
    }
    check(shared, (&spec.project, &spec.name, spec.kind), &member, &spec.settings, &[When::Creation])?;
    let mut model = shared.model();
    let project = model.projects.get_mut(&spec.project).ok_or("Failed loading project: Project not found")?;
    if project.instances.contains_key(&spec.name) {
        return Err("Add instance info to the database: This \"instances\" entry already exists".into());
    }
    let name = spec.name.clone();
    let instance = Instance::create(spec, member, shared.ground.clone()).map_err(|e| e.to_string())?;
    let instance = Arc::new(instance);
    project.instances.insert(name, Arc::clone(&instance));
    Ok(instance)
}

/// Checks an instance against the rules of a moment.
fn check(
    shared: &Shared,
    (project, name, kind): (&str, &str, Kind),
    member: &Member,
    settings: &Settings,
    moments: &[When],
) -> Result<(), String> {
    let model = shared.model();
    let expanded = model.expanded_devices(project, settings);
    let expanded = expanded.map_err(|name| format!("Requested profile {name:?} doesn't exist"))?;
    let is_other = |i: &&Arc<Instance>| (i.project.as_str(), i.name.as_str()) != (project, name);
    let neighbours: Vec<_> = model
        .projects
        .values()
        .flat_map(|p| p.instances.values())
        .filter(|i| is_other(i) && i.member().name == member.name)
        .map(|i| (i.name.clone(), model.expanded_devices(&i.project, &i.settings()).unwrap_or_default()))
        .collect();
    let (no_config, no_networks) = (ConfigMap::new(), BTreeMap::new());
    let subject = Subject {
        server: shared.server,
        virtual_machines: shared.virtual_machines,
        kind,
        name,
        project,
        project_config: model.projects.get(project).map_or(&no_config, |p| &p.config),
        config: &settings.config,
        devices: &settings.devices,
        expanded: &expanded,
        networks: model.owner("networks", project).map_or(&no_networks, |owner| &owner.networks),
        neighbours: &neighbours,
    };
    subject.refusal(moments).map_or(Ok(()), Err)
}

#[derive(Deserialize)]
struct Change {
    config: Option<ConfigMap>,
    devices: Option<DeviceMap>,
    profiles: Option<Vec<String>>,
    description: Option<String>,
}

/// The `ETag` for updates, over everything that an update can change.
fn etag(settings: &Settings) -> String {
    crate::tls::fingerprint(json!(settings).to_string().as_bytes())
}

/// Replaces all settings.
pub(super) async fn put(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let Change { config, devices, profiles, description } = parse(&body)?;
    let instance = find(&shared, &params.project, &name)?;
    check_etag(&headers, &instance)?;
    let settings = Settings {
        config: own_keys(config.unwrap_or_default()),
        devices: devices.unwrap_or_default(),
        profiles: profiles.unwrap_or_default(),
        description: description.unwrap_or_default(),
    };
    let resources = json!({"instances": [format!("/1.0/instances/{name}")]});
    let work = {
        let shared = shared.clone();
        async move { update(&shared, &instance, settings).await.map(|()| Value::Null) }
    };
    accepted(&shared.operations.start("Updating instance", resources, work))
}

/// Changes the given keys and devices and leaves the others, but removes the description if none is given.
pub(super) async fn patch(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let Change { config, devices, profiles, description } = parse(&body)?;
    let instance = find(&shared, &params.project, &name)?;
    check_etag(&headers, &instance)?;
    let mut settings = instance.settings();
    settings.config.extend(own_keys(config.unwrap_or_default()));
    settings.devices.extend(devices.unwrap_or_default());
    settings.profiles = profiles.unwrap_or(settings.profiles);
    settings.description = description.unwrap_or_default();
    match update(&shared, &instance, settings).await {
        Ok(()) => ok(json!({})),
        Err(text) => refuse(StatusCode::INTERNAL_SERVER_ERROR, text),
    }
}

/// The configuration without the server's own keys.
fn own_keys(mut config: ConfigMap) -> ConfigMap {
    config.retain(|key, _| !key.starts_with("volatile."));
    config
}

fn check_etag(headers: &HeaderMap, instance: &Instance) -> Result<(), Refusal> {
    let Some(wanted) = headers.get(header::IF_MATCH) else { return Ok(()) };
    let (wanted, etag) = (wanted.to_str().unwrap_or_default().trim_matches('"'), etag(&instance.settings()));
    if wanted == etag {
        return Ok(());
    }
    refuse(StatusCode::PRECONDITION_FAILED, format!("ETag doesn't match: {etag} vs {wanted}"))
}

async fn update(shared: &Shared, instance: &Arc<Instance>, settings: Settings) -> Result<(), String> {
    let (whose, member) =
        ((instance.project.as_str(), instance.name.as_str(), instance.kind), instance.member());
    let mut moments = vec![When::Request, When::Creation, When::StartOrChange];
    if instance.is_running() {
        moments.push(When::Start);
    }
    check(shared, whose, &member, &settings, &moments)?;
    let start = shared.start_of(instance, &settings)?;
    instance.update(settings, &start).await
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
            check_idle(&shared, &instance)?;
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

/// Refuses to work on an instance that is being created: `operationlock.go`, `CreateWaitGet`.
fn check_idle(shared: &Shared, instance: &Instance) -> Result<(), String> {
    let busy = shared.operations.creates(&instance.name);
    if busy { Err("Instance is busy running a \"create\" operation".into()) } else { Ok(()) }
}

/// Starts an instance, unless a rule or a port in use prevents it.
pub(crate) async fn start(shared: &Shared, instance: &Arc<Instance>) -> Result<(), String> {
    let settings = instance.settings();
    check_idle(shared, instance)?;
    if !instance.is_running() {
        let whose = (instance.project.as_str(), instance.name.as_str(), instance.kind);
        check(shared, whose, &instance.member(), &settings, &[When::StartOrChange, When::Start])?;
    }
    let start = shared.start_of(instance, &settings)?;
    instance.start(&start).await
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
    Extension(At(member)): Extension<At>,
    Query(params): Query<Params>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let NewState { action, timeout, force } = parse(&body)?;
    let instance = find(&shared, &params.project, &name)?;
    let resources = json!({"instances": [format!("/1.0/instances/{name}")]});
    if member.state().evacuated && action != "stop" {
        return refuse(StatusCode::FORBIDDEN, "Cluster member is evacuated");
    }
    let operation = match action.as_str() {
        "start" => {
            let work = {
                let shared = shared.clone();
                async move { start(&shared, &instance).await.map(|()| Value::Null) }
            };
            shared.operations.start("Starting instance", resources, work)
        }
        "stop" => shared.operations.start("Stopping instance", resources, async move {
            let grace = match timeout.try_into() {
                _ if force => Duration::ZERO,
                Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
                _ => STOP_TIMEOUT,
            };
            instance.stop(grace).await.map(|()| Value::Null)
        }),
        _ => return refuse(StatusCode::BAD_REQUEST, format!("Unknown action: '{action}'")),
    };
    accepted(&operation)
}
