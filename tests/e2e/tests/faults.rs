//! Whatever the remote does at whichever call, a paid order ends in exactly one environment, and nothing
//! is left on the remote that no order owns.

use e2e::{QUICK, daemons, projects, provisioned_once, text};
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
