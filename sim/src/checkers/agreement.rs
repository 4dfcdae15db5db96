//! Replicas of a range agree: equal state at equal applied index, one leader in each term, nothing
//! that was committed goes away.

use std::collections::{BTreeMap, BTreeSet};

/// A replica as it shows itself at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    /// Which range.
    pub range: u64,
    /// Its term.
    pub term: u64,
    /// Whether it leads.
    pub leads: bool,
    /// The end of its log.
    pub last_index: u64,
    /// What it knows to be committed.
    pub commit: u64,
    /// What it has applied, and the hash of its state there; `None` while state is being loaded.
    pub applied: Option<(u64, u128)>,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Agreement {
    hashes: BTreeMap<(u64, u64), (u128, usize)>,
    leaders: BTreeMap<(u64, u64), usize>,
    latest: BTreeMap<(usize, u64), ReplicaView>,
}

impl Agreement {
    /// Store number `store` shows a replica.
    ///
    /// # Errors
    /// Says what contradicts what.
    pub fn observe(&mut self, store: usize, view: ReplicaView) -> Result<(), String> {
        let before = self.latest.insert((store, view.range), view);
        if before == Some(view) {
            return Ok(());
        }
        if let Some(before) = before
            && before.term > view.term
        {
            return Err(format!(
                "store {store} went back from term {} to {}",
                before.term, view.term
            ));
        }
        if view.commit > view.last_index {
            return Err(format!(
                "store {store} knows {} to be committed, its log ends at {}",
                view.commit, view.last_index
            ));
        }
        if view.leads {
            let leader = *self.leaders.entry((view.range, view.term)).or_insert(store);
            if leader != store {
                return Err(format!("stores {leader} and {store} lead in term {}", view.term));
            }
        }
        if let Some((index, hash)) = view.applied {
            let (expected, by) = *self.hashes.entry((view.range, index)).or_insert((hash, store));
            if expected != hash {
                return Err(format!(
                    "at index {index}, store {store} has state {hash:032x} and store {by} had \
                     {expected:032x}"
                ));
            }
        }
        Ok(())
    }

    /// The hash of the state of `range` after an entry, if a replica has shown it.
    pub fn hash_at(&self, range: u64, index: u64) -> Option<u128> {
        self.hashes.get(&(range, index)).map(|(hash, _)| *hash)
    }

    /// A store has lost power or was killed: what it shows next may lie before what it showed last,
    /// but for its term, which it had to keep.
    pub fn restarted(&mut self, store: usize) {
        for ((of, _), view) in &mut self.latest {
            if *of == store {
                // A term is shown before it is durable; a crash may take it back.
                view.term = 0;
                // What it has applied it must show anew.
                view.applied = None;
            }
        }
    }

    /// A store is gone for ever: nothing more is expected of it.
    pub fn gone(&mut self, store: usize) {
        self.latest.retain(|(of, _), _| *of != store);
    }

    /// Whether the latest views of these stores are at one index. True if nobody shows views.
    pub fn settled(&self, stores: &[usize]) -> bool {
        let ranges: BTreeSet<u64> = self.latest.keys().map(|(_, range)| *range).collect();
        ranges.iter().all(|range| {
            let views = stores.iter().map(|store| self.latest.get(&(*store, *range)));
            let mut indexes = views.map(|view| view.and_then(|view| view.applied).map(|at| at.0));
            let first = indexes.next().flatten();
            first.is_some() && indexes.all(|index| index == first)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(term: u64, leads: bool, index: u64, hash: u128) -> ReplicaView {
        let (last_index, commit) = (index, index);
        ReplicaView { range: 1, term, leads, last_index, commit, applied: Some((index, hash)) }
    }

    #[test]
    fn equal_states_settle_and_unequal_ones_are_found() {
        let mut agreement = Agreement::default();
        assert_eq!(agreement.observe(0, view(1, true, 5, 77)), Ok(()));
        assert_eq!(agreement.observe(1, view(1, false, 4, 66)), Ok(()));
        assert!(!agreement.settled(&[0, 1]));
        assert!(agreement.observe(1, view(1, false, 5, 78)).is_err());
        assert_eq!(agreement.observe(1, view(1, false, 5, 77)), Ok(()));
        assert!(agreement.settled(&[0, 1]));
        assert!(!agreement.settled(&[0, 1, 2]), "the third shows nothing");
    }

    #[test]
    fn two_leaders_of_one_term_are_found() {
        let mut agreement = Agreement::default();
        assert_eq!(agreement.observe(0, view(3, true, 0, 0)), Ok(()));
        assert_eq!(agreement.observe(1, view(4, true, 0, 0)), Ok(()));
        assert!(agreement.observe(2, view(3, true, 0, 0)).is_err());
    }

    #[test]
    fn term_goes_back_only_over_a_crash() {
        let mut agreement = Agreement::default();
        assert_eq!(agreement.observe(0, view(3, false, 0, 0)), Ok(()));
        assert!(agreement.observe(0, view(2, false, 0, 0)).is_err());
        assert_eq!(agreement.observe(1, view(3, false, 0, 0)), Ok(()));
        agreement.restarted(1);
        assert_eq!(agreement.observe(1, view(2, false, 0, 0)), Ok(()));
    }
}
