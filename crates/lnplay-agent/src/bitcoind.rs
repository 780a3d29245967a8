//! The environment's bitcoind: its command line, and the calls that the supervisor makes.

use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use bitcoin::secp256k1::rand;
use bitcoin::{Amount, OutPoint};
pub use daemon_rpc::bitcoind::Error as RpcError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::child::Attempt;
use crate::state;

/// The blocks on top of a coinbase before it can be spent.
pub const MATURITY: u32 = 100;

/// bitcoind's code for a transaction that is in the chain.
const ALREADY_IN_CHAIN: i64 = -27;
const METHOD_NOT_FOUND: i64 = -32601;
/// The time that it may take to end: it writes its chain state.
pub const GRACE: Duration = Duration::from_secs(20);

impl Attempt for RpcError {
    fn may_pass(&self) -> bool {
        self.may_pass()
    }
}

/// The environment's bitcoind, running or not.
#[derive(Debug, Clone)]
pub struct Bitcoind {
    /// Its data directory.
    pub datadir: PathBuf,
    /// The login of nodes that cannot read its cookie.
    pub login: Option<Login>,
    rpc: daemon_rpc::Bitcoind,
}

/// The calls of lightningd's plugin bcli. No others are allowed to nodes: bitcoind can write files, forget blocks and be
/// stopped.
const NODES_METHODS: &str = "echo,estimatesmartfee,getblock,getblockchaininfo,getblockcount,getblockfrompeer,getblockhash,\
                             getmempoolinfo,getnetworkinfo,getpeerinfo,gettxout,sendrawtransaction";
/// The nodes' user name at bitcoind.
const NODES_NAME: &str = "nodes";

/// The nodes' own login at bitcoind, restricted to [`NODES_METHODS`].
#[derive(Clone)]
pub struct Login {
    /// A directory with a `bitcoin.conf`, which nodes use in place of the data directory.
    pub dir: PathBuf,
    /// The value of `-rpcauth`, which has a hash of the password.
    auth: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.dir.display())
    }
}

impl Login {
    /// The environment's login, made the first time; its file can be read by `group`. Later starts write nothing, so that a
    /// full disk does not keep the environment down.
    pub fn load_or_make(dir: PathBuf, group: u32) -> anyhow::Result<Self> {
        let file = dir.join("bitcoin.conf");
        let stored = state::read(&file)?.and_then(|bytes| stored_password(&bytes));
        let password = if let Some(password) = stored {
            password
        } else {
            let password = hex(&rand::random::<[u8; 32]>());
            DirBuilder::new().recursive(true).mode(0o750).create(&dir)?;
            let text = format!("regtest=1\nrpcuser={NODES_NAME}\nrpcpassword={password}\n");
            state::write(&file, text.as_bytes())?;
            password
        };
        for (path, mode) in [(&dir, 0o750), (&file, 0o640)] {
            chown(path, Some(0), Some(group))
                .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(mode)))
                .with_context(|| format!("cannot let the nodes read {}", path.display()))?;
        }
        Ok(Self { auth: auth(&password), dir })
    }
}

/// The password in a stored login.
fn stored_password(conf: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(conf).ok()?;
    let password = text.lines().find_map(|line| line.strip_prefix("rpcpassword="))?;
    (password.len() == 64 && password.bytes().all(|b| b.is_ascii_hexdigit())).then(|| password.to_owned())
}

/// A value of `-rpcauth`: `user:salt$hash`, where the hash is the HMAC-SHA256 of the password under the salt, in hex.
fn auth(password: &str) -> String {
    let salt = hex(&rand::random::<[u8; 16]>());
    let mut hash = HmacEngine::<sha256::Hash>::new(salt.as_bytes());
    hash.input(password.as_bytes());
    format!("{NODES_NAME}:{salt}${}", Hmac::from_engine(hash))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a String takes everything");
        out
    })
}

/// The tip of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// Its height.
    #[serde(alias = "blocks")]
    pub height: u32,
    /// The time in its header, in unix seconds.
    pub time: u64,
    /// The median time of the last eleven blocks, in unix seconds. The next block's time must be later.
    #[serde(alias = "mediantime")]
    pub median_time: u64,
}

/// A confirmed coin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coin {
    /// The output.
    pub output: OutPoint,
    /// Its amount.
    pub amount: Amount,
}

impl Bitcoind {
    /// The bitcoind with this data directory, which listens for RPC on `address`.
    pub fn new(datadir: PathBuf, address: SocketAddr, login: Option<Login>) -> Self {
        Self { rpc: daemon_rpc::Bitcoind::regtest(&datadir, address), datadir, login }
    }

    /// Its RPC address.
    pub fn address(&self) -> SocketAddr {
        self.rpc.address()
    }

    /// The directory for lightningd's `--bitcoin-datadir`, from which nodes learn how to log in.
    pub fn client_dir(&self) -> &Path {
        self.login.as_ref().map_or(&self.datadir, |login| &login.dir)
    }

    /// Its arguments; with `mock_time` (unix seconds) it starts with that time instead of the clock's. Nothing secret is
    /// among them: bitcoind makes a cookie that its owner alone can read, and gets only a hash of the nodes' password.
    pub fn arguments(&self, mock_time: Option<u64>) -> Vec<OsString> {
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
                // The chain is small, and most of the instance's memory is for the nodes.
                "-dbcache=16",
                "-maxmempool=32",
                // Its caches of checked signatures are filled with zeros at the start: by default 32 MiB, for a few transactions a
                // block here.
                "-maxsigcachesize=1",
                // The nodes' calls come in bursts, at every block.
                "-rpcworkqueue=256",
            ]
            .map(OsString::from),
        );
        out.extend(mock_time.map(|time| format!("-mocktime={time}").into()));
        let ip = self.address().ip();
        out.push(format!("-rpcbind={ip}").into());
        out.push(format!("-rpcallowip={ip}").into());
        out.push(format!("-rpcport={}", self.address().port()).into());
        if let Some(Login { auth, .. }) = &self.login {
            out.push(format!("-rpcauth={auth}").into());
            out.push(format!("-rpcwhitelist={NODES_NAME}:{NODES_METHODS}").into());
            // The supervisor, which has the cookie, may call everything.
            out.push("-rpcwhitelistdefault=0".into());
        }
        out
    }

    /// The height of the chain.
    pub async fn height(&self) -> Result<u32, RpcError> {
        self.rpc.call("getblockcount", json!([])).await
    }

    /// Mines `blocks` blocks that pay to `address`.
    pub async fn mine(&self, blocks: u32, address: &bitcoin::Address) -> Result<(), RpcError> {
        let _: Vec<String> = self.rpc.call("generatetoaddress", json!([blocks, address.to_string()])).await?;
        Ok(())
    }

    /// The id of the coinbase of the block at `height`.
    pub async fn coinbase(&self, height: u32) -> Result<bitcoin::Txid, RpcError> {
        #[derive(Deserialize)]
        struct Block {
            tx: Vec<bitcoin::Txid>,
        }
        let hash: String = self.rpc.call("getblockhash", json!([height])).await?;
        let block: Block = self.rpc.call("getblock", json!([hash, 1])).await?;
        let coinbase = block.tx.first().copied();
        coinbase.ok_or_else(|| self.rpc.unusable("getblock", format!("block {height} has no transaction")))
    }

    /// The tip of the chain.
    pub async fn tip(&self) -> Result<Tip, RpcError> {
        self.rpc.call("getblockchaininfo", json!([])).await
    }

    /// The number of transactions in the mempool.
    pub async fn waiting_transactions(&self) -> Result<u64, RpcError> {
        #[derive(Deserialize)]
        struct Pool {
            size: u64,
        }
        Ok(self.rpc.call::<Pool>("getmempoolinfo", json!([])).await?.size)
    }

    /// Sets its time to `time` (unix seconds) until further notice; `None` gives it the clock's again.
    pub async fn set_time(&self, time: Option<u64>) -> Result<(), RpcError> {
        self.rpc.call::<Value>("setmocktime", json!([time.unwrap_or(0)])).await.map(drop)
    }

    /// Sends a transaction. Succeeds if it is already in the mempool or chain.
    pub async fn send(&self, transaction_hex: &str) -> Result<(), RpcError> {
        match self.rpc.call::<Value>("sendrawtransaction", json!([transaction_hex])).await {
            Ok(_) | Err(RpcError::Refused { code: ALREADY_IN_CHAIN, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// True if the output exists and is unspent, in the mempool or in the chain.
    pub async fn has_output(&self, transaction: &bitcoin::Txid, output: u32) -> Result<bool, RpcError> {
        let found: Value = self.rpc.call("gettxout", json!([transaction, output, true])).await?;
        Ok(!found.is_null())
    }

    /// The confirmed coins of an address that the next block can spend, those that a transaction in the mempool spends
    /// among them. Looks through all coins there are: milliseconds for thousands.
    pub async fn spendable_coins(&self, address: &bitcoin::Address) -> Result<Vec<Coin>, RpcError> {
        #[derive(Deserialize)]
        struct Scan {
            height: u32,
            unspents: Vec<Unspent>,
        }
        #[derive(Deserialize)]
        struct Unspent {
            txid: bitcoin::Txid,
            vout: u32,
            amount: f64,
            coinbase: bool,
            height: u32,
        }
        let scan: Scan =
            self.rpc.call("scantxoutset", json!(["start", [format!("addr({address})")]])).await?;
        let spendable = |unspent: &Unspent| !unspent.coinbase || scan.height + 1 >= unspent.height + MATURITY;
        let coin = |unspent: Unspent| {
            let amount =
                Amount::from_btc(unspent.amount).map_err(|e| self.rpc.unusable("scantxoutset", e))?;
            Ok(Coin { output: OutPoint { txid: unspent.txid, vout: unspent.vout }, amount })
        };
        scan.unspents.into_iter().filter(spendable).map(coin).collect()
    }

    /// Writes its state in memory to disk, which a kill would lose: blocks that are not in its index on disk are not found
    /// again. `gettxoutsetinfo` does so before it counts.
    pub async fn flush(&self) -> Result<(), RpcError> {
        match self.rpc.call::<Value>("gettxoutsetinfo", json!(["none"])).await {
            Ok(_) | Err(RpcError::Refused { code: METHOD_NOT_FOUND, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
