//! Metrics for Prometheus: the names under which it gets what the core observes, and their endpoint.
//!
//! docs/operator.md lists them all. To add one that is counted as it happens, add it to [`Tally`] and to `register`; one that is
//! read at each scrape, to [`Sample`] and to `Gauges`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::core::Shop;
use crate::core::observer::{LoadSample, NodeSample, OPEN_STATES, RemoteSample, Sample};
use crate::core::tally::Tally;

/// Beginning of all names.
const PREFIX: &str = "lnplaylive";
/// Pause between two attempts to listen: the address may still be in use by the plugin that this one takes the place of.
const LISTEN_RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Observes the shop and serves its metrics, for ever.
pub async fn serve(shop: Arc<Shop>, address: SocketAddr) {
    let registry = registry(&shop);
    let listen = async {
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => {
                    tracing::error!(
                        "cannot serve metrics at {address} (shop.metrics_listen), trying again: {error}"
                    );
                    sleep(LISTEN_RETRY_PAUSE).await;
                }
            }
        };
        metrics_endpoint::serve(listener, move || metrics_endpoint::text(&registry)).await;
    };
    tokio::join!(shop.observer.run(), listen);
}

/// All metrics of a shop.
pub fn registry(shop: &Arc<Shop>) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    register(&mut registry, shop.observer.tally());
    registry.register_collector(Box::new(Gauges(Arc::clone(shop))));
    registry
}

fn register(registry: &mut Registry, tally: &Tally) {
    let r = registry;
    r.register("orders_paid", "Orders whose payment was seen", tally.paid.clone());
    r.register("orders_failed", "Orders that failed after all attempts", tally.failed.clone());
    r.register("orders_cancelled", "Paid orders that the operator has cancelled", tally.cancelled.clone());
    r.register("orders_expired", "Orders that expired unpaid", tally.expired.clone());
    r.register("environments_delivered", "Environments handed over", tally.delivered.clone());
    r.register("placements", "Attempts to make an environment", tally.placed.clone());
    r.register("placements_abandoned", "Attempts abandoned or cancelled", tally.abandoned.clone());
    r.register("remote_faults", "Steps on a remote that failed", tally.faults.clone());
    r.register("desk_actions", "Actions of the organiser's desk", tally.desk_actions.clone());
    r.register_with_unit(
        "delivery",
        "Time from payment to hand-over",
        Unit::Seconds,
        tally.delivery_seconds.clone(),
    );
}

/// What is read at each scrape.
#[derive(Debug)]
struct Gauges(Arc<Shop>);

impl Collector for Gauges {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        encode(&self.0.observer.sample(), encoder)
    }
}

type Labels<const N: usize> = [(&'static str, String); N];

/// Writes a gauge without labels, unless its value is not known.
fn gauge<V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: Option<V>,
) -> fmt::Result {
    match value {
        Some(value) => {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        }
        None => Ok(()),
    }
}

/// Writes a gauge with a value for each set of labels.
fn gauges<V: EncodeGaugeValue, const N: usize>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels<N>, V)>,
) -> fmt::Result {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode(sample: &Sample, mut encoder: DescriptorEncoder) -> fmt::Result {
    let e = &mut encoder;
    let orders = &sample.orders;
    let by_state = OPEN_STATES.map(|state| {
        ([("state", state.to_owned())], orders.by_state.get(state).copied().unwrap_or_default())
    });
    gauges(e, "orders", "Open orders, by state", by_state)?;
    let oldest = seconds(orders.oldest_undelivered);
    gauge(e, "oldest_undelivered_order_age_seconds", "Longest wait of a paid order", Some(oldest))?;
    gauge(e, "orders_owed", "Orders to be refunded", sample.owed.map(|owed| owed.orders))?;
    gauge(e, "owed_msat", "Money to be refunded", sample.owed.map(|owed| owed.msat))?;
    gauge(e, "order_records_damaged", "Open records that cannot be read", Some(sample.damaged as u64))?;

    let environments = sample.environments.counts.iter();
    let environments = environments.map(|((remote, condition), count)| {
        ([("remote", remote.clone()), ("condition", (*condition).to_owned())], *count)
    });
    gauges(e, "environments", "Environments handed over that have not ended, by condition", environments)?;
    let longest = seconds(sample.environments.longest_degraded);
    gauge(e, "longest_degraded_environment_seconds", "Longest time degraded", Some(longest))?;

    encode_remotes(sample, e)?;

    let wanted = sample.prepared_wanted.iter();
    let wanted = wanted.map(|(nodes, wanted)| ([("nodes", nodes.to_string())], u64::from(*wanted)));
    gauges(e, "prepared_wanted", "Environments that are to be prepared", wanted)?;
    let ready = sample.prepared_ready.iter().map(|((remote, nodes), ready)| {
        ([("remote", remote.clone()), ("nodes", nodes.to_string())], u64::from(*ready))
    });
    gauges(e, "prepared_ready", "Environments that are prepared for orders to come", ready)?;

    let node = |value: fn(&NodeSample) -> u64| sample.node.as_ref().map(value);
    gauge(e, "node_synchronised", "1 if the node is synchronised", node(|n| n.synchronised.into()))?;
    gauge(e, "node_open", "1 if orders can be paid", node(|n| n.open.into()))?;
    // Anything larger than i64 holds would spoil the whole answer.
    let receivable = node(|n| n.receivable_msat.min(i64::MAX.unsigned_abs()));
    gauge(e, "node_receivable_msat", "Most that one payment can bring in", receivable)?;

    let room = sample.room.as_ref();
    let products = room.into_iter().flat_map(|room| &room.products);
    let products = products.map(|(sku, count)| ([("sku", sku.clone())], u64::from(*count)));
    gauges(e, "product_available", "How many more can be sold now", products)?;
    let places = room.into_iter().flat_map(|room| &room.remotes);
    let places = places.map(|(remote, count)| ([("remote", remote.clone())], u64::from(*count)));
    gauges(e, "remote_free_places", "Room for environments of the smallest product", places)
}

fn encode_remotes(sample: &Sample, e: &mut DescriptorEncoder) -> fmt::Result {
    let of = |value: fn(&RemoteSample) -> u64| {
        let all = sample.remotes.iter();
        all.map(move |(name, remote)| ([("remote", name.clone())], value(remote))).collect::<Vec<_>>()
    };
    gauges(e, "remote_answers", "1 if the remote's last answer is valid", of(|r| r.answers.into()))?;
    let silent = sample.remotes.iter();
    let silent = silent.map(|(name, r)| ([("remote", name.clone())], r.silent.as_secs_f64()));
    gauges(e, "remote_silent_seconds", "Time since the remote's last answer", silent)?;
    gauges(e, "remote_breaker_open", "1 if the remote is not used", of(|r| r.breaker_open.into()))?;
    gauges(e, "remote_faults_in_a_row", "Faults in a row", of(|r| r.faults_in_a_row.into()))?;
    let load = |value: fn(&LoadSample) -> u64| {
        let all = sample.remotes.iter();
        let known = all.filter_map(move |(name, remote)| Some((name, value(remote.load.as_ref()?))));
        known.map(|(name, value)| ([("remote", name.clone())], value)).collect::<Vec<_>>()
    };
    gauges(e, "remote_environments", "Environments on the remote", load(|l| l.environments))?;
    gauges(e, "remote_nodes", "Nodes in these environments", load(|l| l.nodes))?;
    gauges(e, "remote_members", "Servers that take environments", load(|l| l.members))?;
    gauges(e, "remote_memory_bytes", "Memory of these servers", load(|l| l.memory_total))?;
    gauges(e, "remote_memory_used_bytes", "Used memory of these servers", load(|l| l.memory_used))
}

/// Not negative: the clock may have been set back.
fn seconds(duration: Option<SignedDuration>) -> f64 {
    duration.unwrap_or_default().as_secs_f64().max(0.0)
}
