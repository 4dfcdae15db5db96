//! Nodes without machines: ports whose arrivals are read as lines.

use super::*;

/// For tests in which nobody falls silent: no timer decides anything.
pub(super) const SLOW: LinkTiming = LinkTiming {
    keepalive: StdDuration::from_millis(20),
    silence: StdDuration::from_secs(30),
    dial: StdDuration::from_secs(10),
    backoff_min: StdDuration::from_millis(5),
    backoff_max: StdDuration::from_millis(20),
};

/// For tests in which silence must be noticed, on a runtime whose time waits for everybody: on a busy
/// machine, silence would be heard where there is none.
pub(super) const QUICK: LinkTiming = LinkTiming {
    keepalive: StdDuration::from_millis(20),
    silence: StdDuration::from_millis(200),
    dial: StdDuration::from_millis(300),
    backoff_min: StdDuration::from_millis(5),
    backoff_max: StdDuration::from_millis(50),
};

/// Longer than anything takes; a test that hangs fails by it.
pub(super) const PATIENCE: StdDuration = StdDuration::from_secs(60);

pub(super) const CLUSTER: ClusterId = ClusterId(77);

pub(super) fn store(id: u64) -> Endpoint {
    Endpoint::Store(StoreId(id))
}

pub(super) fn config(
    node: u32,
    peers: Vec<(u32, SocketAddr)>,
    timing: LinkTiming,
) -> TransportConfig {
    TransportConfig {
        cluster: CLUSTER,
        node: NodeId(node),
        listen: "127.0.0.1:0".parse().unwrap(),
        peers: peers.into_iter().map(|(id, address)| (NodeId(id), address)).collect(),
        timing,
        insecure_peer_listen: false,
    }
}

/// A node that only has a port.
pub(super) struct Node<R: Runtime = TokioRuntime> {
    pub(super) address: SocketAddr,
    pub(super) port: Port<R>,
    pub(super) peers: Peers<R>,
    pub(super) calls: mpsc::Receiver<PeerCall>,
}

impl Node {
    /// On a port of its own. Peers with larger ids need their address; the others dial themselves.
    pub(super) async fn start(id: u32, peers: Vec<(u32, SocketAddr)>, timing: LinkTiming) -> Self {
        Self::start_at(id, "127.0.0.1:0".parse().unwrap(), peers, timing).await
    }

    pub(super) async fn start_at(
        id: u32,
        listen: SocketAddr,
        peers: Vec<(u32, SocketAddr)>,
        timing: LinkTiming,
    ) -> Self {
        Self::start_on(TokioRuntime::new(), id, listen, peers, timing).await
    }
}

impl<R: Runtime> Node<R> {
    pub(super) async fn start_on(
        runtime: R,
        id: u32,
        listen: SocketAddr,
        mut peers: Vec<(u32, SocketAddr)>,
        timing: LinkTiming,
    ) -> Self {
        let nowhere = "127.0.0.1:1".parse().unwrap();
        peers.extend(
            (1..id)
                .filter(|id| peers.iter().all(|peer| peer.0 != *id))
                .map(|id| (id, nowhere))
                .collect::<Vec<_>>(),
        );
        let config = TransportConfig { listen, ..config(id, peers, timing) };
        let Transport { address, port, peers, calls } = start(runtime, config).await.unwrap();
        Self { address, port, peers, calls }
    }

    pub(super) fn host(&self, endpoints: &[Endpoint]) {
        self.port.set_hosted(endpoints.iter().copied().collect());
    }

    /// The next arrival, as a line.
    pub(super) async fn next(&mut self) -> String {
        soon(self.next_arrival()).await.0
    }

    /// The next arrival as a line, with the permit that holds its room.
    pub(super) async fn next_arrival(
        &mut self,
    ) -> (String, Option<tokio::sync::OwnedSemaphorePermit>) {
        match self.port.next().await {
            Arrival::Up(endpoint) => (format!("up {endpoint}"), None),
            Arrival::Down(endpoint) => (format!("down {endpoint}"), None),
            Arrival::Message(envelope, permit) => {
                let what = match &envelope.message {
                    Message::Consensus { wall, .. } => format!("Consensus {}", wall.as_millis()),
                    Message::ChunkWrite(write) => {
                        format!("ChunkWrite {} of {}", write.call.0, write.data.len())
                    }
                    other => format!("{other:?}"),
                };
                (format!("{} to {}: {what}", envelope.from, envelope.to), permit)
            }
        }
    }

    /// The status of the only link.
    pub(super) fn link(&self) -> LinkStatus {
        let mut links = self.port.status();
        assert_eq!(links.len(), 1);
        links.remove(0)
    }
}

/// Node 1 with store 1, linked or about to be with node 2 with store 2.
pub(super) async fn pair() -> (Node, Node) {
    let high = Node::start(2, vec![], SLOW).await;
    high.host(&[store(2)]);
    let low = Node::start(1, vec![(2, high.address)], SLOW).await;
    low.host(&[store(1)]);
    (low, high)
}

/// What is awaited must come; when is no matter.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it never comes")
}

/// Wait until something holds.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(StdDuration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

/// A consensus message that carries a number.
pub(super) fn heartbeat(from: u64, to: u64, number: u64) -> Envelope {
    append(from, to, number, Bytes::new())
}

/// The same with an entry of this payload.
pub(super) fn append(from: u64, to: u64, number: u64, payload: Bytes) -> Envelope {
    let entry = consensus::Entry {
        index: LogIndex(1),
        term: Term(1),
        kind: consensus::EntryKind::Command,
        payload,
    };
    let entries = if entry.payload.is_empty() { vec![] } else { vec![entry] };
    let body = consensus::MessageBody::Append {
        prev_index: LogIndex(0),
        prev_term: Term(0),
        entries,
        commit: LogIndex(0),
    };
    let message = consensus::Message { from: StoreId(from), to: StoreId(to), term: Term(1), body };
    let wall = WallTime::from_millis(number);
    let message = Message::Consensus { wall, messages: vec![(RangeId(0), message)] };
    Envelope { from: store(from), to: store(to), message }
}

/// A chunk of so many bytes, with a number.
pub(super) fn chunk(from: u64, to: u64, number: u64, len: usize) -> Envelope {
    let message = Message::ChunkWrite(ChunkWrite {
        call: CallId(number),
        chunk: ChunkId::default(),
        owner: Target {
            tenant: trine_core::ids::TenantId(0),
            bucket: trine_core::ids::BucketId(1),
            key: trine_core::object::ObjectKey::parse("key").unwrap(),
        },
        epoch: MapEpoch(1),
        block_size: 65_536,
        data: Bytes::from(vec![7; len]),
        checksums: vec![Checksum(1)],
    });
    Envelope { from: store(from), to: store(to), message }
}

pub(super) fn gateway(id: u64) -> Endpoint {
    Endpoint::Gateway(GatewayId(id))
}
