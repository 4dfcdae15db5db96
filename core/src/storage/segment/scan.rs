//! Finding the chunks of a segment from the segment itself.
//!
//! Reads the segment from front to back in bounded windows. Where a header does not verify, the
//! scan goes on at the next sector, until one does. A record whose header verifies and whose data
//! does not is passed over: it was torn, or it has rotted, and is reported as damaged.

use bytes::Bytes;

use crate::codec::DecodeError;
use crate::disk::{DiskOutput, DiskResult, SECTOR};
use crate::ids::ChunkId;

use super::chunk::{ChunkHeader, RECORD_BYTES_MAX, blocks_verify};
use super::edit::ChunkRecord;
use super::layout::{Generation, Layout, SegmentId};

/// The scan of one segment.
#[derive(Debug)]
pub(crate) struct SegmentScan {
    layout: Layout,
    segment: SegmentId,
    generation: Generation,
    /// Everything before this byte has been looked at.
    at: u64,
    /// Bytes of the next read.
    window: u64,
    /// Whether the next read is of one record, which a narrowed window did not hold.
    exact: bool,
    /// Where the last record with a good header ends.
    end: u64,
    found: Vec<(ChunkId, ChunkRecord)>,
    damaged: u64,
}

/// What a scan has found.
#[derive(Debug)]
pub(crate) struct ScanResult {
    /// The segment.
    pub(crate) segment: SegmentId,
    /// Which life of it.
    pub(crate) generation: Generation,
    /// Its chunks, in order of place.
    pub(crate) found: Vec<(ChunkId, ChunkRecord)>,
    /// Where new chunks may go: behind the last record whose header verifies.
    pub(crate) end: u64,
    /// Records with a good header whose data does not verify or cannot be read.
    pub(crate) damaged: u64,
}

impl SegmentScan {
    /// A scan that has read nothing.
    pub(crate) fn new(layout: Layout, segment: SegmentId, generation: Generation) -> Self {
        Self::from(layout, segment, generation, SECTOR)
    }

    /// A scan of what is behind byte `at`, a multiple of the sector.
    pub(crate) fn from(
        layout: Layout,
        segment: SegmentId,
        generation: Generation,
        at: u64,
    ) -> Self {
        let window = RECORD_BYTES_MAX.min(layout.segment - SECTOR);
        Self {
            layout,
            segment,
            generation,
            at,
            window,
            exact: false,
            end: at,
            found: Vec::new(),
            damaged: 0,
        }
    }

    /// The span of the disk to read next; `None` at the end of the segment.
    pub(crate) fn next_read(&self) -> Option<(u64, u64)> {
        let left = self.layout.segment - self.at;
        (left > 0).then(|| (self.layout.offset(self.segment) + self.at, self.window.min(left)))
    }

    /// Take what was read at [`SegmentScan::next_read`].
    pub(crate) fn on_read(&mut self, result: &DiskResult) {
        match result {
            Ok(DiskOutput::Read(bytes))
                if self.next_read().is_some_and(|(_, len)| bytes.len() as u64 == len) =>
            {
                self.look_through(bytes);
            }
            Ok(_) | Err(_) => self.pass_unreadable(),
        }
    }

    /// What was found.
    pub(crate) fn finish(self) -> ScanResult {
        let Self { segment, generation, found, end, damaged, .. } = self;
        ScanResult { segment, generation, found, end, damaged }
    }

    /// A read failed: come closer, down to one sector, and pass over that.
    fn pass_unreadable(&mut self) {
        if self.exact {
            // A record with an unreadable sector. Nothing new may be written over it.
            self.end = self.end.max(self.at + self.window);
            self.at += SECTOR;
            self.damaged += 1;
            self.widen();
        } else if self.window > SECTOR {
            self.window = (self.window / 2).next_multiple_of(SECTOR).max(SECTOR);
        } else {
            // It may be the header of a record that others know of. Nothing new may be written over it, either.
            self.at += SECTOR;
            self.end = self.end.max(self.at);
            self.damaged += 1;
            self.widen();
        }
    }

    fn look_through(&mut self, bytes: &Bytes) {
        let start = self.at;
        let stop = start + bytes.len() as u64;
        while self.at < stop {
            let inside = usize::try_from(self.at - start).expect("a window fits into memory");
            let rest = bytes.slice(inside..);
            let header =
                ChunkHeader::decode(&rest, &self.layout, self.segment, self.generation, self.at);
            let needed = match &header {
                Ok(header) => header.record_bytes(),
                Err(DecodeError::Short { needed, .. }) => *needed as u64,
                Err(_) => {
                    self.at += SECTOR;
                    continue;
                }
            };
            if self.at + needed > self.layout.segment {
                // Not one of ours, whatever its checksum says.
                self.at += SECTOR;
                continue;
            }
            if self.at + needed > stop {
                if self.at > start {
                    // The record goes on behind this window: read on from its beginning.
                    self.widen();
                    return;
                }
                // It does not fit a window that was narrowed by a failed read: ask for just it.
                self.window = needed;
                self.exact = true;
                return;
            }
            if let Ok(header) = header {
                self.take(&header, &rest);
            }
        }
        self.widen();
    }

    fn widen(&mut self) {
        self.window = RECORD_BYTES_MAX.min(self.layout.segment - SECTOR);
        self.exact = false;
    }

    fn take(&mut self, header: &ChunkHeader, record: &Bytes) {
        let data_at = self.at + header.header_bytes();
        let from = usize::try_from(header.header_bytes()).expect("a header is small");
        let data = &record[from..from + header.length as usize];
        if blocks_verify(header.chunk, header.block_size, &header.checksums, data) {
            let record = ChunkRecord {
                segment: self.segment,
                offset: u32::try_from(data_at).expect("a segment is under 4 GiB"),
                length: header.length,
                block_size: header.block_size,
                checksums: header.checksums.clone(),
            };
            self.found.push((header.chunk, record));
        } else {
            self.damaged += 1;
        }
        self.at += header.record_bytes();
        self.end = self.at;
    }
}
