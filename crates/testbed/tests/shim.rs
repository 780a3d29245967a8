//! The plugin shim kills at the chosen call, on the chosen side, once.

mod common;

use std::path::PathBuf;
use std::time::Duration;

use cln_rpc::RpcError;
use serde_json::{Value, json};
use testbed::shim::{Shim, When};
use testbed::{Flavor, Host, HostConfig, PluginRun, Step, on_both_flavors, until};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The plugin in `examples/writer.rs`, which cargo builds unless only single tests are built.
fn writer() -> PathBuf {
    let exe = std::env::current_exe().expect("this test");
    let writer = exe.ancestors().nth(2).expect("target/debug").join("examples/writer");
    assert!(writer.is_file(), "{} is not there: cargo build -p testbed --examples", writer.display());
    writer
}

async fn write(host: &Host, key: &str, count: u64) -> Result<Value, RpcError> {
    host.node.call("testbed-write", json!({"key": key, "count": count})).await
}

async fn stored(host: &Host, key: &str) -> usize {
    let answer = host.node.call("listdatastore", json!({"key": [key]})).await.expect("a list");
    answer["datastore"].as_array().expect("a list").len()
}

fn seen(shim: &Shim) -> Vec<String> {
    shim.calls().expect("the list of calls").into_iter().map(|call| call.key).collect()
}

async fn kills_where_told(flavor: Flavor) {
    let Some(daemons) = testbed::daemons(flavor, "kills_where_told") else { return };
    let config = HostConfig::new(daemons).plugin(PluginRun::Shimmed, None).program(writer());
    let mut host = Host::start(config).await.expect("a host");
    let dir = host.workdir().path().to_owned();
    let shim = host.shim.clone().expect("it was asked for");

    write(&host, "a", 2).await.expect("no plan, no harm");
    assert_eq!(seen(&shim), ["a/0", "a/1"]);

    shim.arm(2, When::Before).expect("a plan");
    write(&host, "b", 3).await.expect_err("the plugin dies of it");
    shim.wait_fired(TIMEOUT).await.expect("it fired");
    host.wait_plugin_gone().await.expect("the node notices");
    assert_eq!(stored(&host, "b").await, 1, "the second write never reached the node");
    assert_eq!(seen(&shim), ["a/0", "a/1", "b/0", "b/1"]);

    host.start_plugin().await.expect("it starts again");
    write(&host, "c", 2).await.expect("a plan is carried out once");
    assert!(!shim.disarm().expect("nothing in the way"), "no plan is left");

    shim.arm(2, When::After).expect("a plan");
    write(&host, "d", 3).await.expect_err("the plugin dies of it");
    host.wait_plugin_gone().await.expect("the node notices");
    assert_eq!(stored(&host, "d").await, 2, "the second write was done, the third never asked for");

    host.start_plugin().await.expect("it starts again");
    shim.arm(1, When::Lost).expect("a plan");
    write(&host, "lost", 1).await.expect_err("it got no answer");
    assert_eq!(stored(&host, "lost").await, 1, "the write was done");
    write(&host, "more", 1).await.expect("the plugin lives");
    host.stop_plugin().await.expect("it stops");

    // Calls are counted across a restart of the node, and the plan stays.
    shim.arm(3, When::Before).expect("a plan");
    host.node.restart().await.expect("it starts again");
    write(&host, "e", 2).await.expect("the plan is for the third");
    write(&host, "f", 1).await.expect_err("which is this");
    host.wait_plugin_gone().await.expect("the node notices");
    assert_eq!((stored(&host, "e").await, stored(&host, "f").await), (2, 0));

    // If the node stops normally, the plugin exits, too.
    let writers =
        || common::processes_in(&dir).into_iter().filter(|line| line.contains("examples/writer")).count();
    host.start_plugin().await.expect("it starts again");
    assert_eq!(writers(), 1);
    host.stop_plugin().await.expect("it stops");
    until("the plugin behind the shim to end", TIMEOUT, async || {
        Ok(if writers() == 0 { Step::Done(()) } else { Step::NotYet("it runs".into()) })
    })
    .await
    .expect("it ends");
    host.start_plugin().await.expect("it starts again");
    assert_eq!(writers(), 1);

    drop(host);
    common::nothing_runs_in(&dir).await;
}

on_both_flavors!(kills_where_told);
