//! Calls to a node over its unix socket.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cln_rpc::RpcError;
use cln_rpc::model::TypedRequest;
use daemon_rpc::Lightningd;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A client for a node. It opens a new connection for each call, and has a time-out.
///
/// A failure of the connection or a time-out is an [`RpcError`] without a code.
#[derive(Clone, Debug)]
pub struct Rpc(Lightningd);

impl Rpc {
    /// A client for the node with this socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self(Lightningd::new(socket))
    }

    /// The same client with another time-out (default: 30 s).
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self(self.0.with_timeout(timeout))
    }

    /// The node's socket.
    pub fn socket(&self) -> &Path {
        self.0.socket()
    }

    /// Calls a method by its name.
    pub async fn call(&self, method: &str, params: impl Serialize + Debug) -> Result<Value, RpcError> {
        self.0.call(method, params).await
    }

    /// Calls a method with cln-rpc's types.
    pub async fn typed<R>(&self, request: &R) -> Result<R::Response, RpcError>
    where
        R: TypedRequest + Serialize + Debug,
        R::Response: DeserializeOwned + Debug,
    {
        self.0.call_typed(request).await
    }
}
