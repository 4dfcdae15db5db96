//! `docs/disk-format-tree.md` against the code, mutated blocks, and the cache's bound.

use bytes::Bytes;

use crate::hash::{Checksum, ValueHash};
use crate::ids::LogIndex;
use crate::rng::Rng;
use crate::rows::Miss;

use super::super::segment::allocator::Segments;
use super::super::segment::edit::{RunDescriptor, ValueRef};
use super::super::segment::format_tests::{self as segment_tests, hold, layout, mutate};
use super::super::segment::layout::{Generation, SegmentId};
use super::block::{Block, BlockBuilder, BlockKind, BlockValue, parse_raw, raw_blocks};
use super::cache::{BlockCache, Cached};
use super::filter::{Filter, KeyHash};
use super::value::{self, Piece, ValueWriter};
use super::{KEY_BYTES_MAX, PIECES_MAX};
use crate::ids::Incarnation;

const DOC: &str = include_str!("../../../../docs/disk-format-tree.md");
const RUN: Generation = Generation(9);
const VALUES: Generation = Generation(8);

/// A run whose values are in segment 2.
fn run() -> RunDescriptor {
    let values = vec![ValueRef { segment: SegmentId(2), generation: VALUES, live: 724, used: 724 }];
    RunDescriptor { run: RUN, values, ..segment_tests::run() }
}

fn rows() -> Vec<(&'static [u8], BlockValue)> {
    let piece = Piece { segment: SegmentId(2), offset: 4096, len: 700 };
    let stored = BlockValue::Stored { hash: ValueHash(5), pieces: vec![piece] };
    vec![
        (b"key-a", BlockValue::Tombstone),
        (b"key-b", BlockValue::Inline(Bytes::from_static(b"value"))),
        (b"key-c", stored),
    ]
}

fn block() -> Bytes {
    let mut builder = BlockBuilder::new(layout(), RUN, BlockKind::Data, 6);
    for (key, value) in rows() {
        assert!(builder.push(key, LogIndex(77), &value));
    }
    builder.finish()
}

fn parse(bytes: &Bytes) -> Option<Block> {
    Block::parse(bytes, &layout(), &run(), 6).ok()
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
    let block = parse(&bytes).unwrap();
    assert_eq!(block.len(), 3);
    for (row, (key, value)) in block.rows().zip(rows()) {
        assert_eq!((row.key(), row.index(), row.value()), (key, LogIndex(77), value));
        assert_eq!(block.get(key).map(|row| row.key()), Some(key));
    }
    assert!(block.get(b"key-").is_none() && block.get(b"key-bb").is_none());
    let other = Block::parse(&bytes, &layout(), &run(), 5);
    assert!(other.is_err(), "another block of the run");
    let other = RunDescriptor { values: Vec::new(), ..run() };
    assert!(Block::parse(&bytes, &layout(), &other, 6).is_err(), "a pointer out of the run");
}

#[test]
fn row_is_as_documented() {
    let bytes = &block()[24..];
    // "key-a" and a tombstone; then the end of "key-b", which shares four bytes with it.
    let first = 4 + 5 + 9;
    assert_eq!(&bytes[..13 + 5], b"\0\0\x05\0key-a\0\x4d\0\0\0\0\0\0\0");
    let row = &bytes[first..];
    let expected: [(&str, &[u8]); 2] =
        [("shared", &4_u16.to_le_bytes()), ("suffix_bytes", &1_u16.to_le_bytes())];
    hold(DOC, "Row", row, &expected);
    assert_eq!(row[4], b'b');
    let expected: [(&str, &[u8]); 2] = [("value_kind", &[1]), ("log_index", &77_u64.to_le_bytes())];
    hold(DOC, "Entry of a row", &row[5..], &expected);
    assert_eq!(&row[14..21], b"\x05\0value");
    let row = &row[21..];
    let stored = [&[2][..], &77_u64.to_le_bytes(), &5_u128.to_le_bytes(), &[1]].concat();
    assert_eq!(&row[5..5 + stored.len()], stored);
    let piece = &row[5 + stored.len()..];
    assert_eq!(&piece[..12], b"\x02\0\0\0\0\x10\0\0\xbc\x02\0\0");
}

#[test]
fn index_blocks_hold_keys_alone() {
    let mut builder = BlockBuilder::new(layout(), RUN, BlockKind::Index, 12);
    for key in [b"key-a", b"key-b", b"key-b"] {
        assert!(builder.push_key(key));
    }
    let bytes = builder.finish();
    assert_eq!(&bytes[24..24 + 19], b"\0\0\x05\0key-a\x04\0\x01\0b\x05\0\0\0\0");
    let block = Block::parse_index(&bytes, &layout(), RUN, 12).unwrap();
    let keys: Vec<_> = block.rows().map(|row| row.key_bytes()).collect();
    assert_eq!(keys, ["key-a", "key-b", "key-b"]);
    assert!(Block::parse(&bytes, &layout(), &run(), 12).is_err(), "not a data block");
}

#[test]
fn filter_is_as_documented() {
    // One block of 4,072 bytes: 32,576 bits. The probes of a key, by the formula of the document.
    let mut filter = Filter::for_keys(1, &layout()).unwrap();
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(b"key-a", 0);
    filter.insert(KeyHash::of(b"key-a"));
    let step = hash.rotate_left(32) | 1;
    let mut expected = vec![0; 4072];
    for probe in 0..7_u64 {
        let at = hash.wrapping_add(step.wrapping_mul(probe));
        let bit = ((u128::from(at) * 32_576) >> 64) as usize;
        expected[bit / 8] |= 1 << (bit % 8);
    }
    assert_eq!(filter.as_slice(), expected);
    // All rows of an object are one family: up to the end of its escaped key.
    let object = [&[1][..], &[0; 16], b"key\0\xff\0\x01"].concat();
    let row = |end: &[u8]| KeyHash::of(&[&object[..], end].concat());
    assert_eq!(row(b"\x10version"), row(b"\x20body\0\x01"));
    let whole = xxhash_rust::xxh3::xxh3_64_with_seed(&object, 0);
    let (mut one, mut other) =
        (Filter::for_keys(1, &layout()).unwrap(), Filter::for_keys(1, &layout()).unwrap());
    one.insert(row(b"\x10"));
    other.insert(KeyHash::from_hash(whole));
    assert_eq!(one.as_slice(), other.as_slice());
    let kind = BlockKind::Filter;
    let blocks = raw_blocks(filter.as_slice(), &layout(), RUN, 13, kind);
    assert_eq!((blocks.len(), blocks[0][1]), (1, 2));
    let payload = parse_raw(&blocks[0], &layout(), RUN, 13, kind).unwrap();
    assert_eq!(payload, expected);
    assert!(parse_raw(&blocks[0], &layout(), RUN, 13, BlockKind::Description).is_err());
    assert!(Filter::from_payloads(&[payload]).unwrap().may_have(KeyHash::of(b"key-a")));
}

#[test]
fn value_piece_is_as_documented() {
    let (piece, record, value) = stored_value();
    let expected: [(&str, &[u8]); 3] = [
        ("version", &[1]),
        ("length", &700_u32.to_le_bytes()),
        ("generation", &VALUES_OF_WRITER.0.to_le_bytes()),
    ];
    hold(DOC, "Value piece", &record, &expected);
    assert_eq!(value::parse(&layout(), VALUES_OF_WRITER, piece, &record), Ok(value));
    let elsewhere = Piece { offset: 8192, ..piece };
    assert!(value::parse(&layout(), VALUES_OF_WRITER, elsewhere, &record).is_err());
    assert!(value::parse(&layout(), VALUES, piece, &record).is_err(), "another life");
}

/// The first generation that a new disk gives out.
const VALUES_OF_WRITER: Generation = Generation(0x1_0000_0001);

/// A value as a writer places it: where, header and data as they are on disk, and the value.
fn stored_value() -> (Piece, Bytes, Bytes) {
    let mut free = Segments::new(8, Incarnation(1));
    let mut writer = ValueWriter::new(layout());
    let value = Bytes::from(vec![3; 700]);
    let piece = writer.push(&value, &mut free).unwrap()[0];
    writer.stream().end();
    let (offset, parts) = writer.stream().take().remove(0);
    assert_eq!(offset, layout().offset(piece.segment) + u64::from(piece.offset));
    let written = Bytes::from(parts.concat());
    assert_eq!(written.len(), 4096, "whole sectors");
    (piece, written.slice(..724), value)
}

#[test]
fn largest_row_fits_into_the_smallest_block() {
    let piece = Piece { segment: SegmentId(2), offset: 4096, len: 700 };
    let pieces = vec![piece; PIECES_MAX];
    let value = BlockValue::Stored { hash: ValueHash(5), pieces };
    let mut builder = BlockBuilder::new(layout(), RUN, BlockKind::Data, 0);
    assert!(builder.push(&[7; KEY_BYTES_MAX], LogIndex(1), &value));
}

#[test]
fn keys_of_a_block_are_bounded_however_much_they_share() {
    let mut builder = BlockBuilder::new(layout(), RUN, BlockKind::Data, 6);
    let mut key = vec![7; KEY_BYTES_MAX];
    let mut rows = 0;
    for n in 0..100 {
        key[KEY_BYTES_MAX - 1] = n;
        rows += usize::from(builder.push(&key, LogIndex(1), &BlockValue::Tombstone));
    }
    assert_eq!(rows, 4 * 4096 / KEY_BYTES_MAX);
    let block = parse(&builder.finish()).unwrap();
    assert_eq!(block.len(), rows);
    assert!(block.memory_bytes() < 6 * 4096);
}

#[test]
fn mutated_blocks_and_values_are_found() {
    let mut rng = Rng::new(4);
    let bytes = block();
    let (piece, record, _) = stored_value();
    let raw = raw_blocks(b"description", &layout(), RUN, 3, BlockKind::Description).remove(0);
    for _ in 0..4000 {
        let mutant = mutate(&bytes, &mut rng);
        assert_eq!(parse(&mutant).is_some(), mutant == bytes);
        let mutant = mutate(&record, &mut rng);
        let read = value::parse(&layout(), VALUES_OF_WRITER, piece, &mutant);
        // Reserved bytes are checked, too.
        assert_eq!(read.is_ok(), mutant == record);
        let mutant = mutate(&raw, &mut rng);
        let read = parse_raw(&mutant, &layout(), RUN, 3, BlockKind::Description);
        assert_eq!(read.is_ok(), mutant == raw);
    }
}

/// What a checksum does not catch: bytes that were wrong when they were written.
#[test]
fn wrong_rows_with_a_right_checksum_are_errors_and_never_panic() {
    let mut rng = Rng::new(5);
    let bytes = block();
    let mut intact = 0;
    for _ in 0..20_000 {
        let mut mutant = bytes.to_vec();
        for _ in 0..=rng.below(2) {
            let at = rng.below(120) as usize;
            mutant[at] ^= 1 << rng.below(8);
        }
        let seed = layout().seed(SegmentId(u32::MAX), RUN, 6);
        let sum = Checksum::of_parts(seed, [&mutant[..16], &mutant[24..]]);
        mutant[16..24].copy_from_slice(&sum.0.to_le_bytes());
        if let Some(block) = parse(&mutant.into()) {
            intact += 1;
            for row in block.rows() {
                let _ = (row.key(), row.index(), row.value(), row.inline(), row.pieces().count());
            }
        }
    }
    assert!(intact > 100, "{intact}");
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
