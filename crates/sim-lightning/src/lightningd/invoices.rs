//! Invoices: creating, listing, waiting, deleting, expiring, and being paid.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::secp256k1::PublicKey;
use lightning::types::payment::PaymentSecret;
use lightning::util::ser::Writeable as _;
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef, Currency, InvoiceBuilder};
use serde_json::{Value, json};

use super::params::{Params, RpcError, RpcResult};
use super::runes::Rune;
use super::store::{Change, ChannelMove, Invoice, InvoiceStatus, Receipt, Store};
use super::{Node, now};

pub(super) const CREATE_PARAMS: &[&str] = &[
    "amount_msat!",
    "label!",
    "description!",
    "expiry",
    "fallbacks",
    "preimage",
    "exposeprivatechannels",
    "cltv",
    "deschashonly",
];
pub(super) const LIST_PARAMS: &[&str] =
    &["label", "invstring", "payment_hash", "offer_id", "index", "start", "limit"];

const DEFAULT_EXPIRY: u64 = 7 * 24 * 3600;
const MAX_LABEL: usize = 128;
/// Maximum size of a field in a BOLT 11 invoice.
const MAX_DESCRIPTION: usize = 639;
/// Lightning's maximum, 21 million bitcoin.
const MAX_MSAT: u64 = 21_000_000 * 100_000_000 * 1000;

fn shown(invoice: &Invoice) -> Value {
    let mut shown = json!({
        "label": invoice.label,
        "bolt11": invoice.bolt11,
        "payment_hash": invoice.payment_hash,
        "status": invoice.status.name(),
        "expires_at": invoice.expires_at,
        "created_index": invoice.created_index,
    });
    if let Some(msat) = invoice.amount_msat {
        shown["amount_msat"] = json!(msat);
    }
    if let Some(receipt) = &invoice.receipt {
        shown["pay_index"] = json!(receipt.pay_index);
        shown["amount_received_msat"] = json!(receipt.received_msat);
        shown["paid_at"] = json!(receipt.paid_at);
        shown["payment_preimage"] = json!(invoice.preimage);
    }
    if let Some(description) = &invoice.description {
        shown["description"] = json!(description);
    }
    if let Some(index) = invoice.updated_index {
        shown["updated_index"] = json!(index);
    }
    shown
}

/// `invoice`.
pub(super) fn create(node: &Node, params: &Params) -> RpcResult {
    let amount = params.token("amount_msat").expect("required");
    let amount_msat = match amount.as_str() {
        "any" => None,
        _ => match super::params::parse_msat(&amount) {
            Some(msat) if (1..=MAX_MSAT).contains(&msat) => Some(msat),
            _ => return Err(params.bad("amount_msat", "should be positive msat or 'any'")),
        },
    };
    let label = params.label("label")?.expect("required");
    let description = params.string("description")?.expect("required");
    // The real daemon accepts any value, and crashes if it does not fit into the invoice.
    let expiry = params.u64("expiry")?.unwrap_or(DEFAULT_EXPIRY);
    let preimage: [u8; 32] = match params.token("preimage") {
        None => rand::random(),
        Some(text) => hex::decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| params.bad("preimage", "should be 64 hex digits"))?,
    };
    let default_cltv = node.options.number("cltv-final", 5).unwrap_or(5);
    let cltv = params.u32("cltv")?.unwrap_or(default_cltv);
    let hash_only = params.bool("deschashonly")?.unwrap_or(false);
    if label.len() > MAX_LABEL {
        return Err(RpcError::params(format!("Label '{label}' over {MAX_LABEL} bytes")));
    }
    if description.len() > MAX_DESCRIPTION && !hash_only {
        return Err(RpcError::params(format!(
            "Description greater than {MAX_DESCRIPTION} bytes invalid (description length {})",
            description.len()
        )));
    }

    let payment_hash = sha256::Hash::hash(&preimage);
    let payment_secret = node.derive(&format!("payment secret {payment_hash}"));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let builder = InvoiceBuilder::new(Currency::Regtest)
        .payment_hash(payment_hash)
        .payment_secret(PaymentSecret(payment_secret))
        .basic_mpp()
        .duration_since_epoch(Duration::from_secs(since.as_secs()))
        .min_final_cltv_expiry_delta(u64::from(cltv))
        .expiry_time(Duration::from_secs(expiry));
    let builder = match amount_msat {
        Some(msat) => builder.amount_milli_satoshis(msat),
        None => builder,
    };
    let sign = |hash: &bitcoin::secp256k1::Message| {
        node.secp.sign_ecdsa_recoverable(hash, &node.keys.get_node_secret_key())
    };
    let built = if hash_only {
        builder.description_hash(sha256::Hash::hash(description.as_bytes())).build_signed(sign)
    } else {
        builder.description(description.clone()).build_signed(sign)
    };
    let bolt11 =
        built.map_err(|error| RpcError::params(format!("invoice cannot be encoded: {error}")))?.to_string();

    let mut guard = node.store();
    let store = &mut *guard;
    if store.invoice_by_hash(&payment_hash.to_string()).is_some() {
        return Err(RpcError::new(901, "preimage already used"));
    }
    if store.invoice(&label).is_some() {
        return Err(RpcError::new(900, format!("Duplicate label '{label}'")));
    }
    let mut counters = store.counters;
    counters.invoices_created += 1;
    let invoice = Invoice {
        label,
        bolt11,
        payment_hash: payment_hash.to_string(),
        preimage: hex::encode(preimage),
        payment_secret: hex::encode(payment_secret),
        amount_msat,
        status: InvoiceStatus::Unpaid,
        receipt: None,
        description: Some(description),
        expires_at: since.as_secs().saturating_add(expiry),
        created_index: counters.invoices_created,
        updated_index: None,
    };
    let mut answer = json!({
        "payment_hash": invoice.payment_hash,
        "expires_at": invoice.expires_at,
        "bolt11": invoice.bolt11,
        "payment_secret": invoice.payment_secret,
        "created_index": invoice.created_index,
    });
    let incoming: u64 = store.channels.values().map(|channel| channel.total_msat - channel.our_msat).sum();
    if incoming <= invoice.amount_msat.unwrap_or(1) {
        answer["warning_capacity"] = json!("Insufficient incoming channel capacity to pay invoice");
    }
    let mut news = json!({"preimage": invoice.preimage, "label": invoice.label});
    if let Some(msat) = invoice.amount_msat {
        news["msat"] = json!(msat);
    }
    node.commit(store, vec![Change::Counters(counters), Change::Invoice(invoice)]);
    drop(guard);
    node.plugins.notify("invoice_creation", &news);
    node.invoice_news.send_modify(|count| *count += 1);
    Ok(answer)
}

/// Marks expired invoices. Called before any access to an invoice's status.
fn sweep(node: &Node, store: &mut Store) {
    let overdue = store.overdue(now());
    if overdue.is_empty() {
        return;
    }
    let mut counters = store.counters;
    let mut changes = Vec::new();
    for mut invoice in overdue {
        counters.invoices_updated += 1;
        invoice.status = InvoiceStatus::Expired;
        invoice.updated_index = Some(counters.invoices_updated);
        changes.push(Change::Invoice(invoice));
    }
    changes.push(Change::Counters(counters));
    node.commit(store, changes);
    node.invoice_news.send_modify(|count| *count += 1);
}

/// Expires invoices in the background, for waiting calls.
pub(super) async fn expire(node: Arc<Node>) {
    let mut news = node.invoice_news.subscribe();
    loop {
        let next = {
            let mut store = node.store();
            sweep(&node, &mut store);
            store.next_expiry()
        };
        news.mark_unchanged();
        match next {
            Some(at) => {
                // Interrupted if a new invoice expires sooner.
                let wait = Duration::from_secs(at.saturating_sub(now())).max(Duration::from_millis(100));
                drop(tokio::time::timeout(wait, news.changed()).await);
            }
            None => drop(news.changed().await),
        }
    }
}

/// `listinvoices`.
pub(super) fn list(node: &Node, params: &Params) -> RpcResult {
    let label = params.label("label")?;
    let mut hash = params.hash("payment_hash")?;
    let invstring = params.token("invstring");
    let offer = params.hash("offer_id")?;
    let by_update = match params.token("index").as_deref() {
        None => None,
        Some("created") => Some(false),
        Some("updated") => Some(true),
        Some(_) => return Err(params.bad("index", "unknown index")),
    };
    let start = params.u64("start")?.unwrap_or(0);
    let limit = params.u32("limit")?;
    let chosen = [label.is_some(), invstring.is_some(), hash.is_some(), offer.is_some()];
    if chosen.into_iter().filter(|given| *given).count() > 1 {
        return Err(RpcError::params(
            "Can only specify one of {label}, {invstring}, {payment_hash} or {offer_id}",
        ));
    }
    if start != 0 && by_update.is_none() {
        return Err(RpcError::params("Can only specify {start} with {index}"));
    }
    if limit.is_some() && by_update.is_none() {
        return Err(RpcError::params("Can only specify {limit} with {index}"));
    }
    if let Some(text) = invstring {
        let invoice: Bolt11Invoice = text.parse().map_err(|_| RpcError::params("Invalid invstring"))?;
        hash = Some(invoice.payment_hash().to_string());
    }
    let mut store = node.store();
    sweep(node, &mut store);
    let found: Vec<_> = if let Some(label) = label {
        store.invoice(&label).into_iter().map(shown).collect()
    } else if let Some(hash) = hash {
        store.invoice_by_hash(&hash).into_iter().map(shown).collect()
    } else if offer.is_some() {
        Vec::new()
    } else {
        let index = |invoice: &Invoice| match by_update {
            // Invoices that were never updated have the index 0, as in the real daemon's database.
            Some(true) => invoice.updated_index.unwrap_or(0),
            _ => invoice.created_index,
        };
        let mut all: Vec<&Invoice> = store.invoices().filter(|invoice| index(invoice) >= start).collect();
        all.sort_by_key(|invoice| index(invoice));
        all.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
        all.into_iter().map(shown).collect()
    };
    Ok(json!({"invoices": found}))
}

/// `delinvoice`.
pub(super) fn delete(node: &Node, params: &Params) -> RpcResult {
    let label = params.label("label")?.expect("required");
    let status = params.token("status").expect("required");
    let only_description = params.bool("desconly")?.unwrap_or(false);
    let mut store = node.store();
    sweep(node, &mut store);
    let mut invoice = store.invoice(&label).ok_or_else(|| RpcError::new(905, "Unknown invoice"))?.clone();
    let actual = invoice.status.name();
    if actual != status {
        return Err(RpcError::new(906, format!("Invoice status is {actual} not {status}"))
            .with_data(json!({"current_status": actual, "expected_status": status})));
    }
    if only_description {
        if invoice.description.take().is_none() {
            return Err(RpcError::new(908, "Invoice description already removed"));
        }
        let answer = shown(&invoice);
        node.commit(&mut store, vec![Change::Invoice(invoice)]);
        return Ok(answer);
    }
    let mut counters = store.counters;
    counters.invoices_deleted += 1;
    node.commit(&mut store, vec![Change::InvoiceGone(label), Change::Counters(counters)]);
    drop(store);
    node.invoice_news.send_modify(|count| *count += 1);
    Ok(shown(&invoice))
}

/// `waitinvoice`.
pub(super) async fn wait_one(node: &Node, params: &Params) -> RpcResult {
    let label = params.label("label")?.expect("required");
    let mut news = node.invoice_news.subscribe();
    let mut created = None;
    loop {
        news.mark_unchanged();
        {
            let mut store = node.store();
            sweep(node, &mut store);
            match store.invoice(&label) {
                None if created.is_some() => return Err(RpcError::general("Invoice deleted during wait")),
                None => return Err(RpcError::general("Label not found")),
                Some(invoice) if created.is_some_and(|created| created != invoice.created_index) => {
                    return Err(RpcError::general("Invoice deleted during wait"));
                }
                Some(invoice) => {
                    created = Some(invoice.created_index);
                    match invoice.status {
                        InvoiceStatus::Paid => return Ok(shown(invoice)),
                        InvoiceStatus::Expired => {
                            return Err(
                                RpcError::new(903, "invoice expired during wait").with_data(shown(invoice))
                            );
                        }
                        InvoiceStatus::Unpaid => {}
                    }
                }
            }
        }
        if news.changed().await.is_err() {
            return Err(RpcError::new(-5, "lightningd is shutting down"));
        }
    }
}

/// `waitanyinvoice`.
pub(super) async fn wait_any(node: &Node, params: &Params) -> RpcResult {
    let after = params.u64("lastpay_index")?.unwrap_or(0);
    let limit = params.u64("timeout")?;
    let mut news = node.invoice_news.subscribe();
    let wait = async {
        loop {
            news.mark_unchanged();
            if let Some(invoice) = node.store().next_paid(after) {
                return Ok(shown(invoice));
            }
            if news.changed().await.is_err() {
                return Err(RpcError::new(-5, "lightningd is shutting down"));
            }
        }
    };
    match limit {
        None => wait.await,
        Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds), wait)
            .await
            .unwrap_or_else(|_| Err(RpcError::new(904, "Timed out while waiting for invoice to be paid"))),
    }
}

/// BOLT 4's name of the failure for a rejected payment.
pub(super) const UNKNOWN_DETAILS: &str = "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS";

/// Receives a payment from `payer`. Returns the preimage and whether this is the first time, or the name of the failure.
///
/// `settle` gets the store before the commit and adds further changes to it.
pub(super) fn receive(
    node: &Node,
    payer: PublicKey,
    payment_hash: &str,
    payment_secret: &str,
    amount_msat: u64,
    settle: impl FnOnce(&Store) -> Result<Change, &'static str>,
) -> Result<String, &'static str> {
    let mut store = node.store();
    sweep(node, &mut store);
    let invoice = store.invoice_by_hash(payment_hash).ok_or(UNKNOWN_DETAILS)?;
    if let Some(receipt) = &invoice.receipt {
        // The answer was lost; the payer may have it again.
        return if receipt.payer == payer { Ok(invoice.preimage.clone()) } else { Err(UNKNOWN_DETAILS) };
    }
    let wanted = invoice.amount_msat.unwrap_or(1);
    let fits = (wanted..=wanted.saturating_mul(2)).contains(&amount_msat) || invoice.amount_msat.is_none();
    if invoice.status != InvoiceStatus::Unpaid || invoice.payment_secret != payment_secret || !fits {
        return Err(UNKNOWN_DETAILS);
    }
    let mut invoice = invoice.clone();
    let settled = settle(&store)?;
    let mut counters = store.counters;
    counters.pay_index += 1;
    counters.invoices_updated += 1;
    invoice.status = InvoiceStatus::Paid;
    invoice.updated_index = Some(counters.invoices_updated);
    invoice.receipt =
        Some(Receipt { pay_index: counters.pay_index, received_msat: amount_msat, paid_at: now(), payer });
    let (label, preimage) = (invoice.label.clone(), invoice.preimage.clone());
    let mut changes = vec![Change::Invoice(invoice)];
    if let Change::Channel(channel) = &settled {
        counters.moves += 1;
        changes.push(Change::Move(ChannelMove {
            index: counters.moves,
            channel_id: channel.id.clone(),
            credit_msat: amount_msat,
            debit_msat: 0,
            hash: payment_hash.to_owned(),
            at: now(),
        }));
    }
    changes.extend([settled, Change::Counters(counters)]);
    node.commit(&mut store, changes);
    drop(store);
    node.log.info(&format!("Resolved invoice '{label}' with amount {amount_msat}msat in 1 htlcs"));
    node.plugins
        .notify("invoice_payment", &json!({"msat": amount_msat, "preimage": preimage, "label": label}));
    node.invoice_news.send_modify(|count| *count += 1);
    Ok(preimage)
}

/// `decode`: BOLT 11 invoices and runes.
pub(super) fn decode(params: &Params) -> RpcResult {
    let text = params.token("string").expect("required");
    let stripped =
        text.strip_prefix("lightning:").or_else(|| text.strip_prefix("LIGHTNING:")).unwrap_or(&text);
    if let Ok(invoice) = stripped.parse::<Bolt11Invoice>() {
        return Ok(decoded(&invoice));
    }
    if let Some(rune) = Rune::from_base64(stripped) {
        let restrictions = rune.conditions().iter().map(|restriction| {
            let texts = restriction.iter().map(|alternative| {
                format!("{}{}{}", alternative.field, alternative.condition, alternative.value)
            });
            let english: Vec<_> = restriction.iter().map(super::runes::Alternative::english).collect();
            json!({"alternatives": texts.collect::<Vec<_>>(), "summary": english.join(" OR ")})
        });
        let mut shown = json!({
            "type": "rune", "string": rune.to_text(), "restrictions": restrictions.collect::<Vec<_>>(), "valid": true,
        });
        if let Some(id) = rune.unique_id() {
            shown["unique_id"] = json!(id);
        }
        return Ok(shown);
    }
    Err(params.bad("string", "Unparsable string"))
}

fn decoded(invoice: &Bolt11Invoice) -> Value {
    let raw = invoice.clone().into_signed_raw();
    let mut shown = json!({
        "type": "bolt11 invoice",
        "currency": match invoice.currency() {
            Currency::Bitcoin => "bc",
            Currency::BitcoinTestnet => "tb",
            Currency::Regtest => "bcrt",
            Currency::Simnet => "sb",
            Currency::Signet => "tbs",
        },
        "created_at": invoice.duration_since_epoch().as_secs(),
        "expiry": invoice.expiry_time().as_secs(),
        "payee": invoice.get_payee_pub_key().to_string(),
        "min_final_cltv_expiry": invoice.min_final_cltv_expiry_delta(),
        "payment_secret": hex::encode(invoice.payment_secret().0),
        "payment_hash": invoice.payment_hash().to_string(),
        "signature": hex::encode(der_signature(&raw)),
        "valid": true,
    });
    if let Some(msat) = invoice.amount_milli_satoshis() {
        shown["amount_msat"] = json!(msat);
    }
    match invoice.description() {
        Bolt11InvoiceDescriptionRef::Direct(text) => shown["description"] = json!(text.as_inner().0),
        Bolt11InvoiceDescriptionRef::Hash(hash) => shown["description_hash"] = json!(hash.0.to_string()),
    }
    if let Some(features) = invoice.features() {
        let mut bytes = features.encode();
        // Without the length prefix of the wire format.
        bytes.drain(..2.min(bytes.len()));
        shown["features"] = json!(hex::encode(bytes));
    }
    shown
}

fn der_signature(raw: &lightning_invoice::SignedRawBolt11Invoice) -> Vec<u8> {
    raw.signature().0.to_standard().serialize_der().to_vec()
}
