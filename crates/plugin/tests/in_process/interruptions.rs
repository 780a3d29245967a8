//! Every scenario again, with something in between at every single call: a crash, a lost answer, a refusal, or the
//! operator. Whatever it is, an order that was paid is delivered once, or owed once; never both, never neither.

use std::sync::Arc;
use std::time::Duration;

use lnplaylive_core::OrderId;
use lnplaylive_plugin::core::Shop;
use tokio::time::sleep;

use crate::world::{Fault, World, order, pay, until};

/// What becomes of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is delivered.
    Delivered,
    /// The first placement does not work; the second does.
    SecondAttempt,
    /// No placement works.
    Failed,
}

const FATES: [Fate; 3] = [Fate::Delivered, Fate::SecondAttempt, Fate::Failed];

impl Fate {
    fn world(self) -> Arc<World> {
        let world = World::new();
        let failures = match self {
            Self::Delivered => 0,
            Self::SecondAttempt => 1,
            Self::Failed => 2,
        };
        world.fail_times("remote.deploy", 0, failures, Fault::Final);
        world
    }

    /// Orders, pays and waits until there is nothing left to do.
    async fn take(self, world: &World, shop: &Shop) {
        // What cannot be ordered because of a fault is ordered again.
        let mut made = order(shop).await;
        while made.is_err() {
            sleep(Duration::from_secs(1)).await;
            made = order(shop).await;
        }
        let id = made.expect("an order");
        pay(world, shop, id).await;
        world.closed(id).await;
    }

    /// How many calls there are between the start and the end.
    fn calls(self) -> usize {
        let world = self.world();
        world.run_whole(async |shop| self.take(&world, &shop).await);
        world.check_books();
        world.data().calls.len()
    }
}

#[test]
fn a_crash_at_any_call_loses_nothing() {
    for fate in FATES {
        for nth in 0..fate.calls() {
            for fault in [Fault::CrashBefore, Fault::CrashAfter] {
                let world = fate.world();
                world.fail_times("", nth, 1, fault.clone());
                let whole = world.run(async |shop| fate.take(&world, &shop).await);
                let call = world.data().calls.get(nth).cloned();
                // A call after which nothing ends: it went on in the background.
                assert!(whole.is_none() || call.is_some(), "{fate:?} {nth}");
                world.run_whole(async |_| world.settled().await);
                world.check_books();
            }
        }
    }
}

#[test]
fn two_crashes_lose_nothing() {
    let fate = Fate::SecondAttempt;
    for nth in 0..fate.calls() {
        for later in (0..20).step_by(3) {
            let world = fate.world();
            world.fail_times("", nth, 1, Fault::CrashAfter);
            world.run(async |shop| fate.take(&world, &shop).await);
            world.fail_times("", later, 1, Fault::CrashAfter);
            world.run(async |_| world.settled().await);
            world.heal();
            world.run_whole(async |_| world.settled().await);
            world.check_books();
        }
    }
}

#[test]
fn a_call_without_an_answer_loses_nothing() {
    for fate in FATES {
        for nth in 0..fate.calls() {
            for fault in [Fault::Lost, Fault::AnswerLost, Fault::Refused] {
                let world = fate.world();
                world.fail_times("", nth, 1, fault.clone());
                world.run_whole(async |shop| fate.take(&world, &shop).await);
                // A new order whose record was written without an answer is read at the next start, and swept.
                world.run_whole(async |_| world.settled().await);
                world.check_books();
            }
        }
    }
}

/// What the operator does in between.
#[derive(Debug, Clone, Copy)]
enum Action {
    Retry,
    Cancel,
    Refunded,
    Extend,
}

impl Action {
    async fn run(self, shop: &Shop, id: OrderId) -> bool {
        match self {
            Self::Retry => shop.operator.retry(id).await.is_ok(),
            Self::Cancel => shop.operator.cancel(id).await.is_ok(),
            Self::Refunded => shop.operator.refunded(id, None).await.is_ok(),
            Self::Extend => shop.operator.extend(id, 1).await.is_ok(),
        }
    }
}

/// Runs an order with the operator's actions at its `nth` call, while that call is under way, and returns whether the
/// call came. `fault` happens to the first call after.
fn interleave(fate: Fate, actions: &[Action], nth: usize, fault: Option<Fault>) -> bool {
    let world = fate.world();
    let came = world.run_whole(async |shop| {
        let id = order(&shop).await.expect("an order");
        let hold = world.hold_nth(nth);
        let order = async {
            pay(&world, &shop, id).await;
            world.settled().await;
        };
        let operator = async {
            tokio::select! {
                () = hold.reached() => {}
                () = sleep(Duration::from_secs(24 * 3600)) => return false,
            }
            if let Some(fault) = fault {
                world.fail("store", fault);
            }
            let acting = async {
                for action in actions {
                    action.run(&shop, id).await;
                }
            };
            let release = async {
                sleep(Duration::from_millis(1)).await;
                hold.release();
            };
            tokio::join!(acting, release);
            true
        };
        let ((), came) = tokio::join!(order, operator);
        world.heal();
        world.settled().await;
        until("nothing in memory", || shop.orders.handles().is_empty()).await;
        came
    });
    world.check_books();
    // And nothing is left that a restart would find.
    world.run_whole(async |_| {
        sleep(Duration::from_secs(5)).await;
        world.settled().await;
    });
    world.check_books();
    came
}

#[test]
fn the_operator_may_come_at_any_call() {
    let mut schedules = 0;
    for fate in FATES {
        for actions in [
            &[Action::Retry][..],
            &[Action::Cancel],
            &[Action::Refunded],
            &[Action::Extend],
            &[Action::Retry, Action::Refunded],
            &[Action::Cancel, Action::Retry],
            &[Action::Cancel, Action::Refunded],
            &[Action::Cancel, Action::Refunded, Action::Retry],
        ] {
            for nth in 0..fate.calls() {
                interleave(fate, actions, nth, None);
                schedules += 1;
            }
        }
    }
    assert!(schedules > 300, "{schedules}");
}

#[test]
fn the_operator_may_come_at_any_call_and_get_no_answer() {
    for fate in FATES {
        for actions in [&[Action::Retry, Action::Refunded][..], &[Action::Cancel, Action::Retry]] {
            for nth in 0..fate.calls() {
                for fault in [Fault::Lost, Fault::AnswerLost] {
                    interleave(fate, actions, nth, Some(fault));
                }
            }
        }
    }
}
