//! Mistakes that consensus can be told to make, one at a time, so that tests show that they would be
//! found. The feature `rare` is for the simulator; without it, [`Mutants::has`] is `false` and
//! nothing of this is in the program. docs/simulator.md ("Consensus gate") says how they are used.

#[cfg(feature = "rare")]
use super::config::RaftConfig;
#[cfg(feature = "rare")]
use super::membership::Membership;
#[cfg(feature = "rare")]
use super::message::{Message, MessageBody};
#[cfg(feature = "rare")]
use super::output::{Action, Output};
#[cfg(feature = "rare")]
use super::quorum::Tally;
#[cfg(feature = "rare")]
use super::raft::Raft;
#[cfg(feature = "rare")]
use crate::ids::{LogIndex, StoreId};

/// Which mistake a replica makes: none, unless the feature `rare` is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutants {
    #[cfg(feature = "rare")]
    only: Option<Mutant>,
}

impl Mutants {
    /// No mistake.
    pub const fn none() -> Self {
        Self {
            #[cfg(feature = "rare")]
            only: None,
        }
    }

    /// What the run on this thread asks for ([`crate::rare::Bug`]).
    #[cfg(feature = "rare")]
    pub fn planted() -> Self {
        let all = [
            (planted!(CommitQuorumTooSmall), Mutant::CommitQuorumTooSmall),
            (planted!(VoteQuorumTooSmall), Mutant::VoteQuorumTooSmall),
            (planted!(VoteForgotten), Mutant::VoteForgotten),
            (planted!(VoteBeforeDurable), Mutant::VoteBeforeDurable),
            (planted!(AcceptBeforeDurable), Mutant::AcceptBeforeDurable),
            (planted!(CommitOldTerm), Mutant::CommitOldTerm),
            (planted!(CommitToldEarly), Mutant::CommitToldEarly),
            (planted!(ReadUnconfirmed), Mutant::ReadUnconfirmed),
            (planted!(ReadBeforeCommit), Mutant::ReadBeforeCommit),
            (planted!(SuspectTrusted), Mutant::SuspectTrusted),
        ];
        let only = all.into_iter().find(|(is_planted, _)| *is_planted);
        Self { only: only.map(|(_, mutant)| mutant) }
    }

    /// None.
    #[cfg(not(feature = "rare"))]
    pub const fn planted() -> Self {
        Self::none()
    }

    /// One mistake.
    #[cfg(feature = "rare")]
    pub const fn only(mutant: Mutant) -> Self {
        Self { only: Some(mutant) }
    }

    /// Whether this mistake is to be made.
    #[cfg(feature = "rare")]
    pub(super) fn has(self, mutant: Mutant) -> bool {
        self.only == Some(mutant)
    }

    /// Whether this mistake is to be made: never.
    #[cfg(not(feature = "rare"))]
    #[allow(clippy::unused_self, reason = "with the feature it says something")]
    pub(super) const fn has(self, _: Mutant) -> bool {
        false
    }
}

/// Lists the mistakes, each with a sentence about it.
macro_rules! mutants {
    ($($name:ident: $text:literal,)*) => {
        /// A mistake. Its doc is what [`Mutant::text`] says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(
            not(feature = "rare"),
            allow(dead_code, unreachable_pub, reason = "nobody chooses one")
        )]
        pub enum Mutant {
            $(#[doc = $text] $name,)*
        }

        #[cfg(feature = "rare")]
        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What is wrong.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

mutants! {
    // Elections.
    VoteQuorumTooSmall: "an election is won with one vote fewer than a majority",
    VoteBeforeDurable: "a vote is sent before it is durable",
    CampaignBeforeDurable: "votes are asked for before the own vote is durable",
    OwnVoteBeforeDurable: "the own vote counts before it is durable",
    VoteTwice: "a vote is given though another was given in this term",
    VoteBesideLeader: "a vote is given though the term has a leader",
    VoteForAnyLog: "a vote is given to a candidate whose log is behind",
    VoteByLength: "logs are compared by length, not by term first",
    VoteForgotten: "the vote is forgotten over a restart",
    TermForgotten: "term and vote are forgotten over a restart, but for what the log shows",
    StaleVoteCounts: "a vote of an earlier term counts",
    StaleLeaderObeyed: "appends of an earlier term are taken",
    PreVoteRaisesTerm: "a pre-vote raises the term of who is asked",
    PreVoteWhileLed: "a pre-vote is granted by a replica that hears its leader",
    AbstainerVotes: "a replica that is to abstain votes",
    AbstainerCampaigns: "a replica that is to abstain campaigns",
    VoteUnseatsLeader: "a vote request of a higher term unseats a leader that is heard",
    NoCheckQuorum: "a leader that hears no quorum goes on leading",
    // Replication.
    CommitQuorumTooSmall: "an entry commits with one copy fewer than a majority",
    CommitOldTerm: "a leader commits entries of earlier terms by counting copies",
    AcceptBeforeDurable: "an append is acknowledged before it is durable",
    LeaderCountsUndurable: "a leader counts its own entries before they are durable",
    AcceptWholeLog: "an append is acknowledged up to the end of the own log",
    MatchingByIndexOnly: "the entry before an append is compared by index, not by term",
    AppendAlwaysCuts: "an append cuts what follows it, though the entries are the same",
    ConflictKept: "entries that conflict with the leader's are kept",
    CutKeepsDurable: "a log that was cut still counts as durable up to where it was",
    VerifiedKept: "what equals the log of one leader is taken to equal the next one's",
    CommitUnverified: "a follower takes the leader's commit index for its own log, compared or not",
    HeartbeatCommitUncapped: "a heartbeat carries the commit index, though the peer may hold less",
    CommitToldEarly: "the owner is told to apply entries that are not durable here",
    FetchedUnchecked: "entries read from the journal are sent though the log has changed",
    AppendWhileInstalling: "entries are taken while a snapshot is being installed",
    // Reads.
    ReadPreviousRound: "acknowledgements of the round before the read's count",
    ReadBeforeCommit: "a read is answered before the first commit of the term",
    ReadUnconfirmed: "a read is answered without a round",
    ReadsLostSilently: "reads that a leader cannot answer any more are dropped",
    // Membership.
    JointCommitByNewHalf: "while joint, the new half alone commits",
    JointCommitByOldHalf: "while joint, the old half alone commits",
    JointVoteByNewHalf: "while joint, the new half alone elects",
    JointVoteByOldHalf: "while joint, the old half alone elects",
    JointLeftEarly: "the joint phase is left before its entry is committed",
    JointNeverLeft: "a new leader does not leave a joint phase that it finds",
    SwapNotJoint: "a swap takes effect without a joint phase",
    ChangeWhilePending: "a change is proposed before the former one is committed",
    ChangeBeforeCommitInTerm: "a change is proposed before the leader has committed in its term",
    RollbackForgotten: "a configuration stays in force when its entry is cut off",
    MembershipForgotten: "a restart forgets the configurations of the log's entries",
    LearnerCommits: "learners count like voters for commits",
    LearnerElects: "learners are asked for votes and counted",
    LearnerCampaigns: "a learner campaigns",
    UnknownVotes: "a replica that knows of no configuration votes",
    SwapNotCaughtUp: "a learner gets a vote wherever its log is",
    RemovedGivesUp: "a replica that an uncommitted entry removes does not campaign",
    RemovedLeads: "a leader without a vote leads on",
    RemovedLeaderCounts: "a leader without a vote counts its own copy in place of another's",
    TransferNotCaughtUp: "leadership is handed to a replica that lacks entries",
    TransferToAnyone: "leadership is handed to a learner, or to a voter that leaves",
    SnapshotKeepsMembership: "an installed snapshot does not bring its configuration",
    SnapshotOfNewest: "a snapshot is sent with the newest configuration, not that of its last entry",
    // Suspect replicas.
    SuspectTrusted: "a replica whose log is suspect trusts it",
    SuspectVotes: "a suspect replica votes",
    SuspectCampaigns: "a suspect replica campaigns",
    SuspectAcceptCounts: "acknowledgements of a suspect replica count for commits at once",
    SuspectRoundCounts: "a suspect replica confirms that a leader leads",
    SuspectKnownByMajority: "a majority vouches for a suspect replica, not all others",
    SuspectOldRound: "a round from before the damage was heard of vouches for a suspect replica",
    SuspectFormerNotAsked: "voters whom an uncommitted entry removes are not asked about a suspect replica",
    SuspectByHeartbeat: "heartbeats alone vouch for a suspect replica, without an entry of the term",
    SuspectToCommit: "a suspect replica is trusted when it holds what is committed",
    SuspectUncompared: "a suspect log is trusted by its length, without being compared",
    SuspectVoteLeft: "a replica that is trusted again still has its vote",
    SuspectVoteUnsettled: "a replica is trusted again before the vote for its leader is durable",
    SuspectCommitUncompared: "a suspect replica takes the leader's commit index uncompared",
    SuspectMatchKept: "what a suspect replica acknowledged in earlier lives still counts",
    SuspectStaleHeard: "while a suspicion is open, what earlier lives said is heard",
    SuspectAppliedCommits: "what a suspect replica has applied proves what its log commits",
}

/// What a wrong rule takes for committed; `None` if the rule is right.
#[cfg(feature = "rare")]
pub(super) fn wrong_quorum(
    config: &RaftConfig,
    members: &Membership,
    matched: impl Fn(StoreId) -> LogIndex,
) -> Option<LogIndex> {
    let has = |mutant| config.mutated(mutant);
    // The index that `copies` of these replicas have reached.
    let held = |ids: &mut dyn Iterator<Item = StoreId>, copies: usize| {
        let mut indexes: Vec<LogIndex> = ids.map(&matched).collect();
        indexes.sort_unstable();
        indexes.iter().rev().nth(copies - 1).copied()
    };
    let majority = members.voters().len() / 2 + 1;
    if has(Mutant::CommitQuorumTooSmall) {
        held(&mut members.all_voters(), (majority - 1).max(1))
    } else if has(Mutant::LearnerCommits) && !members.is_joint() {
        held(&mut members.members(), majority)
    } else if has(Mutant::RemovedLeaderCounts) && !members.is_voter(config.id) {
        held(&mut members.all_voters().chain([config.id]), majority)
    } else if has(Mutant::JointCommitByNewHalf) {
        Some(members.leave().reached(matched))
    } else if has(Mutant::JointCommitByOldHalf) && members.is_joint() {
        Some(Membership::of(members.outgoing().to_vec()).reached(matched))
    } else {
        None
    }
}

/// What a wrong rule takes an election for; `None` if the rule is right.
#[cfg(feature = "rare")]
pub(super) fn wrong_tally(
    config: &RaftConfig,
    members: &Membership,
    answer: &impl Fn(StoreId) -> Option<bool>,
) -> Option<Tally> {
    let has = |mutant| config.mutated(mutant);
    let majority = members.voters().len() / 2 + 1;
    let wins = |ids: &mut dyn Iterator<Item = StoreId>, votes: usize| {
        (ids.filter(|id| answer(*id) == Some(true)).count() >= votes).then_some(Tally::Won)
    };
    if has(Mutant::VoteQuorumTooSmall) {
        wins(&mut members.all_voters(), (majority - 1).max(1))
    } else if has(Mutant::LearnerElects) && !members.is_joint() {
        wins(&mut members.members(), majority)
    } else if has(Mutant::JointVoteByNewHalf) {
        Some(members.leave().tally(answer))
    } else if has(Mutant::JointVoteByOldHalf) && members.is_joint() {
        Some(Membership::of(members.outgoing().to_vec()).tally(answer))
    } else {
        None
    }
}

#[cfg(feature = "rare")]
impl Raft {
    /// Send what a mistake does not hold back; the rest waits.
    pub(super) fn leak(&self, then: Vec<Message>, out: &mut Output) -> Vec<Message> {
        let leaks = |message: &Message| match message.body {
            MessageBody::VoteReply { .. } => self.config.mutated(Mutant::VoteBeforeDurable),
            MessageBody::Vote { .. } => self.config.mutated(Mutant::CampaignBeforeDurable),
            MessageBody::AppendAccepted { .. } | MessageBody::SnapshotReply { .. } => {
                self.config.mutated(Mutant::AcceptBeforeDurable)
            }
            _ => false,
        };
        let (leaked, kept): (Vec<_>, Vec<_>) = then.into_iter().partition(leaks);
        leaked.into_iter().for_each(|message| out.push(Action::Send(message)));
        kept
    }
}
