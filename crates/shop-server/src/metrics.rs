//! What happens here, in numbers for Prometheus. No number has a visitor's, an order's or an environment's name.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

/// All numbers.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    refused: Family<Reason, Counter>,
    dial_failures: Family<Reason, Counter>,
    endings: Family<Reason, Counter>,
    bytes: Family<Way, Counter>,
    cards: Counter,
    /// Connections that are open.
    pub(crate) connections: Gauge,
    /// WebSockets that are relayed.
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
            connections: Gauge::default(),
            websockets: Gauge::default(),
        };
        let r = &mut metrics.registry;
        r.register("requests", "Requests answered", metrics.requests.clone());
        r.register("refused", "Connections refused by a limit", metrics.refused.clone());
        r.register(
            "dial_failures",
            "WebSockets for which no node was reached",
            metrics.dial_failures.clone(),
        );
        r.register("websockets_ended", "WebSockets that have ended", metrics.endings.clone());
        r.register(
            "websocket_bytes",
            "Bytes relayed, from (up) and to (down) visitors",
            metrics.bytes.clone(),
        );
        r.register("cards", "Cards drawn", metrics.cards.clone());
        r.register("connections", "Connections open", metrics.connections.clone());
        r.register("websockets", "WebSockets relayed now", metrics.websockets.clone());
        metrics
    }
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&Request { route, status }).inc();
    }

    /// A limit has refused something.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// A node was not reached.
    pub(crate) fn not_dialled(&self, reason: &'static str) {
        self.dial_failures.get_or_create(&Reason { reason }).inc();
    }

    /// A relay has ended.
    pub(crate) fn relayed(&self, reason: &'static str, up: u64, down: u64) {
        self.endings.get_or_create(&Reason { reason }).inc();
        self.bytes.get_or_create(&Way { direction: "up" }).inc_by(up);
        self.bytes.get_or_create(&Way { direction: "down" }).inc_by(down);
    }

    /// Cards were drawn.
    pub(crate) fn drew(&self, cards: usize) {
        self.cards.inc_by(cards as u64);
    }

    /// All of them, as Prometheus reads them.
    pub(crate) fn respond(&self) -> Response {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes all");
        ([(CONTENT_TYPE, TEXT)], text).into_response()
    }
}

/// Counts something while it lives.
#[derive(Debug)]
pub(crate) struct Held(Gauge);

impl Held {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
