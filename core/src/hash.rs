//! Checksums of what is stored and hashes of what replicas compare.
//!
//! Both are XXH3: fast, well mixed, *not* proof against someone who chooses the bytes. They find
//! rot, torn writes, misdirected writes and divergence; integrity against an attacker is the part of
//! encryption. A checksum is seeded with what the bytes are, so that the right bytes in the wrong
//! place do not pass.

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed, xxh3_128};

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::ids::ChunkId;

/// A seeded 64-bit checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum(pub u64);

impl Checksum {
    /// The checksum of `bytes`, which are `seed`.
    pub fn of(seed: u64, bytes: &[u8]) -> Self {
        Self(xxh3_64_with_seed(bytes, seed))
    }

    /// The checksum of several buffers as if they were one.
    pub fn of_parts<'a>(seed: u64, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Xxh3::with_seed(seed);
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.digest())
    }

    /// The checksum of one block of a chunk, seeded with blob, chunk and block number.
    pub fn of_block(chunk: ChunkId, block: u32, bytes: &[u8]) -> Self {
        Self::of(block_seed(chunk, block), bytes)
    }
}

/// Mixes the identity of a block into 64 bits.
fn block_seed(chunk: ChunkId, block: u32) -> u64 {
    let mut identity = [0; 24];
    identity[..8].copy_from_slice(&chunk.blob.session.0.to_le_bytes());
    identity[8..16].copy_from_slice(&chunk.blob.sequence.0.to_le_bytes());
    identity[16..20].copy_from_slice(&chunk.number.to_le_bytes());
    identity[20..].copy_from_slice(&block.to_le_bytes());
    xxh3_64_with_seed(&identity, 0)
}

impl Wire for Checksum {
    fn encode(&self, out: &mut Encoder) {
        out.u64(self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.u64().map(Self)
    }
}

/// A 128-bit hash of a value, kept beside the pointer to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueHash(pub u128);

impl ValueHash {
    /// The hash of `value`.
    pub fn of(value: &[u8]) -> Self {
        Self(xxh3_128(value))
    }
}

impl Wire for ValueHash {
    fn encode(&self, out: &mut Encoder) {
        out.u128(self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.u128().map(Self)
    }
}

/// The incremental hash of a set of rows: the sum, modulo 2^128, of a hash of each (key, value).
/// Order does not matter, and a row is taken out by subtracting what it added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateHash(pub u128);

impl StateHash {
    /// Add a row.
    pub fn insert(&mut self, key: &[u8], value: ValueHash) {
        self.0 = self.0.wrapping_add(row_hash(key, value));
    }

    /// Take out a row that was added.
    pub fn remove(&mut self, key: &[u8], value: ValueHash) {
        self.0 = self.0.wrapping_sub(row_hash(key, value));
    }
}

fn row_hash(key: &[u8], value: ValueHash) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&value.0.to_le_bytes());
    hasher.update(key);
    hasher.digest128()
}

impl Wire for StateHash {
    fn encode(&self, out: &mut Encoder) {
        out.u128(self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.u128().map(Self)
    }
}
