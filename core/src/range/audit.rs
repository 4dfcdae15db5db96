//! What an audit goes through: every blob that anything refers to, of all tenants and buckets.

use bytes::Bytes;

use super::command::{AuditRow, AuditRows, ReadReply};
use super::keys::{self, Key};
use super::overlay::{Overlay, decode_at};
use super::state::RowError;
use crate::ids::BucketId;
use crate::object::{BlobRef, Body, BucketRecord, ObjectRecord, PartRecord, Target};

/// Objects and parts of one page.
pub const AUDIT_ROWS_MAX: usize = 256;
/// Rows that one call looks at.
const SCAN_ROWS_MAX: u32 = 2048;
/// A page ends behind the row that brings it to so many blobs. One object has 10,000 at most.
const AUDIT_BLOBS_MAX: usize = 2000;

/// A page of living objects and parts of uploads that are under way, in the order of their keys, from
/// behind the row that `after` names. A completed upload is an object.
pub(super) fn page(
    rows: &Overlay<'_>,
    after: Option<&Bytes>,
    limit: u32,
) -> Result<ReadReply, RowError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).clamp(1, AUDIT_ROWS_MAX);
    let mut span = keys::all_objects();
    if let Some(after) = after {
        let mut start = after.to_vec();
        start.push(0);
        span.start = span.start.max(Bytes::from(start));
    }
    let (mut found, mut blobs) = (Vec::new(), 0);
    let mut bucket: Option<(Target, String)> = None;
    for _ in 0..SCAN_ROWS_MAX {
        let next = if span.start < span.end { rows.first(&span)? } else { None };
        let Some((key, value)) = next else {
            return Ok(ReadReply::Audit(Box::new(AuditRows { rows: found, next: None })));
        };
        let at = key.encode();
        if found.len() >= limit || blobs >= AUDIT_BLOBS_MAX {
            break;
        }
        span.start = behind(&at);
        let (target, part, refs) = match &key {
            Key::Version { target, .. } => {
                let record: ObjectRecord = decode_at(&key, &value)?;
                (target, None, blobs_of(rows, target, &record)?)
            }
            Key::Part { target, number, .. } => {
                let record: PartRecord = decode_at(&key, &value)?;
                (target, Some(*number), record.blob.into_iter().collect())
            }
            // Counts of the blobs just seen, the last rows of a key.
            Key::Blob { target, .. } => {
                let Target { tenant, bucket, key } = target;
                span.start = keys::after_object_key(*tenant, *bucket, key.as_str());
                continue;
            }
            _ => continue,
        };
        let is_same = |known: &&(Target, String)| {
            (known.0.tenant, known.0.bucket) == (target.tenant, target.bucket)
        };
        let name = match bucket.as_ref().filter(is_same) {
            Some((_, name)) => name.clone(),
            None => {
                let name = bucket_name(rows, target)?;
                bucket = Some((target.clone(), name.clone()));
                name
            }
        };
        blobs += refs.len();
        found.push(AuditRow { at, bucket: name, key: target.key.clone(), part, blobs: refs });
    }
    // Behind the last row that was looked at.
    let mut next = span.start.to_vec();
    next.pop_if(|last| *last == 0);
    Ok(ReadReply::Audit(Box::new(AuditRows { rows: found, next: Some(Bytes::from(next)) })))
}

fn blobs_of(
    rows: &Overlay<'_>,
    target: &Target,
    record: &ObjectRecord,
) -> Result<Vec<BlobRef>, RowError> {
    let parts = match &record.body {
        Body::Inline => Vec::new(),
        Body::Blobs(parts) if parts.is_empty() => {
            super::objects::spilled_parts(rows, target, record.order)?
        }
        Body::Blobs(parts) => parts.clone(),
    };
    Ok(parts.into_iter().filter_map(|part| part.blob).collect())
}

/// What the bucket of `target` is called, as far as a scan of bounded length finds it.
fn bucket_name(rows: &Overlay<'_>, target: &Target) -> Result<String, RowError> {
    let mut span = keys::directory(target.tenant, None);
    for _ in 0..SCAN_ROWS_MAX {
        let Some((key, value)) = rows.first(&span)? else { break };
        let record: BucketRecord = decode_at(&key, &value)?;
        if record.id == target.bucket {
            return Ok(record.name.as_str().to_owned());
        }
        span.start = keys::directory(target.tenant, Some(&record.name)).start;
    }
    let BucketId(id) = target.bucket;
    Ok(format!("bucket-{id}"))
}

fn behind(key: &Bytes) -> Bytes {
    let mut out = key.to_vec();
    out.push(0);
    Bytes::from(out)
}
