//! Who is linked, which endpoint is where, and what the driver is told of it.
//!
//! One lock holds it together; it is taken when links or endpoints change, never for a message.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use trine_core::ids::Endpoint;
use trine_core::message::Envelope;
use trine_core::time::Instant;

use super::class::Class;
use super::hello::{ENDPOINTS_MAX, LinkHello, Reason, Refusal};
use super::link::{self, Connection, Drops, Link};
use super::notice::Notices;
use super::socket::Lost;
use super::{LINK_PROTOCOL, LinkStatus, NodeId, PeerCall, TransportConfig};
use crate::runtime::Runtime;

/// What the driver learns from links, in order.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are messages")]
pub(crate) enum Event {
    /// An endpoint can be reached, by this link.
    Up { endpoint: Endpoint, link: Arc<Link> },
    /// It cannot be reached any more, or its link is another from now on.
    Down { endpoint: Endpoint },
    /// A message came in by this link. The permit goes when it has been delivered.
    Message { link: u64, envelope: Envelope, permit: Option<OwnedSemaphorePermit> },
}

/// What all tasks of a transport share.
pub(crate) struct Shared<R: Runtime> {
    pub(crate) runtime: R,
    pub(crate) config: TransportConfig,
    /// Of this process, drawn at its start.
    pub(crate) life: u64,
    /// Undelivered bytes of all bulk connections.
    pub(crate) bulk_budget: Arc<Semaphore>,
    pub(crate) calls: mpsc::Sender<PeerCall>,
    pub(crate) notices: Notices,
    events: mpsc::UnboundedSender<Event>,
    stopped: watch::Sender<bool>,
    table: Mutex<Table<R::Stream>>,
}

struct Table<S> {
    hosted: BTreeSet<Endpoint>,
    peers: BTreeMap<NodeId, Peer<S>>,
    routes: BTreeMap<Endpoint, NodeId>,
    links_made: u64,
}

struct Peer<S> {
    address: SocketAddr,
    /// It is no peer any more; what is counted of it stays.
    left: bool,
    /// A task sees to it that there is a link.
    is_dialled: bool,
    link: Option<Standing>,
    /// A control connection that waits for its bulk connection: of which life and number.
    half: Option<Half<S>>,
    /// The last life and number that this peer dialled with.
    dialled: Option<(u64, u64)>,
    since: Instant,
    reason: Option<String>,
    ups: u64,
    drops: Arc<Drops>,
}

#[derive(Debug)]
struct Standing {
    link: Arc<Link>,
    endpoints: BTreeSet<Endpoint>,
}

struct Half<S> {
    life: u64,
    number: u64,
    bulk: oneshot::Sender<Connection<S>>,
}

impl<R: Runtime> fmt::Debug for Shared<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<R: Runtime> Shared<R> {
    pub(crate) fn new(
        runtime: R,
        config: TransportConfig,
        life: u64,
        events: mpsc::UnboundedSender<Event>,
        calls: mpsc::Sender<PeerCall>,
    ) -> Self {
        let (hosted, peers, routes) = Default::default();
        let table = Table { hosted, peers, routes, links_made: 0 };
        Self {
            notices: Notices::new(),
            runtime,
            config,
            life,
            bulk_budget: Arc::new(Semaphore::new(super::BULK_INBOUND_BYTES_MAX)),
            calls,
            events,
            stopped: watch::Sender::new(false),
            table: Mutex::new(table),
        }
    }

    /// From now on, these are the peers. Those that are to be dialled, by a task for each.
    pub(crate) fn set_peers(&self, peers: &BTreeMap<NodeId, SocketAddr>) -> Vec<NodeId> {
        let own = self.config.node;
        let mut table = self.lock();
        let mut over = Vec::new();
        for (node, peer) in &mut table.peers {
            peer.left = !peers.contains_key(node);
            if peer.left {
                peer.half = None;
                over.extend(peer.link.as_ref().map(|standing| standing.link.clone()));
            }
        }
        for link in over {
            self.take_down(&mut table, &link, "it is of the cluster no more".to_owned());
        }
        let mut to_dial = Vec::new();
        for (node, address) in peers.iter().filter(|(node, _)| **node != own) {
            let new = || Peer {
                address: *address,
                left: false,
                is_dialled: false,
                link: None,
                half: None,
                dialled: None,
                since: self.runtime.now(),
                reason: None,
                ups: 0,
                drops: Arc::default(),
            };
            let peer = table.peers.entry(*node).or_insert_with(new);
            peer.address = *address;
            if own < *node && !std::mem::replace(&mut peer.is_dialled, true) {
                to_dial.push(*node);
            }
        }
        to_dial
    }

    /// Where to dial a peer; `None` if it is none any more, and then its dialler must end.
    pub(crate) fn to_dial(&self, node: NodeId) -> Option<SocketAddr> {
        let mut table = self.lock();
        let peer = table.peers.get_mut(&node)?;
        peer.is_dialled = !peer.left;
        peer.is_dialled.then_some(peer.address)
    }

    /// Our hello, to this peer.
    pub(crate) fn hello(&self, to: NodeId, class: Class, number: u64) -> LinkHello {
        LinkHello {
            protocol: LINK_PROTOCOL,
            cluster: self.config.cluster,
            from: self.config.node,
            to,
            class,
            life: self.life,
            number,
            endpoints: self.lock().hosted.iter().copied().collect(),
        }
    }

    /// Hold a hello against what we are. What only a dialled node must hold is the caller's.
    ///
    /// # Errors
    /// The refusal to be sent.
    pub(crate) fn check(&self, hello: &LinkHello) -> Result<(), Refusal> {
        let (own, from) = (self.config.node, hello.from);
        let refuse = |reason, text| Err(Refusal::new(reason, text));
        if hello.protocol != LINK_PROTOCOL {
            let theirs = hello.protocol;
            let text = format!(
                "{own} speaks protocol {LINK_PROTOCOL} and {from} protocol {theirs}: run the same \
                 version of trine on both"
            );
            return refuse(Reason::Protocol, text);
        }
        if hello.cluster != self.config.cluster {
            let text = format!(
                "{from} belongs to another cluster than {own}: their data directories or their \
                 cluster ids do not go together"
            );
            return refuse(Reason::Cluster, text);
        }
        if hello.to != own {
            let text = format!(
                "{from} looks for {} and has found {own}: mend the addresses of its peers",
                hello.to
            );
            return refuse(Reason::NotThisNode, text);
        }
        if from == own {
            let text = format!("another process also calls itself {own}: node ids are unique");
            return refuse(Reason::Stranger, text);
        }
        let text = match self.lock().peers.get(&from) {
            Some(peer) if !peer.left => return Ok(()),
            Some(_) => format!("{from} has left the cluster of {own}"),
            None => format!(
                "{own} knows no {from}: it must be in the list of nodes, or be added with `trine \
                 admin node add`"
            ),
        };
        refuse(Reason::Stranger, text)
    }

    /// Admit a dialled control connection: an earlier link of that peer is over, since only a peer
    /// that gave it up dials anew. The bulk connection will come through the channel.
    ///
    /// # Errors
    /// The refusal to be sent, if a later one was here before: this one was given up, too.
    pub(crate) fn admit_control(
        &self,
        hello: &LinkHello,
    ) -> Result<oneshot::Receiver<Connection<R::Stream>>, Refusal> {
        let mut table = self.lock();
        let peer = table.peers.get_mut(&hello.from).filter(|peer| !peer.left);
        let Some(peer) = peer else {
            return Err(Refusal::new(Reason::Stranger, "this peer is not known"));
        };
        if let Some((life, number)) = peer.dialled
            && life == hello.life
            && number >= hello.number
        {
            return Err(stale(hello));
        }
        peer.dialled = Some((hello.life, hello.number));
        let (bulk, receiver) = oneshot::channel();
        peer.half = Some(Half { life: hello.life, number: hello.number, bulk });
        let link = peer.link.as_ref().map(|standing| standing.link.clone());
        if let Some(link) = link {
            let reason = if link.life == hello.life {
                "the peer has given the link up and made another".to_owned()
            } else {
                "the peer was started anew".to_owned()
            };
            self.take_down(&mut table, &link, reason);
        }
        Ok(receiver)
    }

    /// Take the half-made link that a dialled bulk connection belongs to.
    ///
    /// # Errors
    /// The refusal to be sent, if there is none.
    pub(crate) fn admit_bulk(
        &self,
        hello: &LinkHello,
    ) -> Result<oneshot::Sender<Connection<R::Stream>>, Refusal> {
        let mut table = self.lock();
        let half = table.peers.get_mut(&hello.from).and_then(|peer| {
            peer.half.take_if(|half| half.life == hello.life && half.number == hello.number)
        });
        half.map(|half| half.bulk).ok_or_else(|| stale(hello))
    }

    /// Both connections stand. `None` if the transport has stopped meanwhile, or the peer has made
    /// another attempt (`number` is then not its last any more).
    pub(crate) fn link_up(
        self: &Arc<Self>,
        node: NodeId,
        life: u64,
        dialled_with: Option<u64>,
        control: Connection<R::Stream>,
        bulk: Connection<R::Stream>,
    ) -> Option<Arc<Link>> {
        let link = {
            let mut table = self.lock();
            if *self.stopped.borrow() {
                return None;
            }
            table.links_made += 1;
            let (id, hosted) = (table.links_made, table.hosted.clone());
            let now = self.runtime.now();
            let peer = table.peers.get_mut(&node)?;
            if peer.left || dialled_with.is_some_and(|number| peer.dialled != Some((life, number)))
            {
                return None;
            }
            let link = Arc::new(Link::new(id, node, life, peer.drops.clone()));
            peer.link = Some(Standing { link: link.clone(), endpoints: control.theirs.clone() });
            (peer.since, peer.reason) = (now, None);
            peer.ups += 1;
            // What we host may have changed since we said it on one of them.
            let now_ours: Vec<_> = hosted.into_iter().collect();
            if control.ours != now_ours || bulk.ours != now_ours {
                link.announce(&now_ours).expect("the queues of a new link are empty");
            }
            tracing::info!("link to {node} stands");
            self.reroute(&mut table);
            link
        };
        link::run(self, &link, Class::Control, control.stream, control.theirs);
        link::run(self, &link, Class::Bulk, bulk.stream, bulk.theirs);
        Some(link)
    }

    /// A connection of this link is lost, and so is the link.
    pub(crate) fn link_lost(&self, link: &Arc<Link>, class: Class, lost: &Lost) {
        self.take_down(&mut self.lock(), link, format!("{} connection: {lost}", class.name()));
    }

    /// What a peer hosts has changed.
    pub(crate) fn endpoints_changed(&self, link: &Arc<Link>, endpoints: &BTreeSet<Endpoint>) {
        let mut table = self.lock();
        let standing = table.peers.get_mut(&link.peer).and_then(|peer| peer.link.as_mut());
        if let Some(standing) = standing.filter(|standing| standing.link.id == link.id) {
            standing.endpoints.clone_from(endpoints);
            self.reroute(&mut table);
        }
    }

    /// What we host has changed.
    pub(crate) fn set_hosted(&self, endpoints: BTreeSet<Endpoint>) {
        let mut table = self.lock();
        if table.hosted == endpoints {
            return;
        }
        assert!(endpoints.len() <= ENDPOINTS_MAX, "a node hosts at most {ENDPOINTS_MAX} endpoints");
        let list: Vec<_> = endpoints.iter().copied().collect();
        table.hosted = endpoints;
        let links: Vec<_> = table
            .peers
            .values()
            .filter_map(|peer| peer.link.as_ref().map(|standing| standing.link.clone()))
            .collect();
        for link in links {
            if link.announce(&list).is_err() {
                let reason = "its queue is too full to say what is hosted here".to_owned();
                self.take_down(&mut table, &link, reason);
            }
        }
        self.reroute(&mut table);
    }

    /// A message for the driver. Without a driver nobody waits for it.
    pub(crate) fn deliver(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// The link that stands to a node.
    ///
    /// # Errors
    /// Whether the node is known at all.
    pub(crate) fn link_to(&self, node: NodeId) -> Result<Arc<Link>, bool> {
        let table = self.lock();
        let peer = table.peers.get(&node).filter(|peer| !peer.left).ok_or(false)?;
        peer.link.as_ref().map(|standing| standing.link.clone()).ok_or(true)
    }

    pub(crate) fn status(&self) -> Vec<LinkStatus> {
        let table = self.lock();
        let status = |(node, peer): (&NodeId, &Peer<R::Stream>)| {
            let link = peer.link.as_ref().map(|standing| &standing.link);
            let queued = |class| link.map_or(0, |link| link.queued_bytes(class));
            LinkStatus {
                node: *node,
                address: peer.address,
                up: link.is_some(),
                since: peer.since,
                reason: peer.reason.clone(),
                life: link.map(|link| link.life),
                endpoints: peer
                    .link
                    .iter()
                    .flat_map(|standing| standing.endpoints.iter().copied())
                    .collect(),
                round_trip: link.and_then(|link| link.round_trip()),
                control_queued_bytes: queued(Class::Control),
                bulk_queued_bytes: queued(Class::Bulk),
                drops: peer.drops.all(),
                ups: peer.ups,
            }
        };
        table.peers.iter().filter(|(_, peer)| !peer.left).map(status).collect()
    }

    /// Remember why there is no link to a peer.
    pub(crate) fn not_linked(&self, node: NodeId, reason: String) {
        if let Some(peer) = self.lock().peers.get_mut(&node)
            && peer.link.is_none()
        {
            peer.reason = Some(reason);
        }
    }

    /// End all links and tasks: the driver is gone.
    pub(crate) fn stop(&self) {
        let mut table = self.lock();
        self.stopped.send_replace(true);
        let links: Vec<_> = table.peers.values_mut().filter_map(|peer| peer.link.take()).collect();
        for standing in links {
            standing.link.close("this process stops".to_owned());
        }
        for peer in table.peers.values_mut() {
            peer.half = None;
        }
    }

    /// Ends when the transport stops.
    pub(crate) async fn stopped(&self) {
        // An error would say that the sender is gone, and `self` holds it.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    fn take_down(&self, table: &mut Table<R::Stream>, link: &Arc<Link>, reason: String) {
        let now = self.runtime.now();
        let Some(peer) = table.peers.get_mut(&link.peer) else { return };
        // Both connections tell of the same end, and so may both sides.
        if peer.link.take_if(|standing| standing.link.id == link.id).is_none() {
            return;
        }
        tracing::warn!("link to {} is down: {reason}", link.peer);
        (peer.since, peer.reason) = (now, Some(reason.clone()));
        link.close(reason);
        self.reroute(table);
    }

    /// Say where endpoints are from now on. A node that has an endpoint keeps it as long as it claims
    /// it: two claims are a mistake in the configuration, or a store that is just moving.
    fn reroute(&self, table: &mut Table<R::Stream>) {
        let mut claims: BTreeMap<Endpoint, Vec<NodeId>> = BTreeMap::new();
        for (node, peer) in &table.peers {
            for endpoint in peer.link.iter().flat_map(|standing| &standing.endpoints) {
                claims.entry(*endpoint).or_default().push(*node);
            }
        }
        let mut routes = BTreeMap::new();
        for (endpoint, nodes) in claims {
            let before = table.routes.get(&endpoint).filter(|node| nodes.contains(node)).copied();
            let first = before.or_else(|| nodes.first().copied());
            if table.hosted.contains(&endpoint) {
                let text = format!("{endpoint} runs here, and {nodes:?} claim to host it too");
                self.notices.error(&self.runtime, format!("{endpoint}"), text);
            } else if let Some(node) = first {
                if nodes.len() > 1 {
                    let text = format!("{endpoint} is claimed by {nodes:?}: using that of {node}");
                    self.notices.error(&self.runtime, format!("{endpoint}"), text);
                }
                routes.insert(endpoint, node);
            }
        }
        let before = std::mem::replace(&mut table.routes, routes);
        for (endpoint, node) in &before {
            if table.routes.get(endpoint) != Some(node) {
                self.deliver(Event::Down { endpoint: *endpoint });
            }
        }
        for (endpoint, node) in &table.routes {
            if before.get(endpoint) != Some(node)
                && let Some(standing) = table.peers.get(node).and_then(|peer| peer.link.as_ref())
            {
                self.deliver(Event::Up { endpoint: *endpoint, link: standing.link.clone() });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table<R::Stream>> {
        // Nothing in here panics but on a bug, and then the driver's thread is about to end.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stale(hello: &LinkHello) -> Refusal {
    let text = format!("attempt {} of {} was given up already", hello.number, hello.from);
    Refusal::new(Reason::Stale, text)
}
