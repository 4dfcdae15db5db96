//! The bytes of what is said about blobs that may be freed.

use super::message::{BLOB_ANSWER, BLOB_ASK, BLOB_FREE, BLOB_FREED, BLOBS_LEFT};
use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::ids::{BlobId, BlobSequence};
use crate::message::{
    BLOBS_ASKED_MAX, BLOBS_FREED_MAX, BlobAnswer, BlobAsk, BlobFree, BlobFreed, BlobVerdict,
    BlobVerdicts, Message, READING_MAX, SessionReport, WRITING_MAX,
};

/// A message of these kinds; nothing for any other kind.
pub(super) fn encode(message: &Message, out: &mut Encoder) {
    match message {
        Message::BlobAsk(ask) => {
            ask.call.encode(out);
            out.list(&ask.blobs);
        }
        Message::BlobAnswer(answer) => {
            answer.call.encode(out);
            match &answer.result {
                Ok(verdicts) => {
                    out.u8(0);
                    verdicts.directory.encode(out);
                    verdicts.settled.encode(out);
                    out.list(&verdicts.verdicts);
                }
                Err(leader) => {
                    out.u8(1);
                    leader.encode(out);
                }
            }
        }
        Message::BlobFree(free) => {
            free.call.encode(out);
            free.directory.encode(out);
            out.list(&free.blobs);
        }
        Message::BlobFreed(freed) => {
            freed.call.encode(out);
            out.list(&freed.blobs);
        }
        Message::BlobsLeft(blobs) => out.list(blobs),
        _ => {}
    }
}

/// A message of one of these kinds.
pub(super) fn decode(kind: u8, input: &mut Decoder<'_>) -> Result<Message, DecodeError> {
    Ok(match kind {
        BLOB_ASK => Message::BlobAsk(BlobAsk {
            call: Wire::decode(input)?,
            blobs: input.list("blobs in question", BLOBS_ASKED_MAX)?,
        }),
        BLOB_ANSWER => Message::BlobAnswer(BlobAnswer {
            call: Wire::decode(input)?,
            result: match input.u8()? {
                0 => Ok(BlobVerdicts {
                    directory: Wire::decode(input)?,
                    settled: Wire::decode(input)?,
                    verdicts: input.list("verdicts", BLOBS_ASKED_MAX)?,
                }),
                1 => Err(Wire::decode(input)?),
                tag => return Err(DecodeError::Tag { what: "answer about blobs", tag }),
            },
        }),
        BLOB_FREE => Message::BlobFree(BlobFree {
            call: Wire::decode(input)?,
            directory: Wire::decode(input)?,
            blobs: input.list("blobs to free", BLOBS_FREED_MAX)?,
        }),
        BLOB_FREED => Message::BlobFreed(BlobFreed {
            call: Wire::decode(input)?,
            blobs: input.list("freed blobs", BLOBS_FREED_MAX)?,
        }),
        BLOBS_LEFT => Message::BlobsLeft(input.list("blobs left", BLOBS_ASKED_MAX)?),
        tag => return Err(DecodeError::Tag { what: "message kind", tag }),
    })
}

impl Wire for BlobVerdict {
    fn encode(&self, out: &mut Encoder) {
        out.u8(match self {
            Self::Live => 0,
            Self::Open => 1,
            Self::Dead => 2,
            Self::Gone => 3,
        });
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.u8()? {
            0 => Ok(Self::Live),
            1 => Ok(Self::Open),
            2 => Ok(Self::Dead),
            3 => Ok(Self::Gone),
            tag => Err(DecodeError::Tag { what: "verdict on a blob", tag }),
        }
    }
}

impl Wire for SessionReport {
    fn encode(&self, out: &mut Encoder) {
        self.reads_from.encode(out);
        out.list(&self.reading);
        self.next.encode(out);
        out.list(&self.writing);
        self.map.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let reads_from = Wire::decode(input)?;
        let reading: Vec<BlobId> = input.list("blobs being read", READING_MAX)?;
        let next = Wire::decode(input)?;
        let writing: Vec<BlobSequence> = input.list("blobs being written", WRITING_MAX)?;
        let map = Wire::decode(input)?;
        if !reading.is_sorted_by(|a, b| a < b) || !writing.is_sorted_by(|a, b| a < b) {
            return Err(DecodeError::Invalid { what: "order of a report" });
        }
        Ok(Self { reads_from, reading, next, writing, map })
    }
}
