//! Which of a remote's ports are free.

use crate::order::PortBlock;
use crate::settings::PortRange;

/// The free ports of a range. Looking for some takes as long as there are gaps, which is not long: blocks are
/// taken from the lowest end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreePorts {
    range: (u32, u32),
    /// First port and the one after the last, in order, none of them empty or touching the next.
    gaps: Vec<(u32, u32)>,
}

fn span(block: PortBlock) -> (u32, u32) {
    let first = u32::from(block.first);
    (first, first + u32::from(block.count))
}

impl FreePorts {
    /// All of a range.
    pub fn new(range: PortRange) -> Self {
        let range = (u32::from(range.first), u32::from(range.last) + 1);
        Self { range, gaps: vec![range] }
    }

    /// Takes ports, whichever of them are free.
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

    /// Gives ports back, as far as they are in the range.
    pub fn give_back(&mut self, block: PortBlock) {
        let (from, to) = span(block);
        let (mut from, mut to) = (from.max(self.range.0), to.min(self.range.1));
        if from >= to {
            return;
        }
        // With those that it touches.
        let first = self.gaps.partition_point(|gap| gap.1 < from);
        let last = self.gaps.partition_point(|gap| gap.0 <= to);
        for gap in &self.gaps[first..last] {
            (from, to) = (from.min(gap.0), to.max(gap.1));
        }
        self.gaps.splice(first..last, [(from, to)]);
    }

    /// A free block for an environment of `node_count` nodes, one port for SSH and one for each node: the
    /// lowest one, or, so that what failed is not tried again, the one `skip` blocks on if there is one.
    pub fn block(&self, node_count: u32, skip: u32) -> Option<PortBlock> {
        let count = u16::try_from(node_count + 1).ok()?;
        let (mut lowest, mut skip) = (None, skip);
        for (from, to) in &self.gaps {
            let blocks = (to - from) / u32::from(count);
            let at = |index: u32| u16::try_from(from + index * u32::from(count)).ok();
            if skip < blocks {
                return at(skip).map(|first| PortBlock { first, count });
            }
            if blocks > 0 && lowest.is_none() {
                lowest = at(0).map(|first| PortBlock { first, count });
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
