//! The client's key pair and certificate, by which servers identify it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::{Fingerprint, tls};

/// Validity of the certificates that we create. LXD's client uses ten years, too.
const VALID_YEARS: i32 = 10;

/// The client's private key (ECDSA P-384) with its self-signed certificate. `Debug` shows the fingerprint only.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// A key pair that cannot be created, read or stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The library refused to create a key or certificate.
    #[error("cannot create a client certificate for {name:?}")]
    Generate {
        /// The requested common name.
        name: String,
        /// The library's error.
        source: rcgen::Error,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The file system's error.
        source: std::io::Error,
    },
    /// The certificate exists without its key. It is not replaced, because servers may trust it.
    #[error("{} exists but {} does not; restore the key, or remove the certificate to create a new pair", certificate.display(), key.display())]
    KeyMissing {
        /// The certificate.
        certificate: PathBuf,
        /// The missing key.
        key: PathBuf,
    },
    /// Text that is not a PEM certificate and the PEM key that belongs to it.
    #[error("not a certificate and its private key in PEM form ({0})")]
    Invalid(String),
}

impl Identity {
    /// Creates a key pair with a certificate whose common name is `name`.
    pub fn generate(name: &str) -> Result<Self, IdentityError> {
        let generate = |source| IdentityError::Generate { name: name.to_owned(), source };
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).map_err(generate)?;
        let certificate = self_sign(name, &key).map_err(generate)?;
        Self::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
    }

    /// Loads a certificate and its private key in PEM form.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let invalid = |e: &dyn fmt::Display| IdentityError::Invalid(e.to_string());
        let certificate = CertificateDer::from_pem_slice(certificate).map_err(|e| invalid(&e))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| invalid(&e))?;
        tls::check_pair(&certificate, &key).map_err(|e| invalid(&e))?;
        Ok(Self { certificate, key })
    }

    /// Reads `client.crt` and `client.key` in `dir`, or creates them (mode 0600) if neither exists.
    ///
    /// Files are written atomically and never replaced, so programs that start at the same time all get the same pair. A key without
    /// a certificate is left by a crash between the two files; the certificate is then created. Blocks on the file system for a
    /// moment.
    pub fn load_or_create(dir: &Path, name: &str) -> Result<Self, IdentityError> {
        let (certificate, key) = (dir.join("client.crt"), dir.join("client.key"));
        let generate = |source| IdentityError::Generate { name: name.to_owned(), source };
        if !certificate.exists() {
            if !key.exists() {
                let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).map_err(generate)?;
                publish(dir, &key, &pair.serialize_pem())?;
            }
            let pem = String::from_utf8_lossy(&read(&key)?).into_owned();
            let pair = rcgen::KeyPair::from_pem(&pem)
                .map_err(|e| IdentityError::Invalid(format!("{}: {e}", key.display())))?;
            publish(dir, &certificate, &self_sign(name, &pair).map_err(generate)?.pem())?;
        }
        if !key.exists() {
            return Err(IdentityError::KeyMissing { certificate, key });
        }
        Self::from_pem(&read(&certificate)?, &read(&key)?)
    }

    /// The fingerprint under which servers list this client.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_der(&self.certificate)
    }

    /// Expiry date of the certificate; `None` if it cannot be parsed.
    pub fn valid_until(&self) -> Option<jiff::Timestamp> {
        crate::validity::not_after(&self.certificate)
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(crate) fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { certificate: self.certificate.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

fn self_sign(name: &str, key: &rcgen::KeyPair) -> Result<rcgen::Certificate, rcgen::Error> {
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    // Valid from the beginning of last year, because the clocks of client and server may differ.
    let year = i32::from(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year());
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + VALID_YEARS, 1, 1);
    params.self_signed(key)
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|source| IdentityError::Io { action: "read", path: path.to_owned(), source })
}

/// Writes a file atomically, with mode 0600 (`tempfile`'s default), unless it exists.
fn publish(dir: &Path, path: &Path, content: &str) -> Result<(), IdentityError> {
    let written =
        std::fs::create_dir_all(dir).and_then(|()| atomic_file::create(path, content.as_bytes(), 0o600));
    let failed = |source| IdentityError::Io { action: "write", path: path.to_owned(), source };
    written.map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn pair_is_created_once_and_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("new");
        let first = Identity::load_or_create(&dir, "shop").expect("made");
        let second = Identity::load_or_create(&dir, "shop").expect("read");
        assert_eq!(first.fingerprint(), second.fingerprint());
        for file in ["client.crt", "client.key"] {
            let mode = std::fs::metadata(dir.join(file)).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert_eq!(std::fs::read_dir(&dir).expect("readable").count(), 2, "nothing else is left there");
    }

    #[test]
    fn concurrent_starts_get_the_same_pair() {
        let dir = tempfile::tempdir().expect("a directory");
        let fingerprints: std::collections::BTreeSet<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope
                        .spawn(|| Identity::load_or_create(dir.path(), "shop").expect("a pair").fingerprint())
                })
                .collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).collect()
        });
        assert_eq!(fingerprints.len(), 1);
    }

    #[test]
    fn a_key_alone_is_completed_and_a_certificate_alone_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        Identity::load_or_create(dir.path(), "shop").expect("made");
        let key = std::fs::read(dir.path().join("client.key")).expect("a key");
        std::fs::remove_file(dir.path().join("client.crt")).expect("removed");
        Identity::load_or_create(dir.path(), "shop").expect("completed");
        assert_eq!(key, std::fs::read(dir.path().join("client.key")).expect("a key"), "the same key");
        std::fs::remove_file(dir.path().join("client.key")).expect("removed");
        let error = Identity::load_or_create(dir.path(), "shop").expect_err("no key");
        assert!(matches!(error, IdentityError::KeyMissing { .. }), "{error}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let make = || {
            let key = rcgen::KeyPair::generate().expect("a key");
            (self_sign("a", &key).expect("signed").pem(), key.serialize_pem())
        };
        let ((certificate, _), (_, other)) = (make(), make());
        let error = Identity::from_pem(certificate.as_bytes(), other.as_bytes()).expect_err("no pair");
        assert!(matches!(error, IdentityError::Invalid(_)), "{error}");
    }

    #[test]
    fn debug_hides_the_key() {
        let identity = Identity::generate("shop").expect("made");
        assert_eq!(
            format!("{identity:?}"),
            format!("Identity {{ fingerprint: {:?}, .. }}", identity.fingerprint())
        );
    }
}
