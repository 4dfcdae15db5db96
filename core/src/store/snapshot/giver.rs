//! The giving side: views of the range's table, and a stream of pages for each replica that pulls.
//!
//! Who pulls sets the pace: so many pages from here on. A page that is lost is asked for again by its
//! number and first key, so that a stream goes on over broken links, and from another view of the
//! same life only as a whole. Views are few, and closed when nobody pulls for a while.

use core::ops::Bound;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::codec::{Encoder, Wire};
use crate::effects::{Effect, Effects, Now};
use crate::hash::{Checksum, StateHash};
use crate::ids::{Endpoint, LogIndex, StoreId, Term};
use crate::message::{
    Message, SnapshotAsk, SnapshotGiven, SnapshotId, SnapshotOffer, SnapshotPage, SnapshotRow,
    SnapshotWant,
};
use crate::rows::Miss;
use crate::storage::{ViewError, ViewId};
use crate::store::replica::Replica;
use crate::store::serving::Host;
use crate::time::{Deadline, Duration, Instant};

/// Views held at a time. Each keeps runs from being dropped.
const VIEWS_MAX: usize = 4;
/// Streams of one view: every other replica of a range has one.
const STREAMS_MAX: usize = 8;
/// Pages that may be ahead of what is taken, whatever is asked for.
const WINDOW_MAX: u32 = 64;
/// Rows looked at for one page: passing over old rows is work too.
const ROWS_PER_PAGE: usize = 1024;
/// A view that nobody pulls from for so many election timeouts is closed.
const IDLE_ELECTIONS: u32 = 25;
/// Who has not asked for so many election timeouts does not pull any more.
const PULLING_ELECTIONS: u32 = 3;

/// What a replica gives away.
#[derive(Debug, Default)]
pub(in crate::store) struct Giver {
    views: BTreeMap<u64, View>,
    next: u64,
    /// Who needs a state, and how it asked.
    wanted: BTreeMap<StoreId, Wanted>,
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// Consensus offers it.
    ByConsensus,
    /// The peer asked by itself for a state that is no older than this.
    ByPeer(LogIndex),
}

/// The range's state after an entry.
#[derive(Debug)]
struct View {
    view: ViewId,
    index: LogIndex,
    term: Term,
    hash: StateHash,
    /// Tombstones up to here were dropped.
    bare: LogIndex,
    used_at: Instant,
    streams: BTreeMap<StoreId, Stream>,
}

/// What a replica pulls.
#[derive(Debug)]
struct Stream {
    newer_than: LogIndex,
    /// The page that is made next...
    page: u64,
    /// ...and its first key; `None`: all pages were made.
    from: Option<Bytes>,
    /// Pages up to this one (exclusive) may be sent.
    until: u64,
    asked_at: Instant,
    /// The page that is being made.
    made: Made,
    /// A block that it needs.
    waits: Option<Miss>,
    pins: Vec<Miss>,
}

#[derive(Debug, Default)]
struct Made {
    rows: Vec<SnapshotRow>,
    bytes: usize,
    looked: usize,
    /// Behind the rows so far.
    at: Option<Bytes>,
}

impl Stream {
    fn new(newer_than: LogIndex, page: u64, from: Bytes, now: Instant) -> Self {
        Self {
            newer_than,
            page,
            from: Some(from),
            until: page,
            asked_at: now,
            made: Made::default(),
            waits: None,
            pins: Vec::new(),
        }
    }

    /// Whether a page can be made now.
    fn is_ready(&self) -> bool {
        self.from.is_some() && self.page < self.until && self.waits.is_none()
    }

    fn unpin(&mut self, host: &mut Host) {
        for miss in self.pins.drain(..) {
            host.storage.release(miss);
        }
    }
}

impl Giver {
    /// A peer needs a state; it is offered when there is one.
    pub(in crate::store) fn wanted(&mut self, peer: StoreId) {
        self.wanted.insert(peer, Wanted::ByConsensus);
    }

    /// A block came.
    pub(in crate::store) fn fetched(&mut self, miss: Miss) {
        for stream in self.views.values_mut().flat_map(|view| view.streams.values_mut()) {
            stream.waits.take_if(|waits| *waits == miss);
        }
    }

    /// The oldest state that is held for others: they will need the log behind it.
    pub(in crate::store) fn oldest_view(&self) -> Option<LogIndex> {
        self.views.values().map(|view| view.index).min()
    }

    /// The table is gone, and with it its views.
    pub(in crate::store) fn clear(&mut self, host: &mut Host) {
        for (_, view) in core::mem::take(&mut self.views) {
            close(view, host);
        }
    }

    /// Whether there are pages to make that nothing holds up.
    fn has_work(&self) -> bool {
        self.views.values().flat_map(|view| view.streams.values()).any(Stream::is_ready)
    }

    pub(in crate::store) fn next_deadline(&self, election: Duration) -> Option<Deadline> {
        if self.has_work() {
            return Some(Deadline { at: Instant::ZERO, reason: "pages of a snapshot to send" });
        }
        let first = self.views.values().map(|view| view.used_at).min()?;
        let at = first + idle(election);
        Some(Deadline { at, reason: "nobody pulls a snapshot" })
    }

    /// Close what nobody needs.
    fn expire(&mut self, now: Instant, election: Duration, host: &mut Host) {
        let old = |view: &View| view.used_at + idle(election) <= now;
        let old: Vec<u64> =
            self.views.iter().filter(|(_, view)| old(view)).map(|(number, _)| *number).collect();
        for view in old.into_iter().filter_map(|number| self.views.remove(&number)) {
            probe!(ViewExpired);
            close(view, host);
        }
    }

    /// The view that a peer is pulling from.
    fn pulled_by(&self, peer: StoreId, now: Instant, within: Duration) -> Option<u64> {
        let pulls = |view: &View| {
            view.streams.get(&peer).is_some_and(|stream| stream.asked_at + within > now)
        };
        self.views.iter().find(|(_, view)| pulls(view)).map(|(number, _)| *number)
    }

    pub(in crate::store) fn check(&self) {
        assert!(self.views.len() <= VIEWS_MAX);
        assert!(self.views.values().all(|view| view.streams.len() <= STREAMS_MAX));
    }
}

fn idle(election: Duration) -> Duration {
    election * if buggify!(EarlyExpiry) { IDLE_ELECTIONS / 5 } else { IDLE_ELECTIONS }
}

fn close(mut view: View, host: &mut Host) {
    for stream in view.streams.values_mut() {
        stream.unpin(host);
    }
    host.storage.close_view(view.view);
}

/// What a replica without that state says.
pub(in crate::store) fn gone(ask: &SnapshotAsk) -> Option<SnapshotPage> {
    match ask.want {
        SnapshotWant::Pages { snapshot, .. } => {
            Some(SnapshotPage { range: ask.range, given: SnapshotGiven::Gone { snapshot } })
        }
        SnapshotWant::State { .. } | SnapshotWant::Nothing { .. } => None,
    }
}

impl Replica {
    /// Another replica pulls.
    pub(in crate::store) fn on_snapshot_ask(
        &mut self,
        now: Now,
        from: StoreId,
        ask: SnapshotAsk,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        match ask.want {
            SnapshotWant::State { at_least } => {
                self.giver.wanted.insert(from, Wanted::ByPeer(at_least));
            }
            SnapshotWant::Nothing { snapshot } => {
                if let Some(view) = self.giver.views.get_mut(&snapshot.number)
                    && snapshot.incarnation == host.incarnation
                    && let Some(mut stream) = view.streams.remove(&from)
                {
                    stream.unpin(host);
                }
            }
            SnapshotWant::Pages {
                snapshot,
                newer_than,
                page,
                from: ref from_key,
                window,
                again,
            } => {
                let own =
                    (snapshot.store, snapshot.incarnation) == (host.config.store, host.incarnation);
                let view = self.giver.views.get_mut(&snapshot.number).filter(|_| own);
                let room = |view: &View| {
                    view.streams.contains_key(&from) || view.streams.len() < STREAMS_MAX
                };
                // What is newer than that would lack what was deleted meanwhile.
                let knows = |view: &View| newer_than == LogIndex(0) || newer_than >= view.bare;
                let Some(view) = view.filter(|view| room(view) && knows(view)) else {
                    if let Some(page) = gone(&ask) {
                        host.send(Endpoint::Store(from), Message::SnapshotPage(page), fx);
                    }
                    return;
                };
                view.used_at = now.instant;
                let fresh = || Stream::new(newer_than, page, from_key.clone(), now.instant);
                let stream = view.streams.entry(from).or_insert_with(fresh);
                if again || stream.newer_than != newer_than || stream.page < page {
                    stream.unpin(host);
                    *stream = fresh();
                }
                stream.asked_at = now.instant;
                stream.until = stream.until.max(page.saturating_add(window.min(WINDOW_MAX).into()));
            }
        }
    }

    /// Offer states to those who need them, and send pages.
    pub(in crate::store) fn give(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        self.giver.expire(now.instant, self.election, host);
        if !self.giver.wanted.is_empty()
            && self.taker.is_none()
            && !host.storage.is_ingesting(self.id)
        {
            self.offer_states(now, host, fx)?;
        }
        self.send_pages(host, fx);
        Ok(())
    }

    fn offer_states(&mut self, now: Now, host: &mut Host, fx: &mut Effects) -> Result<(), String> {
        let Some(applied) = self.machine.range().map(crate::range::Range::applied) else {
            return Ok(());
        };
        let pulling = self.election * PULLING_ELECTIONS;
        for (peer, wanted) in core::mem::take(&mut self.giver.wanted) {
            if matches!(wanted, Wanted::ByConsensus) && !self.leads() {
                continue;
            }
            let floor = match wanted {
                Wanted::ByConsensus => LogIndex(0),
                Wanted::ByPeer(at_least) => at_least,
            };
            let pulled = self
                .giver
                .pulled_by(peer, now.instant, pulling)
                .filter(|number| self.giver.views[number].index >= floor);
            // The configuration there must be known, for whoever takes it as its log's beginning.
            let recent = floor.max(self.raft.base_index());
            let Some(number) = pulled.or_else(|| self.recent_view(now, applied, recent, host, fx))
            else {
                // Asked for again below, when the memtable is written out.
                self.giver.wanted.insert(peer, wanted);
                continue;
            };
            self.offer(now, peer, wanted, number, host, fx)?;
        }
        Ok(())
    }

    fn offer(
        &mut self,
        now: Now,
        peer: StoreId,
        wanted: Wanted,
        number: u64,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let view = self.giver.views.get_mut(&number).expect("it was just found");
        view.used_at = now.instant;
        let (index, term) = (view.index, view.term);
        let (store, incarnation) = (host.config.store, host.incarnation);
        let snapshot = SnapshotId { store, incarnation, number };
        let offer = SnapshotOffer { snapshot, hash: view.hash, bare: view.bare };
        match wanted {
            Wanted::ByConsensus => {
                let data = offer.to_bytes();
                self.consensus(now, host, fx, |raft, out| {
                    raft.snapshot(now.instant, peer, index, term, data, out);
                })?;
            }
            Wanted::ByPeer(_) => {
                let Some(membership) = self.membership_at(index) else { return Ok(()) };
                let given = SnapshotGiven::State { index, term, membership, offer };
                let page = SnapshotPage { range: self.id, given };
                host.send(Endpoint::Store(peer), Message::SnapshotPage(page), fx);
            }
        }
        Ok(())
    }

    /// A view that is not much older than what is applied; if there is none, see to it that there
    /// will be.
    fn recent_view(
        &mut self,
        now: Now,
        applied: LogIndex,
        floor: LogIndex,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Option<u64> {
        let is_recent = |index: LogIndex| {
            index >= floor && applied.0 - index.0 <= host.config.limits.snapshot_lag / 2
        };
        let open = self.giver.views.iter().rev().find(|(_, view)| is_recent(view.index));
        if let Some((number, _)) = open {
            return Some(*number);
        }
        let flushed = host.storage.flushed(self.id);
        let mark = self.machine.mark(flushed);
        let term = self.raft.term_at(flushed);
        if let (Some((hash, _)), Some(term)) = (mark, term)
            && flushed > LogIndex(0)
            && is_recent(flushed)
        {
            return self.open_view(now, term, hash, host);
        }
        if applied > flushed && !host.storage.is_flushing(self.id) {
            self.freeze(applied, host, fx);
        }
        None
    }

    fn open_view(&mut self, now: Now, term: Term, hash: StateHash, host: &mut Host) -> Option<u64> {
        if self.giver.views.len() >= VIEWS_MAX {
            let unused = |view: &View| view.streams.is_empty();
            let oldest = self.giver.views.iter().find(|(_, view)| unused(view));
            let number = *oldest?.0;
            let view = self.giver.views.remove(&number)?;
            close(view, host);
        }
        let (view, index, bare) = host.storage.open_view(self.id);
        self.giver.next += 1;
        let (used_at, streams) = (now.instant, BTreeMap::new());
        let view = View { view, index, term, hash, bare, used_at, streams };
        self.giver.views.insert(self.giver.next, view);
        Some(self.giver.next)
    }

    /// Make one page for each stream that may have one.
    fn send_pages(&mut self, host: &mut Host, fx: &mut Effects) {
        let mut lost = Vec::new();
        for (number, view) in &mut self.giver.views {
            for (peer, stream) in &mut view.streams {
                if !stream.is_ready() {
                    continue;
                }
                let (store, incarnation) = (host.config.store, host.incarnation);
                let snapshot = SnapshotId { store, incarnation, number: *number };
                let given = match make_page(view.view, snapshot, stream, host, fx) {
                    Ok(None) => continue,
                    Ok(Some(given)) => given,
                    Err(()) => {
                        lost.push(*number);
                        SnapshotGiven::Gone { snapshot }
                    }
                };
                let page = SnapshotPage { range: self.id, given };
                host.send(Endpoint::Store(*peer), Message::SnapshotPage(page), fx);
            }
        }
        for view in lost.into_iter().filter_map(|number| self.giver.views.remove(&number)) {
            fx.push(Effect::Note(format!("{}: a state that was held is gone", self.id)));
            close(view, host);
        }
    }
}

/// Go on with a page. `None`: a block has to come first. An error: the view is gone.
fn make_page(
    view: ViewId,
    snapshot: SnapshotId,
    stream: &mut Stream,
    host: &mut Host,
    fx: &mut Effects,
) -> Result<Option<SnapshotGiven>, ()> {
    let bytes_max = match buggify!(TinyPages) {
        true => 1,
        false => host.config.limits.snapshot_page_bytes,
    };
    let Some(first) = stream.from.clone() else { return Ok(None) };
    let to = loop {
        let made = &mut stream.made;
        if made.bytes >= bytes_max || made.looked >= ROWS_PER_PAGE {
            break made.at.clone();
        }
        let from = made.at.as_ref().unwrap_or(&first);
        match host.storage.view_next(view, Bound::Included(from), stream.newer_than) {
            Ok(Some(row)) => {
                made.looked += 1;
                made.at = Some(behind(&row.key));
                if row.index > stream.newer_than {
                    made.bytes += row.key.len() + row.value.as_ref().map_or(0, Bytes::len);
                    let (key, index, value) = (row.key, row.index, row.value);
                    made.rows.push(SnapshotRow { key, index, value });
                }
                stream.unpin(host);
            }
            Ok(None) => break None,
            Err(ViewError::Miss(miss)) => {
                stream.waits = Some(miss);
                stream.pins.push(miss);
                // A row is read as a whole: its blocks must stay until all are here.
                host.storage.fetch(miss, true, fx);
                return Ok(None);
            }
            Err(ViewError::Gone) => return Err(()),
        }
    };
    let made = core::mem::take(&mut stream.made);
    let mut out = Encoder::new();
    out.list(&made.rows);
    let rows = out.finish();
    let page = stream.page;
    stream.page += 1;
    stream.from.clone_from(&to);
    let checksum = Checksum::of(page, &rows);
    Ok(Some(SnapshotGiven::Rows { snapshot, page, from: first, to, checksum, rows }))
}

/// The least key behind `key`.
fn behind(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}
