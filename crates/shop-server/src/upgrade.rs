//! The opening handshake of a relayed WebSocket: checked on the visitor's side, made on the node's.
//!
//! The visitor's key is handed on and the node's answer to it handed back, so that the two ends agree with each
//! other; of what else the visitor sent, nothing gets to the node. No extension is offered: frames are plain.

use std::io;
use std::time::Duration;

use axum::http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest answer to a handshake that is read, in bytes. Core Lightning's has 129.
const MAX_HEAD: usize = 4096;

/// The key of a visitor's handshake: 16 bytes in base64.
#[derive(Clone, Debug)]
pub(crate) struct Key(HeaderValue);

/// Why a request is no handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum NoHandshake {
    /// A plain request.
    #[error("this is for WebSockets only")]
    Plain,
    /// It is wrong.
    #[error("this WebSocket handshake is malformed")]
    Malformed,
}

impl NoHandshake {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Plain => StatusCode::UPGRADE_REQUIRED,
            Self::Malformed => StatusCode::BAD_REQUEST,
        }
    }
}

/// Checks a visitor's handshake.
pub(crate) fn check(method: &Method, headers: &HeaderMap) -> Result<Key, NoHandshake> {
    let has = |name, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value: &HeaderValue| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    if method != Method::GET || !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        return Err(NoHandshake::Plain);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") || !headers.contains_key(HOST)
    {
        return Err(NoHandshake::Malformed);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(NoHandshake::Malformed)?;
    match STANDARD.decode(key.as_bytes()) {
        Ok(bytes) if bytes.len() == 16 => Ok(Key(key.clone())),
        _ => Err(NoHandshake::Malformed),
    }
}

/// Why there is no way to a node.
#[derive(Debug, Error)]
pub(crate) enum DialError {
    /// It takes too long.
    #[error("the node does not answer in time")]
    Timeout,
    /// No connection.
    #[error("the node cannot be reached")]
    Connect(#[source] io::Error),
    /// Something else than a WebSocket is there.
    #[error("the node does not speak WebSocket")]
    Refused,
}

impl DialError {
    /// A word for metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect(_) => "connect",
            Self::Refused => "refused",
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect(_) | Self::Refused => StatusCode::BAD_GATEWAY,
        }
    }
}

/// A node that has taken the handshake.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: TcpStream,
    /// Its answer to the key.
    pub(crate) accept: HeaderValue,
    /// What it has said already.
    pub(crate) first: Vec<u8>,
}

/// Makes the handshake with the node at `address`, `HOST:PORT`.
pub(crate) async fn dial(address: &str, key: &Key, within: Duration) -> Result<Upstream, DialError> {
    timeout(within, handshake(address, key)).await.map_err(|_| DialError::Timeout)?
}

async fn handshake(address: &str, key: &Key) -> Result<Upstream, DialError> {
    let mut stream = TcpStream::connect(address).await.map_err(DialError::Connect)?;
    stream.set_nodelay(true).map_err(DialError::Connect)?;
    // Written by hand because Core Lightning wants the headers in just this case.
    let mut request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    )
    .into_bytes();
    request.extend_from_slice(key.0.as_bytes());
    request.extend_from_slice(b"\r\n\r\n");
    stream.write_all(&request).await.map_err(DialError::Connect)?;

    let mut head = Vec::with_capacity(512);
    loop {
        if head.len() >= MAX_HEAD {
            return Err(DialError::Refused);
        }
        let read = stream.read_buf(&mut head).await.map_err(DialError::Connect)?;
        if read == 0 {
            return Err(DialError::Refused);
        }
        if let Some((accept, length)) = read_answer(&head)? {
            head.drain(..length);
            return Ok(Upstream { stream, accept, first: head });
        }
    }
}

/// The answer to the key and the length of the head, once it is complete.
fn read_answer(head: &[u8]) -> Result<Option<(HeaderValue, usize)>, DialError> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut headers);
    let length = match answer.parse(head) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(DialError::Refused),
    };
    let accept = answer.headers.iter().find(|header| SEC_WEBSOCKET_ACCEPT == *header.name);
    match (answer.code, accept.map(|header| HeaderValue::from_bytes(header.value))) {
        (Some(101), Some(Ok(accept))) => Ok(Some((accept, length))),
        _ => Err(DialError::Refused),
    }
}
