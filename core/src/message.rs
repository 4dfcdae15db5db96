//! Messages between stores and gateways. In one process they are passed as values; between
//! processes `wire` puts them into frames. Every message about metadata is range-addressed.

use core::fmt;

use bytes::Bytes;

use crate::codec::Wire;
use crate::consensus;
use crate::directory::Directory;
use crate::hash::{Checksum, StateHash, ValueHash};
use crate::ids::{
    BlobId, BlobSequence, CallId, ChunkId, ClusterId, DiskBirth, Endpoint, GatewayId, Incarnation,
    LogIndex, MapEpoch, RangeEpoch, RangeId, SessionId, StoreId, Term,
};
use crate::level::{self, Level, Levels};
use crate::object::{OwnedBlob, Target};
use crate::range::command::{Command, Outcome, Read, ReadReply};
use crate::storage::Durable;
use crate::time::{Duration, Instant, WallTime};

/// Chunk ids in one [`InventoryAnswer`]; what lies behind them is asked for next.
pub const INVENTORY_IDS_MAX: usize = 512;
/// Blobs in one [`BlobAsk`] or [`Message::BlobsLeft`].
pub const BLOBS_ASKED_MAX: usize = 64;
/// Blobs in one [`BlobFree`].
pub const BLOBS_FREED_MAX: usize = 256;
/// Blobs that one [`SessionReport`] may name as being read; reads of more count by their age.
pub const READING_MAX: usize = 4096;
/// Blobs that one [`SessionReport`] may name as being written.
pub const WRITING_MAX: usize = 65_536;
/// Sources that a [`ChunkRepair`] may name.
pub const REPAIR_SOURCES_MAX: usize = 16;

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
    /// Rows of a range's state, or that state itself, are wanted.
    SnapshotAsk(SnapshotAsk),
    /// Here they are.
    SnapshotPage(SnapshotPage),
    /// Give me the directory, if yours is newer. To a store.
    DirectoryAsk {
        /// The version that the sender has; 0 for none.
        have: LogIndex,
    },
    /// A voter's directory; `None` if it is no newer than what was asked with.
    DirectoryAnswer(Option<Box<Directory>>),
    /// Give me your copy of a chunk. Store to store.
    ChunkPull(ChunkAsk),
    /// The copy.
    ChunkPulled(ChunkPulled),
    /// See that you have a sound copy of a chunk. Answered by [`ChunkWritten`].
    ChunkRepair(ChunkRepair),
    /// Read your copy of a chunk from the disk and verify it.
    ChunkCheck(ChunkAsk),
    /// What the copy is.
    ChunkChecked(ChunkChecked),
    /// Do we have the same chunks?
    InventoryAsk(InventoryAsk),
    /// The same, or else which.
    InventoryAnswer(InventoryAnswer),
    /// Are these blobs referenced? A store asks the range that owns them; its leader answers.
    BlobAsk(BlobAsk),
    /// What the range says of them.
    BlobAnswer(BlobAnswer),
    /// Free these blobs: the leader of the range that owned them says so.
    BlobFree(BlobFree),
    /// What of them is freed.
    BlobFreed(BlobFreed),
    /// A gateway has given up writing these blobs.
    BlobsLeft(Vec<OwnedBlob>),
    /// The sender has compared with all owners, present and former, by the map of this epoch: it has all
    /// chunks that it keeps by that map and that were committed before it. To voters of the root range.
    MapProven {
        /// Which map.
        epoch: MapEpoch,
    },
    /// A store asks another for a sign of life.
    Ping(Pulse),
    /// Here it is.
    Pong(Pulse),
}

impl Message {
    /// The feature level that a build must speak to know what it means. (Entries of the log come as bytes, and
    /// are looked at where they are applied.)
    pub fn level(&self) -> Level {
        let directory = match self {
            Self::RangeCall(call) => match &call.ask {
                Ask::Command(command) => return command.body.gate(),
                _ => None,
            },
            Self::RangeAnswer(answer) => match &answer.result {
                Ok(Answer::Read(ReadReply::Directory(directory))) => directory.as_ref(),
                _ => None,
            },
            Self::DirectoryAnswer(directory) => directory.as_ref(),
            _ => None,
        };
        directory.map_or(level::FIRST, |directory| directory.map.level)
    }
}

/// What stores that share a range tell each other again and again, to measure round trips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// When the ping was sent, by the clock of its sender: nobody else can make use of it. A pong
    /// gives it back.
    pub sent: Instant,
    /// How the sender of this message is.
    pub vitals: Vitals,
}

/// How a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// Between two heartbeats of the ranges that it leads.
    pub heartbeat: Duration,
    /// What its round trips to peers hardly exceed; `None` if it has measured none.
    pub reach: Option<Duration>,
    /// How long its journal or its state machine takes for an entry; `None` if they have had none.
    pub delay: Option<Duration>,
    /// Whether its disk takes no new data.
    pub full: bool,
}

/// Who is there. The first message on a link; said again from time to time, and when asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Must be the receiver's own.
    pub cluster: ClusterId,
    /// The feature levels that the sender speaks.
    pub levels: Levels,
    /// The one that the cluster is at, as far as the sender knows.
    pub level: Option<Level>,
    /// Which life of the sender, and how far its journal is. Of a gateway only the incarnation counts.
    pub life: StoreMark,
    /// The journal position that this life began with (0 for a gateway).
    pub began: u64,
    /// The last life of the sender that began by distrusting its own disk. What peers remember of
    /// earlier lives is answered for by that; 0 if there was none.
    pub doubted: Incarnation,
    /// This life and those before it that the sender's disk remembers, newest first; at most
    /// [`LIVES_MAX`].
    pub lives: Vec<Life>,
    /// The last that the sender has heard of the receiver in this life of its own.
    pub heard: Option<StoreMark>,
    /// Whether the sender waits for the receiver's hello.
    pub wanted: bool,
    /// What the sender knows of the beginning of the cluster.
    pub beginning: Beginning,
}

/// What a store knows of the beginning of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing: a gateway, or a store that keeps chunks alone.
    #[default]
    Unknown,
    /// The sender is a first voter with a blank disk, which has promised nothing to anybody so far.
    /// With the births of the first voters' disks that it has heard of, its own among them.
    Blank(Vec<(StoreId, DiskBirth)>),
    /// The cluster has begun; with these disks of the first voters, or none if the sender does not
    /// know which.
    Begun(Vec<(StoreId, DiskBirth)>),
}

/// Lives of its own that a disk remembers.
pub const LIVES_MAX: usize = 16;

/// A life of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Which.
    pub incarnation: Incarnation,
    /// Drawn anew for each life. Two lives of one incarnation are a disk that was set back.
    pub nonce: u64,
}

/// How far a life of a store is known to have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreMark {
    /// Which life.
    pub incarnation: Incarnation,
    /// Drawn anew for each life. Two lives of one incarnation are a disk that was set back.
    pub nonce: u64,
    /// The highest journal position that it knew to be synced.
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
    /// The session lives, and what it has under way. To the root range.
    Beat(Box<SessionReport>),
}

/// What a gateway tells of its session with each beat, so that what nobody needs can be freed. Each
/// statement stays true for ever: a report that comes late is out of date, never wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionReport {
    /// Reads without an answer, and those to come, are answered from the state of this entry or a later
    /// one.
    pub reads_from: LogIndex,
    /// Blobs that reads still use which have their answer, ascending.
    pub reading: Vec<BlobId>,
    /// The session's next blob.
    pub next: BlobSequence,
    /// Blobs before that of which a chunk, a copy or a command is under way, ascending. All others are
    /// *closed*: nothing more is written of them, and no command will come that names them.
    pub writing: Vec<BlobSequence>,
    /// The cluster map that the gateway goes by.
    pub map: MapEpoch,
}

impl SessionReport {
    /// Whether nothing more comes of one of the session's blobs.
    pub fn is_closed(&self, sequence: BlobSequence) -> bool {
        sequence < self.next && self.writing.binary_search(&sequence).is_err()
    }

    /// Whether no read of the session uses a blob, or will, that died at `died`.
    pub fn has_done_with(&self, blob: BlobId, died: LogIndex) -> bool {
        died <= self.reads_from && self.reading.binary_search(&blob).is_err()
    }
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
    /// The replica that answers: the leader, unless it says that it does not lead.
    pub by: StoreId,
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
        /// Applied by the leader: whatever is read from now on is at least as new.
        applied: LogIndex,
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

/// Names the state of a range after some entry, as one store holds it for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotId {
    /// Who holds it.
    pub store: StoreId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Numbers the states that it held in that life: 1, 2, 3, …
    pub number: u64,
}

/// A state of a range that can be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// Which.
    pub snapshot: SnapshotId,
    /// The hash of all its logical rows.
    pub hash: StateHash,
    /// The holder has dropped tombstones of entries up to this one: who has an older state must take
    /// this one as a whole.
    pub bare: LogIndex,
}

/// One replica pulls from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotAsk {
    /// Of which range.
    pub range: RangeId,
    /// What is asked.
    pub want: SnapshotWant,
}

/// What a replica wants of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotWant {
    /// Its own state is lost, not its log: a state that is no older than this entry.
    State {
        /// The first entry of which it still has the log is the next one.
        at_least: LogIndex,
    },
    /// Rows of a state that was offered.
    Pages {
        /// Which state.
        snapshot: SnapshotId,
        /// Only rows that later entries wrote; 0 for all.
        newer_than: LogIndex,
        /// The number of the first page that is not taken yet; those before have been.
        page: u64,
        /// The first key that this page covers.
        from: Bytes,
        /// Pages that may be sent from this one on.
        window: u32,
        /// What was sent from this page on is taken for lost.
        again: bool,
    },
    /// No more of it is needed.
    Nothing {
        /// Which state.
        snapshot: SnapshotId,
    },
}

/// An answer to a [`SnapshotAsk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPage {
    /// Of which range.
    pub range: RangeId,
    /// What there is.
    pub given: SnapshotGiven,
}

/// What one replica gives another.
#[derive(Clone, PartialEq, Eq)]
pub enum SnapshotGiven {
    /// The state after `index` can be pulled. (To a replica that asked for a state; consensus offers
    /// states in messages of its own.)
    State {
        /// The entry.
        index: LogIndex,
        /// Its term.
        term: Term,
        /// The configuration at that entry, in the encoding of consensus.
        membership: Bytes,
        /// How to pull it.
        offer: SnapshotOffer,
    },
    /// All rows of an interval of keys.
    Rows {
        /// Of which state.
        snapshot: SnapshotId,
        /// The number of this page.
        page: u64,
        /// The interval begins with this key...
        from: Bytes,
        /// ...and ends before this one; `None`: there are no keys behind.
        to: Option<Bytes>,
        /// Of the rows' bytes, seeded with the number of the page.
        checksum: Checksum,
        /// The rows, encoded by [`SnapshotRow`]; the message's bulk.
        rows: Bytes,
    },
    /// The state is not held any more.
    Gone {
        /// Which.
        snapshot: SnapshotId,
    },
}

impl fmt::Debug for SnapshotGiven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { index, term, offer, .. } => {
                write!(f, "State({index} {term} {:?})", offer.snapshot)
            }
            Self::Rows { snapshot, page, rows, to, .. } => {
                let end = if to.is_none() { ", the last" } else { "" };
                write!(f, "Rows({snapshot:?} page {page}{end}, {} bytes)", rows.len())
            }
            Self::Gone { snapshot } => write!(f, "Gone({snapshot:?})"),
        }
    }
}

/// A row of a state; deleted ones are there too, so that who takes it can give it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// The key.
    pub key: Bytes,
    /// The entry that wrote it.
    pub index: LogIndex,
    /// The value; `None` is a deleted row.
    pub value: Option<Bytes>,
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
    /// The session is over: nothing is kept for it, and nothing given to it.
    Fenced,
    /// It had it, and has freed it, because its blob is dead.
    Freed,
}

/// Whether blobs are referenced. Answered by the leader of the range that owns them, after a
/// read-index round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobAsk {
    /// Names the question at its sender.
    pub call: CallId,
    /// Which.
    pub blobs: Vec<OwnedBlob>,
}

/// The answer to a [`BlobAsk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobAnswer {
    /// The question.
    pub call: CallId,
    /// What is said of the blobs; if nothing is, who leads the range, as far as is known.
    pub result: Result<BlobVerdicts, Option<StoreId>>,
}

/// What a range says of blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobVerdicts {
    /// Of the directory: whoever goes by these verdicts must know of at least that one, so that it refuses
    /// the sessions that they take for fenced.
    pub directory: LogIndex,
    /// The epoch of the cluster map, if it is proven and every live session goes by it: then a copy on a store
    /// that does not keep it by that map may go. Else 0.
    pub settled: MapEpoch,
    /// In the order of the question.
    pub verdicts: Vec<BlobVerdict>,
}

/// What a range says of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobVerdict {
    /// It is referenced.
    Live,
    /// It is not referenced, and may become so: its put is under way, as far as is known.
    Open,
    /// It is dead, and may be needed by a read yet. The range will have it freed.
    Dead,
    /// It is not referenced, never will be, and nobody reads it: it is to be freed.
    Gone,
}

/// Free all chunks of these blobs: none is referenced, none will be, and nobody reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobFree {
    /// Names the request at its sender.
    pub call: CallId,
    /// Of the directory: as in [`BlobVerdicts`].
    pub directory: LogIndex,
    /// Which.
    pub blobs: Vec<BlobId>,
}

/// The answer to a [`BlobFree`], when it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobFreed {
    /// The request.
    pub call: CallId,
    /// Those of which nothing is left; the others are in use, and to be freed later.
    pub blobs: Vec<BlobId>,
}

/// A store is asked about a chunk of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkAsk {
    /// Names the call at its sender.
    pub call: CallId,
    /// Which chunk.
    pub chunk: ChunkId,
}

/// A whole copy of a chunk, as it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct ChunkCopy {
    /// Whose blob it is.
    pub owner: Target,
    /// The map under which it was placed first.
    pub epoch: MapEpoch,
    /// Bytes of each block but the last.
    pub block_size: u32,
    /// The bytes.
    pub data: Bytes,
    /// One checksum for each block.
    pub checksums: Vec<Checksum>,
}

impl fmt::Debug for ChunkCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkCopy({} bytes)", self.data.len())
    }
}

/// A store gives its copy of a chunk to another. It has verified each block, and so does the taker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkPulled {
    /// The call.
    pub call: CallId,
    /// The chunk.
    pub chunk: ChunkId,
    /// Who answers.
    pub store: StoreId,
    /// The session directory that it goes by. To free a blob on its word, one must know that, too.
    pub directory: LogIndex,
    /// The copy, or why not.
    pub result: Result<ChunkCopy, ChunkError>,
}

/// A store is told that it should have a chunk. It verifies what it has; what is missing or damaged
/// it fetches. Answered as stored only when a verified copy is on stable storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRepair {
    /// Names the call at its sender; 0 for one that wants no answer.
    pub call: CallId,
    /// Which chunk.
    pub chunk: ChunkId,
    /// It is known to have been stored: that no copy can be found is worth telling then.
    pub existed: bool,
    /// Who is thought to have it, best first. Its owners by the map are asked besides.
    pub sources: Vec<StoreId>,
}

/// What a verified copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSummary {
    /// Bytes.
    pub length: u32,
    /// Over its block checksums: equal for equal copies.
    pub digest: Checksum,
}

/// What a store found when it read its copy from the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkChecked {
    /// The call.
    pub call: CallId,
    /// The chunk.
    pub chunk: ChunkId,
    /// Who answers.
    pub store: StoreId,
    /// What the copy is, or what is wrong with it.
    pub result: Result<ChunkSummary, ChunkError>,
}

/// The chunks of an interval that both sender and receiver have to keep by the map, as the sender has
/// them. It wants to know what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventoryAsk {
    /// Names the question.
    pub call: CallId,
    /// The map by which chunks belong to both.
    pub epoch: MapEpoch,
    /// The first id of the interval.
    pub from: ChunkId,
    /// The first id behind it; `None` for no end.
    pub to: Option<ChunkId>,
    /// How many chunks.
    pub count: u64,
    /// The sum of the hashes of their ids.
    pub digest: InventoryDigest,
}

/// The sum, modulo 2^128, of hashes of chunk ids: equal sets have equal sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InventoryDigest(pub u128);

impl InventoryDigest {
    /// Add a chunk.
    pub fn add(&mut self, chunk: ChunkId) {
        self.0 = self.0.wrapping_add(ValueHash::of(&chunk.to_bytes()).0);
    }
}

/// The answer to an [`InventoryAsk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventoryAnswer {
    /// The question.
    pub call: CallId,
    /// The answerer's map.
    pub epoch: MapEpoch,
    /// What it found.
    pub result: InventoryResult,
}

/// What a store has in an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InventoryResult {
    /// The same.
    Same,
    /// Something else: these and no others, in the interval up to `to`.
    Differs {
        /// The first id that is not covered; `None` if everything is.
        to: Option<ChunkId>,
        /// The chunks, ascending.
        chunks: Vec<ChunkId>,
    },
    /// It cannot say now: its map is another, or its index is not complete.
    NotNow,
}
