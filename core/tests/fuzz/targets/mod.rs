//! The targets: each takes any bytes, and asserts what must hold for them. `cargo fuzz` calls them from
//! `core/fuzz/`, and `main.rs` beside this folder replays the corpora under `cargo test`.

#![allow(dead_code, reason = "each fuzzer uses one target of them")]

mod disk;
mod frames;
mod image;
mod input;
mod journal;
mod look;
mod records;
mod solo;
mod storage;
mod superblock;
#[path = "../target.rs"]
mod target;

pub(crate) use target::Target;

/// A decoded value may be larger than its bytes: an `Option` in one byte is a struct in memory.
const PER_BYTE: usize = 64;
const FIXED: usize = 64 << 10;

/// A target with the usual bounds, of whose inputs a tenth pass.
const fn usual(name: &'static str, run: fn(&[u8]) -> bool, seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds, per_byte: PER_BYTE, fixed: FIXED, passing_percent_min: 10 }
}

pub(crate) const TARGETS: [Target; 6] = [
    usual("frames", frames::run, frames::seeds),
    usual("records", records::run, records::seeds),
    usual("storage", storage::run, storage::seeds),
    usual("journal", journal::run, journal::seeds),
    usual("superblock", superblock::run, superblock::seeds),
    // A store: recovery holds at most 5 MiB of journal, the rest are its limits; and the disk, in memory.
    Target { per_byte: 1024, fixed: 24 << 20, ..usual("disk", disk::run, disk::seeds) },
];

/// The target of this name.
pub(crate) fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).expect("it is in the list")
}
