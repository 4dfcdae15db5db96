//! What clients do, and how their answers are judged.
//!
//! [`Workload::next`] says what a client asks next, [`Workload::finished`] judges what came of it:
//! bytes, tags and shapes at once, everything that depends on order through the
//! [`History`] at the end. The world (see [`crate::world`]) carries requests and bodies between the
//! two.

pub mod body;
mod choose;
mod copy;
mod judge;
pub mod operation;
pub use judge::Stamps;
mod upload;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use trine_core::cluster::Node;
use trine_core::ids::{Order, StoreId, TenantId, ZoneId};
use trine_core::level::Level;
use trine_core::object::{BucketName, ETag, ObjectKey, Owner};
use trine_core::request::{ApiError, BucketPath, ByteRange, ObjectPath, Reply, Request};

use crate::checkers::history::History;
use crate::checkers::listing::Query;
use crate::checkers::redundancy::Redundancy;
use crate::checkers::register::{Condition, ValueFacts, ValueId};
use crate::faults::swarm::Swarm;
use crate::random::Draw;
use operation::Planned;
use upload::Upload;

/// Who owns everything.
const TENANT: TenantId = TenantId(0);
/// The bucket of the objects.
const BUCKET: &str = "main-bucket";
/// An object that is never deleted, so that the bucket never is empty.
pub(crate) const ANCHOR: &str = "zz-anchor";
/// Buckets that come and go.
const PASSING_BUCKETS: [&str; 2] = ["passing-a", "passing-b"];

/// One request that a client makes.
#[derive(Clone, Debug)]
pub struct Job {
    /// For the gateway.
    pub request: Request,
    /// The body that follows, if the request has one.
    pub body: Option<Bytes>,
    intent: Intent,
}

impl Job {
    /// The operator's: a new store takes the slot of an old one.
    pub fn replace(old: StoreId, new: StoreId) -> Self {
        Self::of_operator(Request::ReplaceStore { old, new })
    }

    /// The operator's: a new store gets a slot of its own.
    pub fn add(zone: ZoneId, store: StoreId, weight: u32) -> Self {
        Self::of_operator(Request::AddStore { zone, store, weight })
    }

    /// The operator's: a store gets another weight.
    pub fn weigh(store: StoreId, weight: u32) -> Self {
        Self::of_operator(Request::SetWeight { store, weight })
    }

    /// The operator's: the feature level is raised.
    pub fn raise(to: Level) -> Self {
        Self::of_operator(Request::RaiseLevel { to })
    }

    /// The operator's: a node is written down.
    pub fn node(node: Node) -> Self {
        Self::of_operator(Request::SetNode { node })
    }

    fn of_operator(request: Request) -> Self {
        Self { request, body: None, intent: Intent::Operate }
    }
}

/// What came of a request, as the client knows it.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// The reply; `None` if the connection broke before, or the client gave up.
    pub reply: Option<Result<Reply, ApiError>>,
    /// The bytes of the reply's body.
    pub body: Vec<u8>,
    /// Whether the end of the reply's body came.
    pub body_whole: bool,
    /// Whether the client sent the end of the request's body (or there was none to send).
    pub sent_whole: bool,
}

impl Ending {
    /// Whether the cluster did its work: a reply that does not ask to come again.
    pub fn is_served(&self) -> bool {
        !matches!(
            self.reply,
            None | Some(Err(ApiError::Unavailable(_)
                | ApiError::Internal(_)
                | ApiError::SlowDown(_)))
        )
    }
}

/// What a request was made for.
#[derive(Clone, Debug)]
enum Intent {
    CreateBucket(&'static str),
    DeleteBucket(&'static str),
    HeadBucket(&'static str),
    ListBuckets,
    /// Must be refused: the anchor is in it.
    DeleteFullBucket,
    Put {
        key: usize,
        value: ValueId,
        condition: Condition,
    },
    Get {
        key: usize,
        range: Option<ByteRange>,
        unless: Option<ETag>,
    },
    Head {
        key: usize,
    },
    Delete {
        key: usize,
        condition: Condition,
    },
    DeleteMany {
        keys: Vec<usize>,
    },
    List {
        query: Query,
    },
    CreateUpload {
        key: usize,
        value: ValueId,
    },
    Part {
        number: u16,
        bytes: Bytes,
    },
    Copy {
        source: usize,
        key: usize,
        value: ValueId,
        condition: Condition,
    },
    CopyPart {
        source: usize,
        number: u16,
        range: Option<(u64, u64)>,
    },
    ListParts,
    ListUploads,
    /// Must be refused: a part that is not the last is too small.
    CompleteTooSmall,
    Complete {
        condition: Condition,
    },
    Abort,
    /// What uploads are left.
    LastUploads,
    /// Of one of those.
    LastAbort,
    /// The operator's.
    Operate,
}

#[derive(Clone, Debug, Default)]
enum Script {
    #[default]
    None,
    Upload(Box<Upload>),
    /// More pages follow.
    Listing(Query),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Client 0 makes the bucket, then the anchor.
    CreateBucket,
    PutAnchor,
    /// Everybody does as they like.
    Open,
    /// Client 0 aborts what is left of uploads, so that it is known what may be left of blobs...
    AbortUploads,
    /// ...deletes every key but the anchor, if that is asked for...
    Empty {
        next: usize,
    },
    /// ...reads every key...
    Verify {
        next: usize,
    },
    /// ...and lists the bucket.
    VerifyListing,
    Over,
}

/// Where operations come from.
#[derive(Debug, Default)]
pub enum Source {
    /// They are chosen as the run goes.
    #[default]
    Drawn,
    /// The same, and written down, for each client.
    Recorded(Vec<Vec<Planned>>),
    /// They are these, for each client.
    Given(Vec<VecDeque<Planned>>),
}

/// The names of the keys in a world: hot ones, cold ones, and at last the anchor.
pub fn key_names(swarm: &Swarm) -> Vec<String> {
    let hot = (0..swarm.hot_keys).map(|n| format!("hot-{n}"));
    // Characters that sort oddly, and prefixes that roll up at several depths.
    let folders = ["a/", "a+b/", "a/b/", "dir/", "dir/sub/", "ü/"];
    let cold = (0..swarm.cold_keys).zip(folders.into_iter().cycle());
    let cold = cold.map(|(n, folder)| format!("{folder}key-{n}"));
    hot.chain(cold).chain([ANCHOR.to_owned()]).collect()
}

/// All clients together.
#[derive(Debug)]
pub struct Workload {
    seed: u64,
    /// What was seen.
    pub history: History,
    /// What was read back at the end, and where its copies must be.
    pub redundancy: Redundancy,
    keys: Vec<ObjectKey>,
    hot_keys: u64,
    body_max: u64,
    large_part: bool,
    /// Bodies of values, by value; `None` until an upload is completed.
    bodies: Vec<Option<Bytes>>,
    /// The values that were made for each key.
    values_of: BTreeMap<usize, Vec<ValueId>>,
    /// Copies that were asked for.
    copies: BTreeMap<ValueId, copy::Asked>,
    /// Whether there are any.
    copying: bool,
    churn: bool,
    /// Whether all is deleted at the end.
    empties: bool,
    /// Uploads that are left at the end.
    uploads_left: VecDeque<(ObjectKey, Order)>,
    late_reads: u32,
    /// The newest tag that anyone saw, by key: for compare-and-set.
    tags: BTreeMap<usize, ETag>,
    clients: Vec<(Draw, Script)>,
    source: Source,
    phase: Phase,
    /// All is to be read back as soon as the anchor is there.
    verifying: bool,
}

impl Workload {
    /// The workload of a seed, over `keys`, the last of which is the anchor.
    ///
    /// # Panics
    /// If a key is not valid, or operations are given for other clients than there are.
    pub fn new(seed: u64, swarm: &Swarm, keys: &[String], mut source: Source) -> Self {
        let parse = |name: &String| ObjectKey::parse(name).expect("the names of keys are valid");
        match &mut source {
            Source::Drawn => {}
            Source::Recorded(lists) => lists.resize(swarm.clients, Vec::new()),
            Source::Given(lists) => assert_eq!(lists.len(), swarm.clients, "a list for each"),
        }
        Self {
            seed,
            history: History::default(),
            redundancy: Redundancy::default(),
            keys: keys.iter().map(parse).collect(),
            hot_keys: swarm.hot_keys,
            body_max: swarm.body_max,
            large_part: swarm.large_part,
            bodies: Vec::new(),
            values_of: BTreeMap::new(),
            copies: BTreeMap::new(),
            copying: swarm.copies,
            churn: swarm.churn,
            empties: swarm.empties,
            uploads_left: VecDeque::new(),
            late_reads: 0,
            tags: BTreeMap::new(),
            clients: (0..swarm.clients)
                .map(|n| (Draw::new(seed, 100 + n as u64), Script::None))
                .collect(),
            source,
            phase: Phase::CreateBucket,
            verifying: false,
        }
    }

    /// Begin to read everything back, once bucket and anchor are there. No client may have a request
    /// in hand.
    pub fn verify(&mut self) {
        self.verifying = true;
        if self.phase == Phase::Open {
            self.phase = Phase::AbortUploads;
        }
        for (_, script) in &mut self.clients {
            *script = Script::None;
        }
    }

    /// The operations that were done so far, if they are written down.
    pub fn recorded(&self) -> Vec<Vec<Planned>> {
        match &self.source {
            Source::Recorded(lists) => lists.clone(),
            Source::Drawn | Source::Given(_) => Vec::new(),
        }
    }

    /// Whether all operations were given, and none is left.
    pub fn is_exhausted(&self) -> bool {
        let Source::Given(lists) = &self.source else { return false };
        self.phase == Phase::Open && lists.iter().all(VecDeque::is_empty)
    }

    /// Whether everything was read back.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The keys of the world, the anchor last.
    pub fn keys(&self) -> &[ObjectKey] {
        &self.keys
    }

    /// What is still to be read back, for a report about a stuck run.
    pub fn stage(&self) -> String {
        format!("{:?} of {} keys", self.phase, self.keys.len())
    }

    /// The body of the value with this number, if its bytes are known: for scenarios that look for
    /// it on a disk.
    pub fn body_of(&self, value: usize) -> Option<&Bytes> {
        self.bodies.get(value)?.as_ref()
    }

    /// How many values were made so far.
    pub fn values(&self) -> usize {
        self.bodies.len()
    }

    fn new_value(&mut self, key: usize, len: u64) -> (ValueId, Bytes) {
        let bytes = body::content(self.seed ^ ((self.bodies.len() as u64) << 32), len);
        let etag = body::etag(&bytes);
        let facts = ValueFacts { etag, length: len, content: etag, known: true };
        self.bodies.push(Some(bytes.clone()));
        let value = self.history.add_value(facts);
        self.values_of.entry(key).or_default().push(value);
        (value, bytes)
    }

    fn path(&self, key: usize) -> ObjectPath {
        ObjectPath { bucket: bucket(BUCKET), key: self.keys[key].clone() }
    }

    fn anchor(&self) -> usize {
        self.keys.len() - 1
    }
}

fn bucket(name: &str) -> BucketPath {
    let name = BucketName::parse(name).expect("the simulation's names are valid");
    BucketPath { tenant: TENANT, name }
}

fn owner() -> Owner {
    Owner { tenant: TENANT, user: "simulated".to_owned() }
}
