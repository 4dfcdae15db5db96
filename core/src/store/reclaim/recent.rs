//! Which blobs gateways have written here of late, and whose they are: when a session ends, those that it was
//! writing are among them.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{BlobId, SessionId};
use crate::object::{KEY_BYTES_MAX, OwnedBlob, Target};

/// Blobs that are remembered. A gateway has as many puts at once at most; what is forgotten is found by
/// scrubbing.
const BLOBS_MAX: usize = 2048;
/// Bytes of one, without its key.
const BYTES_EACH: u64 = 96;

/// Blobs, the longest known first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    owners: BTreeMap<BlobId, Target>,
    order: VecDeque<BlobId>,
    key_bytes: u64,
}

impl Recent {
    /// A chunk of a blob is written.
    pub(super) fn note(&mut self, blob: BlobId, owner: &Target) {
        if self.owners.contains_key(&blob) {
            return;
        }
        while self.owners.len() >= BLOBS_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            self.remove(oldest);
        }
        self.key_bytes += owner.key.as_str().len() as u64;
        self.owners.insert(blob, owner.clone());
        self.order.push_back(blob);
    }

    /// Take out those of certain sessions.
    pub(super) fn take(&mut self, is_over: impl Fn(SessionId) -> bool) -> Vec<OwnedBlob> {
        let over: Vec<BlobId> =
            self.owners.keys().filter(|blob| is_over(blob.session)).copied().collect();
        let taken = over.into_iter().filter_map(|blob| {
            let owner = self.remove(blob)?;
            Some(OwnedBlob { blob, owner })
        });
        let taken = taken.collect();
        self.order.retain(|blob| self.owners.contains_key(blob));
        taken
    }

    /// Nothing is left of a blob.
    pub(super) fn forget(&mut self, blob: BlobId) {
        if self.remove(blob).is_some() {
            self.order.retain(|other| *other != blob);
        }
    }

    fn remove(&mut self, blob: BlobId) -> Option<Target> {
        let owner = self.owners.remove(&blob)?;
        self.key_bytes -= owner.key.as_str().len() as u64;
        Some(owner)
    }

    /// Bytes in memory, and how many there may be.
    pub(super) fn memory(&self) -> (u64, u64) {
        let most = BLOBS_MAX as u64 * (BYTES_EACH + KEY_BYTES_MAX as u64);
        (self.owners.len() as u64 * BYTES_EACH + self.key_bytes, most)
    }

    pub(super) fn check(&self) {
        assert!(self.owners.len() <= BLOBS_MAX);
        assert_eq!(self.owners.len(), self.order.len());
        let bytes = self.owners.values().map(|owner| owner.key.as_str().len() as u64);
        assert_eq!(self.key_bytes, bytes.sum::<u64>());
    }
}
