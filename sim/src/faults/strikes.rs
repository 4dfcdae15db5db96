//! The small faults of a run as explicit choices: which message is lost, which sync fails.
//!
//! Each occasion for a fault at one place has a moment: its time, and how many were at the same time before it. A run
//! draws which of them strike. Recorded, and given again, each strikes at the first occasion from its moment on: so
//! that it still means much the same in a run in which less happens.

use std::collections::{BTreeMap, BTreeSet};

use super::FaultKind;
use crate::Nanos;

/// Where occasions are counted. Machines go by their numbers in the world: stores first, then gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A store or gateway.
    Machine(usize),
    /// From one machine to another.
    Link(usize, usize),
    /// A client.
    Client(usize),
}

/// When an occasion was, and which of those at that time, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Simulated time.
    pub at: Nanos,
    /// How many were before it then.
    pub number: u64,
}

/// The occasions that struck, by kind and place.
pub type Struck = BTreeMap<(FaultKind, Place), BTreeSet<Moment>>;

/// The last occasion of each kind and place.
type Occasions = BTreeMap<(FaultKind, Place), Moment>;

/// Says whether a fault strikes.
#[derive(Debug, Default)]
pub enum Strikes {
    /// As drawn.
    #[default]
    Drawn,
    /// As drawn; what struck is kept.
    Recorded {
        /// What struck.
        struck: Struck,
        /// What could have.
        occasions: Occasions,
    },
    /// These, whatever is drawn.
    Given {
        /// What is still to strike.
        struck: Struck,
        /// What could have.
        occasions: Occasions,
    },
}

impl Strikes {
    /// As drawn, and kept.
    pub fn recorded() -> Self {
        Self::Recorded { struck: Struck::new(), occasions: Occasions::new() }
    }

    /// These and no others.
    pub fn given(struck: Struck) -> Self {
        Self::Given { struck, occasions: Occasions::new() }
    }

    /// An occasion for `kind`; `drawn`: whether it strikes if nothing else is said.
    pub fn strikes(&mut self, now: Nanos, kind: FaultKind, place: Place, drawn: bool) -> bool {
        let count = |occasions: &mut Occasions| {
            let first = Moment { at: now, number: 0 };
            let next = |last: &mut Moment| {
                let number = if last.at == now { last.number + 1 } else { 0 };
                *last = Moment { at: now, number };
            };
            *occasions.entry((kind, place)).and_modify(next).or_insert(first)
        };
        match self {
            Self::Drawn => drawn,
            Self::Recorded { struck, occasions } => {
                let moment = count(occasions);
                if drawn {
                    struck.entry((kind, place)).or_default().insert(moment);
                }
                drawn
            }
            Self::Given { struck, occasions } => {
                let moment = count(occasions);
                let Some(moments) = struck.get_mut(&(kind, place)) else { return false };
                // Several for which there was no occasion before are one now.
                let before = moments.len();
                while moments.first().is_some_and(|first| *first <= moment) {
                    moments.pop_first();
                }
                moments.len() < before
            }
        }
    }

    /// What struck so far, if that was kept.
    pub fn struck(&self) -> Struck {
        match self {
            Self::Drawn | Self::Given { .. } => Struck::new(),
            Self::Recorded { struck, .. } => struck.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: FaultKind = FaultKind::MessageLost;

    /// Occasions at these times.
    fn play(strikes: &mut Strikes, occasions: &[(Nanos, bool)]) -> Vec<bool> {
        let strike = |(now, drawn): &(Nanos, bool)| {
            assert!(!strikes.strikes(*now, KIND, Place::Link(0, 2), false));
            strikes.strikes(*now, KIND, Place::Link(0, 1), *drawn)
        };
        occasions.iter().map(strike).collect()
    }

    #[test]
    fn what_struck_strikes_again_and_nothing_else() {
        let drawn = [(5, false), (5, true), (5, true), (9, false), (12, true), (12, false)];
        let expected = drawn.map(|(_, drawn)| drawn);
        let mut recorded = Strikes::recorded();
        assert_eq!(play(&mut recorded, &drawn), expected);
        let mut given = Strikes::given(recorded.struck());
        assert_eq!(play(&mut given, &drawn.map(|(at, drawn)| (at, !drawn))), expected);
        assert_eq!(play(&mut Strikes::Drawn, &drawn), expected);
    }

    #[test]
    fn what_has_lost_its_occasion_takes_the_next() {
        let mut recorded = Strikes::recorded();
        play(&mut recorded, &[(5, true), (7, true), (20, true)]);
        let mut given = Strikes::given(recorded.struck());
        let later = [(4, false), (9, false), (9, false), (30, false), (31, false)];
        assert_eq!(play(&mut given, &later), [false, true, false, true, false]);
    }
}
