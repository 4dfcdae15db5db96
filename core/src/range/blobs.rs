//! References to blobs: counted under the object key that refers to them. A blob whose count falls
//! to nothing is dead for ever, and leaves a garbage row for reclaiming.

use super::cluster;
use super::command::Rejection;
use super::keys::{self, Key};
use super::overlay::{self, Overlay};
use super::records::{BLOB_STORES_MAX, BlobCount, Garbage};
use super::state::{Damaged, RowError, Stop, Txn};
use bytes::Bytes;

use crate::codec::Wire;
use crate::ids::Order;
use crate::object::{BlobRef, Body, ObjectRecord, OwnedBlob, PUT_BYTES_MAX, PartRef, Target};
use crate::rows::Step;

/// Whether a blob of `length` bytes may be referenced: it is well placed, makes sense, and is not
/// dead.
pub(super) fn admit(
    txn: &Txn<'_>,
    target: &Target,
    blob: &BlobRef,
    length: u64,
) -> Result<(), Stop> {
    let sized = blob.length == length
        && (1..=PUT_BYTES_MAX).contains(&length)
        && blob.block_size > 0
        && blob.chunk_size >= blob.block_size
        && (1..=BLOB_STORES_MAX).contains(&blob.stores.len());
    if !sized {
        return Err(Rejection::Malformed.into());
    }
    let is_stale = blob.epoch < txn.header.epoch_floor || !cluster::is_acknowledged(txn, blob);
    if is_stale && !planted!(EpochFloorIgnored) {
        return Err(Rejection::StaleEpoch.into());
    }
    let dead = Key::Garbage { target: target.clone(), blob: blob.blob };
    match txn.rows.get::<Garbage>(&dead)? {
        Some(_) => Err(Rejection::Malformed.into()),
        None => Ok(()),
    }
}

/// Count one more reference.
pub(super) fn reference(
    txn: &mut Txn<'_>,
    target: &Target,
    blob: &BlobRef,
) -> Result<(), RowError> {
    let key = Key::Blob { target: target.clone(), blob: blob.blob };
    let count = txn.rows.get::<BlobCount>(&key)?.map_or(0, |row| row.count);
    // One reference costs one command at least; 2^32 of them do not fit under one key.
    txn.rows.put(&key, &BlobCount { count: count.saturating_add(1) })
}

/// Count one reference less; at none, the blob is dead.
pub(super) fn release(
    txn: &mut Txn<'_>,
    order: Order,
    target: &Target,
    blob: &BlobRef,
) -> Result<(), RowError> {
    let key = Key::Blob { target: target.clone(), blob: blob.blob };
    match txn.rows.get::<BlobCount>(&key)?.map_or(0, |row| row.count) {
        0 | 1 => {
            txn.rows.delete(&key)?;
            if planted!(DeathNotRecorded) {
                return Ok(());
            }
            let garbage = Garbage { died: order, blob: blob.clone() };
            txn.rows.put(&Key::Garbage { target: target.clone(), blob: blob.blob }, &garbage)
        }
        count => txn.rows.put(&key, &BlobCount { count: count - 1 }),
    }
}

/// The parts of a version, wherever they are kept; none if its bytes are inline.
pub(super) fn parts_of(
    txn: &Txn<'_>,
    target: &Target,
    record: &ObjectRecord,
) -> Result<Vec<PartRef>, RowError> {
    match &record.body {
        Body::Inline => Ok(Vec::new()),
        Body::Blobs(parts) if parts.is_empty() => {
            super::objects::spilled_parts(&txn.rows, target, record.order)
        }
        Body::Blobs(parts) => Ok(parts.clone()),
    }
}

/// Write a new version's row, and its bytes or long list of parts beside it.
pub(super) fn write_version(
    txn: &mut Txn<'_>,
    target: &Target,
    mut record: ObjectRecord,
    inline: Option<&Bytes>,
) {
    let order = record.order;
    let body_key = Key::Body { target: target.clone(), order };
    if let Some(bytes) = inline.filter(|bytes| !bytes.is_empty()) {
        txn.rows.put_new(&body_key, bytes.clone());
    }
    if let Body::Blobs(parts) = &mut record.body
        && parts.len() > super::objects::PARTS_IN_ROW_MAX
    {
        let parts = core::mem::take(parts);
        txn.rows.put_new(&body_key, super::records::PartList { parts }.to_bytes());
    }
    txn.rows.put_new(&Key::Version { target: target.clone(), order }, record.to_bytes());
}

/// What a range knows of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobState {
    /// It is referenced.
    Referenced,
    /// It is dead, and a row still says so.
    Dead,
    /// Nothing: it was never referenced, or is dead and forgotten.
    Unknown,
}

/// What there is of a blob.
pub(super) fn state_of(rows: &Overlay<'_>, blob: &OwnedBlob) -> Result<BlobState, RowError> {
    let OwnedBlob { blob, owner } = blob;
    let target = owner.clone();
    if rows.get::<BlobCount>(&Key::Blob { target: target.clone(), blob: *blob })?.is_some() {
        return Ok(BlobState::Referenced);
    }
    let dead = rows.get::<Garbage>(&Key::Garbage { target, blob: *blob })?;
    Ok(if dead.is_some() { BlobState::Dead } else { BlobState::Unknown })
}

/// A dead blob that is not forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadBlob {
    /// Where it was referenced.
    pub owner: Target,
    /// When its last reference went.
    pub died: Order,
    /// What it was.
    pub blob: BlobRef,
}

/// Some of the dead blobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadBlobs {
    /// In the order of their rows' keys.
    pub found: Vec<DeadBlob>,
    /// Where to go on; `None` at the end.
    pub next: Option<Bytes>,
}

/// At most `limit` dead blobs, from the place `from` on. Passes about `rows_max` rows at most, forgotten ones
/// too.
pub(super) fn dead(
    rows: &Overlay<'_>,
    from: Option<&Bytes>,
    limit: usize,
    rows_max: u32,
) -> Result<DeadBlobs, RowError> {
    let mut span = keys::after_objects();
    if let Some(from) = from {
        span.start = span.start.max(from.clone());
    }
    let mut cursor = rows.cursor(&span);
    let mut found: Vec<DeadBlob> = Vec::new();
    let mut at = span.start;
    loop {
        let left = rows_max.saturating_sub(cursor.passed()).max(1);
        let key = match cursor.seek(&at, left) {
            Ok(Step::Row(key)) => Bytes::copy_from_slice(key),
            Ok(Step::End) => return Ok(DeadBlobs { found, next: None }),
            Ok(Step::Spent(key)) => {
                let next = Some(Bytes::copy_from_slice(key));
                return Ok(DeadBlobs { found, next });
            }
            // What was found so far is not looked for again.
            Err(_) if !found.is_empty() => return Ok(DeadBlobs { found, next: Some(at) }),
            Err(miss) => return Err(miss.into()),
        };
        let decoded = Key::decode(&key).map_err(|error| Damaged { key: key.clone(), error });
        if let Key::Garbage { target, .. } = decoded.map_err(RowError::Damaged)? {
            match cursor.value() {
                Ok(value) => {
                    let Garbage { died, blob } = overlay::decode(&key, &value)?;
                    found.push(DeadBlob { owner: target, died, blob });
                }
                Err(_) if !found.is_empty() => return Ok(DeadBlobs { found, next: Some(at) }),
                Err(miss) => return Err(miss.into()),
            }
        }
        let mut behind = key.to_vec();
        behind.push(0);
        at = Bytes::from(behind);
        if cursor.passed() >= rows_max || found.len() >= limit {
            return Ok(DeadBlobs { found, next: Some(at) });
        }
    }
}

/// Forget dead blobs.
pub(super) fn forget(txn: &mut Txn<'_>, blobs: &[OwnedBlob]) -> Result<(), RowError> {
    for OwnedBlob { blob, owner } in blobs {
        txn.rows.delete(&Key::Garbage { target: owner.clone(), blob: *blob })?;
    }
    Ok(())
}
