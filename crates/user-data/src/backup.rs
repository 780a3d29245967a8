//! The table `[host.backup]`: where the encrypted backup of the node's key is uploaded.

use std::fmt;
use std::net::IpAddr;

use bech32::primitives::decode::CheckedHrpstring;
use serde::Deserialize;
use toml::{Table, Value};
use url::Url;

use crate::document::{UserDataError, checked};

/// Where backups are uploaded, and who can read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The bucket.
    pub bucket: Bucket,
    /// The beginning of the objects' names; `None` stands for the machine's domain.
    pub prefix: Option<Prefix>,
    /// The service that has the bucket.
    pub storage: Storage,
    /// Who can decrypt the backup; at least one.
    pub recipients: Vec<Recipient>,
}

/// An object storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// S3 of AWS. Without a key, the instance's role may upload.
    Aws {
        /// The bucket's region.
        region: Region,
        /// The key of a user who may upload.
        key: Option<StorageKey>,
    },
    /// Another service with the API of S3.
    Compatible {
        /// Its URL.
        endpoint: Endpoint,
        /// Its region, where it has regions.
        region: Option<Region>,
        /// The key of a user who may upload.
        key: StorageKey,
    },
}

/// An access key with its secret. The secret is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct StorageKey {
    /// The key's id, which is not secret.
    pub id: KeyText,
    /// The secret.
    pub secret: KeyText,
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageKey").finish_non_exhaustive()
    }
}

checked!(
    /// The name of a bucket.
    Bucket,
    |text| {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        (3..=63).contains(&text.len())
            && text.bytes().all(|c| plain(c) || c == b'-' || c == b'.')
            && text.bytes().next().is_some_and(plain)
            && text.bytes().next_back().is_some_and(plain)
            && !text.contains("..")
    },
    "it must be the name of a bucket alone, of 3 to 63 lowercase letters, digits, hyphens and dots"
);

checked!(
    /// The beginning of an object's name.
    Prefix,
    |text| {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        let part = |p: &str| !p.is_empty() && p != "." && p != ".." && p.bytes().all(plain);
        text.len() <= 200 && text.split('/').all(part)
    },
    "it must be up to 200 letters, digits and . _ -, in parts separated by single slashes, without a slash at its ends"
);

checked!(
    /// A region, such as `eu-central-1`.
    Region,
    |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    },
    "it must be the name of a region, such as eu-central-1"
);

checked!(
    /// The URL of a storage. It is `https`, except on this machine.
    Endpoint,
    is_endpoint,
    "it must be a URL that begins with https:// and has no user, query or fragment, such as https://s3.example"
);

checked!(
    /// A public key of age, as `age-keygen` prints it.
    Recipient,
    |text| {
        // In `age1…`, "age" is the human-readable part; the data is a point of Curve25519.
        text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            && CheckedHrpstring::new::<bech32::Bech32>(text)
                .is_ok_and(|key| key.hrp().as_str() == "age" && key.byte_iter().count() == 32)
    },
    "it must be a public key of age, age1… as `age-keygen -y` prints it; never write the secret key here"
);

checked!(
    /// The id of an access key, or its secret.
    KeyText,
    |text| {
        (1..=256).contains(&text.len())
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"/+=._-".contains(&c))
    },
    "it must be an access key as the storage shows it, of letters, digits and / + = . _ -"
);

fn is_endpoint(text: &str) -> bool {
    // It is written to a file with a syntax of its own.
    let plain = |c: u8| c.is_ascii_alphanumeric() || b":/.-_[]".contains(&c);
    let Ok(url) = Url::parse(text) else { return false };
    let host = url.host_str().unwrap_or_default();
    let here = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    text.bytes().all(plain)
        && text.len() <= 200
        && !host.is_empty()
        && (url.scheme() == "https" || (url.scheme() == "http" && here))
}

impl Backup {
    /// Reads the table.
    pub(crate) fn read(value: Value) -> Result<Self, UserDataError> {
        let Value::Table(mut table) = value else {
            return Err(UserDataError::new("host.backup", "write it as a table [host.backup]"));
        };
        let bucket = take(&mut table, "bucket")?
            .ok_or_else(|| error("bucket", "it is missing; name the bucket that backups are uploaded to"))?;
        let prefix = take(&mut table, "prefix")?;
        let region = take(&mut table, "region")?;
        let endpoint = take(&mut table, "endpoint")?;
        let key = key(&mut table)?;
        let recipients = recipients(&mut table)?;
        if let Some(unknown) = table.keys().next() {
            return Err(error(
                unknown,
                "there is no such key; the keys are bucket, prefix, region, recipients, endpoint, access_key_id and \
                 secret_access_key",
            ));
        }
        let storage = match (endpoint, region, key) {
            (None, Some(region), key) => Storage::Aws { region, key },
            (None, None, _) => {
                return Err(error(
                    "region",
                    "it is missing; name the bucket's region, such as eu-central-1, or an endpoint other than AWS",
                ));
            }
            (Some(endpoint), region, Some(key)) => Storage::Compatible { endpoint, region, key },
            (Some(_), _, None) => {
                return Err(error(
                    "access_key_id",
                    "it is missing; an endpoint needs access_key_id and secret_access_key, because only AWS knows the instance's \
                     role",
                ));
            }
        };
        Ok(Self { bucket, prefix, storage, recipients })
    }
}

fn error(key: &str, reason: impl fmt::Display) -> UserDataError {
    UserDataError::new(format_args!("host.backup.{key}"), reason)
}

/// Removes the text `name` from the table and checks it.
fn take<T: TryFrom<String, Error = &'static str>>(
    table: &mut Table,
    name: &str,
) -> Result<Option<T>, UserDataError> {
    match table.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => T::try_from(text).map(Some).map_err(|rule| error(name, rule)),
        Some(_) => Err(error(name, "it must be text")),
    }
}

fn key(table: &mut Table) -> Result<Option<StorageKey>, UserDataError> {
    match (take(table, "access_key_id")?, take(table, "secret_access_key")?) {
        (Some(id), Some(secret)) => Ok(Some(StorageKey { id, secret })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(error("secret_access_key", "it is missing, and access_key_id is there")),
        (None, Some(_)) => Err(error("access_key_id", "it is missing, and secret_access_key is there")),
    }
}

fn recipients(table: &mut Table) -> Result<Vec<Recipient>, UserDataError> {
    let rule = "write a list of public keys of age, [\"age1…\"]; without one nobody could read the backup";
    let Some(Value::Array(keys)) = table.remove("recipients") else {
        return Err(error("recipients", rule));
    };
    if keys.is_empty() {
        return Err(error("recipients", rule));
    }
    keys.into_iter()
        .map(|key| match key {
            Value::String(text) => Recipient::try_from(text).map_err(|rule| error("recipients", rule)),
            _ => Err(error("recipients", rule)),
        })
        .collect()
}
