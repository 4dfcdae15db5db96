//! A simulated disk: sectors, a write cache, effects in flight, and what is left after a crash.
//!
//! It keeps exactly the promises of [`trine_core::disk`] and no more:
//! - a completed write is read back, but survives a power loss only if a sync that was issued after
//!   its completion has completed; else each of its sectors is there or not, as if drawn;
//! - of a write in flight at a crash, any of its sectors may be there;
//! - a process that is killed leaves its completed writes in the cache: visible, not yet durable;
//! - after a failed sync each sector that it covered is durable or lost.
//!
//! The disk does not know time: the world draws how long an effect takes, and calls
//! [`SimDisk::finish`] then.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use trine_core::disk::{DiskError, DiskOp, DiskOutput, DiskResult, SECTOR};
use trine_core::ids::DiskToken;

use crate::faults::{FaultKind, Hits};
use crate::random::Draw;

#[cfg(test)]
mod tests;

/// How many places rot looks at before it gives up.
const ROT_TRIES: u64 = 64;

/// What one sector holds; `None` was never written, or is trimmed, and reads as zeros.
type Content = Option<Bytes>;

/// What becomes of unsynced sectors at a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// All are there.
    All,
    /// None is there.
    None,
    /// Each by itself, at random.
    Mixed,
    /// Those written before some moment.
    Prefix,
    /// Those written after some moment.
    Suffix,
}

impl Survival {
    /// One of them, the mix more often.
    pub fn draw(draw: &mut Draw) -> Self {
        let choices = [Self::All, Self::None, Self::Mixed, Self::Mixed, Self::Prefix, Self::Suffix];
        *draw.pick(&choices)
    }
}

/// How a write goes wrong that the disk reports as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// One of its sectors keeps what it had.
    Lost,
    /// The same, and what was to be there goes to another sector, behind this offset.
    Misdirected(u64),
}

/// What a disk has durably.
#[derive(Clone, Debug)]
pub struct Image(Vec<Content>);

/// A sector with writes that no sync has covered yet.
#[derive(Debug)]
struct Unsynced {
    durable: Content,
    /// What was written since, each with the number of its completion, ascending.
    versions: Vec<(u64, Content)>,
}

#[derive(Debug)]
struct InFlight {
    op: DiskOp,
    /// For a sync: it covers completions up to here.
    covers: u64,
    fails: bool,
    lie: Option<Lie>,
}

/// A disk.
#[derive(Debug)]
pub struct SimDisk {
    capacity: u64,
    /// What reads see: the cache over the medium. Grows as sectors are written.
    visible: Vec<Content>,
    unsynced: BTreeMap<u64, Unsynced>,
    unreadable: BTreeSet<u64>,
    /// Unreadable too, and stay so when everything else is healed.
    rotten: BTreeSet<u64>,
    in_flight: BTreeMap<DiskToken, InFlight>,
    completions: u64,
    failed_sync: Option<DiskToken>,
}

impl SimDisk {
    /// An empty disk of `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        assert!(capacity.is_multiple_of(SECTOR), "a disk is made of sectors");
        Self {
            capacity,
            visible: Vec::new(),
            unsynced: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            rotten: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            completions: 0,
            failed_sync: None,
        }
    }

    /// Take an effect on. `fails`: it will end with an error.
    ///
    /// # Panics
    /// If the effect breaks the contract (alignment, bounds, a token in use, two writes in flight
    /// over one sector): that is a bug of the machine.
    pub fn start(&mut self, token: DiskToken, op: DiskOp, fails: bool) {
        if let Some((offset, len)) = span(&op) {
            assert!(offset.is_multiple_of(SECTOR), "{op:?}: the offset is not aligned");
            assert!(len.is_multiple_of(SECTOR) && len > 0, "{op:?}: the length is not aligned");
            assert!(offset + len <= self.capacity, "{op:?}: behind the end of the disk");
            if !matches!(op, DiskOp::Read { .. }) {
                let other = self.writes_over(offset, len).next();
                assert!(other.is_none(), "{op:?} and {other:?} are in flight together");
            }
        }
        let started = InFlight { op, covers: self.completions, fails, lie: None };
        let previous = self.in_flight.insert(token, started);
        assert!(previous.is_none(), "{token} is in use");
    }

    /// A write that is in flight, and does not fail, will go wrong.
    pub fn lie(&mut self, token: DiskToken, lie: Lie) {
        let in_flight = self.in_flight.get_mut(&token).expect("it was just started");
        in_flight.lie = Some(lie).filter(|_| !in_flight.fails);
    }

    /// What it has durably now: what a power loss would leave at least.
    pub fn image(&self) -> Image {
        let mut sectors = self.visible.clone();
        for (number, unsynced) in &self.unsynced {
            sectors[index(*number)] = unsynced.durable.clone();
        }
        Image(sectors)
    }

    /// Put an old image in place of everything.
    ///
    /// # Panics
    /// If effects are in flight.
    pub fn restore(&mut self, image: Image) {
        assert!(self.in_flight.is_empty(), "the store is still running");
        self.unsynced.clear();
        self.rotten.clear();
        self.unreadable.clear();
        self.visible = image.0;
    }

    /// The effect is over: carry it out and say what came of it. `None` if a crash has ended it.
    pub fn finish(
        &mut self,
        token: DiskToken,
        draw: &mut Draw,
        hits: &mut Hits,
    ) -> Option<DiskResult> {
        let InFlight { op, covers, fails, lie } = self.in_flight.remove(&token)?;
        Some(match op {
            DiskOp::Read { offset, len } => self.read(offset, len, fails, draw, hits),
            DiskOp::Write { offset, parts } => {
                if fails {
                    hits.hit(FaultKind::WriteFailed);
                    self.write_some(offset, &parts, draw, hits);
                    return Some(Err(DiskError::Io("simulated error of a write".to_owned())));
                }
                self.completions += 1;
                match lie {
                    None => {
                        for (number, bytes) in sectors(offset, &parts) {
                            self.store(number, Some(bytes));
                        }
                    }
                    Some(lie) => self.write_wrongly(offset, &parts, lie, draw, hits),
                }
                Ok(DiskOutput::Written)
            }
            DiskOp::Trim { offset, len } => {
                self.completions += 1;
                for number in offset / SECTOR..(offset + len) / SECTOR {
                    self.store(number, None);
                }
                Ok(DiskOutput::Trimmed)
            }
            DiskOp::Sync if fails => {
                hits.hit(FaultKind::SyncFailed);
                self.failed_sync = Some(token);
                self.lose_unsynced(Survival::Mixed, covers, draw, hits);
                Err(DiskError::Io("simulated error of a sync".to_owned()))
            }
            DiskOp::Sync => {
                self.harden(covers);
                Ok(DiskOutput::Synced)
            }
        })
    }

    /// The sync that failed in this life of the store, if one did: it must halt then.
    pub fn failed_sync(&self) -> Option<DiskToken> {
        self.failed_sync
    }

    /// Whether writes are in flight.
    pub fn is_writing(&self) -> bool {
        self.in_flight.values().any(|in_flight| matches!(in_flight.op, DiskOp::Write { .. }))
    }

    /// All writes in flight are carried out whole, though nobody will hear of it. Before a crash.
    pub fn complete_writes(&mut self) {
        for (_, InFlight { op, .. }) in std::mem::take(&mut self.in_flight) {
            if let DiskOp::Write { offset, parts } = op {
                self.completions += 1;
                for (number, bytes) in sectors(offset, &parts) {
                    self.store(number, Some(bytes));
                }
            }
        }
    }

    /// No write in flight is carried out. Before a crash.
    pub fn drop_writes(&mut self) {
        self.in_flight.clear();
    }

    /// The sector of this number as it is now; `None` was never written, or is trimmed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn sector(&self, number: u64) -> Result<Option<&Bytes>, DiskError> {
        if self.rotten.contains(&number) || self.unreadable.contains(&number) {
            return Err(DiskError::Io("simulated unreadable sector".to_owned()));
        }
        Ok(self.content(number).as_ref())
    }

    /// The sector of this number as a power loss would leave it at least.
    pub fn durable_sector(&self, number: u64) -> Option<&Bytes> {
        match self.unsynced.get(&number) {
            Some(unsynced) => unsynced.durable.as_ref(),
            None => self.content(number).as_ref(),
        }
    }

    /// The process is gone: completed writes stay in the cache, writes in flight are there in part.
    pub fn process_killed(&mut self, draw: &mut Draw, hits: &mut Hits) {
        self.failed_sync = None;
        for (_, InFlight { op, .. }) in std::mem::take(&mut self.in_flight) {
            if let DiskOp::Write { offset, parts } = op {
                self.write_some(offset, &parts, draw, hits);
            }
        }
    }

    /// Power is gone: of what was not synced, `survival` says what is left.
    pub fn power_lost(&mut self, survival: Survival, draw: &mut Draw, hits: &mut Hits) {
        self.process_killed(draw, hits);
        self.lose_unsynced(survival, u64::MAX, draw, hits);
    }

    /// Make the sector at `offset` unreadable until it is written again.
    pub fn make_unreadable(&mut self, offset: u64) {
        self.unreadable.insert(offset / SECTOR);
    }

    /// A sector from `start` on, written and synced, rots: a byte of it changes, or it can no longer
    /// be read. Says which; `None` if there is nothing to rot.
    pub fn rot(&mut self, start: u64, kind: FaultKind, draw: &mut Draw) -> Option<u64> {
        self.rot_within(start..self.visible.len() as u64 * SECTOR, kind, draw)
    }

    /// The same within a span.
    pub fn rot_within(
        &mut self,
        span: std::ops::Range<u64>,
        kind: FaultKind,
        draw: &mut Draw,
    ) -> Option<u64> {
        let (first, end) = (span.start / SECTOR, span.end / SECTOR);
        let fits = |number: &u64| {
            let offset = number * SECTOR;
            self.content(*number).is_some()
                && !self.unsynced.contains_key(number)
                && self.writes_over(offset, SECTOR).next().is_none()
        };
        let mut tries =
            (0..if first < end { ROT_TRIES } else { 0 }).map(|_| draw.between(first, end - 1));
        let number = tries.find(fits)?;
        drop(tries);
        if kind == FaultKind::SectorRotted {
            self.rotten.insert(number);
        } else if let Some(content) = self.content(number) {
            let mut bytes = BytesMut::from(&content[..]);
            bytes[draw.index(index(SECTOR))] ^= 1 << draw.index(8);
            self.visible[index(number)] = Some(bytes.freeze());
        }
        Some(number * SECTOR)
    }

    /// What passes is over: all sectors can be read again but those that have rotted.
    pub fn heal(&mut self) {
        self.unreadable.clear();
    }

    /// Offsets of the sectors that hold something, ascending.
    pub fn written(&self) -> impl Iterator<Item = u64> + '_ {
        let numbered = (0..).zip(&self.visible);
        numbered
            .filter(|(_, content)| content.is_some())
            .map(|(number, _): (u64, _)| number * SECTOR)
    }

    /// Offsets of the sectors in which `pattern` stands whole.
    pub fn find(&self, pattern: &[u8]) -> Vec<u64> {
        let holds = |offset: &u64| {
            let bytes = self.content(offset / SECTOR).as_deref().unwrap_or_default();
            bytes.windows(pattern.len()).any(|window| window == pattern)
        };
        self.written().filter(holds).collect()
    }

    /// Damage the byte at `offset` on the medium. For a store that is stopped.
    ///
    /// # Panics
    /// If effects are in flight, or nothing was ever written there.
    pub fn flip(&mut self, offset: u64) {
        assert!(self.in_flight.is_empty(), "the store is still running");
        let number = offset / SECTOR;
        let content = self.content(number).as_ref().expect("a written sector is chosen");
        let mut bytes = BytesMut::from(&content[..]);
        bytes[index(offset % SECTOR)] ^= 0xff;
        self.unsynced.remove(&number);
        self.visible[index(number)] = Some(bytes.freeze());
    }

    fn content(&self, number: u64) -> &Content {
        self.visible.get(index(number)).unwrap_or(&None)
    }

    fn writes_over(&self, offset: u64, len: u64) -> impl Iterator<Item = &DiskOp> {
        let ops = self.in_flight.values().map(|in_flight| &in_flight.op);
        ops.filter(move |op| {
            !matches!(op, DiskOp::Read { .. })
                && span(op)
                    .is_some_and(|(start, size)| start < offset + len && offset < start + size)
        })
    }

    fn read(
        &self,
        offset: u64,
        len: u64,
        fails: bool,
        draw: &mut Draw,
        hits: &mut Hits,
    ) -> DiskResult {
        if fails {
            hits.hit(FaultKind::ReadFailed);
            return Err(DiskError::Io("simulated error of a read".to_owned()));
        }
        let numbers = offset / SECTOR..(offset + len) / SECTOR;
        let lies_there = |set: &BTreeSet<u64>| set.range(numbers.clone()).next().is_some();
        if lies_there(&self.rotten) {
            return Err(DiskError::Io("simulated rotten sector".to_owned()));
        }
        if lies_there(&self.unreadable) {
            hits.hit(FaultKind::SectorUnreadable);
            return Err(DiskError::Io("simulated unreadable sector".to_owned()));
        }
        // Where a write is in flight, a read sees old and new sectors in any mix.
        let mut racing = BTreeMap::new();
        for op in self.writes_over(offset, len) {
            if let DiskOp::Write { offset, parts } = op {
                racing.extend(sectors(*offset, parts));
            }
        }
        let mut bytes = BytesMut::with_capacity(index(len));
        for number in numbers {
            match (racing.get(&number), self.content(number)) {
                (Some(new), _) if draw.one_in(2) => bytes.extend_from_slice(new),
                (_, Some(content)) => bytes.extend_from_slice(content),
                (_, None) => bytes.resize(bytes.len() + index(SECTOR), 0),
            }
        }
        Ok(DiskOutput::Read(bytes.freeze()))
    }

    /// All sectors of a write but one, which is lost, or goes elsewhere.
    fn write_wrongly(
        &mut self,
        offset: u64,
        parts: &[Bytes],
        lie: Lie,
        draw: &mut Draw,
        hits: &mut Hits,
    ) {
        let mut all: Vec<_> = sectors(offset, parts).collect();
        let (number, bytes) = all.swap_remove(draw.index(all.len()));
        for (number, bytes) in all {
            self.store(number, Some(bytes));
        }
        match lie {
            Lie::Lost => hits.hit(FaultKind::WriteLost),
            Lie::Misdirected(start) => {
                hits.hit(FaultKind::WriteMisdirected);
                let (first, end) = (start / SECTOR, self.visible.len() as u64);
                let other = if first < end { draw.between(first, end - 1) } else { number };
                if other != number && self.writes_over(other * SECTOR, SECTOR).next().is_none() {
                    self.store(other, Some(bytes));
                }
            }
        }
    }

    /// Some sectors of a write, as drawn.
    fn write_some(&mut self, offset: u64, parts: &[Bytes], draw: &mut Draw, hits: &mut Hits) {
        self.completions += 1;
        let mode = draw.between(0, 3);
        let mut written = 0;
        let all: Vec<_> = sectors(offset, parts).collect();
        let cut = draw.index(all.len() + 1);
        let total = all.len();
        for (place, (number, bytes)) in all.into_iter().enumerate() {
            let there = match mode {
                0 => false,
                1 => place < cut,
                2 => place >= cut,
                _ => draw.one_in(2),
            };
            if there {
                written += 1;
                self.store(number, Some(bytes));
            }
        }
        if written > 0 && written < total {
            hits.hit(FaultKind::WriteTorn);
        }
    }

    fn store(&mut self, number: u64, content: Content) {
        self.unreadable.remove(&number);
        self.rotten.remove(&number);
        let at = index(number);
        if self.visible.len() <= at {
            self.visible.resize(at + 1, None);
        }
        let before = std::mem::replace(&mut self.visible[at], content.clone());
        let unsynced = self
            .unsynced
            .entry(number)
            .or_insert_with(|| Unsynced { durable: before, versions: Vec::with_capacity(1) });
        unsynced.versions.push((self.completions, content));
    }

    /// A sync has completed: what it covers is durable.
    fn harden(&mut self, covers: u64) {
        self.unsynced.retain(|_, sector| {
            let count = sector.versions.partition_point(|(completed, _)| *completed <= covers);
            if let Some((_, newest)) = sector.versions.drain(..count).last() {
                sector.durable = newest;
            }
            !sector.versions.is_empty()
        });
    }

    /// Sectors whose writes completed up to `covers` fall back as `survival` says, and are durable
    /// then.
    fn lose_unsynced(&mut self, survival: Survival, covers: u64, draw: &mut Draw, hits: &mut Hits) {
        let oldest = self.unsynced.values().map(|s| s.versions[0].0).min().unwrap_or(0);
        let moment = draw.between(oldest.min(self.completions), self.completions);
        for (number, mut sector) in std::mem::take(&mut self.unsynced) {
            let count = sector.versions.partition_point(|(completed, _)| *completed <= covers);
            let later = sector.versions.split_off(count);
            let mut left = sector.durable;
            let mut lost = false;
            for (completed, content) in sector.versions {
                let survives = match survival {
                    Survival::All => true,
                    Survival::None => false,
                    Survival::Mixed => draw.one_in(2),
                    Survival::Prefix => completed <= moment,
                    Survival::Suffix => completed >= moment,
                };
                lost = !survives;
                if survives {
                    left = content;
                }
            }
            if lost {
                hits.hit(FaultKind::SectorLost);
            }
            if later.is_empty() {
                self.visible[index(number)] = left;
            } else {
                self.unsynced.insert(number, Unsynced { durable: left, versions: later });
            }
        }
    }
}

/// Offset and length, if the effect has them.
fn span(op: &DiskOp) -> Option<(u64, u64)> {
    match op {
        DiskOp::Read { offset, len } | DiskOp::Trim { offset, len } => Some((*offset, *len)),
        DiskOp::Write { offset, parts } => {
            Some((*offset, parts.iter().map(|part| part.len() as u64).sum()))
        }
        DiskOp::Sync => None,
    }
}

/// The sectors of a write. Those within one part share its memory.
fn sectors(offset: u64, parts: &[Bytes]) -> impl Iterator<Item = (u64, Bytes)> {
    let size = index(SECTOR);
    let whole = match parts {
        [single] => single.clone(),
        // Parts need not end at sectors; one copy makes them one.
        several => several.concat().into(),
    };
    let count = whole.len() / size;
    let first = offset / SECTOR;
    (0..count)
        .map(move |place| (first + place as u64, whole.slice(place * size..(place + 1) * size)))
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a simulated disk fits into memory")
}
