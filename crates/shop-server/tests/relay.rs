//! WebSockets through the server: relaying, closing, and errors.

mod support;

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use jiff::{Timestamp, ToSpan as _};
use lnplaylive_core::routes::{Route, RouteTable};
use lnplaylive_core::{OrderId, ProjectName};
use shop_server::settings::{Limits, Places};
use support::{Served, TIMEOUT, serve};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

type Socket = WebSocketStream<TcpStream>;

/// A stand-in for a node that echoes. Like Core Lightning, it is particular about the handshake.
struct Echo {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn echo_on(address: &str) -> Echo {
    let listener = TcpListener::bind(address).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("visitors");
            tokio::spawn(async move {
                let Ok(mut socket) = accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() || socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Echo { address, task }
}

/// A server whose `/ws` leads to the echo.
async fn relaying(limits: Limits) -> (Served, Echo) {
    let echo = echo_on("127.0.0.1:0").await;
    let address = echo.address.to_string();
    let site =
        serve(|_, settings| (settings.lightning_websocket, settings.limits) = (Some(address), limits)).await;
    (site, echo)
}

async fn connect(site: &Served, path: &str) -> Result<Socket, u16> {
    connect_from(site, path, "192.0.2.1").await
}

/// Connects as a proxy does for a client.
async fn connect_from(site: &Served, path: &str, client: &str) -> Result<Socket, u16> {
    let stream = TcpStream::connect(site.address).await.expect("it listens");
    let mut request = format!("ws://{}{path}", site.address).into_client_request().expect("a URL");
    request.headers_mut().insert("X-Forwarded-For", client.parse().expect("a header"));
    let dialled = timeout(TIMEOUT, client_async(request, stream)).await;
    match dialled.expect("it answers") {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{path}: {error}"),
    }
}

async fn round_trip(socket: &mut Socket, message: Message) {
    socket.send(message.clone()).await.expect("it takes it");
    let answer = timeout(TIMEOUT, socket.next()).await.expect("in time").expect("open").expect("well-formed");
    assert_eq!(answer, message);
}

/// The code of the final close frame; `None` if the connection ends without one.
async fn ending(socket: &mut Socket) -> Option<u16> {
    let reading = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(CloseFrame { code, .. })))) => return Some(code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    };
    timeout(TIMEOUT, reading).await.expect("it ends")
}

#[tokio::test]
async fn messages_pass_whole_both_ways() {
    let (site, _echo) = relaying(Limits::default()).await;
    let mut socket = connect(&site, "/ws").await.expect("a WebSocket");
    for size in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
        round_trip(&mut socket, Message::binary(vec![7; size])).await;
    }
    round_trip(&mut socket, Message::text("text")).await;
    // More than the sockets' buffers hold, before anything is read.
    let many = 200;
    for n in 0..many {
        socket.feed(Message::binary(vec![n; 10_000])).await.expect("it takes it");
    }
    let (mut sink, mut stream) = socket.split();
    let reading = async {
        for n in 0..many {
            let message = stream.next().await.expect("open").expect("well-formed");
            assert_eq!(message, Message::binary(vec![n; 10_000]));
        }
    };
    let (flushed, read) = tokio::join!(sink.flush(), timeout(TIMEOUT, reading));
    flushed.expect("it takes it");
    read.expect("in time");
}

#[tokio::test]
async fn closing_one_end_closes_the_other() {
    let (site, echo) = relaying(Limits::default()).await;
    let mut socket = connect(&site, "/ws").await.expect("a WebSocket");
    round_trip(&mut socket, Message::text("hello")).await;
    socket.send(Message::Close(None)).await.expect("it takes it");
    assert_eq!(ending(&mut socket).await, None);
    drop((site, echo));
}

#[tokio::test]
async fn a_frame_that_is_too_large_is_refused_by_its_header() {
    let limits = Limits { frame_bytes: 10_000, ..Limits::default() };
    let (site, _echo) = relaying(limits).await;
    let mut socket = connect(&site, "/ws").await.expect("a WebSocket");
    round_trip(&mut socket, Message::binary(vec![1; 9000])).await;
    // Announces 2^62 bytes.
    let header = [0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    socket.get_mut().write_all(&header).await.expect("it takes it");
    assert_eq!(ending(&mut socket).await, Some(1009));
    // Endless fragments.
    let mut socket = connect(&site, "/ws").await.expect("a WebSocket");
    for _ in 0..12 {
        let mut frame = vec![0x02, 0xfe, 0x03, 0xe8, 0, 0, 0, 0];
        frame.resize(1008, 1);
        drop(socket.get_mut().write_all(&frame).await);
    }
    assert_eq!(ending(&mut socket).await, Some(1009));
    // Other connections still work.
    let mut socket = connect(&site, "/ws").await.expect("a WebSocket");
    round_trip(&mut socket, Message::text("hello")).await;
}

#[tokio::test]
async fn a_frame_that_never_ends_times_out() {
    let limits = Limits { frame_secs: 1, idle_secs: 3600, ..Limits::default() };
    let (site, _echo) = relaying(limits).await;
    let mut socket = connect(&site, "/ws").await.expect("a WebSocket");
    socket.get_mut().write_all(&[0x82, 0xfe, 0x10, 0, 1, 2, 3, 4, 5]).await.expect("it takes it");
    assert_eq!(ending(&mut socket).await, Some(1002));
}

#[tokio::test]
async fn an_idle_websocket_is_closed() {
    let (site, _echo) = relaying(Limits { idle_secs: 1, ..Limits::default() }).await;
    let mut socket = connect(&site, "/ws").await.expect("a WebSocket");
    round_trip(&mut socket, Message::text("hello")).await;
    assert_eq!(ending(&mut socket).await, Some(1001));
}

#[tokio::test]
async fn a_stopping_server_sends_a_close_frame() {
    let (mut site, _echo) = relaying(Limits::default()).await;
    let mut socket = connect(&site, "/ws").await.expect("a WebSocket");
    round_trip(&mut socket, Message::text("hello")).await;
    site.begin_stop();
    assert_eq!(ending(&mut socket).await, Some(1001));
    drop(socket);
    site.stop().await;
}

#[tokio::test]
async fn a_node_that_is_down_is_reported_and_can_come_back() {
    let (site, echo) = relaying(Limits { connect_timeout_secs: 1, ..Limits::default() }).await;
    let address = echo.address.to_string();
    drop(echo);
    let refused = async {
        loop {
            // Until the aborted task has released its listener.
            if let Err(status) = connect(&site, "/ws").await {
                return status;
            }
        }
    };
    assert_eq!(timeout(TIMEOUT, refused).await.expect("it is down"), 502);
    let echo = echo_on(&address).await;
    let mut socket = connect(&site, "/ws").await.expect("it is back");
    round_trip(&mut socket, Message::text("hello")).await;
    drop((socket, echo));
}

#[tokio::test]
async fn other_requests_are_refused() {
    let (site, _echo) = relaying(Limits::default()).await;
    assert_eq!(site.get("/ws").await.status, 426);
    assert_eq!(site.post("/ws", "{}").await.status, 426);
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    for (rest, status) in [
        ("Sec-WebSocket-Key: short\r\n", 400),
        ("", 400),
        ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 8\r\n", 400),
    ] {
        let upgrade = if rest.contains("Version") { "Upgrade: websocket\r\n" } else { upgrade };
        let request =
            format!("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\n{upgrade}{rest}\r\n");
        assert_eq!(site.raw(request).await.status, status, "{rest}");
    }
    let none = serve(|_, _| {}).await;
    assert_eq!(connect(&none, "/ws").await.err(), Some(404));
}

#[tokio::test]
async fn a_server_that_is_not_a_node_is_a_bad_gateway() {
    let endless = "x".repeat(100_000);
    for (says, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 502),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", 502),
        ("rubbish\r\n\r\n", 502),
        (&endless, 502),
        ("", 504),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let says = says.to_owned();
        let length = says.len();
        let node = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a visitor");
            drop(stream.write_all(says.as_bytes()).await);
            // Open until the end of the test.
            std::future::pending::<()>().await;
        });
        let site = serve(|_, settings| {
            settings.lightning_websocket = Some(address);
            settings.limits.connect_timeout_secs = 1;
        })
        .await;
        assert_eq!(connect(&site, "/ws").await.err(), Some(status), "{length} bytes");
        node.abort();
    }
}

#[tokio::test]
async fn environments_are_found_by_the_current_table() {
    let echo = echo_on("127.0.0.1:0").await;
    let node = format!("ws://{}", echo.address);
    let site = serve(|dir, settings| settings.routes_file = Some(dir.join("routes.json"))).await;
    let file = site.dir.path().join("routes.json");
    let now = Timestamp::now();
    let name = |ends: Timestamp| ProjectName::new(ends, OrderId::random()).expect("a name");
    let (running, over, gone) = (name(now + 1.hour()), name(now - 1.hour()), name(now - 2.hours()));
    let at = |name: ProjectName, node: &str| format!("/e/{}/{node}", name.environment());
    assert_eq!(connect(&site, &at(running, "0")).await.err(), Some(404));

    let mut table = RouteTable::default();
    let nodes = || vec![node.parse().expect("an endpoint"); 2];
    table.insert(running, Route::new(now + 1.hour(), nodes()).expect("a route"));
    table.insert(over, Route::new(now - 1.second(), nodes()).expect("a route"));
    table.write(&file).expect("it can be written");
    for index in ["0", "1"] {
        let mut socket = connect(&site, &at(running, index)).await.expect("a WebSocket");
        round_trip(&mut socket, Message::text("hello")).await;
    }
    for (path, status) in [
        (at(running, "2"), 404),
        (at(running, "-1"), 404),
        (at(running, "00"), 404),
        (at(running, "x"), 404),
        (at(over, "0"), 410),
        (at(gone, "0"), 410),
        (at(name(now + 1.hour()), "0"), 404),
        ("/e/rubbish/0".into(), 404),
        ("/e/%2e%2e/0".into(), 404),
        (format!("/e/{}", running.environment()), 404),
        (format!("/e/{}/0/more", running.environment()), 404),
    ] {
        assert_eq!(connect(&site, &path).await.err(), Some(status), "{path}");
    }
    assert_eq!(site.get(&at(running, "0")).await.status, 426);

    // An unreadable table changes nothing; a new one is used at once.
    std::fs::write(&file, "{\"environments\"").expect("it is ours");
    assert!(connect(&site, &at(running, "0")).await.is_ok());
    RouteTable::default().write(&file).expect("it can be written");
    assert_eq!(connect(&site, &at(running, "0")).await.err(), Some(404));
}

#[tokio::test]
async fn a_websocket_counts_as_a_connection_of_its_client() {
    let (site, _echo) = relaying(Limits { connections_per_client: 2, ..Limits::default() }).await;
    let first = connect(&site, "/ws").await.expect("a WebSocket");
    let second = connect(&site, "/ws").await.expect("a WebSocket");
    assert_eq!(site.get("/").await.status, 429);
    drop(first);
    let freed = async { while connect(&site, "/ws").await.is_err() {} };
    timeout(TIMEOUT, freed).await.expect("the slot is free again");
    drop(second);
}

#[tokio::test]
async fn a_class_of_64_and_its_wall_fit_behind_one_address() {
    let echo = echo_on("127.0.0.1:0").await;
    let node = echo.address.to_string();
    let site = serve(|dir, settings| {
        settings.routes_file = Some(dir.join("routes.json"));
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    let (environment, table) = one_environment(&node, Timestamp::now() + 1.hour());
    table.write(&site.dir.path().join("routes.json")).expect("it can be written");
    // Three for each wallet, two for each node on the wall, and one with which the wall waits for blocks.
    let mut open = vec![];
    let sockets = 64 * 3 + 64 * 2 + 1;
    for n in 0..sockets {
        match connect_from(&site, &environment, "192.0.2.1").await {
            Ok(socket) => open.push(socket),
            Err(status) => panic!("socket {n} is refused: {status}"),
        }
    }
}

#[tokio::test]
async fn sockets_to_the_node_and_to_environments_have_places_of_their_own() {
    let echo = echo_on("127.0.0.1:0").await;
    let node = echo.address.to_string();
    let places = |total, per_client, per_network| Places { total, per_client, per_network };
    let site = serve(|dir, settings| {
        settings.lightning_websocket = Some(node.clone());
        settings.routes_file = Some(dir.join("routes.json"));
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
        settings.limits.node_sockets = places(4, 2, 3);
        settings.limits.environment_sockets = places(1, 1, 1);
    })
    .await;
    let (environment, table) = one_environment(&node, Timestamp::now() + 1.hour());
    table.write(&site.dir.path().join("routes.json")).expect("it can be written");
    let mut open = vec![];
    // Two of a household, one more of its site, none for the thousand others of that site.
    for n in 0..1000 {
        let client = format!("2001:db8:1:{:x}::{n:x}", n / 2 * 2 % 0xffff);
        match connect_from(&site, "/ws", &client).await {
            Ok(socket) => open.push(socket),
            Err(status) => assert_eq!(status, 429, "{client}"),
        }
    }
    assert_eq!(open.len(), 3);
    open.push(connect_from(&site, "/ws", "2001:db8:2::1").await.expect("another site has a place"));
    assert_eq!(connect_from(&site, "/ws", "2001:db8:3::1").await.err(), Some(429), "all are taken");
    let mut class = connect_from(&site, &environment, "2001:db8:1::1").await.expect("these are others");
    round_trip(&mut class, Message::text("hello")).await;
    assert_eq!(connect_from(&site, &environment, "2001:db8:3::1").await.err(), Some(429));
    // A place is free once its socket has ended.
    drop(open);
    let buyer = async {
        loop {
            if let Ok(socket) = connect_from(&site, "/ws", "2001:db8:3::1").await {
                return socket;
            }
        }
    };
    timeout(TIMEOUT, buyer).await.expect("a place comes free");
}

#[tokio::test]
async fn a_websocket_without_a_lightning_handshake_is_closed() {
    let (site, _echo) = relaying(Limits { handshake_secs: 1, ..Limits::default() }).await;
    // One that says nothing, one that only pings, and one whose bytes the node does not accept.
    let mut silent = connect(&site, "/ws").await.expect("a WebSocket");
    let mut pinging = connect(&site, "/ws").await.expect("a WebSocket");
    pinging.send(Message::Ping(vec![0; 125].into())).await.expect("it takes it");
    let mut halfway = connect(&site, "/ws").await.expect("a WebSocket");
    round_trip(&mut halfway, Message::binary(vec![0; 50])).await;
    // The echo of more than an act two stands for the node's first message.
    let mut peer = connect(&site, "/ws").await.expect("a WebSocket");
    round_trip(&mut peer, Message::binary(vec![0; 50])).await;
    round_trip(&mut peer, Message::binary(vec![0; 66])).await;
    for socket in [&mut silent, &mut pinging, &mut halfway] {
        assert_eq!(ending(socket).await, Some(1002));
    }
    round_trip(&mut peer, Message::text("still here")).await;
}

#[tokio::test]
async fn a_websocket_ends_with_its_environment() {
    let echo = echo_on("127.0.0.1:0").await;
    let site = serve(|dir, settings| settings.routes_file = Some(dir.join("routes.json"))).await;
    let file = site.dir.path().join("routes.json");
    let (path, table) = one_environment(&echo.address.to_string(), Timestamp::now() + 2.seconds());
    table.write(&file).expect("it can be written");
    let mut socket = connect(&site, &path).await.expect("a WebSocket");
    round_trip(&mut socket, Message::text("hello")).await;
    assert_eq!(ending(&mut socket).await, Some(1000));
}

/// The path of an environment's node, and a table with it.
fn one_environment(node: &str, ends: Timestamp) -> (String, RouteTable) {
    let name = ProjectName::new(ends, OrderId::random()).expect("a name");
    let nodes = vec![format!("ws://{node}").parse().expect("an endpoint")];
    let mut table = RouteTable::default();
    table.insert(name, Route::new(ends, nodes).expect("a route"));
    (format!("/e/{}/0", name.environment()), table)
}

#[tokio::test]
async fn the_node_is_reached_however_lnmessage_addresses_it() {
    let (site, _echo) = relaying(Limits::default()).await;
    for path in
        ["/ws", "/ws?", "/ws?/node.example:9735", "/ws/node.example:9735", "/ws/[::1]:9735", "/ws/a/b"]
    {
        let mut socket = connect(&site, path).await.unwrap_or_else(|status| panic!("{path}: {status}"));
        round_trip(&mut socket, Message::text("hello")).await;
    }
    assert_eq!(site.get("/wsx").await.status, 404);
}
