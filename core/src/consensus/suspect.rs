//! A replica whose log was damaged on disk, and how it comes to be trusted again.
//!
//! Recovery keeps a valid prefix. What is cut may have been acknowledged entries, and votes. Until
//! it is restored, the replica neither votes nor campaigns, and says in every reply that it is
//! suspect, with a number that is higher in each of its lives.
//!
//! # The rule
//! On first hearing of a life of S, a leader L of term T begins a round of heartbeats and notes the end
//! of its log. Neither S's acknowledgements nor its rounds count until **all other voters**, themselves
//! not suspect, have acknowledged that round or a later one and hold an entry of term T durably; so
//! must L itself. All voters are those of both halves of L's configuration and, while that one is not
//! known to be committed, those of the former one too. Learners are not asked. Then L says `Restore`:
//! S is trusted when it holds L's log up to the noted index, durably, and has its vote in T given away.
//! A suspect learner is restored by the same rule, and gets no vote before it is.
//!
//! # Why no acknowledged entry and no vote is lost
//! - *Forgotten votes.* Each candidate's own vote is durable before it asks for others. A vote
//!   that S forgot was for a candidate C in some term U. If U > T, then C was in term U before S
//!   restarted, and could not have acknowledged a round of term T after it. So, if C was asked, U ≤ T;
//!   and S comes back in term T with its vote given away. It can help no second leader in any term ≤ T.
//! - *Candidates who are not asked* win nothing, with S's vote or without. Such a C goes by a
//!   configuration that is not L's: an older one, or one that L never got. An older one lacks the
//!   newest committed one, of which others of any quorum know. (While L has left a joint phase and
//!   that is not committed, they need not know yet: 1 leads, left 1 2 3 for 1 2 4, and S = 2 forgot a
//!   vote for 3 in T + 1. If 4 alone were asked, 1 would commit with 2, and then 4 could elect 3. So
//!   the former voters are asked too.) A configuration that L never got was appended by a leader
//!   before T, and half of its voters are voters of L's: with an entry of term T they refuse C.
//!   (Else: 1 leads 1 2 4 and learner 5. A former leader sent 5 the entry that swaps 5 for 1, and S = 2
//!   forgot a vote for 5 in T + 1. If 4 had only heard heartbeats, 1 would commit with 2, and then 4
//!   could elect 5, whom nobody asked.)
//! - *Forgotten entries.* Older leaders can commit nothing more, on stale acknowledgements of S
//!   either: each is a voter that has moved on to term T, or goes by a configuration as above. What
//!   they did commit, L has (S had voted with its whole log, or had not voted). What L itself may still
//!   commit on stale acknowledgements of S is at or below the end of L's log when L heard of the
//!   damage. S is trusted only when it holds L's log up to that very index. (The commit index would be
//!   too low: with acknowledgements of an earlier life still under way, L would commit more, and S,
//!   trusted again, could elect the third replica, which lacks it.)
//! - *Why acknowledgements do not count before that.* S may have voted in T + 1 and forgotten it. If L,
//!   cut off, could count S's new acknowledgements, it would commit an entry that the leader of T + 1
//!   lacks. The same holds for reads confirmed by S.
//! - *Stale votes for S.* S may have campaigned in U > T and forgotten it, and campaign in U again.
//!   Who votes for its former self after the round holds an entry of term T, so that self had one too:
//!   its log was part of L's, and S's log by now goes further.
//!
//! # Limits
//! Two suspect voters wait for each other; replacing one by a joint swap is the way out, if the rest is
//! a majority. A suspect voter of one has nobody to restore it. A wiped store that comes back as the
//! same replica must come back suspect, with nothing in its log; or it is removed, and comes back
//! under another id.

use super::membership::Membership;
use super::message::MessageBody;
use super::mutants::Mutant;
use super::output::{Action, Output};
use super::progress::Progress;
use super::raft::{Leader, Raft, State};
use crate::ids::{LogIndex, StoreId};
use crate::time::Instant;

/// What a leader thinks of a peer's log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Suspicion {
    /// The newest suspect life that was heard of; 0 if none.
    life: u64,
    /// The round that all others must acknowledge; `None` when they have.
    round: Option<u64>,
    /// What the peer must hold.
    index: LogIndex,
}

impl Suspicion {
    /// Whether the round is not complete: nothing that the peer says counts.
    pub(super) fn is_open(&self) -> bool {
        self.round.is_some()
    }
}

/// What a replica thinks of its own log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trust {
    Trusted,
    /// Nobody has vouched for it in this term.
    Suspect {
        life: u64,
    },
    /// The leader of this term did: the log must reach `index`.
    Restoring {
        life: u64,
        leader: StoreId,
        index: LogIndex,
    },
    /// It has; the vote for that leader becomes durable with the Persist `seq`.
    Settling {
        life: u64,
        seq: u64,
    },
}

impl Trust {
    pub(super) fn recovered(life: u64) -> Self {
        if life == 0 { Self::Trusted } else { Self::Suspect { life } }
    }

    /// The life to report; 0 if trusted.
    pub(super) fn life(self) -> u64 {
        match self {
            Self::Trusted => 0,
            Self::Suspect { life } | Self::Restoring { life, .. } | Self::Settling { life, .. } => {
                life
            }
        }
    }

    /// The term rose. A vote that is settling is of an older term, and holds for that one: nothing
    /// of the proof depends on the term that the replica is in afterwards.
    pub(super) fn forget_leader(&mut self) {
        if let Self::Restoring { life, .. } = *self {
            *self = Self::Suspect { life };
        }
    }
}

impl Raft {
    /// A follower spoke. Returns whether what it says is news of its present life.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        from: StoreId,
        suspect: u64,
        out: &mut Output,
    ) -> bool {
        let last = self.log.last_index();
        let State::Leader(leader) = &mut self.state else { return false };
        let Leader { peers, reads, transfer, .. } = leader.as_mut();
        let Some(progress) = peers.get_mut(&from) else { return false };
        let known = progress.suspicion.life;
        if suspect > known {
            // What it acknowledged in earlier lives may be gone.
            if !self.config.mutated(Mutant::SuspectMatchKept) {
                progress.forget_matched(last, now);
            }
            progress.probe_from(last.next(), now);
            let round = Some(reads.begin_round());
            let commit = self.config.mutated(Mutant::SuspectToCommit);
            let index = if commit { self.commit } else { last };
            progress.suspicion = Suspicion { life: suspect, round, index };
            transfer.take_if(|transfer| transfer.to == from);
            self.broadcast_heartbeat(now, out);
            self.send_appends(now, from, true, out);
        } else if ((suspect != 0 && suspect < known)
            || (suspect == 0 && progress.suspicion.is_open()))
            && !self.config.mutated(Mutant::SuspectStaleHeard)
        {
            // Said by an earlier life: without this leader's word it is not trusted again.
            return false;
        }
        let State::Leader(leader) = &mut self.state else { return false };
        let progress = leader.peers.get_mut(&from).expect("who is heard is a peer");
        progress.heard_at = now;
        progress.is_suspect = suspect != 0;
        true
    }

    /// Rounds were acknowledged: vouch for suspect peers for whom all others have spoken.
    pub(super) fn finish_suspicions(&mut self, now: Instant, out: &mut Output) {
        let State::Leader(leader) = &self.state else { return };
        let open = leader.peers.iter().filter_map(|(peer, progress)| {
            let needed = progress.suspicion.round?;
            self.all_others_vouch(*peer, needed).then_some(*peer)
        });
        let cleared: Vec<StoreId> = open.collect();
        if cleared.is_empty() {
            return;
        }
        let State::Leader(leader) = &mut self.state else { return };
        for peer in &cleared {
            leader.peers.get_mut(peer).expect("it was found there").suspicion.round = None;
        }
        for peer in cleared {
            self.send_restore(peer, out);
        }
        self.advance_commit(now, out);
        self.tell_commit(now, out);
    }

    /// Whether all voters but `suspect` have acknowledged `round` and hold an entry of this term.
    /// While the newest configuration is not committed, the voters of the former one are asked too.
    fn all_others_vouch(&self, suspect: StoreId, round: u64) -> bool {
        let State::Leader(leader) = &self.state else { return false };
        let former = self.members.former().filter(|_| {
            !(self.is_membership_committed() || self.config.mutated(Mutant::SuspectFormerNotAsked))
        });
        let by_heartbeat = self.config.mutated(Mutant::SuspectByHeartbeat);
        let round = round - u64::from(self.config.mutated(Mutant::SuspectOldRound));
        let voters = self.members.latest().all_voters();
        let mut voters = voters.chain(former.into_iter().flat_map(Membership::all_voters));
        let vouches = |id| {
            if id == self.config.id {
                return self.durable >= leader.term_start || by_heartbeat;
            }
            leader.peers.get(&id).is_some_and(|progress| {
                progress.round >= round && (progress.counted() >= leader.term_start || by_heartbeat)
            })
        };
        if self.config.mutated(Mutant::SuspectKnownByMajority) {
            return self.members.latest().reached(|id| id != suspect && vouches(id));
        }
        voters.all(|id| id == suspect || vouches(id))
    }

    /// Tell a suspect peer what makes it trusted, if that is settled. It is told again with every
    /// heartbeat that it answers as suspect.
    pub(super) fn send_restore(&self, peer: StoreId, out: &mut Output) {
        let State::Leader(leader) = &self.state else { return };
        let Some(Progress { suspicion, .. }) = leader.peers.get(&peer) else { return };
        if suspicion.life != 0 && !suspicion.is_open() {
            let body = MessageBody::Restore { suspect: suspicion.life, index: suspicion.index };
            self.send(peer, body, out);
        }
    }

    /// The leader of this term vouches for the log up to `index`.
    pub(super) fn on_restore(
        &mut self,
        from: StoreId,
        suspect: u64,
        index: LogIndex,
        out: &mut Output,
    ) {
        if let Trust::Suspect { life } = self.trust
            && life == suspect
        {
            self.trust = Trust::Restoring { life, leader: from, index };
            self.regain_trust(0, out);
        }
    }

    /// Whether the log has come far enough, or the vote that seals it is durable. `persisted` is
    /// the Persist that just became so.
    pub(super) fn regain_trust(&mut self, persisted: u64, out: &mut Output) {
        match self.trust {
            Trust::Restoring { life, leader, index }
                if (self.durable >= index && self.installing.is_none())
                    && (self.verified >= index
                        || self.config.mutated(Mutant::SuspectUncompared)) =>
            {
                // In this term it counts as having voted for this leader, unless it remembers a
                // vote for one who lost: either way it has no vote left to give.
                if !self.config.mutated(Mutant::SuspectVoteLeft) {
                    self.vote = self.vote.or(Some(leader));
                }
                if self.durable_state == self.hard_state()
                    || self.config.mutated(Mutant::SuspectVoteUnsettled)
                {
                    self.trust = Trust::Trusted;
                    out.push(Action::Trusted);
                } else {
                    // If the vote is in a Persist in flight, a later one waits for it.
                    let seq = if self.state_told == self.hard_state() {
                        self.seq
                    } else {
                        self.next_seq()
                    };
                    self.trust = Trust::Settling { life, seq };
                }
            }
            Trust::Settling { seq, .. } if persisted >= seq => {
                self.trust = Trust::Trusted;
                out.push(Action::Trusted);
            }
            _ => {}
        }
    }
}
