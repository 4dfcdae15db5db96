//! What once failed is run for ever. Each file of `regressions/` holds a recorded case, and the story of what it found.

use std::path::{Path, PathBuf};

use trine_core::rare::Unusual;
use trine_sim::Nanos;
use trine_sim::case::{Case, run_real};

fn cases() -> Vec<(PathBuf, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let entries = std::fs::read_dir(folder).expect("the folder stands in the repository");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let case = Case::read(&text);
        let case = case.unwrap_or_else(|wrong| panic!("{}: {wrong}", path.display()));
        (path, case)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn what_once_failed_passes() {
    for (path, case) in cases() {
        let (name, story) = (path.display(), &case.story);
        assert!(!story.is_empty(), "{name} tells no story");
        let report = run_real(&case, None, Nanos::MAX);
        assert_eq!(report.failure, None, "{name}: {story}; cargo sim replay {name}");
        // A case that no longer does anything would hold nothing.
        assert!(report.events > 100, "{name}: only {} events", report.events);
    }
}

/// What is read can be written and read again, so that a file can be changed and kept. It says all by itself: what
/// its seed still draws (latencies) is drawn in the same way for ever.
#[test]
fn what_is_read_is_kept() {
    for (path, case) in cases() {
        let again = Case::read(&case.write());
        assert_eq!(again.as_ref(), Ok(&case), "{}", path.display());
        let plan = &case.swarm.rare;
        assert_eq!(plan.planted, None, "{} plants a mistake", path.display());
        assert_ne!(plan.unusual, Unusual::Drawn, "{}: name the sites", path.display());
    }
}
