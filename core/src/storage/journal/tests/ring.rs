//! The ring wraps, again and again, with crashes and rot at every place.

use super::super::{JournalError, Record};
use super::world::{GEOMETRY, Life, TestDisk, any_record, entry};
use crate::disk::SECTOR;
use crate::rng::Rng;
use crate::storage::layout::{JOURNAL_START, journal_offset, superblock_offset};
use crate::storage::superblock::Superblock;

/// What was written so far, over all lives.
#[derive(Clone, Debug, Default)]
struct History {
    /// All records that count, from the first one on.
    records: Vec<Record>,
    /// Those before this one were given up, perhaps durably so.
    given_up: usize,
    numbers: u64,
}

impl History {
    /// What a later life must find: a part of all, with what was acknowledged and not given up.
    /// `acknowledged`: of the records of `life`, which come behind those that it found.
    fn check(&mut self, life: &Life, next: &Life, what: &str) {
        let promised = self.records.len() + life.acknowledged;
        let mut all = self.records.clone();
        all.extend(life.appended.iter().cloned());
        let found = &next.delivered.records;
        assert_eq!(next.damage, None, "{what}: a crash is not damage");
        assert!(next.delivered.after_gap.is_empty(), "{what}");
        let Some(first) = found.first() else {
            assert_eq!(promised, 0, "{what}: all is lost");
            return;
        };
        let from = all.iter().position(|record| record == first).expect("it was appended");
        assert!(from <= self.given_up, "{what}: begins with {from}, needed is {}", self.given_up);
        let to = from + found.len();
        assert!(to <= all.len() && all[from..to] == found[..], "{what}: order");
        assert!(to >= promised, "{what}: {to} of {promised} found");
        all.truncate(to);
        self.records = all;
    }

    /// Appends, and gives up, until `completions_max` or until `batches` are written.
    fn live(&mut self, mut life: Life, batches: u64, completions_max: usize) -> Life {
        let before = self.records.len();
        let mut left = batches;
        while life.completions < completions_max {
            let runs = life.found.is_some();
            let has_room = runs && life.journal().free_bytes() > 60_000;
            // What waits has no place of its own yet, so that it could not be given up.
            let waits = runs && life.journal().pending_bytes() > 20_000;
            if left > 0 && has_room && !waits && life.rng.chance(1, 2) {
                for _ in 0..1 + life.rng.below(3) {
                    self.numbers += 1;
                    let record = any_record(self.numbers, &mut life.rng);
                    life.append(record);
                }
                life.pump();
                left -= 1;
            }
            if runs && life.acknowledged > 0 && (!has_room || life.rng.chance(1, 8)) {
                let last = life.acknowledged as u64 - 1;
                let keep = if has_room { life.rng.below(last + 1) } else { last };
                let keep = usize::try_from(keep).unwrap();
                life.give_up_before(keep);
                self.given_up = self.given_up.max(before + keep);
            }
            if !life.step() && (left == 0 || (runs && !has_room)) {
                break;
            }
        }
        life
    }
}

/// A disk whose ring has wrapped, at rest.
fn wrapped(seed: u64) -> (TestDisk, History) {
    let mut history = History::default();
    let life = Life::begin_and_recover(TestDisk::default(), seed);
    let mut life = history.live(life, 100, usize::MAX);
    life.run_until_idle();
    assert!(life.journal().head() > 2 * GEOMETRY.journal, "it wraps twice");
    let look = Life::begin_and_recover(life.disk.clone(), 1);
    history.check(&life, &look, "at rest");
    (look.disk, history)
}

#[test]
fn ring_wraps_over_many_lives_and_keeps_what_was_acknowledged() {
    let mut rounds = 0;
    for seed in 0..120 {
        let mut rng = Rng::new(seed);
        let mut disk = TestDisk::default();
        let mut history = History::default();
        for number in 0..12 {
            let what = format!("seed={seed} life={number}");
            let crash_at = usize::try_from(rng.below(400)).unwrap();
            let life = Life::begin(disk.clone(), rng.next_u64());
            let life = history.live(life, 20, crash_at);
            disk = life.disk.clone();
            // The power goes, or the process alone: then what it wrote is in the page cache.
            let power_cut = rng.chance(2, 3);
            if power_cut {
                disk.crash(&mut rng);
            }
            let look = Life::begin_and_recover(disk.clone(), rng.next_u64());
            history.check(&life, &look, &what);
            rounds = rounds.max(look.found.unwrap().0 / GEOMETRY.journal);
            disk = look.disk;
            if !power_cut {
                disk.crash(&mut rng);
            }
        }
    }
    assert!(rounds > 5, "only {rounds} rounds");
}

/// Also in the middle of the superblock's update, and with its newer copies lost after that: an older
/// copy leads to an older tail, behind which nothing may have been written over.
#[test]
fn crash_at_every_completion_while_the_tail_moves_keeps_what_was_acknowledged() {
    let (start, before) = wrapped(3);
    let begin = || Life::begin(start.clone(), 7);
    let whole = before.clone().live(begin(), 30, usize::MAX).completions;
    let mut older = 0;
    for crash_at in 0..=whole {
        let mut history = before.clone();
        let life = history.live(begin(), 30, crash_at);
        for seed in 0..3 {
            let what = format!("crash_at={crash_at} seed={seed}");
            let mut disk = life.disk.clone();
            disk.crash(&mut Rng::new(seed));
            let look = Life::begin_and_recover(disk.clone(), seed);
            history.clone().check(&life, &look, &what);

            let copy = |copy| {
                let bytes = disk.durable.get(&(superblock_offset(copy) / SECTOR))?;
                Some((copy, Superblock::decode(copy, bytes).ok()?.sequence))
            };
            let copies: Vec<_> = (0..4).filter_map(copy).collect();
            let newest = copies.iter().map(|(_, sequence)| *sequence).max().unwrap();
            let newer: Vec<_> = copies.iter().filter(|(_, sequence)| *sequence == newest).collect();
            if newer.len() < copies.len() {
                older += 1;
                let mut disk = disk.clone();
                for (copy, _) in newer {
                    disk.flip(superblock_offset(*copy) / SECTOR, 333);
                }
                let look = Life::begin_and_recover(disk, seed);
                history.clone().check(&life, &look, &format!("{what}, older superblock"));
            }
        }
    }
    assert!(older > 20, "an update was interrupted {older} times");
}

#[test]
fn rot_in_any_sector_between_tail_and_head_is_damage() {
    let tail_of = |disk: &TestDisk| {
        let copy = &disk.durable[&(superblock_offset(0) / SECTOR)];
        Superblock::decode(0, copy).unwrap().tail.position
    };
    let crosses = |(disk, history): (TestDisk, History)| {
        let found = Life::begin_and_recover(disk.clone(), 1);
        let ((head, _), tail) = (found.found.unwrap(), tail_of(&disk));
        let crosses = tail / GEOMETRY.journal < head / GEOMETRY.journal;
        crosses.then_some((disk, history, found, tail, head))
    };
    let (disk, history, found, tail, head) = (0..50).map(wrapped).find_map(crosses).unwrap();
    let records = found.delivered.records;
    assert_eq!(records[..], history.records[history.records.len() - records.len()..]);
    // The last sector is a closing mark, of which the superblock may not know.
    for position in (tail..head - SECTOR).step_by(4096) {
        let mut rotten = disk.clone();
        rotten.flip(journal_offset(&GEOMETRY, position) / SECTOR, 8 * 100 + 3);
        let found = Life::begin_and_recover(rotten, 9);
        let damage = found.damage.expect("rot below the mark is never cut in silence");
        assert!(damage.position <= position && damage.synced > position);
        assert!(damage.position >= tail);
        let (kept, behind) = (&found.delivered.records, &found.delivered.after_gap);
        assert_eq!(kept[..], records[..kept.len()]);
        assert_eq!(behind[..], records[records.len() - behind.len()..]);
    }
    // What was given up may rot.
    for position in (head.next_multiple_of(SECTOR)..tail + GEOMETRY.journal).step_by(4096) {
        let mut rotten = disk.clone();
        rotten.flip(journal_offset(&GEOMETRY, position) / SECTOR, 8 * 100 + 3);
        let found = Life::begin_and_recover(rotten, 9);
        assert_eq!((found.damage, &found.delivered.records), (None, &records));
    }
}

/// The superblock says how far all was synced when it moved the tail: without a frame that can be read
/// there is still proof that there were some.
#[test]
fn a_journal_that_is_lost_as_a_whole_is_damage() {
    let (mut disk, _) = wrapped(6);
    let first = JOURNAL_START / SECTOR;
    for sector in first..first + GEOMETRY.journal / SECTOR {
        disk.durable.remove(&sector);
    }
    let found = Life::begin_and_recover(disk, 1);
    assert!(found.damage.is_some());
    assert_eq!(found.delivered.records, []);
}

#[test]
fn a_frame_that_does_not_fit_before_the_end_of_the_ring_stands_behind_it() {
    let mut life = Life::begin_and_recover(TestDisk::default(), 1);
    let mut index = 0;
    let mut write = |life: &mut Life, bytes: usize| {
        index += 1;
        life.append(entry(index, 1, vec![7; bytes]));
        life.pump();
        life.run_until_idle();
        life.journal().head()
    };
    while write(&mut life, 20_000) + 40_000 < GEOMETRY.journal {}
    life.give_up_before(life.acknowledged - 2);
    life.run_until_idle();
    let head = write(&mut life, 50_000);
    assert_eq!(life.acknowledged, life.appended.len());
    assert!(head > GEOMETRY.journal + 50_000, "{head}");
    let last = life.places.len() as u64;
    let read = |life: &mut Life| {
        life.reads.clear();
        assert!(life.read(last - 1, 1 << 20));
        life.run_until_idle();
        let entries = life.reads.pop().unwrap().entries.unwrap();
        assert_eq!(entries.len(), 1, "one read does not cross the end of the ring");
    };
    read(&mut life);
    let mut found = Life::begin_and_recover(life.disk.clone(), 2);
    found.run_until_idle();
    let records = &found.delivered.records;
    assert_eq!(records[..], life.appended[life.appended.len() - records.len()..]);
    assert!(records.len() < life.appended.len(), "the tail has moved");
    read(&mut found);
}

/// What waits for a place gets it when the superblock is written; only if none is on its way it is too
/// late.
#[test]
fn a_record_waits_for_the_tail_that_moves() {
    let mut life = Life::begin_and_recover(TestDisk::default(), 1);
    let mut index = 0;
    while life.journal().free_bytes() > 30_000 {
        index += 1;
        life.append(entry(index, 1, vec![1; 10_000]));
        life.pump();
        life.run_until_idle();
    }
    let full = life.disk.clone();
    life.give_up_before(life.acknowledged - 1);
    life.append(entry(index + 1, 1, vec![1; 60_000]));
    life.pump();
    life.run_until_idle();
    assert_eq!(life.acknowledged, life.appended.len());

    let mut life = Life::begin_and_recover(full, 1);
    life.run_until_idle();
    life.append(entry(index + 1, 1, vec![1; 60_000]));
    let (mut queue, mut fx) = Default::default();
    let mut io = crate::storage::io::Io { queue: &mut queue, fx: &mut fx };
    let error = life.journal().pump(&mut io).unwrap_err();
    assert!(matches!(error, JournalError::Full { .. }), "{error}");
}

/// A read of entries that are given up under way still finds them.
#[test]
fn space_is_not_used_again_while_entries_are_read_from_it() {
    let mut life = Life::begin_and_recover(TestDisk::default(), 1);
    for index in 1..=8 {
        life.append(entry(index, 1, vec![1; 9_000]));
        life.pump();
        life.run_until_idle();
    }
    assert!(life.read(2, 1));
    let first = life.journal().first_entry_after(super::world::RANGE, crate::ids::LogIndex(1));
    life.give_up_before(life.acknowledged - 1);
    life.run_until_idle();
    assert!(life.journal().tail() <= first.unwrap(), "it is being read");
    assert!(life.reads[0].entries.is_ok());
    life.give_up_before(life.acknowledged - 1);
    life.run_until_idle();
    assert!(life.journal().tail() > first.unwrap());
}
