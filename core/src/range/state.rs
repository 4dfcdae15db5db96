//! The range itself: applies batches, answers reads, and keeps the hot state.

use core::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::blobs::{self, BlobState, DeadBlobs};
use super::command::{Batch, Command, CommandBody, Origin, Outcome, Read, ReadReply, Rejection};
use super::keys::{self, Key};
use super::overlay::{Overlay, decode_at};
use super::records::{Header, SessionRecord};
use super::scan::Progress;
use super::sessions::{Admission, SessionTable};
use super::{audit, buckets, cluster, objects, scan, uploads};
use crate::cluster::{ClusterMap, Slot};
use crate::codec::{DecodeError, Wire};
use crate::directory::{Directory, SessionsView, Standing};
use crate::hash::{StateHash, ValueHash};
use crate::ids::{
    BucketId, CommitSequence, GatewayId, LogIndex, MapEpoch, Order, RangeEpoch, RangeId, SessionId,
};
use crate::level::{self, Level};
use crate::object::OwnedBlob;
use crate::rows::{Miss, RowWrite, Rows};
use crate::time::WallTime;

/// A row that does not say what it must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The row's key.
    pub key: Bytes,
    /// What is wrong with it.
    pub error: DecodeError,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {:?}: {}", self.key, self.error)
    }
}

/// Why rows could not be used. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowError {
    /// A block is not in memory: fetch it and ask again with the same arguments.
    Miss(Miss),
    /// The rows verify, and yet make no sense. The replica must be rebuilt from its peers.
    Damaged(Damaged),
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Miss(miss) => {
                write!(f, "{} bytes at {} are not in memory", miss.len, miss.offset)
            }
            Self::Damaged(damaged) => damaged.fmt(f),
        }
    }
}

impl core::error::Error for RowError {}

impl From<Miss> for RowError {
    fn from(miss: Miss) -> Self {
        Self::Miss(miss)
    }
}

/// What an entry changed, and what came of its commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// To be written to the tree under the entry's index.
    pub writes: Vec<RowWrite>,
    /// One for each command, in order.
    pub outcomes: Vec<Outcome>,
}

/// A range in a few numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeStatus {
    /// Which range.
    pub id: RangeId,
    /// The last entry that is applied.
    pub applied: LogIndex,
    /// The range clock.
    pub clock: WallTime,
    /// Of all logical rows.
    pub hash: StateHash,
    /// How often the bounds have changed.
    pub epoch: RangeEpoch,
    /// Blobs placed under an older map are refused.
    pub epoch_floor: MapEpoch,
    /// Of the cluster map; 0 while there is none.
    pub map_epoch: MapEpoch,
    /// Live sessions.
    pub sessions: usize,
    /// Outcomes that are kept.
    pub outcomes: usize,
}

/// A range's hot state. Its tables are rows that the caller keeps and passes in.
#[derive(Debug)]
pub struct Range {
    id: RangeId,
    pub(super) header: Header,
    sessions: SessionTable,
    /// What the map row says, kept here so that it can be asked for without reading rows.
    map: Option<Arc<ClusterMap>>,
}

/// What the commands of one batch work on.
pub(super) struct Txn<'a> {
    pub(super) rows: Overlay<'a>,
    pub(super) header: Header,
    pub(super) map: Option<Arc<ClusterMap>>,
}

/// Why a command ends before it has changed anything.
#[derive(Debug)]
pub(super) enum Stop {
    Row(RowError),
    Reject(Rejection),
}

impl From<RowError> for Stop {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Reject(rejection)
    }
}

impl Range {
    /// The range as its rows describe it; without any, a fresh one.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn load(id: RangeId, rows: &impl Rows) -> Result<Self, RowError> {
        let overlay = Overlay::new(rows, StateHash::default());
        let header = overlay.get::<Header>(&Key::Header)?.unwrap_or(FRESH);
        let damaged = |what| {
            let key = Key::Header.encode();
            RowError::Damaged(Damaged { key, error: DecodeError::Invalid { what } })
        };
        if header.reserved != RESERVED {
            return Err(damaged("a reserved field of the header"));
        }
        let mut records = Vec::new();
        let mut span = keys::sessions();
        while let Some((key, value)) = overlay.first(&span)? {
            let Key::Session { slot } = key else {
                return Err(damaged("a session row has another row's key"));
            };
            let record: SessionRecord = decode_at(&key, &value)?;
            if slot >= header.slots_used || record.id >= header.session_next {
                return Err(damaged("a session that was never opened"));
            }
            records.push((slot, record));
            span.start = Key::Session { slot: slot + 1 }.encode();
        }
        let sessions = SessionTable::load(records).map_err(damaged)?;
        if sessions.hash() != header.session_hash {
            return Err(damaged("the sessions do not match their hash"));
        }
        let map = overlay.get::<ClusterMap>(&Key::Map)?.map(Arc::new);
        if map.is_none() && header.directory > LogIndex(0) {
            return Err(damaged("a directory without a cluster map"));
        }
        if map.is_some() && header.directory == LogIndex(0) {
            return Err(damaged("a cluster map that no entry has brought"));
        }
        if header.directory > header.applied {
            return Err(damaged("a directory that is newer than the state"));
        }
        if map.as_ref().is_some_and(|map| map.epoch < header.epoch_floor) {
            return Err(damaged("a cluster map below the floor of epochs"));
        }
        Ok(Self { id, header, sessions, map })
    }

    /// Apply the entry at `index`, which follows the last one. Its writes must be in `rows` before
    /// the next entry is applied.
    ///
    /// # Errors
    /// [`RowError`]: nothing has changed.
    ///
    /// # Panics
    /// If `index` does not follow the last entry.
    pub fn apply(
        &mut self,
        rows: &impl Rows,
        index: LogIndex,
        batch: &Batch,
    ) -> Result<Applied, RowError> {
        assert_eq!(index, self.header.applied.next(), "entries are applied in order");
        let rows = Overlay::new(rows, self.header.tree_hash);
        let mut txn = Txn { rows, header: self.header, map: self.map.clone() };
        txn.header.applied = index;
        txn.header.clock = txn.header.clock.max(batch.clock);
        self.sessions.begin();
        match self.run(&mut txn, index, &batch.commands) {
            Ok(outcomes) => {
                assert_eq!(outcomes.len(), batch.commands.len());
                self.sessions.commit();
                let (writes, hash) = txn.rows.finish();
                self.header = txn.header;
                self.map = txn.map;
                self.header.tree_hash = hash;
                self.header.session_hash = self.sessions.hash();
                #[cfg(feature = "invariants")]
                self.check();
                Ok(Applied { writes, outcomes })
            }
            Err(error) => {
                self.sessions.roll_back();
                Err(error)
            }
        }
    }

    /// Pass over an entry that holds no batch (a leader's first, or one of consensus itself).
    ///
    /// # Panics
    /// If `index` does not follow the last entry.
    pub fn apply_empty(&mut self, index: LogIndex) {
        assert_eq!(index, self.header.applied.next(), "entries are applied in order");
        self.header.applied = index;
    }

    /// The hot state as rows. To be written whenever the tree freezes what has been applied up to
    /// exactly this index; in between they are not needed. Every call gives all of them.
    pub fn materialize(&self) -> Vec<RowWrite> {
        let mut rows = self.sessions.rows(self.header.slots_used);
        rows.push(RowWrite { key: Key::Header.encode(), value: Some(self.header.to_bytes()) });
        rows
    }

    /// Answer a read from the state after the last applied entry. The caller has made sure, by a
    /// read-index round, that this is recent enough. A read that has to wait for a block is made
    /// again with the same `progress`, which begins empty.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn read(
        &self,
        rows: &impl Rows,
        read: &Read,
        progress: &mut Progress,
    ) -> Result<ReadReply, RowError> {
        let rows = Overlay::new(rows, self.header.tree_hash);
        match read {
            Read::Bucket { tenant, name } => buckets::read(&rows, *tenant, name),
            Read::Buckets { tenant, after, limit } => {
                buckets::list(&rows, *tenant, after.as_ref(), *limit)
            }
            Read::Object { target, with_body } => objects::read(&rows, target, *with_body),
            Read::Scan(request) => scan::objects(&rows, request, progress),
            Read::Uploads { scan, upload_after } => scan::uploads(&rows, scan, *upload_after),
            Read::Parts { target, upload, after, limit } => {
                uploads::list_parts(&rows, target, *upload, *after, *limit)
            }
            Read::Audit { after, limit } => audit::page(&rows, after.as_ref(), *limit),
            Read::Directory => Ok(ReadReply::Directory(self.directory().map(Box::new))),
        }
    }

    /// What a put's conditions come to in the state that is applied now. Nothing may rest on that: it is for
    /// a planted mistake.
    pub(crate) fn refuses_now(&self, rows: &impl Rows, body: &CommandBody) -> Option<Rejection> {
        let CommandBody::PutObject { target, conditions, .. } = body else { return None };
        let rows = Overlay::new(rows, self.header.tree_hash);
        let before = objects::current(&rows, target).ok()?;
        objects::hold(conditions, before.as_ref()).err()
    }

    /// What is known of a blob after the last applied entry.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn blob_state(&self, rows: &impl Rows, blob: &OwnedBlob) -> Result<BlobState, RowError> {
        blobs::state_of(&Overlay::new(rows, self.header.tree_hash), blob)
    }

    /// At most `limit` dead blobs after the last applied entry, from a place on. Passes about `rows_max` rows
    /// at most.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn dead_blobs(
        &self,
        rows: &impl Rows,
        from: Option<&Bytes>,
        limit: usize,
        rows_max: u32,
    ) -> Result<DeadBlobs, RowError> {
        blobs::dead(&Overlay::new(rows, self.header.tree_hash), from, limit, rows_max)
    }

    /// What a session is, after the last applied entry.
    pub fn session_standing(&self, session: SessionId) -> Standing {
        match self.sessions.is_live(session) {
            true => Standing::Live,
            false if session < self.header.session_next => Standing::Fenced,
            false => Standing::Unknown,
        }
    }

    /// Which range.
    pub fn id(&self) -> RangeId {
        self.id
    }

    /// The last entry that is applied.
    pub fn applied(&self) -> LogIndex {
        self.header.applied
    }

    /// The range clock.
    pub fn clock(&self) -> WallTime {
        self.header.clock
    }

    /// The hash of all logical rows: equal on all replicas at the same index, whatever freezes
    /// there were.
    pub fn state_hash(&self) -> StateHash {
        let StateHash(tree) = self.header.tree_hash;
        let StateHash(sessions) = self.sessions.hash();
        let mut hash = StateHash(tree.wrapping_add(sessions));
        let bare = Header {
            tree_hash: StateHash::default(),
            session_hash: StateHash::default(),
            ..self.header
        };
        hash.insert(&Key::Header.encode(), ValueHash::of(&bare.to_bytes()));
        hash
    }

    /// The hash of the rows in the tables alone, without the hot state.
    pub fn tree_hash(&self) -> StateHash {
        self.header.tree_hash
    }

    /// How often the range's bounds have changed.
    pub fn epoch(&self) -> RangeEpoch {
        self.header.epoch
    }

    /// Whether a session may act.
    pub fn session_live(&self, session: SessionId) -> bool {
        self.sessions.is_live(session)
    }

    /// What stores and gateways must know of this range; `None` while it has no cluster map.
    pub fn directory(&self) -> Option<Directory> {
        let map = self.map.as_deref()?.clone();
        let next = self.header.session_next;
        let live: Vec<SessionId> = self.sessions.live().map(|(id, _)| id).collect();
        // Ids are given out ascending and never again, so that all below the lowest are over.
        let floor = live.first().copied().unwrap_or(next);
        let sessions = SessionsView { floor, next, live };
        Some(Directory { version: self.header.directory, map, sessions })
    }

    /// The last entry that changed the directory; 0 while there is none.
    pub fn directory_version(&self) -> LogIndex {
        self.header.directory
    }

    /// The cluster map, once there is one.
    pub fn map(&self) -> Option<&ClusterMap> {
        self.map.as_deref()
    }

    /// The epoch of the cluster map; 0 while there is none.
    pub fn map_epoch(&self) -> MapEpoch {
        self.map.as_ref().map_or(MapEpoch(0), |map| map.epoch)
    }

    /// The cluster's feature level; `None` while there is no map.
    pub fn level(&self) -> Option<Level> {
        self.map.as_ref().map(|map| map.level)
    }

    /// The live sessions, and whose they are.
    pub fn live_sessions(&self) -> impl Iterator<Item = (SessionId, GatewayId)> {
        self.sessions.live()
    }

    /// What came of a session's command, while it is kept.
    pub fn outcome_of(&self, session: SessionId, sequence: CommitSequence) -> Option<&Outcome> {
        self.sessions.outcome(session, sequence)
    }

    /// The range in a few numbers.
    pub fn status(&self) -> RangeStatus {
        RangeStatus {
            id: self.id,
            applied: self.header.applied,
            clock: self.header.clock,
            hash: self.state_hash(),
            epoch: self.header.epoch,
            epoch_floor: self.header.epoch_floor,
            map_epoch: self.map_epoch(),
            sessions: self.sessions.live().count(),
            outcomes: self.sessions.outcomes(),
        }
    }

    /// Recompute what is kept incrementally in memory.
    ///
    /// # Panics
    /// If it is not what it must be.
    pub fn check(&self) {
        self.sessions.check(&self.header);
        assert_eq!(self.header.session_hash, self.sessions.hash());
        assert!(self.header.directory <= self.header.applied);
        assert_eq!(self.map.is_some(), self.header.directory > LogIndex(0));
        assert!(self.map.is_none() || self.map_epoch() >= self.header.epoch_floor);
    }

    fn run(
        &mut self,
        txn: &mut Txn<'_>,
        index: LogIndex,
        commands: &[Command],
    ) -> Result<Vec<Outcome>, RowError> {
        uploads::expire(txn)?;
        let mut outcomes = Vec::with_capacity(commands.len());
        for (position, command) in (0..).zip(commands) {
            let order = Order { index, position };
            if planted!(EntryAppliedTwice) && index.0.is_multiple_of(16) {
                self.effect(txn, order, &command.body)?;
            }
            outcomes.push(self.command(txn, order, command)?);
        }
        Ok(outcomes)
    }

    fn command(
        &mut self,
        txn: &mut Txn<'_>,
        order: Order,
        command: &Command,
    ) -> Result<Outcome, RowError> {
        let Origin::Session { session, sequence, watermark } = command.origin else {
            return self.effect(txn, order, &command.body);
        };
        match self.sessions.admit(session, sequence, watermark) {
            Admission::Refused(rejection) => Ok(Outcome::Rejected(rejection)),
            Admission::Known(outcome) => Ok(outcome),
            Admission::New => {
                let outcome = self.effect(txn, order, &command.body)?;
                self.sessions.keep(session, sequence, &outcome);
                Ok(outcome)
            }
        }
    }

    fn effect(
        &mut self,
        txn: &mut Txn<'_>,
        order: Order,
        body: &CommandBody,
    ) -> Result<Outcome, RowError> {
        let changes = txn.rows.changes();
        match self.dispatch(txn, order, body) {
            Ok(outcome) => Ok(outcome),
            Err(Stop::Row(error)) => Err(error),
            Err(Stop::Reject(rejection)) => {
                assert_eq!(changes, txn.rows.changes(), "what is rejected changes nothing");
                Ok(Outcome::Rejected(rejection))
            }
        }
    }

    fn dispatch(
        &mut self,
        txn: &mut Txn<'_>,
        order: Order,
        body: &CommandBody,
    ) -> Result<Outcome, Stop> {
        match body {
            CommandBody::OpenSession { gateway, nonce } => {
                Ok(self.open_session(txn, order, *gateway, *nonce, level::FIRST))
            }
            CommandBody::OpenSpeaking { gateway, nonce, levels } => {
                if let Some(level) = txn.level().filter(|level| !levels.contains(*level)) {
                    return Err(Rejection::LevelForeign { level }.into());
                }
                Ok(self.open_session(txn, order, *gateway, *nonce, levels.max))
            }
            CommandBody::FenceSession { session } => {
                if self.sessions.fence(*session) {
                    txn.directory_changed(order.index);
                }
                Ok(Outcome::Done)
            }
            CommandBody::CreateBucket { tenant, name, owner } => {
                buckets::create(txn, *tenant, name, owner)
            }
            CommandBody::DeleteBucket { tenant, name } => buckets::delete(txn, *tenant, name),
            CommandBody::PutObject { target, conditions, object } => {
                objects::put(txn, order, target, conditions, object)
            }
            CommandBody::CopyObject { target, conditions, object } => {
                let outcome = objects::put(txn, order, target, conditions, object)?;
                Ok(outcome.dated(txn.header.clock))
            }
            CommandBody::ChangeObject { target, version, conditions, owner, attributes, tags } => {
                let change = objects::Change { owner, attributes, tags };
                objects::change(txn, order, target, *version, conditions, &change)
            }
            CommandBody::DeleteObject { target, conditions } => {
                objects::delete(txn, order, target, conditions)
            }
            CommandBody::CreateUpload { target, owner, attributes, tags, checksum } => {
                let record = crate::object::UploadRecord {
                    order,
                    initiated: txn.header.clock,
                    owner: owner.clone(),
                    attributes: attributes.clone(),
                    tags: tags.clone(),
                    checksum: *checksum,
                };
                uploads::create(txn, target, &record)
            }
            CommandBody::PutPart { target, upload, number, part } => {
                uploads::put_part(txn, order, target, *upload, *number, part)
            }
            CommandBody::CopyPart { target, upload, number, part } => {
                let outcome = uploads::put_part(txn, order, target, *upload, *number, part)?;
                Ok(outcome.dated(txn.header.clock))
            }
            CommandBody::CompleteUpload { target, upload, parts, conditions } => {
                uploads::complete(txn, order, target, *upload, parts, conditions)
            }
            CommandBody::AbortUpload { target, upload } => {
                uploads::abort(txn, order, target, *upload)
            }
            CommandBody::ForgetGarbage { blobs } => {
                blobs::forget(txn, blobs)?;
                Ok(Outcome::Done)
            }
            CommandBody::FoundCluster { map } => cluster::found(txn, order, map),
            CommandBody::ReplaceStore { old, new } => cluster::replace(txn, order, *old, *new),
            CommandBody::AddStore { zone, store, weight } => {
                cluster::add(txn, order, *zone, Slot { store: *store, weight: *weight })
            }
            CommandBody::SetWeight { store, weight } => {
                cluster::set_weight(txn, order, *store, *weight)
            }
            CommandBody::SetNode { node } => cluster::set_node(txn, order, node),
            CommandBody::ProveMap { epoch } => cluster::prove(txn, order, *epoch),
            CommandBody::RaiseLevel { to, spoken } => {
                cluster::raise(txn, order, *to, &spoken.0, &self.sessions)
            }
        }
    }

    fn open_session(
        &mut self,
        txn: &mut Txn<'_>,
        order: Order,
        gateway: GatewayId,
        nonce: u128,
        speaks: Level,
    ) -> Outcome {
        let next = txn.header.session_next;
        let outcome = self.sessions.open(&mut txn.header, gateway, nonce, speaks);
        if txn.header.session_next != next {
            txn.directory_changed(order.index);
        }
        outcome
    }
}

/// Whether the row under `key` counts in [`Range::tree_hash`]: all do but those of the hot state.
pub fn is_in_tree_hash(key: &[u8]) -> bool {
    !matches!(Key::decode(key), Ok(Key::Header | Key::Session { .. }))
}

impl Txn<'_> {
    /// The map, or which sessions live, is another from this entry on.
    fn directory_changed(&mut self, index: LogIndex) {
        // Without a map there is no directory, so that a range of an older version, whose header
        // has no place for this, is the same on all replicas.
        if self.map.is_some() {
            self.header.directory = index;
        }
    }

    /// The cluster's feature level.
    fn level(&self) -> Option<Level> {
        self.map.as_ref().map(|map| map.level)
    }

    /// Write a new cluster map.
    pub(super) fn set_map(&mut self, index: LogIndex, map: ClusterMap) -> Result<(), RowError> {
        self.rows.put(&Key::Map, &map)?;
        self.map = Some(Arc::new(map));
        self.directory_changed(index);
        Ok(())
    }
}

/// See [`Header::reserved`].
const RESERVED: u32 = 1;

/// A range before its first entry.
const FRESH: Header = Header {
    applied: LogIndex(0),
    clock: WallTime::UNIX_EPOCH,
    tree_hash: StateHash(0),
    session_hash: StateHash(0),
    epoch: RangeEpoch(1),
    reserved: RESERVED,
    epoch_floor: MapEpoch(0),
    reclaim_floor: Order { index: LogIndex(0), position: 0 },
    session_next: SessionId(1),
    slots_used: 0,
    bucket_next: BucketId(1),
    expiry_floor: WallTime::from_millis(u64::MAX),
    directory: LogIndex(0),
};
