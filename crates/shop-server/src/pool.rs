//! Places that clients share: so many in all, so many for one client, so many for one network.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use lnplaylive_core::visitor::{Client, Network};

use crate::settings::Places;

/// The reason why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All places are taken.
    Full,
    /// The client has its share.
    Client,
    /// The network has its share.
    Network,
}

/// Places of one kind.
#[derive(Debug)]
pub(crate) struct Pool {
    places: Places,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: u32,
    clients: HashMap<Client, u32>,
    networks: HashMap<Network, u32>,
}

impl Pool {
    pub(crate) fn new(places: Places) -> Arc<Self> {
        Arc::new(Self { places, taken: Mutex::default() })
    }

    /// Number of places that are taken.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// Number of places that there are.
    pub(crate) fn total(&self) -> u32 {
        self.places.total
    }

    /// Takes a place for `address` until the returned value is dropped. `also` is asked last, when there is a place.
    pub(crate) fn take<E: From<NoPlace>>(
        self: &Arc<Self>,
        address: IpAddr,
        also: impl FnOnce() -> Result<(), E>,
    ) -> Result<Place, E> {
        let (client, network) = (Client::from(address), Network::from(address));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= self.places.total {
            return Err(NoPlace::Full.into());
        }
        if count(&taken.clients, &client) >= self.places.per_client {
            return Err(NoPlace::Client.into());
        }
        if count(&taken.networks, &network) >= self.places.per_network {
            return Err(NoPlace::Network.into());
        }
        also()?;
        taken.total += 1;
        *taken.clients.entry(client).or_default() += 1;
        *taken.networks.entry(network).or_default() += 1;
        Ok(Place { pool: Arc::clone(self), client, network })
    }
}

fn count<K: Eq + Hash>(counts: &HashMap<K, u32>, key: &K) -> u32 {
    counts.get(key).copied().unwrap_or(0)
}

fn decrement<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A place that is taken.
#[derive(Debug)]
pub(crate) struct Place {
    pool: Arc<Pool>,
    client: Client,
    network: Network,
}

impl Place {
    /// Who has it.
    pub(crate) fn client(&self) -> Client {
        self.client
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.pool.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        decrement(&mut taken.clients, &self.client);
        decrement(&mut taken.networks, &self.network);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pool: &Arc<Pool>, address: &str) -> Result<Place, NoPlace> {
        pool.take(address.parse().expect("an address"), || Ok(()))
    }

    #[test]
    fn a_network_has_its_share_however_many_addresses_it_has() {
        let pool = Pool::new(Places { total: 100, per_client: 2, per_network: 5 });
        for (attacker, buyer) in
            [(["2001:db8:7:", "::1"], "2001:db8:8::1"), (["198.51.100.", ""], "198.51.101.1")]
        {
            let attack: Vec<_> = (0..200)
                .filter_map(|n| take(&pool, &format!("{}{n}{}", attacker[0], attacker[1])).ok())
                .collect();
            assert_eq!(attack.len(), 5, "{attacker:?}");
            take(&pool, buyer).expect("a place for somebody else");
        }
    }

    #[test]
    fn places_come_back() {
        let pool = Pool::new(Places { total: 2, per_client: 1, per_network: 2 });
        let first = take(&pool, "192.0.2.1").expect("the first");
        assert_eq!(take(&pool, "192.0.2.1").err(), Some(NoPlace::Client));
        let second = take(&pool, "203.0.113.1").expect("the second");
        assert_eq!(take(&pool, "192.0.2.2").err(), Some(NoPlace::Full));
        drop((first, second));
        assert!(take(&pool, "192.0.2.1").is_ok());
        let taken = pool.taken.lock().expect("not poisoned");
        assert!(taken.clients.is_empty() && taken.networks.is_empty(), "{taken:?}");
    }
}
