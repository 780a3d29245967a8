//! `proxy` devices: ports of the remote that are forwarded into an instance.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// A device's options.
type Options = BTreeMap<String, String>;

/// One end of a proxy device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) protocol: Protocol,
    /// `None` for a Unix socket, and for an empty host.
    pub(crate) ip: Option<IpAddr>,
    /// Empty for a Unix socket.
    pub(crate) ports: Vec<u16>,
}

/// The protocol at one end of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Unix,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
        }
    }
}

/// One proxied port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) listen: SocketAddr,
    /// The destination, as the instance sees it.
    pub(crate) connect: SocketAddr,
}

impl Forward {
    /// The address to connect to, as seen from outside. The instance's loopback, wildcard and static addresses all stand for the one
    /// address that it has here.
    pub(crate) fn target(&self, instance: Ipv4Addr, own: &[IpAddr]) -> SocketAddr {
        let ip = if self.leads_inside(own) { instance.into() } else { self.connect.ip() };
        SocketAddr::new(ip, self.connect.port())
    }

    /// Returns whether it leads to the instance's SSH server.
    pub(crate) fn is_ssh(&self, own: &[IpAddr]) -> bool {
        self.connect.port() == 22 && self.leads_inside(own)
    }

    fn leads_inside(&self, own: &[IpAddr]) -> bool {
        let ip = self.connect.ip();
        ip.is_loopback() || ip.is_unspecified() || own.contains(&ip)
    }
}

/// Returns whether a device is a proxy.
pub(crate) fn is_proxy(options: &Options) -> bool {
    options.get("type").is_some_and(|t| t == "proxy")
}

/// Returns whether a proxy is a rule in the server's packet filter instead of a listening process.
pub(crate) fn is_nat(options: &Options) -> bool {
    options.get("nat").is_some_and(|nat| is_true(nat))
}

/// Returns whether the servers treat a value as true.
pub(crate) fn is_true(value: &str) -> bool {
    ["true", "1", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
}

/// The TCP ports that a valid device opens on the host. There are none if it uses another protocol or listens in the instance;
/// such devices are accepted but do nothing here.
pub(crate) fn forwards(options: &Options) -> Vec<Forward> {
    let end = |key: &str| parse(options.get(key).map_or("", String::as_str)).ok();
    let on_host = options.get("bind").is_none_or(|bind| bind.is_empty() || bind == "host");
    let (Some(listen), Some(connect), true) = (end("listen"), end("connect"), on_host) else {
        return Vec::new();
    };
    let tcp = listen.protocol == Protocol::Tcp && connect.protocol == Protocol::Tcp;
    let (Some(from), Some(to), true) = (listen.ip, connect.ip, tcp) else { return Vec::new() };
    let last = connect.ports.last().copied().into_iter().cycle();
    let targets = connect.ports.iter().copied().chain(last);
    let forward = |(listen, connect): (&u16, u16)| Forward {
        listen: SocketAddr::new(from, *listen),
        connect: SocketAddr::new(to, connect),
    };
    listen.ports.iter().zip(targets).map(forward).collect()
}

/// Parses `PROTOCOL:ADDRESS:PORTS`, where PORTS are numbers or ranges, separated by commas. Errors have the servers' texts.
pub(crate) fn parse(text: &str) -> Result<End, String> {
    let (protocol, rest) = text.split_once(':').map_or((text, ""), |(protocol, rest)| (protocol, rest));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "unix" => Protocol::Unix,
        _ => return Err(format!("Unknown protocol type {protocol:?}")),
    };
    if rest.is_empty() {
        return Err("Missing address".into());
    }
    if protocol == Protocol::Unix {
        return Ok(End { protocol, ip: None, ports: Vec::new() });
    }
    let (host, numbers) = rest.rsplit_once(':').ok_or(format!("address {rest}: missing port in address"))?;
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if bracketed.is_none() && host.contains(':') {
        return Err(format!("address {rest}: too many colons in address"));
    }
    let ip = match bracketed.unwrap_or(host) {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| format!("Not an IP address {text:?}"))?),
    };
    let number = |text: &str| {
        let port = text.parse::<u16>().map_err(|_| format!("Invalid port number {text:?}"))?;
        Ok::<_, String>(port)
    };
    let mut found = Vec::new();
    for part in numbers.split(',') {
        match part.split_once('-') {
            None => found.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first >= last {
                    return Err("End port should be higher than start port".into());
                }
                found.extend(first..=last);
            }
        }
    }
    Ok(End { protocol, ip, ports: found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(listen: &str, connect: &str) -> Vec<Forward> {
        forwards(&[("listen".into(), listen.into()), ("connect".into(), connect.into())].into())
    }

    #[test]
    fn ranges_are_matched_one_to_one_or_to_one() {
        let pairs = |listen, connect| -> Vec<(u16, u16)> {
            device(listen, connect).iter().map(|f| (f.listen.port(), f.connect.port())).collect()
        };
        assert_eq!(pairs("tcp:127.0.0.1:80", "tcp:127.0.0.1:8080"), [(80, 8080)]);
        assert_eq!(pairs("tcp:0.0.0.0:80-82", "tcp:127.0.0.1:90-92"), [(80, 90), (81, 91), (82, 92)]);
        assert_eq!(pairs("tcp:[::1]:80,85", "tcp:127.0.0.1:90"), [(80, 90), (85, 90)]);
        assert_eq!(pairs("udp:127.0.0.1:80", "udp:127.0.0.1:8080"), []);
    }

    #[test]
    fn the_instances_loopback_and_static_addresses_are_its_own_address() {
        let instance = Ipv4Addr::new(127, 9, 8, 7);
        let own = [IpAddr::from([10, 0, 0, 2])];
        let target = |connect| device("tcp:127.0.0.1:80", connect)[0].target(instance, &own).to_string();
        assert_eq!(target("tcp:127.0.0.1:90"), "127.9.8.7:90");
        assert_eq!(target("tcp:0.0.0.0:90"), "127.9.8.7:90");
        assert_eq!(target("tcp:10.0.0.2:90"), "127.9.8.7:90");
        assert_eq!(target("tcp:10.0.0.1:90"), "10.0.0.1:90");
    }

    #[test]
    fn nonsense_is_refused() {
        for listen in [
            "",
            "sctp:127.0.0.1:1",
            "tcp:127.0.0.1",
            "tcp:a:1",
            "tcp:127.0.0.1:1-",
            "tcp:127.0.0.1:9-8",
            "tcp:127.0.0.1:9-9",
            "tcp:::1:9",
        ] {
            assert!(parse(listen).is_err(), "{listen:?}");
        }
    }
}
