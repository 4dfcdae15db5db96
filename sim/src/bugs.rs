//! Mistakes planted in the core ([`Bug`]), one at a time: how many seeds it takes until a checker notices.
//!
//! Seeds are run from a fixed one on, until one fails. The same seed is run without the mistake, and must pass:
//! what was noticed was the mistake. That run also says whether the core ever came to where the mistake is; if not, the
//! run with it would be the same, and is left out. One that no seed notices shows what the simulator lacks.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use trine_core::rare::Bug;

use crate::faults::swarm::{Focus, Swarm};
use crate::run::{Report, run};
use crate::seed::Seed;
use crate::world::{Real, World};

/// The first seed, if no other is asked for.
const START: u64 = 0;
/// Seeds after which a mistake counts as not noticed.
const SEEDS_MAX: u64 = 10_000;
/// Those that took more than some 25 seeds when the table in `docs/planted-bugs.md` was made. `--quick` leaves them
/// out.
const SLOW: &[Bug] = &[
    Bug::SealedBeforeRecords,
    Bug::RecordedTooFar,
    Bug::BlocksUnverified,
    Bug::FencedSessionActs,
    Bug::PartsOutOfOrder,
    Bug::ReadNotApplied,
    Bug::ReserveIgnored,
    Bug::RepairUnverified,
    Bug::RepairLeavesDamage,
    Bug::ScrubDamageUnreported,
    Bug::HintNotSent,
    Bug::ReadsNotReported,
];
/// Characters of what was said that are shown.
const SAID_MAX: usize = 150;

/// What to hunt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunt {
    bugs: Vec<Bug>,
    start: u64,
    seeds_max: u64,
    jobs: u64,
    markdown: bool,
}

impl Hunt {
    /// From the arguments behind `bugs`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (bugs, start, seeds_max) = (Vec::new(), START, SEEDS_MAX);
        let mut hunt = Self { bugs, start, seeds_max, jobs: 2, markdown: false };
        let (mut share, mut quick) = ((0, 1), false);
        let count = |text: &str| match text.parse::<u64>() {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(format!("{text:?} is no number of 1 or more")),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--start" => hunt.start = count(&value()?)?,
                "--seeds" => hunt.seeds_max = count(&value()?)?,
                "--jobs" => hunt.jobs = count(&value()?)?,
                "--share" => share = parse_share(&value()?)?,
                "--quick" => quick = true,
                "--markdown" => hunt.markdown = true,
                name if name.starts_with("--") => {
                    return Err(format!("{name:?} is no option of bugs"));
                }
                name => {
                    let known = Bug::ALL.iter().find(|bug| bug.name() == name);
                    hunt.bugs.push(*known.ok_or_else(|| format!("no mistake is called {name:?}"))?);
                }
            }
        }
        if hunt.bugs.is_empty() {
            let (nth, of) = share;
            let in_share = |(at, _): &(usize, &Bug)| at % of == nth;
            let chosen = Bug::ALL.iter().filter(|bug| !quick || !SLOW.contains(bug));
            hunt.bugs = chosen.enumerate().filter(in_share).map(|(_, bug)| *bug).collect();
        }
        Ok(hunt)
    }
}

/// `K/N`: every `N`-th, from the `K`-th on. `K` may be any number: it is taken modulo `N`.
pub(crate) fn parse_share(text: &str) -> Result<(usize, usize), String> {
    let wrong = || format!("{text:?} is no share: a number, a slash, how many shares there are");
    let (nth, of) = text.split_once('/').ok_or_else(wrong)?;
    let nth: u64 = nth.parse().map_err(|_| wrong())?;
    let of: u64 = of.parse().ok().filter(|of| (1..=1000).contains(of)).ok_or_else(wrong)?;
    let small = |number| usize::try_from(number).expect("at most 1,000");
    Ok((small(nth % of), small(of)))
}

/// What came of one mistake.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The mistake.
    pub bug: Bug,
    /// How many seeds it took, and what was said; `None` if nobody noticed.
    pub noticed: Option<(u64, String)>,
    /// What the same seed said without the mistake, if it fails then, too.
    pub control: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Verdict {
    /// Whether it was noticed, and only when it was planted.
    pub fn holds(&self) -> bool {
        self.noticed.is_some() && self.control.is_none()
    }
}

/// Seeds without any mistake: what they said, if they failed, and which mistakes would have mattered.
#[derive(Debug, Default)]
pub struct Controls(Mutex<BTreeMap<u64, Control>>);

#[derive(Debug)]
struct Control {
    failure: Option<String>,
    consulted: Vec<bool>,
}

impl Controls {
    /// Whether a mistake matters in a run, and what that says without it.
    fn of(&self, seed: u64, bug: Bug) -> (bool, Option<String>) {
        let known = |known: &BTreeMap<u64, Control>| {
            let Control { failure, consulted } = known.get(&seed)?;
            Some((consulted.get(bug as usize).copied().unwrap_or(true), failure.clone()))
        };
        let lock = || self.0.lock().expect("nobody panics with it");
        if let Some(known) = known(&lock()) {
            return known;
        }
        let report = run_planted(seed, None);
        let Report { failure, counts, .. } = report;
        lock().insert(seed, Control { failure, consulted: counts.rare.consulted });
        known(&lock()).expect("it was just put there")
    }
}

/// Those that are hardly ever noticed but where a run is about them: only such seeds are run, which saves most of the
/// time. All others before count as if they had been, and had not noticed.
fn focus(bug: Bug) -> Option<Focus> {
    Some(match bug {
        Bug::FencedSessionActs => Focus::Fenced,
        Bug::RepairUnverified | Bug::ScrubDamageUnreported => Focus::Rotten,
        Bug::CheckpointForgetsSuspicion => Focus::Doubted,
        Bug::ReserveIgnored => Focus::Full,
        Bug::TailMovedBeforeSuperblock => Focus::SmallJournal,
        Bug::SegmentReusedWhileRead | Bug::ReadsNotReported => Focus::LongReads,
        _ => return None,
    })
}

/// Run a seed with a mistake, or without.
pub fn run_planted(seed: u64, bug: Option<Bug>) -> Report {
    let mut setup = Seed::plain(seed).setup();
    setup.swarm.rare.planted = bug;
    // A mistake may also break what reports it.
    let caught = catch_unwind(AssertUnwindSafe(|| run(Real, setup.clone(), None, World::run)));
    caught.unwrap_or_else(|_| Report {
        seed,
        failure: Some("the run could not even be ended".to_owned()),
        hash: 0,
        events: 0,
        simulated: 0,
        counts: Default::default(),
        swarm: setup.swarm,
    })
}

/// Run seeds with a mistake until one fails.
pub fn hunt(bug: Bug, start: u64, seeds_max: u64, jobs: u64, controls: &Controls) -> Verdict {
    let begun = Instant::now();
    let (next, first) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let failures = std::thread::scope(|scope| {
        let hunter = || {
            let mut failures = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                // Seeds before the first that fails are run to their ends.
                if number >= seeds_max || number > first.load(Ordering::Relaxed) {
                    return failures;
                }
                // What came of the others does not matter: the figure is the number of all seeds up to one that fails.
                if focus(bug).is_some_and(|focus| Swarm::focus(start + number) != Some(focus)) {
                    continue;
                }
                if !controls.of(start + number, bug).0 {
                    continue;
                }
                if let Some(failure) = run_planted(start + number, Some(bug)).failure {
                    first.fetch_min(number, Ordering::Relaxed);
                    failures.push((number, failure));
                }
            }
        };
        let hunters: Vec<_> = (0..jobs).map(|_| scope.spawn(hunter)).collect();
        let found = hunters.into_iter().map(|hunter| hunter.join().expect("it catches panics"));
        found.flatten().collect::<Vec<_>>()
    });
    let noticed = failures.into_iter().min_by_key(|(number, _)| *number);
    let control = noticed.as_ref().and_then(|(number, _)| controls.of(start + number, bug).1);
    Verdict {
        bug,
        noticed: noticed.map(|(number, failure)| (number + 1, fingerprint(&failure))),
        control: control.map(|failure| fingerprint(&failure)),
        took: begun.elapsed(),
    }
}

/// Hunt, and print what came of it as it comes.
fn run_all(hunt_for: &Hunt) -> Vec<Verdict> {
    let (mut verdicts, controls) = (Vec::new(), Controls::default());
    for bug in &hunt_for.bugs {
        let Hunt { start, seeds_max, jobs, .. } = *hunt_for;
        let verdict = hunt(*bug, start, seeds_max, jobs, &controls);
        println!("{}", if hunt_for.markdown { markdown(&verdict) } else { line(&verdict) });
        verdicts.push(verdict);
    }
    verdicts
}

/// Hunt, and print the table. Whether all is as it should be.
pub fn run_hunt(hunt_for: &Hunt) -> bool {
    let begun = Instant::now();
    if hunt_for.markdown {
        println!("| mistake | what is wrong | seeds | what was said |\n|---|---|---|---|");
    }
    let verdicts = run_all(hunt_for);
    let mut seeds: Vec<u64> =
        verdicts.iter().filter_map(|verdict| Some(verdict.noticed.as_ref()?.0)).collect();
    seeds.sort_unstable();
    let wrong = verdicts.iter().filter(|verdict| !verdict.holds()).count();
    eprintln!(
        "{} mistakes in {} s: {} noticed; seeds: median {}, worst {}; {wrong} not as they should be",
        verdicts.len(),
        begun.elapsed().as_secs(),
        seeds.len(),
        seeds.get(seeds.len() / 2).unwrap_or(&0),
        seeds.last().unwrap_or(&0),
    );
    wrong == 0
}

fn line(verdict: &Verdict) -> String {
    let seconds = verdict.took.as_secs_f64();
    let name = verdict.bug.name();
    let mut text = match &verdict.noticed {
        Some((seeds, said)) => format!("{name:<26} {seeds:>6} seeds {seconds:>7.1} s  {said}"),
        None => format!("{name:<26} NOT NOTICED {seconds:>7.1} s: {}", verdict.bug.text()),
    };
    if let Some(control) = &verdict.control {
        text += &format!("\n    WITHOUT IT THE SEED FAILS TOO: {control}");
    }
    text
}

fn markdown(verdict: &Verdict) -> String {
    let (seeds, said) = match &verdict.noticed {
        Some((seeds, said)) => (seeds.to_string(), said.replace('|', "\\|")),
        None => ("not noticed".to_owned(), String::new()),
    };
    format!("| {} | {} | {seeds} | {said} |", verdict.bug.name(), verdict.bug.text())
}

/// What a failure says first, whatever line of the sources it comes from.
pub fn fingerprint(failure: &str) -> String {
    let mut lines = failure.lines();
    let first = lines.next().unwrap_or_default();
    let said = match first.strip_prefix("panicked at ") {
        None => first.to_owned(),
        Some(place) => {
            let file = place.split(':').next().unwrap_or_default();
            let file = file.rsplit_once("src/").map_or(file, |(_, file)| file);
            let text = lines.next().unwrap_or_default();
            format!("{}: {text}", file.trim_end_matches(".rs"))
        }
    };
    let stuck = said.starts_with("stuck");
    let more = if stuck { failure.lines().last().unwrap_or_default().trim() } else { "" };
    format!("{said} {more}").trim().chars().take(SAID_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Hunt, String> {
        Hunt::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn shares_cover_all_mistakes_once() {
        let mut all: Vec<Bug> =
            (0..7).flat_map(|nth| parse(&format!("--share {nth}/7")).unwrap().bugs).collect();
        all.sort_unstable();
        assert_eq!(all, Bug::ALL);
        assert_eq!(parse("--share 9/7").unwrap(), parse("--share 2/7").unwrap());
        for wrong in ["--share 1", "--share 1/0", "--seeds 0", "Nobody", "--slow", "--jobs"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fingerprint_names_no_line() {
        let panic = "panicked at core/src/storage/io.rs:7:9:\nno proof\n    at ./core/src/x.rs:1";
        assert_eq!(fingerprint(panic), "storage/io: no proof");
        assert_eq!(fingerprint("store-1 halted: why\nmore"), "store-1 halted: why");
    }

    #[test]
    fn a_mistake_is_noticed_and_nothing_is_left_of_it() {
        let verdict = hunt(Bug::ListingEndsEarly, START, 20, 1, &Controls::default());
        assert!(verdict.holds(), "{verdict:?}");
    }
}
