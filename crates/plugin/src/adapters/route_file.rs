//! The route table as a file, which the web shop's server reads.

use std::path::PathBuf;

use futures_util::future::{BoxFuture, FutureExt as _};
use lnplaylive_core::RouteTable;
use tokio::task::spawn_blocking;

use super::products_file::with_cause;
use crate::core::interfaces::RouteFile;

/// A route table at this path.
#[derive(Debug, Clone)]
pub struct RouteFileAt(pub PathBuf);

impl RouteFile for RouteFileAt {
    fn read(&self) -> BoxFuture<'_, Option<RouteTable>> {
        let path = self.0.clone();
        async move { spawn_blocking(move || RouteTable::read(&path).ok()).await.ok().flatten() }.boxed()
    }

    fn write(&self, table: RouteTable) -> BoxFuture<'_, Result<(), String>> {
        let path = self.0.clone();
        async move {
            let written = spawn_blocking(move || table.write(&path)).await;
            written.map_err(|error| error.to_string())?.map_err(with_cause)
        }
        .boxed()
    }
}
