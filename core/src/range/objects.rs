//! Objects: put and delete under conditions, and reading the current version.

use bytes::Bytes;

use super::command::{Outcome, ReadReply, Rejection};
use super::keys::{self, Key};
use super::overlay::{Overlay, decode_at};
use super::records::{Field, INLINE_BYTES_MAX, PartList, TEXT_BYTES_MAX, digest_len};
use super::state::{Damaged, RowError, Stop, Txn};
use super::{blobs, buckets};
use crate::codec::{DecodeError, Encoder};
use crate::ids::Order;
use crate::object::{
    Attributes, Body, Lock, NewBody, NewObject, ObjectChecksum, ObjectRecord, Owner, PartRef,
    Target, USER_METADATA_BYTES_MAX, WriteConditions,
};

/// Parts that stand in a version's own row. A longer list has a row beside it, so that a listing
/// does not read it.
pub(super) const PARTS_IN_ROW_MAX: usize = 16;
/// Tags of an object (Amazon S3, "Object tagging").
const TAGS_MAX: usize = 10;
/// Characters of a tag's key (Amazon S3, "Object tagging").
const TAG_KEY_CHARS_MAX: usize = 128;
/// Characters of a tag's value (Amazon S3, "Object tagging").
const TAG_VALUE_CHARS_MAX: usize = 256;
/// Bytes of a user's name.
const USER_BYTES_MAX: usize = 128;
/// Bytes of all attributes together: what the headers of one request bring.
const ATTRIBUTES_BYTES_MAX: usize = TEXT_BYTES_MAX;

/// Put a version in place of the one before.
pub(super) fn put(
    txn: &mut Txn<'_>,
    order: Order,
    target: &Target,
    conditions: &WriteConditions,
    object: &NewObject,
) -> Result<Outcome, Stop> {
    buckets::require(txn, target)?;
    let fits = owner_fits(&object.owner)
        && attributes_fit(&object.attributes)
        && tags_fit(&object.tags)
        && checksum_fits(object.checksum.as_ref());
    if !fits {
        return Err(Rejection::Malformed.into());
    }
    let body = match &object.body {
        NewBody::Inline(bytes) => {
            if bytes.len() > INLINE_BYTES_MAX || bytes.len() as u64 != object.length {
                return Err(Rejection::Malformed.into());
            }
            Body::Inline
        }
        NewBody::Blob(blob) => {
            blobs::admit(txn, target, blob, object.length)?;
            Body::Blobs(vec![PartRef {
                number: 1,
                length: object.length,
                checksum: object.checksum.clone(),
                blob: Some(blob.clone()),
            }])
        }
    };
    let before = current(&txn.rows, target)?;
    if !planted!(ConditionOutsideLog) {
        hold(conditions, before.as_ref())?;
    }

    let record = ObjectRecord {
        order,
        null_version: true,
        delete_marker: false,
        modified: txn.header.clock,
        length: object.length,
        etag: object.etag,
        checksum: object.checksum.clone(),
        owner: object.owner.clone(),
        grants: Vec::new(),
        storage_class: 0,
        encryption: Bytes::new(),
        tags: object.tags.clone(),
        lock: Lock::default(),
        attributes: object.attributes.clone(),
        body,
    };
    let inline = match &object.body {
        NewBody::Inline(bytes) => Some(bytes),
        NewBody::Blob(blob) => {
            // Before the old version goes: it may refer to the same blob.
            blobs::reference(txn, target, blob)?;
            None
        }
    };
    if let Some(before) = before.filter(|_| !planted!(OldVersionKept)) {
        remove(txn, order, target, &before)?;
    }
    blobs::write_version(txn, target, record, inline);
    Ok(Outcome::Put { etag: object.etag, checksum: object.checksum.clone(), order })
}

/// What a version says besides its bytes.
pub(super) struct Change<'a> {
    pub(super) owner: &'a Owner,
    pub(super) attributes: &'a Attributes,
    pub(super) tags: &'a [(String, String)],
}

/// Put the current version again with the same bytes, if it is `version`.
pub(super) fn change(
    txn: &mut Txn<'_>,
    order: Order,
    target: &Target,
    version: Order,
    conditions: &WriteConditions,
    change: &Change<'_>,
) -> Result<Outcome, Stop> {
    buckets::require(txn, target)?;
    let Change { owner, attributes, tags } = change;
    if !owner_fits(owner) || !attributes_fit(attributes) || !tags_fit(tags) {
        return Err(Rejection::Malformed.into());
    }
    let before = current(&txn.rows, target)?;
    hold(conditions, before.as_ref())?;
    let is_meant = |record: &ObjectRecord| record.order == version && !record.delete_marker;
    let before = before.filter(is_meant).ok_or(Rejection::OtherVersion)?;

    let (body, inline) = match &before.body {
        Body::Inline => (Body::Inline, Some(inline_bytes(&txn.rows, target, &before)?)),
        Body::Blobs(_) => (Body::Blobs(blobs::parts_of(txn, target, &before)?), None),
    };
    // The new row takes over the old one's references: their counts stay.
    txn.rows.delete(&Key::Body { target: target.clone(), order: version })?;
    txn.rows.delete(&Key::Version { target: target.clone(), order: version })?;
    let modified = txn.header.clock;
    let record = ObjectRecord {
        order,
        modified,
        owner: (*owner).clone(),
        grants: Vec::new(),
        tags: tags.to_vec(),
        lock: Lock::default(),
        attributes: (*attributes).clone(),
        body,
        ..before
    };
    let (etag, checksum) = (record.etag, record.checksum.clone());
    blobs::write_version(txn, target, record, inline.as_ref());
    Ok(Outcome::Copied { etag, checksum, modified })
}

/// Delete the object, if there is one.
pub(super) fn delete(
    txn: &mut Txn<'_>,
    order: Order,
    target: &Target,
    conditions: &WriteConditions,
) -> Result<Outcome, Stop> {
    buckets::require(txn, target)?;
    let before = current(&txn.rows, target)?;
    hold(conditions, before.as_ref())?;
    if let Some(before) = before {
        remove(txn, order, target, &before)?;
    }
    Ok(Outcome::Done)
}

/// The current version and, if asked for, its inline bytes.
pub(super) fn read(
    rows: &Overlay<'_>,
    target: &Target,
    with_body: bool,
) -> Result<ReadReply, RowError> {
    if !buckets::exists(rows, target)? {
        return Ok(ReadReply::NoSuchBucket);
    }
    let Some(mut record) = current(rows, target)?.filter(|record| !record.delete_marker) else {
        return Ok(ReadReply::Object(None));
    };
    let mut inline = None;
    match &mut record.body {
        Body::Inline if with_body => inline = Some(inline_bytes(rows, target, &record)?),
        Body::Blobs(parts) if parts.is_empty() => {
            *parts = spilled_parts(rows, target, record.order)?;
        }
        Body::Inline | Body::Blobs(_) => {}
    }
    Ok(ReadReply::Object(Some((Box::new(record), inline))))
}

/// The current version, delete markers included. Its list of parts is empty if it has a row beside.
pub(super) fn current(
    rows: &Overlay<'_>,
    target: &Target,
) -> Result<Option<ObjectRecord>, RowError> {
    match rows.first(&keys::versions(target))? {
        None => Ok(None),
        Some((key, value)) => decode_at(&key, &value).map(Some),
    }
}

/// Take out a version: its rows, and its references.
pub(super) fn remove(
    txn: &mut Txn<'_>,
    order: Order,
    target: &Target,
    record: &ObjectRecord,
) -> Result<(), RowError> {
    for part in blobs::parts_of(txn, target, record)? {
        if let Some(blob) = &part.blob {
            blobs::release(txn, order, target, blob)?;
        }
    }
    txn.rows.delete(&Key::Body { target: target.clone(), order: record.order })?;
    txn.rows.delete(&Key::Version { target: target.clone(), order: record.order })
}

/// Decide conditions against the current version.
pub(crate) fn hold(
    conditions: &WriteConditions,
    current: Option<&ObjectRecord>,
) -> Result<(), Rejection> {
    let current = current.filter(|record| !record.delete_marker);
    if let Some(tags) = &conditions.if_match {
        let record = current.ok_or(Rejection::NoSuchKey)?;
        if !tags.matches(&record.etag) {
            return Err(Rejection::PreconditionFailed);
        }
    }
    if let (Some(tags), Some(record)) = (&conditions.if_none_match, current)
        && tags.matches(&record.etag)
    {
        return Err(Rejection::PreconditionFailed);
    }
    Ok(())
}

/// The list of parts that has its own row.
pub(super) fn spilled_parts(
    rows: &Overlay<'_>,
    target: &Target,
    order: Order,
) -> Result<Vec<PartRef>, RowError> {
    let key = Key::Body { target: target.clone(), order };
    match rows.get::<PartList>(&key)? {
        Some(list) => Ok(list.parts),
        None => Err(missing(&key)),
    }
}

fn inline_bytes(
    rows: &Overlay<'_>,
    target: &Target,
    record: &ObjectRecord,
) -> Result<Bytes, RowError> {
    if record.length == 0 {
        return Ok(Bytes::new());
    }
    let key = Key::Body { target: target.clone(), order: record.order };
    match rows.raw(&key.encode())? {
        Some(bytes) if bytes.len() as u64 == record.length => Ok(bytes),
        _ => Err(missing(&key)),
    }
}

fn missing(key: &Key) -> RowError {
    let error = DecodeError::Invalid { what: "body row missing or of another length" };
    RowError::Damaged(Damaged { key: key.encode(), error })
}

/// Whether an owner's name is within its limit.
pub(super) fn owner_fits(owner: &Owner) -> bool {
    owner.user.len() <= USER_BYTES_MAX
}

/// Whether attributes are within their limits.
pub(super) fn attributes_fit(attributes: &Attributes) -> bool {
    let user: usize =
        attributes.user_metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    let mut all = Encoder::new();
    attributes.put(&mut all);
    user <= USER_METADATA_BYTES_MAX && all.len() <= ATTRIBUTES_BYTES_MAX + USER_METADATA_BYTES_MAX
}

/// Whether tags are within their limits.
pub(super) fn tags_fit(tags: &[(String, String)]) -> bool {
    tags.len() <= TAGS_MAX
        && tags.iter().all(|(key, value)| {
            key.chars().count() <= TAG_KEY_CHARS_MAX && value.chars().count() <= TAG_VALUE_CHARS_MAX
        })
}

/// Whether a checksum has its algorithm's length.
pub(super) fn checksum_fits(checksum: Option<&ObjectChecksum>) -> bool {
    checksum.is_none_or(|checksum| checksum.value.len() == digest_len(checksum.algorithm))
}
