//! Which of a link's two connections a message takes.

use trine_core::message::Message;

/// One of the two connections of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Consensus, calls on ranges and their answers: small, and urgent.
    Control,
    /// Bytes of chunks: they may fill their connection, and only that one.
    Bulk,
}

impl Class {
    /// For logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Bulk => "bulk",
        }
    }
}

/// The connection that a message takes. A message that carries bytes of objects apart from the log
/// is bulk; all others, and above all what consensus says, are control.
pub(crate) fn class_of(message: &Message) -> Class {
    match message {
        Message::ChunkWrite(_)
        | Message::ChunkData(_)
        | Message::ChunkPulled(_)
        | Message::InventoryAnswer(_)
        | Message::SnapshotPage(_)
        // Behind the chunks that it is about.
        | Message::BlobsLeft(_) => Class::Bulk,
        Message::Hello(_)
        | Message::Consensus { .. }
        | Message::RangeCall(_)
        | Message::RangeAnswer(_)
        | Message::ChunkWritten(_)
        | Message::ChunkRead(_)
        | Message::DirectoryAsk { .. }
        | Message::DirectoryAnswer(_)
        | Message::ChunkPull(_)
        | Message::ChunkRepair(_)
        | Message::ChunkCheck(_)
        | Message::ChunkChecked(_)
        | Message::InventoryAsk(_)
        | Message::MapProven { .. }
        | Message::SnapshotAsk(_)
        | Message::BlobAsk(_)
        | Message::BlobAnswer(_)
        | Message::BlobFree(_)
        | Message::BlobFreed(_)
        | Message::Ping(_)
        | Message::Pong(_) => Class::Control,
    }
}

/// The name of a message's kind, for counters.
pub(crate) fn name_of(message: &Message) -> &'static str {
    match message {
        Message::Hello(_) => "Hello",
        Message::Consensus { .. } => "Consensus",
        Message::RangeCall(_) => "RangeCall",
        Message::RangeAnswer(_) => "RangeAnswer",
        Message::ChunkWrite(_) => "ChunkWrite",
        Message::ChunkWritten(_) => "ChunkWritten",
        Message::ChunkRead(_) => "ChunkRead",
        Message::ChunkData(_) => "ChunkData",
        Message::DirectoryAsk { .. } => "DirectoryAsk",
        Message::DirectoryAnswer(_) => "DirectoryAnswer",
        Message::ChunkPull(_) => "ChunkPull",
        Message::ChunkPulled(_) => "ChunkPulled",
        Message::ChunkRepair(_) => "ChunkRepair",
        Message::ChunkCheck(_) => "ChunkCheck",
        Message::ChunkChecked(_) => "ChunkChecked",
        Message::InventoryAsk(_) => "InventoryAsk",
        Message::InventoryAnswer(_) => "InventoryAnswer",
        Message::MapProven { .. } => "MapProven",
        Message::SnapshotAsk(_) => "SnapshotAsk",
        Message::SnapshotPage(_) => "SnapshotPage",
        Message::BlobAsk(_) => "BlobAsk",
        Message::BlobAnswer(_) => "BlobAnswer",
        Message::BlobFree(_) => "BlobFree",
        Message::BlobFreed(_) => "BlobFreed",
        Message::BlobsLeft(_) => "BlobsLeft",
        Message::Ping(_) => "Ping",
        Message::Pong(_) => "Pong",
    }
}
