//! What results are, and their form as JSON. Fields may be added; the meaning of one never changes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::machine::Machine;
use super::super::measure::{Recorder, Tally};
use super::super::plan::Cell;
use super::super::process::{Usage, per_1000};
use super::super::session::{Ended, Measured};
use super::super::workload::{Kind, Operation};

/// Of JSON documents.
pub(crate) const VERSION: u32 = 1;
/// A series of fewer whole seconds says nothing of a trend.
const TREND_SECONDS_MIN: usize = 5;

/// The document of `run` and `suite`.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    /// [`VERSION`].
    pub(crate) trine_bench: u32,
    /// The client's machine.
    pub(crate) machine: Machine,
    /// What requests went to, and how.
    pub(crate) target: TargetReport,
    /// One for each measurement.
    pub(crate) results: Vec<Report>,
}

/// An endpoint, and how requests to it were made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TargetReport {
    /// Its URL.
    pub(crate) endpoint: String,
    /// The bucket.
    pub(crate) bucket: String,
    /// Of `--payload`.
    pub(crate) payload: String,
    /// Whether bodies went with a CRC-32.
    pub(crate) checksum: bool,
    /// Whether every byte of GET was compared.
    pub(crate) verify: bool,
    /// What keys and bytes followed from.
    pub(crate) seed: u64,
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// `put`, `mixed`, ...
    pub(crate) operation: String,
    /// Sizes of objects, for people.
    pub(crate) size: String,
    /// The smallest of them, in bytes.
    pub(crate) size_bytes_min: u64,
    /// The largest.
    pub(crate) size_bytes_max: u64,
    /// Operations at once.
    pub(crate) concurrency: usize,
    /// From the begin to the end of the last operation, in seconds.
    pub(crate) elapsed_s: f64,
    /// `limit`, `exhausted` (nothing left to delete) or `stopped` (by Ctrl-C).
    pub(crate) ended: &'static str,
    /// HTTP requests of all kinds, those that were sent again included.
    pub(crate) http_requests: u64,
    /// One for each kind of operation, and `total` if there are several.
    pub(crate) rows: Vec<Row>,
    /// Rate of the last fifth of all whole seconds, divided by that of the first fifth; if there are
    /// at least five seconds.
    pub(crate) rate_end_over_begin: Option<f64>,
    /// This process.
    pub(crate) client: Option<Usage>,
    /// CPU time of the client, as a share of what its threads could have used: near 1, the client
    /// and not the server was measured.
    pub(crate) client_busy: Option<f64>,
    /// The processes of `--server-pid`.
    pub(crate) servers: Vec<Usage>,
    /// CPU seconds of all servers for 1,000 HTTP requests.
    pub(crate) servers_cpu_s_per_1000_requests: Option<f64>,
    /// Second by second.
    pub(crate) series: Vec<SecondReport>,
}

/// One kind of operation.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// `put`, `part`, ...; `total`.
    pub(crate) operation: String,
    /// That succeeded.
    pub(crate) operations: u64,
    /// Of these, for each second.
    pub(crate) operations_per_s: f64,
    /// Bytes of bodies, sent or received.
    pub(crate) bytes: u64,
    /// The same for each second, in MiB.
    pub(crate) mib_per_s: f64,
    /// Of operations that succeeded, from before the request is made to the last byte of the answer.
    pub(crate) latency_ms: Option<Latency>,
    /// That failed.
    pub(crate) failed: u64,
    /// By S3's code, or what stands for it.
    pub(crate) errors: BTreeMap<String, ErrorReport>,
    /// Answers that asked for fewer requests.
    pub(crate) slow_downs: u64,
}

/// Milliseconds, to three digits.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "as they are called")]
pub(crate) struct Latency {
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// Errors of one code.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ErrorReport {
    /// How many.
    pub(crate) count: u64,
    /// What one of them said.
    pub(crate) example: String,
}

/// One second.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SecondReport {
    /// From 0.
    pub(crate) second: usize,
    /// That ended in it.
    pub(crate) operations: u64,
    /// Of bodies.
    pub(crate) bytes: u64,
    /// Operations that failed.
    pub(crate) errors: u64,
    /// Answers that asked for fewer requests.
    pub(crate) slow_downs: u64,
}

impl Report {
    pub(crate) fn of(cell: &Cell, measured: &Measured) -> Self {
        let size = match cell.operation {
            Operation::List => format!("{} keys", cell.work.page),
            _ => cell.sizes.to_string(),
        };
        let mut report = Self::new(cell.operation.to_string(), size, cell.concurrency, measured);
        report.size_bytes_min = cell.sizes.sizes().first().copied().unwrap_or_default();
        report.size_bytes_max = cell.sizes.largest();
        // The cell may have had no operation at all.
        if report.rows.is_empty() {
            report.rows.push(Row::of(report.operation.clone(), &Tally::default(), 0.0));
        }
        report
    }

    pub(crate) fn new(
        operation: String,
        size: String,
        concurrency: usize,
        measured: &Measured,
    ) -> Self {
        let Measured { recorder, elapsed, ended, servers, client, threads, .. } = measured;
        let elapsed_s = elapsed.as_secs_f64();
        let requests = recorder.requests;
        let client = client.as_ref().map(|watch| watch.usage(requests));
        let servers: Vec<_> = servers.iter().map(|watch| watch.usage(requests)).collect();
        let cpu_s: f64 = servers.iter().map(|usage| usage.cpu_s).sum();
        let busy = |usage: &Usage| {
            let threads = u32::try_from(*threads).map_or(f64::INFINITY, f64::from);
            (elapsed_s > 0.0).then(|| usage.cpu_s / elapsed_s / threads)
        };
        Self {
            operation,
            size,
            size_bytes_min: 0,
            size_bytes_max: 0,
            concurrency,
            elapsed_s,
            ended: match ended {
                Ended::Limit => "limit",
                Ended::Exhausted => "exhausted",
                Ended::Stopped => "stopped",
            },
            http_requests: requests,
            rows: rows(recorder, elapsed_s),
            rate_end_over_begin: trend(recorder),
            client_busy: client.as_ref().and_then(busy),
            client,
            servers_cpu_s_per_1000_requests: match servers.len() {
                0 => None,
                _ => per_1000(cpu_s, requests),
            },
            servers,
            series: series(recorder),
        }
    }

    /// The row that stands for all.
    pub(crate) fn total(&self) -> Option<&Row> {
        // Of an upload, the whole; of a mixed load, `total`, which is last.
        let of_upload = self.rows.iter().find(|row| row.operation == self.operation);
        of_upload.or(self.rows.last())
    }

    /// Operations that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.rows.iter().filter(|row| row.operation != "total").map(|row| row.failed).sum()
    }

    /// The most resident memory of any server, in bytes.
    pub(crate) fn server_rss_max(&self) -> Option<u64> {
        self.servers.iter().map(|usage| usage.rss_max_bytes).max()
    }
}

impl Row {
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub(crate) fn of(operation: String, tally: &Tally, elapsed_s: f64) -> Self {
        let rate = |sum: u64| if elapsed_s > 0.0 { sum as f64 / elapsed_s } else { 0.0 };
        let errors = tally.errors.iter().map(|(code, (count, example))| {
            (code.clone(), ErrorReport { count: *count, example: example.clone() })
        });
        Self {
            operation,
            operations: tally.operations(),
            operations_per_s: rate(tally.operations()),
            bytes: tally.bytes,
            mib_per_s: rate(tally.bytes) / f64::from(1 << 20),
            latency_ms: Latency::of(tally),
            failed: tally.failures(),
            errors: errors.collect(),
            slow_downs: tally.slow_downs,
        }
    }
}

impl Latency {
    pub(crate) fn of(tally: &Tally) -> Option<Self> {
        Some(Self {
            min: tally.min_ms()?,
            mean: tally.mean_ms()?,
            p50: tally.quantile_ms(0.5)?,
            p90: tally.quantile_ms(0.9)?,
            p99: tally.quantile_ms(0.99)?,
            p999: tally.quantile_ms(0.999)?,
            max: tally.max_ms()?,
        })
    }
}

fn rows(recorder: &Recorder, elapsed_s: f64) -> Vec<Row> {
    let mut rows: Vec<_> = recorder
        .tallies()
        .map(|(kind, tally)| Row::of(kind.to_string(), tally, elapsed_s))
        .collect();
    let kinds = recorder.tallies().filter(|(kind, _)| *kind != Kind::Part).count();
    if kinds > 1 {
        rows.push(Row::of("total".to_owned(), &recorder.total(), elapsed_s));
    }
    rows
}

fn series(recorder: &Recorder) -> Vec<SecondReport> {
    let seconds = recorder.seconds().iter().enumerate();
    let report = |(second, it): (usize, &super::super::measure::Second)| SecondReport {
        second,
        operations: it.operations,
        bytes: it.bytes,
        errors: it.errors,
        slow_downs: it.slow_downs,
    };
    seconds.map(report).collect()
}

/// See [`Report::rate_end_over_begin`].
#[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
fn trend(recorder: &Recorder) -> Option<f64> {
    // The last second is not whole.
    let (_, whole) = recorder.seconds().split_last()?;
    let fifth = whole.len() / 5;
    if whole.len() < TREND_SECONDS_MIN {
        return None;
    }
    let sum = |part: &[super::super::measure::Second]| -> u64 {
        part.iter().map(|second| second.operations).sum()
    };
    let (begin, end) = (sum(&whole[..fifth]), sum(&whole[whole.len() - fifth..]));
    (begin > 0).then(|| end as f64 / begin as f64)
}
