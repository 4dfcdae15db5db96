//! Edits, headers of segments and chunks, blocks of the tree: what one of `trine_core::fuzzing::STORAGE` reads.
//!
//! Input: which of them (1 byte), and the bytes. Sealed formats are filled up with zeros to their length,
//! and get the right checksum, unless the first byte's highest bit is set.

use bytes::Bytes;
use trine_core::fuzzing::{PLACE, STORAGE, seed};
use trine_core::hash::Checksum;

use super::image::{self, Kind};

const BLOCK_BYTES: usize = 4096;

pub(crate) fn run(input: &[u8]) -> bool {
    let Some((door, bytes)) = input.split_first() else { return false };
    let (name, reads) = STORAGE[usize::from(*door & 0x7f) % STORAGE.len()];
    let mut bytes = bytes.to_vec();
    if *door & 0x80 == 0 {
        seal(name, &mut bytes);
    }
    reads(&Bytes::from(bytes))
}

/// As the documents say.
fn seal(name: &str, bytes: &mut Vec<u8>) {
    let Some(seed) = seed(name) else { return };
    let (unit, sum_at) = match name {
        "segment header" => (BLOCK_BYTES, 4088),
        "chunk header" => (BLOCK_BYTES, 88),
        "value piece" => (1, 16),
        _ => (BLOCK_BYTES, 16),
    };
    let len = match name {
        "chunk header" | "value piece" => bytes.len().max(24).next_multiple_of(unit),
        _ => unit,
    };
    bytes.resize(len, 0);
    if name != "value piece" && name != "segment header" && name != "chunk header" {
        // Block and run: not worth a fuzzer's time to find.
        bytes[4..8].copy_from_slice(&2_u32.to_le_bytes());
        bytes[8..16].copy_from_slice(&PLACE.generation.to_le_bytes());
    }
    let sum = match name {
        "segment header" => Checksum::of(seed, &bytes[..sum_at]),
        "value piece" => Checksum::of(seed, &bytes[24..]),
        "chunk header" => {
            // The checksum covers as many sectors as the header says that it has.
            let said = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes"));
            let end = usize::try_from(said).unwrap_or(usize::MAX).clamp(96, bytes.len());
            Checksum::of_parts(seed, [&bytes[..88], &bytes[96..end]])
        }
        _ => Checksum::of_parts(seed, [&bytes[..16], &bytes[24..]]),
    };
    bytes[sum_at..sum_at + 8].copy_from_slice(&sum.0.to_le_bytes());
}

/// What a store has written, moved to the place that the doors know.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let door = |wanted: &str| {
        let nth = STORAGE.iter().position(|(name, _)| *name == wanted).expect("a door");
        u8::try_from(nth).expect("few doors")
    };
    let mut seeds: Vec<Vec<u8>> =
        image::edits().iter().map(|edit| [&[door("edit")], &edit[..]].concat()).collect();
    for (kind, bytes) in image::sealed_samples() {
        let (name, generation_at) = match kind {
            Kind::SegmentHeader => ("segment header", None),
            Kind::ChunkHeader => ("chunk header", Some(16)),
            Kind::Block => match bytes[1] {
                0 => ("data block", None),
                1 => ("index block", None),
                _ => ("filter block", None),
            },
            Kind::Piece => ("value piece", Some(8)),
            Kind::Superblock | Kind::Frame => continue,
        };
        let mut bytes = bytes;
        if kind == Kind::SegmentHeader {
            bytes[4..8].copy_from_slice(&PLACE.segment.to_le_bytes());
        }
        if let Some(at) = generation_at {
            bytes[at..at + 8].copy_from_slice(&PLACE.generation.to_le_bytes());
        }
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // The checksum at the end of a segment header is made anew.
        let used = if kind == Kind::SegmentHeader { used.min(64) } else { used };
        seeds.push([&[door(name)], &bytes[..used]].concat());
    }
    seeds
}
