//! How far frames may go, piece by piece: so recovery need not search further.
//!
//! ```text
//! Idle → Zeroing (slice by slice) → Zeroed → Syncing → Raising (superblock) → Idle
//!   └────────────── behind the first round of the ring ──────────┘
//! ```
//!
//! In the first round pieces are pre-written, so that the sync of a frame changes no file metadata.
//! Later they hold frames of earlier rounds, which verify at no other position than their own.

use bytes::Bytes;

use crate::cluster::Geometry;
use crate::disk::SECTOR;
use crate::ids::DiskToken;
use crate::storage::io::{Io, SyncTicket};
use crate::storage::layout::journal_offset;
use crate::storage::superblock::SuperblockWriter;

/// Zeros are written in slices of this many bytes, one at a time, so that frames get their turn.
const SLICE_BYTES: u64 = 1 << 20;

/// The zeros; slices are made of handles on them.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How far frames may go, and the work to raise it.
#[derive(Debug)]
pub(super) struct Prepare {
    /// All below was written before, synced, and said so in the superblock.
    prepared: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    /// The write up to `at` is in flight.
    Zeroing {
        at: u64,
        token: DiskToken,
    },
    /// All below `at` is zeroed; there may be more of the piece.
    Zeroed {
        at: u64,
    },
    Syncing {
        ticket: SyncTicket,
    },
    Synced,
    /// The superblock of that sequence says so.
    Raising {
        sequence: u64,
    },
}

impl Prepare {
    pub(super) fn new(prepared: u64) -> Self {
        Self { prepared, state: State::Idle }
    }

    /// Frames may end here, and no further.
    pub(super) fn prepared(&self) -> u64 {
        self.prepared
    }

    /// Work on until half a piece beyond `needed` is ready, but not beyond `limit`, where the ring is
    /// still in use.
    pub(super) fn pump(
        &mut self,
        needed: u64,
        limit: u64,
        geometry: &Geometry,
        superblock: &mut SuperblockWriter,
        io: &mut Io<'_>,
    ) {
        if let State::Raising { sequence } = self.state
            && superblock.durable_sequence() >= sequence
        {
            self.prepared += geometry.journal_piece;
            self.state = State::Idle;
        }
        let end = self.prepared + geometry.journal_piece;
        let start = match self.state {
            State::Idle => {
                let wanted = needed.saturating_add(geometry.journal_piece / 2);
                let is_due = wanted > self.prepared && end <= limit;
                if is_due && end > geometry.journal {
                    let sequence = superblock.update(|superblock| superblock.prepared = end);
                    self.state = State::Raising { sequence };
                    return;
                }
                is_due.then_some(self.prepared)
            }
            State::Zeroed { at } if at < end => Some(at),
            State::Zeroed { .. } => {
                self.state = State::Syncing { ticket: io.sync() };
                None
            }
            State::Synced => {
                let sequence = superblock.update(|superblock| superblock.prepared = end);
                self.state = State::Raising { sequence };
                None
            }
            State::Zeroing { .. } | State::Syncing { .. } | State::Raising { .. } => None,
        };
        if let Some(start) = start {
            let len = SLICE_BYTES.min(end - start);
            let token = io.write(journal_offset(geometry, start), zeros(len));
            self.state = State::Zeroing { at: start + len, token };
        }
    }

    /// Whether `token` was the write in flight, which has completed.
    pub(super) fn on_written(&mut self, token: DiskToken) -> bool {
        match self.state {
            State::Zeroing { at, token: mine } if mine == token => {
                self.state = State::Zeroed { at };
                true
            }
            _ => false,
        }
    }

    /// Whether `ticket` was the sync in flight.
    pub(super) fn on_synced(&mut self, ticket: SyncTicket) -> bool {
        match self.state {
            State::Syncing { ticket: mine } if mine == ticket => {
                self.state = State::Synced;
                true
            }
            _ => false,
        }
    }
}

fn zeros(len: u64) -> Vec<Bytes> {
    assert!(len.is_multiple_of(SECTOR) && len <= SLICE_BYTES);
    let mut left = usize::try_from(len).expect("a slice is at most 1 MiB");
    let mut parts = Vec::new();
    while left > 0 {
        let part = left.min(ZEROS.len());
        parts.push(Bytes::from_static(&ZEROS[..part]));
        left -= part;
    }
    parts
}
