//! From consensus's own types to the plain values that the ghost knows.

use std::hash::{DefaultHasher, Hash, Hasher};

use trine_core::codec::Wire;
use trine_core::consensus::{Entry, EntryKind, HardState, Membership, Message, MessageBody};
use trine_core::ids::StoreId;

use super::ghost::{Broken, Config, Ghost, Seen};

/// Term and vote.
pub(crate) type PlainState = (u64, Option<u64>);

/// A hard state.
pub(crate) fn plain(state: HardState) -> PlainState {
    (state.term.0, state.vote.map(|vote| vote.0))
}

/// An entry, with its index.
pub(crate) fn seen(entry: &Entry) -> (u64, Seen) {
    let mut hasher = DefaultHasher::new();
    (entry.kind == EntryKind::Empty, entry.kind == EntryKind::Membership, &entry.payload)
        .hash(&mut hasher);
    (entry.index.0, Seen { term: entry.term.0, hash: hasher.finish() })
}

/// A configuration.
pub(crate) fn config(membership: &Membership) -> Config {
    let ids = |ids: &[StoreId]| ids.iter().map(|id| id.0).collect();
    Config {
        voters: ids(membership.voters()),
        outgoing: ids(membership.outgoing()),
        learners: ids(membership.learners()),
    }
}

/// Tell the ghost what a replica writes.
pub(crate) fn wrote(
    ghost: &mut Ghost,
    replica: u64,
    hard_state: Option<HardState>,
    entries: &[Entry],
) -> Result<(), Broken> {
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Membership) {
        let membership = Membership::from_bytes(&entry.payload)
            .map_err(|error| format!("replica {replica} writes no membership: {error}"))?;
        ghost.configures((entry.index.0, entry.term.0), config(&membership))?;
    }
    let entries: Vec<_> = entries.iter().map(seen).collect();
    ghost.wrote(replica, hard_state.map(plain), &entries)
}

/// Ask the ghost about a message, if it promises something.
pub(crate) fn says(ghost: &Ghost, replica: u64, message: &Message) -> Result<(), Broken> {
    let (to, term) = (message.to.0, message.term.0);
    match &message.body {
        MessageBody::Vote { .. } => ghost.sends_vote(replica, term, replica),
        MessageBody::VoteReply { granted: true } => ghost.sends_vote(replica, term, to),
        MessageBody::AppendAccepted { matched, .. } => {
            ghost.sends_accept(replica, term, to, matched.0)
        }
        MessageBody::SnapshotReply { last_index, accepted: true, .. } => {
            ghost.sends_accept(replica, term, to, last_index.0)
        }
        _ => Ok(()),
    }
}
