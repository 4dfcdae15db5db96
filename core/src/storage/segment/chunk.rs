//! A chunk's record: header sectors, then the data, padded to sectors.
//! Byte table: `docs/disk-format-segments.md`.

use bytes::Bytes;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::disk::SECTOR;
use crate::hash::Checksum;
use crate::ids::{ChunkId, MapEpoch};
use crate::message::ChunkWrite;
use crate::object::{KEY_BYTES_MAX, ObjectKey, Scheme, Target};

use super::layout::{Generation, Layout, SegmentId};

const VERSION: u8 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"TRINECHK");
/// Blocks of one chunk: its header stays within three sectors.
pub(crate) const CHUNK_BLOCKS_MAX: usize = 256;
/// Bytes of one chunk: four times what the gateway cuts.
pub(crate) const CHUNK_BYTES_MAX: u32 = 4 << 20;
/// Space kept for each block's authentication tag, for the day of encryption.
const TAG_BYTES: usize = 16;
/// Offset of the header's own checksum.
const CHECKSUM_AT: usize = 88;
/// Bytes of the header before the key.
const FIXED_BYTES: usize = 96;
/// Longest header, in bytes.
const HEADER_BYTES_MAX: usize =
    (FIXED_BYTES + KEY_BYTES_MAX + CHUNK_BLOCKS_MAX * (8 + TAG_BYTES)).next_multiple_of(4096);
/// Longest record, in bytes.
pub(crate) const RECORD_BYTES_MAX: u64 = HEADER_BYTES_MAX as u64 + CHUNK_BYTES_MAX as u64;

/// What a chunk's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkHeader {
    /// Which chunk.
    pub(crate) chunk: ChunkId,
    /// Whose blob it is.
    pub(crate) owner: Target,
    /// The map under which it was placed.
    pub(crate) epoch: MapEpoch,
    /// How the blob is kept.
    pub(crate) scheme: Scheme,
    /// Which shard of the blob's stripe; 0 for whole copies.
    pub(crate) shard: u16,
    /// Bytes of data.
    pub(crate) length: u32,
    /// Bytes of each block but the last.
    pub(crate) block_size: u32,
    /// The checksum of each block, as it was sent.
    pub(crate) checksums: Vec<Checksum>,
}

impl ChunkHeader {
    /// Check a write's contradictions and its blocks against their checksums.
    pub(crate) fn of_write(write: &ChunkWrite) -> Option<Self> {
        let length = u32::try_from(write.data.len()).ok().filter(|len| *len <= CHUNK_BYTES_MAX)?;
        if length == 0 || write.block_size == 0 {
            return None;
        }
        let blocks = length.div_ceil(write.block_size) as usize;
        if blocks > CHUNK_BLOCKS_MAX || blocks != write.checksums.len() {
            return None;
        }
        let verify = |write: &ChunkWrite| {
            blocks_verify(write.chunk, write.block_size, &write.checksums, &write.data)
        };
        (verify(write) || planted!(RepairUnverified)).then(|| Self {
            chunk: write.chunk,
            owner: write.owner.clone(),
            epoch: write.epoch,
            scheme: Scheme::ThreeCopies,
            shard: 0,
            length,
            block_size: write.block_size,
            checksums: write.checksums.clone(),
        })
    }

    /// Bytes of the header on disk, whole sectors.
    pub(crate) fn header_bytes(&self) -> u64 {
        let bytes = FIXED_BYTES
            + self.owner.key.as_str().len()
            + self.checksums.len() * (size_of::<u64>() + TAG_BYTES);
        (bytes as u64).next_multiple_of(SECTOR)
    }

    /// Bytes of header and data on disk, whole sectors.
    pub(crate) fn record_bytes(&self) -> u64 {
        self.header_bytes() + u64::from(self.length).next_multiple_of(SECTOR)
    }

    /// The header as it stands at byte `at` of a segment.
    pub(crate) fn encode(
        &self,
        layout: &Layout,
        segment: SegmentId,
        generation: Generation,
        at: u64,
    ) -> Bytes {
        let header_bytes = u32::try_from(self.header_bytes()).expect("a header is small");
        let mut out = Encoder::new();
        out.u8(VERSION);
        out.u8(match self.scheme {
            Scheme::ThreeCopies => 0,
        });
        out.u16(self.shard);
        out.u32(header_bytes);
        out.u64(MAGIC);
        generation.encode(&mut out);
        self.chunk.encode(&mut out);
        out.u32(self.length);
        out.u32(self.block_size);
        out.u32(u32::try_from(self.checksums.len()).expect("a chunk has few blocks"));
        self.epoch.encode(&mut out);
        self.owner.tenant.encode(&mut out);
        self.owner.bucket.encode(&mut out);
        let key = self.owner.key.as_str().as_bytes();
        out.u32(u32::try_from(key.len()).expect("a key has at most 1,024 bytes"));
        out.u32(0);
        debug_assert_eq!(out.len(), CHECKSUM_AT);
        out.u64(0);
        out.raw(key);
        for checksum in &self.checksums {
            checksum.encode(&mut out);
            out.raw(&[0; TAG_BYTES]);
        }
        out.pad_to(usize::try_from(SECTOR).expect("a sector is small"));
        let sum = header_checksum(layout.seed(segment, generation, at), out.as_slice());
        out.patch_u64(CHECKSUM_AT, sum.0);
        out.finish()
    }

    /// Read the header that begins `bytes`, which stand at byte `at` of a segment.
    ///
    /// # Errors
    /// [`DecodeError`]; `Short` if the header goes on behind `bytes`.
    pub(crate) fn decode(
        bytes: &Bytes,
        layout: &Layout,
        segment: SegmentId,
        generation: Generation,
        at: u64,
    ) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(bytes);
        input.version("chunk header", VERSION)?;
        let scheme = input.u8()?;
        let shard = input.u16()?;
        let header_bytes = input.count("chunk header", HEADER_BYTES_MAX)?;
        // Not covered by its checksum until it has been read as a whole: who reads on by it needs whole sectors.
        let sectors = header_bytes as u64 / SECTOR;
        if input.u64()? != MAGIC || sectors == 0 || sectors * SECTOR != header_bytes as u64 {
            return Err(DecodeError::Invalid { what: "chunk header" });
        }
        if bytes.len() < header_bytes {
            return Err(DecodeError::Short { needed: header_bytes, left: bytes.len() });
        }
        let sum = header_checksum(layout.seed(segment, generation, at), &bytes[..header_bytes]);
        if bytes[CHECKSUM_AT..FIXED_BYTES] != sum.0.to_le_bytes() {
            return Err(DecodeError::Checksum { what: "chunk header" });
        }
        if Generation::decode(&mut input)? != generation {
            return Err(DecodeError::Invalid { what: "generation of a chunk" });
        }
        let chunk = ChunkId::decode(&mut input)?;
        let length = input.u32()?;
        let block_size = input.u32()?;
        let blocks = input.count("blocks of a chunk", CHUNK_BLOCKS_MAX)?;
        let epoch = MapEpoch::decode(&mut input)?;
        let tenant = Wire::decode(&mut input)?;
        let bucket = Wire::decode(&mut input)?;
        let key_bytes = input.count("key of a chunk", KEY_BYTES_MAX)?;
        input.u32()?;
        input.u64()?;
        let key = String::from_utf8(input.raw(key_bytes)?.to_vec())
            .ok()
            .and_then(|key| ObjectKey::parse(&key).ok())
            .ok_or(DecodeError::Invalid { what: "key of a chunk" })?;
        let mut checksums = Vec::with_capacity(blocks);
        for _ in 0..blocks {
            checksums.push(Checksum::decode(&mut input)?);
            input.raw(TAG_BYTES)?;
        }
        let scheme = match scheme {
            0 => Scheme::ThreeCopies,
            tag => return Err(DecodeError::Tag { what: "scheme of a chunk", tag }),
        };
        let owner = Target { tenant, bucket, key };
        let header = Self { chunk, owner, epoch, scheme, shard, length, block_size, checksums };
        let consistent = block_size > 0
            && (1..=CHUNK_BYTES_MAX).contains(&length)
            && length.div_ceil(block_size) as usize == blocks
            && header.header_bytes() == header_bytes as u64;
        if !consistent {
            return Err(DecodeError::Invalid { what: "sizes of a chunk" });
        }
        Ok(header)
    }
}

/// Bytes of the shortest and the longest header of a chunk of so many blocks: it depends on the
/// length of its owner's key.
pub(crate) fn header_bytes_of(blocks: usize) -> (u64, u64) {
    let fixed = FIXED_BYTES + blocks * (size_of::<u64>() + TAG_BYTES);
    let longest = fixed + KEY_BYTES_MAX;
    ((fixed as u64).next_multiple_of(SECTOR), (longest as u64).next_multiple_of(SECTOR))
}

/// Whether every block of `data` has its checksum.
pub(crate) fn blocks_verify(
    chunk: ChunkId,
    block_size: u32,
    checksums: &[Checksum],
    data: &[u8],
) -> bool {
    data.chunks(block_size as usize).len() == checksums.len()
        && data
            .chunks(block_size as usize)
            .zip(checksums)
            .zip(0..)
            .all(|((block, sum), number)| Checksum::of_block(chunk, number, block) == *sum)
}

/// The checksum of a header, without the field that holds it.
fn header_checksum(seed: u64, header: &[u8]) -> Checksum {
    Checksum::of_parts(seed, [&header[..CHECKSUM_AT], &header[FIXED_BYTES..]])
}
