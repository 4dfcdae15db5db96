//! All rows of a range, read once and added up.

use bytes::Bytes;

use super::Medium;
use super::disk::{Disk, Unreadable};
use crate::codec::{DecodeError, Wire};
use crate::hash::{StateHash, ValueHash};
use crate::object::{Body, ObjectRecord, PartRecord, UploadRecord};
use crate::range::keys::Key;
use crate::range::records::{BlobCount, Garbage};
use crate::range::{Damaged, Range, RowError, is_in_tree_hash};
use crate::rows::{Rows, Step};

/// Rows that are read at a time...
const PAGE_ROWS: usize = 256;
/// ...unless they have more bytes than this.
const PAGE_BYTES: usize = 1 << 20;
/// Rows that are named because they make no sense; more are only counted.
const BAD_NAMED_MAX: usize = 100;
/// Behind all keys.
const KEYS_END: [u8; 1] = [0xff];

/// The rows of a range by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowsReport {
    /// All of them.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Buckets.
    pub buckets: u64,
    /// Objects...
    pub objects: u64,
    /// ...and their bytes, as their records say.
    pub object_bytes: u64,
    /// Objects whose bytes are in rows.
    pub inline: u64,
    /// Uploads under way.
    pub uploads: u64,
    /// Parts of these.
    pub parts: u64,
    /// Results of completed uploads that are kept.
    pub completed: u64,
    /// Blobs that are referenced.
    pub blobs: u64,
    /// References to them.
    pub references: u64,
    /// Blobs that are dead and not freed.
    pub garbage: u64,
    /// Their bytes.
    pub garbage_bytes: u64,
    /// Rows that make no sense.
    pub bad: u64,
    /// What is wrong with the first of these.
    pub bad_named: Vec<String>,
    /// Whether the rows add up to the hash that the replica has kept of them.
    pub adds_up: bool,
}

impl RowsReport {
    fn count(&mut self, key: &Bytes, value: &Bytes) -> Result<(), DecodeError> {
        self.rows += 1;
        self.bytes += (key.len() + value.len()) as u64;
        match Key::decode(key)? {
            Key::Bucket { .. } => self.buckets += 1,
            Key::Version { .. } => {
                let record = ObjectRecord::from_bytes(value)?;
                self.objects += 1;
                self.object_bytes += record.length;
                self.inline += u64::from(record.body == Body::Inline);
            }
            Key::Upload { .. } => {
                UploadRecord::from_bytes(value)?;
                self.uploads += 1;
            }
            Key::Part { .. } => {
                PartRecord::from_bytes(value)?;
                self.parts += 1;
            }
            Key::Blob { .. } => {
                self.references += u64::from(BlobCount::from_bytes(value)?.count);
                self.blobs += 1;
            }
            Key::Completed { .. } => self.completed += 1,
            Key::Garbage { .. } => {
                self.garbage_bytes += Garbage::from_bytes(value)?.blob.length;
                self.garbage += 1;
            }
            // Those of the hot state and the map were read when it was loaded; settings and bodies are
            // what they are.
            Key::Header
            | Key::Session { .. }
            | Key::Expiry { .. }
            | Key::Map
            | Key::Replaced { .. }
            | Key::Settings { .. }
            | Key::Body { .. } => {}
        }
        Ok(())
    }
}

#[derive(Default)]
struct Page {
    rows: Vec<(Bytes, Bytes)>,
    done: bool,
}

fn page(rows: &impl Rows, from: &Bytes) -> Result<Page, RowError> {
    let mut cursor = rows.cursor(from, &KEYS_END);
    let (mut next, mut bytes, mut page) = (from.clone(), 0, Page::default());
    while page.rows.len() < PAGE_ROWS && bytes < PAGE_BYTES {
        let row = match cursor.seek(&next, u32::MAX) {
            Ok(Step::Row(key)) if key < &next[..] => {
                let key = Bytes::copy_from_slice(key);
                let error = DecodeError::Invalid { what: "order of rows" };
                return Err(RowError::Damaged(Damaged { key, error }));
            }
            Ok(Step::Row(key)) => {
                let key = Bytes::copy_from_slice(key);
                cursor.value().map(|value| (key, value))
            }
            Ok(Step::End | Step::Spent(_)) => {
                page.done = true;
                break;
            }
            Err(miss) => Err(miss),
        };
        match row {
            Ok((key, value)) => {
                bytes += key.len() + value.len();
                next = key.iter().copied().chain([0]).collect();
                page.rows.push((key, value));
            }
            Err(miss) if page.rows.is_empty() => return Err(miss.into()),
            // What was read counts; the rest comes with the next page.
            Err(_) => break,
        }
    }
    Ok(page)
}

impl<M: Medium> Disk<M> {
    /// Read all rows of a range, which [`Disk::replica`] has given, and add them up.
    ///
    /// # Errors
    /// [`Unreadable`] if some cannot be had. What makes no sense is counted.
    pub fn add_up(&mut self, range: &Range) -> Result<RowsReport, Unreadable> {
        let mut report = RowsReport::default();
        let mut hash = StateHash::default();
        let mut from = Bytes::new();
        loop {
            let page = self.read(|storage| page(&storage.rows(range.id()), &from))?;
            for (key, value) in &page.rows {
                if is_in_tree_hash(key) {
                    hash.insert(key, ValueHash::of(value));
                }
                if let Err(error) = report.count(key, value) {
                    report.bad += 1;
                    if report.bad_named.len() < BAD_NAMED_MAX {
                        report.bad_named.push(format!("row {key:?}: {error}"));
                    }
                }
            }
            if let Some((key, _)) = page.rows.last() {
                from = key.iter().copied().chain([0]).collect();
            }
            if page.done {
                break;
            }
        }
        report.adds_up = hash == range.tree_hash();
        Ok(report)
    }
}
