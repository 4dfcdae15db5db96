//! What a range is asked: commands, which go through its log, and reads, which do not.

use bytes::Bytes;

use crate::cluster::{ClusterMap, Node};
use crate::directory::Directory;
use crate::ids::{
    BlobId, BucketId, CommitSequence, GatewayId, MapEpoch, Order, SessionId, StoreId, TenantId,
    ZoneId,
};
use crate::level::{self, Level, Levels};
use crate::object::{
    Attributes, BlobRef, BucketName, BucketRecord, ChecksumAlgorithm, ETag, NewBody, NewObject,
    ObjectChecksum, ObjectKey, ObjectRecord, OwnedBlob, Owner, PartRecord, Target, UploadRecord,
    WriteConditions,
};
use crate::request::{ListEntry, ListedObject, ListedUpload};
use crate::time::WallTime;

/// A command as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Who submits it; decides whether it takes effect.
    pub origin: Origin,
    /// What to do.
    pub body: CommandBody,
}

/// Who submits a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The range's leader itself; the command is idempotent by what it says.
    System,
    /// A session, which may submit the same command again until it has the answer.
    Session {
        /// Which.
        session: SessionId,
        /// Names the command in the session. It takes effect once.
        sequence: CommitSequence,
        /// The lowest sequence that has no answer yet: outcomes below it are dropped, and commands
        /// below it refused.
        watermark: CommitSequence,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandBody {
    /// Open a session for a gateway that does not say which feature levels it speaks, and fence the gateway's
    /// older ones. Only older builds ask for it. → `SessionOpened`
    OpenSession {
        /// Which gateway.
        gateway: GatewayId,
        /// Made by the gateway for this attempt: the same nonce gets the same session.
        nonce: u128,
    },
    /// The same, of a gateway that says which feature levels it speaks; the cluster's must be one of them. →
    /// `SessionOpened`
    OpenSpeaking {
        /// Which gateway.
        gateway: GatewayId,
        /// Made by the gateway for this attempt: the same nonce gets the same session.
        nonce: u128,
        /// What it speaks.
        levels: Levels,
    },
    /// Fence a session: nothing of it takes effect after this. → `Done`
    FenceSession {
        /// Which.
        session: SessionId,
    },
    /// → `Done`
    CreateBucket {
        /// Whose.
        tenant: TenantId,
        /// Its name.
        name: BucketName,
        /// The owner.
        owner: Owner,
    },
    /// Refused unless the bucket holds no object and no upload. → `Done`
    DeleteBucket {
        /// Whose.
        tenant: TenantId,
        /// Its name.
        name: BucketName,
    },
    /// Put a version. → `Put`
    PutObject {
        /// Where.
        target: Target,
        /// When.
        conditions: WriteConditions,
        /// What.
        object: Box<NewObject>,
    },
    /// Put a version whose bytes are another's; apart from its outcome it is `PutObject`. → `Copied`
    CopyObject {
        /// Where.
        target: Target,
        /// When.
        conditions: WriteConditions,
        /// What.
        object: Box<NewObject>,
    },
    /// Put the current version again, with the same bytes, and other words about them. → `Copied`
    ChangeObject {
        /// Which.
        target: Target,
        /// The version that is meant. Another one stays as it is.
        version: Order,
        /// When.
        conditions: WriteConditions,
        /// The owner.
        owner: Owner,
        /// All of them.
        attributes: Attributes,
        /// All of them.
        tags: Vec<(String, String)>,
    },
    /// Delete an object; a missing one is no error. → `Done`
    DeleteObject {
        /// Which.
        target: Target,
        /// When.
        conditions: WriteConditions,
    },
    /// Begin a multipart upload. → `Upload`
    CreateUpload {
        /// Where.
        target: Target,
        /// The owner.
        owner: Owner,
        /// Fixed now.
        attributes: Attributes,
        /// Fixed now.
        tags: Vec<(String, String)>,
        /// Additional checksum of its parts; whether the object's covers all bytes.
        checksum: Option<(ChecksumAlgorithm, bool)>,
    },
    /// Put a part; the last commit of a number wins. → `Put`
    PutPart {
        /// Where.
        target: Target,
        /// Which upload.
        upload: Order,
        /// 1 to 10,000.
        number: u16,
        /// What.
        part: Box<NewPart>,
    },
    /// Put a part whose bytes are an object's; apart from its outcome it is `PutPart`. → `Copied`
    CopyPart {
        /// Where.
        target: Target,
        /// Which upload.
        upload: Order,
        /// 1 to 10,000.
        number: u16,
        /// What.
        part: Box<NewPart>,
    },
    /// Make the object of an upload. Asked again later, it answers the same. → `Put`
    CompleteUpload {
        /// Where.
        target: Target,
        /// Which upload.
        upload: Order,
        /// Numbers and tags, as the client sent them.
        parts: Vec<(u16, ETag)>,
        /// When.
        conditions: WriteConditions,
    },
    /// Drop an upload and its parts. → `Done`
    AbortUpload {
        /// Where.
        target: Target,
        /// Which upload.
        upload: Order,
    },
    /// Write down the cluster map that the cluster was configured with. What is there already stays.
    /// → `Done`
    FoundCluster {
        /// The first map.
        map: Box<ClusterMap>,
    },
    /// Forget that these blobs are dead: nothing is left of them on any store. → `Done`
    ForgetGarbage {
        /// Which.
        blobs: Vec<OwnedBlob>,
    },
    /// Fill the slot of one store with another, which takes over its place among the voters. Asked
    /// again, it changes nothing. → `Done`
    ReplaceStore {
        /// Which is retired, for ever.
        old: StoreId,
        /// A store that is not in the map and never was.
        new: StoreId,
    },
    /// Give a zone one more slot, and the store that fills it. What moves to it stays where it is too,
    /// until the map is proven. Asked again, it changes nothing. → `Done`
    AddStore {
        /// Which zone.
        zone: ZoneId,
        /// A store that is not in the map and never was.
        store: StoreId,
        /// Its share, relative to others of its zone: 1 to [`WEIGHT_MAX`](crate::cluster::WEIGHT_MAX).
        weight: u32,
    },
    /// Change the share of a store. 0 drains it: it takes nothing, what it has moves to others of its
    /// zone, and so does its vote. Asked again, it changes nothing. → `Done`
    SetWeight {
        /// Which store.
        store: StoreId,
        /// Its share, at most [`WEIGHT_MAX`](crate::cluster::WEIGHT_MAX).
        weight: u32,
    },
    /// A node has joined, moved to other addresses, or left. The map's epoch stays. Asked again, it changes
    /// nothing. → `Done`
    SetNode {
        /// All that is to be known of it.
        node: Node,
    },
    /// All owners by the map of an epoch have what there was when it came: layouts before it count no
    /// more. → `Done`
    ProveMap {
        /// Which epoch; the present one or an older.
        epoch: MapEpoch,
    },
    /// Raise the cluster's feature level. Refused unless all stores and gateways have said that they speak
    /// it. Asked again, it changes nothing. → `Done`
    RaiseLevel {
        /// To which.
        to: Level,
        /// The stores that have told the leader that they speak it: the leader writes them here.
        spoken: Spoken,
    },
}

/// Stores that have told a leader that they speak a feature level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spoken(pub Vec<StoreId>);

impl CommandBody {
    /// The feature level that the cluster must have reached before anybody proposes it.
    pub fn gate(&self) -> Level {
        match self {
            Self::SetNode { .. } => level::NODES,
            _ => level::FIRST,
        }
    }

    /// The feature level that a build must speak to know what it means. To raise the level means something at every
    /// level: it may be refused.
    pub fn level(&self) -> Level {
        match self {
            Self::FoundCluster { map } => map.level,
            _ => self.gate(),
        }
    }

    /// The blob that it refers to for the first time, if there is one.
    pub fn new_blob(&self) -> Option<BlobId> {
        let body = match self {
            Self::PutObject { object, .. } | Self::CopyObject { object, .. } => &object.body,
            Self::PutPart { part, .. } | Self::CopyPart { part, .. } => &part.body,
            _ => return None,
        };
        match body {
            NewBody::Inline(_) => None,
            NewBody::Blob(blob) => Some(blob.blob),
        }
    }

    /// About how many bytes it takes in a log entry, and in memory until then.
    pub fn weight(&self) -> u64 {
        /// What keys, names and attributes come to, roughly.
        const FRAME: u64 = 512;
        match self {
            Self::PutObject { object, .. } | Self::CopyObject { object, .. } => {
                match &object.body {
                    NewBody::Inline(bytes) => FRAME + bytes.len() as u64,
                    NewBody::Blob(_) => FRAME,
                }
            }
            Self::CompleteUpload { parts, .. } => FRAME + parts.len() as u64 * 24,
            Self::ForgetGarbage { blobs } => {
                let keys = blobs.iter().map(|blob| 48 + blob.owner.key.as_str().len() as u64);
                FRAME + keys.sum::<u64>()
            }
            _ => FRAME,
        }
    }
}

/// What a command says of a new part. Parts are never inline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPart {
    /// Bytes.
    pub length: u64,
    /// Entity tag.
    pub etag: ETag,
    /// Additional checksum.
    pub checksum: Option<ObjectChecksum>,
    /// `Inline` only for an empty part.
    pub body: NewBody,
}

/// What came of a command. Kept until its session has the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The gateway's session.
    SessionOpened(SessionId),
    /// An object or part is stored.
    Put {
        /// Its tag.
        etag: ETag,
        /// Its additional checksum.
        checksum: Option<ObjectChecksum>,
        /// When.
        order: Order,
    },
    /// An object or part is stored, and its client is told when.
    Copied {
        /// Its tag.
        etag: ETag,
        /// Its additional checksum.
        checksum: Option<ObjectChecksum>,
        /// The range clock.
        modified: WallTime,
    },
    /// An upload has begun.
    Upload(Order),
    /// It changed nothing.
    Rejected(Rejection),
}

impl Outcome {
    /// The same, with its time, if it is `Put`.
    pub(crate) fn dated(self, modified: WallTime) -> Self {
        match self {
            Self::Put { etag, checksum, .. } => Self::Copied { etag, checksum, modified },
            other => other,
        }
    }
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The session is fenced, or was never opened.
    Fenced,
    /// The command's sequence is below its session's watermark: it was answered before.
    Answered,
    /// The bucket id has no settings here: it was deleted. The name may have been made anew.
    NoSuchBucket,
    /// The condition needs an object, and there is none.
    NoSuchKey,
    /// No such upload of this key.
    NoSuchUpload,
    /// By the same owner.
    BucketAlreadyOwnedByYou,
    /// By another owner.
    BucketAlreadyExists,
    /// It has objects or uploads.
    BucketNotEmpty,
    /// A condition does not hold.
    PreconditionFailed,
    /// Missing, or with another tag.
    InvalidPart {
        /// The first such.
        number: u16,
    },
    /// Not ascending.
    InvalidPartOrder,
    /// Not the last, and under 5 MiB.
    EntityTooSmall {
        /// The part.
        number: u16,
        /// Its bytes.
        length: u64,
    },
    /// Placed under a map below the range's floor, or not acknowledged by stores of two zones of the
    /// present one: verify the chunks again under that.
    StaleEpoch,
    /// A field is out of its bounds; a gateway never sends that.
    Malformed,
    /// The store to be replaced fills no slot.
    NoSuchStore,
    /// The store to be replaced was replaced by another one, or the new one was itself replaced.
    StoreRetired,
    /// The new store fills a slot already.
    StoreInUse,
    /// The map has no such zone.
    NoSuchZone,
    /// The weight is out of its bounds.
    BadWeight,
    /// No other store of the zone has a weight: its data could go nowhere.
    LastOfZone,
    /// The zone has as many slots as it may ever have.
    TooManySlots,
    /// Another node has this name, or this id in another zone or with another fate.
    NodeInUse,
    /// The map names as many nodes as it may.
    TooManyNodes,
    /// As many changes as may be under way are: their data is still moving.
    Unproven,
    /// The object is another version than the command means, or gone.
    OtherVersion,
    /// The cluster is at a higher level already, and levels never go down.
    LevelGoesDown {
        /// Where it is.
        level: Level,
    },
    /// A store of the map has not told the leader that it speaks the level.
    LevelNotSpoken {
        /// The first such.
        store: StoreId,
    },
    /// A gateway with a live session does not speak the level.
    LevelNotSpokenBy {
        /// The first such.
        gateway: GatewayId,
    },
    /// The gateway does not speak the level that the cluster is at.
    LevelForeign {
        /// Where it is.
        level: Level,
    },
}

/// A read, answered by the leader after a read-index round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// → [`ReadReply::Bucket`]
    Bucket {
        /// Whose.
        tenant: TenantId,
        /// Its name.
        name: BucketName,
    },
    /// → [`ReadReply::Buckets`]
    Buckets {
        /// Whose.
        tenant: TenantId,
        /// Only names after this one.
        after: Option<BucketName>,
        /// At most so many.
        limit: u32,
    },
    /// The current version. → [`ReadReply::Object`]
    Object {
        /// Which.
        target: Target,
        /// Whether an inline body is wanted too.
        with_body: bool,
    },
    /// Current versions in key order. → [`ReadReply::Scan`]
    Scan(ScanRequest),
    /// Uploads in order of key, then age. → [`ReadReply::Uploads`]
    Uploads {
        /// Where, and which.
        scan: ScanRequest,
        /// When the scan starts at a key: only uploads after this one, of that key.
        upload_after: Option<Order>,
    },
    /// → [`ReadReply::Parts`]
    Parts {
        /// Where.
        target: Target,
        /// Which upload.
        upload: Order,
        /// Only numbers after this.
        after: u16,
        /// At most so many.
        limit: u32,
    },
    /// → [`ReadReply::Directory`]
    Directory,
    /// Every object and every part of an upload under way, of all tenants and buckets. →
    /// [`ReadReply::Audit`]
    Audit {
        /// Only what comes after this place: a row's [`AuditRow::at`], or [`AuditRows::next`].
        after: Option<Bytes>,
        /// At most so many rows.
        limit: u32,
    },
}

/// Something that refers to blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its place in the order of an audit.
    pub at: Bytes,
    /// The name of its bucket, or `bucket-` and the bucket's id if the name was not found soon enough.
    pub bucket: String,
    /// The object's key.
    pub key: ObjectKey,
    /// Of a part of an upload under way: its number.
    pub part: Option<u16>,
    /// The blobs, none if the bytes are inline.
    pub blobs: Vec<BlobRef>,
}

/// A page of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRows {
    /// In the order of their keys.
    pub rows: Vec<AuditRow>,
    /// Where to go on; `None` at the end. A page may have few rows and yet not be the last.
    pub next: Option<Bytes>,
}

/// A scan over the keys of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRequest {
    /// Whose bucket.
    pub tenant: TenantId,
    /// Which.
    pub bucket: BucketId,
    /// Only keys that begin so.
    pub prefix: String,
    /// Roll up into common prefixes; never empty.
    pub delimiter: Option<String>,
    /// Where to begin.
    pub start: ScanStart,
    /// At most so many keys and common prefixes.
    pub limit: u32,
}

/// Where a scan begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanStart {
    /// At the first key of the bucket.
    First,
    /// At this key (for uploads: of this very key, those after `upload_after`).
    AtKey(String),
    /// After this key.
    AfterKey(String),
    /// After every key that begins so.
    AfterPrefix(String),
}

/// What a scan found, and how far it looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned<T> {
    /// In key order.
    pub entries: Vec<ListEntry<T>>,
    /// Where to go on; `None` if everything up to the end of the bucket has been covered. What lies
    /// between the start and here has been covered completely, even if it gave few entries.
    pub next: Option<ScanStart>,
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadReply {
    /// The bucket, if it exists.
    Bucket(Option<BucketRecord>),
    /// Buckets by name, and whether more follow.
    Buckets(Vec<BucketRecord>, bool),
    /// The object, if it exists, and its inline bytes if asked for and kept inline.
    Object(Option<(Box<ObjectRecord>, Option<Bytes>)>),
    /// Objects.
    Scan(Scanned<ListedObject>),
    /// Uploads.
    Uploads(Scanned<ListedUpload>),
    /// Parts, and whether more follow; `None` without such an upload.
    Parts(Option<(Box<UploadRecord>, Vec<PartRecord>, bool)>),
    /// The bucket id has no settings here.
    NoSuchBucket,
    /// The cluster map and the sessions; none while the range has no map yet.
    Directory(Option<Box<Directory>>),
    /// A page of an audit.
    Audit(Box<AuditRows>),
}

/// A log entry's payload: a batch of commands under one reading of the range clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The highest time that two voters' clocks had reached; never goes back.
    pub clock: WallTime,
    /// In order of their position.
    pub commands: Vec<Command>,
}
