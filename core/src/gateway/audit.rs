//! An audit: each copy of each chunk that anything refers to is read from its disk and verified, and
//! the copies of a chunk are compared with each other.
//!
//! ```text
//! Reading ──page of rows──▶ Checking ──all checked──▶ reply
//! ```
//!
//! Bytes that are kept inline are rows of the range, which its replicas compare among themselves by
//! their state hash; nothing of them is compared here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::answers;
use super::calls::backoff;
use super::context::{ChunkFailure, Context, Input};
use crate::ids::{CallId, ChunkId, StoreId};
use crate::message::{ChunkAsk, ChunkError, ChunkSummary};
use crate::object::BlobRef;
use crate::range::command::{AuditRow, Read, ReadReply};
use crate::request::{ApiError, AuditError, AuditFinding, AuditPage, Reply};
use crate::time::Instant;

/// Copies that are checked at a time: enough to keep a few disks busy beside their clients.
const CHECKS_MAX: usize = 24;
/// Findings of one page. It ends behind the object that reaches them.
const FINDINGS_MAX: usize = 1000;
/// A store that does not answer so many checks in a row is listed as unreachable.
const SILENT_MAX: u32 = 3;

/// An audit of one page.
#[derive(Debug)]
pub(super) enum Audit {
    /// The range is asked what there is.
    Reading,
    /// Stores are asked what they have.
    Checking(Box<Checking>),
}

/// A page being checked.
#[derive(Debug)]
pub(super) struct Checking {
    page: AuditPage,
    /// Not begun yet.
    rows: VecDeque<AuditRow>,
    /// What the page leads to, if all its rows are done.
    end: Option<Bytes>,
    /// The present row, and its chunks that are not begun.
    row: Option<AuditRow>,
    left: VecDeque<(ChunkId, u64)>,
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
    /// Begin.
    pub(super) fn new(cx: &mut Context<'_>, after: Option<Bytes>, limit: u32) -> Self {
        cx.read(0, Read::Audit { after, limit });
        Self::Reading
    }

    /// Go on; `None` if the request has been answered.
    pub(super) fn on(self, cx: &mut Context<'_>, input: Input) -> Option<Self> {
        match (self, input) {
            (Self::Reading, Input::Answer { tag: 0, result }) => match answers::read(result) {
                Ok(ReadReply::Audit(found)) => {
                    let page = AuditPage::default();
                    let checking = Checking {
                        page,
                        rows: found.rows.into(),
                        end: found.next,
                        row: None,
                        left: VecDeque::new(),
                        open: BTreeMap::new(),
                        silent: BTreeMap::new(),
                        unreachable: BTreeSet::new(),
                    };
                    Box::new(checking).advance(cx)
                }
                Ok(_) => refuse(cx, answers::unexpected()),
                Err(error) => refuse(cx, error),
            },
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
        if !self.open.is_empty() || self.row.is_some() {
            return Some(Audit::Checking(self));
        }
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

    /// Begin the next row, unless the page is full.
    fn begin_row(&mut self) -> bool {
        if self.page.bad.len() >= FINDINGS_MAX {
            return false;
        }
        let Some(row) = self.rows.pop_front() else {
            self.page.next = self.end.take();
            return false;
        };
        self.page.objects += 1;
        self.page.next = Some(row.at.clone());
        self.left = row.blobs.iter().flat_map(chunks_of).collect();
        self.row = Some(row);
        true
    }

    fn begin_chunk(&mut self, cx: &Context<'_>) -> bool {
        let Some((chunk, length)) = self.left.pop_front() else { return false };
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
        if self.open.is_empty() && self.left.is_empty() {
            self.row = None;
        }
    }
}

impl Compared {
    /// What to say of each copy that is known.
    fn verdicts(&self) -> Vec<(StoreId, Result<(), AuditError>)> {
        let digests: Vec<_> = self
            .copies
            .iter()
            .filter_map(|copy| match copy.state {
                CopyState::Is(Ok(summary)) => Some(summary),
                _ => None,
            })
            .collect();
        let votes = |summary: &ChunkSummary| digests.iter().filter(|it| *it == summary).count();
        let most = digests.iter().map(votes).max().unwrap_or(0);
        let mut found = Vec::new();
        for copy in &self.copies {
            let CopyState::Is(result) = copy.state else { continue };
            found.push((
                copy.store,
                match result {
                    Ok(summary) if u64::from(summary.length) != self.length => {
                        let (found, expected) = (u64::from(summary.length), self.length);
                        Err(AuditError::Length { found, expected })
                    }
                    // Of two that differ, nobody can say which is right: both are told.
                    Ok(summary) if votes(&summary) < most || most * 2 <= digests.len() => {
                        match digests.len() {
                            1 => Ok(()),
                            _ => Err(AuditError::Differs),
                        }
                    }
                    Ok(_) => Ok(()),
                    Err(error) => Err(error),
                },
            ));
        }
        found
    }
}

/// The chunks of a blob and their lengths in bytes.
fn chunks_of(blob: &BlobRef) -> impl Iterator<Item = (ChunkId, u64)> + use<> {
    let (id, length, size) = (blob.blob, blob.length, u64::from(blob.chunk_size.max(1)));
    let count = u32::try_from(length.div_ceil(size)).unwrap_or(u32::MAX);
    (0..count).map(move |number| {
        let length = size.min(length - u64::from(number) * size);
        (ChunkId { blob: id, number }, length)
    })
}

/// As operators know it.
fn name(row: &AuditRow) -> String {
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
