//! The configuration of one seed: each fault kind off, rare or frequent, each latency drawn.
//!
//! Leaving kinds out altogether finds more than always mixing all (Groce et al., "Swarm testing",
//! ISSTA 2012).

use super::FaultKind;
use crate::random::Draw;
use crate::{MICROSECOND, MILLISECOND, Nanos, SECOND};

/// Whether every run must end with all copies in place.
pub const REPAIRS: bool = true;

/// Whether stores are replaced by new ones.
pub const REPLACES: bool = true;

/// Kinds that leave their mark on the whole rest of a run.
const LASTING: [FaultKind; 6] = [
    FaultKind::ZoneGone,
    FaultKind::ZoneReplaced,
    FaultKind::StoreWiped,
    FaultKind::ByteRotted,
    FaultKind::SectorRotted,
    FaultKind::ZonesFar,
];
/// Kinds that came later: they are drawn by themselves, so that older seeds keep what they had.
const LATER: [FaultKind; 4] =
    [FaultKind::StoreEmptied, FaultKind::StoreLate, FaultKind::StoreAdded, FaultKind::StoreDrained];
/// Seeds of `regressions/` that failed before clients copied: they keep what they had.
const BEFORE_COPIES: [u64; 16] = [
    0x0, 0xc, 0x25, 0x65, 0x8a, 0xa7, 0xce, 0xda, 0x125, 0x13b, 0x13f, 0x141, 0x240, 0x304, 0x370,
    0x55d_5296,
];
/// Those that failed before stores were added or drained.
const BEFORE_MOVES: [u64; 2] = [0x992, 0x150f];
/// Kinds in which new stores take the slots of others.
pub const REPLACING: [FaultKind; 2] = [FaultKind::ZoneReplaced, FaultKind::StoreWiped];

/// How far apart two zones are: each order of magnitude between 1 and 80 ms alike.
fn distance(draw: &mut Draw) -> Latency {
    let low = *draw.pick(&[1, 2, 5, 10, 20, 40, 80]) * MILLISECOND;
    Latency { low, high: low + low / 4 }
}

/// How often a fault kind happens in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frequency {
    /// Never.
    #[default]
    Off,
    /// Now and then.
    Rare,
    /// Again and again.
    Often,
}

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// All kinds of fault, mixed as drawn; only safety and recovery afterwards are checked.
    Mixed,
    /// One zone fails for long and all else is well: operations must go on (promise P2).
    OneZone,
}

/// An interval of latencies to draw from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The shortest.
    pub low: Nanos,
    /// The longest; most are near the shortest.
    pub high: Nanos,
}

impl Latency {
    /// One latency.
    pub fn draw(&self, draw: &mut Draw) -> Nanos {
        draw.skewed(self.low, self.high)
    }
}

/// The configuration of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// What the run is about.
    pub flavour: Flavour,
    knobs: Vec<Frequency>,
    /// How long faults and operations go on.
    pub duration: Nanos,
    /// Between machines of one zone.
    pub near: Latency,
    /// Between machines of different zones.
    pub far: Latency,
    /// One way between zones 0 and 1, 0 and 2, 1 and 2, where that is not [`Swarm::far`].
    pub distances: Option<[Latency; 3]>,
    /// The zone that faults may damage for good. All others keep what they have synced.
    pub weak_zone: u8,
    /// Of a disk read.
    pub disk_read: Latency,
    /// Of a disk write.
    pub disk_write: Latency,
    /// Of a sync.
    pub disk_sync: Latency,
    /// How far a wall clock may be off.
    pub clock_skew: Nanos,
    /// How fast or slow a clock may run, in parts per million.
    pub clock_drift_ppm: u64,
    /// Whether all copies must be there again at the end.
    pub redundancy: bool,
    /// How many stores in each zone; the first of each is a voter.
    pub stores_per_zone: usize,
    /// How many more stores there are that a fault may add, the zones in turn.
    pub spares: usize,
    /// How many gateways; the first is outside all zones.
    pub gateways: usize,
    /// How many clients.
    pub clients: usize,
    /// How many keys they fight over.
    pub hot_keys: u64,
    /// How many other keys there are.
    pub cold_keys: u64,
    /// Time between two operations of one client.
    pub think: Latency,
    /// The largest body of one PUT, in bytes.
    pub body_max: u64,
    /// A store whose disk has only so many bytes.
    pub small_disk: Option<(usize, u64)>,
    /// Whether one upload has a part as large as S3 asks of all but the last.
    pub large_part: bool,
    /// Whether objects are copied.
    pub copies: bool,
    /// A store that is started late, and when.
    pub late: Option<(usize, Nanos)>,
}

impl Swarm {
    /// The configuration of `seed`.
    pub fn draw(seed: u64) -> Self {
        let mut draw = Draw::new(seed, 1);
        let flavour = if draw.one_in(5) { Flavour::OneZone } else { Flavour::Mixed };
        let mut swarm = Self::calm(draw.between(8, 16) * SECOND);
        swarm.flavour = flavour;
        swarm.near.high = *draw.pick(&[100, 300, 1_000]) * MICROSECOND;
        swarm.far.low = *draw.pick(&[200, 500, 2_000, 5_000]) * MICROSECOND;
        swarm.far.high = swarm.far.low * draw.between(1, 4);
        swarm.disk_write.high = *draw.pick(&[50, 200, 2_000]) * MICROSECOND;
        swarm.disk_sync.high = *draw.pick(&[300, 1_000, 5_000]) * MICROSECOND;
        swarm.stores_per_zone = *draw.pick(&[1, 1, 2, 3]);
        swarm.gateways = *draw.pick(&[1, 2, 2, 3]);
        swarm.clients = draw.index(6) + 3;
        swarm.hot_keys = draw.between(1, 4);
        swarm.cold_keys = *draw.pick(&[4, 12, 40]);
        swarm.think.low = 10 * MILLISECOND;
        swarm.think.high = *draw.pick(&[100, 300, 800]) * MILLISECOND;
        swarm.body_max = *draw.pick(&[2_000, 20_000, 70_000]);
        swarm.large_part = draw.one_in(32);
        swarm.weak_zone = *draw.pick(&[0, 1, 2]);
        // Every tenth run is free of faults: it shows what is wrong without any.
        if flavour == Flavour::Mixed && !draw.one_in(10) {
            for kind in FaultKind::ALL.iter().filter(|kind| !LATER.contains(kind)) {
                let frequency = match draw.between(0, 4) {
                    0..=1 => Frequency::Off,
                    2..=3 => Frequency::Rare,
                    _ => Frequency::Often,
                };
                // What lasts for ever hides what only passes: it is left out of most runs.
                let seldom = LASTING.contains(kind) && !draw.one_in(5);
                swarm.set(*kind, if seldom { Frequency::Off } else { frequency });
            }
            // A zone that is gone for ever has no store that could be replaced, and the other way round.
            let gone = swarm.knob(FaultKind::ZoneGone) != Frequency::Off;
            for kind in REPLACING {
                if gone || !REPLACES {
                    swarm.set(kind, Frequency::Off);
                }
            }
            swarm.draw_later(&mut Draw::new(seed, 6));
            if !BEFORE_COPIES.contains(&seed) && !BEFORE_MOVES.contains(&seed) {
                swarm.draw_moves(&mut Draw::new(seed, 8));
            }
            if swarm.knob(FaultKind::ZonesFar) != Frequency::Off {
                swarm.distances = Some([(); 3].map(|()| distance(&mut draw)));
            }
            if swarm.knob(FaultKind::ClockSkewed) != Frequency::Off {
                swarm.clock_skew = *draw.pick(&[10, 1_000, 60_000]) * MILLISECOND;
                swarm.clock_drift_ppm = draw.between(0, 500);
            }
        } else if flavour == Flavour::OneZone {
            let kinds = [
                FaultKind::ZoneCut,
                FaultKind::ZoneBlackHole,
                FaultKind::ZoneCutOneWay,
                FaultKind::ZonesApart,
                FaultKind::ZoneKilled,
                FaultKind::ZonePowerLoss,
                FaultKind::ZoneGone,
                FaultKind::ZonePaused,
            ];
            swarm.set(*draw.pick(&kinds), Frequency::Rare);
            swarm.gateways = swarm.gateways.max(2);
        }
        swarm.copies = !BEFORE_COPIES.contains(&seed) && !Draw::new(seed, 7).one_in(3);
        swarm
    }

    fn draw_later(&mut self, draw: &mut Draw) {
        if draw.one_in(5) {
            let frequency = *draw.pick(&[Frequency::Rare, Frequency::Often]);
            self.set(FaultKind::StoreEmptied, frequency);
        }
        if draw.one_in(8) {
            self.set(FaultKind::StoreLate, Frequency::Rare);
            self.late = Some((draw.index(self.stores()), draw.skewed(MILLISECOND, 4 * SECOND)));
        }
    }

    fn draw_moves(&mut self, draw: &mut Draw) {
        if draw.one_in(4) {
            self.spares = 3;
            self.set(FaultKind::StoreAdded, *draw.pick(&[Frequency::Rare, Frequency::Often]));
        }
        if (self.stores_per_zone > 1 || self.spares > 0) && draw.one_in(3) {
            self.set(FaultKind::StoreDrained, *draw.pick(&[Frequency::Rare, Frequency::Often]));
        }
    }

    /// No faults at all, moderate latencies.
    pub fn calm(duration: Nanos) -> Self {
        Self {
            flavour: Flavour::Mixed,
            knobs: vec![Frequency::Off; FaultKind::ALL.len()],
            duration,
            near: Latency { low: 30 * MICROSECOND, high: 200 * MICROSECOND },
            far: Latency { low: 500 * MICROSECOND, high: 2 * MILLISECOND },
            distances: None,
            weak_zone: 1,
            disk_read: Latency { low: 20 * MICROSECOND, high: 200 * MICROSECOND },
            disk_write: Latency { low: 10 * MICROSECOND, high: 100 * MICROSECOND },
            disk_sync: Latency { low: 100 * MICROSECOND, high: MILLISECOND },
            clock_skew: 0,
            clock_drift_ppm: 0,
            redundancy: REPAIRS,
            stores_per_zone: 1,
            spares: 0,
            gateways: 2,
            clients: 4,
            hot_keys: 3,
            cold_keys: 12,
            think: Latency { low: MILLISECOND, high: 100 * MILLISECOND },
            body_max: 40_000,
            small_disk: None,
            large_part: false,
            copies: false,
            late: None,
        }
    }

    /// How often `kind` happens.
    pub fn knob(&self, kind: FaultKind) -> Frequency {
        self.knobs[kind as usize]
    }

    /// Set how often `kind` happens.
    pub fn set(&mut self, kind: FaultKind, frequency: Frequency) {
        self.knobs[kind as usize] = frequency;
    }

    /// How many stores there are at the beginning.
    pub fn stores(&self) -> usize {
        3 * self.stores_per_zone
    }

    /// With those that may be added.
    pub fn stores_max(&self) -> usize {
        self.stores() + self.spares
    }

    /// The chance of `kind` at each occasion, in parts of 10,000: `rare` or `often`.
    pub fn chance(&self, kind: FaultKind, rare: u64, often: u64) -> u64 {
        match self.knob(kind) {
            Frequency::Off => 0,
            Frequency::Rare => rare,
            Frequency::Often => often,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_kind_is_on_in_some_seed_and_off_in_another() {
        for kind in FaultKind::ALL.iter().filter(|kind| REPLACES || !REPLACING.contains(kind)) {
            let on = |seed: &u64| Swarm::draw(*seed).knob(*kind) != Frequency::Off;
            assert!((0..200).any(|seed| on(&seed)), "{} is never on", kind.name());
            assert!((0..200).any(|seed| !on(&seed)), "{} is always on", kind.name());
        }
    }

    #[test]
    fn a_seed_always_draws_the_same_configuration() {
        assert_eq!(Swarm::draw(77), Swarm::draw(77));
        assert_ne!(Swarm::draw(77), Swarm::draw(78));
    }
}
