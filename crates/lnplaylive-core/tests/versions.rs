//! A document of each version of each format. They are never changed or removed: a record of an order that is under way, or
//! an image on a remote, may be as old as the first of them.

use lnplaylive_core::progress::Line;
use lnplaylive_core::version::{self, Versioned};
use lnplaylive_core::{EnvironmentSpec, Order};

/// Order records, one of each kind of state, by version.
const ORDERS: &[(u32, &str)] = &[
    (
        1,
        r#"{"id": "lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624",
        "terms": {"sku": "A", "node_count": 8, "hours": 48, "amount_msat": 76800000},
        "created_at": "2026-11-22T15:31:08Z", "invoice_expires_at": "2026-11-22T15:41:08Z", "revision": 1,
        "state": "failed", "paid_at": "2026-11-22T15:31:20Z", "reason": "no space left on device",
        "leftovers": [], "history": [{"at": "2026-11-22T15:31:20Z", "what": "paid"}]}"#,
    ),
    (
        1,
        r#"{"id": "lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624",
        "terms": {"sku": "A", "node_count": 8, "hours": 48, "amount_msat": 76800000},
        "created_at": "2026-11-22T15:31:08Z", "invoice_expires_at": "2026-11-22T15:41:08Z", "revision": 2,
        "state": "placing", "paid_at": "2026-11-22T15:31:20Z",
        "attempts": {"failed": 1, "faults": 0, "not_before": "2026-11-22T15:31:21Z"},
        "placement": {"remote": "eu-1", "project": "lnplaylive-1795534268-0819da5d",
            "ports": {"first": 20000, "count": 9},
            "access": {"host_key": {"private": "p", "public": "ssh-ed25519 AAAA"},
                "client_key": {"private": "p", "public": "ssh-ed25519 AAAA"}}},
        "leftovers": [{"remote": "eu-2", "member": "m1", "project": "lnplaylive-1795534267-0819da5d",
            "ports": {"first": 20009, "count": 9}, "address": "10.10.10.100"}],
        "history": []}"#,
    ),
    (
        1,
        r#"{"id": "lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624",
        "terms": {"sku": "A", "node_count": 8, "hours": 48, "amount_msat": 76800000},
        "created_at": "2026-11-22T15:31:08Z", "invoice_expires_at": "2026-11-22T15:41:08Z", "revision": 65,
        "state": "provisioned", "paid_at": "2026-11-22T15:31:20Z",
        "handover": {"remote": "eu-1", "project": "lnplaylive-1795534268-0819da5d",
            "expires_at": "2026-11-24T15:46:10Z", "connection_strings": []},
        "leftovers": [], "history": [
            {"at": "2026-11-22T15:31:20Z", "what": "paid"},
            {"at": "2026-11-22T15:31:21Z", "what": "not placed, 57 times in a row, the last at 2026-11-22T16:21:20Z: full"}]}"#,
    ),
];

/// Environment specs, by version.
const SPECS: &[(u32, &str)] = &[(
    1,
    r#"{"environment": "0819da5d", "node_count": 8, "block_time": 5, "coin_distribution": "egalitarian",
        "channel_setup": "prism", "seed": 7, "names": [], "colors": [],
        "ports": {"listen_first": 9736, "public_first": 20001},
        "public_url_template": "ws://203.0.113.7:{port}", "connect_page": "https://shop.example/connect"}"#,
)];

fn read_all<T: Versioned>(documents: &[(u32, &str)]) {
    for (number, json) in documents {
        let document: T = version::read(json.as_bytes()).unwrap_or_else(|e| panic!("version {number}: {e}"));
        let again: T = version::read(version::write(&document).as_bytes()).expect("our own");
        assert_eq!(version::write(&again), version::write(&document), "nothing is lost");
    }
    let versions = 1..=T::VERSION;
    for version in versions {
        assert!(documents.iter().any(|(number, _)| *number == version), "keep one of version {version}");
    }
    // Whatever else is new in it.
    let newer = format!(r#"{{"from_the_future": 1, "version": {}}}"#, T::VERSION + 1);
    let Err(error) = version::read::<T>(newer.as_bytes()) else { panic!("it is newer") };
    let error = error.to_string();
    for part in
        [format!("the {} has version {}", T::NAME, T::VERSION + 1), format!("versions up to {}", T::VERSION)]
    {
        assert!(error.contains(&part), "{part}: {error}");
    }
}

#[test]
fn order_records_of_all_versions_are_read() {
    read_all::<Order>(ORDERS);
}

#[test]
fn environment_specs_of_all_versions_are_read() {
    read_all::<EnvironmentSpec>(SPECS);
}

/// A progress line of an old or a new image: a step or a field that is not known is passed over.
#[test]
fn progress_lines_of_all_versions_are_read() {
    let lines = [
        r#"{"event": "progress", "step": "start-nodes", "done": 1, "total": 8, "message": "Starting the nodes"}"#,
        r#"{"event": "progress", "step": "brew-coffee", "done": 1, "total": 8, "message": "Brewing", "of": "tomorrow"}"#,
    ];
    for line in lines {
        assert!(matches!(Line::parse(line), Some(Line::Progress(progress)) if progress.done == 1), "{line}");
    }
}
