//! Environments on real LXD and Incus clusters: over all members, and through the loss of each kind of member.
//!
//! The members are private ones on networks of their own; see `testbed::lxd::cluster`. Without `TESTBED_LONG` fewer environments
//! are made at once, and of outages that differ little only the harder ones are tried.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{LONG, dial, figure, follow_and_dial, strings, text, try_dial};
use lnplaylive_core::{ConnectionString, RouteTable};
use serde_json::Value;
use testbed::lxd::cluster::{Cluster, Instance, Member};
use testbed::lxd::{Kind, image, unavailable};
use testbed::{Binary, Daemons, Remotes, Shop, ShopConfig, Step, Workdir, on_both_servers};

on_both_servers!(
    environments_on_both_members_are_dialled,
    a_member_killed_before_during_and_after_a_purchase,
    a_member_evacuated,
    the_leader_lost,
    the_host_of_the_url_lost,
    the_leader_lost_at_the_url,
    a_cable_taken_out,
    the_demo_buys_on_it,
    nothing_is_left_when_its_starter_is_killed,
);

/// A small product, and passing faults soon tried again.
const SMALL: &str = r#"
[[products]]
sku = "T"
node_count = 1
msat_per_node_hour = 1000

[provisioning]
concurrency = 16
backoff_ms = 100
max_backoff_ms = 1000
retry_pause_ms = 100
max_retry_pause_ms = 1000
"#;

/// The longest that an outage may hold up an order. A member counts as online for 20 s after its end, a leader is found after
/// 12 s and needs as long again to know who is there; calls that were under way have time-outs of their own.
const OUTAGE: Duration = Duration::from_secs(240);

/// The gateway's route table, in the directory of the shop's files.
const ROUTES: &str = "routes.json";

const M1: Member = Member(0);
const M2: Member = Member(1);
const M3: Member = Member(2);

/// A cluster with the image for environments, or nothing when there can be none here.
async fn cluster(kind: Kind, members: usize, test: &str) -> Option<Cluster> {
    let name = format!("{}::{test}", kind.name());
    if let Some(why) = unavailable(kind) {
        testbed::skip(&name, &why);
        return None;
    }
    match image() {
        Ok(image) => Some(Cluster::with_image(kind, members, &image).await.expect("a cluster")),
        Err(why) => {
            testbed::skip(&name, &why);
            None
        }
    }
}

/// Returns whether all variants are to be tested.
fn long() -> bool {
    std::env::var_os("TESTBED_LONG").is_some()
}

/// Says that a test is left out of the short form.
fn too_long(kind: Kind, test: &str) -> bool {
    if !long() {
        testbed::skip(&format!("{}::{test}", kind.name()), &"TESTBED_LONG is not set");
    }
    !long()
}

/// A shop that has the URL of one member.
async fn shop(cluster: &Cluster, at: Member) -> (Shop, Workdir) {
    let dir = Workdir::new("mb").expect("a directory");
    let token_file = write_token(cluster, at, dir.path()).await;
    let daemons = Daemons::auto().expect("real or simulated ones");
    let remotes = Remotes::Existing { url: cluster.url(at), token_file };
    let settings = format!("{SMALL}\n[shop]\nroutes_file = \"{}\"\n", dir.join(ROUTES).display());
    let config = ShopConfig { remotes, settings, ..ShopConfig::new(daemons) };
    (Shop::start(config).await.expect("a shop"), dir)
}

async fn write_token(cluster: &Cluster, at: Member, dir: &Path) -> PathBuf {
    let file = dir.join("token");
    std::fs::write(&file, cluster.token(at, "lnplaylive").await.expect("a token")).expect("written");
    file
}

/// The instances of an order, of attempts that failed included.
async fn instances(cluster: &Cluster, id: &str) -> Vec<Instance> {
    let uuid = id.strip_prefix("lnplaylive-").expect("an order's id");
    let all = cluster.instances().await.expect("a list");
    all.into_iter().filter(|i| i.project.ends_with(&uuid[..8])).collect()
}

/// Waits until the order is placed, and says where.
async fn placed(cluster: &Cluster, id: &str) -> Member {
    testbed::until("the order to be placed", LONG, async || {
        Ok(match &instances(cluster, id).await[..] {
            [Instance { member: Some(member), .. }] => Step::Done(*member),
            other => Step::NotYet(format!("{other:?}")),
        })
    })
    .await
    .expect("it is placed")
}

/// Waits until a paid order is handed over, dials its nodes, and says where they are.
async fn delivered(cluster: &Cluster, shop: &Shop, order: &Value) -> Member {
    let status = shop.follow(text(order, "invoice_id"), OUTAGE, |_| ()).await.expect("it ends");
    assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
    let strings = strings(&status);
    dial(&strings).await;
    let hosts: BTreeSet<_> = strings.iter().map(|s| s.endpoint.host.clone()).collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let [host] = hosts[..] else { panic!("one instance, one host: {strings:?}") };
    cluster.member_at(host).unwrap_or_else(|| panic!("{host} is no member"))
}

/// Buys one environment and dials it; says where it is and how long it took from the payment on.
async fn buy(cluster: &Cluster, shop: &Shop) -> (Value, Member, Duration) {
    let order = shop.buy(1, 1).await.expect("paid");
    let paid = Instant::now();
    let member = delivered(cluster, shop, &order).await;
    (order, member, paid.elapsed())
}

/// Waits until the nodes of an order answer to the strings that its page has now.
async fn answers(shop: &Shop, id: &str) {
    testbed::until("its nodes to answer", OUTAGE, async || {
        let status = shop.status(id).await.expect("an order");
        for string in strings(&status) {
            if let Err(error) = try_dial(&string).await {
                return Ok(Step::NotYet(format!("{string:?}: {error}")));
            }
        }
        Ok(Step::Done(()))
    })
    .await
    .expect("they do");
}

/// Waits until the gateway's routes lead to an order's nodes on that member, and these answer.
async fn routes_lead(cluster: &Cluster, sold: &[ConnectionString], dir: &Workdir, id: &str, on: Member) {
    let uuid = id.strip_prefix("lnplaylive-").expect("an order's id");
    testbed::until(&format!("routes to its nodes on {on}"), OUTAGE, async || {
        let table = RouteTable::read(&dir.join(ROUTES)).expect("a table");
        let route = table.iter().find(|(project, _)| project.to_string().ends_with(&uuid[..8]));
        let Some((_, route)) = route else { return Ok(Step::NotYet("no route".into())) };
        for (node, string) in route.nodes().iter().zip(sold) {
            let through = ConnectionString { endpoint: node.clone(), ..string.clone() };
            if node.host != cluster.address(on).to_string() {
                return Ok(Step::NotYet(node.to_string()));
            }
            if let Err(error) = try_dial(&through).await {
                return Ok(Step::NotYet(format!("{node}: {error}")));
            }
        }
        Ok(Step::Done(()))
    })
    .await
    .expect("they do");
}

/// Waits until the order has one instance, which runs: nothing is left of attempts that failed.
async fn one_is_left(cluster: &Cluster, id: &str) {
    testbed::until("one instance of the order to be left", OUTAGE, async || {
        let left = instances(cluster, id).await;
        let one = left.len() == 1 && left[0].status == "Running";
        Ok(if one { Step::Done(()) } else { Step::NotYet(format!("{left:?}")) })
    })
    .await
    .expect("the others are removed");
}

fn seconds(kind: Kind, what: &str, took: Duration, usual: Duration) {
    figure(&format!(
        "{} cluster: {what}: {:.1} s lost (delivered {:.1} s after the payment, {:.1} s without the outage)",
        kind.name(),
        took.saturating_sub(usual).as_secs_f32(),
        took.as_secs_f32(),
        usual.as_secs_f32()
    ));
}

async fn environments_on_both_members_are_dialled(kind: Kind) {
    let test = "environments_on_both_members_are_dialled";
    let Some(cluster) = cluster(kind, 2, test).await else { return };
    let (shop, _dir) = shop(&cluster, M1).await;
    let count = if long() { 16 } else { 6 };
    let mut orders = Vec::new();
    for _ in 0..count {
        orders.push(shop.order(1, 1).await.expect("an order"));
    }
    for order in &orders {
        shop.host.customer.pay(text(order, "bolt11_invoice")).await.expect("paid");
    }
    let paid = Instant::now();
    let all = follow_and_dial(&shop, &orders).await;
    figure(&format!(
        "{} cluster: {count} environments on two members, paid together: all there after {:.1} s",
        kind.name(),
        paid.elapsed().as_secs_f32()
    ));
    for (order, strings) in orders.iter().zip(&all) {
        let id = text(order, "invoice_id");
        let [Instance { member: Some(member), .. }] = instances(&cluster, id).await[..] else {
            panic!("not one instance of {id}")
        };
        for string in strings {
            assert_eq!(string.endpoint.host, cluster.address(member).to_string(), "the member that it is on");
        }
    }
    let hosts: Vec<_> = all.iter().map(|strings| strings[0].endpoint.host.clone()).collect();
    for member in cluster.members() {
        let here = hosts.iter().filter(|host| **host == cluster.address(member).to_string()).count();
        assert!(here >= count / 4, "{member} has {here} of {count}: {hosts:?}");
    }
}

async fn a_member_killed_before_during_and_after_a_purchase(kind: Kind) {
    let test = "a_member_killed_before_during_and_after_a_purchase";
    let Some(mut cluster) = cluster(kind, 3, test).await else { return };
    // The one whose loss is another matter keeps out of it.
    cluster.set_manual(M1, true).await.expect("set");
    let (shop, _dir) = shop(&cluster, M1).await;
    let (first, on, usual) = buy(&cluster, &shop).await;
    assert_ne!(on, M1, "it is set to manual");
    let other = if on == M2 { M3 } else { M2 };

    cluster.kill(other).await.expect("killed");
    let (_, instead, took) = buy(&cluster, &shop).await;
    assert_eq!(instead, on, "the only one left");
    seconds(kind, "a member killed before a purchase", took, usual);
    cluster.boot_again(other).await.expect("back");
    cluster.wait_for_status(other, "Online").await.expect("back");

    // In the middle of it, and with it the first environment, or not.
    let order = shop.buy(1, 1).await.expect("paid");
    let paid = Instant::now();
    let id = text(&order, "invoice_id");
    let killed = placed(&cluster, id).await;
    cluster.kill(killed).await.expect("killed");
    let instead = delivered(&cluster, &shop, &order).await;
    seconds(kind, "a member killed during a purchase", paid.elapsed(), usual);
    assert_ne!(instead, killed);
    cluster.boot_again(killed).await.expect("back");
    one_is_left(&cluster, id).await;

    // What was handed over runs again once its member does, with the same strings.
    let sold = strings(&shop.status(text(&first, "invoice_id")).await.expect("a status"));
    if killed != on {
        cluster.wait_for_status(killed, "Online").await.expect("back");
        cluster.kill(on).await.expect("killed");
        cluster.boot_again(on).await.expect("back");
    }
    let back = Instant::now();
    answers(&shop, text(&first, "invoice_id")).await;
    figure(&format!(
        "{} cluster: a member killed after a purchase: nodes answer again {:.1} s after its daemon",
        kind.name(),
        back.elapsed().as_secs_f32()
    ));
    let now = strings(&shop.status(text(&first, "invoice_id")).await.expect("a status"));
    assert_eq!(format!("{now:?}"), format!("{sold:?}"), "the same strings");
}

async fn a_member_evacuated(kind: Kind) {
    let Some(cluster) = cluster(kind, 2, "a_member_evacuated").await else { return };
    let (shop, dir) = shop(&cluster, M1).await;
    // Only there until it has one; then anywhere.
    cluster.set_manual(M1, true).await.expect("set");
    let (order, on, usual) = buy(&cluster, &shop).await;
    assert_eq!(on, M2);
    cluster.set_manual(M1, false).await.expect("set");
    let sold = strings(&shop.status(text(&order, "invoice_id")).await.expect("a status"));

    cluster.evacuate(M2).await.expect("evacuated");
    let began = Instant::now();
    let (_, instead, took) = buy(&cluster, &shop).await;
    assert_eq!(instead, M1, "the other is evacuated");
    seconds(kind, "a member evacuated before a purchase", took, usual);
    // What was there has moved, and the gateway finds it. A string that names the member itself does not.
    let id = text(&order, "invoice_id");
    routes_lead(&cluster, &sold, &dir, id, M1).await;
    figure(&format!(
        "{} cluster: a member evacuated: the gateway leads to its nodes on the other {:.1} s later",
        kind.name(),
        began.elapsed().as_secs_f32()
    ));
    one_is_left(&cluster, id).await;
    assert_eq!(placed(&cluster, id).await, M1);

    cluster.restore(M2).await.expect("restored");
    routes_lead(&cluster, &sold, &dir, id, M2).await;
    dial(&sold).await;
}

async fn the_leader_lost(kind: Kind) {
    if too_long(kind, "the_leader_lost") {
        return;
    }
    let Some(mut cluster) = cluster(kind, 3, "the_leader_lost").await else { return };
    assert_eq!(cluster.leader().await.expect("a list"), Some(M1), "the first");
    let (shop, _dir) = shop(&cluster, M2).await;
    let (_, _, usual) = buy(&cluster, &shop).await;
    cluster.kill(M1).await.expect("killed");
    let (_, instead, took) = buy(&cluster, &shop).await;
    assert_ne!(instead, M1);
    seconds(kind, "the leader killed before a purchase", took, usual);
}

async fn the_host_of_the_url_lost(kind: Kind) {
    let Some(mut cluster) = cluster(kind, 3, "the_host_of_the_url_lost").await else { return };
    let (shop, _dir) = shop(&cluster, M3).await;
    let (_, _, usual) = buy(&cluster, &shop).await;
    cluster.kill(M3).await.expect("killed");
    let (_, instead, took) = buy(&cluster, &shop).await;
    assert_ne!(instead, M3);
    seconds(kind, "the URL's host killed before a purchase", took, usual);
}

async fn the_leader_lost_at_the_url(kind: Kind) {
    let Some(mut cluster) = cluster(kind, 3, "the_leader_lost_at_the_url").await else { return };
    assert_eq!(cluster.leader().await.expect("a list"), Some(M1), "the first");
    let (shop, _dir) = shop(&cluster, M1).await;
    let (_, _, usual) = buy(&cluster, &shop).await;
    let order = shop.order(1, 1).await.expect("an order");
    cluster.kill(M1).await.expect("killed");
    shop.host.customer.pay(text(&order, "bolt11_invoice")).await.expect("paid");
    let paid = Instant::now();
    assert_ne!(delivered(&cluster, &shop, &order).await, M1);
    seconds(kind, "the leader, at the URL, killed between order and payment", paid.elapsed(), usual);
    // And the shop has not lost the others since.
    buy(&cluster, &shop).await;
}

/// Nobody refuses a connection: packets are lost.
async fn a_cable_taken_out(kind: Kind) {
    if too_long(kind, "a_cable_taken_out") {
        return;
    }
    let Some(mut cluster) = cluster(kind, 3, "a_cable_taken_out").await else { return };
    cluster.set_manual(M1, true).await.expect("set");
    let (shop, _dir) = shop(&cluster, M1).await;
    let (first, on, usual) = buy(&cluster, &shop).await;
    cluster.cut(on).expect("cut");
    let (_, instead, took) = buy(&cluster, &shop).await;
    assert_ne!(instead, on);
    seconds(kind, "a member's cable out before a purchase", took, usual);
    cluster.mend(on).expect("mended");
    answers(&shop, text(&first, "invoice_id")).await;
}

/// `cargo demo -- --once --json --remote URL --remote-token-file FILE`.
async fn the_demo_buys_on_it(kind: Kind) {
    let Some(cluster) = cluster(kind, 2, "the_demo_buys_on_it").await else { return };
    // Not on the one whose URL it has.
    cluster.set_manual(M1, true).await.expect("set");
    let dir = Workdir::new("mb").expect("a directory");
    let token_file = write_token(&cluster, M1, dir.path()).await;
    let demo = Binary::Plugin.path().expect("built").with_file_name("lnplaylive-demo");
    let output = tokio::process::Command::new(demo)
        .args(["--once", "--json", "--node-count", "8", "--remote", &cluster.url(M1), "--remote-token-file"])
        .arg(token_file)
        // It builds nothing: whoever runs this test has.
        .env_remove("CARGO")
        .output()
        .await
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(report["remote"], kind.name());
    let strings = strings(&report["status"]);
    assert_eq!(strings.len(), 8);
    dial(&strings).await;
    assert!(strings.iter().all(|s| s.endpoint.host == cluster.address(M2).to_string()), "{strings:?}");
}

/// Runs this test again as a process that starts a cluster with a container on each member and is then killed.
async fn nothing_is_left_when_its_starter_is_killed(kind: Kind) {
    const ROLE: &str = "MEMBERS_TEST_VICTIM";
    let test = "nothing_is_left_when_its_starter_is_killed";
    if std::env::var_os(ROLE).is_some() {
        let cluster = cluster(kind, 2, test).await.expect("the other process would not be here");
        for member in cluster.members() {
            let instance = serde_json::json!({
                "name": format!("i{}", member.0), "type": "container",
                "source": {"type": "image", "alias": "lnplay"},
            });
            cluster
                .carry_out("POST", &format!("/1.0/instances?target={member}"), &instance, LONG)
                .await
                .expect("created");
            let start = serde_json::json!({"action": "start", "timeout": 30});
            let state = format!("/1.0/instances/i{}/state", member.0);
            cluster.carry_out("PUT", &state, &start, LONG).await.expect("started");
        }
        println!("\ndir={}", cluster.dir().display());
        std::future::pending::<()>().await;
    }
    let name = format!("{}::{test}", kind.name());
    if let Some(why) = unavailable(kind) {
        return testbed::skip(&name, &why);
    }
    if let Err(why) = image() {
        return testbed::skip(&name, &why);
    }
    let mut victim = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "--nocapture", &name])
        .env(ROLE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this binary starts");
    let mut lines = BufReader::new(victim.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let dir = lines.find_map(|line| line.strip_prefix("dir=").map(PathBuf::from)).expect("it gets that far");
    assert!(remains(&dir).len() > 10, "{:?}", remains(&dir));
    victim.kill().expect("it is ours");
    victim.wait().expect("it is ours");
    testbed::until("nothing to be left", LONG, async || {
        let remains = remains(&dir);
        Ok(if remains.is_empty() { Step::Done(()) } else { Step::NotYet(remains.join(", ")) })
    })
    .await
    .expect("it is taken down");
}

/// The traces of a cluster: its directory, processes, mounts, interfaces and cgroups.
fn remains(dir: &Path) -> Vec<String> {
    let name = dir.file_name().and_then(|n| n.to_str()).expect("a name");
    let entries = |at: &Path| std::fs::read_dir(at).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found = Vec::new();
    found.extend(dir.exists().then(|| dir.display().to_string()));
    let cgroups = Path::new("/sys/fs/cgroup");
    let hierarchies: Vec<_> =
        entries(cgroups).flat_map(|hierarchy| entries(&hierarchy).collect::<Vec<_>>()).collect();
    let places = entries(Path::new("/sys/class/net")).chain(entries(cgroups)).chain(hierarchies);
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    found.extend(places.filter(named).map(|path| path.display().to_string()));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
    found.extend(mounts.lines().filter(|line| line.contains(name)).map(str::to_owned));
    for process in entries(Path::new("/proc")) {
        for file in ["cmdline", "cgroup"] {
            let text = std::fs::read(process.join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            found.extend(text.contains(name).then(|| format!("{}: {}", process.display(), text.trim())));
        }
    }
    found
}
