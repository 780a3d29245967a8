//! A document of each version of each format. They are never changed or removed: a record of an order that is under way, or
//! an image on a remote, may be as old as the first of them.

use lnplaylive_core::desk::{Action, Answer};
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
        "terms": {"sku": "A", "node_count": 1, "hours": 48, "amount_msat": 76800000},
        "created_at": "2026-11-22T15:31:08Z", "invoice_expires_at": "2026-11-22T15:41:08Z", "revision": 4,
        "state": "provisioned", "paid_at": "2026-11-22T15:31:20Z",
        "handover": {"remote": "eu-1", "project": "lnplaylive-1795534268-0819da5d", "expires_at": "2026-11-24T15:46:10Z",
            "connection_strings": ["http://localhost:3000/connect#address=025467d80000000000000000000000000000000000000000000000000000000000@127.0.0.1:20001&type=direct&value=ws:&rune=r"],
            "refunded_at": "2026-11-23T10:00:00Z"},
        "leftovers": [], "history": []}"#,
    ),
    (
        2,
        r#"{"id": "lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624",
        "terms": {"sku": "A", "node_count": 1, "hours": 48, "amount_msat": 76800000},
        "created_at": "2026-11-22T15:31:08Z", "invoice_expires_at": "2026-11-22T15:41:08Z", "revision": 5,
        "state": "queued", "paid_at": "2026-11-22T15:31:20Z",
        "attempts": {"failed": 0, "faults": 0, "not_before": "2026-11-23T10:00:00Z"},
        "replaces": {"asked_at": "2026-11-23T10:00:00Z",
            "handover": {"remote": "eu-1", "project": "lnplaylive-1795534268-0819da5d", "expires_at": "2026-11-24T15:46:10Z",
                "connection_strings": ["http://localhost:3000/connect#address=025467d80000000000000000000000000000000000000000000000000000000000@127.0.0.1:20001&type=direct&value=ws:&rune=r"],
                "site": {"ports": {"first": 20000, "count": 2}, "client_key": "p", "host_key": "ssh-ed25519 AAAA"},
                "replaced_at": "2026-11-22T19:00:00Z"},
            "leftover": {"remote": "eu-1", "project": "lnplaylive-1795534268-0819da5d",
                "ports": {"first": 20000, "count": 2}}},
        "leftovers": [], "history": [], "version": 2}"#,
    ),
    (
        3,
        r#"{"id": "lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624",
        "terms": {"sku": "A", "node_count": 8, "hours": 48, "amount_msat": 76800000},
        "created_at": "2026-11-22T15:31:08Z", "invoice_expires_at": "2026-11-22T15:41:08Z", "revision": 4,
        "state": "placing", "paid_at": "2026-11-22T15:31:20Z",
        "attempts": {"failed": 0, "faults": 0, "not_before": "2026-11-22T15:31:21Z"},
        "placement": {"remote": "eu-1", "project": "lnplaylive-1795365000-7d3a11c0",
            "ports": {"first": 20000, "count": 9},
            "access": {"host_key": {"private": "p", "public": "ssh-ed25519 AAAA"},
                "client_key": {"private": "p", "public": "ssh-ed25519 AAAA"}},
            "prepared": {"id": "lnplaylive-7d3a11c0-5cfa-411b-a851-8c08f9178624", "expires": "2026-11-24T15:46:20Z"}},
        "leftovers": [{"remote": "eu-2", "project": "lnplaylive-1795364000-7d3a11c1",
            "ports": {"first": 20009, "count": 9}, "prepared": "lnplaylive-7d3a11c1-5cfa-411b-a851-8c08f9178624"}],
        "history": [], "version": 3}"#,
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

/// Lines of `lnplay up`, one of each kind, by version.
const LINES: &[(u32, &str)] = &[
    (
        1,
        r#"{"event": "progress", "step": "start-nodes", "done": 1, "total": 8, "message": "Starting the nodes"}"#,
    ),
    (
        1,
        r#"{"event": "ready", "connection_strings": ["http://localhost:3000/connect#address=02abababababababababababababababababababababababababababababababab@127.0.0.1:20001&type=direct&value=ws:&rune=cnVuZQ=="]}"#,
    ),
    (1, r#"{"event": "failed", "message": "there is no bitcoind"}"#),
];

/// Actions of the desk, one of each kind, by version.
const ACTIONS: &[(u32, &str)] = &[
    (1, r#"{"action": "look"}"#),
    (1, r#"{"action": "cards"}"#),
    (1, r#"{"action": "new_card", "node": 3, "request": "0819da5d-5cfa-411b-a851-8c08f9178624"}"#),
    (1, r#"{"action": "send_coins", "node": 3, "sat": 1000000}"#),
    (1, r#"{"action": "send_coins", "sat": 1000000, "request": "0819da5d-5cfa-411b-a851-8c08f9178624"}"#),
    (1, r#"{"action": "open_channels", "setup": "circular"}"#),
    (1, r#"{"action": "mine", "blocks": 6}"#),
    (1, r#"{"action": "pause_blocks"}"#),
    (1, r#"{"action": "resume_blocks"}"#),
    (1, r#"{"action": "switch_off", "node": 3}"#),
    (1, r#"{"action": "switch_on", "node": 3}"#),
];

/// Answers of the desk, one of each kind, by version.
const ANSWERS: &[(u32, &str)] = &[
    (
        1,
        r#"{"answer": "done", "did": {"what": "looked"}, "overview": {"block_height": 111, "blocks_paused": false, "nodes": [
            {"index": 0, "name": "Alice", "state": "running", "block_height": 111, "card": "00112233aabbccdd"},
            {"index": 1, "name": "Bruno", "state": "off", "block_height": null, "card": "00112233aabbccde"},
            {"index": 2, "name": "Clara", "state": "down", "block_height": null, "card": null}]}}"#,
    ),
    (
        1,
        r#"{"answer": "done", "did": {"what": "cards", "runes": ["cnVuZQ==", null]},
            "overview": {"block_height": null, "blocks_paused": true, "nodes": []}}"#,
    ),
    (
        1,
        r#"{"answer": "done", "did": {"what": "new_card", "node": 3, "rune": "cnVuZQ=="},
            "overview": {"block_height": null, "blocks_paused": true, "nodes": []}}"#,
    ),
    (
        1,
        r#"{"answer": "done", "did": {"what": "coins_sent", "nodes": [0, 2], "sat": 10000,
            "left_out": [{"node": 1, "why": "off"}, {"node": 3, "why": "no_answer"}]},
            "overview": {"block_height": null, "blocks_paused": true, "nodes": []}}"#,
    ),
    (
        1,
        r#"{"answer": "done", "did": {"what": "channels_opened", "opened": 5, "open_already": 2,
            "left_out": [{"node": 1, "why": "no_coins"}, {"node": 3, "why": "failed"}]},
            "overview": {"block_height": null, "blocks_paused": true, "nodes": []}}"#,
    ),
    (
        1,
        r#"{"answer": "done", "did": {"what": "mined", "blocks": 6},
            "overview": {"block_height": 117, "blocks_paused": true, "nodes": []}}"#,
    ),
    (1, r#"{"answer": "refused", "reason": "node_off", "message": "Bruno is switched off"}"#),
];

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

#[test]
fn output_of_lnplay_of_all_versions_is_read() {
    read_all::<Line>(LINES);
    for (_, line) in LINES {
        assert!(Line::parse(line).is_some(), "{line}");
    }
}

#[test]
fn actions_and_answers_of_the_desk_of_all_versions_are_read() {
    read_all::<Action>(ACTIONS);
    read_all::<Answer>(ANSWERS);
}

/// The same version may have more steps and fields one day: these only inform.
#[test]
fn a_step_or_a_field_that_is_not_known_is_passed_over() {
    let line = r#"{"event": "progress", "step": "brew-coffee", "done": 1, "total": 8, "message": "Brewing", "of": "tomorrow"}"#;
    assert!(matches!(Line::parse(line), Some(Line::Progress(progress)) if progress.done == 1), "{line}");
    let newer = r#"{"event": "ready", "connection_strings": [], "version": 2}"#;
    assert_eq!(Line::parse(newer), None, "what it means is not known");
}
