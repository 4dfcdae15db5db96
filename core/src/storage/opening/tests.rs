//! Logs that are put together from what is left of a journal.

use super::super::segment::edit::{Edit, Part, RunDescriptor};
use super::super::segment::layout::{Generation, SegmentId};
use super::*;
use crate::cluster::{Geometry, StoreLimits};
use crate::ids::StoreId;
use crate::storage::layout;

const RANGE: RangeId = RangeId(7);
const AT: Location = Location { position: 0, len: 0 };

fn gathered() -> Gathered {
    gathered_from(0)
}

/// Of a journal that begins at a position.
fn gathered_from(tail: u64) -> Gathered {
    let geometry = Geometry::SIMULATION;
    let config = ShelfConfig {
        store: StoreId(1),
        incarnation: Incarnation(1),
        geometry,
        area: layout::segments_start(&geometry),
        memtable_bytes: StoreLimits::SIMULATION.memtable_bytes,
        block_cache_bytes: StoreLimits::SIMULATION.block_cache_bytes,
        chunk_bytes_max: StoreLimits::SIMULATION.chunk_bytes_max,
        tombstone_lag: StoreLimits::SIMULATION.tombstone_lag,
        offline: false,
    };
    Gathered::new(config, false, tail)
}

fn entry(index: u64, term: u64) -> Record {
    let (index, term) = (LogIndex(index), Term(term));
    let entry = Entry { index, term, kind: EntryKind::Command, payload: Bytes::new() };
    Record::Entry { range: RANGE, entry }
}

/// A state after entry 9, of term 2.
fn installation() -> Record {
    Record::Edit(Edit::TableInstalled(state(false)).to_bytes())
}

fn state(replaces_log: bool) -> Installation {
    let (table, index) = (TableId::Range(RANGE), LogIndex(9));
    let run = RunDescriptor {
        run: Generation(1),
        table,
        after: LogIndex(0),
        through: index,
        bare: LogIndex(0),
        part: Part::whole(Generation(1)),
        rows: 1,
        tombstones: 0,
        data_blocks: 1,
        index_blocks: 1,
        filter_blocks: 0,
        segments: vec![SegmentId(0)],
        values: Vec::new(),
    };
    let membership = Membership::of(vec![StoreId(1), StoreId(2), StoreId(3)]).to_bytes();
    let (newer_than, runs, term) = (LogIndex(0), vec![run], Term(2));
    Installation { table, newer_than, runs, index, term, membership, replaces_log }
}

/// Its record is written over, so that the next life could not know.
#[test]
fn a_state_behind_damage_does_not_say_where_the_log_begins() {
    for (after_gap, base, last) in [(false, 9, 10), (true, 0, 3)] {
        let mut gathered = gathered();
        for index in 1..=3 {
            gathered.record(entry(index, 1), AT, false);
        }
        gathered.record(installation(), AT, after_gap);
        gathered.record(entry(10, 2), AT, after_gap);
        let range = &gathered.ranges[&RANGE];
        assert_eq!((range.base_index, range.last_index), (LogIndex(base), LogIndex(last)));
        assert_eq!(gathered.unreadable, None);
    }
}

#[test]
fn a_log_that_is_first_heard_of_on_a_distrusted_disk_is_suspect() {
    let mut gathered = gathered();
    gathered.record(Record::Suspect { range: NO_RANGE, number: 4 }, AT, false);
    gathered.record(entry(1, 1), AT, false);
    assert_eq!(gathered.ranges[&RANGE].suspect, 4);
    gathered.record(Record::Trusted { range: RANGE }, AT, false);
    assert_eq!(gathered.ranges[&RANGE].suspect, 0);
}

#[test]
fn an_entry_that_does_not_continue_the_log_is_no_entry() {
    let mut gathered = gathered();
    gathered.record(entry(1, 1), AT, false);
    gathered.record(entry(3, 1), AT, false);
    let said = gathered.unreadable.expect("entry 2 is missing");
    assert!(said.contains("entry i3") && said.contains("i0..=i1"), "{said}");
}

/// Give entries of the given indexes, all of term 1.
fn entries(gathered: &mut Gathered, indexes: core::ops::RangeInclusive<u64>) {
    indexes.for_each(|index| gathered.record(entry(index, 1), AT, false));
}

fn log_start(index: u64, term: u64) -> Record {
    let membership = Membership::of(vec![StoreId(1), StoreId(2), StoreId(3)]).to_bytes();
    Record::LogStart { range: RANGE, index: LogIndex(index), term: Term(term), membership }
}

/// A whole checkpoint in which the log begins after this entry.
fn checkpoint(index: u64, term: u64) -> Vec<Record> {
    let edit = Edit::Checkpoint { chunk_segments: Vec::new(), rebuild: false };
    let trusted = Record::Trusted { range: RANGE };
    let state = Record::HardState { range: RANGE, term: Term(9), vote: None };
    let edit = Record::Edit(edit.to_bytes());
    vec![
        Record::Checkpoint { records: 4, needed: 4096 },
        log_start(index, term),
        state,
        trusted,
        edit,
    ]
}

fn log_of(gathered: &Gathered) -> (u64, u64, Vec<(u64, u64)>, u64) {
    let log = &gathered.ranges[&RANGE];
    let terms = log.terms.iter().map(|(first, term)| (first.0, term.0)).collect();
    (log.base_index.0, log.base_term.0, terms, log.last_index.0)
}

#[test]
fn entries_before_a_checkpoint_belong_to_the_log_that_it_begins() {
    let mut gathered = gathered_from(4096);
    // Two that were replaced, and are given up; then what is needed.
    entries(&mut gathered, 8..=9);
    entries(&mut gathered, 7..=12);
    for record in checkpoint(8, 1) {
        gathered.record(record, AT, false);
    }
    gathered.record(entry(13, 2), AT, false);
    gathered.complete(false);
    assert_eq!(gathered.void_logs(), []);
    assert_eq!(gathered.unreadable, None);
    assert_eq!(log_of(&gathered), (8, 1, vec![(9, 1), (13, 2)], 13));
    assert_eq!(gathered.ranges[&RANGE].hard_state.term, Term(9));
    assert_eq!(gathered.ranges[&RANGE].memberships.len(), 1);
}

/// The entry before the first that is left was given up with its term; the checkpoint has it.
#[test]
fn a_log_that_begins_where_the_journal_does_keeps_all_its_entries() {
    let mut gathered = gathered_from(4096);
    entries(&mut gathered, 7..=9);
    for record in checkpoint(6, 1) {
        gathered.record(record, AT, false);
    }
    assert_eq!(log_of(&gathered), (6, 1, vec![(7, 1)], 9));
}

#[test]
fn a_log_without_entries_begins_with_the_checkpoint() {
    let mut gathered = gathered_from(4096);
    for record in checkpoint(6, 1) {
        gathered.record(record, AT, false);
    }
    gathered.record(entry(7, 1), AT, false);
    assert_eq!(log_of(&gathered), (6, 1, vec![(7, 1)], 7));
}

#[test]
fn a_checkpoint_that_was_torn_counts_for_nothing() {
    let mut gathered = gathered();
    entries(&mut gathered, 1..=9);
    for record in checkpoint(6, 1).into_iter().take(4) {
        gathered.record(record, AT, false);
    }
    assert_eq!(log_of(&gathered), (0, 0, vec![(1, 1)], 9));
    gathered.life_begins();
    gathered.record(entry(10, 2), AT, false);
    assert_eq!(log_of(&gathered), (0, 0, vec![(1, 1), (10, 2)], 10));
}

#[test]
fn a_log_whose_checkpoint_is_damaged_is_void_in_this_life_and_in_the_next() {
    let mut gathered = gathered_from(4096);
    entries(&mut gathered, 7..=9);
    gathered.complete(true);
    gathered.distrust(Incarnation(5));
    assert_eq!(gathered.void_logs(), [RANGE]);
    assert_eq!((log_of(&gathered), gathered.ranges[&RANGE].suspect), ((0, 0, vec![], 0), 5));

    // The next one finds the same entries, and what this one wrote. A state of an entry among those
    // would bring the others back.
    let mut gathered = gathered_from(4096);
    entries(&mut gathered, 7..=9);
    gathered.record(distrust(Incarnation(5)), AT, false);
    let membership = Bytes::new();
    let (index, term) = (LogIndex(0), Term(0));
    gathered.record(Record::LogStart { range: RANGE, index, term, membership }, AT, false);
    gathered.complete(false);
    assert_eq!((gathered.void_logs(), &gathered.unreadable), (Vec::new(), &None));
    assert_eq!((log_of(&gathered), gathered.ranges[&RANGE].suspect), ((0, 0, vec![], 0), 5));
    assert!(gathered.edits_in_doubt, "nothing says what the shelf holds");
    gathered.record(entry(1, 1), AT, false);
    assert_eq!(log_of(&gathered), (0, 0, vec![(1, 1)], 1));
}

#[test]
fn a_journal_without_checkpoint_is_refused_unless_it_is_damaged() {
    let mut gathered = gathered_from(4096);
    entries(&mut gathered, 7..=9);
    gathered.complete(false);
    let said = gathered.unreadable.expect("where the log begins is not known");
    assert!(said.contains("position 4096"), "{said}");
}

/// The rows alone are new: the log behind the tail is further than the state.
#[test]
fn a_state_before_the_first_entry_that_is_left_does_not_touch_the_log() {
    let mut gathered = gathered_from(4096);
    entries(&mut gathered, 15..=20);
    gathered.record(installation(), AT, false);
    entries(&mut gathered, 21..=22);
    for record in checkpoint(14, 1) {
        gathered.record(record, AT, false);
    }
    assert_eq!((log_of(&gathered), gathered.unreadable), ((14, 1, vec![(15, 1)], 22), None));
}

#[test]
fn a_state_of_the_same_log_keeps_it() {
    for first in [9, 10] {
        let mut gathered = gathered_from(4096);
        (first..=20).for_each(|index| gathered.record(entry(index, 2), AT, false));
        gathered.record(installation(), AT, false);
        (21..=22).for_each(|index| gathered.record(entry(index, 2), AT, false));
        for record in checkpoint(9, 2) {
            gathered.record(record, AT, false);
        }
        assert_eq!((log_of(&gathered), gathered.unreadable), ((9, 2, vec![(10, 2)], 22), None));
    }
}

/// The last of its entries must not be taken for the one that the state is of.
#[test]
fn a_state_of_another_log_replaces_what_is_left() {
    for last in [5, 9, 20] {
        let mut gathered = gathered_from(4096);
        entries(&mut gathered, 5..=last);
        gathered.record(installation(), AT, false);
        gathered.record(entry(10, 3), AT, false);
        for record in checkpoint(9, 2) {
            gathered.record(record, AT, false);
        }
        assert_eq!((log_of(&gathered), gathered.unreadable), ((9, 2, vec![(10, 3)], 10), None));
    }
}

/// The first of its entries may be the very one behind the state, all before being given up.
#[test]
fn of_a_log_that_a_state_took_the_place_of_nothing_is_left() {
    for (first, term) in [(5, 1), (9, 2), (10, 1), (10, 3)] {
        for more in [false, true] {
            let mut gathered = gathered_from(4096);
            (first..=12).for_each(|index| gathered.record(entry(index, term), AT, false));
            let replaced = Edit::TableInstalled(state(true)).to_bytes();
            gathered.record(Record::Edit(replaced), AT, false);
            if more {
                gathered.record(entry(10, 4), AT, false);
            }
            for record in checkpoint(9, 2) {
                gathered.record(record, AT, false);
            }
            let log = if more { (9, 2, vec![(10, 4)], 10) } else { (9, 2, vec![], 9) };
            assert_eq!((log_of(&gathered), gathered.unreadable), (log, None), "{first} {term}");
        }
    }
}

/// The tail was moved by the second one: what the first one needs is given up, and entries between the
/// two logs' starts are nowhere.
#[test]
fn an_older_checkpoint_behind_the_tail_is_passed_over() {
    for before in [None, Some(105)] {
        let mut gathered = gathered_from(8192);
        before.into_iter().for_each(|index| gathered.record(entry(index, 1), AT, false));
        for record in checkpoint(60, 1) {
            gathered.record(record, AT, false);
        }
        let next = before.map_or(105, |index| index + 1);
        entries(&mut gathered, next..=120);
        for mut record in checkpoint(104, 1) {
            if let Record::Checkpoint { needed, .. } = &mut record {
                *needed = 8192;
            }
            gathered.record(record, AT, false);
        }
        gathered.complete(false);
        assert_eq!(gathered.unreadable, None);
        assert_eq!(log_of(&gathered), (104, 1, vec![(105, 1)], 120));
    }
}

/// A replica that begins after the checkpoint has no log start there.
#[test]
fn a_log_that_is_first_heard_of_behind_a_checkpoint_begins_at_one() {
    let mut gathered = gathered_from(4096);
    gathered.record(Record::Checkpoint { records: 1, needed: 4096 }, AT, false);
    let edit = Edit::Checkpoint { chunk_segments: Vec::new(), rebuild: false };
    gathered.record(Record::Edit(edit.to_bytes()), AT, false);
    let vote = Record::HardState { range: RANGE, term: Term(3), vote: None };
    gathered.record(vote, AT, false);
    gathered.complete(false);
    assert_eq!((gathered.void_logs(), &gathered.unreadable), (Vec::new(), &None));
    gathered.record(entry(2, 3), AT, false);
    assert!(gathered.unreadable.is_some(), "entry 1 is missing");
}

/// Nothing was left of the log, not even that there was one; then a state was taken over and trusted, and
/// no checkpoint came any more. Found by the simulator (0x13b).
#[test]
fn a_state_that_was_taken_over_after_all_was_lost_begins_the_log() {
    let mut gathered = gathered_from(4096);
    gathered.record(distrust(Incarnation(5)), AT, false);
    gathered.record(installation(), AT, false);
    gathered.record(Record::Trusted { range: RANGE }, AT, false);
    gathered.record(entry(10, 2), AT, false);
    gathered.complete(false);
    assert_eq!((gathered.void_logs(), &gathered.unreadable), (Vec::new(), &None));
    assert_eq!(log_of(&gathered), (9, 2, vec![(10, 2)], 10));
    assert_eq!(gathered.ranges[&RANGE].memberships.len(), 1);
}

fn again(index: u64, term: u64) -> Record {
    let Record::Entry { range, entry } = entry(index, term) else { unreachable!() };
    Record::EntryAgain { range, entry }
}

#[test]
fn an_entry_that_is_written_again_replaces_nothing() {
    let mut gathered = gathered();
    entries(&mut gathered, 1..=4);
    gathered.record(entry(5, 2), AT, false);
    // A crash took the rest of the bundle.
    for (index, term) in [(3, 1), (4, 1)] {
        gathered.record(again(index, term), AT, false);
    }
    assert_eq!(log_of(&gathered), (0, 0, vec![(1, 1), (5, 2)], 5));
    gathered.record(again(4, 2), AT, false);
    let said = gathered.unreadable.expect("entry 4 is of term 1");
    assert!(said.contains("another"), "{said}");
}

#[test]
fn an_entry_that_is_written_again_behind_a_state_that_has_it_says_nothing() {
    let mut gathered = gathered();
    entries(&mut gathered, 1..=3);
    gathered.record(installation(), AT, false);
    gathered.record(again(3, 1), AT, false);
    gathered.record(entry(10, 2), AT, false);
    assert_eq!(log_of(&gathered), (9, 2, vec![(10, 2)], 10));
    assert_eq!(gathered.unreadable, None);
}

#[test]
fn entries_that_were_written_again_are_the_log_once_their_first_places_are_given_up() {
    for old in [None, Some(9..=12), Some(11..=12)] {
        let mut gathered = gathered_from(4096);
        if let Some(old) = old {
            entries(&mut gathered, old);
        }
        (9..=12).for_each(|index| gathered.record(again(index, 1), AT, false));
        gathered.record(entry(13, 2), AT, false);
        for record in checkpoint(8, 1) {
            gathered.record(record, AT, false);
        }
        gathered.complete(false);
        assert_eq!(gathered.void_logs(), []);
        assert_eq!(gathered.unreadable, None);
        assert_eq!(log_of(&gathered), (8, 1, vec![(9, 1), (13, 2)], 13));
    }
}

// The crash took the rest of the bundle; in the next life the log was given up to behind its first entry that still
// stood in its first place, and the journal's tail went there. Seeds 0x9001e9 and 0x9005b8 halted here.
#[test]
fn entries_that_were_written_again_in_part_say_nothing_of_a_log_given_up_beyond_them() {
    for written in [3..=3, 3..=4, 3..=11] {
        let mut gathered = gathered_from(4096);
        entries(&mut gathered, 9..=12);
        written.for_each(|index| gathered.record(again(index, 1), AT, false));
        for record in checkpoint(8, 1) {
            gathered.record(record, AT, false);
        }
        gathered.record(entry(13, 2), AT, false);
        gathered.complete(false);
        assert_eq!((gathered.void_logs(), &gathered.unreadable), (Vec::new(), &None));
        assert_eq!(log_of(&gathered), (8, 1, vec![(9, 1), (13, 2)], 13));
    }
}

// A replica whose table was lost took a state of entry 9, and kept its log up to 12. Then the journal's tail went
// between the two. Seed 0x1ce halted here.
#[test]
fn a_state_that_a_longer_log_was_given_up_before_does_not_begin_it() {
    let mut gathered = gathered_from(4096);
    gathered.record(installation(), AT, false);
    gathered.record(entry(13, 2), AT, false);
    gathered.record(entry(14, 2), AT, false);
    for record in checkpoint(12, 2) {
        gathered.record(record, AT, false);
    }
    gathered.complete(false);
    assert_eq!(gathered.unreadable, None);
    assert_eq!(log_of(&gathered), (12, 2, vec![(13, 2)], 14));
}

// A table that was lost again and again, with a state that was put into place each time, and the tail between the log
// and all of these. Seed 0x6c5b122 halted here.
#[test]
fn nor_does_a_state_that_was_put_into_place_twice() {
    let mut gathered = gathered_from(4096);
    gathered.record(installation(), AT, false);
    let reset = Edit::TableReset { table: TableId::Range(RANGE) };
    gathered.record(Record::Edit(reset.to_bytes()), AT, false);
    gathered.record(installation(), AT, false);
    gathered.record(entry(13, 2), AT, false);
    for record in checkpoint(12, 2) {
        gathered.record(record, AT, false);
    }
    gathered.complete(false);
    assert_eq!(gathered.unreadable, None);
    assert_eq!(log_of(&gathered), (12, 2, vec![(13, 2)], 13));
}
