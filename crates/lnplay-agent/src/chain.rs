//! The chain: the key that blocks are mined to, the miner, and the transaction that funds every node.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::key::{CompressedPublicKey, Secp256k1};
use bitcoin::secp256k1::{All, Message, rand};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, Network, OutPoint, PrivateKey, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness,
};
use serde::{Deserialize, Serialize};

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::bitcoind::{Bitcoind, Coin, MATURITY, RpcError, Tip};
use crate::state::{self, StateDir};

/// The subsidy of a block on regtest before the first halving, which is at block 150.
const SUBSIDY: Amount = Amount::from_int_btc(50);

/// More than ten sat per vbyte of a transaction with 64 outputs.
const FEE: Amount = Amount::from_sat(50_000);

/// The number of coinbases that pay for `total`.
pub fn coinbases_for(total: Amount) -> u32 {
    let needed = (total + FEE).to_sat().div_ceil(SUBSIDY.to_sat());
    u32::try_from(needed).unwrap_or(u32::MAX)
}

/// The key that blocks are mined to.
#[derive(Debug, Clone)]
pub struct MiningKey {
    key: PrivateKey,
    public: CompressedPublicKey,
    secp: Secp256k1<All>,
}

impl MiningKey {
    fn new(key: PrivateKey) -> anyhow::Result<Self> {
        let secp = Secp256k1::new();
        let public = CompressedPublicKey::from_private_key(&secp, &key)
            .context("the mining key is one for uncompressed public keys")?;
        Ok(Self { key, public, secp })
    }

    /// The environment's key, made and stored the first time.
    pub fn load_or_make(dir: &StateDir) -> anyhow::Result<Self> {
        let path = dir.mining_key();
        if let Some(bytes) = state::read(&path)? {
            let text = String::from_utf8(bytes).context("not text");
            let key = text.and_then(|text| Ok(PrivateKey::from_wif(text.trim())?));
            return key.and_then(Self::new).with_context(|| format!("{} is damaged", path.display()));
        }
        let secret = bitcoin::secp256k1::SecretKey::new(&mut rand::thread_rng());
        let key = PrivateKey::new(secret, Network::Regtest);
        state::write(&path, key.to_wif().as_bytes())?;
        Self::new(key)
    }

    /// The address that blocks pay to.
    pub fn address(&self) -> Address {
        Address::p2wpkh(&self.public, Network::Regtest)
    }

    /// Signs inputs that spend these amounts.
    fn sign(&self, transaction: &mut Transaction, amounts: &[Amount]) -> anyhow::Result<()> {
        let script = self.address().script_pubkey();
        for (index, amount) in amounts.iter().enumerate() {
            let hash = SighashCache::new(&*transaction).p2wpkh_signature_hash(
                index,
                &script,
                *amount,
                EcdsaSighashType::All,
            )?;
            let signature =
                self.secp.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &self.key.inner);
            let signature = bitcoin::ecdsa::Signature::sighash_all(signature);
            transaction.input[index].witness = Witness::p2wpkh(&signature, &self.public.0);
        }
        Ok(())
    }
}

/// The transaction that funds every node. It is stored before it is sent, so that after a crash the same one is sent
/// again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Funding {
    /// The signed transaction.
    pub transaction: String,
    /// A height at which it was in the chain; `None` until all nodes have seen it.
    pub height: Option<u32>,
}

/// Builds and signs the transaction that pays `outputs` from `coinbases`, each a whole subsidy to `key`.
pub fn funding_transaction(
    key: &MiningKey,
    coinbases: &[Txid],
    outputs: &[(ScriptBuf, Amount)],
) -> anyhow::Result<String> {
    let coin = |txid: &Txid| Coin { output: OutPoint { txid: *txid, vout: 0 }, amount: SUBSIDY };
    payment(key, &coinbases.iter().map(coin).collect::<Vec<_>>(), outputs)
}

/// The most coins that one transaction spends. With 64 outputs it then has less than 9,000 vbytes, for which [`FEE`] pays.
const MOST_INPUTS: usize = 100;

/// Chooses coins that pay `total` and the fee, the largest first; `None` if they do not.
pub fn choose_coins(mut coins: Vec<Coin>, total: Amount) -> Option<Vec<Coin>> {
    coins.sort_by_key(|coin| std::cmp::Reverse(coin.amount));
    coins.truncate(MOST_INPUTS);
    let mut sum = Amount::ZERO;
    for (index, coin) in coins.iter().enumerate() {
        sum += coin.amount;
        if sum >= total + FEE {
            coins.truncate(index + 1);
            return Some(coins);
        }
    }
    None
}

/// Builds and signs the transaction that pays `outputs` from `coins` of `key`, and the rest back to it.
pub fn payment(key: &MiningKey, coins: &[Coin], outputs: &[(ScriptBuf, Amount)]) -> anyhow::Result<String> {
    let available: Amount = coins.iter().map(|coin| coin.amount).sum();
    let paid: Amount = outputs.iter().map(|(_, amount)| *amount).sum();
    let change = available
        .checked_sub(paid + FEE)
        .with_context(|| format!("{} coins do not pay for {paid}", coins.len()))?;
    let input = |coin: &Coin| TxIn {
        previous_output: coin.output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let output =
        |(script, amount): &(ScriptBuf, Amount)| TxOut { value: *amount, script_pubkey: script.clone() };
    let mut transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: coins.iter().map(input).collect(),
        output: outputs.iter().map(output).collect(),
    };
    let script_pubkey = key.address().script_pubkey();
    if change >= script_pubkey.minimal_non_dust() {
        transaction.output.push(TxOut { value: change, script_pubkey });
    }
    let amounts: Vec<_> = coins.iter().map(|coin| coin.amount).collect();
    key.sign(&mut transaction, &amounts)?;
    Ok(serialize_hex(&transaction))
}

/// The most seconds that a block's time may be ahead of bitcoind's (`MAX_FUTURE_BLOCK_TIME`).
const MAX_FUTURE: u64 = 2 * 60 * 60;
/// Room for the blocks of one call: their times grow by a second for every six of them.
const TIME_MARGIN: u64 = 60;

/// The seconds between two times at which bitcoind writes its state to disk, and so the most that a kill of it costs.
const FLUSH_INTERVAL: Duration = Duration::from_secs(30);

/// The time (unix seconds) that bitcoind must have instead of the clock's, `now`; `None` while the clock will do.
///
/// A block's time is later than the median of the last eleven, and at most two hours ahead of bitcoind's time; bitcoind
/// does not even start on a chain whose tip is further ahead. So after a clock that was hours ahead is set right, no block
/// can be mined before it has caught up. Until then bitcoind gets the chain's own time.
pub fn mock_time(chain: u64, now: u64) -> Option<u64> {
    (chain + TIME_MARGIN > now + MAX_FUTURE).then_some(chain)
}

/// This machine's clock, in unix seconds.
pub fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Mines blocks, whatever the clock shows, and records the tip for the next start.
#[derive(Debug)]
pub struct Miner {
    bitcoind: Bitcoind,
    address: Address,
    tip_file: PathBuf,
    flushed: Mutex<Instant>,
}

impl Miner {
    /// A miner that pays to `key`.
    pub fn new(bitcoind: Bitcoind, key: &MiningKey, dir: &StateDir) -> Self {
        let flushed = Mutex::new(Instant::now());
        Self { bitcoind, address: key.address(), tip_file: dir.tip(), flushed }
    }

    /// Mines `blocks` blocks and returns the tip.
    pub async fn mine(&self, blocks: u32) -> Result<Tip, RpcError> {
        let mut flushed = self.flushed.lock().await;
        let median_time = self.bitcoind.tip().await?.median_time;
        // Each time, since a bitcoind that was restarted has the time that it was started with.
        self.bitcoind.set_time(mock_time(median_time + 1, clock())).await?;
        self.bitcoind.mine(blocks, &self.address).await?;
        let tip = self.bitcoind.tip().await?;
        // Not an error: it is of use only where bitcoind loses blocks, or the clock is set back.
        if let Err(error) = state::write_json(&self.tip_file, &tip) {
            tracing::warn!("{error:#}");
        }
        if flushed.elapsed() >= FLUSH_INTERVAL {
            self.bitcoind.flush().await?;
            *flushed = Instant::now();
        }
        Ok(tip)
    }

    /// Mines until `coinbases` can be spent and the chain is as high as the nodes may have seen it: a bitcoind that was
    /// killed has lost its last blocks, and nodes do not start on a chain that is shorter than before. Mines at least one
    /// block: if the last one is old, bitcoind, and with it the nodes, would wait for the rest of the chain.
    pub async fn mature(&self, coinbases: u32, height: u32) -> Result<(), RpcError> {
        let missing = (coinbases + MATURITY).max(height).saturating_sub(self.bitcoind.height().await?);
        self.mine(missing.max(1)).await.map(drop)
    }

    /// Sends the funding transaction, mines it and returns the height at which it is in the chain.
    pub async fn confirm(&self, funding: &Funding) -> anyhow::Result<u32> {
        self.bitcoind.send(&funding.transaction).await?;
        let height = self.mine(1).await?.height;
        self.bitcoind.flush().await?;
        ensure!(height > MATURITY, "the chain ends at block {height}, before the coins are mature");
        Ok(height)
    }
}

/// The tip that was last recorded; `None` on a new chain, or if the file cannot be read.
pub fn stored_tip(dir: &StateDir) -> Option<Tip> {
    let read = |error: anyhow::Error| tracing::warn!("{error:#}");
    if let Some(tip) = state::read_json(&dir.tip()).map_err(read).ok().flatten() {
        return Some(tip);
    }
    let height = state::read_json(&dir.old_height()).map_err(read).ok().flatten()?;
    Some(Tip { height, time: 0, median_time: 0 })
}

/// The script of a node's address.
pub fn script_of(address: &str) -> anyhow::Result<ScriptBuf> {
    let parsed = address.parse::<Address<_>>().and_then(|address| address.require_network(Network::Regtest));
    Ok(parsed.with_context(|| format!("`{address}` is no regtest address"))?.script_pubkey())
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::encode::deserialize_hex;

    use super::*;

    fn key() -> MiningKey {
        let secret = bitcoin::secp256k1::SecretKey::from_slice(&[7; 32]).expect("a key");
        MiningKey::new(PrivateKey::new(secret, Network::Regtest)).expect("compressed")
    }

    #[test]
    fn bitcoind_gets_the_chains_time_only_while_the_clock_is_far_behind() {
        let chain = 1_800_000_000;
        let hour = 60 * 60;
        for ahead in [hour, 0] {
            assert_eq!(mock_time(chain, chain + ahead), None);
            assert_eq!(mock_time(chain, chain - ahead), None);
        }
        assert_eq!(mock_time(chain, chain - 2 * hour), Some(chain));
        assert_eq!(mock_time(chain, chain - 30 * hour), Some(chain));
        assert_eq!(mock_time(chain, 0), Some(chain), "a clock that lost its battery");
    }

    #[test]
    fn enough_coinbases_for_every_size() {
        assert_eq!(coinbases_for(Amount::from_int_btc(1)), 1);
        assert_eq!(coinbases_for(Amount::from_int_btc(50)), 2, "the fee needs a second one");
        assert_eq!(coinbases_for(Amount::from_int_btc(64)), 2);
    }

    #[test]
    fn the_transaction_pays_everybody_and_returns_the_rest() {
        let key = key();
        let coinbases = [Txid::from_byte_array([1; 32]), Txid::from_byte_array([2; 32])];
        let outputs = vec![(key.address().script_pubkey(), Amount::from_int_btc(1)); 64];
        let hex = funding_transaction(&key, &coinbases, &outputs).expect("a transaction");
        let transaction: Transaction = deserialize_hex(&hex).expect("its own encoding");
        let paid: Amount = transaction.output.iter().map(|output| output.value).sum();
        assert_eq!(paid + FEE, SUBSIDY * 2);
        assert_eq!(transaction.output.len(), 65);
        assert!(
            FEE.to_sat() > transaction.vsize() as u64,
            "at least one sat per vbyte, the least that is relayed"
        );
        assert!(transaction.input.iter().all(|input| input.witness.len() == 2));
    }

    #[test]
    fn the_fewest_and_largest_coins_are_chosen() {
        let coin = |sat: u64| Coin {
            output: OutPoint { txid: Txid::from_byte_array([1; 32]), vout: u32::try_from(sat).expect("few") },
            amount: Amount::from_sat(sat),
        };
        let chosen = |coins: &[u64], total: u64| {
            let coins = choose_coins(coins.iter().map(|sat| coin(*sat)).collect(), Amount::from_sat(total));
            coins.map(|coins| coins.iter().map(|coin| coin.amount.to_sat()).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[100_000, 300_000, 200_000], 450_000), Some(vec![300_000, 200_000]));
        assert_eq!(chosen(&[100_000, 300_000, 200_000], 250_000), Some(vec![300_000]), "with the fee");
        assert_eq!(chosen(&[100_000, 300_000, 200_000], 550_001), None, "the fee is missing");
        assert_eq!(chosen(&[100_000; 101], 10_000_000), None, "more coins than fit");
        assert_eq!(chosen(&[], 1), None);
    }

    #[test]
    fn too_few_coins_is_an_error() {
        let outputs = [(key().address().script_pubkey(), Amount::from_int_btc(50))];
        assert!(funding_transaction(&key(), &[Txid::from_byte_array([1; 32])], &outputs).is_err());
    }
}
