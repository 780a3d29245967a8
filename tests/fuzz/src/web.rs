//! The web shop's server, over sockets: what a visitor sends, and what a node sends to a visitor.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

use shop_server::cards::{CardsRequest, Fonts};
use shop_server::{Listeners, Settings, Site};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Longest time for the server to answer or close.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Cards that are drawn; drawing takes milliseconds each.
const MAX_DRAWN: usize = 2;

/// A request for printed cards. One that is accepted can be drawn.
pub(crate) fn cards_request(input: &[u8]) {
    static FONTS: LazyLock<Fonts> = LazyLock::new(Fonts::built_in);
    let Ok(request) = CardsRequest::from_json(input) else { return };
    let Ok(sheet) = request.check() else { return };
    if sheet.len() <= MAX_DRAWN {
        let pdf = sheet.draw(&FONTS).expect("a checked sheet can be drawn");
        assert!(pdf.starts_with(b"%PDF-"));
    }
}

/// A running server.
struct Server {
    runtime: Runtime,
    address: SocketAddr,
    _dir: TempDir,
}

impl Server {
    /// A server of a shop whose node listens at `node`.
    fn start(node: SocketAddr) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("index.html"), "<!doctype html>").expect("it is ours");
        let rune = dir.path().join("rune");
        std::fs::write(&rune, "cnVuZQ==").expect("it is ours");
        let id = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";
        let mut settings = Settings::new(dir.path().into(), id.parse().expect("a node's id"), rune);
        settings.listen = (Ipv4Addr::LOCALHOST, 0).into();
        settings.lightning_websocket = Some(node.to_string());
        settings.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
        // All inputs come from one client.
        let limits = &mut settings.limits;
        limits.new_connections_per_minute = 1_000_000;
        (limits.connections_per_client, limits.connections_per_network) =
            (limits.connections, limits.connections);
        for places in [&mut limits.node_sockets, &mut limits.card_requests] {
            (places.per_client, places.per_network) = (places.total, places.total);
        }
        let listeners = runtime.block_on(Listeners::bind(&settings)).expect("any port");
        let address = listeners.address().expect("an address");
        let site = Site::new(settings).expect("a site");
        runtime.spawn(site.serve(listeners, std::future::pending()));
        Self { runtime, address, _dir: dir }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it listens")
    }

    /// Asserts that the server still answers.
    async fn answers(&self) {
        let mut stream = self.connect().await;
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.expect("it reads");
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    }
}

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The server may reset the connection of a visitor who sends garbage.
    timeout(TIMEOUT, stream.read_to_end(&mut bytes)).await.expect("it answers and closes").ok();
    bytes
}

/// The bytes of a connection. Whatever they are, the server answers with HTTP or closes, never with status 500, and goes on to
/// serve others.
pub(crate) fn http_request(input: &[u8]) {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        // Its port is closed: nobody is asked.
        let node = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("any port");
        Server::start(node.local_addr().expect("an address"))
    });
    let server = &*SERVER;
    server.runtime.block_on(async {
        let mut stream = server.connect().await;
        // It may answer and close before it has read everything.
        stream.write_all(input).await.ok();
        stream.shutdown().await.ok();
        let answer = read_to_end(&mut stream).await;
        let head = String::from_utf8_lossy(&answer[..answer.len().min(16)]).into_owned();
        assert!(answer.is_empty() || head.starts_with("HTTP/1."), "{head}");
        assert!(!head.contains(" 500"), "{head}");
        server.answers().await;
    });
}

/// The bytes of a WebSocket to the node: the first byte says how many of the rest come from the visitor, in 256ths; the others
/// come from the node. The server ends the connection soon after both have, and goes on to serve others.
pub(crate) fn websocket_bytes(input: &[u8]) {
    static SERVER: LazyLock<(Server, TcpListener)> = LazyLock::new(|| {
        let node = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("any port");
        node.set_nonblocking(true).expect("a socket");
        let server = Server::start(node.local_addr().expect("an address"));
        let _context = server.runtime.enter();
        let node = TcpListener::from_std(node).expect("a socket");
        (server, node)
    });
    let Some((&share, bytes)) = input.split_first() else { return };
    let (from_visitor, from_node) = bytes.split_at(bytes.len() * usize::from(share) / 256);
    let (server, node) = &*SERVER;
    server.runtime.block_on(async {
        let mut visitor = server.connect().await;
        let upgrade = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        visitor.write_all(upgrade).await.expect("it reads");
        let mut node = timeout(TIMEOUT, node_side(node)).await.expect("the server connects to the node");
        // Read before anything else is sent: if the server resets the connection, what was not read is lost.
        let head = timeout(TIMEOUT, read_head(&mut visitor)).await.expect("an answer");
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        visitor.write_all(from_visitor).await.ok();
        node.write_all(from_node).await.ok();
        visitor.shutdown().await.ok();
        node.shutdown().await.ok();
        read_to_end(&mut visitor).await;
        server.answers().await;
    });
}

/// The node's end of the connection that the server makes, after the handshake.
async fn node_side(node: &TcpListener) -> TcpStream {
    let (mut stream, _) = node.accept().await.expect("a connection");
    read_head(&mut stream).await;
    // The answer to the visitor's key, which the server passes on; RFC 6455, section 1.3.
    let switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.write_all(switching).await.expect("the server reads");
    stream
}

/// Reads to the end of the head of a request or an answer.
async fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    head
}
