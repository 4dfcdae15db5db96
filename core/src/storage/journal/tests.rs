//! Crashes at every boundary, rot in every sector.

mod ring;
mod world;

use proptest::prelude::*;

use super::frame::{self, FrameHeader, Identity};
use super::{JournalError, Record};
use crate::codec::{DecodeError, Encoder};
use crate::disk::SECTOR;
use crate::hash::Checksum;
use crate::ids::{COUNTER_MAX, LogIndex, RangeId, StoreId, Term};
use crate::rng::Rng;
use crate::storage::layout::{JOURNAL_START, superblock_offset};
use crate::storage::superblock::SuperblockError;
use world::{CLUSTER, Life, RANGE, STORE, TestDisk, any_record, entry};

/// Runs a life with appends now and then until `completions_max`, or to its end.
fn live(mut life: Life, numbers: &mut u64, records: u64, completions_max: usize) -> Life {
    let mut left = records;
    while life.completions < completions_max {
        let has_room = life.found.is_none() || life.journal().free_bytes() > 100_000;
        if left > 0 && has_room && life.found.is_some() && life.rng.chance(1, 2) {
            for _ in 0..1 + life.rng.below(3) {
                *numbers += 1;
                let record = any_record(*numbers, &mut life.rng);
                life.append(record);
            }
            life.pump();
            left -= 1;
        }
        if !life.step() && (left == 0 || !has_room) {
            break;
        }
    }
    life
}

/// What a later life must find: all of `before`, what was acknowledged, and nothing unheard of.
fn check_recovered(before: &[Record], life: &Life, next: &Life, what: &str) {
    let all: Vec<&Record> = before.iter().chain(&life.appended).collect();
    let found: Vec<&Record> = next.delivered.records.iter().collect();
    assert!(found.len() <= all.len(), "{what}: more than was appended");
    assert_eq!(found, all[..found.len()], "{what}: order");
    let promised = before.len() + life.acknowledged;
    assert!(found.len() >= promised, "{what}: {} of {promised} found", found.len());
    assert_eq!(next.damage, None, "{what}: a crash is not damage");
    assert!(next.delivered.after_gap.is_empty(), "{what}");
}

#[test]
fn crash_at_every_completion_keeps_what_was_acknowledged() {
    let whole = live(Life::begin(TestDisk::default(), 1), &mut 0, 12, usize::MAX).completions;
    for crash_at in 0..=whole {
        for seed in 0..12 {
            let what = format!("crash_at={crash_at} seed={seed}");
            let first = live(Life::begin(TestDisk::default(), 1), &mut 0, 12, crash_at);
            let mut disk = first.disk.clone();
            disk.crash(&mut Rng::new(seed));
            let second = Life::begin_and_recover(disk.clone(), seed);
            check_recovered(&[], &first, &second, &what);

            // Nothing was written since: the same again, from the same and from the synced disk.
            let third = Life::begin_and_recover(second.disk.clone(), seed + 1);
            assert_eq!(third.delivered, second.delivered, "{what}");
            assert_eq!(third.found, second.found, "{what}");
        }
    }
}

#[test]
fn crashes_of_many_lives_keep_what_was_acknowledged() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut disk = TestDisk::default();
        let mut numbers = 0;
        let mut history: Vec<Record> = Vec::new();
        for life_number in 0..8 {
            let what = format!("seed={seed} life={life_number}");
            let crash_at = usize::try_from(rng.below(70)).unwrap();
            let life = Life::begin(disk.clone(), rng.next_u64());
            let life = live(life, &mut numbers, 6, crash_at);
            if life.found.is_some() {
                let found = &life.delivered.records;
                assert_eq!(found[..], history[..], "{what}: changed without a write");
            }
            disk = life.disk.clone();
            // Either the power goes, or the process alone, and all that it wrote is in the page
            // cache: then what the next life finds there must not be lost any more.
            let power_cut = rng.chance(2, 3);
            if power_cut {
                disk.crash(&mut rng);
            }
            let look = Life::begin_and_recover(disk.clone(), rng.next_u64());
            check_recovered(&history, &life, &look, &what);
            history = look.delivered.records;
            if !power_cut {
                disk = look.disk;
                disk.crash(&mut rng);
            }
        }
    }
}

/// A disk on which two bursts and a restart between them have come to rest.
fn disk_at_rest() -> (TestDisk, Vec<Record>, u64) {
    let mut numbers = 0;
    let mut first = Life::begin_and_recover(TestDisk::default(), 5);
    first.run_until_idle();
    let mut first = live(first, &mut numbers, 6, usize::MAX);
    first.run_until_idle();
    let second = Life::begin_and_recover(first.disk.clone(), 6);
    let mut second = live(second, &mut numbers, 4, usize::MAX);
    second.run_until_idle();
    let synced = second.journal().synced_position();
    let mut records = first.appended;
    records.extend(second.appended);
    assert_eq!(second.delivered.records.len() + second.acknowledged, records.len());
    (second.disk, records, synced)
}

#[test]
fn rot_in_any_synced_sector_is_damage() {
    let (disk, records, synced) = disk_at_rest();
    for sector in 0..synced / SECTOR {
        let on_disk = JOURNAL_START / SECTOR + sector;
        for bit in [0, 8 * 100 + 3, 8 * 4095 + 7] {
            let mut rotten = disk.clone();
            rotten.flip(on_disk, bit);
            let found = Life::begin_and_recover(rotten, 9);
            if sector == synced / SECTOR - 1 {
                // The closing mark: the superblock may or may not know that it was there.
                assert_eq!(found.delivered.records, records);
                continue;
            }
            let damage = found.damage.expect("rot below the mark is never cut in silence");
            assert!(damage.position <= sector * SECTOR);
            assert!(damage.synced > sector * SECTOR);
            let kept = &found.delivered.records;
            assert_eq!(kept[..], records[..kept.len()]);
            // Only the rotten frame is missing from the two parts.
            let behind = &found.delivered.after_gap;
            assert_eq!(behind[..], records[records.len() - behind.len()..]);
        }
    }
}

#[test]
fn unreadable_sector_is_damage_of_its_frame_alone() {
    let (mut disk, records, synced) = disk_at_rest();
    disk.unreadable.push(JOURNAL_START / SECTOR + synced / SECTOR / 2);
    let found = Life::begin_and_recover(disk, 9);
    assert!(found.damage.is_some());
    let (kept, behind) = (&found.delivered.records, &found.delivered.after_gap);
    assert!(!kept.is_empty() && !behind.is_empty());
    assert_eq!(kept[..], records[..kept.len()]);
    assert_eq!(behind[..], records[records.len() - behind.len()..]);
}

/// A crash between its sync and the closing mark's leaves nothing that says it was synced. What is torn is cut in
/// silence; what cannot be read is not.
#[test]
fn a_last_frame_that_cannot_be_read_is_damage_also_without_a_closing_mark() {
    let (disk, records, synced) = disk_at_rest();
    let mark = JOURNAL_START / SECTOR + synced / SECTOR - 1;
    for (sector, damaged) in [(mark, true), (mark + 1, true), (mark + 2, false)] {
        let mut disk = disk.clone();
        disk.unreadable.push(sector);
        let found = Life::begin_and_recover(disk, 9);
        assert_eq!(found.damage.is_some(), damaged, "sector {sector}");
        assert_eq!(found.delivered.records, records);
    }
}

#[test]
fn suspicion_outlives_crashes_of_the_life_that_found_damage() {
    let (disk, _, synced) = disk_at_rest();
    for sector in 0..synced / SECTOR - 1 {
        let mut rotten = disk.clone();
        rotten.flip(JOURNAL_START / SECTOR + sector, 77);
        for seed in 0..60 {
            let mut rng = Rng::new(seed);
            let mut disk = rotten.clone();
            for life_number in 0..3 {
                let what = format!("sector={sector} seed={seed} life={life_number}");
                let mut numbers = 1000 * (life_number + 1);
                let crash_at = usize::try_from(rng.below(45)).unwrap();
                let life =
                    live(Life::begin(disk.clone(), rng.next_u64()), &mut numbers, 3, crash_at);
                disk = life.disk.clone();
                disk.crash(&mut rng);
                let look = Life::begin_and_recover(disk.clone(), rng.next_u64());
                let suspect = |r: &Record| matches!(r, Record::Suspect { .. });
                let told = look.delivered.records.iter().any(suspect);
                assert!(told || look.damage.is_some(), "{what}: damage forgotten");
                if let (None, true) = (look.damage, life.acknowledged > 0) {
                    let first = life.appended[0].clone();
                    let at = look.delivered.records.iter().position(|r| *r == first);
                    let from = at.expect("acknowledged records are there");
                    let found = &look.delivered.records[from..];
                    assert_eq!(found[..life.acknowledged], life.appended[..life.acknowledged]);
                }
                assert!(!(told && life.damage.is_none() && look.damage.is_some()), "{what}");
            }
        }
    }
}

/// The first frame after damage may be torn just so that it covers all that proved the damage, and
/// leaves the rotten sector as it was. Only the superblock still knows.
#[test]
fn damage_whose_proof_was_overwritten_by_a_torn_frame_is_remembered() {
    let mut life = Life::begin_and_recover(TestDisk::default(), 1);
    for (index, len) in [(1, 14_000), (2, 10)] {
        life.append(entry(index, 1, vec![1; len]));
        life.pump();
        life.run_until_idle();
    }
    // A frame of four sectors (during which a piece was prepared, so that the superblock heard of
    // it), a closing mark; a frame of one sector, a closing mark.
    assert_eq!(life.journal().synced_position(), 7 * SECTOR);
    let (rotten, proof) = (JOURNAL_START / SECTOR + 5, JOURNAL_START / SECTOR + 6);
    let mut disk = life.disk.clone();
    disk.flip(rotten, 99);

    let mut life = Life::begin_and_recover(disk, 2);
    let damage = life.damage.unwrap();
    assert_eq!((damage.position, damage.synced), (5 * SECTOR, 6 * SECTOR));
    life.append(entry(2, 2, vec![5; 20_000]));
    life.pump();
    while life.journal().incarnation().1.is_none() {
        assert!(life.disk.writing().iter().all(|offset| *offset < JOURNAL_START));
        life.step();
    }
    let mut disk = life.disk.clone();
    disk.lose_all_unsynced();
    life.run_until_idle();
    disk.durable.insert(proof, life.disk.durable[&proof].clone());
    let found = Life::begin_and_recover(disk, 3);
    assert_eq!(found.damage, Some(damage));
    assert_eq!(found.delivered.records, [entry(1, 1, vec![1; 14_000])]);
}

#[test]
fn worse_superblock_copies_are_written_first() {
    let (disk, _, _) = disk_at_rest();
    for worse in [[0, 3], [1, 2], [2, 3]] {
        let mut disk = disk.clone();
        for copy in worse {
            disk.flip(superblock_offset(copy) / SECTOR, 500);
        }
        let mut life = Life::begin_and_recover(disk, 1);
        life.pump();
        assert_eq!(life.disk.writing(), worse.map(superblock_offset));
    }
}

#[test]
fn flip_in_the_unsynced_tail_is_cut() {
    let mut life = Life::begin_and_recover(TestDisk::default(), 1);
    life.append(entry(1, 1, vec![1; 100]));
    life.run_until_idle();
    let (kept, tail) = (life.disk.clone(), life.journal().synced_position());
    life.append(entry(2, 1, vec![2; 9000]));
    life.pump();
    // The frame is written, its sync is not finished; every sector gets to the medium.
    while life.acknowledged < 2 {
        life.step();
    }
    let mut disk = kept;
    let frame = 0..frame::frame_len(9040) as u64 / SECTOR;
    let first = (JOURNAL_START + tail) / SECTOR;
    for sector in frame.clone() {
        disk.durable.insert(first + sector, life.disk.durable[&(first + sector)].clone());
    }
    assert_eq!(Life::begin_and_recover(disk.clone(), 2).delivered.records.len(), 2);
    for sector in frame {
        let mut torn = disk.clone();
        torn.flip(first + sector, 5000);
        let found = Life::begin_and_recover(torn, 2);
        assert_eq!((found.damage, found.found), (None, Some((tail, tail))));
        assert_eq!(found.delivered.records.len(), 1);
    }
}

#[test]
fn frame_brought_back_by_a_lost_write_is_void() {
    let mut life = Life::begin_and_recover(TestDisk::default(), 1);
    life.append(entry(1, 1, "one"));
    life.run_until_idle();
    let cut = life.journal().synced_position();
    let before = life.disk.clone();
    life.append(entry(2, 1, "never acknowledged"));
    life.pump();
    life.run_until_idle();
    let at = (JOURNAL_START + cut) / SECTOR;
    let stale = life.disk.durable[&at].clone();

    // The frame was torn; the next life cuts it and goes on in its place...
    let mut life = Life::begin_and_recover(before, 2);
    for text in ["two", "three"] {
        life.append(entry(2, 2, text));
        life.pump();
        life.run_until_idle();
    }
    // ...but the disk gives the old frame for the new life's first.
    let mut disk = life.disk.clone();
    disk.durable.insert(at, stale);
    let found = Life::begin_and_recover(disk, 3);
    assert_eq!(found.delivered.records, [entry(1, 1, "one")]);
    assert_eq!(found.delivered.restarts, 1);
    assert_eq!(found.damage.map(|damage| damage.position), Some(cut));
    assert_eq!(found.delivered.after_gap, [entry(2, 2, "three")]);
}

#[test]
fn entries_are_read_back_and_damage_is_named() {
    let mut life = Life::begin_and_recover(TestDisk::default(), 1);
    for index in 1..=20 {
        life.append(entry(index, 1, vec![7; 3000]));
        life.pump();
        life.step();
    }
    assert!(!life.read(21, 10_000));
    life.append(entry(18, 2, "replaces"));
    assert!(!life.read(18, 10_000), "what is replaced is not read any more");
    life.pump();
    life.run_until_idle();
    for mut life in [Life::begin_and_recover(life.disk.clone(), 8), life] {
        life.run_until_idle();
        life.reads.clear();
        assert!(life.read(2, 10_000));
        assert!(life.read(18, 0));
        assert!(!life.read(19, 10_000));
        life.run_until_idle();
        life.reads.sort_by_key(|read| read.from);
        let entries = life.reads[0].entries.as_ref().unwrap();
        assert_eq!(entries.iter().map(|e| e.index.0).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(entries.iter().all(|e| e.payload[..] == [7; 3000]));
        let replaced = life.reads[1].entries.as_ref().unwrap();
        assert_eq!((replaced.len(), replaced[0].term), (1, Term(2)));

        let place = life.journal().location(RANGE, LogIndex(3)).unwrap();
        let sector = (JOURNAL_START + place.end() - 1) / SECTOR;
        life.disk.flip(sector, usize::try_from((place.end() - 1) % SECTOR).unwrap() * 8);
        assert!(life.read(3, 0));
        life.run_until_idle();
        let damage = life.reads.pop().unwrap().entries.unwrap_err();
        assert_eq!((damage.index, damage.position), (LogIndex(3), place.position));
        assert!(damage.to_string().contains("entry i3 of range-1 is damaged: record: checksum"));
    }
}

/// The table of places was cut when a record was appended, and filled when records were placed: what
/// was appended in between, and replaced while it still waited, made it begin anew. A leader then
/// halted because the first entry of its own log was "not in the journal".
#[test]
fn entries_replaced_while_they_wait_do_not_hide_those_before() {
    let mut life = Life::begin_and_recover(TestDisk::default(), 1);
    for index in 1..=4 {
        life.append(entry(index, 1, "first"));
    }
    life.pump();
    life.run_until_idle();
    life.append(entry(5, 1, "replaced"));
    life.append(entry(6, 1, "replaced"));
    life.append(entry(4, 2, "second"));
    life.pump();
    life.run_until_idle();
    assert!(life.read(1, 10_000));
    assert!(!life.read(5, 10_000), "what is replaced is gone");
    life.run_until_idle();
    let read = life.reads.pop().unwrap().entries.unwrap();
    let found: Vec<_> = read.iter().map(|entry| (entry.index.0, entry.term.0)).collect();
    assert_eq!(found, [(1, 1), (2, 1), (3, 1), (4, 2)]);
}

#[test]
fn full_journal_says_so_and_keeps_what_it_has() {
    let mut life = Life::begin_and_recover(TestDisk::default(), 1);
    let mut index = 0;
    while life.journal().free_bytes() > 40_000 {
        index += 1;
        life.append(entry(index, 1, vec![1; 30_000]));
        life.pump();
        life.run_until_idle();
    }
    life.append(entry(index + 1, 1, vec![1; 60_000]));
    assert_eq!(life.journal().free_bytes(), 0);
    let (mut queue, mut fx) = Default::default();
    let mut io = crate::storage::io::Io { queue: &mut queue, fx: &mut fx };
    let error = life.journal().pump(&mut io).unwrap_err();
    // With what is left before the end of the ring.
    assert!(matches!(error, JournalError::Full { needed: 61_441.., .. }), "{error}");
    let found = Life::begin_and_recover(life.disk.clone(), 2);
    assert_eq!(found.delivered.records.len() as u64, index);
}

#[test]
fn idle_journal_ends_with_one_closing_mark() {
    let mut life = Life::begin_and_recover(TestDisk::default(), 1);
    life.run_until_idle();
    assert_eq!(life.journal().synced_position(), 0, "a life that wrote nothing needs no mark");
    life.append(entry(1, 1, "x"));
    life.pump();
    life.run_until_idle();
    assert_eq!(life.journal().synced_position(), 2 * SECTOR);
    life.pump();
    assert!(life.disk.is_idle());
}

#[test]
fn frame_longer_than_a_piece_waits_for_several() {
    let mut life = Life::begin_and_recover(TestDisk::default(), 1);
    let record = entry(1, 1, vec![9; 150_000]);
    life.append(record.clone());
    life.pump();
    life.run_until_idle();
    assert_eq!(life.acknowledged, 1);
    assert_eq!(Life::begin_and_recover(life.disk, 2).delivered.records, [record]);
}

#[test]
fn flip_in_any_superblock_copy_is_survived_and_mended() {
    let (disk, records, _) = disk_at_rest();
    for copy in 0..4 {
        let sector = superblock_offset(copy) / SECTOR;
        for byte in (0..200).chain([4095]) {
            let mut rotten = disk.clone();
            rotten.flip(sector, byte * 8 + byte % 8);
            let mut found = Life::begin_and_recover(rotten, 9);
            assert_eq!((found.damage, &found.delivered.records), (None, &records));
            if byte == 0 {
                found.run_until_idle();
                let copies = (0..4)
                    .map(|copy| found.disk.durable[&(superblock_offset(copy) / SECTOR)].clone());
                let mended: Vec<_> = copies
                    .enumerate()
                    .map(|(copy, bytes)| super::super::superblock::Superblock::decode(copy, &bytes))
                    .collect();
                assert!(mended.iter().all(|copy| copy.is_ok() && *copy == mended[0]));
            }
        }
    }
}

#[test]
fn start_is_refused_when_no_superblock_copy_is_whole() {
    let (mut disk, _, _) = disk_at_rest();
    for copy in 0..4 {
        disk.flip(superblock_offset(copy) / SECTOR, 999);
    }
    let mut life = Life::begin(disk.clone(), 1);
    life.run_until_idle();
    assert_eq!(life.refused(), Some(&SuperblockError::Damaged));
    // Wiped copies before a journal are not an empty disk either.
    for copy in 0..4 {
        disk.durable.remove(&(superblock_offset(copy) / SECTOR));
    }
    let mut life = Life::begin(disk, 1);
    life.run_until_idle();
    assert_eq!(life.refused(), Some(&SuperblockError::Damaged));
}

const IDENTITY: Identity = Identity { cluster: CLUSTER, store: STORE };

fn header(position: u64) -> FrameHeader {
    FrameHeader {
        position,
        len: 0,
        records: 0,
        previous: Checksum(5),
        recovery: 2,
        recovery_start: 0,
        synced: position,
        checksum: Checksum(0),
    }
}

#[test]
fn frame_of_another_place_or_owner_does_not_verify() {
    let encoded = frame::encode(IDENTITY, header(8192), &[entry(1, 1, "x")]);
    let bytes = encoded.parts.concat();
    assert_eq!(FrameHeader::decode(IDENTITY, 8192, &bytes), Ok(encoded.header));
    assert!(FrameHeader::decode(IDENTITY, 4096, &bytes).is_err());
    let other = Identity { store: StoreId(4), ..IDENTITY };
    assert!(FrameHeader::decode(other, 8192, &bytes).is_err());
    let other = Identity { cluster: crate::ids::ClusterId(8), ..IDENTITY };
    assert_eq!(
        FrameHeader::decode(other, 8192, &bytes),
        Err(DecodeError::Checksum { what: "frame" })
    );
}

#[test]
fn payloads_are_not_copied_into_the_frame() {
    let payload = bytes::Bytes::from(vec![1; 5000]);
    let encoded = frame::encode(IDENTITY, header(0), &[entry(1, 1, payload.clone())]);
    assert!(encoded.parts.iter().any(|part| part.as_ptr() == payload.as_ptr()));
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let record =
        (0..=COUNTER_MAX, 0..=COUNTER_MAX, 0..6_u8, proptest::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(a, b, kind, payload)| match kind {
                0 => Record::HardState { range: RangeId(a), term: Term(b), vote: Some(StoreId(a)) },
                1 => Record::HardState { range: RangeId(a), term: Term(b), vote: None },
                2 => Record::Suspect { range: RangeId(a), number: b },
                3 => Record::Trusted { range: RangeId(a) },
                4 => Record::Edit(payload.into()),
                _ => entry(a, b, payload),
            });
    proptest::collection::vec(record, 0..40)
}

proptest! {
    #[test]
    fn frames_come_back_as_written_and_no_mutation_passes(
        list in records(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..4),
    ) {
        let encoded = frame::encode(IDENTITY, header(4096), &list);
        let bytes = bytes::Bytes::from(encoded.parts.concat());
        let found = FrameHeader::decode(IDENTITY, 4096, &bytes).unwrap();
        let (back, places): (Vec<_>, Vec<_>) =
            found.records(STORE, &bytes).unwrap().into_iter().unzip();
        prop_assert_eq!(&back, &list);
        prop_assert_eq!(&places, &encoded.locations);
        for (record, place) in list.iter().zip(places) {
            let at = usize::try_from(place.position - 4096).unwrap();
            prop_assert_eq!(&Record::decode(STORE, place.position, &bytes.slice(at..)).unwrap(), record);
        }
        let mut mutated = bytes.to_vec();
        for (at, bit) in flips {
            mutated[at.index(bytes.len())] ^= 1 << bit;
        }
        if mutated != bytes {
            prop_assert!(FrameHeader::decode(IDENTITY, 4096, &mutated).is_err());
            // Even if it were taken for whole, its records must not panic.
            let _ = found.records(STORE, &mutated.into());
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_record(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Record::decode(STORE, 0, &bytes.into()).is_err());
    }
}

#[test]
fn record_with_nonzero_reserved_bytes_is_refused() {
    let mut out = Encoder::new();
    Record::Trusted { range: RANGE }.encode_header(STORE, 0, &mut out);
    let whole = out.finish();
    assert!(Record::decode(STORE, 0, &whole).is_ok());
    for at in 0..whole.len() {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        assert!(Record::decode(STORE, 0, &bytes.into()).is_err(), "byte {at}");
    }
}
