//! The copies of a superblock, with checksums made right, and what they are taken for together.
//!
//! Input: a byte whose bits say which copies are not sealed and whether the journal is blank; the 200 bytes of
//! fields of each of four copies, as differences (xor) from a valid one.

use bytes::Bytes;
use trine_core::hash::Checksum;
use trine_core::ids::ZoneId;
use trine_core::storage::layout::{SEGMENTS_MAX, SUPERBLOCK_COPIES};
use trine_core::storage::superblock::{self, Found, Superblock, field};

use super::input::Input;
use super::solo::{CLUSTER, GEOMETRY, STORE};

pub(crate) fn run(input: &[u8]) -> bool {
    let mut input = Input::new(input);
    let flags = input.u8();
    let valid = Superblock::format(CLUSTER, STORE, ZoneId(0), GEOMETRY).expect("it is sound");
    let mut passed = false;
    let copies = core::array::from_fn(|copy| {
        let mut bytes = valid.encode(copy).to_vec();
        for (byte, difference) in bytes.iter_mut().zip(input.bytes(field::END)) {
            *byte ^= difference;
        }
        if flags & (1 << copy) == 0 {
            seal(copy, &mut bytes);
        }
        let bytes = Bytes::from(bytes);
        let decoded = Superblock::decode(copy, &bytes);
        if let Ok(superblock) = &decoded {
            passed = true;
            let again = superblock.encode(copy);
            assert_eq!(Superblock::decode(copy, &again).as_ref(), Ok(superblock));
            let segments = trine_core::fuzzing::segments(&superblock.geometry);
            assert!(u64::from(segments) <= SEGMENTS_MAX);
        }
        decoded
    });
    let newest = copies.iter().flatten().map(|copy| copy.sequence).max();
    let chosen = superblock::choose(copies, flags & 0x80 != 0, CLUSTER, STORE);
    match &chosen {
        Ok(Found::Valid { superblock, .. }) => {
            assert_eq!((superblock.cluster, superblock.store), (CLUSTER, STORE));
            assert_eq!(Some(superblock.sequence), newest);
        }
        Ok(Found::Empty) => panic!("none of the copies was blank"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert_eq!(copies.len(), SUPERBLOCK_COPIES);
    passed
}

fn seal(copy: usize, bytes: &mut [u8]) {
    let parts = [&bytes[..field::CHECKSUM], &bytes[field::CLUSTER..]];
    let sum = Checksum::of_parts(copy as u64, parts);
    bytes[field::CHECKSUM..field::CLUSTER].copy_from_slice(&sum.0.to_le_bytes());
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut later = vec![0; 1 + 4 * field::END];
    for (copy, sequence) in [(0, 9), (1, 7), (3, 9)] {
        later[1 + copy * field::END + field::SEQUENCE] = sequence;
    }
    vec![vec![0], vec![0x85], vec![0x0f], later]
}
