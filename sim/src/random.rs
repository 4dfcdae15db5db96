//! Draws from the core's generator, in the shapes that a simulation needs.

use trine_core::rng::Rng;

/// A stream of draws. Each purpose (network, disk, faults, each client) has its own, so that a
/// change of one does not move the others.
#[derive(Clone, Debug)]
pub struct Draw(Rng);

impl Draw {
    /// A stream that depends on `seed` and `purpose` alone.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut rng = Rng::new(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self(rng.fork())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number of `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an empty interval leaves nothing to choose");
        low + self.0.below(high - low + 1)
    }

    /// Whether something of `parts` in 10,000 happens. Draws nothing if `parts` is 0.
    pub fn of_ten_thousand(&mut self, parts: u64) -> bool {
        parts > 0 && self.0.chance(parts, 10_000)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.0.chance(1, n)
    }

    /// An index below `len`.
    pub fn index(&mut self, len: usize) -> usize {
        let index = self.0.below(len as u64);
        usize::try_from(index).expect("it is below a usize")
    }

    /// One of `choices`.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }

    /// Mostly near `low`, sometimes up to `high`: the shape of latencies.
    pub fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let first = self.between(low, high);
        let second = self.between(low, first);
        self.between(low, second)
    }
}
