//! The addresses of a server, its bridge, and what is on it.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::{Value, json};

use crate::{Error, Result, loopback_address};

/// The port of the API in a network namespace of its own.
const API_PORT: u16 = 8443;

/// The name of [`Network::acl`].
const ACL: &str = "walls";

/// How a server and its instances are reached.
///
/// The server's bridge is a /27 from the range for measurements in laboratories (RFC 2544), which nobody's network uses, picked
/// by the server's loopback address. In a namespace of its own the bridge has the lower half of it; the last four addresses are
/// the devices' that join it to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    /// Where the API and the ports of instances are.
    pub(super) server: Ipv4Addr,
    subnet: Ipv4Addr,
    own_namespace: bool,
}

impl Network {
    /// One that no other server of this machine has.
    pub(super) fn new(own_namespace: bool) -> Self {
        let loopback = loopback_address();
        let [_, server, high, low] = loopback.octets();
        let subnet = Ipv4Addr::new(198, 18 + high % 2, low, server % 8 * 32);
        let server = if own_namespace { at(subnet, 30) } else { loopback };
        Self { server, subnet, own_namespace }
    }

    /// A port on [`Network::server`] that is free.
    pub(super) fn api_port(&self) -> Result<u16> {
        if self.own_namespace {
            return Ok(API_PORT);
        }
        let free = TcpListener::bind((self.server, 0)).and_then(|l| l.local_addr());
        Ok(free.map_err(|source| Error::System { doing: "finding a free port", source })?.port())
    }

    /// The configuration of the bridge.
    pub(super) fn bridge_config(&self) -> Value {
        if self.own_namespace {
            // As servers have it by default, except that nothing goes out to the internet, and that instances of one name can
            // be on it together.
            return json!({
                "ipv4.address": format!("{}/28", at(self.subnet, 1)), "ipv4.nat": "false", "ipv6.address": "none",
                "dns.mode": "none", "raw.dnsmasq": "port=0", "security.acls": ACL,
                "ipv4.dhcp.ranges": format!("{}-{}", at(self.subnet, 2), at(self.subnet, 4)),
            });
        }
        // Nothing of the machine changes: neither its packet filter nor its forwarding.
        json!({
            "ipv4.address": format!("{}/27", at(self.subnet, 1)), "ipv4.nat": "false", "ipv4.firewall": "false",
            "ipv4.routing": "false", "ipv6.address": "none", "dns.mode": "none",
        })
    }

    /// The ACL that the bridge has: environments' ports are let in, nothing is let out. None where the packet filter is the
    /// machine's own.
    pub(super) fn acl(&self) -> Option<Value> {
        let rule = json!({"action": "allow", "protocol": "tcp", "destination_port": "22,9736-9799", "state": "enabled"});
        self.own_namespace.then(|| json!({"name": ACL, "egress": [], "ingress": [rule]}))
    }

    /// The bridge's own address.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        at(self.subnet, 1)
    }

    /// Addresses on the bridge outside its DHCP range, first and last.
    pub(super) fn static_addresses(&self) -> (Ipv4Addr, Ipv4Addr) {
        (at(self.subnet, 5), at(self.subnet, 14))
    }

    /// The addresses of the two devices, as `keeper.sh` wants them.
    pub(super) fn uplink(&self) -> [(&'static str, String); 2] {
        let address = |host| format!("{}/30", at(self.subnet, host));
        [("UPLINK_HOST", address(29)), ("UPLINK_SERVER", address(30))]
    }
}

fn at(subnet: Ipv4Addr, host: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet) + host)
}
