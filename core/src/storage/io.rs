//! How the parts of a store use its disk: tokens for effects, and syncs that are shared.
//!
//! A part keeps a map from its tokens and tickets to what they are for. Each completion is offered
//! to the part that owns it. One sync is in flight at a time; whoever asks meanwhile shares the
//! next. This is group commit for journal, chunks and tree at once, and the only place where
//! [`Durable`] is made.

use bytes::Bytes;

use super::durable::Durable;
use crate::disk::{DiskOp, SECTOR};
use crate::effects::Effects;
use crate::ids::DiskToken;

/// A request that everything written (and completed) so far be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SyncTicket(u64);

/// Numbers disk effects and shares syncs.
#[derive(Debug, Default)]
pub(crate) struct DiskQueue {
    next_token: u64,
    next_ticket: u64,
    in_flight: Option<(DiskToken, Vec<SyncTicket>)>,
    waiting: Vec<SyncTicket>,
    /// Bytes of all writes so far.
    written_bytes: u64,
}

impl DiskQueue {
    /// Whether `token` is the sync in flight.
    pub(crate) fn is_sync(&self, token: DiskToken) -> bool {
        self.in_flight.as_ref().is_some_and(|(in_flight, _)| *in_flight == token)
    }

    /// If `token` is the sync in flight: which requests it fulfils, and the proof. Starts the next.
    pub(crate) fn synced(
        &mut self,
        token: DiskToken,
        fx: &mut Effects,
    ) -> Option<(Vec<SyncTicket>, Durable)> {
        let (_, tickets) = self.in_flight.take_if(|(in_flight, _)| *in_flight == token)?;
        self.start_sync(fx);
        Some((tickets, Durable::by_completed_sync()))
    }

    /// Bytes of all writes so far.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    fn token(&mut self) -> DiskToken {
        self.next_token += 1;
        DiskToken(self.next_token)
    }

    fn start_sync(&mut self, fx: &mut Effects) {
        if self.in_flight.is_none() && !self.waiting.is_empty() {
            let token = self.token();
            self.in_flight = Some((token, core::mem::take(&mut self.waiting)));
            fx.disk(token, DiskOp::Sync);
        }
    }
}

/// A part's access to the disk during one step.
#[derive(Debug)]
pub(crate) struct Io<'a> {
    /// The store's queue.
    pub(crate) queue: &'a mut DiskQueue,
    /// Where effects go.
    pub(crate) fx: &'a mut Effects,
}

impl Io<'_> {
    /// Start a read.
    pub(crate) fn read(&mut self, offset: u64, len: u64) -> DiskToken {
        assert!(offset.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR) && len > 0);
        let token = self.queue.token();
        self.fx.disk(token, DiskOp::Read { offset, len });
        token
    }

    /// Start a write.
    pub(crate) fn write(&mut self, offset: u64, parts: Vec<Bytes>) -> DiskToken {
        let len: usize = parts.iter().map(Bytes::len).sum();
        assert!(offset.is_multiple_of(SECTOR) && (len as u64).is_multiple_of(SECTOR) && len > 0);
        self.queue.written_bytes += len as u64;
        let token = self.queue.token();
        self.fx.disk(token, DiskOp::Write { offset, parts });
        token
    }

    /// Say that a span is not needed any more.
    pub(crate) fn trim(&mut self, offset: u64, len: u64) -> DiskToken {
        assert!(offset.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR) && len > 0);
        let token = self.queue.token();
        self.fx.disk(token, DiskOp::Trim { offset, len });
        token
    }

    /// Have everything durable whose write has completed. To be asked after the completion of the
    /// writes in question, not when they are started.
    pub(crate) fn sync(&mut self) -> SyncTicket {
        self.queue.next_ticket += 1;
        let ticket = SyncTicket(self.queue.next_ticket);
        if planted!(SyncSharedTooEarly)
            && let Some((_, tickets)) = &mut self.queue.in_flight
        {
            tickets.push(ticket);
            return ticket;
        }
        self.queue.waiting.push(ticket);
        self.queue.start_sync(self.fx);
        ticket
    }
}
