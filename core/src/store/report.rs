//! What a store says of itself to operators: plain values.

use super::reclaim::ReclaimReport;
use super::repair::RepairReport;
use super::replica::{Replica, UNCOMMITTED_BYTES_MAX};
use super::scrub::ScrubReport;
use super::serving::Serving;
use super::{Life, Store};
use crate::consensus::{ENTRY_PAYLOAD_BYTES_MAX, Role};
use crate::disk::Room;
use crate::ids::{Incarnation, LogIndex, MapEpoch, RangeId, StoreId, Term, ZoneId};
use crate::level::{Level, Levels};
use crate::memory::MemoryAccount;
use crate::storage::{Merged, Written};

/// One command alone may be longer than all that may wait.
const COMMAND_MAX: u64 = ENTRY_PAYLOAD_BYTES_MAX as u64;

/// A store at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreReport {
    /// Which store.
    pub store: StoreId,
    /// Where.
    pub zone: ZoneId,
    /// What it does.
    pub life: StoreLife,
    /// Which life; 0 until it serves.
    pub incarnation: Incarnation,
    /// The version of the directory that it holds; 0 for none.
    pub directory: LogIndex,
    /// The epoch of the map that it goes by.
    pub map_epoch: MapEpoch,
    /// The feature levels that it speaks.
    pub levels: Levels,
    /// The one that the cluster is at, once it knows.
    pub level: Option<Level>,
    /// How many former layouts of that map are not proven to be superseded.
    pub unproven: usize,
    /// First voters without whose word the cluster does not begin; none once it has begun.
    pub waits_for: Vec<StoreId>,
    /// Its replicas.
    pub ranges: Vec<RangeReport>,
    /// Its disk; zeros until it serves.
    pub disk: DiskReport,
    /// What it holds in memory; empty until it serves.
    pub memory: MemoryAccount,
    /// Its chunks; nothing is known, and nothing complete, until it serves.
    pub repair: RepairReport,
    /// What it has freed, and is asking about.
    pub reclaim: ReclaimReport,
    /// How far scrubbing has come.
    pub scrub: ScrubReport,
}

/// What a store does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLife {
    /// Not started.
    Waiting,
    /// Its disk is being recovered.
    Opening,
    /// At work.
    Serving,
    /// Stopped, and why.
    Halted(String),
}

/// A replica of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeReport {
    /// Which range.
    pub range: RangeId,
    /// Its role in consensus.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<StoreId>,
    /// Its term.
    pub term: Term,
    /// The end of its log.
    pub last: LogIndex,
    /// What it knows to be committed.
    pub commit: LogIndex,
    /// What it has applied; `None` while its state is being loaded.
    pub applied: Option<LogIndex>,
    /// Whether it distrusts its log.
    pub suspect: bool,
    /// Who votes; while voters are exchanged, the former ones too.
    pub voters: Vec<StoreId>,
    /// Who follows without a vote.
    pub learners: Vec<StoreId>,
    /// Entries committed and not applied here.
    pub backlog: u64,
}

/// A disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskReport {
    /// Bytes that may be used.
    pub capacity: u64,
    /// Bytes in use: journal, and segments that are not free.
    pub used: u64,
    /// Bytes that the journal still takes.
    pub journal_free: u64,
    /// What was written to it since the store was started, and for what.
    pub written: Written,
    /// What merges of runs have done since.
    pub merged: Merged,
    /// Runs of all tables.
    pub runs: usize,
    /// For what there is room.
    pub room: Room,
}

impl Store {
    /// What it holds in memory; empty until it serves.
    pub fn memory(&self) -> MemoryAccount {
        match &self.life {
            Life::Serving(serving) => serving.memory(),
            Life::Waiting | Life::Opening { .. } | Life::Halted(_) => MemoryAccount::default(),
        }
    }

    /// What an operator may want to know.
    pub fn report(&self) -> StoreReport {
        let life = match &self.life {
            Life::Waiting => StoreLife::Waiting,
            Life::Opening { .. } => StoreLife::Opening,
            Life::Serving(_) => StoreLife::Serving,
            Life::Halted(reason) => StoreLife::Halted(reason.clone()),
        };
        let report = StoreReport {
            store: self.config.store,
            zone: self.config.zone,
            life,
            incarnation: Incarnation(0),
            directory: LogIndex(0),
            map_epoch: self.config.map.epoch,
            levels: self.config.levels,
            level: None,
            unproven: self.config.map.unproven.len(),
            waits_for: Vec::new(),
            ranges: Vec::new(),
            disk: DiskReport::default(),
            memory: MemoryAccount::default(),
            repair: RepairReport::default(),
            reclaim: ReclaimReport::default(),
            scrub: ScrubReport::default(),
        };
        match &self.life {
            Life::Serving(serving) => serving.report(report),
            _ => report,
        }
    }
}

impl Serving {
    /// What is held in memory.
    pub(super) fn memory(&self) -> MemoryAccount {
        let (limits, replicas) = (&self.host.config.limits, self.replicas.len() as u64);
        let mut account = MemoryAccount::default();
        // What the leader may propose, and as much again of a follower's messages.
        let records_max = replicas * 2 * UNCOMMITTED_BYTES_MAX + (1 << 20);
        self.host.storage.memory(records_max, &mut account);
        let entries = self.replicas.values().map(Replica::entry_bytes).sum();
        let entries_max = replicas * (limits.entry_cache_bytes + 2 * UNCOMMITTED_BYTES_MAX);
        account.add("log entries", entries, entries_max);
        let queued = self.replicas.values().map(|replica| replica.commands.queue_bytes()).sum();
        account.add("commands waiting", queued, replicas * (limits.call_bytes_max + COMMAND_MAX));
        let (held, held_max) = self.gate.bytes();
        account.add("calls of new sessions", held, held_max);
        self.repair.memory(&mut account);
        self.reclaim.memory(&mut account);
        account
    }

    fn report(&self, report: StoreReport) -> StoreReport {
        let host = &self.host;
        let (capacity, used) = host.storage.space();
        StoreReport {
            incarnation: host.incarnation,
            directory: host.directory.version(),
            map_epoch: host.map().epoch,
            level: host.peers.level(),
            unproven: host.map().unproven.len(),
            waits_for: self.founding.waits_for(),
            ranges: self.replicas.values().map(Replica::report).collect(),
            disk: DiskReport {
                capacity,
                used,
                journal_free: host.storage.journal_free(),
                written: host.storage.written(),
                merged: host.storage.merged().0,
                runs: host.storage.runs().iter().map(|(runs, _)| runs).sum(),
                room: host.room(),
            },
            memory: self.memory(),
            repair: self.repair.report(host),
            reclaim: self.reclaim.report(host),
            scrub: self.scrub.report(),
            ..report
        }
    }
}

impl Replica {
    fn report(&self) -> RangeReport {
        let applied = self.machine.range().map(crate::range::Range::applied);
        let commit = self.raft.commit();
        RangeReport {
            range: self.id,
            role: self.raft.role(),
            leader: self.raft.leader(),
            term: self.raft.term(),
            last: self.raft.last_index(),
            commit,
            applied,
            suspect: self.raft.is_suspect(),
            voters: self.raft.membership().all_voters().collect(),
            learners: self.raft.membership().learners().to_vec(),
            backlog: commit.0.saturating_sub(applied.map_or(0, |applied| applied.0)),
        }
    }
}
