//! What many runs add up to.

use std::fmt::Write;
use std::time::Duration;

use trine_core::rare::{Probe, Site};
use trine_sim::faults::swarm::{Flavour, Frequency};
use trine_sim::faults::{FaultKind, Hits};
use trine_sim::run::Report;
use trine_sim::seed::Seed;
use trine_sim::{MILLISECOND, Nanos, SECOND};

/// From so many seeds on, a fault that never happened is a mistake of the simulator.
const SEEDS_TELLING: u64 = 1_000;
/// From so many on, a path that is taken in few seeds too.
const SEEDS_TELLING_SELDOM: u64 = 20_000;
/// Paths and sites that fewer than 20 of 1,000 seeds take.
const SELDOM: [&str; 11] = [
    "EntriesHeldBack",
    "LeaderFull",
    "CommandRefusedFull",
    "GiverGone",
    "RingWrapped",
    "EarlyFence",
    "PageDropped",
    "AllRowsTaken",
    "ReadsUnnamed",
    "LeaderDoubted",
    "ReclaimWaitsForJournal",
];
/// The slowest seeds that are named.
const SLOWEST: usize = 3;

/// The sums over all seeds so far.
#[derive(Debug, Default)]
pub(crate) struct Table {
    seeds: u64,
    twice: u64,
    failures: Vec<String>,
    simulated: Nanos,
    /// Time of threads.
    busy: Duration,
    events: u64,
    operations: u64,
    served: u64,
    undecided: u64,
    copies: [u64; 2],
    journal_rounds: u64,
    chunks_freed: u64,
    gaps: Vec<Nanos>,
    redundant_after: Vec<Nanos>,
    clean_after: Vec<Nanos>,
    proven_after: Vec<Nanos>,
    merges: [u64; 3],
    hits: Hits,
    probes: Vec<u64>,
    sites: Vec<u64>,
    enabled: Vec<u64>,
    slowest: Vec<(Duration, String)>,
}

impl Table {
    pub(crate) fn add(&mut self, seed: &Seed, report: &Report, took: Duration, twice: bool) {
        self.seeds += 1;
        self.twice += u64::from(twice);
        if report.failure.is_some() {
            let [replay, _] = seed.lines();
            self.failures.push(replay);
        }
        self.simulated += report.simulated;
        self.busy += took;
        self.events += report.events;
        self.operations += report.counts.operations;
        self.served += report.counts.served;
        for (sum, count) in self.copies.iter_mut().zip(report.counts.copies_done) {
            *sum += count;
        }
        self.undecided += report.counts.undecided;
        self.journal_rounds += report.counts.journal_rounds;
        self.chunks_freed += report.counts.chunks_freed;
        self.hits.add(&report.counts.hits);
        add(&mut self.probes, &report.counts.rare.hits);
        let fired = report.counts.rare.fired.iter().map(|times| times.len() as u64);
        add(&mut self.sites, &fired.collect::<Vec<_>>());
        if report.swarm.flavour == Flavour::OneZone {
            self.gaps.push(report.counts.gap_max);
        }
        for (sum, count) in self.merges.iter_mut().zip(report.counts.merges) {
            *sum += count;
        }
        self.redundant_after.extend(report.counts.redundant_after);
        self.clean_after.extend(report.counts.clean_after);
        self.proven_after.extend(report.counts.proven_after);
        self.enabled.resize(FaultKind::ALL.len(), 0);
        for (count, kind) in self.enabled.iter_mut().zip(FaultKind::ALL) {
            *count += u64::from(report.swarm.knob(*kind) != Frequency::Off);
        }
        self.slowest.push((took, seed.to_string()));
        self.slowest.sort_unstable_by(|one, other| other.cmp(one));
        self.slowest.truncate(SLOWEST);
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.len() as u64
    }

    /// One line while it runs.
    pub(crate) fn progress(&self, of: u64, took: Duration) -> String {
        let eighths = (self.seeds * 24).checked_div(of).unwrap_or(0);
        let bar: String = (0..24).map(|at| if at < eighths { '█' } else { '░' }).collect();
        let rate = self.seeds as f64 / took.as_secs_f64().max(0.001);
        // Of a run that ends with the time, nobody knows how many there will be.
        let of = if of == u64::MAX { String::new() } else { format!("/{of}") };
        format!("{bar} {}{of} seeds, {rate:.1}/s, {} failed ", self.seeds, self.failures.len())
    }

    /// Kinds of fault that were on in some seed, over enough seeds, and never happened.
    pub(crate) fn silent_kinds(&self) -> Vec<&'static str> {
        if self.seeds < SEEDS_TELLING {
            return Vec::new();
        }
        let kinds = FaultKind::ALL.iter().zip(&self.enabled);
        kinds
            .filter(|(kind, enabled)| **enabled > 0 && self.hits.of(**kind) == 0)
            .map(|(kind, _)| kind.name())
            .collect()
    }

    /// Rare paths that were never taken, and sites of the core that never fired, over enough seeds.
    pub(crate) fn silent_paths(&self) -> Vec<&'static str> {
        if self.seeds < SEEDS_TELLING {
            return Vec::new();
        }
        let probes = Probe::ALL.iter().map(|probe| probe.name()).zip(&self.probes);
        let sites = Site::ALL.iter().map(|site| site.name()).zip(&self.sites);
        let telling = |name: &&str| self.seeds >= SEEDS_TELLING_SELDOM || !SELDOM.contains(name);
        let silent = probes.chain(sites).filter(|(_, count)| **count == 0).map(|(name, _)| name);
        silent.filter(telling).collect()
    }

    /// The table at the end.
    pub(crate) fn render(&self, took: Duration) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name:<24} {value:>14}").expect("a String takes everything");
        };
        let seconds = self.simulated as f64 / SECOND as f64;
        line("seeds", self.seeds.to_string());
        line("of them run twice", self.twice.to_string());
        line("failed", self.failures.len().to_string());
        line("simulated time", format!("{seconds:.0} s"));
        line("speed-up", format!("{:.0} ×", seconds / took.as_secs_f64().max(0.001)));
        line("events", self.events.to_string());
        let per_second = self.events as f64 / self.busy.as_secs_f64().max(0.001);
        line("  per second of a thread", format!("{per_second:.0}"));
        let speed = seconds / self.busy.as_secs_f64().max(0.001);
        line("  simulated s in one of it", format!("{speed:.1}"));
        line("operations", self.operations.to_string());
        line("  served", self.served.to_string());
        line("  copies of objects", self.copies[0].to_string());
        line("  copies into parts", self.copies[1].to_string());
        line("  keys not decided", self.undecided.to_string());
        line("rounds of journals", self.journal_rounds.to_string());
        line("chunks freed", self.chunks_freed.to_string());
        let mut gaps = self.gaps.clone();
        gaps.sort_unstable();
        let gap = |at: usize| format!("{} ms", gaps.get(at).unwrap_or(&0) / MILLISECOND);
        line("one zone failing: runs", gaps.len().to_string());
        line("  longest wait, median", gap(gaps.len() / 2));
        line("  longest wait, worst", gap(gaps.len().saturating_sub(1)));
        for (name, after) in
            [("all copies seen", &self.redundant_after), ("nothing dead left", &self.clean_after)]
        {
            let mut after = after.clone();
            after.sort_unstable();
            let after_ms = |percent: usize| {
                let at = after.len().saturating_sub(1) * percent / 100;
                format!("{} ms", after.get(at).unwrap_or(&0) / MILLISECOND)
            };
            line(&format!("{name}: runs"), after.len().to_string());
            line("  after faults, median", after_ms(50));
            line("  after faults, p99", after_ms(99));
            line("  after faults, worst", after_ms(100));
        }
        let mut proven = self.proven_after.clone();
        proven.sort_unstable();
        let worst = proven.last().unwrap_or(&0) / MILLISECOND;
        line("map changes proven: runs", proven.len().to_string());
        line("  after faults, worst", format!("{worst} ms"));
        for (name, count) in
            ["merges of runs", "  values moved", "  segments freed"].into_iter().zip(self.merges)
        {
            line(name, count.to_string());
        }
        writeln!(text, "\n{:<24} {:>14} {:>10}", "fault", "happened", "seeds on")
            .expect("a String takes everything");
        for (kind, enabled) in FaultKind::ALL.iter().zip(&self.enabled) {
            writeln!(text, "{:<24} {:>14} {enabled:>10}", kind.name(), self.hits.of(*kind))
                .expect("a String takes everything");
        }
        let probes = Probe::ALL.iter().map(|probe| probe.name()).zip(&self.probes);
        let sites = Site::ALL.iter().map(|site| site.name()).zip(&self.sites);
        for (head, counts) in [
            ("rare path", probes.collect::<Vec<_>>()),
            ("unusual behaviour", sites.collect::<Vec<_>>()),
        ] {
            writeln!(text, "\n{head:<24} {:>14}", "happened").expect("a String takes everything");
            for (name, count) in counts {
                writeln!(text, "{name:<24} {count:>14}").expect("a String takes everything");
            }
        }
        for (took, seed) in &self.slowest {
            writeln!(text, "slow: {seed} took {:.2} s", took.as_secs_f64())
                .expect("a String takes everything");
        }
        for failure in &self.failures {
            writeln!(text, "FAILED {failure}").expect("a String takes everything");
        }
        text
    }
}

/// Add counts to sums, place by place.
fn add(sums: &mut Vec<u64>, counts: &[u64]) {
    sums.resize(counts.len(), 0);
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count;
    }
}
