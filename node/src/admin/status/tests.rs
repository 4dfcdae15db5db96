//! What is made of what processes say.

use super::super::schema::{
    DiskStatus, FormerLayout, MemoryKind, ProcessMemory, RepairStatus, Replacing,
};
use super::*;

fn replica(store: u64, leads: bool, applied: u64) -> ReplicaStatus {
    ReplicaStatus {
        range: 1,
        store,
        role: if leads { "leader" } else { "follower" }.to_owned(),
        leader: Some(1),
        term: 3,
        last: 10,
        commit: 10,
        applied: Some(applied),
        voters: vec![1, 2, 3],
        ..ReplicaStatus::default()
    }
}

fn store(id: u64, zone: &str) -> StoreStatus {
    StoreStatus {
        id,
        zone: zone.to_owned(),
        life: StoreLife::Serving,
        map_epoch: Some(1),
        repair: Some(RepairStatus { complete: true, ..RepairStatus::default() }),
        replicas: vec![replica(id, id == 1, 10)],
        ..StoreStatus::default()
    }
}

fn answers() -> Vec<Answer> {
    let answer = |(id, zone): (u64, &str)| Answer {
        node: NodeStatus {
            name: format!("{zone}1"),
            id: u32::try_from(id).unwrap(),
            zone: Some(zone.to_owned()),
            ..NodeStatus::default()
        },
        stores: vec![id],
        report: Ok(NodeReport {
            cluster: "c".to_owned(),
            bootstrap: "m".to_owned(),
            stores: vec![store(id, zone)],
            ..NodeReport::default()
        }),
    };
    [(1, "a"), (2, "b"), (3, "c")].map(answer).into()
}

fn map() -> MapStatus {
    let zones = [("a", 1), ("b", 2), ("c", 3)].map(|(zone, id)| (zone.to_owned(), vec![id]));
    MapStatus { epoch: 1, zones: zones.into(), voters: vec![1, 2, 3], ..MapStatus::default() }
}

fn composed(answers: Vec<Answer>) -> ClusterStatus {
    let committed = commits(&answers);
    compose("a1", "c", "m", answers, Ok(map()), &map(), &committed)
}

/// What is missing after a change to the report of store 2's node.
fn missing(change: impl Fn(&mut NodeReport)) -> String {
    let mut answers = answers();
    change(answers[1].report.as_mut().unwrap());
    let status = composed(answers);
    assert_eq!(status.redundancy.full, status.redundancy.missing.is_empty());
    status.redundancy.missing.join("\n")
}

/// Store 2 is drained in favour of 4, which nobody else of the zone has heard of.
#[test]
fn data_that_moves_is_told_of_until_the_map_is_proven() {
    let weights: BTreeMap<u64, u32> = [(1, 1), (2, 0), (3, 1), (4, 2)].into();
    let before = FormerLayout { epoch: 1, zone: "b".to_owned(), weights: [(2, 1)].into() };
    let mut map = MapStatus { epoch: 2, weights, former: vec![before], ..map() };
    map.zones.insert("b".to_owned(), vec![2, 4]);
    let with = |map: &MapStatus, proven: [u64; 4], life: StoreLife| {
        let mut answers = answers();
        for (answer, proven) in answers.iter_mut().zip(proven) {
            let store = &mut answer.report.as_mut().unwrap().stores[0];
            store.map_epoch = Some(2);
            store.repair.as_mut().unwrap().proven = proven;
        }
        let report = answers[1].report.as_mut().unwrap();
        report.stores[0].life = life;
        let repair = RepairStatus { complete: true, proven: proven[3], ..RepairStatus::default() };
        let new = StoreStatus {
            map_epoch: Some(2),
            repair: Some(repair),
            replicas: Vec::new(),
            ..store(4, "b")
        };
        report.stores.push(new);
        let committed = commits(&answers);
        let status = compose("a1", "c", "m", answers, Ok(map.clone()), map, &committed);
        (status.redundancy.missing.join("\n"), super::super::text::status(&status))
    };
    let (missing, text) = with(&map, [2, 0, 2, 1], StoreLife::Serving);
    assert!(
        missing.contains("store-4 may lack data") && missing.contains("1 changes"),
        "{missing}"
    );
    assert!(!missing.contains("store-2"), "what a drained one has compared is nobody's concern");
    assert!(text.contains("zone b moves since epoch 2: its stores had weights 2:1"), "{text}");
    assert!(
        text.contains("at stores 4") && text.contains("store 2 at b1: serving, drained"),
        "{text}"
    );
    let (missing, text) = with(&map, [2; 4], StoreLife::Serving);
    assert_eq!(missing, "data is moving: 1 changes of the cluster's map are not proven yet");
    assert!(text.contains("all have it"), "{text}");
    // A drained store may go when that is noted down, unless it votes.
    map.former.clear();
    assert_eq!(with(&map, [0; 4], StoreLife::Serving).0, "");
    assert!(with(&map, [0; 4], StoreLife::Stopped).0.contains("is stopped"));
    map.voters = vec![1, 3, 4];
    assert!(!with(&map, [0; 4], StoreLife::Stopped).0.contains("is stopped"));
}

#[test]
fn a_whole_cluster_lacks_nothing() {
    let status = composed(answers());
    assert_eq!(status.redundancy, Redundancy { full: true, missing: Vec::new() });
    assert_eq!(status.ranges[0].leader, Some(1));
    assert!(status.zones.iter().all(|zone| zone.serving));
    assert_eq!(status.backlog, Backlog::default());
}

#[test]
fn whatever_is_missing_is_told() {
    type Change = fn(&mut NodeReport);
    let cases: &[(Change, &str)] = &[
        (|r| r.cluster = "x".to_owned(), "node b1: it belongs to another cluster"),
        (|r| r.bootstrap = "x".to_owned(), "give all nodes the same [[nodes]]"),
        (|r| r.stores.clear(), "store-2 (zone b, node b1) is not heard of"),
        (|r| r.stores[0].life = StoreLife::Lost, "store-2 (zone b, node b1) is lost"),
        (|r| r.stores[0].life = StoreLife::Stopped, "is stopped"),
        (|r| r.stores[0].repair = None, "does not say which copies"),
        (|r| r.stores[0].repair = Some(RepairStatus::default()), "is comparing its copies"),
        (|r| r.stores[0].map_epoch = Some(0), "has not yet heard"),
        (|r| r.stores[0].replicas[0].suspect = true, "distrusts its log of range-1"),
        (|r| r.stores[0].replicas[0].applied = Some(7), "store-2 is 3 entries behind store-1"),
        (|r| r.stores[0].replicas.clear(), "no replica at store-2"),
        (|r| r.replacing.push(Replacing::default()), "is to take the place of"),
    ];
    for (change, said) in cases {
        let missing = missing(*change);
        assert!(missing.contains(said), "{said}: {missing}");
    }
    let lacking = missing(|report| {
        let repair = RepairStatus { missing: 5, complete: false, ..RepairStatus::default() };
        report.stores[0].repair = Some(repair);
    });
    assert!(lacking.contains("lacks 5 copies"), "{lacking}");
}

#[test]
fn a_node_that_is_silent_is_shown_with_its_stores() {
    let mut answers = answers();
    answers[0].report = Err("no link to node-1 stands".to_owned());
    let status = composed(answers);
    assert!(!status.redundancy.full);
    assert!(!status.nodes[0].answers);
    assert_eq!(status.stores[0].life, StoreLife::Unknown);
    assert_eq!((status.stores[0].node.as_str(), status.stores[0].zone.as_str()), ("a1", "a"));
    assert_eq!(status.ranges[0].leader, None);
    assert_eq!(status.zones[0].stores_serving, 0);
}

#[test]
fn a_map_that_nobody_tells_is_not_taken_for_full() {
    let status =
        compose("a1", "c", "m", answers(), Err("no quorum".to_owned()), &map(), &BTreeMap::new());
    assert!(!status.redundancy.full);
    assert_eq!(status.map, None);
    assert!(status.redundancy.missing[0].contains("no quorum"));
}

#[test]
fn a_replaced_store_is_shown_no_more_and_its_successor_counts() {
    let mut map = map();
    map.zones.insert("b".to_owned(), vec![4]);
    (map.voters, map.retired) = (vec![1, 3, 4], vec![2]);
    let mut answers = answers();
    answers[1].report.as_mut().unwrap().stores.push(store(4, "b"));
    let status = compose("a1", "c", "m", answers, Ok(map.clone()), &map, &BTreeMap::new());
    let ids: Vec<u64> = status.stores.iter().map(|store| store.id).collect();
    assert_eq!(ids, [1, 3, 4]);
    let missing = status.redundancy.missing.join("\n");
    assert!(missing.contains("has the voters [1, 2, 3]"), "{missing}");
}

#[test]
fn of_two_that_believe_to_lead_the_newer_term_does() {
    let mut answers = answers();
    let report = answers[1].report.as_mut().unwrap();
    report.stores[0].replicas[0].role = "leader".to_owned();
    report.stores[0].replicas[0].term = 4;
    assert_eq!(composed(answers).ranges[0].leader, Some(2));
}

#[test]
fn a_field_that_a_later_version_adds_is_passed_over() {
    let text = r#"{"life": "hibernating", "id": 7, "mood": "good"}"#;
    let store: StoreStatus = serde_json::from_str(text).unwrap();
    assert_eq!((store.id, store.life), (7, StoreLife::Unknown));
}

#[test]
fn a_full_disk_is_told_and_redundancy_is_not_full() {
    for (room, what) in [(Room::Deletes, "no new data"), (Room::Housekeeping, "not even deletes")] {
        let full = |report: &mut NodeReport| {
            report.stores[0].disk = Some(DiskStatus { room, ..DiskStatus::default() });
        };
        let missing = missing(full);
        assert!(missing.contains("store-2") && missing.contains(what), "{missing}");
    }
    let roomy = |report: &mut NodeReport| {
        report.stores[0].disk = Some(DiskStatus { room: Room::Data, ..DiskStatus::default() });
    };
    assert_eq!(missing(roomy), "");
}

#[test]
fn memory_is_shown_by_kind_with_its_sum() {
    let kind = |name: &str, bytes, limit| MemoryKind { name: name.to_owned(), bytes, limit };
    let mut answers = answers();
    for answer in &mut answers {
        let report = answer.report.as_mut().unwrap();
        report.memory = Some(ProcessMemory {
            resident_bytes: Some(80 << 20),
            kinds: vec![kind("bodies", 3 << 20, Some(64 << 20)), kind("hints", 0, Some(9))],
            ..ProcessMemory::default()
        });
        report.stores[0].memory = vec![kind("memtables", 5 << 20, None), kind("b", 1 << 20, None)];
    }
    let text = super::super::text::status(&composed(answers));
    assert!(text.contains("80.0 MiB resident"), "{text}");
    assert!(text.contains("3.0 MiB counted (bodies 3.0 MiB of 64.0 MiB)"), "{text}");
    assert!(text.contains("memory: 6.0 MiB counted (memtables 5.0 MiB, b 1.0 MiB)"), "{text}");
}
