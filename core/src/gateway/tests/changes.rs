//! What gateways make of a cluster that changes: stores replaced, leaders lost, copies missed.

use super::bytes;
use super::fake::*;
use crate::cluster::{Layout, Slot};
use crate::gateway::*;
use crate::ids::{ChunkId, MapEpoch};
use crate::object::Body;
use crate::request::{ApiError, AuditError, AuditPage, Reply};

/// Fill a slot with another store, as the range does.
pub(super) fn replace(fake: &mut Fake, old: u64, new: u64) {
    let slots = fake.map.zones.iter_mut().flat_map(|zone| &mut zone.slots);
    for store in slots.map(|slot| &mut slot.store).chain(&mut fake.map.voters) {
        if *store == StoreId(old) {
            *store = StoreId(new);
        }
    }
    fake.map.epoch = MapEpoch(fake.map.epoch.0 + 1);
    fake.floor = fake.map.epoch;
}

/// Let so much time pass.
fn let_pass(fake: &mut Fake, time: Duration) {
    let end = fake.now + time;
    while fake.gateway.next_deadline().is_some_and(|deadline| deadline.at <= end) {
        fake.pass();
    }
    fake.now = end;
}

#[test]
fn a_put_outlives_the_replacement_of_a_store_that_has_its_chunks() {
    for is_late in [false, true] {
        let mut fake = Fake::with_bucket(1);
        let_pass(&mut fake, Duration::from_millis(10));
        fake.mute.insert(StoreId(3));
        let body = bytes(3 * CUT.chunk as usize);
        let id = fake.open(put("k", Some(body.len() as u64)));
        fake.feed(id, &body);
        // Each chunk is on stores 1 and 2; then 2 is lost for good.
        replace(&mut fake, 2, 4);
        fake.leader = StoreId(1);
        fake.dead.insert(StoreId(2));
        if !is_late {
            // A beat brings the news before the body ends.
            let_pass(&mut fake, Duration::from_secs(2));
        }
        fake.end(id);
        assert!(matches!(fake.wait(id), Ok(Reply::Put { .. })));
        assert_eq!(fake.gateway.shared.map.epoch, MapEpoch(2));
        let (record, _) = fake.objects.values().next().unwrap();
        let Body::Blobs(parts) = &record.body else { panic!() };
        let blob = parts[0].blob.clone().unwrap();
        assert_eq!((blob.epoch, blob.stores), (MapEpoch(2), vec![StoreId(1), StoreId(4)]));
        for number in 0..3 {
            let chunk = ChunkId { blob: blob.blob, number };
            assert!(fake.chunks.contains_key(&(StoreId(4), chunk)), "{number}");
        }
        assert_eq!(fake.get("k", None), Ok(body));
    }
}

#[test]
fn a_put_whose_chunks_cannot_be_made_good_is_given_up_without_effect() {
    let mut fake = Fake::with_bucket(2);
    fake.mute.insert(StoreId(3));
    let body = bytes(2 * CUT.chunk as usize);
    let id = fake.open(put("k", Some(body.len() as u64)));
    fake.feed(id, &body);
    replace(&mut fake, 2, 4);
    fake.leader = StoreId(1);
    fake.dead.extend([StoreId(2), StoreId(4)]);
    fake.end(id);
    assert!(matches!(fake.wait(id), Err(ApiError::Unavailable(_))));
    assert!(fake.objects.is_empty());
    assert_eq!(fake.gateway.shared.budget.used(), 0);
}

#[test]
fn a_store_that_missed_copies_is_told_when_it_is_well_again() {
    let mut fake = Fake::with_bucket(3);
    fake.dead.insert(StoreId(3));
    fake.event(GatewayEvent::LinkDown(Endpoint::Store(StoreId(3))));
    let body = bytes(4 * CUT.chunk as usize);
    fake.put("k", &body).unwrap();
    let_pass(&mut fake, Duration::from_secs(2));
    assert!(fake.hints.is_empty(), "it would not hear them");
    fake.dead.clear();
    fake.event(GatewayEvent::LinkUp(Endpoint::Store(StoreId(3))));
    let_pass(&mut fake, Duration::from_secs(2));
    let held = |fake: &Fake| fake.chunks.keys().filter(|(store, _)| *store == StoreId(3)).count();
    assert_eq!(held(&fake), 4);
    assert_eq!(fake.gateway.shared.hints.waiting(), 0);
    assert!(fake.hints.iter().all(|(store, _)| *store == StoreId(3)));
}

#[test]
fn a_read_that_meets_a_bad_copy_reports_it_to_its_store() {
    let mut fake = Fake::with_bucket(4);
    let body = bytes(3 * CUT.chunk as usize);
    fake.put("k", &body).unwrap();
    let lost: Vec<_> =
        fake.chunks.keys().filter(|(store, _)| *store == StoreId(1)).copied().collect();
    for chunk in &lost[..2] {
        fake.chunks.remove(chunk);
    }
    fake.hints.clear();
    assert_eq!(fake.get("k", None), Ok(body.clone()));
    assert_eq!(fake.hints, lost[..2], "the gateway reads in the zone of store 1");
    fake.hints.clear();
    assert_eq!(fake.get("k", None), Ok(body));
    assert!(fake.hints.is_empty(), "the copies are good again");
}

#[test]
fn a_store_that_knows_of_the_fence_ends_the_session() {
    let mut fake = Fake::with_bucket(5);
    let body = bytes(40 * CUT.chunk as usize);
    fake.put("k", &body).unwrap();
    let id = fake.open(get("k", None));
    fake.wait(id).unwrap();
    let before = fake.gateway.shared.session;
    // Fenced in the range; the next chunk read meets a store that has heard of it.
    fake.live = SessionId(99);
    fake.nonces.clear();
    let len = fake.seen[&id].body.len() as u64;
    fake.event(GatewayEvent::BodyTaken { id, len });
    fake.run();
    assert!(fake.seen[&id].failed, "bytes of an object that may be gone are not given");
    assert_ne!(fake.gateway.shared.session, before);
}

#[test]
fn a_lost_leader_costs_an_election_and_little_more() {
    let election = Duration::from_millis(150);
    for is_silent in [false, true] {
        let mut fake = Fake::with_bucket(6);
        fake.put("k", b"v").unwrap();
        let begun = fake.now;
        fake.dead.insert(fake.leader);
        if !is_silent {
            fake.event(GatewayEvent::LinkDown(Endpoint::Store(fake.leader)));
        }
        fake.leaderless = true;
        let before = fake.range_calls;
        let ids: Vec<_> = (0..40).map(|_| fake.open(get("k", None))).collect();
        let_pass(&mut fake, election);
        let asked = fake.range_calls - before;
        assert!((3..20).contains(&asked), "one call asks for all: {asked}");
        (fake.leader, fake.leaderless) = (StoreId(3), false);
        for id in ids {
            assert!(fake.wait(id).is_ok());
        }
        let waited = fake.now.since(begun);
        assert!(waited < election + Duration::from_millis(70), "{waited:?}, silent: {is_silent}");
        assert_eq!(fake.gateway.shared.calls.leader(), Some(StoreId(3)));
    }
}

#[test]
fn a_slow_answer_of_a_store_that_lives_starts_no_search() {
    let mut fake = Fake::with_bucket(7);
    fake.hold_answers = true;
    let id = fake.open(put("k", Some(1)));
    fake.feed(id, b"v");
    fake.end(id);
    for _ in 0..30 {
        let_pass(&mut fake, Duration::from_millis(5));
        let other = fake.open(get("nothing", None));
        assert!(fake.wait(other).is_err());
    }
    assert!(fake.range_calls < 50, "{}", fake.range_calls);
    fake.hold_answers = false;
    assert!(matches!(fake.wait(id), Ok(Reply::Put { .. })));
    assert_eq!(fake.applied, 2, "it took effect once");
}

fn audit(fake: &mut Fake, after: Option<bytes::Bytes>, limit: u32) -> AuditPage {
    match fake.ask(Request::Audit { after, limit }) {
        Ok(Reply::Audit(page)) => *page,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_audit_looks_at_every_copy_and_says_what_is_wrong_with_it() {
    let mut fake = Fake::with_bucket(8);
    for (key, chunks) in [("a", 2), ("b", 0), ("c", 40)] {
        fake.put(key, &bytes(chunks * CUT.chunk as usize + 1)).unwrap();
    }
    let all = audit(&mut fake, None, 100);
    assert_eq!((all.objects, all.chunks, all.copies_good), (3, 44, 132));
    assert_eq!((all.bad.len(), all.unreachable.len(), all.next), (0, 0, None));
    // Page by page.
    let first = audit(&mut fake, None, 2);
    assert_eq!((first.objects, first.chunks), (2, 3));
    let rest = audit(&mut fake, first.next.clone(), 2);
    assert!(first.next.is_some());
    assert_eq!((rest.objects, rest.chunks, rest.next), (1, 41, None));

    let chunk = |fake: &Fake, store: u64, at: usize| {
        *fake.chunks.keys().filter(|(id, _)| *id == StoreId(store)).nth(at).unwrap()
    };
    let (lost, short, other) = (chunk(&fake, 1, 0), chunk(&fake, 2, 1), chunk(&fake, 3, 2));
    fake.chunks.remove(&lost);
    let copy = fake.chunks.get_mut(&short).unwrap();
    copy.0 = copy.0.slice(1..);
    fake.chunks.get_mut(&other).unwrap().1[0].0 ^= 1;
    let found = audit(&mut fake, None, 100);
    let mut bad: Vec<_> = found.bad.iter().map(|it| ((it.store, it.chunk), it.error)).collect();
    bad.sort_by_key(|(copy, _)| *copy);
    let expected = u64::from(CUT.chunk);
    let length = AuditError::Length { found: expected - 1, expected };
    let wanted = [(lost, AuditError::Missing), (short, length), (other, AuditError::Differs)];
    assert_eq!(bad, wanted);
    assert_eq!(found.copies_good, 129);
    assert!(found.bad.iter().all(|it| it.key == "bucket/a"), "{:?}", found.bad);
    fake.rotten.insert(StoreId(2));
    assert_eq!(
        audit(&mut fake, None, 100).bad.len(),
        47,
        "all copies of store 2, and of two that differ neither counts"
    );
}

/// An answer that took longer than `trine admin` waits came for each page with an object of some
/// hundred GB: such an audit never got past it.
#[test]
fn an_audit_of_a_large_object_goes_over_several_pages() {
    let mut fake = Fake::with_bucket(8);
    for (key, chunks) in [("a", 3), ("b", 1200), ("c", 2)] {
        fake.put(key, &bytes(chunks * CUT.chunk as usize)).unwrap();
    }
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = audit(&mut fake, after, 100);
        assert_eq!((page.copies_good, page.bad.len()), (3 * page.chunks, 0));
        pages.push((page.objects, page.chunks));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [(2, 512), (0, 512), (1, 181)]);

    // What was written over between two pages is read from its beginning; what was deleted, not at all.
    let first = audit(&mut fake, None, 100);
    fake.put("b", &bytes(600 * CUT.chunk as usize)).unwrap();
    let second = audit(&mut fake, first.next.clone(), 100);
    assert_eq!((second.objects, second.chunks), (1, 512));
    fake.objects.retain(|(_, key), _| key != "b");
    let last = audit(&mut fake, second.next, 100);
    assert_eq!((last.objects, last.chunks, last.next), (1, 2, None));
}

/// All data has moved by the map, and none in fact.
#[test]
fn former_owners_are_read_from_while_the_present_ones_have_nothing() {
    let mut fake = Fake::with_bucket(10);
    let body = bytes(6 * CUT.chunk as usize);
    fake.put("k", &body).unwrap();
    let epoch = fake.map.epoch;
    for (zone, new) in fake.map.zones.iter_mut().zip(4..) {
        fake.map.unproven.push(Layout { epoch, zone: zone.clone() });
        zone.slots[0].weight = 0;
        zone.slots.push(Slot { store: StoreId(new), weight: 1 });
    }
    fake.map.epoch = MapEpoch(epoch.0 + 1);
    let_pass(&mut fake, Duration::from_secs(2));
    assert_eq!(fake.gateway.shared.map, fake.map);
    fake.hints.clear();
    assert_eq!(fake.get("k", None), Ok(body.clone()));
    assert!(!fake.hints.is_empty());
    assert!(fake.hints.iter().all(|(store, _)| store.0 >= 4), "{:?}", fake.hints);
    // Those that keep it are asked first, if they have it.
    let copies = fake.chunks.clone();
    for ((store, chunk), copy) in copies {
        fake.chunks.insert((StoreId(store.0 + 3), chunk), copy);
    }
    fake.dead.extend([1, 2, 3].map(StoreId).into_iter().filter(|id| *id != fake.leader));
    fake.mute.insert(fake.leader);
    let missing = fake.gateway.shared.counts.copies_missing;
    assert_eq!(fake.get("k", None), Ok(body));
    assert_eq!(fake.gateway.shared.counts.copies_missing, missing);
}

#[test]
fn an_audit_is_not_begun_at_a_place_that_is_none() {
    let mut fake = Fake::with_bucket(8);
    for text in ["", "x", "\u{1}\u{2}"] {
        let asked = Request::Audit { after: Some(bytes::Bytes::from(text)), limit: 9 };
        let error = fake.ask(asked).unwrap_err();
        assert!(matches!(error, ApiError::InvalidArgument(_)), "{error:?}");
    }
}

#[test]
fn an_audit_names_the_stores_that_do_not_answer() {
    let mut fake = Fake::with_bucket(9);
    fake.put("a", &bytes(30 * CUT.chunk as usize)).unwrap();
    fake.dead.insert(StoreId(3));
    let found = audit(&mut fake, None, 100);
    assert_eq!((found.chunks, found.copies_good), (30, 60));
    assert_eq!((found.bad.len(), found.unreachable), (0, vec![StoreId(3)]));
}
