//! Sessions, and what came of their commands: every command of a session takes effect once.
//!
//! The table lives in memory. Its logical rows (one for a session, one for an outcome) are in the
//! state hash; in the tree they stand packed, one row for a slot, written only at freezes. An undo
//! log takes back what a batch did if the batch has to be asked again.

use std::collections::BTreeMap;

use super::command::{Outcome, Rejection};
use super::keys::Key;
use super::records::{Header, SessionRecord};
use crate::codec::{Encoder, Wire};
use crate::hash::{StateHash, ValueHash};
use crate::ids::{CommitSequence, GatewayId, SessionId};
use crate::level::{self, Level};
use crate::rows::RowWrite;

/// Live sessions, that is gateways, of a range. One more is refused.
pub const LIVE_SESSIONS_MAX: usize = 64;
/// How far a session's sequences may run ahead of its watermark, and so how many outcomes are kept
/// for it. A gateway holds back commands beyond it; a packed session stays under 128 KiB.
pub const OUTCOMES_PER_SESSION_MAX: usize = 1024;

/// A live session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    gateway: GatewayId,
    nonce: u128,
    slot: u16,
    watermark: CommitSequence,
    outcomes: BTreeMap<CommitSequence, Outcome>,
    /// The newest feature level that its gateway speaks.
    speaks: Level,
}

/// How to take back one change.
#[derive(Debug)]
enum Undo {
    Opened(SessionId),
    Removed(SessionId, Session),
    Raised {
        session: SessionId,
        watermark: CommitSequence,
        dropped: Vec<(CommitSequence, Outcome)>,
    },
    Kept(SessionId, CommitSequence),
}

/// Whether a session's command takes effect.
pub(super) enum Admission {
    /// It does.
    New,
    /// It did: this came of it.
    Known(Outcome),
    /// It does not.
    Refused(Rejection),
}

/// The live sessions.
#[derive(Debug, Default)]
pub(super) struct SessionTable {
    live: BTreeMap<SessionId, Session>,
    hash: StateHash,
    undo: Vec<Undo>,
    hash_before: StateHash,
}

impl SessionTable {
    /// The table that `records` (slot and session) describe, or what contradicts itself in them.
    pub(super) fn load(records: Vec<(u16, SessionRecord)>) -> Result<Self, &'static str> {
        let mut table = Self::default();
        for (slot, record) in records {
            let outcomes: BTreeMap<_, _> = record.outcomes.into_iter().collect();
            if outcomes.keys().next().is_some_and(|first| *first < record.watermark) {
                return Err("an outcome lies below its session's watermark");
            }
            if outcomes.len() > OUTCOMES_PER_SESSION_MAX || table.live.len() == LIVE_SESSIONS_MAX {
                return Err("more sessions or outcomes than there may be");
            }
            for (sequence, outcome) in &outcomes {
                add_outcome(&mut table.hash, record.id, *sequence, outcome);
            }
            let session = Session {
                gateway: record.gateway,
                nonce: record.nonce,
                slot,
                watermark: record.watermark,
                outcomes,
                speaks: record.speaks,
            };
            add_session(&mut table.hash, record.id, &session);
            if table.live.insert(record.id, session).is_some() {
                return Err("a session stands in two slots");
            }
        }
        Ok(table)
    }

    /// Begin a batch.
    pub(super) fn begin(&mut self) {
        assert!(self.undo.is_empty(), "the batch before was committed or taken back");
        self.hash_before = self.hash;
    }

    /// The batch has succeeded.
    pub(super) fn commit(&mut self) {
        self.undo.clear();
    }

    /// Take back what the batch did.
    pub(super) fn roll_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Opened(id) => {
                    self.live.remove(&id);
                }
                Undo::Removed(id, session) => {
                    self.live.insert(id, session);
                }
                Undo::Raised { session, watermark, dropped } => {
                    let session = self.changed(session);
                    session.watermark = watermark;
                    session.outcomes.extend(dropped);
                }
                Undo::Kept(session, sequence) => {
                    self.changed(session).outcomes.remove(&sequence);
                }
            }
        }
        self.hash = self.hash_before;
    }

    fn changed(&mut self, id: SessionId) -> &mut Session {
        self.live.get_mut(&id).expect("changes are taken back in reverse, so it is live again")
    }

    /// Open a session for a gateway, and fence the gateway's older ones.
    pub(super) fn open(
        &mut self,
        header: &mut Header,
        gateway: GatewayId,
        nonce: u128,
        speaks: Level,
    ) -> Outcome {
        let mut of_gateway = self.live.iter().filter(|(_, session)| session.gateway == gateway);
        if let Some((id, _)) = of_gateway.clone().find(|(_, session)| session.nonce == nonce) {
            return Outcome::SessionOpened(*id);
        }
        if self.live.len() >= LIVE_SESSIONS_MAX && of_gateway.next().is_none() {
            return Outcome::Rejected(Rejection::Malformed);
        }
        let older: Vec<_> = self
            .live
            .iter()
            .filter(|(_, session)| session.gateway == gateway)
            .map(|(id, _)| *id)
            .collect();
        for id in older {
            self.fence(id);
        }
        let slot = self.free_slot();
        header.slots_used = header.slots_used.max(slot + 1);
        let id = header.session_next;
        header.session_next = SessionId(id.0 + 1);
        let session = Session {
            gateway,
            nonce,
            slot,
            watermark: CommitSequence(0),
            outcomes: BTreeMap::new(),
            speaks,
        };
        add_session(&mut self.hash, id, &session);
        self.live.insert(id, session);
        self.undo.push(Undo::Opened(id));
        Outcome::SessionOpened(id)
    }

    fn free_slot(&self) -> u16 {
        let mut slots: Vec<_> = self.live.values().map(|session| session.slot).collect();
        slots.sort_unstable();
        let taken = (0..).zip(&slots).take_while(|(at, slot)| at == *slot).count();
        u16::try_from(taken).expect("there are at most LIVE_SESSIONS_MAX slots")
    }

    /// End a session and forget what came of its commands. Fencing it again changes nothing: whether
    /// it was live.
    pub(super) fn fence(&mut self, id: SessionId) -> bool {
        let Some(session) = self.live.remove(&id) else { return false };
        for (sequence, outcome) in &session.outcomes {
            remove_outcome(&mut self.hash, id, *sequence, outcome);
        }
        remove_session(&mut self.hash, id, &session);
        self.undo.push(Undo::Removed(id, session));
        true
    }

    /// Decide whether a command takes effect, and drop the outcomes that its watermark answers.
    pub(super) fn admit(
        &mut self,
        id: SessionId,
        sequence: CommitSequence,
        watermark: CommitSequence,
    ) -> Admission {
        let Some(session) = self.live.get_mut(&id) else {
            return match planted!(FencedSessionActs) {
                false => Admission::Refused(Rejection::Fenced),
                true => Admission::New,
            };
        };
        if sequence < session.watermark {
            return Admission::Refused(Rejection::Answered);
        }
        let ahead = sequence.0.saturating_sub(watermark.0.max(session.watermark.0));
        if watermark > sequence || ahead >= OUTCOMES_PER_SESSION_MAX as u64 {
            return Admission::Refused(Rejection::Malformed);
        }
        if watermark > session.watermark {
            remove_session(&mut self.hash, id, session);
            let kept = session.outcomes.split_off(&watermark);
            let dropped = core::mem::replace(&mut session.outcomes, kept);
            for (sequence, outcome) in &dropped {
                remove_outcome(&mut self.hash, id, *sequence, outcome);
            }
            let before = core::mem::replace(&mut session.watermark, watermark);
            add_session(&mut self.hash, id, session);
            let dropped = dropped.into_iter().collect();
            self.undo.push(Undo::Raised { session: id, watermark: before, dropped });
        }
        if planted!(RetryAppliedAgain)
            && let Some(outcome) = session.outcomes.remove(&sequence)
        {
            remove_outcome(&mut self.hash, id, sequence, &outcome);
            let (watermark, dropped) = (session.watermark, vec![(sequence, outcome)]);
            self.undo.push(Undo::Raised { session: id, watermark, dropped });
        }
        match session.outcomes.get(&sequence) {
            Some(outcome) => Admission::Known(outcome.clone()),
            None => Admission::New,
        }
    }

    /// Keep what came of a command that was admitted. A session that its own command fenced keeps
    /// nothing.
    pub(super) fn keep(&mut self, id: SessionId, sequence: CommitSequence, outcome: &Outcome) {
        let Some(session) = self.live.get_mut(&id) else { return };
        add_outcome(&mut self.hash, id, sequence, outcome);
        let before = session.outcomes.insert(sequence, outcome.clone());
        assert!(before.is_none(), "{id}: {sequence} was admitted as new");
        assert!(session.outcomes.len() <= OUTCOMES_PER_SESSION_MAX);
        self.undo.push(Undo::Kept(id, sequence));
    }

    /// Whether a session is live.
    pub(super) fn is_live(&self, id: SessionId) -> bool {
        self.live.contains_key(&id)
    }

    /// Sessions and their gateways.
    pub(super) fn live(&self) -> impl Iterator<Item = (SessionId, GatewayId)> {
        self.live.iter().map(|(id, session)| (*id, session.gateway))
    }

    /// A live session's gateway that has not said that it speaks `level`.
    pub(super) fn not_speaking(&self, level: Level) -> Option<GatewayId> {
        let mut live = self.live.values();
        live.find(|session| session.speaks < level).map(|session| session.gateway)
    }

    /// What came of a command, while it is kept.
    pub(super) fn outcome(&self, id: SessionId, sequence: CommitSequence) -> Option<&Outcome> {
        self.live.get(&id)?.outcomes.get(&sequence)
    }

    /// How many outcomes are kept.
    pub(super) fn outcomes(&self) -> usize {
        self.live.values().map(|session| session.outcomes.len()).sum()
    }

    /// Of the logical rows.
    pub(super) fn hash(&self) -> StateHash {
        self.hash
    }

    /// A row for each slot that was ever used; those of free slots are deleted.
    pub(super) fn rows(&self, slots_used: u16) -> Vec<RowWrite> {
        let mut values = BTreeMap::new();
        for (id, session) in &self.live {
            let record = SessionRecord {
                id: *id,
                gateway: session.gateway,
                nonce: session.nonce,
                watermark: session.watermark,
                outcomes: session.outcomes.clone().into_iter().collect(),
                speaks: session.speaks,
            };
            values.insert(session.slot, record.to_bytes());
        }
        (0..slots_used)
            .map(|slot| RowWrite {
                key: Key::Session { slot }.encode(),
                value: values.remove(&slot),
            })
            .collect()
    }

    /// Panics if the table contradicts itself or the header.
    pub(super) fn check(&self, header: &Header) {
        let mut hash = StateHash::default();
        let mut slots = Vec::new();
        for (id, session) in &self.live {
            assert!(*id < header.session_next, "{id} was given out");
            assert!(session.slot < header.slots_used, "{id}: slot {} is in use", session.slot);
            assert!(!slots.contains(&session.slot), "{id}: slot {} is its own", session.slot);
            assert!(session.outcomes.len() <= OUTCOMES_PER_SESSION_MAX);
            slots.push(session.slot);
            add_session(&mut hash, *id, session);
            for (sequence, outcome) in &session.outcomes {
                assert!(*sequence >= session.watermark, "{id}: {sequence} is answered");
                add_outcome(&mut hash, *id, *sequence, outcome);
            }
        }
        assert!(self.live.len() <= LIVE_SESSIONS_MAX);
        assert_eq!(hash, self.hash, "the incremental hash is that of the rows");
    }
}

fn add_session(hash: &mut StateHash, id: SessionId, session: &Session) {
    let (key, value) = session_row(id, session);
    hash.insert(&key, value);
}

fn remove_session(hash: &mut StateHash, id: SessionId, session: &Session) {
    let (key, value) = session_row(id, session);
    hash.remove(&key, value);
}

fn add_outcome(hash: &mut StateHash, id: SessionId, sequence: CommitSequence, outcome: &Outcome) {
    hash.insert(&outcome_key(id, sequence), ValueHash::of(&outcome.to_bytes()));
}

fn remove_outcome(hash: &mut StateHash, id: SessionId, at: CommitSequence, outcome: &Outcome) {
    hash.remove(&outcome_key(id, at), ValueHash::of(&outcome.to_bytes()));
}

/// The logical row of a session. Its slot is in it: replicas must agree on that too.
fn session_row(id: SessionId, session: &Session) -> (Vec<u8>, ValueHash) {
    let mut value = Encoder::new();
    session.gateway.encode(&mut value);
    session.nonce.encode(&mut value);
    session.slot.encode(&mut value);
    session.watermark.encode(&mut value);
    if session.speaks > level::FIRST {
        session.speaks.encode(&mut value);
    }
    let mut key = b"session".to_vec();
    key.extend(id.0.to_be_bytes());
    (key, ValueHash::of(value.as_slice()))
}

fn outcome_key(id: SessionId, sequence: CommitSequence) -> Vec<u8> {
    let mut key = b"outcome".to_vec();
    key.extend(id.0.to_be_bytes());
    key.extend(sequence.0.to_be_bytes());
    key
}
