//! `trine bench fill`: many objects in one bucket. Does the rate hold, and does a LIST page cost the
//! same wherever it is?

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cli::FillCli;
use super::client::Client;
use super::client::From;
use super::client::answer::Failure;
use super::error::BenchError;
use super::machine::Machine;
use super::measure::Recorder;
use super::phase::{Mark, Stop};
use super::plan::{Environment, Settings, concurrencies, target};
use super::report::output;
use super::report::schema::{Latency, Report, TargetReport, VERSION};
use super::report::table::{Table, notes, number, results};
use super::session::{Ended, Session};
use super::worker::list_page;
use super::workload::{KeyOrder, KeySet, Kind};
use super::{Outcome, content, execute, target_report};

/// The document of `fill`.
#[derive(Debug, Serialize)]
struct Document {
    trine_bench: u32,
    machine: Machine,
    target: TargetReport,
    objects: u64,
    fill: Report,
    marks: Vec<MarkReport>,
    /// Rate of the last stretch, divided by that of the first.
    rate_end_over_begin: Option<f64>,
    places: Vec<Place>,
    /// A walk through all pages.
    walk: Option<Place>,
}

/// How it went up to a number of objects.
#[derive(Debug, Serialize)]
struct MarkReport {
    objects: u64,
    at_s: f64,
    /// Since the mark before.
    objects_per_s: f64,
    /// CPU seconds of all servers for 1,000 objects, since the mark before.
    servers_cpu_s_per_1000: Option<f64>,
    servers_rss_bytes: Option<u64>,
}

/// Pages one after another.
#[derive(Debug, Serialize)]
struct Place {
    place: &'static str,
    pages: u64,
    keys: u64,
    latency_ms: Option<Latency>,
    /// CPU seconds of all servers for 1,000 pages.
    servers_cpu_s_per_1000: Option<f64>,
    error: Option<String>,
}

pub(crate) fn run(cli: &FillCli, environment: Environment<'_>) -> Result<ExitCode, BenchError> {
    let account = &cli.endpoint.account;
    let settings = Settings::of_client(&cli.client, account.create_bucket)?;
    concurrencies(&[cli.concurrency], &[])?;
    if cli.objects == 0 || cli.every == 0 || !(1..=1000).contains(&cli.page) {
        let what = "--objects and --every: at least 1; --page: from 1 to 1000";
        return Err(BenchError::Option(what.to_owned()));
    }
    let target = target(cli.endpoint.endpoint.as_deref(), account, &cli.client, environment)?;
    output::check(settings.json.as_deref())?;
    let json = settings.json.clone();
    let settings = Arc::new(settings);
    let cli = cli.clone();
    execute(settings.threads, |stop| async move {
        let target_report = target_report(&target, &settings);
        let content = content(&settings);
        let (for_session, for_lists) = (Arc::clone(&settings), Arc::clone(&stop));
        let mut session = Session::open(target, content, for_session, stop, "").await?;
        let result = measure(&mut session, &cli, &settings, &for_lists, target_report).await;
        session.close().await;
        let document = result?;
        output::print(&text(&document), json.as_deref());
        output::write(&document, json.as_deref())?;
        let mut places = document.places.iter().chain(&document.walk);
        let counted = document.walk.as_ref().is_none_or(|walk| walk.keys == document.objects);
        let listed = places.all(|place| place.error.is_none());
        let stopped = document.fill.ended == "stopped" || for_lists.is_wanted();
        Ok(Outcome { failed: document.fill.failed() > 0 || !listed || !counted, stopped })
    })
}

async fn measure(
    session: &mut Session,
    cli: &FillCli,
    settings: &Settings,
    stop: &Stop,
    target: TargetReport,
) -> Result<Document, BenchError> {
    let set = session.set(&format!("fill/{}", cli.size.name()), &cli.size, (cli.key_order, true));
    let measured = session.fill(&set, cli.objects, cli.concurrency, cli.every).await?;
    set.prepared.fetch_max(cli.objects, Ordering::Relaxed);
    let marks = mark_reports(&measured.marks);
    let rate_end_over_begin = match (marks.first(), marks.last()) {
        (Some(first), Some(last)) if marks.len() > 1 && first.objects_per_s > 0.0 => {
            Some(last.objects_per_s / first.objects_per_s)
        }
        _ => None,
    };
    let size = cli.size.to_string();
    let mut document = Document {
        trine_bench: VERSION,
        machine: Machine::describe(None),
        target,
        objects: cli.objects,
        fill: Report::new("put".to_owned(), size, cli.concurrency, &measured),
        marks,
        rate_end_over_begin,
        places: Vec::new(),
        walk: None,
    };
    if measured.ended == Ended::Stopped {
        return Ok(document);
    }
    let mut lister = Lister { client: session.client(0)?, set: &set, cli, settings, stop };
    let share = cli.pages.saturating_mul(cli.page.into());
    for (place, from) in [
        ("start", None),
        ("middle", Some(cli.objects / 2)),
        // One page more, so that all but the last are full.
        ("end", cli.objects.checked_sub(share.saturating_add(1))),
    ] {
        document.places.push(lister.pages(place, from, cli.pages).await);
    }
    if !cli.no_walk {
        document.walk = Some(lister.pages("all", None, u64::MAX).await);
    }
    Ok(document)
}

/// Reads pages at one connection.
struct Lister<'a> {
    client: Client,
    set: &'a KeySet,
    cli: &'a FillCli,
    settings: &'a Settings,
    stop: &'a Stop,
}

impl Lister<'_> {
    /// Read up to `pages` pages, behind an object of this number if there is one.
    async fn pages(&mut self, place: &'static str, from: Option<u64>, pages: u64) -> Place {
        let after = from.map(|number| self.key_at(number));
        let began = Instant::now();
        let mut recorder = Recorder::default();
        let before = self.cpu();
        let (mut keys, mut read, mut error) = (0, 0, None);
        let mut token: Option<String> = None;
        while read < pages && !self.stop.is_wanted() {
            let start = match (&token, &after) {
                (Some(token), _) => From::Token(token),
                (None, Some(key)) => From::After(key),
                (None, None) => From::Start,
            };
            let asked = Instant::now();
            let listed = list_page(&mut self.client, &self.set.prefix, self.cli.page, &start).await;
            match listed {
                Ok(listed) => {
                    recorder.success(Kind::List, began.elapsed(), asked.elapsed(), listed.bytes);
                    (keys, read, token) = (keys + listed.keys, read + 1, listed.token);
                }
                Err(failure) => {
                    error = Some(failure);
                    break;
                }
            }
            if token.is_none() {
                break;
            }
        }
        let cpu = before.zip(self.cpu()).map(|(before, after)| after.saturating_sub(before));
        let per_1000 = |cpu: Duration| super::process::per_1000(cpu.as_secs_f64(), read);
        Place {
            place,
            pages: read,
            keys,
            latency_ms: Latency::of(&recorder.total()),
            servers_cpu_s_per_1000: cpu.and_then(per_1000),
            error: error.map(|failure: Failure| failure.to_string()),
        }
    }

    /// The key that has about this many before it.
    fn key_at(&self, number: u64) -> String {
        match self.set.order {
            KeyOrder::Ascending => self.set.key(number),
            KeyOrder::Hashed => {
                // Hashes are spread evenly over 64 bits.
                let place = (u128::from(number) << 64) / u128::from(self.cli.objects.max(1));
                let place = u64::try_from(place).unwrap_or(u64::MAX);
                format!("{}{place:016x}", self.set.prefix)
            }
        }
    }

    /// CPU time of all servers.
    fn cpu(&self) -> Option<Duration> {
        let pids = &self.settings.server_pids;
        if pids.is_empty() {
            return None;
        }
        pids.iter().map(|pid| Some(super::process::Sample::of(*pid).ok()?.cpu)).sum()
    }
}

fn mark_reports(marks: &[Mark]) -> Vec<MarkReport> {
    let mut reports = Vec::new();
    let mut before: Option<&Mark> = None;
    for mark in marks {
        let (done, at) = before.map_or((0, Duration::ZERO), |mark| (mark.done, mark.at));
        let seen: Option<Vec<_>> = mark.servers.iter().copied().collect();
        let seen = seen.filter(|servers| !servers.is_empty());
        let cpu = |mark: &Mark| -> Option<Duration> {
            mark.servers.iter().map(|server| Some((*server)?.cpu)).sum()
        };
        // What the first stretch cost is not known: nobody looked at its begin.
        let cost = before.and_then(cpu).zip(cpu(mark)).and_then(|(before, now)| {
            let spent = now.saturating_sub(before).as_secs_f64();
            super::process::per_1000(spent, mark.done - done)
        });
        reports.push(MarkReport {
            objects: mark.done,
            at_s: mark.at.as_secs_f64(),
            objects_per_s: mark.rate((done, at)),
            servers_cpu_s_per_1000: cost.filter(|_| seen.is_some()),
            servers_rss_bytes: seen.map(|servers| servers.iter().map(|it| it.rss_bytes).sum()),
        });
        before = Some(mark);
    }
    reports
}

fn text(document: &Document) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let fine = |value: Option<f64>| or_dash(value.map(|it| format!("{it:.3}")));
    let head = ["objects", "at s", "objects/s", "server CPU s/1000", "server RSS MiB"];
    let mut table = Table::new(0, &head);
    for mark in &document.marks {
        table.push(vec![
            mark.objects.to_string(),
            format!("{:.1}", mark.at_s),
            number(mark.objects_per_s),
            fine(mark.servers_cpu_s_per_1000),
            or_dash(mark.servers_rss_bytes.map(|bytes| (bytes >> 20).to_string())),
        ]);
    }
    let mut text = table.text();
    let _ = match document.rate_end_over_begin {
        Some(ratio) => writeln!(text, "\nrate at the end / at the begin: {ratio:.2}\n"),
        None => writeln!(text),
    };
    text.push_str(&results(std::slice::from_ref(&document.fill)).text());
    let head = ["LIST at", "pages", "keys", "p50 ms", "p99 ms", "max ms", "server CPU s/1000"];
    let mut table = Table::new(1, &head);
    for place in document.places.iter().chain(&document.walk) {
        let latency = |value: fn(&Latency) -> f64| {
            or_dash(place.latency_ms.as_ref().map(|it| number(value(it))))
        };
        table.push(vec![
            place.place.to_owned(),
            place.pages.to_string(),
            place.keys.to_string(),
            latency(|it| it.p50),
            latency(|it| it.p99),
            latency(|it| it.max),
            fine(place.servers_cpu_s_per_1000),
        ]);
    }
    if !document.places.is_empty() {
        text.push('\n');
        text.push_str(&table.text());
    }
    for place in document.places.iter().chain(&document.walk) {
        if let Some(error) = &place.error {
            let _ = writeln!(text, "LIST at {}: {error}", place.place);
        }
    }
    if let Some(walk) = document.walk.as_ref().filter(|walk| walk.keys != document.objects) {
        let (keys, objects) = (walk.keys, document.objects);
        let _ = writeln!(text, "LIST FOUND {keys} KEYS, and {objects} were put");
    }
    text.push_str(&notes(std::slice::from_ref(&document.fill)));
    text
}
