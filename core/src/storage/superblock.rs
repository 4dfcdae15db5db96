//! The superblock: whose disk this is, how it is laid out, how often it was started.
//!
//! Four copies, one sector each, far apart. An update writes two of them, syncs, writes the other
//! two, syncs: whatever a crash tears, a whole copy is left. The copies that are known to be worse
//! are written first. The valid copy with the highest sequence number counts.
//!
//! The superblock also keeps the journal's memory across a recovery: where it begins, how far it was
//! prepared, and how far it was known synced before the present life overwrote what could prove it.
//!
//! What a copy says must hold as long as that copy may be the best one that is left. So the space
//! before a new tail is used again only when the update with it is durable in all copies
//! (`SuperblockWriter::durable_sequence`); until then an older copy may send recovery to the older
//! tail, and finds all there.

use core::fmt;

use bytes::Bytes;

use super::durable::Durable;
use super::io::{Io, SyncTicket};
use super::layout::{self, JOURNAL_START, SUPERBLOCK_COPIES, superblock_offset};
use crate::cluster::{FOUNDERS_MAX, Geometry};
use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::disk::{DiskOutput, DiskResult, SECTOR};
use crate::hash::Checksum;
use crate::ids::{ChunkId, ClusterId, DiskBirth, DiskToken, Incarnation, StoreId, ZoneId, counter};
use crate::message::{LIVES_MAX, Life, StoreMark};
use crate::time::WallTime;

/// The newest format that this build reads, and the one that it writes. It stands for the whole
/// disk: whatever changes journal frames or segments raises it too.
pub const VERSION: u8 = 1;

/// The eight bytes that say what this is.
pub const MAGIC: [u8; 8] = *b"TRINEDSK";

/// Offset of each field in a copy. Each follows from the one before; the rest of the sector is zero.
/// Later versions keep `version`, `magic` and `checksum` where they are.
pub mod field {
    /// One byte; seven zero bytes follow.
    pub const VERSION: usize = 0;
    /// Eight bytes.
    pub const MAGIC: usize = VERSION + 8;
    /// Of all other bytes of the sector; seeded with the number of the copy.
    pub const CHECKSUM: usize = MAGIC + 8;
    /// Sixteen bytes.
    pub const CLUSTER: usize = CHECKSUM + 8;
    /// Eight bytes.
    pub const STORE: usize = CLUSTER + 16;
    /// One byte; seven zero bytes follow.
    pub const ZONE: usize = STORE + 8;
    /// Eight bytes.
    pub const SEQUENCE: usize = ZONE + 8;
    /// Eight bytes.
    pub const INCARNATION: usize = SEQUENCE + 8;
    /// Eight bytes.
    pub const CAPACITY: usize = INCARNATION + 8;
    /// Eight bytes.
    pub const JOURNAL: usize = CAPACITY + 8;
    /// Eight bytes.
    pub const JOURNAL_PIECE: usize = JOURNAL + 8;
    /// Eight bytes.
    pub const SEGMENT: usize = JOURNAL_PIECE + 8;
    /// Four bytes; four zero bytes follow.
    pub const TREE_BLOCK: usize = SEGMENT + 8;
    /// Eight bytes.
    pub const PREPARED: usize = TREE_BLOCK + 8;
    /// Eight bytes.
    pub const MARK_RECOVERY: usize = PREPARED + 8;
    /// Eight bytes.
    pub const MARK_SYNCED: usize = MARK_RECOVERY + 8;
    /// Eight bytes.
    pub const BIRTH: usize = MARK_SYNCED + 8;
    /// Three times eight bytes.
    pub const FOUNDERS: usize = BIRTH + 8;
    /// Eight bytes.
    pub const TAIL_POSITION: usize = FOUNDERS + 8 * crate::cluster::FOUNDERS_MAX;
    /// Eight bytes.
    pub const TAIL_PREVIOUS: usize = TAIL_POSITION + 8;
    /// Eight bytes.
    pub const TAIL_RECOVERY: usize = TAIL_PREVIOUS + 8;
    /// Eight bytes.
    pub const TAIL_RECOVERY_START: usize = TAIL_RECOVERY + 8;
    /// Eight bytes.
    pub const SCRUB_BEGAN: usize = TAIL_RECOVERY_START + 8;
    /// Four bytes: 1 if a pass is under way.
    pub const SCRUBBING: usize = SCRUB_BEGAN + 8;
    /// Twenty bytes.
    pub const SCRUB_AT: usize = SCRUBBING + 4;
    /// Thirty-two times 32 bytes: store, incarnation, nonce, synced position; zeros for none.
    pub const PEERS: usize = SCRUB_AT + 20;
    /// Sixteen times 16 bytes: incarnation, nonce; zeros for none.
    pub const LIVES: usize = PEERS + 32 * super::PEERS_MAX;
    /// End of the fields.
    pub const END: usize = LIVES + 16 * crate::message::LIVES_MAX;
}

/// Bytes of a copy.
const COPY_BYTES: usize = 4096;
const _: () = assert!(COPY_BYTES as u64 == SECTOR && field::END <= COPY_BYTES);

/// Somebody knew that all of the journal below a position was synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncedMark {
    /// Under which recovery number. A mark of a lower number than a valid frame's says nothing.
    pub recovery: u64,
    /// The journal position.
    pub synced: u64,
}

/// Where the journal begins: all before this frame is given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Position of the first frame.
    pub position: u64,
    /// Checksum of the frame before it; 0 at position 0.
    pub previous: Checksum,
    /// Recovery number of the frame before it; 0 at position 0.
    pub recovery: u64,
    /// Where that recovery had cut the journal.
    pub recovery_start: u64,
}

/// Peers whose marks a disk keeps; more are known only as long as the store runs.
pub const PEERS_MAX: usize = 32;

/// How far a peer was heard to be, so that it is noticed if its disk is set back, also by a store that was
/// started since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerMark {
    /// Which; 0 for none.
    pub store: StoreId,
    /// The furthest that was heard of it when this was written.
    pub mark: StoreMark,
}

/// How far scrubbing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubMark {
    /// When the last pass began, by the wall clock; 0 if none did.
    pub began: WallTime,
    /// All chunks before this one have been read in it; `None`: it has ended.
    pub at: Option<ChunkId>,
}

/// What a copy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The cluster that the store belongs to.
    pub cluster: ClusterId,
    /// The store.
    pub store: StoreId,
    /// Its zone.
    pub zone: ZoneId,
    /// Raised by each update.
    pub sequence: u64,
    /// Raised at each start.
    pub incarnation: Incarnation,
    /// The layout, fixed when the disk is formatted.
    pub geometry: Geometry,
    /// Journal position up to which frames may go; none reaches beyond.
    pub prepared: u64,
    /// What was known of the journal when this was written.
    pub mark: SyncedMark,
    /// Drawn when this disk was formatted, if it is a first voter's; else 0.
    pub birth: DiskBirth,
    /// The births of the disks that the cluster began with, in the order of the first map's voters. Zeros
    /// until this disk has learned of the beginning, or if it had no part in it.
    pub founders: [DiskBirth; FOUNDERS_MAX],
    /// Where the journal begins.
    pub tail: Tail,
    /// How far scrubbing has come.
    pub scrub: ScrubMark,
    /// How far peers were heard to be.
    pub peers: [PeerMark; PEERS_MAX],
    /// This life and those before it, newest first; zeros for none, also of those that a build has lived which did
    /// not write them down.
    pub lives: [Life; LIVES_MAX],
}

/// Why a single copy does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFault {
    /// All zeros: never written.
    Blank,
    /// Unreadable, or the checksum or a field is wrong.
    Damaged,
    /// A whole copy of a format that this build does not read.
    Version(u8),
}

/// Why a store must not start on this disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuperblockError {
    /// The disk belongs to somebody else.
    Foreign {
        /// Whose it is.
        found: (ClusterId, StoreId),
        /// Who wanted to use it.
        expected: (ClusterId, StoreId),
    },
    /// The disk has a format that this build does not read.
    Version {
        /// The disk's.
        found: u8,
    },
    /// Not empty, and no copy is whole.
    Damaged,
    /// A disk cannot be formatted like this.
    Geometry(Geometry),
}

impl fmt::Display for SuperblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { found, expected } => write!(
                f,
                "disk belongs to cluster={:032x} {}, configured are cluster={:032x} {}",
                found.0.0, found.1, expected.0.0, expected.1
            ),
            Self::Version { found } => {
                write!(f, "disk has format version {found}, this build reads up to {VERSION}")
            }
            Self::Damaged => f.write_str(
                "disk is not empty, and none of its 4 superblock copies is whole; \
                 replace the store under a new identity",
            ),
            Self::Geometry(geometry) => write!(
                f,
                "disk cannot be laid out: capacity={} journal={} piece={} segment={} block={}",
                geometry.capacity,
                geometry.journal,
                geometry.journal_piece,
                geometry.segment,
                geometry.tree_block
            ),
        }
    }
}

impl core::error::Error for SuperblockError {}

/// What was found on a disk that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one of them lives, for a moment, at each start")]
pub enum Found {
    /// Nothing at all: format it.
    Empty,
    /// A superblock.
    Valid {
        /// What counts.
        superblock: Superblock,
        /// Which copy says what; those that do not say the same are rewritten at the start.
        copies: [Result<Superblock, CopyFault>; SUPERBLOCK_COPIES],
    },
}

impl Superblock {
    /// For a disk that was found empty.
    ///
    /// # Errors
    /// [`SuperblockError::Geometry`] if the parts do not fit.
    pub fn format(
        cluster: ClusterId,
        store: StoreId,
        zone: ZoneId,
        geometry: Geometry,
    ) -> Result<Self, SuperblockError> {
        if !layout::is_sound(&geometry) {
            return Err(SuperblockError::Geometry(geometry));
        }
        let (sequence, incarnation, prepared) = (0, Incarnation(0), 0);
        let (mark, tail) = (SyncedMark::default(), Tail::default());
        let (birth, founders, scrub, peers, lives) = Default::default();
        Ok(Self {
            cluster,
            store,
            zone,
            sequence,
            incarnation,
            geometry,
            prepared,
            mark,
            birth,
            founders,
            scrub,
            peers,
            lives,
            tail,
        })
    }

    /// The bytes of one copy.
    pub fn encode(&self, copy: usize) -> Bytes {
        let mut out = Encoder::new();
        out.u64(VERSION.into());
        out.raw(&MAGIC);
        out.u64(0);
        out.u128(self.cluster.0);
        out.u64(self.store.0);
        out.u64(self.zone.0.into());
        out.u64(self.sequence);
        out.u64(self.incarnation.0);
        out.u64(self.geometry.capacity);
        out.u64(self.geometry.journal);
        out.u64(self.geometry.journal_piece);
        out.u64(self.geometry.segment);
        out.u64(self.geometry.tree_block.into());
        out.u64(self.prepared);
        out.u64(self.mark.recovery);
        out.u64(self.mark.synced);
        out.u64(self.birth.0);
        self.founders.iter().for_each(|birth| out.u64(birth.0));
        out.u64(self.tail.position);
        out.u64(self.tail.previous.0);
        out.u64(self.tail.recovery);
        out.u64(self.tail.recovery_start);
        out.u64(self.scrub.began.as_millis());
        out.u32(self.scrub.at.is_some().into());
        self.scrub.at.unwrap_or_default().encode(&mut out);
        for PeerMark { store, mark } in &self.peers {
            store.encode(&mut out);
            mark.encode(&mut out);
        }
        self.lives.iter().for_each(|life| life.encode(&mut out));
        assert_eq!(out.len(), field::END);
        out.pad_to(COPY_BYTES);
        let checksum = checksum(copy, out.as_slice());
        out.patch_u64(field::CHECKSUM, checksum.0);
        out.finish()
    }

    /// What the bytes of one copy say.
    ///
    /// # Errors
    /// [`CopyFault`].
    pub fn decode(copy: usize, bytes: &Bytes) -> Result<Self, CopyFault> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(CopyFault::Blank);
        }
        if bytes.len() != COPY_BYTES || bytes[field::MAGIC..field::CHECKSUM] != MAGIC {
            return Err(CopyFault::Damaged);
        }
        let stored = bytes.slice(field::CHECKSUM..field::CLUSTER);
        if Decoder::new(&stored).u64() != Ok(checksum(copy, bytes).0) {
            return Err(CopyFault::Damaged);
        }
        // Only now: a flipped bit in the version byte is damage, not another version.
        match bytes[field::VERSION] {
            VERSION => Self::decode_fields(bytes).map_err(|_| CopyFault::Damaged),
            version => Err(CopyFault::Version(version)),
        }
    }

    fn decode_fields(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(bytes);
        input.raw(field::CLUSTER)?;
        let superblock = Self {
            cluster: ClusterId(input.u128()?),
            store: StoreId(input.u64()?),
            zone: ZoneId(narrow(input.u64()?, "zone")?),
            sequence: input.u64()?,
            incarnation: Incarnation(input.u64()?),
            geometry: Geometry {
                capacity: input.u64()?,
                journal: input.u64()?,
                journal_piece: input.u64()?,
                segment: input.u64()?,
                tree_block: narrow(input.u64()?, "tree block")?,
            },
            prepared: input.u64()?,
            mark: SyncedMark { recovery: input.u64()?, synced: input.u64()? },
            birth: DiskBirth(input.u64()?),
            founders: [DiskBirth(input.u64()?), DiskBirth(input.u64()?), DiskBirth(input.u64()?)],
            tail: Tail {
                position: input.u64()?,
                previous: Checksum(input.u64()?),
                recovery: input.u64()?,
                recovery_start: input.u64()?,
            },
            scrub: {
                let began = WallTime::from_millis(input.u64()?);
                let is_under_way = input.u32()? == 1;
                let at = ChunkId::decode(&mut input)?;
                ScrubMark { began, at: is_under_way.then_some(at) }
            },
            peers: {
                let mut peers = [PeerMark::default(); PEERS_MAX];
                for peer in &mut peers {
                    let store = StoreId::decode(&mut input)?;
                    *peer = PeerMark { store, mark: StoreMark::decode(&mut input)? };
                }
                peers
            },
            lives: {
                let mut lives = [Life::default(); LIVES_MAX];
                for life in &mut lives {
                    *life = Life::decode(&mut input)?;
                }
                lives
            },
        };
        let Self { prepared, mark, tail, .. } = superblock;
        for number in [superblock.sequence, prepared, mark.recovery, tail.recovery] {
            counter("superblock", number)?;
        }
        let sound = layout::is_sound(&superblock.geometry)
            && superblock.incarnation < INCARNATION_END
            && tail.position.is_multiple_of(SECTOR)
            && tail.recovery_start <= tail.position
            && tail.position <= mark.synced
            && mark.synced <= prepared
            && prepared - tail.position <= superblock.geometry.journal
            && prepared.is_multiple_of(superblock.geometry.journal_piece);
        if sound { Ok(superblock) } else { Err(DecodeError::Invalid { what: "superblock" }) }
    }
}

/// No store is started so often: generations of segments have 30 bits for its incarnation.
pub const INCARNATION_END: Incarnation = Incarnation(1 << 30);

/// Decide what the disk is, from its copies and whether the journal's first sector is blank.
///
/// # Errors
/// [`SuperblockError`]: the store must not start.
pub fn choose(
    copies: [Result<Superblock, CopyFault>; SUPERBLOCK_COPIES],
    journal_is_blank: bool,
    cluster: ClusterId,
    store: StoreId,
) -> Result<Found, SuperblockError> {
    let newer = copies.iter().find_map(|copy| match copy {
        Err(CopyFault::Version(found)) => Some(*found),
        _ => None,
    });
    if let Some(found) = newer {
        return Err(SuperblockError::Version { found });
    }
    let best = copies.iter().flatten().max_by_key(|superblock| superblock.sequence);
    match best {
        Some(best) if (best.cluster, best.store) != (cluster, store) => {
            let found = (best.cluster, best.store);
            Err(SuperblockError::Foreign { found, expected: (cluster, store) })
        }
        Some(best) => Ok(Found::Valid { superblock: *best, copies }),
        // A journal was written only after all copies were: blank copies before it were wiped.
        None if journal_is_blank && copies.iter().all(|c| *c == Err(CopyFault::Blank)) => {
            Ok(Found::Empty)
        }
        None => Err(SuperblockError::Damaged),
    }
}

fn checksum(copy: usize, bytes: &[u8]) -> Checksum {
    let seed = copy as u64;
    Checksum::of_parts(seed, [&bytes[..field::CHECKSUM], &bytes[field::CLUSTER..]])
}

fn narrow<T: TryFrom<u64>>(value: u64, what: &'static str) -> Result<T, DecodeError> {
    T::try_from(value).map_err(|_| DecodeError::Invalid { what })
}

/// Reads the copies at the start of a store's life.
#[derive(Debug)]
pub(crate) struct SuperblockReader {
    cluster: ClusterId,
    store: StoreId,
    tokens: [DiskToken; SUPERBLOCK_COPIES + 1],
    results: [Option<Result<Bytes, ()>>; SUPERBLOCK_COPIES + 1],
}

impl SuperblockReader {
    /// Start reading each copy, and the journal's first sector.
    pub(crate) fn start(cluster: ClusterId, store: StoreId, io: &mut Io<'_>) -> Self {
        let tokens = core::array::from_fn(|part| {
            let offset =
                if part < SUPERBLOCK_COPIES { superblock_offset(part) } else { JOURNAL_START };
            io.read(offset, SECTOR)
        });
        Self { cluster, store, tokens, results: Default::default() }
    }

    /// Offer a completion; the last one gives the decision. An unreadable copy is a damaged one.
    pub(crate) fn on_disk(
        &mut self,
        token: DiskToken,
        result: &DiskResult,
    ) -> Option<Result<Found, SuperblockError>> {
        let part = self.tokens.iter().position(|mine| *mine == token)?;
        self.results[part] = Some(match result {
            Ok(DiskOutput::Read(bytes)) => Ok(bytes.clone()),
            _ => Err(()),
        });
        if self.results.iter().any(Option::is_none) {
            return None;
        }
        let copies = core::array::from_fn(|copy| match &self.results[copy] {
            Some(Ok(bytes)) => Superblock::decode(copy, bytes),
            _ => Err(CopyFault::Damaged),
        });
        let journal = &self.results[SUPERBLOCK_COPIES];
        let blank = matches!(journal, Some(Ok(bytes)) if bytes.iter().all(|byte| *byte == 0));
        Some(choose(copies, blank, self.cluster, self.store))
    }
}

/// Writes the copies. Only the latest content is kept waiting: at most one update is in flight and
/// one waits, however many are asked for.
///
/// ```text
/// Idle → Writing(first half) → Syncing → HalfDone → Writing(second half) → Syncing → Idle
/// ```
#[derive(Debug)]
pub(crate) struct SuperblockWriter {
    /// All copies say this, except where `order` has worse ones at the start of a life.
    durable: Superblock,
    /// What they shall say; its sequence is higher if it differs.
    wanted: Superblock,
    /// Copies in the order in which they are written, worst first.
    order: [usize; SUPERBLOCK_COPIES],
    state: WriterState,
}

#[derive(Debug)]
enum WriterState {
    Idle,
    Writing { content: Superblock, half: usize, tokens: Vec<DiskToken> },
    Syncing { content: Superblock, half: usize, ticket: SyncTicket },
    HalfDone { content: Superblock },
}

/// Copies that are written before a sync.
const HALF: usize = SUPERBLOCK_COPIES / 2;

impl SuperblockWriter {
    /// For a disk whose copies were read, or (with blank copies) for one to be formatted.
    pub(crate) fn new(
        durable: Superblock,
        copies: &[Result<Superblock, CopyFault>; SUPERBLOCK_COPIES],
    ) -> Self {
        let mut order: [usize; SUPERBLOCK_COPIES] = core::array::from_fn(|copy| copy);
        order.sort_by_key(|copy| copies[*copy].map_or(0, |superblock| superblock.sequence + 1));
        Self { durable, wanted: durable, order, state: WriterState::Idle }
    }

    /// The latest content asked for.
    pub(crate) fn wanted(&self) -> &Superblock {
        &self.wanted
    }

    /// Sequence up to which all four copies are durable.
    pub(crate) fn durable_sequence(&self) -> u64 {
        self.durable.sequence
    }

    /// Ask for new content. Returns the sequence number under which it becomes durable.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Superblock)) -> u64 {
        change(&mut self.wanted);
        let started = match &self.state {
            WriterState::Idle => self.durable.sequence,
            WriterState::Writing { content, .. }
            | WriterState::Syncing { content, .. }
            | WriterState::HalfDone { content } => content.sequence,
        };
        self.wanted.sequence = started + 1;
        self.wanted.sequence
    }

    /// Change what the next update will say, without asking for one.
    pub(crate) fn note(&mut self, change: impl FnOnce(&mut Superblock)) {
        let sequence = self.wanted.sequence;
        change(&mut self.wanted);
        assert_eq!(self.wanted.sequence, sequence, "the writer numbers the updates");
    }

    /// Start what can be started.
    pub(crate) fn pump(&mut self, io: &mut Io<'_>) {
        match &self.state {
            WriterState::Idle if self.wanted.sequence > self.durable.sequence => {
                self.state = self.write(self.wanted, 0, io);
            }
            WriterState::Writing { content, half, tokens } if tokens.is_empty() => {
                self.state =
                    WriterState::Syncing { content: *content, half: *half, ticket: io.sync() };
            }
            WriterState::HalfDone { content } => self.state = self.write(*content, 1, io),
            _ => {}
        }
    }

    /// Offer a completion. `Ok(false)`: not mine.
    ///
    /// # Errors
    /// The disk's error, after which the store must stop.
    pub(crate) fn on_disk(
        &mut self,
        token: DiskToken,
        result: &DiskResult,
    ) -> Result<bool, crate::disk::DiskError> {
        let WriterState::Writing { tokens, .. } = &mut self.state else { return Ok(false) };
        let Some(at) = tokens.iter().position(|mine| *mine == token) else { return Ok(false) };
        tokens.remove(at);
        result.as_ref().map(|_| true).map_err(Clone::clone)
    }

    /// Offer a sync. True if it was mine; [`Self::pump`] goes on.
    pub(crate) fn on_synced(&mut self, ticket: SyncTicket, _proof: Durable) -> bool {
        let WriterState::Syncing { content, half, ticket: mine } = &self.state else {
            return false;
        };
        if *mine != ticket {
            return false;
        }
        let (content, half) = (*content, *half);
        self.state = if half == 0 {
            WriterState::HalfDone { content }
        } else {
            self.durable = content;
            WriterState::Idle
        };
        true
    }

    fn write(&self, content: Superblock, half: usize, io: &mut Io<'_>) -> WriterState {
        let copies = &self.order[half * HALF..][..HALF];
        let write = |copy: &usize| io.write(superblock_offset(*copy), vec![content.encode(*copy)]);
        WriterState::Writing { content, half, tokens: copies.iter().map(write).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        let (cluster, store) = (ClusterId(0xab), StoreId(4));
        Superblock::format(cluster, store, ZoneId(1), Geometry::SIMULATION).unwrap()
    }

    fn same(bytes: impl Fn(usize) -> Bytes) -> [Result<Superblock, CopyFault>; SUPERBLOCK_COPIES] {
        core::array::from_fn(|copy| Superblock::decode(copy, &bytes(copy)))
    }

    #[test]
    fn disk_of_another_store_is_refused_and_both_are_named() {
        let copies = same(|copy| superblock().encode(copy));
        let error = choose(copies, true, ClusterId(0xab), StoreId(5)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("store-4") && text.contains("store-5"), "{text}");
        assert!(text.contains("cluster=000000000000000000000000000000ab"), "{text}");
    }

    #[test]
    fn newer_format_in_one_whole_copy_is_refused_and_a_flipped_version_is_damage() {
        let newer = |copy: usize| {
            let mut bytes = superblock().encode(copy).to_vec();
            bytes[field::VERSION] = 2;
            let sum = checksum(copy, &bytes);
            bytes[field::CHECKSUM..field::CLUSTER].copy_from_slice(&sum.0.to_le_bytes());
            Bytes::from(bytes)
        };
        let one = |copy| if copy == 3 { newer(copy) } else { superblock().encode(copy) };
        let error = choose(same(one), true, ClusterId(0xab), StoreId(4)).unwrap_err();
        assert_eq!(error.to_string(), "disk has format version 2, this build reads up to 1");

        let mut flipped = superblock().encode(0).to_vec();
        flipped[field::VERSION] = 3;
        assert_eq!(Superblock::decode(0, &flipped.into()), Err(CopyFault::Damaged));
    }

    #[test]
    fn highest_sequence_counts() {
        let copies = same(|copy| {
            let sequence = [5, 7, 7, 6][copy];
            Superblock { sequence, ..superblock() }.encode(copy)
        });
        let found = choose(copies, false, ClusterId(0xab), StoreId(4)).unwrap();
        assert!(matches!(found, Found::Valid { superblock, .. } if superblock.sequence == 7));
    }

    #[test]
    fn only_a_blank_disk_is_empty() {
        let blank = [Err(CopyFault::Blank); SUPERBLOCK_COPIES];
        let decide = |copies, journal| choose(copies, journal, ClusterId(0xab), StoreId(4));
        assert_eq!(decide(blank, true), Ok(Found::Empty));
        assert_eq!(decide(blank, false), Err(SuperblockError::Damaged));
        let mut torn = blank;
        torn[2] = Err(CopyFault::Damaged);
        assert_eq!(decide(torn, true), Err(SuperblockError::Damaged));
    }

    /// Found by fuzzing: one more start, or one more byte, was an overflow.
    #[test]
    fn counters_at_the_end_of_their_range_are_damage() {
        let forged = [
            Superblock { incarnation: Incarnation(u64::MAX), ..superblock() },
            Superblock { incarnation: INCARNATION_END, ..superblock() },
            Superblock { sequence: u64::MAX, ..superblock() },
            Superblock {
                mark: SyncedMark { recovery: u64::MAX, ..superblock().mark },
                ..superblock()
            },
        ];
        for forged in forged {
            let decoded = Superblock::decode(0, &forged.encode(0));
            assert_eq!(decoded, Err(CopyFault::Damaged), "{forged:?}");
        }
    }

    #[test]
    fn geometry_that_does_not_fit_is_not_formatted() {
        let geometry = Geometry { capacity: 1 << 20, ..Geometry::SIMULATION };
        let error = Superblock::format(ClusterId(1), StoreId(1), ZoneId(0), geometry).unwrap_err();
        let named = format!("capacity=1048576 journal={}", geometry.journal);
        assert!(error.to_string().contains(&named), "{error}");
    }
}
