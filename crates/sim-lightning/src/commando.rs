//! Commando: JSON-RPC to a node over BOLT 8, authorised by a rune.
//!
//! [`Client`] connects to a node as a browser does, and works with the real daemon as well. Requests and replies are split into
//! pieces that fit a Lightning message: a type that says whether more pieces follow, the request's 8-byte id, then JSON.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use lightning::sign::KeysManager;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::ClientRequestBuilder;

use crate::peer::{self, Link, Message, PeerError, Role, Transport};

/// A piece of a request, not the last.
pub(crate) const REQUEST_CONTINUES: u16 = 0x4c4d;
/// The last piece of a request.
pub(crate) const REQUEST_ENDS: u16 = 0x4c4f;
/// A piece of a reply, not the last.
pub(crate) const REPLY_CONTINUES: u16 = 0x594b;
/// The last piece of a reply.
pub(crate) const REPLY_ENDS: u16 = 0x594d;

/// Core Lightning's size of a piece. The maximum is 65,535 bytes with type and id.
const PIECE: usize = 65_000;
/// Maximum size of a reply.
const MAX_REPLY: usize = 64 << 20;
/// Time-out for connecting, without the handshake.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Default time-out of [`Client::call`].
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Splits `json` into messages.
pub(crate) fn split(continues: u16, ends: u16, id: u64, json: &[u8]) -> Vec<Message> {
    let pieces = json.chunks(PIECE).len().max(1);
    (0..pieces)
        .map(|index| {
            let piece = &json[index * PIECE..json.len().min((index + 1) * PIECE)];
            let kind = if index + 1 == pieces { ends } else { continues };
            Message { kind, body: [&id.to_be_bytes(), piece].concat() }
        })
        .collect()
}

/// The id and the content of a piece; `None` if the message is too short.
pub(crate) fn piece(body: &[u8]) -> Option<(u64, &[u8])> {
    let (id, piece) = body.split_first_chunk()?;
    Some((u64::from_be_bytes(*id), piece))
}

/// An error of a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address or the node id is invalid.
    #[error("{what} is not {wanted}: {given}")]
    Malformed {
        /// The kind of value: "address" or "node id".
        what: &'static str,
        /// A description of valid values.
        wanted: &'static str,
        /// The invalid value.
        given: String,
    },
    /// The connection failed.
    #[error("connecting to {address}")]
    Dial {
        /// The address.
        address: String,
        /// The network's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection was closed before the answer.
    #[error("the node closed the connection before it answered {method}")]
    Closed {
        /// The method.
        method: String,
    },
    /// Time-out. Real nodes do not answer requests over 1 MiB at all.
    #[error("the node did not answer {method} within {} s", limit.as_secs())]
    Timeout {
        /// The method.
        method: String,
        /// The time-out.
        limit: Duration,
    },
    /// The answer is not JSON-RPC.
    #[error("the answer to {method} is not a JSON-RPC response")]
    Garbled {
        /// The method.
        method: String,
    },
    /// The node answered with an error; code 19537 (0x4c51) is commando's "rune refused".
    #[error("{method} failed with code {code}: {message}")]
    Rpc {
        /// The method.
        method: String,
        /// The JSON-RPC code.
        code: i64,
        /// The node's message.
        message: String,
        /// The error's data, or null.
        data: Value,
    },
}

impl Error {
    /// The JSON-RPC error code, if the node returned an error.
    pub fn code(&self) -> Option<i64> {
        match self {
            Self::Rpc { code, .. } => Some(*code),
            _ => None,
        }
    }
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>>;

/// A connection to a node, for any number of calls, also concurrent ones. Dropping it closes the connection.
pub struct Client {
    outgoing: mpsc::Sender<Message>,
    waiting: Waiting,
    next_id: AtomicU64,
    limit: Duration,
}

impl Client {
    /// Connects to `address` (`ws://HOST:PORT`, `ws:HOST:PORT`, or `HOST:PORT` for TCP) and checks that the node has the key
    /// `node_id` (66 hex digits). The client uses a new key of its own.
    pub async fn connect(address: &str, node_id: &str) -> Result<Self, Error> {
        Self::connect_with(address, node_id, &[]).await
    }

    /// As [`Client::connect`], with headers in the request for the WebSocket.
    pub async fn connect_with(address: &str, node_id: &str, headers: &[(&str, &str)]) -> Result<Self, Error> {
        Self::open(address, node_id, headers, None).await
    }

    /// As [`Client::connect`], from this address of the machine; `address` has an IP address of the same kind.
    pub async fn connect_from(source: IpAddr, address: &str, node_id: &str) -> Result<Self, Error> {
        Self::open(address, node_id, &[], Some(source)).await
    }

    async fn open(
        address: &str,
        node_id: &str,
        headers: &[(&str, &str)],
        source: Option<IpAddr>,
    ) -> Result<Self, Error> {
        let id: PublicKey = node_id.parse().map_err(|_| Error::Malformed {
            what: "node id",
            wanted: "a public key of 66 hex digits",
            given: node_id.into(),
        })?;
        let link = timeout(DIAL_TIMEOUT * 2, async {
            let transport = dial(address, headers, source).await?;
            let keys = Arc::new(KeysManager::new(&rand::random(), 0, 0, true));
            let opened = peer::open(transport, Role::Outbound(id), keys).await;
            opened.map_err(|source: PeerError| Error::Dial { address: address.into(), source: source.into() })
        })
        .await
        .map_err(|elapsed| Error::Dial { address: address.into(), source: elapsed.into() })??;
        let Link { outgoing, mut incoming, .. } = link;
        let waiting = Waiting::default();
        let answers = Arc::clone(&waiting);
        tokio::spawn(async move {
            let mut partial: HashMap<u64, Vec<u8>> = HashMap::new();
            while let Some(message) = incoming.recv().await {
                if message.kind != REPLY_CONTINUES && message.kind != REPLY_ENDS {
                    continue;
                }
                let Some((id, piece)) = piece(&message.body) else { continue };
                if !answers.lock().expect("nothing panics while holding it").contains_key(&id) {
                    // A reply to an unknown or abandoned call.
                    partial.remove(&id);
                    continue;
                }
                let reply = partial.entry(id).or_default();
                reply.extend_from_slice(piece);
                if reply.len() > MAX_REPLY {
                    break;
                }
                if message.kind == REPLY_ENDS {
                    let reply = partial.remove(&id).unwrap_or_default();
                    if let Some(caller) = answers.lock().expect("nothing panics while holding it").remove(&id)
                    {
                        // The caller may have given up.
                        drop(caller.send(reply));
                    }
                }
            }
            answers.lock().expect("nothing panics while holding it").clear();
        });
        Ok(Self { outgoing, waiting, next_id: AtomicU64::new(1), limit: CALL_TIMEOUT })
    }

    /// Sets the time-out of calls; the default is 60 s.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Calls `method` with `params` (an object or an array) and returns its result.
    pub async fn call(&self, rune: &str, method: &str, params: Value) -> Result<Value, Error> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = json!({"jsonrpc": "2.0", "id": format!("{method}#{id}"), "method": method, "params": params, "rune": rune});
        let closed = || Error::Closed { method: method.into() };
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().expect("nothing panics while holding it").insert(id, answer);
        let reply = timeout(self.limit, async {
            for message in split(REQUEST_CONTINUES, REQUEST_ENDS, id, request.to_string().as_bytes()) {
                self.outgoing.send(message).await.map_err(|_| closed())?;
            }
            answered.await.map_err(|_| closed())
        })
        .await;
        self.waiting.lock().expect("nothing panics while holding it").remove(&id);
        let reply = reply.map_err(|_| Error::Timeout { method: method.into(), limit: self.limit })??;
        let garbled = || Error::Garbled { method: method.into() };
        let mut reply: Value = serde_json::from_slice(&reply).map_err(|_| garbled())?;
        if let Some(error) = reply.get("error") {
            return Err(Error::Rpc {
                method: method.into(),
                code: error["code"].as_i64().ok_or_else(garbled)?,
                message: error["message"].as_str().unwrap_or_default().into(),
                data: error["data"].clone(),
            });
        }
        reply.get_mut("result").map(Value::take).ok_or_else(garbled)
    }
}

/// Opens a TCP connection to `host`, a name or an address with a port; from `source`, if there is one, only to an address.
async fn reach(host: &str, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(host).await };
    let target: SocketAddr = host.parse().map_err(std::io::Error::other)?;
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind((source, 0).into())?;
    socket.connect(target).await
}

/// Connects to `address`.
async fn dial(address: &str, headers: &[(&str, &str)], source: Option<IpAddr>) -> Result<Transport, Error> {
    let failed =
        |source: Box<dyn std::error::Error + Send + Sync>| Error::Dial { address: address.into(), source };
    let malformed =
        || Error::Malformed { what: "address", wanted: "ws://HOST:PORT or HOST:PORT", given: address.into() };
    let ws = address.strip_prefix("ws://").or_else(|| address.strip_prefix("ws:"));
    let target = ws.unwrap_or(address);
    let host = target.split('/').next().unwrap_or_default();
    if !host.contains(':') || address.starts_with("wss:") {
        return Err(malformed());
    }
    let dialled =
        timeout(DIAL_TIMEOUT, reach(host, source)).await.map_err(|elapsed| failed(elapsed.into()))?;
    let socket = dialled.map_err(|error| failed(error.into()))?;
    if ws.is_none() {
        return Ok(Transport::tcp(socket));
    }
    // A failure is harmless.
    drop(socket.set_nodelay(true));
    let uri = format!("ws://{target}").parse().map_err(|_| malformed())?;
    let request = headers
        .iter()
        .fold(ClientRequestBuilder::new(uri), |request, (name, value)| request.with_header(*name, *value));
    let upgraded = tokio_tungstenite::client_async(request, socket).await;
    Ok(Transport::websocket(upgraded.map_err(|error| failed(error.into()))?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_like_core_lightning() {
        for (length, pieces) in [(0, 1), (1, 1), (65_000, 1), (65_001, 2), (130_000, 2), (130_001, 3)] {
            let json: Vec<u8> = (0..length).map(|at: usize| u8::try_from(at % 251).expect("small")).collect();
            let messages = split(REQUEST_CONTINUES, REQUEST_ENDS, 7, &json);
            assert_eq!(messages.len(), pieces, "{length} bytes");
            let kinds: Vec<_> = messages.iter().map(|message| message.kind).collect();
            assert!(kinds[..pieces - 1].iter().all(|kind| *kind == REQUEST_CONTINUES));
            assert_eq!(kinds[pieces - 1], REQUEST_ENDS);
            let joined: Vec<u8> = messages
                .iter()
                .flat_map(|message| piece(&message.body).expect("has an id").1.to_vec())
                .collect();
            assert_eq!(joined, json);
            assert!(messages.iter().all(|message| piece(&message.body).expect("has an id").0 == 7));
        }
    }

    #[test]
    fn a_message_too_short_for_an_id_is_not_a_piece() {
        assert!(piece(&[0; 7]).is_none());
        assert_eq!(piece(&[0; 8]), Some((0, &[][..])));
    }

    #[test]
    fn a_message_does_not_show_its_body() {
        let message = Message { kind: REQUEST_ENDS, body: b"secret rune".to_vec() };
        assert_eq!(format!("{message:?}"), "message 0x4c4f of 11 bytes");
    }

    #[tokio::test]
    async fn describes_invalid_addresses() {
        let id = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";
        let error = Client::connect("nonsense", id).await.err().expect("no port");
        assert_eq!(error.to_string(), "address is not ws://HOST:PORT or HOST:PORT: nonsense");
        let error = Client::connect("127.0.0.1:1", "abc").await.err().expect("no key");
        assert_eq!(error.to_string(), "node id is not a public key of 66 hex digits: abc");
    }
}
