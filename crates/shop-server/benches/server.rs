//! Measures the server, each time next to a reference in the same run:
//!
//! - requests per second for the shop's page, its largest script and its font, as browsers request them, next to nginx (if it
//!   is installed) and tower-http's `ServeDir` with the same files;
//! - memory of 5,000 idle WebSockets, next to a relay made of axum and tokio-tungstenite;
//! - the time to draw 64 cards.
//!
//! `cargo bench -p e2e --bench commando` measures the time that `/ws` adds to a call.
//!
//! `cargo bench -p shop-server`. Use an idle machine; the load is printed. Servers run as processes of their own, and this process
//! creates the load, over 16 connections.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::extract::ws::{self, WebSocket, WebSocketUpgrade};
use axum::routing::any;
use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use shop_server::cards::{CardsRequest, Fonts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tower_http::services::ServeDir;

const DIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../frontend-dist");
const CONNECTIONS: usize = 16;
const LOAD_TIME: Duration = Duration::from_secs(3);
const IDLE: usize = 5000;
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// The argument with which this program is the `ServeDir` server.
const SERVE_DIR: &str = "serve-dir";
/// The argument with which this program relays WebSockets with axum and tokio-tungstenite.
const RELAY: &str = "relay";

fn main() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|word| word == SERVE_DIR) {
        return runtime.block_on(serve_dir(&arguments[at + 1]));
    }
    if let Some(at) = arguments.iter().position(|word| word == RELAY) {
        let buffer = arguments[at + 2].parse()?;
        return runtime.block_on(relay(arguments[at + 1].clone(), buffer));
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{} cores; load {load}", std::thread::available_parallelism()?);
    runtime.block_on(files())?;
    runtime.block_on(idle())?;
    cards()
}

/// A child process, which is stopped when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM, because nginx would leave its workers behind after SIGKILL.
        if let Ok(pid) = self.0.id().try_into() {
            kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        }
        self.0.wait().ok();
    }
}

/// Starts the program as shipped, with its files in `dir/dist`.
fn start(dir: &Path, upstream: SocketAddr) -> anyhow::Result<(Running, SocketAddr)> {
    fs::write(dir.join("rune"), "cnVuZQ==")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_lnplaylive-frontend"));
    let mut set = |key: &str, value: String| {
        command.env(format!("LNPLAYLIVE_FRONTEND__{key}"), value);
    };
    set("LISTEN", "127.0.0.1:0".into());
    set("DIST_DIR", dir.join("dist").display().to_string());
    set("NODE_ID", format!("02{}", "ab".repeat(32)));
    set("RUNE_FILE", dir.join("rune").display().to_string());
    set("LIGHTNING_WEBSOCKET", upstream.to_string());
    set("LIMITS__CONNECTIONS_PER_CLIENT", "100000".into());
    set("LIMITS__NEW_CONNECTIONS_PER_MINUTE", "1000000".into());
    listening(command, Stdio::null(), "serving http://")
}

/// Starts a server that prints its address after `prefix`.
fn listening(mut command: Command, stdout: Stdio, prefix: &str) -> anyhow::Result<(Running, SocketAddr)> {
    let mut child =
        Running(command.stdout(stdout).stderr(Stdio::piped()).spawn().context("starting a server")?);
    let mut log = BufReader::new(child.0.stderr.take().context("its log")?);
    let mut line = String::new();
    while !line.contains(prefix) {
        line.clear();
        ensure!(log.read_line(&mut line)? > 0, "the server ended");
    }
    let address = line.trim().rsplit_once(prefix).context("an address")?.1.parse()?;
    // The log is not read further; at this level there is no more output.
    Ok((child, address))
}

async fn serve_dir(dir: &str) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("serving http://{}", listener.local_addr()?);
    let app = Router::new().fallback_service(ServeDir::new(dir).precompressed_br().precompressed_gzip());
    axum::serve(listener, app).await.context("serving")
}

fn start_nginx(dir: &Path) -> anyhow::Result<Option<(Running, SocketAddr)>> {
    if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
        println!("nginx: skipped, it is not installed");
        return Ok(None);
    }
    // nginx does not support port 0. The port is free, and probably still is a moment later.
    let address = StdListener::bind("127.0.0.1:0")?.local_addr()?;
    let (root, dist) = (dir.display(), dir.join("dist"));
    let config = format!(
        "daemon off; worker_processes auto; pid {root}/nginx.pid; error_log {root}/nginx.log; events {{ worker_connections 1024; }}
         http {{ include /etc/nginx/mime.types; access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
           client_body_temp_path {root}/t; proxy_temp_path {root}/t; fastcgi_temp_path {root}/t; uwsgi_temp_path {root}/t;
           scgi_temp_path {root}/t; open_file_cache max=100;
           gzip_static on;
           server {{ listen {address}; root {}; location / {{ try_files $uri =404; }} }} }}\n",
        dist.display()
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, config)?;
    // nginx's workers run as nobody and read the files.
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file).arg("-e").arg(dir.join("nginx.log"));
    let running = Running(command.stderr(Stdio::null()).spawn().context("starting nginx")?);
    let began = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        ensure!(began.elapsed() < START_TIMEOUT, "nginx does not start; see {root}/nginx.log");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Some((running, address)))
}

async fn files() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir =
        tempfile::Builder::new().prefix("bench-").permissions(fs::Permissions::from_mode(0o755)).tempdir()?;
    let dist = dir.path().join("dist");
    // In a directory that nginx's workers can read, whoever owns this checkout.
    fs::create_dir_all(dist.join("assets"))?;
    for sub in ["", "assets"] {
        for file in fs::read_dir(Path::new(DIST).join(sub))?.collect::<Result<Vec<_>, _>>()? {
            if file.file_type()?.is_file() {
                fs::copy(file.path(), dist.join(sub).join(file.file_name()))?;
            }
        }
    }
    let paths = ["/index.html".to_owned(), largest(&dist, "js")?, largest(&dist, "woff2")?];
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut servers = vec![("lnplaylive-frontend", start(dir.path(), anywhere)?)];
    let mut own = Command::new(std::env::current_exe()?);
    own.arg(SERVE_DIR).arg(&dist);
    servers.push(("ServeDir", listening(own, Stdio::null(), "serving http://")?));
    servers.extend(start_nginx(dir.path())?.map(|nginx| ("nginx", nginx)));

    println!("\n| file | server | requests a second | x nginx |");
    println!("|---|---|---|---|");
    for path in &paths {
        let mut rates = vec![];
        for (server, (_, address)) in &servers {
            load(*address, path, Duration::from_millis(500)).await?;
            rates.push((*server, load(*address, path, LOAD_TIME).await?));
        }
        let nginx = rates.iter().find(|(server, _)| *server == "nginx").map(|(_, rate)| *rate);
        for (server, rate) in rates {
            let ratio = nginx.map_or("?".into(), |nginx| format!("{:.2}", rate / nginx));
            println!("| {path} | {server} | {rate:.0} | {ratio} |");
        }
    }
    Ok(())
}

/// The path of the largest asset with this extension.
fn largest(dist: &Path, extension: &str) -> anyhow::Result<String> {
    let mut found = vec![];
    for file in fs::read_dir(dist.join("assets"))? {
        let file = file?;
        if file.path().extension().is_some_and(|e| e == extension) {
            found.push((file.metadata()?.len(), format!("/assets/{}", file.file_name().display())));
        }
    }
    let largest = found.into_iter().max().with_context(|| format!("no .{extension} in {DIST}"))?;
    Ok(largest.1)
}

/// Requests per second over [`CONNECTIONS`] connections.
async fn load(address: SocketAddr, path: &str, time: Duration) -> anyhow::Result<f64> {
    let end = Instant::now() + time;
    let began = Instant::now();
    let tasks: Vec<_> =
        (0..CONNECTIONS).map(|_| tokio::spawn(requests(address, path.to_owned(), end))).collect();
    let mut count = 0.0;
    for task in tasks {
        count += task.await??;
    }
    Ok(count / began.elapsed().as_secs_f64())
}

async fn requests(address: SocketAddr, path: String, end: Instant) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // Not Brotli, because nginx has no built-in module for it.
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n");
    let mut buffer = vec![0; 64 << 10];
    let mut count = 0.0;
    // The length of the response, which is always the same.
    let mut whole = None;
    while Instant::now() < end {
        stream.write_all(request.as_bytes()).await?;
        let mut got = 0;
        while whole.is_none_or(|whole| got < whole) {
            let read = stream.read(&mut buffer[if whole.is_none() { got } else { 0 }..]).await?;
            ensure!(read > 0, "the server closed");
            got += read;
            if whole.is_none() {
                whole = answer_length(&buffer[..got])?;
            }
        }
        ensure!(whole == Some(got), "an answer of another length");
        count += 1.0;
    }
    Ok(count)
}

fn answer_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = answer.parse(bytes)? else { return Ok(None) };
    ensure!(answer.code == Some(200), "status {:?}", answer.code);
    let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length: usize = std::str::from_utf8(length.context("a length")?.value)?.parse()?;
    Ok(Some(head + length))
}

/// A stand-in for a node: accepts any handshake and echoes frames of one byte.
async fn echo() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.set_nodelay(true).ok();
                let mut request = vec![0; 1024];
                let Ok(length @ 1..) = stream.read(&mut request).await else { return };
                let Some(answer) = accept(&request[..length]) else { return };
                stream.write_all(answer.as_bytes()).await.ok();
                drop(request);
                loop {
                    // Holds no buffer while there is nothing to read.
                    if stream.readable().await.is_err() {
                        return;
                    }
                    let mut buffer = [0; 1024];
                    match stream.try_read(&mut buffer) {
                        Ok(7) if buffer[..2] == [0x82, 0x81] => {
                            let answer = [0x82, 1, buffer[6] ^ buffer[2]];
                            if stream.write_all(&answer).await.is_err() {
                                return;
                            }
                        }
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Ok(_) | Err(_) => return,
                    }
                }
            });
        }
    });
    Ok(address)
}

/// The answer to a handshake.
fn accept(request: &[u8]) -> Option<String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(request).ok()?;
    let key = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-key"))?;
    let accept = derive_accept_key(key.value);
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
}

/// Relays WebSockets message by message, with axum on the visitor's side and tokio-tungstenite on the node's.
async fn relay(upstream: String, buffer: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("serving http://{}", listener.local_addr()?);
    let handler = async move |upgrade: WebSocketUpgrade| {
        let upgrade = upgrade.read_buffer_size(buffer).write_buffer_size(0);
        upgrade.on_upgrade(async move |visitor| {
            // Errors of a relay do not matter here.
            relay_messages(visitor, &upstream, buffer).await.ok();
        })
    };
    axum::serve(listener, Router::new().route("/ws", any(handler))).await.context("serving")
}

async fn relay_messages(mut visitor: WebSocket, upstream: &str, buffer: usize) -> anyhow::Result<()> {
    let config = WebSocketConfig::default().read_buffer_size(buffer).write_buffer_size(0);
    let url = format!("ws://{upstream}/");
    let (mut node, _) = connect_async_with_config(url, Some(config), true).await?;
    loop {
        tokio::select! {
            message = visitor.recv() => match message.transpose()? {
                Some(ws::Message::Binary(bytes)) => node.send(Message::Binary(bytes)).await?,
                _ => return Ok(()),
            },
            message = node.next() => match message.transpose()? {
                Some(Message::Binary(bytes)) => visitor.send(ws::Message::Binary(bytes)).await?,
                _ => return Ok(()),
            },
        }
    }
}

/// Opens a WebSocket and completes its handshake.
async fn open(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(stream.read_buf(&mut head).await? > 0, "the server closed");
    }
    ensure!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    Ok(stream)
}

fn dist_dir() -> anyhow::Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("dist"))?;
    fs::write(dir.path().join("dist/index.html"), "x")?;
    Ok(dir)
}

/// A process's proportional share of memory, in megabytes.
fn memory(pid: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("PSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}

async fn idle() -> anyhow::Result<()> {
    let dir = dist_dir()?;
    let echo = echo().await?;
    println!("\n| {IDLE} idle WebSockets | MB without | MB with | kB each | seconds to open |");
    println!("|---|---|---|---|---|");
    let (server, address) = start(dir.path(), echo)?;
    idle_on("lnplaylive-frontend", &server, address).await?;
    drop(server);
    // tungstenite's default, and a small buffer.
    for buffer in [128 << 10, 4 << 10] {
        let mut own = Command::new(std::env::current_exe()?);
        own.arg(RELAY).arg(echo.to_string()).arg(buffer.to_string());
        let (server, address) = listening(own, Stdio::null(), "serving http://")?;
        idle_on(&format!("axum and tokio-tungstenite, buffers of {} kB", buffer >> 10), &server, address)
            .await?;
    }
    Ok(())
}

/// Opens [`IDLE`] WebSockets to a server, uses each once, and prints the server's memory.
async fn idle_on(name: &str, server: &Running, address: SocketAddr) -> anyhow::Result<()> {
    let before = memory(server.0.id())?;
    let mut sockets = vec![];
    let began = Instant::now();
    for _ in 0..IDLE {
        sockets.push(open(address).await?);
    }
    let opened = began.elapsed().as_secs_f64();
    for socket in &mut sockets {
        socket.write_all(&[0x82, 0x81, 0, 0, 0, 0, 7]).await?;
    }
    for socket in &mut sockets {
        socket.read_exact(&mut [0; 3]).await?;
    }
    let with = memory(server.0.id())?;
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let each = (with - before) * 1000.0 / IDLE as f64;
    println!("| {name} | {before:.1} | {with:.1} | {each:.1} | {opened:.1} |");
    Ok(())
}

fn cards() -> anyhow::Result<()> {
    let string = |node: usize| {
        format!(
            "https://shop.example/connect#address=02{}@shop.example:443&type=direct&value=wss:&rune={}{node}\
             &path=%2Fe%2F1800000000-0819da5d%2F{node}&name=Node%20{node}&color=df2020",
            "ab".repeat(32),
            "cnVuZQ".repeat(8)
        )
    };
    let strings: Vec<_> = (0..64).map(string).collect();
    let request = json!({"connection_strings": strings, "title": "A workshop"}).to_string();
    let fonts = Fonts::built_in();
    let mut times = vec![];
    let mut size = 0;
    for _ in 0..5 {
        let began = Instant::now();
        size = CardsRequest::from_json(request.as_bytes())?.check()?.draw(&fonts)?.len();
        times.push(began.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    println!("\nPDF of 64 cards: {:.3} s (bar: 1 s), {} kB", times[times.len() / 2], size / 1000);
    Ok(())
}
