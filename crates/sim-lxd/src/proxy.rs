//! `proxy` devices: ports of the remote that lead into an instance.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// One proxied port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) listen: SocketAddr,
    /// As the instance sees it.
    pub(crate) connect: SocketAddr,
}

impl Forward {
    /// Where to connect, seen from outside: the instance's loopback and wildcard are its own address.
    pub(crate) fn target(&self, instance: Ipv4Addr) -> SocketAddr {
        let ip = self.connect.ip();
        let ip = if ip.is_loopback() || ip.is_unspecified() { instance.into() } else { ip };
        SocketAddr::new(ip, self.connect.port())
    }

    /// Whether it leads to the instance's SSH server.
    pub(crate) fn is_ssh(&self) -> bool {
        self.connect.port() == 22 && (self.connect.ip().is_loopback() || self.connect.ip().is_unspecified())
    }
}

/// Reads a device's options; the error is in the words of LXD 5.0.
pub(crate) fn parse(options: &BTreeMap<String, String>) -> Result<Vec<Forward>, String> {
    let option = |key: &str| {
        let text = options.get(key).ok_or(format!("Required device option {key:?} is missing"))?;
        addresses(text).map_err(|e| format!("Invalid value for device option {key:?}: {e}"))
    };
    if options.get("bind").is_some_and(|b| b != "host") || options.get("nat").is_some_and(|n| n == "true") {
        return Err("this remote has proxies on the host only (bind=host), without NAT".into());
    }
    let (listen, connect) = (option("listen")?, option("connect")?);
    if connect.len() != 1 && connect.len() != listen.len() {
        return Err("Cannot map a port range to a port range of another size".into());
    }
    let connect = connect.iter().cycle();
    Ok(listen.iter().zip(connect).map(|(&listen, &connect)| Forward { listen, connect }).collect())
}

/// `tcp:ADDRESS:PORTS`, ports separated by commas, each a number or a range.
fn addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    let rest = text.strip_prefix("tcp:").ok_or(format!("{text:?} is not of type tcp"))?;
    let (host, ports) = rest.rsplit_once(':').ok_or(format!("{text:?} has no port"))?;
    let host = host.trim_matches(['[', ']']);
    let ip: IpAddr = host.parse().map_err(|_| format!("{host:?} is not an IP address"))?;
    let number = |text: &str| {
        let port = text.parse::<u16>().ok().filter(|p| *p > 0);
        port.ok_or(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
    };
    let mut found = Vec::new();
    for part in ports.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(format!("the port range {part} is empty"));
        }
        found.extend((first..=last).map(|port| SocketAddr::new(ip, port)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(listen: &str, connect: &str) -> Result<Vec<Forward>, String> {
        parse(&[("listen".into(), listen.into()), ("connect".into(), connect.into())].into())
    }

    #[test]
    fn ranges_are_matched_one_to_one_or_to_one() {
        let pairs = |listen, connect| -> Vec<(u16, u16)> {
            let forwards = device(listen, connect).expect("a proxy");
            forwards.iter().map(|f| (f.listen.port(), f.connect.port())).collect()
        };
        assert_eq!(pairs("tcp:127.0.0.1:80", "tcp:127.0.0.1:8080"), [(80, 8080)]);
        assert_eq!(pairs("tcp:0.0.0.0:80-82", "tcp:127.0.0.1:90-92"), [(80, 90), (81, 91), (82, 92)]);
        assert_eq!(pairs("tcp:[::1]:80,85", "tcp:127.0.0.1:90"), [(80, 90), (85, 90)]);
    }

    #[test]
    fn the_instances_loopback_is_its_own_address() {
        let instance = Ipv4Addr::new(127, 9, 8, 7);
        let target =
            |connect| device("tcp:127.0.0.1:80", connect).expect("a proxy")[0].target(instance).to_string();
        assert_eq!(target("tcp:127.0.0.1:90"), "127.9.8.7:90");
        assert_eq!(target("tcp:0.0.0.0:90"), "127.9.8.7:90");
        assert_eq!(target("tcp:10.0.0.1:90"), "10.0.0.1:90");
    }

    #[test]
    fn nonsense_is_refused() {
        for listen in [
            "",
            "udp:127.0.0.1:1",
            "tcp:127.0.0.1",
            "tcp:a:1",
            "tcp:127.0.0.1:1-",
            "tcp:127.0.0.1:9-8",
            "tcp:127.0.0.1:0",
        ] {
            assert!(device(listen, "tcp:127.0.0.1:1").is_err(), "{listen:?}");
        }
        assert!(device("tcp:127.0.0.1:1-3", "tcp:127.0.0.1:1-2").is_err());
    }
}
