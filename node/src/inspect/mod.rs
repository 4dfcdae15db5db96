//! `trine inspect`: what is on the disks of stores that do not run, and whether it is sound.
//!
//! Strictly read-only: files are opened for reading alone, and locked against stores that would start on
//! them meanwhile. All that is known of formats is the core's (`trine_core::inspect`); here are files,
//! threads, and words.
//!
//! Reading order: [`cli`] → `find` (which files) → `file` (reading them) → `survey` (what is done) →
//! `tally` (adding up copies) → `describe`, [`schema`] and `text` (how it is told).

pub mod cli;
mod describe;
mod file;
mod find;
pub mod schema;
mod survey;
mod tally;
mod text;

use std::io::{self, Write};
use std::process::ExitCode;

use cli::InspectCli;
use schema::{Failure, Report};
use tally::List;

/// Damage was found.
const DAMAGED: u8 = 1;
/// Something could not be inspected.
const FAILED: u8 = 2;

/// Carry out a command line.
pub fn run(cli: &InspectCli) -> ExitCode {
    let report = inspect(cli);
    for Failure { path, error } in &report.failures {
        // Standard error may be gone; then nobody reads it.
        let _ = writeln!(io::stderr(), "trine: {path}: {error}");
    }
    let text = match cli.json {
        true => json(&report),
        false => text::report(&report),
    };
    let mut out = io::stdout().lock();
    // Likewise.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match (report.failures.is_empty(), report.findings.is_empty()) {
        (false, _) => ExitCode::from(FAILED),
        (true, false) => ExitCode::from(DAMAGED),
        (true, true) => ExitCode::SUCCESS,
    }
}

fn inspect(cli: &InspectCli) -> Report {
    let found = find::find(&cli.paths);
    let list = match cli.chunks.as_deref().map(List::create).transpose() {
        Ok(list) => list,
        Err(error) => {
            let path = cli.chunks.clone().unwrap_or_default();
            let error = format!("the list of copies cannot be made: {error}");
            let failures = vec![Failure::new(&path, error)];
            return Report { failures, ..Report::default() };
        }
    };
    let mut report = survey::survey(&found.files, !cli.no_verify, list);
    for path in found.missing {
        let path = path.display();
        report
            .findings
            .push(format!("{path} is missing: the store was made, and its file is gone"));
    }
    report.failures.extend(found.failures);
    report.sound = report.findings.is_empty() && report.failures.is_empty();
    report
}

fn json(report: &Report) -> String {
    let text = serde_json::to_string_pretty(report)
        .expect("plain structs with string keys have a JSON form");
    format!("{text}\n")
}
