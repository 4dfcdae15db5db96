//! Whom a gateway asks: who is believed to lead the range, who has fallen silent, and who is asked
//! next while nobody is known to lead.
//!
//! Belief costs nothing but time when it is wrong: any voter passes a call on to the leader that it
//! knows, and a command that is asked for twice takes effect once.

use std::collections::BTreeMap;

use crate::ids::StoreId;
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// While nobody is known to lead, one voter is asked so often, by one call for all that wait. It is
/// what a search can add to an election.
const SEARCH_EVERY: Duration = Duration::from_millis(20);
/// A search that goes on for so many turns (about a second) is a cluster without two zones.
const SEARCH_TURNS: u32 = 50;
/// After so many turns in vain, stores are asked too that have greeted but are no voters by the map that
/// we have: all voters that it names may have been replaced since.
const STRANGERS_AFTER_TURNS: u32 = 12;
/// From then on there is this much time between two turns.
const SEARCH_LATER_EVERY: Duration = Duration::from_millis(100);
/// A store that was silent is believed to lead again after so long, on another's word.
const DOUBT_FOR: Duration = Duration::from_secs(2);
/// One turn of so many asks a store that was silent, if one was.
const DOUBTED_TURN: u32 = 4;
/// One turn of so many asks a stranger, once they are asked.
const STRANGERS_TURN: u32 = 3;

/// What is known about who leads.
#[derive(Debug, Default)]
pub(super) struct Leader {
    leader: Option<StoreId>,
    /// A voter that reaches a leader which we do not reach.
    via: Option<StoreId>,
    /// Stores that were silent, and until when that counts.
    doubts: BTreeMap<StoreId, Instant>,
    /// When each store last answered anything.
    heard: BTreeMap<StoreId, Instant>,
    usual: Usual,
    /// Of those who are asked in turn, who was asked last: voters, strangers, those who were silent.
    asked: [Option<StoreId>; 3],
    turns: u32,
}

/// How long answers take: mean and mean deviation, as in RFC 6298.
#[derive(Debug, Default)]
struct Usual {
    mean: Duration,
    deviation: Duration,
}

impl Leader {
    /// Where calls go, if anybody is believed to lead.
    pub(super) fn target(&self) -> Option<StoreId> {
        self.leader.or(self.via)
    }

    /// A store sent something: it is not silent.
    pub(super) fn heard(&mut self, now: Instant, from: StoreId) {
        self.doubts.remove(&from);
        self.heard.insert(from, now);
    }

    /// Whether a store has sent anything since `at`.
    pub(super) fn was_heard_since(&self, store: StoreId, at: Instant) -> bool {
        self.heard.get(&store).is_some_and(|heard| *heard > at)
    }

    /// `by` answered as only the leader does, and the answer came from `from`.
    pub(super) fn answered(&mut self, now: Instant, from: StoreId, by: StoreId) {
        if from != by && self.is_doubted(now, by) {
            (self.leader, self.via) = (None, Some(from));
        } else {
            (self.leader, self.via) = (Some(by), None);
        }
    }

    /// An answer took so long.
    pub(super) fn took(&mut self, took: Duration) {
        let Usual { mean, deviation } = &mut self.usual;
        if *mean == Duration::ZERO {
            (*mean, *deviation) = (took, took / 2);
            return;
        }
        *deviation = (*deviation * 3 + took.abs_diff(*mean)) / 4;
        *mean = (*mean * 7 + took) / 8;
    }

    /// How long an answer may take before its store counts as silent, unless it is heard otherwise.
    pub(super) fn patience(&self, least: Duration, most: Duration) -> Duration {
        (self.usual.mean + self.usual.deviation * 4).max(least).min(most)
    }

    /// `from` does not lead, and says who does: whether that may be believed.
    pub(super) fn refused(&mut self, now: Instant, from: StoreId, says: Option<StoreId>) -> bool {
        self.lost(from);
        let Some(says) = says.filter(|says| *says != from && !self.is_doubted(now, *says)) else {
            return false;
        };
        if buggify!(LeaderDoubted) {
            return false;
        }
        (self.leader, self.via) = (Some(says), None);
        true
    }

    /// What was believed of the leader did not prove true.
    pub(super) fn forget(&mut self) {
        (self.leader, self.via) = (None, None);
    }

    /// A store leads no more, or has forgotten what it was asked.
    pub(super) fn lost(&mut self, store: StoreId) {
        self.leader.take_if(|leader| *leader == store);
        self.via.take_if(|via| *via == store);
    }

    /// A store was silent, or cannot be reached. If it only passes calls on, the silence is most
    /// likely that of the one behind it.
    pub(super) fn doubt(&mut self, now: Instant, store: StoreId, is_reachable: bool) {
        if self.via != Some(store) || !is_reachable {
            self.doubts.insert(store, now + DOUBT_FOR);
        }
        self.lost(store);
    }

    pub(super) fn is_doubted(&self, now: Instant, store: StoreId) -> bool {
        self.doubts.get(&store).is_some_and(|until| *until > now)
    }

    /// Begin to ask around.
    pub(super) fn search(&mut self) {
        self.turns = 0;
    }

    /// The next store to ask: voters in turn; the silent ones more seldom, `strangers` after some time. Each of
    /// the three has a turn of its own: whom one turn leaves out, no other may pass over.
    pub(super) fn next(
        &mut self,
        now: Instant,
        voters: &[StoreId],
        strangers: impl Iterator<Item = StoreId>,
    ) -> StoreId {
        self.turns = self.turns.saturating_add(1);
        let doubted = |store: &StoreId| self.is_doubted(now, *store);
        let (silent, voters): (Vec<_>, Vec<_>) = voters.iter().copied().partition(doubted);
        let (silent_strangers, strangers): (Vec<_>, Vec<_>) = match self.turns {
            ..=STRANGERS_AFTER_TURNS => Default::default(),
            _ => strangers.partition(doubted),
        };
        let silent = [silent, silent_strangers].concat();
        let lists = [voters, strangers, silent];
        let wanted = match self.turns {
            turns if turns.is_multiple_of(DOUBTED_TURN) => 2,
            turns if turns.is_multiple_of(STRANGERS_TURN) => 1,
            _ => 0,
        };
        let list = [wanted, 0, 2, 1].into_iter().find(|list| !lists[*list].is_empty());
        let list = list.expect("every range has voters");
        let after = |store: &&StoreId| (Some(**store) <= self.asked[list], **store);
        let next = *lists[list].iter().min_by_key(after).expect("it is not empty");
        self.asked[list] = Some(next);
        next
    }

    /// How long until another voter is asked; at random by half, so that gateways do not ask in step.
    pub(super) fn pause(&self, rng: &mut Rng) -> Duration {
        let every = if self.turns < SEARCH_TURNS { SEARCH_EVERY } else { SEARCH_LATER_EVERY };
        // Where answers take long, several are under way at any time; few enough to be remembered.
        let every = every.max(self.usual.mean / 2);
        let half = u64::try_from(every.as_nanos() / 2).unwrap_or(u64::MAX);
        Duration::from_nanos(half + rng.below(half.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A gateway that starts with the first map of a cluster all of whose stores were replaced since
    // would ask stores that are gone for ever.
    #[test]
    fn stores_that_greeted_are_asked_when_no_voter_of_the_map_knows_a_leader() {
        let voters = [StoreId(1), StoreId(2), StoreId(3)];
        let mut leader = Leader::default();
        leader.search();
        let asked: Vec<StoreId> = (0..24)
            .map(|_| leader.next(Instant::ZERO, &voters, [StoreId(9)].into_iter()))
            .collect();
        let known = STRANGERS_AFTER_TURNS as usize;
        assert!(asked[..known].iter().all(|store| voters.contains(store)), "{asked:?}");
        assert!(asked[known..].contains(&StoreId(9)), "{asked:?}");
    }

    // The silent old leader was asked in each fourth turn, and the turn went on behind it: the other voters, of which
    // one led by now, were passed over for as long as there were strangers behind it.
    #[test]
    fn no_voter_is_passed_over_for_the_sake_of_silent_stores_or_strangers() {
        let voters = [1, 2, 3].map(StoreId);
        for silent in [vec![], vec![3], vec![1, 3], vec![2, 7]] {
            let mut leader = Leader::default();
            leader.search();
            for store in &silent {
                leader.doubt(Instant::ZERO, StoreId(*store), false);
            }
            let mut next = || leader.next(Instant::ZERO, &voters, (4..=9).map(StoreId));
            let asked: Vec<StoreId> = (0..200).map(|_| next()).collect();
            for (at, turns) in asked.windows(8).enumerate() {
                for voter in voters.iter().filter(|voter| !silent.contains(&voter.0)) {
                    assert!(turns.contains(voter), "{silent:?}, {at}: {turns:?}");
                }
            }
            for store in (1..=9).map(StoreId) {
                let times = asked.iter().filter(|asked| **asked == store).count();
                assert!(times > 5, "{silent:?}: {store} {times} times");
            }
        }
    }
}
