//! What is in the objects: bytes that follow from the seed and the object's number alone, ready to
//! be sent without making or hashing them again.
//!
//! A pool of random bytes is made once. A body is the pool, read round and round from one of a few
//! places, with its own number as the last 16 bytes: no two objects are equal, and all but the last
//! 16 bytes of a body are hashed once for each place and size.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use trine_core::rng::Rng;

/// Larger than caches of CPUs, so that sending reads memory as it would elsewhere.
pub(crate) const POOL_BYTES: usize = 64 << 20;
/// Bytes at the end of a body that are its own.
const STAMP_BYTES: usize = 16;
/// How many different bodies a size has, before their stamps, unless that is too much to hash.
const VARIANTS_MAX: u64 = 64;
/// What may be hashed for one size before it begins.
const HASHED_BYTES_MAX: u64 = 128 << 20;
/// Prefixes whose hashes are kept: 8 MiB of memory.
const PREFIXES_MAX: usize = 1 << 16;

/// The bytes of all objects.
pub(crate) struct Content {
    seed: u64,
    pool: Bytes,
    hashed: Mutex<HashMap<(usize, u64), Arc<Hashed>>>,
}

/// A body, or a part of one.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pool: Bytes,
    /// Where in the pool it begins.
    start: usize,
    len: u64,
    stamp: [u8; STAMP_BYTES],
}

/// The state of a body's hashes where its stamp begins.
#[derive(Clone)]
pub(crate) struct Hashed {
    sha256: Sha256,
    crc32: crc32fast::Hasher,
}

impl Content {
    /// Content that follows from `seed`, from a pool of `pool_bytes` (at least 8).
    pub(crate) fn new(seed: u64, pool_bytes: usize) -> Self {
        let mut rng = Rng::new(seed);
        let words = pool_bytes.div_ceil(8).max(1);
        let mut pool = Vec::with_capacity(8 * words);
        for _ in 0..words {
            pool.extend_from_slice(&rng.next_u64().to_le_bytes());
        }
        Self { seed, pool: pool.into(), hashed: Mutex::default() }
    }

    /// The body of an object: one of `sizes`, by its number.
    pub(crate) fn object(&self, sizes: &[u64], number: u64) -> Body {
        let mut rng = Rng::new(self.seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let chosen = rng.below(sizes.len().max(1) as u64);
        let len = usize::try_from(chosen).ok().and_then(|chosen| sizes.get(chosen));
        let len = len.copied().unwrap_or_default();
        self.body(rng.below(variants(len)), 0, len, number)
    }

    /// A part of an object that is uploaded in parts: `len` bytes at `offset` in it.
    pub(crate) fn part(&self, number: u64, offset: u64, len: u64) -> Body {
        // All objects begin at the same place: hashes of parts are kept too.
        self.body(0, offset, len, number ^ offset.rotate_left(24))
    }

    fn body(&self, variant: u64, offset: u64, len: u64, whose: u64) -> Body {
        let pool = self.pool.len() as u64;
        // An odd step, so that no two variants are alike block for block.
        let step = (pool / VARIANTS_MAX) | 1;
        let start = (variant * step).wrapping_add(offset) % pool;
        let start = usize::try_from(start).expect("a place in the pool");
        // Another state, another output: the first half alone tells objects apart.
        let mut rng = Rng::new(Rng::new(self.seed).next_u64() ^ whose);
        let mut stamp = [0; STAMP_BYTES];
        for half in stamp.chunks_exact_mut(8) {
            half.copy_from_slice(&rng.next_u64().to_le_bytes());
        }
        Body { pool: self.pool.clone(), start, len, stamp }
    }

    /// Hash what all objects of these sizes have in common, before it is measured.
    pub(crate) fn hash_ahead(&self, sizes: &[u64]) {
        for len in sizes {
            for variant in 0..variants(*len) {
                self.hashed(&self.body(variant, 0, *len, 0));
            }
        }
    }

    /// The same for the parts of uploads of `len` bytes, as far as it is not too much.
    pub(crate) fn hash_parts_ahead(&self, len: u64, part_len: u64) {
        let mut offset = 0;
        while offset < len.min(HASHED_BYTES_MAX) && part_len > 0 {
            self.hashed(&self.part(0, offset, part_len.min(len - offset)));
            offset += part_len;
        }
    }

    /// SHA-256 and CRC-32 of a body.
    pub(crate) fn digests(&self, body: &Body) -> ([u8; 32], u32) {
        let Hashed { mut sha256, mut crc32 } = Hashed::clone(&self.hashed(body));
        let stamp = body.stamp();
        sha256.update(stamp);
        crc32.update(stamp);
        (sha256.finalize().into(), crc32.finalize())
    }

    fn hashed(&self, body: &Body) -> Arc<Hashed> {
        let place = (body.start, body.len);
        let known = |it: &mut HashMap<_, Arc<Hashed>>| it.get(&place).cloned();
        // A poisoned lock would be a panic elsewhere, which has been told.
        let lock = || self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hashed) = known(&mut lock()) {
            return hashed;
        }
        let mut hashed = Hashed { sha256: Sha256::new(), crc32: crc32fast::Hasher::new() };
        let mut at = 0;
        while at < body.unstamped() {
            let piece = body.piece(at, 1 << 20);
            let left = usize::try_from(body.unstamped() - at).unwrap_or(usize::MAX);
            let piece = &piece[..piece.len().min(left)];
            hashed.sha256.update(piece);
            hashed.crc32.update(piece);
            at += piece.len() as u64;
        }
        let hashed = Arc::new(hashed);
        let mut known = lock();
        if known.len() < PREFIXES_MAX {
            known.insert(place, Arc::clone(&hashed));
        }
        hashed
    }
}

/// How many different bodies objects of a size have.
fn variants(len: u64) -> u64 {
    (HASHED_BYTES_MAX / len.max(1)).clamp(1, VARIANTS_MAX)
}

impl Body {
    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes at `at`: at least one and at most `max`, unless the end is there.
    pub(crate) fn piece(&self, at: u64, max: usize) -> Bytes {
        if at >= self.unstamped() {
            let begun = usize::try_from(at - self.unstamped()).unwrap_or(usize::MAX);
            let stamp = self.stamp().get(begun..).unwrap_or_default();
            // 16 bytes; the rest of a body is never copied.
            return Bytes::copy_from_slice(&stamp[..stamp.len().min(max)]);
        }
        let pool = self.pool.len() as u64;
        let from = (self.start as u64 + at % pool) % pool;
        let from = usize::try_from(from).expect("a place in the pool");
        let left = usize::try_from(self.unstamped() - at).unwrap_or(usize::MAX);
        let end = (self.pool.len() - from).min(left).min(max);
        self.pool.slice(from..from + end)
    }

    /// Whether these bytes are those at `at`.
    pub(crate) fn holds(&self, mut at: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let piece = self.piece(at, bytes.len());
            let Some(rest) = bytes.strip_prefix(&piece[..]).filter(|_| !piece.is_empty()) else {
                return false;
            };
            at += piece.len() as u64;
            bytes = rest;
        }
        true
    }

    /// Where the stamp begins.
    fn unstamped(&self) -> u64 {
        self.len.saturating_sub(STAMP_BYTES as u64)
    }

    fn stamp(&self) -> &[u8] {
        let len = usize::try_from(self.len).unwrap_or(STAMP_BYTES).min(STAMP_BYTES);
        &self.stamp[..len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(body: &Body, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let piece = body.piece(all.len() as u64, step);
            if piece.is_empty() {
                return all;
            }
            all.extend_from_slice(&piece);
        }
    }

    #[test]
    fn bodies_have_their_length_their_hashes_and_nobody_elses_bytes() {
        let content = Content::new(7, 1000);
        for len in [0, 1, 15, 16, 17, 999, 1000, 1001, 5000] {
            let body = content.object(&[len], 3);
            let whole = bytes(&body, usize::MAX);
            assert_eq!(whole.len() as u64, len);
            assert_eq!(bytes(&body, 7), whole);
            let (sha256, crc32) = content.digests(&body);
            assert_eq!(sha256, <[u8; 32]>::from(Sha256::digest(&whole)));
            assert_eq!(crc32, crc32fast::hash(&whole));
            assert!(body.holds(0, &whole));
            if len >= 15 {
                let other = content.object(&[len], 4);
                assert!(!other.holds(0, &whole), "{len}");
                assert!(body.holds(5, &whole[5..9]) && !body.holds(5, &whole[6..10]));
            }
            assert!(!body.holds(0, &[&whole[..], b"x"].concat()));
        }
    }

    #[test]
    fn seeds_numbers_and_parts_differ_and_come_again() {
        let (one, two) = (Content::new(1, 4096), Content::new(2, 4096));
        let body = |content: &Content, number| bytes(&content.object(&[100], number), 4096);
        assert_eq!(body(&one, 9), body(&Content::new(1, 4096), 9));
        assert_ne!(body(&one, 9), body(&one, 10));
        assert_ne!(body(&one, 9), body(&two, 9));
        let part = |number, offset| bytes(&one.part(number, offset, 100), 4096);
        assert_ne!(part(0, 0), part(0, 100));
        assert_ne!(part(0, 0), part(1, 0));
    }

    #[test]
    fn all_sizes_of_a_range_occur() {
        let content = Content::new(1, 64);
        let sizes = [1, 2, 3, 4];
        let mut seen = [0; 4];
        for number in 0..400 {
            let len = content.object(&sizes, number).len();
            seen[usize::try_from(len).unwrap() - 1] += 1;
        }
        assert!(seen.iter().all(|times| (50..150).contains(times)), "{seen:?}");
    }
}
