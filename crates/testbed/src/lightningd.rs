//! A private Core Lightning node.

use std::ffi::OsString;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cln_rpc::RpcError;
use serde::Serialize;
use serde_json::{Value, json};

use crate::process::Process;
use crate::wait::{Step, until};
use crate::{Bitcoind, Daemons, Error, Result, Rpc, reserve_port};

/// Enough for sixteen nodes that start at the same time on two slow cores.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Generous time-out for a payment over one hop.
const PAYMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Size of the kernel's `sun_path`, without the final zero.
const SOCKET_PATH_LIMIT: usize = 107;

/// The configuration of a node, in addition to what all our nodes have.
#[derive(Clone, Debug, Default)]
pub struct NodeConfig {
    /// Its alias and its name in messages.
    pub name: String,
    /// Plugins, started with the node.
    pub plugins: Vec<PathBuf>,
    /// Additional options, as `name=value` or `name`.
    pub options: Vec<String>,
    /// Environment variables for the node and its plugins.
    pub env: Vec<(OsString, OsString)>,
}

/// A running node.
#[derive(Debug)]
pub struct Lightningd {
    process: Process,
    setup: Setup,
    id: String,
}

/// The fixed parts of a node's start.
#[derive(Debug)]
struct Setup {
    daemons: Daemons,
    bitcoind_dir: PathBuf,
    bitcoind_port: u16,
    dir: PathBuf,
    port: u16,
    ws_port: u16,
    config: NodeConfig,
}

impl Lightningd {
    /// Starts a node with its data in `dir` and its log next to it, and returns when it answers `getinfo`.
    pub async fn start(
        daemons: &Daemons,
        bitcoind: &Bitcoind,
        dir: &Path,
        config: NodeConfig,
    ) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|source| Error::File {
            doing: "creating",
            path: dir.into(),
            source,
        })?;
        let setup = Setup {
            daemons: daemons.clone(),
            bitcoind_dir: bitcoind.dir().into(),
            bitcoind_port: bitcoind.port(),
            dir: dir.into(),
            port: reserve_port()?,
            ws_port: reserve_port()?,
            config,
        };
        let length = setup.socket().as_os_str().len();
        if length > SOCKET_PATH_LIMIT {
            let socket = setup.socket();
            return Err(Error::Unusable(format!(
                "{} is {length} bytes long, and a unix socket's path has at most {SOCKET_PATH_LIMIT}: set TMPDIR to a shorter path",
                socket.display()
            )));
        }
        let mut node = Self { process: setup.spawn()?, setup, id: String::new() };
        node.id = node.ready().await?;
        Ok(node)
    }

    /// The node's public key, in hex.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its directory (`--lightning-dir`).
    pub fn dir(&self) -> &Path {
        &self.setup.dir
    }

    /// Its log, which contains all of its runs.
    pub fn log_path(&self) -> PathBuf {
        self.setup.log()
    }

    /// The port for other nodes, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.setup.port
    }

    /// The port for browsers (BOLT 8 over plain WebSocket), on 127.0.0.1.
    pub fn ws_port(&self) -> u16 {
        self.setup.ws_port
    }

    /// The process id of lightningd itself, while it runs.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its configuration; changes take effect at the next [`restart`](Self::restart).
    pub fn config_mut(&mut self) -> &mut NodeConfig {
        &mut self.setup.config
    }

    /// A client for calls from other tasks.
    pub fn rpc(&self) -> Rpc {
        Rpc::new(self.setup.socket())
    }

    /// Calls a method by name and returns the node's answer or error unchanged.
    pub async fn call(&self, method: &str, params: impl Serialize + Debug) -> Result<Value, RpcError> {
        self.rpc().call(method, params).await
    }

    /// Pays an invoice and returns when the payment has succeeded or finally failed.
    pub async fn pay(&self, bolt11: &str) -> Result<Value, RpcError> {
        self.rpc().within(PAYMENT_TIMEOUT).call("pay", json!({"bolt11": bolt11})).await
    }

    /// Waits until `text` is in the log of the current run.
    pub async fn wait_for_log(&mut self, text: &str, within: Duration) -> Result<()> {
        self.process.wait_for_log(text, within).await
    }

    /// The log of the current run so far.
    pub fn log(&self) -> Result<String> {
        self.process.output()
    }

    /// Kills the node, its daemons and its plugins (SIGKILL).
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops the node as an operator would, and waits until it has exited.
    pub async fn stop(&mut self) -> Result<()> {
        if self.process.is_running() {
            self.ask("stop", json!({})).await?;
            self.process.ended_within(STOP_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Stops the node if it is running, starts it in the same directory and on the same ports, and returns when it answers.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.process.kill();
        self.process = self.setup.spawn()?;
        self.id = self.ready().await?;
        Ok(())
    }

    /// Like [`call`](Self::call), with this crate's error type.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Result<Value> {
        self.call(method, params).await.map_err(|source| Error::Lightningd {
            node: self.setup.config.name.clone(),
            method: method.into(),
            source,
        })
    }

    /// Waits until the node has started and returns its id.
    ///
    /// It answers calls slightly earlier, but a plugin started then is never initialised (seen with 26.04.1).
    async fn ready(&mut self) -> Result<String> {
        self.process.wait_for_log("Server started with public key", START_TIMEOUT).await?;
        let rpc = self.rpc();
        until(&format!("{} to answer getinfo", self.setup.config.name), START_TIMEOUT, async || {
            self.process.check()?;
            Ok(match rpc.call("getinfo", json!({})).await {
                Ok(info) => Step::Done(info["id"].as_str().unwrap_or_default().to_owned()),
                Err(error) => Step::NotYet(error.to_string()),
            })
        })
        .await
    }
}

impl Setup {
    fn socket(&self) -> PathBuf {
        self.dir.join("regtest/lightning-rpc")
    }

    fn log(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    fn spawn(&self) -> Result<Process> {
        // A killed node leaves its socket behind, and connecting to it fails in a confusing way.
        match std::fs::remove_file(self.socket()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::File { doing: "removing", path: self.socket(), source: error });
            }
            _ => {}
        }
        let mut command = Command::new(self.daemons.lightningd());
        command
            .current_dir(&self.dir)
            .arg(format!("--lightning-dir={}", self.dir.display()))
            .arg("--network=regtest")
            .arg(format!("--bitcoin-datadir={}", self.bitcoind_dir.display()))
            .arg(format!("--bitcoin-rpcport={}", self.bitcoind_port))
            .arg(format!("--alias={}", self.config.name))
            .arg(format!("--bind-addr=127.0.0.1:{}", self.port))
            .arg(format!("--bind-addr=ws:127.0.0.1:{}", self.ws_port))
            .arg("--log-level=debug")
            .arg("--disable-dns")
            // Polls bitcoind every second instead of every thirty, gossips at once, and reconnects without backing off.
            .args(["--developer", "--dev-bitcoind-poll=1", "--dev-fast-gossip", "--dev-fast-reconnect"]);
        if let Some(cli) = &self.daemons.bitcoin_cli {
            command.arg(format!("--bitcoin-cli={}", cli.display()));
        }
        for plugin in &self.config.plugins {
            command.arg(format!("--plugin={}", plugin.display()));
        }
        command.args(self.config.options.iter().map(|option| format!("--{option}")));
        // The plugin reads settings from variables with this prefix; those of the test run are not for it.
        let ours = |name: &OsString| name.to_string_lossy().starts_with("LNPLAYLIVE_");
        for name in std::env::vars_os().map(|(name, _)| name).filter(ours) {
            command.env_remove(name);
        }
        command.envs(self.config.env.iter().map(|(name, value)| (name, value)));
        Process::spawn(&self.config.name, &mut command, &self.log())
    }
}
