//! Offers, and new orders with their invoices.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::catalogue::{Catalogue, Product, Selection, Terms};
use lnplaylive_core::customisation::CustomisationError;
use lnplaylive_core::settings::Shop as ShopSettings;
use lnplaylive_core::{Customisation, NodeAccess, Order, OrderId};
use provisioner::Size;
use tokio::time::Instant;

use super::availability::Availability;
use super::error::ShopError;
use super::interfaces::{Clock, Invoices, NewInvoice, NodeError};
use super::order_book::{OrderBook, START_TIMEOUT, whole_seconds};

/// An environment that somebody wants to buy.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// Product or size.
    pub selection: Selection<'a>,
    /// Hours that it should live.
    pub hours: i64,
    /// Everything else, apart from the nodes' names.
    pub customisation: Customisation,
    /// Names of the nodes, one for each; empty for the built-in ones.
    pub names: Vec<&'a str>,
}

/// A new order and its invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// The order as it is recorded.
    pub order: Order,
    /// The invoice as BOLT 11 text.
    pub bolt11: String,
    /// Earliest end of the environment, if the invoice is paid now.
    pub expires_after: Timestamp,
}

/// A product and how much of it can be sold now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The product.
    pub product: Product,
    /// Number that could still be placed if no other product were sold.
    pub available_count: u32,
    /// Time at which the next one frees up, if none is available and that is known.
    pub next_available_at: Option<Timestamp>,
}

/// The shop's counter.
#[derive(Debug)]
pub struct Sales {
    orders: Arc<OrderBook>,
    availability: Arc<Availability>,
    invoices: Arc<dyn Invoices>,
    clock: Arc<dyn Clock>,
    catalogue: Catalogue,
    settings: ShopSettings,
}

impl Sales {
    /// Sells what is in the catalogue.
    pub fn new(
        orders: Arc<OrderBook>,
        availability: Arc<Availability>,
        invoices: Arc<dyn Invoices>,
        clock: Arc<dyn Clock>,
        catalogue: Catalogue,
        settings: ShopSettings,
    ) -> Self {
        Self { orders, availability, invoices, clock, catalogue, settings }
    }

    /// The products, and the hours that can be bought.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Returns once it is known what can be sold.
    async fn ready(&self) -> Result<(), ShopError> {
        let deadline = Instant::now() + START_TIMEOUT;
        self.orders.ready().await?;
        self.availability.ready(deadline.saturating_duration_since(Instant::now())).await
    }

    /// All products and how much of each can be sold now.
    pub async fn offers(&self) -> Result<Vec<Offer>, ShopError> {
        self.ready().await?;
        Ok(self.availability.with_room(|room| {
            let offer = |product: &Product| {
                // An order says whether there is room for more hours.
                let size = Size { node_count: product.node_count, hours: self.catalogue.min_hours() };
                let available_count = room.count(size);
                let next = || self.availability.next_available(room, size);
                let next_available_at = if available_count == 0 { next() } else { None };
                Offer { product: product.clone(), available_count, next_available_at }
            };
            self.catalogue.products().iter().map(offer).collect()
        }))
    }

    /// Agrees on the terms of an order.
    fn terms(&self, wish: Wish<'_>) -> Result<Terms, ShopError> {
        let mut terms = self.catalogue.quote(wish.selection, wish.hours)?;
        terms.customisation = wish.customisation.with_names(&wish.names, terms.node_count)?;
        if terms.customisation.node_access == NodeAccess::Full && !self.settings.full_node_access {
            return Err(CustomisationError::FullNodeAccess.into());
        }
        Ok(terms)
    }

    /// Makes an order and its invoice, if there is room for what is ordered.
    pub async fn create_order(&self, wish: Wish<'_>) -> Result<NewOrder, ShopError> {
        let terms = self.terms(wish)?;
        if !self.availability.has_remotes() {
            return Err(ShopError::NoRemotes);
        }
        self.ready().await?;
        let permit = self.orders.unpaid_permit()?;
        let now = whole_seconds(self.clock.now());
        let expiry_secs = self.settings.invoice_expiry_secs;
        let order = Order::new(OrderId::random(), terms, now, later(now, i64::from(expiry_secs)));
        let reservation =
            self.availability.reserve(order.id, Size::from(&order.terms), order.invoice_expires_at)?;
        // The record first: an invoice without one would take money for nothing.
        let handle = self.orders.insert(order.clone(), permit).await?;
        // From here on the open order reserves the place.
        drop(reservation);
        let Terms { node_count, hours, amount_msat, .. } = order.terms;
        let invoice = NewInvoice {
            label: &order.id.to_string(),
            description: &format!("lnplay.live: {node_count} nodes for {hours} hours"),
            amount_msat,
            expiry_secs,
        };
        let Some(stored) = self.orders.lock_new(&handle).await? else {
            return Err(
                NodeError::Refused("the clock was set forward while the order was made".into()).into()
            );
        };
        let created = self.invoices.create(invoice).await;
        drop(stored);
        match created {
            Ok(bolt11) => {
                let expires_after = later(now, i64::from(hours) * 3600);
                Ok(NewOrder { order, bolt11, expires_after })
            }
            Err(error) => {
                // Without an answer there may be an invoice; the sweep will see.
                if !matches!(error, NodeError::NoAnswer(_))
                    && let Err(error) = self.orders.discard(&handle).await
                {
                    tracing::warn!("order {handle}: its record stays until it is swept: {error}");
                }
                Err(error.into())
            }
        }
    }
}

fn later(time: Timestamp, secs: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(secs)).unwrap_or(Timestamp::MAX)
}
