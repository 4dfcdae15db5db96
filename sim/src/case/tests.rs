//! What is written down of a run is all of it: played again it has the same trace.

use std::collections::BTreeSet;

use super::*;
use crate::seed::{Changes, Seed};

fn usual(number: u64) -> Seed {
    Seed { number, changes: Changes { usual: true, ..Changes::default() } }
}

/// How many small faults struck.
fn same(seed: u64) -> usize {
    let (report, case) = record(Real, usual(seed).setup(), None);
    let text = case.write();
    let read = Case::read(&text).unwrap_or_else(|wrong| panic!("seed {seed:#x}: {wrong}"));
    assert_eq!(read, case, "seed {seed:#x}");
    let again = read.play(Real, None, Nanos::MAX);
    let seen = |report: &Report| (report.hash, report.events, report.failure.clone());
    assert_eq!(seen(&again), seen(&report), "seed {seed:#x}");
    assert_eq!(again.counts.hits, report.counts.hits, "seed {seed:#x}");
    case.struck.values().map(BTreeSet::len).sum()
}

#[test]
fn a_recorded_run_played_again_has_the_same_trace() {
    let struck: usize = (1..4).map(same).sum();
    assert!(struck > 20, "only {struck} small faults");
}

/// A change of what seeds draw must not reach a case: one whose seed only has the streams of latencies.
#[test]
fn nothing_of_a_case_is_drawn_anew() {
    let (report, case) = record(Real, usual(1).setup(), None);
    assert!(case.operations() > 50 && !case.episodes.is_empty());
    let mut other = case.clone();
    other.swarm.hot_keys = 1;
    other.swarm.body_max = 1;
    other.swarm.think = Latency { low: 1, high: 2 };
    let played = other.play(Real, None, Nanos::MAX);
    assert_eq!(played.failure, None);
    // Requests of later pages of listings are thought about too: about as many operations are done.
    assert!(played.counts.operations * 10 > report.counts.operations * 9);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (_, case) = record(Real, Setup { plan: Vec::new(), ..small() }, None);
    let text = case.write();
    let ok = Case::read(&text).expect("it was written");
    assert_eq!(ok, case);
    let without = |line: &str| text.lines().filter(|it| !it.starts_with(line)).collect::<Vec<_>>();
    // What came later has a default; what a run cannot be without has none.
    for line in ["copies = ", "story = ", "own_streams = ", "spares = ", "weak_zone = "] {
        assert!(text.contains(line), "{line}\n{text}");
        assert!(Case::read(&without(line).join("\n")).is_ok(), "{line}");
    }
    for line in ["seed = ", "format = "] {
        assert!(Case::read(&without(line).join("\n")).is_err(), "{line}");
    }
    for (old, new) in [
        ("format = 1", "format = 2"),
        ("[world]", "colour = 1\n[world]"),
        ("[world]", "[world]\ncolour = 1"),
        ("seed = \"0x", "seed = \"0y"),
        ("stores_per_zone = 1", "stores_per_zone = 0"),
        ("gateways = 2", "gateways = 1000000"),
        ("gateways = 2", "gateways = 1"),
        ("clients = 4", "clients = 5"),
        ("weak_zone = 1", "weak_zone = 3"),
        ("\"zz-anchor\"", "\"zz top\""),
        ("gw-2 ", "gw-3 "),
        ("[world]", "[geometry]\ncapacity = 4096\n[world]"),
    ] {
        assert!(text.contains(old), "{old}\n{text}");
        let wrong = Case::read(&text.replacen(old, new, 1));
        assert!(wrong.is_err(), "{new}");
    }
    for episode in ["1 for 1: zone killed zone-9 0x0", "1 for 1: message lost all 0x0"] {
        let wrong = text.replacen("episodes = []", &format!("episodes = [\"{episode}\"]"), 1);
        assert_ne!(wrong, text);
        assert!(Case::read(&wrong).is_err(), "{episode}");
    }
}

fn small() -> Setup {
    let setup = Seed::plain(0).setup();
    Setup { swarm: Swarm::calm(crate::SECOND), ..setup }
}
