//! Chunk writes and reads. Both look into the chunk index first; where that misses, the call waits
//! for the block it needs.

use bytes::Bytes;

use crate::codec::Wire;
use crate::disk::{DiskOutput, DiskResult, SECTOR};
use crate::hash::Checksum;
use crate::ids::ChunkId;
use crate::message::{ChunkError, ChunkRead, ChunkWrite};
use crate::rows::{Miss, Rows};

use super::super::durable::Durable;
use super::super::io::Io;
use super::super::segment::allocator::SegmentState;
use super::super::segment::chunk::ChunkHeader;
use super::super::segment::chunk_store::{Writing, chunk_key};
use super::super::segment::edit::{ChunkRecord, TableId};
use super::super::segment::header::{SegmentContent, SegmentHeader};
use super::super::segment::layout::{SegmentId, sector_span};
use super::recover::Phase;
use super::{DiskPurpose, Output, Shelf, SyncPurpose};

/// A chunk call that has not reached the disk.
#[derive(Debug)]
pub(super) struct Job {
    op: u64,
    kind: JobKind,
    /// Spans that are pinned for it.
    pub(super) pins: Vec<Miss>,
}

#[derive(Debug)]
enum JobKind {
    Write { header: ChunkHeader, data: Bytes },
    Read { chunk: ChunkId, first: u32, blocks: u32 },
}

/// A read on its way to the disk and back.
#[derive(Debug)]
pub(super) struct Reading {
    op: u64,
    /// Bytes in hand.
    bytes: u64,
    /// Where the blocks are in what is read.
    from: usize,
    len: usize,
    checksums: Vec<Checksum>,
}

impl Shelf {
    /// Keep a chunk. [`Output::ChunkStored`] follows. The data is not copied. Writing the same chunk
    /// again is answered as the first time; other bytes under its id are [`ChunkError::Invalid`].
    pub(crate) fn write_chunk(
        &mut self,
        op: u64,
        write: &ChunkWrite,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let refuse = |error| Output::ChunkStored { op, result: Err(error) };
        let bytes = write.data.len() as u64;
        if !self.takes_chunk_calls(bytes) || self.chunk_index_is_busy() {
            out.push(refuse(ChunkError::Overloaded));
            return;
        }
        let header = ChunkHeader::of_write(write)
            .filter(|header| SECTOR + header.record_bytes() <= self.layout.segment);
        let Some(header) = header else {
            out.push(refuse(ChunkError::Invalid));
            return;
        };
        self.chunks.bytes_in_hand += bytes;
        let kind = JobKind::Write { header, data: write.data.clone() };
        self.run_job(Job { op, kind, pins: Vec::new() }, io, out);
        self.drive(io, out);
    }

    /// Read whole blocks of a chunk. [`Output::ChunkRead`] follows. They are as the disk gives them:
    /// the reader verifies them against their checksums.
    pub(crate) fn read_chunk(
        &mut self,
        op: u64,
        read: &ChunkRead,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        if !self.takes_chunk_calls(0) {
            out.push(Output::ChunkRead { op, result: Err(ChunkError::Overloaded) });
            return;
        }
        let kind =
            JobKind::Read { chunk: read.chunk, first: read.first_block, blocks: read.blocks };
        self.run_job(Job { op, kind, pins: Vec::new() }, io, out);
    }

    fn takes_chunk_calls(&self, bytes: u64) -> bool {
        matches!(self.phase, Phase::Ready)
            && !self.dead
            && self.chunks.bytes_in_hand + bytes <= self.config.chunk_bytes_max
    }

    /// Whether the chunk index cannot take more: its memtable or the queue to the journal is full.
    pub(super) fn chunk_index_is_busy(&self) -> bool {
        self.is_stalled(TableId::Chunks) || self.chunks.is_full()
    }

    /// Take a call as far as it comes without waiting.
    pub(super) fn run_job(&mut self, mut job: Job, io: &mut Io<'_>, out: &mut Vec<Output>) {
        let chunk = match &job.kind {
            JobKind::Write { header, .. } => header.chunk,
            JobKind::Read { chunk, .. } => *chunk,
        };
        let found = match self.rows(TableId::Chunks).get(&chunk_key(chunk)) {
            Ok(row) => row.map(|row| ChunkRecord::from_bytes(&row.value)),
            Err(miss) => {
                self.begin_fetch(miss, io).jobs.push(job);
                return;
            }
        };
        for miss in std::mem::take(&mut job.pins) {
            self.cache.release(miss);
        }
        let record = found.transpose().map_err(|_| ChunkError::Damaged);
        match (record, job) {
            (Ok(record), Job { op, kind: JobKind::Write { header, data }, .. }) => {
                self.store(op, header, data, record.as_ref(), io, out);
            }
            (Ok(record), Job { op, kind: JobKind::Read { first, blocks, .. }, .. }) => {
                let missing = match self.rebuild {
                    // It may be there, and not be found again yet.
                    Some(_) => ChunkError::Overloaded,
                    None => ChunkError::Missing,
                };
                let begun = record
                    .ok_or(missing)
                    .and_then(|record| self.begin_read(op, &record, first, blocks, io));
                if let Err(error) = begun {
                    out.push(Output::ChunkRead { op, result: Err(error) });
                }
            }
            (Err(error), Job { op, kind: JobKind::Write { data, .. }, .. }) => {
                self.answer_write(op, data.len() as u64, Err(error), out);
            }
            (Err(error), Job { op, kind: JobKind::Read { .. }, .. }) => {
                out.push(Output::ChunkRead { op, result: Err(error) });
            }
        }
    }

    /// Write a chunk whose index row, if there is one, is `present`.
    fn store(
        &mut self,
        op: u64,
        header: ChunkHeader,
        data: Bytes,
        present: Option<&ChunkRecord>,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let bytes = data.len() as u64;
        let same = |record: &ChunkRecord| {
            record.same_content(header.length, header.block_size, &header.checksums)
        };
        if let Some(record) = present {
            if same(record) {
                // It is durable already; the sync is for the proof.
                self.sync(SyncPurpose::Present(op, bytes), io);
            } else {
                self.answer_write(op, bytes, Err(ChunkError::Invalid), out);
            }
            return;
        }
        if let Some(writing) = self.chunks.writing.get_mut(&header.chunk) {
            if same(&writing.record) {
                writing.waiters.push((op, bytes));
            } else {
                self.answer_write(op, bytes, Err(ChunkError::Invalid), out);
            }
            return;
        }
        if self.rebuild.is_some() {
            // Whether it is there is not known, and one chunk has one place.
            self.answer_write(op, bytes, Err(ChunkError::Overloaded), out);
            return;
        }
        let place = self.chunks.place(header.record_bytes(), self.layout.segment);
        let Some(place) = place else {
            let kind = JobKind::Write { header, data };
            self.room.push_back(Job { op, kind, pins: Vec::new() });
            return;
        };
        let head = header.encode(&self.layout, place.segment, place.generation, place.at);
        let data_at = place.at + header.header_bytes();
        let record = ChunkRecord {
            segment: place.segment,
            offset: u32::try_from(data_at).expect("a segment is under 4 GiB"),
            length: header.length,
            block_size: header.block_size,
            checksums: header.checksums,
        };
        let mut parts = vec![head, data];
        let padding = bytes.next_multiple_of(SECTOR) - bytes;
        if padding > 0 {
            parts.push(vec![0; usize::try_from(padding).expect("under a sector")].into());
        }
        let token = io.write(self.layout.offset(place.segment) + place.at, parts);
        self.disk.insert(token, DiskPurpose::ChunkWrite(header.chunk));
        let waiters = vec![(op, bytes)];
        self.chunks.writing.insert(header.chunk, Writing { waiters, record });
    }

    /// The sync that covers a chunk's header and data is complete.
    pub(super) fn chunk_is_durable(
        &mut self,
        chunk: ChunkId,
        durable: Durable,
        out: &mut Vec<Output>,
    ) {
        let Some(Writing { waiters, record }) = self.chunks.writing.remove(&chunk) else { return };
        self.index_chunk(chunk, record);
        for (op, bytes) in waiters {
            self.answer_write(op, bytes, Ok(durable), out);
        }
    }

    /// Put a durable chunk into the index, and have its record journaled.
    pub(super) fn index_chunk(&mut self, chunk: ChunkId, record: ChunkRecord) {
        let sequence = self.chunks.sequence();
        let table = self.tables.entry(TableId::Chunks).or_default();
        table.active.write(sequence, chunk_key(chunk), Some(record.to_bytes()));
        self.chunks.add_record(chunk, record);
    }

    pub(super) fn answer_write(
        &mut self,
        op: u64,
        bytes: u64,
        result: Result<Durable, ChunkError>,
        out: &mut Vec<Output>,
    ) {
        self.chunks.bytes_in_hand -= bytes;
        out.push(Output::ChunkStored { op, result });
    }

    fn begin_read(
        &mut self,
        op: u64,
        record: &ChunkRecord,
        first: u32,
        blocks: u32,
        io: &mut Io<'_>,
    ) -> Result<(), ChunkError> {
        let count = u32::try_from(record.checksums.len()).map_err(|_| ChunkError::Damaged)?;
        let end = first.checked_add(blocks).filter(|end| blocks > 0 && *end <= count);
        let end = end.ok_or(ChunkError::Invalid)?;
        let size = u64::from(record.block_size);
        let start = u64::from(first) * size;
        let len = (u64::from(end) * size).min(record.length.into()) - start;
        let at = u64::from(record.offset) + start;
        let held = self.segments.state(record.segment);
        if !matches!(held, Some(SegmentState::Chunks { .. })) || at + len > self.layout.segment {
            return Err(ChunkError::Damaged);
        }
        if self.chunks.bytes_in_hand + len > self.config.chunk_bytes_max {
            return Err(ChunkError::Overloaded);
        }
        self.chunks.bytes_in_hand += len;
        let at = self.layout.offset(record.segment) + at;
        let (span_at, span_len) = sector_span(at, len);
        let token = io.read(span_at, span_len);
        let reading = Reading {
            op,
            bytes: len,
            from: usize::try_from(at - span_at).expect("within a sector"),
            len: usize::try_from(len).expect("a chunk fits into memory"),
            checksums: record.checksums[first as usize..end as usize].to_vec(),
        };
        self.disk.insert(token, DiskPurpose::ChunkRead(reading));
        Ok(())
    }

    pub(super) fn chunk_was_read(
        &mut self,
        reading: Reading,
        result: &DiskResult,
        out: &mut Vec<Output>,
    ) {
        let Reading { op, bytes, from, len, checksums } = reading;
        self.chunks.bytes_in_hand -= bytes;
        let result = match result {
            Ok(DiskOutput::Read(span)) if span.len() >= from + len => {
                Ok((span.slice(from..from + len), checksums))
            }
            Ok(_) | Err(_) => Err(ChunkError::Io),
        };
        out.push(Output::ChunkRead { op, result });
    }

    /// Open segments ahead of need, as long as flushes keep their reserve.
    pub(super) fn open_ahead(&mut self, io: &mut Io<'_>) {
        while self.chunks.begin_opening() {
            let segment = (self.segments.free() > self.reserve).then(|| self.segments.reserve());
            let Some(segment) = segment.flatten() else {
                self.chunks.opening_failed();
                return;
            };
            let generation = self.segments.next_generation();
            let header = SegmentHeader { generation, content: SegmentContent::Chunks };
            let header = header.encode(&self.layout, segment);
            let token = io.write(self.layout.offset(segment), vec![header]);
            self.disk.insert(token, DiskPurpose::OpenHeader(segment, generation));
        }
    }

    /// Place what waits for an open segment; if none comes, the disk is full.
    pub(super) fn place_waiting(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        for _ in 0..self.room.len() {
            let Some(job) = self.room.pop_front() else { return };
            self.run_job(job, io, out);
        }
        self.open_ahead(io);
        if self.chunks.is_opening() {
            return;
        }
        for job in std::mem::take(&mut self.room) {
            if let JobKind::Write { data, .. } = job.kind {
                self.answer_write(job.op, data.len() as u64, Err(ChunkError::Full), out);
            }
        }
    }

    /// A segment takes no more chunks, as the journal knows.
    pub(super) fn seal(&mut self, segment: SegmentId) {
        if let Some(SegmentState::Chunks { generation, .. }) = self.segments.state(segment) {
            self.segments.set(segment, SegmentState::Chunks { generation, open: false });
        }
    }
}
