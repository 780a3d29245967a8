//! No sequence of events loses a paid order or has two placements of it at work.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::catalogue::{Catalogue, Selection};
use lnplaylive_core::changes::{self, Change};
use lnplaylive_core::customisation::{Customisation, Title};
use lnplaylive_core::order::{Access, Handover, KeyPair, Placement, PortBlock, Prepared, Severity};
use lnplaylive_core::{
    ChannelSetup, CoinDistribution, ConnectionString, Event, NodeAccess, Order, OrderId, Policy, ProjectName,
    Secret, State, Work,
};
use proptest::prelude::*;
use uuid::Uuid;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("in range")
}

fn order() -> Order {
    let terms = Catalogue::default().quote(Selection::NodeCount(8), 48).expect("on sale");
    Order::new(OrderId::from_uuid(Uuid::from_u128(7)), terms, at(0), at(600))
}

fn placement(order: &Order, second: i64) -> Placement {
    let pair =
        |whose: &str| KeyPair { private: Secret::new(format!("private {whose}")), public: "public".into() };
    Placement {
        remote: format!("remote-{}", second % 3),
        member: (second % 2 == 0).then(|| "m1".to_owned()),
        address: None,
        project: ProjectName::new(at(second), order.id).expect("a name"),
        ports: PortBlock { first: 20000, count: 9 },
        access: Access { host_key: pair("of the host"), client_key: pair("of the shop") },
        prepared: None,
    }
}

/// The same, in a project that was prepared.
fn prepared(order: &Order, second: i64) -> Placement {
    let id = OrderId::from_uuid(Uuid::from_u128(0xabcd_0000 << 96));
    let project = ProjectName::new(at(second), id).expect("a name");
    Placement {
        project,
        prepared: Some(Prepared { id, expires: at(second + 7200) }),
        ..placement(order, second)
    }
}

fn strings(count: usize) -> Vec<ConnectionString> {
    let link = format!("http://x/#address=02{}@h:1&type=direct&value=ws:&rune=r", "00".repeat(32));
    vec![link.parse().expect("a link"); count]
}

/// An event without the parts that depend on the order.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Paid,
    Placed,
    NotPlaced,
    InstanceRuns,
    HandedOver { strings: usize },
    Failed { severity: Severity },
    LeftoverGone,
    LeftoverForgotten,
    Retry,
    Cancel,
    Refunded,
    Extended { hours: i64 },
    CardsReplaced { node: u32, second: i64 },
    Replace { remove_first: bool },
}

fn severities() -> impl Strategy<Value = Severity> {
    prop_oneof![Just(Severity::Passing), Just(Severity::Final), Just(Severity::Remote)]
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        2 => Just(Kind::Paid),
        5 => Just(Kind::Placed),
        1 => Just(Kind::NotPlaced),
        5 => Just(Kind::InstanceRuns),
        3 => prop_oneof![3 => Just(8_usize), 1 => 0..20_usize].prop_map(|strings| Kind::HandedOver { strings }),
        4 => severities().prop_map(|severity| Kind::Failed { severity }),
        2 => Just(Kind::LeftoverGone),
        1 => Just(Kind::LeftoverForgotten),
        1 => Just(Kind::Retry),
        1 => Just(Kind::Cancel),
        1 => Just(Kind::Refunded),
        1 => (-2_i64..5).prop_map(|hours| Kind::Extended { hours }),
        1 => (0..9_u32, 0_i64..3).prop_map(|(node, second)| Kind::CardsReplaced { node, second }),
        2 => any::<bool>().prop_map(|remove_first| Kind::Replace { remove_first }),
    ]
}

/// The project of the order's first leftover, or one that is none.
fn leftover(order: &Order) -> ProjectName {
    order.leftovers.first().map_or_else(|| placement(order, 1).project, |l| l.project)
}

fn event(kind: Kind, order: &Order, second: i64) -> Event {
    match kind {
        Kind::Paid => Event::Paid,
        Kind::Placed => Event::Placed(placement(order, second + 1_000_000)),
        Kind::NotPlaced => Event::NotPlaced { reason: "full".into() },
        Kind::InstanceRuns => Event::InstanceRuns,
        Kind::HandedOver { strings: n } => {
            Event::HandedOver { expires_at: at(second) + order.owed_time(), connection_strings: strings(n) }
        }
        Kind::Failed { severity } => Event::StepFailed { severity, reason: "it broke".into() },
        Kind::LeftoverGone => Event::LeftoverGone(leftover(order)),
        Kind::LeftoverForgotten => Event::LeftoverForgotten(leftover(order)),
        Kind::Retry => Event::Retry,
        Kind::Cancel => Event::Cancel,
        Kind::Refunded => Event::Refunded { note: None },
        Kind::Extended { hours } => Event::Extended { expires_at: at(second + 172_800 + 3600 * hours) },
        Kind::CardsReplaced { node, second } => {
            let project = match &order.state {
                State::Provisioned { handover, .. } if second > 0 => handover.project,
                _ => placement(order, 1).project,
            };
            let runes = BTreeMap::from([(node, Secret::new(format!("rune{second}")))]);
            Event::CardsReplaced { project, runes }
        }
        Kind::Replace { remove_first } => {
            let leftover = match &order.state {
                State::Provisioned { handover, .. } => handover.leftover(),
                _ => None,
            };
            let leftover = leftover.unwrap_or_else(|| placement(order, 1).leftover());
            Event::Replace { leftover, remove_first }
        }
    }
}

proptest! {
    #[test]
    fn no_sequence_of_events_loses_or_doubles(events in proptest::collection::vec(kinds(), 0..120)) {
        let policy = Policy::default();
        let mut order = order();
        // Projects that were placed and that no one has said are gone.
        let mut on_remotes = BTreeSet::new();
        let mut handed_over = None;
        for (second, kind) in (1_i64..).zip(events) {
            let before = order.clone();
            let event = event(kind, &order, second);
            let Ok(after) = order.apply(event.clone(), at(second), &policy) else {
                prop_assert_eq!(&order, &before, "what is refused changes nothing");
                continue;
            };
            order = after;
            // Whoever counts sees each event for what it is.
            let changes = changes::between(&before, &order);
            let was_placed = before.state.placement().is_some();
            match (&event, &changes[..]) {
                (Event::Paid, []) => prop_assert!(before.state.paid_at().is_some()),
                (Event::Paid, [Change::Paid]) => prop_assert!(before.state.paid_at().is_none()),
                (Event::Placed(placement), [Change::Placed { remote }]) => {
                    prop_assert_eq!(*remote, &placement.remote);
                }
                (Event::HandedOver { .. }, [Change::Delivered { due_since, .. }]) => {
                    prop_assert_eq!(Some(*due_since), before.due_since());
                }
                (Event::StepFailed { .. }, []) => prop_assert_eq!(before.state.name(), order.state.name()),
                (Event::StepFailed { .. }, [Change::Abandoned { .. }]) => {
                    prop_assert!(order.state.placement().is_none() && order.state.name() != "failed");
                }
                (Event::StepFailed { .. }, [Change::Abandoned { .. }, Change::Failed]) => {
                    prop_assert_eq!(order.state.name(), "failed");
                }
                (Event::Cancel, rest) => {
                    let (abandoned, ended): (Vec<Change>, Vec<Change>) =
                        rest.iter().partition(|change| matches!(change, Change::Abandoned { .. }));
                    prop_assert_eq!(abandoned.len(), usize::from(was_placed));
                    prop_assert_eq!(ended == [Change::Cancelled], order.state.name() == "cancelled");
                }
                (Event::Placed(_) | Event::HandedOver { .. } | Event::StepFailed { .. }, other) => {
                    prop_assert!(false, "{:?}: {:?}", event, other);
                }
                (_, others) => prop_assert!(others.is_empty(), "{:?}", others),
            }
            let has_new_cards = matches!(event, Event::CardsReplaced { .. });
            match event {
                Event::Placed(placement) => {
                    prop_assert!(on_remotes.insert(placement.project), "one project, one placement");
                }
                Event::LeftoverGone(project) | Event::LeftoverForgotten(project) => {
                    prop_assert!(on_remotes.remove(&project));
                }
                _ => {}
            }

            // Once paid, always paid, since the same time, for the same terms.
            if let Some(paid_at) = before.state.paid_at() {
                prop_assert_eq!(order.state.paid_at(), Some(paid_at));
            }
            prop_assert_eq!(&order.terms, &before.terms);
            // What was handed over stays handed over, and never ends earlier, unless it is being replaced.
            match (&order.state, &order.replaces) {
                (State::Provisioned { handover, .. }, None) => {
                    let first: &mut Handover = handed_over.get_or_insert(handover.clone());
                    prop_assert!(handover.expires_at >= first.expires_at);
                    if handover.project != first.project {
                        prop_assert!(before.replaces.is_some() && handover.replaced_at == Some(at(second)));
                        *first = handover.clone();
                    }
                    first.expires_at = handover.expires_at;
                    first.refunded_at = first.refunded_at.or(handover.refunded_at);
                    if has_new_cards {
                        first.connection_strings.clone_from(&handover.connection_strings);
                    }
                    prop_assert_eq!(&*first, handover);
                    prop_assert_eq!(handover.connection_strings.len(), 8);
                }
                (State::Provisioned { .. }, Some(_)) => prop_assert!(false, "replaced and not"),
                (_, Some(replaced)) => {
                    prop_assert_eq!(Some(&replaced.handover), handed_over.as_ref());
                    prop_assert!(replaced.handover.refunded_at.is_none(), "paid back and provisioned again");
                    prop_assert!(!replaced.stands() || !matches!(order.state, State::Failed { .. }), "owed and delivered");
                }
                (_, None) => prop_assert!(handed_over.is_none()),
            }
            // Every project on a remote is accounted for exactly once.
            let mut known: Vec<_> = order.leftovers.iter().map(|l| l.project).collect();
            known.extend(order.state.placement().map(|p| p.project));
            known.extend(order.replaces.iter().filter_map(|r| Some(r.leftover.as_ref()?.project)));
            if let State::Provisioned { handover, .. } = &order.state {
                known.push(handover.project);
            }
            known.sort();
            prop_assert_eq!(known, on_remotes.iter().copied().collect::<Vec<_>>());
            // An order that is not over has something to do, and one that is over has nothing left behind.
            match order.work() {
                Work::Close => prop_assert!(order.leftovers.is_empty() && order.state.paid_at().is_some()),
                Work::AwaitPayment => prop_assert!(order.state.paid_at().is_none()),
                Work::CleanUp => prop_assert!(!order.leftovers.is_empty()),
                Work::Place(_) | Work::BringUp(..) | Work::Deploy(..) => {}
            }
            // The record says it all.
            let json = serde_json::to_string(&order).expect("JSON");
            prop_assert_eq!(&serde_json::from_str::<Order>(&json).expect("our own record"), &order);
        }
    }

    #[test]
    fn whatever_happened_a_paid_order_can_still_be_delivered_unless_it_was_paid_back(
        events in proptest::collection::vec(kinds(), 0..60),
    ) {
        let policy = Policy::default();
        let mut order = order();
        let mut second = 0;
        for kind in events {
            second += 1;
            let event = event(kind, &order, second);
            order = order.apply(event, at(second), &policy).unwrap_or(order);
        }
        // From here on all goes well: at most five steps lead to the hand-over.
        for kind in [Kind::Paid, Kind::Retry, Kind::Placed, Kind::InstanceRuns, Kind::HandedOver { strings: 8 }] {
            second += 1;
            let event = event(kind, &order, second);
            order = order.apply(event, at(second), &policy).unwrap_or(order);
        }
        prop_assert!(matches!(order.state.name(), "provisioned" | "refunded"), "{}", order.state.name());
    }

    #[test]
    fn nothing_is_tried_without_end(severities in proptest::collection::vec(any::<bool>(), 200)) {
        let policy = Policy::default();
        let mut order = order().apply(Event::Paid, at(0), &policy).expect("paid");
        let mut second = 1_000_000;
        for passing in severities {
            second += 1;
            if matches!(order.work(), Work::Place(_)) {
                let event = Event::Placed(placement(&order, second));
                order = order.apply(event, at(second), &policy).expect("placed");
            }
            let severity = if passing { Severity::Passing } else { Severity::Final };
            let event = event(Kind::Failed { severity }, &order, second);
            order = order.apply(event, at(second), &policy).unwrap_or(order);
        }
        prop_assert_eq!(order.state.name(), "failed");
        prop_assert_eq!(order.leftovers.len(), policy.max_attempts as usize);
    }
}

#[test]
fn a_remotes_faults_do_not_count_against_the_order() {
    let policy = Policy::default();
    let mut order = order().apply(Event::Paid, at(0), &policy).expect("paid");
    let mut waits = Vec::new();
    for n in 0..50 {
        let placed = Event::Placed(placement(&order, 1_000_000 + 3 * n));
        order = order.apply(placed, at(0), &policy).expect("placed");
        let failed = event(Kind::Failed { severity: Severity::Remote }, &order, 0);
        order = order.apply(failed, at(0), &policy).expect("abandoned");
        let Work::Place(not_before) = order.work() else { panic!("it has left the queue") };
        waits.push(not_before.duration_since(at(0)).as_secs());
    }
    assert_eq!(waits[..6], [60, 120, 240, 480, 900, 900]);
    let attempts = order.state.attempts().expect("it is queued");
    assert_eq!(attempts.failed, 0);
    assert_eq!(attempts.remote_faults.values().sum::<u32>(), 50);
}

#[test]
fn a_prepared_environment_that_does_not_work_costs_the_order_neither_an_attempt_nor_time() {
    let policy = Policy { max_attempts: 1, ..Policy::default() };
    let paid = order().apply(Event::Paid, at(1), &policy).expect("paid");
    let placement = prepared(&paid, 3600);
    let placed = paid.apply(Event::Placed(placement.clone()), at(2), &policy).expect("placed");
    assert_eq!(placement.expires(), at(3600 + 7200), "the end that was decided for the order");
    let failed = Event::StepFailed { severity: Severity::Final, reason: "it is gone".into() };
    let queued = placed.apply(failed.clone(), at(3), &policy).expect("recorded");
    assert_eq!(queued.work(), Work::Place(at(3)), "at once");
    let [leftover] = &queued.leftovers[..] else { panic!("{:?}", queued.leftovers) };
    assert_eq!(leftover.prepared, placement.prepared.map(|taken| taken.id), "it may still have its own id");
    assert!(queued.state.attempts().is_some_and(|attempts| attempts.failed == 0));

    let other = Placement { project: prepared(&paid, 3601).project, ..placement };
    queued.apply(Event::Placed(other), at(4), &policy).expect_err("no other is taken over");
    let own = self::placement(&queued, 9000);
    let placed = queued.apply(Event::Placed(own), at(4), &policy).expect("one of its own is made");
    let over = placed.apply(failed, at(5), &policy).expect("recorded");
    assert_eq!(over.state.name(), "failed", "which counts");
}

#[test]
fn waits_grow_and_stay_bounded() {
    let policy = Policy::default();
    let mut order = order().apply(Event::Paid, at(0), &policy).expect("paid");
    let mut last = SignedDuration::ZERO;
    for _ in 0..100 {
        let event = Event::NotPlaced { reason: "no remote answers".into() };
        order = order.apply(event, at(0), &policy).expect("still queued");
        let Work::Place(not_before) = order.work() else { panic!("it has left the queue") };
        let wait = not_before.duration_since(at(0));
        assert!(wait >= last && wait <= policy.max_backoff, "{wait:?} after {last:?}");
        last = wait;
    }
    assert_eq!(last, policy.max_backoff);
}

#[test]
fn attempts_in_a_row_that_do_not_place_an_order_are_one_entry_of_its_history() {
    let policy = Policy::default();
    let mut order = order().apply(Event::Paid, at(0), &policy).expect("paid");
    for second in 1..=200 {
        let reason = if second % 2 == 0 { "full" } else { "does not answer" };
        order = order.apply(Event::NotPlaced { reason: reason.into() }, at(second), &policy).expect("queued");
    }
    assert_eq!(order.revision, 201, "each is a change");
    let placed = Event::Placed(placement(&order, 1_000_000));
    order = order.apply(placed, at(300), &policy).expect("placed");
    order = order
        .apply(event(Kind::Failed { severity: Severity::Final }, &order, 0), at(301), &policy)
        .expect("");
    order = order.apply(Event::NotPlaced { reason: "full".into() }, at(400), &policy).expect("queued");
    let history: Vec<_> = order.history.iter().map(|entry| (entry.at, entry.what.as_str())).collect();
    let repeated = format!("not placed, 200 times in a row, the last at {}: full", at(200));
    assert_eq!(history[..2], [(at(0), "paid"), (at(1), repeated.as_str())]);
    assert_eq!(history[4..], [(at(400), "not placed: full")], "a new row");
}

#[test]
fn what_an_order_has_left_is_forgotten_if_the_operator_says_so() {
    let policy = Policy::default();
    let apply = |order: &Order, event| order.apply(event, at(0), &policy);
    let mut order = apply(&order(), Event::Paid).expect("paid");
    order = apply(&order, Event::Placed(placement(&order, 1_000_000))).expect("placed");
    order = apply(&order, Event::Cancel).expect("cancelled");
    let error =
        apply(&order, Event::LeftoverForgotten(placement(&order, 1).project)).expect_err("no leftover");
    assert!(error.to_string().contains("no leftover of an order that is cancelled"), "{error}");
    assert!(!order.is_over());
    let project = order.leftovers[0].project;
    order = apply(&order, Event::LeftoverForgotten(project)).expect("forgotten");
    assert!(order.is_over());
    let last = &order.history.last().expect("an entry").what;
    assert!(last.starts_with(&format!("forgot {project} on remote-")), "{last}");
}

#[test]
fn an_order_ends_with_its_environment_or_with_its_refund() {
    let policy = Policy::default();
    let mut order = order().apply(Event::Paid, at(0), &policy).expect("paid");
    let apply =
        |order: &Order, kind, second| order.apply(event(kind, order, second), at(second), &policy).expect("");
    let failed = apply(&order, Kind::Cancel, 10);
    assert_eq!(failed.ended_at(), None, "its price is owed");
    assert_eq!(apply(&failed, Kind::Refunded, 20).ended_at(), Some(at(20)));
    for kind in [Kind::Placed, Kind::InstanceRuns, Kind::HandedOver { strings: 8 }] {
        assert_eq!(order.ended_at(), None);
        order = apply(&order, kind, 30);
    }
    let State::Provisioned { handover, .. } = &order.state else { panic!("it is handed over") };
    assert_eq!(order.ended_at(), Some(handover.expires_at));
    let refunded = apply(&order, Kind::Refunded, 40);
    assert_eq!(refunded.ended_at(), order.ended_at(), "its environment stays");
    let State::Provisioned { handover, .. } = refunded.without_secrets().state else { panic!("it stays so") };
    assert_eq!((handover.connection_strings, handover.refunded_at), (vec![], Some(at(40))));
}

#[test]
fn an_environment_never_ends_before_its_name_says() {
    let policy = Policy::default();
    let mut order = order();
    let placement = placement(&order, 500_000);
    let ends = placement.project.expires();
    for event in [Event::Paid, Event::Placed(placement), Event::InstanceRuns] {
        order = order.apply(event, at(1), &policy).expect("in order");
    }
    let event = Event::HandedOver { expires_at: at(1), connection_strings: strings(8) };
    let order = order.apply(event, at(2), &policy).expect("in order");
    let State::Provisioned { handover, .. } = order.state else { panic!("not handed over") };
    assert_eq!(handover.expires_at, ends);
}

/// An order that was handed over at second 2, with its end at second 500,000.
fn handed_over(policy: &Policy) -> Order {
    let mut order = order();
    let placement = placement(&order, 500_000);
    for event in [Event::Paid, Event::Placed(placement), Event::InstanceRuns] {
        order = order.apply(event, at(1), policy).expect("in order");
    }
    let event = Event::HandedOver { expires_at: at(1), connection_strings: strings(8) };
    order.apply(event, at(2), policy).expect("in order")
}

fn handover(order: &Order) -> &Handover {
    let State::Provisioned { handover, .. } = &order.state else { panic!("not handed over: {order:?}") };
    handover
}

#[test]
fn the_hosts_private_key_is_gone_from_the_record_once_handed_over() {
    let policy = Policy::default();
    let record = serde_json::to_string(&handed_over(&policy)).expect("JSON");
    assert!(!record.contains("of the host"), "{record}");
    assert!(record.contains("private of the shop"), "probes need the shop's own key: {record}");
}

fn replace(order: &Order, remove_first: bool) -> Event {
    Event::Replace { leftover: handover(order).leftover().expect("a site"), remove_first }
}

#[test]
fn an_environment_is_replaced_for_the_time_that_is_left() {
    let policy = Policy::default();
    let old = handed_over(&policy);
    for remove_first in [false, true] {
        let queued = old.apply(replace(&old, remove_first), at(100_000), &policy).expect("replaced");
        assert_eq!((queued.state.name(), queued.state.paid_at()), ("queued", Some(at(1))));
        assert_eq!(queued.owed_time(), SignedDuration::from_secs(400_000));
        assert_eq!(queued.due_since(), Some(at(100_000)));
        assert_eq!(
            queued.taken(),
            if remove_first { vec![handover(&old).project; 2] } else { vec![handover(&old).project] }
        );
        assert_eq!(queued.leftovers.len(), usize::from(remove_first));
        queued.apply(replace(&old, false), at(100_001), &policy).expect_err("once is enough");
        let same_name = Event::Placed(placement(&order(), 500_000));
        queued.apply(same_name, at(100_001), &policy).expect_err("the old project may still be there");
        let mut order = queued;
        for event in [Event::Placed(placement(&order, 501_000)), Event::InstanceRuns] {
            order = order.apply(event, at(100_002), &policy).expect("in order");
        }
        let event = Event::HandedOver { expires_at: at(500_500), connection_strings: strings(8) };
        order = order.apply(event, at(100_500), &policy).expect("in order");
        assert_eq!(handover(&order).replaced_at, Some(at(100_500)));
        assert_eq!(order.work(), Work::CleanUp, "the old one is to be removed");
        let what = &order.history.last().expect("an entry").what;
        assert!(what.contains(&format!("in place of {}", handover(&old).project)), "{what}");
        let gone = Event::LeftoverGone(handover(&old).project);
        order = order.apply(gone, at(100_501), &policy).expect("removed");
        assert!(order.is_over());
    }
}

#[test]
fn an_environment_that_was_paid_back_or_has_ended_is_not_replaced() {
    let policy = Policy::default();
    let old = handed_over(&policy);
    old.apply(replace(&old, false), at(500_000), &policy).expect_err("it has ended");
    let refunded = old.apply(Event::Refunded { note: None }, at(3), &policy).expect("paid back");
    refunded.apply(replace(&old, false), at(4), &policy).expect_err("it was paid back");
    order().apply(replace(&old, false), at(4), &policy).expect_err("it was never handed over");
}

#[test]
fn a_replacement_that_fails_or_is_cancelled_leaves_what_stands() {
    let policy = Policy { max_attempts: 1, ..Policy::default() };
    let old = handed_over(&policy);
    for (remove_first, ends_as) in [(false, "provisioned"), (true, "failed")] {
        for end in [Event::Cancel, Event::StepFailed { severity: Severity::Final, reason: "it broke".into() }]
        {
            let cancelled = end == Event::Cancel;
            let mut order = old.apply(replace(&old, remove_first), at(3), &policy).expect("replaced");
            for event in [Event::Placed(placement(&order, 501_000)), end] {
                order = order.apply(event, at(4), &policy).expect("in order");
            }
            let ends_as = if cancelled && remove_first { "cancelled" } else { ends_as };
            assert_eq!(order.state.name(), ends_as);
            assert!(order.leftovers.iter().any(|l| l.project == placement(&old, 501_000).project));
            if remove_first {
                let again = order.apply(Event::Retry, at(5), &policy).expect("tried again");
                assert_eq!(again.owed_time(), SignedDuration::from_secs(500_000 - 3), "not the whole again");
            } else {
                assert_eq!(handover(&order), handover(&old));
                assert!(order.leftovers.iter().all(|l| l.project != handover(&old).project));
            }
        }
    }
}

#[test]
fn a_record_from_before_customisation_is_read() {
    let record = r#"{"id": "lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624",
        "terms": {"sku": "A", "node_count": 8, "hours": 48, "amount_msat": 76800000},
        "created_at": "2026-11-22T15:31:08Z", "invoice_expires_at": "2026-11-22T15:41:08Z", "revision": 1,
        "state": "failed", "paid_at": "2026-11-22T15:31:20Z", "reason": "no space left on device",
        "leftovers": [], "history": [{"at": "2026-11-22T15:31:20Z", "what": "paid"}]}"#;
    let order: Order = serde_json::from_str(record).expect("a record of the first version");
    assert!(order.terms.customisation.is_default());
    let retried = order.apply(Event::Retry, at(0), &Policy::default()).expect("it can be gone on with");
    let again = serde_json::to_value(&retried).expect("JSON");
    assert_eq!(again["terms"], serde_json::from_str::<serde_json::Value>(record).expect("JSON")["terms"]);
}

#[test]
fn what_the_buyer_has_chosen_is_in_the_record() {
    let mut order = order();
    let names: Vec<_> = ["Zoë", "Bob", "c", "d", "e", "f", "g", "h"].into();
    order.terms.customisation = Customisation {
        coin_distribution: CoinDistribution::Pow,
        channel_setup: ChannelSetup::Prism,
        title: Title::new("Lightning for beginners"),
        names: Vec::new(),
        node_access: NodeAccess::Full,
    }
    .with_names(&names, 8)
    .expect("good names");
    let json = serde_json::to_string(&order).expect("JSON");
    assert_eq!(serde_json::from_str::<Order>(&json).expect("our own record"), order);
    let spoilt = json.replace("Bob", "B\\nb");
    assert!(serde_json::from_str::<Order>(&spoilt).is_err(), "a name with a control character: {spoilt}");
}

#[test]
fn a_cancelled_order_leaves_what_it_had_to_be_removed_and_can_be_taken_up_again() {
    let policy = Policy::default();
    let created = order();
    created.apply(Event::Cancel, at(1), &policy).expect_err("nothing was paid: the shop just removes it");
    let placement = placement(&created, 500_000);
    let paid = created.apply(Event::Paid, at(1), &policy).expect("paid");
    let placed = paid.apply(Event::Placed(placement.clone()), at(2), &policy).expect("placed");
    let cancelled = placed.apply(Event::Cancel, at(3), &policy).expect("cancelled");
    assert!(matches!(&cancelled.state, State::Failed { cancelled: true, .. }));
    assert_eq!(cancelled.leftovers[0].project, placement.project);
    assert_eq!(cancelled.work(), Work::CleanUp);
    cancelled
        .apply(Event::InstanceRuns, at(4), &policy)
        .expect_err("whatever still went on there is no news");
    cancelled.apply(Event::Cancel, at(4), &policy).expect_err("once is enough");
    let again = cancelled.apply(Event::Retry, at(5), &policy).expect("the operator has thought again");
    assert!(matches!(again.work(), Work::Place(_)));
}

#[test]
fn what_was_paid_back_is_neither_tried_again_nor_paid_back_again() {
    let policy = Policy::default();
    let refunded = |note: Option<&str>| Event::Refunded { note: note.map(str::to_owned) };
    let paid = order().apply(Event::Paid, at(1), &policy).expect("paid");
    paid.apply(refunded(None), at(2), &policy).expect_err("it may still be delivered");
    let cancelled = paid.apply(Event::Cancel, at(2), &policy).expect("cancelled");
    let settled = cancelled.apply(refunded(Some("by hand")), at(3), &policy).expect("paid back");
    assert_eq!(settled.history.last().expect("an entry").what, "paid back: by hand");
    assert_eq!((settled.state.name(), settled.work()), ("refunded", Work::Close));
    for event in [refunded(None), Event::Retry, Event::Cancel] {
        let refused = settled.apply(event, at(4), &policy).expect_err("it is settled");
        assert!(refused.to_string().ends_with("an order that is refunded"), "{refused}");
    }
    // A record from before there were refunds has none.
    let json = serde_json::to_string(&cancelled).expect("JSON");
    assert!(!json.contains("refunded_at"), "{json}");
    assert_eq!(serde_json::from_str::<Order>(&json).expect("our own record"), cancelled);
}

#[test]
fn a_new_card_changes_the_string_of_its_node_and_environment_alone() {
    let policy = Policy::default();
    let mut order = order();
    for kind in [Kind::Paid, Kind::Placed, Kind::InstanceRuns, Kind::HandedOver { strings: 8 }] {
        order = order.apply(event(kind, &order, 1), at(1), &policy).expect("in order");
    }
    let State::Provisioned { handover, .. } = &order.state else { panic!("{:?}", order.state) };
    let (project, before) = (handover.project, handover.connection_strings.clone());
    let replaced = |order: &Order, project, node, rune: &str| {
        let runes = BTreeMap::from([(node, Secret::new(rune))]);
        order.apply(Event::CardsReplaced { project, runes }, at(2), &policy)
    };
    let next = replaced(&order, project, 3, "bmV3").expect("its own");
    assert_eq!(next.revision, order.revision + 1, "a page that waits learns of it");
    let State::Provisioned { handover, .. } = &next.state else { panic!("{:?}", next.state) };
    for (node, (old, new)) in before.iter().zip(&handover.connection_strings).enumerate() {
        assert_eq!(new.rune, if node == 3 { "bmV3" } else { "r" });
        assert_eq!((&new.node_id, &new.endpoint, &new.page), (&old.node_id, &old.endpoint, &old.page));
    }
    assert_eq!(
        replaced(&next, project, 3, "bmV3").expect("again"),
        next,
        "the same once more changes nothing"
    );
    let many = (0..200).try_fold(next.clone(), |order, n| replaced(&order, project, 3, &format!("bmV3{n}")));
    assert_eq!(many.expect("all").history.len(), next.history.len(), "one entry for all in a row");
    let other = placement(&order, 77).project;
    assert!(replaced(&order, other, 3, "bmV3").is_err(), "another environment");
    assert!(replaced(&order, project, 8, "bmV3").is_err(), "no such node");
    for wrong in ["", "a&name=x", "a b", "<script>", &"a".repeat(1300)] {
        assert!(replaced(&order, project, 3, wrong).is_err(), "{wrong}");
    }
}
