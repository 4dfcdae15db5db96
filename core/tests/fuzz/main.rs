//! Replays the corpora of `core/fuzz/`, and so many random changes of each input; `docs/fuzzing.md`.

mod replay;
mod targets;

use replay::replay;
use targets::{TARGETS, target};

#[test]
fn frames_of_the_corpus_and_changes_of_them() {
    replay(&target("frames"));
}

#[test]
fn records_of_the_corpus_and_changes_of_them() {
    replay(&target("records"));
}

#[test]
fn blocks_and_edits_of_the_corpus_and_changes_of_them() {
    replay(&target("storage"));
}

#[test]
fn journal_frames_of_the_corpus_and_changes_of_them() {
    replay(&target("journal"));
}

#[test]
fn superblocks_of_the_corpus_and_changes_of_them() {
    replay(&target("superblock"));
}

#[test]
fn disks_of_the_corpus_and_changes_of_them() {
    replay(&target("disk"));
}

/// `cargo test -p trine-core --test fuzz -- --ignored` writes inputs into `core/fuzz/seeds/TARGET`, from which
/// `cargo fuzz` may begin anew.
#[test]
#[ignore = "writes files"]
fn write_seeds() {
    replay::write_seeds(&TARGETS);
}
