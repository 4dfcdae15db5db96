//! Where each log entry stands in the journal: 16 bytes of memory per entry.

use std::collections::{BTreeMap, VecDeque};

use super::record::Location;
use crate::ids::{LogIndex, RangeId};

/// Per range, the places of a contiguous run of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryLocations {
    ranges: BTreeMap<RangeId, Run>,
    /// At recovery: the places of a log that was written again, as far as they have been found.
    again: BTreeMap<RangeId, Run>,
}

/// `places[i]` is where the entry `first + i` stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Run {
    first: LogIndex,
    places: VecDeque<Location>,
}

impl Run {
    /// The entry that would follow.
    fn next(&self) -> LogIndex {
        LogIndex(self.first.0 + self.places.len() as u64)
    }
}

/// The end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Its first entry.
    pub(crate) first: LogIndex,
    /// Its last entry.
    pub(crate) last: LogIndex,
    /// Where the last one stands.
    pub(crate) place: Location,
    /// Bytes of the records.
    pub(crate) bytes: u64,
}

impl EntryLocations {
    /// An entry was written. At an index that is known, it replaces that entry and all after it;
    /// one that does not follow what is known begins anew (the log jumped over a snapshot).
    pub(crate) fn put(&mut self, range: RangeId, index: LogIndex, location: Location) {
        self.truncate(range, index);
        self.again.remove(&range);
        let run = self.ranges.entry(range).or_default();
        if run.places.is_empty() || run.next() != index {
            *run = Run { first: index, places: VecDeque::new() };
        }
        run.places.push_back(location);
    }

    /// At recovery: an entry was written again. The first place of one that is still there serves as well, and so places
    /// ascend even if not all entries were written again. Those before the first one that is there count when the
    /// log has been found to its end: a crash may have taken the rest, and the log have been given up beyond them.
    pub(crate) fn put_again(&mut self, range: RangeId, index: LogIndex, location: Location) {
        let known = self.ranges.get(&range).filter(|run| !run.places.is_empty());
        let Some((first, next)) = known.map(|run| (run.first, run.next())) else {
            return self.put(range, index, location);
        };
        if let Some(again) = self.again.get_mut(&range).filter(|again| again.next() == index) {
            again.places.push_back(location);
        } else if index < first {
            let places = VecDeque::from([location]);
            self.again.insert(range, Run { first: index, places });
        } else if index >= next {
            return self.put(range, index, location);
        }
        if self.again.get(&range).is_some_and(|again| again.next() == next)
            && let Some(again) = self.again.remove(&range)
        {
            self.ranges.insert(range, again);
        }
    }

    /// An entry stands at a later place, too. What has replaced it meanwhile stands behind that.
    pub(crate) fn move_to(&mut self, range: RangeId, index: LogIndex, location: Location) {
        let Some(run) = self.ranges.get_mut(&range) else { return };
        let known = index.0.checked_sub(run.first.0).and_then(|place| usize::try_from(place).ok());
        if let Some(place) = known.and_then(|place| run.places.get_mut(place))
            && place.position < location.position
        {
            *place = location;
        }
    }

    /// The first entry after `index`, the last one, and their bytes with all between.
    pub(crate) fn span_after(&self, range: RangeId, index: LogIndex) -> Option<Span> {
        let run = self.ranges.get(&range)?;
        let skipped = usize::try_from((index.0 + 1).saturating_sub(run.first.0)).ok()?;
        let place = *run.places.back().filter(|_| skipped < run.places.len())?;
        let bytes = run.places.range(skipped..).map(|place| u64::from(place.len)).sum();
        let first = LogIndex(run.first.0 + skipped as u64);
        let last = LogIndex(run.first.0 + run.places.len() as u64 - 1);
        Some(Span { first, last, place, bytes })
    }

    /// Forget `from` and all after it.
    pub(crate) fn truncate(&mut self, range: RangeId, from: LogIndex) {
        if let Some(run) = self.ranges.get_mut(&range) {
            let kept = from.0.saturating_sub(run.first.0);
            run.places.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        }
    }

    /// Forget all entries of a range.
    pub(crate) fn forget_all(&mut self, range: RangeId) {
        self.ranges.remove(&range);
        self.again.remove(&range);
    }

    /// Forget all up to `through`, and what does not continue it.
    pub(crate) fn forget_through(&mut self, range: RangeId, through: LogIndex) {
        let Some(run) = self.ranges.get_mut(&range) else { return };
        if run.first > through.next() {
            run.places.clear();
        }
        let gone = (through.0 + 1).saturating_sub(run.first.0);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(run.places.len());
        run.places.drain(..gone);
        run.first = LogIndex(run.first.0 + gone as u64);
    }

    /// Where the first entry after `index` stands that is known.
    pub(crate) fn first_after(&self, range: RangeId, index: LogIndex) -> Option<Location> {
        let run = self.ranges.get(&range)?;
        let skipped = (index.0 + 1).saturating_sub(run.first.0);
        run.places.get(usize::try_from(skipped).ok()?).copied()
    }

    /// The last entry that stands before `position`.
    pub(crate) fn last_before(&self, range: RangeId, position: u64) -> Option<LogIndex> {
        let run = self.ranges.get(&range)?;
        // Places ascend: what replaces an entry forgets those after it.
        let before = run.places.partition_point(|place| place.position < position) as u64;
        before.checked_sub(1).map(|last| LogIndex(run.first.0 + last))
    }

    /// Where an entry stands.
    pub(crate) fn at(&self, range: RangeId, index: LogIndex) -> Option<Location> {
        let run = self.ranges.get(&range)?;
        let place = usize::try_from(index.0.checked_sub(run.first.0)?).ok()?;
        run.places.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: RangeId = RangeId(1);

    fn place(position: u64) -> Location {
        Location { position, len: 40 }
    }

    #[test]
    fn entry_at_known_index_replaces_the_suffix() {
        let mut locations = EntryLocations::default();
        for index in 3..8 {
            locations.put(RANGE, LogIndex(index), place(index * 100));
        }
        locations.put(RANGE, LogIndex(5), place(9000));
        assert_eq!(locations.at(RANGE, LogIndex(4)), Some(place(400)));
        assert_eq!(locations.at(RANGE, LogIndex(5)), Some(place(9000)));
        assert_eq!(locations.at(RANGE, LogIndex(6)), None);
        locations.put(RANGE, LogIndex(2), place(1));
        assert_eq!(locations.at(RANGE, LogIndex(2)), Some(place(1)));
        assert_eq!(locations.at(RANGE, LogIndex(5)), None);
    }

    #[test]
    fn entries_written_again_before_those_that_are_there_count_when_all_are() {
        let again = |last: u64| {
            let mut locations = EntryLocations::default();
            (7..10).for_each(|index| locations.put(RANGE, LogIndex(index), place(index)));
            (4..=last).for_each(|index| {
                locations.put_again(RANGE, LogIndex(index), place(100 + index));
            });
            locations.put(RANGE, LogIndex(10), place(1000));
            [4, 6, 7, 9, 10].map(|index| locations.at(RANGE, LogIndex(index)))
        };
        for last in 4..9 {
            let there = [None, None, Some(place(7)), Some(place(9)), Some(place(1000))];
            assert_eq!(again(last), there, "up to {last}");
        }
        assert_eq!(again(9), [104, 106, 107, 109, 1000].map(|position| Some(place(position))));
    }

    #[test]
    fn what_is_given_up_is_forgotten_and_the_rest_keeps_its_place() {
        let mut locations = EntryLocations::default();
        for index in 3..8 {
            locations.put(RANGE, LogIndex(index), place(index * 100));
        }
        assert_eq!(locations.last_before(RANGE, 600), Some(LogIndex(5)));
        assert_eq!(locations.last_before(RANGE, 300), None);
        assert_eq!(locations.first_after(RANGE, LogIndex(0)), Some(place(300)));
        locations.forget_through(RANGE, LogIndex(1));
        assert_eq!(locations.first_after(RANGE, LogIndex(3)), None, "3 does not continue 1");
        for index in 3..8 {
            locations.put(RANGE, LogIndex(index), place(index * 100));
        }
        locations.forget_through(RANGE, LogIndex(4));
        assert_eq!(locations.at(RANGE, LogIndex(4)), None);
        assert_eq!(locations.at(RANGE, LogIndex(7)), Some(place(700)));
        assert_eq!(locations.first_after(RANGE, LogIndex(4)), Some(place(500)));
        locations.put(RANGE, LogIndex(8), place(800));
        assert_eq!(locations.at(RANGE, LogIndex(8)), Some(place(800)));
        locations.forget_through(RANGE, LogIndex(20));
        assert_eq!(locations.first_after(RANGE, LogIndex(0)), None);
    }

    #[test]
    fn an_entry_that_was_written_again_stands_there_unless_it_was_replaced() {
        let mut locations = EntryLocations::default();
        for index in 3..6 {
            locations.put(RANGE, LogIndex(index), place(index * 100));
        }
        let span = locations.span_after(RANGE, LogIndex(3)).unwrap();
        assert_eq!((span.first, span.last, span.bytes), (LogIndex(4), LogIndex(5), 80));
        assert_eq!(locations.span_after(RANGE, LogIndex(5)), None);
        locations.put(RANGE, LogIndex(5), place(2000));
        for index in 3..8 {
            locations.move_to(RANGE, LogIndex(index), place(1000 + index));
        }
        let stands = (3..8).map(|index| locations.at(RANGE, LogIndex(index)).map(|at| at.position));
        assert!(stands.eq([Some(1003), Some(1004), Some(2000), None, None]));
    }

    #[test]
    fn of_a_log_that_is_void_no_place_is_left() {
        let mut locations = EntryLocations::default();
        (3..6).for_each(|index| locations.put(RANGE, LogIndex(index), place(index * 100)));
        locations.put_again(RANGE, LogIndex(3), place(900));
        locations.forget_all(RANGE);
        assert_eq!(locations.first_after(RANGE, LogIndex(0)), None);
        locations.put(RANGE, LogIndex(10), place(1000));
        assert_eq!(locations.first_after(RANGE, LogIndex(0)), Some(place(1000)));
    }

    #[test]
    fn place_of_an_entry_takes_sixteen_bytes() {
        assert_eq!(size_of::<Location>(), 16);
    }
}
