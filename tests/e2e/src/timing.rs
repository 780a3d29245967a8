//! Statistics for benches.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use testbed::{Daemons, Flavor, Remotes, Shop};

/// The longest that a start may take.
const START_TIME: Duration = Duration::from_secs(60);

/// The daemons that a bench was told to run on, `real` or `simulated`, by its first argument. Default: real ones where they are.
pub fn flavor() -> Flavor {
    // cargo passes `--bench` on.
    match std::env::args().skip(1).find(|arg| !arg.starts_with('-')).as_deref() {
        Some("real") => Flavor::Real,
        Some("simulated") => Flavor::Simulated,
        None => Daemons::auto().expect("daemons").flavor(),
        Some(other) => panic!("`{other}` is neither real nor simulated"),
    }
}

/// The server in `REMOTE_URL` and `REMOTE_TOKEN_FILE`, as testbed's `with-remote` names it; without those a simulated one.
pub fn remotes() -> Remotes {
    match (std::env::var("REMOTE_URL"), std::env::var_os("REMOTE_TOKEN_FILE")) {
        (Ok(url), Some(token_file)) => Remotes::Existing { url, token_file: PathBuf::from(token_file) },
        _ => Remotes::Simulated(1),
    }
}

/// The time that so many percent of all stay below.
pub fn percentile(all: &[Duration], percent: usize) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The ratio of the medians.
pub fn ratio(all: &[Duration], floor: &[Duration]) -> f64 {
    ms(percentile(all, 50)) / ms(percentile(floor, 50))
}

/// Starts a shop's plugin again, and returns the time from its start until it sells.
///
/// # Panics
///
/// If it does not start within a minute.
pub async fn restart(shop: &Shop) -> Duration {
    let host = &shop.host;
    host.stop_plugin().await.expect("it stops");
    host.wait_plugin_gone().await.expect("it is gone");
    let before = Instant::now();
    host.start_plugin().await.expect("it starts");
    while host.node.call("lnplaylive-products", json!({})).await.is_err() {
        assert!(before.elapsed() < START_TIME, "it does not answer");
    }
    before.elapsed()
}
