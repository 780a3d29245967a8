//! Thirty projects of all kinds, and what has to become of them.

use std::collections::BTreeSet;

use lnplaylive_core::OrderId;
use lnplaylive_core::tags::{KEY_CREATED, KEY_EXPIRES, KEY_ORDER};
use lxd_client::{Client, Stop};

use super::{Culler, HOUR, Project, create, furnish, now, snapshot, start};

/// The expected counts of the first pass. `default` is foreign, too.
const FIRST: [u64; 6] = [31, 10, 12, 0, 4, 5];
/// The expected counts of all later passes.
const LATER: [u64; 6] = [19, 10, 0, 0, 4, 5];

/// The names of the projects to remove.
async fn make_due(client: &Client) -> Vec<String> {
    let mut due = Vec::new();
    // Ended: some with more in them than we put there.
    let running = Project::ending(-HOUR);
    running.make_running(client).await;
    due.push(running);
    for ago in [2, 400] {
        let empty = Project::ending(-ago * HOUR);
        empty.make(client).await;
        due.push(empty);
    }
    let furnished = Project::ending(-HOUR).with("features.profiles", "true");
    furnished.make(client).await;
    furnish(client, &furnished.name).await;
    due.push(furnished);
    let crowded = Project::ending(-HOUR);
    crowded.make_running(client).await;
    create(client, &crowded.name, "another", false).await;
    due.push(crowded);
    // Ended by the key, which is later than the name.
    let extended = Project::ending(-9 * HOUR).with(KEY_EXPIRES, &now(-HOUR).to_string());
    extended.make(client).await;
    due.push(extended);
    // Half removed: its instance stopped; its instance gone; a mark and nothing else done.
    let stopped = Project::ending(-HOUR).half_removed();
    stopped.make(client).await;
    create(client, &stopped.name, "lnplay", false).await;
    let emptied = Project::ending(-2 * HOUR).half_removed();
    emptied.make(client).await;
    let marked = Project::ending(-3 * HOUR).half_removed();
    marked.make_running(client).await;
    due.extend([stopped, emptied, marked]);
    // Left by a crash, with and without an instance.
    let crashed = Project::placing(99 * HOUR, -25 * HOUR);
    crashed.make_running(client).await;
    let early = Project::placing(99 * HOUR, -25 * HOUR);
    early.make(client).await;
    due.extend([crashed, early]);
    // Refuses to stop.
    let stubborn = Project::ending(-HOUR);
    stubborn.make(client).await;
    start(client, &stubborn.name, "lnplay", true).await;
    due.push(stubborn);
    due.into_iter().map(|project| project.name).collect()
}

/// The names of the projects to keep.
async fn make_others(client: &Client) {
    let other = OrderId::random().to_string();
    let ended = || Project::ending(-HOUR);
    let running = [
        // Extended.
        Project::ending(-9 * HOUR).with(KEY_EXPIRES, &now(HOUR).to_string()),
        // Somebody else's, with a name like ours.
        Project::ending(-HOUR).without_keys().named("my-lnplaylive-1700000000-0a1b2c3d"),
    ];
    for project in running {
        project.make_running(client).await;
    }
    let empty = [
        // In use.
        Project::ending(HOUR),
        Project::ending(2 * HOUR),
        Project::ending(500 * HOUR),
        Project::ending(-9 * HOUR).with(KEY_EXPIRES, &now(HOUR).to_string()),
        // The name is the later one.
        Project::ending(HOUR).with(KEY_EXPIRES, &now(-9 * HOUR).to_string()),
        // Just ended.
        Project::ending(-60),
        // Being made; nobody knows since when; handed over long ago.
        Project::placing(99 * HOUR, -23 * HOUR),
        Project::placing(99 * HOUR, 0).without(KEY_CREATED),
        Project::ending(99 * HOUR).with(KEY_CREATED, &now(-99 * HOUR).to_string()),
        // Not ours.
        ended().without_keys().named("lnplay-1700000000-0a1b2c3d"),
        ended().without_keys().named("lnplaylive"),
        // Look like ours; the first has our name and none of our keys.
        ended().without_keys(),
        ended().without_keys().named("lnplaylive-staging"),
        ended().named("lnplaylive-99999999999999999999-0a1b2c3d"),
        ended().with(KEY_ORDER, &other),
        ended().with(KEY_EXPIRES, "-1"),
    ];
    for project in empty {
        project.make(client).await;
    }
}

/// Makes them, culls, and checks.
pub(crate) async fn end_as_the_rule_says(client: &Client, culler: &Culler, is_real: bool) {
    let due = make_due(client).await;
    make_others(client).await;
    let before = snapshot(client).await;
    assert_eq!(before.len(), 31, "thirty and default");
    if is_real {
        let stubborn = due.last().expect("the last one");
        let asked = client.stop_instance(stubborn, "lnplay", Stop::Clean, std::time::Duration::from_secs(1));
        asked.await.expect_err("it refuses to stop");
    }

    let dry = culler.run(&["--json", "--dry-run"]).await.expect_status(0);
    assert_eq!((dry.counts(), dry.json()["dry_run"].as_bool()), (FIRST, Some(true)));
    assert_eq!(snapshot(client).await, before, "a dry run changes nothing");

    let first = culler.run(&["--json"]).await.expect_status(0);
    assert_eq!(first.counts(), FIRST, "{}", first.stderr);
    let removed = |outcome: &str| -> BTreeSet<String> {
        let document = first.json();
        let entries = document["remotes"][0]["projects"].as_array().expect("a list").clone();
        let entries = entries.into_iter().filter(|entry| entry["outcome"] == outcome);
        entries.map(|entry| entry["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(removed("removed"), due.iter().cloned().collect());
    assert_eq!(removed("malformed").len(), 5);
    let mut expected = before.clone();
    expected.retain(|name, _| !due.contains(name));
    assert_eq!(snapshot(client).await, expected, "the others are as they were, and run");
    for (config, _) in before.values() {
        let Some(order) = config.get(KEY_ORDER) else { continue };
        assert!(!first.stdout.contains(order) && !first.stderr.contains(order), "the buyer's key");
    }
    for _ in 0..2 {
        assert_eq!(culler.run(&["--json"]).await.expect_status(0).counts(), LATER);
        assert_eq!(snapshot(client).await, expected, "nothing is left to do");
    }
}
