//! Doors for fuzzers and for the tests that replay what they found: each takes bytes, reads them as one of the
//! crate's inner formats, and holds what was read against what is written again. `docs/fuzzing.md` has the
//! rest. Behind a feature that no production crate enables.

use bytes::Bytes;

use crate::cluster::{ClusterMap, Geometry};
use crate::codec::Wire;
use crate::consensus::{Entry, HardState, Membership, Message, MessageBody};
use crate::directory::Directory;
use crate::hash::Checksum;
use crate::ids::{Incarnation, StoreId};
use crate::message::{SnapshotOffer, SnapshotRow};
use crate::object::{BucketRecord, ObjectRecord, PartRecord, UploadRecord};
use crate::range::command::{Batch, Command, Outcome, Read, ReadReply};
use crate::range::keys::Key;
use crate::range::records::{
    BlobCount, BucketSettings, Completed, Garbage, Header, PartList, Replaced, SessionRecord,
};
use crate::storage::layout::segments_start;
use crate::storage::segment::chunk::ChunkHeader;
use crate::storage::segment::edit::{ChunkRecord, Edit, RunDescriptor};
use crate::storage::segment::header::SegmentHeader;
use crate::storage::segment::layout::{Generation, Layout, SegmentId};
use crate::storage::tree::block::{Block, BlockKind, BlockValue, parse_raw};
use crate::storage::tree::value::{self, Piece};

/// A name, and what reads the bytes as that. `true`: they were understood.
pub type Door = (&'static str, fn(&Bytes) -> bool);

/// Rows of a range, commands, and what else travels in frames and entries.
pub const RECORDS: [Door; 28] = [
    ("batch", canonical::<Batch>),
    ("command", canonical::<Command>),
    ("outcome", canonical::<Outcome>),
    ("read", canonical::<Read>),
    ("reply", canonical::<ReadReply>),
    ("key", key),
    ("object", canonical::<ObjectRecord>),
    ("bucket", canonical::<BucketRecord>),
    ("upload", canonical::<UploadRecord>),
    ("part", canonical::<PartRecord>),
    ("blob count", canonical::<BlobCount>),
    ("settings", canonical::<BucketSettings>),
    ("completed", canonical::<Completed>),
    ("garbage", canonical::<Garbage>),
    ("header", again::<Header>),
    ("part list", canonical::<PartList>),
    ("replaced", canonical::<Replaced>),
    ("session", canonical::<SessionRecord>),
    ("map", again::<ClusterMap>),
    ("directory", again::<Directory>),
    ("membership", canonical::<Membership>),
    ("entry", canonical::<Entry>),
    ("hard state", canonical::<HardState>),
    ("consensus", canonical::<Message>),
    ("consensus body", canonical::<MessageBody>),
    ("snapshot offer", canonical::<SnapshotOffer>),
    ("snapshot row", canonical::<SnapshotRow>),
    ("incarnation", canonical::<Incarnation>),
];

/// What stands in the segment area and in edits of it. Blocks and headers must be sealed for
/// [`PLACE`].
pub const STORAGE: [Door; 9] = [
    ("edit", canonical::<Edit>),
    ("run description", canonical::<RunDescriptor>),
    ("chunk record", canonical::<ChunkRecord>),
    ("segment header", segment_header),
    ("chunk header", chunk_header),
    ("data block", data_block),
    ("index block", index_block),
    ("filter block", |bytes| raw_block(bytes, BlockKind::Filter)),
    ("value piece", value_piece),
];

/// Where sealed bytes are said to stand.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// On the disk of this store.
    pub store: u64,
    /// In this segment.
    pub segment: u32,
    /// Of this life, which is also the run's.
    pub generation: u64,
    /// At this byte of the segment; a block has this number.
    pub at: u64,
}

/// The place of everything that [`STORAGE`] reads.
pub const PLACE: Place = Place { store: 1, segment: 3, generation: (1 << 32) + 5, at: 8192 };

fn layout() -> Layout {
    Layout::new(StoreId(PLACE.store), &Geometry::SIMULATION, 1 << 20)
}

/// Lay out the segments of a disk that a superblock describes. How many there are.
pub fn segments(geometry: &Geometry) -> u32 {
    Layout::new(StoreId(1), geometry, segments_start(geometry)).count
}

const SEGMENT: SegmentId = SegmentId(PLACE.segment);
const GENERATION: Generation = Generation(PLACE.generation);
const BLOCK: u32 = 2;

/// The seed of sealed bytes, from the documents. `None`: not a sealed format.
pub fn seed(door: &str) -> Option<u64> {
    let layout = layout();
    Some(match door {
        "segment header" => layout.seed(SEGMENT, Generation(0), 0),
        "chunk header" | "value piece" => layout.seed(SEGMENT, GENERATION, PLACE.at),
        "data block" | "index block" | "filter block" => {
            layout.seed(SegmentId(u32::MAX), GENERATION, BLOCK.into())
        }
        _ => return None,
    })
}

/// One value has one encoding.
fn canonical<T: Wire + PartialEq + core::fmt::Debug>(bytes: &Bytes) -> bool {
    let Ok(value) = T::from_bytes(bytes) else { return false };
    assert_eq!(value.to_bytes(), bytes, "{value:?} has two encodings");
    true
}

/// Older forms are read, too, and written anew.
fn again<T: Wire + PartialEq + core::fmt::Debug>(bytes: &Bytes) -> bool {
    let Ok(value) = T::from_bytes(bytes) else { return false };
    assert_eq!(T::from_bytes(&value.to_bytes()).as_ref(), Ok(&value));
    true
}

fn key(bytes: &Bytes) -> bool {
    let Ok(key) = Key::decode(bytes) else { return false };
    assert_eq!(key.encode(), bytes, "{key:?} has two encodings");
    true
}

fn segment_header(bytes: &Bytes) -> bool {
    let Ok(header) = SegmentHeader::decode(bytes, &layout(), SEGMENT) else { return false };
    let again = header.encode(&layout(), SEGMENT);
    assert_eq!(SegmentHeader::decode(&again, &layout(), SEGMENT), Ok(header));
    true
}

fn chunk_header(bytes: &Bytes) -> bool {
    let read = |bytes: &Bytes| ChunkHeader::decode(bytes, &layout(), SEGMENT, GENERATION, PLACE.at);
    let Ok(header) = read(bytes) else { return false };
    let again = header.encode(&layout(), SEGMENT, GENERATION, PLACE.at);
    assert_eq!(again.len() as u64, header.header_bytes());
    assert!(header.header_bytes() <= bytes.len() as u64);
    assert_eq!(read(&again).as_ref(), Ok(&header));
    true
}

fn run() -> RunDescriptor {
    use crate::ids::{LogIndex, RangeId};
    use crate::storage::segment::edit::{Part, TableId, ValueRef};
    let value = ValueRef { segment: SegmentId(7), generation: GENERATION, live: 10, used: 10 };
    RunDescriptor {
        run: GENERATION,
        table: TableId::Range(RangeId(1)),
        after: LogIndex(0),
        through: LogIndex(9),
        bare: LogIndex(0),
        part: Part::whole(GENERATION),
        rows: 9,
        tombstones: 0,
        data_blocks: 4,
        index_blocks: 1,
        filter_blocks: 1,
        segments: vec![SEGMENT],
        values: vec![value],
    }
}

/// Rows ascend, each can be had by its key and as it is, and values lie within their segments.
fn data_block(bytes: &Bytes) -> bool {
    let layout = layout();
    let Ok(block) = Block::parse(bytes, &layout, &run(), BLOCK) else { return false };
    assert!(block.memory_bytes() <= 64 * bytes.len() as u64, "{}", block.memory_bytes());
    let mut last: Option<Bytes> = None;
    for row in block.rows() {
        let key = row.key_bytes();
        assert!(last.as_ref().is_none_or(|last| *last < key), "rows ascend");
        let same = block.get(&key).expect("a row is found by its key");
        assert_eq!((same.key(), same.index(), same.value()), (row.key(), row.index(), row.value()));
        match row.value() {
            BlockValue::Tombstone => assert!(row.is_tombstone()),
            BlockValue::Inline(value) => assert_eq!(row.inline(), Some(value)),
            BlockValue::Stored { hash, pieces } => {
                assert_eq!(row.stored_hash(), Some(hash));
                let fits = |piece: &Piece| {
                    u64::from(piece.offset) + u64::from(piece.len) <= layout.segment
                };
                assert!(pieces.iter().all(fits));
            }
        }
        last = Some(key);
    }
    true
}

fn index_block(bytes: &Bytes) -> bool {
    let Ok(block) = Block::parse_index(bytes, &layout(), GENERATION, BLOCK) else { return false };
    assert!(block.rows().zip(block.rows().skip(1)).all(|(a, b)| a.key() <= b.key()));
    true
}

fn raw_block(bytes: &Bytes, kind: BlockKind) -> bool {
    parse_raw(bytes, &layout(), GENERATION, BLOCK, kind).is_ok()
}

/// A piece is what its pointer says, or refused. The pointer comes from a row: any numbers.
fn value_piece(bytes: &Bytes) -> bool {
    let Some(len) = bytes.get(4..8) else { return false };
    let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]);
    let offset = u32::try_from(PLACE.at).expect("it is small");
    let piece = Piece { segment: SEGMENT, offset, len };
    let Ok(value) = value::parse(&layout(), GENERATION, piece, bytes) else { return false };
    let seed = seed("value piece").expect("it is sealed");
    assert_eq!(&bytes[16..24], Checksum::of(seed, &value).0.to_le_bytes());
    true
}
