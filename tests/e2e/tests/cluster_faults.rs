//! Whatever happens to whichever member of a cluster at whichever call, a paid order ends in exactly one environment, on
//! a member that is there, and nothing is left that no order owns.
//!
//! Every fourth call is spoiled, each fault beginning at another one; with `CLUSTER_FAULTS=all` every call is.

use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::{LONG, QUICK, daemons, figure, projects, provisioned_once, text};
use sim_lxd::{Fault, SimRemote};
use testbed::{Flavor, Remotes, Shop, ShopConfig, Step, until};

const MEMBERS: usize = 3;

async fn shop() -> Shop {
    let daemons = daemons(Flavor::Simulated, "cluster_faults").expect("part of this workspace");
    let config = ShopConfig {
        remotes: Remotes::SimulatedCluster(MEMBERS),
        settings: QUICK.into(),
        ..ShopConfig::new(daemons)
    };
    Shop::start(config).await.expect("a shop")
}

/// The calls of an order that are spoiled: `shift` says where to begin.
async fn calls(shop: &Shop, shift: usize) -> Vec<usize> {
    let order = shop.buy(1, 1).await.expect("paid");
    provisioned_once(shop, text(&order, "invoice_id")).await;
    let remote = &shop.remotes[0];
    let before = remote.faults().calls().len();
    let order = shop.buy(1, 1).await.expect("paid");
    provisioned_once(shop, text(&order, "invoice_id")).await;
    let count = remote.faults().calls().len() - before;
    assert!(count >= 8, "{:?}", remote.faults().calls());
    let step = if std::env::var("CLUSTER_FAULTS").is_ok_and(|which| which == "all") { 1 } else { 4 };
    (1 + shift % step..=count).step_by(step).collect()
}

/// Waits until the remote has as many projects as there are environments, each with an owner.
async fn nothing_is_left(remote: &SimRemote, owned: usize, after: &str) {
    until(&format!("nothing to be left {after}"), LONG, async || {
        let all = projects(remote);
        let fine = all.len() == owned && all.iter().all(|(_, owner)| !owner.is_empty());
        Ok(if fine { Step::Done(()) } else { Step::NotYet(format!("{owned} are owned: {all:?}")) })
    })
    .await
    .expect("cleaned up");
}

/// Spoils calls of orders, wherever in the cluster they arrive.
async fn faults_at_calls(name: &str, shift: usize, fault: Fault) {
    let shop = shop().await;
    let remote = &shop.remotes[0];
    let calls = calls(&shop, shift).await;
    for (done, k) in calls.iter().enumerate() {
        remote.faults().on_call(*k, fault.clone());
        let order = shop.buy(1, 1).await.expect("paid");
        provisioned_once(&shop, text(&order, "invoice_id")).await;
        remote.faults().clear();
        nothing_is_left(remote, 3 + done, &format!("after {name} at call {k}")).await;
    }
    figure(&format!("simulated cluster of {MEMBERS}: {name}: {} calls spoiled, all delivered", calls.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error() {
    faults_at_calls("an error", 0, Fault::Error(500, "context deadline exceeded".into())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang() {
    faults_at_calls("a hang", 1, Fault::Hang).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer() {
    faults_at_calls("a lost answer", 2, Fault::DropAfter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_operation() {
    faults_at_calls("a failed operation", 3, Fault::FailOperation("no space left on device".into())).await;
}

/// Each member in turn dies while a call is under way, and comes back after the order was delivered.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_dies() {
    static SHIFT: AtomicUsize = AtomicUsize::new(0);
    let shop = shop().await;
    let remote = &shop.remotes[0];
    let (mut deaths, mut owned) = (0, 2);
    let calls = calls(&shop, 0).await;
    for member in remote.members() {
        for k in &calls {
            let k = k + SHIFT.fetch_add(1, Ordering::Relaxed) % 2;
            let at = remote.faults().calls().len() + k;
            remote.faults().on_call(k, Fault::Delay(std::time::Duration::from_millis(300)));
            let order = shop.buy(1, 1).await.expect("paid");
            let id = text(&order, "invoice_id");
            until("the call that the member dies in", LONG, async || {
                let count = remote.faults().calls().len();
                Ok(if count >= at { Step::Done(()) } else { Step::NotYet(format!("{count} of {at}")) })
            })
            .await
            .expect("there are so many");
            member.kill().await;
            // What it has left on that member goes when the member is back, and then the order is closed.
            let status = shop.follow(id, LONG, |_| ()).await.expect("it ends");
            assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
            remote.faults().clear();
            member.revive().await.expect("its address is free");
            provisioned_once(&shop, id).await;
            (deaths, owned) = (deaths + 1, owned + 1);
            let after = format!("after the death of {} at call {k}", member.name());
            nothing_is_left(remote, owned, &after).await;
        }
    }
    figure(&format!(
        "simulated cluster of {MEMBERS}: members x calls at which they die: {deaths} cells, all delivered"
    ));
}
