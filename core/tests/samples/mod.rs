//! At least one message of each kind.

use bytes::Bytes;
use trine_core::cluster::{ClusterMap, Layout, Slot, ZoneMap};
use trine_core::consensus::{Entry, EntryKind, Message as Raft, MessageBody};
use trine_core::directory::{Directory, SessionsView};
use trine_core::hash::Checksum;
use trine_core::ids::{
    BlobId, BlobSequence, BucketId, CallId, ChunkId, ClusterId, CommitSequence, DiskBirth,
    GatewayId, Incarnation, LogIndex, MapEpoch, RangeEpoch, RangeId, SessionId, StoreId, TenantId,
    Term, ZoneId,
};
use trine_core::level::{Level, Levels};
use trine_core::message::{
    Answer, Ask, Beginning, BlobAnswer, BlobAsk, BlobFree, BlobFreed, BlobVerdict, BlobVerdicts,
    ChunkAsk, ChunkChecked, ChunkCopy, ChunkData, ChunkError, ChunkPulled, ChunkRead, ChunkRepair,
    ChunkSummary, ChunkWrite, ChunkWritten, Hello, InventoryAnswer, InventoryAsk, InventoryDigest,
    InventoryResult, Life, Message, Pulse, RangeAnswer, RangeCall, Refusal, SessionReport,
    SnapshotAsk, SnapshotGiven, SnapshotId, SnapshotPage, SnapshotWant, StoreMark, Vitals,
};
use trine_core::object::{BucketName, ObjectKey, OwnedBlob, Target, WriteConditions};
use trine_core::range::command::{
    Command, CommandBody, Origin, Outcome, Read, ReadReply, Rejection, ScanRequest, ScanStart,
};
use trine_core::time::{Duration, Instant, WallTime};

fn target() -> Target {
    let key = ObjectKey::parse("photos/2026 +&#.jpg").expect("a fair key");
    Target { tenant: TenantId(0), bucket: BucketId(7), key }
}

fn chunk() -> ChunkId {
    ChunkId { blob: BlobId { session: SessionId(3), sequence: BlobSequence(9) }, number: 2 }
}

fn call(ask: Ask) -> Message {
    Message::RangeCall(RangeCall {
        call: CallId(1),
        origin: GatewayId(2),
        session: SessionId(3),
        range: RangeId(0),
        epoch: RangeEpoch(1),
        forwarded: true,
        ask,
    })
}

fn answer(result: Result<Answer, Refusal>) -> Message {
    let (call, origin, range) = (CallId(1), GatewayId(2), RangeId(0));
    Message::RangeAnswer(RangeAnswer { call, origin, range, by: StoreId(3), result })
}

fn pulse(measured: Option<Duration>) -> Pulse {
    let heartbeat = Duration::from_millis(25);
    let vitals = Vitals { heartbeat, reach: measured, delay: measured, full: measured.is_some() };
    Pulse { sent: Instant::from_nanos(77), vitals }
}

/// At least one message of each kind, by the number of its kind.
pub(crate) fn samples() -> Vec<(u8, Message)> {
    let session = SessionId(3);
    let origin =
        Origin::Session { session, sequence: CommitSequence(5), watermark: CommitSequence(4) };
    let body =
        CommandBody::DeleteObject { target: target(), conditions: WriteConditions::default() };
    let entry = Entry {
        index: LogIndex(8),
        term: Term(2),
        kind: EntryKind::Command,
        payload: Bytes::from_static(b"payload"),
    };
    let append = MessageBody::Append {
        prev_index: LogIndex(7),
        prev_term: Term(1),
        entries: vec![entry],
        commit: LogIndex(6),
    };
    let raft = Raft { from: StoreId(1), to: StoreId(2), term: Term(2), body: append };
    let scan = ScanRequest {
        tenant: TenantId(0),
        bucket: BucketId(7),
        prefix: "photos/".to_owned(),
        delimiter: Some("/".to_owned()),
        start: ScanStart::AfterPrefix("photos/a/".to_owned()),
        limit: 1000,
    };
    let name = BucketName::parse("a-bucket").expect("a fair name");
    vec![
        (
            1,
            Message::Hello(Hello {
                cluster: ClusterId(42),
                levels: Levels { min: Level(1), max: Level(2) },
                level: Some(Level(1)),
                life: StoreMark { incarnation: Incarnation(6), nonce: 99, synced: 8192 },
                began: 4096,
                doubted: Incarnation(2),
                lives: vec![Life { incarnation: Incarnation(6), nonce: 99 }],
                heard: Some(StoreMark { incarnation: Incarnation(5), nonce: 98, synced: 12288 }),
                wanted: true,
                beginning: Beginning::Blank(vec![
                    (StoreId(1), DiskBirth(77)),
                    (StoreId(3), DiskBirth(78)),
                ]),
            }),
        ),
        (
            2,
            Message::Consensus {
                wall: WallTime::from_millis(1_700_000_000_000),
                messages: vec![(RangeId(0), raft)],
            },
        ),
        (3, call(Ask::Command(Box::new(Command { origin, body })))),
        (3, call(Ask::Read(Read::Scan(scan)))),
        (3, call(Ask::Read(Read::Bucket { tenant: TenantId(0), name }))),
        (
            3,
            call(Ask::Beat(Box::new(SessionReport {
                reads_from: LogIndex(7),
                reading: vec![chunk().blob],
                next: BlobSequence(9),
                writing: vec![BlobSequence(4), BlobSequence(8)],
                map: MapEpoch(1),
            }))),
        ),
        (4, answer(Ok(Answer::Applied(Outcome::Rejected(Rejection::PreconditionFailed))))),
        (4, answer(Ok(Answer::Read(ReadReply::NoSuchBucket)))),
        (4, answer(Ok(Answer::Beat { live: true, map: MapEpoch(1), applied: LogIndex(7) }))),
        (4, answer(Err(Refusal::NotLeader { leader: Some(StoreId(2)) }))),
        (
            5,
            Message::ChunkWrite(ChunkWrite {
                call: CallId(1),
                chunk: chunk(),
                owner: target(),
                epoch: MapEpoch(1),
                block_size: 4096,
                data: Bytes::from(vec![7; 5000]),
                checksums: vec![Checksum(1), Checksum(2)],
            }),
        ),
        (
            6,
            Message::ChunkWritten(ChunkWritten::refused(
                CallId(1),
                chunk(),
                StoreId(2),
                ChunkError::Full,
            )),
        ),
        (
            7,
            Message::ChunkRead(ChunkRead {
                call: CallId(1),
                session,
                chunk: chunk(),
                first_block: 1,
                blocks: 3,
            }),
        ),
        (
            8,
            Message::ChunkData(ChunkData {
                call: CallId(1),
                chunk: chunk(),
                store: StoreId(2),
                result: Ok((Bytes::from(vec![9; 100]), vec![Checksum(3)])),
            }),
        ),
        (20, snapshot_ask(SnapshotWant::State { at_least: LogIndex(5) })),
        (
            20,
            snapshot_ask(SnapshotWant::Pages {
                snapshot: SNAPSHOT,
                newer_than: LogIndex(5),
                page: 6,
                from: Bytes::from_static(b"from"),
                window: 4,
                again: true,
            }),
        ),
        (20, snapshot_ask(SnapshotWant::Nothing { snapshot: SNAPSHOT })),
        (
            21,
            snapshot_page(SnapshotGiven::Rows {
                snapshot: SNAPSHOT,
                page: 6,
                from: Bytes::from_static(b"from"),
                to: Some(Bytes::from_static(b"to")),
                checksum: Checksum(9),
                rows: Bytes::from_static(b"rows"),
            }),
        ),
        (9, Message::Ping(pulse(None))),
        (10, Message::Pong(pulse(Some(Duration::from_micros(700))))),
    ]
    .into_iter()
    .chain(repair_samples())
    .collect()
}

/// Of the messages about directory, repair and inventories.
fn repair_samples() -> Vec<(u8, Message)> {
    let (call, chunk, store) = (CallId(1), chunk(), StoreId(2));
    let ask = ChunkAsk { call, chunk };
    let slot = |store| vec![Slot { store: StoreId(store), weight: 1 }];
    let zone = |zone: u8| ZoneMap { zone: ZoneId(zone), slots: slot(u64::from(zone)) };
    let former = Layout { epoch: MapEpoch(3), zone: zone(1) };
    let map = ClusterMap::bootstrap(64, (0..3).map(zone).collect());
    let directory = Directory {
        version: LogIndex(77),
        map: ClusterMap { epoch: MapEpoch(4), unproven: vec![former], ..map },
        sessions: SessionsView {
            floor: SessionId(2),
            next: SessionId(9),
            live: vec![SessionId(5)],
        },
    };
    let copy = ChunkCopy {
        owner: target(),
        epoch: MapEpoch(1),
        block_size: 4096,
        data: Bytes::from(vec![7; 5000]),
        checksums: vec![Checksum(1), Checksum(2)],
    };
    let pulled = |result| {
        let directory = LogIndex(9);
        Message::ChunkPulled(ChunkPulled { call, chunk, store, directory, result })
    };
    let checked = |result| Message::ChunkChecked(ChunkChecked { call, chunk, store, result });
    let answer =
        |result| Message::InventoryAnswer(InventoryAnswer { call, epoch: MapEpoch(4), result });
    let to = chunk.successor();
    vec![
        (11, Message::DirectoryAsk { have: LogIndex(5) }),
        (27, Message::MapProven { epoch: MapEpoch(3) }),
        (12, Message::DirectoryAnswer(Some(Box::new(directory)))),
        (12, Message::DirectoryAnswer(None)),
        (13, Message::ChunkPull(ask.clone())),
        (14, pulled(Ok(copy))),
        (
            15,
            Message::ChunkRepair(ChunkRepair {
                call,
                chunk,
                existed: true,
                sources: vec![store, StoreId(3)],
            }),
        ),
        (16, Message::ChunkCheck(ask)),
        (17, checked(Ok(ChunkSummary { length: 5000, digest: Checksum(8) }))),
        (17, checked(Err(ChunkError::Damaged))),
        (
            18,
            Message::InventoryAsk(InventoryAsk {
                call,
                epoch: MapEpoch(4),
                from: ChunkId::default(),
                to,
                count: 12,
                digest: InventoryDigest(1 << 100),
            }),
        ),
        (19, answer(InventoryResult::Same)),
        (19, answer(InventoryResult::Differs { to, chunks: vec![chunk] })),
        (19, answer(InventoryResult::NotNow)),
    ]
    .into_iter()
    .chain(reclaim_samples())
    .collect()
}

/// Of the messages about blobs that may be freed.
fn reclaim_samples() -> Vec<(u8, Message)> {
    let (call, blob, directory) = (CallId(1), chunk().blob, LogIndex(77));
    let owned = || vec![OwnedBlob { blob, owner: target() }];
    let answer = |result| Message::BlobAnswer(BlobAnswer { call, result });
    let verdicts = vec![BlobVerdict::Live, BlobVerdict::Open, BlobVerdict::Dead, BlobVerdict::Gone];
    vec![
        (22, Message::BlobAsk(BlobAsk { call, blobs: owned() })),
        (23, answer(Ok(BlobVerdicts { directory, settled: MapEpoch(3), verdicts }))),
        (23, answer(Err(Some(StoreId(2))))),
        (24, Message::BlobFree(BlobFree { call, directory, blobs: vec![blob] })),
        (25, Message::BlobFreed(BlobFreed { call, blobs: vec![blob] })),
        (26, Message::BlobsLeft(owned())),
    ]
}

pub(crate) const SNAPSHOT: SnapshotId =
    SnapshotId { store: StoreId(3), incarnation: Incarnation(4), number: 5 };

fn snapshot_ask(want: SnapshotWant) -> Message {
    Message::SnapshotAsk(SnapshotAsk { range: RangeId(1), want })
}

pub(crate) fn snapshot_page(given: SnapshotGiven) -> Message {
    Message::SnapshotPage(SnapshotPage { range: RangeId(1), given })
}
