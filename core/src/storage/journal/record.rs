//! What a journal frame carries: records, each with its own CRC-32, so that one can be read alone.

use bytes::Bytes;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::consensus::{Entry, EntryKind};
use crate::ids::{LogIndex, RangeId, StoreId, Term, counter};

/// Bytes of a record's header; the payload follows at once.
pub const RECORD_HEADER_BYTES: usize = field::END;

/// Bytes of the largest payload. Callers' batches are far below.
pub const PAYLOAD_BYTES_MAX: usize = super::FRAME_BYTES_MAX - 4096;

/// Offset of each field in a record's header. Each follows from the one before.
pub mod field {
    /// One byte: 1 hard state, 2 entry, 3 suspect, 4 trusted, 5 edit, 6 log start, 7 checkpoint,
    /// 8 entry again.
    pub const KIND: usize = 0;
    /// One byte. Of an entry (again): 0 empty, 1 command, 2 membership. Of a hard state: whether it has a
    /// vote. Else 0. Two zero bytes follow.
    pub const DETAIL: usize = KIND + 1;
    /// Four bytes: CRC-32 of store, journal position of the record (eight bytes each), all other
    /// bytes of the header, payload.
    pub const CRC: usize = DETAIL + 3;
    /// Eight bytes; 0 in an edit.
    pub const RANGE: usize = CRC + 4;
    /// Eight bytes: index of an entry (again) or log start, vote of a hard state, number of a suspicion, count of
    /// a checkpoint; else 0.
    pub const NUMBER: usize = RANGE + 8;
    /// Eight bytes: term of an entry (again), hard state or log start; in a checkpoint a journal position; else 0.
    pub const TERM: usize = NUMBER + 8;
    /// Four bytes: length of the payload; four zero bytes follow.
    pub const PAYLOAD: usize = TERM + 8;
    /// End of the header.
    pub const END: usize = PAYLOAD + 8;
}

/// One fact that the journal keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A replica's term and vote.
    HardState {
        /// Of which range.
        range: RangeId,
        /// The term.
        term: Term,
        /// Who got the vote in that term.
        vote: Option<StoreId>,
    },
    /// An entry of a range's log. At an index that exists, it replaces that entry and all after it.
    Entry {
        /// Of which range.
        range: RangeId,
        /// The entry.
        entry: Entry,
    },
    /// The log of a range may have lost what was acknowledged.
    Suspect {
        /// Which range.
        range: RangeId,
        /// Tells one life of the suspect replica from another.
        number: u64,
    },
    /// The range's log was repaired.
    Trusted {
        /// Which range.
        range: RangeId,
    },
    /// A change of segments or tables, in their own encoding.
    Edit(Bytes),
    /// The log of a range begins after this entry. Entries behind it count, if they continue it.
    LogStart {
        /// Of which range.
        range: RangeId,
        /// The entry.
        index: LogIndex,
        /// Its term.
        term: Term,
        /// The configuration in force there, in the encoding of consensus; empty if none is known.
        membership: Bytes,
    },
    /// A checkpoint: the records that follow say all that is known but for entries and chunk rows. They
    /// count together, once all of them are there.
    Checkpoint {
        /// How many follow.
        records: u64,
        /// The entries and chunk rows that they leave needed stand at this journal position or behind it.
        needed: u64,
    },
    /// An entry that the log has had for long, written once more so that the place where it stood can be
    /// used again. Unlike [`Self::Entry`] it replaces nothing.
    EntryAgain {
        /// Of which range.
        range: RangeId,
        /// The entry.
        entry: Entry,
    },
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Journal position of the record's header.
    pub position: u64,
    /// Bytes of header and payload.
    pub len: u32,
}

impl Location {
    /// The position behind the record.
    pub const fn end(self) -> u64 {
        self.position + self.len as u64
    }
}

impl Record {
    /// Bytes that follow the header.
    pub fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::Entry { entry, .. } | Self::EntryAgain { entry, .. } => Some(&entry.payload),
            Self::Edit(bytes) | Self::LogStart { membership: bytes, .. } => Some(bytes),
            Self::HardState { .. }
            | Self::Suspect { .. }
            | Self::Trusted { .. }
            | Self::Checkpoint { .. } => None,
        }
    }

    /// Bytes of header and payload.
    pub fn len_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.payload().map_or(0, Bytes::len)
    }

    /// Append the header (not the payload) as it stands at `position` of `store`'s journal.
    ///
    /// # Panics
    /// If the payload is over [`PAYLOAD_BYTES_MAX`].
    pub fn encode_header(&self, store: StoreId, position: u64, out: &mut Encoder) {
        let payload = self.payload().map_or(&[][..], |bytes| bytes);
        assert!(payload.len() <= PAYLOAD_BYTES_MAX, "callers keep a record under the limit");
        let start = out.len();
        let (kind, detail, range, number, term) = self.fields();
        out.u8(kind);
        out.u8(detail);
        out.u16(0);
        out.u32(0);
        out.u64(range.0);
        out.u64(number);
        out.u64(term.0);
        out.u32(u32::try_from(payload.len()).expect("limited above"));
        out.u32(0);
        assert_eq!(out.len() - start, RECORD_HEADER_BYTES);
        let crc = crc(store, position, &out.as_slice()[start..], payload);
        out.patch_u32(start + field::CRC, crc);
    }

    fn fields(&self) -> (u8, u8, RangeId, u64, Term) {
        match self {
            Self::HardState { range, term, vote } => {
                (1, vote.is_some().into(), *range, vote.map_or(0, |store| store.0), *term)
            }
            Self::Entry { range, entry } | Self::EntryAgain { range, entry } => {
                let detail = match entry.kind {
                    EntryKind::Empty => 0,
                    EntryKind::Command => 1,
                    EntryKind::Membership => 2,
                };
                let kind = if matches!(self, Self::Entry { .. }) { 2 } else { 8 };
                (kind, detail, *range, entry.index.0, entry.term)
            }
            Self::Suspect { range, number } => (3, 0, *range, *number, Term(0)),
            Self::Trusted { range } => (4, 0, *range, 0, Term(0)),
            Self::Edit(_) => (5, 0, RangeId(0), 0, Term(0)),
            Self::LogStart { range, index, term, .. } => (6, 0, *range, index.0, *term),
            Self::Checkpoint { records, needed } => (7, 0, RangeId(0), *records, Term(*needed)),
        }
    }

    /// Read the record that `bytes` begins with, and that stands at `position` of `store`'s
    /// journal. The payload is a handle on `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`]; a record in another place than where it was written fails its CRC.
    pub fn decode(store: StoreId, position: u64, bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(bytes);
        let (kind, detail, zero) = (input.u8()?, input.u8()?, input.u16()?);
        let stored_crc = input.u32()?;
        let (range, number, term) =
            (RangeId(input.u64()?), input.u64()?, Term::decode(&mut input)?);
        if kind != 1 {
            // A vote is for any store.
            counter("number of a record", number)?;
        }
        let payload_len = input.count("record payload", PAYLOAD_BYTES_MAX)?;
        let zero = u32::from(zero) | input.u32()?;
        let payload = input.raw(payload_len)?;
        if stored_crc != crc(store, position, &bytes[..RECORD_HEADER_BYTES], &payload) {
            return Err(DecodeError::Checksum { what: "record" });
        }
        let record = match (kind, detail) {
            (1, 0) => Self::HardState { range, term, vote: None },
            (1, 1) => Self::HardState { range, term, vote: Some(StoreId(number)) },
            (2 | 8, _) => {
                let entry_kind = match detail {
                    0 => EntryKind::Empty,
                    1 => EntryKind::Command,
                    2 => EntryKind::Membership,
                    tag => return Err(DecodeError::Tag { what: "entry kind", tag }),
                };
                let (index, payload) = (LogIndex(number), payload.clone());
                let entry = Entry { index, term, kind: entry_kind, payload };
                match kind {
                    2 => Self::Entry { range, entry },
                    _ => Self::EntryAgain { range, entry },
                }
            }
            (3, 0) => Self::Suspect { range, number },
            (4, 0) => Self::Trusted { range },
            (5, 0) => Self::Edit(payload.clone()),
            (6, 0) => {
                Self::LogStart { range, index: LogIndex(number), term, membership: payload.clone() }
            }
            (7, 0) => Self::Checkpoint { records: number, needed: term.0 },
            (tag, _) => return Err(DecodeError::Tag { what: "record kind", tag }),
        };
        // One meaning, one encoding: what is not used must be zero.
        let canonical = zero == 0
            && record.fields() == (kind, detail, range, number, term)
            && record.len_bytes() == RECORD_HEADER_BYTES + payload_len;
        if canonical { Ok(record) } else { Err(DecodeError::Invalid { what: "record" }) }
    }
}

fn crc(store: StoreId, position: u64, header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&store.0.to_le_bytes());
    hasher.update(&position.to_le_bytes());
    hasher.update(&header[..field::CRC]);
    hasher.update(&header[field::RANGE..]);
    hasher.update(payload);
    hasher.finalize()
}
