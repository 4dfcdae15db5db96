//! The leader of the root range fences sessions that have gone silent.
//!
//! By its own monotonic clock, started anew at its election. Safety never depends on that time: what
//! a session may do is decided where its commands are applied.

use std::collections::BTreeMap;

use super::replica::Replica;
use super::serving::Host;
use crate::cluster::ClusterMap;
use crate::effects::Now;
use crate::ids::SessionId;
use crate::range::Range;
use crate::range::command::CommandBody;
use crate::time::{Deadline, Duration, Instant};

/// When each live session was last heard from; empty unless this replica leads.
#[derive(Debug, Default)]
pub(super) struct Fencing {
    heard: BTreeMap<SessionId, Instant>,
    leads: bool,
    timeout: Duration,
}

impl Fencing {
    /// This replica leads: every session has the whole timeout from now on.
    pub(super) fn led_since(&mut self, now: Instant, timeout: Duration, range: Option<&Range>) {
        self.leads = true;
        self.timeout = timeout;
        self.heard.clear();
        if let Some(range) = range {
            self.sessions_are(now, range);
        }
    }

    /// This replica does not lead.
    pub(super) fn clear(&mut self) {
        self.leads = false;
        self.heard.clear();
    }

    /// Sessions were opened or fenced.
    pub(super) fn sessions_are(&mut self, now: Instant, range: &Range) {
        if self.leads {
            let heard = core::mem::take(&mut self.heard);
            let live = range.live_sessions();
            self.heard = live.map(|(id, _)| (id, heard.get(&id).copied().unwrap_or(now))).collect();
        }
    }

    /// A session sent something.
    pub(super) fn heard_from(&mut self, now: Instant, session: SessionId) {
        if let Some(heard) = self.heard.get_mut(&session) {
            *heard = now;
        }
    }

    /// Sessions that were silent for too long, each told once.
    fn silent(&mut self, now: Instant) -> Vec<SessionId> {
        let timeout = self.timeout;
        let silent: Vec<SessionId> = self
            .heard
            .iter()
            .filter(|(_, heard)| {
                let early = **heard + timeout / 4 <= now && buggify!(EarlyFence, hot);
                **heard + timeout <= now || early
            })
            .map(|(session, _)| *session)
            .collect();
        for session in &silent {
            self.heard.remove(session);
        }
        silent
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        let first = self.heard.values().min()?;
        Some(Deadline { at: *first + self.timeout, reason: "a session is silent" })
    }
}

impl Replica {
    /// Queue the fences that are due.
    pub(super) fn fence_silent_sessions(&mut self, now: Now) {
        for session in self.fencing.silent(now.instant) {
            probe!(SessionSilent);
            self.commands.queue_system(CommandBody::FenceSession { session });
        }
    }

    /// This replica has come to lead, or has loaded its state while leading.
    pub(super) fn watch_sessions(&mut self, now: Now, host: &Host) {
        let timeout = host.config.timing.session_timeout;
        self.fencing.led_since(now.instant, timeout, self.machine.range());
    }

    /// A leader whose range has no cluster map yet writes down the one of its configuration. It may
    /// stand in an entry that is not applied here yet: then this one changes nothing.
    pub(super) fn found_cluster(&mut self, host: &Host) {
        if self.machine.range().is_some_and(|range| range.map().is_none()) {
            // A store that runs an older version, and has said so, shall not be left behind.
            let level = host.peers.newest_of_all(host.config.levels);
            let map = Box::new(ClusterMap { level, ..host.config.map.clone() });
            self.commands.queue_system(CommandBody::FoundCluster { map });
        }
    }
}
