//! Runs as they are built against what is read back from their writes; values that several runs
//! share.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::disk::SECTOR;
use crate::hash::ValueHash;
use crate::ids::{Incarnation, LogIndex, RangeId, StoreId};
use crate::rng::Rng;
use crate::rows::Miss;

use super::super::segment::allocator::Segments;
use super::super::segment::edit::{RunDescriptor, TableId};
use super::super::segment::layout::Layout;
use super::block::{Block, BlockValue};
use super::cache::{BlockCache, Cached};
use super::filter::KeyHash;
use super::run::{Loaded, Run, block_at, block_span, is_plausible};
use super::run_builder::{BuiltRun, DiskWrite, NewValue, NoSegment, RunBuilder, RunSpec};
use super::value;

fn layout(count: u32) -> Layout {
    Layout { store: StoreId(7), area: 64 << 10, segment: 128 << 10, count, tree_block: 4096 }
}

fn spec(rows_max: u64) -> RunSpec {
    let (after, through) = (LogIndex(10), LogIndex(1_000_000));
    let table = TableId::Range(RangeId(1));
    let (bare, part_of, last) = (LogIndex(0), None, true);
    RunSpec { table, after, through, bare, part_of, last, rows_max }
}

/// What was written, by sector.
#[derive(Default)]
struct Disk(BTreeMap<u64, Bytes>);

impl Disk {
    fn write(&mut self, writes: Vec<DiskWrite>) {
        for (offset, parts) in writes {
            let bytes = parts.concat();
            assert_eq!((offset % SECTOR, bytes.len() as u64 % SECTOR), (0, 0), "whole sectors");
            for (at, sector) in (offset..).step_by(4096).zip(bytes.chunks(4096)) {
                let former = self.0.insert(at, Bytes::copy_from_slice(sector));
                assert!(former.is_none(), "each sector is written once");
            }
        }
    }

    fn read(&self, Miss { offset, len }: Miss) -> Bytes {
        let start = offset / SECTOR * SECTOR;
        let sectors = (start..offset + len).step_by(4096).flat_map(|at| self.0[&at].to_vec());
        let bytes: Vec<u8> = sectors.collect();
        Bytes::from(bytes).slice((offset - start) as usize..(offset - start + len) as usize)
    }

    fn load(&self, run: &RunDescriptor, layout: &Layout) -> Run {
        let mut loaded = Loaded::default();
        for number in run.data_blocks..run.loaded_end() {
            let bytes = self.read(block_span(run, layout, number));
            loaded.take(&bytes, run, layout, number).unwrap();
        }
        loaded.finish(run.clone()).unwrap()
    }

    /// What stands under a key, with as many reads as that takes.
    fn get(&self, run: &Run, key: &[u8], layout: &Layout, reads: &mut u64) -> Option<BlockValue> {
        let mut cache = BlockCache::new(1 << 30);
        loop {
            match run.get(key, KeyHash::of(key), layout, &cache) {
                Ok(row) => return row.map(|row| row.value()),
                Err(miss) => {
                    *reads += 1;
                    let number = block_at(&run.descriptor, layout, miss).unwrap();
                    let block = Block::parse(&self.read(miss), layout, &run.descriptor, number);
                    cache.insert(miss, Cached::Block(block.unwrap()), false);
                }
            }
        }
    }

    fn value(&self, run: &RunDescriptor, value: BlockValue, layout: &Layout) -> Option<Bytes> {
        let (hash, pieces) = match value {
            BlockValue::Tombstone => return None,
            BlockValue::Inline(bytes) => return Some(bytes),
            BlockValue::Stored { hash, pieces } => (hash, pieces),
        };
        let mut whole = Vec::new();
        for piece in pieces {
            let offset = layout.offset(piece.segment) + u64::from(piece.offset);
            let record = self.read(Miss { offset, len: 24 + u64::from(piece.len) });
            let generation = run.value_generation(piece.segment).unwrap();
            whole.extend(value::parse(layout, generation, piece, &record).unwrap());
        }
        assert_eq!(ValueHash::of(&whole), hash);
        Some(whole.into())
    }
}

type Rows = BTreeMap<Vec<u8>, (LogIndex, Option<Bytes>)>;

fn random_rows(rng: &mut Rng, count: u64) -> Rows {
    (0..count)
        .map(|_| {
            let mut key = format!("bucket/{:05}", rng.below(40_000)).into_bytes();
            if rng.chance(1, 40) {
                key.resize(rng.below(2800) as usize + 12, b'x');
            }
            let len = match rng.below(12) {
                0 => 3000,
                1 => 513,
                2 => 512,
                3 if rng.chance(1, 10) => 200_000,
                _ => rng.below(60) as usize,
            };
            let value = rng.chance(3, 4).then(|| Bytes::from(vec![rng.below(256) as u8; len]));
            (key, (LogIndex(11 + rng.below(1000)), value))
        })
        .collect()
}

fn build(
    rows: &Rows,
    layout: Layout,
    free: &mut Segments,
    disk: &mut Disk,
) -> Result<BuiltRun, Vec<super::super::segment::layout::SegmentId>> {
    let run = free.next_generation();
    let mut builder = RunBuilder::new(layout, spec(rows.len() as u64), run);
    for (key, (index, value)) in rows {
        let value = value.clone().map_or(NewValue::Tombstone, NewValue::Bytes);
        if builder.push(key, *index, value, free) == Err(NoSegment) {
            return Err(builder.reserved());
        }
        disk.write(builder.take_writes());
        assert!(builder.memory_bytes().0 < 5 << 20, "what is complete is given out");
    }
    let mut built = builder.finish(free).map_err(|_| builder.reserved())?;
    disk.write(core::mem::take(&mut built.writes));
    let mut reserved = builder.reserved();
    let mut own: Vec<_> = built.run.descriptor.all_segments().collect();
    reserved.sort_unstable();
    own.sort_unstable();
    assert_eq!(reserved, own);
    assert_eq!(built.headers.len(), own.len());
    Ok(built)
}

#[test]
fn run_is_read_back_as_it_was_built() {
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        let layout = layout(400);
        let mut free = Segments::new(layout.count, Incarnation(1));
        let mut disk = Disk::default();
        let rows = random_rows(&mut rng, 1 + seed * 400);
        let built = build(&rows, layout, &mut free, &mut disk).unwrap();
        let descriptor = &built.run.descriptor;
        assert!(is_plausible(descriptor, &layout));
        assert_eq!(descriptor.rows, rows.len() as u64);
        let live: u64 = rows
            .values()
            .filter_map(|(_, value)| value.as_ref())
            .map(|value| value.len() as u64)
            .filter(|len| *len > 512)
            .sum();
        assert!((live..live + live / 10 + 1).contains(&descriptor.value_bytes()));
        let run = disk.load(descriptor, &layout);
        let mut reads = 0;
        for (key, (_, value)) in rows.iter().step_by(7) {
            let found = disk.get(&run, key, &layout, &mut reads).expect("it was put in");
            assert_eq!(&disk.value(descriptor, found, &layout), value);
        }
        let (mut absent, mut asked) = (0, 0);
        for n in 0..2000 {
            let key = format!("bucket/{n:05}-");
            asked += 1;
            assert!(disk.get(&run, key.as_bytes(), &layout, &mut absent).is_none());
        }
        assert!(absent * 50 < asked, "the filter keeps reads away: {absent}");
    }
}

#[test]
fn rows_come_in_order_from_any_place() {
    let mut rng = Rng::new(3);
    let layout = layout(400);
    let mut free = Segments::new(layout.count, Incarnation(1));
    let mut disk = Disk::default();
    let rows = random_rows(&mut rng, 900);
    let run = build(&rows, layout, &mut free, &mut disk).unwrap().run;
    let mut cache = BlockCache::new(1 << 30);
    for number in 0..run.descriptor.data_blocks {
        let at = block_span(&run.descriptor, &layout, number);
        let block = Block::parse(&disk.read(at), &layout, &run.descriptor, number).unwrap();
        cache.insert(at, Cached::Block(block), false);
    }
    for _ in 0..500 {
        let key = format!("bucket/{:05}", rng.below(41_000)).into_bytes();
        let end = format!("bucket/{:05}", rng.below(41_000)).into_bytes();
        for from in [Bound::Included(&key[..]), Bound::Excluded(&key[..])] {
            let found =
                run.first(from, &end, &layout, &cache).unwrap().map(|row| row.key().to_vec());
            let expected = rows.range::<[u8], _>((from, Bound::Unbounded)).next();
            let expected = expected.map(|(key, _)| key.clone()).filter(|key| *key < end);
            assert_eq!(found, expected);
        }
    }
}

/// A merge takes pointers over, and says how much of each value segment is left in use.
#[test]
fn merged_run_points_into_the_value_segments_of_those_before_it() {
    let mut rng = Rng::new(9);
    let layout = layout(800);
    let mut free = Segments::new(layout.count, Incarnation(1));
    let mut disk = Disk::default();
    let (older, newer) = (random_rows(&mut rng, 1500), random_rows(&mut rng, 700));
    let runs = [&older, &newer].map(|rows| build(rows, layout, &mut free, &mut disk).unwrap().run);
    let mut merged = older.clone();
    merged.extend(newer.clone());
    let generation = free.next_generation();
    let mut builder = RunBuilder::new(layout, spec(3000), generation);
    runs.iter().for_each(|run| builder.reuse(&run.descriptor.values));
    for (key, (index, _)) in &merged {
        let mut reads = 0;
        let from = if newer.contains_key(key) { &runs[1] } else { &runs[0] };
        let value = match disk.get(from, key, &layout, &mut reads).unwrap() {
            BlockValue::Tombstone => NewValue::Tombstone,
            BlockValue::Inline(bytes) => NewValue::Bytes(bytes),
            BlockValue::Stored { hash, pieces } => NewValue::Stored { hash, pieces },
        };
        builder.push(key, *index, value, &mut free).unwrap();
    }
    let built = builder.finish(&mut free).unwrap();
    disk.write(built.writes);
    let descriptor = &built.run.descriptor;
    assert_eq!(builder.reserved(), descriptor.segments, "values stay where they are");
    assert_eq!(built.headers.len(), descriptor.segments.len());
    let before: u64 = runs.iter().map(|run| run.descriptor.value_bytes()).sum();
    assert!(descriptor.value_bytes() < before, "what was written over is not counted");
    let run = disk.load(descriptor, &layout);
    for (key, (_, value)) in merged.iter().step_by(5) {
        let found = disk.get(&run, key, &layout, &mut 0).expect("it was put in");
        assert_eq!(&disk.value(descriptor, found, &layout), value);
    }
}

#[test]
fn full_disk_is_said_and_all_that_was_reserved_can_be_given_back() {
    let mut rng = Rng::new(1);
    let rows = random_rows(&mut rng, 3000);
    for count in 0..40 {
        let layout = layout(count);
        let mut free = Segments::new(count, Incarnation(1));
        match build(&rows, layout, &mut free, &mut Disk::default()) {
            Err(reserved) => assert_eq!(reserved.len() + free.free(), count as usize),
            Ok(_) => {
                assert!(count > 5, "it takes some segments");
                return;
            }
        }
    }
    panic!("40 segments are enough");
}
