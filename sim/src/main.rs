//! The simulator's command line: `cargo sim run`, `cargo sim replay SEED`, `cargo sim explore`.

mod arguments;
mod table;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use arguments::{Command, Explore, Replay, Run};
use table::Table;
use trine_sim::consensus::explorer::{ExploreConfig, explore};
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
