//! What the tests share: rows in a map that miss at random, and short ways to say commands.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::cluster::{ClusterMap, Node, Slot, ZoneMap};
use crate::ids::*;
use crate::level::{Level, Levels};
use crate::object::*;
use crate::range::command::*;
use crate::range::keys::Key;
use crate::range::{Applied, Progress, Range, RowError};
use crate::rng::Rng;
use crate::rows::{Cursor, Miss, Row, RowWrite, Rows, Step};
use crate::time::WallTime;

/// Rows in a map. One in `miss_one_in` reads misses (0: none).
pub(super) struct MapRows {
    pub(super) map: BTreeMap<Bytes, (Bytes, LogIndex)>,
    /// Keys of rows that were deleted: what cursors have to pass.
    deleted: BTreeSet<Bytes>,
    miss_one_in: u64,
    rng: RefCell<Rng>,
}

impl MapRows {
    pub(super) fn new(seed: u64, miss_one_in: u64) -> Self {
        let (map, deleted) = (BTreeMap::new(), BTreeSet::new());
        Self { map, deleted, miss_one_in, rng: RefCell::new(Rng::new(seed)) }
    }

    pub(super) fn write(&mut self, index: LogIndex, writes: Vec<RowWrite>) {
        for RowWrite { key, value } in writes {
            match value {
                Some(value) => {
                    self.deleted.remove(&key);
                    self.map.insert(key, (value, index));
                }
                None => {
                    self.map.remove(&key);
                    self.deleted.insert(key);
                }
            }
        }
    }

    fn maybe_miss(&self) -> Result<(), Miss> {
        if self.miss_one_in > 0 && self.rng.borrow_mut().chance(1, self.miss_one_in) {
            return Err(Miss { offset: 0, len: 4096 });
        }
        Ok(())
    }
}

impl Rows for MapRows {
    fn get(&self, key: &[u8]) -> Result<Option<Row>, Miss> {
        self.maybe_miss()?;
        Ok(self.map.get_key_value(key).map(|(key, (value, index))| Row {
            key: key.clone(),
            value: value.clone(),
            index: *index,
        }))
    }

    fn seek(&self, from: &[u8], end: &[u8]) -> Result<Option<Row>, Miss> {
        self.maybe_miss()?;
        assert!(from < end, "a seek has somewhere to look");
        let bounds = (Bound::Included(from), Bound::Excluded(end));
        let found = self.map.range::<[u8], _>(bounds).next();
        Ok(found.map(|(key, (value, index))| Row {
            key: key.clone(),
            value: value.clone(),
            index: *index,
        }))
    }

    fn cursor<'a>(&'a self, from: &[u8], end: &[u8]) -> Box<dyn Cursor + 'a> {
        let (at, end) = (Bytes::copy_from_slice(from), Bytes::copy_from_slice(end));
        Box::new(MapCursor { rows: self, at, end, found: false, passed: 0 })
    }
}

/// A place in a map.
struct MapCursor<'a> {
    rows: &'a MapRows,
    at: Bytes,
    end: Bytes,
    found: bool,
    passed: u32,
}

impl Cursor for MapCursor<'_> {
    fn seek(&mut self, key: &[u8], rows_max: u32) -> Result<Step<'_>, Miss> {
        self.rows.maybe_miss()?;
        if key > self.at.as_ref() {
            self.at = Bytes::copy_from_slice(key);
            self.passed += 1;
        }
        if self.at >= self.end {
            return Ok(Step::End);
        }
        let bounds = (Bound::Included(self.at.as_ref()), Bound::Excluded(self.end.as_ref()));
        let live = self.rows.map.range::<[u8], _>(bounds).next().map(|(key, _)| key);
        let deleted = self.rows.deleted.range::<[u8], _>(bounds);
        let mut deleted = deleted.take_while(|key| live.is_none_or(|live| *key < live));
        if let Some(key) = deleted.by_ref().nth(rows_max as usize) {
            self.passed += rows_max;
            (self.at, self.found) = (key.clone(), false);
            return Ok(Step::Spent(&self.at));
        }
        self.found = live.is_some();
        let Some(live) = live else { return Ok(Step::End) };
        self.at = live.clone();
        Ok(Step::Row(&self.at))
    }

    fn value(&self) -> Result<Bytes, Miss> {
        assert!(self.found, "it is at a row");
        self.rows.maybe_miss()?;
        Ok(self.rows.map[&self.at].0.clone())
    }

    fn passed(&self) -> u32 {
        self.passed
    }
}

/// A range with its rows.
pub(super) struct Replica {
    pub(super) range: Range,
    pub(super) rows: MapRows,
}

impl Replica {
    pub(super) fn new(seed: u64, miss_one_in: u64) -> Self {
        let rows = MapRows::new(seed, 0);
        let range = Range::load(RangeId(1), &rows).unwrap();
        Self { range, rows: MapRows { miss_one_in, ..rows } }
    }

    /// Apply the next entry, asking again after each miss.
    pub(super) fn apply(&mut self, batch: &Batch) -> Vec<Outcome> {
        let index = self.range.applied().next();
        loop {
            let before = self.range.state_hash();
            match self.range.apply(&self.rows, index, batch) {
                Ok(Applied { writes, outcomes }) => {
                    self.rows.write(index, writes);
                    self.range.check();
                    return outcomes;
                }
                Err(RowError::Miss(_)) => {
                    assert_eq!(before, self.range.state_hash(), "a miss changes nothing");
                    self.range.check();
                }
                Err(RowError::Damaged(damaged)) => panic!("{damaged}"),
            }
        }
    }

    /// Apply commands of the system, each in an entry of its own.
    pub(super) fn system(&mut self, body: CommandBody) -> Outcome {
        let command = Command { origin: Origin::System, body };
        let clock = self.range.clock();
        self.apply(&Batch { clock, commands: vec![command] }).remove(0)
    }

    /// Apply one command of a session.
    pub(super) fn session(
        &mut self,
        session: u64,
        sequence: u64,
        watermark: u64,
        body: CommandBody,
    ) -> Outcome {
        let origin = origin(session, sequence, watermark);
        let clock = self.range.clock();
        self.apply(&Batch { clock, commands: vec![Command { origin, body }] }).remove(0)
    }

    pub(super) fn read(&self, read: &Read) -> ReadReply {
        self.look(|range, rows| range.read(rows, read, &mut Progress::default()))
    }

    /// Look into the rows, again as often as one is missing.
    pub(super) fn look<T>(&self, look: impl Fn(&Range, &MapRows) -> Result<T, RowError>) -> T {
        loop {
            match look(&self.range, &self.rows) {
                Ok(found) => return found,
                Err(RowError::Miss(_)) => {}
                Err(RowError::Damaged(damaged)) => panic!("{damaged}"),
            }
        }
    }

    /// Write the hot state to the rows, and load it from there.
    pub(super) fn reload(&mut self) {
        let index = self.range.applied();
        let before = self.range.state_hash();
        self.rows.write(index, self.range.materialize());
        self.range = loop {
            match Range::load(RangeId(1), &self.rows) {
                Ok(range) => break range,
                Err(RowError::Miss(_)) => {}
                Err(RowError::Damaged(damaged)) => panic!("{damaged}"),
            }
        };
        assert_eq!(before, self.range.state_hash());
        assert_eq!(index, self.range.applied());
        self.range.check();
    }

    /// The keys of all rows.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.rows.map.keys().map(|key| Key::decode(key).unwrap()).collect()
    }
}

pub(super) fn origin(session: u64, sequence: u64, watermark: u64) -> Origin {
    Origin::Session {
        session: SessionId(session),
        sequence: CommitSequence(sequence),
        watermark: CommitSequence(watermark),
    }
}

pub(super) fn batch(millis: u64, commands: Vec<Command>) -> Batch {
    Batch { clock: WallTime::from_millis(millis), commands }
}

pub(super) fn owner(user: &str) -> Owner {
    Owner { tenant: TenantId(0), user: user.to_owned() }
}

pub(super) fn name(name: &str) -> BucketName {
    BucketName::parse(name).unwrap()
}

pub(super) fn target(bucket: u64, key: &str) -> Target {
    Target { tenant: TenantId(0), bucket: BucketId(bucket), key: ObjectKey::parse(key).unwrap() }
}

pub(super) fn etag(seed: u64) -> ETag {
    let mut md5 = [0; 16];
    md5[..8].copy_from_slice(&seed.to_le_bytes());
    ETag { md5, parts: 0 }
}

pub(super) fn blob(sequence: u64, length: u64) -> BlobRef {
    BlobRef {
        blob: BlobId { session: SessionId(1), sequence: BlobSequence(sequence) },
        length,
        chunk_size: 1 << 20,
        block_size: 64 << 10,
        scheme: Scheme::ThreeCopies,
        epoch: MapEpoch(1),
        stores: vec![StoreId(1), StoreId(3)],
    }
}

/// Three zones with two stores each, from 1 to 6; the odd ones are voters.
pub(super) fn first_map() -> ClusterMap {
    let slot = |store| Slot { store: StoreId(store), weight: 1 };
    let zone = |zone: u8| {
        let first = u64::from(zone) * 2 + 1;
        ZoneMap { zone: ZoneId(zone), slots: vec![slot(first), slot(first + 1)] }
    };
    ClusterMap::bootstrap(64, (0..3).map(zone).collect())
}

pub(super) fn found(map: ClusterMap) -> CommandBody {
    CommandBody::FoundCluster { map: Box::new(map) }
}

pub(super) fn replace(old: u64, new: u64) -> CommandBody {
    CommandBody::ReplaceStore { old: StoreId(old), new: StoreId(new) }
}

pub(super) fn add(zone: u8, store: u64, weight: u32) -> CommandBody {
    CommandBody::AddStore { zone: ZoneId(zone), store: StoreId(store), weight }
}

pub(super) fn set_weight(store: u64, weight: u32) -> CommandBody {
    CommandBody::SetWeight { store: StoreId(store), weight }
}

pub(super) fn node(id: u32, zone: u8, name: &str) -> Node {
    let (peer, s3) = (format!("127.0.0.1:{}", 7100 + id), format!("127.0.0.1:{}", 9000 + id));
    Node { id, zone: ZoneId(zone), name: name.to_owned(), peer, s3, left: false }
}

pub(super) fn set_node(node: Node) -> CommandBody {
    CommandBody::SetNode { node }
}

pub(super) fn prove(epoch: u64) -> CommandBody {
    CommandBody::ProveMap { epoch: MapEpoch(epoch) }
}

pub(super) fn raise(to: u32, spoken: Vec<StoreId>) -> CommandBody {
    CommandBody::RaiseLevel { to: Level(to), spoken: Spoken(spoken) }
}

pub(super) const fn levels(min: u32, max: u32) -> Levels {
    Levels { min: Level(min), max: Level(max) }
}

pub(super) fn create_bucket(name_: &str, user: &str) -> CommandBody {
    CommandBody::CreateBucket { tenant: TenantId(0), name: name(name_), owner: owner(user) }
}

pub(super) fn delete_bucket(name_: &str) -> CommandBody {
    CommandBody::DeleteBucket { tenant: TenantId(0), name: name(name_) }
}

pub(super) fn new_object(tag: u64, body: NewBody) -> NewObject {
    let length = match &body {
        NewBody::Inline(bytes) => bytes.len() as u64,
        NewBody::Blob(blob) => blob.length,
    };
    NewObject {
        length,
        etag: etag(tag),
        checksum: None,
        owner: owner("alice"),
        attributes: Attributes {
            content_type: Some("text/plain".to_owned()),
            user_metadata: vec![("colour".to_owned(), "blue".to_owned())],
            ..Attributes::default()
        },
        tags: vec![("kind".to_owned(), "test".to_owned())],
        body,
    }
}

pub(super) fn put(bucket: u64, key: &str, tag: u64) -> CommandBody {
    put_if(bucket, key, tag, WriteConditions::default())
}

pub(super) fn put_if(bucket: u64, key: &str, tag: u64, conditions: WriteConditions) -> CommandBody {
    let body = NewBody::Inline(Bytes::from(format!("body {tag}")));
    CommandBody::PutObject {
        target: target(bucket, key),
        conditions,
        object: Box::new(new_object(tag, body)),
    }
}

pub(super) fn put_blob(bucket: u64, key: &str, tag: u64, blob: BlobRef) -> CommandBody {
    CommandBody::PutObject {
        target: target(bucket, key),
        conditions: WriteConditions::default(),
        object: Box::new(new_object(tag, NewBody::Blob(blob))),
    }
}

/// The command that says of a copy what this says of a body.
pub(super) fn copied(body: CommandBody) -> CommandBody {
    match body {
        CommandBody::PutObject { target, conditions, object } => {
            CommandBody::CopyObject { target, conditions, object }
        }
        CommandBody::PutPart { target, upload, number, part } => {
            CommandBody::CopyPart { target, upload, number, part }
        }
        other => panic!("{other:?} puts nothing"),
    }
}

/// Other words about a version: new tags.
pub(super) fn change(bucket: u64, key: &str, version: Order, tags: usize) -> CommandBody {
    CommandBody::ChangeObject {
        target: target(bucket, key),
        version,
        conditions: WriteConditions::default(),
        owner: owner("bob"),
        attributes: Attributes {
            content_type: Some("text/html".to_owned()),
            ..Attributes::default()
        },
        tags: (0..tags).map(|tag| (tag.to_string(), String::new())).collect(),
    }
}

pub(super) fn delete(bucket: u64, key: &str) -> CommandBody {
    CommandBody::DeleteObject {
        target: target(bucket, key),
        conditions: WriteConditions::default(),
    }
}

pub(super) fn create_upload(bucket: u64, key: &str) -> CommandBody {
    CommandBody::CreateUpload {
        target: target(bucket, key),
        owner: owner("alice"),
        attributes: Attributes::default(),
        tags: Vec::new(),
        checksum: None,
    }
}

pub(super) fn put_part(
    bucket: u64,
    key: &str,
    upload: Order,
    number: u16,
    tag: u64,
    blob: Option<BlobRef>,
) -> CommandBody {
    let part = NewPart {
        length: blob.as_ref().map_or(0, |blob| blob.length),
        etag: etag(tag),
        checksum: None,
        body: blob.map_or(NewBody::Inline(Bytes::new()), NewBody::Blob),
    };
    CommandBody::PutPart { target: target(bucket, key), upload, number, part: Box::new(part) }
}

pub(super) fn complete(
    bucket: u64,
    key: &str,
    upload: Order,
    parts: Vec<(u16, ETag)>,
) -> CommandBody {
    CommandBody::CompleteUpload {
        target: target(bucket, key),
        upload,
        parts,
        conditions: WriteConditions::default(),
    }
}

pub(super) fn scan(bucket: u64, prefix: &str, delimiter: Option<&str>) -> ScanRequest {
    ScanRequest {
        tenant: TenantId(0),
        bucket: BucketId(bucket),
        prefix: prefix.to_owned(),
        delimiter: delimiter.map(ToOwned::to_owned),
        start: ScanStart::First,
        limit: 1000,
    }
}
