//! Starts bitcoind and lightningd, simulated or real, each in a directory of its own, and talks to them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// For a daemon to become usable, and for what it does by itself.
const TIMEOUT: Duration = Duration::from_secs(60);
const USER: &str = "user";
const PASSWORD: &str = "password";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Simulated,
    Real,
}

impl Kind {
    /// The two executables; `None` if the machine has no real ones.
    fn programs(self) -> Option<(PathBuf, PathBuf)> {
        let real = |variable: &str, name: &str| {
            std::env::var_os(variable).map(PathBuf::from).or_else(|| {
                let path = std::env::var_os("PATH")?;
                std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
            })
        };
        match self {
            Self::Simulated => {
                Some((env!("CARGO_BIN_EXE_sim-bitcoind").into(), env!("CARGO_BIN_EXE_sim-lightningd").into()))
            }
            Self::Real => Some((real("BITCOIND", "bitcoind")?, real("LIGHTNINGD", "lightningd")?)),
        }
    }
}

/// A child that does not outlive its owner.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A port for a daemon that cannot be asked to find one itself. Below those that the system gives to whoever asks for
/// any, and in a place of this process's own, so that nobody takes it before the daemon does.
fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let place = std::process::id().wrapping_mul(16) + GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + u16::try_from(place % 10_000).expect("less than 10,000");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Asks `look` until it gives something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < TIMEOUT, "waited {} s for {what}", TIMEOUT.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) struct Bitcoind {
    daemon: Daemon,
    program: PathBuf,
    dir: PathBuf,
    port: u16,
}

impl Bitcoind {
    async fn start(program: &Path, dir: &Path) -> Self {
        Self::start_on(free_port(), program, dir, &[]).await
    }

    /// Ends and starts it again, with these arguments too.
    pub(crate) async fn restart(&mut self, extra: &[&str]) {
        self.call("stop", json!([])).await;
        let child = &mut self.daemon.0;
        eventually("bitcoind to end", async || child.try_wait().expect("it is our child")).await;
        *self = Self::start_on(self.port, &self.program, &self.dir, extra).await;
    }

    async fn start_on(port: u16, program: &Path, dir: &Path, extra: &[&str]) -> Self {
        std::fs::create_dir_all(dir).expect("a fresh directory");
        let child = Command::new(program)
            .args([
                "-regtest",
                "-server",
                "-listen=0",
                "-txindex",
                "-fallbackfee=0.0001",
                "-printtoconsole=0",
            ])
            .args([format!("-datadir={}", dir.display()), format!("-rpcport={port}")])
            .args(["-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1"])
            .args([format!("-rpcuser={USER}"), format!("-rpcpassword={PASSWORD}")])
            .args(extra)
            .stdout(Stdio::null())
            .spawn()
            .expect("bitcoind starts");
        let bitcoind = Self { daemon: Daemon(child), program: program.into(), dir: dir.into(), port };
        eventually("bitcoind to answer", async || {
            bitcoind.try_call("getblockcount", json!([])).await.ok()?.ok()
        })
        .await;
        bitcoind
    }

    async fn try_call(&self, method: &str, params: Value) -> std::io::Result<Result<Value, (i64, String)>> {
        let (status, body) =
            self.post(Some(PASSWORD), &json!({"id": 1, "method": method, "params": params})).await?;
        let answer: Value = serde_json::from_str(&body).map_err(|_| std::io::Error::other(status))?;
        if answer["error"].is_null() {
            return Ok(Ok(answer["result"].clone()));
        }
        let message = answer["error"]["message"].as_str().unwrap_or_default().to_owned();
        Ok(Err((answer["error"]["code"].as_i64().expect("errors have a code"), message)))
    }

    /// Posts a body; gives the status line and the answer's body.
    pub(crate) async fn post(
        &self,
        password: Option<&str>,
        body: &Value,
    ) -> std::io::Result<(String, String)> {
        let body = body.to_string();
        let mut request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        if let Some(password) = password {
            let login = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
            write!(request, "Authorization: Basic {login}\r\n").expect("a String takes everything");
        }
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        socket.write_all(format!("{request}\r\n{body}").as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
        Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
    }

    pub(crate) async fn call(&self, method: &str, params: Value) -> Value {
        let answer = self.try_call(method, params).await.expect("bitcoind answers");
        answer.unwrap_or_else(|(code, message)| panic!("{method}: {code} {message}"))
    }

    /// The code of the error that the call must end in.
    pub(crate) async fn refused(&self, method: &str, params: Value) -> i64 {
        let answer = self.try_call(method, params).await.expect("bitcoind answers");
        answer.expect_err("this must be refused").0
    }
}

pub(crate) struct Lightningd {
    daemon: Daemon,
    program: PathBuf,
    arguments: Vec<String>,
    mode: String,
    /// The network's directory, with the socket in it.
    pub(crate) dir: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) port: u16,
    pub(crate) ws_port: u16,
}

impl Lightningd {
    fn spawn(program: &Path, arguments: &[String], mode: &str, dir: &Path) -> Daemon {
        let stderr = std::fs::File::options()
            .append(true)
            .create(true)
            .open(dir.join("stderr"))
            .expect("a fresh directory");
        let child = Command::new(program)
            .args(arguments)
            .env("SIM_TEST_PLUGIN", mode)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("lightningd starts");
        Daemon(child)
    }

    pub(crate) async fn ready(&mut self) {
        eventually("lightningd to answer", async || {
            if let Some(status) = self.daemon.0.try_wait().expect("it is our child") {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                panic!("lightningd ended ({status}) before it answered; its log:\n{log}");
            }
            self.try_call("getinfo", json!({})).await.ok()?.ok()
        })
        .await;
        eventually("lightningd to have started", async || {
            self.logged("Server started with public key").then_some(())
        })
        .await;
    }

    /// SIGKILL, then the same command again.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.daemon.0.kill().expect("it runs");
        self.daemon.0.wait().expect("it is our child");
        std::fs::remove_file(&self.log).expect("it logged");
        let base = self.dir.parent().expect("a network's directory is in another").to_owned();
        self.daemon = Self::spawn(&self.program, &self.arguments, &self.mode, &base);
        self.ready().await;
    }

    /// The exit code, once it has ended.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let child = &mut self.daemon.0;
        eventually("lightningd to end", async || child.try_wait().expect("it is our child")).await.code()
    }

    pub(crate) fn logged(&self, text: &str) -> bool {
        std::fs::read_to_string(&self.log).is_ok_and(|log| log.contains(text))
    }

    pub(crate) async fn connection(&self) -> Connection {
        Connection { socket: self.connect().await.expect("the socket is there"), buffer: Vec::new() }
    }

    async fn connect(&self) -> std::io::Result<UnixStream> {
        UnixStream::connect(self.dir.join("lightning-rpc")).await
    }

    pub(crate) async fn try_call(
        &self,
        method: &str,
        params: Value,
    ) -> std::io::Result<Result<Value, Value>> {
        let mut connection = Connection { socket: self.connect().await?, buffer: Vec::new() };
        connection.send(&json!({"jsonrpc": "2.0", "id": "test", "method": method, "params": params})).await?;
        let mut answer = connection.receive().await?;
        assert_eq!(answer["id"], "test");
        assert_eq!(answer["jsonrpc"], "2.0");
        if answer.get("error").is_some() {
            Ok(Err(answer["error"].take()))
        } else {
            Ok(Ok(answer["result"].take()))
        }
    }

    pub(crate) async fn call(&self, method: &str, params: Value) -> Value {
        let answer = self.try_call(method, params).await.expect("lightningd answers");
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The error that the call must end in.
    pub(crate) async fn refused(&self, method: &str, params: Value) -> Value {
        match self.try_call(method, params.clone()).await.expect("lightningd answers") {
            Err(error) => error,
            Ok(result) => panic!("{method} {params} must be refused, not answered with {result}"),
        }
    }

    /// Calls and reads the answer with the types of `cln-rpc`, as the code that uses us does.
    pub(crate) async fn typed<T: serde::de::DeserializeOwned>(&self, method: &str, params: Value) -> T {
        let answer = self.call(method, params).await;
        let read = serde_json::from_value(answer.clone());
        read.unwrap_or_else(|error| panic!("{method} cannot be read: {error} in {answer:#}"))
    }

    pub(crate) async fn id(&self) -> String {
        self.call("getinfo", json!({})).await["id"].as_str().expect("a node has an id").to_owned()
    }
}

/// A connection to the socket on which several requests can be under way.
pub(crate) struct Connection {
    socket: UnixStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn send(&mut self, request: &Value) -> std::io::Result<()> {
        self.socket.write_all(format!("{request}\n\n").as_bytes()).await
    }

    pub(crate) async fn receive(&mut self) -> std::io::Result<Value> {
        loop {
            // The end of the frame is two newlines; the real daemon's JSON has single ones inside.
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let frame: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(serde_json::from_slice(&frame)?);
            }
            let read = tokio::time::timeout(TIMEOUT, self.socket.read_buf(&mut self.buffer)).await??;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The environment of a check: a chain, and nodes on it as needed.
pub(crate) struct Bench {
    pub(crate) bitcoind: Bitcoind,
    lightningd: PathBuf,
    nodes: usize,
    dir: TempDir,
}

impl Bench {
    pub(crate) async fn new(kind: Kind) -> Option<Self> {
        let Some((bitcoind, lightningd)) = kind.programs() else {
            println!("skipped: no lightningd");
            return None;
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bitcoind = Bitcoind::start(&bitcoind, &dir.path().join("bitcoin")).await;
        // A node that sees nothing but the genesis block takes the chain for not synchronised.
        bitcoind.call("generatetoaddress", json!([1, "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"])).await;
        Some(Self { bitcoind, lightningd, nodes: 0, dir })
    }

    /// A node that is ready to use.
    pub(crate) async fn node(&mut self, extra: &[&str]) -> Lightningd {
        let mut node = self.start("", extra);
        node.ready().await;
        node
    }

    /// A node with the test plugin in the given mode.
    pub(crate) async fn node_with_plugin(&mut self, mode: &str, extra: &[&str]) -> Lightningd {
        let plugin = concat!("--plugin=", env!("CARGO_BIN_EXE_sim-test-plugin"));
        let mut node = self.start(mode, &[&[plugin], extra].concat());
        node.ready().await;
        node
    }

    /// A node that may never get ready.
    pub(crate) fn start(&mut self, mode: &str, extra: &[&str]) -> Lightningd {
        self.nodes += 1;
        let base = self.dir.path().join(format!("l{}", self.nodes));
        std::fs::create_dir_all(&base).expect("a fresh directory");
        let log = base.join("log");
        let (port, ws_port) = (free_port(), free_port());
        let mut arguments = vec![
            "--network=regtest".to_owned(),
            format!("--lightning-dir={}", base.display()),
            "--bitcoin-rpcconnect=127.0.0.1".into(),
            format!("--bitcoin-rpcport={}", self.bitcoind.port),
            format!("--bitcoin-rpcuser={USER}"),
            format!("--bitcoin-rpcpassword={PASSWORD}"),
            format!("--bitcoin-datadir={}", self.dir.path().join("bitcoin").display()),
            format!("--bind-addr=127.0.0.1:{port}"),
            format!("--bind-addr=ws:127.0.0.1:{ws_port}"),
            "--alias=tested".into(),
            "--rgb=aabbcc".into(),
            "--log-level=debug".into(),
            format!("--log-file={}", log.display()),
            "--developer".into(),
            "--dev-bitcoind-poll=1".into(),
            "--dev-fast-gossip".into(),
            "--disable-dns".into(),
        ];
        arguments.extend(extra.iter().map(|&argument| argument.to_owned()));
        let daemon = Lightningd::spawn(&self.lightningd, &arguments, mode, &base);
        let (program, mode) = (self.lightningd.clone(), mode.to_owned());
        Lightningd { daemon, program, arguments, mode, dir: base.join("regtest"), log, port, ws_port }
    }

    /// The error output of a node that did not start.
    pub(crate) fn complaint(node: &Lightningd) -> String {
        let base = node.dir.parent().expect("a network's directory is in another");
        std::fs::read_to_string(base.join("stderr")).unwrap_or_default()
    }
}

/// Makes every check a test on the simulated daemons and one on the real ones.
macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        mod simulated {
            $(#[tokio::test]
            async fn $name() {
                if let Some(bench) = crate::daemons::Bench::new(crate::daemons::Kind::Simulated).await {
                    super::$name(bench).await;
                }
            })*
        }

        mod real {
            $(#[tokio::test]
            async fn $name() {
                if let Some(bench) = crate::daemons::Bench::new(crate::daemons::Kind::Real).await {
                    super::$name(bench).await;
                }
            })*
        }
    };
}

pub(crate) use checks;
