//! bitcoind: its command line, and a client for its RPC.

use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use bitcoin::secp256k1::rand;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::child::Attempt;
use crate::state;

/// Mining a hundred blocks takes a fraction of this.
const CALL_LIMIT: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 8 << 20;

/// The transaction is in the chain already.
const ALREADY_IN_CHAIN: i64 = -27;
const METHOD_NOT_FOUND: i64 = -32601;
/// It is starting.
const IN_WARMUP: i64 = -28;

/// Why a call came to nothing.
#[derive(Debug, Error)]
pub enum RpcError {
    /// bitcoind answered, with an error.
    #[error("bitcoind refused {method}: {message} ({code})")]
    Refused {
        /// The RPC method.
        method: &'static str,
        /// bitcoind's code.
        code: i64,
        /// bitcoind's text.
        message: String,
    },
    /// No answer that could be used: it is down, starting or too slow.
    #[error("bitcoind at {address} did not answer {method}")]
    Unreachable {
        /// The RPC method.
        method: &'static str,
        /// Its RPC address.
        address: SocketAddr,
        /// What came in the way.
        source: anyhow::Error,
    },
}

impl Attempt for RpcError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Refused { code, .. } => *code == IN_WARMUP,
            Self::Unreachable { .. } => true,
        }
    }
}

/// A bitcoind of ours, running or not.
#[derive(Debug, Clone)]
pub struct Bitcoind {
    /// Its data directory.
    pub datadir: PathBuf,
    /// Where its RPC listens.
    pub rpc: SocketAddr,
    /// What nodes log in with that cannot read its cookie.
    pub login: Option<Login>,
}

/// What bcli, lightningd's plugin, asks of bitcoind. Nothing else: bitcoind can write files, forget blocks and be stopped.
const NODES_METHODS: &str = "echo,estimatesmartfee,getblock,getblockchaininfo,getblockcount,getblockfrompeer,getblockhash,\
                             getmempoolinfo,getnetworkinfo,getpeerinfo,gettxout,sendrawtransaction";
/// Who they are there.
const NODES_NAME: &str = "nodes";

/// A login of the nodes' own, which allows what lightningd needs.
#[derive(Clone)]
pub struct Login {
    /// The directory that names it, in place of the data directory: it has a `bitcoin.conf`.
    pub dir: PathBuf,
    /// What bitcoind is told: the password's hash.
    auth: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.dir.display())
    }
}

impl Login {
    /// Makes up a password and writes it where `group` can read it.
    pub fn make(dir: PathBuf, group: u32) -> anyhow::Result<Self> {
        let [salt, password] = [(); 2].map(|()| hex(&rand::random::<[u8; 32]>()));
        let mut hash = HmacEngine::<sha256::Hash>::new(salt.as_bytes());
        hash.input(password.as_bytes());
        let auth = format!("{NODES_NAME}:{salt}${}", Hmac::from_engine(hash));
        DirBuilder::new().recursive(true).mode(0o750).create(&dir)?;
        let file = dir.join("bitcoin.conf");
        let text = format!("regtest=1\nrpcuser={NODES_NAME}\nrpcpassword={password}\n");
        state::write(&file, text.as_bytes())?;
        for (path, mode) in [(&dir, 0o750), (&file, 0o640)] {
            chown(path, Some(0), Some(group))
                .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(mode)))
                .with_context(|| format!("cannot let the nodes read {}", path.display()))?;
        }
        Ok(Self { dir, auth })
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a String takes everything");
        out
    })
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Value,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: i64,
    message: String,
}

impl Bitcoind {
    /// Where nodes find out how to log in: a directory for lightningd's `--bitcoin-datadir`.
    pub fn client_dir(&self) -> &Path {
        self.login.as_ref().map_or(&self.datadir, |login| &login.dir)
    }

    /// Its arguments. Nothing secret is among them: bitcoind makes a cookie that its owner alone can read, and of the nodes'
    /// password it is told the hash.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut datadir = OsString::from("-datadir=");
        datadir.push(&self.datadir);
        let mut out = vec![datadir];
        out.extend(
            [
                "-regtest",
                "-server=1",
                "-listen=0",
                "-dnsseed=0",
                "-printtoconsole=1",
                "-nodebuglogfile",
                // One small chain for one small room: most of the instance's memory is for the nodes.
                "-dbcache=16",
                "-maxmempool=32",
                // Each node's `bitcoin-cli` calls come in bursts, one for each node at every block.
                "-rpcworkqueue=256",
            ]
            .map(OsString::from),
        );
        let ip = self.rpc.ip();
        out.push(format!("-rpcbind={ip}").into());
        out.push(format!("-rpcallowip={ip}").into());
        out.push(format!("-rpcport={}", self.rpc.port()).into());
        if let Some(Login { auth, .. }) = &self.login {
            out.push(format!("-rpcauth={auth}").into());
            out.push(format!("-rpcwhitelist={NODES_NAME}:{NODES_METHODS}").into());
            // Whoever has the cookie, which is the supervisor, may do everything.
            out.push("-rpcwhitelistdefault=0".into());
        }
        out
    }

    /// Calls `method` with positional parameters.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, RpcError> {
        let unreachable = |source| RpcError::Unreachable { method, address: self.rpc, source };
        let exchange = timeout(CALL_LIMIT, self.exchange(method, params));
        let bytes = exchange.await.map_err(|late| unreachable(late.into()))?.map_err(unreachable)?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|e| unreachable(e.into()))?;
        if let Some(Refusal { code, message }) = answer.error {
            return Err(RpcError::Refused { method, code, message });
        }
        serde_json::from_value(answer.result).map_err(|e| unreachable(e.into()))
    }

    async fn exchange(&self, method: &str, params: Value) -> anyhow::Result<Bytes> {
        // A new cookie is made at every start.
        let cookie = tokio::fs::read(self.datadir.join("regtest/.cookie")).await?;
        let stream = TcpStream::connect(self.rpc).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let body = json!({"jsonrpc": "1.0", "id": 1, "method": method, "params": params}).to_string();
        let request = Request::post("/")
            .header(HOST, self.rpc.to_string())
            .header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(cookie)))
            .body(Full::new(Bytes::from(body)))?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let bytes = body.map_err(|e| anyhow::anyhow!(e))?.to_bytes();
            anyhow::ensure!(!bytes.is_empty(), "HTTP status {status}");
            Ok(bytes)
        };
        tokio::pin!(answer);
        // The connection is driven here rather than in a task of its own, so that it ends with the call.
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => {
                ended?;
                answer.await
            }
        }
    }

    /// The height of the chain.
    pub async fn height(&self) -> Result<u32, RpcError> {
        self.call("getblockcount", json!([])).await
    }

    /// Mines blocks that pay to `address`.
    pub async fn mine(&self, blocks: u32, address: &bitcoin::Address) -> Result<(), RpcError> {
        let _: Vec<String> = self.call("generatetoaddress", json!([blocks, address.to_string()])).await?;
        Ok(())
    }

    /// The id of the coinbase of the block at `height`.
    pub async fn coinbase(&self, height: u32) -> Result<bitcoin::Txid, RpcError> {
        #[derive(Deserialize)]
        struct Block {
            tx: Vec<bitcoin::Txid>,
        }
        let hash: String = self.call("getblockhash", json!([height])).await?;
        let block: Block = self.call("getblock", json!([hash, 1])).await?;
        block.tx.first().copied().ok_or_else(|| RpcError::Unreachable {
            method: "getblock",
            address: self.rpc,
            source: anyhow::anyhow!("block {height} has no transaction"),
        })
    }

    /// Hands in a transaction. One that it has, in its pool or in the chain, is well.
    pub async fn send(&self, transaction_hex: &str) -> Result<(), RpcError> {
        match self.call::<Value>("sendrawtransaction", json!([transaction_hex])).await {
            Ok(_) | Err(RpcError::Refused { code: ALREADY_IN_CHAIN, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the transaction is waiting to be mined, or in the chain with the output not yet spent.
    pub async fn has_output(&self, transaction: &bitcoin::Txid, output: u32) -> Result<bool, RpcError> {
        let found: Value = self.call("gettxout", json!([transaction, output, true])).await?;
        Ok(!found.is_null())
    }

    /// Writes to disk what it keeps in memory, which a kill would lose: blocks that its index does not know are not
    /// found again. The statistics are what we ask for because they begin by that.
    pub async fn flush(&self) -> Result<(), RpcError> {
        match self.call::<Value>("gettxoutsetinfo", json!(["none"])).await {
            Ok(_) | Err(RpcError::Refused { code: METHOD_NOT_FOUND, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
