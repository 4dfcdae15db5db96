//! The directory at a store: what the root range says of map and sessions, whether or not the store
//! has a replica of it.
//!
//! The newest version wins. A voter's own replica feeds its store; everybody else asks voters, one
//! after the other: those of the map that stands, and those of the configured one. All of these may have given
//! their votes away while it did not run, so that others are asked too, more seldom: whoever has greeted. Each
//! answers by what it holds.

use super::replica::Replica;
use super::serving::Host;
use crate::cluster::ClusterMap;
use crate::directory::{Directory, Standing};
use crate::ids::{LogIndex, MapEpoch, SessionId, StoreId};
use crate::rng::Rng;
use crate::time::{Deadline, Duration, Instant};

/// Between two questions, as long as nobody waits for a newer directory.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Each round over the voters has so many turns for others.
const OTHERS_TURNS: usize = 1;
/// Between two questions to all voters while somebody waits.
const ASK_AGAIN: Duration = Duration::from_millis(30);

/// What is known, and whom to ask next.
#[derive(Debug)]
pub(super) struct Holder {
    bootstrap: ClusterMap,
    held: Option<Directory>,
    /// Whose turn it is to be asked.
    turn: usize,
    /// The other store that was asked last.
    other: StoreId,
    next_ask: Instant,
    /// Somebody waits for something newer; all are asked, not before this.
    wanted: bool,
    next_wanted: Instant,
    rng: Rng,
}

impl Holder {
    pub(super) fn new(bootstrap: ClusterMap, now: Instant, seed: u64) -> Self {
        Self {
            bootstrap,
            held: None,
            turn: 0,
            other: StoreId(0),
            next_ask: now,
            wanted: false,
            next_wanted: now,
            rng: Rng::new(seed),
        }
    }

    /// The map that stands, as far as this store knows.
    pub(super) fn map(&self) -> &ClusterMap {
        self.held.as_ref().map_or(&self.bootstrap, |directory| &directory.map)
    }

    /// The directory, if one was heard.
    pub(super) fn held(&self) -> Option<&Directory> {
        self.held.as_ref()
    }

    /// The version held; 0 for none.
    pub(super) fn version(&self) -> LogIndex {
        self.held.as_ref().map_or(LogIndex(0), |directory| directory.version)
    }

    /// Take a directory if it is newer. Whether it was.
    pub(super) fn take(&mut self, directory: Directory) -> bool {
        // The number of groups is fixed for ever; another one is another cluster's.
        let stale = planted!(StaleDirectoryTaken) && directory.version != self.version();
        let newer = directory.version > self.version() || stale;
        let fits = directory.map.groups == self.bootstrap.groups;
        let epoch = directory.map.epoch >= self.map().epoch || stale;
        if !(newer && fits && epoch) {
            return false;
        }
        self.held = Some(directory);
        self.wanted = false;
        true
    }

    /// What a session is.
    pub(super) fn standing(&self, session: SessionId) -> Standing {
        self.held.as_ref().map_or(Standing::Unknown, |held| held.sessions.standing(session))
    }

    /// Somebody waits for a newer directory.
    pub(super) fn want_newer(&mut self) {
        self.wanted = true;
    }

    /// A peer's map has this epoch: if it is newer than ours, ask for it.
    pub(super) fn heard_epoch(&mut self, epoch: MapEpoch) {
        self.wanted |= epoch > self.map().epoch;
    }

    /// Whom to ask now; `greeted`: the stores that have said who they are, ascending.
    pub(super) fn due(
        &mut self,
        now: Instant,
        own: StoreId,
        greeted: impl Iterator<Item = StoreId>,
    ) -> Vec<StoreId> {
        let wanted = self.wanted || buggify!(DirectoryAskedMore, hot);
        let wanted = wanted && now >= self.next_wanted;
        if !wanted && now < self.next_ask {
            return Vec::new();
        }
        let mut voters = self.map().voters.clone();
        let rest = self.bootstrap.voters.iter().filter(|voter| !self.map().voters.contains(voter));
        voters.extend(rest);
        voters.retain(|voter| *voter != own);
        let others: Vec<StoreId> =
            greeted.filter(|store| *store != own && !voters.contains(store)).collect();
        if wanted {
            self.next_wanted = now + ASK_AGAIN;
            self.next_ask = now + ASK_EVERY;
            voters.extend(self.next_other(&others));
            return voters;
        }
        let jitter = self.rng.below(u64::try_from(ASK_EVERY.as_nanos() / 4).unwrap_or(1));
        self.next_ask = now + ASK_EVERY + Duration::from_nanos(jitter);
        if voters.is_empty() {
            return Vec::new();
        }
        self.turn = (self.turn + 1) % (voters.len() + OTHERS_TURNS);
        voters.get(self.turn).copied().or_else(|| self.next_other(&others)).into_iter().collect()
    }

    fn next_other(&mut self, others: &[StoreId]) -> Option<StoreId> {
        let next = others.iter().find(|store| **store > self.other).or(others.first()).copied();
        self.other = next.unwrap_or_default();
        next
    }

    pub(super) fn next_deadline(&self) -> Deadline {
        let at = match self.wanted {
            true => self.next_ask.min(self.next_wanted),
            false => self.next_ask,
        };
        Deadline { at, reason: "ask for the directory" }
    }
}

impl Replica {
    /// The directory as this replica has applied it, if it differs from what the store holds.
    pub(super) fn news_of_directory(&self, host: &Host) -> Option<Directory> {
        let range = self.machine.range()?;
        let held = host.directory.held();
        if held.is_some_and(|held| held.version >= range.directory_version()) {
            return None;
        }
        range.directory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Slot, ZoneMap};
    use crate::directory::SessionsView;
    use crate::ids::ZoneId;

    fn map(epoch: u64) -> ClusterMap {
        let zone = |zone: u8| ZoneMap {
            zone: ZoneId(zone),
            slots: vec![Slot { store: StoreId(u64::from(zone) + 1), weight: 1 }],
        };
        let map = ClusterMap::bootstrap(64, (0..3).map(zone).collect());
        ClusterMap { epoch: MapEpoch(epoch), ..map }
    }

    fn directory(version: u64, epoch: u64, live: &[u64]) -> Directory {
        let live: Vec<_> = live.iter().copied().map(SessionId).collect();
        let next = SessionId(live.last().map_or(1, |last| last.0 + 1));
        let sessions = SessionsView { floor: SessionId(1), next, live };
        Directory { version: LogIndex(version), map: map(epoch), sessions }
    }

    #[test]
    fn the_newest_version_wins_and_another_clusters_is_refused() {
        let mut holder = Holder::new(map(1), Instant::ZERO, 1);
        assert_eq!(holder.standing(SessionId(5)), Standing::Unknown);
        assert!(holder.take(directory(7, 2, &[4, 5])));
        assert!(!holder.take(directory(6, 2, &[4])));
        assert!(!holder.take(directory(7, 2, &[4])));
        assert_eq!(holder.standing(SessionId(5)), Standing::Live);
        assert_eq!(holder.standing(SessionId(3)), Standing::Fenced);
        assert_eq!(holder.standing(SessionId(6)), Standing::Unknown);
        let mut foreign = directory(9, 3, &[]);
        foreign.map.groups = 128;
        assert!(!holder.take(foreign));
        assert_eq!(holder.map().epoch, MapEpoch(2));
    }

    fn due(holder: &mut Holder, now: Instant) -> Vec<StoreId> {
        holder.due(now, StoreId(1), core::iter::empty())
    }

    #[test]
    fn stores_that_have_greeted_are_asked_too() {
        let mut holder = Holder::new(map(1), Instant::ZERO, 1);
        let greeted = || [1, 2, 7, 8].map(StoreId).into_iter();
        let mut asked = Vec::new();
        for second in 0..6 {
            let now = Instant::ZERO + Duration::from_secs(2 * second);
            asked.extend(holder.due(now, StoreId(1), greeted()));
        }
        asked.sort_unstable();
        assert_eq!(asked, [2, 2, 3, 3, 7, 8].map(StoreId));
        holder.want_newer();
        let now = Instant::ZERO + Duration::from_secs(60);
        assert_eq!(holder.due(now, StoreId(1), greeted()), [2, 3, 7].map(StoreId));
    }

    #[test]
    fn voters_are_asked_in_turn_and_all_at_once_while_somebody_waits() {
        let mut holder = Holder::new(map(1), Instant::ZERO, 1);
        let mut now = Instant::ZERO;
        let mut asked = Vec::new();
        for _ in 0..6 {
            asked.extend(due(&mut holder, now));
            assert!(due(&mut holder, now).is_empty());
            now = now + Duration::from_secs(2);
        }
        asked.sort_unstable();
        assert_eq!(asked, [2, 2, 3, 3].map(StoreId));
        holder.want_newer();
        assert_eq!(due(&mut holder, now), [2, 3].map(StoreId));
        assert!(holder.next_deadline().at > now);
        now = now + ASK_AGAIN;
        assert_eq!(due(&mut holder, now), [2, 3].map(StoreId));
        assert!(holder.take(directory(1, 1, &[])));
        now = now + ASK_AGAIN;
        assert!(due(&mut holder, now).len() < 2);
    }

    #[test]
    fn a_newer_epoch_heard_of_makes_the_store_ask() {
        let mut holder = Holder::new(map(1), Instant::ZERO, 1);
        due(&mut holder, Instant::ZERO);
        holder.heard_epoch(MapEpoch(1));
        assert!(due(&mut holder, Instant::ZERO).is_empty());
        holder.heard_epoch(MapEpoch(2));
        assert_eq!(due(&mut holder, Instant::ZERO).len(), 2);
    }
}
