//! What is sold, as everybody may see it.

use jiff::Timestamp;
use lnplaylive_core::Product;
use lnplaylive_core::readiness::Awaited;

/// A product and how much of it can be sold now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The product.
    pub product: Product,
    /// Number that could still be placed if no other product were sold.
    pub available_count: u32,
    /// Time at which the next one frees up, if none is available and that is known.
    pub next_available_at: Option<Timestamp>,
    /// The most hours of it that the node can be paid for now; 0 if not even the fewest that are sold.
    pub payable_hours: u32,
}

/// All offers, and what applies to each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storefront {
    /// All products.
    pub offers: Vec<Offer>,
    /// What has to happen before anything can be paid; `None` while the shop is open.
    pub awaited: Option<Awaited>,
    /// Fewest hours that can be bought.
    pub min_hours: u32,
    /// Most hours that can be bought.
    pub max_hours: u32,
    /// Contact for buyers.
    pub contact: Option<String>,
}
