//! The products on sale and their prices.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::customisation::Customisation;
use crate::environment::MAX_NODES;

/// A product's short name, such as `A`. Buyers choose by it, and orders record it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sku(pub String);

impl std::fmt::Display for Sku {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One product: a number of nodes and its price. Several products may have the same number of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Short name.
    pub sku: Sku,
    /// Nodes in the environment.
    pub node_count: u32,
    /// Price of one node for one hour, in millisatoshi.
    pub msat_per_node_hour: u64,
    /// Environments of this size that are kept prepared for its next buyers, on all remotes together. Default: none.
    #[serde(default)]
    pub prepared: u32,
}

/// A catalogue that nothing can be sold from.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogueError {
    /// There are no products.
    #[error("there are no products")]
    Empty,
    /// Two products have the same name.
    #[error("two products have the sku {0}")]
    DuplicateSku(Sku),
    /// A product with an invalid size, name or price.
    #[error("product {sku}: {reason}")]
    Product {
        /// Its name.
        sku: Sku,
        /// Reason, and what is allowed.
        reason: String,
    },
    /// The limits of the hours are not a range.
    #[error("min_hours is {min} and max_hours is {max}; 1 <= min_hours <= max_hours <= 8760 is needed")]
    Hours {
        /// Fewest hours.
        min: u32,
        /// Most hours.
        max: u32,
    },
}

/// The product that a buyer asks for.
///
/// The numbers are wide, and may be negative, so that a caller need not decide what out of range means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection<'a> {
    /// The first product with this many nodes.
    NodeCount(i64),
    /// The product with this name.
    Sku {
        /// Its name.
        sku: &'a str,
        /// Its node count, if the buyer gave one too; it must match.
        node_count: Option<i64>,
    },
}

/// A request for something that is not on sale. Each names the parameter and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuoteError {
    /// No product has this name.
    #[error("sku must be one of {}", list(allowed))]
    Sku {
        /// Names of the products on sale.
        allowed: Vec<Sku>,
    },
    /// No product has this many nodes.
    #[error("node_count must be one of {}", list(allowed))]
    NodeCount {
        /// Node counts on sale, smallest first.
        allowed: Vec<u32>,
    },
    /// The product has another number of nodes.
    #[error("node_count must be {node_count} for sku {sku}, or left out")]
    SkuNodeCount {
        /// Name of the product.
        sku: Sku,
        /// Its number of nodes.
        node_count: u32,
    },
    /// Too short or too long.
    #[error("hours must be a whole number from {min} to {max}")]
    Hours {
        /// Fewest hours.
        min: u32,
        /// Most hours.
        max: u32,
    },
}

fn list(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The products on sale and the hours that can be bought. Valid by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    products: Vec<Product>,
    min_hours: u32,
    max_hours: u32,
}

/// Most environments of one product that are kept prepared. Each runs all the time.
const MAX_PREPARED: u32 = 100;

/// Bitcoin's total supply in millisatoshi: no price can be more.
const MAX_MSAT: u64 = 21_000_000 * 100_000_000 * 1000;

impl Catalogue {
    /// A catalogue of `products`, sold for `min_hours` to `max_hours`.
    pub fn new(mut products: Vec<Product>, min_hours: u32, max_hours: u32) -> Result<Self, CatalogueError> {
        if products.is_empty() {
            return Err(CatalogueError::Empty);
        }
        if !(1..=max_hours).contains(&min_hours) || max_hours > 8760 {
            return Err(CatalogueError::Hours { min: min_hours, max: max_hours });
        }
        for product in &products {
            let wrong = |reason: String| CatalogueError::Product { sku: product.sku.clone(), reason };
            let name = &product.sku.0;
            if name.is_empty() || name.len() > 16 || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(wrong("a sku is 1 to 16 letters and digits".into()));
            }
            if !(1..=MAX_NODES).contains(&product.node_count) {
                return Err(wrong(format!("node_count must be from 1 to {MAX_NODES}")));
            }
            let most = u64::from(product.node_count) * u64::from(max_hours);
            if product.msat_per_node_hour == 0 || product.msat_per_node_hour > MAX_MSAT / most {
                return Err(wrong("msat_per_node_hour must be positive and less than all bitcoin".into()));
            }
            if product.prepared > MAX_PREPARED {
                return Err(wrong(format!("prepared must be from 0 to {MAX_PREPARED}")));
            }
        }
        for (at, product) in products.iter().enumerate() {
            if products[..at].iter().any(|other| other.sku == product.sku) {
                return Err(CatalogueError::DuplicateSku(product.sku.clone()));
            }
        }
        // Stable, so that products of one size stay in the order of the settings.
        products.sort_by_key(|p| p.node_count);
        Ok(Self { products, min_hours, max_hours })
    }

    /// The products, smallest first; those of one size in the order of the settings.
    pub fn products(&self) -> &[Product] {
        &self.products
    }

    /// Fewest hours that can be bought.
    pub fn min_hours(&self) -> u32 {
        self.min_hours
    }

    /// Most hours that can be bought.
    pub fn max_hours(&self) -> u32 {
        self.max_hours
    }

    fn select(&self, selection: Selection<'_>) -> Result<&Product, QuoteError> {
        match selection {
            Selection::NodeCount(node_count) => {
                let found = self.products.iter().find(|p| i64::from(p.node_count) == node_count);
                found.ok_or_else(|| {
                    let mut allowed: Vec<_> = self.products.iter().map(|p| p.node_count).collect();
                    allowed.dedup();
                    QuoteError::NodeCount { allowed }
                })
            }
            Selection::Sku { sku, node_count } => {
                let product = self.products.iter().find(|p| p.sku.0 == sku).ok_or_else(|| {
                    QuoteError::Sku { allowed: self.products.iter().map(|p| p.sku.clone()).collect() }
                })?;
                if node_count.is_some_and(|count| count != i64::from(product.node_count)) {
                    let Product { sku, node_count, .. } = product.clone();
                    return Err(QuoteError::SkuNodeCount { sku, node_count });
                }
                Ok(product)
            }
        }
    }

    /// The terms of an order for `hours` hours of a product.
    pub fn quote(&self, selection: Selection<'_>, hours: i64) -> Result<Terms, QuoteError> {
        let product = self.select(selection)?;
        let hours = u32::try_from(hours)
            .ok()
            .filter(|h| (self.min_hours..=self.max_hours).contains(h))
            .ok_or(QuoteError::Hours { min: self.min_hours, max: self.max_hours })?;
        // No overflow: `new` has checked the largest order.
        let amount_msat = product.msat_per_node_hour * u64::from(product.node_count) * u64::from(hours);
        let Product { sku, node_count, .. } = product.clone();
        Ok(Terms { sku, node_count, hours, amount_msat, customisation: Customisation::default() })
    }
}

impl Default for Catalogue {
    /// Products A to D for 1 to 504 hours.
    fn default() -> Self {
        let products = default_products();
        Self { products, min_hours: 1, max_hours: 504 }
    }
}

/// Products A to D.
pub fn default_products() -> Vec<Product> {
    [("A", 8, 200_000), ("B", 16, 220_000), ("C", 32, 240_000), ("D", 64, 260_000)]
        .map(|(sku, node_count, msat_per_node_hour)| Product {
            sku: Sku(sku.into()),
            node_count,
            msat_per_node_hour,
            prepared: 0,
        })
        .into()
}

/// The terms that a buyer and the shop have agreed on; fixed when the order is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The product.
    pub sku: Sku,
    /// Number of nodes.
    pub node_count: u32,
    /// Hours that the environment lives, counted from its hand-over.
    pub hours: u32,
    /// Price in millisatoshi.
    pub amount_msat: u64,
    /// The buyer's other choices.
    #[serde(default, skip_serializing_if = "Customisation::is_default")]
    pub customisation: Customisation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_catalogue_passes_its_own_checks() {
        let Catalogue { products, min_hours, max_hours } = Catalogue::default();
        assert_eq!(Catalogue::new(products, min_hours, max_hours), Ok(Catalogue::default()));
    }

    fn product(sku: &str, node_count: u32, msat_per_node_hour: u64) -> Product {
        Product { sku: Sku(sku.into()), node_count, msat_per_node_hour, prepared: 0 }
    }

    #[test]
    fn eight_nodes_for_two_days_cost_76800_sat() {
        let terms = Catalogue::default().quote(Selection::NodeCount(8), 48).expect("on sale");
        assert_eq!(terms.amount_msat, 76_800_000);
        assert_eq!(terms.sku, Sku("A".into()));
    }

    #[test]
    fn what_is_not_on_sale_is_refused_with_what_is() {
        let shop = Catalogue::default();
        let refusal = |selection, hours| shop.quote(selection, hours).expect_err("not on sale").to_string();
        for count in [i64::MIN, -8, 0, 7, 9, 65, i64::MAX] {
            assert_eq!(refusal(Selection::NodeCount(count), 1), "node_count must be one of 8, 16, 32, 64");
        }
        for hours in [i64::MIN, -1, 0, 505, i64::MAX] {
            let refusal = refusal(Selection::NodeCount(8), hours);
            assert_eq!(refusal, "hours must be a whole number from 1 to 504");
        }
        for sku in ["", "a", "E", "AA"] {
            let selection = Selection::Sku { sku, node_count: Some(8) };
            assert_eq!(refusal(selection, 1), "sku must be one of A, B, C, D");
        }
        assert!(shop.quote(Selection::NodeCount(64), 504).is_ok());
    }

    #[test]
    fn products_of_one_size_are_told_apart_by_sku() {
        let mut products = default_products();
        products.push(product("E", 64, 1_000_000));
        let shop = Catalogue::new(products, 1, 504).expect("valid");
        let price = |selection| shop.quote(selection, 1).map(|terms| (terms.sku.0, terms.amount_msat));
        let by_sku = |sku, node_count| price(Selection::Sku { sku, node_count });
        assert_eq!(price(Selection::NodeCount(64)), Ok(("D".into(), 64 * 260_000)), "the first one");
        assert_eq!(by_sku("E", Some(64)), Ok(("E".into(), 64_000_000)));
        assert_eq!(by_sku("E", None), Ok(("E".into(), 64_000_000)));
        assert_eq!(by_sku("D", Some(64)), Ok(("D".into(), 64 * 260_000)));
        let mismatch = by_sku("E", Some(8)).expect_err("E has 64");
        assert_eq!(mismatch.to_string(), "node_count must be 64 for sku E, or left out");
        let unknown = price(Selection::NodeCount(9)).expect_err("not on sale");
        assert_eq!(unknown.to_string(), "node_count must be one of 8, 16, 32, 64", "each size once");
    }

    #[test]
    fn a_catalogue_that_cannot_be_sold_from_is_refused() {
        let refused = |products: Vec<Product>| Catalogue::new(products, 1, 504).expect_err("refused");
        assert_eq!(refused(vec![]), CatalogueError::Empty);
        let duplicate = vec![product("A", 8, 1), product("B", 8, 1), product("A", 16, 1)];
        assert_eq!(refused(duplicate), CatalogueError::DuplicateSku(Sku("A".into())));
        let many = Product { prepared: 101, ..product("A", 8, 1) };
        assert!(matches!(refused(vec![many]), CatalogueError::Product { .. }));
        for wrong in [product("A", 0, 1), product("A", 65, 1), product("", 8, 1), product("A", 8, 0)] {
            assert!(matches!(refused(vec![wrong]), CatalogueError::Product { .. }));
        }
        assert!(matches!(refused(vec![product("A", 8, u64::MAX)]), CatalogueError::Product { .. }));
        assert!(matches!(Catalogue::new(default_products(), 5, 4), Err(CatalogueError::Hours { .. })));
    }
}
