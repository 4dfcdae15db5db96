//! The simulator's command line: `cargo sim run`, `cargo sim replay SEED`, `cargo sim explore`.

mod arguments;
mod cases;
mod replay;
mod table;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use arguments::{Command, Explore, Mutants, Run};
use table::Table;
use trine_core::consensus::Mutant;
use trine_sim::consensus::explorer::{ExploreConfig, explore};
use trine_sim::consensus::gate::{GateConfig, Scripts, judge};
use trine_sim::run::{Report, run as run_world};
use trine_sim::seed::Seed;
use trine_sim::world::{Real, World};

/// From then on a seed that is under way is named.
const SLOW: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    match arguments::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            print!("{}", arguments::HELP);
            ExitCode::SUCCESS
        }
        Ok(Command::Run(run)) => run_many(&run),
        Ok(Command::Replay(shown)) => replay::show(&shown),
        Ok(Command::Record(record)) => cases::write_down(&record),
        Ok(Command::Shrink(shrink)) => cases::make_small(&shrink),
        Ok(Command::ShrinkBugs(bugs)) => cases::shrink_bugs(&bugs),
        Ok(Command::Timeline(timeline)) => cases::draw(&timeline),
        Ok(Command::Explore(explore)) => explore_consensus(&explore),
        Ok(Command::Mutants(mutants)) => plant_mutants(&mutants),
        Ok(Command::Bugs(hunt)) => match trine_sim::bugs::run_hunt(&hunt) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        },
        Ok(Command::Crash(crash)) => match trine_sim::crash::run_command(&crash) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(wrong) => {
                eprintln!("{wrong}");
                ExitCode::from(2)
            }
        },
        Err(wrong) => {
            eprintln!("{wrong}\n\n{}", arguments::HELP);
            ExitCode::from(2)
        }
    }
}

/// Run seeds on several threads, each seed on one.
fn run_many(run: &Run) -> ExitCode {
    let next = AtomicU64::new(0);
    let (sender, receiver) = mpsc::channel();
    let begun = Instant::now();
    let mut table = Table::default();
    let under_way: Vec<_> = (0..run.jobs).map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for current in &under_way {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= run.seeds || run.time.is_some_and(|time| begun.elapsed() > time) {
                        break;
                    }
                    let (number, twice) = (run.start.wrapping_add(number), number < run.twice);
                    let seed = Seed { number, changes: run.changes.clone() };
                    let begun = (seed.clone(), Instant::now());
                    *current.lock().expect("nobody panics with it") = Some(begun);
                    let finished = run_numbered(seed, twice);
                    *current.lock().expect("nobody panics with it") = None;
                    if sender.send(finished).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        // Where no line can be written over, one in a while does.
        let (every, end) = match std::io::stderr().is_terminal() {
            true => (Duration::from_secs(1), ""),
            false => (Duration::from_secs(30), "\n"),
        };
        let mut shown = Instant::now();
        loop {
            let (seed, report, took, twice) = match receiver.recv_timeout(SLOW) {
                Ok(finished) => finished,
                Err(RecvTimeoutError::Timeout) => {
                    let progress = table.progress(run.seeds, begun.elapsed());
                    eprint!("\r{progress}{}{end}", slow(&under_way));
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Some(failure) = &report.failure {
                let [replay, shrink] = seed.lines();
                eprintln!("\nFAILED seed={seed} : {replay}\n  {failure}\n  to shrink: {shrink}");
            }
            table.add(&seed, &report, took, twice);
            if shown.elapsed() > every {
                shown = Instant::now();
                eprint!("\r{}{end}", table.progress(run.seeds, begun.elapsed()));
            }
            if table.failures() >= run.failures_max {
                // What is under way ends; nothing new begins.
                next.store(run.seeds, Ordering::Relaxed);
            }
        }
    });
    eprintln!("\r{}", table.progress(run.seeds, begun.elapsed()));
    print!("{}", table.render(begun.elapsed()));
    let silent = table.silent_kinds();
    if !silent.is_empty() {
        eprintln!("these faults were switched on and never happened: {}", silent.join(", "));
    }
    let untaken = table.silent_paths();
    if !untaken.is_empty() {
        eprintln!("these paths of the core were never taken: {}", untaken.join(", "));
    }
    let silent = [silent, untaken].concat();
    if table.failures() == 0 && silent.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Names the seeds that have been under way for long.
fn slow(under_way: &[Mutex<Option<(Seed, Instant)>>]) -> String {
    let current =
        under_way.iter().filter_map(|seed| seed.lock().expect("nobody panics with it").clone());
    let slow = current.filter(|(_, begun)| begun.elapsed() >= SLOW);
    slow.map(|(seed, begun)| format!(", {seed} since {} s", begun.elapsed().as_secs())).collect()
}

/// Run one seed; if `twice`, with equal traces.
fn run_numbered(seed: Seed, twice: bool) -> (Seed, Report, Duration, bool) {
    let begun = Instant::now();
    let once = || run_world(Real, seed.setup(), None, World::run);
    let mut report = once();
    let took = begun.elapsed();
    if twice && report.failure.is_none() {
        let again = once();
        if (again.hash, again.events) != (report.hash, report.events) {
            report.failure = Some(format!(
                "two runs differ: trace {:016x} of {} events, then {:016x} of {}",
                report.hash, report.events, again.hash, again.events
            ));
        }
    }
    (seed, report, took, twice)
}

/// Search runs of consensus alone.
fn explore_consensus(arguments: &Explore) -> ExitCode {
    let Explore { walks, start } = *arguments;
    let report = explore(ExploreConfig { walks, seed: start, ..ExploreConfig::SHORT });
    println!("{report}");
    if report.finding.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Let consensus make known mistakes, and say who notices.
fn plant_mutants(arguments: &Mutants) -> ExitCode {
    let scripts = match Scripts::read() {
        Ok(scripts) => scripts,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let named = |mutant: &Mutant| {
        arguments.names.is_empty() || arguments.names.contains(&format!("{mutant:?}"))
    };
    let chosen: Vec<Mutant> = Mutant::ALL.iter().copied().filter(named).collect();
    if chosen.len() < arguments.names.len() {
        eprintln!("a mutant of that name is not known");
        return ExitCode::from(2);
    }
    let mut config = if arguments.quick { GateConfig::QUICK } else { GateConfig::FULL };
    if let Some(walks) = arguments.walks {
        config = GateConfig { walks, walks_alone: walks };
    }
    // A mistake often ends in a failed assertion: that is a verdict, not news.
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            let (sender, next, chosen, scripts) = (sender.clone(), &next, &chosen, &scripts);
            scope.spawn(move || {
                while let Some(mutant) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send(judge(*mutant, scripts, config)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut verdicts: Vec<_> =
            receiver.into_iter().inspect(|verdict| print!("{verdict}")).collect();
        verdicts.retain(|verdict| !verdict.holds());
        let (took, all) = (begun.elapsed().as_secs(), chosen.len());
        println!("{all} mutants in {took} s, {} not as they should be", verdicts.len());
        if verdicts.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}
