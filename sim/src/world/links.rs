//! Connections between machines: they stand, are reset, and are made again.
//!
//! A killed process resets its connections, and peers hear of it. After a power loss, or in front of
//! a black hole, they hear nothing until a new connection is made.

use super::machine::Input;
use super::{Arrival, Happening, Maker, World};

/// Who is connected with whom. All pairs but those of two gateways.
#[derive(Debug)]
pub(super) struct Links {
    count: usize,
    up: Vec<bool>,
    /// Whether the first believes that its link to the second stands.
    believes: Vec<bool>,
    /// Raised by each end of a connection: what was in flight on it is lost.
    generations: Vec<u64>,
}

impl Links {
    pub(super) fn new(count: usize) -> Self {
        let pairs = count * count;
        Self {
            count,
            up: vec![false; pairs],
            believes: vec![false; pairs],
            generations: vec![0; pairs],
        }
    }

    pub(super) fn is_up(&self, one: usize, other: usize) -> bool {
        self.up[self.pair(one, other)]
    }

    pub(super) fn generation(&self, one: usize, other: usize) -> u64 {
        self.generations[self.pair(one, other)]
    }

    /// The same for both orders.
    fn pair(&self, one: usize, other: usize) -> usize {
        one.min(other) * self.count + one.max(other)
    }

    fn belief(&mut self, of: usize, about: usize) -> &mut bool {
        &mut self.believes[of * self.count + about]
    }
}

impl<M: Maker> World<M> {
    /// Make every connection that can be made.
    pub(super) fn connect_all(&mut self) {
        for one in 0..self.machines.len() {
            for other in one + 1..self.machines.len() {
                self.connect(one, other);
            }
        }
    }

    fn connect(&mut self, one: usize, other: usize) {
        let (a, b) = (&self.machines[one], &self.machines[other]);
        let cut = self.network.is_cut(one, other) || self.network.is_cut(other, one);
        let wanted = a.is_store() || b.is_store();
        if cut || !wanted || !a.up || !b.up || self.links.is_up(one, other) {
            return;
        }
        let pair = self.links.pair(one, other);
        self.links.up[pair] = true;
        let takes = self.network.latency(one, other);
        for (of, about) in [(one, other), (other, one)] {
            if std::mem::replace(self.links.belief(of, about), true) {
                self.news(of, about, false, takes);
            }
            self.news(of, about, true, takes);
        }
    }

    /// End the connection. `told`: the other side hears of it.
    pub(super) fn disconnect(&mut self, machine: usize, peer: usize, told: bool) {
        let pair = self.links.pair(machine, peer);
        if !std::mem::replace(&mut self.links.up[pair], false) {
            return;
        }
        self.links.generations[pair] += 1;
        if told && !self.network.is_cut(machine, peer) {
            *self.links.belief(peer, machine) = false;
            let takes = self.network.latency(machine, peer);
            self.news(peer, machine, false, takes);
        }
    }

    /// Break the connections that `breaks` names. Both sides hear of it at once from their own
    /// network, whatever lies between them.
    pub(super) fn break_links(&mut self, breaks: impl Fn(usize, usize) -> bool) {
        for one in 0..self.machines.len() {
            for other in one + 1..self.machines.len() {
                if breaks(one, other) && self.links.is_up(one, other) {
                    self.disconnect(one, other, false);
                    for (of, about) in [(one, other), (other, one)] {
                        *self.links.belief(of, about) = false;
                        self.news(of, about, false, 0);
                    }
                }
            }
        }
    }

    /// Reset all connections of a machine; both sides hear of it.
    pub(super) fn reset_links(&mut self, machine: usize) {
        for peer in 0..self.machines.len() {
            if peer != machine && self.links.is_up(machine, peer) {
                self.disconnect(machine, peer, true);
                *self.links.belief(machine, peer) = false;
                self.news(machine, peer, false, 0);
            }
        }
    }

    /// The machine is to be another one: whoever believes in a link to it hears of its end.
    pub(super) fn forget_about(&mut self, machine: usize) {
        for peer in 0..self.machines.len() {
            if std::mem::replace(self.links.belief(peer, machine), false) {
                let takes = self.network.latency(machine, peer);
                self.news(peer, machine, false, takes);
            }
        }
    }

    /// The machine begins a new life: it knows of no connection.
    pub(super) fn forget_links(&mut self, machine: usize) {
        for peer in 0..self.machines.len() {
            *self.links.belief(machine, peer) = false;
        }
    }

    fn news(&mut self, of: usize, about: usize, up: bool, takes: u64) {
        let peer = self.machines[about].endpoint;
        let input = if up { Input::LinkUp(peer) } else { Input::LinkDown(peer) };
        let (life, generation) = (self.machines[of].life, self.links.generation(of, about));
        let arrival = Arrival { to: of, life, from: about, generation, input };
        self.queue.push(self.now + takes, Happening::Arrive(Box::new(arrival)));
    }
}
