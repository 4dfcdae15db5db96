//! The root range's rows, read offline: what is referenced, and whether all copies of it are there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Medium;
use super::disk::{Disk, Unreadable};
use crate::cluster::ClusterMap;
use crate::gateway::audit::{Chunks, name, verdicts};
use crate::ids::{BlobId, ChunkId, StoreId};
use crate::message::ChunkSummary;
use crate::object::Target;
use crate::range::command::{Read, ReadReply};
use crate::range::keys::Key;
use crate::range::{AUDIT_ROWS_MAX, Progress, Range};
use crate::request::{AuditError, AuditFinding};
use crate::rows::Rows;

/// What the rows say of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlobUse {
    /// Something refers to it.
    Referenced,
    /// It is dead, and is to be freed.
    Garbage,
    /// No row names it: a put under way when the store was stopped, or one that was abandoned.
    NoRow,
}

/// What a store has of a chunk.
type StoreCopy = (StoreId, Result<ChunkSummary, AuditError>);

/// The copies of each store that are there and not sound.
pub type Faults<'a> = BTreeMap<StoreId, &'a BTreeMap<ChunkId, AuditError>>;

/// What an audit over several disks has found. Counted as an audit of a running cluster counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Objects, and parts of uploads under way.
    pub objects: u64,
    /// Their chunks.
    pub chunks: u64,
    /// Copies that are where the map says, and right.
    pub copies_good: u64,
    /// Copies that are not.
    pub bad: Vec<AuditFinding>,
    /// Stores that the map names for copies, and whose disks are not among those given.
    pub not_given: BTreeSet<StoreId>,
}

/// The root range as one disk has it.
#[derive(Debug)]
pub struct Root<M> {
    disk: Disk<M>,
    range: Range,
}

impl<M: Medium> Root<M> {
    /// `range` is what [`Disk::replica`] gave for the root range.
    pub fn new(disk: Disk<M>, range: Range) -> Self {
        Self { disk, range }
    }

    /// Whose replica it is.
    pub fn store(&self) -> StoreId {
        self.disk.identity().1
    }

    /// The cluster map, if the cluster has begun.
    pub fn map(&self) -> Option<&ClusterMap> {
        self.range.map()
    }

    /// What the rows under its owner's key say of a blob.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn use_of(&mut self, owner: &Target, blob: BlobId) -> Result<BlobUse, Unreadable> {
        let target = owner.clone();
        let referenced = Key::Blob { target: target.clone(), blob }.encode();
        let garbage = Key::Garbage { target, blob }.encode();
        let id = self.range.id();
        self.disk.read(|storage| {
            let rows = storage.rows(id);
            Ok(match (rows.get(&referenced)?, rows.get(&garbage)?) {
                (Some(_), _) => BlobUse::Referenced,
                (None, Some(_)) => BlobUse::Garbage,
                (None, None) => BlobUse::NoRow,
            })
        })
    }

    /// Hold every chunk that is referenced against the copies on `disks`. `told` hears how far it is.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn audit(
        &mut self,
        disks: &mut BTreeMap<StoreId, &mut Disk<M>>,
        faults: &Faults<'_>,
        mut told: impl FnMut(&AuditReport),
    ) -> Result<AuditReport, Unreadable> {
        let mut report = AuditReport::default();
        let mut after: Option<Bytes> = None;
        let id = self.range.id();
        let limit = u32::try_from(AUDIT_ROWS_MAX).unwrap_or(u32::MAX);
        loop {
            let ask = Read::Audit { after: after.clone(), limit };
            let range = &self.range;
            let reply = self
                .disk
                .read(|storage| range.read(&storage.rows(id), &ask, &mut Progress::default()))?;
            let ReadReply::Audit(page) = reply else {
                return Err(Unreadable("the range answered something else".to_owned()));
            };
            for row in &page.rows {
                report.objects += 1;
                let mut chunks = Chunks::of(row);
                while let Some((chunk, length)) = chunks.first() {
                    chunks.pass();
                    report.chunks += 1;
                    let copies = self.copies_of(chunk, disks, faults, &mut report.not_given)?;
                    for (store, verdict) in verdicts(length, &copies) {
                        match verdict {
                            Ok(()) => report.copies_good += 1,
                            Err(error) => {
                                let key = name(row);
                                report.bad.push(AuditFinding { key, chunk, store, error });
                            }
                        }
                    }
                }
            }
            told(&report);
            match page.next {
                None => return Ok(report),
                next if next <= after => {
                    return Err(Unreadable(format!("{id}: its rows are out of order")));
                }
                next => after = next,
            }
        }
    }

    fn copies_of(
        &self,
        chunk: ChunkId,
        disks: &mut BTreeMap<StoreId, &mut Disk<M>>,
        faults: &Faults<'_>,
        not_given: &mut BTreeSet<StoreId>,
    ) -> Result<Vec<StoreCopy>, Unreadable> {
        let mut copies = Vec::new();
        let Some(map) = self.range.map() else { return Ok(copies) };
        for place in map.places(chunk) {
            let fault = faults.get(&place.store).and_then(|faults| faults.get(&chunk));
            let copy = match (fault, disks.get_mut(&place.store)) {
                (_, None) => {
                    not_given.insert(place.store);
                    continue;
                }
                (Some(fault), _) => Err(*fault),
                (None, Some(disk)) => disk.indexed(chunk)?.unwrap_or(Err(AuditError::Missing)),
            };
            copies.push((place.store, copy));
        }
        Ok(copies)
    }
}
