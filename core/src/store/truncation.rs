//! Giving up the front of a range's log: entries whose rows are in runs, which no follower is likely to
//! ask for any more. A follower that does ask gets rows instead.

use super::replica::Replica;
use super::serving::Host;
use crate::effects::Effects;
use crate::ids::LogIndex;
use crate::storage::JournalRoom;

/// The newest entries in this part of the ring are kept for whoever lags a little, by every replica: it
/// may lead next.
const KEPT_PART: u64 = 4;
/// No follower makes the leader keep more than this part of the ring.
const CUT_OFF_PART: u64 = 2;
/// Whoever looks for something to give up in a journal that is shorter finds nothing.
const LONG_PART: u64 = 3;
/// A memtable that is not full is written out if it gives at least this part of the ring back, or all
/// that it holds before the newest part.
const RUN_PART: u64 = 8;
/// Less than this part of the ring is not worth it.
const GAIN_PART: u64 = 32;

/// Whether there may be something to give up.
pub(super) fn is_long(room: JournalRoom) -> bool {
    room.used() > room.ring / LONG_PART
}

/// What decides how much of a log is given up: each an entry, of those before which nothing stands.
#[derive(Clone, Copy, Debug)]
struct Needs {
    /// In runs, and known to be applied.
    settled: LogIndex,
    /// The last entry before the newest part of the ring.
    kept: LogIndex,
    /// The last entry before the part of the ring that followers may hold.
    cut_off: LogIndex,
    /// What the slowest follower that gets the log holds.
    followers: Option<LogIndex>,
}

/// Up to where a log is given up. Pure.
fn choose(needs: Needs) -> LogIndex {
    let Needs { settled, kept, cut_off, followers } = needs;
    let followers = followers.map_or(kept, |held| held.max(cut_off));
    settled.min(kept).min(followers)
}

impl Replica {
    /// Give up what can be given up of the log; the next checkpoint says so. If the memtable holds too
    /// much of it, it is written out.
    pub(super) fn give_up_entries(&mut self, room: JournalRoom, host: &mut Host, fx: &mut Effects) {
        let Some(applied) = self.machine.range().map(crate::range::Range::applied) else { return };
        if self.taker.is_some() || self.lost {
            // Its rows are about to be replaced.
            return;
        }
        let mut before = |part: u64| {
            let position = room.head.saturating_sub(room.ring / part);
            host.storage.last_entry_before(self.id, position).unwrap_or(LogIndex(0))
        };
        let early = buggify!(LogGivenUpEarly);
        let (kept, cut_off) = match early {
            false => (before(KEPT_PART), before(CUT_OFF_PART)),
            true => (applied, applied),
        };
        let flushed = host.storage.flushed(self.id);
        let mut place = |index| host.storage.first_entry_after(self.id, index).unwrap_or(room.head);
        // While entries are applied that were read back, each one may be the first that is worth it: a
        // run costs more of the journal than a few entries give back.
        let frees = place(applied).saturating_sub(place(flushed));
        let is_due = flushed < kept && (applied >= kept || frees >= room.ring / RUN_PART);
        if is_due && flushed < applied && host.storage.can_freeze(self.id) {
            self.freeze(applied, host, fx);
        }
        let applied = self.raft.applied_index();
        let settled = if planted!(LogGivenUpUnflushed) { applied } else { flushed.min(applied) };
        let followers = self.held_by_followers(host);
        let through = choose(Needs { settled, kept, cut_off, followers });
        let base = self.raft.base_index();
        if through <= base {
            return;
        }
        let mut place = |index| host.storage.first_entry_after(self.id, index).unwrap_or(room.head);
        if place(through).saturating_sub(place(base)) < room.ring / GAIN_PART && !early {
            return;
        }
        let Some(term) = self.raft.term_at(through) else { return };
        let membership = self.membership_at(through).unwrap_or_default();
        probe!(LogGivenUp);
        self.raft.compacted(through);
        host.storage.start_log_after(self.id, (through, term), membership);
    }

    /// What the slowest of those holds who are to get the log rather than rows: `None` if this replica
    /// gives it to nobody.
    fn held_by_followers(&self, host: &Host) -> Option<LogIndex> {
        let views = self.giver.oldest_view();
        if !self.leads() {
            return views;
        }
        let (lag, commit) = (host.config.limits.snapshot_lag, self.raft.commit());
        let held = self
            .members()
            .filter(|peer| *peer != host.config.store)
            .filter_map(|peer| self.raft.held_by(peer))
            // Nothing is known yet of a follower that holds 0; one that lags too much gets rows.
            .filter(|held| *held == LogIndex(0) || commit.0.saturating_sub(held.0) <= lag);
        held.chain(views).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(settled: u64, kept: u64, cut_off: u64, followers: Option<u64>) -> u64 {
        let (settled, kept, cut_off) = (LogIndex(settled), LogIndex(kept), LogIndex(cut_off));
        choose(Needs { settled, kept, cut_off, followers: followers.map(LogIndex) }).0
    }

    #[test]
    fn what_is_in_no_run_is_kept_whatever_it_costs() {
        assert_eq!(through(10, 50, 40, None), 10);
        assert_eq!(through(10, 50, 40, Some(60)), 10);
    }

    #[test]
    fn the_newest_entries_are_kept_for_who_lags_a_little() {
        assert_eq!(through(90, 50, 40, None), 50);
        assert_eq!(through(90, 50, 40, Some(80)), 50);
    }

    #[test]
    fn a_follower_keeps_what_it_lacks_up_to_a_bound() {
        assert_eq!(through(90, 50, 40, Some(45)), 45);
        assert_eq!(through(90, 50, 40, Some(20)), 40, "it is cut off");
        assert_eq!(through(90, 50, 0, Some(20)), 20);
    }
}
