//! What a run is drawn from: a seed, and in what its world differs from what the seed says. In words, as the command
//! line takes it and a failure prints it: `0x5f3a`, `0x5f3a,stores=8`, `7,with=clock-stepped`.

use std::fmt;
use std::str::FromStr;

use crate::faults::FaultKind;
use crate::faults::swarm::{Flavour, Swarm};
use crate::random::Draw;
use crate::world::Setup;

/// The purpose of the draws of what a kind that is switched on needs.
const WITH: u64 = 16;
/// Most stores per zone.
const STORES_MAX: usize = 64;

/// A seed with changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seed {
    /// Decides all draws.
    pub number: u64,
    /// What is other than drawn.
    pub changes: Changes,
}

/// In what a run differs from what its seed says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// So many stores in each zone.
    pub stores: Option<usize>,
    /// These kinds of fault happen often, too, if faults of all kinds may.
    pub with: Vec<FaultKind>,
    /// The core does nothing unusual, and no disk is small.
    pub usual: bool,
}

impl Seed {
    /// A seed without changes.
    pub fn plain(number: u64) -> Self {
        Self { number, changes: Changes::default() }
    }

    /// What to call to see the run, and what to make it small.
    pub fn lines(&self) -> [String; 2] {
        [format!("cargo sim replay {self}"), format!("cargo sim shrink {self}")]
    }

    /// The run that it stands for.
    pub fn setup(&self) -> Setup {
        let Changes { stores, with, usual } = &self.changes;
        let mut swarm = if *usual { Swarm::usual(self.number) } else { Swarm::draw(self.number) };
        swarm.stores_per_zone = stores.unwrap_or(swarm.stores_per_zone);
        let mixed = swarm.flavour == Flavour::Mixed;
        for kind in with.iter().filter(|_| mixed) {
            swarm.add(*kind, &mut Draw::new(self.number, WITH));
        }
        Setup::of_swarm(self.number, swarm)
    }
}

impl Changes {
    /// Take one change, such as `stores=8`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "stores" => {
                let stores = value.parse().ok().filter(|stores| (1..=STORES_MAX).contains(stores));
                let wrong = || format!("{value:?} is no number of stores from 1 to {STORES_MAX}");
                self.stores = Some(stores.ok_or_else(wrong)?);
            }
            "with" => {
                let kind = FaultKind::ALL.iter().find(|kind| in_one_word(**kind) == value);
                self.with.push(*kind.ok_or_else(|| format!("{value:?} is no kind of fault"))?);
            }
            _ => return Err(format!("{name:?} is no change of a seed")),
        }
        Ok(())
    }
}

/// What a kind of fault is called, with a dash for each space.
fn in_one_word(kind: FaultKind) -> String {
    kind.name().replace(' ', "-")
}

impl fmt::Display for Seed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, changes: Changes { stores, with, usual } } = self;
        write!(out, "{number:#x}")?;
        if *usual {
            out.write_str(",usual")?;
        }
        if let Some(stores) = stores {
            write!(out, ",stores={stores}")?;
        }
        with.iter().try_for_each(|kind| write!(out, ",with={}", in_one_word(*kind)))
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let number = parts.next().unwrap_or_default();
        let parsed = match number.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => number.parse(),
        };
        let mut seed = Self::plain(parsed.map_err(|_| format!("{number:?} is no seed"))?);
        for part in parts {
            match part.split_once('=') {
                Some((name, value)) => seed.changes.add(name, value)?,
                None if part == "usual" => seed.changes.usual = true,
                None => return Err(format!("{part:?} is no change of a seed")),
            }
        }
        Ok(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_as_it_is_written() {
        for text in ["0x1f", "0x1f,stores=8", "0x0,usual,stores=2,with=clock-stepped"] {
            assert_eq!(text.parse().map(|seed: Seed| seed.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("31".parse(), Ok(Seed::plain(31)));
        for wrong in ["", "0x", "5,", "5,stores=0", "5,stores=x", "5,with=rain", "5,colour=red"] {
            assert!(wrong.parse::<Seed>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn changes_change_the_world() {
        let seed: Seed = "3,stores=8".parse().expect("it is one");
        assert_eq!(seed.setup().swarm.stores(), 24);
    }
}
