//! The simulated network: how long a message takes, whether it arrives, and which links are cut.
//!
//! Parties are machines by number. A cut counts: two cuts over one pair need two healings. Without
//! the overtaking fault, messages of one pair arrive in order.

use std::collections::BTreeMap;

use trine_core::ids::ZoneId;

use crate::Nanos;
use crate::faults::strikes::{Place, Strikes};
use crate::faults::swarm::{Frequency, Latency, Swarm};
use crate::faults::{FaultKind, Hits};
use crate::random::Streams;

/// How much longer everything takes from and to a zone that is slow.
const SLOW_FACTOR: u64 = 50;

/// When the copies of one message arrive: none, one or two.
pub type Arrivals = [Option<Nanos>; 2];

/// The network between `count` machines.
#[derive(Debug)]
pub struct Network {
    count: usize,
    zones: Vec<Option<ZoneId>>,
    near: Latency,
    far: Latency,
    distances: Option<[Latency; 3]>,
    /// One way from a zone to another, where a scenario has said so.
    ways: BTreeMap<(ZoneId, ZoneId), Latency>,
    lost: u64,
    doubled: u64,
    overtaken: u64,
    /// Cuts in force from one machine to another.
    cuts: Vec<u32>,
    slow: Vec<u32>,
    /// Links that are slow from one machine to another.
    slow_links: Vec<u32>,
    last_arrival: Vec<Nanos>,
    /// Nothing is lost, doubled or overtaken any more.
    healed: bool,
    streams: Streams,
}

impl Network {
    /// A network between machines in these zones.
    pub fn new(streams: Streams, swarm: &Swarm, zones: Vec<Option<ZoneId>>) -> Self {
        let count = zones.len();
        let (near, far) = (swarm.near, swarm.far);
        let mut network = Self {
            count,
            zones,
            near,
            far,
            distances: swarm.distances,
            ways: BTreeMap::new(),
            lost: 0,
            doubled: 0,
            overtaken: 0,
            cuts: vec![0; count * count],
            slow: vec![0; count],
            slow_links: vec![0; count * count],
            last_arrival: vec![0; count * count],
            healed: false,
            streams,
        };
        network.configure(swarm);
        network
    }

    fn configure(&mut self, swarm: &Swarm) {
        self.lost = swarm.chance(FaultKind::MessageLost, 10, 200);
        self.doubled = swarm.chance(FaultKind::MessageDoubled, 10, 200);
        self.overtaken = match swarm.knob(FaultKind::MessageOvertaken) {
            Frequency::Off => 0,
            Frequency::Rare => 20,
            Frequency::Often => 1_000,
        };
    }

    /// No message is lost, doubled or overtaken any more, and nothing is cut or slow.
    pub fn heal(&mut self) {
        (self.lost, self.doubled, self.overtaken) = (0, 0, 0);
        self.healed = true;
        self.cuts.fill(0);
        self.slow.fill(0);
        self.slow_links.fill(0);
    }

    /// When a message sent now arrives.
    pub fn send(
        &mut self,
        now: Nanos,
        from: usize,
        to: usize,
        strikes: &mut Strikes,
        hits: &mut Hits,
    ) -> Arrivals {
        if self.is_cut(from, to) {
            return [None, None];
        }
        if self.strikes(now, (from, to), FaultKind::MessageLost, self.lost, strikes, hits) {
            return [None, None];
        }
        let first = self.arrival(now, from, to, strikes, hits);
        if self.strikes(now, (from, to), FaultKind::MessageDoubled, self.doubled, strikes, hits) {
            return [Some(first), Some(self.arrival(now, from, to, strikes, hits))];
        }
        [Some(first), None]
    }

    fn strikes(
        &mut self,
        now: Nanos,
        (from, to): (usize, usize),
        kind: FaultKind,
        parts: u64,
        strikes: &mut Strikes,
        hits: &mut Hits,
    ) -> bool {
        let drawn = self.streams.of(from * self.count + to).of_ten_thousand(parts);
        let struck = !self.healed && strikes.strikes(now, kind, Place::Link(from, to), drawn);
        if struck {
            hits.hit(kind);
        }
        struck
    }

    /// How long news of a connection's end or beginning takes.
    pub fn latency(&mut self, from: usize, to: usize) -> Nanos {
        let latency = self.between(from, to);
        let slow_link = self.slow_links[from * self.count + to];
        let slow = self.slow[from] + self.slow[to] + slow_link > 0;
        let draw = self.streams.of(from * self.count + to);
        latency.draw(draw) * if slow { SLOW_FACTOR } else { 1 }
    }

    /// From now on messages take so long from a zone to another.
    pub fn set_way(&mut self, from: ZoneId, to: ZoneId, latency: Latency) {
        self.ways.insert((from, to), latency);
    }

    fn between(&self, from: usize, to: usize) -> Latency {
        let way = self.zones[from].zip(self.zones[to]).and_then(|way| self.ways.get(&way));
        if let Some(latency) = way {
            return *latency;
        }
        match (self.zones[from], self.zones[to], self.distances) {
            (Some(one), Some(other), _) if one == other => self.near,
            // The pairs are 0 and 1, 0 and 2, 1 and 2.
            (Some(ZoneId(one)), Some(ZoneId(other)), Some(pairs)) => {
                pairs[usize::from(one + other - 1)]
            }
            _ => self.far,
        }
    }

    /// Whether nothing gets through from `from` to `to`.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts[from * self.count + to] > 0
    }

    /// Cut (or heal one cut of) every pair that `cuts` names.
    pub fn cut(&mut self, cut: bool, cuts: impl Fn(usize, usize) -> bool) {
        for from in 0..self.count {
            for to in 0..self.count {
                if from != to && cuts(from, to) {
                    switch(&mut self.cuts[from * self.count + to], cut);
                }
            }
        }
    }

    /// Make a link slow both ways, or no longer so.
    pub fn slow_link(&mut self, one: usize, other: usize, slow: bool) {
        for pair in [one * self.count + other, other * self.count + one] {
            switch(&mut self.slow_links[pair], slow);
        }
    }

    /// Make the machines of `zone` slow, or no longer so.
    pub fn slow_zone(&mut self, zone: ZoneId, slow: bool) {
        for (machine, of) in self.zones.iter().enumerate() {
            if *of == Some(zone) {
                switch(&mut self.slow[machine], slow);
            }
        }
    }

    /// When something that is due at a time arrives behind all that was sent before it.
    pub fn behind_all(&mut self, from: usize, to: usize, due: Nanos) -> Nanos {
        let last = &mut self.last_arrival[from * self.count + to];
        *last = due.max(*last);
        *last
    }

    fn arrival(
        &mut self,
        now: Nanos,
        from: usize,
        to: usize,
        strikes: &mut Strikes,
        hits: &mut Hits,
    ) -> Nanos {
        let latency = self.latency(from, to);
        let pair = from * self.count + to;
        if self.strikes(now, (from, to), FaultKind::MessageOvertaken, self.overtaken, strikes, hits)
        {
            return now + latency * self.streams.of(pair).between(2, 40);
        }
        self.behind_all(from, to, now + latency)
    }
}

/// Reasons for a fault are counted, since faults overlap.
fn switch(reasons: &mut u32, on: bool) {
    *reasons = if on { *reasons + 1 } else { reasons.saturating_sub(1) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SECOND;

    fn network(swarm: &Swarm) -> Network {
        let zones = vec![Some(ZoneId(0)), Some(ZoneId(1)), Some(ZoneId(2)), None];
        Network::new(Streams::new(9, 3, false), swarm, zones)
    }

    #[test]
    fn messages_of_a_pair_arrive_once_and_in_order_without_faults() {
        let mut network = network(&Swarm::calm(SECOND));
        let mut hits = Hits::default();
        let mut last = 0;
        for now in 0..1_000 {
            match network.send(now * 1_000, 0, 1, &mut Strikes::Drawn, &mut hits) {
                [Some(at), None] if at >= last => last = at,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(hits, Hits::default());
    }

    #[test]
    fn loss_doubling_and_overtaking_happen_when_they_are_on() {
        let mut swarm = Swarm::calm(SECOND);
        let kinds =
            [FaultKind::MessageLost, FaultKind::MessageDoubled, FaultKind::MessageOvertaken];
        for kind in kinds {
            swarm.set(kind, Frequency::Often);
        }
        let mut network = network(&swarm);
        let mut hits = Hits::default();
        for now in 0..2_000 {
            network.send(now * 1_000, 0, 1, &mut Strikes::Drawn, &mut hits);
        }
        for kind in kinds {
            assert!(hits.of(kind) > 10, "{}", kind.name());
        }
    }

    #[test]
    fn each_pair_of_zones_has_its_distance() {
        let mut swarm = Swarm::calm(SECOND);
        let exactly = |latency| Latency { low: latency, high: latency };
        swarm.distances = Some([exactly(1_000_000), exactly(2_000_000), exactly(80_000_000)]);
        let mut network = network(&swarm);
        for (one, other, takes) in [(0, 1, 1_000_000), (2, 0, 2_000_000), (1, 2, 80_000_000)] {
            assert_eq!(network.latency(one, other), takes);
        }
        assert!(network.latency(3, 1) <= swarm.far.high, "the outside has no distance of its own");
    }

    #[test]
    fn overlapping_cuts_end_only_with_the_last_healing() {
        let mut network = network(&Swarm::calm(SECOND));
        network.cut(true, |from, to| from == 0 || to == 0);
        network.cut(true, |from, to| from == 0 && to == 1);
        network.cut(false, |from, to| from == 0 || to == 0);
        assert!(network.is_cut(0, 1));
        assert!(!network.is_cut(1, 0));
        network.cut(false, |from, to| from == 0 && to == 1);
        assert!(!network.is_cut(0, 1));
    }
}
