//! bitcoind's RPC, over HTTP.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A hundred blocks are mined in a fraction of this.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 8 << 20;

/// bitcoind's code while it starts.
const IN_WARMUP: i64 = -28;

/// A failed call.
#[derive(Debug, Error)]
pub enum Error {
    /// bitcoind answered with an error.
    #[error("bitcoind refused {method}: {message} ({code})")]
    Refused {
        /// The RPC method.
        method: String,
        /// bitcoind's code (`src/rpc/protocol.h`).
        code: i64,
        /// bitcoind's message.
        message: String,
    },
    /// There is no usable answer: bitcoind is down, starting or too slow.
    #[error("bitcoind at {address} did not answer {method}")]
    NoAnswer {
        /// The RPC method.
        method: String,
        /// Its RPC address.
        address: SocketAddr,
        /// The reason.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Error {
    /// True if bitcoind is down or still starting.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { code, .. } => *code == IN_WARMUP,
            Self::NoAnswer { .. } => true,
        }
    }

    /// bitcoind's code, if it answered.
    pub fn code(&self) -> Option<i64> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::NoAnswer { .. } => None,
        }
    }
}

/// A bitcoind on this machine. Calls log in with the cookie in its data directory, which is new at each start.
#[derive(Debug, Clone)]
pub struct Bitcoind {
    cookie: PathBuf,
    address: SocketAddr,
    timeout: Duration,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Value,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: i64,
    message: String,
}

impl Bitcoind {
    /// The regtest bitcoind with this data directory and RPC address. A call times out after 30 s.
    pub fn regtest(datadir: &Path, address: SocketAddr) -> Self {
        Self { cookie: datadir.join("regtest/.cookie"), address, timeout: DEFAULT_TIMEOUT }
    }

    /// The same bitcoind with another time-out for calls.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Its RPC address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An answer to `method` that cannot be used.
    pub fn unusable(&self, method: &str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::NoAnswer { method: method.to_owned(), address: self.address, source: source.into() }
    }

    /// Calls `method` with positional parameters.
    pub async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, Error> {
        let unusable = |source: Box<dyn StdError + Send + Sync>| self.unusable(method, source);
        let exchange = timeout(self.timeout, self.exchange(method, params));
        let bytes = exchange.await.map_err(|late| unusable(late.into()))?.map_err(unusable)?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|e| unusable(e.into()))?;
        if let Some(Refusal { code, message }) = answer.error {
            return Err(Error::Refused { method: method.to_owned(), code, message });
        }
        serde_json::from_value(answer.result).map_err(|e| unusable(e.into()))
    }

    async fn exchange(&self, method: &str, params: Value) -> Result<Bytes, Box<dyn StdError + Send + Sync>> {
        let cookie = tokio::fs::read(&self.cookie).await?;
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let body = json!({"jsonrpc": "1.0", "id": 1, "method": method, "params": params}).to_string();
        let request = Request::post("/")
            .header(HOST, self.address.to_string())
            .header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(cookie)))
            .body(Full::new(Bytes::from(body)))?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let bytes = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
            // Errors come with status 500 and a body; a wrong password comes without one.
            if bytes.is_empty() { Err(format!("HTTP status {status}").into()) } else { Ok(bytes) }
        };
        tokio::pin!(answer);
        // The connection is driven here rather than in a task of its own, so that it ends with the call.
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => {
                ended?;
                answer.await
            }
        }
    }
}
