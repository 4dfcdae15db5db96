//! The targets: each takes any bytes, and asserts what must hold for them. `cargo fuzz` calls them from
//! `core/fuzz/`, and `main.rs` beside this folder replays the corpora under `cargo test`.

#![allow(dead_code, reason = "each fuzzer uses one target of them")]

use peak_alloc::PeakAlloc;

mod disk;
mod frames;
mod image;
mod input;
mod journal;
mod records;
mod solo;
mod storage;
mod superblock;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Something that reads bytes of disks or peers.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// Of its corpus and of its fuzzer.
    pub(crate) name: &'static str,
    /// Panics if something does not hold. Whether the input passed the checks at the door.
    run: fn(&[u8]) -> bool,
    /// Inputs made from what real stores write.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes of memory that each byte of input may take...
    per_byte: usize,
    /// ...and those that any input may take.
    fixed: usize,
}

/// A decoded value may be larger than its bytes: an `Option` in one byte is a struct in memory.
const PER_BYTE: usize = 64;
const FIXED: usize = 64 << 10;

pub(crate) const TARGETS: [Target; 6] = [
    Target {
        name: "frames",
        run: frames::run,
        seeds: frames::seeds,
        per_byte: PER_BYTE,
        fixed: FIXED,
    },
    Target {
        name: "records",
        run: records::run,
        seeds: records::seeds,
        per_byte: PER_BYTE,
        fixed: FIXED,
    },
    Target {
        name: "storage",
        run: storage::run,
        seeds: storage::seeds,
        per_byte: PER_BYTE,
        fixed: FIXED,
    },
    Target {
        name: "journal",
        run: journal::run,
        seeds: journal::seeds,
        per_byte: PER_BYTE,
        fixed: FIXED,
    },
    Target {
        name: "superblock",
        run: superblock::run,
        seeds: superblock::seeds,
        per_byte: PER_BYTE,
        fixed: FIXED,
    },
    // A store: recovery holds at most 5 MiB of journal, the rest are its limits; and the disk, in memory.
    Target { name: "disk", run: disk::run, seeds: disk::seeds, per_byte: 1024, fixed: 24 << 20 },
];

/// The target of this name.
pub(crate) fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).expect("it is in the list")
}

impl Target {
    /// Run it, and hold how much memory it took.
    pub(crate) fn measured(&self, input: &[u8]) -> bool {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let passed = (self.run)(input);
        let taken = MEMORY.peak_usage().saturating_sub(before);
        let allowed = self.fixed + self.per_byte * input.len();
        assert!(taken <= allowed, "{}: {taken} bytes of memory, {allowed} allowed", self.name);
        passed
    }
}
