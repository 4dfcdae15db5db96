//! Bytes of greetings and link frames: there and back, mutated, and against the document.

use proptest::prelude::*;
use trine_core::wire::{self, Prefix};

use super::*;
use crate::transport::class::{Class, class_of, name_of};
use crate::transport::hello::{self, Greeting, LinkHello, Reason, Refusal};
use crate::transport::link_frame::{self, CallFailure, LinkFrame};

/// At least one message of each kind.
#[path = "../../../../core/tests/samples/mod.rs"]
#[allow(dead_code, reason = "core's tests use all of it")]
mod samples;

fn endpoint() -> impl Strategy<Value = Endpoint> {
    prop_oneof![any::<u64>().prop_map(store), any::<u64>().prop_map(gateway)]
}

fn greeting() -> impl Strategy<Value = Greeting> {
    let class = prop_oneof![Just(Class::Control), Just(Class::Bulk)];
    let who = (any::<u16>(), any::<u128>(), any::<u32>(), any::<u32>(), class);
    let rest = (any::<u64>(), any::<u64>(), prop::collection::vec(endpoint(), 0..20));
    let hello = (who, rest).prop_map(|(who, (life, number, endpoints))| {
        let (protocol, cluster, from, to, class) = who;
        let (from, to, cluster) = (NodeId(from), NodeId(to), ClusterId(cluster));
        Greeting::Hello(LinkHello { protocol, cluster, from, to, class, life, number, endpoints })
    });
    let reason = prop_oneof![
        Just(Reason::Malformed),
        Just(Reason::Protocol),
        Just(Reason::Cluster),
        Just(Reason::NotThisNode),
        Just(Reason::Stranger),
        Just(Reason::Stale)
    ];
    let refusal = (reason, "[ -~äöü]{0,200}")
        .prop_map(|(reason, text)| Greeting::Refusal(Refusal::new(reason, text)));
    prop_oneof![hello, refusal]
}

fn split(bytes: &Bytes) -> (Bytes, Bytes) {
    (bytes.slice(..hello::PREFIX_BYTES), bytes.slice(hello::PREFIX_BYTES..))
}

proptest! {
    #[test]
    fn a_greeting_survives_the_trip(greeting in greeting()) {
        let (prefix, body) = split(&greeting.encode());
        prop_assert_eq!(Greeting::body_len(&prefix), Ok(body.len()));
        prop_assert_eq!(Greeting::decode(&prefix, &body), Ok(greeting));
    }

    #[test]
    fn a_flipped_bit_in_a_greeting_is_noticed(greeting in greeting(), at in any::<prop::sample::Index>()) {
        let mut bytes = greeting.encode().to_vec();
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (prefix, body) = split(&Bytes::from(bytes));
        prop_assert!(Greeting::decode(&prefix, &body).is_err());
    }

    #[test]
    fn any_bytes_are_a_greeting_or_an_error(bytes in prop::collection::vec(any::<u8>(), 16..200), magic in any::<bool>()) {
        let mut bytes = bytes;
        if magic {
            bytes[..8].copy_from_slice(&hello::MAGIC);
            bytes[8] = hello::GREETING_VERSION;
        }
        let (prefix, body) = split(&Bytes::from(bytes));
        let _ = Greeting::body_len(&prefix);
        let _ = Greeting::decode(&prefix, &body);
    }

    /// Behind the checksum: what is wrong with the body is an error, and what is not says the same again.
    #[test]
    fn a_changed_greeting_with_a_right_checksum_is_a_greeting_or_an_error(
        greeting in greeting(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let mut bytes = greeting.encode().to_vec();
        for (at, value, how) in changes {
            let at = hello::PREFIX_BYTES + at.index(bytes.len() - hello::PREFIX_BYTES + 1);
            match how {
                0 if at < bytes.len() => bytes[at] ^= value,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, value),
                _ if at < bytes.len() => bytes[at] = 0xff,
                _ => {}
            }
        }
        let len = bytes.len() - hello::PREFIX_BYTES;
        bytes[10..12].copy_from_slice(&u16::try_from(len).unwrap().to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..12]);
        crc.update(&bytes[hello::PREFIX_BYTES..]);
        bytes[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
        let (prefix, body) = split(&Bytes::from(bytes));
        if let Ok(read) = Greeting::decode(&prefix, &body) {
            let (prefix, body) = split(&read.encode());
            prop_assert_eq!(Greeting::decode(&prefix, &body), Ok(read));
        }
    }

    #[test]
    fn what_is_read_as_a_link_frame_is_written_as_the_same_bytes(
        kind in link_frame::PING..=link_frame::ANSWER,
        bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..64),
    ) {
        if let Ok(frame) = LinkFrame::decode(kind, &Bytes::from(bytes.clone())) {
            prop_assert_eq!(&frame.encode().head[wire::PREFIX_BYTES..], &bytes[..]);
        }
    }

    #[test]
    fn any_bytes_are_a_link_frame_or_an_error(kind in 120_u8..140, bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = LinkFrame::decode(kind, &Bytes::from(bytes));
    }
}

fn link_frames() -> Vec<(u8, &'static str, LinkFrame)> {
    let body = Bytes::from_static(b"body");
    vec![
        (link_frame::PING, "Ping", LinkFrame::Ping(7)),
        (link_frame::PONG, "Pong", LinkFrame::Pong(8)),
        (link_frame::ENDPOINTS, "Endpoints", LinkFrame::Endpoints(vec![store(1), gateway(2)])),
        (link_frame::CALL, "Call", LinkFrame::Call { number: 1, body: body.clone() }),
        (link_frame::ANSWER, "Answer", LinkFrame::Answer { number: 1, result: Ok(body) }),
        (
            link_frame::ANSWER,
            "Answer",
            LinkFrame::Answer { number: 1, result: Err(CallFailure::Refused) },
        ),
        (
            link_frame::ANSWER,
            "Answer",
            LinkFrame::Answer { number: 2, result: Err(CallFailure::Overloaded) },
        ),
    ]
}

#[test]
fn link_frames_survive_the_trip() {
    for (kind, _, frame) in link_frames() {
        let bytes = frame.encode();
        assert!(bytes.bulk.is_empty());
        let prefix_bytes = bytes.head.slice(..wire::PREFIX_BYTES);
        let header = bytes.head.slice(wire::PREFIX_BYTES..);
        let prefix = Prefix::parse(&prefix_bytes).unwrap();
        assert_eq!((prefix.kind, prefix.header_len), (kind, header.len()));
        assert_eq!(wire::verify(&prefix_bytes, &header), Ok(()));
        assert_eq!(LinkFrame::decode(kind, &header), Ok(frame));
        // No message has such a kind.
        assert!(wire::decode(&prefix_bytes, &header, Bytes::new()).is_err());
    }
}

#[test]
fn a_refusals_text_is_cut_where_a_character_ends_and_breaks_no_line() {
    let text = format!("a\nb{}", "ä".repeat(400));
    let (prefix, body) = split(&Greeting::Refusal(Refusal::new(Reason::Stale, text)).encode());
    let Ok(Greeting::Refusal(refusal)) = Greeting::decode(&prefix, &body) else { panic!() };
    assert!(refusal.text.starts_with("a?bä") && refusal.text.ends_with('ä'));
    assert!(refusal.text.len() <= 512);
}

#[test]
fn the_document_tells_the_truth_about_links() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    let text = std::fs::read_to_string(path).expect("docs/protocol.md can be read");
    let (_, links) = text.split_once("## Links").expect("a section on links");
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows: Vec<Vec<String>> =
        links.lines().filter(|line| line.starts_with("| ")).map(cells).collect();
    let number = |cell: &String| cell.parse::<usize>().ok();
    // The greeting and the hello in it: each field begins where the one before ends.
    let field = |row: &&Vec<String>| {
        row.len() == 3 && number(&row[0]).is_some() && (row[1] == "…" || number(&row[1]).is_some())
    };
    let offsets: Vec<_> = rows.iter().filter(field).collect();
    let tables: Vec<_> = offsets.split(|row| row[1] == "…").filter(|it| !it.is_empty()).collect();
    assert_eq!(tables.len(), 2, "{tables:?}");
    let ends: Vec<usize> = tables
        .iter()
        .map(|table| {
            table.iter().fold(0, |at, row| {
                assert_eq!(row[0], at.to_string(), "{row:?}");
                at + number(&row[1]).expect("bytes of a field")
            })
        })
        .collect();
    let empty = LinkHello {
        protocol: LINK_PROTOCOL,
        cluster: CLUSTER,
        from: NodeId(1),
        to: NodeId(2),
        class: Class::Control,
        life: 3,
        number: 4,
        endpoints: vec![],
    };
    let bytes = Greeting::Hello(empty).encode();
    assert_eq!(ends, [hello::PREFIX_BYTES, bytes.len() - hello::PREFIX_BYTES]);
    let magic = std::str::from_utf8(&hello::MAGIC).unwrap();
    assert!(links.contains(&format!("`{magic}`")));
    for limit in [hello::BODY_BYTES_MAX, hello::ENDPOINTS_MAX, PEER_CALL_BYTES_MAX] {
        assert!(links.contains(&grouped(limit)), "{}", grouped(limit));
    }
    // The refusals.
    for (reason, name) in [
        (Reason::Malformed, "malformed"),
        (Reason::Protocol, "protocol"),
        (Reason::Cluster, "cluster"),
        (Reason::NotThisNode, "not this node"),
        (Reason::Stranger, "stranger"),
        (Reason::Stale, "stale"),
    ] {
        let said = format!("{} {name}", reason.number());
        assert!(links.contains(&said), "{said}");
    }
    // The link's own frames.
    for (kind, name, _) in link_frames() {
        assert!(kind >= wire::LINK_KIND_MIN);
        let row = rows.iter().find(|row| row[0] == kind.to_string());
        assert_eq!(row.expect("a row")[1], name);
    }
}

#[test]
fn the_document_names_the_messages_that_take_the_bulk_connection() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    let text = std::fs::read_to_string(path).expect("docs/protocol.md can be read");
    let (_, bulk) = text.split_once("\n- *bulk*: ").expect("what the bulk connection is for");
    let (bulk, _) = bulk.split_once(", which").expect("a list of messages");
    let bulk: BTreeSet<&str> =
        bulk.split([',', ' ']).filter(|it| !matches!(*it, "" | "and")).collect();
    let named = |message: &Message| name_of(message);
    let messages: Vec<Message> = samples::samples().into_iter().map(|(_, it)| it).collect();
    let taken = messages.iter().filter(|message| class_of(message) == Class::Bulk).map(named);
    assert_eq!(bulk, taken.collect());
    // All kinds of the table are among them, by the names that counters have.
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let names = rows.filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        (cells.len() == 4 && cells[0].parse::<u8>().is_ok()).then(|| cells[1])
    });
    assert_eq!(names.collect::<BTreeSet<_>>(), messages.iter().map(named).collect());
}

fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
