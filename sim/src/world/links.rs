//! Connections between machines: they stand, are reset, and are made again.
//!
//! A killed process resets its connections, and peers hear of it. After a power loss, or in front of
//! a black hole, they hear nothing until a new connection is made. What a machine has sent before it died arrives
//! all the same, before the news of its end; a reset loses it.

use super::machine::Input;
use super::{Arrival, Happening, Maker, World};
use crate::Nanos;

/// Who is connected with whom. All pairs but those of two gateways.
#[derive(Debug)]
pub(super) struct Links {
    count: usize,
    up: Vec<bool>,
    /// Whether the first believes that its link to the second stands.
    believes: Vec<bool>,
    /// Raised by each end of a connection.
    generations: Vec<u64>,
    /// The first generation of which the first still takes what comes from the second.
    open_from: Vec<u64>,
}

impl Links {
    pub(super) fn new(count: usize) -> Self {
        let pairs = count * count;
        Self {
            count,
            up: vec![false; pairs],
            believes: vec![false; pairs],
            generations: vec![0; pairs],
            open_from: vec![0; pairs],
        }
    }

    pub(super) fn is_up(&self, one: usize, other: usize) -> bool {
        self.up[self.pair(one, other)]
    }

    pub(super) fn generation(&self, one: usize, other: usize) -> u64 {
        self.generations[self.pair(one, other)]
    }

    /// Whether what was sent in a generation is still taken when it arrives.
    pub(super) fn is_open(&self, of: usize, about: usize, generation: u64) -> bool {
        generation >= self.open_from[of * self.count + about]
    }

    /// `of` takes nothing any more that `about` sent before this generation.
    fn close_until(&mut self, of: usize, about: usize, generation: u64) {
        let open_from = &mut self.open_from[of * self.count + about];
        *open_from = generation.max(*open_from);
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
            let at = self.network.behind_all(about, of, self.now + takes);
            if std::mem::replace(self.links.belief(of, about), true) {
                self.news(of, about, false, at);
            }
            self.news(of, about, true, at);
        }
    }

    /// The machine dies, and its connection with it. What it has sent arrives yet; then the other side hears of the
    /// end, if it is `told`.
    pub(super) fn disconnect(&mut self, machine: usize, peer: usize, told: bool) {
        if self.end_link(machine, peer) && told {
            self.tell_end(peer, machine);
        }
    }

    /// The connection ends, if there is one.
    fn end_link(&mut self, machine: usize, peer: usize) -> bool {
        let pair = self.links.pair(machine, peer);
        let was_up = std::mem::replace(&mut self.links.up[pair], false);
        self.links.generations[pair] += u64::from(was_up);
        was_up
    }

    /// The connection is reset, if there is one: what is in flight on it is lost.
    fn reset_link(&mut self, one: usize, other: usize) {
        self.end_link(one, other);
        let generation = self.links.generation(one, other);
        self.links.close_until(one, other, generation);
        self.links.close_until(other, one, generation);
    }

    /// `of` hears from the network that `about` has ended the connection, unless that cannot come through.
    fn tell_end(&mut self, of: usize, about: usize) {
        if !self.network.is_cut(about, of) {
            *self.links.belief(of, about) = false;
            let takes = self.network.latency(about, of);
            let at = self.network.behind_all(about, of, self.now + takes);
            self.news(of, about, false, at);
        }
    }

    /// Break the connections that `breaks` names. Both sides hear of it at once from their own
    /// network, whatever lies between them.
    pub(super) fn break_links(&mut self, breaks: impl Fn(usize, usize) -> bool) {
        for one in 0..self.machines.len() {
            for other in one + 1..self.machines.len() {
                if breaks(one, other) && self.links.is_up(one, other) {
                    self.reset_link(one, other);
                    for (of, about) in [(one, other), (other, one)] {
                        *self.links.belief(of, about) = false;
                        self.news(of, about, false, self.now);
                    }
                }
            }
        }
    }

    /// Reset all connections of a machine; both sides hear of it.
    pub(super) fn reset_links(&mut self, machine: usize) {
        for peer in 0..self.machines.len() {
            if peer != machine && self.links.is_up(machine, peer) {
                self.reset_link(machine, peer);
                self.tell_end(peer, machine);
                *self.links.belief(machine, peer) = false;
                self.news(machine, peer, false, self.now);
            }
        }
    }

    /// The machine is to be another one: whoever believes in a link to it hears of its end.
    pub(super) fn forget_about(&mut self, machine: usize) {
        for peer in 0..self.machines.len() {
            if std::mem::replace(self.links.belief(peer, machine), false) {
                let takes = self.network.latency(machine, peer);
                let at = self.network.behind_all(machine, peer, self.now + takes);
                self.news(peer, machine, false, at);
            }
        }
    }

    /// The machine begins a new life: it knows of no connection.
    pub(super) fn forget_links(&mut self, machine: usize) {
        for peer in 0..self.machines.len() {
            *self.links.belief(machine, peer) = false;
        }
    }

    /// What arrives at a machine in a life of it: a message is not taken any more when the machine has heard that its
    /// connection has ended, and neither is older news.
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival { to, life, from, generation, input } = arrival;
        if !self.links.is_open(to, from, generation) {
            return;
        }
        match input {
            Input::Message(..) if self.network.is_cut(from, to) => return,
            Input::LinkUp(_) | Input::LinkDown(_) => self.links.close_until(to, from, generation),
            _ => {}
        }
        self.input(to, life, input);
    }

    fn news(&mut self, of: usize, about: usize, up: bool, at: Nanos) {
        let peer = self.machines[about].endpoint;
        let input = if up { Input::LinkUp(peer) } else { Input::LinkDown(peer) };
        let (life, generation) = (self.machines[of].life, self.links.generation(of, about));
        let arrival = Arrival { to: of, life, from: about, generation, input };
        self.queue.push(at, Happening::Arrive(Box::new(arrival)));
    }
}
