//! Frames: `docs/protocol.md` tells the truth, every message survives the trip, and no mutated frame
//! does more than give an error.

mod samples;

use bytes::Bytes;
use trine_core::codec::Wire;
use trine_core::hash::{Checksum, StateHash};
use trine_core::ids::{Endpoint, GatewayId, LogIndex, StoreId, Term};
use trine_core::message::{Envelope, Message, SnapshotGiven, SnapshotOffer, SnapshotRow};
use trine_core::rng::Rng;
use trine_core::wire::{PREFIX_BYTES, Prefix, decode, encode};

use samples::{SNAPSHOT, samples, snapshot_page};

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
