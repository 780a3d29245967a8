//! Offers, and new orders with their invoices.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::catalogue::{Catalogue, Product, Selection, Terms};
use lnplaylive_core::customisation::CustomisationError;
use lnplaylive_core::settings::Shop as ShopSettings;
use lnplaylive_core::{Customisation, NodeAccess, Order, OrderId};
use provisioner::Size;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::admission::Admission;
use super::availability::Availability;
use super::error::ShopError;
use super::interfaces::{Clock, Invoices, MadeInvoice, NewInvoice, NodeError};
use super::node_watch::NodeWatch;
use super::order_book::{OrderBook, START_TIMEOUT, whole_seconds};
use super::storefront::{Offer, Storefront};

/// What is sold is shown for so many times as long as it took to work out, so that callers without pause keep nobody from ordering:
/// an order needs the same lock.
const SHOWN_TIMES: u32 = 20;
/// At least so long.
const SHOWN_FOR: Duration = Duration::from_millis(100);

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
    /// The ticket that it is ordered with.
    pub ticket: Option<&'a str>,
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

/// What decides whether an order can be taken.
#[derive(Debug)]
pub struct Sources {
    /// All open orders.
    pub orders: Arc<OrderBook>,
    /// Room on the remotes.
    pub availability: Arc<Availability>,
    /// Whether the node can be paid.
    pub node: Arc<NodeWatch>,
}

/// The shop's counter.
#[derive(Debug)]
pub struct Sales {
    orders: Arc<OrderBook>,
    availability: Arc<Availability>,
    node: Arc<NodeWatch>,
    invoices: Arc<dyn Invoices>,
    clock: Arc<dyn Clock>,
    admission: Admission,
    catalogue: Catalogue,
    settings: ShopSettings,
    /// Number of orders since the start.
    sold: AtomicU64,
    shown: AsyncMutex<Option<Shown>>,
}

/// What is sold, as it was shown last.
#[derive(Debug)]
struct Shown {
    storefront: Storefront,
    /// The number of orders then.
    sold: u64,
    until: Instant,
}

impl Sales {
    /// Sells what is in the catalogue.
    pub fn new(
        Sources { orders, availability, node }: Sources,
        invoices: Arc<dyn Invoices>,
        clock: Arc<dyn Clock>,
        admission: Admission,
        catalogue: Catalogue,
        settings: ShopSettings,
    ) -> Self {
        let (sold, shown) = (AtomicU64::default(), AsyncMutex::default());
        Self { orders, availability, node, invoices, clock, admission, catalogue, settings, sold, shown }
    }

    /// The products, and the hours that can be bought.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Returns once it is known what can be sold.
    async fn ready(&self) -> Result<(), ShopError> {
        let deadline = Instant::now() + START_TIMEOUT;
        self.orders.ready().await?;
        let left = || deadline.saturating_duration_since(Instant::now());
        self.availability.ready(left()).await?;
        self.node.asked(left()).await;
        Ok(())
    }

    /// All products and how much of each can be sold now.
    pub async fn offers(&self) -> Result<Vec<Offer>, ShopError> {
        self.ready().await?;
        let products = self.catalogue.products();
        // An order says whether there is room for more hours.
        let size = |p: &Product| Size { node_count: p.node_count, hours: self.catalogue.min_hours() };
        let sizes: Vec<_> = products.iter().map(size).collect();
        let offered = self.availability.offered(&sizes);
        let readiness = self.node.readiness();
        let offer = |(product, (available_count, next_available_at)): (&Product, _)| Offer {
            product: product.clone(),
            available_count,
            next_available_at,
            payable_hours: readiness.payable_hours(product, &self.catalogue),
        };
        Ok(products.iter().zip(offered).map(offer).collect())
    }

    /// What is sold, as everybody may see it.
    pub async fn storefront(&self) -> Result<Storefront, ShopError> {
        Ok(Storefront {
            offers: self.offers().await?,
            awaited: self.node.readiness().awaited(),
            min_hours: self.catalogue.min_hours(),
            max_hours: self.catalogue.max_hours(),
            contact: self.settings.contact.clone(),
        })
    }

    /// As [`Sales::storefront`], or what that was a moment ago if nothing was ordered since.
    pub async fn shown(&self) -> Result<Storefront, ShopError> {
        // Whoever calls meanwhile waits, and is shown the same.
        let mut shown = self.shown.lock().await;
        let sold = self.sold.load(Ordering::Relaxed);
        if let Some(last) = &*shown
            && last.sold == sold
            && Instant::now() < last.until
        {
            return Ok(last.storefront.clone());
        }
        let began = Instant::now();
        let storefront = self.storefront().await?;
        let until = Instant::now() + SHOWN_FOR.max(began.elapsed() * SHOWN_TIMES);
        *shown = Some(Shown { storefront: storefront.clone(), sold, until });
        Ok(storefront)
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

    /// Succeeds if the node can be paid for an order on these terms.
    async fn payable(&self, terms: &Terms) -> Result<(), ShopError> {
        self.node.admit(terms.amount_msat).await.map_err(|obstacle| {
            let readiness = self.node.readiness();
            let product = self.catalogue.products().iter().find(|product| product.sku == terms.sku);
            let hours = product.map_or(0, |product| readiness.payable_hours(product, &self.catalogue));
            ShopError::NotPayable { obstacle, payable_hours: hours }
        })
    }

    /// Makes an order and its invoice, if there is room for what is ordered. The ticket is looked at once everything else
    /// is known to be right.
    pub async fn create_order(&self, wish: Wish<'_>) -> Result<NewOrder, ShopError> {
        let ticket = wish.ticket;
        let terms = self.terms(wish)?;
        if !self.availability.has_remotes() {
            return Err(ShopError::NoRemotes);
        }
        self.ready().await?;
        self.payable(&terms).await?;
        let held_by = self.admission.admit(ticket)?;
        let permit = self.orders.unpaid_permit()?;
        let now = whole_seconds(self.clock.now());
        let expiry_secs = self.settings.invoice_expiry_secs;
        let order = Order::new(OrderId::random(), terms, now, later(now, i64::from(expiry_secs)));
        let reservation = self.availability.reserve(&order, held_by)?;
        self.sold.fetch_add(1, Ordering::Relaxed);
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
            Ok(MadeInvoice { bolt11, warnings }) => {
                self.node.note_warnings(amount_msat, warnings);
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
