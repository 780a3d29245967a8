//! Calls to a node over its unix socket.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cln_rpc::model::TypedRequest;
use cln_rpc::{ClnRpc, RpcError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Enough for any call to a healthy node, except waiting calls, which set their own time-outs.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A client for a node. It opens a new connection for each call, and has a time-out.
///
/// A failure of the connection or a time-out is an [`RpcError`] without a code.
#[derive(Clone, Debug)]
pub struct Rpc {
    socket: PathBuf,
    limit: Duration,
}

impl Rpc {
    /// A client for the node with this socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), limit: DEFAULT_TIMEOUT }
    }

    /// The same client with another time-out (default: 30 s).
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// The node's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Calls a method by name.
    pub async fn call(&self, method: &str, params: impl Serialize + Debug) -> Result<Value, RpcError> {
        self.bounded(method, &params).await
    }

    /// Calls a method with cln-rpc's types.
    pub async fn typed<R>(&self, request: &R) -> Result<R::Response, RpcError>
    where
        R: TypedRequest + Serialize + Debug,
        R::Response: DeserializeOwned + Debug,
    {
        self.bounded(request.method(), request).await
    }

    async fn bounded<A: DeserializeOwned + Debug>(
        &self,
        method: &str,
        params: &(impl Serialize + Debug),
    ) -> Result<A, RpcError> {
        let call = async {
            let mut rpc = ClnRpc::new(&self.socket).await.map_err(|error| {
                without_code(format!("connecting to {}: {error:#}", self.socket.display()))
            })?;
            rpc.call_raw(method, params).await
        };
        tokio::time::timeout(self.limit, call).await.unwrap_or_else(|_| {
            Err(without_code(format!("no answer to {method} within {} s", self.limit.as_secs_f32())))
        })
    }
}

fn without_code(message: String) -> RpcError {
    RpcError { code: None, message, data: None }
}
