//! Entries and messages as bytes. The journal and the wire share the layout of an entry.

use super::config::HardState;
use super::message::{
    ENTRIES_PER_APPEND_MAX, ENTRY_PAYLOAD_BYTES_MAX, Entry, EntryKind, MESSAGE_BYTES_MAX, Message,
    MessageBody, SNAPSHOT_BYTES_MAX,
};
use crate::codec::{DecodeError, Decoder, Encoder, Wire};

/// First byte of an encoded message.
const MESSAGE_VERSION: u8 = 1;

impl Wire for EntryKind {
    fn encode(&self, out: &mut Encoder) {
        out.u8(match self {
            Self::Empty => 0,
            Self::Command => 1,
            Self::Membership => 2,
        });
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.u8()? {
            0 => Ok(Self::Empty),
            1 => Ok(Self::Command),
            2 => Ok(Self::Membership),
            tag => Err(DecodeError::Tag { what: "entry kind", tag }),
        }
    }
}

impl Wire for Entry {
    fn encode(&self, out: &mut Encoder) {
        assert!(self.payload.len() <= ENTRY_PAYLOAD_BYTES_MAX, "a payload within its limit");
        self.index.encode(out);
        self.term.encode(out);
        self.kind.encode(out);
        out.bytes(&self.payload);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            index: Wire::decode(input)?,
            term: Wire::decode(input)?,
            kind: Wire::decode(input)?,
            payload: input.bytes("entry payload", ENTRY_PAYLOAD_BYTES_MAX)?,
        })
    }
}

impl Wire for HardState {
    fn encode(&self, out: &mut Encoder) {
        self.term.encode(out);
        self.vote.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { term: Wire::decode(input)?, vote: Wire::decode(input)? })
    }
}

impl Wire for Message {
    fn encode(&self, out: &mut Encoder) {
        let start = out.len();
        out.u8(MESSAGE_VERSION);
        self.from.encode(out);
        self.to.encode(out);
        self.term.encode(out);
        self.body.encode(out);
        assert!(out.len() - start <= MESSAGE_BYTES_MAX, "a message within its limit");
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let start = input.position();
        input.version("consensus message", MESSAGE_VERSION)?;
        let message = Self {
            from: Wire::decode(input)?,
            to: Wire::decode(input)?,
            term: Wire::decode(input)?,
            body: Wire::decode(input)?,
        };
        within_limit(input.position() - start)?;
        Ok(message)
    }
}

fn within_limit(len: usize) -> Result<(), DecodeError> {
    if len <= MESSAGE_BYTES_MAX {
        return Ok(());
    }
    let (found, max) = (len as u64, MESSAGE_BYTES_MAX as u64);
    Err(DecodeError::Limit { what: "consensus message", found, max })
}

/// Writes a tag, then each field.
macro_rules! fields {
    ($out:ident, $tag:literal $(, $field:ident)*) => {{
        $out.u8($tag);
        $($field.encode($out);)*
    }};
}

impl Wire for MessageBody {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Self::PreVote { last_index, last_term } => fields!(out, 0, last_index, last_term),
            Self::PreVoteReply { granted } => fields!(out, 1, granted),
            Self::Vote { last_index, last_term, transfer } => {
                fields!(out, 2, last_index, last_term, transfer);
            }
            Self::VoteReply { granted } => fields!(out, 3, granted),
            Self::Append { prev_index, prev_term, entries, commit } => {
                fields!(out, 4, prev_index, prev_term, commit);
                out.list(entries);
            }
            Self::AppendAccepted { matched, suspect } => fields!(out, 5, matched, suspect),
            Self::AppendRejected { refused, hint_index, hint_term, suspect } => {
                fields!(out, 6, refused, hint_index, hint_term, suspect);
            }
            Self::Heartbeat { commit, round } => fields!(out, 7, commit, round),
            Self::HeartbeatReply { round, suspect } => fields!(out, 8, round, suspect),
            Self::Restore { suspect, index } => fields!(out, 9, suspect, index),
            Self::TimeoutNow => out.u8(10),
            Self::Snapshot { last_index, last_term, membership, data } => {
                fields!(out, 11, last_index, last_term, membership);
                out.bytes(data);
            }
            Self::SnapshotReply { last_index, accepted, suspect } => {
                fields!(out, 12, last_index, accepted, suspect);
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8()? {
            0 => {
                Self::PreVote { last_index: Wire::decode(input)?, last_term: Wire::decode(input)? }
            }
            1 => Self::PreVoteReply { granted: Wire::decode(input)? },
            2 => Self::Vote {
                last_index: Wire::decode(input)?,
                last_term: Wire::decode(input)?,
                transfer: Wire::decode(input)?,
            },
            3 => Self::VoteReply { granted: Wire::decode(input)? },
            4 => {
                let (prev_index, prev_term) = (Wire::decode(input)?, Wire::decode(input)?);
                let commit = Wire::decode(input)?;
                let entries = input.list("entries", ENTRIES_PER_APPEND_MAX)?;
                Self::Append { prev_index, prev_term, entries, commit }
            }
            5 => Self::AppendAccepted {
                matched: Wire::decode(input)?,
                suspect: Wire::decode(input)?,
            },
            6 => Self::AppendRejected {
                refused: Wire::decode(input)?,
                hint_index: Wire::decode(input)?,
                hint_term: Wire::decode(input)?,
                suspect: Wire::decode(input)?,
            },
            7 => Self::Heartbeat { commit: Wire::decode(input)?, round: Wire::decode(input)? },
            8 => {
                Self::HeartbeatReply { round: Wire::decode(input)?, suspect: Wire::decode(input)? }
            }
            9 => Self::Restore { suspect: Wire::decode(input)?, index: Wire::decode(input)? },
            10 => Self::TimeoutNow,
            11 => Self::Snapshot {
                last_index: Wire::decode(input)?,
                last_term: Wire::decode(input)?,
                membership: Wire::decode(input)?,
                data: input.bytes("snapshot", SNAPSHOT_BYTES_MAX)?,
            },
            12 => Self::SnapshotReply {
                last_index: Wire::decode(input)?,
                accepted: Wire::decode(input)?,
                suspect: Wire::decode(input)?,
            },
            tag => return Err(DecodeError::Tag { what: "consensus message", tag }),
        })
    }
}
