//! Taking chunks out of the index for good. What that leaves of their segments is given back by `reclaim`.

use super::super::io::Io;
use super::super::segment::allocator::SegmentState;
use super::super::segment::chunk_store::chunk_key;
use super::super::segment::edit::{ChunkRecord, Edit, TableId};
use super::super::segment::layout::SegmentId;
use super::chunks::{Job, JobKind};
use super::{EditPurpose, Output, Shelf};
use crate::ids::ChunkId;
use crate::message::ChunkError;

impl Shelf {
    /// Take a chunk out of the index for good; its space is free once nothing else in its segment is
    /// there. [`Output::ChunkFreed`] follows when that is durable, also if it is not there.
    /// [`ChunkError::Overloaded`] if it, or another chunk of an open segment, is being written, or the journal has
    /// no room to spare: to be asked again.
    pub(crate) fn free_chunk(
        &mut self,
        op: u64,
        chunk: ChunkId,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let waits = self.freeing_waits();
        let busy = !self.takes_chunk_calls(0) || self.chunk_index_is_busy() || waits;
        if busy || buggify!(FreeRefused) {
            out.push(Output::ChunkFreed { op, result: Err(ChunkError::Overloaded) });
            return;
        }
        self.run_job(Job { op, kind: JobKind::Free { chunk }, pins: Vec::new() }, io, out);
        self.drive(io, out);
    }

    /// Free a chunk whose index row, if there is one, is `present`.
    pub(super) fn free(
        &mut self,
        op: u64,
        chunk: ChunkId,
        present: Option<&ChunkRecord>,
        out: &mut Vec<Output>,
    ) {
        let recorded = present.is_none_or(|record| self.record_open(record.segment, out));
        if self.rebuild.is_some() || !recorded || self.chunks.writing.contains_key(&chunk) {
            return out.push(Output::ChunkFreed { op, result: Err(ChunkError::Overloaded) });
        }
        match present {
            // That it is gone may be on its way to the journal yet: it is said once more, behind that.
            None => self.chunks.add_freed(chunk, op),
            Some(record) => {
                self.reclaim.removed(chunk, record);
                self.free_row(op, chunk);
            }
        }
    }

    /// Have the journal know that an open segment need not be scanned; `false` if it must be.
    fn record_open(&mut self, segment: SegmentId, out: &mut Vec<Output>) -> bool {
        if !matches!(self.segments.state(segment), Some(SegmentState::Chunks { open: true, .. })) {
            return true;
        }
        // One that is being sealed is closed soon.
        let Some(mut through) = self.chunks.recorded(segment) else { return false };
        if planted!(RecordedTooFar) {
            through = (through + (64 << 10)).min(self.layout.segment);
        }
        if self.recorded.get(&segment) != Some(&through) {
            let edit = Edit::SegmentRecorded { segment, through };
            self.journal(&edit, EditPurpose::Recorded(segment, through), out);
        }
        true
    }

    pub(super) fn free_row(&mut self, op: u64, chunk: ChunkId) {
        let sequence = self.chunks.sequence();
        let table = self.tables.entry(TableId::Chunks).or_default();
        table.active.write(sequence, chunk_key(chunk), None);
        self.chunks.add_freed(chunk, op);
    }
}
