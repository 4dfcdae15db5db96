//! The trace of a run: a hash over every event, and, on demand, the lines to read.
//!
//! Two runs of one seed must have equal hashes. A line is only formatted if somebody reads it.

use crate::{Nanos, SECOND};

/// Who reads the lines.
pub type Sink = Box<dyn FnMut(&str)>;

/// Collects the hash of a run, and passes lines on.
pub struct Trace {
    hash: u64,
    events: u64,
    sink: Option<Sink>,
}

impl Trace {
    /// A trace; with a sink, also lines.
    pub fn new(sink: Option<Sink>) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, sink }
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
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
            sink(&line(at, who, what, &text()));
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

fn line(at: Nanos, who: &str, what: &str, text: &str) -> String {
    format!("{:>4}.{:06} {who:<9} {what:<12} {text}", at / SECOND, at % SECOND / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_events_give_equal_hashes_and_a_changed_one_another() {
        let run = |number| {
            let mut trace = Trace::new(None);
            trace.event(5, "store-1", "message", [number, 0], String::new);
            trace.say(6, "gw-1", "note", "a leader");
            trace.hash()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
