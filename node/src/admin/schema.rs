//! What is said on the admin socket and between nodes about it: JSON, described by these structs.
//!
//! Nodes of one cluster may run different versions while they are upgraded: unknown fields are
//! ignored, and fields that came later have a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trine_core::request::AuditFinding;

/// What one process says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    /// 32 hexadecimal digits.
    pub cluster: String,
    /// The first stores of the cluster, as its configuration has them.
    pub bootstrap: String,
    /// Its version of Trine.
    pub version: String,
    /// The oldest and the newest feature level that it speaks; absent from reports of earlier versions.
    pub levels: Option<[u32; 2]>,
    /// Its gateway, in a line.
    pub gateway: String,
    /// What it holds in memory beside its stores; absent from reports of earlier versions.
    pub memory: Option<ProcessMemory>,
    /// Requests that it serves right now.
    pub requests: u64,
    /// Every store that it has or should have.
    pub stores: Vec<StoreStatus>,
    /// Its links to other nodes.
    pub links: Vec<LinkReport>,
    /// Replacements that are under way here.
    pub replacing: Vec<Replacing>,
    /// Replacements that were done here.
    pub replaced: Vec<Replacing>,
    /// All store ids that were ever used here.
    pub ids_used: Vec<u64>,
    /// Bytes that each of its stores takes at most.
    pub capacities: BTreeMap<u64, u64>,
}

/// A store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreStatus {
    /// Which.
    pub id: u64,
    /// `a`, `b` or `c`.
    pub zone: String,
    /// Of which node; filled in by the one that gathers.
    pub node: String,
    /// Its file.
    pub path: String,
    /// How it is.
    pub life: StoreLife,
    /// Why it is so, and what to do, if it is not well.
    pub reason: Option<String>,
    /// How often it has been started.
    pub incarnation: Option<u64>,
    /// The last entry of the root range that changed what it knows of the cluster.
    pub directory: Option<u64>,
    /// The cluster map that it goes by.
    pub map_epoch: Option<u64>,
    /// The oldest and the newest feature level that it speaks.
    pub levels: Option<[u32; 2]>,
    /// The one that the cluster is at, as far as it knows.
    pub level: Option<u32>,
    /// Its disk.
    pub disk: Option<DiskStatus>,
    /// What it holds in memory.
    pub memory: Vec<MemoryKind>,
    /// Its replicas of ranges.
    pub replicas: Vec<ReplicaStatus>,
    /// What it lacks of the data of its zone; absent if it cannot say.
    pub repair: Option<RepairStatus>,
    /// What it gives back of what was deleted; absent if it cannot say.
    pub reclaim: Option<ReclaimStatus>,
    /// How far it has come with reading all its chunks; absent if it cannot say.
    pub scrub: Option<ScrubStatus>,
}

/// How a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreLife {
    /// At work.
    Serving,
    /// Its disk is being recovered.
    Opening,
    /// It was stopped by `trine admin zone stop`.
    Stopped,
    /// It is being stopped.
    Stopping,
    /// It has halted: its disk failed it.
    Halted,
    /// Its file was made and is gone.
    Lost,
    /// Its file cannot be opened.
    Failed,
    /// Nobody answers who could tell.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What a process holds in memory, its stores apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessMemory {
    /// As the operating system counts it, with its stores; absent where it does not.
    pub resident_bytes: Option<u64>,
    /// The most that it ever was.
    pub peak_bytes: Option<u64>,
    /// Requests in hand.
    pub requests: u64,
    /// As many there may be.
    pub requests_max: u64,
    /// Tenants that have some.
    pub tenants: u64,
    /// Requests that wait for room for their bodies.
    pub bodies_waiting: u64,
    /// Requests that were told to slow down, since the start.
    pub slowed_down: u64,
    /// By kind.
    pub kinds: Vec<MemoryKind>,
}

/// One kind of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryKind {
    /// What it is.
    pub name: String,
    /// As much is held.
    pub bytes: u64,
    /// As much may be; absent for what grows with the data.
    pub limit: Option<u64>,
}

/// Bytes of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskStatus {
    /// That may be used.
    pub capacity_bytes: u64,
    /// That are in use.
    pub used_bytes: u64,
    /// Of the journal, that are free.
    pub journal_free_bytes: u64,
    /// Since the store was started: keys, values and chunk data that were to be kept...
    pub kept_bytes: u64,
    /// ...and what was written to the disk for them, all in all...
    pub written_bytes: u64,
    /// ...of which the writing out of rows...
    pub flush_bytes: u64,
    /// ...and merges of sorted runs took so much.
    pub merge_bytes: u64,
    /// Merges since the store was started.
    pub merges: u64,
    /// Segments that they made free.
    pub segments_freed: u64,
    /// Sorted runs on the disk.
    pub runs: u64,
    /// For what there is room.
    pub room: Room,
}

/// For what a disk has room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Room {
    /// For everything.
    Data,
    /// For deletes, not for new data.
    Deletes,
    /// For nothing that clients ask.
    Housekeeping,
    /// It does not say.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A store's replica of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaStatus {
    /// Of which range.
    pub range: u64,
    /// Of which store; filled in by the one that gathers.
    pub store: u64,
    /// `leader`, `follower`, `candidate`, …
    pub role: String,
    /// Who leads, as far as it knows.
    pub leader: Option<u64>,
    /// Its term.
    pub term: u64,
    /// The end of its log.
    pub last: u64,
    /// What it knows to be committed.
    pub commit: u64,
    /// What it has applied.
    pub applied: Option<u64>,
    /// Whether it distrusts its log.
    pub suspect: bool,
    /// Voters, as it knows them.
    pub voters: Vec<u64>,
    /// Learners, as it knows them.
    pub learners: Vec<u64>,
    /// Entries that are committed and not applied here.
    pub backlog: u64,
}

/// What a store knows of copies that it lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RepairStatus {
    /// Copies that it should have and does not.
    pub missing: u64,
    /// Copies that it was given since its start.
    pub repaired: u64,
    /// Copies that it knows to be damaged, and that are not repaired yet.
    pub damaged: u64,
    /// Whether it is comparing what it has with other zones.
    pub comparing: bool,
    /// A whole comparison with every other zone has found nothing missing since the last reason to
    /// doubt.
    pub complete: bool,
    /// The newest epoch of the map of which it has compared all with all owners, former ones too.
    pub proven: u64,
}

/// What a store gives back of what was deleted, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReclaimStatus {
    /// Blobs of which it has freed chunks.
    pub blobs: u64,
    /// Chunks that it has freed.
    pub chunks: u64,
    /// Blobs that it is freeing.
    pub freeing: u64,
    /// Blobs that it is to ask the cluster about.
    pub in_question: u64,
    /// Segments of chunks that it has given back.
    pub segments: u64,
    /// Chunks that it has moved for that.
    pub moved: u64,
}

/// How far a store has come with reading and verifying all its chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubStatus {
    /// When the present pass began, or the last one: milliseconds since 1970, by the store's clock; 0 if
    /// none did.
    pub began_ms: u64,
    /// Whether a pass is under way.
    pub under_way: bool,
    /// Bytes read in it since the store's start.
    pub pass_bytes: u64,
    /// Bytes read since the store's start.
    pub bytes: u64,
    /// Passes that have ended since.
    pub passes: u64,
    /// Copies found since that did not verify.
    pub damaged: u64,
}

/// A link to another node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkReport {
    /// To which, by id.
    pub node: u32,
    /// Where that listens.
    pub address: String,
    /// Whether it stands.
    pub up: bool,
    /// For how long it has been so.
    pub since_ms: u64,
    /// Why it is down.
    pub reason: Option<String>,
    /// Smoothed.
    pub round_trip_us: Option<u64>,
    /// Bytes that wait to be sent.
    pub queued_bytes: u64,
    /// Messages dropped, by kind.
    pub drops: BTreeMap<String, u64>,
    /// How often it came to stand.
    pub ups: u64,
}

/// A store that is being put in the place of another, or gets one of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replacing {
    /// The store that is lost; 0 if the new one is added.
    pub old: u64,
    /// The one in its place.
    pub new: u64,
    /// What is being done.
    pub step: String,
}

/// The whole cluster, as one process has gathered it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterStatus {
    /// 32 hexadecimal digits.
    pub cluster: String,
    /// Who gathered it.
    pub answered_by: String,
    /// Whether all copies are where they belong.
    pub redundancy: Redundancy,
    /// By letter.
    pub zones: Vec<ZoneStatus>,
    /// By id.
    pub nodes: Vec<NodeStatus>,
    /// By id.
    pub stores: Vec<StoreStatus>,
    /// By id.
    pub ranges: Vec<RangeStatus>,
    /// The newest cluster map that anybody knows; absent if nobody does.
    pub map: Option<MapStatus>,
    /// What is still to be done.
    pub backlog: Backlog,
}

/// Whether all copies are where they belong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Redundancy {
    /// Everything acknowledged is in all three zones.
    pub full: bool,
    /// What is missing, if it is not full.
    pub missing: Vec<String>,
}

/// A zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ZoneStatus {
    /// `a`, `b` or `c`.
    pub zone: String,
    /// Whether all its stores serve.
    pub serving: bool,
    /// Its stores that serve.
    pub stores_serving: u64,
    /// All its stores.
    pub stores: u64,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// What the operator calls it.
    pub name: String,
    /// Which it is.
    pub id: u32,
    /// Where it stands; none for an all-in-one process.
    pub zone: Option<String>,
    /// Where clients reach it.
    pub s3: String,
    /// Where peers reach it; none for an all-in-one process.
    pub peer: Option<String>,
    /// Whether it answers.
    pub answers: bool,
    /// Why it does not, or what is wrong with it.
    pub problem: Option<String>,
    /// Its version of Trine.
    pub version: String,
    /// The oldest and the newest feature level that it speaks.
    pub levels: Option<[u32; 2]>,
    /// Its gateway, in a line.
    pub gateway: String,
    /// What it holds in memory beside its stores.
    pub memory: Option<ProcessMemory>,
    /// Requests that it serves right now.
    pub requests: u64,
    /// Its links.
    pub links: Vec<LinkReport>,
    /// Replacements that are under way there.
    pub replacing: Vec<Replacing>,
}

/// A range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RangeStatus {
    /// Which.
    pub range: u64,
    /// The store that leads, if one does.
    pub leader: Option<u64>,
    /// The newest term.
    pub term: u64,
    /// What is known to be committed.
    pub commit: u64,
    /// Its voters, as its leader knows them.
    pub voters: Vec<u64>,
    /// Its learners, likewise.
    pub learners: Vec<u64>,
    /// By store.
    pub replicas: Vec<ReplicaStatus>,
}

/// The cluster map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MapStatus {
    /// Which.
    pub epoch: u64,
    /// The cluster's feature level; absent from reports of earlier versions.
    pub level: Option<u32>,
    /// Stores of each zone, by its letter.
    pub zones: BTreeMap<String, Vec<u64>>,
    /// The stores that shall be voters.
    pub voters: Vec<u64>,
    /// Stores that were replaced.
    pub retired: Vec<u64>,
    /// The share of each store of the data of its zone, relative to the others; 0 is drained.
    pub weights: BTreeMap<u64, u32>,
    /// What zones had before, while their data may still be moving, oldest first.
    pub former: Vec<FormerLayout>,
}

/// A change of the map whose data may still be moving.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FormerLayout {
    /// The last epoch before the change.
    pub epoch: u64,
    /// Of which zone.
    pub zone: String,
    /// The shares that its stores had.
    pub weights: BTreeMap<u64, u32>,
}

/// What is still to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backlog {
    /// Copies of chunks that are known to be missing.
    pub copies_missing: u64,
    /// Log entries that the replica which lags most has not applied.
    pub entries_behind: u64,
    /// Stores that are still comparing.
    pub stores_comparing: u64,
}

/// What is asked of a process, on the socket (as a path and a body) and between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// `GET /v1/status` → [`ClusterStatus`].
    Status,
    /// Between nodes → [`NodeReport`].
    Node,
    /// `POST /v1/zone/stop` → [`Done`].
    ZoneStop {
        /// `a`, `b` or `c`.
        zone: String,
        /// Even if that takes the quorum.
        #[serde(default)]
        force: bool,
    },
    /// `POST /v1/zone/start` → [`Done`].
    ZoneStart {
        /// `a`, `b` or `c`.
        zone: String,
    },
    /// Between nodes: stop or start all your stores, as your zone is → [`Done`].
    Stores {
        /// Start them.
        start: bool,
    },
    /// `POST /v1/store/replace` → [`Replaced`].
    Replace(Replace),
    /// Between nodes: make the new store and put it in the place of the old one → [`Replaced`].
    ReplaceHere(Replace),
    /// `POST /v1/store/add` → [`Added`].
    Add(Add),
    /// Between nodes: make the new store and have it put into the map → [`Added`].
    AddHere(Add),
    /// `POST /v1/store/weight` → [`Done`].
    Weight {
        /// Which store.
        store: u64,
        /// Its share from now on; 0 drains it.
        weight: u32,
    },
    /// `POST /v1/node/add` → [`Done`].
    NodeAdd(NodeJoin),
    /// `POST /v1/node/move` → [`Done`].
    NodeMove(NodeMove),
    /// `POST /v1/node/remove` → [`Done`].
    NodeRemove {
        /// Which node.
        name: String,
    },
    /// `POST /v1/level/raise` → [`Done`].
    LevelRaise {
        /// To which; to the newest that the node speaks if absent.
        #[serde(default)]
        to: Option<u32>,
    },
    /// Between nodes: what the map says of nodes has changed → [`Done`].
    LookAtNodes,
    /// `POST /v1/audit` → [`AuditPage`].
    Audit {
        /// The `next` of the page before.
        #[serde(default)]
        after: Option<String>,
    },
}

/// A node that joins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeJoin {
    /// What it is called.
    pub name: String,
    /// Its id, for ever.
    pub id: u32,
    /// `a`, `b` or `c`.
    pub zone: String,
    /// Where its peers reach it.
    pub peer: String,
    /// Where clients reach it.
    pub s3: String,
}

/// A node that is reached elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeMove {
    /// Which node.
    pub name: String,
    /// Where its peers reach it, if that changes.
    pub peer: Option<String>,
    /// Where clients reach it, if that changes.
    pub s3: Option<String>,
}

/// Put a new store in the place of a lost one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replace {
    /// The lost one.
    pub old: u64,
    /// The new one, if the operator chose.
    pub new: Option<u64>,
    /// The node that shall have it, if the operator chose.
    pub node: Option<String>,
    /// Its file, if the operator chose.
    pub path: Option<String>,
    /// Also while other zones lack copies that only the lost one may have.
    pub force: bool,
    /// Between nodes: bytes that the lost one had, if any node knows.
    pub capacity: Option<u64>,
}

/// A replacement was made, or had been already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replaced {
    /// The lost one.
    pub old: u64,
    /// The one in its place.
    pub new: u64,
    /// The node that has it.
    pub node: String,
}

/// Add a store to the zone of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Add {
    /// The node that shall have it.
    pub node: String,
    /// Its id, if the operator chose.
    pub new: Option<u64>,
    /// Its file, if the operator chose.
    pub path: Option<String>,
    /// Its share of the zone's data, relative to others.
    pub weight: u32,
    /// Bytes that it may take, if not as many as its node's configuration says.
    pub capacity: Option<u64>,
}

/// A store was added, or had been already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Added {
    /// Which.
    pub new: u64,
    /// The node that has it.
    pub node: String,
}

/// It was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// What, in words.
    pub text: String,
}

/// A part of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditPage {
    /// Objects looked at.
    pub objects: u64,
    /// Their chunks.
    pub chunks: u64,
    /// Copies that were read whole and are right.
    pub copies_good: u64,
    /// Copies that are missing or wrong.
    pub bad: Vec<Finding>,
    /// Stores that did not answer.
    pub unreachable: Vec<u64>,
    /// Where to go on; none at the end.
    pub next: Option<String>,
}

/// A copy that is missing or wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finding {
    /// Of which object.
    pub key: String,
    /// Of which chunk.
    pub chunk: String,
    /// At which store.
    pub store: u64,
    /// What is wrong.
    pub error: String,
}

impl From<AuditFinding> for Finding {
    fn from(found: AuditFinding) -> Self {
        Self {
            key: found.key,
            chunk: found.chunk.to_string(),
            store: found.store.0,
            error: found.error.to_string(),
        }
    }
}

/// Why something was not done, for the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// In words, with the way out.
    pub error: String,
}
