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

    /// A stream of one of many places (machines, links): what happens at one moves no other's.
    fn of_place(seed: u64, purpose: u64, place: usize) -> Self {
        Self::new(seed, purpose | (place as u64 + 1) << 16)
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

/// The draws of one purpose: one stream for all places (machines, links), or one for each.
///
/// Runs of seeds have one stream, so that each draw depends on all before. With a stream for each place a run that
/// differs in little from another one stays like it: what shrinking needs.
#[derive(Clone, Debug)]
pub struct Streams {
    seed: u64,
    purpose: u64,
    shared: Draw,
    own: Option<Vec<Option<Draw>>>,
}

impl Streams {
    /// Streams that depend on `seed` and `purpose` alone; `own`: one for each place.
    pub fn new(seed: u64, purpose: u64, own: bool) -> Self {
        Self { seed, purpose, shared: Draw::new(seed, purpose), own: own.then(Vec::new) }
    }

    /// The stream of a place.
    pub fn of(&mut self, place: usize) -> &mut Draw {
        let Some(own) = &mut self.own else { return &mut self.shared };
        if own.len() <= place {
            own.resize(place + 1, None);
        }
        let (seed, purpose) = (self.seed, self.purpose);
        own[place].get_or_insert_with(|| Draw::of_place(seed, purpose, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded runs keep no latency: they draw it again. This must never change.
    #[test]
    fn draws_are_for_ever() {
        let mut draw = Draw::new(0x5f3a, 3);
        let bits: Vec<u64> = (0..3).map(|_| draw.bits()).collect();
        assert_eq!(bits, [0x6b420fae3e7be52a, 0x1405e55a983c172c, 0xbfae2c20271b1d87]);
        let shapes: Vec<u64> = (0..4).map(|_| draw.skewed(100, 1_000_000)).collect();
        assert_eq!(shapes, [20_228, 217_719, 292_334, 144_542]);
        let between: Vec<u64> = (0..4).map(|_| draw.between(10, 20)).collect();
        assert_eq!(between, [20, 18, 20, 20]);
        let picks: Vec<usize> = (0..4).map(|_| draw.index(1_000)).collect();
        assert_eq!(picks, [537, 667, 507, 576]);
        let chances: Vec<bool> = (0..8).map(|_| draw.one_in(2)).collect();
        assert_eq!(chances, [0, 1, 0, 0, 0, 0, 0, 0].map(|it| it == 1));
        let parts = (0..10_000).filter(|_| draw.of_ten_thousand(300)).count();
        assert_eq!(parts, 283);
        let mut own = Streams::new(0x5f3a, 3, true);
        let firsts = [0, 1, 6].map(|place| own.of(place).bits());
        assert_eq!(firsts, [0xc4ff4122c48b26a9, 0x1e021870b701563f, 0x9f701ec2259328ed]);
        let mut shared = Streams::new(0x5f3a, 3, false);
        assert_eq!([shared.of(0).bits(), shared.of(7).bits()], bits[..2]);
    }

    #[test]
    fn draws_at_one_place_move_no_other() {
        let (mut one, mut other) = (Streams::new(1, 2, true), Streams::new(1, 2, true));
        one.of(3).bits();
        assert_eq!(one.of(4).bits(), other.of(4).bits());
        assert_ne!(one.of(3).bits(), other.of(3).bits());
    }
}
