//! `signrawtransactionwithkey` for the single-key outputs that tests use: P2WPKH, P2TR (key path) and P2PKH.

use bitcoin::key::{Secp256k1, TapTweak as _};
use bitcoin::secp256k1::{All, Message};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{PrivateKey, ScriptBuf, Transaction, TxOut, Witness, ecdsa, script, taproot};

/// Signs every input whose output belongs to one of `keys`. Returns which inputs are still unsigned.
///
/// `prevouts` are the spent outputs, in the order of the inputs; `None` for an unknown one.
pub(super) fn sign(tx: &mut Transaction, prevouts: &[Option<TxOut>], keys: &[PrivateKey]) -> Vec<usize> {
    let secp = Secp256k1::new();
    let all_known: Option<Vec<TxOut>> = prevouts.iter().cloned().collect();
    let mut open = Vec::new();
    for (index, prevout) in prevouts.iter().enumerate() {
        let signed = prevout.as_ref().and_then(|out| {
            keys.iter().find_map(|key| sign_input(&secp, tx, index, out, all_known.as_deref(), key))
        });
        match signed {
            Some((script_sig, witness)) => {
                tx.input[index].script_sig = script_sig;
                tx.input[index].witness = witness;
            }
            None if tx.input[index].witness.is_empty() && tx.input[index].script_sig.is_empty() => {
                open.push(index);
            }
            None => {}
        }
    }
    open
}

fn sign_input(
    secp: &Secp256k1<All>,
    tx: &Transaction,
    index: usize,
    out: &TxOut,
    all: Option<&[TxOut]>,
    key: &PrivateKey,
) -> Option<(ScriptBuf, Witness)> {
    let public = key.public_key(secp);
    let pubkey = &out.script_pubkey;
    let mut cache = SighashCache::new(tx);
    if *pubkey == ScriptBuf::new_p2wpkh(&public.wpubkey_hash().ok()?) {
        let hash = cache.p2wpkh_signature_hash(index, pubkey, out.value, EcdsaSighashType::All).ok()?;
        let signature = ecdsa::Signature::sighash_all(secp.sign_ecdsa(&Message::from(hash), &key.inner));
        return Some((ScriptBuf::new(), Witness::p2wpkh(&signature, &public.inner)));
    }
    let (internal, _) = public.inner.x_only_public_key();
    if *pubkey == ScriptBuf::new_p2tr(secp, internal, None) {
        let hash = cache
            .taproot_key_spend_signature_hash(index, &Prevouts::All(all?), TapSighashType::Default)
            .ok()?;
        let pair = key.inner.keypair(secp).tap_tweak(secp, None).to_keypair();
        let signature = secp.sign_schnorr(&Message::from(hash), &pair);
        let signature = taproot::Signature { signature, sighash_type: TapSighashType::Default };
        return Some((ScriptBuf::new(), Witness::p2tr_key_spend(&signature)));
    }
    if *pubkey == ScriptBuf::new_p2pkh(&public.pubkey_hash()) {
        let hash = cache.legacy_signature_hash(index, pubkey, EcdsaSighashType::All.to_u32()).ok()?;
        let signature = ecdsa::Signature::sighash_all(secp.sign_ecdsa(&Message::from(hash), &key.inner));
        let script_sig =
            script::Builder::new().push_slice(signature.serialize()).push_key(&public).into_script();
        return Some((script_sig, Witness::new()));
    }
    None
}
