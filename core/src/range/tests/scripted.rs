//! Single circumstances, written out.

use super::support::*;
use crate::cluster::{ClusterMap, Layout, NODE_TEXT_MAX, Node, Slot, WEIGHT_MAX};
use crate::ids::*;
use crate::object::*;
use crate::range::command::*;
use crate::range::keys::{self, Key};
use crate::range::{COMPLETED_KEPT_MILLIS, LIVE_SESSIONS_MAX, OUTCOMES_PER_SESSION_MAX};
use crate::request::ListEntry;

const fn rejected(rejection: Rejection) -> Outcome {
    Outcome::Rejected(rejection)
}

fn with_bucket() -> Replica {
    let mut replica = Replica::new(0, 0);
    for gateway in 1..=2 {
        replica.system(CommandBody::OpenSession { gateway: GatewayId(gateway), nonce: 1 });
    }
    assert_eq!(replica.system(create_bucket("bucket", "alice")), Outcome::Done);
    replica
}

fn begin(replica: &mut Replica, key: &str) -> Order {
    match replica.system(create_upload(1, key)) {
        Outcome::Upload(order) => order,
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn retried_command_has_the_first_outcome_and_no_second_effect() {
    let mut replica = with_bucket();
    let first = replica.session(1, 1, 1, put(1, "k", 1));
    replica.session(2, 1, 1, put(1, "k", 2));
    assert_eq!(replica.session(1, 1, 1, put(1, "k", 1)), first);
    let read = Read::Object { target: target(1, "k"), with_body: false };
    let ReadReply::Object(Some((record, _))) = replica.read(&read) else { panic!() };
    assert_eq!(record.etag, etag(2));
    assert_eq!(replica.range.outcome_of(SessionId(1), CommitSequence(1)), Some(&first));
}

#[test]
fn command_below_the_watermark_is_refused() {
    let mut replica = with_bucket();
    replica.session(1, 1, 1, put(1, "k", 1));
    replica.session(1, 2, 2, put(1, "k", 2));
    assert_eq!(replica.session(1, 1, 1, put(1, "k", 1)), rejected(Rejection::Answered));
    assert_eq!(replica.range.outcome_of(SessionId(1), CommitSequence(1)), None);
}

#[test]
fn opening_a_session_fences_the_older_one_of_the_same_gateway() {
    let mut replica = with_bucket();
    let open = CommandBody::OpenSession { gateway: GatewayId(1), nonce: 2 };
    let opened = replica.system(open.clone());
    assert_eq!(opened, Outcome::SessionOpened(SessionId(3)));
    assert_eq!(replica.system(open), opened);
    assert_eq!(replica.session(1, 1, 1, put(1, "k", 1)), rejected(Rejection::Fenced));
    assert_eq!(replica.session(9, 1, 1, put(1, "k", 1)), rejected(Rejection::Fenced));
    assert!(replica.range.session_live(SessionId(2)));
    assert!(!replica.range.session_live(SessionId(1)));
}

#[test]
fn slot_of_a_fenced_session_is_deleted_at_the_next_freeze() {
    let mut replica = with_bucket();
    replica.reload();
    replica.system(CommandBody::FenceSession { session: SessionId(2) });
    replica.reload();
    let sessions = |key: &Key| matches!(key, Key::Session { .. });
    assert_eq!(replica.keys().into_iter().filter(sessions).count(), 1);
    assert_eq!(replica.range.live_sessions().count(), 1);
}

#[test]
fn sessions_and_outcomes_are_bounded() {
    let mut replica = with_bucket();
    for gateway in 3..=LIVE_SESSIONS_MAX as u64 {
        replica.system(CommandBody::OpenSession { gateway: GatewayId(gateway), nonce: 1 });
    }
    let open = CommandBody::OpenSession { gateway: GatewayId(1000), nonce: 1 };
    assert_eq!(replica.system(open), rejected(Rejection::Malformed));
    let open = CommandBody::OpenSession { gateway: GatewayId(1), nonce: 2 };
    assert!(matches!(replica.system(open), Outcome::SessionOpened(_)));
    let ahead = OUTCOMES_PER_SESSION_MAX as u64;
    let last = replica.session(2, ahead, 1, put(1, "k", 1));
    assert!(matches!(last, Outcome::Put { .. }));
    let beyond = replica.session(2, ahead + 1, 1, put(1, "k", 1));
    assert_eq!(beyond, rejected(Rejection::Malformed));
}

#[test]
fn bucket_made_anew_has_another_id_and_the_old_id_is_refused() {
    let mut replica = with_bucket();
    assert_eq!(
        replica.system(create_bucket("bucket", "alice")),
        rejected(Rejection::BucketAlreadyOwnedByYou)
    );
    assert_eq!(
        replica.system(create_bucket("bucket", "bob")),
        rejected(Rejection::BucketAlreadyExists)
    );
    replica.system(put_blob(1, "k", 1, blob(1, 9)));
    assert_eq!(replica.system(delete_bucket("bucket")), rejected(Rejection::BucketNotEmpty));
    replica.system(delete(1, "k"));
    let upload = begin(&mut replica, "k");
    assert_eq!(replica.system(delete_bucket("bucket")), rejected(Rejection::BucketNotEmpty));
    replica.system(CommandBody::AbortUpload { target: target(1, "k"), upload });
    // The garbage of the deleted object does not keep the bucket.
    assert_eq!(replica.system(delete_bucket("bucket")), Outcome::Done);
    replica.system(create_bucket("bucket", "alice"));
    assert_eq!(replica.system(put(1, "k", 1)), rejected(Rejection::NoSuchBucket));
    assert!(matches!(replica.system(put(2, "k", 1)), Outcome::Put { .. }));
}

#[test]
fn blob_placed_below_the_epoch_floor_is_refused() {
    let mut replica = with_bucket();
    replica.range.header.epoch_floor = MapEpoch(2);
    let outcome = replica.system(put_blob(1, "k", 1, blob(1, 9)));
    assert_eq!(outcome, rejected(Rejection::StaleEpoch));
    let verified = BlobRef { epoch: MapEpoch(2), ..blob(1, 9) };
    assert!(matches!(replica.system(put_blob(1, "k", 1, verified)), Outcome::Put { .. }));
}

#[test]
fn malformed_commands_are_refused() {
    let mut replica = with_bucket();
    let upload = begin(&mut replica, "k");
    let no_stores = BlobRef { stores: Vec::new(), ..blob(1, 9) };
    let bodies = [
        put_part(1, "k", upload, 0, 1, None),
        put_part(1, "k", upload, PARTS_MAX + 1, 1, None),
        put_blob(1, "k", 1, no_stores),
        put_blob(1, "k", 1, blob(1, 0)),
        complete(1, "k", upload, Vec::new()),
        complete(1, "k", upload, vec![(1, etag(1)); 10_001]),
    ];
    for body in bodies {
        assert_eq!(replica.system(body), rejected(Rejection::Malformed));
    }
}

#[test]
fn object_of_parts_has_a_checksum_if_all_parts_have_the_one_that_was_chosen() {
    let sum = |value: &'static [u8]| ObjectChecksum {
        algorithm: ChecksumAlgorithm::Crc32,
        full_object: true,
        value: bytes::Bytes::from_static(value),
    };
    // CRC-32 of five times 2^20 zeros (twice), and of "123456789".
    let zeros = crc32fast::hash(&vec![0; 5 << 20]).to_be_bytes();
    let zeros = ObjectChecksum { value: zeros.to_vec().into(), ..sum(b"") };
    let nine = sum(b"\xcb\xf4\x39\x26");
    let whole = [vec![0; 10 << 20], b"123456789".to_vec()].concat();
    let values = [&zeros.value[..], &zeros.value[..], &nine.value[..]].concat();
    let full = Some((true, crc32fast::hash(&whole)));
    let composite = Some((false, crc32fast::hash(&values)));
    let chosen = |full_object| Some((ChecksumAlgorithm::Crc32, full_object));
    for (at, (choice, last, expected)) in [
        (chosen(true), Some(nine.clone()), full),
        (chosen(false), Some(nine.clone()), composite),
        (chosen(true), None, None),
        (Some((ChecksumAlgorithm::Crc32c, true)), Some(nine.clone()), None),
        (None, Some(nine.clone()), None),
    ]
    .into_iter()
    .enumerate()
    {
        let mut replica = with_bucket();
        let mut body = create_upload(1, "k");
        if let CommandBody::CreateUpload { checksum, .. } = &mut body {
            *checksum = choice;
        }
        let Outcome::Upload(upload) = replica.system(body) else { panic!() };
        let parts = [(5 << 20, Some(zeros.clone())), (5 << 20, Some(zeros.clone())), (9, last)];
        for (number, (length, checksum)) in (1..).zip(parts) {
            let blob = blob(u64::from(number), length);
            let mut body = put_part(1, "k", upload, number, 1, Some(blob));
            if let CommandBody::PutPart { part, .. } = &mut body {
                part.checksum = checksum;
            }
            replica.system(body);
        }
        let parts = (1..=3).map(|number| (number, etag(1))).collect();
        let outcome = replica.system(complete(1, "k", upload, parts));
        let expected = expected.map(|(full_object, value)| ObjectChecksum {
            full_object,
            value: value.to_be_bytes().to_vec().into(),
            ..sum(b"")
        });
        let Outcome::Put { checksum, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(checksum, expected, "{at}");
        let read = Read::Object { target: target(1, "k"), with_body: false };
        let ReadReply::Object(Some((record, _))) = replica.read(&read) else { panic!() };
        assert_eq!(record.checksum, expected, "{at}");
    }
}

#[test]
fn object_of_many_parts_is_read_whole_and_leaves_garbage_when_deleted() {
    let mut replica = with_bucket();
    let upload = begin(&mut replica, "k");
    let numbers: Vec<u16> = (1..=40).collect();
    for number in &numbers {
        let blob = blob(u64::from(*number), PART_BYTES_MIN);
        replica.system(put_part(1, "k", upload, *number, 1, Some(blob)));
    }
    let parts = numbers.iter().map(|number| (*number, etag(1))).collect();
    let body = complete(1, "k", upload, parts);
    let outcome = replica.system(body.clone());
    assert_eq!(replica.system(body), outcome, "asked again, it answers the same");
    let read = Read::Object { target: target(1, "k"), with_body: true };
    let ReadReply::Object(Some((record, None))) = replica.read(&read) else { panic!() };
    let Body::Blobs(parts) = &record.body else { panic!() };
    assert_eq!(parts.iter().map(|part| part.number).collect::<Vec<_>>(), numbers);
    assert_eq!(record.length, 40 * PART_BYTES_MIN);
    replica.system(delete(1, "k"));
    let garbage = |key: &Key| matches!(key, Key::Garbage { .. });
    assert_eq!(replica.keys().into_iter().filter(garbage).count(), 40);
    assert!(replica.rows.map.range(keys::objects(TenantId(0), BucketId(1)).start..).all(
        |(key, _)| matches!(Key::decode(key), Ok(Key::Garbage { .. } | Key::Completed { .. }))
    ));
}

/// What is said of a version changes, and its bytes and references do not, wherever they are kept.
#[test]
fn a_version_that_is_changed_keeps_its_bytes_and_the_references_to_them() {
    let garbage = |key: &Key| matches!(key, Key::Garbage { .. });
    let found = |replica: &mut Replica| {
        let read = Read::Object { target: target(1, "k"), with_body: true };
        let ReadReply::Object(Some(found)) = replica.read(&read) else { panic!() };
        found
    };
    // Inline; one blob; a list of parts in a row of its own.
    for parts in [0, 1, 40_u16] {
        let mut replica = with_bucket();
        match parts {
            0 => drop(replica.system(put(1, "k", 1))),
            1 => drop(replica.system(put_blob(1, "k", 1, blob(1, 9)))),
            _ => {
                let upload = begin(&mut replica, "k");
                for number in 1..=parts {
                    let blob = blob(u64::from(number), PART_BYTES_MIN);
                    replica.system(put_part(1, "k", upload, number, 1, Some(blob)));
                }
                let asked = (1..=parts).map(|number| (number, etag(1))).collect();
                replica.system(complete(1, "k", upload, asked));
            }
        }
        let (before, inline) = found(&mut replica);
        let rows = replica.keys().len();
        let other = Order { position: 9, ..before.order };
        let outcome = replica.system(change(1, "k", other, 1));
        assert_eq!(outcome, rejected(Rejection::OtherVersion));
        assert_eq!(found(&mut replica), (before.clone(), inline.clone()));
        let outcome = replica.system(change(1, "k", before.order, 1));
        let (after, bytes) = found(&mut replica);
        let (etag, modified) = (before.etag, after.modified);
        assert_eq!(outcome, Outcome::Copied { etag, checksum: None, modified });
        assert!(after.order > before.order);
        assert_eq!((&after.body, &bytes, after.length), (&before.body, &inline, before.length));
        assert_eq!(after.owner, owner("bob"));
        assert_eq!(after.attributes.content_type.as_deref(), Some("text/html"));
        assert_eq!(after.tags, [("0".to_owned(), String::new())]);
        assert_eq!(replica.keys().len(), rows, "no row is left behind");
        assert_eq!(replica.keys().into_iter().filter(garbage).count(), 0);
        replica.system(delete(1, "k"));
        let dead = replica.keys().into_iter().filter(garbage).count();
        assert_eq!(dead, usize::from(parts), "each blob dies once");
        assert_eq!(
            replica.system(change(1, "k", after.order, 1)),
            rejected(Rejection::OtherVersion)
        );
    }
}

#[test]
fn list_passes_a_common_prefix_with_thousands_of_keys_in_one_call() {
    let mut replica = with_bucket();
    let command = |key: &str| Command { origin: Origin::System, body: put(1, key, 1) };
    let mut commands: Vec<_> = (0..3000).map(|number| command(&format!("many/{number}"))).collect();
    commands.push(command("zero"));
    replica.apply(&batch(1, commands));
    let read = Read::Scan(scan(1, "", Some("/")));
    let ReadReply::Scan(Scanned { entries, next: None }) = replica.read(&read) else { panic!() };
    assert!(matches!(&entries[0], ListEntry::Prefix(prefix) if prefix == "many/"));
    assert!(matches!(&entries[1], ListEntry::Item(item) if item.key.as_str() == "zero"));
    assert_eq!(entries.len(), 2);
}

#[test]
fn scan_over_many_rows_that_give_nothing_stops_and_goes_on() {
    let mut replica = with_bucket();
    let command = |number| Command {
        origin: Origin::System,
        body: create_upload(1, &format!("a/{number:05}")),
    };
    for first in [0, 3000, 6000] {
        replica.apply(&batch(1, (first..first + 3000).map(command).collect()));
    }
    replica.system(put(1, "a/b", 1));
    let mut request = scan(1, "", Some("/"));
    let ReadReply::Scan(Scanned { entries, next: Some(next) }) =
        replica.read(&Read::Scan(request.clone()))
    else {
        panic!()
    };
    assert!(entries.is_empty());
    request.start = next;
    let ReadReply::Scan(Scanned { entries, next: None }) = replica.read(&Read::Scan(request))
    else {
        panic!()
    };
    assert!(matches!(&entries[..], [ListEntry::Prefix(prefix)] if prefix == "a/"));
}

/// Deleted objects leave rows that a listing has to pass: a call passes so many and no more, and
/// the next goes on behind them.
#[test]
fn listings_over_deleted_rows_are_cut_and_get_on() {
    let mut replica = with_bucket();
    let each = |body: &dyn Fn(u32) -> CommandBody| -> Vec<Command> {
        let command = |number| Command { origin: Origin::System, body: body(number) };
        (0..4000).map(command).collect()
    };
    for _ in 0..2 {
        replica.apply(&batch(1, each(&|number| put(1, &format!("k{number:05}"), 1))));
        replica.apply(&batch(2, each(&|number| delete(1, &format!("k{number:05}")))));
    }
    replica.system(put(1, "a", 1));
    replica.system(put(1, "z", 1));
    let upload = begin(&mut replica, "z");
    let mut calls = [0, 0];
    let (mut request, mut keys) = (scan(1, "", None), Vec::new());
    loop {
        calls[0] += 1;
        let reply = replica.read(&Read::Scan(request.clone()));
        let ReadReply::Scan(Scanned { entries, next }) = reply else { panic!() };
        keys.extend(entries.into_iter().map(|entry| match entry {
            ListEntry::Item(item) => item.key.as_str().to_owned(),
            ListEntry::Prefix(_) => panic!("there is no delimiter"),
        }));
        let Some(next) = next else { break };
        assert_ne!(next, request.start, "a scan gets on");
        request.start = next;
    }
    assert_eq!(keys, ["a", "z"]);
    let (mut request, mut found) = (scan(1, "", None), Vec::new());
    loop {
        calls[1] += 1;
        let reply = replica.read(&Read::Uploads { scan: request.clone(), upload_after: None });
        let ReadReply::Uploads(Scanned { entries, next }) = reply else { panic!() };
        found.extend(entries.into_iter().map(|entry| match entry {
            ListEntry::Item(item) => item.upload.order,
            ListEntry::Prefix(_) => panic!("there is no delimiter"),
        }));
        let Some(next) = next else { break };
        assert_ne!(next, request.start, "a scan gets on");
        request.start = next;
    }
    assert_eq!(found, [upload]);
    assert!(calls.iter().all(|calls| (2..6).contains(calls)), "{calls:?}");
}

/// All rows of one key are passed in one call: between them there is no place to go on from.
#[test]
fn a_key_with_more_deleted_rows_than_a_call_passes_does_not_stop_a_listing() {
    let mut replica = with_bucket();
    let command = |_| Command { origin: Origin::System, body: put(1, "k", 1) };
    for _ in 0..3 {
        replica.apply(&batch(1, (0..4000).map(command).collect()));
    }
    replica.system(delete(1, "k"));
    replica.system(put(1, "z", 1));
    for start in [ScanStart::First, ScanStart::AtKey("k".into())] {
        let (mut request, mut calls) = (ScanRequest { start, ..scan(1, "", None) }, 0);
        loop {
            calls += 1;
            let reply = replica.read(&Read::Scan(request.clone()));
            let ReadReply::Scan(Scanned { entries, next }) = reply else { panic!() };
            let Some(next) = next else {
                assert!(
                    matches!(&entries[..], [ListEntry::Item(item)] if item.key.as_str() == "z")
                );
                break;
            };
            assert_ne!(next, request.start, "a scan gets on");
            request.start = next;
        }
        assert!(calls < 4, "{calls}");
    }
}

#[test]
fn result_of_complete_is_said_again_for_a_day_of_the_range_clock() {
    let mut replica = with_bucket();
    let upload = begin(&mut replica, "k");
    replica.system(put_part(1, "k", upload, 1, 1, Some(blob(1, 9))));
    let again = |replica: &mut Replica, millis| {
        let body = complete(1, "k", upload, vec![(1, etag(1))]);
        let commands = vec![Command { origin: Origin::System, body }];
        replica.apply(&batch(millis, commands)).remove(0)
    };
    let first = again(&mut replica, 1000);
    assert!(matches!(first, Outcome::Put { .. }));
    assert_eq!(again(&mut replica, 1000 + COMPLETED_KEPT_MILLIS - 1), first);
    let later = again(&mut replica, 1000 + COMPLETED_KEPT_MILLIS);
    assert_eq!(later, rejected(Rejection::NoSuchUpload));
    assert!(!replica.keys().iter().any(|key| matches!(key, Key::Completed { .. })));
}

#[test]
fn cluster_is_founded_once_and_the_first_map_counts() {
    let mut replica = with_bucket();
    assert_eq!(replica.range.directory(), None);
    assert_eq!(replica.range.map_epoch(), MapEpoch(0));
    let no_voters = ClusterMap { voters: Vec::new(), ..first_map() };
    let twice = ClusterMap { voters: vec![StoreId(1), StoreId(2)], ..first_map() };
    let mut doubled = first_map();
    doubled.zones[1].slots[0] = doubled.zones[0].slots[0];
    let retired = ClusterMap { retired: vec![StoreId(4)], ..first_map() };
    for nonsense in [no_voters, twice, doubled, retired] {
        assert_eq!(replica.system(found(nonsense)), rejected(Rejection::Malformed));
    }
    assert_eq!(replica.system(replace(1, 7)), rejected(Rejection::NoSuchStore));
    assert_eq!(replica.system(found(first_map())), Outcome::Done);
    let first = replica.range.directory().unwrap();
    assert_eq!((first.version, &first.map), (replica.range.applied(), &first_map()));
    let other = ClusterMap { groups: 128, ..first_map() };
    assert_eq!(replica.system(found(other)), Outcome::Done);
    assert_eq!(replica.range.directory(), Some(first.clone()), "asked again, nothing changes");
    replica.reload();
    assert_eq!(replica.read(&Read::Directory), ReadReply::Directory(Some(Box::new(first))));
}

#[test]
fn replaced_store_hands_its_slot_and_its_vote_to_the_new_one_for_ever() {
    let mut replica = with_bucket();
    replica.system(found(first_map()));
    assert_eq!(replica.system(replace(3, 7)), Outcome::Done);
    let once = replica.range.directory().unwrap();
    assert_eq!(once.map.epoch, MapEpoch(2));
    assert_eq!(once.map.zones[1].slots[0].store, StoreId(7));
    assert_eq!(once.map.voters, [StoreId(1), StoreId(7), StoreId(5)]);
    assert_eq!(once.map.retired, [StoreId(3)]);
    assert_eq!(replica.system(replace(3, 7)), Outcome::Done, "asked again");
    assert_eq!(replica.range.directory(), Some(once));
    for (old, new, why) in [
        (3, 8, Rejection::StoreRetired),
        (9, 8, Rejection::NoSuchStore),
        (1, 2, Rejection::StoreInUse),
        (1, 1, Rejection::StoreInUse),
        (1, 3, Rejection::StoreRetired),
        (1, 0, Rejection::Malformed),
    ] {
        assert_eq!(replica.system(replace(old, new)), rejected(why), "{old} {new}");
    }
    // A store that is no voter: the voters stay. Then the second store of the same slot.
    assert_eq!(replica.system(replace(2, 8)), Outcome::Done);
    assert_eq!(replica.system(replace(7, 9)), Outcome::Done);
    replica.reload();
    let map = replica.range.map().unwrap();
    assert_eq!(map.voters, [StoreId(1), StoreId(9), StoreId(5)]);
    assert_eq!(map.retired, [StoreId(3), StoreId(2), StoreId(7)]);
    let stood = |id| first_map().zone_of(StoreId(id)).expect("it stood in the first map");
    assert_eq!(map.retired_zones, [stood(3), stood(2), stood(3)]);
    assert_eq!(map.zone_of(StoreId(7)), Some(stood(3)), "also of one that came later");
    assert_eq!(replica.range.status().epoch_floor, MapEpoch(4));
    // Each replacement is known by its own pair, also after the slot was filled again.
    assert_eq!(replica.system(replace(3, 7)), Outcome::Done);
}

#[test]
fn a_store_that_is_added_or_drained_leaves_the_former_layout_until_the_map_is_proven() {
    let mut replica = with_bucket();
    assert_eq!(replica.system(add(0, 7, 1)), rejected(Rejection::NoSuchZone), "no map yet");
    replica.system(found(first_map()));
    assert_eq!(replica.system(add(1, 7, 3)), Outcome::Done);
    let once = replica.range.directory().unwrap();
    assert_eq!((once.version, once.map.epoch), (replica.range.applied(), MapEpoch(2)));
    assert_eq!(replica.range.status().epoch_floor, MapEpoch(2));
    let added = Slot { store: StoreId(7), weight: 3 };
    assert_eq!(once.map.zones[1].slots.last(), Some(&added));
    assert_eq!(once.map.voters, first_map().voters);
    let of_first = |zone: usize| first_map().zones[zone].clone();
    assert_eq!(once.map.unproven, [Layout { epoch: MapEpoch(1), zone: of_first(1) }]);
    assert_eq!(replica.system(add(1, 7, 3)), Outcome::Done, "asked again");
    assert_eq!(replica.system(set_weight(7, 3)), Outcome::Done, "it has it");
    assert_eq!(replica.range.directory(), Some(once));
    assert_eq!(replica.system(set_weight(1, 0)), Outcome::Done);
    let map = replica.range.map().unwrap();
    assert_eq!(map.zones[0].slots[0], Slot { store: StoreId(1), weight: 0 });
    assert_eq!(map.unproven[1], Layout { epoch: MapEpoch(2), zone: of_first(0) });
    replica.system(replace(4, 8));
    for (body, why) in [
        (add(1, 0, 1), Rejection::Malformed),
        (add(1, 9, 0), Rejection::BadWeight),
        (add(1, 9, WEIGHT_MAX + 1), Rejection::BadWeight),
        (add(3, 9, 1), Rejection::NoSuchZone),
        (add(1, 7, 2), Rejection::StoreInUse),
        (add(2, 7, 3), Rejection::StoreInUse),
        (add(1, 4, 1), Rejection::StoreRetired),
        (set_weight(9, 1), Rejection::NoSuchStore),
        (set_weight(4, 1), Rejection::NoSuchStore),
        (set_weight(7, WEIGHT_MAX + 1), Rejection::BadWeight),
        (set_weight(2, 0), Rejection::LastOfZone),
        (prove(5), Rejection::Malformed),
    ] {
        assert_eq!(replica.system(body.clone()), rejected(why), "{body:?}");
    }
    // The one that was replaced is replaced in the former layout too.
    let map = replica.range.map().unwrap();
    assert_eq!(map.unproven[0].zone.slots[1].store, StoreId(8));
    // A proof of an epoch ends the layouts before it, and changes nothing else.
    let epochs = |replica: &Replica| -> Vec<u64> {
        replica.range.map().unwrap().unproven.iter().map(|layout| layout.epoch.0).collect()
    };
    let before = replica.range.directory_version();
    assert_eq!(replica.system(prove(1)), Outcome::Done);
    assert_eq!((epochs(&replica), replica.range.directory_version()), (vec![1, 2], before));
    assert_eq!(replica.system(prove(2)), Outcome::Done);
    assert_eq!(epochs(&replica), [2]);
    assert!(replica.range.directory_version() > before);
    replica.system(prove(4));
    replica.reload();
    assert_eq!((epochs(&replica), replica.range.map_epoch()), (vec![], MapEpoch(4)));
    assert_eq!(replica.range.status().epoch_floor, MapEpoch(4));
}

#[test]
fn the_vote_of_a_drained_store_goes_to_the_largest_of_its_zone() {
    let mut replica = with_bucket();
    replica.system(found(first_map()));
    replica.system(add(0, 7, 5));
    replica.system(add(0, 8, 2));
    let voters = |replica: &Replica| -> Vec<u64> {
        replica.range.map().unwrap().voters.iter().map(|store| store.0).collect()
    };
    assert_eq!(replica.system(set_weight(2, 0)), Outcome::Done);
    assert_eq!(voters(&replica), [1, 3, 5], "it has none to give");
    assert_eq!(replica.system(set_weight(1, 0)), Outcome::Done);
    assert_eq!(voters(&replica), [7, 3, 5]);
    replica.system(set_weight(1, 9));
    assert_eq!(voters(&replica), [7, 3, 5], "it does not come back by itself");
    replica.system(set_weight(7, 0));
    assert_eq!(voters(&replica), [1, 3, 5]);
    assert_eq!(replica.system(set_weight(3, 0)), Outcome::Done);
    assert_eq!(voters(&replica), [1, 4, 5]);
    assert_eq!(replica.system(set_weight(4, 0)), rejected(Rejection::LastOfZone));
    replica.reload();
    assert_eq!(voters(&replica), [1, 4, 5]);
}

#[test]
fn nodes_come_move_and_leave_once() {
    let mut replica = with_bucket();
    assert_eq!(replica.system(set_node(node(4, 0, "d"))), rejected(Rejection::NoSuchZone));
    replica.system(found(first_map()));
    assert_eq!(replica.system(set_node(node(4, 0, "d"))), Outcome::Done);
    let once = replica.range.directory().unwrap();
    assert_eq!((once.version, once.map.epoch), (replica.range.applied(), MapEpoch(1)));
    assert_eq!(once.map.nodes, [node(4, 0, "d")]);
    assert_eq!(replica.system(set_node(node(4, 0, "d"))), Outcome::Done, "asked again");
    assert_eq!(replica.range.directory(), Some(once));
    let moved = Node { peer: "127.0.0.1:1".to_owned(), ..node(4, 0, "d") };
    assert_eq!(replica.system(set_node(moved.clone())), Outcome::Done);
    assert_eq!(replica.system(set_node(node(2, 1, "b"))), Outcome::Done, "one of the first");
    let long = "x".repeat(NODE_TEXT_MAX + 1);
    for (node, why) in [
        (node(5, 0, "d"), Rejection::NodeInUse),
        (node(4, 1, "d"), Rejection::NodeInUse),
        (node(5, 3, "e"), Rejection::NoSuchZone),
        (node(0, 0, "e"), Rejection::Malformed),
        (node(5, 0, ""), Rejection::Malformed),
        (node(5, 0, &long), Rejection::Malformed),
        (Node { peer: long.clone(), ..node(5, 0, "e") }, Rejection::Malformed),
    ] {
        assert_eq!(replica.system(set_node(node.clone())), rejected(why), "{node:?}");
    }
    let gone = Node { left: true, ..moved.clone() };
    assert_eq!(replica.system(set_node(gone.clone())), Outcome::Done);
    assert_eq!(replica.system(set_node(gone.clone())), Outcome::Done, "asked again");
    assert_eq!(replica.system(set_node(moved)), rejected(Rejection::NodeInUse), "it never returns");
    assert_eq!(replica.system(set_node(node(5, 2, "d"))), Outcome::Done, "its name is free");
    replica.reload();
    let nodes = &replica.range.map().unwrap().nodes;
    assert_eq!(*nodes, [node(2, 1, "b"), gone, node(5, 2, "d")]);
}

#[test]
fn no_more_changes_than_a_map_can_remember_are_under_way() {
    let mut replica = with_bucket();
    replica.system(found(first_map()));
    for weight in 2..10 {
        assert_eq!(replica.system(set_weight(1, weight)), Outcome::Done);
    }
    assert_eq!(replica.system(set_weight(1, 10)), rejected(Rejection::Unproven));
    assert_eq!(replica.system(add(1, 7, 1)), rejected(Rejection::Unproven));
    assert_eq!(replica.system(set_weight(1, 9)), Outcome::Done, "that is so already");
    assert_eq!(replica.system(replace(1, 8)), Outcome::Done, "a dead store cannot wait");
    replica.system(prove(2));
    assert_eq!(replica.system(add(1, 7, 1)), Outcome::Done);
}

/// A commit that was under way while a store was replaced counted the dead store's copy.
#[test]
fn acknowledgements_of_a_retired_store_do_not_count() {
    let mut replica = with_bucket();
    replica.system(found(first_map()));
    let with = |epoch, stores: &[u64]| {
        let stores = stores.iter().copied().map(StoreId).collect();
        put_blob(1, "k", 1, BlobRef { epoch: MapEpoch(epoch), stores, ..blob(1, 9) })
    };
    let stale = rejected(Rejection::StaleEpoch);
    assert_eq!(replica.system(with(1, &[1, 2])), stale, "two stores of one zone");
    assert_eq!(replica.system(with(1, &[1, 40])), stale, "a store that nobody knows");
    assert!(matches!(replica.system(with(1, &[2, 3])), Outcome::Put { .. }));
    replica.system(replace(3, 7));
    assert_eq!(replica.system(with(1, &[1, 5])), stale, "placed under the old map");
    assert_eq!(replica.system(with(2, &[1, 3])), stale, "the retired one's word");
    assert!(matches!(replica.system(with(2, &[1, 3, 5])), Outcome::Put { .. }));
    let upload = begin(&mut replica, "k");
    let part = BlobRef { blob: blob(2, 9).blob, ..blob(1, 9) };
    assert_eq!(replica.system(put_part(1, "k", upload, 1, 1, Some(part))), stale);
}

#[test]
fn directory_has_the_version_of_the_entry_that_last_changed_it() {
    let mut replica = with_bucket();
    replica.system(found(first_map()));
    let version = |replica: &Replica| replica.range.directory().unwrap().version;
    let founded = version(&replica);
    replica.system(put(1, "k", 1));
    replica.session(1, 1, 1, put(1, "k", 1));
    let known = CommandBody::OpenSession { gateway: GatewayId(2), nonce: 1 };
    replica.system(known);
    replica.system(CommandBody::FenceSession { session: SessionId(77) });
    assert_eq!(version(&replica), founded, "none of these changes map or sessions");
    replica.system(CommandBody::OpenSession { gateway: GatewayId(2), nonce: 2 });
    assert_eq!(version(&replica), replica.range.applied());
    replica.system(put(1, "k", 1));
    replica.system(CommandBody::FenceSession { session: SessionId(1) });
    assert_eq!(version(&replica), replica.range.applied());
    let sessions = replica.range.directory().unwrap().sessions;
    assert_eq!(sessions.live, [SessionId(3)]);
    assert_eq!((sessions.floor, sessions.next), (SessionId(3), SessionId(4)));
    replica.system(CommandBody::FenceSession { session: SessionId(3) });
    let sessions = replica.range.directory().unwrap().sessions;
    assert_eq!((sessions.floor, sessions.next), (SessionId(4), SessionId(4)));
}
