//! ListObjects and ListMultipartUploads: scans joined into one page.
//!
//! A page is full when one more entry than asked for has been found, so that *truncated* is exact.
//!
//! Where a listing begins: a marker that is itself a common prefix (it ends with the first delimiter
//! behind the listing's prefix) stands for all keys under it, and the listing goes on after them.
//! Any other marker is a key, compared with keys: if it lies inside a common prefix and keys under
//! that prefix follow it, the prefix is listed, as S3 does for `start-after`.
//!
//! ```text
//! (bucket known) ────────▶ Scanning ──page full or end──▶ reply
//!       └─▶ LookingUp ──▶   │  ▲
//!               ▲           └──┘ once, if the range does not know the bucket's id
//! ```

use super::answers;
use super::buckets::{BUCKET_TAG, BucketLookup};
use super::context::{Context, Input};
use crate::ids::{BucketId, Order};
use crate::object::LIST_KEYS_MAX;
use crate::range::command::{Read, ReadReply, ScanRequest, ScanStart, Scanned};
use crate::request::{
    ApiError, BucketPath, ListEntry, ListRequest, ListUploadsRequest, ListedObject, ListedUpload,
    Page, Reply,
};

/// A listing.
#[derive(Debug)]
pub(super) enum List {
    /// The root range is asked for the bucket.
    LookingUp(Scan),
    /// The range is asked for entries.
    Scanning(Scan, BucketId),
}

/// How far a listing is.
#[derive(Debug)]
pub(super) struct Scan {
    lookup: BucketLookup,
    prefix: String,
    delimiter: Option<String>,
    start: ScanStart,
    entries_max: usize,
    found: Found,
}

#[derive(Debug)]
enum Found {
    Objects(Vec<ListEntry<ListedObject>>),
    Uploads { entries: Vec<ListEntry<ListedUpload>>, upload_after: Option<Order> },
}

impl List {
    /// Begin a listing of objects.
    pub(super) fn objects(cx: &mut Context<'_>, request: ListRequest) -> Option<Self> {
        let delimiter = request.delimiter.filter(|delimiter| !delimiter.is_empty());
        let start = start(&request.prefix, delimiter.as_deref(), request.after);
        Self::begin(cx, request.bucket, request.prefix, delimiter, start, request.keys_max, {
            Found::Objects(Vec::new())
        })
    }

    /// Begin a listing of uploads.
    pub(super) fn uploads(cx: &mut Context<'_>, request: ListUploadsRequest) -> Option<Self> {
        let delimiter = request.delimiter.filter(|delimiter| !delimiter.is_empty());
        let (start, upload_after) = match (request.key_after, request.upload_after) {
            (Some(key), Some(upload)) => (ScanStart::AtKey(key), Some(upload)),
            // An upload marker without a key marker is ignored, as S3 does.
            (key, _) => (start(&request.prefix, delimiter.as_deref(), key), None),
        };
        Self::begin(cx, request.bucket, request.prefix, delimiter, start, request.uploads_max, {
            Found::Uploads { entries: Vec::new(), upload_after }
        })
    }

    /// Go on; `None` if the request has been answered.
    pub(super) fn on(self, cx: &mut Context<'_>, input: Input) -> Option<Self> {
        let Input::Answer { tag, result } = input else { return Some(self) };
        match self {
            Self::LookingUp(scan) if tag == BUCKET_TAG => match scan.lookup.answered(cx, result) {
                Ok(bucket) => scan.ask(cx, bucket.id),
                Err(error) => {
                    cx.reply(Err(error));
                    None
                }
            },
            Self::Scanning(scan, bucket) if tag != BUCKET_TAG => match answers::read(result) {
                Ok(reply) => scan.found(cx, bucket, reply),
                Err(error) => {
                    cx.reply(Err(error));
                    None
                }
            },
            waiting => Some(waiting),
        }
    }

    fn begin(
        cx: &mut Context<'_>,
        path: BucketPath,
        prefix: String,
        delimiter: Option<String>,
        start: ScanStart,
        entries_max: u32,
        found: Found,
    ) -> Option<Self> {
        let lookup = BucketLookup::new(path);
        let entries_max = usize::try_from(entries_max.min(LIST_KEYS_MAX)).unwrap_or(0);
        let mut scan = Scan { lookup, prefix, delimiter, start, entries_max, found };
        match scan.lookup.begin(cx) {
            Some(bucket) => scan.ask(cx, bucket.id),
            None => Some(Self::LookingUp(scan)),
        }
    }
}

impl Scan {
    /// Ask for what is missing, and one entry more. An empty page needs a look at the bucket too.
    fn ask(self, cx: &mut Context<'_>, bucket: BucketId) -> Option<List> {
        let wanted = self.entries_max + 1 - self.found.len().min(self.entries_max);
        let scan = ScanRequest {
            tenant: self.lookup.path().tenant,
            bucket,
            prefix: self.prefix.clone(),
            delimiter: self.delimiter.clone(),
            start: self.start.clone(),
            limit: u32::try_from(wanted).unwrap_or(u32::MAX),
        };
        let read = match &self.found {
            Found::Objects(_) => Read::Scan(scan),
            Found::Uploads { upload_after, .. } => {
                Read::Uploads { scan, upload_after: *upload_after }
            }
        };
        cx.read(0, read);
        Some(List::Scanning(self, bucket))
    }

    fn found(mut self, cx: &mut Context<'_>, bucket: BucketId, reply: ReadReply) -> Option<List> {
        let next = match (&mut self.found, reply) {
            (Found::Objects(entries), ReadReply::Scan(page)) => join(entries, page),
            (Found::Uploads { entries, upload_after }, ReadReply::Uploads(page)) => {
                // An upload that begins a scan is named by its last entry, if the scan goes on
                // within its key.
                *upload_after = match (&page.next, page.entries.last()) {
                    (Some(ScanStart::AtKey(key)), Some(ListEntry::Item(last)))
                        if last.key.as_str() == key =>
                    {
                        Some(last.upload.order)
                    }
                    (Some(next), None) if *next == self.start => *upload_after,
                    _ => None,
                };
                join(entries, page)
            }
            (_, ReadReply::NoSuchBucket) => {
                if self.lookup.unknown(cx) {
                    return Some(List::LookingUp(self));
                }
                cx.reply(Err(ApiError::NoSuchBucket));
                return None;
            }
            _ => {
                cx.reply(Err(answers::unexpected()));
                return None;
            }
        };
        match next {
            Some(next) if self.found.len() <= self.entries_max && self.entries_max > 0 => {
                self.start = next;
                self.ask(cx, bucket)
            }
            _ => {
                cx.reply(Ok(self.page()));
                None
            }
        }
    }

    fn page(self) -> Reply {
        match self.found {
            Found::Objects(entries) => Reply::List(cut(entries, self.entries_max)),
            Found::Uploads { entries, .. } => Reply::Uploads(cut(entries, self.entries_max)),
        }
    }
}

impl Found {
    fn len(&self) -> usize {
        match self {
            Self::Objects(entries) => entries.len(),
            Self::Uploads { entries, .. } => entries.len(),
        }
    }
}

/// Where a scan behind a marker begins; see the module.
fn start(prefix: &str, delimiter: Option<&str>, after: Option<String>) -> ScanStart {
    let Some(after) = after.filter(|after| !after.is_empty()) else { return ScanStart::First };
    let is_common_prefix = delimiter.is_some_and(|delimiter| {
        after.strip_prefix(prefix).is_some_and(|rest| {
            rest.find(delimiter).is_some_and(|at| at + delimiter.len() == rest.len())
        })
    });
    if is_common_prefix { ScanStart::AfterPrefix(after) } else { ScanStart::AfterKey(after) }
}

/// Add a scan's entries. A common prefix that both end with and begin with is one.
fn join<T>(entries: &mut Vec<ListEntry<T>>, page: Scanned<T>) -> Option<ScanStart> {
    for entry in page.entries {
        let again = match (&entry, entries.last()) {
            (ListEntry::Prefix(prefix), Some(ListEntry::Prefix(last))) => prefix == last,
            _ => false,
        };
        if !again {
            entries.push(entry);
        }
    }
    page.next
}

fn cut<T>(mut entries: Vec<ListEntry<T>>, entries_max: usize) -> Page<ListEntry<T>> {
    let truncated = entries_max > 0 && entries.len() > entries_max && !planted!(ListingEndsEarly);
    entries.truncate(entries_max);
    Page { entries, truncated }
}
