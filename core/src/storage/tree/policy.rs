//! Which runs of a table are merged next: a pure function of what the runs are.
//!
//! Size-tiered: runs are on levels, each for runs [`RATIO`] times as large as those of the level before.
//! [`RATIO`] runs of one level are merged into one, so that a table that took N memtables has
//! O(log N) runs, and each row is rewritten O(log N) times. Only neighbours in age are merged, and so
//! the order of runs stays their order of age. On top of that two reasons to merge at once: rows that
//! newer runs have most likely made garbage, and dead bytes in value segments.
//!
//! A merge moves rows; values stay where they are, but for those in segments that are mostly dead.

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "numbers in tests are small")]
mod tests;

use core::ops::Range;

use super::super::segment::layout::SegmentId;

/// So many runs of a level are merged, and levels differ by that factor: every row is written once
/// per level, and every level holds fewer runs than that.
pub(crate) const RATIO: usize = 4;
/// Most units of one merge. Each needs a buffer for what is read ahead.
pub(crate) const UNITS_MAX: usize = 16;
/// Most value segments that one merge empties. Each needs a buffer too.
pub(crate) const EMPTIED_MAX: usize = 16;

/// A run, or the runs of one snapshot: they count together, and are merged together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Bytes of its blocks.
    pub(crate) blocks: u64,
    /// Rows, tombstones too.
    pub(crate) rows: u64,
    /// Rows that are tombstones.
    pub(crate) tombstones: u64,
    /// Whether its tombstones are all old enough to be dropped.
    pub(crate) is_old: bool,
    /// The value segments that its rows point into. No other unit of the table does.
    pub(crate) values: Vec<Values>,
}

/// A value segment as a unit sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Values {
    /// Which.
    pub(crate) segment: SegmentId,
    /// Bytes that the unit's rows point at.
    pub(crate) live: u64,
    /// Bytes that were written; never less. All of the segment, where segments are scarce.
    pub(crate) used: u64,
}

impl Values {
    fn dead(&self) -> u64 {
        self.used.saturating_sub(self.live)
    }

    /// Less than half of it is live.
    fn is_mostly_dead(&self) -> bool {
        self.live * 2 < self.used
    }
}

/// Why a merge is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A level is full.
    Level,
    /// Newer rows stand against as many older ones, or enough tombstones against what they delete.
    Garbage,
    /// Too much of the value segments is dead.
    DeadValues,
}

/// A merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    /// Which units, as they were given: oldest first.
    pub(crate) units: Range<usize>,
    /// Value segments whose live values are moved, so that they are free afterwards. Ascending.
    pub(crate) emptied: Vec<SegmentId>,
    /// Why.
    pub(crate) reason: Reason,
}

/// What the choice depends on beside the units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// How many bytes of blocks the runs of the lowest level have at most. Dead bytes below it do not
    /// count.
    pub(crate) smallest: u64,
    /// If segments are scarce: how many bytes of values one takes. Then every segment that can be had counts, also
    /// by putting the contents of half-filled ones together.
    pub(crate) scarce: Option<u64>,
}

/// Choose a merge of a table with these units, oldest first.
pub(crate) fn choose(units: &[Unit], circumstances: Circumstances) -> Option<Pick> {
    let Circumstances { smallest, scarce } = circumstances;
    if let Some(units_due) = garbage(units, smallest, scarce.is_some()) {
        return Some(pick(units, units_due, Reason::Garbage));
    }
    if let Some(units_due) = full_level(units, smallest) {
        return Some(pick(units, units_due, Reason::Level));
    }
    match scarce {
        Some(segment) => repacked(units, segment),
        None => dead_values(units, smallest),
    }
}

/// How many units a table has at most if no merge is due, whose blocks have so many bytes altogether.
pub(crate) fn units_bound(blocks: u64, smallest: u64) -> usize {
    (level_of(blocks, smallest) as usize + 1) * (RATIO - 1)
}

fn pick(units: &[Unit], due: Range<usize>, reason: Reason) -> Pick {
    let mut mostly_dead: Vec<Values> = units[due.clone()]
        .iter()
        .flat_map(|unit| unit.values.iter().copied())
        .filter(Values::is_mostly_dead)
        .collect();
    mostly_dead.sort_by_key(|values| (core::cmp::Reverse(values.dead()), values.segment));
    Pick { units: due, emptied: first_segments(&mostly_dead, EMPTIED_MAX), reason }
}

fn first_segments(values: &[Values], count: usize) -> Vec<SegmentId> {
    let mut segments: Vec<_> = values.iter().take(count).map(|values| values.segment).collect();
    segments.sort_unstable();
    segments
}

/// The table as a whole, if half of it may be garbage. What is overwritten is not known before the rows meet;
/// but as many newer rows as there are old ones may have replaced them all. Each tombstone most
/// likely deletes one row.
fn garbage(units: &[Unit], smallest: u64, scarce: bool) -> Option<Range<usize>> {
    let (oldest, newer) = units.split_first()?;
    let tombstones: u64 = newer.iter().map(|unit| unit.tombstones).sum();
    let blocks: u64 = newer.iter().map(|unit| unit.blocks).sum();
    let meets_as_many = blocks >= oldest.blocks && blocks > smallest;
    // Where segments are scarce, less will do.
    let share = if scarce { 64 } else { 4 };
    let deletes_much = tombstones > 0 && tombstones * share >= oldest.rows;
    let much = blocks + oldest.blocks > smallest;
    if units.len() <= UNITS_MAX && (meets_as_many || (deletes_much && much)) {
        return Some(0..units.len());
    }
    // One row always stays.
    let tombstones = oldest.tombstones;
    let has_many = tombstones * 4 >= oldest.rows && tombstones > 0 && oldest.rows > 1;
    (oldest.is_old && has_many).then_some(0..1)
}

/// The units of the lowest level that is full, from which on all are at least on that level. A unit that is smaller than a newer
/// one counts as being on the newer one's level: it can only be merged with it.
fn full_level(units: &[Unit], smallest: u64) -> Option<Range<usize>> {
    let mut end = units.len();
    let mut level = 0;
    let mut start = end;
    while start > 0 {
        let own = level_of(units[start - 1].blocks, smallest);
        if own > level {
            if end - start >= RATIO {
                break;
            }
            level = own;
            end = start;
        }
        start -= 1;
    }
    let full = end - start >= RATIO;
    full.then(|| start.max(end.saturating_sub(UNITS_MAX))..end)
}

/// 0 up to `smallest` bytes, and one more for each [`RATIO`] times as much.
fn level_of(blocks: u64, smallest: u64) -> u32 {
    let mut level = 0;
    let mut most = smallest.max(1);
    while blocks > most {
        most = most.saturating_mul(RATIO as u64);
        level += 1;
    }
    level
}

/// The unit from whose value segments most are to be had: the emptiest of them, as many as one merge
/// empties, take fewer when they are put together.
fn repacked(units: &[Unit], segment: u64) -> Option<Pick> {
    let gain = |unit: &Unit| {
        let mut values = unit.values.clone();
        values.sort_by_key(|values| (values.live, values.segment));
        values.truncate(EMPTIED_MAX);
        // Only as many as are worth it: one that is full stays where it is.
        values.retain(|values| values.live * 4 < segment * 3);
        let live: u64 = values.iter().map(|values| values.live).sum();
        let after = usize::try_from(live.div_ceil(segment.max(1))).unwrap_or(usize::MAX);
        // A value that passes the end of a segment may take a little more.
        (values.len().saturating_sub(after + 1), values)
    };
    let gains = units.iter().map(gain).enumerate();
    let (most, (count, values)) = gains.max_by_key(|(unit, (count, _))| (*count, *unit))?;
    let emptied = first_segments(&values, EMPTIED_MAX);
    let reason = Reason::DeadValues;
    (count > 0).then_some(Pick { units: most..most + 1, emptied, reason })
}

/// If a quarter of all value bytes is dead: the unit with most of them, and so many of its segments,
/// the deadest first, that half of that is left.
fn dead_values(units: &[Unit], smallest: u64) -> Option<Pick> {
    let all = || units.iter().flat_map(|unit| &unit.values);
    let used: u64 = all().map(|values| values.used).sum();
    let dead: u64 = all().map(Values::dead).sum();
    if dead * 4 <= used || dead <= smallest {
        return None;
    }
    let dead_of = |unit: &Unit| unit.values.iter().map(Values::dead).sum::<u64>();
    let most = (0..units.len()).max_by_key(|unit| dead_of(&units[*unit]))?;
    let mut values = units[most].values.clone();
    values.retain(|values| values.dead() > 0);
    // The share that is dead, highest first: least is moved for what is freed.
    values.sort_by_key(|values| {
        (core::cmp::Reverse(values.dead() * 1024 / values.used), values.segment)
    });
    let mut left = dead;
    let enough = values.iter().take_while(|values| {
        let wanted = left * 8 > used;
        left -= values.dead();
        wanted
    });
    let count = enough.count().clamp(1, EMPTIED_MAX);
    let emptied = first_segments(&values, count);
    Some(Pick { units: most..most + 1, emptied, reason: Reason::DeadValues })
}
