//! Frames: `docs/protocol.md` tells the truth, every message survives the trip, and no mutated frame
//! does more than give an error.

use bytes::Bytes;
use trine_core::cluster::{ClusterMap, Slot, ZoneMap};
use trine_core::codec::Wire;
use trine_core::consensus::{Entry, EntryKind, Message as Raft, MessageBody};
use trine_core::directory::{Directory, SessionsView};
use trine_core::hash::{Checksum, StateHash};
use trine_core::ids::{
    BlobId, BlobSequence, BucketId, CallId, ChunkId, ClusterId, CommitSequence, DiskBirth,
    Endpoint, GatewayId, Incarnation, LogIndex, MapEpoch, RangeEpoch, RangeId, SessionId, StoreId,
    TenantId, Term, ZoneId,
};
use trine_core::message::{
    Answer, Ask, Beginning, ChunkAsk, ChunkChecked, ChunkCopy, ChunkData, ChunkError, ChunkPulled,
    ChunkRead, ChunkRepair, ChunkSummary, ChunkWrite, ChunkWritten, Envelope, Hello,
    InventoryAnswer, InventoryAsk, InventoryDigest, InventoryResult, Message, Pulse, RangeAnswer,
    RangeCall, Refusal, SnapshotAsk, SnapshotGiven, SnapshotId, SnapshotOffer, SnapshotPage,
    SnapshotRow, SnapshotWant, StoreMark, Vitals,
};
use trine_core::object::{BucketName, ObjectKey, Target, WriteConditions};
use trine_core::range::command::{
    Command, CommandBody, Origin, Outcome, Read, ReadReply, Rejection, ScanRequest, ScanStart,
};
use trine_core::rng::Rng;
use trine_core::time::{Duration, Instant, WallTime};
use trine_core::wire::{PREFIX_BYTES, Prefix, decode, encode};

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
fn samples() -> Vec<(u8, Message)> {
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
                protocol: 1,
                life: StoreMark { incarnation: Incarnation(6), nonce: 99, synced: 8192 },
                began: 4096,
                doubted: Incarnation(2),
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
        (3, call(Ask::Beat)),
        (4, answer(Ok(Answer::Applied(Outcome::Rejected(Rejection::PreconditionFailed))))),
        (4, answer(Ok(Answer::Read(ReadReply::NoSuchBucket)))),
        (4, answer(Ok(Answer::Beat { live: true, map: MapEpoch(1) }))),
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
    let directory = Directory {
        version: LogIndex(77),
        map: ClusterMap::bootstrap(64, (0..3).map(zone).collect()),
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
    let pulled = |result| Message::ChunkPulled(ChunkPulled { call, chunk, store, result });
    let checked = |result| Message::ChunkChecked(ChunkChecked { call, chunk, store, result });
    let answer =
        |result| Message::InventoryAnswer(InventoryAnswer { call, epoch: MapEpoch(4), result });
    let to = chunk.successor();
    vec![
        (11, Message::DirectoryAsk { have: LogIndex(5) }),
        (12, Message::DirectoryAnswer(Some(Box::new(directory)))),
        (12, Message::DirectoryAnswer(None)),
        (13, Message::ChunkPull(ask.clone())),
        (14, pulled(Ok(copy))),
        (15, Message::ChunkRepair(ChunkRepair { call, chunk, sources: vec![store, StoreId(3)] })),
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
}

const SNAPSHOT: SnapshotId =
    SnapshotId { store: StoreId(3), incarnation: Incarnation(4), number: 5 };

fn snapshot_ask(want: SnapshotWant) -> Message {
    Message::SnapshotAsk(SnapshotAsk { range: RangeId(1), want })
}

fn snapshot_page(given: SnapshotGiven) -> Message {
    Message::SnapshotPage(SnapshotPage { range: RangeId(1), given })
}

#[test]
fn pages_without_rows_survive_the_trip_and_rows_are_read_back() {
    let offer = SnapshotOffer { snapshot: SNAPSHOT, hash: StateHash(77), bare: LogIndex(6) };
    assert_eq!(SnapshotOffer::from_bytes(&offer.to_bytes()), Ok(offer.clone()));
    let (index, term) = (LogIndex(8), Term(2));
    let state = SnapshotGiven::State { index, term, membership: Bytes::from_static(b"m"), offer };
    let last = SnapshotGiven::Rows {
        snapshot: SNAPSHOT,
        page: 7,
        from: Bytes::new(),
        to: None,
        checksum: Checksum(1),
        rows: Bytes::from_static(b"rows"),
    };
    for given in [state, last, SnapshotGiven::Gone { snapshot: SNAPSHOT }] {
        let message = snapshot_page(given);
        let frame = encode(&envelope(message.clone()));
        let (prefix, header) = (frame.head.slice(..PREFIX_BYTES), frame.head.slice(PREFIX_BYTES..));
        assert_eq!(decode(&prefix, &header, frame.bulk).expect("our own").message, message);
    }
    for value in [None, Some(Bytes::from_static(b"value"))] {
        let row = SnapshotRow { key: Bytes::from_static(b"key"), index, value };
        assert_eq!(SnapshotRow::from_bytes(&row.to_bytes()), Ok(row));
    }
}

fn envelope(message: Message) -> Envelope {
    let (from, to) = (Endpoint::Store(StoreId(1)), Endpoint::Gateway(GatewayId(2)));
    Envelope { from, to, message }
}

#[test]
fn every_message_survives_the_trip() {
    for (_, message) in samples() {
        let frame = encode(&envelope(message.clone()));
        let prefix = frame.head.slice(..PREFIX_BYTES);
        let lengths = Prefix::parse(&prefix).expect("our own prefix");
        assert_eq!(lengths.header_len, frame.head.len() - PREFIX_BYTES);
        assert_eq!(lengths.bulk_len, frame.bulk.len());
        let back = decode(&prefix, &frame.head.slice(PREFIX_BYTES..), frame.bulk)
            .expect("our own frame can be read");
        assert_eq!(back.message, message);
        assert_eq!((back.from, back.to), (envelope(message).from, Endpoint::Gateway(GatewayId(2))));
    }
}

#[test]
fn a_flipped_bit_in_prefix_or_header_is_noticed() {
    for (_, message) in samples() {
        let frame = encode(&envelope(message));
        for bit in 0..frame.head.len() * 8 {
            let mut head = frame.head.to_vec();
            head[bit / 8] ^= 1 << (bit % 8);
            let head = Bytes::from(head);
            let (prefix, header) = (head.slice(..PREFIX_BYTES), head.slice(PREFIX_BYTES..));
            assert!(decode(&prefix, &header, frame.bulk.clone()).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn a_hundred_thousand_mutated_frames_never_panic() {
    let frames: Vec<_> = samples().into_iter().map(|(_, m)| encode(&envelope(m))).collect();
    let mut rng = Rng::new(0x5eed);
    let mut accepted = 0;
    for _ in 0..100_000 {
        let frame = &frames[pick(&mut rng, frames.len())];
        let mut head = frame.head.to_vec();
        for _ in 0..=pick(&mut rng, 4) {
            let at = pick(&mut rng, head.len());
            match pick(&mut rng, 4) {
                0 => head[at] = rng.next_u64().to_le_bytes()[0],
                1 => head[at] ^= 1 << pick(&mut rng, 8),
                2 => head.truncate(at.max(PREFIX_BYTES)),
                _ => head.insert(at, rng.next_u64().to_le_bytes()[0]),
            }
        }
        // With the checksum and length made right, so that the mutation reaches what lies behind.
        if rng.chance(3, 4) {
            let len = u32::try_from(head.len() - PREFIX_BYTES).expect("a small frame");
            head[4..8].copy_from_slice(&len.to_le_bytes());
            let mut crc = crc32fast::Hasher::new();
            crc.update(&head[..12]);
            crc.update(&head[PREFIX_BYTES..]);
            head[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
        }
        let head = Bytes::from(head);
        let (prefix, header) = (head.slice(..PREFIX_BYTES), head.slice(PREFIX_BYTES..));
        accepted += u32::from(decode(&prefix, &header, frame.bulk.clone()).is_ok());
    }
    assert!(accepted > 100, "some mutations only change a value: {accepted}");
}

fn pick(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).expect("below a usize")
}

#[test]
fn the_document_tells_the_truth() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    let text = std::fs::read_to_string(path).expect("docs/protocol.md can be read");
    // What follows is the transport's, and a test there holds it.
    let (text, _) = text.split_once("## Links").expect("a section on links");
    let rows = |columns: usize| {
        let split = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).map(split).collect();
        rows.into_iter().filter(move |row| row.len() == columns).collect::<Vec<_>>()
    };
    // The prefix: each field begins where the one before ends.
    let mut at = 0;
    for row in rows(3).iter().filter(|row| row[0].parse::<usize>().is_ok()) {
        assert_eq!(row[0], at.to_string(), "{row:?}");
        at += row[1].parse::<usize>().unwrap_or(0);
    }
    assert_eq!(at, PREFIX_BYTES);
    for limit in [trine_core::wire::HEADER_BYTES_MAX, trine_core::wire::BULK_BYTES_MAX] {
        let digits = limit.to_string();
        let (millions, rest) = digits.split_at(digits.len() - 6);
        let written = format!("{millions},{},{}", &rest[..3], &rest[3..]);
        assert!(text.contains(&written), "{written}");
    }
    // The kinds: number and name of each message.
    let kinds = rows(4);
    for (kind, message) in samples() {
        let frame = encode(&envelope(message.clone()));
        assert_eq!(frame.head[1], kind);
        let row = kinds.iter().find(|row| row[0] == kind.to_string()).expect("a row");
        let name = format!("{message:?}");
        assert!(name.starts_with(&row[1]), "{name} is not {}", row[1]);
        assert_eq!(frame.bulk.is_empty(), row[3].is_empty(), "{row:?}");
    }
}
