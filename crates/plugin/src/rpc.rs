//! Our RPC methods: parameters in, answers out.
//!
//! Those that begin with `lnplaylive-` can be called by anybody on the internet: they reveal an order
//! only to who holds its id, and change nothing but to add a new order. Those that begin with
//! `lnplayops-` are the operator's, and in [`crate::ops`].

use std::sync::Arc;
use std::time::Duration;

use cln_plugin::{Builder, RpcMethodBuilder};
use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::customisation::{CustomisationError, Title};
use lnplaylive_core::{ChannelSetup, CoinDistribution, Customisation, NodeAccess, OrderId, Product};
use provisioner::Size;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{Stdin, Stdout};
use tokio::time::{Instant, sleep_until};

use crate::Handle;
use crate::desk::{ApplyError, Desk, Found, NewOrder, whole_seconds};
use crate::node::NodeError;
use crate::ops;
use crate::params::Params;
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
        Self::pointless(error.to_string())
    }

    /// The same in other words.
    pub(crate) fn pointless(message: impl Into<String>) -> Self {
        Self::new(7005, message)
    }

    /// No place for what was ordered.
    pub(crate) fn sold_out(next: Option<Timestamp>) -> Self {
        let next = next.map_or_else(String::new, |at| format!(", next one frees up at {at}"));
        Self::new(7006, format!("sold out{next}"))
    }

    /// Whether there is a place is not known: no remote has answered for so long.
    pub(crate) fn cannot_tell(silence: Duration) -> Self {
        let seconds = silence.as_secs();
        Self::new(
            7007,
            format!("nothing can be sold now: no remote has answered for {seconds} seconds; try again later"),
        )
    }

    /// A remote did not do what the operator asked for.
    pub(crate) fn remote(error: &provisioner::Error) -> Self {
        Self::new(7008, error.chain())
    }

    /// The node did not do its part. Details are for the log.
    pub(crate) fn node(error: &NodeError) -> Self {
        tracing::warn!("{error}");
        Self::new(-32603, "the node cannot do this now, try again")
    }
}

pub(crate) type Answer = Result<Value, Failure>;

/// Adds our methods to the plugin.
pub(crate) fn register(builder: Builder<Arc<Desk>, Stdin, Stdout>) -> Builder<Arc<Desk>, Stdin, Stdout> {
    macro_rules! methods {
        ($($name:literal $usage:literal $description:literal => $handler:path;)+) => {
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
        "lnplaylive-createorder" "node_count hours [coin_distribution] [channel_setup] [names] [title] [node_access]"
            "Order an environment; returns its invoice" => create_order;
        "lnplaylive-invoicestatus" "payment_type invoice_id" "How an order stands" => invoice_status;
        "lnplaylive-waitstatus" "invoice_id revision [timeout]"
            "How an order stands, as soon as its revision is not the one given" => wait_status;
        "lnplaylive-products" "" "What can be ordered, and what it costs" => products;
        "lnplayops-orders" "[which] [state] [older_than] [newer_than] [limit]"
            "Orders: open (default), closed or all; by state, and by age in hours" => ops::orders;
        "lnplayops-order" "invoice_id" "One order with its whole history" => ops::order;
        "lnplayops-retry" "invoice_id" "Try again to provision an order that failed or waits" => ops::retry;
        "lnplayops-cancel" "invoice_id" "Call an order off that is not provisioned yet" => ops::cancel;
        "lnplayops-refunded" "invoice_id [note]" "Record that a buyer who got nothing was paid back"
            => ops::refunded;
        "lnplayops-extend" "invoice_id hours" "Let an environment live longer" => ops::extend;
        "lnplayops-remotes" "" "How the remotes are" => ops::remotes;
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
        &["node_count", "hours", "coin_distribution", "channel_setup", "names", "title", "node_access"],
    )?;
    let node_count = params.integer("node_count")?.unwrap_or(NOT_A_NUMBER);
    let hours = params.integer("hours")?.unwrap_or(NOT_A_NUMBER);
    let mut terms = desk.catalogue.quote(node_count, hours).map_err(|e| Failure::params(e.to_string()))?;
    terms.customisation = customisation(&params, terms.node_count)?;
    if terms.customisation.node_access == NodeAccess::Full && !desk.shop.full_node_access {
        return Err(Failure::params(CustomisationError::FullNodeAccess.to_string()));
    }
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
    let access = params
        .text("node_access")?
        .map(|name| NodeAccess::from_name(name).ok_or_else(|| refused(CustomisationError::NodeAccess)));
    let title =
        params.text("title")?.map(|text| Title::new(text).ok_or_else(|| refused(CustomisationError::Title)));
    let chosen = Customisation {
        coin_distribution: coins.transpose()?.unwrap_or_default(),
        channel_setup: channels.transpose()?.unwrap_or_default(),
        title: title.transpose()?,
        node_access: access.transpose()?.unwrap_or_default(),
        names: Vec::new(),
    };
    chosen.with_names(&params.texts("names")?, node_count).map_err(refused)
}

/// Reads an order's id. Whatever is wrong with it, there is no such order.
pub(crate) fn order_id(params: &Params) -> Result<OrderId, Failure> {
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
    Ok(found.snapshot().buyers(Timestamp::now(), desk.shop.contact.as_deref()))
}

async fn wait_status(desk: &Arc<Desk>, params: Value) -> Answer {
    let params = Params::read(params, &["invoice_id", "revision", "timeout"])?;
    let id = order_id(&params)?;
    let known = u64::try_from(params.integer_or("revision", 0)?).unwrap_or_default();
    let timeout = params.integer_or("timeout", LONGEST_WAIT)?.min(LONGEST_WAIT);
    let deadline = Instant::now() + Duration::from_secs(timeout.unsigned_abs());
    let snapshot = match desk.waiting.try_acquire() {
        Ok(_permit) => news(desk, id, known, deadline).await?,
        Err(_) => desk.find(id).await?.snapshot(),
    };
    Ok(snapshot.buyers(Timestamp::now(), desk.shop.contact.as_deref()))
}

/// Waits until something else is shown than what has the revision `known`.
async fn news(desk: &Desk, id: OrderId, known: u64, deadline: Instant) -> Result<Snapshot, Failure> {
    // Before the look, so that nothing is missed between the two.
    let mut reshelved = desk.reshelved.subscribe();
    let mut found = desk.find(id).await?;
    loop {
        let mut shown = match &found {
            Found::Open(case) => Some(case.watch()),
            Found::Closed(_) => None,
        };
        let snapshot = match &mut shown {
            Some(shown) => shown.borrow_and_update().clone(),
            None => found.snapshot(),
        };
        let now = Timestamp::now();
        if snapshot.revision(now) != known || Instant::now() >= deadline {
            return Ok(snapshot);
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
        tokio::select! {
            () = changed => {}
            () = sleep_until(until) => {}
            // It may be open again, or its record another one; the desk, which has the sender, lives.
            _ = reshelved.changed() => found = desk.find(id).await?,
        }
    }
}

async fn products(desk: &Arc<Desk>, params: Value) -> Answer {
    Params::read(params, &[])?;
    desk.ready_to_sell().await?;
    let now = Timestamp::now();
    let products: Vec<_> = desk.with_room(|room| {
        let product = |p: &Product| {
            // Whether there is room for more hours, an order tells.
            let size = Size { node_count: p.node_count, hours: desk.catalogue.min_hours() };
            let count = room.count(size);
            // What is over and only waits to be removed frees up at any moment.
            let next = (count == 0).then(|| room.next(size)).flatten().map(|at| whole_seconds(at.max(now)));
            json!({
                "sku": p.sku,
                "node_count": p.node_count,
                "msat_per_node_hour": p.msat_per_node_hour,
                "available": count > 0,
                "available_count": count,
                "next_available_at": next,
            })
        };
        desk.catalogue.products().iter().map(product).collect()
    });
    Ok(json!({
        "products": products,
        "min_hours": desk.catalogue.min_hours(),
        "max_hours": desk.catalogue.max_hours(),
        "coin_distributions": CoinDistribution::ALL,
        "channel_setups": ChannelSetup::ALL,
        "contact": desk.shop.contact,
    }))
}
