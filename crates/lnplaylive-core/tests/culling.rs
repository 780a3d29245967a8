//! The rules of culling: which projects are removed, and which never are.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::culling::{PLACING_LIMIT, Reason, Verdict, judge};
use lnplaylive_core::tags::{
    KEY_ADDRESS, KEY_CREATED, KEY_EXPIRES, KEY_MEMBER, KEY_ORDER, KEY_PORTS, KEY_PREPARED, KEY_REMOVING,
    KEY_SHOP, KEY_STATE, Stage, TagError,
};
use lnplaylive_core::{OrderId, PortBlock, ProjectName, ProjectTags, ShopId};
use proptest::prelude::*;
use uuid::Uuid;

type Config = BTreeMap<String, String>;

/// Some time in 2026.
const NOW: i64 = 1_780_000_000;
const HOUR: i64 = 3600;
const GRACE: SignedDuration = SignedDuration::from_mins(10);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn order() -> OrderId {
    OrderId::from_uuid(Uuid::from_u128(0x0819_da5d_5cfa_411b_a851_8c08_f917_8624))
}

fn shop() -> ShopId {
    "shop-1".parse().expect("an id")
}

/// A project as the provisioner makes it.
fn project(name_expires: i64, key_expires: i64, stage: Stage, created: Option<i64>) -> (String, Config) {
    let tags = ProjectTags {
        project: ProjectName::new(at(name_expires), order()).expect("a name"),
        order: order(),
        prepared: None,
        expires: at(key_expires),
        ports: PortBlock { first: 20000, count: 9 },
        member: None,
        address: None,
        stage,
        created: created.map(at),
        removing: None,
        shop: Some(shop()),
    };
    let mut config = tags.to_config();
    config.insert("features.images".to_owned(), "false".to_owned());
    (tags.project.to_string(), config)
}

fn verdict((name, config): &(String, Config)) -> Verdict {
    judge(name, config, Some(&shop()), at(NOW), GRACE)
}

fn tag_error(name: &str, config: &Config) -> TagError {
    match judge(name, config, Some(&shop()), Timestamp::MAX, SignedDuration::ZERO) {
        Verdict::Malformed(error) => error,
        other => panic!("{name:?} {config:?} is {other:?}"),
    }
}

#[test]
fn the_later_end_and_the_grace_count() {
    let grace = GRACE.as_secs();
    for (name, key, removed) in [
        (NOW - grace, NOW - grace, true),
        (NOW - grace + 1, NOW - grace, false),
        (NOW - grace, NOW - grace + 1, false),
        (NOW - 9 * HOUR, NOW + HOUR, false),
        (NOW + HOUR, NOW - 9 * HOUR, false),
        (1, 1, true),
    ] {
        let project = project(name, key, Stage::Provisioned, Some(1));
        let later = at(name.max(key));
        let expected = if removed {
            Verdict::Remove(Reason::Expired { at: later })
        } else {
            Verdict::Keep { expires: later }
        };
        assert_eq!(verdict(&project), expected, "{name} {key}");
    }
}

#[test]
fn what_a_crash_has_left_goes_a_day_after_it_was_begun() {
    let day = PLACING_LIMIT.as_secs();
    let later = NOW + 9 * HOUR;
    let left = |stage, created| verdict(&project(later, later, stage, created));
    let keep = Verdict::Keep { expires: at(later) };
    let created = at(NOW - day);
    let remove = Verdict::Remove(Reason::NeverHandedOver { created });
    assert_eq!(left(Stage::Placing, Some(NOW - day)), remove);
    assert_eq!(left(Stage::Placing, Some(NOW - day + 1)), keep);
    assert_eq!(left(Stage::Placing, Some(NOW + day)), keep, "made in the future");
    assert_eq!(left(Stage::Placing, None), keep, "nothing tells when");
    assert_eq!(left(Stage::Provisioned, Some(NOW - 99 * day)), keep, "handed over");
}

#[test]
fn what_was_prepared_goes_at_its_end_whoever_has_it_by_then() {
    let grace = GRACE.as_secs();
    let prepared = |end| project(end, end, Stage::Prepared, Some(NOW - 99 * HOUR));
    assert_eq!(verdict(&prepared(NOW)), Verdict::Keep { expires: at(NOW) }, "however old it is");
    let (name, config) = prepared(NOW - grace);
    let end = at(NOW - grace);
    assert_eq!(verdict(&(name.clone(), config.clone())), Verdict::Remove(Reason::Expired { at: end }));

    // An order has taken it over: the name is not the order's, and its end counts no longer.
    let mut taken = config;
    let buyer = OrderId::from_uuid(Uuid::from_u128(1 << 96));
    taken.insert(KEY_PREPARED.into(), order().to_string());
    taken.insert(KEY_ORDER.into(), buyer.to_string());
    taken.insert(KEY_STATE.into(), Stage::Placing.as_str().into());
    taken.insert(KEY_EXPIRES.into(), (NOW + HOUR).to_string());
    taken.insert(KEY_CREATED.into(), NOW.to_string());
    assert_eq!(verdict(&(name.clone(), taken.clone())), Verdict::Keep { expires: at(NOW + HOUR) });
    let read = ProjectTags::read(&name, &taken).expect("ours");
    assert_eq!((read.order, read.prepared), (buyer, Some(order())));
    // A name that belongs to neither is nobody's to remove.
    taken.insert(KEY_PREPARED.into(), buyer.to_string());
    assert_eq!(tag_error(&name, &taken), TagError::OtherOrder);
    taken.insert(KEY_PREPARED.into(), "lnplaylive-1".into());
    assert_eq!(tag_error(&name, &taken), TagError::Prepared);
}

#[test]
fn each_shop_removes_its_own_and_what_names_no_shop() {
    let (name, named) = project(NOW - HOUR, NOW - HOUR, Stage::Provisioned, None);
    let mut unnamed = named.clone();
    unnamed.remove(KEY_SHOP);
    let other: ShopId = "shop-2".parse().expect("an id");
    let by = |config: &Config, shop: Option<&ShopId>| judge(&name, config, shop, at(NOW), GRACE);
    assert!(matches!(by(&named, Some(&shop())), Verdict::Remove(_)));
    assert_eq!(by(&named, Some(&other)), Verdict::OtherShop { is_due: true });
    assert_eq!(by(&named, None), Verdict::OtherShop { is_due: true });
    for anybody in [Some(&shop()), Some(&other), None] {
        assert!(matches!(by(&unnamed, anybody), Verdict::Remove(_)), "older than the key");
    }
    let (name, lives) = project(NOW + HOUR, NOW + HOUR, Stage::Provisioned, None);
    assert_eq!(judge(&name, &lives, Some(&other), at(NOW), GRACE), Verdict::OtherShop { is_due: false });
}

#[test]
fn a_removal_that_was_begun_is_judged_as_before() {
    let mut over = project(NOW - HOUR, NOW - HOUR, Stage::Provisioned, None);
    over.1.insert(KEY_REMOVING.into(), NOW.to_string());
    assert!(matches!(verdict(&over), Verdict::Remove(_)));
    over.1.insert(KEY_EXPIRES.into(), (NOW + HOUR).to_string());
    assert!(matches!(verdict(&over), Verdict::Keep { .. }));
}

#[test]
fn what_looks_like_ours_and_cannot_be_read_is_reported() {
    let (name, good) = project(NOW - HOUR, NOW - HOUR, Stage::Provisioned, Some(NOW - 2 * HOUR));
    for name in [
        "lnplaylive-",
        "lnplaylive-staging",
        "lnplaylive-1700000000",
        "lnplaylive-1700000000-0a1b2c3d-x",
        "lnplaylive-1700000000-0A1B2C3D",
        "lnplaylive-1700000000-0819da5",
        "lnplaylive--1700000000-0819da5d",
        "lnplaylive-+1700000000-0819da5d",
        "lnplaylive-01700000000-0819da5d",
        "lnplaylive-0-0819da5d",
        "lnplaylive-99999999999999999999-0819da5d",
        "lnplaylive-9223372036854775807-0819da5d",
        "lnplaylive-17e8-0819da5d",
        "lnplaylive-1700000000-0819da5d\n",
        "lnplaylive-\u{202e}1700000000-0819da5d",
        "default",
        "",
    ] {
        assert_eq!(tag_error(name, &good), TagError::Name, "{name:?}");
    }
    assert_eq!(tag_error(&format!("lnplaylive-{}", "1".repeat(500)), &Config::new()), TagError::Name);
    assert_eq!(tag_error(&name, &Config::new()), TagError::Missing(KEY_ORDER));
    for key in [KEY_ORDER, KEY_EXPIRES, KEY_PORTS, KEY_STATE] {
        let mut config = good.clone();
        config.remove(key);
        assert_eq!(tag_error(&name, &config), TagError::Missing(key));
    }
    let other = OrderId::from_uuid(Uuid::from_u128(7));
    let (time, begun) = (TagError::Time(KEY_EXPIRES), TagError::Time(KEY_CREATED));
    for (key, value, expected) in [
        (KEY_ORDER, "", TagError::Order),
        (KEY_ORDER, "0819da5d", TagError::Order),
        (KEY_ORDER, "lnplaylive-0819DA5D-5CFA-411B-A851-8C08F9178624", TagError::Order),
        (KEY_ORDER, &other.to_string(), TagError::OtherOrder),
        (KEY_EXPIRES, "", time),
        (KEY_EXPIRES, "-1", time),
        (KEY_EXPIRES, "0", time),
        (KEY_EXPIRES, "01", time),
        (KEY_EXPIRES, "+1", time),
        (KEY_EXPIRES, "1.5", time),
        (KEY_EXPIRES, " 1", time),
        (KEY_EXPIRES, "99999999999999999999", time),
        (KEY_EXPIRES, "9223372036854775807", time),
        (KEY_EXPIRES, "2026-01-01T00:00:00Z", time),
        (KEY_STATE, "", TagError::Stage),
        (KEY_STATE, "Provisioned", TagError::Stage),
        (KEY_CREATED, "yesterday", begun),
        (KEY_REMOVING, "soon", TagError::Time(KEY_REMOVING)),
        (KEY_PORTS, "", TagError::Ports),
        (KEY_PORTS, "20000", TagError::Ports),
        (KEY_PORTS, "20000-1", TagError::Ports),
        (KEY_PORTS, "0-9", TagError::Ports),
        (KEY_PORTS, "020000-9", TagError::Ports),
        (KEY_PORTS, "65530-9", TagError::Ports),
        (KEY_PORTS, "20000-20008", TagError::Ports),
        (KEY_MEMBER, "", TagError::Member),
        (KEY_MEMBER, "node\n1", TagError::Member),
        (KEY_ADDRESS, "10.0.0.256", TagError::Address),
        (KEY_ADDRESS, "2001:db8::1", TagError::Address),
        (KEY_SHOP, "", TagError::Shop),
        (KEY_SHOP, "Shop 1", TagError::Shop),
    ] {
        let mut config = good.clone();
        config.insert(key.into(), value.into());
        let error = tag_error(&name, &config);
        assert_eq!(error, expected, "{key} = {value:?}");
        let text = error.to_string();
        assert!(value.len() < 5 || !text.contains(value), "others wrote that: {text}");
    }
}

#[test]
fn what_carries_nothing_of_ours_is_foreign() {
    let similar: Config = [("user.lnplaylive", "1"), ("user.lnplay.order", "2"), ("xuser.lnplaylive.a", "3")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    for name in [
        "default",
        "",
        "lnplaylive",
        "lnplay-1700000000-0819da5d",
        "Lnplaylive-1700000000-0819da5d",
        "my-lnplaylive-1700000000-0819da5d",
        " lnplaylive-1700000000-0819da5d",
    ] {
        let verdict = judge(name, &similar, Some(&shop()), Timestamp::MAX, SignedDuration::ZERO);
        assert_eq!(verdict, Verdict::Foreign, "{name:?}");
    }
}

#[test]
fn tags_round_trip() {
    let project = ProjectName::new(at(NOW), order()).expect("a name");
    let full = ProjectTags {
        project,
        order: order(),
        prepared: None,
        expires: at(NOW + HOUR),
        ports: PortBlock { first: 65_000, count: 65 },
        member: Some("node-2.example".into()),
        address: Some([10, 0, 0, 7].into()),
        stage: Stage::Provisioned,
        created: Some(at(NOW - HOUR)),
        removing: Some(at(NOW + 9 * HOUR)),
        shop: Some(shop()),
    };
    let least = ProjectTags {
        member: None,
        address: None,
        created: None,
        removing: None,
        shop: None,
        ..full.clone()
    };
    let prepared = ProjectTags { stage: Stage::Prepared, ..least.clone() };
    let taken_over = ProjectTags { order: OrderId::random(), prepared: Some(order()), ..full.clone() };
    for tags in [full, least, prepared, taken_over] {
        assert_eq!(ProjectTags::read(&project.to_string(), &tags.to_config()), Ok(tags));
    }
}

fn text_near(good: String) -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(good), 1 => "[-+ 0-9a-z]{0,21}", 1 => any::<String>()]
}

prop_compose! {
    /// Something that is or nearly is a project of ours.
    fn anything()(
        name_expires in 1..2 * NOW, key_expires in 1..2 * NOW, created in proptest::option::of(1..2 * NOW),
        placing in any::<bool>(),
    )(
        name in text_near(project(name_expires, 1, Stage::Placing, None).0),
        order in text_near(order().to_string()),
        expires in text_near(key_expires.to_string()),
        ports in text_near("20000-9".to_owned()),
        state in text_near(if placing { "placing" } else { "provisioned" }.to_owned()),
        created in Just(created),
        lacks in proptest::option::weighted(0.2, 0..4_usize),
    ) -> (String, Config) {
        let keys = [(KEY_ORDER, order), (KEY_EXPIRES, expires), (KEY_STATE, state), (KEY_PORTS, ports)];
        let kept = keys.into_iter().enumerate().filter(|(at, _)| lacks != Some(*at));
        let mut config: Config = kept.map(|(_, (key, value))| (key.to_owned(), value)).collect();
        config.extend(created.map(|second| (KEY_CREATED.to_owned(), second.to_string())));
        (name, config)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is removed is ours by name and keys, and has ended by both, or was never finished.
    #[test]
    fn nothing_is_removed_that_is_not_ours_and_over((name, config) in anything(), now in 1..2 * NOW, grace in 0..HOUR) {
        let verdict = judge(&name, &config, Some(&shop()), at(now), SignedDuration::from_secs(grace));
        let Verdict::Remove(reason) = verdict else { return Ok(()) };
        let parsed: ProjectName = name.parse().expect("our name");
        prop_assert_eq!(&config[KEY_ORDER], &order().to_string());
        let expires: i64 = config[KEY_EXPIRES].parse().expect("a number");
        let over = parsed.expires().as_second().max(expires) + grace <= now;
        match reason {
            Reason::Expired { at: end } => {
                prop_assert!(over);
                prop_assert_eq!(end.as_second(), parsed.expires().as_second().max(expires));
            }
            Reason::NeverHandedOver { created } => {
                prop_assert!(!over && config[KEY_STATE] == "placing");
                prop_assert!(created.as_second() + PLACING_LIMIT.as_secs() <= now);
            }
        }
    }

    /// A project that is to be removed stays so as time goes by, so that an interrupted removal continues.
    #[test]
    fn a_verdict_to_remove_lasts((name, config) in anything(), now in 1..2 * NOW, more in 0..NOW) {
        if let Verdict::Remove(_) = judge(&name, &config, Some(&shop()), at(now), GRACE) {
            prop_assert!(matches!(judge(&name, &config, Some(&shop()), at(now + more), GRACE), Verdict::Remove(_)));
        }
    }

    #[test]
    fn anything_at_all_may_be_judged(
        name in any::<String>(), config in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..4),
        grace in any::<i64>(),
    ) {
        let verdict = judge(&name, &config, Some(&shop()), Timestamp::MAX, SignedDuration::from_secs(grace));
        prop_assert!(matches!(verdict, Verdict::Foreign | Verdict::Malformed(_)));
    }
}
