//! Full redundancy, and no more: every chunk of every object that stands has a sound copy on its store in
//! every zone that stands; of whatever else was ever written no store has anything any more.
//!
//! An auditor asks the stores themselves, over the wire, for the whole of each copy, and compares it
//! with the bytes that clients wrote. It shares nothing with the repair that it judges but the map:
//! chunk → store ([`ClusterMap::places`]), which has tests of its own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use trine_core::cluster::ClusterMap;
use trine_core::hash::Checksum;
use trine_core::ids::{CallId, ChunkId, SessionId, StoreId};
use trine_core::message::{ChunkData, ChunkError, ChunkRead};
use trine_core::object::Body;

use crate::{MILLISECOND, Nanos};

/// Copies that are asked for at one time.
const WINDOW: usize = 16;
/// A copy that was not sound, or a call without an answer, is asked for again after so long.
const AGAIN: Nanos = 200 * MILLISECOND;

/// A chunk as it was written.
#[derive(Clone, Debug)]
struct Chunk {
    object: String,
    bytes: Bytes,
    block_size: usize,
}

/// A copy that is not known to be sound.
#[derive(Clone, Debug, Default)]
struct Copy {
    asked_at: Option<Nanos>,
    /// What was wrong with it last.
    wrong: Option<String>,
    /// It should be gone.
    unwanted: bool,
}

/// The auditor.
#[derive(Debug, Default)]
pub struct Redundancy {
    chunks: BTreeMap<ChunkId, Chunk>,
    /// Copies that are still to be seen.
    missing: BTreeMap<(ChunkId, StoreId), Copy>,
    calls: BTreeMap<CallId, (ChunkId, StoreId)>,
    asked: u64,
    begun: bool,
    /// Every chunk that a gateway ever sent to a store.
    written: BTreeSet<ChunkId>,
    /// Every chunk that was freed on some store.
    freed: BTreeSet<ChunkId>,
    /// Whether those of no object are looked for.
    leftovers: bool,
}

impl Redundancy {
    /// A gateway sends a chunk to a store.
    pub fn written(&mut self, chunk: ChunkId) {
        self.written.insert(chunk);
    }

    /// A store frees a chunk.
    pub fn freed(&mut self, chunk: ChunkId) {
        self.freed.insert(chunk);
    }

    /// A chunk of an object that stands which was freed somewhere, some time: what is dead never comes back to
    /// life, so that it was alive then.
    pub fn freed_alive(&self) -> Option<String> {
        let chunk = self.freed.iter().find(|chunk| self.chunks.contains_key(chunk))?;
        Some(format!("{chunk} of {} was freed", self.chunks[chunk].object))
    }

    /// Whether a chunk is of an object that stands.
    pub fn stands(&self, chunk: &ChunkId) -> bool {
        self.chunks.contains_key(chunk)
    }

    /// Chunks that were freed.
    pub fn chunks_freed(&self) -> u64 {
        self.freed.len() as u64
    }

    /// Once every copy is there: look for what should be gone, on all stores that stand. Of what stands that
    /// is a copy on a store which does not keep it by `map`, if that is proven.
    pub fn look_for_leftovers(&mut self, map: Option<&ClusterMap>, stores: &[StoreId]) {
        if std::mem::replace(&mut self.leftovers, true) {
            return;
        }
        for chunk in &self.written {
            let lives = self.chunks.contains_key(chunk);
            let places = map.filter(|_| lives).map(|map| map.places(*chunk)).unwrap_or_default();
            let keeps = |store: &&StoreId| match (lives, map) {
                (true, Some(_)) => places.iter().any(|place| place.store == **store),
                (lives, _) => lives,
            };
            for store in stores.iter().filter(|store| !keeps(store)) {
                let copy = Copy { unwanted: true, ..Copy::default() };
                self.missing.insert((*chunk, *store), copy);
            }
        }
    }

    /// Whether nothing was found that should be gone.
    pub fn is_clean(&self) -> bool {
        self.leftovers && self.missing.is_empty()
    }

    /// Chunks that are to be gone.
    pub fn dead(&self) -> usize {
        self.written.iter().filter(|chunk| !self.chunks.contains_key(chunk)).count()
    }

    /// A client has read the whole of `object`: these are its bytes, and there is where they stand.
    ///
    /// # Errors
    /// If its parts do not add up.
    pub fn object(&mut self, object: &str, body: &Body, bytes: &Bytes) -> Result<(), String> {
        let Body::Blobs(parts) = body else { return Ok(()) };
        let mut left = bytes.clone();
        for part in parts {
            let length = usize::try_from(part.length).unwrap_or(usize::MAX);
            if length > left.len() {
                return Err(format!("{object}: its parts are longer than the {}", bytes.len()));
            }
            let mut of_part = left.split_to(length);
            let Some(blob) = &part.blob else { continue };
            let size = usize::try_from(blob.chunk_size).unwrap_or(usize::MAX);
            let block_size = usize::try_from(blob.block_size).unwrap_or(usize::MAX);
            for number in 0.. {
                if of_part.is_empty() {
                    break;
                }
                let bytes = of_part.split_to(size.min(of_part.len()));
                let chunk = ChunkId { blob: blob.blob, number };
                let object = object.to_owned();
                self.chunks.insert(chunk, Chunk { object, bytes, block_size });
            }
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{object}: its parts are too short")) }
    }

    /// Begin to ask, now that all objects are known: of each chunk the copies that `map` gives to
    /// stores that stand.
    pub fn begin(&mut self, map: &ClusterMap, stands: impl Fn(StoreId) -> bool) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        for chunk in self.chunks.keys() {
            for place in map.places(*chunk) {
                if stands(place.store) {
                    self.missing.insert((*chunk, place.store), Copy::default());
                }
            }
        }
    }

    /// Whether every copy was seen to be sound.
    pub fn is_full(&self) -> bool {
        self.begun && self.missing.is_empty()
    }

    /// What to ask now.
    pub fn questions(&mut self, now: Nanos, session: SessionId) -> Vec<(StoreId, ChunkRead)> {
        let old = |copy: &Copy| copy.asked_at.is_none_or(|at| at + AGAIN <= now);
        let missing = &self.missing;
        // What was asked long ago is given up.
        self.calls.retain(|_, copy| missing.get(copy).is_some_and(|copy| !old(copy)));
        // What is gone is answered without bytes.
        let window = if self.leftovers { 16 * WINDOW } else { WINDOW };
        let free = window.saturating_sub(self.calls.len());
        let mut questions = Vec::new();
        let due = self.missing.iter_mut().filter(|(_, copy)| old(copy));
        for ((chunk, store), copy) in due.take(free) {
            self.asked += 1;
            let call = CallId(self.asked);
            copy.asked_at = Some(now);
            self.calls.insert(call, (*chunk, *store));
            let blocks = self.chunks.get(chunk).map_or(1, Chunk::blocks);
            let read = ChunkRead { call, session, chunk: *chunk, first_block: 0, blocks };
            questions.push((*store, read));
        }
        questions
    }

    /// A store answers.
    pub fn answered(&mut self, data: &ChunkData) {
        let Some(asked) = self.calls.remove(&data.call) else { return };
        if asked != (data.chunk, data.store) {
            return;
        }
        let unwanted = self.missing.get(&asked).is_some_and(|copy| copy.unwanted);
        let verdict = match (&data.result, self.chunks.get(&data.chunk)) {
            (Err(ChunkError::Missing), _) if unwanted => Ok(()),
            (Ok(_), _) if unwanted => Err("it is there".to_owned()),
            (Ok((bytes, checksums)), Some(chunk)) => chunk.verify(data.chunk, bytes, checksums),
            (Ok(_), None) => Err("a chunk of no object".to_owned()),
            (Err(error), _) => Err(format!("{error:?}")),
        };
        match verdict {
            Ok(()) => drop(self.missing.remove(&asked)),
            Err(wrong) => {
                self.missing.entry(asked).and_modify(|copy| copy.wrong = Some(wrong));
            }
        }
    }

    /// What is missing, in a few lines.
    pub fn complaint(&self) -> String {
        let lines = self.missing.iter().take(5).map(|((chunk, store), copy)| {
            let wrong = copy.wrong.as_deref().unwrap_or("no answer");
            let of = self.chunks.get(chunk).map_or("no object", |chunk| &chunk.object);
            match copy.unwanted {
                false => format!("\n    {store} has no sound copy of {chunk} of {of}: {wrong}"),
                true => format!("\n    {store} should have nothing of {chunk} of {of}: {wrong}"),
            }
        });
        let lines: Vec<_> = lines.collect();
        let what = if self.leftovers { "may not be gone" } else { "are not there" };
        format!("{} of the copies {what}:{}", self.missing.len(), lines.concat())
    }

    /// How many copies are not known to be sound.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }
}

impl Chunk {
    fn blocks(&self) -> u32 {
        let blocks = self.bytes.len().div_ceil(self.block_size);
        u32::try_from(blocks).expect("a chunk has few blocks")
    }

    fn verify(&self, id: ChunkId, bytes: &[u8], checksums: &[Checksum]) -> Result<(), String> {
        if bytes != self.bytes {
            return Err("other bytes than were written".to_owned());
        }
        let expected = (0..).zip(bytes.chunks(self.block_size));
        let expected = expected.map(|(block, bytes)| Checksum::of_block(id, block, bytes));
        if !expected.eq(checksums.iter().copied()) {
            return Err("checksums that are not those of its blocks".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trine_core::cluster::{Slot, ZoneMap};
    use trine_core::ids::{BlobId, BlobSequence, MapEpoch, ZoneId};
    use trine_core::object::{BlobRef, PartRef, Scheme};

    const BLOB: BlobId = BlobId { session: SessionId(3), sequence: BlobSequence(4) };

    /// An object of 10 bytes in chunks of 4, kept by stores 1, 2 and 3.
    fn auditor() -> (Redundancy, Bytes) {
        let bytes = Bytes::from_static(b"0123456789");
        let blob = BlobRef {
            blob: BLOB,
            length: 10,
            chunk_size: 4,
            block_size: 2,
            scheme: Scheme::ThreeCopies,
            epoch: MapEpoch(1),
            stores: Vec::new(),
        };
        let part = PartRef { number: 1, length: 10, checksum: None, blob: Some(blob) };
        let zones = (0..3).map(|zone| ZoneMap {
            zone: ZoneId(zone),
            slots: vec![Slot { store: StoreId(u64::from(zone) + 1), weight: 1 }],
        });
        let map = ClusterMap::bootstrap(1, zones.collect());
        let mut auditor = Redundancy::default();
        auditor.object("key", &Body::Blobs(vec![part]), &bytes).expect("its parts add up");
        auditor.begin(&map, |_| true);
        (auditor, bytes)
    }

    fn answer(store: StoreId, read: &ChunkRead, bytes: &Bytes) -> ChunkData {
        let first = usize::try_from(read.chunk.number).unwrap() * 4;
        let bytes = bytes.slice(first..bytes.len().min(first + 4));
        let blocks = (0..).zip(bytes.chunks(2));
        let sums = blocks.map(|(block, bytes)| Checksum::of_block(read.chunk, block, bytes));
        let result = Ok((bytes.clone(), sums.collect()));
        ChunkData { call: read.call, chunk: read.chunk, store, result }
    }

    #[test]
    fn all_copies_are_asked_for_and_sound_ones_are_enough() {
        let (mut auditor, bytes) = auditor();
        let questions = auditor.questions(0, SessionId(1));
        assert_eq!(questions.len(), 9);
        assert!(auditor.questions(1, SessionId(1)).is_empty(), "all are under way");
        for (store, read) in &questions {
            assert!(!auditor.is_full());
            auditor.answered(&answer(*store, read, &bytes));
        }
        assert!(auditor.is_full());
    }

    #[test]
    fn missing_wrong_and_silent_copies_are_found_and_asked_for_again() {
        let (mut auditor, bytes) = auditor();
        let wrong = Bytes::from_static(b"0123x56789");
        for (store, read) in auditor.questions(0, SessionId(1)) {
            let mut data = answer(store, &read, &bytes);
            match (store.0, read.chunk.number) {
                (1, 0) => data.result = Err(ChunkError::Missing),
                (2, 1) => data = answer(store, &read, &wrong),
                (3, 2) => continue,
                (1, 1) => data.result = data.result.map(|(bytes, _)| (bytes, Vec::new())),
                _ => {}
            }
            auditor.answered(&data);
        }
        assert_eq!(auditor.missing(), 4);
        let complaint = auditor.complaint();
        for text in ["Missing", "other bytes", "no answer", "checksums that are not"] {
            assert!(complaint.contains(text), "{complaint}");
        }
        let again = auditor.questions(AGAIN, SessionId(1));
        assert_eq!(again.len(), 4, "{again:?}");
        for (store, read) in &again {
            auditor.answered(&answer(*store, read, &bytes));
        }
        assert!(auditor.is_full());
    }

    #[test]
    fn what_is_of_no_object_and_what_other_stores_keep_should_be_gone() {
        let (mut auditor, bytes) = auditor();
        let dead = ChunkId { blob: BlobId { sequence: BlobSequence(9), ..BLOB }, number: 0 };
        let live = ChunkId { blob: BLOB, number: 0 };
        auditor.written(dead);
        auditor.written(live);
        for (store, read) in auditor.questions(0, SessionId(1)) {
            auditor.answered(&answer(store, &read, &bytes));
        }
        assert!(auditor.is_full() && !auditor.is_clean());
        let slot = |store| vec![Slot { store: StoreId(store), weight: 1 }];
        let zone = |zone: u8| ZoneMap { zone: ZoneId(zone), slots: slot(u64::from(zone) + 1) };
        let map = ClusterMap::bootstrap(1, (0..3).map(zone).collect());
        let stores = [1, 2, 3, 4].map(StoreId);
        auditor.look_for_leftovers(Some(&map), &stores);
        let asked = |auditor: &mut Redundancy, now| -> Vec<(ChunkId, StoreId)> {
            let asked = auditor.questions(now, SessionId(1)).into_iter();
            let answers: Vec<(StoreId, ChunkRead)> = asked.collect();
            for (store, read) in &answers {
                let there = now == AGAIN && store.0 % 2 == 0;
                let gone = Err(ChunkError::Missing);
                let result = if there { Ok((Bytes::new(), Vec::new())) } else { gone };
                let (call, chunk, store) = (read.call, read.chunk, *store);
                auditor.answered(&ChunkData { call, chunk, store, result });
            }
            answers.into_iter().map(|(store, read)| (read.chunk, store)).collect()
        };
        let mut first = asked(&mut auditor, AGAIN);
        first.sort_unstable();
        let mut expected: Vec<_> = stores.map(|store| (dead, store)).into();
        expected.push((live, StoreId(4)));
        expected.sort_unstable();
        assert_eq!(first, expected);
        assert_eq!(auditor.missing(), 3);
        assert!(auditor.complaint().contains("should have nothing of"), "{}", auditor.complaint());
        assert_eq!(asked(&mut auditor, 2 * AGAIN).len(), 3);
        assert!(auditor.is_clean());
        assert_eq!(auditor.freed_alive(), None);
        auditor.freed(dead);
        assert_eq!(auditor.freed_alive(), None);
        auditor.freed(live);
        assert!(auditor.freed_alive().is_some());
    }

    #[test]
    fn stores_that_are_gone_are_not_asked() {
        let (auditor, _) = auditor();
        let mut other = Redundancy { chunks: auditor.chunks, ..Redundancy::default() };
        let zones =
            vec![ZoneMap { zone: ZoneId(0), slots: vec![Slot { store: StoreId(1), weight: 1 }] }];
        other.begin(&ClusterMap::bootstrap(1, zones), |store| store != StoreId(1));
        assert!(other.is_full());
    }
}
