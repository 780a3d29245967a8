//! A site served in this process, and raw requests to it.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use shop_server::{Listeners, Settings, Site};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub const NODE: &str = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";
pub const INDEX: &str = "<!doctype html><title>The app</title>";
pub const SECRET: &str = "not to be served";
/// Time-out for every wait.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// A running server.
pub struct Served {
    pub address: SocketAddr,
    pub metrics: Option<SocketAddr>,
    pub dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Creates a directory with a small web shop, and settings for it.
pub fn prepare() -> (TempDir, Settings) {
    let dir = tempfile::tempdir().expect("a directory");
    let dist = dir.path().join("dist");
    std::fs::create_dir_all(dist.join("assets")).expect("it is ours");
    let put = |name: &str, text: &str| std::fs::write(dist.join(name), text).expect("it is ours");
    put("index.html", INDEX);
    put("sw.js", "// a worker");
    put("assets/app-D4f5e6a7.js", "plain script");
    put("assets/app-D4f5e6a7.js.br", "brotli script");
    put("assets/app-D4f5e6a7.js.gz", "gzip script");
    std::fs::write(dir.path().join("secret.txt"), SECRET).expect("it is ours");
    let rune = dir.path().join("rune");
    std::fs::write(&rune, "cnVuZQ==\n").expect("it is ours");
    let mut settings = Settings::new(dist, NODE.parse().expect("a node's id"), rune);
    settings.listen = (Ipv4Addr::LOCALHOST, 0).into();
    (dir, settings)
}

/// Serves with settings modified by `change`.
pub async fn serve(change: impl FnOnce(&Path, &mut Settings)) -> Served {
    let (dir, mut settings) = prepare();
    change(dir.path(), &mut settings);
    let listeners = Listeners::bind(&settings).await.expect("any port");
    let (address, metrics) = (listeners.address().expect("an address"), listeners.metrics_address());
    let site = Site::new(settings).expect("a site");
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(site.serve(listeners, async { drop(stopped.await) }));
    Served { address, metrics, dir, stop: Some(stop), task }
}

impl Served {
    /// Stops it, and waits until it has stopped.
    pub async fn stop(mut self) {
        self.begin_stop();
        timeout(TIMEOUT, self.task).await.expect("it stops").expect("it does not panic");
    }

    /// Begins to stop it.
    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Sends raw bytes and returns the response.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> Answer {
        send(self.address, request.as_ref()).await
    }

    /// A GET with additional headers.
    pub async fn get_with(&self, path: &str, headers: &str) -> Answer {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.get_with(path, "").await
    }

    /// The metrics, from their own listener.
    pub async fn metrics(&self) -> String {
        let address = self.metrics.expect("metrics_listen is set");
        let answer = send(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(answer.status, 200);
        answer.text()
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, json: &str) -> Answer {
        let length = json.len();
        self.raw(format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{json}"
        ))
        .await
    }
}

/// Sends bytes to an address and reads until it closes.
pub async fn send(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    // The server may answer before it has read everything.
    drop(stream.write_all(request).await);
    let mut bytes = Vec::new();
    // After a refusal the connection may be reset.
    drop(timeout(TIMEOUT, stream.read_to_end(&mut bytes)).await.expect("it answers and closes"));
    Answer::read(&bytes)
}

/// An HTTP response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self { status: status.expect("a status"), head, body: bytes[end + 4..].to_vec() }
    }

    /// A header's value, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let found = self.head.lines().filter_map(|line| line.split_once(':'));
        found
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next()
            .unwrap_or("")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The sentence of an error.
    pub fn error(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        body["error"].as_str().expect("a sentence").to_owned()
    }
}
