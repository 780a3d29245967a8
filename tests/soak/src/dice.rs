//! Seeded choices.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The choices of one actor. Actors have dice of their own, so that none depends on how far another one is.
#[derive(Debug)]
pub struct Dice(StdRng);

impl Dice {
    /// The dice of `actor`, number `number` of its kind, in the run with this seed.
    pub fn new(seed: u64, actor: &str, number: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, actor, number).hash(&mut hasher);
        Self(StdRng::seed_from_u64(hasher.finish()))
    }

    /// True in `percent` of all cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    /// A number in this range.
    pub fn between(&mut self, range: RangeInclusive<i64>) -> i64 {
        self.0.random_range(range)
    }

    /// A time in this range of milliseconds.
    pub fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.0.random_range(range))
    }

    /// One of these; `None` if there are none.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        (!all.is_empty()).then(|| &all[self.0.random_range(0..all.len())])
    }

    /// One of these, each as often as its weight says.
    ///
    /// # Panics
    ///
    /// If the weights add up to 0.
    pub fn weighted<T: Copy>(&mut self, all: &[(u32, T)]) -> T {
        let mut left = self.0.random_range(0..all.iter().map(|(weight, _)| weight).sum());
        for &(weight, one) in all {
            if left < weight {
                return one;
            }
            left -= weight;
        }
        unreachable!("less than the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_the_choices_of_each_actor() {
        let throw = |actor, number| -> Vec<i64> {
            let mut dice = Dice::new(1, actor, number);
            (0..9).map(|_| dice.between(0..=99)).collect()
        };
        assert_eq!(throw("buyer", 1), throw("buyer", 1));
        assert_ne!(throw("buyer", 1), throw("buyer", 2));
        assert_ne!(throw("buyer", 1), throw("operator", 1));
    }
}
