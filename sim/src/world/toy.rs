//! Toy machines, to test the simulator itself: gateways that all answer from one map in memory,
//! stores that only count on their disks. Each [`Bug`] must be found by some oracle.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use trine_core::cluster::{GatewayConfig, StoreConfig};
use trine_core::disk::{DiskOp, DiskOutput};
use trine_core::effects::{Effect, Effects, GatewayEvent, Now, StoreEvent};
use trine_core::ids::{
    BucketId, DiskToken, Endpoint, Incarnation, LogIndex, Order, RangeId, RequestId, StoreId,
};
use trine_core::level::Levels;
use trine_core::message::{Beginning, Envelope, Hello, Message, StoreMark};
use trine_core::object::{
    Attributes, Body, BucketName, BucketRecord, ETag, Lock, ObjectKey, ObjectRecord, Owner,
    PART_BYTES_MIN, PartRecord, UploadRecord, WriteConditions,
};
use trine_core::request::{
    ApiError, ByteRange, CopyHash, CopyPurpose, CopyRequest, Copying, GetRequest, ListEntry,
    ListRequest, ListedObject, ListedUpload, Page, Reply, Request,
};
use trine_core::store::Observation;
use trine_core::time::{Deadline, Duration, Instant, WallTime};

use super::machine::{GatewayMachine, Maker, StoreMachine};
use crate::checkers::agreement::ReplicaView;
use crate::workload::body;

/// What the toy does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// Every 20th put is acknowledged and not kept.
    LosesPut,
    /// Every 20th read shows what was there before the last write.
    StaleRead,
    /// Conditions are not looked at.
    IgnoresConditions,
    /// A byte of a large body is wrong.
    WrongByte,
    /// Listings leave out the second key.
    ListMisses,
    /// The range of a read is one byte too long.
    WrongRange,
    /// A put takes effect although the client gave up before its end.
    CommitsCancelled,
    /// A delete is acknowledged and does nothing.
    KeepsDeleted,
    /// A copy takes what was there before the last write.
    CopiesStale,
    /// A copy takes half of its bytes from what was there before the last write.
    CopiesTorn,
    /// A copy has the tags of what was there before the last write.
    CopiesOtherWords,
    /// A store says that a write is durable without a sync.
    NoSync,
    /// A request is never answered.
    NeverAnswers,
    /// A store goes on after a failed sync.
    IgnoresFailedSync,
}

type Tags = Vec<(String, String)>;

#[derive(Debug)]
struct ToyUpload {
    key: ObjectKey,
    order: Order,
    attributes: Attributes,
    tags: Tags,
    parts: BTreeMap<u16, (ETag, Bytes)>,
}

/// The truth, which all gateways share.
#[derive(Debug, Default)]
struct Model {
    buckets: BTreeMap<BucketName, Owner>,
    objects: BTreeMap<ObjectKey, (ObjectRecord, Bytes)>,
    before: BTreeMap<ObjectKey, Option<(ObjectRecord, Bytes)>>,
    uploads: Vec<ToyUpload>,
    operations: u64,
}

/// Makes toys.
#[derive(Clone, Debug)]
pub(crate) struct Toy {
    bug: Bug,
    model: Rc<RefCell<Model>>,
    durable: Rc<RefCell<BTreeMap<StoreId, u64>>>,
}

impl Toy {
    pub(crate) fn new(bug: Bug) -> Self {
        Self { bug, model: Rc::default(), durable: Rc::default() }
    }
}

impl Maker for Toy {
    type Store = ToyStore;
    type Gateway = ToyGateway;

    fn store(&self, config: StoreConfig) -> ToyStore {
        let (id, toy) = (config.store, self.clone());
        ToyStore { config, toy, id, counter: 0, tokens: 0, sync: None, due: None }
    }

    fn gateway(&self, config: GatewayConfig) -> ToyGateway {
        ToyGateway {
            toy: self.clone(),
            config,
            puts: BTreeMap::new(),
            copies: BTreeMap::new(),
            gets: BTreeMap::new(),
        }
    }

    fn disk_emptied(&self, store: StoreId) {
        self.durable.borrow_mut().remove(&store);
    }
}

/// Three sectors.
const PLACE_BYTES: usize = 3 * 4_096;

/// Counts on its disk: what it once called durable it must find again.
pub(crate) struct ToyStore {
    config: StoreConfig,
    toy: Toy,
    id: StoreId,
    counter: u64,
    tokens: u64,
    sync: Option<DiskToken>,
    due: Option<Instant>,
}

impl ToyStore {
    fn disk(&mut self, op: DiskOp, fx: &mut Effects) -> DiskToken {
        self.tokens += 1;
        fx.disk(DiskToken(self.tokens), op);
        DiskToken(self.tokens)
    }

    fn write(&mut self, fx: &mut Effects) {
        self.counter += 1;
        // Two places in turn, so that a torn write leaves the other. Only the first sector counts.
        let mut bytes = BytesMut::zeroed(PLACE_BYTES);
        bytes[..8].copy_from_slice(&self.counter.to_le_bytes());
        let offset = self.counter % 2 * PLACE_BYTES as u64;
        self.disk(DiskOp::Write { offset, parts: vec![bytes.freeze()] }, fx);
    }
}

impl StoreMachine for ToyStore {
    fn merging(&self) -> Option<super::MergeView> {
        None
    }

    fn step(&mut self, now: Now, event: StoreEvent, fx: &mut Effects) {
        match event {
            StoreEvent::Start => {
                self.disk(DiskOp::Read { offset: 0, len: 2 * PLACE_BYTES as u64 }, fx);
            }
            StoreEvent::Disk { result: Err(_), token } => {
                let ignored = self.toy.bug == Bug::IgnoresFailedSync && self.sync == Some(token);
                if !ignored {
                    fx.push(Effect::Halt { reason: "the disk failed".to_owned() });
                }
            }
            StoreEvent::Disk { result: Ok(DiskOutput::Read(bytes)), .. } => {
                let number =
                    |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
                self.counter = number(0).max(number(PLACE_BYTES));
                let durable = self.toy.durable.borrow().get(&self.id).copied().unwrap_or(0);
                assert!(self.counter >= durable, "{} found of {durable}", self.counter);
                self.write(fx);
            }
            StoreEvent::Disk { result: Ok(DiskOutput::Written), .. } => {
                if self.toy.bug == Bug::NoSync {
                    self.toy.durable.borrow_mut().insert(self.id, self.counter);
                }
                self.sync = Some(self.disk(DiskOp::Sync, fx));
            }
            StoreEvent::Disk { .. } => {
                self.toy.durable.borrow_mut().insert(self.id, self.counter);
                self.due = Some(now.instant + Duration::from_millis(20));
            }
            StoreEvent::Deadline if self.due.is_some_and(|due| due <= now.instant) => {
                self.due = None;
                for peer in self.config.map.voters.clone() {
                    let hello = Hello {
                        cluster: self.config.cluster,
                        levels: Levels::OWN,
                        level: None,
                        life: StoreMark {
                            incarnation: Incarnation(1),
                            nonce: 0,
                            synced: self.counter,
                        },
                        began: 0,
                        doubted: Incarnation(0),
                        lives: Vec::new(),
                        heard: None,
                        wanted: false,
                        beginning: Beginning::Unknown,
                    };
                    let (from, to) = (Endpoint::Store(self.id), Endpoint::Store(peer));
                    if from != to {
                        fx.send(Envelope { from, to, message: Message::Hello(hello) });
                    }
                }
                self.write(fx);
            }
            StoreEvent::Deadline
            | StoreEvent::Message(_)
            | StoreEvent::LinkUp(_)
            | StoreEvent::LinkDown(_) => {}
        }
    }

    fn next_deadline(&self) -> Option<Deadline> {
        self.due.map(|at| Deadline { at, reason: "count" })
    }

    fn check(&self) {}

    fn status(&self) -> String {
        format!("at {}", self.counter)
    }

    fn observations(&mut self) -> Vec<(RangeId, Observation)> {
        Vec::new()
    }

    fn views(&self) -> Vec<ReplicaView> {
        Vec::new()
    }
}

/// Answers from the shared map.
pub(crate) struct ToyGateway {
    toy: Toy,
    config: GatewayConfig,
    puts: BTreeMap<RequestId, (Request, BytesMut)>,
    /// Copies that are being hashed.
    copies: BTreeMap<RequestId, (CopyRequest, Tags, Bytes)>,
    /// Bytes that are still to go out.
    gets: BTreeMap<RequestId, Bytes>,
}

const WINDOW: u64 = 8_192;

impl GatewayMachine for ToyGateway {
    fn step(&mut self, _now: Now, event: GatewayEvent, fx: &mut Effects) {
        match event {
            GatewayEvent::Request { id, request } => self.begin(id, request, fx),
            GatewayEvent::Body { id, bytes } => {
                if let Some((_, body)) = self.puts.get_mut(&id) {
                    body.extend_from_slice(&bytes);
                    fx.push(Effect::NeedBody { id, bytes: bytes.len() as u64 });
                }
            }
            GatewayEvent::BodyEnd { id, digest } => {
                if let Some((request, body)) = self.puts.remove(&id) {
                    assert_eq!(digest.md5, body::md5(&body), "the body came whole");
                    let mut model = self.toy.model.borrow_mut();
                    fx.reply(id, model.store(self.toy.bug, request, body.freeze()));
                } else if let Some((copy, tags, bytes)) = self.copies.remove(&id) {
                    assert_eq!(digest.md5, body::md5(&bytes), "it was hashed");
                    let mut model = self.toy.model.borrow_mut();
                    fx.reply(id, model.store_copy(self.toy.bug, copy, tags, bytes));
                }
            }
            GatewayEvent::BodyTaken { id, .. } => self.feed(id, fx),
            GatewayEvent::Cancel { id } => {
                self.gets.remove(&id);
                self.copies.remove(&id);
                if let Some((request, body)) = self.puts.remove(&id)
                    && self.toy.bug == Bug::CommitsCancelled
                {
                    let mut model = self.toy.model.borrow_mut();
                    let _unheard = model.store(Bug::None, request, body.freeze());
                }
            }
            GatewayEvent::Start
            | GatewayEvent::Deadline
            | GatewayEvent::Message(_)
            | GatewayEvent::LinkUp(_)
            | GatewayEvent::LinkDown(_) => {}
        }
    }

    fn next_deadline(&self) -> Option<Deadline> {
        None
    }

    fn check(&self) {}

    fn status(&self) -> String {
        format!("{} puts of {}", self.puts.len(), self.config.gateway)
    }
}

impl ToyGateway {
    fn begin(&mut self, id: RequestId, request: Request, fx: &mut Effects) {
        let bug = self.toy.bug;
        let mut model = self.toy.model.borrow_mut();
        model.operations += 1;
        if bug == Bug::NeverAnswers && model.operations > 100 {
            return;
        }
        match request {
            Request::Put(_) | Request::UploadPart(_) => {
                self.puts.insert(id, (request, BytesMut::new()));
                fx.push(Effect::NeedBody { id, bytes: WINDOW });
            }
            Request::Get(get) => {
                let result = model.read(bug, &get);
                match result {
                    Ok((reply, bytes)) => {
                        drop(model);
                        fx.reply(id, Ok(reply));
                        self.gets.insert(id, bytes);
                        self.feed(id, fx);
                    }
                    Err(error) => fx.reply(id, Err(error)),
                }
            }
            Request::Copy(copy) => match model.find_copied(bug, &copy) {
                Ok((tags, bytes)) if model.operations.is_multiple_of(2) => {
                    let hash = Some(CopyHash { checksum: None });
                    let copying = Copying::Begun { length: bytes.len() as u64, hash };
                    fx.push(Effect::Copying { id, copying });
                    if !bytes.is_empty() {
                        fx.push(Effect::BodyOut { id, bytes: bytes.clone() });
                    }
                    self.copies.insert(id, (copy, tags, bytes));
                }
                Ok((tags, bytes)) => fx.reply(id, model.store_copy(bug, copy, tags, bytes)),
                Err(error) => fx.reply(id, Err(error)),
            },
            Request::Head(get) => fx.reply(id, model.read(bug, &get).map(|(reply, _)| reply)),
            other => fx.reply(id, model.answer(bug, other)),
        }
    }

    fn feed(&mut self, id: RequestId, fx: &mut Effects) {
        let Some(left) = self.gets.get_mut(&id) else { return };
        if left.is_empty() {
            self.gets.remove(&id);
            return fx.push(Effect::BodyEnd { id });
        }
        let window = usize::try_from(WINDOW).expect("it is small");
        let bytes = left.split_to(left.len().min(window));
        fx.push(Effect::BodyOut { id, bytes });
    }
}

impl Model {
    fn order(&self) -> Order {
        Order { index: LogIndex(self.operations), position: 0 }
    }

    fn store(&mut self, bug: Bug, request: Request, bytes: Bytes) -> Result<Reply, ApiError> {
        let etag = body::etag(&bytes);
        match request {
            Request::Put(put) => {
                let (key, words) = (put.path.key, (put.attributes, put.tags));
                self.put(bug, key, words, &put.conditions, etag, bytes)
            }
            Request::UploadPart(part) => {
                let upload = self.upload(part.upload)?;
                upload.parts.insert(part.number, (etag, bytes));
                Ok(Reply::Put { etag, checksum: None })
            }
            _ => unreachable!("only these have bodies"),
        }
    }

    fn put(
        &mut self,
        bug: Bug,
        key: ObjectKey,
        (attributes, tags): (Attributes, Tags),
        conditions: &WriteConditions,
        etag: ETag,
        bytes: Bytes,
    ) -> Result<Reply, ApiError> {
        self.check(bug, &key, conditions)?;
        let record = ObjectRecord {
            order: self.order(),
            null_version: true,
            delete_marker: false,
            modified: WallTime::UNIX_EPOCH,
            length: bytes.len() as u64,
            etag,
            checksum: None,
            owner: Owner::default(),
            grants: Vec::new(),
            storage_class: 0,
            encryption: Bytes::new(),
            tags,
            lock: Lock::default(),
            attributes,
            body: Body::Inline,
        };
        if bug != Bug::LosesPut || !self.operations.is_multiple_of(20) {
            let before = self.objects.insert(key.clone(), (record, bytes));
            self.before.insert(key, before);
        }
        Ok(Reply::Put { etag, checksum: None })
    }

    /// Tags and bytes of the version that is copied.
    fn find_copied(&self, bug: Bug, copy: &CopyRequest) -> Result<(Tags, Bytes), ApiError> {
        let key = &copy.source.key;
        let (record, bytes) = self.objects.get(key).ok_or(ApiError::NoSuchKey)?;
        let (mut tags, mut bytes) = (record.tags.clone(), bytes.clone());
        if let Some(Some((old, before))) = self.before.get(key) {
            match bug {
                Bug::CopiesStale => (tags, bytes) = (old.tags.clone(), before.clone()),
                Bug::CopiesOtherWords => tags.clone_from(&old.tags),
                Bug::CopiesTorn => {
                    let at = bytes.len().min(before.len()) / 2;
                    bytes = Bytes::from([&bytes[..at], &before[at..]].concat());
                }
                _ => {}
            }
        }
        match copy.purpose {
            CopyPurpose::Part { range: Some((first, last)), upload, .. } => {
                if !self.uploads.iter().any(|it| it.order == upload) {
                    return Err(ApiError::NoSuchUpload);
                }
                let length = bytes.len() as u64;
                if last >= length {
                    return Err(ApiError::InvalidRange { length });
                }
                let at = |number: u64| usize::try_from(number).expect("bodies are small");
                Ok((tags, bytes.slice(at(first)..=at(last))))
            }
            _ => Ok((tags, bytes)),
        }
    }

    fn store_copy(
        &mut self,
        bug: Bug,
        copy: CopyRequest,
        tags: Tags,
        bytes: Bytes,
    ) -> Result<Reply, ApiError> {
        let (etag, modified) = (body::etag(&bytes), WallTime::UNIX_EPOCH);
        match copy.purpose {
            CopyPurpose::Part { upload, number, .. } => {
                self.upload(upload)?.parts.insert(number, (etag, bytes));
            }
            CopyPurpose::Object(object) => {
                let words = (object.attributes.unwrap_or_default(), tags);
                self.put(bug, copy.path.key, words, &object.conditions, etag, bytes)?;
            }
        }
        Ok(Reply::Copied { etag, checksum: None, modified })
    }

    fn check(
        &self,
        bug: Bug,
        key: &ObjectKey,
        conditions: &WriteConditions,
    ) -> Result<(), ApiError> {
        let current = self.objects.get(key).map(|(record, _)| record.etag);
        if bug == Bug::IgnoresConditions {
            return Ok(());
        }
        match (&conditions.if_match, current) {
            (Some(_), None) => return Err(ApiError::NoSuchKey),
            (Some(tags), Some(etag)) if !tags.matches(&etag) => {
                return Err(ApiError::PreconditionFailed);
            }
            _ => {}
        }
        match (&conditions.if_none_match, current) {
            (Some(tags), Some(etag)) if tags.matches(&etag) => Err(ApiError::PreconditionFailed),
            _ => Ok(()),
        }
    }

    fn read(&self, bug: Bug, get: &GetRequest) -> Result<(Reply, Bytes), ApiError> {
        let key = &get.path.key;
        let stale = bug == Bug::StaleRead && self.operations.is_multiple_of(20);
        let current = self.objects.get(key);
        let found =
            if stale { self.before.get(key).map_or(current, Option::as_ref) } else { current };
        let (record, bytes) = found.ok_or(ApiError::NoSuchKey)?;
        if let Some(tags) = &get.conditions.if_none_match
            && tags.matches(&record.etag)
        {
            return Err(ApiError::NotModified { etag: record.etag, modified: record.modified });
        }
        let length = record.length;
        let (first, end) = match get.range {
            None => (0, length),
            Some(ByteRange::From { first, .. }) if first >= length => {
                return Err(ApiError::InvalidRange { length });
            }
            Some(ByteRange::From { first, last }) => {
                (first, last.map_or(length, |last| (last + 1).min(length)))
            }
            Some(ByteRange::Suffix { length: suffix }) if suffix == 0 || length == 0 => {
                return Err(ApiError::InvalidRange { length });
            }
            Some(ByteRange::Suffix { length: suffix }) => (length - suffix.min(length), length),
        };
        let end = if bug == Bug::WrongRange && get.range.is_some() { length } else { end };
        let at = |number: u64| usize::try_from(number).expect("bodies are small");
        let mut body = bytes.slice(at(first)..at(end));
        if bug == Bug::WrongByte && body.len() > 5_000 {
            let mut wrong = BytesMut::from(&body[..]);
            wrong[4_999] ^= 1;
            body = wrong.freeze();
        }
        let reply = Reply::Object {
            record: Box::new(record.clone()),
            first,
            length: end - first,
            partial: get.range.is_some(),
            parts: None,
        };
        Ok((reply, body))
    }

    fn answer(&mut self, bug: Bug, request: Request) -> Result<Reply, ApiError> {
        match request {
            Request::CreateBucket { bucket, owner } => {
                match self.buckets.insert(bucket.name, owner) {
                    None => Ok(Reply::Done),
                    Some(_) => Err(ApiError::BucketAlreadyOwnedByYou),
                }
            }
            Request::DeleteBucket { bucket } if bucket.name.as_str() == "main-bucket" => {
                Err(ApiError::BucketNotEmpty)
            }
            Request::DeleteBucket { bucket } => {
                let removed = self.buckets.remove(&bucket.name);
                removed.map(|_| Reply::Done).ok_or(ApiError::NoSuchBucket)
            }
            Request::HeadBucket { bucket } => {
                let found = self.buckets.get_key_value(&bucket.name);
                let record = found.map(|(name, owner)| toy_bucket(name, owner));
                record.map(Reply::Bucket).ok_or(ApiError::NoSuchBucket)
            }
            Request::ListBuckets { .. } => {
                let all = self.buckets.iter().map(|(name, owner)| toy_bucket(name, owner));
                Ok(Reply::Buckets(all.collect()))
            }
            Request::Delete { path, conditions } => {
                self.check(bug, &path.key, &conditions)?;
                self.delete(bug, &path.key);
                Ok(Reply::Done)
            }
            Request::DeleteMany { keys, .. } => {
                keys.iter().for_each(|key| self.delete(bug, key));
                Ok(Reply::Deleted(vec![Ok(()); keys.len()]))
            }
            Request::ReplaceStore { .. }
            | Request::AddStore { .. }
            | Request::SetWeight { .. }
            | Request::SetNode { .. }
            | Request::RaiseLevel { .. } => Ok(Reply::Done),
            Request::List(list) => Ok(Reply::List(self.list(bug, &list))),
            other => self.answer_upload(bug, other),
        }
    }

    fn delete(&mut self, bug: Bug, key: &ObjectKey) {
        if bug != Bug::KeepsDeleted {
            let before = self.objects.remove(key);
            self.before.insert(key.clone(), before);
        }
    }

    fn list(&self, bug: Bug, list: &ListRequest) -> Page<ListEntry<ListedObject>> {
        let mut entries: Vec<ListEntry<ListedObject>> = Vec::new();
        let after = list.after.as_deref().unwrap_or("");
        let max = usize::try_from(list.keys_max).expect("it is small");
        for (key, (record, _)) in &self.objects {
            let Some(rest) = key.as_str().strip_prefix(&list.prefix) else { continue };
            let cut = list.delimiter.as_deref().and_then(|d| rest.find(d).map(|at| at + d.len()));
            let name = match cut {
                Some(cut) => &key.as_str()[..list.prefix.len() + cut],
                None => key.as_str(),
            };
            let known = matches!(entries.last(), Some(ListEntry::Prefix(last)) if last == name);
            if name <= after || known {
                continue;
            }
            if entries.len() == max {
                return Page { entries, truncated: max > 0 };
            }
            entries.push(match cut {
                Some(_) => ListEntry::Prefix(name.to_owned()),
                None => ListEntry::Item(ListedObject {
                    key: key.clone(),
                    modified: record.modified,
                    etag: record.etag,
                    length: record.length,
                    owner: Owner::default(),
                    storage_class: 0,
                    checksum: None,
                }),
            });
        }
        if bug == Bug::ListMisses && entries.len() > 2 {
            entries.remove(1);
        }
        Page { entries, truncated: false }
    }

    fn upload(&mut self, order: Order) -> Result<&mut ToyUpload, ApiError> {
        let found = self.uploads.iter_mut().find(|upload| upload.order == order);
        found.ok_or(ApiError::NoSuchUpload)
    }

    fn answer_upload(&mut self, bug: Bug, request: Request) -> Result<Reply, ApiError> {
        match request {
            Request::CreateUpload { path, attributes, tags, .. } => {
                let order = self.order();
                let parts = BTreeMap::new();
                self.uploads.push(ToyUpload { key: path.key, order, attributes, tags, parts });
                Ok(Reply::Upload(order))
            }
            Request::AbortUpload { upload, .. } => {
                self.upload(upload)?;
                self.uploads.retain(|other| other.order != upload);
                Ok(Reply::Done)
            }
            Request::CompleteUpload { upload, parts, conditions, .. } => {
                let found = self.upload(upload)?;
                let mut whole = BytesMut::new();
                for (at, (number, _)) in parts.iter().enumerate() {
                    let (_, bytes) = &found.parts[number];
                    let length = bytes.len() as u64;
                    if at + 1 < parts.len() && length < PART_BYTES_MIN {
                        return Err(ApiError::EntityTooSmall { number: *number, length });
                    }
                    whole.extend_from_slice(bytes);
                }
                let tags: Vec<_> = parts.iter().map(|(_, etag)| *etag).collect();
                let key = found.key.clone();
                let words = (found.attributes.clone(), found.tags.clone());
                let etag = body::upload_etag(&tags);
                let reply = self.put(bug, key, words, &conditions, etag, whole.freeze())?;
                self.uploads.retain(|other| other.order != upload);
                Ok(reply)
            }
            Request::ListUploads(list) => {
                let mut entries = Vec::new();
                for upload in &self.uploads {
                    if upload.key.as_str().starts_with(&list.prefix) {
                        let record = toy_upload(upload);
                        let key = upload.key.clone();
                        entries.push(ListEntry::Item(ListedUpload { key, upload: record }));
                    }
                }
                Ok(Reply::Uploads(Page { entries, truncated: false }))
            }
            Request::ListParts(list) => {
                let upload = self.upload(list.upload)?;
                let part = |(number, (etag, bytes)): (&u16, &(ETag, Bytes))| PartRecord {
                    number: *number,
                    modified: WallTime::UNIX_EPOCH,
                    length: bytes.len() as u64,
                    etag: *etag,
                    checksum: None,
                    blob: None,
                };
                let entries = upload.parts.iter().map(part).collect();
                let page = Page { entries, truncated: false };
                Ok(Reply::Parts { upload: Box::new(toy_upload(upload)), page })
            }
            other => unreachable!("{other:?} is answered elsewhere"),
        }
    }
}

fn toy_upload(upload: &ToyUpload) -> UploadRecord {
    UploadRecord {
        order: upload.order,
        initiated: WallTime::UNIX_EPOCH,
        owner: Owner::default(),
        attributes: upload.attributes.clone(),
        tags: Vec::new(),
        checksum: None,
    }
}

fn toy_bucket(name: &BucketName, owner: &Owner) -> BucketRecord {
    BucketRecord {
        id: BucketId(1),
        name: name.clone(),
        owner: owner.clone(),
        created: WallTime::UNIX_EPOCH,
        intent: 0,
    }
}
