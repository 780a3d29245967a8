//! Whatever the remote does at whichever call, a paid order ends in exactly one environment, and nothing
//! is left on the remote that no order owns.

use e2e::{QUICK, daemons, projects, provisioned_once, text};
use serde_json::json;
use sim_lxd::Fault;
use testbed::{Flavor, Remotes, Shop, ShopConfig};

async fn shop(remotes: usize) -> Shop {
    let daemons = daemons(Flavor::Simulated, "faults").expect("part of this workspace");
    let config = ShopConfig {
        remotes: Remotes::Simulated(remotes),
        settings: QUICK.into(),
        ..ShopConfig::new(daemons)
    };
    Shop::start(config).await.expect("a shop")
}

/// Spoils each call of an order in turn, once, and the order has to get through.
async fn through_every_call(fault: impl Fn() -> Fault) {
    let shop = shop(1).await;
    let remote = &shop.remotes[0];
    let order = shop.buy(1, 1).await.expect("paid");
    provisioned_once(&shop, text(&order, "invoice_id")).await;
    let before = remote.faults().calls().len();
    let order = shop.buy(1, 1).await.expect("paid");
    provisioned_once(&shop, text(&order, "invoice_id")).await;
    let calls = remote.faults().calls().len() - before;
    assert!(calls >= 6, "{:?}", remote.faults().calls());

    let mut owned = 2;
    for k in 1..=calls {
        remote.faults().on_call(k, fault());
        let order = shop.buy(1, 1).await.expect("paid");
        provisioned_once(&shop, text(&order, "invoice_id")).await;
        remote.faults().clear();
        owned += 1;
        let all = projects(remote);
        assert_eq!(all.len(), owned, "after a fault at call {k}, projects and owners: {all:?}");
        assert!(all.iter().all(|(_, owner)| !owner.is_empty()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_at_every_call() {
    through_every_call(|| Fault::Error(500, "database is locked".into())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_at_every_call() {
    through_every_call(|| Fault::Error(400, "no".into())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_at_every_call() {
    through_every_call(|| Fault::Hang).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_at_every_call() {
    through_every_call(|| Fault::DropBefore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_at_every_call() {
    through_every_call(|| Fault::DropAfter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_operation_at_every_call() {
    through_every_call(|| Fault::FailOperation("no space left on device".into())).await;
}

/// The instance does not start, for good, and then each call of taking it down is spoiled in turn.
#[tokio::test(flavor = "multi_thread")]
async fn taking_down_what_failed_gets_through_every_fault() {
    let shop = shop(1).await;
    let remote = &shop.remotes[0];
    let order = shop.buy(1, 1).await.expect("paid");
    provisioned_once(&shop, text(&order, "invoice_id")).await;
    let start_fails = || {
        let fault = Fault::FailOperation("no space left on device".into());
        remote.faults().on("PUT", "/1.0/instances/*/state", 1, fault);
    };
    // Once without another fault, to see which calls there are from the failed start on.
    let before = remote.faults().calls().len();
    start_fails();
    let order = shop.buy(1, 1).await.expect("paid");
    provisioned_once(&shop, text(&order, "invoice_id")).await;
    let calls = remote.faults().calls().split_off(before);
    let start = calls.iter().position(|c| c.method == "PUT").expect("it is started");
    let again = calls.iter().rposition(|c| c.method == "POST" && c.path == "/1.0/projects");
    let down = start + 2..=again.expect("and placed again");
    assert!(calls[start..].iter().any(|c| c.method == "DELETE"), "{calls:?}");

    let mut owned = 2;
    for k in down {
        for fault in
            [Fault::Error(500, "database is locked".into()), Fault::Hang, Fault::DropBefore, Fault::DropAfter]
        {
            start_fails();
            remote.faults().on_call(k, fault.clone());
            let order = shop.buy(1, 1).await.expect("paid");
            provisioned_once(&shop, text(&order, "invoice_id")).await;
            remote.faults().clear();
            owned += 1;
            let all = projects(remote);
            assert_eq!(all.len(), owned, "after {fault:?} at call {k}, projects and owners: {all:?}");
        }
    }
}

/// No placement of it works: the order ends as failed, the operator can see why and try again.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_fails_for_good_can_be_retried() {
    let shop = shop(1).await;
    let remote = &shop.remotes[0];
    remote.faults().on("PUT", "/1.0/instances/*/state", 1000, e2e::ports_taken());
    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    let status = shop.follow(id, e2e::LONG, |_| ()).await.expect("it ends");
    assert_eq!(status["deployment_details"]["status"], "failed", "{status}");
    assert_eq!(status["invoice_status"], "paid");
    assert_eq!(status["deployment_details"]["contact"], json!(null), "the settings name none");
    let message = text(&status["deployment_details"], "message");
    assert!(message.contains("the shop's operator") && !message.contains("sim-0"), "{message}");
    remote.faults().clear();
    testbed::until("the order to be closed", e2e::LONG, async || {
        let closed = shop.host.node.call("lnplayops-orders", json!({"which": "closed"})).await;
        let closed = closed.expect("a list")["orders"].clone();
        Ok(match closed.as_array().and_then(|all| all.first()) {
            Some(order) => testbed::Step::Done(order.clone()),
            None => testbed::Step::NotYet(closed.to_string()),
        })
    })
    .await
    .map(|order| {
        assert_eq!(order["state"], "failed");
        assert_eq!(order["invoice_id"], id);
        assert_eq!(order["amount_msat"], 1000);
        assert_eq!(order["to_pay_back_msat"], 1000);
    })
    .expect("nothing is left to do for it");
    assert_eq!(projects(remote), [], "nothing is left of it");

    shop.host.node.call("lnplayops-retry", json!({"invoice_id": id})).await.expect("tried again");
    provisioned_once(&shop, id).await;
    let error = shop.host.node.call("lnplayops-retry", json!({"invoice_id": id})).await;
    assert_eq!(error.expect_err("it is done").code, Some(7005));
}

/// The less loaded remote always comes first, so it must not use up all attempts.
#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_starts_nothing_does_not_use_up_the_attempts() {
    let shop = shop(2).await;
    for remote in &shop.remotes {
        let order = shop.buy(1, 1).await.expect("paid");
        provisioned_once(&shop, text(&order, "invoice_id")).await;
        assert_eq!(projects(remote).len(), 1, "one each");
    }
    let fault = || Fault::FailOperation("no space left on device".into());
    shop.remotes[0].faults().on("PUT", "/1.0/instances/*/state", 1000, fault());
    for _ in 0..3 {
        let order = shop.buy(1, 1).await.expect("paid");
        provisioned_once(&shop, text(&order, "invoice_id")).await;
    }
    assert_eq!(projects(&shop.remotes[0]).len(), 1);
    assert_eq!(projects(&shop.remotes[1]).len(), 4);
    let starts = shop.remotes[0].faults().calls();
    let starts = starts.iter().filter(|c| c.method == "PUT" && c.path.ends_with("/state")).count();
    assert!(starts <= 1 + 3 * 2, "tried once for each order, and stopped: {starts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_hangs_does_not_hold_up_the_other() {
    let shop = shop(2).await;
    shop.remotes[0].faults().on("*", "/1.0/projects", 1000, Fault::Hang);
    let order = shop.buy(1, 1).await.expect("paid");
    provisioned_once(&shop, text(&order, "invoice_id")).await;
    assert_eq!(projects(&shop.remotes[0]), []);
    assert_eq!(projects(&shop.remotes[1]).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_waits_for_a_remote_that_does_not_answer() {
    let shop = shop(1).await;
    let remote = &shop.remotes[0];
    remote.faults().on("*", "/1.0/projects", 1000, Fault::DropBefore);
    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    testbed::until("some tries", e2e::LONG, async || {
        let calls = remote.faults().calls().len();
        Ok(if calls > 20 { testbed::Step::Done(()) } else { testbed::Step::NotYet(calls.to_string()) })
    })
    .await
    .expect("it is tried");
    let status = shop.status(id).await.expect("a status");
    assert_eq!(status["deployment_details"]["status"], "queued", "{status}");
    remote.faults().clear();
    provisioned_once(&shop, id).await;
}

/// The remote answers, and no environment works there: orders wait, nothing more is sold, and once it is mended all that
/// was paid for is delivered.
async fn no_order_is_lost(break_it: impl Fn(&sim_lxd::Faults)) {
    let daemons = daemons(Flavor::Simulated, "faults").expect("part of this workspace");
    let settings = format!("{QUICK}survey_secs = 1\nbreaker_pause_secs = 1\n");
    let config = ShopConfig { settings, ..ShopConfig::new(daemons) };
    let shop = Shop::start(config).await.expect("a shop");
    let remote = &shop.remotes[0];
    break_it(remote.faults());
    let mut orders = Vec::new();
    for _ in 0..2 {
        orders.push(shop.buy(1, 1).await.expect("paid"));
    }
    // The breaker opens, and trials of the shop's own do not work either.
    testbed::until("a trial to fail", e2e::LONG, async || {
        let shown = shop.host.node.call("lnplayops-remotes", json!({})).await.expect("remotes");
        let breaker = shown["remotes"][0]["breaker"].clone();
        let failed = breaker["failed_trials"].as_u64().unwrap_or_default();
        Ok(if failed >= 1 { testbed::Step::Done(()) } else { testbed::Step::NotYet(shown.to_string()) })
    })
    .await
    .expect("it is tried");
    for order in &orders {
        let status = shop.status(text(order, "invoice_id")).await.expect("a status");
        assert_eq!(status["deployment_details"]["status"], "queued", "{status}");
    }
    let refused = shop.buy(1, 1).await.expect_err("nothing is sold");
    assert!(format!("{refused:?}").contains("environments do not work on any remote"), "{refused:?}");
    let offers = shop.host.node.call("lnplaylive-products", json!({})).await.expect("offers");
    assert!(offers.to_string().contains("\"available\":false"), "{offers}");
    remote.faults().clear();
    for order in &orders {
        provisioned_once(&shop, text(order, "invoice_id")).await;
    }
    let all = projects(remote);
    assert!(all.iter().all(|(_, owner)| !owner.is_empty()), "{all:?}");
    let order = shop.buy(1, 1).await.expect("it is sold again");
    provisioned_once(&shop, text(&order, "invoice_id")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_is_lost_on_a_full_pool() {
    no_order_is_lost(|faults| {
        let fault = Fault::FailOperation("no space left on device".into());
        faults.on("PUT", "/1.0/instances/*/state", usize::MAX, fault);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_is_lost_without_a_profile() {
    no_order_is_lost(|faults| {
        faults.on("POST", "/1.0/instances", usize::MAX, Fault::Error(404, "Profile not found".into()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_is_lost_on_a_broken_image() {
    no_order_is_lost(|faults| faults.on_ssh(sim_lxd::SshFault::OtherHostKey)).await;
}
