//! Passes over simulated remotes: what they remove, what they cost, and what may go wrong on the way.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use lnplaylive_core::tags::{KEY_EXPIRES, KEY_REMOVING, KEY_SHOP};
use lxd_client::Client;
use serde_json::Value;
use sim_lxd::Fault;
use support::cut::kill_at_every_call;
use support::thirty::end_as_the_rule_says;
use support::{Culler, HOUR, Project, Sim, finish, now, operator, start};
use testbed::{Step, until};

/// Impatient, so that what hangs soon ends.
const QUICK: &str = "[culler]\noperation_timeout_secs = 1\ncall_timeout_secs = 1";

/// Waits until the remote was asked this since `before`.
async fn asked(sim: &Sim, before: usize, call: &str) {
    until(call, support::LONG, async || {
        let calls = sim.calls_since(before);
        Ok(if calls.iter().any(|c| c == call) { Step::Done(()) } else { Step::NotYet(calls.join(", ")) })
    })
    .await
    .expect("it is asked");
}

/// As the operator extends it.
async fn extend(client: &Client, name: &str) {
    let mut project = client.project(name).await.expect("there");
    project.config.insert(KEY_EXPIRES.into(), now(HOUR).to_string());
    client.update_project(&project).await.expect("extended");
}

#[tokio::test]
async fn thirty_projects_end_as_the_rule_says() {
    let sim = Sim::start().await;
    let culler = Culler::of(&sim, "").await;
    end_as_the_rule_says(&sim.client, &culler, false).await;
}

#[tokio::test]
async fn two_thousand_live_projects_cost_five_calls_at_most() {
    let sim = Sim::start().await;
    let culler = Culler::of(&sim, "").await;
    for _ in 0..2000 {
        let Project { name, config } = Project::ending(HOUR);
        sim.remote.add_project(&name, config);
    }
    let before = sim.calls();
    let ran = culler.run(&["--json"]).await.expect_status(0);
    assert_eq!(ran.counts(), [2001, 2000, 0, 0, 1, 0]);
    assert!(sim.calls() - before <= 5, "{:?}", sim.calls_since(before));
    // One more is due: what it costs does not grow with the others.
    let due = Project::ending(-HOUR);
    due.make_running(&sim.client).await;
    let before = sim.calls();
    assert_eq!(culler.run(&["--json"]).await.expect_status(0).counts()[2], 1);
    let calls = sim.calls_since(before);
    println!("a pass over 2,000 live projects, and one that is due: {calls:?}");
    assert!(calls.len() <= 5 + 7, "{calls:?}");
}

#[tokio::test]
async fn what_was_prepared_and_nobody_has_taken_over_goes_at_its_end() {
    let sim = Sim::start().await;
    let culler = Culler::of(&sim, "").await;
    let (over, lives) = (Project::prepared(-HOUR), Project::prepared(HOUR));
    for project in [&over, &lives] {
        project.make_running(&sim.client).await;
    }
    assert_eq!(culler.run(&["--json"]).await.expect_status(0).counts(), [3, 1, 1, 0, 1, 0]);
    sim.client.project(&lives.name).await.expect("it is kept");
    sim.client.project(&over.name).await.expect_err("it is gone");
}

#[tokio::test]
async fn a_whole_pass_leaves_metrics() {
    let sim = Sim::start().await;
    let culler = Culler::of(&sim, QUICK).await;
    let file = culler.path().join("culler.prom");
    let run = async |args: &[&str]| {
        let mut command = culler.command();
        finish(command.env("LNPLAYLIVE_CULLER__METRICS_FILE", &file).args(args)).await
    };
    let metric = |name: &str| {
        let text = std::fs::read_to_string(&file).expect("written");
        let name = format!("lnplaylive_culler_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap_or_else(|| panic!("no {name}in {text}")).to_owned()
    };
    Project::ending(-HOUR).make(&sim.client).await;
    for partial in [["--dry-run"].as_slice(), &["--remote", "sim", "--dry-run"]] {
        run(partial).await.expect_status(0);
        assert!(!file.exists(), "{partial:?} is no pass");
    }
    Project::ending(HOUR).make(&sim.client).await;
    let before = jiff::Timestamp::now().as_second();
    run(&[]).await.expect_status(0);
    let ended: i64 = metric("last_pass_timestamp_seconds").parse().expect("a number");
    assert!((before..=jiff::Timestamp::now().as_second()).contains(&ended), "{ended}");
    assert!(metric("last_pass_duration_seconds").parse::<f64>().is_ok_and(|took| took > 0.0));
    for (outcome, count) in [("removed", "1"), ("kept", "1"), ("failed", "0"), ("foreign", "1")] {
        assert_eq!(metric(&format!("projects{{remote=\"sim\",outcome=\"{outcome}\"}}")), count, "{outcome}");
    }
    assert_eq!(metric("remote_failed{remote=\"sim\"}"), "0");

    sim.remote.faults().on("GET", "/1.0/projects", 100, Fault::DropBefore);
    run(&["--remote", "sim"]).await.expect_status(1);
    assert_eq!(metric("remote_failed{remote=\"sim\"}"), "0", "still the whole pass's");
    run(&[]).await.expect_status(1);
    assert_eq!(metric("remote_failed{remote=\"sim\"}"), "1");
    sim.remote.faults().clear();

    // What was due is gone, whatever becomes of the metrics.
    Project::ending(-HOUR).make(&sim.client).await;
    let mut command = culler.command();
    command.env("LNPLAYLIVE_CULLER__METRICS_FILE", "/nonexistent/culler.prom");
    let ran = finish(&mut command).await.expect_status(0);
    assert!(
        ran.stderr.contains("cannot write /nonexistent/culler.prom (culler.metrics_file)"),
        "{}",
        ran.stderr
    );
    assert_eq!(sim.names().len(), 1);
}

#[tokio::test]
async fn lines_say_what_was_removed_and_the_log_what_is_odd() {
    let sim = Sim::start().await;
    let culler = Culler::of(&sim, "").await;
    let due = Project::ending(-HOUR);
    due.make(&sim.client).await;
    let odd = Project::ending(-HOUR).named("lnplaylive-\u{1b}[31m\nred");
    sim.remote.add_project(&odd.name, odd.config);
    let dry = culler.run(&["--dry-run"]).await.expect_status(0);
    assert!(
        dry.stdout.starts_with(&format!("sim: would remove {}: it ended at 20", due.name)),
        "{}",
        dry.stdout
    );
    let ran = culler.run(&[]).await.expect_status(0);
    assert!(ran.stdout.starts_with(&format!("sim: removed {}: it ended at 20", due.name)), "{}", ran.stdout);
    let counts = "projects: 3 seen, 0 kept, 1 removed, 0 failed, 1 foreign, 1 malformed\n";
    assert!(ran.stdout.ends_with(counts), "{}", ran.stdout);
    assert!(ran.stderr.contains(r#"project "lnplaylive-\u{1b}[31m\nred" looks like ours"#), "{}", ran.stderr);
}

#[tokio::test]
async fn the_grace_comes_from_the_settings_and_the_command_line() {
    let sim = Sim::start().await;
    let culler = Culler::of(&sim, "[culler]\ngrace_mins = 90").await;
    Project::ending(-HOUR).make(&sim.client).await;
    for (args, removed) in [
        (&["--json", "--dry-run"][..], 0),
        (&["--json", "--dry-run", "--grace", "61m"], 0),
        (&["--json", "--dry-run", "--grace", "59m"], 1),
        (&["--json", "--dry-run", "--grace", "0s"], 1),
        (&["--json", "--dry-run", "--grace", "99999999h"], 0),
    ] {
        assert_eq!(culler.run(args).await.expect_status(0).counts()[2], removed, "{args:?}");
    }
    let mut command = culler.command();
    command.args(["--json", "--dry-run"]).env("LNPLAYLIVE_CULLER__GRACE_MINS", "5");
    assert_eq!(support::finish(&mut command).await.expect_status(0).counts()[2], 1);
}

#[tokio::test]
async fn what_was_extended_meanwhile_lives() {
    let sim = Sim::start().await;
    let culler = Culler::of(&sim, "").await;
    // Extended between the list and the look right before; between that look and the mark.
    for method in ["GET", "PUT"] {
        let project = Project::ending(-HOUR);
        project.make_running(&sim.client).await;
        let path = format!("/1.0/projects/{}", project.name);
        let before = sim.calls();
        sim.remote.faults().on(method, &path, 1, Fault::Delay(Duration::from_secs(2)));
        let run = tokio::spawn({
            let mut command = culler.command();
            async move { support::finish(command.arg("--json")).await }
        });
        asked(&sim, before, &format!("{method} {path}")).await;
        // As a second remote call would: the fault was for the culler's.
        extend(&sim.client, &project.name).await;
        let ran = run.await.expect("no panic").expect_status(0);
        assert_eq!(ran.counts()[2..4], [0, 0], "{method}: {}", ran.stdout);
        let kept = sim.remote.projects().into_iter().find(|p| p.name == project.name).expect("it lives");
        assert!(kept.instances["lnplay"], "{method}: it runs");
        assert!(!kept.config.contains_key(KEY_REMOVING), "{method}: nothing says that it goes");
    }
}

#[tokio::test]
async fn one_that_does_not_go_holds_up_nobody() {
    let sim = Sim::start().await;
    let culler = Culler::of(&sim, QUICK).await;
    let stuck = Project::ending(-HOUR);
    stuck.make(&sim.client).await;
    start(&sim.client, &stuck.name, "stuck", true).await;
    for _ in 0..5 {
        Project::ending(-HOUR).make_running(&sim.client).await;
    }
    let state = "/1.0/instances/stuck/state";
    for fault in
        [Fault::HangOperation, Fault::Hang, Fault::Error(500, "database is locked".into()), Fault::DropBefore]
    {
        sim.remote.faults().on("PUT", state, 1, fault.clone());
        let ran = culler.run(&["--json"]).await.expect_status(1);
        assert_eq!(ran.counts()[3], 1, "{fault:?}: {}", ran.stdout);
        assert_eq!(sim.names(), [stuck.name.as_str()], "{fault:?}: the others are gone");
        let entry = &ran.json()["remotes"][0]["projects"].as_array().expect("a list").clone();
        let entry = entry.iter().find(|e| e["outcome"] == "failed").expect("it is told");
        assert_eq!(entry["name"], stuck.name.as_str());
        let error = entry["error"].as_str().expect("why");
        assert!(error.contains("stop instance stuck") && ran.stderr.contains(error), "{error}");
        sim.remote.faults().clear();
    }
    assert_eq!(culler.run(&["--json"]).await.expect_status(0).counts()[2], 1);
    assert_eq!(sim.names(), [""; 0]);
}

#[tokio::test]
async fn a_remote_that_fails_holds_up_no_other() {
    let (good, bad) = (Sim::start().await, Sim::start().await);
    let remotes = |bad_url: &str, bad_token: &str| {
        Culler::new(
            &[("bad", bad_url, bad_token), ("good", &good.remote.url(), &good.remote.token("culler"))],
            QUICK,
        )
    };
    let culler = remotes(&bad.remote.url(), &bad.remote.token("culler"));
    culler.run(&["--dry-run"]).await.expect_status(0);
    Project::ending(-HOUR).make(&bad.client).await;
    let whole = r#"{"type":"sync","status_code":200,"metadata":["/1.0/projects/default"]}"#;
    for fault in [
        Fault::Hang,
        Fault::Error(500, "database is locked".into()),
        Fault::Error(403, "not authorized".into()),
        // Half a list; addresses instead of projects; no list.
        Fault::Raw(200, whole[..whole.len() / 2].into()),
        Fault::Raw(200, whole.into()),
        Fault::Raw(200, "7".into()),
    ] {
        Project::ending(-HOUR).make(&good.client).await;
        bad.remote.faults().on("GET", "/1.0/projects", 1, fault.clone());
        let ran = culler.run(&["--json"]).await.expect_status(1);
        let document = ran.json();
        assert_eq!(document["remotes_failed"], 1, "{fault:?}: {document}");
        let error = document["remotes"][0]["error"].as_str().expect("why");
        assert!(error.contains("remote \"bad\": list projects"), "{fault:?}: {error}");
        assert_eq!(document["remotes"][1]["error"], Value::Null);
        assert_eq!((good.names().len(), bad.names().len()), (0, 1), "{fault:?}");
        bad.remote.faults().clear();
    }
    // One that lists nothing removes nothing.
    let empty = Fault::Raw(200, r#"{"type":"sync","status_code":200,"metadata":[]}"#.into());
    bad.remote.faults().on("GET", "/1.0/projects", 1, empty);
    assert_eq!(culler.run(&["--json"]).await.expect_status(0).counts()[2], 0);
    // Only the remote that was asked for.
    Project::ending(-HOUR).make(&good.client).await;
    assert_eq!(culler.run(&["--json", "--remote", "bad"]).await.expect_status(0).counts()[2], 1);
    assert_eq!((good.names().len(), bad.names().len()), (1, 0));
    // Nobody there at all, and a token that is none.
    let token = bad.remote.token("late");
    let url = bad.remote.url();
    bad.remote.stop().await;
    assert_eq!(culler.run(&["--json"]).await.expect_status(1).counts()[2], 1);
    Project::ending(-HOUR).make(&good.client).await;
    let strangers = remotes(&url, "rubbish");
    let ran = strangers.run(&["--json"]).await.expect_status(1);
    assert!(ran.stderr.contains("remotes.bad.token_file") && !ran.stderr.contains(&token), "{}", ran.stderr);
    assert_eq!(good.names().len(), 0);
}

#[tokio::test]
async fn a_clock_that_jumped_removes_nothing() {
    let sim = Sim::start().await;
    let culler = Culler::of(&sim, "").await;
    Project::ending(-HOUR).make(&sim.client).await;
    Project::ending(HOUR).make(&sim.client).await;
    let years = SignedDuration::from_hours(24 * 365 * 5);
    for ahead in [years, SignedDuration::from_mins(11), SignedDuration::from_mins(-11), -years] {
        sim.remote.faults().on_clock(ahead);
        let ran = culler.run(&["--json"]).await.expect_status(1);
        assert_eq!(ran.counts(), [3, 2, 0, 0, 1, 0], "{ahead}");
        assert!(ran.stderr.contains("remote \"sim\": nothing is removed there"), "{}", ran.stderr);
        assert!(ran.stderr.contains("clock"), "{}", ran.stderr);
    }
    // It jumps between the list and the look right before.
    sim.remote.faults().clear();
    let before = sim.calls();
    let delay = Fault::Delay(Duration::from_secs(1));
    sim.remote.faults().on("GET", "/1.0/projects/*", 1, delay);
    let run = tokio::spawn({
        let mut command = culler.command();
        async move { support::finish(command.arg("--json")).await }
    });
    until("the look", support::LONG, async || {
        let looked = sim.calls_since(before).iter().any(|c| c.starts_with("GET /1.0/projects/"));
        Ok(if looked { Step::Done(()) } else { Step::NotYet(String::new()) })
    })
    .await
    .expect("it looks");
    sim.remote.faults().on_clock(years);
    assert_eq!(run.await.expect("no panic").expect_status(0).counts(), [3, 2, 0, 0, 1, 0]);
    sim.remote.faults().clear();
    assert_eq!(culler.run(&["--json"]).await.expect_status(0).counts()[2], 1);
}

#[tokio::test]
async fn two_at_once_do_no_harm() {
    let sim = Sim::start().await;
    let culler = Culler::of(&sim, "").await;
    let kept = Project::ending(HOUR);
    kept.make_running(&sim.client).await;
    for round in 0..3 {
        for _ in 0..8 {
            Project::ending(-HOUR).make_running(&sim.client).await;
        }
        let (one, other) = tokio::join!(culler.run(&["--json"]), culler.run(&["--json"]));
        assert_eq!(sim.names(), [kept.name.as_str()], "round {round}");
        for ran in [one, other] {
            assert_eq!(ran.expect_status(0).counts()[3], 0, "round {round}");
        }
    }
}

/// Two that stay, and run.
async fn bystanders(sim: &Sim) {
    Project::ending(HOUR).make_running(&sim.client).await;
    Project::ending(-HOUR).without_keys().named("lnplay-1").make_running(&sim.client).await;
}

/// Only the bystanders are there, and run.
#[track_caller]
fn check_bystanders(sim: &Sim, when: &str) {
    let all = sim.remote.projects();
    assert_eq!(all.len(), 3, "{when}: {all:?}");
    let running = all.iter().filter(|p| p.instances.get("lnplay") == Some(&true));
    assert_eq!(running.count(), 2, "{when}: {all:?}");
}

#[tokio::test]
async fn whatever_call_fails_the_next_pass_finishes() {
    let sim = Sim::start().await;
    bystanders(&sim).await;
    let culler = Culler::of(&sim, QUICK).await;
    let busy = Fault::Error(500, "database is locked".into());
    for fault in [busy, Fault::DropAfter, Fault::FailOperation("exit status 1".into())] {
        for call in 1.. {
            assert!(call < 30, "it ends");
            Project::ending(-HOUR).make_running(&sim.client).await;
            let before = sim.calls();
            sim.remote.faults().on_call(call, fault.clone());
            let ran = culler.run(&["--json"]).await;
            let was_spoiled = sim.calls() - before >= call;
            sim.remote.faults().clear();
            let when = format!("call {call}: {fault:?}: {ran:?}");
            assert!(matches!(ran.status, Some(0 | 1)), "{when}");
            culler.run(&["--json"]).await.expect_status(0);
            check_bystanders(&sim, &when);
            if !was_spoiled {
                break;
            }
        }
    }
}

#[tokio::test]
async fn whenever_it_is_killed_the_next_pass_finishes() {
    let sim = Sim::start().await;
    bystanders(&sim).await;
    let culler = Culler::of(&sim, "").await;
    let killed = kill_at_every_call(&sim.client, &culler, &sim.remote.url(), 1).await;
    println!("killed {killed} times");
    assert!(killed >= 9, "a removal is nine calls: {killed}");
}

#[tokio::test]
async fn what_a_removal_that_was_begun_says_keeps_others_off() {
    let sim = Sim::start().await;
    let other = operator(&sim.remote.url(), &sim.remote.token("other")).await;
    let culler = Culler::of(&sim, QUICK).await;
    let project = Project::ending(-HOUR);
    project.make_running(&sim.client).await;
    sim.remote.faults().on("PUT", "/1.0/instances/lnplay/state", 1, Fault::DropBefore);
    culler.run(&[]).await.expect_status(1);
    let seen = other.project(&project.name).await.expect("there");
    assert!(seen.config.contains_key(KEY_REMOVING));
    culler.run(&[]).await.expect_status(0);
    assert_eq!(sim.names(), [""; 0]);
}

/// Each shop's culler removes what has ended of its own, and what is older than the key that names the shop.
#[tokio::test]
async fn two_shops_cull_one_remote() {
    let sim = Sim::start().await;
    let nobody = Culler::of(&sim, "").await;
    let named = Culler::of(&sim, "[shop]\nid = \"first\"\n").await;
    let stored = Culler::of(&sim, "").await;
    // This one works with the keys of its shop, whose id is beside them.
    stored.write("state/remotes/shop.id", "second\n");
    let of = |shop: &str| Project::ending(-HOUR).with(KEY_SHOP, shop);
    let (first, second, unnamed) = (of("first"), of("second"), Project::ending(-HOUR));
    for project in [&first, &second, &unnamed] {
        project.make_running(&sim.client).await;
    }
    let left = || {
        let all = sim.remote.projects().into_iter().map(|p| p.name);
        all.filter(|name| name != "default").collect::<BTreeSet<_>>()
    };

    // One that does not know its shop says so, and leaves those that name one.
    let ran = nobody.run(&["--json"]).await.expect_status(1);
    assert_eq!(ran.counts(), [4, 0, 1, 0, 3, 0]);
    assert!(ran.stderr.contains("2 projects that have ended name a shop"), "{}", ran.stderr);
    assert_eq!(left(), [first.name.clone(), second.name.clone()].into());

    let ran = named.run(&["--json"]).await.expect_status(0);
    assert_eq!(ran.counts(), [3, 0, 1, 0, 2, 0]);
    assert_eq!(left(), [second.name.clone()].into());

    stored.run(&["--json"]).await.expect_status(0);
    assert_eq!(left(), BTreeSet::new());
}
