//! The leader of a range has dead blobs freed.
//!
//! It goes through the rows of dead blobs, again and again. A blob is freed when no session can read it or
//! write it any more: each live session has told so with its beats ([`SessionReport`]), and those that are
//! over are refused by every store that knows the directory which the request names. The stores that keep
//! its chunks by the map free them; then its row is forgotten, by a command.
//!
//! Why no round of consensus is needed, and no replicated floor: that a blob is dead, that a session is over,
//! and what a session has told are facts that stay true, also if this replica does not lead any more. A
//! session that is opened later than what is applied here reads only states in which the blob is dead.
//!
//! A store that is away holds nothing up: when the other zones have freed a blob and it has been silent for a
//! while, the row is forgotten. When it comes back it has chunks that its peers have not, and asks.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::repair::Owners;
use super::replica::Replica;
use super::serving::Host;
use crate::cluster::ClusterMap;
use crate::directory::Standing;
use crate::effects::{Effects, Now};
use crate::ids::{BlobId, CallId, ChunkId, LogIndex, MapEpoch, SessionId, StoreId, ZoneId};
use crate::message::{BLOBS_FREED_MAX, BlobFree, BlobFreed, Message, SessionReport};
use crate::object::OwnedBlob;
use crate::range::command::CommandBody;
use crate::range::{DeadBlob, LIVE_SESSIONS_MAX, Range, RowError};
use crate::rows::Miss;
use crate::time::{Deadline, Duration, Instant};

/// Rows passed in one step.
const ROWS_PER_STEP: u32 = 256;
/// Batches of blobs that stores are freeing at a time.
const BATCHES_MAX: usize = 4;
/// How long stores may take to free a batch.
const PATIENCE: Duration = Duration::from_secs(5);
/// Zones that must have freed a blob before its row is forgotten, if the third is silent.
const ZONES_ENOUGH: usize = 2;
/// Until the rows are gone through again...
const PASS_EVERY: Duration = Duration::from_millis(500);
/// ...and for each row that could not be freed so much longer, so that a reader of many days, which keeps
/// many dead blobs, does not keep the leader busy.
const PASS_PER_ROW: Duration = Duration::from_micros(50);
/// Chunks of one blob whose places are looked up; of a blob of more, all stores are told.
const PLACES_MAX: u64 = 64;

/// What the live sessions have told.
#[derive(Debug, Default)]
pub(super) struct Reports(BTreeMap<SessionId, SessionReport>);

impl Reports {
    /// A session tells.
    pub(super) fn heard(&mut self, session: SessionId, report: SessionReport) {
        if self.0.len() < LIVE_SESSIONS_MAX * 2 || self.0.contains_key(&session) {
            self.0.insert(session, report);
        }
    }

    /// Only these are live.
    pub(super) fn retain(&mut self, range: &Range) {
        self.0.retain(|session, _| range.session_standing(*session) != Standing::Fenced);
    }

    /// Whether nothing more comes of a blob.
    pub(super) fn is_closed(&self, blob: BlobId, range: &Range) -> bool {
        match range.session_standing(blob.session) {
            Standing::Fenced => true,
            Standing::Live | Standing::Unknown => {
                self.0.get(&blob.session).is_some_and(|report| report.is_closed(blob.sequence))
            }
        }
    }

    /// The epoch of the map, if it is proven and every live session goes by it; else 0.
    pub(super) fn settled(&self, range: &Range) -> MapEpoch {
        let proven =
            |map: &&ClusterMap| map.unproven.is_empty() || planted!(SuperfluousFreedUnproven);
        let Some(map) = range.map().filter(proven) else {
            return MapEpoch(0);
        };
        let goes_by_it = |session| self.0.get(&session).is_some_and(|told| told.map >= map.epoch);
        let all = range.live_sessions().all(|(session, _)| goes_by_it(session));
        if all || planted!(SuperfluousFreedUnproven) { map.epoch } else { MapEpoch(0) }
    }

    /// Whether no session reads a dead blob, or will.
    fn have_done_with(&self, blob: BlobId, died: LogIndex, range: &Range) -> bool {
        if planted!(FreedUnderOpenRead) {
            return true;
        }
        range.live_sessions().all(|(session, _)| {
            self.0.get(&session).is_some_and(|report| report.has_done_with(blob, died))
        })
    }
}

/// Blobs that stores are freeing.
#[derive(Debug)]
struct Batch {
    blobs: BTreeMap<BlobId, OwnedBlob>,
    /// Of each store: what it has not freed yet.
    open: BTreeMap<StoreId, BTreeSet<BlobId>>,
    /// Stores that have not answered.
    silent: BTreeSet<StoreId>,
    until: Instant,
}

/// How far the leader has come.
#[derive(Debug, Default)]
pub(super) struct Collector {
    /// Where to go on; `None`: a pass begins.
    from: Option<Bytes>,
    next: Instant,
    /// Rows of this pass that were left.
    left: u32,
    waits_for: Option<Miss>,
    pins: Vec<Miss>,
    batches: BTreeMap<CallId, Batch>,
    /// Stores that a batch has waited for in vain: others do not, until they answer again.
    away: BTreeSet<StoreId>,
    /// Blobs in hand, or forgotten by commands that are not applied yet.
    in_hand: BTreeSet<BlobId>,
    next_call: u64,
    owners: Owners,
}

impl Collector {
    /// This replica does not lead.
    pub(super) fn clear(&mut self, host: &mut Host) {
        for pin in self.pins.drain(..) {
            host.storage.release(pin);
        }
        let next_call = self.next_call;
        *self = Self { next_call, ..Self::default() };
    }

    /// A block of the table is in memory.
    pub(super) fn fetched(&mut self, miss: Miss) {
        self.waits_for.take_if(|waited| *waited == miss);
    }

    /// A command has made the range forget these.
    pub(super) fn forgotten(&mut self, blobs: &[OwnedBlob]) {
        for blob in blobs {
            self.in_hand.remove(&blob.blob);
        }
    }

    /// Whom to tell of a blob.
    fn stores_of(&mut self, dead: &DeadBlob, host: &Host) -> BTreeSet<StoreId> {
        let chunks = dead.blob.length.div_ceil(u64::from(dead.blob.chunk_size.max(1)));
        if chunks > PLACES_MAX {
            return host.map().stores().map(|(_, store)| store).collect();
        }
        let mut stores = BTreeSet::new();
        for number in 0..u32::try_from(chunks).unwrap_or(u32::MAX) {
            let chunk = ChunkId { blob: dead.blob.blob, number };
            stores.extend(self.owners.of(chunk, host.map()).stores());
        }
        stores
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        let reason = "free dead blobs";
        let batch = self.batches.values().map(|batch| batch.until).min();
        let batch = batch.map(|at| Deadline { at, reason });
        let goes_on = self.waits_for.is_none() && self.batches.len() < BATCHES_MAX;
        let next = goes_on.then_some(Deadline { at: self.next, reason });
        Deadline::earlier(batch, next)
    }
}

impl Replica {
    /// Whether this replica has dead blobs freed: it leads, and there is a cluster.
    pub(super) fn collects(&self) -> bool {
        self.leads() && self.machine.range().is_some_and(|range| range.map().is_some())
    }

    /// Go on with having dead blobs freed; some rows in each step.
    ///
    /// # Errors
    /// A row that makes no sense: the store must stop.
    pub(super) fn collect(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        if !self.collects() {
            return Ok(());
        }
        self.end_batches(now.instant, host);
        // What is told of dead blobs is entries in the end, of which this journal may have no room to spare.
        if host.takes_no_entries() || buggify!(CollectPaused) {
            self.collector.next = self.collector.next.max(now.instant + PASS_EVERY);
            return Ok(());
        }
        if self.collector.waits_for.is_some()
            || self.collector.batches.len() >= BATCHES_MAX
            || self.collector.next > now.instant
        {
            return Ok(());
        }
        let Some(range) = self.machine.range() else { return Ok(()) };
        let from = self.collector.from.clone();
        let rows = host.storage.rows(self.id);
        let most = if buggify!(CollectSlowly) { 1 } else { ROWS_PER_STEP };
        let found = range.dead_blobs(&rows, from.as_ref(), BLOBS_FREED_MAX, most);
        drop(rows);
        let dead = match found {
            Ok(dead) => dead,
            Err(RowError::Miss(miss)) => {
                host.storage.fetch(miss, false, fx);
                host.storage.read_ahead(miss, fx);
                self.collector.waits_for = Some(miss);
                self.collector.pins.push(miss);
                return Ok(());
            }
            Err(RowError::Damaged(damaged)) => return Err(format!("{}: {damaged}", self.id)),
        };
        for pin in self.collector.pins.drain(..) {
            host.storage.release(pin);
        }
        let directory = range.directory_version();
        let mut batch = Batch {
            blobs: BTreeMap::new(),
            open: BTreeMap::new(),
            silent: BTreeSet::new(),
            until: now.instant + PATIENCE,
        };
        for found in dead.found {
            let blob = found.blob.blob;
            if planted!(GarbageForgottenEarly) && self.collector.in_hand.insert(blob) {
                let blobs = vec![OwnedBlob { blob, owner: found.owner.clone() }];
                self.commands.queue_system(CommandBody::ForgetGarbage { blobs });
            }
            let may_go = self.reports.is_closed(blob, range)
                && self.reports.have_done_with(blob, found.died.index, range)
                && !self.collector.in_hand.contains(&blob)
                && !buggify!(CollectLater);
            if !may_go {
                self.collector.left += 1;
                continue;
            }
            for store in self.collector.stores_of(&found, host) {
                batch.open.entry(store).or_default().insert(blob);
            }
            batch.blobs.insert(blob, OwnedBlob { blob, owner: found.owner });
        }
        self.collector.next = now.instant;
        self.collector.from = dead.next;
        if self.collector.from.is_none() {
            // The end: what was left needs time.
            let pause = PASS_EVERY + PASS_PER_ROW * core::mem::take(&mut self.collector.left);
            self.collector.next = now.instant + pause;
        }
        if batch.blobs.is_empty() {
            return Ok(());
        }
        assert!(batch.blobs.len() <= BLOBS_FREED_MAX, "no more are asked for");
        self.collector.next_call += 1;
        let call = host.call_id(self.collector.next_call);
        self.collector.in_hand.extend(batch.blobs.keys());
        batch.silent = batch.open.keys().copied().collect();
        for (store, blobs) in &batch.open {
            let blobs = blobs.iter().copied().collect();
            host.tell(*store, Message::BlobFree(BlobFree { call, directory, blobs }), fx);
        }
        self.collector.batches.insert(call, batch);
        Ok(())
    }

    /// A store has freed blobs.
    pub(super) fn blobs_freed(&mut self, from: StoreId, freed: &BlobFreed) {
        self.collector.away.remove(&from);
        let Some(batch) = self.collector.batches.get_mut(&freed.call) else { return };
        batch.silent.remove(&from);
        if let Some(open) = batch.open.get_mut(&from) {
            for blob in &freed.blobs {
                open.remove(blob);
            }
        }
    }

    /// Batches that all stores have answered, or that have taken long enough.
    fn end_batches(&mut self, now: Instant, host: &Host) {
        let Collector { batches, away, .. } = &mut self.collector;
        let over = batches.extract_if(.., |_, batch| {
            let late = batch.until <= now;
            if late {
                away.extend(&batch.silent);
            }
            late || batch.silent.is_subset(away)
        });
        let over: Vec<Batch> = over.map(|(_, batch)| batch).collect();
        for batch in over {
            let mut forget = Vec::new();
            for (id, blob) in batch.blobs {
                let has = |store: &&StoreId| batch.open[*store].contains(&id);
                let stores = batch.open.keys();
                let zones_of = |stores: &mut dyn Iterator<Item = &StoreId>| {
                    stores.filter_map(|id| host.map().zone_of(*id)).collect::<BTreeSet<ZoneId>>()
                };
                // A store that answered that it is busy is waited for; one that is silent is not, as long as
                // chunks that it keeps will show against those of its peers.
                let busy = stores.clone().filter(has).any(|it| !batch.silent.contains(it));
                let open = zones_of(&mut stores.clone().filter(has));
                let zones = zones_of(&mut stores.clone());
                if !busy && (open.is_empty() || zones.len() - open.len() >= ZONES_ENOUGH) {
                    if !open.is_empty() {
                        probe!(RowForgottenEarly);
                    }
                    forget.push(blob);
                } else {
                    self.collector.in_hand.remove(&id);
                }
            }
            if !forget.is_empty() {
                self.commands.queue_system(CommandBody::ForgetGarbage { blobs: forget });
            }
        }
    }
}
