//! The bytes of messages by which a replica pulls a range's state from another.

use bytes::Bytes;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::message::{
    SnapshotAsk, SnapshotGiven, SnapshotId, SnapshotOffer, SnapshotPage, SnapshotRow, SnapshotWant,
};

/// The form of an offer in consensus messages.
const OFFER_VERSION: u8 = 1;
/// A key of a row, and one byte more for the least key behind it.
const KEY_BYTES_MAX: usize = 4096;
/// A value of a row.
const VALUE_BYTES_MAX: usize = 4 << 20;
/// An encoded configuration.
const MEMBERSHIP_BYTES_MAX: usize = 4096;

impl Wire for SnapshotId {
    fn encode(&self, out: &mut Encoder) {
        self.store.encode(out);
        self.incarnation.encode(out);
        out.u64(self.number);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            store: Wire::decode(input)?,
            incarnation: Wire::decode(input)?,
            number: input.u64()?,
        })
    }
}

impl Wire for SnapshotOffer {
    fn encode(&self, out: &mut Encoder) {
        out.u8(OFFER_VERSION);
        self.snapshot.encode(out);
        self.hash.encode(out);
        self.bare.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.version("snapshot offer", OFFER_VERSION)?;
        let (snapshot, hash) = (Wire::decode(input)?, Wire::decode(input)?);
        Ok(Self { snapshot, hash, bare: Wire::decode(input)? })
    }
}

impl Wire for SnapshotRow {
    fn encode(&self, out: &mut Encoder) {
        out.bytes(&self.key);
        self.index.encode(out);
        match &self.value {
            None => out.u8(0),
            Some(value) => {
                out.u8(1);
                out.bytes(value);
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let key = input.bytes("key of a row", KEY_BYTES_MAX)?;
        let index = Wire::decode(input)?;
        let value = match input.u8()? {
            0 => None,
            1 => Some(input.bytes("value of a row", VALUE_BYTES_MAX)?),
            tag => return Err(DecodeError::Tag { what: "row of a snapshot", tag }),
        };
        Ok(Self { key, index, value })
    }
}

pub(super) fn encode_ask(ask: &SnapshotAsk, out: &mut Encoder) {
    ask.range.encode(out);
    match &ask.want {
        SnapshotWant::State { at_least } => {
            out.u8(0);
            at_least.encode(out);
        }
        SnapshotWant::Pages { snapshot, newer_than, page, from, window, again } => {
            out.u8(1);
            snapshot.encode(out);
            newer_than.encode(out);
            out.u64(*page);
            out.bytes(from);
            out.u32(*window);
            again.encode(out);
        }
        SnapshotWant::Nothing { snapshot } => {
            out.u8(2);
            snapshot.encode(out);
        }
    }
}

pub(super) fn decode_ask(input: &mut Decoder<'_>) -> Result<SnapshotAsk, DecodeError> {
    let range = Wire::decode(input)?;
    let want = match input.u8()? {
        0 => SnapshotWant::State { at_least: Wire::decode(input)? },
        1 => SnapshotWant::Pages {
            snapshot: Wire::decode(input)?,
            newer_than: Wire::decode(input)?,
            page: input.u64()?,
            from: input.bytes("key of a page", KEY_BYTES_MAX)?,
            window: input.u32()?,
            again: Wire::decode(input)?,
        },
        2 => SnapshotWant::Nothing { snapshot: Wire::decode(input)? },
        tag => return Err(DecodeError::Tag { what: "snapshot ask", tag }),
    };
    Ok(SnapshotAsk { range, want })
}

/// Everything but the rows, which are the message's bulk.
pub(super) fn encode_page(page: &SnapshotPage, out: &mut Encoder) {
    page.range.encode(out);
    match &page.given {
        SnapshotGiven::State { index, term, membership, offer } => {
            out.u8(0);
            index.encode(out);
            term.encode(out);
            out.bytes(membership);
            offer.encode(out);
        }
        SnapshotGiven::Rows { snapshot, page, from, to, checksum, rows: _ } => {
            out.u8(1);
            snapshot.encode(out);
            out.u64(*page);
            out.bytes(from);
            to.is_some().encode(out);
            if let Some(to) = to {
                out.bytes(to);
            }
            checksum.encode(out);
        }
        SnapshotGiven::Gone { snapshot } => {
            out.u8(2);
            snapshot.encode(out);
        }
    }
}

pub(super) fn decode_page(
    input: &mut Decoder<'_>,
    bulk: Bytes,
) -> Result<SnapshotPage, DecodeError> {
    let range = Wire::decode(input)?;
    let tag = input.u8()?;
    if tag != 1 && !bulk.is_empty() {
        return Err(DecodeError::Invalid { what: "bulk of a page without rows" });
    }
    let given = match tag {
        0 => SnapshotGiven::State {
            index: Wire::decode(input)?,
            term: Wire::decode(input)?,
            membership: input.bytes("membership", MEMBERSHIP_BYTES_MAX)?,
            offer: Wire::decode(input)?,
        },
        1 => SnapshotGiven::Rows {
            snapshot: Wire::decode(input)?,
            page: input.u64()?,
            from: input.bytes("key of a page", KEY_BYTES_MAX)?,
            to: match bool::decode(input)? {
                false => None,
                true => Some(input.bytes("key of a page", KEY_BYTES_MAX)?),
            },
            checksum: Wire::decode(input)?,
            rows: bulk,
        },
        2 => SnapshotGiven::Gone { snapshot: Wire::decode(input)? },
        tag => return Err(DecodeError::Tag { what: "snapshot page", tag }),
    };
    Ok(SnapshotPage { range, given })
}
