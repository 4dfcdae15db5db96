//! Blocks and values on their way from the disk into the cache, and what becomes of those that do not
//! verify.

use crate::codec::DecodeError;
use crate::disk::{DiskOutput, DiskResult};
use crate::rows::Miss;

use bytes::Bytes;

use super::super::io::Io;
use super::super::segment::allocator::SegmentState;
use super::super::segment::edit::{RunDescriptor, TableId};
use super::super::segment::layout::{Generation, Layout, SegmentId, sector_span};
use super::super::tree::block::Block;
use super::super::tree::cache::Cached;
use super::super::tree::run::{block_at, block_span};
use super::super::tree::value::{self, PIECE_HEADER_BYTES, Piece};
use super::chunks::Job;
use super::{DiskPurpose, Output, Shelf};

/// Blocks that are read ahead of a reader that goes through rows in order: a page of a listing needs
/// some ten of them.
const AHEAD_BLOCKS: u64 = 8;

/// Who waits for a span.
#[derive(Debug, Default)]
pub(super) struct Fetch {
    /// Calls of [`Shelf::fetch`].
    pub(super) readers: u32,
    /// Chunk calls.
    pub(super) jobs: Vec<Job>,
    /// The run that stood there was dropped while the read was under way; the segment may be in use
    /// again by now, and what the read brings belongs to no one.
    pub(super) stale: bool,
    /// Whether one of them must have it pinned.
    pub(super) must: bool,
}

impl Shelf {
    /// Have what a read missed brought into memory. [`Output::Fetched`] follows, also at once.
    /// `must` keeps it for a reader that needs all it asked for at once; see [`BlockCache::pin`].
    pub(crate) fn fetch(&mut self, miss: Miss, must: bool, io: &mut Io<'_>, out: &mut Vec<Output>) {
        if self.cache.contains(miss) {
            self.cache.pin(miss, must);
            out.push(Output::Fetched(miss));
            return;
        }
        let fetch = self.begin_fetch(miss, io);
        fetch.readers += 1;
        fetch.must |= must;
    }

    /// Bring the data blocks behind a data block into memory, if there is room: nobody waits for them.
    pub(crate) fn read_ahead(&mut self, miss: Miss, io: &mut Io<'_>) {
        if buggify!(NoReadAhead) {
            return;
        }
        let Some((_, Owner::Run(run))) = self.owner(miss) else { return };
        let Some(number) = block_at(run, &self.layout, miss) else { return };
        let room = self.config.block_cache_bytes / 4 / self.layout.tree_block;
        let count = u32::try_from(room.min(AHEAD_BLOCKS)).unwrap_or(0);
        let ahead = (number + 1..run.data_blocks).take(count as usize);
        let ahead: Vec<_> = ahead.map(|number| block_span(run, &self.layout, number)).collect();
        for miss in ahead {
            if !self.cache.contains(miss) {
                self.begin_fetch(miss, io);
            }
        }
    }

    pub(super) fn begin_fetch(&mut self, miss: Miss, io: &mut Io<'_>) -> &mut Fetch {
        self.fetches.entry(miss).or_insert_with(|| {
            let (offset, len) = sector_span(miss.offset, miss.len);
            let token = io.read(offset, len);
            self.disk.insert(token, DiskPurpose::Fetch(miss));
            Fetch::default()
        })
    }

    pub(super) fn fetched(
        &mut self,
        miss: Miss,
        result: &DiskResult,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let Some(fetch) = self.fetches.remove(&miss) else { return };
        if fetch.stale {
            probe!(FetchStale);
        }
        // If the run was dropped meanwhile, readers ask again and find what is there now.
        if !fetch.stale
            && let Some((table, owner)) = self.owner(miss)
        {
            let content = match result {
                Ok(DiskOutput::Read(bytes)) => {
                    parse(bytes, miss, owner, &self.layout).map_err(|error| error.to_string())
                }
                Ok(other) => Err(format!("the disk answered {other:?} to a read")),
                Err(error) => Err(error.to_string()),
            };
            match content {
                Ok(content) => {
                    self.cache.insert(miss, content, fetch.must);
                    let readers = u64::from(fetch.readers) + fetch.jobs.len() as u64;
                    for _ in 1..readers {
                        self.cache.pin(miss, fetch.must);
                    }
                    if readers == 0 {
                        self.cache.release(miss);
                    }
                }
                Err(error) => {
                    let reason = format!(
                        "{}: {} bytes at {} of the disk, rows of {table:?}: {error}",
                        self.config.store, miss.len, miss.offset
                    );
                    let (segment, _) = self.layout.locate(miss.offset).unwrap_or((SegmentId(0), 0));
                    if self.segments.state(segment) == Some(SegmentState::Reserved) {
                        // What was just written of a snapshot; the table itself is not touched.
                        out.push(Output::IngestFailed { table, reason });
                        return self.abort_ingest(io);
                    }
                    let viewed = self.only_viewed(table, miss);
                    if viewed.is_empty() {
                        self.damaged(table, reason, out);
                        if table != TableId::Chunks {
                            return;
                        }
                    } else {
                        // The table does not need it any more. Who asks again hears that the view is gone.
                        out.push(Output::Note(reason));
                        viewed.into_iter().for_each(|run| self.views.lost(run));
                    }
                }
            }
        }
        if fetch.readers > 0 {
            out.push(Output::Fetched(miss));
        }
        for mut job in fetch.jobs {
            job.pins.push(miss);
            self.run_job(job, io, out);
        }
    }

    /// Ranges are the caller's to rebuild; the chunk index is rebuilt from the segments.
    pub(super) fn damaged(&mut self, table: TableId, reason: String, out: &mut Vec<Output>) {
        if table == TableId::Chunks {
            out.push(Output::Note(format!("{reason}; rebuilding the chunk index")));
            self.drop_table(TableId::Chunks, out);
            self.begin_rebuild();
        } else {
            out.push(Output::Damaged { table, reason });
        }
    }

    /// Whose rows stand at a span.
    fn owner(&self, miss: Miss) -> Option<(TableId, Owner<'_>)> {
        let (segment, _) = self.layout.locate(miss.offset)?;
        match self.segments.state(segment)? {
            SegmentState::Run(run) => {
                let table = self.holdings.table_of(run)?;
                let run = self.run_of(table, run)?;
                Some((table, Owner::Run(&run.descriptor)))
            }
            SegmentState::Values(generation) => {
                let table = self.holdings.table_of_values(segment)?;
                Some((table, Owner::Values(generation)))
            }
            SegmentState::Reserved => {
                let staged = self.ingest.iter().flat_map(|ingest| &ingest.staged);
                let owner = |run: &'_ RunDescriptor| match run.segments.contains(&segment) {
                    true => Some(None),
                    false => run.value_generation(segment).map(Some),
                };
                let mut owners =
                    staged.filter_map(|run| Some((&run.descriptor, owner(&run.descriptor)?)));
                let (run, values) = owners.next()?;
                Some((run.table, values.map_or(Owner::Run(run), Owner::Values)))
            }
            SegmentState::Free | SegmentState::Chunks { .. } => None,
        }
    }
}

/// To what a span belongs.
#[derive(Clone, Copy)]
enum Owner<'a> {
    /// A block of this run.
    Run(&'a RunDescriptor),
    /// A piece of a value, in this life of its segment.
    Values(Generation),
}

/// What stands at a span, verified. `bytes` are the whole sectors around it.
fn parse(
    bytes: &Bytes,
    miss: Miss,
    owner: Owner<'_>,
    layout: &Layout,
) -> Result<Cached, DecodeError> {
    let (start, len) = sector_span(miss.offset, miss.len);
    if bytes.len() as u64 != len {
        return Err(DecodeError::Invalid { what: "length of what the disk gave" });
    }
    let from = usize::try_from(miss.offset - start).expect("within a sector");
    let to = from + usize::try_from(miss.len).expect("a span fits into memory");
    let span = bytes.slice(from..to);
    let invalid = DecodeError::Invalid { what: "span of a row" };
    let generation = match owner {
        Owner::Run(run) => {
            let number = block_at(run, layout, miss).ok_or(invalid)?;
            return Block::parse(&span, layout, run, number).map(Cached::Block);
        }
        Owner::Values(generation) => generation,
    };
    let (segment, offset) = layout.locate(miss.offset).ok_or(invalid.clone())?;
    let len = miss.len.checked_sub(PIECE_HEADER_BYTES).ok_or(invalid.clone())?;
    let piece = Piece {
        segment,
        offset: u32::try_from(offset).map_err(|_| invalid.clone())?,
        len: u32::try_from(len).map_err(|_| invalid.clone())?,
    };
    // A piece is cut out of its sectors, which would else stay in memory whole, uncounted.
    let span = if span.len() < bytes.len() { Bytes::copy_from_slice(&span) } else { span };
    value::parse(layout, generation, piece, &span).map(Cached::Piece)
}
