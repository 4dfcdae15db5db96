//! The gateway against the scripted cluster of `fake`.

#![allow(clippy::cast_possible_truncation, reason = "bodies of tests are small")]

mod changes;
mod copies;
mod fake;

use self::fake::*;
use super::*;
use crate::cluster::ROOT_RANGE;
use crate::ids::{BlobId, BucketId, ChunkId, MapEpoch, Order};
use crate::message::{ChunkData, ChunkError, ChunkWritten, RangeAnswer};
use crate::object::{Body, ETag, ObjectKey, Owner as User};
use crate::range::OUTCOMES_PER_SESSION_MAX;
use crate::request::{ByteRange, ListEntry, ListRequest, ListedObject, ReadConditions, Reply};
use crate::time::WallTime;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn sizes() -> Vec<usize> {
    let (inline, chunk) = (CUT.inline_max as usize, CUT.chunk as usize);
    vec![0, 1, inline, inline + 1, chunk - 1, chunk, chunk + 1, 9 * chunk + 5]
}

#[test]
fn bodies_of_every_size_come_back_and_small_ones_are_inline() {
    let mut fake = Fake::with_bucket(1);
    for length in sizes() {
        let body = bytes(length);
        assert!(matches!(fake.put("k", &body), Ok(Reply::Put { .. })), "{length}");
        assert_eq!(fake.chunks.is_empty(), length <= CUT.inline_max as usize);
        assert_eq!(fake.get("k", None), Ok(body), "{length}");
    }
    assert_eq!(fake.gateway.shared.budget.used(), 0);
}

#[test]
fn everything_works_over_a_lossy_network() {
    for seed in 0..20 {
        let mut fake = Fake::with_bucket(seed);
        fake.loss = 15;
        for length in sizes() {
            let body = bytes(length);
            assert!(matches!(fake.put("k", &body), Ok(Reply::Put { .. })), "seed {seed}");
            assert_eq!(fake.get("k", None), Ok(body), "seed {seed} length {length}");
        }
        assert_eq!(fake.applied, 1 + sizes().len() as u64, "each command took effect once");
    }
}

#[test]
fn put_and_get_survive_one_dead_zone() {
    for zone in 1..=3 {
        let mut fake = Fake::with_bucket(3);
        fake.dead.insert(StoreId(zone));
        fake.leader = StoreId(zone % 3 + 1);
        let body = bytes(3 * CUT.chunk as usize);
        assert!(matches!(fake.put("k", &body), Ok(Reply::Put { .. })));
        assert_eq!(fake.get("k", None), Ok(body));
    }
}

#[test]
fn put_with_two_mute_zones_is_given_up_and_frees_its_budget() {
    let mut fake = Fake::with_bucket(4);
    fake.mute.extend([StoreId(1), StoreId(2)]);
    let reply = fake.put("k", &bytes(CUT.chunk as usize));
    assert!(matches!(reply, Err(ApiError::Unavailable(_))), "{reply:?}");
    assert_eq!(fake.gateway.shared.budget.used(), 0);
}

#[test]
fn damaged_copies_are_passed_over() {
    let mut fake = Fake::with_bucket(5);
    let body = bytes(5 * CUT.chunk as usize + 77);
    fake.put("k", &body).unwrap();
    fake.rotten.extend([StoreId(1), StoreId(3)]);
    assert_eq!(fake.get("k", None), Ok(body));
    assert!(fake.gateway.shared.counts.copies_damaged > 0);
}

#[test]
fn a_silent_store_is_hedged() {
    let mut fake = Fake::with_bucket(6);
    let body = bytes(2 * CUT.chunk as usize);
    fake.put("k", &body).unwrap();
    fake.mute.insert(StoreId(1));
    let before = fake.now;
    assert_eq!(fake.get("k", None), Ok(body));
    assert!(fake.gateway.shared.counts.hedges > 0);
    assert!(fake.now.since(before) < Duration::from_millis(200), "sooner than a timeout");
}

#[test]
fn ranges_give_exactly_their_bytes() {
    let mut fake = Fake::with_bucket(7);
    let body = bytes(3 * CUT.chunk as usize + 100);
    fake.put("k", &body).unwrap();
    let end = body.len() as u64;
    for (first, last) in [(0, 0), (4095, 4096), (16_383, 16_384), (5000, end + 9), (end - 1, end)] {
        let range = ByteRange::From { first, last: Some(last) };
        let expected = &body[first as usize..body.len().min(last as usize + 1)];
        assert_eq!(fake.get("k", Some(range)).as_deref(), Ok(expected));
    }
    let suffix = |length| Some(ByteRange::Suffix { length });
    assert_eq!(fake.get("k", suffix(10)).as_deref(), Ok(&body[body.len() - 10..]));
    assert_eq!(fake.get("k", suffix(end * 2)).as_deref(), Ok(&body[..]));
    let invalid = Err(ApiError::InvalidRange { length: end });
    assert_eq!(fake.get("k", suffix(0)), invalid);
    assert_eq!(fake.get("k", Some(ByteRange::From { first: end, last: None })), invalid);
}

#[test]
fn a_fence_with_the_commit_in_flight_disconnects_and_a_new_session_follows() {
    let mut fake = Fake::with_bucket(8);
    fake.hold_answers = true;
    let id = fake.open(put("k", Some(3)));
    fake.feed(id, b"abc");
    fake.end(id);
    assert_eq!(fake.seen[&id].reply, None);
    let old = fake.live;
    fake.live = SessionId(0);
    while !fake.seen[&id].disconnected {
        fake.pass();
    }
    fake.hold_answers = false;
    assert!(matches!(fake.put("k", b"x"), Ok(Reply::Put { .. })));
    assert!(fake.live > old);
}

#[test]
fn a_command_is_submitted_again_to_the_new_leader_and_takes_effect_once() {
    let mut fake = Fake::with_bucket(9);
    fake.hold_answers = true;
    let id = fake.open(put("k", Some(3)));
    fake.feed(id, b"abc");
    fake.end(id);
    let applied = fake.applied;
    fake.hold_answers = false;
    fake.leader = StoreId(3);
    assert!(matches!(fake.wait(id), Ok(Reply::Put { .. })));
    assert_eq!(fake.applied, applied);
}

#[test]
fn commands_far_ahead_of_one_without_an_answer_wait_for_it() {
    let mut fake = Fake::with_bucket(18);
    fake.hold_answers = true;
    let id = fake.open(put("k", Some(3)));
    fake.feed(id, b"abc");
    fake.end(id);
    fake.hold_answers = false;
    let count = OUTCOMES_PER_SESSION_MAX + 100;
    let keys = (0..count).map(|number| ObjectKey::parse(&format!("k{number}")).unwrap()).collect();
    let many = fake.open(Request::DeleteMany { bucket: bucket(), keys });
    assert_eq!(fake.seen[&many].reply, None, "the last commands wait");
    assert!(matches!(fake.wait(id), Ok(Reply::Put { .. })));
    assert_eq!(fake.wait(many), Ok(Reply::Deleted(vec![Ok(()); count])));
}

#[test]
fn bytes_that_a_client_has_not_taken_keep_their_reservation() {
    let mut fake = Fake::with_bucket(19);
    let body = bytes(40_000);
    fake.put("k", &body).unwrap();
    let id = fake.open(get("k", None));
    fake.wait(id).unwrap();
    while fake.seen[&id].body.len() < body.len() {
        fake.pass();
    }
    assert!(fake.gateway.shared.budget.used() > 0);
    fake.event(GatewayEvent::BodyTaken { id, len: 40_000 });
    assert!(fake.seen[&id].ended);
    assert_eq!(fake.gateway.shared.budget.used(), 0);
}

#[test]
fn refused_sessions_are_asked_for_again_after_a_pause() {
    let mut fake = Fake::new(20);
    fake.refuse_sessions = true;
    fake.live = SessionId(0);
    let id = fake.open(Request::CreateBucket { bucket: bucket(), owner: User::default() });
    let (began, asked) = (fake.now, fake.nonces.len());
    while fake.now < began + Duration::from_secs(3) {
        fake.pass();
    }
    let attempts = fake.gateway.status().split("attempt ").nth(1).map(str::to_owned);
    let attempts = attempts.and_then(|rest| rest.split(')').next()?.parse::<usize>().ok());
    assert!(attempts.is_some_and(|attempts| (4..14).contains(&attempts)), "{attempts:?}");
    assert_eq!(fake.nonces.len(), asked);
    fake.refuse_sessions = false;
    assert!(fake.seen[&id].disconnected, "its command was in flight when the session was fenced");
    assert_eq!(
        fake.ask(Request::CreateBucket { bucket: bucket(), owner: User::default() }),
        Ok(Reply::Done)
    );
}

#[test]
fn cancel_frees_everything_but_lets_the_commit_finish() {
    for fed in [0, 1, 5000, 40_000] {
        let mut fake = Fake::with_bucket(10);
        let body = bytes(40_000);
        let id = fake.open(put("k", Some(40_000)));
        fake.feed(id, &body[..fed]);
        fake.hold_answers = true;
        if fed == body.len() {
            fake.end(id);
        }
        fake.event(GatewayEvent::Cancel { id });
        assert_eq!(fake.gateway.shared.budget.used(), 0);
        assert_eq!(fake.gateway.shared.calls.background(), usize::from(fed == body.len()));
        fake.hold_answers = false;
        while fake.gateway.shared.calls.background() > 0 {
            fake.pass();
        }
    }
}

#[test]
fn bodies_that_break_their_declared_length_are_refused() {
    let mut fake = Fake::with_bucket(11);
    let id = fake.open(put("k", Some(5)));
    fake.feed(id, b"abc");
    fake.end(id);
    assert_eq!(fake.wait(id), Err(ApiError::IncompleteBody));
    let id = fake.open(put("k", Some(2)));
    fake.feed(id, b"abc");
    assert!(matches!(fake.wait(id), Err(ApiError::InvalidArgument(_))));
    let id = fake.open(put("k", Some(crate::object::PUT_BYTES_MAX + 1)));
    assert_eq!(fake.wait(id), Err(ApiError::EntityTooLarge));
}

#[test]
fn a_missing_bucket_is_told_before_the_body_and_a_remade_one_is_found() {
    let mut fake = Fake::new(12);
    let id = fake.open(put("k", Some(5)));
    assert_eq!(fake.wait(id), Err(ApiError::NoSuchBucket));
    assert_eq!(fake.seen[&id].asked, 0);
    fake.ask(Request::CreateBucket { bucket: bucket(), owner: User::default() }).unwrap();
    fake.put("k", b"1").unwrap();
    let mut record = fake.buckets.values().next().unwrap().clone();
    record.id = BucketId(999);
    fake.buckets.insert(record.name.clone(), record);
    fake.put("k", b"2").unwrap();
    assert_eq!(fake.get("k", None), Ok(b"2".to_vec()));
}

#[test]
fn more_bodies_than_the_budget_wait_their_turn() {
    let mut fake = Fake::with_bucket(13);
    fake.put("warm", b"").unwrap();
    let length = 5 * u64::from(CUT.chunk);
    let ids: Vec<_> = (0..8).map(|_| fake.open(put("k", Some(length)))).collect();
    assert!(fake.gateway.shared.budget.used() <= 256 << 10);
    assert!(fake.gateway.shared.budget.waiting() > 0);
    for id in ids {
        fake.feed(id, &bytes(length as usize));
        fake.end(id);
        assert!(matches!(fake.wait(id), Ok(Reply::Put { .. })));
    }
}

#[test]
fn pages_joined_are_the_naive_listing() {
    let mut fake = Fake::with_bucket(14);
    let keys = ["a", "a/1", "a/2", "a/b/3", "b+1/x", "b/1", "b/2", "c", "d/", "e/f/g"];
    for key in keys {
        fake.put(key, b"").unwrap();
    }
    for (delimiter, prefix) in [(None, ""), (Some("/"), ""), (Some("/"), "a/"), (Some(""), "b")] {
        let real = delimiter.filter(|delimiter| !delimiter.is_empty());
        let mut naive: Vec<String> = keys
            .iter()
            .filter(|key| key.starts_with(prefix))
            .map(|key| rolled(key, prefix, real).unwrap_or_else(|| (*key).to_owned()))
            .collect();
        naive.sort();
        naive.dedup();
        for (keys_max, scan_rows) in [(1, 1000), (2, 1), (3, 2), (1000, 3)] {
            fake.scan_rows = scan_rows;
            let mut found = Vec::new();
            loop {
                let page = page(&mut fake, prefix, delimiter, found.last().cloned(), keys_max);
                found.extend(page.0);
                assert_eq!(page.1, found.len() < naive.len(), "truncated is exact");
                if !page.1 {
                    break;
                }
            }
            assert_eq!(found, naive);
        }
    }
    assert_eq!(page(&mut fake, "", None, None, 0), (vec![], false));
    // A marker inside a common prefix: keys behind it are rolled up again.
    let after = Some("a/1".to_owned());
    assert_eq!(page(&mut fake, "", Some("/"), after, 1), (vec!["a/".to_owned()], true));
}

fn page(
    fake: &mut Fake,
    prefix: &str,
    delimiter: Option<&str>,
    after: Option<String>,
    keys_max: u32,
) -> (Vec<String>, bool) {
    let delimiter = delimiter.map(str::to_owned);
    let (bucket, prefix) = (bucket(), prefix.to_owned());
    let request = Request::List(ListRequest { bucket, prefix, delimiter, after, keys_max });
    let Ok(Reply::List(page)) = fake.ask(request) else { panic!("no list") };
    let name = |entry: &ListEntry<ListedObject>| match entry {
        ListEntry::Item(item) => item.key.as_str().to_owned(),
        ListEntry::Prefix(prefix) => prefix.clone(),
    };
    (page.entries.iter().map(name).collect(), page.truncated)
}

#[test]
fn delete_many_gives_one_result_for_each_key() {
    let mut fake = Fake::with_bucket(15);
    for number in 0..30 {
        fake.put(&format!("k{number}"), b"").unwrap();
    }
    let keys = (0..40).map(|number| ObjectKey::parse(&format!("k{number}")).unwrap()).collect();
    let reply = fake.ask(Request::DeleteMany { bucket: bucket(), keys });
    assert_eq!(reply, Ok(Reply::Deleted(vec![Ok(()); 40])));
    assert!(fake.objects.is_empty());
}

#[test]
fn nonsense_from_stores_is_ignored() {
    let mut fake = Fake::with_bucket(16);
    fake.mute.extend([StoreId(1), StoreId(2), StoreId(3)]);
    let body = bytes(CUT.chunk as usize);
    let id = fake.open(put("k", Some(body.len() as u64)));
    fake.feed(id, &body);
    for call in (0..60).map(CallId) {
        let (chunk, store) = (ChunkId::default(), StoreId(9));
        let from = Endpoint::Store(store);
        let to = Endpoint::Gateway(GATEWAY);
        let result = Ok(Answer::Beat { live: false, map: MapEpoch(1), applied: LogIndex(0) });
        let answer = RangeAnswer { call, origin: GATEWAY, range: ROOT_RANGE, by: store, result };
        for message in [
            Message::ChunkWritten(ChunkWritten::received(call, chunk, store, Ok(()))),
            Message::ChunkData(ChunkData { call, chunk, store, result: Err(ChunkError::Io) }),
            Message::RangeAnswer(answer),
        ] {
            fake.event(GatewayEvent::Message(Envelope { from, to, message }));
        }
    }
    fake.mute.clear();
    fake.end(id);
    assert!(matches!(fake.wait(id), Ok(Reply::Put { .. })));
}

#[test]
fn conditions_follow_the_order_of_rfc_9110() {
    use crate::object::TagMatch;
    let mut found = record(Order::default(), 0, Body::Inline);
    found.modified = WallTime::from_millis(5_900);
    let other = TagMatch::Tags(vec![ETag { md5: [1; 16], parts: 0 }]);
    let seconds = |seconds: u64| Some(WallTime::from_millis(seconds * 1000));
    let judge = |conditions| conditions::evaluate(&conditions, &found);
    let none = ReadConditions::default;
    let failed = Err(ApiError::PreconditionFailed);
    let unchanged = Err(ApiError::NotModified { etag: found.etag, modified: found.modified });
    assert_eq!(judge(ReadConditions { if_match: Some(other.clone()), ..none() }), failed);
    assert_eq!(judge(ReadConditions { if_unmodified_since: seconds(4), ..none() }), failed);
    assert_eq!(judge(ReadConditions { if_unmodified_since: seconds(5), ..none() }), Ok(()));
    // If-Match that holds switches If-Unmodified-Since off.
    let both = (Some(TagMatch::Any), seconds(4));
    let (if_match, if_unmodified_since) = both;
    assert_eq!(judge(ReadConditions { if_match, if_unmodified_since, ..none() }), Ok(()));
    assert_eq!(judge(ReadConditions { if_modified_since: seconds(5), ..none() }), unchanged);
    assert_eq!(judge(ReadConditions { if_none_match: Some(TagMatch::Any), ..none() }), unchanged);
    // If-None-Match that does not hold switches If-Modified-Since off.
    let (if_none_match, if_modified_since) = (Some(other), seconds(9));
    assert_eq!(judge(ReadConditions { if_none_match, if_modified_since, ..none() }), Ok(()));
}

#[test]
fn requests_are_given_up_in_time_when_no_store_answers() {
    let mut fake = Fake::with_bucket(17);
    fake.dead.extend([StoreId(1), StoreId(2), StoreId(3)]);
    let reply = fake.ask(get("k", None));
    assert!(matches!(reply, Err(ApiError::Unavailable(_))), "{reply:?}");
}

/// A put of another tenant.
fn put_of(tenant: u64, key: &str, length: u64) -> Request {
    let Request::Put(mut request) = put(key, Some(length)) else { unreachable!("it is a put") };
    request.path.bucket.tenant = crate::ids::TenantId(tenant);
    Request::Put(request)
}

#[test]
fn a_flood_of_one_tenant_does_not_keep_out_small_requests_of_another() {
    let mut fake = Fake::with_bucket(23);
    fake.put("warm", b"").unwrap();
    // 256 KiB of budget, and windows of 64 KiB: far too many.
    let flood: Vec<_> = (0..40).map(|_| fake.open(put_of(0, "big", 1 << 20))).collect();
    assert!(fake.gateway.shared.budget.waiting() > 30);
    let id = fake.open(put_of(1, "small", 5));
    fake.feed(id, b"small");
    fake.end(id);
    assert!(matches!(fake.seen[&id].reply, Some(Ok(Reply::Put { .. }))), "at once");
    // A large body of the other tenant comes before all that wait of the first.
    let id = fake.open(put_of(1, "large", 1 << 20));
    assert!(fake.seen[&flood[39]].asked == 0);
    assert!(fake.seen[&id].asked > 0, "{}", fake.gateway.status());
}

#[test]
fn places_for_requests_are_shared_and_what_is_over_is_told_to_slow_down() {
    let mut fake = Fake::with_bucket(24);
    fake.put("warm", b"").unwrap();
    // 64 places; an eighth is not lent.
    let ids: Vec<_> = (0..64).map(|_| fake.open(put_of(0, "flood", 5))).collect();
    let refused = ids
        .iter()
        .filter(|id| matches!(fake.seen[id].reply, Some(Err(ApiError::SlowDown(_)))))
        .count();
    assert_eq!(refused, 8);
    assert_eq!(fake.gateway.report().slowed_down, 8);
    for _ in 0..8 {
        let id = fake.open(put_of(1, "other", 5));
        assert!(fake.seen[&id].asked > 0, "{}", fake.gateway.status());
    }
}

#[test]
fn who_waits_too_long_for_room_is_told_to_slow_down_and_nothing_is_asked_of_it() {
    let mut fake = Fake::with_bucket(25);
    fake.put("warm", b"").unwrap();
    let ids: Vec<_> = (0..8).map(|_| fake.open(put("big", Some(1 << 20)))).collect();
    let (before, last) = (fake.now, ids[7]);
    assert_eq!(fake.seen.get(&last).map_or(0, |seen| seen.asked), 0);
    assert!(matches!(fake.wait(last), Err(ApiError::SlowDown(_))));
    let waited = fake.now.since(before);
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_secs(3), "{waited:?}");
    assert_eq!(fake.seen[&last].asked, 0);
}

#[test]
fn a_body_gives_back_its_room_as_its_bytes_go() {
    let mut fake = Fake::with_bucket(26);
    fake.put("warm", b"").unwrap();
    let chunk = u64::from(CUT.chunk);
    let length = 6 * chunk;
    let id = fake.open(put("big", Some(length)));
    assert_eq!(fake.gateway.shared.budget.used(), 4 * chunk);
    fake.feed(id, &bytes(length as usize));
    // What is safe in two zones is not held any more.
    assert!(fake.gateway.shared.budget.used() <= 1, "{}", fake.gateway.status());
    fake.end(id);
    assert!(matches!(fake.wait(id), Ok(Reply::Put { .. })));
}

#[test]
fn a_full_store_is_left_out_and_two_full_ones_are_named() {
    let mut fake = Fake::with_bucket(27);
    fake.full.insert(StoreId(2));
    let body = bytes(6 * CUT.chunk as usize);
    assert!(matches!(fake.put("k", &body), Ok(Reply::Put { .. })));
    assert_eq!(fake.get("k", None), Ok(body.clone()));
    let asked = fake.refused_full;
    assert!(asked < 6, "it is not asked for each chunk: {asked}");
    fake.full.insert(StoreId(3));
    match fake.put("k", &body) {
        Err(ApiError::StorageFull(reason)) => {
            assert!(reason.contains("store-2") && reason.contains("store-3"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    fake.full.clear();
    fake.now = fake.now + Duration::from_secs(2);
    assert!(matches!(fake.put("k", &body), Ok(Reply::Put { .. })));
}

#[test]
fn beats_tell_what_is_under_way_and_stores_are_told_of_what_was_given_up() {
    let mut fake = Fake::with_bucket(7);
    let body = bytes(3 * CUT.chunk as usize);
    // A put that comes to its end, and one whose client goes away in the middle.
    fake.put("kept", &body).unwrap();
    let cut_off = fake.open(put("lost", Some(body.len() as u64)));
    fake.feed(cut_off, &body[..2 * CUT.chunk as usize]);
    fake.pass();
    fake.run();
    let report = fake.reports.last().expect("it beats").clone();
    let second = BlobSequence(2);
    assert_eq!((report.writing.as_slice(), report.next), (&[second][..], BlobSequence(3)));
    assert!(report.is_closed(BlobSequence(1)) && !report.is_closed(second));
    assert!(fake.left.is_empty());
    fake.event(GatewayEvent::Cancel { id: cut_off });
    for _ in 0..4 {
        fake.pass();
        fake.run();
    }
    let report = fake.reports.last().unwrap();
    assert!(report.is_closed(second) && report.reads_from > LogIndex(0), "{report:?}");
    let blob = BlobId { session: fake.live, sequence: second };
    let told: Vec<_> = fake.left.iter().copied().collect();
    assert_eq!(told, [1, 2, 3].map(|store| (StoreId(store), blob)));
}

#[test]
fn beats_tell_which_blobs_a_slow_client_still_reads() {
    let mut fake = Fake::with_bucket(8);
    let body = bytes(9 * CUT.chunk as usize);
    fake.put("k", &body).unwrap();
    let blob = BlobId { session: fake.live, sequence: BlobSequence(1) };
    let slow = fake.open(get("k", None));
    fake.run();
    fake.pass();
    fake.run();
    let report = fake.reports.last().unwrap();
    assert_eq!(report.reading, [blob], "the client has taken nothing yet");
    assert!(!report.has_done_with(blob, LogIndex(0)));
    fake.event(GatewayEvent::Cancel { id: slow });
    fake.pass();
    fake.run();
    assert!(fake.reports.last().unwrap().reading.is_empty());
}
