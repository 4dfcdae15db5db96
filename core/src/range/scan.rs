//! Listings: current versions, or uploads, in key order, rolled up at a delimiter.
//!
//! A cursor keeps its place among the rows: the rows beside a key's version, and all that lies beneath
//! a common prefix, are passed by one move. A call passes [`ROWS_PASSED_MAX`] rows at most, deleted ones
//! too, and then says where to go on; only the rows of a single key are passed in one call however
//! many there are.

use super::command::{ReadReply, ScanRequest, ScanStart, Scanned};
use super::command_codec::REPLY_ENTRIES_MAX;
use super::keys::{self, Key, ObjectTable};
use super::overlay::{Overlay, decode};
use super::records::{BucketSettings, ListedRecord};
use super::state::{Damaged, RowError};
use crate::codec::DecodeError;
use crate::ids::Order;
use crate::object::{ObjectKey, Target, UploadRecord};
use crate::request::{ListEntry, ListedObject, ListedUpload};
use crate::rows::{Cursor, Step};

use bytes::Bytes;

/// Rows that one scan passes: enough for a full page with some to spare, few enough that a call
/// stays short.
const ROWS_PASSED_MAX: u32 = 8192;
/// Deleted rows of a single key that are passed at a time, when a call may not end within the key.
const ROWS_OF_KEY: u32 = 64;

/// What a scan has found before it had to wait for a block: it goes on from there, in whatever the rows
/// are by then, as one call of a listing goes on after another.
#[derive(Debug, Default)]
pub struct Progress {
    entries: Vec<ListEntry<ListedObject>>,
    /// Where to go on; `None`: nothing was found yet.
    start: Option<ScanStart>,
}

/// A scan on its way.
struct Walk<'a> {
    cursor: Box<dyn Cursor + 'a>,
    request: &'a ScanRequest,
    /// Where it began.
    start: ScanStart,
    limit: usize,
    /// From where on to look.
    from: Vec<u8>,
    /// Behind the last object key that is covered.
    behind: Vec<u8>,
    /// The row where it began.
    began: Vec<u8>,
    /// The row it is at, and where its object key ends.
    row: Vec<u8>,
    end: usize,
    covered: Covered,
}

/// Where a following call goes on: behind all that is covered so far.
enum Covered {
    /// Where this one began.
    Start,
    /// Behind the object key that [`Walk::behind`] is behind.
    Key,
    /// Behind a common prefix.
    Prefix(String),
    /// Within the uploads of a key.
    Uploads(ObjectKey),
}

/// What a walk has come to.
enum Found {
    /// A row; its key is [`Walk::row`].
    Row(ObjectTable),
    /// The call ends; where the next one goes on, if there is more.
    End(Option<ScanStart>),
}

/// Current versions. What is found before a block is missing stays in `progress`.
pub(super) fn objects(
    rows: &Overlay<'_>,
    request: &ScanRequest,
    progress: &mut Progress,
) -> Result<ReadReply, RowError> {
    let start = progress.start.clone().unwrap_or_else(|| request.start.clone());
    let Some(mut walk) = Walk::begin(rows, request, start)? else {
        return Ok(ReadReply::NoSuchBucket);
    };
    if planted!(MarkerSkipsKey)
        && progress.start.is_none()
        && matches!(request.start, ScanStart::AfterKey(_))
        && let Found::Row(_) = walk.next(0, ObjectTable::Version)?
    {
        walk.pass_key();
    }
    match objects_of(&mut walk, &mut progress.entries) {
        Ok(next) => {
            let entries = core::mem::take(&mut progress.entries);
            Ok(ReadReply::Scan(Scanned { entries, next }))
        }
        Err(error) => {
            if planted!(ListingWaitForgets) {
                progress.entries.clear();
            }
            if walk.has_covered() {
                probe!(ListingWentOn);
                progress.start = Some(walk.next_start()?);
            }
            Err(error)
        }
    }
}

/// Find entries, and where the next call goes on.
fn objects_of(
    walk: &mut Walk<'_>,
    entries: &mut Vec<ListEntry<ListedObject>>,
) -> Result<Option<ScanStart>, RowError> {
    loop {
        let table = match walk.next(entries.len(), ObjectTable::Version)? {
            Found::Row(table) => table,
            Found::End(next) => return Ok(next),
        };
        let record = match table {
            ObjectTable::Version => {
                let value = walk.cursor.value()?;
                let record = ListedRecord::decode(&value).map_err(|error| walk.damaged(error))?;
                Some(record).filter(|record| !record.delete_marker)
            }
            // The key has uploads or blobs, and no version.
            _ => None,
        };
        let Some(record) = record else {
            walk.pass_key();
            continue;
        };
        let key = walk.key()?;
        match walk.common_prefix(key.as_str()) {
            Some(prefix) => {
                walk.pass_prefix(&prefix);
                entries.push(ListEntry::Prefix(prefix));
            }
            None => {
                walk.pass_key();
                entries.push(ListEntry::Item(listed(key, record)));
            }
        }
    }
}

/// Uploads. If `next` is [`ScanStart::AtKey`] of the last entry's key, more uploads of that key may
/// follow: the caller then gives its order as `upload_after`. If there are no entries and `next` is where
/// this call began, `upload_after` stays what it was.
pub(super) fn uploads(
    rows: &Overlay<'_>,
    request: &ScanRequest,
    upload_after: Option<Order>,
) -> Result<ReadReply, RowError> {
    let Some(mut walk) = Walk::begin(rows, request, request.start.clone())? else {
        return Ok(ReadReply::NoSuchBucket);
    };
    let mut entries = Vec::new();
    if let (ScanStart::AtKey(key), Some(order)) = (&request.start, upload_after)
        && let Ok(key) = ObjectKey::parse(key)
    {
        let target = Target { tenant: request.tenant, bucket: request.bucket, key };
        walk.go_to(&behind_upload(target, order));
    }
    loop {
        let table = match walk.next(entries.len(), ObjectTable::Upload)? {
            Found::Row(table) => table,
            Found::End(next) => return Ok(ReadReply::Uploads(Scanned { entries, next })),
        };
        let key = walk.key()?;
        match table {
            ObjectTable::Version | ObjectTable::Body => {
                let (tenant, bucket) = (request.tenant, request.bucket);
                walk.go_to(&keys::uploads(&Target { tenant, bucket, key }).start);
            }
            ObjectTable::Upload => match walk.common_prefix(key.as_str()) {
                Some(prefix) => {
                    walk.pass_prefix(&prefix);
                    entries.push(ListEntry::Prefix(prefix));
                }
                None => {
                    let value = walk.cursor.value()?;
                    let at = Bytes::copy_from_slice(&walk.row);
                    let upload: UploadRecord = decode(&at, &value)?;
                    let mut behind = at.to_vec();
                    behind.push(0);
                    walk.go_to(&behind);
                    walk.covered = Covered::Uploads(key.clone());
                    entries.push(ListEntry::Item(ListedUpload { key, upload }));
                }
            },
            ObjectTable::Behind => walk.pass_key(),
        }
    }
}

impl<'a> Walk<'a> {
    /// `None` if there is no such bucket.
    fn begin(
        rows: &Overlay<'a>,
        request: &'a ScanRequest,
        start: ScanStart,
    ) -> Result<Option<Self>, RowError> {
        let (tenant, bucket) = (request.tenant, request.bucket);
        if rows.get::<BucketSettings>(&Key::Settings { tenant, bucket })?.is_none() {
            return Ok(None);
        }
        let mut span = keys::prefixed(tenant, bucket, &request.prefix);
        let first = match &start {
            ScanStart::First => span.start.clone(),
            ScanStart::AtKey(key) => keys::at_key(tenant, bucket, key),
            ScanStart::AfterKey(key) => keys::after_object_key(tenant, bucket, key),
            ScanStart::AfterPrefix(prefix) => keys::prefixed(tenant, bucket, prefix).end,
        };
        span.start = span.start.max(first);
        let most = if buggify!(OneKeyPerScan) { 1 } else { REPLY_ENTRIES_MAX };
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX).min(most);
        let from = span.start.to_vec();
        Ok(Some(Self {
            cursor: rows.cursor(&span),
            request,
            start,
            limit,
            began: from.clone(),
            from,
            behind: Vec::new(),
            row: Vec::new(),
            end: 0,
            covered: Covered::Start,
        }))
    }

    /// The next row, if the call is not to end before it. Rows of a key behind those of `last` say
    /// nothing more about it.
    fn next(&mut self, entries: usize, last: ObjectTable) -> Result<Found, RowError> {
        loop {
            let left = ROWS_PASSED_MAX.saturating_sub(self.cursor.passed()).max(ROWS_OF_KEY);
            let (row, spent) = match self.cursor.seek(&self.from, left)? {
                Step::End => return Ok(Found::End(None)),
                Step::Row(row) => (row, false),
                Step::Spent(row) => (row, true),
            };
            self.row.clear();
            self.row.extend_from_slice(row);
            let (end, table) = keys::object_row(&self.row).map_err(|error| self.damaged(error))?;
            self.end = end;
            if !spent {
                let is_spent = self.cursor.passed() > ROWS_PASSED_MAX || buggify!(ShortScan);
                let is_full = entries >= self.limit || (is_spent && self.has_covered());
                return if is_full {
                    self.next_start().map(|next| Found::End(Some(next)))
                } else {
                    Ok(Found::Row(table))
                };
            }
            // There are deleted rows only, from the last key that is covered up to this one.
            if table > last {
                self.pass_key();
                return self.next_start().map(|next| Found::End(Some(next)));
            }
            if self.row[..self.end] > self.began[..] {
                let key = self.key()?.as_str().to_owned();
                return Ok(Found::End(Some(ScanStart::AtKey(key))));
            }
        }
    }

    fn has_covered(&self) -> bool {
        !matches!(self.covered, Covered::Start)
    }

    /// Where the next call goes on.
    fn next_start(&self) -> Result<ScanStart, RowError> {
        Ok(match &self.covered {
            Covered::Start => self.start.clone(),
            Covered::Prefix(prefix) => ScanStart::AfterPrefix(prefix.clone()),
            Covered::Uploads(key) => ScanStart::AtKey(key.as_str().to_owned()),
            Covered::Key => {
                let key = keys::object_key_of(&self.behind, self.behind.len());
                let key = key.map_err(|error| self.damaged(error))?;
                ScanStart::AfterKey(key.as_str().to_owned())
            }
        })
    }

    /// What `key` is rolled up into.
    fn common_prefix(&self, key: &str) -> Option<String> {
        let delimiter = self.request.delimiter.as_deref().filter(|text| !text.is_empty())?;
        let prefix = self.request.prefix.len();
        let at = key.get(prefix..)?.find(delimiter)?;
        key.get(..prefix + at + delimiter.len()).map(ToOwned::to_owned)
    }

    /// The object key of the row it is at.
    fn key(&self) -> Result<ObjectKey, RowError> {
        keys::object_key_of(&self.row, self.end).map_err(|error| self.damaged(error))
    }

    fn pass_key(&mut self) {
        keys::behind_object(&mut self.behind, &self.row, self.end);
        self.from.clone_from(&self.behind);
        self.covered = Covered::Key;
    }

    fn pass_prefix(&mut self, prefix: &str) {
        let (tenant, bucket) = (self.request.tenant, self.request.bucket);
        self.go_to(&keys::prefixed(tenant, bucket, prefix).end);
        self.covered = Covered::Prefix(prefix.to_owned());
    }

    fn go_to(&mut self, from: &[u8]) {
        if from > self.from.as_slice() {
            self.from.clear();
            self.from.extend_from_slice(from);
        }
    }

    fn damaged(&self, error: DecodeError) -> RowError {
        RowError::Damaged(Damaged { key: Bytes::copy_from_slice(&self.row), error })
    }
}

fn behind_upload(target: Target, order: Order) -> Vec<u8> {
    let mut key = Key::Upload { target, order }.encode().to_vec();
    key.push(0);
    key
}

fn listed(key: ObjectKey, record: ListedRecord) -> ListedObject {
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
