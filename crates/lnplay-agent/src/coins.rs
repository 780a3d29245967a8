//! The distribution of coins among the nodes: pure functions of the spec.
//!
//! The total is the same in all distributions. Every node has enough for a channel of its own besides those that it opens
//! and pays for when the environment comes up (see [`crate::channels`]). Randomness comes from the spec's seed through a
//! generator that is part of this file, so that a seed always means the same allocation.

use lnplaylive_core::{ChannelSetup, CoinDistribution};

use crate::channels;

/// The average coins of a node, in sat.
pub const PER_NODE: u64 = 100_000_000;

/// The least coins of a node, in sat.
pub const AT_LEAST: u64 = PER_NODE / 100;

/// The sats of each node, node 0 first. They add up to `nodes * PER_NODE`.
pub fn allocate(distribution: CoinDistribution, setup: ChannelSetup, nodes: u32, seed: u64) -> Vec<u64> {
    let random = &mut Random(seed);
    let weights: Vec<u64> = match distribution {
        CoinDistribution::Egalitarian => vec![1; nodes as usize],
        CoinDistribution::Political => political(nodes, random),
        CoinDistribution::Poisson => (0..nodes).map(|_| poisson(random)).collect(),
        CoinDistribution::Pow => mined(nodes, random),
    };
    let mut amounts = by_weight(&weights);
    let mut least = vec![AT_LEAST; nodes as usize];
    for opening in channels::openings(setup, nodes) {
        least[opening.opener as usize] += channels::SMALLEST * opening.peers.len() as u64;
    }
    raise(&mut amounts, &least);
    amounts
}

/// Raises nodes that have less than their `least`. The others give in proportion to their excess, and the richest gives what
/// rounding leaves.
fn raise(amounts: &mut [u64], least: &[u64]) {
    let lacking: u64 = amounts.iter().zip(least).map(|(has, least)| least.saturating_sub(*has)).sum();
    let spare: u64 = amounts.iter().zip(least).map(|(has, least)| has.saturating_sub(*least)).sum();
    if lacking == 0 || spare < lacking {
        return;
    }
    let mut owed = lacking;
    for (has, least) in amounts.iter_mut().zip(least) {
        let part = u128::from(has.saturating_sub(*least)) * u128::from(lacking) / u128::from(spare);
        let part = u64::try_from(part).unwrap_or(0);
        owed -= part;
        *has = (*has - part).max(*least);
    }
    if let Some(richest) = amounts.iter_mut().max() {
        *richest -= owed;
    }
}

/// One in eight nodes, chosen at random, rules; together the rulers hold nine tenths.
fn political(nodes: u32, random: &mut Random) -> Vec<u64> {
    let rulers = u64::from(nodes.div_ceil(8));
    let ruled = u64::from(nodes) - rulers;
    let mut order: Vec<usize> = (0..nodes as usize).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i as u64 + 1));
    }
    let mut weights = vec![rulers; nodes as usize];
    for &ruler in order.iter().take(usize::try_from(rulers).unwrap_or(usize::MAX)) {
        weights[ruler] = 9 * ruled.max(1);
    }
    weights
}

/// A Poisson variable of mean 4, by Knuth's multiplication of uniform variables (in fixed point).
fn poisson(random: &mut Random) -> u64 {
    // e^-4 in units of 2^-32.
    const LIMIT: u64 = 78_665_070;
    let (mut product, mut count) = (1 << 32, 0);
    loop {
        product = (product * (random.next() >> 32)) >> 32;
        if product <= LIMIT {
            return count;
        }
        count += 1;
    }
}

/// A hundred blocks per node, each found by a random node in proportion to its hash power. Hash powers differ by a factor
/// of up to a hundred.
fn mined(nodes: u32, random: &mut Random) -> Vec<u64> {
    let power: Vec<u64> = (0..nodes).map(|_| 10_000 / (1 + random.below(100) as u64)).collect();
    let total = power.iter().sum();
    let mut blocks = vec![0; nodes as usize];
    for _ in 0..100 * nodes {
        let mut hash = random.below(total) as u64;
        let finder = power.iter().position(|p| {
            let found = hash < *p;
            hash = hash.saturating_sub(*p);
            found
        });
        blocks[finder.unwrap_or(0)] += 1;
    }
    blocks
}

/// Gives everybody [`AT_LEAST`] and shares the rest by weight; the first node gets what rounding leaves.
fn by_weight(weights: &[u64]) -> Vec<u64> {
    let nodes = weights.len() as u64;
    let equal = weights.iter().all(|w| *w == 0);
    let total: u64 = if equal { nodes } else { weights.iter().sum() };
    let shared = nodes * (PER_NODE - AT_LEAST);
    let part = |w: &u64| {
        let weight = if equal { 1 } else { *w };
        AT_LEAST + u64::try_from(u128::from(shared) * u128::from(weight) / u128::from(total)).unwrap_or(0)
    };
    let mut amounts: Vec<u64> = weights.iter().map(part).collect();
    let left = nodes * PER_NODE - amounts.iter().sum::<u64>();
    if let Some(first) = amounts.first_mut() {
        *first += left;
    }
    amounts
}

/// `SplitMix64`, as published by Steele, Lea and Flood (2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`, with a bias that is negligible for small bounds.
    fn below(&mut self, bound: u64) -> usize {
        usize::try_from((u128::from(self.next()) * u128::from(bound)) >> 64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [CoinDistribution; 4] = [
        CoinDistribution::Egalitarian,
        CoinDistribution::Political,
        CoinDistribution::Poisson,
        CoinDistribution::Pow,
    ];

    proptest! {
        #[test]
        fn the_total_is_the_same_and_nobody_goes_without(nodes in 1u32..=64, seed: u64) {
            for distribution in ALL {
                for setup in [ChannelSetup::None, ChannelSetup::Star, ChannelSetup::Circular, ChannelSetup::Prism] {
                    let amounts = allocate(distribution, setup, nodes, seed);
                    prop_assert_eq!(amounts.len(), nodes as usize);
                    prop_assert_eq!(amounts.iter().sum::<u64>(), u64::from(nodes) * PER_NODE);
                    prop_assert!(amounts.iter().all(|sat| *sat >= AT_LEAST));
                    prop_assert_eq!(&amounts, &allocate(distribution, setup, nodes, seed));
                }
            }
        }

        #[test]
        fn a_few_hold_most_where_there_is_politics(nodes in 2u32..=64, seed: u64) {
            let mut amounts = allocate(CoinDistribution::Political, ChannelSetup::None, nodes, seed);
            amounts.sort_unstable();
            let rulers: u64 = amounts.iter().rev().take(nodes.div_ceil(8) as usize).sum();
            prop_assert!(rulers * 10 > u64::from(nodes) * PER_NODE * 8);
        }
    }

    #[test]
    fn equals_get_the_same() {
        for setup in [ChannelSetup::None, ChannelSetup::Star, ChannelSetup::Circular, ChannelSetup::Prism] {
            assert_eq!(allocate(CoinDistribution::Egalitarian, setup, 64, 7), vec![PER_NODE; 64]);
        }
    }

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let spread = |distribution| {
            let amounts = allocate(distribution, ChannelSetup::None, 8, 21);
            amounts.iter().map(|sat| sat / 1_000_000).collect::<Vec<_>>()
        };
        assert_eq!(spread(CoinDistribution::Political), [12, 12, 12, 12, 713, 12, 12, 12]);
        assert_eq!(spread(CoinDistribution::Poisson), [59, 118, 177, 177, 59, 1, 118, 89]);
        assert_eq!(spread(CoinDistribution::Pow), [430, 18, 19, 15, 131, 18, 16, 147]);
        let of_seed = |seed| allocate(CoinDistribution::Pow, ChannelSetup::None, 8, seed);
        assert_ne!(of_seed(1), of_seed(2));
    }
}
