//! Proof that something is on stable storage.

/// Proof that a sync which covers the thing in question has completed.
///
/// Only the storage layer can make one, so that code which says "stored" too early does not compile.
/// It can be copied: what is durable stays so.
#[derive(Clone, Copy, Debug)]
pub struct Durable(());

impl Durable {
    /// To be called only where a completed sync has just been matched with what it covers.
    pub(super) fn by_completed_sync() -> Self {
        Self(())
    }

    /// For drivers that simulate the disk itself: the caller has just decided that the thing in
    /// question survives a crash.
    #[cfg(any(test, feature = "test-durable"))]
    pub fn for_test() -> Self {
        Self(())
    }
}
