//! Prometheus metrics. They never contain the names of visitors, orders or environments.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use strum::VariantNames as _;

use crate::clients::{Clients, Refusal};
use crate::ration::UsedUp;
use crate::relay::EndReason;
use crate::upgrade::DialError;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Way {
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// All metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    refused: Family<Reason, Counter>,
    dial_failures: Family<Reason, Counter>,
    endings: Family<Reason, Counter>,
    bytes: Family<Way, Counter>,
    cards: Counter,
    places: Family<Kind, Gauge>,
    places_taken: Family<Kind, Gauge>,
    /// Tickets for orders that were given.
    pub(crate) tickets: Counter,
    /// Number of open connections.
    pub(crate) connections: Gauge,
    /// Number of relayed WebSockets.
    pub(crate) websockets: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("lnplaylive_frontend"),
            requests: Family::default(),
            refused: Family::default(),
            dial_failures: Family::default(),
            endings: Family::default(),
            bytes: Family::default(),
            cards: Counter::default(),
            places: Family::default(),
            places_taken: Family::default(),
            tickets: Counter::default(),
            connections: Gauge::default(),
            websockets: Gauge::default(),
        };
        let r = &mut metrics.registry;
        r.register("requests", "Requests answered", metrics.requests.clone());
        r.register("refused", "Connections and requests refused by a limit", metrics.refused.clone());
        r.register(
            "dial_failures",
            "WebSockets whose node could not be reached",
            metrics.dial_failures.clone(),
        );
        r.register("websockets_ended", "WebSockets that have ended", metrics.endings.clone());
        r.register(
            "websocket_bytes",
            "Bytes relayed, from (up) and to (down) visitors",
            metrics.bytes.clone(),
        );
        r.register("cards", "Cards drawn", metrics.cards.clone());
        r.register("tickets", "Tickets for orders given", metrics.tickets.clone());
        r.register("places", "Places that there are, by kind", metrics.places.clone());
        r.register("places_taken", "Places that are taken, by kind", metrics.places_taken.clone());
        r.register("connections", "Connections open", metrics.connections.clone());
        r.register("websockets", "WebSockets relayed now", metrics.websockets.clone());
        // From 0, so that the first refusal is seen as an increase.
        for (family, reasons) in [
            (&metrics.refused, Refusal::VARIANTS),
            (&metrics.refused, UsedUp::VARIANTS),
            (&metrics.dial_failures, DialError::VARIANTS),
            (&metrics.endings, EndReason::VARIANTS),
        ] {
            for reason in reasons {
                drop(family.get_or_create(&Reason { reason }));
            }
        }
        for direction in ["up", "down"] {
            drop(metrics.bytes.get_or_create(&Way { direction }));
        }
        metrics
    }
}

impl Metrics {
    /// Counts an answered request.
    pub(crate) fn answered(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&Request { route, status }).inc();
    }

    /// Counts a refusal by a limit.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a failure to connect to a node.
    pub(crate) fn not_dialled(&self, reason: &'static str) {
        self.dial_failures.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a relay that has ended.
    pub(crate) fn relayed(&self, reason: &'static str, up: u64, down: u64) {
        self.endings.get_or_create(&Reason { reason }).inc();
        self.bytes.get_or_create(&Way { direction: "up" }).inc_by(up);
        self.bytes.get_or_create(&Way { direction: "down" }).inc_by(down);
    }

    /// Counts cards.
    pub(crate) fn drew(&self, cards: usize) {
        self.cards.inc_by(cards as u64);
    }

    /// All metrics in Prometheus's format.
    pub(crate) fn text(&self, clients: &Clients) -> String {
        for (kind, pool) in clients.pools() {
            self.places.get_or_create(&Kind { kind }).set(pool.total().into());
            self.places_taken.get_or_create(&Kind { kind }).set(pool.taken().into());
        }
        metrics_endpoint::text(&self.registry)
    }
}

/// Increments a gauge while it exists.
#[derive(Debug)]
pub(crate) struct GaugeGuard(Gauge);

impl GaugeGuard {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
