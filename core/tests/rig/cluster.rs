//! Three stores in one process, whose links can be cut and whose disks can be damaged, emptied and set back. The
//! test is their gateway.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use trine_core::cluster::{
    ClusterMap, Geometry, ROOT_RANGE, Slot, StoreConfig, StoreLimits, StoreTiming, ZoneMap,
};
use trine_core::effects::{Effect, Effects, Now, StoreEvent};
use trine_core::hash::Checksum;
use trine_core::ids::{
    BlobId, BlobSequence, BucketId, CallId, ChunkId, ClusterId, CommitSequence, Endpoint,
    GatewayId, MapEpoch, RangeEpoch, SessionId, StoreId, TenantId, ZoneId,
};
use trine_core::level::Levels;
use trine_core::message::{
    Answer, Ask, ChunkAsk, ChunkError, ChunkRead, ChunkSummary, ChunkWrite, Envelope, Message,
    RangeCall, SessionReport,
};
use trine_core::object::*;
use trine_core::range::command::{Command, CommandBody, Origin, Outcome};
use trine_core::store::{Store, StoreReport};
use trine_core::time::{Duration, Instant, WallTime};

use super::disk::{Disk, carry_out};

pub(crate) const GATEWAY: GatewayId = GatewayId(100);
pub(crate) const FROM: Endpoint = Endpoint::Gateway(GATEWAY);

pub(crate) struct Cluster {
    pub(crate) stores: BTreeMap<StoreId, Store>,
    pub(crate) disks: BTreeMap<StoreId, Disk>,
    pub(crate) queue: VecDeque<(StoreId, StoreEvent)>,
    /// Links that do not stand.
    pub(crate) cut: BTreeSet<(StoreId, StoreId)>,
    pub(crate) answers: BTreeMap<CallId, Message>,
    pub(crate) halted: BTreeMap<StoreId, String>,
    pub(crate) micros: u64,
    pub(crate) calls: u64,
    pub(crate) lives: u64,
    pub(crate) scrub_every: Duration,
    /// What a store speaks that is started from now on.
    pub(crate) levels: Levels,
}

impl Cluster {
    pub(crate) fn new(ids: &[u64]) -> Self {
        Self::speaking(ids, Levels::OWN)
    }

    pub(crate) fn speaking(ids: &[u64], levels: Levels) -> Self {
        let mut cluster = Self {
            stores: BTreeMap::new(),
            disks: BTreeMap::new(),
            queue: VecDeque::new(),
            cut: BTreeSet::new(),
            answers: BTreeMap::new(),
            halted: BTreeMap::new(),
            micros: 0,
            calls: 0,
            lives: 0,
            scrub_every: StoreTiming::DEFAULT.scrub_every,
            levels,
        };
        // A cluster begins with all its stores.
        (1..=3).for_each(|id| cluster.start(StoreId(id)));
        cluster.run_until("begun", |cluster| {
            cluster.stores.values().all(|store| !store.report().ranges.is_empty())
        });
        for id in (1..=3).filter(|id| !ids.contains(id)) {
            cluster.stop(StoreId(id));
        }
        if ids.len() < 3 {
            // What they know of the others is gone, too.
            ids.iter().for_each(|id| cluster.start(StoreId(*id)));
        }
        cluster
    }

    /// A store with what its disk holds.
    pub(crate) fn start(&mut self, id: StoreId) {
        let zone = |id: u64| ZoneMap {
            zone: ZoneId(u8::try_from(id - 1).expect("three zones")),
            slots: vec![Slot { store: StoreId(id), weight: 1 }],
        };
        self.lives += 1;
        let config = StoreConfig {
            levels: self.levels,
            cluster: ClusterId(7),
            store: id,
            zone: zone(id.0).zone,
            map: ClusterMap::bootstrap(64, (1..=3).map(zone).collect()),
            geometry: Geometry::SIMULATION,
            limits: StoreLimits::SIMULATION,
            timing: StoreTiming {
                compare_every: Duration::from_secs(60),
                scrub_every: self.scrub_every,
                ..StoreTiming::DEFAULT
            },
            seed: self.lives,
        };
        self.stop(id);
        self.disks.entry(id).or_default();
        self.stores.insert(id, Store::new(config));
        self.queue.push_back((id, StoreEvent::Start));
        let peers: Vec<StoreId> = self.stores.keys().copied().filter(|peer| *peer != id).collect();
        peers.into_iter().for_each(|peer| self.link(id, peer, true));
    }

    pub(crate) fn stop(&mut self, id: StoreId) {
        if self.stores.remove(&id).is_some() {
            let peers: Vec<StoreId> = self.stores.keys().copied().collect();
            for peer in peers {
                self.queue.push_back((peer, StoreEvent::LinkDown(Endpoint::Store(id))));
            }
        }
        self.halted.remove(&id);
        self.queue.retain(|(store, _)| *store != id);
    }

    pub(crate) fn link(&mut self, one: StoreId, other: StoreId, stands: bool) {
        for (of, about) in [(one, other), (other, one)] {
            let changed = match stands {
                true => self.cut.remove(&(of, about)),
                false => self.cut.insert((of, about)),
            };
            let peer = Endpoint::Store(about);
            let event = if stands { StoreEvent::LinkUp(peer) } else { StoreEvent::LinkDown(peer) };
            if changed || stands {
                self.queue.push_back((of, event));
            }
        }
    }

    pub(crate) fn isolate(&mut self, id: u64, stands: bool) {
        for other in (1..=3).filter(|other| *other != id) {
            self.link(StoreId(id), StoreId(other), stands);
        }
    }

    pub(crate) fn turn(&mut self) {
        self.micros += 1;
        let (id, event) = self.queue.pop_front().unwrap_or_else(|| {
            let deadlines = self
                .stores
                .iter()
                .filter_map(|(id, store)| store.next_deadline().map(|deadline| (deadline.at, *id)));
            let (at, id) = deadlines.min().expect("somebody waits for something");
            self.micros = self.micros.max(at.as_nanos() / 1000 + 1);
            (id, StoreEvent::Deadline)
        });
        if self.halted.contains_key(&id) {
            return;
        }
        let Some(store) = self.stores.get_mut(&id) else { return };
        let now = Now {
            instant: Instant::from_nanos(self.micros * 1000),
            wall: WallTime::from_millis(1_700_000_000_000 + self.micros / 1000),
        };
        let mut fx = Effects::new();
        store.step(now, event, &mut fx);
        store.check();
        for effect in fx.drain() {
            match effect {
                Effect::Send(envelope) => match envelope.to {
                    Endpoint::Store(to) if !self.cut.contains(&(id, to)) => {
                        self.queue.push_back((to, StoreEvent::Message(envelope)));
                    }
                    Endpoint::Store(_) => {}
                    Endpoint::Gateway(_) => self.answered(envelope.message),
                },
                Effect::Disk { token, op } => {
                    let disk = self.disks.get_mut(&id).expect("each has one");
                    let event = StoreEvent::Disk { token, result: Ok(carry_out(disk, op)) };
                    self.queue.push_back((id, event));
                }
                Effect::Halt { reason } => {
                    self.halted.insert(id, reason);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn answered(&mut self, message: Message) {
        let call = match &message {
            Message::RangeAnswer(answer) => answer.call,
            Message::ChunkWritten(written) => written.call,
            Message::ChunkData(data) => data.call,
            Message::ChunkChecked(checked) => checked.call,
            _ => return,
        };
        self.answers.insert(call, message);
    }

    /// Until so much time has passed.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.micros + u64::try_from(time.as_micros()).expect("a short time");
        while self.micros < until {
            self.turn();
        }
    }

    pub(crate) fn run_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let until = self.micros + 60_000_000;
        while !done(self) {
            assert!(self.micros < until, "{what}: not within a minute");
            self.turn();
        }
    }

    /// Call a store and wait for its answer.
    pub(crate) fn call(
        &mut self,
        to: u64,
        message: impl FnOnce(CallId) -> Message,
    ) -> Option<Message> {
        self.calls += 1;
        let call = CallId(self.calls);
        let envelope =
            Envelope { from: FROM, to: Endpoint::Store(StoreId(to)), message: message(call) };
        self.queue.push_back((StoreId(to), StoreEvent::Message(envelope)));
        let until = self.micros + 5_000_000;
        while self.micros < until {
            self.turn();
            if let Some(answer) = self.answers.remove(&call) {
                return Some(answer);
            }
        }
        None
    }

    pub(crate) fn command(&mut self, session: u64, sequence: u64, body: CommandBody) -> Outcome {
        let number = CommitSequence(sequence);
        let origin = match session {
            0 => Origin::System,
            _ => {
                Origin::Session { session: SessionId(session), sequence: number, watermark: number }
            }
        };
        let command = Command { origin, body };
        match self.ask(session, &Ask::Command(Box::new(command.clone()))) {
            Answer::Applied(outcome) => outcome,
            other => panic!("{other:?} to {command:?}"),
        }
    }

    /// Tell the leader what a session has under way.
    pub(crate) fn beat(&mut self, session: u64, report: &SessionReport) -> Answer {
        self.ask(session, &Ask::Beat(Box::new(report.clone())))
    }

    /// Ask the range, again as long as nobody leads.
    fn ask(&mut self, session: u64, ask: &Ask) -> Answer {
        for attempt in 0..100 {
            let answer = self.call(attempt % 3 + 1, |call| {
                Message::RangeCall(RangeCall {
                    call,
                    origin: GATEWAY,
                    session: SessionId(session),
                    range: ROOT_RANGE,
                    epoch: RangeEpoch(1),
                    forwarded: false,
                    ask: ask.clone(),
                })
            });
            if let Some(Message::RangeAnswer(answer)) = answer
                && let Ok(answer) = answer.result
            {
                return answer;
            }
            self.run(Duration::from_millis(20));
        }
        panic!("no answer to {ask:?}");
    }

    pub(crate) fn open_session(&mut self, nonce: u128) -> u64 {
        match self.command(0, 0, CommandBody::OpenSession { gateway: GATEWAY, nonce }) {
            Outcome::SessionOpened(session) => session.0,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn write(&mut self, to: u64, session: u64, number: u64) -> Result<(), ChunkError> {
        let answer = self.call(to, |call| Message::ChunkWrite(chunk(call, session, number)));
        match answer {
            Some(Message::ChunkWritten(written)) => *written.result(),
            other => panic!("{other:?}"),
        }
    }

    /// An object whose one chunk this is; the first in its blob. The bucket is [`bucket`]'s first.
    pub(crate) fn put_object(&mut self, session: u64, sequence: u64, number: u64) -> Outcome {
        let write = chunk(CallId(0), session, number);
        assert_eq!(write.chunk.number, 0);
        let blob = BlobRef {
            blob: write.chunk.blob,
            length: write.data.len() as u64,
            chunk_size: 1 << 14,
            block_size: 1 << 12,
            scheme: Scheme::ThreeCopies,
            epoch: MapEpoch(1),
            stores: vec![StoreId(1), StoreId(2)],
        };
        let put = CommandBody::PutObject {
            target: write.owner,
            conditions: WriteConditions::default(),
            object: Box::new(NewObject {
                length: blob.length,
                etag: ETag::default(),
                checksum: None,
                owner: Owner::default(),
                attributes: Attributes::default(),
                tags: Vec::new(),
                body: NewBody::Blob(blob),
            }),
        };
        self.command(session, sequence, put)
    }

    pub(crate) fn read(&mut self, at: u64, session: u64, number: u64) -> Result<Bytes, ChunkError> {
        let chunk = chunk(CallId(0), session, number).chunk;
        let answer = self.call(at, |call| {
            let session = SessionId(session);
            Message::ChunkRead(ChunkRead { call, session, chunk, first_block: 0, blocks: 2 })
        });
        match answer {
            Some(Message::ChunkData(data)) => data.result.map(|(bytes, _)| bytes),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn check(
        &mut self,
        at: u64,
        session: u64,
        number: u64,
    ) -> Result<ChunkSummary, ChunkError> {
        let chunk = chunk(CallId(0), session, number).chunk;
        let answer = self.call(at, |call| Message::ChunkCheck(ChunkAsk { call, chunk }));
        match answer {
            Some(Message::ChunkChecked(checked)) => checked.result,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn report(&self, id: u64) -> StoreReport {
        self.stores[&StoreId(id)].report()
    }

    pub(crate) fn is_whole(&self, id: u64) -> bool {
        self.report(id).repair.complete
    }

    /// Flip a bit in the second block of a chunk.
    pub(crate) fn damage(&mut self, at: u64, session: u64, number: u64) {
        let block = chunk(CallId(0), session, number).data.slice(4096..);
        let disk = self.disks.get_mut(&StoreId(at)).expect("it has one");
        let found = disk.values_mut().find(|sector| sector[..block.len()] == block[..]);
        let sector = found.expect("the chunk is there");
        let mut bytes = sector.to_vec();
        bytes[17] ^= 4;
        *sector = bytes.into();
    }
}

/// 6,000 bytes in two blocks, different for each chunk.
pub(crate) fn chunk(call: CallId, session: u64, number: u64) -> ChunkWrite {
    let blob = BlobId { session: SessionId(session), sequence: BlobSequence(number / 7) };
    let chunk = ChunkId { blob, number: u32::try_from(number % 7).expect("below seven") };
    let seed = number.to_le_bytes();
    let data: Bytes = (0..=252)
        .cycle()
        .take(6000)
        .enumerate()
        .map(|(at, n)| seed[at % 8] ^ seed[at / 8 % 8] ^ n)
        .collect();
    let blocks = data.chunks(4096).zip(0..);
    let checksums = blocks.map(|(block, n)| Checksum::of_block(chunk, n, block)).collect();
    let key = ObjectKey::parse(&format!("key-{number}")).expect("a fair key");
    let owner = Target { tenant: TenantId(0), bucket: BucketId(1), key };
    ChunkWrite { call, chunk, owner, epoch: MapEpoch(1), block_size: 4096, data, checksums }
}

pub(crate) fn bucket(number: u64) -> CommandBody {
    let name = BucketName::parse(&format!("bucket-{number}")).expect("a fair name");
    CommandBody::CreateBucket { tenant: TenantId(0), name, owner: Owner::default() }
}
