//! Listings: current versions, or uploads, in key order, rolled up at a delimiter.
//!
//! Common prefixes are passed by one seek, whatever lies beneath them, and so are the other rows of
//! a key. A call looks at [`SCAN_ROWS_MAX`] rows at most and then says where to go on.

use super::command::{ReadReply, ScanRequest, ScanStart, Scanned};
use super::command_codec::REPLY_ENTRIES_MAX;
use super::keys::{self, Key, Span};
use super::overlay::{Overlay, decode_at};
use super::records::BucketSettings;
use super::state::{Damaged, RowError};
use crate::codec::DecodeError;
use crate::ids::Order;
use crate::object::{ObjectKey, ObjectRecord, Target, UploadRecord};
use crate::request::{ListEntry, ListedObject, ListedUpload};

/// Rows that one scan looks at: enough for a full page with some to spare, few enough that a call
/// stays short.
pub const SCAN_ROWS_MAX: u32 = 2048;

/// A scan on its way.
struct Walk<'a> {
    rows: &'a Overlay<'a>,
    request: &'a ScanRequest,
    span: Span,
    limit: usize,
    looked: u32,
    /// Where a following call goes on: behind all that is covered so far.
    covered: ScanStart,
}

/// Current versions.
pub(super) fn objects(rows: &Overlay<'_>, request: &ScanRequest) -> Result<ReadReply, RowError> {
    let Some(mut walk) = Walk::begin(rows, request)? else { return Ok(ReadReply::NoSuchBucket) };
    let mut entries = Vec::new();
    loop {
        let Some((key, value)) = walk.seek()? else {
            return Ok(ReadReply::Scan(Scanned { entries, next: None }));
        };
        if walk.is_full(entries.len()) {
            return Ok(ReadReply::Scan(Scanned { entries, next: Some(walk.covered) }));
        }
        let target = target_of(&key)?;
        let record: Option<ObjectRecord> = match key {
            Key::Version { .. } => Some(decode_at(&key, &value)?),
            // The key has uploads or blobs, and no version.
            _ => None,
        };
        let Some(record) = record.filter(|record| !record.delete_marker) else {
            walk.pass_key(&target.key);
            continue;
        };
        match walk.common_prefix(target.key.as_str()) {
            Some(prefix) => {
                walk.pass_prefix(&prefix);
                entries.push(ListEntry::Prefix(prefix));
            }
            None => {
                walk.pass_key(&target.key);
                entries.push(ListEntry::Item(listed(target.key, record)));
            }
        }
    }
}

/// Uploads. `next` is [`ScanStart::AtKey`] only if the last entry is an upload of that key; the
/// caller then gives its order as `upload_after`.
pub(super) fn uploads(
    rows: &Overlay<'_>,
    request: &ScanRequest,
    upload_after: Option<Order>,
) -> Result<ReadReply, RowError> {
    let Some(mut walk) = Walk::begin(rows, request)? else { return Ok(ReadReply::NoSuchBucket) };
    let mut entries = Vec::new();
    if let (ScanStart::AtKey(key), Some(order)) = (&request.start, upload_after)
        && let Ok(key) = ObjectKey::parse(key)
    {
        let target = Target { tenant: request.tenant, bucket: request.bucket, key };
        let start = behind_upload(&target, order);
        walk.span.start = walk.span.start.max(start);
    }
    loop {
        let Some((key, value)) = walk.seek()? else {
            return Ok(ReadReply::Uploads(Scanned { entries, next: None }));
        };
        if walk.is_full(entries.len()) {
            return Ok(ReadReply::Uploads(Scanned { entries, next: Some(walk.covered) }));
        }
        let target = target_of(&key)?;
        match &key {
            Key::Version { .. } | Key::Body { .. } => {
                walk.span.start = keys::uploads(&target).start;
            }
            Key::Upload { order, .. } => match walk.common_prefix(target.key.as_str()) {
                Some(prefix) => {
                    walk.pass_prefix(&prefix);
                    entries.push(ListEntry::Prefix(prefix));
                }
                None => {
                    walk.span.start = behind_upload(&target, *order);
                    walk.covered = ScanStart::AtKey(target.key.as_str().to_owned());
                    let upload: UploadRecord = decode_at(&key, &value)?;
                    entries.push(ListEntry::Item(ListedUpload { key: target.key, upload }));
                }
            },
            _ => walk.pass_key(&target.key),
        }
    }
}

impl<'a> Walk<'a> {
    /// `None` if there is no such bucket.
    fn begin(rows: &'a Overlay<'a>, request: &'a ScanRequest) -> Result<Option<Self>, RowError> {
        let (tenant, bucket) = (request.tenant, request.bucket);
        if rows.get::<BucketSettings>(&Key::Settings { tenant, bucket })?.is_none() {
            return Ok(None);
        }
        let mut span = keys::prefixed(tenant, bucket, &request.prefix);
        let start = match &request.start {
            ScanStart::First => span.start.clone(),
            ScanStart::AtKey(key) => keys::at_key(tenant, bucket, key),
            ScanStart::AfterKey(key) => keys::after_object_key(tenant, bucket, key),
            ScanStart::AfterPrefix(prefix) => keys::prefixed(tenant, bucket, prefix).end,
        };
        span.start = span.start.max(start);
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX).min(REPLY_ENTRIES_MAX);
        let covered = request.start.clone();
        Ok(Some(Self { rows, request, span, limit, looked: 0, covered }))
    }

    fn seek(&mut self) -> Result<Option<(Key, bytes::Bytes)>, RowError> {
        self.looked += 1;
        self.rows.first(&self.span)
    }

    fn is_full(&self, entries: usize) -> bool {
        entries >= self.limit || self.looked > SCAN_ROWS_MAX
    }

    /// What `key` is rolled up into.
    fn common_prefix(&self, key: &str) -> Option<String> {
        let delimiter = self.request.delimiter.as_deref().filter(|text| !text.is_empty())?;
        let prefix = self.request.prefix.len();
        let at = key.get(prefix..)?.find(delimiter)?;
        key.get(..prefix + at + delimiter.len()).map(ToOwned::to_owned)
    }

    fn pass_key(&mut self, key: &ObjectKey) {
        let (tenant, bucket) = (self.request.tenant, self.request.bucket);
        self.span.start = keys::after_object_key(tenant, bucket, key.as_str());
        self.covered = ScanStart::AfterKey(key.as_str().to_owned());
    }

    fn pass_prefix(&mut self, prefix: &str) {
        let (tenant, bucket) = (self.request.tenant, self.request.bucket);
        self.span.start = keys::prefixed(tenant, bucket, prefix).end;
        self.covered = ScanStart::AfterPrefix(prefix.to_owned());
    }
}

fn behind_upload(target: &Target, order: Order) -> bytes::Bytes {
    let mut key = Key::Upload { target: target.clone(), order }.encode().to_vec();
    key.push(0);
    bytes::Bytes::from(key)
}

fn target_of(key: &Key) -> Result<Target, RowError> {
    match key {
        Key::Version { target, .. }
        | Key::Body { target, .. }
        | Key::Upload { target, .. }
        | Key::Part { target, .. }
        | Key::Blob { target, .. } => Ok(target.clone()),
        _ => {
            let error = DecodeError::Invalid { what: "a row of another table among objects" };
            Err(RowError::Damaged(Damaged { key: key.encode(), error }))
        }
    }
}

fn listed(key: ObjectKey, record: ObjectRecord) -> ListedObject {
    ListedObject {
        key,
        modified: record.modified,
        etag: record.etag,
        length: record.length,
        owner: record.owner,
        storage_class: record.storage_class,
        checksum: record.checksum.map(|checksum| (checksum.algorithm, checksum.full_object)),
    }
}
