//! Chunks: kept and given back by the storage layer; here is who asked.
//!
//! Gateways write and read; other stores pull whole copies, and auditors have copies checked.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::gate::GatewayCall;
use super::observe::Observation;
use super::serving::Host;
use crate::cluster::ROOT_RANGE;
use crate::disk::Room;
use crate::effects::Effects;
use crate::hash::Checksum;
use crate::ids::{BlobId, CallId, ChunkId, Endpoint};
use crate::message::{
    ChunkAsk, ChunkChecked, ChunkData, ChunkError, ChunkPulled, ChunkRead, ChunkWrite,
    ChunkWritten, Message,
};
use crate::storage::{Durable, Look, Looked};

/// Chunk calls in hand, each of at most one chunk; beyond it calls are refused as overloaded. Their
/// bytes have a limit of their own (`StoreLimits::chunk_bytes_max`).
const CALLS_MAX: usize = 4096;

/// Whole copies being read for others; beyond it they are refused as overloaded, so that repair does
/// not crowd out gateways.
const LOOKS_MAX: usize = 16;

/// Chunk calls in hand.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    next_op: u64,
    writes: BTreeMap<u64, Asked>,
    reads: BTreeMap<u64, Asked>,
    /// Copies that are read whole, for another store or an auditor.
    looks: BTreeMap<u64, (Asked, Look)>,
}

#[derive(Debug)]
struct Asked {
    by: Endpoint,
    call: CallId,
    chunk: ChunkId,
}

impl Chunks {
    /// Take a gateway's call.
    pub(super) fn call(
        &mut self,
        from: Endpoint,
        call: GatewayCall,
        replace: bool,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        match call {
            GatewayCall::Write(write) => self.write(from, write, replace, host, fx),
            GatewayCall::Read(read) => self.read(from, read, host, fx),
        }
    }

    /// Refuse a gateway's call.
    pub(super) fn refuse(
        from: Endpoint,
        call: &GatewayCall,
        error: ChunkError,
        host: &Host,
        fx: &mut Effects,
    ) {
        let store = host.config.store;
        let message = match call {
            GatewayCall::Write(write) => {
                Message::ChunkWritten(ChunkWritten::refused(write.call, write.chunk, store, error))
            }
            GatewayCall::Read(ChunkRead { call, chunk, .. }) => Message::ChunkData(ChunkData {
                call: *call,
                chunk: *chunk,
                store,
                result: Err(error),
            }),
        };
        host.send(from, message, fx);
    }

    /// Keep a chunk. `replace`: the copy that is here is known not to verify.
    fn write(
        &mut self,
        from: Endpoint,
        write: ChunkWrite,
        replace: bool,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let (call, chunk) = (write.call, write.chunk);
        if self.writes.len() + self.reads.len() >= CALLS_MAX || buggify!(WriteRefused, hot) {
            let refused =
                ChunkWritten::refused(call, chunk, host.config.store, ChunkError::Overloaded);
            return host.send(from, Message::ChunkWritten(refused), fx);
        }
        if host.room() < Room::Data {
            let why = match host.storage.room() {
                // The journal is full, and is given back as rows are written out.
                Room::Data => ChunkError::Overloaded,
                Room::Deletes | Room::Housekeeping => ChunkError::Full,
            };
            let refused = ChunkWritten::refused(call, chunk, host.config.store, why);
            return host.send(from, Message::ChunkWritten(refused), fx);
        }
        let op = self.next_op();
        self.writes.insert(op, Asked { by: from, call, chunk });
        host.storage.write_chunk(op, &write, replace, fx);
    }

    /// Read from a chunk.
    fn read(&mut self, from: Endpoint, read: ChunkRead, host: &mut Host, fx: &mut Effects) {
        let (call, chunk) = (read.call, read.chunk);
        if self.writes.len() + self.reads.len() >= CALLS_MAX || buggify!(ReadRefused, hot) {
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
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let Asked { by, call, chunk } =
            self.writes.remove(&op).expect("storage ends each write once");
        let store = host.config.store;
        if result.is_ok() {
            host.observer.note(ROOT_RANGE, || Observation::Kept { chunk });
        }
        let written = match result {
            Ok(durable) => ChunkWritten::stored(call, chunk, store, &durable),
            Err(error) => ChunkWritten::refused(call, chunk, store, error),
        };
        host.send(by, Message::ChunkWritten(written), fx);
    }

    /// Give a whole copy to another store ([`Look::Copy`]), or check it ([`Look::Check`]).
    pub(super) fn look(
        &mut self,
        from: Endpoint,
        ask: &ChunkAsk,
        how: Look,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let asked = Asked { by: from, call: ask.call, chunk: ask.chunk };
        if self.looks.len() >= LOOKS_MAX || buggify!(LookRefused) {
            return answer_look(&asked, how, Err(ChunkError::Overloaded), host, fx);
        }
        let op = self.next_op();
        self.looks.insert(op, (asked, how));
        host.storage.look_at_chunk(op, ask.chunk, how, fx);
    }

    /// A look has ended. The chunk, if its copy is not sound.
    pub(super) fn looked(
        &mut self,
        op: u64,
        result: Result<Looked, ChunkError>,
        host: &Host,
        fx: &mut Effects,
    ) -> Option<ChunkId> {
        let (asked, how) = self.looks.remove(&op).expect("storage ends each look once");
        let unsound = is_unsound(result.as_ref().err()).then_some(asked.chunk);
        answer_look(&asked, how, result, host, fx);
        unsound
    }

    /// A read has ended. The chunk, if its copy is not sound.
    pub(super) fn was_read(
        &mut self,
        op: u64,
        result: Result<(Bytes, Vec<Checksum>), ChunkError>,
        host: &Host,
        fx: &mut Effects,
    ) -> Option<ChunkId> {
        let Asked { by, call, chunk } =
            self.reads.remove(&op).expect("storage ends each read once");
        let unsound = is_unsound(result.as_ref().err()).then_some(chunk);
        let data = ChunkData { call, chunk, store: host.config.store, result };
        host.send(by, Message::ChunkData(data), fx);
        unsound
    }

    /// Whether a chunk of a blob is being written.
    pub(super) fn is_written(&self, blob: BlobId) -> bool {
        self.writes.values().any(|write| write.chunk.blob == blob)
    }

    fn next_op(&mut self) -> u64 {
        self.next_op += 1;
        self.next_op
    }

    pub(super) fn check(&self) {
        assert!(self.writes.len() + self.reads.len() <= CALLS_MAX);
        assert!(self.looks.len() <= LOOKS_MAX);
    }

    pub(super) fn status(&self) -> String {
        format!("chunks w{} r{} l{}", self.writes.len(), self.reads.len(), self.looks.len())
    }
}

/// Whether an error says that there is a copy, and that it is not sound.
fn is_unsound(error: Option<&ChunkError>) -> bool {
    matches!(error, Some(ChunkError::Damaged | ChunkError::Io))
}

fn answer_look(
    asked: &Asked,
    how: Look,
    result: Result<Looked, ChunkError>,
    host: &Host,
    fx: &mut Effects,
) {
    let Asked { by, call, chunk } = *asked;
    let store = host.config.store;
    let message = match how {
        Look::Copy => {
            let result = result.map(|looked| match looked {
                Looked::Copied(copy) => copy,
                _ => unreachable!("storage gives what it was asked for"),
            });
            let directory = host.directory.version();
            Message::ChunkPulled(ChunkPulled { call, chunk, store, directory, result })
        }
        Look::Check => {
            let result = result.map(|looked| match looked {
                Looked::Checked(summary) => summary,
                _ => unreachable!("storage gives what it was asked for"),
            });
            Message::ChunkChecked(ChunkChecked { call, chunk, store, result })
        }
        Look::Index | Look::Owner | Look::Prove => unreachable!("no peer asks for that"),
    };
    host.send(by, message, fx);
}
