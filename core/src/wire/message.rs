//! The bytes of each kind of message.

use bytes::Bytes;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::hash::Checksum;
use crate::ids::StoreId;
use crate::message::{
    Answer, Ask, ChunkData, ChunkError, ChunkRead, ChunkWrite, ChunkWritten, Hello, LIVES_MAX,
    Message, Pulse, RangeAnswer, RangeCall, Refusal, SnapshotGiven, Vitals,
};
use crate::time::{Duration, Instant, WallTime};

/// Consensus messages in one frame.
const CONSENSUS_MESSAGES_MAX: usize = 65_536;
/// Blocks of one chunk.
pub(super) const BLOCKS_MAX: usize = 1024;

const HELLO: u8 = 1;
const CONSENSUS: u8 = 2;
const RANGE_CALL: u8 = 3;
const RANGE_ANSWER: u8 = 4;
const CHUNK_WRITE: u8 = 5;
const CHUNK_WRITTEN: u8 = 6;
const CHUNK_READ: u8 = 7;
const CHUNK_DATA: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
pub(super) const DIRECTORY_ASK: u8 = 11;
pub(super) const DIRECTORY_ANSWER: u8 = 12;
pub(super) const CHUNK_PULL: u8 = 13;
pub(super) const CHUNK_PULLED: u8 = 14;
pub(super) const CHUNK_REPAIR: u8 = 15;
pub(super) const CHUNK_CHECK: u8 = 16;
pub(super) const CHUNK_CHECKED: u8 = 17;
pub(super) const INVENTORY_ASK: u8 = 18;
pub(super) const INVENTORY_ANSWER: u8 = 19;
const SNAPSHOT_ASK: u8 = 20;
const SNAPSHOT_PAGE: u8 = 21;
pub(super) const BLOB_ASK: u8 = 22;
pub(super) const BLOB_ANSWER: u8 = 23;
pub(super) const BLOB_FREE: u8 = 24;
pub(super) const BLOB_FREED: u8 = 25;
pub(super) const BLOBS_LEFT: u8 = 26;
pub(super) const MAP_PROVEN: u8 = 27;

/// The kind byte of a message, and its bulk.
pub(super) fn kind_and_bulk(message: &Message) -> (u8, Bytes) {
    match message {
        Message::Hello(_) => (HELLO, Bytes::new()),
        Message::Consensus { .. } => (CONSENSUS, Bytes::new()),
        Message::RangeCall(_) => (RANGE_CALL, Bytes::new()),
        Message::RangeAnswer(_) => (RANGE_ANSWER, Bytes::new()),
        Message::ChunkWrite(write) => (CHUNK_WRITE, write.data.clone()),
        Message::ChunkWritten(_) => (CHUNK_WRITTEN, Bytes::new()),
        Message::ChunkRead(_) => (CHUNK_READ, Bytes::new()),
        Message::ChunkData(data) => {
            let bulk = data.result.as_ref().map(|(bytes, _)| bytes.clone()).unwrap_or_default();
            (CHUNK_DATA, bulk)
        }
        Message::SnapshotAsk(_) => (SNAPSHOT_ASK, Bytes::new()),
        Message::SnapshotPage(page) => match &page.given {
            SnapshotGiven::Rows { rows, .. } => (SNAPSHOT_PAGE, rows.clone()),
            SnapshotGiven::State { .. } | SnapshotGiven::Gone { .. } => {
                (SNAPSHOT_PAGE, Bytes::new())
            }
        },
        Message::ChunkPulled(pulled) => {
            let bulk = pulled.result.as_ref().map(|copy| copy.data.clone()).unwrap_or_default();
            (CHUNK_PULLED, bulk)
        }
        Message::DirectoryAsk { .. } => (DIRECTORY_ASK, Bytes::new()),
        Message::DirectoryAnswer(_) => (DIRECTORY_ANSWER, Bytes::new()),
        Message::ChunkPull(_) => (CHUNK_PULL, Bytes::new()),
        Message::ChunkRepair(_) => (CHUNK_REPAIR, Bytes::new()),
        Message::ChunkCheck(_) => (CHUNK_CHECK, Bytes::new()),
        Message::ChunkChecked(_) => (CHUNK_CHECKED, Bytes::new()),
        Message::InventoryAsk(_) => (INVENTORY_ASK, Bytes::new()),
        Message::InventoryAnswer(_) => (INVENTORY_ANSWER, Bytes::new()),
        Message::BlobAsk(_) => (BLOB_ASK, Bytes::new()),
        Message::BlobAnswer(_) => (BLOB_ANSWER, Bytes::new()),
        Message::BlobFree(_) => (BLOB_FREE, Bytes::new()),
        Message::BlobFreed(_) => (BLOB_FREED, Bytes::new()),
        Message::BlobsLeft(_) => (BLOBS_LEFT, Bytes::new()),
        Message::MapProven { .. } => (MAP_PROVEN, Bytes::new()),
        Message::Ping(_) => (PING, Bytes::new()),
        Message::Pong(_) => (PONG, Bytes::new()),
    }
}

/// Everything of a message but its bulk.
pub(super) fn encode(message: &Message, out: &mut Encoder) {
    match message {
        Message::Hello(hello) => {
            hello.cluster.encode(out);
            hello.levels.encode(out);
            hello.level.encode(out);
            hello.life.encode(out);
            hello.began.encode(out);
            hello.doubted.encode(out);
            out.list(&hello.lives);
            hello.heard.encode(out);
            hello.wanted.encode(out);
            hello.beginning.encode(out);
        }
        Message::Consensus { wall, messages } => {
            out.u64(wall.as_millis());
            out.list(messages);
        }
        Message::RangeCall(call) => {
            call.call.encode(out);
            call.origin.encode(out);
            call.session.encode(out);
            call.range.encode(out);
            call.epoch.encode(out);
            call.forwarded.encode(out);
            encode_ask(&call.ask, out);
        }
        Message::RangeAnswer(answer) => {
            answer.call.encode(out);
            answer.origin.encode(out);
            answer.range.encode(out);
            answer.by.encode(out);
            match &answer.result {
                Ok(answer) => {
                    out.u8(0);
                    encode_answer(answer, out);
                }
                Err(refusal) => {
                    out.u8(1);
                    encode_refusal(refusal, out);
                }
            }
        }
        Message::ChunkWrite(write) => {
            write.call.encode(out);
            write.chunk.encode(out);
            write.owner.encode(out);
            write.epoch.encode(out);
            write.block_size.encode(out);
            out.list(&write.checksums);
        }
        Message::ChunkWritten(written) => {
            written.call.encode(out);
            written.chunk.encode(out);
            written.store.encode(out);
            encode_chunk_result(written.result(), out);
        }
        Message::ChunkRead(read) => {
            read.call.encode(out);
            read.session.encode(out);
            read.chunk.encode(out);
            read.first_block.encode(out);
            read.blocks.encode(out);
        }
        Message::ChunkData(data) => {
            data.call.encode(out);
            data.chunk.encode(out);
            data.store.encode(out);
            let checksums = data.result.as_ref().map(|(_, checksums)| checksums);
            encode_chunk_result(&checksums.map(|_| ()).map_err(|error| *error), out);
            if let Ok(checksums) = checksums {
                out.list(checksums);
            }
        }
        Message::SnapshotAsk(ask) => super::snapshot::encode_ask(ask, out),
        Message::SnapshotPage(page) => super::snapshot::encode_page(page, out),
        Message::Ping(pulse) | Message::Pong(pulse) => encode_pulse(pulse, out),
        Message::BlobAsk(_)
        | Message::BlobAnswer(_)
        | Message::BlobFree(_)
        | Message::BlobFreed(_)
        | Message::BlobsLeft(_) => super::reclaim::encode(message, out),
        repair => super::repair::encode(repair, out),
    }
}

/// A message of this kind.
pub(super) fn decode(
    kind: u8,
    input: &mut Decoder<'_>,
    bulk: Bytes,
) -> Result<Message, DecodeError> {
    let has_bulk = matches!(kind, CHUNK_WRITE | CHUNK_DATA | CHUNK_PULLED | SNAPSHOT_PAGE);
    if !has_bulk && !bulk.is_empty() {
        return Err(DecodeError::Invalid { what: "bulk of a message without any" });
    }
    Ok(match kind {
        HELLO => Message::Hello(Hello {
            cluster: Wire::decode(input)?,
            levels: Wire::decode(input)?,
            level: Wire::decode(input)?,
            life: Wire::decode(input)?,
            began: Wire::decode(input)?,
            doubted: Wire::decode(input)?,
            lives: input.list("lives", LIVES_MAX)?,
            heard: Wire::decode(input)?,
            wanted: Wire::decode(input)?,
            beginning: Wire::decode(input)?,
        }),
        CONSENSUS => Message::Consensus {
            wall: WallTime::from_millis(input.u64()?),
            messages: input.list("consensus messages", CONSENSUS_MESSAGES_MAX)?,
        },
        RANGE_CALL => Message::RangeCall(RangeCall {
            call: Wire::decode(input)?,
            origin: Wire::decode(input)?,
            session: Wire::decode(input)?,
            range: Wire::decode(input)?,
            epoch: Wire::decode(input)?,
            forwarded: Wire::decode(input)?,
            ask: decode_ask(input)?,
        }),
        RANGE_ANSWER => Message::RangeAnswer(RangeAnswer {
            call: Wire::decode(input)?,
            origin: Wire::decode(input)?,
            range: Wire::decode(input)?,
            by: Wire::decode(input)?,
            result: match input.u8()? {
                0 => Ok(decode_answer(input)?),
                1 => Err(decode_refusal(input)?),
                tag => return Err(DecodeError::Tag { what: "range answer", tag }),
            },
        }),
        CHUNK_WRITE => Message::ChunkWrite(ChunkWrite {
            call: Wire::decode(input)?,
            chunk: Wire::decode(input)?,
            owner: Wire::decode(input)?,
            epoch: Wire::decode(input)?,
            block_size: Wire::decode(input)?,
            checksums: input.list("block checksums", BLOCKS_MAX)?,
            data: bulk,
        }),
        CHUNK_WRITTEN => {
            let (call, chunk) = (Wire::decode(input)?, Wire::decode(input)?);
            let store: StoreId = Wire::decode(input)?;
            let result = decode_chunk_result(input)?;
            Message::ChunkWritten(ChunkWritten::received(call, chunk, store, result))
        }
        CHUNK_READ => Message::ChunkRead(ChunkRead {
            call: Wire::decode(input)?,
            session: Wire::decode(input)?,
            chunk: Wire::decode(input)?,
            first_block: Wire::decode(input)?,
            blocks: Wire::decode(input)?,
        }),
        CHUNK_DATA => Message::ChunkData(ChunkData {
            call: Wire::decode(input)?,
            chunk: Wire::decode(input)?,
            store: Wire::decode(input)?,
            result: match decode_chunk_result(input)? {
                Ok(()) => {
                    let checksums: Vec<Checksum> = input.list("block checksums", BLOCKS_MAX)?;
                    Ok((bulk, checksums))
                }
                Err(_) if !bulk.is_empty() => {
                    return Err(DecodeError::Invalid { what: "bulk of a failed read" });
                }
                Err(error) => Err(error),
            },
        }),
        SNAPSHOT_ASK => Message::SnapshotAsk(super::snapshot::decode_ask(input)?),
        SNAPSHOT_PAGE => Message::SnapshotPage(super::snapshot::decode_page(input, bulk)?),
        PING => Message::Ping(decode_pulse(input)?),
        PONG => Message::Pong(decode_pulse(input)?),
        BLOB_ASK..=BLOBS_LEFT => super::reclaim::decode(kind, input)?,
        kind => super::repair::decode(kind, input, bulk)?,
    })
}

fn encode_pulse(pulse: &Pulse, out: &mut Encoder) {
    let Pulse { sent, vitals: Vitals { heartbeat, reach, delay, full } } = pulse;
    out.u64(sent.as_nanos());
    out.u64(nanos(*heartbeat));
    // 0 stands for "unknown": whatever was measured took a nanosecond at least.
    for measured in [reach, delay] {
        out.u64(measured.map_or(0, |measured| nanos(measured).max(1)));
    }
    full.encode(out);
}

fn decode_pulse(input: &mut Decoder<'_>) -> Result<Pulse, DecodeError> {
    let sent = Instant::from_nanos(input.u64()?);
    let heartbeat = Duration::from_nanos(input.u64()?);
    let [reach, delay] =
        [input.u64()?, input.u64()?].map(|n| (n > 0).then(|| Duration::from_nanos(n)));
    let full = bool::decode(input)?;
    Ok(Pulse { sent, vitals: Vitals { heartbeat, reach, delay, full } })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn encode_ask(ask: &Ask, out: &mut Encoder) {
    match ask {
        Ask::Command(command) => {
            out.u8(0);
            command.encode(out);
        }
        Ask::Read(read) => {
            out.u8(1);
            read.encode(out);
        }
        Ask::Beat(report) => {
            out.u8(2);
            report.encode(out);
        }
    }
}

fn decode_ask(input: &mut Decoder<'_>) -> Result<Ask, DecodeError> {
    match input.u8()? {
        0 => Ok(Ask::Command(Box::new(Wire::decode(input)?))),
        1 => Ok(Ask::Read(Wire::decode(input)?)),
        2 => Ok(Ask::Beat(Wire::decode(input)?)),
        tag => Err(DecodeError::Tag { what: "range call", tag }),
    }
}

fn encode_answer(answer: &Answer, out: &mut Encoder) {
    match answer {
        Answer::Applied(outcome) => {
            out.u8(0);
            outcome.encode(out);
        }
        Answer::Read(reply) => {
            out.u8(1);
            reply.encode(out);
        }
        Answer::Beat { live, map, applied } => {
            out.u8(2);
            live.encode(out);
            map.encode(out);
            applied.encode(out);
        }
    }
}

fn decode_answer(input: &mut Decoder<'_>) -> Result<Answer, DecodeError> {
    match input.u8()? {
        0 => Ok(Answer::Applied(Wire::decode(input)?)),
        1 => Ok(Answer::Read(Wire::decode(input)?)),
        2 => Ok(Answer::Beat {
            live: Wire::decode(input)?,
            map: Wire::decode(input)?,
            applied: Wire::decode(input)?,
        }),
        tag => Err(DecodeError::Tag { what: "answer", tag }),
    }
}

fn encode_refusal(refusal: &Refusal, out: &mut Encoder) {
    match refusal {
        Refusal::NotLeader { leader } => {
            out.u8(0);
            leader.encode(out);
        }
        Refusal::StaleEpoch { current } => {
            out.u8(1);
            current.encode(out);
        }
        Refusal::Interrupted => out.u8(2),
        Refusal::Overloaded => out.u8(3),
        Refusal::Fenced => out.u8(4),
        Refusal::Full => out.u8(5),
    }
}

fn decode_refusal(input: &mut Decoder<'_>) -> Result<Refusal, DecodeError> {
    match input.u8()? {
        0 => Ok(Refusal::NotLeader { leader: Wire::decode(input)? }),
        1 => Ok(Refusal::StaleEpoch { current: Wire::decode(input)? }),
        2 => Ok(Refusal::Interrupted),
        3 => Ok(Refusal::Overloaded),
        4 => Ok(Refusal::Fenced),
        5 => Ok(Refusal::Full),
        tag => Err(DecodeError::Tag { what: "refusal", tag }),
    }
}

pub(super) fn encode_chunk_result(result: &Result<(), ChunkError>, out: &mut Encoder) {
    out.u8(match result {
        Ok(()) => 0,
        Err(ChunkError::Missing) => 1,
        Err(ChunkError::Damaged) => 2,
        Err(ChunkError::Io) => 3,
        Err(ChunkError::Full) => 4,
        Err(ChunkError::Overloaded) => 5,
        Err(ChunkError::Invalid) => 6,
        Err(ChunkError::Fenced) => 7,
        Err(ChunkError::Freed) => 8,
    });
}

pub(super) fn decode_chunk_result(
    input: &mut Decoder<'_>,
) -> Result<Result<(), ChunkError>, DecodeError> {
    Ok(match input.u8()? {
        0 => Ok(()),
        1 => Err(ChunkError::Missing),
        2 => Err(ChunkError::Damaged),
        3 => Err(ChunkError::Io),
        4 => Err(ChunkError::Full),
        5 => Err(ChunkError::Overloaded),
        6 => Err(ChunkError::Invalid),
        7 => Err(ChunkError::Fenced),
        8 => Err(ChunkError::Freed),
        tag => return Err(DecodeError::Tag { what: "chunk result", tag }),
    })
}
