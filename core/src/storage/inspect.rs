//! Storage that is only looked at.

use super::shelf::Shelf;
use super::{Phase, Storage};
use crate::cluster::StoreConfig;

impl Storage {
    /// Storage that recovers as any other, and then begins nothing by itself. What it writes for that is
    /// to go nowhere.
    pub(crate) fn offline(config: &StoreConfig) -> Self {
        let mut storage = Self::new(config);
        storage.shelf_config.offline = true;
        storage
    }

    /// Whether all that the superblock is to say is durable in all its copies.
    pub(crate) fn is_superblock_durable(&self) -> bool {
        matches!(&self.phase, Phase::Open(parts)
            if parts.journal.superblock_durable() >= parts.journal.superblock().sequence)
    }

    /// What is on the disk beside superblock and journal; `None` unless it is open.
    pub(crate) fn shelf(&self) -> Option<&Shelf> {
        match &self.phase {
            Phase::Open(parts) => Some(&parts.shelf),
            _ => None,
        }
    }
}
