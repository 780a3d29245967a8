//! What goes on in the background: finds what was paid while nobody listened, removes what was never paid, and sees
//! how the remotes are.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::desk::Desk;
use crate::node::NodeError;

/// Between two sweeps; looking costs nothing where nothing has expired.
const SWEEP: Duration = Duration::from_secs(1);
/// Between two tries to read the datastore at start-up.
const PAUSE: Duration = Duration::from_millis(200);

/// Loads the open orders, looks for payments that were missed, and then sweeps for ever; beside that, surveys for ever.
pub(crate) fn spawn(desk: Arc<Desk>) {
    let surveyor = Arc::clone(&desk);
    tokio::spawn(async move { surveyor.keep_surveying().await });
    tokio::spawn(async move {
        until_it_works("read the open orders", || desk.load()).await;
        until_it_works("look for payments", || desk.find_payments()).await;
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            desk.sweep().await;
        }
    });
}

async fn until_it_works<F: Future<Output = Result<(), NodeError>>>(what: &str, attempt: impl Fn() -> F) {
    while let Err(error) = attempt().await {
        tracing::warn!("could not {what}, trying again: {error}");
        sleep(PAUSE).await;
    }
}
