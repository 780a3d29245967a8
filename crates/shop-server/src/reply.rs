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

/// The same, with a `Retry-After` header.
pub(crate) fn later(status: StatusCode, sentence: &str, seconds: u64) -> Response {
    let mut response = error(status, sentence);
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}
