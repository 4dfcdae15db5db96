//! `cargo sim crash`.

use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

use trine_core::rare::Bug;

use super::scripts::{Script, scripts};
use super::{Outcome, Plan, point_text, read_point, sweep, try_point};
use crate::bugs::{fingerprint, parse_share};
use crate::trace::Sink;
use crate::world::CrashPoint;

/// Mistakes in how the disk is used: what these runs are for. (Of the others they notice what happens to show.)
const OF_STORAGE: &[Bug] = &[
    Bug::VoteForgotten,
    Bug::VoteBeforeDurable,
    Bug::AcceptBeforeDurable,
    Bug::CommitToldEarly,
    Bug::SyncSharedTooEarly,
    Bug::CheckpointForgetsVote,
    Bug::CheckpointForgetsSuspicion,
    Bug::CheckpointForgetsEntries,
    Bug::CheckpointForgetsChunks,
    Bug::CheckpointDropsEdits,
    Bug::CarriedEntryLost,
    Bug::DamageTakenForTear,
    Bug::TearTakenForDamage,
    Bug::ChunkAckedUnsynced,
    Bug::OpenSegmentUnscanned,
    Bug::SealedBeforeRecords,
    Bug::RecordedTooFar,
    Bug::ChunkBatchReused,
    Bug::FreedNotJournaled,
    Bug::SegmentFreedWithChunk,
    Bug::SegmentReusedWhileRead,
    Bug::RunEditBeforeSync,
    Bug::MergeEditBeforeSync,
    Bug::RunLacksHotState,
    Bug::FrozenRowsUnread,
    Bug::StaleBlockCache,
    Bug::MergeKeepsOlder,
    Bug::TombstoneDroppedEarly,
    Bug::LogGivenUpUnflushed,
];

/// What to try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crash {
    names: Vec<String>,
    share: Option<(usize, usize)>,
    jobs: usize,
    planted: Option<Bug>,
    bugs: bool,
    point: Option<String>,
}

impl Crash {
    /// From the arguments behind `crash`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut crash = Self { jobs: 2, ..Self::default() };
        let known: Vec<Script> = scripts();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--script" => {
                    let name = value()?;
                    if !known.iter().any(|script| script.name == name) {
                        return Err(format!("no script is called {name:?}"));
                    }
                    crash.names.push(name);
                }
                "--share" => crash.share = Some(parse_share(&value()?)?),
                "--jobs" => {
                    let jobs = value()?;
                    let number = jobs.parse().ok().filter(|jobs| *jobs > 0);
                    crash.jobs =
                        number.ok_or_else(|| format!("{jobs:?} is no number of 1 or more"))?;
                }
                "--planted" => {
                    let name = value()?;
                    let bug = Bug::ALL.iter().find(|bug| bug.name() == name);
                    let bug = bug.ok_or_else(|| format!("no mistake is called {name:?}"))?;
                    crash.planted = Some(*bug);
                }
                "--bugs" => crash.bugs = true,
                "--point" => {
                    let point = value()?;
                    read_point(&point)?;
                    crash.point = Some(point);
                }
                other => return Err(format!("{other:?} is no option of crash")),
            }
        }
        Ok(crash)
    }

    fn chosen(&self) -> Vec<Script> {
        let wanted = |script: &Script| {
            self.names.is_empty() || self.names.iter().any(|name| script.name == name)
        };
        scripts().into_iter().filter(wanted).collect()
    }
}

/// Try points, and print what came of them. Whether all is as it should be.
///
/// # Errors
/// What is wrong with the arguments.
pub fn run_command(crash: &Crash) -> Result<bool, String> {
    if let Some(point) = &crash.point {
        let (script, at) = read_point(point)?;
        return Ok(show(&script, at, crash.planted));
    }
    if crash.bugs {
        return Ok(run_bugs(crash));
    }
    let mut whole = true;
    for script in crash.chosen() {
        let begun = Instant::now();
        let (share, planted) = (crash.share.unwrap_or((0, 1)), crash.planted);
        let plan = Plan { share, jobs: crash.jobs, planted, failures_max: 10 };
        let shown = Mutex::new(begun);
        let outcome = sweep(&script, &plan, &|done, finding| {
            if let Some(finding) = finding {
                println!("FAILED {}\n  {}", finding.point, finding.failure);
                println!("  to replay: cargo sim crash --point {}", finding.point);
            }
            let mut shown = shown.lock().expect("nobody panics with it");
            if shown.elapsed().as_secs() >= 5 {
                *shown = Instant::now();
                eprint!("\r{} {done} points", script.name);
            }
        });
        eprint!("\r");
        println!("{}", line(&script, &outcome, begun));
        whole &= outcome.findings.is_empty() && outcome.missed == 0;
    }
    Ok(whole)
}

fn line(script: &Script, outcome: &Outcome, begun: Instant) -> String {
    let Outcome { points, tried, missed, findings, operations, .. } = outcome;
    let Outcome { merges, chunks_freed, segments_freed, .. } = outcome;
    let (failed, took) = (findings.len(), begun.elapsed().as_secs());
    format!(
        "{:<9} {tried} of {points} points in {took} s: {failed} failed, {missed} never came; without a crash \
         {operations} operations, {merges} merges, {segments_freed} segments given back by them, {chunks_freed} \
         chunks freed",
        script.name
    )
}

/// For each mistake of storage, which crash notices it first.
fn run_bugs(crash: &Crash) -> bool {
    let mut silent = Vec::new();
    println!("| mistake | noticed after | where | what was said |\n|---|---|---|---|");
    for bug in OF_STORAGE.iter().filter(|bug| crash.planted.is_none_or(|it| it == **bug)) {
        let (mut before, mut row) = (0, None);
        for script in crash.chosen() {
            let share = crash.share.unwrap_or((0, 1));
            let plan = Plan { share, jobs: crash.jobs, planted: Some(*bug), failures_max: 1 };
            let outcome = sweep(&script, &plan, &|_, _| {});
            before += outcome.tried;
            if let Some(finding) = outcome.findings.first() {
                row = Some((finding.point.clone(), fingerprint(&finding.failure)));
                break;
            }
        }
        match row {
            Some((point, said)) => {
                let said = said.replace('|', "\\|");
                println!("| {} | {before} | `{point}` | {said} |", bug.name());
            }
            None => {
                println!("| {} | not noticed in {before} | | |", bug.name());
                silent.push(bug.name());
            }
        }
        std::io::stdout().flush().unwrap_or_default();
    }
    eprintln!("{} mistakes, not noticed: {}", OF_STORAGE.len(), silent.join(", "));
    true
}

fn show(script: &Script, point: CrashPoint, planted: Option<Bug>) -> bool {
    let sink: Sink = Box::new(|event| {
        // Who reads may have seen enough.
        if writeln!(std::io::stdout(), "{event}").is_err() {
            std::process::exit(0);
        }
    });
    let tried = try_point(script, Some(point), planted, Some(sink));
    match tried.report.failure {
        Some(failure) => {
            println!("FAILED {}: {failure}", point_text(script.name, &point));
            false
        }
        None => {
            println!("passed; {} crashes never came", tried.missed);
            true
        }
    }
}
