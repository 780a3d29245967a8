//! A BOLT 8 connection. LDK implements noise, `init` and pings; this module passes on whole custom messages.
//!
//! Every connection has its own `PeerManager`. LDK refuses a second connection of the same key, while in Core Lightning the newer
//! one wins; with separate managers, the owner of the connections decides.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::secp256k1::PublicKey;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use lightning::ln::msgs::{DecodeError, Init, LightningError};
use lightning::ln::peer_handler::{
    CustomMessageHandler, ErroringMessageHandler, IgnoringMessageHandler, MessageHandler, PeerManager,
    SocketDescriptor,
};
use lightning::ln::wire::{CustomMessageReader, Type};
use lightning::sign::KeysManager;
use lightning::types::features::{InitFeatures, NodeFeatures};
use lightning::util::logger::{Logger, Record};
use lightning::util::ser::{LengthLimitedRead, Writeable, Writer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_util::bytes::Bytes;
use tokio_util::codec::{BytesCodec, Framed};

/// Time-out from the first byte to the other side's `init`.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time-out for sending to a peer.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval of LDK's timer, with which it pings and drops silent peers.
const TICK: Duration = Duration::from_secs(10);
/// Maximum number of queued messages in each direction.
const QUEUE: usize = 64;

/// A message of a type that LDK does not handle.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

/// Omits the body, which may contain a rune: LDK logs messages by their Debug form.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {:#06x} of {} bytes", self.kind, self.body.len())
    }
}

impl Type for Message {
    fn type_id(&self) -> u16 {
        self.kind
    }
}

impl Writeable for Message {
    fn write<W: Writer>(&self, writer: &mut W) -> Result<(), lightning::io::Error> {
        writer.write_all(&self.body)
    }
}

/// A byte stream: plain TCP, or the payload of WebSocket's binary messages.
pub(crate) struct Transport {
    stream: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    sink: Pin<Box<dyn Sink<Bytes, Error = io::Error> + Send>>,
}

impl Transport {
    pub(crate) fn tcp(socket: TcpStream) -> Self {
        // For small messages; a failure is harmless.
        drop(socket.set_nodelay(true));
        let (sink, stream) = Framed::new(socket, BytesCodec::new()).split();
        Self {
            stream: Box::pin(stream.map(|chunk| chunk.map(tokio_util::bytes::BytesMut::freeze))),
            sink: Box::pin(sink),
        }
    }

    pub(crate) fn websocket<S>(socket: WebSocketStream<S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sink, stream) = socket.split();
        let stream = stream.filter_map(async |frame| match frame {
            Ok(tungstenite::Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(tungstenite::Message::Text(_)) => {
                Some(Err(io::Error::other("text in a WebSocket that carries BOLT 8")))
            }
            Ok(tungstenite::Message::Close(_)) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            // tungstenite answers pings.
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        });
        let sink = sink
            .sink_map_err(io::Error::other)
            .with(async |bytes: Bytes| Ok::<_, io::Error>(tungstenite::Message::Binary(bytes)));
        Self { stream: Box::pin(stream), sink: Box::pin(sink) }
    }
}

/// The side of the handshake.
pub(crate) enum Role {
    Inbound,
    /// We connected, and know the other side's key.
    Outbound(PublicKey),
}

/// An error of a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error(
        "the BOLT 8 handshake failed: the peer closed the connection, or holds another key than the one asked for"
    )]
    Handshake,
    #[error("no BOLT 8 handshake within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
}

/// A connection after `init`. Dropping both halves closes it.
pub(crate) struct Link {
    pub(crate) id: PublicKey,
    /// The peer's features, from its `init`.
    pub(crate) features: Vec<u8>,
    pub(crate) outgoing: mpsc::Sender<Message>,
    /// Ends with the connection.
    pub(crate) incoming: mpsc::Receiver<Message>,
}

/// Performs the handshake on `transport` and runs the connection in a task of its own.
pub(crate) async fn open(
    transport: Transport,
    role: Role,
    keys: Arc<KeysManager>,
) -> Result<Link, PeerError> {
    let (ready, is_ready) = oneshot::channel();
    let (outgoing, to_send) = mpsc::channel(QUEUE);
    let (received, incoming) = mpsc::channel(QUEUE);
    tokio::spawn(drive(transport, role, keys, ready, to_send, received));
    match timeout(HANDSHAKE_TIMEOUT, is_ready).await {
        Ok(Ok((id, features))) => Ok(Link { id, features, outgoing, incoming }),
        Ok(Err(_)) => Err(PeerError::Handshake),
        Err(_) => Err(PeerError::Timeout),
    }
}

async fn drive(
    mut transport: Transport,
    role: Role,
    keys: Arc<KeysManager>,
    ready: oneshot::Sender<(PublicKey, Vec<u8>)>,
    mut to_send: mpsc::Receiver<Message>,
    received: mpsc::Sender<Message>,
) {
    let mailbox = Arc::new(Mailbox::default());
    let ignore = Arc::new(IgnoringMessageHandler {});
    let handlers = MessageHandler {
        chan_handler: Arc::new(ErroringMessageHandler::new()),
        route_handler: Arc::clone(&ignore),
        onion_message_handler: Arc::clone(&ignore),
        custom_message_handler: Arc::clone(&mailbox),
        send_only_message_handler: ignore,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let manager = PeerManager::new(
        handlers,
        u32::try_from(now).unwrap_or(u32::MAX),
        &rand::random(),
        Arc::new(Silent),
        keys,
    );
    let mut outbox = Descriptor(Arc::new(Outbox::default()));
    let started = match role {
        Role::Inbound => manager.new_inbound_connection(outbox.clone(), None).map(|()| Vec::new()),
        Role::Outbound(id) => manager.new_outbound_connection(id, outbox.clone(), None),
    };
    let Ok(first) = started else { return };
    outbox.0.bytes.lock().expect(POISON).push_back(first.into());
    let mut ready = Some(ready);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();

    loop {
        let pending: Vec<_> =
            outbox.0.bytes.lock().expect(POISON).drain(..).filter(|bytes| !bytes.is_empty()).collect();
        for bytes in pending {
            if !matches!(timeout(SEND_TIMEOUT, transport.sink.send(bytes)).await, Ok(Ok(()))) {
                return manager.socket_disconnected(&outbox);
            }
        }
        if let Some(peer) = mailbox.connected.lock().expect(POISON).take()
            && let Some(ready) = ready.take()
            && ready.send(peer).is_err()
        {
            return;
        }
        let arrived = std::mem::take(&mut *mailbox.arrived.lock().expect(POISON));
        for message in arrived {
            // Waiting here slows down a peer that sends faster than it is served.
            if received.send(message).await.is_err() {
                return;
            }
        }
        if outbox.0.closed.load(Ordering::Relaxed) {
            return;
        }
        tokio::select! {
            chunk = transport.stream.next() => {
                let Some(Ok(chunk)) = chunk else { return manager.socket_disconnected(&outbox) };
                if manager.read_event(&mut outbox, &chunk).is_err() {
                    return;
                }
                manager.process_events();
            }
            message = to_send.recv(), if ready.is_none() => {
                let Some(message) = message else { return manager.socket_disconnected(&outbox) };
                mailbox.leaving.lock().expect(POISON).push(message);
                manager.process_events();
            }
            _ = tick.tick() => manager.timer_tick_occurred(),
        }
    }
}

const POISON: &str = "nothing panics while holding it";

/// Messages received from LDK, and messages for it to send.
#[derive(Default)]
struct Mailbox {
    peer: Mutex<Option<PublicKey>>,
    connected: Mutex<Option<(PublicKey, Vec<u8>)>>,
    arrived: Mutex<Vec<Message>>,
    leaving: Mutex<Vec<Message>>,
}

impl CustomMessageReader for Mailbox {
    type CustomMessage = Message;

    fn read<R: LengthLimitedRead>(&self, kind: u16, buffer: &mut R) -> Result<Option<Message>, DecodeError> {
        // BOLT 1: an unknown even type ends the connection; LDK does that.
        if kind.is_multiple_of(2) {
            return Ok(None);
        }
        let mut body = Vec::new();
        buffer.read_to_limit(&mut body, u64::MAX)?;
        Ok(Some(Message { kind, body }))
    }
}

impl CustomMessageHandler for Mailbox {
    fn handle_custom_message(&self, message: Message, _from: PublicKey) -> Result<(), LightningError> {
        self.arrived.lock().expect(POISON).push(message);
        Ok(())
    }

    fn get_and_clear_pending_msg(&self) -> Vec<(PublicKey, Message)> {
        let Some(peer) = *self.peer.lock().expect(POISON) else { return Vec::new() };
        self.leaving.lock().expect(POISON).drain(..).map(|message| (peer, message)).collect()
    }

    fn peer_disconnected(&self, _id: PublicKey) {}

    fn peer_connected(&self, id: PublicKey, init: &Init, _inbound: bool) -> Result<(), ()> {
        *self.peer.lock().expect(POISON) = Some(id);
        let mut features = init.features.encode();
        // Without the length prefix of the wire format.
        features.drain(..2.min(features.len()));
        *self.connected.lock().expect(POISON) = Some((id, features));
        Ok(())
    }

    fn provided_node_features(&self) -> NodeFeatures {
        NodeFeatures::empty()
    }

    fn provided_init_features(&self, _id: PublicKey) -> InitFeatures {
        InitFeatures::empty()
    }
}

/// Bytes that LDK wants to send; it has no sockets.
#[derive(Default)]
struct Outbox {
    bytes: Mutex<VecDeque<Bytes>>,
    closed: AtomicBool,
}

#[derive(Clone)]
struct Descriptor(Arc<Outbox>);

impl PartialEq for Descriptor {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Descriptor {}

impl Hash for Descriptor {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl SocketDescriptor for Descriptor {
    fn send_data(&mut self, data: &[u8], _continue_read: bool) -> usize {
        // All of it is sent before more is read, so the queue stays short.
        self.0.bytes.lock().expect(POISON).push_back(Bytes::copy_from_slice(data));
        data.len()
    }

    fn disconnect_socket(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }
}

struct Silent;

impl Logger for Silent {
    fn log(&self, _record: Record) {}
}
