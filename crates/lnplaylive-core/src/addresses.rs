//! The static addresses of virtual machines on a remote.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::settings::AddressRange;

/// The free addresses of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeAddresses {
    range: AddressRange,
    /// Those that are taken, all of them in the range.
    taken: BTreeSet<Ipv4Addr>,
}

impl FreeAddresses {
    /// All addresses of a range.
    pub fn new(range: AddressRange) -> Self {
        Self { range, taken: BTreeSet::new() }
    }

    /// Takes an address. One outside the range, left from an earlier setting, is ignored.
    pub fn take(&mut self, address: Ipv4Addr) {
        if (self.range.first..=self.range.last).contains(&address) {
            self.taken.insert(address);
        }
    }

    /// Frees an address.
    pub fn give_back(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address);
    }

    /// The number of free addresses.
    pub fn count(&self) -> u32 {
        let all = (u32::from(self.range.last) - u32::from(self.range.first)).saturating_add(1);
        all.saturating_sub(u32::try_from(self.taken.len()).unwrap_or(u32::MAX))
    }

    /// The lowest free address; after `skip` failed attempts the one `skip` free addresses further on, if there is one, so
    /// that the same address is not tried again.
    pub fn address(&self, skip: u32) -> Option<Ipv4Addr> {
        let mut lowest = None;
        let mut skip = skip;
        for address in u32::from(self.range.first)..=u32::from(self.range.last) {
            let address = Ipv4Addr::from(address);
            if self.taken.contains(&address) {
                continue;
            }
            if skip == 0 {
                return Some(address);
            }
            lowest = lowest.or(Some(address));
            skip -= 1;
        }
        lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn three() -> FreeAddresses {
        FreeAddresses::new(AddressRange { first: address(10), last: address(12) })
    }

    #[test]
    fn each_is_given_once() {
        let mut free = three();
        let mut given = vec![];
        while let Some(next) = free.address(0) {
            assert_eq!(free.count(), 3 - u32::try_from(given.len()).expect("few"));
            given.push(next);
            free.take(next);
        }
        assert_eq!(given, [10, 11, 12].map(address));
        assert_eq!((free.count(), free.address(1)), (0, None));
        free.give_back(address(11));
        assert_eq!((free.count(), free.address(0)), (1, Some(address(11))));
    }

    #[test]
    fn those_that_failed_are_passed_over_while_there_are_others() {
        let mut free = three();
        free.take(address(11));
        let picked = [0, 1, 2].map(|skip| free.address(skip));
        assert_eq!(picked, [Some(address(10)), Some(address(12)), Some(address(10))]);
    }

    #[test]
    fn addresses_outside_the_range_do_not_count() {
        let mut free = three();
        free.take(address(9));
        free.give_back(address(13));
        assert_eq!((free.count(), free.address(0)), (3, Some(address(10))));
    }

    #[test]
    fn a_range_may_reach_the_last_address_there_is() {
        let last = Ipv4Addr::BROADCAST;
        let mut free = FreeAddresses::new(AddressRange { first: last, last });
        assert_eq!(free.address(3), Some(last));
        free.take(last);
        assert_eq!(free.address(0), None);
    }
}
