//! Waiting for an order's status to change.

use std::time::Duration;

use jiff::SignedDuration;
use lnplaylive_core::OrderId;
use lnplaylive_plugin::core::{Shop, ShopError};
use tokio::time::sleep;

use crate::world::{Fault, World, buy, order, pay, until};

const LONG: Duration = Duration::from_secs(60);

async fn revision(shop: &Shop, id: OrderId) -> u64 {
    shop.orders.find(id).await.expect("an order").snapshot().revision(shop.clock.now())
}

#[test]
fn a_known_status_is_answered_at_the_deadline_and_another_at_once() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        let (known, before) = (revision(&shop, id).await, shop.clock.now());
        let waited = || shop.clock.now().duration_since(before);
        shop.status_watch.wait(id, known + 1, LONG).await.expect("a status");
        assert!(waited() < SignedDuration::from_secs(1));
        shop.status_watch.wait(id, known, LONG).await.expect("a status");
        assert!(waited() >= SignedDuration::from_secs(60));
        let nobody = shop.status_watch.wait(OrderId::random(), 0, LONG).await;
        assert!(matches!(nobody, Err(ShopError::NoSuchOrder)));
    });
}

#[test]
fn changes_are_told_as_they_come() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        let mut known = revision(&shop, id).await;
        let wait = async {
            let mut seen = Vec::new();
            while seen.last() != Some(&"provisioned") {
                let before = shop.clock.now();
                let snapshot = shop.status_watch.wait(id, known, LONG).await.expect("a status");
                let waited = shop.clock.now().duration_since(before);
                assert!(waited < SignedDuration::from_secs(59), "{seen:?}");
                known = snapshot.revision(shop.clock.now());
                seen.push(snapshot.order.state.name());
            }
            seen.dedup();
            assert_eq!(seen.first(), Some(&"queued"));
        };
        tokio::join!(wait, pay(&world, &shop, id));
    });
}

#[test]
fn time_alone_changes_a_status() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        let known = revision(&shop, id).await;
        sleep(Duration::from_secs(590)).await;
        let snapshot = shop.status_watch.wait(id, known, LONG).await.expect("a status");
        assert!(snapshot.order.invoice_expires_at <= shop.clock.now(), "told when it expires");
        assert!(shop.clock.now() < snapshot.order.invoice_expires_at + SignedDuration::from_secs(1));

        let id = buy(&world, &shop).await;
        world.settled().await;
        let known = revision(&shop, id).await;
        sleep(Duration::from_secs(4 * 3600)).await;
        let snapshot = shop.status_watch.wait(id, known, LONG).await.expect("a status");
        assert_eq!(snapshot.state(shop.clock.now()), "expired");
    });
}

#[test]
fn who_waits_for_a_closed_order_hears_that_it_is_reopened_or_changed() {
    let world = World::new();
    world.run_whole(async |shop| {
        world.fail_times("remote.deploy", 0, 2, Fault::Final);
        let id = buy(&world, &shop).await;
        world.settled().await;
        let known = revision(&shop, id).await;
        let retry = async {
            sleep(Duration::from_secs(1)).await;
            shop.operator.retry(id).await.expect("retried");
        };
        let (told, ()) = tokio::join!(shop.status_watch.wait(id, known, LONG), retry);
        assert_eq!(told.expect("a status").order.state.name(), "queued");
        world.settled().await;
        let known = revision(&shop, id).await;
        let extend = async {
            sleep(Duration::from_secs(1)).await;
            shop.operator.extend(id, 1).await.expect("extended");
        };
        let (told, ()) = tokio::join!(shop.status_watch.wait(id, known, LONG), extend);
        assert_ne!(told.expect("a status").revision(shop.clock.now()), known);
    });
}

#[test]
fn too_many_who_wait_are_answered_at_once() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        let known = revision(&shop, id).await;
        let waiting: Vec<_> = (0..1000)
            .map(|_| {
                let shop = std::sync::Arc::clone(&shop);
                tokio::spawn(async move { shop.status_watch.wait(id, known, LONG).await.is_ok() })
            })
            .collect();
        sleep(Duration::from_secs(1)).await;
        let before = shop.clock.now();
        shop.status_watch.wait(id, known, LONG).await.expect("a status");
        assert!(shop.clock.now().duration_since(before) < SignedDuration::from_secs(1));
        for one in waiting {
            assert!(one.await.expect("no panic"));
        }
    });
}

/// The page of an order that nobody paid says so, and not that there is none.
#[test]
fn an_order_that_expired_unpaid_is_shown_for_a_day() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        let unpaid = shop.status_watch.wait(id, 0, LONG).await.expect("a status").order;
        until("it is swept", || !world.data().open.contains_key(&id)).await;
        let now = shop.clock.now();
        let shown = shop.orders.find_for_buyer(id).await.expect("it is remembered").snapshot();
        assert_eq!((&shown.order.state, &shown.order.terms), (&unpaid.state, &unpaid.terms));
        assert!(shown.order.invoice_expires_at <= now);
        let known = shown.revision(now);
        let waited = shop.status_watch.wait(id, known, LONG).await.expect("a status");
        assert_eq!(waited.revision(shop.clock.now()), known, "nothing changes any more");
        // To the operator it is gone, and nothing can be done with it.
        assert!(matches!(shop.operator.retry(id).await, Err(ShopError::NoSuchOrder)));

        sleep(Duration::from_secs(24 * 3600)).await;
        assert!(matches!(shop.orders.find_for_buyer(id).await, Err(ShopError::NoSuchOrder)));
    });
}
