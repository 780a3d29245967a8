//! JSON-RPC over HTTP as bitcoind serves it: basic auth, batches, the 1.0 and the 2.0 shape with their status codes.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::chain::Chain;
use super::methods;

/// An error as the caller gets it.
#[derive(Debug)]
pub(super) struct RpcError {
    pub(super) code: i32,
    pub(super) message: String,
}

impl RpcError {
    pub(super) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What a request handler works on.
pub(super) struct Node {
    pub(super) chain: Mutex<Chain>,
    pub(super) started: Instant,
    authorization: String,
    stop: Notify,
}

impl Node {
    pub(super) fn new(chain: Chain, (user, password): &(String, String)) -> Self {
        let token = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let authorization = format!("Basic {token}");
        Self { chain: Mutex::new(chain), started: Instant::now(), authorization, stop: Notify::new() }
    }

    /// Waits for `stop` to be called.
    pub(super) async fn stopped(&self) {
        self.stop.notified().await;
        // The answer to the call that stopped us is still on its way.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    pub(super) fn stop(&self) {
        self.stop.notify_one();
    }

    pub(super) fn save_pool(&self) -> std::io::Result<()> {
        self.chain.lock().expect("no handler panics").save_pool()
    }
}

/// The one route; the path is not looked at, as long as it names no wallet.
pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new().fallback(handle).layer(DefaultBodyLimit::max(32 << 20)).with_state(node)
}

async fn handle(
    State(node): State<Arc<Node>>,
    method: axum::http::Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method != axum::http::Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "JSONRPC server handles only POST requests").into_response();
    }
    let authorized = headers
        .get(header::AUTHORIZATION)
        .is_some_and(|given| given.as_bytes() == node.authorization.as_bytes());
    if !authorized {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"jsonrpc\"")])
            .into_response();
    }
    let (status, answer) = match serde_json::from_slice(&body) {
        Ok(Value::Array(requests)) => {
            let answers: Vec<_> = requests.iter().filter_map(|request| answer(&node, request).1).collect();
            (StatusCode::OK, Some(Value::Array(answers)))
        }
        Ok(request) => answer(&node, &request),
        Err(_) => {
            let error = json!({"code": -32700, "message": "Parse error"});
            (StatusCode::INTERNAL_SERVER_ERROR, Some(json!({"result": null, "error": error, "id": null})))
        }
    };
    match answer {
        Some(answer) => {
            (status, [(header::CONTENT_TYPE, "application/json")], format!("{answer}\n")).into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

/// One request's answer; `None` for a notification.
fn answer(node: &Node, request: &Value) -> (StatusCode, Option<Value>) {
    let id = request.get("id").cloned();
    let modern = request.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    let result = match (request.is_object(), request.get("method").map(|method| (method, method.as_str()))) {
        (false, _) => Err(RpcError::new(-32600, "Invalid Request object")),
        (_, None) => Err(RpcError::new(-32600, "Missing method")),
        (_, Some((_, None))) => Err(RpcError::new(-32600, "Method must be a string")),
        (_, Some((_, Some(method)))) => {
            methods::call(node, method, request.get("params").unwrap_or(&Value::Null))
        }
    };
    if modern {
        let answer = |id| match result {
            Ok(result) => json!({"jsonrpc": "2.0", "result": result, "id": id}),
            Err(error) => {
                json!({"jsonrpc": "2.0", "error": {"code": error.code, "message": error.message}, "id": id})
            }
        };
        return (StatusCode::OK, id.map(answer));
    }
    let status = match &result {
        Ok(_) => StatusCode::OK,
        Err(RpcError { code: -32600, .. }) => StatusCode::BAD_REQUEST,
        Err(RpcError { code: -32601, .. }) => StatusCode::NOT_FOUND,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let answer = match result {
        Ok(result) => json!({"result": result, "error": null, "id": id}),
        Err(error) => {
            json!({"result": null, "error": {"code": error.code, "message": error.message}, "id": id})
        }
    };
    (status, Some(answer))
}
