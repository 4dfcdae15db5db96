//! Makes a failing case small: delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing
//! input", IEEE TSE 2002) over what clients do, what fails, and the schedule.
//!
//! A smaller case is taken only if the same checker fails with the same fingerprint. First the schedule is made plain,
//! if the failure bears it: with the shortest latencies, and draws that do not depend on each other, a run
//! without one operation is much like the run with it.

mod edits;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::case::{Case, fingerprint};
use crate::run::Report;
use crate::{Nanos, SECOND};

/// Other seeds that a case is tried with where its own does not fail.
const SEEDS: u64 = 6;
/// A case that is this small is small enough: no other seeds are tried to make it smaller.
pub const OPERATIONS_FEW: usize = 20;
/// The same for faults.
pub const FAULTS_FEW: usize = 3;
/// How much longer than the failing run a candidate may take, in simulated time, before it passes.
const PATIENCE: Nanos = 5 * SECOND;

/// How large a failing run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// What clients do.
    pub operations: usize,
    /// Big and small.
    pub faults: usize,
    /// Until it fails.
    pub events: u64,
    /// The same.
    pub simulated: Nanos,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, faults, events, simulated } = self;
        let seconds = *simulated as f64 / SECOND as f64;
        write!(f, "{operations} operations, {faults} faults, {events} events, {seconds:.2} s")
    }
}

/// A case that was made small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// It fails as the one before did.
    pub case: Case,
    /// How.
    pub report: Report,
    /// What the failing run was like.
    pub before: Size,
    /// What it is like now.
    pub after: Size,
    /// How many candidates were run.
    pub tried: u64,
    /// Nothing can be left out any more; else the time was over.
    pub finished: bool,
}

/// How to go about it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads.
    pub jobs: usize,
    /// How long at most.
    pub time: Duration,
}

/// Runs a case until a moment at the latest.
pub type Runner<'a> = dyn Fn(&Case, Nanos) -> Report + Sync + 'a;

/// Make `case` as small as it gets. `say` hears of each smaller one, and of what was being tried.
///
/// # Errors
/// If it does not fail.
pub fn shrink(
    case: Case,
    run: &Runner<'_>,
    limits: Limits,
    say: &mut dyn FnMut(&str, Size),
) -> Result<Shrunk, String> {
    let report = run(&case, Nanos::MAX);
    let Some(failure) = &report.failure else {
        return Err("it does not fail: there is nothing to shrink".to_owned());
    };
    let wanted = fingerprint::of(failure);
    let before = size(&case, &report);
    let best = Case { fingerprint: wanted.clone(), ..case };
    let until = Instant::now() + limits.time;
    let jobs = limits.jobs.max(1);
    let (seen, tried) = (BTreeSet::new(), 0);
    let mut search = Search { best, report, wanted, run, jobs, until, seen, tried, what: "", say };
    let finished = search.all();
    let Search { best, report, tried, .. } = search;
    let after = size(&best, &report);
    Ok(Shrunk { case: best, report, before, after, tried, finished })
}

fn size(case: &Case, report: &Report) -> Size {
    let (operations, faults) = (case.operations(), case.faults());
    Size { operations, faults, events: report.events, simulated: report.simulated }
}

struct Search<'a> {
    best: Case,
    report: Report,
    wanted: String,
    run: &'a Runner<'a>,
    jobs: usize,
    until: Instant,
    /// Hashes of what was tried.
    seen: BTreeSet<u64>,
    tried: u64,
    what: &'static str,
    say: &'a mut dyn FnMut(&str, Size),
}

type Without = fn(&Case, Range<usize>) -> Case;

impl Search<'_> {
    /// Says whether it came to its end.
    fn all(&mut self) -> bool {
        self.plain_schedule();
        let mut round = 0;
        while !self.is_over() {
            let before = self.best.clone();
            self.smaller(0);
            if !self.is_small() {
                round += 1;
                self.smaller(round);
            }
            if self.best == before && (self.is_small() || round > 2) {
                break;
            }
        }
        self.what = "times in milliseconds";
        let rounded = edits::rounded(&self.best);
        self.attempt(vec![rounded]);
        !self.is_over()
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    fn is_small(&self) -> bool {
        self.best.operations() <= OPERATIONS_FEW && self.best.faults() <= FAULTS_FEW
    }

    /// As calm as the failure bears.
    fn plain_schedule(&mut self) {
        self.what = "the end";
        self.attempt(vec![edits::cut(&self.best, self.report.simulated)]);
        // Whatever makes runs short comes first.
        self.what = "sorts of operations";
        while self.attempt(edits::by_sort(&self.best)) {}
        self.what = "a plain schedule";
        let best = &self.best;
        let bare = edits::without_strikes(best, 0..edits::strikes(best));
        let calm = [&bare, best].map(|case| edits::shortest(case, true, true));
        let mut candidates = Vec::new();
        for case in &calm {
            candidates.extend((0..SEEDS).map(|seed| edits::seeded(case, seed)));
        }
        for case in [&bare, best] {
            candidates.push(edits::shortest(case, true, false));
            candidates.extend((0..SEEDS).map(|seed| edits::seeded(case, seed)));
        }
        self.attempt(candidates);
    }

    /// Everything that makes a case smaller, once; with `seeds` other seeds for each candidate.
    fn smaller(&mut self, seeds: u64) {
        self.what = "sorts of operations";
        while self.attempt(edits::by_sort(&self.best)) {}
        self.faults(seeds);
        self.what = "clients";
        self.thin(|case| case.operations.len(), edits::without_clients_work, 0, 1);
        // In large pieces first; the rest is easier when runs are short.
        self.what = "operations";
        let pieces = self.best.operations().div_ceil(16).max(4);
        self.thin(Case::operations, edits::without_operations, seeds, pieces);
        self.world();
        self.time();
        self.what = "operations";
        self.thin(Case::operations, edits::without_operations, seeds, 1);
        self.world();
        if self.is_small() {
            self.attempt(vec![edits::by_one_client(&self.best)]);
            self.what = "plainer operations";
            for number in 0..self.best.operations() {
                self.attempt(edits::plainer(&self.best, number));
            }
        }
        self.time();
    }

    fn faults(&mut self, seeds: u64) {
        self.what = "small faults";
        self.attempt(vec![edits::without_strikes(&self.best, 0..edits::strikes(&self.best))]);
        for kind in crate::faults::FaultKind::ALL {
            if self.best.struck.keys().any(|(of, _)| of == kind) {
                self.attempt(vec![edits::without_kind(&self.best, *kind)]);
            }
        }
        self.what = "big faults";
        self.thin(|case| case.episodes.len(), edits::without_episodes, seeds, 1);
        self.what = "small faults";
        self.thin(edits::strikes, edits::without_strikes, seeds, 1);
        self.thin(edits::firings, edits::without_firings, seeds, 1);
    }

    fn world(&mut self) {
        self.what = "the world";
        self.attempt(vec![edits::without_idle_clients(&self.best)]);
        let mut at = 0;
        // Each candidate once; whatever was taken changes those behind it.
        while let Some(world) = edits::calmer_worlds(&self.best).into_iter().nth(at) {
            at += usize::from(!self.attempt(vec![world]));
            if self.is_over() {
                return;
            }
        }
        self.attempt(vec![
            edits::shortest(&self.best, true, true),
            edits::shortest(&self.best, true, false),
            edits::shortest(&self.best, false, true),
        ]);
        self.attempt(vec![edits::without_idle_keys(&self.best)]);
        self.what = "bodies";
        let lens = [1, 100, 2_000, 20_000];
        self.attempt(lens.map(|len| edits::with_bodies_up_to(&self.best, len)).to_vec());
    }

    fn time(&mut self) {
        self.what = "time";
        self.attempt(vec![edits::without_pauses(&self.best)]);
        self.attempt(edits::shorter(&self.best));
    }

    /// Leave out more and more of a list, in ever smaller pieces, down to `least`.
    fn thin(&mut self, count: fn(&Case) -> usize, without: Without, seeds: u64, least: usize) {
        let mut piece = count(&self.best);
        while piece >= least.max(1) {
            let mut at = 0;
            while at < count(&self.best) && !self.is_over() {
                let all = count(&self.best);
                let starts: Vec<usize> = (at..all).step_by(piece).take(self.jobs).collect();
                let one = |start: &usize| without(&self.best, *start..(start + piece).min(all));
                let mut candidates: Vec<Case> = starts.iter().map(one).collect();
                // Single ones are too many to try each with several seeds.
                if piece > 1 || all <= OPERATIONS_FEW {
                    let others = candidates.clone();
                    for seed in 1..=seeds * 4 {
                        let salt = self.best.seed.wrapping_add(seed);
                        let vary = if seed % 2 == 0 { edits::seeded } else { edits::uneven };
                        candidates.extend(others.iter().map(|case| vary(case, salt)));
                    }
                }
                if !self.attempt(candidates) {
                    at += piece * starts.len();
                }
            }
            if self.is_over() {
                return;
            }
            piece = if piece > 1 { piece.div_ceil(2) } else { 0 };
        }
    }

    /// Take the first candidate that fails in the same way. Says whether there was one.
    fn attempt(&mut self, mut candidates: Vec<Case>) -> bool {
        candidates.retain(|case| {
            let mut hasher = DefaultHasher::new();
            case.write().hash(&mut hasher);
            *case != self.best && self.seen.insert(hasher.finish())
        });
        let at_most = self.report.simulated.saturating_add(self.report.simulated / 2 + PATIENCE);
        for some in candidates.chunks(self.jobs) {
            if self.is_over() {
                return false;
            }
            self.tried += some.len() as u64;
            let reports = run_all(some, self.run, at_most, self.jobs);
            let fails = |report: &Report| {
                report.failure.as_deref().map(fingerprint::of).as_ref() == Some(&self.wanted)
            };
            let found = some.iter().zip(reports).find(|(_, report)| fails(report));
            if let Some((case, report)) = found {
                (self.best, self.report) = (case.clone(), report);
                (self.say)(self.what, size(&self.best, &self.report));
                return true;
            }
        }
        false
    }
}

/// Run cases on several threads; the reports come in their order.
fn run_all(cases: &[Case], run: &Runner<'_>, at_most: Nanos, jobs: usize) -> Vec<Report> {
    if let [case] = cases {
        return vec![run(case, at_most)];
    }
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(cases.len()) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { break };
                    if sender.send((at, run(case, at_most))).is_err() {
                        break;
                    }
                }
            });
        }
    });
    drop(sender);
    let mut reports: Vec<_> = receiver.into_iter().collect();
    reports.sort_by_key(|(at, _)| *at);
    reports.into_iter().map(|(_, report)| report).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::record;
    use crate::seed::Seed;
    use crate::world::toy::{Bug, Toy};

    /// The first seed in which a toy's bug is found, shrunk.
    fn shrunk(bug: Bug) -> Shrunk {
        let run = |case: &Case, at: Nanos| case.play(Toy::new(bug), None, at);
        let failing = (0..60).find_map(|seed| {
            let (report, case) = record(Toy::new(bug), Seed::plain(seed).setup(), None);
            report.failure.is_some().then_some(case)
        });
        let case = failing.unwrap_or_else(|| panic!("no seed finds {bug:?}"));
        let limits = Limits { jobs: 2, time: Duration::from_secs(600) };
        shrink(case, &run, limits, &mut |_, _| {}).expect("it fails")
    }

    #[test]
    fn failures_become_few_operations_and_faults() {
        for (bug, operations, faults) in
            [(Bug::IgnoresConditions, 6, 1), (Bug::WrongByte, 6, 1), (Bug::KeepsDeleted, 6, 1)]
        {
            let Shrunk { case, report, before, after, .. } = shrunk(bug);
            assert!(after.operations <= operations, "{bug:?}: {after}, before {before}");
            assert!(after.faults <= faults, "{bug:?}: {after}, before {before}");
            // It fails in the same way when it is read back.
            let read = Case::read(&case.write()).expect("it was written");
            let again = read.play(Toy::new(bug), None, Nanos::MAX);
            assert_eq!(again.failure, report.failure);
            assert_eq!(fingerprint::of(&report.failure.expect("it fails")), case.fingerprint);
            // What is right passes.
            assert_eq!(read.play(Toy::new(Bug::None), None, Nanos::MAX).failure, None, "{bug:?}");
        }
    }

    #[test]
    fn what_passes_is_not_shrunk() {
        let (_, case) = record(Toy::new(Bug::None), Seed::plain(0).setup(), None);
        let run = |case: &Case, at: Nanos| case.play(Toy::new(Bug::None), None, at);
        let limits = Limits { jobs: 1, time: Duration::from_secs(5) };
        assert!(shrink(case, &run, limits, &mut |_, _| {}).is_err());
    }
}
