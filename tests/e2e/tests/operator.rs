//! The operator's view of orders, and actions on them.

use std::process::Command;
use std::time::Duration;

use e2e::{
    LONG, QUICK, ask, closed, daemons, follow_and_dial, projects, provisioned_once, refusal, strings, text,
};
use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::{ProjectName, RouteTable};
use serde_json::{Value, json};
use sim_lxd::{Fault, SshFault};
use testbed::{Binary, Flavor, Shop, ShopConfig, Step, on_both_flavors};

on_both_flavors!(an_environment_is_extended, orders_are_cancelled, what_is_paid_back_is_recorded);

const CONTACT: &str = "help@shop.example";

async fn shop(flavor: Flavor, test: &str) -> Option<Shop> {
    let daemons = daemons(flavor, test)?;
    let settings = format!("{QUICK}survey_secs = 1\n[shop]\ncontact = \"{CONTACT}\"\n");
    Some(Shop::start(ShopConfig { settings, ..ShopConfig::new(daemons) }).await.expect("a shop"))
}

/// The next status after this one, well before a page would ask again by itself.
async fn news(shop: &Shop, last: &Value) -> Value {
    let params = json!([text(last, "invoice_id"), last["revision"], 60]);
    let wait = ask(shop, "lnplaylive-waitstatus", params);
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("whoever waits is told")
}

fn ends(status: &Value) -> Timestamp {
    text(&status["deployment_details"], "vm_expiration_date").parse().expect("a time")
}

/// The end that stands in the key of the one project on the remote.
fn key(shop: &Shop) -> i64 {
    let projects = shop.remotes[0].projects();
    let keys: Vec<_> = projects.iter().filter_map(|p| p.config.get("user.lnplaylive.expires")).collect();
    let [key] = keys[..] else { panic!("one project: {keys:?}") };
    key.parse().expect("seconds")
}

async fn an_environment_is_extended(flavor: Flavor) {
    let Some(shop) = shop(flavor, "an_environment_is_extended").await else { return };
    let unpaid = shop.order(1, 1).await.expect("an order");
    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    let before = provisioned_once(&shop, id).await;
    assert_eq!(key(&shop), ends(&before).as_second());

    let hours = "hours must be a whole number from 1 to 8760";
    for wrong in
        [json!(0), json!(-1), json!(1_000_000), json!("x"), json!(1.5), json!("99999999999999999999")]
    {
        let refused = refusal(&shop, "lnplayops-extend", json!([id, wrong])).await;
        assert_eq!(refused, (-32602, hours.to_owned()));
    }
    let unpaid = text(&unpaid, "invoice_id");
    let refused = refusal(&shop, "lnplayops-extend", json!([unpaid, 1])).await;
    assert_eq!(refused, (7005, "cannot extend an order that is created".into()));
    let nobody = "lnplaylive-00000000-0000-4000-8000-000000000000";
    assert_eq!(refusal(&shop, "lnplayops-extend", json!([nobody, 1])).await.0, 7000);
    assert_eq!(key(&shop), ends(&before).as_second(), "nothing has changed");

    let answer = ask(&shop, "lnplayops-extend", json!([id, "2"])).await;
    let later = ends(&before).checked_add(SignedDuration::from_hours(2)).expect("in range");
    assert_eq!(text(&answer, "expires_at"), later.to_string());
    assert_eq!(key(&shop), later.as_second());
    let after = shop.status(id).await.expect("a status");
    assert_eq!(ends(&after), later);
    assert_ne!(after["revision"], before["revision"], "who waits for news gets them");
    assert_eq!(strings(&after), strings(&before));
    let whole = ask(&shop, "lnplayops-order", json!([id])).await;
    let history: Vec<_> =
        whole["history"].as_array().expect("a list").iter().map(|h| text(h, "what")).collect();
    assert_eq!(history[0], "paid");
    assert!(history.iter().any(|what| what.starts_with("placed on sim-0 in lnplaylive-")), "{history:?}");
    assert_eq!(history.last(), Some(&format!("extended, until {later}").as_str()));
    assert!(!whole.to_string().contains("rune"), "the buyer's runes are not shown: {whole}");

    // The remote first: what it does not take is not promised.
    shop.remotes[0].faults().on("PUT", "/1.0/projects/*", 1, Fault::Error(500, "database is locked".into()));
    let (code, message) = refusal(&shop, "lnplayops-extend", json!([id, 1])).await;
    assert!(code == 7008 && message.contains("sim-0") && message.contains("database is locked"), "{message}");
    assert_eq!(ends(&shop.status(id).await.expect("a status")), later);
}

async fn orders_are_cancelled(flavor: Flavor) {
    let Some(shop) = shop(flavor, "orders_are_cancelled").await else { return };
    let remote = &shop.remotes[0];

    // Not paid: nothing is left of it, and nobody can pay it any more.
    let order = shop.order(1, 1).await.expect("an order");
    let id = text(&order, "invoice_id");
    let answer = ask(&shop, "lnplayops-cancel", json!([id])).await;
    assert_eq!(answer, json!({"invoice_id": id, "state": "removed"}));
    assert_eq!(refusal(&shop, "lnplayops-order", json!([id])).await.0, 7000);
    shop.host.customer.pay(text(&order, "bolt11_invoice")).await.expect_err("it is gone");

    // Paid and waiting.
    let provisioned = shop.buy(1, 1).await.expect("paid");
    provisioned_once(&shop, text(&provisioned, "invoice_id")).await;
    remote.faults().on("POST", "/1.0/projects", 1000, Fault::DropBefore);
    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    testbed::until("a try", LONG, async || {
        let shown = ask(&shop, "lnplayops-order", json!([id])).await;
        let tried = shown["history"].as_array().is_some_and(|all| all.len() > 1);
        Ok(if tried { Step::Done(()) } else { Step::NotYet(shown.to_string()) })
    })
    .await
    .expect("it is tried");
    let answer = ask(&shop, "lnplayops-cancel", json!([id])).await;
    assert_eq!(
        (&answer["state"], &answer["to_pay_back_msat"]),
        (&json!("cancelled"), &json!(1000)),
        "{answer}"
    );
    remote.faults().clear();
    let status = shop.follow(id, LONG, |_| ()).await.expect("it ends");
    let details = &status["deployment_details"];
    assert_eq!((&details["status"], &details["contact"]), (&json!("failed"), &json!(CONTACT)), "{status}");
    let message = text(details, "message");
    assert!(message.contains("cancelled") && message.contains(CONTACT), "{message}");
    closed(&shop, id).await;
    let owners: Vec<_> = projects(remote).into_iter().map(|(_, owner)| owner).collect();
    assert_eq!(owners, [text(&provisioned, "invoice_id")], "nothing is left of the other one");

    // What is over is over; what was handed over is the buyer's.
    for (id, state) in [(id, "cancelled"), (text(&provisioned, "invoice_id"), "provisioned")] {
        let refused = refusal(&shop, "lnplayops-cancel", json!([id])).await;
        assert_eq!(refused, (7005, format!("cannot cancel an order that is {state}")));
    }
    assert_eq!(refusal(&shop, "lnplayops-cancel", json!(["x"])).await.0, 7000);

    // By state and age.
    let listed = async |params: Value| {
        let answer = ask(&shop, "lnplayops-orders", params).await;
        let ids =
            answer["orders"].as_array().expect("a list").iter().map(|o| text(o, "invoice_id").to_owned());
        (ids.collect::<Vec<_>>(), answer["left_out"].clone())
    };
    let both = vec![text(&provisioned, "invoice_id").to_owned(), id.to_owned()];
    for (params, expected, left_out) in [
        (json!({}), vec![], 0),
        (json!({"which": "all"}), both.clone(), 0),
        (json!(["closed"]), both.clone(), 0),
        (json!({"state": "cancelled"}), both[1..].to_vec(), 0),
        (json!({"state": "provisioned"}), both[..1].to_vec(), 0),
        (json!({"state": "failed"}), vec![], 0),
        (json!({"newer_than": 1}), both.clone(), 0),
        (json!({"older_than": 1}), vec![], 0),
        (json!({"older_than": 0, "newer_than": "99999999999999"}), both.clone(), 0),
        (json!({"which": "all", "limit": 1}), both[1..].to_vec(), 1),
    ] {
        assert_eq!(listed(params.clone()).await, (expected, json!(left_out)), "{params}");
    }
    let (_, message) = refusal(&shop, "lnplayops-orders", json!({"state": "lost"})).await;
    assert!(message.starts_with("state must be one of created, queued, "), "{message}");
    let (_, message) = refusal(&shop, "lnplayops-orders", json!({"older_than": -1})).await;
    assert_eq!(message, "older_than must be a whole number, 0 or more");

    // The operator has thought again.
    let status = shop.status(id).await.expect("a status");
    let (told, _) = tokio::join!(news(&shop, &status), ask(&shop, "lnplayops-retry", json!([id])));
    assert_ne!(told["deployment_details"]["status"], "failed", "{told}");
    follow_and_dial(&shop, &[order]).await;
}

async fn what_is_paid_back_is_recorded(flavor: Flavor) {
    let Some(shop) = shop(flavor, "what_is_paid_back_is_recorded").await else { return };
    let faults = shop.remotes[0].faults();
    faults.on("PUT", "/1.0/instances/*/state", 1000, e2e::ports_taken());
    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    let refused = refusal(&shop, "lnplayops-refunded", json!([id])).await;
    assert_eq!(refused.0, 7005, "it may still be delivered: {}", refused.1);
    shop.follow(id, LONG, |_| ()).await.expect("it ends");
    closed(&shop, id).await;
    let failed = shop.status(id).await.expect("a status");
    assert_eq!(failed["deployment_details"]["refunded_at"], Value::Null);
    let owed = ask(&shop, "lnplayops-orders", json!({"state": "failed"})).await;
    assert_eq!(owed["orders"][0]["to_pay_back_msat"], 1000, "{owed}");

    let long = "x".repeat(1001);
    for wrong in [json!(long), json!("two\nlines"), json!(1)] {
        assert_eq!(refusal(&shop, "lnplayops-refunded", json!([id, wrong])).await.0, -32602);
    }
    // Whoever waits is told at once, though the order was over.
    let (told, shown) =
        tokio::join!(news(&shop, &failed), ask(&shop, "lnplayops-refunded", json!([id, "preimage 8f3a"])),);
    assert_eq!(told["deployment_details"]["refunded_at"], shown["refunded_at"], "{told}");
    assert_eq!((&shown["state"], &shown["to_pay_back_msat"]), (&json!("refunded"), &Value::Null), "{shown}");
    let at: Timestamp = text(&shown, "refunded_at").parse().expect("a time");
    let last = shown["history"].as_array().and_then(|all| all.last()).expect("an entry");
    assert_eq!(text(last, "what"), "paid back: preimage 8f3a");
    for method in ["lnplayops-refunded", "lnplayops-retry", "lnplayops-cancel"] {
        let (code, message) = refusal(&shop, method, json!([id])).await;
        assert!(code == 7005 && message.contains("refunded"), "{method}: {message}");
    }
    assert_eq!(ask(&shop, "lnplayops-orders", json!({"state": "failed"})).await["orders"], json!([]));

    // The buyer is told, and of the operator's note nothing.
    let status = shop.status(id).await.expect("a status");
    assert_ne!(status["revision"], failed["revision"], "who waits for news gets them");
    let details = &status["deployment_details"];
    assert_eq!(text(details, "refunded_at"), at.to_string());
    let day = at.strftime("%-d %B %Y").to_string();
    assert!(text(details, "message").contains(&format!("paid back on {day}")), "{details}");
    assert!(!status.to_string().contains("preimage"), "{status}");
    // Nor forgotten.
    shop.host.stop_plugin().await.expect("stopped");
    shop.host.start_plugin().await.expect("started");
    assert_eq!(ask(&shop, "lnplayops-order", json!([id])).await["refunded_at"], json!(at));
}

/// Whatever is under way is broken off.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_can_be_cancelled_while_its_instance_boots() {
    let shop = shop(Flavor::Simulated, "while_its_instance_boots").await.expect("part of this workspace");
    let remote = &shop.remotes[0];
    remote.faults().on_ssh(SshFault::Silent);
    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    testbed::until("the instance to run", LONG, async || {
        let shown = ask(&shop, "lnplayops-order", json!([id])).await;
        Ok(if shown["state"] == "deploying" { Step::Done(()) } else { Step::NotYet(shown.to_string()) })
    })
    .await
    .expect("it does");
    assert_eq!(ask(&shop, "lnplayops-cancel", json!([id])).await["state"], "cancelled");
    // Long before SSH would be given up.
    testbed::until("nothing to be left", Duration::from_secs(60), async || {
        let left = projects(remote);
        Ok(if left.is_empty() { Step::Done(()) } else { Step::NotYet(format!("{left:?}")) })
    })
    .await
    .expect("it is taken down");
    let shown = ask(&shop, "lnplayops-order", json!([id])).await;
    assert_eq!(shown["to_pay_back_msat"], 1000);
}

/// The gateway's route table heals itself, from the remotes alone.
#[tokio::test(flavor = "multi_thread")]
async fn routes_lead_to_what_was_handed_over() {
    let daemons = daemons(Flavor::Simulated, "routes").expect("part of this workspace");
    let dir = testbed::Workdir::new("routes").expect("a directory");
    let file = dir.join("routes.json");
    let settings = format!("{QUICK}survey_secs = 1\n[shop]\nroutes_file = \"{}\"\n", file.display());
    let shop = Shop::start(ShopConfig { settings, ..ShopConfig::new(daemons) }).await.expect("a shop");
    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    let status = shop.follow(id, LONG, |_| ()).await.expect("it ends");
    // It is there as soon as the buyer has the strings.
    let table = RouteTable::read(&file).expect("a table");
    let project: ProjectName = projects(&shop.remotes[0])[0].0.parse().expect("a name of ours");
    let node = |table: &RouteTable| {
        table.lookup(&project.environment(), "0", Timestamp::now()).map(ToString::to_string)
    };
    let string = &strings(&status)[0];
    assert_eq!(node(&table).as_ref(), Ok(&string.endpoint.to_string()));
    let (_, route) = table.iter().next().expect("one");
    assert_eq!(route.expires_at(), ends(&status));

    // Lost, and the remote says nothing: it stays lost, and comes back with the remote.
    provisioned_once(&shop, id).await;
    shop.host.stop_plugin().await.expect("stopped");
    let kept = std::fs::read(&file).expect("readable");
    std::fs::remove_file(&file).expect("removed");
    shop.host.start_plugin().await.expect("started");
    let healed = testbed::until("the table to be back", LONG, async || {
        let found = RouteTable::read(&file);
        Ok(found.map_or_else(|e| Step::NotYet(e.to_string()), Step::Done))
    });
    assert_eq!(healed.await.expect("it comes back"), table);

    // Not lost, and the remote says nothing: it stays.
    shop.host.stop_plugin().await.expect("stopped");
    assert_eq!(std::fs::read(&file).expect("readable"), kept);
    let faults = shop.remotes[0].faults();
    faults.on("*", "/1.0/projects", 1000, Fault::DropBefore);
    let before = faults.calls().len();
    shop.host.start_plugin().await.expect("started");
    testbed::until("two surveys", LONG, async || {
        let asked = faults.calls()[before..].iter().filter(|c| c.path == "/1.0/projects").count();
        Ok(if asked > 2 { Step::Done(()) } else { Step::NotYet(asked.to_string()) })
    })
    .await
    .expect("it is asked");
    assert_eq!(RouteTable::read(&file).expect("a table"), table);
    faults.clear();

    // Extended: the route lives longer.
    ask(&shop, "lnplayops-extend", json!([id, 1])).await;
    testbed::until("the route to live longer", LONG, async || {
        let now = RouteTable::read(&file).expect("a table");
        let longer = now.iter().all(|(_, route)| route.expires_at() > ends(&status));
        Ok(if longer { Step::Done(()) } else { Step::NotYet(now.to_string()) })
    })
    .await
    .expect("it does");
}

#[test]
fn settings_are_checked_where_their_files_are_not() {
    let dir = testbed::Workdir::new("check").expect("a directory");
    let check = |text: &str| {
        let file = dir.join("lnplaylive.toml");
        std::fs::write(&file, text).expect("written");
        let plugin = Binary::Plugin.path().expect("built");
        let output = Command::new(plugin).arg("check-config").arg(file).output().expect("it runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let remote = "[[remotes]]\nname = \"a\"\nurl = \"https://x\"\ntoken_file = \"/nonexistent/token\"\n";
    assert_eq!(
        check(&format!("{remote}[frontend]\nlisten = 1\n[culler]\nx = 1\n")),
        (Some(0), String::new())
    );
    for (text, key) in [
        ("colour = 1", "colour"),
        ("[shop]\ncontact = \"\"", "shop.contact"),
        ("[shop]\ncontact = \"a\\nb\"", "shop.contact"),
        ("[provisioning]\nsurvey_secs = 0", "provisioning.survey_secs"),
        ("[[remotes]]\nname = \"a\"\nurl = \"http://x\"", "remotes[0].url"),
    ] {
        let (code, message) = check(text);
        assert_eq!(code, Some(2), "{text}: {message}");
        assert!(message.starts_with("settings: ") && message.contains(key), "{text}: {message}");
    }
    let plugin = Binary::Plugin.path().expect("built");
    let output =
        Command::new(plugin).args(["check-config", "/nonexistent/x.toml"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/x.toml"));
}
