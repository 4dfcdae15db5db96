//! What a leader knows of one peer, and how fast it may send to it.
//!
//! ```text
//!            accepted                    next entry is compacted
//!   Probe ─────────────▶ Replicate   (either) ────────────────▶ Snapshot
//!     ▲                     │                                      │
//!     └── rejected, link ───┴───────── installed, or accepted ─────┘
//! ```

use std::collections::VecDeque;

use super::suspect::Suspicion;
use crate::ids::LogIndex;
use crate::time::{Duration, Instant};

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Durable at the peer and equal to the leader's log.
    pub(super) matched: LogIndex,
    /// What to send next.
    pub(super) next: LogIndex,
    pub(super) flow: Flow,
    /// Entries are being read from the journal, since then.
    pub(super) fetching: Option<Instant>,
    /// The newest round that the peer acknowledged while it trusted its log.
    pub(super) round: u64,
    /// The commit index that the peer was last told with an append.
    pub(super) commit_told: LogIndex,
    /// When the peer last said anything.
    pub(super) heard_at: Instant,
    /// When `matched` last rose, or the flow last changed.
    pub(super) moved_at: Instant,
    pub(super) suspicion: Suspicion,
    /// When last heard, the peer distrusted its log.
    pub(super) is_suspect: bool,
    pub(super) catching_up: CatchingUp,
}

/// How far behind the leader's log a peer is, by rounds (Ongaro, 4.2.1): a round is over when the
/// peer holds what was the end of the log when the round began.
#[derive(Clone, Copy, Debug)]
pub(super) struct CatchingUp {
    target: LogIndex,
    since: Instant,
    /// The last round was no longer than an election timeout.
    pub(super) done: bool,
}

/// How a leader sends to a peer.
#[derive(Clone, Debug)]
pub(super) enum Flow {
    /// Where the logs part is not known: one append at a time.
    Probe {
        /// When the one in flight was sent.
        sent_at: Option<Instant>,
    },
    /// Appends are sent ahead of their acknowledgements.
    Replicate {
        /// The last index of each append in flight.
        in_flight: VecDeque<LogIndex>,
    },
    /// The peer needs a snapshot.
    Snapshot {
        /// When it was last asked for or sent.
        since: Instant,
        /// What it covers, once it was sent.
        index: Option<LogIndex>,
    },
}

impl Progress {
    /// Nothing is known yet of a peer; guess that its log ends as the leader's.
    pub(super) fn new(next: LogIndex, now: Instant) -> Self {
        Self {
            matched: LogIndex(0),
            next,
            flow: Flow::Probe { sent_at: None },
            fetching: None,
            round: 0,
            commit_told: LogIndex(0),
            heard_at: now,
            moved_at: now,
            suspicion: Suspicion::default(),
            is_suspect: false,
            catching_up: CatchingUp { target: next.previous(), since: now, done: false },
        }
    }

    /// What counts towards commit: nothing while the peer may have forgotten a vote (see `suspect`).
    pub(super) fn counted(&self) -> LogIndex {
        if self.suspicion.is_open() { LogIndex(0) } else { self.matched }
    }

    /// The peer was heard, in a log that ends with `last`. A round that takes longer than `round` is
    /// too long.
    pub(super) fn measure_catching_up(&mut self, last: LogIndex, now: Instant, round: Duration) {
        let CatchingUp { target, since, .. } = self.catching_up;
        let in_time = now <= since + round;
        if self.matched >= target {
            // With all of the log there, the next round is over as soon as it begins.
            let done = in_time || self.matched == last;
            self.catching_up = CatchingUp { target: last, since: now, done };
        } else if !in_time {
            self.catching_up.done = false;
        }
    }

    /// What the peer held may be gone.
    pub(super) fn forget_matched(&mut self, last: LogIndex, now: Instant) {
        self.matched = LogIndex(0);
        self.catching_up = CatchingUp { target: last, since: now, done: false };
    }

    /// Start anew after what is known to match. If the log from `base` to `last` does not reach back to
    /// that, the peer may hold more than is known of it: guess, as at first, that it lacks nothing.
    pub(super) fn probe(&mut self, base: LogIndex, last: LogIndex, now: Instant) {
        let known = if self.matched >= base { self.matched } else { last };
        self.probe_from(known.next(), now);
    }

    /// Start anew at `next`.
    pub(super) fn probe_from(&mut self, next: LogIndex, now: Instant) {
        self.next = next.max(self.matched.next());
        self.flow = Flow::Probe { sent_at: None };
        self.fetching = None;
        self.moved_at = now;
    }

    /// The peer holds the log up to `matched`.
    pub(super) fn accepted(&mut self, matched: LogIndex, now: Instant) {
        if matched > self.matched {
            self.matched = matched;
            self.moved_at = now;
        }
        if self.next <= matched {
            self.next = matched.next();
            // What is being read is not needed any more.
            self.fetching = None;
        }
        match &mut self.flow {
            Flow::Probe { .. } => {
                self.next = self.matched.next();
                self.fetching = None;
                self.flow = Flow::Replicate { in_flight: VecDeque::new() };
            }
            Flow::Replicate { in_flight } => {
                while in_flight.front().is_some_and(|last| *last <= matched) {
                    in_flight.pop_front();
                }
            }
            Flow::Snapshot { .. } => {}
        }
    }

    /// Whether entries may be sent now. A probe or a fetch that was not answered within `retry` is
    /// taken for lost.
    pub(super) fn may_send(&self, now: Instant, retry: Duration, in_flight_max: usize) -> bool {
        if self.fetching.is_some_and(|since| since + retry > now) {
            return false;
        }
        match &self.flow {
            Flow::Probe { sent_at } => sent_at.is_none_or(|sent_at| sent_at + retry <= now),
            Flow::Replicate { in_flight } => in_flight.len() < in_flight_max,
            Flow::Snapshot { .. } => false,
        }
    }

    /// Entries up to `last` (the one before `next` if none) have been sent.
    pub(super) fn sent(&mut self, last: LogIndex, commit: LogIndex, now: Instant) {
        self.fetching = None;
        self.commit_told = commit;
        match &mut self.flow {
            Flow::Probe { sent_at } => *sent_at = Some(now),
            Flow::Replicate { in_flight } if last >= self.next => {
                in_flight.push_back(last);
                self.next = last.next();
            }
            Flow::Replicate { .. } | Flow::Snapshot { .. } => {}
        }
    }

    pub(super) fn check(&self, last_index: LogIndex) {
        assert!(self.matched < self.next, "what matches is not sent again");
        assert!(self.next <= last_index.next(), "nothing is sent beyond the log");
        if let Flow::Replicate { in_flight } = &self.flow {
            assert!(in_flight.iter().all(|last| *last < self.next), "in flight means sent");
        }
    }
}
