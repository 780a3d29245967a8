//! The built web shop, kept in memory with its compressed variants.
//!
//! It has a few hundred kilobytes, which change only with a new version. A request is a lookup in a map: no file is opened, and a path
//! that is not in the map is not found, however it is written. `benches/server.rs` compares this with tower-http's `ServeDir`,
//! which opens a file on another thread for each request.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::reply;

/// Maximum size of all files together, in bytes.
const MAX_BYTES: u64 = 128 << 20;
/// Maximum depth of directories.
const MAX_DEPTH: usize = 8;
/// The page for all of the app's routes.
const INDEX: &str = "/index.html";
/// Directory of files whose names contain a hash of their contents.
const HASHED: &str = "/assets/";

/// The files by path.
#[derive(Debug)]
pub(crate) struct Assets {
    files: HashMap<String, Asset>,
}

/// A file.
#[derive(Debug)]
struct Asset {
    media_type: HeaderValue,
    immutable: bool,
    plain: Form,
    brotli: Option<Form>,
    gzip: Option<Form>,
}

/// A variant of a file.
#[derive(Debug)]
struct Form {
    bytes: Bytes,
    etag: HeaderValue,
}

impl Form {
    fn new(bytes: Vec<u8>) -> Self {
        let mut etag = String::from("\"");
        for byte in &Sha256::digest(&bytes)[..12] {
            write!(etag, "{byte:02x}").expect("a string takes all");
        }
        etag.push('"');
        Self { bytes: bytes.into(), etag: etag.try_into().expect("hex digits in quotes") }
    }
}

impl Assets {
    /// Reads a directory. `NAME.br` and `NAME.gz` are variants of `NAME`, not separate files.
    pub(crate) fn load(dir: &Path) -> Result<Self, Error> {
        let mut raw = HashMap::new();
        let mut left = MAX_BYTES;
        collect(dir, "", MAX_DEPTH, &mut left, &mut raw)?;
        let plain: Vec<String> = raw.keys().filter(|path| form_of(path, &raw).is_none()).cloned().collect();
        let mut files = HashMap::new();
        for path in plain {
            let mut form = |suffix: &str| raw.remove(&format!("{path}{suffix}")).map(Form::new);
            let (brotli, gzip) = (form(".br"), form(".gz"));
            let plain = form("").expect("it was listed");
            let asset = Asset {
                media_type: media_type(&path),
                immutable: path.starts_with(HASHED),
                plain,
                brotli,
                gzip,
            };
            files.insert(path, asset);
        }
        if !files.contains_key(INDEX) {
            return Err(Error::Assets(format!(
                "there is no index.html in {}; build the web shop",
                dir.display()
            )));
        }
        Ok(Self { files })
    }

    /// Answers a request for a path, which is compared without decoding.
    pub(crate) fn respond(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response {
        let wants_page = || {
            let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
            accept.is_some_and(|accept| accept.contains("text/html"))
        };
        let (asset, status) = match self.files.get(path) {
            Some(asset) => (asset, StatusCode::OK),
            None if is_app_route(path) => (&self.files[INDEX], StatusCode::OK),
            // For browsers the app itself has a page for unknown paths.
            None if wants_page() => (&self.files[INDEX], StatusCode::NOT_FOUND),
            None => return reply::error(StatusCode::NOT_FOUND, "not found"),
        };
        if method != Method::GET && method != Method::HEAD {
            let mut refusal = reply::error(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        asset.respond(method, status, headers)
    }
}

impl Asset {
    fn respond(&self, method: &Method, status: StatusCode, request: &HeaderMap) -> Response {
        let accepted = Accepted::read(request);
        let (form, encoding) = match (&self.brotli, &self.gzip) {
            (Some(form), _) if accepted.brotli => (form, Some("br")),
            (_, Some(form)) if accepted.gzip => (form, Some("gzip")),
            _ => (&self.plain, None),
        };
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(ETAG, form.etag.clone());
        let caching = if status != StatusCode::OK {
            "no-store"
        } else if self.immutable {
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
        if self.brotli.is_some() || self.gzip.is_some() {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        if status == StatusCode::OK && matches(request, &form.etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(CONTENT_TYPE, self.media_type.clone());
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        *response.status_mut() = status;
        if method == Method::HEAD {
            response.headers_mut().insert(CONTENT_LENGTH, form.bytes.len().into());
        } else {
            *response.body_mut() = Body::from(form.bytes.clone());
        }
        response
    }
}

/// The encodings that a request accepts.
#[derive(Clone, Copy, Default)]
struct Accepted {
    brotli: bool,
    gzip: bool,
}

impl Accepted {
    fn read(headers: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        let values = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
        for one in values.flat_map(|value| value.split(',')) {
            let mut parts = one.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            // `q=0` refuses an encoding. Other weights are ignored.
            let refused = parts.any(|part| {
                part.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
            });
            match name {
                "br" => accepted.brotli = !refused,
                "gzip" => accepted.gzip = !refused,
                _ => {}
            }
        }
        accepted
    }
}

/// Returns whether the client already has this variant.
fn matches(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let values = request.get_all(IF_NONE_MATCH).into_iter().map(HeaderValue::as_bytes);
    values.flat_map(|value| value.split(|b| *b == b',')).map(<[u8]>::trim_ascii).any(|candidate| {
        // Proxies that compress make tags weak, which is sufficient for a GET.
        candidate == b"*" || candidate.strip_prefix(b"W/").unwrap_or(candidate) == etag.as_bytes()
    })
}

/// Returns whether a path is one of the app's routes.
fn is_app_route(path: &str) -> bool {
    match path {
        "/" | "/order" | "/connect" | "/guide" => true,
        // Any id or name: the page itself finds out whether there is such an order or plan.
        _ => {
            let is_one = |rest: &str| !rest.is_empty() && !rest.contains('/');
            path.strip_prefix("/orders/").is_some_and(|id| is_one(id.strip_suffix("/wall").unwrap_or(id)))
                || path.strip_prefix("/guide/").is_some_and(is_one)
        }
    }
}

/// The path of the original, if `path` is a compressed variant.
fn form_of<'a>(path: &'a str, files: &HashMap<String, Vec<u8>>) -> Option<&'a str> {
    let original = path.strip_suffix(".br").or_else(|| path.strip_suffix(".gz"))?;
    files.contains_key(original).then_some(original)
}

/// Reads a directory's files, by their path below the root.
fn collect(
    dir: &Path,
    prefix: &str,
    depth: usize,
    left: &mut u64,
    files: &mut HashMap<String, Vec<u8>>,
) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { key: "dist_dir", path, source }
    };
    if depth == 0 {
        return Err(Error::Assets(format!("{} is nested too deep", dir.display())));
    }
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        let entry = entry.map_err(failed(dir))?;
        let path = entry.path();
        let name = entry.file_name().into_string().ok().filter(|name| is_plain(name));
        let Some(name) = name else {
            return Err(Error::Assets(format!(
                "{} has a name with characters that a URL must escape",
                path.display()
            )));
        };
        let at = format!("{prefix}/{name}");
        let metadata = fs::metadata(&path).map_err(failed(&path))?;
        if metadata.is_dir() {
            collect(&path, &at, depth - 1, left, files)?;
            continue;
        }
        let bytes = fs::read(&path).map_err(failed(&path))?;
        *left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            Error::Assets(format!("{} and the other files have more than {MAX_BYTES} bytes", path.display()))
        })?;
        files.insert(at, bytes);
    }
    Ok(())
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'~' | b'@'))
}

/// The media type of a file, by the extension of its name. Text is UTF-8.
fn media_type(path: &str) -> HeaderValue {
    let guess = mime_guess::from_path(path).first_or_octet_stream();
    let charset = if guess.type_() == mime_guess::mime::TEXT { "; charset=utf-8" } else { "" };
    HeaderValue::try_from(format!("{guess}{charset}")).expect("media types are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_the_media_types_that_they_require() {
        for (path, expected) in [
            ("/index.html", "text/html; charset=utf-8"),
            ("/assets/index.css", "text/css; charset=utf-8"),
            ("/assets/index.js", "text/javascript; charset=utf-8"),
            ("/manifest.webmanifest", "application/manifest+json"),
            ("/icon.svg", "image/svg+xml"),
            ("/assets/font.woff2", "font/woff2"),
            ("/unknown", "application/octet-stream"),
        ] {
            assert_eq!(media_type(path), expected, "{path}");
        }
    }
}
