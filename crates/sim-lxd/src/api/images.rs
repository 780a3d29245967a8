//! Images: their fingerprints and aliases. Their contents are not needed, so they are discarded.

use std::collections::BTreeMap;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest as _, Multipart, Path, Query, Request, State},
    http::{StatusCode, header},
};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Answer, Ctx, Params, Refusal, Shared, accepted, created, not_found, ok, parse, refuse};
use crate::{model::Image, rules::Kind};

/// Magic numbers of image files: tar (further in), gzip, xz, zstd, bzip2, squashfs, qcow2.
const MAGICS: [&[u8]; 6] = [b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"BZh", b"hsqs", b"QFI\xfb"];

pub(super) async fn list(State(shared): Ctx, Query(params): Query<Params>) -> Answer {
    let model = shared.model();
    let Some(owner) = model.owner("images", &params.project) else { return ok(json!([])) };
    let images = owner.images.iter().map(|(f, image)| (f.clone(), image.render(f, &owner.aliases)));
    params.list("images", images.collect())
}

pub(super) async fn read(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(fingerprint): Path<String>,
) -> Answer {
    let model = shared.model();
    let owner = model.owner("images", &params.project);
    match owner.and_then(|o| Some((o, o.images.get(&fingerprint)?))) {
        Some((owner, image)) => ok(image.render(&fingerprint, &owner.aliases)),
        None => not_found("Image not found"),
    }
}

#[derive(Deserialize)]
struct Change {
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

/// Sets properties; the others stay.
pub(super) async fn patch(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(fingerprint): Path<String>,
    body: Bytes,
) -> Answer {
    let Change { properties } = parse(&body)?;
    let mut model = shared.model();
    let owner = model.owner_mut("images", &params.project);
    match owner.and_then(|owner| owner.images.get_mut(&fingerprint)) {
        Some(image) => {
            image.properties.extend(properties);
            ok(json!({}))
        }
        None => not_found("Image not found"),
    }
}

/// Receives an image as one file or as a form with two. The body is hashed and discarded.
pub(super) async fn upload(State(shared): Ctx, Query(params): Query<Params>, request: Request) -> Answer {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let received = if content_type.is_some_and(|t| t.starts_with("multipart/form-data")) {
        let bad = |e: String| Refusal(StatusCode::BAD_REQUEST, e);
        let mut form = Multipart::from_request(request, &()).await.map_err(|e| bad(e.to_string()))?;
        let mut received = Received::default();
        for wanted in [&["metadata"][..], &["rootfs", "rootfs.img"]] {
            let field = form.next_field().await.map_err(|e| bad(e.to_string()))?;
            let Some(mut field) = field.filter(|f| f.name().is_some_and(|n| wanted.contains(&n))) else {
                return refuse(StatusCode::BAD_REQUEST, format!("Invalid multipart image: no {}", wanted[0]));
            };
            if field.name() == Some("rootfs.img") {
                received.kind = Kind::VirtualMachine;
            }
            while let Some(chunk) = field.chunk().await.map_err(|e| bad(e.to_string()))? {
                received.add(&chunk);
            }
        }
        received
    } else {
        receive(request.into_body()).await?
    };
    let operation = {
        let (shared, project) = (shared.clone(), params.project);
        shared.clone().operations.start("Downloading image", Value::Null, async move {
            let fingerprint = hex::encode(received.hash.finalize());
            let metadata = json!({"fingerprint": fingerprint, "size": received.size.to_string()});
            if !looks_like_an_image(&received.start) {
                return Err("Unsupported compression".into());
            }
            let mut model = shared.model();
            let owner = model.owner_of("images", &project).to_owned();
            let owner = model.projects.get_mut(&owner).ok_or("Project not found")?;
            if owner.images.contains_key(&fingerprint) {
                return Err("Image with same fingerprint already exists".into());
            }
            owner.images.insert(fingerprint, Image::new(received.size, received.kind));
            Ok(metadata)
        })
    };
    accepted(&operation)
}

struct Received {
    /// Containers, unless it has a disk.
    kind: Kind,
    hash: Sha256,
    size: u64,
    /// The first bytes, from which the format is detected.
    start: Vec<u8>,
}

impl Default for Received {
    fn default() -> Self {
        Self { kind: Kind::Container, hash: Sha256::new(), size: 0, start: Vec::new() }
    }
}

impl Received {
    fn add(&mut self, chunk: &[u8]) {
        self.hash.update(chunk);
        self.size += chunk.len() as u64;
        let missing = 512_usize.saturating_sub(self.start.len());
        self.start.extend(chunk.iter().take(missing));
    }
}

async fn receive(body: Body) -> Result<Received, Refusal> {
    let mut received = Received::default();
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        received.add(&chunk.map_err(|e| Refusal(StatusCode::BAD_REQUEST, e.to_string()))?);
    }
    Ok(received)
}

fn looks_like_an_image(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar") || MAGICS.iter().any(|magic| start.starts_with(magic))
}

pub(super) async fn delete(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(fingerprint): Path<String>,
) -> Answer {
    let owner = {
        let model = shared.model();
        let name = model.owner_of("images", &params.project);
        if model.projects.get(name).is_none_or(|owner| !owner.images.contains_key(&fingerprint)) {
            return not_found("Image not found");
        }
        name.to_owned()
    };
    let resources = json!({"images": [format!("/1.0/images/{fingerprint}")]});
    let work = {
        let shared = shared.clone();
        async move {
            if let Some(owner) = shared.model().projects.get_mut(&owner) {
                owner.images.remove(&fingerprint);
                owner.aliases.retain(|_, target| *target != fingerprint);
            }
            Ok(Value::Null)
        }
    };
    accepted(&shared.operations.start("Deleting image", resources, work))
}

pub(super) async fn list_aliases(State(shared): Ctx, Query(params): Query<Params>) -> Answer {
    let model = shared.model();
    let Some(owner) = model.owner("images", &params.project) else { return ok(json!([])) };
    let aliases = owner.aliases.iter().map(|(name, target)| (name.clone(), render_alias(name, target)));
    params.list("images/aliases", aliases.collect())
}

fn render_alias(name: &str, target: &str) -> Value {
    json!({"name": name, "target": target, "description": "", "type": "container"})
}

#[derive(Deserialize)]
struct NewAlias {
    name: String,
    target: String,
}

pub(super) async fn create_alias(State(shared): Ctx, Query(params): Query<Params>, body: Bytes) -> Answer {
    let NewAlias { name, target } = parse(&body)?;
    let mut model = shared.model();
    let owner = model.owner_of("images", &params.project).to_owned();
    let Some(owner) = model.projects.get_mut(&owner) else { return not_found("Project not found") };
    if owner.aliases.contains_key(&name) {
        return refuse(StatusCode::CONFLICT, format!("Alias {name:?} already exists"));
    }
    if !owner.images.contains_key(&target) {
        return not_found("Image not found");
    }
    owner.aliases.insert(name.clone(), target);
    created(format!("/1.0/images/aliases/{name}"))
}

pub(super) async fn read_alias(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
) -> Answer {
    match alias(&shared, &params.project, &name) {
        Some(target) => ok(render_alias(&name, &target)),
        None => not_found("Image alias not found"),
    }
}

pub(super) async fn delete_alias(
    State(shared): Ctx,
    Query(params): Query<Params>,
    Path(name): Path<String>,
) -> Answer {
    let mut model = shared.model();
    let owner = model.owner_of("images", &params.project).to_owned();
    match model.projects.get_mut(&owner).and_then(|owner| owner.aliases.remove(&name)) {
        Some(_) => ok(json!({})),
        None => not_found("Image alias not found"),
    }
}

/// The image with this alias in a project.
pub(super) fn alias(shared: &Shared, project: &str, name: &str) -> Option<String> {
    shared.model().owner("images", project)?.aliases.get(name).cloned()
}
