//! Feature levels: what all processes of a cluster must understand, counted by one number.
//!
//! A build speaks the levels from [`LEVEL_MIN`] to [`LEVEL_MAX`], and a cluster is at one of them: its map says
//! which. What a level has brought is used when the
//! cluster has reached it, and not before, so that stores and gateways of two versions can work side by side
//! while one after the other is restarted. Then an operator raises the level. It never goes down.
//!
//! - **Who says what.** Stores say their levels in each hello, gateways when they open a session. A peer that
//!   does not speak the cluster's level is not listened to; a store that does not speak it stops and says so.
//! - **The gate** (`allows`) stands where something new would begin: where a leader takes a command, and where
//!   apply would do something else than before. Apply asks the cluster's level and never the build's, so that all
//!   replicas do the same.
//! - **What is above its levels a build does not understand**, as an older build would not: entries stop the
//!   store, messages are dropped. That is checked behind the decoder ([`Levels::understand`]), so that a
//!   simulator can run a build as if it were an older one, and notice where a gate is missing.
//! - **Raising** is a command that names the stores that have told the leader that they speak the level. Apply
//!   holds that against the map and the sessions of that very entry; a store that came in between makes it
//!   be refused.
//!
//! | level | what it has brought |
//! |---|---|
//! | 1 | everything up to the cluster map of version 3 |
//! | 2 | nodes in the cluster map (`SetNode`, maps of version 4); a store that is drained gives its vote away |
//!
//! A new level is one more row here, a new [`LEVEL_MAX`], and a gate for each thing that it brings.

use core::fmt;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};

/// A feature level: 1 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub u32);

/// The oldest level that this build speaks.
pub const LEVEL_MIN: Level = Level(1);
/// The newest level that this build knows. New clusters begin with it.
pub const LEVEL_MAX: Level = NODES;

/// What every build knows.
pub const FIRST: Level = Level(1);
/// The cluster map names nodes.
pub const NODES: Level = Level(2);
/// A store that is drained gives its vote to another of its zone.
pub const VOTES_MOVE: Level = Level(2);

/// No level is higher; one that is forged is an error where it is read.
const LIMIT: u32 = 1 << 16;

/// The levels that a build speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The oldest.
    pub min: Level,
    /// The newest, not below the oldest.
    pub max: Level,
}

/// What a build was given that is above its levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUnderstood {
    /// The level that it takes.
    pub needs: Level,
    /// What the build speaks.
    pub speaks: Levels,
}

impl Levels {
    /// Those of this build.
    pub const OWN: Self = Self { min: LEVEL_MIN, max: LEVEL_MAX };

    /// Whether it speaks `level`.
    pub fn contains(self, level: Level) -> bool {
        self.min <= level && level <= self.max
    }

    /// Whether there is a level that both speak.
    pub fn meet(self, other: Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }

    /// That something which takes level `needs` can be read.
    ///
    /// # Errors
    /// [`NotUnderstood`] if it came later than this build.
    pub fn understand(self, needs: Level) -> Result<(), NotUnderstood> {
        if needs <= self.max { Ok(()) } else { Err(NotUnderstood { needs, speaks: self }) }
    }
}

/// Whether a cluster at level `at` may do what level `needs` has brought.
pub(crate) fn allows(at: Level, needs: Level) -> bool {
    at >= needs || planted!(LevelGateIgnored)
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {}", self.0)
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.min == self.max {
            true => self.min.fmt(f),
            false => write!(f, "levels {} to {}", self.min.0, self.max.0),
        }
    }
}

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needs, speaks } = self;
        write!(f, "it takes {needs}, and this version of Trine speaks {speaks}: run a newer one")
    }
}

impl core::error::Error for NotUnderstood {}

impl Wire for Level {
    fn encode(&self, out: &mut Encoder) {
        out.u32(self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.u32()? {
            0 => Err(DecodeError::Invalid { what: "feature level 0" }),
            found if found > LIMIT => {
                let (found, max) = (found.into(), LIMIT.into());
                Err(DecodeError::Limit { what: "feature level", found, max })
            }
            found => Ok(Self(found)),
        }
    }
}

impl Wire for Levels {
    fn encode(&self, out: &mut Encoder) {
        self.min.encode(out);
        self.max.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (min, max) = (Level::decode(input)?, Level::decode(input)?);
        match min <= max {
            true => Ok(Self { min, max }),
            false => Err(DecodeError::Invalid { what: "feature levels" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn levels(min: u32, max: u32) -> Levels {
        Levels { min: Level(min), max: Level(max) }
    }

    #[test]
    fn levels_meet_where_both_speak_one() {
        assert!(levels(1, 2).meet(levels(2, 3)) && levels(2, 3).meet(levels(1, 2)));
        assert!(!levels(1, 2).meet(levels(3, 4)) && !levels(3, 4).meet(levels(1, 2)));
        assert!(levels(1, 2).contains(Level(2)) && !levels(2, 2).contains(Level(1)));
    }

    #[test]
    fn what_is_above_is_not_understood_and_what_is_below_is() {
        assert_eq!(levels(2, 3).understand(Level(1)), Ok(()));
        let error = levels(1, 2).understand(Level(3)).unwrap_err().to_string();
        assert!(error.contains("level 3") && error.contains("levels 1 to 2"), "{error}");
    }

    #[test]
    fn levels_survive_their_bytes_and_others_are_refused() {
        let bytes = levels(1, 7).to_bytes();
        assert_eq!(Levels::from_bytes(&bytes), Ok(levels(1, 7)));
        for bad in [levels(0, 1), levels(2, 1), levels(1, LIMIT + 1)] {
            assert!(Levels::from_bytes(&bad.to_bytes()).is_err(), "{bad:?}");
        }
    }
}
