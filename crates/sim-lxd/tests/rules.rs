//! The table of rules, held against the simulated remote and against real servers: each example is refused at the moment and with
//! the words that its rule has, or accepted where the rule is not for that server or type.
//!
//! A real server is named as for `conformance`. Where it cannot run virtual machines, the suite makes sure that it refuses them,
//! says that their part was skipped, and goes on with containers. Containers are started from an image with a static
//! `/bin/busybox`; virtual machines are started empty.

mod support;

use std::{collections::BTreeSet, fmt::Write as _, net::Ipv4Addr, path::Path};

use lxd_client::{Client, ImageFiles};
use serde_json::{Value, json};
use sim_lxd::{Kind, Rule, Server, SimRemote, SimRemoteConfig, When, rules};
use support::{LONG, api::Api, free_port, tarball, until};

const ANY: &[Kind] = &[Kind::Container, Kind::VirtualMachine];
const CONTAINER: &[Kind] = &[Kind::Container];
const VM: &[Kind] = &[Kind::VirtualMachine];

/// An instance that breaks a rule, or none.
///
/// In values, `{host}` stands for an address of the server, `{port}` for a free port of it, `{bridge}` for its bridge, `{gateway}`
/// for the bridge's address, and `{static}` for another address of the bridge's network.
#[derive(Debug, Clone, Copy)]
struct Example {
    what: &'static str,
    /// The rule that it breaks where that is in force; `None` if every server accepts it.
    rule: Option<&'static str>,
    kinds: &'static [Kind],
    /// Configuration of its project.
    project: &'static [(&'static str, &'static str)],
    config: &'static [(&'static str, &'static str)],
    devices: &'static [(&'static str, &'static [(&'static str, &'static str)])],
    /// No devices but its own.
    bare: bool,
    /// Configuration of the bridge while it lasts.
    bridge: &'static [(&'static str, &'static str)],
    /// True if another instance of its name and with its NIC, in another project, exists before.
    twin: bool,
    /// True if it is started where it is accepted.
    starts: bool,
}

const PLAIN: Example = Example {
    what: "",
    rule: None,
    kinds: ANY,
    project: &[],
    config: &[],
    devices: &[],
    bare: false,
    bridge: &[],
    twin: false,
    starts: false,
};

/// A NIC with a static address, and a proxy that leads to it by NAT: what every type of instance can have.
const NIC: (&str, &[(&str, &str)]) =
    ("eth0", &[("type", "nic"), ("name", "eth0"), ("network", "{bridge}"), ("ipv4.address", "{static}")]);
const NAT: (&str, &[(&str, &str)]) = (
    "p",
    &[("type", "proxy"), ("nat", "true"), ("listen", "tcp:{host}:{port}"), ("connect", "tcp:{static}:22")],
);

/// An example for a rule about one proxy device, on an instance with [`NIC`].
macro_rules! proxy {
    ($rule:expr, $what:literal, $($option:literal => $value:literal),+) => {
        Example { what: $what, rule: $rule, devices: &[NIC, ("p", &[("type", "proxy"), $(($option, $value)),+])], ..PLAIN }
    };
}

/// An example for a rule about a NIC on the bridge.
macro_rules! nic {
    ($rule:expr, $what:literal, $($option:literal => $value:literal),*) => {
        Example {
            what: $what,
            rule: $rule,
            devices: &[("eth0", &[("type", "nic"), ("name", "eth0"), ("network", "{bridge}"), $(($option, $value)),*])],
            ..PLAIN
        }
    };
}

/// An example for a rule about a key of the configuration.
macro_rules! key {
    ($rule:expr, $kinds:expr, $key:literal, $value:literal) => {
        Example { what: $key, rule: $rule, kinds: $kinds, config: &[($key, $value)], ..PLAIN }
    };
}

#[rustfmt::skip]
static EXAMPLES: &[Example] = &[
    Example { what: "nothing special", starts: true, ..PLAIN },
    Example { what: "NAT to a static address", devices: &[NIC, NAT], kinds: VM, starts: true, ..PLAIN },
    Example { what: "NAT on a container", devices: &[NIC, NAT], kinds: CONTAINER, ..PLAIN },
    Example { what: "a port range by NAT", devices: &[NIC, ("p", &[("type", "proxy"), ("nat", "true"), ("listen", "tcp:{host}:31001-31003"), ("connect", "tcp:{static}:20001-20003")])], ..PLAIN },

    Example { what: "a proxy in a restricted project", rule: Some("restricted-proxy"), project: &[("restricted", "true")], devices: &[NIC, NAT], ..PLAIN },
    Example { what: "an allowed proxy in a restricted project", project: &[("restricted", "true"), ("restricted.devices.proxy", "allow")], devices: &[NIC, NAT], ..PLAIN },
    Example { what: "nesting in a restricted project", rule: Some("restricted-nesting"), project: &[("restricted", "true")], ..key!(None, CONTAINER, "security.nesting", "true") },
    Example { what: "privileged in a restricted project", rule: Some("restricted-privileged"), project: &[("restricted", "true")], ..key!(None, CONTAINER, "security.privileged", "true") },
    Example { what: "raw.qemu in a restricted project", rule: Some("restricted-low-level"), project: &[("restricted", "true")], ..key!(None, VM, "raw.qemu", "-name x") },
    Example { what: "the default project's bridge in a project with networks", rule: Some("nic-network-missing"), project: &[("features.networks", "true")], ..PLAIN },

    key!(Some("config-key-unknown"), ANY, "bogus.key", "1"),
    key!(Some("config-key-unknown"), ANY, "security.bogus", "1"),
    key!(Some("container-key-on-vm"), VM, "security.nesting", "true"),
    key!(Some("container-key-on-vm"), VM, "security.privileged", "true"),
    key!(Some("container-key-on-vm"), VM, "security.idmap.isolated", "true"),
    key!(Some("container-key-on-vm"), VM, "limits.processes", "100"),
    key!(Some("container-key-on-vm"), VM, "limits.cpu.allowance", "50%"),
    key!(Some("vm-key-on-container"), CONTAINER, "security.secureboot", "false"),
    key!(Some("vm-key-on-container"), CONTAINER, "raw.qemu", "-name x"),
    key!(None, CONTAINER, "security.nesting", "true"),
    key!(None, CONTAINER, "limits.processes", "100"),
    key!(None, CONTAINER, "limits.cpu.allowance", "50%"),
    key!(None, VM, "security.secureboot", "false"),
    key!(None, ANY, "limits.memory", "512MiB"),
    key!(None, ANY, "limits.cpu", "2"),
    key!(None, ANY, "boot.autostart", "true"),
    key!(None, ANY, "user.user-data", "#cloud-config"),
    key!(None, ANY, "cloud-init.user-data", "#cloud-config"),
    key!(Some("guest-api-of-lxd"), ANY, "security.devlxd", "false"),
    key!(Some("guest-api-of-incus"), ANY, "security.guestapi", "false"),
    key!(Some("config-cpu"), ANY, "limits.cpu", "some"),
    key!(Some("config-memory"), ANY, "limits.memory", "some"),
    key!(Some("config-memory"), ANY, "limits.memory", "1 MiB"),
    key!(Some("config-memory-zero"), ANY, "limits.memory", "0MiB"),
    key!(Some("config-processes"), CONTAINER, "limits.processes", "some"),
    key!(Some("config-swap"), CONTAINER, "limits.memory.swap", "100MiB"),
    key!(None, CONTAINER, "limits.memory.swap", "false"),
    key!(None, CONTAINER, "limits.kernel.nofile", "16384"),
    key!(None, CONTAINER, "security.idmap.isolated", "true"),
    key!(Some("config-idmap-base"), CONTAINER, "security.idmap.base", "some"),
    key!(None, CONTAINER, "security.idmap.base", "923729920"),
    Example { starts: true, ..key!(None, CONTAINER, "security.syscalls.deny", "ioctl errno 1 [1,0x5000940e,SCMP_CMP_MASKED_EQ,0xffffffff]") },
    key!(Some("config-boolean"), ANY, "boot.autostart", "perhaps"),
    key!(Some("config-boolean"), CONTAINER, "security.nesting", "perhaps"),
    key!(Some("config-evacuate"), ANY, "cluster.evacuate", "sometimes"),
    key!(None, ANY, "cluster.evacuate", "migrate"),

    Example { what: "an unknown type of device", rule: Some("device-type"), devices: &[("x", &[("type", "bogus")])], ..PLAIN },
    Example { what: "a NIC of the profile switched off", devices: &[("eth0", &[("type", "none")])], starts: true, ..PLAIN },
    Example { what: "something that is not there switched off", devices: &[("gpu", &[("type", "none")])], ..PLAIN },
    Example { what: "an option of nothing", rule: Some("none-option"), devices: &[("eth0", &[("type", "none"), ("network", "{bridge}")])], ..PLAIN },
    // Larger than the 10 GiB of a new virtual machine: a block volume cannot shrink.
    Example { what: "a root disk with a size", devices: &[("root", &[("type", "disk"), ("path", "/"), ("pool", "default"), ("size", "12GiB")])], ..PLAIN },
    Example { what: "a size that is none", rule: Some("disk-size"), devices: &[("root", &[("type", "disk"), ("path", "/"), ("pool", "default"), ("size", "big")])], ..PLAIN },
    Example { what: "a size of another disk", rule: Some("disk-size-not-root"), devices: &[("d", &[("type", "disk"), ("path", "/mnt"), ("source", "/tmp"), ("size", "1MiB")])], ..PLAIN },
    Example { what: "no root disk", rule: Some("root-missing"), bare: true, ..PLAIN },
    Example { what: "a pool that is not there", rule: Some("pool-missing"), devices: &[("root", &[("type", "disk"), ("path", "/"), ("pool", "conformance-missing")])], ..PLAIN },

    proxy!(Some("proxy-address"), "an open port range", "nat" => "true", "listen" => "tcp:{host}:1-", "connect" => "tcp:{static}:1"),
    proxy!(Some("proxy-address"), "an unknown protocol", "nat" => "true", "listen" => "sctp:{host}:{port}", "connect" => "tcp:{static}:1"),
    proxy!(Some("proxy-address"), "no port", "nat" => "true", "listen" => "tcp:{host}", "connect" => "tcp:{static}:1"),
    proxy!(Some("proxy-address"), "nowhere to connect to", "nat" => "true", "listen" => "tcp:{host}:{port}"),
    proxy!(Some("proxy-address"), "a range of one port", "nat" => "true", "listen" => "tcp:{host}:31001-31001", "connect" => "tcp:{static}:1"),
    proxy!(Some("proxy-bind"), "an unknown side", "nat" => "true", "bind" => "moon", "listen" => "tcp:{host}:{port}", "connect" => "tcp:{static}:1"),
    proxy!(Some("proxy-option"), "an unknown option", "nat" => "true", "bogus" => "1", "listen" => "tcp:{host}:{port}", "connect" => "tcp:{static}:1"),
    proxy!(Some("proxy-vm-without-nat"), "no NAT", "listen" => "tcp:{host}:{port}", "connect" => "tcp:127.0.0.1:22"),
    proxy!(Some("proxy-vm-without-nat"), "NAT switched off", "nat" => "false", "bind" => "host", "listen" => "tcp:{host}:{port}", "connect" => "tcp:127.0.0.1:22"),
    proxy!(Some("proxy-port-counts"), "fewer ports to listen on than to connect to", "nat" => "true", "listen" => "tcp:{host}:31001-31002", "connect" => "tcp:{static}:1-3"),
    proxy!(None, "many ports that lead to one", "nat" => "true", "listen" => "tcp:{host}:31001-31003", "connect" => "tcp:{static}:22"),
    proxy!(Some("proxy-protocol-header"), "the PROXY header with NAT", "nat" => "true", "proxy_protocol" => "true", "listen" => "tcp:{host}:{port}", "connect" => "tcp:{static}:1"),
    proxy!(Some("proxy-socket-owner"), "a mode of a port", "nat" => "true", "mode" => "0600", "listen" => "tcp:{host}:{port}", "connect" => "tcp:{static}:1"),
    proxy!(Some("proxy-nat-bound-inside"), "NAT bound inside", "nat" => "true", "bind" => "instance", "listen" => "tcp:{host}:{port}", "connect" => "tcp:{static}:1"),
    proxy!(Some("proxy-nat-protocols"), "TCP to UDP", "nat" => "true", "listen" => "tcp:{host}:{port}", "connect" => "udp:{static}:1"),
    proxy!(Some("proxy-nat-protocols"), "a socket to TCP", "nat" => "true", "listen" => "unix:/tmp/x", "connect" => "tcp:{static}:1"),
    proxy!(None, "UDP by NAT", "nat" => "true", "listen" => "udp:{host}:{port}", "connect" => "udp:{static}:1"),
    proxy!(Some("proxy-nat-wildcard"), "NAT on all addresses", "nat" => "true", "listen" => "tcp:0.0.0.0:{port}", "connect" => "tcp:{static}:1"),
    proxy!(Some("proxy-nat-wildcard"), "NAT on all addresses of version 6", "nat" => "true", "listen" => "tcp:[::]:{port}", "connect" => "tcp:[fd00::1]:1"),
    proxy!(Some("proxy-nat-ip-versions"), "NAT from version 6 to version 4", "nat" => "true", "listen" => "tcp:[::1]:{port}", "connect" => "tcp:{static}:1"),
    proxy!(Some("proxy-nat-connect-address"), "NAT to the loopback", "nat" => "true", "listen" => "tcp:{host}:{port}", "connect" => "tcp:127.0.0.1:22"),
    proxy!(Some("proxy-nat-connect-address"), "NAT to another address", "nat" => "true", "listen" => "tcp:{host}:{port}", "connect" => "tcp:192.0.2.9:22"),
    Example { what: "NAT to any address without a static one", rule: Some("proxy-nat-without-address"), devices: &[("p", &[("type", "proxy"), ("nat", "true"), ("listen", "tcp:{host}:{port}"), ("connect", "tcp:0.0.0.0:22")])], ..PLAIN },

    Example { what: "a network that is not there", rule: Some("nic-network-missing"), devices: &[("eth0", &[("type", "nic"), ("name", "eth0"), ("network", "missing0")])], ..PLAIN },
    nic!(Some("nic-conflicting-options"), "a network and a parent", "parent" => "{bridge}"),
    nic!(Some("nic-conflicting-options"), "a network and an MTU", "mtu" => "1400"),
    nic!(Some("nic-address-outside-subnet"), "an address of another network", "ipv4.address" => "192.0.2.7"),
    nic!(Some("nic-address-outside-subnet"), "an address that is none", "ipv4.address" => "soon"),
    nic!(Some("nic-address-of-bridge"), "the bridge's address", "ipv4.address" => "{gateway}"),
    nic!(Some("nic-ipv6-without-dhcp"), "an address of version 6", "ipv6.address" => "fd00::7"),
    Example { bridge: &[("ipv4.dhcp", "false")], ..nic!(Some("nic-ipv4-without-dhcp"), "a static address without DHCP", "ipv4.address" => "{static}") },
    nic!(Some("nic-filtering-with-vlan"), "filtering with a VLAN", "security.ipv4_filtering" => "true", "vlan" => "7"),
    nic!(Some("nic-acls"), "the default action of ACLs", "security.acls.default.ingress.action" => "drop"),
    nic!(Some("nic-acls"), "a limit's priority", "limits.priority" => "1"),
    nic!(Some("nic-option"), "an unknown option", "bogus" => "1"),
    nic!(Some("nic-isolation"), "isolation that is neither on nor off", "security.port_isolation" => "perhaps"),
    nic!(None, "filters", "security.mac_filtering" => "true", "security.port_isolation" => "true"),
    nic!(None, "all filters", "security.ipv4_filtering" => "true", "security.ipv6_filtering" => "true", "security.mac_filtering" => "true", "security.port_isolation" => "true"),
    nic!(None, "a static address", "ipv4.address" => "{static}"),
    Example { twin: true, ..nic!(Some("nic-address-taken"), "an address that another instance has", "ipv4.address" => "{static}") },
    Example { twin: true, bridge: &[("dns.mode", "managed")], ..nic!(Some("nic-name-taken"), "a name that another instance has", "security.mac_filtering" => "false") },
    Example { twin: true, starts: true, ..nic!(None, "a name that another instance has, where names are not served", "security.mac_filtering" => "false") },
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Refused(When, String),
}

/// The way in which an example is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Created,
    CreatedAndStarted,
    Changed,
}

/// A server under test.
struct Tested {
    api: Api,
    server: Server,
    /// Which types can run there.
    virtual_machines: bool,
    host: String,
    bridge: String,
    gateway: Ipv4Addr,
    /// The alias of an image that containers boot from.
    image: String,
    project: String,
    twins: String,
}

impl Tested {
    /// Enrols, and makes what the examples need.
    async fn new(url: &str, token: &str) -> Self {
        let (api, client) = Api::enrol_both(url, token).await;
        let info = client.server().await.expect("a description");
        let server = if info.environment.server == "incus" { Server::Incus } else { Server::Lxd };
        let profile = api.read("/1.0/profiles/default").await;
        let bridge =
            profile["devices"]["eth0"]["network"].as_str().expect("a NIC on a managed bridge").to_owned();
        let network = api.read(&format!("/1.0/networks/{bridge}")).await;
        let subnet = network["config"]["ipv4.address"].as_str().expect("an IPv4 network");
        let gateway = subnet.split('/').next().expect("a part").parse().expect("an address");
        let tag = format!("{:08x}", rand::random::<u32>());
        let (project, twins) = (format!("conformance-{tag}"), format!("conformance-{tag}-twins"));
        for name in [&project, &twins] {
            make_project(&api, name, &[]).await;
        }
        let image = format!("conformance-{tag}");
        upload(&client, &image).await;
        let host = url.parse::<url::Url>().expect("a URL").host_str().expect("a host").to_owned();
        let virtual_machines = info.runs_virtual_machines();
        Self { api, server, virtual_machines, host, bridge, gateway, image, project, twins }
    }

    async fn set_bridge(&self, config: &[(&str, &str)]) {
        if config.is_empty() {
            return;
        }
        let config: serde_json::Map<_, _> = config.iter().map(|&(k, v)| (k.to_owned(), json!(v))).collect();
        let path = format!("/1.0/networks/{}", self.bridge);
        // The bridge's dnsmasq is started anew, and now and then before the old one has let go of its port.
        until("the bridge is changed", async || {
            self.api.change("PATCH", &path, json!({"config": config})).await.is_ok()
        })
        .await;
    }

    fn static_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.gateway) + 6)
    }

    fn fill(&self, value: &str) -> String {
        value
            .replace("{host}", &self.host)
            .replace("{bridge}", &self.bridge)
            .replace("{gateway}", &self.gateway.to_string())
            .replace("{static}", &self.static_address().to_string())
            .replace("{port}", &free_port().to_string())
    }

    fn body(&self, example: &Example, kind: Kind, name: &str) -> Value {
        let map = |pairs: &[(&str, &str)]| -> Value {
            pairs
                .iter()
                .map(|&(key, value)| (key.to_owned(), json!(self.fill(value))))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let mut devices = serde_json::Map::new();
        if !example.bare {
            devices.insert("root".into(), json!({"type": "disk", "path": "/", "pool": "default"}));
        }
        let own: serde_json::Map<_, _> =
            example.devices.iter().map(|&(name, options)| (name.to_owned(), map(options))).collect();
        devices.extend(own);
        let source = match kind {
            Kind::Container => json!({"type": "image", "alias": self.image}),
            Kind::VirtualMachine => json!({"type": "none"}),
        };
        let profiles: &[&str] = if example.bare { &[] } else { &["default"] };
        json!({
            "name": name, "type": kind, "source": source, "config": map(example.config), "devices": devices,
            "profiles": profiles,
        })
    }

    /// The server's answer to an example, as a new instance or as a change of a stopped one.
    async fn judge(&self, example: &Example, kind: Kind, how: How) -> Verdict {
        let own = format!("{}-own", self.project);
        let project = if example.project.is_empty() { &self.project } else { &own };
        if project == &own {
            make_project(&self.api, &own, example.project).await;
        }
        if example.twin {
            let twin = Example { config: &[], ..*example };
            self.create(&self.twins, &twin, kind).await.expect("the twin is created");
        }
        self.set_bridge(example.bridge).await;
        let first = if how == How::Changed { &PLAIN } else { example };
        let verdict = match self.create(project, first, kind).await {
            Err(refused) => refused,
            Ok(()) if how == How::Changed => self.change(project, example, kind).await,
            Ok(()) if how == How::CreatedAndStarted => self.start(project).await,
            Ok(()) => Verdict::Accepted,
        };
        self.remove(project).await;
        if example.twin {
            self.remove(&self.twins).await;
        }
        let before: Vec<_> = example.bridge.iter().map(|&(key, _)| (key, default_of(key))).collect();
        self.set_bridge(&before).await;
        if project == &own {
            self.api
                .change("DELETE", &format!("/1.0/projects/{own}"), Value::Null)
                .await
                .expect("it is empty");
        }
        verdict
    }

    async fn create(&self, project: &str, example: &Example, kind: Kind) -> Result<(), Verdict> {
        let path = format!("/1.0/instances?project={project}");
        let body = self.body(example, kind, NAME);
        let (status, answer) = self.api.call("POST", &path, body).await.expect("an answer");
        if status != 202 {
            let text = answer["error"].as_str().unwrap_or_default().to_owned();
            return Err(Verdict::Refused(When::Request, text));
        }
        let end = self.api.end_of(&answer).await;
        end.map_err(|text| Verdict::Refused(When::Creation, text))
    }

    async fn change(&self, project: &str, example: &Example, kind: Kind) -> Verdict {
        let path = format!("/1.0/instances/{NAME}?project={project}");
        let whole = self.body(example, kind, NAME);
        let body = json!({"config": whole["config"], "devices": whole["devices"]});
        match self.api.change("PATCH", &path, body).await {
            Ok(()) => Verdict::Accepted,
            Err(text) => Verdict::Refused(When::Creation, text),
        }
    }

    async fn start(&self, project: &str) -> Verdict {
        let path = format!("/1.0/instances/{NAME}/state?project={project}");
        match self.api.change("PUT", &path, json!({"action": "start", "timeout": 60})).await {
            Ok(()) => Verdict::Accepted,
            Err(text) => Verdict::Refused(When::Start, text),
        }
    }

    /// Removes the instance, if there is one.
    async fn remove(&self, project: &str) {
        let path = format!("/1.0/instances/{NAME}?project={project}");
        let state = format!("/1.0/instances/{NAME}/state?project={project}");
        // For a moment after a start that failed Incus has the instance running, and stopped, and running.
        until("the instance is gone", async || {
            if self.api.get(&path).await.0 == 404 {
                return true;
            }
            // Most are stopped already, and say so.
            self.api
                .change("PUT", &state, json!({"action": "stop", "force": true, "timeout": 30}))
                .await
                .ok();
            self.api.change("DELETE", &path, Value::Null).await.ok();
            false
        })
        .await;
    }

    async fn close(self) {
        for project in [&self.project, &self.twins] {
            let path = format!("/1.0/projects/{project}");
            self.api.change("DELETE", &path, Value::Null).await.expect("it is empty");
        }
        let image = self.api.read(&format!("/1.0/images/aliases/{}", self.image)).await;
        let fingerprint = image["target"].as_str().expect("a fingerprint");
        self.api.change("DELETE", &format!("/1.0/images/{fingerprint}"), Value::Null).await.expect("deleted");
    }
}

/// The instance's name, which is the same in all projects, as environments' is.
const NAME: &str = "conformance";

/// The bridge's configuration after an example that changes it.
fn default_of(key: &str) -> &'static str {
    match key {
        "dns.mode" => "none",
        _ => "",
    }
}

/// A project that uses the images, profiles and networks of `default`, unless its configuration says otherwise.
async fn make_project(api: &Api, name: &str, config: &[(&str, &str)]) {
    let restricted = config.contains(&("restricted", "true"));
    let features = ["images", "profiles", "networks", "storage.volumes"];
    // A restricted project must have profiles of its own.
    let own = |feature| (restricted && feature == "profiles").to_string();
    let mut all: serde_json::Map<_, _> =
        features.iter().map(|&feature| (format!("features.{feature}"), json!(own(feature)))).collect();
    all.extend(config.iter().map(|&(key, value)| (key.to_owned(), json!(value))));
    let body = json!({"name": name, "config": all});
    api.change("POST", "/1.0/projects", body).await.expect("a project");
}

async fn upload(client: &Client, alias: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, _) = tarball(dir.path(), "image.tar", &["metadata.yaml", "rootfs"], true);
    let image = client.upload_image("default", &ImageFiles::Unified(path), LONG).await.expect("uploaded");
    client.create_image_alias("default", alias, &image).await.expect("an alias");
}

/// The table's answer to an example.
fn expected<'a>(example: &Example, server: Server, kind: Kind) -> Option<&'a Rule> {
    let rule = example.rule?;
    let rule = rules().iter().find(|r| r.name == rule).unwrap_or_else(|| panic!("no rule {rule:?}"));
    (rule.servers.contains(&server) && rule.kinds.contains(&kind)).then_some(rule)
}

/// Runs the whole table on a server; all that differs is in one report.
async fn suite(what: &str, url: &str, token: &str) {
    let tested = Tested::new(url, token).await;
    tested.set_bridge(&[("dns.mode", "none")]).await;
    let (mut cells, mut report) = (0, String::new());
    if !tested.virtual_machines {
        cells += 1;
        let verdict = tested.judge(&PLAIN, Kind::VirtualMachine, How::Created).await;
        let rule = rules().iter().find(|r| r.name == "type-not-supported").expect("a rule");
        if !fits(&verdict, Some(rule), How::Created) {
            writeln!(report, "a virtual machine where there can be none: {verdict:?}").expect("a string");
        }
        skip(&format!("rules for virtual machines on {what}"), "the server cannot run any");
    }
    for example in EXAMPLES {
        for &kind in example.kinds {
            if kind == Kind::VirtualMachine && !tested.virtual_machines {
                continue;
            }
            let rule = expected(example, tested.server, kind);
            let start = example.starts || rule.is_some_and(|rule| rule.when.is_start());
            let created = if start { How::CreatedAndStarted } else { How::Created };
            // A change cannot take what a profile gives, nor the instance to another project.
            let changed = (!example.bare && example.project.is_empty()).then_some(How::Changed);
            for how in [Some(created), changed].into_iter().flatten() {
                cells += 1;
                let verdict = tested.judge(example, kind, how).await;
                if !fits(&verdict, rule, how) {
                    let wanted =
                        rule.map_or("accepted".into(), |r| format!("{:?} {:?} ({})", r.when, r.says, r.name));
                    writeln!(report, "{}, {kind:?}, {how:?}: {verdict:?}, not {wanted}", example.what)
                        .expect("a string");
                }
            }
        }
    }
    tested.close().await;
    assert!(report.is_empty(), "{what} differs from the table:\n{report}");
    figure(&format!("rules on {what}: {cells} cells as in the table"));
}

fn fits(verdict: &Verdict, rule: Option<&Rule>, how: How) -> bool {
    let Some(rule) = rule else { return *verdict == Verdict::Accepted };
    match (how, verdict) {
        (How::Changed, Verdict::Accepted) => rule.when == When::Start,
        // Of a change the servers say these in other words.
        (How::Changed, Verdict::Refused(_, text)) => {
            rule.when != When::Start
                && (text.contains(rule.says) || ["device-type", "pool-missing"].contains(&rule.name))
        }
        (_, Verdict::Refused(when, text)) => {
            let in_time = *when == rule.when || (*when == When::Start && rule.when.is_start());
            in_time && text.contains(rule.says)
        }
        (_, Verdict::Accepted) => false,
    }
}

/// Says that something did not run; `tests/run` shows it again.
fn skip(what: &str, why: &str) {
    eprintln!("skipped: {what}: {why}");
    append("TESTBED_SKIPS", &format!("{what}: {why}"));
}

/// Tells `tests/run` what to show at its end.
fn figure(line: &str) {
    println!("{line}");
    append("TESTBED_FIGURES", line);
}

fn append(variable: &str, line: &str) {
    use std::io::Write as _;
    if let Some(path) = std::env::var_os(variable) {
        let file = std::fs::File::options().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())).expect("written");
    }
}

async fn simulated(server: Server, virtual_machines: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = SimRemoteConfig {
        server,
        virtual_machines,
        ..SimRemoteConfig::new(dir.path(), support::program("true"))
    };
    let remote = SimRemote::start(config).await.expect("a remote");
    let what = if virtual_machines { "" } else { ", without virtual machines" };
    suite(&format!("simulated {server:?}{what}"), &remote.url(), &remote.token("rules")).await;
    remote.stop().await;
}

#[tokio::test]
async fn simulated_lxd() {
    simulated(Server::Lxd, true).await;
}

#[tokio::test]
async fn simulated_incus() {
    simulated(Server::Incus, true).await;
}

#[tokio::test]
async fn simulated_without_virtual_machines() {
    simulated(Server::Lxd, false).await;
}

#[tokio::test]
async fn lxd() {
    real("LXD").await;
}

#[tokio::test]
async fn incus() {
    real("INCUS").await;
}

async fn real(kind: &str) {
    let (url, file) = (format!("{kind}_URL"), format!("{kind}_TOKEN_FILE"));
    let (Ok(url), Ok(file)) = (std::env::var(url), std::env::var(file)) else {
        eprintln!("skipped: {kind}_URL and {kind}_TOKEN_FILE do not name a server");
        return;
    };
    assert!(
        Path::new("/bin/busybox").exists(),
        "containers boot from a static /bin/busybox: install busybox-static"
    );
    let token = std::fs::read_to_string(file).expect("the token file");
    suite(&format!("a real {kind} server"), &url, &token).await;
}

#[test]
fn every_rule_has_an_example() {
    let examples: BTreeSet<_> = EXAMPLES.iter().filter_map(|example| example.rule).collect();
    // This one is tried where there are no virtual machines.
    let without: Vec<_> = rules()
        .iter()
        .map(|r| r.name)
        .filter(|n| !examples.contains(n) && *n != "type-not-supported")
        .collect();
    assert!(without.is_empty(), "{without:?}");
    for rule in rules() {
        let first = rules().iter().find(|r| r.name == rule.name).expect("itself");
        assert!(std::ptr::eq(first, rule), "two rules {:?}", rule.name);
    }
}
