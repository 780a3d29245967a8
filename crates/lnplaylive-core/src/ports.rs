//! The TCP ports of environments on a remote.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::settings::PortRange;

/// The ports of one environment on its remote: one for SSH and then one for each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortBlock {
    /// The SSH port.
    pub first: u16,
    /// The number of ports, the SSH port included.
    pub count: u16,
}

impl PortBlock {
    /// The number of ports that an environment of `node_count` nodes takes.
    pub fn size_for(node_count: u32) -> u32 {
        node_count.saturating_add(1)
    }

    /// The block of an environment of `node_count` nodes that begins at `first`; `None` if it would run past 65535.
    pub fn for_nodes(first: u16, node_count: u32) -> Option<Self> {
        let block = Self { first, count: u16::try_from(Self::size_for(node_count)).ok()? };
        block.is_valid().then_some(block)
    }

    /// True if there is an SSH port and a node's port, and all of them are from 1 to 65535.
    pub fn is_valid(self) -> bool {
        self.first > 0 && self.count > 1 && self.end() <= 1 << 16
    }

    /// The SSH port.
    pub fn ssh(self) -> u16 {
        self.first
    }

    /// The nodes' ports, node 0's first.
    pub fn nodes(self) -> RangeInclusive<u16> {
        self.first.saturating_add(1)..=self.last()
    }

    /// The number of nodes.
    pub fn node_count(self) -> u32 {
        u32::from(self.count.saturating_sub(1))
    }

    /// The last port.
    pub fn last(self) -> u16 {
        u16::try_from(self.end().saturating_sub(1)).unwrap_or(u16::MAX)
    }

    /// The port after the last one.
    fn end(self) -> u32 {
        u32::from(self.first) + u32::from(self.count)
    }
}

/// The free ports of a range, kept as gaps. A search takes time in proportion to the gaps, which are few: blocks are
/// taken from the lowest end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreePorts {
    range: (u32, u32),
    /// First port and the one after the last, in ascending order. None is empty or touches the next.
    gaps: Vec<(u32, u32)>,
}

fn span(block: PortBlock) -> (u32, u32) {
    (block.first.into(), block.end())
}

impl FreePorts {
    /// All ports of a range.
    pub fn new(range: PortRange) -> Self {
        let range = (u32::from(range.first), u32::from(range.last) + 1);
        Self { range, gaps: vec![range] }
    }

    /// Takes those ports of a block that are free.
    pub fn take(&mut self, block: PortBlock) {
        let (from, to) = span(block);
        let first = self.gaps.partition_point(|gap| gap.1 <= from);
        let last = self.gaps.partition_point(|gap| gap.0 < to);
        if first < last {
            let (start, end) = (self.gaps[first].0, self.gaps[last - 1].1);
            let left = [(start, from), (to, end)].into_iter().filter(|gap| gap.0 < gap.1);
            self.gaps.splice(first..last, left);
        }
    }

    /// Frees those ports of a block that are in the range.
    pub fn give_back(&mut self, block: PortBlock) {
        let (from, to) = span(block);
        let (mut from, mut to) = (from.max(self.range.0), to.min(self.range.1));
        if from >= to {
            return;
        }
        // Merges it with the gaps that it touches.
        let first = self.gaps.partition_point(|gap| gap.1 < from);
        let last = self.gaps.partition_point(|gap| gap.0 <= to);
        for gap in &self.gaps[first..last] {
            (from, to) = (from.min(gap.0), to.max(gap.1));
        }
        self.gaps.splice(first..last, [(from, to)]);
    }

    /// The lowest free block for an environment of `node_count` nodes; after `skip` failed attempts the one `skip`
    /// blocks further on, if there is one, so that the same ports are not tried again.
    pub fn block(&self, node_count: u32, skip: u32) -> Option<PortBlock> {
        let size = PortBlock::size_for(node_count);
        let (mut lowest, mut skip) = (None, skip);
        for (from, to) in &self.gaps {
            let blocks = (to - from) / size;
            let at = |index: u32| PortBlock::for_nodes(u16::try_from(from + index * size).ok()?, node_count);
            if skip < blocks {
                return at(skip);
            }
            if blocks > 0 && lowest.is_none() {
                lowest = at(0);
            }
            skip -= blocks;
        }
        lowest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_as_if_each_port_was_kept_apart(
            steps in proptest::collection::vec((any::<bool>(), 95_u16..215, 1_u16..20), 0..40),
            node_count in 1_u32..20,
        ) {
            let mut ports = FreePorts::new(PortRange { first: 100, last: 200 });
            let mut free: Vec<bool> = (0..=300).map(|port| (100..=200).contains(&port)).collect();
            for (give_back, first, count) in steps {
                let block = PortBlock { first, count };
                if give_back { ports.give_back(block) } else { ports.take(block) }
                for port in first..first + count {
                    free[usize::from(port)] = give_back && (100..=200).contains(&port);
                }
            }
            let fits = |first: usize| free[first..].iter().take(node_count as usize + 1).all(|is| *is);
            let expected = (100..=200).find(|first| fits(*first));
            prop_assert_eq!(ports.block(node_count, 0).map(|block| usize::from(block.first)), expected);
        }
    }

    #[test]
    fn a_block_has_a_port_for_ssh_and_one_for_each_node() {
        let block = PortBlock::for_nodes(20000, 8).expect("room");
        assert_eq!((block.first, block.count), (20000, 9));
        assert_eq!((block.ssh(), block.nodes(), block.last()), (20000, 20001..=20008, 20008));
        assert_eq!(block.node_count(), 8);
        assert_eq!(PortBlock::for_nodes(65_527, 8).map(PortBlock::last), Some(u16::MAX));
        for (first, node_count) in [(65_528, 8), (0, 8), (20000, 0), (1, u32::MAX)] {
            assert_eq!(PortBlock::for_nodes(first, node_count), None, "{first} {node_count}");
        }
    }

    #[test]
    fn blocks_that_failed_are_passed_over_while_there_are_others() {
        let mut ports = FreePorts::new(PortRange { first: 20000, last: 20099 });
        let mut blocks = vec![];
        while let Some(block) = ports.block(8, 0) {
            blocks.push(block);
            ports.take(block);
        }
        assert_eq!(blocks.len(), 11, "100 ports hold eleven blocks of nine");
        assert_eq!(ports.block(8, 3), None);
        ports.give_back(blocks[3]);
        ports.give_back(blocks[7]);
        assert_eq!(ports.block(9, 0), None, "nowhere are ten in a row");
        let picked: Vec<_> = (0..3).map(|skip| ports.block(8, skip)).collect();
        assert_eq!(picked, [Some(blocks[3]), Some(blocks[7]), Some(blocks[3])]);
    }
}
