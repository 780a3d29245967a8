//! Root in an environment, given, as if everything inside had failed: what they can do to the server, to other environments and
//! to what lies beyond, and what they can learn. On real LXD and Incus servers, private ones.
//!
//! Each attack is made twice: in an environment that was bought, where it must fail, and in containers like it of which one wall
//! alone was taken away, where it must go through. So no wall is there for nothing, and no attack fails for another reason.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{LONG, dial, figure, follow_and_dial, strings, text, try_dial};
use lnplaylive_core::ConnectionString;
use lxd_client::{Instance, Project, Stop};
use serde_json::{Value, json};
use testbed::lxd::{Executed, Kind, Options, Pool, Server, image, unavailable};
use testbed::{Daemons, Remotes, Shop, ShopConfig, on_both_servers};

on_both_servers!(root_in_a_container);

/// The attacks.
const ATTACKS: &str = include_str!("attacks.py");
/// `attacks.py` ends with these.
const THROUGH: i64 = 0;
const HELD: i64 = 3;
/// The kernel has killed it for its memory.
const KILLED: i64 = 128 + 9;

/// Addresses that the test gives the server's network namespace: what clouds have for their metadata, and one of the public
/// ones for documentation.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

/// A node of another environment answers within this, however busy the machine is; it takes milliseconds.
const NEIGHBOUR_LIMIT: Duration = Duration::from_secs(10);

/// A small product, and no patience for pools without limits.
const SETTINGS: &str = r#"
[[products]]
sku = "T"
node_count = 1
msat_per_node_hour = 1000
"#;

/// The limits of such an environment, for an hour: provisioner's `Size`.
const MEMORY_MIB: u64 = 640;
const DISK_MIB: u64 = 1024 + 512 + 32 + 1;
const PROCESSES: u64 = 512 + 48;
const OPEN_FILES: u64 = 16_384;

/// A wall: what is attacked, and how it is taken away.
struct Wall {
    name: &'static str,
    attack: Vec<String>,
    /// Keys of the instance's configuration, and what they are without the wall; `None`: not set.
    config: Vec<(&'static str, Option<&'static str>)>,
    /// Devices of its own that are not there without it.
    devices: Vec<&'static str>,
    /// Options of its root disk that are not there without it.
    root: Vec<&'static str>,
}

impl Wall {
    fn new(name: &'static str, attack: &[&str]) -> Self {
        let attack = attack.iter().map(|&word| word.to_owned()).collect();
        Self { name, attack, config: Vec::new(), devices: Vec::new(), root: Vec::new() }
    }

    fn without(mut self, key: &'static str, value: Option<&'static str>) -> Self {
        self.config.push((key, value));
        self
    }
}

/// Each wall of a container. `targets` are addresses and ports that answer in the server's namespace; `nic` is what an attacker
/// gives a NIC.
fn walls(kind: Kind, nic: &str, targets: &[String]) -> Vec<Wall> {
    let guest_api = match kind {
        Kind::Lxd => "security.devlxd",
        Kind::Incus => "security.guestapi",
    };
    let too_many = (PROCESSES + 100).to_string();
    let too_much_memory = (MEMORY_MIB + 60).to_string();
    let too_much_disk = (DISK_MIB + 60).to_string();
    let too_many_sockets = (OPEN_FILES + 1000).to_string();
    let connect: Vec<_> = ["connect", nic].into_iter().chain(targets.iter().map(String::as_str)).collect();
    let mut walls = vec![
        Wall::new("limits.processes", &["processes", &too_many]).without("limits.processes", None),
        Wall::new("limits.memory", &["memory", &too_much_memory]).without("limits.memory", None),
        Wall::new("limits.memory.swap", &["swap"]).without("limits.memory.swap", None),
        Wall::new("limits.cpu", &["processors", "2"]).without("limits.cpu", None),
        Wall { root: vec!["size"], ..Wall::new("root disk's size", &["disk", &too_much_disk]) },
        Wall::new("security.syscalls.deny", &["subvolume", &too_much_disk])
            .without("security.syscalls.deny", None),
        Wall::new("security.syscalls.deny for the kernel's log", &["kernel_log"])
            .without("security.syscalls.deny", None),
        Wall::new("limits.kernel.nofile", &["sockets", &too_many_sockets])
            .without("limits.kernel.nofile", None),
        Wall { devices: vec!["eth0"], ..Wall::new("no NIC", &connect) },
        Wall::new(guest_api, &["guest_api"]).without(guest_api, None),
        Wall::new("security.nesting", &["nested"]).without("security.nesting", Some("true")),
        Wall::new("security.privileged", &["device"])
            .without("security.privileged", Some("true"))
            .without("security.idmap.isolated", None),
    ];
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1) {
        testbed::skip(
            "hostile: limits.cpu",
            &"the machine has one processor, which is what an environment of one node may use",
        );
        walls.retain(|wall| wall.name != "limits.cpu");
    }
    walls
}

/// A server that limits disks, in a network namespace of its own; or nothing when there can be none here.
async fn server(kind: Kind, test: &str) -> Option<Server> {
    let skip =
        |why: &dyn std::fmt::Display| testbed::skip(&format!("hostile::{}::{test}", kind.name()), &why);
    if let Some(why) = unavailable(kind) {
        skip(&why);
        return None;
    }
    let image = match image() {
        Ok(image) => image,
        Err(why) => {
            skip(&why);
            return None;
        }
    };
    let options = Options { pool: Pool::Btrfs, own_namespace: true, ..Options::default() };
    let server = Server::start_with(kind, options).await.expect("a server");
    server.upload(&image).await.expect("it takes the image");
    // A container needs no ACL, and one would hide that it has no NIC.
    let bridge = server.dir().file_name().expect("a name").to_string_lossy().into_owned();
    let without = json!({"config": {"security.acls": ""}});
    server.call("PATCH", &format!("/1.0/networks/{bridge}"), &without).await.expect("changed");
    Some(server)
}

/// The name of an environment's instance.
fn instance_of(project: &Project) -> String {
    provisioner::instance_name(project.name.parse().expect("a name of ours"))
}

/// Makes an attack in an environment.
async fn attack_in(server: &Server, project: &Project, words: &[String]) -> Executed {
    attack(server, &project.name, &instance_of(project), words).await
}

/// Makes an attack in an instance.
async fn attack(server: &Server, project: &str, instance: &str, words: &[String]) -> Executed {
    let command: Vec<_> =
        ["python3", "-c", ATTACKS].into_iter().chain(words.iter().map(String::as_str)).collect();
    server.execute(project, instance, &command).await.expect("it runs")
}

#[track_caller]
fn assert_held(what: &str, Executed { status, output }: &Executed) {
    assert!(
        [HELD, KILLED].contains(status),
        "{what} went through, or did not run: {status}, {}",
        output.trim()
    );
}

/// The project of an order.
async fn project_of(server: &Server, order: &Value) -> Project {
    let id = text(order, "invoice_id");
    let projects = server.client().projects().await.expect("a list");
    let is_it = |p: &Project| p.config.get("user.lnplaylive.order").is_some_and(|order| order == id);
    projects.into_iter().find(is_it).expect("it has a project")
}

/// Dials a node again and again until it is stopped; returns the longest time that an answer took.
fn watch(string: ConnectionString) -> (Arc<AtomicBool>, tokio::task::JoinHandle<(usize, Duration)>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let watching = tokio::spawn(async move {
        let (mut count, mut longest) = (0, Duration::ZERO);
        while !stopped.load(Ordering::Relaxed) {
            let asked = Instant::now();
            try_dial(&string).await.expect("the neighbour's node answers");
            longest = longest.max(asked.elapsed());
            count += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        (count, longest)
    });
    (stop, watching)
}

async fn root_in_a_container(kind: Kind) {
    let Some(server) = server(kind, "root_in_a_container").await else { return };
    let dir = testbed::Workdir::new("ho").expect("a directory");
    let token_file = dir.join("token");
    std::fs::write(&token_file, server.token("lnplaylive").await.expect("a token")).expect("written");
    let config = ShopConfig {
        remotes: Remotes::Existing { url: server.url().into(), token_file },
        settings: SETTINGS.into(),
        remote_settings: "unlimited_disk = false\n".into(),
        ..ShopConfig::new(Daemons::auto().expect("real or simulated ones"))
    };
    let shop = Shop::start(config).await.expect("a shop");
    let orders = [shop.buy(1, 1).await.expect("paid"), shop.buy(1, 1).await.expect("paid")];
    let bought = follow_and_dial(&shop, &orders).await;
    let hostile = project_of(&server, &orders[0]).await;
    let neighbour = project_of(&server, &orders[1]).await;

    // Everything that answers where an environment has no business: the bridge's address, the API, the metadata of a cloud,
    // somebody in the world, and the neighbour's node.
    let listener: TcpListener = server.listen_inside(&[METADATA, PUBLIC]).expect("it listens");
    let port = listener.local_addr().expect("bound").port();
    let mut targets: Vec<_> =
        [server.gateway(), METADATA, PUBLIC].map(|address| format!("{address}:{port}")).into();
    targets.push(server.url().trim_start_matches("https://").trim_end_matches('/').to_owned());
    targets
        .extend(bought[1].iter().map(|string| format!("{}:{}", string.endpoint.host, string.endpoint.port)));
    let (static_address, _) = server.static_addresses();
    let nic = format!("nic={static_address}/28,{}", server.gateway());

    // Root tries everything, while a neighbour's node is asked and somebody buys.
    let (ended, watching) = watch(bought[1][0].clone());
    let order = shop.buy(1, 1).await.expect("paid");
    let walls = walls(kind, &nic, &targets);
    let mut cells = 0;
    for wall in &walls {
        let held = attack_in(&server, &hostile, &wall.attack).await;
        assert_held(wall.name, &held);
        cells += 1;
    }
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    // Each address alone: that none is reached was not luck with one of them.
    for target in &targets {
        assert_held(target, &attack_in(&server, &hostile, &words(&["connect", target])).await);
        cells += 1;
    }
    // 100,000 sockets in many processes may be had where there is memory for them, and cost nobody else anything.
    let spread = attack_in(&server, &hostile, &words(&["spread_sockets", "100000", "8"])).await;
    assert!([THROUGH, HELD, KILLED].contains(&spread.status), "{spread:?}");
    attack_in(&server, &hostile, &words(&["busy", "32", "3"])).await;
    cells += 2;
    nothing_is_learnt(&server, &hostile, &neighbour, &bought).await;
    cells += 1;
    keyrings_are_not_shared(&server, &hostile, &neighbour).await;
    cells += 1;

    let status = shop.follow(text(&order, "invoice_id"), LONG, |_| ()).await.expect("it ends");
    assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
    dial(&strings(&status)).await;
    ended.store(true, Ordering::Relaxed);
    let (asked, longest) = watching.await.expect("the neighbour was there all the time");
    assert!(asked > 0 && longest < NEIGHBOUR_LIMIT, "{asked} answers, the longest after {longest:?}");
    figure(&format!(
        "{}: root in a container: {cells} attacks held; a neighbour's node answered {asked} times meanwhile, within {:.2} s",
        kind.name(),
        longest.as_secs_f32(),
    ));

    let model = server.client().instance(&hostile.name, &instance_of(&hostile)).await.expect("it is there");
    let mut taken = Vec::new();
    for wall in &walls {
        let went = without(&server, &model, wall).await;
        assert_eq!(went.status, THROUGH, "without {} it still fails: {}", wall.name, went.output.trim());
        taken.push(wall.name);
    }
    keyrings_are_shared_without_isolation(&server, &model).await;
    taken.push("security.idmap.isolated");
    figure(&format!(
        "{}: walls taken away one at a time, and the attack went through: {} ({})",
        kind.name(),
        taken.len(),
        taken.join(", ")
    ));
}

/// Nothing in one environment says anything of another.
async fn nothing_is_learnt(
    server: &Server,
    hostile: &Project,
    neighbour: &Project,
    bought: &[Vec<ConnectionString>],
) {
    let order = &neighbour.config["user.lnplaylive.order"];
    let node = bought[1][0].node_id.as_str();
    let short = neighbour.name.rsplit('-').next().expect("a part");
    let port = bought[1][0].endpoint.port;
    let needles = [
        neighbour.name.as_str(),
        order.as_str(),
        node,
        short,
        // As /proc/net/tcp and command lines of proxies have it.
        &format!(":{port:04X} "),
        &format!(":{port}"),
    ];
    let search =
        |needles: &[&str]| ["search"].iter().chain(needles).map(|&w| w.to_owned()).collect::<Vec<_>>();
    let found = attack_in(server, hostile, &search(&needles)).await;
    assert_held("a search for the neighbour", &found);
    // The search finds the same of its own environment, so that it did not look in the wrong places.
    let instance = instance_of(hostile);
    let own = [
        instance.as_str(),
        bought[0][0].node_id.as_str(),
        "lightningd",
        // The port of its first node, 9736, as /proc/net/tcp has it.
        ":2608 ",
    ];
    let found = attack_in(server, hostile, &search(&own)).await;
    for needle in own {
        assert!(
            found.output.contains(&format!("'{needle}'")),
            "{needle} of its own is not found: {}",
            found.output
        );
    }
}

/// Uses up root's keys in one environment, and adds some in another.
async fn keyrings_are_not_shared(server: &Server, hostile: &Project, neighbour: &Project) {
    let mut bases = Vec::new();
    for project in [hostile, neighbour] {
        let instance =
            server.client().instance(&project.name, &instance_of(project)).await.expect("it is there");
        bases.push(instance.config.get("volatile.idmap.base").cloned().expect("it has user ids of its own"));
    }
    assert_ne!(bases[0], bases[1], "they were made at the same time, and have the same user ids");
    let keys = |count: &str| vec!["keys".to_owned(), count.to_owned()];
    let filled = attack_in(server, hostile, &keys("1000")).await;
    assert_held("a thousand keys", &filled);
    let other = attack_in(server, neighbour, &keys("5")).await;
    assert_eq!(other.status, THROUGH, "root's keys in one environment are another's: {}", other.output);
}

/// The same in two containers that share their user ids.
async fn keyrings_are_shared_without_isolation(server: &Server, model: &Instance) {
    let wall = Wall::new("security.idmap.isolated", &[]).without("security.idmap.isolated", Some("false"));
    for name in ["w-1", "w-2"] {
        make(server, model, &wall, name).await;
    }
    let keys = |count: &str| vec!["keys".to_owned(), count.to_owned()];
    assert_held("a thousand keys", &attack(server, "default", "w-1", &keys("1000")).await);
    let other = attack(server, "default", "w-2", &keys("5")).await;
    assert_eq!(other.status, HELD, "the other's keys are its own: {}", other.output);
    for name in ["w-1", "w-2"] {
        remove(server, name).await;
    }
}

/// Makes the attack of a wall in a container like that of an environment, without the wall.
async fn without(server: &Server, model: &Instance, wall: &Wall) -> Executed {
    make(server, model, wall, "w").await;
    let went = attack(server, "default", "w", &wall.attack).await;
    remove(server, "w").await;
    went
}

/// Makes and starts a container like an environment's, without ports, and without a wall.
async fn make(server: &Server, model: &Instance, wall: &Wall, name: &str) {
    let ours = |key: &str| key.starts_with("limits.") || key.starts_with("security.");
    let mut config: BTreeMap<_, _> =
        model.config.iter().filter(|(key, _)| ours(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    for (key, value) in &wall.config {
        assert!(config.remove(*key).is_some(), "{key} is no wall of {config:?}");
        config.extend(value.map(|value| ((*key).to_owned(), value.to_owned())));
    }
    let mut devices = model.devices.clone();
    devices.retain(|_, device| device.get("type").is_none_or(|kind| kind != "proxy"));
    for device in &wall.devices {
        assert!(devices.remove(*device).is_some(), "{device} is no wall of {devices:?}");
    }
    let root = devices.get_mut("root").expect("a root disk");
    for option in &wall.root {
        assert!(root.remove(*option).is_some(), "{option} is no wall of {root:?}");
    }
    let body = json!({
        "name": name, "type": "container", "source": {"type": "image", "alias": "lnplay"},
        "config": config, "devices": devices,
    });
    server.call("POST", "/1.0/instances", &body).await.expect("made");
    server.client().start_instance("default", name, LONG).await.expect("started");
    testbed::until("the container to be there", LONG, async || {
        let up = attack(server, "default", name, &["busy".to_owned(), "1".to_owned(), "0".to_owned()]).await;
        Ok(match up.status {
            THROUGH => testbed::Step::Done(()),
            _ => testbed::Step::NotYet(format!("{up:?}")),
        })
    })
    .await
    .expect("it is");
}

async fn remove(server: &Server, name: &str) {
    let client = server.client();
    client.stop_instance("default", name, Stop::Force, LONG).await.expect("stopped");
    client.delete_instance("default", name, LONG).await.expect("removed");
}
