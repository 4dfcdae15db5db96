//! Who the peers are, and whether a disk was set back: this store's own, or theirs.
//!
//! A store that is started from an old image of its disk has forgotten votes and entries without
//! any damage that its journal could show. Its peers remember how far they have seen it, and say so
//! in their hellos. Since nothing is taken from a store before its hello, the store hears of it
//! before it can act on what that one remembers. What counts as proof: [`is_set_back`].
//!
//! A peer may have been away for all of the life that is forgotten, and nothing in its hello tells of it. So a store
//! that has just started neither votes nor campaigns before all other voters have said what they remember of it, or
//! [`SETTLING`] has passed: with one zone gone, the others must be able to elect.

use std::collections::BTreeMap;

use crate::cluster::{ClusterMap, StoreConfig};
use crate::ids::{Endpoint, Incarnation, StoreId};
use crate::level::{Level, Levels};
use crate::message::{Beginning, Hello, Life, StoreMark};
use crate::rng::Rng;
use crate::storage::{INCARNATION_END, PEERS_MAX as MARKS_MAX, PeerMark};
use crate::time::{Deadline, Duration, Instant};

/// Between two hellos to the same peer without a new link.
const REPEAT_AFTER: Duration = Duration::from_millis(50);
/// Between two rounds of hellos to everybody.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// So long a store that has just started waits for what the other voters remember of it before it votes: several times
/// what hellos need between zones that are far apart. One that is heard later may tell of a vote that was forgotten.
const SETTLING: Duration = Duration::from_millis(500);
/// How far a peer has come in the same life is written down so often.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// Stores that are remembered; more than any map has. Others are not listened to.
const PEERS_MAX: usize = 4096;

/// What this life says of itself.
#[derive(Clone, Debug)]
pub(super) struct OwnLife {
    pub(super) incarnation: Incarnation,
    /// Drawn for this life.
    pub(super) nonce: u64,
    /// This life and those before it that the disk remembers, newest first.
    pub(super) lives: Vec<Life>,
    /// The journal position at its start.
    pub(super) began: u64,
    /// The last life that began by distrusting the disk.
    pub(super) doubted: Incarnation,
}

/// A peer has proof that this disk was set back.
#[derive(Clone, Debug)]
pub(super) struct SetBack {
    /// The highest incarnation that was heard.
    pub(super) above: Incarnation,
    /// Why, for the operator.
    pub(super) reason: String,
}

/// What is to be done about a hello.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Say hello in return.
    pub(super) reply: bool,
    /// For the log.
    pub(super) note: Option<String>,
    /// The sender is who it says, and is listened to.
    pub(super) accepted: bool,
    /// This store must stop.
    pub(super) set_back: Option<SetBack>,
    /// This store must stop, too: it does not speak the level that the cluster is at.
    pub(super) foreign: Option<String>,
}

#[derive(Debug, Default)]
struct Peer {
    /// The furthest that was heard of it.
    mark: Option<StoreMark>,
    /// The hello of the present link has come and matches.
    greeted: bool,
    /// It has said, in this life of ours, what it remembers of us.
    weighed: bool,
    /// What was wrong with it was said in the log.
    noted: bool,
    /// What the life that has greeted speaks.
    levels: Option<Levels>,
    said_at: Option<Instant>,
}

/// The other stores.
#[derive(Debug)]
pub(super) struct Peers {
    own: OwnLife,
    known: BTreeMap<Endpoint, Peer>,
    /// Stores to which a hello is to be said again as soon as that may be, and whether it asks for theirs.
    owed: BTreeMap<Endpoint, bool>,
    next_round: Instant,
    started: Instant,
    rng: Rng,
    /// The level that the cluster is at, once this store knows.
    level: Option<Level>,
    /// What of it is written down, and since when.
    written: [PeerMark; MARKS_MAX],
    written_at: Instant,
}

impl Peers {
    /// `remembered`: what earlier lives have written down.
    pub(super) fn new(
        own: OwnLife,
        remembered: [PeerMark; MARKS_MAX],
        now: Instant,
        seed: u64,
    ) -> Self {
        let marks = remembered.iter().filter(|peer| peer.store != StoreId(0));
        let known = |peer: &PeerMark| {
            let known = Peer { mark: Some(peer.mark), ..Peer::default() };
            (Endpoint::Store(peer.store), known)
        };
        Self {
            own,
            known: marks.map(known).collect(),
            owed: BTreeMap::new(),
            next_round: now,
            started: now,
            rng: Rng::new(seed),
            level: None,
            written: remembered,
            written_at: now,
        }
    }

    /// The stores that have said who they are over the links that stand, ascending.
    pub(super) fn stores(&self) -> impl Iterator<Item = StoreId> {
        self.known.iter().filter(|(_, peer)| peer.greeted).filter_map(|(peer, _)| match peer {
            Endpoint::Store(store) => Some(*store),
            Endpoint::Gateway(_) => None,
        })
    }

    /// The cluster is at this level now. Levels never go down, so that an older directory changes nothing.
    pub(super) fn level_is(&mut self, level: Level) {
        self.level = self.level.max(Some(level));
    }

    /// The level that the cluster is at, once this store knows.
    pub(super) fn level(&self) -> Option<Level> {
        self.level
    }

    /// The stores that have said who they are, and that they speak `level`.
    pub(super) fn speakers(&self, level: Level) -> impl Iterator<Item = StoreId> {
        self.stores().filter(move |store| {
            self.levels_of(*store).is_some_and(|levels| levels.contains(level))
        })
    }

    /// The newest level that all stores speak which have said who they are.
    pub(super) fn newest_of_all(&self, own: Levels) -> Level {
        let others = self.stores().flat_map(|store| self.levels_of(store));
        others.fold(own.max, |newest, levels| newest.min(levels.max)).max(own.min)
    }

    fn levels_of(&self, store: StoreId) -> Option<Levels> {
        self.known.get(&Endpoint::Store(store))?.levels
    }

    /// What is to be written down now: another life of a peer at once, how far it has come since now and then.
    pub(super) fn marks_due(
        &mut self,
        now: Instant,
        map: &ClusterMap,
    ) -> Option<[PeerMark; MARKS_MAX]> {
        let mut stores: Vec<StoreId> = map.stores().map(|(_, store)| store).collect();
        stores.sort_by_key(|store| (!map.voters.contains(store), *store));
        let marks = stores.into_iter().filter_map(|store| {
            let mark = self.known.get(&Endpoint::Store(store))?.mark?;
            Some(PeerMark { store, mark })
        });
        let mut wanted = [PeerMark::default(); MARKS_MAX];
        wanted.iter_mut().zip(marks).for_each(|(place, mark)| *place = mark);
        let life = |peer: &PeerMark| (peer.store, peer.mark.incarnation, peer.mark.nonce);
        let same_lives = wanted.iter().map(life).eq(self.written.iter().map(life));
        if wanted == self.written || (same_lives && now < self.written_at + WRITE_EVERY) {
            return None;
        }
        (self.written, self.written_at) = (wanted, now);
        Some(wanted)
    }

    /// The hello for a peer, to be sent now.
    pub(super) fn hello(
        &mut self,
        now: Instant,
        config: &StoreConfig,
        synced: u64,
        to: Endpoint,
        wanted: bool,
        beginning: Beginning,
    ) -> Hello {
        self.owed.remove(&to);
        let peer = self.peer(to);
        if let Some(peer) = peer {
            peer.said_at = Some(now);
        }
        let OwnLife { incarnation, nonce, ref lives, began, doubted } = self.own;
        let lives = lives.clone();
        Hello {
            cluster: config.cluster,
            levels: config.levels,
            level: self.level,
            life: StoreMark { incarnation, nonce, synced },
            began,
            doubted,
            lives,
            heard: self.known.get(&to).and_then(|peer| peer.mark),
            wanted,
            beginning,
        }
    }

    /// The link to a peer is another now.
    pub(super) fn link_changed(&mut self, peer: Endpoint) {
        self.owed.remove(&peer);
        if let Some(peer) = self.peer(peer) {
            peer.greeted = false;
        }
    }

    /// Whether what a store says is listened to.
    pub(super) fn admits(&self, from: Endpoint) -> bool {
        match (from, self.known.get(&from)) {
            (Endpoint::Store(_), peer) => peer.is_some_and(|peer| peer.greeted),
            // A gateway says no hello; one that does must belong here.
            (Endpoint::Gateway(_), peer) => !peer.is_some_and(|peer| peer.noted),
        }
    }

    /// A peer is to be told who this is once more, and, if `wanted`, asked who it is: `true`, now; `false`, as soon as
    /// that may be ([`Self::due`]). Of two hellos that cross one may have come too early; without this the next one
    /// would be said in the next round.
    pub(super) fn repeat(&mut self, now: Instant, to: Endpoint, wanted: bool) -> bool {
        if self.repeat_at(to) <= now {
            return true;
        }
        if matches!(to, Endpoint::Store(_)) {
            *self.owed.entry(to).or_default() |= wanted;
        }
        false
    }

    /// When it is time to say hello to a peer once more.
    fn repeat_at(&self, to: Endpoint) -> Instant {
        let said_at = self.known.get(&to).and_then(|peer| peer.said_at);
        said_at.map_or(self.started, |at| at + REPEAT_AFTER)
    }

    /// By when `others`, the other voters, have had time to say what they remember of this store; `None` if they have
    /// said it.
    pub(super) fn settles_at(&self, mut others: impl Iterator<Item = StoreId>) -> Option<Instant> {
        let is_open = |store: StoreId| {
            !self.known.get(&Endpoint::Store(store)).is_some_and(|peer| peer.weighed)
        };
        others.any(is_open).then_some(self.started + SETTLING)
    }

    /// Which life this is.
    pub(super) fn own_life(&self) -> (Incarnation, u64) {
        (self.own.incarnation, self.own.nonce)
    }

    /// What is to be written down of a peer, and has been handed over for that.
    pub(super) fn written(&self, store: StoreId) -> Option<StoreMark> {
        self.written.iter().find(|peer| peer.store == store).map(|peer| peer.mark)
    }

    /// A hello came. `is_member`: consensus still counts on its sender. A store that is being replaced
    /// votes until the swap: unheard, it would be one failure that the map alone has made. `blank`: this
    /// store is a first voter with a blank disk. What two such remember of each other's disks is of no
    /// account, since neither has promised anything to the other: who empties a disk and begins again, as
    /// long as there is no cluster, has lost nothing.
    #[expect(clippy::too_many_arguments, reason = "one call, of which all is taken apart here")]
    pub(super) fn on_hello(
        &mut self,
        now: Instant,
        from: Endpoint,
        hello: &Hello,
        config: &StoreConfig,
        map: &ClusterMap,
        is_member: bool,
        blank: bool,
    ) -> Heard {
        let (own, level) = (self.own.clone(), self.level);
        let Some(peer) = self.peer(from) else {
            return Heard {
                note: Some(format!("{from} is not listened to: too many stores")),
                ..Heard::default()
            };
        };
        if let Some(why) = mismatch(from, hello, config, map, is_member, level) {
            peer.greeted = false;
            let first = !core::mem::replace(&mut peer.noted, true);
            let note = first.then(|| format!("{from} is not listened to: {why}"));
            return Heard { note, ..Heard::default() };
        }
        peer.noted = false;
        if matches!(from, Endpoint::Gateway(_)) {
            peer.greeted = true;
            return Heard::default();
        }
        let mut heard = Heard { foreign: foreign(from, hello, config), ..Heard::default() };
        let mut again = false;
        peer.weighed = true;
        let both_blank = blank && matches!(hello.beginning, Beginning::Blank(_));
        match peer.mark.filter(|_| !both_blank) {
            // Of an earlier life: overtaken on its way, or from a disk that was set back. The
            // sender finds out which, from our hello.
            Some(mark) if hello.life.incarnation < mark.incarnation => again = true,
            Some(mark)
                if is_set_back(&mark, &hello.life, &hello.lives, hello.began, hello.doubted) =>
            {
                // Nothing that this identity shows from now on is believed, until it doubts itself.
                peer.mark = Some(StoreMark { synced: u64::MAX, ..mark });
                let first = core::mem::replace(&mut peer.greeted, false) || mark.synced < u64::MAX;
                again = true;
                heard.note = first.then(|| {
                    format!(
                        "{from} shows less than it had: {} began at {}, and {} had synced {}; its \
                         disk was set back",
                        hello.life.incarnation, hello.began, mark.incarnation, mark.synced
                    )
                });
            }
            mark => {
                let before = mark.filter(|mark| mark.incarnation == hello.life.incarnation);
                let synced = before.map_or(0, |mark| mark.synced).max(hello.life.synced);
                peer.mark = Some(StoreMark { synced, ..hello.life });
                peer.greeted = true;
                peer.levels = Some(hello.levels);
                heard.accepted = true;
            }
        }
        let of_us = hello.heard;
        let knows_us = of_us
            .is_some_and(|mark| (mark.incarnation, mark.nonce) == (own.incarnation, own.nonce));
        again |= !knows_us;
        heard.reply = hello.wanted || (again && self.repeat(now, from, false));
        if let Some(mark) = of_us.filter(|_| !both_blank) {
            let life = StoreMark { incarnation: own.incarnation, nonce: own.nonce, synced: 0 };
            if is_set_back(&mark, &life, &own.lives, own.began, own.doubted) {
                heard.set_back = Some(SetBack {
                    above: mark.incarnation.max(own.incarnation),
                    reason: set_back_reason(from, &mark, &own),
                });
            }
        }
        heard
    }

    /// Whom to greet because time has passed, and whether to ask for their hello: all stores of the map, once a second;
    /// and those that were to be greeted again, but too soon after the last time.
    pub(super) fn due(
        &mut self,
        now: Instant,
        own: StoreId,
        map: &ClusterMap,
    ) -> Vec<(Endpoint, bool)> {
        let owed = self.owed.iter().map(|(to, wanted)| (*to, *wanted));
        let owed = owed.filter(|(to, _)| self.repeat_at(*to) <= now).collect();
        if now < self.next_round {
            return owed;
        }
        let jitter = self.rng.below(u64::try_from(ROUND_EVERY.as_nanos() / 4).unwrap_or(1));
        self.next_round = now + ROUND_EVERY + Duration::from_nanos(jitter);
        let stores = map.stores().map(|(_, store)| store).filter(|store| *store != own);
        let mut due: BTreeMap<Endpoint, bool> =
            stores.map(|store| (Endpoint::Store(store), false)).collect();
        due.extend(owed);
        due.into_iter().collect()
    }

    pub(super) fn next_deadline(&self) -> Deadline {
        let owed = self.owed.keys().map(|to| self.repeat_at(*to)).min();
        let at = owed.map_or(self.next_round, |at| at.min(self.next_round));
        Deadline { at, reason: "say hello" }
    }

    pub(super) fn check(&self) {
        assert!(self.known.len() <= PEERS_MAX);
        assert!(self.owed.keys().all(|peer| self.known.contains_key(peer)));
    }

    fn peer(&mut self, of: Endpoint) -> Option<&mut Peer> {
        if self.known.len() >= PEERS_MAX && !self.known.contains_key(&of) {
            return None;
        }
        Some(self.known.entry(of).or_default())
    }
}

/// Whether a life shows less than was once heard of its store: then its disk was set back to an
/// earlier state. Pure.
///
/// A store raises its incarnation before it speaks, so that one heard is never used again; and what
/// it said to be synced is there in its next life. If it was not, because the journal was damaged,
/// that life begins by distrusting the disk (`doubted`), which answers for all lives before it. Lives of one
/// disk follow each other: one that was heard is among those that the disk remembers (`lives`), unless it is older
/// than all of them.
fn is_set_back(
    heard: &StoreMark,
    life: &StoreMark,
    lives: &[Life],
    began: u64,
    doubted: Incarnation,
) -> bool {
    if doubted > heard.incarnation {
        return false;
    }
    match heard.incarnation.cmp(&life.incarnation) {
        core::cmp::Ordering::Greater => true,
        core::cmp::Ordering::Equal => heard.nonce != life.nonce,
        core::cmp::Ordering::Less => {
            let lived = Life { incarnation: heard.incarnation, nonce: heard.nonce };
            let reaches_back = lives.iter().any(|life| life.incarnation <= heard.incarnation);
            heard.synced > began || (reaches_back && !lives.contains(&lived))
        }
    }
}

/// Why a peer is not listened to.
fn mismatch(
    from: Endpoint,
    hello: &Hello,
    config: &StoreConfig,
    map: &ClusterMap,
    is_member: bool,
    level: Option<Level>,
) -> Option<String> {
    if hello.cluster != config.cluster {
        return Some(format!("it belongs to {}, not to {}", hello.cluster, config.cluster));
    }
    let marks = [Some(hello.life), hello.heard];
    if marks.iter().flatten().any(|mark| mark.incarnation >= INCARNATION_END) {
        return Some("no store was started so often".to_owned());
    }
    if let Some(level) = level.filter(|level| !hello.levels.contains(*level)) {
        return Some(format!(
            "it speaks {}, and the cluster is at {level}: run another version of Trine there",
            hello.levels
        ));
    }
    if !hello.levels.meet(config.levels) {
        return Some(format!("it speaks {}, and this store {}", hello.levels, config.levels));
    }
    match from {
        Endpoint::Store(_) if is_replaced(from, map, is_member) => {
            Some("it was replaced, and its identity never comes back".to_owned())
        }
        Endpoint::Store(store) if store == config.store => {
            Some("it has our own identity".to_owned())
        }
        Endpoint::Store(_) | Endpoint::Gateway(_) => None,
    }
}

/// Why this store cannot be of the cluster, if a peer knows that: its level is not among those of this build.
fn foreign(from: Endpoint, hello: &Hello, config: &StoreConfig) -> Option<String> {
    let level = hello.level.filter(|level| !config.levels.contains(*level))?;
    Some(format!(
        "{from} says that the cluster is at {level}, and this version of Trine speaks {}: run another \
         one; nothing is lost",
        config.levels
    ))
}

/// Whether a store was replaced and has nothing to say any more.
fn is_replaced(from: Endpoint, map: &ClusterMap, is_member: bool) -> bool {
    matches!(from, Endpoint::Store(store) if map.retired.contains(&store)) && !is_member
}

fn set_back_reason(from: Endpoint, mark: &StoreMark, own: &OwnLife) -> String {
    let had = match mark.synced {
        u64::MAX => "has seen it set back".to_owned(),
        synced => {
            format!("has heard {} of it, with the journal synced up to {synced}", mark.incarnation)
        }
    };
    format!(
        "this disk was set back to an earlier state: {from} {had}, and this is {} which began at \
         {}; start the store again: it will take part once the other zones have vouched for what is \
         lost, or replace it with an empty one",
        own.incarnation, own.began
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mark(incarnation: u64, nonce: u64, synced: u64) -> StoreMark {
        StoreMark { incarnation: Incarnation(incarnation), nonce, synced }
    }

    // Of disks that do not remember their lives.
    fn judge(heard: StoreMark, life: StoreMark, began: u64, doubted: u64) -> bool {
        is_set_back(&heard, &life, &[], began, Incarnation(doubted))
    }

    #[test]
    fn a_restart_that_keeps_what_was_synced_is_believed() {
        assert!(!judge(mark(3, 30, 100), mark(4, 40, 100), 100, 0));
        assert!(!judge(mark(3, 30, 100), mark(9, 90, 500), 480, 0));
        assert!(!judge(mark(3, 30, 100), mark(3, 30, 50), 40, 0), "a late hello of the same life");
    }

    #[test]
    fn a_restored_image_shows() {
        // The real one came to life 5; the image is from life 3 and is now in life 4.
        assert!(judge(mark(5, 50, 900), mark(4, 44, 300), 300, 0));
        // Both are in life 5.
        assert!(judge(mark(5, 50, 900), mark(5, 55, 2000), 300, 0));
        // The image was started often enough to be ahead.
        assert!(judge(mark(5, 50, 900), mark(8, 88, 400), 400, 0));
    }

    // Found by seed 0x8000ab: the image was started twice before anybody heard of it, and came to its own second life;
    // of the real one only the first hello was remembered, which had synced less than the image.
    #[test]
    fn an_image_that_is_ahead_has_not_lived_what_was_heard() {
        let judge = |heard, lives: &[(u64, u64)], doubted| {
            let lived =
                |&(incarnation, nonce)| Life { incarnation: Incarnation(incarnation), nonce };
            let lives: Vec<Life> = lives.iter().map(lived).collect();
            is_set_back(&heard, &mark(4, 40, 900), &lives, 800, Incarnation(doubted))
        };
        assert!(judge(mark(2, 20, 500), &[(4, 40), (3, 30), (2, 22), (1, 10)], 0));
        assert!(!judge(mark(2, 20, 500), &[(4, 40), (3, 30), (2, 20), (1, 10)], 0));
        assert!(judge(mark(3, 30, 500), &[(4, 40), (2, 20)], 0), "it was never lived");
        assert!(!judge(mark(2, 20, 500), &[(4, 40), (3, 30)], 0), "older than all it remembers");
        assert!(!judge(mark(2, 20, 500), &[(4, 40), (3, 30), (2, 22)], 4), "it is known");
    }

    #[test]
    fn damage_that_a_store_knows_of_is_no_proof_however_late_a_peer_remembers() {
        // Life 4 began by distrusting the disk; the peer was away since life 3.
        assert!(!judge(mark(3, 30, 900), mark(4, 40, 100), 100, 4));
        assert!(!judge(mark(3, 30, 900), mark(9, 90, 500), 500, 4));
        // But what life 6 said must be there in life 9.
        assert!(judge(mark(6, 60, 900), mark(9, 90, 500), 500, 4));
    }

    #[test]
    fn a_mark_in_doubt_is_reached_only_by_doubting() {
        assert!(judge(mark(5, 50, u64::MAX), mark(6, 60, 1 << 40), 1 << 40, 0));
        assert!(!judge(mark(5, 50, u64::MAX), mark(6, 60, 10), 10, 6));
    }

    const PEER: Endpoint = Endpoint::Store(StoreId(2));

    fn peers(now: Instant) -> Peers {
        let [incarnation, doubted] = [Incarnation(5), Incarnation(0)];
        let own = OwnLife { incarnation, nonce: 50, lives: Vec::new(), began: 0, doubted };
        Peers::new(own, [PeerMark::default(); MARKS_MAX], now, 1)
    }

    #[test]
    fn a_hello_that_is_due_too_soon_after_another_is_said_when_it_may_be() {
        let start = Instant::ZERO + Duration::from_secs(9);
        let (map, own) = (ClusterMap::bootstrap(64, Vec::new()), StoreId(1));
        let mut peers = peers(start);
        assert!(peers.repeat(start, PEER, false), "none was said yet");
        assert_eq!(peers.due(start, own, &map), [], "the map has no stores");
        peers.peer(PEER).unwrap().said_at = Some(start);

        let soon = start + Duration::from_millis(1);
        assert!(!peers.repeat(soon, PEER, true));
        assert!(!peers.repeat(soon, PEER, false));
        assert_eq!(peers.due(soon, own, &map), []);
        assert_eq!(peers.next_deadline().at, start + REPEAT_AFTER);
        assert_eq!(peers.due(start + REPEAT_AFTER, own, &map), [(PEER, true)]);
        peers.link_changed(PEER);
        assert_eq!(peers.due(start + REPEAT_AFTER, own, &map), [], "a new link has its own");
    }

    #[test]
    fn a_store_settles_when_all_other_voters_have_spoken_and_late_without_them() {
        let start = Instant::ZERO + Duration::from_secs(9);
        let voters = || [StoreId(2), StoreId(3)].into_iter();
        let mut peers = peers(start);
        assert_eq!(peers.settles_at(voters()), Some(start + SETTLING));
        for store in voters() {
            assert!(peers.settles_at(voters()).is_some());
            peers.peer(Endpoint::Store(store)).unwrap().weighed = true;
        }
        assert_eq!(peers.settles_at(voters()), None);
        peers.link_changed(PEER);
        assert_eq!(peers.settles_at(voters()), None, "what it has said it has said to this life");
    }

    #[test]
    fn a_replaced_store_is_heard_as_long_as_consensus_counts_on_it() {
        let zones = Vec::new();
        let map = ClusterMap { retired: vec![StoreId(7)], ..ClusterMap::bootstrap(64, zones) };
        let of_a_replaced_one = Endpoint::Store(StoreId(7));
        assert!(is_replaced(of_a_replaced_one, &map, false));
        assert!(!is_replaced(of_a_replaced_one, &map, true), "it votes until the swap");
        assert!(!is_replaced(Endpoint::Store(StoreId(8)), &map, false));
    }
}
