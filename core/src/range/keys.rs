//! Keys of a range's rows, as bytes whose order is the order of the rows.
//!
//! ```text
//! 00 table …                                       the range's own rows
//! 01 tenant bucket escaped-key table suffix        what lives under an object key
//! 02 tenant bucket escaped-key table suffix        what outlives it (results, garbage)
//! ```
//!
//! Integers are big-endian. In an object key the byte `00` becomes `00 FF`, and `00 01` ends it, so
//! that the order of keys is kept and no key's rows lie between those of another. The bucket's own
//! row has the empty key: it comes before every object. Bytes from disk decode to an error, never
//! to a panic.

use bytes::Bytes;

use crate::codec::DecodeError;
use crate::ids::{BlobId, BlobSequence, BucketId, LogIndex, Order, SessionId, StoreId, TenantId};
use crate::object::{BucketName, ObjectKey, Target};
use crate::time::WallTime;

/// The range's own rows.
pub const SPACE_SYSTEM: u8 = 0;
/// Rows under a living object key, or a bucket.
pub const SPACE_OBJECTS: u8 = 1;
/// Rows under an object key that outlive its objects and even its bucket.
pub const SPACE_AFTER: u8 = 2;

const HEADER: u8 = 0x01;
const SESSION: u8 = 0x02;
const BUCKET: u8 = 0x03;
const EXPIRY: u8 = 0x04;
const MAP: u8 = 0x05;
const REPLACED: u8 = 0x06;

const SETTINGS: u8 = 0x01;
const VERSION: u8 = 0x10;
const BODY: u8 = 0x20;
const UPLOAD: u8 = 0x30;
const PART: u8 = 0x40;
const BLOB: u8 = 0x50;

const COMPLETED: u8 = 0x10;
const GARBAGE: u8 = 0x20;

/// Where the object key begins: behind space, tenant and bucket.
const KEY_AT: usize = 17;
/// Ends an escaped object key. [`crate::rows::family`] looks for it.
const KEY_END: [u8; 2] = [0x00, 0x01];
/// Greater than the end of a key, less than anything that continues it.
const KEY_PASSED: [u8; 2] = [0x00, 0x02];

/// A row's key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Clock, counters, hashes.
    Header,
    /// A live session and its outcomes, in a slot below `LIVE_SESSIONS_MAX`.
    Session {
        /// Which slot.
        slot: u16,
    },
    /// The bucket directory.
    Bucket {
        /// Whose.
        tenant: TenantId,
        /// Its name.
        name: BucketName,
    },
    /// When a kept result may go.
    Expiry {
        /// The range clock when it was kept.
        kept: WallTime,
        /// Of which object key.
        target: Target,
        /// Of which upload.
        upload: Order,
    },
    /// The cluster map.
    Map,
    /// Which store took the place of a retired one.
    Replaced {
        /// The retired one.
        store: StoreId,
    },
    /// The bucket's settings in this range.
    Settings {
        /// Whose.
        tenant: TenantId,
        /// Which bucket.
        bucket: BucketId,
    },
    /// A version; the newest comes first.
    Version {
        /// Where.
        target: Target,
        /// When.
        order: Order,
    },
    /// The inline bytes, or the long list of parts, of a version.
    Body {
        /// Where.
        target: Target,
        /// Of which version.
        order: Order,
    },
    /// An upload in progress; the oldest comes first.
    Upload {
        /// Where.
        target: Target,
        /// Which.
        order: Order,
    },
    /// A part of an upload.
    Part {
        /// Where.
        target: Target,
        /// Of which upload.
        upload: Order,
        /// Which.
        number: u16,
    },
    /// How often a blob is referenced from this object key.
    Blob {
        /// Where.
        target: Target,
        /// Which.
        blob: BlobId,
    },
    /// What a completed upload came to.
    Completed {
        /// Where.
        target: Target,
        /// Which upload.
        upload: Order,
    },
    /// A blob that is dead.
    Garbage {
        /// Where it was referenced.
        target: Target,
        /// Which.
        blob: BlobId,
    },
}

/// A span of keys: from `start` on, before `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Inclusive.
    pub start: Bytes,
    /// Exclusive.
    pub end: Bytes,
}

impl Key {
    /// The key as ordered bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Header => out.extend([SPACE_SYSTEM, HEADER]),
            Self::Session { slot } => {
                out.extend([SPACE_SYSTEM, SESSION]);
                out.extend(slot.to_be_bytes());
            }
            Self::Bucket { tenant, name } => {
                out.extend([SPACE_SYSTEM, BUCKET]);
                out.extend(tenant.0.to_be_bytes());
                out.extend(name.as_str().as_bytes());
            }
            Self::Expiry { kept, target, upload } => {
                out.extend([SPACE_SYSTEM, EXPIRY]);
                out.extend(kept.as_millis().to_be_bytes());
                put_target(&mut out, target);
                put_order(&mut out, *upload);
            }
            Self::Map => out.extend([SPACE_SYSTEM, MAP]),
            Self::Replaced { store } => {
                out.extend([SPACE_SYSTEM, REPLACED]);
                out.extend(store.0.to_be_bytes());
            }
            Self::Settings { tenant, bucket } => {
                out.extend(bucket_prefix(SPACE_OBJECTS, *tenant, *bucket));
                out.extend(KEY_END);
                out.push(SETTINGS);
            }
            Self::Version { target, order } => {
                out = table_prefix(SPACE_OBJECTS, target, VERSION);
                put_order(&mut out, inverted(*order));
            }
            Self::Body { target, order } => {
                out = table_prefix(SPACE_OBJECTS, target, BODY);
                put_order(&mut out, inverted(*order));
            }
            Self::Upload { target, order } => {
                out = table_prefix(SPACE_OBJECTS, target, UPLOAD);
                put_order(&mut out, *order);
            }
            Self::Part { target, upload, number } => {
                out = table_prefix(SPACE_OBJECTS, target, PART);
                put_order(&mut out, *upload);
                out.extend(number.to_be_bytes());
            }
            Self::Blob { target, blob } => {
                out = table_prefix(SPACE_OBJECTS, target, BLOB);
                put_blob(&mut out, *blob);
            }
            Self::Completed { target, upload } => {
                out = table_prefix(SPACE_AFTER, target, COMPLETED);
                put_order(&mut out, *upload);
            }
            Self::Garbage { target, blob } => {
                out = table_prefix(SPACE_AFTER, target, GARBAGE);
                put_blob(&mut out, *blob);
            }
        }
        Bytes::from(out)
    }

    /// Take a key apart.
    ///
    /// # Errors
    /// [`DecodeError`] if no row has such a key.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader(bytes);
        let key = match input.array::<1>()?[0] {
            SPACE_SYSTEM => system_key(&mut input)?,
            SPACE_OBJECTS => object_key(&mut input)?,
            SPACE_AFTER => after_key(&mut input)?,
            tag => return Err(DecodeError::Tag { what: "key space", tag }),
        };
        match input.0.len() {
            0 => Ok(key),
            left => Err(DecodeError::Trailing { left }),
        }
    }
}

fn system_key(input: &mut Reader<'_>) -> Result<Key, DecodeError> {
    Ok(match input.array::<1>()?[0] {
        HEADER => Key::Header,
        SESSION => Key::Session { slot: u16::from_be_bytes(input.array()?) },
        BUCKET => {
            let tenant = TenantId(input.u64()?);
            let name = core::str::from_utf8(core::mem::take(&mut input.0))
                .ok()
                .and_then(|name| BucketName::parse(name).ok())
                .ok_or(DecodeError::Invalid { what: "bucket name in a key" })?;
            Key::Bucket { tenant, name }
        }
        EXPIRY => Key::Expiry {
            kept: WallTime::from_millis(input.u64()?),
            target: input.target()?,
            upload: input.order()?,
        },
        MAP => Key::Map,
        REPLACED => Key::Replaced { store: StoreId(input.u64()?) },
        tag => return Err(DecodeError::Tag { what: "system table", tag }),
    })
}

fn object_key(input: &mut Reader<'_>) -> Result<Key, DecodeError> {
    let (tenant, bucket) = (TenantId(input.u64()?), BucketId(input.u64()?));
    let key = input.escaped()?;
    let table = input.array::<1>()?[0];
    if key.is_empty() && table == SETTINGS {
        return Ok(Key::Settings { tenant, bucket });
    }
    let target = Target { tenant, bucket, key: parsed(&key)? };
    Ok(match table {
        VERSION => Key::Version { target, order: inverted(input.order()?) },
        BODY => Key::Body { target, order: inverted(input.order()?) },
        UPLOAD => Key::Upload { target, order: input.order()? },
        PART => {
            let upload = input.order()?;
            Key::Part { target, upload, number: u16::from_be_bytes(input.array()?) }
        }
        BLOB => Key::Blob { target, blob: input.blob()? },
        tag => return Err(DecodeError::Tag { what: "object table", tag }),
    })
}

fn after_key(input: &mut Reader<'_>) -> Result<Key, DecodeError> {
    let target = input.target()?;
    Ok(match input.array::<1>()?[0] {
        COMPLETED => Key::Completed { target, upload: input.order()? },
        GARBAGE => Key::Garbage { target, blob: input.blob()? },
        tag => return Err(DecodeError::Tag { what: "after table", tag }),
    })
}

/// All rows of one object key. No bound of a range may lie inside one of these spans.
pub fn unsplittable(target: &Target) -> [Span; 2] {
    [SPACE_OBJECTS, SPACE_AFTER].map(|space| {
        let start = key_prefix(space, target);
        let mut end = bucket_prefix(space, target.tenant, target.bucket);
        escape(&mut end, target.key.as_str().as_bytes());
        end.extend(KEY_PASSED);
        Span { start: Bytes::from(start), end: Bytes::from(end) }
    })
}

/// All session rows.
pub fn sessions() -> Span {
    span(vec![SPACE_SYSTEM, SESSION])
}

/// All expiry rows, the oldest first.
pub fn expiries() -> Span {
    span(vec![SPACE_SYSTEM, EXPIRY])
}

/// A tenant's rows in the bucket directory, only names after `after`.
pub fn directory(tenant: TenantId, after: Option<&BucketName>) -> Span {
    let mut prefix = vec![SPACE_SYSTEM, BUCKET];
    prefix.extend(tenant.0.to_be_bytes());
    let mut span = span(prefix);
    if let Some(name) = after {
        // No name has a NUL, so this lies right behind the name itself.
        let mut start = Key::Bucket { tenant, name: name.clone() }.encode().to_vec();
        start.push(0);
        span.start = Bytes::from(start);
    }
    span
}

/// All rows under object keys, and the buckets' settings among them.
pub fn all_objects() -> Span {
    span(vec![SPACE_OBJECTS])
}

/// All rows that outlive objects: dead blobs, and completed uploads.
pub fn after_objects() -> Span {
    span(vec![SPACE_AFTER])
}

/// All rows under object keys of a bucket; not its settings.
pub fn objects(tenant: TenantId, bucket: BucketId) -> Span {
    prefixed(tenant, bucket, "")
}

/// All rows under those object keys of a bucket that begin with `prefix`.
pub fn prefixed(tenant: TenantId, bucket: BucketId, prefix: &str) -> Span {
    let mut start = bucket_prefix(SPACE_OBJECTS, tenant, bucket);
    escape(&mut start, prefix.as_bytes());
    let end = successor(&start);
    if prefix.is_empty() {
        start.extend(KEY_PASSED);
    }
    Span { start: Bytes::from(start), end }
}

/// Before the first row of `key`.
pub fn at_key(tenant: TenantId, bucket: BucketId, key: &str) -> Bytes {
    let mut out = bucket_prefix(SPACE_OBJECTS, tenant, bucket);
    escape(&mut out, key.as_bytes());
    out.extend(KEY_END);
    Bytes::from(out)
}

/// Behind the last row of `key`.
pub fn after_object_key(tenant: TenantId, bucket: BucketId, key: &str) -> Bytes {
    let mut out = bucket_prefix(SPACE_OBJECTS, tenant, bucket);
    escape(&mut out, key.as_bytes());
    out.extend(KEY_PASSED);
    Bytes::from(out)
}

/// Where the object key of an object row's encoded key ends, and which table the row is in. The rows
/// of a key have the same bytes up to there.
///
/// # Errors
/// [`DecodeError`] if it is no such row.
pub(super) fn object_row(row: &[u8]) -> Result<(usize, ObjectTable), DecodeError> {
    let (end, table) = crate::rows::family(row)
        .and_then(|family| Some((family.len(), row.get(family.len())?)))
        .ok_or(DecodeError::Invalid { what: "a row of another table among objects" })?;
    let table = match *table {
        VERSION => ObjectTable::Version,
        BODY => ObjectTable::Body,
        UPLOAD => ObjectTable::Upload,
        PART | BLOB => ObjectTable::Behind,
        tag => return Err(DecodeError::Tag { what: "object table", tag }),
    };
    Ok((end, table))
}

/// Which rows of an object key, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ObjectTable {
    Version,
    Body,
    Upload,
    /// Parts of uploads, and blobs.
    Behind,
}

/// The object key in an object row's encoded key, which ends at `end` as [`object_row`] says; or in a
/// place behind it, as [`behind_object`] gives it.
///
/// # Errors
/// [`DecodeError`] if it is no object key.
pub(super) fn object_key_of(row: &[u8], end: usize) -> Result<ObjectKey, DecodeError> {
    let invalid = DecodeError::Invalid { what: "object key in a key" };
    let escaped = row.get(KEY_AT..end - KEY_END.len()).ok_or(invalid.clone())?;
    if !escaped.contains(&0) {
        return parsed(escaped);
    }
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 && bytes.next() != Some(&0xff) {
            return Err(invalid);
        }
    }
    parsed(&key)
}

/// Put into `out` the place behind all rows of the object key that a row's encoded key has.
pub(super) fn behind_object(out: &mut Vec<u8>, row: &[u8], end: usize) {
    out.clear();
    out.extend_from_slice(&row[..end - KEY_END.len()]);
    out.extend_from_slice(&KEY_PASSED);
}

/// The versions of an object, the newest first.
pub fn versions(target: &Target) -> Span {
    span(table_prefix(SPACE_OBJECTS, target, VERSION))
}

/// The uploads of a key, the oldest first.
pub fn uploads(target: &Target) -> Span {
    span(table_prefix(SPACE_OBJECTS, target, UPLOAD))
}

/// The parts of an upload from number `from` on.
pub fn parts(target: &Target, upload: Order, from: u16) -> Span {
    let mut prefix = table_prefix(SPACE_OBJECTS, target, PART);
    put_order(&mut prefix, upload);
    let end = successor(&prefix);
    prefix.extend(from.to_be_bytes());
    Span { start: Bytes::from(prefix), end }
}

fn span(prefix: Vec<u8>) -> Span {
    let end = successor(&prefix);
    Span { start: Bytes::from(prefix), end }
}

/// The first key behind all that begin with `prefix`. Every prefix here has a byte below `FF`: its
/// first.
fn successor(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff).map_or(0, |at| at + 1);
    let mut out = prefix[..kept].to_vec();
    if let Some(last) = out.last_mut() {
        *last += 1;
    }
    Bytes::from(out)
}

fn bucket_prefix(space: u8, tenant: TenantId, bucket: BucketId) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.push(space);
    out.extend(tenant.0.to_be_bytes());
    out.extend(bucket.0.to_be_bytes());
    out
}

fn key_prefix(space: u8, target: &Target) -> Vec<u8> {
    let mut out = vec![space];
    put_target(&mut out, target);
    out
}

fn table_prefix(space: u8, target: &Target, table: u8) -> Vec<u8> {
    let mut out = key_prefix(space, target);
    out.push(table);
    out
}

fn put_target(out: &mut Vec<u8>, target: &Target) {
    out.extend(target.tenant.0.to_be_bytes());
    out.extend(target.bucket.0.to_be_bytes());
    escape(out, target.key.as_str().as_bytes());
    out.extend(KEY_END);
}

fn escape(out: &mut Vec<u8>, key: &[u8]) {
    for byte in key {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
}

fn put_order(out: &mut Vec<u8>, order: Order) {
    out.extend(order.index.0.to_be_bytes());
    out.extend(order.position.to_be_bytes());
}

fn put_blob(out: &mut Vec<u8>, blob: BlobId) {
    out.extend(blob.session.0.to_be_bytes());
    out.extend(blob.sequence.0.to_be_bytes());
}

/// Turns ascending into descending, and back.
fn inverted(order: Order) -> Order {
    Order { index: LogIndex(!order.index.0), position: !order.position }
}

fn parsed(key: &[u8]) -> Result<ObjectKey, DecodeError> {
    core::str::from_utf8(key)
        .ok()
        .and_then(|key| ObjectKey::parse(key).ok())
        .ok_or(DecodeError::Invalid { what: "object key in a key" })
}

/// Reads big-endian fields off the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Short { needed: N, left: self.0.len() })?;
        self.0 = rest;
        Ok(*head)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn order(&mut self) -> Result<Order, DecodeError> {
        let index = LogIndex(self.u64()?);
        Ok(Order { index, position: u32::from_be_bytes(self.array()?) })
    }

    fn blob(&mut self) -> Result<BlobId, DecodeError> {
        let session = SessionId(self.u64()?);
        Ok(BlobId { session, sequence: BlobSequence(self.u64()?) })
    }

    fn target(&mut self) -> Result<Target, DecodeError> {
        let (tenant, bucket) = (TenantId(self.u64()?), BucketId(self.u64()?));
        Ok(Target { tenant, bucket, key: parsed(&self.escaped()?)? })
    }

    fn escaped(&mut self) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        loop {
            let [byte] = self.array()?;
            if byte != 0 {
                out.push(byte);
                continue;
            }
            match self.array()? {
                [0xff] => out.push(0),
                [0x01] => return Ok(out),
                [tag] => return Err(DecodeError::Tag { what: "key escape", tag }),
            }
        }
    }
}
