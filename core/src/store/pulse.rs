//! What a store measures of its peers and of itself, and what follows from it: how long its replicas
//! wait for a leader, and when a leader hands over.
//!
//! Each pair of stores that share a range measures its round trip by PING and PONG, by the asker's
//! monotonic clock alone, one ping at a time. The estimate is that of TCP (Jacobson and Karels, "Congestion
//! Avoidance and Control", 1988; RFC 6298): the mean, and four times the mean deviation on top. A peer
//! that is silent keeps its last estimate: it is gone, not far away.
//!
//! # The rule for election timeouts
//! A store tells its peers its *reach*: the longest of its estimates. Each replica waits
//! [`ROUND_TRIPS_PER_ELECTION`] times the longest reach among its voters, its own and those it was told.
//! The longest of all pairs counts, not the quorum's: after the loss of a zone, the quorum is any pair
//! that is left, and each phase of an election (a round trip and a sync) has to fit into a timeout.
//!
//! Replicas may still differ for a while, when a latency has just changed. Safety does not care. Nor does a
//! follower with a short timeout unseat a leader with a long one: heartbeats do not follow the round trip.
//! Their interval is configured, peers tell it, and each timeout is at least
//! [`HEARTBEATS_PER_ELECTION`] times the longest one told. It is the gaps between heartbeats that a follower waits for,
//! and distance delays heartbeats without spreading them; what spreads them is in the deviation.
//!
//! # Slow leaders
//! A store tells its *delay* too: how long its journal and its state machine lately took for an entry,
//! or have been taking for the one in hand. A leader whose delay is far above that of a voter that
//! keeps up hands over to it. See [`successor`] for why nobody hands back.

use std::collections::BTreeMap;

use crate::cluster::StoreTiming;
use crate::ids::{LogIndex, StoreId};
use crate::message::Vitals;
use crate::time::{Duration, Instant};

/// An election timeout is so many round trips. At 4, two candidates that time out at random do not
/// collide three times in four, and quarter of a timeout is time enough for an answer.
const ROUND_TRIPS_PER_ELECTION: u32 = 4;
/// An election timeout is at least so many heartbeats of any voter: so many may be lost or late in a row.
const HEARTBEATS_PER_ELECTION: u32 = 6;
/// Heartbeats between two pings of one peer.
const HEARTBEATS_PER_PING: u32 = 4;
/// What is assumed of a voter that was never measured.
const REACH_UNKNOWN: Duration = Duration::from_millis(100);
/// A round trip may exceed what was expected so many times; what is beyond counts only so much, so that one stall
/// of a peer is no distance. A true change doubles the estimate with each ping.
const SURPRISE_MAX: u32 = 2;
/// Round trips up to this are never a surprise.
const SURPRISE_FREE: Duration = Duration::from_millis(20);
/// Round trips after which the highest is forgotten, at the latest after twice as many.
const WINDOW: u32 = 32;

/// A leader is slow if its delay is so many times that of another voter...
const SLOW_FACTOR: u32 = 4;
/// ...and this much more: what clients notice.
const SLOW_FLOOR: Duration = Duration::from_millis(50);
/// It must be so at so many pings in a row.
const SLOW_CHECKS: u32 = 5;

/// What a store knows of its peers and of itself.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    peers: BTreeMap<StoreId, Peer>,
    /// When the next pings are due; `None` until there is somebody to ping.
    pub(super) ping_at: Option<Instant>,
    sync: Delay,
    apply: Delay,
    /// How long the oldest work in hand has taken so far, at the last look.
    in_hand: Duration,
    /// Whether this store's disk takes no new data, at the last look.
    pub(super) full: bool,
}

#[derive(Debug, Default)]
struct Peer {
    round_trip: Option<RoundTrip>,
    /// The ping under way.
    asked: Option<Instant>,
    /// What it said last, and when.
    told: Option<(Instant, Vitals)>,
}

impl Pulse {
    /// Pings are due: whom to ask, and what to say of this store. `in_hand`: how long its oldest work
    /// has taken so far.
    pub(super) fn beat(
        &mut self,
        now: Instant,
        timing: &StoreTiming,
        peers: impl Iterator<Item = StoreId>,
        in_hand: Duration,
    ) -> Vec<StoreId> {
        self.in_hand = in_hand;
        self.ping_at = Some(now + timing.heartbeat * HEARTBEATS_PER_PING);
        let patience = timing.election_max / ROUND_TRIPS_PER_ELECTION;
        let mut due = Vec::new();
        for peer in peers {
            let asked = &mut self.peers.entry(peer).or_default().asked;
            // What is answered later than that is not counted, since no timeout could follow it.
            if asked.is_none_or(|asked| asked + patience <= now) {
                *asked = Some(now);
                due.push(peer);
            }
        }
        due
    }

    /// What this store tells of itself.
    pub(super) fn vitals(&self, timing: &StoreTiming) -> Vitals {
        let measured = self.peers.values().filter_map(|peer| peer.round_trip.as_ref());
        Vitals {
            heartbeat: timing.heartbeat,
            reach: measured.map(RoundTrip::bound).max(),
            delay: self.delay(),
            full: self.full,
        }
    }

    /// The link to a peer stands again, or was reset: the ping under way is lost.
    pub(super) fn link_changed(&mut self, peer: StoreId, stands: bool) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.asked = None;
            if stands {
                self.ping_at = self.ping_at.map(|_| Instant::ZERO);
            }
        }
    }

    /// A peer said how it is. Others than peers are not listened to.
    pub(super) fn told(&mut self, now: Instant, peer: StoreId, vitals: Vitals) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.told = Some((now, vitals));
        }
    }

    /// A peer answered the ping that was sent at `sent`.
    pub(super) fn answered(&mut self, now: Instant, peer: StoreId, sent: Instant) {
        let Some(peer) = self.peers.get_mut(&peer) else { return };
        // Answers to pings that were given up, or never sent, are no measurements.
        if peer.asked != Some(sent) {
            return;
        }
        peer.asked = None;
        let took = now.since(sent);
        match &mut peer.round_trip {
            Some(round_trip) => round_trip.sample(took),
            None => peer.round_trip = Some(RoundTrip::first(took)),
        }
    }

    /// A journal record took so long to be durable.
    pub(super) fn synced(&mut self, took: Duration) {
        self.sync.sample(took);
    }

    /// A committed entry took so long to be applied.
    pub(super) fn applied(&mut self, took: Duration) {
        self.apply.sample(took);
    }

    /// How long this store takes for an entry; `None` if it has had none yet.
    fn delay(&self) -> Option<Duration> {
        let usual = self.sync.smoothed.max(self.apply.smoothed);
        usual.map(|usual| usual.max(self.in_hand))
    }

    /// The election timeout of a replica whose range has these voters, this store among them or not.
    pub(super) fn election(
        &self,
        timing: &StoreTiming,
        own: StoreId,
        voters: impl Iterator<Item = StoreId>,
    ) -> Duration {
        let (mut reach, mut heartbeat) = (Duration::ZERO, timing.heartbeat);
        for voter in voters.filter(|voter| *voter != own) {
            let peer = self.peers.get(&voter);
            let measured = peer.and_then(|peer| peer.round_trip.as_ref()).map(RoundTrip::bound);
            reach = reach.max(measured.unwrap_or(REACH_UNKNOWN));
            if let Some((_, told)) = peer.and_then(|peer| peer.told) {
                reach = reach.max(told.reach.unwrap_or_default());
                heartbeat = heartbeat.max(told.heartbeat);
            }
        }
        let wanted = reach.saturating_mul(ROUND_TRIPS_PER_ELECTION);
        let least = heartbeat.saturating_mul(HEARTBEATS_PER_ELECTION).max(timing.election_min);
        wanted.max(least).min(timing.election_max)
    }

    /// What the peers last said of their delays, as far as they are heard.
    fn delays(&self, now: Instant, timing: &StoreTiming) -> BTreeMap<StoreId, Duration> {
        let lately = timing.election_max;
        let peers = self.peers.iter().filter_map(|(peer, known)| {
            let (heard_at, told) = known.told?;
            let delay = told.delay.filter(|_| heard_at + lately > now)?;
            Some((*peer, delay))
        });
        peers.collect()
    }

    /// To whom a leader whose disk is full would hand over: a peer that `keeps_up`, is heard, and has
    /// room; the quickest of them. The successor hands back only if its own disk fills up and this one
    /// has room again.
    pub(super) fn with_room(
        &self,
        now: Instant,
        timing: &StoreTiming,
        keeps_up: impl Fn(StoreId) -> bool,
    ) -> Option<StoreId> {
        let lately = timing.election_max;
        let told = self.peers.iter().filter_map(|(peer, known)| Some((*peer, known.told?)));
        let fit = told.filter(|(peer, (heard_at, vitals))| {
            !vitals.full && *heard_at + lately > now && keeps_up(*peer)
        });
        let quickest =
            fit.min_by_key(|(peer, (_, vitals))| (vitals.delay.unwrap_or_default(), *peer));
        quickest.map(|(peer, _)| peer)
    }

    /// To whom a leader would hand over at this moment. `keeps_up`: whether a peer is a voter that
    /// has all that is committed.
    pub(super) fn successor(
        &self,
        now: Instant,
        timing: &StoreTiming,
        keeps_up: impl Fn(StoreId) -> bool,
    ) -> Option<StoreId> {
        let delays = self.delays(now, timing).into_iter();
        successor(self.delay()?, delays.filter(|(peer, _)| keeps_up(*peer)))
    }
}

/// Who should lead in place of a leader with this delay, if it is slow: the quickest of `peers`.
///
/// The successor's delay is less than a quarter of the leader's. It would hand back only if its own
/// grew to four times that of the old leader: unless disks change places between slow and quick,
/// leadership stays.
fn successor(own: Duration, peers: impl Iterator<Item = (StoreId, Duration)>) -> Option<StoreId> {
    let (peer, delay) = peers.min_by_key(|(peer, delay)| (*delay, *peer))?;
    let limit = delay.saturating_mul(SLOW_FACTOR).saturating_add(SLOW_FLOOR);
    (own > limit).then_some(peer)
}

/// How often in a row a leader was found slow.
#[derive(Debug, Default)]
pub(super) struct Slowness {
    checks: u32,
}

impl Slowness {
    /// One look. Says whether to hand over now, and begins to count anew then.
    pub(super) fn look(&mut self, slow: bool) -> bool {
        self.checks = if slow { self.checks + 1 } else { 0 };
        let due = self.checks >= SLOW_CHECKS;
        if due {
            self.checks = 0;
        }
        due
    }
}

/// How long commits wait to be applied: one commit at a time is followed.
#[derive(Debug, Default)]
pub(super) struct ApplyLag {
    followed: Option<(LogIndex, Instant)>,
}

impl ApplyLag {
    /// Where commit and applied index stand now. Returns how long a followed commit took, when it
    /// is applied.
    pub(super) fn look(
        &mut self,
        now: Instant,
        commit: LogIndex,
        applied: LogIndex,
    ) -> Option<Duration> {
        let done = self.followed.take_if(|(index, _)| *index <= applied);
        if self.followed.is_none() && applied < commit {
            self.followed = Some((commit, now));
        }
        done.map(|(_, since)| now.since(since))
    }

    /// How long the followed commit has waited.
    pub(super) fn waits(&self, now: Instant) -> Duration {
        self.followed.map(|(_, since)| now.since(since)).unwrap_or_default()
    }
}

/// A smoothed delay.
#[derive(Debug, Default)]
struct Delay {
    smoothed: Option<Duration>,
}

impl Delay {
    fn sample(&mut self, took: Duration) {
        let smoothed = self.smoothed.unwrap_or(took);
        self.smoothed = Some(smoothed * 7 / 8 + took / 8);
    }
}

/// The estimate of a round trip.
#[derive(Debug)]
struct RoundTrip {
    smoothed: Duration,
    variation: Duration,
    /// The highest of the present window, and of the one before.
    highest: [Duration; 2],
    samples: u32,
}

impl RoundTrip {
    fn first(took: Duration) -> Self {
        // TCP begins with half of it, to be on the safe side of a retransmission. Here that would
        // make the first elections of far zones take four times as long.
        Self { smoothed: took, variation: took / 8, highest: [took, Duration::ZERO], samples: 1 }
    }

    fn sample(&mut self, took: Duration) {
        let took = took.min(self.bound().max(SURPRISE_FREE) * SURPRISE_MAX);
        let deviation = self.smoothed.abs_diff(took);
        self.variation = self.variation * 3 / 4 + deviation / 4;
        self.smoothed = self.smoothed * 7 / 8 + took / 8;
        if self.samples.is_multiple_of(WINDOW) {
            self.highest = [Duration::ZERO, self.highest[0]];
        }
        self.highest[0] = self.highest[0].max(took);
        self.samples = self.samples.wrapping_add(1);
    }

    /// What a round trip hardly exceeds. Of a rare long one, half is remembered for a while, because the
    /// deviation forgets within a few samples.
    fn bound(&self) -> Duration {
        let highest = self.highest[0].max(self.highest[1]);
        (self.smoothed + self.variation * 4).max(highest / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: StoreTiming = StoreTiming::DEFAULT;
    const A: StoreId = StoreId(1);
    const B: StoreId = StoreId(2);
    const C: StoreId = StoreId(3);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn vitals(reach: Option<Duration>, delay: Option<Duration>) -> Vitals {
        Vitals { heartbeat: TIMING.heartbeat, reach, delay, full: false }
    }

    fn election(pulse: &Pulse) -> Duration {
        pulse.election(&TIMING, A, [A, B, C].into_iter())
    }

    /// Ping B and C for a while; each answers after what `round_trip` says.
    fn measure(
        pulse: &mut Pulse,
        now: &mut Instant,
        pings: u32,
        round_trip: impl Fn(StoreId) -> Duration,
    ) {
        for _ in 0..pings {
            for peer in pulse.beat(*now, &TIMING, [B, C].into_iter(), Duration::ZERO) {
                pulse.answered(*now + round_trip(peer), peer, *now);
            }
            *now = *now + ms(100);
        }
    }

    #[test]
    fn near_voters_get_the_shortest_timeout_and_far_ones_several_round_trips() {
        let (mut pulse, mut now) = (Pulse::default(), Instant::ZERO);
        assert_eq!(election(&pulse), ms(400), "nothing is measured yet");
        measure(&mut pulse, &mut now, 40, |_| ms(1));
        assert_eq!(election(&pulse), TIMING.election_min);
        measure(&mut pulse, &mut now, 100, |peer| if peer == B { ms(160) } else { ms(1) });
        assert!((ms(640)..ms(660)).contains(&election(&pulse)), "{:?}", election(&pulse));
        measure(&mut pulse, &mut now, 200, |_| ms(1));
        assert_eq!(election(&pulse), TIMING.election_min, "and back");
    }

    #[test]
    fn farthest_pair_counts_also_if_it_is_of_two_others() {
        let (mut pulse, mut now) = (Pulse::default(), Instant::ZERO);
        measure(&mut pulse, &mut now, 40, |_| ms(1));
        pulse.told(now, B, vitals(Some(ms(100)), None));
        assert_eq!(election(&pulse), ms(400));
        pulse.told(now, B, vitals(Some(Duration::MAX), None));
        assert_eq!(election(&pulse), TIMING.election_max);
    }

    #[test]
    fn timeout_is_several_times_the_longest_heartbeat_of_any_voter() {
        let (mut pulse, mut now) = (Pulse::default(), Instant::ZERO);
        measure(&mut pulse, &mut now, 40, |_| ms(1));
        pulse.told(now, C, Vitals { heartbeat: ms(100), ..vitals(None, None) });
        assert_eq!(election(&pulse), ms(600));
    }

    #[test]
    fn one_stall_of_a_peer_is_soon_forgotten_and_a_true_change_soon_believed() {
        let (mut pulse, mut now) = (Pulse::default(), Instant::ZERO);
        measure(&mut pulse, &mut now, 40, |_| ms(1));
        measure(&mut pulse, &mut now, 1, |_| ms(700));
        assert!(election(&pulse) < ms(300), "{:?}", election(&pulse));
        measure(&mut pulse, &mut now, 10, |_| ms(1));
        assert_eq!(election(&pulse), TIMING.election_min);
        measure(&mut pulse, &mut now, 8, |_| ms(300));
        assert!(election(&pulse) >= ms(1200), "{:?}", election(&pulse));
    }

    #[test]
    fn answers_to_pings_that_were_given_up_are_not_measured() {
        let mut pulse = Pulse::default();
        let patience = TIMING.election_max / ROUND_TRIPS_PER_ELECTION;
        let start = Instant::from_millis(5);
        assert_eq!(pulse.beat(start, &TIMING, [B].into_iter(), ms(0)), [B]);
        assert_eq!(pulse.beat(start + ms(100), &TIMING, [B].into_iter(), ms(0)), []);
        assert_eq!(pulse.beat(start + patience, &TIMING, [B].into_iter(), ms(0)), [B]);
        pulse.answered(start + patience + ms(1), B, start);
        assert_eq!(pulse.vitals(&TIMING).reach, None);
        pulse.answered(start + patience + ms(2), B, start + patience);
        assert_eq!(pulse.vitals(&TIMING).reach, Some(ms(3)), "a round trip and half");
    }

    #[test]
    fn slow_leader_hands_over_to_the_quickest_and_gets_nothing_back() {
        let peers = |b, c| [(B, ms(b)), (C, ms(c))].into_iter();
        assert_eq!(successor(ms(200), peers(9, 5)), Some(C));
        assert_eq!(successor(ms(200), peers(40, 60)), None, "not four times slower");
        assert_eq!(successor(ms(54), peers(1, 1)), None, "too little for clients to notice");
        for own in 0..300 {
            for other in 0..300 {
                let hands_over = successor(ms(own), [(B, ms(other))].into_iter()).is_some();
                let back = successor(ms(other), [(A, ms(own))].into_iter()).is_some();
                assert!(!(hands_over && back), "{own} and {other}");
            }
        }
    }

    #[test]
    fn handing_over_takes_slowness_at_several_looks_in_a_row() {
        let mut slowness = Slowness::default();
        let looks = [true, true, true, true, false, true, true, true, true, true, true];
        let due: Vec<bool> = looks.into_iter().map(|slow| slowness.look(slow)).collect();
        assert_eq!(due.iter().position(|due| *due), Some(9));
        assert!(!due[10], "and then it is counted anew");
    }

    #[test]
    fn hung_disk_counts_though_no_write_ends() {
        let mut pulse = Pulse::default();
        pulse.synced(ms(1));
        pulse.beat(Instant::ZERO, &TIMING, [B].into_iter(), ms(800));
        pulse.told(Instant::ZERO, B, vitals(None, Some(ms(2))));
        assert_eq!(pulse.successor(Instant::ZERO, &TIMING, |_| true), Some(B));
        assert_eq!(pulse.successor(Instant::ZERO, &TIMING, |_| false), None);
    }

    #[test]
    fn apply_lag_is_the_time_from_commit_to_applied() {
        let (mut lag, at) = (ApplyLag::default(), Instant::from_millis);
        assert_eq!(lag.look(at(1), LogIndex(5), LogIndex(3)), None);
        assert_eq!(lag.look(at(4), LogIndex(9), LogIndex(4)), None);
        assert_eq!(lag.waits(at(5)), ms(4));
        assert_eq!(lag.look(at(6), LogIndex(9), LogIndex(5)), Some(ms(5)));
        assert_eq!(lag.look(at(7), LogIndex(9), LogIndex(9)), Some(ms(1)));
        assert_eq!(lag.waits(at(9)), ms(0));
    }
}
