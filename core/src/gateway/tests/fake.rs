//! A small scripted cluster for tests of the gateway: one range in memory, three stores for chunks,
//! and a network that loses and doubles messages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::cluster::{ClusterMap, Cut, Slot, ZoneMap};
use crate::directory::{Directory, SessionsView};
use crate::gateway::*;
use crate::hash::Checksum;
use crate::ids::{
    BlobId, BucketId, ChunkId, ClusterId, CommitSequence, GatewayId, LogIndex, Order, TenantId,
    ZoneId,
};
use crate::level::Levels;
use crate::message::{
    Ask, ChunkChecked, ChunkData, ChunkRead, ChunkSummary, ChunkWritten, RangeAnswer, RangeCall,
    Refusal,
};
use crate::object::{
    Attributes, Body, BucketName, BucketRecord, ETag, NewBody, ObjectKey, ObjectRecord,
    Owner as User, PartRef, UploadRecord, WriteConditions,
};
use crate::range::OUTCOMES_PER_SESSION_MAX;
use crate::range::command::{
    AuditRow, AuditRows, Command, CommandBody, NewPart, Origin, Read, ReadReply, ScanRequest,
    ScanStart, Scanned,
};
use crate::request::{
    BodyDigest, BucketPath, ByteRange, Copying, GetRequest, ListEntry, ListedObject, ObjectPath,
    PutRequest, ReadConditions, Reply,
};
use crate::time::WallTime;

pub(super) const GATEWAY: GatewayId = GatewayId(1);
pub(super) const CUT: Cut = Cut::SIMULATION;

/// What one request got to see.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) reply: Option<Result<Reply, ApiError>>,
    pub(super) credit: u64,
    pub(super) asked: u64,
    pub(super) body: Vec<u8>,
    pub(super) ended: bool,
    pub(super) failed: bool,
    pub(super) disconnected: bool,
    pub(super) copying: Vec<Copying>,
}

pub(super) struct Fake {
    pub(super) gateway: Gateway,
    pub(super) now: Instant,
    pub(super) queue: VecDeque<Envelope>,
    pub(super) seen: BTreeMap<RequestId, Seen>,
    pub(super) next_id: u64,
    pub(super) rng: Rng,
    /// Of a hundred messages so many are lost, and so many doubled.
    pub(super) loss: u64,
    /// Stores that take no message.
    pub(super) dead: BTreeSet<StoreId>,
    /// Stores that take no chunk calls.
    pub(super) mute: BTreeSet<StoreId>,
    /// Stores without room for chunks, and how many they have refused.
    pub(super) full: BTreeSet<StoreId>,
    pub(super) refused_full: u64,
    /// Stores that flip a bit of what they give.
    pub(super) rotten: BTreeSet<StoreId>,
    pub(super) leader: StoreId,
    /// What the root range holds.
    pub(super) map: ClusterMap,
    /// Blobs placed under an older map are refused.
    pub(super) floor: MapEpoch,
    /// No replica leads or knows who does.
    pub(super) leaderless: bool,
    /// Range calls that came to a store that lives.
    pub(super) range_calls: u64,
    /// Hints, by store.
    pub(super) hints: Vec<(StoreId, ChunkId)>,
    /// Answers to commands are held back.
    pub(super) hold_answers: bool,
    /// There are too many sessions.
    pub(super) refuse_sessions: bool,
    pub(super) chunks: BTreeMap<(StoreId, ChunkId), (Bytes, Vec<Checksum>, u32)>,
    pub(super) buckets: BTreeMap<BucketName, BucketRecord>,
    pub(super) objects: BTreeMap<(BucketId, String), (ObjectRecord, Option<Bytes>)>,
    pub(super) outcomes: BTreeMap<(SessionId, CommitSequence), Outcome>,
    pub(super) nonces: BTreeMap<u128, SessionId>,
    pub(super) live: SessionId,
    /// The next change of an object comes too late: another version was put.
    pub(super) change_first: bool,
    /// Uploads and their parts.
    pub(super) uploads: BTreeMap<Order, (UploadRecord, BTreeMap<u16, PartRef>)>,
    pub(super) applied: u64,
    pub(super) scan_rows: usize,
    /// What the session has told with its beats.
    pub(super) reports: Vec<SessionReport>,
    /// Blobs that a store was told of as left.
    pub(super) left: BTreeSet<(StoreId, BlobId)>,
}

impl Fake {
    pub(super) fn new(seed: u64) -> Self {
        let zones = (0..3_u8)
            .map(|zone| ZoneMap {
                zone: ZoneId(zone),
                slots: vec![Slot { store: StoreId(u64::from(zone) + 1), weight: 1 }],
            })
            .collect();
        let map = ClusterMap::bootstrap(64, zones);
        let config = GatewayConfig {
            levels: Levels::OWN,
            cluster: ClusterId(1),
            gateway: GATEWAY,
            zone: Some(ZoneId(0)),
            map: map.clone(),
            cut: CUT,
            body_budget_bytes: 256 << 10,
            body_wait: Duration::from_secs(2),
            requests_max: 64,
            call_timeout: Duration::from_millis(200),
            hedge_after: Duration::from_millis(50),
            request_timeout: Duration::from_secs(10),
            beat: Duration::from_secs(1),
            nonce: 77,
            seed,
        };
        let mut fake = Self {
            gateway: Gateway::new(config),
            now: Instant::from_millis(1),
            queue: VecDeque::new(),
            seen: BTreeMap::new(),
            next_id: 1,
            rng: Rng::new(seed),
            loss: 0,
            dead: BTreeSet::new(),
            mute: BTreeSet::new(),
            full: BTreeSet::new(),
            refused_full: 0,
            rotten: BTreeSet::new(),
            map,
            floor: MapEpoch(0),
            leaderless: false,
            range_calls: 0,
            hints: Vec::new(),
            leader: StoreId(2),
            hold_answers: false,
            refuse_sessions: false,
            chunks: BTreeMap::new(),
            buckets: BTreeMap::new(),
            objects: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            nonces: BTreeMap::new(),
            live: SessionId(0),
            change_first: false,
            uploads: BTreeMap::new(),
            applied: 0,
            scan_rows: 1000,
            reports: Vec::new(),
            left: BTreeSet::new(),
        };
        fake.event(GatewayEvent::Start);
        fake.run();
        fake
    }

    pub(super) fn with_bucket(seed: u64) -> Self {
        let mut fake = Self::new(seed);
        let reply = fake.ask(Request::CreateBucket { bucket: bucket(), owner: User::default() });
        assert_eq!(reply, Ok(Reply::Done));
        fake
    }

    pub(super) fn event(&mut self, event: GatewayEvent) {
        let mut fx = Effects::new();
        let now = Now { instant: self.now, wall: WallTime::UNIX_EPOCH };
        self.gateway.step(now, event, &mut fx);
        self.gateway.check();
        for effect in fx.drain() {
            match effect {
                Effect::Send(envelope) => {
                    let draw = self.rng.below(100);
                    if draw >= self.loss {
                        self.queue.push_back(envelope.clone());
                    }
                    if draw >= 100 - self.loss {
                        self.queue.push_front(envelope);
                    }
                }
                Effect::Reply { id, result } => {
                    let seen = self.seen.entry(id).or_default();
                    assert!(seen.reply.is_none(), "one reply");
                    seen.reply = Some(result);
                }
                Effect::Copying { id, copying } => {
                    self.seen.entry(id).or_default().copying.push(copying);
                }
                Effect::NeedBody { id, bytes } => {
                    let seen = self.seen.entry(id).or_default();
                    seen.credit += bytes;
                    seen.asked += bytes;
                }
                Effect::BodyOut { id, bytes } => {
                    self.seen.entry(id).or_default().body.extend_from_slice(&bytes);
                }
                Effect::BodyEnd { id } => self.seen.entry(id).or_default().ended = true,
                Effect::BodyFailed { id, .. } => self.seen.entry(id).or_default().failed = true,
                Effect::Disconnect { id, .. } => {
                    self.seen.entry(id).or_default().disconnected = true;
                }
                Effect::Note(_) => {}
                other => panic!("a gateway has no {other:?}"),
            }
        }
    }

    /// Deliver what is under way, without letting time pass.
    pub(super) fn run(&mut self) {
        while let Some(envelope) = self.queue.pop_front() {
            let Endpoint::Store(store) = envelope.to else { continue };
            if !self.dead.contains(&store)
                && let Some(message) = self.store(store, envelope.message)
            {
                let (from, to) = (envelope.to, envelope.from);
                self.event(GatewayEvent::Message(Envelope { from, to, message }));
            }
        }
    }

    pub(super) fn pass(&mut self) {
        let at = self.gateway.next_deadline().expect("beats never end").at;
        self.now = self.now.max(at);
        self.event(GatewayEvent::Deadline);
        self.run();
    }

    pub(super) fn open(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.event(GatewayEvent::Request { id, request });
        self.seen.entry(id).or_default();
        self.run();
        id
    }

    pub(super) fn wait(&mut self, id: RequestId) -> Result<Reply, ApiError> {
        for _ in 0..10_000 {
            if let Some(reply) = self.seen[&id].reply.clone() {
                return reply;
            }
            assert!(!self.seen[&id].disconnected, "disconnected");
            self.pass();
        }
        panic!("no reply: {}", self.gateway.status());
    }

    pub(super) fn ask(&mut self, request: Request) -> Result<Reply, ApiError> {
        let id = self.open(request);
        self.wait(id)
    }

    /// Hand in a body as credit allows.
    pub(super) fn feed(&mut self, id: RequestId, mut body: &[u8]) {
        for _ in 0..10_000 {
            let seen = self.seen.get_mut(&id).expect("open");
            if body.is_empty() || seen.reply.is_some() {
                return;
            }
            let length = body.len().min(usize::try_from(seen.credit).unwrap()).min(3000);
            if length == 0 {
                self.pass();
                continue;
            }
            seen.credit -= length as u64;
            let bytes = Bytes::copy_from_slice(&body[..length]);
            body = &body[length..];
            self.event(GatewayEvent::Body { id, bytes });
            self.run();
        }
        panic!("the body is stuck: {}", self.gateway.status());
    }

    pub(super) fn end(&mut self, id: RequestId) {
        self.event(GatewayEvent::BodyEnd { id, digest: BodyDigest::default() });
        self.run();
    }

    pub(super) fn put(&mut self, key: &str, body: &[u8]) -> Result<Reply, ApiError> {
        let id = self.open(put(key, Some(body.len() as u64)));
        self.feed(id, body);
        if self.seen[&id].reply.is_none() {
            self.end(id);
        }
        self.wait(id)
    }

    pub(super) fn get(&mut self, key: &str, range: Option<ByteRange>) -> Result<Vec<u8>, ApiError> {
        let id = self.open(get(key, range));
        self.wait(id)?;
        let mut taken = 0;
        for _ in 0..10_000 {
            let seen = &self.seen[&id];
            assert!(!seen.failed, "the body failed");
            if seen.ended {
                return Ok(seen.body.clone());
            }
            let len = seen.body.len() as u64 - taken;
            taken += len;
            if len > 0 {
                self.event(GatewayEvent::BodyTaken { id, len });
                self.run();
            } else {
                self.pass();
            }
        }
        panic!("the body does not end");
    }

    pub(super) fn store(&mut self, store: StoreId, message: Message) -> Option<Message> {
        match message {
            Message::RangeCall(call) => self.range(store, call),
            Message::ChunkWrite(_) | Message::ChunkRead(_) | Message::ChunkRepair(_)
                if self.mute.contains(&store) =>
            {
                None
            }
            Message::ChunkRepair(repair) => {
                let (call, chunk) = (repair.call, repair.chunk);
                let source = repair.sources.iter().find_map(|id| self.chunks.get(&(*id, chunk)));
                let result = source.cloned().ok_or(ChunkError::Missing).map(|copy| {
                    self.chunks.insert((store, chunk), copy);
                });
                if repair.existed {
                    self.hints.push((store, chunk));
                }
                if call == CallId(0) {
                    return None;
                }
                Some(Message::ChunkWritten(ChunkWritten::received(call, chunk, store, result)))
            }
            Message::ChunkCheck(ask) => {
                let copy = self.chunks.get(&(store, ask.chunk)).ok_or(ChunkError::Missing);
                let result = copy.and_then(|(data, sums, _)| match self.rotten.contains(&store) {
                    true => Err(ChunkError::Damaged),
                    false => Ok(ChunkSummary { length: data.len() as u32, digest: sums[0] }),
                });
                let (call, chunk) = (ask.call, ask.chunk);
                Some(Message::ChunkChecked(ChunkChecked { call, chunk, store, result }))
            }
            Message::ChunkRead(ChunkRead { call, chunk, session, .. }) if session != self.live => {
                let result = Err(ChunkError::Fenced);
                Some(Message::ChunkData(ChunkData { call, chunk, store, result }))
            }
            Message::ChunkWrite(write) if self.full.contains(&store) => {
                self.refused_full += 1;
                let (call, chunk) = (write.call, write.chunk);
                let result = Err(ChunkError::Full);
                Some(Message::ChunkWritten(ChunkWritten::received(call, chunk, store, result)))
            }
            Message::ChunkWrite(write) => {
                let (call, chunk) = (write.call, write.chunk);
                let blocks = write.data.chunks(write.block_size as usize);
                for ((number, block), sum) in (0..).zip(blocks).zip(&write.checksums) {
                    assert_eq!(Checksum::of_block(chunk, number, block), *sum);
                }
                let value = (write.data, write.checksums, write.block_size);
                self.chunks.insert((store, chunk), value);
                Some(Message::ChunkWritten(ChunkWritten::received(call, chunk, store, Ok(()))))
            }
            Message::ChunkRead(read) => {
                let result = self.chunks.get(&(store, read.chunk)).map_or(
                    Err(ChunkError::Missing),
                    |(data, sums, block)| {
                        let (first, end) = (read.first_block, read.first_block + read.blocks);
                        let span = (first * block) as usize..data.len().min((end * block) as usize);
                        let mut bytes = data[span].to_vec();
                        if self.rotten.contains(&store) {
                            bytes[0] ^= 1;
                        }
                        Ok((bytes.into(), sums[first as usize..end as usize].to_vec()))
                    },
                );
                let (call, chunk) = (read.call, read.chunk);
                Some(Message::ChunkData(ChunkData { call, chunk, store, result }))
            }
            Message::BlobsLeft(blobs) => {
                self.left.extend(blobs.into_iter().map(|blob| (store, blob.blob)));
                None
            }
            other => panic!("a store is not sent {other:?}"),
        }
    }

    pub(super) fn range(&mut self, store: StoreId, call: RangeCall) -> Option<Message> {
        let is_command = matches!(&call.ask, Ask::Command(_));
        self.range_calls += 1;
        let result = if self.leaderless {
            Err(Refusal::NotLeader { leader: None })
        } else if store != self.leader {
            Err(Refusal::NotLeader { leader: Some(self.leader) })
        } else {
            match call.ask {
                Ask::Beat(report) => {
                    self.reports.push(*report);
                    let (live, map) = (call.session == self.live, self.map.epoch);
                    Ok(Answer::Beat { live, map, applied: LogIndex(self.reports.len() as u64) })
                }
                Ask::Read(_) if call.session != self.live => Err(Refusal::Fenced),
                Ask::Read(read) => Ok(Answer::Read(self.read(read))),
                Ask::Command(command) => Ok(Answer::Applied(self.apply(*command))),
            }
        };
        if is_command && self.hold_answers && result.is_ok() {
            return None;
        }
        let (call, origin, range) = (call.call, call.origin, call.range);
        Some(Message::RangeAnswer(RangeAnswer { call, origin, range, by: store, result }))
    }

    pub(super) fn apply(&mut self, command: Command) -> Outcome {
        let CommandBody::OpenSpeaking { nonce, .. } = command.body else {
            let Origin::Session { session, sequence, watermark } = command.origin else {
                panic!("gateways submit under sessions")
            };
            if session != self.live {
                return Outcome::Rejected(Rejection::Fenced);
            }
            let ahead = sequence.0 - watermark.0;
            assert!(ahead < OUTCOMES_PER_SESSION_MAX as u64, "refused by a range");
            self.outcomes.retain(|(_, old), _| *old >= watermark);
            if let Some(outcome) = self.outcomes.get(&(session, sequence)) {
                return outcome.clone();
            }
            let outcome = self.execute(command.body);
            self.outcomes.insert((session, sequence), outcome.clone());
            return outcome;
        };
        if self.refuse_sessions {
            return Outcome::Rejected(Rejection::Malformed);
        }
        let next = SessionId(self.nonces.len() as u64 + 1);
        let session = *self.nonces.entry(nonce).or_insert(next);
        self.live = self.live.max(session);
        Outcome::SessionOpened(session)
    }

    /// The range clock: a second for each command.
    pub(super) fn clock(&self) -> WallTime {
        WallTime::from_millis(self.applied * 1000)
    }

    pub(super) fn execute(&mut self, body: CommandBody) -> Outcome {
        self.applied += 1;
        let order = Order { index: LogIndex(self.applied), position: 0 };
        match body {
            CommandBody::CreateBucket { name, owner, .. } => {
                let id = BucketId(self.applied);
                let (created, intent) = (WallTime::UNIX_EPOCH, 0);
                let record = BucketRecord { id, name: name.clone(), created, owner, intent };
                self.buckets.insert(name, record);
                Outcome::Done
            }
            CommandBody::DeleteBucket { name, .. } => {
                self.buckets.remove(&name);
                Outcome::Done
            }
            CommandBody::CopyObject { target, conditions, object } => {
                let there = self.objects.get(&(target.bucket, target.key.as_str().to_owned()));
                if let Err(rejection) =
                    crate::range::hold(&conditions, there.map(|(record, _)| record))
                {
                    return Outcome::Rejected(rejection);
                }
                self.applied -= 1;
                self.execute(CommandBody::PutObject { target, conditions, object })
                    .dated(self.clock())
            }
            CommandBody::ChangeObject { target, version, attributes, tags, .. } => {
                let modified = self.clock();
                let key = (target.bucket, target.key.as_str().to_owned());
                let other = core::mem::take(&mut self.change_first);
                match self.objects.get_mut(&key) {
                    Some((record, _)) if record.order == version && !other => {
                        (record.attributes, record.tags) = (attributes, tags);
                        (record.order, record.modified) = (order, modified);
                        let (etag, checksum) = (record.etag, record.checksum.clone());
                        Outcome::Copied { etag, checksum, modified }
                    }
                    _ => Outcome::Rejected(Rejection::OtherVersion),
                }
            }
            CommandBody::CopyPart { upload, number, part, .. } => {
                let Some((_, parts)) = self.uploads.get_mut(&upload) else {
                    return Outcome::Rejected(Rejection::NoSuchUpload);
                };
                let NewPart { length, etag, checksum, body } = *part;
                let blob = match body {
                    NewBody::Blob(blob) => Some(blob),
                    NewBody::Inline(_) => None,
                };
                parts.insert(number, PartRef { number, length, checksum: checksum.clone(), blob });
                Outcome::Copied { etag, checksum, modified: self.clock() }
            }
            CommandBody::CreateUpload { target, owner, attributes, tags, checksum } => {
                let initiated = self.clock();
                let record = UploadRecord { order, initiated, owner, attributes, tags, checksum };
                self.uploads.insert(order, (record, BTreeMap::new()));
                let _ = target;
                Outcome::Upload(order)
            }
            CommandBody::PutObject { target, object, .. } => {
                if !self.buckets.values().any(|bucket| bucket.id == target.bucket) {
                    return Outcome::Rejected(Rejection::NoSuchBucket);
                }
                let (inline, body) = match object.body {
                    NewBody::Inline(bytes) => (Some(bytes), Body::Inline),
                    NewBody::Blob(blob) if blob.epoch < self.floor => {
                        return Outcome::Rejected(Rejection::StaleEpoch);
                    }
                    NewBody::Blob(blob) => {
                        let (number, length, checksum) = (1, object.length, None);
                        let blob = Some(blob);
                        (None, Body::Blobs(vec![PartRef { number, length, checksum, blob }]))
                    }
                };
                let record = ObjectRecord {
                    modified: self.clock(),
                    etag: object.etag,
                    checksum: object.checksum,
                    attributes: object.attributes,
                    tags: object.tags,
                    ..record(order, object.length, body)
                };
                let key = (target.bucket, target.key.as_str().to_owned());
                self.objects.insert(key, (record, inline));
                Outcome::Put { etag: object.etag, checksum: None, order }
            }
            CommandBody::DeleteObject { target, .. } => {
                self.objects.remove(&(target.bucket, target.key.as_str().to_owned()));
                Outcome::Done
            }
            other => panic!("not played: {other:?}"),
        }
    }

    pub(super) fn read(&self, read: Read) -> ReadReply {
        match read {
            Read::Bucket { name, .. } => ReadReply::Bucket(self.buckets.get(&name).cloned()),
            Read::Object { target, .. } => {
                if !self.buckets.values().any(|bucket| bucket.id == target.bucket) {
                    return ReadReply::NoSuchBucket;
                }
                let found = self.objects.get(&(target.bucket, target.key.as_str().to_owned()));
                ReadReply::Object(found.cloned().map(|(record, body)| (Box::new(record), body)))
            }
            Read::Parts { upload, .. } => ReadReply::Parts(
                self.uploads.get(&upload).map(|(it, _)| (Box::new(it.clone()), Vec::new(), false)),
            ),
            Read::Scan(scan) => ReadReply::Scan(self.scan(&scan)),
            Read::Audit { after, limit } => {
                let mut rows = self.objects.iter().map(|((_, key), (record, _))| AuditRow {
                    at: Bytes::from(key.clone()),
                    bucket: "bucket".to_owned(),
                    key: ObjectKey::parse(key).unwrap(),
                    part: None,
                    blobs: match &record.body {
                        Body::Inline => Vec::new(),
                        Body::Blobs(parts) => {
                            parts.iter().filter_map(|it| it.blob.clone()).collect()
                        }
                    },
                });
                let after = |row: &AuditRow| after.as_ref().is_none_or(|after| row.at > *after);
                let found: Vec<_> = rows.by_ref().filter(after).take(limit as usize).collect();
                let next = rows.next().and(found.last()).map(|row| row.at.clone());
                ReadReply::Audit(Box::new(AuditRows { rows: found, next }))
            }
            Read::Directory => {
                let (version, map) = (LogIndex(self.applied), self.map.clone());
                let sessions = SessionsView::default();
                ReadReply::Directory(Some(Box::new(Directory { version, map, sessions })))
            }
            other => panic!("not played: {other:?}"),
        }
    }

    pub(super) fn scan(&self, scan: &ScanRequest) -> Scanned<ListedObject> {
        let mut entries = Vec::new();
        let mut next = None;
        for ((bucket, key), (record, _)) in &self.objects {
            let is_before = match &scan.start {
                ScanStart::First => false,
                ScanStart::AtKey(start) => key < start,
                ScanStart::AfterKey(start) => key <= start,
                ScanStart::AfterPrefix(start) => key < start || key.starts_with(start),
            };
            if *bucket != scan.bucket || is_before || !key.starts_with(&scan.prefix) {
                continue;
            }
            let rolled = rolled(key, &scan.prefix, scan.delimiter.as_deref());
            let entry = rolled.map_or_else(|| listed(key, record), ListEntry::Prefix);
            if entries.last() == Some(&entry) {
                continue;
            }
            if entries.len() >= self.scan_rows.min(scan.limit as usize) {
                next = Some(match entries.last().expect("a limit above 0") {
                    ListEntry::Item(item) => ScanStart::AfterKey(item.key.as_str().to_owned()),
                    ListEntry::Prefix(prefix) => ScanStart::AfterPrefix(prefix.clone()),
                });
                break;
            }
            entries.push(entry);
        }
        Scanned { entries, next }
    }
}

pub(super) fn rolled(key: &str, prefix: &str, delimiter: Option<&str>) -> Option<String> {
    let delimiter = delimiter?;
    let at = key[prefix.len()..].find(delimiter)?;
    Some(key[..prefix.len() + at + delimiter.len()].to_owned())
}

pub(super) fn listed(key: &str, record: &ObjectRecord) -> ListEntry<ListedObject> {
    ListEntry::Item(ListedObject {
        key: ObjectKey::parse(key).unwrap(),
        modified: record.modified,
        etag: record.etag,
        length: record.length,
        owner: User::default(),
        storage_class: 0,
        checksum: None,
    })
}

pub(super) fn record(order: Order, length: u64, body: Body) -> ObjectRecord {
    ObjectRecord {
        order,
        null_version: true,
        delete_marker: false,
        modified: WallTime::UNIX_EPOCH,
        length,
        etag: ETag::default(),
        checksum: None,
        owner: User::default(),
        grants: Vec::new(),
        storage_class: 0,
        encryption: Bytes::new(),
        tags: Vec::new(),
        lock: crate::object::Lock::default(),
        attributes: Attributes::default(),
        body,
    }
}

pub(super) fn bucket() -> BucketPath {
    BucketPath { tenant: TenantId(0), name: BucketName::parse("bucket").unwrap() }
}

pub(super) fn path(key: &str) -> ObjectPath {
    ObjectPath { bucket: bucket(), key: ObjectKey::parse(key).unwrap() }
}

pub(super) fn put(key: &str, length: Option<u64>) -> Request {
    Request::Put(PutRequest {
        path: path(key),
        owner: User::default(),
        attributes: Attributes::default(),
        tags: Vec::new(),
        conditions: WriteConditions::default(),
        length,
    })
}

pub(super) fn get(key: &str, range: Option<ByteRange>) -> Request {
    let conditions = ReadConditions::default();
    Request::Get(GetRequest { path: path(key), range, part_number: None, conditions })
}
