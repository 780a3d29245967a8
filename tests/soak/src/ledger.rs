//! What buyers and the operator know of each order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// One order, as those outside the shop know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purchase {
    /// The number of nodes that was ordered.
    pub node_count: usize,
    /// True once the payer's node has said that the payment is complete.
    pub paid: bool,
    /// The connection strings, once the buyer has seen them.
    pub strings: Option<BTreeSet<String>>,
    /// True once the buyer has been told that it failed.
    pub seen_failed: bool,
    /// True once the operator has recorded a refund of it while it was failed or cancelled, which is final.
    pub refunded: bool,
}

/// All orders whose buyers know their ids.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<BTreeMap<String, Purchase>>);

impl Ledger {
    /// Adds or changes an entry.
    pub fn note(&self, invoice_id: &str, change: impl FnOnce(&mut Purchase)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(invoice_id.to_owned()).or_default());
    }

    /// A copy of all of it.
    pub fn all(&self) -> BTreeMap<String, Purchase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A copy of one entry.
    pub fn find(&self, invoice_id: &str) -> Option<Purchase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(invoice_id).cloned()
    }
}
