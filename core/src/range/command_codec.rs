//! Codecs of commands, outcomes, reads and replies: what stands in the log and goes over the wire.
//! The version byte of a batch covers the commands in it.

use bytes::Bytes;

use super::audit::AUDIT_ROWS_MAX;
use super::command::{
    AuditRow, AuditRows, Batch, Command, CommandBody, NewPart, Origin, Outcome, Read, ReadReply,
    Rejection, ScanRequest, ScanStart, Scanned, Spoken,
};
use super::records::{Field, Listed, listed, optional_field, wire_enum, wire_struct};
use super::sessions::OUTCOMES_PER_SESSION_MAX;
use crate::cluster::SLOTS_MAX;
use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::ids::CommitSequence;
use crate::object::{
    BlobRef, BucketRecord, ETag, NewBody, NewObject, ObjectRecord, OwnedBlob, PARTS_MAX,
    PartRecord, TagMatch, UploadRecord, WriteConditions,
};
use crate::request::{ListEntry, ListedObject, ListedUpload};

/// Commands of one log entry.
pub const COMMANDS_PER_BATCH_MAX: usize = 4096;
/// Dead blobs that one command makes a range forget.
pub(super) const FORGOTTEN_MAX: usize = 1024;
/// Stores that a command names which speak a level: all that a map may have.
const SPOKEN_MAX: usize = 3 * SLOTS_MAX;
/// Tags of one condition.
pub const CONDITION_TAGS_MAX: usize = 1024;
/// Entries of one reply; a read that asks for more gets so many.
pub const REPLY_ENTRIES_MAX: usize = 2000;

wire_struct!(Batch, "batch", version 1 { clock, commands });
wire_struct!(Command { origin, body });
wire_enum!(Origin, "origin" {
    0 => System,
    1 => Session { session, sequence, watermark },
});
wire_enum!(CommandBody, "command" {
    0 => OpenSession { gateway, nonce },
    1 => FenceSession { session },
    2 => CreateBucket { tenant, name, owner },
    3 => DeleteBucket { tenant, name },
    4 => PutObject { target, conditions, object },
    5 => DeleteObject { target, conditions },
    6 => CreateUpload { target, owner, attributes, tags, checksum },
    7 => PutPart { target, upload, number, part },
    8 => CompleteUpload { target, upload, parts, conditions },
    9 => AbortUpload { target, upload },
    10 => FoundCluster { map },
    11 => ReplaceStore { old, new },
    12 => CopyObject { target, conditions, object },
    13 => CopyPart { target, upload, number, part },
    14 => ChangeObject { target, version, conditions, owner, attributes, tags },
    15 => ForgetGarbage { blobs },
    16 => AddStore { zone, store, weight },
    17 => SetWeight { store, weight },
    18 => ProveMap { epoch },
    19 => SetNode { node },
    20 => OpenSpeaking { gateway, nonce, levels },
    21 => RaiseLevel { to, spoken },
});
wire_struct!(NewPart { length, etag, checksum, body });
wire_struct!(NewObject { length, etag, checksum, owner, attributes, tags, body });
wire_enum!(NewBody, "new body" { 0 => Inline(bytes), 1 => Blob(blob), });
wire_struct!(WriteConditions { if_match, if_none_match });
wire_enum!(TagMatch, "tag match" { 0 => Any, 1 => Tags(tags), });
wire_enum!(Outcome, "outcome" {
    0 => Done,
    1 => SessionOpened(session),
    2 => Put { etag, checksum, order },
    3 => Upload(order),
    4 => Rejected(rejection),
    5 => Copied { etag, checksum, modified },
});
wire_enum!(Rejection, "rejection" {
    0 => Fenced,
    1 => Answered,
    2 => NoSuchBucket,
    3 => NoSuchKey,
    4 => NoSuchUpload,
    5 => BucketAlreadyOwnedByYou,
    6 => BucketAlreadyExists,
    7 => BucketNotEmpty,
    8 => PreconditionFailed,
    9 => InvalidPart { number },
    10 => InvalidPartOrder,
    11 => EntityTooSmall { number, length },
    12 => StaleEpoch,
    13 => Malformed,
    14 => NoSuchStore,
    15 => StoreRetired,
    16 => StoreInUse,
    17 => OtherVersion,
    18 => NoSuchZone,
    19 => BadWeight,
    20 => LastOfZone,
    21 => TooManySlots,
    22 => Unproven,
    23 => NodeInUse,
    24 => TooManyNodes,
    25 => LevelGoesDown { level },
    26 => LevelNotSpoken { store },
    27 => LevelNotSpokenBy { gateway },
    28 => LevelForeign { level },
});
wire_enum!(Read, "read" {
    0 => Bucket { tenant, name },
    1 => Buckets { tenant, after, limit },
    2 => Object { target, with_body },
    3 => Scan(scan),
    4 => Uploads { scan, upload_after },
    5 => Parts { target, upload, after, limit },
    6 => Directory,
    7 => Audit { after, limit },
});
wire_struct!(ScanRequest { tenant, bucket, prefix, delimiter, start, limit });
wire_enum!(ScanStart, "scan start" {
    0 => First,
    1 => AtKey(key),
    2 => AfterKey(key),
    3 => AfterPrefix(prefix),
});
wire_enum!(ReadReply, "read reply" {
    0 => Bucket(bucket),
    1 => Buckets(buckets, more),
    2 => Object(object),
    3 => Scan(scanned),
    4 => Uploads(scanned),
    5 => Parts(parts),
    6 => NoSuchBucket,
    7 => Directory(directory),
    8 => Audit(rows),
});
wire_struct!(ListedObject { key, modified, etag, length, owner, storage_class, checksum });
wire_struct!(ListedUpload { key, upload });
wire_struct!(AuditRow { at, bucket, key, part, blobs });
wire_struct!(AuditRows { rows, next });

listed! {
    Command, "commands", COMMANDS_PER_BATCH_MAX;
    OwnedBlob, "dead blobs", FORGOTTEN_MAX;
    ETag, "tags of a condition", CONDITION_TAGS_MAX;
    (u16, ETag), "parts to complete", PARTS_MAX as usize;
    (CommitSequence, Outcome), "outcomes", OUTCOMES_PER_SESSION_MAX;
    BucketRecord, "buckets", REPLY_ENTRIES_MAX;
    AuditRow, "rows of an audit", AUDIT_ROWS_MAX;
    BlobRef, "blobs of an object", PARTS_MAX as usize;
}

impl<T: Wire> Listed for ListEntry<T> {
    const WHAT: &'static str = "entries";
    const MAX: usize = REPLY_ENTRIES_MAX;
}

impl Wire for Spoken {
    fn encode(&self, out: &mut Encoder) {
        out.list(&self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.list("stores that speak a level", SPOKEN_MAX).map(Self)
    }
}

impl<T: Wire> Wire for Scanned<T> {
    fn encode(&self, out: &mut Encoder) {
        self.entries.put(out);
        self.next.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { entries: Field::take(input)?, next: Wire::decode(input)? })
    }
}

impl<T: Wire> Wire for ListEntry<T> {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Item(item) => {
                out.u8(0);
                item.encode(out);
            }
            Self::Prefix(prefix) => {
                out.u8(1);
                prefix.put(out);
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.u8()? {
            0 => T::decode(input).map(Self::Item),
            1 => Field::take(input).map(Self::Prefix),
            tag => Err(DecodeError::Tag { what: "list entry", tag }),
        }
    }
}

/// A record and its inline bytes.
type Found = (Box<ObjectRecord>, Option<Bytes>);
/// An upload, its parts, and whether more follow.
type FoundParts = (Box<UploadRecord>, Vec<PartRecord>, bool);

optional_field!(Found, FoundParts);

impl Field for Found {
    fn put(&self, out: &mut Encoder) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok((Field::take(input)?, Field::take(input)?))
    }
}

impl Field for FoundParts {
    fn put(&self, out: &mut Encoder) {
        self.0.put(out);
        self.1.put(out);
        self.2.put(out);
    }

    fn take(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok((Field::take(input)?, Field::take(input)?, Field::take(input)?))
    }
}
