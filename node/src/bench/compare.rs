//! `trine bench compare`: two endpoints in turn, and what one is to the other.

use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use super::cli::{AccountCli, CompareCli};
use super::error::BenchError;
use super::machine::Machine;
use super::plan::{Cell, Environment, Settings, Work, cells, concurrencies, target};
use super::report::output;
use super::report::schema::{Report, Row, TargetReport, VERSION};
use super::report::table::{Table, notes, number};
use super::session::{Ended, Session};
use super::{Outcome, content, execute, target_report};

const ROUNDS_MAX: u32 = 1000;
const CONCURRENCY: [usize; 1] = [16];

/// The document of `compare`.
#[derive(Debug, Serialize)]
struct Document {
    trine_bench: u32,
    machine: Machine,
    a: TargetReport,
    b: TargetReport,
    results: Vec<Comparison>,
}

/// One measurement, in all rounds.
#[derive(Debug, Serialize)]
struct Comparison {
    operation: String,
    size: String,
    concurrency: usize,
    rounds: Vec<Round>,
    /// Everything is A divided by B: of rates, above 1 means that A is faster; of times and costs,
    /// below 1.
    operations_per_s: Option<Ratio>,
    p50: Option<Ratio>,
    p99: Option<Ratio>,
    servers_cpu_s_per_1000_requests: Option<Ratio>,
}

#[derive(Debug, Serialize)]
struct Round {
    a: Report,
    b: Report,
}

/// Ratios of single rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Ratio {
    median: f64,
    min: f64,
    max: f64,
    /// In how many rounds both could be told.
    rounds: usize,
}

pub(crate) fn run(cli: &CompareCli, environment: Environment<'_>) -> Result<ExitCode, BenchError> {
    if !(1..=ROUNDS_MAX).contains(&cli.rounds) {
        return Err(BenchError::Option(format!("--rounds: from 1 to {ROUNDS_MAX}")));
    }
    let settings = Settings::of_load(&cli.load, cli.account.create_bucket)?;
    let concurrency = concurrencies(&cli.load.concurrency, &CONCURRENCY)?;
    let work = Work::check(&cli.work)?;
    let cells = cells(&cli.operations, &cli.work.size, &concurrency, &work)?;
    let a = target(Some(&cli.a), &cli.account, &cli.load.client, environment)?;
    let b = target(Some(&cli.b), &account_b(cli, environment), &cli.load.client, environment)?;
    output::check(settings.json.as_deref())?;
    let json = settings.json.clone();
    let settings_b = Settings { server_pids: cli.server_pid_b.clone(), ..settings.clone() };
    let settings = [Arc::new(settings), Arc::new(settings_b)];
    let rounds = cli.rounds;
    execute(settings[0].threads, |stop| async move {
        let content = content(&settings[0]);
        let [target_a, target_b] =
            [target_report(&a, &settings[0]), target_report(&b, &settings[1])];
        let open = |target, settings: &Arc<Settings>, label| {
            let (content, stop) = (Arc::clone(&content), Arc::clone(&stop));
            Session::open(target, content, Arc::clone(settings), stop, label)
        };
        let mut sessions =
            [open(a, &settings[0], "A: ").await?, open(b, &settings[1], "B: ").await?];
        let result = measure(&mut sessions, &cells, rounds).await;
        for session in sessions {
            session.close().await;
        }
        let (results, outcome) = result?;
        let machine = Machine::describe(None);
        let document =
            Document { trine_bench: VERSION, machine, a: target_a, b: target_b, results };
        output::print(&text(&document), json.as_deref());
        output::write(&document, json.as_deref())?;
        Ok(outcome)
    })
}

/// The account at the second endpoint, which is the first one's where nothing else is said.
fn account_b(cli: &CompareCli, environment: Environment<'_>) -> AccountCli {
    let mut account = cli.account.clone();
    let secret = || environment("TRINE_BENCH_SECRET_KEY_B").filter(|text| !text.is_empty());
    account.access_key = cli.access_key_b.clone().or(account.access_key);
    account.secret_key = cli.secret_key_b.clone().or_else(secret).or(account.secret_key);
    account.region = cli.region_b.clone().or(account.region);
    account.bucket = cli.bucket_b.clone().unwrap_or(account.bucket);
    account
}

/// A B A B ..., for each cell.
async fn measure(
    sessions: &mut [Session; 2],
    cells: &[Cell],
    rounds: u32,
) -> Result<(Vec<Comparison>, Outcome), BenchError> {
    let mut outcome = Outcome::default();
    let mut results = Vec::new();
    for cell in cells {
        let mut done = Vec::new();
        for _ in 0..rounds {
            let mut reports = Vec::with_capacity(2);
            for session in &mut *sessions {
                let measured = session.measure(cell).await?;
                let report = Report::of(cell, &measured);
                outcome.failed |= report.failed() > 0;
                outcome.stopped |= measured.ended == Ended::Stopped;
                reports.push(report);
                if outcome.stopped {
                    break;
                }
            }
            // A round that was cut off compares nothing.
            if outcome.stopped {
                break;
            }
            if let (Some(b), Some(a)) = (reports.pop(), reports.pop()) {
                done.push(Round { a, b });
            }
        }
        if !done.is_empty() {
            results.push(Comparison::of(done));
        }
        if outcome.stopped {
            break;
        }
    }
    Ok((results, outcome))
}

impl Comparison {
    /// Of at least one round.
    fn of(rounds: Vec<Round>) -> Self {
        let ratio = |value: &dyn Fn(&Report) -> Option<f64>| {
            let of_round = |round: &Round| divide(value(&round.a)?, value(&round.b)?);
            Ratio::of(rounds.iter().filter_map(of_round).collect())
        };
        let row =
            |report: &Report, value: &dyn Fn(&Row) -> Option<f64>| report.total().and_then(value);
        let latency = |report: &Report, p99: bool| {
            let latency = report.total()?.latency_ms.as_ref()?;
            Some(if p99 { latency.p99 } else { latency.p50 })
        };
        let first = rounds.first().map(|round| &round.a);
        Self {
            operation: first.map(|it| it.operation.clone()).unwrap_or_default(),
            size: first.map(|it| it.size.clone()).unwrap_or_default(),
            concurrency: first.map(|it| it.concurrency).unwrap_or_default(),
            operations_per_s: ratio(&|it| row(it, &|row| Some(row.operations_per_s))),
            p50: ratio(&|it| latency(it, false)),
            p99: ratio(&|it| latency(it, true)),
            servers_cpu_s_per_1000_requests: ratio(&|it| it.servers_cpu_s_per_1000_requests),
            rounds,
        }
    }
}

impl Ratio {
    fn of(mut ratios: Vec<f64>) -> Option<Self> {
        ratios.sort_by(f64::total_cmp);
        let (min, max) = (*ratios.first()?, *ratios.last()?);
        Some(Self { median: median(&ratios)?, min, max, rounds: ratios.len() })
    }

    fn text(ratio: Option<Self>) -> [String; 2] {
        match ratio {
            Some(Self { median, min, max, .. }) => {
                [format!("{median:.2}"), format!("{min:.2}..{max:.2}")]
            }
            None => ["-".to_owned(), "-".to_owned()],
        }
    }
}

fn divide(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| a / b)
}

/// Of ascending numbers.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted[middle - 1] + upper) / 2.0)
}

fn text(document: &Document) -> String {
    let head = ["operation", "size", "c", "A ops/s", "B ops/s", "A/B ops/s", "range"];
    let more = ["A/B p50", "range", "A/B p99", "range", "A/B server CPU", "range"];
    let mut table = Table::new(2, &[&head[..], &more[..]].concat());
    for it in &document.results {
        let rate = |of: &dyn Fn(&Round) -> Option<f64>| {
            let mut rates: Vec<f64> = it.rounds.iter().filter_map(of).collect();
            rates.sort_by(f64::total_cmp);
            median(&rates).map_or_else(|| "-".to_owned(), number)
        };
        let mut line = vec![it.operation.clone(), it.size.clone(), it.concurrency.to_string()];
        line.push(rate(&|round| round.a.total().map(|row| row.operations_per_s)));
        line.push(rate(&|round| round.b.total().map(|row| row.operations_per_s)));
        let ratios = [it.operations_per_s, it.p50, it.p99, it.servers_cpu_s_per_1000_requests];
        line.extend(ratios.into_iter().flat_map(Ratio::text));
        table.push(line);
    }
    let rounds = document.results.iter().map(|it| it.rounds.len()).max().unwrap_or_default();
    let mut text = format!(
        "A = {}, B = {}; median and range of {rounds} rounds, A divided by B\n\n{}",
        document.a.endpoint,
        document.b.endpoint,
        table.text()
    );
    for (name, of) in [("A", (|round| &round.a) as fn(&Round) -> &Report), ("B", |round| &round.b)]
    {
        let reports: Vec<Report> =
            document.results.iter().flat_map(|it| &it.rounds).map(of).cloned().collect();
        let notes = notes(&reports);
        text.extend(notes.lines().map(|line| format!("{name}: {line}\n")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_ratios_is_told() {
        let ratio = Ratio::of(vec![2.0, 0.5, 1.0]);
        assert_eq!(ratio, Some(Ratio { median: 1.0, min: 0.5, max: 2.0, rounds: 3 }));
        assert_eq!(Ratio::of(vec![1.0, 3.0]).map(|it| it.median), Some(2.0));
        assert_eq!(Ratio::of(Vec::new()), None);
        assert_eq!(Ratio::text(None), ["-", "-"]);
        assert_eq!((divide(1.0, 0.0), divide(1.0, 4.0)), (None, Some(0.25)));
    }
}
