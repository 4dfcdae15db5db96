//! Buckets: the directory by name, and the settings row that every command on objects needs.

use super::command::{Outcome, ReadReply, Rejection};
use super::command_codec::REPLY_ENTRIES_MAX;
use super::keys::{self, Key};
use super::overlay::{Overlay, decode_at};
use super::records::BucketSettings;
use super::state::{RowError, Stop, Txn};
use crate::ids::{BucketId, TenantId};
use crate::object::{BucketName, BucketRecord, Owner, Target};

/// Make a bucket, with an id that no bucket had before.
pub(super) fn create(
    txn: &mut Txn<'_>,
    tenant: TenantId,
    name: &BucketName,
    owner: &Owner,
) -> Result<Outcome, Stop> {
    if !super::objects::owner_fits(owner) {
        return Err(Rejection::Malformed.into());
    }
    let key = Key::Bucket { tenant, name: name.clone() };
    if let Some(existing) = txn.rows.get::<BucketRecord>(&key)? {
        return Err(match existing.owner == *owner {
            true => Rejection::BucketAlreadyOwnedByYou,
            false => Rejection::BucketAlreadyExists,
        }
        .into());
    }
    let id = txn.header.bucket_next;
    txn.header.bucket_next = BucketId(id.0 + 1);
    let record = BucketRecord {
        id,
        name: name.clone(),
        created: txn.header.clock,
        owner: owner.clone(),
        intent: 1,
    };
    let settings = BucketSettings {
        intent: record.intent,
        deleting: false,
        versioning: 0,
        lock_days: 0,
        lock_compliance: false,
        quota: None,
    };
    txn.rows.put(&key, &record)?;
    txn.rows.put(&Key::Settings { tenant, bucket: id }, &settings)?;
    Ok(Outcome::Done)
}

/// Remove a bucket that holds no object and no upload.
pub(super) fn delete(
    txn: &mut Txn<'_>,
    tenant: TenantId,
    name: &BucketName,
) -> Result<Outcome, Stop> {
    let key = Key::Bucket { tenant, name: name.clone() };
    let record: BucketRecord = txn.rows.get(&key)?.ok_or(Rejection::NoSuchBucket)?;
    if txn.rows.first(&keys::objects(tenant, record.id))?.is_some() {
        return Err(Rejection::BucketNotEmpty.into());
    }
    txn.rows.delete(&key)?;
    txn.rows.delete(&Key::Settings { tenant, bucket: record.id })?;
    Ok(Outcome::Done)
}

/// Whether the bucket of `target` exists.
pub(super) fn exists(rows: &Overlay<'_>, target: &Target) -> Result<bool, RowError> {
    let key = Key::Settings { tenant: target.tenant, bucket: target.bucket };
    Ok(rows.get::<BucketSettings>(&key)?.is_some())
}

/// That the bucket of `target` exists.
pub(super) fn require(txn: &Txn<'_>, target: &Target) -> Result<(), Stop> {
    match exists(&txn.rows, target)? {
        true => Ok(()),
        false => Err(Rejection::NoSuchBucket.into()),
    }
}

/// A bucket by name.
pub(super) fn read(
    rows: &Overlay<'_>,
    tenant: TenantId,
    name: &BucketName,
) -> Result<ReadReply, RowError> {
    Ok(ReadReply::Bucket(rows.get(&Key::Bucket { tenant, name: name.clone() })?))
}

/// A tenant's buckets by name.
pub(super) fn list(
    rows: &Overlay<'_>,
    tenant: TenantId,
    after: Option<&BucketName>,
    limit: u32,
) -> Result<ReadReply, RowError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(REPLY_ENTRIES_MAX);
    let mut span = keys::directory(tenant, after);
    let mut found: Vec<BucketRecord> = Vec::new();
    while let Some((key, value)) = rows.first(&span)? {
        if found.len() == limit {
            return Ok(ReadReply::Buckets(found, true));
        }
        let record: BucketRecord = decode_at(&key, &value)?;
        span.start = keys::directory(tenant, Some(&record.name)).start;
        found.push(record);
    }
    Ok(ReadReply::Buckets(found, false))
}
