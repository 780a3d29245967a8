//! Our RPC methods: parameters in, answers out.
//!
//! Those that begin with `lnplaylive-` can be called by anybody on the internet: they reveal an order
//! only to who holds its id, and change nothing but to add a new order. Those that begin with
//! `lnplayops-` are the operator's.

use std::sync::Arc;
use std::time::Duration;

use cln_plugin::{Builder, RpcMethodBuilder};
use jiff::{SignedDuration, Timestamp};
use lnplaylive::customisation::{CustomisationError, Title};
use lnplaylive::{ChannelSetup, CoinDistribution, Customisation, OrderId};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{Stdin, Stdout};
use tokio::time::{Instant, timeout_at};

use crate::Handle;
use crate::desk::{ApplyError, Desk, Found, NewOrder};
use crate::node::NodeError;
use crate::params::Params;
use crate::store::{self, Shelf};
use crate::view::Snapshot;

/// The longest that `lnplaylive-waitstatus` waits, in seconds.
const LONGEST_WAIT: i64 = 60;
/// Stands for what is no number: outside of every range that is checked later.
const NOT_A_NUMBER: i64 = i64::MIN;

/// An error answer, with a JSON-RPC error code. Codes of our own begin at 7000.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    code: i32,
    message: String,
}

impl Failure {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Wrong parameters.
    pub(crate) fn params(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }

    /// An id of nothing, whatever is wrong with it.
    pub(crate) fn no_such_order() -> Self {
        Self::new(7000, "no such order")
    }

    fn nothing_for_sale() -> Self {
        Self::new(7001, "nothing can be sold now: no remote is configured to provision it on")
    }

    /// The datastore has not been read yet.
    pub(crate) fn starting() -> Self {
        Self::new(-32603, "the shop is starting, try again")
    }

    /// Too many unpaid orders.
    pub(crate) fn busy(seconds: i64) -> Self {
        Self::new(7002, format!("busy, try again in {seconds} seconds"))
    }

    fn not_supported(what: &str) -> Self {
        Self::new(7003, format!("{what} is not supported yet"))
    }

    /// A record that cannot be read.
    pub(crate) fn damaged() -> Self {
        Self::new(7004, "this order's record is damaged; the operator has been told")
    }

    /// Something that the operator asked for and that makes no sense.
    pub(crate) fn refused(error: &ApplyError) -> Self {
        Self::new(7005, error.to_string())
    }

    /// The node did not do its part. Details are for the log.
    pub(crate) fn node(error: &NodeError) -> Self {
        tracing::warn!("{error}");
        Self::new(-32603, "the node cannot do this now, try again")
    }
}

type Answer = Result<Value, Failure>;

/// Adds our methods to the plugin.
pub(crate) fn register(builder: Builder<Arc<Desk>, Stdin, Stdout>) -> Builder<Arc<Desk>, Stdin, Stdout> {
    macro_rules! methods {
        ($($name:literal $usage:literal $handler:ident $description:literal;)+) => {
            builder$(.rpcmethod_from_builder(
                RpcMethodBuilder::new($name, |plugin: Handle, params| {
                    answer(async move { $handler(plugin.state(), params).await })
                })
                .description($description)
                .usage($usage),
            ))+
        };
    }
    methods! {
        "lnplaylive-createorder" "node_count hours [coin_distribution] [channel_setup] [names] [title]" create_order
            "Order an environment; returns its invoice";
        "lnplaylive-invoicestatus" "payment_type invoice_id" invoice_status "How an order stands";
        "lnplaylive-waitstatus" "invoice_id revision [timeout]" wait_status
            "How an order stands, as soon as its revision is not the one given";
        "lnplaylive-products" "" products "What can be ordered, and what it costs";
        "lnplayops-orders" "[which]" orders "Orders: open (default), closed or all";
        "lnplayops-retry" "invoice_id" retry "Try again to provision an order that failed or waits";
        "lnplayops-remotes" "" remotes "How the remotes are";
    }
}

/// Runs a handler in a task of its own, so that one that panics is answered too.
async fn answer(handler: impl Future<Output = Answer> + Send + 'static) -> anyhow::Result<Value> {
    let failure = match tokio::spawn(handler).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(failure)) => failure,
        Err(error) => {
            tracing::error!("a method broke: {error}");
            Failure::new(-32603, "internal error; the operator can see more in the log")
        }
    };
    // cln-plugin takes the code from a message that is such an object.
    Err(anyhow::anyhow!(serde_json::to_string(&failure)?))
}

async fn create_order(desk: &Arc<Desk>, params: Value) -> Answer {
    let params = Params::read(
        params,
        &["node_count", "hours", "coin_distribution", "channel_setup", "names", "title"],
    )?;
    let node_count = params.integer("node_count")?.unwrap_or(NOT_A_NUMBER);
    let hours = params.integer("hours")?.unwrap_or(NOT_A_NUMBER);
    let mut terms = desk.catalogue.quote(node_count, hours).map_err(|e| Failure::params(e.to_string()))?;
    terms.customisation = customisation(&params, terms.node_count)?;
    if !desk.provisioner.has_remotes() {
        return Err(Failure::nothing_for_sale());
    }
    let NewOrder { order, bolt11 } = desk.create_order(terms).await?;
    let lives = SignedDuration::from_hours(order.terms.hours.into());
    Ok(json!({
        "invoice_id": order.id,
        "bolt11_invoice_id": order.id,
        "bolt11_invoice": bolt11,
        "amount_msat": order.terms.amount_msat,
        "sku": order.terms.sku,
        "node_count": order.terms.node_count,
        "hours": order.terms.hours,
        "invoice_expires_at": order.invoice_expires_at,
        "expires_after": order.created_at.checked_add(lives).unwrap_or(Timestamp::MAX),
    }))
}

/// Reads what a buyer may choose beside the size.
fn customisation(params: &Params, node_count: u32) -> Result<Customisation, Failure> {
    let refused = |error: CustomisationError| Failure::params(error.to_string());
    let coins = params.text("coin_distribution")?.map(|name| {
        CoinDistribution::from_name(name).ok_or_else(|| refused(CustomisationError::CoinDistribution))
    });
    let channels = params
        .text("channel_setup")?
        .map(|name| ChannelSetup::from_name(name).ok_or_else(|| refused(CustomisationError::ChannelSetup)));
    let title =
        params.text("title")?.map(|text| Title::new(text).ok_or_else(|| refused(CustomisationError::Title)));
    let chosen = Customisation {
        coin_distribution: coins.transpose()?.unwrap_or_default(),
        channel_setup: channels.transpose()?.unwrap_or_default(),
        title: title.transpose()?,
        names: Vec::new(),
    };
    chosen.with_names(&params.texts("names")?, node_count).map_err(refused)
}

/// Reads an order's id. Whatever is wrong with it, there is no such order.
fn order_id(params: &Params) -> Result<OrderId, Failure> {
    params.required_text("invoice_id")?.parse().map_err(|_| Failure::no_such_order())
}

async fn invoice_status(desk: &Arc<Desk>, params: Value) -> Answer {
    let params = Params::read(params, &["payment_type", "invoice_id"])?;
    match params.text("payment_type")? {
        None | Some("bolt11") => {}
        Some("bolt12") => return Err(Failure::not_supported("payment_type bolt12")),
        Some(_) => return Err(Failure::params("payment_type must be bolt11")),
    }
    let found = desk.find(order_id(&params)?).await?;
    Ok(found.snapshot().buyers(Timestamp::now()))
}

async fn wait_status(desk: &Arc<Desk>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id", "revision", "timeout"])?;
    let id = order_id(&params)?;
    let known = u64::try_from(params.integer_or("revision", 0)?).unwrap_or_default();
    let timeout = params.integer_or("timeout", LONGEST_WAIT)?.min(LONGEST_WAIT);
    let deadline = Instant::now() + Duration::from_secs(timeout.unsigned_abs());
    let found = desk.find(id).await?;
    let snapshot = match desk.waiting.try_acquire() {
        Ok(_permit) => news(&found, known, deadline).await,
        Err(_) => found.snapshot(),
    };
    Ok(snapshot.buyers(Timestamp::now()))
}

/// Waits until something else is shown than what has the revision `known`.
async fn news(found: &Found, known: u64, deadline: Instant) -> Snapshot {
    let mut shown = match found {
        Found::Open(case) => Some(case.watch()),
        Found::Closed(_) => None,
    };
    loop {
        let snapshot = match &mut shown {
            Some(shown) => shown.borrow_and_update().clone(),
            None => found.snapshot(),
        };
        let now = Timestamp::now();
        if snapshot.revision(now) != known || Instant::now() >= deadline {
            return snapshot;
        }
        // What is shown may change by time alone; a moment later, so that it has.
        let until = snapshot.changes_at().map_or(deadline, |at| {
            let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            deadline.min(Instant::now() + wait + Duration::from_millis(1))
        });
        let changed = async {
            let Some(shown) = &mut shown else { return std::future::pending().await };
            // We hold the case, so its sender lives.
            drop(shown.changed().await);
        };
        // Both outcomes lead to the same look.
        drop(timeout_at(until, changed).await);
    }
}

#[expect(clippy::unused_async, reason = "handlers are async, and this one has nothing to wait for")]
async fn products(desk: &Arc<Desk>, params: Value) -> Answer {
    Params::read(params, &[])?;
    let available = desk.provisioner.has_remotes();
    let products: Vec<_> = desk
        .catalogue
        .products()
        .iter()
        .map(|p| {
            json!({
                "sku": p.sku,
                "node_count": p.node_count,
                "msat_per_node_hour": p.msat_per_node_hour,
                "available": available,
            })
        })
        .collect();
    Ok(json!({
        "products": products,
        "min_hours": desk.catalogue.min_hours(),
        "max_hours": desk.catalogue.max_hours(),
    }))
}

async fn orders(desk: &Arc<Desk>, params: Value) -> Answer {
    let params = Params::read(params, &["which"])?;
    desk.ready().await?;
    let (open, closed) = match params.text("which")? {
        None | Some("open") => (true, false),
        Some("closed") => (false, true),
        Some("all") => (true, true),
        Some(_) => return Err(Failure::params("which must be open, closed or all")),
    };
    let mut listed: Vec<Snapshot> = Vec::new();
    let mut damaged = Vec::new();
    if open {
        listed.extend(desk.cases().iter().map(|c| c.snapshot()));
        damaged.extend(desk.damaged());
    }
    if closed {
        let (records, more) = store::list(&desk.node, Shelf::Closed).await.map_err(|e| Failure::node(&e))?;
        listed.extend(records.into_iter().map(|r| Snapshot::of(r.order)));
        damaged.extend(more);
    }
    listed.sort_by_key(|s| s.order.created_at);
    let now = Timestamp::now();
    let orders: Vec<_> = listed.iter().map(|s| s.operators(now)).collect();
    let damaged: Vec<_> = damaged.iter().map(|d| json!({ "invoice_id": d.key, "error": d.error })).collect();
    Ok(json!({ "orders": orders, "damaged": damaged }))
}

async fn retry(desk: &Arc<Desk>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id"])?;
    let snapshot = desk.retry(order_id(&params)?).await?;
    Ok(snapshot.operators(Timestamp::now()))
}

async fn remotes(desk: &Arc<Desk>, params: Value) -> Answer {
    Params::read(params, &[])?;
    let remotes: Vec<_> = desk
        .provisioner
        .survey()
        .await
        .into_iter()
        .map(|report| match report.load {
            Ok(load) => json!({
                "name": report.name,
                "healthy": true,
                "environments": load.environments.len(),
                "being_made": load.coming().count(),
                "memory_total_bytes": load.memory.total,
                "memory_used_bytes": load.memory.used,
                "cpus": load.cpus,
                "cpu_load": load.cpu_load,
                "cluster_members": load.members.map(|m| m.total),
                "cluster_members_online": load.members.map(|m| m.online),
            }),
            Err(error) => json!({ "name": report.name, "healthy": false, "error": error }),
        })
        .collect();
    Ok(json!({ "remotes": remotes }))
}
