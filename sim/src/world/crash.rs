//! Crashes at chosen moments: where a disk has completed an effect, just before its store hears of that, or just after.
//!
//! What is left on the disks is then opened as recovery will find it ([`crate::checkers::examine`]), before the stores
//! start again. A world that is to crash is over early: as soon as clients have done all that they were given.

use std::collections::VecDeque;

use super::machine::Side;
use super::power::End;
use super::{Happening, Maker, Part, World};
use crate::MILLISECOND;
use crate::checkers::examine::{Promised, examine};

/// How long stores that crashed stay down.
const DOWN: u64 = 8 * MILLISECOND;

/// Which stores crash; also whose completions count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The store of this place.
    Store(usize),
    /// All stores at once.
    All,
}

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The process dies: what is written stays in the cache, of writes in flight some sectors are there.
    Cache,
    /// Power is lost, and all that no sync has covered.
    Synced,
    /// Power is lost, but nothing else: writes in flight are there, too.
    Everything,
    /// Power is lost, and of what was not synced or in flight each sector is there or not, as drawn.
    Mixed,
}

/// A crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// Of whom.
    pub who: Who,
    /// At which of their disks' completions, from 1.
    pub number: u64,
    /// Whether the completion was handed over before.
    pub after: bool,
    /// What it leaves.
    pub left: Left,
}

/// The crashes of a world.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    /// Those to come, in order; `None`: the world has none, and nobody counts.
    points: Option<VecDeque<CrashPoint>>,
    /// Completions so far: of each store...
    seen: Vec<u64>,
    /// ...and of all.
    all: u64,
    /// The same at the last crash.
    at_crash: (Vec<u64>, u64),
}

impl Crashes {
    /// A disk completes an effect. Whether this is where to crash.
    fn due(&mut self, store: usize) -> Option<CrashPoint> {
        let points = self.points.as_mut()?;
        if self.seen.len() <= store {
            self.seen.resize(store + 1, 0);
        }
        self.seen[store] += 1;
        self.all += 1;
        let (of_store, all) = (self.seen[store], self.all);
        points.pop_front_if(|point| match point.who {
            Who::Store(of) => of == store && point.number == of_store,
            Who::All => point.number == all,
        })
    }
}

impl<M: Maker> World<M> {
    /// Crash at these points, in this order. The world is over as soon as clients have nothing left to do. To be
    /// called before anything happens.
    pub fn crash_at(&mut self, points: &[CrashPoint]) {
        self.crashes.points = Some(points.iter().copied().collect());
    }

    /// How many effects the disk of each store has completed, and all together.
    pub fn completions(&self) -> (Vec<u64>, u64) {
        (self.crashes.seen.clone(), self.crashes.all)
    }

    /// The same at the last crash.
    pub fn completions_at_crash(&self) -> (Vec<u64>, u64) {
        self.crashes.at_crash.clone()
    }

    /// Crashes that have not happened yet.
    pub fn crashes_left(&self) -> usize {
        self.crashes.points.as_ref().map_or(0, VecDeque::len)
    }

    pub(super) fn crash_due(&mut self, store: usize) -> Option<CrashPoint> {
        self.crashes.due(store)
    }

    pub(super) fn crash(&mut self, point: CrashPoint) {
        let victims: Vec<usize> = match point.who {
            Who::Store(store) => vec![store],
            Who::All => self.stores().collect(),
        };
        self.crashes.at_crash = self.completions();
        for store in &victims {
            self.end(*store, End::Crashed(point.left));
        }
        for store in victims {
            self.examine(store);
            self.queue.push(self.now + DOWN, Happening::Release { machine: store });
        }
    }

    /// Open the disk of `store` as it is now, and hold it against what the store has promised.
    pub(super) fn examine(&mut self, store: usize) {
        let Side::Store(side) = &self.machines[store].side else { return };
        let (agreement, onlooker) = (&self.agreement, &self.onlooker);
        let promised = Promised {
            takes_part: onlooker.takes_part(store),
            chunks: self.custody.kept(store).collect(),
            hash_at: &|range, index, term| {
                let terms = onlooker.committed_terms(range, index)?;
                if terms.last() != Some(&term) {
                    return None;
                }
                agreement.hash_at(range.0, index)
            },
        };
        if let Err(wrong) = examine(&side.disk, &promised) {
            let text = format!("{}'s disk after a crash: {wrong}", self.machines[store].name);
            self.fail(text);
        }
    }

    /// Whether this world has crashes, and there is nothing left that could crash.
    pub(super) fn is_done_early(&self) -> bool {
        self.part == Part::Faults
            && self.crashes.points.is_some()
            && self.workload.is_exhausted()
            && self.clients.iter().all(|client| !client.is_busy())
            && self.machines.iter().all(|machine| machine.up || machine.spare)
    }

    /// At the end, all disks are looked at once more.
    pub(super) fn examine_all(&mut self) {
        if self.crashes.points.is_some() {
            self.stores().for_each(|store| self.examine(store));
        }
    }
}
