//! `cargo sim replay`: a run to read, or to step through.

use std::cell::RefCell;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

use trine_core::rare::Bug;
use trine_sim::case::{Case, read_time, run_real, state_after};
use trine_sim::trace::Sink;
use trine_sim::view::{Columns, Filter, Line, step};
use trine_sim::{Nanos, run::Report};

use crate::cases::{bug, subject};

/// Show one run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Replay {
    subject: String,
    filter: Filter,
    quiet: bool,
    wide: bool,
    step: bool,
    planted: Option<Bug>,
}

impl Replay {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let subject = arguments.next().ok_or("replay needs a seed or a file")?;
        let mut replay = Self { subject, ..Self::default() };
        let filter = &mut replay.filter;
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--quiet" => replay.quiet = true,
                "--wide" => replay.wide = true,
                "--step" => replay.step = true,
                _ => {
                    let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
                    let place = || {
                        let number = value.parse::<usize>().map_err(|_| value.clone());
                        number.map_err(|value| format!("{name}: {value:?} is no number"))
                    };
                    match name.as_str() {
                        "--from" => filter.from = Some(read_time(&value)?),
                        "--to" => filter.to = Some(read_time(&value)?),
                        "--zone" => filter.zone = Some(place()?),
                        "--store" => filter.stores.push(place()?),
                        "--gateway" => filter.gateways.push(place()?),
                        "--key" => filter.keys.push(value),
                        "--filter" => filter.texts.push(value),
                        "--planted" => replay.planted = Some(bug(&value)?),
                        other => return Err(format!("{other:?} is no option of replay")),
                    }
                }
            }
        }
        Ok(replay)
    }
}

pub(crate) fn show(replay: &Replay) -> ExitCode {
    let shown = subject(&replay.subject).and_then(|subject| {
        // The first run says what the columns are; what is shown is the case, which is the same run.
        let (report, case) = subject.record(replay.planted, None);
        let report = if replay.quiet { report } else { show_lines(replay, &case)? };
        Ok((report, case))
    });
    let (report, case) = match shown {
        Ok(shown) => shown,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    println!("{:?}", case.swarm);
    let Report { seed, hash, events, failure, .. } = report;
    println!("seed {seed:#x}: trace {hash:016x}, {events} events");
    match failure {
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

fn show_lines(replay: &Replay, case: &Case) -> Result<Report, String> {
    let mut columns = Columns::of(&case.swarm);
    columns.narrow = !replay.wide;
    let wrong = |error: std::io::Error| error.to_string();
    if !replay.step {
        println!("{}", columns.head());
        let filter = replay.filter.clone();
        let sink: Sink = Box::new(move |event| {
            if event.fact.is_some() {
                return;
            }
            let line = Line::from(event);
            // Who reads may have seen enough.
            if filter.shows(&line, &columns)
                && writeln!(std::io::stdout(), "{}", columns.row(&line)).is_err()
            {
                std::process::exit(0);
            }
        });
        return Ok(run_real(case, Some(sink), Nanos::MAX));
    }
    let lines = Rc::new(RefCell::new(Vec::new()));
    let (kept, filter, of) = (lines.clone(), replay.filter.clone(), columns.clone());
    let sink: Sink = Box::new(move |event| {
        let line = Line::from(event);
        if event.fact.is_none() && filter.shows(&line, &of) {
            kept.borrow_mut().push(line);
        }
    });
    let report = run_real(case, Some(sink), Nanos::MAX);
    let state = |event| state_after(case, event);
    let (input, mut out) = (std::io::stdin().lock(), std::io::stdout());
    step(&lines.borrow(), &columns, &state, input, &mut out).map_err(wrong)?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Replay, String> {
        Replay::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn filters_are_read() {
        let replay = parse("0x1f --from 1.5 --to 2 --zone 1 --store 2 --gateway 1 --key a --step");
        let filter = Filter {
            from: Some(1_500_000_000),
            to: Some(2_000_000_000),
            zone: Some(1),
            stores: vec![2],
            gateways: vec![1],
            keys: vec!["a".to_owned()],
            texts: Vec::new(),
        };
        let expected =
            Replay { subject: "0x1f".to_owned(), filter, step: true, ..Replay::default() };
        assert_eq!(replay, Ok(expected));
        for wrong in ["", "5 --from", "5 --from now", "5 --zone x", "5 --colour red"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
