//! Views and snapshots: what is given is what there was, and what is taken counts as a whole.

use core::ops::Bound;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ids::{LogIndex, Term};
use crate::rows::RowWrite;

use super::super::{Ingested, ViewError, ViewId, ViewRow};
use super::rig::{Image, RANGE, Rig};

/// The row that entry `n` writes: some are deletions, some values are long.
fn row(n: u64) -> RowWrite {
    let value = Bytes::from(vec![n as u8; 200 + (n as usize % 3) * 400]);
    RowWrite { key: format!("{:03}", n * 7 % 90).into(), value: (n % 7 != 3).then_some(value) }
}

/// A table with the rows of so many entries, in several runs.
fn filled(entries: u64) -> Rig {
    let mut rig = Rig::start(Image::default(), 1, false);
    write(&mut rig, 1, entries);
    rig
}

fn write(rig: &mut Rig, first: u64, last: u64) {
    for n in first..=last {
        rig.shelf.write_rows(RANGE, LogIndex(n), &[row(n)]);
        if n % 20 == 0 || n == last {
            rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(n), io));
            rig.settle();
        }
    }
}

fn rows_of(rig: &mut Rig, view: ViewId, newer_than: LogIndex) -> Result<Vec<ViewRow>, ()> {
    let (mut rows, mut from) = (Vec::new(), Bytes::new());
    loop {
        match rig.shelf.view_next(view, Bound::Included(&from), newer_than) {
            Ok(None) => return Ok(rows),
            Ok(Some(row)) => {
                from = [&row.key[..], &[0]].concat().into();
                if row.index > newer_than {
                    rows.push(row);
                }
            }
            Err(ViewError::Gone) => return Err(()),
            Err(ViewError::Miss(miss)) => {
                rig.with(|shelf, io, out| shelf.fetch(miss, true, io, out));
                while !rig.fetched.contains(&miss) {
                    assert!(rig.step(), "the fetch ends");
                }
                rig.fetched.clear();
                // The reader asks again before anything else happens, so that no pin is needed.
            }
        }
    }
}

/// The newest row of each key, as entries up to `last` leave it.
fn model(last: u64) -> BTreeMap<Bytes, (u64, Option<Bytes>)> {
    (1..=last).map(|n| (row(n).key, (n, row(n).value))).collect()
}

fn ingest(rig: &mut Rig, newer_than: u64, through: u64, rows: &[ViewRow]) {
    rig.with(|shelf, io, _| {
        let upto = (LogIndex(through), LogIndex(0));
        shelf.begin_ingest(RANGE, LogIndex(newer_than), upto, io);
    });
    for row in rows {
        loop {
            let (index, key, value) = (row.index, row.key.clone(), row.value.clone());
            match rig.with(|shelf, io, _| shelf.ingest_row(index, key, value, io)) {
                Ingested::Taken => break,
                Ingested::Busy => assert!(rig.step(), "the run is written"),
                Ingested::Full => panic!("there is room"),
            }
        }
    }
    rig.with(|shelf, io, out| shelf.finish_ingest(io, out));
}

fn install(rig: &mut Rig) {
    rig.settle();
    assert_eq!(rig.staged, 1);
    rig.with(|shelf, _, out| shelf.install(Term(3), Bytes::from_static(b"voters"), false, out));
    rig.settle();
    assert_eq!(rig.installed, 1);
}

fn assert_is_model(rig: &mut Rig, last: u64) {
    for (key, (index, value)) in model(last) {
        let found = rig.read(RANGE, |rows| rows.get(&key)).expect("nothing is damaged");
        let found = found.map(|row| (row.index.0, row.value));
        assert_eq!(found, value.map(|value| (index, value)), "{key:?}");
    }
}

#[test]
fn a_view_is_the_table_as_it_was_whatever_is_written_later() {
    let mut rig = filled(150);
    let (view, through, _) = rig.shelf.open_view(RANGE);
    assert_eq!(through, LogIndex(150));
    write(&mut rig, 151, 220);
    let rows = rows_of(&mut rig, view, LogIndex(0)).expect("the view is open");
    let given: BTreeMap<_, _> =
        rows.into_iter().map(|row| (row.key, (row.index.0, row.value))).collect();
    assert_eq!(given, model(150));
    let newer = rows_of(&mut rig, view, LogIndex(100)).expect("the view is open");
    let wanted = model(150).into_iter().filter(|(_, (index, _))| *index > 100).count();
    assert_eq!(newer.len(), wanted);
    rig.shelf.close_view(view);
    assert_eq!(rows_of(&mut rig, view, LogIndex(0)), Err(()));
}

#[test]
fn a_view_is_gone_with_its_table() {
    let mut rig = filled(60);
    let (view, ..) = rig.shelf.open_view(RANGE);
    let run = rig.shelf.open_view(RANGE).0;
    rig.shelf.close_view(run);
    rig.with(|shelf, _, out| shelf.reset_table(RANGE, out));
    assert_eq!(rows_of(&mut rig, view, LogIndex(0)), Err(()));
}

#[test]
fn a_snapshot_replaces_what_was_there_and_survives_restarts_and_lost_edits() {
    let mut giver = filled(150);
    let (view, ..) = giver.shelf.open_view(RANGE);
    let rows = rows_of(&mut giver, view, LogIndex(0)).expect("the view is open");
    let mut taker = Rig::start(Image::default(), 5, false);
    // Something else was there, which no row of the snapshot hides.
    let stray = RowWrite { key: "stray".into(), value: Some("x".into()) };
    taker.shelf.write_rows(RANGE, LogIndex(1), &[stray]);
    taker.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(1), io));
    taker.settle();
    let free = taker.shelf.free_segments();
    ingest(&mut taker, 0, 150, &rows);
    install(&mut taker);
    assert!(taker.shelf.free_segments() < free);
    assert_is_model(&mut taker, 150);
    let image = taker.crash();
    for gap in [false, true] {
        let mut again = Rig::start(image.clone(), 6, gap);
        assert_eq!(again.flushed[&RANGE], LogIndex(150));
        assert_is_model(&mut again, 150);
        assert_eq!(again.read(RANGE, |rows| rows.get(b"stray")), Some(None));
        // The table goes on.
        write(&mut again, 151, 200);
        assert_is_model(&mut again, 200);
    }
}

#[test]
fn a_snapshot_is_installed_at_any_time_during_a_merge_of_what_was_there() {
    let mut giver = filled(10);
    let (view, ..) = giver.shelf.open_view(RANGE);
    let rows = rows_of(&mut giver, view, LogIndex(0)).expect("the view is open");
    let mut empty = Rig::start(Image::default(), 1, false);
    ingest(&mut empty, 0, 500, &rows);
    install(&mut empty);
    let mut merging = 0;
    for steps in 0..80 {
        let mut taker = Rig::start(Image::default(), steps, false);
        for n in 1..=400 {
            taker.shelf.write_rows(RANGE, LogIndex(n), &[row(n)]);
            if n % 20 == 0 {
                taker.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(n), io));
                while taker.shelf.is_flushing(RANGE) {
                    taker.step();
                }
            }
        }
        for _ in 0..steps {
            taker.step();
        }
        ingest(&mut taker, 0, 500, &rows);
        while taker.staged == 0 {
            assert!(taker.step(), "it is staged");
        }
        merging += u64::from(taker.shelf.compaction.is_merging());
        taker.with(|shelf, _, out| {
            shelf.install(Term(3), Bytes::from_static(b"voters"), false, out)
        });
        taker.settle();
        assert_eq!(taker.installed, 1);
        assert_is_model(&mut taker, 10);
        assert_eq!(taker.shelf.free_segments(), empty.shelf.free_segments(), "{steps}");
    }
    assert!(merging > 20, "{merging}");
}

#[test]
fn newer_rows_go_over_what_was_there() {
    let mut giver = filled(150);
    let (view, ..) = giver.shelf.open_view(RANGE);
    let rows = rows_of(&mut giver, view, LogIndex(100)).expect("the view is open");
    let mut taker = filled(100);
    ingest(&mut taker, 100, 150, &rows);
    install(&mut taker);
    assert_is_model(&mut taker, 150);
    for gap in [false, true] {
        let mut again = Rig::start(taker.crash(), 6, gap);
        assert_is_model(&mut again, 150);
        taker = again;
    }
}

#[test]
fn a_snapshot_that_is_given_up_leaves_nothing_taken() {
    let mut giver = filled(150);
    let (view, ..) = giver.shelf.open_view(RANGE);
    let rows = rows_of(&mut giver, view, LogIndex(0)).expect("the view is open");
    let mut taker = filled(40);
    let free = taker.shelf.free_segments();
    ingest(&mut taker, 0, 150, &rows);
    taker.step();
    taker.with(|shelf, io, _| shelf.abort_ingest(io));
    taker.settle();
    assert_eq!(taker.shelf.free_segments(), free);
    assert_is_model(&mut taker, 40);
}

/// A crash at every completion while a snapshot comes in; and then the journal's edits are lost too,
/// so that the disk is known by headers alone. Parts of a snapshot must not pass for a table.
#[test]
fn a_crash_leaves_the_old_table_or_the_whole_snapshot() {
    let mut giver = filled(150);
    let (view, ..) = giver.shelf.open_view(RANGE);
    let rows = rows_of(&mut giver, view, LogIndex(0)).expect("the view is open");
    let (mut old, mut new) = (0, 0);
    for crash in (0..).step_by(3) {
        let mut taker = filled(40);
        taker.completions = 0;
        ingest(&mut taker, 0, 150, &rows);
        let mut asked = false;
        while taker.completions < crash {
            if taker.staged == 1 && !asked {
                asked = true;
                taker.with(|shelf, _, out| shelf.install(Term(3), Bytes::new(), false, out));
            }
            if !taker.step() {
                break;
            }
        }
        let done = taker.installed == 1 && taker.ops.is_empty();
        let image = taker.crash();
        for gap in [false, true] {
            let mut again = Rig::start(image.clone(), crash, gap);
            match again.flushed.get(&RANGE) {
                Some(LogIndex(40)) => old += 1,
                Some(LogIndex(150)) => new += 1,
                // After a gap the newest run may be one whose table is torn: it says so.
                other => assert!(gap && !again.damaged.is_empty(), "{other:?}, crash {crash}"),
            }
            if let Some(LogIndex(last @ (40 | 150))) = again.flushed.get(&RANGE).copied() {
                assert_is_model(&mut again, last);
            }
        }
        if done {
            break;
        }
    }
    assert!(old > 3 && new > 1, "old {old}, new {new}");
}
