//! Holds the byte tables of `docs/disk-format.md` for superblock and journal against the code, and
//! the code against bytes that were written once and for all.

use bytes::Bytes;
use trine_core::cluster::Geometry;
use trine_core::codec::Encoder;
use trine_core::consensus::{Entry, EntryKind};
use trine_core::hash::Checksum;
use trine_core::ids::{
    ChunkId, ClusterId, DiskBirth, Incarnation, LogIndex, RangeId, StoreId, Term, ZoneId,
};
use trine_core::message::{LIVES_MAX, Life, StoreMark};
use trine_core::storage::journal::{
    self, FrameHeader, Identity, Record, frame_field, record_field,
};
use trine_core::storage::layout;
use trine_core::storage::superblock::{
    PEERS_MAX, PeerMark, ScrubMark, Superblock, SyncedMark, Tail, field,
};
use trine_core::time::WallTime;

const DOC: &str = include_str!("../../docs/disk-format.md");

/// The rows (offset, length, field) of the table behind `<!-- table: name -->`.
fn table(name: &str) -> Vec<(usize, usize, String)> {
    let (_, rest) =
        DOC.split_once(&format!("<!-- table: {name} -->\n")).expect("the table is there");
    let rows = rest.lines().take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let number = |cell: &str| cell.parse().expect("offset and length are numbers");
        (number(cells[1]), number(cells[2]), cells[3].to_owned())
    })
    .collect()
}

/// That the table has exactly these fields, at these offsets, without gaps.
fn check(name: &str, fields: &[(&str, usize)], end: usize) {
    let rows = table(name);
    assert_eq!(rows.len(), fields.len(), "{name}");
    let mut next = 0;
    for ((offset, length, field), (expected, expected_offset)) in rows.iter().zip(fields) {
        assert_eq!((field.as_str(), *offset), (*expected, *expected_offset), "{name}");
        assert_eq!(*offset, next, "{name}: {field} begins where the one before ends");
        next = offset + length;
    }
    assert_eq!(next, end, "{name}");
}

#[test]
fn superblock_table_says_what_the_code_does() {
    let fields = [
        ("version", field::VERSION),
        ("magic", field::MAGIC),
        ("checksum", field::CHECKSUM),
        ("cluster", field::CLUSTER),
        ("store", field::STORE),
        ("zone", field::ZONE),
        ("sequence", field::SEQUENCE),
        ("incarnation", field::INCARNATION),
        ("capacity", field::CAPACITY),
        ("journal", field::JOURNAL),
        ("journal_piece", field::JOURNAL_PIECE),
        ("segment", field::SEGMENT),
        ("tree_block", field::TREE_BLOCK),
        ("prepared", field::PREPARED),
        ("mark_recovery", field::MARK_RECOVERY),
        ("mark_synced", field::MARK_SYNCED),
        ("birth", field::BIRTH),
        ("founders", field::FOUNDERS),
        ("tail_position", field::TAIL_POSITION),
        ("tail_previous", field::TAIL_PREVIOUS),
        ("tail_recovery", field::TAIL_RECOVERY),
        ("tail_recovery_start", field::TAIL_RECOVERY_START),
        ("scrub_began", field::SCRUB_BEGAN),
        ("scrubbing", field::SCRUBBING),
        ("scrub_at", field::SCRUB_AT),
        ("peers", field::PEERS),
        ("lives", field::LIVES),
    ];
    check("superblock", &fields, field::END);
}

#[test]
fn frame_table_says_what_the_code_does() {
    let fields = [
        ("version", frame_field::VERSION),
        ("records", frame_field::RECORDS),
        ("magic", frame_field::MAGIC),
        ("checksum", frame_field::CHECKSUM),
        ("store", frame_field::STORE),
        ("position", frame_field::POSITION),
        ("length", frame_field::LENGTH),
        ("previous", frame_field::PREVIOUS),
        ("recovery", frame_field::RECOVERY),
        ("recovery_start", frame_field::RECOVERY_START),
        ("synced", frame_field::SYNCED),
    ];
    check("frame", &fields, frame_field::END);
}

#[test]
fn record_table_says_what_the_code_does() {
    let fields = [
        ("kind", record_field::KIND),
        ("detail", record_field::DETAIL),
        ("crc", record_field::CRC),
        ("range", record_field::RANGE),
        ("number", record_field::NUMBER),
        ("term", record_field::TERM),
        ("payload", record_field::PAYLOAD),
    ];
    check("record", &fields, record_field::END);
}

#[test]
fn layout_table_says_what_the_code_does() {
    for copy in 0..layout::SUPERBLOCK_COPIES {
        let row =
            format!("| {} | 4096 | superblock copy {copy} |", layout::superblock_offset(copy));
        assert!(DOC.contains(&row), "{row}");
    }
    assert!(DOC.contains(&format!("| {} | `journal` | journal |", layout::JOURNAL_START)));
    let segments = layout::segments_start(&Geometry::SIMULATION);
    assert_eq!(segments, layout::JOURNAL_START + Geometry::SIMULATION.journal);
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

#[test]
fn superblock_fields_stand_at_their_offsets() {
    // Spelled out, so that a change of the simulator's sizes is no change of the format.
    let geometry = Geometry {
        capacity: 64 << 20,
        journal: 16 << 20,
        journal_piece: 128 << 10,
        segment: 256 << 10,
        tree_block: 4 << 10,
    };
    let superblock = Superblock {
        cluster: ClusterId(0x1111),
        store: StoreId(0x2222),
        zone: ZoneId(2),
        sequence: 0x3333,
        incarnation: Incarnation(0x4444),
        geometry,
        prepared: geometry.journal_piece,
        mark: SyncedMark { recovery: 0x5555, synced: 0x6000 },
        birth: DiskBirth(0x8888),
        founders: [DiskBirth(0x8888), DiskBirth(0x9999), DiskBirth(0xaaaa)],
        tail: Tail {
            position: 0x5000,
            previous: Checksum(0x7777),
            recovery: 0x5554,
            recovery_start: 0x4000,
        },
        scrub: ScrubMark { began: WallTime::from_millis(0xbbbb), at: Some(ChunkId::default()) },
        peers: {
            let mark =
                StoreMark { incarnation: Incarnation(0xdddd), nonce: 0xeeee, synced: 0xffff };
            let mut peers = [PeerMark::default(); PEERS_MAX];
            peers[1] = PeerMark { store: StoreId(0xcccc), mark };
            peers
        },
        lives: {
            let mut lives = [Life::default(); LIVES_MAX];
            lives[1] = Life { incarnation: Incarnation(0x4443), nonce: 0x1212 };
            lives
        },
    };
    let bytes = superblock.encode(1);
    assert_eq!(bytes.len(), 4096);
    assert_eq!((bytes[field::VERSION], &bytes[field::MAGIC..][..8]), (1, &b"TRINEDSK"[..]));
    assert_eq!(u64_at(&bytes, field::CLUSTER), 0x1111);
    assert_eq!(u64_at(&bytes, field::STORE), 0x2222);
    assert_eq!(u64_at(&bytes, field::ZONE), 2);
    assert_eq!(u64_at(&bytes, field::SEQUENCE), 0x3333);
    assert_eq!(u64_at(&bytes, field::INCARNATION), 0x4444);
    assert_eq!(u64_at(&bytes, field::JOURNAL), geometry.journal);
    assert_eq!(u64_at(&bytes, field::TREE_BLOCK), 4096);
    assert_eq!(u64_at(&bytes, field::PREPARED), 128 << 10);
    assert_eq!(u64_at(&bytes, field::MARK_RECOVERY), 0x5555);
    assert_eq!(u64_at(&bytes, field::MARK_SYNCED), 0x6000);
    assert_eq!(u64_at(&bytes, field::TAIL_POSITION), 0x5000);
    assert_eq!(u64_at(&bytes, field::TAIL_PREVIOUS), 0x7777);
    assert_eq!(u64_at(&bytes, field::TAIL_RECOVERY), 0x5554);
    assert_eq!(u64_at(&bytes, field::TAIL_RECOVERY_START), 0x4000);
    assert_eq!(u64_at(&bytes, field::SCRUB_BEGAN), 0xbbbb);
    assert_eq!(bytes[field::SCRUBBING..][..4], [1, 0, 0, 0]);
    let second = [0, 8, 16, 24].map(|at| u64_at(&bytes, field::PEERS + 32 + at));
    assert_eq!(second, [0xcccc, 0xdddd, 0xeeee, 0xffff]);
    let second = [0, 8].map(|at| u64_at(&bytes, field::LIVES + 16 + at));
    assert_eq!(second, [0x4443, 0x1212]);
    // A written disk stays readable, also one from before scrubbing, marks of peers, and lives.
    let lives = [Life::default(); LIVES_MAX];
    let earlier = Superblock { lives, ..superblock }.encode(1);
    assert_eq!(u64_at(&earlier, field::CHECKSUM), 6_766_564_050_623_029_387);
    let (scrub, peers) = (ScrubMark::default(), [PeerMark::default(); PEERS_MAX]);
    let earlier = Superblock { scrub, peers, lives, ..superblock }.encode(1);
    assert_eq!(u64_at(&earlier, field::CHECKSUM), 4_764_971_852_061_205_038);
    assert_eq!(Superblock::decode(1, &bytes), Ok(superblock));
    assert!(Superblock::decode(2, &bytes).is_err(), "a copy in another copy's place");

    let founders = [DiskBirth(0x7777), DiskBirth(0x8888), DiskBirth(0x9999)];
    let founder = Superblock { birth: founders[1], founders, ..superblock };
    let bytes = founder.encode(0);
    assert_eq!(u64_at(&bytes, field::BIRTH), 0x8888);
    for (place, birth) in [0x7777, 0x8888, 0x9999].into_iter().enumerate() {
        assert_eq!(u64_at(&bytes, field::FOUNDERS + 8 * place), birth);
    }
    assert_eq!(Superblock::decode(0, &bytes), Ok(founder));
}

#[test]
fn frame_and_record_fields_stand_at_their_offsets() {
    let identity = Identity { cluster: ClusterId(0x1111), store: StoreId(0x2222) };
    let header = FrameHeader {
        position: 0x9000,
        len: 0,
        records: 0,
        previous: Checksum(0x3333),
        recovery: 0x44,
        recovery_start: 0x5000,
        synced: 0x6000,
        checksum: Checksum(0),
    };
    let payload = Bytes::from_static(b"payload");
    let (index, term, kind) = (LogIndex(0x77), Term(0x88), EntryKind::Membership);
    let entry = Record::Entry { range: RangeId(0x99), entry: Entry { index, term, kind, payload } };
    let encoded = journal::encode(identity, header, &[entry]);
    let bytes = encoded.parts.concat();
    assert_eq!((bytes[0], &bytes[frame_field::MAGIC..][..8]), (1, &b"TRINEJNL"[..]));
    assert_eq!(u64_at(&bytes, frame_field::CHECKSUM), encoded.header.checksum.0);
    assert_eq!(
        encoded.header.checksum.0, 554_759_441_669_861_186,
        "a written journal stays readable"
    );
    assert_eq!(u64_at(&bytes, frame_field::STORE), 0x2222);
    assert_eq!(u64_at(&bytes, frame_field::POSITION), 0x9000);
    assert_eq!(u64_at(&bytes, frame_field::LENGTH), 4096);
    assert_eq!(u64_at(&bytes, frame_field::PREVIOUS), 0x3333);
    assert_eq!(u64_at(&bytes, frame_field::RECOVERY), 0x44);
    assert_eq!(u64_at(&bytes, frame_field::RECOVERY_START), 0x5000);
    assert_eq!(u64_at(&bytes, frame_field::SYNCED), 0x6000);

    let record = &bytes[frame_field::END..];
    assert_eq!(record[..4], [2, 2, 0, 0]);
    assert_eq!(u64_at(record, record_field::RANGE), 0x99);
    assert_eq!(u64_at(record, record_field::NUMBER), 0x77);
    assert_eq!(u64_at(record, record_field::TERM), 0x88);
    assert_eq!(u64_at(record, record_field::PAYLOAD), 7);
    assert_eq!(&record[record_field::END..][..7], b"payload");
    // The CRC as the document describes it.
    let mut covered = Encoder::new();
    covered.u64(0x2222);
    covered.u64(0x9000 + frame_field::END as u64);
    covered.raw(&record[..record_field::CRC]);
    covered.raw(&record[record_field::RANGE..record_field::END + 7]);
    let stored = u32::from_le_bytes(record[4..8].try_into().unwrap());
    assert_eq!(stored, crc32fast::hash(covered.as_slice()));
}
