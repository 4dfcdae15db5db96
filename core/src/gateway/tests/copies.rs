//! Copies: whole, in parts, onto themselves; under faults, and while the source changes.

use bytes::Bytes;
use md5::{Digest, Md5};

use super::bytes;
use super::fake::*;
use crate::gateway::*;
use crate::ids::{MapEpoch, Order};
use crate::object::{
    Attributes, Body, ChecksumAlgorithm, ETag, ObjectChecksum, ObjectRecord, Owner as User,
    PartRef, TagMatch, WriteConditions,
};
use crate::request::{
    ApiError, BodyDigest, CopiedObject, CopyHash, CopyPurpose, CopyRequest, Copying,
    ReadConditions, Reply,
};
use crate::time::WallTime;

const CHUNK: usize = CUT.chunk as usize;
const INLINE: usize = CUT.inline_max as usize;

fn copied() -> CopiedObject {
    CopiedObject {
        owner: User::default(),
        attributes: None,
        website_redirect: None,
        tags: None,
        checksum: None,
        conditions: WriteConditions::default(),
    }
}

fn copy_as(from: &str, to: &str, object: CopiedObject) -> Request {
    Request::Copy(CopyRequest {
        source: path(from),
        source_conditions: ReadConditions::default(),
        path: path(to),
        purpose: CopyPurpose::Object(Box::new(object)),
    })
}

fn copy(from: &str, to: &str) -> Request {
    copy_as(from, to, copied())
}

fn copy_part(from: &str, upload: Order, number: u16, range: Option<(u64, u64)>) -> Request {
    Request::Copy(CopyRequest {
        source: path(from),
        source_conditions: ReadConditions::default(),
        path: path("copy"),
        purpose: CopyPurpose::Part { upload, number, range },
    })
}

/// Hash what has come, as the edge does: `most` bytes at a time.
fn hash(fake: &mut Fake, id: RequestId, taken: &mut usize, most: usize) {
    let seen = &fake.seen[&id];
    let asked = seen.copying.iter().find_map(|copying| match copying {
        Copying::Begun { length, hash: Some(hash) } => Some((*length, *hash)),
        _ => None,
    });
    let Some((length, CopyHash { checksum })) = asked else { return };
    let (body, done) = (seen.body.clone(), *taken as u64 == length);
    let len = (body.len() - *taken).min(most);
    if len > 0 {
        *taken += len;
        fake.event(GatewayEvent::BodyTaken { id, len: len as u64 });
    } else if done {
        *taken = usize::MAX;
        let md5 = Md5::digest(&body).into();
        // A checksum that stands for any.
        let value = Bytes::copy_from_slice(&Md5::digest(&body)[..4]);
        let checksum =
            checksum.map(|algorithm| ObjectChecksum { algorithm, full_object: true, value });
        fake.event(GatewayEvent::BodyEnd { id, digest: BodyDigest { md5, checksum } });
    } else {
        return;
    }
    fake.run();
}

/// Wait for the end of a copy, and hash if that is asked for.
fn finish(fake: &mut Fake, id: RequestId) -> Result<Reply, ApiError> {
    let mut taken = 0;
    for _ in 0..10_000 {
        if let Some(reply) = fake.seen[&id].reply.clone() {
            return reply;
        }
        assert!(!fake.seen[&id].disconnected, "disconnected");
        let before = taken;
        if taken != usize::MAX {
            hash(fake, id, &mut taken, 5000);
        }
        if taken == before {
            fake.pass();
        }
    }
    panic!("no reply: {}", fake.gateway.status());
}

fn run_copy(fake: &mut Fake, request: Request) -> Result<Reply, ApiError> {
    let id = fake.open(request);
    finish(fake, id)
}

fn record<'a>(fake: &'a Fake, key: &str) -> &'a ObjectRecord {
    &fake.objects.iter().find(|((_, name), _)| name == key).expect("it is there").1.0
}

fn record_mut<'a>(fake: &'a mut Fake, key: &str) -> &'a mut ObjectRecord {
    &mut fake.objects.iter_mut().find(|((_, name), _)| name == key).expect("it is there").1.0
}

/// An object of parts of these lengths, as an upload would have made it.
fn put_parts(fake: &mut Fake, key: &str, lengths: &[usize]) -> Vec<u8> {
    let whole = bytes(lengths.iter().sum());
    let (mut parts, mut at) = (Vec::new(), 0);
    for (number, length) in (1..).zip(lengths) {
        fake.put("part", &whole[at..at + length]).unwrap();
        at += length;
        let part = match &record(fake, "part").body {
            Body::Blobs(blobs) => PartRef { number, ..blobs[0].clone() },
            Body::Inline => panic!("too small for a chunk"),
        };
        parts.push(part);
    }
    fake.put(key, &whole).unwrap();
    let count = lengths.len() as u16;
    let record = record_mut(fake, key);
    record.body = Body::Blobs(parts);
    record.etag = ETag { md5: [9; 16], parts: count };
    whole
}

fn etag_of(body: &[u8]) -> ETag {
    ETag { md5: Md5::digest(body).into(), parts: 0 }
}

fn is_begun(fake: &Fake, id: RequestId) -> bool {
    matches!(fake.seen[&id].copying.first(), Some(Copying::Begun { .. }))
}

#[test]
fn copies_of_every_size_have_the_sources_bytes_tag_and_words_and_small_ones_are_one_command() {
    let mut fake = Fake::with_bucket(1);
    for length in super::sizes() {
        let body = bytes(length);
        fake.put("k", &body).unwrap();
        let source = record_mut(&mut fake, "k");
        source.etag = etag_of(&body);
        source.attributes.content_type = Some("text/plain".to_owned());
        source.attributes.website_redirect = Some("/elsewhere".to_owned());
        source.tags = vec![("a".to_owned(), "b".to_owned())];
        let (applied, calls, chunks) = (fake.applied, fake.range_calls, fake.chunks.len());
        let id = fake.open(copy("k", "copy"));
        let reply = finish(&mut fake, id);
        assert_eq!(fake.applied, applied + 1, "one command");
        assert!(length > INLINE || fake.range_calls - calls <= 2 + 1, "a read and a command");
        assert_eq!(fake.chunks.len() == chunks, length <= INLINE, "{length}");
        let copy = record(&fake, "copy");
        let (etag, modified) = (etag_of(&body), copy.modified);
        assert_eq!(reply, Ok(Reply::Copied { etag, checksum: None, modified }), "{length}");
        assert_eq!(copy.etag, etag);
        assert_eq!(copy.tags, [("a".to_owned(), "b".to_owned())]);
        let kept =
            Attributes { content_type: Some("text/plain".to_owned()), ..Attributes::default() };
        assert_eq!(copy.attributes, kept, "a redirect is not copied");
        let begun = Copying::Begun { length: length as u64, hash: None };
        assert_eq!(fake.seen[&id].copying, [begun], "its digest is known");
        assert_eq!(fake.get("copy", None), Ok(body), "{length}");
    }
    assert_eq!(fake.gateway.shared.budget.used(), 0);
}

#[test]
fn what_the_request_says_replaces_what_the_source_says() {
    let mut fake = Fake::with_bucket(2);
    fake.put("k", b"abc").unwrap();
    record_mut(&mut fake, "k").tags = vec![("a".to_owned(), "b".to_owned())];
    let attributes = Attributes { content_type: Some("x/y".to_owned()), ..Attributes::default() };
    let object = CopiedObject {
        attributes: Some(attributes.clone()),
        website_redirect: Some("/there".to_owned()),
        tags: Some(Vec::new()),
        ..copied()
    };
    run_copy(&mut fake, copy_as("k", "copy", object)).unwrap();
    let copy = record(&fake, "copy");
    let expected = Attributes { website_redirect: Some("/there".to_owned()), ..attributes };
    assert_eq!((&copy.attributes, copy.tags.len()), (&expected, 0));
}

#[test]
fn uneven_parts_become_one_object_with_the_md5_of_its_bytes() {
    for seed in 0..8 {
        let mut fake = Fake::with_bucket(seed);
        let odd = CHUNK + 4321;
        let body = put_parts(&mut fake, "k", &[odd, CHUNK, INLINE + 1, 3 * CHUNK - 1, odd]);
        fake.loss = 2 * seed;
        let id = fake.open(copy("k", "copy"));
        let modified = |fake: &Fake| record(fake, "copy").modified;
        let reply = finish(&mut fake, id);
        let modified = modified(&fake);
        let etag = etag_of(&body);
        assert_eq!(reply, Ok(Reply::Copied { etag, checksum: None, modified }));
        assert_eq!(fake.seen[&id].body, body, "what was hashed");
        assert!(matches!(&record(&fake, "copy").body, Body::Blobs(parts) if parts.len() == 1));
        assert_eq!(fake.get("copy", None), Ok(body));
        assert_eq!(fake.gateway.shared.budget.used(), 0);
    }
}

#[test]
fn a_checksum_is_the_sources_or_computed_over_the_copied_bytes() {
    let mut fake = Fake::with_bucket(3);
    let body = bytes(2 * CHUNK + 1);
    fake.put("k", &body).unwrap();
    let kept = ObjectChecksum {
        algorithm: ChecksumAlgorithm::Crc32,
        full_object: true,
        value: Bytes::from_static(b"kept"),
    };
    let source = record_mut(&mut fake, "k");
    (source.etag, source.checksum) = (etag_of(&body), Some(kept.clone()));
    run_copy(&mut fake, copy("k", "copy")).unwrap();
    assert_eq!(record(&fake, "copy").checksum, Some(kept));
    let algorithm = ChecksumAlgorithm::Crc32c;
    let other = CopiedObject { checksum: Some(algorithm), ..copied() };
    run_copy(&mut fake, copy_as("k", "copy", other.clone())).unwrap();
    let value = Bytes::copy_from_slice(&Md5::digest(&body)[..4]);
    let computed = Some(ObjectChecksum { algorithm, full_object: true, value });
    assert_eq!(record(&fake, "copy").checksum, computed);
    // The edge's MD5 is held against the source's.
    record_mut(&mut fake, "k").etag = ETag { md5: [1; 16], parts: 0 };
    let reply = run_copy(&mut fake, copy_as("k", "other", other));
    assert!(matches!(reply, Err(ApiError::Internal(_))), "{reply:?}");
}

fn begin_upload(fake: &mut Fake, checksum: Option<(ChecksumAlgorithm, bool)>) -> Order {
    let (owner, attributes, tags) = (User::default(), Attributes::default(), Vec::new());
    let create = Request::CreateUpload { path: path("copy"), owner, attributes, tags, checksum };
    match fake.ask(create) {
        Ok(Reply::Upload(upload)) => upload,
        other => panic!("{other:?}"),
    }
}

/// The bytes of a copied part: read as an object of their own.
fn part_bytes(fake: &mut Fake, upload: Order, number: u16) -> Vec<u8> {
    let part = fake.uploads[&upload].1[&number].clone();
    fake.put("look", &bytes(INLINE + 1)).unwrap();
    let record = record_mut(fake, "look");
    (record.length, record.body) = (part.length, Body::Blobs(vec![part]));
    fake.get("look", None).unwrap()
}

#[test]
fn copied_parts_have_exactly_the_bytes_of_their_range_and_the_uploads_checksum() {
    for seed in 0..6 {
        let mut fake = Fake::with_bucket(seed);
        let small = bytes(700);
        fake.put("small", &small).unwrap();
        record_mut(&mut fake, "small").etag = etag_of(&small);
        let body = put_parts(&mut fake, "k", &[CHUNK + 77, 2 * CHUNK, INLINE + 3]);
        let upload = begin_upload(&mut fake, Some((ChecksumAlgorithm::Crc64Nvme, true)));
        fake.loss = 3 * seed;
        let end = body.len() as u64;
        let ranges = [(0, 0), (0, end - 1), (end - 1, end - 1), (16_000, 40_000), (16_384, 32_767)];
        for (number, (first, last)) in (1..).zip(ranges) {
            let reply = run_copy(&mut fake, copy_part("k", upload, number, Some((first, last))));
            let expected = &body[first as usize..=last as usize];
            let Ok(Reply::Copied { etag, checksum: Some(checksum), .. }) = reply else {
                panic!("{reply:?}")
            };
            assert_eq!(etag, etag_of(expected), "seed {seed}: {first}-{last}");
            assert_eq!(checksum.algorithm, ChecksumAlgorithm::Crc64Nvme);
            assert_eq!(part_bytes(&mut fake, upload, number), expected);
        }
        // Of inline bytes, too, a part is a blob.
        run_copy(&mut fake, copy_part("small", upload, 9, Some((10, 19)))).unwrap();
        assert_eq!(part_bytes(&mut fake, upload, 9), &small[10..20]);
        run_copy(&mut fake, copy_part("small", upload, 9, None)).unwrap();
        assert_eq!(part_bytes(&mut fake, upload, 9), small);
        let reply = run_copy(&mut fake, copy_part("k", upload, 1, Some((0, end))));
        assert_eq!(reply, Err(ApiError::InvalidRange { length: end }));
        let reply = run_copy(&mut fake, copy_part("small", upload, 1, Some((700, 700))));
        assert_eq!(reply, Err(ApiError::InvalidRange { length: 700 }));
    }
}

#[test]
fn copies_over_a_lossy_network_take_effect_once() {
    for seed in 0..15 {
        let mut fake = Fake::with_bucket(seed);
        for length in super::sizes() {
            let body = bytes(length);
            fake.loss = 0;
            fake.put("k", &body).unwrap();
            record_mut(&mut fake, "k").etag = etag_of(&body);
            fake.loss = 15;
            let applied = fake.applied;
            run_copy(&mut fake, copy("k", "copy")).unwrap();
            assert_eq!(fake.applied, applied + 1);
            assert_eq!(fake.get("copy", None), Ok(body), "seed {seed} length {length}");
        }
    }
}

#[test]
fn damaged_and_missing_copies_of_the_source_are_passed_over() {
    let mut fake = Fake::with_bucket(5);
    let body = bytes(5 * CHUNK + 77);
    fake.put("k", &body).unwrap();
    fake.rotten.extend([StoreId(1), StoreId(3)]);
    run_copy(&mut fake, copy("k", "copy")).unwrap();
    fake.rotten.clear();
    assert_eq!(fake.get("copy", None), Ok(body));
}

/// Once the source is read, its version is copied whole: none of the next one's bytes.
#[test]
fn a_source_that_is_overwritten_or_deleted_meanwhile_is_copied_as_it_was() {
    for (length, delete) in [(9 * CHUNK + 5, false), (9 * CHUNK + 5, true), (700, false)] {
        let mut fake = Fake::with_bucket(6);
        let body = bytes(length);
        fake.put("k", &body).unwrap();
        // A tag that must be computed, so that the copy waits for the edge.
        record_mut(&mut fake, "k").etag.parts = 2;
        let id = fake.open(copy("k", "copy"));
        assert!(is_begun(&fake, id));
        assert_eq!(fake.seen[&id].reply, None);
        if delete {
            let (path, conditions) = (path("k"), WriteConditions::default());
            fake.ask(Request::Delete { path, conditions }).unwrap();
        } else {
            fake.put("k", &vec![7; length]).unwrap();
        }
        finish(&mut fake, id).unwrap();
        assert_eq!(fake.get("copy", None), Ok(body));
    }
}

#[test]
fn conditions_of_source_and_copy_are_decided_before_a_byte_moves() {
    let mut fake = Fake::with_bucket(7);
    let body = bytes(3 * CHUNK);
    fake.put("k", &body).unwrap();
    record_mut(&mut fake, "k").etag = etag_of(&body);
    let modified = record(&fake, "k").modified;
    let later = WallTime::from_millis(modified.as_millis() + 5000);
    let earlier = WallTime::from_millis(modified.as_millis() - 1000);
    let (same, other) = (TagMatch::Tags(vec![etag_of(&body)]), TagMatch::Tags(Vec::new()));
    let none = ReadConditions::default;
    for (source_conditions, holds) in [
        (ReadConditions { if_match: Some(same.clone()), ..none() }, true),
        (ReadConditions { if_match: Some(other.clone()), ..none() }, false),
        (ReadConditions { if_none_match: Some(other.clone()), ..none() }, true),
        (ReadConditions { if_none_match: Some(same.clone()), ..none() }, false),
        (ReadConditions { if_modified_since: Some(earlier), ..none() }, true),
        (ReadConditions { if_modified_since: Some(later), ..none() }, false),
        (ReadConditions { if_unmodified_since: Some(later), ..none() }, true),
        (ReadConditions { if_unmodified_since: Some(earlier), ..none() }, false),
        (
            ReadConditions {
                if_match: Some(same.clone()),
                if_unmodified_since: Some(earlier),
                ..none()
            },
            true,
        ),
        (
            ReadConditions {
                if_none_match: Some(same.clone()),
                if_modified_since: Some(earlier),
                ..none()
            },
            false,
        ),
    ] {
        let mut request = copy("k", "copy");
        let Request::Copy(asked) = &mut request else { panic!() };
        asked.source_conditions = source_conditions.clone();
        let id = fake.open(request);
        let reply = finish(&mut fake, id);
        if holds {
            assert!(reply.is_ok(), "{source_conditions:?}: {reply:?}");
        } else {
            assert_eq!(reply, Err(ApiError::PreconditionFailed), "{source_conditions:?}");
            assert!(fake.seen[&id].copying.is_empty());
        }
    }
    let chunks = fake.chunks.len();
    let if_absent = |condition| WriteConditions { if_none_match: condition, if_match: None };
    let if_there = |condition| WriteConditions { if_match: condition, if_none_match: None };
    for (key, conditions, error) in [
        ("copy", if_absent(Some(TagMatch::Any)), ApiError::PreconditionFailed),
        ("copy", if_there(Some(other)), ApiError::PreconditionFailed),
        ("absent", if_there(Some(same)), ApiError::NoSuchKey),
    ] {
        let id = fake.open(copy_as("k", key, CopiedObject { conditions, ..copied() }));
        assert_eq!(finish(&mut fake, id), Err(error));
        assert!(fake.seen[&id].copying.is_empty());
    }
    let missing = fake.open(copy("nothing", "copy"));
    assert_eq!(finish(&mut fake, missing), Err(ApiError::NoSuchKey));
    let part = fake.open(copy_part("k", Order::default(), 1, None));
    assert_eq!(finish(&mut fake, part), Err(ApiError::NoSuchUpload));
    assert_eq!(fake.chunks.len(), chunks, "nothing was moved");
}

/// The condition is decided once more where the copy is committed.
#[test]
fn a_condition_that_ceases_to_hold_while_bytes_move_fails_the_copy() {
    let mut fake = Fake::with_bucket(8);
    fake.put("k", &bytes(4 * CHUNK)).unwrap();
    record_mut(&mut fake, "k").etag.parts = 2;
    let conditions = WriteConditions { if_none_match: Some(TagMatch::Any), if_match: None };
    let id = fake.open(copy_as("k", "copy", CopiedObject { conditions, ..copied() }));
    assert!(is_begun(&fake, id));
    fake.put("copy", b"was faster").unwrap();
    assert_eq!(finish(&mut fake, id), Err(ApiError::PreconditionFailed));
    assert_eq!(fake.get("copy", None).as_deref(), Ok(&b"was faster"[..]));
}

#[test]
fn an_object_copied_onto_itself_is_changed_on_the_spot() {
    for length in [700, 3 * CHUNK] {
        let mut fake = Fake::with_bucket(9);
        let body = bytes(length);
        fake.put("k", &body).unwrap();
        record_mut(&mut fake, "k").etag = etag_of(&body);
        let (stored, before) = (fake.chunks.len(), record(&fake, "k").order);
        let attributes =
            Attributes { content_type: Some("x/y".to_owned()), ..Attributes::default() };
        let object = CopiedObject { attributes: Some(attributes.clone()), ..copied() };
        run_copy(&mut fake, copy_as("k", "k", object.clone())).unwrap();
        assert_eq!(record(&fake, "k").attributes, attributes);
        assert!(record(&fake, "k").order > before);
        assert_eq!(fake.chunks.len(), stored, "no byte was moved");
        assert_eq!(fake.get("k", None).as_deref(), Ok(&body[..]));
        // Another version comes in between: the one that was read is copied.
        let parts = record(&fake, "k").etag;
        fake.change_first = true;
        run_copy(&mut fake, copy_as("k", "k", object)).unwrap();
        assert_eq!(record(&fake, "k").etag, parts);
        assert_eq!(fake.get("k", None), Ok(body));
        assert_eq!(fake.chunks.len() > stored, length > INLINE);
    }
}

/// The bytes of an upload's object get an entity tag of their own.
#[test]
fn an_object_of_parts_that_is_copied_onto_itself_is_moved() {
    let mut fake = Fake::with_bucket(10);
    let body = put_parts(&mut fake, "k", &[CHUNK + 1, 2 * CHUNK]);
    run_copy(&mut fake, copy("k", "k")).unwrap();
    assert_eq!(record(&fake, "k").etag, etag_of(&body));
    assert_eq!(fake.get("k", None), Ok(body));
}

/// The budget is of 16 chunks. Were the halves of a copy to reserve on their own, many first halves would
/// have it all, and no second one any.
#[test]
fn many_copies_share_a_small_budget_without_waiting_for_each_other() {
    for seed in 0..4 {
        let mut fake = Fake::with_bucket(seed);
        let body = put_parts(&mut fake, "k", &[CHUNK + 900, 2 * CHUNK + 17, CHUNK - 1]);
        fake.loss = seed;
        let ids: Vec<_> = (0..50).map(|n| fake.open(copy("k", &format!("copy-{n}")))).collect();
        let mut taken = vec![0; ids.len()];
        for _ in 0..20_000 {
            let before = taken.clone();
            for (id, taken) in ids.iter().zip(&mut taken) {
                if *taken != usize::MAX && fake.seen[id].reply.is_none() {
                    hash(&mut fake, *id, taken, 9000);
                }
            }
            if ids.iter().all(|id| fake.seen[id].reply.is_some()) {
                break;
            }
            if taken == before {
                fake.pass();
            }
        }
        for (n, id) in ids.iter().enumerate() {
            assert!(matches!(fake.seen[id].reply, Some(Ok(_))), "{:?}", fake.seen[id].reply);
            if n % 10 == 0 {
                assert_eq!(fake.get(&format!("copy-{n}"), None).as_deref(), Ok(&body[..]));
            }
        }
        assert_eq!(fake.gateway.shared.budget.used(), 0);
    }
}

#[test]
fn the_edge_hears_that_a_copy_goes_on_and_whatever_is_stuck_is_given_up() {
    let mut fake = Fake::with_bucket(11);
    let body = bytes(4 * CHUNK);
    fake.put("k", &body).unwrap();
    fake.mute.extend([StoreId(1), StoreId(2)]);
    let id = fake.open(copy("k", "copy"));
    let reply = finish(&mut fake, id);
    assert!(matches!(reply, Err(ApiError::Unavailable(_))), "{reply:?}");
    assert!(fake.seen[&id].copying[1..].iter().all(|it| *it == Copying::Alive));
    assert!(fake.seen[&id].copying.len() > 1, "it was told");
    fake.mute.clear();
    // An edge that does not hash is given up as a client that does not send.
    record_mut(&mut fake, "k").etag.parts = 2;
    let id = fake.open(copy("k", "copy"));
    let began = fake.now;
    while !fake.seen[&id].disconnected {
        fake.pass();
    }
    assert!(fake.now.since(began) >= CLIENT_PATIENCE);
    assert!(fake.seen[&id].copying.len() > 20);
    assert_eq!(fake.gateway.shared.budget.used(), 0);
}

#[test]
fn a_cancelled_copy_leaves_nothing_in_hand() {
    let mut fake = Fake::with_bucket(12);
    let body = put_parts(&mut fake, "k", &[CHUNK + 900, 2 * CHUNK + 17]);
    let applied = fake.applied;
    for taken in [0, 9000] {
        let id = fake.open(copy("k", "copy"));
        fake.event(GatewayEvent::BodyTaken { id, len: taken });
        fake.event(GatewayEvent::Cancel { id });
        fake.run();
        assert_eq!(fake.gateway.shared.budget.used(), 0);
        assert!(fake.gateway.open.is_empty());
    }
    assert_eq!(fake.applied, applied, "nothing was committed");
    assert_eq!(fake.get("k", None), Ok(body));
}

#[test]
fn digests_before_the_last_byte_is_hashed_are_not_believed() {
    let mut fake = Fake::with_bucket(13);
    put_parts(&mut fake, "k", &[CHUNK + 900, 2 * CHUNK + 17]);
    let id = fake.open(copy("k", "copy"));
    fake.event(GatewayEvent::BodyEnd { id, digest: BodyDigest::default() });
    fake.event(GatewayEvent::Body { id, bytes: Bytes::from_static(b"not asked for") });
    fake.run();
    assert_eq!(fake.seen[&id].reply, None);
    finish(&mut fake, id).unwrap();
    assert_ne!(record(&fake, "copy").etag, ETag::default());
}

#[test]
fn a_copy_outlives_the_replacement_of_a_store() {
    let mut fake = Fake::with_bucket(14);
    let body = put_parts(&mut fake, "k", &[CHUNK + 900, 2 * CHUNK + 17]);
    let id = fake.open(copy("k", "copy"));
    super::changes::replace(&mut fake, 2, 4);
    fake.leader = StoreId(1);
    fake.dead.insert(StoreId(2));
    finish(&mut fake, id).unwrap();
    let Body::Blobs(parts) = &record(&fake, "copy").body else { panic!() };
    let blob = parts[0].blob.clone().unwrap();
    assert_eq!(blob.epoch, MapEpoch(2));
    assert!(!blob.stores.contains(&StoreId(2)) || blob.stores.len() >= 3);
    assert_eq!(fake.get("copy", None), Ok(body));
}

#[test]
fn a_fence_with_the_commit_in_flight_disconnects() {
    let mut fake = Fake::with_bucket(15);
    fake.put("k", &bytes(700)).unwrap();
    fake.hold_answers = true;
    let id = fake.open(copy("k", "copy"));
    fake.live = SessionId(0);
    while !fake.seen[&id].disconnected {
        fake.pass();
    }
    assert_eq!(fake.seen[&id].reply, None);
}
