//! Three drivers, each with a real store on a real disk and a gateway, joined by sockets only.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinHandle, JoinSet};
use trine_core::cluster::{
    ClusterMap, Cut, GatewayConfig, Geometry, Slot, StoreConfig, StoreLimits, StoreTiming, ZoneMap,
};
use trine_core::gateway::Gateway;
use trine_core::ids::{ClusterId, TenantId, ZoneId};
use trine_core::level::Levels;
use trine_core::object::{
    Attributes, BucketName, ChecksumAlgorithm, ObjectKey, Owner, WriteConditions,
};
use trine_core::request::{
    ApiError, BodyDigest, BucketPath, CopiedObject, CopyPurpose, CopyRequest, Copying, GetRequest,
    ObjectPath, PutRequest, ReadConditions, Reply, Request,
};
use trine_core::store::Store;
use trine_s3::front::Front;

use super::*;
use crate::runtime::tokio::TokioRuntime;
use crate::transport::{self, LinkTiming, NodeId, TransportConfig};

const GEOMETRY: Geometry = Geometry {
    capacity: 4 << 30,
    journal: 256 << 20,
    journal_piece: 4 << 20,
    segment: 16 << 20,
    tree_block: 16 << 10,
};

/// A disk that some thousand objects fill, and limits that fit it.
const SMALL: (Geometry, StoreLimits) = (
    Geometry {
        capacity: 128 << 20,
        journal: 16 << 20,
        journal_piece: 1 << 20,
        segment: 1 << 20,
        ..GEOMETRY
    },
    StoreLimits {
        memtable_bytes: 1 << 20,
        journal_reserve: 4 << 20,
        tombstone_lag: 100,
        ..StoreLimits::PRODUCTION
    },
);

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn map() -> ClusterMap {
    let zone = |id: u8| {
        let slots = vec![Slot { store: StoreId(u64::from(id) + 1), weight: 1 }];
        ZoneMap { zone: ZoneId(id), slots }
    };
    ClusterMap::bootstrap(64, (0..3).map(zone).collect())
}

fn store_config(id: u64, (geometry, limits): (Geometry, StoreLimits)) -> StoreConfig {
    StoreConfig {
        cluster: ClusterId(5),
        store: StoreId(id),
        zone: ZoneId(u8::try_from(id - 1).unwrap()),
        map: map(),
        geometry,
        limits,
        timing: StoreTiming::DEFAULT,
        levels: Levels::OWN,
        seed: id,
    }
}

fn gateway_config(id: u64) -> GatewayConfig {
    GatewayConfig {
        cluster: ClusterId(5),
        gateway: GatewayId(id),
        zone: Some(ZoneId(u8::try_from(id - 1).unwrap())),
        map: map(),
        cut: Cut::PRODUCTION,
        body_budget_bytes: 64 << 20,
        body_wait: Duration::from_secs(2),
        requests_max: 100,
        call_timeout: Duration::from_secs(1),
        hedge_after: Duration::from_millis(100),
        request_timeout: Duration::from_secs(20),
        beat: Duration::from_secs(1),
        levels: Levels::OWN,
        nonce: u128::from(id),
        seed: id,
    }
}

struct Node {
    front: Front,
    handle: Handle<TokioRuntime, Store>,
    address: SocketAddr,
    disk: PathBuf,
    runtime: TokioRuntime,
    task: JoinHandle<Result<(), DriverError>>,
}

impl Node {
    /// Node `id` with store `id` and gateway `id`.
    async fn start(directory: &tempfile::TempDir, id: u32, peers: &[(u32, SocketAddr)]) -> Self {
        Self::with(directory, id, peers, (GEOMETRY, StoreLimits::PRODUCTION)).await
    }

    async fn with(
        directory: &tempfile::TempDir,
        id: u32,
        peers: &[(u32, SocketAddr)],
        sizes: (Geometry, StoreLimits),
    ) -> Self {
        let runtime = TokioRuntime::new();
        let known = |id: u32| peers.iter().find(|peer| peer.0 == id).map(|peer| peer.1);
        let nowhere = "127.0.0.1:1".parse().unwrap();
        let config = TransportConfig {
            cluster: ClusterId(5),
            node: NodeId(id),
            listen: "127.0.0.1:0".parse().unwrap(),
            peers: (1..=3)
                .filter(|peer| *peer != id)
                .map(|peer| (NodeId(peer), known(peer).unwrap_or(nowhere)))
                .collect(),
            timing: LinkTiming::DEFAULT,
            insecure_peer_listen: false,
        };
        let transport = transport::start(runtime.clone(), config).await.unwrap();
        let completions = Completions::new();
        let (store, gateway) = (StoreId(u64::from(id)), GatewayId(u64::from(id)));
        let path = directory.path().join(id.to_string());
        let disk = runtime.open_disk(&path, sizes.0.capacity, completions.sink(store)).unwrap();
        let machine = Store::new(store_config(store.0, sizes));
        let part = StorePart { id: store, machine, disk };
        let (front, calls) = Front::new();
        let (driver, handle) = Driver::new(
            runtime.clone(),
            completions,
            vec![part],
            (gateway, Gateway::new(gateway_config(gateway.0))),
            calls,
            Some(transport.port),
        );
        let task = tokio::spawn(driver.run());
        Self { front, handle, address: transport.address, disk: path, runtime, task }
    }

    async fn create_bucket(&self) {
        let owner = Owner::default();
        let request = Request::CreateBucket { bucket: bucket(), owner };
        let mut exchange = self.front.open(request).unwrap();
        match soon(exchange.next()).await {
            Some(FrontReply::Reply(Ok(Reply::Done))) => exchange.ended(),
            other => panic!("{other:?}"),
        }
    }

    async fn put(&self, key: &str, body: &Bytes) {
        self.try_put(key, body).await.unwrap();
    }

    async fn try_put(&self, key: &str, body: &Bytes) -> Result<(), ApiError> {
        let mut exchange = self
            .front
            .open(Request::Put(PutRequest {
                path: path(key),
                owner: Owner::default(),
                attributes: Attributes::default(),
                tags: vec![],
                conditions: WriteConditions::default(),
                length: Some(body.len() as u64),
            }))
            .unwrap();
        let mut rest = body.clone();
        loop {
            match soon(exchange.next()).await {
                Some(FrontReply::NeedBody(credit)) if !rest.is_empty() => {
                    let len = rest.len().min(usize::try_from(credit).unwrap());
                    exchange.body(rest.split_to(len));
                    if rest.is_empty() {
                        exchange.body_end(BodyDigest::default());
                    }
                }
                Some(FrontReply::NeedBody(_)) => {}
                Some(FrontReply::Reply(reply)) => {
                    exchange.ended();
                    return reply.map(|reply| assert!(matches!(reply, Reply::Put { .. })));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn delete(&self, keys: Vec<String>) {
        let keys = keys.iter().map(|key| ObjectKey::parse(key).unwrap()).collect();
        let mut exchange = self.front.open(Request::DeleteMany { bucket: bucket(), keys }).unwrap();
        match soon(exchange.next()).await {
            Some(FrontReply::Reply(Ok(Reply::Deleted(results)))) => {
                assert!(results.iter().all(Result::is_ok), "{results:?}");
                exchange.ended();
            }
            other => panic!("{other:?}"),
        }
    }

    async fn get(&self, key: &str) -> Vec<u8> {
        let mut exchange = self
            .front
            .open(Request::Get(GetRequest {
                path: path(key),
                range: None,
                part_number: None,
                conditions: ReadConditions::default(),
            }))
            .unwrap();
        let mut body = Vec::new();
        loop {
            match soon(exchange.next()).await {
                Some(FrontReply::Reply(Ok(Reply::Object { .. }))) => {}
                Some(FrontReply::Body(bytes)) => {
                    exchange.taken(bytes.len() as u64);
                    body.extend_from_slice(&bytes);
                }
                Some(FrontReply::BodyEnd) => {
                    exchange.ended();
                    return body;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Copy, and hash as the edge does. `put` has told no digest, so that there is none to compute.
    async fn copy(&self, from: &str, to: &str) {
        let object = CopiedObject {
            owner: Owner::default(),
            attributes: None,
            website_redirect: None,
            tags: None,
            checksum: Some(ChecksumAlgorithm::Crc32),
            conditions: WriteConditions::default(),
        };
        let request = Request::Copy(CopyRequest {
            source: path(from),
            source_conditions: ReadConditions::default(),
            path: path(to),
            purpose: CopyPurpose::Object(Box::new(object)),
        });
        let mut exchange = self.front.open(request).unwrap();
        let mut left = 0;
        loop {
            match soon(exchange.next()).await {
                Some(FrontReply::Copying(Copying::Begun { length, hash: Some(_) })) => {
                    left = length;
                }
                Some(FrontReply::Copying(Copying::Alive)) => {}
                Some(FrontReply::Body(bytes)) => {
                    let length = bytes.len() as u64;
                    exchange.taken(length);
                    left -= length;
                    if left == 0 {
                        exchange.body_end(BodyDigest::default());
                    }
                }
                Some(FrontReply::Reply(Ok(Reply::Copied { .. }))) => return exchange.ended(),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn status(&self) -> Status {
        self.handle.status().await.unwrap()
    }
}

fn bucket() -> BucketPath {
    BucketPath { tenant: TenantId(0), name: BucketName::parse("a-bucket").unwrap() }
}

fn path(key: &str) -> ObjectPath {
    ObjectPath { bucket: bucket(), key: ObjectKey::parse(key).unwrap() }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it never comes")
}

async fn three(directory: &tempfile::TempDir) -> [Node; 3] {
    let third = Node::start(directory, 3, &[]).await;
    let second = Node::start(directory, 2, &[(3, third.address)]).await;
    let peers = [(2, second.address), (3, third.address)];
    [Node::start(directory, 1, &peers).await, second, third]
}

fn bytes(len: usize) -> Bytes {
    (0..len).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_joined_by_sockets_serve_and_go_on_when_one_dies() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second, third] = three(&directory).await;
    let (small, large) = (bytes(1000), bytes((3 << 20) + 17));
    first.create_bucket().await;
    first.put("small", &small).await;
    second.put("large", &large).await;
    third.copy("large", "copied").await;
    third.copy("small", "small-copied").await;
    // Any node answers any request.
    for node in [&first, &second, &third] {
        assert_eq!(node.get("small").await, small);
        assert_eq!(node.get("large").await, large);
        assert_eq!(node.get("copied").await, large);
        assert_eq!(node.get("small-copied").await, small);
    }
    let status = second.status().await;
    assert_eq!(status.links.len(), 2);
    for link in &status.links {
        assert!(link.up, "{link:?}");
        assert_eq!(link.endpoints.len(), 2, "a store and a gateway: {link:?}");
    }
    assert_eq!(status.stores[0].life, StoreLife::Serving);
    assert_eq!(status.stores[0].zone, Some(ZoneId(1)));
    // Whichever of them leads: each dies once, in a cluster of its own in the tests below.
    third.task.abort();
    for node in [&first, &second] {
        let key = format!("after-{}", node.address.port());
        node.put(&key, &large).await;
        assert_eq!(node.get(&key).await, large);
        assert_eq!(node.get("small").await, small);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_goes_on_without_its_leader() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(&directory).await;
    nodes[0].create_bucket().await;
    nodes[1].put("key", &bytes(5000)).await;
    let mut leader = None;
    for (at, node) in nodes.iter().enumerate() {
        if node.status().await.stores[0].line.contains("leader") {
            leader = Some(at);
        }
    }
    let leader = leader.expect("one of them leads");
    nodes[leader].task.abort();
    for (at, node) in nodes.iter().enumerate() {
        if at != leader {
            assert_eq!(node.get("key").await, bytes(5000));
            node.put(&format!("key-{at}"), &bytes(200_000)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_stopped_and_started_while_the_others_serve() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second, third] = three(&directory).await;
    first.create_bucket().await;
    let body = bytes(2 << 20);
    second.put("before", &body).await;
    assert_eq!(third.handle.stop_store(StoreId(3)).await, Ok(()));
    assert_eq!(third.handle.stop_store(StoreId(3)).await, Err(StopError::NotRunning(StoreId(3))));
    assert!(third.status().await.stores.is_empty());
    // Its node has a gateway still, which the stores of the others serve.
    third.put("without", &body).await;
    assert_eq!(first.get("without").await, body);
    // The file was let go: it can be opened at once.
    let sink = third.handle.sink(StoreId(3));
    let disk = third.runtime.open_disk(&third.disk, GEOMETRY.capacity, sink).unwrap();
    let part = StorePart {
        id: StoreId(3),
        machine: Store::new(store_config(3, (GEOMETRY, StoreLimits::PRODUCTION))),
        disk,
    };
    assert_eq!(third.handle.start_store(part).await, Ok(()));
    let serving = async {
        while third.status().await.stores[0].life != StoreLife::Serving {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(serving).await;
    // Without the first there is a quorum again, and only with this store.
    first.task.abort();
    third.put("after", &body).await;
    assert_eq!(second.get("after").await, body);
    assert_eq!(second.get("without").await, body);
}

/// Objects that live in rows: what of them is deleted is freed by merges.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_objects_again_when_others_are_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let third = Node::with(&directory, 3, &[], SMALL).await;
    let second = Node::with(&directory, 2, &[(3, third.address)], SMALL).await;
    let peers = [(2, second.address), (3, third.address)];
    let first = Arc::new(Node::with(&directory, 1, &peers, SMALL).await);
    first.create_bucket().await;
    let body = bytes(16 << 10);
    for round in 0..3 {
        let mut written = Vec::new();
        let mut refusal = None;
        while refusal.is_none() {
            let mut puts = JoinSet::new();
            for n in 0..32 {
                let (node, body) = (first.clone(), body.clone());
                let key = format!("{round}/{}", written.len() + n);
                puts.spawn(async move {
                    let result = node.try_put(&key, &body).await;
                    (key, result)
                });
            }
            for (key, result) in puts.join_all().await {
                match result {
                    Ok(()) => written.push(key),
                    Err(error) => refusal = Some(error),
                }
            }
            assert!(written.len() < 20_000, "the disk is never full");
        }
        assert!(matches!(refusal, Some(ApiError::StorageFull(_))), "{refusal:?}");
        assert!(written.len() > 1_000, "full after {} objects in round {round}", written.len());
        assert_eq!(second.get(&written[0]).await, body);
        for some in written.chunks(500) {
            third.delete(some.to_vec()).await;
        }
        let freed = async {
            while first.try_put("again", &body).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon(freed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_is_down_for_its_peers_and_nodes_call_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second, third] = three(&directory).await;
    first.create_bucket().await;
    // Nobody took the receiver of calls there.
    let limit = Duration::from_secs(30);
    let linked = async {
        while first.status().await.links.iter().any(|link| !link.up) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(linked).await;
    let answer = first.handle.peer_call(NodeId(2), Bytes::from_static(b"?"), limit).await;
    assert_eq!(answer, Err(transport::PeerCallError::Refused(NodeId(2))));
    third.handle.drain(third.runtime.now());
    assert_eq!(soon(third.task).await.unwrap(), Ok(()));
    let down = async {
        while second.status().await.links.iter().any(|link| link.node == NodeId(3) && link.up) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(down).await;
    first.put("key", &bytes(100)).await;
}
