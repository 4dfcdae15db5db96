//! Codecs of what rows hold: explicit, versioned, bounded. A version byte stands first in every
//! record; the fields follow in the order in which they are listed here (`docs/metadata-format.md`
//! has the bytes). Decoding checks every length before it allocates, and never panics.

use bytes::Bytes;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::hash::StateHash;
use crate::ids::{
    BucketId, CommitSequence, GatewayId, LogIndex, MapEpoch, Order, RangeEpoch, SessionId, StoreId,
};
use crate::level::{self, Level};
use crate::object::{
    Attributes, BlobRef, Body, BucketName, BucketRecord, ChecksumAlgorithm, ETag, Grant, Lock,
    ObjectChecksum, ObjectKey, ObjectRecord, OwnedBlob, Owner, PARTS_MAX, PartRecord, PartRef,
    Scheme, Target, UploadRecord,
};
use crate::range::command::Outcome;
use crate::time::WallTime;

/// Longest string in a record or message, in bytes: the most that one HTTP header or query
/// parameter brings. Fields with a smaller limit are checked where they are used.
pub const TEXT_BYTES_MAX: usize = 16 << 10;
/// Longest byte string: an inline body.
pub const INLINE_BYTES_MAX: usize = 64 << 10;
/// Rights given on one object or bucket (Amazon S3, "Access control list overview").
pub const GRANTS_MAX: usize = 100;
/// Pairs of user metadata or tags: each has at least one byte of 2 KB.
pub const PAIRS_MAX: usize = 2048;
/// Stores that acknowledge one blob.
pub const BLOB_STORES_MAX: usize = 16;

/// A field of a record: what is [`Wire`], and strings and lists with their limits.
pub(crate) trait Field: Sized {
    fn put(&self, out: &mut Encoder);
    fn take(input: &mut Decoder<'_>) -> Result<Self, DecodeError>;
}

/// What may stand in a list, and how many of it.
pub(crate) trait Listed: Field {
    const WHAT: &'static str;
    const MAX: usize;
}

impl<T: Wire> Field for T {
    fn put(&self, out: &mut Encoder) {
        self.encode(out);
    }

    fn take(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        T::decode(input)
    }
}

impl Field for String {
    fn put(&self, out: &mut Encoder) {
        out.bytes(self.as_bytes());
    }

    fn take(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.string("text", TEXT_BYTES_MAX)
    }
}

impl Field for Bytes {
    fn put(&self, out: &mut Encoder) {
        out.bytes(self);
    }

    fn take(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.bytes("byte string", INLINE_BYTES_MAX)
    }
}

impl Field for (String, String) {
    fn put(&self, out: &mut Encoder) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok((Field::take(input)?, Field::take(input)?))
    }
}

impl<T: Listed> Field for Vec<T> {
    fn put(&self, out: &mut Encoder) {
        out.u32(u32::try_from(self.len()).expect("a list has under 2^32 items"));
        for item in self {
            item.put(out);
        }
    }

    fn take(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = input.count(T::WHAT, T::MAX)?;
        // A count that is not true takes no more memory than the input itself.
        let mut items = Self::with_capacity(count.min(input.left() / size_of::<T>().max(1)));
        for _ in 0..count {
            items.push(T::take(input)?);
        }
        Ok(items)
    }
}

impl<T: Wire> Wire for Box<T> {
    fn encode(&self, out: &mut Encoder) {
        self.as_ref().encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        T::decode(input).map(Self::new)
    }
}

/// Options of what is not [`Wire`] itself: one byte, then the value.
macro_rules! optional_field {
    ($($inner:ty),* $(,)?) => {$(
        impl Field for Option<$inner> {
            fn put(&self, out: &mut Encoder) {
                out.u8(self.is_some().into());
                if let Some(value) = self {
                    value.put(out);
                }
            }

            fn take(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                match bool::decode(input)? {
                    false => Ok(None),
                    true => <$inner>::take(input).map(Some),
                }
            }
        }
    )*};
}
pub(crate) use optional_field;

optional_field!(String, Bytes);

macro_rules! listed {
    ($($item:ty, $what:literal, $max:expr;)*) => {$(
        impl Listed for $item {
            const WHAT: &'static str = $what;
            const MAX: usize = $max;
        }
    )*};
}
pub(crate) use listed;

listed! {
    (String, String), "pairs", PAIRS_MAX;
    Grant, "grants", GRANTS_MAX;
    StoreId, "stores of a blob", BLOB_STORES_MAX;
    PartRef, "parts of an object", PARTS_MAX as usize;
    PartRecord, "parts of an upload", PARTS_MAX as usize;
}

/// A struct: a version byte if one is given, then the fields in this order.
macro_rules! wire_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl Wire for $name {
            fn encode(&self, out: &mut Encoder) {
                $(Field::put(&self.$field, out);)*
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: Field::take(input)?),* })
            }
        }
    };
    ($name:ident, $what:literal, version $version:literal { $($field:ident),* $(,)? }) => {
        impl Wire for $name {
            fn encode(&self, out: &mut Encoder) {
                out.u8($version);
                $(Field::put(&self.$field, out);)*
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                input.version($what, $version)?;
                Ok(Self { $($field: Field::take(input)?),* })
            }
        }
    };
}
pub(crate) use wire_struct;

/// An enum: a tag byte, then the fields of the variant in this order.
macro_rules! wire_enum {
    ($name:ident, $what:literal {
        $($tag:literal => $variant:ident $({ $($field:ident),* })? $(( $($item:ident),* ))?,)*
    }) => {
        impl Wire for $name {
            fn encode(&self, out: &mut Encoder) {
                match self {
                    $(Self::$variant $({ $($field),* })? $(( $($item),* ))? => {
                        out.u8($tag);
                        $($(Field::put($field, out);)*)?
                        $($(Field::put($item, out);)*)?
                    })*
                }
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                match input.u8()? {
                    $($tag => {
                        $($(let $item = Field::take(input)?;)*)?
                        Ok(Self::$variant
                            $({ $($field: Field::take(input)?),* })?
                            $(( $($item),* ))?)
                    })*
                    tag => Err(DecodeError::Tag { what: $what, tag }),
                }
            }
        }
    };
}
pub(crate) use wire_enum;

/// What a range keeps beside its tables: clock, counters, hashes. Its place in the tree is the
/// header row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The last entry that is applied.
    pub(crate) applied: LogIndex,
    /// The range clock.
    pub(crate) clock: WallTime,
    /// Of the rows in the tree.
    pub(crate) tree_hash: StateHash,
    /// Of sessions and outcomes.
    pub(crate) session_hash: StateHash,
    /// How often the bounds have changed.
    pub(crate) epoch: RangeEpoch,
    /// Not used, and always 1: the cluster map has the feature level.
    pub(crate) reserved: u32,
    /// Blobs placed under an older map are refused.
    pub(crate) epoch_floor: MapEpoch,
    /// Not used, and always 0: the leader knows from sessions' reports what may be freed (`store/collect.rs`).
    pub(crate) reclaim_floor: Order,
    /// The next session's id.
    pub(crate) session_next: SessionId,
    /// Session slots that have ever been used: `0..slots_used`.
    pub(crate) slots_used: u16,
    /// The next bucket's id.
    pub(crate) bucket_next: BucketId,
    /// No kept result is older than this.
    pub(crate) expiry_floor: WallTime,
    /// The last entry that changed the cluster map, or which sessions live; 0 while there is no map.
    pub(crate) directory: LogIndex,
}

/// The form of the header. Version 1 had no `directory`, and no range with it had a map.
const HEADER_VERSION: u8 = 2;

macro_rules! header_codec {
    ($($field:ident),*) => {
        impl Wire for Header {
            fn encode(&self, out: &mut Encoder) {
                out.u8(HEADER_VERSION);
                $(Field::put(&self.$field, out);)*
                self.directory.encode(out);
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                let version = input.version("range header", HEADER_VERSION)?;
                $(let $field = Field::take(input)?;)*
                let directory = if version == 1 { LogIndex(0) } else { Wire::decode(input)? };
                Ok(Self { $($field,)* directory })
            }
        }
    };
}
header_codec!(
    applied,
    clock,
    tree_hash,
    session_hash,
    epoch,
    reserved,
    epoch_floor,
    reclaim_floor,
    session_next,
    slots_used,
    bucket_next,
    expiry_floor
);

/// A live session, as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub(crate) id: SessionId,
    pub(crate) gateway: GatewayId,
    pub(crate) nonce: u128,
    pub(crate) watermark: CommitSequence,
    pub(crate) outcomes: Vec<(CommitSequence, Outcome)>,
    /// The newest feature level that its gateway speaks.
    pub(crate) speaks: Level,
}

/// The form of a session. Version 1 has no level: its gateway speaks the first one, or never said.
const SESSION_VERSION: u8 = 2;

impl Wire for SessionRecord {
    fn encode(&self, out: &mut Encoder) {
        let says = self.speaks > level::FIRST;
        out.u8(if says { SESSION_VERSION } else { 1 });
        self.id.encode(out);
        self.gateway.encode(out);
        self.nonce.encode(out);
        self.watermark.encode(out);
        self.outcomes.put(out);
        if says {
            self.speaks.encode(out);
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let version = input.version("session", SESSION_VERSION)?;
        let (id, gateway) = (Wire::decode(input)?, Wire::decode(input)?);
        let (nonce, watermark) = (Wire::decode(input)?, Wire::decode(input)?);
        let outcomes = Field::take(input)?;
        let speaks = if version == 1 { level::FIRST } else { Level::decode(input)? };
        if (version == 1) != (speaks == level::FIRST) {
            return Err(DecodeError::Invalid { what: "level of a session" });
        }
        Ok(Self { id, gateway, nonce, watermark, outcomes, speaks })
    }
}

/// What decides commits in a bucket. All but the intent are places for later stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BucketSettings {
    /// The last change of settings that arrived; lower ones are refused.
    pub(crate) intent: u64,
    /// The bucket is being removed.
    pub(crate) deleting: bool,
    /// 0 never, 1 enabled, 2 suspended.
    pub(crate) versioning: u8,
    /// Default retention in days; 0 is none.
    pub(crate) lock_days: u32,
    /// Default retention in compliance mode.
    pub(crate) lock_compliance: bool,
    /// Bytes that this range may still hand out; none: no quota.
    pub(crate) quota: Option<u64>,
}

wire_struct!(BucketSettings, "bucket settings", version 1 {
    intent, deleting, versioning, lock_days, lock_compliance, quota,
});

/// How often a blob is referenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobCount {
    /// Never 0: the row goes when the last reference goes.
    pub(crate) count: u32,
}

wire_struct!(BlobCount, "blob count", version 1 { count });

/// A dead blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Garbage {
    /// When its last reference went.
    pub(crate) died: Order,
    /// What it was, so that its chunks can be found.
    pub(crate) blob: BlobRef,
}

wire_struct!(Garbage, "garbage", version 1 { died, blob });

/// What a completed upload came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Completed {
    /// Said again when asked again.
    pub(crate) outcome: Outcome,
}

wire_struct!(Completed, "completed upload", version 1 { outcome });

/// What became of a retired store's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// Who fills it since.
    pub(crate) by: StoreId,
    /// Since which map.
    pub(crate) epoch: MapEpoch,
}

wire_struct!(Replaced, "replaced store", version 1 { by, epoch });

/// A version's list of parts that is too long for the version's own row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartList {
    pub(crate) parts: Vec<PartRef>,
}

wire_struct!(PartList, "part list", version 1 { parts });

wire_struct!(ObjectRecord, "object", version 1 {
    order, null_version, delete_marker, modified, length, etag, checksum, owner, grants,
    storage_class, encryption, tags, lock, attributes, body,
});
/// What a listing says of an object: the first fields of its record. The others are not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListedRecord {
    pub(super) delete_marker: bool,
    pub(super) modified: WallTime,
    pub(super) length: u64,
    pub(super) etag: ETag,
    pub(super) checksum: Option<ObjectChecksum>,
    pub(super) owner: Owner,
    pub(super) storage_class: u8,
}

impl ListedRecord {
    /// Read it off the front of an [`ObjectRecord`]'s encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub(super) fn decode(record: &Bytes) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(record);
        input.version("object", 1)?;
        Order::decode(&mut input)?;
        bool::decode(&mut input)?;
        let delete_marker = bool::decode(&mut input)?;
        let modified = Field::take(&mut input)?;
        let length = Field::take(&mut input)?;
        let etag = Field::take(&mut input)?;
        let checksum = Field::take(&mut input)?;
        let owner = Field::take(&mut input)?;
        let _: Vec<Grant> = Field::take(&mut input)?;
        let storage_class = Field::take(&mut input)?;
        Ok(Self { delete_marker, modified, length, etag, checksum, owner, storage_class })
    }
}

wire_struct!(BucketRecord, "bucket", version 1 { id, name, created, owner, intent });
wire_struct!(UploadRecord, "upload", version 1 {
    order, initiated, owner, attributes, tags, checksum,
});
wire_struct!(PartRecord, "part", version 1 { number, modified, length, etag, checksum, blob });
wire_struct!(BlobRef, "blob", version 1 {
    blob, length, chunk_size, block_size, scheme, epoch, stores,
});
wire_struct!(PartRef { number, length, checksum, blob });
wire_struct!(Owner { tenant, user });
wire_struct!(Grant { grantee, permissions });
wire_struct!(Lock { retain_until, compliance, legal_hold });
wire_struct!(Target { tenant, bucket, key });
wire_struct!(OwnedBlob { blob, owner });
wire_struct!(Attributes {
    content_type,
    content_encoding,
    content_language,
    content_disposition,
    cache_control,
    expires,
    website_redirect,
    user_metadata,
});
wire_enum!(ChecksumAlgorithm, "checksum algorithm" {
    0 => Crc32, 1 => Crc32c, 2 => Sha1, 3 => Sha256, 4 => Crc64Nvme,
});
wire_enum!(Scheme, "storage scheme" { 0 => ThreeCopies, });
wire_enum!(Body, "body" { 0 => Inline, 1 => Blobs(parts), });

impl Wire for WallTime {
    fn encode(&self, out: &mut Encoder) {
        out.u64(self.as_millis());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.u64().map(Self::from_millis)
    }
}

impl Wire for ETag {
    fn encode(&self, out: &mut Encoder) {
        out.raw(&self.md5);
        out.u16(self.parts);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut md5 = [0; 16];
        md5.copy_from_slice(&input.raw(16)?);
        Ok(Self { md5, parts: input.u16()? })
    }
}

impl Wire for ObjectChecksum {
    fn encode(&self, out: &mut Encoder) {
        self.algorithm.encode(out);
        self.full_object.encode(out);
        out.bytes(&self.value);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let algorithm = ChecksumAlgorithm::decode(input)?;
        let full_object = bool::decode(input)?;
        let value = input.bytes("checksum", 32)?;
        let checksum = Self { algorithm, full_object, value };
        if checksum.value.len() != digest_len(algorithm) {
            return Err(DecodeError::Invalid { what: "checksum length" });
        }
        Ok(checksum)
    }
}

/// Bytes of a digest.
pub(crate) const fn digest_len(algorithm: ChecksumAlgorithm) -> usize {
    match algorithm {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => 4,
        ChecksumAlgorithm::Crc64Nvme => 8,
        ChecksumAlgorithm::Sha1 => 20,
        ChecksumAlgorithm::Sha256 => 32,
    }
}

impl Wire for BucketName {
    fn encode(&self, out: &mut Encoder) {
        out.bytes(self.as_str().as_bytes());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let name = input.string("bucket name", 63)?;
        Self::parse(&name).map_err(|_| DecodeError::Invalid { what: "bucket name" })
    }
}

impl Wire for ObjectKey {
    fn encode(&self, out: &mut Encoder) {
        out.bytes(self.as_str().as_bytes());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let key = input.string("object key", crate::object::KEY_BYTES_MAX)?;
        Self::parse(&key).map_err(|_| DecodeError::Invalid { what: "object key" })
    }
}
