//! References to blobs: counted under the object key that refers to them. A blob whose count falls
//! to nothing is dead for ever, and leaves a garbage row for reclaiming.

use super::cluster;
use super::command::Rejection;
use super::keys::Key;
use super::records::{BLOB_STORES_MAX, BlobCount, Garbage};
use super::state::{RowError, Stop, Txn};
use crate::codec::Wire;
use crate::ids::Order;
use crate::object::{BlobRef, Body, ObjectRecord, PUT_BYTES_MAX, PartRef, Target};

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
    if blob.epoch < txn.header.epoch_floor || !cluster::is_acknowledged(txn, blob) {
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
    inline: Option<&bytes::Bytes>,
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
