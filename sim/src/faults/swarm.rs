//! The configuration of one seed: each fault kind off, rare or frequent, each latency drawn.
//!
//! Leaving kinds out altogether finds more than always mixing all (Groce et al., "Swarm testing",
//! ISSTA 2012).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trine_core::cluster::Geometry;
use trine_core::rare::{Plan, Unusual};

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
/// Kinds by which stores lose what they have, or move it.
const LOSING: [FaultKind; 16] = [
    FaultKind::ZoneGone,
    FaultKind::ZoneReplaced,
    FaultKind::StoreWiped,
    FaultKind::StoreEmptied,
    FaultKind::StoreLate,
    FaultKind::StoreAdded,
    FaultKind::StoreDrained,
    FaultKind::ByteRotted,
    FaultKind::SectorRotted,
    FaultKind::DiskRotting,
    FaultKind::JournalRotted,
    FaultKind::WriteLost,
    FaultKind::WriteMisdirected,
    FaultKind::ImageRestored,
    FaultKind::KilledInDoubt,
    FaultKind::SectorUnreadable,
];
/// The purpose of the draws of a run's focus.
const FOCUS: u64 = 14;
/// Kinds that came later: they are drawn by themselves, so that older seeds keep what they had.
const LATER: [FaultKind; 17] = [
    FaultKind::GatewayFenced,
    FaultKind::DiskRotting,
    FaultKind::KilledInDoubt,
    FaultKind::StoreEmptied,
    FaultKind::StoreLate,
    FaultKind::StoreAdded,
    FaultKind::StoreDrained,
    FaultKind::JournalRotted,
    FaultKind::WriteLost,
    FaultKind::WriteMisdirected,
    FaultKind::ImageRestored,
    FaultKind::ClockStepped,
    FaultKind::LinksSwizzled,
    FaultKind::ClientsReset,
    FaultKind::MachineUpgraded,
    FaultKind::UpgradeRolledBack,
    FaultKind::LevelRaisedEarly,
];
/// Of those, the ones that came last. They have a plan of their own, too.
pub const NEWEST: [FaultKind; 6] = [
    FaultKind::WriteLost,
    FaultKind::WriteMisdirected,
    FaultKind::ImageRestored,
    FaultKind::ClockStepped,
    FaultKind::LinksSwizzled,
    FaultKind::ClientsReset,
];
/// Those of a run that is about one thing ([`Focus`]). They, too, have a plan of their own.
pub const FOCUSED: [FaultKind; 2] = [FaultKind::GatewayFenced, FaultKind::DiskRotting];
/// How large a small disk is, in bytes.
const SMALL_DISK: (u64, u64) = (6 << 20, 12 << 20);
/// How large one is that everything is deleted from at the end: so large that what the reserve is for has room there.
const EMPTIED_DISK: (u64, u64) = (9 << 20, 14 << 20);
/// How large a small journal is, in bytes.
const SMALL_JOURNALS: [u64; 2] = [640 << 10, 768 << 10];
/// In a run without faults and unusual things nothing is left for scrubbing to find: it does not come.
const SCRUB_NEVER: Nanos = 3_600 * SECOND;
/// Kinds in which new stores take the slots of others.
pub const REPLACING: [FaultKind; 2] = [FaultKind::ZoneReplaced, FaultKind::StoreWiped];

/// How far apart two zones are: each order of magnitude between 1 and 80 ms alike.
fn distance(draw: &mut Draw) -> Latency {
    let low = *draw.pick(&[1, 2, 5, 10, 20, 40, 80]) * MILLISECOND;
    Latency { low, high: low + low / 4 }
}

/// How often a fault kind happens in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavour {
    /// All kinds of fault, mixed as drawn; only safety and recovery afterwards are checked.
    Mixed,
    /// One zone fails for long and all else is well: operations must go on (promise P2).
    OneZone,
}

/// What two thirds of the runs with mixed faults are about beside all else: things that hardly ever come together by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// Gateways whose sessions end while they are away with requests in hand.
    Fenced,
    /// A disk that rots, and copies that are missing elsewhere.
    Rotten,
    /// Stores that distrust their disks, again and again.
    Doubted,
    /// A disk that is full until all is deleted.
    Full,
    /// A journal that is written round and round.
    SmallJournal,
    /// Long reads of what is overwritten and deleted, while stores ask about all they have.
    LongReads,
}

impl Focus {
    const ALL: [Self; 6] = [
        Self::Fenced,
        Self::Rotten,
        Self::Doubted,
        Self::Full,
        Self::SmallJournal,
        Self::LongReads,
    ];
}

/// An interval of latencies to draw from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[Nanos; 2]", into = "[Nanos; 2]")]
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

impl From<[Nanos; 2]> for Latency {
    fn from([low, high]: [Nanos; 2]) -> Self {
        Self { low, high }
    }
}

impl From<Latency> for [Nanos; 2] {
    fn from(Latency { low, high }: Latency) -> Self {
        [low, high]
    }
}

/// The configuration of one run. Written to files ([`crate::case`]): what is added gets the value that it has in a
/// calm run as its default there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Swarm {
    /// What the run is about.
    pub flavour: Flavour,
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
    /// The bytes of the journal's ring, where that is not the usual number.
    pub small_journal: Option<u64>,
    /// How long a pass of scrubbing takes, where that is not the usual time.
    pub scrub_every: Option<Nanos>,
    /// Whether everything is deleted at the end, and all space must come back.
    pub empties: bool,
    /// Whether half of the operations put, get and delete a few keys, with bodies as large as there are.
    pub churn: bool,
    /// Rows are written out when they have so many bytes in memory, where that is not the usual number.
    pub memtable: Option<u64>,
    /// Whether one upload has a part as large as S3 asks of all but the last.
    pub large_part: bool,
    /// Whether objects are copied.
    pub copies: bool,
    /// A store that is started late, and when.
    pub late: Option<(usize, Nanos)>,
    /// What the core is asked for.
    #[serde(with = "asked")]
    pub rare: Plan,
    #[serde(rename = "faults")]
    knobs: Knobs,
}

/// How often each kind happens; in files only those that do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Frequency>", into = "BTreeMap<String, Frequency>")]
struct Knobs(Vec<Frequency>);

impl TryFrom<BTreeMap<String, Frequency>> for Knobs {
    type Error = String;

    fn try_from(named: BTreeMap<String, Frequency>) -> Result<Self, String> {
        let mut knobs = vec![Frequency::Off; FaultKind::ALL.len()];
        for (name, frequency) in named {
            let kind = FaultKind::named(&name);
            let kind = kind.ok_or_else(|| format!("{name:?} is no kind of fault"))?;
            knobs[kind as usize] = frequency;
        }
        Ok(Self(knobs))
    }
}

impl From<Knobs> for BTreeMap<String, Frequency> {
    fn from(Knobs(knobs): Knobs) -> Self {
        let named = FaultKind::ALL.iter().zip(knobs);
        let on = named.filter(|(_, frequency)| *frequency != Frequency::Off);
        on.map(|(kind, frequency)| (kind.name().to_owned(), frequency)).collect()
    }
}

/// What the core is asked for, in files.
mod asked {
    use std::collections::BTreeMap;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use trine_core::rare::{Bug, Plan, Site, Unusual};

    #[derive(Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Asked {
        planted: Option<String>,
        /// Whether the seed draws what sites do.
        buggify: bool,
        /// Else: when which of them fire.
        fires: BTreeMap<String, Vec<u64>>,
    }

    pub(super) fn serialize<S: Serializer>(plan: &Plan, to: S) -> Result<S::Ok, S::Error> {
        let planted = plan.planted.map(|bug| bug.name().to_owned());
        let (buggify, fires) = match &plan.unusual {
            Unusual::Never => (false, BTreeMap::new()),
            Unusual::Drawn => (true, BTreeMap::new()),
            Unusual::At(times) => {
                let named =
                    times.iter().map(|(site, times)| (site.name().to_owned(), times.clone()));
                (false, named.collect())
            }
        };
        Asked { planted, buggify, fires }.serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Plan, D::Error> {
        let Asked { planted, buggify, fires } = Asked::deserialize(from)?;
        let named = |name: String| {
            let bug = Bug::ALL.iter().copied().find(|bug| bug.name() == name);
            bug.ok_or_else(|| D::Error::custom(format!("no mistake is called {name:?}")))
        };
        let site = |(name, times): (String, Vec<u64>)| {
            let site = Site::ALL.iter().copied().find(|site| site.name() == name);
            let site =
                site.ok_or_else(|| D::Error::custom(format!("no site is called {name:?}")))?;
            match times.is_sorted_by(|one, next| one < next) {
                true => Ok((site, times)),
                false => Err(D::Error::custom(format!("the times of {name} are not in order"))),
            }
        };
        let unusual = match (buggify, fires.is_empty()) {
            (false, true) => Unusual::Never,
            (false, false) => Unusual::At(fires.into_iter().map(site).collect::<Result<_, _>>()?),
            (true, true) => Unusual::Drawn,
            (true, false) => return Err(D::Error::custom("sites are drawn, or told when to fire")),
        };
        Ok(Plan { planted: planted.map(named).transpose()?, unusual })
    }
}

impl Default for Swarm {
    /// What a file does not say.
    fn default() -> Self {
        Self::calm(12 * SECOND)
    }
}

impl Swarm {
    /// The configuration of `seed`.
    pub fn draw(seed: u64) -> Self {
        let mut swarm = Self::usual(seed);
        let mut draw = Draw::new(seed, 9);
        let unusual = draw.one_in(2);
        if unusual {
            swarm.rare.unusual = Unusual::Drawn;
        }
        let mixed = swarm.flavour == Flavour::Mixed;
        if unusual && mixed && draw.one_in(4) {
            let frequency = *draw.pick(&[Frequency::Rare, Frequency::Often]);
            swarm.set(FaultKind::JournalRotted, frequency);
        }
        if unusual && mixed && draw.one_in(12) {
            let segment = Geometry::SIMULATION.segment;
            let capacity = draw.between(SMALL_DISK.0 / segment, SMALL_DISK.1 / segment) * segment;
            swarm.small_disk = Some((draw.index(swarm.stores()), capacity));
            // What is not overwritten fills it; and then it can never have all copies.
            (swarm.cold_keys, swarm.body_max) = (swarm.cold_keys.max(400), 70_000);
            swarm.redundancy = false;
        }
        let quiet = mixed && Self::usual(seed).is_quiet();
        if mixed && !quiet {
            swarm.draw_newest(&mut Draw::new(seed, 10));
            swarm.draw_upgrade(&mut Draw::new(seed, 12));
            swarm.draw_focus(&mut Draw::new(seed, FOCUS));
        }
        swarm.exclude();
        if quiet && !unusual {
            swarm.scrub_every = Some(SCRUB_NEVER);
        }
        swarm
    }

    /// Whether no fault happens at all.
    fn is_quiet(&self) -> bool {
        FaultKind::ALL.iter().all(|kind| self.knob(*kind) == Frequency::Off)
    }

    /// What the run of `seed` is about beside all else.
    pub fn focus(seed: u64) -> Option<Focus> {
        let usual = Self::usual(seed);
        let may = usual.flavour == Flavour::Mixed && !usual.is_quiet();
        may.then(|| Self::any_focus(&mut Draw::new(seed, FOCUS))).flatten()
    }

    fn any_focus(draw: &mut Draw) -> Option<Focus> {
        (!draw.one_in(3)).then(|| *draw.pick(&Focus::ALL))
    }

    fn draw_focus(&mut self, draw: &mut Draw) {
        let Some(focus) = Self::any_focus(draw) else { return };
        let often = *draw.pick(&[Frequency::Rare, Frequency::Often]);
        match focus {
            Focus::Fenced => {
                self.set(FaultKind::GatewayFenced, often);
                // Another life would know nothing of what the session had in hand.
                self.set(FaultKind::GatewayKilled, Frequency::Off);
                self.duration = self.duration.max(12 * SECOND);
                self.gateways = self.gateways.max(2);
            }
            Focus::Rotten => {
                self.set(FaultKind::DiskRotting, often);
                self.set(FaultKind::StoreCut, Frequency::Often);
                self.set(FaultKind::StorePowerLoss, Frequency::Often);
                self.body_max = 70_000;
            }
            Focus::Doubted => {
                self.set(FaultKind::JournalRotted, Frequency::Often);
                self.set(FaultKind::KilledInDoubt, Frequency::Often);
                self.set(FaultKind::StoreKilled, Frequency::Often);
                // Who is to vouch for them is away.
                self.set(FaultKind::ZoneBlackHole, Frequency::Rare);
                self.set(FaultKind::ZoneKilled, Frequency::Rare);
                self.small_journal = Some(*draw.pick(&SMALL_JOURNALS));
            }
            Focus::Full => {
                let segment = Geometry::SIMULATION.segment;
                let (least, most) = EMPTIED_DISK;
                let capacity = draw.between(least / segment, most / segment) * segment;
                // A voter's.
                self.small_disk = Some((draw.index(3), capacity));
                (self.cold_keys, self.body_max) = (self.cold_keys.max(400), 70_000);
                (self.clients, self.think.high) = (8, 40 * MILLISECOND);
                self.empties = true;
            }
            Focus::SmallJournal => {
                self.small_journal = Some(*draw.pick(&SMALL_JOURNALS));
                if draw.one_in(2) {
                    // Rows are written out only when the journal needs that, and disks may be slow then.
                    self.memtable = Some(256 << 10);
                    self.set(FaultKind::DiskSlow, Frequency::Often);
                    (self.clients, self.think.high) = (8, 60 * MILLISECOND);
                }
            }
            Focus::LongReads => {
                self.set(FaultKind::ClientStalled, Frequency::Often);
                self.scrub_every = Some(draw.between(1, 3) * SECOND);
                // Longer than what a gateway fetches ahead.
                (self.body_max, self.churn) = (200_000, true);
                self.disk_read.high = *draw.pick(&[1, 20, 50]) * MILLISECOND;
            }
        }
    }

    fn draw_newest(&mut self, draw: &mut Draw) {
        for kind in NEWEST {
            let on = draw.one_in(10);
            let frequency = *draw.pick(&[Frequency::Rare, Frequency::Often]);
            if on {
                self.set(kind, frequency);
            }
        }
    }

    /// A rolling upgrade from an old build.
    fn draw_upgrade(&mut self, draw: &mut Draw) {
        let (on, back, early) = (draw.one_in(8), draw.one_in(2), !draw.one_in(3));
        let kinds = [
            (FaultKind::MachineUpgraded, true),
            (FaultKind::UpgradeRolledBack, back),
            (FaultKind::LevelRaisedEarly, early),
        ];
        for (kind, _) in kinds.into_iter().filter(|(_, drawn)| on && *drawn) {
            self.set(kind, Frequency::Rare);
        }
    }

    /// Whether all machines begin with an old build.
    pub fn rolls(&self) -> bool {
        self.knob(FaultKind::MachineUpgraded) != Frequency::Off
    }

    /// The same, where the core does nothing unusual, and no disk is small: what seeds were before.
    pub fn usual(seed: u64) -> Self {
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
        swarm.large_part = draw.one_in(16);
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
            swarm.draw_moves(&mut Draw::new(seed, 8));
            if swarm.knob(FaultKind::ZonesFar) != Frequency::Off {
                swarm.draw_distances(&mut draw);
            }
            if swarm.knob(FaultKind::ClockSkewed) != Frequency::Off {
                swarm.draw_skew(&mut draw);
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
        swarm.copies = !Draw::new(seed, 7).one_in(3);
        swarm
    }

    fn draw_later(&mut self, draw: &mut Draw) {
        if draw.one_in(5) {
            let frequency = *draw.pick(&[Frequency::Rare, Frequency::Often]);
            self.set(FaultKind::StoreEmptied, frequency);
        }
        if draw.one_in(8) {
            self.set(FaultKind::StoreLate, Frequency::Rare);
            self.draw_late(draw);
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
            small_journal: None,
            scrub_every: None,
            empties: false,
            churn: false,
            memtable: None,
            large_part: false,
            copies: false,
            late: None,
            rare: Plan::default(),
            knobs: Knobs(vec![Frequency::Off; FaultKind::ALL.len()]),
        }
    }

    /// How often `kind` happens.
    pub fn knob(&self, kind: FaultKind) -> Frequency {
        self.knobs.0[kind as usize]
    }

    /// Set how often `kind` happens.
    pub fn set(&mut self, kind: FaultKind, frequency: Frequency) {
        self.knobs.0[kind as usize] = frequency;
    }

    /// Let `kind` happen often, with what it needs in the world, if that is not there.
    pub fn add(&mut self, kind: FaultKind, draw: &mut Draw) {
        match kind {
            FaultKind::StoreAdded => self.spares = self.spares.max(3),
            FaultKind::StoreDrained if self.stores_per_zone == 1 => {
                self.spares = self.spares.max(3);
                self.set(FaultKind::StoreAdded, Frequency::Often);
            }
            FaultKind::StoreLate if self.late.is_none() => self.draw_late(draw),
            FaultKind::ZonesFar if self.distances.is_none() => self.draw_distances(draw),
            FaultKind::ClockSkewed if self.clock_skew == 0 => self.draw_skew(draw),
            _ => {}
        }
        // What rots is to be found.
        self.scrub_every = self.scrub_every.filter(|every| *every != SCRUB_NEVER);
        self.set(kind, Frequency::Often);
        self.exclude();
    }

    /// A zone without room is one that fails for long: no other may lose what it has meanwhile.
    fn exclude(&mut self) {
        if self.small_disk.is_some() {
            LOSING.iter().for_each(|kind| self.set(*kind, Frequency::Off));
            (self.spares, self.late) = (0, None);
            for needs_spares in [FaultKind::StoreAdded, FaultKind::StoreLate] {
                self.set(needs_spares, Frequency::Off);
            }
        }
    }

    fn draw_late(&mut self, draw: &mut Draw) {
        self.late = Some((draw.index(self.stores()), draw.skewed(MILLISECOND, 4 * SECOND)));
    }

    fn draw_distances(&mut self, draw: &mut Draw) {
        self.distances = Some([(); 3].map(|()| distance(draw)));
    }

    fn draw_skew(&mut self, draw: &mut Draw) {
        self.clock_skew = *draw.pick(&[10, 1_000, 60_000]) * MILLISECOND;
        self.clock_drift_ppm = draw.between(0, 500);
    }

    /// All intervals of latencies, by name.
    pub fn latencies(&self) -> impl Iterator<Item = (&'static str, Latency)> {
        let named = [
            ("near", self.near),
            ("far", self.far),
            ("disk_read", self.disk_read),
            ("disk_write", self.disk_write),
            ("disk_sync", self.disk_sync),
            ("think", self.think),
        ];
        let distances = self.distances.into_iter().flatten();
        named.into_iter().chain(distances.map(|latency| ("distances", latency)))
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
    fn each_focus_is_that_of_many_seeds() {
        for focus in Focus::ALL {
            let seeds = (0..1_000).filter(|seed| Swarm::focus(*seed) == Some(focus)).count();
            assert!(seeds >= 50, "{focus:?} has {seeds} of 1,000 seeds");
        }
        let full = (0..200).filter(|seed| Swarm::draw(*seed).empties);
        assert!(full.eq((0..200).filter(|seed| Swarm::focus(*seed) == Some(Focus::Full))));
    }

    #[test]
    fn a_seed_always_draws_the_same_configuration() {
        assert_eq!(Swarm::draw(77), Swarm::draw(77));
        assert_ne!(Swarm::draw(77), Swarm::draw(78));
    }
}
