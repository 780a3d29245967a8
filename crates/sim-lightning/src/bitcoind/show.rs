//! Blocks, transactions and scripts in bitcoind's JSON format.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, Amount, Block, Network, ScriptBuf, Transaction, TxOut};
use serde_json::{Value, json};

use super::chain::Chain;

/// An amount in bitcoin, as a JSON number.
pub(super) fn btc(amount: Amount) -> Value {
    json!(amount.to_btc())
}

pub(super) fn script(script: &ScriptBuf) -> Value {
    let kind = match script {
        script if script.is_p2wpkh() => "witness_v0_keyhash",
        script if script.is_p2wsh() => "witness_v0_scripthash",
        script if script.is_p2tr() => "witness_v1_taproot",
        script if script.is_p2pkh() => "pubkeyhash",
        script if script.is_p2sh() => "scripthash",
        script if script.is_p2pk() => "pubkey",
        script if script.is_op_return() => "nulldata",
        _ => "nonstandard",
    };
    let mut shown = json!({"asm": script.to_asm_string(), "hex": script.to_hex_string(), "type": kind});
    if let Ok(address) = Address::from_script(script, Network::Regtest) {
        shown["address"] = json!(address.to_string());
    }
    shown
}

fn output((n, out): (usize, &TxOut)) -> Value {
    json!({"value": btc(out.value), "n": n, "scriptPubKey": script(&out.script_pubkey)})
}

pub(super) fn transaction(tx: &Transaction) -> Value {
    let inputs: Vec<_> = tx
        .input
        .iter()
        .map(|txin| {
            let mut shown = if tx.is_coinbase() {
                json!({"coinbase": txin.script_sig.to_hex_string()})
            } else {
                json!({
                    "txid": txin.previous_output.txid,
                    "vout": txin.previous_output.vout,
                    "scriptSig": {"asm": txin.script_sig.to_asm_string(), "hex": txin.script_sig.to_hex_string()},
                })
            };
            if !txin.witness.is_empty() {
                shown["txinwitness"] = txin.witness.iter().map(hex::encode).collect();
            }
            shown["sequence"] = json!(txin.sequence.0);
            shown
        })
        .collect();
    json!({
        "txid": tx.compute_txid(),
        "hash": tx.compute_wtxid(),
        "version": tx.version.0,
        "size": tx.total_size(),
        "vsize": tx.vsize(),
        "weight": tx.weight().to_wu(),
        "locktime": tx.lock_time.to_consensus_u32(),
        "vin": inputs,
        "vout": tx.output.iter().enumerate().map(output).collect::<Vec<_>>(),
        "hex": serialize_hex(tx),
    })
}

pub(super) fn header(chain: &Chain, height: u32, block: &Block) -> Value {
    let mut shown = json!({
        "hash": block.block_hash(),
        "confirmations": chain.height() - height + 1,
        "height": height,
        "version": block.header.version.to_consensus(),
        "versionHex": format!("{:08x}", block.header.version.to_consensus()),
        "merkleroot": block.header.merkle_root,
        "time": block.header.time,
        "mediantime": chain.median_time(height),
        "nonce": block.header.nonce,
        "bits": format!("{:08x}", block.header.bits.to_consensus()),
        "target": format!("{:x}", block.header.target()),
        // The constant of regtest.
        "difficulty": 4.656_542_373_906_925e-10,
        "chainwork": format!("{:064x}", 2 * (u64::from(height) + 1)),
        "nTx": block.txdata.len(),
    });
    if height > 0 {
        shown["previousblockhash"] = json!(block.header.prev_blockhash);
    }
    if let Some((next, _)) = chain.at(height + 1) {
        shown["nextblockhash"] = json!(next);
    }
    shown
}

/// A block at `getblock`'s verbosity 1 (transaction ids) or 2 (whole transactions).
pub(super) fn block(chain: &Chain, height: u32, block: &Block, whole: bool) -> Value {
    let mut shown = header(chain, height, block);
    shown["size"] = json!(block.total_size());
    shown["weight"] = json!(block.weight().to_wu());
    shown["tx"] = if whole {
        block.txdata.iter().map(transaction).collect()
    } else {
        block.txdata.iter().map(|tx| json!(tx.compute_txid())).collect()
    };
    shown
}
