//! What a target of fuzzing is, and how much memory it may take. Used by core's targets and by those of s3.

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Something that reads bytes of disks, peers or clients.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// Of its corpus and of its fuzzer.
    pub(crate) name: &'static str,
    /// Panics if something does not hold. Whether the input passed the checks at the door.
    pub(crate) run: fn(&[u8]) -> bool,
    /// Inputs to begin from, made from what real stores and clients write.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes of memory that each byte of input may take...
    pub(crate) per_byte: usize,
    /// ...and those that any input may take.
    pub(crate) fixed: usize,
    /// Of a hundred inputs of the stable test so many must pass, or it tests only the door.
    pub(crate) passing_percent_min: u64,
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
