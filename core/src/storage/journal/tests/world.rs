//! A disk with the crash semantics of [`crate::disk`], and a store that has nothing but a journal.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::cluster::Geometry;
use crate::consensus::{Entry, EntryKind};
use crate::disk::{DiskError, DiskOp, DiskOutput, DiskResult, SECTOR};
use crate::effects::{Effect, Effects};
use crate::ids::{ClusterId, DiskToken, LogIndex, RangeId, StoreId, Term, ZoneId};
use crate::rng::Rng;
use crate::storage::io::{DiskQueue, Io};
use crate::storage::journal::writer::{EntriesRead, Reader};
use crate::storage::journal::{
    Journal, JournalRecovery, JournalTicket, Location, Progress, Record, RecoveredJournal,
    RecoverySink,
};
use crate::storage::superblock::{
    CopyFault, Found, Superblock, SuperblockError, SuperblockReader, SuperblockWriter,
};

pub(super) const CLUSTER: ClusterId = ClusterId(7);
pub(super) const STORE: StoreId = StoreId(3);
pub(super) const RANGE: RangeId = RangeId(1);

/// Small, so that every crash point can be tried.
pub(super) const GEOMETRY: Geometry = Geometry {
    capacity: 4 << 20,
    journal: 256 << 10,
    journal_piece: 16 << 10,
    segment: 128 << 10,
    tree_block: 4096,
};

/// Sectors: durable ones, completed writes in order, effects in flight.
#[derive(Clone, Debug, Default)]
pub(super) struct TestDisk {
    pub(super) durable: BTreeMap<u64, Bytes>,
    completed: Vec<(u64, Bytes)>,
    in_flight: Vec<(DiskToken, DiskOp, usize)>,
    /// Reads that touch one of these sectors fail.
    pub(super) unreadable: Vec<u64>,
}

impl TestDisk {
    pub(super) fn start(&mut self, fx: &mut Effects) {
        for effect in fx.drain() {
            let Effect::Disk { token, op } = effect else { panic!("{effect:?}") };
            self.in_flight.push((token, op, self.completed.len()));
        }
    }

    /// Offsets of the writes in flight.
    pub(super) fn writing(&self) -> Vec<u64> {
        let offset = |(_, op, _): &(_, DiskOp, _)| match op {
            DiskOp::Write { offset, .. } => Some(*offset),
            _ => None,
        };
        self.in_flight.iter().filter_map(offset).collect()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Finish any one effect.
    pub(super) fn complete_one(&mut self, rng: &mut Rng) -> (DiskToken, DiskResult, bool) {
        let pick = usize::try_from(rng.below(self.in_flight.len() as u64)).unwrap();
        let (token, op, completed_before) = self.in_flight.remove(pick);
        let output = match op {
            DiskOp::Read { offset, len } => {
                let sectors = offset / SECTOR..(offset + len) / SECTOR;
                if self.unreadable.iter().any(|bad| sectors.contains(bad)) {
                    return (token, Err(DiskError::Io("medium error".into())), false);
                }
                let mut bytes = BytesMut::new();
                sectors.for_each(|sector| bytes.extend_from_slice(&self.sector(sector)));
                DiskOutput::Read(bytes.freeze())
            }
            DiskOp::Write { offset, parts } => {
                self.completed.extend(sectors(offset, &parts));
                DiskOutput::Written
            }
            DiskOp::Sync => {
                for (sector, bytes) in self.completed.drain(..completed_before) {
                    self.durable.insert(sector, bytes);
                }
                // One sync at a time: nothing else remembers a place in the list but later effects.
                for (_, _, before) in &mut self.in_flight {
                    *before = before.saturating_sub(completed_before);
                }
                return (token, Ok(DiskOutput::Synced), true);
            }
            DiskOp::Trim { .. } => panic!("the journal gives nothing up"),
        };
        (token, Ok(output), false)
    }

    /// The process is gone, the power is not: what it had started still reaches the page cache.
    fn process_ends(&mut self) {
        for (_, op, _) in core::mem::take(&mut self.in_flight) {
            if let DiskOp::Write { offset, parts } = op {
                self.completed.extend(sectors(offset, &parts));
            }
        }
    }

    fn sector(&self, sector: u64) -> Bytes {
        let newest = self.completed.iter().rev().find(|(s, _)| *s == sector);
        newest
            .map(|(_, bytes)| bytes.clone())
            .or_else(|| self.durable.get(&sector).cloned())
            .unwrap_or_else(|| Bytes::from(vec![0; 4096]))
    }

    /// Power is cut: of what was not synced, each sector is there or not.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let keep_in_100 = [0, 20, 50, 80, 100][usize::try_from(rng.below(5)).unwrap()];
        let mut doubtful = core::mem::take(&mut self.completed);
        for (_, op, _) in self.in_flight.drain(..) {
            if let DiskOp::Write { offset, parts } = op {
                doubtful.extend(sectors(offset, &parts));
            }
        }
        for (sector, bytes) in doubtful {
            if rng.chance(keep_in_100, 100) {
                self.durable.insert(sector, bytes);
            }
        }
    }

    /// Power is cut, and nothing of what was in doubt is there.
    pub(super) fn lose_all_unsynced(&mut self) {
        self.completed.clear();
        self.in_flight.clear();
    }

    pub(super) fn flip(&mut self, sector: u64, bit: usize) {
        let mut bytes = self.sector(sector).to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        self.completed.retain(|(completed, _)| *completed != sector);
        self.durable.insert(sector, bytes.into());
    }
}

fn sectors(offset: u64, parts: &[Bytes]) -> Vec<(u64, Bytes)> {
    let bytes = Bytes::from(parts.concat());
    let numbers = offset / SECTOR..;
    numbers
        .zip((0..bytes.len()).step_by(4096))
        .map(|(sector, at)| (sector, bytes.slice(at..at + 4096)))
        .collect()
}

/// What recovery delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) records: Vec<Record>,
    pub(super) after_gap: Vec<Record>,
    pub(super) restarts: usize,
}

impl RecoverySink for Delivered {
    fn record(&mut self, record: Record, _location: Location, after_gap: bool) {
        if after_gap { &mut self.after_gap } else { &mut self.records }.push(record);
    }

    fn life_begins(&mut self) {}

    fn restart(&mut self) {
        *self = Self { restarts: self.restarts + 1, ..Self::default() };
    }
}

/// The stages of a store's life.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, in a test")]
enum Stage {
    Superblock(SuperblockReader),
    Recovery(JournalRecovery, SuperblockWriter),
    Running(Box<Journal>),
    Refused(SuperblockError),
}

/// One life of a store on a disk.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) disk: TestDisk,
    pub(super) rng: Rng,
    queue: DiskQueue,
    fx: Effects,
    stage: Option<Stage>,
    pub(super) delivered: Delivered,
    pub(super) damage: Option<super::super::Damage>,
    /// Of the recovery: position to resume, synced mark.
    pub(super) found: Option<(u64, u64)>,
    pub(super) appended: Vec<Record>,
    /// A journal position that is not behind each of them.
    pub(super) places: Vec<u64>,
    /// How many of `appended` are acknowledged.
    pub(super) acknowledged: usize,
    pub(super) reads: Vec<EntriesRead>,
    pub(super) completions: usize,
}

impl Life {
    pub(super) fn begin(mut disk: TestDisk, seed: u64) -> Self {
        disk.process_ends();
        let (mut queue, mut fx) = (DiskQueue::default(), Effects::new());
        let mut io = Io { queue: &mut queue, fx: &mut fx };
        let stage = Some(Stage::Superblock(SuperblockReader::start(CLUSTER, STORE, &mut io)));
        let mut life = Self {
            disk,
            rng: Rng::new(seed),
            queue,
            fx,
            stage,
            delivered: Delivered::default(),
            damage: None,
            found: None,
            appended: Vec::new(),
            places: Vec::new(),
            acknowledged: 0,
            reads: Vec::new(),
            completions: 0,
        };
        life.disk.start(&mut life.fx);
        life
    }

    /// Begin, and run until the journal is ready (it may still be writing its superblock).
    pub(super) fn begin_and_recover(disk: TestDisk, seed: u64) -> Self {
        let mut life = Self::begin(disk, seed);
        while life.found.is_none() {
            assert!(life.step(), "recovery has ended: {:?}", life.stage);
        }
        life
    }

    pub(super) fn refused(&self) -> Option<&SuperblockError> {
        match &self.stage {
            Some(Stage::Refused(error)) => Some(error),
            _ => None,
        }
    }

    pub(super) fn journal(&mut self) -> &mut Journal {
        match &mut self.stage {
            Some(Stage::Running(journal)) => journal,
            stage => panic!("not running: {stage:?}"),
        }
    }

    pub(super) fn append(&mut self, record: Record) -> JournalTicket {
        self.appended.push(record.clone());
        let head = self.journal().head();
        self.places.push(head);
        let ticket = self.journal().append(record);
        assert_eq!(ticket.0, self.appended.len() as u64);
        ticket
    }

    pub(super) fn pump(&mut self) {
        let mut io = Io { queue: &mut self.queue, fx: &mut self.fx };
        match &mut self.stage {
            Some(Stage::Running(journal)) => journal.pump(&mut io).unwrap(),
            Some(Stage::Recovery(recovery, _)) => recovery.pump(&mut io),
            _ => {}
        }
        self.disk.start(&mut self.fx);
    }

    pub(super) fn read(&mut self, from: u64, bytes_max: u64) -> bool {
        let mut io = Io { queue: &mut self.queue, fx: &mut self.fx };
        let Some(Stage::Running(journal)) = &mut self.stage else { panic!("not running") };
        let started =
            journal.read_entries(RANGE, LogIndex(from), bytes_max, Reader::Store, &mut io);
        self.disk.start(&mut self.fx);
        started
    }

    /// Nothing before this one of the appended records, which is acknowledged, is needed any more.
    pub(super) fn give_up_before(&mut self, record: usize) {
        assert!(record < self.acknowledged);
        let place = self.places[record];
        self.journal().give_up_before(place);
        self.pump();
    }

    /// One completion. False if there is none.
    pub(super) fn step(&mut self) -> bool {
        if self.disk.is_idle() {
            return false;
        }
        self.completions += 1;
        let (token, result, is_sync) = self.disk.complete_one(&mut self.rng);
        if is_sync {
            let (tickets, proof) = self.queue.synced(token, &mut self.fx).unwrap();
            self.disk.start(&mut self.fx);
            for ticket in tickets {
                self.on_synced(ticket, proof);
            }
        } else {
            self.on_disk(token, &result);
        }
        self.pump();
        true
    }

    pub(super) fn run_until_idle(&mut self) {
        while self.step() {}
    }

    fn on_disk(&mut self, token: DiskToken, result: &DiskResult) {
        let stage = self.stage.take().unwrap();
        self.stage = Some(match stage {
            Stage::Superblock(mut reader) => match reader.on_disk(token, result) {
                None => Stage::Superblock(reader),
                Some(Err(error)) => Stage::Refused(error),
                Some(Ok(found)) => self.found_superblock(found),
            },
            Stage::Recovery(mut recovery, writer) => {
                assert!(recovery.on_disk(token, result, &mut self.delivered).unwrap());
                Stage::Recovery(recovery, writer)
            }
            Stage::Running(mut journal) => {
                match journal.on_disk(token, result).unwrap() {
                    Progress::Entries(read) => self.reads.push(read),
                    Progress::Mine => {}
                    Progress::NotMine => panic!("nobody else is here"),
                }
                Stage::Running(journal)
            }
            refused @ Stage::Refused(_) => refused,
        });
    }

    fn found_superblock(&mut self, found: Found) -> Stage {
        match found {
            Found::Empty => {
                let blank = [Err(CopyFault::Blank); 4];
                let superblock = Superblock::format(CLUSTER, STORE, ZoneId(0), GEOMETRY).unwrap();
                let writer = SuperblockWriter::new(superblock, &blank);
                self.run(writer, RecoveredJournal::empty(&GEOMETRY))
            }
            Found::Valid { superblock, copies } => {
                let writer = SuperblockWriter::new(superblock, &copies);
                Stage::Recovery(JournalRecovery::new(&superblock), writer)
            }
        }
    }

    fn run(&mut self, writer: SuperblockWriter, recovered: RecoveredJournal) -> Stage {
        self.found = Some((recovered.resume, recovered.mark.synced));
        self.damage = recovered.damage;
        let mut journal = Journal::start(writer, recovered, crate::ids::Incarnation(0), 7);
        if self.damage.is_some() {
            let suspicion = Record::Suspect { range: RANGE, number: journal.incarnation().0.0 };
            self.appended.push(suspicion.clone());
            self.places.push(journal.head());
            journal.append(suspicion);
        }
        Stage::Running(Box::new(journal))
    }

    fn on_synced(
        &mut self,
        ticket: crate::storage::io::SyncTicket,
        proof: crate::storage::Durable,
    ) {
        let stage = self.stage.take().unwrap();
        self.stage = Some(match stage {
            Stage::Recovery(mut recovery, writer) => match recovery.on_synced(ticket, proof) {
                None => Stage::Recovery(recovery, writer),
                Some(recovered) => self.run(writer, recovered),
            },
            Stage::Running(mut journal) => {
                if let Some((ticket, _)) = journal.on_synced(ticket, proof) {
                    let acknowledged = usize::try_from(ticket.0).unwrap();
                    assert!(acknowledged > self.acknowledged, "acknowledged once, in order");
                    self.acknowledged = acknowledged;
                }
                Stage::Running(journal)
            }
            other => other,
        });
    }
}

pub(super) fn entry(index: u64, term: u64, payload: impl Into<Bytes>) -> Record {
    let (index, term) = (LogIndex(index), Term(term));
    let entry = Entry { index, term, kind: EntryKind::Command, payload: payload.into() };
    Record::Entry { range: RANGE, entry }
}

/// A record of any kind; `number` makes it unlike all others.
pub(super) fn any_record(number: u64, rng: &mut Rng) -> Record {
    match rng.below(8) {
        0 => Record::HardState { range: RANGE, term: Term(number), vote: Some(STORE) },
        1 => Record::HardState { range: RangeId(2), term: Term(number), vote: None },
        2 => Record::Edit(number.to_le_bytes().to_vec().into()),
        _ => {
            let len = [0, 100, 5000, 20_000][usize::try_from(rng.below(4)).unwrap()];
            let mut payload = number.to_le_bytes().to_vec();
            // No two payloads are alike anywhere: else a torn write might mend a rotten sector.
            payload.extend((0..len).map(|_| rng.next_u64().to_le_bytes()[0]));
            entry(number, 1, payload)
        }
    }
}
