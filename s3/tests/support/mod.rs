//! A gateway in memory: speaks the front's protocol over a map, with a small credit, so that the
//! HTTP side can be tested (and tried with real clients) without a cluster. It keeps nothing.

#![allow(
    clippy::unwrap_used,
    clippy::large_enum_variant,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "test support, shared by targets that each use a part of it"
)]

pub mod client;
pub mod pieces;
pub mod signing;

mod copies;

use std::collections::BTreeMap;

use bytes::Bytes;
use md5::{Digest, Md5};
use tokio::sync::mpsc;
use trine_core::effects::GatewayEvent;
use trine_core::ids::{BucketId, LogIndex, Order, RequestId};
use trine_core::object::{
    BucketName, BucketRecord, ETag, ObjectKey, ObjectRecord, PART_BYTES_MIN, PartRecord, TagMatch,
    UploadRecord, WriteConditions,
};
use trine_core::request::{
    ApiError, BodyDigest, ByteRange, GetRequest, ListEntry, ListRequest, ListedObject,
    ListedUpload, Page, PutRequest, Reply, Request,
};
use trine_core::time::WallTime;
use trine_s3::front::{FrontCall, FrontReply};

/// What is granted at a time: small, so that every body of some size needs several grants.
const CREDIT_BYTES: u64 = 100_000;
/// Piece size of bodies that go out.
const PIECE_BYTES: usize = 65_536;
/// Pieces that go out before the client has taken any.
const WINDOW_BYTES: usize = 1 << 20;

/// Serve calls until every front is dropped.
pub async fn run(mut calls: mpsc::UnboundedReceiver<FrontCall>) {
    let mut gateway = MemoryGateway::default();
    while let Some(call) = calls.recv().await {
        gateway.call(call);
    }
}

#[derive(Clone)]
struct Stored {
    record: ObjectRecord,
    bytes: Bytes,
}

struct Upload {
    record: UploadRecord,
    bucket: BucketName,
    key: ObjectKey,
    parts: BTreeMap<u16, (PartRecord, Bytes)>,
}

#[derive(Default)]
struct Bucket {
    record: Option<BucketRecord>,
    objects: BTreeMap<String, Stored>,
}

enum Open {
    Body { request: Request, bytes: Vec<u8>, replies: mpsc::UnboundedSender<FrontReply> },
    Copy(copies::Copy),
    Out { rest: Bytes, window: usize, replies: mpsc::UnboundedSender<FrontReply> },
}

/// The gateway.
#[derive(Default)]
pub struct MemoryGateway {
    buckets: BTreeMap<BucketName, Bucket>,
    uploads: BTreeMap<Order, Upload>,
    open: BTreeMap<RequestId, Open>,
    next: u64,
}

impl MemoryGateway {
    /// One call.
    pub fn call(&mut self, call: FrontCall) {
        match call {
            FrontCall::Open { id, request, replies } => self.begin(id, request, replies),
            FrontCall::Event(GatewayEvent::Body { id, bytes }) => {
                if let Some(Open::Body { bytes: got, replies, .. }) = self.open.get_mut(&id) {
                    got.extend_from_slice(&bytes);
                    let _ = replies.send(FrontReply::NeedBody(bytes.len() as u64));
                }
            }
            FrontCall::Event(GatewayEvent::BodyEnd { id, digest }) => match self.open.remove(&id) {
                Some(Open::Body { request, bytes, replies }) => {
                    let result = self.store(request, bytes.into(), digest);
                    let _ = replies.send(FrontReply::Reply(result));
                }
                Some(Open::Copy(copy)) => self.end_copy(copy, digest),
                Some(Open::Out { .. }) => panic!("no body ends here"),
                // Refused meanwhile: requests that are over are not told, as in the real gateway.
                None => {}
            },
            FrontCall::Event(GatewayEvent::BodyTaken { id, len }) => {
                match self.open.get_mut(&id) {
                    Some(Open::Out { window, .. }) => *window += usize::try_from(len).unwrap(),
                    Some(Open::Copy(copy)) => copy.more(len),
                    _ => {}
                }
                self.pump(id);
            }
            FrontCall::Event(GatewayEvent::Cancel { id }) => {
                self.open.remove(&id);
            }
            FrontCall::Event(other) => panic!("no such event from a front: {other:?}"),
        }
    }

    fn tick(&mut self) -> Order {
        self.next += 1;
        Order { index: LogIndex(self.next), position: 0 }
    }

    fn now(&self) -> WallTime {
        WallTime::from_millis(1_700_000_000_000 + self.next * 1000)
    }

    fn begin(
        &mut self,
        id: RequestId,
        request: Request,
        replies: mpsc::UnboundedSender<FrontReply>,
    ) {
        let refused = match &request {
            Request::Put(put) => self.bucket(&put.path.bucket.name).err(),
            Request::Copy(_) => return self.begin_copy(id, request, replies),
            Request::UploadPart(part) => {
                (!self.uploads.contains_key(&part.upload)).then_some(ApiError::NoSuchUpload)
            }
            _ => {
                let body = match &request {
                    Request::Get(get) => self.find(get).ok(),
                    _ => None,
                };
                let result = self.answer(request);
                if let (Some((_, stored, range)), Ok(Reply::Object { .. })) = (body, &result) {
                    let rest = stored.bytes.slice(range);
                    let _ = replies.send(FrontReply::Reply(result));
                    self.open.insert(id, Open::Out { rest, window: WINDOW_BYTES, replies });
                    self.pump(id);
                } else {
                    let _ = replies.send(FrontReply::Reply(result));
                }
                return;
            }
        };
        if let Some(error) = refused {
            let _ = replies.send(FrontReply::Reply(Err(error)));
            return;
        }
        let _ = replies.send(FrontReply::NeedBody(CREDIT_BYTES));
        self.open.insert(id, Open::Body { request, bytes: Vec::new(), replies });
    }

    fn pump(&mut self, id: RequestId) {
        let Some(Open::Out { rest, window, replies }) = self.open.get_mut(&id) else { return };
        while !rest.is_empty() && *window > 0 {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES).min(*window));
            *window -= piece.len();
            let _ = replies.send(FrontReply::Body(piece));
        }
        if rest.is_empty() {
            let _ = replies.send(FrontReply::BodyEnd);
            self.open.remove(&id);
        }
    }

    fn bucket(&self, name: &BucketName) -> Result<&Bucket, ApiError> {
        self.buckets.get(name).ok_or(ApiError::NoSuchBucket)
    }

    fn bucket_mut(&mut self, name: &BucketName) -> Result<&mut Bucket, ApiError> {
        self.buckets.get_mut(name).ok_or(ApiError::NoSuchBucket)
    }

    fn upload(&mut self, upload: Order) -> Result<&mut Upload, ApiError> {
        self.uploads.get_mut(&upload).ok_or(ApiError::NoSuchUpload)
    }

    fn store(
        &mut self,
        request: Request,
        bytes: Bytes,
        digest: BodyDigest,
    ) -> Result<Reply, ApiError> {
        let order = self.tick();
        let modified = self.now();
        let etag = ETag { md5: digest.md5, parts: 0 };
        let length = bytes.len() as u64;
        match request {
            Request::Put(put) => {
                let record = record(order, modified, &put, etag, digest.clone(), length);
                self.check(&put.path.bucket.name, put.path.key.as_str(), &put.conditions)?;
                let bucket = self.bucket_mut(&put.path.bucket.name)?;
                bucket.objects.insert(put.path.key.as_str().to_owned(), Stored { record, bytes });
            }
            Request::UploadPart(part) => {
                let number = part.number;
                let checksum = digest.checksum.clone();
                let record = PartRecord { number, modified, length, etag, checksum, blob: None };
                self.upload(part.upload)?.parts.insert(number, (record, bytes));
            }
            other => panic!("no body belongs to {other:?}"),
        }
        Ok(Reply::Put { etag, checksum: digest.checksum })
    }

    fn check(
        &self,
        bucket: &BucketName,
        key: &str,
        when: &WriteConditions,
    ) -> Result<(), ApiError> {
        let found = self.bucket(bucket)?.objects.get(key).map(|stored| stored.record.etag);
        match (&when.if_match, found) {
            (Some(_), None) => return Err(ApiError::NoSuchKey),
            (Some(tags), Some(etag)) if !tags.matches(&etag) => {
                return Err(ApiError::PreconditionFailed);
            }
            _ => {}
        }
        match (&when.if_none_match, found) {
            (Some(TagMatch::Any), Some(_)) => Err(ApiError::PreconditionFailed),
            _ => Ok(()),
        }
    }

    fn find(&self, get: &GetRequest) -> Result<(bool, Stored, std::ops::Range<usize>), ApiError> {
        let bucket = self.bucket(&get.path.bucket.name)?;
        let stored = bucket.objects.get(get.path.key.as_str()).ok_or(ApiError::NoSuchKey)?;
        let record = &stored.record;
        if get.conditions.if_match.as_ref().is_some_and(|tags| !tags.matches(&record.etag)) {
            return Err(ApiError::PreconditionFailed);
        }
        let unmodified = get.conditions.if_unmodified_since;
        if get.conditions.if_match.is_none() && unmodified.is_some_and(|at| record.modified > at) {
            return Err(ApiError::PreconditionFailed);
        }
        let same = get.conditions.if_none_match.as_ref();
        let old = get.conditions.if_modified_since.filter(|_| same.is_none());
        if same.is_some_and(|tags| tags.matches(&record.etag))
            || old.is_some_and(|since| record.modified <= since)
        {
            return Err(ApiError::NotModified { etag: record.etag, modified: record.modified });
        }
        let length = record.length;
        let (partial, first, last) = match get.range {
            None => (false, 0, length),
            Some(ByteRange::From { first, last }) if first < length => {
                (true, first, last.map_or(length, |last| length.min(last.saturating_add(1))))
            }
            Some(ByteRange::Suffix { length: suffix }) if suffix > 0 && length > 0 => {
                (true, length.saturating_sub(suffix), length)
            }
            Some(_) => return Err(ApiError::InvalidRange { length }),
        };
        let range = usize::try_from(first).unwrap()..usize::try_from(last).unwrap();
        Ok((partial, stored.clone(), range))
    }

    fn answer(&mut self, request: Request) -> Result<Reply, ApiError> {
        let order = self.tick();
        let created = self.now();
        match request {
            Request::CreateBucket { bucket, owner } => {
                if self.buckets.contains_key(&bucket.name) {
                    return Err(ApiError::BucketAlreadyOwnedByYou);
                }
                let id = BucketId(order.index.0);
                let name = bucket.name.clone();
                let record = BucketRecord { id, name, created, owner, intent: 0 };
                let made = Bucket { record: Some(record), objects: BTreeMap::new() };
                self.buckets.insert(bucket.name, made);
                Ok(Reply::Done)
            }
            Request::DeleteBucket { bucket } => {
                if !self.bucket(&bucket.name)?.objects.is_empty() {
                    return Err(ApiError::BucketNotEmpty);
                }
                self.buckets.remove(&bucket.name);
                Ok(Reply::Done)
            }
            Request::HeadBucket { bucket } => {
                Ok(Reply::Bucket(self.bucket(&bucket.name)?.record.clone().unwrap()))
            }
            Request::ListBuckets { .. } => {
                let records = self.buckets.values().filter_map(|bucket| bucket.record.clone());
                Ok(Reply::Buckets(records.collect()))
            }
            Request::Get(get) | Request::Head(get) => {
                let (partial, stored, range) = self.find(&get)?;
                Ok(Reply::Object {
                    record: Box::new(stored.record),
                    first: range.start as u64,
                    length: range.len() as u64,
                    partial,
                    parts: None,
                })
            }
            Request::Delete { path, conditions } => {
                self.check(&path.bucket.name, path.key.as_str(), &conditions)?;
                self.bucket_mut(&path.bucket.name)?.objects.remove(path.key.as_str());
                Ok(Reply::Done)
            }
            Request::DeleteMany { bucket, keys } => {
                let bucket = self.bucket_mut(&bucket.name)?;
                let gone = keys.iter().map(|key| {
                    bucket.objects.remove(key.as_str());
                    Ok(())
                });
                Ok(Reply::Deleted(gone.collect()))
            }
            Request::List(list) => Ok(Reply::List(self.list(&list)?)),
            Request::CreateUpload { path, owner, attributes, tags, checksum } => {
                self.bucket(&path.bucket.name)?;
                let record =
                    UploadRecord { order, initiated: created, owner, attributes, tags, checksum };
                let (bucket, key) = (path.bucket.name, path.key);
                self.uploads.insert(order, Upload { record, bucket, key, parts: BTreeMap::new() });
                Ok(Reply::Upload(order))
            }
            Request::CompleteUpload { path, upload, parts, conditions } => {
                self.check(&path.bucket.name, path.key.as_str(), &conditions)?;
                self.complete(upload, &parts)
            }
            Request::AbortUpload { upload, .. } => {
                self.uploads.remove(&upload).map(|_| Reply::Done).ok_or(ApiError::NoSuchUpload)
            }
            Request::ListUploads(asked) => {
                self.bucket(&asked.bucket.name)?;
                let uploads = self.uploads.values().filter(|upload| {
                    upload.bucket == asked.bucket.name
                        && upload.key.as_str().starts_with(&asked.prefix)
                });
                let entries = uploads.map(|upload| {
                    ListEntry::Item(ListedUpload {
                        key: upload.key.clone(),
                        upload: upload.record.clone(),
                    })
                });
                Ok(Reply::Uploads(Page { entries: entries.collect(), truncated: false }))
            }
            Request::ListParts(asked) => {
                let upload = self.upload(asked.upload)?;
                let parts = upload.parts.values().map(|(part, _)| part.clone());
                let mut rest = parts.filter(|part| part.number > asked.after);
                let limit = usize::try_from(asked.parts_max).unwrap();
                let entries = rest.by_ref().take(limit).collect();
                let page = Page { entries, truncated: rest.next().is_some() };
                Ok(Reply::Parts { upload: Box::new(upload.record.clone()), page })
            }
            Request::Put(_) | Request::UploadPart(_) | Request::Copy(_) => panic!("has a body"),
            Request::ReplaceStore { .. }
            | Request::AddStore { .. }
            | Request::SetWeight { .. }
            | Request::SetNode { .. }
            | Request::RaiseLevel { .. }
            | Request::Directory
            | Request::Audit { .. } => {
                panic!("no S3 request is that")
            }
        }
    }

    fn complete(&mut self, upload: Order, parts: &[(u16, ETag)]) -> Result<Reply, ApiError> {
        let modified = self.now();
        let order = self.tick();
        let found = self.upload(upload)?;
        if !parts.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(ApiError::InvalidPartOrder);
        }
        let mut bytes = Vec::new();
        let mut hash = Md5::new();
        let mut joined = Vec::new();
        for (at, (number, etag)) in parts.iter().enumerate() {
            let part = found.parts.get(number).filter(|(part, _)| part.etag == *etag);
            let (record, body) = part.ok_or(ApiError::InvalidPart { number: *number })?;
            if at + 1 < parts.len() && record.length < PART_BYTES_MIN {
                return Err(ApiError::EntityTooSmall { number: *number, length: record.length });
            }
            hash.update(etag.md5);
            bytes.extend_from_slice(body);
            joined.push(record);
        }
        let count = u16::try_from(parts.len()).unwrap();
        let etag = ETag { md5: hash.finalize().into(), parts: count };
        let chosen = found.record.checksum;
        let checksum = chosen.and_then(|it| trine_core::checksum::of_parts(it, &joined));
        let digest = BodyDigest { md5: etag.md5, checksum: checksum.clone() };
        let upload = self.uploads.remove(&upload).ok_or(ApiError::NoSuchUpload)?;
        let put = PutRequest {
            path: trine_core::request::ObjectPath {
                bucket: trine_core::request::BucketPath {
                    tenant: upload.record.owner.tenant,
                    name: upload.bucket,
                },
                key: upload.key,
            },
            owner: upload.record.owner,
            attributes: upload.record.attributes,
            tags: upload.record.tags,
            conditions: WriteConditions::default(),
            length: None,
        };
        let length = bytes.len() as u64;
        let record = record(order, modified, &put, etag, digest, length);
        let bucket = self.bucket_mut(&put.path.bucket.name)?;
        let stored = Stored { record, bytes: bytes.into() };
        bucket.objects.insert(put.path.key.as_str().to_owned(), stored);
        Ok(Reply::Put { etag, checksum })
    }

    fn list(&self, list: &ListRequest) -> Result<Page<ListEntry<ListedObject>>, ApiError> {
        let bucket = self.bucket(&list.bucket.name)?;
        let mut entries: Vec<ListEntry<ListedObject>> = Vec::new();
        let limit = usize::try_from(list.keys_max).unwrap();
        for (key, stored) in &bucket.objects {
            let Some(rest) = key.strip_prefix(&list.prefix) else { continue };
            let rolled = list.delimiter.as_ref().and_then(|delimiter| {
                let at = rest.find(delimiter.as_str())?;
                Some(format!("{}{}", list.prefix, &rest[..at + delimiter.len()]))
            });
            let name = rolled.as_deref().unwrap_or(key);
            if list.after.as_deref().is_some_and(|after| name <= after) {
                continue;
            }
            let entry = match rolled {
                Some(prefix) => ListEntry::Prefix(prefix),
                None => ListEntry::Item(ListedObject {
                    key: ObjectKey::parse(key).unwrap(),
                    modified: stored.record.modified,
                    etag: stored.record.etag,
                    length: stored.record.length,
                    owner: stored.record.owner.clone(),
                    storage_class: 0,
                    checksum: None,
                }),
            };
            if entries.last() == Some(&entry) {
                continue;
            }
            if entries.len() == limit {
                return Ok(Page { entries, truncated: true });
            }
            entries.push(entry);
        }
        Ok(Page { entries, truncated: false })
    }
}

fn record(
    order: Order,
    modified: WallTime,
    put: &PutRequest,
    etag: ETag,
    digest: BodyDigest,
    length: u64,
) -> ObjectRecord {
    ObjectRecord {
        order,
        null_version: true,
        delete_marker: false,
        modified,
        length,
        etag,
        checksum: digest.checksum,
        owner: put.owner.clone(),
        grants: Vec::new(),
        storage_class: 0,
        encryption: Bytes::new(),
        tags: put.tags.clone(),
        lock: trine_core::object::Lock::default(),
        attributes: put.attributes.clone(),
        body: trine_core::object::Body::Inline,
    }
}
