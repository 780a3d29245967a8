//! On-chain coins: addresses, scanning, spending, and following new blocks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin::key::{Keypair, TapTweak as _, UntweakedPublicKey};
use bitcoin::secp256k1::{Message, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{
    Address, Amount, BlockHash, CompressedPublicKey, KnownHrp, Network, OutPoint, ScriptBuf, Sequence,
    Transaction, TxIn, TxOut, Txid, Witness, absolute, ecdsa, taproot, transaction,
};
use serde_json::{Value, json};

use super::bitcoin_rpc::BitcoinError;
use super::params::{Params, RpcError, RpcResult};
use super::store::{Change, ChannelState};
use super::{Node, Tip, channels};

/// Fee rate of our transactions, in satoshi per virtual byte.
const FEE_RATE: u64 = 2;
const DUST: Amount = Amount::from_sat(546);
const MATURITY: u64 = 100;

/// A confirmed coin of ours.
#[derive(Clone, Debug)]
pub(super) struct Coin {
    outpoint: OutPoint,
    out: TxOut,
    height: u64,
    coinbase: bool,
    key: u32,
}

/// The result and the parameters of the last scan.
#[derive(Default)]
pub(super) struct Coins {
    at: Option<(BlockHash, u32)>,
    found: Vec<Coin>,
}

/// A key of the wallet and its two addresses.
struct Key {
    secret: SecretKey,
    segwit: Address,
    taproot: Address,
}

fn key(node: &Node, index: u32) -> Key {
    let secret = SecretKey::from_slice(&node.derive(&format!("wallet key {index}")))
        .expect("a hash is a key, but for odds of 2^-128");
    let public = CompressedPublicKey(secret.public_key(&node.secp));
    let internal: UntweakedPublicKey = public.0.x_only_public_key().0;
    Key {
        segwit: Address::p2wpkh(&public, KnownHrp::Regtest),
        taproot: Address::p2tr(&node.secp, internal, None, KnownHrp::Regtest),
        secret,
    }
}

/// Waits until bitcoind answers, and checks its network.
pub(super) async fn wait_for_bitcoind(node: &Node, limit: Duration) -> anyhow::Result<()> {
    let started = tokio::time::Instant::now();
    loop {
        match node.bitcoin.call("getblockchaininfo", json!([])).await {
            Ok(info) => {
                if info["chain"] != "regtest" {
                    anyhow::bail!("Wrong network! bitcoind is running on {}, we on regtest", info["chain"]);
                }
                let height =
                    info["blocks"].as_u64().and_then(|height| u32::try_from(height).ok()).unwrap_or_default();
                node.tip.send_replace(Tip { height, hash: hash_of(&info["bestblockhash"]) });
                note_sync(node, &info);
                return Ok(());
            }
            Err(error) if started.elapsed() > limit => return Err(error.into()),
            // The real bitcoind refuses calls while it warms up.
            Err(BitcoinError::Refused { .. } | BitcoinError::Unreachable { .. }) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Records whether bitcoind has synchronised. As in the real daemon, once it has, it is not asked again.
fn note_sync(node: &Node, info: &Value) {
    if info["initialblockdownload"] == false && info["headers"] == info["blocks"] {
        node.bitcoind_synced.store(true, Ordering::Relaxed);
    }
}

/// `getchaininfo`, which the real daemon has from its Bitcoin backend.
pub(super) async fn chain_info(node: &Node, _: &Params) -> RpcResult {
    let info = node.bitcoin.call("getblockchaininfo", json!([])).await;
    let info = info.map_err(|error| RpcError::general(error.to_string()))?;
    Ok(json!({
        "chain": info["chain"],
        "headercount": info["headers"],
        "blockcount": info["blocks"],
        "ibd": info["initialblockdownload"],
    }))
}

fn hash_of(value: &Value) -> Option<BlockHash> {
    value.as_str()?.parse().ok()
}

/// Follows new blocks, notifies plugins, and updates channels.
pub(super) async fn follow_chain(node: Arc<Node>, poll: Duration) {
    let mut tick = tokio::time::interval(poll);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = look_for_blocks(&node).await {
            node.log.unusual(&error.to_string());
        }
    }
}

async fn look_for_blocks(node: &Node) -> Result<(), BitcoinError> {
    if !node.bitcoind_synced.load(Ordering::Relaxed) {
        note_sync(node, &node.bitcoin.call("getblockchaininfo", json!([])).await?);
    }
    let best = hash_of(&node.bitcoin.call("getbestblockhash", json!([])).await?);
    let known = *node.tip.borrow();
    if best != known.hash {
        let info = node.bitcoin.call("getblockchaininfo", json!([])).await?;
        let height =
            info["blocks"].as_u64().and_then(|height| u32::try_from(height).ok()).unwrap_or_default();
        for height in known.height + 1..=height {
            let hash = hash_of(&node.bitcoin.call("getblockhash", json!([height])).await?);
            node.tip.send_replace(Tip { height, hash });
            node.plugins
                .notify("block_added", &json!({"hash": hash.map(|hash| hash.to_string()), "height": height}));
        }
        // The same height with another hash, or a shorter chain, is accepted.
        node.tip.send_replace(Tip { height, hash: hash_of(&info["bestblockhash"]) });
    }
    let waiting: Vec<_> = {
        let store = node.store();
        store
            .channels
            .values()
            .filter(|channel| channel.state == ChannelState::AwaitingLockin)
            .cloned()
            .collect()
    };
    for channel in waiting {
        let OutPoint { txid, vout } = channel.funding;
        let out = node.bitcoin.call("gettxout", json!([txid, vout, false])).await?;
        let Some(confirmations) = out["confirmations"].as_u64().filter(|confirmations| *confirmations > 0)
        else {
            continue;
        };
        let best = node.bitcoin.call("getblockheader", json!([out["bestblock"]])).await?;
        let height = best["height"].as_u64().unwrap_or_default() + 1 - confirmations;
        let hash = node.bitcoin.call("getblockhash", json!([height])).await?;
        let block = node.bitcoin.call("getblock", json!([hash, 1])).await?;
        let place = block["tx"].as_array().and_then(|txs| txs.iter().position(|tx| *tx == json!(txid)));
        if let Some(place) = place {
            channels::locked_in(node, &channel.id, format!("{height}x{place}x{vout}"));
        }
    }
    Ok(())
}

/// `newaddr`.
pub(super) fn new_address(node: &Node, params: &Params) -> RpcResult {
    let (segwit, taproot) = match params.token("addresstype").as_deref() {
        // Both, if deprecated behaviour is enabled.
        None if node.allows_deprecated() => (true, true),
        None | Some("p2tr") => (false, true),
        Some("bech32") => (true, false),
        Some("all") => (true, true),
        Some(other) => {
            return Err(RpcError::params(format!(
                "'addresstype' should be 'p2tr', 'bech32', or 'all', not '{other}'"
            )));
        }
    };
    let mut store = node.store();
    let mut counters = store.counters;
    counters.keys += 1;
    let key = key(node, counters.keys);
    node.commit(&mut store, vec![Change::Counters(counters)]);
    let mut answer = json!({});
    if segwit {
        answer["bech32"] = json!(key.segwit.to_string());
    }
    if taproot {
        answer["p2tr"] = json!(key.taproot.to_string());
    }
    Ok(answer)
}

/// The confirmed coins. They are read again only after a block or a new address.
async fn coins(node: &Node) -> Result<Vec<Coin>, RpcError> {
    let keys = node.store().counters.keys;
    let tip = node.tip.borrow().hash;
    let at = tip.map(|tip| (tip, keys));
    {
        let cached = node.coins.lock().expect("nothing panics while holding it");
        if at.is_some() && cached.at == at {
            return Ok(cached.found.clone());
        }
    }
    let mut scripts = std::collections::HashMap::new();
    for index in 1..=keys {
        let key = key(node, index);
        scripts.insert(key.segwit.script_pubkey().to_hex_string(), index);
        scripts.insert(key.taproot.script_pubkey().to_hex_string(), index);
    }
    let mut found = Vec::new();
    if !scripts.is_empty() {
        let descriptors: Vec<_> = scripts.keys().map(|script| format!("raw({script})")).collect();
        let scan = node.bitcoin.call("scantxoutset", json!(["start", descriptors])).await;
        let scan = scan.map_err(|error| RpcError::general(error.to_string()))?;
        for unspent in scan["unspents"].as_array().into_iter().flatten() {
            found.extend(read_coin(unspent, &scripts));
        }
    }
    let mut cached = node.coins.lock().expect("nothing panics while holding it");
    *cached = Coins { at, found: found.clone() };
    Ok(found)
}

fn read_coin(unspent: &Value, scripts: &std::collections::HashMap<String, u32>) -> Option<Coin> {
    let script = unspent["scriptPubKey"].as_str()?;
    let txid: Txid = unspent["txid"].as_str()?.parse().ok()?;
    let vout = u32::try_from(unspent["vout"].as_u64()?).ok()?;
    Some(Coin {
        outpoint: OutPoint { txid, vout },
        out: TxOut {
            value: Amount::from_btc(unspent["amount"].as_f64()?).ok()?,
            script_pubkey: ScriptBuf::from_hex(script).ok()?,
        },
        height: unspent["height"].as_u64()?,
        coinbase: unspent["coinbase"].as_bool().unwrap_or(false),
        key: *scripts.get(script)?,
    })
}

impl Coin {
    fn is_mature(&self, height: u32) -> bool {
        !self.coinbase || u64::from(height) + 1 >= self.height + MATURITY
    }
}

/// `waitblockheight`.
pub(super) async fn wait_for_height(node: &Node, params: &Params) -> RpcResult {
    let height = params.u32("blockheight")?.unwrap_or_default();
    let limit = Duration::from_secs(params.u64("timeout")?.unwrap_or(60));
    let mut tips = node.tip.subscribe();
    match tokio::time::timeout(limit, tips.wait_for(|tip| tip.height >= height)).await {
        Ok(Ok(tip)) => Ok(json!({"blockheight": tip.height})),
        Ok(Err(_)) => Err(RpcError::new(-5, "lightningd is shutting down")),
        Err(_) => Err(RpcError::new(2000, "Timed out.")),
    }
}

/// `listfunds`.
pub(super) async fn list_funds(node: &Node, params: &Params) -> RpcResult {
    params.bool("spent")?;
    let coins = coins(node).await?;
    let height = node.tip.borrow().height;
    let store = node.store();
    let mut outputs = Vec::new();
    let output = |outpoint: &OutPoint, out: &TxOut, status: &str| {
        let address = Address::from_script(&out.script_pubkey, Network::Regtest);
        json!({
            "txid": outpoint.txid, "output": outpoint.vout, "amount_msat": out.value.to_sat() * 1000,
            "scriptpubkey": out.script_pubkey.to_hex_string(), "status": status, "reserved": false,
            "address": address.map(|address| address.to_string()).unwrap_or_default(),
        })
    };
    for coin in coins.iter().filter(|coin| !store.spent.contains(&coin.outpoint)) {
        let status = if coin.is_mature(height) { "confirmed" } else { "immature" };
        let mut shown = output(&coin.outpoint, &coin.out, status);
        shown["blockheight"] = json!(coin.height);
        outputs.push(shown);
    }
    let pending = store.pending.iter().filter(|(outpoint, _)| {
        !store.spent.contains(*outpoint) && !coins.iter().any(|coin| coin.outpoint == **outpoint)
    });
    for (outpoint, out) in pending {
        outputs.push(output(outpoint, out, "unconfirmed"));
    }
    let channels: Vec<_> = store
        .channels
        .values()
        .map(|channel| {
            let mut shown = json!({
                "peer_id": channel.peer.to_string(), "connected": node.peers.is_connected(&channel.peer),
                "state": channels::state_name(channel.state), "channel_id": channel.id,
                "our_amount_msat": channel.our_msat, "amount_msat": channel.total_msat,
                "funding_txid": channel.funding.txid, "funding_output": channel.funding.vout,
            });
            if let Some(scid) = &channel.short_channel_id {
                shown["short_channel_id"] = json!(scid);
            }
            shown
        })
        .collect();
    Ok(json!({"outputs": outputs, "channels": channels}))
}

/// A signed funding transaction that has not been sent.
pub(super) struct Funding {
    pub(super) tx: Transaction,
    /// The amounts of the requested outputs, which come first, in the requested order.
    pub(super) amounts: Vec<Amount>,
    /// Changes to store when it is sent.
    pub(super) changes: Vec<Change>,
}

/// The outputs of a transaction.
#[derive(Clone)]
pub(super) enum Outputs {
    Everything(ScriptBuf),
    /// At least one amount with its script.
    Amounts(Vec<(Amount, ScriptBuf)>),
}

/// Builds and signs a transaction. The caller must hold `spending`.
pub(super) async fn fund(node: &Node, paying: Outputs) -> Result<Funding, RpcError> {
    let (amount, count) = match &paying {
        Outputs::Everything(_) => (None, 1),
        Outputs::Amounts(outputs) => {
            (Some(outputs.iter().map(|(amount, _)| *amount).sum::<Amount>()), outputs.len())
        }
    };
    let height = node.tip.borrow().height;
    let mut usable = coins(node).await?;
    {
        let store = node.store();
        usable.retain(|coin| coin.is_mature(height) && !store.spent.contains(&coin.outpoint));
    }
    // Largest coins first, for few inputs.
    usable.sort_by_key(|coin| std::cmp::Reverse(coin.out.value));
    let fee = |inputs: usize, outputs: usize| {
        Amount::from_sat(FEE_RATE * (11 + 68 * inputs as u64 + 43 * outputs as u64))
    };
    let mut chosen = Vec::new();
    let mut total = Amount::ZERO;
    for coin in &usable {
        if amount.is_some_and(|amount| total >= amount + fee(chosen.len(), count + 1)) {
            break;
        }
        total += coin.out.value;
        chosen.push(coin);
    }
    let value = amount.unwrap_or_else(|| total.checked_sub(fee(chosen.len(), count)).unwrap_or_default());
    let needed = value + fee(chosen.len(), count);
    if chosen.is_empty() || value < DUST || total < needed {
        let wanted = amount.map_or_else(|| "all".to_owned(), |amount| format!("{}sat", amount.to_sat()));
        let short = needed.checked_sub(total).unwrap_or_default().to_sat();
        return Err(RpcError::new(
            301,
            format!("Could not afford {wanted} using all {} available UTXOs: {short}sat short", usable.len()),
        ));
    }
    let mut changes: Vec<_> = chosen.iter().map(|coin| Change::Spent(coin.outpoint)).collect();
    let outputs = match paying {
        Outputs::Everything(script) => vec![(value, script)],
        Outputs::Amounts(outputs) => outputs,
    };
    let amounts = outputs.iter().map(|(amount, _)| *amount).collect();
    let txout = |(value, script_pubkey)| TxOut { value, script_pubkey };
    let mut output: Vec<_> = outputs.into_iter().map(txout).collect();
    let change = total.checked_sub(value + fee(chosen.len(), count + 1)).filter(|change| *change >= DUST);
    if let Some(change) = change {
        let mut store = node.store();
        let mut counters = store.counters;
        counters.keys += 1;
        output.push(TxOut { value: change, script_pubkey: key(node, counters.keys).taproot.script_pubkey() });
        node.commit(&mut store, vec![Change::Counters(counters)]);
    }
    let mut tx = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: chosen
            .iter()
            .map(|coin| TxIn {
                previous_output: coin.outpoint,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            })
            .collect(),
        output,
    };
    let prevouts: Vec<_> = chosen.iter().map(|coin| coin.out.clone()).collect();
    for (index, coin) in chosen.iter().enumerate() {
        tx.input[index].witness = witness(node, &tx, index, coin, &prevouts)
            .map_err(|error| RpcError::general(format!("signing the funding transaction: {error}")))?;
    }
    if let (Some(_), Some(last)) = (change, tx.output.last()) {
        let vout = u32::try_from(count).unwrap_or(u32::MAX);
        changes.push(Change::Pending(OutPoint { txid: tx.compute_txid(), vout }, last.clone()));
    }
    Ok(Funding { tx, amounts, changes })
}

fn witness(
    node: &Node,
    tx: &Transaction,
    index: usize,
    coin: &Coin,
    prevouts: &[TxOut],
) -> Result<Witness, Box<dyn std::error::Error>> {
    let secret = key(node, coin.key).secret;
    let mut cache = SighashCache::new(tx);
    if coin.out.script_pubkey.is_p2wpkh() {
        let hash = cache.p2wpkh_signature_hash(
            index,
            &coin.out.script_pubkey,
            coin.out.value,
            EcdsaSighashType::All,
        )?;
        let signature = ecdsa::Signature::sighash_all(node.secp.sign_ecdsa(&Message::from(hash), &secret));
        return Ok(Witness::p2wpkh(&signature, &secret.public_key(&node.secp)));
    }
    let hash =
        cache.taproot_key_spend_signature_hash(index, &Prevouts::All(prevouts), TapSighashType::Default)?;
    let pair = Keypair::from_secret_key(&node.secp, &secret).tap_tweak(&node.secp, None).to_keypair();
    let signature = node.secp.sign_schnorr(&Message::from(hash), &pair);
    Ok(Witness::p2tr_key_spend(&taproot::Signature { signature, sighash_type: TapSighashType::Default }))
}
