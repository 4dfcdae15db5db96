//! Linearizable reads: a read-index round, then the state machine at that index or later, then the
//! rows, some of which may have to come from disk first.

use std::collections::BTreeMap;

use super::calls::Waiter;
use super::observe::Observation;
use super::replica::Replica;
use super::serving::Host;
use crate::consensus::Output;
use crate::directory::Directory;
use crate::effects::{Effects, Now};
use crate::ids::{LogIndex, RangeId, SessionId};
use crate::message::{Answer, Refusal};
use crate::range::command::{Read, ReadReply};
use crate::range::{Progress, Range, RowError};
use crate::rows::Miss;

/// A read, or a question whether a session lives.
#[derive(Debug)]
pub(super) struct ReadCall {
    waiter: Waiter,
    session: SessionId,
    /// `None` asks only for the session.
    read: Option<Read>,
    /// Blocks it had to fetch, pinned until it is answered.
    pins: Vec<Miss>,
    /// What it has found before the last of them was missing.
    progress: Progress,
}

impl ReadCall {
    pub(super) fn new(waiter: Waiter, session: SessionId, read: Option<Read>) -> Self {
        Self { waiter, session, read, pins: Vec::new(), progress: Progress::default() }
    }
}

/// Reads in hand.
#[derive(Debug, Default)]
pub(super) struct Reads {
    next_token: u64,
    /// They wait for their round.
    asked: BTreeMap<u64, ReadCall>,
    /// They wait for the state machine to reach an index.
    confirmed: BTreeMap<LogIndex, Vec<ReadCall>>,
    /// They wait for a block.
    blocked: BTreeMap<Miss, Vec<ReadCall>>,
    /// Their block has come.
    unblocked: Vec<ReadCall>,
}

impl Reads {
    /// Reads in hand.
    pub(super) fn len(&self) -> usize {
        let confirmed: usize = self.confirmed.values().map(Vec::len).sum();
        let blocked: usize = self.blocked.values().map(Vec::len).sum();
        self.asked.len() + confirmed + blocked + self.unblocked.len()
    }

    /// The round is done: what is applied at `index` is fresh enough.
    pub(super) fn ready(&mut self, token: u64, index: LogIndex) {
        let read = self.asked.remove(&token).expect("consensus answers each read once");
        self.confirmed.entry(index).or_default().push(read);
    }

    /// Leadership was lost before the round was done.
    pub(super) fn lost(&mut self, range: RangeId, token: u64, host: &Host, fx: &mut Effects) {
        let read = self.asked.remove(&token).expect("consensus answers each read once");
        read.waiter.answer(range, Err(Refusal::Interrupted), host, fx);
    }

    /// A block has come.
    pub(super) fn fetched(&mut self, miss: Miss) {
        self.unblocked.extend(self.blocked.remove(&miss).unwrap_or_default());
    }

    /// The table, which had reached an index, is built again from the log: reads that looked into it
    /// start over when it is there again.
    pub(super) fn restart(&mut self, reached: LogIndex, host: &mut Host) {
        let blocked = core::mem::take(&mut self.blocked).into_values().flatten();
        let mut again: Vec<ReadCall> = core::mem::take(&mut self.unblocked);
        again.extend(blocked);
        for read in &mut again {
            read.progress = Progress::default();
            for pin in read.pins.drain(..) {
                host.storage.release(pin);
            }
        }
        self.confirmed.entry(reached).or_default().extend(again);
    }
}

/// Read from the rows in memory.
fn look(
    range: &Range,
    read: &Read,
    progress: &mut Progress,
    id: RangeId,
    host: &mut Host,
) -> Result<ReadReply, RowError> {
    range.read(&host.storage.rows(id), read, progress)
}

impl Replica {
    /// The directory of what is applied here, if this is the root range's replica, loaded and founded.
    pub(super) fn directory(&self) -> Option<Directory> {
        self.machine.range()?.directory()
    }

    /// Begin a read.
    pub(super) fn ask_read(
        &mut self,
        now: Now,
        read: ReadCall,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        self.reads.next_token += 1;
        let token = self.reads.next_token;
        let waiter = read.waiter;
        self.reads.asked.insert(token, read);
        host.observer.note(self.id, || Observation::ReadAsked { token });
        let mut out = Output::default();
        match self.raft.read_index(now.instant, token, &mut out) {
            Ok(()) => self.carry_out(now, out, host, fx),
            Err(_) => {
                host.observer.note(self.id, || Observation::ReadLost { token });
                self.reads.asked.remove(&token);
                let leader = self.raft.leader();
                waiter.answer(self.id, Err(Refusal::NotLeader { leader }), host, fx);
                Ok(())
            }
        }
    }

    /// Answer the reads whose index is applied and whose blocks are in memory.
    ///
    /// # Errors
    /// A row that makes no sense: the store must stop.
    pub(super) fn answer_reads(&mut self, host: &mut Host, fx: &mut Effects) -> Result<(), String> {
        let applied = match self.machine.range() {
            Some(range) => range.applied(),
            None => return Ok(()),
        };
        let later = self.reads.confirmed.split_off(&applied.next());
        let ready = core::mem::replace(&mut self.reads.confirmed, later);
        let mut reads = core::mem::take(&mut self.reads.unblocked);
        reads.extend(ready.into_values().flatten());
        for read in reads {
            self.answer_read(read, host, fx)?;
        }
        Ok(())
    }

    fn answer_read(
        &mut self,
        mut read: ReadCall,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let range = self.machine.range().expect("asked only when it is loaded");
        let live = range.session_live(read.session);
        let result = match &read.read {
            None => Ok(Answer::Beat { live, map: range.map_epoch() }),
            Some(_) if !live => Err(Refusal::Fenced),
            Some(asked) => match look(range, asked, &mut read.progress, self.id, host) {
                Ok(reply) => Ok(Answer::Read(reply)),
                Err(RowError::Miss(miss)) => {
                    host.storage.fetch(miss, false, fx);
                    if matches!(asked, Read::Scan(_) | Read::Uploads { .. } | Read::Audit { .. }) {
                        // It will want what follows.
                        host.storage.read_ahead(miss, fx);
                    }
                    read.pins.push(miss);
                    self.reads.blocked.entry(miss).or_default().push(read);
                    return Ok(());
                }
                Err(RowError::Damaged(damaged)) => return Err(format!("{}: {damaged}", self.id)),
            },
        };
        for pin in read.pins {
            host.storage.release(pin);
        }
        read.waiter.answer(self.id, result, host, fx);
        Ok(())
    }
}
