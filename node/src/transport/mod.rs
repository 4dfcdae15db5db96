//! Links between `trine` processes: framed TCP, two connections to each peer.
//!
//! A *link* joins two nodes. It has a *control* connection for consensus, calls and answers, and a
//! *bulk* connection for bytes of chunks, so that bulk never stands before a heartbeat. A link stands
//! when both stand, and is over when either is: the machines then hear `LinkDown` and, when it stands
//! again, `LinkUp`, and ask again what was under way. (A link that lived on without its bulk
//! connection would let each chunk run into its timeout instead.)
//!
//! It promises: nothing is delivered before both ends know that they belong together; a message's
//! sender is an endpoint that the peer hosts; messages of one connection come in order, or not at all;
//! a dead peer is noticed, whether it says so or falls silent; no queue grows beyond its bound. It
//! leaves to the machines to ask again for what was lost.
//!
//! Of two nodes the one with the smaller id dials; `handshake` says why. Nodes come, move and leave while
//! links stand ([`Peers`]). There is no encryption
//! and no authentication yet: peers listen on loopback addresses only, unless told otherwise
//! ([`TransportConfig::insecure_peer_listen`]), until mutual TLS stands.
//!
//! Bounds of memory for each link: what its two send queues hold ([`CONTROL_QUEUE_BYTES_MAX`] and its
//! reserve, [`BULK_QUEUE_BYTES_MAX`], one batch or frame each beyond that), 36 MiB undelivered control
//! bytes, 64 calls of 1 MiB; and for all links together [`BULK_INBOUND_BYTES_MAX`].
//!
//! Parts: `class` chooses the connection; `hello` and `link_frame` are bytes; `queue` and `socket` the
//! two ends of a connection; `link` its tasks; `table` who is linked; `handshake` makes links; `port`
//! is the driver's side.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use trine_core::ids::{ClusterId, Endpoint};
use trine_core::time::Instant;

use crate::runtime::{Listener, Runtime};

mod class;
mod handshake;
mod hello;
mod link;
mod link_frame;
mod notice;
mod port;
mod queue;
mod socket;
mod table;

pub(crate) use port::{Arrival, Caller};
pub use port::{PeerCallError, Port};
pub use queue::{
    BULK_QUEUE_BYTES_MAX, BULK_QUEUE_FRAMES_MAX, CONTROL_QUEUE_BYTES_MAX, CONTROL_QUEUE_FRAMES_MAX,
    CONTROL_RESERVE_BYTES, CONTROL_RESERVE_FRAMES, SMALL_FRAME_BYTES,
};

/// The version of what is said on links: greetings' meaning, frames and messages.
pub const LINK_PROTOCOL: u16 = 3;
/// Bytes of a peer call's body, and of its answer.
pub const PEER_CALL_BYTES_MAX: usize = 1 << 20;
/// Bytes that have come in on all bulk connections and were not delivered yet. Beyond it nothing is
/// read from them, and TCP holds the peers back. Half of what a store takes in hand.
pub const BULK_INBOUND_BYTES_MAX: usize = 64 << 20;
/// Stores that one node may have, beside its gateway and one that is just being replaced: a link's greeting
/// tells all of them.
pub const STORES_MAX: usize = hello::ENDPOINTS_MAX - 2;
/// Calls of all peers that wait to be taken; more are answered as overloaded.
const CALLS_INBOUND_MAX: usize = 64;

/// A node: one `trine` process, whatever it hosts. Chosen by the operator, unique in its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node-{}", self.0)
    }
}

/// What a transport must know.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Peers of another cluster are refused.
    pub cluster: ClusterId,
    /// Who we are.
    pub node: NodeId,
    /// Where peers reach us.
    pub listen: SocketAddr,
    /// All other nodes, and where they listen, at the start.
    pub peers: Vec<(NodeId, SocketAddr)>,
    /// How often to speak and how long to wait.
    pub timing: LinkTiming,
    /// Listen on an address that others can reach, without authentication or encryption.
    pub insecure_peer_listen: bool,
}

/// How often a link speaks, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkTiming {
    /// Between two pings on each connection.
    pub keepalive: Duration,
    /// A control connection on which nothing came in for this long is dead (a bulk connection after
    /// twice of it). It bears no relation to the round-trip time: pings come at their own pace.
    pub silence: Duration,
    /// For an attempt: two connections and their greetings, that is four round trips.
    pub dial: Duration,
    /// The first pause between two attempts.
    pub backoff_min: Duration,
    /// The longest one.
    pub backoff_max: Duration,
}

impl LinkTiming {
    /// For zones up to 100 ms apart.
    pub const DEFAULT: Self = Self {
        keepalive: Duration::from_millis(50),
        silence: Duration::from_millis(300),
        dial: Duration::from_millis(500),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(500),
    };

    /// What is wrong with it, if anything.
    ///
    /// # Errors
    /// For the operator.
    fn check(&self) -> Result<(), TransportError> {
        let wrong = |text: &str| Err(TransportError::Config(text.to_owned()));
        if self.keepalive.is_zero() || self.dial.is_zero() || self.backoff_min.is_zero() {
            return wrong("keepalive, dial and backoff of links must be more than 0");
        }
        if self.silence < self.keepalive * 3 {
            return wrong("the silence of links must be at least three times their keepalive");
        }
        if self.backoff_max < self.backoff_min {
            return wrong("the longest backoff of links must not be below the first");
        }
        Ok(())
    }
}

/// A transport that runs.
#[derive(Debug)]
pub struct Transport<R: Runtime> {
    /// Where it listens.
    pub address: SocketAddr,
    /// For the driver.
    pub port: Port<R>,
    /// To say which other nodes there are from now on.
    pub peers: Peers<R>,
    /// Calls of other nodes. Dropped, they are refused.
    pub calls: mpsc::Receiver<PeerCall>,
}

/// Which other nodes there are.
#[derive(Debug)]
pub struct Peers<R: Runtime> {
    shared: Arc<table::Shared<R>>,
}

impl<R: Runtime> Peers<R> {
    /// From now on, these are the other nodes, and there they listen. Links to the rest are over. A link to
    /// one that has moved stands until it breaks.
    pub fn set(&self, peers: &BTreeMap<NodeId, SocketAddr>) {
        for node in self.shared.set_peers(peers) {
            let dialler = handshake::dial(self.shared.clone(), node);
            self.shared.runtime.spawn("link dialler", dialler);
        }
    }
}

/// A call of another node.
#[derive(Debug)]
pub struct PeerCall {
    /// Who calls.
    pub from: NodeId,
    /// What is asked, at most [`PEER_CALL_BYTES_MAX`].
    pub body: Bytes,
    /// For the answer, at most as large. Dropped, the call is refused.
    pub reply: oneshot::Sender<Bytes>,
}

/// How the link to a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The peer.
    pub node: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether the link stands.
    pub up: bool,
    /// Since when it is so.
    pub since: Instant,
    /// Why the link is down, as far as known.
    pub reason: Option<String>,
    /// Of the peer's process, while the link stands: another one after each of its starts.
    pub life: Option<u64>,
    /// What the peer hosts, while the link stands.
    pub endpoints: Vec<Endpoint>,
    /// Smoothed round-trip time on the control connection, while the link stands.
    pub round_trip: Option<Duration>,
    /// Bytes that wait to be sent.
    pub control_queued_bytes: u64,
    /// Bytes that wait to be sent.
    pub bulk_queued_bytes: u64,
    /// Messages dropped since this process started, by kind: for full queues, and those that came
    /// for endpoints that are not here.
    pub drops: BTreeMap<&'static str, u64>,
    /// How often the link came to stand.
    pub ups: u64,
}

/// Listen for peers, and make links to them. Nothing is announced to them before a driver has the
/// port. The tasks run where this is called.
///
/// # Errors
/// [`TransportError`], for the operator.
pub async fn start<R: Runtime>(
    runtime: R,
    config: TransportConfig,
) -> Result<Transport<R>, TransportError> {
    check(&config)?;
    let listen = config.listen;
    let listen_error = |error| TransportError::Listen { address: listen, error };
    let listener = runtime.bind(listen).await.map_err(listen_error)?;
    let address = listener.address().map_err(listen_error)?;
    let mut life = [0; 8];
    runtime.random(&mut life).map_err(TransportError::Random)?;
    let life = u64::from_le_bytes(life);
    let (events_sender, events) = mpsc::unbounded_channel();
    let (calls_sender, calls) = mpsc::channel(CALLS_INBOUND_MAX);
    let shared =
        Arc::new(table::Shared::new(runtime.clone(), config, life, events_sender, calls_sender));
    let peers = Peers { shared: shared.clone() };
    peers.set(&shared.config.peers.iter().copied().collect());
    runtime.spawn("link acceptor", handshake::accept(shared.clone(), listener));
    Ok(Transport { address, port: Port::new(shared, events), peers, calls })
}

fn check(config: &TransportConfig) -> Result<(), TransportError> {
    if !config.listen.ip().is_loopback() && !config.insecure_peer_listen {
        return Err(TransportError::InsecureListen { address: config.listen });
    }
    let mut seen = BTreeSet::from([config.node]);
    for (node, _) in &config.peers {
        if !seen.insert(*node) {
            let text = if *node == config.node {
                format!("{node} is this node, and must not be among its own peers")
            } else {
                format!("{node} is twice among the peers")
            };
            return Err(TransportError::Config(text));
        }
    }
    config.timing.check()
}

/// Why there is no transport, for the operator.
#[derive(Debug)]
pub enum TransportError {
    /// Others could reach the address.
    InsecureListen {
        /// Which.
        address: SocketAddr,
    },
    /// The address cannot be had.
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The configuration contradicts itself.
    Config(String),
    /// The operating system has no randomness to give.
    Random(io::Error),
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsecureListen { address } => write!(
                f,
                "peers on {address} would be neither authenticated nor encrypted: listen on a \
                 loopback address, or set insecure_peer_listen if nobody else can reach that \
                 network"
            ),
            Self::Listen { address, error } if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "{address} is in use by another process: peers cannot be taken there")
            }
            Self::Listen { address, error } => {
                write!(f, "cannot listen for peers on {address}: {error}")
            }
            Self::Config(text) => f.write_str(text),
            Self::Random(error) => {
                write!(f, "the operating system gives no random numbers: {error}")
            }
        }
    }
}

impl std::error::Error for TransportError {}

#[cfg(test)]
mod tests;
