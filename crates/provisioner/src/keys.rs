//! SSH keys, made before the instance that they are for.

use lnplaylive_core::Secret;
use lnplaylive_core::order::{Access, KeyPair};
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};

/// A new host key and a new client key.
///
/// # Panics
///
/// If the operating system has no random numbers.
pub fn generate() -> Access {
    Access { host_key: key_pair("instance"), client_key: key_pair("lnplaylive") }
}

fn key_pair(comment: &str) -> KeyPair {
    let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).expect("random numbers");
    key.set_comment("");
    let private = key.to_openssh(LineEnding::LF).expect("an Ed25519 key can be written");
    let public = key.public_key().to_openssh().expect("an Ed25519 key can be written");
    KeyPair { private: Secret::new(private.as_str()), public: format!("{} {comment}", public.trim()) }
}
