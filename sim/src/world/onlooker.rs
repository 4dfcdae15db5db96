//! Feeds the ghost with what the stores of a world do, at every step.
//!
//! Stores report plain facts ([`Observation`]); the onlooker believes them only as far as it has to:
//! - that a write is durable counts only if the disk proves it possible: a write to the journal that
//!   began when the fact was known had ended when a sync began, and that sync has ended;
//! - after a crash, what recovery reports must be all that was durable and the first part of what
//!   else was written, in order; only a replica that calls its log suspect may lack something;
//! - each vote and each acknowledgement that leaves on the network must have been said at a moment
//!   when the ghost agreed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use trine_core::cluster::Geometry;
use trine_core::codec::Wire;
use trine_core::consensus::{Membership, Message, MessageBody};
use trine_core::disk::DiskOp;
use trine_core::ids::{DiskToken, LogIndex, RangeId, StoreId, Term};
use trine_core::message::Message as Carried;
use trine_core::storage::layout;
use trine_core::store::{Observation, needs_durable_state};

use crate::consensus::ghost::{Broken, Config, Ghost, Seen};
use crate::consensus::plain::{PlainState, config, plain, says, seen, wrote};

/// Looks on in a world.
#[derive(Debug)]
pub(super) struct Onlooker {
    voters: usize,
    ghosts: BTreeMap<RangeId, Ghost>,
    stores: Vec<Watched>,
}

/// What is known of a store beside its ghosts.
#[derive(Debug, Default)]
struct Watched {
    /// Who it is, for the ghosts.
    replica: u64,
    /// It has, or had on this disk, a replica of some range.
    takes_part: bool,
    /// Ranges whose logs here were suspect, and that nobody has vouched for since.
    suspicious: BTreeSet<RangeId>,
    /// Writes that are not known to be durable, oldest first, by range.
    pending: BTreeMap<RangeId, VecDeque<Pending>>,
    disk: Proof,
    /// Its disk is an old one, and it does not know that yet.
    set_back: bool,
    /// Votes and acknowledgements of this step that have not left yet.
    said: Vec<Message>,
}

#[derive(Debug)]
struct Pending {
    seq: u64,
    /// Its place among all facts of the store.
    fact: u64,
    records: Vec<Record>,
}

/// What the journal keeps or loses as a whole.
#[derive(Clone, Debug)]
enum Record {
    HardState(PlainState),
    Entry(u64, Seen),
    /// The state after an entry, with the configuration there, in place of the log.
    Installed(u64, Config),
}

/// Stands for the number of a write where a state is installed.
const INSTALLATION: u64 = u64::MAX;

/// What can be durable at all, as the disk shows it. Facts are counted; each value is a count.
#[derive(Debug, Default)]
struct Proof {
    /// Facts so far.
    facts: u64,
    /// Writes to the journal in flight: the facts that they may contain.
    writes: BTreeMap<DiskToken, u64>,
    /// Facts that completed writes may contain.
    written: u64,
    /// Syncs in flight: the facts that they may make durable.
    syncs: BTreeMap<DiskToken, u64>,
    /// Facts that may be durable.
    durable: u64,
}

impl Proof {
    /// The store starts an effect. To be told after the facts of the same step.
    fn started(&mut self, token: DiskToken, op: &DiskOp, geometry: &Geometry) {
        let journal = layout::JOURNAL_START..layout::segments_start(geometry);
        match op {
            DiskOp::Write { offset, .. } if journal.contains(offset) => {
                self.writes.insert(token, self.facts);
            }
            DiskOp::Sync => {
                self.syncs.insert(token, self.written);
            }
            DiskOp::Write { .. } | DiskOp::Read { .. } | DiskOp::Trim { .. } => {}
        }
    }

    fn finished(&mut self, token: DiskToken, well: bool) {
        if let Some(facts) = self.writes.remove(&token)
            && well
        {
            self.written = self.written.max(facts);
        }
        if let Some(facts) = self.syncs.remove(&token)
            && well
        {
            self.durable = self.durable.max(facts);
        }
    }

    /// A new life begins with what recovery found, all of it durable.
    fn begin_again(&mut self) {
        *self =
            Self { facts: self.facts, written: self.facts, durable: self.facts, ..Self::default() };
    }
}

impl Onlooker {
    /// One that has seen nothing. `voters` replicas in each range, on the first of `stores` stores.
    pub(super) fn new(voters: usize, stores: usize) -> Self {
        let stores = (1..=stores)
            .map(|replica| Watched { replica: replica as u64, ..Watched::default() })
            .collect();
        Self { voters, ghosts: BTreeMap::new(), stores }
    }

    /// What a store did in a step, in order. Its effects are told after that.
    ///
    /// # Errors
    /// The broken promise.
    pub(super) fn step(
        &mut self,
        store: usize,
        facts: Vec<(RangeId, Observation)>,
    ) -> Result<(), Broken> {
        self.stores[store].said.clear();
        self.stores[store].takes_part |= !facts.is_empty();
        for (range, fact) in facts {
            let voters = self.voters;
            let ghost = self.ghosts.entry(range).or_insert_with(|| Ghost::new(voters));
            let replica = self.stores[store].replica;
            self.stores[store].fact(ghost, replica, range, fact)?;
        }
        Ok(())
    }

    /// A store shows what its replica of `range` has applied. With an old disk that it does not distrust yet, that
    /// counts no more than what it says.
    ///
    /// # Errors
    /// The broken promise.
    pub(super) fn applies(&self, store: usize, range: u64, index: u64) -> Result<(), Broken> {
        let ghost = self.ghosts.get(&RangeId(range)).filter(|_| !self.stores[store].set_back);
        ghost.map_or(Ok(()), |ghost| ghost.applies(self.stores[store].replica, index))
    }

    /// A store starts a disk effect.
    pub(super) fn disk_started(
        &mut self,
        store: usize,
        token: DiskToken,
        op: &DiskOp,
        geometry: &Geometry,
    ) {
        self.stores[store].disk.started(token, op, geometry);
    }

    /// A disk effect of a store has ended.
    pub(super) fn disk_finished(&mut self, store: usize, token: DiskToken, well: bool) {
        self.stores[store].disk.finished(token, well);
    }

    /// A store is gone: what it had not written is lost.
    pub(super) fn crashed(&mut self, store: usize) {
        let watched = &mut self.stores[store];
        watched.disk.writes.clear();
        watched.disk.syncs.clear();
        watched.said.clear();
    }

    /// The disk of a store, which is down, is empty: unless all others are as blank, it must come back
    /// with a suspect log.
    pub(super) fn emptied(&mut self, store: usize) {
        let watched = &mut self.stores[store];
        watched.pending.clear();
        watched.suspicious.clear();
        watched.takes_part = false;
        for ghost in self.ghosts.values_mut() {
            ghost.emptied(watched.replica);
        }
    }

    /// Whether some store but this one knows of a cluster.
    pub(super) fn has_begun_beside(&self, store: usize) -> bool {
        (0..).zip(&self.stores).any(|(at, watched)| at != store && watched.takes_part)
    }

    /// The disk of a store, which is down, is an old one. What it does before it distrusts its disk is not believed by
    /// its peers, and not by the ghost.
    pub(super) fn set_back(&mut self, store: usize) {
        self.stores[store].set_back = true;
        self.stores[store].pending.clear();
    }

    /// Whether a store has something durable of a range, and no reason yet to distrust it.
    pub(super) fn may_trust(&self, store: usize, range: RangeId) -> bool {
        let watched = &self.stores[store];
        let ghost = self.ghosts.get(&range);
        !watched.suspicious.contains(&range)
            && ghost.is_some_and(|it| it.has_anything(watched.replica))
    }

    /// Whether a store knows of a cluster.
    pub(super) fn takes_part(&self, store: usize) -> bool {
        self.stores[store].takes_part
    }

    /// The terms of the first `count` entries of a range, if all of them are committed.
    pub(super) fn committed_terms(&self, range: RangeId, count: u64) -> Option<Vec<u64>> {
        self.ghosts.get(&range)?.committed_terms(count)
    }

    /// Another store has taken the place of `store`, and knows nothing yet.
    pub(super) fn replaced(&mut self, store: usize, by: StoreId) {
        self.stores[store] = Watched { replica: by.0, ..Watched::default() };
    }

    /// A message leaves a store.
    ///
    /// # Errors
    /// The broken promise.
    pub(super) fn sends(&mut self, store: usize, carried: &Carried) -> Result<(), Broken> {
        let Carried::Consensus { messages, .. } = carried else { return Ok(()) };
        if self.stores[store].set_back {
            return Ok(());
        }
        let said = &mut self.stores[store].said;
        for (_, message) in messages.iter().filter(|(_, message)| needs_durable_state(message)) {
            match said.iter().position(|one| one == message) {
                Some(at) => drop(said.swap_remove(at)),
                None => return Err(format!("store {store} sends {message:?} unseen")),
            }
        }
        Ok(())
    }
}

impl Watched {
    fn fact(
        &mut self,
        ghost: &mut Ghost,
        replica: u64,
        range: RangeId,
        fact: Observation,
    ) -> Result<(), Broken> {
        if self.set_back {
            let Observation::Recovered { suspect: true, .. } = &fact else { return Ok(()) };
            self.set_back = false;
        }
        match fact {
            Observation::Recovered { hard_state, base, terms, last_index, suspect } => {
                let pending = self.pending.remove(&range).unwrap_or_default();
                self.disk.begin_again();
                // Who has never had anything durable has forgotten nothing: its first voters have told by now that the
                // group began with this very disk.
                if !suspect && !ghost.has_anything(replica) {
                    self.suspicious.remove(&range);
                }
                if !suspect && self.suspicious.contains(&range) {
                    return Err(format!(
                        "suspicion: {replica} trusts a log that nobody vouched for"
                    ));
                }
                if suspect {
                    self.suspicious.insert(range);
                }
                // What a snapshot covers is committed, and stands for the entries.
                let Some(mut all) = ghost.committed_terms(base.0) else {
                    return Err(format!("{replica} has a snapshot of uncommitted {base}"));
                };
                all.extend(spread(&terms, base, last_index));
                recovered(ghost, replica, plain(hard_state), &all, suspect, pending)
            }
            Observation::Wrote { seq, hard_state, entries } => {
                self.disk.facts += 1;
                wrote(ghost, replica, hard_state, &entries)?;
                let hard_state = hard_state.map(plain);
                let entries: Vec<_> = entries.iter().map(seen).collect();
                let mut records: Vec<_> = hard_state.map(Record::HardState).into_iter().collect();
                records.extend(entries.iter().map(|(index, seen)| Record::Entry(*index, *seen)));
                let fact = self.disk.facts;
                self.pending.entry(range).or_default().push_back(Pending { seq, fact, records });
                Ok(())
            }
            Observation::Durable { seq } => {
                let pending = self.pending.entry(range).or_default();
                while let Some(done) = pending.pop_front_if(|pending| pending.seq <= seq) {
                    if !done.records.is_empty() && done.fact > self.disk.durable {
                        return Err(format!(
                            "durable: {replica} takes its write {} for durable, but no sync of its \
                             disk has covered it",
                            done.seq
                        ));
                    }
                    harden(ghost, replica, &done.records)?;
                }
                Ok(())
            }
            Observation::Takes { .. } => Ok(()),
            Observation::Installing { index, membership, replaces_log } => {
                self.disk.facts += 1;
                let membership = Membership::from_bytes(&membership).map_err(|error| {
                    format!("{replica} installs a membership that is none: {error}")
                })?;
                if replaces_log {
                    let (fact, seq) = (self.disk.facts, INSTALLATION);
                    let records = vec![Record::Installed(index.0, config(&membership))];
                    let pending = self.pending.entry(range).or_default();
                    pending.push_back(Pending { seq, fact, records });
                }
                Ok(())
            }
            Observation::Installed { index } => {
                let pending = self.pending.entry(range).or_default();
                let done = pending.pop_front_if(|pending| pending.seq == INSTALLATION);
                let Some(done) = done else {
                    return Err(format!("{replica} says that {index} is installed, out of turn"));
                };
                if done.fact > self.disk.durable {
                    return Err(format!(
                        "durable: {replica} takes the state of {index} for installed, but no sync of \
                         its disk has covered that"
                    ));
                }
                harden(ghost, replica, &done.records)
            }
            Observation::Leads { term } => ghost.leads(replica, term.0),
            Observation::Commits { term, index } => ghost.commits(replica, term.0, index.0),
            Observation::Says(message) => {
                if self.suspicious.contains(&range) && is_of_the_trusted(&message) {
                    return Err(format!(
                        "suspicion: {replica} distrusts its log, and sends {message:?}"
                    ));
                }
                says(ghost, replica, &message)?;
                self.said.push(message);
                Ok(())
            }
            Observation::ReadAsked { token } => {
                ghost.read_asked(replica, token);
                Ok(())
            }
            Observation::ReadReady { token, index } => ghost.read_ready(replica, token, index.0),
            // The auditor's.
            Observation::Applied { .. }
            | Observation::Freed { .. }
            | Observation::FreedCopy { .. }
            | Observation::Kept { .. } => Ok(()),
            Observation::Begins { hard_state } if !self.suspicious.contains(&range) => {
                ghost.begins(replica, plain(hard_state))
            }
            Observation::Begins { .. } => Ok(()),
            Observation::Trusted => {
                self.suspicious.remove(&range);
                Ok(())
            }
            Observation::ReadLost { token } => ghost.read_lost(replica, token),
        }
    }
}

/// Whether only a replica that trusts its log may say this.
fn is_of_the_trusted(message: &Message) -> bool {
    matches!(
        message.body,
        MessageBody::Vote { .. }
            | MessageBody::VoteReply { granted: true }
            | MessageBody::AppendAccepted { suspect: 0, .. }
    )
}

/// A replica begins with `terms` as its log. It must be what was durable, with the first part of
/// what was `pending`.
fn recovered(
    ghost: &mut Ghost,
    replica: u64,
    hard_state: PlainState,
    terms: &[u64],
    suspect: bool,
    pending: VecDeque<Pending>,
) -> Result<(), Broken> {
    let mut tried = ghost.clone();
    let mut records = pending.iter().flat_map(|pending| &pending.records);
    while !tried.holds(replica, hard_state, terms) {
        match records.next() {
            Some(record) => harden(&mut tried, replica, core::slice::from_ref(record))?,
            None if suspect => return ghost.salvaged(replica, hard_state, terms),
            None => {
                return Err(format!(
                    "durable state: after a crash that damaged nothing, {replica} begins with \
                     {hard_state:?} and {} entries, which is not what it had written; {}",
                    terms.len(),
                    ghost.shows(replica)
                ));
            }
        }
    }
    *ghost = tried;
    ghost.recovered(replica, hard_state, terms.len() as u64, false)
}

fn harden(ghost: &mut Ghost, replica: u64, records: &[Record]) -> Result<(), Broken> {
    for record in records {
        match record {
            Record::HardState(state) => ghost.durable(replica, Some(*state), &[]),
            Record::Entry(index, seen) => ghost.durable(replica, None, &[(*index, *seen)]),
            Record::Installed(index, config) => ghost.installed(replica, *index, config)?,
        }
    }
    Ok(())
}

/// The term of each entry behind `base`.
fn spread(runs: &[(LogIndex, Term)], base: LogIndex, last_index: LogIndex) -> Vec<u64> {
    let mut terms = Vec::new();
    let mut runs = runs.iter().peekable();
    let mut term = 0;
    for index in base.0 + 1..=last_index.0 {
        if let Some((_, next)) = runs.next_if(|(first, _)| first.0 == index) {
            term = next.0;
        }
        terms.push(term);
    }
    terms
}

#[cfg(test)]
mod tests {
    use super::*;
    use trine_core::consensus::HardState;

    const RANGE: RangeId = RangeId(1);
    const VOTED: HardState = HardState { term: Term(1), vote: Some(StoreId(1)) };

    fn wrote(seq: u64) -> Observation {
        Observation::Wrote { seq, hard_state: Some(VOTED), entries: Vec::new() }
    }

    fn recovered_as(hard_state: HardState) -> Observation {
        let last_index = LogIndex(0);
        let base = LogIndex(0);
        Observation::Recovered { hard_state, base, terms: Vec::new(), last_index, suspect: false }
    }

    /// Store 0 has written its vote, and what its disk did with it is durable.
    fn voted() -> Onlooker {
        let mut onlooker = Onlooker::new(3, 3);
        onlooker.step(0, vec![(RANGE, wrote(1))]).unwrap();
        let (offset, parts) = (layout::JOURNAL_START, Vec::new());
        let write = DiskOp::Write { offset, parts };
        onlooker.disk_started(0, DiskToken(1), &write, &Geometry::SIMULATION);
        onlooker.disk_finished(0, DiskToken(1), true);
        onlooker.disk_started(0, DiskToken(2), &DiskOp::Sync, &Geometry::SIMULATION);
        onlooker.disk_finished(0, DiskToken(2), true);
        onlooker
    }

    #[test]
    fn a_write_is_durable_only_after_a_sync_that_covers_it() {
        let durable = |seq| vec![(RANGE, Observation::Durable { seq })];
        let mut onlooker = voted();
        onlooker.step(0, durable(1)).unwrap();
        onlooker.step(0, vec![(RANGE, wrote(2))]).unwrap();
        let said = onlooker.step(0, durable(2)).expect_err("no sync came after write 2");
        assert!(said.contains("no sync"), "{said}");
    }

    #[test]
    fn recovery_may_find_more_than_was_durable_but_not_less() {
        let mut onlooker = voted();
        onlooker.crashed(0);
        onlooker.step(0, vec![(RANGE, recovered_as(VOTED))]).unwrap();
        onlooker.crashed(0);
        let said = onlooker.step(0, vec![(RANGE, recovered_as(HardState::default()))]);
        let said = said.expect_err("the vote was found once");
        assert!(said.contains("durable state"), "{said}");
    }
}
