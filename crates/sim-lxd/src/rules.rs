//! What servers refuse. (Table follows.)

use std::net::IpAddr;

use crate::instance::DeviceMap;

/// The static addresses that an instance's NICs have.
pub(crate) fn static_addresses(devices: &DeviceMap) -> Vec<IpAddr> {
    let nics = devices.values().filter(|options| options.get("type").is_some_and(|t| t == "nic"));
    nics.flat_map(|nic| ["ipv4.address", "ipv6.address"].map(|key| nic.get(key)))
        .filter_map(|address| address?.parse().ok())
        .collect()
}
