//! `trine bench suite`: what the README's table has, as Markdown with the machine named.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::cli::SuiteCli;
use super::error::BenchError;
use super::machine::Machine;
use super::plan::{Cell, Environment, Settings, Work, cells, concurrencies, target};
use super::report::output;
use super::report::schema::{Document, Report};
use super::report::table::{Table, notes, number};
use super::run::{document, measure_all};
use super::session::Session;
use super::size::SizeSpec;
use super::workload::{KeyOrder, Mix, Operation};
use super::{content, execute};

/// Operation, size in bytes, and how many at once unless the user says so.
const ROWS: [(Operation, u64, &[usize]); 8] = [
    (Operation::Put, 4 << 10, &[1, 16, 64]),
    (Operation::Get, 4 << 10, &[1, 16, 64]),
    (Operation::Put, 1 << 20, &[16]),
    (Operation::Get, 1 << 20, &[16]),
    (Operation::Put, 16 << 20, &[4]),
    (Operation::Get, 16 << 20, &[4]),
    (Operation::Delete, 4 << 10, &[16]),
    (Operation::List, 4 << 10, &[16]),
];
/// Keys of a LIST page.
const PAGE: u32 = 1000;

pub(crate) fn run(cli: &SuiteCli, environment: Environment<'_>) -> Result<ExitCode, BenchError> {
    let account = &cli.endpoint.account;
    let settings = Settings::of_load(&cli.load, account.create_bucket)?;
    if cli.keys == Some(0) {
        return Err(BenchError::Option("--keys: at least 1".to_owned()));
    }
    let cells = rows(cli.keys, &cli.load.concurrency)?;
    let endpoint = cli.endpoint.endpoint.as_deref();
    let target = target(endpoint, account, &cli.load.client, environment)?;
    output::check(settings.json.as_deref())?;
    let json = settings.json.clone();
    let machine = Machine::describe(Some(cli.data.as_deref().unwrap_or(Path::new("."))));
    let settings = Arc::new(settings);
    execute(settings.threads, |stop| async move {
        let mut document = document(&target, &settings, machine);
        let content = content(&settings);
        let mut session = Session::open(target, content, settings, stop, "").await?;
        let result = measure_all(&mut session, &cells, &mut document).await;
        session.close().await;
        let outcome = result?;
        output::print(&markdown(&document), json.as_deref());
        output::print(&notes(&document.results), json.as_deref());
        output::write(&document, json.as_deref())?;
        Ok(outcome)
    })
}

fn rows(keys: Option<u64>, concurrency: &[usize]) -> Result<Vec<Cell>, BenchError> {
    let work = Work {
        keys: None,
        spread: None,
        zipf_exponent: 1.0,
        order: KeyOrder::Ascending,
        page: PAGE,
        part_bytes: 16 << 20,
        part_parallel: 4,
        mix: Mix::parse("get=1").map_err(BenchError::Option)?,
        prepare: true,
    };
    let mut all = Vec::new();
    for (operation, bytes, default) in ROWS {
        let concurrency = concurrencies(concurrency, default)?;
        let keys = keys.filter(|_| operation != Operation::Put);
        let work = Work { keys, ..work.clone() };
        all.extend(cells(&[operation], &[SizeSpec::fixed(bytes)], &concurrency, &work)?);
    }
    Ok(all)
}

fn markdown(document: &Document) -> String {
    let head =
        ["operation", "size", "at once", "per second", "MiB/s", "p50 ms", "p99 ms", "max ms"];
    let with_servers = document.results.iter().any(|report| !report.servers.is_empty());
    let mut table = match with_servers {
        false => Table::new(2, &head),
        true => {
            let more = ["server CPU s per 1,000", "server RSS MiB"];
            Table::new(2, &[&head[..], &more[..]].concat())
        }
    };
    for report in &document.results {
        table.push(line(report, with_servers));
    }
    let target = &document.target;
    let (payload, machine) = (&target.payload, &document.machine);
    let checksum = if target.checksum { ", CRC-32" } else { "" };
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "{}\nMeasured by `trine bench suite` {version} ({payload} payload{checksum}); client on: {machine}.\n",
        table.markdown()
    )
}

fn line(report: &Report, with_servers: bool) -> Vec<String> {
    let mut line = vec![report.operation.to_uppercase(), report.size.clone()];
    line.push(report.concurrency.to_string());
    let total = report.total();
    let rate = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
    line.push(rate(total.map(|row| row.operations_per_s)));
    let has_bytes = matches!(report.operation.as_str(), "put" | "get");
    line.push(rate(total.filter(|_| has_bytes).map(|row| row.mib_per_s)));
    let latency = total.and_then(|row| row.latency_ms.as_ref());
    line.push(rate(latency.map(|it| it.p50)));
    line.push(rate(latency.map(|it| it.p99)));
    line.push(rate(latency.map(|it| it.max)));
    if with_servers {
        line.push(match report.servers_cpu_s_per_1000_requests {
            Some(cost) => format!("{cost:.2}"),
            None => "-".to_owned(),
        });
        line.push(match report.server_rss_max() {
            Some(bytes) => (bytes >> 20).to_string(),
            None => "-".to_owned(),
        });
    }
    line
}
