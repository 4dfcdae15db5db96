//! Who counts, and what a majority of them agrees on. The seam for learners and joint consensus:
//! nothing outside this file counts voters.

use crate::ids::StoreId;

/// The voters of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voters {
    ids: Vec<StoreId>,
}

/// What came of asking voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// A quorum said yes.
    Won,
    /// No quorum can say yes any more.
    Lost,
    /// Answers are missing.
    Pending,
}

impl Voters {
    /// The set of `ids`.
    ///
    /// # Panics
    /// If their number is even, or one is there twice: that is no configuration of ours.
    pub fn new(mut ids: Vec<StoreId>) -> Self {
        ids.sort_unstable();
        assert!(ids.len() % 2 == 1, "an odd number of voters");
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "each voter once");
        Self { ids }
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = StoreId> + '_ {
        self.ids.iter().copied()
    }

    /// All but `id`, ascending.
    pub fn others(&self, id: StoreId) -> impl Iterator<Item = StoreId> + '_ {
        self.iter().filter(move |other| *other != id)
    }

    /// Whether `id` votes.
    pub fn contains(&self, id: StoreId) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// The highest value that a quorum has reached: a commit index, a round, a time.
    pub fn reached<T: Ord>(&self, value: impl Fn(StoreId) -> T) -> T {
        let mut values: Vec<T> = self.iter().map(value).collect();
        values.sort_unstable();
        // Of 2k + 1 ascending values, the middle one is reached by k + 1.
        values.swap_remove(self.ids.len() / 2)
    }

    /// Count answers; `None` is one that is missing.
    pub fn tally(&self, answer: impl Fn(StoreId) -> Option<bool>) -> Tally {
        let (mut yes, mut no) = (0, 0);
        for id in self.iter() {
            match answer(id) {
                Some(true) => yes += 1,
                Some(false) => no += 1,
                None => {}
            }
        }
        let quorum = self.ids.len() / 2 + 1;
        if yes >= quorum {
            Tally::Won
        } else if no > self.ids.len() - quorum {
            Tally::Lost
        } else {
            Tally::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(count: u64) -> Voters {
        Voters::new((1..=count).map(StoreId).collect())
    }

    #[test]
    fn a_majority_has_reached_the_middle_value() {
        let values = [7, 3, 9, 1, 5];
        for (count, expected) in [(1, 7), (3, 7), (5, 5)] {
            let of = |id: StoreId| values[usize::try_from(id.0 - 1).unwrap()];
            assert_eq!(voters(count).reached(of), expected, "of {count} voters");
        }
    }

    #[test]
    fn a_vote_is_won_or_lost_as_soon_as_missing_answers_cannot_matter() {
        let answers = |yes: u64, no: u64| {
            move |id: StoreId| match id.0 {
                n if n <= yes => Some(true),
                n if n <= yes + no => Some(false),
                _ => None,
            }
        };
        for (count, yes, no, expected) in [
            (1, 1, 0, Tally::Won),
            (1, 0, 0, Tally::Pending),
            (3, 1, 1, Tally::Pending),
            (3, 2, 0, Tally::Won),
            (3, 1, 2, Tally::Lost),
            (5, 2, 2, Tally::Pending),
            (5, 3, 0, Tally::Won),
            (5, 0, 3, Tally::Lost),
        ] {
            assert_eq!(voters(count).tally(answers(yes, no)), expected, "{count}: {yes}/{no}");
        }
    }

    #[test]
    #[should_panic(expected = "odd")]
    fn an_even_number_of_voters_is_refused() {
        voters(2);
    }
}
