//! An order on a virtual machine of a real LXD or Incus server: private ones, whose machines are emulated.
//!
//! A machine boots under the servers' own firmware, finds its user-data on the drive that the server makes, and is reached
//! through NAT proxies. Nothing relies on an agent inside.
//!
//! While one is shut down, somebody becomes root in it, by way of its disk: what they can reach from there, and what without each of
//! the walls of its network, is looked at after its next start.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use e2e::{dial, figure, strings, text, try_dial};
use figment::Figment;
use figment::providers::{Format as _, Toml};
use lnplaylive_core::order::{Leftover, PortBlock};
use lnplaylive_core::{ConnectionString, OrderId, ProjectName, Settings};
use lxd_client::{ConfigMap, InstanceType, Stop};
use provisioner::{Provisioner, instance_name};
use serde_json::json;
use testbed::lxd::{Kind, Server, emulation, image, no_machines};
use testbed::{Daemons, Remotes, Shop, ShopConfig, Step, on_both_servers};

on_both_servers!(bought_rebooted_and_taken_down);

/// The longest that something may take which a machine with KVM does in seconds.
const EMULATED: Duration = Duration::from_secs(600);

/// As small as they come.
const SMALL: &str = r#"
[[products]]
sku = "T"
node_count = 1
msat_per_node_hour = 1000
"#;

/// A server with the image for virtual machines, or nothing when there can be none here.
async fn server(kind: Kind, test: &str) -> Option<Server> {
    let skip =
        |why: &dyn std::fmt::Display| testbed::skip(&format!("machines::{}::{test}", kind.name()), &why);
    if let Some(why) = no_machines(kind) {
        skip(&why);
        return None;
    }
    let (emulation, image) = match (emulation(), image()) {
        (Ok(emulation), Ok(image)) => (emulation, image),
        (Err(why), _) | (_, Err(why)) => {
            skip(&why);
            return None;
        }
    };
    let server = Server::emulating(kind, &emulation).await.expect("a server");
    server.upload(&image).await.expect("it takes the image");
    Some(server)
}

async fn shop(server: &Server, dir: &testbed::Workdir) -> Shop {
    let token_file = dir.join("token");
    std::fs::write(&token_file, server.token("lnplaylive").await.expect("a token")).expect("written");
    let addresses = server.static_addresses();
    let remotes = Remotes::Machines { url: server.url().into(), token_file, addresses };
    let config = ShopConfig {
        remotes,
        settings: SMALL.into(),
        remote_settings: format!("boot_timeout_secs = {}\n", EMULATED.as_secs()),
        ..ShopConfig::new(Daemons::auto().expect("real or simulated ones"))
    };
    Shop::start(config).await.expect("a shop")
}

async fn answers(strings: &[ConnectionString]) {
    testbed::until("the nodes to answer", EMULATED, async || {
        for string in strings {
            if let Err(error) = try_dial(string).await {
                return Ok(Step::NotYet(format!("{string:?}: {error}")));
            }
        }
        Ok(Step::Done(()))
    })
    .await
    .expect("they answer");
}

async fn bought_rebooted_and_taken_down(kind: Kind) {
    let Some(server) = server(kind, "bought_rebooted_and_taken_down").await else { return };
    let dir = testbed::Workdir::new("vm").expect("a directory");
    let shop = shop(&server, &dir).await;
    let client = server.client();

    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    let paid = Instant::now();
    let mut steps: Vec<(String, Duration)> = Vec::new();
    let status = shop
        .follow(id, EMULATED, |status| {
            let step = status["deployment_details"]["progress"]["step"].as_str().unwrap_or("-");
            if steps.last().is_none_or(|(last, _)| last != step) {
                steps.push((step.to_owned(), paid.elapsed()));
            }
        })
        .await
        .expect("it ends");
    assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
    let took = paid.elapsed();
    let strings = strings(&status);
    dial(&strings).await;
    let steps: Vec<_> = steps.iter().map(|(s, at)| format!("{s} {:.0} s", at.as_secs_f32())).collect();
    figure(&format!(
        "{}: an emulated virtual machine, paid to connection strings, one node: {:.0} s ({})",
        kind.name(),
        took.as_secs_f32(),
        steps.join(", ")
    ));

    // It is what was asked for, at the first address there is.
    let projects = client.projects().await.expect("a list");
    let ours: Vec<_> = projects.iter().filter(|p| p.name != "default").collect();
    let [project] = &ours[..] else { panic!("one order, one project: {ours:?}") };
    let name: ProjectName = project.name.parse().expect("a name of ours");
    let instance_name = instance_name(name);
    let instance = client.instance(&project.name, &instance_name).await.expect("it is there");
    let (first, _) = server.static_addresses();
    assert_eq!(instance.kind, InstanceType::VirtualMachine);
    assert_eq!(project.config["user.lnplaylive.address"], first.to_string());
    assert_eq!(instance.devices["eth0"]["ipv4.address"], first.to_string());

    // Proxies are changed while it runs, as they are where a cluster has moved it.
    let own = instance.devices;
    let listen_at = async |host: &str| {
        let mut devices = own.clone();
        devices.retain(|_, device| device.contains_key("listen"));
        for listen in devices.values_mut().filter_map(|device| device.get_mut("listen")) {
            *listen = listen.replace(&server.address().to_string(), host);
        }
        assert_eq!(devices.len(), 2, "{own:?}");
        client
            .merge_instance(&project.name, &instance_name, &ConfigMap::new(), &devices, EMULATED)
            .await
            .expect("changed");
    };
    listen_at("192.0.2.7").await;
    for string in &strings {
        try_dial(string).await.expect_err("its port is elsewhere");
    }
    listen_at(&server.address().to_string()).await;
    answers(&strings).await;

    // A reboot, as its server's operator might want one: the same nodes answer to the same strings.
    let reboot = Instant::now();
    client.stop_instance(&project.name, &instance_name, Stop::Clean, EMULATED).await.expect("stopped");
    let stopped = reboot.elapsed();
    let key = become_root(&server, &project.name, &instance_name, dir.path());
    let started = Instant::now();
    client.start_instance(&project.name, &instance_name, EMULATED).await.expect("started");
    answers(&strings).await;
    figure(&format!(
        "{}: an emulated virtual machine, shut down in {:.0} s, answering again {:.0} s after that",
        kind.name(),
        stopped.as_secs_f32(),
        started.elapsed().as_secs_f32()
    ));

    let root = Root { server: &server, key: &key, port: strings[0].endpoint.port - 1 };
    root_reaches_nothing(&root, &project.name, &instance_name).await;
    answers(&strings).await;

    // As the shop has them, and nothing from this process's environment.
    let settings = Toml::file_exact(shop.workdir().join("lnplaylive.toml"));
    let settings: Settings = Figment::from(settings).extract().expect("the shop's");
    let state = shop.host.node.dir().join("regtest/lnplaylive");
    let provisioner = Provisioner::new(&settings, &state).expect("a provisioner");
    // SSH, then the node.
    let ports = PortBlock { first: strings[0].endpoint.port - 1, count: 2 };
    let leftover = Leftover {
        remote: "remote".into(),
        member: None,
        project: name,
        ports,
        address: Some(first),
        prepared: None,
    };
    let order: OrderId = id.parse().expect("an order's id");
    provisioner.take_down(order, &leftover).await.expect("taken down");
    let projects = client.projects().await.expect("a list");
    assert!(projects.iter().all(|p| p.name == "default"), "{projects:?}");
    for string in &strings {
        try_dial(string).await.expect_err("it is gone");
    }
    provisioner.take_down(order, &leftover).await.expect("there is nothing left to do");
}

/// Exit statuses of `hostile/attacks.py`: the attack went through, or a wall held.
const THROUGH: Option<i32> = Some(0);
const HELD: Option<i32> = Some(3);

/// The address of clouds' metadata, and a public one for documentation: the test gives both to the server's network
/// namespace.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

/// The offset at which the root file system begins on the disk that `tests/image/disk` makes.
const ROOT_OFFSET: u64 = 49 << 20;

/// Runs a command of the machine; it must succeed.
#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("it starts");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

/// Lets a key of the test's in as root, with the attacks at hand, by writing to a machine's disk while it is shut down. Returns
/// the key's file.
fn become_root(server: &Server, project: &str, instance: &str, dir: &Path) -> std::path::PathBuf {
    let key = dir.join("root");
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key.display().to_string()]);
    let disk = format!("d/storage-pools/default/virtual-machines/{project}_{instance}/root.img");
    let (disk, mount) = (server.dir().join(disk), dir.join("disk"));
    std::fs::create_dir(&mount).expect("made");
    let at = mount.display().to_string();
    run("mount", &["-o", &format!("loop,offset={ROOT_OFFSET}"), &disk.display().to_string(), &at]);
    let write = |path: &str, text: &str| {
        let path = mount.join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    let public = std::fs::read_to_string(key.with_extension("pub")).expect("made");
    write("root/.ssh/authorized_keys", &public);
    write("root/attacks.py", include_str!("hostile/attacks.py"));
    write("etc/ssh/sshd_config.d/00-root.conf", "AllowUsers root\nPermitRootLogin yes\nForceCommand none\n");
    run("umount", &[&at]);
    key
}

/// Root in a machine, by SSH.
struct Root<'a> {
    server: &'a Server,
    key: &'a Path,
    port: u16,
}

impl Root<'_> {
    /// Makes an attack; returns how it ended and what it said.
    fn attack(&self, words: &[&str]) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = Command::new("ssh")
            .args(["-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=60", "-i"])
            .arg(self.key)
            .args(["-p", &self.port.to_string(), &format!("root@{}", self.server.address())])
            .args(["python3", "/root/attacks.py"])
            .args(words)
            .output()
            .expect("ssh runs");
        (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).trim().to_owned())
    }

    #[track_caller]
    fn is_held(&self, what: &str, words: &[&str]) {
        let (status, said) = self.attack(words);
        assert_eq!(status, HELD, "{what} went through, or did not run: {said}");
    }

    #[track_caller]
    fn goes_through(&self, without: &str, words: &[&str]) {
        let (status, said) = self.attack(words);
        assert_eq!(status, THROUGH, "without {without} it still fails: {said}");
    }
}

/// A neighbour on the server's bridge, which is held to its port as environments are: a network namespace with an address there.
struct Neighbour {
    namespace: String,
    _listener: TcpListener,
}

impl Neighbour {
    const PORT: u16 = 9736;

    fn new(server: &Server, address: Ipv4Addr) -> Self {
        let bridge = server.dir().file_name().expect("a name").to_string_lossy().into_owned();
        let namespace = format!("{bridge}n");
        run("ip", &["netns", "add", &namespace]);
        let inside = |arguments: &[&str]| run("ip", &[&["-n", &namespace], arguments].concat());
        let beside = |arguments: &[&str]| run("ip", &[&["-n", &bridge], arguments].concat());
        beside(&["link", "add", "neighbour", "type", "veth", "peer", "name", "eth0", "netns", &namespace]);
        beside(&["link", "set", "neighbour", "up", "master", &bridge]);
        beside(&["link", "set", "dev", "neighbour", "type", "bridge_slave", "isolated", "on"]);
        inside(&["address", "add", &format!("{address}/28"), "dev", "eth0"]);
        inside(&["link", "set", "eth0", "up"]);
        let file = Path::new("/run/netns").join(&namespace);
        let listener = testbed::lxd::listen_in(&file, Self::PORT).expect("it listens");
        Self { namespace, _listener: listener }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        run("ip", &["netns", "delete", &self.namespace]);
    }
}

/// Root in a machine reaches neither its server, nor a cloud's metadata, nor the world, nor a neighbour; and does so as soon as
/// the wall before it is gone.
async fn root_reaches_nothing(root: &Root<'_>, project: &str, instance: &str) {
    let server = root.server;
    let (own, last) = server.static_addresses();
    let neighbour = Neighbour::new(server, Ipv4Addr::from(u32::from(own) + 1));
    let listener = server.listen_inside(&[METADATA, PUBLIC]).expect("it listens");
    let port = listener.local_addr().expect("bound").port();
    let at = |address: Ipv4Addr, port: u16| format!("{address}:{port}");
    let gateway = at(server.gateway(), port);
    let world = [gateway.clone(), at(METADATA, port), at(PUBLIC, port)];
    let api = server.url().trim_start_matches("https://").trim_end_matches('/').to_owned();
    let next = at(Ipv4Addr::from(u32::from(own) + 1), Neighbour::PORT);
    let dns = at(server.gateway(), 53);
    let connect =
        |targets: &[&str]| [&["connect"], targets].concat().iter().map(|w| (*w).to_owned()).collect();
    let spoof = format!("{last}/28");
    let attacks: [(&str, Vec<String>); 6] = [
        ("the server", connect(&[&gateway])),
        ("its API", connect(&[&api])),
        ("a cloud's metadata", connect(&[&world[1]])),
        ("the world", connect(&[&world[2]])),
        ("its DNS", connect(&[&dns])),
        ("a neighbour", connect(&[&next])),
    ];
    let words = |words: &[String]| words.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    for (what, attack) in &attacks {
        root.is_held(what, &[&words(attack)]);
    }

    let bridge = server.dir().file_name().expect("a name").to_string_lossy().into_owned();
    let network = format!("/1.0/networks/{bridge}");
    let set_network = async |key: &str, value: &str| {
        let body = json!({"config": {key: value}});
        server.call("PATCH", &network, &body).await.expect("changed");
    };
    // The network's ACL.
    let acl = server.call("GET", &network, &json!(null)).await.expect("read")["config"]["security.acls"]
        .as_str()
        .expect("it has one")
        .to_owned();
    set_network("security.acls", "").await;
    for (what, attack) in &attacks[..4] {
        root.goes_through(&format!("the ACL, before {what},"), &[&words(attack)]);
    }
    // The filters of its NIC: with no ACL in the way, nothing else keeps it from other addresses.
    root.is_held("an address that is not its own", &["spoof", &spoof, &gateway]);
    let path = format!("/1.0/instances/{instance}?project={project}");
    let instance = server.call("GET", &path, &json!(null)).await.expect("read");
    let mut nic = instance["devices"]["eth0"].clone();
    for filter in ["security.ipv4_filtering", "security.ipv6_filtering", "security.mac_filtering"] {
        assert_eq!(nic[filter], "true", "{nic}");
        nic[filter] = json!("false");
    }
    let mut devices = instance["devices"].clone();
    devices["eth0"] = nic;
    server.call("PATCH", &path, &json!({"devices": devices})).await.expect("changed");
    root.goes_through("its filters", &["spoof", &spoof, &gateway]);
    server.call("PATCH", &path, &json!({"devices": instance["devices"]})).await.expect("changed back");
    set_network("security.acls", &acl).await;
    root.is_held("the server, behind its ACL again,", &[&words(&attacks[0].1)]);

    // DNS, which an ACL lets through.
    set_network("raw.dnsmasq", "").await;
    root.goes_through("port=0 of dnsmasq", &[&words(&attacks[4].1)]);
    set_network("raw.dnsmasq", "port=0").await;

    // Its port on the bridge. The server sets it when a machine starts.
    let port = instance["config"]["volatile.eth0.host_name"].as_str().expect("it runs");
    let isolate = |on: &str| {
        run("ip", &["-n", &bridge, "link", "set", "dev", port, "type", "bridge_slave", "isolated", on]);
    };
    isolate("off");
    root.goes_through("port isolation", &[&words(&attacks[5].1)]);
    isolate("on");
    drop(neighbour);
    figure(&format!(
        "{}: root in an emulated virtual machine: {} attacks held, 4 walls taken away one at a time",
        server.kind().name(),
        attacks.len() + 2
    ));
}
