//! Chunk calls of gateways pass here: under a session that is over nothing is kept or given.
//!
//! A call whose session is newer than the directory waits for a newer one. Their number and bytes
//! are bounded, and so is the wait.

use std::collections::VecDeque;

use crate::ids::{Endpoint, SessionId};
use crate::message::{ChunkRead, ChunkWrite};
use crate::time::{Deadline, Duration, Instant};

/// Calls that may wait.
const CALLS_MAX: usize = 256;
/// How long one may.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// A chunk call of a gateway.
#[derive(Debug)]
pub(super) enum GatewayCall {
    Write(ChunkWrite),
    Read(ChunkRead),
}

impl GatewayCall {
    /// Under which session.
    pub(super) fn session(&self) -> SessionId {
        match self {
            Self::Write(write) => write.chunk.blob.session,
            Self::Read(read) => read.session,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Write(write) => write.data.len() as u64,
            Self::Read(_) => 0,
        }
    }
}

/// Calls that wait for a newer directory, in order of arrival.
#[derive(Debug)]
pub(super) struct Gate {
    waiting: VecDeque<(Instant, Endpoint, GatewayCall)>,
    bytes: u64,
    bytes_max: u64,
}

impl Gate {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Until when a call that comes now may wait.
    pub(super) fn until(now: Instant) -> Instant {
        now + WAIT_MAX
    }

    /// Whether this call may wait too.
    pub(super) fn has_room(&self, call: &GatewayCall) -> bool {
        self.waiting.len() < CALLS_MAX && self.bytes + call.bytes() <= self.bytes_max
    }

    /// Let a call wait for which there is room.
    pub(super) fn hold(&mut self, until: Instant, from: Endpoint, call: GatewayCall) {
        assert!(self.has_room(&call));
        self.bytes += call.bytes();
        self.waiting.push_back((until, from, call));
    }

    /// All calls, with the ends of their waits: there is a newer directory.
    pub(super) fn release(&mut self) -> VecDeque<(Instant, Endpoint, GatewayCall)> {
        self.bytes = 0;
        core::mem::take(&mut self.waiting)
    }

    /// Calls that have waited long enough.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<(Endpoint, GatewayCall)> {
        let mut expired = Vec::new();
        while let Some((_, from, call)) = self.waiting.pop_front_if(|(until, ..)| *until <= now) {
            self.bytes -= call.bytes();
            expired.push((from, call));
        }
        expired
    }

    /// Bytes that wait, and how many may.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.bytes, self.bytes_max)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        let (at, ..) = self.waiting.front()?;
        Some(Deadline { at: *at, reason: "a session is not known yet" })
    }

    pub(super) fn check(&self) {
        assert!(self.waiting.len() <= CALLS_MAX && self.bytes <= self.bytes_max);
        assert_eq!(self.bytes, self.waiting.iter().map(|(.., call)| call.bytes()).sum::<u64>());
    }
}
