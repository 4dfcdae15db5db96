//! Questions to the range that owns blobs: are they referenced?
//!
//! ```text
//! Waiting ─▶ Looking ─▶ Waiting ─▶ Asked ─┬─ live, gone: done
//!    ▲     (whose is it?)                 └─ open, dead: later again ─┐
//!    └────────────────────────────────────────────────────────────────┘
//! ```
//!
//! They are put together, one message at a time, to the leader, or while that is not known to one voter
//! after the other.

use std::collections::{BTreeMap, BTreeSet};

use crate::effects::Effects;
use crate::ids::{BlobId, CallId, ChunkId, StoreId};
use crate::message::{BLOBS_ASKED_MAX, BlobAnswer, BlobAsk, BlobVerdict, ChunkError, Message};
use crate::object::{KEY_BYTES_MAX, OwnedBlob, Target};
use crate::storage::{Look, Looked};
use crate::store::serving::Host;
use crate::time::{Deadline, Duration, Instant};

use super::RECLAIM_OPS;

/// Blobs in question; beyond it doubts are turned away, and come up again with scrubbing.
const ITEMS_MAX: usize = 4096;
/// Bytes of one, without its owner's key.
const BYTES_EACH: u64 = 192;
/// Doubts that a comparison may still add.
const ROOM_FOR_COMPARING: usize = ITEMS_MAX / 2;
/// Headers that are read at a time.
const LOOKS_MAX: usize = 8;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Until another store is asked after one that could not say.
const PAUSE: Duration = Duration::from_millis(100);
/// A doubt is left alone for so long: what is being written is written everywhere then.
const SETTLE: Duration = Duration::from_millis(500);
/// What is not decided is asked again after so long at first; twice as long each time...
const AGAIN: Duration = Duration::from_secs(2);
/// ...up to `AGAIN` doubled so often (about 17 minutes).
const DOUBLINGS_MAX: u32 = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// Its header is being read.
    Looking,
    Asked,
}

#[derive(Debug)]
struct Item {
    /// Whose it is; the header of this chunk says so while it is not known.
    owner: Option<Target>,
    number: u32,
    /// This store has it, and doubts that it should.
    doubted: bool,
    /// A copy waits for the answer.
    for_repair: bool,
    /// Since it was asked, somebody needs an answer to a later question.
    again: bool,
    tries: u32,
    /// The key in `due`; only while it waits.
    due: Instant,
    state: State,
}

#[derive(Debug)]
struct Asked {
    call: CallId,
    to: StoreId,
    until: Instant,
    blobs: Vec<BlobId>,
}

/// What the range said of a blob.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) blob: BlobId,
    pub(super) verdict: BlobVerdict,
    /// A copy waits for that.
    pub(super) for_repair: bool,
    /// This store has it, and doubted that it should.
    pub(super) doubted: bool,
}

/// The questions of one store.
#[derive(Debug, Default)]
pub(super) struct Questions {
    items: BTreeMap<BlobId, Item>,
    due: BTreeSet<(Instant, BlobId)>,
    key_bytes: u64,
    asked: Option<Asked>,
    looks: BTreeMap<u64, BlobId>,
    next_op: u64,
    next_call: u64,
    /// Who is believed to lead.
    leader: Option<StoreId>,
    /// Who was asked last and could not say, whoever takes it for the leader: a replica that was left behind
    /// when its vote moved believes in an old one for ever.
    mute: Option<StoreId>,
    /// Whose turn it is while nobody is.
    turn: usize,
    not_before: Instant,
}

impl Questions {
    /// This store has chunks of a blob, and perhaps should not.
    pub(super) fn doubt(&mut self, now: Instant, blob: BlobId, owner: Target) {
        self.add_doubt(now, blob, Some(owner), 0);
    }

    /// The same, of a blob of which it has this chunk, whose header says whose it is.
    pub(super) fn doubt_of_chunk(&mut self, now: Instant, chunk: ChunkId) {
        self.add_doubt(now, chunk.blob, None, chunk.number);
    }

    fn add_doubt(&mut self, now: Instant, blob: BlobId, owner: Option<Target>, number: u32) {
        if self.items.len() < ITEMS_MAX && !self.items.contains_key(&blob) {
            self.insert(blob, owner, number, now + SETTLE);
        }
        if let Some(item) = self.items.get_mut(&blob) {
            item.doubted = true;
        }
    }

    /// A copy of a chunk of this blob is to be made here, if it is wanted.
    pub(super) fn ask_for_repair(&mut self, blob: BlobId, owner: Target) {
        if !self.items.contains_key(&blob) {
            // Copies in hand are few: there is room for them beyond the bound.
            self.insert(blob, Some(owner.clone()), 0, Instant::ZERO);
        }
        let Some(item) = self.items.get_mut(&blob) else { return };
        item.for_repair = true;
        if item.owner.is_none() {
            self.key_bytes += owner.key.as_str().len() as u64;
            item.owner = Some(owner);
        }
        match item.state {
            State::Waiting => {
                self.due.remove(&(item.due, blob));
                item.due = Instant::ZERO;
                self.due.insert((item.due, blob));
            }
            State::Asked => item.again = true,
            State::Looking => {}
        }
    }

    fn insert(&mut self, blob: BlobId, owner: Option<Target>, number: u32, due: Instant) {
        self.key_bytes += owner.as_ref().map_or(0, |owner| owner.key.as_str().len() as u64);
        let (doubted, for_repair, again, tries) = (false, false, false, 0);
        let state = State::Waiting;
        let item = Item { owner, number, doubted, for_repair, again, tries, due, state };
        self.items.insert(blob, item);
        self.due.insert((due, blob));
    }

    /// Whether a comparison may add doubts.
    pub(super) fn takes_more(&self) -> bool {
        self.items.len() < ROOM_FOR_COMPARING
    }

    /// Nothing of a blob is left here.
    pub(super) fn settled(&mut self, blob: BlobId) {
        if let Some(item) = self.items.get_mut(&blob) {
            item.doubted = false;
            if !item.for_repair && item.state == State::Waiting {
                self.remove(blob);
            }
        }
    }

    fn remove(&mut self, blob: BlobId) {
        if let Some(item) = self.items.remove(&blob) {
            self.due.remove(&(item.due, blob));
            self.key_bytes -= item.owner.map_or(0, |owner| owner.key.as_str().len() as u64);
        }
    }

    fn wait(&mut self, blob: BlobId, due: Instant) {
        if let Some(item) = self.items.get_mut(&blob) {
            (item.state, item.due) = (State::Waiting, due);
            self.due.insert((due, blob));
        }
    }

    /// Ask what is due.
    pub(super) fn drive(
        &mut self,
        now: Instant,
        leader: Option<StoreId>,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        if self.asked.as_ref().is_some_and(|asked| asked.until <= now) {
            self.no_answer(now);
        }
        if self.due.first().is_none_or(|(due, _)| *due > now) {
            return;
        }
        let due: Vec<BlobId> = self
            .due
            .iter()
            .take_while(|(due, _)| *due <= now)
            .map(|(_, blob)| *blob)
            .take(2 * BLOBS_ASKED_MAX)
            .collect();
        let may_ask = self.asked.is_none() && self.not_before <= now;
        let most = if buggify!(OneBlobAsked) { 1 } else { BLOBS_ASKED_MAX };
        let mut blobs = Vec::new();
        for blob in due {
            let Some(item) = self.items.get_mut(&blob) else { continue };
            match &item.owner {
                None if self.looks.len() < LOOKS_MAX => {
                    self.due.remove(&(item.due, blob));
                    item.state = State::Looking;
                    self.next_op += 1;
                    let op = RECLAIM_OPS | self.next_op;
                    self.looks.insert(op, blob);
                    let chunk = ChunkId { blob, number: item.number };
                    host.storage.look_at_chunk(op, chunk, Look::Owner, fx);
                }
                Some(owner) if may_ask && blobs.len() < most => {
                    self.due.remove(&(item.due, blob));
                    item.state = State::Asked;
                    item.again = false;
                    blobs.push(OwnedBlob { blob, owner: owner.clone() });
                }
                _ => {}
            }
        }
        if blobs.is_empty() {
            return;
        }
        let known = self.leader.or(leader).filter(|store| Some(*store) != self.mute);
        let to = known.unwrap_or_else(|| {
            let voters = &host.map().voters;
            voters[self.turn % voters.len()]
        });
        self.next_call += 1;
        let call = host.call_id(self.next_call);
        let asked = blobs.iter().map(|blob| blob.blob).collect();
        self.asked = Some(Asked { call, to, until: now + PATIENCE, blobs: asked });
        host.tell(to, Message::BlobAsk(BlobAsk { call, blobs }), fx);
    }

    fn no_answer(&mut self, now: Instant) {
        probe!(NoAnswerOnBlobs);
        self.leader = None;
        self.turn = self.turn.wrapping_add(1);
        self.not_before = now + PAUSE;
        let Some(asked) = self.asked.take() else { return };
        self.mute = Some(asked.to);
        for blob in asked.blobs {
            self.wait(blob, now);
        }
    }

    /// The range answers: each blob, what it is, whether a copy waits for that, and whether it was doubted.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        from: StoreId,
        answer: BlobAnswer,
    ) -> Vec<Judged> {
        let fits = |asked: &mut Asked| {
            let all = |count| count == asked.blobs.len();
            asked.call == answer.call
                && answer.result.as_ref().map_or(true, |said| all(said.verdicts.len()))
        };
        let Some(asked) = self.asked.take_if(fits) else { return Vec::new() };
        let verdicts = match answer.result {
            Ok(said) => said.verdicts,
            Err(leader) => {
                self.asked = Some(asked);
                self.no_answer(now);
                self.leader = leader;
                return Vec::new();
            }
        };
        (self.leader, self.mute) = (Some(from), None);
        let mut judged = Vec::new();
        for (blob, verdict) in asked.blobs.into_iter().zip(verdicts) {
            let Some(item) = self.items.get_mut(&blob) else { continue };
            if item.again {
                self.wait(blob, now);
                continue;
            }
            let for_repair = core::mem::take(&mut item.for_repair);
            judged.push(Judged { blob, verdict, for_repair, doubted: item.doubted });
            let is_settled = matches!(verdict, BlobVerdict::Live | BlobVerdict::Gone);
            if is_settled || !item.doubted {
                self.remove(blob);
                continue;
            }
            probe!(AskedAgain);
            let pause = AGAIN * 2_u32.pow(item.tries.min(DOUBLINGS_MAX));
            // Each chunk of a blob that repair pulls asks at once: that says nothing of how long it will be so.
            item.tries += u32::from(!for_repair);
            self.wait(blob, now + pause);
        }
        judged
    }

    /// A look at a header has ended.
    pub(super) fn looked(&mut self, now: Instant, op: u64, result: Result<Looked, ChunkError>) {
        let Some(blob) = self.looks.remove(&op) else { return };
        let Some(item) = self.items.get_mut(&blob) else { return };
        match result {
            Ok(Looked::Owned(owner)) if item.owner.is_none() => {
                self.key_bytes += owner.key.as_str().len() as u64;
                item.owner = Some(owner);
                self.wait(blob, now);
            }
            _ if item.owner.is_some() => self.wait(blob, now),
            Err(ChunkError::Overloaded) => self.wait(blob, now + PAUSE),
            // It is gone meanwhile, or does not say whose it is: that is for scrubbing to mend first.
            _ => self.remove(blob),
        }
    }

    /// How many blobs are in question.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Bytes in memory, and how many there may be.
    pub(super) fn memory(&self) -> (u64, u64) {
        let bytes = self.items.len() as u64 * BYTES_EACH + self.key_bytes;
        (bytes, 2 * ITEMS_MAX as u64 * (BYTES_EACH + KEY_BYTES_MAX as u64))
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        let reason = "ask about blobs";
        let answer = self.asked.as_ref().map(|asked| Deadline { at: asked.until, reason });
        let first = self.due.first().filter(|_| self.asked.is_none() && self.looks.is_empty());
        let next = first.map(|(due, _)| Deadline { at: (*due).max(self.not_before), reason });
        Deadline::earlier(answer, next)
    }

    pub(super) fn check(&self) {
        let in_state = |state| self.items.values().filter(|item| item.state == state).count();
        assert_eq!(in_state(State::Waiting), self.due.len(), "what waits has its time");
        assert_eq!(in_state(State::Looking), self.looks.len());
        let asked = self.asked.as_ref().map_or(0, |asked| asked.blobs.len());
        assert_eq!(in_state(State::Asked), asked, "what is asked is in the question");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BlobSequence, BucketId, LogIndex, MapEpoch, SessionId, TenantId};
    use crate::message::BlobVerdicts;
    use crate::object::ObjectKey;

    /// As [`Questions::drive`] asks, and as the range answers that it cannot be said yet.
    fn asked_in_vain(questions: &mut Questions, blob: BlobId, now: Instant) {
        let item = questions.items.get_mut(&blob).expect("it is in question");
        questions.due.remove(&(item.due, blob));
        item.state = State::Asked;
        let call = CallId(questions.next_call);
        let (to, until) = (StoreId(1), now + PATIENCE);
        questions.asked = Some(Asked { call, to, until, blobs: vec![blob] });
        let said = BlobVerdicts {
            directory: LogIndex(1),
            settled: MapEpoch(1),
            verdicts: vec![BlobVerdict::Open],
        };
        questions.answered(now, StoreId(1), BlobAnswer { call, result: Ok(said) });
        questions.check();
    }

    /// Seed 0x2347: a hundred chunks of an upload under way were pulled, and the doubt about it was not
    /// looked at for a quarter of an hour.
    #[test]
    fn repair_that_asks_often_does_not_put_a_doubt_off() {
        let blob = BlobId { session: SessionId(1), sequence: BlobSequence(1) };
        let key = ObjectKey::parse("key").expect("a key");
        let owner = Target { tenant: TenantId(0), bucket: BucketId(1), key };
        let mut questions = Questions::default();
        let mut now = Instant::from_millis(1000);
        questions.doubt(now, blob, owner.clone());
        for _ in 0..100 {
            questions.ask_for_repair(blob, owner.clone());
            asked_in_vain(&mut questions, blob, now);
        }
        for pause in [2, 2, 4, 8].map(Duration::from_secs) {
            assert_eq!(questions.next_deadline().map(|next| next.at), Some(now + pause));
            now = now + pause;
            asked_in_vain(&mut questions, blob, now);
        }
    }
}
