//! Channels and payments between two simulated nodes.
//!
//! A channel is a real funding transaction and a balance that both sides store. To pay, a node asks the payee over the connection,
//! and gets the preimage. There is no routing: the payee has to be the other end of a channel.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, OutPoint, ScriptBuf, script};
use lightning_invoice::Bolt11Invoice;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::params::{Params, RpcError, RpcResult, parse_msat};
use super::store::{Change, Channel, ChannelMove, ChannelState, Payment, PaymentStatus, Store};
use super::wallet::Outputs;
use super::{Node, indexes, invoices, now, peers, wallet};

pub(super) const FUND_PARAMS: &[&str] = &[
    "id!",
    "amount!",
    "feerate",
    "announce",
    "minconf",
    "utxos",
    "push_msat",
    "close_to",
    "request_amt",
    "compact_lease",
    "mindepth",
    "reserve",
    "channel_type",
];
pub(super) const FUND_MANY_PARAMS: &[&str] =
    &["destinations!", "feerate", "minconf", "utxos", "minchannels", "commitment_feerate"];
pub(super) const PAY_PARAMS: &[&str] = &[
    "bolt11!",
    "amount_msat",
    "label",
    "riskfactor",
    "maxfeepercent",
    "retry_for",
    "maxdelay",
    "exemptfee",
    "localinvreqid",
    "exclude",
    "maxfee",
    "description",
    "partial_msat",
];
pub(super) const XPAY_PARAMS: &[&str] =
    &["invstring!", "amount_msat", "maxfee", "layers", "retry_for", "partial_msat", "maxdelay", "payer_note"];

/// Time-out of a payment while the payee cannot be reached.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// A request from one simulated node to another.
#[derive(Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
enum PeerRequest {
    Open {
        channel_id: String,
        funding: OutPoint,
        total_msat: u64,
        push_msat: u64,
        private: bool,
    },
    /// The funding transaction was not sent.
    Abort {
        channel_id: String,
    },
    Pay {
        channel_id: String,
        payment_hash: String,
        payment_secret: String,
        amount_msat: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
enum PeerReply {
    Fine,
    Paid {
        preimage: String,
    },
    /// The reason, as named by BOLT 4 or by the other side.
    Failed {
        reason: String,
    },
}

pub(super) fn state_name(state: ChannelState) -> &'static str {
    match state {
        ChannelState::AwaitingLockin => "CHANNELD_AWAITING_LOCKIN",
        ChannelState::Normal => "CHANNELD_NORMAL",
    }
}

impl Channel {
    /// The reserve of each side: a hundredth of the channel.
    fn reserve(&self) -> u64 {
        self.total_msat / 100
    }

    fn spendable(&self) -> u64 {
        self.our_msat.saturating_sub(self.reserve())
    }
}

async fn ask(node: &Node, peer: &PublicKey, question: &PeerRequest) -> Option<PeerReply> {
    let question = serde_json::to_value(question).expect("plain data");
    serde_json::from_value(node.peers.ask(peer, &question).await?).ok()
}

/// Answers a request of another simulated node.
pub(super) fn answer(node: &Arc<Node>, from: PublicKey, question: &Value) -> Value {
    let answer = match serde_json::from_value(question.clone()) {
        Err(error) => PeerReply::Failed { reason: format!("not understood: {error}") },
        Ok(PeerRequest::Open { channel_id, funding, total_msat, push_msat, private }) => {
            accept(node, from, channel_id, funding, total_msat, push_msat, private)
        }
        Ok(PeerRequest::Abort { channel_id }) => {
            let mut store = node.store();
            let open = store.channels.get(&channel_id);
            if open
                .is_some_and(|channel| channel.peer == from && channel.state == ChannelState::AwaitingLockin)
            {
                node.commit(&mut store, vec![Change::ChannelGone(channel_id)]);
            }
            PeerReply::Fine
        }
        Ok(PeerRequest::Pay { channel_id, payment_hash, payment_secret, amount_msat }) => {
            let credit = |store: &Store| {
                let channel = store.channels.get(&channel_id).filter(|channel| channel.peer == from);
                let mut channel = channel.ok_or("WIRE_UNKNOWN_NEXT_PEER")?.clone();
                let theirs = channel.total_msat - channel.our_msat;
                if amount_msat + channel.reserve() > theirs {
                    return Err("WIRE_TEMPORARY_CHANNEL_FAILURE");
                }
                channel.our_msat += amount_msat;
                Ok(Change::Channel(channel))
            };
            match invoices::receive(node, from, &payment_hash, &payment_secret, amount_msat, credit) {
                Ok(preimage) => PeerReply::Paid { preimage },
                Err(reason) => PeerReply::Failed { reason: reason.into() },
            }
        }
    };
    serde_json::to_value(answer).expect("plain data")
}

fn accept(
    node: &Node,
    peer: PublicKey,
    channel_id: String,
    funding: OutPoint,
    total_msat: u64,
    push_msat: u64,
    private: bool,
) -> PeerReply {
    let least = node.options.number("min-capacity-sat", 10_000u64).unwrap_or(10_000);
    if total_msat / 1000 < least || push_msat > total_msat {
        return PeerReply::Failed {
            reason: format!("channel capacity is {}sat, which is below {least}sat", total_msat / 1000),
        };
    }
    let channel = Channel {
        peer,
        id: channel_id,
        funding,
        total_msat,
        our_msat: push_msat,
        pushed_msat: push_msat,
        we_opened: false,
        private,
        state: ChannelState::AwaitingLockin,
        short_channel_id: None,
    };
    node.commit(&mut node.store(), vec![Change::Channel(channel)]);
    PeerReply::Fine
}

/// BOLT 2: the funding transaction's id, with the output's index mixed into its last two bytes.
fn channel_id(funding: &OutPoint) -> String {
    let mut id = funding.txid.to_byte_array();
    let [.., high, low] = funding.vout.to_be_bytes();
    id[30] ^= high;
    id[31] ^= low;
    hex::encode(id)
}

/// An amount in satoshi, or everything (`None`).
fn amount_or_all(params: &Params) -> Result<Option<Amount>, RpcError> {
    let text = params.token("amount").expect("required");
    if text == "all" {
        return Ok(None);
    }
    let sat = match text.parse() {
        Ok(sat) => Some(sat),
        Err(_) => parse_msat(&text).filter(|msat| msat % 1000 == 0).map(|msat| msat / 1000),
    };
    sat.map(|sat| Some(Amount::from_sat(sat)))
        .ok_or_else(|| params.bad("amount", "should be a satoshi amount"))
}

/// A channel to open.
struct ChannelRequest {
    peer: PublicKey,
    push_msat: u64,
    private: bool,
}

/// The id in `ID` or `ID@HOST:PORT`.
fn id_of(destination: &str) -> Option<PublicKey> {
    destination.split('@').next()?.parse().ok()
}

/// The script of the channel's output.
fn script_with(node: &Node, peer: &PublicKey) -> ScriptBuf {
    let mut keys = [node.id.serialize(), peer.serialize()];
    keys.sort_unstable();
    let redeem = script::Builder::new().push_int(2).push_slice(keys[0]).push_slice(keys[1]).push_int(2);
    let redeem = redeem.push_opcode(OP_CHECKMULTISIG).into_script();
    ScriptBuf::new_p2wsh(&redeem.wscript_hash())
}

/// `fundchannel`.
pub(super) async fn fund(node: &Arc<Node>, params: &Params) -> RpcResult {
    let text = params.token("id").expect("required");
    let peer = id_of(&text).ok_or_else(|| params.bad("id", "should be a node id"))?;
    let amount = amount_or_all(params)?;
    let push_msat = params.msat("push_msat")?.unwrap_or(0);
    let private = !params.bool("announce")?.unwrap_or(true);
    peers::ensure_connected(node, peer).await?;
    let script = script_with(node, &peer);
    let paying = match amount {
        Some(amount) => Outputs::Amounts(vec![(amount, script)]),
        None => Outputs::Everything(script),
    };
    let (tx, channels) = open(node, &[ChannelRequest { peer, push_msat, private }], paying).await?;
    let Channel { id, funding, .. } = &channels[0];
    Ok(json!({
        "tx": tx, "txid": funding.txid, "channel_id": id, "outnum": funding.vout, "channel_type": channel_type(),
    }))
}

fn channel_type() -> Value {
    json!({"bits": [12, 22], "names": ["static_remotekey/even", "anchors/even"]})
}

/// `multifundchannel`: opens all of the channels or none.
pub(super) async fn fund_many(node: &Arc<Node>, params: &Params) -> RpcResult {
    let bad = |problem: &str| params.bad("destinations", problem);
    let destinations = params.value("destinations").and_then(Value::as_array);
    let destinations =
        destinations.filter(|list| !list.is_empty()).ok_or_else(|| bad("should be an array"))?;
    let (mut wanted, mut outputs) = (Vec::new(), Vec::new());
    for destination in destinations {
        let text = destination["id"].as_str().unwrap_or_default();
        let peer = id_of(text).ok_or_else(|| bad("each should have the id of a node"))?;
        if wanted.iter().any(|other: &ChannelRequest| other.peer == peer) {
            return Err(bad("each should be another node"));
        }
        // `all`, shares and feerates are not simulated.
        let amount = destination["amount"].as_u64().map(Amount::from_sat);
        let amount = amount.ok_or_else(|| bad("each should have an amount in satoshi"))?;
        let push_msat = destination["push_msat"].as_u64().unwrap_or(0);
        let private = !destination["announce"].as_bool().unwrap_or(true);
        match text.split_once('@') {
            Some((_, address)) => peers::ensure_connected_at(node, peer, address).await?,
            None => peers::ensure_connected(node, peer).await?,
        }
        wanted.push(ChannelRequest { peer, push_msat, private });
        outputs.push((amount, script_with(node, &peer)));
    }
    let (tx, channels) = open(node, &wanted, Outputs::Amounts(outputs)).await?;
    let ids = channels.iter().map(|channel| {
        json!({
            "id": channel.peer.to_string(), "channel_id": channel.id, "outnum": channel.funding.vout,
            "channel_type": channel_type(),
        })
    });
    let txid = channels[0].funding.txid;
    Ok(json!({"tx": tx, "txid": txid, "channel_ids": ids.collect::<Vec<_>>(), "failed": []}))
}

/// Negotiates with the other ends, sends the transaction and stores the channels; returns the transaction as hex.
async fn open(
    node: &Arc<Node>,
    wanted: &[ChannelRequest],
    paying: Outputs,
) -> Result<(String, Vec<Channel>), RpcError> {
    let _spending = node.spending.lock().await;
    let funding = wallet::fund(node, paying).await?;
    let txid = funding.tx.compute_txid();
    let mut channels: Vec<Channel> = Vec::new();
    for ((vout, wanted), amount) in (0..).zip(wanted).zip(&funding.amounts) {
        let &ChannelRequest { peer, push_msat, private } = wanted;
        let (outpoint, total_msat) = (OutPoint { txid, vout }, amount.to_sat() * 1000);
        let id = channel_id(&outpoint);
        let question =
            PeerRequest::Open { channel_id: id.clone(), funding: outpoint, total_msat, push_msat, private };
        let refused = if push_msat > total_msat {
            Some(RpcError::new(300, "push_msat is more than the channel holds"))
        } else {
            match ask(node, &peer, &question).await {
                Some(PeerReply::Fine) => None,
                Some(PeerReply::Failed { reason }) => {
                    Some(RpcError::general(format!("They sent ERROR channel {id}: {reason}")))
                }
                _ => Some(RpcError::new(305, "Peer did not answer to the opening of the channel")),
            }
        };
        if let Some(error) = refused {
            abort(node, channels).await;
            return Err(error);
        }
        channels.push(Channel {
            peer,
            id,
            funding: outpoint,
            total_msat,
            our_msat: total_msat - push_msat,
            pushed_msat: push_msat,
            we_opened: true,
            private,
            state: ChannelState::AwaitingLockin,
            short_channel_id: None,
        });
    }
    let tx = serialize_hex(&funding.tx);
    if let Err(error) = node.bitcoin.call("sendrawtransaction", json!([tx])).await {
        abort(node, channels).await;
        return Err(RpcError::new(303, error.to_string()));
    }
    let mut changes = funding.changes;
    changes.extend(channels.iter().cloned().map(Change::Channel));
    node.commit(&mut node.store(), changes);
    Ok((tx, channels))
}

/// Tells the other ends that the opening failed. As with the real daemon, an end that is not told keeps waiting for the
/// transaction.
async fn abort(node: &Arc<Node>, channels: Vec<Channel>) {
    for Channel { peer, id, .. } in channels {
        drop(ask(node, &peer, &PeerRequest::Abort { channel_id: id }).await);
    }
}

/// Activates the channel when the funding transaction has been mined.
pub(super) fn locked_in(node: &Node, channel_id: &str, short_channel_id: String) {
    let mut store = node.store();
    let Some(mut channel) = store.channels.get(channel_id).cloned() else { return };
    channel.state = ChannelState::Normal;
    node.log.info(&format!(
        "{}-channeld: State changed from CHANNELD_AWAITING_LOCKIN to CHANNELD_NORMAL",
        channel.peer
    ));
    channel.short_channel_id = Some(short_channel_id);
    node.commit(&mut store, vec![Change::Channel(channel)]);
}

/// `listpeerchannels`.
pub(super) fn list(node: &Node, params: &Params) -> RpcResult {
    let id = params.node_id("id")?;
    let (scid, cid) = (params.token("short_channel_id"), params.token("channel_id"));
    let store = node.store();
    let wanted = store.channels.values().filter(|channel| {
        id.is_none_or(|id| id == channel.peer)
            && scid.as_ref().is_none_or(|scid| channel.short_channel_id.as_ref() == Some(scid))
            && cid.as_ref().is_none_or(|cid| channel.id == *cid)
    });
    let channels = wanted.map(|channel| {
        let connected = node.peers.is_connected(&channel.peer);
        let funded = if channel.we_opened { (channel.total_msat, 0) } else { (0, channel.total_msat) };
        let theirs = channel.total_msat - channel.our_msat;
        let fee_base = node.options.number("fee-base", 1u64).unwrap_or(1);
        let fee_rate = node.options.number("fee-per-satoshi", 10u64).unwrap_or(10);
        let update = json!({
            "htlc_minimum_msat": 0, "htlc_maximum_msat": channel.total_msat - channel.reserve(), "cltv_expiry_delta": 6,
            "fee_base_msat": fee_base, "fee_proportional_millionths": fee_rate,
        });
        let mut shown = json!({
            "peer_id": channel.peer.to_string(),
            "peer_connected": connected,
            "channel_type": {"bits": [12, 22], "names": ["static_remotekey/even", "anchors/even"]},
            "updates": {"local": update},
            "state": state_name(channel.state),
            "lost_state": false,
            "owner": "channeld",
            "channel_id": channel.id,
            "funding_txid": channel.funding.txid,
            "funding_outnum": channel.funding.vout,
            "private": channel.private,
            "opener": if channel.we_opened { "local" } else { "remote" },
            "features": ["option_static_remotekey", "option_anchors"],
            "funding": {"local_funds_msat": funded.0, "remote_funds_msat": funded.1, "pushed_msat": channel.pushed_msat, "withheld": false},
            "to_us_msat": channel.our_msat,
            "total_msat": channel.total_msat,
            "fee_base_msat": fee_base,
            "fee_proportional_millionths": fee_rate,
            "dust_limit_msat": 546_000,
            "our_reserve_msat": channel.reserve(),
            "their_reserve_msat": channel.reserve(),
            "spendable_msat": channel.spendable(),
            "receivable_msat": theirs.saturating_sub(channel.reserve()),
            "htlcs": [],
        });
        if connected {
            shown["reestablished"] = json!(true);
        }
        if let Some(scid) = &channel.short_channel_id {
            shown["short_channel_id"] = json!(scid);
            shown["direction"] = json!(u8::from(node.id.serialize() > channel.peer.serialize()));
        }
        shown
    });
    Ok(json!({"channels": channels.collect::<Vec<_>>()}))
}

/// `listchannels`: this node's public channels, in both directions; there is no gossip.
pub(super) fn list_gossip(node: &Node, params: &Params) -> RpcResult {
    let scid = params.token("short_channel_id");
    let (source, destination) = (params.node_id("source")?, params.node_id("destination")?);
    let store = node.store();
    let mut channels = Vec::new();
    for channel in
        store.channels.values().filter(|channel| channel.state == ChannelState::Normal && !channel.private)
    {
        for (from, to) in [(node.id, channel.peer), (channel.peer, node.id)] {
            let wanted = source.is_none_or(|source| source == from)
                && destination.is_none_or(|destination| destination == to)
                && scid.as_ref().is_none_or(|scid| channel.short_channel_id.as_ref() == Some(scid));
            if wanted {
                let direction = u8::from(from.serialize() > to.serialize());
                channels.push(json!({
                    "source": from.to_string(), "destination": to.to_string(),
                    "short_channel_id": channel.short_channel_id, "direction": direction, "public": true,
                    "amount_msat": channel.total_msat, "message_flags": 1, "channel_flags": direction, "active": true,
                    "last_update": now(), "base_fee_millisatoshi": 1, "fee_per_millionth": 10, "delay": 6,
                    "htlc_minimum_msat": 0, "htlc_maximum_msat": channel.total_msat, "features": "",
                }));
            }
        }
    }
    Ok(json!({"channels": channels}))
}

/// `pay`.
pub(super) async fn pay(node: &Arc<Node>, params: &Params) -> RpcResult {
    let text = params.token("bolt11").expect("required");
    let payment = send(node, &text, params.msat("amount_msat")?, Form::Pay).await?;
    Ok(json!({
        "destination": payment.destination.to_string(), "payment_hash": payment.hash,
        "created_at": payment.created_at, "parts": 1, "amount_msat": payment.amount_msat,
        "amount_sent_msat": payment.amount_msat, "payment_preimage": payment.preimage, "status": "complete",
    }))
}

/// `xpay`.
pub(super) async fn xpay(node: &Arc<Node>, params: &Params) -> RpcResult {
    let text = params.token("invstring").expect("required");
    let payment = send(node, &text, params.msat("amount_msat")?, Form::Xpay).await?;
    Ok(json!({
        "payment_preimage": payment.preimage, "amount_msat": payment.amount_msat,
        "amount_sent_msat": payment.amount_msat, "failed_parts": 0, "successful_parts": 1,
    }))
}

/// The two commands, which have different error messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Pay,
    Xpay,
}

async fn send(node: &Arc<Node>, text: &str, amount: Option<u64>, form: Form) -> Result<Payment, RpcError> {
    let say = |pay: &str, xpay: &str| RpcError::params(if form == Form::Pay { pay } else { xpay });
    let text = text.strip_prefix("lightning:").unwrap_or(text);
    let invoice: Bolt11Invoice = text.parse().map_err(|error| {
        say(&format!("Invalid bolt11: {error}"), &format!("Invalid bolt11 invoice: {error}"))
    })?;
    let amount_msat = match (invoice.amount_milli_satoshis(), amount) {
        (Some(_), Some(_)) => return Err(say("msatoshi parameter unnecessary", "amount_msat unnecessary")),
        (None, None) => return Err(say("msatoshi parameter required", "amount_msat required")),
        (Some(msat), None) | (None, Some(msat)) => msat,
    };
    let payment_hash = invoice.payment_hash().to_string();
    let destination = invoice.get_payee_pub_key();
    let earlier = node.store().payments.get(&payment_hash).cloned();
    match earlier {
        Some(payment) if payment.status == PaymentStatus::Complete => return Ok(payment),
        Some(payment) if payment.status == PaymentStatus::Pending => return settle(node, payment).await,
        _ => {}
    }
    let expired = invoice.expires_at().map_or(0, |at| now().saturating_sub(at.as_secs()));
    if expired > 0 {
        let message = match form {
            Form::Pay => "Invoice expired".to_owned(),
            Form::Xpay => format!("Invoice expired {expired} seconds ago"),
        };
        return Err(RpcError::new(207, message));
    }
    // Without a connection there is no usable channel either.
    drop(peers::ensure_connected(node, destination).await);
    let payment = {
        let mut store = node.store();
        let usable = store.channels.values().filter(|channel| {
            channel.peer == destination
                && channel.state == ChannelState::Normal
                && channel.spendable() >= amount_msat
                && node.peers.is_connected(&channel.peer)
        });
        let Some(mut channel) = usable.max_by_key(|channel| channel.our_msat).cloned() else {
            return Err(match form {
                // The real daemon's code.
                Form::Pay => RpcError::new(
                    0,
                    format!(
                        "Destination {destination} is not reachable directly and all routehints were unusable."
                    ),
                ),
                Form::Xpay => RpcError::new(205, format!("Failed: could not find a route to {destination}")),
            });
        };
        let mut counters = store.counters;
        counters.payments += 1;
        channel.our_msat -= amount_msat;
        let payment = Payment {
            hash: payment_hash,
            bolt11: text.to_owned(),
            destination,
            channel_id: channel.id.clone(),
            amount_msat,
            status: PaymentStatus::Pending,
            preimage: None,
            created_at: now(),
            completed_at: None,
            index: counters.payments,
            updated_index: None,
        };
        let changes =
            vec![Change::Counters(counters), Change::Channel(channel), Change::Payment(payment.clone())];
        node.commit(&mut store, changes);
        payment
    };
    settle(node, payment).await
}

/// Repeats the request until the payee answers. That is safe: the payee settles once, and remembers the payer.
async fn settle(node: &Arc<Node>, payment: Payment) -> Result<Payment, RpcError> {
    let started = tokio::time::Instant::now();
    let secret =
        payment.bolt11.parse::<Bolt11Invoice>().map(|invoice| hex::encode(invoice.payment_secret().0));
    let question = PeerRequest::Pay {
        channel_id: payment.channel_id.clone(),
        payment_hash: payment.hash.clone(),
        payment_secret: secret.unwrap_or_default(),
        amount_msat: payment.amount_msat,
    };
    let reason = loop {
        match ask(node, &payment.destination, &question).await {
            Some(PeerReply::Paid { preimage }) => {
                let bytes = hex::decode(&preimage).unwrap_or_default();
                if sha256::Hash::hash(&bytes).to_string() == payment.hash {
                    return Ok(conclude(node, payment, Some(preimage)));
                }
                break "the payee sent a wrong preimage".into();
            }
            Some(PeerReply::Failed { reason }) => break reason,
            Some(PeerReply::Fine) => break "the payee answered something else".into(),
            None if started.elapsed() > RETRY_TIMEOUT => {
                return Err(RpcError::new(210, "Timed out after 60 seconds, the payment is still pending"));
            }
            None => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                drop(peers::ensure_connected(node, payment.destination).await);
            }
        }
    };
    conclude(node, payment, None);
    Err(RpcError::new(203, format!("failed: {reason} (reply from remote)")))
}

/// Stores the outcome, once; a failed payment returns to the channel.
fn conclude(node: &Node, payment: Payment, preimage: Option<String>) -> Payment {
    let mut store = node.store();
    match store.payments.get(&payment.hash) {
        // Another call waited for the same payment, and was first.
        Some(done) if done.status != PaymentStatus::Pending => return done.clone(),
        _ => {}
    }
    let mut changes = Vec::new();
    let status = if preimage.is_some() { PaymentStatus::Complete } else { PaymentStatus::Failed };
    if status == PaymentStatus::Failed
        && let Some(mut channel) = store.channels.get(&payment.channel_id).cloned()
    {
        channel.our_msat += payment.amount_msat;
        changes.push(Change::Channel(channel));
    }
    let mut counters = store.counters;
    counters.payments_updated += 1;
    let updated_index = Some(counters.payments_updated);
    let payment = Payment { status, preimage, completed_at: Some(now()), updated_index, ..payment };
    changes.push(Change::Payment(payment.clone()));
    if status == PaymentStatus::Complete {
        counters.moves += 1;
        changes.push(Change::Move(ChannelMove {
            index: counters.moves,
            channel_id: payment.channel_id.clone(),
            credit_msat: 0,
            debit_msat: payment.amount_msat,
            hash: payment.hash.clone(),
            at: now(),
        }));
    }
    changes.push(Change::Counters(counters));
    node.commit(&mut store, changes);
    payment
}

/// Continues pending payments after a new connection.
pub(super) fn resume(node: &Arc<Node>, peer: PublicKey) {
    let pending: Vec<_> = {
        let store = node.store();
        let pending =
            |payment: &&Payment| payment.destination == peer && payment.status == PaymentStatus::Pending;
        store.payments.values().filter(pending).cloned().collect()
    };
    for payment in pending {
        let node = Arc::clone(node);
        // Nobody waits for it; the outcome is stored.
        tokio::spawn(async move { drop(settle(&node, payment).await) });
    }
}

/// `listpays`.
pub(super) fn list_pays(node: &Node, params: &Params) -> RpcResult {
    let (bolt11, hash) = (params.token("bolt11"), params.hash("payment_hash")?);
    let status = params.token("status");
    let name = indexes::status_name;
    let store = node.store();
    let mut wanted: Vec<&Payment> = store
        .payments
        .values()
        .filter(|payment| {
            bolt11.as_ref().is_none_or(|bolt11| payment.bolt11 == *bolt11)
                && hash.as_ref().is_none_or(|hash| payment.hash == *hash)
                && status.as_ref().is_none_or(|status| name(payment.status) == status)
        })
        .collect();
    wanted.sort_by_key(|payment| payment.index);
    let pays = wanted.into_iter().map(|payment| {
        let mut shown = json!({
            "bolt11": payment.bolt11, "destination": payment.destination.to_string(),
            "payment_hash": payment.hash, "status": name(payment.status), "created_at": payment.created_at,
            "amount_msat": payment.amount_msat, "amount_sent_msat": payment.amount_msat,
            "created_index": payment.index,
        });
        if let Some(preimage) = &payment.preimage {
            shown["preimage"] = json!(preimage);
        }
        if let Some(at) = payment.completed_at.filter(|_| payment.preimage.is_some()) {
            shown["completed_at"] = json!(at);
        }
        shown
    });
    Ok(json!({"pays": pays.collect::<Vec<_>>()}))
}
