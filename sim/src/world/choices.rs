//! What is chosen in a run, and by whom: drawn as it goes, drawn and written down, or given.

use std::collections::VecDeque;

use super::{Maker, World};
use crate::faults::strikes::{Strikes, Struck};
use crate::workload::Source;
use crate::workload::operation::Planned;

/// What decides a run beside its [`super::Setup`].
#[derive(Debug, Default)]
pub struct Choices {
    /// What clients do.
    pub source: Source,
    /// Which small faults strike.
    pub strikes: Strikes,
    /// The names of the keys, the anchor's last, if they are not those of the swarm.
    pub keys: Option<Vec<String>>,
    /// Each place has draws of its own ([`crate::random::Streams`]).
    pub own_streams: bool,
}

impl Choices {
    /// All is drawn, and written down.
    pub fn recorded() -> Self {
        let source = Source::Recorded(Vec::new());
        Self { source, strikes: Strikes::recorded(), ..Self::default() }
    }

    /// All is given but latencies.
    pub fn given(keys: Vec<String>, operations: Vec<Vec<Planned>>, struck: Struck) -> Self {
        let lists = operations.into_iter().map(VecDeque::from).collect();
        Self {
            source: Source::Given(lists),
            strikes: Strikes::given(struck),
            keys: Some(keys),
            own_streams: false,
        }
    }
}

/// What was chosen.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// By each client.
    pub operations: Vec<Vec<Planned>>,
    /// Small faults that struck.
    pub struck: Struck,
}

impl<M: Maker> World<M> {
    /// What was chosen so far, if it was written down.
    pub fn recording(&self) -> Recording {
        Recording { operations: self.workload.recorded(), struck: self.strikes.struck() }
    }
}
