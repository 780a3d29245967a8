//! The chain's beginning: a key of ours to mine to, mature coins, and one transaction that funds every node.

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

use anyhow::{Context, ensure};

use crate::bitcoind::{Bitcoind, RpcError};
use crate::state::{self, StateDir};

/// What a block pays on regtest before the first halving, which is at block 150.
const SUBSIDY: Amount = Amount::from_int_btc(50);

/// Blocks on top of a coinbase until it can be spent.
const MATURITY: u32 = 100;

/// Ten sat per vbyte of a transaction of 64 outputs and more; on a private chain nobody minds.
const FEE: Amount = Amount::from_sat(50_000);

/// How many coinbases pay for `total`.
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

    /// Where blocks pay to.
    pub fn address(&self) -> Address {
        Address::p2wpkh(&self.public, Network::Regtest)
    }

    fn sign(&self, transaction: &mut Transaction, amount: Amount) -> anyhow::Result<()> {
        let script = self.address().script_pubkey();
        for index in 0..transaction.input.len() {
            let hash = SighashCache::new(&*transaction).p2wpkh_signature_hash(
                index,
                &script,
                amount,
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

/// The transaction that funds every node, stored before it is sent: after a crash the same one is sent again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Funding {
    /// The signed transaction.
    pub transaction: String,
    /// The height at which it was surely in the chain; `None` until then.
    pub height: Option<u32>,
}

/// Builds and signs the transaction that pays `outputs` from `coinbases`, each a whole subsidy to `key`.
pub fn funding_transaction(
    key: &MiningKey,
    coinbases: &[Txid],
    outputs: &[(ScriptBuf, Amount)],
) -> anyhow::Result<String> {
    let available = SUBSIDY * coinbases.len() as u64;
    let paid: Amount = outputs.iter().map(|(_, amount)| *amount).sum();
    let change = available
        .checked_sub(paid + FEE)
        .with_context(|| format!("{} coinbases do not pay for {paid}", coinbases.len()))?;
    let input = |txid: &Txid| TxIn {
        previous_output: OutPoint { txid: *txid, vout: 0 },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let output =
        |(script, amount): &(ScriptBuf, Amount)| TxOut { value: *amount, script_pubkey: script.clone() };
    let mut transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: coinbases.iter().map(input).collect(),
        output: outputs.iter().map(output).collect(),
    };
    let script_pubkey = key.address().script_pubkey();
    if change >= script_pubkey.minimal_non_dust() {
        transaction.output.push(TxOut { value: change, script_pubkey });
    }
    key.sign(&mut transaction, SUBSIDY)?;
    Ok(serialize_hex(&transaction))
}

/// Mines until `coinbases` can be spent and the chain is as `high` as the nodes may have seen it: a bitcoind that was
/// killed has lost its last blocks, and nodes do not start on a chain that has become shorter. Mines one block in any
/// case: after a long pause bitcoind, and with it the nodes, would wait for the rest of a chain whose last block is old.
pub async fn mature(bitcoind: &Bitcoind, key: &MiningKey, coinbases: u32, high: u32) -> Result<(), RpcError> {
    let missing = (coinbases + MATURITY).max(high).saturating_sub(bitcoind.height().await?);
    bitcoind.mine(missing.max(1), &key.address()).await
}

/// The scripts of nodes' addresses.
pub fn script_of(address: &str) -> anyhow::Result<ScriptBuf> {
    let parsed = address.parse::<Address<_>>().and_then(|address| address.require_network(Network::Regtest));
    Ok(parsed.with_context(|| format!("`{address}` is no regtest address"))?.script_pubkey())
}

/// Sends the funding transaction, mines it and returns the height at which it is in the chain.
pub async fn confirm(bitcoind: &Bitcoind, key: &MiningKey, funding: &Funding) -> anyhow::Result<u32> {
    bitcoind.send(&funding.transaction).await?;
    bitcoind.mine(1, &key.address()).await?;
    bitcoind.flush().await?;
    let height = bitcoind.height().await?;
    ensure!(height > MATURITY, "the chain ends at block {height}, before the coins are mature");
    Ok(height)
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
    fn too_few_coins_is_an_error() {
        let outputs = [(key().address().script_pubkey(), Amount::from_int_btc(50))];
        assert!(funding_transaction(&key(), &[Txid::from_byte_array([1; 32])], &outputs).is_err());
    }
}
