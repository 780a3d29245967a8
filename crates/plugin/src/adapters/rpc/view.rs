//! Orders and offers as JSON, for buyers and for the operator.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lnplaylive_core::health::Condition;
use lnplaylive_core::order::{Handover, Placement, Replaced};
use lnplaylive_core::progress::{Progress, Step};
use lnplaylive_core::readiness::{NodeReport, Standing};
use lnplaylive_core::{Catalogue, ChannelSetup, CoinDistribution, Health, Order, State};
use serde_json::{Value, json};

use crate::core::Snapshot;
use crate::core::node_watch::NodeState;
use crate::core::storefront::{Offer, Storefront};

/// The plugin's version, as buyers see it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The percentages between which `lnplay up` lies.
const UP: (u32, u32) = (25, 99);

/// Names of the states that operators can filter by.
pub(super) const STATES: [&str; 9] = [
    "created",
    "queued",
    "placing",
    "deploying",
    "provisioned",
    "expired",
    "failed",
    "cancelled",
    "refunded",
];

/// Percentage of the whole when `done` of `total` units of a step of `lnplay up` are done.
fn share(step: &str, done: u32, total: u32) -> u32 {
    let (from, to) = UP;
    from + Step::from_name(step).map_or(0, |step| step.overall(done, total, to - from))
}

/// What is sold: the answer of `lnplaylive-products`.
pub(crate) fn storefront(shown: &Storefront) -> Value {
    json!({
        "open": shown.awaited.is_none(),
        "not_open_yet": shown.awaited,
        "products": shown.offers.iter().map(|one| offer(one, shown.awaited.is_none())).collect::<Vec<_>>(),
        "min_hours": shown.min_hours,
        "max_hours": shown.max_hours,
        "coin_distributions": CoinDistribution::ALL,
        "channel_setups": ChannelSetup::ALL,
        "contact": shown.contact,
    })
}

/// A product and its availability.
fn offer(offer: &Offer, open: bool) -> Value {
    let Offer { product, available_count, next_available_at, payable_hours } = offer;
    // In the order in which createorder refuses.
    let reason = if !open {
        Some("not_open_yet")
    } else if *payable_hours == 0 {
        Some("too_large_to_receive")
    } else if *available_count == 0 {
        Some("sold_out")
    } else {
        None
    };
    json!({
        "sku": product.sku,
        "node_count": product.node_count,
        "msat_per_node_hour": product.msat_per_node_hour,
        "available": reason.is_none(),
        "unavailable_because": reason,
        "payable_hours": payable_hours,
        "available_count": available_count,
        "next_available_at": next_available_at,
    })
}

/// The node's condition, for the operator: the answer of `lnplayops-node`.
pub(super) fn node(known: &NodeState, require_inbound: Option<bool>, catalogue: &Catalogue) -> Value {
    let report = known.last.as_ref().map(|(_, report)| report);
    let count = |standing| report.map(|report| report.count(standing));
    let mut by_state = BTreeMap::<&str, u32>::new();
    for channel in report.iter().flat_map(|report| &report.channels) {
        *by_state.entry(&channel.state).or_default() += 1;
    }
    let limit = known.readiness.limit_msat();
    let products = catalogue.products().iter().map(|product| {
        json!({
            "sku": product.sku,
            "node_count": product.node_count,
            "payable_hours": known.readiness.payable_hours(product, catalogue),
            "max_hours": catalogue.max_hours(),
        })
    });
    let warned = known.last_warnings.as_ref();
    json!({
        "as_of": known.last.as_ref().map(|(at, _)| at),
        "last_error": known.last_error.as_ref().map(|(at, error)| json!({ "at": at, "error": error })),
        "open": known.readiness.awaited().is_none(),
        "not_open_yet": known.readiness.awaited(),
        "what": known.readiness.awaited().map(|awaited| awaited.to_string()),
        "id": report.map(|report| &report.id),
        "network": report.map(|report| &report.network),
        "sync": report.map(|report| report.sync),
        "block_height": report.map(|report| report.height),
        "bitcoind": report.and_then(|report| report.chain),
        "peers": report.map(|report| report.peers),
        "channels": {
            "usable": count(Standing::Usable),
            "offline": count(Standing::Offline),
            "opening": count(Standing::Opening),
            "closing": count(Standing::Closing),
            "by_state": by_state,
        },
        "receivable_msat": report.map(NodeReport::receivable_msat),
        "spendable_msat": report.map(NodeReport::spendable_msat),
        "requires_inbound": report.map(|report| report.requires_inbound(require_inbound)),
        "largest_payable_msat": limit,
        "products": products.collect::<Vec<_>>(),
        "invoices_with_warnings": known.invoices_with_warnings,
        "last_warnings": warned.map(|last| json!({
            "at": last.at,
            "amount_msat": last.amount_msat,
            "warnings": last.warnings,
        })),
        "addresses": report.map(|report| &report.addresses),
    })
}

/// An order for its buyer: the answer of `lnplaylive-invoicestatus`. `contact` is whom to ask about an order that failed.
pub(super) fn buyer_status(shown: &Snapshot, now: Timestamp, contact: Option<&str>) -> Value {
    let Order { id, terms, state, .. } = &shown.order;
    let invoice_status = match state {
        State::Created if shown.order.invoice_expires_at <= now => "expired",
        State::Created => "unpaid",
        _ => "paid",
    };
    let chosen = &terms.customisation;
    json!({
        "invoice_id": id,
        "sku": terms.sku,
        "node_count": terms.node_count,
        "hours": terms.hours,
        "coin_distribution": chosen.coin_distribution,
        "channel_setup": chosen.channel_setup,
        "node_access": chosen.node_access,
        "title": chosen.title,
        "payment_type": "bolt11",
        "invoice_status": invoice_status,
        "deployment_details": deployment(shown, now, contact),
        "revision": shown.revision(now),
    })
}

fn deployment(shown: &Snapshot, now: Timestamp, contact: Option<&str>) -> Value {
    let nothing = Vec::new();
    let (status, expires, strings) = match &shown.order.state {
        State::Created => return "not_deployed".into(),
        State::Queued { .. } => ("queued", None, &nothing),
        State::Placing { placement, .. } | State::Deploying { placement, .. } => {
            ("starting_deployment", Some(placement.expires()), &nothing)
        }
        State::Provisioned { handover, .. } if handover.expires_at <= now => {
            ("expired", Some(handover.expires_at), &nothing)
        }
        State::Provisioned { handover, .. } => {
            ("provisioned", Some(handover.expires_at), &handover.connection_strings)
        }
        State::Failed { .. } => ("failed", None, &nothing),
    };
    let mut details = json!({
        "status": status,
        "vm_expiration_date": expires,
        "lnlive_plugin_version": VERSION,
        "progress": overall(shown),
        "connection_strings": strings,
    });
    if let State::Failed { cancelled, refunded_at, .. } = shown.order.state {
        details["contact"] = json!(contact);
        details["cancelled"] = json!(cancelled);
        details["message"] = json!(failure_message(cancelled, refunded_at, contact));
        details["refunded_at"] = json!(refunded_at);
    }
    if let State::Provisioned { handover, .. } = &shown.order.state {
        if let Some(at) = handover.refunded_at {
            details["refunded_at"] = json!(at);
        }
        if let Some(at) = handover.replaced_at {
            details["replaced_at"] = json!(at);
        }
        if let Some(health) = &shown.health {
            details["health"] = buyer_health(health);
        }
    }
    if shown.order.state.attempts().is_some()
        && let Some(replaced) = &shown.order.replaces
    {
        details["replacing"] = replacing(replaced, now);
    }
    details
}

/// The health of an environment for its buyer. Reasons are the operator's: they name servers.
fn buyer_health(health: &Health) -> Value {
    json!({
        "state": health.condition.name(),
        "since": health.since,
        "nodes_down": health.condition.nodes_down(),
    })
}

/// The environment that is being replaced, which its buyer can use while it stands.
fn replacing(replaced: &Replaced, now: Timestamp) -> Value {
    let Handover { expires_at, connection_strings, .. } = &replaced.handover;
    let usable = replaced.stands() && *expires_at > now;
    json!({
        "since": replaced.asked_at,
        "vm_expiration_date": expires_at,
        "connection_strings": if usable { connection_strings.as_slice() } else { &[] },
    })
}

/// Progress over all steps, in percent. The steps' shares are the times that they took when measured. The page has its own words
/// for each step (`STEPS` in `frontend/src/lib/order.ts`), and shows the message of a step that it does not know.
fn overall(shown: &Snapshot) -> Progress {
    let at = |step: &str, done: u32, message: &str| Progress {
        step: step.to_owned(),
        done,
        total: 100,
        message: message.to_owned(),
    };
    match &shown.order.state {
        State::Created => at("unpaid", 0, "Waiting for the payment"),
        State::Queued { attempts, .. }
            if attempts.faults + attempts.failed > 0 || !attempts.remote_faults.is_empty() =>
        {
            at("queued-again", 0, "Paid. No server could take it yet; trying again")
        }
        State::Queued { .. } if shown.order.replaces.is_some() => {
            at("queued-replacement", 0, "Choosing a server for your new network")
        }
        State::Queued { .. } => at("queued", 0, "Paid. Choosing a server"),
        State::Placing { .. } => at("placing", 5, "Starting a server of your own"),
        State::Deploying { .. } => match &shown.progress {
            Some(Progress { step, done, total, message }) => at(step, share(step, *done, *total), message),
            None => at("booting", 20, "Your server is booting"),
        },
        State::Provisioned { .. } => at("provisioned", 100, "Ready"),
        State::Failed { refunded_at: Some(_), .. } => at("failed", 100, "Paid back by the operator"),
        State::Failed { cancelled: true, .. } => at("failed", 100, "Cancelled by the operator"),
        State::Failed { .. } => at("failed", 100, "It could not be deployed; the operator has been told"),
    }
}

/// An order in a list for the operator.
pub(super) fn operator_summary(shown: &Snapshot, now: Timestamp) -> Value {
    let Order { id, terms, created_at, invoice_expires_at, state, leftovers, history, .. } = &shown.order;
    let (remote, project) = match state {
        State::Provisioned { handover, .. } => (Some(&handover.remote), Some(handover.project)),
        _ => (state.placement().map(|p| &p.remote), state.placement().map(|p| p.project)),
    };
    let expires_at = match state {
        State::Provisioned { handover, .. } => Some(handover.expires_at),
        _ => state.placement().map(Placement::expires),
    };
    let leftovers: Vec<_> =
        leftovers.iter().map(|l| json!({ "remote": l.remote, "project": l.project })).collect();
    let refunded_at = match state {
        State::Failed { refunded_at, .. } => *refunded_at,
        State::Provisioned { handover, .. } => handover.refunded_at,
        _ => None,
    };
    json!({
        "invoice_id": id,
        "state": shown.state(now),
        "sku": terms.sku,
        "node_count": terms.node_count,
        "hours": terms.hours,
        "amount_msat": terms.amount_msat,
        "to_pay_back_msat": shown.order.owed_msat(),
        "refunded_at": refunded_at,
        "created_at": created_at,
        "invoice_expires_at": invoice_expires_at,
        "paid_at": state.paid_at(),
        "remote": remote,
        "project": project,
        "expires_at": expires_at,
        "health": shown.health.as_ref().map(|health| health.condition.name()),
        "leftovers": leftovers,
        "last_event": history.last(),
    })
}

/// An order with all its details for the operator. Connection strings are the buyer's and left out.
pub(super) fn operator_detail(shown: &Snapshot, now: Timestamp) -> Value {
    let Order { terms, state, history, .. } = &shown.order;
    let chosen = &terms.customisation;
    let attempts = state.attempts();
    let (ports, replaced_at) = match state {
        State::Provisioned { handover, .. } => {
            (handover.site.as_ref().map(|site| site.ports), handover.replaced_at)
        }
        _ => (state.placement().map(|p| p.ports), None),
    };
    let mut detail = operator_summary(shown, now);
    let more = json!({
        "coin_distribution": chosen.coin_distribution,
        "channel_setup": chosen.channel_setup,
        "node_access": chosen.node_access,
        "names": chosen.names,
        "title": chosen.title,
        "progress": overall(shown),
        "failed_placements": attempts.map(|a| a.failed),
        "remote_faults": attempts.map(|a| &a.remote_faults),
        "faults_in_a_row": attempts.map(|a| a.faults),
        "next_try_at": attempts.map(|a| a.not_before),
        "first_port": ports.map(|p| p.first),
        "port_count": ports.map(|p| p.count),
        "health": shown.health.as_ref().map(operator_health),
        "replaces": shown.order.replaces.as_ref().map(operator_replaces),
        "replaced_at": replaced_at,
        "history": history,
    });
    if let (Value::Object(detail), Value::Object(more)) = (&mut detail, more) {
        detail.remove("last_event");
        detail.extend(more);
    }
    detail
}

/// The health of an environment for the operator.
fn operator_health(health: &Health) -> Value {
    let what = match &health.condition {
        Condition::Degraded { what, .. } => Some(what),
        Condition::Ok | Condition::Unknown => None,
    };
    let error = health.last_error.as_ref().map(|(at, error)| json!({ "at": at, "error": error }));
    json!({
        "state": health.condition.name(),
        "since": health.since,
        "nodes_down": health.condition.nodes_down(),
        "what": what,
        "probed_at": health.probed_at,
        "last_error": error,
    })
}

/// The environment that is being replaced, for the operator.
fn operator_replaces(replaced: &Replaced) -> Value {
    json!({
        "remote": replaced.handover.remote,
        "project": replaced.handover.project,
        "expires_at": replaced.handover.expires_at,
        "asked_at": replaced.asked_at,
        "stands": replaced.stands(),
    })
}

/// Text for the buyer of an order that failed.
fn failure_message(cancelled: bool, refunded_at: Option<Timestamp>, contact: Option<&str>) -> String {
    let what = if cancelled { "The operator has cancelled this order." } else { "It could not be deployed." };
    let whom = contact.unwrap_or("the shop's operator");
    if let Some(at) = refunded_at {
        let day = at.strftime("%-d %B %Y");
        return format!(
            "{what} Your payment was paid back on {day}. If it has not arrived, ask {whom} and name this order's id."
        );
    }
    format!(
        "{what} It will not be tried again by itself. Your payment is on record: ask {whom} for a new try or your money back, and name this order's id."
    )
}
