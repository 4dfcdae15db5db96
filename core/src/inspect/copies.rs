//! The copies of chunks on a disk, one after the other, each judged by what stands at its place.

use core::fmt;

use bytes::Bytes;

use super::disk::{Disk, Unreadable};
use super::{ChunkFault, HeaderFault, Medium};
use crate::ids::ChunkId;
use crate::message::ChunkSummary;
use crate::object::Target;
use crate::range::RowError;
use crate::request::AuditError;
use crate::rows::Miss;
use crate::storage::segment::edit::ChunkRecord;
use crate::storage::{CopySpan, digest_of};

/// How closely copies are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Read the header of the first chunk of each blob, to know whose it is.
    Headers,
    /// Read every header and every block, and verify them.
    Blocks,
}

/// Where a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which segment.
    pub segment: u32,
    /// Byte offset of its data on the disk.
    pub offset: u64,
    /// Bytes of data.
    pub length: u32,
    /// Bytes of each block but the last.
    pub block_size: u32,
}

/// What a copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// Header and all blocks verify.
    Sound,
    /// It was not read, as was wished.
    Unread,
    /// Something in it does not verify.
    Faulty(ChunkFault),
    /// The disk fails to read it.
    Unreadable(String),
    /// Its row in the index makes no sense.
    Record(String),
}

impl CopyState {
    /// The same, as an audit says it.
    pub fn audit_error(&self) -> Option<AuditError> {
        match self {
            Self::Sound | Self::Unread => None,
            Self::Faulty(_) | Self::Record(_) => Some(AuditError::Damaged),
            Self::Unreadable(_) => Some(AuditError::Unreadable),
        }
    }
}

impl fmt::Display for CopyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sound => f.write_str("sound"),
            Self::Unread => f.write_str("not read"),
            Self::Faulty(ChunkFault { header, blocks }) => {
                match header {
                    None => {}
                    Some(HeaderFault::Damaged) => f.write_str("its header does not verify")?,
                    Some(HeaderFault::Contradicts) => {
                        f.write_str("its header says something else than the index")?;
                    }
                }
                let and = if header.is_some() && !blocks.is_empty() { ", and " } else { "" };
                match blocks.as_slice() {
                    [] => Ok(()),
                    [one] => write!(f, "{and}block {one} does not verify"),
                    blocks => write!(f, "{and}blocks {blocks:?} do not verify"),
                }
            }
            Self::Unreadable(reason) => write!(f, "the disk fails to read it: {reason}"),
            Self::Record(reason) => write!(f, "its row in the index: {reason}"),
        }
    }
}

/// A copy that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Of which chunk.
    pub chunk: ChunkId,
    /// Where it is, if its row says that.
    pub place: Option<Place>,
    /// Whose it is, if its header was read and verifies.
    pub owner: Option<Target>,
    /// What it is.
    pub state: CopyState,
}

/// Some copies, in the order of their chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyPage {
    /// The copies.
    pub copies: Vec<Checked>,
    /// Where to go on; `None` at the end.
    pub next: Option<ChunkId>,
    /// Bytes that were read for it.
    pub bytes_read: u64,
}

/// What the index says of one chunk.
pub(super) type Indexed = Option<Result<ChunkSummary, AuditError>>;

impl<M: Medium> Disk<M> {
    /// Up to `max` copies from `from` on, all of which the index of the store has. `before` is the chunk
    /// before, if there was one.
    ///
    /// # Errors
    /// [`Unreadable`] if the index cannot be read. What is wrong with a copy is no error.
    pub fn copies(
        &mut self,
        from: ChunkId,
        before: Option<ChunkId>,
        max: usize,
        depth: Depth,
    ) -> Result<CopyPage, Unreadable> {
        let records = self.read(|storage| match storage.shelf() {
            Some(shelf) => shelf.chunk_records(from, max).map_err(RowError::Miss),
            None => Err(RowError::Miss(NOWHERE)),
        })?;
        if records.disordered {
            return Err(Unreadable("its rows are out of order".to_owned()));
        }
        let mut page = CopyPage::default();
        let mut before = before;
        for (chunk, record) in records.records {
            let first = before.is_none_or(|before| before.blob != chunk.blob);
            let checked = match record {
                Ok(record) => self.check(chunk, &record, first, depth, &mut page.bytes_read)?,
                Err(error) => {
                    let state = CopyState::Record(error.to_string());
                    Checked { chunk, place: None, owner: None, state }
                }
            };
            page.copies.push(checked);
            before = Some(chunk);
        }
        if !records.done {
            // No page ends before its first record.
            page.next = before.and_then(ChunkId::successor);
        }
        Ok(page)
    }

    fn check(
        &mut self,
        chunk: ChunkId,
        record: &ChunkRecord,
        first: bool,
        depth: Depth,
        bytes_read: &mut u64,
    ) -> Result<Checked, Unreadable> {
        let Some(span) = self.shelf()?.copy_span(record) else {
            let state = CopyState::Record("no chunk can be where it says".to_owned());
            return Ok(Checked { chunk, place: None, owner: None, state });
        };
        let place = Place {
            segment: span.segment.0,
            offset: span.data_offset,
            length: record.length,
            block_size: record.block_size,
        };
        let len = match depth {
            Depth::Blocks => span.len,
            Depth::Headers if first => span.header_len(),
            Depth::Headers => 0,
        };
        let mut checked =
            Checked { chunk, place: Some(place), owner: None, state: CopyState::Unread };
        if len > 0 {
            *bytes_read += len;
            match self.medium.read(span.offset, len) {
                Ok(bytes) => self.judge(record, &span, &bytes, depth, &mut checked)?,
                Err(error) => checked.state = CopyState::Unreadable(error.to_string()),
            }
        }
        Ok(checked)
    }

    fn judge(
        &self,
        record: &ChunkRecord,
        span: &CopySpan,
        bytes: &Bytes,
        depth: Depth,
        checked: &mut Checked,
    ) -> Result<(), Unreadable> {
        let shelf = self.shelf()?;
        let header = || shelf.judge_header(checked.chunk, record, span, bytes);
        let fault = match depth {
            Depth::Headers => match header() {
                Ok(header) => {
                    checked.owner = Some(header.owner);
                    return Ok(());
                }
                Err(fault) => ChunkFault { header: Some(fault), blocks: Vec::new() },
            },
            Depth::Blocks => match shelf.judge_copy(checked.chunk, record, span, bytes) {
                Ok(copy) => {
                    checked.owner = Some(copy.owner);
                    checked.state = CopyState::Sound;
                    return Ok(());
                }
                Err(fault) => fault,
            },
        };
        checked.owner = header().ok().map(|header| header.owner);
        checked.state = CopyState::Faulty(fault);
        Ok(())
    }

    /// What the index says of one chunk; `None` if it does not have it.
    pub(super) fn indexed(&mut self, chunk: ChunkId) -> Result<Indexed, Unreadable> {
        let record = self.read(|storage| match storage.shelf() {
            Some(shelf) => shelf.chunk_record(chunk).map_err(RowError::Miss),
            None => Err(RowError::Miss(NOWHERE)),
        })?;
        Ok(record.map(|record| match record {
            Ok(record) => {
                let digest = digest_of(&record.checksums);
                Ok(ChunkSummary { length: record.length, digest })
            }
            Err(_) => Err(AuditError::Damaged),
        }))
    }
}

/// A miss of a disk that is not open; `Disk::read` looks for that before it fetches anything.
const NOWHERE: Miss = Miss { offset: 0, len: 0 };
