//! `docs/disk-format-segments.md` against the code, and what mutated bytes do.

use bytes::Bytes;

use crate::codec::Wire;
use crate::disk::{DiskError, DiskOutput, SECTOR};
use crate::hash::Checksum;
use crate::ids::{
    BlobId, BlobSequence, BucketId, CallId, ChunkId, LogIndex, MapEpoch, RangeId, SessionId,
    StoreId, TenantId, Term,
};
use crate::message::ChunkWrite;
use crate::object::{ObjectKey, Target};
use crate::rng::Rng;

use super::chunk::ChunkHeader;
use super::edit::{
    ChunkRecord, Edit, Installation, Part, Replacement, RunDescriptor, TableId, ValueRef,
};
use super::header::{RunPlace, SegmentContent, SegmentHeader};
use super::layout::{Generation, Layout, SegmentId};
use super::scan::SegmentScan;

const DOC: &str = include_str!("../../../../docs/disk-format-segments.md");
const SEGMENT: SegmentId = SegmentId(3);
const GENERATION: Generation = Generation(0x1_0000_0009);

/// The fields of the table under `heading`: name, offset, size. They leave no gap.
pub(crate) fn fields(doc: &str, heading: &str) -> Vec<(String, usize, usize)> {
    let section = doc.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let fields: Vec<_> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            (cells[3].to_owned(), cells[1].parse().unwrap(), cells[2].parse().unwrap())
        })
        .collect();
    let mut end = 0;
    for (name, offset, size) in &fields {
        assert_eq!(*offset, end, "{heading}: {name} follows the field before it");
        end = offset + size;
    }
    fields
}

/// Every field but checksums and reserved ones must be named in `expected`, and be there.
pub(crate) fn hold(doc: &str, heading: &str, bytes: &[u8], expected: &[(&str, &[u8])]) {
    let mut named = 0;
    for (name, offset, size) in fields(doc, heading) {
        let found = &bytes[offset..offset + size];
        match name.as_str() {
            "reserved" => assert!(found.iter().all(|byte| *byte == 0), "{heading}: reserved"),
            "checksum" => assert!(found.iter().any(|byte| *byte != 0), "{heading}: checksum"),
            _ => {
                let (_, value) =
                    expected.iter().find(|(other, _)| *other == name).expect("a known field");
                assert_eq!(&found[..value.len()], *value, "{heading}: {name}");
                named += 1;
            }
        }
    }
    assert_eq!(named, expected.len(), "{heading}: all fields are documented");
}

pub(crate) fn layout() -> Layout {
    Layout { store: StoreId(7), area: 0, segment: 128 << 10, count: 8, tree_block: 4096 }
}

pub(crate) fn run() -> RunDescriptor {
    RunDescriptor {
        run: GENERATION,
        table: TableId::Range(RangeId(5)),
        after: LogIndex(33),
        through: LogIndex(77),
        bare: LogIndex(20),
        part: Part::whole(GENERATION),
        rows: 900,
        tombstones: 90,
        data_blocks: 12,
        index_blocks: 1,
        filter_blocks: 2,
        segments: vec![SegmentId(1), SegmentId(2)],
        values: vec![ValueRef {
            segment: SegmentId(4),
            generation: Generation(8),
            live: 700,
            used: 900,
        }],
    }
}

fn place() -> RunPlace {
    RunPlace {
        ordinal: 1,
        segments: 2,
        description_block: 15,
        description_bytes: 110,
        description: Checksum(0x55),
    }
}

fn write(number: u32, len: usize) -> ChunkWrite {
    let blob = BlobId { session: SessionId(11), sequence: BlobSequence(12) };
    let chunk = ChunkId { blob, number };
    let data = Bytes::from(vec![number as u8 + 1; len]);
    let blocks = data.chunks(4096).zip(0..);
    ChunkWrite {
        call: CallId(0),
        chunk,
        owner: Target {
            tenant: TenantId(14),
            bucket: BucketId(15),
            key: ObjectKey::parse("key").unwrap(),
        },
        epoch: MapEpoch(13),
        block_size: 4096,
        checksums: blocks.map(|(block, n)| Checksum::of_block(chunk, n, block)).collect(),
        data,
    }
}

fn in_blocks(block_size: u32, write: ChunkWrite) -> ChunkWrite {
    let blocks = write.data.chunks(block_size as usize).zip(0..);
    let checksums = blocks.map(|(block, n)| Checksum::of_block(write.chunk, n, block)).collect();
    ChunkWrite { block_size, checksums, ..write }
}

#[test]
fn segment_header_is_as_documented() {
    let header = SegmentHeader { generation: GENERATION, content: SegmentContent::Run(place()) };
    let bytes = header.encode(&layout(), SEGMENT);
    assert_eq!(bytes.len() as u64, SECTOR);
    let expected: [(&str, &[u8]); 12] = [
        ("version", &[1]),
        ("kind", &[3]),
        ("segment", &3_u32.to_le_bytes()),
        ("magic", b"TRINESEG"),
        ("store", &7_u64.to_le_bytes()),
        ("generation", &GENERATION.0.to_le_bytes()),
        ("ordinal", &1_u32.to_le_bytes()),
        ("segments", &2_u32.to_le_bytes()),
        ("description_block", &15_u32.to_le_bytes()),
        ("description_bytes", &110_u32.to_le_bytes()),
        ("description", &0x55_u64.to_le_bytes()),
        ("zeros", &[0; 4032]),
    ];
    hold(DOC, "Segment header", &bytes, &expected);
    for content in [SegmentContent::Values, SegmentContent::Chunks] {
        let header = SegmentHeader { generation: GENERATION, content };
        let bytes = header.encode(&layout(), SEGMENT);
        assert_eq!(bytes[1], if content == SegmentContent::Values { 2 } else { 1 });
        assert_eq!(SegmentHeader::decode(&bytes, &layout(), SEGMENT), Ok(header));
    }
    assert_eq!(SegmentHeader::decode(&bytes, &layout(), SEGMENT), Ok(header));
    assert!(SegmentHeader::decode(&bytes, &layout(), SegmentId(2)).is_err(), "another place");
}

#[test]
fn chunk_header_is_as_documented() {
    let header = ChunkHeader::of_write(&write(16, 5000)).unwrap();
    let bytes = header.encode(&layout(), SEGMENT, GENERATION, 8192);
    let expected: [(&str, &[u8]); 16] = [
        ("version", &[1]),
        ("scheme", &[0]),
        ("shard", &[0, 0]),
        ("header_bytes", &4096_u32.to_le_bytes()),
        ("magic", b"TRINECHK"),
        ("generation", &GENERATION.0.to_le_bytes()),
        ("session", &11_u64.to_le_bytes()),
        ("blob_sequence", &12_u64.to_le_bytes()),
        ("chunk_number", &16_u32.to_le_bytes()),
        ("length", &5000_u32.to_le_bytes()),
        ("block_size", &4096_u32.to_le_bytes()),
        ("blocks", &2_u32.to_le_bytes()),
        ("map_epoch", &13_u64.to_le_bytes()),
        ("tenant", &14_u64.to_le_bytes()),
        ("bucket", &15_u64.to_le_bytes()),
        ("key_bytes", &3_u32.to_le_bytes()),
    ];
    hold(DOC, "Chunk header", &bytes, &expected);
    assert_eq!(&bytes[96..99], b"key");
    assert_eq!(bytes[99..107], header.checksums[0].0.to_le_bytes());
    assert_eq!(bytes[107..123], [0; 16]);
    assert_eq!(bytes[123..131], header.checksums[1].0.to_le_bytes());
    let decode = |at, generation| ChunkHeader::decode(&bytes, &layout(), SEGMENT, generation, at);
    assert_eq!(decode(8192, GENERATION), Ok(header));
    assert!(decode(4096, GENERATION).is_err(), "another place");
    assert!(decode(8192, Generation(1)).is_err(), "an earlier life");
}

#[test]
fn run_description_is_as_documented() {
    let bytes = run().to_bytes();
    let expected: [(&str, &[u8]); 14] = [
        ("run", &GENERATION.0.to_le_bytes()),
        ("table_kind", &[0]),
        ("range", &5_u64.to_le_bytes()),
        ("after", &33_u64.to_le_bytes()),
        ("through", &77_u64.to_le_bytes()),
        ("bare", &20_u64.to_le_bytes()),
        ("snapshot", &GENERATION.0.to_le_bytes()),
        ("part", &0_u32.to_le_bytes()),
        ("last_part", &[1]),
        ("rows", &900_u64.to_le_bytes()),
        ("tombstones", &90_u64.to_le_bytes()),
        ("data_blocks", &12_u32.to_le_bytes()),
        ("index_blocks", &1_u32.to_le_bytes()),
        ("filter_blocks", &2_u32.to_le_bytes()),
    ];
    hold(DOC, "Run description", &bytes, &expected);
    assert_eq!(bytes[82..94], *b"\x02\0\0\0\x01\0\0\0\x02\0\0\0");
    let (generation, live, used) = (8_u64, 700_u64, 900_u64);
    let numbers = [generation, live, used].map(u64::to_le_bytes).concat();
    assert_eq!(bytes[94..], [&b"\x01\0\0\0\x04\0\0\0"[..], &numbers].concat());
    assert_eq!(bytes.len(), run().encoded_bytes());
    assert_eq!(RunDescriptor::from_bytes(&bytes), Ok(run()));
}

#[test]
fn chunk_record_is_as_documented() {
    let record = record();
    let expected: [(&str, &[u8]); 5] = [
        ("version", &[1]),
        ("segment", &3_u32.to_le_bytes()),
        ("data_offset", &8192_u32.to_le_bytes()),
        ("length", &5000_u32.to_le_bytes()),
        ("block_size", &4096_u32.to_le_bytes()),
    ];
    hold(DOC, "Chunk record", &record.to_bytes(), &expected);
    assert_eq!(record.to_bytes().len(), 17 + 4 + 16);
}

fn record() -> ChunkRecord {
    ChunkRecord {
        segment: SEGMENT,
        offset: 8192,
        length: 5000,
        block_size: 4096,
        checksums: vec![Checksum(1), Checksum(2)],
    }
}

fn installation() -> Installation {
    let of = Generation(7);
    let first = Part { of, number: 0, last: false };
    let first = RunDescriptor { part: first, run: of, ..run() };
    let last = RunDescriptor { part: Part { of, number: 1, last: true }, ..run() };
    Installation {
        table: TableId::Range(RangeId(5)),
        newer_than: LogIndex(33),
        runs: vec![first, last],
        index: LogIndex(77),
        term: Term(4),
        membership: Bytes::from_static(b"voters"),
        replaces_log: false,
    }
}

#[test]
fn a_snapshot_without_its_last_run_or_of_the_chunk_index_is_refused() {
    let refused = |change: fn(&mut Installation)| {
        let mut installation = installation();
        change(&mut installation);
        Installation::from_bytes(&installation.to_bytes()).is_err()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|it| it.runs.truncate(1)));
    assert!(refused(|it| it.runs.clear()));
    assert!(refused(|it| it.runs[0].part.last = true));
    assert!(refused(|it| it.runs[1].part.last = false));
    assert!(refused(|it| it.runs[1].part.number = 2));
    assert!(refused(|it| it.runs[1].part.of = Generation(6)));
    assert!(refused(|it| it.runs[1].after = LogIndex(32)));
    assert!(refused(|it| it.runs[1].through = LogIndex(76)));
    assert!(refused(|it| it.newer_than = LogIndex(78)));
    assert!(refused(|it| it.table = TableId::Chunks));
}

fn replacement() -> Replacement {
    Replacement { removed: vec![Generation(3), Generation(2)], added: run() }
}

#[test]
fn a_merge_of_nothing_into_a_part_or_into_an_older_run_is_refused() {
    let refused = |change: fn(&mut Replacement)| {
        let mut replacement = replacement();
        change(&mut replacement);
        Replacement::from_bytes(&replacement.to_bytes()).is_err()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|it| it.removed.clear()));
    assert!(refused(|it| it.removed.push(GENERATION)));
    assert!(refused(|it| it.added.part.last = false));
    assert!(refused(|it| it.added.part.of = Generation(1)));
    assert!(refused(|it| it.added.tombstones = it.added.rows + 1));
    assert!(refused(|it| it.added.values[0].used = 699));
}

fn edits() -> Vec<(&'static str, Edit)> {
    let chunk = write(0, 1).chunk;
    let (segment, generation) = (SEGMENT, GENERATION);
    let chunk_segments = vec![(SEGMENT, (GENERATION, true))];
    vec![
        ("SegmentOpened", Edit::SegmentOpened { segment, generation }),
        ("SegmentSealed", Edit::SegmentSealed { segment }),
        ("RunAdded", Edit::RunAdded(run())),
        ("TableReset", Edit::TableReset { table: TableId::Chunks }),
        (
            "ChunksAdded",
            Edit::ChunksAdded { sequence: LogIndex(4), records: vec![(chunk, record())] },
        ),
        ("ChunkIndexRebuilt", Edit::ChunkIndexRebuilt),
        ("Snapshot", Edit::Snapshot { chunk_segments, runs: vec![run()] }),
        ("TableInstalled", Edit::TableInstalled(installation())),
        (
            "TableInstalled, in place of the log",
            Edit::TableInstalled(Installation { replaces_log: true, ..installation() }),
        ),
        ("RunsReplaced", Edit::RunsReplaced(replacement())),
        (
            "Checkpoint",
            Edit::Checkpoint { chunk_segments: vec![(SEGMENT, (GENERATION, true))], rebuild: true },
        ),
        ("ChunksFreed", Edit::ChunksFreed { sequence: LogIndex(4), chunks: vec![chunk] }),
        ("SegmentFreed", Edit::SegmentFreed { segment, generation }),
        ("SegmentRecorded", Edit::SegmentRecorded { segment, through: 8192 }),
    ]
}

#[test]
fn edits_have_the_documented_tags_and_read_back_as_written() {
    for (name, edit) in edits() {
        let bytes = edit.to_bytes();
        assert_eq!(bytes[0], 1);
        assert!(DOC.contains(&format!("| {} | {name} |", bytes[1])), "{name}");
        assert_eq!(Edit::from_bytes(&bytes), Ok(edit));
    }
}

#[test]
fn mutated_bytes_are_errors_or_other_values_and_never_panic() {
    let mut rng = Rng::new(5);
    let header = ChunkHeader::of_write(&write(1, 5000)).unwrap();
    let chunk = header.encode(&layout(), SEGMENT, GENERATION, 4096);
    let content = SegmentContent::Run(place());
    let segment = SegmentHeader { generation: GENERATION, content }.encode(&layout(), SEGMENT);
    for _ in 0..4000 {
        for (_, edit) in edits() {
            let _ = Edit::from_bytes(&mutate(&edit.to_bytes(), &mut rng));
        }
        let mutant = mutate(&chunk, &mut rng);
        let read = ChunkHeader::decode(&mutant, &layout(), SEGMENT, GENERATION, 4096);
        assert_eq!(read.is_ok(), mutant == chunk);
        let mutant = mutate(&segment, &mut rng);
        assert_eq!(SegmentHeader::decode(&mutant, &layout(), SEGMENT).is_ok(), mutant == segment);
    }
}

/// A copy that is cut off, or in which a few bytes are changed.
pub(crate) fn mutate(bytes: &Bytes, rng: &mut Rng) -> Bytes {
    let mut mutant = bytes.to_vec();
    if rng.chance(1, 4) {
        mutant.truncate(rng.below(bytes.len() as u64) as usize);
    } else {
        for _ in 0..=rng.below(3) {
            // The front is where the structure is.
            let span = if rng.chance(1, 2) { bytes.len().min(128) } else { bytes.len() };
            let at = rng.below(span as u64) as usize;
            mutant[at] ^= 1 << rng.below(8);
        }
    }
    mutant.into()
}

/// A segment with three chunks of so large blocks back to back, and where their records begin.
fn segment_with_chunks(block_size: u32) -> (Vec<u8>, Vec<u64>) {
    let mut bytes = vec![0; 128 << 10];
    let mut at = SECTOR;
    let mut starts = Vec::new();
    for number in 0..3 {
        let write = in_blocks(block_size, write(number, 9000));
        let header = ChunkHeader::of_write(&write).unwrap();
        let head = header.encode(&layout(), SEGMENT, GENERATION, at);
        let from = at as usize;
        bytes[from..from + head.len()].copy_from_slice(&head);
        bytes[from + head.len()..from + head.len() + 9000].copy_from_slice(&write.data);
        starts.push(at);
        at += header.record_bytes();
    }
    (bytes, starts)
}

fn scan(bytes: &[u8], unreadable: Option<u64>) -> (Vec<u32>, u64, u64) {
    let mut scan = SegmentScan::new(layout(), SEGMENT, GENERATION);
    while let Some((offset, len)) = scan.next_read() {
        let from = offset - layout().offset(SEGMENT);
        assert!(
            len > 0 && len.is_multiple_of(SECTOR),
            "a disk reads whole sectors, not {len} bytes"
        );
        let fails = unreadable.is_some_and(|at| (from..from + len).contains(&at));
        scan.on_read(&if fails {
            Err(DiskError::Io("medium error".into()))
        } else {
            let span = &bytes[from as usize..(from + len) as usize];
            Ok(DiskOutput::Read(Bytes::copy_from_slice(span)))
        });
    }
    let result = scan.finish();
    let numbers = result.found.iter().map(|(chunk, _)| chunk.number).collect();
    (numbers, result.end, result.damaged)
}

#[test]
fn scan_finds_all_chunks_and_where_they_end() {
    let (bytes, starts) = segment_with_chunks(4096);
    assert_eq!(scan(&bytes, None), (vec![0, 1, 2], starts[2] + 4 * SECTOR, 0));
}

#[test]
fn scan_finds_its_footing_again_behind_a_bad_header() {
    let (mut bytes, starts) = segment_with_chunks(4096);
    bytes[starts[1] as usize + 20] ^= 1;
    let (found, end, _) = scan(&bytes, None);
    assert_eq!((found, end), (vec![0, 2], starts[2] + 4 * SECTOR));
}

#[test]
fn scan_passes_over_a_chunk_whose_data_does_not_verify() {
    let (mut bytes, starts) = segment_with_chunks(4096);
    bytes[starts[1] as usize + 5000] ^= 1;
    assert_eq!(scan(&bytes, None), (vec![0, 2], starts[2] + 4 * SECTOR, 1));
}

#[test]
fn scan_loses_only_the_chunk_with_the_unreadable_sector() {
    // Headers of one sector, and of two.
    for (block_size, sectors) in [(4096, 4), (40, 5)] {
        let (bytes, starts) = segment_with_chunks(block_size);
        assert_eq!(starts[1] - starts[0], sectors * SECTOR);
        for (nth, start) in (0..).zip(&starts) {
            for sector in 0..sectors {
                let (found, end, damaged) = scan(&bytes, Some(start + sector * SECTOR));
                let others: Vec<u32> = (0..3).filter(|other| *other != nth).collect();
                assert_eq!(found, others, "sector {sector} of chunk {nth}");
                assert!(damaged >= 1);
                assert!(end >= starts[2] || nth == 2, "nothing is written over chunks");
            }
        }
    }
}

/// Found by seed 0x9a000036: next to a sector that cannot be read, a header is looked at alone.
#[test]
fn scan_reads_whole_sectors_whatever_a_rotten_header_says_of_its_length() {
    let length_at = 4;
    for bit in 0..16 {
        let (mut bytes, starts) = segment_with_chunks(4096);
        bytes[starts[1] as usize + length_at + bit / 8] ^= 1 << (bit % 8);
        for unreadable in [starts[1] + SECTOR, starts[2] - SECTOR] {
            let (found, end, _) = scan(&bytes, Some(unreadable));
            assert_eq!((found, end), (vec![0, 2], starts[2] + 4 * SECTOR), "bit {bit}");
        }
    }
}
