//! Fuzz targets: one for each parser at a trust boundary.
//!
//! A target takes any bytes and panics if the code that reads them panics or breaks a rule, which its documentation states.
//! `tests/mutations.rs` runs every target on its seeds and on mutations of them, with every test run. `tests/run fuzz` runs
//! them under libFuzzer, guided by coverage, for as long as `FUZZ_SECONDS` says.
//!
//! Seeds are in `seeds/TARGET/`. They are taken from real traffic, with secrets replaced. Add the input of every fault found.

mod documents;
mod methods;
mod remote;
mod web;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is also that of its directory of seeds.
    pub name: &'static str,
    /// Reads one input. Panics if it breaks a rule.
    pub run: fn(&[u8]),
    /// True if an input takes microseconds; false if it goes through sockets, or draws.
    pub fast: bool,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "order_record", run: documents::order_record, fast: true },
    Target { name: "environment_spec", run: documents::environment_spec, fast: true },
    Target { name: "connection_string", run: documents::connection_string, fast: true },
    Target { name: "project_tags", run: documents::project_tags, fast: true },
    Target { name: "route_table", run: documents::route_table, fast: true },
    Target { name: "progress_line", run: documents::progress_line, fast: true },
    Target { name: "desk_action", run: documents::desk_action, fast: true },
    Target { name: "desk_answer", run: documents::desk_answer, fast: true },
    Target { name: "shared_requests", run: documents::shared_requests, fast: true },
    Target { name: "ticket", run: documents::ticket, fast: true },
    Target { name: "user_data", run: documents::user_data, fast: true },
    Target { name: "method_call", run: methods::method_call, fast: true },
    Target { name: "cards_request", run: web::cards_request, fast: false },
    Target { name: "http_request", run: web::http_request, fast: false },
    Target { name: "websocket_bytes", run: web::websocket_bytes, fast: false },
    Target { name: "remote_answer", run: remote::remote_answer, fast: false },
];

/// Runs a target on an input.
///
/// # Panics
///
/// If there is no such target, or if the input breaks one of its rules.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("no target {name:?}"));
    (target.run)(input);
}
