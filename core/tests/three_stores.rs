//! Three stores on quiet disks and links: what works when nothing fails. (What happens when
//! everything fails is the simulator's business.)

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use trine_core::cluster::{
    ClusterMap, Geometry, ROOT_RANGE, Slot, StoreConfig, StoreLimits, StoreTiming, ZoneMap,
};
use trine_core::consensus::Role;
use trine_core::consensus::{self, Membership, MessageBody};
use trine_core::effects::{Effect, Effects, Now, StoreEvent};
use trine_core::ids::{
    BucketId, CallId, ClusterId, CommitSequence, Endpoint, GatewayId, LogIndex, RangeEpoch,
    SessionId, StoreId, TenantId, ZoneId,
};
use trine_core::level::Levels;
use trine_core::message::{Answer, Ask, Envelope, Message, RangeCall, Refusal};
use trine_core::object::{
    Attributes, BucketName, ETag, NewBody, NewObject, ObjectKey, Owner, Target, WriteConditions,
};
use trine_core::range::command::{Command, CommandBody, Origin, Outcome, Read, ReadReply};
use trine_core::store::Store;
use trine_core::time::{Instant, WallTime};

#[path = "rig/disk.rs"]
mod disk;

use disk::{Disk, carry_out};

const GATEWAY: GatewayId = GatewayId(100);

/// Stores, their disks, and what is under way. Everything takes a microsecond.
struct Cluster {
    stores: BTreeMap<StoreId, Store>,
    disks: BTreeMap<StoreId, Disk>,
    queue: VecDeque<(StoreId, StoreEvent)>,
    answers: BTreeMap<CallId, Message>,
    micros: u64,
    calls: u64,
    /// The store whose disk is laid out otherwise, and how.
    others: BTreeMap<StoreId, Geometry>,
}

impl Cluster {
    fn new(others: &[(StoreId, Geometry)]) -> Self {
        let mut cluster = Self {
            stores: BTreeMap::new(),
            disks: BTreeMap::new(),
            queue: VecDeque::new(),
            answers: BTreeMap::new(),
            micros: 0,
            calls: 0,
            others: others.iter().copied().collect(),
        };
        for id in (1..=3).map(StoreId) {
            cluster.disks.insert(id, BTreeMap::new());
            cluster.start(id);
        }
        cluster
    }

    fn start(&mut self, id: StoreId) {
        let zone = |id: u64| ZoneMap {
            zone: ZoneId(u8::try_from(id - 1).expect("three zones")),
            slots: vec![Slot { store: StoreId(id), weight: 1 }],
        };
        let config = StoreConfig {
            levels: Levels::OWN,
            cluster: ClusterId(7),
            store: id,
            zone: zone(id.0).zone,
            map: ClusterMap::bootstrap(64, (1..=3).map(zone).collect()),
            geometry: self.others.get(&id).copied().unwrap_or(Geometry::SIMULATION),
            limits: StoreLimits::SIMULATION,
            timing: StoreTiming::DEFAULT,
            seed: id.0,
        };
        self.stores.insert(id, Store::new(config));
        self.queue.retain(|(store, _)| *store != id);
        self.queue.push_back((id, StoreEvent::Start));
    }

    fn now(&self) -> Now {
        Now {
            instant: Instant::from_nanos(self.micros * 1000),
            wall: WallTime::from_millis(1_700_000_000_000 + self.micros / 1000),
        }
    }

    /// One event, or the next deadline.
    fn turn(&mut self) {
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
        let mut fx = Effects::new();
        let now = self.now();
        let store = self.stores.get_mut(&id).expect("it was started");
        store.step(now, event, &mut fx);
        store.check();
        for effect in fx.drain() {
            match effect {
                Effect::Send(Envelope { from, to: Endpoint::Store(to), message }) => {
                    let envelope = Envelope { from, to: Endpoint::Store(to), message };
                    self.queue.push_back((to, StoreEvent::Message(envelope)));
                }
                Effect::Send(Envelope { message: Message::RangeAnswer(answer), .. }) => {
                    self.answers.insert(answer.call, Message::RangeAnswer(answer));
                }
                Effect::Disk { token, op } => {
                    let disk = self.disks.get_mut(&id).expect("each has one");
                    let event = StoreEvent::Disk { token, result: Ok(carry_out(disk, op)) };
                    self.queue.push_back((id, event));
                }
                Effect::Halt { reason } => panic!("{reason}"),
                _ => {}
            }
        }
    }

    /// Ask any store until the range has answered.
    fn ask(&mut self, session: u64, ask: &Ask) -> Answer {
        for attempt in 0..1000 {
            let to = StoreId(attempt % 3 + 1);
            if let Some(Ok(answer)) = self.ask_once(to, session, ask) {
                return answer;
            }
        }
        let stores: Vec<String> = self.stores.values().map(Store::status).collect();
        panic!("no answer to {ask:?}:\n{}", stores.join("\n"));
    }

    /// Ask one store; `None` if it does not answer.
    fn ask_once(
        &mut self,
        to: StoreId,
        session: u64,
        ask: &Ask,
    ) -> Option<Result<Answer, Refusal>> {
        self.calls += 1;
        let call = CallId(self.calls);
        let message = Message::RangeCall(RangeCall {
            call,
            origin: GATEWAY,
            session: SessionId(session),
            range: ROOT_RANGE,
            epoch: RangeEpoch(1),
            forwarded: false,
            ask: ask.clone(),
        });
        let (from, to_endpoint) = (Endpoint::Gateway(GATEWAY), Endpoint::Store(to));
        let envelope = Envelope { from, to: to_endpoint, message };
        self.queue.push_back((to, StoreEvent::Message(envelope)));
        for _ in 0..300 {
            self.turn();
            if let Some(Message::RangeAnswer(answer)) = self.answers.remove(&call) {
                return Some(answer.result);
            }
        }
        None
    }

    /// Put once, at the leader.
    fn is_refused_as_full(&mut self, session: SessionId, bucket: BucketId, sequence: u64) -> bool {
        let mut body = put(&format!("key-{sequence}"), &[7; 900]);
        if let CommandBody::PutObject { target, .. } = &mut body {
            target.bucket = bucket;
        }
        let sequence = CommitSequence(sequence);
        let origin = Origin::Session { session, sequence, watermark: sequence };
        let command = Command { origin, body };
        let answer = self.ask_once(self.leader(), session.0, &Ask::Command(Box::new(command)));
        if answer == Some(Err(Refusal::Overloaded)) {
            // Who has room is news of some heartbeats.
            (0..200).for_each(|_| self.turn());
        }
        answer == Some(Err(Refusal::Full))
    }

    fn open_session(&mut self, nonce: u128) -> SessionId {
        match self.command(0, 0, CommandBody::OpenSession { gateway: GATEWAY, nonce }) {
            Outcome::SessionOpened(session) => session,
            other => panic!("{other:?}"),
        }
    }

    fn leader(&self) -> StoreId {
        let leads = |store: &Store| {
            store.probe().is_some_and(|probe| {
                probe.replica(ROOT_RANGE).expect("it has it").role == Role::Leader
            })
        };
        let leader = self.stores.iter().find(|(_, store)| leads(store));
        *leader.expect("one has just answered").0
    }

    fn command(&mut self, session: u64, sequence: u64, body: CommandBody) -> Outcome {
        let origin = match session {
            0 => Origin::System,
            _ => Origin::Session {
                session: SessionId(session),
                sequence: CommitSequence(sequence),
                watermark: CommitSequence(sequence),
            },
        };
        match self.ask(session, &Ask::Command(Box::new(Command { origin, body }))) {
            Answer::Applied(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }
}

fn target(key: &str) -> Target {
    let key = ObjectKey::parse(key).expect("a fair key");
    Target { tenant: TenantId(0), bucket: BucketId(1), key }
}

fn put(key: &str, bytes: &'static [u8]) -> CommandBody {
    CommandBody::PutObject {
        target: target(key),
        conditions: WriteConditions::default(),
        object: Box::new(NewObject {
            length: bytes.len() as u64,
            etag: ETag::default(),
            checksum: None,
            owner: Owner::default(),
            attributes: Attributes::default(),
            tags: Vec::new(),
            body: NewBody::Inline(Bytes::from_static(bytes)),
        }),
    }
}

#[test]
fn commands_and_reads_survive_restarts_of_each_store_and_of_all() {
    let mut cluster = Cluster::new(&[]);
    let session = cluster.open_session(1);
    let name = BucketName::parse("a-bucket").expect("a fair name");
    let create = CommandBody::CreateBucket {
        tenant: TenantId(0),
        name: name.clone(),
        owner: Owner::default(),
    };
    assert_eq!(cluster.command(session.0, 1, create), Outcome::Done);
    let bucket = cluster.ask(session.0, &Ask::Read(Read::Bucket { tenant: TenantId(0), name }));
    let Answer::Read(ReadReply::Bucket(Some(bucket))) = bucket else { panic!("{bucket:?}") };
    let body: &'static [u8] = &[7; 900];
    let mut sequence = 2;
    // Enough to fill memtables and leave runs behind.
    for round in 0..6 {
        for number in 0..60 {
            let mut body = put(&format!("key-{round}-{number}"), body);
            if let CommandBody::PutObject { target, .. } = &mut body {
                target.bucket = bucket.id;
            }
            let outcome = cluster.command(session.0, sequence, body);
            assert!(matches!(outcome, Outcome::Put { .. }), "{outcome:?}");
            sequence += 1;
        }
        match round {
            0..3 => cluster.start(StoreId(round + 1)),
            3 => (1..=3).for_each(|id| cluster.start(StoreId(id))),
            _ => {}
        }
    }
    for round in 0..6 {
        for number in 0..60 {
            let mut target = target(&format!("key-{round}-{number}"));
            target.bucket = bucket.id;
            let read = Read::Object { target, with_body: true };
            match cluster.ask(session.0, &Ask::Read(read)) {
                Answer::Read(ReadReply::Object(Some((record, Some(bytes))))) => {
                    assert_eq!((record.length, &bytes[..]), (900, body));
                }
                other => panic!("key-{round}-{number}: {other:?}"),
            }
        }
    }
    let states: Vec<_> = cluster
        .stores
        .values()
        .map(|store| {
            store.probe().expect("it serves").replica(ROOT_RANGE).expect("it has it").applied
        })
        .collect();
    let highest = states.iter().flatten().max().expect("one has applied something");
    for (index, hash) in states.iter().flatten().filter(|state| state.0 == highest.0) {
        assert_eq!((*index, *hash), *highest);
    }
}

/// A snapshot is never sent in this stage; one that comes all the same must not leave the follower
/// waiting for an end that never comes.
#[test]
fn a_follower_that_gets_a_stray_snapshot_goes_on_following() {
    let mut cluster = Cluster::new(&[]);
    let session = cluster.open_session(1);
    let leader = cluster.leader();
    let follower = (1..=3).map(StoreId).find(|id| *id != leader).expect("there are three");
    let term = cluster.stores[&leader]
        .probe()
        .expect("it serves")
        .replica(ROOT_RANGE)
        .expect("it has it")
        .term;
    let body = MessageBody::Snapshot {
        last_index: LogIndex(1_000_000),
        last_term: term,
        membership: Membership::of((1..=3).map(StoreId).collect()),
        data: Bytes::from_static(b"not a state"),
    };
    let message = consensus::Message { from: leader, to: follower, term, body };
    let message =
        Message::Consensus { wall: cluster.now().wall, messages: vec![(ROOT_RANGE, message)] };
    let (from, to) = (Endpoint::Store(leader), Endpoint::Store(follower));
    cluster.queue.push_back((follower, StoreEvent::Message(Envelope { from, to, message })));
    for (sequence, name) in (1..).zip(["first", "second", "third"]) {
        let create = CommandBody::CreateBucket {
            tenant: TenantId(0),
            name: BucketName::parse(name).expect("a fair name"),
            owner: Owner::default(),
        };
        assert_eq!(cluster.command(session.0, sequence, create), Outcome::Done);
    }
    for _ in 0..500 {
        cluster.turn();
    }
    let applied = |id| {
        cluster.stores[&id]
            .probe()
            .expect("it serves")
            .replica(ROOT_RANGE)
            .expect("it has it")
            .applied
    };
    assert_eq!(applied(follower), applied(leader));
}

/// Each entry is a few hundred bytes, the journal many times shorter than all of them.
#[test]
fn a_journal_that_is_short_wraps_and_its_store_follows_on() {
    let mut cluster = Cluster::new(&[]);
    cluster.open_session(1);
    cluster.open_session(1);
    // The same store leads whoever has the short journal: nothing else differs.
    let leader = cluster.leader();
    let follower = StoreId(leader.0 % 3 + 1);
    let short = Geometry { journal: 512 << 10, ..Geometry::SIMULATION };
    for store in [follower, leader] {
        let mut cluster = Cluster::new(&[(store, short)]);
        let session = cluster.open_session(1);
        assert_eq!(cluster.leader(), leader);
        for sequence in 1..=2500 {
            // No such bucket: that is an entry too.
            let outcome = cluster.command(session.0, sequence, put("key", &[7; 900]));
            assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
        }
        let journal = cluster.stores[&store].probe().expect("it serves").journal();
        assert!(journal.1 > 3 * short.journal, "{journal:?}");
        assert!(journal.1 - journal.0 <= short.journal, "{journal:?}");
        let end = |id: StoreId, cluster: &Cluster| {
            cluster.stores[&id]
                .probe()
                .expect("it serves")
                .replica(ROOT_RANGE)
                .expect("it has it")
                .last_index
        };
        assert_eq!(end(follower, &cluster), end(leader, &cluster));
        (1..=3).for_each(|id| cluster.start(StoreId(id)));
        // There are runs to load, and time must pass before one of them leads.
        (0..100_000).for_each(|_| cluster.turn());
        let outcome = cluster.command(session.0, 2501, put("key", &[7; 900]));
        assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    }
}

/// With room for a journal and eight segments.
const SMALL: Geometry = Geometry {
    capacity: (256 << 10) + Geometry::SIMULATION.journal + 8 * Geometry::SIMULATION.segment,
    ..Geometry::SIMULATION
};

/// A bucket to put into, made by commit 1 of the session.
fn made_bucket(cluster: &mut Cluster, session: SessionId) -> BucketId {
    let (tenant, name) = (TenantId(0), BucketName::parse("a-bucket").expect("a fair name"));
    let create = CommandBody::CreateBucket { tenant, name, owner: Owner::default() };
    assert_eq!(cluster.command(session.0, 1, create), Outcome::Done);
    found_bucket(cluster, session).expect("it was just made")
}

fn found_bucket(cluster: &mut Cluster, session: SessionId) -> Option<BucketId> {
    let (tenant, name) = (TenantId(0), BucketName::parse("a-bucket").expect("a fair name"));
    match cluster.ask(session.0, &Ask::Read(Read::Bucket { tenant, name })) {
        Answer::Read(ReadReply::Bucket(found)) => found.map(|bucket| bucket.id),
        other => panic!("{other:?}"),
    }
}

/// Where nothing can be written out, nothing of the journal can be given up.
#[test]
fn full_disks_refuse_new_data_but_sessions_and_reads_go_on() {
    let mut cluster = Cluster::new(&[1, 2, 3].map(|id| (StoreId(id), SMALL)));
    let session = cluster.open_session(1);
    let bucket = made_bucket(&mut cluster, session);
    let mut sequence = 2;
    while !cluster.is_refused_as_full(session, bucket, sequence) {
        sequence += 1;
        assert!(sequence < 5000, "the disks are small");
    }
    let session = cluster.open_session(2);
    assert_eq!(found_bucket(&mut cluster, session), Some(bucket));
}

#[test]
fn a_leader_whose_disk_is_full_hands_over_and_data_goes_on() {
    let mut cluster = Cluster::new(&[]);
    cluster.open_session(1);
    let leader = cluster.leader();
    let mut cluster = Cluster::new(&[(leader, SMALL)]);
    let session = cluster.open_session(1);
    let bucket = made_bucket(&mut cluster, session);
    assert_eq!(cluster.leader(), leader, "the same store leads: nothing else differs");
    for sequence in 2..=4000 {
        assert!(!cluster.is_refused_as_full(session, bucket, sequence), "two disks have room");
    }
    assert_ne!(cluster.leader(), leader);
}
