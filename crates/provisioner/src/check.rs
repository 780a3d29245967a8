//! Checks of a remote before anything is sold on it: plain functions over its own report.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use lnplaylive_core::settings::{self, AddressRange, InstanceType};
use lxd_client::{ImageInfo, Item, NetworkAcl, ServerWarning, StoragePool};

use crate::profiles::Profiles;

/// The parts of a remote's own report that are checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) profiles: Profiles,
    /// The storage pool of instances' root disks, if it is there.
    pub(crate) pool: Option<StoragePool>,
    /// The network that virtual machines are on, if they are on one.
    pub(crate) network: Option<Item>,
    /// The access control lists that are set on it, as far as they are there.
    pub(crate) acls: Vec<NetworkAcl>,
    /// The image, if the remote has it.
    pub(crate) image: Option<ImageInfo>,
    /// Its size as a file, in bytes.
    pub(crate) image_size: u64,
    /// The server's own warnings.
    pub(crate) noticed: Vec<ServerWarning>,
}

/// The problems of a remote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Sentences. While there is one, nothing is sold on the remote.
    pub faults: Vec<String>,
    /// Sentences about what may go wrong, and what to do about it.
    pub warnings: Vec<String>,
}

impl Facts {
    /// Problems of the remote as a whole.
    pub(crate) fn findings(&self, settings: &settings::Remote) -> Findings {
        let mut found = Findings::default();
        if self.profiles.pool().is_none() {
            let profiles = settings.profiles.join(", ");
            found
                .faults
                .push(format!("its profiles ({profiles}) have no root disk; add one, or name others"));
        }
        let wanted = settings.instance_type;
        if let Some(image) = self.image.as_ref().filter(|image| kind(image) != wanted) {
            found.faults.push(format!(
                "its image {:?} is for a {}, and instance_type is {:?}",
                settings.image,
                name(kind(image)),
                name(wanted),
            ));
        }
        match wanted {
            InstanceType::Container => {
                self.check_pool(settings, &mut found);
                self.check_kernel(&mut found);
            }
            InstanceType::VirtualMachine => {
                self.check_network(settings, &mut found);
                self.check_names(&mut found);
                self.check_egress(&mut found);
            }
        }
        found
    }

    /// A container's root has a limit only where its pool keeps one. A virtual machine's disk has a size of its own.
    fn check_pool(&self, settings: &settings::Remote, found: &mut Findings) {
        let Some(StoragePool { name, driver, .. }) = self.pool.as_ref().filter(|pool| pool.driver == "dir")
        else {
            return;
        };
        let what = format!(
            "storage pool {name} ({driver}) holds no container to its share of the disk, so one environment could fill it"
        );
        if settings.unlimited_disk {
            found.warnings.push(format!("{what}; unlimited_disk allows it"));
        } else {
            found.faults.push(format!(
                "{what}: name a profile whose root disk is on a pool of another kind (zfs, lvm, btrfs), or set \
                 unlimited_disk where its file system has project quotas or nobody can fill it"
            ));
        }
    }

    /// A server notices at its start which limits for containers its kernel lacks, and continues without them.
    fn check_kernel(&self, found: &mut Findings) {
        for ServerWarning { kind, status, location, .. } in &self.noticed {
            let at = match location.as_str() {
                "" | "none" => String::new(),
                member => format!(" (member {member})"),
            };
            let said = kind.to_ascii_lowercase();
            if status == "resolved" {
                continue;
            }
            if ["memory controller", "pids controller", "cpuset controller"]
                .iter()
                .any(|limit| said.ends_with(limit))
            {
                found.faults.push(format!(
                    "it says \"{kind}\"{at}, so containers have no such limit; switch that controller on in its kernel"
                ));
            } else if said.starts_with("apparmor support has been disabled") {
                found.warnings.push(format!(
                    "it says \"{kind}\"{at}; user namespaces and seccomp alone hold containers then"
                ));
            }
        }
    }

    /// Their network decides what virtual machines may reach: LXD 5.0 has access control lists on networks only. They do not
    /// keep a machine from the server's DHCP and DNS, and DNS leads anywhere.
    fn check_egress(&self, found: &mut Findings) {
        let Some(network) = &self.network else { return };
        let name = &network.name;
        let option = |key: &str| network.config.get(key).map(String::as_str).unwrap_or_default();
        let allows = |action: &str| action.starts_with("allow");
        if acls_of(network).next().is_none() {
            found.faults.push(format!(
                "network {name} has no ACL, so virtual machines reach the server and whatever it reaches: make one that lets in \
                 TCP ports 22 and 9736-9799 and nothing out, and set it as the network's security.acls"
            ));
        }
        if allows(option("security.acls.default.egress.action")) {
            found.faults.push(format!(
                "network {name} lets virtual machines out: unset its security.acls.default.egress.action"
            ));
        }
        for acl in &self.acls {
            if acl.egress.iter().any(|rule| allows(&rule.action) && rule.state != "disabled") {
                let acl = &acl.name;
                found.faults.push(format!(
                    "ACL {acl} of network {name} lets virtual machines out; remove its egress rules that allow something"
                ));
            }
        }
        let dns_off = option("raw.dnsmasq").lines().any(|line| line.replace(' ', "") == "port=0");
        if !dns_off {
            found.faults.push(format!(
                "network {name}'s DNS server answers virtual machines and asks the world for them: set its raw.dnsmasq to port=0"
            ));
        }
    }

    /// All environments' instances have one name, each in a project of its own, and a bridge that serves names takes one
    /// instance of a name on each server: LXD's and Incus's `nic_bridged.go`, `checkAddressConflict`.
    fn check_names(&self, found: &mut Findings) {
        let served = |network: &&Item| {
            network.managed == Some(true)
                && network.kind.as_deref() == Some("bridge")
                && network.config.get("dns.mode").is_none_or(|mode| mode != "none")
        };
        if let Some(Item { name, .. }) = self.network.as_ref().filter(served) {
            found.faults.push(format!(
                "network {name} serves instances' names, so only one environment could be on it: set its dns.mode to none"
            ));
        }
    }

    /// Virtual machines need static addresses on a bridge that the server manages: LXD's and Incus's `proxy.go` forwards
    /// ports of a virtual machine to such an address only.
    fn check_network(&self, settings: &settings::Remote, found: &mut Findings) {
        let Some(network) = &self.network else {
            found.faults.push(
                "its profiles have no NIC on a network, and virtual machines need one; add one, or set vm_network".into(),
            );
            return;
        };
        let name = &network.name;
        if network.managed != Some(true) || network.kind.as_deref() != Some("bridge") {
            let what =
                format!("network {name} is not a bridge that the server manages, as virtual machines need");
            found.faults.push(what);
            return;
        }
        let subnet = network.config.get("ipv4.address").and_then(|text| text.parse::<Ipv4Net>().ok());
        let Some(subnet) = subnet else {
            found.faults.push(format!(
                "network {name} has no IPv4 subnet (its ipv4.address), as virtual machines need"
            ));
            return;
        };
        let Some(range) = settings.vm_addresses else {
            let example = example_range(subnet);
            found.faults.push(format!(
                "instance_type is virtual-machine and no vm_addresses are set; name a range in network {name} \
                 ({}) that its DHCP leaves alone{example}",
                subnet.trunc(),
            ));
            return;
        };
        let AddressRange { first, last } = range;
        let own = subnet.addr();
        if !subnet.contains(&first) || !subnet.contains(&last) {
            found.faults.push(format!(
                "vm_addresses {first} to {last} are not within network {name} ({})",
                subnet.trunc()
            ));
        } else if (first..=last).contains(&own) {
            found
                .faults
                .push(format!("vm_addresses {first} to {last} include {own}, network {name}'s own address"));
        }
        let dhcp = network.config.get("ipv4.dhcp").is_none_or(|value| value != "false");
        let leased = || dhcp_ranges(network.config.get("ipv4.dhcp.ranges").map(String::as_str));
        if dhcp && leased().is_none_or(|ranges| ranges.iter().any(|(from, to)| *from <= last && first <= *to))
        {
            found.warnings.push(format!(
                "network {name}'s DHCP may give other instances addresses out of vm_addresses; set its \
                 ipv4.dhcp.ranges to some that do not include {first} to {last}"
            ));
        }
    }

    /// The problems of one server.
    pub(crate) fn of_server(&self, settings: &settings::Remote, server: Server<'_>) -> Option<String> {
        let Server { architecture, driver, listen } = server;
        if let Some(image) = &self.image
            && !architecture.is_empty()
            && image.architecture != architecture
        {
            let (alias, of) = (&settings.image, &image.architecture);
            return Some(format!("is {architecture}, and image {alias:?} is for {of}"));
        }
        if settings.instance_type != InstanceType::VirtualMachine {
            return None;
        }
        if let Some(driver) = driver.filter(|driver| !driver.contains("qemu")) {
            return Some(format!(
                "cannot run virtual machines (its driver is {driver:?}); install QEMU and see that it has KVM, or \
                 set instance_type = \"container\""
            ));
        }
        let concrete = matches!(listen, IpAddr::V4(address) if !address.is_unspecified());
        (!concrete).then(|| {
            format!("would open the ports of virtual machines on {listen}; set listen_address to an IPv4 address of its own")
        })
    }
}

/// A server, as far as it is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    /// In its own word, for example `x86_64`; empty where it does not tell.
    pub(crate) architecture: &'a str,
    /// The drivers with which it runs instances, if they were asked for: `lxc`, or `lxc | qemu`.
    pub(crate) driver: Option<&'a str>,
    /// The address that the ports of environments are opened on.
    pub(crate) listen: IpAddr,
}

fn kind(image: &ImageInfo) -> InstanceType {
    match image.kind {
        lxd_client::InstanceType::Container => InstanceType::Container,
        lxd_client::InstanceType::VirtualMachine => InstanceType::VirtualMachine,
    }
}

fn name(kind: InstanceType) -> &'static str {
    match kind {
        InstanceType::Container => "container",
        InstanceType::VirtualMachine => "virtual-machine",
    }
}

/// The access control lists that are set on a network, by name.
pub(crate) fn acls_of(network: &Item) -> impl Iterator<Item = &str> {
    let set = network.config.get("security.acls").map(String::as_str).unwrap_or_default();
    set.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// The upper quarter of a subnet, as somebody might write it.
fn example_range(subnet: Ipv4Net) -> String {
    let (from, to) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
    let first = Ipv4Addr::from(from + (to - from) / 4 * 3 + 1);
    let last = Ipv4Addr::from(to.saturating_sub(1));
    if first >= last {
        return String::new();
    }
    format!(", such as {{ first = \"{first}\", last = \"{last}\" }}")
}

/// Reads `ipv4.dhcp.ranges`, `FIRST-LAST` separated by commas; `None` where the whole subnet is leased.
fn dhcp_ranges(text: Option<&str>) -> Option<Vec<(Ipv4Addr, Ipv4Addr)>> {
    let text = text.filter(|text| !text.trim().is_empty())?;
    let range = |part: &str| {
        let (first, last) = part.split_once('-')?;
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    text.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn remote(more: &str) -> settings::Remote {
        let json = format!(r#"{{"name": "a", "url": "https://192.0.2.1:8443"{more}}}"#);
        serde_json::from_str(&json).expect("settings")
    }

    const RANGE: &str = r#", "vm_addresses": {"first": "10.0.0.200", "last": "10.0.0.250"}"#;

    fn profiles() -> Profiles {
        let root = [("type", "disk"), ("path", "/"), ("pool", "default")];
        let root = root.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Profiles { root: Some(("root".into(), root)), ..Profiles::default() }
    }

    /// A remote that is as virtual machines need it.
    fn good() -> Facts {
        let network = json!({
            "name": "br0", "type": "bridge", "managed": true,
            "config": {"dns.mode": "none", "raw.dnsmasq": "# nothing\nport=0", "security.acls": "walls", "ipv4.address": "10.0.0.1/24", "ipv4.dhcp.ranges": "10.0.0.2-10.0.0.99, 10.0.0.100-10.0.0.199"},
        });
        let image = json!({"architecture": "x86_64", "type": "virtual-machine"});
        let pool = json!({"name": "default", "driver": "dir"});
        let acl =
            json!({"name": "walls", "egress": [], "ingress": [{"action": "allow", "state": "enabled"}]});
        Facts {
            profiles: profiles(),
            pool: Some(serde_json::from_value(pool).expect("a pool")),
            network: Some(serde_json::from_value(network).expect("a network")),
            acls: vec![serde_json::from_value(acl).expect("an ACL")],
            image_size: 1 << 28,
            noticed: Vec::new(),
            image: Some(serde_json::from_value(image).expect("an image")),
        }
    }

    fn network(facts: &mut Facts) -> &mut Item {
        facts.network.as_mut().expect("a network")
    }

    #[test]
    fn a_good_one_has_no_findings() {
        assert_eq!(good().findings(&remote(RANGE)), Findings::default());
        assert_eq!(good().of_server(&remote(RANGE), SERVER), None);
    }

    #[test]
    fn each_fault_is_a_sentence_that_says_what_to_do() {
        type Change = fn(&mut Facts);
        let table: [(&str, Change, &str); 14] = [
            (RANGE, |facts| facts.profiles.root = None, "have no root disk; add one"),
            (RANGE, |facts| drop(network(facts).config.remove("security.acls")), "has no ACL"),
            (
                RANGE,
                |facts| {
                    let key = "security.acls.default.egress.action".to_owned();
                    network(facts).config.insert(key, "allow".into());
                },
                "unset its security.acls.default.egress.action",
            ),
            (
                RANGE,
                |facts| facts.acls[0].egress = facts.acls[0].ingress.clone(),
                "ACL walls of network br0 lets virtual machines out",
            ),
            (
                RANGE,
                |facts| drop(network(facts).config.insert("raw.dnsmasq".into(), "port=053".into())),
                "set its raw.dnsmasq to port=0",
            ),
            (
                RANGE,
                |facts| facts.image.as_mut().expect("an image").kind = lxd_client::InstanceType::Container,
                "its image \"lnplay\" is for a container, and instance_type is \"virtual-machine\"",
            ),
            (RANGE, |facts| drop(network(facts).config.remove("dns.mode")), "set its dns.mode to none"),
            (RANGE, |facts| facts.network = None, "have no NIC on a network"),
            (
                RANGE,
                |facts| network(facts).managed = Some(false),
                "br0 is not a bridge that the server manages",
            ),
            (
                RANGE,
                |facts| network(facts).kind = Some("ovn".into()),
                "br0 is not a bridge that the server manages",
            ),
            (
                RANGE,
                |facts| drop(network(facts).config.insert("ipv4.address".into(), "none".into())),
                "has no IPv4 subnet",
            ),
            ("", |_| (), "such as { first = \"10.0.0.190\", last = \"10.0.0.254\" }"),
            (
                r#", "vm_addresses": {"first": "10.0.1.2", "last": "10.0.1.9"}"#,
                |_| (),
                "not within network br0 (10.0.0.0/24)",
            ),
            (
                r#", "vm_addresses": {"first": "10.0.0.1", "last": "10.0.0.1"}"#,
                |_| (),
                "include 10.0.0.1, network br0's own",
            ),
        ];
        for (more, change, expected) in table {
            let mut facts = good();
            change(&mut facts);
            let Findings { faults, .. } = facts.findings(&remote(more));
            assert!(
                faults.iter().any(|fault| fault.contains(expected)),
                "{faults:?} does not say {expected:?}"
            );
        }
    }

    #[test]
    fn a_range_that_dhcp_may_lease_is_a_warning() {
        for ranges in [None, Some("10.0.0.2-10.0.0.210"), Some("10.0.0.240-10.0.0.254"), Some("nonsense")] {
            let mut facts = good();
            let config = &mut network(&mut facts).config;
            config.remove("ipv4.dhcp.ranges");
            config.extend(ranges.map(|ranges| ("ipv4.dhcp.ranges".to_owned(), ranges.to_owned())));
            let Findings { faults, warnings } = facts.findings(&remote(RANGE));
            assert!(faults.is_empty() && warnings.len() == 1, "{ranges:?}: {faults:?} {warnings:?}");
            network(&mut facts).config.insert("ipv4.dhcp".into(), "false".into());
            assert_eq!(facts.findings(&remote(RANGE)).warnings, Vec::<String>::new());
        }
    }

    #[test]
    fn containers_need_no_network_and_a_pool_that_keeps_limits() {
        let mut facts = Facts { network: None, acls: Vec::new(), ..good() };
        facts.image.as_mut().expect("an image").kind = lxd_client::InstanceType::Container;
        let found = facts.findings(&remote(r#", "instance_type": "container""#));
        assert!(found.faults[0].contains("storage pool default (dir) holds no container"), "{found:?}");
        let found = facts.findings(&remote(r#", "instance_type": "container", "unlimited_disk": true"#));
        assert!(
            found.faults.is_empty() && found.warnings[0].contains("unlimited_disk allows it"),
            "{found:?}"
        );
        for driver in ["btrfs", "zfs", "lvm", "ceph"] {
            facts.pool.as_mut().expect("a pool").driver = driver.into();
            assert_eq!(facts.findings(&remote(r#", "instance_type": "container""#)), Findings::default());
        }
    }

    #[test]
    fn a_limit_that_the_kernel_does_not_know_is_a_fault_for_containers() {
        let mut facts = Facts { network: None, acls: Vec::new(), pool: None, ..good() };
        facts.image.as_mut().expect("an image").kind = lxd_client::InstanceType::Container;
        let noticed = json!([
            {"type": "Couldn't find the CGroup pids controller", "status": "new", "location": "m2"},
            {"type": "Couldn't find the CGroup memory controller", "status": "resolved", "location": "none"},
            {"type": "Couldn't find the CGroup blkio.weight", "status": "new", "location": "none"},
            {"type": "AppArmor support has been disabled", "status": "acknowledged", "location": "none"},
        ]);
        facts.noticed = serde_json::from_value(noticed).expect("warnings");
        let found = facts.findings(&remote(r#", "instance_type": "container""#));
        assert!(
            found.faults.len() == 1 && found.faults[0].contains("pids controller\" (member m2)"),
            "{found:?}"
        );
        assert!(found.warnings.len() == 1 && found.warnings[0].contains("AppArmor"), "{found:?}");
    }

    const SERVER: Server<'_> = Server {
        architecture: "x86_64",
        driver: Some("lxc | qemu"),
        listen: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    };

    #[test]
    fn a_server_runs_what_is_wanted() {
        let settings = remote(RANGE);
        let said = |server| good().of_server(&settings, server).expect("something is wrong");
        let other = Server { architecture: "aarch64", ..SERVER };
        assert_eq!(said(other), "is aarch64, and image \"lnplay\" is for x86_64");
        assert_eq!(Facts::default().of_server(&settings, other), None, "no image, nothing to compare");
        let said_so = said(Server { driver: Some("lxc"), ..SERVER });
        assert!(said_so.contains("cannot run virtual machines"), "{said_so}");
        let said_so = said(Server { listen: IpAddr::from([0, 0, 0, 0]), ..SERVER });
        assert!(said_so.contains("set listen_address"), "{said_so}");
        said(Server { listen: "2001:db8::1".parse().expect("an address"), ..SERVER });
        let containers = remote(r#", "instance_type": "container""#);
        let wildcard = Server { driver: None, listen: IpAddr::from([0, 0, 0, 0]), ..SERVER };
        assert_eq!(Facts::default().of_server(&containers, wildcard), None);
    }
}
