//! Peers: listening, connecting, commando, and the requests between simulated nodes.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Context as _;
use bitcoin::secp256k1::PublicKey;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::params::{Params, RpcError, RpcResult};
use super::rune_rules::{self, Request};
use super::runes::Rune;
use super::store::Change;
use super::{Node, channels, rpc};
use crate::commando::{REPLY_CONTINUES, REPLY_ENDS, REQUEST_CONTINUES, REQUEST_ENDS, piece, split};
use crate::peer::{self, Link, Message, Role, Transport};

/// Regtest's port, for addresses without one.
const DEFAULT_PORT: u16 = 19846;
/// A request from one simulated node to another: 8 bytes of id, then JSON. The type is odd, so other nodes ignore it.
const ASK: u16 = 0xa5a5;
/// The answer to such a request, with the same id.
const ANSWER: u16 = 0xa5a7;
/// Time-out for an answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a commando request; larger ones are dropped without an answer.
const MAX_REQUEST: usize = 1024 * 1024;
/// Commando's error for an invalid request.
const COMMANDO_ERROR: i64 = 0x4c50;
/// Commando's error for a request that the rune does not permit.
const COMMANDO_AUTH: i64 = 0x4c51;

/// The addresses on which the node listens, for `getinfo`.
#[derive(Default)]
pub(super) struct Bindings {
    pub(super) bound: Vec<Value>,
    pub(super) announced: Vec<Value>,
}

struct Peer {
    outgoing: mpsc::Sender<Message>,
    features: String,
    inbound: bool,
    address: SocketAddr,
    serial: u64,
    /// Dropped with the entry, which closes the connection.
    _keep: oneshot::Sender<()>,
}

/// The connected peers. The newer connection of a key wins.
#[derive(Default)]
pub(super) struct Peers {
    live: Mutex<HashMap<PublicKey, Peer>>,
    asked: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    serial: AtomicU64,
}

impl Peers {
    fn live(&self) -> MutexGuard<'_, HashMap<PublicKey, Peer>> {
        self.live.lock().expect("nothing panics while holding it")
    }

    pub(super) fn count(&self) -> usize {
        self.live().len()
    }

    pub(super) fn is_connected(&self, id: &PublicKey) -> bool {
        self.live().contains_key(id)
    }

    /// Sends a request to another simulated node; `None` if it is not connected or does not answer.
    pub(super) async fn ask(&self, id: &PublicKey, question: &Value) -> Option<Value> {
        let outgoing = self.live().get(id)?.outgoing.clone();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.asked.lock().expect("nothing panics while holding it").insert(serial, answer);
        let body = [&serial.to_be_bytes()[..], question.to_string().as_bytes()].concat();
        let exchange = async {
            outgoing.send(Message { kind: ASK, body }).await.ok()?;
            // Waiting for the answer must not keep a replaced connection open.
            drop(outgoing);
            answered.await.ok()
        };
        let answer = timeout(ASK_TIMEOUT, exchange).await.ok().flatten();
        self.asked.lock().expect("nothing panics while holding it").remove(&serial);
        answer
    }
}

fn address_json(address: &SocketAddr) -> Value {
    let kind = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    json!({"type": kind, "address": address.ip().to_string(), "port": address.port()})
}

/// `HOST`, `HOST:PORT`, `[V6]:PORT` or a bare IPv6 address.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = port.strip_prefix(':').map_or(Some(DEFAULT_PORT), |port| port.parse().ok())?;
        return Some((host.into(), port));
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host.into(), port.parse().ok()?)),
        _ => Some((text.into(), DEFAULT_PORT)),
    }
}

async fn resolve(text: &str) -> anyhow::Result<SocketAddr> {
    let (host, port) = host_and_port(text).with_context(|| format!("Unable to parse address '{text}'"))?;
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let mut found = tokio::net::lookup_host((host.as_str(), port))
        .await
        .with_context(|| format!("resolving '{host}'"))?;
    found.next().with_context(|| format!("'{host}' has no address"))
}

/// Opens all configured addresses and starts accepting.
pub(super) async fn listen(node: &Arc<Node>) -> anyhow::Result<()> {
    let options = &node.options;
    let mut wanted: Vec<(&str, bool)> = options.all("bind-addr").map(|text| (text, false)).collect();
    wanted.extend(options.all("addr").map(|text| (text, true)));
    let silent =
        matches!(options.last("autolisten"), Some("false" | "0" | "no")) || options.is_set("offline");
    let automatic = wanted.is_empty() && !silent;
    if automatic {
        wanted.push(("0.0.0.0", false));
    }
    if options.is_set("offline") {
        wanted.clear();
    }
    for (text, announced) in wanted {
        let (plain, websocket) = text.strip_prefix("ws:").map_or((text, false), |rest| (rest, true));
        let address = resolve(plain).await?;
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) if automatic => {
                node.log.unusual(&format!("Failed to bind automatically to {address}: {error}"));
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("Failed to bind on socket '{text}'")),
        };
        let mut shown = address_json(&listener.local_addr()?);
        let mut bindings = node.bindings.lock().expect("nothing panics while holding it");
        if announced {
            bindings.announced.push(shown.clone());
        }
        if websocket {
            shown["subtype"] = shown["type"].take();
            shown["type"] = json!("websocket");
        }
        // The real daemon does not show it, but with port 0 there is no other way to learn the port.
        if !websocket || address.port() == 0 {
            bindings.bound.push(shown);
        }
        drop(bindings);
        tokio::spawn(accept(Arc::clone(node), listener, websocket));
    }
    for text in options.all("announce-addr") {
        let shown = address_json(&resolve(text).await?);
        node.bindings.lock().expect("nothing panics while holding it").announced.push(shown);
    }
    Ok(())
}

async fn accept(node: Arc<Node>, listener: TcpListener, websocket: bool) {
    loop {
        match listener.accept().await {
            Ok((socket, address)) => {
                let node = Arc::clone(&node);
                tokio::spawn(async move {
                    let transport = if websocket {
                        let upgrade = tokio_tungstenite::accept_async(socket);
                        let Ok(Ok(socket)) = timeout(DIAL_TIMEOUT, upgrade).await else { return };
                        Transport::websocket(socket)
                    } else {
                        Transport::tcp(socket)
                    };
                    match peer::open(transport, Role::Inbound, Arc::clone(&node.keys)).await {
                        Ok(link) => register(&node, link, true, address),
                        Err(error) => node.log.debug(&format!("{address}: {error}")),
                    }
                });
            }
            Err(error) => {
                node.log.unusual(&format!("accepting a peer: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Makes `link` the connection of its key and serves it.
fn register(node: &Arc<Node>, link: Link, inbound: bool, address: SocketAddr) {
    let Link { id, features, outgoing, mut incoming } = link;
    let serial = node.peers.serial.fetch_add(1, Ordering::Relaxed);
    let (keep, mut replaced) = oneshot::channel();
    let sender = outgoing.downgrade();
    let features = hex::encode(features);
    node.peers.live().insert(id, Peer { outgoing, features, inbound, address, serial, _keep: keep });
    node.log.line(super::Level::Debug, &format!("{id}-connectd"), "Handshake complete");
    let direction = if inbound { "in" } else { "out" };
    node.plugins.notify(
        "connect",
        &json!({"id": id.to_string(), "direction": direction, "address": address_json(&address)}),
    );
    let node = Arc::clone(node);
    tokio::spawn(async move {
        channels::resume(&node, id);
        let mut partial = None;
        loop {
            tokio::select! {
                message = incoming.recv() => match message {
                    Some(message) => handle(&node, id, &sender, &mut partial, &message),
                    None => break,
                },
                _ = &mut replaced => break,
            }
        }
        let ended = {
            let mut live = node.peers.live();
            let current = live.get(&id).is_some_and(|peer| peer.serial == serial);
            if current {
                live.remove(&id);
            }
            current
        };
        if ended {
            node.plugins.notify("disconnect", &json!({"id": id.to_string()}));
            let again = node.store().channels.values().any(|channel| channel.peer == id);
            if again {
                tokio::spawn(reconnect(Arc::clone(&node), id));
            }
        }
    });
}

/// An incomplete commando request: its id, and its content unless that is too large.
type Partial = Option<(u64, Option<Vec<u8>>)>;

fn handle(
    node: &Arc<Node>,
    id: PublicKey,
    sender: &mpsc::WeakSender<Message>,
    partial: &mut Partial,
    message: &Message,
) {
    let Some((serial, bytes)) = piece(&message.body) else { return };
    match message.kind {
        REQUEST_CONTINUES | REQUEST_ENDS => {
            // A peer has one request at a time; a new one discards an incomplete one.
            if partial.as_ref().is_none_or(|(current, _)| *current != serial) {
                *partial = Some((serial, Some(Vec::new())));
            }
            if let Some((_, contents)) = partial {
                match contents {
                    Some(held) if held.len() + bytes.len() > MAX_REQUEST => *contents = None,
                    Some(held) => held.extend_from_slice(bytes),
                    None => {}
                }
            }
            if message.kind == REQUEST_CONTINUES {
                return;
            }
            let Some((_, Some(request))) = partial.take() else {
                node.log.unusual(&format!("plugin-commando: {id}: ignoring oversize request"));
                return;
            };
            let (node, sender) = (Arc::clone(node), sender.clone());
            tokio::spawn(async move {
                let answer = commando(&node, id, &request)
                    .await
                    .unwrap_or_else(|(code, message)| json!({"error": {"code": code, "message": message}}));
                let Some(sender) = sender.upgrade() else { return };
                for message in split(REPLY_CONTINUES, REPLY_ENDS, serial, answer.to_string().as_bytes()) {
                    if sender.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
        ASK => {
            let Ok(question) = serde_json::from_slice(bytes) else { return };
            let answer = channels::answer(node, id, &question);
            let body = [&serial.to_be_bytes()[..], answer.to_string().as_bytes()].concat();
            let Some(sender) = sender.upgrade() else { return };
            tokio::spawn(async move {
                // A peer that has left will ask again.
                drop(sender.send(Message { kind: ANSWER, body }).await);
            });
        }
        ANSWER => {
            let asked = node.peers.asked.lock().expect("nothing panics while holding it").remove(&serial);
            if let (Some(asked), Ok(answer)) = (asked, serde_json::from_slice(bytes)) {
                // The caller may have given up.
                drop(asked.send(answer));
            }
        }
        _ => {}
    }
}

/// Executes a commando request; errors are commando's own.
async fn commando(node: &Arc<Node>, peer: PublicKey, request: &[u8]) -> Result<Value, (i64, String)> {
    let bad = |problem: &str| (COMMANDO_ERROR, problem.to_owned());
    let request: Value = serde_json::from_slice(request).map_err(|_| bad("Invalid JSON"))?;
    if !request.is_object() {
        return Err(bad("Not a JSON object"));
    }
    let method = request.get("method").ok_or_else(|| bad("No method"))?;
    let method = method.as_str().map_or_else(|| method.to_string(), str::to_owned);
    let params = request.get("params");
    if params.is_some_and(|params| !params.is_object() && !params.is_array()) {
        return Err(bad("Params must be object or array"));
    }
    let id = request.get("id").ok_or_else(|| bad("missing id field"))?;
    let rune = request.get("rune").ok_or_else(|| bad("Missing rune"))?;
    let rune = rune.as_str().and_then(Rune::from_base64).ok_or_else(|| bad("Invalid rune"))?;
    let refused = |problem: &str| (COMMANDO_AUTH, format!("Invalid rune: {problem}"));
    let rune_id = rune.numeric_id().ok_or_else(|| {
        refused("rune: should have valid numeric unique_id: invalid token (see logs for details)")
    })?;
    let peer = peer.to_string();
    let asked = Request { peer: Some(&peer), method: Some(&method), params };
    rune_rules::check(node, &rune, rune_id, &asked).map_err(|error| refused(&error.message))?;
    let mut call =
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params.unwrap_or(&json!({}))});
    if let Some(filter) = request.get("filter") {
        call["filter"] = filter.clone();
    }
    Ok(rpc::answer(node, &call).await)
}

/// Connects to a peer at `address` and registers the connection.
async fn dial(node: &Arc<Node>, id: PublicKey, text: &str) -> Result<(), RpcError> {
    let failed = |reason: String| RpcError::new(401, format!("All addresses failed: {text}: {reason}. "));
    let address = resolve(text).await.map_err(|error| failed(format!("{error:#}")))?;
    let socket = match timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Err(failed(format!("Connection establishment: {error}"))),
        Err(_) => return Err(failed("Connection establishment: Connection timed out".into())),
    };
    let link = peer::open(Transport::tcp(socket), Role::Outbound(id), Arc::clone(&node.keys)).await;
    let link = link.map_err(|error| failed(format!("Cryptographic handshake: {error}")))?;
    let known = node.store().peers.get(&id).is_some_and(|known| known == text);
    if !known {
        node.commit(&mut node.store(), vec![Change::Peer(id, text.to_owned())]);
    }
    register(node, link, false, address);
    Ok(())
}

/// Ensures that `id` is connected, connecting to its last known address if needed.
pub(super) async fn ensure_connected(node: &Arc<Node>, id: PublicKey) -> Result<(), RpcError> {
    if node.peers.is_connected(&id) {
        return Ok(());
    }
    let known = node.store().peers.get(&id).cloned();
    let known = known.ok_or_else(|| RpcError::new(400, "Unable to connect, no address known for peer"))?;
    dial(node, id, &known).await
}

/// Ensures that `id` is connected, connecting to `address` if needed.
pub(super) async fn ensure_connected_at(
    node: &Arc<Node>,
    id: PublicKey,
    address: &str,
) -> Result<(), RpcError> {
    if node.peers.is_connected(&id) { Ok(()) } else { dial(node, id, address).await }
}

/// Connects until the peer answers. Without a known address it waits for the peer.
async fn reconnect(node: Arc<Node>, id: PublicKey) {
    let mut pause = Duration::from_millis(500);
    while !node.peers.is_connected(&id) && node.store().peers.contains_key(&id) {
        if ensure_connected(&node, id).await.is_ok() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}

/// At start: connects to every peer with a channel.
pub(super) fn reconnect_all(node: &Arc<Node>) {
    let mut peers: Vec<_> = node.store().channels.values().map(|channel| channel.peer).collect();
    peers.sort();
    peers.dedup();
    for id in peers {
        tokio::spawn(reconnect(Arc::clone(node), id));
    }
}

/// `connect`.
pub(super) async fn connect(node: &Arc<Node>, params: &Params) -> RpcResult {
    let text = params.token("id").expect("required");
    let (id, inline) =
        text.split_once('@').map_or((&*text, None), |(id, address)| (id, Some(address.to_owned())));
    let id: PublicKey = id.parse().map_err(|_| params.bad("id", "should be a node id"))?;
    let (host, port) = (params.token("host"), params.u32("port")?);
    if inline.is_some() && host.is_some() {
        return Err(RpcError::params("Can't specify host as both xxx@yyy and separate argument"));
    }
    if host.is_none() && port.is_some() {
        return Err(RpcError::params("Can't specify port without host"));
    }
    let address = inline.or(host).map(|host| match port {
        Some(port) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        Some(port) => format!("{host}:{port}"),
        None => host,
    });
    if id == node.id {
        return Err(RpcError::new(401, "All addresses failed: that is this node itself"));
    }
    if !node.peers.is_connected(&id) {
        match address {
            Some(address) => dial(node, id, &address).await?,
            None => ensure_connected(node, id).await?,
        }
    }
    let live = node.peers.live();
    let peer = live.get(&id).ok_or_else(|| RpcError::new(402, "disconnected during connection"))?;
    let direction = if peer.inbound { "in" } else { "out" };
    Ok(
        json!({"id": id.to_string(), "features": peer.features, "direction": direction, "address": address_json(&peer.address)}),
    )
}

/// `disconnect`.
pub(super) async fn disconnect(node: &Node, params: &Params) -> RpcResult {
    let id = params.node_id("id")?.expect("required");
    let force = params.bool("force")?.unwrap_or(false);
    let channel = {
        let store = node.store();
        store
            .channels
            .values()
            .find(|channel| channel.peer == id)
            .map(|channel| channels::state_name(channel.state))
    };
    if !node.peers.is_connected(&id) {
        let problem = if channel.is_some() {
            RpcError::general("Peer not connected")
        } else {
            RpcError::params(format!("Unknown peer '{id}'"))
        };
        return Err(problem);
    }
    if let (Some(state), false) = (channel, force) {
        return Err(RpcError::general(format!("Peer has (at least one) channel in state {state}")));
    }
    node.peers.live().remove(&id);
    // Lets its task see that it was released.
    tokio::task::yield_now().await;
    Ok(json!({}))
}

/// `ping`. Only the size of the pong is invented; the peer's presence is real.
pub(super) fn ping(node: &Node, params: &Params) -> RpcResult {
    let id = params.node_id("id")?.expect("required");
    let length = params.u32("len")?.unwrap_or(128);
    let pong = params.u32("pongbytes")?.unwrap_or(128);
    if length > 65535 - 6 {
        return Err(RpcError::params(format!("{length} would result in oversize ping")));
    }
    if pong > 65535 {
        return Err(RpcError::params(format!("pongbytes {pong} > 65535")));
    }
    if !node.peers.is_connected(&id) {
        return Err(RpcError::general("Peer not connected"));
    }
    Ok(json!({"totlen": if pong > 65531 { 0 } else { pong + 4 }}))
}

/// `listpeers`: who is connected, and who has a channel with us.
pub(super) fn list(node: &Node, params: &Params) -> RpcResult {
    let wanted = params.node_id("id")?;
    let store = node.store();
    let live = node.peers.live();
    let mut ids: Vec<PublicKey> = live.keys().copied().collect();
    ids.extend(store.channels.values().map(|channel| channel.peer));
    ids.sort();
    ids.dedup();
    let peers = ids.iter().filter(|id| wanted.is_none_or(|wanted| wanted == **id)).map(|id| {
        let channels = store.channels.values().filter(|channel| channel.peer == *id).count();
        let mut shown = json!({"id": id.to_string(), "connected": false, "num_channels": channels});
        if let Some(peer) = live.get(id) {
            shown["connected"] = json!(true);
            shown["netaddr"] = json!([peer.address.to_string()]);
            shown["features"] = json!(peer.features);
        }
        shown
    });
    Ok(json!({"peers": peers.collect::<Vec<_>>()}))
}

/// `listnodes`: this node and the peers that it has channels with; there is no gossip.
pub(super) fn list_nodes(node: &Node, params: &Params) -> RpcResult {
    let wanted = params.node_id("id")?;
    let mut ids: Vec<PublicKey> = node.store().channels.values().map(|channel| channel.peer).collect();
    if !ids.is_empty() {
        ids.push(node.id);
    }
    ids.sort();
    ids.dedup();
    let nodes = ids.iter().filter(|id| wanted.is_none_or(|wanted| wanted == **id)).map(|id| {
        let mut shown = json!({"nodeid": id.to_string()});
        if *id == node.id {
            shown["alias"] = json!(node.alias);
            shown["color"] = json!(node.color);
            shown["last_timestamp"] = json!(super::now());
            shown["features"] = json!("");
            shown["addresses"] =
                json!(node.bindings.lock().expect("nothing panics while holding it").announced);
        }
        shown
    });
    Ok(json!({"nodes": nodes.collect::<Vec<_>>()}))
}
