//! Which keys a run has: a Bloom filter (Bloom, 1970) of ten bits for each row.
//!
//! It knows keys by their families ([`family`]), so that it also answers a search for an object whose
//! versions are not known.
//!
//! All seven probes come from one 64-bit hash of the key (Kirsch and Mitzenmacher, "Less hashing,
//! same performance", 2006), so that a read hashes its key once for all runs. About one key in 120
//! that a run does not have passes, and fewer where rows share families. Byte table: `docs/disk-format-tree.md`.

use bytes::Bytes;

use crate::hash::Checksum;
use crate::rows::family;

use super::super::segment::layout::Layout;
use super::block::BLOCK_HEADER_BYTES;

const BITS_PER_KEY: u64 = 10;
const PROBES: u32 = 7;
/// Keys of a run that still gets a filter, which is in memory: 40 MiB. A run with more is read without.
const KEYS_MAX: u64 = 32 << 20;

/// What a filter knows a key by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    /// The hash of the family of `key`.
    pub(crate) fn of(key: &[u8]) -> Self {
        Self(Checksum::of(0, family(key).unwrap_or(key)).0)
    }

    /// A hash as it is.
    #[cfg(test)]
    pub(super) fn from_hash(hash: u64) -> Self {
        Self(hash)
    }

    /// The hash of the one family that all keys from `from` on and before `end` belong to, if that
    /// can be seen.
    pub(crate) fn of_span(from: &[u8], end: &[u8]) -> Option<Self> {
        let family = family(from).filter(|family| end.starts_with(family))?;
        Some(Self(Checksum::of(0, family).0))
    }
}

/// A set of keys that may answer "perhaps" for one that it does not have.
#[derive(Debug)]
pub(crate) struct Filter {
    bits: Vec<u8>,
}

impl Filter {
    /// An empty filter for so many keys at most, in whole blocks; `None` if they are too many.
    pub(crate) fn for_keys(keys: u64, layout: &Layout) -> Option<Self> {
        if keys > KEYS_MAX {
            return None;
        }
        let payload = layout.tree_block - BLOCK_HEADER_BYTES as u64;
        let bytes = (keys * BITS_PER_KEY).div_ceil(8).max(1).next_multiple_of(payload);
        Some(Self { bits: vec![0; usize::try_from(bytes).expect("a filter is small")] })
    }

    /// From the contents of its blocks, in order; `None` if there are none.
    pub(crate) fn from_payloads(payloads: &[Bytes]) -> Option<Self> {
        (!payloads.is_empty()).then(|| Self { bits: payloads.concat() })
    }

    /// Take a key.
    pub(crate) fn insert(&mut self, key: KeyHash) {
        for bit in probes(key, self.bits.len()) {
            self.bits[bit / 8] |= 1 << (bit % 8);
        }
    }

    /// Whether the key may be there; "no" is certain.
    pub(crate) fn may_have(&self, key: KeyHash) -> bool {
        if planted!(BloomFalseNegative) && key.0 % 64 == 3 {
            return false;
        }
        probes(key, self.bits.len()).all(|bit| self.bits[bit / 8] & 1 << (bit % 8) != 0)
    }

    /// Its bytes, as blocks hold them.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bits
    }
}

/// Which bits stand for a key: the product of a 64-bit number and the number of bits, its upper half.
fn probes(key: KeyHash, bytes: usize) -> impl Iterator<Item = usize> {
    let bits = bytes as u128 * 8;
    let step = key.0.rotate_left(32) | 1;
    (0..PROBES).map(move |probe| {
        let at = key.0.wrapping_add(step.wrapping_mul(probe.into()));
        usize::try_from((u128::from(at) * bits) >> 64).expect("a place among the bits")
    })
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "numbers in tests are small")]
mod tests {
    use super::super::super::segment::format_tests::layout;
    use super::*;

    fn key(n: u64) -> KeyHash {
        KeyHash::of(format!("bucket/photos/2024/{n:09}.jpg").as_bytes())
    }

    #[test]
    fn every_key_that_is_there_passes_and_one_in_a_hundred_that_is_not() {
        for keys in [3_000, 40_000, 200_000] {
            let mut filter = Filter::for_keys(keys, &layout()).expect("few keys");
            (0..keys).for_each(|n| filter.insert(key(n)));
            assert!((0..keys).all(|n| filter.may_have(key(n))));
            let tried = 200_000;
            let passed = (keys..keys + tried).filter(|n| filter.may_have(key(*n))).count();
            let rate = passed as f64 / tried as f64;
            assert!(rate < 0.0105, "{keys} keys: {rate}");
        }
    }

    #[test]
    fn too_many_keys_get_no_filter() {
        assert!(Filter::for_keys(KEYS_MAX + 1, &layout()).is_none());
    }
}
