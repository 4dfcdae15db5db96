//! A frame: the unit in which the journal is written and judged. Header, records, zeros up to the
//! sector.

use bytes::Bytes;

use super::record::{Location, Record};
use crate::codec::{DecodeError, Decoder, Encoder};
use crate::disk::SECTOR;
use crate::hash::Checksum;
use crate::ids::{ClusterId, StoreId, counter};

/// Frame version that is written and read. A new one raises the superblock's version too, so that
/// no build takes a newer frame for a torn one.
pub const VERSION: u8 = 1;

/// The eight bytes that say what this is.
const MAGIC: [u8; 8] = *b"TRINEJNL";

/// Bytes of a whole frame, at most. Bounds the memory of recovery and the time of one write.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// [`SECTOR`] as a length in memory.
pub(super) const SECTOR_BYTES: usize = 4096;
const _: () = assert!(SECTOR_BYTES as u64 == SECTOR);

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = field::END;

/// Offset of each field in a frame's header. Each follows from the one before.
pub mod field {
    /// One byte; three zero bytes follow.
    pub const VERSION: usize = 0;
    /// Four bytes: how many records.
    pub const RECORDS: usize = VERSION + 4;
    /// Eight bytes.
    pub const MAGIC: usize = RECORDS + 4;
    /// Eight bytes: checksum of all other bytes of the frame, seeded with cluster, store, position.
    pub const CHECKSUM: usize = MAGIC + 8;
    /// Eight bytes: the store.
    pub const STORE: usize = CHECKSUM + 8;
    /// Eight bytes: the frame's own position.
    pub const POSITION: usize = STORE + 8;
    /// Four bytes: length of the frame, a multiple of the sector; four zero bytes follow.
    pub const LENGTH: usize = POSITION + 8;
    /// Eight bytes: checksum of the frame before; 0 in the first.
    pub const PREVIOUS: usize = LENGTH + 8;
    /// Eight bytes: number of the recovery after which the frame was written.
    pub const RECOVERY: usize = PREVIOUS + 8;
    /// Eight bytes: where that recovery cut the journal, which is where its first frame stands.
    pub const RECOVERY_START: usize = RECOVERY + 8;
    /// Eight bytes: all below this position was known synced when the frame was written.
    pub const SYNCED: usize = RECOVERY_START + 8;
    /// End of the header.
    pub const END: usize = SYNCED + 8;
}

/// Whose journal it is: part of every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The store.
    pub store: StoreId,
}

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Where it stands.
    pub position: u64,
    /// Bytes of the whole frame.
    pub len: u32,
    /// How many records.
    pub records: u32,
    /// Checksum of the frame before.
    pub previous: Checksum,
    /// Number of the recovery after which it was written.
    pub recovery: u64,
    /// Where that recovery cut the journal.
    pub recovery_start: u64,
    /// All below was known synced.
    pub synced: u64,
    /// Checksum of this frame.
    pub checksum: Checksum,
}

/// Whether a sector that does not verify as the beginning of the frame at `position` says that it is.
pub(crate) fn frame_claims(position: u64, sector: &[u8]) -> bool {
    let field = |at: usize, value: &[u8]| sector.get(at..at + value.len()) == Some(value);
    field(field::MAGIC, &MAGIC) && field(field::POSITION, &position.to_le_bytes())
}

/// How long it says that it is, in bytes.
pub(super) fn claimed_len(sector: &[u8]) -> u64 {
    let len = sector.get(field::LENGTH..).and_then(|rest| rest.first_chunk());
    len.map_or(0, |len| u64::from(u32::from_le_bytes(*len)))
}

impl FrameHeader {
    /// Whether it is the first of its life.
    pub fn begins_life(&self) -> bool {
        self.recovery_start == self.position
    }

    /// The position behind the frame.
    pub const fn end(&self) -> u64 {
        self.position + self.len as u64
    }

    /// Read and verify the frame that `bytes` begins with and that should stand at `position`.
    ///
    /// # Errors
    /// [`DecodeError::Short`] if `bytes` ends before the frame; else what is wrong with it.
    pub fn decode(identity: Identity, position: u64, bytes: &[u8]) -> Result<Self, DecodeError> {
        let needed = SECTOR_BYTES;
        let sector = bytes.get(..needed).ok_or(DecodeError::Short { needed, left: bytes.len() })?;
        if sector[field::MAGIC..field::CHECKSUM] != MAGIC {
            return Err(DecodeError::Invalid { what: "frame magic" });
        }
        // The decoder wants a handle; a header is small.
        let header = Self::decode_fields(identity, &Bytes::copy_from_slice(&sector[..field::END]))?;
        // Before more is asked for: frames of an earlier round of the ring stand behind the head.
        let sound = header.position == position
            && header.recovery_start <= header.synced
            && header.synced <= header.position;
        if !sound {
            return Err(DecodeError::Invalid { what: "frame position" });
        }
        let needed = header.len as usize;
        let whole = bytes.get(..needed).ok_or(DecodeError::Short { needed, left: bytes.len() })?;
        let parts = [&whole[..field::CHECKSUM], &whole[field::STORE..]];
        if Checksum::of_parts(seed(identity, position), parts) != header.checksum {
            return Err(DecodeError::Checksum { what: "frame" });
        }
        Ok(header)
    }

    fn decode_fields(identity: Identity, bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(bytes);
        input.version("frame", VERSION)?;
        if input.raw(3)?[..] != [0; 3] {
            return Err(DecodeError::Invalid { what: "frame reserved bytes" });
        }
        let records = input.u32()?;
        input.raw(MAGIC.len())?;
        let checksum = Checksum(input.u64()?);
        if StoreId(input.u64()?) != identity.store {
            return Err(DecodeError::Invalid { what: "frame store" });
        }
        let position = counter("frame position", input.u64()?)?;
        let len = u32::try_from(input.count("frame length", FRAME_BYTES_MAX)?)
            .map_err(|_| DecodeError::Invalid { what: "frame length" })?;
        if len == 0 || !u64::from(len).is_multiple_of(SECTOR) || input.u32()? != 0 {
            return Err(DecodeError::Invalid { what: "frame length" });
        }
        Ok(Self {
            position,
            len,
            records,
            previous: Checksum(input.u64()?),
            recovery: counter("recovery of a frame", input.u64()?)?,
            recovery_start: input.u64()?,
            synced: input.u64()?,
            checksum,
        })
    }

    /// The records of the frame, whose bytes were verified by [`Self::decode`].
    ///
    /// # Errors
    /// [`DecodeError`]: the writer had a bug, or the checksum met its match.
    pub fn records(
        &self,
        store: StoreId,
        frame: &Bytes,
    ) -> Result<Vec<(Record, Location)>, DecodeError> {
        let mut at = FRAME_HEADER_BYTES;
        let mut records = Vec::new();
        for _ in 0..self.records {
            let position = self.position + at as u64;
            let left = frame.len().saturating_sub(at);
            if left == 0 {
                return Err(DecodeError::Short { needed: 1, left });
            }
            let record = Record::decode(store, position, &frame.slice(at..))?;
            let len = record.len_bytes();
            let location = Location { position, len: u32_of(len) };
            records.push((record, location));
            at += len;
        }
        if frame[at..].iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Trailing { left: frame.len() - at });
        }
        Ok(records)
    }
}

/// A frame ready to be written.
#[derive(Debug)]
pub struct EncodedFrame {
    /// Its header.
    pub header: FrameHeader,
    /// The bytes; payloads are handles.
    pub parts: Vec<Bytes>,
    /// Where each record stands.
    pub locations: Vec<Location>,
}

/// Bytes of a frame whose records have `records_bytes` in all.
pub const fn frame_len(records_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + records_bytes).next_multiple_of(SECTOR_BYTES)
}

/// A frame without records of a given length, a multiple of the sector: fills the ring up to its end.
///
/// # Panics
/// If it is longer than a frame may be.
pub fn filler(identity: Identity, mut header: FrameHeader, len: u32) -> EncodedFrame {
    /// The zeros; parts are handles on them.
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    assert!(len as usize <= FRAME_BYTES_MAX && u64::from(len).is_multiple_of(SECTOR) && len > 0);
    (header.len, header.records) = (len, 0);
    let mut out = Encoder::new();
    encode_header(identity, &header, &mut out);
    out.pad_to(SECTOR_BYTES);
    let mut parts = Vec::new();
    let mut left = len as usize - SECTOR_BYTES;
    while left > 0 {
        let part = left.min(ZEROS.len());
        parts.push(Bytes::from_static(&ZEROS[..part]));
        left -= part;
    }
    header.checksum = {
        let bytes = out.as_slice();
        let mut summed = vec![&bytes[..field::CHECKSUM], &bytes[field::STORE..]];
        summed.extend(parts.iter().map(|part| &part[..]));
        Checksum::of_parts(seed(identity, header.position), summed)
    };
    out.patch_u64(field::CHECKSUM, header.checksum.0);
    parts.insert(0, out.finish());
    EncodedFrame { header, parts, locations: Vec::new() }
}

/// Put records into a frame. `header` says all but length, count and checksum. Payloads are not
/// copied.
///
/// # Panics
/// If the frame would be over [`FRAME_BYTES_MAX`].
pub fn encode(identity: Identity, mut header: FrameHeader, records: &[Record]) -> EncodedFrame {
    let len = frame_len(records.iter().map(Record::len_bytes).sum());
    assert!(len <= FRAME_BYTES_MAX, "whoever collects records stops at the limit");
    assert!(header.recovery_start <= header.synced && header.synced <= header.position);
    header.len = u32_of(len);
    header.records = u32_of(records.len());

    // All headers go to one buffer, which is cut where a payload comes between.
    let payloads = records.iter().filter_map(Record::payload).map(|payload| payload.len());
    let mut out = Encoder::with_capacity(len - payloads.sum::<usize>());
    encode_header(identity, &header, &mut out);
    let mut position = header.position + FRAME_HEADER_BYTES as u64;
    let mut locations = Vec::with_capacity(records.len());
    let mut cuts = Vec::new();
    for record in records {
        record.encode_header(identity.store, position, &mut out);
        locations.push(Location { position, len: u32_of(record.len_bytes()) });
        position += record.len_bytes() as u64;
        if let Some(payload) = record.payload().filter(|payload| !payload.is_empty()) {
            cuts.push((out.len(), payload));
        }
    }
    let padding = header.end() - position;
    out.zeros(usize::try_from(padding).expect("less than a sector"));

    header.checksum = {
        let mut parts = Vec::with_capacity(2 * cuts.len() + 2);
        let bytes = out.as_slice();
        parts.push(&bytes[..field::CHECKSUM]);
        let mut from = field::STORE;
        for (cut, payload) in &cuts {
            parts.extend([&bytes[from..*cut], &payload[..]]);
            from = *cut;
        }
        parts.push(&bytes[from..]);
        Checksum::of_parts(seed(identity, header.position), parts)
    };
    out.patch_u64(field::CHECKSUM, header.checksum.0);

    let headers = out.finish();
    let mut parts = Vec::with_capacity(2 * cuts.len() + 1);
    let mut from = 0;
    for (cut, payload) in cuts {
        parts.extend([headers.slice(from..cut), payload.clone()]);
        from = cut;
    }
    parts.push(headers.slice(from..));
    parts.retain(|part| !part.is_empty());
    EncodedFrame { header, parts, locations }
}

fn encode_header(identity: Identity, header: &FrameHeader, out: &mut Encoder) {
    out.u32(VERSION.into());
    out.u32(header.records);
    out.raw(&MAGIC);
    out.u64(0);
    out.u64(identity.store.0);
    out.u64(header.position);
    out.u32(header.len);
    out.u32(0);
    out.u64(header.previous.0);
    out.u64(header.recovery);
    out.u64(header.recovery_start);
    out.u64(header.synced);
    assert_eq!(out.len(), FRAME_HEADER_BYTES);
}

/// A frame of another place, store or cluster does not pass.
fn seed(identity: Identity, position: u64) -> u64 {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&identity.cluster.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&identity.store.0.to_le_bytes());
    bytes[24..].copy_from_slice(&position.to_le_bytes());
    Checksum::of(0, &bytes).0
}

/// Lengths within a frame.
fn u32_of(len: usize) -> u32 {
    u32::try_from(len).expect("a frame is at most 4 MiB")
}
