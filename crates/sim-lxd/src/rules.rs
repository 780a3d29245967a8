//! The table of what servers refuse, and when, from the source of LXD 5.0.2 and Incus 6.0.4.
//!
//! `tests/rules.rs` has an example for every rule, and checks this remote and both real servers against the table.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use serde::Serialize;

use crate::{
    instance::{ConfigMap, DeviceMap},
    model::POOL,
    proxy::{self, End, Protocol, is_true},
    remote::Server,
};

/// Container or virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A system container.
    Container,
    /// A virtual machine.
    VirtualMachine,
}

/// The moment at which a server refuses an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum When {
    /// The request to create it fails; no operation begins.
    Request,
    /// The operation that creates it fails.
    Creation,
    /// It is created, and the operation that starts it fails. A stopped instance can be changed to break the rule.
    Start,
    /// It is created, and the operation that starts it fails. An instance cannot be changed to break the rule.
    StartOrChange,
}

impl When {
    /// Returns whether the rule is checked when an instance starts.
    pub fn is_start(self) -> bool {
        matches!(self, Self::Start | Self::StartOrChange)
    }
}

/// Something that servers refuse.
#[derive(Debug)]
pub struct Rule {
    /// Name of the rule in tests and reports.
    pub name: &'static str,
    /// File and function in LXD's source, tag `lxd-5.0.2`. In Incus, tag `v6.0.4`, the file is below `internal/server` or `internal`
    /// instead of `lxd` or `shared`.
    pub source: &'static str,
    /// The servers that have the rule.
    pub servers: &'static [Server],
    /// The types of instance that it applies to.
    pub kinds: &'static [Kind],
    /// The moment of the refusal.
    pub when: When,
    /// A part of the server's error text.
    pub says: &'static str,
    /// Finds violations.
    finds: Finds,
}

/// The objects that a rule checks. Each function returns the server's error text for a violation.
#[derive(Debug)]
enum Finds {
    /// The instance as a whole.
    Instance(fn(&Subject<'_>) -> Option<String>),
    /// Each key of its configuration, with its value.
    Key(fn(&Subject<'_>, &str, &str) -> Option<String>),
    /// Each of its proxy devices.
    Proxy(fn(&Subject<'_>, &ProxyDevice<'_>) -> Option<String>),
    /// Each of its NICs.
    Nic(fn(&Subject<'_>, &ConfigMap) -> Option<String>),
    /// Each of its devices.
    Device(fn(&Subject<'_>, &ConfigMap) -> Option<String>),
}

/// An instance that is to be created, changed or started, with its context.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) server: Server,
    /// True if the server can run virtual machines.
    pub(crate) virtual_machines: bool,
    pub(crate) kind: Kind,
    pub(crate) name: &'a str,
    pub(crate) project: &'a str,
    pub(crate) project_config: &'a ConfigMap,
    pub(crate) config: &'a ConfigMap,
    /// Its own devices.
    pub(crate) devices: &'a DeviceMap,
    /// Its own devices, and those of its profiles.
    pub(crate) expanded: &'a DeviceMap,
    /// The bridges that its project can see.
    pub(crate) networks: &'a BTreeMap<String, ConfigMap>,
    /// The other instances of its member, by name, with all their devices.
    pub(crate) neighbours: &'a [(String, DeviceMap)],
}

/// A proxy device, with its ends parsed if possible.
struct ProxyDevice<'a> {
    options: &'a ConfigMap,
    listen: Result<End, String>,
    connect: Result<End, String>,
}

impl ProxyDevice<'_> {
    fn option(&self, key: &str) -> &str {
        option(self.options, key)
    }

    fn nat(&self) -> bool {
        proxy::is_nat(self.options)
    }

    /// Both ends, if both can be parsed.
    fn ends(&self) -> Option<(&End, &End)> {
        Some((self.listen.as_ref().ok()?, self.connect.as_ref().ok()?))
    }
}

fn option<'a>(options: &'a ConfigMap, key: &str) -> &'a str {
    options.get(key).map_or("", String::as_str)
}

const BOTH: &[Server] = &[Server::Lxd, Server::Incus];
const LXD: &[Server] = &[Server::Lxd];
const INCUS: &[Server] = &[Server::Incus];
const ANY: &[Kind] = &[Kind::Container, Kind::VirtualMachine];
const CONTAINER: &[Kind] = &[Kind::Container];
const VM: &[Kind] = &[Kind::VirtualMachine];

/// All rules, in the order in which they are applied.
pub fn rules() -> &'static [Rule] {
    RULES
}

static RULES: &[Rule] = &[
    Rule {
        name: "restricted-nesting",
        source: "lxd/project/permissions.go checkRestrictions",
        servers: BOTH,
        kinds: CONTAINER,
        when: When::Request,
        says: "Container nesting is forbidden",
        finds: Finds::Key(|subject, key, value| {
            let nested = key == "security.nesting" && is_true(value);
            (nested && subject.restricts("restricted.containers.nesting"))
                .then(|| "Container nesting is forbidden".into())
        }),
    },
    Rule {
        name: "restricted-privileged",
        source: "lxd/project/permissions.go checkRestrictions",
        servers: BOTH,
        kinds: CONTAINER,
        when: When::Request,
        says: "Privileged containers are forbidden",
        finds: Finds::Key(|subject, key, value| {
            let privileged = key == "security.privileged" && is_true(value);
            (privileged && subject.restricts("restricted.containers.privilege"))
                .then(|| "Privileged containers are forbidden".into())
        }),
    },
    Rule {
        name: "restricted-low-level",
        source: "lxd/project/permissions.go checkRestrictions",
        // Incus 6.0.4 loses the type of the new instance (AllowInstanceCreation), and checks a virtual machine as a container.
        servers: LXD,
        kinds: VM,
        when: When::Request,
        says: "Use of low-level config",
        finds: Finds::Key(|subject, key, _| {
            let low = key.starts_with("raw.") && key != "raw.idmap";
            let (name, project) = (subject.name, subject.project);
            (low && subject.restricts("restricted.virtual-machines.lowlevel")).then(|| {
                format!(
                    "Use of low-level config {key:?} on virtual-machine {name:?} of project {project:?} is forbidden"
                )
            })
        }),
    },
    Rule {
        name: "restricted-proxy",
        source: "lxd/project/permissions.go checkRestrictions",
        servers: BOTH,
        kinds: ANY,
        when: When::Request,
        says: "Proxy devices are forbidden",
        finds: Finds::Proxy(|subject, _| {
            subject.restricts("restricted.devices.proxy").then(|| "Proxy devices are forbidden".into())
        }),
    },
    Rule {
        name: "type-not-supported",
        source: "lxd/instance/instance_utils.go CreateInternal",
        servers: BOTH,
        kinds: VM,
        when: When::Creation,
        says: "is not supported on this server",
        finds: Finds::Instance(|subject| {
            (!subject.virtual_machines).then(|| {
                "Instance type \"virtual-machine\" is not supported on this server: KVM support is missing \
                 (no /dev/kvm)"
                    .into()
            })
        }),
    },
    Rule {
        name: "config-key-unknown",
        source: "shared/instance.go ConfigKeyChecker",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Unknown configuration key",
        finds: Finds::Key(|_, key, _| {
            (key_kind(key) == KeyKind::Unknown).then(|| format!("Unknown configuration key: {key}"))
        }),
    },
    Rule {
        name: "guest-api-of-incus",
        source: "shared/instance.go InstanceConfigKeysAny",
        servers: LXD,
        kinds: ANY,
        when: When::Creation,
        says: "Unknown configuration key",
        finds: Finds::Key(|_, key, _| {
            (key == "security.guestapi").then(|| format!("Unknown configuration key: {key}"))
        }),
    },
    Rule {
        name: "guest-api-of-lxd",
        source: "internal/instance/config.go InstanceConfigKeysAny (Incus)",
        servers: INCUS,
        kinds: ANY,
        when: When::Creation,
        says: "Unknown configuration key",
        finds: Finds::Key(|_, key, _| {
            (key == "security.devlxd").then(|| format!("Unknown configuration key: {key}"))
        }),
    },
    Rule {
        name: "container-key-on-vm",
        source: "shared/instance.go ConfigKeyChecker",
        servers: LXD,
        kinds: VM,
        when: When::Creation,
        says: "Unknown configuration key",
        finds: Finds::Key(|_, key, _| {
            (key_kind(key) == KeyKind::Container).then(|| format!("Unknown configuration key: {key}"))
        }),
    },
    Rule {
        name: "vm-key-on-container",
        source: "shared/instance.go ConfigKeyChecker",
        servers: BOTH,
        kinds: CONTAINER,
        when: When::Creation,
        says: "Unknown configuration key",
        finds: Finds::Key(|_, key, _| {
            (key_kind(key) == KeyKind::VirtualMachine).then(|| format!("Unknown configuration key: {key}"))
        }),
    },
    Rule {
        name: "config-boolean",
        source: "shared/validate/validate.go IsBool",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid value for a boolean",
        finds: Finds::Key(|_, key, value| {
            let wrong = BOOLEANS.contains(&key) && !value.is_empty() && !is_boolean(value);
            wrong.then(|| format!("Invalid value for a boolean {value:?}"))
        }),
    },
    Rule {
        name: "config-cpu",
        source: "shared/validate/validate.go IsValidCPUSet",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid CPU limit syntax",
        finds: Finds::Key(|_, key, value| {
            let digits = |c: char| c.is_ascii_digit() || matches!(c, ',' | '-');
            (key == "limits.cpu" && !value.chars().all(digits)).then(|| "Invalid CPU limit syntax".into())
        }),
    },
    Rule {
        name: "config-memory",
        source: "shared/instance.go InstanceConfigKeysAny; shared/units/units.go ParseByteSizeString",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid value: ",
        finds: Finds::Key(|_, key, value| {
            let wrong = key == "limits.memory" && !value.ends_with('%') && !is_size(value);
            wrong.then(|| format!("Invalid value: {value}"))
        }),
    },
    Rule {
        name: "config-memory-zero",
        source: "shared/instance.go InstanceConfigKeysAny",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Memory limit can't be 0",
        finds: Finds::Key(|_, key, value| {
            let zero = value.trim_end_matches(|c: char| !c.is_ascii_digit()).parse() == Ok(0_u64);
            (key == "limits.memory" && zero).then(|| "Memory limit can't be 0".into())
        }),
    },
    Rule {
        name: "config-processes",
        source: "shared/validate/validate.go IsInt64",
        servers: BOTH,
        kinds: CONTAINER,
        when: When::Creation,
        says: "Invalid value for an integer",
        finds: Finds::Key(|_, key, value| {
            let wrong = key == "limits.processes" && !value.is_empty() && value.parse::<i64>().is_err();
            wrong.then(|| format!("Invalid value for an integer {value:?}"))
        }),
    },
    Rule {
        name: "config-idmap-base",
        source: "shared/validate/validate.go IsUint32",
        servers: BOTH,
        kinds: CONTAINER,
        when: When::Creation,
        says: "Invalid value for uint32",
        finds: Finds::Key(|_, key, value| {
            let wrong = key == "security.idmap.base" && !value.is_empty() && value.parse::<u32>().is_err();
            wrong.then(|| format!("Invalid value for uint32 {value:?}: invalid syntax"))
        }),
    },
    Rule {
        name: "config-swap",
        source: "shared/instance.go InstanceConfigKeysContainer",
        // Incus takes sizes as well.
        servers: LXD,
        kinds: CONTAINER,
        when: When::Creation,
        says: "Invalid value for a boolean",
        finds: Finds::Key(|_, key, value| {
            let wrong = key == "limits.memory.swap" && !value.is_empty() && !is_boolean(value);
            wrong.then(|| format!("Invalid value for a boolean {value:?}"))
        }),
    },
    Rule {
        name: "config-evacuate",
        source: "shared/instance.go InstanceConfigKeysAny",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid value",
        finds: Finds::Key(|_, key, value| {
            let known = ["", "auto", "migrate", "live-migrate", "stop"];
            let wrong = key == "cluster.evacuate" && !known.contains(&value);
            wrong.then(|| format!("Invalid value {value:?} (not one of {:?})", &known[1..]))
        }),
    },
    Rule {
        name: "device-type",
        source: "lxd/device/device_load.go newByType",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid device type",
        finds: Finds::Device(|_, options| {
            let known = ["disk", "gpu", "infiniband", "nic", "none", "pci", "proxy", "tpm"];
            let known = known.iter().chain(&["unix-block", "unix-char", "unix-hotplug", "usb"]);
            let kind = option(options, "type");
            (!known.clone().any(|k| *k == kind)).then(|| format!("Invalid device type {kind}"))
        }),
    },
    Rule {
        name: "none-option",
        source: "lxd/device/none.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid device option",
        finds: Finds::Device(|_, options| {
            (option(options, "type") == "none").then(|| unknown_option(options, &[])).flatten()
        }),
    },
    Rule {
        name: "disk-size",
        source: "lxd/device/disk.go validateConfig; shared/units/units.go ParseByteSizeString",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid value for device option \"size\"",
        finds: Finds::Device(|_, options| {
            let size = option(options, "size");
            let wrong = option(options, "type") == "disk" && !size.is_empty() && !is_size(size);
            wrong.then(|| format!("Invalid value for device option \"size\": Invalid value: {size}"))
        }),
    },
    Rule {
        name: "disk-size-not-root",
        source: "lxd/device/disk.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Only the root disk may have a size quota",
        finds: Finds::Device(|_, options| {
            let is = |key, value| option(options, key) == value;
            let wrong = is("type", "disk") && !is("path", "/") && !is("size", "");
            wrong.then(|| "Only the root disk may have a size quota".into())
        }),
    },
    Rule {
        name: "proxy-address",
        source: "lxd/device/device_utils_proxy.go ProxyParseAddr",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid value for device option",
        finds: Finds::Proxy(|_, device| {
            let wrong = |key, end: &Result<End, String>| {
                let text = if device.option(key).is_empty() {
                    "Required value".to_owned()
                } else {
                    end.as_ref().err()?.clone()
                };
                Some(format!("Invalid value for device option {key:?}: {text}"))
            };
            wrong("listen", &device.listen).or_else(|| wrong("connect", &device.connect))
        }),
    },
    Rule {
        name: "proxy-bind",
        source: "lxd/device/proxy.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid binding side given",
        finds: Finds::Proxy(|_, device| {
            let known = ["", "host", "instance", "guest", "container"];
            (!known.contains(&device.option("bind"))).then(|| {
                "Invalid value for device option \"bind\": Invalid binding side given. Must be \"host\" or \"instance\""
                    .into()
            })
        }),
    },
    Rule {
        name: "proxy-option",
        source: "lxd/device/config/devices.go Validate",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid device option",
        finds: Finds::Proxy(|_, device| unknown_option(device.options, PROXY_OPTIONS)),
    },
    Rule {
        name: "proxy-vm-without-nat",
        source: "lxd/device/proxy.go validateConfig",
        servers: BOTH,
        kinds: VM,
        when: When::Creation,
        says: "Only NAT mode is supported for proxies on VM instances",
        finds: Finds::Proxy(|_, device| {
            (!device.nat()).then(|| "Only NAT mode is supported for proxies on VM instances".into())
        }),
    },
    Rule {
        name: "proxy-port-counts",
        source: "lxd/device/proxy.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Mismatch between listen port(s) and connect port(s) count",
        finds: Finds::Proxy(|_, device| {
            let (listen, connect) = device.ends()?;
            let allowed = if listen.protocol == Protocol::Unix { 1 } else { listen.ports.len() };
            (connect.ports.len() > allowed)
                .then(|| "Mismatch between listen port(s) and connect port(s) count".into())
        }),
    },
    Rule {
        name: "proxy-protocol-header",
        source: "lxd/device/proxy.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "The PROXY header can only be sent to tcp servers in non-nat mode",
        finds: Finds::Proxy(|_, device| {
            let to_tcp = device.connect.as_ref().is_ok_and(|end| end.protocol == Protocol::Tcp);
            (is_true(device.option("proxy_protocol")) && (!to_tcp || device.nat()))
                .then(|| "The PROXY header can only be sent to tcp servers in non-nat mode".into())
        }),
    },
    Rule {
        name: "proxy-socket-owner",
        source: "lxd/device/proxy.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Only proxy devices for non-abstract unix sockets can carry uid, gid, or mode properties",
        finds: Finds::Proxy(|_, device| {
            let is_file = device.option("listen").starts_with("unix:")
                && !device.option("listen").starts_with("unix:@");
            let owned = ["uid", "gid", "mode"].iter().any(|key| !device.option(key).is_empty());
            (owned && !is_file).then(|| {
                "Only proxy devices for non-abstract unix sockets can carry uid, gid, or mode properties"
                    .into()
            })
        }),
    },
    Rule {
        name: "proxy-nat-bound-inside",
        source: "lxd/device/proxy.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Only host-bound proxies can use NAT",
        finds: Finds::Proxy(|_, device| {
            (device.nat() && !["", "host"].contains(&device.option("bind")))
                .then(|| "Only host-bound proxies can use NAT".into())
        }),
    },
    Rule {
        name: "proxy-nat-protocols",
        source: "lxd/device/proxy.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "is not supported when using NAT",
        finds: Finds::Proxy(|_, device| {
            let (listen, connect) = device.ends()?;
            let (from, to) = (listen.protocol, connect.protocol);
            let wrong = from != to || from == Protocol::Unix;
            (device.nat() && wrong).then(|| {
                format!("Proxying {} <-> {} is not supported when using NAT", from.name(), to.name())
            })
        }),
    },
    Rule {
        name: "proxy-nat-wildcard",
        source: "lxd/device/proxy.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Cannot listen on wildcard address",
        finds: Finds::Proxy(|_, device| {
            let ip = device.listen.as_ref().ok()?.ip?;
            (device.nat() && ip.is_unspecified())
                .then(|| format!("Cannot listen on wildcard address \"{ip}\" when in nat mode"))
        }),
    },
    Rule {
        name: "proxy-nat-ip-versions",
        source: "lxd/device/proxy.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Cannot mix IP versions between listen and connect in nat mode",
        finds: Finds::Proxy(|_, device| {
            let (listen, connect) = device.ends()?;
            // Anything that is not an address counts as version 6.
            let is_v4 = |end: &End| end.ip.is_some_and(|ip| ip.is_ipv4());
            (device.nat() && is_v4(listen) != is_v4(connect))
                .then(|| "Cannot mix IP versions between listen and connect in nat mode".into())
        }),
    },
    Rule {
        name: "nic-isolation",
        source: "lxd/device/nic.go nicValidationRules",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid value for a boolean",
        finds: Finds::Nic(|_, nic| {
            // Of the filters both servers take anything, and what they do not know as no.
            let value = option(nic, "security.port_isolation");
            (!value.is_empty() && !is_boolean(value)).then(|| {
                format!(
                    "Invalid value for device option \"security.port_isolation\": Invalid value for a boolean {value:?}"
                )
            })
        }),
    },
    Rule {
        name: "nic-network-missing",
        source: "lxd/device/nictype/nictype.go NICType",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Network not found",
        finds: Finds::Nic(|subject, nic| {
            let network = option(nic, "network");
            (!network.is_empty() && !subject.networks.contains_key(network)).then(|| {
                format!(
                    "Failed to load network {network:?} for project {:?}: Network not found",
                    subject.project
                )
            })
        }),
    },
    Rule {
        name: "nic-conflicting-options",
        source: "lxd/device/nic_bridged.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "property in conjunction with",
        finds: Finds::Nic(|_, nic| {
            let banned = ["nictype", "parent", "mtu"].into_iter().find(|key| !option(nic, key).is_empty())?;
            (!option(nic, "network").is_empty())
                .then(|| format!("Cannot use {banned:?} property in conjunction with \"network\" property"))
        }),
    },
    Rule {
        name: "nic-address-outside-subnet",
        source: "lxd/device/nic_bridged.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "not within network",
        finds: Finds::Nic(|subject, nic| {
            let (network, bridge) = subject.bridge(nic)?;
            let address = option(nic, "ipv4.address");
            let subnet = Subnet::parse(option(bridge, "ipv4.address"))?;
            let is_in = address.parse().is_ok_and(|ip| subnet.has_host(ip));
            (!["", "none"].contains(&address) && !is_in)
                .then(|| format!("Device IP address {address:?} not within network {network:?} subnet"))
        }),
    },
    Rule {
        name: "nic-address-of-bridge",
        source: "lxd/device/nic_bridged.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "is assigned to parent managed network device",
        finds: Finds::Nic(|subject, nic| {
            let (network, bridge) = subject.bridge(nic)?;
            let address = option(nic, "ipv4.address").parse::<Ipv4Addr>().ok()?;
            let subnet = Subnet::parse(option(bridge, "ipv4.address"))?;
            (subnet.gateway == address).then(|| {
                format!("IP address \"{address}\" is assigned to parent managed network device {network:?}")
            })
        }),
    },
    Rule {
        name: "nic-ipv4-without-dhcp",
        source: "lxd/device/nic_bridged.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Cannot specify \"ipv4.address\" when DHCP is disabled",
        finds: Finds::Nic(|subject, nic| {
            let (network, bridge) = subject.bridge(nic)?;
            let dhcp = Subnet::parse(option(bridge, "ipv4.address")).is_some()
                && !["false", "0", "no", "off"].contains(&option(bridge, "ipv4.dhcp"));
            let filtered = is_true(option(nic, "security.ipv4_filtering"));
            (!option(nic, "ipv4.address").is_empty() && !dhcp && !filtered).then(|| {
                format!(
                    "Cannot specify \"ipv4.address\" when DHCP is disabled (unless using security.ipv4_filtering) on \
                     network {network:?}"
                )
            })
        }),
    },
    Rule {
        name: "nic-ipv6-without-dhcp",
        source: "lxd/device/nic_bridged.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Cannot specify \"ipv6.address\" when DHCP",
        finds: Finds::Nic(|subject, nic| {
            let (network, bridge) = subject.bridge(nic)?;
            let stateful = is_true(option(bridge, "ipv6.dhcp.stateful"));
            let dhcp = !["", "none"].contains(&option(bridge, "ipv6.address")) && stateful;
            let filtered = is_true(option(nic, "security.ipv6_filtering"));
            (!option(nic, "ipv6.address").is_empty() && !dhcp && !filtered).then(|| {
                format!(
                    "Cannot specify \"ipv6.address\" when DHCP or \"ipv6.dhcp.stateful\" are disabled (unless using \
                     security.ipv6_filtering) on network {network:?}"
                )
            })
        }),
    },
    Rule {
        name: "nic-filtering-with-vlan",
        source: "lxd/device/nic_bridged.go validateConfig",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "IP filtering cannot be used with VLAN filtering",
        finds: Finds::Nic(|_, nic| {
            let on = |key| is_true(option(nic, key));
            let filtered = on("security.ipv4_filtering") || on("security.ipv6_filtering");
            let tagged = ["vlan", "vlan.tagged"].iter().any(|key| !option(nic, key).is_empty());
            (filtered && tagged).then(|| "IP filtering cannot be used with VLAN filtering".into())
        }),
    },
    Rule {
        name: "nic-acls",
        source: "lxd/device/nic_bridged.go validateConfig",
        servers: LXD,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid device option",
        finds: Finds::Nic(|_, nic| {
            unknown_option(nic, &[NIC_OPTIONS, NIC_OPTIONS_OF_INCUS].concat())
                .is_none()
                .then(|| unknown_option(nic, NIC_OPTIONS))
                .flatten()
        }),
    },
    Rule {
        name: "nic-option",
        source: "lxd/device/config/devices.go Validate",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Invalid device option",
        finds: Finds::Nic(|_, nic| unknown_option(nic, &[NIC_OPTIONS, NIC_OPTIONS_OF_INCUS].concat())),
    },
    Rule {
        name: "root-missing",
        source: "lxd/instances_post.go instanceFindStoragePool; shared/instance.go GetRootDiskDevice",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "No root device could be found",
        finds: Finds::Instance(|subject| {
            subject.root().is_none().then(|| "Failed getting root disk: No root device could be found".into())
        }),
    },
    Rule {
        name: "pool-missing",
        source: "lxd/storage/load.go LoadByName",
        servers: BOTH,
        kinds: ANY,
        when: When::Creation,
        says: "Storage pool not found",
        finds: Finds::Instance(|subject| {
            let wrong = subject.root().is_some_and(|root| option(root, "pool") != POOL);
            wrong.then(|| "Failed loading storage pool: Storage pool not found".into())
        }),
    },
    Rule {
        name: "nic-address-taken",
        source: "lxd/device/nic_bridged.go checkAddressConflict",
        servers: BOTH,
        kinds: ANY,
        when: When::StartOrChange,
        says: "already defined on another NIC",
        finds: Finds::Nic(|subject, nic| {
            subject.on_same_network(nic).find_map(|(_, other)| {
                let same = |key| {
                    let ip: IpAddr = option(nic, key).parse().ok()?;
                    (option(other, key).parse() == Ok(ip)).then_some(ip)
                };
                let ip = same("ipv4.address").or_else(|| same("ipv6.address"))?;
                Some(format!("IP address \"{ip}\" already defined on another NIC"))
            })
        }),
    },
    Rule {
        name: "nic-name-taken",
        source: "lxd/device/nic_bridged.go checkAddressConflict",
        servers: BOTH,
        kinds: ANY,
        when: When::StartOrChange,
        says: "already used on network",
        finds: Finds::Nic(|subject, nic| {
            let (_, bridge) = subject.bridge(nic)?;
            let served = option(bridge, "dns.mode") != "none";
            let taken = subject.on_same_network(nic).any(|(name, _)| name.eq_ignore_ascii_case(subject.name));
            (served && taken).then(|| {
                format!("Instance DNS name {:?} already used on network", subject.name.to_lowercase())
            })
        }),
    },
    Rule {
        name: "proxy-nat-connect-address",
        source: "lxd/device/proxy.go setupNAT",
        servers: BOTH,
        kinds: ANY,
        when: When::Start,
        says: "must be one of the instance's static",
        finds: Finds::Proxy(|subject, device| {
            let ip = device.connect.as_ref().ok()?.ip?;
            let foreign = !ip.is_unspecified() && !static_addresses(subject.expanded).contains(&ip);
            let version = if ip.is_ipv4() { 4 } else { 6 };
            (device.nat() && foreign).then(|| {
                format!("Connect IP \"{ip}\" must be one of the instance's static IPv{version} addresses")
            })
        }),
    },
    Rule {
        name: "proxy-nat-without-address",
        source: "lxd/device/proxy.go setupNAT",
        servers: BOTH,
        kinds: ANY,
        when: When::Start,
        says: "assigned to be used as the connect IP",
        finds: Finds::Proxy(|subject, device| {
            let ip = device.connect.as_ref().ok()?.ip?;
            let none = !static_addresses(subject.expanded).iter().any(|own| own.is_ipv4() == ip.is_ipv4());
            let version = if ip.is_ipv4() { 4 } else { 6 };
            (device.nat() && ip.is_unspecified() && none).then(|| {
                format!("Instance has no static IPv{version} address assigned to be used as the connect IP")
            })
        }),
    },
];

impl Subject<'_> {
    /// The server's error text, if it refuses the instance at one of these moments.
    pub(crate) fn refusal(&self, moments: &[When]) -> Option<String> {
        let applicable = RULES.iter().filter(|rule| {
            moments.contains(&rule.when)
                && rule.servers.contains(&self.server)
                && rule.kinds.contains(&self.kind)
        });
        let text = applicable.into_iter().find_map(|rule| self.broken(rule))?;
        Some(match self.server {
            Server::Lxd => text,
            Server::Incus => text.replace("initialising", "initializing"),
        })
    }

    fn broken(&self, rule: &Rule) -> Option<String> {
        // Before an operation begins, a project's restrictions are checked only against the devices in the request.
        let devices = if rule.when == When::Request { self.devices } else { self.expanded };
        let devices_of = |kind: &'static str| devices.iter().filter(move |(_, o)| option(o, "type") == kind);
        match &rule.finds {
            Finds::Instance(finds) => finds(self).map(|text| Self::frame(rule, None, text)),
            Finds::Key(finds) => self.config.iter().find_map(|(key, value)| {
                let text = finds(self, key, value)?;
                Some(match rule.when {
                    When::Request => text,
                    _ => format!("Failed initialising instance: Invalid config: {text}"),
                })
            }),
            Finds::Device(finds) => {
                devices.iter().find_map(|(name, o)| Some(Self::frame(rule, Some(name), finds(self, o)?)))
            }
            Finds::Nic(finds) => devices_of("nic")
                .find_map(|(name, nic)| Some(Self::frame(rule, Some(name), finds(self, nic)?))),
            Finds::Proxy(finds) => devices_of("proxy").find_map(|(name, options)| {
                let end = |key| proxy::parse(option(options, key));
                let device = ProxyDevice { options, listen: end("listen"), connect: end("connect") };
                Some(Self::frame(rule, Some(name), finds(self, &device)?))
            }),
        }
    }

    /// Adds the server's text around a violation.
    fn frame(rule: &Rule, device: Option<&str>, text: String) -> String {
        match (rule.when, device) {
            (When::Request, Some(device)) => format!("Invalid device {device:?}: {text}"),
            (When::Request, None) => text,
            (When::Creation, Some(device)) => format!(
                "Failed initialising instance: Invalid devices: Device validation failed for {device:?}: {text}"
            ),
            (When::Creation, None) => format!("Failed initialising instance: {text}"),
            (When::Start | When::StartOrChange, device) => {
                format!("Failed to start device {:?}: {text}", device.unwrap_or_default())
            }
        }
    }

    /// Returns whether its project is restricted and does not allow something that is forbidden by default.
    fn restricts(&self, key: &str) -> bool {
        is_true(option(self.project_config, "restricted")) && option(self.project_config, key) != "allow"
    }

    /// The managed bridge of a NIC.
    fn bridge<'a>(&'a self, nic: &'a ConfigMap) -> Option<(&'a str, &'a ConfigMap)> {
        let name =
            [option(nic, "network"), option(nic, "parent")].into_iter().find(|name| !name.is_empty())?;
        Some((name, self.networks.get(name)?))
    }

    /// The NICs of other instances on the same network as one of its own, with the instances' names.
    fn on_same_network<'a>(&'a self, nic: &'a ConfigMap) -> impl Iterator<Item = (&'a str, &'a ConfigMap)> {
        let nics = self.neighbours.iter().flat_map(|(name, devices)| {
            devices.values().filter(|o| option(o, "type") == "nic").map(move |nic| (name.as_str(), nic))
        });
        nics.filter(|(_, other)| {
            let network = option(nic, "network");
            !network.is_empty() && option(other, "network") == network && other.get("vlan") == nic.get("vlan")
        })
    }

    fn root(&self) -> Option<&ConfigMap> {
        self.expanded.values().find(|o| option(o, "type") == "disk" && option(o, "path") == "/")
    }
}

/// The static addresses of an instance's NICs.
pub(crate) fn static_addresses(devices: &DeviceMap) -> Vec<IpAddr> {
    let nics = devices.values().filter(|options| option(options, "type") == "nic");
    nics.flat_map(|nic| ["ipv4.address", "ipv6.address"].map(|key| nic.get(key)))
        .filter_map(|address| address?.parse().ok())
        .collect()
}

/// An IPv4 network.
#[derive(Debug, Clone, Copy)]
struct Subnet {
    /// The bridge's own address.
    gateway: Ipv4Addr,
    mask: u32,
}

impl Subnet {
    /// Parses `ADDRESS/LENGTH`; `None` for anything else, such as `none`.
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let length = length.parse::<u32>().ok().filter(|length| *length <= 32)?;
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        Some(Self { gateway: address.parse().ok()?, mask })
    }

    /// Returns whether an address is valid for a host: neither the network's address nor the broadcast address.
    fn has_host(self, ip: Ipv4Addr) -> bool {
        let (ip, gateway) = (u32::from(ip), u32::from(self.gateway));
        ip & self.mask == gateway & self.mask && ip & !self.mask != 0 && ip | self.mask != u32::MAX
    }
}

fn unknown_option(options: &ConfigMap, known: &[&str]) -> Option<String> {
    let is_known = |key: &str| key == "type" || key.starts_with("user.") || known.contains(&key);
    options.keys().find(|key| !is_known(key)).map(|key| format!("Invalid device option {key:?}"))
}

const PROXY_OPTIONS: &[&str] = &[
    "bind",
    "connect",
    "gid",
    "listen",
    "mode",
    "nat",
    "proxy_protocol",
    "security.gid",
    "security.uid",
    "uid",
];

/// Options of NICs on bridges, for both servers.
const NIC_OPTIONS: &[&str] = &[
    "boot.priority",
    "host_name",
    "hwaddr",
    "ipv4.address",
    "ipv4.routes",
    "ipv4.routes.external",
    "ipv6.address",
    "ipv6.routes",
    "ipv6.routes.external",
    "limits.egress",
    "limits.ingress",
    "limits.max",
    "mtu",
    "name",
    "network",
    "nictype",
    "parent",
    "security.ipv4_filtering",
    "security.ipv6_filtering",
    "security.mac_filtering",
    "security.port_isolation",
    "vlan",
    "vlan.tagged",
];

/// Further options in Incus 6.0.4, which LXD 5.0.2 lacks.
const NIC_OPTIONS_OF_INCUS: &[&str] = &[
    "io.bus",
    "limits.priority",
    "queue.tx.length",
    "security.acls",
    "security.acls.default.egress.action",
    "security.acls.default.egress.logged",
    "security.acls.default.ingress.action",
    "security.acls.default.ingress.logged",
];

/// The types of instance that accept a configuration key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Any,
    Container,
    VirtualMachine,
    Unknown,
}

fn key_kind(key: &str) -> KeyKind {
    let begins = |starts: &[&str]| starts.iter().any(|start| key.starts_with(start));
    let open = ["environment.", "image.", "limits.kernel.", "user.", "volatile.", "linux.sysctl."];
    let containers = [
        "limits.cpu.allowance",
        "limits.cpu.priority",
        "limits.hugepages.",
        "limits.memory.enforce",
        "limits.memory.swap",
        "limits.processes",
        "linux.kernel_modules",
        "migration.incremental.",
        "nvidia.",
        "raw.lxc",
        "raw.seccomp",
        "security.idmap.",
        "security.nesting",
        "security.privileged",
        "security.protection.shift",
        "security.syscalls.",
    ];
    let machines = [
        "agent.nic_config",
        "limits.memory.hugepages",
        "migration.stateful",
        "raw.qemu",
        "security.agent.metrics",
        "security.secureboot",
    ];
    let any = [
        "boot.autostart",
        "boot.host_shutdown_timeout",
        "boot.stop.priority",
        "cloud-init.network-config",
        "cloud-init.user-data",
        "cloud-init.vendor-data",
        "cluster.evacuate",
        "limits.cpu",
        "limits.disk.priority",
        "limits.memory",
        "limits.network.priority",
        "raw.apparmor",
        "raw.idmap",
        "security.devlxd",
        "security.guestapi",
        "security.protection.delete",
        "snapshots.",
    ];
    if begins(&machines) {
        KeyKind::VirtualMachine
    } else if begins(&containers) {
        KeyKind::Container
    } else if begins(&open) || any.contains(&key) || begins(&["boot.autostart.", "snapshots."]) {
        KeyKind::Any
    } else {
        KeyKind::Unknown
    }
}

/// Keys with boolean values.
const BOOLEANS: &[&str] = &[
    "boot.autostart",
    "security.devlxd",
    "security.guestapi",
    "security.nesting",
    "security.privileged",
    "security.protection.delete",
    "security.secureboot",
    "security.idmap.isolated",
];

/// True if `ParseByteSizeString` of both servers reads it as a number of bytes.
fn is_size(value: &str) -> bool {
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit());
    let known = ["", "B", "kB", "MB", "GB", "TB", "PB", "EB", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    value.starts_with(|c: char| c.is_ascii_digit()) && known.contains(&unit)
}

fn is_boolean(value: &str) -> bool {
    is_true(value) || ["false", "0", "no", "off"].contains(&value.to_ascii_lowercase().as_str())
}
