//! Space reserved ahead of writes, so that syncs seldom wait for the file system's allocator and a
//! full disk shows at a write, not at a sync.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Bytes reserved at a time: few enough to waste little at the ends of segments, of which each flush
/// fills one in part, and that most of a segment that is trimmed counts as given back.
pub(super) const STEP: u64 = 1 << 20;

/// Which steps of a file are known to be reserved.
///
/// The knowledge is not kept over a restart: reserving again what is reserved costs one cheap call.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Steps in hand: a bit for each, 128 KiB for a disk of 1 TiB.
    reserved: Mutex<Steps>,
    /// The file system cannot reserve; writes allocate as they go.
    unsupported: AtomicBool,
}

impl Ahead {
    /// See to it that `span` is reserved.
    ///
    /// # Errors
    /// `NOSPC` if not even the span itself has room; others as `fallocate` says.
    pub(super) fn reserve(&self, file: &File, span: Range<u64>) -> Result<(), Errno> {
        if span.is_empty() || self.unsupported.load(Ordering::Relaxed) {
            return Ok(());
        }
        for step in span.start / STEP..=(span.end - 1) / STEP {
            if self.lock().has(step) {
                continue;
            }
            // Not under the lock: two writers may reserve a step twice, which does no harm.
            match allocate(file, step * STEP..(step + 1) * STEP) {
                Ok(()) => {
                    self.lock().set(step, true);
                }
                Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
                    // Near the end of space, take only what is needed.
                    let start = span.start.max(step * STEP);
                    allocate(file, start..span.end.min((step + 1) * STEP))?;
                }
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) => {
                    self.unsupported.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// `span` was given back. Steps that lie in it whole are reserved anew when written again; for
    /// the others a write into the hole allocates as it goes.
    pub(super) fn released(&self, span: Range<u64>) {
        let mut reserved = self.lock();
        for step in span.start.div_ceil(STEP)..span.end / STEP {
            reserved.set(step, false);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Steps> {
        // Each change is one call, so that the bits are whole even after a panic.
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A set of small numbers.
#[derive(Debug, Default)]
struct Steps {
    words: Vec<u64>,
}

impl Steps {
    fn place(step: u64) -> (usize, u64) {
        (usize::try_from(step / 64).expect("a disk has few steps"), 1 << (step % 64))
    }

    fn has(&self, step: u64) -> bool {
        let (word, bit) = Self::place(step);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn set(&mut self, step: u64, is_in: bool) {
        let (word, bit) = Self::place(step);
        if is_in {
            self.words.resize(self.words.len().max(word + 1), 0);
            self.words[word] |= bit;
        } else if let Some(bits) = self.words.get_mut(word) {
            *bits &= !bit;
        }
    }
}

/// Reserve without changing the length: a disk's length says its capacity, nothing else.
fn allocate(file: &File, span: Range<u64>) -> Result<(), Errno> {
    loop {
        match fallocate(file, FallocateFlags::KEEP_SIZE, span.start, span.end - span.start) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
