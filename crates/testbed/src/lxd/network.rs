//! The addresses of a server, its bridge, and its instances.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::{Value, json};

use crate::{Error, Result, loopback_address};

/// The port of the API in a network namespace of its own.
const API_PORT: u16 = 8443;

/// The name of [`Network::acl`].
const ACL: &str = "walls";

/// The addresses of a server and its instances.
///
/// The server's bridge is a /27 from the range for benchmarks (RFC 2544), which real networks do not use; the server's loopback
/// address determines it. In a namespace of its own the bridge has the lower half, and the last four addresses belong to the
/// devices that connect it to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    /// The address of the API and of the instances' ports.
    pub(super) server: Ipv4Addr,
    subnet: Ipv4Addr,
    own_namespace: bool,
}

impl Network {
    /// An address that no other server of this machine has.
    pub(super) fn new(own_namespace: bool) -> Self {
        let loopback = loopback_address();
        let [_, server, high, low] = loopback.octets();
        let subnet = Ipv4Addr::new(198, 18 + high % 2, low, server % 8 * 32);
        let server = if own_namespace { at(subnet, 30) } else { loopback };
        Self { server, subnet, own_namespace }
    }

    /// A free port on [`Network::server`].
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
            // The servers' defaults, but without a route to the internet, and with `dns.mode=none`, so that instances of the same name can
            // use it together.
            return json!({
                "ipv4.address": format!("{}/28", at(self.subnet, 1)), "ipv4.nat": "false", "ipv6.address": "none",
                "dns.mode": "none", "raw.dnsmasq": "port=0", "security.acls": ACL,
                "ipv4.dhcp.ranges": format!("{}-{}", at(self.subnet, 2), at(self.subnet, 4)),
            });
        }
        // Changes nothing on the machine: neither its packet filter nor its forwarding.
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

    /// First and last address of the bridge outside its DHCP range.
    pub(super) fn static_addresses(&self) -> (Ipv4Addr, Ipv4Addr) {
        (at(self.subnet, 5), at(self.subnet, 14))
    }

    /// The addresses of the two devices, as variables for `keeper.sh`.
    pub(super) fn uplink(&self) -> [(&'static str, String); 2] {
        let address = |host| format!("{}/30", at(self.subnet, host));
        [("UPLINK_HOST", address(29)), ("UPLINK_SERVER", address(30))]
    }
}

fn at(subnet: Ipv4Addr, host: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet) + host)
}
