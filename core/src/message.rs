//! Messages between stores and gateways. In one process they are passed as values; between
//! processes `wire` puts them into frames. Every message about metadata is range-addressed.

use core::fmt;

use bytes::Bytes;

use crate::consensus;
use crate::hash::Checksum;
use crate::ids::{
    CallId, ChunkId, ClusterId, Endpoint, GatewayId, Incarnation, MapEpoch, RangeEpoch, RangeId,
    SessionId, StoreId,
};
use crate::object::Target;
use crate::range::command::{Command, Outcome, Read, ReadReply};
use crate::storage::Durable;
use crate::time::WallTime;

/// A message with its sender and receiver.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Sender.
    pub from: Endpoint,
    /// Receiver.
    pub to: Endpoint,
    /// What it says.
    pub message: Message,
}

/// What one party says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first message on a link.
    Hello(Hello),
    /// Consensus traffic of all the ranges that two stores share.
    Consensus {
        /// The sender's wall clock, for the range clocks.
        wall: WallTime,
        /// Messages by range.
        messages: Vec<(RangeId, consensus::Message)>,
    },
    /// A gateway asks a range.
    RangeCall(RangeCall),
    /// The range answers.
    RangeAnswer(RangeAnswer),
    /// Keep a chunk.
    ChunkWrite(ChunkWrite),
    /// What came of it.
    ChunkWritten(ChunkWritten),
    /// Read from a chunk.
    ChunkRead(ChunkRead),
    /// What was read.
    ChunkData(ChunkData),
}

/// Who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Must be the receiver's own.
    pub cluster: ClusterId,
    /// Of the messages that follow.
    pub protocol: u16,
    /// Which life of the sender.
    pub incarnation: Incarnation,
    /// The highest journal position that the sender knows to be synced (0 for a gateway). Peers
    /// keep the highest that they have heard; a start below it is a restored old image.
    pub synced: u64,
}

/// A gateway asks a range. Any replica takes it, and passes it on to the leader, one hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeCall {
    /// Names the call at its gateway.
    pub call: CallId,
    /// The gateway, to whom the answer goes in the end.
    pub origin: GatewayId,
    /// Under which session.
    pub session: SessionId,
    /// Which range...
    pub range: RangeId,
    /// ...with which bounds.
    pub epoch: RangeEpoch,
    /// Whether a replica has passed it on; it is not passed on twice.
    pub forwarded: bool,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Put a command into the log and answer when it is applied.
    /// Boxed because it is much larger than all else that messages hold by value.
    Command(Box<Command>),
    /// Read, no older than the moment at which the call arrives at the leader.
    Read(Read),
    /// The session lives. To the root range.
    Beat,
}

/// The range answers, by way of the replica that passed the call on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeAnswer {
    /// The call.
    pub call: CallId,
    /// Whose call.
    pub origin: GatewayId,
    /// Which range.
    pub range: RangeId,
    /// What came of it.
    pub result: Result<Answer, Refusal>,
}

/// A range's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The command was applied.
    Applied(Outcome),
    /// What was read.
    Read(ReadReply),
    /// Whether the session is live.
    Beat {
        /// If not, it is fenced: the gateway ends its requests and opens another.
        live: bool,
        /// Of the cluster map: a gateway that knows an older one reads the directory.
        map: MapEpoch,
    },
}

/// Why a range did not take a call. Commands are then *not* in the log of the refusing replica, but
/// for `Interrupted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This replica does not lead.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<StoreId>,
    },
    /// The call's range epoch is not the present one.
    StaleEpoch {
        /// The present one.
        current: RangeEpoch,
    },
    /// Leadership was lost with the call in hand: it may take effect or not. Ask again.
    Interrupted,
    /// A queue is full. Ask again later.
    Overloaded,
    /// The session that reads or beats is not live.
    Fenced,
    /// The journal or the disk is full: nothing new is taken.
    Full,
}

/// Keep a chunk. One store per zone gets it.
#[derive(Clone, PartialEq, Eq)]
pub struct ChunkWrite {
    /// Names the call at its gateway.
    pub call: CallId,
    /// Which chunk; its session is the gateway's.
    pub chunk: ChunkId,
    /// Whose blob it is, so that a store can ask the owner range about it.
    pub owner: Target,
    /// The map under which the receiver was chosen.
    pub epoch: MapEpoch,
    /// Bytes of each block but the last.
    pub block_size: u32,
    /// The bytes.
    pub data: Bytes,
    /// One checksum for each block, seeded with what it is ([`Checksum::of_block`]).
    pub checksums: Vec<Checksum>,
}

impl fmt::Debug for ChunkWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkWrite({} {} {} bytes)", self.call, self.chunk, self.data.len())
    }
}

/// What came of a [`ChunkWrite`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkWritten {
    /// The call.
    pub call: CallId,
    /// The chunk.
    pub chunk: ChunkId,
    /// Who answers.
    pub store: StoreId,
    result: Result<(), ChunkError>,
}

impl ChunkWritten {
    /// The chunk is on stable storage. `_durable` proves it: only the storage layer can make one.
    pub fn stored(call: CallId, chunk: ChunkId, store: StoreId, _durable: &Durable) -> Self {
        Self { call, chunk, store, result: Ok(()) }
    }

    /// The chunk is not kept.
    pub fn refused(call: CallId, chunk: ChunkId, store: StoreId, error: ChunkError) -> Self {
        Self { call, chunk, store, result: Err(error) }
    }

    /// For the wire: what a peer said.
    pub(crate) fn received(
        call: CallId,
        chunk: ChunkId,
        store: StoreId,
        result: Result<(), ChunkError>,
    ) -> Self {
        Self { call, chunk, store, result }
    }

    /// Whether the chunk is on stable storage there, or why not.
    pub fn result(&self) -> &Result<(), ChunkError> {
        &self.result
    }
}

/// Read whole blocks of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRead {
    /// Names the call at its gateway.
    pub call: CallId,
    /// Under which session.
    pub session: SessionId,
    /// Which chunk.
    pub chunk: ChunkId,
    /// First block.
    pub first_block: u32,
    /// How many blocks, at least one.
    pub blocks: u32,
}

/// What was read. The receiver verifies each block.
#[derive(Clone, PartialEq, Eq)]
pub struct ChunkData {
    /// The call.
    pub call: CallId,
    /// The chunk.
    pub chunk: ChunkId,
    /// Who answers.
    pub store: StoreId,
    /// The bytes of the blocks, and their checksums as they were written.
    pub result: Result<(Bytes, Vec<Checksum>), ChunkError>,
}

impl fmt::Debug for ChunkData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok((bytes, _)) => {
                write!(f, "ChunkData({} {} {} bytes)", self.call, self.chunk, bytes.len())
            }
            Err(error) => write!(f, "ChunkData({} {} {error:?})", self.call, self.chunk),
        }
    }
}

/// Why a store does not keep or give a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// It does not have it.
    Missing,
    /// It has it, and it does not verify.
    Damaged,
    /// The disk failed to read it.
    Io,
    /// No space for new data.
    Full,
    /// Too much in hand; later.
    Overloaded,
    /// Another chunk of that id is there, with other bytes; or the request contradicts itself.
    Invalid,
}
