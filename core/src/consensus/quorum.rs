//! What a majority agrees on, and what a whole configuration does: while it is joint, only what both
//! of its halves agree on. Nothing outside this file counts voters.

use super::membership::Membership;
use crate::ids::StoreId;

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

impl Membership {
    /// The highest value that a quorum has reached: a commit index, a round, a time.
    ///
    /// # Panics
    /// If the configuration is not known: nothing is decided by it then.
    pub fn reached<T: Ord>(&self, value: impl Fn(StoreId) -> T) -> T {
        let incoming = majority_reached(self.voters(), &value);
        let incoming = incoming.expect("who decides something knows the voters");
        match majority_reached(self.outgoing(), &value) {
            Some(outgoing) => incoming.min(outgoing),
            None => incoming,
        }
    }

    /// Count answers; `None` is one that is missing. Nobody wins in a configuration that is not
    /// known.
    pub fn tally(&self, answer: impl Fn(StoreId) -> Option<bool>) -> Tally {
        let incoming = majority_tally(self.voters(), &answer);
        if self.outgoing().is_empty() {
            return incoming;
        }
        match (incoming, majority_tally(self.outgoing(), &answer)) {
            (Tally::Won, Tally::Won) => Tally::Won,
            (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
            _ => Tally::Pending,
        }
    }
}

/// The highest value that more than half of `ids` have reached; `None` if there are none.
fn majority_reached<T: Ord>(ids: &[StoreId], value: impl Fn(StoreId) -> T) -> Option<T> {
    let mut values: Vec<T> = ids.iter().map(|id| value(*id)).collect();
    values.sort_unstable();
    // Of 2k + 1 ascending values, the middle one is reached by k + 1.
    (!values.is_empty()).then(|| values.swap_remove(ids.len() / 2))
}

fn majority_tally(ids: &[StoreId], answer: impl Fn(StoreId) -> Option<bool>) -> Tally {
    let (mut yes, mut no) = (0, 0);
    for id in ids {
        match answer(*id) {
            Some(true) => yes += 1,
            Some(false) => no += 1,
            None => {}
        }
    }
    let quorum = ids.len() / 2 + 1;
    if yes >= quorum {
        Tally::Won
    } else if no + quorum > ids.len() && !ids.is_empty() {
        Tally::Lost
    } else {
        Tally::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(count: u64) -> Membership {
        Membership::of((1..=count).map(StoreId).collect())
    }

    /// Incoming 1 2 4, outgoing 1 2 3, and 5 learns.
    fn joint() -> Membership {
        let ids = |ids: &[u64]| ids.iter().copied().map(StoreId).collect();
        Membership::new(ids(&[1, 2, 4]), ids(&[1, 2, 3]), ids(&[5])).unwrap()
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
    fn both_halves_of_a_joint_configuration_must_reach_a_value() {
        for (values, expected) in [
            ([9, 9, 0, 0, 0], 9),
            ([9, 5, 9, 0, 9], 5),
            ([9, 0, 9, 0, 9], 0),
            ([9, 0, 0, 9, 9], 0),
            ([0, 0, 9, 9, 9], 0),
            ([4, 1, 9, 6, 9], 4),
        ] {
            let of = |id: StoreId| values[usize::try_from(id.0 - 1).unwrap()];
            assert_eq!(joint().reached(of), expected, "{values:?}");
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
    fn a_vote_is_won_in_both_halves_and_lost_in_either() {
        for (yes, no, expected) in [
            (&[1, 2][..], &[][..], Tally::Won),
            (&[1, 3], &[], Tally::Pending),
            (&[1, 3], &[2], Tally::Pending),
            (&[1, 3, 5], &[2, 4], Tally::Lost),
            (&[1, 4], &[2, 3], Tally::Lost),
            (&[1, 3, 4], &[2], Tally::Won),
            (&[5], &[], Tally::Pending),
        ] {
            let answer = |id: StoreId| match id.0 {
                n if yes.contains(&n) => Some(true),
                n if no.contains(&n) => Some(false),
                _ => None,
            };
            assert_eq!(joint().tally(answer), expected, "yes {yes:?}, no {no:?}");
        }
    }

    #[test]
    fn nobody_wins_where_no_voters_are_known() {
        assert_eq!(Membership::default().tally(|_| Some(true)), Tally::Pending);
    }
}
