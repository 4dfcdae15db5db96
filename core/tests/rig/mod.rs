//! Stores in one process, their disks and links, and a gateway's calls: for tests of what happens
//! when one of them is away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use trine_core::cluster::{
    ClusterMap, Geometry, ROOT_RANGE, Slot, StoreConfig, StoreLimits, StoreTiming, ZoneMap,
};
use trine_core::consensus::Role;
use trine_core::effects::{Effect, Effects, Now, StoreEvent};
use trine_core::hash::StateHash;
use trine_core::ids::{
    BucketId, CallId, ClusterId, CommitSequence, Endpoint, GatewayId, LogIndex, RangeEpoch,
    SessionId, StoreId, TenantId, ZoneId,
};
use trine_core::level::Levels;
use trine_core::message::{Answer, Ask, Envelope, Message, RangeCall, SnapshotGiven};
use trine_core::object::{
    Attributes, BucketName, ETag, NewBody, NewObject, ObjectKey, Owner, Target, WriteConditions,
};
use trine_core::range::command::{Command, CommandBody, Origin, Outcome};
use trine_core::store::Store;
use trine_core::time::{Instant, WallTime};

pub(crate) mod disk;

use disk::{Disk, carry_out};

const GATEWAY: GatewayId = GatewayId(100);

/// Entries that a replica must lack to be given a state.
pub(crate) const LAG: u64 = StoreLimits::SIMULATION.snapshot_lag;

/// What goes wrong at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Who takes it crashes.
    TakerCrashes,
    /// Who gives it crashes.
    GiverCrashes,
    /// Who gives it is cut off for a second: another one leads.
    GiverIsCutOff,
    /// The page is lost.
    PageIsLost,
}

/// Stores, their disks, and what is under way. Everything takes a microsecond.
pub(crate) struct Cluster {
    pub(crate) stores: BTreeMap<StoreId, Store>,
    disks: BTreeMap<StoreId, Disk>,
    zones: BTreeMap<StoreId, ZoneId>,
    small: BTreeSet<StoreId>,
    queue: VecDeque<(StoreId, StoreEvent)>,
    answers: BTreeMap<CallId, Message>,
    /// What was sent between stores.
    pub(crate) sent: Vec<Message>,
    pub(crate) notes: Vec<String>,
    pub(crate) micros: u64,
    calls: u64,
    /// Starts so far, of all stores.
    lives: u64,
    session: SessionId,
    sequence: u64,
    fault: Option<(Fault, u64, StoreId)>,
    pages: u64,
    /// Who is cut off, and until when.
    cut: Option<(StoreId, u64)>,
    /// Completions of a store's disk are counted, and it crashes after so many.
    crash: Option<(StoreId, u64)>,
}

impl Cluster {
    /// Stores 1 to `count`, one in each zone.
    pub(crate) fn new(count: u64) -> Self {
        let mut cluster = Self {
            stores: BTreeMap::new(),
            disks: BTreeMap::new(),
            zones: BTreeMap::new(),
            small: BTreeSet::new(),
            queue: VecDeque::new(),
            answers: BTreeMap::new(),
            sent: Vec::new(),
            notes: Vec::new(),
            micros: 0,
            calls: 0,
            lives: 0,
            session: SessionId(0),
            sequence: 1,
            fault: None,
            pages: 0,
            cut: None,
            crash: None,
        };
        for id in 1..=count {
            cluster.place(StoreId(id));
            cluster.start(StoreId(id));
        }
        cluster
    }

    /// One of the first stores, in its zone; it is not started.
    pub(crate) fn place(&mut self, id: StoreId) {
        self.zones.insert(id, ZoneId(u8::try_from(id.0 - 1).expect("few zones")));
    }

    /// A new store with an empty disk, in the zone of another.
    pub(crate) fn add(&mut self, id: StoreId, beside: StoreId) {
        self.zones.insert(id, self.zones[&beside]);
        self.start(id);
    }

    /// Start a store on what its disk holds. What it did before is over.
    pub(crate) fn start(&mut self, id: StoreId) {
        let zone = |id: u64| ZoneMap {
            zone: ZoneId(u8::try_from(id - 1).expect("three zones")),
            slots: vec![Slot { store: StoreId(id), weight: 1 }],
        };
        self.lives += 1;
        let Geometry { journal, capacity, .. } = Geometry::SIMULATION;
        let capacity = if self.small.contains(&id) { journal + (2 << 20) } else { capacity };
        let config = StoreConfig {
            levels: Levels::OWN,
            cluster: ClusterId(7),
            store: id,
            zone: self.zones[&id],
            map: ClusterMap::bootstrap(64, (1..=3).map(zone).collect()),
            geometry: Geometry { capacity, ..Geometry::SIMULATION },
            limits: StoreLimits::SIMULATION,
            timing: StoreTiming::DEFAULT,
            seed: id.0 + 1_000 * self.lives,
        };
        self.stop(id);
        self.disks.entry(id).or_default();
        self.stores.insert(id, Store::new(config));
        self.queue.push_back((id, StoreEvent::Start));
        for other in self.stores.keys().copied().filter(|other| *other != id) {
            self.queue.push_back((other, StoreEvent::LinkUp(Endpoint::Store(id))));
        }
    }

    /// A store is gone, as after a kill.
    pub(crate) fn stop(&mut self, id: StoreId) {
        self.stores.remove(&id);
        self.queue.retain(|(store, _)| *store != id);
        for other in self.stores.keys().copied() {
            self.queue.push_back((other, StoreEvent::LinkDown(Endpoint::Store(id))));
        }
    }

    pub(crate) fn wipe_into_small_disk(&mut self, id: StoreId) {
        self.small.insert(id);
        self.wipe(id);
    }

    /// Empty the disk of a store that is stopped; it keeps its identity.
    pub(crate) fn wipe(&mut self, id: StoreId) {
        self.disks.insert(id, BTreeMap::new());
    }

    /// Damage every tree block on a disk.
    pub(crate) fn rot_tables(&mut self, id: StoreId) {
        let area = (256 << 10) + Geometry::SIMULATION.journal;
        let disk = self.disks.get_mut(&id).expect("it has a disk");
        for (at, sector) in disk.range_mut(area..) {
            // Headers stay; index blocks and data blocks do not.
            if !(at - area).is_multiple_of(Geometry::SIMULATION.segment) {
                let mut bytes = sector.to_vec();
                bytes[100] ^= 1;
                *sector = bytes.into();
            }
        }
    }

    pub(crate) fn fault_at_page(&mut self, fault: Fault, page: u64, taker: StoreId) {
        self.fault = Some((fault, page, taker));
        self.pages = 0;
    }

    pub(crate) fn fault_happened(&self) -> bool {
        self.fault.is_none()
    }

    /// Run until a store's disk has completed so much, and restart it then. `false`: it was equal to
    /// the others before.
    pub(crate) fn crash_after_completions(&mut self, id: StoreId, count: u64) -> bool {
        self.crash = Some((id, count));
        for _ in 0..400_000 {
            self.turn();
            if self.crash.is_none() {
                return true;
            }
            if self.micros.is_multiple_of(64)
                && self.are_equal(&[StoreId(1), StoreId(2), StoreId(3)])
            {
                self.crash = None;
                return false;
            }
        }
        panic!("neither: {}", self.status());
    }

    fn now(&self) -> Now {
        Now {
            instant: Instant::from_nanos(self.micros * 1000),
            wall: WallTime::from_millis(1_700_000_000_000 + self.micros / 1000),
        }
    }

    fn is_cut(&self, a: StoreId, b: StoreId) -> bool {
        self.cut.is_some_and(|(id, until)| self.micros < until && (id == a || id == b))
    }

    /// What a page that is sent brings with it. Whether it arrives.
    fn page_passes(&mut self, from: StoreId, to: StoreId) -> bool {
        self.pages += 1;
        let Some((fault, page, taker)) = self.fault else { return true };
        if self.pages != page || to != taker {
            return true;
        }
        self.fault = None;
        match fault {
            Fault::TakerCrashes => self.start(to),
            Fault::GiverCrashes => self.start(from),
            Fault::GiverIsCutOff => self.cut = Some((from, self.micros + 1_000_000)),
            Fault::PageIsLost => {}
        }
        false
    }

    /// One event, or the next deadline.
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
        if let (StoreEvent::Disk { .. }, Some((crashes, left))) = (&event, &mut self.crash)
            && *crashes == id
        {
            if *left == 0 {
                self.crash = None;
                return self.start(id);
            }
            *left -= 1;
        }
        let now = self.now();
        let Some(store) = self.stores.get_mut(&id) else { return };
        let mut fx = Effects::new();
        store.step(now, event, &mut fx);
        store.check();
        for effect in fx.drain() {
            match effect {
                Effect::Send(Envelope { to: Endpoint::Store(to), message, .. }) => {
                    self.deliver(id, to, message);
                }
                Effect::Send(Envelope { message: Message::RangeAnswer(answer), .. }) => {
                    self.answers.insert(answer.call, Message::RangeAnswer(answer));
                }
                Effect::Disk { token, op } => {
                    let disk = self.disks.get_mut(&id).expect("each has one");
                    let event = StoreEvent::Disk { token, result: Ok(carry_out(disk, op)) };
                    self.queue.push_back((id, event));
                }
                Effect::Note(note) => self.notes.push(format!("{id}: {note}")),
                // As an operator would.
                Effect::Halt { reason } if reason.contains("set back") => self.start(id),
                Effect::Halt { reason } => panic!("{reason}"),
                _ => {}
            }
        }
    }

    fn deliver(&mut self, from: StoreId, to: StoreId, message: Message) {
        // Who crashed in this very step has sent nothing more.
        if !self.stores.contains_key(&to) || self.is_cut(from, to) {
            return;
        }
        self.sent.push(message.clone());
        let is_page = matches!(&message, Message::SnapshotPage(page)
            if matches!(page.given, SnapshotGiven::Rows { .. }));
        if is_page && !self.page_passes(from, to) {
            return;
        }
        let (from, endpoint) = (Endpoint::Store(from), Endpoint::Store(to));
        let envelope = Envelope { from, to: endpoint, message };
        self.queue.push_back((to, StoreEvent::Message(envelope)));
    }

    pub(crate) fn run_millis(&mut self, millis: u64) {
        let until = self.micros + millis * 1000;
        while self.micros < until {
            self.turn();
        }
    }

    pub(crate) fn count(&self, of: impl Fn(&Message) -> bool) -> usize {
        self.sent.iter().filter(|message| of(message)).count()
    }

    pub(crate) fn bytes_of_pages(&self) -> usize {
        let bytes = |message: &Message| match message {
            Message::SnapshotPage(page) => match &page.given {
                SnapshotGiven::Rows { rows, .. } => rows.len(),
                _ => 0,
            },
            _ => 0,
        };
        self.sent.iter().map(bytes).sum()
    }

    pub(crate) fn status(&self) -> String {
        let stores: Vec<String> = self.stores.values().map(Store::status).collect();
        let notes = self.notes.iter().rev().take(20).rev().cloned().collect::<Vec<_>>();
        format!("{}\n{}", stores.join("\n"), notes.join("\n"))
    }

    fn state(&self, id: StoreId) -> Option<(LogIndex, StateHash)> {
        self.stores.get(&id)?.probe()?.replica(ROOT_RANGE)?.applied
    }

    fn are_equal(&self, ids: &[StoreId]) -> bool {
        let states: Vec<_> = ids.iter().map(|id| self.state(*id)).collect();
        let committed = |id: &StoreId| {
            let probe = self.stores.get(id).and_then(Store::probe);
            probe.and_then(|probe| Some(probe.replica(ROOT_RANGE)?.last_index))
        };
        let last: BTreeSet<_> = ids.iter().map(committed).collect();
        states.iter().all(|state| state.is_some() && *state == states[0]) && last.len() == 1
    }

    /// Run until these stores have the same state, and nothing more to apply.
    pub(crate) fn until_equal(&mut self, ids: &[StoreId]) {
        for _ in 0..2_000_000 {
            if self.micros.is_multiple_of(16) && self.are_equal(ids) {
                return;
            }
            self.turn();
        }
        panic!("not equal: {}", self.status());
    }

    /// Run until consensus has these voters and nobody else.
    pub(crate) fn until_voters_are(&mut self, ids: &[StoreId]) {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        for _ in 0..2_000_000 {
            let leader = self.leads();
            let voters = leader.and_then(|leader| {
                let probe = self.stores[&leader].probe()?;
                let membership = probe.replica(ROOT_RANGE)?.membership.clone();
                (membership.learners().is_empty() && !membership.is_joint())
                    .then(|| membership.voters().to_vec())
            });
            if voters.as_ref() == Some(&ids) {
                return;
            }
            self.turn();
        }
        panic!("not the voters {ids:?}: {}", self.status());
    }

    fn leads(&self) -> Option<StoreId> {
        let leads = |store: &Store| {
            store.probe().and_then(|probe| {
                let replica = probe.replica(ROOT_RANGE)?;
                (replica.role == Role::Leader).then_some(replica.term)
            })
        };
        let leaders = self.stores.iter().filter_map(|(id, store)| Some((leads(store)?, *id)));
        leaders.max().map(|(_, id)| id)
    }

    pub(crate) fn leader(&self) -> StoreId {
        self.leads().expect("one has just answered")
    }

    /// Open a session and make a bucket.
    pub(crate) fn found(&mut self) {
        let open = CommandBody::OpenSession { gateway: GATEWAY, nonce: 1 };
        match self.command(Origin::System, open) {
            Outcome::SessionOpened(session) => self.session = session,
            other => panic!("{other:?}"),
        }
        let name = BucketName::parse("a-bucket").expect("a fair name");
        let owner = Owner::default();
        let origin = self.origin();
        let create = CommandBody::CreateBucket { tenant: TenantId(0), name, owner };
        assert_eq!(self.command(origin, create), Outcome::Done);
    }

    /// Put so many objects of so many bytes, each an entry of its own, some of them again and again;
    /// and delete some.
    pub(crate) fn write(&mut self, count: u64, bytes: usize) {
        for _ in 0..count {
            let key = format!("key-{}", self.sequence * 7 % 211);
            let origin = self.origin();
            let target = target(&key);
            let body = if self.sequence % 5 == 3 {
                let conditions = WriteConditions::default();
                CommandBody::DeleteObject { target, conditions }
            } else {
                put(target, vec![u8::try_from(self.sequence % 251).expect("small"); bytes])
            };
            let outcome = self.command(origin, body);
            assert!(!matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
        }
    }

    pub(crate) fn replace(&mut self, old: StoreId, new: StoreId) {
        let origin = self.origin();
        let replace = CommandBody::ReplaceStore { old, new };
        assert_eq!(self.command(origin, replace), Outcome::Done);
    }

    fn origin(&mut self) -> Origin {
        let sequence = CommitSequence(self.sequence);
        self.sequence += 1;
        Origin::Session { session: self.session, sequence, watermark: sequence }
    }

    fn command(&mut self, origin: Origin, body: CommandBody) -> Outcome {
        let ask = Ask::Command(Box::new(Command { origin, body }));
        for attempt in 0..2000 {
            let ids: Vec<StoreId> = self.stores.keys().copied().collect();
            let to = self.leads().unwrap_or(ids[attempt % ids.len()]);
            if let Some(Answer::Applied(outcome)) = self.ask_once(to, &ask) {
                return outcome;
            }
        }
        panic!("no answer to {ask:?}: {}", self.status());
    }

    fn ask_once(&mut self, to: StoreId, ask: &Ask) -> Option<Answer> {
        self.calls += 1;
        let call = CallId(self.calls);
        let message = Message::RangeCall(RangeCall {
            call,
            origin: GATEWAY,
            session: self.session,
            range: ROOT_RANGE,
            epoch: RangeEpoch(1),
            forwarded: false,
            ask: ask.clone(),
        });
        let (from, endpoint) = (Endpoint::Gateway(GATEWAY), Endpoint::Store(to));
        let envelope = Envelope { from, to: endpoint, message };
        self.queue.push_back((to, StoreEvent::Message(envelope)));
        for _ in 0..300 {
            self.turn();
            if let Some(Message::RangeAnswer(answer)) = self.answers.remove(&call) {
                return answer.result.ok();
            }
        }
        None
    }
}

fn target(key: &str) -> Target {
    let key = ObjectKey::parse(key).expect("a fair key");
    Target { tenant: TenantId(0), bucket: BucketId(1), key }
}

fn put(target: Target, bytes: Vec<u8>) -> CommandBody {
    CommandBody::PutObject {
        target,
        conditions: WriteConditions::default(),
        object: Box::new(NewObject {
            length: bytes.len() as u64,
            etag: ETag::default(),
            checksum: None,
            owner: Owner::default(),
            attributes: Attributes::default(),
            tags: Vec::new(),
            body: NewBody::Inline(bytes.into()),
        }),
    }
}
