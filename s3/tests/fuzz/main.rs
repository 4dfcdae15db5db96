//! Replays the corpora of `s3/fuzz/`, and so many random changes of each input; `docs/fuzzing.md`.

#[path = "../../../core/tests/fuzz/replay.rs"]
mod replay;
mod targets;

use replay::replay;
use targets::{TARGETS, target};

#[test]
fn connections_of_the_corpus_and_changes_of_them() {
    replay(&target("http"));
}

#[test]
fn chunked_bodies_of_the_corpus_and_changes_of_them() {
    replay(&target("chunked"));
}

#[test]
fn documents_of_the_corpus_and_changes_of_them() {
    replay(&target("documents"));
}

#[test]
fn signatures_of_the_corpus_and_changes_of_them() {
    replay(&target("signatures"));
}

#[test]
fn requests_of_the_corpus_and_changes_of_them() {
    replay(&target("requests"));
}

/// `cargo test -p trine-s3 --test fuzz -- --ignored` writes inputs into `s3/fuzz/seeds/TARGET`, from which
/// `cargo fuzz` may begin anew.
#[test]
#[ignore = "writes files"]
fn write_seeds() {
    replay::write_seeds(&TARGETS);
}
