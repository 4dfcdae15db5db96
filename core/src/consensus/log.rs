//! A replica's log as it is in memory: the term of every entry (run-length), and the payloads of
//! the newest ones. Which of it is durable is the business of `raft`.

use std::collections::VecDeque;

use super::config::RecoveredLog;
use super::message::{ENTRIES_PER_APPEND_MAX, Entry};
use crate::ids::{LogIndex, Term};

/// Memory of an entry beside its payload, in bytes, as limits count it.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// Entries asked of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// As many as the limits allow, at least one.
    Entries(Vec<Entry>),
    /// The first one asked for is in the journal only.
    InJournal,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// The entry before the first.
    base: LogIndex,
    base_term: Term,
    /// First index of each run of one term, ascending in both.
    runs: VecDeque<(LogIndex, Term)>,
    last: LogIndex,
    /// The newest entries, without a gap, up to `last`.
    cache: VecDeque<Entry>,
    cache_bytes: u64,
    cache_bytes_max: u64,
}

/// What an entry costs where bytes are counted.
pub(super) fn entry_bytes(entry: &Entry) -> u64 {
    entry.payload.len() as u64 + ENTRY_OVERHEAD_BYTES
}

impl Log {
    pub(super) fn new(recovered: &RecoveredLog, cache_bytes_max: u64) -> Self {
        let log = Self {
            base: recovered.base_index,
            base_term: recovered.base_term,
            runs: recovered.terms.iter().copied().collect(),
            last: recovered.last_index,
            cache: VecDeque::new(),
            cache_bytes: 0,
            cache_bytes_max,
        };
        log.check();
        log
    }

    /// The entry before the first one that is there.
    pub(super) fn base(&self) -> LogIndex {
        self.base
    }

    pub(super) fn last_index(&self) -> LogIndex {
        self.last
    }

    pub(super) fn last_term(&self) -> Term {
        self.runs.back().map_or(self.base_term, |(_, term)| *term)
    }

    /// The term of an entry, also of the one before the first; `None` outside.
    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index < self.base || index > self.last {
            return None;
        }
        let run = self.runs.partition_point(|(first, _)| *first <= index);
        Some(run.checked_sub(1).map_or(self.base_term, |run| self.runs[run].1))
    }

    /// The newest entry at or before `index` whose term is not above `term`; the base if none is.
    /// What the two sides of a rejected append skip by.
    pub(super) fn newest_not_above(&self, index: LogIndex, term: Term) -> LogIndex {
        let mut end = index.min(self.last);
        for (first, run_term) in self.runs.iter().rev() {
            if *first <= end {
                if *run_term <= term {
                    return end;
                }
                end = first.previous();
            }
        }
        self.base
    }

    /// Append what continues the log.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        for entry in entries {
            assert_eq!(entry.index, self.last.next(), "entries continue the log");
            assert!(entry.term >= self.last_term(), "terms in a log never fall");
            if entry.term > self.last_term() || self.runs.is_empty() {
                self.runs.push_back((entry.index, entry.term));
            }
            self.last = entry.index;
            self.cache_bytes += entry_bytes(entry);
            self.cache.push_back(entry.clone());
        }
    }

    /// Forget the entries from `index` on.
    pub(super) fn truncate(&mut self, index: LogIndex) {
        assert!(index > self.base && index <= self.last, "a truncation removes something");
        self.last = index.previous();
        while self.cache.back().is_some_and(|entry| entry.index >= index) {
            let entry = self.cache.pop_back().expect("back() just gave it");
            self.cache_bytes -= entry_bytes(&entry);
        }
        while self.runs.back().is_some_and(|(first, _)| *first >= index) {
            self.runs.pop_back();
        }
    }

    /// Entries `from..=to`, as far as `bytes_max` and the message limit allow.
    pub(super) fn entries(&self, from: LogIndex, to: LogIndex, bytes_max: u64) -> Cached {
        assert!(from > self.base && from <= to && to <= self.last, "a span within the log");
        let Some(skip) = self
            .cache
            .front()
            .and_then(|first| from.0.checked_sub(first.index.0))
            .and_then(|skip| usize::try_from(skip).ok())
        else {
            return Cached::InJournal;
        };
        let mut bytes = 0;
        let entries: Vec<Entry> = self
            .cache
            .iter()
            .skip(skip)
            .take_while(|entry| {
                let fits = bytes == 0 || bytes + entry_bytes(entry) <= bytes_max;
                bytes += entry_bytes(entry);
                fits && entry.index <= to
            })
            .take(ENTRIES_PER_APPEND_MAX)
            .cloned()
            .collect();
        assert_eq!(entries.first().map(|entry| entry.index), Some(from), "the cache has no gap");
        Cached::Entries(entries)
    }

    /// Bytes of all entries that are in memory.
    pub(super) fn bytes_in_memory(&self) -> u64 {
        self.cache_bytes
    }

    /// Bytes of the entries `from..=to` as far as they are in memory.
    pub(super) fn cached_bytes(&self, from: LogIndex, to: LogIndex) -> u64 {
        let newest_first = self.cache.iter().rev().skip_while(|entry| entry.index > to);
        newest_first.take_while(|entry| entry.index >= from).map(entry_bytes).sum()
    }

    /// Forget payloads up to `through`, oldest first, until the cache fits its limit. What is behind
    /// it stays: other limits bound that.
    pub(super) fn evict(&mut self, through: LogIndex) {
        while self.cache_bytes > self.cache_bytes_max
            && self.cache.front().is_some_and(|entry| entry.index <= through)
        {
            let entry = self.cache.pop_front().expect("front() just gave it");
            self.cache_bytes -= entry_bytes(&entry);
        }
    }

    /// Forget all entries up to `through`.
    pub(super) fn compact(&mut self, through: LogIndex) {
        let Some(term) = self.term_at(through) else { return };
        while self.cache.front().is_some_and(|entry| entry.index <= through) {
            let entry = self.cache.pop_front().expect("front() just gave it");
            self.cache_bytes -= entry_bytes(&entry);
        }
        while self.runs.get(1).is_some_and(|(first, _)| *first <= through.next()) {
            self.runs.pop_front();
        }
        match self.runs.front_mut() {
            _ if through == self.last => self.runs.clear(),
            Some((first, _)) => *first = (*first).max(through.next()),
            None => {}
        }
        (self.base, self.base_term) = (through, term);
    }

    /// Forget everything: the log begins after an entry that a snapshot covers.
    pub(super) fn reset(&mut self, base: LogIndex, base_term: Term) {
        self.cache.clear();
        self.runs.clear();
        self.cache_bytes = 0;
        (self.base, self.base_term, self.last) = (base, base_term, base);
    }

    pub(super) fn check(&self) {
        assert!(self.base <= self.last, "a log ends at or after its base");
        assert_eq!(self.runs.is_empty(), self.base == self.last, "runs cover the entries");
        if let Some((first, term)) = self.runs.front() {
            assert_eq!(*first, self.base.next(), "the first run begins the log");
            assert!(*term >= self.base_term, "terms in a log never fall");
        }
        assert!(self.runs.back().is_none_or(|(first, _)| *first <= self.last), "no empty run");
        let ascending = |((a, s), (b, t)): (&(LogIndex, Term), &(LogIndex, Term))| a < b && s < t;
        assert!(self.runs.iter().zip(self.runs.iter().skip(1)).all(ascending), "runs ascend");
        if let Some(newest) = self.cache.back() {
            assert_eq!(newest.index, self.last, "the cache ends with the log");
        }
        let bytes: u64 = self.cache.iter().map(entry_bytes).sum();
        assert_eq!(bytes, self.cache_bytes, "the cache's bytes are counted right");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::message::EntryKind;
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            index: LogIndex(index),
            term: Term(term),
            kind: EntryKind::Command,
            payload: Bytes::from_static(b"0123456789"),
        }
    }

    /// Terms 1 1 2 2 2 5.
    fn log() -> Log {
        let mut log = Log::new(&RecoveredLog::default(), 3 * (10 + ENTRY_OVERHEAD_BYTES));
        log.append(
            &[1, 1, 2, 2, 2, 5]
                .map(Term)
                .iter()
                .zip(1..)
                .map(|(t, i)| entry(i, t.0))
                .collect::<Vec<_>>(),
        );
        log.check();
        log
    }

    #[test]
    fn terms_are_found_by_index() {
        let log = log();
        let terms: Vec<_> = (0..=7).map(|i| log.term_at(LogIndex(i)).map(|t| t.0)).collect();
        let expected = [Some(0), Some(1), Some(1), Some(2), Some(2), Some(2), Some(5), None];
        assert_eq!(terms, expected);
    }

    #[test]
    fn a_rejection_skips_whole_terms() {
        let log = log();
        for (index, term, expected) in
            [(6, 5, 6), (6, 4, 5), (6, 2, 5), (6, 1, 2), (4, 1, 2), (9, 9, 6), (6, 0, 0)]
        {
            let found = log.newest_not_above(LogIndex(index), Term(term));
            assert_eq!(found, LogIndex(expected), "({index}, {term})");
        }
    }

    #[test]
    fn truncation_and_compaction_keep_the_runs_right() {
        for cut in 1..=6 {
            for through in 0..=6 {
                let mut log = log();
                log.truncate(LogIndex(cut));
                log.check();
                log.compact(LogIndex(through));
                log.check();
                log.append(&[entry(cut, 9)]);
                log.check();
                assert_eq!(log.last_term(), Term(9));
            }
        }
    }

    #[test]
    fn eviction_spares_what_is_still_needed() {
        let mut log = log();
        log.evict(LogIndex(1));
        assert_eq!(log.entries(LogIndex(1), LogIndex(6), 1 << 20), Cached::InJournal);
        log.evict(LogIndex(6));
        log.check();
        assert_eq!(log.entries(LogIndex(3), LogIndex(6), 1 << 20), Cached::InJournal);
        let cached = log.entries(LogIndex(4), LogIndex(6), 1);
        assert_eq!(cached, Cached::Entries(vec![entry(4, 2)]), "at least one, whatever its size");
        assert!(matches!(log.entries(LogIndex(4), LogIndex(5), 1 << 20),
            Cached::Entries(entries) if entries.len() == 2));
    }
}
