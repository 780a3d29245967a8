//! Payments: found at once, late, twice, while nobody listened, or never made.

use std::time::Duration;

use lnplaylive_core::OrderId;
use lnplaylive_plugin::core::ShopError;
use lnplaylive_plugin::core::order_book::Found;
use serde_json::json;
use tokio::time::sleep;

use crate::world::{Fault, World, buy, order, pay, until};

#[test]
fn a_paid_order_is_delivered() {
    let world = World::new();
    let id = world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        assert_eq!(world.state(id), "created");
        pay(&world, &shop, id).await;
        world.settled().await;
        id
    });
    assert_eq!((world.state(id), world.projects(id)), ("provisioned", 1));
    world.check_books();
    assert_eq!(world.data().routes.as_ref().map(lnplaylive_core::RouteTable::len), Some(1));
}

/// The node takes its time, or the clock is set forward: by the record, the invoice has expired before there is one.
#[test]
fn an_order_is_not_swept_while_its_invoice_is_made() {
    let world = World::new();
    world.run_whole(async |shop| {
        let making = world.hold("invoice.create");
        let (ordered, ()) = tokio::join!(order(&shop), async {
            making.reached().await;
            sleep(Duration::from_secs(700)).await;
            making.release();
        });
        let id = ordered.expect("an order");
        assert_eq!(world.state(id), "created", "its buyer has an invoice that can be paid");
        pay(&world, &shop, id).await;
        world.settled().await;
        assert_eq!(world.state(id), "provisioned");
    });
    world.check_books();
}

/// The node has written the record, and the answer is lost: nobody has the order's id, and nothing of it stays.
#[test]
fn a_new_order_whose_record_is_not_answered_is_swept() {
    for fault in [Fault::AnswerLost, Fault::Lost] {
        let world = World::new();
        world.run_whole(async |shop| {
            world.fail_times("store.insert", 0, 1, fault.clone());
            order(&shop).await.expect_err("no answer");
            until("the sweep", || world.data().open.is_empty() && shop.orders.handles().is_empty()).await;
        });
        world.check_books();
    }
}

#[test]
fn a_payment_that_is_told_twice_counts_once() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = buy(&world, &shop).await;
        let label = id.to_string();
        tokio::join!(shop.orders.on_payment(&label), shop.orders.on_payment(&label));
        shop.orders.find_payments().await.expect("it answers");
        world.settled().await;
        // And once more when it is all over.
        shop.orders.on_payment(&label).await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(world.count("remote.bring_up"), 1);
    });
    world.check_books();
}

#[test]
fn a_payment_that_nobody_heard_of_is_found_at_the_next_start() {
    let world = World::new();
    let id = world.run_whole(async |shop| order(&shop).await.expect("an order"));
    world.pay(id);
    world.run_whole(async |_| world.settled().await);
    assert_eq!(world.state(id), "provisioned");
    world.check_books();
}

#[test]
fn a_payment_that_nobody_heard_of_is_found_before_its_order_is_swept() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        world.pay(id);
        until("the sweep", || world.state(id) != "created").await;
        world.settled().await;
        assert_eq!(world.state(id), "provisioned");
    });
    world.check_books();
}

#[test]
fn a_payment_after_the_expiry_by_our_clock_counts() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        // By the node's clock it was still time; the sweep comes first.
        sleep(Duration::from_secs(659)).await;
        world.pay_late(id);
        until("the sweep", || world.state(id) != "created").await;
        world.settled().await;
        assert_eq!(world.state(id), "provisioned");
    });
    world.check_books();
}

#[test]
fn an_order_that_is_never_paid_goes_and_makes_room() {
    let world = World::new();
    world.set("/shop/max_unpaid_orders", json!(1));
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        match order(&shop).await {
            Err(ShopError::Busy { retry_after_secs }) => assert!((1..=660).contains(&retry_after_secs)),
            other => panic!("{other:?}"),
        }
        until("the sweep", || world.state(id) == "none").await;
        assert!(!world.has_invoice(id));
        assert!(matches!(shop.orders.find(id).await, Err(ShopError::NoSuchOrder)));
        order(&shop).await.expect("there is room again");
    });
}

#[test]
fn an_order_whose_invoice_somebody_removed_goes() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        world.drop_invoice(id);
        until("the sweep", || world.state(id) == "none").await;
    });
}

#[test]
fn a_sweep_that_gets_no_answer_is_done_again() {
    let world = World::new();
    for (call, fault) in [
        ("invoice.remove", Fault::Lost),
        ("invoice.remove", Fault::AnswerLost),
        ("store.remove", Fault::Lost),
        ("store.remove", Fault::AnswerLost),
    ] {
        world.run_whole(async |shop| {
            let id = order(&shop).await.expect("an order");
            world.fail(call, fault);
            until("the sweep", || world.state(id) == "none").await;
            until("nothing in memory", || shop.orders.handles().is_empty()).await;
        });
    }
    world.check_books();
}

#[test]
fn invoices_of_others_are_left_alone() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = buy(&world, &shop).await;
        world.settled().await;
        let calls = world.count("store");
        shop.orders.on_payment("coffee").await;
        assert_eq!(world.count("store"), calls, "nothing is even looked up");
        for label in ["lnplaylive-tip-jar", &OrderId::random().to_string(), &id.to_string()] {
            shop.orders.on_payment(label).await;
        }
        assert!(shop.orders.handles().is_empty());
    });
    world.check_books();
}

#[test]
fn a_payment_waits_until_the_open_orders_are_read() {
    let world = World::new();
    let id = world.run_whole(async |shop| order(&shop).await.expect("an order"));
    world.fail_times("store.list", 0, 3, Fault::Lost);
    world.run_whole(async |shop| {
        assert!(shop.orders.handles().is_empty());
        pay(&world, &shop, id).await;
        assert_eq!(shop.orders.handles().len(), 1);
        world.settled().await;
    });
    world.check_books();
}

#[test]
fn callers_are_told_when_the_shop_takes_long_to_start() {
    let world = World::new();
    world.fail_times("store.list", 0, usize::MAX, Fault::Lost);
    world.run_whole(async |shop| {
        assert!(matches!(shop.orders.find(OrderId::random()).await, Err(ShopError::Starting)));
        assert!(matches!(order(&shop).await, Err(ShopError::Starting)));
        assert!(matches!(shop.sales.offers().await, Err(ShopError::Starting)));
    });
}

#[test]
fn a_damaged_record_is_said_to_be_one_and_holds_nobody_up() {
    let world = World::new();
    let damaged = OrderId::random();
    world.damage(damaged);
    world.run_whole(async |shop| {
        buy(&world, &shop).await;
        world.settled().await;
        assert!(matches!(shop.orders.find(damaged).await, Err(ShopError::DamagedRecord)));
        assert!(matches!(shop.operator.retry(damaged).await, Err(ShopError::DamagedRecord)));
        assert_eq!(shop.orders.damaged().len(), 1);
    });
    world.check_books();
}

#[test]
fn a_new_order_whose_writes_fail_costs_nothing() {
    for (call, fault) in [
        ("store.insert", Fault::Refused),
        ("store.insert", Fault::Lost),
        ("store.insert", Fault::AnswerLost),
        ("invoice.create", Fault::Refused),
        ("invoice.create", Fault::Lost),
        ("invoice.create", Fault::AnswerLost),
    ] {
        let world = World::new();
        world.set("/shop/max_unpaid_orders", json!(1));
        world.run_whole(async |shop| {
            world.fail(call, fault.clone());
            let refused = order(&shop).await;
            assert!(matches!(refused, Err(ShopError::Node(_))), "{call} {fault:?}: {refused:?}");
            let now = || matches!(fault, Fault::Refused) || call == "store.insert";
            if now() {
                order(&shop).await.expect("the permit is back");
            }
            sleep(Duration::from_secs(700)).await;
        });
        // What a crash would have left is read at the next start, and swept.
        world.run_whole(async |_| sleep(Duration::from_secs(700)).await);
        world.check_books();
        assert!(world.data().closed.is_empty());
    }
}

#[test]
fn a_refused_invoice_whose_record_stays_is_swept() {
    let world = World::new();
    world.run_whole(async |shop| {
        world.fail("invoice.create", Fault::Refused);
        world.fail("store.remove", Fault::Lost);
        order(&shop).await.expect_err("refused");
        assert_eq!(world.data().open.len(), 1);
        until("the sweep", || world.data().open.is_empty()).await;
    });
}

#[test]
fn an_order_whose_record_somebody_removed_is_left_alone() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        world.data().open.remove(&id);
        pay(&world, &shop, id).await;
        sleep(Duration::from_secs(60)).await;
        assert_eq!((world.state(id), world.projects(id)), ("none", 0));
        let Ok(Found::Open(handle)) = shop.orders.find(id).await else { panic!("it is in memory") };
        assert!(handle.is_unpaid());
        assert!(matches!(shop.operator.retry(id).await, Err(ShopError::InvalidState { .. })));
    });
}
