//! Worlds of toy machines: what is right runs through, and each bug is caught.

use super::World;
use super::toy::{Bug, Toy};
use crate::faults::{FaultKind, Hits};
use crate::run::{Report, run};
use crate::seed::Seed;

fn run_toy(seed: u64, bug: Bug) -> Report {
    run(Toy::new(bug), Seed::plain(seed).setup(), None, World::run)
}

/// The first failure among some seeds.
fn hunt(bug: Bug) -> String {
    let found = (0..60).find_map(|seed| run_toy(seed, bug).failure);
    found.unwrap_or_else(|| panic!("no seed finds {bug:?}"))
}

#[test]
fn correct_toys_pass_under_all_faults() {
    let mut hits = Hits::default();
    let mut copies = [0, 0];
    // They read at their start only: it takes many seeds until a read fails.
    for seed in 0..400 {
        let report = run_toy(seed, Bug::None);
        hits.add(&report.counts.hits);
        assert_eq!(report.failure, None, "{:?}", Seed::plain(report.seed).lines());
        assert!(report.counts.operations > 50, "seed {seed}: {}", report.counts.operations);
        assert_eq!(report.counts.undecided, 0);
        for (sum, count) in copies.iter_mut().zip(report.counts.copies_done) {
            *sum += count;
        }
    }
    assert!(copies.iter().all(|count| *count > 100), "of objects and parts: {copies:?}");
    // A toy answers so soon that hardly a client waits when its connections break. It keeps nothing behind its journal that could rot or be lost, does not say that it serves,
    // and knows of no levels.
    let unseen = [
        FaultKind::ByteRotted,
        FaultKind::SectorRotted,
        FaultKind::JournalRotted,
        FaultKind::WriteLost,
        FaultKind::WriteMisdirected,
        FaultKind::ImageRestored,
        FaultKind::KilledInDoubt,
        FaultKind::ClientsReset,
        FaultKind::MachineUpgraded,
        FaultKind::UpgradeRolledBack,
        FaultKind::LevelRaisedEarly,
    ];
    for kind in FaultKind::ALL.iter().filter(|kind| !unseen.contains(kind)) {
        assert!(hits.of(*kind) > 0, "{} never happened", kind.name());
    }
}

#[test]
fn same_seed_gives_the_same_trace() {
    for seed in 0..10 {
        let (one, other) = (run_toy(seed, Bug::None), run_toy(seed, Bug::None));
        assert_eq!((one.hash, one.events), (other.hash, other.events));
    }
    assert_ne!(run_toy(1, Bug::None).hash, run_toy(2, Bug::None).hash);
}

#[test]
fn lost_put_is_found() {
    assert!(hunt(Bug::LosesPut).contains("is not linearizable"));
}

#[test]
fn stale_read_is_found() {
    assert!(hunt(Bug::StaleRead).contains("is not linearizable"));
}

#[test]
fn ignored_condition_is_found() {
    assert!(hunt(Bug::IgnoresConditions).contains("is not linearizable"));
}

#[test]
fn wrong_byte_is_found() {
    assert!(hunt(Bug::WrongByte).contains("is wrong"));
}

#[test]
fn key_missing_in_a_listing_is_found() {
    let failure = hunt(Bug::ListMisses);
    assert!(failure.contains("is not linearizable") || failure.contains("anchor"), "{failure}");
}

#[test]
fn wrong_range_is_found() {
    assert!(hunt(Bug::WrongRange).contains("was answered with"));
}

#[test]
fn commit_of_a_cancelled_put_is_found() {
    let failure = hunt(Bug::CommitsCancelled);
    assert!(failure.contains("linearizable") || failure.contains("written with"), "{failure}");
}

#[test]
fn a_copy_of_what_was_there_before_is_found() {
    let failure = hunt(Bug::CopiesStale);
    assert!(failure.contains("is not linearizable") && failure.contains("Content"), "{failure}");
}

#[test]
fn a_copy_of_two_versions_is_found() {
    // Other checkers may be first to notice.
    let told = |seed: u64| run_toy(seed, Bug::CopiesTorn).failure;
    let named = |failure: &String| {
        failure.contains("which no version of") || failure.contains("as in no version")
    };
    assert!((0..60).filter_map(told).any(|failure| named(&failure)));
    let failure = hunt(Bug::CopiesOtherWords);
    assert!(failure.contains("are of another version"), "{failure}");
}

#[test]
fn ignored_delete_is_found() {
    assert!(hunt(Bug::KeepsDeleted).contains("is not linearizable"));
}

#[test]
fn missing_sync_is_found_by_a_power_loss() {
    assert!(hunt(Bug::NoSync).contains("found of"));
}

#[test]
fn request_that_is_never_answered_is_a_failure() {
    let failure = hunt(Bug::NeverAnswers);
    assert!(failure.contains("stuck") || failure.contains("with one zone failing"), "{failure}");
}

#[test]
fn store_that_goes_on_after_a_failed_sync_is_found() {
    assert!(hunt(Bug::IgnoresFailedSync).contains("goes on after a failed sync"));
}
