//! Rows against a map; chunks one by one; damage.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::disk::{DiskError, DiskOp};
use crate::hash::ValueHash;
use crate::ids::{LogIndex, RangeId};
use crate::message::ChunkError;
use crate::rng::Rng;
use crate::rows::{RowWrite, Step};

use super::super::TableId;
use super::rig::{Image, RANGE, Rig, chunk};

type Model = BTreeMap<Vec<u8>, (Vec<u8>, LogIndex)>;

fn random_writes(rng: &mut Rng) -> Vec<RowWrite> {
    (0..=rng.below(6))
        .map(|_| {
            let mut key = format!("k{:03}", rng.below(120)).into_bytes();
            if rng.chance(1, 20) {
                key.resize(2000, b'x');
            }
            let len = match rng.below(10) {
                0 => 3000,
                1 => 513,
                2 => 512,
                _ => rng.below(60) as usize,
            };
            let value = rng.chance(3, 4).then(|| Bytes::from(vec![rng.below(256) as u8; len]));
            RowWrite { key: key.into(), value }
        })
        .collect()
}

fn apply(model: &mut Model, index: LogIndex, writes: &[RowWrite]) {
    for write in writes {
        match &write.value {
            Some(value) => model.insert(write.key.to_vec(), (value.to_vec(), index)),
            None => model.remove(&write.key[..]),
        };
    }
}

fn compare(rig: &mut Rig, table: TableId, model: &Model, rng: &mut Rng) {
    for _ in 0..8 {
        let key = format!("k{:03}", rng.below(130)).into_bytes();
        let row = rig.read(table, |rows| rows.get(&key)).unwrap();
        let row = row.map(|row| (row.value.to_vec(), row.index));
        assert_eq!(row.as_ref(), model.get(&key));
        let mut hash = None;
        rig.read(table, |rows| {
            hash = rows.value_hash(&key)?;
            Ok(None)
        });
        assert_eq!(hash, model.get(&key).map(|(value, _)| ValueHash::of(value)));
        let row = rig.read(table, |rows| rows.seek(&key, b"k110")).unwrap();
        let row = row.map(|row| (row.key.to_vec(), (row.value.to_vec(), row.index)));
        let end = b"k110".to_vec().max(key.clone());
        let expected = model.range(key..end).next();
        assert_eq!(row.as_ref().map(|(key, row)| (key, row)), expected);
    }
    walk(rig, table, model, rng);
}

/// A cursor goes forward by random steps, with a bound on what it passes or without.
fn walk(rig: &mut Rig, table: TableId, model: &Model, rng: &mut Rng) {
    let from = format!("k{:03}", rng.below(130)).into_bytes();
    let (steps, seed) = (rng.below(20), rng.next_u64());
    let mut seen = Vec::new();
    let found = rig.read(table, |rows| {
        // A miss begins anew, with the same steps.
        let mut rng = Rng::new(seed);
        let mut cursor = rows.cursor(&from, b"k115");
        let mut at = from.clone();
        seen.clear();
        for _ in 0..steps {
            let rows_max = if rng.chance(1, 2) { 1 } else { u32::MAX };
            let key = match cursor.seek(&at, rows_max)? {
                Step::End => return Ok(None),
                Step::Spent(key) => {
                    assert!(key >= at.as_slice() && rows_max == 1);
                    key.to_vec()
                }
                Step::Row(key) => {
                    let key = key.to_vec();
                    seen.push((at.clone(), key.clone(), cursor.value()?.to_vec()));
                    key
                }
            };
            at = match rng.below(4) {
                0 => at.max(format!("k{:03}", rng.below(130)).into_bytes()),
                1 => key,
                _ => [&key[..], &[0]].concat(),
            };
        }
        Ok(None)
    });
    assert_eq!(found, Some(None));
    for (from, key, value) in seen {
        let expected = model.range(from.clone()..).next().unwrap();
        assert_eq!((&key, &value), (expected.0, &expected.1.0), "from {from:?}");
        assert!(key < b"k115".to_vec());
    }
}

fn scan(rig: &mut Rig, table: TableId) -> Option<Model> {
    let mut found = Model::new();
    let mut from = Vec::new();
    while let Some(row) = rig.read(table, |rows| rows.seek(&from, &[0xff]))? {
        from = row.key.to_vec();
        from.push(0);
        found.insert(row.key.to_vec(), (row.value.to_vec(), row.index));
    }
    Some(found)
}

#[test]
fn rows_equal_a_map_through_flushes_and_recoveries() {
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::start(Image::default(), seed, false);
        let tables = [RANGE, TableId::Range(RangeId(2))];
        let mut models = [Model::new(), Model::new()];
        let mut logs: [Vec<Vec<RowWrite>>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..400 {
            let nth = rng.below(2) as usize;
            if rng.chance(1, 80) {
                let (mut image, gap) = (rig.crash(), rng.chance(1, 2));
                if gap {
                    let kept = rng.below(image.journal.len() as u64 + 1);
                    image.journal.truncate(kept as usize);
                }
                rig = Rig::start(image, rng.next_u64(), gap);
                for (nth, table) in tables.iter().enumerate() {
                    let mut flushed = rig.flushed.get(table).map_or(0, |index| index.0);
                    if rig.damaged.iter().any(|(damaged, _)| damaged == table) {
                        assert!(gap, "nothing was damaged");
                        rig.with(|shelf, _, out| shelf.reset_table(*table, out));
                        flushed = 0;
                    }
                    let log = logs[nth].iter().zip(1..).filter(|(_, index)| *index > flushed);
                    for (writes, index) in log {
                        rig.shelf.write_rows(*table, LogIndex(index), writes);
                        while rig.shelf.wants_freeze(*table) {
                            rig.with(|shelf, io, _| shelf.freeze(*table, LogIndex(index), io));
                        }
                        while rig.shelf.is_stalled(*table) {
                            assert!(rig.step());
                        }
                    }
                }
                assert_eq!(scan(&mut rig, tables[nth]).unwrap(), models[nth]);
            }
            while rig.shelf.is_stalled(tables[nth]) {
                assert!(rig.step(), "a flush ends");
            }
            let writes = random_writes(&mut rng);
            logs[nth].push(writes.clone());
            let index = LogIndex(logs[nth].len() as u64);
            rig.shelf.write_rows(tables[nth], index, &writes);
            apply(&mut models[nth], index, &writes);
            if rig.shelf.wants_freeze(tables[nth]) {
                assert!(rig.with(|shelf, io, _| shelf.freeze(tables[nth], index, io)));
            }
            if rng.chance(1, 2) {
                rig.step();
            }
            if rng.chance(1, 10) {
                compare(&mut rig, tables[nth], &models[nth], &mut rng);
            }
        }
        for (table, model) in tables.iter().zip(&models) {
            assert_eq!(&scan(&mut rig, *table).unwrap(), model);
        }
        assert!(rig.flushed.len() == 2, "both tables were flushed: {}", rig.shelf.status());
    }
}

#[test]
fn value_longer_than_a_segment_is_cut_and_put_together_again() {
    let mut rig = Rig::start(Image::default(), 1, false);
    let value: Bytes = (0..300_000_u32).map(|at| (at % 253) as u8).collect::<Vec<_>>().into();
    let write = RowWrite { key: Bytes::from_static(b"big"), value: Some(value.clone()) };
    rig.shelf.write_rows(RANGE, LogIndex(1), &[write]);
    assert!(rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(1), io)));
    rig.settle();
    let mut rig = Rig::start(rig.crash(), 2, false);
    assert_eq!(rig.flushed[&RANGE], LogIndex(1));
    let row = rig.read(RANGE, |rows| rows.get(b"big")).unwrap().unwrap();
    assert_eq!(row.value, value);
}

#[test]
fn damaged_block_is_named_and_the_table_can_be_reset() {
    let mut rig = Rig::start(Image::default(), 1, false);
    let writes: Vec<_> = (0..100)
        .map(|n| RowWrite { key: format!("{n:03}").into(), value: Some(vec![1; 100].into()) })
        .collect();
    rig.shelf.write_rows(RANGE, LogIndex(1), &writes);
    assert!(rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(1), io)));
    rig.settle();
    let miss = rig.shelf.rows(RANGE).first_miss();
    let mut image = rig.crash();
    image.flip(miss.offset + 1000);
    let mut rig = Rig::start(image, 2, false);
    assert!(rig.read(RANGE, |rows| rows.get(b"000")).is_none());
    assert_eq!(rig.damaged[0].0, RANGE);
    assert!(rig.damaged[0].1.contains("checksum"), "{}", rig.damaged[0].1);
    rig.with(|shelf, _, out| shelf.reset_table(RANGE, out));
    let free = rig.shelf.free_segments();
    rig.shelf.write_rows(RANGE, LogIndex(1), &writes);
    rig.settle();
    assert!(rig.shelf.free_segments() > free, "its segments are free again");
    assert_eq!(scan(&mut rig, RANGE).unwrap().len(), 100);
    let mut rig = Rig::start(rig.crash(), 3, false);
    assert_eq!(rig.flushed.get(&RANGE).copied().unwrap_or_default(), LogIndex(0));
    assert!(scan(&mut rig, RANGE).unwrap().is_empty());
}

#[test]
fn chunk_is_stored_read_and_stored_again_only_with_the_same_bytes() {
    let mut rig = Rig::start(Image::default(), 1, false);
    let write = chunk(1, 0, 10_000, 5);
    rig.write_chunk(1, &write);
    rig.write_chunk(2, &write);
    rig.write_chunk(3, &chunk(1, 0, 10_000, 6));
    rig.settle();
    assert_eq!(rig.stored[&1], Ok(()));
    assert_eq!(rig.stored[&2], Ok(()));
    assert_eq!(rig.stored[&3], Err(ChunkError::Invalid));
    assert_eq!(rig.read_chunk(4, &write), Ok(write.data.clone()));
    rig.write_chunk(5, &write);
    rig.write_chunk(6, &chunk(1, 0, 9_000, 5));
    rig.settle();
    assert_eq!(rig.stored[&5], Ok(()));
    assert_eq!(rig.stored[&6], Err(ChunkError::Invalid));
    assert_eq!(rig.read_chunk(7, &chunk(9, 0, 10, 0)), Err(ChunkError::Missing));
    let mut wrong = chunk(2, 0, 10_000, 5);
    wrong.checksums[1].0 ^= 1;
    rig.write_chunk(8, &wrong);
    assert_eq!(rig.stored[&8], Err(ChunkError::Invalid));
}

#[test]
fn chunks_beyond_the_limits_are_refused_and_none_is_lost() {
    let mut rig = Rig::start(Image::default(), 1, false);
    rig.settle();
    for n in 0..40 {
        rig.write_chunk(n, &chunk(n, 0, 16 << 10, 1));
    }
    rig.settle();
    assert!(rig.stored.values().any(|result| *result == Err(ChunkError::Overloaded)));
    let mut op = 100;
    while rig.stored.values().all(|result| *result != Err(ChunkError::Full)) {
        rig.write_chunk(op, &chunk(op, 0, 100 << 10, 1));
        rig.settle();
        op += 1;
        assert!(op < 1000, "the disk gets full");
    }
    assert!(rig.shelf.free_segments() > 0, "flushes keep their reserve");
    let kept: Vec<_> = rig.stored.iter().filter(|(op, r)| **op >= 100 && r.is_ok()).collect();
    let kept: Vec<u64> = kept.into_iter().map(|(op, _)| *op).collect();
    let mut rig = Rig::start(rig.crash(), 2, false);
    for op in kept {
        let write = chunk(op, 0, 100 << 10, 1);
        assert_eq!(rig.read_chunk(op, &write), Ok(write.data));
    }
}

#[test]
fn unreadable_sector_is_an_io_error_of_that_chunk_alone() {
    let mut rig = Rig::start(Image::default(), 1, false);
    let (first, second) = (chunk(1, 0, 8192, 1), chunk(1, 1, 8192, 2));
    for (op, write) in [&first, &second].into_iter().enumerate() {
        rig.write_chunk(op as u64, write);
        rig.settle();
    }
    let mut image = rig.crash();
    let at = *image.sectors.iter().find(|(_, bytes)| bytes[..] == first.data[..4096]).unwrap().0;
    image.bad.insert(at);
    let mut rig = Rig::start(image, 2, false);
    assert_eq!(rig.read_chunk(1, &first), Err(ChunkError::Io));
    assert_eq!(rig.read_chunk(2, &second), Ok(second.data));
}

#[test]
fn chunk_index_is_rebuilt_from_segments_when_a_block_of_it_is_damaged() {
    let mut rig = Rig::start(Image::default(), 3, false);
    for n in 0..150 {
        rig.write_chunk(n, &chunk(n, 0, 4096, n as u8));
        rig.settle();
    }
    assert!(rig.flushed.contains_key(&TableId::Chunks), "the chunk index was flushed");
    let miss = rig.shelf.rows(TableId::Chunks).first_miss();
    let mut image = rig.crash();
    image.flip(miss.offset + 200);
    let mut rig = Rig::start(image, 4, false);
    assert_eq!(rig.read_chunk(1000, &chunk(0, 0, 4096, 0)), Err(ChunkError::Overloaded));
    assert!(rig.notes.iter().any(|note| note.contains("rebuilding")), "{:?}", rig.notes);
    rig.settle();
    for n in 0..150 {
        let write = chunk(n, 0, 4096, n as u8);
        assert_eq!(rig.read_chunk(n, &write), Ok(write.data), "chunk {n}");
    }
    let mut rig = Rig::start(rig.crash(), 5, false);
    let write = chunk(149, 0, 4096, 149);
    assert_eq!(rig.read_chunk(1, &write), Ok(write.data));
}

#[test]
fn headers_tell_what_is_on_the_disk_when_all_edits_are_lost() {
    let mut rig = Rig::start(Image::default(), 3, false);
    for n in 0..30 {
        rig.write_chunk(n, &chunk(n, 0, 16 << 10, n as u8));
        rig.settle();
        let write = RowWrite { key: format!("{n:03}").into(), value: Some(vec![2; 700].into()) };
        rig.shelf.write_rows(RANGE, LogIndex(n + 1), &[write]);
        if n % 10 == 9 {
            assert!(rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(n + 1), io)));
            rig.settle();
        }
    }
    let mut image = rig.crash();
    image.journal.clear();
    let mut rig = Rig::start(image, 4, true);
    assert_eq!(rig.flushed[&RANGE], LogIndex(30));
    assert_eq!(scan(&mut rig, RANGE).unwrap().len(), 30);
    rig.settle();
    // The snapshot makes a start without a gap find the same.
    let mut rig = Rig::start(rig.crash(), 5, false);
    assert_eq!(rig.flushed[&RANGE], LogIndex(30));
    for n in 0..30 {
        let write = chunk(n, 0, 16 << 10, n as u8);
        assert_eq!(rig.read_chunk(n, &write), Ok(write.data), "chunk {n}");
    }
}

#[test]
fn failed_write_is_fatal_and_says_what_to_do() {
    let mut rig = Rig::open(Image::default(), 1, false);
    while !rig.ops.iter().any(|(_, op)| matches!(op, DiskOp::Write { .. })) {
        assert!(rig.step());
    }
    let (token, _) = rig.ops.pop().unwrap();
    let result = Err(DiskError::NoSpace);
    rig.with(|shelf, io, out| shelf.on_disk(token, &result, io, out));
    assert!(rig.fatal.unwrap().contains("no space left"));
}

#[test]
fn table_that_is_reset_during_a_flush_is_empty_and_gives_all_segments_back() {
    for steps in 0..14 {
        let mut rig = Rig::start(Image::default(), steps, false);
        rig.settle();
        let free = rig.shelf.free_segments();
        for index in 1..4 {
            let value = Some(vec![1; 900].into());
            let write = RowWrite { key: format!("{index}").into(), value };
            rig.shelf.write_rows(RANGE, LogIndex(index), &[write]);
        }
        assert!(rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(3), io)));
        for _ in 0..steps {
            rig.step();
        }
        rig.with(|shelf, _, out| shelf.reset_table(RANGE, out));
        let write = RowWrite { key: "new".into(), value: Some("row".into()) };
        rig.shelf.write_rows(RANGE, LogIndex(1), &[write]);
        rig.settle();
        assert_eq!(rig.shelf.free_segments(), free, "reset after {steps} steps");
        assert!(rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(1), io)));
        rig.settle();
        assert_eq!(scan(&mut rig, RANGE).unwrap().len(), 1);
        let mut rig = Rig::start(rig.crash(), steps, false);
        assert_eq!(rig.flushed[&RANGE], LogIndex(1));
        assert_eq!(scan(&mut rig, RANGE).unwrap().len(), 1);
    }
}

#[test]
fn damaged_block_index_is_reported_before_recovery_ends() {
    let mut rig = Rig::start(Image::default(), 1, false);
    let write = RowWrite { key: "a".into(), value: Some("b".into()) };
    rig.shelf.write_rows(RANGE, LogIndex(1), &[write]);
    assert!(rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(1), io)));
    rig.settle();
    let data = rig.shelf.rows(RANGE).first_miss();
    let mut image = rig.crash();
    image.flip(data.offset + data.len + 30);
    let mut rig = Rig::start(image, 2, false);
    assert_eq!(rig.damaged.len(), 1);
    assert!(!rig.flushed.contains_key(&RANGE));
    assert!(scan(&mut rig, RANGE).unwrap().is_empty());
    rig.with(|shelf, _, out| shelf.reset_table(RANGE, out));
    let write = RowWrite { key: "a".into(), value: Some("b".into()) };
    rig.shelf.write_rows(RANGE, LogIndex(1), &[write]);
    assert_eq!(scan(&mut rig, RANGE).unwrap().len(), 1);
}

#[test]
fn edits_that_contradict_each_other_are_taken_as_a_gap() {
    let mut rig = Rig::start(Image::default(), 3, false);
    // Behind one, nothing that came before could be missing.
    rig.checkpoints = false;
    for n in 0..20 {
        rig.write_chunk(n, &chunk(n, 0, 16 << 10, n as u8));
        rig.settle();
    }
    let mut image = rig.crash();
    image.journal.remove(0);
    let mut rig = Rig::start(image, 4, false);
    assert!(rig.notes.iter().any(|note| note.contains("missing")), "{:?}", rig.notes);
    rig.settle();
    for n in 0..20 {
        let write = chunk(n, 0, 16 << 10, n as u8);
        assert_eq!(rig.read_chunk(n, &write), Ok(write.data), "chunk {n}");
    }
    // The snapshot behind them makes up for the contradiction.
    let rig = Rig::start(rig.crash(), 5, false);
    assert!(rig.notes.is_empty(), "{:?}", rig.notes);
}
