//! What a store says of itself to operators: plain values.

use super::repair::RepairReport;
use super::replica::Replica;
use super::serving::Serving;
use super::{Life, Store};
use crate::consensus::Role;
use crate::ids::{Incarnation, LogIndex, MapEpoch, RangeId, StoreId, Term, ZoneId};
use crate::storage::{Merged, Written};

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
    /// Its replicas.
    pub ranges: Vec<RangeReport>,
    /// Its disk; zeros until it serves.
    pub disk: DiskReport,
    /// Its chunks; nothing is known, and nothing complete, until it serves.
    pub repair: RepairReport,
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
}

impl Store {
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
            ranges: Vec::new(),
            disk: DiskReport::default(),
            repair: RepairReport::default(),
        };
        match &self.life {
            Life::Serving(serving) => serving.report(report),
            _ => report,
        }
    }
}

impl Serving {
    fn report(&self, report: StoreReport) -> StoreReport {
        let host = &self.host;
        let (capacity, used) = host.storage.space();
        StoreReport {
            incarnation: host.incarnation,
            directory: host.directory.version(),
            map_epoch: host.map().epoch,
            ranges: self.replicas.values().map(Replica::report).collect(),
            disk: DiskReport {
                capacity,
                used,
                journal_free: host.storage.journal_free(),
                written: host.storage.written(),
                merged: host.storage.merged().0,
                runs: host.storage.runs().iter().map(|(runs, _)| runs).sum(),
            },
            repair: self.repair.report(host),
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
