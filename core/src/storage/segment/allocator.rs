//! Which segment is what, and which are free.

use std::collections::BTreeSet;

use crate::ids::Incarnation;

use super::layout::{Generation, SegmentId};

/// What a segment is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentState {
    /// Nothing in it.
    Free,
    /// Taken by work whose edit is not durable yet, or not yet free again.
    Reserved,
    /// Chunks.
    Chunks {
        /// Which life.
        generation: Generation,
        /// Whether it takes more, as the journal knows.
        open: bool,
    },
    /// Blocks of a run.
    Run(Generation),
    /// Values of one or more runs; free when no run points into it any more.
    Values(Generation),
}

/// The states of all segments.
#[derive(Debug)]
pub(crate) struct Segments {
    states: Vec<SegmentState>,
    free: BTreeSet<SegmentId>,
    next_generation: u64,
}

impl Segments {
    /// All free. Generations are unique because `incarnation` is.
    ///
    /// # Panics
    /// If the store has been started 2^32 times; a superblock that says so is refused.
    pub(crate) fn new(count: u32, incarnation: Incarnation) -> Self {
        assert!(incarnation.0 < 1 << 32, "the upper half of a generation is the incarnation");
        Self {
            states: vec![SegmentState::Free; count as usize],
            free: (0..count).map(SegmentId).collect(),
            next_generation: (incarnation.0 << 32) + 1,
        }
    }

    /// A generation that was never used.
    pub(crate) fn next_generation(&mut self) -> Generation {
        let generation = Generation(self.next_generation);
        self.next_generation += 1;
        generation
    }

    /// A generation that was found on the disk is used, even if its life's incarnation was not
    /// durable when it ended.
    pub(crate) fn saw(&mut self, generation: Generation) {
        self.next_generation = self.next_generation.max(generation.0.saturating_add(1));
    }

    /// Take a free segment; it is reserved until [`Segments::set`] says more.
    pub(crate) fn reserve(&mut self) -> Option<SegmentId> {
        let segment = self.free.first().copied()?;
        self.set(segment, SegmentState::Reserved);
        Some(segment)
    }

    /// What a segment is; `None` if there is no such segment.
    pub(crate) fn state(&self, segment: SegmentId) -> Option<SegmentState> {
        self.states.get(segment.0 as usize).copied()
    }

    /// Say what a segment is now.
    ///
    /// # Panics
    /// If there is no such segment; ids from disk are checked with [`Segments::state`] first.
    pub(crate) fn set(&mut self, segment: SegmentId, state: SegmentState) {
        self.states[segment.0 as usize] = state;
        if state == SegmentState::Free {
            self.free.insert(segment);
        } else {
            self.free.remove(&segment);
        }
    }

    /// How many are free.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// All segments with their states.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SegmentId, SegmentState)> + '_ {
        (0..).map(SegmentId).zip(self.states.iter().copied())
    }

    /// The segments with chunks, their generation and whether they are open.
    pub(crate) fn chunk_segments(&self) -> impl Iterator<Item = (SegmentId, (Generation, bool))> {
        self.iter().filter_map(|(segment, state)| match state {
            SegmentState::Chunks { generation, open } => Some((segment, (generation, open))),
            SegmentState::Free
            | SegmentState::Reserved
            | SegmentState::Run(_)
            | SegmentState::Values(_) => None,
        })
    }

    /// # Panics
    /// If free list and states disagree: a bug in Trine.
    pub(crate) fn check(&self) {
        let free = self.iter().filter(|(_, state)| *state == SegmentState::Free);
        assert!(free.map(|(segment, _)| segment).eq(self.free.iter().copied()), "{:?}", self.free);
    }
}
