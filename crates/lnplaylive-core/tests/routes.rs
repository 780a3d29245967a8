//! The route table: what is found in it, what is refused, and that its file is never half written.

use std::os::unix::fs::PermissionsExt as _;

use jiff::Timestamp;
use lnplaylive_core::routes::{NoRoute, Route, RouteTable, RouteTableError};
use lnplaylive_core::{Endpoint, ProjectName};

const SOON: i64 = 1_800_000_000;
const NAME: &str = "1800000000-0819da5d";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn node(port: u16) -> Endpoint {
    format!("ws://192.0.2.7:{port}").parse().expect("an endpoint")
}

/// Two nodes until an hour after the time in the name, as after an extension.
fn table() -> RouteTable {
    let mut table = RouteTable::default();
    let name = ProjectName::from_environment(NAME).expect("a name");
    table.insert(name, Route::new(at(SOON + 3600), vec![node(20001), node(20002)]).expect("a route"));
    table
}

#[test]
fn finds_nodes_until_the_environment_ends() {
    let table = table();
    let now = at(SOON + 3599);
    assert_eq!(table.lookup(NAME, "0", now), Ok(&node(20001)));
    assert_eq!(table.lookup(NAME, "1", now), Ok(&node(20002)));
    assert_eq!(table.lookup(NAME, "1", at(SOON + 3600)), Err(NoRoute::Expired));
    for (environment, node) in [
        (NAME, "2"),
        (NAME, "64"),
        (NAME, "-0"),
        (NAME, "+1"),
        (NAME, "01"),
        (NAME, ""),
        (NAME, "99999999999999999999999999"),
        ("1900000000-0819da5d", "0"),
        ("1800000000-0819DA5D", "0"),
        ("lnplaylive-1800000000-0819da5d", "0"),
        ("01800000000-0819da5d", "0"),
        ("", "0"),
        ("../../etc", "0"),
    ] {
        assert_eq!(table.lookup(environment, node, now), Err(NoRoute::Unknown), "{environment}/{node}");
    }
    // What is no longer listed still says when it ended.
    assert_eq!(table.lookup("1700000000-0819da5d", "0", now), Err(NoRoute::Expired));
}

#[test]
fn the_written_form_is_the_one_agreed_on() {
    let json = r#"{"environments":{"1800000000-0819da5d":{"expires_at":"2027-01-15T09:00:00Z","nodes":["ws://192.0.2.7:20001","ws://192.0.2.7:20002"]}}}"#;
    assert_eq!(table().to_string(), json);
    assert_eq!(RouteTable::from_json(json).expect("it is ours"), table());
    assert!(RouteTable::from_json(r#"{"environments":{}}"#).expect("none").is_empty());
}

#[test]
fn what_is_no_route_table_is_refused() {
    let with = |route: &str| format!(r#"{{"environments":{{"{NAME}":{route}}}}}"#);
    let nodes = |nodes: &str| with(&format!(r#"{{"expires_at":"2027-01-15T09:00:00Z","nodes":{nodes}}}"#));
    let many = format!("[{}]", vec![r#""ws://192.0.2.7:20001""#; 65].join(","));
    for text in [
        String::new(),
        "[]".into(),
        "{}".into(),
        r#"{"environments":{},"more":1}"#.into(),
        with("null"),
        with(r#"{"expires_at":"soon","nodes":["ws://192.0.2.7:20001"]}"#),
        nodes("[]"),
        nodes(&many),
        nodes(r#"["http://192.0.2.7:20001"]"#),
        nodes(r#"["wss://192.0.2.7:20001"]"#),
        nodes(r#"["ws://192.0.2.7:20001/path"]"#),
        nodes(r#"["ws://192.0.2.7:20001?query"]"#),
        nodes(r#"["ws://"]"#),
        nodes(r#"["ws://192.0.2.7:20001"]"#).replace(NAME, "../etc"),
        "[".repeat(1 << 20),
    ] {
        let shown: String = text.chars().take(200).collect();
        assert!(matches!(RouteTable::from_json(&text), Err(RouteTableError::Garbled(_))), "{shown}");
    }
    let huge = " ".repeat(33 << 20);
    assert!(matches!(RouteTable::from_json(&huge), Err(RouteTableError::TooLarge(_))));
}

#[test]
fn a_file_is_replaced_whole_and_only_its_group_reads_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("routes.json");
    assert!(matches!(RouteTable::read(&path), Err(RouteTableError::File { .. })));
    for table in [RouteTable::default(), table()] {
        table.write(&path).expect("it can be written");
        assert_eq!(RouteTable::read(&path).expect("it can be read"), table);
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
    let left = std::fs::read_dir(dir.path()).expect("it is ours").count();
    assert_eq!(left, 1, "nothing but the table is left");
    let nowhere = dir.path().join("missing/routes.json");
    let error = table().write(&nowhere).expect_err("no such directory").to_string();
    assert!(error.contains("missing/routes.json"), "{error}");
}
