//! What clients do in the runs that crash everywhere: always the same, drawn by streams that never change.

use trine_core::cluster::Geometry;

use crate::case::Case;
use crate::checkers::listing::Query;
use crate::faults::strikes::Struck;
use crate::faults::swarm::{Latency, Swarm};
use crate::random::Draw;
use crate::workload::key_names;
use crate::workload::operation::{Operation, Planned, Wish};
use crate::world::{CrashPoint, GEOMETRY, Left, Who};
use crate::{MICROSECOND, MILLISECOND, Nanos, SECOND};

/// Clients of each script.
const CLIENTS: usize = 3;
/// The purposes of the draws of scripts ([`Draw::new`]).
const PURPOSE: u64 = 70;

/// A run without faults, and what it is for.
#[derive(Clone, Debug)]
pub struct Script {
    /// For the command line.
    pub name: &'static str,
    /// For people.
    pub text: &'static str,
    /// The run.
    pub case: Case,
    /// Crashes that happen in each run of it, before the one that is tried.
    pub before: Vec<CrashPoint>,
}

/// All of them.
pub fn scripts() -> Vec<Script> {
    let after_dark = CrashPoint { who: Who::All, number: 600, after: false, left: Left::Mixed };
    vec![
        Script {
            name: "objects",
            text: "small and chunked objects are put, overwritten, copied, read and deleted",
            case: case(1, None, objects),
            before: Vec::new(),
        },
        Script {
            name: "uploads",
            text: "multipart uploads, buckets that come and go, listings",
            case: case(2, None, uploads),
            before: Vec::new(),
        },
        Script {
            name: "rows",
            text: "small objects fill memtables of 8 KiB: runs are written, and merged",
            case: case(3, Some(8 << 10), rows),
            before: Vec::new(),
        },
        Script {
            name: "reclaim",
            text: "large objects die: chunks are freed, segments emptied and given back",
            case: case(4, None, reclaim),
            before: Vec::new(),
        },
        Script {
            name: "recovery",
            text: "as rows, but all power is lost in its midst, so that there are crashes while stores recover",
            case: case(5, Some(8 << 10), rows),
            before: vec![after_dark],
        },
    ]
}

/// What a client of this number does with these keys: each time after so long.
type Fill = fn(&mut Draw, usize, &[String]) -> Vec<(Nanos, Operation)>;

/// Short waits: nobody thinks, the zones are near, disks take a fraction of a millisecond.
fn case(seed: u64, memtable: Option<u64>, fill: Fill) -> Case {
    let span = |low: u64, high: u64| Latency { low: low * MICROSECOND, high: high * MICROSECOND };
    let mut swarm = Swarm::calm(30 * SECOND);
    (swarm.near, swarm.far, swarm.disk_sync) = (span(30, 60), span(200, 400), span(100, 300));
    (swarm.clients, swarm.hot_keys, swarm.cold_keys) = (CLIENTS, 4, 8);
    swarm.memtable = memtable;
    let keys = key_names(&swarm);
    let lists = (0..CLIENTS).map(|client| {
        let mut draw = Draw::new(seed, PURPOSE + client as u64);
        let planned = |(due, operation)| Planned { due, via: client % swarm.gateways, operation };
        fill(&mut draw, client, &keys[..keys.len() - 1]).into_iter().map(planned).collect()
    });
    let operations = lists.collect();
    Case {
        story: String::new(),
        fingerprint: String::new(),
        seed,
        own_streams: true,
        keys,
        geometry: Geometry { capacity: 16 << 20, ..GEOMETRY },
        episodes: Vec::new(),
        operations,
        struck: Struck::new(),
        swarm,
    }
}

fn put(draw: &mut Draw, keys: usize, low: u64, high: u64) -> Operation {
    let wish = *draw.pick(&[Wish::Always, Wish::Always, Wish::Always, Wish::IfSeen]);
    Operation::Put { key: draw.index(keys), len: draw.between(low, high), wish, sized: true }
}

fn objects(draw: &mut Draw, _: usize, keys: &[String]) -> Vec<(Nanos, Operation)> {
    let keys = keys.len();
    let operation = |_| {
        let operation = match draw.between(0, 11) {
            0..=3 => put(draw, keys, 0, 1_024),
            4..=6 => put(draw, keys, 2_000, 40_000),
            7 => Operation::Copy {
                source: draw.index(keys),
                key: draw.index(keys),
                wish: Wish::Always,
                checksum: false,
            },
            8 => Operation::Get { key: draw.index(keys), range: None, unless_seen: false },
            9 => Operation::List(Query { keys_max: 5, ..Query::default() }),
            _ => Operation::Delete { key: draw.index(keys), wish: Wish::Always },
        };
        (0, operation)
    };
    (0..40).map(operation).collect()
}

fn uploads(draw: &mut Draw, client: usize, keys: &[String]) -> Vec<(Nanos, Operation)> {
    let keys = keys.len();
    let mut operations = Vec::new();
    for round in 0..5 {
        operations.push(Operation::CreateUpload { key: draw.index(keys) });
        for number in [3, 6] {
            let (len, identity) = (draw.between(500, 30_000), draw.bits());
            operations.push(Operation::Part { number, len, identity });
        }
        operations.push(Operation::ListParts);
        let last = round == 4 && client == 0;
        let complete = Operation::Complete { wish: Wish::Always };
        operations.push(if last { Operation::Abort } else { complete });
        let name = if draw.one_in(2) { "passing-a" } else { "passing-b" };
        operations.push(match draw.between(0, 2) {
            0 => Operation::DeleteBucket(name),
            _ => Operation::CreateBucket(name),
        });
        operations.push(match draw.between(0, 2) {
            0 => Operation::ListBuckets,
            1 => Operation::List(Query { keys_max: 1_000, ..Query::default() }),
            _ => Operation::DeleteMany { keys: vec![draw.index(keys)] },
        });
    }
    operations.into_iter().map(|operation| (0, operation)).collect()
}

fn rows(draw: &mut Draw, _: usize, keys: &[String]) -> Vec<(Nanos, Operation)> {
    let keys = keys.len();
    let operation = |_| {
        let operation = match draw.between(0, 9) {
            0..=6 => put(draw, keys, 400, 1_024),
            7 => put(draw, keys, 2_000, 6_000),
            8 => Operation::Get { key: draw.index(keys), range: None, unless_seen: false },
            _ => Operation::Delete { key: draw.index(keys), wish: Wish::Always },
        };
        (0, operation)
    };
    (0..55).map(operation).collect()
}

/// Longer than the others, since freeing waits for the beats of sessions.
fn reclaim(draw: &mut Draw, _: usize, keys: &[String]) -> Vec<(Nanos, Operation)> {
    let keys = keys.len();
    let mut operations = Vec::new();
    for round in 0..4 {
        let due = round * 700 * MILLISECOND;
        for _ in 0..6 {
            operations.push((due, put(draw, keys, 30_000, 70_000)));
        }
        for _ in 0..3 {
            let key = draw.index(keys);
            operations.push((due, Operation::Delete { key, wish: Wish::Always }));
        }
    }
    operations
}
