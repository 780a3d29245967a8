//! Whatever is written can be read again, and what is not ours is refused.

use jiff::Timestamp;
use lnplaylive_core::connection::{ConnectionString, Endpoint, NodeId, Rgb, Scheme};
use lnplaylive_core::environment::{ChannelSetup, CoinDistribution, EnvironmentSpec, NodeAccess, Ports};
use lnplaylive_core::progress::{Line, Progress};
use lnplaylive_core::tags::Stage;
use lnplaylive_core::{OrderId, PortBlock, ProjectName, ProjectTags, ShopId};
use proptest::prelude::*;
use url::Url;
use uuid::Uuid;

prop_compose! {
    fn node_id()(odd in any::<bool>(), key in any::<[u8; 32]>()) -> NodeId {
        let hex = key.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        format!("{}{hex}", if odd { "03" } else { "02" }).parse().expect("a node id")
    }
}

prop_compose! {
    fn endpoint()(
        tls in any::<bool>(),
        host in prop_oneof!["[a-z]{1,9}(\\.[a-z]{2,5}){0,2}", Just("127.0.0.1".to_owned()), Just("[::1]".to_owned())],
        port in 1..=u16::MAX,
        path in prop_oneof![Just(String::new()), "(/[a-z0-9-]{1,12}){1,3}"],
    ) -> Endpoint {
        Endpoint { scheme: if tls { Scheme::Wss } else { Scheme::Ws }, host, port, path }
    }
}

prop_compose! {
    fn connection_string()(
        node_id in node_id(),
        endpoint in endpoint(),
        rune in "[A-Za-z0-9_-]{40,120}={0,2}",
        name in proptest::option::of(any::<String>()),
        color in proptest::option::of(any::<[u8; 3]>()),
        page in "https?://[a-z]{1,9}\\.example(:[1-9][0-9]{3})?/[a-z]{0,8}",
    ) -> ConnectionString {
        let page = Url::parse(&page).expect("a URL");
        ConnectionString { page, node_id, endpoint, rune, name, color: color.map(Rgb) }
    }
}

/// A change of a text, at a place that is chosen once its length is known.
#[derive(Debug, Clone)]
enum Change {
    Replace(prop::sample::Index, char),
    Insert(prop::sample::Index, char),
    Remove(prop::sample::Index),
    Repeat(prop::sample::Index),
    Capitals,
}

/// A few changes; most of what they make of a valid text is nearly valid.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    let character = prop_oneof![
        4 => prop::sample::select("0123456789abcdefABCDEF-+@:/#&=%?.[]_~ ".chars().collect::<Vec<_>>()),
        1 => any::<char>(),
    ];
    let at = any::<prop::sample::Index>;
    let change = prop_oneof![
        4 => (at(), character.clone()).prop_map(|(at, to)| Change::Replace(at, to)),
        2 => (at(), character).prop_map(|(at, new)| Change::Insert(at, new)),
        2 => at().prop_map(Change::Remove),
        1 => at().prop_map(Change::Repeat),
        1 => Just(Change::Capitals),
    ];
    proptest::collection::vec(change, 0..3)
}

fn changed(text: &str, changes: &[Change]) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for change in changes {
        let length = text.len();
        match change {
            Change::Insert(at, new) => text.insert(at.index(length + 1), *new),
            Change::Capitals => text = text.iter().flat_map(|c| c.to_uppercase()).collect(),
            _ if length == 0 => {}
            Change::Replace(at, to) => text[at.index(length)] = *to,
            Change::Remove(at) => drop(text.remove(at.index(length))),
            Change::Repeat(at) => text.extend_from_within(at.index(length)..),
        }
    }
    text.into_iter().collect()
}

fn spec() -> EnvironmentSpec {
    EnvironmentSpec {
        environment: "0a1b2c3d".into(),
        node_count: 8,
        block_time: 5,
        coin_distribution: CoinDistribution::Egalitarian,
        channel_setup: ChannelSetup::None,
        seed: u64::MAX,
        names: vec![],
        colors: vec![],
        ports: Ports { listen_first: 9736, public_first: 20001, listen_address: None },
        public_url_template: "wss://shop.example/e/{environment}/{node}".into(),
        connect_page: Url::parse("https://shop.example/connect").expect("a URL"),
        node_access: NodeAccess::default(),
    }
}

proptest! {
    #[test]
    fn connection_strings_round_trip(connection in connection_string()) {
        let link = connection.to_string();
        prop_assert_eq!(&link.parse::<ConnectionString>().expect("our own link"), &connection);
        let json = serde_json::to_string(&connection).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<ConnectionString>(&json).expect("our own JSON"), connection);
        // Nothing but the page is sent to a server.
        let url = Url::parse(&link).expect("a URL");
        prop_assert!(url.fragment().is_some() && url.query().is_none());
    }

    #[test]
    fn the_plain_parts_can_be_read_in_the_link(connection in connection_string()) {
        let link = connection.to_string();
        let Endpoint { host, port, scheme, .. } = &connection.endpoint;
        let address = format!("address={}@{host}:{port}&", connection.node_id);
        prop_assert!(link.contains(&address), "{}", link);
        let value = format!("&value={}:&rune={}", scheme.as_str(), connection.rune);
        prop_assert!(link.contains(&value), "{}", link);
    }

    /// Whatever is read is written as it is understood: reading it again gives the same.
    #[test]
    fn a_link_that_was_changed_is_refused_or_read_consistently(
        connection in connection_string(), changes in changes(),
    ) {
        let link = changed(&connection.to_string(), &changes);
        if let Ok(read) = link.parse::<ConnectionString>() {
            prop_assert_eq!(read.to_string().parse::<ConnectionString>(), Ok(read.clone()), "{}", link);
            prop_assert!(read.page.fragment().is_none() && !read.rune.is_empty());
        }
    }

    #[test]
    fn a_tag_that_was_changed_is_refused_or_read_consistently(
        seconds in 1..=4_000_000_000_i64, uuid in any::<u128>(), first in 1..65_000_u16, nodes in 1..=64_u32,
        which in any::<prop::sample::Index>(), changes in changes(),
    ) {
        let order = OrderId::from_uuid(Uuid::from_u128(uuid));
        let expires = Timestamp::from_second(seconds).expect("in range");
        let tags = ProjectTags {
            project: ProjectName::new(expires, order).expect("a name"),
            order,
            prepared: None,
            expires,
            ports: PortBlock::for_nodes(first, nodes).expect("in range"),
            member: Some("member-1".into()),
            address: Some([10, 0, 0, 1].into()),
            stage: Stage::Placing,
            created: Some(expires),
            removing: None,
            shop: Some(ShopId::random()),
        };
        let mut config = tags.to_config();
        let keys: Vec<_> = config.keys().cloned().collect();
        let key = which.get(&keys);
        let value = changed(&config[key], &changes);
        config.insert(key.clone(), value.clone());
        if let Ok(read) = ProjectTags::read(&tags.project.to_string(), &config) {
            // Times before the name's are the one thing that is not kept as it was written.
            let expected = if key.ends_with(".expires") { config[key].clone() } else { value };
            let written = read.to_config();
            let later = key.ends_with(".expires") && read.expires == expires;
            prop_assert!(written[key] == expected || later, "{} {:?}", key, expected);
        }
    }

    #[test]
    fn project_names_round_trip(seconds in 1..=253_402_207_200_i64, uuid in any::<u128>()) {
        let order = OrderId::from_uuid(Uuid::from_u128(uuid));
        let expires = Timestamp::from_second(seconds).expect("in range");
        let name = ProjectName::new(expires, order).expect("a name");
        prop_assert_eq!(name.to_string().parse(), Ok(name));
        prop_assert_eq!(name.expires(), expires);
        prop_assert_eq!(name.order_short(), order.short());
    }

    #[test]
    fn only_the_one_spelling_is_a_name(
        seconds in 1..=253_402_207_200_i64, uuid in any::<u128>(), changes in changes(),
    ) {
        let order = OrderId::from_uuid(Uuid::from_u128(uuid));
        let name = ProjectName::new(Timestamp::from_second(seconds).expect("in range"), order).expect("a name");
        let text = changed(&name.to_string(), &changes);
        if let Ok(read) = text.parse::<ProjectName>() {
            prop_assert_eq!(read.to_string(), text);
        }
        let text = changed(&order.to_string(), &changes);
        if let Ok(read) = text.parse::<OrderId>() {
            prop_assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn order_ids_round_trip(uuid in any::<u128>()) {
        let id = OrderId::from_uuid(Uuid::from_u128(uuid));
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert!(id.to_string().to_uppercase().parse::<OrderId>().is_err());
    }

    #[test]
    fn shop_ids_round_trip(text in "[a-z0-9-]{1,32}", wrong in "[a-z0-9-]{33}|[a-z0-9-]{0,9}[^a-z0-9-]") {
        let id: ShopId = text.parse().expect("an id");
        prop_assert_eq!(id.to_string(), text);
        prop_assert!(wrong.parse::<ShopId>().is_err());
        let random = ShopId::random();
        prop_assert_eq!(random.as_str().len(), 16);
        prop_assert_eq!(random.to_string().parse(), Ok(random));
    }

    #[test]
    fn progress_lines_round_trip(
        step in any::<String>(), message in any::<String>(), done in any::<u32>(), total in any::<u32>(),
        connection_strings in proptest::collection::vec(connection_string(), 0..4),
    ) {
        let lines = [
            Line::Progress(Progress { step, done, total, message: message.clone() }),
            Line::Ready { connection_strings },
            Line::Failed { message },
        ];
        for line in lines {
            let text = serde_json::to_string(&line).expect("JSON");
            prop_assert!(!text.contains('\n'));
            prop_assert_eq!(Line::parse(&text), Some(line));
        }
    }

    #[test]
    fn a_spec_in_range_is_valid_and_round_trips(
        node_count in 1..=64_u32, block_time in 1..=3600_u32, first in 1024..=60_000_u16,
    ) {
        let spec = EnvironmentSpec {
            node_count, block_time, ports: Ports { public_first: first, ..spec().ports }, ..spec()
        };
        prop_assert_eq!(spec.validate(), Ok(()));
        let json = serde_json::to_string(&spec).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<EnvironmentSpec>(&json).expect("our own"), spec);
    }
}

#[test]
fn names_that_are_not_ours_are_refused() {
    for text in [
        "",
        "default",
        "lnplaylive",
        "lnplaylive-",
        "lnplaylive-1700000000",
        "lnplaylive-1700000000-",
        "lnplaylive-1700000000-0a1b2c3",
        "lnplaylive-1700000000-0a1b2c3d4",
        "lnplaylive-1700000000-0A1B2C3D",
        "lnplaylive-01700000000-0a1b2c3d",
        "lnplaylive-+1700000000-0a1b2c3d",
        "lnplaylive--1700000000-0a1b2c3d",
        "lnplaylive-0-0a1b2c3d",
        "lnplaylive-17000000000000000000-0a1b2c3d",
        "lnplaylive-9223372036854775807-0a1b2c3d",
        "lnplaylive-1700000000-0a1b2c3d-x",
        "xlnplaylive-1700000000-0a1b2c3d",
        " lnplaylive-1700000000-0a1b2c3d",
    ] {
        assert!(text.parse::<ProjectName>().is_err(), "{text}");
    }
    for text in ["", "lnplaylive-", "lnplaylive-1", "00000000-0000-4000-8000-000000000000"] {
        assert!(text.parse::<OrderId>().is_err(), "{text}");
    }
}

#[test]
fn what_a_spec_gives_access_to_is_said_where_it_is_not_the_default() {
    let json = serde_json::to_value(spec()).expect("JSON");
    assert_eq!(json.get("node_access"), None, "an older lnplay would not know it");
    let full = EnvironmentSpec { node_access: NodeAccess::Full, ..spec() };
    assert_eq!(serde_json::to_value(full).expect("JSON")["node_access"], "full");
}

#[test]
fn a_spec_out_of_range_says_what_is_wrong() {
    let refused = |spec: EnvironmentSpec| spec.validate().expect_err("refused").to_string();
    assert!(refused(EnvironmentSpec { node_count: 0, ..spec() }).starts_with("node_count is 0"));
    assert!(refused(EnvironmentSpec { node_count: 65, ..spec() }).starts_with("node_count is 65"));
    assert!(refused(EnvironmentSpec { block_time: 0, ..spec() }).starts_with("block_time"));
    assert!(refused(EnvironmentSpec { names: vec!["Ada".into()], ..spec() }).starts_with("names has 1"));
    let ports = Ports { public_first: 65_530, ..spec().ports };
    assert!(refused(EnvironmentSpec { ports, ..spec() }).starts_with("ports 65530"));
    let public_url_template = "https://{port}".to_owned();
    assert!(refused(EnvironmentSpec { public_url_template, ..spec() }).starts_with("public_url_template"));
}

#[test]
fn a_rune_is_never_printed_by_accident() {
    let link = format!(
        "https://shop.example/connect#address=02{}@h:1&type=direct&value=ws:&rune=s3cret",
        "ab".repeat(32)
    );
    let connection: ConnectionString = link.parse().expect("a link");
    assert!(!format!("{connection:?}").contains("s3cret"));
}
