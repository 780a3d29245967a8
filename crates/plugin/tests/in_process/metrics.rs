//! Metrics: each follows what it is named after, across restarts and lost answers, and a scrape costs the node nothing.

use std::sync::Arc;
use std::time::Duration;

use lnplaylive_core::health::Answer;
use lnplaylive_core::readiness::{NodeReport, SyncState};
use lnplaylive_core::{Order, State};
use lnplaylive_plugin::adapters::metrics::registry;
use lnplaylive_plugin::core::Shop;
use lnplaylive_plugin::core::interfaces::Record;
use lnplaylive_plugin::core::tally::{Owed, Tally};
use serde_json::json;
use tokio::time::sleep;

use crate::world::{Fault, World, buy, node_report, order, remote, until};

/// The value of a metric with exactly these labels; `None` if it is not exported.
fn metric(shop: &Arc<Shop>, name: &str) -> Option<f64> {
    let text = metrics_endpoint::text(&registry(shop));
    let name = format!("lnplaylive_{name} ");
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
}

fn is(shop: &Arc<Shop>, expected: &[(&str, f64)]) {
    for (name, value) in expected {
        assert_eq!(metric(shop, name), Some(*value), "{name}");
    }
}

/// Has the shop observed, as it is where metrics are served.
fn observe(shop: &Arc<Shop>) {
    let shop = Arc::clone(shop);
    tokio::spawn(async move { shop.observer.run().await });
}

#[test]
fn an_order_is_counted_on_its_way() {
    let world = World::new();
    world.run_whole(async |shop| {
        observe(&shop);
        is(&shop, &[("orders_paid_total", 0.0), ("environments_delivered_total{remote=\"a\"}", 0.0)]);
        let unpaid = order(&shop).await.expect("an order");
        is(&shop, &[("orders{state=\"created\"}", 1.0), ("oldest_undelivered_order_age_seconds", 0.0)]);
        let hold = world.hold("remote.deploy");
        let first = buy(&world, &shop).await;
        hold.reached().await;
        sleep(Duration::from_secs(500)).await;
        let second = world.hold("remote.deploy");
        buy(&world, &shop).await;
        second.reached().await;
        is(&shop, &[("orders{state=\"deploying\"}", 2.0), ("orders{state=\"created\"}", 1.0)]);
        let oldest = metric(&shop, "oldest_undelivered_order_age_seconds").expect("exported");
        assert!((500.0..600.0).contains(&oldest), "the first one's: {oldest}");
        second.release();
        hold.release();
        world.closed(first).await;
        until("the unpaid one to be swept", || world.stored(unpaid).is_none()).await;
        is(
            &shop,
            &[
                ("orders{state=\"deploying\"}", 0.0),
                ("oldest_undelivered_order_age_seconds", 0.0),
                ("orders_paid_total", 2.0),
                ("orders_expired_total", 1.0),
                ("placements_total{remote=\"a\"}", 2.0),
                ("placements_abandoned_total{remote=\"a\"}", 0.0),
                ("environments_delivered_total{remote=\"a\"}", 2.0),
                ("delivery_seconds_count", 2.0),
                ("delivery_seconds_bucket{le=\"30.0\"}", 1.0),
                ("delivery_seconds_bucket{le=\"600.0\"}", 2.0),
                ("environments{remote=\"a\",condition=\"ok\"}", 2.0),
                ("orders_owed", 0.0),
            ],
        );
        let sum = metric(&shop, "delivery_seconds_sum").expect("exported");
        assert!((520.0..700.0).contains(&sum), "{sum}");
    });
}

#[test]
fn what_happened_counts_once_whatever_answer_is_lost() {
    for nth in 0..4 {
        let world = World::new();
        world.run_whole(async |shop| {
            world.fail_times("store.replace", nth, 1, Fault::AnswerLost);
            let id = buy(&world, &shop).await;
            world.closed(id).await;
            assert_eq!(world.state(id), "provisioned");
            is(
                &shop,
                &[
                    ("orders_paid_total", 1.0),
                    ("placements_total{remote=\"a\"}", 1.0),
                    ("placements_abandoned_total{remote=\"a\"}", 0.0),
                    ("environments_delivered_total{remote=\"a\"}", 1.0),
                    ("delivery_seconds_count", 1.0),
                ],
            );
        });
    }
}

#[test]
fn what_is_owed_is_known_until_it_is_paid_back() {
    let world = World::new();
    let id = world.run_whole(async |shop| {
        observe(&shop);
        world.fail_times("remote.bring_up", 0, 2, Fault::Final);
        // It is owed from here on, however long the removal of what is left of it takes.
        world.fail_times("remote.take_down", 1, 3, Fault::Lost);
        let id = buy(&world, &shop).await;
        until("it fails", || metric(&shop, "orders_owed") == Some(1.0)).await;
        is(&shop, &[("orders_owed", 1.0), ("owed_msat", 1000.0), ("orders{state=\"failed\"}", 1.0)]);
        world.closed(id).await;
        is(
            &shop,
            &[
                ("orders_owed", 1.0),
                ("owed_msat", 1000.0),
                ("orders{state=\"failed\"}", 0.0),
                ("orders_failed_total", 1.0),
                ("placements_abandoned_total{remote=\"a\"}", 2.0),
                ("remote_faults_total{remote=\"a\",severity=\"placement\"}", 2.0),
            ],
        );
        id
    });
    world.run_whole(async |shop| {
        assert_eq!(metric(&shop, "orders_owed"), None, "not known yet, which is not nothing");
        observe(&shop);
        sleep(Duration::from_secs(1)).await;
        is(&shop, &[("orders_owed", 1.0), ("owed_msat", 1000.0), ("orders_failed_total", 0.0)]);
        let hold = world.hold("remote.bring_up");
        shop.operator.retry(id).await.expect("retried");
        hold.reached().await;
        is(&shop, &[("orders_owed", 0.0), ("owed_msat", 0.0)]);
        hold.release();
        world.closed(id).await;
        is(&shop, &[("orders_owed", 0.0)]);
    });
    let id = world.run_whole(async |shop| {
        // Before the closed orders are read, too.
        let hold = world.hold("remote.bring_up");
        let id = buy(&world, &shop).await;
        hold.reached().await;
        shop.operator.cancel(id).await.expect("cancelled");
        world.closed(id).await;
        is(&shop, &[("orders_cancelled_total", 1.0)]);
        assert_eq!(metric(&shop, "orders_owed"), None);
        observe(&shop);
        sleep(Duration::from_secs(1)).await;
        is(&shop, &[("orders_owed", 1.0), ("owed_msat", 1000.0)]);
        id
    });
    world.run_whole(async |shop| {
        observe(&shop);
        sleep(Duration::from_secs(1)).await;
        shop.operator.refunded(id, None).await.expect("refunded");
        is(&shop, &[("orders_owed", 0.0), ("owed_msat", 0.0)]);
    });
}

#[test]
fn what_changes_while_the_closed_orders_are_read_counts() {
    let world = World::new();
    let (owed, refunded) = world.run_whole(async |shop| {
        let hold = world.hold("remote.bring_up");
        let id = buy(&world, &shop).await;
        hold.reached().await;
        shop.operator.cancel(id).await.expect("cancelled");
        world.closed(id).await;
        let owed = world.stored(id).expect("a record");
        (owed, shop.operator.refunded(id, None).await.expect("refunded").order)
    });
    let read = |order: &Order| Record { order: order.clone(), generation: 0 };
    let tally = || Tally::new(Arc::clone(&world) as _, ["a"]);
    let of = |tally: &Tally| tally.owed_except(|_| false);
    let (paid_back, failed, closed_before) = (tally(), tally(), tally());
    paid_back.note_closed(&refunded);
    paid_back.take_up_closed(&[read(&owed)]);
    assert_eq!(of(&paid_back), Some(Owed::default()));
    failed.note_closed(&owed);
    assert_eq!(of(&failed), None);
    failed.take_up_closed(&[]);
    assert_eq!(of(&failed), Some(Owed { orders: 1, msat: 1000 }));
    closed_before.take_up_closed(&[read(&owed)]);
    assert_eq!(of(&closed_before), Some(Owed { orders: 1, msat: 1000 }));
    closed_before.note_closed(&refunded);
    assert_eq!(of(&closed_before), Some(Owed::default()));
}

#[test]
fn a_remote_in_trouble_is_seen() {
    let world = World::new();
    world.set("/remotes", json!([remote("a"), remote("b")]));
    world.run_whole(async |shop| {
        observe(&shop);
        sleep(Duration::from_secs(20)).await;
        let places = metric(&shop, "remote_free_places{remote=\"a\"}").expect("exported");
        assert!(places > 0.0);
        is(
            &shop,
            &[
                ("remote_answers{remote=\"a\"}", 1.0),
                ("remote_breaker_open{remote=\"a\"}", 0.0),
                ("remote_members{remote=\"a\"}", 1.0),
                ("product_available{sku=\"T\"}", 2.0 * places),
            ],
        );
        world.fail_times("remote.bring_up", 0, usize::MAX, Fault::RemoteBroken);
        world.fail_times("remote.try_out", 0, usize::MAX, Fault::RemoteBroken);
        buy(&world, &shop).await;
        until("the breakers open", || metric(&shop, "remote_breaker_open{remote=\"a\"}") == Some(1.0)).await;
        sleep(Duration::from_secs(1000)).await;
        let faults = metric(&shop, "remote_faults_in_a_row{remote=\"a\"}").expect("exported");
        assert!(faults >= 3.0, "{faults}");
        is(
            &shop,
            &[
                ("remote_free_places{remote=\"a\"}", 0.0),
                ("product_available{sku=\"T\"}", 0.0),
                ("orders{state=\"queued\"}", 1.0),
            ],
        );
        let oldest = metric(&shop, "oldest_undelivered_order_age_seconds").expect("exported");
        assert!(oldest > 900.0, "a buyer waits: {oldest}");
        world.heal();
        world.settled().await;
        until("it is used again", || metric(&shop, "remote_breaker_open{remote=\"a\"}") == Some(0.0)).await;
        is(&shop, &[("oldest_undelivered_order_age_seconds", 0.0), ("remote_answers{remote=\"b\"}", 1.0)]);

        world.fail_times("remote.poll", 0, usize::MAX, Fault::Lost);
        sleep(Duration::from_secs(700)).await;
        let silent = metric(&shop, "remote_silent_seconds{remote=\"b\"}").expect("exported");
        assert!((600.0..=715.0).contains(&silent), "{silent}");
        is(&shop, &[("remote_answers{remote=\"b\"}", 0.0), ("product_available{sku=\"T\"}", 0.0)]);
    });
}

#[test]
fn a_node_that_cannot_be_paid_is_seen() {
    let world = World::new();
    world.run_whole(async |shop| {
        observe(&shop);
        until("the node has answered", || metric(&shop, "node_open") == Some(1.0)).await;
        is(&shop, &[("node_synchronised", 1.0)]);
        world.data().node = Some(Ok(NodeReport { sync: SyncState::BitcoindSync, ..node_report(7) }));
        until("the shop closes", || metric(&shop, "node_open") == Some(0.0)).await;
        is(&shop, &[("node_synchronised", 0.0), ("node_receivable_msat", 7.0)]);
        world.data().node = Some(Ok(node_report(0)));
        until("the node is synchronised", || metric(&shop, "node_synchronised") == Some(1.0)).await;
        is(&shop, &[("node_open", 0.0), ("node_receivable_msat", 0.0)]);
    });
}

#[test]
fn a_degraded_environment_is_seen_until_its_end() {
    let world = World::new();
    world.run_whole(async |shop| {
        let id = buy(&world, &shop).await;
        world.closed(id).await;
        is(&shop, &[("longest_degraded_environment_seconds", 0.0)]);
        let Some(State::Provisioned { handover, .. }) = world.stored(id).map(|order| order.state) else {
            panic!("it is provisioned");
        };
        let stopped = Answer::Stopped("its instance is stopped".to_owned());
        world.data().answers.insert(handover.project, stopped);
        let degraded = "environments{remote=\"a\",condition=\"degraded\"}";
        until("it is noticed", || metric(&shop, degraded) == Some(1.0)).await;
        sleep(Duration::from_secs(1000)).await;
        let longest = metric(&shop, "longest_degraded_environment_seconds").expect("exported");
        assert!((1000.0..1100.0).contains(&longest), "{longest}");
        // The culler has not removed it yet.
        sleep(Duration::from_secs(2 * 3600)).await;
        assert!(world.projects(id) == 1);
        is(&shop, &[("longest_degraded_environment_seconds", 0.0)]);
        assert_eq!(metric(&shop, degraded), None);
    });
}
