//! Chunks that this store lacks, or may lack, and how each is made good.
//!
//! ```text
//! Waiting ─▶ Looking ─▶ Pulling ─▶ Asking ─▶ Writing ─▶ done
//!    ▲          │  sound: done        │ dead: done  │ next source, or
//!    └──────────┴─────────────────────┴─────────────┘ wait and try again
//! ```
//!
//! A damaged copy that no source has any better is one of a blob that is dead, or lost. Whose it was says its
//! header, and the range is asked; but if that cannot be read either, nobody can be asked, and nothing could
//! ever be made of it: it is dropped, since a copy that is nobody's would keep all others looking for
//! a better one, and a change of the map from being proven.
//!
//! Few are in hand at a time, at a bounded rate, and none while gateways have the disk's budget in
//! use: repair is the background.

use core::ops::RangeInclusive;
use std::collections::{BTreeMap, BTreeSet};

use super::REPAIR_OPS;
use super::owners::Owners;
use crate::cluster::ROOT_RANGE;
use crate::disk::Room;
use crate::effects::{Effect, Effects, Now};
use crate::ids::{BlobId, CallId, ChunkId, Endpoint, LogIndex, StoreId};
use crate::message::{
    ChunkAsk, ChunkCopy, ChunkError, ChunkPulled, ChunkWrite, ChunkWritten, Message,
};
use crate::object::OwnedBlob;
use crate::storage::{Durable, Look, Looked};
use crate::store::observe::Observation;
use crate::store::serving::Host;
use crate::time::{Deadline, Duration, Instant};
use crate::wire::BULK_BYTES_MAX;

/// Chunks that are known to be in question; beyond it new ones are turned away, and a comparison has
/// to find them again.
const ITEMS_MAX: usize = 4096;
/// Chunks in hand at a time: enough that a zone 80 ms away fills its copies by some megabytes each round trip.
const ACTIVE_MAX: usize = 16;
/// Callers that wait for one chunk.
const ASKERS_MAX: usize = 8;
/// How long one source may take.
const PULL_TIMEOUT: Duration = Duration::from_secs(2);
/// After a store that had no room, or sources that all failed, at most this long until the next try.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Chunks of which no copy is left anywhere that are remembered; more are counted as forgotten.
const LOST_MAX: usize = 65_536;
/// Whether a copy of them has turned up is asked so often...
const LOST_AGAIN: Duration = Duration::from_secs(30);
/// ...and of so many at a time.
const LOST_AT_A_TIME: usize = 256;
/// Until something that was busy is asked again.
const BUSY: Duration = Duration::from_millis(20);

/// What is known of this store's own copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ours {
    Unknown,
    Missing,
    Damaged,
}

/// Why a chunk is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A peer's inventory has it, ours has not. It may be on its way: it is left alone for a while.
    Compared,
    /// Somebody says that it should be here, and whether it is known to have been stored.
    Told { existed: bool },
    /// It was read, and did not verify.
    Read,
}

#[derive(Debug)]
struct Item {
    /// Named by others, best first.
    sources: Vec<StoreId>,
    askers: Vec<(Endpoint, CallId)>,
    ours: Ours,
    /// A comparison waits for the answer whether it is really missing.
    unjudged: bool,
    /// Whether the own copy is to be read, not only looked up.
    thorough: bool,
    /// Whether it is known to have been stored, and not to have been freed as far as anybody remembers: by a
    /// read, or a gateway that says what two zones have. Who only asks for a copy may ask for one that
    /// never was.
    existed: bool,
    /// Rounds over all sources that failed.
    rounds: u32,
    /// The key in `due`; only while it waits.
    due: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting,
    Looking,
    Pulling {
        call: CallId,
        until: Instant,
        round: Round,
    },
    /// The copy is here; the range is asked whether it is wanted.
    Asking {
        copy: Box<ChunkCopy>,
        round: Round,
    },
    Writing {
        round: Round,
    },
    /// The own copy is damaged, and nobody has another: its header is read.
    Identifying,
    /// The header cannot be read either: it is taken out of the index.
    Dropping,
}

/// All chunks of a blob.
fn chunks_of(blob: BlobId) -> RangeInclusive<ChunkId> {
    ChunkId { blob, number: 0 }..=ChunkId { blob, number: u32::MAX }
}

/// One round over the sources of a chunk.
#[derive(Debug)]
struct Round {
    sources: Vec<StoreId>,
    at: usize,
    /// Whether all so far said that they do not have it.
    nobody_has_it: bool,
    error: ChunkError,
}

/// Something that a comparison or the report must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// Nothing was missing.
    Sound,
    /// A copy was missing or damaged.
    Unsound,
}

/// The chunks in question.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: BTreeMap<ChunkId, Item>,
    /// Those that wait, by the time of their next try.
    due: BTreeSet<(Instant, ChunkId)>,
    active: BTreeSet<ChunkId>,
    /// What is to be asked of the range.
    pub(super) to_ask: Vec<OwnedBlob>,
    /// Blobs that were freed elsewhere.
    pub(super) dead: Vec<(BlobId, LogIndex)>,
    /// Storage's operations of items in hand.
    ops: BTreeMap<u64, ChunkId>,
    next_op: u64,
    next_call: u64,
    /// Nothing is begun before this.
    not_before: Instant,
    unjudged: usize,
    missing: u64,
    damaged: u64,
    pub(super) repaired: u64,
    /// Chunks that were stored once, and that neither this store nor any source has any more. They stay
    /// missing until a copy turns up.
    lost: BTreeSet<ChunkId>,
    /// The last of them that was asked for again, and when the next are.
    lost_at: Option<ChunkId>,
    lost_again: Instant,
    /// Damaged copies that found no place here: this life cannot say any more that nothing is wrong.
    pub(super) forgotten: u64,
}

impl Queue {
    /// Take note of a chunk.
    ///
    /// # Errors
    /// [`ChunkError::Overloaded`] if there are too many.
    pub(super) fn add(
        &mut self,
        now: Instant,
        chunk: ChunkId,
        why: Why,
        sources: &[StoreId],
        asker: Option<(Endpoint, CallId)>,
    ) -> Result<(), ChunkError> {
        if self.items.len() >= ITEMS_MAX && !self.items.contains_key(&chunk) {
            self.forgotten += u64::from(why == Why::Read);
            return Err(ChunkError::Overloaded);
        }
        let due = match why {
            Why::Compared => now + super::SETTLE,
            // Somebody waits for it, or reads it: before all that was only found.
            Why::Told { .. } | Why::Read => Instant::ZERO,
        };
        let new = Item {
            sources: Vec::new(),
            askers: Vec::new(),
            ours: Ours::Unknown,
            unjudged: false,
            thorough: false,
            existed: false,
            rounds: 0,
            due,
            state: State::Waiting,
        };
        let item = self.items.entry(chunk).or_insert(new);
        for source in sources {
            if item.sources.len() < crate::message::REPAIR_SOURCES_MAX
                && !item.sources.contains(source)
            {
                item.sources.push(*source);
            }
        }
        item.thorough |= why != Why::Compared;
        // What a peer had and nobody has any more was freed while we were about to ask for it.
        item.existed |= matches!(why, Why::Told { existed: true } | Why::Read);
        if why == Why::Compared && item.ours == Ours::Unknown && !item.unjudged {
            item.unjudged = true;
            self.unjudged += 1;
        }
        if matches!(item.state, State::Waiting) {
            self.due.remove(&(item.due, chunk));
            // What has failed before waits for its turn, unless somebody asks.
            if item.rounds == 0 || asker.is_some() {
                item.due = item.due.min(due);
            }
            self.due.insert((item.due, chunk));
        }
        match asker {
            // Asked again.
            Some(asker) if item.askers.contains(&asker) => Ok(()),
            Some(_) if item.askers.len() >= ASKERS_MAX => Err(ChunkError::Overloaded),
            Some(asker) => {
                item.askers.push(asker);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether the own copy of a chunk is known not to verify.
    pub(super) fn is_damaged(&self, chunk: ChunkId) -> bool {
        self.items.get(&chunk).is_some_and(|item| item.ours == Ours::Damaged)
    }

    /// Begin what is due, and give up what took too long.
    pub(super) fn drive(&mut self, now: Now, host: &mut Host, fx: &mut Effects) {
        let late: Vec<ChunkId> = self
            .active
            .iter()
            .filter(|chunk| match self.items.get(chunk).map(|item| &item.state) {
                Some(State::Pulling { until, .. }) => *until <= now.instant,
                _ => false,
            })
            .copied()
            .collect();
        for chunk in late {
            probe!(PullTimedOut);
            self.source_failed(now, chunk, ChunkError::Overloaded, host, fx);
        }
        self.ask_again_for_lost(now.instant);
        while self.active.len() < ACTIVE_MAX && self.not_before <= now.instant {
            if !self.active.is_empty() && buggify!(OneRepair) {
                return;
            }
            let Some((due, chunk)) = self.due.first().copied() else { return };
            if due > now.instant {
                return;
            }
            let (in_hand, budget) = host.storage.chunk_bytes();
            if in_hand > budget / 4 * 3 {
                self.not_before = now.instant + BUSY;
                return;
            }
            self.due.pop_first();
            self.look(chunk, host, fx);
        }
    }

    /// Perhaps a store came back that has what nobody had.
    fn ask_again_for_lost(&mut self, now: Instant) {
        if self.lost.is_empty() || self.lost_again > now {
            return;
        }
        self.lost_again = now + LOST_AGAIN;
        let room = (ITEMS_MAX / 2).saturating_sub(self.items.len()).min(LOST_AT_A_TIME);
        let behind = |chunk: &&ChunkId| self.lost_at.is_none_or(|at| **chunk > at);
        let mut again: Vec<ChunkId> = self.lost.iter().filter(behind).take(room).copied().collect();
        if again.is_empty() {
            again = self.lost.iter().take(room).copied().collect();
        }
        self.lost_at = again.last().copied().or(self.lost_at);
        for chunk in again {
            self.lost.remove(&chunk);
            let _room_was_asked_for = self.add(now, chunk, Why::Told { existed: true }, &[], None);
        }
    }

    fn look(&mut self, chunk: ChunkId, host: &mut Host, fx: &mut Effects) {
        let op = self.op(chunk);
        let Some(item) = self.items.get_mut(&chunk) else { return };
        item.state = State::Looking;
        self.active.insert(chunk);
        let how = if item.thorough { Look::Prove } else { Look::Index };
        host.storage.look_at_chunk(op, chunk, how, fx);
    }

    /// A look at the own copy has ended.
    pub(super) fn looked(
        &mut self,
        now: Now,
        op: u64,
        result: Result<Looked, ChunkError>,
        owners: &mut Owners,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Option<Judged> {
        let chunk = self.ops.remove(&op)?;
        if self.items.get(&chunk).is_some_and(|item| matches!(item.state, State::Identifying)) {
            self.identified(now, chunk, result, host, fx);
            return None;
        }
        let ours = match result {
            Ok(Looked::Proven(durable)) => {
                if self.items.contains_key(&chunk) {
                    host.observer.note(ROOT_RANGE, || Observation::Kept { chunk });
                }
                self.finish(chunk, Ok(&durable), host, fx);
                return Some(Judged::Sound);
            }
            Ok(_) => {
                // In the index. If somebody has asked meanwhile, it is to be read.
                if self.items.get(&chunk).is_some_and(|item| item.thorough) {
                    self.judge(chunk, Ours::Unknown);
                    self.wait(chunk, Instant::ZERO);
                    return None;
                }
                self.remove(chunk);
                return Some(Judged::Sound);
            }
            Err(ChunkError::Missing) => Ours::Missing,
            Err(ChunkError::Damaged | ChunkError::Io) => Ours::Damaged,
            Err(_) => {
                self.wait(chunk, now.instant + BUSY);
                return None;
            }
        };
        let news = self.items.get(&chunk).is_some_and(|item| item.ours != ours);
        self.judge(chunk, ours);
        let own = host.config.store;
        let item = self.items.get_mut(&chunk)?;
        let mut sources = item.sources.clone();
        let owned = owners.of(chunk, host.map());
        sources.extend(owned.present.iter().chain(&owned.former));
        let mut seen = BTreeSet::from([own]);
        sources.retain(|source| seen.insert(*source) && !host.map().retired.contains(source));
        let round = Round { sources, at: 0, nobody_has_it: true, error: ChunkError::Missing };
        self.pull(now, chunk, round, host, fx);
        news.then_some(Judged::Unsound)
    }

    /// The header of a copy that is damaged everywhere was read, or could not be.
    fn identified(
        &mut self,
        now: Now,
        chunk: ChunkId,
        result: Result<Looked, ChunkError>,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        match result {
            Err(ChunkError::Damaged | ChunkError::Io) => {
                let text = format!(
                    "no sound copy of {chunk} is left on any store, and the header of the one here \
                     cannot be read: it is given up"
                );
                fx.push(Effect::Note(text));
                let op = self.op(chunk);
                if let Some(item) = self.items.get_mut(&chunk) {
                    item.state = State::Dropping;
                }
                host.storage.free_chunk(op, chunk, fx);
            }
            Ok(Looked::Owned(owner)) => {
                self.to_ask.push(OwnedBlob { blob: chunk.blob, owner });
                self.wait(chunk, now.instant + BACKOFF_MAX);
            }
            _ => self.wait(chunk, now.instant + BUSY),
        }
    }

    /// A copy that was nobody's is gone, or is in use just now.
    pub(super) fn dropped(
        &mut self,
        now: Now,
        op: u64,
        result: Result<(), ChunkError>,
        host: &Host,
        fx: &mut Effects,
    ) {
        let Some(chunk) = self.ops.remove(&op) else { return };
        match result {
            Ok(()) => self.finish(chunk, Err(ChunkError::Missing), host, fx),
            Err(_) => self.wait(chunk, now.instant + BUSY),
        }
    }

    fn pull(
        &mut self,
        now: Now,
        chunk: ChunkId,
        mut round: Round,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        if round.at < round.sources.len() && buggify!(SourceSkipped) {
            (round.nobody_has_it, round.error) = (false, ChunkError::Overloaded);
            round.at += 1;
        }
        let Some(source) = round.sources.get(round.at).copied() else {
            return self.round_failed(now, chunk, &round, host, fx);
        };
        self.next_call += 1;
        let call = host.call_id(self.next_call);
        let until = now.instant + PULL_TIMEOUT;
        if let Some(item) = self.items.get_mut(&chunk) {
            item.state = State::Pulling { call, until, round };
            let pull = Message::ChunkPull(ChunkAsk { call, chunk });
            host.send(Endpoint::Store(source), pull, fx);
        }
    }

    /// A source has answered.
    pub(super) fn pulled(
        &mut self,
        now: Now,
        pulled: ChunkPulled,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let ChunkPulled { call, chunk, store, directory, result } = pulled;
        let Some(item) = self.items.get_mut(&chunk) else { return };
        let expected = match &item.state {
            State::Pulling { call: open, round, .. } => {
                *open == call && round.sources.get(round.at) == Some(&store)
            }
            _ => false,
        };
        if !expected {
            return;
        }
        match result {
            Err(ChunkError::Freed) => {
                probe!(FreedElsewhere);
                // The source knows that the blob is dead: what is here of it, and may not say whose it is, goes.
                self.dead.push((chunk.blob, directory));
                self.finish(chunk, Err(ChunkError::Missing), host, fx);
            }
            Err(error) => self.source_failed(now, chunk, error, host, fx),
            Ok(copy) => {
                let State::Pulling { round, .. } =
                    core::mem::replace(&mut item.state, State::Waiting)
                else {
                    unreachable!("looked at above");
                };
                self.to_ask.push(OwnedBlob { blob: chunk.blob, owner: copy.owner.clone() });
                item.state = State::Asking { copy: Box::new(copy), round };
            }
        }
    }

    /// The range wants this blob: the copies that were pulled of it are written.
    pub(super) fn wanted(&mut self, now: Now, blob: BlobId, host: &mut Host, fx: &mut Effects) {
        let active = self.active.range(chunks_of(blob)).copied();
        let asking = active.filter(|chunk| {
            let item = self.items.get(chunk);
            item.is_some_and(|item| matches!(item.state, State::Asking { .. }))
        });
        let asking: Vec<ChunkId> = asking.collect();
        for chunk in asking {
            let Some(item) = self.items.get_mut(&chunk) else { continue };
            let State::Asking { copy, round } = core::mem::replace(&mut item.state, State::Waiting)
            else {
                continue;
            };
            let replace = item.ours == Ours::Damaged && !planted!(RepairLeavesDamage);
            item.state = State::Writing { round };
            let pace = u64::try_from(copy.data.len()).unwrap_or(u64::MAX);
            let rate = host.config.timing.repair_bytes_per_second.max(1);
            let pause = Duration::from_nanos(pace.saturating_mul(1_000_000_000) / rate);
            self.not_before = self.not_before.max(now.instant) + pause;
            if host.room() < Room::Data {
                self.no_room(now, chunk, host, fx);
                continue;
            }
            let op = self.op(chunk);
            let call = CallId(0);
            let ChunkCopy { owner, epoch, block_size, data, checksums } = *copy;
            let write = ChunkWrite { call, chunk, owner, epoch, block_size, data, checksums };
            // It verifies each block before it keeps any.
            host.storage.write_chunk(op, &write, replace, fx);
        }
    }

    /// No copies of a blob are made any more. `true`: one is being written just now.
    pub(super) fn forget(&mut self, blob: BlobId, host: &Host, fx: &mut Effects) -> bool {
        let lost: Vec<ChunkId> = self.lost.range(chunks_of(blob)).copied().collect();
        for chunk in lost {
            self.lost.remove(&chunk);
        }
        let mut busy = false;
        let items: Vec<ChunkId> =
            self.items.range(chunks_of(blob)).map(|(chunk, _)| *chunk).collect();
        for chunk in items {
            let state = self.items.get(&chunk).map(|item| &item.state);
            match state {
                Some(State::Writing { .. } | State::Identifying | State::Dropping) => busy = true,
                Some(State::Asking { .. }) => {
                    probe!(CopyNotWanted);
                    self.finish(chunk, Err(ChunkError::Missing), host, fx);
                }
                _ => self.finish(chunk, Err(ChunkError::Missing), host, fx),
            }
        }
        busy
    }

    /// A write of a pulled copy has ended.
    pub(super) fn written(
        &mut self,
        now: Now,
        op: u64,
        result: Result<Durable, ChunkError>,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let Some(chunk) = self.ops.remove(&op) else { return };
        match result {
            Ok(durable) => {
                let item = self.items.get(&chunk);
                probe!(ChunkRepaired);
                if item.is_some_and(|item| item.ours == Ours::Damaged) {
                    probe!(DamagedReplaced);
                }
                host.observer.note(ROOT_RANGE, || Observation::Kept { chunk });
                self.repaired += 1;
                self.finish(chunk, Ok(&durable), host, fx);
            }
            Err(ChunkError::Full) => self.no_room(now, chunk, host, fx),
            Err(ChunkError::Overloaded) => self.wait(chunk, now.instant + BUSY),
            // What came does not verify, or is not what we once had.
            Err(error) => self.source_failed(now, chunk, error, host, fx),
        }
    }

    /// The link to a peer was reset: what was asked of it is asked of the next.
    pub(super) fn link_down(&mut self, now: Now, peer: StoreId, host: &mut Host, fx: &mut Effects) {
        let of_peer = |item: &Item| match &item.state {
            State::Pulling { round, .. } => round.sources.get(round.at) == Some(&peer),
            _ => false,
        };
        let active = self.active.iter().copied();
        let lost: Vec<ChunkId> =
            active.filter(|chunk| self.items.get(chunk).is_some_and(of_peer)).collect();
        for chunk in lost {
            self.source_failed(now, chunk, ChunkError::Overloaded, host, fx);
        }
    }

    fn source_failed(
        &mut self,
        now: Now,
        chunk: ChunkId,
        error: ChunkError,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let Some(item) = self.items.get_mut(&chunk) else { return };
        match core::mem::replace(&mut item.state, State::Waiting) {
            State::Pulling { mut round, .. } | State::Writing { mut round } => {
                round.nobody_has_it &= error == ChunkError::Missing;
                if error != ChunkError::Missing {
                    round.error = error;
                }
                round.at += 1;
                self.pull(now, chunk, round, host, fx);
            }
            state => item.state = state,
        }
    }

    /// All sources have failed.
    fn round_failed(
        &mut self,
        now: Now,
        chunk: ChunkId,
        round: &Round,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let Some(item) = self.items.get_mut(&chunk) else { return };
        if round.nobody_has_it && item.ours == Ours::Missing {
            // No owner has it. If it was stored once, every copy is lost, and is to be told of as long
            // as that is so; else whoever asked for it was mistaken.
            if item.existed && self.lost.len() >= LOST_MAX {
                self.forgotten += 1;
            } else if item.existed {
                if self.lost.is_empty() {
                    self.lost_again = now.instant + LOST_AGAIN;
                }
                probe!(LostEverywhere);
                self.lost.insert(chunk);
            }
            return self.finish(chunk, Err(ChunkError::Missing), host, fx);
        }
        probe!(RoundFailed);
        item.rounds += 1;
        let pause = Duration::from_millis(100 << item.rounds.min(6)).min(BACKOFF_MAX);
        let is_the_last =
            round.nobody_has_it && !round.sources.is_empty() && item.ours == Ours::Damaged;
        self.answer(chunk, Err(round.error), host, fx);
        if is_the_last {
            let op = self.op(chunk);
            if let Some(item) = self.items.get_mut(&chunk) {
                item.state = State::Identifying;
            }
            return host.storage.look_at_chunk(op, chunk, Look::Owner, fx);
        }
        self.wait(chunk, now.instant + pause);
    }

    fn no_room(&mut self, now: Now, chunk: ChunkId, host: &Host, fx: &mut Effects) {
        self.answer(chunk, Err(ChunkError::Full), host, fx);
        self.wait(chunk, now.instant + BACKOFF_MAX);
    }

    /// Back to waiting, until `due`.
    fn wait(&mut self, chunk: ChunkId, due: Instant) {
        self.active.remove(&chunk);
        if let Some(item) = self.items.get_mut(&chunk) {
            item.state = State::Waiting;
            item.due = due;
            self.due.insert((due, chunk));
        }
    }

    /// Answer those who wait, and forget the chunk.
    fn finish(
        &mut self,
        chunk: ChunkId,
        result: Result<&Durable, ChunkError>,
        host: &Host,
        fx: &mut Effects,
    ) {
        self.answer(chunk, result, host, fx);
        self.remove(chunk);
    }

    fn remove(&mut self, chunk: ChunkId) {
        self.judge(chunk, Ours::Unknown);
        self.active.remove(&chunk);
        // What is asked of the disk for it yet is not for one that comes in its place.
        self.ops.retain(|_, of| *of != chunk);
        if let Some(item) = self.items.remove(&chunk) {
            self.due.remove(&(item.due, chunk));
        }
    }

    fn answer(
        &mut self,
        chunk: ChunkId,
        result: Result<&Durable, ChunkError>,
        host: &Host,
        fx: &mut Effects,
    ) {
        let Some(item) = self.items.get_mut(&chunk) else { return };
        let store = host.config.store;
        for (asker, call) in core::mem::take(&mut item.askers) {
            let written = match result {
                Ok(durable) => ChunkWritten::stored(call, chunk, store, durable),
                Err(error) => ChunkWritten::refused(call, chunk, store, error),
            };
            host.send(asker, Message::ChunkWritten(written), fx);
        }
    }

    /// It is known now what the own copy is.
    fn judge(&mut self, chunk: ChunkId, ours: Ours) {
        let Some(item) = self.items.get_mut(&chunk) else { return };
        for (is, count) in [(Ours::Missing, &mut self.missing), (Ours::Damaged, &mut self.damaged)]
        {
            *count -= u64::from(item.ours == is);
            *count += u64::from(ours == is);
        }
        item.ours = ours;
        if core::mem::take(&mut item.unjudged) {
            self.unjudged -= 1;
        }
    }

    fn op(&mut self, chunk: ChunkId) -> u64 {
        self.next_op += 1;
        let op = REPAIR_OPS | self.next_op;
        self.ops.insert(op, chunk);
        op
    }

    /// Whether a comparison may go on to add chunks.
    pub(super) fn takes_more(&self) -> bool {
        self.items.len() + crate::message::INVENTORY_IDS_MAX <= ITEMS_MAX / 2
    }

    /// Bytes of copies that were pulled and not judged yet, and how many there may be.
    pub(super) fn copies_bytes(&self) -> (u64, u64) {
        let items = self.active.iter().filter_map(|chunk| self.items.get(chunk));
        let bytes = items.map(|item| match &item.state {
            State::Asking { copy, .. } => copy.data.len() as u64,
            _ => 0,
        });
        (bytes.sum(), ACTIVE_MAX as u64 * BULK_BYTES_MAX as u64)
    }

    /// Chunks of comparisons of which it is not known yet whether they are missing.
    pub(super) fn unjudged(&self) -> usize {
        self.unjudged
    }

    /// Whether all that is known to be anywhere is here.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether nothing is known of which no copy is left anywhere.
    pub(super) fn has_lost_nothing(&self) -> bool {
        self.lost.is_empty()
    }

    /// Those of which no copy is left anywhere, too.
    pub(super) fn missing(&self) -> u64 {
        let lost = self.lost.iter().filter(|chunk| !self.items.contains_key(chunk)).count();
        self.missing + u64::try_from(lost).unwrap_or(u64::MAX)
    }

    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        let next = self.due.first().filter(|_| self.active.len() < ACTIVE_MAX);
        let next = next.map(|(due, _)| Deadline {
            at: (*due).max(self.not_before),
            reason: "a chunk is to be repaired",
        });
        let pulls = self.active.iter().filter_map(|chunk| match &self.items.get(chunk)?.state {
            State::Pulling { until, .. } => {
                Some(Deadline { at: *until, reason: "a chunk is being pulled" })
            }
            _ => None,
        });
        let lost = (!self.lost.is_empty())
            .then_some(Deadline { at: self.lost_again, reason: "a lost chunk may have turned up" });
        pulls.map(Some).chain([lost]).fold(next, Deadline::earlier)
    }

    pub(super) fn check(&self) {
        assert!(self.items.len() <= ITEMS_MAX && self.active.len() <= ACTIVE_MAX);
        assert!(self.lost.len() <= LOST_MAX);
        let waiting = self.items.values().filter(|item| matches!(item.state, State::Waiting));
        assert_eq!(waiting.count(), self.due.len(), "what waits has its time");
        assert_eq!(self.items.len() - self.due.len(), self.active.len());
        let count = |ours| self.items.values().filter(|item| item.ours == ours).count() as u64;
        assert_eq!((self.missing, self.damaged), (count(Ours::Missing), count(Ours::Damaged)));
        assert_eq!(self.unjudged, self.items.values().filter(|item| item.unjudged).count());
    }
}
