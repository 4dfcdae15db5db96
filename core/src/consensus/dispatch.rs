//! What every message goes through first: whether it makes sense, and whose term is newer.

use super::message::{Message, MessageBody};
use super::mutants::Mutant;
use super::output::Output;
use super::raft::{Installing, Raft, State};
use crate::ids::StoreId;
use crate::time::Instant;

/// No term or index of ours comes near it; a message that says more is damaged, and adding to it
/// must not overflow.
const COUNTER_MAX: u64 = 1 << 62;

impl Raft {
    /// Take a message. What is not meant for this replica, or contradicts itself, is dropped.
    pub fn step(&mut self, now: Instant, message: Message, out: &mut Output) {
        if self.poisoned.is_none() && self.is_admissible(&message) {
            self.receive(now, message, out);
            self.flush(out);
        }
    }

    /// Whether a message makes sense at all. Who sends it does not matter: a replica may not have
    /// heard yet who its leader is, or who is about to vote (Ongaro, 4.1).
    fn is_admissible(&self, message: &Message) -> bool {
        let addressed = message.to == self.config.id && message.from != self.config.id;
        addressed
            && message.term.0 <= COUNTER_MAX
            && match &message.body {
                MessageBody::Append { prev_index, prev_term, entries, .. } => {
                    let (mut index, mut term) = (*prev_index, *prev_term);
                    prev_index.0 <= COUNTER_MAX
                        && entries.iter().all(|entry| {
                            let fits = index.0.checked_add(1) == Some(entry.index.0)
                                && entry.term >= term
                                && entry.term <= message.term;
                            (index, term) = (entry.index, entry.term);
                            fits
                        })
                }
                MessageBody::Snapshot { last_index, last_term, membership, .. } => {
                    last_index.0 <= COUNTER_MAX
                        && *last_term <= message.term
                        && membership.is_known()
                }
                _ => true,
            }
    }

    /// Terms come before everything else.
    fn receive(&mut self, now: Instant, message: Message, out: &mut Output) {
        let from = message.from;
        if message.term > self.term {
            match message.body {
                MessageBody::PreVote { .. } if self.config.mutated(Mutant::PreVoteRaisesTerm) => {
                    self.become_follower(now, message.term, None, out);
                }
                // A pre-vote changes nothing, wherever it stands.
                MessageBody::PreVote { .. } | MessageBody::PreVoteReply { granted: true } => {}
                // Who hears a leader does not help to unseat it.
                MessageBody::Vote { transfer: false, .. }
                    if self.is_led(now) && !self.config.mutated(Mutant::VoteUnseatsLeader) =>
                {
                    return;
                }
                MessageBody::Append { .. }
                | MessageBody::Heartbeat { .. }
                | MessageBody::Snapshot { .. } => {
                    self.become_follower(now, message.term, Some(from), out);
                }
                _ => self.become_follower(now, message.term, None, out),
            }
        } else if message.term < self.term {
            let body = match message.body {
                MessageBody::PreVote { .. } => MessageBody::PreVoteReply { granted: false },
                MessageBody::Vote { .. } => MessageBody::VoteReply { granted: false },
                MessageBody::VoteReply { granted }
                    if self.config.mutated(Mutant::StaleVoteCounts) =>
                {
                    return self.on_vote_reply(now, from, granted, out);
                }
                MessageBody::Append { prev_index, prev_term, entries, commit }
                    if self.config.mutated(Mutant::StaleLeaderObeyed) =>
                {
                    return self.on_append(from, (prev_index, prev_term), entries, commit, out);
                }
                // The old leader learns of the new term by this.
                MessageBody::Append { .. }
                | MessageBody::Heartbeat { .. }
                | MessageBody::Snapshot { .. } => {
                    MessageBody::HeartbeatReply { round: 0, suspect: self.trust.life() }
                }
                _ => return,
            };
            return self.send(from, body, out);
        }
        match message.body {
            MessageBody::PreVote { last_index, last_term } => {
                self.on_pre_vote(now, from, message.term, (last_term, last_index), out);
            }
            MessageBody::Vote { last_index, last_term, .. } => {
                self.on_vote(now, from, (last_term, last_index));
            }
            MessageBody::PreVoteReply { granted } => {
                self.on_pre_vote_reply(now, from, message.term, granted, out);
            }
            MessageBody::VoteReply { granted } => self.on_vote_reply(now, from, granted, out),
            MessageBody::Append { .. }
            | MessageBody::Heartbeat { .. }
            | MessageBody::Restore { .. }
            | MessageBody::TimeoutNow
            | MessageBody::Snapshot { .. } => self.leader_says(now, from, message.body, out),
            MessageBody::AppendAccepted { .. }
            | MessageBody::AppendRejected { .. }
            | MessageBody::HeartbeatReply { .. }
            | MessageBody::SnapshotReply { .. } => self.follower_says(now, from, message.body, out),
        }
    }

    /// A message that only the leader of this term sends.
    fn leader_says(&mut self, now: Instant, from: StoreId, body: MessageBody, out: &mut Output) {
        match &self.state {
            State::Leader(_) => return self.poison("two leaders in one term", out),
            State::Follower { leader: Some(leader), .. } if *leader != from => {
                return self.poison("two leaders in one term", out);
            }
            _ => self.become_follower(now, self.term, Some(from), out),
        }
        match body {
            MessageBody::Append { prev_index, prev_term, entries, commit } => {
                self.on_append(from, (prev_index, prev_term), entries, commit, out);
            }
            MessageBody::Heartbeat { commit, round } => {
                self.learn_commit_told(commit);
                let suspect = self.trust.life();
                self.send(from, MessageBody::HeartbeatReply { round, suspect }, out);
            }
            MessageBody::Restore { suspect, index } => self.on_restore(from, suspect, index, out),
            MessageBody::TimeoutNow if self.may_campaign() => self.campaign(now, true),
            MessageBody::Snapshot { last_index, last_term, membership, data } => {
                self.on_snapshot(from, Installing { last_index, last_term, membership }, data, out);
            }
            _ => {}
        }
    }

    /// A message that only a follower sends, to the leader.
    fn follower_says(&mut self, now: Instant, from: StoreId, body: MessageBody, out: &mut Output) {
        let suspect = match body {
            MessageBody::AppendAccepted { suspect, .. }
            | MessageBody::AppendRejected { suspect, .. }
            | MessageBody::HeartbeatReply { suspect, .. }
            | MessageBody::SnapshotReply { suspect, .. } => suspect,
            _ => return,
        };
        if !self.hear(now, from, suspect, out) {
            return;
        }
        match body {
            MessageBody::AppendAccepted { matched, .. } => {
                self.on_accepted(now, from, matched, out)
            }
            MessageBody::AppendRejected { refused, hint_index, hint_term, .. } => {
                self.on_rejected(now, from, refused, (hint_index, hint_term), suspect, out);
            }
            MessageBody::HeartbeatReply { round, .. } => {
                self.on_heartbeat_reply(now, from, round, suspect, out);
            }
            MessageBody::SnapshotReply { last_index, accepted, .. } => {
                self.on_snapshot_reply(now, from, last_index, accepted, out);
            }
            _ => {}
        }
    }
}
