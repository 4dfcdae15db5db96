//! An audit: each copy of each chunk that anything refers to is read from its disk and verified, and
//! the copies of a chunk are compared with each other.
//!
//! ```text
//! Reading ──page of rows──▶ Checking ──all checked──▶ reply
//! ```
//!
//! Bytes that are kept inline are rows of the range, which its replicas compare among themselves by
//! their state hash; nothing of them is compared here.
//!
//! A page is bounded in chunks, because somebody waits for it: it may end within an object, and the next
//! one goes on there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::answers;
use super::calls::backoff;
use super::context::{ChunkFailure, Context, Input};
use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::ids::{CallId, ChunkId, StoreId};
use crate::message::{ChunkAsk, ChunkError, ChunkSummary};
use crate::object::BlobRef;
use crate::range::command::{AuditRow, Read, ReadReply};
use crate::request::{ApiError, AuditError, AuditFinding, AuditPage, Reply};
use crate::time::Instant;

/// Copies that are checked at a time: enough to keep a few disks busy beside their clients.
const CHECKS_MAX: usize = 24;
/// Chunks of one page. At 1 MiB each, a disk that reads 20 MB/s has its copies of them read within half a
/// minute.
const PAGE_CHUNKS_MAX: u64 = 512;
/// No chunk is begun on a page that has so many findings.
const FINDINGS_MAX: usize = 1000;
/// A store that does not answer so many checks in a row is listed as unreachable.
const SILENT_MAX: u32 = 3;

/// An audit of one page.
#[derive(Debug)]
pub(super) enum Audit {
    /// The range is asked what there is.
    Reading(Cursor),
    /// Stores are asked what they have.
    Checking(Box<Checking>),
}

/// A page being checked.
#[derive(Debug)]
pub(super) struct Checking {
    page: AuditPage,
    /// What is done before this page, and then by it.
    done: Cursor,
    /// Not begun yet.
    rows: VecDeque<AuditRow>,
    /// What the page leads to, if all its rows are done.
    end: Option<Bytes>,
    /// The present row, and its chunks that are not begun.
    row: Option<AuditRow>,
    left: Chunks,
    open: BTreeMap<ChunkId, Compared>,
    silent: BTreeMap<StoreId, u32>,
    unreachable: BTreeSet<StoreId>,
}

/// The copies of a chunk.
#[derive(Debug)]
struct Compared {
    length: u64,
    copies: Vec<Copy>,
}

#[derive(Debug)]
struct Copy {
    store: StoreId,
    state: CopyState,
}

#[derive(Clone, Copy, Debug)]
enum CopyState {
    AskAt { at: Instant, pauses: u32 },
    Asked { call: CallId, pauses: u32 },
    Is(Result<ChunkSummary, AuditError>),
    Unknown,
}

impl Audit {
    /// Begin; `None` if the request has been answered.
    pub(super) fn new(cx: &mut Context<'_>, after: Option<&Bytes>, limit: u32) -> Option<Self> {
        match after.map_or_else(|| Ok(Cursor::default()), Cursor::from_bytes) {
            Ok(cursor) => {
                cx.read(0, Read::Audit { after: cursor.row.clone(), limit });
                Some(Self::Reading(cursor))
            }
            Err(error) => {
                let text = format!("`after` is not the `next` of an audit's page: {error}");
                refuse(cx, ApiError::InvalidArgument(text))
            }
        }
    }

    /// Go on; `None` if the request has been answered.
    pub(super) fn on(self, cx: &mut Context<'_>, input: Input) -> Option<Self> {
        match (self, input) {
            (Self::Reading(done), Input::Answer { tag: 0, result }) => {
                match answers::read(result) {
                    Ok(ReadReply::Audit(found)) => {
                        let checking = Checking {
                            page: AuditPage::default(),
                            done,
                            rows: found.rows.into(),
                            end: found.next,
                            row: None,
                            left: Chunks::default(),
                            open: BTreeMap::new(),
                            silent: BTreeMap::new(),
                            unreachable: BTreeSet::new(),
                        };
                        Box::new(checking).advance(cx)
                    }
                    Ok(_) => refuse(cx, answers::unexpected()),
                    Err(error) => refuse(cx, error),
                }
            }
            (Self::Checking(mut checking), input) => {
                if let Input::Checked { chunk, store, call, result } = input {
                    checking.checked(cx, chunk, store, call, result);
                }
                checking.advance(cx)
            }
            (waiting, _) => Some(waiting),
        }
    }

    /// When there is something to do even if nothing happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let Self::Checking(checking) = self else { return None };
        let copies = checking.open.values().flat_map(|compared| &compared.copies);
        copies
            .filter_map(|copy| match copy.state {
                CopyState::AskAt { at, .. } => Some(at),
                _ => None,
            })
            .min()
    }
}

impl Checking {
    fn checked(
        &mut self,
        cx: &mut Context<'_>,
        chunk: ChunkId,
        store: StoreId,
        call: CallId,
        result: Result<ChunkSummary, ChunkFailure>,
    ) {
        let Some(compared) = self.open.get_mut(&chunk) else { return };
        let copy = compared.copies.iter_mut().find_map(|copy| match copy.state {
            CopyState::Asked { call: asked, pauses } if asked == call => Some((copy, pauses)),
            _ => None,
        });
        let Some((copy, pauses)) = copy else { return };
        let again = CopyState::AskAt {
            at: cx.now + backoff(&mut cx.shared.rng, pauses),
            pauses: pauses + 1,
        };
        if result != Err(ChunkFailure::Silent) {
            self.silent.remove(&store);
        }
        copy.state = match result {
            Ok(summary) => CopyState::Is(Ok(summary)),
            Err(ChunkFailure::Refused(ChunkError::Missing)) => {
                CopyState::Is(Err(AuditError::Missing))
            }
            Err(ChunkFailure::Refused(ChunkError::Damaged)) => {
                CopyState::Is(Err(AuditError::Damaged))
            }
            Err(ChunkFailure::Refused(ChunkError::Io)) => {
                CopyState::Is(Err(AuditError::Unreadable))
            }
            Err(ChunkFailure::Refused(ChunkError::Overloaded)) => again,
            Err(ChunkFailure::Refused(_)) => CopyState::Is(Err(AuditError::Refused)),
            Err(ChunkFailure::Silent) => {
                let silent = self.silent.entry(store).or_default();
                *silent += 1;
                if *silent >= SILENT_MAX {
                    self.unreachable.insert(store);
                }
                again
            }
        };
    }

    /// Ask for as much as the window allows, and settle what is known.
    fn advance(mut self: Box<Self>, cx: &mut Context<'_>) -> Option<Audit> {
        loop {
            self.settle();
            if !self.ask(cx) {
                break;
            }
        }
        if !self.open.is_empty() {
            return Some(Audit::Checking(self));
        }
        self.page.next = self.next();
        self.page.unreachable = self.unreachable.into_iter().collect();
        cx.reply(Ok(Reply::Audit(Box::new(self.page))));
        None
    }

    /// Whether anything may have to be settled after it.
    fn ask(&mut self, cx: &mut Context<'_>) -> bool {
        let mut again = false;
        while self.open.len() < CHECKS_MAX && self.begin_chunk(cx) {}
        for (chunk, compared) in &mut self.open {
            for copy in &mut compared.copies {
                let CopyState::AskAt { at, pauses } = copy.state else { continue };
                if self.unreachable.contains(&copy.store) {
                    copy.state = CopyState::Unknown;
                    again = true;
                } else if at <= cx.now {
                    let ask = ChunkAsk { call: CallId(0), chunk: *chunk };
                    let call = cx.check_chunk(copy.store, ask);
                    copy.state = CopyState::Asked { call, pauses };
                }
            }
        }
        again || (self.open.is_empty() && self.row.is_none() && self.begin_row())
    }

    /// Where the next page begins, once nothing of this one is open.
    fn next(&mut self) -> Option<Bytes> {
        if let (Some(row), Some((chunk, _))) = (&self.row, self.left.first()) {
            let done = self.left.begun;
            self.done.within = Some(Within { at: row.at.clone(), done, chunk });
        } else if self.rows.is_empty() {
            let end = self.end.take()?;
            self.done = Cursor { row: Some(end), within: None };
        }
        Some(self.done.to_bytes())
    }

    /// Whether nothing more is begun on this page.
    fn is_full(&self) -> bool {
        self.page.chunks >= PAGE_CHUNKS_MAX || self.page.bad.len() >= FINDINGS_MAX
    }

    /// Begin the next row, unless the page is full.
    fn begin_row(&mut self) -> bool {
        if self.is_full() {
            return false;
        }
        let Some(row) = self.rows.pop_front() else { return false };
        self.left = Chunks::of(&row);
        // It may have been changed since the page that began it: then it is read from its beginning.
        let begun = self.done.within.take().filter(|within| within.at == row.at);
        let goes_on = begun.is_some_and(|within| self.left.go_to(within.done, within.chunk));
        if !goes_on {
            self.left = Chunks::of(&row);
            self.page.objects += 1;
        }
        self.row = Some(row);
        true
    }

    fn begin_chunk(&mut self, cx: &Context<'_>) -> bool {
        if self.is_full() {
            return false;
        }
        let Some((chunk, length)) = self.left.first() else { return false };
        self.left.pass();
        let state = CopyState::AskAt { at: cx.now, pauses: 0 };
        let places = cx.map().places(chunk);
        let copies = places.iter().map(|place| Copy { store: place.store, state }).collect();
        self.page.chunks += 1;
        // Two parts of an object may be the same blob; one check of it is enough.
        self.open.entry(chunk).or_insert(Compared { length, copies });
        true
    }

    /// Take out the chunks of which all is known.
    fn settle(&mut self) {
        let key = self.row.as_ref().map(name).unwrap_or_default();
        let known = |_: &ChunkId, compared: &mut Compared| {
            let is_known =
                |copy: &Copy| matches!(copy.state, CopyState::Is(_) | CopyState::Unknown);
            compared.copies.iter().all(is_known)
        };
        let over: Vec<_> = self.open.extract_if(.., known).collect();
        for (chunk, compared) in over {
            for (store, verdict) in compared.verdicts() {
                match verdict {
                    Ok(()) => self.page.copies_good += 1,
                    Err(error) => {
                        let key = key.clone();
                        self.page.bad.push(AuditFinding { key, chunk, store, error });
                    }
                }
            }
        }
        if self.open.is_empty()
            && self.left.first().is_none()
            && let Some(row) = self.row.take()
        {
            self.done = Cursor { row: Some(row.at), within: None };
        }
    }
}

impl Compared {
    /// What to say of each copy that is known.
    fn verdicts(&self) -> Vec<(StoreId, Result<(), AuditError>)> {
        let known = self.copies.iter().filter_map(|copy| match copy.state {
            CopyState::Is(result) => Some((copy.store, result)),
            _ => None,
        });
        verdicts(self.length, &known.collect::<Vec<_>>())
    }
}

/// What to say of copies of a chunk of `length` bytes, by what each of them is.
pub(crate) fn verdicts(
    length: u64,
    copies: &[(StoreId, Result<ChunkSummary, AuditError>)],
) -> Vec<(StoreId, Result<(), AuditError>)> {
    let digests: Vec<_> = copies.iter().filter_map(|(_, result)| result.ok()).collect();
    let votes = |summary: &ChunkSummary| digests.iter().filter(|it| *it == summary).count();
    let most = digests.iter().map(votes).max().unwrap_or(0);
    let mut found = Vec::new();
    for (store, result) in copies {
        found.push((
            *store,
            match result {
                Ok(summary) if u64::from(summary.length) != length => {
                    let found = u64::from(summary.length);
                    Err(AuditError::Length { found, expected: length })
                }
                // Of two that differ, nobody can say which is right: both are told.
                Ok(summary) if votes(summary) < most || most * 2 <= digests.len() => {
                    match digests.len() {
                        1 => Ok(()),
                        _ => Err(AuditError::Differs),
                    }
                }
                Ok(_) => Ok(()),
                Err(error) => Err(*error),
            },
        ));
    }
    found
}

/// How far an audit has come, as the text between its pages says.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The last row that is done; `None` at the beginning.
    row: Option<Bytes>,
    /// How far the next one is done.
    within: Option<Within>,
}

/// A place in a row.
#[derive(Debug)]
struct Within {
    /// Which row.
    at: Bytes,
    /// Chunks of it that are done.
    done: u64,
    /// The one behind them, by which a row is known again.
    chunk: ChunkId,
}

/// Bytes of a row's place: longer than any key of the range.
const PLACE_BYTES_MAX: usize = 8 << 10;

impl Wire for Cursor {
    fn encode(&self, out: &mut Encoder) {
        self.row.is_some().encode(out);
        if let Some(row) = &self.row {
            out.bytes(row);
        }
        self.within.is_some().encode(out);
        if let Some(Within { at, done, chunk }) = &self.within {
            out.bytes(at);
            out.u64(*done);
            chunk.encode(out);
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let row = match bool::decode(input)? {
            true => Some(input.bytes("row of an audit", PLACE_BYTES_MAX)?),
            false => None,
        };
        let within = match bool::decode(input)? {
            true => Some(Within {
                at: input.bytes("row of an audit", PLACE_BYTES_MAX)?,
                done: input.u64()?,
                chunk: ChunkId::decode(input)?,
            }),
            false => None,
        };
        Ok(Self { row, within })
    }
}

/// The chunks of a row that are not begun, in order. An object may have millions: they are not listed.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    blobs: VecDeque<BlobRef>,
    /// Of the first blob.
    number: u32,
    /// Chunks before this place.
    begun: u64,
}

impl Chunks {
    /// Those of a row.
    pub(crate) fn of(row: &AuditRow) -> Self {
        let has_any = |blob: &&BlobRef| blob.length > 0;
        let blobs = row.blobs.iter().filter(has_any).cloned().collect();
        Self { blobs, number: 0, begun: 0 }
    }

    /// The first chunk, and its length in bytes.
    pub(crate) fn first(&self) -> Option<(ChunkId, u64)> {
        let blob = self.blobs.front()?;
        let size = u64::from(blob.chunk_size.max(1));
        let length = size.min(blob.length - u64::from(self.number) * size);
        Some((ChunkId { blob: blob.blob, number: self.number }, length))
    }

    /// Go over the first chunk.
    pub(crate) fn pass(&mut self) {
        self.skip(1);
    }

    /// Go over so many chunks, or to the end.
    fn skip(&mut self, count: u64) {
        let mut left = count;
        while let Some(blob) = self.blobs.front() {
            let more = u64::from(chunk_count(blob) - self.number);
            if left < more {
                self.number += u32::try_from(left).expect("it is less than a blob's chunks");
                self.begun += left;
                return;
            }
            left -= more;
            self.begun += more;
            self.number = 0;
            self.blobs.pop_front();
        }
    }

    /// Go over so many chunks to this one; `false` if it is not there.
    fn go_to(&mut self, done: u64, chunk: ChunkId) -> bool {
        self.skip(done);
        self.first().is_some_and(|(first, _)| first == chunk)
    }
}

fn chunk_count(blob: &BlobRef) -> u32 {
    let count = blob.length.div_ceil(u64::from(blob.chunk_size.max(1)));
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// As operators know it.
pub(crate) fn name(row: &AuditRow) -> String {
    let key = format!("{}/{}", row.bucket, row.key.as_str());
    match row.part {
        None => key,
        Some(number) => format!("{key} (part {number} of an upload)"),
    }
}

fn refuse(cx: &mut Context<'_>, error: ApiError) -> Option<Audit> {
    cx.reply(Err(error));
    None
}
