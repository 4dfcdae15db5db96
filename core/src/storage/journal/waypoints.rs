//! Frames at which the journal may begin: not all of them, so that the memory is bounded.

use std::collections::VecDeque;

use crate::storage::superblock::Tail;

/// The ring is cut at places this part of it apart, or further.
const PARTS: u64 = 256;

/// Places of frames, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waypoints {
    spacing: u64,
    places: VecDeque<Tail>,
}

impl Waypoints {
    /// None yet, in a ring of so many bytes.
    pub(super) fn new(ring_bytes: u64) -> Self {
        Self { spacing: ring_bytes / PARTS, places: VecDeque::new() }
    }

    /// A frame stands at `place`.
    pub(super) fn pass(&mut self, place: Tail) {
        let last = self.places.back().map(|last| last.position);
        if last.is_none_or(|last| place.position >= last + self.spacing) {
            self.places.push_back(place);
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

    fn place(position: u64) -> Tail {
        Tail { position, ..Tail::default() }
    }

    #[test]
    fn places_are_kept_apart_and_given_up_from_the_front() {
        let mut waypoints = Waypoints::new(256 * 100);
        assert_eq!(waypoints.last_before(5), None);
        for position in [0, 40, 99, 100, 150, 300] {
            waypoints.pass(place(position));
        }
        assert_eq!(waypoints.last_before(0), Some(place(0)));
        assert_eq!(waypoints.last_before(299), Some(place(100)));
        assert_eq!(waypoints.last_before(1000), Some(place(300)));
        waypoints.forget_before(100);
        assert_eq!(waypoints.last_before(99), None);
        assert_eq!(waypoints.last_before(100), Some(place(100)));
    }
}
