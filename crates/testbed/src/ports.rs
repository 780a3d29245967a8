//! Free ports for daemons that cannot bind port 0 and report what they got.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::{Error, Result};

/// A loopback port that the kernel hands to nobody else for the next minute.
///
/// One connection is made through it and closed from the listening side, which leaves the port in `TIME_WAIT`: the kernel
/// then picks it neither for a bind to port 0 nor for an outgoing connection, while a daemon that binds it by number with
/// `SO_REUSEADDR` (bitcoind, lightningd and tokio's listeners all do) gets it.
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
