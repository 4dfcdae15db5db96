//! One frame of the journal: its records' CRCs and its checksum made right.
//!
//! Input: a byte whose lowest bits say what is not made right; differences (xor) of the header's fields from a
//! valid one (80 bytes); the records.

use bytes::Bytes;
use trine_core::hash::Checksum;
use trine_core::storage::journal::{
    self, FrameHeader, Identity, RECORD_HEADER_BYTES, frame_field, frame_len, record_field,
};

use super::image;
use super::input::Input;
use super::solo::{CLUSTER, STORE};

const IDENTITY: Identity = Identity { cluster: CLUSTER, store: STORE };
const POSITION: u64 = 0x9000;
const NO_CRCS: u8 = 1;
const NO_CHECKSUM: u8 = 2;
const NO_COUNT: u8 = 4;

pub(crate) fn run(input: &[u8]) -> bool {
    let mut input = Input::new(input);
    let flags = input.u8();
    let differences = input.bytes(frame_field::END);
    let records = input.rest();
    let mut bytes = empty();
    bytes.extend_from_slice(records);
    bytes.resize(frame_len(records.len()), 0);
    let len = u32::try_from(bytes.len()).expect("inputs are small");
    bytes[frame_field::LENGTH..][..4].copy_from_slice(&len.to_le_bytes());
    for (byte, difference) in bytes.iter_mut().zip(differences) {
        *byte ^= difference;
    }
    let count = if flags & NO_CRCS == 0 { seal_records(&mut bytes, POSITION) } else { 0 };
    if flags & NO_COUNT == 0 {
        bytes[frame_field::RECORDS..][..4].copy_from_slice(&count.to_le_bytes());
    }
    if flags & NO_CHECKSUM == 0 {
        seal_frame(&mut bytes, POSITION);
    }
    let bytes = Bytes::from(bytes);
    let Ok(header) = FrameHeader::decode(IDENTITY, POSITION, &bytes) else { return false };
    let frame = bytes.slice(..header.len as usize);
    let Ok(found) = header.records(STORE, &frame) else { return false };
    assert_eq!(found.len(), header.records as usize);
    let end = found.last().map_or(POSITION, |(_, location)| location.end());
    assert!(end <= header.end(), "records lie within their frame");
    // One frame has one encoding, but for how many zeros are behind its records.
    let records: Vec<_> = found.into_iter().map(|(record, _)| record).collect();
    let again = journal::encode(IDENTITY, header, &records);
    if again.header.len == header.len {
        assert_eq!(again.parts.concat(), frame);
    }
    true
}

/// The header of a frame without records.
fn empty() -> Vec<u8> {
    let header = FrameHeader {
        position: POSITION,
        len: 0,
        records: 0,
        previous: Checksum(0x3333),
        recovery: 4,
        recovery_start: 0x5000,
        synced: 0x6000,
        checksum: Checksum(0),
    };
    let mut bytes = journal::encode(IDENTITY, header, &[]).parts.concat();
    bytes.truncate(frame_field::END);
    bytes
}

/// Give each record that has a place its CRC. How many there are.
pub(crate) fn seal_records(frame: &mut [u8], position: u64) -> u32 {
    let (mut at, mut count) = (frame_field::END, 0);
    while let Some(header) = frame.get(at..at + RECORD_HEADER_BYTES) {
        let len = &header[record_field::PAYLOAD..][..4];
        let len = u32::from_le_bytes(len.try_into().expect("four bytes"));
        let end = at + RECORD_HEADER_BYTES + usize::try_from(len).expect("of 32 bits");
        if header.iter().all(|byte| *byte == 0) || end > frame.len() {
            break;
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&STORE.0.to_le_bytes());
        crc.update(&position.wrapping_add(at as u64).to_le_bytes());
        crc.update(&frame[at..at + record_field::CRC]);
        crc.update(&frame[at + record_field::RANGE..end]);
        let crc = crc.finalize().to_le_bytes();
        frame[at + record_field::CRC..][..4].copy_from_slice(&crc);
        (at, count) = (end, count + 1);
    }
    count
}

/// Give a frame that stands at `position` its checksum, over as many bytes as it says that it has. The
/// checksum.
pub(crate) fn seal_frame(bytes: &mut [u8], position: u64) -> u64 {
    let mut identity = CLUSTER.0.to_le_bytes().to_vec();
    identity.extend(STORE.0.to_le_bytes());
    identity.extend(position.to_le_bytes());
    let len = &bytes[frame_field::LENGTH..][..4];
    let len = u32::from_le_bytes(len.try_into().expect("four bytes"));
    let len = usize::try_from(len).unwrap_or(usize::MAX).clamp(frame_field::END, bytes.len());
    let parts = [&bytes[..frame_field::CHECKSUM], &bytes[frame_field::STORE..len]];
    let sum = Checksum::of_parts(Checksum::of(0, &identity).0, parts).0;
    bytes[frame_field::CHECKSUM..][..8].copy_from_slice(&sum.to_le_bytes());
    sum
}

/// Records of a store's journal, a frame each.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    image::frames_of_records()
        .into_iter()
        .map(|records| [&[0; 1 + frame_field::END], &records[..]].concat())
        .collect()
}
