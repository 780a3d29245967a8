//! A simulated cluster: calls to one member through another, and members that die, come back, or are evacuated.

mod support;

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use sim_lxd::{Fault, SimMember, SimRemote, SimRemoteConfig};
use support::{Ssh, api::Api, free_port, is_alive, run};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// A cluster with a client for each member.
struct Cluster {
    _dir: TempDir,
    remote: SimRemote,
    /// The first member's client.
    api: Api,
}

impl Cluster {
    async fn new(names: &[&str]) -> Self {
        Self::with(names.iter().map(|&name| SimMember::new(name)).collect()).await
    }

    async fn with(members: Vec<SimMember>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = SimRemoteConfig {
            cluster: members,
            offline_after: Duration::MAX,
            peer_timeout: Duration::from_millis(1),
            ..SimRemoteConfig::new(dir.path().join("s"), support::program("true"))
        };
        let remote = SimRemote::start(config).await.expect("a cluster");
        let api = Api::enrol(&remote.url(), &remote.token("test")).await;
        Self { _dir: dir, remote, api }
    }

    /// A client for one member.
    fn at(&self, member: &str) -> Api {
        self.api.at(&self.remote.member(member).url())
    }

    /// Creates an instance through the first member.
    async fn create(&self, name: &str, target: &str, config: Value, devices: Value) -> Result<(), String> {
        let body = json!({
            "name": name, "type": "container", "source": {"type": "image", "alias": "lnplay"},
            "devices": devices, "config": config,
        });
        self.api.change("POST", &format!("/1.0/instances?target={target}"), body).await
    }

    async fn started(&self, name: &str, target: &str, config: Value, devices: Value) {
        self.create(name, target, config, devices).await.expect("created");
        self.start(name).await.expect("started");
    }

    async fn start(&self, name: &str) -> Result<(), String> {
        self.api.change("PUT", &format!("/1.0/instances/{name}/state"), json!({"action": "start"})).await
    }

    fn location(&self, name: &str) -> String {
        self.remote.location("default", name).expect("an instance")
    }

    /// The status of a member, according to the first living one.
    async fn status(&self, of: &str) -> String {
        let living = self.remote.members().find(sim_lxd::MemberHandle::is_alive).expect("a living member");
        let member = self.at(living.name()).read(&format!("/1.0/cluster/members/{of}")).await;
        member["status"].as_str().expect("a status").to_owned()
    }
}

/// A proxy device that listens on all of a member's addresses.
fn proxy(port: u16, inside: u16) -> Value {
    json!({"type": "proxy", "listen": format!("tcp:0.0.0.0:{port}"), "connect": format!("tcp:127.0.0.1:{inside}")})
}

async fn connects(cluster: &Cluster, member: &str, port: u16) -> bool {
    TcpStream::connect(SocketAddr::new(cluster.remote.member(member).address(), port)).await.is_ok()
}

#[tokio::test]
async fn members_are_listed_with_their_status() {
    let rooms = SimMember { groups: vec!["default".into(), "rooms".into()], ..SimMember::new("b") };
    let cluster = Cluster::with(vec![SimMember::new("a"), rooms]).await;
    cluster.remote.member("b").set_config("scheduler.instance", "manual");
    for asked in ["a", "b"] {
        let members = cluster.at(asked).read("/1.0/cluster/members?recursion=1").await;
        let [a, b] = members.as_array().expect("a list").as_slice() else { panic!("{members}") };
        assert_eq!((&a["server_name"], &a["url"]), (&json!("a"), &json!(cluster.remote.member("a").url())));
        assert_eq!((&a["status"], &a["roles"]), (&json!("Online"), &json!(["database-leader", "database"])));
        assert_eq!((&b["groups"], &b["roles"]), (&json!(["default", "rooms"]), &json!(["database"])));
        assert_eq!(b["config"], json!({"scheduler.instance": "manual"}));
        let server = cluster.at(asked).read("/1.0").await;
        assert_eq!(server["environment"]["server_name"], asked);
        assert_eq!(server["environment"]["server_clustered"], true);
    }
}

#[tokio::test]
async fn resources_are_those_of_the_member_asked_for() {
    let cluster = Cluster::new(&["a", "b"]).await;
    cluster.remote.member("b").set_memory(8 << 30, 3 << 30);
    cluster.remote.member("b").set_storage(100, 40);
    let resources = cluster.api.read("/1.0/resources?target=b").await;
    assert_eq!(resources["memory"], json!({"total": 8_u64 << 30, "used": 3_u64 << 30}));
    let pool = cluster.api.read("/1.0/storage-pools/default/resources?target=b").await;
    assert_eq!(pool["space"], json!({"total": 100, "used": 40}));
    let own = cluster.api.read("/1.0/resources").await;
    assert_ne!(own["memory"], resources["memory"], "the resources of the member that was named");
    let (status, answer) = cluster.api.get("/1.0/resources?target=c").await;
    assert_eq!((status, &answer["error"]), (404, &json!("Cluster member not found")));
}

#[tokio::test]
async fn instances_are_on_their_target_and_listen_only_there() {
    let cluster = Cluster::new(&["a", "b", "c"]).await;
    let port = free_port();
    cluster.started("i", "b", json!({}), json!({"p": proxy(port, 22)})).await;
    let instance = cluster.at("c").read("/1.0/instances/i").await;
    assert_eq!((&instance["location"], &instance["status"]), (&json!("b"), &json!("Running")));
    let listening = [connects(&cluster, "a", port).await, connects(&cluster, "b", port).await];
    assert_eq!(listening, [false, true]);
    assert!(!connects(&cluster, "c", port).await);
    // The port is free on other members, whose addresses differ.
    cluster.started("j", "c", json!({}), json!({"p": proxy(port, 22)})).await;
    let foreign = format!("tcp:{}:{}", cluster.remote.member("a").address(), free_port());
    let device = json!({"type": "proxy", "listen": foreign, "connect": "tcp:127.0.0.1:22"});
    cluster.create("k", "b", json!({}), json!({"p": device})).await.expect("created");
    let error = cluster.start("k").await.expect_err("an address of another machine");
    assert!(error.contains("bind: cannot assign requested address"), "{error}");
    // Nobody can connect to a port on a member's loopback.
    let port = free_port();
    let device =
        json!({"type": "proxy", "listen": format!("tcp:127.0.0.1:{port}"), "connect": "tcp:127.0.0.1:22"});
    cluster.started("l", "b", json!({}), json!({"p": device})).await;
    assert!(!connects(&cluster, "b", port).await);
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test]
async fn the_scheduler_spreads_instances_and_avoids_members_that_take_none() {
    let cluster = Cluster::new(&["a", "b", "c", "d"]).await;
    let (a, b, c) = (cluster.remote.member("a"), cluster.remote.member("b"), cluster.remote.member("c"));
    a.set_config("scheduler.instance", "manual");
    b.set_config("scheduler.instance", "group");
    b.set_groups(&["rooms"]);
    for n in 0..4 {
        cluster.create(&format!("i{n}"), "", json!({}), json!({})).await.expect("created");
    }
    let mut members: Vec<_> = (0..4).map(|n| cluster.location(&format!("i{n}"))).collect();
    members.sort();
    assert_eq!(members, ["c", "c", "d", "d"]);
    cluster.create("grouped", "@rooms", json!({}), json!({})).await.expect("created");
    assert_eq!(cluster.location("grouped"), "b");
    cluster.create("named", "a", json!({}), json!({})).await.expect("created");
    assert_eq!(cluster.location("named"), "a");
    let error = cluster.create("x", "@none", json!({}), json!({})).await.expect_err("no such group");
    assert_eq!(error, "Cluster group \"none\" doesn't exist");
    let error = cluster.create("x", "e", json!({}), json!({})).await.expect_err("no such member");
    assert_eq!(error, "Cluster member not found");
    c.set_config("scheduler.instance", "manual");
    cluster.remote.member("d").set_config("scheduler.instance", "manual");
    let error = cluster.create("x", "", json!({}), json!({})).await.expect_err("nobody takes it");
    assert_eq!(error, "No suitable cluster member could be found");
}

#[tokio::test]
async fn a_single_server_has_no_targets() {
    let dir = tempfile::tempdir().expect("a directory");
    let remote =
        SimRemote::start(SimRemoteConfig::new(dir.path(), support::program("true"))).await.expect("a remote");
    let api = Api::enrol(&remote.url(), &remote.token("test")).await;
    let body = json!({"name": "i", "source": {"type": "none"}});
    let error = api.change("POST", "/1.0/instances?target=a", body).await.expect_err("no cluster");
    assert_eq!(error, "Target only allowed when clustered");
    assert_eq!(remote.members().map(|m| m.name().to_owned()).collect::<Vec<_>>(), ["none"]);
}

#[tokio::test]
async fn a_dead_member_affects_only_its_instances() {
    let cluster = Cluster::new(&["a", "b", "c"]).await;
    let (ssh, port) = (Ssh::new(), free_port());
    let config = json!({"user.user-data": ssh.user_data()});
    let device =
        json!({"type": "proxy", "listen": format!("tcp:0.0.0.0:{port}"), "connect": "tcp:127.0.0.1:22"});
    cluster.started("i", "b", config, json!({"ssh": device})).await;
    cluster.started("j", "c", json!({}), json!({})).await;
    let b = cluster.remote.member("b");
    let session = ssh.connect_to(b.address(), port).await;
    run(&session, "setsid sleep 1000 > /dev/null 2>&1 < /dev/null & echo $! > pid").await;
    let home = run(&session, "pwd").await.0;
    let pid = std::fs::read_to_string(format!("{}/pid", home.trim())).expect("a pid");

    b.kill().await;
    assert!(!is_alive(&pid), "its processes ended");
    assert!(!connects(&cluster, "b", port).await);
    assert!(cluster.at("b").call("GET", "/1.0", Value::Null).await.is_err(), "its API does not answer");
    assert_eq!(cluster.status("b").await, "Online", "for some time nobody has noticed");
    let missing = json!("Missing event connection with target cluster member");
    for path in ["/1.0/instances/i", "/1.0/instances/i/state", "/1.0/resources?target=b"] {
        let (status, answer) = cluster.api.get(path).await;
        assert_eq!((status, &answer["error"]), (500, &missing), "{path}");
    }
    let error = cluster.create("k", "b", json!({}), json!({})).await.expect_err("nobody there");
    assert!(error.contains("Unable to connect to: ") && error.contains("connection refused"), "{error}");
    // The list has the database's contents.
    let instances = cluster.api.read("/1.0/instances?recursion=1&all-projects=true").await;
    let of = |name: &str| {
        instances.as_array().expect("a list").iter().find(|i| i["name"] == name).expect("listed")
    };
    assert_eq!((&of("i")["status"], &of("i")["location"]), (&json!("Error"), &json!("b")));
    assert_eq!((&of("i")["type"], &of("i")["config"]), (&json!(""), &Value::Null));
    assert_eq!((&of("j")["status"], &of("j")["location"]), (&json!("Running"), &json!("c")));
    // Calls that concern no particular member work on every living one.
    cluster.at("c").change("POST", "/1.0/projects", json!({"name": "p"})).await.expect("created");
    cluster.api.read("/1.0/projects/p").await;

    cluster.remote.set_offline_after(Duration::ZERO);
    assert_eq!(cluster.status("b").await, "Offline");
    cluster.create("l", "", json!({}), json!({})).await.expect("created elsewhere");
    assert_eq!(cluster.location("l"), "a");

    b.revive().await.expect("its address is free");
    assert_eq!(cluster.status("b").await, "Online");
    let instance = cluster.at("b").read("/1.0/instances/i").await;
    assert_eq!(instance["status"], "Running", "it ran when the power went");
    let session = ssh.connect_to(b.address(), port).await;
    assert_eq!(run(&session, "test -e pid").await.1, 0, "its disk is what it was");
}

#[tokio::test]
async fn operations_of_a_dead_member_end() {
    let cluster = Cluster::new(&["a", "b"]).await;
    let b = cluster.remote.member("b");
    b.faults().on("POST", "/1.0/instances", 1, Fault::HangOperation);
    let body = json!({"name": "i", "source": {"type": "image", "alias": "lnplay"}});
    let (status, answer) =
        cluster.api.call("POST", "/1.0/instances?target=b", body).await.expect("an answer");
    assert_eq!((status, &answer["metadata"]["location"]), (202, &json!("b")));
    let operation = answer["operation"].as_str().expect("an operation").to_owned();
    let wait = {
        let (api, path) = (cluster.api.clone(), format!("{operation}/wait"));
        tokio::spawn(async move { api.get(&path).await })
    };
    b.faults().on("GET", "/1.0/cluster/members/*", 1, Fault::Error(500, "not meant for this call".into()));
    support::until("the wait has come to b", async || {
        b.faults().calls().iter().any(|call| call.path.ends_with("/wait"))
    })
    .await;
    b.kill().await;
    let (status, answer) = wait.await.expect("no panic");
    let text = answer["error"].as_str().expect("a reason");
    assert!(status == 500 && text.ends_with("EOF"), "{answer}");
    b.revive().await.expect("its address is free");
    let (status, _) = cluster.api.get(&operation).await;
    assert_eq!(status, 404, "forgotten");
    assert_eq!(cluster.api.read("/1.0/instances").await, json!([]));
}

#[tokio::test]
async fn faults_of_a_member_apply_to_forwarded_calls() {
    let cluster = Cluster::new(&["a", "b"]).await;
    let b = cluster.remote.member("b");
    b.faults().on("GET", "/1.0/resources", 2, Fault::Error(500, "no idea".into()));
    cluster.api.read("/1.0/resources").await;
    let (status, answer) = cluster.api.get("/1.0/resources?target=b").await;
    assert_eq!((status, &answer["error"]), (500, &json!("no idea")));
    assert_eq!(cluster.at("b").get("/1.0/resources").await.0, 500);
    b.faults().on_call(1, Fault::DropBefore);
    let (status, answer) = cluster.api.get("/1.0/resources?target=b").await;
    assert!(status == 500 && answer["error"].as_str().is_some_and(|e| e.ends_with("EOF")), "{answer}");
    // The remote counts the calls of clients to any member.
    let before = cluster.remote.faults().calls().len();
    cluster.remote.faults().on_call(2, Fault::Error(503, "not now".into()));
    cluster.api.read("/1.0/resources?target=b").await;
    assert_eq!(cluster.at("b").get("/1.0").await.0, 503);
    assert_eq!(cluster.remote.faults().calls().len() - before, 2);
}

#[tokio::test]
async fn without_a_quorum_nobody_answers() {
    let cluster = Cluster::new(&["a", "b"]).await;
    cluster.remote.set_quorum(false);
    let asked = {
        let api = cluster.at("b");
        tokio::spawn(async move { api.get("/1.0/projects/p").await })
    };
    support::until("the call has come", async || !cluster.remote.member("b").faults().calls().is_empty())
        .await;
    // An answer that did not wait would miss it.
    cluster.remote.add_project("p", std::collections::BTreeMap::new());
    cluster.remote.set_quorum(true);
    assert_eq!(asked.await.expect("no panic").0, 200);
}

#[tokio::test]
async fn static_addresses_are_unique_on_a_member() {
    let cluster = Cluster::new(&["a", "b"]).await;
    let nic = json!({"type": "nic", "name": "eth0", "network": "lxdbr0", "ipv4.address": "10.10.10.100"});
    let devices = json!({"eth0": nic});
    let taken = "IP address \"10.10.10.100\" already defined on another NIC";
    cluster.started("one", "a", json!({}), devices.clone()).await;
    cluster.started("elsewhere", "b", json!({"cluster.evacuate": "migrate"}), devices.clone()).await;
    cluster.create("two", "a", json!({}), devices.clone()).await.expect("created");
    let error = cluster.start("two").await.expect_err("it has the address of one");
    assert!(error.contains(taken), "{error}");
    // The change of a running instance is refused at once.
    cluster.started("three", "a", json!({}), json!({})).await;
    let error = cluster.api.change("PATCH", "/1.0/instances/three", json!({"devices": devices})).await;
    assert!(error.expect_err("taken").contains(taken));
    // An instance with the same address cannot move here either.
    let error = cluster.remote.member("b").evacuate().await.expect_err("taken on the only other member");
    assert!(error.contains(taken), "{error}");
}

#[tokio::test]
async fn an_evacuation_moves_what_can_move_and_stops_the_rest() {
    let cluster = Cluster::new(&["a", "b"]).await;
    let ports = [free_port(), free_port()];
    let migrate = json!({"cluster.evacuate": "migrate"});
    cluster.started("plain", "b", json!({}), json!({})).await;
    cluster.started("proxied", "b", json!({}), json!({"p": proxy(ports[0], 22)})).await;
    cluster.started("told", "b", migrate.clone(), json!({"p": proxy(ports[1], 22)})).await;
    let b = cluster.remote.member("b");
    b.evacuate().await.expect("evacuated");
    assert_eq!(cluster.status("b").await, "Evacuated");
    let of = async |name: &str| {
        let instance = cluster.api.read(&format!("/1.0/instances/{name}")).await;
        [&instance["location"], &instance["status"]].map(|v| v.as_str().expect("text").to_owned())
    };
    assert_eq!(of("plain").await, ["a", "Running"]);
    assert_eq!(of("proxied").await, ["b", "Stopped"]);
    assert_eq!(of("told").await, ["a", "Running"]);
    assert!(connects(&cluster, "a", ports[1]).await);
    let forbidden = "Cluster member is evacuated";
    assert_eq!(cluster.start("proxied").await.expect_err("out of service"), forbidden);
    let error = cluster.create("x", "b", json!({}), json!({})).await.expect_err("out of service");
    assert_eq!(error, forbidden);
    assert_eq!(b.evacuate().await.expect_err("done before"), "Cluster member is already evacuated");

    b.restore().await.expect("restored");
    for name in ["plain", "proxied", "told"] {
        assert_eq!(of(name).await, ["b", "Running"], "{name}");
    }

    // An instance with an address of the member cannot move: the evacuation fails, and the member is in service.
    let listen = format!("tcp:{}:{}", b.address(), free_port());
    let device = json!({"type": "proxy", "listen": listen, "connect": "tcp:127.0.0.1:22"});
    cluster.started("bound", "b", migrate, json!({"p": device})).await;
    let state = "/1.0/cluster/members/b/state";
    let error = cluster.api.change("POST", state, json!({"action": "evacuate"})).await.expect_err("it stays");
    assert!(error.contains("cannot assign requested address"), "{error}");
    assert_eq!(cluster.status("b").await, "Online");
    assert_eq!(of("bound").await, ["a", "Stopped"]);
}

#[tokio::test]
async fn devices_of_an_instance_that_runs_can_be_changed() {
    let cluster = Cluster::new(&["a", "b"]).await;
    let (one, two, kept) = (free_port(), free_port(), free_port());
    cluster
        .started("i", "b", json!({"user.a": "1"}), json!({"p": proxy(one, 22), "q": proxy(kept, 22)}))
        .await;
    let path = "/1.0/instances/i";
    cluster.api.change("PATCH", path, json!({"devices": {"p": proxy(two, 22)}})).await.expect("changed");
    assert!(connects(&cluster, "b", two).await && connects(&cluster, "b", kept).await);
    assert!(!connects(&cluster, "b", one).await);
    let instance = cluster.api.read(path).await;
    assert_eq!(instance["config"]["user.a"], "1", "the rest is as it was");
    // A change that fails leaves the devices as they were.
    let foreign = format!("tcp:{}:{}", cluster.remote.member("a").address(), free_port());
    let device = json!({"type": "proxy", "listen": foreign, "connect": "tcp:127.0.0.1:22"});
    cluster.api.change("PATCH", path, json!({"devices": {"p": device}})).await.expect_err("not its address");
    assert!(connects(&cluster, "b", two).await);
    assert_eq!(cluster.api.read(path).await["devices"], instance["devices"]);
    let mut whole = instance.clone();
    whole["devices"] = json!({"root": {"type": "disk", "path": "/", "pool": "default"}});
    cluster.api.change("PUT", path, whole).await.expect("replaced");
    assert!(!connects(&cluster, "b", two).await && !connects(&cluster, "b", kept).await);
    assert_eq!(cluster.api.read(path).await["status"], "Running");
}
