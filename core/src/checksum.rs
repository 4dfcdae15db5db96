//! S3's additional checksums of objects that are made of parts, from the checksums of the parts.
//!
//! Nothing is read again: a CRC of all bytes is combined from those of the parts, and a composite
//! checksum is that of the parts' checksums. Checksums of bytes are computed at the edge.
//! Source: Amazon S3, "Checking object integrity".

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::object::{ChecksumAlgorithm, ObjectChecksum, PartRecord};

/// The checksum of an object from those of its parts, each with the part's length in bytes: of all
/// bytes if `full_object`, which only CRCs can tell (else `None`), or else of the parts' checksums.
pub fn combine(
    algorithm: ChecksumAlgorithm,
    full_object: bool,
    parts: &[(u64, &[u8])],
) -> Option<Bytes> {
    if !full_object {
        let values: Vec<u8> = parts.iter().flat_map(|(_, value)| value.iter().copied()).collect();
        return Some(of_bytes(algorithm, &values));
    }
    let (kind, width) = crc(algorithm)?;
    let mut combined = 0;
    for (at, (length, value)) in parts.iter().enumerate() {
        let crc = value.iter().fold(0, |crc: u64, byte| crc << 8 | u64::from(*byte));
        combined = match at {
            0 => crc,
            _ => crc_fast::checksum_combine(kind, combined, crc, *length),
        };
    }
    Some(Bytes::copy_from_slice(&combined.to_be_bytes()[8 - width..]))
}

/// The checksum of the object that these parts make; `None` if one of them lacks it.
pub fn of_parts(
    (algorithm, full_object): (ChecksumAlgorithm, bool),
    parts: &[&PartRecord],
) -> Option<ObjectChecksum> {
    let values: Option<Vec<(u64, &[u8])>> = parts
        .iter()
        .map(|part| {
            let checksum = part.checksum.as_ref().filter(|it| it.algorithm == algorithm)?;
            Some((part.length, checksum.value.as_ref()))
        })
        .collect();
    let value = combine(algorithm, full_object, &values?)?;
    Some(ObjectChecksum { algorithm, full_object, value })
}

fn of_bytes(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Bytes {
    match (algorithm, crc(algorithm)) {
        (_, Some((kind, width))) => {
            let crc = crc_fast::checksum(kind, bytes).to_be_bytes();
            Bytes::copy_from_slice(&crc[8 - width..])
        }
        (ChecksumAlgorithm::Sha1, _) => Bytes::copy_from_slice(&Sha1::digest(bytes)),
        (_, None) => Bytes::copy_from_slice(&Sha256::digest(bytes)),
    }
}

/// The CRC of an algorithm, and its width in bytes; `None` if it is none.
fn crc(algorithm: ChecksumAlgorithm) -> Option<(CrcAlgorithm, usize)> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Some((CrcAlgorithm::Crc32IsoHdlc, 4)),
        ChecksumAlgorithm::Crc32c => Some((CrcAlgorithm::Crc32Iscsi, 4)),
        ChecksumAlgorithm::Crc64Nvme => Some((CrcAlgorithm::Crc64Nvme, 8)),
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_of_every_algorithm() {
        // The check values of "123456789" (CRC catalogue; FIPS 180-4), as a composite of one part.
        for (algorithm, value) in [
            (ChecksumAlgorithm::Crc32, "cbf43926"),
            (ChecksumAlgorithm::Crc32c, "e3069283"),
            (ChecksumAlgorithm::Crc64Nvme, "ae8b14860a799888"),
            (ChecksumAlgorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (
                ChecksumAlgorithm::Sha256,
                "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            ),
        ] {
            let sum = combine(algorithm, false, &[(1, b"1234"), (7, b"56789")]).unwrap();
            let text: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text, value, "{algorithm:?}");
        }
    }

    #[test]
    fn crcs_of_parts_combine_to_that_of_the_whole() {
        let whole: Vec<u8> = (0..100_003_u32).flat_map(u32::to_le_bytes).collect();
        for algorithm in
            [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme]
        {
            for cuts in [vec![4], vec![0, 4], vec![1, 65_536, 65_536, 400_000], vec![]] {
                let mut from = 0;
                let mut sums = Vec::new();
                for to in cuts.iter().copied().chain([whole.len()]) {
                    sums.push(((to - from) as u64, of_bytes(algorithm, &whole[from..to])));
                    from = to;
                }
                let parts: Vec<(u64, &[u8])> = sums.iter().map(|(n, it)| (*n, &it[..])).collect();
                let combined = combine(algorithm, true, &parts);
                assert_eq!(combined, Some(of_bytes(algorithm, &whole)), "{algorithm:?} {cuts:?}");
            }
        }
        assert_eq!(combine(ChecksumAlgorithm::Sha1, true, &[(1, &[0; 20])]), None);
    }
}
