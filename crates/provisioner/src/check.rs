//! What is wrong with a remote, seen before anything is sold on it: plain functions over what it says.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use jiff::SignedDuration;
use lnplaylive_core::settings::{self, AddressRange, InstanceType};
use lxd_client::{ImageInfo, Item};

use crate::profiles::Profiles;

/// How far a remote's clock may differ from ours: expiries are written by our clock and culled by theirs, and more
/// would eat into the allowance that every environment has.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// What a remote says about itself, as far as it is checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) profiles: Profiles,
    /// The network that instances are on, if they are on one.
    pub(crate) network: Option<Item>,
    /// The image, if the remote has it.
    pub(crate) image: Option<ImageInfo>,
    pub(crate) clock_ahead: Option<SignedDuration>,
}

/// What is wrong with a remote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Sentences. While there is one, nothing is sold on the remote.
    pub faults: Vec<String>,
    /// Sentences about what may go wrong, and what to do about it.
    pub warnings: Vec<String>,
}

impl Facts {
    /// What is wrong with the remote as a whole.
    pub(crate) fn findings(&self, settings: &settings::Remote) -> Findings {
        let mut found = Findings::default();
        if self.profiles.pool.is_none() {
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
        if let Some(ahead) = self.clock_ahead.filter(|ahead| ahead.abs() > CLOCK_TOLERANCE) {
            found.faults.push(format!(
                "its clock is {} s {} ours; set one of them right",
                ahead.abs().as_secs(),
                if ahead.is_positive() { "ahead of" } else { "behind" },
            ));
        }
        if wanted == InstanceType::VirtualMachine {
            self.check_network(settings, &mut found);
        }
        self.check_names(&mut found);
        found
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

    /// What is wrong with one server.
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
    /// How it runs instances, where that was asked: `lxc`, or `lxc | qemu`.
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

    /// A remote that is as virtual machines need it.
    fn good() -> Facts {
        let network = json!({
            "name": "br0", "type": "bridge", "managed": true,
            "config": {"dns.mode": "none", "ipv4.address": "10.0.0.1/24", "ipv4.dhcp.ranges": "10.0.0.2-10.0.0.99, 10.0.0.100-10.0.0.199"},
        });
        let image = json!({"architecture": "x86_64", "type": "virtual-machine"});
        Facts {
            profiles: Profiles { pool: Some("default".into()), nic: None },
            network: Some(serde_json::from_value(network).expect("a network")),
            image: Some(serde_json::from_value(image).expect("an image")),
            clock_ahead: Some(SignedDuration::from_secs(2)),
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
        let table: [(&str, Change, &str); 11] = [
            (RANGE, |facts| facts.profiles.pool = None, "have no root disk; add one"),
            (
                RANGE,
                |facts| facts.image.as_mut().expect("an image").kind = lxd_client::InstanceType::Container,
                "its image \"lnplay\" is for a container, and instance_type is \"virtual-machine\"",
            ),
            (
                RANGE,
                |facts| facts.clock_ahead = Some(SignedDuration::from_mins(-10)),
                "its clock is 600 s behind ours",
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
    fn containers_need_no_network() {
        let mut facts = good();
        facts.network = None;
        facts.image.as_mut().expect("an image").kind = lxd_client::InstanceType::Container;
        assert_eq!(facts.findings(&remote(r#", "instance_type": "container""#)), Findings::default());
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
