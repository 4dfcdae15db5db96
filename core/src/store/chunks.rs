//! Chunks: kept and given back by the storage layer; here is who asked.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::serving::Host;
use crate::effects::Effects;
use crate::hash::Checksum;
use crate::ids::{CallId, ChunkId, Endpoint};
use crate::message::{ChunkData, ChunkError, ChunkRead, ChunkWrite, ChunkWritten, Message};
use crate::storage::Durable;

/// Chunk calls in hand, each of at most one chunk; beyond it calls are refused as overloaded. Their
/// bytes have a limit of their own (`StoreLimits::chunk_bytes_max`).
const CALLS_MAX: usize = 4096;

/// Chunk calls in hand.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    next_op: u64,
    writes: BTreeMap<u64, Asked>,
    reads: BTreeMap<u64, Asked>,
}

#[derive(Debug)]
struct Asked {
    by: Endpoint,
    call: CallId,
    chunk: ChunkId,
}

impl Chunks {
    /// Keep a chunk.
    pub(super) fn write(
        &mut self,
        from: Endpoint,
        write: ChunkWrite,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let (call, chunk) = (write.call, write.chunk);
        if self.writes.len() + self.reads.len() >= CALLS_MAX {
            let refused =
                ChunkWritten::refused(call, chunk, host.config.store, ChunkError::Overloaded);
            return host.send(from, Message::ChunkWritten(refused), fx);
        }
        if host.journal_is_full() {
            // The chunk's index record would have no place.
            let refused = ChunkWritten::refused(call, chunk, host.config.store, ChunkError::Full);
            return host.send(from, Message::ChunkWritten(refused), fx);
        }
        let op = self.next_op();
        self.writes.insert(op, Asked { by: from, call, chunk });
        host.storage.write_chunk(op, &write, fx);
    }

    /// Read from a chunk.
    pub(super) fn read(
        &mut self,
        from: Endpoint,
        read: ChunkRead,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let (call, chunk) = (read.call, read.chunk);
        if self.writes.len() + self.reads.len() >= CALLS_MAX {
            let result = Err(ChunkError::Overloaded);
            let data = ChunkData { call, chunk, store: host.config.store, result };
            return host.send(from, Message::ChunkData(data), fx);
        }
        let op = self.next_op();
        self.reads.insert(op, Asked { by: from, call, chunk });
        host.storage.read_chunk(op, &read, fx);
    }

    /// A write has ended.
    pub(super) fn stored(
        &mut self,
        op: u64,
        result: Result<Durable, ChunkError>,
        host: &Host,
        fx: &mut Effects,
    ) {
        let Asked { by, call, chunk } =
            self.writes.remove(&op).expect("storage ends each write once");
        let store = host.config.store;
        let written = match result {
            Ok(durable) => ChunkWritten::stored(call, chunk, store, &durable),
            Err(error) => ChunkWritten::refused(call, chunk, store, error),
        };
        host.send(by, Message::ChunkWritten(written), fx);
    }

    /// A read has ended.
    pub(super) fn was_read(
        &mut self,
        op: u64,
        result: Result<(Bytes, Vec<Checksum>), ChunkError>,
        host: &Host,
        fx: &mut Effects,
    ) {
        let Asked { by, call, chunk } =
            self.reads.remove(&op).expect("storage ends each read once");
        let data = ChunkData { call, chunk, store: host.config.store, result };
        host.send(by, Message::ChunkData(data), fx);
    }

    fn next_op(&mut self) -> u64 {
        self.next_op += 1;
        self.next_op
    }

    pub(super) fn check(&self) {
        assert!(self.writes.len() + self.reads.len() <= CALLS_MAX);
    }

    pub(super) fn status(&self) -> String {
        format!("chunks w{} r{}", self.writes.len(), self.reads.len())
    }
}
