//! What `trine inspect --json` prints. Fields may be added; those that are there keep their meaning.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::admin::schema::Finding;

/// The whole report.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Nothing is damaged or missing, and nothing could not be inspected.
    pub sound: bool,
    /// Every block of every copy was read.
    pub verified: bool,
    /// The disks, in the order in which they were named.
    pub stores: Vec<StoreReport>,
    /// What the replica of the root range says of all of them; none if no disk has a whole one.
    pub metadata: Option<MetadataReport>,
    /// Whatever is damaged or missing, one line each.
    pub findings: Vec<String>,
    /// What could not be inspected.
    pub failures: Vec<Failure>,
}

/// Something that could not be inspected.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Which path.
    pub path: String,
    /// Why not.
    pub error: String,
}

impl Failure {
    /// `error` without the path.
    pub fn new(path: &Path, error: String) -> Self {
        Self { path: path.display().to_string(), error }
    }
}

/// A disk.
#[derive(Debug, Default, Serialize)]
pub struct StoreReport {
    /// Its file.
    pub path: String,
    /// Bytes of the file, holes included.
    pub file_bytes: u64,
    /// 32 hexadecimal digits.
    pub cluster: String,
    /// Which store.
    pub store: u64,
    /// `a`, `b` or `c`.
    pub zone: String,
    /// How often it was started.
    pub incarnation: u64,
    /// Version of the formats on it.
    pub format_version: u8,
    /// How it is laid out.
    pub geometry: Geometry,
    /// Copies of the superblock that do not count, by number.
    pub superblock_faults: BTreeMap<usize, String>,
    /// Its journal.
    pub journal: Journal,
    /// Its segments.
    pub segments: Segments,
    /// Its tables of rows.
    pub tables: Vec<Table>,
    /// Whether the index of chunks could be read; if not it was found anew from the segments.
    pub chunk_index_sound: bool,
    /// Its copies of chunks.
    pub copies: Copies,
    /// Its replicas of ranges.
    pub replicas: Vec<Replica>,
    /// What recovery had to say.
    pub notes: Vec<String>,
}

/// How a disk is laid out; all in bytes.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "docs/disk-format.md has them")]
pub struct Geometry {
    pub capacity: u64,
    pub journal: u64,
    pub journal_piece: u64,
    pub segment: u64,
    pub tree_block: u32,
}

/// A journal; positions count bytes from its first beginning.
#[derive(Debug, Default, Serialize)]
pub struct Journal {
    /// It begins here.
    pub tail: u64,
    /// Its last frame that counts ends here.
    pub end: u64,
    /// All below this was known synced.
    pub synced: u64,
    /// Frames may go up to here.
    pub prepared: u64,
    /// A frame was begun at its end and does not verify: torn by a crash.
    pub torn: bool,
    /// The first frame that was synced once and does not verify now.
    pub damaged_at: Option<u64>,
}

/// How many segments there are for each use.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Segments {
    pub total: u64,
    pub free: u64,
    pub being_freed: u64,
    pub chunks_open: u64,
    pub chunks_sealed: u64,
    pub runs: u64,
    pub values: u64,
    /// Segments whose headers do not verify, and why; empty without verification.
    pub bad_headers: BTreeMap<u32, String>,
}

/// A table.
#[derive(Debug, Default, Serialize)]
pub struct Table {
    /// `chunks`, or `range-1`.
    pub table: String,
    /// Its runs.
    pub runs: u64,
    /// Rows in these.
    pub rows: u64,
    /// Tombstones among the rows.
    pub tombstones: u64,
    /// Bytes of the blocks of its runs, without large values.
    pub bytes: u64,
    /// The last entry that is in runs.
    pub through: u64,
    /// Whether a run of it cannot be read.
    pub broken: bool,
}

/// How many blobs, chunks and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Share {
    pub blobs: u64,
    pub chunks: u64,
    pub bytes: u64,
}

/// Copies of chunks on a disk.
#[derive(Debug, Default, Serialize)]
pub struct Copies {
    /// All that the index has.
    pub total: Share,
    /// Bytes that were read of them, headers included.
    pub read_bytes: u64,
    /// Chunks whose header and blocks verify.
    pub sound: u64,
    /// Chunks of which something does not verify, or that cannot be read.
    pub bad: Vec<BadCopy>,
    /// Chunks among these whose headers verify and contradict the index.
    pub contradicting: u64,
    /// Of blobs that something refers to.
    pub referenced: Share,
    /// Of blobs that are dead and in the garbage rows.
    pub garbage: Share,
    /// Of blobs that no row names.
    pub no_row: Share,
    /// Of blobs of which nobody knows whose they are: their headers do not verify, or no replica of the
    /// root range was given.
    pub unknown: Share,
    /// Copies that the cluster map has elsewhere.
    pub misplaced: Share,
    /// The blobs that no row names; a thousand at most.
    pub no_row_blobs: Vec<String>,
}

/// A copy that is not sound.
#[derive(Clone, Debug, Serialize)]
pub struct BadCopy {
    /// Of which chunk.
    pub chunk: String,
    /// Byte offset of its data on the disk, if its row says that.
    pub offset: Option<u64>,
    /// Bytes of data.
    pub length: Option<u32>,
    /// Whose it is, if its header verifies: bucket id and key.
    pub owner: Option<String>,
    /// What is wrong.
    pub error: String,
}

/// A replica of a range.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Replica {
    /// Which range.
    pub range: u64,
    /// Whether it distrusts its own log.
    pub suspect: bool,
    /// The log begins after this entry.
    pub log_after: u64,
    /// The last entry of the log.
    pub log_last: u64,
    /// Its term.
    pub last_term: u64,
    /// The last entry whose rows are in runs.
    pub flushed: u64,
    /// The last entry that could be applied; absent if there is no state.
    pub applied: Option<u64>,
    /// Hash of its state, 32 hexadecimal digits.
    pub state_hash: Option<String>,
    /// Epoch of its cluster map.
    pub map_epoch: Option<u64>,
    /// Why there is no state.
    pub error: Option<String>,
    /// How many rows it has...
    pub rows: Option<u64>,
    /// ...and whether they add up to the hash that it has kept of them; absent if they were not read.
    pub rows_add_up: Option<bool>,
}

/// What the root range says.
#[derive(Debug, Default, Serialize)]
pub struct MetadataReport {
    /// Whose replica was read: of those given, the one with the latest log.
    pub store: u64,
    /// State after this entry.
    pub applied: u64,
    /// Sessions that live.
    pub sessions: u64,
    /// Its rows.
    pub rows: Rows,
    /// Every object held against its copies.
    pub audit: Audit,
}

/// Rows of the root range.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "docs/metadata-format.md has them")]
pub struct Rows {
    pub rows: u64,
    pub bytes: u64,
    pub buckets: u64,
    pub objects: u64,
    pub object_bytes: u64,
    pub inline_objects: u64,
    pub uploads: u64,
    pub parts: u64,
    pub completed_uploads: u64,
    pub blobs: u64,
    pub references: u64,
    pub garbage_blobs: u64,
    pub garbage_bytes: u64,
    /// Rows that make no sense.
    pub bad: u64,
    /// Whether they add up to the hash that the replica has kept of them.
    pub add_up: bool,
}

/// As `trine admin audit --json` has it.
#[derive(Debug, Default, Serialize)]
pub struct Audit {
    /// Objects, and parts of uploads under way.
    pub objects: u64,
    /// Their chunks.
    pub chunks: u64,
    /// Copies that are where the map says, and right.
    pub copies_good: u64,
    /// Copies that are missing or wrong.
    pub bad: Vec<Finding>,
    /// Stores that should have copies, and were not given.
    pub not_given: Vec<u64>,
}

/// A line of the list of copies.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// A copy.
    Copy {
        /// On which store's disk.
        store: u64,
        /// Of which chunk.
        chunk: String,
        /// In which segment.
        segment: Option<u32>,
        /// Byte offset of its data on the disk.
        offset: Option<u64>,
        /// Bytes of data.
        length: Option<u32>,
        /// Bytes of each block but the last.
        block_size: Option<u32>,
        /// Bucket id and key, if its header was read.
        owner: Option<String>,
        /// `sound`, `not read`, or what is wrong.
        state: String,
    },
    /// A blob, behind its copies.
    Blob {
        /// On which store's disk.
        store: u64,
        /// Which.
        blob: String,
        /// Chunks of it that are there...
        chunks: u64,
        /// ...their bytes...
        bytes: u64,
        /// ...and how many of them are sound.
        sound: u64,
        /// `referenced`, `garbage`, `no row` or `unknown`.
        #[serde(rename = "use")]
        of: &'static str,
    },
}
