//! Frames of the link itself, beside those of messages. `docs/protocol.md` has the table.

use bytes::Bytes;
use trine_core::codec::{DecodeError, Decoder, Encoder};
use trine_core::ids::Endpoint;
use trine_core::wire::{self, Frame};

use super::PEER_CALL_BYTES_MAX;
use super::hello::ENDPOINTS_MAX;

/// Bytes of the largest header of such a frame: a call and what goes with it.
pub(crate) const LINK_FRAME_BYTES_MAX: usize = PEER_CALL_BYTES_MAX + 64;

pub(crate) const PING: u8 = 128;
pub(crate) const PONG: u8 = 129;
pub(crate) const ENDPOINTS: u8 = 130;
pub(crate) const CALL: u8 = 131;
pub(crate) const ANSWER: u8 = 132;

/// What one end of a link says to the other, as links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkFrame {
    /// We are here. To be answered.
    Ping(u64),
    /// The ping of this number has arrived.
    Pong(u64),
    /// What the sender hosts from now on, in place of all that it said before.
    Endpoints(Vec<Endpoint>),
    /// A node-to-node call.
    Call { number: u64, body: Bytes },
    /// What came of it.
    Answer { number: u64, result: Result<Bytes, CallFailure> },
}

/// Why the other node does not answer a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallFailure {
    /// Nobody there takes calls, or whoever took it gave it up.
    Refused,
    /// Too many calls wait there.
    Overloaded,
}

impl LinkFrame {
    /// The frame, ready to be written.
    pub(crate) fn encode(&self) -> Frame {
        let mut header = Encoder::new();
        let kind = match self {
            Self::Ping(number) => {
                header.u64(*number);
                PING
            }
            Self::Pong(number) => {
                header.u64(*number);
                PONG
            }
            Self::Endpoints(endpoints) => {
                header.list(endpoints);
                ENDPOINTS
            }
            Self::Call { number, body } => {
                header.u64(*number);
                header.bytes(body);
                CALL
            }
            Self::Answer { number, result } => {
                header.u64(*number);
                header.u8(match result {
                    Ok(_) => 0,
                    Err(CallFailure::Refused) => 1,
                    Err(CallFailure::Overloaded) => 2,
                });
                if let Ok(body) = result {
                    header.bytes(body);
                }
                ANSWER
            }
        };
        wire::encode_link(kind, header.as_slice())
    }

    /// A frame of this kind, whose checksum has been verified.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong.
    pub(crate) fn decode(kind: u8, header: &Bytes) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(header);
        let frame = match kind {
            PING => Self::Ping(input.u64()?),
            PONG => Self::Pong(input.u64()?),
            ENDPOINTS => Self::Endpoints(input.list("endpoints", ENDPOINTS_MAX)?),
            CALL => Self::Call {
                number: input.u64()?,
                body: input.bytes("body of a peer call", PEER_CALL_BYTES_MAX)?,
            },
            ANSWER => Self::Answer {
                number: input.u64()?,
                result: match input.u8()? {
                    0 => Ok(input.bytes("answer to a peer call", PEER_CALL_BYTES_MAX)?),
                    1 => Err(CallFailure::Refused),
                    2 => Err(CallFailure::Overloaded),
                    tag => return Err(DecodeError::Tag { what: "answer to a peer call", tag }),
                },
            },
            tag => return Err(DecodeError::Tag { what: "link frame", tag }),
        };
        input.finish()?;
        Ok(frame)
    }
}
