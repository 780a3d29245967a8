//! Environments on real LXD and Incus servers: private ones, with containers that boot, SSH, and `lnplay` inside.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::desk::holder_acts;
use e2e::{LONG, dial, figure, follow_and_dial, provisioner_of, strings, text, try_ask, try_dial};
use lnplaylive_core::order::{Leftover, PortBlock};
use lnplaylive_core::{OrderId, ProjectName};
use lxd_client::{ConfigMap, DeviceMap, ImageSource, InstanceSpec, InstanceType, Stop};
use provisioner::instance_name;
use serde_json::{Value, json};
use testbed::lxd::{Kind, Server, image, unavailable};
use testbed::{Binary, Daemons, RemoteKind, Remotes, Shop, ShopConfig, Step, on_both_servers};

on_both_servers!(
    eight_nodes_and_down_again,
    eight_nodes_that_were_prepared,
    walls_inside_the_instance,
    the_demo_buys_on_it,
    a_server_that_dies_loses_its_order_to_the_other,
    the_desk_acts_on_its_nodes,
    ten_environments_at_once,
    nothing_is_left_when_its_starter_is_killed,
);

/// A small product, and passing faults soon tried again.
const SMALL: &str = r#"
[[products]]
sku = "T"
node_count = 1
msat_per_node_hour = 1000

[provisioning]
concurrency = 10
backoff_ms = 100
max_backoff_ms = 1000
retry_pause_ms = 100
max_retry_pause_ms = 1000
"#;

/// This many servers with the image for environments, or nothing when there can be none here.
async fn servers(kind: Kind, count: usize, test: &str) -> Option<Vec<Server>> {
    if let Some(why) = unavailable(kind) {
        testbed::skip(&format!("{}::{test}", kind.name()), &why);
        return None;
    }
    let image = match image() {
        Ok(image) => image,
        Err(why) => {
            testbed::skip(&format!("{}::{test}", kind.name()), &why);
            return None;
        }
    };
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(Server::with_image(kind, &image).await.expect("a server"));
    }
    Some(servers)
}

/// A shop that provisions on a server, and its directory for what the test adds.
async fn shop(server: &Server, settings: String, dir: &Path) -> Shop {
    let token_file = write_token(server, dir).await;
    let daemons = Daemons::auto().expect("real or simulated ones");
    let remotes = Remotes::Existing { url: server.url().into(), token_file };
    Shop::start(ShopConfig { remotes, settings, ..ShopConfig::new(daemons) }).await.expect("a shop")
}

async fn write_token(server: &Server, dir: &Path) -> PathBuf {
    let file = dir.join(format!("token-{}", server.address()));
    std::fs::write(&file, server.token("lnplaylive").await.expect("a token")).expect("written");
    file
}

/// Projects on a server that are not there from the start.
async fn projects(server: &Server) -> Vec<ProjectName> {
    let projects = server.client().projects().await.expect("a list");
    let ours = projects.iter().filter(|p| p.name != "default");
    ours.map(|p| p.name.parse().expect("a name of ours")).collect()
}

/// `cargo demo -- --once --json --remote URL --remote-token-file FILE`.
async fn the_demo_buys_on_it(kind: Kind) {
    let Some(servers) = servers(kind, 1, "the_demo_buys_on_it").await else { return };
    let dir = testbed::Workdir::new("cl").expect("a directory");
    let token_file = write_token(&servers[0], dir.path()).await;
    let demo = Binary::Plugin.path().expect("built").with_file_name("lnplaylive-demo");
    let output = tokio::process::Command::new(demo)
        .args(["--once", "--json", "--remote", servers[0].url(), "--remote-token-file"])
        .arg(token_file)
        // It builds nothing: whoever runs this test has.
        .env_remove("CARGO")
        .output()
        .await
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(report["remote"], kind.name());
    assert_eq!(report["status"]["deployment_details"]["status"], "provisioned", "{report}");
    // The demo is gone, what was bought stays.
    dial(&strings(&report["status"])).await;
}

/// An order of days takes over what was prepared for an hour: its instance runs on, and has the limits of the days.
async fn eight_nodes_that_were_prepared(kind: Kind) {
    let Some(servers) = servers(kind, 1, "eight_nodes_that_were_prepared").await else { return };
    let dir = testbed::Workdir::new("cl").expect("a directory");
    let settings = "[[products]]\nsku = \"A\"\nnode_count = 8\nmsat_per_node_hour = 1000\nprepared = 1\n\
                    [provisioning]\nsurvey_secs = 1\n";
    let shop = shop(&servers[0], settings.into(), dir.path()).await;
    let ready = async || {
        // LXD 5.0.2 fails now and then to start a container beside one that works ("Failed to change ownership of …"), and the shop
        // tries again after a minute.
        testbed::until("one is prepared", 2 * LONG, async || {
            let answer = shop.host.node.call("lnplayops-remotes", json!({})).await.unwrap_or_default();
            let ready = answer["prepared"][0]["ready"] == 1;
            Ok(if ready { Step::Done(()) } else { Step::NotYet(answer["prepared"].to_string()) })
        })
        .await
        .expect("it is made");
    };
    ready().await;
    let [prepared] = projects(&servers[0]).await[..] else { panic!("one project") };
    let limits = async || {
        let name = instance_name(prepared);
        let instance = servers[0].client().instance(&prepared.to_string(), &name).await.expect("there");
        let size = instance.devices.values().find_map(|device| device.get("size").cloned());
        (instance.config["limits.memory"].clone(), size)
    };
    let before = limits().await;
    let order = shop.buy(8, 504).await.expect("paid");
    let paid = Instant::now();
    let status = shop.follow(text(&order, "invoice_id"), LONG, |_| ()).await.expect("it ends");
    let took = paid.elapsed();
    assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
    dial(&strings(&status)).await;
    figure(&format!(
        "{}: paid to connection strings, 8 nodes that were prepared: {:.2} s",
        kind.name(),
        took.as_secs_f32()
    ));
    let after = limits().await;
    assert_ne!(before, after);
    assert!(projects(&servers[0]).await.contains(&prepared), "it is the same");
    // The next one is prepared, and both go.
    ready().await;
    assert_eq!(projects(&servers[0]).await.len(), 2);
}

async fn eight_nodes_and_down_again(kind: Kind) {
    let Some(servers) = servers(kind, 1, "eight_nodes_and_down_again").await else { return };
    let dir = testbed::Workdir::new("cl").expect("a directory");
    let shop = shop(&servers[0], String::new(), dir.path()).await;

    let order = shop.order(8, 48).await.expect("an order");
    let id = text(&order, "invoice_id");
    shop.host.customer.pay(text(&order, "bolt11_invoice")).await.expect("paid");
    let paid = Instant::now();
    let mut steps: Vec<(String, Duration)> = Vec::new();
    let status = shop
        .follow(id, LONG, |status| {
            let step = status["deployment_details"]["progress"]["step"].as_str().unwrap_or("-");
            if steps.last().is_none_or(|(last, _)| last != step) {
                steps.push((step.to_owned(), paid.elapsed()));
            }
        })
        .await
        .expect("it ends");
    let took = paid.elapsed();
    assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
    let strings = strings(&status);
    assert_eq!(strings.len(), 8);
    dial(&strings).await;
    let steps: Vec<_> = steps.iter().map(|(s, at)| format!("{s} {:.1} s", at.as_secs_f32())).collect();
    figure(&format!(
        "{}: paid to connection strings, 8 nodes: {:.1} s ({})",
        kind.name(),
        took.as_secs_f32(),
        steps.join(", ")
    ));
    let is = shop.remote_kind().await.expect("it says so");
    assert_eq!(is, if kind == Kind::Lxd { RemoteKind::Lxd } else { RemoteKind::Incus });

    let projects_up = projects(&servers[0]).await;
    let [project] = &projects_up[..] else { panic!("one order, one project: {projects_up:?}") };

    // A reboot, as its server's operator might want one: the same nodes answer to the same strings.
    let (client, name, instance) = (servers[0].client(), project.to_string(), instance_name(*project));
    client.stop_instance(&name, &instance, Stop::Clean, LONG).await.expect("stopped");
    client.start_instance(&name, &instance, LONG).await.expect("started");
    testbed::until("the nodes to be back", LONG, async || {
        for string in &strings {
            if let Err(error) = try_dial(string).await {
                return Ok(Step::NotYet(format!("{string:?}: {error}")));
            }
        }
        Ok(Step::Done(()))
    })
    .await
    .expect("they come back");

    // SSH, then the nodes.
    let first = strings.iter().map(|s| s.endpoint.port).min().expect("eight of them") - 1;
    let leftover = Leftover {
        remote: "remote".into(),
        member: None,
        project: *project,
        ports: PortBlock { first, count: 9 },
        address: None,
        prepared: None,
    };
    let provisioner = provisioner_of(&shop);
    let order: OrderId = id.parse().expect("an order's id");
    provisioner.take_down(order, &leftover).await.expect("taken down");
    assert_eq!(projects(&servers[0]).await, []);
    for port in first..first + 9 {
        TcpListener::bind((servers[0].address(), port)).expect("its ports are free again");
    }
    provisioner.take_down(order, &leftover).await.expect("there is nothing left to do");
}

/// The checked fields of a process's status, by name.
fn proc_status(pid: u32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The processes in a server's containers whose command line begins with this program.
fn processes_in(server: &Server, program: &str) -> Vec<u32> {
    let dir = server.dir().display().to_string();
    let command = |pid: u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_inside = |mut pid: u32| {
        while pid > 1 {
            if String::from_utf8_lossy(&command(pid)).contains(&dir) {
                return true;
            }
            pid = proc_status(pid, "PPid").parse().unwrap_or(0);
        }
        false
    };
    let all = std::fs::read_dir("/proc").expect("readable").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let runs = |pid: &u32| command(*pid).split(|byte| *byte == 0).next() == Some(program.as_bytes());
    pids.filter(runs).filter(|pid| is_inside(*pid)).collect()
}

/// Runs a script in the container of process `pid`, as a user of it without privileges.
fn inside(pid: u32, uid: u32, script: &str) -> (bool, String) {
    let output = Command::new("nsenter")
        .args(["--target", &pid.to_string(), "--all", "--", "setpriv"])
        .args([
            "--reuid",
            &uid.to_string(),
            "--regid",
            "50000",
            "--clear-groups",
            "--no-new-privs",
            "sh",
            "-c",
            script,
        ])
        .output()
        .expect("nsenter runs");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Somebody who has taken a node over is nobody in its instance.
async fn walls_inside_the_instance(kind: Kind) {
    let Some(servers) = servers(kind, 1, "walls_inside_the_instance").await else { return };
    let dir = testbed::Workdir::new("cl").expect("a directory");
    let shop = shop(&servers[0], SMALL.into(), dir.path()).await;
    let order = shop.buy(1, 1).await.expect("paid");
    let strings = follow_and_dial(&shop, std::slice::from_ref(&order)).await.remove(0);
    // The rune is an allowlist.
    for method in ["plugin", "createrune", "stop", "datastore"] {
        let error = try_ask(&strings[0], method).await.expect_err("refused");
        assert_eq!(error.code(), Some(0x4c51), "{method}: {error}");
    }

    let nodes = processes_in(&servers[0], "lightningd");
    let [node] = nodes[..] else { panic!("one node: {nodes:?}") };
    let [bitcoind] = processes_in(&servers[0], "bitcoind")[..] else { panic!("one bitcoind") };
    let uid = |pid| proc_status(pid, "Uid").split(' ').next().map(str::to_owned);
    assert_ne!(uid(node), uid(bitcoind), "each is a user of its own");
    for pid in [node, bitcoind] {
        for (key, wanted) in [
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Groups", ""),
        ] {
            assert_eq!(proc_status(pid, key), wanted, "{key}");
        }
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("readable");
        assert!(groups.contains(".scope"), "it has no scope with limits: {groups}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{node}/limits")).expect("readable");
    let tasks = limits.lines().find(|line| line.starts_with("Max processes")).expect("a limit");
    assert!(tasks.contains(" 256 "), "{tasks}");

    // As node 0's user: nothing but its own directory can be written to.
    let script = "find / -xdev \\( -path /proc -o -path /sys \\) -prune -o ! -type l ! -type s -writable -print 2>/dev/null; \
                  find /tmp /var/tmp /run /dev/shm /var/lib/lnplay/nodes/00 ! -type l ! -type s -writable -print 2>/dev/null; true";
    let (_, writable) = inside(node, 50_001, script);
    let own = "/var/lib/lnplay/nodes/00";
    let devices = |path: &str| {
        [
            "/dev/null",
            "/dev/zero",
            "/dev/full",
            "/dev/random",
            "/dev/urandom",
            "/dev/tty",
            "/dev/ptmx",
            "/dev/pts/ptmx",
            "/dev/fuse",
            "/dev/net/tun",
        ]
        .contains(&path)
    };
    let strange: Vec<_> = writable
        .lines()
        .filter(|path| *path != own && !path.starts_with(&format!("{own}/")) && !devices(path))
        .collect();
    assert!(writable.contains(own), "its own directory is not its own: {writable}");
    assert!(strange.is_empty(), "a node can write to {strange:?}");
    for script in [
        "cat /etc/shadow",
        "cat /var/lib/lnplay/mining.wif",
        "ls /var/lib/lnplay",
        "cat /var/lib/lnplay/bitcoin/regtest/.cookie",
        "echo 'lnplay down' >/run/lnplay.sock",
        "kill 1",
    ] {
        let (done, said) = inside(node, 50_001, script);
        assert!(!done, "`{script}` was done: {said}");
    }
    // What nobody needs is not there.
    let (_, found) = inside(
        node,
        50_001,
        "for name in reckless recklessrpc clnrest wss-proxy lightning-cli lightning-hsmtool sudo; do find / -xdev -name $name 2>/dev/null; done",
    );
    assert_eq!(found, "", "the image has what it does not need");

    // A fork bomb in one node: it meets its limit, and the instance answers.
    let bomb = "i=0; while [ $i -lt 400 ]; do sleep 20 & i=$((i + 1)); done; wait";
    let (done, said) = inside(node, 50_001, &format!("prlimit --nproc=256:256 sh -c '{bomb}'"));
    assert!(!done && said.contains("fork"), "400 processes were started: {said}");
    // The node itself may have died of it.
    let (done, said) = inside(bitcoind, 50_000, "true");
    assert!(done, "others cannot start a process any more: {said}");
}

async fn a_server_that_dies_loses_its_order_to_the_other(kind: Kind) {
    let test = "a_server_that_dies_loses_its_order_to_the_other";
    let Some(servers) = servers(kind, 2, test).await else { return };
    let dir = testbed::Workdir::new("cl").expect("a directory");
    let second = format!(
        "{SMALL}\n[[remotes]]\nname = \"second\"\nurl = {:?}\ntoken_file = \"{}\"\ninstance_type = \"container\"\n\
         unlimited_disk = true\nlisten_address = \"{}\"\n",
        servers[1].url(),
        write_token(&servers[1], dir.path()).await.display(),
        servers[1].address(),
    );
    let shop = shop(&servers[0], second, dir.path()).await;
    let order = shop.buy(1, 1).await.expect("paid");
    let id = text(&order, "invoice_id");
    // Dies as soon as something of the order is on it.
    let dead = testbed::until("the order to be placed", LONG, async || {
        for (at, server) in servers.iter().enumerate() {
            if !projects(server).await.is_empty() {
                return Ok(Step::Done(at));
            }
        }
        Ok(Step::NotYet("no project".into()))
    })
    .await
    .expect("it is placed");
    servers[dead].kill().expect("killed");
    let status = shop.follow(id, LONG, |_| ()).await.expect("it ends");
    assert_eq!(status["deployment_details"]["status"], "provisioned", "{status}");
    let survivor = &servers[1 - dead];
    let strings = strings(&status);
    dial(&strings).await;
    assert!(strings.iter().all(|s| s.endpoint.host == survivor.address().to_string()), "{strings:?}");
    assert_eq!(projects(survivor).await.len(), 1);
}

/// The desk's actions go over SSH to `lnplay` in the container, whose nodes run as users of their own.
async fn the_desk_acts_on_its_nodes(kind: Kind) {
    let Some(servers) = servers(kind, 1, "the_desk_acts_on_its_nodes").await else { return };
    let dir = testbed::Workdir::new("cl").expect("a directory");
    let product = "[[products]]\nsku = \"U\"\nnode_count = 2\nmsat_per_node_hour = 1000\n";
    let shop =
        shop(&servers[0], format!("{SMALL}survey_secs = 1\nprobes_per_min = 60\n{product}"), dir.path())
            .await;
    let (order, other) = (shop.buy(2, 1).await.expect("paid"), shop.buy(2, 1).await.expect("paid"));
    let orders = [order, other];
    let nodes = follow_and_dial(&shop, &orders).await;
    let [id, other] = orders.each_ref().map(|order| text(order, "invoice_id"));
    holder_acts(&shop, (id, &nodes[0]), (other, &nodes[1])).await;
}

async fn ten_environments_at_once(kind: Kind) {
    let Some(servers) = servers(kind, 1, "ten_environments_at_once").await else { return };
    let dir = testbed::Workdir::new("cl").expect("a directory");
    let shop = shop(&servers[0], SMALL.into(), dir.path()).await;
    let mut orders = Vec::new();
    for _ in 0..10 {
        orders.push(shop.order(1, 1).await.expect("an order"));
    }
    for order in &orders {
        shop.host.customer.pay(text(order, "bolt11_invoice")).await.expect("paid");
    }
    let paid = Instant::now();
    follow_and_dial(&shop, &orders).await;
    assert_eq!(projects(&servers[0]).await.len(), 10);
    figure(&format!(
        "{}: ten environments of one node, paid together: all there after {:.1} s",
        kind.name(),
        paid.elapsed().as_secs_f32()
    ));
}

/// Runs this test again as a process that starts a server with a container and is then killed.
async fn nothing_is_left_when_its_starter_is_killed(kind: Kind) {
    const ROLE: &str = "CLUSTERS_TEST_VICTIM";
    let test = "nothing_is_left_when_its_starter_is_killed";
    if std::env::var_os(ROLE).is_some() {
        let servers = servers(kind, 1, test).await.expect("the other process would not be here");
        let spec = InstanceSpec {
            name: "i".into(),
            kind: InstanceType::Container,
            image: ImageSource::Alias("lnplay".into()),
            config: ConfigMap::new(),
            devices: DeviceMap::new(),
            profiles: None,
            target: None,
        };
        servers[0].client().create_instance("default", &spec, LONG).await.expect("created");
        servers[0].client().start_instance("default", "i", LONG).await.expect("started");
        println!("\ndir={}", servers[0].dir().display());
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
    assert_ne!(remains(&dir), Vec::<String>::new());
    victim.kill().expect("it is ours");
    victim.wait().expect("it is ours");
    testbed::until("nothing to be left", LONG, async || {
        let remains = remains(&dir);
        Ok(if remains.is_empty() { Step::Done(()) } else { Step::NotYet(remains.join(", ")) })
    })
    .await
    .expect("it is taken down");
}

/// The traces of a server: its directory, processes, mounts and bridge.
fn remains(dir: &Path) -> Vec<String> {
    let name = dir.file_name().and_then(|n| n.to_str()).expect("a name");
    let mut found = Vec::new();
    for path in [dir.to_owned(), Path::new("/sys/class/net").join(name)] {
        found.extend(path.exists().then(|| path.display().to_string()));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
    found.extend(mounts.lines().filter(|line| line.contains(name)).map(str::to_owned));
    for process in std::fs::read_dir("/proc").expect("readable").flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        found.extend(command.contains(name).then_some(command));
    }
    found
}
