//! A run as explicit choices: the world, its big faults, what clients do, where small faults strike.
//!
//! [`record`] writes down what a seed draws; [`Case::play`] does it again, event by event. Nothing of a case is drawn
//! from its seed but latencies, details of crashes and the machines' own seeds, by streams that never change
//! ([`crate::random`]): so a case means the same when what seeds draw has changed. As a file it is TOML; fields that
//! came later have defaults, unknown ones are refused.

mod file;
pub mod fingerprint;
mod subject;
mod text;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use trine_core::cluster::Geometry;
use trine_core::object::ObjectKey;
use trine_core::rare::{Site, Unusual};

pub use subject::Subject;
pub use text::read_time;

use crate::Nanos;
use crate::faults::FaultKind;
use crate::faults::plan::{Episode, Victim};
use crate::faults::strikes::Struck;
use crate::faults::swarm::{Latency, Swarm};
use crate::run::{Report, play};
use crate::trace::Sink;
use crate::workload::operation::Planned;
use crate::workload::{ANCHOR, key_names};
use crate::world::choices::{Choices, Recording};
use crate::world::{Counts, Maker, Real, Setup, World};

/// More machines, clients or spare stores of a kind than this make no sense.
const MANY: usize = 64;
/// No body is longer: the simulator keeps them in memory.
const BODY_MAX: u64 = 64 << 20;

/// A run, written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it is about, for people.
    pub story: String,
    /// The failure that it was kept for.
    pub fingerprint: String,
    /// Of latencies and all else that is still drawn.
    pub seed: u64,
    /// Whether each place has draws of its own ([`crate::random::Streams`]).
    pub own_streams: bool,
    /// How everything behaves.
    pub swarm: Swarm,
    /// The layout of each disk.
    pub geometry: Geometry,
    /// The names of the keys; the anchor comes last.
    pub keys: Vec<String>,
    /// The big faults, in order of time.
    pub episodes: Vec<Episode>,
    /// What each client does.
    pub operations: Vec<Vec<Planned>>,
    /// Where small faults strike.
    pub struck: Struck,
}

/// Run a world to its end and write down what was chosen.
pub fn record<M: Maker>(maker: M, setup: Setup, sink: Option<Sink>) -> (Report, Case) {
    let Setup { seed, swarm, plan, geometry } = setup.clone();
    let (report, recording) = play(maker, setup, Choices::recorded(), sink, World::run);
    let Recording { mut operations, struck } = recording;
    operations.resize(swarm.clients, Vec::new());
    let failure = report.failure.as_deref();
    let mut case = Case {
        story: String::new(),
        fingerprint: failure.map(fingerprint::of).unwrap_or_default(),
        seed,
        own_streams: false,
        keys: key_names(&swarm),
        swarm,
        geometry,
        episodes: plan,
        operations,
        struck,
    };
    case.swarm.rare.unusual = fired(&report.counts);
    (report, case)
}

/// What the sites of the core did, to be done again.
fn fired(counts: &Counts) -> Unusual {
    let sites = Site::ALL.iter().copied().zip(counts.rare.fired.iter().cloned());
    let fired: BTreeMap<_, _> = sites.filter(|(_, times)| !times.is_empty()).collect();
    if fired.is_empty() { Unusual::Never } else { Unusual::At(fired) }
}

/// Run a case with the machines of `trine-core`, to its end or until `at` at the latest.
pub fn run_real(case: &Case, sink: Option<Sink>, at: Nanos) -> Report {
    let caught = catch_unwind(AssertUnwindSafe(|| case.play(Real, sink, at)));
    caught.unwrap_or_else(|_| Report::without_an_end(case))
}

/// What the machines are like after an event of a case: a line for each, and what failed, if anything did.
pub fn state_after(case: &Case, event: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let report = case.drive(Real, None, |world| {
        let result = world.run_to_event(event);
        lines = world.status();
        result
    });
    lines.extend(report.failure.map(|failure| format!("FAILED: {failure}")));
    lines
}

impl Case {
    /// Run it, to its end or until `at` at the latest.
    pub fn play<M: Maker>(&self, maker: M, sink: Option<Sink>, at: Nanos) -> Report {
        let drive = |world: &mut World<M>| world.run_at_most(at).map(drop);
        self.drive(maker, sink, drive)
    }

    /// Run it as `drive` says.
    pub fn drive<M: Maker>(
        &self,
        maker: M,
        sink: Option<Sink>,
        drive: impl FnOnce(&mut World<M>) -> Result<(), String>,
    ) -> Report {
        let setup = Setup {
            seed: self.seed,
            swarm: self.swarm.clone(),
            plan: self.episodes.clone(),
            geometry: self.geometry,
        };
        let (keys, operations) = (self.keys.clone(), self.operations.clone());
        let choices = Choices {
            own_streams: self.own_streams,
            ..Choices::given(keys, operations, self.struck.clone())
        };
        play(maker, setup, choices, sink, drive).0
    }

    /// How many operations clients do.
    pub fn operations(&self) -> usize {
        self.operations.iter().map(Vec::len).sum()
    }

    /// How many faults strike: episodes and small ones.
    pub fn faults(&self) -> usize {
        let standing = [
            (FaultKind::ClockSkewed, self.swarm.clock_skew > 0 || self.swarm.clock_drift_ppm > 0),
            (FaultKind::ZonesFar, self.swarm.distances.is_some()),
            (FaultKind::StoreLate, self.swarm.late.is_some()),
        ];
        let standing = standing.iter().filter(|(_, there)| *there).count();
        let struck: usize = self.struck.values().map(|moments| moments.len()).sum();
        self.episodes.len() + struck + standing
    }

    /// Refuse what no world can be made of.
    fn check(&self) -> Result<(), String> {
        let swarm = &self.swarm;
        let counts = [
            ("stores_per_zone", swarm.stores_per_zone, 1),
            ("spares", swarm.spares, 0),
            ("gateways", swarm.gateways, 1),
            ("clients", swarm.clients, 1),
        ];
        for (name, count, least) in counts {
            if !(least..=MANY).contains(&count) {
                return Err(format!("world.{name} is {count}: {least} to {MANY} can be"));
            }
        }
        for (name, Latency { low, high }) in swarm.latencies() {
            if low > high {
                return Err(format!("world.{name}: {low} ns is more than {high} ns"));
            }
        }
        if swarm.weak_zone > 2 {
            return Err(format!("world.weak_zone is {}, there are 0 to 2", swarm.weak_zone));
        }
        if swarm.duration == 0 || swarm.duration > 3_600 * crate::SECOND {
            return Err(format!("world.duration is {} ns: up to an hour can be", swarm.duration));
        }
        if swarm.memtable.is_some_and(|bytes| !(8 << 10..=1 << 20).contains(&bytes)) {
            return Err("world.memtable is 8 KiB to 1 MiB".to_owned());
        }
        if swarm.clock_drift_ppm > 100_000 || swarm.clock_skew > 86_400 * crate::SECOND {
            return Err("world.clock_skew is up to a day, clock_drift_ppm up to 100,000".to_owned());
        }
        let stores = swarm.stores_max();
        let (small, late) = (swarm.small_disk.map(|it| it.0), swarm.late.map(|it| it.0));
        if let Some(store) = small.into_iter().chain(late).find(|store| *store >= stores) {
            return Err(format!("world: there is no store of place {store}"));
        }
        let capacities =
            swarm.small_disk.map(|it| it.1).into_iter().chain([self.geometry.capacity]);
        for capacity in capacities {
            let Geometry { segment, journal, .. } = self.geometry;
            if capacity % 4_096 != 0 || capacity < journal + 4 * segment || capacity > 1 << 40 {
                return Err(format!("no disk of {capacity} bytes can be laid out"));
            }
        }
        self.check_keys()?;
        if self.operations.len() != swarm.clients {
            let (lists, clients) = (self.operations.len(), swarm.clients);
            return Err(format!("{lists} lists of operations for {clients} clients"));
        }
        let mut operations = self.operations.clone();
        for planned in operations.iter_mut().flatten() {
            if planned.operation.len_mut().is_some_and(|len| *len > BODY_MAX) {
                return Err(format!("{planned:?}: a body has at most {BODY_MAX} bytes"));
            }
        }
        if !self.episodes.is_sorted_by_key(|episode| episode.at) {
            return Err("episodes are not in order of time".to_owned());
        }
        self.episodes.iter().try_for_each(|episode| check_victim(episode, swarm))
    }

    fn check_keys(&self) -> Result<(), String> {
        if self.keys.last().map(String::as_str) != Some(ANCHOR) {
            return Err(format!("the last of the keys must be {ANCHOR:?}"));
        }
        for (place, key) in self.keys.iter().enumerate() {
            let odd = key.contains(char::is_whitespace) || ObjectKey::parse(key).is_err();
            if odd || self.keys[..place].contains(key) {
                return Err(format!("{key:?} cannot be a key, or stands there twice"));
            }
        }
        if self.keys.len() < 2 {
            return Err("there is no key but the anchor".to_owned());
        }
        Ok(())
    }
}

/// Kinds that do not strike by episodes, or other victims than they can have, are refused.
fn check_victim(episode: &Episode, swarm: &Swarm) -> Result<(), String> {
    let fits = match episode.kind {
        FaultKind::MessageLost
        | FaultKind::MessageDoubled
        | FaultKind::MessageOvertaken
        | FaultKind::KilledInRecovery
        | FaultKind::KilledInDoubt
        | FaultKind::SectorLost
        | FaultKind::WriteTorn
        | FaultKind::SyncFailed
        | FaultKind::ReadFailed
        | FaultKind::SectorUnreadable
        | FaultKind::WriteFailed
        | FaultKind::DiskStalled
        | FaultKind::ZonesFar
        | FaultKind::ClockSkewed
        | FaultKind::ClientCancelled
        | FaultKind::ClientStalled
        | FaultKind::WriteLost
        | FaultKind::WriteMisdirected
        | FaultKind::StoreLate => false,
        FaultKind::LinkBlackHole | FaultKind::LinkCutOneWay | FaultKind::LinkSlow => {
            matches!(episode.victim, Victim::Link(one, other) if one != other)
        }
        FaultKind::ZonesApart | FaultKind::ZoneSlow => matches!(episode.victim, Victim::Zone(_)),
        FaultKind::StoreAdded => {
            matches!(episode.victim, Victim::Store(store) if store >= swarm.stores())
        }
        FaultKind::ByteRotted
        | FaultKind::DiskRotting
        | FaultKind::SectorRotted
        | FaultKind::StoreEmptied
        | FaultKind::ImageRestored => matches!(episode.victim, Victim::Store(_)),
        FaultKind::ClientsReset | FaultKind::GatewayFenced => {
            matches!(episode.victim, Victim::Gateway(_))
        }
        FaultKind::LinksSwizzled | FaultKind::LevelRaisedEarly => {
            matches!(episode.victim, Victim::All)
        }
        FaultKind::MachineUpgraded | FaultKind::UpgradeRolledBack => {
            matches!(episode.victim, Victim::Store(_) | Victim::Gateway(_))
        }
        _ => true,
    };
    let rest = "strikes nobody, or not by an episode";
    if fits { Ok(()) } else { Err(format!("{} {:?} {rest}", episode.kind.name(), episode.victim)) }
}

#[cfg(test)]
mod tests;
