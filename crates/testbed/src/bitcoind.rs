//! A private bitcoind on regtest, with coins to spend.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bitcoin::secp256k1::{Secp256k1, SecretKey};
use bitcoin::{Address, Amount, CompressedPublicKey, NetworkKind, PrivateKey};
use serde_json::{Value, json};

use crate::process::Process;
use crate::wait::{Step, until};
use crate::{Daemons, Error, Result, reserve_port};

const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A coinbase can be spent after this many blocks.
const MATURITY: u64 = 100;
/// The block reward on regtest for the first 150 blocks.
const COINBASE: Amount = Amount::from_int_btc(50);
/// Far above the minimum for our small transactions.
const FEE: Amount = Amount::from_sat(10_000);

/// A running bitcoind, and the key to which its coins are mined.
///
/// It needs no wallet, which real bitcoinds can be built without: blocks pay to our key, and bitcoind signs with it
/// (`signrawtransactionwithkey`).
#[derive(Debug)]
pub struct Bitcoind {
    process: Process,
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    purse: Purse,
}

#[derive(Debug)]
struct Purse {
    key: PrivateKey,
    address: String,
    /// Height of the first block whose coinbase has not been spent.
    next: u64,
}

impl Purse {
    fn new() -> Self {
        let secp = Secp256k1::new();
        let key = PrivateKey::new(
            SecretKey::from_slice(&[0x21; 32]).expect("below the group's order"),
            NetworkKind::Test,
        );
        let public = CompressedPublicKey::from_private_key(&secp, &key).expect("the key is compressed");
        Self { key, address: Address::p2wpkh(&public, bitcoin::KnownHrp::Regtest).to_string(), next: 1 }
    }
}

impl Bitcoind {
    /// Starts bitcoind in `dir` and mines until a coinbase can be spent.
    pub async fn start(daemons: &Daemons, dir: &Path) -> Result<Self> {
        let port = reserve_port()?;
        let conf = dir.join("bitcoin.conf");
        // In a file, so that lightningd's bitcoin-cli finds the port by -datadir alone. It authenticates with the cookie.
        let text = format!(
            "regtest=1\nserver=1\nlisten=0\nprinttoconsole=1\n[regtest]\nrpcbind=127.0.0.1\nrpcallowip=127.0.0.1\nrpcport={port}\n"
        );
        std::fs::create_dir_all(dir)
            .and_then(|()| std::fs::write(&conf, text))
            .map_err(|source| Error::File { doing: "writing", path: conf, source })?;
        let program = daemons.bitcoind().to_owned();
        let process = spawn(&program, dir, None)?;
        let mut bitcoind = Self { process, program, dir: dir.into(), port, purse: Purse::new() };
        bitcoind.ready().await?;
        bitcoind.mine(MATURITY + 1).await?;
        Ok(bitcoind)
    }

    /// Its data directory, where the cookie and `bitcoin.conf` are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its RPC port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops bitcoind if it is running, and starts it again with the same data and port.
    pub async fn restart(&mut self) -> Result<()> {
        self.restart_with(None).await
    }

    /// As [`Self::restart`], two days later by its own clock: until the next block it takes its chain for one that it still
    /// downloads.
    pub async fn restart_out_of_sync(&mut self) -> Result<()> {
        let tip = self.call("getblockchaininfo", json!([])).await?["time"].as_u64().unwrap_or_default();
        self.restart_with(Some(format!("-mocktime={}", tip + 2 * 24 * 3600))).await
    }

    async fn restart_with(&mut self, option: Option<String>) -> Result<()> {
        if self.process.is_running() {
            self.process.terminate(STOP_TIMEOUT).await?;
        }
        self.process.kill();
        self.process = spawn(&self.program, &self.dir, option.as_deref())?;
        self.ready().await
    }

    /// Kills bitcoind.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Mines blocks that pay to our key.
    pub async fn mine(&self, blocks: u64) -> Result<()> {
        self.call("generatetoaddress", json!([blocks, self.purse.address])).await?;
        Ok(())
    }

    /// Sends coins to an address, without mining a block. At most one block reward, less the fee.
    pub async fn send(&mut self, address: &str, amount: Amount) -> Result<()> {
        let Some(change) = COINBASE.checked_sub(amount).and_then(|rest| rest.checked_sub(FEE)) else {
            return Err(Error::Unusable(format!("{amount} is more than one coinbase holds ({COINBASE})")));
        };
        let height = self.call("getblockcount", json!([])).await?.as_u64().unwrap_or_default();
        if height < self.purse.next + MATURITY {
            self.mine(self.purse.next + MATURITY - height).await?;
        }
        let hash = self.call("getblockhash", json!([self.purse.next])).await?;
        let block = self.call("getblock", json!([hash])).await?;
        let mut outputs = vec![json!({address: btc(amount)})];
        if change > Amount::ZERO {
            outputs.push(json!({&self.purse.address: btc(change)}));
        }
        let raw = self
            .call("createrawtransaction", json!([[{"txid": block["tx"][0], "vout": 0}], outputs]))
            .await?;
        let signed = self.call("signrawtransactionwithkey", json!([raw, [self.purse.key.to_wif()]])).await?;
        self.call("sendrawtransaction", json!([signed["hex"]])).await?;
        self.purse.next += 1;
        Ok(())
    }

    /// Calls an RPC method.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value> {
        let client = daemon_rpc::Bitcoind::regtest(&self.dir, (Ipv4Addr::LOCALHOST, self.port).into());
        client.with_timeout(ANSWER_TIMEOUT).call(method, params).await.map_err(|error| {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Error::Bitcoind { method: method.into(), problem: format!("{error}{cause}") }
        })
    }

    async fn ready(&mut self) -> Result<()> {
        until("bitcoind to answer", START_TIMEOUT, async || {
            self.process.check()?;
            Ok(match self.call("getblockchaininfo", json!([])).await {
                Ok(_) => Step::Done(()),
                Err(error) => Step::NotYet(error.to_string()),
            })
        })
        .await
    }
}

fn spawn(program: &Path, dir: &Path, option: Option<&str>) -> Result<Process> {
    let mut command = Command::new(program);
    command.arg(format!("-datadir={}", dir.display())).args(option).current_dir(dir);
    Process::spawn("bitcoind", &mut command, &dir.with_extension("log"))
}

/// An amount in BTC with eight decimals, as a string, so that no float rounds it.
fn btc(amount: Amount) -> String {
    format!("{}.{:08}", amount.to_sat() / 100_000_000, amount.to_sat() % 100_000_000)
}
