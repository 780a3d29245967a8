//! Two shops on one remote: each sells what is left, serves its own environments, and publishes no routes to the other's.

use std::path::Path;

use e2e::{LONG, QUICK, daemons, dial, projects, strings, text};
use lnplaylive_core::RouteTable;
use serde_json::{Value, json};
use testbed::{Daemons, Flavor, Remotes, Shop, ShopConfig, Step, Workdir, on_both_flavors, until};

on_both_flavors!(each_serves_its_own);

async fn shop(daemons: &Daemons, routes: &Path, remotes: Remotes) -> Shop {
    let settings = format!("{QUICK}survey_secs = 1\n[shop]\nroutes_file = \"{}\"\n", routes.display());
    let config = ShopConfig { remotes, settings, ..ShopConfig::new(daemons.clone()) };
    Shop::start(config).await.expect("a shop")
}

/// Buys an environment that works.
async fn buy(shop: &Shop) -> Value {
    let order = shop.buy(1, 1).await.expect("paid");
    let status = shop.follow(text(&order, "invoice_id"), LONG, |_| ()).await.expect("it ends");
    assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
    dial(&strings(&status)).await;
    status
}

/// The environments in a route table, once `shop` has polled its remote twice more, and so has published what the first of
/// these polls told.
async fn routes(shop: &Shop, remote: &sim_lxd::SimRemote, file: &Path) -> Vec<String> {
    let polls = || remote.faults().calls().iter().filter(|c| c.path == "/1.0/projects").count();
    let before = polls();
    until("more polls", LONG, async || {
        // Those of both shops are counted.
        Ok(if polls() >= before + 6 { Step::Done(()) } else { Step::NotYet(polls().to_string()) })
    })
    .await
    .expect("it polls");
    let remotes = shop.host.node.call("lnplayops-remotes", json!({})).await.expect("an answer");
    assert_eq!(remotes["remotes"][0]["environments"], 2, "all of them take room: {remotes}");
    RouteTable::read(file).expect("a table").iter().map(|(project, _)| project.to_string()).collect()
}

async fn each_serves_its_own(flavor: Flavor) {
    let Some(daemons) = daemons(flavor, "each_serves_its_own") else { return };
    let dir = Workdir::new("shared").expect("a directory");
    let files = ["first", "second"].map(|name| dir.join(name));
    let first = shop(&daemons, &files[0], Remotes::Simulated(1)).await;
    let remote = &first.remotes[0];
    let token_file = dir.join("token");
    std::fs::write(&token_file, remote.token("second")).expect("written");
    let second = shop(&daemons, &files[1], Remotes::Existing { url: remote.url(), token_file }).await;

    // At the same moment, so that both may choose the same ports.
    let bought = tokio::join!(buy(&first), buy(&second));
    let sold = [text(&bought.0, "invoice_id"), text(&bought.1, "invoice_id")];
    let projects = projects(remote);
    assert_eq!(projects.len(), 2, "{projects:?}");
    for (id, (shop, file)) in sold.into_iter().zip([(&first, &files[0]), (&second, &files[1])]) {
        let own: Vec<_> =
            projects.iter().filter(|(_, owner)| owner == id).map(|(name, _)| name.clone()).collect();
        assert_eq!(routes(shop, remote, file).await, own, "and none of the other shop's");
    }
}
