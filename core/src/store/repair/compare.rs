//! What this store should have and others have: inventories compared, one peer after the other, one
//! interval of chunk ids after the other.
//!
//! ```text
//! Counting ─▶ Asking ─┬─ same ────────────────┬─▶ next interval, or the end
//!  (own ids)          └─ differs ─▶ Looking up ┘      (wait until each find is judged)
//! ```
//!
//! It promises that [`Compare::is_clean`] says yes only if, since the last reason to doubt, a whole
//! comparison with each peer of the map that stands has found nothing missing. Peers are the owners in
//! other zones, and whoever was an owner by a layout that is not proven to be superseded. What is lacking
//! here is looked for: each side asks for itself. What a peer lacks may be dead: the range is asked. Memory is bounded by one interval's list.

use std::collections::{BTreeMap, VecDeque};

use super::Blocks;
use super::owners::{Owners, peers_of};
use super::queue::{Queue, Why};
use crate::effects::{Effects, Now};
use crate::ids::{CallId, ChunkId, Endpoint, StoreId};
use crate::message::{InventoryAnswer, InventoryAsk, InventoryDigest, InventoryResult, Message};
use crate::rows::Miss;
use crate::store::serving::Host;
use crate::time::{Deadline, Duration, Instant};

/// Own rows looked at for one interval.
const INTERVAL_ROWS: u32 = 4096;
/// Rows looked at in one step; then others have their turn.
pub(super) const SLICE_ROWS: u32 = 128;
/// Chunks of doubt that wait to be asked about; a comparison waits meanwhile.
const DOUBTFUL_MAX: usize = 256;
/// Between two such slices.
pub(super) const SLICE_PAUSE: Duration = Duration::from_millis(1);
/// How long a peer may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// Until a peer that did not answer, or could not, is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A store that has what this one should have.
#[derive(Debug)]
struct Peer {
    /// Raised by each reason to doubt that we have what it has.
    doubts: u64,
    /// The doubts that a whole comparison which found nothing has answered.
    answered: u64,
    /// Whether all that it had was listed once since the map changed, and what is lacking here queued.
    listed: bool,
    /// The next comparison begins no sooner.
    next: Instant,
}

/// A comparison with one peer.
#[derive(Debug)]
struct Pass {
    peer: StoreId,
    /// The doubts that it answers if it finds nothing.
    doubts: u64,
    found: bool,
    /// Where the present interval begins.
    from: ChunkId,
    stage: Stage,
    /// A block of the index that the next slice needs.
    waits_for: Option<Miss>,
    next_slice: Instant,
}

#[derive(Debug)]
enum Stage {
    /// Counting what we have.
    Counting { at: ChunkId, rows: u32, count: u64, digest: InventoryDigest },
    /// The peer counts.
    Asking { call: CallId, to: Option<ChunkId>, until: Instant },
    /// Looking for what the peer has and we have not, and the other way round, from `at` on.
    LookingUp { listed: VecDeque<ChunkId>, to: Option<ChunkId>, at: ChunkId },
    /// The end is reached; some finds are not judged yet.
    Judging,
}

/// The comparisons of a store.
#[derive(Debug, Default)]
pub(super) struct Compare {
    peers: BTreeMap<StoreId, Peer>,
    /// Whether the chunk index was still being rebuilt at the last step.
    index_incomplete: bool,
    pass: Option<Pass>,
    next_call: u64,
    /// Chunks that are here, and that a peer which should have them has not.
    doubtful: VecDeque<ChunkId>,
}

impl Compare {
    /// The map is another: all that was said about peers is void.
    pub(super) fn map_changed(&mut self, now: Instant, host: &Host) {
        let peers = peers_of(host.config.store, host.map()).into_iter();
        let fresh = |_| Peer { doubts: 1, answered: 0, listed: false, next: now };
        self.peers = peers.map(|peer| (peer, fresh(peer))).collect();
        self.pass = None;
    }

    /// The map is proven: former owners have nothing to say any more, and all else stands.
    pub(super) fn map_proven(&mut self, host: &Host) {
        let peers = peers_of(host.config.store, host.map());
        self.peers.retain(|peer, _| peers.contains(peer));
        self.pass.take_if(|pass| !peers.contains(&pass.peer));
    }

    /// Whether each peer of this map was compared with once, whatever was found missing: that is in the
    /// queue, or is made good. Under load a comparison may find something new each time.
    pub(super) fn has_seen_all(&self) -> bool {
        self.peers.values().all(|peer| peer.listed)
    }

    /// There is reason to doubt that we have what `peer` has; `None` for all of them.
    pub(super) fn doubt(&mut self, now: Instant, about: Option<StoreId>) {
        for (id, peer) in &mut self.peers {
            if about.is_none_or(|about| about == *id) {
                peer.doubts += 1;
                peer.next = peer.next.min(now);
            }
        }
    }

    /// Whether no doubt is left.
    pub(super) fn is_clean(&self) -> bool {
        self.peers.values().all(|peer| peer.answered == peer.doubts)
    }

    /// With whom inventories are being compared, and from which chunk on.
    pub(super) fn progress(&self) -> Option<(StoreId, ChunkId)> {
        self.pass.as_ref().map(|pass| (pass.peer, pass.from))
    }

    /// A find was missing indeed.
    pub(super) fn found(&mut self) {
        if let Some(pass) = &mut self.pass {
            pass.found = true;
        }
    }

    /// A block of the index is in memory: if it was waited for, the pass goes on in this step.
    pub(super) fn fetched(&mut self, miss: Miss) {
        let Some(pass) = &mut self.pass else { return };
        if pass.waits_for.take_if(|waited| *waited == miss).is_some() {
            pass.next_slice = Instant::ZERO;
        }
    }

    /// Go on, one slice at most.
    pub(super) fn drive(
        &mut self,
        now: Now,
        queue: &mut Queue,
        owners: &mut Owners,
        blocks: &mut Blocks,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let was_incomplete = self.index_incomplete;
        self.index_incomplete = !host.storage.chunk_index_is_complete();
        if self.index_incomplete {
            // What is not found again yet would seem to be missing.
            self.pass = None;
            return;
        }
        if was_incomplete {
            // Damage may have hidden copies from the scan that rebuilt the index; and a merge may have met
            // the index's damage long after the last comparison.
            self.doubt(now.instant, None);
        }
        if self.pass.is_none() {
            self.begin(now.instant);
        }
        let Some(mut pass) = self.pass.take() else { return };
        if pass.waits_for.is_some() || pass.next_slice > now.instant {
            self.pass = Some(pass);
            return;
        }
        pass.stage = match core::mem::replace(&mut pass.stage, Stage::Judging) {
            stage @ Stage::Counting { .. } => {
                pass.stage = stage;
                self.count(now, &mut pass, owners, blocks, host, fx)
            }
            Stage::Asking { until, .. } if until <= now.instant => {
                self.postpone(pass.peer, now.instant + RETRY_AFTER);
                return;
            }
            stage @ Stage::Asking { .. } => stage,
            Stage::LookingUp { listed, to, at } => {
                pass.stage = Stage::LookingUp { listed, to, at };
                match self.look_up(now, &mut pass, (queue, owners), blocks, host, fx) {
                    true => next_interval(&mut pass.from, to),
                    false => core::mem::replace(&mut pass.stage, Stage::Judging),
                }
            }
            Stage::Judging if queue.unjudged() > 0 => Stage::Judging,
            Stage::Judging => return self.end(now.instant, &pass, host),
        };
        self.pass = Some(pass);
    }

    /// Begin with the peer whose turn has come.
    fn begin(&mut self, now: Instant) {
        let due = self.peers.iter().filter(|(_, peer)| peer.next <= now);
        let Some((peer, state)) = due.min_by_key(|(_, peer)| peer.next) else { return };
        self.pass = Some(Pass {
            peer: *peer,
            doubts: state.doubts,
            found: false,
            from: ChunkId::default(),
            stage: counting(ChunkId::default()),
            waits_for: None,
            next_slice: now,
        });
    }

    fn count(
        &mut self,
        now: Now,
        pass: &mut Pass,
        owners: &mut Owners,
        blocks: &mut Blocks,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Stage {
        let Stage::Counting { mut at, mut rows, mut count, mut digest } =
            core::mem::replace(&mut pass.stage, Stage::Judging)
        else {
            unreachable!("called while counting");
        };
        let own = host.config.store;
        let mut end = None;
        for _ in 0..SLICE_ROWS {
            if rows > 0 && buggify!(SmallSlices) {
                break;
            }
            if rows >= INTERVAL_ROWS || (rows >= 4 && buggify!(SmallIntervals)) {
                end = Some(Some(at));
                break;
            }
            match host.storage.next_chunk(at) {
                Err(miss) => {
                    blocks.fetch(miss, host, fx);
                    pass.waits_for = Some(miss);
                    return Stage::Counting { at, rows, count, digest };
                }
                Ok(None) => {
                    end = Some(None);
                    break;
                }
                Ok(Some(chunk)) => {
                    rows += 1;
                    if owners.is_shared(chunk, own, pass.peer, host.map()) {
                        count += 1;
                        digest.add(chunk);
                    }
                    match chunk.successor() {
                        Some(next) => at = next,
                        None => {
                            end = Some(None);
                            break;
                        }
                    }
                }
            }
        }
        let Some(to) = end else {
            pass.next_slice = now.instant + SLICE_PAUSE;
            return Stage::Counting { at, rows, count, digest };
        };
        self.next_call += 1;
        let call = host.call_id(self.next_call);
        let epoch = host.map().epoch;
        let ask = InventoryAsk { call, epoch, from: pass.from, to, count, digest };
        host.send(Endpoint::Store(pass.peer), Message::InventoryAsk(ask), fx);
        Stage::Asking { call, to, until: now.instant + ASK_TIMEOUT }
    }

    /// A peer has answered.
    pub(super) fn answered(
        &mut self,
        now: Now,
        from: StoreId,
        answer: InventoryAnswer,
        owners: &mut Owners,
        host: &Host,
    ) {
        let Some(mut pass) = self.pass.take_if(|pass| {
            pass.peer == from
                && matches!(pass.stage, Stage::Asking { call, .. } if call == answer.call)
        }) else {
            return;
        };
        let Stage::Asking { to: asked_to, .. } = pass.stage else {
            unreachable!("looked at above");
        };
        pass.next_slice = now.instant;
        pass.stage = match answer.result {
            InventoryResult::Same => next_interval(&mut pass.from, asked_to),
            InventoryResult::NotNow => {
                return self.postpone(from, now.instant + RETRY_AFTER);
            }
            InventoryResult::Differs { to, mut chunks } => {
                // It covers what was asked for or less, and more than nothing.
                let behind = |a: Option<ChunkId>, b: Option<ChunkId>| match (a, b) {
                    (None, Some(_)) => true,
                    (Some(a), Some(b)) => a > b,
                    (_, None) => false,
                };
                if behind(to, asked_to) || to.is_some_and(|to| to <= pass.from) {
                    return self.postpone(from, now.instant + RETRY_AFTER);
                }
                let own = host.config.store;
                chunks.retain(|chunk| {
                    *chunk >= pass.from
                        && to.is_none_or(|to| *chunk < to)
                        && owners.is_shared(*chunk, own, from, host.map())
                });
                Stage::LookingUp { listed: chunks.into(), to, at: pass.from }
            }
        };
        self.pass = Some(pass);
    }

    /// Compare a slice of what the peer has with what is here. What is not here goes into the queue; what
    /// only we have is doubtful. Whether the interval is done.
    fn look_up(
        &mut self,
        now: Now,
        pass: &mut Pass,
        (queue, owners): (&mut Queue, &mut Owners),
        blocks: &mut Blocks,
        host: &mut Host,
        fx: &mut Effects,
    ) -> bool {
        let Stage::LookingUp { listed, to, at } = &mut pass.stage else {
            unreachable!("called while looking up");
        };
        let pair = (host.config.store, pass.peer);
        for _ in 0..SLICE_ROWS {
            if !queue.takes_more() || self.doubtful.len() >= DOUBTFUL_MAX {
                return false;
            }
            let ours = match host.storage.next_chunk(*at) {
                Err(miss) => {
                    blocks.fetch(miss, host, fx);
                    pass.waits_for = Some(miss);
                    return false;
                }
                Ok(ours) => ours.filter(|chunk| to.is_none_or(|to| *chunk < to)),
            };
            let theirs = listed.front().copied();
            match (ours, theirs) {
                (None, None) => return true,
                (Some(ours), Some(theirs)) if ours == theirs => {
                    listed.pop_front();
                }
                (ours, Some(theirs)) if ours.is_none_or(|ours| theirs < ours) => {
                    listed.pop_front();
                    if planted!(ComparisonIgnored) {
                        continue;
                    }
                    let added = queue.add(now.instant, theirs, Why::Compared, &[pass.peer], None);
                    assert!(added.is_ok(), "there is room: looked at above");
                    continue;
                }
                // While chunks move, owners lack what they are only getting.
                (Some(ours), _) if host.map().unproven.is_empty() => {
                    let keepers = &owners.of(ours, host.map()).present;
                    if keepers.contains(&pair.0) && keepers.contains(&pair.1) {
                        probe!(DoubtfulCopy);
                        self.doubtful.push_back(ours);
                    }
                }
                _ => {}
            }
            match ours.and_then(|ours| ours.successor()) {
                Some(next) => *at = next,
                // Behind the last id there is.
                None => return true,
            }
        }
        pass.next_slice = now.instant + SLICE_PAUSE;
        false
    }

    /// A chunk that only we have.
    pub(super) fn next_doubt(&mut self) -> Option<ChunkId> {
        self.doubtful.pop_front()
    }

    /// The link to a peer was reset: it will not answer.
    pub(super) fn link_down(&mut self, now: Instant, peer: StoreId) {
        if self.pass.as_ref().is_some_and(|pass| pass.peer == peer) {
            self.postpone(peer, now + RETRY_AFTER);
        }
    }

    fn postpone(&mut self, peer: StoreId, next: Instant) {
        self.pass = None;
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.next = next;
        }
    }

    fn end(&mut self, now: Instant, pass: &Pass, host: &Host) {
        let Some(peer) = self.peers.get_mut(&pass.peer) else { return };
        peer.listed = true;
        if pass.found {
            // Once more, when what was found had time to be repaired.
            peer.doubts += u64::from(peer.doubts == peer.answered);
            peer.next = now + super::SETTLE;
            return;
        }
        peer.answered = peer.answered.max(pass.doubts);
        peer.next = match peer.answered == peer.doubts {
            true => now + host.config.timing.compare_every,
            false => now,
        };
    }

    pub(super) fn next_deadline(&self, queue: &Queue) -> Option<Deadline> {
        let reason = "compare inventories";
        if self.index_incomplete {
            // The disk wakes the store. A deadline that is due already would wake it all the time.
            return None;
        }
        match &self.pass {
            None => {
                let at = self.peers.values().map(|peer| peer.next).min()?;
                Some(Deadline { at, reason })
            }
            Some(pass) if pass.waits_for.is_some() => None,
            Some(pass) => match &pass.stage {
                Stage::Asking { until, .. } => Some(Deadline { at: *until, reason }),
                // The queue wakes the store when it has judged.
                Stage::Judging if queue.unjudged() > 0 => None,
                Stage::LookingUp { .. } if !queue.takes_more() => None,
                // Whoever takes the doubts wakes the store.
                Stage::LookingUp { .. } if self.doubtful.len() >= DOUBTFUL_MAX => None,
                _ => Some(Deadline { at: pass.next_slice, reason }),
            },
        }
    }
}

fn counting(from: ChunkId) -> Stage {
    Stage::Counting { at: from, rows: 0, count: 0, digest: InventoryDigest::default() }
}

/// Behind an interval that ends at `to`.
fn next_interval(from: &mut ChunkId, to: Option<ChunkId>) -> Stage {
    match to {
        Some(to) => {
            *from = to;
            counting(to)
        }
        None => Stage::Judging,
    }
}
