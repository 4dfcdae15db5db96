//! Crash consistency, exhaustively: a scripted run is done once without a crash, and then once more for each moment at
//! which a disk completes an effect, for each way to crash there ([`CrashPoint`]).
//!
//! In each of these runs all checkers look on; the disks of the stores that crashed are opened and verified before
//! these recover ([`crate::checkers::examine`]), and at the end everything is read back, all copies are asked for,
//! replicas are compared, and all disks are verified once more.

mod command;
pub mod scripts;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use trine_core::rare::Bug;

pub use command::{Crash, run_command};

use crate::run::Report;
use crate::trace::Sink;
use crate::world::{CrashPoint, Left, Real, Who, World};
use scripts::Script;

/// The ways to crash at a completion. What no sync has covered is lost in one way only, before: what is durable does
/// not depend on whether the store was told.
const WAYS: [(bool, Left); 6] = [
    (false, Left::Cache),
    (true, Left::Cache),
    (false, Left::Synced),
    (false, Left::Everything),
    (false, Left::Mixed),
    (true, Left::Mixed),
];

/// A crash that broke something.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `SCRIPT:WHO:NUMBER:before|after:LEFT`, for `--point`.
    pub point: String,
    /// What was said.
    pub failure: String,
}

/// What came of the points of a script.
#[derive(Debug, Default)]
pub struct Outcome {
    /// All that there are.
    pub points: usize,
    /// Those that were tried.
    pub tried: usize,
    /// Those whose moment never came.
    pub missed: usize,
    /// Those that failed.
    pub findings: Vec<Finding>,
    /// Operations of clients in the run without a crash.
    pub operations: u64,
    /// Merges of runs in it.
    pub merges: u64,
    /// Chunks freed in it.
    pub chunks_freed: u64,
    /// Segments that merges and moves gave back in it.
    pub segments_freed: u64,
}

/// What of all points is to be tried, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Every `share.1`-th, from the `share.0`-th on.
    pub share: (usize, usize),
    /// Threads.
    pub jobs: usize,
    /// A mistake that the core is to make.
    pub planted: Option<Bug>,
    /// Stop after so many failures.
    pub failures_max: usize,
}

/// A run of a script with one more crash than it always has, or none.
#[derive(Debug)]
pub struct Tried {
    /// What came of it.
    pub report: Report,
    /// Completions of each store's disk, and of all.
    pub completions: (Vec<u64>, u64),
    /// The same at the last crash.
    pub at_crash: (Vec<u64>, u64),
    /// Which store led at the end.
    pub leader: Option<usize>,
    /// Crashes whose moment did not come.
    pub missed: usize,
}

/// Run a script.
pub fn try_point(
    script: &Script,
    point: Option<CrashPoint>,
    planted: Option<Bug>,
    sink: Option<Sink>,
) -> Tried {
    let mut case = script.case.clone();
    case.swarm.rare.planted = planted;
    let points: Vec<CrashPoint> = script.before.iter().copied().chain(point).collect();
    let none = || (Vec::new(), 0);
    let mut seen = (none(), none(), None, 0);
    let drive = |world: &mut World<Real>| {
        world.crash_at(&points);
        let result = world.run();
        let leader = world.leader().map(|it| it.store);
        let (completions, at_crash) = (world.completions(), world.completions_at_crash());
        seen = (completions, at_crash, leader, world.crashes_left());
        result
    };
    let caught = catch_unwind(AssertUnwindSafe(|| case.drive(Real, sink, drive)));
    let report = caught.unwrap_or_else(|_| Report::without_an_end(&case));
    let (completions, at_crash, leader, missed) = seen;
    Tried { report, completions, at_crash, leader, missed }
}

/// All points of a script that come after those it always has: of the leader, of a follower, and of all at once.
fn points_of(calm: &Tried) -> Vec<CrashPoint> {
    let (of_stores, all) = &calm.completions;
    let leader = calm.leader.unwrap_or(0);
    let follower = (0..of_stores.len()).find(|store| *store != leader).unwrap_or(0);
    let begun = &calm.at_crash;
    let of = |counts: &[u64], store: usize| counts.get(store).copied().unwrap_or(0);
    let mut points = Vec::new();
    for (who, first, last) in [
        (Who::Store(leader), of(&begun.0, leader), of(of_stores, leader)),
        (Who::Store(follower), of(&begun.0, follower), of(of_stores, follower)),
        (Who::All, begun.1, *all),
    ] {
        for number in first + 1..=last {
            points.extend(WAYS.map(|(after, left)| CrashPoint { who, number, after, left }));
        }
    }
    points
}

/// Try a share of the points of a script. `told`: hears of each finding, and how many points are done.
pub fn sweep(
    script: &Script,
    plan: &Plan,
    told: &(dyn Fn(usize, Option<&Finding>) + Sync),
) -> Outcome {
    let calm = try_point(script, None, plan.planted, None);
    let counts = &calm.report.counts;
    let mut outcome = Outcome {
        operations: counts.operations,
        merges: counts.merges[0],
        segments_freed: counts.merges[2],
        chunks_freed: counts.chunks_freed,
        ..Outcome::default()
    };
    if let Some(failure) = calm.report.failure {
        let finding = Finding { point: script.name.to_owned(), failure };
        told(0, Some(&finding));
        outcome.findings.push(finding);
        return outcome;
    }
    let points = points_of(&calm);
    let (nth, of) = plan.share;
    let chosen: Vec<CrashPoint> = points.iter().skip(nth % of).step_by(of).copied().collect();
    let (next, missed, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let findings = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(point) = chosen.get(place) else { break };
                let tried = try_point(script, Some(*point), plan.planted, None);
                missed.fetch_add(tried.missed, Ordering::Relaxed);
                let finding = tried.report.failure.map(|failure| {
                    let finding = Finding { point: point_text(script.name, point), failure };
                    let mut findings = findings.lock().expect("nobody panics with it");
                    findings.insert(place, finding.clone());
                    if findings.len() >= plan.failures_max {
                        stop.store(true, Ordering::Relaxed);
                    }
                    finding
                });
                told(place + 1, finding.as_ref());
            }
        };
        let workers: Vec<_> = (0..plan.jobs).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().expect("it catches panics");
        }
    });
    outcome.points = points.len();
    outcome.tried = next.into_inner().min(chosen.len());
    outcome.missed = missed.into_inner();
    outcome.findings =
        findings.into_inner().expect("nobody panics with it").into_values().collect();
    outcome
}

const LEFT: [(Left, &str); 4] = [
    (Left::Cache, "cache"),
    (Left::Synced, "synced"),
    (Left::Everything, "everything"),
    (Left::Mixed, "mixed"),
];

/// A point in a word.
pub fn point_text(script: &str, point: &CrashPoint) -> String {
    let who = match point.who {
        Who::Store(store) => format!("store-{}", store + 1),
        Who::All => "all".to_owned(),
    };
    let when = if point.after { "after" } else { "before" };
    let left = LEFT.iter().find(|(left, _)| *left == point.left).map_or("", |(_, word)| *word);
    format!("{script}:{who}:{}:{when}:{left}", point.number)
}

/// Read [`point_text`].
///
/// # Errors
/// What is wrong with it.
pub fn read_point(text: &str) -> Result<(Script, CrashPoint), String> {
    let wrong = || format!("{text:?} is no SCRIPT:store-N|all:NUMBER:before|after:LEFT");
    let words: Vec<&str> = text.split(':').collect();
    let [script, who, number, when, left] = words[..] else { return Err(wrong()) };
    let script = scripts::scripts().into_iter().find(|it| it.name == script).ok_or_else(wrong)?;
    let who = match who.strip_prefix("store-") {
        None if who == "all" => Who::All,
        None => return Err(wrong()),
        Some(store) => {
            let store: usize = store.parse().map_err(|_| wrong())?;
            let place = store.checked_sub(1).filter(|place| *place < script.case.swarm.stores());
            Who::Store(place.ok_or_else(wrong)?)
        }
    };
    let after = match when {
        "after" => true,
        "before" => false,
        _ => return Err(wrong()),
    };
    let (left, _) = LEFT.iter().find(|(_, word)| *word == left).ok_or_else(wrong)?;
    let number = number.parse().map_err(|_| wrong())?;
    Ok((script, CrashPoint { who, number, after, left: *left }))
}
