//! The products as a file, which the web shop's server reads.

use std::path::PathBuf;

use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use lnplaylive_core::products_file::ProductsFile;
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::rpc::storefront;
use crate::core::interfaces::ProductsOutlet;
use crate::core::storefront::Storefront;

/// Products at this path.
#[derive(Debug, Clone)]
pub struct ProductsFileAt(pub PathBuf);

impl ProductsOutlet for ProductsFileAt {
    fn write(&self, shown: Storefront, as_of: Timestamp) -> BoxFuture<'_, Result<(), String>> {
        let path = self.0.clone();
        async move {
            let Value::Object(answer) = storefront(&shown) else { return Err("not an object".to_owned()) };
            let file = ProductsFile { as_of, answer };
            let written = spawn_blocking(move || file.write(&path)).await;
            written.map_err(|error| error.to_string())?.map_err(with_cause)
        }
        .boxed()
    }
}

/// An error and its cause, in a sentence.
pub(super) fn with_cause(error: impl std::error::Error) -> String {
    let cause = error.source().map(|e| format!(": {e}")).unwrap_or_default();
    format!("{error}{cause}")
}
