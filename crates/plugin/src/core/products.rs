//! Publishes what is sold to the web shop's server, which shows it to everybody.

use std::sync::Arc;
use std::time::Duration;

use lnplaylive_core::products_file::REWRITE_SECS;
use tokio::time::{Instant, sleep};

use super::interfaces::{Clock, ProductsOutlet};
use super::sales::Sales;
use super::storefront::Storefront;

/// Pause between two looks at what can be sold.
const PAUSE: Duration = Duration::from_secs(2);
/// With many remotes a look takes long; the pause is at least so many times as long.
const REST: u32 = 20;

/// Writes the products whenever they have changed, and from time to time.
#[derive(Debug)]
pub struct ProductsPublisher {
    /// `None` if the settings name no file.
    outlet: Option<Arc<dyn ProductsOutlet>>,
    clock: Arc<dyn Clock>,
    sales: Arc<Sales>,
}

impl ProductsPublisher {
    /// Publishes what `sales` offers.
    pub fn new(outlet: Option<Arc<dyn ProductsOutlet>>, clock: Arc<dyn Clock>, sales: Arc<Sales>) -> Self {
        Self { outlet, clock, sales }
    }

    /// Publishes for as long as the runtime lives.
    pub async fn run(self) {
        let Some(outlet) = &self.outlet else { return };
        let mut written: Option<(Storefront, Instant)> = None;
        loop {
            let began = Instant::now();
            match self.sales.storefront().await {
                Ok(now) if is_current(written.as_ref(), &now) => {}
                Ok(now) => match outlet.write(now.clone(), self.clock.now()).await {
                    Ok(()) => written = Some((now, Instant::now())),
                    Err(error) => {
                        tracing::error!("cannot tell the web shop's server about products: {error}");
                    }
                },
                // The server stops believing the file after a while.
                Err(error) => tracing::debug!("nothing to publish: {error}"),
            }
            sleep(PAUSE.max(began.elapsed() * REST)).await;
        }
    }
}

fn is_current(written: Option<&(Storefront, Instant)>, now: &Storefront) -> bool {
    written.is_some_and(|(last, at)| {
        last == now && at.elapsed() + PAUSE < Duration::from_secs(REWRITE_SECS.into())
    })
}
