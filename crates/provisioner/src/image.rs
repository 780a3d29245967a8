//! The image that instances are made from: looked for by its alias, uploaded where it is missing.
//!
//! If the settings name files, the alias has their digest (see [`lnplaylive_core::images`]), so that a new release of the shop
//! uploads its own image and leaves the one of the last release alone. Otherwise the alias is that of the settings, and the
//! remote's operator provides the image.
//!
//! A survey that finds no image starts the upload in the background, and the remote takes no environments before it is
//! done, so that no order waits for an upload.

use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use lnplaylive_core::ShopId;
use lnplaylive_core::images::{PROPERTY_SHOP, alias};
use lnplaylive_core::settings::{self, ImageFiles, InstanceType};
use lxd_client::{Client, Found as _, ImageFingerprint, ImageInfo};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::Error;
use crate::digest::{Digests, paths};

/// The project that holds the image; projects of environments have none of their own.
pub(crate) const PROJECT: &str = "default";
/// The longest that an upload may take: 4 GB over 10 Mbit/s.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3600);
/// Pause after an upload in the background has failed.
const UPLOAD_RETRY_PAUSE: Duration = Duration::from_secs(60);
/// The time for which an image that was seen is taken to be there.
const SEEN_MAX_AGE: Duration = Duration::from_secs(60);

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

/// The image that a remote is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its alias.
    pub(crate) alias: String,
    /// The digest of the files that the settings name.
    digest: Option<String>,
}

/// An image that was seen on the remote.
#[derive(Debug, Clone)]
struct Seen {
    wanted: Wanted,
    info: ImageInfo,
    at: Instant,
}

/// What is known of the image on one remote.
#[derive(Debug)]
pub(crate) struct Image {
    /// Marks what is uploaded.
    shop: Option<ShopId>,
    digests: Arc<Digests>,
    /// Set once the alias was seen, or made by us.
    seen: std::sync::Mutex<Option<Seen>>,
    /// Held while looking and uploading: of several orders that need the image one brings it, and the others wait.
    bringing: Mutex<()>,
    upload: std::sync::Mutex<Upload>,
}

impl Image {
    /// Nothing is known yet. What is uploaded is marked as `shop`'s.
    pub(crate) fn new(shop: Option<ShopId>, digests: Arc<Digests>) -> Self {
        Self {
            shop,
            digests,
            seen: std::sync::Mutex::default(),
            bringing: Mutex::default(),
            upload: std::sync::Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
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

    /// The digest of the files that the settings name, if they name any.
    pub(crate) async fn digest(&self, remote: &settings::Remote) -> Result<Option<String>, Error> {
        let Some(files) = remote.image_files() else { return Ok(None) };
        let digest = self.digests.of(files).await.map_err(|source| {
            let paths: Vec<_> = paths(files).iter().map(|path| path.display().to_string()).collect();
            Error::Settings {
                key: format!("remotes.{}.image_file", remote.name),
                what: format!("cannot read {}", paths.join(" and ")),
                source: source.into(),
            }
        })?;
        Ok(Some(digest))
    }

    async fn wanted(&self, remote: &settings::Remote) -> Result<Wanted, Error> {
        let digest = self.digest(remote).await?;
        let alias =
            digest.as_ref().map_or_else(|| remote.image.clone(), |digest| alias(&remote.image, digest));
        Ok(Wanted { alias, digest })
    }

    /// The image, if it is the wanted one and was seen a moment ago.
    fn fresh(&self, wanted: &Wanted) -> Option<ImageInfo> {
        let seen = self.seen();
        let fresh = |seen: &&Seen| seen.wanted == *wanted && seen.at.elapsed() < SEEN_MAX_AGE;
        seen.as_ref().filter(fresh).map(|seen| seen.info.clone())
    }

    /// The image, if the remote has it. Fails if it does not, and the image cannot be brought there. Costs nothing for a while
    /// after it was seen.
    pub(crate) async fn check(
        &self,
        client: &Client,
        remote: &settings::Remote,
    ) -> Result<Option<ImageInfo>, Error> {
        let wanted = self.wanted(remote).await?;
        let found = match self.fresh(&wanted) {
            Some(image) => Some(image),
            None => self.look(client, remote, wanted).await?,
        };
        if found.is_none() && remote.image_files().is_none() {
            return Err(missing(remote));
        }
        Ok(found)
    }

    /// The image's size as a file, in bytes: what the remote says, else that of the files to be uploaded.
    pub(crate) fn size(image: Option<&ImageInfo>, remote: &settings::Remote) -> u64 {
        match (image, remote.image_files()) {
            (Some(image), _) => image.size,
            (None, Some(files)) => total_length(files),
            (None, None) => 0,
        }
    }

    /// Sees to it that the image is on the remote, and returns its alias. Other images are left as they are.
    pub(crate) async fn bring(&self, client: &Client, remote: &settings::Remote) -> Result<String, Error> {
        let wanted = self.wanted(remote).await?;
        if self.fresh(&wanted).is_some() {
            return Ok(wanted.alias);
        }
        let _bringing = self.bringing.lock().await;
        if self.fresh(&wanted).is_some() || self.look(client, remote, wanted.clone()).await?.is_some() {
            return Ok(wanted.alias);
        }
        let (Some(files), Some(digest)) = (remote.image_files(), &wanted.digest) else {
            return Err(missing(remote));
        };
        let image = ImageFingerprint::of_digest(digest.as_str());
        // One without the alias was left by an upload that was interrupted, or somebody else brought it.
        if client.image(PROJECT, &image).await.found()?.is_none() {
            upload(client, remote, &wanted.alias, files, &image).await?;
            if let Some(shop) = &self.shop {
                client.set_image_property(PROJECT, &image, PROPERTY_SHOP, shop.as_str()).await?;
            }
        }
        match client.create_image_alias(PROJECT, &wanted.alias, &image).await {
            // Somebody else was first, with the same image.
            Err(error) if error.is_conflict() => {}
            other => other?,
        }
        tracing::info!("remote {:?}: image {:?} is there", remote.name, wanted.alias);
        self.look(client, remote, wanted.clone()).await?;
        Ok(wanted.alias)
    }

    async fn look(
        &self,
        client: &Client,
        remote: &settings::Remote,
        wanted: Wanted,
    ) -> Result<Option<ImageInfo>, Error> {
        let image = client.image_alias(PROJECT, &wanted.alias).await?;
        if let (Some(image), Some(digest)) = (&image, &wanted.digest)
            && image.as_str() != digest
        {
            self.is_gone();
            return Err(Error::OtherImage {
                remote: remote.name.clone(),
                alias: wanted.alias,
                found: image.to_string(),
            });
        }
        let found = match image {
            // Not found: removed in between.
            Some(image) => client.image(PROJECT, &image).await.found()?,
            None => None,
        };
        *self.seen() = found.clone().map(|info| Seen { wanted, info, at: Instant::now() });
        Ok(found)
    }
}

fn missing(remote: &settings::Remote) -> Error {
    Error::NoImage { remote: remote.name.clone(), alias: remote.image.clone() }
}

fn total_length(files: ImageFiles<'_>) -> u64 {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    paths(files).into_iter().map(length).sum()
}

async fn upload(
    client: &Client,
    remote: &settings::Remote,
    alias: &str,
    files: ImageFiles<'_>,
    expected: &ImageFingerprint,
) -> Result<(), Error> {
    let (name, alias, total) = (remote.name.clone(), alias.to_owned(), total_length(files));
    let files = match files {
        ImageFiles::Unified(path) => lxd_client::ImageFiles::Unified(path.to_owned()),
        ImageFiles::Split { metadata, rootfs } => {
            let kind = match remote.instance_type {
                InstanceType::Container => lxd_client::InstanceType::Container,
                InstanceType::VirtualMachine => lxd_client::InstanceType::VirtualMachine,
            };
            let (metadata, rootfs) = (metadata.to_owned(), rootfs.to_owned());
            lxd_client::ImageFiles::Split { metadata, rootfs, kind }
        }
    };
    tracing::info!("remote {name:?}: has no image {alias:?}; uploading it, {total} bytes");
    let mut tenth = 0;
    let log = {
        let (name, alias) = (name.clone(), alias.clone());
        move |sent: u64| {
            let now = sent.saturating_mul(10).checked_div(total).unwrap_or(10);
            if now > tenth {
                tenth = now;
                tracing::info!("remote {name:?}: image {alias:?}: {}% uploaded", now * 10);
            }
        }
    };
    let image = client.upload_image_watched(PROJECT, &files, UPLOAD_TIMEOUT, log).await?;
    if image == *expected {
        return Ok(());
    }
    // The files were changed between hashing and uploading.
    Err(Error::OtherImage { remote: name, alias, found: image.to_string() })
}
