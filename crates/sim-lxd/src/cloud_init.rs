//! The part of cloud-init that concerns SSH: the host key, and the keys that may log in.

use std::collections::BTreeMap;

use russh::keys::{PrivateKey, PublicKey};
use serde::Deserialize;

/// The SSH settings in an instance's user data.
#[derive(Debug)]
pub(crate) struct Ssh {
    pub(crate) host_key: PrivateKey,
    /// Authorised keys by user.
    pub(crate) authorized: BTreeMap<String, Vec<PublicKey>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UserData {
    ssh_keys: SshKeys,
    ssh_authorized_keys: Vec<String>,
    users: Vec<User>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SshKeys {
    ed25519_private: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum User {
    Described {
        name: String,
        #[serde(default)]
        ssh_authorized_keys: Vec<String>,
    },
    /// For example `default`, the image's own user.
    Other(serde::de::IgnoredAny),
}

impl Ssh {
    /// Parses user data as cloud-init does: unreadable parts are reported and ignored, and a missing host key is generated.
    pub(crate) fn from_user_data(text: &str) -> Self {
        let data = match parse(text) {
            Ok(data) => data,
            Err(error) => {
                tracing::warn!(error, "user data that cloud-init could not read");
                UserData::default()
            }
        };
        let host_key = match data.ssh_keys.ed25519_private.as_deref().map(PrivateKey::from_openssh) {
            Some(Ok(key)) => key,
            other => {
                if let Some(Err(error)) = other {
                    tracing::warn!(%error, "user data has an SSH host key that cannot be read");
                }
                generate_host_key()
            }
        };
        let mut authorized: BTreeMap<String, Vec<PublicKey>> = BTreeMap::new();
        let root = ("root".to_owned(), data.ssh_authorized_keys);
        let users = data.users.into_iter().filter_map(|user| match user {
            User::Described { name, ssh_authorized_keys } => Some((name, ssh_authorized_keys)),
            User::Other(_) => None,
        });
        for (name, keys) in users.chain([root]) {
            let keys = keys.iter().filter_map(|key| match PublicKey::from_openssh(key) {
                Ok(key) => Some(key),
                Err(error) => {
                    tracing::warn!(%error, "user data has an authorized key that cannot be read");
                    None
                }
            });
            authorized.entry(name).or_default().extend(keys);
        }
        Self { host_key, authorized }
    }

    pub(crate) fn allows(&self, user: &str, key: &PublicKey) -> bool {
        let keys = self.authorized.get(user);
        keys.is_some_and(|keys| keys.iter().any(|known| known.key_data() == key.key_data()))
    }
}

fn parse(text: &str) -> Result<UserData, String> {
    if text.trim().is_empty() {
        return Ok(UserData::default());
    }
    if !text.starts_with("#cloud-config") {
        return Err("the first line is not #cloud-config".into());
    }
    serde_saphyr::from_str(text).map_err(|e| e.to_string())
}

pub(crate) fn generate_host_key() -> PrivateKey {
    PrivateKey::random(&mut russh::keys::key::safe_rng(), russh::keys::Algorithm::Ed25519)
        .expect("the system has randomness")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_key_and_users_are_read() {
        let key = generate_host_key();
        let private = key.to_openssh(russh::keys::ssh_key::LineEnding::LF).expect("text");
        let indented = private.trim_end().replace('\n', "\n    ");
        let public = key.public_key().to_openssh().expect("text");
        let other = generate_host_key();
        let other_public = other.public_key().to_openssh().expect("text");
        let ssh = Ssh::from_user_data(&format!(
            "#cloud-config\npackage_update: false\nssh_keys:\n  ed25519_private: |\n    {indented}\n  ed25519_public: {public}\n\
             ssh_authorized_keys:\n  - {public}\nusers:\n  - default\n  - name: ann\n    ssh_authorized_keys: [\"{other_public}\"]\n"
        ));
        assert_eq!(ssh.host_key.public_key(), key.public_key());
        assert!(ssh.allows("root", key.public_key()));
        assert!(!ssh.allows("root", other.public_key()));
        assert!(ssh.allows("ann", other.public_key()));
        assert!(!ssh.allows("bob", other.public_key()));
    }

    #[test]
    fn unreadable_user_data_lets_nobody_in() {
        for text in [
            "",
            "ssh_authorized_keys: [a]",
            "#cloud-config\n\t- {",
            "#cloud-config\nssh_authorized_keys: [rubbish]\n",
        ] {
            let ssh = Ssh::from_user_data(text);
            assert!(ssh.authorized.values().all(Vec::is_empty), "{text:?}");
        }
    }
}
