//! Metrics of the last pass, as a file for the node exporter of Prometheus: the culler is not there to be asked.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::report::{Counts, Report};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RemoteLabel {
    remote: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    remote: String,
    outcome: &'static str,
}

/// Writes the metrics of a pass that lasted from `began` to `ended`.
pub(crate) fn write(path: &Path, report: &Report, began: Timestamp, ended: Timestamp) -> io::Result<()> {
    metrics_endpoint::write_file(path, &registry(report, began, ended))
}

/// All of them are gauges: each pass is counted by itself.
fn registry(report: &Report, began: Timestamp, ended: Timestamp) -> Registry {
    let mut registry = Registry::with_prefix("lnplaylive_culler");
    let ended_at: Gauge = Gauge::default();
    ended_at.set(ended.as_second());
    let lasted = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
    lasted.set(ended.duration_since(began).as_secs_f64().max(0.0));
    let (failed, projects) = (Family::<RemoteLabel, Gauge>::default(), Family::<Labels, Gauge>::default());
    for remote in &report.remotes {
        let label = RemoteLabel { remote: remote.name.clone() };
        failed.get_or_create(&label).set(remote.error.is_some().into());
        let Counts { seen: _, kept, removed, failed, foreign, malformed } = remote.counts;
        for (outcome, count) in [
            ("kept", kept),
            ("removed", removed),
            ("failed", failed),
            ("foreign", foreign),
            ("malformed", malformed),
        ] {
            projects.get_or_create(&Labels { remote: remote.name.clone(), outcome }).set(count.into());
        }
    }
    let r = &mut registry;
    r.register_with_unit("last_pass_timestamp", "End of the last pass", Unit::Seconds, ended_at);
    r.register_with_unit("last_pass_duration", "Time that the last pass took", Unit::Seconds, lasted);
    r.register("remote_failed", "1 if the last pass failed for the remote as a whole", failed);
    r.register("projects", "Projects of the remote in the last pass, by what was done", projects);
    registry
}
