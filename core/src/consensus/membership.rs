//! Who belongs to a range: voters, while they change the former voters too (joint consensus), and
//! learners, who get the log and count for nothing.
//!
//! ```text
//!   voters 1 2 3 ── AddLearner(4) ─▶ voters 1 2 3, learner 4
//!                                          │ Swap { remove: 3, add: 4 }
//!                                          ▼
//!   voters 1 2 4 ◀── leave ── voters 1 2 4, outgoing 1 2 3    (both majorities decide)
//! ```
//!
//! A configuration is an entry of the log. It is in force on a replica from the moment when the entry
//! is *appended* there, and no longer once the entry is cut off again; so each replica keeps the
//! configurations of its log ([`History`]). One change is under way at a time: a leader proposes the
//! next when the former is committed, and leaves the joint phase by itself.
//!
//! Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), 4.2.1, 4.2.2 and 4.3; etcd/raft
//! for leaving the joint phase automatically.

use core::fmt;
use std::collections::VecDeque;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::ids::{LogIndex, StoreId};

/// First byte of an encoded membership.
const VERSION: u8 = 1;

/// Replicas in each list of a membership.
const REPLICAS_MAX: usize = 32;

/// One configuration of a range. The default is the one that nobody knows yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    /// Ascending, an odd number; none if the configuration is not known.
    voters: Vec<StoreId>,
    /// The former voters while the configuration is joint; else none.
    outgoing: Vec<StoreId>,
    /// Ascending; none of them votes.
    learners: Vec<StoreId>,
}

/// A change of membership. Voters are only ever exchanged one for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A replica gets the log from now on.
    AddLearner(StoreId),
    /// It does so no more.
    RemoveLearner(StoreId),
    /// A learner that has caught up takes the place of a voter, by way of a joint configuration.
    Swap {
        /// A voter, perhaps the leader itself.
        remove: StoreId,
        /// A learner.
        add: StoreId,
    },
}

/// Why a change was not proposed. The log is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// This replica does not lead; who does, as far as it knows.
    NotLeader(Option<StoreId>),
    /// The former change is not complete, the leader is new, or leadership is being handed over:
    /// later.
    InProgress,
    /// The learner's log is not close enough behind the leader's, or it was not heard lately: later.
    NotCaughtUp(StoreId),
    /// It is a member already.
    AlreadyMember(StoreId),
    /// It is not a learner.
    NotLearner(StoreId),
    /// It is not a voter.
    NotVoter(StoreId),
    /// There are as many learners as there may be.
    TooManyLearners,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader(Some(leader)) => write!(f, "not the leader; {leader} is"),
            Self::NotLeader(None) => f.write_str("not the leader, and none is known"),
            Self::InProgress => {
                f.write_str("another change or a hand-over is under way; try later")
            }
            Self::NotCaughtUp(id) => write!(f, "{id} has not caught up with the log yet"),
            Self::AlreadyMember(id) => write!(f, "{id} is a member already"),
            Self::NotLearner(id) => write!(f, "{id} is not a learner"),
            Self::NotVoter(id) => write!(f, "{id} is not a voter"),
            Self::TooManyLearners => write!(f, "{REPLICAS_MAX} learners are as many as may be"),
        }
    }
}

impl core::error::Error for ChangeError {}

impl Membership {
    /// `voters` and nobody else.
    ///
    /// # Panics
    /// If their number is even or above 32, or one is there twice: that is no configuration of ours.
    pub fn of(voters: Vec<StoreId>) -> Self {
        Self::new(voters, Vec::new(), Vec::new()).expect("an odd number of voters, each once")
    }

    /// A configuration; joint if there are `outgoing` voters. Any order will do.
    ///
    /// # Errors
    /// What is wrong: an even number of voters, one twice, learners who vote, too many, or none
    /// where others are.
    pub fn new(
        mut voters: Vec<StoreId>,
        mut outgoing: Vec<StoreId>,
        mut learners: Vec<StoreId>,
    ) -> Result<Self, &'static str> {
        for ids in [&mut voters, &mut outgoing, &mut learners] {
            ids.sort_unstable();
            if ids.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err("a replica is there twice");
            }
            if ids.len() > REPLICAS_MAX {
                return Err("too many replicas");
            }
        }
        let membership = Self { voters, outgoing, learners };
        if membership.learners.iter().any(|id| membership.is_voter(*id)) {
            return Err("a learner votes");
        }
        let odd = |ids: &[StoreId]| ids.len() % 2 == 1;
        let has_voters = odd(&membership.voters)
            && (membership.outgoing.is_empty() || odd(&membership.outgoing));
        if has_voters || membership == Self::default() {
            Ok(membership)
        } else {
            Err("an even number of voters")
        }
    }

    /// The voters; while it is joint, those to come. Ascending.
    pub fn voters(&self) -> &[StoreId] {
        &self.voters
    }

    /// While it is joint, the former voters, ascending; else none.
    pub fn outgoing(&self) -> &[StoreId] {
        &self.outgoing
    }

    /// The learners, ascending.
    pub fn learners(&self) -> &[StoreId] {
        &self.learners
    }

    /// Whether two majorities decide.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether anything is known at all.
    pub fn is_known(&self) -> bool {
        !self.voters.is_empty()
    }

    /// Whether `id` votes, in whichever half.
    pub fn is_voter(&self, id: StoreId) -> bool {
        self.voters.binary_search(&id).is_ok() || self.outgoing.binary_search(&id).is_ok()
    }

    /// Whether `id` gets the log without a vote.
    pub fn is_learner(&self, id: StoreId) -> bool {
        self.learners.binary_search(&id).is_ok()
    }

    /// The voters of both halves, each once.
    pub fn all_voters(&self) -> impl Iterator<Item = StoreId> + '_ {
        let outgoing = self.outgoing.iter().filter(|id| self.voters.binary_search(id).is_err());
        self.voters.iter().chain(outgoing).copied()
    }

    /// Everybody, each once.
    pub fn members(&self) -> impl Iterator<Item = StoreId> + '_ {
        self.all_voters().chain(self.learners.iter().copied())
    }

    /// The configuration that `change` makes of one that is not joint; a swap makes it joint.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn change(&self, change: Change) -> Result<Self, ChangeError> {
        if self.is_joint() {
            return Err(ChangeError::InProgress);
        }
        let mut next = self.clone();
        match change {
            Change::AddLearner(id) => {
                if self.is_voter(id) || self.is_learner(id) {
                    return Err(ChangeError::AlreadyMember(id));
                }
                if self.learners.len() == REPLICAS_MAX {
                    return Err(ChangeError::TooManyLearners);
                }
                next.learners.push(id);
                next.learners.sort_unstable();
            }
            Change::RemoveLearner(id) => {
                let at = self.learners.binary_search(&id);
                next.learners.remove(at.map_err(|_| ChangeError::NotLearner(id))?);
            }
            Change::Swap { remove, add } => {
                let at = self.learners.binary_search(&add);
                next.learners.remove(at.map_err(|_| ChangeError::NotLearner(add))?);
                let at = self.voters.binary_search(&remove);
                next.outgoing.clone_from(&self.voters);
                next.voters[at.map_err(|_| ChangeError::NotVoter(remove))?] = add;
                next.voters.sort_unstable();
            }
        }
        Ok(next)
    }

    /// The configuration after the joint phase.
    #[must_use]
    pub fn leave(&self) -> Self {
        Self { outgoing: Vec::new(), ..self.clone() }
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &[StoreId]| {
            let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
            ids.join(",")
        };
        if !self.is_known() {
            return f.write_str("unknown");
        }
        f.write_str(&list(&self.voters))?;
        if self.is_joint() {
            write!(f, "&{}", list(&self.outgoing))?;
        }
        if !self.learners.is_empty() {
            write!(f, "+{}", list(&self.learners))?;
        }
        Ok(())
    }
}

impl Wire for Membership {
    fn encode(&self, out: &mut Encoder) {
        out.u8(VERSION);
        out.list(&self.voters);
        out.list(&self.outgoing);
        out.list(&self.learners);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.version("membership", VERSION)?;
        let voters: Vec<StoreId> = input.list("voters", REPLICAS_MAX)?;
        let outgoing: Vec<StoreId> = input.list("outgoing voters", REPLICAS_MAX)?;
        let learners: Vec<StoreId> = input.list("learners", REPLICAS_MAX)?;
        let ascending = |ids: &[StoreId]| ids.windows(2).all(|pair| pair[0] < pair[1]);
        if ![&voters, &outgoing, &learners].into_iter().all(|ids| ascending(ids)) {
            return Err(DecodeError::Invalid { what: "membership: not ascending" });
        }
        Self::new(voters, outgoing, learners).map_err(|what| DecodeError::Invalid { what })
    }
}

/// The configurations of a replica's log.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// The one that was in force at the log's base (with an index at or below the base), then those
    /// of the log's entries, ascending. Never empty.
    steps: VecDeque<(LogIndex, Membership)>,
}

impl History {
    /// The configuration at `base`, if anything is known of it, and those of the log after it.
    ///
    /// # Panics
    /// If the indexes do not ascend from `base` on, or go beyond `last`.
    pub(super) fn new(
        base: LogIndex,
        recovered: Vec<(LogIndex, Membership)>,
        last: LogIndex,
    ) -> Self {
        let mut steps: VecDeque<_> = recovered.into();
        if steps.front().is_none_or(|(first, _)| *first > base) {
            steps.push_front((base, Membership::default()));
        }
        let history = Self { steps };
        history.check(base, last);
        history
    }

    /// The configuration in force.
    pub(super) fn latest(&self) -> &Membership {
        &self.newest().1
    }

    /// The entry that brought it.
    pub(super) fn latest_index(&self) -> LogIndex {
        self.newest().0
    }

    fn newest(&self) -> &(LogIndex, Membership) {
        self.steps.back().expect("a history is never empty")
    }

    /// The configuration before the one in force, as far as the log reaches back.
    pub(super) fn former(&self) -> Option<&Membership> {
        let at = self.steps.len().checked_sub(2)?;
        self.steps.get(at).map(|(_, membership)| membership)
    }

    /// The configuration that was in force with `index` as the end of the log; `None` before the
    /// first that is kept.
    pub(super) fn at(&self, index: LogIndex) -> Option<&Membership> {
        let step = self.steps.iter().rev().find(|(first, _)| *first <= index);
        step.map(|(_, membership)| membership)
    }

    /// An entry that brings a configuration was appended.
    pub(super) fn push(&mut self, index: LogIndex, membership: Membership) {
        assert!(index > self.latest_index(), "configurations come in the order of the log");
        self.steps.push_back((index, membership));
    }

    /// The log was cut from `index` on.
    pub(super) fn truncate(&mut self, index: LogIndex) {
        while self.steps.len() > 1 && self.latest_index() >= index {
            self.steps.pop_back();
        }
    }

    /// The log begins after `through` now.
    pub(super) fn compact(&mut self, through: LogIndex) {
        while self.steps.get(1).is_some_and(|(index, _)| *index <= through) {
            self.steps.pop_front();
        }
    }

    /// A snapshot took the place of the log.
    pub(super) fn reset(&mut self, base: LogIndex, membership: Membership) {
        self.steps.clear();
        self.steps.push_back((base, membership));
    }

    pub(super) fn check(&self, base: LogIndex, last: LogIndex) {
        let (first, _) = self.steps.front().expect("a history is never empty");
        assert!(*first <= base, "the configuration at the base is kept");
        let in_log = self.steps.iter().skip(1).all(|(index, _)| *index > base && *index <= last);
        assert!(in_log, "configurations after the base are entries of the log");
        let pairs = self.steps.iter().zip(self.steps.iter().skip(1));
        assert!(pairs.into_iter().all(|((a, _), (b, _))| a < b), "configurations ascend");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> Vec<StoreId> {
        ids.iter().copied().map(StoreId).collect()
    }

    fn membership(voters: &[u64], outgoing: &[u64], learners: &[u64]) -> Membership {
        Membership::new(ids(voters), ids(outgoing), ids(learners)).unwrap()
    }

    #[test]
    fn changes_go_the_way_that_the_diagram_shows() {
        let three = Membership::of(ids(&[3, 1, 2]));
        let learning = three.change(Change::AddLearner(StoreId(4))).unwrap();
        assert_eq!(learning, membership(&[1, 2, 3], &[], &[4]));
        let swap = Change::Swap { remove: StoreId(3), add: StoreId(4) };
        let joint = learning.change(swap).unwrap();
        assert_eq!(joint, membership(&[1, 2, 4], &[1, 2, 3], &[]));
        assert_eq!(joint.all_voters().collect::<Vec<_>>(), ids(&[1, 2, 4, 3]));
        assert_eq!(joint.change(Change::AddLearner(StoreId(5))), Err(ChangeError::InProgress));
        assert_eq!(joint.leave(), Membership::of(ids(&[1, 2, 4])));
        let removed = learning.change(Change::RemoveLearner(StoreId(4))).unwrap();
        assert_eq!(removed, three);
    }

    #[test]
    fn changes_that_make_no_sense_are_refused() {
        let learning = membership(&[1, 2, 3], &[], &[4]);
        for (change, error) in [
            (Change::AddLearner(StoreId(1)), ChangeError::AlreadyMember(StoreId(1))),
            (Change::AddLearner(StoreId(4)), ChangeError::AlreadyMember(StoreId(4))),
            (Change::RemoveLearner(StoreId(1)), ChangeError::NotLearner(StoreId(1))),
            (
                Change::Swap { remove: StoreId(1), add: StoreId(2) },
                ChangeError::NotLearner(StoreId(2)),
            ),
            (
                Change::Swap { remove: StoreId(4), add: StoreId(4) },
                ChangeError::NotVoter(StoreId(4)),
            ),
        ] {
            assert_eq!(learning.change(change), Err(error), "{change:?}");
        }
    }

    #[test]
    fn configurations_that_make_no_sense_are_not_decoded() {
        for (voters, outgoing, learners) in [
            (&[1, 2][..], &[][..], &[][..]),
            (&[2, 1, 3], &[], &[]),
            (&[1, 1, 3], &[], &[]),
            (&[1, 2, 3], &[1, 2], &[]),
            (&[1, 2, 3], &[], &[3]),
            (&[1, 2, 3], &[2, 3, 4], &[4]),
            (&[], &[], &[4]),
            (&[], &[1], &[]),
        ] {
            let mut out = Encoder::new();
            out.u8(VERSION);
            [voters, outgoing, learners].iter().for_each(|list| out.list(&ids(list)));
            let decoded = Membership::from_bytes(&out.finish());
            assert!(matches!(decoded, Err(DecodeError::Invalid { .. })), "{decoded:?}");
        }
    }

    #[test]
    fn the_document_shows_the_bytes_of_a_membership() {
        let document = include_str!("../../../docs/disk-format.md");
        let bytes = membership(&[1, 2, 4], &[1, 2, 3], &[5]).to_bytes();
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let lines: Vec<String> = hex.chunks(28).map(|line| line.join(" ")).collect();
        assert!(document.contains(&lines.join("\n")), "expected:\n{}", lines.join("\n"));
        assert_eq!(Membership::from_bytes(&bytes), Ok(membership(&[1, 2, 4], &[1, 2, 3], &[5])));
    }

    #[test]
    fn a_history_follows_the_log() {
        let one = Membership::of(ids(&[1]));
        let two = membership(&[1], &[], &[2]);
        let three = membership(&[1], &[], &[2, 3]);
        let mut history = History::new(LogIndex(0), vec![(LogIndex(0), one.clone())], LogIndex(9));
        history.push(LogIndex(3), two.clone());
        history.push(LogIndex(7), three.clone());
        assert_eq!(history.at(LogIndex(2)), Some(&one));
        assert_eq!(history.at(LogIndex(3)), Some(&two));
        assert_eq!((history.latest(), history.former()), (&three, Some(&two)));
        history.truncate(LogIndex(7));
        assert_eq!((history.latest(), history.latest_index()), (&two, LogIndex(3)));
        history.compact(LogIndex(2));
        assert_eq!(history.at(LogIndex(2)), Some(&one));
        history.compact(LogIndex(3));
        assert_eq!((history.at(LogIndex(2)), history.at(LogIndex(5))), (None, Some(&two)));
        history.check(LogIndex(4), LogIndex(9));
        history.truncate(LogIndex(1));
        assert_eq!(history.latest(), &two, "what the base has is never cut");
        history.reset(LogIndex(20), three.clone());
        assert_eq!((history.latest(), history.former()), (&three, None));
    }

    #[test]
    fn a_history_may_begin_with_nothing_known() {
        let history = History::new(LogIndex(5), Vec::new(), LogIndex(5));
        assert!(!history.latest().is_known());
        let one = Membership::of(ids(&[1]));
        let history = History::new(LogIndex(5), vec![(LogIndex(7), one.clone())], LogIndex(7));
        assert_eq!(history.latest(), &one);
        assert!(history.at(LogIndex(6)).is_some_and(|membership| !membership.is_known()));
    }
}
