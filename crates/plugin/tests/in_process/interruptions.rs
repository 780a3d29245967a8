//! Every scenario again, with something in between at every single call: a crash, a lost answer, a refusal, or the
//! operator. Whatever it is, an order that was paid is delivered once, or owed once; never both, never neither.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use lnplaylive_core::OrderId;
use lnplaylive_plugin::core::{Shop, ShopError};
use serde_json::json;
use tokio::time::sleep;

use crate::world::{Fault, World, order, pay, until};

/// Fate of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is delivered.
    Delivered,
    /// The first placement does not work; the second does.
    SecondAttempt,
    /// No placement works.
    Failed,
    /// It is delivered, and replaced by the operator.
    Replaced,
    /// The same, and the old environment is removed first.
    RemovedAndReplaced,
    /// It is delivered, and no placement works that would replace it.
    NotReplaced,
    /// The same, and the old environment is removed first.
    RemovedAndNotReplaced,
    /// It takes over an environment that was prepared.
    Prepared,
    /// It does, and that one does not work.
    WronglyPrepared,
}

const FATES: [Fate; 9] = [
    Fate::Prepared,
    Fate::WronglyPrepared,
    Fate::Delivered,
    Fate::SecondAttempt,
    Fate::Failed,
    Fate::Replaced,
    Fate::RemovedAndReplaced,
    Fate::NotReplaced,
    Fate::RemovedAndNotReplaced,
];

impl Fate {
    fn world(self) -> Arc<World> {
        let world = World::new();
        let (well, failures) = match self {
            Self::Delivered | Self::Replaced | Self::RemovedAndReplaced | Self::Prepared => (0, 0),
            Self::SecondAttempt | Self::WronglyPrepared => (0, 1),
            Self::Failed => (0, 2),
            Self::NotReplaced | Self::RemovedAndNotReplaced => (1, 2),
        };
        world.fail_times("remote.deploy", well, failures, Fault::Final);
        if self.is_prepared() {
            world.set("/products/0/prepared", json!(1));
        }
        world
    }

    /// Whether there is a prepared environment.
    fn is_prepared(self) -> bool {
        matches!(self, Self::Prepared | Self::WronglyPrepared)
    }

    /// Whether the operator replaces it, and whether what it had is removed first.
    fn replaced(self) -> Option<bool> {
        match self {
            Self::Delivered | Self::SecondAttempt | Self::Failed | Self::Prepared | Self::WronglyPrepared => {
                None
            }
            Self::Replaced | Self::NotReplaced => Some(false),
            Self::RemovedAndReplaced | Self::RemovedAndNotReplaced => Some(true),
        }
    }

    /// Has the operator replace it, where that is its fate, and waits until there is nothing left to do.
    async fn replace(self, world: &World, shop: &Shop, id: OrderId) {
        let Some(remove_first) = self.replaced() else { return };
        // What is not done because of a fault is asked for again.
        while let Err(error) = shop.operator.replace(id, remove_first).await {
            if matches!(error, ShopError::InvalidState { .. } | ShopError::NoSuchOrder) {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        world.closed(id).await;
    }

    /// Orders, pays and waits until there is nothing left to do.
    async fn take(self, world: &World, shop: &Shop) {
        if self.is_prepared() {
            until("one is prepared", || shop.pool.has_ready(1)).await;
        }
        // What cannot be ordered because of a fault is ordered again.
        let mut made = order(shop).await;
        while made.is_err() {
            sleep(Duration::from_secs(1)).await;
            made = order(shop).await;
        }
        let id = made.expect("an order");
        pay(world, shop, id).await;
        world.closed(id).await;
        self.replace(world, shop, id).await;
    }

    /// Number of calls between the start and the end.
    fn calls(self) -> usize {
        let world = self.world();
        world.run_whole(async |shop| self.take(&world, &shop).await);
        world.check_books();
        world.data().calls.len()
    }

    /// The calls that something happens to. Of an order that is replaced those from its first hand-over on: before it is like
    /// any other.
    fn interrupted(self) -> Range<usize> {
        let first = if self.replaced().is_some() { Self::Delivered.calls() } else { 0 };
        let calls = self.calls();
        assert!(calls - first >= 15, "{self:?}: {first} to {calls}");
        first..calls
    }
}

#[test]
fn a_crash_at_any_call_loses_nothing() {
    for fate in FATES {
        for nth in fate.interrupted() {
            for fault in [Fault::CrashBefore, Fault::CrashAfter] {
                let world = fate.world();
                world.fail_times("", nth, 1, fault.clone());
                let whole = world.run(async |shop| fate.take(&world, &shop).await);
                let call = world.data().calls.get(nth).cloned();
                // A call after which nothing ends: it went on in the background.
                assert!(whole.is_none() || call.is_some(), "{fate:?} {nth}");
                world.run_whole(async |shop| {
                    world.settled().await;
                    if fate.is_prepared() {
                        let as_many = || world.prepared() == 1 && shop.pool.ready().len() == 1;
                        until("one is prepared, and no other", as_many).await;
                    }
                });
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
        for nth in fate.interrupted() {
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

/// The operator's action in between.
#[derive(Debug, Clone, Copy)]
enum Action {
    Retry,
    Cancel,
    Refunded,
    Extend,
    Replace,
    RemoveAndReplace,
}

impl Action {
    /// Does it, or is refused.
    async fn run(self, shop: &Shop, id: OrderId) {
        match self {
            Self::Retry => drop(shop.operator.retry(id).await),
            Self::Cancel => drop(shop.operator.cancel(id).await),
            Self::Refunded => drop(shop.operator.refunded(id, None).await),
            Self::Extend => drop(shop.operator.extend(id, 1).await),
            Self::Replace => drop(shop.operator.replace(id, false).await),
            Self::RemoveAndReplace => drop(shop.operator.replace(id, true).await),
        }
    }
}

/// Runs an order with the operator's actions at its `nth` call, while that call is under way. `fault` happens to the
/// first write or read after that.
fn interleave(fate: Fate, actions: &[Action], nth: usize, fault: Option<Fault>) {
    let world = fate.world();
    world.run_whole(async |shop| {
        if fate.is_prepared() {
            until("one is prepared", || shop.pool.has_ready(1)).await;
        }
        let id = order(&shop).await.expect("an order");
        let hold = world.hold_nth(nth);
        let order = async {
            pay(&world, &shop, id).await;
            world.settled().await;
            fate.replace(&world, &shop, id).await;
        };
        let operator = async {
            // The remotes are polled for ever, so that it comes at last.
            hold.reached().await;
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
        };
        tokio::join!(order, operator);
        world.heal();
        world.settled().await;
        until("nothing in memory", || shop.orders.handles().is_empty()).await;
    });
    world.check_books();
    // And nothing is left that a restart would find.
    world.run_whole(async |_| {
        sleep(Duration::from_secs(5)).await;
        world.settled().await;
    });
    world.check_books();
}

/// Runs an order once for each of its calls and each of these actions, which come at that call.
fn interleave_all(fate: Fate, actions: &[&[Action]], faults: &[Option<Fault>]) {
    let calls = fate.interrupted();
    for actions in actions {
        for nth in calls.clone() {
            for fault in faults {
                interleave(fate, actions, nth, fault.clone());
            }
        }
    }
}

const ACTIONS: &[&[Action]] = &[
    &[Action::Retry],
    &[Action::Cancel],
    &[Action::Extend],
    &[Action::Retry, Action::Refunded],
    &[Action::Cancel, Action::Retry],
    &[Action::Cancel, Action::Refunded, Action::Retry],
    &[Action::Replace],
    &[Action::RemoveAndReplace, Action::Extend],
    &[Action::Refunded, Action::Replace],
    &[Action::Replace, Action::Cancel, Action::Refunded],
];

/// Those that may come in between while an environment is being replaced.
const ON_REPLACEMENT: &[&[Action]] = &[
    &[Action::Retry, Action::Extend],
    &[Action::Cancel, Action::Refunded],
    &[Action::Cancel, Action::RemoveAndReplace],
    &[Action::Replace, Action::Cancel, Action::Replace],
];

#[test]
fn the_operator_may_come_at_any_call_of_an_order_that_is_delivered() {
    interleave_all(Fate::Delivered, ACTIONS, &[None]);
}

#[test]
fn the_operator_may_come_at_any_call_of_an_order_that_takes_over_what_was_prepared() {
    interleave_all(Fate::Prepared, ACTIONS, &[None]);
    interleave_all(Fate::WronglyPrepared, &ACTIONS[..5], &[None]);
}

#[test]
fn the_operator_may_come_at_any_call_of_an_order_that_is_placed_twice() {
    interleave_all(Fate::SecondAttempt, ACTIONS, &[None]);
}

#[test]
fn the_operator_may_come_at_any_call_of_an_order_that_fails() {
    interleave_all(Fate::Failed, ACTIONS, &[None]);
}

#[test]
fn the_operator_may_come_at_any_call_of_an_order_that_is_replaced() {
    for fate in [Fate::Replaced, Fate::RemovedAndReplaced] {
        interleave_all(fate, ON_REPLACEMENT, &[None]);
    }
}

#[test]
fn the_operator_may_come_at_any_call_of_an_order_that_cannot_be_replaced() {
    for fate in [Fate::NotReplaced, Fate::RemovedAndNotReplaced] {
        interleave_all(fate, ON_REPLACEMENT, &[None]);
    }
}

#[test]
fn a_replacement_that_gets_no_answer_loses_nothing() {
    let actions: &[&[Action]] = &[&[Action::Replace], &[Action::RemoveAndReplace]];
    for fate in [Fate::Delivered, Fate::Replaced] {
        interleave_all(fate, actions, &[Some(Fault::Lost), Some(Fault::AnswerLost)]);
    }
}

#[test]
fn the_operator_may_come_at_any_call_and_get_no_answer() {
    let actions: &[&[Action]] = &[&[Action::Retry, Action::Refunded], &[Action::Cancel, Action::Retry]];
    interleave_all(Fate::Failed, actions, &[Some(Fault::Lost), Some(Fault::AnswerLost)]);
}
