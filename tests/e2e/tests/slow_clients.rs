//! Slow clients, through the real Caddy with the time-outs that the NixOS module gives it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use shop_server::{Listeners, Settings, Site};
use tempfile::TempDir;
use testbed::{Caddy, skip};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

/// Longest wait for anything.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longer than all of [`servers`]' time-outs.
const LONGER: Duration = Duration::from_secs(4);
/// More than sockets buffer.
const LARGE: usize = 24 << 20;
/// Clients of each kind that are slow at the same time.
const CROWD: usize = 150;

/// The module's options for servers, with seconds in place of its time-outs.
fn servers() -> String {
    let text = include_str!("../../../nixos/modules/lnplaylive/caddy-servers");
    let short = [("read_header 10s", 1), ("read_body 30s", 1), ("write 2m", 2), ("idle 1m", 2)];
    short.into_iter().fold(text.to_owned(), |text, (line, seconds)| {
        assert!(text.contains(line), "the module has no {line}");
        let name = line.split(' ').next().unwrap_or_default();
        text.replace(line, &format!("{name} {seconds}s"))
    })
}

/// Caddy in front of the web shop's server.
struct Front {
    address: SocketAddr,
    _caddy: Caddy,
    /// The shop's node.
    node: TcpListener,
    _dir: TempDir,
}

impl Front {
    async fn start(servers: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("dist")).expect("it is ours");
        std::fs::write(path("dist/index.html"), "<!doctype html>").expect("it is ours");
        std::fs::write(path("dist/large.bin"), vec![7; LARGE]).expect("it is ours");
        std::fs::write(path("rune"), "cnVuZQ==").expect("it is ours");
        let node = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("any port");
        let id = format!("02{}", "ee".repeat(32)).parse().expect("a node's id");
        let mut settings = Settings::new(path("dist"), id, path("rune"));
        settings.listen = (Ipv4Addr::LOCALHOST, 0).into();
        settings.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
        settings.lightning_websocket = Some(node.local_addr().expect("an address").to_string());
        let listeners = Listeners::bind(&settings).await.expect("any port");
        let behind = listeners.address().expect("an address");
        tokio::spawn(Site::new(settings).expect("a site").serve(listeners, std::future::pending()));

        let caddy = Caddy::start(dir.path(), servers, behind).await.expect("caddy listens");
        Self { address: caddy.address(), _caddy: caddy, node, _dir: dir }
    }

    async fn connect(&self) -> TcpStream {
        timeout(TIMEOUT, TcpStream::connect(self.address)).await.expect("in time").expect("it listens")
    }

    /// A connection that has sent this much and sends no more.
    async fn stopped_after(&self, request: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.expect("it reads");
        stream
    }

    /// A connection that asks for a large file and does not read it.
    async fn not_reading(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(64 << 10).expect("any size");
        let mut stream = socket.connect(self.address).await.expect("it listens");
        stream.write_all(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it reads");
        stream
    }

    async fn page(&self) {
        let mut stream = self.stopped_after("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        let answer = timeout(TIMEOUT, read(&mut stream)).await.expect("it answers");
        let page = answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"<!doctype html>");
        assert!(page, "{}", String::from_utf8_lossy(&answer));
    }
}

/// Everything that comes until the connection is closed or reset.
async fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.ok();
    bytes
}

const HALF_A_HEAD: &str = "GET / HTTP/1.1\r\nHost: x\r\nCookie: ";
const HALF_A_BODY: &str =
    "POST /cards.pdf HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
const FINISHED: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Caddy ends every kind of slow connection, and serves others meanwhile. A WebSocket lives longer than its time-outs.
#[tokio::test]
async fn slow_clients_are_cut_off_and_keep_nobody_out() {
    if !Caddy::is_installed() {
        return skip("slow clients", &"no caddy on PATH");
    }
    let front = Front::start(&servers()).await;
    let mut slow = Vec::new();
    for _ in 0..CROWD {
        for request in ["", HALF_A_HEAD, HALF_A_BODY, FINISHED] {
            slow.push(front.stopped_after(request).await);
        }
    }
    let mut not_reading = Vec::new();
    for _ in 0..CROWD / 10 {
        not_reading.push(front.not_reading().await);
    }
    for _ in 0..10 {
        front.page().await;
    }
    let (mut visitor, mut node) = websocket(&front).await;

    for mut stream in slow {
        timeout(TIMEOUT, read(&mut stream)).await.expect("a slow connection is closed");
    }
    // The visitor's own silence is what time must pass for.
    sleep(LONGER).await;
    for mut stream in not_reading {
        let got = timeout(TIMEOUT, read(&mut stream)).await.expect("it is closed").len();
        assert!(got < LARGE, "all {got} bytes were kept for a client that did not read");
    }
    node.write_all(b"\x82\x05hello").await.expect("it is open");
    let mut frame = [0; 7];
    timeout(TIMEOUT, visitor.read_exact(&mut frame)).await.expect("in time").expect("it is open");
    assert_eq!(&frame, b"\x82\x05hello");
    front.page().await;
}

/// Without the module's time-outs none of them is: these are what cuts them off.
#[tokio::test]
async fn without_the_time_outs_slow_clients_stay() {
    if !Caddy::is_installed() {
        return skip("slow clients, without time-outs", &"no caddy on PATH");
    }
    let front = Front::start("").await;
    let mut not_reading = front.not_reading().await;
    let mut half = front.stopped_after(HALF_A_BODY).await;
    sleep(LONGER).await;
    let mut byte = [0];
    assert!(
        timeout(Duration::from_millis(100), half.read(&mut byte)).await.is_err(),
        "a slow body was refused"
    );
    let mut rest = vec![0; LARGE];
    timeout(TIMEOUT, not_reading.read_exact(&mut rest)).await.expect("in time").expect("all of it");
}

/// A WebSocket to the node, through Caddy and the web shop's server; both its ends.
async fn websocket(front: &Front) -> (TcpStream, TcpStream) {
    let upgrade = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut visitor = front.stopped_after(upgrade).await;
    let (mut node, _) = tokio::select! {
        node = front.node.accept() => node.expect("a connection"),
        head = head(&mut visitor) => panic!("refused: {}", String::from_utf8_lossy(&head)),
    };
    head(&mut node).await;
    // The answer to that key; RFC 6455, section 1.3.
    let switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    node.write_all(switching).await.expect("it reads");
    let head = head(&mut visitor).await;
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    (visitor, node)
}

/// Reads the head of a request or an answer.
async fn head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(TIMEOUT, stream.read_u8()).await.expect("in time").expect("a head"));
    }
    head
}
