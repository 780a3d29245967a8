//! Passes over real LXD and Incus clusters, with projects on each member.

mod support;

use std::collections::BTreeSet;

use support::image::{build, missing};
use support::thirty::end_as_the_rule_says;
use support::{Culler, HOUR, LONG, Project, create};
use testbed::lxd::cluster::{Cluster, Member};
use testbed::lxd::{Kind, unavailable};
use testbed::on_both_servers;

on_both_servers!(thirty_projects_end_as_the_rule_says, a_member_that_is_off_keeps_only_what_is_on_it);

/// A cluster with an image that boots, and a culler that it knows by its last member's URL; or nothing when there can be none
/// here.
async fn scene(kind: Kind, members: usize, test: &str) -> Option<(Cluster, Culler)> {
    if let Some(why) = unavailable(kind).or_else(missing) {
        testbed::skip(&format!("culler: {}::{test}", kind.name()), &why);
        return None;
    }
    let dir = testbed::Workdir::new("cu").expect("a directory");
    let cluster = Cluster::with_image(kind, members, &build(dir.path())).await.expect("a cluster");
    let last = Member(members - 1);
    let token = cluster.token(last, "culler").await.expect("a token");
    let culler = Culler::new(&[(kind.name(), &cluster.url(last), &token)], "");
    culler.run(&["--dry-run"]).await.expect_status(0);
    Some((cluster, culler))
}

async fn thirty_projects_end_as_the_rule_says(kind: Kind) {
    let test = "thirty_projects_end_as_the_rule_says";
    let Some((cluster, culler)) = scene(kind, 2, test).await else { return };
    let client = cluster.client(Member(0)).expect("a client");
    end_as_the_rule_says(&client, &culler, true).await;
    // What it left is where the cluster had put it; what it removed was there as well.
    let left = cluster.instances().await.expect("a list");
    let members: BTreeSet<_> = left.iter().filter_map(|instance| instance.member).collect();
    assert_eq!(members.len(), 2, "{left:?}");
}

async fn a_member_that_is_off_keeps_only_what_is_on_it(kind: Kind) {
    let test = "a_member_that_is_off_keeps_only_what_is_on_it";
    let Some((mut cluster, culler)) = scene(kind, 3, test).await else { return };
    let client = cluster.client(Member(0)).expect("a client");
    for member in cluster.members() {
        // The scheduler takes the only one that it may.
        for other in cluster.members() {
            cluster.set_manual(other, other != member).await.expect("set");
        }
        let project = Project::ending(-HOUR);
        project.make(&client).await;
        create(&client, &project.name, "lnplay", false).await;
        client.start_instance(&project.name, "lnplay", LONG).await.expect("started");
    }
    let members: BTreeSet<_> =
        cluster.instances().await.expect("a list").iter().filter_map(|instance| instance.member).collect();
    assert_eq!(members.len(), 3);

    // The culler has its URL; the leader is another.
    let off = Member(2);
    cluster.kill(off).await.expect("killed");
    cluster.wait_for_status(off, "Offline").await.expect("noticed");
    let ran = culler.run(&["--json"]).await;
    let left = cluster.instances().await.expect("a list");
    let left: Vec<_> = left.iter().map(|instance| instance.member).collect();
    assert_eq!(left, [Some(off)], "{}\n{}", ran.stdout, ran.stderr);
    assert_ne!(ran.status, Some(0), "it says that something is left: {}", ran.stdout);

    cluster.boot_again(off).await.expect("back");
    cluster.wait_for_status(off, "Online").await.expect("noticed");
    culler.run(&["--json"]).await.expect_status(0);
    assert_eq!(cluster.instances().await.expect("a list"), []);
}
