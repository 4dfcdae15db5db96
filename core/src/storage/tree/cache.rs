//! Verified blocks and value pieces in memory, within a bound.
//!
//! Eviction is by second chance ("clock"; Corbató, 1968). What an unfinished read waits for is
//! pinned, as long as pins stay within their own bound; beyond it a read may have to fetch again.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::rows::Miss;

use super::VALUE_BYTES_MAX;
use super::block::Block;

/// What is kept of a span of the disk.
#[derive(Debug)]
pub(crate) enum Cached {
    /// A tree block.
    Block(Block),
    /// A piece of a value, without its header.
    Piece(Bytes),
}

#[derive(Debug)]
struct Entry {
    content: Cached,
    bytes: u64,
    pins: u32,
    /// Set by each use, taken away by the hand of the clock. Reads are pure but for this mark.
    used: Cell<bool>,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct BlockCache {
    bytes_max: u64,
    entries: BTreeMap<Miss, Entry>,
    clock: VecDeque<Miss>,
    bytes: u64,
    pinned_bytes: u64,
}

impl BlockCache {
    /// An empty cache of at most `bytes_max` unpinned bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        // Half of it still has a block for each run of a table, which a read needs together.
        let bytes_max = if buggify!(SmallCache) { bytes_max / 2 } else { bytes_max };
        Self {
            bytes_max,
            entries: BTreeMap::new(),
            clock: VecDeque::new(),
            bytes: 0,
            pinned_bytes: 0,
        }
    }

    /// The block at a span.
    pub(crate) fn block(&self, at: Miss) -> Option<&Block> {
        match self.touch(at)? {
            Cached::Block(block) => Some(block),
            Cached::Piece(_) => None,
        }
    }

    /// The piece of a value at a span.
    pub(crate) fn piece(&self, at: Miss) -> Option<&Bytes> {
        match self.touch(at)? {
            Cached::Piece(bytes) => Some(bytes),
            Cached::Block(_) => None,
        }
    }

    fn touch(&self, at: Miss) -> Option<&Cached> {
        let entry = self.entries.get(&at)?;
        // What is pinned stays: a reader that needs many spans at once would never have them all.
        if entry.pins == 0 && buggify!(CacheMiss, hot) {
            return None;
        }
        entry.used.set(true);
        Some(&entry.content)
    }

    /// Whether a span is here.
    pub(crate) fn contains(&self, at: Miss) -> bool {
        self.entries.contains_key(&at)
    }

    /// Keep what was read, and pin it for one reader; see [`Self::pin`].
    pub(crate) fn insert(&mut self, at: Miss, content: Cached, must: bool) {
        self.remove(at);
        let bytes = at.len
            + match &content {
                // Its bytes are those of the span.
                Cached::Block(block) => block.memory_bytes().saturating_sub(at.len),
                Cached::Piece(_) => 0,
            };
        self.bytes += bytes;
        self.clock.push_back(at);
        self.entries.insert(at, Entry { content, bytes, pins: 0, used: Cell::new(true) });
        self.pin(at, must);
        self.evict();
    }

    /// Keep a span for one more reader, if it is here and pins are within their bound. A reader that
    /// needs all of its spans at once, and cannot go on without, `must` have them beyond it.
    pub(crate) fn pin(&mut self, at: Miss, must: bool) {
        let pinned_max = self.pinned_bytes_max();
        let Some(entry) = self.entries.get_mut(&at) else { return };
        if entry.pins > 0 {
            entry.pins += 1;
        } else if must || self.pinned_bytes + entry.bytes <= pinned_max {
            entry.pins = 1;
            self.pinned_bytes += entry.bytes;
        }
    }

    /// One reader has let go.
    pub(crate) fn release(&mut self, at: Miss) {
        let Some(entry) = self.entries.get_mut(&at) else { return };
        if entry.pins == 1 {
            self.pinned_bytes -= entry.bytes;
        }
        entry.pins = entry.pins.saturating_sub(1);
        self.evict();
    }

    /// Forget a span, pinned or not.
    pub(crate) fn remove(&mut self, at: Miss) {
        let Some(entry) = self.entries.remove(&at) else { return };
        self.bytes -= entry.bytes;
        if entry.pins > 0 {
            self.pinned_bytes -= entry.bytes;
        }
        self.clock.retain(|other| *other != at);
    }

    /// Forget everything between two byte offsets of the disk: its segment is given up.
    pub(crate) fn remove_span(&mut self, start: u64, end: u64) {
        let from = Miss { offset: start, len: 0 };
        let gone: Vec<_> = self
            .entries
            .range(from..)
            .map(|(at, _)| *at)
            .take_while(|at| at.offset < end)
            .collect();
        for at in gone {
            self.remove(at);
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Most bytes that this cache ever holds, but for pins that must be: its bound, and pins beyond.
    pub(crate) fn bytes_bound(&self) -> u64 {
        self.bytes_max + self.pinned_bytes_max()
    }

    /// Half a cache, and the longest value with its blocks.
    fn pinned_bytes_max(&self) -> u64 {
        self.bytes_max / 2 + 2 * VALUE_BYTES_MAX as u64
    }

    fn evict(&mut self) {
        // Each entry is passed twice at most: once for its mark, once to go.
        let mut chances = 2 * self.clock.len();
        while self.bytes > self.bytes_max && chances > 0 {
            chances -= 1;
            let Some(at) = self.clock.pop_front() else { return };
            let entry = self.entries.get(&at).expect("the clock holds what the cache holds");
            if entry.pins > 0 || entry.used.replace(false) {
                self.clock.push_back(at);
            } else {
                probe!(BlockEvicted);
                self.bytes -= entry.bytes;
                self.entries.remove(&at);
            }
        }
    }

    /// # Panics
    /// If the sums are wrong: a bug in Trine.
    pub(crate) fn check(&self) {
        assert_eq!(self.clock.len(), self.entries.len());
        assert_eq!(self.bytes, self.entries.values().map(|entry| entry.bytes).sum::<u64>());
        let pinned = self.entries.values().filter(|entry| entry.pins > 0);
        assert_eq!(self.pinned_bytes, pinned.map(|entry| entry.bytes).sum::<u64>());
        assert!(self.bytes <= self.bytes_max.max(self.pinned_bytes), "pins alone go beyond");
    }
}
