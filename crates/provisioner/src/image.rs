//! The image that instances are made from: looked for by its alias, uploaded where it is missing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lnplaylive::settings::{self, ImageFiles, InstanceType};
use lxd_client::Client;
use tokio::sync::Mutex;

use crate::Error;

/// The project that holds the image; projects of environments have none of their own.
const PROJECT: &str = "default";
/// The longest that an upload may take: 4 GB over 10 Mbit/s.
const UPLOAD_TIME: Duration = Duration::from_secs(3600);

/// What is known of the image on one remote.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// The alias was seen, or made by us.
    there: AtomicBool,
    /// Held while looking and uploading: of several orders that need the image one brings it, and the others wait.
    bringing: Mutex<()>,
}

impl Image {
    /// The remote said that it has no such image after all.
    pub(crate) fn is_gone(&self) {
        self.there.store(false, Ordering::Relaxed);
    }

    /// Fails if the image is not on the remote and cannot be brought there. Costs nothing where that is known.
    pub(crate) async fn check(&self, client: &Client, remote: &settings::Remote) -> Result<(), Error> {
        if remote.image_files().is_some() || self.there.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.look(client, remote).await?.then_some(()).ok_or_else(|| missing(remote))
    }

    /// Sees to it that the image is on the remote. An alias that is there is left as it is.
    pub(crate) async fn bring(&self, client: &Client, remote: &settings::Remote) -> Result<(), Error> {
        if self.there.load(Ordering::Relaxed) {
            return Ok(());
        }
        let _bringing = self.bringing.lock().await;
        if self.there.load(Ordering::Relaxed) || self.look(client, remote).await? {
            return Ok(());
        }
        let files = remote.image_files().ok_or_else(|| missing(remote))?;
        upload(client, remote, files).await?;
        self.there.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn look(&self, client: &Client, remote: &settings::Remote) -> Result<bool, Error> {
        let there = client.image_alias(PROJECT, &remote.image).await?.is_some();
        self.there.store(there, Ordering::Relaxed);
        Ok(there)
    }
}

fn missing(remote: &settings::Remote) -> Error {
    Error::NoImage { remote: remote.name.clone(), alias: remote.image.clone() }
}

async fn upload(client: &Client, remote: &settings::Remote, files: ImageFiles<'_>) -> Result<(), Error> {
    let (name, alias) = (remote.name.clone(), remote.image.clone());
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    let (files, total) = match files {
        ImageFiles::Unified(path) => (lxd_client::ImageFiles::Unified(path.to_owned()), length(path)),
        ImageFiles::Split { metadata, rootfs } => {
            let kind = match remote.instance_type {
                InstanceType::Container => lxd_client::InstanceType::Container,
                InstanceType::VirtualMachine => lxd_client::InstanceType::VirtualMachine,
            };
            let total = length(metadata) + length(rootfs);
            let (metadata, rootfs) = (metadata.to_owned(), rootfs.to_owned());
            (lxd_client::ImageFiles::Split { metadata, rootfs, kind }, total)
        }
    };
    tracing::info!("remote {name:?}: has no image {alias:?}; uploading it, {total} bytes");
    let mut tenth = 0;
    let log = move |sent: u64| {
        let now = sent.saturating_mul(10).checked_div(total).unwrap_or(10);
        if now > tenth {
            tenth = now;
            tracing::info!("remote {name:?}: image {alias:?}: {}% uploaded", now * 10);
        }
    };
    let image = client.upload_image_watched(PROJECT, &files, UPLOAD_TIME, log).await?;
    match client.create_image_alias(PROJECT, &remote.image, &image).await {
        // Somebody else was first: theirs stands.
        Err(error) if error.is_conflict() => {}
        other => other?,
    }
    tracing::info!("remote {:?}: image {:?} is there", remote.name, remote.image);
    Ok(())
}
