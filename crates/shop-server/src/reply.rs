//! Error responses.

use axum::Json;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

/// A response `{"error": "sentence"}`, never cached.
pub(crate) fn error(status: StatusCode, sentence: &str) -> Response {
    let mut response = (status, Json(json!({"error": sentence}))).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The node has not started since this machine was set up: `{"error": "sentence", "kind": "starting"}`, with status 503.
pub(crate) fn starting(sentence: &str, seconds: u64) -> Response {
    let body = Json(json!({"error": sentence, "kind": "starting"}));
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}

/// The same as [`error`], with a `Retry-After` header.
pub(crate) fn later(status: StatusCode, sentence: &str, seconds: u64) -> Response {
    let mut response = error(status, sentence);
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}
