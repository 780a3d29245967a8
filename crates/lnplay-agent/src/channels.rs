//! The channels that an environment begins with, and their sizes: pure functions of the spec.

use lnplaylive_core::ChannelSetup;

/// The smallest size of a channel, in sat: enough for a day of play.
pub const SMALLEST: u64 = 1_000_000;

/// The largest size of a channel, in sat: below 2^24, which any implementation accepts.
pub const LARGEST: u64 = 10_000_000;

/// The channels that one node opens, all in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The node that opens the channels and pays for them.
    pub opener: u32,
    /// The other ends.
    pub peers: Vec<u32>,
}

/// The channels of each node that opens any.
pub fn openings(setup: ChannelSetup, nodes: u32) -> Vec<Opening> {
    let opening = |opener: u32, peers: Vec<u32>| Opening { opener, peers };
    let all = match setup {
        ChannelSetup::None => Vec::new(),
        ChannelSetup::Star => vec![opening(0, (1..nodes).collect())],
        // One or two nodes make no circle: it would have two channels between the same nodes.
        ChannelSetup::Circular if nodes <= 2 => vec![opening(0, (1..nodes).collect())],
        ChannelSetup::Circular => (0..nodes).map(|node| opening(node, vec![(node + 1) % nodes])).collect(),
        ChannelSetup::Prism if nodes <= 1 => Vec::new(),
        ChannelSetup::Prism => vec![opening(0, vec![1]), opening(1, (2..nodes).collect())],
    };
    all.into_iter().filter(|opening| !opening.peers.is_empty()).collect()
}

/// The size, in sat, of each of `count` channels of an opener with `coins` sat: they share half of its coins, within the
/// limits. The other half stays on chain, for fees and for the attendee's own channels.
pub fn size(coins: u64, count: usize) -> u64 {
    (coins / (2 * count.max(1) as u64)).clamp(SMALLEST, LARGEST)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use lnplaylive_core::CoinDistribution;
    use proptest::prelude::*;

    use super::*;
    use crate::coins;

    const SETUPS: [ChannelSetup; 4] =
        [ChannelSetup::None, ChannelSetup::Star, ChannelSetup::Circular, ChannelSetup::Prism];

    fn edges(setup: ChannelSetup, nodes: u32) -> Vec<(u32, u32)> {
        let of = |opening: Opening| opening.peers.into_iter().map(move |peer| (opening.opener, peer));
        openings(setup, nodes).into_iter().flat_map(of).collect()
    }

    #[test]
    fn each_setup_has_its_shape() {
        use ChannelSetup::{Circular, None, Prism, Star};
        assert_eq!(edges(None, 8), []);
        assert_eq!(edges(Star, 4), [(0, 1), (0, 2), (0, 3)]);
        assert_eq!(edges(Circular, 4), [(0, 1), (1, 2), (2, 3), (3, 0)]);
        assert_eq!(edges(Prism, 4), [(0, 1), (1, 2), (1, 3)]);
        for setup in [Star, Circular, Prism] {
            assert_eq!(edges(setup, 1), []);
            assert_eq!(edges(setup, 2), [(0, 1)]);
        }
    }

    proptest! {
        #[test]
        fn no_two_nodes_share_two_channels_and_all_are_connected(nodes in 2u32..=64) {
            for setup in SETUPS.into_iter().skip(1) {
                let edges = edges(setup, nodes);
                let pairs: HashSet<_> = edges.iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
                prop_assert_eq!(pairs.len(), edges.len());
                prop_assert!(edges.iter().all(|(a, b)| a != b && *a < nodes && *b < nodes));
                let ends: HashSet<_> = edges.iter().flat_map(|(a, b)| [a, b]).collect();
                prop_assert_eq!(ends.len(), nodes as usize);
                // A tree, or the circle's one more.
                prop_assert!(edges.len() + 1 >= nodes as usize);
            }
        }

        #[test]
        fn everybody_can_pay_for_what_they_open(nodes in 1u32..=64, seed: u64) {
            use CoinDistribution::{Egalitarian, Political, Poisson, Pow};
            let distributions = [Egalitarian, Political, Poisson, Pow];
            for (setup, distribution) in SETUPS.into_iter().flat_map(|s| distributions.map(|d| (s, d))) {
                let coins = coins::allocate(distribution, setup, nodes, seed);
                for Opening { opener, peers } in openings(setup, nodes) {
                    let has = coins[opener as usize];
                    let spent = size(has, peers.len()) * peers.len() as u64;
                    // The rest pays the fee and keeps what Core Lightning wants kept for emergencies.
                    prop_assert!(spent + coins::AT_LEAST <= has, "node {opener} has {has} and spends {spent}");
                }
            }
        }
    }
}
