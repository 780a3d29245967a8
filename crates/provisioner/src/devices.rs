//! The devices of an instance: its root disk, how its ports are reached from outside, and for virtual machines its NIC and its
//! seed.
//!
//! Of the profiles' devices it has the root disk and, if it is a virtual machine, one NIC; all others are switched off. So a
//! container has no NIC: its ports are forwarded by a process of the server, whose other end is in the container's network
//! namespace, to its loopback. A virtual machine's are translated by the
//! server's packet filter (`nat=true`), which wants one of the server's own addresses to listen on and a static address on the
//! machine's NIC. Servers check the former when an instance is made and the latter when it is started.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use lnplaylive_core::order::{Placement, PortBlock};
use lnplaylive_core::settings;
use lxd_client::DeviceMap;

use crate::profiles::{Device, Profiles};
use crate::{Error, LISTEN_FIRST};

/// Our devices' names.
const SSH: &str = "lnplay-ssh";
const NODES: &str = "lnplay-nodes";
const SEED: &str = "lnplay-seed";
/// The NIC's name where the profiles have none.
const DEFAULT_NIC: &str = "eth0";

/// The filters of a virtual machine's NIC, on both servers: its own MAC address, its own IP addresses, and nothing from or to
/// other ports of the bridge.
const FILTERS: [&str; 4] = [
    "security.ipv4_filtering",
    "security.ipv6_filtering",
    "security.mac_filtering",
    "security.port_isolation",
];

/// The facts that decide the devices of an environment's instance, apart from its ports and the size of its root disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wiring {
    /// A container.
    Container {
        /// The server's address that ports are opened on; may be the wildcard.
        listen: IpAddr,
        /// The profiles' devices that it does not get.
        off: Vec<String>,
    },
    /// A virtual machine.
    Machine {
        /// The server's address that ports are opened on.
        listen: Ipv4Addr,
        /// The machine's own.
        address: Ipv4Addr,
        /// The name of its NIC, which takes the place of the profiles' of that name.
        nic: String,
        /// The NIC without its address.
        nic_config: Device,
        /// The profiles' devices that it does not get.
        off: Vec<String>,
    },
}

impl Wiring {
    /// The wiring of a placement's instance; `host` is where its ports are reached.
    pub(crate) fn of(
        profiles: &Profiles,
        remote: &settings::Remote,
        placement: &Placement,
        host: &str,
    ) -> Result<Self, Error> {
        let listen = listen_address(remote, placement.member.as_deref(), host);
        if remote.instance_type == settings::InstanceType::Container {
            return Ok(Self::Container { listen, off: profiles.others.clone() });
        }
        let unusable = |what: String| Error::Network { remote: remote.name.clone(), what };
        let IpAddr::V4(listen) = listen else {
            return Err(unusable(format!(
                "virtual machines have IPv4 addresses; listen_address is {listen}"
            )));
        };
        if listen.is_unspecified() {
            return Err(unusable(format!(
                "{host:?} is not an IPv4 address, so virtual machines need one of the server's own as listen_address"
            )));
        }
        let address = placement
            .address
            .ok_or_else(|| unusable("virtual machines need static addresses: set vm_addresses".to_owned()))?;
        let nic = nic(profiles, remote.vm_network.as_deref());
        let (nic, nic_config) = nic.map_err(|what| unusable(what.to_owned()))?;
        let off = profiles.others.iter().filter(|name| **name != nic).cloned().collect();
        Ok(Self::Machine { listen, address, nic, nic_config, off })
    }
}

/// The address that the ports of an environment are opened on; of a virtual machine that of its host, if there is no other.
pub(crate) fn listen_address(remote: &settings::Remote, member: Option<&str>, host: &str) -> IpAddr {
    let set = remote.listen_address(member);
    let is_machine = remote.instance_type == settings::InstanceType::VirtualMachine;
    if is_machine && set.is_unspecified() { host.parse().unwrap_or(set) } else { set }
}

/// The name of the NIC that a virtual machine gets, and its configuration: the first NIC of the profiles, on `network` if
/// that is set. Fails with a sentence.
fn nic(profiles: &Profiles, network: Option<&str>) -> Result<(String, Device), &'static str> {
    let (name, mut config) = profiles.nic.clone().unwrap_or_else(|| (DEFAULT_NIC.to_owned(), Device::new()));
    if let Some(network) = network {
        // A NIC has either these or a network.
        config.retain(|key, _| key != "parent" && key != "nictype");
        config.insert("network".into(), network.to_owned());
    }
    if !config.contains_key("network") {
        return Err(
            "the profiles have no NIC on a managed network: set vm_network to the bridge of virtual machines",
        );
    }
    config.insert("type".into(), "nic".into());
    config.retain(|key, _| !matches!(key.as_str(), "ipv4.address" | "ipv6.address" | "hwaddr"));
    config.extend(FILTERS.map(|key| (key.to_owned(), "true".to_owned())));
    Ok((name, config))
}

/// The root disk of the profiles with a size in bytes; nothing where they have none, which the server then says.
pub(crate) fn root(profiles: &Profiles, bytes: u64) -> DeviceMap {
    let sized = |(name, device): &(String, Device)| {
        let mut device = device.clone();
        device.insert("size".into(), format!("{}MiB", bytes.div_ceil(1 << 20)));
        (name.clone(), device)
    };
    profiles.root.iter().map(sized).collect()
}

/// The devices of an instance with these ports, but for its root disk.
pub(crate) fn devices(wiring: &Wiring, ports: PortBlock) -> DeviceMap {
    let range = |nodes: RangeInclusive<u16>| match (nodes.start(), nodes.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    let (outside, inside) = (ports.nodes(), inner_ports(ports.node_count()));
    let mut devices: DeviceMap = [
        (SSH.to_owned(), proxy(wiring, &ports.ssh().to_string(), "22")),
        (NODES.to_owned(), proxy(wiring, &range(outside), &range(inside))),
    ]
    .into();
    if let Wiring::Machine { address, nic, nic_config, .. } = wiring {
        let mut config = nic_config.clone();
        config.insert("ipv4.address".into(), address.to_string());
        devices.insert(nic.clone(), config);
        // User-data on a drive that the server makes: an agent would be the only other way to it.
        devices.insert(SEED.into(), device([("type", "disk"), ("source", "cloud-init:config")]));
    }
    let (Wiring::Container { off, .. } | Wiring::Machine { off, .. }) = wiring;
    devices.extend(off.iter().map(|name| (name.clone(), device([("type", "none")]))));
    devices
}

/// The nodes' ports inside the instance.
fn inner_ports(node_count: u32) -> RangeInclusive<u16> {
    let more = u16::try_from(node_count.saturating_sub(1)).unwrap_or(u16::MAX);
    LISTEN_FIRST..=LISTEN_FIRST.saturating_add(more)
}

fn proxy(wiring: &Wiring, listen_ports: &str, connect_ports: &str) -> Device {
    let (listen, connect, is_nat) = match wiring {
        Wiring::Container { listen, .. } => (*listen, Ipv4Addr::LOCALHOST, false),
        Wiring::Machine { listen, address, .. } => (IpAddr::from(*listen), *address, true),
    };
    let mut proxy = device([("type", "proxy"), ("bind", "host")]);
    proxy.insert("listen".into(), format!("tcp:{}:{listen_ports}", settings::url_host(&listen.to_string())));
    proxy.insert("connect".into(), format!("tcp:{connect}:{connect_ports}"));
    if is_nat {
        proxy.insert("nat".into(), "true".into());
    }
    proxy
}

fn device<const N: usize>(entries: [(&str, &str); N]) -> Device {
    entries.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Those of an instance's own devices that listen elsewhere than on `listen`, changed so that they listen there.
pub(crate) fn relocated(devices: &DeviceMap, listen: IpAddr) -> DeviceMap {
    let listen = settings::url_host(&listen.to_string());
    let mut changed = DeviceMap::new();
    for name in [SSH, NODES] {
        let Some(device) = devices.get(name) else { continue };
        let Some((_, ports)) = device.get("listen").and_then(|address| address.rsplit_once(':')) else {
            continue;
        };
        let wanted = format!("tcp:{listen}:{ports}");
        if device.get("listen") != Some(&wanted) {
            let mut device = device.clone();
            device.insert("listen".into(), wanted);
            changed.insert(name.to_owned(), device);
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: PortBlock = PortBlock { first: 20000, count: 9 };

    fn map<const N: usize>(devices: [(&str, Device); N]) -> DeviceMap {
        devices.map(|(name, device)| (name.to_owned(), device)).into()
    }

    fn machine() -> Wiring {
        let nic_config = device([("type", "nic"), ("network", "lxdbr0"), ("name", "eth0")]);
        Wiring::Machine {
            listen: Ipv4Addr::new(203, 0, 113, 8),
            address: Ipv4Addr::new(10, 10, 10, 100),
            nic: "eth0".into(),
            nic_config,
            off: vec!["gpu".into()],
        }
    }

    #[test]
    fn a_container_is_reached_through_its_loopback_and_has_no_nic() {
        let listen = IpAddr::from([0_u16; 8]);
        let wiring = Wiring::Container { listen, off: vec!["eth0".into(), "lan".into()] };
        let expected = map([
            ("eth0", device([("type", "none")])),
            ("lan", device([("type", "none")])),
            (
                "lnplay-ssh",
                device([
                    ("type", "proxy"),
                    ("bind", "host"),
                    ("listen", "tcp:[::]:20000"),
                    ("connect", "tcp:127.0.0.1:22"),
                ]),
            ),
            (
                "lnplay-nodes",
                device([
                    ("type", "proxy"),
                    ("bind", "host"),
                    ("listen", "tcp:[::]:20001-20008"),
                    ("connect", "tcp:127.0.0.1:9736-9743"),
                ]),
            ),
        ]);
        assert_eq!(devices(&wiring, PORTS), expected);
    }

    #[test]
    fn a_virtual_machine_is_reached_at_its_static_address() {
        let expected = map([
            (
                "eth0",
                device([
                    ("type", "nic"),
                    ("network", "lxdbr0"),
                    ("name", "eth0"),
                    ("ipv4.address", "10.10.10.100"),
                ]),
            ),
            ("gpu", device([("type", "none")])),
            ("lnplay-seed", device([("type", "disk"), ("source", "cloud-init:config")])),
            (
                "lnplay-ssh",
                device([
                    ("type", "proxy"),
                    ("bind", "host"),
                    ("nat", "true"),
                    ("listen", "tcp:203.0.113.8:20000"),
                    ("connect", "tcp:10.10.10.100:22"),
                ]),
            ),
            (
                "lnplay-nodes",
                device([
                    ("type", "proxy"),
                    ("bind", "host"),
                    ("nat", "true"),
                    ("listen", "tcp:203.0.113.8:20001"),
                    ("connect", "tcp:10.10.10.100:9736"),
                ]),
            ),
        ]);
        assert_eq!(devices(&machine(), PortBlock { count: 2, ..PORTS }), expected);
    }

    #[test]
    fn the_nic_is_the_profiles_first_on_the_network_that_is_set() {
        let bridged = device([("type", "nic"), ("network", "lxdbr0"), ("limits.egress", "10Mbit")]);
        let unmanaged =
            device([("type", "nic"), ("nictype", "bridged"), ("parent", "br0"), ("hwaddr", "00:16")]);
        let root = device([("type", "disk"), ("path", "/")]);
        let profiles = map([("disk", root.clone()), ("lan", bridged.clone()), ("wan", unmanaged.clone())]);
        let filtered = |mut nic: Device| {
            nic.extend(FILTERS.map(|key| (key.to_owned(), "true".to_owned())));
            nic
        };
        assert_eq!(nic(&Profiles::of(&profiles), None), Ok(("lan".into(), filtered(bridged))));

        assert_eq!(Profiles::of(&profiles).others, ["lan", "wan"]);
        let profiles = map([("disk", root), ("wan", unmanaged)]);
        nic(&Profiles::of(&profiles), None).expect_err("its bridge is not the server's");
        let on_network = filtered(device([("type", "nic"), ("network", "vms")]));
        assert_eq!(nic(&Profiles::of(&profiles), Some("vms")), Ok(("wan".into(), on_network.clone())));

        nic(&Profiles::default(), None).expect_err("no NIC");
        assert_eq!(nic(&Profiles::default(), Some("vms")), Ok((DEFAULT_NIC.into(), on_network)));
    }

    #[test]
    fn the_root_disk_is_the_profiles_with_a_size() {
        let disk = device([("type", "disk"), ("path", "/"), ("pool", "fast"), ("limits.max", "50MB")]);
        let profiles = Profiles::of(&map([("disk", disk.clone())]));
        let mut sized = disk;
        sized.insert("size".into(), "2MiB".into());
        assert_eq!(root(&profiles, (1 << 20) + 1), map([("disk", sized)]));
        assert_eq!(root(&Profiles::default(), 1), DeviceMap::new());
    }

    #[test]
    fn only_proxies_of_ours_that_listen_elsewhere_are_moved() {
        let mut own = devices(&machine(), PORTS);
        own.insert("theirs".into(), device([("type", "proxy"), ("listen", "tcp:192.0.2.1:80")]));
        assert_eq!(relocated(&own, IpAddr::from([203, 0, 113, 8])), DeviceMap::new());

        let moved = relocated(&own, IpAddr::from([203, 0, 113, 9]));
        assert_eq!(moved.keys().collect::<Vec<_>>(), [NODES, SSH]);
        assert_eq!(moved[NODES]["listen"], "tcp:203.0.113.9:20001-20008");
        assert_eq!(moved[NODES]["connect"], own[NODES]["connect"]);
        assert_eq!(moved[SSH]["listen"], "tcp:203.0.113.9:20000");
    }
}
