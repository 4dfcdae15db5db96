//! Rows, commands and the parts of messages: what one of `trine_core::fuzzing::RECORDS` reads.
//!
//! Input: which of them (1 byte), and the bytes.

use bytes::Bytes;
use trine_core::fuzzing::RECORDS;

use super::image;

pub(crate) fn run(input: &[u8]) -> bool {
    let Some((door, bytes)) = input.split_first() else { return false };
    let (_, reads) = RECORDS[usize::from(*door) % RECORDS.len()];
    reads(&Bytes::copy_from_slice(bytes))
}

/// The examples of the document, and what stores have said to each other, as everything that they can be
/// read as.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let document = include_str!("../../../../docs/metadata-format.md");
    let hex = |line: &str| -> Option<Vec<u8>> {
        line.split(' ').map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
    };
    let mut samples: Vec<Vec<u8>> = document.lines().filter_map(hex).collect();
    samples.extend(image::inner_values());
    let mut seeds = Vec::new();
    for (nth, (_, reads)) in RECORDS.iter().enumerate() {
        let mut understood: Vec<&Vec<u8>> =
            samples.iter().filter(|sample| reads(&Bytes::copy_from_slice(sample))).collect();
        understood.sort_by_key(|sample| sample.len());
        let door = u8::try_from(nth).expect("few doors");
        seeds.extend(understood.iter().take(12).map(|sample| [&[door], &sample[..]].concat()));
    }
    seeds
}
