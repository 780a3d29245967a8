//! After the hand-over: an environment in which a node has died is shown as degraded, and the operator has it replaced.

use e2e::{
    LONG, QUICK, ask, closed, daemons, dial, projects, provisioned_once, refusal, strings, text, try_dial,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use testbed::{Flavor, Shop, ShopConfig, Step, on_both_flavors};

on_both_flavors!(
    a_dead_node_is_shown_and_its_environment_replaced,
    an_environment_that_is_out_of_reach_is_degraded,
);

const CONTACT: &str = "help@shop.example";

async fn shop(flavor: Flavor, test: &str) -> Option<Shop> {
    let daemons = daemons(flavor, test)?;
    let settings = format!(
        "{QUICK}survey_secs = 1\nprobes_per_min = 240\n[shop]\ncontact = \"{CONTACT}\"\n\
         [[products]]\nsku = \"U\"\nnode_count = 2\nmsat_per_node_hour = 1000\n"
    );
    Some(Shop::start(ShopConfig { settings, ..ShopConfig::new(daemons) }).await.expect("a shop"))
}

/// Waits until the buyer is told that the environment has this condition.
async fn told(shop: &Shop, id: &str, condition: &str) -> Value {
    let mut revision = json!(0);
    let mut last = Value::Null;
    testbed::until(&format!("health {condition}"), LONG, async || {
        let status = ask(shop, "lnplaylive-waitstatus", json!([id, revision, 5])).await;
        revision = status["revision"].clone();
        let is_so = status["deployment_details"]["health"]["state"] == condition;
        last = status;
        Ok(if is_so { Step::Done(()) } else { Step::NotYet(last.to_string()) })
    })
    .await
    .expect("the buyer is told");
    last
}

fn ends(status: &Value) -> Timestamp {
    text(&status["deployment_details"], "vm_expiration_date").parse().expect("a time")
}

async fn degraded(shop: &Shop) -> Vec<String> {
    let listed = ask(shop, "lnplayops-orders", json!({"health": "degraded"})).await;
    let listed = listed["orders"].as_array().expect("a list");
    listed.iter().map(|order| text(order, "invoice_id").to_owned()).collect()
}

/// The project of an order.
fn project(shop: &Shop, id: &str) -> String {
    let all = projects(&shop.remotes[0]);
    let mut own = all.into_iter().filter(|(_, owner)| owner == id).map(|(name, _)| name);
    let (first, others) = (own.next().expect("a project"), own.next());
    assert_eq!(others, None, "one project");
    first
}

async fn a_dead_node_is_shown_and_its_environment_replaced(flavor: Flavor) {
    let test = "a_dead_node_is_shown_and_its_environment_replaced";
    let Some(shop) = shop(flavor, test).await else { return };
    let well = shop.buy(1, 1).await.expect("paid");
    provisioned_once(&shop, text(&well, "invoice_id")).await;
    let order = shop.buy(2, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    provisioned_once(&shop, id).await;
    let before = told(&shop, id, "ok").await;
    let (old, old_strings) = (project(&shop, id), strings(&before));
    assert_eq!(degraded(&shop).await, Vec::<String>::new());

    let instance = shop.remotes[0].instance_dir(&old).expect("an instance");
    testbed::ruin_node(&instance, 1).expect("a node to kill");
    let status = told(&shop, id, "degraded").await;
    let health = &status["deployment_details"]["health"];
    let down = health["nodes_down"].as_array().expect("a list");
    assert_eq!((down.len(), &down[0]["index"]), (1, &json!(1)), "{health}");
    assert_eq!(down[0]["name"], json!(old_strings[1].name), "as its connection string calls it");
    assert_eq!(status["deployment_details"]["status"], "provisioned");
    try_dial(&old_strings[0]).await.expect("the other one runs on");
    assert_eq!(degraded(&shop).await, [id]);
    let (code, message) = refusal(&shop, "lnplayops-orders", json!({"health": "poorly"})).await;
    assert_eq!((code, message.as_str()), (-32602, "health must be one of ok, degraded, unknown"));
    let shown = ask(&shop, "lnplayops-order", json!([id])).await;
    let health = &shown["health"];
    assert_eq!(
        (&health["state"], &health["nodes_down"][0]["index"]),
        (&json!("degraded"), &json!(1)),
        "{shown}"
    );
    assert!(health["probed_at"].is_string() && text(health, "what").contains("1 of 2 nodes"), "{health}");
    let log = shop.host.node.log().expect("a log");
    let tells = log.lines().filter(|line| line.contains("DEGRADED") && line.contains(&old)).count();
    assert_eq!(tells, 1, "told once");

    let (code, message) = refusal(&shop, "lnplayops-replace", json!([id, "perhaps"])).await;
    assert_eq!((code, message.as_str()), (-32602, "remove_first must be true or false"));
    let answer = ask(&shop, "lnplayops-replace", json!([id])).await;
    assert_eq!(
        (&answer["state"], &answer["replaces"]["project"]),
        (&json!("queued"), &json!(old)),
        "{answer}"
    );
    let meanwhile = shop.status(id).await.expect("a status");
    let details = &meanwhile["deployment_details"];
    if details["status"] != "provisioned" {
        let kept = details["replacing"]["connection_strings"].as_array().expect("a list");
        assert_eq!(kept.len(), 2, "its links stay in sight: {details}");
    }
    let after = provisioned_once(&shop, id).await;
    assert!(after["deployment_details"]["replaced_at"].is_string(), "{after}");
    assert!(ends(&after) >= ends(&before), "it ends no earlier");
    let new_strings = strings(&after);
    assert_ne!(new_strings, old_strings);
    dial(&new_strings).await;
    assert_ne!(project(&shop, id), old);
    try_dial(&old_strings[0]).await.expect_err("the old one is gone");
    told(&shop, id, "ok").await;
    assert_eq!(degraded(&shop).await, Vec::<String>::new());

    ask(&shop, "lnplayops-refunded", json!([id])).await;
    let (code, message) = refusal(&shop, "lnplayops-replace", json!([id])).await;
    assert!(code == 7005 && message.contains("paid back"), "{message}");
    let refunded = shop.status(id).await.expect("a status");
    assert!(refunded["deployment_details"]["refunded_at"].is_string(), "{refunded}");
}

async fn an_environment_that_is_out_of_reach_is_degraded(flavor: Flavor) {
    let Some(shop) = shop(flavor, "an_environment_that_is_out_of_reach_is_degraded").await else { return };
    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    let before = provisioned_once(&shop, id).await;
    told(&shop, id, "ok").await;
    shop.remotes[0].faults().on_ssh(sim_lxd::SshFault::Closed);
    let status = told(&shop, id, "degraded").await;
    assert_eq!(status["deployment_details"]["health"]["nodes_down"], json!([]), "nobody knows which");
    let shown = ask(&shop, "lnplayops-order", json!([id])).await;
    assert!(shown["health"]["last_error"]["error"].as_str().is_some_and(|e| e.contains("SSH to")), "{shown}");
    shop.remotes[0].faults().clear();
    told(&shop, id, "ok").await;
    // On a full server the old one goes first.
    ask(&shop, "lnplayops-replace", json!({"invoice_id": id, "remove_first": true})).await;
    let after = provisioned_once(&shop, id).await;
    assert_ne!(strings(&after), strings(&before));
    dial(&strings(&after)).await;
    closed(&shop, id).await;
}
