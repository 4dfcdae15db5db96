//! Faults that came later: writes that go wrong unnoticed, old images of disks, links that swizzle.

use trine_core::ids::DiskToken;

use super::machine::{Side, StoreMachine};
use super::power::End;
use super::{Happening, Maker, Part, World};
use crate::disk::Lie;
use crate::faults::FaultKind;
use crate::faults::plan::Episode;
use crate::faults::strikes::Place;
use crate::random::Draw;
use crate::{MILLISECOND, Nanos};

/// How long a store stays down whose disk is copied, or put back.
const COPYING: Nanos = 20 * MILLISECOND;
/// Of the draws of a swizzle ([`Draw::new`]).
const SWIZZLE: u64 = 80;

impl<M: Maker> World<M> {
    /// A write behind `start` may go wrong, though its disk says that it is done.
    pub(super) fn lie(&mut self, machine: usize, token: DiskToken, start: u64) {
        let Side::Store(side) = &mut self.machines[machine].side else { return };
        for (kind, lie) in [
            (FaultKind::WriteLost, Lie::Lost),
            (FaultKind::WriteMisdirected, Lie::Misdirected(start)),
        ] {
            let draw = self.disk_draws.of(machine);
            let drawn = draw.of_ten_thousand(self.swarm.chance(kind, 20, 200));
            if self.strikes.strikes(self.now, kind, Place::Machine(machine), drawn) {
                side.disk.lie(token, lie);
                self.custody.hurt(machine);
            }
        }
    }

    /// A store goes dark, its disk is copied, and it goes on in a new life.
    ///
    /// That it goes on is what makes the fault recoverable: its peers write down that they have heard of the new life.
    /// A disk that goes back to before what a peer has heard is not noticed by that one (ARCHITECTURE.md).
    pub(super) fn keep_image(&mut self, machine: usize) {
        self.end(machine, End::PowerLost);
        if let Side::Store(side) = &mut self.machines[machine].side {
            side.image = Some((side.config.store, side.disk.image()));
        }
        self.machines[machine].image_at = self.now;
        self.queue.push(self.now + COPYING, Happening::Release { machine });
    }

    /// A store goes dark again, and the copy of its disk takes the disk's place.
    pub(super) fn restore_image(&mut self, machine: usize) {
        if self.is_heard(machine) {
            self.set_back(machine);
        } else if let Side::Store(side) = &mut self.machines[machine].side {
            side.image = None;
        }
    }

    /// A store goes dark, and the copy of its disk takes the disk's place, if it is its own.
    pub(super) fn set_back(&mut self, machine: usize) {
        let Side::Store(side) = &mut self.machines[machine].side else { return };
        let own = side.config.store;
        let Some((_, image)) = side.image.take().filter(|(of, _)| *of == own) else { return };
        self.end(machine, End::PowerLost);
        if let Side::Store(side) = &mut self.machines[machine].side {
            side.disk.restore(image);
        }
        // Peers tell it what it has forgotten, and it halts.
        self.machines[machine].damaged = true;
        self.machines[machine].doubted = true;
        self.onlooker.set_back(machine);
        self.custody.hurt(machine);
        self.counts.hits.hit(FaultKind::ImageRestored);
        self.trace.say(self.now, &self.machines[machine].name, "fault", "its disk is an old one");
        self.queue.push(self.now + COPYING, Happening::Release { machine });
    }

    /// Whether all other stores remember, whatever becomes of them, that a store has lived on since its disk was copied.
    fn is_heard(&self, machine: usize) -> bool {
        let target = &self.machines[machine];
        let Side::Store(side) = &target.side else { return false };
        let Some(life) = side.machine.as_ref().and_then(|store| store.life()) else { return false };
        let remembers = |other: usize| match &self.machines[other].side {
            Side::Store(other) => {
                let remembered = other.machine.as_ref().map(|it| it.remembers(side.config.store));
                remembered.flatten() == Some(life)
            }
            Side::Gateway(_) => true,
        };
        let takes_part = |other: &usize| *other != machine && !self.machines[*other].spare;
        let mut others = self.stores().filter(takes_part);
        target.clock.born() > target.image_at && others.all(remembers)
    }

    /// The links of some machines stop one after the other; when all have stopped, they come back in another order.
    pub(super) fn swizzle(&mut self, episode: &Episode) {
        let mut draw = Draw::new(episode.variant, SWIZZLE);
        let mut some: Vec<usize> = (0..self.machines.len()).filter(|_| draw.one_in(2)).collect();
        let steps = 2 * some.len() as u64;
        for (on, from) in [(true, 0), (false, some.len() as u64)] {
            for place in (1..some.len()).rev() {
                some.swap(place, draw.index(place + 1));
            }
            for (step, machine) in (from..).zip(&some) {
                let at = self.now + episode.lasts * step / steps;
                self.queue.push(at, Happening::Clog { machine: *machine, on });
            }
        }
    }

    pub(super) fn clog(&mut self, machine: usize, on: bool) {
        if self.part == Part::Faults {
            let text = if on { "clogged" } else { "not clogged any more" };
            self.trace.say(self.now, &self.machines[machine].name, "fault", text);
            self.network.cut(on, |from, to| from == machine || to == machine);
            self.connect_all();
        }
    }
}
