//! What clients ask of a gateway, and what it answers. Checked values only: names are parsed,
//! limits hold. The edge (crate `trine-s3`) makes them from HTTP.

use core::fmt;

use bytes::Bytes;

use crate::cluster::Node;
use crate::directory::Directory;
use crate::ids::{ChunkId, Order, StoreId, TenantId, ZoneId};
use crate::level::Level;
use crate::object::{
    Attributes, BucketName, BucketRecord, ChecksumAlgorithm, ETag, ObjectChecksum, ObjectKey,
    ObjectRecord, Owner, PartRecord, TagMatch, UploadRecord, WriteConditions,
};
use crate::time::WallTime;

/// A bucket as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketPath {
    /// Whose bucket.
    pub tenant: TenantId,
    /// Its name.
    pub name: BucketName,
}

/// An object as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectPath {
    /// The bucket.
    pub bucket: BucketPath,
    /// The key.
    pub key: ObjectKey,
}

/// Which bytes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `bytes=first-last` or `bytes=first-`.
    From {
        /// First byte.
        first: u64,
        /// Last byte, inclusive.
        last: Option<u64>,
    },
    /// `bytes=-length`.
    Suffix {
        /// How many.
        length: u64,
    },
}

/// Conditions of a read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadConditions {
    /// `If-Match`.
    pub if_match: Option<TagMatch>,
    /// `If-None-Match`.
    pub if_none_match: Option<TagMatch>,
    /// `If-Modified-Since`, whole seconds.
    pub if_modified_since: Option<WallTime>,
    /// `If-Unmodified-Since`, whole seconds.
    pub if_unmodified_since: Option<WallTime>,
}

/// GetObject and HeadObject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetRequest {
    /// Which object.
    pub path: ObjectPath,
    /// Which bytes.
    pub range: Option<ByteRange>,
    /// Which part (not together with `range`).
    pub part_number: Option<u16>,
    /// When.
    pub conditions: ReadConditions,
}

/// PutObject. The body follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutRequest {
    /// Which object.
    pub path: ObjectPath,
    /// Whose it will be.
    pub owner: Owner,
    /// What the client says about it.
    pub attributes: Attributes,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// When.
    pub conditions: WriteConditions,
    /// Bytes of the body, if known beforehand.
    pub length: Option<u64>,
}

/// UploadPart. The body follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRequest {
    /// Which object.
    pub path: ObjectPath,
    /// Which upload.
    pub upload: Order,
    /// 1 to [`PARTS_MAX`](crate::object::PARTS_MAX).
    pub number: u16,
    /// Bytes of the body, if known beforehand.
    pub length: Option<u64>,
}

/// CopyObject and UploadPartCopy: bytes of one object become another's, or a part.
///
/// The edge is told with [`Copying`] how the copy stands; if it is asked to hash, the bytes come to it as a
/// body, and it answers with their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyRequest {
    /// Whose bytes.
    pub source: ObjectPath,
    /// When. Whatever does not hold is [`ApiError::PreconditionFailed`].
    pub source_conditions: ReadConditions,
    /// Where they go.
    pub path: ObjectPath,
    /// What they become.
    pub purpose: CopyPurpose,
}

/// What a copy's bytes become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyPurpose {
    /// CopyObject: an object.
    Object(Box<CopiedObject>),
    /// UploadPartCopy: a part of an upload.
    Part {
        /// Which upload.
        upload: Order,
        /// 1 to [`PARTS_MAX`](crate::object::PARTS_MAX).
        number: u16,
        /// First and last byte, both included; `None`: all.
        range: Option<(u64, u64)>,
    },
}

/// What a CopyObject says of the new object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedObject {
    /// Whose it will be.
    pub owner: Owner,
    /// What the client says about it; `None`: the source's, but for the redirect.
    pub attributes: Option<Attributes>,
    /// `x-amz-website-redirect-location`, which is never copied.
    pub website_redirect: Option<String>,
    /// Tags; `None`: the source's.
    pub tags: Option<Vec<(String, String)>>,
    /// Additional checksum; `None`: of the source's algorithm, if it has one.
    pub checksum: Option<ChecksumAlgorithm>,
    /// When.
    pub conditions: WriteConditions,
}

/// How a copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// The source is chosen, and nothing that is known speaks against the copy. What follows may take
    /// long.
    Begun {
        /// Bytes that are copied.
        length: u64,
        /// Whether the edge is to hash them: they follow as `BodyOut`, all of them, and their digest is to
        /// come as `BodyEnd`.
        hash: Option<CopyHash>,
    },
    /// It goes on. Said every few seconds, so that the client can be told.
    Alive,
}

/// What the edge computes over the bytes of a copy, besides their MD5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyHash {
    /// The additional checksum.
    pub checksum: Option<ChecksumAlgorithm>,
}

/// ListObjects (both versions; the edge knows the difference).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// Which bucket.
    pub bucket: BucketPath,
    /// Only keys that begin so.
    pub prefix: String,
    /// Roll up keys that share what comes before its next occurrence behind the prefix.
    pub delimiter: Option<String>,
    /// Only what comes after this marker. One that is itself a common prefix (it ends with the first
    /// delimiter behind `prefix`) stands for all keys under it: the listing goes on behind them. Any
    /// other is a key, there or not: the listing goes on behind it, and if keys that follow it share a
    /// common prefix with it, that prefix is listed.
    pub after: Option<String>,
    /// At most so many keys and common prefixes, up to 1,000.
    pub keys_max: u32,
}

/// ListMultipartUploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListUploadsRequest {
    /// Which bucket.
    pub bucket: BucketPath,
    /// Only keys that begin so.
    pub prefix: String,
    /// Roll up as for [`ListRequest`].
    pub delimiter: Option<String>,
    /// Only uploads of keys after this one...
    pub key_after: Option<String>,
    /// ...and of that very key those after this upload.
    pub upload_after: Option<Order>,
    /// At most so many, up to 1,000.
    pub uploads_max: u32,
}

/// ListParts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPartsRequest {
    /// Which object.
    pub path: ObjectPath,
    /// Which upload.
    pub upload: Order,
    /// Only parts after this number.
    pub after: u16,
    /// At most so many, up to 1,000.
    pub parts_max: u32,
}

/// A client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// CreateBucket → [`Reply::Done`].
    CreateBucket {
        /// Which.
        bucket: BucketPath,
        /// Whose it will be.
        owner: Owner,
    },
    /// DeleteBucket → [`Reply::Done`].
    DeleteBucket {
        /// Which.
        bucket: BucketPath,
    },
    /// HeadBucket → [`Reply::Bucket`].
    HeadBucket {
        /// Which.
        bucket: BucketPath,
    },
    /// ListBuckets → [`Reply::Buckets`], by name.
    ListBuckets {
        /// Whose.
        tenant: TenantId,
    },
    /// PutObject → [`Reply::Put`].
    Put(PutRequest),
    /// GetObject → [`Reply::Object`] and a body.
    Get(GetRequest),
    /// HeadObject → [`Reply::Object`] and no body.
    Head(GetRequest),
    /// DeleteObject → [`Reply::Done`].
    Delete {
        /// Which.
        path: ObjectPath,
        /// When.
        conditions: WriteConditions,
    },
    /// DeleteObjects → [`Reply::Deleted`]: one result for each key, in order.
    DeleteMany {
        /// Which bucket.
        bucket: BucketPath,
        /// Up to 1,000 keys.
        keys: Vec<ObjectKey>,
    },
    /// ListObjects and ListObjectsV2 → [`Reply::List`].
    List(ListRequest),
    /// CopyObject and UploadPartCopy → [`Reply::Copied`].
    Copy(CopyRequest),
    /// CreateMultipartUpload → [`Reply::Upload`].
    CreateUpload {
        /// Which object it will be.
        path: ObjectPath,
        /// Whose it will be.
        owner: Owner,
        /// What the client says about it.
        attributes: Attributes,
        /// Tags.
        tags: Vec<(String, String)>,
        /// Additional checksum of its parts; whether the object's covers all bytes.
        checksum: Option<(ChecksumAlgorithm, bool)>,
    },
    /// UploadPart → [`Reply::Put`].
    UploadPart(PartRequest),
    /// CompleteMultipartUpload → [`Reply::Put`].
    CompleteUpload {
        /// Which object.
        path: ObjectPath,
        /// Which upload.
        upload: Order,
        /// Numbers and tags, as the client sent them (the order is checked at the commit).
        parts: Vec<(u16, ETag)>,
        /// When.
        conditions: WriteConditions,
    },
    /// AbortMultipartUpload → [`Reply::Done`].
    AbortUpload {
        /// Which object.
        path: ObjectPath,
        /// Which upload.
        upload: Order,
    },
    /// ListMultipartUploads → [`Reply::Uploads`].
    ListUploads(ListUploadsRequest),
    /// ListParts → [`Reply::Parts`].
    ListParts(ListPartsRequest),
    /// Of operators: fill the slot of a store with a new one → [`Reply::Done`]. Asked again, it
    /// changes nothing.
    ReplaceStore {
        /// Which is retired, for ever.
        old: StoreId,
        /// A store that never was in the cluster map.
        new: StoreId,
    },
    /// Of operators: give a zone one more slot, and the store that fills it → [`Reply::Done`]. Asked
    /// again, it changes nothing.
    AddStore {
        /// Which zone.
        zone: ZoneId,
        /// A store that never was in the cluster map.
        store: StoreId,
        /// Its share, relative to others of its zone: 1 to [`WEIGHT_MAX`](crate::cluster::WEIGHT_MAX).
        weight: u32,
    },
    /// Of operators: change the share of a store; 0 drains it, and it gives its vote away → [`Reply::Done`]. Asked again, it changes
    /// nothing.
    SetWeight {
        /// Which store.
        store: StoreId,
        /// Its share, at most [`WEIGHT_MAX`](crate::cluster::WEIGHT_MAX).
        weight: u32,
    },
    /// Of operators: a node has joined, moved, or left → [`Reply::Done`]. Asked again, it changes nothing.
    SetNode {
        /// All that is to be known of it.
        node: Node,
    },
    /// Of operators: raise the cluster's feature level → [`Reply::Done`]. Refused unless all stores and gateways speak
    /// it. Asked again, it changes nothing.
    RaiseLevel {
        /// To which.
        to: Level,
    },
    /// Of operators: the cluster map and the live sessions → [`Reply::Directory`].
    Directory,
    /// Of operators: read and verify every copy of every chunk of a page of objects, and compare the
    /// copies → [`Reply::Audit`]. A page ends, within an object if need be, when it has so many chunks that
    /// who asked should hear.
    Audit {
        /// Where to go on: [`AuditPage::next`] of the page before.
        after: Option<Bytes>,
        /// At most so many objects and parts; a page has 256 at most.
        limit: u32,
    },
}

impl Request {
    /// Whose request it is; `None` for those of operators.
    pub fn tenant(&self) -> Option<TenantId> {
        let bucket = match self {
            Self::ListBuckets { tenant } => return Some(*tenant),
            Self::ReplaceStore { .. }
            | Self::AddStore { .. }
            | Self::SetWeight { .. }
            | Self::SetNode { .. }
            | Self::RaiseLevel { .. }
            | Self::Directory
            | Self::Audit { .. } => return None,
            Self::CreateBucket { bucket, .. }
            | Self::DeleteBucket { bucket }
            | Self::HeadBucket { bucket }
            | Self::DeleteMany { bucket, .. } => bucket,
            Self::Put(PutRequest { path, .. })
            | Self::Get(GetRequest { path, .. })
            | Self::Head(GetRequest { path, .. })
            | Self::UploadPart(PartRequest { path, .. })
            | Self::ListParts(ListPartsRequest { path, .. })
            | Self::Copy(CopyRequest { path, .. })
            | Self::Delete { path, .. }
            | Self::CreateUpload { path, .. }
            | Self::CompleteUpload { path, .. }
            | Self::AbortUpload { path, .. } => &path.bucket,
            Self::List(request) => &request.bucket,
            Self::ListUploads(request) => &request.bucket,
        };
        Some(bucket.tenant)
    }
}

/// What an audit found on one page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// Objects, and parts of uploads under way, that were begun on this page.
    pub objects: u64,
    /// Chunks of them, and of the one that the page before had begun.
    pub chunks: u64,
    /// Copies that verified and agree with the others.
    pub copies_good: u64,
    /// Copies that do not.
    pub bad: Vec<AuditFinding>,
    /// Stores that did not answer; what they have is not known.
    pub unreachable: Vec<StoreId>,
    /// Where to go on; `None` at the end.
    pub next: Option<Bytes>,
}

/// A copy that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFinding {
    /// Bucket and key, and the number of a part of an upload under way.
    pub key: String,
    /// Which chunk.
    pub chunk: ChunkId,
    /// Whose copy.
    pub store: StoreId,
    /// What is wrong.
    pub error: AuditError,
}

/// What is wrong with a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditError {
    /// It is not there.
    Missing,
    /// It does not verify.
    Damaged,
    /// The disk failed to read it.
    Unreadable,
    /// The store refuses to check it.
    Refused,
    /// It has another length than the object's record says.
    Length {
        /// Bytes that it has.
        found: u64,
        /// Bytes that it must have.
        expected: u64,
    },
    /// It verifies and yet differs from other copies.
    Differs,
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Damaged => f.write_str("damaged: its blocks do not match their checksums"),
            Self::Unreadable => f.write_str("the disk failed to read it"),
            Self::Refused => f.write_str("the store refused to check it"),
            Self::Length { found, expected } => {
                write!(f, "it has {found} bytes, {expected} were expected")
            }
            Self::Differs => f.write_str("it verifies, and differs from other copies"),
        }
    }
}

/// What the edge computed over a verified body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyDigest {
    /// MD5 of the bytes.
    pub md5: [u8; 16],
    /// The additional checksum that the client sent and the edge verified.
    pub checksum: Option<ObjectChecksum>,
}

/// One line of a listing of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Key.
    pub key: ObjectKey,
    /// Last-Modified.
    pub modified: WallTime,
    /// Entity tag.
    pub etag: ETag,
    /// Bytes.
    pub length: u64,
    /// Whose it is.
    pub owner: Owner,
    /// 0 is STANDARD.
    pub storage_class: u8,
    /// The algorithm of the additional checksum, and whether it covers the whole object.
    pub checksum: Option<(ChecksumAlgorithm, bool)>,
}

/// A key or a common prefix; both count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListEntry<T> {
    /// Something under a key.
    Item(T),
    /// A common prefix.
    Prefix(String),
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In key order.
    pub entries: Vec<T>,
    /// Whether more follows.
    pub truncated: bool,
}

/// One upload in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUpload {
    /// Key.
    pub key: ObjectKey,
    /// The upload.
    pub upload: UploadRecord,
}

/// A successful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done, and there is nothing to tell.
    Done,
    /// A bucket.
    Bucket(BucketRecord),
    /// Buckets, by name.
    Buckets(Vec<BucketRecord>),
    /// An object or part is stored.
    Put {
        /// Its tag.
        etag: ETag,
        /// Its additional checksum.
        checksum: Option<ObjectChecksum>,
    },
    /// An object or part is stored, with another object's bytes.
    Copied {
        /// Its tag.
        etag: ETag,
        /// Its additional checksum.
        checksum: Option<ObjectChecksum>,
        /// Last-Modified.
        modified: WallTime,
    },
    /// An object. For `Get`, `length` bytes of body follow.
    Object {
        /// Its record (`body` is of no use outside).
        record: Box<ObjectRecord>,
        /// First byte of what follows.
        first: u64,
        /// Bytes that follow.
        length: u64,
        /// Whether only a part of the object was asked for (206).
        partial: bool,
        /// The number of parts, when asked for by part number.
        parts: Option<u16>,
    },
    /// One result for each key.
    Deleted(Vec<Result<(), ApiError>>),
    /// Objects.
    List(Page<ListEntry<ListedObject>>),
    /// A new upload.
    Upload(Order),
    /// Uploads.
    Uploads(Page<ListEntry<ListedUpload>>),
    /// Parts, with the upload they belong to.
    Parts {
        /// The upload.
        upload: Box<UploadRecord>,
        /// Its parts.
        page: Page<PartRecord>,
    },
    /// The cluster map and the live sessions.
    Directory(Box<Directory>),
    /// What an audit found.
    Audit(Box<AuditPage>),
}

/// Why a request was not done. The edge maps each to S3's code, status and XML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// NoSuchBucket, 404.
    NoSuchBucket,
    /// NoSuchKey, 404.
    NoSuchKey,
    /// NoSuchUpload, 404.
    NoSuchUpload,
    /// BucketAlreadyOwnedByYou, 409.
    BucketAlreadyOwnedByYou,
    /// BucketAlreadyExists, 409.
    BucketAlreadyExists,
    /// BucketNotEmpty, 409.
    BucketNotEmpty,
    /// PreconditionFailed, 412.
    PreconditionFailed,
    /// 304, with what the client needs to know.
    NotModified {
        /// The object's tag.
        etag: ETag,
        /// Its Last-Modified.
        modified: WallTime,
    },
    /// InvalidRange, 416.
    InvalidRange {
        /// The object's bytes.
        length: u64,
    },
    /// InvalidPartNumber, 416.
    InvalidPartNumber,
    /// InvalidPart, 400.
    InvalidPart {
        /// The first part that is missing or has another tag.
        number: u16,
    },
    /// InvalidPartOrder, 400.
    InvalidPartOrder,
    /// EntityTooSmall, 400.
    EntityTooSmall {
        /// The part.
        number: u16,
        /// Its bytes.
        length: u64,
    },
    /// EntityTooLarge, 400.
    EntityTooLarge,
    /// InvalidArgument, 400.
    InvalidArgument(String),
    /// IncompleteBody, 400: the body ended early.
    IncompleteBody,
    /// SlowDown, 503: over a limit; try again later. Nothing was done.
    SlowDown(String),
    /// ServiceUnavailable, 503: not enough zones answer. It may have been done.
    Unavailable(String),
    /// InsufficientStorage, 507: the disks are full. Nothing was done.
    StorageFull(String),
    /// InternalError, 500.
    Internal(String),
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchBucket => f.write_str("the bucket does not exist"),
            Self::NoSuchKey => f.write_str("the key does not exist"),
            Self::NoSuchUpload => {
                f.write_str("the upload does not exist: it was completed, aborted or never begun")
            }
            Self::BucketAlreadyOwnedByYou => f.write_str("you own this bucket already"),
            Self::BucketAlreadyExists => f.write_str("the bucket name is taken"),
            Self::BucketNotEmpty => f.write_str("the bucket is not empty"),
            Self::PreconditionFailed => f.write_str("a precondition does not hold"),
            Self::NotModified { .. } => f.write_str("not modified"),
            Self::InvalidRange { length } => {
                write!(f, "the range begins behind the object's {length} bytes")
            }
            Self::InvalidPartNumber => f.write_str("the object has no such part"),
            Self::InvalidPart { number } => {
                write!(f, "part {number} was not uploaded or has another tag")
            }
            Self::InvalidPartOrder => f.write_str("parts are not in ascending order"),
            Self::EntityTooSmall { number, length } => {
                write!(f, "part {number} has {length} bytes, and only the last may be under 5 MiB")
            }
            Self::EntityTooLarge => f.write_str("the body is over 5 GiB"),
            Self::InvalidArgument(text)
            | Self::SlowDown(text)
            | Self::Unavailable(text)
            | Self::StorageFull(text)
            | Self::Internal(text) => f.write_str(text),
            Self::IncompleteBody => f.write_str("the body ended early"),
        }
    }
}

impl core::error::Error for ApiError {}
