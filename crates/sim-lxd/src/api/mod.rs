//! The REST API: routes, the envelope around answers, and authorisation.
//!
//! Status codes and texts are those of LXD 5.0.2, as seen on a real server; `tests/conformance.rs` checks both against them.

#![expect(
    clippy::unnecessary_wraps,
    reason = "what makes an answer is the last expression of fallible handlers"
)]

mod cluster;
mod forwarding;
mod images;
mod instances;
mod objects;
mod projects;
mod server;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, Path, Query, Request, State},
    http::{HeaderName, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use tokio::sync::watch;

use crate::{
    instance::{Ground, Instance, Settings, Start},
    member::{Member, Status},
    model::Model,
    operations::{Operation, Operations},
    remote::Server,
};

/// The common state of all calls.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) model: Mutex<Model>,
    pub(crate) operations: Operations,
    pub(crate) ground: Arc<Ground>,
    /// Fingerprint of the server's certificate, which all members of a cluster have.
    pub(crate) fingerprint: String,
    /// The members; a single server has one.
    pub(crate) members: Vec<Arc<Member>>,
    pub(crate) clustered: bool,
    pub(crate) server: Server,
    /// True if virtual machines can run here.
    pub(crate) virtual_machines: bool,
    /// Time after its death during which a member is shown as online.
    pub(crate) offline_after: Mutex<Duration>,
    /// Time-out of a member for one that does not answer.
    pub(crate) peer_timeout: Duration,
    /// True if the living members can read and write the database.
    pub(crate) quorum: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn offline_after(&self) -> Duration {
        *self.offline_after.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Arc<Member>> {
        self.members.iter().find(|m| m.name == name)
    }

    /// The status of a member, as seen by the others.
    pub(crate) fn status(&self, member: &Member) -> Status {
        member.status(self.offline_after())
    }

    /// The addresses of all members but one.
    pub(crate) fn other_addresses(&self, member: &Member) -> Vec<IpAddr> {
        self.members.iter().filter(|m| m.name != member.name).map(|m| m.address.ip()).collect()
    }

    /// The rest of the state that an instance with these settings needs to start.
    pub(crate) fn start_of(&self, instance: &Instance, settings: &Settings) -> Result<Start, String> {
        let devices = self.model().expanded_devices(&instance.project, settings);
        let devices = devices.map_err(|name| format!("Requested profile {name:?} doesn't exist"))?;
        Ok(Start { devices, others: self.other_addresses(&instance.member()) })
    }

    /// An error text, where those of LXD and Incus differ.
    pub(crate) fn in_words_of(&self, lxd: &str, incus: &str) -> String {
        match self.server {
            Server::Lxd => lxd,
            Server::Incus => incus,
        }
        .to_owned()
    }
}

/// The member that received a call.
#[derive(Debug, Clone)]
pub(crate) struct Entry(pub(crate) Arc<Member>);

/// The member that executes a call.
#[derive(Debug, Clone)]
pub(crate) struct At(pub(crate) Arc<Member>);

/// The fingerprint of the client's certificate.
#[derive(Debug, Clone)]
pub(crate) struct Peer(pub(crate) Option<String>);

pub(crate) use forwarding::least_used;
pub(crate) use instances::start;
pub(crate) use server::issue_token;

type Ctx = State<Arc<Shared>>;

/// A refusal: HTTP status and text.
#[derive(Debug)]
pub(crate) struct Refusal(StatusCode, String);

type Answer = Result<Response, Refusal>;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        error(self.0, &self.1)
    }
}

fn refuse<T>(status: StatusCode, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(status, text.into()))
}

fn not_found<T>(text: &str) -> Result<T, Refusal> {
    refuse(StatusCode::NOT_FOUND, text)
}

/// An error answer.
pub(crate) fn error(status: StatusCode, text: &str) -> Response {
    let envelope = json!({
        "type": "error", "status": "", "status_code": 0, "operation": "",
        "error_code": status.as_u16(), "error": text, "metadata": null,
    });
    (status, Json(envelope)).into_response()
}

fn sync_envelope(metadata: impl Into<Value>) -> Json<Value> {
    Json(json!({
        "type": "sync", "status": "Success", "status_code": 200, "operation": "",
        "error_code": 0, "error": "", "metadata": metadata.into(),
    }))
}

fn ok(metadata: impl Into<Value>) -> Answer {
    Ok(sync_envelope(metadata).into_response())
}

fn ok_with_etag(metadata: Value, etag: &str) -> Answer {
    Ok(([(header::ETAG, format!("\"{etag}\""))], sync_envelope(metadata)).into_response())
}

fn created(location: String) -> Answer {
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], sync_envelope(Value::Null)).into_response())
}

fn accepted(operation: &Operation) -> Answer {
    let location = format!("/1.0/operations/{}", operation.id);
    let envelope = json!({
        "type": "async", "status": "Operation created", "status_code": 100, "operation": location,
        "error_code": 0, "error": "", "metadata": operation.render(),
    });
    let header: [(HeaderName, String); 1] = [(header::LOCATION, location)];
    Ok((StatusCode::ACCEPTED, header, Json(envelope)).into_response())
}

/// Parses a request's body.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|e| Refusal(StatusCode::BAD_REQUEST, e.to_string()))
}

/// The query parameters of most calls.
#[derive(Debug, Deserialize)]
struct Params {
    #[serde(default = "default_project")]
    project: String,
    #[serde(default)]
    recursion: u8,
    /// A cluster member, or `@` and a group.
    target: Option<String>,
}

fn default_project() -> String {
    "default".into()
}

impl Params {
    /// A listing of whole objects, or only of their paths.
    fn list(&self, kind: &str, objects: Vec<(String, Value)>) -> Answer {
        let suffix =
            if self.project == "default" { String::new() } else { format!("?project={}", self.project) };
        let objects: Vec<Value> = objects
            .into_iter()
            .map(|(name, value)| match self.recursion {
                0 => json!(format!("/1.0/{kind}/{name}{suffix}")),
                _ => value,
            })
            .collect();
        ok(objects)
    }
}

/// The API of a remote.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let trusted = Router::new()
        .route("/1.0/resources", get(server::resources))
        .route("/1.0/projects", get(projects::list).post(projects::create))
        .route(
            "/1.0/projects/{name}",
            get(projects::read).put(projects::put).patch(projects::patch).delete(projects::delete),
        )
        // Images are streamed and have no size limit.
        .route("/1.0/images", get(images::list).post(images::upload).layer(DefaultBodyLimit::disable()))
        .route("/1.0/images/{fingerprint}", get(images::read).patch(images::patch).delete(images::delete))
        .route("/1.0/images/aliases", get(images::list_aliases).post(images::create_alias))
        .route("/1.0/images/aliases/{name}", get(images::read_alias).delete(images::delete_alias))
        .route("/1.0/instances", get(instances::list).post(instances::create))
        .route(
            "/1.0/instances/{name}",
            get(instances::read).put(instances::put).patch(instances::patch).delete(instances::delete),
        )
        .route("/1.0/instances/{name}/state", get(instances::read_state).put(instances::put_state))
        .route("/1.0/cluster/members", get(cluster::list))
        .route("/1.0/cluster/members/{name}", get(cluster::read))
        .route("/1.0/cluster/members/{name}/state", post(cluster::put_state))
        .route("/1.0/profiles", get(objects::list_profiles).post(objects::create_profile))
        .route("/1.0/profiles/{name}", get(objects::read_profile).delete(objects::delete_profile))
        .route("/1.0/networks", get(objects::list_networks).post(objects::create_network))
        .route(
            "/1.0/networks/{name}",
            get(objects::read_network).patch(objects::patch_network).delete(objects::delete_network),
        )
        // It notices nothing about itself.
        .route("/1.0/warnings", get(async || ok(json!([]))))
        .route("/1.0/network-acls/{name}", get(objects::read_acl))
        .route("/1.0/storage-pools", get(objects::list_pools))
        .route("/1.0/storage-pools/{pool}", get(objects::read_pool))
        .route("/1.0/storage-pools/{pool}/resources", get(objects::pool_resources))
        .route("/1.0/storage-pools/{pool}/volumes", get(objects::list_volumes).post(objects::create_volume))
        .route(
            "/1.0/storage-pools/{pool}/volumes/custom/{name}",
            axum::routing::delete(objects::delete_volume),
        )
        .route("/1.0/operations", get(list_operations))
        .route("/1.0/operations/{id}", get(read_operation).delete(cancel_operation))
        .route("/1.0/operations/{id}/wait", get(wait_operation))
        .route_layer(middleware::from_fn_with_state(shared.clone(), forwarding::forward))
        .route_layer(middleware::from_fn_with_state(shared.clone(), require_trust));
    Router::new()
        .route("/", get(async || ok(json!(["/1.0"]))))
        .route("/1.0", get(server::describe))
        .route("/1.0/certificates", get(server::list_certificates).post(server::add_certificate))
        .merge(trusted)
        .fallback(async || Refusal(StatusCode::NOT_FOUND, "not found".into()))
        .method_not_allowed_fallback(async || Refusal(StatusCode::NOT_IMPLEMENTED, "not implemented".into()))
        .layer(middleware::from_fn_with_state(shared.clone(), forwarding::await_quorum))
        .with_state(shared)
}

async fn require_trust(
    State(shared): Ctx,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if is_trusted(&shared, &peer) {
        next.run(request).await
    } else {
        error(StatusCode::FORBIDDEN, "not authorized")
    }
}

fn is_trusted(shared: &Shared, Peer(peer): &Peer) -> bool {
    peer.as_ref().is_some_and(|p| shared.model().trusted.contains_key(p))
}

async fn list_operations(State(shared): Ctx, Query(params): Query<Params>) -> Answer {
    let mut groups: HashMap<String, Vec<Value>> = HashMap::new();
    for operation in shared.operations.all() {
        let rendered = operation.render();
        let status = rendered["status"].as_str().unwrap_or_default().to_lowercase();
        let address = json!(format!("/1.0/operations/{}", operation.id));
        groups.entry(status).or_default().push(if params.recursion == 0 { address } else { rendered });
    }
    ok(json!(groups))
}

fn find_operation(shared: &Shared, id: &str) -> Result<Operation, Refusal> {
    shared.operations.get(id).ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "Operation not found".into()))
}

async fn read_operation(State(shared): Ctx, Path(id): Path<String>) -> Answer {
    ok(find_operation(&shared, &id)?.render())
}

async fn cancel_operation(State(shared): Ctx, Path(id): Path<String>) -> Answer {
    let operation = find_operation(&shared, &id)?;
    if !operation.may_cancel() {
        return refuse(StatusCode::BAD_REQUEST, "This operation can't be cancelled");
    }
    shared.model().tokens.retain(|_, (_, token)| *token != operation.id);
    shared.operations.cancel(&operation);
    ok(json!({}))
}

#[derive(Deserialize)]
struct Wait {
    /// In seconds; negative means for ever.
    #[serde(default = "for_ever")]
    timeout: i64,
}

fn for_ever() -> i64 {
    -1
}

async fn wait_operation(State(shared): Ctx, Path(id): Path<String>, Query(wait): Query<Wait>) -> Answer {
    let operation = find_operation(&shared, &id)?;
    operation.ended(wait.timeout.try_into().ok().map(Duration::from_secs)).await;
    if shared.server == Server::Incus
        && let Some(text) = operation.failure()
    {
        // The status has been sent before the error was known.
        let mut answer = error(StatusCode::INTERNAL_SERVER_ERROR, &text);
        *answer.status_mut() = StatusCode::OK;
        return Ok(answer);
    }
    ok(operation.render())
}
