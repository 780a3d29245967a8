//! Passes over real LXD and Incus servers: private ones, with containers that run.

mod support;

use support::cut::kill_at_every_call;
use support::image::{build, missing};
use support::thirty::end_as_the_rule_says;
use support::{Culler, HOUR, Project, snapshot};
use testbed::lxd::{Kind, Server, unavailable};
use testbed::on_both_servers;

on_both_servers!(
    thirty_projects_end_as_the_rule_says,
    whenever_it_is_killed_the_next_pass_finishes,
    two_at_once_do_no_harm,
);

/// A server with an image that boots, and a culler that it knows; or nothing when there can be none here.
async fn scene(kind: Kind, test: &str) -> Option<(Server, Culler)> {
    if let Some(why) = unavailable(kind).or_else(missing) {
        testbed::skip(&format!("culler: {}::{test}", kind.name()), &why);
        return None;
    }
    let server = Server::start(kind).await.expect("a server");
    let token = server.token("culler").await.expect("a token");
    let culler = Culler::new(&[(kind.name(), server.url(), &token)], "");
    server.upload(&build(culler.path())).await.expect("an image");
    culler.run(&["--dry-run"]).await.expect_status(0);
    Some((server, culler))
}

async fn thirty_projects_end_as_the_rule_says(kind: Kind) {
    let Some((server, culler)) = scene(kind, "thirty_projects_end_as_the_rule_says").await else { return };
    end_as_the_rule_says(server.client(), &culler, true).await;
}

async fn whenever_it_is_killed_the_next_pass_finishes(kind: Kind) {
    let test = "whenever_it_is_killed_the_next_pass_finishes";
    let Some((server, culler)) = scene(kind, test).await else { return };
    Project::ending(HOUR).make_running(server.client()).await;
    let killed = kill_at_every_call(server.client(), &culler, server.url(), 6).await;
    assert!(killed >= 7, "after the list a removal is seven calls: {killed}");
}

async fn two_at_once_do_no_harm(kind: Kind) {
    let Some((server, culler)) = scene(kind, "two_at_once_do_no_harm").await else { return };
    let client = server.client();
    Project::ending(HOUR).make_running(client).await;
    let before = snapshot(client).await;
    for _ in 0..6 {
        Project::ending(-HOUR).make_running(client).await;
    }
    let (one, other) = tokio::join!(culler.run(&["--json"]), culler.run(&["--json"]));
    assert_eq!(snapshot(client).await, before);
    for ran in [one, other] {
        assert_eq!(ran.expect_status(0).counts()[3], 0);
    }
}
