//! The route table as a file, which the web shop's server reads.

use std::path::PathBuf;

use futures_util::future::{BoxFuture, FutureExt as _};
use lnplaylive_core::RouteTable;
use tokio::task::spawn_blocking;

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
            let error = match written {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(error) => return Err(error.to_string()),
            };
            let cause = std::error::Error::source(&error).map(|e| format!(": {e}")).unwrap_or_default();
            Err(format!("{error}{cause}"))
        }
        .boxed()
    }
}
