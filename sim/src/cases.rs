//! `cargo sim record`, `cargo sim shrink`, `cargo sim timeline`: runs written down, made small, and drawn.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use trine_core::rare::Bug;
use trine_sim::bugs::{Controls, hunt};
use trine_sim::case::{Case, Subject, fingerprint, read_time, run_real};
use trine_sim::run::Report;
use trine_sim::seed::Seed;
use trine_sim::shrink::{FAULTS_FEW, Limits, OPERATIONS_FEW, Shrunk, shrink};
use trine_sim::{Nanos, timeline};

use crate::arguments::number;

/// Write down a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    subject: String,
    out: Option<PathBuf>,
    story: Option<String>,
    planted: Option<Bug>,
}

/// Make a failing run small.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shrink {
    subject: String,
    out: Option<PathBuf>,
    story: Option<String>,
    jobs: u64,
    time: Duration,
    as_test: bool,
    planted: Option<Bug>,
}

impl Record {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let subject = arguments.next().ok_or("record needs a seed")?;
        let mut record = Self { subject, out: None, story: None, planted: None };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--out" => record.out = Some(value.into()),
                "--story" => record.story = Some(value),
                "--planted" => record.planted = Some(bug(&value)?),
                other => return Err(format!("{other:?} is no option of record")),
            }
        }
        Ok(record)
    }
}

impl Shrink {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let subject = arguments.next().ok_or("shrink needs a seed or a file")?;
        let time = Duration::from_secs(300);
        let mut shrink =
            Self { subject, out: None, story: None, jobs: 2, time, as_test: false, planted: None };
        while let Some(name) = arguments.next() {
            if name == "--as-test" {
                shrink.as_test = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--out" => shrink.out = Some(value.into()),
                "--story" => shrink.story = Some(value),
                "--planted" => shrink.planted = Some(bug(&value)?),
                "--jobs" => shrink.jobs = number(&value)?,
                "--time" => shrink.time = span(&value)?,
                other => return Err(format!("{other:?} is no option of shrink")),
            }
        }
        if shrink.jobs == 0 {
            return Err("--jobs must be at least 1".to_owned());
        }
        Ok(shrink)
    }
}

/// The mistake of this name.
pub(crate) fn bug(name: &str) -> Result<Bug, String> {
    let bug = Bug::ALL.iter().copied().find(|bug| bug.name() == name);
    bug.ok_or_else(|| format!("no mistake is called {name:?}"))
}

/// `90s`, `10m` or `2h`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: 90s, 10m, 2h");
    let units = [('s', 1), ('m', 60), ('h', 3_600)];
    let seconds = units.into_iter().find_map(|(unit, seconds)| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(seconds)
    });
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

/// What a seed or a file stands for.
pub(crate) fn subject(text: &str) -> Result<Subject, String> {
    if let Ok(seed) = text.parse() {
        return Ok(Subject::Seed(seed));
    }
    let read = std::fs::read_to_string(text);
    let read = read.map_err(|error| format!("{text:?} is no seed, and as a file: {error}"))?;
    let case = Case::read(&read).map(|case| Subject::Case(Box::new(case)));
    case.map_err(|wrong| format!("{text}: {wrong}"))
}

pub(crate) fn write_down(arguments: &Record) -> ExitCode {
    let run = || {
        let (report, mut case) = subject(&arguments.subject)?.record(arguments.planted, None);
        case.story = arguments.story.clone().unwrap_or(case.story);
        let again = run_real(&case, None, Nanos::MAX);
        // The frames of a panic tell how the run was begun, too.
        let failed = |report: &Report| report.failure.as_deref().map(fingerprint::of);
        if (again.hash, failed(&again)) != (report.hash, failed(&report)) {
            return Err(format!(
                "what was written down is another run: trace {:016x}, then {:016x}",
                report.hash, again.hash
            ));
        }
        let text = case.write();
        match &arguments.out {
            None => print!("{text}"),
            Some(path) => {
                save(path, &text)?;
                let (operations, bytes) = (case.operations(), text.len());
                let (hash, path) = (report.hash, path.display());
                println!("{path}: trace {hash:016x}, {operations} operations, {bytes} bytes");
            }
        }
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::from(2)
        }
    }
}

pub(crate) fn make_small(arguments: &Shrink) -> ExitCode {
    match shrunk(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::FAILURE
        }
    }
}

fn shrunk(arguments: &Shrink) -> Result<(), String> {
    let (report, case) = subject(&arguments.subject)?.record(arguments.planted, None);
    let failure = report.failure.ok_or_else(|| format!("{} passes", arguments.subject))?;
    eprintln!("{failure}\n");
    let jobs = usize::try_from(arguments.jobs).map_err(|_| "too many jobs".to_owned())?;
    let limits = Limits { jobs, time: arguments.time };
    let run = |case: &Case, at: Nanos| run_real(case, None, at);
    let begun = std::time::Instant::now();
    let shrunk = shrink(case, &run, limits, &mut |what, size| {
        eprintln!("{:>5.1} s  {what:<17} {size}", begun.elapsed().as_secs_f64());
    })?;
    let Shrunk { mut case, report, before, after, tried, finished } = shrunk;
    let untold = || format!("Shrunk from {}: {}", arguments.subject, case.fingerprint);
    case.story = arguments.story.clone().unwrap_or_else(untold);
    let text = case.write();
    let name = Path::new(&arguments.subject).file_stem().unwrap_or_default();
    let default = || PathBuf::from(format!("shrunk-{}.toml", name.to_string_lossy()));
    let path = arguments.out.clone().unwrap_or_else(default);
    save(&path, &text)?;
    let took = begun.elapsed().as_secs();
    let path = path.display();
    println!("before   {before}\nafter    {after}\ntried    {tried} runs in {took} s");
    if !finished {
        println!("the time was over: it may become smaller still");
    }
    println!("fails    {}", report.failure.unwrap_or_default());
    println!("same as  {}\nreplay   cargo sim replay {path}", case.fingerprint);
    if arguments.as_test {
        println!("\n{}", as_test(&case));
    }
    Ok(())
}

/// Draw a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Timeline {
    subject: String,
    out: Option<PathBuf>,
    span: RangeInclusive<Nanos>,
    planted: Option<Bug>,
}

impl Timeline {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let subject = arguments.next().ok_or("timeline needs a seed or a file")?;
        let mut drawn = Self { subject, out: None, span: 0..=Nanos::MAX, planted: None };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--out" => drawn.out = Some(value.into()),
                "--from" => drawn.span = read_time(&value)?..=*drawn.span.end(),
                "--to" => drawn.span = *drawn.span.start()..=read_time(&value)?,
                "--planted" => drawn.planted = Some(bug(&value)?),
                other => return Err(format!("{other:?} is no option of timeline")),
            }
        }
        if drawn.span.is_empty() {
            return Err("--from is later than --to".to_owned());
        }
        Ok(drawn)
    }
}

/// Succeeds also if the run fails: what was asked for is its picture.
pub(crate) fn draw(arguments: &Timeline) -> ExitCode {
    let drawn = subject(&arguments.subject).and_then(|subject| {
        let (report, page) = timeline::of(subject, arguments.planted, &arguments.span);
        let name = Path::new(&arguments.subject).file_stem().unwrap_or_default();
        let default = || PathBuf::from(format!("timeline-{}.html", name.to_string_lossy()));
        let path = arguments.out.clone().unwrap_or_else(default);
        save(&path, &page.html)?;
        println!("{}: {} events, {} bytes", path.display(), report.events, page.html.len());
        for (what, count) in page.left_out {
            println!("left out for want of room: {count} {what}");
        }
        println!(
            "{}",
            report.failure.map_or("passed".to_owned(), |text| format!("FAILED: {text}"))
        );
        Ok(())
    });
    match drawn {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::from(2)
        }
    }
}

/// Shrink what planted mistakes lead to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShrinkBugs {
    bugs: Vec<Bug>,
    jobs: u64,
    seeds_max: u64,
    time: Duration,
    least: u64,
}

impl ShrinkBugs {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let time = Duration::from_secs(120);
        let mut all = Self { bugs: Vec::new(), jobs: 2, seeds_max: 200, time, least: 90 };
        let mut share = (0, 1);
        while let Some(name) = arguments.next() {
            if !name.starts_with('-') {
                all.bugs.push(bug(&name)?);
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--jobs" => all.jobs = number(&value)?.max(1),
                "--seeds" => all.seeds_max = number(&value)?,
                "--time" => all.time = span(&value)?,
                "--least" => all.least = number(&value)?,
                "--share" => {
                    let (nth, of) = value.split_once('/').ok_or("--share needs K/N")?;
                    share = (number(nth)?, number(of)?.max(1));
                }
                other => return Err(format!("{other:?} is no option of shrink-bugs")),
            }
        }
        if all.bugs.is_empty() {
            let mine =
                Bug::ALL.iter().zip(0_u64..).filter(|(_, at)| at % share.1 == share.0 % share.1);
            all.bugs = mine.map(|(bug, _)| *bug).collect();
        }
        Ok(all)
    }
}

/// For each mistake the first seed that shows it is shrunk. Enough of them must become small.
pub(crate) fn shrink_bugs(arguments: &ShrinkBugs) -> ExitCode {
    let (mut found, mut small) = (0, 0);
    let jobs = usize::try_from(arguments.jobs).unwrap_or(1);
    let controls = Controls::default();
    for bug in &arguments.bugs {
        let verdict = hunt(*bug, 0, arguments.seeds_max, arguments.jobs, &controls);
        let Some((seeds, _)) = verdict.noticed else {
            println!("{:<26} not noticed in {} seeds", bug.name(), arguments.seeds_max);
            continue;
        };
        found += 1;
        let seed = seeds - 1;
        let (_, case) = Subject::Seed(Seed::plain(seed)).record(Some(*bug), None);
        let begun = std::time::Instant::now();
        let run = |case: &Case, at: Nanos| run_real(case, None, at);
        let limits = Limits { jobs, time: arguments.time };
        match shrink(case, &run, limits, &mut |_, _| {}) {
            Ok(Shrunk { before, after, tried, .. }) => {
                let is_small = after.operations <= OPERATIONS_FEW && after.faults <= FAULTS_FEW;
                small += u64::from(is_small);
                println!(
                    "{:<26} seed {seed:#x}: {} operations, {} faults -> {} and {} in {} s, {tried} runs{}",
                    bug.name(),
                    before.operations,
                    before.faults,
                    after.operations,
                    after.faults,
                    begun.elapsed().as_secs(),
                    if is_small { "" } else { "  LARGE" },
                );
            }
            Err(wrong) => println!("{:<26} seed {seed:#x}: {wrong}", bug.name()),
        }
    }
    println!(
        "{small} of {found} failures became {OPERATIONS_FEW} operations and {FAULTS_FEW} faults or less"
    );
    let enough = small * 100 >= found * arguments.least;
    if enough { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn save(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A Rust test of a case, with the case in it.
fn as_test(case: &Case) -> String {
    // As many as it takes so that the text does not end the literal.
    let text = case.write();
    let fences = (1..).map(|count| "#".repeat(count));
    let fence = fences.into_iter().find(|fence| !text.contains(&format!("\"{fence}")));
    let fence = fence.unwrap_or_default();
    format!(
        "#[test]\nfn a_failure_that_was_shrunk() {{\n    let text = r{fence}\"\n{text}\"{fence};\n    let case = \
         trine_sim::case::Case::read(text).expect(\"it is well formed\");\n    let report = \
         trine_sim::case::run_real(&case, None, u64::MAX);\n    assert_eq!(report.failure, None, \
         \"{{}}\", case.story);\n}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_have_units() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7_200)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "90", "m", "1d", "-1s", "99999999999999999999s"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_timeline_has_a_span() {
        let parse = |line: &str| Timeline::parse(line.split_whitespace().map(str::to_owned));
        let expected = Timeline {
            subject: "5".to_owned(),
            out: Some("x.html".into()),
            span: 1_500_000_000..=2_000_000_000,
            planted: None,
        };
        assert_eq!(parse("5 --from 1.5 --to 2 --out x.html"), Ok(expected));
        for wrong in ["", "5 --from 2 --to 1", "5 --to", "5 --planted nothing", "5 --colour red"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_neither_a_seed_nor_a_file_is_refused() {
        assert_eq!(subject("0x1f"), Ok(Subject::Seed(Seed::plain(0x1f))));
        assert!(subject("no/such/file.toml").is_err_and(|wrong| wrong.contains("no/such/file")));
    }
}
