//! The command line, parsed.

/// What is printed by `help`, and after an error.
pub(crate) const HELP: &str = "\
Run Trine under simulated faults.

  cargo sim run [--seeds N] [--start SEED] [--jobs N] [--twice N] [--failures N]
      Run N seeds (100) from SEED (0) on N threads (2); the first N (0) of them twice, with
      traces that must be equal. Stop after N failures (10). Fails also if a kind of fault
      that was switched on never happened in 1,000 seeds or more.

  cargo sim replay SEED [--filter TEXT]... [--quiet]
      Run one seed, print the lines of its trace that hold every TEXT, and the verdict.

  cargo sim explore [--walks N] [--start SEED]
      Search runs of consensus alone: N random walks (20,000: half a minute), and from some of them everything
      that can happen in the next few steps.

  cargo sim mutants [--quick] [--jobs N] [--walks N] [NAME]...
      Let consensus make known mistakes, all or those named, one at a time, on N threads (2), and say
      which golden script and which walk of the explorer (at most N) notice. Fails if one is not noticed.

Seeds are decimal, or hexadecimal with 0x.
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Run(Run),
    Replay(Replay),
    Explore(Explore),
    Mutants(Mutants),
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
}

/// Show one seed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replay {
    pub(crate) seed: u64,
    pub(crate) filters: Vec<String>,
    pub(crate) quiet: bool,
}

/// Parse the arguments behind the program's name.
pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    match arguments.next().as_deref() {
        None | Some("help" | "--help" | "-h") => Ok(Command::Help),
        Some("run") => run(arguments).map(Command::Run),
        Some("replay") => replay(arguments).map(Command::Replay),
        Some("explore") => explore(arguments).map(Command::Explore),
        Some("mutants") => mutants(arguments).map(Command::Mutants),
        Some(other) => Err(format!("{other:?} is no command")),
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<Run, String> {
    let mut run = Run { seeds: 100, start: 0, jobs: 2, twice: 0, failures_max: 10 };
    while let Some(name) = arguments.next() {
        let place = match name.as_str() {
            "--seeds" => &mut run.seeds,
            "--start" => &mut run.start,
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
    Ok(run)
}

fn replay(mut arguments: impl Iterator<Item = String>) -> Result<Replay, String> {
    let seed = arguments.next().ok_or("replay needs a seed")?;
    let mut replay = Replay { seed: number(&seed)?, filters: Vec::new(), quiet: false };
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--quiet" => replay.quiet = true,
            "--filter" => {
                let text = arguments.next().ok_or("--filter needs a text")?;
                replay.filters.push(text);
            }
            other => return Err(format!("{other:?} is no option of replay")),
        }
    }
    Ok(replay)
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

fn number(text: &str) -> Result<u64, String> {
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
        let run = Run { seeds: 7, start: 31, jobs: 2, twice: 0, failures_max: 10 };
        assert_eq!(parse_line("run --seeds 7 --start 0x1f"), Ok(Command::Run(run)));
        let replay = Replay { seed: 5, filters: vec!["gw-1".to_owned()], quiet: false };
        assert_eq!(parse_line("replay 5 --filter gw-1"), Ok(Command::Replay(replay)));
        for wrong in [
            "run --sedes 3",
            "run --seeds",
            "run --jobs 0",
            "replay",
            "replay x",
            "fly",
            "mutants --fast",
        ] {
            assert!(parse_line(wrong).is_err(), "{wrong}");
        }
    }
}
