//! Chunk writes and reads. Both look into the chunk index first; where that misses, the call waits
//! for the block it needs.

use bytes::Bytes;

use crate::codec::Wire;
use crate::disk::{DiskOutput, DiskResult, SECTOR};
use crate::hash::Checksum;
use crate::ids::{CallId, ChunkId};
use crate::message::{ChunkCopy, ChunkError, ChunkRead, ChunkSummary, ChunkWrite};
use crate::object::Target;
use crate::rows::{Miss, Rows};

use super::super::durable::Durable;
use super::super::io::Io;
use super::super::segment::allocator::SegmentState;
use super::super::segment::chunk::ChunkHeader;
use super::super::segment::chunk_store::{Writing, chunk_key, chunk_of_key};
use super::super::segment::edit::{ChunkRecord, TableId};
use super::super::segment::header::{SegmentContent, SegmentHeader};
use super::super::segment::layout::{SegmentId, sector_span};
use super::copy::{CopySpan, digest_of};
use super::recover::Phase;
use super::{DiskPurpose, Opening, Output, Shelf, SyncPurpose};

/// A chunk call that has not reached the disk.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) op: u64,
    pub(super) kind: JobKind,
    /// Spans that are pinned for it.
    pub(super) pins: Vec<Miss>,
}

/// A copy to write.
#[derive(Debug)]
pub(super) struct NewCopy {
    header: ChunkHeader,
    data: Bytes,
    instead: Instead,
}

/// What a copy that is written may take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    /// Nothing: a chunk that is there stays where it is.
    Nothing,
    /// A copy that is known not to verify.
    Damaged,
    /// The copy at this place, which it was made of; if that is not there any more, nothing is written.
    Moved(SegmentId, u32),
}

/// What it is for.
#[derive(Debug)]
pub(super) enum JobKind {
    Write(NewCopy),
    Read {
        chunk: ChunkId,
        first: u32,
        blocks: u32,
    },
    Look {
        chunk: ChunkId,
        how: Look,
    },
    Free {
        chunk: ChunkId,
    },
    /// Count on what is in the index.
    Count,
}

/// How closely a store looks at its own copy of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Whether the index has it.
    Index,
    /// Read the header alone, to learn whose it is.
    Owner,
    /// Read header and data, and verify each block.
    Check,
    /// The same, and prove that it is durable.
    Prove,
    /// The same as `Check`, and give the bytes.
    Copy,
}

/// What a store found of its own copy.
#[derive(Debug)]
pub(crate) enum Looked {
    /// The index has it.
    Indexed,
    /// It belongs to this object.
    Owned(Target),
    /// It verifies.
    Checked(ChunkSummary),
    /// It verifies and is durable.
    Proven(Durable),
    /// It verifies; here it is.
    Copied(ChunkCopy),
}

/// A read on its way to the disk and back.
#[derive(Debug)]
pub(super) struct Reading {
    op: u64,
    /// Where.
    segment: SegmentId,
    /// Bytes in hand.
    bytes: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Blocks {
        chunk: ChunkId,
        first: u32,
        block_size: u32,
        /// Where the blocks are in what is read.
        from: usize,
        len: usize,
        checksums: Vec<Checksum>,
    },
    /// Header and data.
    Whole { chunk: ChunkId, how: Look, record: ChunkRecord, span: CopySpan },
}

impl Shelf {
    /// Keep a chunk. [`Output::ChunkStored`] follows. The data is not copied. Writing the same chunk
    /// again is answered as the first time; other bytes under its id are [`ChunkError::Invalid`].
    /// `replace` says that the copy which is there does not verify: the new one takes its place.
    pub(crate) fn write_chunk(
        &mut self,
        op: u64,
        write: &ChunkWrite,
        replace: bool,
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
        self.chunks.writes_in_hand += 1;
        let instead = if replace { Instead::Damaged } else { Instead::Nothing };
        let kind = JobKind::Write(NewCopy { header, data: write.data.clone(), instead });
        self.run_job(Job { op, kind, pins: Vec::new() }, io, out);
        self.drive(io, out);
    }

    /// Read whole blocks of a chunk. [`Output::ChunkRead`] follows. What does not verify is
    /// [`ChunkError::Damaged`]; the reader verifies once more, against what the way may do.
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

    /// Look at the own copy of a chunk. [`Output::ChunkLooked`] follows. Nothing is taken from caches
    /// but the index.
    pub(crate) fn look_at_chunk(
        &mut self,
        op: u64,
        chunk: ChunkId,
        how: Look,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        if !self.takes_chunk_calls(0) {
            out.push(Output::ChunkLooked { op, result: Err(ChunkError::Overloaded) });
            return;
        }
        self.run_job(Job { op, kind: JobKind::Look { chunk, how }, pins: Vec::new() }, io, out);
    }

    /// The first chunk of the index at or after `from`.
    ///
    /// # Errors
    /// [`Miss`]: fetch it and ask again.
    pub(crate) fn next_chunk(&self, from: ChunkId) -> Result<Option<ChunkId>, Miss> {
        let row = self.rows(TableId::Chunks).seek(&chunk_key(from), &CHUNK_KEYS_END)?;
        Ok(row.and_then(|row| chunk_of_key(&row.key)))
    }

    /// Whether the index knows all chunks that are there: it is not being rebuilt.
    pub(crate) fn chunk_index_is_complete(&self) -> bool {
        matches!(self.phase, Phase::Ready) && self.rebuild.is_none()
    }

    /// Chunk bytes in hand, and how many there may be.
    pub(crate) fn chunk_bytes(&self) -> (u64, u64) {
        (self.chunks.bytes_in_hand, self.config.chunk_bytes_max)
    }

    /// Bytes that the journal will be asked for by chunks that are being written, if each one's record
    /// gets a frame of its own and a closing mark.
    pub(crate) fn chunk_records_to_come(&self) -> u64 {
        self.chunks.writes_in_hand * 2 * SECTOR
    }

    pub(super) fn takes_chunk_calls(&self, bytes: u64) -> bool {
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
            JobKind::Write(copy) => copy.header.chunk,
            JobKind::Read { chunk, .. } | JobKind::Look { chunk, .. } | JobKind::Free { chunk } => {
                *chunk
            }
            JobKind::Count => return self.count_on(job.pins, io),
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
        let missing = match self.rebuild {
            // It may be there, and not be found again yet.
            Some(_) => ChunkError::Overloaded,
            None => ChunkError::Missing,
        };
        let Job { op, kind, .. } = job;
        match kind {
            JobKind::Write(copy) => match record {
                Ok(record) => self.store(op, copy, record, io, out),
                // A row that cannot be read is no copy.
                Err(_) if copy.instead == Instead::Damaged => self.store(op, copy, None, io, out),
                Err(error) => self.answer_write(op, copy.data.len() as u64, Err(error), out),
            },
            JobKind::Read { chunk, first, blocks } => {
                let begun = record
                    .and_then(|record| record.ok_or(missing))
                    .and_then(|record| self.begin_read(op, chunk, &record, first, blocks, io));
                if let Err(error) = begun {
                    out.push(Output::ChunkRead { op, result: Err(error) });
                }
            }
            JobKind::Look { chunk, how } => {
                let begun = match record.and_then(|record| record.ok_or(missing)) {
                    Ok(_) if how == Look::Index => {
                        out.push(Output::ChunkLooked { op, result: Ok(Looked::Indexed) });
                        Ok(())
                    }
                    Ok(record) => self.begin_look(op, chunk, how, record, io),
                    Err(error) => Err(error),
                };
                if let Err(error) = begun {
                    self.tell_looked(op, chunk, Err(error), io, out);
                }
            }
            JobKind::Free { chunk } => match record {
                Ok(record) => self.free(op, chunk, record.as_ref(), out),
                // A row that cannot be read says not where its space is: the segment's is not counted.
                Err(_) => self.free_row(op, chunk),
            },
            JobKind::Count => unreachable!("it went another way above"),
        }
    }

    /// Have a copy moved that was read at this place. Its bytes are in hand already.
    pub(super) fn write_moved(
        &mut self,
        chunk: ChunkId,
        copy: ChunkCopy,
        (segment, offset): (SegmentId, u32),
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let ChunkCopy { owner, epoch, block_size, data, checksums } = copy;
        let call = CallId(0);
        let write = ChunkWrite { call, chunk, owner, epoch, block_size, data, checksums };
        let Some(header) = ChunkHeader::of_write(&write) else {
            unreachable!("it was read with such a header");
        };
        self.chunks.bytes_in_hand += write.data.len() as u64;
        self.chunks.writes_in_hand += 1;
        let instead = Instead::Moved(segment, offset);
        let kind = JobKind::Write(NewCopy { header, data: write.data, instead });
        self.run_job(Job { op: MOVES, kind, pins: Vec::new() }, io, out);
    }

    /// A copy is not moved after all.
    pub(super) fn give_up_write(&mut self, job: Job) {
        if let JobKind::Write(copy) = job.kind {
            self.chunks.bytes_in_hand -= copy.data.len() as u64;
            self.chunks.writes_in_hand -= 1;
        }
    }

    /// Wait for a block that counting missed.
    pub(super) fn count_missed(&mut self, miss: Miss, pins: Vec<Miss>, io: &mut Io<'_>) {
        let job = Job { op: MOVES, kind: JobKind::Count, pins };
        self.begin_fetch(miss, io).jobs.push(job);
    }

    /// Look at the copy of a chunk that is to be moved.
    pub(super) fn look_to_move(&mut self, chunk: ChunkId, io: &mut Io<'_>, out: &mut Vec<Output>) {
        let kind = JobKind::Look { chunk, how: Look::Copy };
        self.run_job(Job { op: MOVES, kind, pins: Vec::new() }, io, out);
    }

    /// Write a chunk whose index row, if there is one, is `present`.
    fn store(
        &mut self,
        op: u64,
        copy: NewCopy,
        present: Option<ChunkRecord>,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let NewCopy { header, data, instead } = copy;
        let bytes = data.len() as u64;
        let same = |record: &ChunkRecord| {
            record.same_content(header.length, header.block_size, &header.checksums)
        };
        if let Instead::Moved(segment, offset) = instead {
            if !self.reclaim.moves(segment, (header.chunk, offset)) {
                // It was given up while a block was fetched.
                (self.chunks.bytes_in_hand, self.chunks.writes_in_hand) =
                    (self.chunks.bytes_in_hand - bytes, self.chunks.writes_in_hand - 1);
                return;
            }
            let there = present.as_ref().map(|record| (record.segment, record.offset));
            if there != Some((segment, offset)) || self.chunks.writing.contains_key(&header.chunk) {
                return self.answer_write(op, bytes, Err(ChunkError::Missing), out);
            }
        } else if let Some(record) = &present {
            if !same(record) {
                return self.answer_write(op, bytes, Err(ChunkError::Invalid), out);
            }
            if instead == Instead::Nothing {
                // It is durable already; the sync is for the proof.
                return self.sync(SyncPurpose::Present(op, bytes), io);
            }
        }
        if let Some(writing) = self.chunks.writing.get_mut(&header.chunk) {
            probe!(ChunkWrittenTwice);
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
        let moves = matches!(instead, Instead::Moved(..));
        let (needed, most) = (header.record_bytes(), self.layout.segment);
        let place = match moves {
            true => self.chunks.place_moved(needed, most),
            false => self.chunks.place(needed, most),
        };
        let Some(place) = place else {
            let kind = JobKind::Write(NewCopy { header, data, instead });
            let job = Job { op, kind, pins: Vec::new() };
            match moves {
                true => self.reclaim.wait_for_room(job),
                false => self.room.push_back(job),
            }
            return;
        };
        let head = header.encode(&self.layout, place.segment, place.generation, place.at);
        match moves {
            true => self.reclaim.done.bytes += bytes,
            false => self.chunks_bytes += bytes,
        }
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
        let writing = Writing { waiters, record, before: present };
        self.chunks.writing.insert(header.chunk, writing);
    }

    /// The sync that covers a chunk's header and data is complete.
    pub(super) fn chunk_is_durable(
        &mut self,
        chunk: ChunkId,
        durable: Durable,
        out: &mut Vec<Output>,
    ) {
        let Some(writing) = self.chunks.writing.remove(&chunk) else { return };
        let Writing { waiters, record, before } = writing;
        if let Some(before) = before {
            self.reclaim.removed(chunk, &before);
        }
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
        self.reclaim.added(chunk, &record);
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
        self.chunks.writes_in_hand -= 1;
        match op {
            MOVES => self.reclaim.moved(result.err()),
            op => out.push(Output::ChunkStored { op, result }),
        }
    }

    fn tell_looked(
        &mut self,
        op: u64,
        chunk: ChunkId,
        result: Result<Looked, ChunkError>,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        match op {
            MOVES => self.move_looked(chunk, result, io, out),
            op => out.push(Output::ChunkLooked { op, result }),
        }
    }

    fn begin_read(
        &mut self,
        op: u64,
        chunk: ChunkId,
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
        let what = What::Blocks {
            chunk,
            first,
            block_size: record.block_size,
            from: usize::try_from(at - span_at).expect("within a sector"),
            len: usize::try_from(len).expect("a chunk fits into memory"),
            checksums: record.checksums[first as usize..end as usize].to_vec(),
        };
        self.disk.insert(
            token,
            DiskPurpose::ChunkRead(Reading { op, segment: record.segment, bytes: len, what }),
        );
        Ok(())
    }

    /// Read header and data.
    fn begin_look(
        &mut self,
        op: u64,
        chunk: ChunkId,
        how: Look,
        record: ChunkRecord,
        io: &mut Io<'_>,
    ) -> Result<(), ChunkError> {
        let span = self.copy_span(&record).ok_or(ChunkError::Damaged)?;
        let bytes = if how == Look::Owner { span.header_len() } else { span.len };
        if self.chunks.bytes_in_hand + bytes > self.config.chunk_bytes_max {
            return Err(ChunkError::Overloaded);
        }
        self.chunks.bytes_in_hand += bytes;
        let token = io.read(span.offset, bytes);
        let segment = record.segment;
        let what = What::Whole { chunk, how, record, span };
        self.disk.insert(token, DiskPurpose::ChunkRead(Reading { op, segment, bytes, what }));
        Ok(())
    }

    pub(super) fn chunk_was_read(
        &mut self,
        reading: Reading,
        result: &DiskResult,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let Reading { op, bytes, what, .. } = reading;
        self.chunks.bytes_in_hand -= bytes;
        let span = match result {
            Ok(DiskOutput::Read(span)) => Ok(span),
            Ok(_) | Err(_) => Err(ChunkError::Io),
        };
        match what {
            What::Blocks { chunk, first, block_size, from, len, checksums } => {
                let result = span.and_then(|span| {
                    if span.len() < from + len {
                        return Err(ChunkError::Io);
                    }
                    let blocks = span.slice(from..from + len);
                    let mut each = blocks.chunks(block_size as usize).zip(&checksums).zip(first..);
                    let verify =
                        each.all(|((block, sum), n)| Checksum::of_block(chunk, n, block) == *sum);
                    match verify || planted!(BlocksUnverified) {
                        true => Ok((blocks, checksums)),
                        false => Err(ChunkError::Damaged),
                    }
                });
                out.push(Output::ChunkRead { op, result });
            }
            What::Whole { chunk, how: Look::Owner, record, span: place } => {
                let looked = span.and_then(|span| {
                    let header = self.judge_header(chunk, &record, &place, span);
                    header.map(|it| Looked::Owned(it.owner)).map_err(|_| ChunkError::Damaged)
                });
                self.tell_looked(op, chunk, looked, io, out);
            }
            What::Whole { chunk, how, record, span: place } => {
                let copy = span.and_then(|span| {
                    if planted!(RepairUnverified) && how == Look::Copy {
                        let copy = self.unjudged_copy(chunk, &record, &place, span);
                        return copy.ok_or(ChunkError::Damaged);
                    }
                    self.judge_copy(chunk, &record, &place, span).map_err(|_| ChunkError::Damaged)
                });
                let looked = match (copy, how) {
                    (Err(error), _) => Err(error),
                    (Ok(_), Look::Prove) => return self.sync(SyncPurpose::Proven(op), io),
                    (Ok(copy), Look::Copy) => Ok(Looked::Copied(copy)),
                    (Ok(copy), Look::Check | Look::Index | Look::Owner) => {
                        let digest = digest_of(&copy.checksums);
                        Ok(Looked::Checked(ChunkSummary { length: record.length, digest }))
                    }
                };
                self.tell_looked(op, chunk, looked, io, out);
            }
        }
    }

    /// Open segments ahead of need, as long as flushes and merges keep their reserves.
    pub(super) fn open_ahead(&mut self, io: &mut Io<'_>) {
        while self.chunks.begin_opening() {
            let kept = match planted!(ReserveIgnored) {
                false => self.reserve.data + self.merge_reserve(),
                true => 0,
            };
            if !self.open_segment(kept, false, io) {
                self.chunks.opening_failed();
                return;
            }
        }
    }

    /// Open a segment for chunks that are moved, which frees more: of what is kept for deletes it leaves
    /// all but this one.
    pub(super) fn open_for_moves(&mut self, io: &mut Io<'_>) -> bool {
        if self.chunks.begin_opening_for_moves()
            && !self.open_segment(self.reserve.deletes, true, io)
        {
            self.chunks.opening_for_moves_failed();
            return false;
        }
        true
    }

    fn open_segment(&mut self, kept: usize, for_moves: bool, io: &mut Io<'_>) -> bool {
        let segment = (self.segments.free() > kept).then(|| self.segments.reserve());
        let Some(segment) = segment.flatten() else { return false };
        let generation = self.segments.next_generation();
        let header = SegmentHeader { generation, content: SegmentContent::Chunks };
        let header = header.encode(&self.layout, segment);
        let token = io.write(self.layout.offset(segment), vec![header]);
        let opening = Opening { segment, generation, for_moves };
        self.disk.insert(token, DiskPurpose::OpenHeader(opening));
        true
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
            if let JobKind::Write(copy) = job.kind {
                self.answer_write(job.op, copy.data.len() as u64, Err(ChunkError::Full), out);
            }
        }
    }

    /// A segment takes no more chunks, as the journal knows.
    pub(super) fn seal(&mut self, segment: SegmentId) {
        if let Some(SegmentState::Chunks { generation, .. }) = self.segments.state(segment) {
            self.segments.set(segment, SegmentState::Chunks { generation, open: false });
            self.recorded.remove(&segment);
            self.reclaim.sealed(segment);
        }
    }

    /// Whether a read of a segment is in flight.
    pub(super) fn is_read(&self, segment: SegmentId) -> bool {
        self.disk.values().any(|purpose| match purpose {
            DiskPurpose::ChunkRead(reading) => reading.segment == segment,
            _ => false,
        })
    }
}

/// The call number of what the shelf does by itself.
pub(super) const MOVES: u64 = u64::MAX;

/// Behind the keys of all chunks, which have 20 bytes.
pub(super) const CHUNK_KEYS_END: [u8; 21] = [0xff; 21];
