//! The taking side.
//!
//! ```text
//!  Lost ─ State ─┐
//!                ▼
//! InstallSnapshot ─▶ Waiting ─▶ Pulling ─▶ Finishing ─▶ Checking ─▶ [Committing] ─▶ Installing ─▶ done
//!                                  └──────── anything wrong: given up, the old state stays ────┘
//! ```
//!
//! *By consensus*: the leader's log does not reach back, or not cheaply; the log is replaced with the
//! table, and no entry is applied meanwhile. *Lost*: the table is damaged and the log does not begin
//! at 1; the replica stays in consensus with the log that it has, and asks whoever may have a state.
//! Such a state is put into place only when this replica, too, knows that its last entry is committed;
//! but if its journal has no room for the log up to there, the state takes the place of the log.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::codec::{Decoder, Wire};
use crate::consensus::Membership;
use crate::effects::{Effect, Effects, Now};
use crate::hash::{Checksum, StateHash, ValueHash};
use crate::ids::{Endpoint, LogIndex, StoreId, Term};
use crate::message::{
    Message, SnapshotAsk, SnapshotGiven, SnapshotOffer, SnapshotPage, SnapshotRow, SnapshotWant,
};
use crate::range::{Range, RowError, is_in_tree_hash};
use crate::rows::Miss;
use crate::storage::{Durable, Ingested, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::store::apply::Machine;
use crate::store::observe::Observation;
use crate::store::replica::Replica;
use crate::store::serving::Host;
use crate::time::{Deadline, Instant};

/// Pages under way and taken, not yet staged.
const WINDOW: u32 = 4;
/// Rows of a page: what the giver looks at, and some.
const ROWS_PER_PAGE_MAX: usize = 4096;
/// Questions without an answer, an election timeout apart, before a giver is given up.
const SILENT_MAX: u32 = 10;

/// A state that is being taken over.
#[derive(Debug)]
pub(in crate::store) struct Taker {
    /// Consensus waits for it; else the table was lost.
    by_consensus: bool,
    giver: StoreId,
    offer: SnapshotOffer,
    index: LogIndex,
    term: Term,
    membership: Bytes,
    /// Only newer rows are pulled, and go over the table that is there.
    newer_than: LogIndex,
    stage: Stage,
    /// The tree hash of the rows so far, those below included.
    hash: StateHash,
    /// When the giver was last asked.
    asked_at: Instant,
    /// How often it was asked since it last gave a page.
    silent: u32,
}

#[derive(Debug)]
enum Stage {
    /// For the disk's one place for that.
    Waiting,
    Pulling(Pull),
    /// The last run is being written.
    Finishing,
    /// The rows are loaded as the state they should be.
    Checking {
        waits: Option<Miss>,
        pins: Vec<Miss>,
    },
    /// This replica does not know yet that the last entry is committed.
    Committing,
    /// The edit is on its way.
    Installing,
}

#[derive(Debug)]
struct Pull {
    /// The page that is wanted next, and its first key.
    page: u64,
    from: Bytes,
    /// Taken, not yet staged. Bounded by the window.
    rows: VecDeque<SnapshotRow>,
    /// The last page is here.
    ended: bool,
    /// A row below must come from disk.
    waits: Option<Miss>,
    pins: Vec<Miss>,
}

impl Taker {
    /// Whether a place is waited for, so that a block that came was for this.
    fn fetched(&mut self, miss: Miss) {
        let waits = match &mut self.stage {
            Stage::Pulling(pull) => &mut pull.waits,
            Stage::Checking { waits, .. } => waits,
            _ => return,
        };
        waits.take_if(|waits| *waits == miss);
    }

    fn take_pins(&mut self) -> Vec<Miss> {
        match &mut self.stage {
            Stage::Pulling(pull) => core::mem::take(&mut pull.pins),
            Stage::Checking { pins, .. } => core::mem::take(pins),
            _ => Vec::new(),
        }
    }

    /// Whether an answer of the giver is waited for.
    fn waits_for_giver(&self) -> bool {
        matches!(&self.stage, Stage::Pulling(pull) if !pull.ended && pull.rows.is_empty())
    }

    /// Whether it can still be given up.
    fn is_installing(&self) -> bool {
        matches!(self.stage, Stage::Installing)
    }

    pub(in crate::store) fn status(&self) -> String {
        let stage = match &self.stage {
            Stage::Waiting => "waiting",
            Stage::Pulling(_) => "pulling",
            Stage::Finishing => "writing",
            Stage::Checking { .. } => "checking",
            Stage::Committing => "waiting for commit",
            Stage::Installing => "installing",
        };
        let base = if self.newer_than > LogIndex(0) { "newer rows" } else { "all rows" };
        format!("takes {base} of {} from {} ({stage})", self.index, self.giver)
    }
}

/// Verify a page and take its rows apart.
fn rows_of(
    (page, from, to): (u64, &Bytes, Option<&Bytes>),
    (newer_than, through): (LogIndex, LogIndex),
    checksum: Checksum,
    bytes: &Bytes,
) -> Result<Vec<SnapshotRow>, String> {
    if Checksum::of(page, bytes) != checksum {
        return Err(format!("page {page} does not match its checksum"));
    }
    let mut input = Decoder::new(bytes);
    let rows: Vec<SnapshotRow> = input
        .list("rows of a page", ROWS_PER_PAGE_MAX)
        .and_then(|rows| input.finish().map(|()| rows))
        .map_err(|error| format!("page {page}: {error}"))?;
    let ascending = rows.windows(2).all(|pair| pair[0].key < pair[1].key);
    let inside = |row: &SnapshotRow| row.key >= from && to.is_none_or(|to| row.key < *to);
    let fits = |row: &SnapshotRow| {
        row.key.len() <= KEY_BYTES_MAX
            && row.value.as_ref().is_none_or(|value| value.len() <= VALUE_BYTES_MAX)
            && row.index > newer_than
            && row.index <= through
    };
    if !ascending || !rows.iter().all(|row| inside(row) && fits(row)) {
        return Err(format!("page {page} has rows that do not belong there"));
    }
    if to.is_some_and(|to| *to <= *from) {
        return Err(format!("page {page} covers nothing"));
    }
    Ok(rows)
}

impl Replica {
    /// Consensus wants log and table replaced.
    pub(in crate::store) fn begin_install(
        &mut self,
        now: Now,
        (index, term): (LogIndex, Term),
        membership: Bytes,
        data: &Bytes,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        if let Some(taker) = &self.taker {
            if taker.is_installing() {
                // Its own is nearly in place. What consensus wants, it will want again.
                return self.refuse_install(now, host, fx);
            }
            self.give_up(now, "consensus wants another state", host, fx)?;
        }
        let offer = match SnapshotOffer::from_bytes(data) {
            Ok(offer) => offer,
            Err(error) => {
                fx.push(Effect::Note(format!(
                    "{}: a snapshot up to {index} came whose offer cannot be read: {error}",
                    self.id
                )));
                return self.refuse_install(now, host, fx);
            }
        };
        self.begin_taking(now, true, offer, (index, term, membership), host, fx);
        Ok(())
    }

    fn refuse_install(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        self.consensus(now, host, fx, |raft, out| raft.snapshot_failed(now.instant, out))
    }

    fn begin_taking(
        &mut self,
        now: Now,
        by_consensus: bool,
        offer: SnapshotOffer,
        (index, term, membership): (LogIndex, Term, Bytes),
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let giver = offer.snapshot.store;
        let taker = Taker {
            by_consensus,
            giver,
            offer,
            index,
            term,
            membership,
            newer_than: LogIndex(0),
            stage: Stage::Waiting,
            hash: StateHash::default(),
            asked_at: now.instant,
            silent: 0,
        };
        fx.push(Effect::Note(format!(
            "{}: taking over the state of {index} from {giver}",
            self.id
        )));
        self.taker = Some(taker);
        self.take_on(now, host, fx);
    }

    /// As far as it goes: begin, stage the rows that are here, check, install.
    pub(in crate::store) fn take_on(&mut self, now: Now, host: &mut Host, fx: &mut Effects) {
        let Some(taker) = &mut self.taker else { return };
        match &taker.stage {
            Stage::Waiting => self.begin_pulling(now, host, fx),
            Stage::Pulling(_) => self.stage_rows(now, host, fx),
            Stage::Checking { waits: None, .. } => self.check_staged(now, host, fx),
            Stage::Committing => self.install_if_committed(now, host),
            Stage::Finishing | Stage::Checking { .. } | Stage::Installing => {}
        }
    }

    fn begin_pulling(&mut self, now: Now, host: &mut Host, fx: &mut Effects) {
        let flushed = host.storage.flushed(self.id);
        let mark = self.machine.mark(flushed);
        let Some(taker) = &mut self.taker else { return };
        // What the table holds durably is the base, if it is sound and older.
        let sound = !self.lost && !self.take_all && self.machine.is_loaded();
        let newer = flushed > LogIndex(0) && flushed < taker.index && flushed >= taker.offer.bare;
        let base = mark.filter(|_| sound && newer && !buggify!(AllRowsTaken));
        if base.is_some() {
            probe!(NewerRowsTaken);
        }
        let newer_than = if base.is_some() { flushed } else { LogIndex(0) };
        if !host.storage.begin_ingest(self.id, newer_than, (taker.index, taker.offer.bare), fx) {
            return;
        }
        taker.newer_than = newer_than;
        taker.hash = base.map_or(StateHash::default(), |(_, tree)| tree);
        taker.stage = Stage::Pulling(Pull {
            page: 0,
            from: Bytes::new(),
            rows: VecDeque::new(),
            ended: false,
            waits: None,
            pins: Vec::new(),
        });
        let full = newer_than == LogIndex(0);
        host.observer.note(self.id, || Observation::Takes { full });
        self.ask_pages(now, false, host, fx);
    }

    fn ask_pages(&mut self, now: Now, again: bool, host: &Host, fx: &mut Effects) {
        let Some(taker) = &mut self.taker else { return };
        let Stage::Pulling(pull) = &taker.stage else { return };
        taker.asked_at = now.instant;
        let want = SnapshotWant::Pages {
            snapshot: taker.offer.snapshot,
            newer_than: taker.newer_than,
            page: pull.page,
            from: pull.from.clone(),
            window: WINDOW,
            again,
        };
        let ask = SnapshotAsk { range: self.id, want };
        host.send(Endpoint::Store(taker.giver), Message::SnapshotAsk(ask), fx);
    }

    /// A page, or word that there is none.
    pub(in crate::store) fn on_snapshot_page(
        &mut self,
        now: Now,
        from: StoreId,
        page: SnapshotPage,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        match page.given {
            SnapshotGiven::State { index, term, membership, offer } => {
                let wanted = self.lost && self.taker.is_none() && offer.snapshot.store == from;
                // The log must go on from there.
                if wanted && index >= self.raft.base_index() && index > LogIndex(0) {
                    self.begin_taking(now, false, offer, (index, term, membership), host, fx);
                }
                Ok(())
            }
            SnapshotGiven::Gone { snapshot } => match &self.taker {
                Some(taker) if taker.offer.snapshot == snapshot && taker.waits_for_giver() => {
                    probe!(GiverGone);
                    self.give_up(now, "the giver does not hold it any more", host, fx)
                }
                _ => Ok(()),
            },
            SnapshotGiven::Rows { snapshot, page, from: first, to, checksum, rows } => {
                let Some(taker) = self.taker.as_mut().filter(|t| t.offer.snapshot == snapshot)
                else {
                    return Ok(());
                };
                let span = (taker.newer_than, taker.index);
                let Stage::Pulling(pull) = &mut taker.stage else { return Ok(()) };
                // A page that is early, doubled or beyond the window comes again when it is asked for.
                let room = pull.rows.len() < ROWS_PER_PAGE_MAX;
                if pull.ended || page != pull.page || first != pull.from || !room {
                    probe!(PageOutOfOrder);
                    return Ok(());
                }
                if buggify!(PageDropped, hot) {
                    return Ok(());
                }
                match rows_of((page, &first, to.as_ref()), span, checksum, &rows) {
                    Err(why) => return self.give_up(now, &why, host, fx),
                    Ok(rows) => pull.rows.extend(rows),
                }
                let was_empty = pull.rows.is_empty();
                pull.page += 1;
                match to {
                    Some(to) => pull.from = to,
                    None => pull.ended = true,
                }
                pull.ended |= planted!(SnapshotTailLost) && pull.page > 1;
                taker.silent = 0;
                self.stage_rows(now, host, fx);
                if was_empty && self.taker.as_ref().is_some_and(Taker::waits_for_giver) {
                    self.ask_pages(now, false, host, fx);
                }
                Ok(())
            }
        }
    }

    /// Put the rows that are here into the staging area.
    fn stage_rows(&mut self, now: Now, host: &mut Host, fx: &mut Effects) {
        let Some(taker) = &mut self.taker else { return };
        let Stage::Pulling(pull) = &mut taker.stage else { return };
        let mut failed = None;
        let had_rows = !pull.rows.is_empty();
        while let Some(row) = pull.rows.front()
            && pull.waits.is_none()
        {
            let counts = is_in_tree_hash(&row.key);
            let below = if counts && taker.newer_than > LogIndex(0) {
                match host.storage.row_below(&row.key) {
                    Ok(below) => below,
                    Err(miss) => {
                        pull.waits = Some(miss);
                        pull.pins.push(miss);
                        host.storage.fetch(miss, true, fx);
                        break;
                    }
                }
            } else {
                None
            };
            let (index, key, value) = (row.index, row.key.clone(), row.value.clone());
            match host.storage.ingest_row(index, key.clone(), value.clone(), fx) {
                Ingested::Taken => {}
                Ingested::Busy => break,
                Ingested::Full => {
                    failed = Some("the disk has no room for it");
                    break;
                }
            }
            if counts {
                if let Some(below) = below {
                    taker.hash.remove(&key, ValueHash::of(&below));
                }
                if let Some(value) = value {
                    taker.hash.insert(&key, ValueHash::of(&value));
                }
            }
            for miss in pull.pins.drain(..) {
                host.storage.release(miss);
            }
            pull.rows.pop_front();
        }
        if let Some(why) = failed {
            self.failed = Some(why.to_owned());
            return;
        }
        let done = pull.rows.is_empty();
        if done && pull.ended {
            taker.stage = Stage::Finishing;
            let want = SnapshotWant::Nothing { snapshot: taker.offer.snapshot };
            let (giver, ask) = (taker.giver, SnapshotAsk { range: self.id, want });
            host.send(Endpoint::Store(giver), Message::SnapshotAsk(ask), fx);
            host.storage.finish_ingest(fx);
        } else if done && had_rows {
            self.ask_pages(now, false, host, fx);
        }
    }

    /// Everything is durable: is it what was promised?
    pub(in crate::store) fn on_staged(&mut self, now: Now, host: &mut Host, fx: &mut Effects) {
        if let Some(taker) = &mut self.taker {
            taker.stage = Stage::Checking { waits: None, pins: Vec::new() };
            self.check_staged(now, host, fx);
        }
    }

    fn check_staged(&mut self, now: Now, host: &mut Host, fx: &mut Effects) {
        let Some(taker) = &mut self.taker else { return };
        let Stage::Checking { waits, pins } = &mut taker.stage else { return };
        let loaded = Range::load(self.id, &host.storage.staged_rows());
        let right = match loaded {
            Err(RowError::Miss(miss)) => {
                *waits = Some(miss);
                pins.push(miss);
                host.storage.fetch(miss, true, fx);
                return;
            }
            Err(RowError::Damaged(damaged)) => Err(damaged.to_string()),
            Ok(range) if range.applied() != taker.index => {
                Err(format!("it is the state of {}, not of {}", range.applied(), taker.index))
            }
            // The header says what the rows should add up to; the rows were added up as they came.
            Ok(range) if range.tree_hash() != taker.hash && !planted!(SnapshotTailLost) => {
                Err("its rows do not add up to its hash".to_owned())
            }
            Ok(range) if range.state_hash() != taker.offer.hash => {
                Err("its hash is not the one that was promised".to_owned())
            }
            Ok(_) => Ok(()),
        };
        for miss in taker.take_pins() {
            host.storage.release(miss);
        }
        match right {
            Ok(()) => {
                taker.stage = Stage::Committing;
                self.install_if_committed(now, host);
            }
            Err(why) => {
                // Whatever is wrong with the base, all rows do not need it.
                self.take_all = true;
                self.failed = Some(why);
            }
        }
    }

    fn install_if_committed(&mut self, now: Now, host: &mut Host) {
        let Some(taker) = &mut self.taker else { return };
        if !taker.by_consensus
            && host.takes_no_entries()
            && let Ok(membership) = Membership::from_bytes(&taker.membership)
        {
            // Nothing of the journal can be given up before the table is there again.
            let adopted = self.raft.adopt_snapshot(taker.index, taker.term, membership);
            taker.by_consensus = adopted;
        }
        let known = taker.by_consensus
            || (self.committed >= taker.index
                && self.raft.term_at(taker.index) == Some(taker.term));
        if known {
            taker.stage = Stage::Installing;
            let last = (taker.index, taker.term);
            let (index, membership) = (taker.index, taker.membership.clone());
            let replaces_log = taker.by_consensus;
            let ticket = host.storage.install(self.id, last, membership.clone(), replaces_log);
            host.observer.note(self.id, || Observation::Installing {
                index,
                membership,
                replaces_log,
            });
            self.install_after(now.instant, ticket);
        }
    }

    /// The state is in place, and durable. All that was to be durable before it is.
    pub(in crate::store) fn installed(
        &mut self,
        now: Now,
        durable: Durable,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let taker = self.taker.take().expect("an installation ends by itself");
        let index = taker.index;
        match taker.by_consensus {
            true => probe!(StateTaken),
            false => probe!(StateTakenWhenLost),
        }
        fx.push(Effect::Note(format!("{}: took over the state of {index}", self.id)));
        if let Some(range) = self.machine.range() {
            self.reads.restart(range.applied(), host);
        }
        self.machine.unpin(host);
        self.machine = Machine::new();
        self.giver.clear(host);
        self.commands.taken_over(self.id, index, host, fx);
        (self.lost, self.take_all) = (false, false);
        self.held = self.held.max(index);
        if taker.by_consensus {
            host.observer.note(self.id, || Observation::Installed { index });
            self.committed = self.committed.max(index);
            self.consensus(now, host, fx, |raft, out| {
                raft.snapshot_installed(now.instant, durable, out);
            })?;
        } else {
            // The journal says that the log begins here; so does consensus from now on.
            self.raft.applied(index);
            self.raft.compacted(index);
        }
        self.load(now, host, fx)
    }

    /// It cannot be taken: the old state stays, and another one is asked for.
    pub(in crate::store) fn give_up(
        &mut self,
        now: Now,
        why: &str,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        self.put_away(now, why, false, host, fx)
    }

    /// The same, but the next one would fare no better now: it is asked for an election timeout later.
    pub(in crate::store) fn give_up_for_now(
        &mut self,
        now: Now,
        why: &str,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        self.put_away(now, why, true, host, fx)
    }

    fn put_away(
        &mut self,
        now: Now,
        why: &str,
        later: bool,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let Some(mut taker) = self.taker.take_if(|taker| !taker.is_installing()) else {
            return Ok(());
        };
        probe!(StateGivenUp);
        self.clear_away(&mut taker, host, fx);
        let (giver, index) = (taker.giver, taker.index);
        fx.push(Effect::Note(format!(
            "{}: the state of {index} was not taken over from {giver}: {why}",
            self.id
        )));
        let want = SnapshotWant::Nothing { snapshot: taker.offer.snapshot };
        let ask = SnapshotAsk { range: self.id, want };
        host.send(Endpoint::Store(giver), Message::SnapshotAsk(ask), fx);
        if !taker.by_consensus {
            return Ok(());
        }
        if later {
            self.refuse_at = Some(now.instant + self.election);
            return Ok(());
        }
        self.refuse_install(now, host, fx)
    }

    fn clear_away(&self, taker: &mut Taker, host: &mut Host, fx: &mut Effects) {
        for miss in taker.take_pins() {
            host.storage.release(miss);
        }
        if !matches!(taker.stage, Stage::Waiting) && host.storage.is_ingesting(self.id) {
            host.storage.abort_ingest(fx);
        }
    }

    /// The replica is given up, and with it what it takes.
    pub(in crate::store) fn drop_taker(&mut self, host: &mut Host, fx: &mut Effects) {
        if let Some(mut taker) = self.taker.take_if(|taker| !taker.is_installing()) {
            self.clear_away(&mut taker, host, fx);
        }
    }

    /// What went wrong in the middle of something is dealt with at the end of it.
    pub(in crate::store) fn deal_with_failure(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        match self.failed.take() {
            Some(why) => self.give_up_for_now(now, &why, host, fx),
            None => Ok(()),
        }
    }

    /// A block came.
    pub(in crate::store) fn taker_fetched(&mut self, miss: Miss) {
        if let Some(taker) = &mut self.taker {
            taker.fetched(miss);
        }
    }

    /// The giver is reachable again.
    pub(in crate::store) fn taker_link_up(
        &mut self,
        now: Now,
        peer: StoreId,
        host: &Host,
        fx: &mut Effects,
    ) {
        let waits = |taker: &Taker| taker.giver == peer && taker.waits_for_giver();
        if self.taker.as_ref().is_some_and(waits) {
            self.ask_pages(now, true, host, fx);
        }
    }

    /// Ask again what was not answered.
    pub(in crate::store) fn taker_deadline(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let election = self.election;
        if self.refuse_at.take_if(|at| *at <= now.instant).is_some() {
            return self.refuse_install(now, host, fx);
        }
        if let Some(taker) = &mut self.taker {
            if !taker.waits_for_giver() || taker.asked_at + election > now.instant {
                return Ok(());
            }
            probe!(GiverSilent);
            taker.silent += 1;
            if taker.silent > SILENT_MAX {
                return self.give_up(now, "the giver does not answer", host, fx);
            }
            self.ask_pages(now, true, host, fx);
        } else if self.lost && self.asked_at + election <= now.instant {
            self.ask_for_state(now, host, fx);
        }
        Ok(())
    }

    /// The table is lost, and the log does not reach back to rebuild it.
    pub(in crate::store) fn ask_for_state(&mut self, now: Now, host: &Host, fx: &mut Effects) {
        self.asked_at = now.instant;
        let own = host.config.store;
        let leader = self.raft.leader().filter(|leader| *leader != own);
        let others: Vec<StoreId> = self.peers(own);
        self.asked += 1;
        let turn = usize::try_from(self.asked).unwrap_or(0);
        let other = others.get(turn.checked_rem(others.len()).unwrap_or(0)).copied();
        // The leader has the newest state; but it may be the very one that cannot give it.
        let whom = if self.asked % 2 == 1 { leader.or(other) } else { other };
        if let Some(whom) = whom {
            let want = SnapshotWant::State { at_least: self.raft.base_index() };
            let ask = SnapshotAsk { range: self.id, want };
            host.send(Endpoint::Store(whom), Message::SnapshotAsk(ask), fx);
        }
    }

    pub(in crate::store) fn taker_next_deadline(&self) -> Option<Deadline> {
        let election = self.election;
        match &self.taker {
            Some(taker) if taker.waits_for_giver() => {
                Some(Deadline { at: taker.asked_at + election, reason: "a page was not answered" })
            }
            None if self.refuse_at.is_some() => {
                self.refuse_at.map(|at| Deadline { at, reason: "another state may be tried" })
            }
            None if self.lost => {
                Some(Deadline { at: self.asked_at + election, reason: "the state is lost" })
            }
            _ => None,
        }
    }
}
