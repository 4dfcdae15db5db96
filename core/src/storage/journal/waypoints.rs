//! Frames at which the journal may begin: not all of them, so that the memory is bounded.

use std::collections::VecDeque;

use super::record::Record;
use crate::storage::superblock::Tail;

/// The ring is cut at places this part of it apart, or further.
const PARTS: u64 = 256;

/// Places of frames, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waypoints {
    spacing: u64,
    places: VecDeque<Tail>,
    /// Records of a checkpoint that are still to come. Where they stand the journal must not begin: without the first
    /// one, which says that they are a checkpoint's, they would be taken for news.
    left: u64,
}

impl Waypoints {
    /// None yet, in a ring of so many bytes.
    pub(super) fn new(ring_bytes: u64) -> Self {
        Self { spacing: ring_bytes / PARTS, places: VecDeque::new(), left: 0 }
    }

    /// A frame with these records stands at `place`. `life_begins` with it: no checkpoint of an earlier life goes on.
    pub(super) fn pass<'a>(
        &mut self,
        place: Tail,
        life_begins: bool,
        records: impl Iterator<Item = &'a Record>,
    ) {
        if life_begins {
            self.left = 0;
        }
        let last = self.places.back().map(|last| last.position);
        if self.left == 0 && last.is_none_or(|last| place.position >= last + self.spacing) {
            self.places.push_back(place);
        }
        for record in records {
            self.left = match record {
                Record::Checkpoint { records, .. } => *records,
                _ => self.left.saturating_sub(1),
            };
        }
    }

    /// The last place that is not behind `position`.
    pub(super) fn last_before(&self, position: u64) -> Option<Tail> {
        let count = self.places.partition_point(|place| place.position <= position);
        count.checked_sub(1).map(|last| self.places[last])
    }

    /// Forget what is before `position`.
    pub(super) fn forget_before(&mut self, position: u64) {
        while self.places.front().is_some_and(|place| place.position < position) {
            self.places.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RangeId;

    fn place(position: u64) -> Tail {
        Tail { position, ..Tail::default() }
    }

    #[test]
    fn places_are_kept_apart_and_given_up_from_the_front() {
        let mut waypoints = Waypoints::new(256 * 100);
        assert_eq!(waypoints.last_before(5), None);
        for position in [0, 40, 99, 100, 150, 300] {
            waypoints.pass(place(position), false, [].iter());
        }
        assert_eq!(waypoints.last_before(0), Some(place(0)));
        assert_eq!(waypoints.last_before(299), Some(place(100)));
        assert_eq!(waypoints.last_before(1000), Some(place(300)));
        waypoints.forget_before(100);
        assert_eq!(waypoints.last_before(99), None);
        assert_eq!(waypoints.last_before(100), Some(place(100)));
    }

    // Found by the simulator (0x9005b8): the journal began at the second frame of an old checkpoint, which said
    // where the log had begun then.
    #[test]
    fn the_journal_does_not_begin_within_a_checkpoint() {
        let trusted = || Record::Trusted { range: RangeId(1) };
        let frames = [
            (0, false, vec![trusted(), Record::Checkpoint { records: 3, needed: 0 }]),
            (100, false, vec![trusted(), trusted()]),
            (200, false, vec![trusted(), trusted()]),
            (300, false, vec![Record::Checkpoint { records: 9, needed: 0 }]),
            (400, false, vec![trusted()]),
            // Its rest was lost.
            (500, true, vec![trusted()]),
        ];
        let mut waypoints = Waypoints::new(256);
        for (position, life_begins, records) in &frames {
            waypoints.pass(place(*position), *life_begins, records.iter());
        }
        let places: Vec<u64> = waypoints.places.iter().map(|place| place.position).collect();
        assert_eq!(places, [0, 300, 500]);
    }
}
