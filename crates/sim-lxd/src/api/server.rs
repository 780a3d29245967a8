//! The server: description, trust, resources.

use axum::{Extension, body::Bytes, extract::State, http::StatusCode};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, At, Ctx, Entry, Peer, Shared, accepted, created, is_trusted, ok, parse, refuse};
use crate::member::Member;

/// The supported extensions of LXD 5.0.2.
const EXTENSIONS: [&str; 17] = [
    "certificate_token",
    "cloud_init",
    "clustering",
    "clustering_evacuation",
    "clustering_groups",
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

pub(super) async fn describe(
    State(shared): Ctx,
    Extension(peer): Extension<Peer>,
    Extension(Entry(member)): Extension<Entry>,
) -> Answer {
    let trusted = is_trusted(&shared, &peer);
    let mut description = json!({
        "api_extensions": EXTENSIONS, "api_status": "stable", "api_version": "1.0", "public": false,
        "auth": if trusted { "trusted" } else { "untrusted" }, "auth_methods": ["tls"],
    });
    if trusted {
        let architecture = member.state().machine.architecture.clone();
        let (driver, driver_version) =
            if shared.virtual_machines { ("lxc | qemu", "5.0.2 | 7.2.0") } else { ("lxc", "5.0.2") };
        let address = member.address.to_string();
        description["config"] = json!({"core.https_address": address});
        description["environment"] = json!({
            "addresses": [address], "architectures": [architecture],
            "certificate_fingerprint": shared.fingerprint, "driver": driver, "driver_version": driver_version,
            "kernel": "Linux", "kernel_architecture": architecture, "project": "default",
            "server": shared.in_words_of("lxd", "incus"), "server_clustered": shared.clustered,
            "server_name": if shared.clustered { &member.name } else { "sim-lxd" },
            "server_version": shared.in_words_of("5.0.2", "6.0.4"), "storage": "dir",
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

/// Enrols a client that has a token, or issues a token to a client that is trusted.
pub(super) async fn add_certificate(
    State(shared): Ctx,
    Extension(peer): Extension<Peer>,
    Extension(Entry(member)): Extension<Entry>,
    body: Bytes,
) -> Answer {
    let NewCertificate { name, password, token } = parse(&body)?;
    let trusted = is_trusted(&shared, &peer);
    if token && trusted {
        return accepted(&issue_token(&shared, &member, &name).1);
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

/// Issues a token that contains a member's address, with its operation.
pub(crate) fn issue_token(
    shared: &Shared,
    member: &Member,
    name: &str,
) -> (String, crate::operations::Operation) {
    let addresses = [member.address.to_string()];
    let secret = hex::encode(rand::random::<[u8; 32]>());
    let metadata = json!({
        "addresses": addresses, "fingerprint": shared.fingerprint, "secret": secret,
        "request": {"name": name, "type": "client", "token": true},
    });
    let operation = shared.operations.token(metadata);
    shared.model().tokens.insert(secret.clone(), (name.to_owned(), operation.id));
    let content = json!({
        "client_name": name, "fingerprint": shared.fingerprint, "addresses": addresses,
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

pub(super) async fn resources(Extension(At(member)): Extension<At>) -> Answer {
    let machine = member.state().machine.clone();
    let (total, used) = machine.memory;
    ok(json!({
        "memory": {"total": total, "used": used},
        "cpu": {"architecture": machine.architecture, "total": machine.cpus},
        "load": null,
    }))
}
