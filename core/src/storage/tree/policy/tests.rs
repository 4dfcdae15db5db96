//! The policy on tables of a million rows, without any bytes.

use std::collections::BTreeMap;

use crate::rng::Rng;

use super::*;

const SMALLEST: u64 = 64 << 10;
const PLENTY: Circumstances = Circumstances { smallest: SMALLEST, scarce: None };
const BLOCK_BYTES_PER_ROW: u64 = 100;
const VALUE_BYTES: u64 = 1024;
const SEGMENT_VALUES: u64 = 4096;
const MEMTABLE_ROWS: usize = 4000;

#[derive(Clone, Copy)]
struct Row {
    key: u32,
    seq: u32,
    /// The value segment; 0 for a tombstone.
    segment: u32,
}

struct SimUnit {
    rows: Vec<Row>,
    stat: Unit,
    newest: u32,
}

#[derive(Default)]
struct Sim {
    /// Oldest first.
    units: Vec<SimUnit>,
    used: BTreeMap<u32, u64>,
    next_segment: u32,
    seq: u32,
    memtable: BTreeMap<u32, Row>,
    lag: u32,
    user_bytes: u64,
    written: u64,
    moved: u64,
    merges: u64,
    runs_max: usize,
    reasons: BTreeMap<&'static str, u64>,
    /// Most bytes held for each live byte, looked at when nothing is due.
    space_max: f64,
    live: BTreeMap<u32, u32>,
}

impl Sim {
    fn new(lag: u32) -> Self {
        Self { lag, next_segment: 1, ..Self::default() }
    }

    fn put(&mut self, key: u32) {
        self.write(key, 1);
        self.live.insert(key, self.seq);
    }

    fn delete(&mut self, key: u32) {
        self.write(key, 0);
        self.live.remove(&key);
    }

    fn write(&mut self, key: u32, segment: u32) {
        self.seq += 1;
        self.user_bytes += BLOCK_BYTES_PER_ROW + u64::from(segment > 0) * VALUE_BYTES;
        self.memtable.insert(key, Row { key, seq: self.seq, segment });
        if self.memtable.len() >= MEMTABLE_ROWS {
            self.flush();
        }
    }

    /// New segments for rows that have a value; which are marked by `takes`.
    fn place(&mut self, rows: &mut [Row], takes: impl Fn(&Row) -> bool) -> u64 {
        let mut count = 0;
        for row in rows.iter_mut().filter(|row| takes(row)) {
            if count % SEGMENT_VALUES == 0 {
                self.next_segment += 1;
            }
            count += 1;
            row.segment = self.next_segment;
            *self.used.entry(self.next_segment).or_default() += VALUE_BYTES;
        }
        self.written += count * VALUE_BYTES;
        count
    }

    fn flush(&mut self) {
        let mut rows: Vec<Row> = std::mem::take(&mut self.memtable).into_values().collect();
        self.place(&mut rows, |row| row.segment > 0);
        self.written += rows.len() as u64 * BLOCK_BYTES_PER_ROW;
        let unit = self.unit(rows);
        self.units.push(unit);
        self.runs_max = self.runs_max.max(self.units.len());
        while self.merge() {}
        self.measure();
    }

    fn unit(&self, rows: Vec<Row>) -> SimUnit {
        let mut segments: Vec<u32> = rows.iter().map(|row| row.segment).collect();
        segments.sort_unstable();
        let segments = segments.chunk_by(|one, other| one == other);
        let live = segments.map(|same| (same[0], same.len() as u64 * VALUE_BYTES));
        let live = live.filter(|(segment, _)| *segment > 0);
        let values = live.map(|(segment, live)| Values {
            segment: SegmentId(segment),
            live,
            used: self.used[&segment],
        });
        let stat = Unit {
            blocks: rows.len() as u64 * BLOCK_BYTES_PER_ROW,
            rows: rows.len() as u64,
            tombstones: rows.iter().filter(|row| row.segment == 0).count() as u64,
            is_old: false,
            values: values.collect(),
        };
        SimUnit { newest: rows.iter().map(|row| row.seq).max().unwrap_or(0), rows, stat }
    }

    fn stats(&self) -> Vec<Unit> {
        let old = |unit: &SimUnit| unit.newest + self.lag <= self.seq;
        let stat = |unit: &SimUnit| Unit { is_old: old(unit), ..unit.stat.clone() };
        self.units.iter().map(stat).collect()
    }

    fn merge(&mut self) -> bool {
        let stats = self.stats();
        let Some(pick) = choose(&stats, PLENTY) else { return false };
        assert!(pick.units.len() <= UNITS_MAX && !pick.units.is_empty());
        assert!(pick.emptied.len() <= EMPTIED_MAX);
        let bottom = pick.units.start == 0;
        let mut rows = newest_of(self.rows_of(pick.units.clone()));
        let (seq, lag) = (self.seq, self.lag);
        rows.retain(|row| row.segment > 0 || !bottom || row.seq + lag > seq);
        let emptied = pick.emptied.clone();
        self.moved += self.place(&mut rows, |row| emptied.contains(&SegmentId(row.segment)));
        self.written += rows.len() as u64 * BLOCK_BYTES_PER_ROW;
        let unit = (!rows.is_empty()).then(|| self.unit(rows));
        self.units.splice(pick.units, unit);
        self.merges += 1;
        let name = match pick.reason {
            Reason::Level => "level",
            Reason::Garbage => "garbage",
            Reason::DeadValues => "dead values",
        };
        *self.reasons.entry(name).or_default() += 1;
        assert!(self.merges < 100_000, "merging ends");
        true
    }

    fn rows_of(&self, units: Range<usize>) -> impl Iterator<Item = Row> {
        self.units[units].iter().flat_map(|unit| unit.rows.iter().copied())
    }

    fn held(&self) -> u64 {
        let stats = self.stats();
        let values = stats.iter().flat_map(|unit| &unit.values).map(|values| values.used);
        values.sum::<u64>() + stats.iter().map(|unit| unit.blocks).sum::<u64>()
    }

    fn measure(&mut self) {
        let live = self.live.len() as u64 * (BLOCK_BYTES_PER_ROW + VALUE_BYTES);
        if live > 100 * SMALLEST {
            self.space_max = self.space_max.max(self.held() as f64 / live as f64);
        }
    }

    fn report(&self, what: &str) -> (f64, f64) {
        let amplification = self.written as f64 / self.user_bytes as f64;
        println!(
            "{what}: {} rows, {} live: write amplification {amplification:.2} (journal not counted), \
             values moved {}, space {:.2} at most and {:.2} now, {} runs now and {} at most, merges {:?}",
            self.seq,
            self.live.len(),
            self.moved,
            self.space_max,
            self.held() as f64
                / (self.live.len().max(1) as u64 * (BLOCK_BYTES_PER_ROW + VALUE_BYTES)) as f64,
            self.units.len(),
            self.runs_max,
            self.reasons
        );
        (amplification, self.space_max)
    }

    /// No rows are lost: a reader would find exactly what is live.
    fn verify(&self) {
        let all = self.rows_of(0..self.units.len()).chain(self.memtable.values().copied());
        let mut newest = newest_of(all);
        newest.retain(|row| row.segment > 0);
        assert!(newest.iter().map(|row| (row.key, row.seq)).eq(self.live.clone()));
    }
}

/// The newest row of each key, by key.
fn newest_of(rows: impl Iterator<Item = Row>) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.collect();
    rows.sort_by_key(|row| (row.key, core::cmp::Reverse(row.seq)));
    rows.dedup_by_key(|row| row.key);
    rows
}

#[test]
fn new_rows_are_rewritten_a_few_times_and_lie_in_few_runs() {
    let mut sim = Sim::new(1000);
    // A permutation of a million keys.
    for n in 0..1_000_000_u64 {
        sim.put((n * 7_919 % 1_000_003) as u32);
    }
    let (write, space) = sim.report("inserts");
    sim.verify();
    assert!(write < 2.0, "{write}");
    assert!(space < 1.1, "{space}");
    assert!(sim.runs_max <= 20, "{}", sim.runs_max);
}

#[test]
fn overwritten_rows_take_no_more_than_their_share() {
    let mut sim = Sim::new(1000);
    let mut rng = Rng::new(1);
    for _ in 0..1_000_000 {
        sim.put(rng.below(100_000) as u32);
    }
    let (write, space) = sim.report("overwrites");
    sim.verify();
    assert!(write < 3.0, "{write}");
    assert!(space < 2.6, "{space}");
    assert!(sim.runs_max <= 20, "{}", sim.runs_max);
}

#[test]
fn space_of_deleted_rows_comes_back() {
    let mut sim = Sim::new(1000);
    for key in 0..400_000 {
        sim.put(key);
    }
    for key in 0..380_000 {
        sim.delete(key);
    }
    sim.report("deletes");
    sim.verify();
    let live = sim.live.len() as u64 * (BLOCK_BYTES_PER_ROW + VALUE_BYTES);
    assert!(sim.held() < 2 * live, "{} held for {live} live", sim.held());
}

#[test]
fn queue_of_rows_that_come_and_go_stays_small() {
    let mut sim = Sim::new(1000);
    for key in 0..300_000_u32 {
        sim.put(key);
        if let Some(old) = key.checked_sub(20_000) {
            sim.delete(old);
        }
    }
    let (write, space) = sim.report("queue");
    sim.verify();
    assert!(write < 3.0 && space < 3.0, "{write} {space}");
}

#[test]
fn number_of_runs_is_logarithmic_whatever_their_sizes() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut units: Vec<Unit> = Vec::new();
        let mut total = 0;
        let mut most = 0;
        for _ in 0..4000 {
            // Most are memtables, some are tiny, and a few are states that were taken over.
            let blocks = match rng.below(50) {
                0 => rng.below(400) * SMALLEST,
                1..=10 => 1 + rng.below(SMALLEST / 8),
                _ => SMALLEST * 2 + rng.below(SMALLEST),
            };
            total += blocks;
            units.push(Unit { blocks, rows: blocks / 100, ..Unit::default() });
            while let Some(pick) = choose(&units, PLENTY) {
                let merged = &units[pick.units.clone()];
                let blocks = merged.iter().map(|unit| unit.blocks).sum();
                let merged = Unit { blocks, rows: blocks / 100, ..Unit::default() };
                units.splice(pick.units, [merged]);
            }
            most = most.max(units.len());
        }
        let bound = units_bound(total, SMALLEST);
        assert!(most <= bound, "{most} runs, at most {bound}");
    }
}

fn unit(blocks: u64) -> Unit {
    Unit { blocks: blocks * SMALLEST, rows: blocks * 1000, ..Unit::default() }
}

fn due(units: &[Unit]) -> Option<(Range<usize>, Reason)> {
    choose(units, PLENTY).map(|pick| (pick.units, pick.reason))
}

#[test]
fn picks_by_table() {
    use Reason::{Garbage, Level};
    type Case = (&'static [u64], Option<(Range<usize>, Reason)>);
    let cases: &[Case] = &[
        (&[], None),
        (&[1], None),
        (&[1000], None),
        (&[1000, 3, 3, 3], None),
        // A full level, the lowest first.
        (&[1000, 3, 3, 3, 3], Some((1..5, Level))),
        (&[1000, 12, 12, 12, 12, 3, 3, 3, 3], Some((5..9, Level))),
        (&[1000, 12, 12, 12, 12, 3, 3, 3], Some((1..5, Level))),
        // A small one below a large one is on its level.
        (&[1000, 1, 12, 1, 12], Some((1..5, Level))),
        (&[1000, 1, 12, 12, 3, 3, 3], None),
        // As much new as old.
        (&[1000, 600, 400], Some((0..3, Garbage))),
        (&[1000, 600, 399], None),
    ];
    for (sizes, expected) in cases {
        let units: Vec<Unit> = sizes.iter().map(|size| unit(*size)).collect();
        assert_eq!(due(&units), *expected, "{sizes:?}");
    }
    let many: Vec<Unit> = (0..40).map(|_| unit(1)).collect();
    assert_eq!(due(&many), Some((24..40, Level)), "a merge has few sources");
}

#[test]
fn tombstones_that_stand_against_many_rows_are_a_reason() {
    let mut units = vec![unit(1000), unit(10)];
    units[1].tombstones = 249_999;
    assert_eq!(due(&units), None);
    units[1].tombstones = 250_000;
    assert_eq!(due(&units), Some((0..2, Reason::Garbage)));
    // In the oldest run they delete nothing, and go when they are old enough.
    let mut oldest = unit(1000);
    oldest.tombstones = 600_000;
    assert_eq!(due(&[oldest.clone()]), None);
    oldest.is_old = true;
    assert_eq!(due(&[oldest.clone(), unit(3)]), Some((0..1, Reason::Garbage)));
    // The last one stays, whatever it is.
    (oldest.rows, oldest.tombstones) = (1, 1);
    assert_eq!(due(&[oldest]), None);
}

#[test]
fn mostly_dead_segments_are_emptied_with_the_next_merge() {
    let values = |segment, live| Values { segment: SegmentId(segment), live, used: 1000 };
    let mut units: Vec<Unit> = [1000, 3, 3, 3, 3].into_iter().map(unit).collect();
    units[0].values = vec![values(1, 100)];
    units[1].values = vec![values(2, 499), values(3, 500)];
    units[4].values = vec![values(4, 1), values(5, 1000)];
    let pick = choose(&units, PLENTY).unwrap();
    assert_eq!((pick.units, pick.emptied), (1..5, vec![SegmentId(2), SegmentId(4)]));
}

#[test]
fn a_quarter_of_dead_values_is_a_reason_by_itself() {
    let values = |segment, live_mb: u64| Values {
        segment: SegmentId(segment),
        live: live_mb << 20,
        used: 100 << 20,
    };
    let mut units = vec![unit(1000), unit(3)];
    units[0].values = vec![values(1, 80), values(2, 70), values(3, 90)];
    units[1].values = vec![values(4, 70)];
    assert_eq!(choose(&units, PLENTY), None, "90 of 400 are dead");
    units[0].values[1].live = 59 << 20;
    let pick = choose(&units, PLENTY).unwrap();
    assert_eq!((pick.units, pick.reason), (0..1, Reason::DeadValues));
    // The two with the most go; what is left is below an eighth.
    assert_eq!(pick.emptied, vec![SegmentId(1), SegmentId(2)]);
}

#[test]
fn scarce_segments_are_put_together_and_that_ends() {
    let segment = 100 << 20;
    let scarce = Circumstances { smallest: SMALLEST, scarce: Some(segment) };
    let values = |number, live_mb: u64| Values {
        segment: SegmentId(number),
        live: live_mb << 20,
        used: live_mb << 20,
    };
    let mut units = vec![unit(1000), unit(3)];
    units[0].values = (1..=7).map(|number| values(number, 20)).chain([values(8, 90)]).collect();
    units[1].values = vec![values(9, 20), values(10, 20)];
    assert_eq!(choose(&units, PLENTY), None, "nothing is dead");
    let pick = choose(&units, scarce).unwrap();
    assert_eq!((pick.units, pick.reason), (0..1, Reason::DeadValues));
    assert_eq!(pick.emptied, (1..=7).map(SegmentId).collect::<Vec<_>>());
    units[0].values = vec![values(11, 100), values(12, 40), values(8, 90)];
    assert_eq!(choose(&units, scarce), None, "nothing is to be had");
}
