//! Identities and counters. Each is a newtype, so that a term is never taken for an index.

use core::fmt;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};

/// No counter on a disk or in a message is larger. Thousands of years of use do not come near it, and sums of
/// counters and lengths stay within 64 bits, so that a forged one is an error where it is read.
pub const COUNTER_MAX: u64 = 1 << 62;

/// A counter that was read.
///
/// # Errors
/// [`DecodeError::Limit`] if it is over [`COUNTER_MAX`].
pub(crate) fn counter(what: &'static str, found: u64) -> Result<u64, DecodeError> {
    let max = COUNTER_MAX;
    if found <= max { Ok(found) } else { Err(DecodeError::Limit { what, found, max }) }
}

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// An identity: any number is one.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        newtype!($(#[$doc])* $name($inner), $prefix);

        impl Wire for $name {
            fn encode(&self, out: &mut Encoder) {
                self.0.encode(out);
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                <$inner>::decode(input).map(Self)
            }
        }
    };
}

/// What is counted: at most [`COUNTER_MAX`].
macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        newtype!($(#[$doc])* $name(u64), $prefix);

        impl Wire for $name {
            fn encode(&self, out: &mut Encoder) {
                self.0.encode(out);
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                counter(stringify!($name), input.u64()?).map(Self)
            }
        }
    };
}

id!(
    /// A cluster, made at random when its first store is formatted.
    ClusterId(u128), "cluster-");
id!(
    /// A zone (datacenter): 0, 1 or 2. Printed as its letter by [`ZoneId::letter`].
    ZoneId(u8), "zone-");
id!(
    /// The identity of a store (one disk). A replaced store gets a new one; none is used twice.
    /// It is also the identity of the store's replicas in consensus.
    StoreId(u64), "store-");
id!(
    /// Drawn at random when a first voter's disk is formatted: tells a disk from one that is emptied and
    /// formatted anew under the same identity. 0 is never drawn.
    DiskBirth(u64), "birth-");
counter!(
    /// How often a store or gateway has been started. Raised at each start.
    Incarnation, "inc-");
id!(
    /// A gateway: the place where requests come in. Stable over restarts of its process.
    GatewayId(u64), "gw-");
counter!(
    /// One incarnation of a gateway, as the cluster knows it. Only increases; 0 is never given out.
    SessionId, "ses-");
counter!(
    /// Orders the commands that a session submits.
    CommitSequence, "seq-");
counter!(
    /// Orders the blobs that a session writes.
    BlobSequence, "bs-");
id!(
    /// A range of the metadata key space, replicated by one consensus group.
    RangeId(u64), "range-");
counter!(
    /// How often the bounds of a range have changed.
    RangeEpoch, "re-");
counter!(
    /// A version of the cluster map.
    MapEpoch, "epoch-");
counter!(
    /// A consensus term.
    Term, "t");
counter!(
    /// The position of an entry in a range's log. The first entry is 1; 0 means "before the log".
    LogIndex, "i");
id!(
    /// A tenant. 0 is the default tenant.
    TenantId(u64), "tenant-");
counter!(
    /// A bucket, whatever its name. A name that is deleted and made anew gets a new id.
    BucketId, "bucket-");
id!(
    /// A placement group: chunks map to groups, groups to stores.
    GroupId(u32), "pg-");
id!(
    /// A client's request, numbered by the gateway's driver.
    RequestId(u64), "req-");
id!(
    /// One message that a gateway wants answered.
    CallId(u64), "call-");
id!(
    /// A disk effect in flight.
    DiskToken(u64), "io-");

impl ZoneId {
    /// `a`, `b`, `c`, …
    pub fn letter(self) -> char {
        char::from(b'a'.saturating_add(self.0.min(25)))
    }
}

impl LogIndex {
    /// The index after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The index before this one; 0 stays 0.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The bytes of one PUT or one part. Never reused: the session is new with each start of a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId {
    /// The session that wrote it.
    pub session: SessionId,
    /// The place in that session's blobs.
    pub sequence: BlobSequence,
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blob-{}.{}", self.session.0, self.sequence.0)
    }
}

impl Wire for BlobId {
    fn encode(&self, out: &mut Encoder) {
        self.session.encode(out);
        self.sequence.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { session: Wire::decode(input)?, sequence: Wire::decode(input)? })
    }
}

/// One chunk of a blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId {
    /// The blob.
    pub blob: BlobId,
    /// 0 for the first chunk.
    pub number: u32,
}

impl ChunkId {
    /// The id after this one in the order of ids; `None` behind the last.
    pub fn successor(self) -> Option<Self> {
        let Self { mut blob, number } = self;
        if let Some(number) = number.checked_add(1) {
            return Some(Self { blob, number });
        }
        match blob.sequence.0.checked_add(1) {
            Some(sequence) => blob.sequence.0 = sequence,
            None => {
                blob.session.0 = blob.session.0.checked_add(1)?;
                blob.sequence.0 = 0;
            }
        }
        Some(Self { blob, number: 0 })
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.blob, self.number)
    }
}

impl Wire for ChunkId {
    fn encode(&self, out: &mut Encoder) {
        self.blob.encode(out);
        self.number.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { blob: Wire::decode(input)?, number: Wire::decode(input)? })
    }
}

/// When something happened in a range: log index, then position of the command in its entry.
/// Versions, uploads and deaths are ordered (and named) by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// The entry.
    pub index: LogIndex,
    /// The command in the entry.
    pub position: u32,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.position)
    }
}

impl Wire for Order {
    fn encode(&self, out: &mut Encoder) {
        self.index.encode(out);
        self.position.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { index: Wire::decode(input)?, position: Wire::decode(input)? })
    }
}

/// A party that messages go to and come from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A store.
    Store(StoreId),
    /// A gateway.
    Gateway(GatewayId),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(id) => id.fmt(f),
            Self::Gateway(id) => id.fmt(f),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Wire for Endpoint {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Store(id) => {
                out.u8(0);
                id.encode(out);
            }
            Self::Gateway(id) => {
                out.u8(1);
                id.encode(out);
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.u8()? {
            0 => Ok(Self::Store(Wire::decode(input)?)),
            1 => Ok(Self::Gateway(Wire::decode(input)?)),
            tag => Err(DecodeError::Tag { what: "endpoint", tag }),
        }
    }
}
