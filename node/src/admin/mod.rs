//! `trine admin`: what operators ask of a running cluster, through any of its processes.
//!
//! A process listens on a Unix socket in its data directory (`socket`, `server`): HTTP/1.1 and
//! JSON, whose shapes `schema` has. What concerns other nodes it asks of them by calls over their
//! links; a node that does not answer is shown as such, and never waited for long. `report` is what
//! a process says of itself, `status` puts these together; `zone` stops and starts zones,
//! `replace` puts a new store in the place of a lost one, `add` one beside the others, `nodes` lets nodes join and
//! leave, `level` raises the cluster's feature level, `audit` has every copy read.
//!
//! On the other side, `client` talks to the socket, `command` carries out a command line, and
//! `text` writes for people.
//!
//! Whoever may open the socket may do everything; nodes trust each other.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};
use trine_core::cluster::ClusterMap;
use trine_core::ids::ClusterId;
use trine_core::level::Levels;
use trine_core::store::Store;
use trine_s3::Room;
use trine_s3::front::Front;

use crate::config::NodeSpec;
use crate::data::NodeDirectory;
use crate::data::node::summary;
use crate::driver::Handle;
use crate::hosting::Hosting;
use crate::members::Members;
use crate::runtime::Runtime;
use crate::transport::{NodeId, PeerCall, Peers};

mod add;
mod audit;
pub mod client;
pub mod command;
mod directory;
mod level;
mod memory;
mod nodes;
mod replace;
mod report;
pub mod schema;
mod server;
pub mod socket;
mod status;
mod text;
mod turns;
mod zone;

use schema::{
    Added, Ask, ClusterStatus, Done, MapStatus, NodeReport, NodeStatus, Refusal, Replaced,
};
pub(crate) use server::Server;
pub(crate) use turns::Turns;

/// How long another node may take to say how it is.
const REPORT_MAX: Duration = Duration::from_secs(1);
/// How long a quorum may take to tell the cluster's map.
const MAP_MAX: Duration = Duration::from_secs(2);
/// How long another node may take to do something.
const ACT_MAX: Duration = Duration::from_secs(60);
/// How often a status is gathered again while only entries of a busy log are missing.
const SETTLE_ROUNDS: u32 = 10;
/// The pause before that.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

/// What a process needs to answer operators.
pub(crate) struct Admin<R: Runtime> {
    pub(crate) runtime: R,
    pub(crate) handle: Handle<R, Store>,
    pub(crate) front: Front,
    pub(crate) hosting: Hosting<R>,
    pub(crate) documents: Room,
    pub(crate) who: Who,
    pub(crate) turns: Turns,
    /// To say which nodes to be linked with; not of an all-in-one process.
    pub(crate) peers: Option<Peers<R>>,
    /// The feature levels that this process speaks.
    pub(crate) levels: Levels,
}

/// Which process this is.
pub(crate) enum Who {
    /// All zones in one.
    AllInOne {
        /// The cluster.
        cluster: ClusterId,
        /// Its map.
        map: ClusterMap,
        /// Where clients reach it.
        s3: SocketAddr,
    },
    /// A node of a cluster.
    Node {
        /// The nodes of the cluster, and our place among them.
        members: Box<Members>,
        /// Our data directory.
        data: Arc<tokio::sync::Mutex<NodeDirectory>>,
        /// Layout of stores that are made from now on.
        geometry: trine_core::cluster::Geometry,
    },
}

impl<R: Runtime> fmt::Debug for Admin<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// Why something is not done, for the operator.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl Refused {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<R: Runtime> Admin<R> {
    /// Answer an operator.
    pub(crate) async fn answer(self: &Arc<Self>, ask: Ask) -> Result<Bytes, Refused> {
        match ask {
            Ask::Status => json(&self.status().await?),
            Ask::Node => json(&self.own_report().await?),
            Ask::Audit { after } => json(&self.audit_page(after).await?),
            Ask::ZoneStop { .. }
            | Ask::ZoneStart { .. }
            | Ask::Replace(_)
            | Ask::Add(_)
            | Ask::Weight { .. }
            | Ask::NodeAdd(_)
            | Ask::NodeMove(_)
            | Ask::NodeRemove { .. }
            | Ask::LevelRaise { .. } => self.act(ask).await,
            Ask::Stores { .. } | Ask::ReplaceHere(_) | Ask::AddHere(_) | Ask::LookAtNodes => {
                Err(Refused::new("only nodes ask this of each other"))
            }
        }
    }

    /// Do what was asked, to its end: whoever asked may hang up, and half of it would be worse than all
    /// or nothing.
    async fn act(self: &Arc<Self>, ask: Ask) -> Result<Bytes, Refused> {
        let turn = self.turns.take(&ask)?;
        let (sender, answer) = oneshot::channel();
        let admin = self.clone();
        self.runtime.spawn("admin act", async move {
            let done = match ask {
                Ask::ZoneStop { zone, force } => admin.zone_stop(&zone, force).await.map(Act::Done),
                Ask::ZoneStart { zone } => admin.zone_start(&zone).await.map(Act::Done),
                Ask::Replace(replace) => admin.replace(replace).await.map(Act::Replaced),
                Ask::Add(add) => admin.add(add).await.map(Act::Added),
                Ask::Weight { store, weight } => admin.weigh(store, weight).await.map(Act::Done),
                Ask::NodeAdd(join) => admin.node_add(join).await.map(Act::Done),
                Ask::NodeMove(to) => admin.node_move(to).await.map(Act::Done),
                Ask::NodeRemove { name } => admin.node_remove(&name).await.map(Act::Done),
                Ask::LevelRaise { to } => admin.level_raise(to).await.map(Act::Done),
                ask => Err(Refused(format!("this changes nothing: {ask:?}"))),
            };
            if let Err(Err(refused)) = sender.send(done) {
                tracing::warn!("whoever asked has hung up and is not told: {refused}");
            }
            drop(turn);
        });
        match answer.await.map_err(|_| about_to_end())?? {
            Act::Done(done) => json(&done),
            Act::Replaced(replaced) => json(&replaced),
            Act::Added(added) => json(&added),
        }
    }

    /// Answer calls of other nodes, until there is no transport any more.
    pub(crate) async fn answer_peers(self: Arc<Self>, mut calls: mpsc::Receiver<PeerCall>) {
        while let Some(PeerCall { from, body, reply }) = calls.recv().await {
            let ask = serde_json::from_slice(&body).map_err(|error| {
                Refused(format!(
                    "this node (version {}) does not understand the call: {error}",
                    env!("CARGO_PKG_VERSION")
                ))
            });
            let taken = ask.and_then(|ask| Ok((self.turns.take(&ask)?, ask)));
            let admin = self.clone();
            let answer = async move {
                let (turn, ask) = taken?;
                let answer = admin.answer_peer(ask).await;
                drop(turn);
                answer
            };
            // Each on its own: one that makes a store must not hold up one that asks how we are.
            self.runtime.spawn("peer call", async move {
                let answer = answer.await.unwrap_or_else(|refused: Refused| {
                    tracing::warn!("refused what {from} asked: {refused}");
                    refusal(&refused)
                });
                // Who asked may be gone.
                let _ = reply.send(answer);
            });
        }
    }

    async fn answer_peer(self: &Arc<Self>, ask: Ask) -> Result<Bytes, Refused> {
        match ask {
            Ask::Node => json(&self.own_report().await?),
            Ask::Stores { start } => json(&self.own_stores(start).await?),
            Ask::ReplaceHere(replace) => json(&self.replace_here(&replace).await?),
            Ask::AddHere(add) => json(&self.add_here(&add).await?),
            Ask::LookAtNodes => json(&self.look_at_nodes().await?),
            Ask::Status
            | Ask::ZoneStop { .. }
            | Ask::ZoneStart { .. }
            | Ask::Replace(_)
            | Ask::Add(_)
            | Ask::Weight { .. }
            | Ask::NodeAdd(_)
            | Ask::NodeMove(_)
            | Ask::NodeRemove { .. }
            | Ask::LevelRaise { .. }
            | Ask::Audit { .. } => Err(Refused::new("this is asked on the admin socket only")),
        }
    }

    /// Ask another node something, for no longer than `limit`.
    async fn ask_peer<T: DeserializeOwned>(
        &self,
        node: NodeId,
        ask: &Ask,
        limit: Duration,
    ) -> Result<T, Refused> {
        let body = json(ask)?;
        let answer = self.handle.peer_call(node, body, limit).await.map_err(Refused::new)?;
        parse(&answer)
    }

    /// What this process says of itself.
    async fn own_report(&self) -> Result<NodeReport, Refused> {
        let status = self.handle.status().await.ok_or_else(about_to_end)?;
        let now = self.runtime.now();
        let (replacing, replaced, ids_used) = match &self.who {
            Who::AllInOne { .. } => (Vec::new(), Vec::new(), Vec::new()),
            Who::Node { data, .. } => {
                // A replacement that is under way holds it; what it says can wait for the next ask.
                match data.clone().try_lock_owned() {
                    Ok(data) => {
                        let report = |data: &mut NodeDirectory| {
                            let ids = data.stores().iter().map(|store| store.id().0).collect();
                            (replace::under_way(data), replace::done(data), ids)
                        };
                        self.with_files(data, report).await.1
                    }
                    Err(_) => (vec![replace::busy()], Vec::new(), Vec::new()),
                }
            }
        };
        let places = self.hosting.places();
        Ok(NodeReport {
            cluster: self.cluster(),
            bootstrap: self.bootstrap(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            levels: Some(level::of_levels(self.levels)),
            gateway: status.gateway,
            memory: Some(memory::of_process(status.gateway_report.as_ref(), &self.documents)),
            requests: u64::try_from(status.requests).unwrap_or(u64::MAX),
            stores: report::stores(&places, &status.stores),
            links: report::links(now, &status.links),
            replacing,
            replaced,
            ids_used,
            capacities: places.iter().map(|(id, at)| (id.0, at.geometry.capacity)).collect(),
        })
    }

    /// Work on the data directory, which reads and syncs files.
    async fn with_files<T: Send + 'static>(
        &self,
        mut data: OwnedMutexGuard<NodeDirectory>,
        work: impl FnOnce(&mut NodeDirectory) -> T + Send + 'static,
    ) -> (OwnedMutexGuard<NodeDirectory>, T) {
        let work = move || {
            let result = work(&mut data);
            (data, result)
        };
        self.runtime.blocking(work).await
    }

    /// What holds of the cluster.
    async fn status(self: &Arc<Self>) -> Result<ClusterStatus, Refused> {
        let mut answers = self.gather().await?;
        let committed = status::commits(&answers);
        let map = self.map().await;
        let first = directory::of_map(&self.first_map());
        for round in 0.. {
            let status = status::compose(
                &self.name(),
                &self.cluster(),
                &self.bootstrap(),
                answers,
                map.clone(),
                &first,
                &committed,
            );
            // A replica of a busy range is always some entries behind: what was committed when we
            // began is what it must have.
            if round >= SETTLE_ROUNDS || status.backlog.entries_behind == 0 {
                return Ok(status);
            }
            self.runtime.sleep_until(self.runtime.now() + SETTLE_PAUSE).await;
            answers = self.gather().await?;
        }
        unreachable!("the loop has no end but its return")
    }

    /// What every node says of itself, or why it does not.
    async fn gather(self: &Arc<Self>) -> Result<Vec<status::Answer>, Refused> {
        let own = self.own_report().await?;
        let Who::Node { members, .. } = &self.who else {
            let (node, stores) = self.own_node();
            return Ok(vec![status::Answer { node, stores, report: Ok(own) }]);
        };
        let (me, nodes) = (members.plan().me, members.nodes());
        let others: Vec<NodeId> = nodes.keys().copied().filter(|id| *id != me).collect();
        let mut reports = self.ask_all::<NodeReport>(&others, &Ask::Node, REPORT_MAX).await;
        reports.insert(me, Ok(own));
        let answer = |spec: &NodeSpec| status::Answer {
            node: node_status(spec),
            stores: spec.stores.iter().map(|store| store.id.0).collect(),
            report: reports
                .remove(&spec.id)
                .unwrap_or_else(|| Err(Refused::new("it was not asked")))
                .map_err(|refused| refused.0),
        };
        Ok(nodes.values().map(answer).collect())
    }

    /// Ask several nodes at once.
    async fn ask_all<T: DeserializeOwned + Send + 'static>(
        self: &Arc<Self>,
        nodes: &[NodeId],
        ask: &Ask,
        limit: Duration,
    ) -> BTreeMap<NodeId, Result<T, Refused>> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        for node in nodes.iter().copied() {
            let (admin, ask, sender) = (self.clone(), ask.clone(), sender.clone());
            self.runtime.spawn("admin call", async move {
                // Who asked may be gone.
                let _ = sender.send((node, admin.ask_peer(node, &ask, limit).await));
            });
        }
        drop(sender);
        let mut answers = BTreeMap::new();
        while let Some((node, answer)) = receiver.recv().await {
            answers.insert(node, answer);
        }
        answers
    }

    /// The cluster's map, as the newest state says.
    async fn map(&self) -> Result<MapStatus, String> {
        let runtime = &self.runtime;
        let until = runtime.sleep_until(runtime.now() + MAP_MAX);
        tokio::select! {
            biased;
            map = directory::read(&self.front) => map,
            () = until => Err(format!("no two zones answer within {MAP_MAX:?}")),
        }
    }

    /// The map that the cluster began with.
    fn first_map(&self) -> ClusterMap {
        match &self.who {
            Who::AllInOne { map, .. } => map.clone(),
            Who::Node { members, .. } => members.plan().map(),
        }
    }

    fn cluster(&self) -> String {
        let cluster = match &self.who {
            Who::AllInOne { cluster, .. } => *cluster,
            Who::Node { members, .. } => members.plan().cluster,
        };
        format!("{:032x}", cluster.0)
    }

    fn bootstrap(&self) -> String {
        summary(&self.first_map())
    }

    fn name(&self) -> String {
        self.own_node().0.name
    }

    fn own_node(&self) -> (NodeStatus, Vec<u64>) {
        match &self.who {
            Who::AllInOne { map, s3, .. } => {
                let node = NodeStatus {
                    name: "all-in-one".to_owned(),
                    s3: s3.to_string(),
                    ..NodeStatus::default()
                };
                (node, map.stores().map(|(_, store)| store.0).collect())
            }
            Who::Node { members, .. } => {
                let plan = members.plan();
                let stores = plan.own().stores.iter().map(|store| store.id.0).collect();
                (node_status(plan.own()), stores)
            }
        }
    }
}

/// What came of something that was done.
enum Act {
    Done(Done),
    Replaced(Replaced),
    Added(Added),
}

fn node_status(spec: &NodeSpec) -> NodeStatus {
    NodeStatus {
        name: spec.name.clone(),
        id: spec.id.0,
        zone: Some(spec.zone.letter().to_string()),
        s3: spec.s3.to_string(),
        peer: Some(spec.peer.to_string()),
        ..NodeStatus::default()
    }
}

fn about_to_end() -> Refused {
    Refused::new("this process is about to end")
}

fn json(value: &impl Serialize) -> Result<Bytes, Refused> {
    serde_json::to_vec(value).map(Bytes::from).map_err(Refused::new)
}

fn refusal(refused: &Refused) -> Bytes {
    json(&Refusal { error: refused.0.clone() })
        .unwrap_or_else(|_| Bytes::from_static(b"{\"error\":\"refused\"}"))
}

/// What was asked for, or the refusal that came in its place.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    let value: serde_json::Value = serde_json::from_slice(body).map_err(Refused::new)?;
    if let Some(error) = value.as_object().filter(|o| o.len() == 1).and_then(|o| o.get("error"))
        && let Some(error) = error.as_str()
    {
        return Err(Refused::new(error));
    }
    serde_json::from_value(value).map_err(Refused::new)
}
