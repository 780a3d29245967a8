//! JSON-RPC over HTTP like bitcoind's: basic authentication, batches, and versions 1.0 and 2.0 with their status codes.

use std::sync::Mutex;
use std::time::Duration;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha256};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::chain::Chain;
use super::methods;
use super::options::{Auth, Options};

/// Further methods that the simulated lightningd needs, because it stores no blocks. They are allowed even by a whitelist for the
/// real lightningd.
const STAND_INS_METHODS: [&str; 3] = ["getbestblockhash", "getblockheader", "scantxoutset"];

/// An RPC error.
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

/// The state of request handlers.
pub(super) struct Node {
    pub(super) chain: Mutex<Chain>,
    login: (String, String),
    auth: Option<Auth>,
    whitelist: Option<(String, Vec<String>)>,
    whitelist_default: bool,
    stop: Notify,
}

impl Node {
    pub(super) fn new(chain: Chain, login: (String, String), options: &Options) -> Self {
        Self {
            chain: Mutex::new(chain),
            login,
            auth: options.rpc_auth.clone(),
            whitelist: options.rpc_whitelist.clone(),
            whitelist_default: options.rpc_whitelist_default,
            stop: Notify::new(),
        }
    }

    /// The user that the headers authenticate, if any.
    fn user(&self, headers: &HeaderMap) -> Option<String> {
        let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
        let plain = base64::engine::general_purpose::STANDARD.decode(token).ok()?;
        let plain = String::from_utf8(plain).ok()?;
        let (user, password) = plain.split_once(':')?;
        let by_auth = |auth: &Auth| {
            let mut hash = HmacEngine::<sha256::Hash>::new(auth.salt.as_bytes());
            hash.input(password.as_bytes());
            auth.user == user && Hmac::from_engine(hash).to_string() == auth.hash
        };
        let known =
            (user, password) == (&self.login.0, &self.login.1) || self.auth.as_ref().is_some_and(by_auth);
        known.then(|| user.to_owned())
    }

    /// Returns whether the user may call the method.
    fn permits(&self, user: &str, request: &Value) -> bool {
        match &self.whitelist {
            Some((whose, methods)) if whose == user => request["method"].as_str().is_some_and(|method| {
                STAND_INS_METHODS.contains(&method) || methods.iter().any(|known| known == method)
            }),
            _ => !self.whitelist_default,
        }
    }

    /// Waits for `stop` to be called.
    pub(super) async fn stopped(&self) {
        self.stop.notified().await;
        // The answer to `stop` is still being sent.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    pub(super) fn stop(&self) {
        self.stop.notify_one();
    }

    pub(super) fn save_pool(&self) -> std::io::Result<()> {
        self.chain.lock().expect("no handler panics").save_pool()
    }
}

/// The only route. The path is ignored unless it names a wallet.
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
    let Some(user) = node.user(&headers) else {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"jsonrpc\"")])
            .into_response();
    };
    let request = serde_json::from_slice(&body);
    let permitted = match &request {
        Ok(Value::Array(requests)) => requests.iter().all(|request| node.permits(&user, request)),
        Ok(request) => node.permits(&user, request),
        Err(_) => true,
    };
    if !permitted {
        return StatusCode::FORBIDDEN.into_response();
    }
    let (status, answer) = match request {
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

/// Answers a request; `None` for a notification.
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
