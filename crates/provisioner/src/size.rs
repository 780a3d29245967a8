//! An environment's expected use and its limits: plain functions of its nodes, its hours and its kind of instance.
//!
//! Measured with Core Lightning 26.04 and Bitcoin Core 31. A node has 17 MB of its own at the start, 25 MB with its part of what
//! nodes share, and 47 MB once its ring of debug messages is full, after 24,000 blocks; from then on it grows with each block, as
//! bitcoind does from the first one.

use lnplaylive_core::catalogue::Terms;
use lnplaylive_core::settings::InstanceType;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Blocks that an environment mines in an hour, at the default `provisioning.block_time_secs` of 5.
const BLOCKS_PER_HOUR: u64 = 720;

/// Memory is given in pieces of so many MiB: firmware and kernels of virtual machines like even sizes.
const MEMORY_STEP_MIB: u64 = 64;

/// Bytes of memory that a block costs bitcoind for good (0.7 kB, rounded up).
const BITCOIND_MEMORY_PER_BLOCK: u64 = 768;
/// Bytes of memory that a block costs each node (0.33 kB).
const NODE_MEMORY_PER_BLOCK: u64 = 352;
/// Bytes of disk that a block costs bitcoind: the block, its undo data, its index, and 327 B of log.
const BITCOIND_DISK_PER_BLOCK: u64 = KIB;
/// Bytes of disk that a block costs each node's database (88 B, rounded up).
const NODE_DISK_PER_BLOCK: u64 = 128;

/// The least that is reckoned for the image in a container's root.
const MIN_IMAGE: u64 = GIB;
/// The factor between an image's size as a file and unpacked; `xz` does not do better with programs.
const UNPACKED: u64 = 4;
/// The default size of a virtual machine's root disk, on both servers.
const MACHINE_DISK: u64 = 10 * GIB;
/// Room for a node that has run wild, up to its own limit in `lnplay`: it must not fill the others' disk.
const SPARE_DISK: u64 = 512 * MIB;

/// The sum of processor limits that are admitted for each processor. Eight nodes that idle take a fortieth of one, with the system in
/// their container, and may use two: so many environments that idle leave a quarter of the processors free.
pub(crate) const CPU_OVERCOMMIT: u64 = 60;

/// The size of an environment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size {
    /// Its nodes.
    pub node_count: u32,
    /// The hours that it is for: what it takes grows with them.
    pub hours: u32,
}

impl From<&Terms> for Size {
    fn from(terms: &Terms) -> Self {
        Self { node_count: terms.node_count, hours: terms.hours }
    }
}

impl Size {
    /// True if it is as large as another in every respect.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.node_count >= other.node_count && self.hours >= other.hours
    }

    fn nodes(self) -> u64 {
        self.node_count.into()
    }

    fn blocks(self) -> u64 {
        BLOCKS_PER_HOUR * u64::from(self.hours)
    }

    /// Bytes of memory that blocks have come to cost at the end.
    fn memory_growth(self) -> u64 {
        self.blocks() * (BITCOIND_MEMORY_PER_BLOCK + NODE_MEMORY_PER_BLOCK * self.nodes())
    }

    /// The most memory that its instance may use, in MiB. A node has 94 MB resident with what it shares with others; the rest
    /// is for the system and bitcoind.
    pub(crate) fn memory_limit_mib(self) -> u64 {
        let mib = 512 + 96 * self.nodes() + self.memory_growth().div_ceil(MIB);
        mib.next_multiple_of(MEMORY_STEP_MIB)
    }

    /// The same in bytes.
    pub(crate) fn memory_limit(self) -> u64 {
        self.memory_limit_mib() * MIB
    }

    /// The memory that a well-behaved environment comes to use, in bytes.
    ///
    /// The pages that a container's processes share count once, so it stays far below its limit: 25 MB a node, and as much
    /// as eight nodes for systemd, bitcoind and its caches. A virtual machine comes to use all that it is given.
    pub(crate) fn memory_use(self, kind: InstanceType) -> u64 {
        match kind {
            InstanceType::Container => (200 + 25 * self.nodes()) * MIB + self.memory_growth(),
            InstanceType::VirtualMachine => self.memory_limit(),
        }
    }

    /// Processors that its instance may keep busy.
    pub(crate) fn cpu_limit(self) -> u64 {
        1 + self.nodes() / 8
    }

    /// Processes and threads that its instance may have. A node is 15 to 20 of them and `lnplay` lets one have 256; bitcoind is
    /// some twenty, or 128 at most.
    pub(crate) fn process_limit(self) -> u64 {
        512 + 48 * self.nodes()
    }

    /// The size of its root disk in bytes: the image, of which `image` is the size as a file, bitcoind's data, its nodes'
    /// databases, and something to spare.
    pub(crate) fn disk_limit(self, kind: InstanceType, image: u64) -> u64 {
        let image = match kind {
            InstanceType::Container => MIN_IMAGE.max(UNPACKED * image),
            InstanceType::VirtualMachine => MACHINE_DISK,
        };
        let growth = self.blocks() * (BITCOIND_DISK_PER_BLOCK + NODE_DISK_PER_BLOCK * self.nodes());
        image + SPARE_DISK + 32 * MIB * self.nodes() + growth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size(node_count: u32, hours: u32) -> Size {
        Size { node_count, hours }
    }

    #[test]
    fn weeks_need_more_than_hours() {
        // As measured: after 504 hours of a block each five seconds bitcoind has grown by a quarter of a GB and a node by 112 MB.
        let grown = size(8, 504).memory_limit_mib() - size(8, 0).memory_limit_mib();
        assert!((1100..1400).contains(&grown), "{grown} MiB");
        assert_eq!(size(8, 1).memory_limit_mib(), 1344, "512 + 8 * 96 + 3, in steps");
        let kind = InstanceType::Container;
        assert!(size(8, 504).disk_limit(kind, 0) > size(8, 48).disk_limit(kind, 0) + 500 * MIB);
    }

    #[test]
    fn a_container_uses_less_than_it_may_and_a_machine_all_of_it() {
        for size in [size(1, 1), size(8, 48), size(64, 504)] {
            assert!(size.memory_use(InstanceType::Container) < size.memory_limit());
            assert_eq!(size.memory_use(InstanceType::VirtualMachine), size.memory_limit());
        }
    }

    #[test]
    fn the_image_has_room_in_the_root_disk() {
        let image = 400 * MIB;
        assert!(size(1, 1).disk_limit(InstanceType::Container, image) > UNPACKED * image);
    }

    #[test]
    fn one_is_as_large_as_another_in_every_respect_or_not() {
        assert!(size(8, 48).covers(size(8, 48)) && size(16, 49).covers(size(8, 48)));
        assert!(!size(16, 47).covers(size(8, 48)) && !size(7, 500).covers(size(8, 48)));
    }
}
