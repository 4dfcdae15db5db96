//! What a disk holds when edits are lost: read from the headers of segments, and from the
//! descriptions of the runs that they vouch for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::codec::{DecodeError, Wire};
use crate::disk::{DiskOutput, DiskResult, SECTOR};
use crate::hash::Checksum;
use crate::ids::LogIndex;
use crate::rows::Miss;

use super::super::io::Io;
use super::super::segment::edit::{Edit, RunDescriptor, TableId, is_whole};
use super::super::segment::header::{RunPlace, SegmentContent, SegmentHeader};
use super::super::segment::layout::{Generation, Layout, SegmentId};
use super::super::tree::block::{BlockKind, parse_raw};
use super::super::tree::run::{block_place, is_plausible};
use super::recover::{Phase, Replayed};
use super::{EditPurpose, Output, Shelf};

/// The longest description: no run has more segments.
const DESCRIPTION_BYTES_MAX: u32 = 2 << 20;

type Headers = BTreeMap<SegmentId, SegmentHeader>;
type Runs = BTreeMap<Generation, RunDescriptor>;

/// Descriptions that are being read.
#[derive(Debug)]
pub(super) struct Describing {
    headers: Headers,
    known: Runs,
    current: Description,
    rest: VecDeque<Description>,
}

/// The description of a run whose segments are all there.
#[derive(Debug)]
struct Description {
    run: Generation,
    place: RunPlace,
    segments: Vec<SegmentId>,
    bytes: Vec<u8>,
    next_block: u32,
}

impl Shelf {
    pub(super) fn header_read(
        &mut self,
        replayed: Replayed,
        next: SegmentId,
        mut headers: Headers,
        result: &DiskResult,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        if let Ok(DiskOutput::Read(bytes)) = result
            && let Ok(header) = SegmentHeader::decode(bytes, &self.layout, next)
        {
            headers.insert(next, header);
        }
        let next = SegmentId(next.0 + 1);
        if next.0 < self.layout.count {
            self.phase = Phase::Headers { replayed, next, headers };
            self.recover_next(self.layout.offset(next), SECTOR, io);
            return;
        }
        let known: Runs = replayed.into_runs().map(|run| (run.run, run)).collect();
        let rest = complete_runs(&headers, &self.layout)
            .into_iter()
            .filter(|found| known.get(&found.run).is_none_or(|run| run.segments != found.segments))
            .collect();
        self.describe_next(headers, known, rest, io, out);
    }

    fn describe_next(
        &mut self,
        headers: Headers,
        known: Runs,
        mut rest: VecDeque<Description>,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        match rest.pop_front() {
            Some(current) => {
                self.describe_block(Describing { headers, known, current, rest }, io);
            }
            None => {
                let replayed = self.rebuild_from_headers(&headers, known, out);
                self.load_runs(replayed, io, out);
            }
        }
    }

    fn describe_block(&mut self, describing: Describing, io: &mut Io<'_>) {
        let Description { segments, next_block, .. } = &describing.current;
        let Miss { offset, len } = block_place(segments, &self.layout, *next_block);
        self.recover_next(offset, len, io);
        self.phase = Phase::Describing(describing);
    }

    pub(super) fn description_read(
        &mut self,
        mut describing: Describing,
        result: &DiskResult,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let complete = match describing.current.take(result, &self.layout) {
            Ok(None) => return self.describe_block(describing, io),
            Ok(Some(run)) => Some(run),
            Err(error) => {
                let (store, run) = (self.config.store, describing.current.run);
                let text = format!("{store}: description of run {run:?} is lost: {error}");
                out.push(Output::Note(text));
                None
            }
        };
        let Describing { headers, mut known, rest, .. } = describing;
        known.extend(complete.map(|run| (run.run, run)));
        self.describe_next(headers, known, rest, io, out);
    }

    /// Edits may be missing. Take what the headers say, and of the edits what they do not contradict.
    fn rebuild_from_headers(
        &mut self,
        headers: &Headers,
        known: Runs,
        out: &mut Vec<Output>,
    ) -> Replayed {
        let mut chunk_segments: BTreeMap<_, _> = self
            .segments
            .chunk_segments()
            .filter(|(segment, _)| !headers.contains_key(segment))
            .map(|(segment, (generation, _))| (segment, generation))
            .collect();
        for (segment, header) in headers {
            self.segments.saw(header.generation);
            if header.content == SegmentContent::Chunks {
                chunk_segments.insert(*segment, header.generation);
            }
        }
        let mut candidates = known;
        candidates.retain(|_, run| {
            run.table != TableId::Chunks && is_plausible(run, &self.layout) && stands(run, headers)
        });
        let (runs, torn) = choose_runs(candidates.into_values().collect());
        for table in torn {
            let reason = format!(
                "{}: runs of {table:?} are lost with the journal's edits",
                self.config.store
            );
            out.push(Output::Damaged { table, reason });
        }
        // All segments with chunks are sealed, and scanned for the new chunk index.
        let chunk_segments: Vec<_> = chunk_segments
            .into_iter()
            .map(|(segment, generation)| (segment, (generation, false)))
            .collect();
        let edit = Edit::Snapshot { chunk_segments, runs };
        self.journal(&edit, EditPurpose::Nothing, out);
        let mut replayed = Replayed::default();
        self.replay(edit, &mut replayed).expect("it was made of segments that are used once");
        replayed
    }
}

impl Description {
    /// The next block of it; the run, if it was the last.
    fn take(
        &mut self,
        result: &DiskResult,
        layout: &Layout,
    ) -> Result<Option<RunDescriptor>, String> {
        let bytes = match result {
            Ok(DiskOutput::Read(bytes)) => bytes,
            Ok(other) => return Err(format!("the disk answered {other:?} to a read")),
            Err(error) => return Err(error.to_string()),
        };
        let kind = BlockKind::Description;
        let part = parse_raw(bytes, layout, self.run, self.next_block, kind);
        self.bytes.extend_from_slice(&part.map_err(|error| error.to_string())?);
        self.next_block += 1;
        let len = self.place.description_bytes as usize;
        if self.bytes.len() < len {
            return Ok(None);
        }
        self.bytes.truncate(len);
        self.decode().map(Some).map_err(|error| error.to_string())
    }

    fn decode(&mut self) -> Result<RunDescriptor, DecodeError> {
        if Checksum::of(0, &self.bytes) != self.place.description {
            return Err(DecodeError::Checksum { what: "description of a run" });
        }
        let run = RunDescriptor::from_bytes(&core::mem::take(&mut self.bytes).into())?;
        if run.run != self.run || run.segments != self.segments {
            return Err(DecodeError::Invalid { what: "description of a run" });
        }
        Ok(run)
    }
}

/// The runs all of whose headers are there. Pure.
fn complete_runs(headers: &Headers, layout: &Layout) -> Vec<Description> {
    let mut found: BTreeMap<Generation, BTreeMap<u32, (SegmentId, RunPlace)>> = BTreeMap::new();
    for (segment, header) in headers {
        if let SegmentContent::Run(place) = header.content {
            let run = found.entry(header.generation).or_default();
            run.insert(place.ordinal, (*segment, place));
        }
    }
    let complete = found.into_iter().filter_map(|(run, segments)| {
        let (_, place) = *segments.get(&0)?;
        let agree = segments
            .iter()
            .all(|(ordinal, (_, other))| *other == RunPlace { ordinal: *ordinal, ..place });
        let blocks = u64::from(place.segments) * layout.blocks_per_segment();
        let description = u64::from(place.description_bytes).div_ceil(layout.tree_block);
        let fits = place.description_bytes <= DESCRIPTION_BYTES_MAX
            && u64::from(place.description_block) + description <= blocks;
        let whole = segments.len() as u64 == u64::from(place.segments);
        let next_block = place.description_block;
        let segments = segments.into_values().map(|(segment, _)| segment).collect();
        let bytes = Vec::new();
        (agree && fits && whole).then_some(Description { run, place, segments, bytes, next_block })
    });
    complete.collect()
}

/// Whether headers vouch for all segments of a run and for all values that it points to.
fn stands(run: &RunDescriptor, headers: &Headers) -> bool {
    let blocks = (0..).zip(&run.segments).all(|(nth, segment)| {
        headers.get(segment).is_some_and(|header| {
            let there = matches!(header.content, SegmentContent::Run(place)
                if place.ordinal == nth && place.segments as usize == run.segments.len());
            header.generation == run.run && there
        })
    });
    let values = run.values.iter().all(|value| {
        let (generation, content) = (value.generation, SegmentContent::Values);
        headers.get(&value.segment) == Some(&SegmentHeader { generation, content })
    });
    blocks && values
}

/// Of runs that are whole, those that make up their tables, oldest first: an unbroken sequence of
/// intervals from the beginning on, as far as there is one. Where a merged run and those it was made
/// of are both there, the merged one is taken, the newest; both would be right. And the tables of
/// which a run is there that no such sequence reaches. Pure.
fn choose_runs(candidates: Vec<RunDescriptor>) -> (Vec<RunDescriptor>, BTreeSet<TableId>) {
    let mut sets: BTreeMap<(TableId, Generation), Vec<RunDescriptor>> = BTreeMap::new();
    for run in candidates {
        sets.entry((run.table, run.part.of)).or_default().push(run);
    }
    let mut chosen = Vec::new();
    let mut torn = BTreeSet::new();
    let mut tables: BTreeMap<TableId, Vec<Vec<RunDescriptor>>> = BTreeMap::new();
    for ((table, _), mut parts) in sets {
        parts.sort_by_key(|run| run.part.number);
        // Without its last part, a snapshot was never installed and says nothing.
        if parts.last().is_some_and(|run| run.part.last) {
            tables.entry(table).or_default().push(parts);
        }
    }
    for (table, mut sets) in tables {
        let interval = |set: &[RunDescriptor]| (set[0].after, set[0].through);
        sets.sort_by_key(|set| (interval(set).1, set[0].part.of));
        // Which set ends a sequence that begins at 0, by where it ends. Sets begin before they end,
        // so that those before a set are known when it comes.
        let mut ends: BTreeMap<LogIndex, usize> = BTreeMap::new();
        for (nth, set) in sets.iter().enumerate() {
            let (after, through) = interval(set);
            if is_whole(set) && (after == LogIndex(0) || ends.contains_key(&after)) {
                ends.insert(through, nth);
            }
        }
        let newest = sets.last().map(|set| interval(set).1);
        let mut at = ends.last_key_value().map(|(through, _)| *through);
        if at != newest {
            torn.insert(table);
        }
        let mut sequence = Vec::new();
        while let Some(nth) = at.and_then(|through| ends.get(&through)) {
            let set = core::mem::take(&mut sets[*nth]);
            at = Some(interval(&set).0).filter(|after| *after > LogIndex(0));
            sequence.push(set);
        }
        chosen.extend(sequence.into_iter().rev().flatten());
    }
    (chosen, torn)
}

#[cfg(test)]
mod tests {
    use crate::ids::RangeId;
    use crate::rng::Rng;

    use super::super::super::segment::edit::Part;
    use super::super::super::segment::format_tests;
    use super::*;

    const TABLE: TableId = TableId::Range(RangeId(1));

    fn run(generation: u64, after: u64, through: u64) -> RunDescriptor {
        let run = Generation(generation);
        let (after, through) = (LogIndex(after), LogIndex(through));
        let part = Part::whole(run);
        RunDescriptor { run, table: TABLE, after, through, part, ..format_tests::run() }
    }

    fn part(generation: u64, of: u64, number: u32, last: bool) -> RunDescriptor {
        let part = Part { of: Generation(of), number, last };
        RunDescriptor { part, ..run(generation, 10, 30) }
    }

    /// The generations that are chosen, and whether the table is torn.
    fn choose(runs: &[RunDescriptor]) -> (Vec<u64>, bool) {
        let (chosen, torn) = choose_runs(runs.to_vec());
        (chosen.iter().map(|run| run.run.0).collect(), !torn.is_empty())
    }

    #[test]
    fn merged_run_goes_before_those_it_was_made_of() {
        let parts = [run(1, 0, 10), run(2, 10, 20), run(3, 20, 30), run(5, 30, 40)];
        let merged = [run(4, 10, 30)];
        assert_eq!(choose(&[&parts[..], &merged].concat()), (vec![1, 4, 5], false));
        // Some of those it was made of are gone already.
        assert_eq!(choose(&[&parts[..2], &merged, &parts[3..]].concat()), (vec![1, 4, 5], false));
        assert_eq!(choose(&parts), (vec![1, 2, 3, 5], false));
    }

    #[test]
    fn what_a_gap_cuts_off_is_said() {
        assert_eq!(choose(&[run(1, 0, 10), run(3, 20, 30)]), (vec![1], true));
        assert_eq!(choose(&[run(2, 10, 20)]), (vec![], true));
        assert_eq!(choose(&[]), (vec![], false));
    }

    #[test]
    fn parts_count_together_and_only_those_of_one_attempt() {
        let base = run(1, 0, 10);
        let whole = [base.clone(), part(4, 4, 0, false), part(6, 4, 1, true)];
        assert_eq!(choose(&whole), (vec![1, 4, 6], false));
        // Never finished: it says nothing.
        assert_eq!(choose(&whole[..2]), (vec![1], false));
        // Its beginning is lost.
        assert_eq!(choose(&[base.clone(), part(6, 4, 1, true)]), (vec![1], true));
        // A second attempt, of which the beginning is lost, does not take the first one's.
        let mixed = [base.clone(), part(4, 4, 0, false), part(6, 5, 1, true)];
        assert_eq!(choose(&mixed), (vec![1], true));
        let both = [&whole[..], &[part(7, 7, 0, true)]].concat();
        assert_eq!(choose(&both), (vec![1, 7], false));
    }

    /// Against a search that tries everything.
    #[test]
    fn no_sequence_that_reaches_farther_is_missed() {
        let (mut torn_seen, mut whole_seen) = (0, 0);
        for seed in 0..3000 {
            let mut rng = Rng::new(seed);
            let mut runs: Vec<_> = (0..8).map(|n| run(n + 1, n * 10, n * 10 + 10)).collect();
            for generation in 10..14 {
                let after = rng.below(7) * 10;
                runs.push(run(generation, after, after + 10 * (1 + rng.below(4))));
            }
            runs.retain(|_| rng.chance(3, 4));
            let (chosen, torn) = choose_runs(runs.clone());
            let mut reached = LogIndex(0);
            for run in &chosen {
                assert_eq!(run.after, reached, "seed {seed}: no gap");
                reached = run.through;
            }
            let mut best = BTreeSet::from([LogIndex(0)]);
            for _ in 0..runs.len() {
                let more = runs.iter().filter(|run| best.contains(&run.after));
                let more: Vec<_> = more.map(|run| run.through).collect();
                best.extend(more);
            }
            assert_eq!(Some(&reached), best.last(), "seed {seed}");
            let newest = runs.iter().map(|run| run.through).max();
            assert_eq!(torn.is_empty(), newest.is_none_or(|newest| newest == reached));
            torn_seen += usize::from(!torn.is_empty());
            whole_seen += usize::from(torn.is_empty());
        }
        assert!(torn_seen > 100 && whole_seen > 100, "{torn_seen} {whole_seen}");
    }
}
