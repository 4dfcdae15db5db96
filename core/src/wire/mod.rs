//! Frames between processes. `docs/protocol.md` has the bytes; a test holds it against this module.
//!
//! A frame is a fixed prefix, a header (everything but bulk data) and bulk data. The bulk of a chunk
//! message travels as it is: the receiver reads it from the socket into the buffer that goes to
//! disk. Prefix and header are under a CRC-32; bulk is under the block checksums that the header
//! carries. Anything else that is wrong with a frame is a [`DecodeError`], and the link is closed.

mod message;
mod reclaim;
mod repair;
mod snapshot;

use bytes::Bytes;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::ids::Endpoint;
use crate::message::Envelope;

/// The newest frame version; also the only one so far.
pub const FRAME_VERSION: u8 = 1;
/// Kinds from this on are frames of the link itself (keepalives and the like), which the transport
/// reads and writes; those below are messages.
pub const LINK_KIND_MIN: u8 = 128;
/// Bytes of the prefix.
pub const PREFIX_BYTES: usize = 16;
/// Bytes of the largest header: a consensus message with its entries.
pub const HEADER_BYTES_MAX: usize = 17 << 20;

/// Few headers are longer.
const HEADER_BYTES_USUAL: usize = 512;
/// Bytes of the largest bulk: a page of a snapshot with one row of the largest value.
pub const BULK_BYTES_MAX: usize = (4 << 20) + (64 << 10);

/// A frame, ready to be written: first the head, then the bulk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Prefix and header.
    pub head: Bytes,
    /// Bulk data; may be empty.
    pub bulk: Bytes,
}

/// What a prefix says about the rest of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// What the frame is.
    pub kind: u8,
    checksum: u32,
    /// Bytes of header that follow the prefix.
    pub header_len: usize,
    /// Bytes of bulk that follow the header.
    pub bulk_len: usize,
}

impl Prefix {
    /// Read a prefix, so that the reader knows how much to read on. The checksum is verified with
    /// the header, in [`decode`].
    ///
    /// # Errors
    /// [`DecodeError`] if it is of another version, or names lengths over their limits.
    pub fn parse(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(bytes);
        input.version("frame", FRAME_VERSION)?;
        let kind = input.u8()?;
        if input.u16()? != 0 {
            return Err(DecodeError::Invalid { what: "frame flags" });
        }
        let header_len = input.count("frame header", HEADER_BYTES_MAX)?;
        let bulk_len = input.count("frame bulk", BULK_BYTES_MAX)?;
        let checksum = input.u32()?;
        input.finish()?;
        Ok(Self { kind, checksum, header_len, bulk_len })
    }
}

/// The frame of a message.
///
/// # Panics
/// If the message is larger than a frame may be; what makes messages keeps them below.
pub fn encode(envelope: &Envelope) -> Frame {
    let mut head = Encoder::with_capacity(HEADER_BYTES_USUAL);
    let (kind, bulk) = message::kind_and_bulk(&envelope.message);
    head.u8(FRAME_VERSION);
    head.u8(kind);
    head.u16(0);
    head.u32(0);
    head.u32(u32::try_from(bulk.len()).expect("bulk is at most a chunk"));
    head.u32(0);
    envelope.from.encode(&mut head);
    envelope.to.encode(&mut head);
    message::encode(&envelope.message, &mut head);
    let header_len = head.len() - PREFIX_BYTES;
    assert!(header_len <= HEADER_BYTES_MAX && bulk.len() <= BULK_BYTES_MAX);
    head.patch_u32(4, u32::try_from(header_len).expect("checked against its limit"));
    let checksum = checksum(&head.as_slice()[..PREFIX_BYTES], &head.as_slice()[PREFIX_BYTES..]);
    head.patch_u32(12, checksum);
    Frame { head: head.finish(), bulk }
}

/// A frame of the link itself: no bulk, and a header that the transport gives a meaning.
///
/// # Panics
/// If `kind` is a message's, or the header larger than a frame may have.
pub fn encode_link(kind: u8, header: &[u8]) -> Frame {
    assert!(kind >= LINK_KIND_MIN && header.len() <= HEADER_BYTES_MAX);
    let mut head = Encoder::new();
    head.u8(FRAME_VERSION);
    head.u8(kind);
    head.u16(0);
    head.u32(u32::try_from(header.len()).expect("checked against its limit"));
    head.u32(0);
    let checksum = checksum(head.as_slice(), header);
    head.u32(checksum);
    head.raw(header);
    Frame { head: head.finish(), bulk: Bytes::new() }
}

/// Hold a header against the checksum of its prefix. [`decode`] does so itself.
///
/// # Errors
/// [`DecodeError`] if they do not belong together.
pub fn verify(prefix_bytes: &Bytes, header: &Bytes) -> Result<(), DecodeError> {
    let prefix = Prefix::parse(prefix_bytes)?;
    if checksum(prefix_bytes, header) == prefix.checksum {
        Ok(())
    } else {
        Err(DecodeError::Checksum { what: "frame" })
    }
}

/// The message of a frame whose prefix was read before.
///
/// # Errors
/// [`DecodeError`] says what is wrong; nothing of the frame may be used then.
pub fn decode(prefix_bytes: &Bytes, header: &Bytes, bulk: Bytes) -> Result<Envelope, DecodeError> {
    let prefix = Prefix::parse(prefix_bytes)?;
    if header.len() != prefix.header_len || bulk.len() != prefix.bulk_len {
        return Err(DecodeError::Invalid { what: "frame lengths" });
    }
    if checksum(prefix_bytes, header) != prefix.checksum {
        return Err(DecodeError::Checksum { what: "frame" });
    }
    let mut input = Decoder::new(header);
    let from = Endpoint::decode(&mut input)?;
    let to = Endpoint::decode(&mut input)?;
    let message = message::decode(prefix.kind, &mut input, bulk)?;
    input.finish()?;
    Ok(Envelope { from, to, message })
}

/// CRC-32 over the prefix up to the checksum, and the header.
fn checksum(prefix: &[u8], header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&prefix[..12]);
    hasher.update(header);
    hasher.finalize()
}
