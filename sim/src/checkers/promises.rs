//! What machines promise each other about reads, writes and sessions, held against what they do.
//!
//! - A gateway that has called a blob closed ([`SessionReport`]) writes no chunk of it, and names it in no command.
//! - Nor does it call one closed while a chunk of it is on its way, and neither answered nor given up.
//! - A report covers each read: its blobs are named, or the report holds back all that died since the read began.
//! - The calls of a gateway have numbers of their own, in all of its lives.
//! - A store frees a blob on somebody's word only when it knows the directory by which that was said: it refuses the
//!   sessions that were over then.

use std::collections::{BTreeMap, BTreeSet};

use trine_core::ids::{BlobId, CallId, Endpoint, LogIndex, RequestId, SessionId};
use trine_core::message::{
    Ask, BlobAnswer, BlobAsk, BlobFree, BlobVerdict, ChunkError, ChunkPulled, Message, RangeCall,
    SessionReport,
};

use crate::Nanos;

/// The numbers that one life of a gateway has used.
#[derive(Clone, Copy, Debug)]
struct Used {
    life: u64,
    first: u64,
    last: u64,
}

/// Which gateway says something, and when.
#[derive(Clone, Copy, Debug)]
pub struct Gateway {
    /// Its place among the machines.
    pub machine: usize,
    /// Which of its lives.
    pub life: u64,
    /// Simulated time.
    pub now: Nanos,
    /// For how long it waits at least for the answer to a write.
    pub patience: Nanos,
}

/// What was promised so far.
#[derive(Debug, Default)]
pub struct Promises {
    used: BTreeMap<usize, Vec<Used>>,
    /// The newest report of each session.
    reports: BTreeMap<SessionId, SessionReport>,
    /// Reads that were under way when a gateway last reported or asked for a chunk, and the newest state when that was
    /// first so.
    reads: BTreeMap<usize, BTreeMap<(RequestId, BlobId), LogIndex>>,
    /// Writes of chunks without an answer: which blob, to whom, and when they were sent.
    writes: BTreeMap<(usize, CallId), (BlobId, Endpoint, Nanos)>,
    /// Questions of stores about blobs.
    asked: BTreeMap<(usize, CallId), Vec<BlobId>>,
    /// The directory by which a store was told that a blob may be freed, the oldest of several.
    word: BTreeMap<(usize, BlobId), LogIndex>,
    /// Stores that have led in their present life: what they tell themselves is not overheard.
    led: BTreeSet<usize>,
}

impl Promises {
    /// A machine begins another life.
    pub fn restarted(&mut self, machine: usize) {
        self.reads.remove(&machine);
        self.led.remove(&machine);
        self.writes.retain(|(gateway, _), _| *gateway != machine);
        self.asked.retain(|(store, _), _| *store != machine);
        self.word.retain(|(store, _), _| *store != machine);
    }

    /// A gateway says something in one of its lives. `reads`: what it reads; `applied`: the newest state there is.
    ///
    /// # Errors
    /// Which promise that breaks.
    pub fn gateway_says(
        &mut self,
        Gateway { machine: gateway, life, now, patience }: Gateway,
        (to, message): (Endpoint, &Message),
        reads: impl FnOnce() -> Vec<(RequestId, BlobId)>,
        applied: LogIndex,
    ) -> Result<(), String> {
        let call = match message {
            Message::RangeCall(call) => call.call,
            Message::ChunkWrite(write) => write.call,
            Message::ChunkRead(read) => read.call,
            Message::ChunkRepair(repair) => repair.call,
            Message::ChunkCheck(ask) => ask.call,
            _ => return Ok(()),
        };
        self.uses(gateway, life, call)?;
        match message {
            Message::ChunkRead(read) => {
                // It was answered from a state that there is now.
                let known = self.reads.entry(gateway).or_default();
                for (request, blob) in reads() {
                    if blob == read.chunk.blob {
                        known.entry((request, blob)).or_insert(applied);
                    }
                }
                Ok(())
            }
            Message::ChunkWrite(write) => {
                self.writes.insert((gateway, call), (write.chunk.blob, to, now));
                self.writes(write.chunk.blob)
            }
            Message::RangeCall(RangeCall { session, ask, .. }) => match ask {
                Ask::Command(command) => {
                    command.body.new_blob().map_or(Ok(()), |blob| self.writes(blob))
                }
                Ask::Beat(report) => {
                    self.covers(gateway, report, reads(), applied)?;
                    self.writes.retain(|_, (_, _, sent)| *sent + patience > now);
                    let mut open = self.writes.iter().filter(|((of, _), _)| *of == gateway);
                    let open = open.find(|(_, (blob, ..))| {
                        blob.session == *session && report.is_closed(blob.sequence)
                    });
                    if let Some((_, (blob, to, _))) = open {
                        return Err(format!(
                            "calls {blob} closed, and a chunk is on its way to {to}"
                        ));
                    }
                    self.reports.insert(*session, (**report).clone());
                    Ok(())
                }
                Ask::Read(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn uses(&mut self, gateway: usize, life: u64, CallId(call): CallId) -> Result<(), String> {
        // 0 is of what has no answer.
        if call == 0 {
            return Ok(());
        }
        let used = self.used.entry(gateway).or_default();
        let others = used.iter().filter(|used| used.life != life);
        if others.into_iter().any(|used| (used.first..=used.last).contains(&call)) {
            return Err(format!(
                "makes call {call}, and has made another of that number in a former life"
            ));
        }
        match used.last_mut().filter(|used| used.life == life) {
            Some(used) => (used.first, used.last) = (used.first.min(call), used.last.max(call)),
            None => used.push(Used { life, first: call, last: call }),
        }
        Ok(())
    }

    fn writes(&self, blob: BlobId) -> Result<(), String> {
        let report = self.reports.get(&blob.session);
        match report.is_some_and(|report| report.is_closed(blob.sequence)) {
            true => Err(format!("writes {blob}, which it has called closed")),
            false => Ok(()),
        }
    }

    fn covers(
        &mut self,
        gateway: usize,
        report: &SessionReport,
        reads: Vec<(RequestId, BlobId)>,
        applied: LogIndex,
    ) -> Result<(), String> {
        let before = self.reads.remove(&gateway).unwrap_or_default();
        let since = |read| (read, before.get(&read).copied().unwrap_or(applied));
        let reads: BTreeMap<_, _> = reads.into_iter().map(since).collect();
        let bare = reads.iter().find(|((_, blob), since)| {
            report.reads_from > **since && report.reading.binary_search(blob).is_err()
        });
        let said = match bare {
            None => Ok(()),
            Some(((_, blob), since)) => Err(format!(
                "reads {blob} since {since}, and lets go of all that died up to {}",
                report.reads_from
            )),
        };
        self.reads.insert(gateway, reads);
        said
    }

    /// A gateway has an answer.
    pub fn gateway_hears(&mut self, gateway: usize, message: &Message) {
        if let Message::ChunkWritten(written) = message {
            self.writes.remove(&(gateway, written.call));
        }
    }

    /// A gateway has lost its link to a store.
    pub fn link_down(&mut self, gateway: usize, peer: Endpoint) {
        self.writes.retain(|(of, _), (_, to, _)| *of != gateway || *to != peer);
    }

    /// A store leads.
    pub fn leads(&mut self, store: usize) {
        self.led.insert(store);
    }

    /// A store asks about blobs.
    pub fn store_says(&mut self, store: usize, message: &Message) {
        if let Message::BlobAsk(BlobAsk { call, blobs }) = message {
            let blobs = blobs.iter().map(|blob| blob.blob).collect();
            self.asked.insert((store, *call), blobs);
        }
    }

    /// A store hears something.
    pub fn store_hears(&mut self, store: usize, message: &Message) {
        match message {
            Message::BlobFree(BlobFree { directory, blobs, .. }) => {
                blobs.iter().for_each(|blob| self.hears_word(store, *blob, *directory));
            }
            Message::BlobAnswer(BlobAnswer { call, result: Ok(said) }) => {
                let blobs = self.asked.remove(&(store, *call)).unwrap_or_default();
                let gone = blobs.iter().zip(&said.verdicts);
                let gone = gone.filter(|(_, verdict)| **verdict == BlobVerdict::Gone);
                gone.for_each(|(blob, _)| self.hears_word(store, *blob, said.directory));
            }
            Message::ChunkPulled(ChunkPulled { chunk, directory, result, .. })
                if result.as_ref().err() == Some(&ChunkError::Freed) =>
            {
                self.hears_word(store, chunk.blob, *directory);
            }
            _ => {}
        }
    }

    fn hears_word(&mut self, store: usize, blob: BlobId, directory: LogIndex) {
        let oldest = self.word.entry((store, blob)).or_insert(directory);
        *oldest = (*oldest).min(directory);
    }

    /// A store that knows this directory frees a chunk of a blob.
    ///
    /// # Errors
    /// It goes by a newer one that it does not know.
    pub fn frees(&self, store: usize, blob: BlobId, directory: u64) -> Result<(), String> {
        match self.word.get(&(store, blob)).filter(|_| !self.led.contains(&store)) {
            Some(word) if word.0 > directory => Err(format!(
                "frees {blob} by directory {word}, and knows {directory}: it still takes what was over then for live"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trine_core::ids::{BlobSequence, MapEpoch};

    const BLOB: BlobId = BlobId { session: SessionId(1), sequence: BlobSequence(3) };

    fn report(reads_from: u64, reading: Vec<BlobId>) -> SessionReport {
        let (reads_from, next) = (LogIndex(reads_from), BlobSequence(4));
        SessionReport { reads_from, reading, next, writing: Vec::new(), map: MapEpoch(1) }
    }

    #[test]
    fn what_is_called_closed_is_not_written() {
        let mut promises = Promises::default();
        assert_eq!(promises.writes(BLOB), Ok(()));
        promises.reports.insert(SessionId(1), report(0, Vec::new()));
        assert!(promises.writes(BLOB).is_err());
        let writing = SessionReport { writing: vec![BLOB.sequence], ..report(0, Vec::new()) };
        promises.reports.insert(SessionId(1), writing);
        assert_eq!(promises.writes(BLOB), Ok(()));
    }

    #[test]
    fn a_report_covers_what_is_read_over_it() {
        let mut promises = Promises::default();
        let reads = || vec![(RequestId(1), BLOB)];
        let mut covers = |report, applied| promises.covers(0, &report, reads(), LogIndex(applied));
        assert_eq!(covers(report(5, Vec::new()), 5), Ok(()), "it was read at 5 at the latest");
        assert_eq!(covers(report(9, vec![BLOB]), 9), Ok(()));
        assert!(covers(report(9, Vec::new()), 9).is_err());
        promises.restarted(0);
        assert_eq!(promises.covers(0, &report(9, Vec::new()), reads(), LogIndex(9)), Ok(()));
    }

    #[test]
    fn each_life_has_numbers_of_its_own() {
        let mut promises = Promises::default();
        assert_eq!(promises.uses(0, 1, CallId(5)), Ok(()));
        assert_eq!(promises.uses(0, 1, CallId(9)), Ok(()));
        assert_eq!(promises.uses(1, 1, CallId(7)), Ok(()), "another gateway");
        assert!(promises.uses(0, 2, CallId(7)).is_err());
        assert_eq!(promises.uses(0, 2, CallId(10)), Ok(()));
    }

    #[test]
    fn a_store_frees_by_a_directory_that_it_knows() {
        let mut promises = Promises::default();
        assert_eq!(promises.frees(2, BLOB, 0), Ok(()), "nobody was overheard");
        let free = |directory| {
            let (call, blobs) = (CallId(1), vec![BLOB]);
            Message::BlobFree(BlobFree { call, directory: LogIndex(directory), blobs })
        };
        promises.store_hears(2, &free(8));
        assert!(promises.frees(2, BLOB, 7).is_err());
        assert_eq!(promises.frees(2, BLOB, 8), Ok(()));
        promises.store_hears(2, &free(6));
        assert_eq!(promises.frees(2, BLOB, 7), Ok(()));
        promises.restarted(2);
        promises.store_hears(2, &free(8));
        promises.leads(2);
        assert_eq!(promises.frees(2, BLOB, 7), Ok(()), "it may have told itself");
    }
}
