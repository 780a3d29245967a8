//! Free ports for daemons that cannot bind port 0 and report what they got.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::{Error, Result};

/// Reserves a loopback port, which the kernel gives to nobody else for a minute.
///
/// A connection to it is opened and closed from the listening side, which leaves the port in `TIME_WAIT`. The kernel then uses it
/// neither for a bind to port 0 nor for an outgoing connection, but a daemon can bind it by number with `SO_REUSEADDR`, which
/// bitcoind, lightningd and tokio's listeners all set.
pub fn reserve_port() -> Result<u16> {
    let reserve = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let client = TcpStream::connect(address)?;
        drop(listener.accept()?);
        drop(client);
        Ok(address.port())
    };
    reserve().map_err(|source| Error::System { doing: "reserving a port on loopback", source })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn reserved_ports_are_distinct_and_can_be_bound() {
        let ports: HashSet<u16> = (0..200).map(|_| reserve_port().expect("loopback has room")).collect();
        assert_eq!(ports.len(), 200);
        for port in ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the reservation is ours to take");
        }
    }
}
