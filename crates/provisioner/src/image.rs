//! The image that instances are made from: looked for by its alias, uploaded where it is missing.
//!
//! A survey that finds no image starts the upload in the background, and the remote takes no environments before it is
//! done, so that no order waits for an upload.

use std::path::Path;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use lnplaylive_core::settings::{self, ImageFiles, InstanceType};
use lxd_client::{Client, Found as _, ImageInfo};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::Error;

/// The project that holds the image; projects of environments have none of their own.
const PROJECT: &str = "default";
/// The longest that an upload may take: 4 GB over 10 Mbit/s.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3600);
/// Pause after an upload in the background has failed.
const UPLOAD_RETRY_PAUSE: Duration = Duration::from_secs(60);

/// State of the upload in the background.
#[derive(Debug, Default)]
enum Upload {
    /// None is under way.
    #[default]
    Idle,
    /// It is under way.
    Running,
    /// The last one failed.
    Failed { at: Instant, reason: String },
}

/// What is known of the image on one remote.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// Set once the alias was seen, or made by us.
    seen: std::sync::Mutex<Option<ImageInfo>>,
    /// Held while looking and uploading: of several orders that need the image one brings it, and the others wait.
    bringing: Mutex<()>,
    upload: std::sync::Mutex<Upload>,
}

impl Image {
    fn seen(&self) -> MutexGuard<'_, Option<ImageInfo>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the remote is known to have the image.
    pub(crate) fn is_there(&self) -> bool {
        self.seen().is_some()
    }

    fn upload(&self) -> MutexGuard<'_, Upload> {
        self.upload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an upload in the background: true if the caller is to run it and report its end to
    /// [`Image::end_upload`]. Otherwise one is under way, or the last one failed a moment ago.
    pub(crate) fn begin_upload(&self) -> bool {
        let mut upload = self.upload();
        let begins = match &*upload {
            Upload::Idle => true,
            Upload::Running => false,
            Upload::Failed { at, .. } => at.elapsed() >= UPLOAD_RETRY_PAUSE,
        };
        if begins {
            *upload = Upload::Running;
        }
        begins
    }

    /// Records the end of an upload.
    pub(crate) fn end_upload(&self, result: Result<(), String>) {
        *self.upload() = match result {
            Ok(()) => Upload::Idle,
            Err(reason) => Upload::Failed { at: Instant::now(), reason },
        };
    }

    /// Says why the remote takes no environments yet.
    pub(crate) fn upload_state(&self, remote: &settings::Remote) -> String {
        let settings::Remote { name, image, .. } = remote;
        match &*self.upload() {
            Upload::Failed { reason, .. } => {
                format!("remote {name:?}: image {image:?} could not be uploaded, trying again: {reason}")
            }
            Upload::Idle | Upload::Running => {
                format!("remote {name:?}: image {image:?} is being uploaded")
            }
        }
    }

    /// The remote said that it has no such image after all.
    pub(crate) fn is_gone(&self) {
        *self.seen() = None;
    }

    /// The image, if the remote has it. Fails if it does not, and the image cannot be brought there. Costs nothing once
    /// it was seen.
    pub(crate) async fn check(
        &self,
        client: &Client,
        remote: &settings::Remote,
    ) -> Result<Option<ImageInfo>, Error> {
        let seen = self.seen().clone();
        let found = match seen {
            Some(image) => Some(image),
            None => self.look(client, remote).await?,
        };
        if found.is_none() && remote.image_files().is_none() {
            return Err(missing(remote));
        }
        Ok(found)
    }

    /// The image's size as a file, in bytes: what the remote says, else that of the files to be uploaded.
    pub(crate) fn size(image: Option<&ImageInfo>, remote: &settings::Remote) -> u64 {
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        match (image, remote.image_files()) {
            (Some(image), _) => image.size,
            (None, Some(ImageFiles::Unified(path))) => length(path),
            (None, Some(ImageFiles::Split { metadata, rootfs })) => length(metadata) + length(rootfs),
            (None, None) => 0,
        }
    }

    /// Sees to it that the image is on the remote. An alias that is there is left as it is.
    pub(crate) async fn bring(&self, client: &Client, remote: &settings::Remote) -> Result<(), Error> {
        if self.seen().is_some() {
            return Ok(());
        }
        let _bringing = self.bringing.lock().await;
        if self.seen().is_some() || self.look(client, remote).await?.is_some() {
            return Ok(());
        }
        let files = remote.image_files().ok_or_else(|| missing(remote))?;
        upload(client, remote, files).await?;
        self.look(client, remote).await.map(drop)
    }

    async fn look(&self, client: &Client, remote: &settings::Remote) -> Result<Option<ImageInfo>, Error> {
        let found = match client.image_alias(PROJECT, &remote.image).await? {
            // Not found: removed in between.
            Some(image) => client.image(PROJECT, &image).await.found()?,
            None => None,
        };
        self.seen().clone_from(&found);
        Ok(found)
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
    let image = client.upload_image_watched(PROJECT, &files, UPLOAD_TIMEOUT, log).await?;
    match client.create_image_alias(PROJECT, &remote.image, &image).await {
        // Somebody else was first: theirs stands.
        Err(error) if error.is_conflict() => {}
        other => other?,
    }
    tracing::info!("remote {:?}: image {:?} is there", remote.name, remote.image);
    Ok(())
}
