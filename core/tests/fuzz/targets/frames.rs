//! Frames of peers, as they come and with their checksum made right.
//!
//! Input: a byte, 0 for a frame as it stands; else its kind (2 bytes: the second is thrown away), the bytes of its
//! bulk (2), header, bulk.

use bytes::Bytes;
use trine_core::ids::{Endpoint, GatewayId, StoreId};
use trine_core::message::{Envelope, Message};
use trine_core::wire::{self, FRAME_VERSION, Frame, PREFIX_BYTES, Prefix};

use super::image;
use super::input::Input;

pub(crate) fn run(input: &[u8]) -> bool {
    let mut input = Input::new(input);
    let (prefix, header, bulk) = match input.u8() {
        0 => {
            let prefix = Bytes::copy_from_slice(input.bytes(PREFIX_BYTES));
            let Ok(lengths) = Prefix::parse(&prefix) else { return false };
            let header = Bytes::copy_from_slice(input.bytes(lengths.header_len));
            (prefix, header, Bytes::copy_from_slice(input.bytes(lengths.bulk_len)))
        }
        _ => {
            let (kind, bulk) = (input.u8(), usize::from(input.u16()));
            let rest = input.rest();
            let (header, bulk) = rest.split_at(rest.len().saturating_sub(bulk));
            sealed(kind, header, bulk)
        }
    };
    let Ok(envelope) = wire::decode(&prefix, &header, bulk) else { return false };
    let again = wire::encode(&envelope);
    let (prefix, header) = (again.head.slice(..PREFIX_BYTES), again.head.slice(PREFIX_BYTES..));
    let back = wire::decode(&prefix, &header, again.bulk).expect("our own frame can be read");
    assert_eq!(back.message, envelope.message);
    assert_eq!((back.from, back.to), (envelope.from, envelope.to));
    // For the log: it must not panic either.
    let _ = format!("{envelope:?}");
    true
}

/// With a prefix that fits.
fn sealed(kind: u8, header: &[u8], bulk: &[u8]) -> (Bytes, Bytes, Bytes) {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("inputs are small").to_le_bytes();
    let mut prefix = vec![FRAME_VERSION, kind, 0, 0];
    prefix.extend(len(header));
    prefix.extend(len(bulk));
    let mut crc = crc32fast::Hasher::new();
    crc.update(&prefix);
    crc.update(header);
    prefix.extend(crc.finalize().to_le_bytes());
    (prefix.into(), Bytes::copy_from_slice(header), Bytes::copy_from_slice(bulk))
}

/// What three stores and a gateway have said to each other.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    image::traffic().iter().map(seed).collect()
}

/// The input that is this message.
pub(crate) fn seed(message: &Message) -> Vec<u8> {
    let (from, to) = (Endpoint::Store(StoreId(1)), Endpoint::Gateway(GatewayId(2)));
    let Frame { head, bulk } = wire::encode(&Envelope { from, to, message: message.clone() });
    let bulk_len = u16::try_from(bulk.len()).unwrap_or(u16::MAX);
    let mut out = vec![1, head[1]];
    out.extend(bulk_len.to_le_bytes());
    out.extend_from_slice(&head[PREFIX_BYTES..]);
    out.extend_from_slice(&bulk[..usize::from(bulk_len)]);
    out
}
