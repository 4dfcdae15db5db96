//! Messages and effects, as a trace tells them.

use trine_core::disk::DiskOp;
use trine_core::message::{Message, SnapshotGiven, SnapshotWant};
use trine_core::object::ObjectKey;

/// A number that differs between most different messages, for the trace's hash.
pub(super) fn weight(message: &Message) -> u64 {
    match message {
        Message::Hello(hello) => hello.life.incarnation.0 << 8,
        Message::Consensus { messages, wall } => (messages.len() as u64) << 48 ^ wall.as_millis(),
        Message::RangeCall(call) => call.call.0 << 8 | 1,
        Message::RangeAnswer(answer) => answer.call.0 << 8 | 2,
        Message::ChunkWrite(write) => write.call.0 << 24 ^ write.data.len() as u64,
        Message::ChunkWritten(written) => written.call.0 << 8 | 3,
        Message::ChunkRead(read) => read.call.0 << 8 | 4,
        Message::ChunkData(data) => data.call.0 << 8 | 5,
        Message::SnapshotAsk(ask) => match &ask.want {
            SnapshotWant::State { at_least } => at_least.0 << 8 | 20,
            SnapshotWant::Pages { page, from, .. } => page << 16 ^ from.len() as u64,
            SnapshotWant::Nothing { snapshot } => snapshot.number << 8 | 21,
        },
        Message::SnapshotPage(page) => match &page.given {
            SnapshotGiven::State { index, .. } => index.0 << 8 | 22,
            SnapshotGiven::Rows { page, rows, .. } => page << 24 ^ rows.len() as u64,
            SnapshotGiven::Gone { snapshot } => snapshot.number << 8 | 23,
        },
        Message::DirectoryAsk { have } => have.0 << 8 | 11,
        Message::DirectoryAnswer(directory) => {
            directory.as_ref().map_or(0, |directory| directory.version.0) << 8 | 12
        }
        Message::ChunkPull(ask) => ask.call.0 << 8 | 13,
        Message::ChunkPulled(pulled) => pulled.call.0 << 8 | 14,
        Message::ChunkRepair(repair) => repair.call.0 << 8 | 15,
        Message::ChunkCheck(ask) => ask.call.0 << 8 | 16,
        Message::ChunkChecked(checked) => checked.call.0 << 8 | 17,
        Message::InventoryAsk(ask) => ask.call.0 << 8 | 18,
        Message::InventoryAnswer(answer) => answer.call.0 << 8 | 19,
        Message::BlobAsk(ask) => ask.call.0 << 8 | 24,
        Message::BlobAnswer(answer) => answer.call.0 << 8 | 25,
        Message::BlobFree(free) => free.call.0 << 8 | 26,
        Message::BlobFreed(freed) => freed.call.0 << 8 | 27,
        Message::BlobsLeft(blobs) => (blobs.len() as u64) << 8 | 28,
        Message::MapProven { epoch } => epoch.0 << 8 | 29,
        Message::Ping(pulse) => pulse.sent.as_nanos() << 8 | 6,
        Message::Pong(pulse) => pulse.sent.as_nanos() << 8 | 7,
    }
}

/// A message in a line; bulk bytes are left out by their own `Debug`. What is too long is cut; those of `keys` that
/// stand in the rest are named.
pub(super) fn summary(message: &Message, keys: &[ObjectKey]) -> String {
    cut(format!("{message:?}"), keys)
}

fn cut(mut text: String, keys: &[ObjectKey]) -> String {
    if text.len() > 300 {
        let end = (0..=300).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        let named: Vec<_> = keys
            .iter()
            .map(ObjectKey::to_string)
            .filter(|key| names(&text, key, end) && !names(&text[..end], key, 0))
            .collect();
        text.truncate(end);
        text.push('…');
        if !named.is_empty() {
            text.push_str(" about ");
            text.push_str(&named.join(", "));
        }
    }
    text
}

/// Whether a key stands in a text, as a whole and so that it ends behind `from`. Keys also stand in bytes, as commands of a log.
fn names(text: &str, key: &str, from: usize) -> bool {
    text.match_indices(key).any(|(at, _)| {
        let end = at + key.len();
        end > from && !text[end..].starts_with(|next: char| next.is_ascii_digit())
    })
}

/// An effect on a disk in a few words.
pub(super) fn describe(op: &DiskOp) -> String {
    match op {
        DiskOp::Write { offset, parts } => {
            let len: usize = parts.iter().map(bytes::Bytes::len).sum();
            format!("write {len} at {offset}")
        }
        DiskOp::Read { offset, len } => format!("read {len} at {offset}"),
        DiskOp::Trim { offset, len } => format!("trim {len} at {offset}"),
        DiskOp::Sync => "sync".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_still_names_its_keys() {
        let keys =
            ["hot-1", "hot-10", "ü/key-2", "early"].map(|key| ObjectKey::parse(key).unwrap());
        let text = |rest: &str| format!("early{}{rest}", "x".repeat(293));
        assert_eq!(cut(text(""), &keys), text(""));
        assert_eq!(
            cut(text("x hot-10, early, ü/key-2"), &keys),
            format!("{} about hot-10, ü/key-2", text("x …"))
        );
        // One that is cut in two counts.
        assert_eq!(cut(text("hot-1 y"), &keys), format!("{} about hot-1", text("ho…")));
        assert_eq!(cut(text("abcdef"), &keys), text("ab…"));
    }
}
