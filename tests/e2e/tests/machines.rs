//! An order on a virtual machine of a real LXD or Incus server: private ones, whose machines are emulated.
//!
//! A machine boots under the servers' own firmware, finds its user-data on the drive that the server makes, and is reached
//! through NAT proxies. Nothing relies on an agent inside.

use std::time::{Duration, Instant};

use e2e::{dial, figure, strings, text, try_dial};
use figment::Figment;
use figment::providers::{Format as _, Toml};
use lnplaylive_core::order::{Leftover, PortBlock};
use lnplaylive_core::{ConnectionString, OrderId, ProjectName, Settings};
use lxd_client::{InstanceType, Stop};
use provisioner::Provisioner;
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
    let instance = client.instance(&project.name, "lnplay").await.expect("it is there");
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
        client.merge_instance_devices(&project.name, "lnplay", &devices, EMULATED).await.expect("changed");
    };
    listen_at("192.0.2.7").await;
    for string in &strings {
        try_dial(string).await.expect_err("its port is elsewhere");
    }
    listen_at(&server.address().to_string()).await;
    answers(&strings).await;

    // A reboot, as its server's operator might want one: the same nodes answer to the same strings.
    let reboot = Instant::now();
    client.stop_instance(&project.name, "lnplay", Stop::Clean, EMULATED).await.expect("stopped");
    let stopped = reboot.elapsed();
    let started = Instant::now();
    client.start_instance(&project.name, "lnplay", EMULATED).await.expect("started");
    answers(&strings).await;
    figure(&format!(
        "{}: an emulated virtual machine, shut down in {:.0} s, answering again {:.0} s after that",
        kind.name(),
        stopped.as_secs_f32(),
        started.elapsed().as_secs_f32()
    ));

    // As the shop has them, and nothing from this process's environment.
    let settings = Toml::file_exact(shop.workdir().join("lnplaylive.toml"));
    let settings: Settings = Figment::from(settings).extract().expect("the shop's");
    let state = shop.host.node.dir().join("regtest/lnplaylive");
    let provisioner = Provisioner::new(&settings, &state).expect("a provisioner");
    let name: ProjectName = project.name.parse().expect("a name of ours");
    // SSH, then the node.
    let ports = PortBlock { first: strings[0].endpoint.port - 1, count: 2 };
    let leftover =
        Leftover { remote: "remote".into(), member: None, project: name, ports, address: Some(first) };
    let order: OrderId = id.parse().expect("an order's id");
    provisioner.take_down(order, &leftover).await.expect("taken down");
    let projects = client.projects().await.expect("a list");
    assert!(projects.iter().all(|p| p.name == "default"), "{projects:?}");
    for string in &strings {
        try_dial(string).await.expect_err("it is gone");
    }
    provisioner.take_down(order, &leftover).await.expect("there is nothing left to do");
}
