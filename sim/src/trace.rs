//! The trace of a run: a hash over every event, and, on demand, the lines to read.
//!
//! Two runs of one seed must have equal hashes. A line is only formatted if somebody reads it.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Nanos, SECOND};

/// Who reads the events.
pub type Sink = Box<dyn FnMut(&Event<'_>)>;

/// An event, for those who read. As text it is one line.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// When.
    pub at: Nanos,
    /// Whom it concerns.
    pub who: &'a str,
    /// Which machine that is.
    pub machine: Option<usize>,
    /// The machine at the other end of a message.
    pub other: Option<usize>,
    /// What happens.
    pub what: &'static str,
    /// More about it.
    pub text: String,
    /// Set: this is no event of its own and no line to read, but explains the event of this number.
    pub fact: Option<Fact>,
}

/// What an event means, for those who would have to guess it from texts. Facts count for no hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A message arrives that was sent by the event of this number.
    Arrived {
        /// The event that sent it.
        sent: u64,
    },
    /// A client asks a gateway.
    Asked {
        /// Which client.
        client: usize,
        /// The machine that it asks.
        gateway: usize,
        /// The number of the request at that gateway.
        request: u64,
        /// What it asks for.
        operation: &'static str,
        /// The keys that it is about; of a listing its prefix.
        keys: Vec<String>,
    },
    /// What a client asked is over.
    Ended {
        /// Which client.
        client: usize,
        /// How it ended.
        outcome: Outcome,
        /// The answer, in words.
        answer: String,
    },
    /// A big fault begins.
    Began {
        /// Its number in the plan.
        episode: usize,
        /// What happens.
        kind: &'static str,
        /// To whom, in words.
        victim: String,
        /// The machines concerned.
        machines: Vec<usize>,
    },
    /// It ends.
    Over {
        /// Its number in the plan.
        episode: usize,
    },
    /// All faults end.
    Healed,
    /// A machine runs from here on.
    Up,
    /// A machine stands still from here on.
    Down,
    /// A replica leads from here on.
    Leads {
        /// Which range.
        range: u64,
        /// In which term.
        term: u64,
    },
}

/// How an operation ended, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was done.
    Served,
    /// It was refused, and was not done.
    Refused,
    /// It may have been done.
    Unknown,
    /// The client gave up.
    GivenUp,
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, who, what, text, .. } = self;
        let (seconds, micros) = (at / SECOND, at % SECOND / 1_000);
        write!(f, "{seconds:>4}.{micros:06} {who:<9} {what:<12} {text}")
    }
}

/// Collects the hash of a run, and passes lines on.
pub struct Trace {
    hash: u64,
    events: u64,
    sink: Option<Sink>,
    /// Machines by name, for those who read.
    names: BTreeMap<String, usize>,
}

impl Trace {
    /// A trace; with a sink, also lines.
    pub fn new(sink: Option<Sink>) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, sink, names: BTreeMap::new() }
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The machine with this number has this name from now on.
    pub fn name(&mut self, machine: usize, name: &str) {
        if self.sink.is_some() {
            self.names.insert(name.to_owned(), machine);
        }
    }

    /// One event: when, whom it concerns, what, and up to two numbers that tell it from others.
    pub fn event(
        &mut self,
        at: Nanos,
        who: &str,
        what: &'static str,
        numbers: [u64; 2],
        text: impl FnOnce() -> String,
    ) {
        self.events += 1;
        self.mix(at);
        self.mix_bytes(who.as_bytes());
        self.mix_bytes(what.as_bytes());
        self.mix(numbers[0]);
        self.mix(numbers[1]);
        if let Some(sink) = &mut self.sink {
            // The first number of a message is who is at its other end.
            let is_message = matches!(what, "send" | "message");
            let other = is_message.then(|| usize::try_from(numbers[0]).ok()).flatten();
            let (number, machine) = (self.events, self.names.get(who).copied());
            sink(&Event { number, at, who, machine, other, what, text: text(), fact: None });
        }
    }

    /// Explain the last event, for those who read. `machine`: whom it concerns.
    pub fn fact(&mut self, at: Nanos, machine: Option<usize>, fact: impl FnOnce() -> Fact) {
        if let Some(sink) = &mut self.sink {
            let (number, who, what, fact) = (self.events, "", "fact", Some(fact()));
            sink(&Event { number, at, who, machine, other: None, what, text: String::new(), fact });
        }
    }

    /// Text that counts for the hash and is worth a line: a machine's note, a fault.
    pub fn say(&mut self, at: Nanos, who: &str, what: &'static str, text: &str) {
        self.event(at, who, what, [text.len() as u64, 0], || text.to_owned());
        self.mix_bytes(text.as_bytes());
    }

    /// Mix in eight bytes at a time: not FNV byte for byte, but as good for telling runs apart.
    fn mix(&mut self, word: u64) {
        let mixed = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ (mixed >> 29);
    }

    fn mix_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_events_give_equal_hashes_and_a_changed_one_another() {
        let run = |number| {
            let mut trace = Trace::new(None);
            trace.event(5, "store-1", "message", [number, 0], String::new);
            trace.fact(6, Some(0), || Fact::Up);
            trace.say(6, "gw-1", "note", "a leader");
            trace.hash()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
