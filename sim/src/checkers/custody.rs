//! What a store has acknowledged it keeps: until it frees a chunk, or its disk is hurt, it never says that it does
//! not have it; and no store ever says that a copy is damaged whose disk was never hurt. A copy that is superfluous is
//! freed only while another store of its zone has one. What a gateway has a range commit, stores of two zones have acknowledged.
//!
//! Repair makes good what a store loses, so that mistakes which lose acknowledged copies would hardly ever be seen
//! at the end of a run.

use std::collections::{BTreeMap, BTreeSet};

use trine_core::ids::{BlobId, ChunkId, MapEpoch, ZoneId};
use trine_core::message::{Ask, ChunkError, InventoryAnswer, InventoryResult, Message, RangeCall};
use trine_core::object::{BlobRef, NewBody};
use trine_core::range::command::CommandBody;

use crate::Nanos;

/// Zones that must have acknowledged each chunk of what is committed.
const ZONES_SAFE: usize = 2;

/// What each store, by its place, has acknowledged.
#[derive(Debug, Default)]
pub struct Custody {
    kept: BTreeSet<(usize, ChunkId)>,
    /// Copies that are being freed, or were: that they are there still means nothing.
    freed: BTreeSet<(usize, ChunkId)>,
    /// Blobs of which a store has said that it has freed them.
    told: BTreeSet<(usize, BlobId)>,
    /// Copies of those that it got afterwards, from a network that took its time over them. Its own questions find them.
    late: BTreeSet<(usize, ChunkId)>,
    hurt: BTreeSet<usize>,
    /// Stores whose disk was emptied, with the last map of which they have said since that they have all of it.
    emptied: BTreeMap<usize, Option<MapEpoch>>,
    /// Stores that have started with their present disk.
    started: BTreeSet<usize>,
    /// When a store last began with what stood on its disk: it may have found copies that it never acknowledged.
    recovered: BTreeMap<usize, Nanos>,
    /// When a gateway first sent a chunk of a blob.
    sent: BTreeMap<BlobId, Nanos>,
    /// Copies that were not there when a map was called proven: what was said of them.
    not_proven: BTreeMap<ChunkId, String>,
    /// The zones whose stores have ever acknowledged a chunk.
    acknowledged: BTreeMap<ChunkId, BTreeSet<ZoneId>>,
    /// Blobs that were found to be safe when they were committed first.
    safe: BTreeSet<BlobId>,
}

impl Custody {
    /// A store's disk may not give any more what was written to it.
    pub fn hurt(&mut self, store: usize) {
        self.hurt.insert(store);
    }

    /// Whether something has hurt a store's disk.
    pub fn is_hurt(&self, store: usize) -> bool {
        self.hurt.contains(&store)
    }

    /// A store has an empty disk, and is the same: what it said of its old disk may be believed yet.
    pub fn emptied(&mut self, store: usize) {
        self.replaced(store);
        self.emptied.insert(store, None);
    }

    /// Another store, with another disk, has a store's place.
    pub fn replaced(&mut self, store: usize) {
        self.emptied.remove(&store);
        self.kept.retain(|(of, _)| *of != store);
        self.freed.retain(|(of, _)| *of != store);
        self.told.retain(|(of, _)| *of != store);
        self.late.retain(|(of, _)| *of != store);
        self.hurt.remove(&store);
        self.started.remove(&store);
        self.recovered.remove(&store);
    }

    /// A store has a copy of a chunk, durably.
    pub fn keeps(&mut self, store: usize, zone: Option<ZoneId>, chunk: ChunkId) {
        self.freed.remove(&(store, chunk));
        if self.kept.insert((store, chunk)) && self.told.contains(&(store, chunk.blob)) {
            self.late.insert((store, chunk));
        }
        self.acknowledged.entry(chunk).or_default().extend(zone);
    }

    /// A store says that it has freed blobs.
    pub fn tells_freed(&mut self, store: usize, blobs: &[BlobId]) {
        self.told.extend(blobs.iter().map(|blob| (store, *blob)));
    }

    /// A store shows that it has a copy, or had it at the beginning of this step: a crash may have kept it from being
    /// acknowledged, and the next life found it.
    fn shows(&mut self, store: usize, zone: Option<ZoneId>, chunk: ChunkId) {
        if !self.freed.contains(&(store, chunk)) {
            self.keeps(store, zone, chunk);
        }
    }

    /// A store frees its copy of a chunk that others keep. `zone`: the other stores of its zone.
    ///
    /// # Errors
    /// What is wrong with that.
    pub fn superfluous(
        &mut self,
        store: usize,
        chunk: ChunkId,
        mut zone: impl Iterator<Item = usize>,
    ) -> Result<(), String> {
        let fits =
            zone.any(|other| self.kept.contains(&(other, chunk)) || self.hurt.contains(&other));
        let was_kept = self.kept.remove(&(store, chunk));
        self.freed.insert((store, chunk));
        match fits || !was_kept || self.hurt.contains(&store) {
            true => Ok(()),
            false => Err(format!("frees {chunk} as superfluous, the last copy of its zone")),
        }
    }

    /// A gateway calls a range.
    ///
    /// # Errors
    /// What is wrong with that.
    pub fn calls(&mut self, call: &RangeCall) -> Result<(), String> {
        let Ask::Command(command) = &call.ask else { return Ok(()) };
        let body = match &command.body {
            CommandBody::PutObject { object, .. } | CommandBody::CopyObject { object, .. } => {
                &object.body
            }
            CommandBody::PutPart { part, .. } | CommandBody::CopyPart { part, .. } => &part.body,
            _ => return Ok(()),
        };
        let NewBody::Blob(blob) = body else { return Ok(()) };
        if !self.safe.insert(blob.blob) {
            return Ok(());
        }
        let zones = |chunk| self.acknowledged.get(&chunk).map_or(0, BTreeSet::len);
        match chunks_of(blob).find(|chunk| zones(*chunk) < ZONES_SAFE) {
            None => Ok(()),
            Some(chunk) => Err(format!("commits {chunk}, which {} zones have", zones(chunk))),
        }
    }

    /// A store starts.
    pub fn starts(&mut self, store: usize, now: Nanos) {
        if !self.started.insert(store) {
            self.recovered.insert(store, now);
        }
    }

    /// A gateway sends a chunk.
    pub fn sends(&mut self, chunk: ChunkId, now: Nanos) {
        self.sent.entry(chunk.blob).or_insert(now);
    }

    /// The range forgets that a blob is dead: stores of one zone at most may have something of it. `owner`: the zone
    /// in which a store keeps a chunk, if it does.
    ///
    /// # Errors
    /// What is there yet.
    pub fn forgotten(
        &self,
        blob: BlobId,
        owner: impl Fn(usize, ChunkId) -> Option<ZoneId>,
    ) -> Result<(), String> {
        let stores = self.kept.last().map_or(0, |(store, _)| store + 1);
        let chunk = |number| ChunkId { blob, number };
        let of_blob = (0..stores)
            .filter(|store| !self.hurt.contains(store))
            .flat_map(|store| self.kept.range((store, chunk(0))..=(store, chunk(u32::MAX))));
        let zones: BTreeSet<ZoneId> = of_blob
            .filter(|copy| !self.late.contains(copy))
            .filter_map(|(store, chunk)| owner(*store, *chunk))
            .collect();
        match zones.len() < ZONES_SAFE {
            true => Ok(()),
            false => Err(format!("{blob} is forgotten, and {} zones have it yet", zones.len())),
        }
    }

    /// A map is called proven by which a store keeps a chunk that was committed before it.
    pub fn proven(&mut self, epoch: MapEpoch, store: usize, name: &str, chunk: ChunkId) {
        let sent = self.sent.get(&chunk.blob).copied().unwrap_or(Nanos::MAX);
        let found = self.recovered.get(&store).is_some_and(|at| *at >= sent);
        // The word that counts may be from before its disk was emptied: then it was good.
        let said = self.emptied.get(&store).is_none_or(|word| *word == Some(epoch));
        let may_lack = found || !said || self.hurt.contains(&store);
        if !may_lack && !self.kept.contains(&(store, chunk)) {
            let said = format!("the map was called proven while {name} had no copy of {chunk}");
            self.not_proven.entry(chunk).or_insert(said);
        }
    }

    /// What a proof was wrong about, of the chunks that `stand`: they stood then, too.
    pub fn wrongly_proven(&self, stands: impl Fn(&ChunkId) -> bool) -> Option<&String> {
        let mut wrong = self.not_proven.iter().filter(|(chunk, _)| stands(chunk));
        wrong.next().map(|(_, said)| said)
    }

    /// What a store has acknowledged, and not freed.
    pub fn kept(&self, store: usize) -> impl Iterator<Item = ChunkId> + '_ {
        let of_store = self.kept.iter().filter(move |(of, _)| *of == store);
        of_store.map(|(_, chunk)| *chunk)
    }

    /// A store frees its copy of a chunk.
    pub fn freed(&mut self, store: usize, chunk: ChunkId) {
        self.kept.remove(&(store, chunk));
        self.freed.insert((store, chunk));
    }

    /// A store says something.
    ///
    /// # Errors
    /// What is wrong with that.
    pub fn says(
        &mut self,
        store: usize,
        zone: Option<ZoneId>,
        message: &Message,
    ) -> Result<(), String> {
        let (chunk, error) = match message {
            // That it has it was told as a fact, before. What a step says is heard when all of its facts have been: it
            // may have freed the chunk behind that.
            Message::ChunkWritten(written) if written.result().is_ok() => {
                self.shows(store, zone, written.chunk);
                return Ok(());
            }
            Message::InventoryAnswer(InventoryAnswer {
                result: InventoryResult::Differs { chunks, .. },
                ..
            }) => {
                chunks.iter().for_each(|chunk| self.shows(store, zone, *chunk));
                return Ok(());
            }
            Message::MapProven { epoch } => {
                if let Some(word) = self.emptied.get_mut(&store) {
                    *word = Some(*epoch);
                }
                return Ok(());
            }
            Message::ChunkData(data) => (data.chunk, data.result.as_ref().err()),
            Message::ChunkPulled(pulled) => (pulled.chunk, pulled.result.as_ref().err()),
            Message::ChunkChecked(checked) => (checked.chunk, checked.result.as_ref().err()),
            _ => return Ok(()),
        };
        if self.hurt.contains(&store) {
            return Ok(());
        }
        match error {
            None => {
                self.shows(store, zone, chunk);
                Ok(())
            }
            Some(ChunkError::Damaged | ChunkError::Io) => {
                Err(format!("has a damaged copy of {chunk} on a disk that was never hurt"))
            }
            Some(ChunkError::Missing) if self.kept.contains(&(store, chunk)) => {
                Err(format!("has lost {chunk}, which it had acknowledged"))
            }
            _ => Ok(()),
        }
    }
}

fn chunks_of(blob: &BlobRef) -> impl Iterator<Item = ChunkId> {
    let (id, size) = (blob.blob, u64::from(blob.chunk_size.max(1)));
    let count = u32::try_from(blob.length.div_ceil(size)).unwrap_or(u32::MAX);
    (0..count).map(move |number| ChunkId { blob: id, number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trine_core::ids::{BlobId, BlobSequence, CallId, SessionId, StoreId};
    use trine_core::message::{ChunkData, ChunkWritten};
    use trine_core::storage::Durable;

    const ZONE: Option<ZoneId> = Some(ZoneId(0));
    const CHUNK: ChunkId =
        ChunkId { blob: BlobId { session: SessionId(1), sequence: BlobSequence(1) }, number: 0 };

    fn stored() -> Message {
        let durable = Durable::for_test();
        Message::ChunkWritten(ChunkWritten::stored(CallId(1), CHUNK, StoreId(1), &durable))
    }

    fn refused(error: ChunkError) -> Message {
        let (call, store) = (CallId(2), StoreId(1));
        Message::ChunkData(ChunkData { call, chunk: CHUNK, store, result: Err(error) })
    }

    #[test]
    fn an_acknowledged_copy_is_not_missed_unless_it_was_freed_or_the_disk_hurt() {
        let mut custody = Custody::default();
        let missing = refused(ChunkError::Missing);
        assert_eq!(custody.says(0, ZONE, &missing), Ok(()), "it was never acknowledged");
        assert_eq!(custody.says(0, ZONE, &stored()), Ok(()));
        assert!(custody.says(0, ZONE, &missing).is_err());
        assert_eq!(custody.says(1, ZONE, &missing), Ok(()), "another store");
        custody.freed(0, CHUNK);
        assert_eq!(custody.says(0, ZONE, &missing), Ok(()));
        assert_eq!(custody.says(0, ZONE, &stored()), Ok(()));
        assert_eq!(custody.says(0, ZONE, &missing), Ok(()), "what it said was from before");
        custody.keeps(0, ZONE, CHUNK);
        assert!(custody.says(0, ZONE, &missing).is_err(), "it was written again");
        custody.emptied(0);
        assert_eq!(custody.says(0, ZONE, &missing), Ok(()));
        assert!(custody.says(0, ZONE, &refused(ChunkError::Damaged)).is_err());
        assert_eq!(custody.says(0, ZONE, &refused(ChunkError::Overloaded)), Ok(()));
        custody.hurt(0);
        assert_eq!(custody.says(0, ZONE, &stored()), Ok(()));
        assert_eq!(custody.says(0, ZONE, &missing), Ok(()));
        assert_eq!(custody.says(0, ZONE, &refused(ChunkError::Damaged)), Ok(()));
    }

    #[test]
    fn a_store_whose_disk_was_emptied_has_what_it_has_said_so_of_since() {
        let epoch = MapEpoch(2);
        let wrong = |custody: &Custody| custody.wrongly_proven(|_| true).is_some();
        let proven = |custody: &mut Custody| {
            custody.proven(epoch, 0, "store-1", CHUNK);
            wrong(custody)
        };
        let begin = || {
            let mut custody = Custody::default();
            custody.sends(CHUNK, 1);
            custody
        };
        assert!(proven(&mut begin()), "it never had it");

        let mut custody = begin();
        assert_eq!(custody.says(0, ZONE, &stored()), Ok(()));
        assert!(!proven(&mut custody));
        custody.emptied(0);
        assert!(!proven(&mut custody), "it may have said so before");
        assert_eq!(custody.says(0, ZONE, &Message::MapProven { epoch: MapEpoch(1) }), Ok(()));
        assert!(!proven(&mut custody), "of another map");
        assert_eq!(custody.says(0, ZONE, &Message::MapProven { epoch }), Ok(()));
        assert!(proven(&mut custody));

        let mut custody = begin();
        custody.emptied(0);
        custody.replaced(0);
        assert!(proven(&mut custody), "another store, which has said nothing");
    }

    #[test]
    fn the_last_copy_of_a_zone_is_not_superfluous() {
        let mut custody = Custody::default();
        custody.keeps(0, ZONE, CHUNK);
        custody.keeps(3, ZONE, CHUNK);
        assert_eq!(custody.superfluous(0, CHUNK, [3].into_iter()), Ok(()));
        assert!(custody.superfluous(3, CHUNK, [0].into_iter()).is_err());
        assert_eq!(custody.superfluous(3, CHUNK, [0].into_iter()), Ok(()), "it had none");
    }
}
