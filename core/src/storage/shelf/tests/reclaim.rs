//! Freed chunks: their space comes back, what stays is moved unharmed, and no crash makes one of the other.

use std::collections::BTreeMap;

use crate::ids::{ChunkId, LogIndex};
use crate::message::{ChunkError, ChunkWrite};
use crate::rng::Rng;

use super::super::super::segment::edit::TableId;
use super::super::{Look, Looked};
use super::rig::{GEOMETRY, Image, Rig, chunk};

/// Chunks of 16 KiB: six or so in a segment.
fn write(sequence: u64) -> ChunkWrite {
    chunk(sequence, 0, 16 << 10, sequence as u8)
}

/// Segments of the disk that are not free.
fn taken(rig: &Rig) -> usize {
    let count = (GEOMETRY.capacity - (64 << 10)) / GEOMETRY.segment;
    count as usize - rig.shelf.free_segments()
}

/// Write chunks, as many at a time as the budget takes.
fn fill(rig: &mut Rig, sequences: impl Iterator<Item = u64>) {
    for n in sequences {
        rig.write_chunk(n, &write(n));
        while !rig.stored.contains_key(&n) {
            assert!(rig.step(), "the write ends");
        }
        assert_eq!(rig.stored[&n], Ok(()), "{n}");
    }
}

/// Free a chunk, and wait until that is durable.
fn free(rig: &mut Rig, op: u64, chunk: ChunkId) {
    loop {
        rig.free_chunk(op, chunk);
        while !rig.freed.contains_key(&op) {
            assert!(rig.step(), "the call ends");
        }
        match rig.freed.remove(&op).unwrap() {
            Ok(()) => return,
            Err(error) => assert_eq!(error, ChunkError::Overloaded),
        }
        assert!(rig.step(), "it is being written");
    }
}

#[test]
fn what_is_freed_is_gone_and_its_segments_are_free() {
    let mut rig = Rig::start(Image::default(), 1, false);
    rig.settle_reclaim();
    let before = taken(&rig);
    fill(&mut rig, 1..=120);
    rig.settle_reclaim();
    assert!(taken(&rig) > before + 15, "{}", rig.shelf.status());
    for n in 1..=120 {
        free(&mut rig, n, write(n).chunk);
    }
    rig.settle_reclaim();
    // Open segments, and a few rows of the index.
    assert!(taken(&rig) <= before + 4, "{}", rig.shelf.status());
    assert!(rig.shelf.reclaimed().segments > 15, "{:?}", rig.shelf.reclaimed());
    for n in 1..=120 {
        assert_eq!(rig.look(n, write(n).chunk, Look::Index).err(), Some(ChunkError::Missing));
        assert_eq!(rig.read_chunk(n, &write(n)), Err(ChunkError::Missing));
    }
    // Once more is as good, and so is what never was.
    free(&mut rig, 1, write(1).chunk);
    free(&mut rig, 2, write(999).chunk);
    let mut rig = Rig::start(rig.crash(), 2, false);
    rig.settle_reclaim();
    assert!(taken(&rig) <= before + 6, "{}", rig.shelf.status());
    assert_eq!(rig.look(1, write(7).chunk, Look::Index).err(), Some(ChunkError::Missing));
}

#[test]
fn segments_of_which_little_is_left_are_emptied() {
    let mut rig = Rig::start(Image::default(), 3, false);
    fill(&mut rig, 1..=120);
    rig.settle_reclaim();
    let full = taken(&rig);
    let stays = |n: &u64| n.is_multiple_of(6);
    for n in (1..=120).filter(|n| !stays(n)) {
        free(&mut rig, n, write(n).chunk);
    }
    rig.settle_reclaim();
    assert!(taken(&rig) < full / 2, "{full}: {}", rig.shelf.status());
    let done = rig.shelf.reclaimed();
    assert!(done.chunks > 0 && done.bytes == done.chunks * (16 << 10), "{done:?}");
    for gap in [false, true] {
        for n in (1..=120).filter(stays) {
            assert_eq!(rig.read_chunk(n, &write(n)), Ok(write(n).data), "{n}");
        }
        rig = Rig::start(rig.crash(), 4, gap);
        rig.settle_reclaim();
    }
}

/// The last of its room is for what gives room back: the edits of memtables that are written out.
#[test]
fn nothing_is_freed_or_moved_while_the_journal_has_no_room_to_spare() {
    let mut rig = Rig::start(Image::default(), 9, false);
    fill(&mut rig, 1..=120);
    rig.settle_reclaim();
    for n in 1..=119 {
        rig.free_chunk(n, write(n).chunk);
    }
    rig.shelf.spare_journal(true, false);
    let before = (rig.shelf.reclaimed(), taken(&rig));
    for _ in 0..100 {
        rig.with(|shelf, io, out| shelf.housekeep(io, out));
        rig.settle();
    }
    let freed = rig.freed.values().filter(|result| result.is_ok()).count();
    assert!(freed > 60, "{freed}");
    assert_eq!(rig.shelf.reclaimed(), before.0);
    assert!(taken(&rig) >= before.1, "{}", rig.shelf.status());
    rig.free_chunk(120, write(120).chunk);
    assert_eq!(rig.freed.remove(&120), Some(Err(ChunkError::Overloaded)));
    rig.shelf.spare_journal(false, false);
    free(&mut rig, 120, write(120).chunk);
    rig.settle_reclaim();
    assert!(rig.shelf.reclaimed().segments > before.0.segments + 5, "{}", rig.shelf.status());
}

/// Rows may be written out before their batch has a number, and a batch may have no rows: such a batch is behind the
/// last run, and must not hold the journal for ever.
#[test]
fn batches_without_rows_in_memory_are_settled() {
    let mut rig = Rig::start(Image::default(), 11, false);
    fill(&mut rig, 1..=4);
    rig.settle();
    let last = |rig: &Rig| LogIndex(rig.shelf.chunks.sequence().0 - 1);
    assert!(rig.shelf.chunks_settled() < last(&rig), "rows are in memory");
    rig.with(|shelf, io, _| shelf.write_out_chunk_index(io));
    rig.settle();
    free(&mut rig, 1, write(999).chunk);
    assert!(rig.shelf.flushed(TableId::Chunks) < last(&rig), "there was no row");
    assert_eq!(rig.shelf.chunks_settled(), last(&rig));
    let mut rig = Rig::start(rig.crash(), 12, false);
    rig.settle();
    for n in 1..=4 {
        assert_eq!(rig.read_chunk(n, &write(n)), Ok(write(n).data), "{n}");
    }
}

#[test]
fn a_copy_that_does_not_verify_keeps_its_segment_until_it_is_replaced() {
    let mut rig = Rig::start(Image::default(), 5, false);
    fill(&mut rig, 1..=30);
    rig.settle();
    let mut image = rig.crash();
    let spoiled = image.sectors.iter().find(|(_, sector)| **sector == write(3).data.slice(..4096));
    let at = *spoiled.expect("it was written").0;
    image.flip(at);
    let mut rig = Rig::start(image, 6, false);
    for n in (1..=30).filter(|n| *n != 3) {
        free(&mut rig, n, write(n).chunk);
    }
    rig.settle_reclaim();
    assert_eq!(rig.look(1, write(3).chunk, Look::Check).err(), Some(ChunkError::Damaged));
    let before = taken(&rig);
    rig.replace_chunk(100, &write(3));
    rig.settle_reclaim();
    assert_eq!(rig.stored[&100], Ok(()));
    assert!(matches!(rig.look(2, write(3).chunk, Look::Check), Ok(Looked::Checked(_))));
    assert!(taken(&rig) <= before, "the segment of the old copy is free");
}

#[test]
fn a_full_disk_takes_chunks_again_when_others_are_freed() {
    let mut rig = Rig::start(Image::default(), 7, false);
    let mut count = 0;
    loop {
        count += 1;
        rig.write_chunk(count, &write(count));
        rig.settle();
        match rig.stored[&count] {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, ChunkError::Full);
                break;
            }
        }
    }
    assert!(count > 500, "{count}");
    // Two of three, from every segment: none of them becomes free by itself.
    for n in (1..count).filter(|n| n % 3 != 0) {
        free(&mut rig, n, write(n).chunk);
    }
    rig.settle_reclaim();
    assert!(rig.shelf.reclaimed().chunks > 0, "chunks had to be moved");
    fill(&mut rig, count + 1..count + 1 + count / 2);
    for n in (1..count).filter(|n| n % 3 == 0) {
        assert_eq!(rig.read_chunk(n, &write(n)), Ok(write(n).data), "{n}");
    }
}

/// Writes, frees and crashes at random: what was acknowledged stays, what was freed stays away, and
/// nothing is ever read wrong.
#[test]
fn chunks_that_come_and_go_survive_crashes() {
    let mut moved = 0;
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut image = Image::default();
        // What must be there, and what may be: writes and frees that were not answered.
        let mut there: BTreeMap<u64, bool> = BTreeMap::new();
        let mut next = 0;
        for _ in 0..6 {
            let mut rig = Rig::start(image, rng.next_u64(), false);
            assert_no_gap(&rig);
            for _ in 0..rng.below(80) {
                if rng.chance(2, 3) {
                    next += 1;
                    there.insert(next, false);
                    rig.write_chunk(next, &write(next));
                } else if let Some(n) = pick(&mut rng, &there).filter(|n| there[n]) {
                    // A write that is under way is not freed. From now on it need not be there.
                    there.insert(n, false);
                    rig.free_chunk(1 << 32 | n, write(n).chunk);
                }
                for _ in 0..rng.below(30) {
                    rig.step();
                }
                for (op, result) in std::mem::take(&mut rig.stored) {
                    if result.is_ok() {
                        there.insert(op, true);
                    }
                }
                for (op, result) in std::mem::take(&mut rig.freed) {
                    if result.is_ok() {
                        there.remove(&(op & 0xffff_ffff));
                    }
                }
                if let Some(n) = pick(&mut rng, &there) {
                    let known = there[&n];
                    let read = rig.read_chunk(1 << 40 | n, &write(n));
                    check(n, read, Some(known));
                }
            }
            if rng.chance(1, 2) {
                rig.settle_reclaim();
            }
            moved += rig.shelf.reclaimed().chunks;
            image = rig.crash();
        }
        let mut rig = Rig::start(image, seed, false);
        assert_no_gap(&rig);
        rig.settle_reclaim();
        for n in 1..=next {
            let read = rig.read_chunk(n, &write(n));
            check(n, read, there.get(&n).copied());
        }
    }
    assert!(moved > 100, "{moved}");
}

/// Edits do not contradict each other, whatever of them was lost.
fn assert_no_gap(rig: &Rig) {
    assert!(!rig.notes.iter().any(|note| note.contains("missing")), "{:?}", rig.notes);
}

fn pick(rng: &mut Rng, there: &BTreeMap<u64, bool>) -> Option<u64> {
    let at = rng.below(there.len().max(1) as u64) as usize;
    there.keys().nth(at).copied()
}

/// `known`: whether it must be there; `None`: it was freed.
fn check(n: u64, read: Result<bytes::Bytes, ChunkError>, known: Option<bool>) {
    match (read, known) {
        (Ok(data), Some(_)) => assert_eq!(data, write(n).data, "{n}"),
        (Ok(_), None) => panic!("{n} was freed"),
        (Err(ChunkError::Missing), None | Some(false)) => {}
        (Err(ChunkError::Overloaded), _) => {}
        (Err(error), known) => panic!("{n}: {error:?}, {known:?}"),
    }
}
