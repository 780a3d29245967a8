//! Error responses.

use axum::Json;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

/// A response `{"error": "sentence"}`, never cached.
pub(crate) fn error(status: StatusCode, sentence: &str) -> Response {
    uncached(status, json!({"error": sentence}))
}

/// The same as [`error`], with a `kind` by which the page finds its own words.
pub(crate) fn error_of(status: StatusCode, kind: &str, sentence: &str) -> Response {
    uncached(status, json!({"error": sentence, "kind": kind}))
}

/// The node has not started since this machine was set up: `{"error": "sentence", "kind": "starting"}`, with status 503 and a
/// `Retry-After` header.
pub(crate) fn starting(seconds: u64) -> Response {
    let sentence = "the shop's node has not started yet; try again later";
    let body = json!({"error": sentence, "kind": "starting"});
    retry_after(uncached(StatusCode::SERVICE_UNAVAILABLE, body), seconds)
}

/// The same as [`error`], with a `Retry-After` header.
pub(crate) fn later(status: StatusCode, sentence: &str, seconds: u64) -> Response {
    retry_after(error(status, sentence), seconds)
}

fn uncached(status: StatusCode, body: Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn retry_after(mut response: Response, seconds: u64) -> Response {
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}
