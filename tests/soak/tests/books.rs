//! The books find each kind of error, and nothing in a shop that is in order.

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::catalogue::{Sku, Terms};
use lnplaylive_core::order::{Access, KeyPair, Placement, Policy, Severity};
use lnplaylive_core::tags::Stage;
use lnplaylive_core::{
    ConnectionString, Customisation, Event, Order, OrderId, PortBlock, ProjectName, ProjectTags, Secret,
    State,
};
use soak::books::{Books, Project, overlapping_ports};
use soak::ledger::Purchase;

const STRING: &str = "http://localhost:3000/connect#address=02aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
                      @127.0.0.1:20001&type=direct&value=ws:&rune=abc";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("in range")
}

fn placement(order: OrderId, first_port: u16) -> Placement {
    let pair = || KeyPair { private: Secret::new("private"), public: "public".into() };
    Placement {
        remote: "sim-0".into(),
        member: None,
        project: ProjectName::new(at(3600), order).expect("a name"),
        ports: PortBlock { first: first_port, count: 2 },
        address: None,
        access: Access { host_key: pair(), client_key: pair() },
        prepared: None,
    }
}

/// An order after these events, each a second after the one before.
fn order(id: OrderId, events: impl IntoIterator<Item = Event>) -> Order {
    let terms = Terms {
        sku: Sku("T".into()),
        node_count: 1,
        hours: 1,
        amount_msat: 1000,
        customisation: Customisation::default(),
    };
    let mut order = Order::new(id, terms, at(0), at(10));
    for (event, second) in events.into_iter().zip(1..) {
        order = order.apply(event, at(second), &Policy::default()).expect("allowed");
    }
    order
}

fn string() -> ConnectionString {
    STRING.parse().expect("a connection string")
}

fn delivered(id: OrderId) -> Order {
    let handed_over = Event::HandedOver { expires_at: at(3610), connection_strings: vec![string()] };
    order(id, [Event::Paid, Event::Placed(placement(id, 20000)), Event::InstanceRuns, handed_over])
}

fn project(id: OrderId, first_port: u16) -> Project {
    let placement = placement(id, first_port);
    let mut tags = ProjectTags::of_placement(id, &placement, Stage::Placing, None, at(2));
    (tags.stage, tags.expires) = (Stage::Provisioned, at(3610));
    Project {
        remote: "sim-0".into(),
        name: placement.project.to_string(),
        config: tags.to_config(),
        runs: true,
    }
}

/// A shop with one order that was delivered.
fn shop(id: OrderId) -> Books {
    let strings = Some([string().to_string()].into());
    let purchase = Purchase { node_count: 1, paid: true, strings, ..Purchase::default() };
    Books {
        now: at(20),
        closed: vec![delivered(id)],
        invoices: [(id.to_string(), "paid".to_owned())].into(),
        projects: vec![project(id, 20000)],
        ledger: [(id.to_string(), purchase)].into(),
        ..Books::default()
    }
}

/// Breaks a shop that is in order, and returns the only error.
fn error(break_it: impl FnOnce(&mut Books, OrderId)) -> String {
    let id = OrderId::random();
    let mut books = shop(id);
    assert_eq!(books.errors(), Vec::<String>::new());
    break_it(&mut books, id);
    let errors = books.errors();
    let [error] = &errors[..] else { panic!("one error: {errors:?}") };
    error.clone()
}

#[test]
fn paid_and_lost() {
    let found = error(|books, id| {
        *books = Books { now: books.now, ..Books::default() };
        books.invoices.insert(id.to_string(), "paid".into());
    });
    assert!(found.ends_with("was paid and is neither delivered nor owed"), "{found}");
}

#[test]
fn delivered_and_owed() {
    let found = error(|books, id| {
        books.projects.clear();
        books.closed = vec![order(id, [Event::Paid, Event::Cancel])];
    });
    assert!(found.ends_with("was delivered, and its record is Some(\"cancelled\")"), "{found}");
    let found = error(|books, id| books.ledger.get_mut(&id.to_string()).expect("there").refunded = true);
    assert!(found.ends_with("was refunded as failed, and delivered"), "{found}");
}

#[test]
fn delivered_twice() {
    let found = error(|books, id| {
        let other = STRING.replace("rune=abc", "rune=abd");
        books.ledger.get_mut(&id.to_string()).expect("there").strings = Some([other].into());
    });
    assert!(found.contains("was delivered twice"), "{found}");
    // A leftover that nobody has recorded.
    let found = error(|books, id| {
        let mut second = project(id, 20002);
        second.remote = "sim-1".into();
        books.projects.push(second);
    });
    assert!(found.contains("is not the environment of its order"), "{found}");
}

#[test]
fn on_both_lists_or_still_open() {
    let found = error(|books, id| books.open.push(delivered(id)));
    assert!(found.ends_with("is on both lists"), "{found}");
    let found = error(|books, _| {
        let other = OrderId::random();
        books.open.push(order(other, [Event::Paid]));
        books.invoices.insert(other.to_string(), "paid".into());
    });
    assert!(found.ends_with("is still open, and queued"), "{found}");
    let found = error(|books, _| {
        let other = OrderId::random();
        let failed = Event::StepFailed { severity: Severity::Final, reason: "no".into() };
        books
            .closed
            .push(order(other, [Event::Paid, Event::Placed(placement(other, 20002)), failed, Event::Cancel]));
        books.invoices.insert(other.to_string(), "paid".into());
    });
    assert!(found.ends_with("is closed and has leftovers"), "{found}");
}

#[test]
fn unpaid_orders_and_invoices_are_gone() {
    let found = error(|books, _| {
        books.invoices.insert(OrderId::random().to_string(), "expired".into());
    });
    assert!(found.ends_with("is left, expired"), "{found}");
    let found = error(|books, _| books.closed.push(order(OrderId::random(), [Event::Paid, Event::Cancel])));
    assert!(found.ends_with("is cancelled and its invoice is None"), "{found}");
}

#[test]
fn what_was_sold_is_there_and_runs_until_its_end() {
    let found = error(|books, _| books.projects.clear());
    assert!(found.ends_with("was sold, and is not there"), "{found}");
    let found = error(|books, _| books.projects[0].runs = false);
    assert!(found.contains("runs: false"), "{found}");
    let found = error(|books, _| {
        // It was handed over at the fourth second.
        if let State::Provisioned { handover, .. } = &mut books.closed[0].state {
            handover.expires_at = at(4 + 3600) - SignedDuration::from_mins(25);
        }
    });
    assert!(found.contains("was handed over at"), "{found}");
}

#[test]
fn what_has_ended_is_gone_after_a_pass() {
    let books = shop(OrderId::random());
    assert_eq!(books.ended_before(at(3610)), Vec::<String>::new());
    assert_eq!(books.ended_before(at(3611)).len(), 1);
}

#[test]
fn trials_are_nobodys_and_ports_are_one_projects() {
    let mut books = shop(OrderId::random());
    books.projects.push(project(OrderId::random(), 20002));
    assert_eq!(books.errors(), Vec::<String>::new());
    assert_eq!(books.trials(), 1);
    assert_eq!(overlapping_ports(&books.projects), Vec::<String>::new());
    books.projects.push(project(OrderId::random(), 20001));
    assert_eq!(overlapping_ports(&books.projects).len(), 2, "with the one before and the one after");
}
