//! What is on a disk after a crash, opened by core's own recovery without writing to it, all of it read and verified,
//! and held against what its store had promised.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use trine_core::disk::{DiskError, SECTOR};
use trine_core::ids::{BlobId, BlobSequence, ChunkId, RangeId, SessionId};
use trine_core::inspect::{CopyState, Depth, Disk, Medium, OpenError, ReplicaReport};

use crate::disk::SimDisk;

/// Copies that are judged at a time.
const COPIES: usize = 256;

/// What a store must still have after a crash.
pub struct Promised<'a> {
    /// It has taken part in a cluster: its disk is not blank.
    pub takes_part: bool,
    /// Chunks that it has acknowledged and not freed.
    pub chunks: Vec<ChunkId>,
    /// The state's hash after the entry with this index and this term, if the entry is known to be committed and some
    /// replica has shown its state there.
    pub hash_at: &'a dyn Fn(RangeId, u64, u64) -> Option<u128>,
}

/// A simulated disk as it is.
#[derive(Debug)]
struct Image<'a>(&'a SimDisk);

impl Medium for Image<'_> {
    fn read(&mut self, offset: u64, len: u64) -> Result<Bytes, DiskError> {
        let mut bytes = BytesMut::new();
        for number in offset / SECTOR..(offset + len) / SECTOR {
            match self.0.sector(number)? {
                Some(content) => bytes.extend_from_slice(content),
                None => bytes.resize(bytes.len() + usize::try_from(SECTOR).unwrap_or(0), 0),
            }
        }
        Ok(bytes.freeze())
    }
}

/// Open a disk and verify all that is on it: superblock, journal, headers of segments, every block of every table,
/// every copy, the rows against their hash, and the replica's state against what others have shown.
///
/// # Errors
/// What is wrong.
pub fn examine(disk: &SimDisk, promised: &Promised<'_>) -> Result<(), String> {
    let mut disk = match Disk::open(Image(disk)) {
        Ok(disk) => disk,
        Err(OpenError::Blank) if !promised.takes_part => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if let Some(position) = disk.journal().damaged_at {
        return Err(format!("the journal is damaged at {position}, nobody has damaged it"));
    }
    let text = |error: &dyn ToString| error.to_string();
    if let Some(fault) = disk.check_segments().map_err(|error| text(&error))?.first() {
        return Err(format!("segment {}: {}", fault.segment, fault.reason));
    }
    if !disk.chunk_index_is_sound().map_err(|error| text(&error))? {
        return Err("the index of chunks is lost".to_owned());
    }
    let copies = sound_copies(&mut disk)?;
    if let Some(chunk) = promised.chunks.iter().find(|chunk| !copies.contains(*chunk)) {
        return Err(format!("{chunk} is not there, which was acknowledged"));
    }
    for range in disk.ranges() {
        let (report, state) = disk.replica(range);
        let shown = check_state(&report, promised)?;
        let Some(state) = state else { continue };
        let rows = disk.add_up(&state).map_err(|error| format!("{range}: {error}"))?;
        if let Some(bad) = rows.bad_named.first() {
            return Err(format!("{range}: {} rows make no sense: {bad}", rows.bad));
        }
        if !rows.adds_up {
            return Err(format!("{range}: the rows do not add up to the hash; {shown}"));
        }
    }
    Ok(())
}

fn sound_copies(disk: &mut Disk<Image<'_>>) -> Result<BTreeSet<ChunkId>, String> {
    let blob = BlobId { session: SessionId(0), sequence: BlobSequence(0) };
    let (mut from, mut before) = (ChunkId { blob, number: 0 }, None);
    let mut copies = BTreeSet::new();
    loop {
        let page = disk.copies(from, before, COPIES, Depth::Blocks);
        let page = page.map_err(|error| format!("the index of chunks: {error}"))?;
        for copy in page.copies {
            if copy.state != CopyState::Sound {
                return Err(format!("the copy of {} is not sound: {}", copy.chunk, copy.state));
            }
            copies.insert(copy.chunk);
            before = Some(copy.chunk);
        }
        match page.next {
            Some(next) => from = next,
            None => return Ok(copies),
        }
    }
}

fn check_state(report: &ReplicaReport, promised: &Promised<'_>) -> Result<String, String> {
    let ReplicaReport { range, last, last_term, .. } = *report;
    let state = report.state.as_ref().map_err(|error| format!("{range}: {error}"))?;
    if let Some(hash) = (promised.hash_at)(range, last.0, last_term.0)
        && state.applied == last
        && state.hash.0 != hash
    {
        let found = state.hash.0;
        return Err(format!("{range}: its state at {last} is {found:032x}, and was {hash:032x}"));
    }
    Ok(format!("it is at {last} of {last_term}"))
}
