//! Merges: against a model, with crashes everywhere, under views, with values that die, with damage.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::disk::{DiskOp, Room};
use crate::ids::LogIndex;
use crate::rng::Rng;
use crate::rows::RowWrite;

use super::super::{Edit, ViewError, ViewId};
use super::rig::{GEOMETRY, Image, RANGE, Rig};
use crate::codec::Wire;

type Model = BTreeMap<Bytes, (LogIndex, Option<Bytes>)>;

/// What entry `n` writes: some new rows, some over old ones, some deletions, some long values.
fn entry(n: u64) -> Vec<RowWrite> {
    let mut rng = Rng::new(n);
    (0..3)
        .map(|_| {
            let len = match rng.below(6) {
                0 => 3000,
                1 => 700,
                _ => rng.below(80) as usize,
            };
            let value = rng.chance(4, 5).then(|| Bytes::from(vec![n as u8; len]));
            RowWrite { key: format!("k{:04}", rng.below(400)).into(), value }
        })
        .collect()
}

fn model(last: u64) -> Model {
    let mut model = Model::new();
    for n in 1..=last {
        for write in entry(n) {
            model.insert(write.key, (LogIndex(n), write.value));
        }
    }
    model
}

/// Apply entries up to `last`, behind those that are there; with so many steps of the disk for each.
fn apply(rig: &mut Rig, first: u64, last: u64, steps: u64) {
    for n in first..=last {
        while rig.shelf.is_stalled(RANGE) {
            assert!(rig.step(), "a flush ends");
        }
        rig.shelf.write_rows(RANGE, LogIndex(n), &entry(n));
        if n % 10 == 0 || rig.shelf.wants_freeze(RANGE) {
            rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(n), io));
        }
        for _ in 0..steps {
            rig.step();
        }
    }
}

fn flushed(rig: &Rig) -> u64 {
    rig.shelf.flushed(RANGE).0
}

/// Write out what is in memory, and let everything come to rest.
fn come_to_rest(rig: &mut Rig, last: u64) {
    rig.settle();
    rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(last), io));
    rig.settle();
    assert_eq!(flushed(rig), last);
    let (_, busy) = rig.shelf.merged();
    assert!(!busy, "{}", rig.shelf.status());
    for (table, runs, bound) in rig.shelf.shapes() {
        assert!(runs <= bound, "{table:?} has {runs} runs, at most {bound}");
    }
}

fn assert_is(rig: &mut Rig, model: &Model, what: &str) {
    for (key, (index, value)) in model {
        let found = rig.read(RANGE, |rows| rows.get(key)).expect("nothing is damaged");
        let found = found.map(|row| (row.index, row.value));
        assert_eq!(found, value.clone().map(|value| (*index, value)), "{key:?}, {what}");
    }
    let mut from = Bytes::new();
    for (key, _) in model.iter().filter(|(_, (_, value))| value.is_some()) {
        let row = rig.read(RANGE, |rows| rows.seek(&from, b"z")).expect("nothing is damaged");
        assert_eq!(row.map(|row| row.key).as_ref(), Some(key), "{what}");
        from = [&key[..], &[0]].concat().into();
    }
    let row = rig.read(RANGE, |rows| rows.seek(&from, b"z")).expect("nothing is damaged");
    assert_eq!(row, None, "{what}");
}

/// All rows of a view, tombstones too.
fn rows_of(rig: &mut Rig, view: ViewId) -> Model {
    let (mut rows, mut from) = (Model::new(), Bytes::new());
    loop {
        match rig.shelf.view_next(view, Bound::Included(&from), LogIndex(0)) {
            Ok(None) => return rows,
            Ok(Some(row)) => {
                from = [&row.key[..], &[0]].concat().into();
                rows.insert(row.key, (row.index, row.value));
            }
            Err(ViewError::Gone) => panic!("the view is held"),
            Err(ViewError::Miss(miss)) => {
                rig.with(|shelf, io, out| shelf.fetch(miss, true, io, out));
                while !rig.fetched.contains(&miss) {
                    assert!(rig.step(), "the fetch ends");
                }
                rig.fetched.clear();
            }
        }
    }
}

fn with_lag(lag: u64) -> Image {
    Image { lag: Some(lag), ..Image::default() }
}

#[test]
fn merged_tables_equal_a_map_and_have_few_runs() {
    for seed in 0..4 {
        let mut rig = Rig::start(with_lag(100), seed, false);
        let mut rng = Rng::new(seed);
        let (mut last, mut merges, mut dropped) = (0, 0, 0);
        for round in 0..8 {
            apply(&mut rig, last + 1, last + 60, 2 + rng.below(6));
            last += 60;
            let (done, _) = rig.shelf.merged();
            (merges, dropped) = (merges + done.merges, dropped + done.rows_dropped);
            if rng.chance(1, 3) {
                rig = Rig::start(rig.crash(), rng.next_u64(), false);
                let first = flushed(&rig) + 1;
                apply(&mut rig, first, last, 4);
            }
            come_to_rest(&mut rig, last);
            assert_is(&mut rig, &model(last), &format!("seed {seed}, round {round}"));
        }
        assert!(merges > 0 && dropped > 0, "{merges} merges, {dropped} rows dropped");
    }
}

/// Runs the same trace until so many completions have passed. Up to which entry rows were reported
/// flushed, and whether the trace had ended.
fn run_trace(completions: u64, seed: u64) -> (Image, u64, bool) {
    let mut rig = Rig::open(with_lag(30), seed, false);
    let (mut n, mut done) = (0, false);
    while rig.completions < completions {
        let due = rig.ready && n < 100 && rig.completions > n * 5;
        if due && !rig.shelf.is_stalled(RANGE) {
            n += 1;
            rig.shelf.write_rows(RANGE, LogIndex(n), &entry(n));
            if n % 8 == 0 {
                rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(n), io));
            }
        }
        if !rig.step() {
            if n == 100 {
                done = true;
                break;
            }
            rig.completions += 1;
        }
    }
    let (merged, _) = rig.shelf.merged();
    assert!(!done || merged.merges >= 3, "the trace merges: {merged:?}");
    let flushed = rig.flushed.get(&RANGE).copied().unwrap_or_default();
    (rig.crash(), flushed.0, done)
}

#[test]
fn a_crash_at_every_completion_leaves_the_old_runs_or_the_new_one() {
    let mut completions = 0;
    loop {
        let (image, flushed_before, done) = run_trace(completions, 3 + completions % 3);
        let mut rig = Rig::start(image, completions, false);
        assert!(rig.damaged.is_empty() && rig.notes.is_empty(), "{:?}", rig.notes);
        let through = flushed(&rig);
        assert!(through >= flushed_before, "crash after {completions}");
        assert_is(&mut rig, &model(through), &format!("crash after {completions}"));
        // Life goes on: what the crash left behind is in nobody's way.
        if completions % 7 == 0 {
            apply(&mut rig, through + 1, 140, 5);
            come_to_rest(&mut rig, 140);
            assert_is(&mut rig, &model(140), &format!("life after a crash after {completions}"));
        }
        if done {
            assert!(completions > 300, "the trace has many boundaries: {completions}");
            return;
        }
        completions += if completions < 150 { 3 } else { 1 };
    }
}

#[test]
fn after_a_crash_that_also_loses_the_journal_headers_tell_the_same() {
    for completions in (40..700).step_by(9) {
        let (mut image, _, _) = run_trace(completions, completions);
        let mut rng = Rng::new(completions);
        let kept = rng.below(image.journal.len() as u64 + 1) as usize;
        image.journal.truncate(kept);
        let mut rig = Rig::start(image, completions, true);
        if !rig.damaged.is_empty() {
            // Some run is lost with the edits; then the table is built anew.
            rig.with(|shelf, _, out| shelf.reset_table(RANGE, out));
            rig.settle();
            continue;
        }
        let through = flushed(&rig);
        assert_is(&mut rig, &model(through), &format!("crash after {completions}"));
        apply(&mut rig, through + 1, 130, 5);
        come_to_rest(&mut rig, 130);
        let mut rig = Rig::start(rig.crash(), completions, false);
        assert_is(&mut rig, &model(130), "one life later");
    }
}

#[test]
fn a_view_stays_as_it_was_over_merges_and_its_segments_are_freed_when_it_closes() {
    let mut rig = Rig::start(with_lag(0), 1, false);
    apply(&mut rig, 1, 75, 3);
    come_to_rest(&mut rig, 75);
    let before = rig.shelf.merged().0.merges;
    let (view, through, _) = rig.shelf.open_view(RANGE);
    let (same, ..) = rig.shelf.open_view(RANGE);
    assert_eq!(through, LogIndex(75));
    let rows = rows_of(&mut rig, view);
    assert!(rows.iter().all(|(key, row)| model(75)[key] == *row));
    apply(&mut rig, 76, 400, 3);
    come_to_rest(&mut rig, 400);
    assert!(rig.shelf.merged().0.merges > before + 2);
    assert_eq!(rows_of(&mut rig, view), rows, "merges change nothing in a view");
    let free = rig.shelf.free_segments();
    rig.shelf.close_view(view);
    rig.with(|shelf, io, _| shelf.free_retired(io));
    rig.settle();
    assert_eq!(rig.shelf.free_segments(), free, "another view has the same runs");
    assert_eq!(rows_of(&mut rig, same), rows);
    rig.shelf.close_view(same);
    rig.with(|shelf, io, _| shelf.free_retired(io));
    rig.settle();
    assert!(rig.shelf.free_segments() > free, "what only views held is free");
    assert_is(&mut rig, &model(400), "after the views");
}

#[test]
fn a_view_of_merged_runs_is_gone_with_a_reset_and_frees_them() {
    let mut rig = Rig::start(with_lag(0), 1, false);
    rig.settle();
    let free = rig.shelf.free_segments();
    apply(&mut rig, 1, 75, 3);
    come_to_rest(&mut rig, 75);
    let (view, ..) = rig.shelf.open_view(RANGE);
    apply(&mut rig, 76, 300, 3);
    rig.with(|shelf, _, out| shelf.reset_table(RANGE, out));
    rig.settle();
    let gone = rig.shelf.view_next(view, Bound::Unbounded, LogIndex(0));
    assert_eq!(gone, Err(ViewError::Gone));
    assert_eq!(rig.shelf.free_segments(), free);
}

#[test]
fn segments_whose_values_are_dead_become_free_and_are_trimmed() {
    let mut rig = Rig::start(with_lag(0), 5, false);
    rig.settle();
    let free = rig.shelf.free_segments();
    let mut index = 0;
    let mut most = 0;
    let mut trims = 0;
    // The same 40 rows again and again: 80 KiB that live.
    for _ in 0..60 {
        for row in 0..40 {
            index += 1;
            let value = Some(vec![index as u8; 2000].into());
            let write = RowWrite { key: format!("{row:02}").into(), value };
            while rig.shelf.is_stalled(RANGE) {
                assert!(rig.step());
            }
            rig.shelf.write_rows(RANGE, LogIndex(index), &[write]);
            if rig.shelf.wants_freeze(RANGE) {
                rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(index), io));
            }
            rig.step();
            trims += rig.ops.iter().filter(|(_, op)| matches!(op, DiskOp::Trim { .. })).count();
        }
        rig.settle();
        most = most.max(free - rig.shelf.free_segments());
    }
    let (done, _) = rig.shelf.merged();
    assert!(done.segments_freed > 100, "{done:?}");
    assert!(trims > 0);
    assert!(most < 40, "{most} segments for 80 KiB of values");
    for row in 0..40 {
        let key = format!("{row:02}");
        let found = rig.read(RANGE, |rows| rows.get(key.as_bytes())).unwrap().unwrap();
        assert_eq!(found.value, vec![(index - 39 + row) as u8; 2000]);
    }
}

#[test]
fn values_are_moved_out_of_segments_that_are_mostly_dead() {
    let mut rig = Rig::start(with_lag(0), 5, false);
    let mut index = 0;
    let value = |n: u64| Bytes::from(vec![n as u8; 1500 + n as usize % 300]);
    let mut write = |rig: &mut Rig, key: u64| {
        index += 1;
        while rig.shelf.is_stalled(RANGE) {
            assert!(rig.step());
        }
        let write = RowWrite { key: format!("{key:04}").into(), value: Some(value(index)) };
        rig.shelf.write_rows(RANGE, LogIndex(index), &[write]);
        if rig.shelf.wants_freeze(RANGE) {
            rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(index), io));
        }
        rig.step();
        index
    };
    let mut expected = BTreeMap::new();
    for key in 0..300 {
        expected.insert(key, write(&mut rig, key));
    }
    // Most of them anew, so that few of each old segment live.
    for round in 0..4 {
        for key in (0..300).filter(|key| key % 10 != round) {
            expected.insert(key, write(&mut rig, key));
        }
    }
    rig.settle();
    let (done, _) = rig.shelf.merged();
    assert!(done.values_moved > 20, "{done:?}");
    let image = rig.crash();
    let mut rig = Rig::start(image, 6, false);
    for (key, index) in
        expected.iter().filter(|(_, index)| **index <= flushed(&rig)).collect::<Vec<_>>()
    {
        let key = format!("{key:04}");
        let found = rig.read(RANGE, |rows| rows.get(key.as_bytes())).unwrap().unwrap();
        assert_eq!((found.index, found.value), (LogIndex(*index), value(*index)));
    }
}

#[test]
fn tombstones_are_dropped_when_no_replica_needs_them_and_the_view_says_so() {
    for lag in [0, 50, u64::MAX] {
        let mut rig = Rig::start(with_lag(lag), 1, false);
        apply(&mut rig, 1, 300, 4);
        come_to_rest(&mut rig, 300);
        let (view, through, bare) = rig.shelf.open_view(RANGE);
        let rows = rows_of(&mut rig, view);
        assert!(bare.0 <= through.0.saturating_sub(lag), "{bare}");
        assert_eq!(bare == LogIndex(0), lag == u64::MAX, "{bare}");
        for (key, row) in model(300) {
            let found = rows.get(&key);
            // What is newer than that is complete: a replica that has an older state can go on with it.
            if row.1.is_some() || row.0 > bare {
                assert_eq!(found, Some(&row), "lag {lag}");
            }
        }
    }
}

#[test]
fn rows_that_are_all_deleted_leave_one_tombstone_so_that_no_run_seems_lost() {
    let mut rig = Rig::start(with_lag(0), 1, false);
    let mut index = 0;
    for value in [Some(Bytes::from(vec![1; 900])), None] {
        for key in 0..60 {
            index += 1;
            let write = RowWrite { key: format!("{key:03}").into(), value: value.clone() };
            rig.shelf.write_rows(RANGE, LogIndex(index), &[write]);
            if key % 15 == 14 {
                rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(index), io));
                rig.settle();
            }
        }
    }
    for (_, runs, _) in rig.shelf.shapes().iter().filter(|(table, ..)| *table == RANGE) {
        assert_eq!(*runs, 1);
    }
    let mut image = rig.crash();
    image.journal.clear();
    let mut rig = Rig::start(image, 2, true);
    assert!(rig.damaged.is_empty(), "{:?}", rig.damaged);
    assert_eq!(flushed(&rig), index);
    assert_eq!(rig.read(RANGE, |rows| rows.seek(b"", b"z")), Some(None));
}

#[test]
fn damage_that_a_merge_meets_is_reported_and_the_table_can_be_built_anew() {
    let mut seen = 0;
    for seed in 0..30 {
        let mut rig = Rig::start(with_lag(0), seed, false);
        let mut rng = Rng::new(seed);
        apply(&mut rig, 1, 40, 3);
        rig.settle();
        let mut image = rig.crash();
        // A block or a value somewhere.
        let is_used = |at: &u64, bytes: &Bytes| {
            let header = (at - (64 << 10)).is_multiple_of(GEOMETRY.segment);
            !header && bytes.iter().any(|byte| *byte != 0)
        };
        let sectors = image.sectors.iter().filter(|(at, bytes)| is_used(at, bytes));
        let written: Vec<u64> = sectors.map(|(at, _)| *at).collect();
        let sector = written[rng.below(written.len() as u64) as usize];
        image.flip(sector + rng.below(2000));
        let mut rig = Rig::start(image, seed, false);
        let first = flushed(&rig) + 1;
        for n in first..=200 {
            while rig.damaged.is_empty() && rig.shelf.is_stalled(RANGE) {
                assert!(rig.step());
            }
            if !rig.damaged.is_empty() {
                break;
            }
            apply(&mut rig, n, n, 6);
        }
        if rig.damaged.is_empty() {
            continue;
        }
        seen += 1;
        assert_eq!(rig.damaged[0].0, RANGE);
        let reported = rig.damaged.len();
        rig.with(|shelf, _, out| shelf.reset_table(RANGE, out));
        apply(&mut rig, 1, 200, 5);
        come_to_rest(&mut rig, 200);
        assert_eq!(rig.damaged.len(), reported, "{:?}", rig.damaged);
        assert_is(&mut rig, &model(200), &format!("seed {seed}"));
        let mut rig = Rig::start(rig.crash(), seed, false);
        assert_is(&mut rig, &model(200), &format!("seed {seed}, one life later"));
    }
    assert!(seen > 3, "{seen} merges met damage");
}

#[test]
fn a_reset_at_any_time_during_a_merge_gives_all_segments_back() {
    for steps in 0..60 {
        let mut rig = Rig::start(with_lag(0), steps, false);
        rig.settle();
        let free = rig.shelf.free_segments();
        apply(&mut rig, 1, 40, 2);
        for _ in 0..steps {
            rig.step();
        }
        rig.with(|shelf, _, out| shelf.reset_table(RANGE, out));
        rig.settle();
        assert_eq!(rig.shelf.free_segments(), free, "reset after {steps} steps");
        apply(&mut rig, 1, 50, 3);
        come_to_rest(&mut rig, 50);
        let mut rig = Rig::start(rig.crash(), steps, false);
        assert_is(&mut rig, &model(50), &format!("reset after {steps} steps"));
    }
}

#[test]
fn on_a_full_disk_deleted_rows_give_room_back() {
    let mut rig = Rig::start(with_lag(0), 1, false);
    let mut index = 0;
    let mut put = |rig: &mut Rig, key: u64, value: Option<Bytes>| {
        index += 1;
        while rig.shelf.is_stalled(RANGE) {
            assert!(rig.step(), "rows in hand can be written out: {}", rig.shelf.status());
        }
        let write = RowWrite { key: format!("{key:06}").into(), value };
        rig.shelf.write_rows(RANGE, LogIndex(index), &[write]);
        if rig.shelf.wants_freeze(RANGE) {
            rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(index), io));
        }
        rig.step();
        rig.step();
    };
    let mut keys = 0;
    loop {
        rig.settle();
        if rig.shelf.room() < Room::Data {
            break;
        }
        for _ in 0..50 {
            put(&mut rig, keys, Some(vec![keys as u8; 4000].into()));
            keys += 1;
        }
        assert!(keys < 20_000, "the disk gets full");
    }
    let bytes = keys * 4000;
    let area = GEOMETRY.capacity - (64 << 10);
    assert!(bytes > area / 4, "{bytes} bytes of values fill {area}");
    // Half of them go.
    for key in (0..keys).filter(|key| key % 2 == 0) {
        put(&mut rig, key, None);
    }
    rig.settle();
    assert_eq!(rig.shelf.room(), Room::Data, "{}", rig.shelf.status());
    for key in 0..keys {
        let name = format!("{key:06}");
        let found = rig.read(RANGE, |rows| rows.get(name.as_bytes())).unwrap();
        assert_eq!(found.is_some(), key % 2 == 1);
    }
}

#[test]
fn replay_refuses_a_merge_that_does_not_fit() {
    let mut rig = Rig::start(with_lag(0), 1, false);
    rig.checkpoints = false;
    apply(&mut rig, 1, 200, 6);
    rig.settle();
    let image = rig.crash();
    let merges: Vec<usize> = image
        .journal
        .iter()
        .enumerate()
        .filter(|(_, edit)| matches!(Edit::from_bytes(edit), Ok(Edit::RunsReplaced(_))))
        .map(|(at, _)| at)
        .collect();
    assert!(merges.len() >= 2, "{merges:?}");
    // The run that a merge takes was never added.
    let mut broken = image.clone();
    let added = broken
        .journal
        .iter()
        .position(|edit| matches!(Edit::from_bytes(edit), Ok(Edit::RunAdded(_))));
    broken.journal.remove(added.unwrap());
    let rig = Rig::start(broken, 2, false);
    assert!(rig.notes.iter().any(|note| note.contains("missing")), "{:?}", rig.notes);
    // A merge that was held back for a checkpoint while its table was reset, which the checkpoint knows.
    let mut overtaken = image.clone();
    let reset = Edit::TableReset { table: RANGE }.to_bytes();
    let held = overtaken.journal[merges[0]].clone();
    overtaken.journal.extend([reset.clone(), held, reset]);
    let rig = Rig::start(overtaken, 4, false);
    assert!(rig.notes.is_empty() && rig.damaged.is_empty(), "{:?}", rig.notes);
    assert_eq!(flushed(&rig), 0);
    // Twice the same merge.
    let mut broken = image;
    let again = broken.journal[merges[0]].clone();
    broken.journal.insert(merges[0] + 1, again);
    let rig = Rig::start(broken, 3, false);
    assert!(rig.notes.iter().any(|note| note.contains("missing")), "{:?}", rig.notes);
}
