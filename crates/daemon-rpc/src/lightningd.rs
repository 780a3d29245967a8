//! lightningd's RPC, over its unix socket.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cln_rpc::model::TypedRequest;
use cln_rpc::{ClnRpc, RpcError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// Longer than any call of ours takes on a healthy node. A node that replays blocks or writes to a slow disk takes seconds.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A node's RPC socket.
///
/// An [`RpcError`] with a code is the node's answer. One without a code means that there is no answer: whether the call
/// was carried out is not known.
#[derive(Clone, Debug)]
pub struct Lightningd {
    socket: PathBuf,
    timeout: Duration,
}

impl Lightningd {
    /// The node that listens on `socket`. A call times out after 30 s.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), timeout: DEFAULT_TIMEOUT }
    }

    /// The same node with another time-out for calls.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The node's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Calls a method by its name.
    pub async fn call<T>(&self, method: &str, params: impl Serialize + Debug) -> Result<T, RpcError>
    where
        T: DeserializeOwned + Debug,
    {
        self.exchange(method, &params).await
    }

    /// Calls a method with its types in cln-rpc.
    pub async fn call_typed<R>(&self, request: &R) -> Result<R::Response, RpcError>
    where
        R: TypedRequest + Serialize + Debug,
        R::Response: DeserializeOwned + Debug,
    {
        self.exchange(request.method(), request).await
    }

    async fn exchange<T>(&self, method: &str, params: &(impl Serialize + Debug)) -> Result<T, RpcError>
    where
        T: DeserializeOwned + Debug,
    {
        let call = async {
            let mut rpc = ClnRpc::new(&self.socket).await.map_err(|error| {
                no_answer(format!("cannot connect to {}: {error:#}", self.socket.display()))
            })?;
            rpc.call_raw(method, params).await
        };
        timeout(self.timeout, call).await.unwrap_or_else(|_| {
            Err(no_answer(format!("no answer to {method} within {} s", self.timeout.as_secs_f32())))
        })
    }
}

fn no_answer(message: String) -> RpcError {
    RpcError { code: None, message, data: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_answer_is_an_error_without_a_code() {
        let dir = tempfile::tempdir().expect("a directory");
        let nobody = Lightningd::new(dir.path().join("missing"));
        let error = nobody.call::<serde_json::Value>("getinfo", serde_json::json!({})).await;
        assert_eq!(error.expect_err("nobody listens").code, None);
        let socket = dir.path().join("silent");
        let _listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
        let silent = Lightningd::new(socket).with_timeout(Duration::from_millis(10));
        let error = silent.call::<serde_json::Value>("getinfo", serde_json::json!({})).await;
        let error = error.expect_err("it never answers");
        assert_eq!((error.code, error.message.as_str()), (None, "no answer to getinfo within 0.01 s"));
    }
}
