//! What was found wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Findings, each once.
#[derive(Debug, Default)]
pub struct Findings(Mutex<BTreeMap<String, u64>>);

impl Findings {
    /// Adds a finding, and prints it if it is new.
    pub fn add(&self, what: impl Into<String>) {
        let what = what.into();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(what.clone()).or_default();
        if *count == 0 {
            eprintln!("FOUND: {what}");
        }
        *count += 1;
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}
