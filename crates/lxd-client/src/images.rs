//! Images: aliases, and uploads that stream from disk.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{Stream, TryStreamExt as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio_util::io::ReaderStream;

use crate::{
    Client, ConfigMap, ErrorKind, Found as _, InstanceType, Result,
    transport::{Call, Payload},
};

/// Size of the pieces in which files are read, in bytes.
const CHUNK: usize = 256 * 1024;

/// SHA-256 of an image's files in hexadecimal; the server's name for the image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageFingerprint(String);

impl ImageFingerprint {
    pub(crate) fn from_name(name: String) -> Self {
        Self(name)
    }

    /// The image whose files have this SHA-256, in hexadecimal: that of one tarball, or of metadata and root file system one
    /// after the other.
    pub fn of_digest(digest: impl Into<String>) -> Self {
        Self(digest.into())
    }

    /// The fingerprint as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The files of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageFiles {
    /// One tarball with both metadata and root file system.
    Unified(PathBuf),
    /// A metadata tarball and a root file system: squashfs for containers, a qcow2 disk for virtual machines.
    Split {
        /// The tarball that has `metadata.yaml`.
        metadata: PathBuf,
        /// The root file system or disk.
        rootfs: PathBuf,
        /// The type of instances; it determines the name of the upload's field.
        kind: InstanceType,
    },
}

/// The instances that an image is for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ImageInfo {
    /// For example `x86_64`.
    pub architecture: String,
    /// Containers or virtual machines.
    #[serde(rename = "type")]
    pub kind: InstanceType,
    /// Its size as a file, in bytes.
    #[serde(default)]
    pub size: u64,
}

/// An image in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ListedImage {
    /// The server's name for it.
    pub fingerprint: ImageFingerprint,
    /// Its aliases.
    #[serde(default, deserialize_with = "alias_names")]
    pub aliases: Vec<String>,
    /// Its properties: those of its metadata, and those that were set later.
    #[serde(default, deserialize_with = "or_default")]
    pub properties: ConfigMap,
}

#[derive(Deserialize)]
struct AliasName {
    name: String,
}

fn alias_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let aliases = Option::<Vec<AliasName>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(aliases.into_iter().map(|alias| alias.name).collect())
}

/// Go writes an empty map or list as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct Alias {
    target: ImageFingerprint,
}

impl Client {
    /// Looks up the image of an alias. A project without images of its own (`features.images`) sees those of the project
    /// `default`.
    pub async fn image_alias(&self, project: &str, alias: &str) -> Result<Option<ImageFingerprint>> {
        let action = format!("look up image alias {alias} in project {project}");
        let call = Call::get(&["images", "aliases", alias], action).project(project);
        Ok(self.transport.fetch::<Alias>(call).await.found()?.map(|(alias, _)| alias.target))
    }

    /// Reads the architecture and instance type of an image.
    pub async fn image(&self, project: &str, image: &ImageFingerprint) -> Result<ImageInfo> {
        let action = format!("read image {image} in project {project}");
        let call = Call::get(&["images", &image.0], action).project(project);
        Ok(self.transport.fetch(call).await?.0)
    }

    /// Lists the images of a project.
    pub async fn images(&self, project: &str) -> Result<Vec<ListedImage>> {
        let call = Call::get(&["images"], format!("list images of project {project}"));
        Ok(self.transport.fetch(call.query("recursion", "1").project(project)).await?.0)
    }

    /// Sets a property of an image; the others stay.
    pub async fn set_image_property(
        &self,
        project: &str,
        image: &ImageFingerprint,
        key: &str,
        value: &str,
    ) -> Result<()> {
        let action = format!("set property {key} of image {image} in project {project}");
        let body = json!({"properties": {key: value}});
        self.transport.send(Call::patch(&["images", &image.0], body, action).project(project)).await.map(drop)
    }

    /// Gives an image an alias.
    pub async fn create_image_alias(
        &self,
        project: &str,
        alias: &str,
        image: &ImageFingerprint,
    ) -> Result<()> {
        let body = json!({"name": alias, "target": image, "description": ""});
        let action = format!("create image alias {alias} in project {project}");
        let call = Call::post(&["images", "aliases"], body, action).project(project);
        self.transport.send(call).await.map(drop)
    }

    /// Removes an alias; the image stays.
    pub async fn delete_image_alias(&self, project: &str, alias: &str) -> Result<()> {
        let action = format!("delete image alias {alias} in project {project}");
        let call = Call::delete(&["images", "aliases", alias], action).project(project);
        self.transport.send(call).await.map(drop)
    }

    /// Uploads an image and returns when the server has unpacked it, within the time-out `within`.
    ///
    /// The files are streamed, so memory use does not depend on their size. Succeeds if the server already has the image.
    pub async fn upload_image(
        &self,
        project: &str,
        files: &ImageFiles,
        within: Duration,
    ) -> Result<ImageFingerprint> {
        self.upload_image_watched(project, files, within, |_| ()).await
    }

    /// As [`Client::upload_image`]; `sent` counts the bytes of all files that have been sent so far.
    pub async fn upload_image_watched(
        &self,
        project: &str,
        files: &ImageFiles,
        within: Duration,
        sent: impl FnMut(u64) + Send + 'static,
    ) -> Result<ImageFingerprint> {
        let (ImageFiles::Unified(first) | ImageFiles::Split { metadata: first, .. }) = files;
        let action = format!("upload image {} to project {project}", first.display());
        let begin = std::time::Instant::now();
        let way = Arc::new(Mutex::new(OnTheWay { hash: Sha256::new(), bytes: 0, sent: Box::new(sent) }));
        let payload = match files {
            ImageFiles::Unified(path) => {
                let (stream, length) = self.open(path, &action, &way).await?;
                Payload::Stream { body: reqwest::Body::wrap_stream(stream), length }
            }
            ImageFiles::Split { metadata, rootfs, kind } => {
                let name = match kind {
                    InstanceType::Container => "rootfs",
                    InstanceType::VirtualMachine => "rootfs.img",
                };
                // The server wants the metadata first.
                let form = reqwest::multipart::Form::new()
                    .part("metadata", self.part(metadata, "metadata", &action, &way).await?)
                    .part(name, self.part(rootfs, name, &action, &way).await?);
                Payload::Form(form)
            }
        };
        let call = Call::new(reqwest::Method::POST, &["images"], action)
            .project(project)
            .header("X-LXD-public", "0")
            .header("X-Incus-public", "0")
            .payload(payload)
            .timeout(within);
        let done = async {
            let (operation, _) = self.start(call).await?;
            operation.wait_since(begin, within).await
        };
        match done.await {
            Ok(state) => Ok(match state.metadata["fingerprint"].as_str() {
                Some(fingerprint) => ImageFingerprint(fingerprint.to_owned()),
                None => hashed(&way),
            }),
            // Everything was sent, and the conflict is with an image of the same hash, so it is this one.
            Err(e) if e.is_conflict() => Ok(hashed(&way)),
            Err(e) => Err(e),
        }
    }

    /// Deletes an image and its aliases, within the time-out `within`.
    pub async fn delete_image(
        &self,
        project: &str,
        image: &ImageFingerprint,
        within: Duration,
    ) -> Result<()> {
        let action = format!("delete image {image} in project {project}");
        self.run(Call::delete(&["images", &image.0], action).project(project), within).await.map(drop)
    }

    async fn part(
        &self,
        path: &Path,
        file_name: &'static str,
        action: &str,
        way: &Arc<Mutex<OnTheWay>>,
    ) -> Result<reqwest::multipart::Part> {
        let (stream, length) = self.open(path, action, way).await?;
        let body = reqwest::Body::wrap_stream(stream);
        Ok(reqwest::multipart::Part::stream_with_length(body, length).file_name(file_name))
    }

    /// Opens a file as a stream that is hashed while it is sent; also returns its length.
    async fn open(
        &self,
        path: &Path,
        action: &str,
        way: &Arc<Mutex<OnTheWay>>,
    ) -> Result<(impl Stream<Item = std::io::Result<tokio_util::bytes::Bytes>> + Send + 'static, u64)> {
        let failed = |e| {
            let kind = ErrorKind::Invalid(format!("cannot read {}", path.display()));
            self.transport.error(action, kind).with_source(e)
        };
        let file = File::open(path).await.map_err(failed)?;
        let length = file.metadata().await.map_err(failed)?.len();
        let way = way.clone();
        let stream = ReaderStream::with_capacity(file, CHUNK).inspect_ok(move |bytes| {
            let mut way = way.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            way.hash.update(bytes);
            way.bytes += bytes.len() as u64;
            let now = way.bytes;
            (way.sent)(now);
        });
        Ok((stream, length))
    }
}

/// The hash and count of the bytes sent so far.
struct OnTheWay {
    hash: Sha256,
    bytes: u64,
    sent: Box<dyn FnMut(u64) + Send>,
}

fn hashed(way: &Mutex<OnTheWay>) -> ImageFingerprint {
    let way = way.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    ImageFingerprint(hex::encode(way.hash.clone().finalize()))
}
