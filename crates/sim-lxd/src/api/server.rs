//! The server itself: what it is, whom it trusts, what it has.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{Query, State},
    http::StatusCode,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Ctx, Params, Peer, Shared, accepted, created, is_trusted, ok, parse, refuse};

/// What of LXD 5.0.2's extensions is here.
const EXTENSIONS: [&str; 14] = [
    "certificate_token",
    "cloud_init",
    "container_full",
    "entity_description",
    "etag",
    "image_types",
    "instances",
    "operation_description",
    "patch",
    "projects",
    "proxy",
    "proxy_tcp_udp_multi_port_handling",
    "resources",
    "virtual-machines",
];

pub(super) async fn describe(State(shared): Ctx, Extension(peer): Extension<Peer>) -> Answer {
    let trusted = is_trusted(&shared, &peer);
    let clustered = !shared.model().members.is_empty();
    let mut description = json!({
        "api_extensions": EXTENSIONS, "api_status": "stable", "api_version": "1.0", "public": false,
        "auth": if trusted { "trusted" } else { "untrusted" }, "auth_methods": ["tls"],
    });
    if trusted {
        description["config"] = json!({"core.https_address": shared.address});
        description["environment"] = json!({
            "addresses": [shared.address], "architectures": [std::env::consts::ARCH],
            "certificate_fingerprint": shared.fingerprint, "driver": "lxc | qemu", "driver_version": "5.0.2 | 7.2.0",
            "kernel": "Linux", "kernel_architecture": std::env::consts::ARCH, "project": "default", "server": "lxd",
            "server_clustered": clustered, "server_name": "sim-lxd", "server_version": "5.0.2", "storage": "dir",
        });
    }
    ok(description)
}

#[derive(Deserialize)]
struct NewCertificate {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    token: bool,
}

/// Takes a client in that shows a token, or makes a token for a client that is in.
pub(super) async fn add_certificate(
    State(shared): Ctx,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Answer {
    let NewCertificate { name, password, token } = parse(&body)?;
    let trusted = is_trusted(&shared, &peer);
    if token && trusted {
        return accepted(&issue_token(&shared, &name).1);
    }
    let secret = STANDARD.decode(password).ok().and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    let Some(secret) = secret.and_then(|t| t["secret"].as_str().map(str::to_owned)) else {
        return refuse(StatusCode::FORBIDDEN, "not authorized");
    };
    let mut model = shared.model();
    let Some((name, operation)) = model.tokens.remove(&secret) else {
        return refuse(StatusCode::FORBIDDEN, "No matching certificate add operation found");
    };
    shared.operations.forget(operation);
    let Peer(Some(fingerprint)) = peer else {
        return refuse(StatusCode::BAD_REQUEST, "No client certificate provided");
    };
    if trusted {
        return refuse(StatusCode::CONFLICT, "Certificate already in trust store");
    }
    let location = format!("/1.0/certificates/{fingerprint}");
    model.trusted.insert(fingerprint, name);
    created(location)
}

/// Makes a token, and the operation that stands for it.
pub(crate) fn issue_token(shared: &Arc<Shared>, name: &str) -> (String, crate::operations::Operation) {
    let secret = hex::encode(rand::random::<[u8; 32]>());
    let metadata = json!({
        "addresses": [shared.address], "fingerprint": shared.fingerprint, "secret": secret,
        "request": {"name": name, "type": "client", "token": true},
    });
    let operation = shared.operations.token(metadata);
    shared.model().tokens.insert(secret.clone(), (name.to_owned(), operation.id));
    let content = json!({
        "client_name": name, "fingerprint": shared.fingerprint, "addresses": [shared.address],
        "secret": secret, "expires_at": "0001-01-01T00:00:00Z",
    });
    (STANDARD.encode(content.to_string()), operation)
}

pub(super) async fn list_certificates(State(shared): Ctx, Extension(peer): Extension<Peer>) -> Answer {
    if !is_trusted(&shared, &peer) {
        return refuse(StatusCode::FORBIDDEN, "not authorized");
    }
    let model = shared.model();
    ok(model.trusted.keys().map(|f| format!("/1.0/certificates/{f}")).collect::<Vec<_>>())
}

pub(super) async fn resources(State(shared): Ctx) -> Answer {
    let (total, used) = shared.model().memory;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    ok(json!({
        "memory": {"total": total, "used": used},
        "cpu": {"architecture": std::env::consts::ARCH, "total": cpus},
        "load": null,
    }))
}

pub(super) async fn list_members(State(shared): Ctx, Query(params): Query<Params>) -> Answer {
    let model = shared.model();
    if model.members.is_empty() {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Server is not clustered");
    }
    let members = model.members.iter().map(|(name, online)| {
        let (status, message) = match online {
            true => ("Online", "Fully operational"),
            false => ("Offline", "No heartbeat for 42s"),
        };
        let url = format!("https://{}", shared.address);
        let member = json!({
            "server_name": name, "url": url, "database": true, "status": status, "message": message,
            "architecture": std::env::consts::ARCH, "failure_domain": "default", "description": "", "config": {},
            "groups": ["default"], "roles": ["database"],
        });
        (name.clone(), member)
    });
    Params { project: "default".into(), ..params }.list("cluster/members", members.collect())
}
