//! The gateway machine: takes clients' requests, asks ranges and stores, and answers.
//!
//! It keeps nothing that must survive: all it knows can be asked for again, and a gateway that was
//! fenced or started anew begins with an empty memory and a new session. It promises that a success
//! reply is given only for what a range has applied, over chunks that two zones have synced; that no
//! byte goes out unverified; that a request whose command may have taken effect is never answered as
//! if it had not; and that its memory is bounded. Parsing HTTP, checking signatures and verifying
//! bodies is left to the edge, redundancy beyond two zones to repair.
//!
//! Code map: `calls` and `chunks` talk to ranges and stores; `put`, `get`, `copy`, `list`,
//! `delete` and `simple` are the requests' machines over them; `context` is what they share.

mod answers;
pub(crate) mod audit;
mod buckets;
mod calls;
mod chunks;
mod conditions;
mod context;
mod copy;
mod delete;
mod fetch;
mod get;
mod hints;
mod leader;
mod list;
mod pieces;
mod put;
mod ranges;
mod report;
mod session;
mod simple;
mod under_way;
mod verify;
mod work;

pub use report::GatewayReport;

#[cfg(test)]
mod tests;

#[cfg(feature = "invariants")]
use std::collections::BTreeSet;
use std::collections::{BTreeMap, VecDeque};

use self::buckets::BucketCache;
use self::calls::{Calls, Finished, Owner, Wires};
use self::chunks::{ChunkCall, Chunks, Kind};
use self::context::{CallIds, ChunkFailure, Context, Counts, Input, Shared, Timer, Timers};
use self::hints::Hints;
use self::session::{Session, Verdict};
use self::under_way::UnderWay;
#[cfg(feature = "invariants")]
use self::work::Reading;
use self::work::{WaitsFor, Work};
use crate::cluster::GatewayConfig;
use crate::directory::Directory;
use crate::effects::{Effect, Effects, GatewayEvent, Now};
use crate::fair::{Admission, Fair, News};
#[cfg(feature = "invariants")]
use crate::ids::BlobId;
use crate::ids::{
    BlobSequence, CallId, Endpoint, LogIndex, MapEpoch, RequestId, SessionId, StoreId,
};
use crate::level::Level;
use crate::message::{Answer, ChunkError, Envelope, Message, SessionReport};
use crate::range::command::{Outcome, ReadReply, Rejection};
use crate::request::{ApiError, Request};
use crate::rng::Rng;
use crate::time::{Deadline, Duration, Instant};

/// A client that neither sends nor takes a byte for so long is given up: it must not hold the
/// budget, nor an old version, for ever.
const CLIENT_PATIENCE: Duration = Duration::from_secs(120);

/// Requests that may wait for room for their bodies; beyond it a client is told to slow down. They
/// hold no body bytes, so that the bound is on patience rather than on memory.
const BODIES_WAITING_MAX: usize = 256;

/// The gateway machine.
#[derive(Debug)]
pub struct Gateway {
    session: Session,
    open: BTreeMap<RequestId, Open>,
    /// Requests that wait for a session, in the order in which they came.
    waiting: VecDeque<RequestId>,
    /// The cluster's level, if a range has said that this gateway does not speak it.
    foreign: Option<Level>,
    shared: Shared,
}

/// An open request.
#[derive(Debug)]
struct Open {
    work: Work,
    /// The newest state of the range that was known of when it began: it reads that or a later one.
    heard: LogIndex,
    /// When it last got on.
    since: Instant,
    /// When its timer rings.
    timer_at: Instant,
}

impl Gateway {
    /// A machine that waits for its `Start` event.
    ///
    /// # Panics
    /// If the configuration contradicts itself: no voters, a cut whose blocks do not fill its
    /// chunks or whose inline bodies are larger than a chunk.
    pub fn new(config: GatewayConfig) -> Self {
        let cut = config.cut;
        assert!(!config.map.voters.is_empty(), "a range has voters");
        assert!(cut.block > 0, "blocks have bytes");
        assert!(cut.chunk.is_multiple_of(cut.block), "blocks fill their chunk");
        assert!(cut.inline_max < cut.chunk, "an inline body is smaller than a chunk");
        let shared = Shared {
            session: SessionId(0),
            next_blob: 1,
            calls: Calls::new(),
            chunks: Chunks::new(cut.chunk),
            hints: Hints::default(),
            under_way: UnderWay::default(),
            buckets: BucketCache::default(),
            budget: Fair::new(config.body_budget_bytes, BODIES_WAITING_MAX),
            places: Fair::new(config.requests_max as u64, 0),
            timers: Timers::default(),
            ids: CallIds::of_life(config.nonce),
            rng: Rng::new(config.seed),
            counts: Counts::default(),
            map: config.map.clone(),
            map_wanted: MapEpoch(0),
            config,
        };
        let (session, open, waiting) = (Session::Idle, BTreeMap::new(), VecDeque::new());
        Self { session, open, waiting, foreign: None, shared }
    }

    /// Take one event; see the crate's calling contract.
    pub fn step(&mut self, now: Now, event: GatewayEvent, fx: &mut Effects) {
        let now = now.instant;
        match event {
            GatewayEvent::Start => self.open_session(now, 0, false, fx),
            GatewayEvent::Deadline => self.deadline(now, fx),
            GatewayEvent::Message(envelope) => self.message(now, envelope, fx),
            GatewayEvent::LinkUp(Endpoint::Gateway(_))
            | GatewayEvent::LinkDown(Endpoint::Gateway(_)) => {}
            GatewayEvent::LinkUp(Endpoint::Store(peer)) => {
                self.shared.calls.link_up(now, peer);
                self.shared.chunks.succeeded(peer);
            }
            GatewayEvent::LinkDown(Endpoint::Store(peer)) => self.link_down(now, peer, fx),
            GatewayEvent::Request { id, request } => self.request(now, id, request, fx),
            GatewayEvent::Body { id, bytes } => self.input(now, id, Input::Body(bytes), fx),
            GatewayEvent::BodyEnd { id, digest } => self.input(now, id, Input::BodyEnd(digest), fx),
            GatewayEvent::BodyTaken { id, len } => self.input(now, id, Input::Taken(len), fx),
            GatewayEvent::Cancel { id } => self.close(now, id, fx),
        }
        self.admit(now, fx);
        if cfg!(feature = "invariants") {
            self.check();
        }
    }

    /// When to call with `Deadline`, and why.
    pub fn next_deadline(&self) -> Option<Deadline> {
        let (at, timer) = self.shared.timers.first()?;
        Some(Deadline { at, reason: timer.reason() })
    }

    /// Check the machine's invariants.
    ///
    /// # Panics
    /// If one does not hold: that is a bug in Trine.
    pub fn check(&self) {
        let is_open = |id: RequestId| self.open.contains_key(&id);
        self.shared.budget.check(is_open);
        self.shared.places.check(is_open);
        assert_eq!(self.shared.places.used(), self.open.len() as u64, "one place for each request");
        self.shared.calls.check(is_open);
        self.shared.chunks.check(is_open);
        self.shared.buckets.check();
        self.shared.under_way.check();
        assert!(self.open.len() <= self.shared.config.requests_max, "requests are bounded");
        for (id, open) in &self.open {
            let (in_hand, held) = (open.work.bytes_in_hand(), self.shared.budget.held_by(*id));
            assert!(in_hand <= held, "{id} has {in_hand} bytes in hand and reserved {held}");
        }
        let waits = |open: &&Open| matches!(open.work, Work::Waiting(..));
        assert_eq!(self.waiting.len(), self.open.values().filter(waits).count());
        let is_live = matches!(self.session, Session::Live { .. });
        assert!(!is_live || self.waiting.is_empty(), "with a session nobody waits for one");
    }

    /// The session, and the blobs whose chunks open requests are reading or about to, for an onlooker that
    /// judges whether one is freed too soon. Reads of very many blobs are left out.
    #[cfg(feature = "invariants")]
    pub fn reads(&self) -> (SessionId, BTreeSet<BlobId>) {
        let named = |open: &Open| match open.work.reading() {
            Reading::Blobs(blobs) => blobs.into_iter().copied().collect(),
            Reading::Nothing | Reading::Anything => Vec::new(),
        };
        (self.shared.session, self.open.values().flat_map(named).collect())
    }

    /// Which blobs each open request reads: [`Self::reads`], one by one.
    #[cfg(feature = "invariants")]
    pub fn reads_of_requests(&self) -> Vec<(RequestId, BlobId)> {
        let mut reads = Vec::new();
        for (id, open) in &self.open {
            if let Reading::Blobs(blobs) = open.work.reading() {
                reads.extend(blobs.into_iter().map(|blob| (*id, *blob)));
            }
        }
        reads
    }

    /// One line for operators and traces.
    pub fn status(&self) -> String {
        let Shared { config, map, budget, calls, chunks, hints, counts, .. } = &self.shared;
        let session = match (self.session, self.foreign) {
            (Session::Opening { .. }, Some(level)) => format!("refused at {level}"),
            (session, _) => session.to_string(),
        };
        let leader = calls.leader().map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        format!(
            "{} session={session} map={} leader={leader} requests={}/{} range_calls={} background={} \
             chunk_calls={} body_bytes={}/{} body_waiting={} copies_missing={} copies_damaged={} \
             hedges={} hints={} hints_waiting={}",
            config.gateway,
            map.epoch,
            self.open.len(),
            config.requests_max,
            calls.open(),
            calls.background(),
            chunks.open(),
            budget.used(),
            budget.total(),
            budget.waiting(),
            counts.copies_missing,
            counts.copies_damaged,
            counts.hedges,
            counts.hints,
            hints.waiting(),
        )
    }

    fn request(&mut self, now: Instant, id: RequestId, request: Request, fx: &mut Effects) {
        if self.open.contains_key(&id) {
            return fx.push(Effect::Note(format!("{id} came twice; the second is ignored")));
        }
        // Commands in the background count: they must be bounded too.
        let background = self.shared.calls.background();
        self.shared.places.set_outside(background as u64);
        if self.shared.places.claim(&request.tenant(), id, 1, 1) != Admission::Granted(1) {
            let in_hand = self.open.len() + background;
            let reason = format!("{in_hand} requests are in hand; nothing was done");
            self.shared.counts.slowed_down += 1;
            return fx.reply(id, Err(ApiError::SlowDown(reason)));
        }
        let heard = self.shared.under_way.heard();
        let work = Work::Waiting(Box::new(request), None);
        let open = Open { work, heard, since: now, timer_at: now };
        self.shared.timers.arm(now, Timer::Request(id));
        self.open.insert(id, open);
        self.waiting.push_back(id);
        if matches!(self.session, Session::Live { .. }) {
            self.begin_waiting(now, fx);
        } else {
            self.rearm(id);
        }
    }

    /// Begin the requests that waited for a session.
    fn begin_waiting(&mut self, now: Instant, fx: &mut Effects) {
        while let Some(id) = self.waiting.pop_front() {
            let Some(open) = self.open.remove(&id) else { continue };
            let Open { work: Work::Waiting(request, ended), heard, timer_at, .. } = open else {
                self.open.insert(id, open);
                continue;
            };
            let mut cx = Context { id, now, shared: &mut self.shared, fx };
            let work = Work::begin(&mut cx, *request);
            self.put_back(now, id, (heard, timer_at), work, fx);
            if let Some(digest) = ended {
                self.input(now, id, Input::BodyEnd(digest), fx);
            }
        }
    }

    /// Tell a request what happened. Requests that are over are not told.
    fn input(&mut self, now: Instant, id: RequestId, input: Input, fx: &mut Effects) {
        let Some(Open { work, heard, since, timer_at }) = self.open.remove(&id) else { return };
        let is_progress = !matches!(input, Input::Wake)
            && !matches!(input, Input::Written { result: Err(_), .. })
            && !matches!(input, Input::Data { result: Err(_), .. })
            && !matches!(input, Input::Checked { result: Err(ChunkFailure::Silent), .. });
        let mut cx = Context { id, now, shared: &mut self.shared, fx };
        let work = work.on(&mut cx, input);
        self.put_back(if is_progress { now } else { since }, id, (heard, timer_at), work, fx);
    }

    fn put_back(
        &mut self,
        since: Instant,
        id: RequestId,
        (heard, timer_at): (LogIndex, Instant),
        work: Option<Work>,
        fx: &mut Effects,
    ) {
        if let Some(work) = work {
            self.open.insert(id, Open { work, heard, since, timer_at });
            self.rearm(id);
        } else {
            self.shared.timers.disarm(timer_at, Timer::Request(id));
            self.release(since, id, fx);
        }
    }

    /// Forget a request; nothing more is said about it.
    fn close(&mut self, now: Instant, id: RequestId, fx: &mut Effects) {
        if let Some(open) = self.open.remove(&id) {
            self.waiting.retain(|waiting| *waiting != id);
            self.shared.timers.disarm(open.timer_at, Timer::Request(id));
            self.release(now, id, fx);
        }
    }

    fn release(&mut self, now: Instant, id: RequestId, fx: &mut Effects) {
        let (calls, chunks, mut wires) = self.shared.wired(now, fx);
        calls.release(wires.timers, id);
        chunks.release(&mut wires, id);
        self.shared.budget.release(id);
        self.shared.places.release(id);
    }

    /// Set a request's timer to its next action or its end, whichever comes first.
    fn rearm(&mut self, id: RequestId) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let at = open.ends_at(&self.shared.config);
        let at = open.work.wake_at().map_or(at, |wake| wake.min(at));
        self.shared.timers.move_to(&mut open.timer_at, at, Timer::Request(id));
    }

    /// Give room in the budget to those who wait for it.
    fn admit(&mut self, now: Instant, fx: &mut Effects) {
        self.shared.count_late();
        while let Some(news) = self.shared.budget.news() {
            match news {
                News::Granted(id, bytes) => self.input(now, id, Input::Admitted(bytes), fx),
                News::Displaced(id) => self.input(now, id, Input::Displaced, fx),
            }
        }
    }

    fn deadline(&mut self, now: Instant, fx: &mut Effects) {
        // What is armed from here on lies in the future, or was armed for this very moment by a
        // timer that rang: each rings at most twice, so that the work is bounded.
        let mut due = Vec::new();
        while let Some(timer) = self.shared.timers.take_due(now) {
            due.push(timer);
        }
        for timer in due {
            match timer {
                Timer::Beat => self.beat(now, fx),
                Timer::Range(ticket) => {
                    let (calls, _, mut wires) = self.shared.wired(now, fx);
                    calls.timer(&mut wires, ticket);
                }
                Timer::Chunk(call) => {
                    let (_, chunks, mut wires) = self.shared.wired(now, fx);
                    if let Some(over) = chunks.timed_out(&mut wires, call) {
                        self.chunk_lost(now, call, &over, fx);
                    }
                }
                Timer::Request(id) => self.request_timer(now, id, fx),
            }
        }
    }

    fn request_timer(&mut self, now: Instant, id: RequestId, fx: &mut Effects) {
        let Some(open) = self.open.get(&id) else { return };
        if now < open.ends_at(&self.shared.config) {
            return self.input(now, id, Input::Wake, fx);
        }
        let waited = now.since(open.since).as_secs_f32();
        if open.work.has_replied() {
            let whom = match open.work.waits_for() {
                WaitsFor::Client => "the client to take bytes",
                _ => "two zones' stores to give an intact chunk",
            };
            let reason = format!("waited {waited:.1} s for {whom}");
            fx.push(Effect::BodyFailed { id, reason });
        } else if open.work.waits_for() == WaitsFor::Client {
            let reason = format!("the client sent nothing for {waited:.1} s");
            fx.push(Effect::Disconnect { id, reason });
        } else {
            let error = if planted!(UncertainCalledFailed) && self.shared.calls.has_command(id) {
                ApiError::SlowDown("nothing was done".to_owned())
            } else if self.shared.calls.has_command(id) {
                ApiError::Unavailable(format!(
                    "no answer from the range's leader for {waited:.1} s: the outcome is unknown"
                ))
            } else {
                match open.work.waits_for() {
                    WaitsFor::Budget => {
                        self.shared.counts.slowed_down += 1;
                        ApiError::SlowDown(format!(
                            "no room for the body within {waited:.1} s; nothing was done"
                        ))
                    }
                    WaitsFor::Session => ApiError::Unavailable(format!(
                        "the gateway has had no session for {waited:.1} s: no two zones answer"
                    )),
                    _ => ApiError::Unavailable(format!(
                        "not enough zones answered within {waited:.1} s"
                    )),
                }
            };
            fx.reply(id, Err(error));
        }
        self.close(now, id, fx);
    }

    fn message(&mut self, now: Instant, envelope: Envelope, fx: &mut Effects) {
        let Endpoint::Store(from) = envelope.from else { return };
        if let Err(error) = self.shared.config.levels.understand(envelope.message.level()) {
            return fx.push(Effect::Note(format!("a message of {from} is dropped: {error}")));
        }
        match envelope.message {
            Message::RangeAnswer(answer) => {
                let (calls, _, mut wires) = self.shared.wired(now, fx);
                if let Some(finished) = calls.answer(&mut wires, from, answer) {
                    self.finished(now, finished, fx);
                }
            }
            Message::ChunkWritten(written) => {
                let (_, chunks, mut wires) = self.shared.wired(now, fx);
                let (call, chunk) = (written.call, written.chunk);
                let kinds = |kind| matches!(kind, Kind::Write { .. } | Kind::Repair);
                let open = chunks.answered(&mut wires, call, written.store, chunk, kinds);
                let Some(open) = open else {
                    self.shared.hints.answered(&written);
                    return;
                };
                if *written.result() == Err(ChunkError::Fenced) {
                    return self.fenced(now, None, fx);
                }
                if written.result().is_ok() {
                    chunks.succeeded(open.store);
                }
                let result = (*written.result()).map_err(ChunkFailure::Refused);
                self.chunk_written(now, call, &open, result, fx);
            }
            Message::ChunkData(data) => {
                let (_, chunks, mut wires) = self.shared.wired(now, fx);
                let (call, store, chunk) = (data.call, data.store, data.chunk);
                let open =
                    chunks.answered(&mut wires, call, store, chunk, |kind| kind == Kind::Read);
                let Some(open) = open else { return };
                if data.result == Err(ChunkError::Fenced) {
                    return self.fenced(now, None, fx);
                }
                let result = data.result.map_err(ChunkFailure::Refused);
                let input = Input::Data { call: data.call, store: open.store, result };
                self.input(now, open.request, input, fx);
            }
            Message::ChunkChecked(checked) => {
                let (_, chunks, mut wires) = self.shared.wired(now, fx);
                let (call, store, chunk) = (checked.call, checked.store, checked.chunk);
                let open =
                    chunks.answered(&mut wires, call, store, chunk, |kind| kind == Kind::Check);
                let Some(open) = open else { return };
                let result = checked.result.map_err(ChunkFailure::Refused);
                self.input(now, open.request, Input::Checked { chunk, store, call, result }, fx);
            }
            Message::Hello(hello) => {
                if hello.cluster == self.shared.config.cluster {
                    let (calls, _, mut wires) = self.shared.wired(now, fx);
                    calls.greeted(&mut wires, from, hello.life.incarnation);
                }
            }
            // Not for a gateway.
            Message::Consensus { .. }
            | Message::RangeCall(_)
            | Message::ChunkWrite(_)
            | Message::ChunkRead(_)
            | Message::SnapshotAsk(_)
            | Message::SnapshotPage(_)
            | Message::DirectoryAsk { .. }
            | Message::DirectoryAnswer(_)
            | Message::ChunkPull(_)
            | Message::ChunkPulled(_)
            | Message::ChunkRepair(_)
            | Message::ChunkCheck(_)
            | Message::InventoryAsk(_)
            | Message::InventoryAnswer(_)
            | Message::BlobAsk(_)
            | Message::BlobAnswer(_)
            | Message::BlobFree(_)
            | Message::BlobFreed(_)
            | Message::BlobsLeft(_)
            | Message::MapProven { .. }
            | Message::Ping(_)
            | Message::Pong(_) => {}
        }
    }

    fn link_down(&mut self, now: Instant, peer: StoreId, fx: &mut Effects) {
        let (calls, chunks, mut wires) = self.shared.wired(now, fx);
        calls.link_down(&mut wires, peer);
        chunks.failed(peer, now);
        for (call, over) in chunks.link_down(&mut wires, peer) {
            self.chunk_lost(now, call, &over, fx);
        }
    }

    /// An attempt at a chunk ended without an answer.
    fn chunk_lost(&mut self, now: Instant, call: CallId, over: &ChunkCall, fx: &mut Effects) {
        self.shared.chunks.failed(over.store, now);
        match over.kind {
            Kind::Write { .. } | Kind::Repair => {
                self.chunk_written(now, call, over, Err(ChunkFailure::Silent), fx);
            }
            Kind::Check => {
                let (chunk, store, result) = (over.chunk, over.store, Err(ChunkFailure::Silent));
                let input = Input::Checked { chunk, store, call, result };
                self.input(now, over.request, input, fx);
            }
            Kind::Read => {
                let result = Err(ChunkFailure::Silent);
                self.input(now, over.request, Input::Data { call, store: over.store, result }, fx);
            }
        }
    }

    fn chunk_written(
        &mut self,
        now: Instant,
        call: CallId,
        open: &ChunkCall,
        result: Result<(), ChunkFailure>,
        fx: &mut Effects,
    ) {
        if self.open.contains_key(&open.request) {
            let (number, store) = (open.chunk.number, open.store);
            let input = Input::Written { number, store, call, result };
            self.input(now, open.request, input, fx);
        } else if result.is_err() && !matches!(open.kind, Kind::Write { wanted: false, .. }) {
            probe!(LateCopyFailed);
            // The third copy of a put that is over.
            self.shared.counts.copies_missing += 1;
            self.shared.hints.missed(open.store, open.chunk);
        }
    }

    fn finished(&mut self, now: Instant, finished: Finished, fx: &mut Effects) {
        let is_fenced = matches!(
            finished.result,
            Err(calls::Failure::Fenced) | Ok(Answer::Applied(Outcome::Rejected(Rejection::Fenced)))
        );
        match finished.owner {
            Owner::Session => self.session_answer(now, &finished.result, fx),
            Owner::Directory if is_fenced => self.fenced(now, None, fx),
            Owner::Directory => {
                if let Ok(Answer::Read(ReadReply::Directory(directory))) = finished.result {
                    self.learn(now, directory.map(|it| *it), fx);
                }
            }
            Owner::Request(id, tag) if is_fenced => self.fenced(now, Some((id, tag)), fx),
            Owner::Background if is_fenced => self.fenced(now, None, fx),
            Owner::Request(id, tag) => {
                self.input(now, id, Input::Answer { tag, result: finished.result }, fx);
            }
            Owner::Background => {}
        }
    }

    fn session_answer(
        &mut self,
        now: Instant,
        result: &Result<Answer, calls::Failure>,
        fx: &mut Effects,
    ) {
        match (session::judge(result), self.session) {
            (Verdict::Opened(id), Session::Opening { attempt }) => {
                let beat_at = now + self.shared.config.beat;
                self.shared.timers.arm(beat_at, Timer::Beat);
                self.shared.session = id;
                self.shared.next_blob = 1;
                self.shared.calls.begin_session(id);
                self.session = Session::Live { attempt, id, beat_at, beating: false };
                self.foreign = None;
                // What the gateway was configured with may be long out of date.
                self.read_directory(now, false, fx);
                self.begin_waiting(now, fx);
            }
            (Verdict::Live { map, applied }, Session::Live { attempt, id, beat_at, .. }) => {
                self.session = Session::Live { attempt, id, beat_at, beating: false };
                let Shared { config, map: known, under_way, timers, ids, rng, .. } =
                    &mut self.shared;
                let voters = &known.voters;
                let mut wires = Wires { now, config, voters, ids, timers, rng, fx };
                under_way.reported(&mut wires, applied);
                if map > self.shared.map.epoch {
                    self.read_directory(now, false, fx);
                }
            }
            (Verdict::Foreign(level), Session::Opening { attempt }) => {
                // It is asked again and again, in case that somebody else answered; said once.
                if self.foreign.replace(level) != Some(level) {
                    fx.push(Effect::Note(self.foreign_note(level)));
                }
                self.open_session(now, attempt + 1, true, fx);
            }
            (Verdict::Over, Session::Opening { attempt }) => {
                self.open_session(now, attempt + 1, true, fx);
            }
            (Verdict::Over, Session::Live { .. }) => self.fenced(now, None, fx),
            (_, _) => {}
        }
    }

    fn foreign_note(&self, level: Level) -> String {
        format!(
            "no session for this gateway: the cluster is at {level}, and this version of Trine speaks {}: \
             run another one",
            self.shared.config.levels
        )
    }

    fn read_directory(&mut self, now: Instant, again: bool, fx: &mut Effects) {
        let (calls, _, mut wires) = self.shared.wired(now, fx);
        calls.read_directory(&mut wires, again);
    }

    /// The root range says what the cluster is like.
    fn learn(&mut self, now: Instant, directory: Option<Directory>, fx: &mut Effects) {
        if let Some(Directory { map, .. }) = directory
            && map.epoch > self.shared.map.epoch
        {
            fx.push(Effect::Note(format!("the cluster map is of {} now", map.epoch)));
            self.shared.map = map;
            let ids: Vec<RequestId> = self.open.keys().copied().collect();
            for id in ids {
                self.input(now, id, Input::NewMap, fx);
            }
        }
        if self.shared.map.epoch < self.shared.map_wanted {
            self.read_directory(now, true, fx);
        }
    }

    fn open_session(&mut self, now: Instant, attempt: u64, refused: bool, fx: &mut Effects) {
        self.session = Session::Opening { attempt };
        let nonce = session::nonce(self.shared.config.nonce, attempt);
        let (calls, _, mut wires) = self.shared.wired(now, fx);
        calls.open_session(&mut wires, nonce, refused);
    }

    fn beat(&mut self, now: Instant, fx: &mut Effects) {
        let Session::Live { attempt, id, beating, .. } = self.session else { return };
        let beat = self.shared.config.beat;
        let beat_at = now + if buggify!(EarlyBeat) { beat / 8 } else { beat };
        self.shared.timers.arm(beat_at, Timer::Beat);
        self.session = Session::Live { attempt, id, beat_at, beating: true };
        let Shared { config, map, chunks, hints, timers, ids, rng, .. } = &mut self.shared;
        let voters = &map.voters;
        let mut wires = Wires { now, config, voters, ids, timers, rng, fx };
        hints.send(&mut wires, map, |store| chunks.is_healthy(store, now));
        // A beat without an answer is repeated by the calls themselves.
        if !beating {
            let report = self.session_report();
            let (calls, _, mut wires) = self.shared.wired(now, fx);
            calls.beat(&mut wires, report);
        }
    }

    /// What the session has under way.
    fn session_report(&mut self) -> SessionReport {
        let Self { open, shared, .. } = self;
        let Shared { session, next_blob, map, calls, chunks, under_way, .. } = shared;
        let in_use = calls.blobs().chain(chunks.blobs()).collect();
        let reads = open.values().map(|open| (open.heard, open.work.reading()));
        let is_open = |id| open.contains_key(&id);
        let next = BlobSequence(*next_blob);
        under_way.report(*session, next, map.epoch, is_open, &in_use, reads)
    }

    /// The session is over: nothing of it takes effect any more, but what was in flight may have.
    /// All requests that run under it end, and another session is opened. `answered` is the request
    /// whose call brought the news: that call did not take effect by this answer, but an earlier
    /// attempt may have.
    fn fenced(&mut self, now: Instant, answered: Option<(RequestId, usize)>, fx: &mut Effects) {
        let Session::Live { attempt, id: session, beat_at, .. } = self.session else { return };
        probe!(SessionLost);
        fx.push(Effect::Note(format!("{session} was fenced; opening another")));
        self.shared.timers.disarm(beat_at, Timer::Beat);
        let ids: Vec<RequestId> = self.open.keys().copied().collect();
        for id in ids {
            let Some(open) = self.open.get(&id) else { continue };
            let is_uncertain = self.shared.calls.has_command(id)
                || answered.is_some_and(|(answered, _)| answered == id);
            if open.work.has_replied() {
                let reason = format!("{session} was fenced");
                fx.push(Effect::BodyFailed { id, reason });
            } else if is_uncertain {
                let reason = format!("{session} was fenced with a command in flight");
                fx.push(Effect::Disconnect { id, reason });
            } else {
                let reason = format!("{session} was fenced; ask again");
                fx.reply(id, Err(ApiError::Unavailable(reason)));
            }
            self.close(now, id, fx);
        }
        let (calls, chunks, mut wires) = self.shared.wired(now, fx);
        calls.end_session(wires.timers);
        for (store, chunk) in chunks.clear(&mut wires) {
            self.shared.hints.missed(store, chunk);
        }
        self.shared.under_way.end_session();
        self.shared.session = SessionId(0);
        self.open_session(now, attempt + 1, false, fx);
    }
}

impl Open {
    /// When the request is given up unless it gets on.
    fn ends_at(&self, config: &GatewayConfig) -> Instant {
        let patience = match self.work.waits_for() {
            WaitsFor::Client => CLIENT_PATIENCE,
            WaitsFor::Budget => config.body_wait,
            WaitsFor::Session | WaitsFor::Cluster => config.request_timeout,
        };
        self.since + patience
    }
}
