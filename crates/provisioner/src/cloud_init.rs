//! The user-data that an instance is started with.

use lnplaylive::order::Access;
use serde_json::json;

/// User-data that gives the instance its host key and lets our key in as root, and nothing else.
///
/// JSON is YAML, and needs no quoting rules of our own.
pub(crate) fn user_data(access: &Access) -> String {
    let data = json!({
        "disable_root": false,
        "ssh_pwauth": false,
        // Ours only: the image's keys and keys that cloud-init would make have to go.
        "ssh_deletekeys": true,
        "ssh_genkeytypes": ["ed25519"],
        "ssh_keys": {
            "ed25519_private": access.host_key.private.expose(),
            "ed25519_public": access.host_key.public,
        },
        "users": [{
            "name": "root",
            "lock_passwd": true,
            "ssh_authorized_keys": [access.client_key.public],
        }],
    });
    format!("#cloud-config\n{data}\n")
}
