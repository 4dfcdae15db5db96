//! Journal and shelf side by side: who gets which completion, and how the shelf's edits get into the
//! journal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::StorageEvent;
use super::carry::Carried;
use super::checkpoint::Checkpoints;
use super::durable::Durable;
use super::io::{DiskQueue, Io, SyncTicket};
use super::journal::{Journal, JournalTicket, Progress, Reader, Record};
use super::shelf::{Output, Shelf, TableId};
use crate::disk::DiskResult;
use crate::effects::Effects;
use crate::ids::{DiskToken, LogIndex, RangeId};

/// Journal and shelf, and the edits between them.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) journal: Journal,
    pub(super) shelf: Shelf,
    /// Edits that wait to be durable, oldest first.
    pub(super) edits: VecDeque<(JournalTicket, u64)>,
    pub(super) last_ticket: JournalTicket,
    pub(super) checkpoints: Checkpoints,
    /// A log that is to be written again at the journal's head.
    pub(super) carried: Option<Carried>,
    /// How many logs were, in this life.
    pub(super) carried_logs: u64,
    /// Ranges whose tables cannot be read; told to the store when storage opens, or at once.
    pub(super) damaged: BTreeSet<RangeId>,
    /// The superblock that will say with which disks the cluster began.
    pub(super) beginning: Option<u64>,
    /// What the tables on disk hold; taken when storage opens.
    pub(super) flushed: Option<BTreeMap<TableId, LogIndex>>,
}

impl Parts {
    pub(super) fn append(&mut self, record: Record) -> JournalTicket {
        self.checkpoints.note(&record);
        self.last_ticket = self.journal.append(record);
        self.last_ticket
    }

    pub(super) fn on_disk(
        &mut self,
        token: DiskToken,
        result: &DiskResult,
        queue: &mut DiskQueue,
        fx: &mut Effects,
    ) -> Result<Vec<StorageEvent>, String> {
        match self.journal.on_disk(token, result).map_err(|error| error.to_string())? {
            Progress::Mine => Ok(Vec::new()),
            Progress::Entries(read) => match read.entries {
                Ok(entries) if read.reader == Reader::Storage => {
                    self.carry_on(entries, &mut Io { queue, fx });
                    Ok(Vec::new())
                }
                Ok(entries) => {
                    let (range, from) = (read.range, read.from);
                    Ok(vec![StorageEvent::Entries { range, from, entries }])
                }
                // Recovery looks at the whole journal and tells the peers what is in doubt.
                Err(damage) => Err(format!("{damage}; restart the store to have it repaired")),
            },
            Progress::NotMine => {
                let mut outputs = Vec::new();
                let mut io = Io { queue, fx };
                let mine = self.shelf.on_disk(token, result, &mut io, &mut outputs);
                assert!(mine, "each effect belongs to somebody");
                self.take(outputs)
            }
        }
    }

    pub(super) fn on_synced(
        &mut self,
        ticket: SyncTicket,
        durable: Durable,
        queue: &mut DiskQueue,
        fx: &mut Effects,
    ) -> Result<Vec<StorageEvent>, String> {
        let mut io = Io { queue, fx };
        let mut outputs = Vec::new();
        if self.shelf.on_synced(ticket, durable, &mut io, &mut outputs) {
            return self.take(outputs);
        }
        let records = self.journal.on_synced(ticket, durable);
        let written = self.journal.superblock_durable();
        let begun = self.beginning.take_if(|sequence| *sequence <= written);
        let begun = begun.map(|_| StorageEvent::Begun);
        let Some((through, durable)) = records else { return Ok(begun.into_iter().collect()) };
        while let Some((_, id)) = self.edits.pop_front_if(|(ticket, _)| *ticket <= through) {
            self.shelf.edit_durable(id, &mut io, &mut outputs);
        }
        let mut events = self.take(outputs)?;
        events.push(StorageEvent::Durable(through, durable));
        events.extend(begun);
        self.go_on_with_checkpoint(through);
        Ok(events)
    }

    /// Journal the shelf's edits, and pass the rest on.
    pub(super) fn take(&mut self, outputs: Vec<Output>) -> Result<Vec<StorageEvent>, String> {
        let mut events = Vec::new();
        for output in outputs {
            match output {
                Output::Recovered { flushed } => self.flushed = Some(flushed),
                Output::Journal { id, edit, chunks } => self.journal_edit((id, edit, chunks)),
                Output::Fetched(miss) => events.push(StorageEvent::Fetched(miss)),
                // Who waits for that looks at `is_stalled` after each step.
                Output::Flushed { .. } => {}
                Output::Staged { table } => {
                    events.extend(range_of(table).map(|range| StorageEvent::Staged { range }));
                }
                Output::IngestFailed { table, reason } => {
                    let failed = |range| StorageEvent::IngestFailed { range, reason };
                    events.extend(range_of(table).map(failed));
                }
                Output::Installed { table } => {
                    self.log_is_installed();
                    events.extend(range_of(table).map(|_| StorageEvent::Installed));
                }
                Output::ChunkStored { op, result } => {
                    events.push(StorageEvent::ChunkStored { op, result });
                }
                Output::ChunkFreed { op, result } => {
                    events.push(StorageEvent::ChunkFreed { op, result });
                }
                Output::ChunkRead { op, result } => {
                    events.push(StorageEvent::ChunkRead { op, result });
                }
                Output::ChunkLooked { op, result } => {
                    events.push(StorageEvent::ChunkLooked { op, result });
                }
                Output::Damaged { table, reason, .. } => {
                    events.push(StorageEvent::Note(reason));
                    if let TableId::Range(range) = table {
                        self.damaged.insert(range);
                    }
                }
                Output::Note(note) => events.push(StorageEvent::Note(note)),
                Output::Fatal(reason) => return Err(reason),
            }
        }
        Ok(events)
    }
}

fn range_of(table: TableId) -> Option<RangeId> {
    match table {
        TableId::Range(range) => Some(range),
        TableId::Chunks => None,
    }
}
