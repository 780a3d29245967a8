//! A regtest chain: blocks with real headers and proof of work, unspent outputs, and a memory pool.
//!
//! Transactions are checked as far as tests need it (inputs exist, are unspent and mature, amounts add up). Scripts are not
//! executed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;

use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::{deserialize, deserialize_partial, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::script::PushBytesBuf;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Target, Transaction,
    TxIn, TxMerkleNode, TxOut, Txid, Weight, Witness, absolute, transaction,
};

use super::rpc::RpcError;

/// Blocks before a coinbase output may be spent.
const MATURITY: u32 = 100;
/// Blocks between halvings of the subsidy on regtest.
const HALVING: u32 = 150;
/// Maximum weight of a block's transactions without the coinbase.
const BLOCK_ROOM: Weight = Weight::from_wu(3_990_000);
/// The relay fee of a default node, in satoshi per 1000 virtual bytes.
const MIN_RELAY: u64 = 100;
/// The age of the tip, in seconds, up to which the chain is current (`DEFAULT_MAX_TIP_AGE`).
const MAX_TIP_AGE: u32 = 24 * 3600;
/// The most seconds that a block's time may be ahead of the daemon's.
const MAX_FUTURE: u32 = 2 * 60 * 60;

/// An unspent output.
#[derive(Clone, Debug)]
pub(super) struct Coin {
    pub(super) out: TxOut,
    /// `None` while its transaction waits in the memory pool.
    pub(super) height: Option<u32>,
    pub(super) coinbase: bool,
}

/// A transaction waiting to be mined.
#[derive(Debug)]
pub(super) struct Pooled {
    pub(super) tx: Transaction,
    pub(super) txid: Txid,
    pub(super) fee: Amount,
}

/// The chain, its unspent outputs, and its file.
pub(super) struct Chain {
    blocks: Vec<(BlockHash, Block)>,
    heights: HashMap<BlockHash, u32>,
    coins: HashMap<OutPoint, Coin>,
    /// The height of every mined transaction.
    mined: HashMap<Txid, u32>,
    pool: Vec<Pooled>,
    /// Outputs spent in the memory pool, with the spending transaction.
    pool_spends: HashMap<OutPoint, Txid>,
    store: File,
    pool_path: PathBuf,
    /// The time, in unix seconds, instead of the clock's.
    mock_time: Option<u32>,
    /// True once the tip was current. It stays true until the next start.
    current: AtomicBool,
}

impl Chain {
    /// Opens the chain in `dir`, or creates one from the regtest genesis block.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let genesis = bitcoin::constants::genesis_block(Network::Regtest);
        let mut store =
            File::options().read(true).append(true).create(true).open(dir.join("simulated-blocks.dat"))?;
        let mut bytes = Vec::new();
        store.read_to_end(&mut bytes)?;
        let mut chain = Self {
            heights: HashMap::from([(genesis.block_hash(), 0)]),
            blocks: vec![(genesis.block_hash(), genesis)],
            coins: HashMap::new(),
            mined: HashMap::new(),
            pool: Vec::new(),
            pool_spends: HashMap::new(),
            store,
            pool_path: dir.join("simulated-mempool.dat"),
            mock_time: None,
            current: AtomicBool::new(false),
        };
        let mut rest = bytes.as_slice();
        // A block that is incomplete because of a kill during the write is dropped; nothing follows it.
        while let Ok((block, used)) = deserialize_partial::<Block>(rest) {
            chain.connect(block);
            rest = &rest[used..];
        }
        if !rest.is_empty() {
            chain.store.set_len((bytes.len() - rest.len()) as u64)?;
        }
        if let Ok(bytes) = std::fs::read(&chain.pool_path) {
            for tx in deserialize::<Vec<Transaction>>(&bytes).unwrap_or_default() {
                // Transactions that no longer fit the chain are dropped, as by the real bitcoind.
                drop(chain.accept(tx, None));
            }
        }
        Ok(chain)
    }

    /// Sets the time, in unix seconds; `None` for the clock's.
    pub(super) fn set_time(&mut self, time: Option<u32>) {
        self.mock_time = time;
    }

    fn now(&self) -> u32 {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.mock_time.unwrap_or_else(|| u32::try_from(clock()).unwrap_or(u32::MAX))
    }

    /// `initialblockdownload`: true until the tip was once less than a day old.
    pub(super) fn downloads(&self) -> bool {
        let tip = self.blocks[self.blocks.len() - 1].1.header.time;
        if tip.saturating_add(MAX_TIP_AGE) >= self.now() {
            self.current.store(true, Ordering::Relaxed);
        }
        !self.current.load(Ordering::Relaxed)
    }

    /// Fails, as the real daemon does at its start, if the tip is too far ahead of the time.
    pub(super) fn check_time(&self) -> anyhow::Result<()> {
        let tip = self.blocks[self.blocks.len() - 1].1.header.time;
        ensure!(
            tip <= self.now().saturating_add(MAX_FUTURE),
            "The block database contains a block which appears to be from the future. This may be due to your \
             computer's date and time being set incorrectly. Only rebuild the block database if you are sure that \
             your computer's date and time are correct."
        );
        Ok(())
    }

    /// Saves the memory pool for the next start.
    pub(super) fn save_pool(&self) -> io::Result<()> {
        let txs: Vec<_> = self.pool.iter().map(|pooled| pooled.tx.clone()).collect();
        std::fs::write(&self.pool_path, serialize(&txs))
    }

    pub(super) fn height(&self) -> u32 {
        u32::try_from(self.blocks.len() - 1).expect("fewer blocks than 2^32")
    }

    pub(super) fn best(&self) -> BlockHash {
        self.blocks[self.blocks.len() - 1].0
    }

    pub(super) fn at(&self, height: u32) -> Option<(BlockHash, &Block)> {
        self.blocks.get(height as usize).map(|(hash, block)| (*hash, block))
    }

    pub(super) fn height_of(&self, hash: &BlockHash) -> Option<u32> {
        self.heights.get(hash).copied()
    }

    pub(super) fn pool(&self) -> &[Pooled] {
        &self.pool
    }

    /// All confirmed outputs whose script `wanted` accepts.
    pub(super) fn scan(&self, wanted: impl Fn(&ScriptBuf) -> bool) -> Vec<(OutPoint, Coin)> {
        let picked = self.coins.iter().filter(|(_, coin)| wanted(&coin.out.script_pubkey));
        let mut found: Vec<_> = picked.map(|(outpoint, coin)| (*outpoint, coin.clone())).collect();
        found.sort_by_key(|(outpoint, coin)| (coin.height, *outpoint));
        found
    }

    /// The number of unspent outputs.
    pub(super) fn coin_count(&self) -> usize {
        self.coins.len()
    }

    /// An unspent output; `with_pool` applies the transactions in the memory pool.
    pub(super) fn coin(&self, outpoint: &OutPoint, with_pool: bool) -> Option<Coin> {
        if with_pool && self.pool_spends.contains_key(outpoint) {
            return None;
        }
        if let Some(coin) = self.coins.get(outpoint) {
            return Some(coin.clone());
        }
        let pooled = self.pool.iter().find(|pooled| with_pool && pooled.txid == outpoint.txid)?;
        let out = pooled.tx.output.get(outpoint.vout as usize)?.clone();
        Some(Coin { out, height: None, coinbase: false })
    }

    /// The median time of the eleven blocks up to `height`.
    pub(super) fn median_time(&self, height: u32) -> u32 {
        let from = height.saturating_sub(10) as usize;
        let mut times: Vec<_> =
            self.blocks[from..=height as usize].iter().map(|(_, block)| block.header.time).collect();
        times.sort_unstable();
        times[times.len() / 2]
    }

    /// Adds a transaction to the memory pool. `max_fee_rate` is the maximum, in satoshi per 1000 virtual bytes.
    pub(super) fn accept(&mut self, tx: Transaction, max_fee_rate: Option<u64>) -> Result<Txid, RpcError> {
        let rejected = |reason: String| RpcError::new(-26, reason);
        let txid = tx.compute_txid();
        if self.pool.iter().any(|pooled| pooled.txid == txid) {
            return Ok(txid);
        }
        if self.mined.contains_key(&txid) {
            return Err(RpcError::new(-27, "Transaction outputs already in utxo set"));
        }
        if tx.is_coinbase() {
            return Err(rejected("coinbase".into()));
        }
        if tx.output.is_empty() {
            return Err(rejected("bad-txns-vout-empty".into()));
        }
        let next = self.height() + 1;
        let mut input = Amount::ZERO;
        for txin in &tx.input {
            if let Some(rival) = self.pool_spends.get(&txin.previous_output) {
                return Err(rejected(format!("txn-mempool-conflict (with {rival})")));
            }
            let coin = self
                .coin(&txin.previous_output, true)
                .ok_or_else(|| RpcError::new(-25, "bad-txns-inputs-missingorspent"))?;
            if let (true, Some(height)) = (coin.coinbase, coin.height)
                && next < height + MATURITY
            {
                let depth = next - height;
                return Err(rejected(format!(
                    "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth {depth}"
                )));
            }
            input += coin.out.value;
        }
        let spends: std::collections::HashSet<_> = tx.input.iter().map(|txin| txin.previous_output).collect();
        if spends.len() != tx.input.len() {
            return Err(rejected("bad-txns-inputs-duplicate".into()));
        }
        let output = tx
            .output
            .iter()
            .try_fold(Amount::ZERO, |sum, out| sum.checked_add(out.value))
            .ok_or_else(|| rejected("bad-txns-txouttotal-toolarge".into()))?;
        let Some(fee) = input.checked_sub(output) else {
            return Err(rejected(format!(
                "bad-txns-in-belowout, value in ({}) < value out ({})",
                input.to_string_in(bitcoin::Denomination::Bitcoin),
                output.to_string_in(bitcoin::Denomination::Bitcoin)
            )));
        };
        let vsize = tx.vsize() as u64;
        let least = (MIN_RELAY * vsize).div_ceil(1000);
        if fee.to_sat() < least {
            return Err(rejected(format!("min relay fee not met, {} < {least}", fee.to_sat())));
        }
        if max_fee_rate.is_some_and(|most| fee.to_sat() > most * vsize / 1000) {
            return Err(RpcError::new(-25, "Fee exceeds maximum configured by user (maxfeerate)"));
        }
        if !tx.is_absolute_timelock_satisfied(
            absolute::Height::from_consensus(next).expect("a small height"),
            absolute::Time::from_consensus(self.median_time(self.height())).expect("a time after 1985"),
        ) {
            return Err(rejected("non-final".into()));
        }
        for outpoint in spends {
            self.pool_spends.insert(outpoint, txid);
        }
        self.pool.push(Pooled { tx, txid, fee });
        Ok(txid)
    }

    /// Mines a block that pays to `script`, with all waiting transactions that fit.
    pub(super) fn mine(&mut self, script: &ScriptBuf) -> Result<BlockHash, RpcError> {
        let height = self.height() + 1;
        let mut room = BLOCK_ROOM;
        let mut fees = Amount::ZERO;
        let mut txdata = vec![coinbase(height)];
        for pooled in &self.pool {
            // In order of arrival, so parents come before their children. The first transaction that does not fit ends the block.
            let Some(left) = room.checked_sub(pooled.tx.weight()) else { break };
            room = left;
            fees += pooled.fee;
            txdata.push(pooled.tx.clone());
        }
        let time = self.now().max(self.median_time(height - 1) + 1);
        if time > self.now().saturating_add(MAX_FUTURE) {
            let reason = "TestBlockValidity failed: time-too-new, block timestamp too far in the future";
            return Err(RpcError::new(-1, reason));
        }
        let mut block = Block {
            header: Header {
                version: Version::from_consensus(0x2000_0000),
                prev_blockhash: self.best(),
                merkle_root: TxMerkleNode::all_zeros(),
                time,
                bits: CompactTarget::from_consensus(0x207f_ffff),
                nonce: 0,
            },
            txdata,
        };
        let subsidy = Amount::from_sat(5_000_000_000u64.checked_shr(height / HALVING).unwrap_or(0));
        block.txdata[0].output.push(TxOut { value: subsidy + fees, script_pubkey: script.clone() });
        let witness_root = block.witness_root().expect("has a coinbase");
        let commitment = Block::compute_witness_commitment(&witness_root, &[0; 32]);
        let mut pushed = PushBytesBuf::from([0xaa, 0x21, 0xa9, 0xed]);
        pushed.extend_from_slice(commitment.as_byte_array()).expect("36 bytes");
        block.txdata[0]
            .output
            .push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return(pushed) });
        block.header.merkle_root = block.compute_merkle_root().expect("has a coinbase");
        let target = Target::from_compact(block.header.bits);
        while !target.is_met_by(block.header.block_hash()) {
            block.header.nonce += 1;
        }
        let stored = self.store.write_all(&serialize(&block));
        stored.map_err(|error| RpcError::new(-1, format!("writing the block: {error}")))?;
        let hash = self.connect(block);
        // The real daemon looks whenever the tip changes.
        self.downloads();
        Ok(hash)
    }

    fn connect(&mut self, block: Block) -> BlockHash {
        let height = self.height() + 1;
        let hash = block.block_hash();
        for (index, tx) in block.txdata.iter().enumerate() {
            let txid = tx.compute_txid();
            for txin in &tx.input {
                self.coins.remove(&txin.previous_output);
                self.pool_spends.remove(&txin.previous_output);
            }
            for (vout, out) in (0..).zip(&tx.output) {
                if !out.script_pubkey.is_op_return() {
                    let coin = Coin { out: out.clone(), height: Some(height), coinbase: index == 0 };
                    self.coins.insert(OutPoint { txid, vout }, coin);
                }
            }
            self.mined.insert(txid, height);
        }
        let mined = &self.mined;
        self.pool.retain(|pooled| !mined.contains_key(&pooled.txid));
        self.heights.insert(hash, height);
        self.blocks.push((hash, block));
        hash
    }
}

/// A coinbase transaction without outputs: the height (BIP 34) and the witness nonce (BIP 141).
fn coinbase(height: u32) -> Transaction {
    let script_sig =
        bitcoin::script::Builder::new().push_int(i64::from(height)).push_slice(b"sim").into_script();
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig,
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0u8; 32]]),
        }],
        output: Vec::new(),
    }
}
