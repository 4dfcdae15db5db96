//! `trine bench run`: every operation with every size and every concurrency.

use std::process::ExitCode;
use std::sync::Arc;

use super::cli::RunCli;
use super::error::BenchError;
use super::machine::Machine;
use super::plan::{Cell, Environment, Settings, Work, cells, concurrencies, target};
use super::report::schema::{Document, Report, VERSION};
use super::report::{output, table};
use super::session::{Ended, Session};
use super::{Outcome, client, content, execute, target_report};

/// Requests at once, unless the user says so.
const CONCURRENCY: [usize; 1] = [16];

pub(crate) fn run(cli: &RunCli, environment: Environment<'_>) -> Result<ExitCode, BenchError> {
    let account = &cli.endpoint.account;
    let settings = Settings::of_load(&cli.load, account.create_bucket)?;
    let concurrency = concurrencies(&cli.load.concurrency, &CONCURRENCY)?;
    let work = Work::check(&cli.work)?;
    let cells = cells(&cli.operations, &cli.work.size, &concurrency, &work)?;
    let endpoint = cli.endpoint.endpoint.as_deref();
    let target = target(endpoint, account, &cli.load.client, environment)?;
    output::check(settings.json.as_deref())?;
    let json = settings.json.clone();
    let settings = Arc::new(settings);
    execute(settings.threads, |stop| async move {
        let mut document = document(&target, &settings, Machine::describe(None));
        let content = content(&settings);
        let mut session = Session::open(target, content, settings, stop, "").await?;
        let result = measure_all(&mut session, &cells, &mut document).await;
        session.close().await;
        let outcome = result?;
        output::print(&table::results(&document.results).text(), json.as_deref());
        output::print(&table::notes(&document.results), json.as_deref());
        output::write(&document, json.as_deref())?;
        Ok(outcome)
    })
}

/// A document without results.
pub(crate) fn document(target: &client::Target, settings: &Settings, machine: Machine) -> Document {
    let target = target_report(target, settings);
    Document { trine_bench: VERSION, machine, target, results: Vec::new() }
}

/// Measure one cell after another, until the user wants an end.
pub(crate) async fn measure_all(
    session: &mut Session,
    cells: &[Cell],
    document: &mut Document,
) -> Result<Outcome, BenchError> {
    let mut outcome = Outcome::default();
    for cell in cells {
        let measured = session.measure(cell).await?;
        let report = Report::of(cell, &measured);
        outcome.failed |= report.failed() > 0;
        outcome.stopped = measured.ended == Ended::Stopped;
        document.results.push(report);
        if outcome.stopped {
            break;
        }
    }
    Ok(outcome)
}
