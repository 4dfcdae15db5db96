//! A crash at every completion of a scripted trace.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::ids::LogIndex;
use crate::message::ChunkError;
use crate::rng::Rng;
use crate::rows::RowWrite;

use super::rig::{Image, RANGE, Rig, chunk};

const ROUNDS: u64 = 12;

fn row(n: u64) -> RowWrite {
    let value = Bytes::from(vec![n as u8; 200 + (n as usize % 3) * 400]);
    RowWrite { key: format!("{:02}", n % 40).into(), value: (n % 7 != 3).then_some(value) }
}

/// Chunks and rows together, until so many completions have passed. Which chunks were acknowledged.
fn run(completions: u64, seed: u64) -> (Image, Vec<u64>, LogIndex, bool) {
    let mut rig = Rig::open(Image::default(), seed, false);
    let mut index = 0;
    let mut done = false;
    'script: {
        while !rig.ready {
            if rig.completions >= completions {
                break 'script;
            }
            rig.step();
        }
        for round in 0..ROUNDS {
            for n in 0..2 {
                rig.write_chunk(round * 2 + n, &chunk(round * 2 + n, 0, 20_000, round as u8));
            }
            for _ in 0..4 {
                index += 1;
                rig.shelf.write_rows(RANGE, LogIndex(index), &[row(index)]);
            }
            if round % 3 == 2 {
                rig.with(|shelf, io, _| shelf.freeze(RANGE, LogIndex(index), io));
            }
            for _ in 0..9 {
                if rig.completions >= completions {
                    break 'script;
                }
                rig.step();
            }
        }
        while rig.completions < completions {
            if !rig.step() {
                done = true;
                break;
            }
        }
    }
    let acknowledged = rig.stored.iter().filter(|(_, r)| r.is_ok()).map(|(op, _)| *op).collect();
    let flushed = rig.flushed.get(&RANGE).copied().unwrap_or_default();
    (rig.crash(), acknowledged, flushed, done)
}

#[test]
fn acknowledged_chunks_and_flushed_rows_survive_a_crash_at_every_completion() {
    let mut completions = 0;
    loop {
        let (image, acknowledged, flushed, done) = run(completions, 40 + completions % 5);
        let mut rig = Rig::start(image, completions, false);
        for op in acknowledged {
            let write = chunk(op, 0, 20_000, (op / 2) as u8);
            let read = rig.read_chunk(op, &write);
            assert_eq!(read, Ok(write.data), "chunk {op}, crash after {completions}");
        }
        let through = rig.flushed.get(&RANGE).copied().unwrap_or_default();
        assert!(through >= flushed, "crash after {completions}: {through} < {flushed}");
        let mut model = BTreeMap::new();
        for n in 1..=through.0 {
            model.insert(row(n).key, row(n).value);
        }
        for (key, value) in model {
            let found = rig.read(RANGE, |rows| rows.get(&key)).expect("nothing is damaged");
            assert_eq!(found.map(|row| row.value), value, "crash after {completions}");
        }
        if done {
            assert!(completions > 60, "the trace has many boundaries");
            return;
        }
        completions += 1;
    }
}

#[test]
fn process_crash_and_power_cut_in_recovery_lose_nothing_acknowledged() {
    for seed in 0..20 {
        let (image, acknowledged, _, _) = run(120, seed);
        // Cut off in the middle of recovery, several times.
        let mut image = image;
        for cut in 0..4 {
            let mut rig = Rig::open(image, seed, false);
            for _ in 0..cut * 2 {
                rig.step();
            }
            image = rig.crash();
        }
        let mut rig = Rig::start(image, seed, false);
        for op in acknowledged {
            let write = chunk(op, 0, 20_000, (op / 2) as u8);
            assert_eq!(rig.read_chunk(op, &write), Ok(write.data));
        }
    }
}

#[test]
fn acknowledged_chunks_survive_many_lives_with_flushes_and_a_damaged_index() {
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let mut image = Image::default();
        let mut acknowledged = BTreeSet::new();
        for life in 0..6 {
            let gap = rng.chance(1, 4);
            if gap {
                let kept = rng.below(image.journal.len() as u64 + 1) as usize;
                image.journal.truncate(kept);
            }
            let mut rig = Rig::start(image, rng.next_u64(), gap);
            for _ in 0..120 {
                let op = rng.below(300);
                if !rig.stored.contains_key(&op) && rig.asked.insert(op) {
                    rig.write_chunk(op, &chunk(op, 0, 3000 + op as usize, 1));
                }
                for _ in 0..rng.below(12) {
                    rig.step();
                }
            }
            assert!(rig.stored.values().all(|result| *result != Err(ChunkError::Invalid)));
            acknowledged.extend(rig.stored.iter().filter(|(_, r)| r.is_ok()).map(|(op, _)| *op));
            rig = Rig::start(rig.crash(), rng.next_u64(), false);
            rig.settle();
            for op in &acknowledged {
                let write = chunk(*op, 0, 3000 + *op as usize, 1);
                let read = rig.read_chunk(*op, &write);
                assert_eq!(read, Ok(write.data), "chunk {op}, seed {seed}, life {life}");
            }
            image = rig.crash();
        }
        assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    }
}
