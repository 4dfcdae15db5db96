//! Crashes at a share of all completions of a disk in scripted runs; `cargo sim crash` tries all of them.

use trine_core::rare::Bug;
use trine_sim::crash::scripts::scripts;
use trine_sim::crash::{Plan, read_point, sweep, try_point};

/// Every so many-th point of each script is tried, from a place that depends on its name.
const SHARE: usize = 2_999;

#[test]
fn scripted_runs_survive_crashes_at_completions_of_a_disk() {
    for script in scripts() {
        let nth = script.name.bytes().map(usize::from).sum();
        let share = (nth, SHARE);
        let plan = Plan { share, jobs: 2, planted: None, failures_max: 3 };
        let outcome = sweep(&script, &plan, &|_, _| {});
        let name = script.name;
        assert!(outcome.findings.is_empty(), "{name}: {:?}", outcome.findings);
        assert!(outcome.tried > 10 && outcome.missed == 0, "{name}: {outcome:?}");
        assert!(outcome.operations >= 100, "{name}: {outcome:?}");
        assert!(outcome.merges > 0 && outcome.chunks_freed > 0, "{name}: {outcome:?}");
    }
}

/// A segment whose chunks had been freed was given back in the journal before the chunks were: a crash in between
/// left rows that point to a free segment.
#[test]
fn segments_are_given_back_behind_what_freed_their_chunks() {
    for point in ["objects:all:4606:before:everything", "reclaim:store-2:2748:before:synced"] {
        let (script, point) = read_point(point).expect("it is a point");
        let tried = try_point(&script, Some(point), None, None);
        assert_eq!(tried.report.failure, None);
    }
}

/// Where exactly moves with whatever changes what a disk is asked for.
#[test]
fn mistakes_of_storage_are_noticed_near_their_points() {
    for (bug, kind, from) in [
        (Bug::VoteForgotten, "after:cache", 60),
        (Bug::CheckpointForgetsChunks, "before:cache", 300),
    ] {
        let noticed = (from..from + 240).step_by(8).any(|at| {
            let point = format!("objects:store-1:{at}:{kind}");
            let (script, point) = read_point(&point).expect("it is a point");
            let failure = |bug| try_point(&script, Some(point), bug, None).report.failure;
            failure(Some(bug)).is_some() && failure(None).is_none()
        });
        assert!(noticed, "{} was not noticed", bug.name());
    }
}

#[test]
fn points_are_read_as_they_are_written() {
    for text in ["rows:all:7:before:mixed", "recovery:store-3:900:after:cache"] {
        let (script, point) = read_point(text).expect("it is a point");
        assert_eq!(trine_sim::crash::point_text(script.name, &point), text);
    }
    for wrong in [
        "",
        "rows",
        "rows:all:7:before",
        "rows:store-4:7:before:mixed",
        "nobody:all:7:before:mixed",
        "rows:all:x:before:mixed",
        "rows:all:7:then:mixed",
        "rows:all:7:after:half",
    ] {
        assert!(read_point(wrong).is_err(), "{wrong}");
    }
}
