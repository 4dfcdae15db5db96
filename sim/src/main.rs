//! The simulator's command line: `cargo sim run`, `cargo sim replay SEED`, `cargo sim explore`.

mod arguments;
mod table;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use arguments::{Command, Explore, Mutants, Replay, Run};
use table::Table;
use trine_core::consensus::Mutant;
use trine_sim::consensus::explorer::{ExploreConfig, explore};
use trine_sim::consensus::gate::{GateConfig, Scripts, judge};
use trine_sim::run::{Report, run_seed};

fn main() -> ExitCode {
    match arguments::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            print!("{}", arguments::HELP);
            ExitCode::SUCCESS
        }
        Ok(Command::Run(run)) => run_many(&run),
        Ok(Command::Replay(replay)) => replay_one(&replay),
        Ok(Command::Explore(explore)) => explore_consensus(&explore),
        Ok(Command::Mutants(mutants)) => plant_mutants(&mutants),
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
    std::thread::scope(|scope| {
        for _ in 0..run.jobs {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= run.seeds {
                        break;
                    }
                    let finished = run_numbered(run, number);
                    if sender.send(finished).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut shown = Instant::now();
        for (report, took, twice) in receiver {
            if let Some(failure) = &report.failure {
                eprintln!("\nFAILED {}\n  {failure}", report.replay_line());
            }
            table.add(&report, took, twice);
            if shown.elapsed() > Duration::from_secs(1) {
                shown = Instant::now();
                eprint!("\r{}", table.progress(run.seeds, begun.elapsed()));
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
    if table.failures() == 0 && silent.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Run one seed, and the first few twice, with equal traces.
fn run_numbered(run: &Run, number: u64) -> (Report, Duration, bool) {
    let seed = run.start.wrapping_add(number);
    let begun = Instant::now();
    let mut report = run_seed(seed, None);
    let took = begun.elapsed();
    let twice = number < run.twice;
    if twice && report.failure.is_none() {
        let again = run_seed(seed, None);
        if (again.hash, again.events) != (report.hash, report.events) {
            report.failure = Some(format!(
                "two runs differ: trace {:016x} of {} events, then {:016x} of {}",
                report.hash, report.events, again.hash, again.events
            ));
        }
    }
    (report, took, twice)
}

/// Run one seed and print its trace.
fn replay_one(replay: &Replay) -> ExitCode {
    let filters = replay.filters.clone();
    let quiet = replay.quiet;
    let report = run_seed(
        replay.seed,
        (!quiet).then(|| -> trine_sim::trace::Sink {
            Box::new(move |line| {
                if filters.iter().all(|filter| line.contains(filter.as_str())) {
                    println!("{line}");
                }
            })
        }),
    );
    println!("{:?}", report.swarm);
    println!("seed {:#x}: trace {:016x}, {} events", report.seed, report.hash, report.events);
    match report.failure {
        Some(failure) => {
            println!("FAILED: {failure}");
            ExitCode::FAILURE
        }
        None => {
            println!("passed");
            ExitCode::SUCCESS
        }
    }
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
