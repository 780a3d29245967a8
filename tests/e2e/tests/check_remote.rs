//! A remote is tried before anything is sold on it.

use std::process::Command;

use e2e::{QUICK, daemons, projects};
use serde_json::{Value, json};
use testbed::{Binary, Flavor, Remotes, Shop, ShopConfig};

async fn shop(remotes: Remotes, remote_settings: &str) -> Shop {
    let daemons = daemons(Flavor::Simulated, "check_remote").expect("part of this workspace");
    let (settings, remote_settings) = (QUICK.to_owned(), remote_settings.to_owned());
    let config = ShopConfig { remotes, settings, remote_settings, ..ShopConfig::new(daemons) };
    Shop::start(config).await.expect("a shop")
}

/// Checks the shop's remote by hand, with the plugin's own key; the exit status and what was printed.
async fn check(shop: &Shop, more: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(Binary::Plugin.path().expect("built"));
    let settings = shop.workdir().join("lnplaylive.toml");
    let state_dir = shop.host.node.dir().join("regtest/lnplaylive");
    command.arg("check-remote").arg("--config").arg(settings).arg("--state-dir").arg(state_dir);
    command.args(["--json", "sim-0"]).args(more);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.expect("it runs");
    let printed = serde_json::from_slice(&output.stdout);
    let printed = printed.unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), printed)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_member_makes_an_environment_that_is_dialled_and_removed() {
    let shop = shop(Remotes::SimulatedCluster(2), "").await;
    let (code, checked) = check(&shop, &[]).await;
    assert_eq!((code, &checked["ready"]), (Some(0), &json!(true)), "{checked}");
    let trials = checked["trials"].as_array().expect("a list");
    let members: Vec<_> = trials.iter().map(|trial| trial["member"].as_str().expect("a name")).collect();
    assert_eq!(members, ["m0", "m1"], "{checked}");
    assert!(trials.iter().all(|trial| trial["seconds"].as_f64() > Some(0.0)), "{checked}");
    assert_eq!(projects(&shop.remotes[0]), [], "nothing is left");

    // A member that its operator has closed is not tried, and is no fault.
    shop.remotes[0].member("m1").set_config("scheduler.instance", "manual");
    let (code, checked) = check(&shop, &[]).await;
    assert_eq!((code, checked["trials"].as_array().map(Vec::len)), (Some(0), Some(1)), "{checked}");
    assert_eq!(checked["members"][1]["reason"], "has scheduler.instance=manual");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_a_sentence() {
    let shop = shop(Remotes::Simulated(1), "").await;
    let remote = &shop.remotes[0];
    remote.faults().on_ssh(sim_lxd::SshFault::OtherHostKey);
    let (code, checked) = check(&shop, &[]).await;
    let error = checked["trials"][0]["error"].as_str().expect("an error");
    assert!(code == Some(1) && error.contains("its host key is not the one we made"), "{checked}");
    assert_eq!(projects(remote), [], "what was tried is removed");
    let (code, _) = check(&shop, &["--no-trial"]).await;
    assert_eq!(code, Some(0), "without a trial nothing can be seen of it");

    remote.set_image_architecture("lnplay", "aarch64");
    let (code, checked) = check(&shop, &[]).await;
    let reason = checked["members"][0]["reason"].as_str().expect("a reason");
    assert!(code == Some(1) && reason.contains("is for aarch64"), "{checked}");
    assert_eq!(checked["trials"], json!([]), "nothing is made where nothing can run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_of_another_architecture_than_the_image_sells_nothing_and_says_so() {
    let shop = shop(Remotes::Simulated(1), "").await;
    // What the plugin has seen of the image is good for a minute.
    shop.host.stop_plugin().await.expect("stopped");
    shop.remotes[0].set_image_architecture("lnplay", "aarch64");
    shop.host.start_plugin().await.expect("started");
    let node = &shop.host.node;
    let products = node.call("lnplaylive-products", json!({})).await.expect("a list");
    let products = products["products"].as_array().expect("a list");
    assert!(products.iter().all(|product| product["available"] == json!(false)), "{products:?}");
    node.call("lnplaylive-createorder", json!([1, 1])).await.expect_err("nothing is sold");
    let remotes = node.call("lnplayops-remotes", json!({})).await.expect("a list");
    let own = std::env::consts::ARCH;
    let said = format!("takes no environments: is {own}, and image \"lnplay\" is for aarch64");
    assert_eq!(remotes["remotes"][0]["warnings"], json!([said]), "{remotes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_with_a_fault_sells_nothing_and_says_so() {
    let shop = shop(Remotes::Simulated(1), "profiles = [\"gone\"]\n").await;
    let node = &shop.host.node;
    let products = node.call("lnplaylive-products", json!({})).await.expect("a list");
    let products = products["products"].as_array().expect("a list");
    assert!(products.iter().all(|product| product["available"] == json!(false)), "{products:?}");
    let error = node.call("lnplaylive-createorder", json!([1, 1])).await.expect_err("nothing is sold");
    assert_eq!(error.code, Some(7007), "{error}");
    let remotes = node.call("lnplayops-remotes", json!({})).await.expect("a list");
    let said = remotes["remotes"][0]["error"].as_str().expect("an error");
    assert!(said.contains("there is no profile \"gone\""), "{said}");
}
