//! The `trine` binary: settings, log, threads and signals around [`trine_node::app`].

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use trine_node::admin;
use trine_node::app::{Announcement, DriverTask, Process};
use trine_node::bench;
use trine_node::config::{AdminCli, Arguments, Command, Config};
use trine_node::inspect;
use trine_node::ready::Ready;
use trine_node::runtime::Runtime;
use trine_node::runtime::tokio::TokioRuntime;

mod banner;
mod service;

/// Exit code of a process that was told twice to stop: 128 + SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;
/// s3s logs each refused request, and each 501, as an error of the server's; internal errors are logged
/// by our own layer. Stands before the user's filter, which can thus say otherwise.
const QUIET: &str = "s3s::ops=off,s3s::service=off";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            // Standard error may be gone; then nobody reads it.
            let _ = writeln!(io::stderr(), "trine: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let config = match arguments.command {
        None => Config::resolve(arguments.all_in_one, std::env::vars_os())?,
        Some(Command::Node(cli)) if cli.new_cluster_id => return new_cluster_id(),
        Some(Command::Node(cli)) => Config::resolve_node(cli, std::env::vars_os())?,
        Some(Command::Admin(cli)) => return operate(cli),
        Some(Command::Inspect(cli)) => return Ok(inspect::run(&cli)),
        Some(Command::Bench(cli)) => return Ok(bench::run(*cli)?),
    };
    tracing_subscriber::fmt()
        .with_env_filter(log_filter(&config.log)?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(serve(&config))?;
    // What is left are connections that had their time: they are not waited for.
    runtime.shutdown_background();
    Ok(code)
}

/// `trine admin`.
fn operate(cli: AdminCli) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(admin::command::run(cli))?)
}

/// `trine node --new-cluster-id`.
fn new_cluster_id() -> Result<ExitCode, Box<dyn Error>> {
    let mut bytes = [0; 16];
    TokioRuntime::new().random(&mut bytes)?;
    writeln!(io::stdout(), "{:032x}", u128::from_le_bytes(bytes))?;
    Ok(ExitCode::SUCCESS)
}

/// What is logged, given what the user wants to see.
fn log_filter(wanted: &str) -> Result<EnvFilter, ParseError> {
    // The filter is read alone first, so that an error in it is told as the user wrote it.
    EnvFilter::try_new(wanted)?;
    EnvFilter::try_new(format!("{QUIET},{wanted}"))
}

async fn serve(config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    // Before anything is made, so that a signal during the start is not lost.
    let mut signals = Signals::new()?;
    let runtime = TokioRuntime::new();
    let process = Process::open(runtime.clone(), config).await?;
    let key = process.root_key().clone();
    let service = Ready::new(service::s3(&runtime, &process, config, &key)?);
    let (told, mut told_twice) = tokio::sync::oneshot::channel();
    let stop = async move {
        signals.next().await;
        // Whoever waits for the second signal is this function.
        let _ = told.send(signals);
    };
    let announce = |announcement: Announcement| banner::print(&announcement, config, &key);
    let running = process.run(service, on_own_thread, stop, announce);
    tokio::select! {
        biased;
        result = running => result.map(|()| ExitCode::SUCCESS).map_err(Into::into),
        () = second_signal(&mut told_twice) => {
            tracing::warn!("told twice to stop: stopping at once, as in a crash");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// Run the driver on a thread of its own, so that the load of HTTP does not delay an election.
fn on_own_thread(driver: DriverTask) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("machines".to_owned()).spawn(move || runtime.block_on(driver))?;
    Ok(())
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Ends at the second signal: the first hands the signals over.
async fn second_signal(first: &mut tokio::sync::oneshot::Receiver<Signals>) {
    match first.await {
        Ok(mut signals) => signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_not_logged_unless_asked_for() {
        let filter = |wanted: &str| log_filter(wanted).map(|filter| filter.to_string());
        assert!(filter("info").is_ok_and(|filter| filter.contains("s3s::ops=off")));
        // Of two directives for one target, the later one holds.
        assert!(filter("info,s3s::ops=debug").is_ok_and(|it| !it.contains("s3s::ops=off")));
        assert!(filter("info,=,").is_err() || filter("info,a=b=c").is_err());
    }
}
