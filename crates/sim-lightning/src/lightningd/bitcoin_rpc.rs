//! A client for bitcoind's RPC: one small HTTP request per call.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Time-out of a call.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Larger than any answer that we need.
const MAX_ANSWER: u64 = 256 << 20;

/// The login in the `bitcoin.conf` of a data directory, for `bitcoin-cli`.
pub(super) fn configured_login(datadir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(datadir.join("bitcoin.conf")).ok()?;
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
    };
    Some(format!("{}:{}", value("rpcuser")?, value("rpcpassword")?))
}

/// An error of a call to bitcoind.
#[derive(Debug, thiserror::Error)]
pub(super) enum BitcoinError {
    #[error("bitcoind at {address} cannot be asked for {method}: {reason}")]
    Unreachable { address: String, method: String, reason: String },
    #[error("bitcoind refused {method}: {message} (code {code})")]
    Refused { method: String, code: i64, message: String },
}

/// The address of bitcoind and its login.
pub(super) struct BitcoinRpc {
    pub(super) address: String,
    /// `user:password`. If `None`, the cookie file is read for every call, because bitcoind writes a new one at each start.
    pub(super) login: Option<String>,
    pub(super) cookie: PathBuf,
}

impl BitcoinRpc {
    pub(super) async fn call(&self, method: &str, params: Value) -> Result<Value, BitcoinError> {
        let unreachable = |reason: String| BitcoinError::Unreachable {
            address: self.address.clone(),
            method: method.into(),
            reason,
        };
        let exchange = tokio::time::timeout(TIMEOUT, self.exchange(method, &params)).await;
        let answer = exchange
            .map_err(|_| unreachable("no answer in time".into()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let (head, body) =
            answer.split_once("\r\n\r\n").ok_or_else(|| unreachable("not an HTTP answer".into()))?;
        let mut body: Value = serde_json::from_str(body)
            .map_err(|_| unreachable(head.lines().next().unwrap_or_default().to_owned()))?;
        if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
            return Err(BitcoinError::Refused {
                method: method.into(),
                code: error["code"].as_i64().unwrap_or_default(),
                message: error["message"].as_str().unwrap_or_default().into(),
            });
        }
        Ok(body["result"].take())
    }

    async fn exchange(&self, method: &str, params: &Value) -> std::io::Result<String> {
        let login = match &self.login {
            Some(login) => login.clone(),
            None => tokio::fs::read_to_string(&self.cookie).await.map_err(|error| {
                std::io::Error::new(error.kind(), format!("reading {}: {error}", self.cookie.display()))
            })?,
        };
        let token = base64::engine::general_purpose::STANDARD.encode(login.trim());
        let body =
            json!({"jsonrpc": "1.0", "id": "lightningd", "method": method, "params": params}).to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nAuthorization: Basic {token}\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len(),
        );
        let mut socket = TcpStream::connect(&self.address).await?;
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.take(MAX_ANSWER).read_to_string(&mut answer).await?;
        Ok(answer)
    }
}
