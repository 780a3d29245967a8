//! What is sold and what it costs.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::customisation::Customisation;
use crate::environment::MAX_NODES;

/// A product's short name, such as `A`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sku(pub String);

impl std::fmt::Display for Sku {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One product: a number of nodes and its price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Short name.
    pub sku: Sku,
    /// Nodes in the environment.
    pub node_count: u32,
    /// Price of one node for one hour, in millisatoshi.
    pub msat_per_node_hour: u64,
}

/// Why a catalogue cannot be sold from.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogueError {
    /// Nothing in it.
    #[error("there are no products")]
    Empty,
    /// Two products cannot be told apart.
    #[error("two products have {0}")]
    Ambiguous(String),
    /// A product with an impossible size, name or price.
    #[error("product {sku}: {reason}")]
    Product {
        /// Which one.
        sku: Sku,
        /// What is wrong with it.
        reason: String,
    },
    /// The hours make no range.
    #[error("min_hours is {min} and max_hours is {max}; 1 <= min_hours <= max_hours <= 8760 is needed")]
    Hours {
        /// Fewest hours.
        min: u32,
        /// Most hours.
        max: u32,
    },
}

/// Why an order cannot be priced: the number asked for and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuoteError {
    /// No product has so many nodes.
    #[error("node_count must be one of {allowed}")]
    NodeCount {
        /// The node counts on sale, separated by commas.
        allowed: String,
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

/// The products on sale and for how long they can be bought. Valid by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    products: Vec<Product>,
    min_hours: u32,
    max_hours: u32,
}

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
        }
        products.sort_by_key(|p| p.node_count);
        for (at, product) in products.iter().enumerate() {
            for other in &products[..at] {
                if other.sku == product.sku {
                    return Err(CatalogueError::Ambiguous(format!("the sku {}", product.sku)));
                }
                if other.node_count == product.node_count {
                    return Err(CatalogueError::Ambiguous(format!("{} nodes", product.node_count)));
                }
            }
        }
        Ok(Self { products, min_hours, max_hours })
    }

    /// The products, smallest first.
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

    /// The terms of an order for `node_count` nodes and `hours` hours.
    ///
    /// The numbers are wide, and may be negative, so that a caller need not decide what out of range means.
    pub fn quote(&self, node_count: i64, hours: i64) -> Result<Terms, QuoteError> {
        let product =
            self.products.iter().find(|p| i64::from(p.node_count) == node_count).ok_or_else(|| {
                let counts: Vec<_> = self.products.iter().map(|p| p.node_count.to_string()).collect();
                QuoteError::NodeCount { allowed: counts.join(", ") }
            })?;
        let hours = u32::try_from(hours)
            .ok()
            .filter(|h| (self.min_hours..=self.max_hours).contains(h))
            .ok_or(QuoteError::Hours { min: self.min_hours, max: self.max_hours })?;
        // No overflow: `new` has checked the most that can be bought.
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
        })
        .into()
}

/// What a buyer and the shop have agreed on; fixed when the order is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Which product.
    pub sku: Sku,
    /// Nodes.
    pub node_count: u32,
    /// Hours that the environment lives, counted from when it is handed over.
    pub hours: u32,
    /// Price in millisatoshi.
    pub amount_msat: u64,
    /// What the buyer has chosen beside.
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

    #[test]
    fn eight_nodes_for_two_days_cost_76800_sat() {
        let terms = Catalogue::default().quote(8, 48).expect("on sale");
        assert_eq!(terms.amount_msat, 76_800_000);
        assert_eq!(terms.sku, Sku("A".into()));
    }

    #[test]
    fn what_is_not_on_sale_is_refused_with_what_is() {
        let shop = Catalogue::default();
        for count in [i64::MIN, -8, 0, 7, 9, 65, i64::MAX] {
            let error = shop.quote(count, 1).expect_err("not on sale");
            assert_eq!(error.to_string(), "node_count must be one of 8, 16, 32, 64");
        }
        for hours in [i64::MIN, -1, 0, 505, i64::MAX] {
            let error = shop.quote(8, hours).expect_err("not on sale");
            assert_eq!(error.to_string(), "hours must be a whole number from 1 to 504");
        }
        assert!(shop.quote(64, 504).is_ok());
    }

    #[test]
    fn a_catalogue_that_cannot_be_sold_from_is_refused() {
        let product = |sku: &str, node_count, msat_per_node_hour| Product {
            sku: Sku(sku.into()),
            node_count,
            msat_per_node_hour,
        };
        let refused = |products: Vec<Product>| Catalogue::new(products, 1, 504).expect_err("refused");
        assert_eq!(refused(vec![]), CatalogueError::Empty);
        assert!(matches!(
            refused(vec![product("A", 8, 1), product("A", 16, 1)]),
            CatalogueError::Ambiguous(_)
        ));
        assert!(matches!(
            refused(vec![product("A", 8, 1), product("B", 8, 1)]),
            CatalogueError::Ambiguous(_)
        ));
        for wrong in [product("A", 0, 1), product("A", 65, 1), product("", 8, 1), product("A", 8, 0)] {
            assert!(matches!(refused(vec![wrong]), CatalogueError::Product { .. }));
        }
        assert!(matches!(refused(vec![product("A", 8, u64::MAX)]), CatalogueError::Product { .. }));
        assert!(matches!(Catalogue::new(default_products(), 5, 4), Err(CatalogueError::Hours { .. })));
    }
}
