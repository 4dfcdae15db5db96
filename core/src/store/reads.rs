//! Linearizable reads: a read-index round, then the state machine at that index or later, then the
//! rows, some of which may have to come from disk first.

use std::collections::BTreeMap;

use super::calls::{Waiter, beat_answer};
use super::observe::Observation;
use super::replica::Replica;
use super::serving::Host;
use crate::consensus::Output;
use crate::directory::{Directory, Standing};
use crate::effects::{Effects, Now};
use crate::ids::{CallId, LogIndex, RangeId, SessionId, StoreId};
use crate::message::{Answer, BlobAnswer, BlobAsk, BlobVerdict, BlobVerdicts, Message, Refusal};
use crate::object::OwnedBlob;
use crate::range::command::{Read, ReadReply};
use crate::range::{BlobState, Progress, Range, RowError};
use crate::rows::Miss;

/// Who is answered, and what he asks.
#[derive(Debug)]
enum Asks {
    /// A gateway: a read; or, without one, whether its session lives.
    Gateway { waiter: Waiter, session: SessionId, read: Option<Read> },
    /// A store: whether blobs are referenced.
    Store { store: StoreId, call: CallId, blobs: Blobs },
}

/// Blobs that a store asks about.
#[derive(Debug)]
struct Blobs {
    /// Each, and whether it was known to be closed when the question came.
    asked: Vec<(OwnedBlob, bool)>,
    /// What was found of the first of them.
    states: Vec<BlobState>,
}

/// A read, a question whether a session lives, or one about blobs.
#[derive(Debug)]
pub(super) struct ReadCall {
    asks: Asks,
    /// Blocks it had to fetch, pinned until it is answered.
    pins: Vec<Miss>,
    /// What it has found before the last of them was missing.
    progress: Progress,
}

impl ReadCall {
    pub(super) fn new(waiter: Waiter, session: SessionId, read: Option<Read>) -> Self {
        Self::of(Asks::Gateway { waiter, session, read })
    }

    fn of(asks: Asks) -> Self {
        Self { asks, pins: Vec::new(), progress: Progress::default() }
    }

    /// It cannot be answered, or not here.
    fn refuse(&self, range: RangeId, refusal: Refusal, host: &mut Host, fx: &mut Effects) {
        match &self.asks {
            Asks::Gateway { waiter, .. } => waiter.answer(range, Err(refusal), host, fx),
            Asks::Store { store, call, .. } => {
                let leader = match refusal {
                    Refusal::NotLeader { leader } => leader,
                    _ => None,
                };
                let answer = BlobAnswer { call: *call, result: Err(leader) };
                host.tell(*store, Message::BlobAnswer(answer), fx);
            }
        }
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
        let index = if planted!(ReadNotApplied) { LogIndex(0) } else { index };
        let read = self.asked.remove(&token).expect("consensus answers each read once");
        self.confirmed.entry(index).or_default().push(read);
    }

    /// Leadership was lost before the round was done.
    pub(super) fn lost(&mut self, range: RangeId, token: u64, host: &mut Host, fx: &mut Effects) {
        let read = self.asked.remove(&token).expect("consensus answers each read once");
        read.refuse(range, Refusal::Interrupted, host, fx);
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
            if let Asks::Store { blobs, .. } = &mut read.asks {
                blobs.states.clear();
            }
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
        self.reads.asked.insert(token, read);
        host.observer.note(self.id, || Observation::ReadAsked { token });
        let mut out = Output::default();
        match self.raft.read_index(now.instant, token, &mut out) {
            Ok(()) => self.carry_out(now, out, host, fx),
            Err(_) => {
                host.observer.note(self.id, || Observation::ReadLost { token });
                let leader = self.raft.leader();
                if let Some(read) = self.reads.asked.remove(&token) {
                    read.refuse(self.id, Refusal::NotLeader { leader }, host, fx);
                }
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
        let looked = match &mut read.asks {
            Asks::Gateway { session, read: None, .. } => {
                Ok(Ok(beat_answer(range.session_live(*session), range)))
            }
            Asks::Gateway { session, .. } if !range.session_live(*session) => {
                Ok(Err(Refusal::Fenced))
            }
            Asks::Gateway { read: Some(asked), .. } => {
                let reply = look(range, asked, &mut read.progress, self.id, host);
                reply.map(|reply| Ok(Answer::Read(reply)))
            }
            // What it is answered with is put together below.
            Asks::Store { blobs, .. } => {
                blobs.look(range, self.id, host).map(|()| Err(Refusal::Interrupted))
            }
        };
        let result = match looked {
            Ok(result) => result,
            Err(RowError::Miss(miss)) => {
                host.storage.fetch(miss, false, fx);
                if read.goes_through_rows() {
                    // It will want what follows.
                    host.storage.read_ahead(miss, fx);
                }
                probe!(ReadWaited);
                read.pins.push(miss);
                self.reads.blocked.entry(miss).or_default().push(read);
                return Ok(());
            }
            Err(RowError::Damaged(damaged)) => return Err(format!("{}: {damaged}", self.id)),
        };
        for pin in read.pins {
            host.storage.release(pin);
        }
        match read.asks {
            Asks::Gateway { waiter, .. } => waiter.answer(self.id, result, host, fx),
            Asks::Store { store, call, blobs } => {
                let directory = range.directory_version();
                let (settled, verdicts) = (self.reports.settled(range), blobs.verdicts(range));
                let result = Ok(BlobVerdicts { directory, settled, verdicts });
                host.tell(store, Message::BlobAnswer(BlobAnswer { call, result }), fx);
            }
        }
        Ok(())
    }

    /// A store asks about blobs.
    ///
    /// # Errors
    /// As [`Self::ask_read`].
    pub(super) fn ask_blobs(
        &mut self,
        now: Now,
        from: StoreId,
        ask: BlobAsk,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let BlobAsk { call, blobs } = ask;
        let busy = self.commands.len() + self.reads.len() >= host.config.limits.calls_max;
        let range = self.machine.range().filter(|_| self.leads() && !busy);
        let Some(range) = range else {
            let leader = self.raft.leader().filter(|leader| *leader != host.config.store);
            let answer = BlobAnswer { call, result: Err(leader) };
            host.tell(from, Message::BlobAnswer(answer), fx);
            return Ok(());
        };
        // Before the round: what a report says of commands is in the state that is read after it.
        let closed = |blob: &OwnedBlob| self.reports.is_closed(blob.blob, range);
        let asked = blobs.into_iter().map(|blob| {
            let closed = closed(&blob);
            (blob, closed)
        });
        let blobs = Blobs { asked: asked.collect(), states: Vec::new() };
        let read = ReadCall::of(Asks::Store { store: from, call, blobs });
        self.ask_read(now, read, host, fx)
    }
}

impl ReadCall {
    /// Whether it reads many rows in their order.
    fn goes_through_rows(&self) -> bool {
        let Asks::Gateway { read: Some(read), .. } = &self.asks else { return false };
        matches!(read, Read::Scan(_) | Read::Uploads { .. } | Read::Audit { .. })
    }
}

impl Blobs {
    /// Find out what they are, as far as rows are in memory.
    fn look(&mut self, range: &Range, id: RangeId, host: &mut Host) -> Result<(), RowError> {
        for (blob, _) in &self.asked[self.states.len()..] {
            self.states.push(range.blob_state(&host.storage.rows(id), blob)?);
        }
        Ok(())
    }

    /// What to say of them.
    fn verdicts(&self, range: &Range) -> Vec<BlobVerdict> {
        let verdict = |((blob, closed), state): (&(OwnedBlob, bool), &BlobState)| match state {
            BlobState::Referenced => BlobVerdict::Live,
            BlobState::Dead => BlobVerdict::Dead,
            // Of a session that is over, as this state says, no command comes any more.
            BlobState::Unknown
                if *closed || range.session_standing(blob.blob.session) == Standing::Fenced =>
            {
                BlobVerdict::Gone
            }
            BlobState::Unknown => BlobVerdict::Open,
        };
        self.asked.iter().zip(&self.states).map(verdict).collect()
    }
}
