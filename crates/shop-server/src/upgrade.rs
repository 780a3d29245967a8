//! The opening handshakes of a relayed WebSocket: checks the visitor's, and makes one with the node.
//!
//! The visitor's key is passed to the node and the node's answer back to the visitor, so the two ends agree. Nothing else from the
//! visitor reaches the node. No extensions are offered, so frames are uncompressed.

use std::io;
use std::time::Duration;

use axum::http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use strum::{IntoStaticStr, VariantNames};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Maximum size of the answer to a handshake, in bytes. Core Lightning's has 129.
const MAX_HEAD: usize = 4096;

/// The key of a visitor's handshake: 16 bytes in base64.
#[derive(Clone, Debug)]
pub(crate) struct Key(HeaderValue);

/// The reason why a request is not a valid handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum HandshakeError {
    /// It is not a WebSocket request.
    #[error("this path is only for WebSockets")]
    Plain,
    /// It is malformed.
    #[error("this WebSocket handshake is malformed")]
    Malformed,
}

impl HandshakeError {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Plain => StatusCode::UPGRADE_REQUIRED,
            Self::Malformed => StatusCode::BAD_REQUEST,
        }
    }
}

/// Checks a visitor's handshake.
pub(crate) fn check(method: &Method, headers: &HeaderMap) -> Result<Key, HandshakeError> {
    let has = |name, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value: &HeaderValue| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    if method != Method::GET || !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        return Err(HandshakeError::Plain);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") || !headers.contains_key(HOST)
    {
        return Err(HandshakeError::Malformed);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Malformed)?;
    match STANDARD.decode(key.as_bytes()) {
        Ok(bytes) if bytes.len() == 16 => Ok(Key(key.clone())),
        _ => Err(HandshakeError::Malformed),
    }
}

/// An error of connecting to a node.
#[derive(Debug, Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum DialError {
    /// Time-out.
    #[error("the node does not answer in time")]
    Timeout,
    /// The connection failed.
    #[error("the node cannot be reached")]
    Connect(#[source] io::Error),
    /// The answer is not that of a WebSocket.
    #[error("the node does not speak WebSocket")]
    Refused,
}

impl DialError {
    /// The label in metrics.
    pub(crate) fn metric_label(&self) -> &'static str {
        self.into()
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect(_) | Self::Refused => StatusCode::BAD_GATEWAY,
        }
    }
}

/// A node after a successful handshake.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: TcpStream,
    /// Its answer to the key.
    pub(crate) accept: HeaderValue,
    /// Bytes that it has already sent.
    pub(crate) first: Vec<u8>,
}

/// Connects to the node at `address`, `HOST:PORT`, and makes the handshake.
pub(crate) async fn dial(address: &str, key: &Key, within: Duration) -> Result<Upstream, DialError> {
    timeout(within, handshake(address, key)).await.map_err(|_| DialError::Timeout)?
}

async fn handshake(address: &str, key: &Key) -> Result<Upstream, DialError> {
    let mut stream = TcpStream::connect(address).await.map_err(DialError::Connect)?;
    stream.set_nodelay(true).map_err(DialError::Connect)?;
    // Written by hand, because Core Lightning's headers are case-sensitive.
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

/// The answer to the key and the length of the head, if the head is complete.
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
