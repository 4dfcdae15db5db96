//! Space reserved ahead of writes, so that syncs seldom wait for the file system's allocator and a
//! full disk shows at a write, not at a sync.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Bytes reserved at a time: few enough to waste little on a small disk, and that several lie whole in
/// a segment that is trimmed; many enough that a stream of 1 MiB chunks meets the allocator seldom.
pub(super) const STEP: u64 = 4 << 20;

/// Which steps of a file are known to be reserved.
///
/// The knowledge is not kept over a restart: reserving again what is reserved costs one cheap call.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Steps in hand, by number. At most 262,144 for a disk of 1 TiB.
    reserved: Mutex<BTreeSet<u64>>,
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
            if self.lock().contains(&step) {
                continue;
            }
            // Not under the lock: two writers may reserve a step twice, which does no harm.
            match allocate(file, step * STEP..(step + 1) * STEP) {
                Ok(()) => {
                    self.lock().insert(step);
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
            reserved.remove(&step);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        // Each change is one call, so that the set is whole even after a panic.
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
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
