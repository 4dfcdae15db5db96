//! Which run holds which segments. Blocks belong to one run; values to all runs that point to them,
//! and are let go with the last of these.

use std::collections::BTreeMap;

use super::super::segment::allocator::{SegmentState, Segments};
use super::super::segment::edit::{RunDescriptor, TableId};
use super::super::segment::layout::{Generation, SegmentId};

/// The segments of all runs, also of those that could not be loaded.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    runs: BTreeMap<Generation, Held>,
    values: BTreeMap<SegmentId, Shared>,
}

#[derive(Debug)]
struct Held {
    table: TableId,
    blocks: Vec<SegmentId>,
    values: Vec<SegmentId>,
}

#[derive(Debug)]
struct Shared {
    table: TableId,
    generation: Generation,
    runs: u32,
}

impl Holdings {
    /// A run belongs to its table; its segments are what they are from now on.
    pub(super) fn add(&mut self, run: &RunDescriptor, states: &mut Segments) {
        for segment in &run.segments {
            states.set(*segment, SegmentState::Run(run.run));
        }
        for value in &run.values {
            states.set(value.segment, SegmentState::Values(value.generation));
            let (table, generation) = (run.table, value.generation);
            let shared = Shared { table, generation, runs: 0 };
            let shared = self.values.entry(value.segment).or_insert(shared);
            assert_eq!((shared.table, shared.generation), (table, generation), "one life");
            shared.runs += 1;
        }
        let held = Held {
            table: run.table,
            blocks: run.segments.clone(),
            values: run.values.iter().map(|value| value.segment).collect(),
        };
        let former = self.runs.insert(run.run, held);
        assert!(former.is_none(), "a run is added once");
    }

    /// A run is no more. Gives back the segments that nobody holds any more; their states are the
    /// caller's to change.
    pub(super) fn remove(&mut self, run: Generation) -> Vec<SegmentId> {
        let Some(held) = self.runs.remove(&run) else { return Vec::new() };
        let mut gone = held.blocks;
        for segment in held.values {
            let shared = self.values.get_mut(&segment).expect("its run held it");
            shared.runs -= 1;
            if shared.runs == 0 {
                self.values.remove(&segment);
                gone.push(segment);
            }
        }
        gone
    }

    /// A table has no runs any more. Gives back their segments.
    pub(super) fn remove_table(&mut self, table: TableId) -> Vec<SegmentId> {
        let own = self.runs.iter().filter(|(_, held)| held.table == table);
        let own: Vec<_> = own.map(|(run, _)| *run).collect();
        own.into_iter().flat_map(|run| self.remove(run)).collect()
    }

    /// Whose run it is.
    pub(super) fn table_of(&self, run: Generation) -> Option<TableId> {
        self.runs.get(&run).map(|held| held.table)
    }

    /// Whose values stand in a segment.
    pub(super) fn table_of_values(&self, segment: SegmentId) -> Option<TableId> {
        self.values.get(&segment).map(|shared| shared.table)
    }

    /// # Panics
    /// If a segment is something else, or counts are wrong: a bug in Trine.
    pub(super) fn check(&self, states: &Segments) {
        let mut counts: BTreeMap<SegmentId, u32> = BTreeMap::new();
        for (run, held) in &self.runs {
            for segment in &held.blocks {
                assert_eq!(states.state(*segment), Some(SegmentState::Run(*run)));
            }
            for segment in &held.values {
                *counts.entry(*segment).or_default() += 1;
            }
        }
        assert_eq!(counts.len(), self.values.len(), "each value segment has a run");
        for (segment, shared) in &self.values {
            assert_eq!(counts.get(segment), Some(&shared.runs), "{segment:?}");
            let state = SegmentState::Values(shared.generation);
            assert_eq!(states.state(*segment), Some(state), "{segment:?}");
        }
    }
}
