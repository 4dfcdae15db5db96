//! The command line, parsed.

use trine_sim::seed::Changes;

use crate::cases::{Record, Shrink, ShrinkBugs, Timeline, span};
use crate::replay::Replay;

/// What is printed by `help`, and after an error.
pub(crate) const HELP: &str = "\
Run Trine under simulated faults.

  cargo sim run [--seeds N] [--time LIMIT] [--start SEED] [--jobs N] [--twice N] [--failures N]
      [--stores N] [--with FAULT]...
      Run N seeds (100) from SEED (0) on N threads (as many as the machine has); the first N (0) of them twice,
      with traces that must be equal. With --time (90s, 10m, 2h) begin seeds until the time is over, fresh ones if
      no --start is given. Stop after N failures (10). Fails also if in 1,000 seeds or more a kind of fault that was
      switched on never happened, or a path of the core was never taken that is not known to be seldom (then: 20,000).
      In each seed, --stores: so many stores in each zone; --with: this kind of fault, too, often (clock-stepped).
      Elsewhere such a seed is written 0x5f3a,stores=8,with=clock-stepped.

  cargo sim replay SEED|FILE [--from T] [--to T] [--zone 0|1|2] [--store N]... [--gateway N]... [--key K]...
                   [--filter TEXT]... [--wide] [--quiet] [--step] [--planted NAME]
      Run a seed or a file once and print its events, a column for each machine, as far as all filters let them
      through (T in seconds; machines from 1), and the verdict. --step: walk through them, forward and back.

  cargo sim shrink SEED|FILE [--out FILE] [--time LIMIT] [--jobs N] [--story TEXT] [--as-test]
      [--planted NAME]
      Make a failing run small: fewer operations, faults and machines, a plainer schedule, as long as the same
      checker fails in the same way. Write it to FILE (shrunk-SEED.toml), after LIMIT (5m) at the latest;
      print it as a Rust test too. With a mistake of `cargo sim bugs` planted, if one is named.

  cargo sim shrink-bugs [NAME]... [--share K/N] [--seeds MAX] [--time LIMIT] [--jobs N] [--least PERCENT]
      Shrink the first failure of each mistake of `cargo sim bugs` that MAX seeds (200) show, for LIMIT (2m) each. Fails
      if less than PERCENT (90) of them become 20 operations and 3 faults or less.

  cargo sim record SEED [--out FILE] [--story TEXT] [--planted NAME]
      Write a run down: all choices of the seed, for sim/regressions.

  cargo sim timeline SEED|FILE [--out FILE] [--from T] [--to T] [--planted NAME]
      Run a seed or a file and draw what happens, from T to T if said so: one HTML file (timeline-SEED.html)
      of at most 5 MiB, for a browser.

  cargo sim explore [--walks N] [--start SEED]
      Search runs of consensus alone: N random walks (20,000: half a minute), and from some of them everything
      that can happen in the next few steps.

  cargo sim mutants [--quick] [--jobs N] [--walks N] [NAME]...
      Let consensus make known mistakes, all or those named, one at a time, on N threads (2), and say
      which golden script and which walk of the explorer (at most N) notice. Fails if one is not noticed.

  cargo sim bugs [NAME]... [--start SEED] [--seeds MAX] [--jobs N] [--share K/N] [--quick] [--markdown]
      Plant known mistakes in the whole core, all or those named, one at a time, and run seeds from SEED (0) on N threads (2)
      until a checker notices: how many it took, and what was said. Fails if one is not noticed within MAX seeds (10,000),
      or if its seed fails without it. --share takes every N-th mistake, from the K-th on; --quick leaves out
      those that take long.

  cargo sim crash [--script NAME]... [--share K/N] [--jobs N] [--planted NAME] [--bugs] [--point P]
      Do scripted runs again and again, and crash in each at another completion of a disk: each of them, in each way, or
      every N-th from the K-th on. --bugs: plant each mistake of storage, and say which crash notices it.
      --point: print the events of one, as it was named in a failure.

Seeds are decimal, or hexadecimal with 0x.
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Run(Run),
    Replay(Replay),
    Record(Record),
    Shrink(Shrink),
    ShrinkBugs(ShrinkBugs),
    Timeline(Timeline),
    Explore(Explore),
    Mutants(Mutants),
    Bugs(trine_sim::bugs::Hunt),
    Crash(trine_sim::crash::Crash),
}

/// Search runs of consensus.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Explore {
    pub(crate) walks: u64,
    pub(crate) start: u64,
}

/// Plant mistakes in consensus.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mutants {
    pub(crate) quick: bool,
    pub(crate) jobs: u64,
    pub(crate) walks: Option<u64>,
    pub(crate) names: Vec<String>,
}

/// Run many seeds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) seeds: u64,
    pub(crate) start: u64,
    pub(crate) jobs: u64,
    pub(crate) twice: u64,
    pub(crate) failures_max: u64,
    /// Nothing new is begun after this.
    pub(crate) time: Option<std::time::Duration>,
    /// What of all seeds is other than drawn.
    pub(crate) changes: Changes,
}

/// Parse the arguments behind the program's name.
pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    match arguments.next().as_deref() {
        None | Some("help" | "--help" | "-h") => Ok(Command::Help),
        Some("run") => run(arguments).map(Command::Run),
        Some("replay") => Replay::parse(arguments).map(Command::Replay),
        Some("record") => Record::parse(arguments).map(Command::Record),
        Some("shrink") => Shrink::parse(arguments).map(Command::Shrink),
        Some("shrink-bugs") => ShrinkBugs::parse(arguments).map(Command::ShrinkBugs),
        Some("crash") => trine_sim::crash::Crash::parse(arguments).map(Command::Crash),
        Some("timeline") => Timeline::parse(arguments).map(Command::Timeline),
        Some("explore") => explore(arguments).map(Command::Explore),
        Some("mutants") => mutants(arguments).map(Command::Mutants),
        Some("bugs") => trine_sim::bugs::Hunt::parse(arguments).map(Command::Bugs),
        Some(other) => Err(format!("{other:?} is no command")),
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<Run, String> {
    let jobs = std::thread::available_parallelism().map_or(2, |count| count.get() as u64);
    let mut run = Run {
        seeds: 100,
        start: 0,
        jobs,
        twice: 0,
        failures_max: 10,
        time: None,
        changes: Changes::default(),
    };
    let (mut seeds, mut start) = (None, None);
    while let Some(name) = arguments.next() {
        if name == "--time" {
            let value = arguments.next().ok_or("--time needs a limit, such as 10m")?;
            run.time = Some(span(&value)?);
            continue;
        }
        if let "--with" | "--stores" = name.as_str() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            run.changes.add(name.trim_start_matches('-'), &value)?;
            continue;
        }
        let place = match name.as_str() {
            "--seeds" => seeds.insert(0),
            "--start" => start.insert(0),
            "--jobs" => &mut run.jobs,
            "--twice" => &mut run.twice,
            "--failures" => &mut run.failures_max,
            other => return Err(format!("{other:?} is no option of run")),
        };
        let value = arguments.next().ok_or_else(|| format!("{name} needs a number"))?;
        *place = number(&value)?;
    }
    if run.jobs == 0 {
        return Err("--jobs must be at least 1".to_owned());
    }
    run.seeds = seeds.unwrap_or(if run.time.is_some() { u64::MAX } else { run.seeds });
    run.start = start.unwrap_or(if run.time.is_some() { fresh() } else { run.start });
    Ok(run)
}

/// A seed that nobody has run yet, most likely: by the time of day.
fn fresh() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_secs() << 24
}

fn explore(mut arguments: impl Iterator<Item = String>) -> Result<Explore, String> {
    let mut explore = Explore { walks: 20_000, start: 1 };
    while let Some(name) = arguments.next() {
        let place = match name.as_str() {
            "--walks" => &mut explore.walks,
            "--start" => &mut explore.start,
            other => return Err(format!("{other:?} is no option of explore")),
        };
        *place = number(&arguments.next().ok_or_else(|| format!("{name} needs a number"))?)?;
    }
    Ok(explore)
}

fn mutants(mut arguments: impl Iterator<Item = String>) -> Result<Mutants, String> {
    let mut mutants = Mutants { quick: false, jobs: 2, walks: None, names: Vec::new() };
    while let Some(name) = arguments.next() {
        let mut value =
            || number(&arguments.next().ok_or_else(|| format!("{name} needs a number"))?);
        match name.as_str() {
            "--quick" => mutants.quick = true,
            "--jobs" => mutants.jobs = value()?,
            "--walks" => mutants.walks = Some(value()?),
            other if other.starts_with('-') => {
                return Err(format!("{other:?} is no option of mutants"));
            }
            _ => mutants.names.push(name),
        }
    }
    if mutants.jobs == 0 {
        return Err("--jobs must be at least 1".to_owned());
    }
    Ok(mutants)
}

pub(crate) fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let run = Run {
            seeds: 7,
            start: 31,
            jobs: 2,
            twice: 0,
            failures_max: 10,
            time: None,
            changes: Changes::default(),
        };
        assert_eq!(parse_line("run --seeds 7 --start 0x1f --jobs 2"), Ok(Command::Run(run)));
        assert!(matches!(parse_line("replay 5 --filter gw-1"), Ok(Command::Replay(_))));
        for wrong in [
            "run --sedes 3",
            "run --seeds",
            "run --jobs 0",
            "run --with nothing",
            "run --stores 0",
            "replay",
            "replay 5 --fast",
            "fly",
            "mutants --fast",
            "shrink",
            "shrink 5 --time 7",
            "shrink 5 --jobs 0",
            "record",
            "record 5 --out",
        ] {
            assert!(parse_line(wrong).is_err(), "{wrong}");
        }
    }
}
