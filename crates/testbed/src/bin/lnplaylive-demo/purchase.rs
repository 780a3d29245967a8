//! One purchase, from the order to nodes that answer.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use indicatif::HumanCount;
use lnplaylive_core::progress::Progress;
use lnplaylive_core::{ConnectionString, Terms};
use serde::Deserialize;
use serde_json::{Value, json};
use sim_lightning::commando::Client;
use testbed::Shop;
use tokio::task::JoinSet;

use crate::screen::Screen;
use crate::timeline::Timeline;

/// Many times what an environment needs on a slow machine, including the boot of a virtual machine.
const PROVISIONING_TIMEOUT: Duration = Duration::from_secs(600);
/// A running node answers in milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// JSON-RPC's code for an unknown method.
const UNKNOWN_METHOD: i32 = -32601;

/// A completed purchase.
#[derive(Debug)]
pub(crate) struct Purchase {
    /// The answer of `lnplaylive-createorder`.
    pub(crate) order: Value,
    /// The last answer of `lnplaylive-invoicestatus`.
    pub(crate) status: Value,
}

/// Orders, pays as the customer, follows the order as a buyer's page does, and connects to the nodes.
pub(crate) async fn buy(
    shop: &Shop,
    terms: &Terms,
    screen: &mut Screen,
    timeline: &mut Timeline,
) -> anyhow::Result<Purchase> {
    let order = shop.order(terms.node_count, terms.hours).await.map_err(|error| {
        let refused = match error.code {
            Some(UNKNOWN_METHOD) => {
                let log = shop.host.node.log_path();
                format!("the plugin is not running; {} shows why, near its name", log.display())
            }
            _ => "the shop refused the order".into(),
        };
        anyhow::Error::new(error).context(refused)
    })?;
    timeline.mark("ordered");
    let (id, bolt11) = (text(&order, "invoice_id")?, text(&order, "bolt11_invoice")?);
    screen.event(format_args!(
        "ordered {} nodes for {} hours at {} sat; the invoice:",
        terms.node_count,
        terms.hours,
        HumanCount(order["amount_msat"].as_u64().unwrap_or_default() / 1000)
    ));
    screen.invoice(bolt11);

    let pay =
        async { shop.host.customer.pay(bolt11).await.context("the customer could not pay the invoice") };
    let follow = async {
        let seen = |status: &Value| watch(status, screen, timeline);
        shop.follow(id, PROVISIONING_TIMEOUT, seen).await.context("the order did not get to its end")
    };
    let (_, followed) = tokio::try_join!(pay, follow)?;
    timeline.span("paid_to_provisioned", "paid", "provisioned");
    let outcome = &followed["deployment_details"];
    ensure!(
        outcome["status"] == "provisioned",
        "the order ended as {}: {}",
        outcome["status"],
        outcome["progress"]["message"]
    );

    let status = shop.status(id).await.context("the order's status could not be read")?;
    let strings = connection_strings(&status)?;
    ensure!(
        strings.len() == terms.node_count as usize,
        "{} connection strings came for {} nodes",
        strings.len(),
        terms.node_count
    );
    dial_all(&strings).await?;
    timeline.mark("dialled");
    screen.event(format_args!("{0} of {0} nodes answer, each to its own connection string", strings.len()));
    Ok(Purchase { order, status })
}

/// Records and shows the news in a status.
fn watch(status: &Value, screen: &mut Screen, timeline: &mut Timeline) {
    if status["invoice_status"] != "paid" {
        return;
    }
    if timeline.at("paid").is_none() {
        timeline.mark("paid");
        screen.event("the demo's customer pays it");
    }
    if let Ok(progress) = Progress::deserialize(&status["deployment_details"]["progress"]) {
        timeline.mark(&progress.step.replace('-', "_"));
        screen.progress(&progress);
    }
}

fn text<'a>(answer: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    answer[key].as_str().with_context(|| format!("there is no {key} in {answer}"))
}

fn connection_strings(status: &Value) -> anyhow::Result<Vec<ConnectionString>> {
    let list = status["deployment_details"]["connection_strings"].as_array();
    let list = list.with_context(|| format!("there are no connection strings in {status}"))?;
    let parse = |one: &Value| one.as_str().unwrap_or_default().parse().map_err(anyhow::Error::from);
    list.iter().map(parse).collect()
}

/// Connects to all nodes at the same time, each with its own rune. The node's id must be the one in the string.
async fn dial_all(strings: &[ConnectionString]) -> anyhow::Result<()> {
    let mut calls: JoinSet<_> = strings.iter().cloned().map(dial).collect();
    let mut failures = Vec::new();
    while let Some(outcome) = calls.join_next().await {
        failures.extend(outcome?.err().map(|error| format!("\n  {error:#}")));
    }
    if !failures.is_empty() {
        bail!("{} of {} nodes do not answer:{}", failures.len(), strings.len(), failures.concat());
    }
    Ok(())
}

async fn dial(string: ConnectionString) -> anyhow::Result<()> {
    let (node, address) = (string.node_id.as_str(), string.endpoint.to_string());
    let call = async {
        let client = Client::connect(&address, node).await?.with_limit(ANSWER_TIMEOUT);
        let info = client.call(&string.rune, "getinfo", json!({})).await?;
        ensure!(info["id"] == node, "the node's id is {}", info["id"]);
        Ok(())
    };
    call.await.with_context(|| format!("{node} at {address}"))
}
