//! `docs/disk-format-tree.md` against the code, mutated blocks, and the cache's bound.

use bytes::Bytes;

use crate::codec::Wire;
use crate::hash::ValueHash;
use crate::ids::LogIndex;
use crate::rng::Rng;
use crate::rows::Miss;

use super::super::segment::allocator::Segments;
use super::super::segment::format_tests::{hold, layout, mutate};
use super::super::segment::layout::{Generation, SegmentId};
use super::block::{Block, BlockBuilder, BlockKind, BlockRow, BlockValue};
use super::cache::{BlockCache, Cached};
use super::value::{self, Piece, ValueWriter};
use super::{KEY_BYTES_MAX, PIECES_MAX};
use crate::ids::Incarnation;

const DOC: &str = include_str!("../../../../docs/disk-format-tree.md");
const RUN: Generation = Generation(9);

fn rows() -> Vec<BlockRow> {
    let piece = Piece { segment: SegmentId(2), offset: 4096, len: 700 };
    let stored = BlockValue::Stored { hash: ValueHash(5), pieces: vec![piece] };
    let row = |key: &'static str, value| BlockRow {
        key: Bytes::from_static(key.as_bytes()),
        index: LogIndex(77),
        value,
    };
    vec![
        row("a", BlockValue::Tombstone),
        row("b", BlockValue::Inline(Bytes::from_static(b"value"))),
        row("c", stored),
    ]
}

fn block() -> Bytes {
    let mut builder = BlockBuilder::new(layout(), RUN, BlockKind::Data, 6);
    for row in rows() {
        assert!(builder.push(&row));
    }
    builder.finish().0
}

fn parse(bytes: &Bytes) -> Option<Block> {
    Block::parse(bytes, &layout(), RUN, 6, BlockKind::Data, &[SegmentId(2)]).ok()
}

#[test]
fn tree_block_is_as_documented() {
    let bytes = block();
    let expected: [(&str, &[u8]); 5] = [
        ("version", &[1]),
        ("kind", &[0]),
        ("rows", &3_u16.to_le_bytes()),
        ("number", &6_u32.to_le_bytes()),
        ("run", &9_u64.to_le_bytes()),
    ];
    hold(DOC, "Tree block", &bytes, &expected);
    assert_eq!(parse(&bytes).unwrap().rows(), rows());
    let other = Block::parse(&bytes, &layout(), RUN, 5, BlockKind::Data, &[SegmentId(2)]);
    assert!(other.is_err(), "another block of the run");
    let other = Block::parse(&bytes, &layout(), RUN, 6, BlockKind::Data, &[SegmentId(1)]);
    assert!(other.is_err(), "a pointer out of the run");
}

#[test]
fn row_is_as_documented() {
    let bytes = rows()[1].to_bytes();
    let expected: [(&str, &[u8]); 4] = [
        ("key_bytes", &1_u16.to_le_bytes()),
        ("value_kind", &[1]),
        ("position", &[0; 4]),
        ("log_index", &77_u64.to_le_bytes()),
    ];
    hold(DOC, "Row", &bytes, &expected);
    assert_eq!(&bytes[16..], b"b\x05\0\0\0value");
    assert_eq!(rows()[2].to_bytes().len(), 16 + 1 + 16 + 4 + 12);
}

#[test]
fn value_piece_is_as_documented() {
    let mut free = Segments::new(8, Incarnation(1));
    let mut writer = ValueWriter::new(layout(), RUN);
    let value = Bytes::from(vec![3; 700]);
    let pieces = writer.push(&value, &mut free).unwrap();
    let (_, parts) = writer.finish().remove(0);
    let expected: [(&str, &[u8]); 3] =
        [("version", &[1]), ("length", &700_u32.to_le_bytes()), ("run", &9_u64.to_le_bytes())];
    hold(DOC, "Value piece", &parts[0], &expected);
    let record = Bytes::from([&parts[0][..], &parts[1][..]].concat());
    assert_eq!(value::parse(&layout(), RUN, pieces[0], &record), Ok(value));
    let elsewhere = Piece { offset: 8192, ..pieces[0] };
    assert!(value::parse(&layout(), RUN, elsewhere, &record).is_err());
}

#[test]
fn largest_row_fits_into_the_smallest_block() {
    let piece = Piece { segment: SegmentId(2), offset: 4096, len: 700 };
    let pieces = vec![piece; PIECES_MAX];
    let value = BlockValue::Stored { hash: ValueHash(5), pieces };
    let row = BlockRow { key: vec![7; KEY_BYTES_MAX].into(), index: LogIndex(1), value };
    assert!(BlockBuilder::new(layout(), RUN, BlockKind::Data, 0).push(&row));
}

#[test]
fn mutated_blocks_and_values_are_found() {
    let mut rng = Rng::new(4);
    let bytes = block();
    let mut free = Segments::new(8, Incarnation(1));
    let mut writer = ValueWriter::new(layout(), RUN);
    let pieces = writer.push(&Bytes::from(vec![3; 700]), &mut free).unwrap();
    let record = Bytes::from(writer.finish().remove(0).1[..2].concat());
    for _ in 0..4000 {
        let mutant = mutate(&bytes, &mut rng);
        assert_eq!(parse(&mutant).is_some(), mutant == bytes);
        let mutant = mutate(&record, &mut rng);
        let read = value::parse(&layout(), RUN, pieces[0], &mutant);
        // Reserved bytes are checked, too.
        assert_eq!(read.is_ok(), mutant == record);
        let _ = BlockRow::from_bytes(&mutate(&rows()[2].to_bytes(), &mut rng));
    }
}

#[test]
fn cache_stays_within_its_bound_and_keeps_what_is_pinned() {
    let mut cache = BlockCache::new(64 << 10);
    let at = |n: u64| Miss { offset: n * 4096, len: 4096 };
    cache.insert(at(0), Cached::Piece(Bytes::new()), false);
    for n in 1..500 {
        cache.insert(at(n), Cached::Piece(Bytes::new()), false);
        cache.check();
        cache.release(at(n));
        cache.check();
        assert!(cache.bytes() <= 64 << 10, "unpinned blocks go");
        assert!(cache.contains(at(0)), "the pinned one stays");
    }
    cache.release(at(0));
    for n in 500..600 {
        cache.insert(at(n), Cached::Piece(Bytes::new()), false);
        cache.release(at(n));
    }
    assert!(!cache.contains(at(0)));
    for n in 1000..6000 {
        cache.insert(at(n), Cached::Piece(Bytes::new()), false);
    }
    cache.check();
    assert!(cache.bytes() <= cache.bytes_bound(), "also if all are pinned");
}
