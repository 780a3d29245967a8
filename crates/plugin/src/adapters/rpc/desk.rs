//! The organiser's desk, `lnplaylive-desk`: for the holder of an order, who acts on its environment.

use std::sync::Arc;

use lnplaylive_core::ChannelSetup;
use lnplaylive_core::desk::{Action, Did, Kind, LeftOut, MAX_REQUEST_CHARS, RequestId};
use lnplaylive_core::{Order, State};
use serde_json::{Value, json};

use super::error::{Answer, Failure};
use super::params::Params;
use crate::core::Shop;
use crate::core::desk::Acted;

pub(super) async fn desk(shop: &Arc<Shop>, params: Value) -> Answer {
    let params =
        Params::read(params, &["invoice_id", "action", "node", "sat", "setup", "blocks", "request"])?;
    let id = params.order_id()?;
    let action = action(&params)?;
    let acted = shop.desk.act(id, &action).await?;
    let snapshot = shop.probes.shown(acted.snapshot.clone());
    let mut answer = shown(&acted);
    answer["invoice_id"] = json!(id);
    answer["revision"] = json!(snapshot.revision(shop.clock.now()));
    Ok(answer)
}

/// The action that the parameters name. Numbers that are too large for any environment are refused like others that are
/// too large for this one.
fn action(params: &Params) -> Result<Action, Failure> {
    let kind = params.text("action")?.and_then(Kind::from_name).ok_or_else(|| {
        let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        Failure::invalid_param("action", format!("action must be one of {}", names.join(", ")))
            .allowing(Kind::ALL)
    })?;
    let small = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let node = || Ok::<_, Failure>(small(params.integer("node")?.unwrap_or(i64::MAX)));
    let request = || {
        let Some(text) = params.text("request")? else { return Ok(None) };
        let wrong = format!("request must be 1 to {MAX_REQUEST_CHARS} ASCII letters, digits and hyphens");
        RequestId::new(text).map(Some).ok_or_else(|| Failure::invalid_param("request", wrong))
    };
    Ok(match kind {
        Kind::Look => Action::Look,
        Kind::NewCard => Action::NewCard { node: node()?, request: request()? },
        Kind::SendCoins => Action::SendCoins {
            node: params.optional_integer("node")?.map(small),
            sat: params.integer("sat")?.and_then(|sat| u64::try_from(sat).ok()).unwrap_or_default(),
            request: request()?,
        },
        Kind::OpenChannels => Action::OpenChannels { setup: setup(params)? },
        Kind::Mine => Action::Mine { blocks: small(params.integer_or("blocks", 1)?), request: request()? },
        Kind::PauseBlocks => Action::PauseBlocks,
        Kind::ResumeBlocks => Action::ResumeBlocks,
        Kind::SwitchOff => Action::SwitchOff { node: node()? },
        Kind::SwitchOn => Action::SwitchOn { node: node()? },
    })
}

fn setup(params: &Params) -> Result<ChannelSetup, Failure> {
    let given = params.text("setup")?.and_then(ChannelSetup::from_name);
    given.filter(|setup| *setup != ChannelSetup::None).ok_or_else(|| {
        let message = "setup must be one of star, circular, prism";
        Failure::invalid_param("setup", message).allowing(["star", "circular", "prism"])
    })
}

/// What callers see of an action. Names come from the order, since whoever is root in the instance can answer anything.
fn shown(acted: &Acted) -> Value {
    let Acted { did, overview, snapshot } = acted;
    let order = &snapshot.order;
    let count = order.terms.node_count;
    let nodes: Vec<_> = overview
        .nodes
        .iter()
        .filter(|node| node.index < count)
        .take(count as usize)
        .map(|node| {
            json!({
                "index": node.index,
                "name": name(order, node.index),
                "state": node.state,
                "block_height": node.block_height,
            })
        })
        .collect();
    json!({
        "did": shown_did(did, order),
        "block_height": overview.block_height,
        "blocks_paused": overview.blocks_paused,
        "nodes": nodes,
    })
}

/// What was done, with the connection string in place of a new rune.
fn shown_did(did: &Did, order: &Order) -> Value {
    let left_out = |left_out: &[LeftOut]| {
        let known = left_out.iter().filter(|one| one.node < order.terms.node_count);
        known.take(order.terms.node_count as usize).copied().collect::<Vec<_>>()
    };
    match did {
        Did::NewCard { node, .. } => {
            json!({ "what": "new_card", "node": node, "connection_string": string(order, *node) })
        }
        // Not for callers; none of their actions is answered in this way.
        Did::Cards { .. } => json!({ "what": "looked" }),
        Did::CoinsSent { nodes, sat, left_out: out } => {
            let nodes: Vec<_> =
                nodes.iter().filter(|node| **node < order.terms.node_count).take(64).collect();
            json!({ "what": "coins_sent", "nodes": nodes, "sat": sat, "left_out": left_out(out) })
        }
        Did::ChannelsOpened { opened, open_already, left_out: out } => json!({
            "what": "channels_opened",
            "opened": opened,
            "open_already": open_already,
            "left_out": left_out(out),
        }),
        other => json!(other),
    }
}

fn string(order: &Order, node: u32) -> Option<&lnplaylive_core::ConnectionString> {
    let State::Provisioned { handover, .. } = &order.state else { return None };
    handover.connection_strings.get(node as usize)
}

fn name(order: &Order, node: u32) -> Option<&str> {
    string(order, node)?.name.as_deref()
}
