//! From committed entries to rows: the replica's state machine and what it waits for.
//!
//! Applying is pure until it succeeds: an entry whose rows are not in memory names the block it
//! needs, waits, and is tried again. A replica starts from what its table holds and applies the rest
//! of the log again: there is no second write-ahead log.

use std::collections::{BTreeMap, VecDeque};

use super::replica::Replica;
use super::serving::Host;
use crate::codec::Wire;
use crate::consensus::{Cached, Entry, EntryKind};
use crate::effects::{Effect, Effects, Now};
use crate::hash::StateHash;
use crate::ids::LogIndex;
use crate::range::command::{Batch, CommandBody, Outcome};
use crate::range::{Range, RowError};
use crate::rows::Miss;
use crate::store::observe::Observation;

/// Entries applied in one step; the rest comes in further steps.
const ENTRIES_PER_STEP: usize = 256;
/// Hashes kept: of what is flushed, of what is being flushed, and some.
const MARKS_MAX: usize = 4;
/// Bytes of entries looked at together.
const BYTES_PER_LOOK: u64 = 1 << 20;

/// The state machine of a replica.
#[derive(Debug)]
pub(super) struct Machine {
    range: Option<Range>,
    wait: Wait,
    /// Blocks that this entry (or the loading) had to fetch; given back when it is done.
    pins: Vec<Miss>,
    /// Committed entries to be applied next, read back from the journal or left of the last look. Bounded
    /// by `BYTES_PER_LOOK`.
    read_back: Vec<Entry>,
    /// The hashes (of all rows, and of the tables alone) at the last entries at which memtables were
    /// written out, and at which the state was loaded.
    marks: BTreeMap<LogIndex, (StateHash, StateHash)>,
}

/// What applying waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Nothing.
    No,
    /// A block of the tree.
    Block(Miss),
    /// Entries of the journal, from this one.
    Entries(LogIndex),
}

impl Machine {
    pub(super) fn new() -> Self {
        Self {
            range: None,
            wait: Wait::No,
            pins: Vec::new(),
            read_back: Vec::new(),
            marks: BTreeMap::new(),
        }
    }

    /// The state, once it is loaded.
    pub(super) fn range(&self) -> Option<&Range> {
        self.range.as_ref()
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.range.is_some()
    }

    /// A block came; whether it was waited for.
    pub(super) fn fetched(&mut self, miss: Miss) -> bool {
        let waited = self.wait == Wait::Block(miss);
        if waited {
            self.wait = Wait::No;
        }
        waited
    }

    /// Entries came.
    pub(super) fn entries_read(&mut self, from: LogIndex, entries: Vec<Entry>) {
        if self.wait == Wait::Entries(from) {
            self.wait = Wait::No;
            self.read_back = entries;
        }
    }

    fn miss(&mut self, miss: Miss, host: &mut Host, fx: &mut Effects) {
        self.wait = Wait::Block(miss);
        self.pins.push(miss);
        // An entry is applied as a whole: what it has fetched must stay until it has everything, or
        // it would never get there. Bounded by the commands of a batch and the runs of the table.
        host.storage.fetch(miss, true, fx);
    }

    /// The hashes at an entry up to which the table is in runs.
    pub(super) fn mark(&self, index: LogIndex) -> Option<(StateHash, StateHash)> {
        self.marks.get(&index).copied()
    }

    /// The table is, or will be, in runs exactly as it is now.
    fn set_mark(&mut self) {
        if let Some(range) = &self.range {
            self.marks.insert(range.applied(), (range.state_hash(), range.tree_hash()));
            while self.marks.len() > MARKS_MAX {
                self.marks.pop_first();
            }
        }
    }

    pub(super) fn unpin(&mut self, host: &mut Host) {
        for miss in self.pins.drain(..) {
            host.storage.release(miss);
        }
    }
}

impl Replica {
    /// Load the state from its rows; asked again when a missing block has come.
    ///
    /// # Errors
    /// A row that makes no sense: the store must stop.
    pub(super) fn load(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let loaded = Range::load(self.id, &host.storage.rows(self.id));
        match loaded {
            Ok(range) if range.applied() != host.storage.flushed(self.id) => {
                // A forged header, or a bug: going on would apply entries twice, or none at all.
                let (found, held) = (range.applied(), host.storage.flushed(self.id));
                let id = self.id;
                return Err(format!(
                    "{id}: the table holds {held}, and its rows the state of {found}"
                ));
            }
            Ok(range) => {
                understands(&range, host).map_err(|error| format!("{}: {error}", self.id))?;
                self.machine.unpin(host);
                self.machine.range = Some(range);
                self.machine.set_mark();
                if self.leads() {
                    self.watch_sessions(now, host);
                    self.found_cluster(host);
                }
            }
            Err(RowError::Miss(miss)) => self.machine.miss(miss, host, fx),
            Err(RowError::Damaged(damaged)) => return Err(format!("{}: {damaged}", self.id)),
        }
        Ok(())
    }

    /// The table is damaged: drop it and apply again what the log has. If that does not reach back to the
    /// beginning, a state is taken from a peer.
    ///
    /// # Errors
    /// See [`Self::load`].
    pub(super) fn rebuild_table(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        self.give_up(now, "the table below it is damaged", host, fx)?;
        if self.taker.is_some() {
            // What is damaged is being replaced; if it is still there then, it is found again.
            return Ok(());
        }
        probe!(TableRebuilt);
        fx.push(Effect::Note(format!(
            "{}: a table block is damaged; rebuilding the table from the log",
            self.id
        )));
        self.machine.unpin(host);
        if let Some(range) = self.machine.range.take() {
            self.reads.restart(range.applied(), host);
        }
        self.machine = Machine::new();
        self.giver.clear(host);
        self.collector.clear(host);
        if self.raft.base_index() > LogIndex(0) {
            return self.lose_table(now, host, fx);
        }
        host.storage.reset_table(self.id);
        self.load(now, host, fx)
    }

    /// Whether there are entries to apply that nothing holds up.
    pub(super) fn has_backlog(&self, host: &Host) -> bool {
        let applied = self.machine.range().map(Range::applied);
        self.machine.wait == Wait::No
            && self.taker.is_none()
            && !host.storage.is_stalled(self.id)
            && applied.is_some_and(|applied| applied < self.committed)
    }

    /// Apply committed entries, up to the bound of a step.
    pub(super) fn apply_committed(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let mut left = if buggify!(OneEntryPerStep) { 1 } else { ENTRIES_PER_STEP };
        while left > 0 && self.has_backlog(host) {
            let mut entries = VecDeque::from(self.committed(host, fx)?);
            while let Some(entry) = entries.front() {
                if left == 0 || host.storage.is_stalled(self.id) {
                    break;
                }
                left -= 1;
                if !self.apply(now, entry, host, fx)? {
                    break;
                }
                entries.pop_front();
            }
            // They are asked for again, which is another read if they came from the journal.
            self.machine.read_back = entries.into();
        }
        Ok(())
    }

    /// Committed entries behind the applied ones, as far as they are in memory; the others are asked
    /// of the journal.
    fn committed(&mut self, host: &mut Host, fx: &mut Effects) -> Result<Vec<Entry>, String> {
        let Some(range) = &self.machine.range else { return Ok(Vec::new()) };
        let (from, commit) = (range.applied().next(), self.committed);
        let read_back = core::mem::take(&mut self.machine.read_back);
        if read_back.first().is_some_and(|entry| entry.index == from) {
            return Ok(read_back.into_iter().take_while(|entry| entry.index <= commit).collect());
        }
        match self.raft.entries(from, commit, BYTES_PER_LOOK) {
            Cached::Entries(entries) => Ok(entries),
            Cached::InJournal => {
                self.machine.wait = Wait::Entries(from);
                self.fetch(None, from, BYTES_PER_LOOK, host, fx)?;
                Ok(Vec::new())
            }
        }
    }

    /// Apply one entry; whether that was possible now.
    fn apply(
        &mut self,
        now: Now,
        entry: &Entry,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<bool, String> {
        let range = self.machine.range.as_mut().expect("only a loaded replica has a backlog");
        assert_eq!(entry.index, range.applied().next(), "entries are applied in order");
        let mut outcomes = Vec::new();
        match entry.kind {
            EntryKind::Empty | EntryKind::Membership => range.apply_empty(entry.index),
            EntryKind::Command => {
                let batch = Batch::from_bytes(&entry.payload).map_err(|error| {
                    format!(
                        "{}: the committed entry {} (term {}) cannot be read: {error}; the store \
                         must be replaced, or run by a newer version of Trine",
                        self.id, entry.index, entry.term
                    )
                })?;
                let needs = batch.commands.iter().map(|command| command.body.level()).max();
                let understood = needs.map_or(Ok(()), |needs| host.config.levels.understand(needs));
                understood.map_err(|error| {
                    let Entry { index, term, .. } = entry;
                    format!("{}: the committed entry {index} (term {term}): {error}", self.id)
                })?;
                let applied = range.apply(&host.storage.rows(self.id), entry.index, &batch);
                match applied {
                    Ok(applied) => {
                        // It may have raised the level.
                        understands(range, host)
                            .map_err(|error| format!("{}: {error}", self.id))?;
                        host.storage.write_rows(self.id, entry.index, &applied.writes);
                        if sessions_changed(&batch, &applied.outcomes) {
                            self.fencing.sessions_are(now.instant, range);
                            self.reports.retain(range);
                        }
                        for command in &batch.commands {
                            if let CommandBody::ForgetGarbage { blobs } = &command.body {
                                self.collector.forgotten(blobs);
                            }
                        }
                        outcomes = applied.outcomes;
                    }
                    Err(RowError::Miss(miss)) => {
                        probe!(ApplyWaited);
                        self.machine.miss(miss, host, fx);
                        return Ok(false);
                    }
                    Err(RowError::Damaged(damaged)) => {
                        return Err(format!("{}: {damaged}", self.id));
                    }
                }
            }
        }
        self.machine.unpin(host);
        self.raft.applied(entry.index);
        host.observer.note(self.id, || Observation::Applied {
            index: entry.index,
            batch: (entry.kind == EntryKind::Command).then(|| entry.payload.clone()),
            outcomes: outcomes.clone(),
        });
        self.commands.applied(self.id, entry, outcomes, host, fx);
        self.freeze_if_full(entry.index, host, fx);
        Ok(true)
    }

    /// Write the memtable out when it is full: the hot state goes in as rows of this very index.
    fn freeze_if_full(&mut self, index: LogIndex, host: &mut Host, fx: &mut Effects) {
        let early = buggify!(EarlyFreeze, hot) && host.storage.can_freeze(self.id);
        if host.storage.wants_freeze(self.id) || early {
            self.freeze(index, host, fx);
        }
    }

    /// Write the memtable out, as it is after the last applied entry.
    pub(super) fn freeze(&mut self, index: LogIndex, host: &mut Host, fx: &mut Effects) {
        let range = self.machine.range.as_ref().expect("something was applied");
        if !planted!(RunLacksHotState) {
            host.storage.write_rows(self.id, index, &range.materialize());
        }
        if host.storage.freeze(self.id, index, fx) {
            self.machine.set_mark();
        }
    }
}

/// That this build speaks the level of the cluster whose state a replica has.
pub(super) fn understands(range: &Range, host: &Host) -> Result<(), String> {
    let levels = host.config.levels;
    match range.level().filter(|level| !levels.contains(*level)) {
        None => Ok(()),
        Some(level) => Err(format!(
            "the cluster is at {level}, and this version of Trine speaks {levels}: run another one; \
             nothing is lost"
        )),
    }
}

/// Whether a batch opened or fenced a session.
fn sessions_changed(batch: &Batch, outcomes: &[Outcome]) -> bool {
    let fences = |body: &CommandBody| matches!(body, CommandBody::FenceSession { .. });
    outcomes.iter().any(|outcome| matches!(outcome, Outcome::SessionOpened(_)))
        || batch.commands.iter().any(|command| fences(&command.body))
}
