//! Range calls: who asked for what, and where the answer goes.
//!
//! A command waits in a queue until few enough entries are in flight, so that commands that come
//! together share an entry, a journal frame and a sync. A command that is asked for again while it
//! is queued or proposed joins the one that is there; one that was applied is answered from its
//! session's outcomes.

use std::collections::BTreeMap;

use super::reads::ReadCall;
use super::replica::Replica;
use super::serving::Host;
use crate::codec::Wire;
use crate::consensus::{Entry, Output, ProposeError};
use crate::disk::Room;
use crate::effects::{Effects, Now};
use crate::ids::{
    CallId, CommitSequence, Endpoint, GatewayId, LogIndex, RangeId, SessionId, StoreId, Term,
};
use crate::level::{self, Level};
use crate::message::{Answer, Ask, Message, RangeAnswer, RangeCall, Refusal};
use crate::range::Range;
use crate::range::command::{Batch, Command, CommandBody, Origin, Outcome, Spoken};
use crate::time::WallTime;

/// Entries proposed and not applied; more commands wait and share the next entry.
const ENTRIES_IN_FLIGHT_MAX: usize = 4;
/// Commands of one entry. Their rows are held in memory together while the entry is applied.
const BATCH_COMMANDS_MAX: usize = 64;
/// Bytes of one entry's commands, but for a single larger command.
const BATCH_BYTES_MAX: u64 = 1 << 20;

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    /// Who handed us the call: the gateway, or the replica that passed it on.
    pub(super) from: Endpoint,
    pub(super) call: CallId,
    pub(super) origin: GatewayId,
}

impl Waiter {
    pub(super) fn answer(
        self,
        range: RangeId,
        result: Result<Answer, Refusal>,
        host: &Host,
        fx: &mut Effects,
    ) {
        let (call, origin, by) = (self.call, self.origin, host.config.store);
        let answer = RangeAnswer { call, origin, range, by, result };
        host.send(self.from, Message::RangeAnswer(answer), fx);
    }
}

/// Commands in hand.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// Not proposed yet, in order of arrival.
    queue: Vec<Waiting>,
    /// Bytes of these.
    queue_bytes: u64,
    /// Proposed, by the entry that should hold them.
    proposed: BTreeMap<LogIndex, Proposed>,
    /// Where the commands of sessions are, so that a retry finds them.
    places: BTreeMap<CommandName, Place>,
}

/// A session's command; the same name is the same command, asked for again.
type CommandName = (SessionId, CommitSequence);

#[derive(Debug)]
struct Waiting {
    command: Command,
    waiters: Vec<Waiter>,
}

#[derive(Debug)]
struct Proposed {
    term: Term,
    /// In the entry's order, each with its name, if it has one, and who waits for it.
    commands: Vec<(Option<CommandName>, Vec<Waiter>)>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Queued,
    Proposed { index: LogIndex, position: usize },
}

/// Waiters of one command; a retry beyond that is dropped, its first asking will be answered.
const WAITERS_MAX: usize = 8;

impl Commands {
    /// Commands in hand.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.proposed.values().map(|p| p.commands.len()).sum::<usize>()
    }

    /// Queue a command that the replica itself wants done.
    pub(super) fn queue_system(&mut self, body: CommandBody) {
        let command = Command { origin: Origin::System, body };
        self.push(Waiting { command, waiters: Vec::new() });
    }

    fn push(&mut self, waiting: Waiting) {
        self.queue_bytes += weight(&waiting.command);
        self.queue.push(waiting);
    }

    /// Bytes of commands that wait to be proposed.
    pub(super) fn queue_bytes(&self) -> u64 {
        self.queue_bytes
    }

    fn queue(&mut self, command: Command, waiter: Waiter) {
        let Some(name) = session_name(&command) else {
            return self.push(Waiting { command, waiters: vec![waiter] });
        };
        let waiters = match self.places.get(&name) {
            None => {
                self.places.insert(name, Place::Queued);
                return self.push(Waiting { command, waiters: vec![waiter] });
            }
            Some(Place::Queued) => self
                .queue
                .iter_mut()
                .find(|waiting| session_name(&waiting.command) == Some(name))
                .map(|waiting| &mut waiting.waiters),
            Some(Place::Proposed { index, position }) => self
                .proposed
                .get_mut(index)
                .and_then(|proposed| proposed.commands.get_mut(*position))
                .map(|(_, waiters)| waiters),
        };
        probe!(CommandJoined);
        let waiters = waiters.expect("a command is where its place says");
        if waiters.len() < WAITERS_MAX {
            waiters.push(waiter);
        }
    }

    /// An entry was applied: answer who waits for its commands.
    pub(super) fn applied(
        &mut self,
        range: RangeId,
        entry: &Entry,
        outcomes: Vec<Outcome>,
        host: &Host,
        fx: &mut Effects,
    ) {
        let Some(proposed) = self.proposed.remove(&entry.index) else { return };
        let ours = proposed.term == entry.term || planted!(OutcomeOfAnotherTerm);
        assert!(!ours || proposed.commands.len() == outcomes.len(), "one outcome for each command");
        let mut outcomes = outcomes.into_iter();
        for (name, waiters) in proposed.commands {
            if let Some(name) = name {
                self.places.remove(&name);
            }
            let outcome = if ours { outcomes.next() } else { None };
            let result = outcome.map(Answer::Applied).ok_or(Refusal::Interrupted);
            for waiter in waiters {
                waiter.answer(range, result.clone(), host, fx);
            }
        }
    }

    /// A state was taken over that covers the entries up to `through`. Those that were not applied here never
    /// will be: what came of their commands is in that state, for those who ask again.
    pub(super) fn taken_over(
        &mut self,
        range: RangeId,
        through: LogIndex,
        host: &Host,
        fx: &mut Effects,
    ) {
        let left = self.proposed.split_off(&through.next());
        for proposed in core::mem::replace(&mut self.proposed, left).into_values() {
            for (name, waiters) in proposed.commands {
                if let Some(name) = name {
                    self.places.remove(&name);
                }
                for waiter in waiters {
                    waiter.answer(range, Err(Refusal::Interrupted), host, fx);
                }
            }
        }
    }

    /// We do not lead any more: what was not proposed is refused, what was may take effect or not.
    pub(super) fn lose_leadership(
        &mut self,
        range: RangeId,
        leader: Option<StoreId>,
        host: &Host,
        fx: &mut Effects,
    ) {
        match planted!(OutcomeOfAnotherTerm) {
            false => self.places.clear(),
            true => self.places.retain(|_, place| matches!(place, Place::Proposed { .. })),
        }
        self.queue_bytes = 0;
        for waiting in core::mem::take(&mut self.queue) {
            for waiter in waiting.waiters {
                waiter.answer(range, Err(Refusal::NotLeader { leader }), host, fx);
            }
        }
        if planted!(OutcomeOfAnotherTerm) {
            return;
        }
        for proposed in core::mem::take(&mut self.proposed).into_values() {
            for waiter in proposed.commands.into_iter().flat_map(|(_, waiters)| waiters) {
                waiter.answer(range, Err(Refusal::Interrupted), host, fx);
            }
        }
    }

    /// The journal or the disk has become full: what was not proposed and finds no room any more is
    /// refused.
    fn refuse_what_has_no_room(
        &mut self,
        range: RangeId,
        refusal: &Refusal,
        host: &Host,
        fx: &mut Effects,
    ) {
        let room = host.room();
        let queue = core::mem::take(&mut self.queue);
        let (kept, refused) =
            queue.into_iter().partition(|waiting| room_wanted(&waiting.command) <= room);
        self.queue = kept;
        for Waiting { command, waiters } in refused {
            probe!(CommandRefusedFull);
            self.queue_bytes -= weight(&command);
            if let Some(name) = session_name(&command) {
                self.places.remove(&name);
            }
            for waiter in waiters {
                waiter.answer(range, Err(refusal.clone()), host, fx);
            }
        }
    }

    /// The next batch to propose, if one may be.
    fn next_batch(&mut self, clock: WallTime) -> Option<(Batch, Vec<Vec<Waiter>>)> {
        if self.queue.is_empty() || self.proposed.len() >= ENTRIES_IN_FLIGHT_MAX {
            return None;
        }
        if buggify!(BatchWaits) {
            return None;
        }
        let mut bytes = 0;
        let fits = |waiting: &&Waiting| {
            bytes += weight(&waiting.command);
            bytes <= BATCH_BYTES_MAX
        };
        let most = if buggify!(SmallBatch) { 1 } else { BATCH_COMMANDS_MAX };
        let count = self.queue.iter().take(most).take_while(fits).count().max(1);
        let taken = self.queue.drain(..count);
        self.queue_bytes -=
            taken.as_slice().iter().map(|waiting| weight(&waiting.command)).sum::<u64>();
        let (commands, waiters) = taken.map(|waiting| (waiting.command, waiting.waiters)).unzip();
        Some((Batch { clock, commands }, waiters))
    }

    fn was_proposed(
        &mut self,
        index: LogIndex,
        term: Term,
        batch: Batch,
        waiters: Vec<Vec<Waiter>>,
    ) {
        let names = batch.commands.iter().map(session_name);
        let commands: Vec<_> = names.zip(waiters).collect();
        for (position, (name, _)) in commands.iter().enumerate() {
            if let Some(name) = name {
                self.places.insert(*name, Place::Proposed { index, position });
            }
        }
        self.proposed.insert(index, Proposed { term, commands });
    }

    /// A batch could not be proposed: it goes back to the front of the queue.
    fn put_back(&mut self, batch: Batch, waiters: Vec<Vec<Waiter>>) {
        self.queue_bytes += batch.commands.iter().map(weight).sum::<u64>();
        let commands = batch.commands.into_iter().zip(waiters);
        let back = commands.map(|(command, waiters)| Waiting { command, waiters });
        self.queue.splice(..0, back);
    }

    pub(super) fn check(&self) {
        assert!(self.proposed.len() <= ENTRIES_IN_FLIGHT_MAX);
        let queued = self.queue.iter().filter_map(|waiting| session_name(&waiting.command));
        let proposed = self.proposed.values().flat_map(|p| &p.commands).filter_map(|c| c.0);
        assert_eq!(queued.count() + proposed.count(), self.places.len());
        let bytes = self.queue.iter().map(|waiting| weight(&waiting.command));
        assert_eq!(bytes.sum::<u64>(), self.queue_bytes, "the queue's bytes are counted right");
    }
}

/// What a session calls its command.
fn session_name(command: &Command) -> Option<CommandName> {
    match command.origin {
        Origin::System => None,
        Origin::Session { session, sequence, .. } => Some((session, sequence)),
    }
}

/// What room a command wants. Without sessions and the map nothing could be read any more, and a full
/// store could not be replaced; without deletes no space would ever come back. To complete an upload
/// brings no data: it is there.
fn room_wanted(command: &Command) -> Room {
    match command.body {
        CommandBody::OpenSession { .. }
        | CommandBody::FenceSession { .. }
        | CommandBody::ForgetGarbage { .. }
        | CommandBody::FoundCluster { .. }
        | CommandBody::ReplaceStore { .. }
        | CommandBody::AddStore { .. }
        | CommandBody::SetWeight { .. }
        | CommandBody::SetNode { .. }
        | CommandBody::OpenSpeaking { .. }
        | CommandBody::RaiseLevel { .. }
        | CommandBody::ProveMap { .. } => Room::Housekeeping,
        CommandBody::DeleteBucket { .. }
        | CommandBody::DeleteObject { .. }
        | CommandBody::CompleteUpload { .. }
        | CommandBody::AbortUpload { .. } => Room::Deletes,
        CommandBody::CreateBucket { .. }
        | CommandBody::PutObject { .. }
        | CommandBody::CopyObject { .. }
        | CommandBody::ChangeObject { .. }
        | CommandBody::CreateUpload { .. }
        | CommandBody::PutPart { .. }
        | CommandBody::CopyPart { .. } => Room::Data,
    }
}

/// What a beat is answered with.
pub(super) fn beat_answer(live: bool, range: &Range) -> Answer {
    Answer::Beat { live, map: range.map_epoch(), applied: range.applied() }
}

/// About how many bytes a command takes in an entry.
fn weight(command: &Command) -> u64 {
    command.body.weight()
}

impl Replica {
    /// A gateway asks, or a replica passes its call on.
    pub(super) fn on_call(
        &mut self,
        now: Now,
        from: Endpoint,
        mut call: RangeCall,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let waiter = Waiter { from, call: call.call, origin: call.origin };
        if call.epoch != self.epoch {
            let refusal = Refusal::StaleEpoch { current: self.epoch };
            waiter.answer(self.id, Err(refusal), host, fx);
            return Ok(());
        }
        if !self.leads() {
            let leader = self.raft.leader();
            match leader {
                Some(leader) if !call.forwarded => {
                    probe!(CallForwarded);
                    call.forwarded = true;
                    host.send(Endpoint::Store(leader), Message::RangeCall(call), fx);
                }
                _ => waiter.answer(self.id, Err(Refusal::NotLeader { leader }), host, fx),
            }
            return Ok(());
        }
        // Also if the call is refused below: its session is not silent.
        self.fencing.heard_from(now.instant, call.session);
        let busy = self.commands.len() + self.reads.len() >= host.config.limits.calls_max;
        if busy || buggify!(CallRefused, hot) {
            waiter.answer(self.id, Err(Refusal::Overloaded), host, fx);
            return Ok(());
        }
        match call.ask {
            Ask::Command(command) => self.on_command(now, waiter, *command, host, fx),
            Ask::Read(read) => {
                let read = ReadCall::new(waiter, call.session, Some(read));
                self.ask_read(now, read, host, fx)?;
            }
            Ask::Beat(report) => {
                self.reports.heard(call.session, *report);
                match self.machine.range() {
                    Some(range) if range.session_live(call.session) => {
                        let answer = beat_answer(true, range);
                        waiter.answer(self.id, Ok(answer), host, fx);
                    }
                    // It may have been opened by an entry that is not applied here yet.
                    _ => {
                        let read = ReadCall::new(waiter, call.session, None);
                        self.ask_read(now, read, host, fx)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn on_command(
        &mut self,
        now: Now,
        waiter: Waiter,
        mut command: Command,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let refused = |range: &Range, host: &mut Host| {
            range.refuses_now(&host.storage.rows(self.id), &command.body)
        };
        if planted!(ConditionOutsideLog)
            && let Some(no) = self.machine.range().and_then(|range| refused(range, host))
        {
            return waiter.answer(self.id, Ok(Answer::Applied(Outcome::Rejected(no))), host, fx);
        }
        if let (Some((session, sequence)), Some(range)) =
            (session_name(&command), self.machine.range())
            && let Some(outcome) = range.outcome_of(session, sequence)
            && !planted!(RetryAppliedAgain)
        {
            probe!(OutcomeKnown);
            let answer = Answer::Applied(outcome.clone());
            return waiter.answer(self.id, Ok(answer), host, fx);
        }
        if host.room() < room_wanted(&command) {
            let refusal = self.why_no_room(now, host);
            return waiter.answer(self.id, Err(refusal), host, fx);
        }
        let bytes = self.commands.queue_bytes() + weight(&command);
        let full = bytes > host.config.limits.call_bytes_max && self.commands.queue_bytes() > 0;
        if full || buggify!(CommandRefused, hot) {
            return waiter.answer(self.id, Err(Refusal::Overloaded), host, fx);
        }
        let level = self.machine.range().and_then(Range::level).unwrap_or(level::FIRST);
        if !level::allows(level, command.body.gate()) {
            // Whoever sends it knows that the cluster has reached its level: this replica has not applied that
            // yet. If it is not so, it would be wrong to say that the command was never proposed elsewhere.
            return waiter.answer(self.id, Err(Refusal::Overloaded), host, fx);
        }
        if let CommandBody::RaiseLevel { to, spoken } = &mut command.body {
            match self.speakers(*to, host) {
                Some(speakers) => *spoken = speakers,
                None => return waiter.answer(self.id, Err(Refusal::Overloaded), host, fx),
            }
        }
        self.commands.queue(command, waiter);
    }

    /// The stores that have said that they speak a level. `None` while one that does not still votes though it was
    /// replaced: apply, which holds them against the map, would not miss it.
    fn speakers(&self, level: Level, host: &Host) -> Option<Spoken> {
        let fills_a_slot = |store| host.map().stores().any(|(_, other)| other == store);
        if planted!(LevelRaisedUnasked) {
            return Some(Spoken(host.map().stores().map(|(_, store)| store).collect()));
        }
        let own = Some(host.config.store).filter(|_| host.config.levels.contains(level));
        let spoken: Vec<StoreId> = host.peers.speakers(level).chain(own).collect();
        let heard = |member: StoreId| spoken.contains(&member) || fills_a_slot(member);
        self.members().all(heard).then_some(Spoken(spoken))
    }

    /// How a command is refused that finds no room. If another voter has room it is to lead, and the
    /// command to come again.
    fn why_no_room(&self, now: Now, host: &Host) -> Refusal {
        if host.storage.room() == Room::Data {
            // The journal is full, and is given back as rows are written out.
            return Refusal::Overloaded;
        }
        match self.successor_with_room(now, host) {
            Some(_) => Refusal::Overloaded,
            None => Refusal::Full,
        }
    }

    /// Propose what waits, as far as the pipeline has room.
    pub(super) fn propose_queued(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        if !self.leads() {
            return Ok(());
        }
        if host.room() < Room::Data {
            // There was room when they came.
            let refusal = self.why_no_room(now, host);
            self.commands.refuse_what_has_no_room(self.id, &refusal, host, fx);
        }
        while let Some((batch, waiters)) = self.commands.next_batch(host.agreed_clock(now)) {
            let mut out = Output::default();
            match self.raft.propose(now.instant, vec![batch.to_bytes()], &mut out) {
                Ok(index) => {
                    self.commands.was_proposed(index, self.raft.term(), batch, waiters);
                    self.carry_out(now, out, host, fx)?;
                }
                Err(ProposeError::Overloaded) => {
                    self.commands.put_back(batch, waiters);
                    break;
                }
                Err(ProposeError::NotLeader(leader)) => {
                    self.commands.put_back(batch, waiters);
                    self.commands.lose_leadership(self.id, leader, host, fx);
                    break;
                }
            }
        }
        Ok(())
    }
}
