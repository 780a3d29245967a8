//! Generates the files that the services read.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::backup::{Backup, Storage, StorageKey};
use crate::document::{Access, Host, Remote, UserData, UserDataError};

/// A file to write.
#[derive(PartialEq, Eq)]
pub struct File {
    /// Path below the output directory.
    pub path: PathBuf,
    /// Its contents.
    pub text: String,
    /// True if only root may read it.
    pub secret: bool,
}

/// Facts about the image.
#[derive(Debug, Clone)]
pub struct ImageInfo {
    /// The image's `lnplaylive.toml`, which the document's tables override.
    pub base: Table,
    /// A directory with `container` and `virtual-machine`, each with `metadata.tar.xz` and `rootfs`.
    pub images: PathBuf,
    /// The output directory.
    pub out: PathBuf,
}

/// Generates all files for a document: `host.env` (its `STATE_VOLUME` is only for the boot), `lightning.conf`,
/// `lnplaylive.toml`, a certificate for each remote that has one, and the secrets, below `tokens`, `keys` and `backup`.
pub fn files(document: &UserData, image: &ImageInfo) -> Result<Vec<File>, UserDataError> {
    let host = &document.host;
    let mut files = Vec::new();
    let mut public = |path: &str, text: String| files.push(File { path: path.into(), text, secret: false });

    let set = |name: &str, value: &dyn std::fmt::Display| format!("{name}={value}\n");
    let mut environment = [
        set("DEPLOY_LNPLAYLIVE_FRONTEND", &host.deploy_frontend),
        set("BITCOIN_CHAIN", &host.network.chain()),
        set("LIGHTNING_NETWORK", &host.network.lightning()),
        set("STATE_VOLUME", &host.state_volume),
    ]
    .concat();
    if let Some(domain) = &host.domain {
        environment += &set("SHOP_DOMAIN", domain);
    }
    if let Some(email) = &host.email {
        environment += &set("ACME_OPTIONS", &format_args!("\"email {email}\""));
    }
    if let Some(backup) = &host.backup {
        environment += &backup_environment(backup, host);
    }
    public("host.env", environment);

    let mut lightning = String::new();
    if let Some(alias) = &host.alias {
        lightning += &set("alias", alias);
    }
    for announce in host.announce.as_slice() {
        lightning += &set("announce-addr", announce);
    }
    lightning += &host.lightningd.to_string();
    public("lightning.conf", lightning);

    let mut settings = image.base.clone();
    if let Some(domain) = host.domain.as_ref().filter(|_| host.deploy_frontend) {
        let page = Value::String(format!("https://{domain}/connect"));
        lay_over(
            &mut settings,
            [("shop".into(), [("connect_page".into(), page)].into_iter().collect::<Table>().into())]
                .into_iter()
                .collect(),
        );
    }
    lay_over(&mut settings, document.settings.clone());
    let mut remotes = Vec::new();
    for remote in &document.remotes {
        remotes.push(Value::Table(remote_table(remote, document, image)));
        match &remote.access {
            Access::Token(token) => files.push(secret(&remote.name, "token", token)),
            Access::Certificate { certificate, key } => {
                files.push(File {
                    path: certificate_path(&remote.name),
                    text: format!("{certificate}\n"),
                    secret: false,
                });
                files.push(secret(&remote.name, "key", key));
            }
        }
    }
    settings.insert("remotes".into(), Value::Array(remotes));
    files.extend(host.backup.as_ref().and_then(storage_credentials));
    let text = toml::to_string(&settings).map_err(|e| UserDataError::new("settings", e))?;
    files.push(File { path: "lnplaylive.toml".into(), text, secret: false });
    Ok(files)
}

/// The settings of the unit that uploads backups.
fn backup_environment(backup: &Backup, host: &Host) -> String {
    let (region, endpoint) = match &backup.storage {
        Storage::Aws { region, .. } => (region.to_string(), String::new()),
        Storage::Compatible { endpoint, region, .. } => {
            (region.as_ref().map(ToString::to_string).unwrap_or_default(), endpoint.to_string())
        }
    };
    let prefix = match (&backup.prefix, &host.domain) {
        (Some(prefix), _) => prefix.to_string(),
        (None, Some(domain)) => domain.to_string(),
        (None, None) => "lnplaylive".to_owned(),
    };
    let recipients: Vec<_> = backup.recipients.iter().map(ToString::to_string).collect();
    format!(
        "BACKUP_BUCKET={}\nBACKUP_PREFIX={prefix}\nBACKUP_REGION={region}\nBACKUP_ENDPOINT={endpoint}\nBACKUP_RECIPIENTS={}\n",
        backup.bucket,
        recipients.join(",")
    )
}

/// The key for the storage, in the format of AWS's tools (`~/.aws/credentials`).
fn storage_credentials(backup: &Backup) -> Option<File> {
    let (Storage::Aws { key: Some(key), .. } | Storage::Compatible { key, .. }) = &backup.storage else {
        return None;
    };
    let StorageKey { id, secret } = key;
    Some(File {
        path: "backup/credentials".into(),
        text: format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"),
        secret: true,
    })
}

/// A remote's section in `lnplaylive.toml`. It names secrets without a directory: they are credentials of the service that
/// reads it, `tokens_NAME.token` or `keys_NAME.key`.
fn remote_table(remote: &Remote, document: &UserData, image: &ImageInfo) -> Table {
    let mut table = remote.settings.clone();
    table.insert("name".into(), remote.name.clone().into());
    let credential = |kind: &str| Value::String(format!("{kind}s_{}.{kind}", remote.name));
    match &remote.access {
        Access::Token(_) => {
            table.insert("token_file".into(), credential("token"));
        }
        Access::Certificate { .. } => {
            let path = image.out.join(certificate_path(&remote.name));
            table.insert("cert_file".into(), path.display().to_string().into());
            table.insert("key_file".into(), credential("key"));
        }
    }
    if !table.keys().any(|key| key.starts_with("image_")) {
        let kind = table.get("instance_type").and_then(Value::as_str).unwrap_or("virtual-machine");
        let files = image.images.join(Path::new(kind).file_name().unwrap_or_default());
        for (key, file) in [("image_metadata_file", "metadata.tar.xz"), ("image_rootfs_file", "rootfs")] {
            table.insert(key.into(), files.join(file).display().to_string().into());
        }
    }
    if let Some(domain) = document.host.domain.as_ref().filter(|_| document.host.deploy_frontend) {
        // Through this machine's gateway, because a page loaded over https may not connect to ws:// addresses.
        table
            .entry("public_url_template")
            .or_insert_with(|| format!("wss://{domain}/e/{{environment}}/{{node}}").into());
    }
    table
}

fn certificate_path(remote: &str) -> PathBuf {
    format!("{remote}.crt").into()
}

fn secret(remote: &str, kind: &str, text: &str) -> File {
    File {
        path: Path::new(&format!("{kind}s")).join(format!("{remote}.{kind}")),
        text: format!("{text}\n"),
        secret: true,
    }
}

/// Merges tables key by key; other values are replaced.
fn lay_over(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => lay_over(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}
