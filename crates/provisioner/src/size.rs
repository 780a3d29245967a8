//! How much memory an environment takes.

use lnplaylive_core::settings::InstanceType;

const MIB: u64 = 1024 * 1024;

/// The most that an instance may use, in MiB. A node takes 25 MB of its own and 94 MB resident with what it shares
/// with others; the rest is for the system and bitcoind.
pub(crate) fn limit_mib(node_count: u32) -> u64 {
    512 + 96 * u64::from(node_count)
}

/// What a remote needs to have free for an instance, in bytes.
///
/// The pages that a container's processes share count once, so it stays far below its limit: 25 MB a node, and as much
/// as eight nodes for systemd, bitcoind and its caches. A virtual machine comes to use all that it is given.
pub(crate) fn needed(kind: InstanceType, node_count: u32) -> u64 {
    let mib = match kind {
        InstanceType::Container => 200 + 25 * u64::from(node_count),
        InstanceType::VirtualMachine => limit_mib(node_count),
    };
    mib * MIB
}

/// What a remote's storage pool needs to have free for an instance, in bytes: its copy of the image, where the pool
/// does not share it, bitcoind's data and its nodes' databases.
pub(crate) fn disk(node_count: u32) -> u64 {
    (1024 + 32 * u64::from(node_count)) * MIB
}
