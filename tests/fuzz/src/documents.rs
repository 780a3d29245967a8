//! Documents: read from a string, without any I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Component;

use jiff::Timestamp;
use lnplay_agent::requests::{MAX_OWN_FILE, Shared};
use lnplaylive_core::desk::{self, Action, Answer};
use lnplaylive_core::environment::MAX_NODES;
use lnplaylive_core::order::Policy;
use lnplaylive_core::progress::{Line, Step};
use lnplaylive_core::tags::{ProjectTags, ports_of_malformed};
use lnplaylive_core::ticket::{Ticket, TicketKey};
use lnplaylive_core::version::Versioned;
use lnplaylive_core::{ConnectionString, EnvironmentSpec, Event, Order, RouteTable, Secret, version};
use lnplaylive_user_data::{ImageInfo, UserData, files};
use toml::Table;
use uuid::Uuid;

fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

/// What is read is written so that it is read as the same again.
fn round_trip<T: Versioned + PartialEq + std::fmt::Debug>(input: &[u8]) -> Option<T> {
    let document: T = version::read(input).ok()?;
    let again: T = version::read(version::write(&document).as_bytes()).expect("it reads what it wrote");
    assert_eq!(again, document);
    Some(document)
}

/// A record of the datastore. One that is read is written as the same, and every event either applies or is refused.
pub(crate) fn order_record(input: &[u8]) {
    let Some(order) = round_trip::<Order>(input) else { return };
    let now = order.created_at;
    let gone = order.leftovers.first().map(|leftover| Event::LeftoverGone(leftover.project));
    let events = [
        Event::Paid,
        Event::NotPlaced { reason: "no room".into() },
        Event::InstanceRuns,
        Event::Retry,
        Event::Cancel,
        Event::Refunded { note: None },
        Event::Extended { expires_at: Timestamp::MAX },
    ];
    for event in events.into_iter().chain(gone) {
        if let Ok(next) = order.apply(event, now, &Policy::default()) {
            assert!(next.id == order.id && next.terms == order.terms && next.revision >= order.revision);
        }
    }
}

/// The spec that an instance is given. One that is valid has an endpoint for each of its nodes.
pub(crate) fn environment_spec(input: &[u8]) {
    let Some(spec) = round_trip::<EnvironmentSpec>(input) else { return };
    if spec.validate().is_ok() {
        for node in 0..spec.node_count {
            spec.endpoint(node).expect("the spec is valid");
        }
    }
}

/// A connection string, which an environment prints. What is accepted is written as one line that is accepted as the same.
pub(crate) fn connection_string(input: &[u8]) {
    let Some(Ok(string)) = text(input).map(str::parse::<ConnectionString>) else { return };
    let written = string.to_string();
    assert!(!written.contains(char::is_control), "{written:?}");
    assert_eq!(written.parse::<ConnectionString>().as_ref(), Ok(&string), "{written}");
}

/// A project's name in the first line, then a key and its value, separated by `=`, in each further line. Tags that are
/// accepted are written as the same.
pub(crate) fn project_tags(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let mut lines = text.lines();
    let name = lines.next().unwrap_or_default();
    let config: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    if let Ok(tags) = ProjectTags::read(name, &config) {
        assert_eq!(tags.project.to_string(), name);
        assert_eq!(ProjectTags::read(name, &tags.to_config()), Ok(tags));
    }
    // Whatever ports it takes for used, they are ports.
    if let Some(ports) = ports_of_malformed(&config) {
        assert!(ports.first > 0 && u32::from(ports.first) + u32::from(ports.count) <= 1 << 16, "{ports:?}");
    }
}

/// The route table. One that is accepted is written as the same, and leads nowhere after its end.
pub(crate) fn route_table(input: &[u8]) {
    let Some(Ok(table)) = text(input).map(RouteTable::from_json) else { return };
    for (environment, route) in table.iter() {
        for node in 0..route.nodes().len() {
            let found = table.lookup(&environment.environment(), &node.to_string(), route.expires_at());
            assert!(found.is_err(), "{environment} has a route at its end");
        }
    }
    let json = serde_json::to_string(&table).expect("plain data");
    assert_eq!(RouteTable::from_json(&json).expect("it reads what it wrote"), table);
}

/// A line that `lnplay` prints over SSH. Progress never exceeds the whole.
pub(crate) fn progress_line(input: &[u8]) {
    // As the provisioner reads it.
    let line = String::from_utf8_lossy(input);
    let Some(line) = Line::parse(&line) else { return };
    if let Line::Progress(progress) = &line
        && let Some(step) = Step::from_name(&progress.step)
    {
        assert!(step.overall(progress.done, progress.total, 100) <= 100, "{progress:?}");
    }
    let json = serde_json::to_string(&line).expect("plain data");
    assert_eq!(Line::parse(&json), Some(line));
}

/// An action of the organiser's desk, as `lnplay desk` reads it. One that is valid for an environment is about one of its nodes,
/// and stays within its bounds.
pub(crate) fn desk_action(input: &[u8]) {
    let Some(action) = round_trip::<Action>(input) else { return };
    for nodes in [1, 8, MAX_NODES] {
        if action.validate(nodes).is_err() {
            continue;
        }
        match &action {
            Action::NewCard { node, .. } | Action::SwitchOff { node } | Action::SwitchOn { node } => {
                assert!(*node < nodes, "{action:?}");
            }
            Action::SendCoins { node, sat, .. } => {
                assert!(node.is_none_or(|node| node < nodes) && *sat <= desk::MAX_SAT, "{action:?}");
            }
            Action::Mine { blocks, .. } => assert!((1..=desk::MAX_BLOCKS).contains(blocks), "{action:?}"),
            _ => {}
        }
    }
}

/// What `lnplay desk` answers over SSH.
pub(crate) fn desk_answer(input: &[u8]) {
    round_trip::<Answer>(input);
}

/// A file with a node's payment requests, which the node's owner may have written. What is taken from it is bounded, and is written so that it is
/// read as the same again; a new request fits in always.
pub(crate) fn shared_requests(input: &[u8]) {
    let mut shared = Shared::read(input);
    let file = shared.to_file();
    assert!(file.len() as u64 <= MAX_OWN_FILE, "{} bytes", file.len());
    assert_eq!(Shared::read(&file), shared);
    shared.add("lnbcrt1new", Some("new")).expect("a request");
    assert_eq!(Shared::read(&shared.to_file()), shared);
    assert!(shared.paid("new") && !shared.remove("lnbcrt1new"));
}

/// A ticket. Only the two of the seeds are accepted, and they are written as the same.
pub(crate) fn ticket(input: &[u8]) {
    let key = TicketKey::new(Secret::new("0123456789abcdef0123456789abcdef")).expect("it is long enough");
    let issued = Timestamp::from_second(1_800_000_000).expect("in range");
    let known = [1, 2].map(|number| {
        let holder = key.holder(Ipv4Addr::new(203, 0, 113, number).into());
        key.sign(&Ticket::with_id(Uuid::from_u128(number.into()), holder, issued))
    });
    let Some(text) = text(input) else { return };
    let accepted = key.verify(text, issued).is_ok();
    assert_eq!(accepted, known.iter().any(|ticket| ticket == text), "{text:?}");
}

/// A machine's user-data. Files have plain names below their directory, lines of `host.env` and `lightning.conf` are only those
/// of known settings, and secrets are in files that only root reads.
pub(crate) fn user_data(input: &[u8]) {
    const VARIABLES: [&str; 11] = [
        "DEPLOY_LNPLAYLIVE_FRONTEND",
        "BITCOIN_CHAIN",
        "LIGHTNING_NETWORK",
        "STATE_VOLUME",
        "SHOP_DOMAIN",
        "ACME_OPTIONS",
        "BACKUP_BUCKET",
        "BACKUP_PREFIX",
        "BACKUP_REGION",
        "BACKUP_ENDPOINT",
        "BACKUP_RECIPIENTS",
    ];
    let Some(text) = text(input) else { return };
    let Ok(document) = UserData::parse(text) else { return };
    let options: BTreeSet<_> = document.host.lightningd.to_string().lines().map(key).collect();
    let image = ImageInfo { base: Table::new(), images: "/images".into(), out: "/run/lnplaylive".into() };
    let Ok(files) = files(&document, &image) else { return };
    for file in &files {
        let plain = file.path.components().all(|part| matches!(part, Component::Normal(_)));
        assert!(plain, "{}", file.path.display());
        match file.path.to_str() {
            Some("host.env") => {
                let unknown = file.text.lines().find(|line| !VARIABLES.contains(&key(line).as_str()));
                assert_eq!(unknown, None);
            }
            Some("lightning.conf") => {
                let known = |key: &str| matches!(key, "alias" | "announce-addr") || options.contains(key);
                assert_eq!(file.text.lines().find(|line| !known(&key(line))), None);
                // Any of these runs a program or reads a file.
                for option in ["plugin", "plugin-dir", "include", "conf", "lightning-dir", "bitcoin-cli"] {
                    assert!(!options.contains(option), "{option} was accepted");
                }
            }
            Some("lnplaylive.toml") => {
                toml::from_str::<Table>(&file.text).expect("TOML");
            }
            _ => {}
        }
    }
}

fn key(line: &str) -> String {
    line.split('=').next().unwrap_or_default().to_owned()
}
