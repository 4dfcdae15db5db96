//! Objects, buckets and uploads as the metadata holds them.
//!
//! Every record has its place for what later features need (owner and grants, version, checksums,
//! storage class, encryption, tags, lock), so that they come without a rebuild. The bytes of each
//! record stand in `docs/metadata-format.md`; their codecs are in [`crate::range::records`].

use core::fmt;

use bytes::Bytes;

use crate::ids::{BlobId, BucketId, MapEpoch, Order, StoreId, TenantId};
use crate::time::WallTime;

/// Longest object key, in bytes of UTF-8 (Amazon S3, "Object key naming guidelines").
pub const KEY_BYTES_MAX: usize = 1024;
/// User metadata of one object, names and values together (Amazon S3, "Object metadata").
pub const USER_METADATA_BYTES_MAX: usize = 2048;
/// Parts of one upload (Amazon S3, "Multipart upload limits").
pub const PARTS_MAX: u16 = 10_000;
/// Smallest part that is not the last (Amazon S3, "Multipart upload limits").
pub const PART_BYTES_MIN: u64 = 5 << 20;
/// Largest part, and largest object of one PUT.
pub const PUT_BYTES_MAX: u64 = 5 << 30;
/// Keys of one DeleteObjects request.
pub const DELETE_KEYS_MAX: usize = 1000;
/// Keys and prefixes of one page of a listing.
pub const LIST_KEYS_MAX: u32 = 1000;

/// A bucket's name, checked against the rules of Amazon S3 ("Bucket naming rules").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(String);

impl BucketName {
    /// Check a name: 3–63 characters of `a-z`, `0-9`, `.` and `-`, letters or digits at both ends,
    /// no `..`, not shaped like an IPv4 address.
    ///
    /// # Errors
    /// [`InvalidName`] says which rule is broken.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let bytes = name.as_bytes();
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if !(3..=63).contains(&bytes.len()) {
            return Err(InvalidName("a bucket name has 3 to 63 characters"));
        }
        if !bytes.iter().all(|byte| alphanumeric(byte) || matches!(byte, b'.' | b'-')) {
            return Err(InvalidName("a bucket name has only a-z, 0-9, '.' and '-'"));
        }
        if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
            return Err(InvalidName("a bucket name begins and ends with a letter or digit"));
        }
        if name.contains("..") {
            return Err(InvalidName("a bucket name has no two '.' in a row"));
        }
        if name.parse::<core::net::Ipv4Addr>().is_ok() {
            return Err(InvalidName("a bucket name is not an IP address"));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object's key: 1 to [`KEY_BYTES_MAX`] bytes of UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Check a key.
    ///
    /// # Errors
    /// [`InvalidName`] if it is empty or too long.
    pub fn parse(key: &str) -> Result<Self, InvalidName> {
        match key.len() {
            0 => Err(InvalidName("an object key is not empty")),
            1..=KEY_BYTES_MAX => Ok(Self(key.to_owned())),
            _ => Err(InvalidName("an object key has at most 1,024 bytes")),
        }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which rule a name breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidName(pub &'static str);

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for InvalidName {}

/// An object key in a bucket, as ranges address it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The bucket's tenant.
    pub tenant: TenantId,
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: ObjectKey,
}

/// A blob, and the object key to whose range it belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedBlob {
    /// Which.
    pub blob: BlobId,
    /// Where it is, was or would be referenced.
    pub owner: Target,
}

/// An entity tag: MD5 of the bytes, or of the parts' MD5s with the number of parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ETag {
    /// The digest.
    pub md5: [u8; 16],
    /// 0 for an object of one PUT, else the number of parts.
    pub parts: u16,
}

impl ETag {
    /// Read `hex` or `hex-N`, with or without the quotes of HTTP.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        let (digest, parts) = match text.split_once('-') {
            None => (text, 0),
            Some((digest, parts)) => (digest, parts.parse().ok().filter(|parts| *parts > 0)?),
        };
        if digest.len() != 32 || !digest.is_ascii() {
            return None;
        }
        let mut md5 = [0; 16];
        for (byte, at) in md5.iter_mut().zip((0..32).step_by(2)) {
            *byte = u8::from_str_radix(&digest[at..at + 2], 16).ok()?;
        }
        Some(Self { md5, parts })
    }
}

impl fmt::Display for ETag {
    /// Unquoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one piece: a listing prints a thousand of them.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.md5) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(core::str::from_utf8(&hex).unwrap_or_default())?;
        if self.parts > 0 {
            write!(f, "-{}", self.parts)?;
        }
        Ok(())
    }
}

/// A user: whose request it is, who owns a bucket or object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The tenant.
    pub tenant: TenantId,
    /// The user's canonical name in that tenant, at most 128 bytes.
    pub user: String,
}

/// A right given to someone. Its place in the format; nothing grants until access control comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To whom, at most 256 bytes.
    pub grantee: String,
    /// Bits of S3's permissions: 1 read, 2 write, 4 read ACP, 8 write ACP.
    pub permissions: u8,
}

/// S3's additional checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (IEEE).
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// CRC-64/NVME.
    Crc64Nvme,
}

/// An object's or part's additional checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChecksum {
    /// Which.
    pub algorithm: ChecksumAlgorithm,
    /// Of the whole object; else composite, of the parts' checksums.
    pub full_object: bool,
    /// The raw digest: 4, 8, 20 or 32 bytes.
    pub value: Bytes,
}

/// What the client says about an object; kept and given back, never looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, without `aws-chunked`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Expires`, as it came.
    pub expires: Option<String>,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// `x-amz-meta-*` without the prefix, lower case, in the order in which they came.
    pub user_metadata: Vec<(String, String)>,
}

/// Object Lock of one version. Its place in the format; nothing sets it until Object Lock comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Retained until then.
    pub retain_until: Option<WallTime>,
    /// Compliance mode (else governance).
    pub compliance: bool,
    /// Legal hold.
    pub legal_hold: bool,
}

/// How the bytes of a blob are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// One whole copy in each zone.
    #[default]
    ThreeCopies,
}

/// The bytes of one PUT or part, as a row refers to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRef {
    /// Which blob.
    pub blob: BlobId,
    /// Its bytes.
    pub length: u64,
    /// Bytes of each chunk but the last.
    pub chunk_size: u32,
    /// Bytes of each checksummed block but a chunk's last.
    pub block_size: u32,
    /// How it is kept.
    pub scheme: Scheme,
    /// The map under which it was placed.
    pub epoch: MapEpoch,
    /// Every store that acknowledged a chunk of it.
    pub stores: Vec<StoreId>,
}

/// Where an object's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// In the range, in a row of their own beside the object's.
    Inline,
    /// In blobs, one behind the other: one of a PUT, one for each part of an upload.
    Blobs(Vec<PartRef>),
}

/// One part of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRef {
    /// The part's number in its upload; 1 for a PUT.
    pub number: u16,
    /// Its bytes in the object.
    pub length: u64,
    /// Its additional checksum.
    pub checksum: Option<ObjectChecksum>,
    /// Where they are; `None` for an empty part.
    pub blob: Option<BlobRef>,
}

/// One version of an object. What is decided at apply (order, time) is in here too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRecord {
    /// Which version: when it was committed.
    pub order: Order,
    /// Whether this is the null version (buckets without versioning have no other).
    pub null_version: bool,
    /// Whether it is a delete marker.
    pub delete_marker: bool,
    /// Last-Modified: the range clock at its commit.
    pub modified: WallTime,
    /// Bytes.
    pub length: u64,
    /// Entity tag.
    pub etag: ETag,
    /// Additional checksum.
    pub checksum: Option<ObjectChecksum>,
    /// Who owns it.
    pub owner: Owner,
    /// To whom rights are given.
    pub grants: Vec<Grant>,
    /// 0 is STANDARD.
    pub storage_class: u8,
    /// Descriptor of the encryption, opaque here; empty means none.
    pub encryption: Bytes,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// Object Lock.
    pub lock: Lock,
    /// What the client said about it.
    pub attributes: Attributes,
    /// Where its bytes are.
    pub body: Body,
}

/// What a command says of a new object; apply adds order and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewObject {
    /// Bytes.
    pub length: u64,
    /// Entity tag.
    pub etag: ETag,
    /// Additional checksum.
    pub checksum: Option<ObjectChecksum>,
    /// Who owns it.
    pub owner: Owner,
    /// What the client said about it.
    pub attributes: Attributes,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// Its bytes, or where they are.
    pub body: NewBody,
}

/// The bytes of a new object or part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewBody {
    /// The bytes themselves.
    Inline(Bytes),
    /// Chunks that are safe in two zones.
    Blob(BlobRef),
}

/// A bucket, in the bucket directory (root range).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRecord {
    /// Its id.
    pub id: BucketId,
    /// Its name.
    pub name: BucketName,
    /// When it was made.
    pub created: WallTime,
    /// Whose it is.
    pub owner: Owner,
    /// The last change of settings that was begun; ranges refuse lower ones.
    pub intent: u64,
}

/// A multipart upload in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRecord {
    /// Which: when it was begun. Its id.
    pub order: Order,
    /// The range clock at that moment.
    pub initiated: WallTime,
    /// Who owns it, and will own the object.
    pub owner: Owner,
    /// Fixed at the beginning.
    pub attributes: Attributes,
    /// Fixed at the beginning.
    pub tags: Vec<(String, String)>,
    /// The additional checksum that parts carry, and whether the object's covers all its bytes.
    pub checksum: Option<(ChecksumAlgorithm, bool)>,
}

/// An uploaded part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRecord {
    /// 1 to [`PARTS_MAX`].
    pub number: u16,
    /// The range clock at its commit.
    pub modified: WallTime,
    /// Bytes.
    pub length: u64,
    /// Entity tag.
    pub etag: ETag,
    /// Additional checksum.
    pub checksum: Option<ObjectChecksum>,
    /// Its bytes; `None` for an empty part.
    pub blob: Option<BlobRef>,
}

/// Which entity tags a condition names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagMatch {
    /// `*`.
    Any,
    /// A list. A tag that is no ETag of ours is left out: it matches nothing.
    Tags(Vec<ETag>),
}

impl TagMatch {
    /// Whether `etag` is named.
    pub fn matches(&self, etag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.contains(etag),
        }
    }
}

/// Conditions of a write, decided at its commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteConditions {
    /// `If-Match`.
    pub if_match: Option<TagMatch>,
    /// `If-None-Match`.
    pub if_none_match: Option<TagMatch>,
}
