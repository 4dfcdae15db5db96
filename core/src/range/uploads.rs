//! Multipart uploads: begin, put parts, complete, abort. An upload's parts belong to its rows and
//! outlive every session; Complete refers to their blobs and copies nothing.

use md5::{Digest, Md5};

use super::command::{NewPart, Outcome, ReadReply, Rejection};
use super::command_codec::REPLY_ENTRIES_MAX;
use super::keys::{self, Key};
use super::overlay::{Overlay, decode_at};
use super::records::Completed;
use super::state::{RowError, Stop, Txn};
use super::{blobs, buckets, objects};
use crate::checksum;
use crate::codec::Wire;
use crate::ids::Order;
use crate::object::{
    Body, ETag, Lock, NewBody, ObjectRecord, PART_BYTES_MIN, PARTS_MAX, PartRecord, PartRef,
    Target, UploadRecord, WriteConditions,
};
use crate::time::WallTime;

/// How long, by the range clock, what came of a Complete is said again: one day.
pub const COMPLETED_KEPT_MILLIS: u64 = 24 * 60 * 60 * 1000;
/// Kept results that one entry drops at most; each entry keeps at most as many as it has commands,
/// and most have none.
const EXPIRED_PER_BATCH_MAX: usize = 64;

/// Begin an upload.
pub(super) fn create(
    txn: &mut Txn<'_>,
    target: &Target,
    record: &UploadRecord,
) -> Result<Outcome, Stop> {
    buckets::require(txn, target)?;
    let fits = objects::owner_fits(&record.owner)
        && objects::attributes_fit(&record.attributes)
        && objects::tags_fit(&record.tags);
    if !fits {
        return Err(Rejection::Malformed.into());
    }
    let key = Key::Upload { target: target.clone(), order: record.order };
    txn.rows.put_new(&key, record.to_bytes());
    Ok(Outcome::Upload(record.order))
}

/// Put a part in place of the one before.
pub(super) fn put_part(
    txn: &mut Txn<'_>,
    order: Order,
    target: &Target,
    upload: Order,
    number: u16,
    part: &NewPart,
) -> Result<Outcome, Stop> {
    buckets::require(txn, target)?;
    if !(1..=PARTS_MAX).contains(&number) || !objects::checksum_fits(part.checksum.as_ref()) {
        return Err(Rejection::Malformed.into());
    }
    require(txn, target, upload)?;
    let blob = match &part.body {
        NewBody::Inline(bytes) if bytes.is_empty() && part.length == 0 => None,
        NewBody::Inline(_) => return Err(Rejection::Malformed.into()),
        NewBody::Blob(blob) => {
            blobs::admit(txn, target, blob, part.length)?;
            Some(blob)
        }
    };
    let key = Key::Part { target: target.clone(), upload, number };
    let before: Option<PartRecord> = txn.rows.get(&key)?;
    if let Some(blob) = blob {
        blobs::reference(txn, target, blob)?;
    }
    if let Some(blob) = before.and_then(|before| before.blob) {
        blobs::release(txn, order, target, &blob)?;
    }
    let record = PartRecord {
        number,
        modified: txn.header.clock,
        length: part.length,
        etag: part.etag,
        checksum: part.checksum.clone(),
        blob: blob.cloned(),
    };
    txn.rows.put(&key, &record)?;
    Ok(Outcome::Put { etag: part.etag, checksum: part.checksum.clone(), order })
}

/// Make the object of an upload, or say again what came of it.
pub(super) fn complete(
    txn: &mut Txn<'_>,
    order: Order,
    target: &Target,
    upload: Order,
    asked: &[(u16, ETag)],
    conditions: &WriteConditions,
) -> Result<Outcome, Stop> {
    buckets::require(txn, target)?;
    if asked.is_empty() || asked.len() > usize::from(PARTS_MAX) {
        return Err(Rejection::Malformed.into());
    }
    let kept_key = Key::Completed { target: target.clone(), upload };
    let upload_key = Key::Upload { target: target.clone(), order: upload };
    let Some(record) = txn.rows.get::<UploadRecord>(&upload_key)? else {
        let kept: Completed = txn.rows.get(&kept_key)?.ok_or(Rejection::NoSuchUpload)?;
        return Ok(kept.outcome);
    };
    let there = all_parts(&txn.rows, target, upload)?;
    let parts = choose(asked, &there)?;
    let before = objects::current(&txn.rows, target)?;
    objects::hold(conditions, before.as_ref())?;

    if let Some(before) = before {
        objects::remove(txn, order, target, &before)?;
    }
    if !planted!(CompleteNotAtomic) {
        drop_parts(txn, order, target, upload, &there, |number| {
            let taken = asked.binary_search_by_key(&number, |(asked, _)| *asked).is_ok();
            taken && !planted!(CompleteFreesParts)
        })?;
        txn.rows.delete(&upload_key)?;
    }
    let version = assemble(order, txn.header.clock, record, &parts);
    let outcome = Outcome::Put { etag: version.etag, checksum: version.checksum.clone(), order };
    blobs::write_version(txn, target, version, None);
    keep(txn, target, upload, &outcome)?;
    Ok(outcome)
}

/// Drop an upload and its parts.
pub(super) fn abort(
    txn: &mut Txn<'_>,
    order: Order,
    target: &Target,
    upload: Order,
) -> Result<Outcome, Stop> {
    buckets::require(txn, target)?;
    require(txn, target, upload)?;
    let there = all_parts(&txn.rows, target, upload)?;
    drop_parts(txn, order, target, upload, &there, |_| false)?;
    txn.rows.delete(&Key::Upload { target: target.clone(), order: upload })?;
    Ok(Outcome::Done)
}

/// The parts of an upload behind `after`, by number.
pub(super) fn list_parts(
    rows: &Overlay<'_>,
    target: &Target,
    upload: Order,
    after: u16,
    limit: u32,
) -> Result<ReadReply, RowError> {
    if !buckets::exists(rows, target)? {
        return Ok(ReadReply::NoSuchBucket);
    }
    let key = Key::Upload { target: target.clone(), order: upload };
    let Some(record) = rows.get::<UploadRecord>(&key)? else { return Ok(ReadReply::Parts(None)) };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(REPLY_ENTRIES_MAX);
    let mut found = Vec::new();
    let mut more = false;
    let mut from = after.checked_add(1);
    while let Some(number) = from {
        let Some((key, value)) = rows.first(&keys::parts(target, upload, number))? else { break };
        if found.len() == limit {
            more = true;
            break;
        }
        let part: PartRecord = decode_at(&key, &value)?;
        from = part.number.checked_add(1);
        found.push(part);
    }
    Ok(ReadReply::Parts(Some((Box::new(record), found, more))))
}

/// Drop kept results whose time has passed. The header knows a bound on the oldest, so that most
/// entries look at no row.
pub(super) fn expire(txn: &mut Txn<'_>) -> Result<(), RowError> {
    for _ in 0..EXPIRED_PER_BATCH_MAX {
        let due = txn.header.expiry_floor.as_millis().saturating_add(COMPLETED_KEPT_MILLIS);
        if due > txn.header.clock.as_millis() {
            return Ok(());
        }
        let Some((Key::Expiry { kept, target, upload }, _)) = txn.rows.first(&keys::expiries())?
        else {
            txn.header.expiry_floor = WallTime::from_millis(u64::MAX);
            return Ok(());
        };
        txn.header.expiry_floor = kept;
        if kept.as_millis().saturating_add(COMPLETED_KEPT_MILLIS) <= txn.header.clock.as_millis() {
            txn.rows.delete(&Key::Completed { target: target.clone(), upload })?;
            txn.rows.delete(&Key::Expiry { kept, target, upload })?;
        }
    }
    Ok(())
}

fn require(txn: &Txn<'_>, target: &Target, upload: Order) -> Result<(), Stop> {
    let key = Key::Upload { target: target.clone(), order: upload };
    match txn.rows.get::<UploadRecord>(&key)? {
        Some(_) => Ok(()),
        None => Err(Rejection::NoSuchUpload.into()),
    }
}

fn all_parts(
    rows: &Overlay<'_>,
    target: &Target,
    upload: Order,
) -> Result<Vec<PartRecord>, RowError> {
    let mut found: Vec<PartRecord> = Vec::new();
    let mut from = 1;
    while let Some((key, value)) = rows.first(&keys::parts(target, upload, from))? {
        let part: PartRecord = decode_at(&key, &value)?;
        from = part.number.saturating_add(1);
        found.push(part);
    }
    Ok(found)
}

/// The parts that are asked for, in ascending order, if each is there as asked and large enough.
fn choose<'a>(
    asked: &[(u16, ETag)],
    there: &'a [PartRecord],
) -> Result<Vec<&'a PartRecord>, Rejection> {
    if !asked.is_sorted_by(|(a, _), (b, _)| a < b) {
        return Err(Rejection::InvalidPartOrder);
    }
    let mut parts = Vec::with_capacity(asked.len());
    for (number, etag) in asked {
        let part = there
            .binary_search_by_key(number, |part| part.number)
            .ok()
            .map(|at| &there[at])
            .filter(|part| part.etag == *etag)
            .ok_or(Rejection::InvalidPart { number: *number })?;
        parts.push(part);
    }
    let (_, all_but_last) = parts.split_last().expect("an empty list was refused before");
    match all_but_last.iter().find(|part| part.length < PART_BYTES_MIN) {
        Some(part) => Err(Rejection::EntityTooSmall { number: part.number, length: part.length }),
        None => Ok(parts),
    }
}

/// Delete the rows of all parts; those that are not `taken` lose their reference.
fn drop_parts(
    txn: &mut Txn<'_>,
    order: Order,
    target: &Target,
    upload: Order,
    there: &[PartRecord],
    taken: impl Fn(u16) -> bool,
) -> Result<(), RowError> {
    for part in there {
        txn.rows.delete(&Key::Part { target: target.clone(), upload, number: part.number })?;
        if let Some(blob) = part.blob.as_ref().filter(|_| !taken(part.number)) {
            blobs::release(txn, order, target, blob)?;
        }
    }
    Ok(())
}

/// The version that an upload's parts make. What was fixed at the beginning is taken from there.
fn assemble(
    order: Order,
    modified: WallTime,
    upload: UploadRecord,
    parts: &[&PartRecord],
) -> ObjectRecord {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part.etag.md5);
    }
    let count = u16::try_from(parts.len()).expect("there are at most PARTS_MAX parts");
    let mut body: Vec<PartRef> = parts.iter().map(|part| part_ref(part)).collect();
    if planted!(PartsOutOfOrder) {
        body.reverse();
    }
    ObjectRecord {
        order,
        null_version: true,
        delete_marker: false,
        modified,
        length: parts.iter().map(|part| part.length).sum(),
        etag: ETag { md5: md5.finalize().into(), parts: count },
        checksum: upload.checksum.and_then(|chosen| checksum::of_parts(chosen, parts)),
        owner: upload.owner,
        grants: Vec::new(),
        storage_class: 0,
        encryption: bytes::Bytes::new(),
        tags: upload.tags,
        lock: Lock::default(),
        attributes: upload.attributes,
        body: Body::Blobs(body),
    }
}

fn part_ref(part: &PartRecord) -> PartRef {
    PartRef {
        number: part.number,
        length: part.length,
        checksum: part.checksum.clone(),
        blob: part.blob.clone(),
    }
}

/// Keep what came of a Complete, for a while.
fn keep(
    txn: &mut Txn<'_>,
    target: &Target,
    upload: Order,
    outcome: &Outcome,
) -> Result<(), RowError> {
    let kept = txn.header.clock;
    txn.header.expiry_floor = txn.header.expiry_floor.min(kept);
    let completed = Completed { outcome: outcome.clone() };
    txn.rows.put(&Key::Completed { target: target.clone(), upload }, &completed)?;
    txn.rows.put_new(&Key::Expiry { kept, target: target.clone(), upload }, bytes::Bytes::new());
    Ok(())
}
