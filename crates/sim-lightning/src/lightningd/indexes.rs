//! The indexes of the node's tables: `wait`, and the lists that are only read by index.
//!
//! Forwards, HTLCs, coins that move on chain and network events are not simulated: their indexes stay 0, their lists empty. `wait`
//! answers with the index, without the details that the real daemon adds for some tables.

use serde_json::{Value, json};

use super::Node;
use super::params::{Params, RpcError, RpcResult};
use super::store::{ChannelMove, Payment, PaymentStatus, Store};

/// Parameters of the lists here that have no others.
pub(super) const PAGE_PARAMS: &[&str] = &["index", "start", "limit"];
pub(super) const SENDPAY_PARAMS: &[&str] = &["bolt11", "payment_hash", "status", "index", "start", "limit"];
pub(super) const FORWARD_PARAMS: &[&str] =
    &["status", "in_channel", "out_channel", "index", "start", "limit"];
pub(super) const HTLC_PARAMS: &[&str] = &["id", "index", "start", "limit"];

const SUBSYSTEMS: &[&str] =
    &["invoices", "forwards", "sendpays", "htlcs", "chainmoves", "channelmoves", "networkevents"];

/// The current value of an index.
fn current(store: &Store, subsystem: &str, index: &str) -> u64 {
    let counters = &store.counters;
    match (subsystem, index) {
        ("invoices", "created") => counters.invoices_created,
        ("invoices", "updated") => counters.invoices_updated,
        ("invoices", "deleted") => counters.invoices_deleted,
        ("sendpays", "created") => counters.payments,
        ("sendpays", "updated") => counters.payments_updated,
        ("channelmoves", "created") => counters.moves,
        _ => 0,
    }
}

/// `wait`: answers when the index has reached a value, which it may have already.
pub(super) async fn wait(node: &Node, params: &Params) -> RpcResult {
    let subsystem = params.token("subsystem").expect("required");
    let index = params.token("indexname").expect("required");
    let next = params.u64("nextvalue")?.expect("required");
    if !SUBSYSTEMS.contains(&&*subsystem) {
        return Err(params.bad("subsystem", "unknown subsystem"));
    }
    if !["created", "updated", "deleted"].contains(&&*index) {
        return Err(params.bad("indexname", "unknown index"));
    }
    let mut changes = node.changes.subscribe();
    loop {
        changes.mark_unchanged();
        let value = current(&node.store(), &subsystem, &index);
        if value >= next {
            return Ok(json!({"subsystem": subsystem, index: value}));
        }
        if changes.changed().await.is_err() {
            return Err(RpcError::new(-5, "lightningd is shutting down"));
        }
    }
}

/// A page of a list: the index to order by, the first value, and the greatest number of rows.
struct Page {
    by_update: bool,
    start: u64,
    limit: usize,
}

impl Page {
    fn of(params: &Params) -> Result<Self, RpcError> {
        let index = params.token("index");
        let by_update = match index.as_deref() {
            None | Some("created") => false,
            Some("updated") => true,
            Some(_) => return Err(params.bad("index", "unknown index")),
        };
        let (start, limit) = (params.u64("start")?, params.u32("limit")?);
        for (name, given) in [("start", start.is_some_and(|start| start != 0)), ("limit", limit.is_some())] {
            if given && index.is_none() {
                return Err(RpcError::params(format!("Can only specify {{{name}}} with {{index}}")));
            }
        }
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(Self { by_update, start: start.unwrap_or(0), limit })
    }

    /// The rows of the page. `indexes` returns a row's indexes of creation and of the last update.
    fn rows<'a, T>(
        &self,
        rows: impl Iterator<Item = &'a T>,
        indexes: impl Fn(&T) -> (u64, u64),
    ) -> Vec<&'a T> {
        let index = |row: &T| if self.by_update { indexes(row).1 } else { indexes(row).0 };
        let mut rows: Vec<&T> = rows.filter(|row| index(row) >= self.start).collect();
        rows.sort_by_key(|row| index(row));
        rows.truncate(self.limit);
        rows
    }
}

pub(super) fn status_name(status: PaymentStatus) -> &'static str {
    match status {
        PaymentStatus::Pending => "pending",
        PaymentStatus::Complete => "complete",
        PaymentStatus::Failed => "failed",
    }
}

/// `listsendpays`. A payment has one part.
pub(super) fn list_sendpays(node: &Node, params: &Params) -> RpcResult {
    let (bolt11, hash) = (params.token("bolt11"), params.hash("payment_hash")?);
    let (status, page) = (params.token("status"), Page::of(params)?);
    let store = node.store();
    let wanted = store.payments.values().filter(|payment| {
        bolt11.as_ref().is_none_or(|bolt11| payment.bolt11 == *bolt11)
            && hash.as_ref().is_none_or(|hash| payment.hash == *hash)
            && status.as_ref().is_none_or(|status| status_name(payment.status) == status)
    });
    let rows = page.rows(wanted, |payment| (payment.index, payment.updated_index.unwrap_or(0)));
    Ok(json!({"payments": rows.into_iter().map(sendpay).collect::<Vec<_>>()}))
}

fn sendpay(payment: &Payment) -> Value {
    let mut shown = json!({
        "created_index": payment.index, "id": payment.index, "payment_hash": payment.hash, "groupid": 1, "partid": 1,
        "destination": payment.destination.to_string(), "amount_msat": payment.amount_msat,
        "amount_sent_msat": payment.amount_msat, "created_at": payment.created_at,
        "status": status_name(payment.status), "bolt11": payment.bolt11,
    });
    if let Some(index) = payment.updated_index {
        shown["updated_index"] = json!(index);
    }
    if let Some(at) = payment.completed_at {
        shown["completed_at"] = json!(at);
    }
    if let Some(preimage) = &payment.preimage {
        shown["payment_preimage"] = json!(preimage);
    }
    shown
}

/// `listchannelmoves`: coins that moved in channels when payments were settled.
pub(super) fn list_channel_moves(node: &Node, params: &Params) -> RpcResult {
    let page = Page::of(params)?;
    let store = node.store();
    let rows = page.rows(store.moves.values(), |made| (made.index, made.index));
    let shown = rows.into_iter().map(|ChannelMove { index, channel_id, credit_msat, debit_msat, hash, at }| {
        json!({
            "created_index": index, "account_id": channel_id, "credit_msat": credit_msat, "debit_msat": debit_msat,
            "timestamp": at, "primary_tag": "invoice", "payment_hash": hash, "fees_msat": 0,
        })
    });
    Ok(json!({"channelmoves": shown.collect::<Vec<_>>()}))
}

/// A list of something that is not simulated.
pub(super) fn list_nothing(params: &Params, name: &str) -> RpcResult {
    Page::of(params)?;
    Ok(json!({name: []}))
}
