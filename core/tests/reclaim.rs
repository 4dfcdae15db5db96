//! What reclaiming promises, on three stores in one process: nothing that may be needed is freed, and
//! everything else is, whoever was away, crashed or late.

#[path = "rig/cluster.rs"]
mod cluster;
#[path = "rig/disk.rs"]
mod disk;

use cluster::*;
use trine_core::effects::StoreEvent;
use trine_core::ids::*;
use trine_core::message::*;
use trine_core::object::*;
use trine_core::range::command::*;
use trine_core::time::Duration;

/// As long as three beats of a gateway.
const A_WHILE: Duration = Duration::from_secs(3);

/// The test as a gateway with a session, which beats.
struct Gateway {
    cluster: Cluster,
    session: u64,
    sequence: u64,
    report: SessionReport,
}

impl Gateway {
    fn new() -> Self {
        Self::scrubbing(Duration::from_secs(7 * 24 * 3600))
    }

    fn scrubbing(every: Duration) -> Self {
        let mut cluster = Cluster::new(&[1, 2, 3]);
        cluster.scrub_every = every;
        (1..=3).for_each(|id| cluster.start(StoreId(id)));
        let session = cluster.open_session(1);
        assert_eq!(cluster.command(session, 1, bucket(1)), Outcome::Done);
        let report = SessionReport { next: BlobSequence(1_000_000), ..SessionReport::default() };
        let mut gateway = Self { cluster, session, sequence: 1, report };
        gateway.beat();
        gateway
    }

    /// Tell the report; what is heard of the range is what reads begin from.
    fn beat(&mut self) {
        match self.cluster.beat(self.session, &self.report) {
            Answer::Beat { live: true, applied, .. } => self.report.reads_from = applied,
            other => panic!("{other:?}"),
        }
    }

    /// Beat for so long, as a gateway does; `hear`: and take in what is heard of the range.
    fn pass(&mut self, time: Duration, hear: bool) {
        for _ in 0..time.as_millis() / 500 {
            self.cluster.run(Duration::from_millis(500));
            let before = self.report.reads_from;
            self.beat();
            if !hear {
                self.report.reads_from = before;
            }
        }
    }

    fn command(&mut self, body: CommandBody) -> Outcome {
        self.sequence += 1;
        self.cluster.command(self.session, self.sequence, body)
    }

    /// Write the one chunk of a blob to some stores.
    fn write(&mut self, stores: &[u64], blob: u64) {
        for store in stores {
            assert_eq!(self.cluster.write(*store, self.session, blob * 7), Ok(()));
        }
    }

    fn refer(&mut self, blob: u64) -> Outcome {
        self.sequence += 1;
        self.cluster.put_object(self.session, self.sequence, blob * 7)
    }

    /// An object of one blob, whose chunk is on these stores.
    fn put(&mut self, stores: &[u64], blob: u64) {
        self.write(stores, blob);
        assert!(matches!(self.refer(blob), Outcome::Put { .. }));
    }

    fn delete(&mut self, blob: u64) {
        let target = chunk(CallId(0), self.session, blob * 7).owner;
        let conditions = WriteConditions::default();
        assert_eq!(self.command(CommandBody::DeleteObject { target, conditions }), Outcome::Done);
    }

    /// Which stores have the chunk of a blob, sound.
    fn holders(&mut self, blob: u64) -> Vec<u64> {
        let session = self.session;
        self.holders_of(session, blob)
    }

    fn holders_of(&mut self, session: u64, blob: u64) -> Vec<u64> {
        let stores: Vec<u64> = self.cluster.stores.keys().map(|id| id.0).collect();
        let has = |id: &u64| self.cluster.check(*id, session, blob * 7).is_ok();
        stores.into_iter().filter(has).collect()
    }

    fn left(&mut self, stores: &[u64], blob: u64) {
        let write = chunk(CallId(0), self.session, blob * 7);
        let left = OwnedBlob { blob: write.chunk.blob, owner: write.owner };
        for store in stores {
            let (from, to) = (FROM, Endpoint::Store(StoreId(*store)));
            let message = Message::BlobsLeft(vec![left.clone()]);
            let event = StoreEvent::Message(Envelope { from, to, message });
            self.cluster.queue.push_back((StoreId(*store), event));
        }
    }

    fn blob(&self, blob: u64) -> BlobId {
        chunk(CallId(0), self.session, blob * 7).chunk.blob
    }
}

#[test]
fn a_deleted_object_is_freed_once_no_read_can_want_it() {
    let mut gateway = Gateway::new();
    gateway.put(&[1, 2, 3], 1);
    gateway.put(&[1, 2, 3], 2);
    gateway.beat();
    gateway.delete(1);
    // The gateway may have reads under way that were issued before the delete.
    gateway.pass(A_WHILE, false);
    assert_eq!(gateway.holders(1), [1, 2, 3]);
    gateway.pass(A_WHILE, true);
    assert_eq!(gateway.holders(1), []);
    assert_eq!(gateway.holders(2), [1, 2, 3], "the other object stands");
    gateway.delete(2);
    gateway.pass(A_WHILE, true);
    assert_eq!(gateway.holders(2), []);
    for id in 1..=3 {
        assert_eq!(gateway.cluster.report(id).reclaim.blobs, 2);
    }
}

#[test]
fn a_long_read_keeps_what_it_reads_and_nothing_else() {
    let mut gateway = Gateway::new();
    (1..=3).for_each(|blob| gateway.put(&[1, 2, 3], blob));
    gateway.report.reading = vec![gateway.blob(2)];
    gateway.beat();
    (1..=3).for_each(|blob| gateway.delete(blob));
    gateway.pass(A_WHILE, true);
    assert_eq!([1, 2, 3].map(|blob| gateway.holders(blob).len()), [0, 3, 0]);
    gateway.report.reading.clear();
    gateway.pass(A_WHILE, true);
    assert_eq!(gateway.holders(2), []);
}

#[test]
fn what_is_dead_is_freed_only_when_its_writer_has_closed_it() {
    let mut gateway = Gateway::new();
    gateway.put(&[1, 2], 1);
    gateway.report.writing = vec![BlobSequence(1)];
    gateway.beat();
    gateway.delete(1);
    gateway.pass(A_WHILE, true);
    assert_eq!(gateway.holders(1), [1, 2], "a third copy is under way");
    gateway.write(&[3], 1);
    gateway.report.writing.clear();
    gateway.pass(A_WHILE, true);
    assert_eq!(gateway.holders(1), []);
}

#[test]
fn every_gateway_must_have_said_that_it_does_not_read() {
    let mut gateway = Gateway::new();
    gateway.put(&[1, 2, 3], 1);
    // Another gateway, which says nothing at first, and dies later.
    let other = CommandBody::OpenSession { gateway: GatewayId(200), nonce: 9 };
    let Outcome::SessionOpened(silent) = gateway.cluster.command(0, 0, other) else {
        panic!("it is opened");
    };
    gateway.delete(1);
    gateway.pass(A_WHILE, true);
    assert_eq!(gateway.holders(1), [1, 2, 3]);
    // It is fenced after five seconds of silence; then no store gives it anything.
    gateway.pass(A_WHILE * 2, true);
    assert_eq!(gateway.holders(1), []);
    assert_eq!(gateway.cluster.read(1, silent.0, 7), Err(ChunkError::Fenced));
}

#[test]
fn a_put_that_was_given_up_is_freed_once_it_is_closed() {
    let mut gateway = Gateway::new();
    gateway.write(&[1, 2, 3], 1);
    gateway.report.writing = vec![BlobSequence(1)];
    gateway.beat();
    // Told too early: the command may come yet.
    gateway.left(&[1, 2, 3], 1);
    gateway.pass(A_WHILE, true);
    assert_eq!(gateway.holders(1), [1, 2, 3]);
    gateway.report.writing.clear();
    gateway.pass(A_WHILE * 2, true);
    assert_eq!(gateway.holders(1), []);
}

#[test]
fn a_put_that_was_given_up_and_yet_took_effect_stays() {
    let mut gateway = Gateway::new();
    gateway.put(&[1, 2, 3], 1);
    gateway.beat();
    gateway.left(&[1, 2, 3], 1);
    gateway.pass(A_WHILE, true);
    assert_eq!(gateway.holders(1), [1, 2, 3]);
}

#[test]
fn a_session_that_ends_leaves_nothing_of_its_open_puts_and_all_of_the_others() {
    let mut gateway = Gateway::new();
    let old = gateway.session;
    gateway.put(&[1, 2, 3], 1);
    gateway.write(&[1, 2, 3], 2);
    // Its process is started anew, with the command on its way.
    let session = gateway.cluster.open_session(2);
    assert_eq!(gateway.refer(2), Outcome::Rejected(Rejection::Fenced));
    (gateway.session, gateway.sequence) = (session, 0);
    gateway.report = SessionReport { next: BlobSequence(1), ..SessionReport::default() };
    gateway.pass(A_WHILE, true);
    assert_eq!(gateway.holders_of(old, 1), [1, 2, 3]);
    assert_eq!(gateway.holders_of(old, 2), []);
    assert_eq!(
        gateway.cluster.write(1, old, 14),
        Err(ChunkError::Fenced),
        "nothing comes after it"
    );
}

#[test]
fn a_store_that_was_away_while_objects_were_deleted_asks_when_it_is_back() {
    let mut gateway = Gateway::new();
    (1..=20).for_each(|blob| gateway.put(&[1, 2, 3], blob));
    gateway.beat();
    gateway.cluster.isolate(3, false);
    (1..=10).for_each(|blob| gateway.delete(blob));
    // Longer than the leader waits for a silent store: its rows are gone.
    gateway.pass(Duration::from_secs(20), true);
    for blob in 1..=20 {
        let holders = gateway.holders(blob);
        assert_eq!(holders, if blob <= 10 { vec![3] } else { vec![1, 2, 3] });
    }
    gateway.cluster.isolate(3, true);
    gateway.pass(A_WHILE * 2, true);
    for blob in 1..=20 {
        assert_eq!(gateway.holders(blob).len(), if blob <= 10 { 0 } else { 3 });
    }
    for id in 1..=3 {
        assert_eq!(gateway.cluster.report(id).repair.missing, 0, "nobody takes it for lost");
    }
}

#[test]
fn no_copy_is_made_of_what_is_dead() {
    let mut gateway = Gateway::new();
    gateway.put(&[1, 2], 1);
    gateway.put(&[1, 2], 2);
    // Dead, and kept: somebody reads it.
    gateway.report.reading = vec![gateway.blob(1)];
    gateway.beat();
    gateway.delete(1);
    gateway.pass(A_WHILE, true);
    for blob in [1, 2] {
        let chunk = chunk(CallId(0), gateway.session, blob * 7).chunk;
        let repair =
            ChunkRepair { call: CallId(0), chunk, existed: true, sources: vec![StoreId(1)] };
        let (from, to) = (FROM, Endpoint::Store(StoreId(3)));
        let message = Message::ChunkRepair(repair);
        let event = StoreEvent::Message(Envelope { from, to, message });
        gateway.cluster.queue.push_back((StoreId(3), event));
    }
    gateway.pass(A_WHILE, true);
    assert_eq!(gateway.holders(1), [1, 2]);
    assert_eq!(gateway.holders(2), [1, 2, 3]);
    assert_eq!(gateway.cluster.report(3).repair.missing, 0);
}

#[test]
fn nothing_is_freed_while_the_range_cannot_be_asked() {
    let mut gateway = Gateway::new();
    gateway.write(&[1, 2, 3], 1);
    // No two stores hear each other; they know of the doubt, and of nothing else.
    for (one, other) in [(1, 2), (1, 3), (2, 3)] {
        gateway.cluster.link(StoreId(one), StoreId(other), false);
    }
    gateway.left(&[1, 2, 3], 1);
    gateway.cluster.run(Duration::from_secs(4));
    assert_eq!(gateway.holders(1), [1, 2, 3]);
}

#[test]
fn a_killed_store_goes_on_with_freeing() {
    let mut gateway = Gateway::new();
    (1..=30).for_each(|blob| gateway.put(&[1, 2, 3], blob));
    gateway.beat();
    (1..=30).for_each(|blob| gateway.delete(blob));
    // In the middle of it, and again.
    for _ in 0..6 {
        gateway.cluster.run(Duration::from_millis(90));
        gateway.beat();
        gateway.cluster.start(StoreId(2));
    }
    gateway.pass(A_WHILE * 3, true);
    for blob in 1..=30 {
        assert_eq!(gateway.holders(blob), []);
    }
}

#[test]
fn scrubbing_finds_rot_and_what_is_of_nothing() {
    let mut gateway = Gateway::scrubbing(Duration::from_secs(20));
    gateway.put(&[1, 2, 3], 1);
    gateway.write(&[1, 2, 3], 2);
    gateway.beat();
    let session = gateway.session;
    gateway.cluster.damage(2, session, 7);
    // All are restarted: nobody remembers that the second was never finished.
    (1..=3).for_each(|id| gateway.cluster.start(StoreId(id)));
    gateway.pass(Duration::from_secs(45), true);
    assert_eq!(gateway.holders(1), [1, 2, 3]);
    assert_eq!(gateway.holders(2), []);
    let report = gateway.cluster.report(2);
    assert_eq!((report.scrub.damaged, report.repair.repaired), (1, 1));
    assert!(report.scrub.passes >= 1 && report.scrub.bytes >= 6000, "{:?}", report.scrub);
}

#[test]
fn scrubbing_goes_on_where_a_restart_interrupted_it() {
    // A pass takes minutes; progress is written down every minute.
    let mut gateway = Gateway::scrubbing(Duration::from_secs(600));
    (1..=40).for_each(|blob| gateway.put(&[1, 2, 3], blob));
    (1..=3).for_each(|id| gateway.cluster.start(StoreId(id)));
    let mut last = None;
    for _ in 0..40 {
        gateway.pass(Duration::from_secs(100), true);
        let scrub = gateway.cluster.report(2).scrub;
        if let (Some(at), Some(last)) = (scrub.at, last) {
            assert!(at >= last, "{at} after {last}");
        }
        if last.is_some() && scrub.at.is_none() {
            return;
        }
        last = scrub.at.or(last);
        gateway.cluster.start(StoreId(2));
    }
    panic!("no pass was ever finished: {last:?}");
}

/// Over months, with restarts and scrubbing.
#[test]
fn parts_of_an_upload_that_stays_open_are_kept() {
    let mut gateway = Gateway::scrubbing(Duration::from_secs(30));
    let target = chunk(CallId(0), gateway.session, 7).owner;
    let create = CommandBody::CreateUpload {
        target: target.clone(),
        owner: Owner::default(),
        attributes: Attributes::default(),
        tags: Vec::new(),
        checksum: None,
    };
    let Outcome::Upload(upload) = gateway.command(create) else { panic!("it begins") };
    gateway.write(&[1, 2, 3], 1);
    let write = chunk(CallId(0), gateway.session, 7);
    let blob = BlobRef {
        blob: write.chunk.blob,
        length: 6000,
        chunk_size: 1 << 14,
        block_size: 1 << 12,
        scheme: Scheme::ThreeCopies,
        epoch: MapEpoch(1),
        stores: vec![StoreId(1), StoreId(2)],
    };
    let (length, etag, checksum) = (6000, ETag::default(), None);
    let part = Box::new(NewPart { length, etag, checksum, body: NewBody::Blob(blob) });
    let put = CommandBody::PutPart { target: target.clone(), upload, number: 1, part };
    assert!(matches!(gateway.command(put), Outcome::Put { .. }));
    gateway.pass(Duration::from_secs(100), true);
    (1..=3).for_each(|id| gateway.cluster.start(StoreId(id)));
    gateway.pass(Duration::from_secs(60), true);
    assert_eq!(gateway.holders(1), [1, 2, 3]);
    assert_eq!(gateway.command(CommandBody::AbortUpload { target, upload }), Outcome::Done);
    gateway.pass(A_WHILE, true);
    assert_eq!(gateway.holders(1), []);
}

/// A leader may take a session for over which a store still serves.
#[test]
fn a_store_frees_nothing_before_it_knows_the_sessions_by_which_was_judged() {
    let mut gateway = Gateway::new();
    gateway.write(&[3], 1);
    gateway.write(&[3], 2);
    gateway.beat();
    for (blob, directory) in [(1, LogIndex(1 << 40)), (2, LogIndex(1))] {
        let (from, to) = (Endpoint::Store(StoreId(1)), Endpoint::Store(StoreId(3)));
        let blobs = vec![gateway.blob(blob)];
        let message = Message::BlobFree(BlobFree { call: CallId(blob), directory, blobs });
        let event = StoreEvent::Message(Envelope { from, to, message });
        gateway.cluster.queue.push_back((StoreId(3), event));
        gateway.cluster.run(Duration::from_secs(1));
    }
    assert_eq!(gateway.holders(1), [3]);
    assert_eq!(gateway.holders(2), []);
}
