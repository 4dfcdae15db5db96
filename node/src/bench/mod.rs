//! `trine bench`: measures any S3 endpoint over HTTP, ours or a peer, from outside.
//!
//! It shares no code with the server that it measures. What it does in the measured time is little:
//! bodies come from a pool and their hashes are known, each worker has a connection that is driven
//! by the worker's own task, and nothing is logged.
//!
//! # Reading order
//!
//! [`size`], [`workload`] (what is asked for) → `content` (what is in objects) → `client` (signatures
//! and HTTP) → `measure`, `process`, `machine` (what is found out) → [`cli`], `plan` (options, as typed
//! and as checked) → `phase`, `worker`, `upload` (the doing) → `session` (an endpoint under
//! measurement) → `report` → `run`, `compare`, `suite`, `fill` (the commands).
//!
//! # What is deliberately absent
//!
//! TLS, and pacing: a worker sends its next request when the last one is answered, so that latencies
//! are those of a closed loop.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use cli::{BenchCli, BenchCommand};
use content::{Content, POOL_BYTES};
use error::BenchError;
use phase::Stop;
use plan::Settings;
use report::schema::TargetReport;

pub mod cli;
mod client;
mod compare;
mod content;
pub mod error;
mod fill;
mod machine;
mod measure;
mod phase;
mod plan;
mod process;
mod progress;
mod report;
mod run;
mod session;
pub mod size;
mod suite;
mod upload;
mod worker;
pub mod workload;

/// Exit code if requests failed: the figures are there, and something is wrong.
const FAILED: u8 = 2;
/// Exit code of a process that Ctrl-C ended: 128 + SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// Carry out a command line: the process's exit code.
///
/// # Errors
/// [`BenchError`], for the user: nothing was measured.
pub fn run(cli: BenchCli) -> Result<ExitCode, BenchError> {
    let environment = |name: &str| std::env::var(name).ok();
    match cli.command {
        BenchCommand::Run(cli) => run::run(&cli, &environment),
        BenchCommand::Compare(cli) => compare::run(&cli, &environment),
        BenchCommand::Suite(cli) => suite::run(&cli, &environment),
        BenchCommand::Fill(cli) => fill::run(&cli, &environment),
    }
}

/// How a command ended that got as far as its results.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    failed: bool,
    stopped: bool,
}

impl Outcome {
    fn code(self) -> ExitCode {
        match self {
            Self { stopped: true, .. } => ExitCode::from(INTERRUPTED),
            Self { failed: true, .. } => ExitCode::from(FAILED),
            Self { .. } => ExitCode::SUCCESS,
        }
    }
}

/// Run a command's work on the client's threads. Ctrl-C asks it to stop; a second one ends it at once.
fn execute<F>(threads: usize, work: impl FnOnce(Arc<Stop>) -> F) -> Result<ExitCode, BenchError>
where
    F: Future<Output = Result<Outcome, BenchError>>,
{
    let runtime = match threads {
        // One thread needs neither locks nor wake-ups between threads.
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads).enable_all().build()
        }
    };
    let runtime = runtime.map_err(BenchError::System)?;
    runtime.block_on(async {
        let stop = Arc::new(Stop::new());
        let wanted = Arc::clone(&stop);
        tokio::spawn(async move {
            // Without a handler Ctrl-C ends the process, as it does anywhere.
            while tokio::signal::ctrl_c().await.is_ok() {
                wanted.want();
                let text = "trine: stopping; Ctrl-C again leaves everything as it is";
                progress::eprintln_lossy(text);
            }
        });
        tokio::select! {
            biased;
            () = stop.twice() => Ok(ExitCode::from(INTERRUPTED)),
            outcome = work(Arc::clone(&stop)) => outcome.map(Outcome::code),
        }
    })
}

/// The bytes of all objects of a command.
fn content(settings: &Settings) -> Arc<Content> {
    Arc::new(Content::new(settings.seed, POOL_BYTES))
}

fn target_report(target: &client::Target, settings: &Settings) -> TargetReport {
    let payload = clap::ValueEnum::to_possible_value(&target.payload);
    TargetReport {
        endpoint: target.endpoint.to_string(),
        bucket: target.bucket.clone(),
        payload: payload.map(|value| value.get_name().to_owned()).unwrap_or_default(),
        checksum: target.checksum,
        verify: settings.verify,
        seed: settings.seed,
    }
}
