//! The user-data that an instance is started with.

use lnplaylive_core::order::Access;
use serde_json::json;

/// The account that the image has for us. It can speak to `lnplay` and nothing else: sshd sees to that, in the image.
pub(crate) const ACCOUNT: &str = "lnplay";

/// User-data that gives the instance its host key and lets our key in as [`ACCOUNT`], and nothing else.
///
/// JSON is YAML, and needs no quoting rules of our own.
pub(crate) fn user_data(access: &Access) -> String {
    let data = json!({
        "disable_root": true,
        "ssh_pwauth": false,
        // Ours only: the image's keys and keys that cloud-init would make have to go.
        "ssh_deletekeys": true,
        "ssh_genkeytypes": ["ed25519"],
        "ssh_keys": {
            "ed25519_private": access.host_key.private.expose(),
            "ed25519_public": access.host_key.public,
        },
        "users": [{
            "name": ACCOUNT,
            "lock_passwd": true,
            "ssh_authorized_keys": [access.client_key.public],
        }],
    });
    format!("#cloud-config\n{data}\n")
}
